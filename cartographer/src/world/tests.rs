//! Tests of the world: alone, and several worlds wired together under faults.

mod alone;
mod client;
mod hostile;
mod mesh;
mod pair;

use serde::{Deserialize, Serialize};

use super::verify::mix;
use super::{Body, World, WorldConfig};
use crate::geometry::{Epoch, IslandId, ObjectId, Place};
use crate::ground::Plain;

/// A repeatable source of choices.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(mix(seed))
    }

    /// A number from 0 up to, but not including, `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % limit.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A body as a small game may have it: something to see, and something that nobody sees.
#[derive(Clone, Debug)]
struct Creature {
    hue: u32,
    name: String,
    secret: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Look(u32, String);

impl Body for Creature {
    type View = Look;

    fn view(&self) -> Look {
        Look(self.hue, self.name.clone())
    }
}

fn creature(hue: u32) -> Creature {
    Creature { hue, name: format!("creature {hue}"), secret: 0 }
}

const ISLAND: IslandId = IslandId(7);

/// A world with an island of 512×512 tiles.
fn world(publisher: u64) -> World<Creature> {
    let mut world = World::new(WorldConfig::new(publisher));
    world.add_island(ISLAND, std::sync::Arc::new(Plain::new(512, 512)));
    world
}

/// The middle of a tile.
fn tile(x: i32, y: i32) -> Place {
    Place::new(x * 256 + 128, y * 256 + 128)
}

fn spawn(world: &mut World<Creature>, now: u64, id: u64, place: Place, sees: bool) {
    world.spawn(now, ObjectId(id), Epoch(1), ISLAND, place, creature(id as u32), sees).expect("a free place");
}

impl<B: Body> World<B> {
    /// Checks that the indexes agree with one another.
    fn check(&self) {
        for (cell, own) in &self.cells {
            for (slot, id) in own.members.iter().enumerate() {
                let real = &self.reals[id];
                assert_eq!((real.cell, real.slot as usize), (*cell, slot), "{id:?}");
            }
        }
        assert_eq!(self.cells.values().map(|own| own.members.len()).sum::<usize>(), self.reals.len());
        let mut ghosts = 0;
        for (publisher, peer) in &self.peers {
            for (cell, feed) in &peer.feeds {
                assert!(feed.waiting.len() <= super::BUFFERED_FRAMES);
                for (slot, id) in feed.ghosts.iter().enumerate() {
                    let ghost = &self.ghosts[id];
                    assert_eq!((ghost.publisher, ghost.cell, ghost.slot as usize), (*publisher, *cell, slot), "{id:?}");
                    ghosts += 1;
                }
            }
        }
        assert_eq!(ghosts, self.ghosts.len(), "every ghost is in a feed");
    }
}
