//! What the zoo's animals see of others: ghosts, at this node's time, and what stands in their way.
//!
//! Ghosts move by their publisher's clock; the mesh measures how far it is from ours, and the last such measure stays good
//! for a while after a publisher has gone, so that what it left goes on walking until it is taken over.

use std::collections::BTreeMap;

use cartographer::geometry::{IslandId, Place, Tile};
use cartographer::ground::Blocked;
use mesh::PeerTable;

use crate::game::content::Content;
use crate::game::minds::Minds;
use crate::game::minds::lore::What;
use crate::game::minds::picture::Seen;
use crate::game::minds::thought::mix;
use crate::game::{GameWorld, View, kind, pose, thing};

/// How long the clock of a publisher that has gone is remembered, in milliseconds.
const REMEMBER_MS: u64 = 60_000;

/// The clocks of publishers, and what was last in the way.
#[derive(Debug, Default)]
pub(super) struct Sights {
    /// What to add to a publisher's clock to get ours, and when it was last told.
    offsets: BTreeMap<u64, (i64, u64)>,
    /// A number for all that is in the way.
    in_the_way: u64,
    /// Islands on which something is.
    islands: Vec<IslandId>,
}

impl Sights {
    /// Learns how the clocks of others stand.
    pub(super) fn learn(&mut self, peers: &PeerTable, now: u64) {
        self.offsets.retain(|_, (_, told)| now < *told + REMEMBER_MS);
        let offsets = peers.iter().map(|peer| (peer.record.incarnation.0, (peer.clock_offset_ms, now)));
        self.offsets.extend(offsets);
    }

    /// What to add to a publisher's clock to get ours.
    pub(super) fn offset(&self, publisher: u64) -> i64 {
        self.offsets.get(&publisher).map_or(0, |(offset, _)| *offset)
    }

    /// What a publisher's clock shows when ours shows `now`.
    pub(super) fn theirs(&self, publisher: u64, now: u64) -> u64 {
        now.saturating_add_signed(self.offset(publisher).saturating_neg())
    }

    /// What there is to see besides our own animals; and tells the minds what is in their way, if that has changed.
    pub(super) fn look(&mut self, world: &GameWorld, minds: &mut Minds, content: &Content, now: u64) -> Vec<Seen> {
        let mut seen = Vec::with_capacity(world.stats().ghosts);
        let mut in_the_way: Vec<(IslandId, Tile, (u8, u8))> = Vec::new();
        for (id, ghost) in world.ghosts() {
            let (view, island) = (ghost.view(), ghost.cell().island);
            let what = match view.kind {
                kind::PLAYER if view.health > 0 && view.pose != pose::DEFEATED => What::PLAYER,
                kind::ANIMAL if view.health > 0 => minds.lore().number(&view.name).unwrap_or(What::STRANGE),
                kind::FACILITY => What::FACILITY,
                _ => continue,
            };
            let place = ghost.place(self.theirs(ghost.publisher(), now));
            if what == What::FACILITY
                && let Some(extent) = solid(view, content)
                && let Some(tile) = place.tile()
            {
                in_the_way.push((island, tile, extent));
            }
            // Whether the animals of others see themselves what they run from is not told, so they frighten nobody.
            seen.push(Seen { id, island, place, what, flees: false, mind: None });
        }
        // The order of ghosts means nothing, and sums of fractions depend on it.
        seen.sort_unstable_by_key(|seen| seen.id);
        self.block(minds, in_the_way);
        seen
    }

    fn block(&mut self, minds: &mut Minds, in_the_way: Vec<(IslandId, Tile, (u8, u8))>) {
        let hash = in_the_way.iter().fold(0_u64, |sum, (island, tile, (width, height))| {
            let place = u64::from(island.0) << 32 | u64::from(tile.x) << 16 | u64::from(tile.y);
            sum.wrapping_add(mix(place ^ mix(u64::from(*width) << 8 | u64::from(*height))))
        });
        if hash == self.in_the_way {
            return;
        }
        self.in_the_way = hash;
        let mut blocked: BTreeMap<IslandId, Vec<Tile>> =
            std::mem::take(&mut self.islands).into_iter().map(|island| (island, Vec::new())).collect();
        for (island, tile, (width, height)) in in_the_way {
            let tiles = (0..u16::from(height)).flat_map(|dy| (0..u16::from(width)).map(move |dx| (dx, dy)));
            let tiles = tiles.map(|(dx, dy)| Tile::new(tile.x.saturating_add(dx), tile.y.saturating_add(dy)));
            blocked.entry(island).or_default().extend(tiles);
        }
        for (island, tiles) in blocked {
            if !tiles.is_empty() {
                self.islands.push(island);
            }
            minds.block(island, tiles.into_iter().collect::<Blocked>());
        }
    }
}

/// Width and height of a facility that is in the way of animals as it is now.
fn solid(view: &View, content: &Content) -> Option<(u8, u8)> {
    let facility = content.facilities.get(&view.name).filter(|facility| facility.solid)?;
    if facility.door && view.pose & thing::state::OPEN != 0 {
        return None;
    }
    let told = view.detail.first().map_or(&[][..], Vec::as_slice);
    let side = |at: usize, known: u8| told.get(at).and_then(|side| u8::try_from(*side).ok()).unwrap_or(known).min(16);
    Some((side(0, facility.size.0), side(1, facility.size.1)))
}

/// Whether two places are so near that a hunter at one reaches the other, even if clocks differ a little.
pub(super) fn within_reach(one: Place, other: Place) -> bool {
    const REACH: u64 = 4 * 256;
    one.distance_squared(other) <= REACH * REACH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::thing::Thing;

    #[test]
    fn a_shut_door_is_in_the_way_and_an_open_one_is_not() {
        let content = Content::bundled();
        let check = |name: &str, state, extent, expected| {
            let facility = Thing::Facility { facility: name.to_owned(), state, builder: 1, extent };
            assert_eq!(solid(&facility.view(), &content), expected, "{name} {state}");
        };
        check("door", 0, (1, 1, 0), Some((1, 1)));
        check("door", thing::state::OPEN, (1, 1, 0), None);
        check("hearth", thing::state::LIT, (2, 2, 1), Some((2, 2)));
        check("hearth", thing::state::OPEN, (200, 255, 1), Some((16, 16)));
        check("dream", 0, (1, 1, 0), None);
        let bare = View { kind: kind::FACILITY, name: "hearth".to_owned(), ..View::default() };
        assert_eq!(solid(&bare, &content), Some((2, 2)), "its size is the content's if it does not say");
    }

    #[test]
    fn what_walks_by_another_clock_is_where_that_clock_says() {
        let mut sights = Sights::default();
        sights.offsets.insert(7, (250, 0));
        sights.offsets.insert(8, (-250, 0));
        assert_eq!((sights.theirs(7, 1_000), sights.theirs(8, 1_000), sights.theirs(9, 1_000)), (750, 1_250, 1_000));
        assert_eq!((sights.theirs(7, 100), sights.theirs(8, u64::MAX)), (0, u64::MAX));
        sights.learn(&PeerTable::default(), REMEMBER_MS - 1);
        assert_eq!(sights.offsets.len(), 2, "clocks of the dead are remembered");
        sights.learn(&PeerTable::default(), REMEMBER_MS);
        assert!(sights.offsets.is_empty());
    }
}
