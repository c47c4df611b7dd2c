//! A thousand players in four cells, over three frontends.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use mesh::Role;
use nodes::game::kind;
use tests::village::{Land, PATIENCE, Person, Plan, Village, story};
use tokio::time::Instant;

/// Players.
const PLAYERS: u16 = 1_000;

/// Of them, those whose eyes are open.
const LOOKERS: usize = 24;

/// How many come in at once.
const AT_ONCE: usize = 50;

/// The first tile of the four cells, and their side.
const FIRST: u16 = 32;
const SIDE: u16 = 64;

#[test]
fn a_thousand_players_in_four_cells_over_three_frontends_all_see_one_another() {
    let plan = Plan::new([Land::meadow(1, "green", 128, 128)])
        .with(Role::Frontend, 3)
        .with(Role::Garden, 1)
        .with(Role::Zoo, 1)
        .with(Role::Colosseum, 0);
    story(plan, async |village| {
        let mut crowd: Vec<Person> = Vec::new();
        for i in 0..PLAYERS {
            // Spread evenly: 37 has no factor in common with the number of tiles of a row.
            let (x, y) = (FIRST + i * 37 % SIDE, FIRST + i / 16 % SIDE);
            let mut person = village.person(&format!("P{i}"), 1, x, y).await;
            person.looks = usize::from(i) % (usize::from(PLAYERS) / LOOKERS) == 0;
            crowd.push(person);
        }
        for first in (0..crowd.len()).step_by(AT_ONCE) {
            let arrive = crowd[first..].iter_mut().take(AT_ONCE).enumerate().map(async |(i, person)| {
                person.arrives(&format!("frontend-{}", 1 + i % 3)).await;
            });
            join_all(arrive).await;
            crowd.iter_mut().for_each(Person::look);
        }
        let everybody: BTreeSet<u64> = crowd.iter().map(|person| person.player).collect();
        all_see(&mut crowd, &everybody).await;
        share(village, &["frontend-1", "frontend-2", "frontend-3"]).await;

        // Everybody takes a step, and is seen where they are now.
        let before: Vec<(i32, i32)> = crowd.iter().map(|person| person.seen.tile()).collect();
        let step = crowd.iter_mut().zip(&before).map(async |(person, tile)| {
            let side = |at: i32| if at < i32::from(FIRST + SIDE / 2) { at + 1 } else { at - 1 };
            person.walks_to(side(tile.0) as u16, tile.1 as u16).await;
        });
        join_all(step).await;
        crowd.iter_mut().for_each(Person::look);
        let places: Vec<(u64, (i32, i32))> = crowd.iter().map(|person| (person.player, person.seen.tile())).collect();
        assert!(before.iter().zip(&places).all(|(before, (_, now))| before != now));
        for person in crowd.iter_mut().filter(|person| person.looks) {
            person
                .waits_until("everybody where they are", |seen| {
                    let all = seen.all(kind::PLAYER);
                    all.len() == places.len() && all.iter().zip(&places).all(|(it, place)| (it.id, it.tile) == *place)
                })
                .await;
        }

        // A third of them lose their frontend and come in elsewhere.
        village.kill("frontend-3");
        for (i, person) in crowd.iter_mut().enumerate().filter(|(_, person)| person.is_lost()) {
            person.arrives(&format!("frontend-{}", 1 + i % 2)).await;
            if i % AT_ONCE == 0 {
                person.look();
            }
        }
        all_see(&mut crowd, &everybody).await;
        share(village, &["frontend-1", "frontend-2"]).await;
    });
}

/// Each frontend has some of the players and ghosts of all others.
async fn share(village: &Village, frontends: &[&str]) {
    let mut owned = 0;
    for name in frontends {
        let (reals, ghosts) = village.looks_at(name, |world| (world.reals().count(), world.ghosts().count())).await;
        assert_eq!(reals + ghosts, usize::from(PLAYERS), "{name} has {reals} players and {ghosts} ghosts");
        let fair = usize::from(PLAYERS) / frontends.len();
        assert!(reals.abs_diff(fair) < fair / 4, "{name} has {reals} of {PLAYERS} players");
        owned += reals;
    }
    assert_eq!(owned, usize::from(PLAYERS));
}

/// Waits until whoever looks sees everybody, and nobody else.
async fn all_see(crowd: &mut [Person], everybody: &BTreeSet<u64>) {
    let until = Instant::now() + PATIENCE;
    loop {
        crowd.iter_mut().for_each(Person::look);
        let blind = crowd.iter().filter(|person| person.looks).find(|person| {
            let shown: BTreeSet<u64> = person.seen.all(kind::PLAYER).iter().map(|it| it.id).collect();
            shown != *everybody
        });
        let Some(blind) = blind else { return };
        assert!(Instant::now() < until, "{} does not see everybody: {}", blind.name, blind.seen);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
