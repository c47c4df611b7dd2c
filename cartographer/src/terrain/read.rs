//! Reads the files of a terrain package: maps and tilesets, in XML or JSON, within fixed bounds.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::draft::{Draft, Tileset};
use super::error::{Reason, TerrainError};
use super::tmx;

/// The largest file that is read, in bytes: a map of 4096×4096 tiles in CSV fits.
pub(super) const MAX_FILE_BYTES: u64 = 96 * 1024 * 1024;
/// XML elements or JSON objects and lists in a file, at most.
pub(super) const MAX_ELEMENTS: usize = 500_000;

/// Whether this file is a map by its name.
pub(super) fn is_map(path: &Path) -> bool {
    extension(path).is_some_and(|e| e == "tmx" || e == "tmj")
}

/// Reads a `.tmx` or `.tmj`.
pub(super) fn map(path: &Path) -> Result<Draft, TerrainError> {
    let text = text(path)?;
    let map = match extension(path).as_deref() {
        Some("tmx") => tmx::map(&text),
        Some("tmj" | "json") => json(&text).and_then(|map: Draft| kind_is("map", &map.kind).map(|()| map)),
        _ => Err("its name ends neither in .tmx nor in .tmj".to_owned()),
    };
    map.map_err(|problem| TerrainError::new(path, Reason::Format(problem)))
}

/// Reads a `.tsx` or `.tsj`.
pub(super) fn tileset(path: &Path) -> Result<Tileset, TerrainError> {
    let text = text(path)?;
    let tileset = match extension(path).as_deref() {
        Some("tsx") => tmx::tileset(&text),
        Some("tsj" | "json") => json(&text).and_then(|it: Tileset| kind_is("tileset", &it.kind).map(|()| it)),
        _ => Err("its name ends neither in .tsx nor in .tsj".to_owned()),
    };
    tileset.map_err(|problem| TerrainError::new(path, Reason::Format(problem)))
}

fn kind_is(expected: &str, found: &str) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("its type is {found:?}, not {expected:?}")) }
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn text(path: &Path) -> Result<String, TerrainError> {
    let refused = |reason| TerrainError::new(path, reason);
    let file = File::open(path).map_err(|e| refused(Reason::Unreadable(e)))?;
    let metadata = file.metadata().map_err(|e| refused(Reason::Unreadable(e)))?;
    if !metadata.is_file() {
        return Err(refused(Reason::Format("it is not a file".to_owned())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| refused(Reason::Unreadable(e)))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(Reason::FileTooLarge { limit: MAX_FILE_BYTES }));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| refused(Reason::Format("it is not UTF-8".to_owned())))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.bytes().filter(|&b| b == b'{' || b == b'[').count() > MAX_ELEMENTS {
        return Err(format!("it has more than {MAX_ELEMENTS} elements"));
    }
    serde_json::from_str(text).map_err(|e| e.to_string())
}
