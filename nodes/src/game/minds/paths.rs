//! Ways around water, rock and buildings: A* over tiles (Hart, Nilsson and Raphael, 1968) in a window around the start.
//!
//! Asked only when the straight walk is blocked. The search looks at a bounded number of tiles; if the target is not among
//! them, the way leads to the tile that came nearest. The tiles found become few straight legs, each of which the world's
//! own walk can go. The same ground gives the same way. It NEVER leads over what is not walkable.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cartographer::geometry::{Place, Tile, UNITS_PER_TILE};
use cartographer::ground::Ground;
use cartographer::motion::walk;

/// The side of the window, in tiles; the start is in its middle.
const WINDOW: i32 = 64;
/// Tiles that one search looks at, at most.
pub const TILES: usize = 1_200;
/// Legs of a way, at most; what is farther is searched when they are gone.
pub const LEGS: usize = 12;

/// Costs of a step, in tenths of a tile.
const STRAIGHT: u32 = 10;
const DIAGONAL: u32 = 14;

/// A speed for trying whether one can walk straight: any will do.
const TRIAL_SPEED: i32 = 4 * UNITS_PER_TILE;

/// How near the end of a walk must be to its target to have reached it, in units.
const ARRIVED: u32 = UNITS_PER_TILE as u32 / 2;

/// Whether the straight walk leads all the way.
pub fn is_straight(ground: &dyn Ground, from: Place, to: Place) -> bool {
    walk(ground, from, to, TRIAL_SPEED, 0).is_some_and(|motion| motion.end().reach(to) <= ARRIVED)
}

/// A search in progress.
struct Search<'a> {
    ground: &'a dyn Ground,
    /// The window's upper left tile.
    corner: (i32, i32),
    target: (i32, i32),
    /// The cost to each tile of the window, and the tile from which it was reached.
    costs: Vec<u32>,
    from: Vec<u16>,
}

/// The legs of a way from `from` toward `to`, first leg first; nothing if no step leads nearer.
pub fn find(ground: &dyn Ground, from: Place, to: Place) -> Vec<Place> {
    let (Some(start), Some(target)) = (from.tile(), to.tile()) else { return Vec::new() };
    let corner = (i32::from(start.x) - WINDOW / 2, i32::from(start.y) - WINDOW / 2);
    let cells = (WINDOW * WINDOW) as usize;
    let target = (i32::from(target.x), i32::from(target.y));
    let mut search = Search { ground, corner, target, costs: vec![u32::MAX; cells], from: vec![u16::MAX; cells] };
    let tiles = search.run((i32::from(start.x), i32::from(start.y)));
    legs(ground, from, to, &tiles)
}

impl Search<'_> {
    fn index(&self, (x, y): (i32, i32)) -> Option<usize> {
        let (x, y) = (x - self.corner.0, y - self.corner.1);
        let inside = (0..WINDOW).contains(&x) && (0..WINDOW).contains(&y);
        inside.then_some((y * WINDOW + x) as usize)
    }

    fn tile(&self, index: usize) -> (i32, i32) {
        let index = index as i32;
        (self.corner.0 + index % WINDOW, self.corner.1 + index / WINDOW)
    }

    fn open(&self, (x, y): (i32, i32)) -> bool {
        match (u16::try_from(x), u16::try_from(y)) {
            (Ok(x), Ok(y)) => {
                let tile = Tile::new(x, y);
                tile.is_within(self.ground.size()) && self.ground.walkable(tile)
            }
            _ => false,
        }
    }

    /// The least that the rest of the way costs.
    fn rest(&self, (x, y): (i32, i32)) -> u32 {
        let (dx, dy) = (x.abs_diff(self.target.0), y.abs_diff(self.target.1));
        STRAIGHT * dx.max(dy) + (DIAGONAL - STRAIGHT) * dx.min(dy)
    }

    /// The tiles of the way, without the start.
    fn run(&mut self, start: (i32, i32)) -> Vec<(i32, i32)> {
        let Some(first) = self.index(start) else { return Vec::new() };
        self.costs[first] = 0;
        let mut best = (self.rest(start), first);
        let mut open = BinaryHeap::from([Reverse((best.0, best.0, first))]);
        let mut looked = 0;
        while let Some(Reverse((estimate, rest, at))) = open.pop() {
            if estimate > self.costs[at].saturating_add(rest) {
                continue;
            }
            if rest < best.0 {
                best = (rest, at);
            }
            looked += 1;
            if rest == 0 || looked == TILES {
                break;
            }
            self.step(at, &mut open);
        }
        let mut tiles = Vec::new();
        let mut at = best.1;
        while at != first {
            tiles.push(self.tile(at));
            at = usize::from(self.from[at]);
        }
        tiles.reverse();
        tiles
    }

    fn step(&mut self, at: usize, open: &mut BinaryHeap<Reverse<(u32, u32, usize)>>) {
        let (x, y) = self.tile(at);
        for (dx, dy) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)] {
            let next = (x + dx, y + dy);
            let Some(index) = self.index(next) else { continue };
            let is_diagonal = dx != 0 && dy != 0;
            // Nobody squeezes between two corners, as in the world's walk.
            if !self.open(next) || (is_diagonal && !(self.open((x + dx, y)) && self.open((x, y + dy)))) {
                continue;
            }
            let cost = self.costs[at] + if is_diagonal { DIAGONAL } else { STRAIGHT };
            if cost < self.costs[index] {
                self.costs[index] = cost;
                self.from[index] = at as u16;
                let rest = self.rest(next);
                open.push(Reverse((cost + rest, rest, index)));
            }
        }
    }
}

/// Joins tiles to straight legs, each as long as it can be walked.
fn legs(ground: &dyn Ground, from: Place, to: Place, tiles: &[(i32, i32)]) -> Vec<Place> {
    let centre = |(x, y): (i32, i32)| Tile::new(x as u16, y as u16).centre();
    let end = to.tile().map(|tile| (i32::from(tile.x), i32::from(tile.y)));
    let (mut at, mut next, mut legs) = (from, 0, Vec::new());
    while next < tiles.len() && legs.len() < LEGS {
        let mut reach = next;
        // Far ones first would be as right; along a wall the near ones are what is found.
        while reach + 1 < tiles.len() && is_straight(ground, at, centre(tiles[reach + 1])) {
            reach += 1;
        }
        at = centre(tiles[reach]);
        next = reach + 1;
        let is_last = next == tiles.len() && Some(tiles[reach]) == end;
        legs.push(if is_last { to } else { at });
    }
    legs
}

#[cfg(test)]
mod tests {
    use cartographer::ground::{Blocked, Overlay, Plain};

    use super::*;

    fn check(walls: &[&str], expected: bool) {
        let tiles = walls.iter().zip(0..).flat_map(|(row, y)| row.bytes().zip(0..).map(move |(tile, x)| (x, y, tile)));
        let at = |wanted: u8| tiles.clone().find(|it| it.2 == wanted).map(|(x, y, _)| Tile::new(x, y).centre());
        let blocked: Blocked = tiles.clone().filter(|it| it.2 == b'#').map(|(x, y, _)| Tile::new(x, y)).collect();
        let plain = Plain::new(walls[0].len() as u16, walls.len() as u16);
        let ground = Overlay { ground: &plain, blocked: &blocked };
        let (from, to) = (at(b'a').expect("a start"), at(b'z').expect("a target"));
        let mut place = from;
        for leg in find(&ground, from, to) {
            let motion = walk(&ground, place, leg, 512, 0).expect("a leg can be walked");
            assert!(motion.end().reach(leg) <= ARRIVED, "{walls:#?}: stopped at {:?} before {leg:?}", motion.end());
            place = leg;
        }
        assert_eq!(place.reach(to) <= ARRIVED, expected, "{walls:#?}: ends at {place:?}");
    }

    #[test]
    fn the_way_leads_around_a_wall_and_not_through_what_is_shut() {
        check(&["a....z"], true);
        check(&["......#......", "......#......", "...a..#..z...", "......#......", "............."], true);
        check(&[".......", ".####..", "a.#z#..", "..#.#..", "..#.#..", "..#.#..", "......."], true);
        check(&["a.#.z", "..#..", "..#.."], false);
        check(&["a#.", "#..", "..z"], false);
        check(&["a..", ".#.", "..z"], true);
    }

    #[test]
    fn a_way_that_is_too_far_to_find_leads_nearer_and_a_search_is_bounded() {
        let plain = Plain::new(4_000, 4_000);
        let blocked: Blocked = (0..4_000).filter(|y| *y != 3_900).map(|y| Tile::new(1_010, y)).collect();
        let ground = Overlay { ground: &plain, blocked: &blocked };
        let (from, to) = (Tile::new(1_000, 1_000).centre(), Tile::new(1_100, 1_000).centre());
        let legs = find(&ground, from, to);
        let end = legs.last().expect("nearer");
        assert!(end.distance_squared(to) < from.distance_squared(to) && legs.len() <= LEGS);
        assert!(find(&plain, from, from).is_empty());
        assert!(find(&plain, Place::new(-5, 0), to).is_empty());
    }
}
