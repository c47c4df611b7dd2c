//! Building, demolishing and moving, and what happens to natural objects: the deeds, the object and whatever else it
//! costs change together or not at all.
//!
//! Every operation here is a transaction in the ledger of the footprint at which it aims, may be asked for again under its
//! id, and takes extra parts (`costs`: a player's goods, a box that must be empty) without looking into them. It NEVER
//! changes what stands on somebody else's holding.

use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use serde_json::{Map, Value};

use super::deed::{DeedAct, DeedDocument};
use super::footprint::{Footprint, Rotation, index_in_chunk};
use super::object::{Creation, ObjectDocument, ObjectEffect, ObjectKind, check_sort};
use super::survey::{Acts, Survey, Surveys, deed_settled, object_as_read, object_settled};
use super::{By, Grounds, check_id, codes, deed, ledger, object};
use crate::transaction::{OperationId, Part, Refusal, Request, TransactionError, Transactions};

/// What is to be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    /// The new object's number: drawn at random, and the same when it is asked for again.
    pub id: ObjectId,
    /// What it is: 1 to [`object::SORT_BYTES`] of a-z, 0-9 and _.
    pub kind: String,
    /// The island.
    pub island: IslandId,
    /// Where.
    pub footprint: Footprint,
    /// Now, in seconds since 1970.
    pub made_s: u64,
    /// What the game keeps about it.
    pub data: Map<String, Value>,
}

/// Builds something.
///
/// Refused: [`codes::OUTSIDE`] the island, on [`codes::WATER`], [`codes::OCCUPIED`] by objects or naturals, on land
/// [`codes::OWNED`] by somebody else, [`codes::TAKEN`] id, [`codes::TOO_LARGE`] data, and as `costs` are.
pub async fn build(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    building: &Building,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let Building { id, kind, island, footprint, made_s, data } = building;
    check_id("an object", *id)?;
    check_by(by)?;
    check_sort(kind)?;
    check_ground(grounds, *island, footprint)?;
    let builder = match by {
        By::Player(player) => player,
        By::World => ObjectId(0),
    };
    let mut surveys = Surveys::new();
    loop {
        let tiles = footprint.by_chunk(*island);
        let survey = Survey::of(transactions, tiles.keys().copied()).await?;
        let creation = Creation {
            kind: kind.clone(),
            island: *island,
            footprint: footprint.clone(),
            holding: survey.holder(tiles.keys().copied()),
            builder,
            made_s: *made_s,
            data: data.clone(),
        };
        let occupy = |(chunk, tiles)| (chunk, vec![DeedAct::Occupy { object: *id, tiles }]);
        let mut parts = survey.parts(by, tiles.into_iter().map(occupy).collect());
        parts.push(Part::new::<ObjectKind>(object::key(*id), &ObjectEffect::Create(Box::new(creation))));
        parts.extend_from_slice(costs);
        let asked = ("build", id, kind, island, footprint, builder);
        let request = Request::land(op, ledger::key(*island, footprint), parts).asked(&asked);
        if let Some(answer) = surveys.after(transactions.run(request).await) {
            return answer;
        }
    }
}

/// Takes an object away for good.
///
/// Refused: [`codes::MISSING`], [`codes::OWNED`] (it stands on somebody else's land, or on free land and somebody else built
/// it), and as `costs` are. What lies in it is the caller's: a part that refuses unless a box is empty belongs to `costs`.
pub async fn demolish(
    transactions: &Transactions,
    op: OperationId,
    by: By,
    id: ObjectId,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("an object", id)?;
    check_by(by)?;
    let mut surveys = Surveys::new();
    loop {
        let object = match object_as_read(transactions, id).await? {
            Some(object) if object.stands() => object,
            Some(object) if object.removed == Some(op) => return Ok(()),
            _ => return Err(missing(id).into()),
        };
        let tiles = object.footprint.by_chunk(object.island);
        let survey = Survey::of(transactions, tiles.keys().copied()).await?;
        let builder = only_builder(by, &survey, tiles.keys().copied());
        let at = object.footprint.clone();
        let effect = ObjectEffect::Remove { op, at, builder, expected: Map::new() };
        let vacate = |(chunk, tiles)| (chunk, vec![DeedAct::Vacate { object: id, tiles }]);
        let mut parts = survey.parts(by, tiles.into_iter().map(vacate).collect());
        parts.push(Part::new::<ObjectKind>(object::key(id), &effect));
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key(object.island, &object.footprint), parts);
        let result = transactions.run(request.asked(&("demolish", id))).await;
        if let Some(answer) = surveys.after(or_changed(transactions, &object, result).await) {
            return answer;
        }
    }
}

/// Moves an object to another place of its island, which may overlap the old one. `origin` is the top-left tile of where it
/// comes to stand, turned by `rotation`.
///
/// Refused as [`build`] and [`demolish`] are.
pub async fn move_to(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    id: ObjectId,
    (origin, rotation): (Tile, Rotation),
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_id("an object", id)?;
    check_by(by)?;
    let mut surveys = Surveys::new();
    loop {
        let Some(object) = object_as_read(transactions, id).await? else { return Err(missing(id).into()) };
        let (island, from) = (object.island, &object.footprint);
        let to = from.at(origin, rotation)?;
        let ledger = ledger::key(island, &to);
        if !object.stands() {
            // It may have been moved before it went.
            let happened = transactions.happened(op, Some(&ledger)).await?;
            return if happened { Ok(()) } else { Err(missing(id).into()) };
        }
        check_ground(grounds, island, &to)?;
        let (old, new) = (from.by_chunk(island), to.by_chunk(island));
        let survey = Survey::of(transactions, old.keys().chain(new.keys()).copied()).await?;
        let effect = ObjectEffect::Move {
            from: from.clone(),
            to: to.clone(),
            holding: survey.holder(new.keys().copied()),
            builder: only_builder(by, &survey, old.keys().copied()),
        };
        let mut acts = Acts::new();
        for (chunk, tiles) in old {
            acts.entry(chunk).or_default().push(DeedAct::Vacate { object: id, tiles });
        }
        for (chunk, tiles) in new {
            acts.entry(chunk).or_default().push(DeedAct::Occupy { object: id, tiles });
        }
        let mut parts = survey.parts(by, acts);
        parts.push(Part::new::<ObjectKind>(object::key(id), &effect));
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger, parts).asked(&("move", id, origin, rotation));
        let result = transactions.run(request).await;
        if let Some(answer) = surveys.after(or_changed(transactions, &object, result).await) {
            return answer;
        }
    }
}

/// Takes away the natural object of number `natural`: it was gathered, or becomes an object of its own.
///
/// Refused: [`codes::OUTSIDE`] the island, [`codes::MISSING`], [`codes::OWNED`], and as `costs` are.
pub async fn clear_natural(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    (island, tile): (IslandId, Tile),
    natural: u32,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let act = DeedAct::Clear { tile: index_in_chunk(tile), natural };
    on_tile(transactions, grounds, op, by, (island, tile), act, costs).await
}

/// Puts a natural object of number `natural` on an empty tile: it has grown again.
///
/// Refused: [`codes::OUTSIDE`] the island, [`codes::OCCUPIED`], [`codes::OWNED`], and as `costs` are.
pub async fn restore_natural(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    (island, tile): (IslandId, Tile),
    natural: u32,
    costs: &[Part],
) -> Result<(), TransactionError> {
    let act = DeedAct::Restore { tile: index_in_chunk(tile), natural };
    on_tile(transactions, grounds, op, by, (island, tile), act, costs).await
}

async fn on_tile(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    op: OperationId,
    by: By,
    (island, tile): (IslandId, Tile),
    act: DeedAct,
    costs: &[Part],
) -> Result<(), TransactionError> {
    check_by(by)?;
    check_within(grounds, island, tile)?;
    let chunk = tile.chunk(island);
    let mut surveys = Surveys::new();
    loop {
        let survey = Survey::of(transactions, std::iter::once(chunk)).await?;
        let mut parts = survey.parts(by, Acts::from([(chunk, vec![act.clone()])]));
        parts.extend_from_slice(costs);
        let request = Request::land(op, ledger::key_of_chunk(chunk), parts).asked(&("natural", island, tile, &act));
        if let Some(answer) = surveys.after(transactions.run(request).await) {
            return answer;
        }
    }
}

/// Sets fields of what the game keeps about an object; those set to null go. One compare-and-swap. Whoever must not
/// overwrite another's change takes an [`ObjectEffect::Swap`] as a part of a transaction.
///
/// Refused: [`codes::MISSING`], [`codes::TOO_LARGE`]. Who may do it is the game's to decide.
pub async fn change(
    transactions: &Transactions,
    op: OperationId,
    id: ObjectId,
    set: Map<String, Value>,
) -> Result<(), TransactionError> {
    check_id("an object", id)?;
    let part = Part::new::<ObjectKind>(object::key(id), &ObjectEffect::Change { set });
    transactions.run(Request::transfer(op, vec![part])).await
}

/// An object, with nothing undecided about it; nothing if it does not stand (any more).
pub async fn object(transactions: &Transactions, id: ObjectId) -> Result<Option<ObjectDocument>, TransactionError> {
    check_id("an object", id)?;
    Ok(object_settled(transactions, id).await?.filter(ObjectDocument::stands))
}

/// A chunk's deed, with nothing undecided in it: what the terrain package says if it was never written.
///
/// Refused: [`codes::OUTSIDE`] the island.
pub async fn deed(
    transactions: &Transactions,
    grounds: &dyn Grounds,
    chunk: Chunk,
) -> Result<DeedDocument, TransactionError> {
    let born = deed::born(grounds, chunk)?;
    Ok(deed_settled(transactions, chunk).await?.unwrap_or(born))
}

/// The answer, or [`codes::CHANGED`] where deeds disagree with an object that has moved or gone since it was read: deeds are
/// marked before objects, so they tell first.
pub(super) async fn or_changed(
    transactions: &Transactions,
    read: &ObjectDocument,
    result: Result<(), TransactionError>,
) -> Result<(), TransactionError> {
    let disagrees = matches!(&result, Err(TransactionError::Refused(refusal)) if refusal.code == codes::DISAGREES);
    if disagrees && object(transactions, read.id).await?.is_none_or(|now| now.footprint != read.footprint) {
        return Err(Refusal::new(codes::CHANGED, format!("object {} has moved since it was read", read.id)).into());
    }
    result
}

pub(super) fn missing(id: ObjectId) -> Refusal {
    Refusal::new(codes::MISSING, format!("there is no object {id}"))
}

pub(super) fn check_by(by: By) -> Result<(), Refusal> {
    match by {
        By::Player(id) => check_id("a player", id),
        By::World => Ok(()),
    }
}

/// Who must have built what stands on these chunks, so that `by` may take it away: on free land, `by` itself.
fn only_builder(by: By, survey: &Survey, chunks: impl Iterator<Item = Chunk>) -> Option<ObjectId> {
    match by {
        By::Player(player) if survey.holder(chunks).is_none() => Some(player),
        _ => None,
    }
}

pub(super) fn check_within(grounds: &dyn Grounds, island: IslandId, tile: Tile) -> Result<(), Refusal> {
    let Some(size) = grounds.size(island) else {
        return Err(Refusal::new(codes::OUTSIDE, format!("there is no island {island}")));
    };
    if !tile.is_within(size) {
        return Err(Refusal::new(codes::OUTSIDE, format!("tile {tile} lies outside island {island}")));
    }
    Ok(())
}

/// Checks what never changes: that the island is there and something can stand on its ground.
fn check_ground(grounds: &dyn Grounds, island: IslandId, footprint: &Footprint) -> Result<(), Refusal> {
    for tile in footprint.tiles() {
        check_within(grounds, island, tile)?;
    }
    if let Some(tile) = footprint.tiles().find(|tile| !grounds.buildable(island, *tile)) {
        let why = format!("nothing can stand on tile {tile} of island {island}");
        return Err(Refusal::new(codes::WATER, why));
    }
    Ok(())
}
