//! A small island in the editor's format, to be saved in other ways and to be broken.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cartographer::terrain::{Terrain, TerrainError};

/// 8×6 tiles: grass in the middle, sea around it, two pines; a habitat, a spawn point and a harbour.
pub(crate) const MAP: &str = r##"<?xml version="1.0" encoding="UTF-8"?>
<map version="1.10" orientation="orthogonal" renderorder="right-down" width="8" height="6" tilewidth="16" tileheight="16" infinite="0">
 <properties>
  <property name="island" type="int" value="77"/>
  <property name="kind" value="unstable"/>
  <property name="title" value="Skerry &amp; Son"/>
 </properties>
 <tileset firstgid="1" source="tileset.tsx"/>
 <layer id="1" name="ground" class="ground" width="8" height="6">
  <data encoding="csv">
1,1,1,1,1,1,1,1,
1,2,2,2,2,2,2,1,
1,2,2,2,2,2,2,1,
1,2,2,2,2,2,2,1,
1,1,2,2,2,2,1,1,
1,1,1,1,1,1,1,1
</data>
 </layer>
 <layer id="2" name="naturals" width="8" height="6">
  <data encoding="csv">
0,0,0,0,0,0,0,0,
0,0,4,0,0,0,0,0,
0,0,0,0,0,0,0,0,
0,0,0,0,0,4,0,0,
0,0,0,0,0,0,0,0,
0,0,0,0,0,0,0,0
</data>
 </layer>
 <objectgroup id="3" name="life">
  <object id="1" name="wood" type="habitat" x="32" y="16" width="48" height="32">
   <properties>
    <property name="animals" type="int" value="3"/>
    <property name="species" value="roe_deer"/>
   </properties>
  </object>
  <object id="2" name="dell" type="habitat" x="64" y="32">
   <properties>
    <property name="species" value="hare"/>
   </properties>
   <polygon points="0,0 32,0 16,32"/>
  </object>
 </objectgroup>
 <objectgroup id="4" name="arrivals">
  <object id="3" name="middle" type="spawn" x="56" y="40">
   <properties>
    <property name="spread" type="int" value="2"/>
   </properties>
   <point/>
  </object>
  <object id="4" name="pier" type="harbour" x="24" y="24">
   <point/>
  </object>
 </objectgroup>
</map>
"##;

/// Its tileset: sea, grass, a tile without `walkable`, a pine, and ground without a class.
pub(crate) const TILESET: &str = r##"<?xml version="1.0" encoding="UTF-8"?>
<tileset version="1.10" name="small" tilewidth="16" tileheight="16" tilecount="8" columns="8">
 <image source="small.png" width="128" height="16"/>
 <tile id="0" type="deep_water">
  <properties>
   <property name="walkable" type="bool" value="false"/>
   <property name="water" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="1" type="grass">
  <properties>
   <property name="colour" type="color" value="#ffabc878"/>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
 <tile id="2" type="mystery"/>
 <tile id="3" type="pine"/>
 <tile id="4">
  <properties>
   <property name="walkable" type="bool" value="true"/>
  </properties>
 </tile>
</tileset>
"##;

/// An empty folder of this name.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("terrain").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the temporary folder can be made");
    folder
}

/// Writes a file into a folder.
pub(crate) fn write(folder: &Path, file: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(file);
    std::fs::write(&path, bytes).expect("the temporary file can be written");
    path
}

/// Writes map and tileset into a folder of their own, opens the map, and takes the folder away.
pub(crate) fn open(map_file: &str, map: impl AsRef<[u8]>, tileset: &str) -> Result<Terrain, TerrainError> {
    static FOLDERS: AtomicU64 = AtomicU64::new(0);
    let folder = folder(&format!("small-{}", FOLDERS.fetch_add(1, Ordering::Relaxed)));
    write(&folder, "tileset.tsx", tileset);
    let opened = Terrain::open(write(&folder, map_file, map));
    let _ = std::fs::remove_dir_all(folder);
    opened
}

/// The CSV of the map's first (0) or second (1) tile layer, and what stands before and after it and its `<data>`.
pub(crate) fn around_data(nth: usize) -> (&'static str, &'static str, &'static str) {
    let (start, _) = MAP.match_indices("<data ").nth(nth).expect("the map has two tile layers");
    let (csv, after) = MAP[start..].split_once("</data>").expect("data ends");
    (&MAP[..start], csv.split_once('>').expect("the element begins").1, after)
}

/// The tile numbers of this CSV as the editor packs them.
pub(crate) fn words(csv: &str) -> Vec<u8> {
    csv.split(',').flat_map(|n| n.trim().parse::<u32>().expect("a tile number").to_le_bytes()).collect()
}

pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes it")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes it")
}
