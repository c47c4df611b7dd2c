//! Broken variants of the bundled files, each with what is said of it; and that the bundled islands are known whole.

use std::path::Path;

use super::*;

fn bundled() -> [(String, String); 6] {
    FILES.map(|(name, text)| (name.to_owned(), text.to_owned()))
}

/// Changes one place of one file; gives all that is said then.
fn said(file: &str, from: &str, to: &str) -> Vec<String> {
    let mut texts = bundled();
    let (_, text) = texts.iter_mut().find(|(name, _)| name == file).expect("a file of the content");
    assert!(text.contains(from), "{file} has {from:?}");
    *text = text.replacen(from, to, 1);
    match Content::read(&texts) {
        Ok(_) => Vec::new(),
        Err(ContentError::Wrong(all)) => all.iter().map(Wrong::to_string).collect(),
        Err(other) => panic!("{other}"),
    }
}

/// The line on which a text of a bundled file stands.
fn line(file: &str, text: &str) -> usize {
    let (_, whole) = FILES.iter().find(|(name, _)| *name == file).expect("a file");
    whole[..whole.find(text).expect("it is there")].lines().count() + 1
}

fn check(file: &str, from: &str, to: &str, expected: &str) {
    let all = said(file, from, to);
    assert_eq!(all, [expected], "{file}: {from:?} → {to:?}");
}

#[test]
fn the_bundled_content_is_right_and_says_the_same_numbers_as_the_program() {
    let content = Content::bundled();
    assert_eq!(content.tuning, Tuning::default());
    assert!(content.items.len() >= 25 && content.recipes.len() >= 12 && content.species.len() >= 14);
    for tool in ["axe", "pick", "knife", "spear"] {
        assert!(content.items.values().any(|item| item.tool.as_deref() == Some(tool)), "{tool}");
    }
    let hunters = content.species.values().filter(|it| !it.hunts.is_empty()).count();
    let after_players = content.species.values().filter(|it| it.hunts.iter().any(|prey| prey == "player")).count();
    assert!(hunters >= 2 && after_players >= 1);
}

#[test]
fn everything_on_the_bundled_islands_is_known() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../islands");
    let content = Content::bundled();
    for terrain in cartographer::terrain::open_folder(folder).expect("the islands that come with Wildmesh") {
        for habitat in terrain.habitats() {
            assert!(content.species.contains_key(&habitat.species), "{}: {}", terrain.name(), habitat.species);
        }
        for number in 0..=255 {
            let name = terrain.natural_name(number);
            assert!(name.is_none_or(|name| content.naturals.contains_key(name)), "{}: {name:?}", terrain.name());
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_with_file_line_and_field() {
    let at = line("recipes.toml", "takes = { wood = 2, stone = 2 }");
    check(
        "recipes.toml",
        "takes = { wood = 2, stone = 2 }",
        "taks = { wood = 2, stone = 2 }",
        &format!(
            "recipes.toml:{at}: axe.taks: there is no such field: did you mean `takes`?; there are makes, count, takes, at, experience"
        ),
    );
    let at = line("naturals.toml", "[pine]");
    check(
        "naturals.toml",
        "yields = \"wood\"\n",
        "",
        &format!("naturals.toml:{at}: pine: it has no `yields`: write `yields = …`"),
    );
    check(
        "naturals.toml",
        "count = 2",
        "count = -2",
        &format!("naturals.toml:{}: pine.count: invalid value: integer `-2`, expected u64", at + 2),
    );
    let text = said("items.toml", "[wood]", "[wood");
    assert!(text.len() == 1 && text[0].starts_with("items.toml:6: "), "{text:?}");
    let twice = said("items.toml", "[stone]", "[wood]");
    assert!(twice.len() == 1 && twice[0].contains("duplicate key"), "{twice:?}");
    check(
        "tuning.toml",
        "reach_tiles = 3",
        "reach_tiles = \"far\"",
        "tuning.toml:2: reach_tiles: invalid type: string \"far\", expected u16",
    );
    check(
        "tuning.toml",
        "reach_tiles",
        "reach_tile",
        "tuning.toml:2: reach_tile: there is no such field: did you mean `reach_tiles`?; there are reach_tiles, voice_tiles, \
         stroke_ms, blow_ms, blow_harm, heal_per_minute, party_most, holding_most, chats_per_minute, claim_s",
    );
}

#[test]
fn names_that_refer_to_nothing_are_told_with_what_was_meant() {
    let pine = line("naturals.toml", "[pine]");
    for (file, from, to, expected) in [
        (
            "naturals.toml",
            "yields = \"wood\"",
            "yields = \"woot\"",
            format!(
                "naturals.toml:{}: pine.yields: there is no item `woot` in items.toml: did you mean `wood`?",
                pine + 1
            ),
        ),
        (
            "recipes.toml",
            "makes = \"axe\"",
            "makes = \"helicopter\"",
            format!(
                "recipes.toml:{}: axe.makes: there is no item `helicopter` in items.toml",
                line("recipes.toml", "makes = \"axe\"")
            ),
        ),
        (
            "recipes.toml",
            "at = \"hearth\"",
            "at = \"heart\"",
            format!(
                "recipes.toml:{}: roast.at: there is no facility `heart` in facilities.toml: did you mean `hearth`?",
                line("recipes.toml", "at = \"hearth\"")
            ),
        ),
        (
            "species.toml",
            "hunts = [\"player\"]",
            "hunts = [\"players\"]",
            format!(
                "species.toml:{}: wild_boar.hunts: there is no species `players`, nor is it `player`: did you mean `player`?",
                line("species.toml", "hunts = [\"player\"]")
            ),
        ),
        (
            "species.toml",
            "loot = { meat = 1, hide = 1 }",
            "loot = { meet = 1, hide = 1 }",
            format!(
                "species.toml:{}: hare.loot.meet: there is no item `meet` in items.toml: did you mean `meat`?",
                line("species.toml", "loot = { meat = 1, hide = 1 }")
            ),
        ),
        (
            "facilities.toml",
            "burns = [\"wood\", 120]",
            "burns = [\"petroleum\", 120]",
            format!(
                "facilities.toml:{}: hearth.burns: there is no item `petroleum` in items.toml",
                line("facilities.toml", "burns = [\"wood\", 120]")
            ),
        ),
        (
            "naturals.toml",
            "tool = \"axe\"",
            "tool = \"axt\"",
            format!(
                "naturals.toml:{}: broadleaf.tool: no item is the tool `axt`: did you mean `axe`?",
                line("naturals.toml", "tool = \"axe\"")
            ),
        ),
        (
            "naturals.toml",
            "tool = \"axe\"",
            "tool = \"wood\"",
            format!(
                "naturals.toml:{}: broadleaf.tool: `wood` is no tool: give it `tool = \"wood\"` in items.toml",
                line("naturals.toml", "tool = \"axe\"")
            ),
        ),
    ] {
        check(file, from, to, &expected);
    }
}

#[test]
fn numbers_that_make_no_sense_are_told_with_their_bounds() {
    for (file, from, to, field, problem) in [
        ("naturals.toml", "count = 2", "count = 0", "pine.count", "must be 1 to 1000, not 0"),
        ("naturals.toml", "strokes = 5", "strokes = 0", "pine.strokes", "must be 1 to 1000, not 0"),
        ("naturals.toml", "regrow_s = 120", "regrow_s = 0", "pine.regrow_s", "must be 1 to 315360000, not 0"),
        ("items.toml", "food = 5", "food = 101", "berry.food", "must be 0 to 100, not 101"),
        ("items.toml", "harm = 6", "harm = 200", "axe.harm", "must be 0 to 100, not 200"),
        ("items.toml", "harm = 6", "food = 1", "axe.food", "a tool cannot be eaten"),
        ("facilities.toml", "size = [1, 1]", "size = [17, 1]", "box.size", "1 to 16 tiles wide and high, not 17 and 1"),
        ("facilities.toml", "size = [1, 1]", "size = [1, 0]", "box.size", "1 to 16 tiles wide and high, not 1 and 0"),
        ("facilities.toml", "takes = { wood = 4 }", "takes = {}", "box.takes", "it takes nothing"),
        ("facilities.toml", "{ wood = 4 }", "{ wood = 0 }", "box.takes.wood", "must be 1 to 1000, not 0"),
        ("facilities.toml", "slots = 16", "slots = 1000", "box.slots", "must be 0 to 256, not 1000"),
        ("facilities.toml", "slots = 16", "slots = 16\ndoor = true", "box", "keep one of `slots`, `door` and `burns`"),
        ("facilities.toml", "[box]", "[nature]", "nature", "a meaning of its own"),
        ("facilities.toml", "[box]", "[Box]", "Box", "a name is 1 to 32 of a-z, 0-9 and _"),
        ("facilities.toml", "\"wood\", 120", "\"wood\", 0", "hearth.burns", "must be 1 to 315360000, not 0"),
        ("recipes.toml", "{ wood = 2, stone = 2 }", "{ wood = 2000 }", "axe.takes.wood", "must be 1 to 1000, not 2000"),
        ("recipes.toml", "{ wood = 2, stone = 2 }", "{ axe = 1 }", "axe.takes.axe", "it takes what it makes"),
        ("species.toml", "walk_speed = 180", "walk_speed = 0", "hare.walk_speed", "1 to 2048"),
        ("species.toml", "run_speed = 1300", "run_speed = 2049", "hare.run_speed", "1 to 2048"),
        ("species.toml", "run_speed = 1300", "run_speed = 100", "hare.run_speed", "slower than it walks, at 180"),
        ("species.toml", "sight_tiles = 9", "sight_tiles = 0", "hare.sight_tiles", "must be 1 to 64, not 0"),
        ("species.toml", "fear = 90", "fear = 190", "hare.fear", "must be 0 to 100, not 190"),
        ("species.toml", "toughness = 20", "toughness = 0", "hare.toughness", "must be 1 to 10000, not 0"),
        ("species.toml", "respawn_s = 180", "respawn_s = 0", "hare.respawn_s", "must be 1 to"),
        ("species.toml", "hunts = [\"player\"]", "hunts = [\"wild_boar\"]", "wild_boar.hunts", "it hunts itself"),
        ("species.toml", "hunts = [\"player\"]", "hunts = [\"hare\", \"hare\"]", "wild_boar.hunts", "names one twice"),
        ("tuning.toml", "blow_ms = 800", "blow_ms = 0", "blow_ms", "must be 1 to 60000, not 0"),
        ("tuning.toml", "holding_most = 9", "holding_most = 200", "holding_most", "must be 1 to 64, not 200"),
    ] {
        let all = said(file, from, to);
        let named = format!(": {field}: ");
        assert!(all.len() == 1, "{from:?} → {to:?}: {all:?}");
        assert!(all[0].starts_with(&format!("{file}:")) && all[0].contains(&named), "{from:?} → {to:?}: {all:?}");
        assert!(all[0].contains(problem), "{from:?} → {to:?}: {all:?}");
    }
}

#[test]
fn what_nobody_can_ever_have_is_told_at_its_cause() {
    // No flint grows any more, and the other knife needs a pick, which needs a knife.
    let mut texts = bundled();
    let edit = |text: &mut String, from: &str, to: &str| *text = text.replacen(from, to, 1);
    edit(&mut texts[1].1, "[flint]\nyields = \"flint\"", "[flint]\nyields = \"stone\"");
    edit(&mut texts[3].1, "takes = { wood = 2, stone = 3 }", "takes = { wood = 2, knife = 1 }");
    let Err(ContentError::Wrong(all)) = Content::read(&texts) else { panic!("it is impossible") };
    let all: Vec<String> = all.iter().map(Wrong::to_string).collect();
    let has = |file: &str, field: &str, problem: &str| {
        assert!(
            all.iter().any(|it| it.starts_with(file) && it.contains(field) && it.contains(problem)),
            "{file} {field} {problem}: {all:#?}"
        );
    };
    has("recipes.toml", ": knife.takes.flint: ", "nothing yields, drops or makes `flint`");
    has("recipes.toml", ": pick.takes.knife: ", "made only by what in the end needs it");
    has(
        "recipes.toml",
        ": obsidian_knife.takes.obsidian: ",
        "comes only of `obsidian`, for which nobody can have the tool",
    );
    has("naturals.toml", ": bamboo.tool: ", "nobody can ever have this tool");
    // All is told at once, in the order of files and lines.
    assert!(all.len() > 4);
}

#[test]
fn a_folder_is_read_like_the_bundled_files_and_a_missing_file_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/game/content");
    assert_eq!(*Content::open(&folder).expect("the same files"), *Content::bundled());
    let error = Content::open(&folder.join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("items.toml"), "{error}");
}
