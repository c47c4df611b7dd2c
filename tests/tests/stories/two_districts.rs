//! Sailing from one district to another and back: a redirect with a passage, and what may go wrong on the way.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use cartographer::geometry::ObjectId;
use estate::store::memory::Rates;
use estate::store::{Store, WriteOptions};
use mesh::Role;
use nodes::protocol::{Act, codes};
use tests::village::seen::PartyShown;
use tests::village::{Land, Person, Plan, Reply, Village, story};
use tokio::time::sleep;

/// The island of the first district, and that of the other.
const SOUTH: u32 = 1;
const NORTH: u32 = 2;

/// Where ships land.
const SOUTHERN: (u16, u16) = (3, 30);
const NORTHERN: (u16, u16) = (60, 20);

/// What somebody has who sails.
const WOOD: u64 = 7;
const EXPERIENCE: u64 = 42;
const HEALTH: u8 = 60;

/// Between two looks at all frontends.
const LOOK: Duration = Duration::from_millis(20);

fn plan() -> Plan {
    let south = Land::meadow(SOUTH, "south", 64, 64).harbour(SOUTHERN.0, SOUTHERN.1);
    let north = Land::meadow(NORTH, "north", 64, 64).harbour(NORTHERN.0, NORTHERN.1);
    // Who is wounded stays so.
    let plan = Plan::new([south]).changing(|content| content.tuning.heal_per_minute = 0);
    plan.beside("north", &[(Role::Frontend, 2), (Role::Garden, 1), (Role::Zoo, 1)], [north])
}

/// Somebody at the southern harbour with goods, experience and wounds.
async fn traveller(village: &mut Village, name: &str) -> Person {
    let mut person = somebody(village, name, HEALTH).await;
    person.arrives("frontend-1").await;
    village.gives(&mut person, "wood", WOOD).await;
    village.gives(&mut person, "axe", 1).await;
    has_all(village, &mut person).await;
    person
}

/// Somebody with experience who is so well and stands at the southern harbour, not in the game yet.
async fn somebody(village: &mut Village, name: &str, health: u8) -> Person {
    let person = village.person(name, SOUTH, SOUTHERN.0, SOUTHERN.1 + 1).await;
    let (key, store) = (format!("player/{}", person.player), village.store.client());
    let stored = store.get(&key).await.expect("the store answers").expect("born");
    let mut document = village.document(&key).expect("born");
    (document["experience"], document["health"]) = (EXPERIENCE.into(), health.into());
    let changed = serde_json::to_vec(&document).expect("a document").into();
    store.replace(&key, changed, stored.version, WriteOptions::default()).await.expect("the store answers");
    person
}

/// All that the traveller had is there: told, and in the document.
async fn has_all(village: &Village, person: &mut Person) {
    let had = |wood, axes, experience, health| (wood, axes, experience, health) == (WOOD, 1, EXPERIENCE, HEALTH);
    person
        .waits_until("all that is theirs", |seen| {
            had(seen.carries("wood"), seen.carries("axe"), seen.experience, seen.health)
        })
        .await;
    let carried = |item: &str| village.carried(person.player, item);
    assert_eq!((carried("wood"), carried("axe")), (WOOD, 1));
    assert_eq!((village.holds("wood"), village.holds("axe")), (WOOD, 1), "nothing was made or lost");
}

/// Stands on this island, at its harbour.
async fn stands_at(person: &mut Person, island: u32, harbour: (u16, u16)) {
    person.waits_until("the island", |seen| seen.island() == island).await;
    let (x, y) = person.seen.tile();
    let far = (x - i32::from(harbour.0)).abs().max((y - i32::from(harbour.1)).abs());
    assert!(far <= 1, "{} stands at ({x}, {y}), not at the harbour", person.name);
}

/// Which frontends have a player as their own, and by which claim.
async fn live(village: &Village, player: u64) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for name in village.running(Role::Frontend) {
        let epoch = village.looks_at(&name, move |world| world.get(ObjectId(player)).map(|real| real.epoch().0)).await;
        found.extend(epoch.map(|epoch| (name, epoch)));
    }
    found
}

/// Does something while all frontends are looked at again and again: a player is live on one at most, and claims only rise.
///
/// Frontends are looked at one after the other, so one round proves nothing: but who is found somewhere by the same claim
/// before and after it was found elsewhere was at both at once.
async fn watched<T>(village: &Village, player: u64, happens: impl Future<Output = T>) -> T {
    let mut happens = pin!(happens);
    let (mut before, mut newest) = (BTreeMap::new(), 0);
    loop {
        let looked = async {
            let now = live(village, player).await;
            sleep(LOOK).await;
            now
        };
        // The look is ended before what happens goes on being waited for: no half round is judged.
        let now = tokio::select! {
            biased;
            done = &mut happens => return done,
            now = looked => now,
        };
        let stayed: Vec<_> = before.iter().filter(|(name, epoch)| now.get(*name) == Some(*epoch)).collect();
        assert!(stayed.is_empty() || before.len() == 1, "live on several nodes: {before:?}, then {now:?}");
        let epoch = now.values().copied().max().unwrap_or(newest);
        assert!(epoch >= newest, "an older claim came back: {before:?}, then {now:?}");
        (before, newest) = (now, epoch);
    }
}

/// Asks for a ship; where one is sent, and with which passage.
async fn is_sent(person: &mut Person, island: u32) -> (String, String) {
    person.begins(Act::Sail { island });
    let (url, token) = person.waits_for("a redirect", |seen| seen.redirect.clone()).await;
    (url.rsplit('/').next().unwrap_or_default().to_owned(), token)
}

fn other(frontend: &str) -> &'static str {
    match frontend {
        "north-frontend-1" => "north-frontend-2",
        "north-frontend-2" => "north-frontend-1",
        "frontend-1" => "frontend-2",
        _ => "frontend-1",
    }
}

async fn is_not_let_in(person: &mut Person, frontend: &str, token: &str, code: &str) {
    let refused = person.shows(frontend, token).await.expect_err("this passage is good for nothing");
    assert!(refused.starts_with(&format!("{code}:")), "{frontend} says {refused}");
}

#[test]
fn who_sails_to_another_district_and_back_keeps_everything_and_a_passage_is_good_once_and_there() {
    story(plan(), async |village| {
        let mut ann = traveller(village, "Ann").await;
        let mut bob = village.person("Bob", SOUTH, SOUTHERN.0 + 1, SOUTHERN.1).await;
        bob.arrives("frontend-2").await;
        let party = ann.does(Act::Invite { player: bob.player }).await;
        bob.waits_until("an invitation", |seen| seen.noted("invite")).await;
        bob.does(Act::Enter { party }).await;
        let both = PartyShown { party, leader: ann.player, members: [ann.player, bob.player].into() };
        ann.waits_until("the party", |seen| seen.party() == both).await;

        // Out. Of the passages that she shows only the right one at the right frontend is any good.
        let player = ann.player;
        let (there, token) = watched(village, player, is_sent(&mut ann, NORTH)).await;
        assert!(there.starts_with("north-"), "sent to {there}");
        is_not_let_in(&mut ann, other(&there), &token, codes::TICKET_FORGED).await;
        is_not_let_in(&mut ann, "frontend-1", &token, codes::TICKET_FORGED).await;
        let end = if token.ends_with('0') { "1" } else { "0" };
        let forged = format!("{}{end}", &token[..token.len() - 1]);
        is_not_let_in(&mut ann, &there, &forged, codes::TICKET_EXPIRED).await;
        is_not_let_in(&mut ann, &there, &token[..token.len() - 1], codes::TICKET_FORGED).await;
        assert!(live(village, player).await.is_empty(), "she is at sea");
        watched(village, player, ann.follows()).await;
        stands_at(&mut ann, NORTH, NORTHERN).await;
        has_all(village, &mut ann).await;
        ann.waits_until("her party", |seen| seen.party() == both).await;
        bob.waits_until("her leaving", |seen| seen.thing(player).is_none()).await;
        assert_eq!(bob.seen.party(), both);
        let shown = village.documents("passage/");
        assert!(shown.len() == 1 && !shown[0].contains(&token[1..]), "{shown:?}");

        // She lives there, and whoever shows her passage again does not disturb her.
        let mut eve = village.person("Eve", SOUTH, 30, 30).await;
        is_not_let_in(&mut eve, &there, &token, codes::TICKET_USED).await;
        is_not_let_in(&mut eve, other(&there), &token, codes::TICKET_USED).await;
        ann.walks_to(NORTHERN.0 - 3, NORTHERN.1).await;
        assert_eq!(live(village, player).await.into_keys().collect::<Vec<_>>(), [there]);

        // And back.
        let (home, token) = watched(village, player, is_sent(&mut ann, SOUTH)).await;
        assert!(home.starts_with("frontend-"), "sent to {home}");
        watched(village, player, ann.follows()).await;
        stands_at(&mut ann, SOUTH, SOUTHERN).await;
        has_all(village, &mut ann).await;
        ann.waits_until("her party", |seen| seen.party() == both).await;
        bob.sees_person(player).await;
        is_not_let_in(&mut eve, &home, &token, codes::TICKET_USED).await;
        ann.does(Act::Dissolve {}).await;
        bob.waits_until("no party", |seen| seen.party().party == 0).await;
    });
}

#[test]
fn who_loses_the_redirect_comes_back_by_a_new_session_and_has_lost_nothing() {
    story(plan(), async |village| {
        let mut ann = traveller(village, "Ann").await;
        let player = ann.player;
        let key = format!("player/{player}");
        let free = |village: &Village| village.document(&key).is_some_and(|it| it["owner"].is_null());

        // Her connection is cut before anything comes of it.
        ann.begins(Act::Sail { island: NORTH });
        ann.vanishes();
        village.until("a passage for nobody", || village.documents("passage/").len() == 1 && free(village)).await;
        watched(village, player, ann.arrives("frontend-2")).await;
        stands_at(&mut ann, SOUTH, SOUTHERN).await;
        has_all(village, &mut ann).await;

        // She is sent, comes back all the same, and shows her passage when she is at home again: that brings nothing.
        let (there, token) = is_sent(&mut ann, NORTH).await;
        watched(village, player, ann.arrives("frontend-1")).await;
        let mut copy = village.person("Copy", SOUTH, 30, 30).await;
        let refused = watched(village, player, copy.shows(&there, &token)).await;
        assert!(refused.is_err(), "she is at home");
        assert_eq!(live(village, player).await.into_keys().collect::<Vec<_>>(), ["frontend-1"]);
        stands_at(&mut ann, SOUTH, SOUTHERN).await;
        has_all(village, &mut ann).await;

        // A passage that waits too long is none. Then she comes in wherever she likes: there she is on an island of its own.
        let (there, token) = is_sent(&mut ann, NORTH).await;
        village.passes(nodes::passage::PASSAGE_TTL + Duration::from_secs(1)).await;
        is_not_let_in(&mut ann, &there, &token, codes::TICKET_EXPIRED).await;
        watched(village, player, ann.arrives(&there)).await;
        ann.waits_until("land of that district", |seen| seen.island() == NORTH).await;
        has_all(village, &mut ann).await;
    });
}

#[test]
fn nobody_is_sent_before_all_is_saved_or_when_nobody_is_there() {
    story(plan(), async |village| {
        let mut ann = traveller(village, "Ann").await;
        let key = format!("player/{}", ann.player);
        village.store_is(Rates {
            delay: Duration::from_millis(300),
            deadline: Duration::from_secs(5),
            ..Rates::default()
        });
        for (island, harbour) in [(NORTH, NORTHERN), (SOUTH, SOUTHERN), (NORTH, NORTHERN), (SOUTH, SOUTHERN)] {
            is_sent(&mut ann, island).await;
            let document = village.document(&key).expect("her document");
            assert!(document["owner"].is_null(), "she was sent to {island} and is still held: {document}");
            ann.follows().await;
            stands_at(&mut ann, island, harbour).await;
            has_all(village, &mut ann).await;
        }
        village.store_is_well();

        // The frontend to which one would be sent is not there: one stays.
        for frontend in ["north-frontend-1", "north-frontend-2"] {
            village.kill(frontend);
        }
        village.passes(Duration::from_secs(10)).await;
        let (_, reply) = ann.act(Act::Sail { island: NORTH }).await;
        assert_eq!(reply.code(), codes::UNAVAILABLE, "{reply:?}");
        assert_ne!(reply, Reply::Lost);
        stands_at(&mut ann, SOUTH, SOUTHERN).await;
        has_all(village, &mut ann).await;
    });
}

#[test]
fn nobody_sails_who_is_defeated() {
    story(plan(), async |village| {
        let mut ann = somebody(village, "Ann", 0).await;
        ann.arrives("frontend-1").await;
        ann.waits_until("her state", |seen| seen.bags > 0 && seen.health == 0).await;
        assert_eq!(ann.is_refused(Act::Sail { island: NORTH }).await, codes::DEFEATED);
        stands_at(&mut ann, SOUTH, SOUTHERN).await;
        assert!(ann.seen.redirect.is_none() && village.documents("passage/").is_empty());
    });
}
