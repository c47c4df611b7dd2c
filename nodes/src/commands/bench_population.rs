//! `wildmesh bench population`: a day of players coming and going, played against the steward's planner.
//!
//! A model, not a measurement: it takes a second and says the same every time. The rules are the usual ones, the templates
//! those of the folder.

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::BenchPopulation;
use crate::islands;
use crate::steward::planner::Template;
use crate::steward::{WorldRules, day, duty};

/// Runs the command.
pub fn run(bench: &BenchPopulation) -> Result<()> {
    let islands = islands::open(bench.islands.as_deref())?;
    let packages = islands.templates().iter();
    let templates: Vec<Template> =
        packages.map(|(name, terrain)| Template { name: name.clone(), animals: duty::animals_of(terrain) }).collect();
    let rules = WorldRules::default();
    let day = day::play(&rules, &templates, day::population);
    let most = |of: fn(&day::Moment) -> u32| day.moments.iter().map(of).max().unwrap_or(0);
    let sum = |of: fn(&day::Moment) -> u32| day.moments.iter().map(|m| u64::from(of(m))).sum::<u64>();
    let places = sum(|m| m.open) * u64::from(rules.players_per_island);
    let per_player = places as f64 / sum(|m| m.there).max(1) as f64;
    println!(
        "{} players at most; {} islands made, {} at once at most, {} given up early; {} animals at most; {per_player:.2} places \
         for each player on unstable islands over the day",
        most(|m| m.players),
        day.made,
        most(|m| m.open),
        day.given_up,
        most(|m| m.animals),
    );
    if let Some(file) = &bench.svg {
        std::fs::write(file, day::svg(&day)).with_context(|| format!("could not write {}", file.display()))?;
    }
    if bench.json {
        let figures = json!({
            "players_most": most(|m| m.players), "islands_made": day.made, "islands_most": most(|m| m.open),
            "given_up": day.given_up, "animals_most": most(|m| m.animals), "places_per_player": per_player,
        });
        println!("{figures}");
    }
    Ok(())
}
