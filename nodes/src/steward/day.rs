//! A day of a district's population, played against the planner: do islands and animals follow the players?
//!
//! Pure and the same every time: the curve of players is a formula (a quiet night, a lunch hour, an evening peak, and a flash
//! crowd in the morning), and players spread over the islands by fixed rules. Shown by `wildmesh bench population`.

use std::fmt::Write as _;

use cartographer::geometry::IslandId;

use super::WorldRules;
use super::planner::{Planner, Seen, Situation, Template, What, end_of_life};
use crate::islands::record::IslandState;

/// How often the model looks, in seconds.
const STEP_S: u64 = 10;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// When the flash crowd comes, in seconds from midnight.
pub const FLASH_S: u64 = 10 * 3_600;

/// The share of players who like to be on unstable islands, in percent: more than the rules reckon with.
const LIKE_PERCENT: u32 = 35;

/// How full an island may get, in percent of what it is meant for.
const FULL_PERCENT: u32 = 150;

/// What was so at one moment of the day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Seconds from midnight.
    pub at_s: u64,
    /// Players of the district.
    pub players: u32,
    /// Players on unstable islands.
    pub there: u32,
    /// Players who would like to be on one and find none with room.
    pub waiting: u32,
    /// Unstable islands that are open.
    pub open: u32,
    /// Those that are warned or sinking.
    pub ending: u32,
    /// Unstable islands that are wanted.
    pub wanted: u32,
    /// Animals of the open islands.
    pub animals: u32,
    /// How many the rules allow for so many players.
    pub animals_most: u32,
}

/// A whole day.
#[derive(Clone, Debug, Default)]
pub struct Day {
    /// Its moments, in order.
    pub moments: Vec<Moment>,
    /// Islands made.
    pub made: u32,
    /// Islands given up before their life's end.
    pub given_up: u32,
    /// Islands removed.
    pub removed: u32,
}

/// How many players there are at this second of the day.
pub fn population(at_s: u64) -> u32 {
    let hour = at_s as f64 / 3_600.0;
    let hill = |top: f64, at: f64, width: f64| top * (-((hour - at) / width).powi(2)).exp();
    let since = at_s as f64 - FLASH_S as f64;
    let flash = match since {
        s if s < 0.0 => 0.0,
        s if s < 180.0 => s / 180.0,
        s if s < 1_200.0 => 1.0,
        s => (-(s - 1_200.0) / 900.0).exp(),
    };
    (150.0 + hill(3_000.0, 20.5, 2.6) + hill(500.0, 12.8, 1.8) + 2_000.0 * flash).round() as u32
}

/// Plays a day.
pub fn play(rules: &WorldRules, templates: &[Template], population: impl Fn(u64) -> u32) -> Day {
    let mut planner = Planner::new(rules.clone());
    let mut day = Day::default();
    let mut islands: Vec<Seen> = Vec::new();
    let mut next = 1_u32;
    for at_s in (0..DAY_S).step_by(STEP_S as usize) {
        let players = population(at_s);
        let like = players * LIKE_PERCENT / 100;
        let waiting = spread(&mut islands, like, rules.players_per_island * FULL_PERCENT / 100);
        let seen = Situation { now_s: at_s, players, complete: true, islands: &islands, templates };
        for action in planner.plan(&seen) {
            match action.what {
                What::Make(template) => {
                    let animals = templates.iter().find(|it| it.name == template).map_or(0, |it| it.animals);
                    let (id, state) = (IslandId(next), IslandState::Open);
                    let ends_s = end_of_life(rules, id, at_s);
                    islands.push(Seen { id, template, state, ends_s, players: 0, animals });
                    (next, day.made) = (next + 1, day.made + 1);
                }
                What::Warn(id, ends_s) => change(&mut islands, id, |it| {
                    day.given_up += u32::from(ends_s < it.ends_s);
                    (it.state, it.ends_s) = (IslandState::Warned, ends_s);
                }),
                What::Sink(id) => change(&mut islands, id, |it| (it.state, it.players) = (IslandState::Sinking, 0)),
                What::Remove(id) => {
                    islands.retain(|it| it.id != id);
                    day.removed += 1;
                }
            }
        }
        let open = || islands.iter().filter(|it| it.state == IslandState::Open);
        let there = islands.iter().map(|it| it.players).sum();
        day.moments.push(Moment {
            at_s,
            players,
            there,
            waiting,
            open: open().count() as u32,
            ending: (islands.len() - open().count()) as u32,
            wanted: planner.wanted(planner.need_of(players, there)),
            animals: open().map(|it| it.animals).sum(),
            animals_most: players * rules.animals_per_player,
        });
    }
    day
}

fn change(islands: &mut [Seen], id: IslandId, change: impl FnOnce(&mut Seen)) {
    if let Some(island) = islands.iter_mut().find(|it| it.id == id) {
        change(island);
    }
}

/// Puts as many players on islands as like to be there and find room; says how many found none.
fn spread(islands: &mut [Seen], like: u32, room: u32) -> u32 {
    let mut there: u32 = islands.iter().map(|it| it.players).sum();
    while there > like {
        // Whoever goes home was on the fullest.
        let Some(fullest) = islands.iter_mut().max_by_key(|it| it.players).filter(|it| it.players > 0) else { break };
        fullest.players -= 1;
        there -= 1;
    }
    while there < like {
        let open = islands.iter_mut().filter(|it| it.state == IslandState::Open && it.players < room);
        let Some(emptiest) = open.min_by_key(|it| it.players) else { break };
        emptiest.players += 1;
        there += 1;
    }
    like - there
}

const WIDTH: f64 = 960.0;
const PANEL: f64 = 190.0;
const LEFT: f64 = 64.0;
const GAP: f64 = 44.0;

/// A line of the picture: its name, its colour, and what it shows.
type Line = (&'static str, &'static str, fn(&Moment) -> u32);

/// The day as a picture: players, islands, animals, over the hours.
pub fn svg(day: &Day) -> String {
    let panels: [(&str, &[Line]); 3] = [
        (
            "players",
            &[
                ("of the district", "#2b6ca3", |m| m.players),
                ("on unstable islands", "#c0622b", |m| m.there),
                ("waiting for room", "#b02a4b", |m| m.waiting),
            ],
        ),
        (
            "unstable islands",
            &[
                ("wanted", "#9aa5ad", |m| m.wanted),
                ("open", "#2f7d4f", |m| m.open),
                ("warned or sinking", "#c9a227", |m| m.ending),
            ],
        ),
        ("animals of open islands", &[("allowed", "#9aa5ad", |m| m.animals_most), ("there", "#7a4fa3", |m| m.animals)]),
    ];
    let height = GAP + panels.len() as f64 * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#333\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (index, (title, lines)) in panels.iter().enumerate() {
        let top = GAP + index as f64 * (PANEL + GAP);
        panel(&mut out, day, title, lines, top);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, day: &Day, title: &str, lines: &[Line], top: f64) {
    let most = lines.iter().flat_map(|(_, _, of)| day.moments.iter().map(of)).max().unwrap_or(0).max(1);
    let bottom = top + PANEL;
    let x = |at_s: u64| LEFT + (WIDTH - LEFT - 16.0) * at_s as f64 / DAY_S as f64;
    let y = |value: u32| bottom - PANEL * f64::from(value) / f64::from(most);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>", top - 8.0);
    for part in 0..=4 {
        let value = most * part / 4;
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {0:.1}H{1}\" stroke=\"#e4e4e4\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{value}</text>",
            y(value),
            WIDTH - 16.0,
            LEFT - 6.0,
            y(value) + 4.0
        );
    }
    for hour in (0..=24).step_by(3) {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{hour}:00</text>",
            x(hour * 3_600),
            bottom + 15.0
        );
    }
    for (place, (name, colour, of)) in lines.iter().enumerate() {
        let points: Vec<String> =
            day.moments.iter().step_by(6).map(|m| format!("{:.1},{:.1}", x(m.at_s), y(of(m)))).collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>",
            points.join(" ")
        );
        let at = WIDTH - 16.0 - 170.0 * (lines.len() - place) as f64 + 40.0;
        let _ = writeln!(
            out,
            "<rect x=\"{at:.0}\" y=\"{0:.0}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{1:.0}\" y=\"{2:.0}\">{name}</text>",
            top - 13.0,
            at + 19.0,
            top - 8.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Vec<Template> {
        [("rapanui", 60), ("tristan", 66), ("ulleung", 55)]
            .map(|(name, animals)| Template { name: name.to_owned(), animals })
            .to_vec()
    }

    fn day() -> Day {
        play(&WorldRules::default(), &templates(), population)
    }

    #[test]
    fn islands_and_animals_follow_the_players_without_oversupply() {
        let (rules, day) = (WorldRules::default(), day());
        let peak = day.moments.iter().map(|m| m.players).max().expect("a day");
        assert!((2_900..3_300).contains(&peak), "{peak}");
        for m in &day.moments {
            let least = templates().iter().map(|it| it.animals).max().expect("some") * rules.islands_least;
            // Falling numbers of players are followed by the age of islands and by giving up, each of which takes a while.
            let fell = day.moments.iter().filter(|o| o.at_s <= m.at_s && o.at_s + 3_600 >= m.at_s);
            let most = fell.map(|o| o.animals_most).max().expect("itself");
            assert!(m.animals <= most.max(least), "{m:?}");
            assert!(m.open <= m.there.div_ceil(rules.players_per_island) * 3 + 12, "oversupply: {m:?}");
        }
        // The second beta's lesson: over the whole day there are hardly more places than players for them.
        let places: u64 = day.moments.iter().map(|m| u64::from(m.open * rules.players_per_island)).sum();
        let there: u64 = day.moments.iter().map(|m| u64::from(m.there)).sum();
        assert!(places < there * 3 / 2, "{places} places for {there}");
        let last = day.moments.last().expect("a day");
        assert!(last.open < 20 && day.removed + last.open + last.ending == day.made, "{last:?}");
    }

    #[test]
    fn a_flash_crowd_finds_room_within_minutes() {
        // The first moment is before the first island.
        let waits =
            |day: &Day| day.moments.iter().skip(1).filter(|m| m.waiting > 0).map(|m| m.at_s).collect::<Vec<_>>();
        let waiting = waits(&day());
        assert!(waiting.iter().all(|at_s| (FLASH_S..FLASH_S + 300).contains(at_s)), "only in the flash: {waiting:?}");
        assert!(waiting.len() <= 18, "for {} s", waiting.len() as u64 * STEP_S);
        let few = WorldRules { islands_most: 5, ..WorldRules::default() };
        let few = waits(&play(&few, &templates(), population));
        assert!(few.len() > 100, "with five islands people wait, and the model says so: {}", few.len());
    }

    #[test]
    fn a_steady_population_changes_islands_only_by_their_age() {
        // Up and down by a tenth every few minutes: that is no reason to make or give up anything.
        let wave = |at_s: u64| 1_000 + (100.0 * (at_s as f64 / 200.0).sin()) as u32;
        let (rules, day) = (WorldRules::default(), play(&WorldRules::default(), &templates(), wave));
        let lives = DAY_S / rules.life.as_secs();
        let most = day.moments.iter().map(|m| m.open).max().expect("a day");
        assert!(day.given_up <= 2, "{} given up", day.given_up);
        assert!(u64::from(day.made) <= u64::from(most) * (lives * 5 / 4 + 1), "{} made, {most} at once", day.made);
    }

    #[test]
    fn the_picture_has_a_line_for_everything() {
        let picture = svg(&day());
        assert_eq!(picture.matches("<polyline").count(), 8);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n") && !picture.contains("NaN"));
    }
}
