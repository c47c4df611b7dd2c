//! What `bench estate` does over and over: transfers, trades, builds and claims, each on documents of its own task or all on
//! the same few.
//!
//! Every operation is the estate's own, with an id of its own, as a node asks for it. A task NEVER touches another's
//! documents unless the part is a hot one.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use estate::goods::{self, Goods, GoodsEffect, ItemName, Leg, Place};
use estate::kinds;
use estate::land::works::{self, Building};
use estate::land::{By, Footprint, Grounds, Rotation, claims};
use estate::player::{self, Birth};
use estate::store::Store;
use estate::transaction::{NoOwners, OperationId, Part, TransactionError, Transactions};
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// Players of each task; with one more task's for warming up and recording.
pub(super) const PLAYERS: u64 = 64;
/// Players of the hot parts.
pub(super) const HOT_PLAYERS: u64 = 8;
/// Chunks on which the hot part builds, of one ledger.
pub(super) const HOT_CHUNKS: u64 = 3;
/// Chunks of which one ledger is asked.
pub(super) const LEDGER_CHUNKS: u64 = 9;

/// What each player has of each item at the beginning: half a bag.
const WEALTH: u64 = 30_000;
/// Players made at a time.
const AT_A_TIME: usize = 256;

/// The side of an island, in tiles and in chunks.
const SIDE_TILES: u16 = 4_096;
const SIDE_CHUNKS: u64 = 256;
/// Places to build on in a chunk: a grid of 7 × 7.
const PLACES: u64 = 49;

/// Some second of 2026; the estate has no clock.
const NOW_S: u64 = 1_780_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// One player gives another a coin.
    Transfer,
    /// Two players open a trade, offer, consent, and swap.
    Trade,
    /// A player builds and pays for it.
    Build,
    /// A player claims a chunk and pays for it.
    Claim,
}

impl Work {
    pub(super) const ALL: [Work; 4] = [Work::Transfer, Work::Trade, Work::Build, Work::Claim];

    pub(super) fn name(self) -> &'static str {
        match self {
            Work::Transfer => "transfer",
            Work::Trade => "trade",
            Work::Build => "build",
            Work::Claim => "claim",
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): keys and ids that differ.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    fn op(&mut self) -> OperationId {
        OperationId((u128::from(self.bits()) << 64) | u128::from(self.bits()))
    }

    fn id(&mut self) -> ObjectId {
        ObjectId(player::id_from_random(self.bits()))
    }
}

/// Islands of grass with four natural objects in every chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prairie;

impl Grounds for Prairie {
    fn size(&self, island: IslandId) -> Option<(u16, u16)> {
        (island.0 > 0).then_some((SIDE_TILES, SIDE_TILES))
    }

    fn buildable(&self, island: IslandId, tile: Tile) -> bool {
        self.size(island).is_some_and(|size| tile.is_within(size))
    }

    fn natural(&self, island: IslandId, tile: Tile) -> u32 {
        u32::from(self.buildable(island, tile) && tile.x % 16 == 15 && tile.y % 4 == 3) * 7
    }
}

/// One task's own: which documents it has, and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub(super) task: u64,
    pub(super) chance: Chance,
    shared: bool,
    count: u64,
    /// What it built or claimed last in a hot part, to be taken away again.
    standing: Option<ObjectId>,
}

impl Hand {
    pub(super) fn new(task: usize, shared: bool, seed: u64) -> Hand {
        let task = task as u64;
        let mut chance = Chance(seed ^ task.wrapping_mul(0x5851_f42d_4c95_7f2d));
        // Every part begins elsewhere on the task's island.
        let count = chance.below(SIDE_CHUNKS * SIDE_CHUNKS);
        Hand { task, chance, shared, count, standing: None }
    }

    fn player(&mut self) -> u64 {
        let n = self.chance.below(if self.shared { HOT_PLAYERS } else { PLAYERS });
        if self.shared { hot_player(n) } else { 1 + self.task * PLAYERS + n }
    }

    fn two_players(&mut self) -> [u64; 2] {
        let one = self.player();
        loop {
            let other = self.player();
            if other != one {
                return [one, other];
            }
        }
    }

    /// The next place on the task's island; in a hot part always the same. Chunk, and a number within it.
    fn place(&mut self, work: Work) -> (Chunk, u64) {
        if self.shared && work == Work::Build {
            let n = self.task % HOT_CHUNKS;
            return (Chunk { island: IslandId(1), x: n as u16, y: 0 }, self.task / HOT_CHUNKS);
        }
        if self.shared {
            // Two claims never fit one chunk: as many chunks as there are tasks, of few ledgers.
            let (ledger, n) = (self.task / LEDGER_CHUNKS, self.task % LEDGER_CHUNKS);
            let (x, y) = (3 * ledger + n % 3, SIDE_CHUNKS / 2 + n / 3);
            return (Chunk { island: IslandId(1), x: x as u16, y: y as u16 }, 0);
        }
        self.count += 1;
        // An odd factor visits every chunk before any twice, and never a neighbour next.
        let all = SIDE_CHUNKS * SIDE_CHUNKS;
        let n = self.count.wrapping_mul(40_503) % all;
        let chunk =
            Chunk { island: IslandId(2 + self.task as u32), x: (n % SIDE_CHUNKS) as u16, y: (n / SIDE_CHUNKS) as u16 };
        (chunk, self.count / all)
    }
}

fn hot_player(n: u64) -> u64 {
    1_000_000 + n
}

fn item(name: &str) -> Result<ItemName> {
    Ok(name.parse()?)
}

/// Transactions over a store with players in it.
pub(super) struct World {
    pub(super) transactions: Transactions,
    coin: ItemName,
    wood: ItemName,
}

impl World {
    pub(super) fn new(store: Arc<dyn Store>, seed: u64) -> Result<World> {
        let owners = Arc::new(NoOwners { all_gone: true });
        let transactions = Transactions::new(store, kinds::all(Arc::new(Prairie)), owners, seed);
        Ok(World { transactions, coin: item("coin")?, wood: item("wood")? })
    }

    /// Makes the players of `tasks` tasks and of the hot parts, with coins and wood.
    pub(super) async fn people(&self, tasks: u64, chance: &mut Chance) -> Result<()> {
        let ids = (1..=tasks * PLAYERS).chain((0..HOT_PLAYERS).map(hot_player));
        let making = ids.map(|id| {
            let op = chance.op();
            async move {
                let store = &**self.transactions.store();
                let birth = Birth { hue: 120, island: 1, x: 4_096, y: 4_096 };
                player::create(store, id, "bench", &format!("player {id}"), &birth).await?;
                let mut goods = Goods::stack(self.coin.clone(), WEALTH);
                goods.add(&Goods::stack(self.wood.clone(), WEALTH))?;
                let leg = Leg { from: Place::Mint, to: Place::Player(id), goods };
                goods::transfer(&self.transactions, op, &[leg]).await?;
                anyhow::Ok(())
            }
        });
        let done: Result<Vec<()>> = stream::iter(making).buffer_unordered(AT_A_TIME).try_collect().await;
        done.map(drop).context("players could not be made")
    }

    /// Does it once. `Ok(false)` if in a hot part others were in the way for too long.
    pub(super) async fn once(&self, work: Work, hand: &mut Hand) -> Result<bool> {
        let done = match work {
            Work::Transfer => self.transfer(hand).await,
            Work::Trade => self.trade(hand).await,
            Work::Build => self.build(hand).await,
            Work::Claim => self.claim(hand).await,
        };
        match done {
            Ok(()) => Ok(true),
            Err(TransactionError::Busy(_) | TransactionError::Unknown { .. }) if hand.shared => Ok(false),
            Err(error) => bail!("a {} failed: {error}", work.name()),
        }
    }

    async fn transfer(&self, hand: &mut Hand) -> Result<(), TransactionError> {
        let [from, to] = hand.two_players().map(Place::Player);
        let leg = Leg { from, to, goods: Goods::stack(self.coin.clone(), 1) };
        goods::transfer(&self.transactions, hand.chance.op(), &[leg]).await
    }

    async fn trade(&self, hand: &mut Hand) -> Result<(), TransactionError> {
        let (all, players) = (&self.transactions, hand.two_players());
        let trade = hand.chance.op();
        goods::trade::open(all, trade, players).await?;
        let offers = [Goods::stack(self.coin.clone(), 1), Goods::stack(self.wood.clone(), 1)];
        for (player, offer) in players.into_iter().zip(offers) {
            goods::trade::offer(all, hand.chance.op(), trade, player, offer).await?;
        }
        for player in players {
            goods::trade::consent(all, hand.chance.op(), trade, player, 2).await?;
        }
        Ok(())
    }

    /// One piece of wood, used up by a player of this task.
    fn cost(&self, payer: u64, op: OperationId) -> Part {
        let effect = GoodsEffect::craft(Goods::stack(self.wood.clone(), 1), Goods::default());
        Place::Player(payer).part(op, &effect)
    }

    /// Builds; in a hot part every second call takes away again what the one before has built.
    async fn build(&self, hand: &mut Hand) -> Result<(), TransactionError> {
        let (op, payer) = (hand.chance.op(), hand.player());
        let by = By::Player(ObjectId(1 + hand.task));
        let cost = [self.cost(payer, op)];
        if let Some(id) = hand.standing {
            works::demolish(&self.transactions, op, by, id, &cost).await?;
            hand.standing = None;
            return Ok(());
        }
        let (chunk, place) = hand.place(Work::Build);
        let place = place % PLACES;
        let origin = Tile::new(chunk.x * 16 + 2 * (place % 7) as u16, chunk.y * 16 + 2 * (place / 7) as u16);
        let building = Building {
            id: hand.chance.id(),
            kind: "hut".to_owned(),
            island: chunk.island,
            footprint: Footprint::new(origin, 2, 2, Rotation::R0)?,
            made_s: NOW_S,
            data: serde_json::Map::new(),
        };
        works::build(&self.transactions, &Prairie, op, by, &building, &cost).await?;
        hand.standing = hand.shared.then_some(building.id);
        Ok(())
    }

    /// Claims a chunk; in a hot part every second call gives it up again.
    async fn claim(&self, hand: &mut Hand) -> Result<(), TransactionError> {
        let (op, payer) = (hand.chance.op(), hand.player());
        let owner = ObjectId(1 + hand.task);
        let cost = [self.cost(payer, op)];
        let (chunk, _) = hand.place(Work::Claim);
        if let Some(holding) = hand.standing {
            claims::give_up(&self.transactions, op, owner, holding, chunk, &cost).await?;
            hand.standing = None;
            return Ok(());
        }
        let holding = hand.chance.id();
        let claim = claims::Claim { holding, chunk, owner, now_s: NOW_S, paid_until_s: NOW_S + 86_400 };
        claims::claim(&self.transactions, &Prairie, op, &claim, &cost).await?;
        hand.standing = hand.shared.then_some(holding);
        Ok(())
    }
}
