//! Gathering until nothing is left, and growing again.

use super::*;
use crate::game::thing::state;

/// How much is shown of the one natural object, in percent.
fn left(shown: &BTreeMap<ObjectId, Thing>) -> Option<(u8, u8)> {
    shown.values().find_map(|thing| match thing {
        Thing::Nature { state, left, .. } => Some((*left, *state)),
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_used_up_before_all_eyes_grows_stroke_by_stroke_and_is_a_mirage_again() {
    let mut village = Village::start().await;
    let tile = village.tree();
    let (keeper, _) = village.keepers(tile.chunk(ISLAND));
    village.look_at(&[tile.cell(ISLAND)]).await;
    for (op, wanted, percent) in [(1, "", 66), (2, "", 33), (2, "", 33), (3, "", 0), (4, "missing", 0)] {
        assert_eq!(village.code(keeper, op, ANN, gather(tile)).await, wanted, "operation {op}");
        assert_eq!(left(&village.shown(keeper).await).map(|left| left.0), Some(percent), "shown before it is answered");
    }
    assert_eq!(left(&village.shown(keeper).await), Some((0, state::USED_UP)));
    assert_eq!(village.wood(ANN).await, 6);
    // By the calendar it has not grown before, and has at the tick after.
    let grown_s = village.calendar.now_s() + REGROW_S;
    village.until_shown(keeper, "nothing", |shown| left(shown).is_some_and(|left| left.0 == 0)).await;
    while village.calendar.now_s() < grown_s - 1 {
        assert_eq!(left(&village.shown(keeper).await), Some((0, state::USED_UP)));
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_millis(2_100)).await;
    assert_eq!(left(&village.shown(keeper).await), Some((33, 0)));
    sleep(Duration::from_secs(2 * REGROW_S)).await;
    village.until_shown(keeper, "the mirage", BTreeMap::is_empty).await;
    assert!(village.is_mirage(tile).await, "the deed's again, without an object");
    assert_eq!(village.code(keeper, 5, BOB, gather(tile)).await, "");
    assert_eq!(village.code(keeper, 1, ANN, gather(tile)).await, "", "asked again, long after: it has happened");
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (6, 2));
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_grows_grows_without_anybody_looking_and_whichever_garden_is_asked() {
    let village = Village::start().await;
    let tile = village.tree();
    for op in 1..=3 {
        assert_eq!(village.code(op as usize % 2, op, ANN, gather(tile)).await, "");
    }
    assert_eq!(village.code(0, 4, ANN, gather(tile)).await, "missing");
    sleep(Duration::from_secs(REGROW_S)).await;
    assert_eq!(village.code(1, 5, ANN, gather(tile)).await, "");
    assert_eq!(village.code(0, 6, ANN, gather(tile)).await, "missing");
    assert!(village.shown(0).await.is_empty() && village.shown(1).await.is_empty(), "nobody looks");
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_gathered_without_its_tool_or_where_nothing_grows() {
    let village = Village::start().await;
    let (hard, unknown) = (village.natural(|name| name == village.hard), village.meadow());
    assert_eq!(village.code(0, 1, ANN, gather(hard)).await, "needs");
    let with = GardenWhat::Gather { tile: hard, tools: vec!["axe".to_owned(), "pick".to_owned()] };
    assert_eq!(village.code(0, 1, ANN, with).await, "");
    assert_eq!(village.code(0, 1, ANN, gather(hard)).await, "", "it has happened, though the pick is gone");
    assert_eq!(village.code(1, 1, ANN, gather(hard)).await, "", "another garden knows it too");
    assert_eq!(village.code(0, 2, ANN, gather(unknown)).await, "missing");
    assert_eq!(village.code(0, 3, ANN, gather(Tile::new(u16::MAX, 0))).await, "missing");
    assert_eq!(village.code(0, 4, ObjectId(99), gather(village.tree())).await, "missing", "no such player");
    assert_eq!(village.code(0, 5, ObjectId(0), gather(village.tree())).await, "malformed");
    assert_eq!(village.wood(ANN).await, 2);
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_who_take_the_last_stroke_at_two_gardens_exactly_one_has_it() {
    let village = Village::start().await;
    let tile = village.tree();
    assert_eq!(village.code(0, 1, ANN, gather(tile)).await, "");
    assert_eq!(village.code(0, 2, ANN, gather(tile)).await, "");
    let (one, two) = tokio::join!(village.code(0, 3, ANN, gather(tile)), village.code(1, 4, BOB, gather(tile)));
    let mut both = [one.as_str(), two.as_str()];
    both.sort_unstable();
    assert_eq!(both, ["", "missing"]);
    assert_eq!(village.wood(ANN).await + village.wood(BOB).await, 6);
    village.end().await;
}
