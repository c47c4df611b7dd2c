//! Decodes the tile numbers of a layer: CSV, Base64, zlib, gzip and zstd.
//!
//! However much a compressed stream would unfold to, memory and time stay within what the layer's size asks for.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::draft::Data;
use super::error::Reason;

/// The largest window a zstd stream may ask for: 2 to this power, in bytes; as much as the largest layer.
const ZSTD_WINDOW_LOG: u32 = 26;
const BYTES_PER_TILE: usize = 4;

/// How a layer's text is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    Csv,
    Base64,
    Zlib,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The encoding that a layer declares.
    pub(super) fn of(encoding: Option<&str>, compression: Option<&str>) -> Result<Encoding, Reason> {
        match (encoding.unwrap_or("csv"), compression.unwrap_or("")) {
            ("csv", "") => Ok(Encoding::Csv),
            ("base64", "") => Ok(Encoding::Base64),
            ("base64", "zlib") => Ok(Encoding::Zlib),
            ("base64", "gzip") => Ok(Encoding::Gzip),
            ("base64", "zstd") => Ok(Encoding::Zstd),
            (encoding, compression) => {
                Err(Reason::Encoding { encoding: encoding.to_owned(), compression: compression.to_owned() })
            }
        }
    }
}

/// The `expected` tile numbers, row by row, flags included; refused if there are more or fewer. No data at all is
/// refused too.
pub(super) fn tile_numbers(data: Option<Data>, encoding: Encoding, expected: usize) -> Result<Vec<u32>, Reason> {
    let numbers = match data {
        None => Vec::new(),
        Some(Data::Numbers(numbers)) => numbers,
        Some(Data::Text(text)) => match encoding {
            Encoding::Csv => comma_separated(&text, expected)?,
            _ => unpacked(&text, encoding, expected)?,
        },
    };
    if numbers.len() == expected {
        Ok(numbers)
    } else {
        Err(Reason::DataLength { expected, more: numbers.len() > expected })
    }
}

fn comma_separated(text: &str, expected: usize) -> Result<Vec<u32>, Reason> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let number = |text: &str| {
        let text = text.trim();
        text.parse()
            .map_err(|_| Reason::Data(format!("{:?} is not a tile number", text.chars().take(20).collect::<String>())))
    };
    text.split(',').take(expected.saturating_add(1)).map(number).collect()
}

fn unpacked(text: &str, encoding: Encoding, expected: usize) -> Result<Vec<u32>, Reason> {
    let packed = STANDARD.decode(text.trim()).map_err(broken)?;
    let limit = expected.saturating_mul(BYTES_PER_TILE).saturating_add(1);
    let mut bytes = Vec::new();
    let read = match encoding {
        Encoding::Csv | Encoding::Base64 => {
            bytes = packed;
            Ok(0)
        }
        Encoding::Zlib => take(flate2::bufread::ZlibDecoder::new(&packed[..]), limit, &mut bytes),
        Encoding::Gzip => take(flate2::bufread::GzDecoder::new(&packed[..]), limit, &mut bytes),
        Encoding::Zstd => zstd::stream::read::Decoder::with_buffer(&packed[..]).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            take(decoder, limit, &mut bytes)
        }),
    };
    read.map_err(broken)?;
    let tiles = bytes.chunks_exact(BYTES_PER_TILE);
    if !tiles.remainder().is_empty() && bytes.len() < limit {
        return Err(Reason::Data("it ends in the middle of a tile".to_owned()));
    }
    let mut numbers: Vec<u32> = tiles.map(|tile| u32::from_le_bytes([tile[0], tile[1], tile[2], tile[3]])).collect();
    if bytes.len() >= limit {
        numbers.push(0); // One more than expected: the caller sees that there is too much.
    }
    Ok(numbers)
}

/// The words of a decoder, without its full stop.
fn broken(error: impl std::fmt::Display) -> Reason {
    Reason::Data(error.to_string().trim_end_matches('.').to_owned())
}

/// Reads to the end, so that check sums are looked at, or to the limit.
fn take(decoder: impl Read, limit: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    decoder.take(limit as u64).read_to_end(into)
}
