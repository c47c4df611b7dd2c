//! Natural objects that were touched: felled, half dug, grown again as time passes.
//!
//! An untouched natural object is a number in a deed. The first stroke at it makes it an object document of sort [`SORT`];
//! how much of it is left is a function of time ([`Nature::at`]), so that it grows without anybody looking. Once it is whole
//! again, [`restore`] makes it a number in its deed. A stroke is guarded by what was read: of two who take the last one,
//! exactly one has it. It NEVER reads a clock, and knows of a natural object only what its [`Growth`] says.

use cartographer::geometry::{IslandId, ObjectId, Tile};
use serde_json::{Map, Value};

use super::deed::{DeedAct, Stand};
use super::footprint::{Footprint, Rotation, index_in_chunk};
use super::object::{Creation, ObjectDocument, ObjectEffect, ObjectKind};
use super::survey::{Acts, Survey, Surveys, object_as_read};
use super::works::{self, check_by, check_within, missing, or_changed};
use super::{By, Grounds, check_id, codes, ledger, object};
use crate::transaction::{OperationId, Part, Refusal, Request, TransactionError, Transactions};

/// The sort of the objects that touched natural objects are.
pub const SORT: &str = "nature";

/// How often [`gather`] reads again because others were at the same thing.
const GRABS: u32 = 32;

/// How a natural object is used up and grows again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Strokes that a whole one has, at least 1.
    pub strokes: u32,
    /// How long one stroke takes to grow again, in seconds.
    pub regrow_s: u64,
}

/// A natural object that was touched, as its document's data says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nature {
    /// The number that it has in a deed.
    pub natural: u32,
    /// What it is called.
    pub name: String,
    /// Strokes that were left at `since_s`.
    pub left: u32,
    /// From when on the next stroke grows, in seconds since 1970.
    pub since_s: u64,
}

impl Nature {
    /// What an object's document says; nothing if it is no natural object or says it wrongly.
    pub fn of(document: &ObjectDocument) -> Option<Nature> {
        let number = |name: &str| document.data.get(name).and_then(Value::as_u64);
        if document.kind != SORT {
            return None;
        }
        Some(Nature {
            natural: u32::try_from(number("natural")?).ok().filter(|natural| *natural != 0)?,
            name: document.data.get("name")?.as_str()?.to_owned(),
            left: u32::try_from(number("left")?).ok()?,
            since_s: number("since_s")?,
        })
    }

    /// As it is at `now_s`: what has grown counted as left. A clock that is behind grows nothing.
    #[must_use]
    pub fn at(&self, growth: Growth, now_s: u64) -> Nature {
        let grown = now_s.saturating_sub(self.since_s) / growth.regrow_s.max(1);
        let wanted = u64::from(growth.strokes.saturating_sub(self.left));
        let (left, since_s) = if grown >= wanted {
            (growth.strokes, self.since_s.max(now_s))
        } else {
            // Below `strokes`, and not later than now.
            (self.left + grown as u32, self.since_s + grown * growth.regrow_s.max(1))
        };
        Nature { left, since_s, ..self.clone() }
    }

    /// When it is whole again, in seconds since 1970.
    pub fn whole_at_s(&self, growth: Growth) -> u64 {
        let wanted = u64::from(growth.strokes.saturating_sub(self.left));
        self.since_s.saturating_add(wanted.saturating_mul(growth.regrow_s.max(1)))
    }

    /// After a stroke at `now_s`; nothing if it is used up.
    pub fn struck(&self, growth: Growth, now_s: u64) -> Option<Nature> {
        let now = self.at(growth, now_s);
        let left = now.left.checked_sub(1)?;
        Some(Nature { left, ..now })
    }

    fn data(&self) -> Map<String, Value> {
        let mut data = self.state();
        data.insert("natural".to_owned(), self.natural.into());
        data.insert("name".to_owned(), self.name.as_str().into());
        data
    }

    /// What a stroke changes, and what it must find.
    fn state(&self) -> Map<String, Value> {
        Map::from_iter([("left".to_owned(), self.left.into()), ("since_s".to_owned(), self.since_s.into())])
    }
}

/// The first stroke at a natural object.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// The new object's number: the same when it is asked for again.
    pub id: ObjectId,
    /// The island.
    pub island: IslandId,
    /// The tile.
    pub tile: Tile,
    /// What it becomes.
    pub nature: Nature,
    /// Now, in seconds since 1970.
    pub now_s: u64,
}

/// Makes an untouched natural object an object of its own.
///
/// Refused: [`codes::OUTSIDE`] the island, [`codes::MISSING`] (no such natural object stands there), [`codes::OWNED`] (on
/// somebody else's land), [`codes::TAKEN`] id, and as `costs` are.
pub async fn touch(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    touch: &Touch,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Touch { id, island, tile, nature, now_s } = touch;
    check_id("an object", *id)?;
    check_by(by)?;
    check_within(grounds, *island, *tile)?;
    let (chunk, index) = (tile.chunk(*island), index_in_chunk(*tile));
    let footprint = Footprint::new(*tile, 1, 1, Rotation::R0)?;
    let mut surveys = Surveys::new();
    loop {
        let survey = Survey::of(transactions, std::iter::once(chunk)).await?;
        let creation = Creation {
            kind: SORT.to_owned(),
            island: *island,
            footprint: footprint.clone(),
            holding: survey.holder(std::iter::once(chunk)),
            builder: ObjectId(0),
            made_s: *now_s,
            data: nature.data(),
        };
        let clear = DeedAct::Clear { tile: index, natural: nature.natural };
        let occupy = DeedAct::Occupy { object: *id, tiles: vec![index] };
        let mut parts = survey.parts(by, Acts::from([(chunk, vec![clear, occupy])]));
        parts.push(Part::new::<ObjectKind>(object::key(*id), &ObjectEffect::Create(Box::new(creation))));
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(&asked(*island, *tile, by));
        if let Some(answer) = surveys.after(transactions.run(request).await) {
            return answer;
        }
    }
}

/// A further stroke at a natural object.
#[derive(Clone, Debug, PartialEq)]
pub struct Stroke {
    /// The object.
    pub id: ObjectId,
    /// The island.
    pub island: IslandId,
    /// The tile.
    pub tile: Tile,
    /// As it was read.
    pub before: Nature,
    /// As it becomes.
    pub after: Nature,
}

/// Changes how much of a natural object is left, if that is as it was read.
///
/// Refused: [`codes::CHANGED`] (it is not as it was read), [`codes::MISSING`] (it is gone), [`codes::OWNED`] (it stands on
/// somebody else's land), and as `costs` are.
pub async fn stroke(
    transactions: &Transactions,
    op: OperationId,
    by: By,
    stroke: &Stroke,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Stroke { id, island, tile, before, after } = stroke;
    check_id("an object", *id)?;
    check_by(by)?;
    let chunk = tile.chunk(*island);
    let expected = if planted::is("strokes_unguarded") { serde_json::Map::new() } else { before.state() };
    let swap = ObjectEffect::Swap { expected, set: after.state() };
    let mut surveys = Surveys::new();
    loop {
        let survey = Survey::of(transactions, std::iter::once(chunk)).await?;
        // The deed takes part only to tell whose the land is.
        let acts = if by == By::World { Acts::new() } else { Acts::from([(chunk, Vec::new())]) };
        let mut parts = survey.parts(by, acts);
        parts.push(Part::new::<ObjectKind>(object::key(*id), &swap));
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(&asked(*island, *tile, by));
        let result = transactions.run(request).await;
        // Another stroke was first: surveying whose the land is would not help.
        if code(&result) == codes::CHANGED
            && works::object(transactions, *id).await?.as_ref().and_then(Nature::of).as_ref() != Some(before)
        {
            return result;
        }
        if let Some(answer) = surveys.after(result) {
            return answer;
        }
    }
}

/// Makes a natural object a number in its deed again; a deed that is then as by nature goes.
///
/// Refused: [`codes::MISSING`] (it is gone), [`codes::CHANGED`] (it is not as in `seen`), and as `costs` are.
pub async fn restore(
    transactions: &Transactions,
    op: OperationId,
    id: ObjectId,
    seen: &Nature,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("an object", id)?;
    let object = match object_as_read(transactions, id).await? {
        Some(object) if object.stands() => object,
        Some(object) if object.removed == Some(op) => return Ok(()),
        _ => return Err(missing(id).into()),
    };
    let (tile, chunk) = (object.footprint.origin(), object.footprint.origin().chunk(object.island));
    let index = index_in_chunk(tile);
    let vacate = DeedAct::Vacate { object: id, tiles: vec![index] };
    let grow = DeedAct::Restore { tile: index, natural: seen.natural };
    let at = object.footprint.clone();
    let gone = ObjectEffect::Remove { op, at, builder: None, expected: seen.data() };
    let survey = Survey::of(transactions, std::iter::empty()).await?;
    let mut parts = survey.parts(By::World, Acts::from([(chunk, vec![vacate, grow])]));
    parts.push(Part::new::<ObjectKind>(object::key(id), &gone));
    parts.extend_from_slice(costs);
    let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(&("restore", id));
    or_changed(transactions, &object, transactions.run(request).await).await
}

/// A stroke at whatever is left of the natural object on a tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathering {
    /// The number that the object gets if this is the first stroke: the same when it is asked for again.
    pub id: ObjectId,
    /// The island.
    pub island: IslandId,
    /// The tile.
    pub tile: Tile,
    /// The natural object's number.
    pub natural: u32,
    /// What it is called.
    pub name: String,
    /// How it grows.
    pub growth: Growth,
    /// Now, in seconds since 1970.
    pub now_s: u64,
}

/// Takes a stroke at a natural object, touched or not, however many others are at it.
///
/// Refused: [`codes::OUTSIDE`] the island, [`codes::MISSING`] (nothing natural of this number stands there, or it is used
/// up), [`codes::OWNED`] (on somebody else's land), and as `costs` are.
pub async fn gather(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    gathering: &Gathering,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Gathering { id, island, tile, natural, name, growth, now_s } = gathering;
    check_within(grounds, *island, *tile)?;
    let mut before: Option<(Found, TransactionError)> = None;
    for _ in 0..GRABS {
        let found = standing(transactions, grounds, *island, *tile).await?;
        // What is refused of a thing that has not changed is refused for good.
        match before.take() {
            Some((same, error)) if same == found => return Err(error),
            _ => {}
        }
        let result = match &found {
            Found::Natural(number) if number == natural => {
                let left = growth.strokes.saturating_sub(1);
                let nature = Nature { natural: *natural, name: name.clone(), left, since_s: *now_s };
                let first = Touch { id: *id, island: *island, tile: *tile, nature, now_s: *now_s };
                touch(transactions, grounds, op, by, &first, costs).await
            }
            Found::Touched(id, nature) if nature.natural == *natural => match nature.struck(*growth, *now_s) {
                Some(after) => {
                    let next = Stroke { id: *id, island: *island, tile: *tile, before: nature.clone(), after };
                    stroke(transactions, op, by, &next, costs).await
                }
                None => Err(nothing_left(*island, *tile).into()),
            },
            _ => Err(nothing_left(*island, *tile).into()),
        };
        match result {
            Err(error) if [codes::MISSING, codes::CHANGED].contains(&refused_as(&error)) => {
                // It may have been this very operation, asked for before, that used it up.
                if transactions.happened(op, Some(&ledger::key_of_chunk(tile.chunk(*island)))).await? {
                    return Ok(());
                }
                before = Some((found, error));
            }
            other => return other,
        }
    }
    Err(TransactionError::Busy(format!("tile {tile} of island {island}")))
}

/// What stands on a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// An untouched natural object, by its number.
    Natural(u32),
    /// A natural object that was touched.
    Touched(ObjectId, Nature),
    /// Something else.
    Other(ObjectId),
}

/// What stands on a tile, with nothing undecided about it.
///
/// Refused: [`codes::OUTSIDE`] the island.
pub async fn standing(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    island: IslandId,
    tile: Tile,
) -> Result<Found, TransactionError> {
    check_within(grounds, island, tile)?;
    let deed = works::deed(transactions, grounds, tile.chunk(island)).await?;
    Ok(match deed.stands.get(&index_in_chunk(tile)) {
        None => Found::Nothing,
        Some(Stand::Natural(number)) => Found::Natural(*number),
        Some(Stand::Object(id)) => {
            let nature = works::object(transactions, *id).await?.as_ref().and_then(Nature::of);
            nature.map_or(Found::Other(*id), |nature| Found::Touched(*id, nature))
        }
    })
}

/// What was asked for: the same for a first stroke and for a further one, because which of them it is depends on what others
/// do.
fn asked(island: IslandId, tile: Tile, by: By) -> impl serde::Serialize {
    let who = match by {
        By::Player(player) => player,
        By::World => ObjectId(0),
    };
    ("stroke", island, tile, who)
}

fn nothing_left(island: IslandId, tile: Tile) -> Refusal {
    Refusal::new(codes::MISSING, format!("nothing is left of what grows on tile {tile} of island {island}"))
}

fn refused_as(error: &TransactionError) -> &str {
    if let TransactionError::Refused(refusal) = error { &refusal.code } else { "" }
}

fn code(result: &Result<(), TransactionError>) -> &str {
    result.as_ref().err().map_or("", refused_as)
}
