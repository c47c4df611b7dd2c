//! A tree is felled; the garden that felled it dies, the store is restarted, and nobody looks: it grows again all the same.

use std::time::Duration;

use nodes::game::kind;
use nodes::game::thing::state;
use nodes::protocol::{Act, codes};
use tests::village::{Land, Plan, story};

/// How long one stroke's worth takes to grow again in this story.
const STROKE: Duration = Duration::from_secs(60);

/// The tree.
const PINE: Act = Act::Gather { x: 30, y: 30 };

#[test]
fn a_felled_tree_grows_again_though_its_garden_and_the_store_were_restarted_meanwhile() {
    let land = Land::meadow(1, "green", 64, 64).natural("pine", 30, 30);
    let plan = Plan::new([land]).changing(|content| {
        let pine = content.naturals.get_mut("pine").expect("there are pines");
        (pine.strokes, pine.count, pine.regrow_s) = (3, 2, STROKE.as_secs());
        pine.tool = None;
    });
    story(plan, async |village| {
        let mut ann = village.person("Ann", 1, 31, 30).await;
        ann.arrives("frontend-1").await;

        // An untouched tree is no object and no document.
        assert!(ann.seen.all(kind::NATURE).is_empty());
        assert_eq!(village.documents("object/"), Vec::<String>::new());
        for _ in 0..3 {
            ann.does(PINE).await;
        }
        let felled = village.calendar.now_s();
        ann.waits_until("six wood", |seen| seen.carries("wood") == 6).await;
        let stump = ann.sees(kind::NATURE, "pine", |it| it.view.pose & state::USED_UP != 0).await;
        assert_eq!(ann.is_refused(PINE).await, codes::MISSING);

        // Its garden dies and does not come back at once, and the store goes away and comes back.
        let garden = village.name_of(stump.publisher).expect("a garden that runs").to_owned();
        village.kill(&garden);
        village.restart_store().await;
        village.revive(&garden).await;
        village.is_whole().await;
        let other_life = |publisher: u64| publisher != stump.publisher;
        let again = ann.sees(kind::NATURE, "pine", |it| other_life(it.publisher)).await;
        assert_eq!(again.tile, stump.tile);
        assert!(again.view.pose & state::USED_UP != 0, "felled is felled");
        assert_eq!(ann.is_refused(PINE).await, codes::MISSING);

        // After a while one stroke's worth is there, and no more.
        let grown = felled + STROKE.as_secs() + 1;
        village.until("a stroke's worth to grow", || village.calendar.now_s() >= grown).await;
        ann.does(PINE).await;
        assert_eq!(ann.is_refused(PINE).await, codes::MISSING);
        ann.waits_until("eight wood", |seen| seen.carries("wood") == 8).await;

        // All of it grows while nobody is there to see. Then it is a tree like any other, and no document.
        ann.goes_offline().await;
        village.passes(3 * STROKE).await;
        ann.arrives("frontend-2").await;
        ann.waits_until("no stump", |seen| seen.all(kind::NATURE).is_empty()).await;
        for _ in 0..3 {
            ann.does(PINE).await;
        }
        ann.waits_until("fourteen wood", |seen| seen.carries("wood") == 14).await;
        assert_eq!(village.holds("wood"), 14);
    });
}
