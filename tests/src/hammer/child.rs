//! One of the processes: asks and asks until its standard input closes or it is killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::document::peek;
use estate::goods::{Place, promise};
use estate::kinds;
use estate::land::{DeedDocument, Footprint, HoldingDocument, ObjectDocument, Rotation, Stand, deed, holding, object};
use estate::player;
use estate::store::Store;
use estate::transaction::{NoOwners, OperationId, Transactions};
use nodes::wiring::drivers::{self, StoreSpec};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::log::{Log, Operations, read};
use super::{Answer, Ask, BOXES, CLAIMABLE, Chance, ISLAND, Meadow, PLAYERS, SIDE_TILES, TASKS, chunks};

/// What one process is told.
#[derive(Clone, Debug)]
pub struct Life {
    /// The store, as `--store` takes it.
    pub store: String,
    /// Where it writes its log.
    pub log: PathBuf,
    /// The log of its predecessor, who was killed.
    pub predecessor: Option<PathBuf>,
    /// What it draws everything from: another for each life.
    pub seed: u64,
}

/// Opens a store.
pub(super) async fn open(store: &str) -> Result<Arc<dyn Store>> {
    let spec: StoreSpec = store.parse().map_err(anyhow::Error::msg)?;
    drivers::store(&spec).await
}

/// Transactions on it, as a node has them; nobody owns any player.
pub(super) fn transactions(store: Arc<dyn Store>, seed: u64) -> Transactions {
    Transactions::new(store, kinds::all(Arc::new(Meadow)), Arc::new(NoOwners { all_gone: true }), seed)
}

/// Lives.
///
/// # Errors
/// If the store or the log cannot be used; what the estate answers is written down and never an error.
pub async fn run(life: Life) -> Result<()> {
    let mut chance = Chance(life.seed);
    let all = Arc::new(transactions(open(&life.store).await?, chance.bits()));
    let log = Arc::new(Log::open(&life.log)?);
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    tokio::spawn(async move {
        // Whatever comes, or that nothing will come any more, means the end.
        let _ = tokio::io::stdin().read(&mut [0]).await;
        told.store(true, Ordering::Relaxed);
    });
    let mut unanswered = Operations::new();
    if let Some(predecessor) = &life.predecessor {
        read(predecessor, &mut unanswered)?;
        unanswered.retain(|_, known| known.certain().is_none());
    }
    let mut running = JoinSet::new();
    for (op, known) in unanswered {
        let (all, log) = (all.clone(), log.clone());
        running.spawn(async move { asked(&all, &log, op, &known.ask).await.map(drop) });
    }
    for _ in 0..TASKS {
        let (all, log, stop, mut chance) = (all.clone(), log.clone(), stop.clone(), Chance(chance.bits()));
        running.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                one(&all, &log, &mut chance).await?;
            }
            Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.context("a task died")??;
    }
    Ok(())
}

async fn asked(all: &Transactions, log: &Log, op: OperationId, ask: &Ask) -> Result<Answer> {
    log.asking(op, ask)?;
    let answer = ask.ask(all, op).await;
    log.answered(op, &answer)?;
    Ok(answer)
}

/// One operation; now and then asked twice, or followed by keeping somebody's promises.
async fn one(all: &Transactions, log: &Log, chance: &mut Chance) -> Result<()> {
    let ask = choose(all, chance).await;
    let op = OperationId((u128::from(chance.bits()) << 64) | u128::from(chance.bits()));
    let answer = asked(all, log, op, &ask).await?;
    if answer == Answer::Ok && chance.below(16) == 0 {
        asked(all, log, op, &ask).await?;
    }
    if chance.below(8) == 0 {
        // Whatever fails here is tried again by the next one, and by the parent in the end.
        let _ = promise::keep(all, some_player(chance)).await;
    }
    Ok(())
}

fn some_player(chance: &mut Chance) -> u64 {
    1 + chance.below(PLAYERS)
}

fn other_player(chance: &mut Chance, than: u64) -> u64 {
    let other = 1 + chance.below(PLAYERS - 1);
    if other == than { PLAYERS } else { other }
}

/// Anything that holds coins: mostly players and boxes.
fn some_place(chance: &mut Chance) -> Place {
    match chance.below(10) {
        0 => Place::Ground { island: ISLAND.0, x: chance.below(3) as u16, y: 0 },
        1..=3 => Place::Box(1 + chance.below(BOXES)),
        _ => Place::Player(some_player(chance)),
    }
}

fn two_places(chance: &mut Chance) -> (Place, Place) {
    let from = some_place(chance);
    loop {
        let to = some_place(chance);
        if to != from {
            return (from, to);
        }
    }
}

fn some_chunk(chance: &mut Chance) -> Chunk {
    Chunk { island: ISLAND, x: chance.below(3) as u16, y: chance.below(3) as u16 }
}

fn some_rotation(chance: &mut Chance) -> Rotation {
    Rotation::ALL[chance.below(4) as usize]
}

fn new_id(chance: &mut Chance) -> ObjectId {
    ObjectId(player::id_from_random(chance.bits()))
}

/// From 1 to 40, so that no sum comes about easily in two ways.
fn amount(chance: &mut Chance) -> u64 {
    1 + chance.below(40)
}

async fn choose(all: &Transactions, chance: &mut Chance) -> Ask {
    let by = some_player(chance);
    match chance.below(20) {
        0 => {
            let item = if chance.below(2) == 0 { "coin" } else { "wood" };
            Ask::Gather { to: Place::Player(by), item: item.to_owned(), amount: 5 * amount(chance) }
        }
        1..=3 => {
            let (from, to) = two_places(chance);
            Ask::Transfer { from, to, amount: amount(chance) }
        }
        4..=5 => {
            let (from, to) = two_places(chance);
            // Above the numbers of the boxes that are for all.
            let witness = player::id_from_random(chance.bits()).max(BOXES + 1);
            Ask::Gift { from, to, amount: amount(chance), witness }
        }
        6..=8 => {
            let players = [by, other_player(chance, by)];
            Ask::Trade { players, coins: amount(chance), wood: amount(chance) }
        }
        9..=10 => Ask::Promise { from: Place::Player(by), to: other_player(chance, by), amount: amount(chance) },
        11 => Ask::Teach { to: by, amount: amount(chance) },
        12..=14 => build(chance, by),
        15..=16 => change(all, chance, by).await,
        _ => land(all, chance, by).await,
    }
}

fn build(chance: &mut Chance, by: u64) -> Ask {
    let origin = Tile::new(chance.below(SIDE_TILES.into()) as u16, chance.below(SIDE_TILES.into()) as u16);
    let side = |chance: &mut Chance| 1 + chance.below(6) as u8;
    let footprint = Footprint::new(origin, side(chance), side(chance), some_rotation(chance));
    let footprint = footprint.expect("small and within the largest island");
    Ask::Build { by, object: new_id(chance), footprint, wood: amount(chance) }
}

/// Takes down or moves something that stands, if anything does.
async fn change(all: &Transactions, chance: &mut Chance, by: u64) -> Ask {
    let store = &**all.store();
    let deed = peek::<DeedDocument>(store, &deed::key(some_chunk(chance))).await;
    let stands = deed.ok().flatten().map(|kept| kept.document.stands).unwrap_or_default();
    let objects: Vec<ObjectId> = stands
        .values()
        .filter_map(|stand| match stand {
            Stand::Object(id) => Some(*id),
            Stand::Natural(_) => None,
        })
        .collect();
    if objects.is_empty() {
        return build(chance, by);
    }
    let id = objects[chance.below(objects.len() as u64) as usize];
    let builder = match peek::<ObjectDocument>(store, &object::key(id)).await {
        Ok(Some(kept)) if kept.document.stands() => kept.document.builder.0,
        _ => by,
    };
    // Now and then somebody tries whose it is not.
    let by = if chance.below(8) == 0 { by } else { builder.max(1) };
    if chance.below(4) == 0 {
        let to = Tile::new(chance.below(SIDE_TILES.into()) as u16, chance.below(SIDE_TILES.into()) as u16);
        return Ask::Move { by, object: id, to, rotation: some_rotation(chance), wood: amount(chance) };
    }
    Ask::Demolish { by, object: id, wood: amount(chance) }
}

/// Claims, extends, gives up or gives away one of the chunks that may be claimed.
async fn land(all: &Transactions, chance: &mut Chance, by: u64) -> Ask {
    let claimable: Vec<Chunk> = chunks().filter(|chunk| chunk.x < CLAIMABLE && chunk.y < CLAIMABLE).collect();
    let chunk = claimable[chance.below(claimable.len() as u64) as usize];
    let coins = amount(chance);
    let Some((id, owner)) = holder(all, chunk).await else {
        let beside = claimable[chance.below(claimable.len() as u64) as usize];
        return match holder(all, beside).await {
            Some((holding, owner)) if chance.below(2) == 0 => Ask::Extend { by: owner, holding, chunk, coins },
            _ => Ask::Claim { by, holding: new_id(chance), chunk, coins },
        };
    };
    match chance.below(8) {
        0 => Ask::Claim { by, holding: new_id(chance), chunk, coins },
        1 => Ask::GiveUp { by, holding: id, chunk, coins },
        2..=3 => Ask::GiveAway { by: owner, holding: id, to: other_player(chance, owner), coins },
        _ => Ask::GiveUp { by: owner, holding: id, chunk, coins },
    }
}

/// The holding that has a chunk, and whose it is, as it was last written.
async fn holder(all: &Transactions, chunk: Chunk) -> Option<(ObjectId, u64)> {
    let store = &**all.store();
    let id = peek::<DeedDocument>(store, &deed::key(chunk)).await.ok()??.document.holding?;
    let held = peek::<HoldingDocument>(store, &holding::key(id)).await.ok()??.document;
    held.lists(chunk).then_some((id, held.owner.0))
}
