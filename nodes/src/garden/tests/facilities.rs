//! Building, land, boxes, hearths and doors.

use super::*;
use crate::game::made_by;
use crate::game::thing::state;
use cartographer::geometry::TILES_PER_CHUNK;

fn claim(tile: Tile) -> GardenWhat {
    let chunk = tile.chunk(ISLAND);
    GardenWhat::Claim { chunk: (chunk.x, chunk.y) }
}

fn give_up(tile: Tile) -> GardenWhat {
    let chunk = tile.chunk(ISLAND);
    GardenWhat::GiveUp { chunk: (chunk.x, chunk.y) }
}

fn beside(tile: Tile, dx: u16) -> Tile {
    Tile::new(tile.x + dx, tile.y)
}

fn states(shown: &BTreeMap<ObjectId, Thing>, id: ObjectId) -> Option<u8> {
    match shown.get(&id) {
        Some(Thing::Facility { state, .. }) => Some(*state),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_built_on_water_on_what_stands_there_on_others_land_or_without_its_price() {
    let village = Village::start().await;
    let meadow = village.meadow();
    let water = (0..u16::MAX).map(|x| Tile::new(x, 0)).find(|tile| !village.terrain.walkable(*tile)).expect("the sea");
    assert_eq!(village.code(0, 1, ANN, build("box", meadow)).await, "too_little");
    village.give_wood(90, ANN, 20).await;
    village.give_wood(91, BOB, 20).await;
    assert_eq!(village.code(0, 1, ANN, build("palace", meadow)).await, "unknown_name");
    assert_eq!(village.code(0, 1, ANN, build("box", water)).await, "water");
    assert_eq!(village.code(0, 1, ANN, build("box", village.tree())).await, "occupied");
    assert_eq!(village.code(0, 1, ANN, build("box", Tile::new(5_000, 5_000))).await, "outside");
    let askew = GardenWhat::Build { facility: "box".to_owned(), tile: meadow, turned: 4 };
    assert_eq!(village.code(0, 1, ANN, askew).await, "malformed");
    let turned = GardenWhat::Build { facility: "hearth".to_owned(), tile: meadow, turned: 1 };
    assert_eq!(village.ask(0, 1, ANN, turned).await, Ok(GardenAnswer::Made(made_by(operation(1)))));
    assert_eq!(village.code(0, 2, ANN, build("box", Tile::new(meadow.x, meadow.y + 1))).await, "occupied", "turned");
    assert_eq!(village.code(0, 3, ANN, build("box", beside(meadow, 1))).await, "");
    assert_eq!(village.code(0, 4, ANN, build("door", beside(meadow, 2))).await, "forbidden", "on one's own land only");
    assert_eq!(village.code(0, 5, ANN, claim(meadow)).await, "");
    assert_eq!(village.code(0, 6, ANN, build("door", beside(meadow, 2))).await, "");
    assert_eq!(village.code(0, 7, BOB, build("box", beside(meadow, 3))).await, "owned");
    assert_eq!(village.code(0, 8, BOB, build("door", beside(meadow, 3))).await, "forbidden");
    assert_eq!(village.code(0, 9, BOB, GardenWhat::Demolish { object: made_by(operation(3)) }).await, "owned");
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (20 - 1 - 4 - 2, 20));
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_box_is_its_owners_and_what_is_put_and_taken_moves_once() {
    let village = Village::start().await;
    village.give_wood(90, ANN, 20).await;
    let (meadow, object) = (village.meadow(), made_by(operation(1)));
    assert_eq!(village.code(0, 1, ANN, build("box", meadow)).await, "");
    let put = |count| GardenWhat::Put { object, goods: wood(count) };
    let take = |count| GardenWhat::Take { object, goods: wood(count) };
    for n in [0, 1, 0] {
        assert_eq!(village.code(n, 2, ANN, put(10)).await, "");
    }
    assert_eq!(village.wood(ANN).await, 6, "once, whichever garden is asked");
    assert_eq!(village.code(0, 3, ANN, put(7)).await, "too_little");
    assert_eq!(village.code(0, 4, BOB, take(1)).await, "forbidden");
    assert_eq!(village.code(0, 4, BOB, put(1)).await, "forbidden");
    assert_eq!(village.code(0, 4, BOB, GardenWhat::Look { object }).await, "forbidden");
    assert_eq!(village.ask(1, 5, ANN, GardenWhat::Look { object }).await, Ok(GardenAnswer::Holds(wood(10))));
    assert_eq!(village.code(0, 6, ANN, GardenWhat::Use { object }).await, "unknown_name");
    assert_eq!(village.code(0, 7, ANN, GardenWhat::Demolish { object }).await, "not_empty");
    // The land becomes another's; the box and what is in it stay hers, or a claim were theft.
    assert_eq!(village.code(0, 8, BOB, claim(meadow)).await, "");
    assert_eq!(village.code(0, 10, BOB, take(10)).await, "forbidden");
    assert_eq!(village.code(0, 14, BOB, GardenWhat::Demolish { object }).await, "not_empty");
    assert_eq!(village.code(0, 9, ANN, take(10)).await, "");
    assert_eq!(village.code(1, 2, ANN, put(10)).await, "", "it has happened, whatever has become of the box");
    assert_eq!(village.code(0, 11, ANN, take(1)).await, "too_little");
    assert_eq!(village.code(0, 12, BOB, GardenWhat::Demolish { object }).await, "", "an empty one he may clear away");
    assert_eq!(village.code(1, 12, BOB, GardenWhat::Demolish { object }).await, "", "again, elsewhere");
    assert_eq!(village.code(1, 9, ANN, take(10)).await, "", "it has happened, though the box is gone");
    assert_eq!(village.code(0, 13, ANN, take(1)).await, "missing");
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (16, 0));
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hearth_burns_what_is_put_into_it_and_goes_out_by_itself() {
    let mut village = Village::start().await;
    village.give_wood(90, ANN, 3).await;
    let (meadow, object) = (village.meadow(), made_by(operation(1)));
    let (keeper, other) = village.keepers(meadow.chunk(ISLAND));
    village.look_at(&[meadow.cell(ISLAND)]).await;
    assert_eq!(village.code(keeper, 1, ANN, build("hearth", meadow)).await, "");
    assert_eq!(states(&village.shown(keeper).await, object), Some(0));
    let light = || GardenWhat::Use { object };
    assert_eq!(village.code(keeper, 2, ANN, light()).await, "");
    assert_eq!(village.code(other, 2, ANN, light()).await, "", "once, whichever garden is asked");
    assert_eq!(village.wood(ANN).await, 1);
    assert_eq!(states(&village.shown(keeper).await, object), Some(state::LIT));
    let out = Instant::now() + Duration::from_secs(BURNS_S);
    while Instant::now() + Duration::from_secs(2) < out {
        assert_eq!(states(&village.shown(keeper).await, object), Some(state::LIT));
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(states(&village.shown(keeper).await, object), Some(0), "it is out");
    assert_eq!(village.code(keeper, 3, BOB, light()).await, "too_little", "anybody may, who has wood");
    assert_eq!(village.code(keeper, 4, ANN, light()).await, "");
    assert_eq!(village.code(keeper, 2, ANN, light()).await, "", "long ago");
    assert_eq!((village.wood(ANN).await, states(&village.shown(keeper).await, object)), (0, Some(state::LIT)));
    assert_eq!(village.code(keeper, 5, ANN, GardenWhat::Demolish { object }).await, "");
    assert!(village.shown(keeper).await.is_empty());
    assert_eq!(village.code(keeper, 6, ANN, light()).await, "missing");
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_door_opens_and_shuts_for_its_owner_once_for_each_operation() {
    let mut village = Village::start().await;
    village.give_wood(90, ANN, 2).await;
    let (meadow, object) = (village.meadow(), made_by(operation(2)));
    let (keeper, other) = village.keepers(meadow.chunk(ISLAND));
    village.look_at(&[meadow.cell(ISLAND)]).await;
    assert_eq!(village.code(keeper, 1, ANN, claim(meadow)).await, "");
    assert_eq!(village.code(keeper, 2, ANN, build("door", meadow)).await, "");
    let turn = || GardenWhat::Use { object };
    for (n, op, open) in [(keeper, 3, true), (other, 3, true), (keeper, 4, false), (other, 3, false), (keeper, 5, true)]
    {
        assert_eq!(village.code(n, op, ANN, turn()).await, "");
        let wanted = if open { state::OPEN } else { 0 };
        village.until_shown(keeper, "the door", |shown| states(shown, object) == Some(wanted)).await;
    }
    assert_eq!(village.code(keeper, 6, BOB, turn()).await, "forbidden");
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn land_is_claimed_extended_paid_for_and_given_up_and_shown_as_ones_own() {
    let mut village = Village::start().await;
    let first = village.meadow();
    let (second, third) = (beside(first, TILES_PER_CHUNK), beside(first, 2 * TILES_PER_CHUNK));
    let (keeper, other) = village.keepers(first.chunk(ISLAND));
    village.look_at(&[first.cell(ISLAND)]).await;
    assert_eq!(village.ask(keeper, 1, ANN, claim(first)).await, Ok(GardenAnswer::Made(ANN)));
    assert_eq!(village.ask(other, 1, ANN, claim(first)).await, Ok(GardenAnswer::Made(ANN)));
    let marker = crate::game::land_marker(first.chunk(ISLAND));
    assert_eq!(village.shown(keeper).await.get(&marker), Some(&Thing::Land { holding: ANN.0 }));
    assert_eq!(village.code(keeper, 2, BOB, claim(first)).await, "owned");
    assert_eq!(village.code(keeper, 3, ANN, claim(third)).await, "not_adjacent");
    assert_eq!(village.code(keeper, 4, ANN, claim(second)).await, "");
    assert_eq!(village.code(keeper, 5, ANN, claim(third)).await, "too_large", "two chunks are the most here");
    assert_eq!(village.code(other, 4, ANN, claim(second)).await, "", "it has happened");
    // Paid for from the claim on, and anew when it is claimed again.
    let paid = || async {
        let held = estate::land::claims::holding(&village.asker.estate, ANN).await.expect("read").expect("held");
        (held.paid_until_s, held.chunks.len())
    };
    let before = paid().await;
    assert!(before.0.abs_diff(village.calendar.now_s() + village.content.tuning.claim_s) < 60, "{before:?}");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(village.code(keeper, 6, ANN, claim(first)).await, "");
    let after = paid().await;
    assert!((100..200).contains(&(after.0 - before.0)) && after.1 == 2, "{before:?} {after:?}");
    assert_eq!(village.code(keeper, 7, BOB, give_up(first)).await, "missing");
    assert_eq!(village.code(keeper, 8, ANN, give_up(first)).await, "");
    village.until_shown(keeper, "no mark", |shown| !shown.contains_key(&marker)).await;
    assert_eq!(village.code(other, 8, ANN, give_up(first)).await, "");
    assert_eq!(village.code(keeper, 9, ANN, give_up(second)).await, "");
    assert_eq!(village.code(keeper, 10, ANN, claim(third)).await, "", "whoever has nothing begins anew");
    village.end().await;
}
