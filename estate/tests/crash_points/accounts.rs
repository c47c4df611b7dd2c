//! Making an account and its player: one account per name, one player per account, nothing left over.

use std::sync::Arc;

use estate::account::{self, AccountDocument, AccountError, find, register, settle};
use estate::player::{self, Birth, PlayerDocument};
use estate::schedules::{End, Scenario};
use estate::store::Store;

use super::{ensure, left, prove};

const BIRTH: Birth = Birth { hue: 10, island: 1, x: 0, y: 0 };
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA";

/// What one client asks for.
#[derive(Clone, Copy, Debug)]
struct Ask {
    name: &'static str,
    token: u64,
    /// The ids it draws are the next ones.
    ids: u64,
}

type Told = (Ask, Result<u64, AccountError>);

fn draws(mut ids: u64) -> impl FnMut() -> u64 {
    move || {
        ids += 1;
        ids
    }
}

async fn ask(store: Arc<dyn Store>, ask: Ask) -> Told {
    let made = register(&*store, ask.name, HASH, ask.token, &BIRTH, draws(ask.ids)).await;
    (ask, made.map(|kept| kept.document.player))
}

/// Every holder of a name signs in, which finishes what a registration left.
async fn sign_in(store: Arc<dyn Store>, asks: &'static [Ask]) -> Result<(), String> {
    for (place, ask) in asks.iter().enumerate() {
        let Some(account) = find(&*store, ask.name).await.map_err(|error| error.to_string())? else { continue };
        let ids = 900 + 10 * place as u64;
        settle(&*store, account, &BIRTH, draws(ids)).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn registering(name: &str, asks: &'static [Ask]) -> Scenario<Told> {
    let scenario = Scenario::new(name).recover(move |store| sign_in(store, asks)).check(move |end| check(end, asks));
    asks.iter().fold(scenario, |scenario, one| scenario.driver(move |store| ask(store, *one)))
}

fn check(end: &End<Told>, asks: &[Ask]) -> Result<(), String> {
    let mut expected = Vec::new();
    for ask in asks {
        let key = account::key(ask.name);
        let Some(account) = left::<AccountDocument>(&end.documents, &key)? else { continue };
        let player_key = player::key(account.player);
        let player: PlayerDocument =
            left(&end.documents, &player_key)?.ok_or_else(|| format!("{key} has no player {player_key}"))?;
        ensure(player.account == account::lower(ask.name), || format!("{key} names the player of {}", player.account))?;
        expected.extend([key, player_key]);
    }
    expected.sort();
    expected.dedup();
    ensure(end.documents.keys().eq(&expected), || format!("{:?}, not {expected:?}", end.documents.keys()))?;
    for (ask, told) in end.told() {
        let account = left::<AccountDocument>(&end.documents, &account::key(ask.name))?;
        let mine = account.as_ref().is_some_and(|account| account.token == ask.token);
        let fits = match told {
            Ok(player) => mine && account.is_some_and(|account| account.player == *player),
            Err(AccountError::Taken) => account.is_some() && !mine,
            Err(_) => end.faults > 0,
        };
        ensure(fits, || format!("{ask:?} was told {told:?}"))?;
    }
    Ok(())
}

#[test]
fn a_registration_asked_for_twice_at_once_makes_one_account_and_one_player() {
    const ASKS: &[Ask] = &[Ask { name: "Ann", token: 1, ids: 100 }, Ask { name: "Ann", token: 1, ids: 200 }];
    prove(&registering("the same registration twice", ASKS));
}

#[test]
fn of_two_who_want_a_name_one_gets_it_and_the_other_leaves_nothing() {
    const ASKS: &[Ask] = &[Ask { name: "Ann", token: 1, ids: 100 }, Ask { name: "ANN", token: 2, ids: 200 }];
    prove(&registering("two want a name", ASKS));
}

#[test]
fn two_accounts_that_draw_the_same_player_ids_get_a_player_each() {
    const ASKS: &[Ask] = &[Ask { name: "Ann", token: 1, ids: 100 }, Ask { name: "Bob", token: 2, ids: 100 }];
    prove(&registering("two accounts draw the same ids", ASKS));
}

#[test]
fn a_registration_asked_for_twice_while_its_id_is_taken_leaves_no_orphan() {
    const ASKS: &[Ask] = &[
        Ask { name: "Ann", token: 1, ids: 100 },
        Ask { name: "Ann", token: 1, ids: 200 },
        Ask { name: "Bob", token: 2, ids: 100 },
    ];
    prove(&registering("one registration twice, its id taken", ASKS));
}
