//! Land on a small made-up island, over the store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::checks::disagreements;
use super::footprint::{Footprint, Rotation};
use super::holding::HoldingDocument;
use super::works::Building;
use super::{By, Grounds, claims, works};
use crate::document::{Document, Migration, encode};
use crate::store::memory::{MemoryStore, Rates};
use crate::store::{Store, Stored, WriteOptions};
use crate::transaction::{
    Kind, Kinds, Marks, NoOwners, OperationId, Part, REMEMBERED, Refusal, Request, TransactionError, Transactions,
};

mod broken;
mod claiming;
mod footprints;
mod natural;
mod working;

const ISLAND: IslandId = IslandId(7);
/// No multiple of a chunk: the last chunks are cut by the edge.
const SIZE: (u16, u16) = (200, 150);

/// Land but for a lake, with a natural object here and there.
#[derive(Debug)]
struct Meadow;

impl Meadow {
    const LAKE: Tile = Tile::new(64, 64);
    const TREE: Tile = Tile::new(5, 5);
    const TREE_NUMBER: u32 = 12;
}

impl Grounds for Meadow {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island == ISLAND).then_some(SIZE)
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        let lake = (64..96).contains(&tile.x) && (64..96).contains(&tile.y);
        island == ISLAND && tile.is_within(SIZE) && !lake
    }

    fn natural(&self, island: IslandId, tile: Tile) -> u32 {
        let tree = tile == Meadow::TREE || (tile.x % 37 == 36 && tile.y % 41 == 40);
        if tree && self.buildable(island, tile) { Meadow::TREE_NUMBER } else { 0 }
    }
}

/// A purse that pays: what an operation costs, as far as land is concerned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PurseDocument {
    v: u32,
    coins: i64,
    #[serde(default)]
    marks: Marks,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Document for PurseDocument {
    const KIND: &'static str = "purse";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

#[derive(Clone, Copy, Debug)]
struct PurseKind;

impl Kind for PurseKind {
    type Document = PurseDocument;
    type Effect = i64;

    fn born(&self, _key: &str) -> Result<PurseDocument, Refusal> {
        Ok(PurseDocument { v: 1, coins: 0, marks: Marks::default(), rest: Map::new() })
    }

    fn marks<'a>(&self, document: &'a mut PurseDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut PurseDocument, effect: &i64) -> Result<(), Refusal> {
        document.coins += effect;
        if document.coins < 0 { Err(Refusal::new("too_little", "the purse is empty")) } else { Ok(()) }
    }

    fn is_blank(&self, _key: &str, document: &PurseDocument) -> bool {
        document.coins == 0
    }
}

fn price(coins: i64) -> Part {
    Part::new::<PurseKind>("purse/1", &-coins)
}

/// A store with land, and two nodes that work on it.
struct World {
    store: MemoryStore,
    node: Transactions,
    other: Transactions,
}

impl World {
    fn new() -> World {
        World::seeded(0)
    }

    /// Every call to the store takes a little time, drawn from the seed, so that what is done at once is interleaved.
    fn seeded(seed: u64) -> World {
        let store = MemoryStore::new();
        let node = |number: u64| {
            let kinds = super::kinds(Kinds::default(), Arc::new(Meadow)).with(PurseKind);
            let client = store.client();
            client.faults().random(seed * 2 + number, Rates { delay: Duration::from_millis(3), ..Rates::default() });
            Transactions::new(Arc::new(client), kinds, Arc::new(NoOwners { all_gone: false }), number << 40)
        };
        World { node: node(1), other: node(2), store }
    }

    async fn put(&self, key: &str, text: &str) {
        let value = Bytes::copy_from_slice(text.as_bytes());
        self.store.insert(key, value, WriteOptions::default()).await.expect("insert");
    }

    /// Documents that hold something: tombstones and memories aside, which go by themselves.
    fn documents(&self) -> BTreeMap<String, Stored> {
        self.store.snapshot()
    }

    fn text(&self, key: &str) -> String {
        self.documents().get(key).map_or(String::new(), |stored| String::from_utf8_lossy(&stored.value).into_owned())
    }

    /// All is well, as it is seen and after all that is only memory has gone; gives the keys that are left.
    async fn settled(&self) -> Vec<String> {
        assert_eq!(disagreements(&self.documents(), &Meadow), Vec::<String>::new());
        tokio::time::advance(REMEMBERED * 2).await;
        let left = self.documents();
        assert_eq!(disagreements(&left, &Meadow), Vec::<String>::new());
        left.into_keys().collect()
    }

    async fn fill_purse(&self, coins: i64) {
        let part = Part::new::<PurseKind>("purse/1", &coins);
        self.node.run(Request::transfer(OperationId(u128::MAX), vec![part])).await.expect("coins");
    }

    fn coins(&self) -> i64 {
        let purse = self.text("purse/1");
        if purse.is_empty() { 0 } else { serde_json::from_str::<PurseDocument>(&purse).expect("purse").coins }
    }

    async fn build(&self, op: u128, by: By, id: u64, footprint: Footprint) -> Result<(), TransactionError> {
        works::build(&self.node, &Meadow, OperationId(op), by, &hut(id, footprint), &[]).await
    }

    async fn claim(&self, op: u128, owner: u64, holding: u64, chunk: Chunk) -> Result<(), TransactionError> {
        claims::claim(&self.node, &Meadow, OperationId(op), &claim_of(owner, holding, chunk), &[]).await
    }

    async fn whose(&self, chunk: Chunk) -> Option<HoldingDocument> {
        claims::whose(&self.other, chunk).await.expect("whose")
    }
}

const NOW_S: u64 = 1_000_000;
const PAID_UNTIL_S: u64 = NOW_S + 1_000;

const ANN: By = By::Player(ObjectId(1));
const BOB: By = By::Player(ObjectId(2));

fn claim_of(owner: u64, holding: u64, chunk: Chunk) -> claims::Claim {
    let (holding, owner) = (ObjectId(holding), ObjectId(owner));
    claims::Claim { holding, chunk, owner, now_s: NOW_S, paid_until_s: PAID_UNTIL_S }
}

fn hut(id: u64, footprint: Footprint) -> Building {
    let (id, kind) = (ObjectId(id), "hut".to_owned());
    Building { id, kind, island: ISLAND, footprint, made_s: NOW_S, data: Map::new() }
}

fn chunk(x: u16, y: u16) -> Chunk {
    Chunk { island: ISLAND, x, y }
}

fn rectangle(x: u16, y: u16, width: u8, height: u8) -> Footprint {
    Footprint::new(Tile::new(x, y), width, height, Rotation::R0).expect("footprint")
}

/// The code of a refusal; empty for success, and what else went wrong in full.
fn code(result: Result<(), TransactionError>) -> String {
    match result {
        Ok(()) => String::new(),
        Err(TransactionError::Refused(refusal)) => refusal.code,
        Err(error) => error.to_string(),
    }
}

/// Puts a document there as somebody's hand might.
async fn overwrite<D: Document>(world: &World, key: &str, document: &D) {
    let stored = world.documents().remove(key).expect("a document to overwrite");
    let value = encode(document).expect("encode");
    world.store.replace(key, value, stored.version, WriteOptions::default()).await.expect("replace");
}
