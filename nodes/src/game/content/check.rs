//! The rules of content: what refers to something that is not there, what can never be had, numbers that make no sense.
//!
//! Every problem is told, each once and at its cause, with what to do about it. What passes here can be relied upon by the
//! rules of the game: every name that content mentions is there, counts and times are above 0, speeds are bounded.

use std::collections::{BTreeMap, BTreeSet};

use estate::goods::{BAG, ItemName, SLOTS_MOST};
use estate::land::HOLDING_CHUNKS;

use super::read::{Source, Sources, like};
use super::{Content, Wrong};
use crate::game::player::MAX_SPEED;

/// How animals name players in what they hunt.
const PLAYER: &str = "player";
/// Sorts of objects that are no facilities.
const RESERVED: [&str; 2] = ["nature", "land"];
/// The longest side of a facility, in tiles.
const SIDE_MOST: u8 = 16;
/// The fastest animal, in 1/256 tile per second.
const SPEED_MOST: i32 = 2 * MAX_SPEED;
/// Two cells: further than any zoo looks.
const SIGHT_MOST: u16 = 64;
/// Strokes of one natural object.
const STROKES_MOST: u32 = 1_000;
/// Ten years, in seconds: no time in content is longer.
const TIME_MOST_S: u64 = 10 * 365 * 24 * 60 * 60;

/// All that is wrong.
pub(super) fn all(content: &Content, sources: &Sources) -> Vec<Wrong> {
    let mut check = Check { content, sources, wrong: Vec::new() };
    check.items();
    check.naturals();
    check.facilities();
    check.recipes();
    check.species();
    check.tuning();
    // What can be had is worth asking only if every name is one.
    if check.wrong.is_empty() {
        check.possible();
    }
    check.wrong.sort();
    check.wrong
}

struct Check<'a> {
    content: &'a Content,
    sources: &'a Sources,
    wrong: Vec<Wrong>,
}

impl Check<'_> {
    fn items(&mut self) {
        for (name, item) in &self.content.items {
            let source = &self.sources.items;
            self.name(source, name);
            self.within(source, &[name, "food"], item.food.into(), 0, 100, "a food gives health in percent");
            self.within(source, &[name, "harm"], item.harm.into(), 0, 100, "harm is in percent of health");
            if let Some(tool) = &item.tool
                && tool.parse::<ItemName>().is_err()
            {
                self.say(source, &[name, "tool"], "a tool is named by 1 to 32 of a-z, 0-9 and _");
            }
            if item.tool.is_some() && item.food > 0 {
                self.say(source, &[name, "food"], "a tool cannot be eaten: take `food` or `tool` away");
            }
        }
    }

    fn naturals(&mut self) {
        for (name, natural) in &self.content.naturals {
            let source = &self.sources.naturals;
            self.name(source, name);
            self.item(source, &[name, "yields"], &natural.yields);
            self.count(source, &[name, "count"], natural.count);
            let strokes = natural.strokes.into();
            self.within(source, &[name, "strokes"], strokes, 1, STROKES_MOST.into(), "it is used up by strokes");
            self.time(source, &[name, "regrow_s"], natural.regrow_s);
            if let Some(tool) = &natural.tool {
                self.tool(source, &[name, "tool"], tool);
            }
        }
    }

    fn facilities(&mut self) {
        for (name, facility) in &self.content.facilities {
            let source = &self.sources.facilities;
            self.name(source, name);
            if RESERVED.contains(&name.as_str()) {
                self.say(source, &[name], "the name has a meaning of its own: choose another");
            }
            let (width, height) = facility.size;
            if ![width, height].iter().all(|side| (1..=SIDE_MOST).contains(side)) {
                let problem = format!("a facility is 1 to {SIDE_MOST} tiles wide and high, not {width} and {height}");
                self.say(source, &[name, "size"], problem);
            }
            self.takes(source, name, &facility.takes);
            let slots = facility.slots.into();
            self.within(source, &[name, "slots"], slots, 0, SLOTS_MOST.into(), "a box holds slots of goods");
            if let Some((fuel, seconds)) = &facility.burns {
                self.item(source, &[name, "burns"], fuel);
                self.time(source, &[name, "burns"], *seconds);
            }
            let kinds = [facility.slots > 0, facility.door, facility.burns.is_some()];
            if kinds.iter().filter(|is| **is).count() > 1 {
                self.say(source, &[name], "it is a box, a door or a hearth: keep one of `slots`, `door` and `burns`");
            }
        }
    }

    fn recipes(&mut self) {
        for (name, recipe) in &self.content.recipes {
            let source = &self.sources.recipes;
            self.name(source, name);
            self.item(source, &[name, "makes"], &recipe.makes);
            self.count(source, &[name, "count"], recipe.count);
            self.takes(source, name, &recipe.takes);
            if recipe.takes.contains_key(&recipe.makes) {
                self.say(source, &[name, "takes", &recipe.makes], "it takes what it makes: take one of the two away");
            }
            if let Some(at) = &recipe.at
                && !self.content.facilities.contains_key(at)
            {
                let hint = like(at, self.content.facilities.keys().map(String::as_str));
                self.say(source, &[name, "at"], format!("there is no facility `{at}` in facilities.toml{hint}"));
            }
        }
    }

    fn species(&mut self) {
        for (name, species) in &self.content.species {
            let source = &self.sources.species;
            self.name(source, name);
            if name == PLAYER {
                self.say(source, &[name], "players are no species: choose another name");
            }
            self.speeds(source, name, species.walk_speed, species.run_speed);
            let sight = species.sight_tiles.into();
            self.within(source, &[name, "sight_tiles"], sight, 1, SIGHT_MOST.into(), "it must see something");
            for (field, value) in [("fear", species.fear), ("herd", species.herd), ("curiosity", species.curiosity)] {
                self.within(source, &[name, field], value.into(), 0, 100, "it is a share in percent");
            }
            self.within(source, &[name, "harm"], species.harm.into(), 0, 100, "harm is in percent of health");
            let toughness = species.toughness.into();
            self.within(source, &[name, "toughness"], toughness, 1, 10_000, "it is in percent of a player's health");
            self.time(source, &[name, "respawn_s"], species.respawn_s);
            for (item, count) in &species.loot {
                self.item(source, &[name, "loot", item], item);
                self.count(source, &[name, "loot", item], *count);
            }
            self.hunts(source, name, &species.hunts);
            if !species.hunts.is_empty() && species.harm == 0 {
                self.say(source, &[name, "harm"], "who hunts must do harm: 1 or more");
            }
        }
    }

    fn speeds(&mut self, source: &Source, name: &str, walk: i32, run: i32) {
        for (field, speed) in [("walk_speed", walk), ("run_speed", run)] {
            if !(1..=SPEED_MOST).contains(&speed) {
                let problem = format!("speeds are 1 to {SPEED_MOST} (in 1/256 tile per second), not {speed}");
                self.say(source, &[name, field], problem);
            }
        }
        if walk > run {
            self.say(source, &[name, "run_speed"], format!("it must not run slower than it walks, at {walk}"));
        }
    }

    fn hunts(&mut self, source: &Source, name: &str, hunts: &[String]) {
        for prey in hunts {
            if prey == name {
                self.say(source, &[name, "hunts"], "it hunts itself: take it out");
            } else if prey != PLAYER && !self.content.species.contains_key(prey) {
                let known = self.content.species.keys().map(String::as_str).chain([PLAYER]);
                let hint = like(prey, known);
                self.say(source, &[name, "hunts"], format!("there is no species `{prey}`, nor is it `player`{hint}"));
            }
        }
        let once: BTreeSet<&String> = hunts.iter().collect();
        if once.len() < hunts.len() {
            self.say(source, &[name, "hunts"], "it names one twice");
        }
    }

    fn tuning(&mut self) {
        let tuning = &self.content.tuning;
        let chunks = u64::try_from(HOLDING_CHUNKS).unwrap_or(u64::MAX);
        for (field, value, least, most) in [
            ("reach_tiles", tuning.reach_tiles.into(), 1, 16),
            ("voice_tiles", tuning.voice_tiles.into(), 1, 128),
            ("stroke_ms", tuning.stroke_ms, 1, 60_000),
            ("blow_ms", tuning.blow_ms, 1, 60_000),
            ("blow_harm", tuning.blow_harm.into(), 1, 100),
            ("heal_per_minute", tuning.heal_per_minute.into(), 0, 100),
            ("party_most", tuning.party_most.into(), 2, 64),
            ("holding_most", tuning.holding_most.into(), 1, chunks),
            ("chats_per_minute", tuning.chats_per_minute.into(), 1, 6_000),
            ("claim_s", tuning.claim_s, 60, TIME_MOST_S),
        ] {
            self.within(&self.sources.tuning, &[field], value, least, most, "the rules cannot work with it");
        }
    }

    /// Finds what nobody can ever have: begins with what bare hands get, and goes on until nothing new comes of it.
    fn possible(&mut self) {
        let content = self.content;
        let mut had: BTreeSet<&str> = BTreeSet::new();
        for species in content.species.values() {
            had.extend(species.loot.keys().map(String::as_str));
        }
        let has_tool = |had: &BTreeSet<&str>, tool: &Option<String>| {
            let is = |(name, item): (&String, &super::Item)| item.tool == *tool && had.contains(name.as_str());
            tool.is_none() || content.items.iter().any(is)
        };
        let all =
            |had: &BTreeSet<&str>, takes: &BTreeMap<String, u64>| takes.keys().all(|it| had.contains(it.as_str()));
        let stands = |had: &BTreeSet<&str>, at: &Option<String>| {
            let facility = at.as_ref().and_then(|at| content.facilities.get(at));
            let lit = |it: &super::Facility| it.burns.as_ref().is_none_or(|(fuel, _)| had.contains(fuel.as_str()));
            facility.is_none_or(|it| all(had, &it.takes) && lit(it))
        };
        loop {
            let before = had.len();
            let grown = content.naturals.values().filter(|it| has_tool(&had, &it.tool)).map(|it| it.yields.as_str());
            let made = content.recipes.values().filter(|it| all(&had, &it.takes) && stands(&had, &it.at));
            let new: Vec<&str> = grown.chain(made.map(|it| it.makes.as_str())).collect();
            had.extend(new);
            if had.len() == before {
                break;
            }
        }
        for (name, natural) in &content.naturals {
            if !has_tool(&had, &natural.tool) {
                self.say(&self.sources.naturals, &[name, "tool"], "nobody can ever have this tool: see its recipe");
            }
        }
        for (name, facility) in &content.facilities {
            self.lacks(&self.sources.facilities, name, facility.takes.keys(), &had);
            let fuel = facility.burns.as_ref().map(|(fuel, _)| fuel);
            if let Some(fuel) = fuel.filter(|fuel| !had.contains(fuel.as_str())) {
                self.say(&self.sources.facilities, &[name, "burns"], self.why(fuel));
            }
        }
        for (name, recipe) in &content.recipes {
            self.lacks(&self.sources.recipes, name, recipe.takes.keys(), &had);
            if !stands(&had, &recipe.at) {
                self.say(&self.sources.recipes, &[name, "at"], "this facility can never be built or lit");
            }
        }
    }

    fn lacks<'a>(
        &mut self,
        source: &Source,
        name: &str,
        takes: impl Iterator<Item = &'a String>,
        had: &BTreeSet<&str>,
    ) {
        for item in takes.filter(|item| !had.contains(item.as_str())) {
            self.say(source, &[name, "takes", item], self.why(item));
        }
    }

    /// Why nobody can have an item.
    fn why(&self, item: &str) -> String {
        let content = self.content;
        let makes = content.recipes.iter().find(|(_, recipe)| recipe.makes == item);
        let grows = content.naturals.iter().find(|(_, natural)| natural.yields == item);
        match (makes, grows) {
            (None, None) => format!("nothing yields, drops or makes `{item}`: add something that does, or take it out"),
            (_, Some((natural, _))) => {
                format!("`{item}` comes only of `{natural}`, for which nobody can have the tool")
            }
            (Some((recipe, _)), None) => {
                format!(
                    "`{item}` is made only by what in the end needs it, see the recipe `{recipe}`: break the circle"
                )
            }
        }
    }

    fn say(&mut self, source: &Source, path: &[&str], problem: impl Into<String>) {
        source.wrong(path, problem, &mut self.wrong);
    }

    fn name(&mut self, source: &Source, name: &str) {
        if name.parse::<ItemName>().is_err() {
            self.say(source, &[name], "a name is 1 to 32 of a-z, 0-9 and _");
        }
    }

    fn item(&mut self, source: &Source, path: &[&str], item: &str) {
        if !self.content.items.contains_key(item) {
            let hint = like(item, self.content.items.keys().map(String::as_str));
            self.say(source, path, format!("there is no item `{item}` in items.toml{hint}"));
        }
    }

    fn tool(&mut self, source: &Source, path: &[&str], tool: &str) {
        let tools: BTreeSet<&str> = self.content.items.values().filter_map(|item| item.tool.as_deref()).collect();
        if tools.contains(tool) {
            return;
        }
        let problem = if self.content.items.contains_key(tool) {
            format!("`{tool}` is no tool: give it `tool = \"{tool}\"` in items.toml")
        } else {
            format!("no item is the tool `{tool}`{}", like(tool, tools))
        };
        self.say(source, path, problem);
    }

    fn takes(&mut self, source: &Source, name: &str, takes: &BTreeMap<String, u64>) {
        if takes.is_empty() {
            self.say(source, &[name, "takes"], "it takes nothing: name at least one item");
        }
        for (item, count) in takes {
            self.item(source, &[name, "takes", item], item);
            self.count(source, &[name, "takes", item], *count);
        }
    }

    fn count(&mut self, source: &Source, path: &[&str], count: u64) {
        self.within(source, path, count, 1, BAG.per_stack, "a stack has at most so many");
    }

    fn time(&mut self, source: &Source, path: &[&str], seconds: u64) {
        self.within(source, path, seconds, 1, TIME_MOST_S, "it is a time in seconds");
    }

    fn within(&mut self, source: &Source, path: &[&str], value: u64, least: u64, most: u64, why: &str) {
        if !(least..=most).contains(&value) {
            self.say(source, path, format!("must be {least} to {most}, not {value}: {why}"));
        }
    }
}
