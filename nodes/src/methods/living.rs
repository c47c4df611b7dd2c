//! The calls by which the living world works: who watches what, what gardens do for players, battles, and people.
//!
//! A refusal's code is one that clients are told as it is. Whatever changes goods or land goes on the commit lane under the
//! operation's id.

use cartographer::geometry::{Cell, IslandId, ObjectId, Place, Tile};
use estate::goods::Goods;
use estate::transaction::{OperationId, TransactionError};
use mesh::{CallRefusal, Method, NodeId};
use serde::{Deserialize, Serialize};

use crate::protocol::codes;

/// Tells a zoo or garden which cells the players of a frontend see: [`Watch`] → nothing. Refused with `again` if something
/// was missed: all of it is told then.
pub const WATCH_CELLS: Method = Method::sync("watch.cells", 1_000);

/// Cells that players see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Counts the messages from this life of the frontend to this life of the peer.
    pub seq: u64,
    /// `added` is all there is; else it is the change since the message before, or nothing: then it asks whether anything was
    /// missed.
    pub whole: bool,
    /// Cells now seen.
    pub added: Vec<Cell>,
    /// Cells no longer seen.
    pub removed: Vec<Cell>,
}

/// Has a garden do something for a player: [`GardenAsk`] → [`GardenAnswer`], once for each operation id.
pub const GARDEN_DO: Method = Method::commit("garden.do", 6_000);

/// What a garden is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GardenAsk {
    /// The operation, derived on the node that asks.
    pub op: OperationId,
    /// For whom. The frontend has checked that it is within reach, and alive.
    pub player: ObjectId,
    /// The island.
    pub island: IslandId,
    /// What.
    pub what: GardenWhat,
}

/// What a garden does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GardenWhat {
    /// A stroke at the natural object on a tile.
    Gather {
        /// The tile.
        tile: Tile,
        /// The tools that the player has, such as `axe`.
        tools: Vec<String>,
    },
    /// Builds.
    Build {
        /// A name of the content.
        facility: String,
        /// Its upper left tile.
        tile: Tile,
        /// Quarters clockwise, 0 to 3.
        turned: u8,
    },
    /// Takes down.
    Demolish {
        /// The facility.
        object: ObjectId,
    },
    /// Opens or shuts a door, lights a hearth.
    Use {
        /// The facility.
        object: ObjectId,
    },
    /// From the bag into a box.
    Put {
        /// The box.
        object: ObjectId,
        /// What.
        goods: Goods,
    },
    /// Out of a box into the bag.
    Take {
        /// The box.
        object: ObjectId,
        /// What.
        goods: Goods,
    },
    /// Looks into a box.
    Look {
        /// The box.
        object: ObjectId,
    },
    /// Claims a chunk, or extends the player's holding by it. A player's holding has the player's number.
    Claim {
        /// The chunk's column and row.
        chunk: (u16, u16),
    },
    /// Gives up a chunk of the player's holding.
    GiveUp {
        /// The chunk's column and row.
        chunk: (u16, u16),
    },
}

/// What a garden answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GardenAnswer {
    /// It is done.
    Done,
    /// It is done, and this is its number.
    Made(ObjectId),
    /// What the box holds now.
    Holds(Goods),
}

/// The code by which a call about a battle or a fighter is refused that is at another node now. The text is the node's name, or
/// empty if that is not known yet. It goes between nodes only: clients are NEVER told it.
pub const ELSEWHERE: &str = "elsewhere";

/// Begins a battle, or joins the one in which the target is already: [`BattleOpen`] → the battle's number (u64).
pub const BATTLE_OPEN: Method = Method::sync("battle.open", 3_000);
/// Joins a battle: [`BattleJoin`] → nothing. A fighter that is in it already has a new owner from then on: the caller.
pub const BATTLE_JOIN: Method = Method::sync("battle.join", 3_000);
/// Does something in a battle: [`BattleAct`] → nothing; the exchange comes with the battle's view.
pub const BATTLE_ACT: Method = Method::sync("battle.act", 2_000);
/// Takes a fighter out of a battle because its owner wants it so (it logs out, its island sinks): [`BattleLeave`] → nothing.
pub const BATTLE_LEAVE: Method = Method::sync("battle.leave", 2_000);
/// Asks a colosseum to go on with a battle whose colosseum is gone or empties itself: the battle's number (u64) → nothing, also
/// if it is there already. Refused with `missing` if it is over: control is the owner's again; with [`ELSEWHERE`] if another
/// colosseum leads it.
pub const BATTLE_RESUME: Method = Method::sync("battle.resume", 4_000);

/// Hands a fighter over to a battle, colosseum → owner: [`FighterTake`] → [`Fighter`]. Refused with `missing`, `defeated`, or
/// `in_battle` with the number of the other battle as text.
pub const FIGHTER_TAKE: Method = Method::sync("fighter.take", 2_000);
/// Tells the owner a fighter's health, colosseum → owner: [`FighterTold`]; the latest wins.
pub const FIGHTER_TOLD: Method = Method::send("fighter.told");
/// Gives a fighter back to its owner, colosseum → owner: [`FighterFreed`] → nothing. One that is not in this battle is left
/// as it is. Refused with [`ELSEWHERE`] by a node that has just handed the fighter over: its new owner joins in a moment.
pub const FIGHTER_FREED: Method = Method::sync("fighter.freed", 2_000);

/// Somebody who can fight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fighter {
    /// Who.
    pub object: ObjectId,
    /// Who owns it.
    pub node: NodeId,
    /// 0 players, 1 animals.
    pub side: u8,
    /// Its player's name, or its species.
    pub name: String,
    /// Its health in percent.
    pub health: u8,
    /// What its blow takes, in percent of a player's health.
    pub harm: u8,
    /// How many percent of a player's health its whole health is worth.
    pub toughness: u16,
    /// How readily it flees, 0 to 100.
    pub fear: u8,
}

/// How a battle begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BattleOpen {
    /// The number that the battle gets if it is a new one.
    pub battle: u64,
    /// Where.
    pub island: IslandId,
    /// Where.
    pub place: Place,
    /// Who begins it.
    pub opener: Fighter,
    /// Whom they attack.
    pub target: ObjectId,
    /// Who owns the target.
    pub target_node: NodeId,
}

/// How somebody joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BattleJoin {
    /// Which battle.
    pub battle: u64,
    /// Who.
    pub fighter: Fighter,
}

/// A fighter's command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BattleAct {
    /// Which battle.
    pub battle: u64,
    /// Who.
    pub actor: ObjectId,
    /// 0 a blow, 1 a guard, 2 a heavy blow, 3 flight.
    pub blow: u8,
    /// Whom.
    pub target: ObjectId,
    /// The number of the player's command: it comes back in the exchange.
    pub cause: u64,
}

/// Who must go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BattleLeave {
    /// Which battle.
    pub battle: u64,
    /// Who.
    pub object: ObjectId,
}

/// Whose control is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FighterTake {
    /// For which battle.
    pub battle: u64,
    /// Who.
    pub object: ObjectId,
}

/// How a fighter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FighterTold {
    /// In which battle.
    pub battle: u64,
    /// Who.
    pub object: ObjectId,
    /// Its health in percent.
    pub health: u8,
}

/// How a fighter comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FighterFreed {
    /// From which battle.
    pub battle: u64,
    /// Who.
    pub object: ObjectId,
    /// Its health in percent; 0: it was defeated.
    pub health: u8,
    /// How.
    pub how: Freed,
}

/// How a battle ended for one of its fighters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freed {
    /// Its side won, or the others fled.
    Won,
    /// It got away, or was taken out.
    Left,
    /// It was defeated.
    Defeated,
}

/// Somebody says something: [`Saying`]. Goes to every frontend of the district; each tells its own who hear it.
pub const PEOPLE_CHAT: Method = Method::send("people.chat");
/// A party or a trade has changed: [`Changed`]. Whoever has one of the players looks again and tells them.
pub const PEOPLE_CHANGED: Method = Method::send("people.changed");
/// Tells players something: [`Note`].
pub const PEOPLE_NOTE: Method = Method::send("people.note");

/// What somebody says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// 0 near, 1 party, 2 island.
    pub channel: u8,
    /// Who.
    pub player: ObjectId,
    /// Their name.
    pub name: String,
    /// What.
    pub text: String,
    /// Where they are.
    pub island: IslandId,
    /// Where they are.
    pub place: Place,
    /// Their party; 0 if they are in none.
    pub party: u64,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Whom it concerns.
    pub players: Vec<ObjectId>,
    /// What.
    pub what: ChangedWhat,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangedWhat {
    /// The party in which they are.
    Party,
    /// A trade, by its number on the wire.
    Trade(u64),
    /// Their bag, by a promise that may be kept now.
    Promise,
}

/// Something that players should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whom to tell.
    pub players: Vec<ObjectId>,
    /// As in the `note` message of the client protocol.
    pub code: String,
    /// For people.
    pub text: String,
    /// As in the message.
    pub number: u64,
}

/// What a client is told when a transaction gives no success.
pub fn refusal(error: &TransactionError) -> CallRefusal {
    match error {
        TransactionError::Refused(refusal) => CallRefusal::new(&refusal.code, refusal.why.clone()),
        TransactionError::Busy(_) => CallRefusal::new(codes::BUSY, error.to_string()),
        other if other.outcome() == estate::store::Outcome::NotDone => {
            CallRefusal::new(codes::UNAVAILABLE, error.to_string())
        }
        _ => CallRefusal::new(codes::UNKNOWN, error.to_string()),
    }
}
