//! A herd and its hunter belong to different zoos: they meet through ghosts.

use nodes::game::content::Species;
use nodes::game::{kind, pose};
use tests::village::{Land, Plan, story};

#[test]
fn a_herd_flees_a_hunter_across_the_border_of_two_zoos() {
    let mut land = Land::meadow(1, "green", 128, 128);
    // Herds and hunters side by side, so that some of them belong to different zoos.
    for row in 0..3 {
        let y = 20 + 30 * row;
        land = land.habitat("goat", 4, 40, y, 8, 8).habitat("wolf", 1, 54, y, 4, 4);
    }
    let plan = Plan::new([land]).changing(|content| {
        let boar = content.species["wild_boar"].clone();
        let wolf = Species { hunts: vec!["goat".to_owned()], sight_tiles: 24, fear: 0, ..boar };
        content.species.insert("wolf".to_owned(), wolf);
        let goat = content.species.get_mut("goat").expect("there are goats");
        (goat.fear, goat.sight_tiles) = (90, 16);
    });
    story(plan, async |village| {
        let mut ann = village.person("Ann", 1, 60, 60).await;
        ann.arrives("frontend-1").await;
        ann.sees(kind::ANIMAL, "goat", |_| true).await;
        ann.sees(kind::ANIMAL, "wolf", |_| true).await;

        // A goat that flees while the nearest wolf is another zoo's.
        let (goat, wolf) = ann
            .waits_for("a goat that flees from a wolf of another zoo", |seen| {
                let wolves = seen.named(kind::ANIMAL, "wolf");
                let fleeing = seen.named(kind::ANIMAL, "goat").into_iter().filter(|it| it.view.pose == pose::FLEES);
                fleeing.into_iter().find_map(|goat| {
                    let away = |tile: (i32, i32)| (tile.0 - goat.tile.0).pow(2) + (tile.1 - goat.tile.1).pow(2);
                    let wolf = wolves.iter().min_by_key(|wolf| away(wolf.tile))?;
                    (wolf.publisher != goat.publisher).then(|| (goat.clone(), wolf.clone()))
                })
            })
            .await;
        for animal in [&goat, &wolf] {
            let owner = village.name_of(animal.publisher).expect("a node that runs");
            assert!(owner.starts_with("zoo"), "{owner}");
        }
        // Its herd runs with it, and it gets away from where the wolf was.
        let herd = goat.view.tie;
        ann.waits_until("the herd to flee together", |seen| {
            let goats = seen.named(kind::ANIMAL, "goat");
            goats.iter().filter(|it| it.view.tie == herd && it.view.pose == pose::FLEES).count() >= 2
        })
        .await;
        ann.waits_until("the goat elsewhere", |seen| {
            let gone = |tile: (i32, i32)| (tile.0 - goat.tile.0).abs().max((tile.1 - goat.tile.1).abs());
            seen.thing(goat.id).is_some_and(|it| gone(it.tile) >= 4)
        })
        .await;
    });
}
