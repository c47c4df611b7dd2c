//! The natural objects of an island, as numbers on tiles: four bytes each, and nothing where there is none.

use crate::geometry::Tile;

/// Numbers on few of many tiles, row by row, each row sorted from left to right.
#[derive(Debug, Default)]
pub(super) struct Naturals {
    /// Where each row begins; one more at the end.
    rows: Box<[u32]>,
    xs: Box<[u16]>,
    numbers: Box<[u16]>,
}

impl Naturals {
    /// Takes the numbers, which MUST come row by row and from left to right, for an island of this height.
    pub(super) fn new(height: u16, sorted: &[(Tile, u16)]) -> Naturals {
        let row = |y: u16| sorted.partition_point(|(tile, _)| tile.y < y) as u32;
        Naturals {
            rows: (0..=height).map(row).collect(),
            xs: sorted.iter().map(|(tile, _)| tile.x).collect(),
            numbers: sorted.iter().map(|&(_, number)| number).collect(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number on this tile.
    pub(super) fn get(&self, tile: Tile) -> Option<u16> {
        let (start, xs) = self.row(tile.y)?;
        let found = xs.binary_search(&tile.x).ok()?;
        self.numbers.get(start + found).copied()
    }

    /// All that lie from `first` (with it) to `end` (without its row and column), row by row.
    pub(super) fn within(&self, first: Tile, end: Tile) -> impl Iterator<Item = (Tile, u16)> {
        (first.y..end.y).filter_map(|y| Some((y, self.row(y)?))).flat_map(move |(y, (start, xs))| {
            let from = xs.partition_point(|&x| x < first.x);
            let to = xs.partition_point(|&x| x < end.x).max(from);
            xs[from..to].iter().zip(&self.numbers[start + from..]).map(move |(&x, &number)| (Tile::new(x, y), number))
        })
    }

    /// Where the row begins, and its columns.
    fn row(&self, y: u16) -> Option<(usize, &[u16])> {
        let start = *self.rows.get(usize::from(y))? as usize;
        let end = *self.rows.get(usize::from(y) + 1)? as usize;
        Some((start, self.xs.get(start..end)?))
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.xs) + size_of_val(&*self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_on_a_tile_is_found_there_and_in_every_window_around_it() {
        let put: Vec<(Tile, u16)> = [(0, 0), (7, 0), (3, 2), (4, 2), (9, 2), (0, 9)]
            .iter()
            .enumerate()
            .map(|(i, &(x, y))| (Tile::new(x, y), i as u16))
            .collect();
        let naturals = Naturals::new(10, &put);
        assert_eq!(naturals.len(), put.len());
        for x in 0..12 {
            for y in 0..12 {
                let tile = Tile::new(x, y);
                let expected = put.iter().find(|(t, _)| *t == tile).map(|&(_, number)| number);
                assert_eq!(naturals.get(tile), expected, "{tile}");
                let window: Vec<(Tile, u16)> = naturals.within(tile, Tile::new(x + 4, y + 3)).collect();
                let inside = |t: &Tile| (x..x + 4).contains(&t.x) && (y..y + 3).contains(&t.y);
                assert_eq!(window, put.iter().filter(|(t, _)| inside(t)).copied().collect::<Vec<_>>(), "{tile}");
            }
        }
        assert_eq!(naturals.within(Tile::new(5, 5), Tile::new(2, 2)).count(), 0);
        assert_eq!(Naturals::default().get(Tile::new(0, 0)), None);
    }
}
