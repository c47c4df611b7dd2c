//! Where a bot goes next.
//!
//! A spread bot has a far goal somewhere on its island and walks towards it leg by leg; a bot of a crowd stays within a
//! few cells of the crowd's centre. Neither knows the terrain: the frontend clips what cannot be walked, and a bot that
//! got nowhere goes along the obstacle on one side, further round the more often it fails, and picks another goal when
//! that does not help. NEVER waits and never reads a clock.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::protocol::UNITS_PER_TILE;

/// The longest leg, in units: three seconds at four tiles a second.
const LEG: i32 = 12 * UNITS_PER_TILE;
/// A crowd keeps within this distance of its centre along both axes, in units.
pub(super) const CROWD_REACH: i32 = 40 * UNITS_PER_TILE;
/// The length of a detour's leg, in units.
const DETOUR: f64 = 6.0 * UNITS_PER_TILE as f64;
/// Detours before another goal is picked: many on the way to where the bot is to walk, few once it is there, where one
/// goal is as good as another.
const DETOURS: u32 = 24;
const DETOURS_AT_HOME: u32 = 3;
/// A goal counts as reached within this distance, in units.
const NEAR: i32 = 2 * UNITS_PER_TILE;

/// One bot's wanderings.
#[derive(Debug)]
pub(super) struct Walker {
    rng: StdRng,
    /// The lowest and highest place to go to, along both axes.
    area: ((i32, i32), (i32, i32)),
    goal: Option<(i32, i32)>,
    /// The last leg led nowhere.
    blocked: bool,
    /// Legs in a row that led nowhere, since the last good one.
    fails: u32,
    /// Detours since the goal was picked.
    detours: u32,
    /// Round which side of obstacles to go: 1 or -1.
    side: f64,
}

impl Walker {
    /// Walks all over an island of this size in tiles.
    pub(super) fn spread(seed: u64, width_tiles: u16, height_tiles: u16) -> Self {
        let high = |tiles: u16| (i32::from(tiles) * UNITS_PER_TILE - 1).max(0);
        Self::within(seed, ((0, 0), (high(width_tiles), high(height_tiles))))
    }

    /// Stays around `centre` on an island of this size in tiles.
    pub(super) fn crowd(seed: u64, centre: (i32, i32), width_tiles: u16, height_tiles: u16) -> Self {
        let island = Self::spread(seed, width_tiles, height_tiles).area.1;
        let along = |centre: i32, high: i32| {
            ((centre - CROWD_REACH).clamp(0, high), centre.saturating_add(CROWD_REACH).clamp(0, high))
        };
        let (x, y) = (along(centre.0, island.0), along(centre.1, island.1));
        Self::within(seed, ((x.0, y.0), (x.1, y.1)))
    }

    fn within(seed: u64, area: ((i32, i32), (i32, i32))) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let side = if rng.random() { 1.0 } else { -1.0 };
        Self { rng, area, goal: None, blocked: false, fails: 0, detours: 0, side }
    }

    /// A number below `limit`, for whatever else the bot leaves to chance.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.rng.random_range(0..limit.max(1))
    }

    /// The last leg led nowhere.
    pub(super) fn blocked(&mut self) {
        self.blocked = true;
    }

    /// Whether a place is within the area to walk in.
    pub(super) fn is_home(&self, at: (i32, i32)) -> bool {
        let ((low_x, low_y), (high_x, high_y)) = self.area;
        (low_x..=high_x).contains(&at.0) && (low_y..=high_y).contains(&at.1)
    }

    /// The end of the next leg from `at`.
    pub(super) fn next(&mut self, at: (i32, i32)) -> (i32, i32) {
        let ((low_x, low_y), (high_x, high_y)) = self.area;
        let reached = |goal: (i32, i32)| goal.0.abs_diff(at.0).max(goal.1.abs_diff(at.1)) <= NEAR as u32;
        let patience = if self.is_home(at) { DETOURS_AT_HOME } else { DETOURS };
        if self.detours >= patience || self.goal.is_none_or(reached) {
            self.goal = Some((self.rng.random_range(low_x..=high_x), self.rng.random_range(low_y..=high_y)));
            self.side = if self.rng.random() { 1.0 } else { -1.0 };
            self.detours = 0;
        }
        let goal = self.goal.unwrap_or(at);
        if !std::mem::take(&mut self.blocked) {
            self.fails = 0;
            return leg(at, goal);
        }
        self.fails += 1;
        self.detours += 1;
        let straight = f64::from(goal.1 - at.1).atan2(f64::from(goal.0 - at.0));
        // Some 50 degrees at first, up to all the way round; never exactly the same twice.
        let turn = self.side * (0.9 * f64::from(self.fails.min(6)) + self.rng.random_range(-0.3..0.3));
        let step = |from: i32, part: f64| from.saturating_add((DETOUR * part) as i32);
        (step(at.0, (straight + turn).cos()), step(at.1, (straight + turn).sin()))
    }
}

/// The point on the way from `at` to `goal` that is at most a leg away along either axis.
fn leg(at: (i32, i32), goal: (i32, i32)) -> (i32, i32) {
    let (dx, dy) = (i64::from(goal.0) - i64::from(at.0), i64::from(goal.1) - i64::from(at.1));
    let longest = dx.abs().max(dy.abs());
    if longest <= i64::from(LEG) {
        return goal;
    }
    let part = |from: i32, way: i64| (i64::from(from) + way * i64::from(LEG) / longest) as i32;
    (part(at.0, dx), part(at.1, dy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_are_short_and_lead_to_the_goal() {
        let mut at = (100, 100);
        let goal = (100_000, -50_000);
        for _ in 0..40 {
            let next = leg(at, goal);
            assert!(next.0.abs_diff(at.0).max(next.1.abs_diff(at.1)) <= LEG as u32);
            at = next;
        }
        assert_eq!(at, goal);
    }

    #[test]
    fn a_bot_finds_its_way_round_an_obstacle() {
        // A wall across the way, open at its ends, as the frontend would clip it.
        let wall = |at: (i32, i32), to: (i32, i32)| {
            let crosses = (at.0 < 5000) != (to.0 < 5000);
            crosses && (-6000..6000).contains(&at.1.midpoint(to.1))
        };
        for seed in 0..20 {
            let mut walker = Walker::within(seed, ((20_000, 0), (20_000, 0)));
            let mut at = (0, 0);
            let mut legs = 0;
            while at != (20_000, 0) && legs < 500 {
                let to = walker.next(at);
                if wall(at, to) {
                    walker.blocked()
                } else {
                    at = to
                }
                legs += 1;
            }
            assert!(walker.is_home(at), "seed {seed}: {at:?} after {legs} legs");
        }
    }

    #[test]
    fn a_spread_bot_gets_all_over_its_island_and_a_crowd_stays_together() {
        let mut spread = Walker::spread(3, 256, 256);
        let mut crowd = Walker::crowd(3, (30_000, 200), 256, 256);
        let (mut a, mut b) = ((0, 0), (30_000, 200));
        let mut quarters = [false; 4];
        for round in 0..2000 {
            if round % 5 == 0 {
                spread.blocked();
            }
            a = spread.next(a);
            b = crowd.next(b);
            quarters[usize::from(a.0 > 32_768) + 2 * usize::from(a.1 > 32_768)] = true;
            assert!(crowd.is_home(b), "{b:?}");
        }
        assert_eq!(quarters, [true; 4]);
    }
}
