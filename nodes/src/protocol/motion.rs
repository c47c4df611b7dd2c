//! The motion of an object: its place as a function of time, in whole numbers.
//!
//! Every client and every node computes the same place from the same motion; the formula is part of the protocol.
//! Overflow is impossible: the arithmetic is in 64 bits and the result is clamped to the range of a coordinate.

use super::wire::{self, Malformed, Reader};

/// Times are below this, so that every language can hold them in a double.
pub const MAX_TIME_MS: u64 = 1 << 53;

/// `[x, y, vx, vy, since_ms, duration_ms]`: from where, how fast, since when and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Motion {
    /// Where it was at `since_ms`, in 1/256 tile from the island's left edge.
    pub x: i32,
    /// The same from the island's top edge, downwards.
    pub y: i32,
    /// 1/256 tile per second.
    pub vx: i32,
    /// 1/256 tile per second.
    pub vy: i32,
    /// Milliseconds on the clock of whoever published it.
    pub since_ms: u64,
    /// After so many milliseconds it stands still.
    pub duration_ms: u32,
}

impl Motion {
    /// Standing still.
    pub fn still(x: i32, y: i32, since_ms: u64) -> Self {
        Self { x, y, since_ms, ..Self::default() }
    }

    /// The place at `now_ms` on the publisher's clock: `from + floor(velocity × elapsed / 1000)`, where elapsed is
    /// `now - since`, not below 0 and not above the duration.
    pub fn at(&self, now_ms: i64) -> (i32, i32) {
        let elapsed = now_ms.saturating_sub_unsigned(self.since_ms).clamp(0, i64::from(self.duration_ms));
        (coordinate(self.x, self.vx, elapsed), coordinate(self.y, self.vy, elapsed))
    }

    /// Where it comes to rest.
    pub fn end(&self) -> (i32, i32) {
        let elapsed = i64::from(self.duration_ms);
        (coordinate(self.x, self.vx, elapsed), coordinate(self.y, self.vy, elapsed))
    }

    /// When it comes to rest, on the publisher's clock.
    pub fn end_ms(&self) -> u64 {
        self.since_ms.saturating_add(u64::from(self.duration_ms))
    }

    /// Reads the six numbers.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.fields(6, "motion")?;
        Ok(Self {
            x: reader.int("x")?,
            y: reader.int("y")?,
            vx: reader.int("vx")?,
            vy: reader.int("vy")?,
            since_ms: reader.below(MAX_TIME_MS, "since_ms")?,
            duration_ms: reader.int("duration_ms")?,
        })
    }

    /// Writes the six numbers.
    pub fn put(&self, out: &mut Vec<u8>) {
        wire::put_array(out, 6);
        wire::put_int(out, self.x);
        wire::put_int(out, self.y);
        wire::put_int(out, self.vx);
        wire::put_int(out, self.vy);
        wire::put_uint(out, self.since_ms);
        wire::put_uint(out, self.duration_ms);
    }
}

fn coordinate(from: i32, velocity: i32, elapsed_ms: i64) -> i32 {
    let travelled = (i64::from(velocity) * elapsed_ms).div_euclid(1000);
    (i64::from(from) + travelled).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_floored_also_when_walking_backwards() {
        let motion = Motion { x: 100, y: 100, vx: 3, vy: -3, since_ms: 1000, duration_ms: 2000 };
        assert_eq!(motion.at(0), (100, 100));
        assert_eq!(motion.at(1001), (100, 99));
        assert_eq!(motion.at(1334), (101, 98));
        assert_eq!(motion.at(9000), (106, 94));
        assert_eq!(motion.end(), (106, 94));
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let motion =
            Motion { x: i32::MIN, y: i32::MAX, vx: i32::MIN, vy: i32::MAX, since_ms: 0, duration_ms: u32::MAX };
        assert_eq!(motion.at(i64::MAX), (i32::MIN, i32::MAX));
        assert_eq!(Motion { since_ms: u64::MAX, ..motion }.at(i64::MIN), (i32::MIN, i32::MAX));
    }
}
