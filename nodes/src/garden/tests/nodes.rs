//! Gardens that come and go: who shows what, and what becomes of what was asked of them.

use super::*;
use crate::game::made_by;

#[tokio::test(start_paused = true)]
async fn one_garden_shows_what_another_has_changed_and_the_other_takes_over_when_it_leaves() {
    let mut village = Village::start().await;
    let tile = village.tree();
    let (keeper, other) = village.keepers(tile.chunk(ISLAND));
    village.look_at(&[tile.cell(ISLAND)]).await;
    let started = Instant::now();
    assert_eq!(village.code(other, 1, ANN, gather(tile)).await, "");
    village.until_shown(keeper, "the tree", |shown| shown.len() == 1).await;
    assert!(started.elapsed() < Duration::from_secs(1), "told, not found by chance");
    assert!(village.shown(other).await.is_empty());
    // Nobody looks: nothing is shown. Somebody looks: it is.
    village.look_at(&[]).await;
    village.until_shown(keeper, "nothing", BTreeMap::is_empty).await;
    village.look_at(&[tile.cell(ISLAND)]).await;
    village.until_shown(keeper, "the tree again", |shown| shown.len() == 1).await;
    village.gardens[keeper].take().expect("it runs").leave().await;
    village.until_shown(other, "the tree", |shown| shown.len() == 1).await;
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leaving_garden_shows_nothing_any_more() {
    let mut village = Village::start().await;
    let tile = village.tree();
    let (keeper, _) = village.keepers(tile.chunk(ISLAND));
    village.look_at(&[tile.cell(ISLAND)]).await;
    assert_eq!(village.code(keeper, 1, ANN, gather(tile)).await, "");
    assert_eq!(village.shown(keeper).await.len(), 1);
    let crate::wiring::Door::Garden(garden) = &village.garden(keeper).door else { panic!("a garden") };
    garden.leave().await;
    assert!(village.shown(keeper).await.is_empty());
    sleep(Duration::from_secs(12)).await;
    assert!(village.shown(keeper).await.is_empty(), "nor does it begin again");
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_garden_killed_before_it_could_answer_has_done_it_once_whoever_is_asked_again() {
    let mut village = Village::start().await;
    village.give_wood(90, BOB, 4).await;
    let (tile, meadow) = (village.tree(), village.meadow());
    // It hears, and is heard no more.
    village.network.set_fault("garden-0", "colosseum-2", mesh::transport::memory::Fault::CUT);
    let asks =
        async { tokio::join!(village.ask(0, 1, ANN, gather(tile)), village.ask(0, 2, BOB, build("box", meadow)),) };
    let (touched, built) = asks.await;
    assert!(touched.is_err() && built.is_err(), "no answer came: {touched:?} {built:?}");
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (2, 0), "but it was done");
    village.kill(0);
    for _ in 0..2 {
        assert_eq!(village.ask(1, 1, ANN, gather(tile)).await, Ok(GardenAnswer::Done));
        let made = GardenAnswer::Made(made_by(operation(2)));
        assert_eq!(village.ask(1, 2, BOB, build("box", meadow)).await, Ok(made));
    }
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (2, 0), "once");
    // The other one shows it, once the directory knows that the first is gone.
    village.look_at(&[tile.cell(ISLAND), meadow.cell(ISLAND)]).await;
    village.until_shown(1, "tree and box", |shown| shown.len() == 2).await;
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn without_its_lease_a_garden_shows_nothing_and_with_it_everything_again() {
    let mut village = Village::start().await;
    let tile = village.tree();
    let (keeper, _) = village.keepers(tile.chunk(ISLAND));
    village.look_at(&[tile.cell(ISLAND)]).await;
    assert_eq!(village.code(keeper, 1, ANN, gather(tile)).await, "");
    assert_eq!(village.shown(keeper).await.len(), 1);
    village.clients[keeper].cut(mesh::directory::memory::Cut::Refused);
    village.until_shown(keeper, "nothing", BTreeMap::is_empty).await;
    village.clients[keeper].heal();
    village.until_shown(keeper, "the tree", |shown| shown.len() == 1).await;
    village.end().await;
}
