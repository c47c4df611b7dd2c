//! Where a bot goes next.
//!
//! A spread bot has a far goal somewhere on its island and walks towards it leg by leg; a bot of a crowd stays within a
//! few cells of the crowd's centre. Neither knows the terrain: the frontend clips what cannot be walked, and a bot that
//! got nowhere picks another goal, so that in time it finds its way round. NEVER waits and never reads a clock.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::protocol::UNITS_PER_TILE;

/// The longest leg, in units: three seconds at four tiles a second.
const LEG: i32 = 12 * UNITS_PER_TILE;
/// A crowd keeps within this distance of its centre along both axes, in units.
pub(super) const CROWD_REACH: i32 = 40 * UNITS_PER_TILE;
/// A goal counts as reached within this distance, in units.
const NEAR: i32 = 2 * UNITS_PER_TILE;

/// One bot's wanderings.
#[derive(Debug)]
pub(super) struct Walker {
    rng: StdRng,
    /// The lowest and highest place to go to, along both axes.
    area: ((i32, i32), (i32, i32)),
    goal: Option<(i32, i32)>,
    /// Set when the last leg led nowhere: the next goes anywhere.
    stuck: bool,
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
        Self { rng: StdRng::seed_from_u64(seed), area, goal: None, stuck: false }
    }

    /// A number below `limit`, for whatever else the bot leaves to chance.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.rng.random_range(0..limit.max(1))
    }

    /// The next leg got nowhere.
    pub(super) fn blocked(&mut self) {
        self.goal = None;
        self.stuck = true;
    }

    /// The end of the next leg from `at`; NEVER `at` itself on an area of more than a tile.
    pub(super) fn next(&mut self, at: (i32, i32)) -> (i32, i32) {
        let ((low_x, low_y), (high_x, high_y)) = self.area;
        if std::mem::take(&mut self.stuck) {
            let turn = self.rng.random_range(0.0..std::f64::consts::TAU);
            let reach = f64::from(LEG) / 3.0;
            let step = |from: i32, part: f64| from.saturating_add((reach * part) as i32);
            return (step(at.0, turn.cos()).clamp(low_x, high_x), step(at.1, turn.sin()).clamp(low_y, high_y));
        }
        let reached = |goal: (i32, i32)| goal.0.abs_diff(at.0).max(goal.1.abs_diff(at.1)) <= NEAR as u32;
        if self.goal.is_none_or(reached) {
            self.goal = Some((self.rng.random_range(low_x..=high_x), self.rng.random_range(low_y..=high_y)));
        }
        leg(at, self.goal.unwrap_or(at))
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
    fn a_spread_bot_gets_all_over_its_island_and_a_crowd_stays_together() {
        let mut spread = Walker::spread(3, 256, 256);
        let mut crowd = Walker::crowd(3, (30_000, 200), 256, 256);
        let (mut a, mut b) = ((0, 0), (30_000, 200));
        let mut quarters = [false; 4];
        for round in 0..2000 {
            if round % 50 == 0 {
                spread.blocked();
            }
            a = spread.next(a);
            b = crowd.next(b);
            quarters[usize::from(a.0 > 32_768) + 2 * usize::from(a.1 > 32_768)] = true;
            assert!(b.0.abs_diff(30_000) <= CROWD_REACH as u32 && (0..=200 + CROWD_REACH).contains(&b.1), "{b:?}");
        }
        assert_eq!(quarters, [true; 4]);
    }
}
