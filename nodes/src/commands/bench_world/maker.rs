//! Draws islands for benchmarks: terrain packages of any number, with natural objects evenly among the grass, and habitats.
//!
//! The same drawing gives the same files. Used by `bench world`, `bench day` and `bench estate --size`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;

/// The side of an island, in tiles.
pub(crate) const SIDE: u16 = 128;
/// The side of a tile, in the pixels of the map.
const PIXELS: u16 = 16;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drawing {
    /// Natural objects on each island.
    pub(crate) naturals: usize,
    /// Habitats on each island: species and animals. They lie in rows of squares.
    pub(crate) habitats: Vec<(String, u16)>,
    /// Of 1,000 tiles, so many are in the way; not beside the spawn.
    pub(crate) rocks: u64,
}

/// Writes the tileset that all islands share.
pub(crate) fn begin(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder)?;
    let tileset = r#"<?xml version="1.0" encoding="UTF-8"?>
<tileset version="1.10" name="bench" tilewidth="16" tileheight="16" tilecount="3" columns="3">
 <tile id="0" type="grass"><properties><property name="walkable" type="bool" value="true"/></properties></tile>
 <tile id="1" type="tree"/>
 <tile id="2" type="rock"><properties><property name="walkable" type="bool" value="false"/></properties></tile>
</tileset>"#;
    Ok(std::fs::write(folder.join("bench.tsx"), tileset)?)
}

/// Writes the package of one island: grass all over, rocks, and naturals evenly among it.
pub(crate) fn island(folder: &Path, number: u32, drawing: &Drawing) -> Result<()> {
    let tiles = usize::from(SIDE) * usize::from(SIDE);
    let is_rock = |at: usize| {
        let (x, y) = (at % usize::from(SIDE), at / usize::from(SIDE));
        let hash = crate::game::minds::thought::mix(u64::from(number) << 32 | at as u64) % 1_000;
        hash < drawing.rocks && !(x.abs_diff(4) < 4 && y.abs_diff(4) < 4)
    };
    let ground: Vec<&str> = (0..tiles).map(|at| if is_rock(at) { "3" } else { "1" }).collect();
    let natural = |at: usize| (at + 1) * drawing.naturals / tiles > at * drawing.naturals / tiles;
    let naturals: Vec<&str> = (0..tiles).map(|at| if natural(at) { "2" } else { "0" }).collect();
    let layer = |id: u32, name: &str, data: &str| {
        format!(
            r#"{{"id":{id},"name":"{name}","type":"tilelayer","class":"{name}","x":0,"y":0,"width":{SIDE},"height":{SIDE},"opacity":1,"visible":true,"data":[{data}]}}"#
        )
    };
    let mut marks = vec![
        r#"{"id":1,"name":"here","class":"spawn","x":64,"y":64,"width":0,"height":0,"rotation":0,"visible":true,"point":true}"#
            .to_owned(),
    ];
    // Squares in rows, as large as they fit.
    let columns = (1_u16..).find(|n| usize::from(n * n) >= drawing.habitats.len().max(1)).unwrap_or(1);
    let side = SIDE / columns * PIXELS;
    for ((species, animals), i) in drawing.habitats.iter().zip(0_u16..) {
        let (x, y, id) = (i % columns * side, i / columns * side, i + 2);
        marks.push(format!(
            r#"{{"id":{id},"name":"{species} {i}","class":"habitat","x":{x},"y":{y},"width":{side},"height":{side},"rotation":0,"visible":true,"properties":[{{"name":"species","type":"string","value":"{species}"}},{{"name":"animals","type":"int","value":{animals}}}]}}"#
        ));
    }
    let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(format!("island-{number}.tmj")))?);
    write!(
        file,
        r#"{{"type":"map","version":"1.10","orientation":"orthogonal","renderorder":"right-down","infinite":false,"width":{SIDE},"height":{SIDE},"tilewidth":{PIXELS},"tileheight":{PIXELS},"properties":[{{"name":"island","type":"int","value":{number}}},{{"name":"kind","type":"string","value":"stable"}},{{"name":"title","type":"string","value":"Island {number}"}}],"tilesets":[{{"firstgid":1,"source":"bench.tsx"}}],"layers":[{},{},{{"id":3,"name":"places","type":"objectgroup","x":0,"y":0,"opacity":1,"visible":true,"objects":[{}]}}]}}"#,
        layer(1, "ground", &ground.join(",")),
        layer(2, "naturals", &naturals.join(",")),
        marks.join(","),
    )?;
    Ok(file.flush()?)
}
