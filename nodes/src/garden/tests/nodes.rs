//! Gardens that come and go: who shows what, and what becomes of what was asked of them.

use estate::store::memory::Rates;

use super::*;
use crate::game::made_by;
use crate::wiring::Door;

/// A tree that was struck once, and is shown: where, by which garden, and which is the other one.
async fn a_tree_in_sight() -> (Village, Tile, usize, usize) {
    let mut village = Village::start().await;
    let tile = village.tree();
    let (keeper, other) = village.keepers(tile.chunk(ISLAND));
    village.look_at(&[tile.cell(ISLAND)]).await;
    assert_eq!(village.code(keeper, 1, ANN, gather(tile)).await, "");
    assert_eq!(village.shown(keeper).await.len(), 1);
    (village, tile, keeper, other)
}

/// Waits for a state.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

impl Village {
    fn role(&self, n: usize) -> Garden {
        let Door::Garden(garden) = &self.garden(n).door else { panic!("a garden") };
        garden.clone()
    }

    /// How a garden appears to another; nothing if the directory does not have it.
    fn appears(&self, n: usize, to: usize) -> Option<mesh::PeerState> {
        self.garden(to).mesh.peers().get(&self.garden(n).mesh.me().node).map(|peer| peer.state)
    }

    /// Waits until the directory has told the one that the other is gone, which runs on.
    async fn until_gone(&self, n: usize, for_whom: usize) {
        until("its lease is over", || self.appears(n, for_whom).is_none()).await;
    }

    /// Waits until a garden that was frozen is there again, has gone on with what it was at, and has refused what waited.
    async fn until_awake(&self, n: usize, for_whom: usize) {
        let shared = self.role(n).shared;
        until("it is awake", || {
            let up = self.appears(n, for_whom) == Some(mesh::PeerState::Up);
            up && shared.pulse.is_steady() && *shared.acts.borrow() == 0
        })
        .await;
    }
}

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
    let (village, _, keeper, _) = a_tree_in_sight().await;
    village.role(keeper).leave().await;
    assert!(village.shown(keeper).await.is_empty());
    // All that is awake is read again within this time.
    sleep(awake::READ_AGAIN + 2 * awake::BEAT).await;
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
    let (village, _, keeper, _) = a_tree_in_sight().await;
    village.clients[keeper].cut(mesh::directory::memory::Cut::Refused);
    village.until_shown(keeper, "nothing", BTreeMap::is_empty).await;
    village.clients[keeper].heal();
    village.until_shown(keeper, "the tree", |shown| shown.len() == 1).await;
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_leaving_garden_shows_is_shown_by_another_before_under_a_higher_epoch() {
    let (village, tile, keeper, other) = a_tree_in_sight().await;
    let epochs = async |n: usize| {
        let (tell, told) = oneshot::channel();
        let look = move |world: &crate::game::GameWorld| {
            let _ = tell.send(world.reals().map(|real| real.epoch().0).collect::<Vec<_>>());
        };
        assert!(village.garden(n).inspect(Box::new(look)).await, "the world runs");
        told.await.expect("the world tells")
    };
    village.garden(keeper).draining.begin();
    let peers = village.garden(other).mesh.watch_peers();
    until("the other has heard of it", || takes_work(&peers.borrow(), Role::Garden).is_empty()).await;
    let before = epochs(keeper).await;
    assert_eq!(before.len(), 1, "it shows its land until it leaves");
    let garden = village.role(keeper);
    let watch = async {
        loop {
            let shown = epochs(keeper).await.len() + epochs(other).await.len();
            assert!(shown >= 1, "nobody shows the tree");
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = garden.leave() => {}
        () = watch => {}
    }
    let after = epochs(other).await;
    assert!(after.len() == 1 && after[0] > before[0], "{before:?}, {after:?}");
    assert!(epochs(keeper).await.is_empty());
    // It takes no acts any more, and says so in a way that has others asked.
    assert_eq!(village.code(keeper, 2, ANN, gather(tile)).await, "draining");
    assert_eq!(village.code(other, 2, ANN, gather(tile)).await, "");
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_act_that_is_under_way_when_its_garden_leaves_is_ended_first() {
    let mut village = Village::start().await;
    let tile = village.tree();
    // It takes about five seconds: longer than it may take to begin.
    let slow = Rates { delay: Duration::from_millis(300), ..Rates::default() };
    village.stores[0].random(7, slow);
    let garden = village.role(0);
    let leave = async {
        until("it is under way", || *garden.shared.acts.borrow() == 1).await;
        garden.leave().await;
        village.wood(ANN).await
    };
    let (done, wood) = tokio::join!(village.ask(0, 1, ANN, gather(tile)), leave);
    assert_eq!((done, wood), (Ok(GardenAnswer::Done), 2));
    village.stores[0].clear();
    village.kill(0);
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_act_that_cannot_be_begun_in_time_is_never_begun_and_holds_nobody_up() {
    let village = Village::start().await;
    let tile = village.tree();
    let slow = Rates { delay: Duration::from_secs(2), ..Rates::default() };
    village.stores[0].random(7, slow);
    let began = Instant::now();
    assert_eq!(village.code(0, 1, ANN, gather(tile)).await, "unknown");
    assert!(began.elapsed() < ACTS_MOST + Duration::from_millis(100), "{:?}", began.elapsed());
    assert_eq!(*village.role(0).shared.acts.borrow(), 0);
    let began = Instant::now();
    assert_eq!(village.code(1, 2, BOB, gather(tile)).await, "");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((village.wood(ANN).await, village.wood(BOB).await), (0, 2));
    // Asked for again it is done, once.
    for n in [1, 1] {
        assert_eq!(village.code(n, 1, ANN, gather(tile)).await, "");
    }
    assert_eq!(village.wood(ANN).await, 2);
    village.stores[0].clear();
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_garden_frozen_in_the_midst_of_an_act_that_another_has_done_meanwhile_does_not_do_it_again() {
    let village = Village::start().await;
    let tile = village.tree();
    let slow = Rates { delay: Duration::from_millis(6), ..Rates::default() };
    village.stores[0].random(7, slow);
    let mut stopped = 0;
    for step in 0..3_u64 {
        let op = 10 + step;
        let rest = async {
            sleep(Duration::from_millis(4 + 14 * step)).await;
            village.garden(0).tasks.freeze(true);
            let mut answer = village.ask(1, op, ANN, gather(tile)).await;
            let end = Instant::now() + PATIENCE;
            while answer != Ok(GardenAnswer::Done) {
                assert!(Instant::now() < end, "step {step}: {answer:?}");
                sleep(Duration::from_millis(250)).await;
                answer = village.ask(1, op, ANN, gather(tile)).await;
            }
            village.until_gone(0, 1).await;
            village.garden(0).tasks.freeze(false);
        };
        let (first, ()) = tokio::join!(village.ask(0, op, ANN, gather(tile)), rest);
        stopped += u32::from(first.is_err());
        // It goes on where it was frozen.
        village.until_awake(0, 1).await;
        assert_eq!(village.wood(ANN).await, 2 * (step + 1), "step {step}: once");
    }
    assert!(stopped > 0, "it was never in the midst of it");
    village.stores[0].clear();
    village.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_frozen_garden_forgets_what_it_showed_before_it_says_anything() {
    let (village, tile, keeper, other) = a_tree_in_sight().await;
    let frames = village.garden(keeper).metrics.frames_published.get();
    village.garden(keeper).tasks.freeze(true);
    village.until_shown(other, "the tree", |shown| shown.len() == 1).await;
    assert_eq!(village.code(other, 2, ANN, gather(tile)).await, "");
    let now = village.shown(other).await;
    village.until_gone(keeper, other).await;
    // When it thaws, the documents are out of its reach: it has nothing to show, and what it had is not said again.
    village.stores[keeper].unreachable(true);
    village.garden(keeper).tasks.freeze(false);
    village.until_shown(keeper, "nothing", BTreeMap::is_empty).await;
    village.until_awake(keeper, other).await;
    for _ in 0..2 {
        let calls = village.stores[keeper].calls();
        until("it tries to read its land", || village.stores[keeper].calls() > calls).await;
    }
    assert_eq!(village.garden(keeper).metrics.frames_published.get(), frames, "nothing was published");
    village.stores[keeper].unreachable(false);
    village.until_shown(keeper, "the tree as it is now", |shown| *shown == now).await;
    village.until_shown(other, "nothing: it is not its own any more", BTreeMap::is_empty).await;
    village.end().await;
}
