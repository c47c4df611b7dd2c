//! One map in every form that the editor saves is one terrain.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cartographer::geometry::{IslandId, Place, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::{Stability, Terrain, open_folder};

use super::small::{MAP, TILESET, around_data, folder, gzip, open, words, write, zlib};

fn check(name: &str, file: &str, map: impl AsRef<[u8]>) {
    let terrain = open(file, map, TILESET).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_small(name, &terrain);
}

/// That this is the small island.
fn assert_small(name: &str, terrain: &Terrain) {
    assert_eq!(
        (terrain.id(), terrain.title(), terrain.stability()),
        (IslandId(77), "Skerry & Son", Stability::Unstable),
        "{name}"
    );
    assert_eq!((terrain.name(), terrain.size()), ("skerry", (8, 6)), "{name}");
    for y in 0..8 {
        for x in 0..10 {
            let tile = Tile::new(x, y);
            let grass = (1..=6).contains(&x) && (1..=3).contains(&y) || (2..=5).contains(&x) && y == 4;
            let on_map = x < 8 && y < 6;
            assert_eq!(terrain.walkable(tile), grass, "{name}: {tile}");
            let kind = if grass { "grass" } else { "deep_water" };
            assert_eq!(terrain.kind_at(tile).map(|kind| kind.name.as_str()), on_map.then_some(kind), "{name}: {tile}");
            let pine = [(2, 1), (5, 3)].contains(&(x, y));
            assert_eq!(terrain.natural_at(tile), pine.then_some(3), "{name}: {tile}");
        }
    }
    assert_eq!(
        (terrain.natural_count(), terrain.natural_name(3), terrain.natural_name(0)),
        (2, Some("pine"), None),
        "{name}"
    );
    assert_eq!(
        terrain.kinds().iter().find(|kind| kind.name == "grass").and_then(|kind| kind.colour),
        Some([0xab, 0xc8, 0x78]),
        "{name}"
    );
    let [spawn] = terrain.spawns() else { panic!("{name}: one spawn point") };
    assert_eq!((spawn.name.as_str(), spawn.place, spawn.spread_tiles), ("middle", Place::new(896, 640), 2), "{name}");
    let [harbour] = terrain.harbours() else { panic!("{name}: one harbour") };
    assert_eq!((harbour.name.as_str(), harbour.place), ("pier", Place::new(384, 384)), "{name}");
    let [wood, dell] = terrain.habitats() else { panic!("{name}: two habitats") };
    assert_eq!(
        (wood.species.as_str(), wood.animals, wood.bounds),
        ("roe_deer", 3, (Place::new(512, 256), Place::new(1280, 768)))
    );
    assert_eq!((dell.species.as_str(), dell.animals, dell.corners.len()), ("hare", 1, 3), "{name}");
    let inside = [Place::new(1280, 520), Place::new(1280, 1000)];
    let outside =
        [Place::new(1050, 1000), Place::new(1280, 500), Place::new(i32::MIN, i32::MAX), Place::new(i32::MAX, 600)];
    assert!(inside.iter().all(|&p| dell.contains(p)) && !outside.iter().any(|&p| dell.contains(p)), "{name}");
}

/// The map with each layer's CSV encoded in another way.
fn recoded(encoding: &str, encode: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let data = |csv| format!("<data {encoding}>\n   {}\n  </data>", STANDARD.encode(encode(&words(csv))));
    with_data(&data(around_data(0).1), &data(around_data(1).1))
}

/// The map with other `<data>` elements for ground and naturals.
fn with_data(ground: &str, naturals: &str) -> String {
    let (before, _, _) = around_data(0);
    let (until, _, after) = around_data(1);
    let between = until.split_once("</data>").map_or("", |(_, between)| between);
    [before, ground, between, naturals, after].concat()
}

#[test]
fn every_encoding_of_tile_layers_is_read() {
    check("csv", "skerry.tmx", MAP);
    check("base64", "skerry.tmx", recoded("encoding=\"base64\"", |b| b.to_vec()));
    check("zlib", "skerry.tmx", recoded("encoding=\"base64\" compression=\"zlib\"", zlib));
    check("gzip", "skerry.tmx", recoded("encoding=\"base64\" compression=\"gzip\"", gzip));
    let zstd = |b: &[u8]| zstd::encode_all(b, 19).unwrap();
    check("zstd", "skerry.tmx", recoded("encoding=\"base64\" compression=\"zstd\"", zstd));
}

#[test]
fn groups_offsets_of_tilesets_mirrored_tiles_and_marks_of_order_change_nothing() {
    check("bom", "skerry.tmx", format!("\u{feff}{MAP}"));
    let start = MAP.find(" <layer id=\"1\"").unwrap();
    let end = MAP.find("</map>").unwrap();
    check("group", "skerry.tmx", format!("{}<group name=\"all\">{}</group></map>", &MAP[..start], &MAP[start..end]));
    let decor = "<imagelayer name=\"sky\"><image source=\"x.png\"/></imagelayer><layer name=\"marks\" class=\"decor\" width=\"1\" height=\"1\"/>";
    check("decor", "skerry.tmx", MAP.replace("</map>", &format!("{decor}</map>")));
    let embedded = TILESET.split_once("?>").unwrap().1.replace("<tileset ", "<tileset firstgid=\"1\" ");
    check("embedded", "skerry.tmx", MAP.replace("<tileset firstgid=\"1\" source=\"tileset.tsx\"/>", &embedded));
    // Mirrored in all three ways: the flags are the highest bits.
    check("mirrored", "skerry.tmx", MAP.replacen("1,2,2,2,2,2,2,1,", "1,2684354562,1073741826,2147483650,2,2,2,1,", 1));
    let shifted =
        MAP.replace("firstgid=\"1\"", "firstgid=\"10\"").replace("0,0,4,0", "0,0,13,0").replace("0,4,0,0", "0,13,0,0");
    let grid = around_data(0).1;
    check("shifted", "skerry.tmx", shifted.replace(grid, &grid.replace('1', "10").replace('2', "11")));
    let old = MAP.replace("type=\"spawn\"", "class=\"spawn\"").replace("type=\"habitat\"", "class=\"habitat\"");
    check("class-of-1.9", "skerry.tmx", old);
}

#[test]
fn where_nothing_is_drawn_there_is_deep_water_and_upper_ground_covers_lower() {
    let lower = MAP.replacen("1,1,1,1,1,1,1,1", "0,0,0,0,0,0,0,0", 2);
    check("holes", "skerry.tmx", &lower);
    let sea = format!("1{}", ",0".repeat(47));
    let sea = format!(
        "<layer name=\"flood\" class=\"ground\" width=\"8\" height=\"6\"><data encoding=\"csv\">{sea}</data></layer>"
    );
    let dry = MAP.replacen("1,1,1,1,1,1,1,1", "2,1,1,1,1,1,1,1", 1);
    check("flood", "skerry.tmx", dry.replace(" <layer id=\"2\"", &format!("{sea} <layer id=\"2\"")));
    let flooded = MAP.replacen("1,2,2,2,2,2,2,1,", "1,1,1,1,1,1,1,1,", 1);
    let bridge = "<layer name=\"bridge\" class=\"ground\" width=\"8\" height=\"6\"><data encoding=\"csv\">0,0,0,0,0,0,0,0,0,2,2,2,2,2,2,0\
                  ,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0</data></layer>";
    check("bridge", "skerry.tmx", flooded.replace(" <layer id=\"2\"", &format!("{bridge} <layer id=\"2\"")));
}

#[test]
fn an_infinite_map_is_the_rectangle_around_its_chunks_wherever_they_lie() {
    let chunk = |x: i32, y: i32, w: usize, csv: &[&str]| {
        let rows: Vec<&str> = csv.to_vec();
        format!("<chunk x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{}\">{}</chunk>", rows.len(), rows.join(","))
    };
    let ground = [
        chunk(-4, -2, 4, &["1,1,1,1", "1,2,2,2", "1,2,2,2"]),
        chunk(0, -2, 4, &["1,1,1,1", "2,2,2,1", "2,2,2,1"]),
        chunk(-4, 1, 8, &["1,2,2,2,2,2,2,1", "1,1,2,2,2,2,1,1", "1,1,1,1,1,1,1,1"]),
    ];
    let naturals = [chunk(0, 1, 4, &["0,4,0,0"]), chunk(-4, -1, 4, &["0,0,4,0"])];
    let data = |chunks: &[String]| format!("<data encoding=\"csv\">{}</data>", chunks.concat());
    let mut map = with_data(&data(&ground), &data(&naturals));
    // Objects keep their pixels, counted from the origin of the plane.
    for (from, to) in [
        ("x=\"32\" y=\"16\"", (-32, -16)),
        ("x=\"64\" y=\"32\"", (0, 0)),
        ("x=\"56\" y=\"40\"", (-8, 8)),
        ("x=\"24\" y=\"24\"", (-40, -8)),
    ] {
        assert!(map.contains(from));
        map = map.replace(from, &format!("x=\"{}\" y=\"{}\"", to.0, to.1));
    }
    check("infinite", "skerry.tmx", map.replace("infinite=\"0\"", "infinite=\"1\""));
}

#[test]
fn the_json_form_is_the_same_map() {
    let packed = |n: usize| {
        let data = STANDARD.encode(zlib(&words(around_data(n).1)));
        format!("\"encoding\":\"base64\",\"compression\":\"zlib\",\"data\":\"{data}\"")
    };
    let plain = |n: usize| format!("\"data\":[{}]", around_data(n).1);
    for (name, layer) in [("json-numbers", &plain as &dyn Fn(usize) -> String), ("json-zlib", &packed)] {
        let map = format!(
            r##"{{"type":"map","version":"1.10","orientation":"orthogonal","infinite":false,"width":8,"height":6,"tilewidth":16,"tileheight":16,
            "properties":[{{"name":"island","type":"int","value":77}},{{"name":"kind","type":"string","value":"unstable"}},
              {{"name":"title","type":"string","value":"Skerry & Son"}},{{"name":"notes","type":"list","value":[1.5,{{"a":null}}]}}],
            "tilesets":[{{"firstgid":1,"source":"tileset.tsj"}}],
            "layers":[
             {{"type":"tilelayer","name":"ground","class":"ground","width":8,"height":6,{}}},
             {{"type":"tilelayer","name":"naturals","width":8,"height":6,{}}},
             {{"type":"objectgroup","name":"life","objects":[
               {{"id":1,"name":"wood","type":"habitat","x":32,"y":16,"width":48,"height":32,"rotation":0,
                 "properties":[{{"name":"animals","type":"int","value":3}},{{"name":"species","type":"string","value":"roe_deer"}}]}},
               {{"id":2,"name":"dell","type":"habitat","x":64,"y":32,"polygon":[{{"x":0,"y":0}},{{"x":32,"y":0}},{{"x":16,"y":32}}],
                 "properties":[{{"name":"species","type":"string","value":"hare"}}]}}]}},
             {{"type":"objectgroup","name":"arrivals","objects":[
               {{"id":3,"name":"middle","type":"spawn","x":56,"y":40,"point":true,"properties":[{{"name":"spread","type":"int","value":2}}]}},
               {{"id":4,"name":"pier","type":"harbour","x":24,"y":24,"point":true}}]}}]}}"##,
            layer(0),
            layer(1)
        );
        let folder = folder(&format!("form-{name}"));
        let tileset = r##"{"type":"tileset","name":"small","tilecount":8,"tiles":[
            {"id":0,"type":"deep_water","properties":[{"name":"walkable","type":"bool","value":false},{"name":"water","type":"bool","value":true}]},
            {"id":1,"type":"grass","properties":[{"name":"walkable","type":"bool","value":true},{"name":"colour","type":"color","value":"#abc878"}]},
            {"id":3,"type":"pine"}]}"##;
        write(&folder, "tileset.tsj", tileset);
        let terrain = Terrain::open(write(&folder, "skerry.tmj", map)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_small(name, &terrain);
    }
}

#[test]
fn a_folder_holds_islands_as_files_and_as_folders() {
    let top = folder("folder");
    for inner in ["skerry", "art", ".tiled"] {
        std::fs::create_dir_all(top.join(inner)).unwrap();
    }
    write(&top, "tileset.tsx", TILESET);
    write(&top, "other.tmx", MAP.replace("value=\"77\"", "value=\"5\""));
    write(&top.join("skerry"), "skerry.tmx", MAP.replace("tileset.tsx", "../tileset.tsx"));
    write(&top.join("art"), "pine.png", "");
    write(&top.join(".tiled"), "draft.tmx", "half a map");
    let islands = open_folder(&top).unwrap();
    assert_eq!(islands.iter().map(|i| (i.id().0, i.name())).collect::<Vec<_>>(), [(5, "other"), (77, "skerry")]);
    assert_small("folder", &islands[1]);

    write(&top, "third.tmx", MAP);
    let error = open_folder(&top).unwrap_err();
    assert_eq!(error.file.file_name().unwrap(), "third.tmx");
    assert!(
        error.to_string().contains("has the island number 77 of ") && error.to_string().ends_with("skerry.tmx"),
        "{error}"
    );

    write(&top.join("skerry"), "copy.tmx", MAP);
    let error = open_folder(&top).unwrap_err();
    assert!(error.file.ends_with("skerry") && error.to_string().contains("holds 2 maps"), "{error}");
    let error = open_folder(top.join("nowhere")).unwrap_err();
    assert!(error.to_string().ends_with("nowhere: cannot be read"), "{error}");
}
