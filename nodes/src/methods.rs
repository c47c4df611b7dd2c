//! The calls that nodes make to one another: each method declared once, with what it carries both ways.
//!
//! Bodies are MessagePack arrays, except the report, which is JSON because people read it. Reading one NEVER panics: what
//! is not a body is an error that becomes the call's refusal.

pub mod living;

pub mod animals;
pub mod moving;

use std::collections::BTreeMap;

use bytes::Bytes;
use cartographer::geometry::{Cell, IslandId, ObjectId};
use mesh::{CallRefusal, Incarnation, MeshView, Method, NodeId, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Asks the publisher of cells for their keyframes. Body: `[[island, x, y]…]`; answer: `[frame…]`.
pub const CELLS_ASK: Method = Method::query("cells.ask", 2_000);

/// Compares what is known of cells. Body: `[[island, x, y, mask, hash]…]` of blocks; answer: `[[island, x, y]…]`, the cells
/// that differ.
pub const CELLS_VERIFY: Method = Method::query("cells.verify", 2_000);

/// Asks a frontend to expect a player: [`OpenSession`] → [`SessionOffer`]. Idempotent by session.
///
/// Refused with `full`, `draining` (another frontend may take it) or `unknown_island`.
pub const SESSION_OPEN: Method = Method::sync("session.open", 2_000);

/// Ends a session: [`CloseSession`] → nothing. A session that is not known is as good as ended.
pub const SESSION_CLOSE: Method = Method::sync("session.close", 2_000);

/// Asks the frontend that has a player to let it go to another, and waits until its document is released: [`YieldSession`] →
/// [`Yielded`]. A player that is not there is as good as released.
///
/// Refused with `ticket_used`, `replaced` or `session_ended` if the player has another session, or a later token of the same.
pub const SESSION_YIELD: Method = Method::sync("session.yield", 2_000);

/// Has the owner of a document take a step of a transaction: `estate::transaction::Step` → `Stepped`. A step that comes twice
/// or late has no effect.
///
/// Refused with `not_taken` by a node that does not hold the document (any more) or cannot save it.
pub const ESTATE_TAKE: Method = Method::sync("estate.take", 2_000);

/// How many objects of its own a node has on each island, as of the last second: nothing → `{island: count}`. A frontend's are
/// players.
pub const ISLANDS_COUNT: Method = Method::query("islands.count", 1_000);

/// What a node knows of itself and the others: nothing → [`NodeReport`], as JSON.
pub const NODE_REPORT: Method = Method::query("node.report", 1_000);

/// What a gateway asks of a frontend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// The session: made by the gateway, unguessable.
    pub session: Uuid,
    /// Who comes.
    pub player: ObjectId,
    /// Where they want to begin, if they said.
    pub island: Option<IslandId>,
}

/// What a frontend answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOffer {
    /// What the client shows at the frontend, once.
    pub ticket: String,
    /// Where the client connects: `ws://…`.
    pub url: String,
    /// How long the ticket is good for, in seconds.
    pub expires_in_s: u32,
}

/// What ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseSession {
    /// The session.
    pub session: Uuid,
    /// Whose it is.
    pub player: ObjectId,
}

/// A player that comes in elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct YieldSession {
    /// Who.
    pub player: ObjectId,
    /// The session that comes in elsewhere.
    pub session: Uuid,
    /// The turn of the token with which it comes back; none if it is a new session, which wins over any other.
    pub turn: Option<u64>,
}

/// What the document of a player that was let go does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielded {
    /// Where it was going, in 1/256 tile, and how fast, in 1/256 tile a second; none if it stood.
    pub walks: Option<((i32, i32), i32)>,
    /// The battle in which it is; 0 if it is in none.
    pub battle: u64,
}

/// What a node says of itself when asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// Who.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Its present life: the publisher in its frames.
    pub publisher: Incarnation,
    /// Its load; `None` on nodes that own no players.
    pub load: Option<ReportedLoad>,
    /// The cells that it sees, by island.
    pub vision: BTreeMap<IslandId, Vec<Run>>,
    /// What it believes of every node.
    pub mesh: MeshView,
    /// Counts of its world: `reals`, `ghosts`, ….
    pub counters: BTreeMap<String, u64>,
}

/// A load, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLoad {
    /// Players it owns now.
    pub players: u32,
    /// Players it would take at most.
    pub capacity: u32,
    /// 99th percentile of its tick time, in microseconds.
    pub tick_p99_us: u32,
    /// It is being emptied.
    pub draining: bool,
}

impl From<&crate::load::Load> for ReportedLoad {
    fn from(load: &crate::load::Load) -> ReportedLoad {
        let crate::load::Load { players, capacity, tick_p99_us, draining, .. } = *load;
        ReportedLoad { players, capacity, tick_p99_us, draining }
    }
}

/// Neighbouring cells of one row: `[y, x of the first, how many]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run(pub u16, pub u16, pub u16);

/// Cells as runs, by island. Their order does not matter, and a cell may be named twice.
pub fn runs(cells: impl IntoIterator<Item = Cell>) -> BTreeMap<IslandId, Vec<Run>> {
    let mut sorted: Vec<(IslandId, u16, u16)> = cells.into_iter().map(|c| (c.island, c.y, c.x)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut islands: BTreeMap<IslandId, Vec<Run>> = BTreeMap::new();
    for (island, y, x) in sorted {
        let runs = islands.entry(island).or_default();
        match runs.last_mut() {
            Some(Run(row, first, count)) if *row == y && u32::from(*first) + u32::from(*count) == u32::from(x) => {
                *count += 1;
            }
            _ => runs.push(Run(y, x, 1)),
        }
    }
    islands
}

/// A body as MessagePack.
pub fn pack<T: Serialize>(body: &T) -> Bytes {
    // Writing plain values to memory cannot fail; an empty body would be refused as malformed.
    rmp_serde::to_vec(body).unwrap_or_default().into()
}

/// How deep a body may be nested: more than any has, and little enough for the stack of any task.
const DEPTH: usize = 96;

/// Reads a MessagePack body.
pub fn unpack<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallRefusal> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(DEPTH);
    T::deserialize(&mut reader).map_err(CallRefusal::malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_as_they_went() {
        let open = OpenSession { session: Uuid::from_u128(7), player: ObjectId(9), island: None };
        assert_eq!(unpack::<OpenSession>(&pack(&open)).unwrap(), open);
        let offer = SessionOffer { ticket: "t".into(), url: "ws://here".into(), expires_in_s: 30 };
        assert_eq!(unpack::<SessionOffer>(&pack(&offer)).unwrap(), offer);
        assert_eq!(unpack::<OpenSession>(b"\xc0").unwrap_err().code, CallRefusal::MALFORMED);
    }

    #[test]
    fn goods_without_stacks_come_over_with_their_uniques() {
        use estate::goods::{Goods, Serial, Unique};
        let op = estate::transaction::OperationId(7);
        let axe = Unique { item: "axe".parse().unwrap(), data: serde_json::Map::new() };
        let axe = Goods::unique(Serial { op, index: 0 }, axe);
        for goods in [Goods::default(), Goods::stack("wood".parse().unwrap(), 3), axe] {
            assert_eq!(unpack::<Goods>(&pack(&goods)).unwrap(), goods);
            let what = living::GardenWhat::Put { object: ObjectId(1), goods };
            let ask = living::GardenAsk { op, player: ObjectId(2), island: IslandId(3), what };
            assert_eq!(unpack::<living::GardenAsk>(&pack(&ask)).unwrap(), ask);
        }
        assert_eq!(serde_json::to_string(&Goods::default()).unwrap(), "{}", "documents leave out what is empty");
    }

    #[test]
    fn cells_become_runs_row_by_row() {
        let cell = |island, x, y| Cell::new(IslandId(island), x, y);
        let cells =
            [cell(1, 2, 0), cell(1, 0, 0), cell(1, 1, 0), cell(1, 4, 0), cell(1, 5, 1), cell(2, 9, 9), cell(1, 4, 0)];
        let runs = runs(cells);
        assert_eq!(runs[&IslandId(1)], [Run(0, 0, 3), Run(0, 4, 1), Run(1, 5, 1)]);
        assert_eq!(runs[&IslandId(2)], [Run(9, 9, 1)]);
        assert_eq!(serde_json::to_string(&runs).unwrap(), r#"{"1":[[0,0,3],[0,4,1],[1,5,1]],"2":[[9,9,1]]}"#);
    }

    #[test]
    fn a_body_that_is_nested_without_end_is_refused_on_the_stack_of_any_task() {
        // A step's effect is whatever its sender likes: here lists within lists.
        let step = estate::transaction::Step {
            key: "player/1".to_owned(),
            intent: estate::transaction::Intent {
                arbiter: "transfer/0".to_owned(),
                op: estate::transaction::OperationId(1),
                token: 1,
            },
            act: estate::transaction::participant::Act::Guarded { effect: serde_json::Value::Array(Vec::new()) },
        };
        let whole = pack(&step);
        assert_eq!(unpack::<estate::transaction::Step>(&whole).unwrap(), step);
        let deepest =
            (0..estate::transaction::EFFECT_DEPTH).fold(serde_json::Value::Null, |v, _| serde_json::json!([v]));
        let act = estate::transaction::participant::Act::Mark { effect: deepest, closed: Some(1) };
        let deepest = estate::transaction::Step { act, ..step };
        assert_eq!(
            unpack::<estate::transaction::Step>(&pack(&deepest)).unwrap(),
            deepest,
            "what a transaction may hold"
        );
        for depth in [1_000_000, 1_000, 100] {
            // The empty list at the end becomes a list of one that begins the nest.
            let mut body = whole[..whole.len() - 1].to_vec();
            body.extend(std::iter::repeat_n(0x91, depth));
            body.push(0x90);
            let small = std::thread::Builder::new().stack_size(1 << 20);
            let read = small.spawn(move || unpack::<estate::transaction::Step>(&body).is_err()).unwrap();
            assert!(read.join().unwrap(), "{depth} levels");
        }
    }
}
