//! An unstable island sinks under twenty people, or under its stewards' hands, and nobody loses a thing.

use std::time::Duration;

use estate::store::memory::Rates;
use futures_util::future::join_all;
use mesh::Role;
use nodes::game::kind;
use nodes::protocol::{Act, Wares};
use nodes::steward::WorldRules;
use tests::village::seen::count;
use tests::village::{Land, Person, Plan, Village, story};

/// People who go there.
const PEOPLE: u16 = 20;

/// Of them, those who build a box there; the first of them is not at home when the island sinks.
const BUILDERS: usize = 5;

/// What everybody has in the bag, and what builders put into their boxes.
const WOOD: u64 = 12;
const STORED: u64 = 5;

/// How long the island lives.
const LIFE: Duration = Duration::from_secs(150);

/// Where everybody lives.
const HOME: u32 = 1;

fn wood(count: u64) -> Wares {
    Wares { stacks: vec![("wood".to_owned(), count)], uniques: Vec::new() }
}

#[test]
fn an_island_sinks_under_twenty_people_and_nobody_loses_a_thing() {
    let home = Land::meadow(HOME, "home", 64, 64).harbour(3, 30);
    let rock = Land::meadow(2, "rock", 64, 64).unstable().harbour(3, 30).natural("pine", 40, 40);
    let rules = WorldRules {
        life: LIFE,
        warning: Duration::from_secs(40),
        patience: Duration::from_secs(30),
        islands_least: 1,
        islands_most: 1,
        ..WorldRules::default()
    };
    story(Plan::new([home, rock]).looked_after(rules), async |village| {
        let mut people: Vec<Person> = Vec::new();
        for i in 0..PEOPLE {
            let mut person = village.person(&format!("P{i}"), HOME, 3 + i % 4, 28 + i / 4).await;
            person.arrives(if i % 2 == 0 { "frontend-1" } else { "frontend-2" }).await;
            village.gives(&mut person, "wood", WOOD).await;
            people.push(person);
        }
        let cost = village.content.facilities["box"].takes["wood"];
        let island = village.new_island().await;
        join_all(people.iter_mut().map(async |person| {
            person.waits_until("the wood", |seen| seen.carries("wood") == WOOD).await;
            person.does(Act::Sail { island }).await;
            person.waits_until("the other island", |seen| seen.island() == island).await;
        }))
        .await;

        // Some build a box there and put a part of what they have into it.
        let mut boxes = Vec::new();
        for builder in people.iter_mut().take(BUILDERS) {
            let object = builder.builds("box").await;
            builder.sees(kind::FACILITY, "box", |it| it.id == object).await;
            builder.does(Act::Put { object, wares: wood(STORED) }).await;
            assert_eq!(count(&builder.looks_into(object).await, "wood"), STORED);
            boxes.push(object);
        }
        let all = village.holds("wood");
        assert_eq!(all, u64::from(PEOPLE) * WOOD - BUILDERS as u64 * cost);
        people[0].goes_offline().await;

        // Everybody is warned, and then everybody is at home.
        for person in people.iter_mut().skip(1) {
            person.waits_long(LIFE, "a warning", |seen| seen.noted("island_sinks").then_some(())).await;
        }
        for person in people.iter_mut().skip(1) {
            person.waits_long(LIFE, "home", |seen| (seen.island() == HOME).then_some(())).await;
            person.waits_until("to be told so", |seen| seen.noted("brought_home")).await;
        }
        village.is_gone(island).await;
        people[0].arrives("frontend-2").await;
        people[0].waits_until("home", |seen| seen.island() == HOME).await;

        // Bags are as they were, and what was in the boxes has come after their builders.
        for (i, person) in people.iter_mut().enumerate() {
            let expected = if i < BUILDERS { WOOD - cost } else { WOOD };
            person.waits_until("all that is theirs", |seen| seen.carries("wood") == expected).await;
            assert_eq!(village.carried(person.player, "wood"), expected);
        }
        assert_eq!(village.holds("wood"), all);
        for object in boxes {
            let left = village.document(&format!("box/{object}"));
            assert!(left.as_ref().is_none_or(|it| it["goods"]["stacks"]["wood"].is_null()), "{left:?}");
        }
        // Home is a place where one can go on living.
        people[0].walks_to(20, 40).await;
    });
}

/// Those of these boxes in which there is wood.
fn filled(village: &Village, boxes: &[u64]) -> usize {
    let holds = |object: &&u64| {
        let left = village.document(&format!("box/{object}"));
        left.is_some_and(|it| !it["goods"]["stacks"]["wood"].is_null())
    };
    boxes.iter().filter(holds).count()
}

#[test]
fn a_house_on_a_sinking_island_whose_stewards_are_killed_half_way_through_clearing_comes_home_once() {
    let home = Land::meadow(HOME, "home", 64, 64).harbour(3, 30);
    let rock = Land::meadow(2, "rock", 64, 64).unstable().harbour(3, 30);
    let rules = WorldRules {
        life: LIFE,
        warning: Duration::from_secs(40),
        patience: Duration::from_secs(30),
        islands_least: 1,
        islands_most: 1,
        ..WorldRules::default()
    };
    story(Plan::new([home, rock]).looked_after(rules), async |village| {
        let cost = village.content.facilities["box"].takes["wood"];
        let island = village.new_island().await;
        let (mut people, mut boxes) = (Vec::new(), Vec::new());
        for i in 0..BUILDERS as u16 {
            let mut person = village.person(&format!("P{i}"), HOME, 3, 28 + i).await;
            person.arrives("frontend-1").await;
            let wood_of_all = 2 * (cost + STORED);
            village.gives(&mut person, "wood", wood_of_all).await;
            person.waits_until("the wood", |seen| seen.carries("wood") == wood_of_all).await;
            person.does(Act::Sail { island }).await;
            person.waits_until("the other island", |seen| seen.island() == island).await;
            for _ in 0..2 {
                let object = person.builds("box").await;
                person.sees(kind::FACILITY, "box", |it| it.id == object).await;
                person.does(Act::Put { object, wares: wood(STORED) }).await;
                boxes.push(object);
            }
            person.goes_offline().await;
            people.push(person);
        }
        let all = village.holds("wood");
        assert_eq!((all, filled(village, &boxes)), (boxes.len() as u64 * STORED, boxes.len()));

        // The store takes its time, so that a steward can be killed at any step. Two are.
        village.store_is(Rates { delay: Duration::from_millis(20), ..Rates::default() });
        for deaths in 1..=2 {
            let fewer = boxes.len() - 3 * deaths;
            let end = tokio::time::Instant::now() + 3 * LIFE;
            while filled(village, &boxes) > fewer {
                assert!(tokio::time::Instant::now() < end, "nobody clears the island: {:?}", village.islands().await);
                village.passes(Duration::from_millis(7)).await;
            }
            let left = filled(village, &boxes);
            assert!(left > 0, "death {deaths} comes too late: all boxes are empty");
            let steward = village.steward().await.expect("a steward");
            // Panics if it is one that was killed already.
            village.node(&steward);
            village.kill(&steward);
            assert_eq!(village.islands().await.len(), 1, "it is still sinking");
        }
        village.store_is_well();
        village.is_gone(island).await;
        assert_eq!((village.holds("wood"), filled(village, &boxes)), (all, 0));

        // What was in the boxes comes to those who built them, once.
        let frontend = village.running(Role::Frontend).pop().expect("a frontend");
        for person in &mut people {
            person.arrives(&frontend).await;
            person.waits_until("home", |seen| seen.island() == HOME).await;
            person.waits_until("what was in the boxes", |seen| seen.carries("wood") == 2 * STORED).await;
        }
        village.passes(Duration::from_secs(30)).await;
        for person in &mut people {
            assert_eq!(village.carried(person.player, "wood"), 2 * STORED);
        }
        assert_eq!(village.holds("wood"), all);
    });
}

#[test]
fn a_steward_that_freezes_half_way_through_clearing_and_thaws_later_does_nothing_twice() {
    let home = Land::meadow(HOME, "home", 64, 64).harbour(3, 30);
    let rock = Land::meadow(2, "rock", 64, 64).unstable().harbour(3, 30);
    let rules = WorldRules {
        life: LIFE,
        warning: Duration::from_secs(40),
        patience: Duration::from_secs(30),
        islands_least: 1,
        islands_most: 1,
        ..WorldRules::default()
    };
    story(Plan::new([home, rock]).looked_after(rules), async |village| {
        let cost = village.content.facilities["box"].takes["wood"];
        let island = village.new_island().await;
        let (mut people, mut boxes) = (Vec::new(), Vec::new());
        for i in 0..BUILDERS as u16 {
            let mut person = village.person(&format!("P{i}"), HOME, 3, 28 + i).await;
            person.arrives("frontend-1").await;
            let wood_of_all = 2 * (cost + STORED);
            village.gives(&mut person, "wood", wood_of_all).await;
            person.waits_until("the wood", |seen| seen.carries("wood") == wood_of_all).await;
            person.does(Act::Sail { island }).await;
            person.waits_until("the other island", |seen| seen.island() == island).await;
            for _ in 0..2 {
                let object = person.builds("box").await;
                person.sees(kind::FACILITY, "box", |it| it.id == object).await;
                person.does(Act::Put { object, wares: wood(STORED) }).await;
                boxes.push(object);
            }
            person.goes_offline().await;
            people.push(person);
        }
        let all = village.holds("wood");
        village.store_is(Rates { delay: Duration::from_millis(20), ..Rates::default() });
        let less_than = async |village: &Village, count: usize| {
            let end = tokio::time::Instant::now() + 3 * LIFE;
            while filled(village, &boxes) >= count {
                assert!(tokio::time::Instant::now() < end, "nobody clears the island: {:?}", village.islands().await);
                village.passes(Duration::from_millis(7)).await;
            }
        };
        less_than(village, boxes.len() - 2).await;
        let frozen = village.steward().await.expect("a steward");
        village.freeze(&frozen, true);
        let (left, began) = (filled(village, &boxes), tokio::time::Instant::now());
        assert!(left > 3, "it froze too late: {left} boxes are left");
        while village.steward().await.is_none_or(|steward| steward == frozen) {
            assert!(began.elapsed() < Duration::from_secs(5 + 2), "nobody follows a frozen steward");
            village.passes(Duration::from_millis(20)).await;
        }
        // The next one is in the middle of the rest when the former goes on where it stopped.
        less_than(village, left).await;
        assert!(filled(village, &boxes) > 0, "it thaws too late");
        village.freeze(&frozen, false);
        village.store_is_well();
        village.is_gone(island).await;
        assert_eq!((village.holds("wood"), filled(village, &boxes)), (all, 0));
        village.is_whole().await;
        for person in &mut people {
            person.arrives("frontend-1").await;
            person.waits_until("what was in the boxes", |seen| seen.carries("wood") == 2 * STORED).await;
        }
        village.passes(Duration::from_secs(30)).await;
        assert_eq!(village.holds("wood"), all);
    });
}
