//! Land, as anybody may look at it: what stands on a chunk, whose it is, and a holding by its number.
//!
//! Read by key from the documents, settled: nothing undecided is shown. Nothing here writes anything but what every reader
//! settles. Unsaved changes do not exist: land is changed in documents first.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use cartographer::geometry::{Chunk, IslandId, ObjectId, TILES_PER_CHUNK};
use cartographer::ground::Ground;
use estate::land::{HoldingDocument, Stand, claims, footprint, works};
use estate::transaction::TransactionError;
use serde::Serialize;

use super::App;
use super::error::{ApiError, ApiResult};

/// A chunk, as clients see it.
#[derive(Debug, Serialize)]
pub struct ChunkAnswer {
    island: IslandId,
    x: u16,
    y: u16,
    tiles: Vec<TileRow>,
    holding: Option<HoldingRow>,
}

/// A tile on which something stands.
#[derive(Debug, Serialize)]
struct TileRow {
    x: u16,
    y: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    natural: Option<u32>,
    /// The natural object's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<ObjectId>,
}

/// A holding, as clients see it.
#[derive(Debug, Serialize)]
pub struct HoldingRow {
    id: ObjectId,
    island: IslandId,
    owner: ObjectId,
    chunks: Vec<(u16, u16)>,
    since_s: u64,
    paid_until_s: u64,
}

impl From<HoldingDocument> for HoldingRow {
    fn from(document: HoldingDocument) -> HoldingRow {
        let HoldingDocument { id, island, owner, chunks, since_s, paid_until_s, .. } = document;
        HoldingRow { id, island, owner, chunks: chunks.into_iter().collect(), since_s, paid_until_s }
    }
}

/// `GET /v1/islands/{id}/chunks/{x}/{y}`: what stands on a chunk, and whose it is.
pub async fn chunk(
    State(app): State<Arc<App>>,
    Path((id, x, y)): Path<(String, String, String)>,
) -> ApiResult<Json<ChunkAnswer>> {
    let terrain = app.island(&id)?;
    let (island, (width, height)) = (terrain.id(), terrain.size());
    let chunks = |tiles: u16| tiles.div_ceil(TILES_PER_CHUNK);
    let number = |text: &str, tiles: u16| text.parse().ok().filter(|number| *number < chunks(tiles));
    let (Some(x), Some(y)) = (number(&x, width), number(&y, height)) else {
        let message = format!("island {island} has {} by {} chunks, from 0", chunks(width), chunks(height));
        return Err(ApiError::unknown("unknown_chunk", message));
    };
    let chunk = Chunk { island, x, y };
    let deed = works::deed(&app.estate, &app.grounds, chunk).await.map_err(|error| failed(&error))?;
    let tiles = deed.stands.iter().filter_map(|(index, stand)| {
        let tile = footprint::tile_in_chunk(chunk, *index)?;
        let (natural, object) = match stand {
            Stand::Natural(number) => (Some(*number), None),
            Stand::Object(id) => (None, Some(*id)),
        };
        let name = natural.and_then(|_| terrain.natural_name(terrain.natural_at(tile)?)).map(str::to_owned);
        Some(TileRow { x: tile.x, y: tile.y, natural, name, object })
    });
    let tiles = tiles.collect();
    let holding = claims::whose(&app.estate, chunk).await.map_err(|error| failed(&error))?;
    Ok(Json(ChunkAnswer { island, x, y, tiles, holding: holding.map(HoldingRow::from) }))
}

/// `GET /v1/holdings/{id}`: a holding.
pub async fn holding(State(app): State<Arc<App>>, Path(id): Path<String>) -> ApiResult<Json<HoldingRow>> {
    let unknown = || ApiError::unknown("unknown_holding", "no such holding");
    let id = id.parse().ok().filter(|id| (1..=ObjectId::MAX.0).contains(id)).ok_or_else(unknown)?;
    let found = claims::holding(&app.estate, ObjectId(id)).await.map_err(|error| failed(&error))?;
    found.map(|document| Json(document.into())).ok_or_else(unknown)
}

fn failed(error: &TransactionError) -> ApiError {
    match error {
        TransactionError::Busy(what) => {
            ApiError::unavailable("busy", format!("{what} is being changed; ask again shortly"), 1)
        }
        error => ApiError::failed("reading the land", error),
    }
}
