//! Motion: where an object is, as a function of time, and how far a walk may go.
//!
//! A motion is `(from, velocity, since, duration)`; [`Motion::at`] is integer arithmetic that gives the same place in
//! every language. Arriving, and being stopped by terrain, are known when a walk begins: they lie in its duration and
//! cost no event and no message. [`walk`] follows the line of the *rounded* velocity through the tiles exactly (the grid
//! traversal of Amanatides and Woo 1987, on fractions instead of floats), so that at no millisecond of a walk the object
//! stands on a tile that it may not enter. Nothing here NEVER panics or overflows, whatever the numbers.

use serde::{Deserialize, Serialize};

use crate::geometry::{Place, Tile, UNITS_PER_TILE};
use crate::ground::Ground;

/// The highest speed of a walk, in units per second.
pub const MAX_SPEED: i32 = 1 << 20;
/// The most tiles that one walk enters; a longer way is clipped there, so that one command costs a bounded time.
pub const MAX_WALK_TILES: u32 = 512;

/// A farther target is only a direction, in units along one axis.
const MAX_REACH: i64 = 1 << 21;
const MS_PER_S: i64 = 1000;

/// Where an object is at any time: `from + velocity * clamp(now - since, 0, duration)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Motion {
    /// Where it was at `since`.
    pub from: Place,
    /// Units per second, to the right and downwards.
    pub velocity: (i32, i32),
    /// Milliseconds on its publisher's clock.
    pub since: u64,
    /// How long it moves, in milliseconds; afterwards it stands.
    pub duration_ms: u32,
}

impl Motion {
    /// Standing still.
    pub fn standing(at: Place, since: u64) -> Motion {
        Motion { from: at, velocity: (0, 0), since, duration_ms: 0 }
    }

    /// The place at `now`, in milliseconds of the publisher's clock. Division rounds down, on negative numbers too.
    pub fn at(&self, now: u64) -> Place {
        let elapsed = now.saturating_sub(self.since).min(u64::from(self.duration_ms)) as i64;
        // An i32 times a u32 fits an i64.
        let along = |from: i32, velocity: i32| {
            let moved = (i64::from(velocity) * elapsed).div_euclid(MS_PER_S);
            (i64::from(from) + moved).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
        };
        Place { x: along(self.from.x, self.velocity.0), y: along(self.from.y, self.velocity.1) }
    }

    /// When it stands, in milliseconds of the publisher's clock.
    pub fn ends(&self) -> u64 {
        self.since.saturating_add(u64::from(self.duration_ms))
    }

    /// Where it comes to stand.
    pub fn end(&self) -> Place {
        self.at(self.ends())
    }

    /// Whether it is still under way at `now`.
    pub fn is_moving(&self, now: u64) -> bool {
        self.velocity != (0, 0) && now < self.ends()
    }

    /// The first millisecond after `now` at which [`Motion::at`] lies in another square of a grid of this side (units);
    /// `None` if it stays.
    pub fn next_crossing(&self, now: u64, side: i32) -> Option<u64> {
        if !self.is_moving(now) {
            return None;
        }
        let place = self.at(now);
        let along = |from: i32, velocity: i32, at: i32| {
            let way = Way::new(i64::from(from), i64::from(velocity), i64::from(side), i64::from(at));
            way.first_ms_beyond()
        };
        let ms = match (along(self.from.x, self.velocity.0, place.x), along(self.from.y, self.velocity.1, place.y)) {
            (Some(x), Some(y)) => x.min(y),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        (ms <= i64::from(self.duration_ms)).then(|| self.since.saturating_add(ms as u64))
    }
}

/// The way along one axis up to the next line of a grid.
#[derive(Clone, Copy)]
struct Way {
    /// Units from the start to the line.
    length: i64,
    /// Units per second, without its sign.
    speed: i64,
    /// -1, 0 or 1.
    sign: i64,
}

impl Way {
    /// From `from` with `velocity` to the edge of the grid square in which `at` lies.
    fn new(from: i64, velocity: i64, side: i64, at: i64) -> Way {
        let side = side.max(1);
        let square = at.div_euclid(side);
        let length = if velocity > 0 { (square + 1) * side - from } else { from - square * side };
        Way { length, speed: velocity.abs(), sign: velocity.signum() }
    }

    /// The first millisecond at which the rounded-down coordinate is beyond the line. Lines belong to the square to their
    /// right: going right, reaching one is enough; going left, it must be passed.
    fn first_ms_beyond(&self) -> Option<i64> {
        let scaled = self.length.checked_mul(MS_PER_S)?;
        match self.sign {
            0 => None,
            1 => Some(scaled.div_euclid(self.speed) + i64::from(scaled.rem_euclid(self.speed) != 0)),
            _ => Some(scaled.div_euclid(self.speed) + 1),
        }
    }

    /// Whether this line is reached before the other, in exact arithmetic.
    fn compare(&self, other: &Way) -> std::cmp::Ordering {
        match (self.sign, other.sign) {
            (0, 0) => std::cmp::Ordering::Equal,
            (0, _) => std::cmp::Ordering::Greater,
            (_, 0) => std::cmp::Ordering::Less,
            _ => (self.length * other.speed).cmp(&(other.length * self.speed)),
        }
    }
}

/// Plans a walk from `from` toward `to` at `speed` units per second (1 to [`MAX_SPEED`]; others are held there), beginning
/// at `now`. It stops on the last millisecond before the first tile that is not walkable, or the island's edge.
///
/// The tile on which it starts is not asked, so that whoever stands where nobody should can walk off. Crossing exactly
/// over a corner needs both tiles beside it: nobody squeezes between two rocks. `None` if not one unit can be walked.
pub fn walk(ground: &dyn Ground, from: Place, to: Place, speed: i32, now: u64) -> Option<Motion> {
    let (dx, dy) = direction(from, to);
    if (dx, dy) == (0, 0) {
        return Some(Motion::standing(from, now));
    }
    let speed = i64::from(speed.clamp(1, MAX_SPEED));
    let distance_1024 = (((dx * dx + dy * dy) as u64) << 20).isqrt() as i64;
    let (vx, vy) = (divide(dx * speed * 1024, distance_1024), divide(dy * speed * 1024, distance_1024));
    if (vx, vy) == (0, 0) {
        return None;
    }
    // The time at which the rounded line comes nearest to the target.
    let wanted = divide(MS_PER_S * (dx * vx + dy * vy), vx * vx + vy * vy).clamp(1, i64::from(u32::MAX));
    let duration = clip(ground, from, (vx, vy), wanted);
    let motion =
        Motion { from, velocity: (vx as i32, vy as i32), since: now, duration_ms: u32::try_from(duration).ok()? };
    match motion.end() == from {
        false => Some(motion),
        // So near that rounding leaves nothing to walk.
        true if duration == wanted => Some(Motion::standing(from, now)),
        true => None,
    }
}

/// The way to go, scaled down if it is absurdly far.
fn direction(from: Place, to: Place) -> (i64, i64) {
    let (mut dx, mut dy) = (i64::from(to.x) - i64::from(from.x), i64::from(to.y) - i64::from(from.y));
    while dx.abs().max(dy.abs()) > MAX_REACH {
        dx /= 2;
        dy /= 2;
    }
    (dx, dy)
}

/// Divides to the nearest, halves away from zero. `by` is above zero.
fn divide(number: i64, by: i64) -> i64 {
    let half = by / 2;
    if number >= 0 { (number + half) / by } else { -((-number + half) / by) }
}

/// How many of `wanted` milliseconds can be walked before the next tile may not be entered.
fn clip(ground: &dyn Ground, from: Place, (vx, vy): (i64, i64), wanted: i64) -> i64 {
    let side = i64::from(UNITS_PER_TILE);
    let size = ground.size();
    let open = |x: i64, y: i64| match (u16::try_from(x), u16::try_from(y)) {
        (Ok(x), Ok(y)) => {
            let tile = Tile { x, y };
            tile.is_within(size) && ground.walkable(tile)
        }
        _ => false,
    };
    let (mut x, mut y) = (i64::from(from.x).div_euclid(side), i64::from(from.y).div_euclid(side));
    let mut along_x = Way::new(i64::from(from.x), vx, side, i64::from(from.x));
    let mut along_y = Way::new(i64::from(from.y), vy, side, i64::from(from.y));
    let mut entered = 0;
    loop {
        let (steps_x, steps_y) = match along_x.compare(&along_y) {
            std::cmp::Ordering::Less => (along_x.sign, 0),
            std::cmp::Ordering::Greater => (0, along_y.sign),
            std::cmp::Ordering::Equal => (along_x.sign, along_y.sign),
        };
        let beyond_x = if steps_x == 0 { None } else { along_x.first_ms_beyond() };
        let beyond_y = if steps_y == 0 { None } else { along_y.first_ms_beyond() };
        let beyond = beyond_x.unwrap_or(i64::MAX).min(beyond_y.unwrap_or(i64::MAX));
        if beyond > wanted {
            return wanted;
        }
        let is_corner = steps_x != 0 && steps_y != 0;
        let may_enter =
            open(x + steps_x, y + steps_y) && (!is_corner || (open(x + steps_x, y) && open(x, y + steps_y)));
        if !may_enter || entered == MAX_WALK_TILES {
            return beyond - 1;
        }
        entered += 1;
        x += steps_x;
        y += steps_y;
        along_x.length += steps_x.abs() * side;
        along_y.length += steps_y.abs() * side;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::Plain;
    use crate::world::tests::Dice;

    /// A ground of random rocks.
    struct Rocks {
        seed: u64,
        /// Of 100 tiles, so many are rocks.
        percent: u64,
    }

    impl Ground for Rocks {
        fn size(&self) -> (u16, u16) {
            (64, 48)
        }

        fn walkable(&self, tile: Tile) -> bool {
            let number = u64::from(tile.x) << 16 | u64::from(tile.y);
            tile.is_within(self.size())
                && Dice::new(self.seed ^ number.wrapping_mul(0x9e37_79b9)).below(100) >= self.percent
        }
    }

    fn stands_well(ground: &dyn Ground, place: Place) -> bool {
        place.is_within(ground.size()) && place.tile().is_some_and(|tile| ground.walkable(tile))
    }

    #[test]
    fn at_no_millisecond_of_a_walk_is_anybody_where_nobody_may_be() {
        let mut clipped = 0;
        for seed in 0..4_000 {
            let mut dice = Dice::new(seed);
            let ground = Rocks { seed: seed % 50, percent: 5 + dice.below(35) };
            let mut place = Place::new(dice.below(64 * 256) as i32, dice.below(48 * 256) as i32);
            if !stands_well(&ground, place) {
                continue;
            }
            // Walks that begin where the one before was stopped are the ones along walls.
            for _ in 0..4 {
                let reach = [300, 3_000, 40_000][dice.below(3) as usize];
                let step = |dice: &mut Dice| dice.below(2 * reach) as i32 - reach as i32;
                let to = match dice.below(3) {
                    // Exactly diagonal from the middle of a tile leads over corners.
                    0 => {
                        place = place.tile().map_or(place, Tile::centre);
                        let far = step(&mut dice);
                        place.offset(far, if dice.below(2) == 0 { far } else { -far })
                    }
                    1 => place.offset(step(&mut dice), 0),
                    _ => place.offset(step(&mut dice), step(&mut dice)),
                };
                let speed =
                    [1 + dice.below(60), 200 + dice.below(2_000), 20_000 + dice.below(99_999)][dice.below(3) as usize];
                let now = dice.below(1 << 40);
                let Some(motion) = walk(&ground, place, to, speed as i32, now) else { continue };
                let every = 1 + motion.duration_ms / 2_000;
                let samples = (0..=motion.duration_ms).step_by(every as usize).chain([motion.duration_ms]);
                for ms in samples {
                    let at = motion.at(now + u64::from(ms));
                    assert!(stands_well(&ground, at), "seed {seed}: {motion:?} to {to:?} is at {at:?} after {ms} ms");
                }
                let longer = Motion { duration_ms: motion.duration_ms + 1, ..motion };
                if !stands_well(&ground, longer.end()) {
                    clipped += 1;
                }
                place = motion.end();
            }
        }
        assert!(clipped > 1_000, "only {clipped} walks were stopped by rocks");
    }

    #[test]
    fn a_walk_over_open_land_arrives() {
        let plain = Plain::new(1024, 1024);
        for seed in 0..2_000 {
            let mut dice = Dice::new(seed);
            let mut any = || Place::new(dice.below(1024 * 256) as i32, dice.below(1024 * 256) as i32);
            let from = any();
            let to = Place { x: from.x + any().x % 20_000, y: from.y - any().y % 20_000 };
            // The rounded way to a place at the very edge may end a little earlier, at the edge.
            let to = Place { x: to.x.clamp(256, 1023 * 256), y: to.y.clamp(256, 1023 * 256) };
            let Some(motion) = walk(&plain, from, to, 1_024, 5) else { panic!("blocked on a plain") };
            // Half a unit per second and axis, and a millisecond.
            let off = i64::from(motion.duration_ms) / 1_000 + 3;
            assert!(i64::from(motion.end().reach(to)) <= off, "{motion:?} ends {:?}, not {to:?}", motion.end());
            let speed = (motion.velocity.0 as f64).hypot(motion.velocity.1 as f64);
            assert!((speed - 1_024.0).abs() < 1.0, "speed {speed}");
        }
    }

    #[test]
    fn walks_stop_at_the_edge_and_cannot_begin_into_it() {
        let plain = Plain::new(10, 10);
        let check = |from: (i32, i32), to: (i32, i32), end: Option<(i32, i32)>| {
            let motion = walk(&plain, from.into(), to.into(), 1_000, 0);
            assert_eq!(motion.map(|motion| motion.end()), end.map(Place::from), "{from:?} to {to:?}");
        };
        check((1_280, 1_280), (9_999, 1_280), Some((2_559, 1_280)));
        check((1_280, 1_280), (-9_999, 1_280), Some((0, 1_280)));
        check((0, 1_280), (-1, 1_280), None);
        check((2_559, 2_559), (2_600, 2_600), None);
        check((0, 0), (i32::MIN, i32::MIN), None);
        check((7, 7), (7, 7), Some((7, 7)));
        check((1_280, 1_280), (i32::MAX, 1_280), Some((2_559, 1_280)));
    }

    #[test]
    fn nobody_squeezes_between_two_rocks() {
        struct Two;
        impl Ground for Two {
            fn size(&self) -> (u16, u16) {
                (4, 4)
            }
            fn walkable(&self, tile: Tile) -> bool {
                tile.is_within((4, 4)) && tile != Tile::new(2, 1) && tile != Tile::new(1, 2)
            }
        }
        let from = Tile::new(1, 1).centre();
        let motion = walk(&Two, from, Tile::new(2, 2).centre(), 500, 0).expect("there is some way to go");
        assert_eq!(motion.end().tile(), Some(Tile::new(1, 1)));
        assert!(
            walk(&Two, motion.end(), Tile::new(3, 3).centre(), 500, 0).is_none_or(|motion| motion.duration_ms <= 1)
        );
    }

    #[test]
    fn crossings_are_found_to_the_millisecond() {
        for seed in 0..600 {
            let mut dice = Dice::new(seed);
            let mut signed = |reach: u64| dice.below(2 * reach + 1) as i32 - reach as i32;
            let motion = Motion {
                from: Place::new(signed(4_000), signed(4_000)),
                velocity: (signed(900), signed(3) * signed(300)),
                since: 77,
                duration_ms: signed(3_000).unsigned_abs(),
            };
            let side = 512;
            let square = |now: u64| {
                let at = motion.at(now);
                (at.x.div_euclid(side), at.y.div_euclid(side))
            };
            let start = 77 + u64::from(signed(500).unsigned_abs());
            let expected = (start + 1..=motion.ends()).find(|now| square(*now) != square(start));
            assert_eq!(motion.next_crossing(start, side), expected, "seed {seed}: {motion:?} from {start}");
        }
    }

    #[test]
    fn no_numbers_make_motion_panic() {
        let extremes = [i32::MIN, -1, 0, 1, i32::MAX];
        let plain = Plain::new(4096, 4096);
        for a in extremes {
            for b in extremes {
                for c in extremes {
                    for since in [0, u64::MAX / 2, u64::MAX] {
                        let motion = Motion { from: Place::new(a, b), velocity: (c, a), since, duration_ms: u32::MAX };
                        let _ = (motion.at(0), motion.at(u64::MAX), motion.end());
                        let _ = (motion.next_crossing(since, 1), motion.next_crossing(since, i32::MAX));
                        let _ = walk(&plain, Place::new(a, b), Place::new(c, a), c, since);
                        let _ = walk(&plain, Place::new(7, 9), Place::new(c, a), b, since);
                    }
                }
            }
        }
    }

    #[test]
    fn one_walk_enters_a_bounded_number_of_tiles() {
        let plain = Plain::new(4096, 4096);
        let motion = walk(&plain, Place::new(0, 128), Place::new(4095 * 256, 128), 1_024, 0).expect("open land");
        assert_eq!(motion.end().tile(), Some(Tile::new(MAX_WALK_TILES as u16, 0)));
    }
}
