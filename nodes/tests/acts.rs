//! Acts of players through the client protocol: crafting, gifts, trades, chat, battles' ends, and clients who claim what they
//! did not do, flood, forge numbers or withdraw at the last moment.

// What a test makes itself may be unwrapped; clippy's exception for tests covers test functions only.
#![allow(clippy::unwrap_used)]

mod acts {
    pub(crate) mod hand;
}

use std::time::Duration;

use acts::hand::{Hand, Village, code, some, wares};
use estate::goods::Goods;
use mesh::CallError;
use nodes::methods::living::{
    FIGHTER_FREED, FIGHTER_TAKE, FIGHTER_TOLD, Fighter, FighterFreed, FighterTake, FighterTold, Freed,
};
use nodes::methods::{pack, unpack};
use nodes::protocol::{Act, Command, Outcome, ServerMessage, Wares, codes};
use tokio::time::timeout;

const DONE: Outcome = Outcome::Ok { motion: None };

/// How long an absence is watched for, where nothing else can show it.
const SILENCE: Duration = Duration::from_millis(300);

fn craft(recipe: &str) -> Act {
    Act::Craft { recipe: recipe.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_makes_one_tool_however_often_it_is_asked_for() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    let first = ann.bag(|_| true).await;
    assert_eq!(first, Wares::default(), "the bag comes with the welcome");
    village.give(&ann, some("wood", 20)).await;
    village.give(&ann, some("stone", 20)).await;
    ann.bag(|wares| wares.stacks.len() == 2).await;

    let number = ann.next_number();
    assert_eq!(ann.act_as(number, craft("axe")).await, DONE);
    for _ in 0..3 {
        assert_eq!(ann.act_as(number, craft("axe")).await, DONE);
    }
    let other = ann.act_as(number, craft("roast")).await;
    assert_eq!(code(&other), codes::STALE, "another act under the same number");
    let bag = ann.bag(|wares| !wares.uniques.is_empty()).await;
    assert_eq!(bag.uniques.iter().map(|(_, item)| item.as_str()).collect::<Vec<_>>(), ["axe"]);
    let document = village.document(&ann).await;
    assert_eq!(document.bag.uniques.len(), 1);
    assert!(document.floor <= number, "it may be asked for again");
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_numbers_unknown_names_and_goods_one_does_not_have_are_refused_and_change_nothing() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    let bob = village.enter("bob", "frontend-2").await;
    village.give(&ann, some("wood", 3)).await;
    ann.bag(|wares| !wares.stacks.is_empty()).await;
    let first = ann.welcome.first_operation;
    for (number, what) in [(first + (1 << 20), "of the next claim"), ((1 << 53) - 1, "of no claim")] {
        assert_eq!(code(&ann.act_as(number, craft("axe")).await), codes::STALE, "{what}");
    }
    let much = wares(&[("wood", 4)]);
    let none = Wares { uniques: vec![(format!("{:032x}-0", 7), "axe".to_owned())], ..Wares::default() };
    let gift = |wares: &Wares| Act::Gift { player: bob.player(), wares: wares.clone() };
    for (act, expected) in [
        (craft("crown"), codes::UNKNOWN_NAME),
        (craft("axe"), "too_little"),
        (Act::Eat { item: "wood".to_owned() }, codes::UNKNOWN_NAME),
        (Act::Eat { item: "berry".to_owned() }, "too_little"),
        (gift(&much), "too_little"),
        (gift(&none), "too_little"),
        (gift(&wares(&[("crown", 1)])), codes::UNKNOWN_NAME),
        (gift(&wares(&[("wood", 0)])), codes::MALFORMED),
        (gift(&Wares::default()), codes::MALFORMED),
        (Act::Gift { player: 12345, wares: wares(&[("wood", 1)]) }, codes::MISSING),
        (Act::Gather { x: 0, y: 0 }, codes::TOO_FAR),
        (Act::Build { facility: "palace".to_owned(), x: 0, y: 0, turned: 0 }, codes::UNKNOWN_NAME),
        (Act::Demolish { object: 77 }, codes::MISSING),
        (Act::Put { object: 77, wares: wares(&[("wood", 1)]) }, codes::MISSING),
        (Act::Attack { target: bob.player() }, codes::MISSING),
        (Act::Join { battle: 77 }, codes::MISSING),
        (Act::Blow { blow: 0, target: 77 }, codes::NO_BATTLE),
        (Act::Blow { blow: 9, target: 77 }, codes::MALFORMED),
        (Act::Flee {}, codes::NO_BATTLE),
        (Act::Trade { player: ann.player() }, codes::FORBIDDEN),
        (Act::Consent { trade: 77, round: 1 }, codes::MISSING),
        (Act::Withdraw { trade: 77 }, codes::MISSING),
        (Act::Chat { channel: 3, text: "hey".to_owned() }, codes::MALFORMED),
        (Act::Chat { channel: 0, text: String::new() }, codes::MALFORMED),
        (Act::Chat { channel: 0, text: "a\nb".to_owned() }, codes::MALFORMED),
        (Act::Chat { channel: 1, text: "hey".to_owned() }, codes::PARTY),
    ] {
        let name = format!("{act:?}");
        let outcome = ann.act(act).await;
        assert_eq!(code(&outcome), expected, "{name}: {outcome:?}");
    }
    assert_eq!(village.held(&ann, "wood").await, 3);
    let counted = |outcome: &str| {
        let node = village.node("frontend-1");
        node.metrics.acts.with_label_values(&["gift", outcome]).get()
    };
    assert_eq!((counted("done"), counted("refused")), (0, 6));
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_reaches_whoever_is_at_home_at_once_and_both_are_told() {
    let village = Village::start().await;
    let (mut ann, mut bob) = (village.enter("ann", "frontend-1").await, village.enter("bob", "frontend-2").await);
    village.give(&ann, some("berry", 9)).await;
    ann.bag(|wares| !wares.stacks.is_empty()).await;
    let gift = Act::Gift { player: bob.player(), wares: wares(&[("berry", 4)]) };
    let number = ann.next_number();
    assert_eq!(ann.act_as(number, gift.clone()).await, DONE);
    assert_eq!(ann.act_as(number, gift).await, DONE);
    let (text, amount) = bob.note("gift").await;
    assert!(text.starts_with("4 berry") && amount == 4, "{text}");
    assert_eq!(bob.bag(|wares| !wares.stacks.is_empty()).await, wares(&[("berry", 4)]));
    assert_eq!(ann.bag(|bag| *bag == wares(&[("berry", 5)])).await, wares(&[("berry", 5)]));
    // A number of the session before may still be asked for, and it is known to have happened.
    let mut ann = village.come_again(ann, "frontend-2").await;
    let again = Act::Gift { player: bob.player(), wares: wares(&[("berry", 4)]) };
    assert_eq!(ann.act_as(number, again).await, DONE);
    assert_eq!((village.held(&ann, "berry").await, village.held(&bob, "berry").await), (5, 4));
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trade_between_two_frontends_swaps_once_and_a_withdrawn_one_never() {
    let village = Village::start().await;
    let (mut ann, mut bob) = (village.enter("ann", "frontend-1").await, village.enter("bob", "frontend-2").await);
    village.give(&ann, some("wood", 9)).await;
    village.give(&bob, some("stone", 5)).await;
    ann.bag(|wares| !wares.stacks.is_empty()).await;
    bob.bag(|wares| !wares.stacks.is_empty()).await;
    village.gather(&[&ann, &bob]).await;

    let Outcome::Made { number: trade } = ann.act(Act::Trade { player: bob.player() }).await else {
        panic!("no trade")
    };
    assert_eq!(bob.note("trade").await.1, trade, "the number invites");
    let offer = |wares: Wares| Act::Offer { trade, wares };
    assert_eq!(code(&ann.act(offer(wares(&[("wood", 10)]))).await), "too_little");
    assert_eq!(ann.act(offer(wares(&[("wood", 3)]))).await, DONE);
    assert_eq!(bob.act(offer(wares(&[("stone", 2)]))).await, DONE);
    let seen = bob.trade(|trade| trade.round == 2).await;
    assert_eq!((seen.mine.wares, seen.theirs.wares), (wares(&[("stone", 2)]), wares(&[("wood", 3)])));
    assert_eq!((seen.other, seen.name.as_str()), (ann.player(), "ann"));
    assert_eq!(code(&ann.act(Act::Consent { trade, round: 1 }).await), "changed");
    assert_eq!(ann.act(Act::Consent { trade, round: 2 }).await, DONE);
    bob.trade(|trade| trade.theirs.consents).await;
    let number = bob.next_number();
    for _ in 0..2 {
        assert_eq!(bob.act_as(number, Act::Consent { trade, round: 2 }).await, DONE);
    }
    assert_eq!(ann.trade(|trade| trade.state != 0).await.state, 1);
    assert_eq!((village.held(&ann, "wood").await, village.held(&ann, "stone").await), (6, 2));
    assert_eq!((village.held(&bob, "wood").await, village.held(&bob, "stone").await), (3, 3));
    assert_eq!(code(&bob.act(Act::Withdraw { trade }).await), "done");

    // Withdrawn when the other has consented already; and what is on the table need not be there any more.
    let Outcome::Made { number: trade } = bob.act(Act::Trade { player: ann.player() }).await else {
        panic!("no trade")
    };
    assert_eq!(ann.act(Act::Offer { trade, wares: wares(&[("wood", 6)]) }).await, DONE);
    assert_eq!(bob.act(Act::Consent { trade, round: 1 }).await, DONE);
    assert_eq!(ann.act(Act::Withdraw { trade }).await, DONE);
    assert_eq!(code(&ann.act(Act::Consent { trade, round: 1 }).await), "withdrawn");
    assert_eq!(bob.trade(|seen| seen.trade == trade && seen.state != 0).await.state, 2);
    assert_eq!(village.held(&ann, "wood").await, 6);

    // From afar nobody consents, and whoever travels leaves the table.
    let Outcome::Made { number: trade } = ann.act(Act::Trade { player: bob.player() }).await else {
        panic!("no trade")
    };
    assert_eq!(ann.act(Act::Offer { trade, wares: wares(&[("wood", 1)]) }).await, DONE);
    ann.trade(|seen| seen.trade == trade && seen.round == 1).await;
    village.send_away(&ann).await;
    assert_eq!(ann.trade(|seen| seen.trade == trade && seen.state != 0).await.state, 2);
    assert!(
        ["withdrawn", codes::TOO_FAR, codes::MISSING].contains(&code(&bob.act(Act::Consent { trade, round: 1 }).await))
    );
    assert_eq!(village.held(&ann, "wood").await, 6);
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_carries_to_other_frontends_not_beyond_its_reach_and_not_as_a_flood() {
    let village = Village::start().await;
    let (mut ann, mut bob) = (village.enter("ann", "frontend-1").await, village.enter("bob", "frontend-2").await);
    village.gather(&[&ann, &bob]).await;
    let say = |channel: u8, text: &str| Act::Chat { channel, text: text.to_owned() };
    let number = ann.next_number();
    for _ in 0..3 {
        assert_eq!(ann.act_as(number, say(0, "hello")).await, DONE);
    }
    let heard = |text: &str| {
        let text = text.to_owned();
        move |m: &ServerMessage| matches!(m, ServerMessage::Chat { text: t, .. } if *t == text).then_some(())
    };
    ann.until(heard("hello")).await;
    bob.until(heard("hello")).await;
    assert!(timeout(SILENCE, bob.until(heard("hello"))).await.is_err(), "one number is one word");

    village.send_away(&bob).await;
    assert_eq!(ann.act(say(0, "near")).await, DONE);
    assert_eq!(ann.act(say(2, "island")).await, DONE);
    bob.until(heard("island")).await;
    assert!(!bob.has_heard("near"), "too far to hear");
    let mut said = 3;
    for _ in 0..30 {
        said += u32::from(ann.act(say(2, "flood")).await == DONE);
    }
    assert!(said <= 6, "{said} words in a breath");
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fighter_does_nothing_else_and_one_who_was_defeated_wakes_at_home() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    village.give(&ann, some("berry", 2)).await;
    ann.bag(|wares| !wares.stacks.is_empty()).await;
    // A room that no colosseum leads: the gateway plays its part.
    let (room, owner) = (&village.node("gateway-1").mesh, village.node("frontend-1").mesh.me().node.clone());
    let object = cartographer::geometry::ObjectId(ann.player());
    let take = |battle| pack(&FighterTake { battle, object });
    let taken = room.call(&owner, &FIGHTER_TAKE, take(5)).await.unwrap();
    let fighter: Fighter = unpack(&taken).unwrap();
    assert_eq!((fighter.name.as_str(), fighter.health, fighter.side), ("ann", 100, 0));
    room.call(&owner, &FIGHTER_TAKE, take(5)).await.expect("the same battle again");
    let other = room.call(&owner, &FIGHTER_TAKE, take(6)).await;
    let Err(CallError::Refused { refusal, .. }) = other else { panic!("{other:?}") };
    assert_eq!((refusal.code.as_str(), refusal.text.as_str()), (codes::IN_BATTLE, "5"));

    let at = (ann.welcome.motion.x, ann.welcome.motion.y);
    let walk = ann.command(Command::Walk { from: at, to: (at.0 + 256, at.1), speed: 512 }).await;
    assert_eq!(code(&walk), codes::IN_BATTLE);
    assert_eq!(code(&ann.act(Act::Eat { item: "berry".to_owned() }).await), codes::IN_BATTLE);
    assert_eq!(code(&ann.act(Act::Claim {}).await), codes::IN_BATTLE);
    room.send(&owner, &FIGHTER_TOLD, pack(&FighterTold { battle: 5, object, health: 30 }));
    ann.health(|health| health == 30).await;
    let freed = |battle, health, how| pack(&FighterFreed { battle, object, health, how });
    room.call(&owner, &FIGHTER_FREED, freed(6, 1, Freed::Defeated)).await.expect("another battle is nothing to her");
    room.call(&owner, &FIGHTER_FREED, freed(5, 30, Freed::Won)).await.unwrap();
    let walk = ann.command(Command::Walk { from: at, to: (at.0 + 256, at.1), speed: 512 }).await;
    assert_ne!(code(&walk), codes::IN_BATTLE);

    // Food helps now, and so does time; then a battle that ends badly.
    assert_eq!(ann.act(Act::Eat { item: "berry".to_owned() }).await, DONE);
    ann.health(|health| health == 35).await;
    room.call(&owner, &FIGHTER_TAKE, take(7)).await.unwrap();
    room.call(&owner, &FIGHTER_FREED, freed(7, 0, Freed::Defeated)).await.unwrap();
    ann.note("defeated").await;
    ann.health(|health| health == 50).await;
    ann.health(|health| health == 55).await;
    let mut ann = village.come_again(ann, "frontend-2").await;
    assert!(ann.health(|_| true).await >= 55, "it is kept in the document");
    assert_eq!(village.held(&ann, "berry").await, 1);
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strokes_and_goods_of_a_garden_are_refused_before_it_is_asked() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    let tile = |units: i32| u16::try_from(units / 256).unwrap();
    let (x, y) = (tile(ann.welcome.motion.x), tile(ann.welcome.motion.y));
    ann.act(Act::Gather { x, y }).await;
    assert_eq!(code(&ann.act(Act::Gather { x, y }).await), codes::TOO_SOON);
    let far = u16::try_from(village.reach() + 2).unwrap();
    assert_eq!(code(&ann.act(Act::Gather { x: x + far, y }).await), codes::TOO_FAR);
    assert_eq!(
        code(&ann.act(Act::Build { facility: "box".to_owned(), x, y: y + far, turned: 0 }).await),
        codes::TOO_FAR
    );
    assert_eq!(code(&ann.act(Act::Build { facility: "box".to_owned(), x, y, turned: 4 }).await), codes::MALFORMED);
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_of_two_frontends_is_shown_to_all_its_members_and_outlives_its_leaders_session() {
    let village = Village::start().await;
    let (mut ann, mut bob) = (village.enter("ann", "frontend-1").await, village.enter("bob", "frontend-2").await);
    let (a, b) = (ann.player(), bob.player());
    assert_eq!(code(&ann.act(Act::Leave {}).await), codes::PARTY);
    assert_eq!(code(&ann.act(Act::Invite { player: a }).await), codes::FORBIDDEN);
    assert_eq!(code(&ann.act(Act::Invite { player: 77 }).await), codes::MISSING);
    let number = ann.next_number();
    let Outcome::Made { number: party } = ann.act_as(number, Act::Invite { player: b }).await else {
        panic!("no party")
    };
    assert_eq!(ann.act_as(number, Act::Invite { player: b }).await, Outcome::Made { number: party });
    assert_eq!(bob.note("invite").await.1, party);
    assert_eq!(code(&bob.act(Act::Enter { party: party + 1 }).await), codes::MISSING);
    assert_eq!(bob.act(Act::Enter { party }).await, DONE);
    let both = vec![(a, "ann".to_owned()), (b, "bob".to_owned())];
    for hand in [&mut ann, &mut bob] {
        assert_eq!(hand.party(|seen| seen.2.len() == 2).await, (party, a, both.clone()));
    }
    village.send_away(&bob).await;
    assert_eq!(ann.act(Act::Chat { channel: 1, text: "come".to_owned() }).await, DONE);
    bob.until(|m| matches!(m, ServerMessage::Chat { channel: 1, text, .. } if text == "come").then_some(())).await;
    assert_eq!(code(&bob.act(Act::Lead { player: b }).await), codes::FORBIDDEN);
    assert_eq!(ann.act(Act::Lead { player: b }).await, DONE);
    assert_eq!(ann.party(|seen| seen.1 == b).await.0, party);

    let mut bob = village.come_again(bob, "frontend-1").await;
    assert_eq!(bob.party(|_| true).await, (party, b, both));
    assert_eq!(code(&ann.act(Act::Dissolve {}).await), codes::FORBIDDEN);
    assert_eq!(bob.act(Act::Dissolve {}).await, DONE);
    for hand in [&mut ann, &mut bob] {
        hand.party(|seen| *seen == (0, 0, Vec::new())).await;
    }
    assert_eq!(code(&bob.act(Act::Chat { channel: 1, text: "come".to_owned() }).await), codes::PARTY);
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_animal_of_a_zoo_is_fought_in_a_colosseum_and_its_loot_reaches_the_bag() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    // A hare that gets away has not been defeated: then it is another one's turn.
    for _ in 0..20 {
        let (target, battle) = village.hunt(&mut ann, "hare").await;
        assert_ne!(battle, 0);
        assert_eq!(code(&ann.act(Act::Join { battle }).await), codes::IN_BATTLE);
        while code(&ann.act(Act::Blow { blow: 0, target }).await) != codes::NO_BATTLE {
            tokio::time::sleep(SILENCE).await;
        }
        if ann.told("loot") {
            break;
        }
    }
    let (text, amount) = ann.note("loot").await;
    assert!(amount > 0, "{text}");
    ann.bag(|bag| !bag.stacks.is_empty()).await;
    village.clean().await;
    village.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_garden_does_happens_once_and_is_shown() {
    let village = Village::start().await;
    let mut ann = village.enter("ann", "frontend-1").await;
    let (tile, yields, count) = village.beside_something(&mut ann).await;
    let gather = Act::Gather { x: tile.x, y: tile.y };
    let number = ann.next_number();
    for _ in 0..2 {
        assert_eq!(ann.act_as(number, gather.clone()).await, DONE);
    }
    assert_eq!(ann.bag(|bag| !bag.stacks.is_empty()).await, wares(&[(&yields, count)]));
    // In another session the same number is known to have happened, by the estate.
    let mut ann = village.come_again(ann, "frontend-2").await;
    assert_eq!(ann.act_as(number, gather).await, DONE);
    assert_eq!(village.held(&ann, &yields).await, count);

    village.give(&ann, some("wood", 40)).await;
    ann.bag(|bag| bag.stacks.iter().any(|(item, _)| item == "wood")).await;
    let made = village.build(&mut ann, "box").await;
    let put = Act::Put { object: made, wares: wares(&[("wood", 2)]) };
    let number = ann.next_number();
    for _ in 0..2 {
        assert_eq!(ann.act_as(number, put.clone()).await, DONE);
    }
    assert_eq!(ann.act(Act::Look { object: made }).await, DONE);
    assert_eq!(ann.store(made).await, wares(&[("wood", 2)]));
    assert_eq!(code(&ann.act(Act::Take { object: made, wares: wares(&[("wood", 3)]) }).await), "too_little");
    let before = village.held(&ann, "wood").await;
    assert_eq!(ann.act(Act::Take { object: made, wares: wares(&[("wood", 2)]) }).await, DONE);
    assert_eq!(village.held(&ann, "wood").await, before + 2);
    village.send_away(&ann).await;
    let far = code(&ann.act(Act::Look { object: made }).await).to_owned();
    assert!([codes::TOO_FAR, codes::MISSING].contains(&far.as_str()), "{far}");
    village.clean().await;
    village.leave().await;
}

/// What a player carries is the same in the document and on the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loot_that_comes_from_elsewhere_is_shown_at_once() {
    let village = Village::start().await;
    let mut ann: Hand = village.enter("ann", "frontend-1").await;
    for count in 1..=5 {
        village.give(&ann, some("hide", 1)).await;
        ann.bag(|bag| *bag == wares(&[("hide", count)])).await;
    }
    let document = village.document(&ann).await;
    assert_eq!(document.bag, Goods::stack("hide".parse().unwrap(), 5));
    village.leave().await;
}
