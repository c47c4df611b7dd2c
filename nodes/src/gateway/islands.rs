//! The islands: what they are, and pictures of their maps.
//!
//! The list is made anew when the islands have changed; pictures are drawn when first asked for, one at a time, and kept
//! in a cache of bounded size.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use cartographer::geometry::IslandId;
use cartographer::ground::Ground;
use cartographer::terrain::{Picture, Stability, Terrain};
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, ApiResult, Segment};
use super::pages::{cached, tag};
use crate::islands::Chart;
use crate::islands::record::{IslandRecord, IslandState};
use crate::steward::office::{self, Office};

/// The longest side of a picture, in pixels.
const SIDE_PIXELS: u32 = 2_048;

/// The longest side of a picture whose scale the client left to us, in pixels.
const USUAL_PIXELS: u32 = 1_024;

/// Scales are rounded to this part of a pixel per tile, so that there are few different pictures.
const STEPS_PER_PIXEL: u32 = 16;

/// The largest scale, in pixels per tile.
const SCALE_MAX: u32 = 8;

/// Bytes of pictures kept, at most.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// How long clients and balancers may keep what never changes while a gateway lives.
const KEEP: &str = "public, max-age=300";

/// How long they may keep the list of islands, which come and go.
const KEEP_LIST: &str = "public, max-age=5";

/// An island, as clients see it.
#[derive(Debug, Serialize)]
struct IslandRow<'a> {
    id: IslandId,
    name: &'a str,
    title: &'a str,
    stability: &'static str,
    state: &'static str,
    district: &'a str,
    born_s: u64,
    ends_s: u64,
    width_tiles: u16,
    height_tiles: u16,
    spawn_points: Vec<NamedPlace<'a>>,
    harbours: Vec<NamedPlace<'a>>,
    habitats: usize,
    naturals: usize,
    map: String,
}

/// A place in 1/256 tile.
#[derive(Debug, Serialize)]
struct NamedPlace<'a> {
    name: &'a str,
    x: i32,
    y: i32,
}

impl<'a> IslandRow<'a> {
    /// An island whose package is here. One without a record belongs to this gateway's district.
    fn of(terrain: &'a Terrain, record: Option<&'a IslandRecord>, here: &'a str) -> IslandRow<'a> {
        let (width_tiles, height_tiles) = terrain.size();
        let spawn_points = terrain.spawns().iter().map(|s| NamedPlace { name: &s.name, x: s.place.x, y: s.place.y });
        let harbours = terrain.harbours().iter().map(|h| NamedPlace { name: &h.name, x: h.place.x, y: h.place.y });
        IslandRow {
            id: terrain.id(),
            name: terrain.name(),
            title: terrain.title(),
            stability: match terrain.stability() {
                Stability::Stable => "stable",
                Stability::Unstable => "unstable",
            },
            state: record.map_or(IslandState::Open, |record| record.state).as_str(),
            district: record.map_or(here, |record| &record.district),
            born_s: record.map_or(0, |record| record.born_s),
            ends_s: record.map_or(0, |record| record.ends_s),
            width_tiles,
            height_tiles,
            spawn_points: spawn_points.collect(),
            harbours: harbours.collect(),
            habitats: terrain.habitats().len(),
            naturals: terrain.natural_count(),
            map: format!("/v1/islands/{}/map.png", terrain.id()),
        }
    }
}

impl<'a> IslandRow<'a> {
    /// An island of which only the record is known here: its package is another district's.
    fn recorded(record: &'a IslandRecord) -> IslandRow<'a> {
        let harbours = record.harbours.iter().map(|h| NamedPlace { name: &h.name, x: h.x, y: h.y });
        IslandRow {
            id: record.id,
            name: &record.template,
            title: &record.title,
            stability: record.kind.as_str(),
            state: record.state.as_str(),
            district: &record.district,
            born_s: record.born_s,
            ends_s: record.ends_s,
            width_tiles: record.size.0,
            height_tiles: record.size.1,
            spawn_points: Vec::new(),
            harbours: harbours.collect(),
            habitats: 0,
            naturals: 0,
            map: format!("/v1/islands/{}/map.png", record.id),
        }
    }

    /// All islands of all districts, by rising number.
    fn all(chart: &'a Chart, here: &'a str) -> Vec<IslandRow<'a>> {
        let unrecorded = chart.all().iter().filter(|it| chart.record(it.id()).is_none());
        let mut rows: Vec<IslandRow<'a>> = unrecorded.map(|terrain| IslandRow::of(terrain, None, here)).collect();
        rows.extend(chart.records().values().map(|record| match chart.known(record.id) {
            Some(terrain) => IslandRow::of(terrain, Some(record), here),
            None => IslandRow::recorded(record),
        }));
        rows.sort_by_key(|row| row.id);
        rows
    }
}

/// Content that is made once, with its tag.
#[derive(Clone, Debug)]
pub struct Made {
    content: Bytes,
    tag: String,
}

impl Made {
    fn new(content: Vec<u8>) -> Made {
        Made { tag: tag(&content), content: content.into() }
    }
}

/// What is kept ready about the islands.
#[derive(Debug, Default)]
pub struct Atlas {
    list: Mutex<Option<(Arc<Chart>, Made)>>,
    drawing: Arc<tokio::sync::Mutex<()>>,
    pictures: Mutex<Pictures>,
}

impl Atlas {
    /// No list and no pictures yet.
    pub fn new() -> Atlas {
        Atlas { list: Mutex::default(), drawing: Arc::default(), pictures: Mutex::default() }
    }

    /// The list of these islands.
    fn list(&self, chart: &Arc<Chart>, here: &str) -> Made {
        let mut kept = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = kept.as_ref().filter(|(of, _)| Arc::ptr_eq(of, chart)) {
            return made.clone();
        }
        let rows = IslandRow::all(chart, here);
        // Writing plain values to memory cannot fail.
        let made = Made::new(serde_json::to_vec(&rows).unwrap_or_else(|_| b"[]".to_vec()));
        *kept = Some((chart.clone(), made.clone()));
        made
    }

    fn known(&self, key: PictureKey) -> Option<Made> {
        self.pictures.lock().unwrap_or_else(PoisonError::into_inner).get(key)
    }
}

/// `GET /v1/islands`
pub async fn list(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let list = app.atlas.list(&app.islands.chart(), app.islands.district());
    cached(&headers, list.content, "application/json", KEEP_LIST, &list.tag)
}

/// `GET /v1/stewards`: who looks after the islands of each district, and what they did last and why.
pub async fn stewards(State(app): State<Arc<App>>) -> ApiResult<Json<Vec<Office>>> {
    let found = office::read_all(&*app.directory, &app.district).await;
    found.map(Json).map_err(|error| ApiError::failed("asking the directory", &error))
}

/// The query of a map picture.
#[derive(Debug, Deserialize)]
pub struct PictureQuery {
    scale: Option<f64>,
}

/// `GET /v1/islands/{id}/map.png`
pub async fn picture(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    query: Result<Query<PictureQuery>, QueryRejection>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let terrain = app.island(&id)?;
    let Query(PictureQuery { scale }) = query.map_err(|bad| ApiError::bad("bad_query", bad.body_text()))?;
    let scale = scale_of(terrain.size(), scale)?;
    let key = (terrain.id(), scale);
    let made = match app.atlas.known(key) {
        Some(made) => made,
        None => draw(&app, terrain, key).await?,
    };
    Ok(cached(&headers, made.content, "image/png", KEEP, &made.tag))
}

/// The scale in steps: what was asked for unless it makes a giant, or what gives a usual picture.
fn scale_of(size: (u16, u16), asked: Option<f64>) -> ApiResult<u32> {
    let side = u32::from(size.0.max(size.1)).max(1);
    let largest = |pixels: u32| (pixels * STEPS_PER_PIXEL / side).clamp(1, SCALE_MAX * STEPS_PER_PIXEL);
    match asked {
        None => Ok(largest(USUAL_PIXELS)),
        Some(scale) if scale > 0.0 => {
            // A cast from a float holds at the ends of the type.
            let steps = (scale * f64::from(STEPS_PER_PIXEL)).round() as u32;
            Ok(steps.clamp(1, largest(SIDE_PIXELS)))
        }
        Some(_) => Err(ApiError::bad("bad_scale", "scale is pixels per tile: a number above 0")),
    }
}

async fn draw(app: &Arc<App>, terrain: Arc<Terrain>, key: PictureKey) -> ApiResult<Made> {
    // One at a time: drawing takes memory, and whoever waited finds the picture made.
    let turn = app.atlas.drawing.clone().lock_owned().await;
    if let Some(made) = app.atlas.known(key) {
        return Ok(made);
    }
    let app = app.clone();
    // The gateway serves real sockets and never runs inside the simulation, where threads would break repeatability.
    #[allow(clippy::disallowed_methods)]
    let drawn = tokio::task::spawn_blocking(move || {
        // The thread has the turn, and keeps what it drew, even if whoever asked has gone by then.
        let _turn = turn;
        let made = Made::new(encode(&terrain.picture(key.1 as f32 / STEPS_PER_PIXEL as f32))?);
        app.atlas.pictures.lock().unwrap_or_else(PoisonError::into_inner).put(key, made.clone());
        Ok::<Made, png::EncodingError>(made)
    });
    drawn.await.map_err(|error| broken(&error))?.map_err(|error| broken(&error))
}

fn broken(error: &dyn std::error::Error) -> ApiError {
    tracing::error!(%error, "a map picture could not be drawn");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here")
}

fn encode(picture: &Picture) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.rgb)?;
    writer.finish()?;
    Ok(out)
}

/// An island and a scale in steps.
type PictureKey = (IslandId, u32);

/// Pictures made, up to [`CACHE_BYTES`]; those used longest ago go first.
#[derive(Debug, Default)]
struct Pictures {
    kept: BTreeMap<PictureKey, (Made, u64)>,
    uses: u64,
    bytes: usize,
}

impl Pictures {
    fn get(&mut self, key: PictureKey) -> Option<Made> {
        self.uses += 1;
        let (made, used) = self.kept.get_mut(&key)?;
        *used = self.uses;
        Some(made.clone())
    }

    fn put(&mut self, key: PictureKey, made: Made) {
        self.uses += 1;
        self.bytes += made.content.len();
        if let Some((old, _)) = self.kept.insert(key, (made, self.uses)) {
            self.bytes -= old.content.len();
        }
        while self.bytes > CACHE_BYTES && self.kept.len() > 1 {
            let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            if let Some((old, _)) = oldest.and_then(|key| self.kept.remove(&key)) {
                self.bytes -= old.content.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(side: u16, asked: Option<f64>, steps: Option<u32>) {
        assert_eq!(scale_of((side, 10), asked).ok(), steps, "{side} {asked:?}");
    }

    #[test]
    fn scales_are_rounded_and_make_no_giants() {
        check(256, None, Some(64));
        check(1024, None, Some(16));
        check(4096, None, Some(4));
        check(16, None, Some(128));
        check(512, Some(1.0), Some(16));
        check(512, Some(0.24), Some(4));
        check(512, Some(0.000_1), Some(1));
        check(512, Some(4.0), Some(64));
        check(512, Some(1e300), Some(64));
        check(4096, Some(8.0), Some(8));
        check(512, Some(0.0), None);
        check(512, Some(-1.0), None);
        check(512, Some(f64::NAN), None);
    }

    #[test]
    fn pictures_used_longest_ago_make_room() {
        let mut pictures = Pictures::default();
        let third = CACHE_BYTES / 3;
        for island in 0..3 {
            pictures.put((IslandId(island), 1), Made::new(vec![island as u8; third]));
        }
        assert!(pictures.get((IslandId(0), 1)).is_some());
        pictures.put((IslandId(3), 1), Made::new(vec![3; third]));
        assert!(pictures.get((IslandId(1), 1)).is_none(), "the one not used since");
        assert!(pictures.get((IslandId(0), 1)).is_some() && pictures.get((IslandId(3), 1)).is_some());
        assert!(pictures.bytes <= CACHE_BYTES);
    }

    #[test]
    fn a_picture_is_a_png_of_its_size() {
        let picture = Picture { width: 2, height: 1, rgb: vec![255, 0, 0, 0, 0, 255] };
        let png = encode(&picture).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut rgb = vec![0; 6];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height, rgb), (2, 1, picture.rgb));
    }
}
