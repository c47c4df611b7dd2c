//! Broken maps: each is refused with the file, the layer and the reason; none makes the reader panic or swell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cartographer::terrain::{Terrain, open_folder};

use super::small::{MAP, TILESET, around_data, folder, open, words, write, zlib};

/// A map is refused.
struct Refused<'a> {
    /// The file at fault.
    file: &'a str,
    /// The layer at fault; empty if none is.
    layer: &'a str,
    /// What the reason says, among other things.
    because: &'a str,
}

fn check(map: &str, tileset: &str, refused: Refused<'_>) {
    let error = open("map.tmx", map, tileset).expect_err(refused.because);
    let text = error.to_string();
    assert_eq!(error.file.file_name().and_then(|name| name.to_str()), Some(refused.file), "{text}");
    assert_eq!(error.layer.as_deref().unwrap_or(""), refused.layer, "{text}");
    assert!(text.contains(refused.because), "{text:?} should contain {:?}", refused.because);
    assert!(text.contains(refused.file) && text.contains(refused.layer), "{text}");
    assert!(!text.ends_with('.'), "{text}");
}

/// The map with its first `from` replaced by `to` is refused.
fn edited(from: &str, to: &str, layer: &str, because: &str) {
    assert!(MAP.contains(from), "{from:?} is not in the map");
    check(&MAP.replacen(from, to, 1), TILESET, Refused { file: "map.tmx", layer, because });
}

#[test]
fn a_map_that_is_no_island_is_refused() {
    edited("\"orthogonal\"", "\"hexagonal\"", "", "is \"hexagonal\", and only orthogonal maps");
    edited("\"orthogonal\"", "\"isometric\"", "", "is \"isometric\"");
    edited("orientation=\"orthogonal\"", "", "", "is \"\"");
    edited("tilewidth=\"16\"", "tilewidth=\"0\"", "", "no size in pixels");
    edited("width=\"8\" height=\"6\"", "width=\"4097\" height=\"6\"", "", "is 4097×6 tiles");
    edited("width=\"8\" height=\"6\"", "width=\"8\" height=\"0\"", "", "is 8×0 tiles");
    edited("width=\"8\" height=\"6\"", "width=\"4294967295\" height=\"4294967295\"", "", "is 4294967295×4294967295");
    edited("width=\"8\" height=\"6\"", "width=\"-8\" height=\"6\"", "", "<map> width=\"-8\" is not a number that fits");
    edited("infinite=\"0\"", "infinite=\"1\"", "", "is 0×0 tiles");
}

#[test]
fn a_map_without_its_properties_is_refused() {
    edited("name=\"island\"", "name=\"isle\"", "", "map property \"island\" is missing");
    edited("value=\"77\"", "value=\"0\"", "", "map property \"island\" is no int from 1");
    edited("value=\"77\"", "value=\"-3\"", "", "map property \"island\" is no int from 1");
    edited("value=\"77\"", "value=\"many\"", "", "property \"island\" is not a whole number");
    edited("type=\"int\" value=\"77\"", "value=\"77\"", "", "map property \"island\" is no int");
    edited("value=\"Skerry &amp; Son\"", "value=\" \"", "", "map property \"title\" is no text");
    edited("value=\"Skerry &amp; Son\"", &format!("value=\"{}\"", "x".repeat(129)), "", "map property \"title\"");
    edited("value=\"unstable\"", "value=\"wobbly\"", "", "map property \"kind\" is neither");
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let check = |map: &str, because| check(map, TILESET, Refused { file: "map.tmx", layer: "", because });
    check("", "it ends before <map>");
    check("no xml at all", "it ends before <map>");
    check("<world/>", "its root is <world>, not <map>");
    check(&MAP[..MAP.find(" <objectgroup").unwrap_or(0)], "it ends inside <map>");
    check(&MAP[..MAP.find("id=\"3\"").unwrap_or(0)], "tag not closed");
    check(&MAP.replace("</objectgroup>", "</objectgruop>"), "is not a Tiled map or tileset");
    check(&MAP.replace("&amp;", "&son;"), "unrecognized entity `son`");
    check(&MAP.replace("1,2,2", "1,&two;,2"), "it uses an entity of its own");
    let bomb = "<!DOCTYPE map [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>";
    check(&MAP.replace("?>", &format!("?>{bomb}")).replace("1,2,2", "1,&b;,2"), "it uses an entity of its own");
    check(
        &MAP.replace("</map>", &format!("{}{}</map>", "<group>".repeat(5000), "</group>".repeat(5000))),
        "nested deeper",
    );
    check(&MAP.replace("</map>", &format!("{}</map>", "<a/>".repeat(600_000))), "more than 500000 elements");
    check(&MAP.replace("value=\"77\"", "value=\"77"), "is not a Tiled map or tileset");
}

#[test]
fn json_that_is_no_map_is_refused() {
    let check = |map: &str, because: &str| {
        let error = open("map.tmj", map, TILESET).expect_err(because);
        assert!(
            error.file.ends_with("map.tmj") && error.to_string().contains(because),
            "{error} should contain {because}"
        );
    };
    check("", "EOF while parsing");
    check("[]", "its type is \"\", not \"map\"");
    check("{\"type\":\"world\"}", "its type is \"world\", not \"map\"");
    check("{\"type\":\"map\",\"width\":-1}", "invalid value: integer `-1`");
    check("{\"type\":\"map\",\"layers\":[{\"data\":[1,-2]}]}", "integer `-2`");
    check(&format!("{{\"type\":\"map\",\"layers\":{}", "[".repeat(400)), "is not a Tiled map");
    check(&format!("{{\"type\":\"map\",\"layers\":[{}]}}", "{},".repeat(600_000)), "more than 500000 elements");
    let nested = |depth: usize| format!("{}{}", "{\"layers\":[".repeat(depth), "]}".repeat(depth));
    check(&format!("{{\"type\":\"map\",\"layers\":[{}]}}", nested(300)), "recursion limit");
    check(&format!("{{\"type\":\"map\",\"x\":{}{}}}", "[".repeat(300), "]".repeat(300)), "only orthogonal maps");
    let error = Terrain::open(write(&folder("broken-name"), "map.png", MAP)).expect_err("no map by its name");
    assert!(error.to_string().contains("ends neither in .tmx nor in .tmj"), "{error}");
    let error = Terrain::open(write(&folder("broken-bytes"), "map.tmx", b"<map \xff\xfe/>")).expect_err("no text");
    assert!(error.to_string().contains("it is not UTF-8"), "{error}");
    let error = Terrain::open(folder("broken-folder.tmx")).expect_err("a folder");
    assert!(error.to_string().contains("it is not a file"), "{error}");
    let error = Terrain::open("/nowhere/at/all.tmx").expect_err("no file");
    assert!(error.to_string() == "/nowhere/at/all.tmx: cannot be read" && std::error::Error::source(&error).is_some());
}

#[test]
fn wrong_layers_are_refused_by_name() {
    edited("class=\"ground\"", "class=\"gruond\"", "ground", "is a tile layer of unknown use");
    edited(
        "name=\"ground\" class=\"ground\"",
        "name=\"ground\" class=\"decor\"",
        "",
        "has no layer of class or name \"ground\"",
    );
    edited("name=\"naturals\"", "name=\"natrals\"", "natrals", "is a tile layer of unknown use");
    edited("name=\"naturals\"", "name=\"ground\"", "ground", "stands twice in the map");
    edited("name=\"life\"", "name=\"arrivals\"", "arrivals", "stands twice in the map");
    edited(
        "name=\"ground\" class=\"ground\"",
        "name=\"trees\" class=\"naturals\"",
        "naturals",
        "stands twice in the map",
    );
    edited(
        "name=\"ground\" class=\"ground\" width=\"8\"",
        "name=\"ground\" width=\"9\"",
        "ground",
        "is 9×6 tiles on a map of 8×6",
    );
    edited("name=\"ground\" class", "offsetx=\"16\" name=\"ground\" class", "ground", "is drawn with an offset");
    edited("</map>", &format!("{}</map>", "<imagelayer/>".repeat(70)), "", "has more than 64 layers");
    let grouped = MAP
        .replace(" <layer id=\"2\"", "<group name=\"shore\"><layer id=\"2\"")
        .replace("</layer>\n <objectgroup", "</layer></group><objectgroup");
    let wrong = grouped.replace("0,0,4,0", "0,0,2,0");
    check(&wrong, TILESET, Refused { file: "map.tmx", layer: "shore/naturals", because: "tile 2,1 shows tile id 1" });
}

#[test]
fn wrong_tiles_are_refused_where_they_are() {
    edited(
        "1,2,2,2,2,2,2,1",
        "1,2,2,9,2,2,2,1",
        "ground",
        "tile 3,1 has the number 9, which no tileset of the map knows",
    );
    edited("1,2,2,2,2,2,2,1", "1,2,2,268435455,2,2,2,1", "ground", "tile 3,1 has the number 268435455");
    edited(
        "1,2,2,2,2,2,2,1",
        "1,2,3,2,2,2,2,1",
        "ground",
        "tile 2,1 shows tile id 2 of tileset \"small\", which has no bool property \"walkable\"",
    );
    edited(
        "1,2,2,2,2,2,2,1",
        "1,2,5,2,2,2,2,1",
        "ground",
        "tile 2,1 shows tile id 4 of tileset \"small\", which has no class",
    );
    edited("0,0,4,0", "0,0,1,0", "naturals", "tile 2,1 shows tile id 0 of tileset \"small\", which is ground");
    edited("0,0,4,0", "0,0,12,0", "naturals", "tile 2,1 has the number 12");
    let two = MAP
        .replace(" <layer id=\"1\"", "<tileset firstgid=\"20\" name=\"more\" tilecount=\"4\"/> <layer id=\"1\"")
        .replacen("0,0,4,0", "0,0,21,0", 1);
    check(
        &two,
        TILESET,
        Refused { file: "map.tmx", layer: "naturals", because: "is not the tileset of the other natural objects" },
    );
}

#[test]
fn broken_tilesets_are_refused() {
    edited("source=\"tileset.tsx\"", "source=\"other.tsx\"", "", "tileset \"other.tsx\" cannot be found");
    edited(
        "source=\"tileset.tsx\"",
        "source=\"/etc/passwd\"",
        "",
        "tileset \"/etc/passwd\" is named by an absolute path",
    );
    edited("source=\"tileset.tsx\"", "source=\"map.tmx\"", "", "ends neither in .tsx nor in .tsj");
    edited("firstgid=\"1\"", "firstgid=\"0\"", "", "tileset \"small\" has tile numbers (firstgid) out of bounds");
    edited("firstgid=\"1\"", "firstgid=\"4294967295\"", "", "out of bounds");
    let twice = "<tileset firstgid=\"1\" source=\"tileset.tsx\"/><tileset firstgid=\"8\" source=\"tileset.tsx\"/>";
    edited(
        "<tileset firstgid=\"1\" source=\"tileset.tsx\"/>",
        twice,
        "",
        "claims tile numbers (firstgid) of another tileset",
    );
    let tileset = |from: &str, to: &str, because: &str| {
        assert!(TILESET.contains(from), "{from}");
        check(MAP, &TILESET.replacen(from, to, 1), Refused { file: "tileset.tsx", layer: "", because });
    };
    tileset("<tileset ", "<tilest ", "is not a Tiled map or tileset");
    tileset("</tileset>", "", "it ends inside <tileset>");
    tileset("tilecount=\"8\"", "tilecount=\"4294967295\"", "declares 4294967295 tiles");
    tileset("<tile id=\"1\"", "<tile id=\"0\"", "tile 0: stands twice");
    tileset("<tile id=\"1\"", "<tile id=\"4294967295\"", "has a tile 4294967295");
    tileset("<tile id=\"1\"", "<tile ", "a <tile> has no id");
    tileset(
        "type=\"bool\" value=\"false\"",
        "type=\"bool\" value=\"no\"",
        "property \"walkable\" is neither true nor false",
    );
    tileset("type=\"bool\" value=\"false\"", "value=\"false\"", "tile 0: property \"walkable\" is no bool");
    tileset("#ffabc878", "#abc", "tile 1: property \"colour\" is no colour");
    let kinds: String = (8..300).map(|id| format!("<tile id=\"{id}\" type=\"k{id}\"><properties><property name=\"walkable\" type=\"bool\" value=\"true\"/></properties></tile>")).collect();
    let many = TILESET.replace("</tileset>", &format!("{kinds}</tileset>"));
    check(MAP, &many, Refused { file: "map.tmx", layer: "", because: "has more than 255 kinds of ground" });
}

/// The map with the ground's data replaced is refused for that layer.
fn ground(attributes: &str, data: &str, because: &str) {
    let (before, _, after) = around_data(0);
    let map = format!("{before}<data {attributes}>{data}</data>{after}");
    check(&map, TILESET, Refused { file: "map.tmx", layer: "ground", because });
}

#[test]
fn broken_layer_data_is_refused() {
    let whole = zlib(&[1, 0, 0, 0].repeat(48));
    let packed = |bytes: &[u8]| STANDARD.encode(bytes);
    ground("", "", "data has fewer tiles than the 48");
    ground("encoding=\"csv\"", "1,2,3", "data has fewer tiles than the 48");
    ground("encoding=\"csv\"", &"1,".repeat(48), "\"\" is not a tile number");
    ground("encoding=\"csv\"", &format!("1{}", ",1".repeat(48)), "data has more tiles than the 48");
    ground("encoding=\"csv\"", "1,two,3", "\"two\" is not a tile number");
    ground("encoding=\"csv\"", "1,-2,3", "\"-2\" is not a tile number");
    ground("encoding=\"csv\"", "1,4294967296,3", "\"4294967296\" is not a tile number");
    ground("encoding=\"csv\" compression=\"zlib\"", "1", "encoding \"csv\" with compression \"zlib\" is not read");
    ground("encoding=\"base64\" compression=\"lzma\"", "AAAA", "compression \"lzma\" is not read");
    ground("encoding=\"base64\"", "*nonsense*", "data is broken");
    ground("encoding=\"base64\"", "AQAAAAEA", "data is broken: it ends in the middle of a tile");
    ground("encoding=\"base64\"", &packed(&[0; 4 * 47]), "data has fewer tiles than the 48");
    ground("encoding=\"base64\"", &packed(&[0; 4 * 49]), "data has more tiles than the 48");
    for compression in ["zlib", "gzip", "zstd"] {
        let attributes = format!("encoding=\"base64\" compression=\"{compression}\"");
        ground(&attributes, &packed(b"this is not compressed at all"), "data is broken");
        ground(&attributes, "", "data");
    }
    let zlib_attributes = "encoding=\"base64\" compression=\"zlib\"";
    for length in 1..whole.len() {
        ground(zlib_attributes, &packed(&whole[..length]), "data");
    }
    let mut bent = whole.clone();
    *bent.last_mut().expect("it has bytes") ^= 1;
    ground(zlib_attributes, &packed(&bent), "data is broken");
}

#[test]
fn a_layer_that_unfolds_without_end_is_refused_without_unfolding_it() {
    let bomb = vec![0; 64 << 20];
    ground(
        "encoding=\"base64\" compression=\"zlib\"",
        &STANDARD.encode(zlib(&bomb)),
        "data has more tiles than the 48",
    );
    let zstd = zstd::encode_all(&bomb[..], 1).expect("memory takes it");
    ground("encoding=\"base64\" compression=\"zstd\"", &STANDARD.encode(zstd), "data");
    // As large as an island may be, and nothing in it.
    let huge = MAP.replace("width=\"8\" height=\"6\"", "width=\"4096\" height=\"4096\"");
    check(
        &huge,
        TILESET,
        Refused { file: "map.tmx", layer: "ground", because: "data has fewer tiles than the 16777216" },
    );
}

#[test]
fn wrong_chunks_of_an_infinite_map_are_refused() {
    let infinite = |chunks: &str, layer: &str, because: &str| {
        let (before, _, after) = around_data(0);
        let map = format!("{before}<data encoding=\"csv\">{chunks}</data>{after}")
            .replace("infinite=\"0\"", "infinite=\"1\"");
        check(&map, TILESET, Refused { file: "map.tmx", layer, because });
    };
    let chunk = |x: &str, width: &str| format!("<chunk x=\"{x}\" y=\"0\" width=\"{width}\" height=\"1\">2</chunk>");
    infinite(&chunk("0", "2"), "ground", "chunk at 0,0 data has fewer tiles than the 2");
    infinite(&(chunk("0", "1") + &chunk("5", "0")), "ground", "chunk at 5,0 of 0×1 tiles is empty");
    infinite(&(chunk("-2147483648", "1") + &chunk("2147483647", "1")), "", "is 4294967296×1 tiles");
    infinite(&chunk("2147483647", "4294967295"), "", "is 4294967295×1 tiles");
    infinite(&(chunk("0", "1") + &chunk("4096", "1")), "", "is 4097×1 tiles");
    infinite(&chunk("far", "1"), "", "<chunk> x=\"far\" is not a number");
}

#[test]
fn wrong_objects_are_refused_by_layer_and_name() {
    let spawn = "x=\"56\" y=\"40\"";
    edited(
        spawn,
        "x=\"8\" y=\"8\"",
        "arrivals",
        "object 3 (\"middle\" of class \"spawn\") lies on water (deep_water, tile 0,0)",
    );
    edited(spawn, "x=\"-1\" y=\"40\"", "arrivals", "lies outside the map");
    edited(spawn, "x=\"128\" y=\"40\"", "arrivals", "lies outside the map");
    edited(spawn, "x=\"NaN\" y=\"40\"", "arrivals", "lies outside the map");
    edited(spawn, "x=\"inf\" y=\"40\"", "arrivals", "lies outside the map");
    edited(spawn, "x=\"56\" y=\"40\" width=\"16\" height=\"16\"", "arrivals", "is not a point");
    edited(spawn, "x=\"56\" y=\"40\" gid=\"4\"", "arrivals", "is a tile, a text, a line or a capsule");
    edited(spawn, "x=\"56\" y=\"40\" rotation=\"45\"", "arrivals", "is turned");
    edited(spawn, "x=\"56\" y=\"40\" template=\"self.tx\"", "arrivals", "is made from a template");
    edited("type=\"spawn\"", "type=\"spwan\"", "arrivals", "is none of spawn, harbour and habitat");
    edited("type=\"spawn\"", "type=\"harbour\"", "", "has no object of class \"spawn\"");
    edited(
        "name=\"spread\" type=\"int\" value=\"2\"",
        "name=\"spread\" type=\"int\" value=\"65\"",
        "arrivals",
        "no int from 0 to 64",
    );
    edited(
        "x=\"24\" y=\"24\"",
        "x=\"8\" y=\"8\"",
        "arrivals",
        "object 4 (\"pier\" of class \"harbour\") lies on water",
    );
    edited(
        "name=\"species\"",
        "name=\"specie\"",
        "life",
        "object 1 (\"wood\" of class \"habitat\") has no string property \"species\"",
    );
    edited("value=\"3\"", "value=\"1001\"", "life", "no int from 0 to 1000");
    edited("width=\"48\" height=\"32\"", "width=\"48\" height=\"0\"", "life", "has no area");
    edited("width=\"48\" height=\"32\"", "width=\"480\" height=\"32\"", "life", "lies outside the map");
    edited("<polygon points=\"0,0 32,0 16,32\"/>", "<ellipse/>", "life", "neither a rectangle nor a polygon");
    edited("points=\"0,0 32,0 16,32\"", "points=\"0,0 32,0\"", "life", "has 2 corners");
    edited("points=\"0,0 32,0 16,32\"", "points=\"0,0 32,x 16,32\"", "", "are not pairs of numbers");
    let rocky = TILESET.replacen(
        "value=\"true\"/>\n  </properties>\n </tile>\n <tile id=\"1\"",
        "value=\"false\"/>\n  </properties>\n </tile>\n <tile id=\"1\"",
        1,
    );
    let dry = MAP.replace(spawn, "x=\"8\" y=\"8\"");
    check(&dry, &rocky, Refused { file: "map.tmx", layer: "arrivals", because: "lies on water" });
    let wide = MAP.replace("1,1", "2,2").replace("1,2", "2,2").replace("2,1", "2,2");
    check(
        &wide,
        TILESET,
        Refused {
            file: "map.tmx",
            layer: "arrivals",
            because: "(\"pier\" of class \"harbour\") has no water within 4 tiles",
        },
    );
}

#[test]
fn no_damage_to_a_file_makes_the_reader_panic() {
    let packed = {
        let (before, csv, after) = around_data(0);
        let data = STANDARD.encode(zlib(&words(csv)));
        format!("{before}<data encoding=\"base64\" compression=\"zlib\">{data}</data>{after}")
    };
    let island = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands/ulleung.tmj");
    let json = std::fs::read(island).expect("the island is there");
    let folder = folder("damage");
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut opened, mut refused) = (0, 0);
    for round in 0..1500 {
        let (mut map, mut tileset) = (packed.clone().into_bytes(), TILESET.as_bytes().to_vec());
        let mut name = "map.tmx";
        let target = match round % 8 {
            0 => &mut tileset,
            1 if round % 5 == 0 => {
                (map, name) = (json.clone(), "map.tmj");
                &mut map
            }
            _ => &mut map,
        };
        for _ in 0..1 + random(3) {
            let at = random(target.len());
            match random(4) {
                0 => target[at] = b"0123456789-\"<>/=,e{}[]"[random(22)],
                1 => target[at] ^= 1 << random(8),
                2 => drop(target.splice(at..at, b"999999999".iter().copied())),
                _ => target.truncate(at.max(1)),
            }
        }
        write(&folder, "tileset.tsx", tileset);
        match Terrain::open(write(&folder, name, map)) {
            Ok(terrain) => opened += usize::from(terrain.bytes() > 0),
            Err(error) => refused += usize::from(!error.to_string().is_empty()),
        }
    }
    assert!(opened > 100 && refused > 500, "{opened} opened, {refused} refused");
    assert!(open_folder(&folder).is_ok() || open_folder(&folder).is_err());
}
