//! From documents to what is seen of them: each thing as a function of time.
//!
//! A hearth that goes out and a tree that grows change by themselves; what they will look like, and when, is known from
//! their documents. Everything here is a pure function of documents, content and the time that is handed in.

use cartographer::geometry::{Chunk, ObjectId, Place};
use estate::land::nature::{Growth, Nature, SORT};
use estate::land::{ObjectDocument, Rotation};
use serde_json::{Map, Value};

use crate::game::content::{Content, Natural};
use crate::game::land_marker;
use crate::game::thing::{Thing, state};

/// Changes of one thing that are foreseen, at most; it is read again before they are used up.
const FORESEEN: usize = 32;

/// What a facility's document keeps.
pub(super) mod field {
    /// Whether a door stands open.
    pub(in crate::garden) const OPEN: &str = "open";
    /// Until when a hearth burns, in seconds since 1970.
    pub(in crate::garden) const LIT_UNTIL_S: &str = "lit_until_s";
}

/// What is seen of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Its number.
    pub(super) id: ObjectId,
    /// Where it stands: the middle of its upper left tile.
    pub(super) place: Place,
    /// What it is now.
    pub(super) now: Thing,
    /// What it becomes by itself, and when, in seconds since 1970.
    pub(super) later: Vec<(u64, Thing)>,
}

/// How a natural object grows.
pub(super) fn growth(natural: &Natural) -> Growth {
    Growth { strokes: natural.strokes.max(1), regrow_s: natural.regrow_s }
}

/// An object, as it is seen from `now_s` on.
pub(super) fn shown(object: &ObjectDocument, content: &Content, now_s: u64) -> Shown {
    let (id, place) = (object.id, object.footprint.origin().centre());
    let (now, later) = match Nature::of(object) {
        Some(nature) => grows(&nature, content, now_s),
        None => stands(object, now_s),
    };
    Shown { id, place, now, later }
}

/// A natural object that is whole again at `now_s`, and how it was read.
pub(super) fn whole(object: &ObjectDocument, content: &Content, now_s: u64) -> Option<Nature> {
    let nature = Nature::of(object).filter(|_| object.kind == SORT)?;
    let growth = growth(content.naturals.get(&nature.name)?);
    (nature.whole_at_s(growth) <= now_s).then_some(nature)
}

/// The mark of a chunk that belongs to a holding.
pub(super) fn land(chunk: Chunk, holding: ObjectId) -> Option<Shown> {
    let place = chunk.first_tile()?.centre();
    Some(Shown { id: land_marker(chunk), place, now: Thing::Land { holding: holding.0 }, later: Vec::new() })
}

/// Whether a door stands open.
pub(super) fn is_open(data: &Map<String, Value>) -> bool {
    data.get(field::OPEN).and_then(Value::as_bool).unwrap_or(false)
}

/// Until when a hearth burns.
pub(super) fn lit_until_s(data: &Map<String, Value>) -> u64 {
    data.get(field::LIT_UNTIL_S).and_then(Value::as_u64).unwrap_or(0)
}

fn grows(nature: &Nature, content: &Content, now_s: u64) -> (Thing, Vec<(u64, Thing)>) {
    let thing = |left: u32, strokes: u32| {
        // At most 100.
        let percent = (u64::from(left.min(strokes)) * 100 / u64::from(strokes.max(1))) as u8;
        let state = if left == 0 { state::USED_UP } else { 0 };
        Thing::Nature { natural: nature.name.clone(), state, left: percent }
    };
    // What the content does not know any more does not grow.
    let Some(natural) = content.naturals.get(&nature.name) else {
        return (thing(nature.left, nature.left.max(1)), Vec::new());
    };
    let growth = growth(natural);
    let now = nature.at(growth, now_s);
    let step = |n: u32| (now.since_s.saturating_add(u64::from(n).saturating_mul(growth.regrow_s.max(1))), now.left + n);
    let steps = (1..=growth.strokes.saturating_sub(now.left)).take(FORESEEN).map(step);
    let later = steps.map(|(at_s, left)| (at_s, thing(left, growth.strokes))).collect();
    (thing(now.left, growth.strokes), later)
}

fn stands(object: &ObjectDocument, now_s: u64) -> (Thing, Vec<(u64, Thing)>) {
    let (width, height) = object.footprint.size();
    let turned = match object.footprint.rotation() {
        Rotation::R0 => 0,
        Rotation::R90 => 1,
        Rotation::R180 => 2,
        Rotation::R270 => 3,
    };
    let open = if is_open(&object.data) { state::OPEN } else { 0 };
    let facility = |state: u8| Thing::Facility {
        facility: object.kind.clone(),
        state,
        builder: object.builder.0,
        extent: (width, height, turned),
    };
    let until_s = lit_until_s(&object.data);
    if until_s > now_s {
        return (facility(open | state::LIT), vec![(until_s, facility(open))]);
    }
    (facility(open), Vec::new())
}
