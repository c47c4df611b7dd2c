//! The questions: what is asked of the estate, and what each changes if it happens.

use std::collections::BTreeMap;

use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::goods::promise::{self, What};
use estate::goods::trade::{self, Consented};
use estate::goods::transfer::parts;
use estate::goods::{Goods, GoodsEffect, ItemName, Leg, Limits, Place, Serial, Unique, transfer};
use estate::land::works::{self, Building};
use estate::land::{By, Footprint, Rotation, claims};
use estate::store::Outcome;
use estate::transaction::{OperationId, Part, Refusal, Request, TransactionError, Transactions};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{ISLAND, Meadow, NOW_S};

/// One operation, with all that is needed to ask for it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs)] // of the fields: who does it, to what, for how much
pub enum Ask {
    /// Coins or wood come into the world.
    Gather { to: Place, item: String, amount: u64 },
    /// Coins go from one place to another.
    Transfer { from: Place, to: Place, amount: u64 },
    /// The same, and a box of its own comes to stand with a unique item in it, which tells for ever that it has happened.
    Gift { from: Place, to: Place, amount: u64, witness: u64 },
    /// Two players trade coins for wood: opened, offered, consented by both.
    Trade { players: [u64; 2], coins: u64, wood: u64 },
    /// Coins are promised to a player.
    Promise { from: Place, to: u64, amount: u64 },
    /// Experience is promised to a player.
    Teach { to: u64, amount: u64 },
    /// Something is built for wood.
    Build { by: u64, object: ObjectId, footprint: Footprint, wood: u64 },
    /// It is taken down, which costs wood as well.
    Demolish { by: u64, object: ObjectId, wood: u64 },
    /// It is moved, for wood.
    Move { by: u64, object: ObjectId, to: Tile, rotation: Rotation, wood: u64 },
    /// A chunk is claimed for coins.
    Claim { by: u64, holding: ObjectId, chunk: Chunk, coins: u64 },
    /// A chunk is added to a holding for coins.
    Extend { by: u64, holding: ObjectId, chunk: Chunk, coins: u64 },
    /// A chunk is given up; that costs coins too, so that it shows.
    GiveUp { by: u64, holding: ObjectId, chunk: Chunk, coins: u64 },
    /// A holding goes to another player, for coins of the giver.
    GiveAway { by: u64, holding: ObjectId, to: u64, coins: u64 },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It has happened, durably.
    Ok,
    /// It has not, for this reason.
    Refused(String),
    /// It has not: others were in the way.
    Busy(String),
    /// It may have happened.
    Unknown(String),
    /// What NEVER may be answered here.
    Wrong(String),
}

impl Answer {
    /// True if it tells whether the operation has happened.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Answer::Unknown(_))
    }
}

/// The number in the account under which coins, wood or others lie at a place.
pub(super) fn held(place: Place, item: &str) -> String {
    match place {
        Place::Player(id) => format!("player/{id} {item}"),
        Place::Box(id) => format!("box/{id} {item}"),
        Place::Ground { island, x, y } => format!("ground/{island}/{x}/{y} {item}"),
        Place::Mint => format!("mint {item}"),
    }
}

pub(super) fn item(name: &str) -> ItemName {
    name.parse().expect("a good name")
}

fn stack(name: &str, amount: u64) -> Goods {
    Goods::stack(item(name), amount)
}

impl Ask {
    /// A word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Ask::Gather { .. } => "gather",
            Ask::Transfer { .. } => "transfer",
            Ask::Gift { .. } => "gift",
            Ask::Trade { .. } => "trade",
            Ask::Promise { .. } => "promise",
            Ask::Teach { .. } => "teach",
            Ask::Build { .. } => "build",
            Ask::Demolish { .. } => "demolish",
            Ask::Move { .. } => "move",
            Ask::Claim { .. } => "claim",
            Ask::Extend { .. } => "extend",
            Ask::GiveUp { .. } => "give_up",
            Ask::GiveAway { .. } => "give_away",
        }
    }

    /// By how much each number of the account changes if it happens.
    pub fn account(&self) -> BTreeMap<String, i64> {
        let mut account = BTreeMap::new();
        let mut add = |key: String, change: i64| *account.entry(key).or_insert(0) += change;
        let signed = |amount: u64| i64::try_from(amount).expect("small amounts");
        match self {
            Ask::Gather { to, item, amount } => add(held(*to, item), signed(*amount)),
            Ask::Transfer { from, to, amount } | Ask::Gift { from, to, amount, .. } => {
                add(held(*from, "coin"), -signed(*amount));
                add(held(*to, "coin"), signed(*amount));
            }
            Ask::Trade { players: [one, other], coins, wood } => {
                for (player, item, change) in [
                    (one, "coin", -signed(*coins)),
                    (other, "coin", signed(*coins)),
                    (one, "wood", signed(*wood)),
                    (other, "wood", -signed(*wood)),
                ] {
                    add(held(Place::Player(*player), item), change);
                }
            }
            Ask::Promise { from, to, amount } => {
                add(held(*from, "coin"), -signed(*amount));
                add(held(Place::Player(*to), "coin"), signed(*amount));
            }
            Ask::Teach { to, amount } => add(format!("player/{to} experience"), signed(*amount)),
            Ask::Build { by, wood, .. } | Ask::Demolish { by, wood, .. } | Ask::Move { by, wood, .. } => {
                add(held(Place::Player(*by), "wood"), -signed(*wood));
            }
            Ask::Claim { by, coins, .. }
            | Ask::Extend { by, coins, .. }
            | Ask::GiveUp { by, coins, .. }
            | Ask::GiveAway { by, coins, .. } => add(held(Place::Player(*by), "coin"), -signed(*coins)),
        }
        match self {
            Ask::Gift { witness, .. } => add(format!("box/{witness} witness"), 1),
            Ask::Build { object, .. } => add(format!("object/{object}"), 1),
            Ask::Demolish { object, .. } => add(format!("object/{object}"), -1),
            Ask::Claim { chunk, .. } | Ask::Extend { chunk, .. } => add(format!("chunk/{chunk}"), 1),
            Ask::GiveUp { chunk, .. } => add(format!("chunk/{chunk}"), -1),
            _ => {}
        }
        account
    }

    /// Asks the estate.
    pub async fn ask(&self, transactions: &Transactions, op: OperationId) -> Answer {
        let result = self.run(transactions, op).await;
        let error = match result {
            Ok(()) => return Answer::Ok,
            Err(error) => error,
        };
        // A trade is many operations: only a refusal says that the others come to nothing.
        let whole = !matches!(self, Ask::Trade { .. });
        match (&error, error.outcome()) {
            (TransactionError::Stuck { .. }, _) => Answer::Wrong(error.to_string()),
            (TransactionError::Refused(Refusal { code, .. }), _)
                if matches!(code.as_str(), "misused" | "disagrees") =>
            {
                Answer::Wrong(error.to_string())
            }
            (TransactionError::Refused(refusal), _) => Answer::Refused(refusal.code.clone()),
            (_, Outcome::NotDone) if whole => Answer::Busy(error.to_string()),
            _ => Answer::Unknown(error.to_string()),
        }
    }

    async fn run(&self, all: &Transactions, op: OperationId) -> Result<(), TransactionError> {
        let pay = |by: u64, item: &str, amount: u64| -> [Part; 1] {
            [Place::Player(by).part(op, &GoodsEffect::craft(stack(item, amount), Goods::default()))]
        };
        let by = |player: &u64| By::Player(ObjectId(*player));
        match self {
            Ask::Gather { to, item, amount } => {
                // Many processes do so for one player: an arbiter of its own remembers it.
                let leg = Leg { from: Place::Mint, to: *to, goods: stack(item, *amount) };
                all.run(Request::remembered(op, parts(op, &[leg])?)).await
            }
            Ask::Transfer { from, to, amount } => {
                transfer(all, op, &[Leg { from: *from, to: *to, goods: stack("coin", *amount) }]).await
            }
            Ask::Gift { from, to, amount, witness } => {
                let mut parts = parts(op, &[Leg { from: *from, to: *to, goods: stack("coin", *amount) }])?;
                let serial = Serial { op, index: 0 };
                let unique = Goods::unique(serial, Unique { item: item("witness"), data: Map::new() });
                let limits = Some(Limits { slots: 1, per_stack: 1 });
                let opened = GoodsEffect { put: unique.clone(), limits, ..GoodsEffect::default() };
                parts.push(Place::Box(*witness).part(op, &opened));
                parts.push(Place::Mint.part(op, &GoodsEffect { create: unique, ..GoodsEffect::default() }));
                all.run(Request::transfer(op, parts)).await
            }
            Ask::Trade { players, coins, wood } => trade_all(all, op, *players, *coins, *wood).await,
            Ask::Promise { from, to, amount } => {
                promise::give(all, op, *from, *to, What::Goods(stack("coin", *amount))).await.map(drop)
            }
            Ask::Teach { to, amount } => {
                promise::give(all, op, Place::Mint, *to, What::Experience(*amount)).await.map(drop)
            }
            Ask::Build { by: player, object, footprint, wood } => {
                let building = Building {
                    id: *object,
                    kind: "hut".to_owned(),
                    island: ISLAND,
                    footprint: footprint.clone(),
                    made_s: NOW_S,
                    data: Map::new(),
                };
                works::build(all, &Meadow, op, by(player), &building, &pay(*player, "wood", *wood)).await
            }
            Ask::Demolish { by: player, object, wood } => {
                works::demolish(all, op, by(player), *object, &pay(*player, "wood", *wood)).await
            }
            Ask::Move { by: player, object, to, rotation, wood } => {
                let cost = pay(*player, "wood", *wood);
                works::move_to(all, &Meadow, op, by(player), *object, (*to, *rotation), &cost).await
            }
            Ask::Claim { by, holding, chunk, coins } => {
                let (holding, owner) = (*holding, ObjectId(*by));
                let paid_until_s = NOW_S + 1_000_000;
                let claim = claims::Claim { holding, chunk: *chunk, owner, now_s: NOW_S, paid_until_s };
                claims::claim(all, &Meadow, op, &claim, &pay(*by, "coin", *coins)).await
            }
            Ask::Extend { by, holding, chunk, coins } => {
                let cost = pay(*by, "coin", *coins);
                let (by, holding, chunk) = (ObjectId(*by), *holding, *chunk);
                claims::extend(all, &Meadow, op, &claims::Extension { by, holding, chunk, now_s: NOW_S }, &cost).await
            }
            Ask::GiveUp { by, holding, chunk, coins } => {
                claims::give_up(all, op, ObjectId(*by), *holding, *chunk, &pay(*by, "coin", *coins)).await
            }
            Ask::GiveAway { by, holding, to, coins } => {
                let cost = pay(*by, "coin", *coins);
                claims::give_away(all, op, ObjectId(*by), *holding, ObjectId(*to), &cost).await
            }
        }
    }
}

/// All that a trade needs, each step under an id that follows from the trade's: asked again, it goes on where it stood.
async fn trade_all(
    all: &Transactions,
    op: OperationId,
    [one, other]: [u64; 2],
    coins: u64,
    wood: u64,
) -> Result<(), TransactionError> {
    let step = |n: u128| OperationId(op.0 ^ n);
    trade::open(all, op, [one, other]).await?;
    trade::offer(all, step(1), op, one, stack("coin", coins)).await.or_else(after_the_end)?;
    trade::offer(all, step(2), op, other, stack("wood", wood)).await.or_else(after_the_end)?;
    trade::consent(all, step(3), op, one, 2).await?;
    match trade::consent(all, step(4), op, other, 2).await? {
        Consented::Done => Ok(()),
        Consented::Waiting => {
            Err(TransactionError::Unknown { op, why: "both have consented and one still waits".to_owned() })
        }
    }
}

/// A trade that is over takes no offers, also not those that led to it: the consents tell what became of it.
fn after_the_end(error: TransactionError) -> Result<(), TransactionError> {
    match &error {
        TransactionError::Refused(refusal) if refusal.code == "done" => Ok(()),
        _ => Err(error),
    }
}
