//! The islands of the simulation: two small ones, drawn here, opened once for the process.
//!
//! Small, so that people meet; larger than what one sees, so that objects come into sight and go out of it. They NEVER change:
//! runs on other threads share them.

use std::sync::{Arc, OnceLock};

use cartographer::terrain::Terrain;
use nodes::game::content::Content;

use crate::village::Land;

/// The island where people are born.
pub const HOME: u32 = 1;

/// The island to which they sail.
pub const AWAY: u32 = 2;

/// Where people go to meet, on the island of birth.
pub const SQUARES: [(u16, u16); 3] = [(30, 30), (52, 34), (74, 30)];

/// The home island's harbour.
pub const HARBOUR: (u16, u16) = (50, 28);

/// What grows, and every how many tiles.
const NATURALS: [&str; 6] = ["pine", "berry_bush", "stone", "reed", "flint", "herb"];

/// The islands, in the order of their numbers.
pub fn terrains() -> Vec<Arc<Terrain>> {
    static OPENED: OnceLock<Vec<Arc<Terrain>>> = OnceLock::new();
    OPENED.get_or_init(open).clone()
}

fn open() -> Vec<Arc<Terrain>> {
    let folder = crate::processes::folder();
    let home = sown(Land::meadow(HOME, "sim_home", 104, 64), 104, 64)
        .habitat("wild_boar", 3, 34, 36, 6, 6)
        .habitat("wild_boar", 2, 66, 24, 6, 6)
        .habitat("goat", 4, 84, 40, 8, 8)
        .harbour(HARBOUR.0, HARBOUR.1)
        .ground("deep_water", HARBOUR.0, HARBOUR.1 - 4, 2, 2);
    let away = sown(Land::meadow(AWAY, "sim_away", 40, 40), 40, 40)
        .habitat("wild_boar", 2, 24, 24, 5, 5)
        .harbour(20, 14)
        .ground("deep_water", 20, 10, 2, 2);
    [home, away].iter().map(|land| Arc::new(land.open(folder.path()))).collect()
}

fn sown(mut land: Land, width: u16, height: u16) -> Land {
    for y in (6..height - 6).step_by(3) {
        for x in (6..width - 6).step_by(3) {
            let number = usize::from(x / 3 * 7 + y / 3 * 5);
            // Some tiles are left free for what people build.
            if number % 4 != 0 {
                land = land.natural(NATURALS[number % NATURALS.len()], x, y);
            }
        }
    }
    land
}

/// The game's content for a run: quicker than the bundled one, so that much happens in half a minute.
pub fn content(fierce: bool) -> Arc<Content> {
    static PLAIN: OnceLock<[Arc<Content>; 2]> = OnceLock::new();
    PLAIN.get_or_init(|| [quick(false), quick(true)])[usize::from(fierce)].clone()
}

fn quick(fierce: bool) -> Arc<Content> {
    let mut content = (*Content::bundled()).clone();
    for natural in content.naturals.values_mut() {
        (natural.strokes, natural.regrow_s, natural.tool) = (2, 20, None);
    }
    for species in content.species.values_mut() {
        (species.toughness, species.respawn_s) = (40, 8);
        species.loot = [("hide".to_owned(), 1)].into();
        species.fear = species.fear.min(20);
        species.harm = if fierce { 20 } else { 3 };
    }
    if fierce && let Some(boar) = content.species.get_mut("wild_boar") {
        (boar.hunts, boar.fear, boar.sight_tiles) = (vec!["player".to_owned()], 0, 14);
    }
    content.tuning.chats_per_minute = 100_000;
    content.tuning.stroke_ms = 100;
    content.tuning.blow_ms = 400;
    Arc::new(content)
}
