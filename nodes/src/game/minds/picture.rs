//! The picture: everything that animals may notice at one moment, by squares of the land.
//!
//! Made anew by whoever writes the world whenever minds are to think, then only read, by any number of threads. A spatial
//! hash (Teschner and others, *Optimized Spatial Hashing*, 2003): a square's entries are a chain in the order in which they
//! were put in, turned round, so that what is found depends on nothing but what was put in.

use cartographer::geometry::{IslandId, ObjectId, Place, UNITS_PER_TILE};

use super::lore::What;

/// The side of a square, in units: 8 tiles.
const SIDE: i32 = 8 * UNITS_PER_TILE;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Something that may be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub id: ObjectId,
    /// Where.
    pub island: IslandId,
    /// Where it is now.
    pub place: Place,
    /// What it is.
    pub what: What,
    /// Whether it runs away from something that it sees itself, and so frightens its mates.
    pub flees: bool,
    /// Its mind's slot, if its mind is here.
    pub mind: Option<u32>,
}

struct Entry {
    seen: Seen,
    square: u64,
    next: u32,
}

/// What may be noticed, by place.
#[derive(Default)]
pub struct Picture {
    entries: Vec<Entry>,
    heads: Vec<u32>,
    mask: u64,
}

fn square(island: IslandId, x: i32, y: i32) -> u64 {
    u64::from(island.0) << 32 | u64::from(x as u16) << 16 | u64::from(y as u16)
}

fn hash(square: u64) -> u64 {
    let hash = square.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 32
}

impl Picture {
    /// Empties it, and makes room for about so many.
    pub fn clear(&mut self, room: usize) {
        self.entries.clear();
        let buckets = (room * 2).next_power_of_two().max(64);
        self.heads.clear();
        self.heads.resize(buckets, NONE);
        self.mask = buckets as u64 - 1;
    }

    /// Puts something in.
    pub fn add(&mut self, seen: Seen) {
        let square = square(seen.island, seen.place.x.div_euclid(SIDE), seen.place.y.div_euclid(SIDE));
        let Some(head) = self.heads.get_mut((hash(square) & self.mask) as usize) else { return };
        let next = std::mem::replace(head, self.entries.len() as u32);
        self.entries.push(Entry { seen, square, next });
    }

    /// All that was put in, in that order.
    pub fn all(&self) -> impl Iterator<Item = &Seen> {
        self.entries.iter().map(|entry| &entry.seen)
    }

    /// Shows all that is within `reach` units of a place, with the square of its distance.
    pub fn around(&self, island: IslandId, place: Place, reach: i32, mut show: impl FnMut(&Seen, u64)) {
        let most = (i64::from(reach.max(0)) * i64::from(reach.max(0))) as u64;
        let squares = |at: i32| at.saturating_sub(reach).div_euclid(SIDE)..=at.saturating_add(reach).div_euclid(SIDE);
        for y in squares(place.y) {
            for x in squares(place.x) {
                let wanted = square(island, x, y);
                let mut at = self.heads.get((hash(wanted) & self.mask) as usize).copied().unwrap_or(NONE);
                while let Some(entry) = self.entries.get(at as usize) {
                    at = entry.next;
                    if entry.square == wanted {
                        let distance = entry.seen.place.distance_squared(place);
                        if distance <= most {
                            show(&entry.seen, distance);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_near_is_shown_once_and_nothing_else() {
        let mut picture = Picture::default();
        let mut bits = 7_u64;
        let mut below = |bound: u64| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 33) % bound
        };
        let all: Vec<Seen> = (0..3_000)
            .map(|i| Seen {
                id: ObjectId(i),
                island: IslandId(1 + below(3) as u32),
                place: Place::new(below(200 * 256) as i32, below(200 * 256) as i32),
                what: What::PLAYER,
                flees: false,
                mind: None,
            })
            .collect();
        // Few buckets, so that squares share them.
        picture.clear(10);
        all.iter().for_each(|seen| picture.add(*seen));
        for reach in [0, 300, 2_560, 20_000] {
            for from in all.iter().step_by(97) {
                let mut shown = Vec::new();
                picture.around(from.island, from.place, reach, |seen, _| shown.push(seen.id));
                shown.sort_unstable();
                let near = |seen: &&Seen| {
                    seen.island == from.island && seen.place.distance_squared(from.place) <= (reach as u64).pow(2)
                };
                let expected: Vec<ObjectId> = all.iter().filter(near).map(|seen| seen.id).collect();
                assert_eq!(shown, expected);
            }
        }
    }
}
