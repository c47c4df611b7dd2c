//! The end of an island: whoever clears it, dies over it or uses a box there meanwhile, goods are conserved and nothing of
//! the island is left.

use std::sync::Arc;

use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use estate::goods::balance::balance;
use estate::goods::promise::{self, PromiseDocument, What};
use estate::goods::{Goods, GoodsEffect, Leg, Limits, Place, transfer};
use estate::kinds;
use estate::land::checks::disagreements;
use estate::land::claims::{self, Claim};
use estate::land::ending::clear;
use estate::land::works::{self, Building};
use estate::land::{By, Footprint, Grounds, Rotation};
use estate::player::{self, Birth, PlayerDocument};
use estate::schedules::{Bounds, End, Scenario, explore};
use estate::store::{Outcome, Store};
use estate::transaction::{NoOwners, OperationId, PATIENCE, REMEMBERED, TransactionError, Transactions};
use serde_json::Map;
use tokio::time::sleep;

use super::{ensure, left};

const ISLAND: IslandId = IslandId(12);
const ANN: u64 = 1;
const CHEST: u64 = 9;
const WOOD: u64 = 5;

struct Plain;

impl Grounds for Plain {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some((64, 64))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, _island: IslandId, _tile: Tile) -> u32 {
        0
    }
}

fn on(store: Arc<dyn Store>, seed: u64) -> Transactions {
    Transactions::new(store, kinds::all(Arc::new(Plain)), Arc::new(NoOwners { all_gone: true }), seed)
}

fn wood(count: u64) -> Goods {
    Goods::stack("wood".parse().expect("a name"), count)
}

/// Ann has a chest with wood in it over two chunks of an island, one of which is hers.
async fn island(store: Arc<dyn Store>) {
    let birth = Birth { hue: 1, island: 1, x: 0, y: 0 };
    player::create(&*store, ANN, "ann", "Ann", &birth).await.expect("create");
    let on = on(store, 8_000);
    let footprint = Footprint::new(Tile::new(15, 0), 2, 1, Rotation::R0).expect("a footprint");
    let kind = "chest".to_owned();
    let chest = Building { id: ObjectId(CHEST), kind, island: ISLAND, footprint, made_s: 1, data: Map::new() };
    let open = Place::Box(CHEST).part(OperationId(101), &GoodsEffect::open(Limits { slots: 4, per_stack: 10 }));
    let by = By::Player(ObjectId(ANN));
    works::build(&on, &Plain, OperationId(101), by, &chest, &[open]).await.expect("built");
    let leg = Leg { from: Place::Mint, to: Place::Box(CHEST), goods: wood(WOOD) };
    transfer(&on, OperationId(102), &[leg]).await.expect("filled");
    let chunk = Chunk { island: ISLAND, x: 0, y: 0 };
    let claim = Claim { holding: ObjectId(ANN), chunk, owner: ObjectId(ANN), now_s: 1, paid_until_s: 100 };
    claims::claim(&on, &Plain, OperationId(103), &claim, &[]).await.expect("claimed");
    sleep(REMEMBERED * 2).await;
}

type Told = Result<u64, TransactionError>;

/// Clears the island; gives how many documents were left.
async fn steward(store: Arc<dyn Store>, seed: u64) -> Told {
    clear(&on(store, seed), &Plain, ISLAND, &mut |_| {}).await.map(|cleared| cleared.left)
}

/// The next steward goes on until nothing is left, and memories expire.
async fn recover(store: Arc<dyn Store>) -> Result<(), String> {
    let left = steward(store, 9_000).await.map_err(|error| error.to_string())?;
    ensure(left == 0, || format!("{left} documents were left"))?;
    sleep(REMEMBERED * 2 + PATIENCE).await;
    Ok(())
}

/// Nothing of the island is left. Gives what waits for Ann, what she has, and how much wood was destroyed by the mint.
fn check(end: &End<Told>) -> Result<(u64, u64), String> {
    let wrong = disagreements(&end.documents, &Plain);
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    let balance = balance(&end.documents).map_err(|error| error.to_string())?;
    ensure(balance.unsettled() == 0, || "an intent was left".to_owned())?;
    if let Some(difference) = balance.differences().next() {
        return Err(difference.to_string());
    }
    let kinds = ["player/", "mint/", "promise/"];
    let over = end.documents.keys().find(|key| !kinds.iter().any(|kind| key.starts_with(kind)));
    ensure(over.is_none(), || format!("left over: {over:?}"))?;
    let queue = left::<PromiseDocument>(&end.documents, &promise::key(ANN))?.map(|document| document.queue);
    let of = |goods: &Goods| goods.stacks.values().sum::<u64>();
    let waiting = queue.iter().flatten().map(|one| if let What::Goods(goods) = &one.what { of(goods) } else { 0 });
    let ann: PlayerDocument = left(&end.documents, &player::key(ANN))?.ok_or("Ann is gone")?;
    Ok((waiting.sum(), of(&ann.bag)))
}

fn prove(scenario: &Scenario<Told>) {
    let report =
        explore(scenario, &Bounds { schedules: 200, random: 150, preemptions_with_fault: 1, ..Bounds::default() });
    println!("{report}");
    assert!(report.schedules > 1_000 && report.stopped > 0 && report.lost > 0 && report.paused > 0, "{report}");
}

#[test]
fn two_stewards_clear_an_island_once() {
    let scenario = Scenario::new("island: two stewards").setup(island).recover(recover).check(|end| {
        let found = check(end)?;
        ensure(found == (WOOD, 0), || format!("{found:?} of {WOOD}"))?;
        let whole = |told: &Told| matches!(told, Ok(0));
        ensure(end.faults > 0 || end.told().all(whole), || format!("{:?}", end.answers))
    });
    prove(&scenario.driver(|store| steward(store, 1)).driver(|store| steward(store, 2)));
}

#[test]
fn what_is_taken_from_a_box_while_its_island_ends_is_had_once() {
    let scenario = Scenario::new("island: steward and taker").setup(island).recover(recover).check(|end| {
        let (waiting, has) = check(end)?;
        ensure(waiting + has == WOOD && [0, 2].contains(&has), || format!("{waiting} wait, {has} are had"))?;
        let told = end.answers[1].as_ref();
        ensure(!matches!(told, Some(Ok(_))) || has == 2, || format!("{told:?}, but {has}"))?;
        let surely_not = matches!(told, Some(Err(error)) if error.outcome() == Outcome::NotDone);
        ensure(!surely_not || has == 0, || format!("{told:?}, but {has}"))
    });
    let take = async |store: Arc<dyn Store>| {
        let leg = Leg { from: Place::Box(CHEST), to: Place::Player(ANN), goods: wood(2) };
        transfer(&on(store, 2), OperationId(1), &[leg]).await.map(|()| 0)
    };
    prove(&scenario.driver(|store| steward(store, 1)).driver(take));
}
