//! What drives an animal, and the curves by which drives become wishes.
//!
//! Hunger, fatigue, boredom and dread are numbers from 0 to 1 that change with time by what the animal does; each wish is
//! the product of considerations, each a response curve of one drive or of what is in sight, and the highest wish wins
//! (utility theory: Mark, *Behavioral Mathematics for Game AI*, 2009; Mark and Dill, *Improving AI Decision Modeling
//! Through Utility Theory*, GDC 2010; the bonus for what one does already is theirs too). Only additions, products and
//! quotients are used, so that every machine gets the same numbers. Pure: it NEVER looks at a world.

use super::lore::Kind;

/// What an animal is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Goal {
    /// Walks about.
    #[default]
    Wander,
    /// Eats what grows.
    Graze,
    /// Runs away.
    Flee,
    /// Is after prey.
    Hunt,
    /// Sleeps.
    Sleep,
    /// Goes back to its herd.
    Follow,
    /// Goes to see something.
    Investigate,
}

/// Seconds from sated to starving.
const STARVING_S: f32 = 1_200.0;
/// Seconds of grazing that still a whole hunger.
const GRAZING_S: f32 = 300.0;
/// Seconds awake after which nobody can stay awake.
const AWAKE_S: f32 = 1_500.0;
/// How much faster running tires than standing.
const RUNNING: f32 = 8.0;
/// Seconds of sleep that take a whole fatigue away.
const SLEEPING_S: f32 = 240.0;
/// Seconds until everything new is interesting again.
const BORED_S: f32 = 180.0;
/// Seconds in which a whole dread wears off.
const DREAD_S: f32 = 12.0;

/// The drives of one animal, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drives {
    /// 0 sated, 1 starving.
    pub hunger: f32,
    /// 0 fresh, 1 falling asleep.
    pub fatigue: f32,
    /// 0 has just seen something new, 1 longs for it.
    pub boredom: f32,
    /// What is left of the last fright.
    pub dread: f32,
    /// 0 dead, 1 whole.
    pub health: f32,
}

impl Default for Drives {
    fn default() -> Drives {
        Drives { hunger: 0.3, fatigue: 0.2, boredom: 0.5, dread: 0.0, health: 1.0 }
    }
}

impl Drives {
    /// What they are after so many milliseconds of this.
    #[must_use]
    pub fn after(self, ms: u64, goal: Goal, heal_per_minute: u8) -> Drives {
        let s = ms.min(3_600_000) as f32 / 1_000.0;
        let hold = |value: f32| value.clamp(0.0, 1.0);
        let eats = if goal == Goal::Graze { s / GRAZING_S } else { 0.0 };
        let tires = match goal {
            Goal::Sleep => -s / SLEEPING_S,
            Goal::Flee | Goal::Hunt => s * RUNNING / AWAKE_S,
            _ => s / AWAKE_S,
        };
        Drives {
            hunger: hold(self.hunger + s / STARVING_S - eats),
            fatigue: hold(self.fatigue + tires),
            boredom: hold(self.boredom + s / BORED_S),
            dread: hold(self.dread - s / DREAD_S),
            health: if self.health > 0.0 { hold(self.health + s * f32::from(heal_per_minute) / 6_000.0) } else { 0.0 },
        }
    }
}

/// What an animal sees, as far as wishes need it. Nearness is 0 at the edge of sight and 1 on the spot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sights {
    /// Fear of the worst threat, 0 to 1: its nearness and how much it is feared.
    pub threat: f32,
    /// How near the nearest prey is; `None` without any.
    pub prey: Option<f32>,
    /// Whether that prey is a player: one that comes too near is attacked by whoever hunts players, hungry or not.
    pub provoked: bool,
    /// Whether something new is in sight.
    pub novelty: bool,
    /// How far the herd's middle is, in sights; 0 without a herd.
    pub herd_far: f32,
    /// Whether it is outside its habitat.
    pub astray: bool,
}

/// A curve that rises slowly, then fast.
fn rising(x: f32) -> f32 {
    x * x
}

/// A curve that rises fast, then slowly.
fn soon(x: f32) -> f32 {
    x * (2.0 - x)
}

/// An S between two ends (Hermite's smoothstep).
fn between(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// How much more a wish weighs while it is being followed: it keeps animals from dithering.
const STAYING: f32 = 1.25;
/// What walking about is worth when nothing else is.
const IDLING: f32 = 0.12;

/// The fear of a threat at this nearness by an animal that fears it so much.
pub fn fear(feared: f32, nearness: f32) -> f32 {
    if feared <= 0.0 {
        0.0
    } else {
        soon(nearness.clamp(0.0, 1.0)) * (0.35 + 0.65 * feared) * between(0.0, 0.5, feared)
    }
}

/// How much each goal is wished for, 0 to about 1.25.
pub fn wish(goal: Goal, now: Goal, kind: &Kind, drives: &Drives, sights: &Sights) -> f32 {
    let dread = drives.dread.max(sights.threat);
    let calm = 1.0 - between(0.1, 0.5, dread);
    let wished = match goal {
        Goal::Flee => between(0.08, 0.45, dread),
        Goal::Hunt => sights.prey.map_or(0.0, |near| {
            let hungry = between(0.25, 0.75, drives.hunger);
            let appetite = if sights.provoked { hungry.max(between(0.4, 0.7, near)) } else { hungry };
            appetite
                * (0.95 + 0.3 * near)
                * (1.0 - between(0.85, 1.0, drives.fatigue))
                * between(0.15, 0.4, drives.health)
        }),
        Goal::Sleep => {
            calm * if now == Goal::Sleep { between(0.05, 0.3, drives.fatigue) } else { rising(drives.fatigue) }
        }
        Goal::Graze => calm * soon((drives.hunger - 0.15).max(0.0) / 0.85) * if kind.eats_meat { 0.25 } else { 0.8 },
        Goal::Follow => calm * kind.herd * between(0.5, 1.5, sights.herd_far),
        Goal::Investigate if sights.novelty => calm * kind.curiosity * rising(drives.boredom),
        Goal::Investigate => 0.0,
        Goal::Wander => IDLING + if sights.astray { 0.6 * calm } else { 0.0 },
    };
    let stays = goal == now && !matches!(goal, Goal::Wander | Goal::Flee);
    if stays { wished * STAYING } else { wished }
}

/// The goal that is wished for most. `whim` from 0 to 1 tips a balance, differently for each.
pub fn choose(now: Goal, kind: &Kind, drives: &Drives, sights: &Sights, mut whim: impl FnMut() -> f32) -> Goal {
    use Goal::*;
    let mut best = (Wander, f32::MIN);
    for goal in [Flee, Hunt, Sleep, Graze, Follow, Investigate, Wander] {
        let wished = wish(goal, now, kind, drives, sights) * (0.95 + 0.1 * whim());
        if wished > best.1 {
            best = (goal, wished);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::super::lore::{Lore, What};
    use super::*;
    use crate::game::content::Content;

    fn lore() -> Lore {
        let mut content = (*Content::bundled()).clone();
        let goat = content.species["goat"].clone();
        let wolf = crate::game::content::Species { hunts: vec!["goat".to_owned()], fear: 10, ..goat.clone() };
        content.species.insert("wolf".to_owned(), wolf);
        content.species.insert(
            "goat".to_owned(),
            crate::game::content::Species { hunts: Vec::new(), fear: 70, herd: 60, curiosity: 20, ..goat },
        );
        Lore::new(&content)
    }

    fn check(species: &str, drives: Drives, sights: Sights, expected: Goal) {
        let lore = lore();
        let kind = lore.kind(lore.number(species).expect("a species")).expect("known");
        let chosen = choose(Goal::Wander, kind, &drives, &sights, || 0.5);
        assert_eq!(chosen, expected, "{species} with {drives:?} seeing {sights:?}");
    }

    #[test]
    fn each_drive_wins_where_it_should() {
        let calm = Drives { hunger: 0.1, fatigue: 0.1, boredom: 0.1, dread: 0.0, health: 1.0 };
        let none = Sights::default();
        check("goat", Drives { hunger: 0.4, ..calm }, none, Goal::Graze);
        check("goat", calm, none, Goal::Wander);
        check("goat", Drives { hunger: 0.0, ..calm }, none, Goal::Wander);
        check("goat", Drives { hunger: 0.8, ..calm }, none, Goal::Graze);
        check("goat", Drives { fatigue: 0.9, ..calm }, none, Goal::Sleep);
        check("goat", Drives { fatigue: 0.9, hunger: 0.9, ..calm }, Sights { threat: 0.6, ..none }, Goal::Flee);
        check("goat", Drives { dread: 0.7, ..calm }, none, Goal::Flee);
        check("goat", Drives { hunger: 0.0, ..calm }, Sights { herd_far: 2.0, ..none }, Goal::Follow);
        check(
            "goat",
            Drives { hunger: 0.0, boredom: 1.0, ..calm },
            Sights { novelty: true, ..none },
            Goal::Investigate,
        );
        check("goat", Drives { hunger: 0.0, ..calm }, Sights { astray: true, ..none }, Goal::Wander);
        check("wolf", Drives { hunger: 0.8, ..calm }, Sights { prey: Some(0.5), ..none }, Goal::Hunt);
        check("wolf", Drives { hunger: 0.1, ..calm }, Sights { prey: Some(0.9), ..none }, Goal::Wander);
        check("wolf", Drives { hunger: 0.1, ..calm }, Sights { prey: Some(0.8), provoked: true, ..none }, Goal::Hunt);
        check("wolf", Drives { hunger: 0.1, ..calm }, Sights { prey: Some(0.3), provoked: true, ..none }, Goal::Wander);
        check("wolf", Drives { hunger: 0.8, health: 0.1, ..calm }, Sights { prey: Some(0.9), ..none }, Goal::Graze);
    }

    #[test]
    fn fear_grows_with_nearness_and_with_how_much_is_feared_and_the_fearless_have_none() {
        assert_eq!(fear(0.0, 1.0), 0.0);
        for feared in [0.1, 0.3, 0.7, 1.0] {
            let curve: Vec<f32> = (0..=10).map(|near| fear(feared, near as f32 / 10.0)).collect();
            assert!(curve.windows(2).all(|pair| pair[0] < pair[1]), "{curve:?}");
        }
        assert!(fear(0.9, 0.5) > fear(0.3, 0.5));
        let lore = lore();
        let (goat, wolf) = (lore.number("goat").expect("one"), lore.number("wolf").expect("one"));
        let kind = |what| lore.kind(what).expect("known");
        assert!(lore.fears(kind(goat), goat, wolf) > 0.0 && lore.fears(kind(goat), goat, What::PLAYER) > 0.0);
        assert_eq!(lore.fears(kind(wolf), wolf, goat), 0.0);
        assert_eq!(lore.fears(kind(goat), goat, goat), 0.0);
    }

    #[test]
    fn drives_follow_what_is_done_and_stay_within_their_bounds() {
        let start = Drives { hunger: 0.5, fatigue: 0.5, boredom: 0.5, dread: 0.5, health: 0.5 };
        let after = |goal| start.after(60_000, goal, 20);
        assert!(after(Goal::Graze).hunger < start.hunger && after(Goal::Wander).hunger > start.hunger);
        assert!(after(Goal::Sleep).fatigue < start.fatigue && after(Goal::Wander).fatigue > start.fatigue);
        assert!(after(Goal::Flee).fatigue > after(Goal::Wander).fatigue);
        assert_eq!(after(Goal::Wander).dread, 0.0);
        assert!((after(Goal::Wander).health - 0.7).abs() < 0.001, "20 percent a minute");
        assert_eq!(Drives { health: 0.0, ..start }.after(60_000, Goal::Wander, 20).health, 0.0, "the dead do not heal");
        for goal in [Goal::Graze, Goal::Sleep, Goal::Flee] {
            let Drives { hunger, fatigue, boredom, dread, health } = start.after(u64::MAX, goal, 100);
            assert!([hunger, fatigue, boredom, dread, health].iter().all(|drive| (0.0..=1.0).contains(drive)));
        }
    }
}
