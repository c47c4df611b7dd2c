//! Vision: which cells an object sees.
//!
//! What an object sees is a rectangle of cells. Cells enter it when they touch the square of the radius around the object
//! and leave it only when they are outside the radius and the linger, each side of the rectangle by itself, so that
//! walking to and fro along a border changes nothing. The rectangle is a function of the one before and of the squares of a
//! coarse grid ([`SightRules::grid`]): between two lines of that grid nothing needs to be computed.

use crate::geometry::{Cell, IslandId, Place, TILES_PER_CELL, UNITS_PER_TILE};

/// How far objects see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SightRules {
    radius: i32,
    linger: i32,
    grid: i32,
}

impl SightRules {
    /// Cells enter at `radius_tiles` and leave `linger_tiles` later.
    pub fn new(radius_tiles: u16, linger_tiles: u16) -> SightRules {
        let tiles = [radius_tiles, linger_tiles].into_iter().fold(TILES_PER_CELL, common_divisor);
        SightRules {
            radius: i32::from(radius_tiles) * UNITS_PER_TILE,
            linger: i32::from(linger_tiles) * UNITS_PER_TILE,
            grid: i32::from(tiles) * UNITS_PER_TILE,
        }
    }

    /// The side of the grid, in units, within whose squares the view does not change.
    pub fn grid(&self) -> i32 {
        self.grid
    }

    /// What is seen from `place`, on an island of `size` tiles, by somebody who saw `before`.
    pub fn look(&self, island: IslandId, size: (u16, u16), place: Place, before: Option<&Sight>) -> Sight {
        let near = Sight::around(island, size, place, self.radius);
        match before {
            Some(before) if before.island == island => {
                let far = Sight::around(island, size, place, self.radius.saturating_add(self.linger));
                before.cut(&far).map_or(near, |kept| near.joined(&kept))
            }
            _ => near,
        }
    }
}

fn common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// A rectangle of cells: what one object sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    island: IslandId,
    /// First and last column.
    x: (u16, u16),
    /// First and last row.
    y: (u16, u16),
}

impl Sight {
    fn around(island: IslandId, size: (u16, u16), place: Place, reach: i32) -> Sight {
        let along = |at: i32, tiles: u16| {
            let last = i32::from(tiles.div_ceil(TILES_PER_CELL).max(1)) - 1;
            let cell = |units: i32| units.div_euclid(Cell::UNITS).clamp(0, last) as u16;
            (cell(at.saturating_sub(reach)), cell(at.saturating_add(reach)))
        };
        Sight { island, x: along(place.x, size.0), y: along(place.y, size.1) }
    }

    /// What both see; `None` if that is nothing.
    fn cut(&self, by: &Sight) -> Option<Sight> {
        let along = |a: (u16, u16), b: (u16, u16)| {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            (first <= last).then_some((first, last))
        };
        Some(Sight { island: self.island, x: along(self.x, by.x)?, y: along(self.y, by.y)? })
    }

    fn joined(&self, with: &Sight) -> Sight {
        let along = |a: (u16, u16), b: (u16, u16)| (a.0.min(b.0), a.1.max(b.1));
        Sight { island: self.island, x: along(self.x, with.x), y: along(self.y, with.y) }
    }

    /// The island.
    pub fn island(&self) -> IslandId {
        self.island
    }

    /// Whether the cell is seen.
    pub fn contains(&self, cell: Cell) -> bool {
        cell.island == self.island && (self.x.0..=self.x.1).contains(&cell.x) && (self.y.0..=self.y.1).contains(&cell.y)
    }

    /// The cells, row by row.
    pub fn cells(&self) -> impl Iterator<Item = Cell> + use<> {
        let Sight { island, x, y } = *self;
        (y.0..=y.1).flat_map(move |cy| (x.0..=x.1).map(move |cx| Cell::new(island, cx, cy)))
    }

    /// The cells that `other` does not see, row by row.
    pub fn beyond(&self, other: Option<Sight>) -> impl Iterator<Item = Cell> + use<> {
        self.cells().filter(move |cell| !other.is_some_and(|other| other.contains(*cell)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::Dice;

    const ISLAND: IslandId = IslandId(1);
    const SIZE: (u16, u16) = (512, 512);

    fn at(x: i32, y: i32) -> Place {
        Place::new(x * UNITS_PER_TILE, y * UNITS_PER_TILE)
    }

    #[test]
    fn a_newcomer_sees_the_cells_within_the_radius() {
        let rules = SightRules::new(40, 16);
        assert_eq!(rules.grid(), 8 * UNITS_PER_TILE);
        let check = |x, y, cells: ((u16, u16), (u16, u16))| {
            let sight = rules.look(ISLAND, SIZE, at(x, y), None);
            assert_eq!((sight.x, sight.y), cells, "{x},{y}");
            assert_eq!(sight.cells().count(), sight.beyond(None).count());
        };
        check(256, 256, ((6, 9), (6, 9)));
        check(0, 0, ((0, 1), (0, 1)));
        check(511, 511, ((14, 15), (14, 15)));
    }

    #[test]
    fn walking_along_a_border_changes_nothing() {
        let rules = SightRules::new(40, 16);
        // At x = 248 tiles the radius reaches exactly the next column.
        let mut sight = rules.look(ISLAND, SIZE, at(248, 256), None);
        let mut changes = 0;
        for step in 0..1_000 {
            let next = rules.look(ISLAND, SIZE, at(240 + step % 16, 256 + step % 5), Some(&sight));
            changes += u32::from(next != sight);
            sight = next;
        }
        assert!(changes <= 1, "{changes} changes");
    }

    #[test]
    fn what_is_near_is_seen_and_what_is_far_is_not() {
        let rules = SightRules::new(40, 16);
        let mut dice = Dice::new(1);
        let (mut x, mut y) = (256, 256);
        let mut sight = rules.look(ISLAND, SIZE, at(x, y), None);
        for _ in 0..5_000 {
            x = (x + dice.below(21) as i32 - 10).clamp(0, 511);
            y = (y + dice.below(21) as i32 - 10).clamp(0, 511);
            sight = rules.look(ISLAND, SIZE, at(x, y), Some(&sight));
            let near = rules.look(ISLAND, SIZE, at(x, y), None);
            let far = SightRules::new(56, 0).look(ISLAND, SIZE, at(x, y), None);
            assert_eq!(near.beyond(Some(sight)).count(), 0, "all that is near is seen");
            assert_eq!(sight.beyond(Some(far)).count(), 0, "nothing that is far is seen");
        }
    }

    #[test]
    fn the_view_depends_only_on_the_square_of_the_grid() {
        for (radius, linger) in [(40, 16), (30, 10), (1, 0), (64, 32), (33, 7)] {
            let rules = SightRules::new(radius, linger);
            let mut dice = Dice::new(u64::from(radius));
            for _ in 0..500 {
                let place = Place::new(dice.below(512 * 256) as i32, dice.below(512 * 256) as i32);
                let corner = Place::new(
                    place.x.div_euclid(rules.grid()) * rules.grid(),
                    place.y.div_euclid(rules.grid()) * rules.grid(),
                );
                let before = rules.look(ISLAND, SIZE, place.offset(dice.below(9_000) as i32, 77), None);
                for before in [None, Some(&before)] {
                    assert_eq!(rules.look(ISLAND, SIZE, place, before), rules.look(ISLAND, SIZE, corner, before));
                }
            }
        }
    }
}
