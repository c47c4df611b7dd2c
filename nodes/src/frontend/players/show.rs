//! What clients are shown: vision as it changes, keyframes that are missing, clocks, and plain messages.
//!
//! Frames go to the shards as they are; each keyframe gets its header once, however many clients enter its cell. It NEVER
//! encodes what a node has encoded already.

use std::collections::BTreeSet;

use bytes::Bytes;
use cartographer::geometry::{Cell, IslandId};
use cartographer::motion::Motion;
use cartographer::world::{SightChange, TickOutput};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{CLOCK_SHIFT_MS, Players};
use crate::frontend::shard::{ClientId, Gone, Notice, Order};
use crate::frontend::wire::Wire;
use crate::game::GameWorld;
use crate::protocol::{self, ServerMessage, codes};

impl Players {
    pub(in crate::frontend) fn say(&mut self, client: ClientId, message: &ServerMessage) {
        self.shards.order(client, Order::Say(Wire::new(message.encode())));
    }

    pub(super) fn notice(&mut self, world: &mut GameWorld, now: u64, notice: Notice) {
        match notice {
            Notice::Refresh(client, cells) => {
                let player = self.clients.get(&client).and_then(|id| self.players.get(id));
                if let Some(player) = player {
                    let seen = cells.into_iter().filter(|c| player.sight.contains(c));
                    self.asked.extend(seen.map(|cell| (client, cell)));
                }
            }
            Notice::Gone(client, why) => {
                if why == Gone::Slow {
                    self.shared.metrics.farewells.with_label_values(&[codes::SLOW]).inc();
                }
                self.detach(now, client);
            }
        }
        let _ = world;
    }

    /// Tells every client whose sight changed, and brings the keyframes that were asked for.
    pub(super) fn show(&mut self, world: &mut GameWorld, out: &TickOutput) {
        // Many clients enter the same cells in one tick: each keyframe gets its header once.
        let mut keyframes: FxHashMap<Cell, Vec<Wire>> = FxHashMap::default();
        let mut fresh = FxHashSet::default();
        for change in &out.vision {
            let Some(player) = self.players.get_mut(&change.object) else { continue };
            for cell in &change.left {
                player.sight.remove(cell);
            }
            player.sight.extend(change.entered.iter().copied());
            let Some(client) = player.client else { continue };
            for vision in visions(change) {
                self.shards.order(client, Order::Say(Wire::new(vision.encode())));
            }
            for cell in &change.left {
                self.shards.order(client, Order::Leave(*cell));
            }
            for cell in &change.entered {
                let wires = keyframes.entry(*cell).or_insert_with(|| wires(world.all_keyframes(*cell)));
                self.shards.order(client, Order::Enter(*cell, wires.clone()));
                fresh.insert((client, *cell));
            }
        }
        for (client, cell) in std::mem::take(&mut self.asked) {
            let wires = keyframes.entry(cell).or_insert_with(|| wires(world.all_keyframes(cell)));
            if !fresh.contains(&(client, cell)) {
                self.shards.order(client, Order::Enter(cell, wires.clone()));
            }
        }
    }

    /// Tells all clients when a publisher appears or its clock has moved.
    pub(super) fn tell_clocks(&mut self) {
        let now = self.shared.clocks();
        let same = now.len() == self.clocks.len()
            && now
                .iter()
                .zip(&self.clocks)
                .all(|(a, b)| a.publisher == b.publisher && (a.offset_ms - b.offset_ms).abs() <= CLOCK_SHIFT_MS);
        if same {
            return;
        }
        self.clocks = now;
        let wire = Wire::new(ServerMessage::Clocks(self.clocks.clone()).encode());
        for client in self.clients.keys() {
            self.shards.order(*client, Order::Say(wire.clone()));
        }
    }
}

/// What a client is told of its sight: what has left it on another island comes first, by itself.
fn visions(change: &SightChange) -> Vec<ServerMessage> {
    let islands = |cells: &[Cell]| cells.iter().map(|cell| cell.island).collect::<BTreeSet<IslandId>>();
    let (entered, left) = (islands(&change.entered), islands(&change.left));
    let of = |cells: &[Cell], island: IslandId| {
        cells.iter().filter(|cell| cell.island == island).map(|cell| (cell.x, cell.y)).collect::<Vec<_>>()
    };
    // Where nothing comes into sight goes first, so that the last one names the island where the player is.
    let order = left.difference(&entered).chain(&entered);
    let vision = |island: &IslandId| ServerMessage::Vision {
        island: island.0,
        entered: of(&change.entered, *island),
        left: of(&change.left, *island),
    };
    order.map(vision).collect()
}

fn wires(keyframes: Vec<Bytes>) -> Vec<Wire> {
    keyframes.into_iter().map(Wire::new).collect()
}

/// A motion as the client protocol writes it.
pub(in crate::frontend) fn wire_motion(motion: Motion) -> protocol::Motion {
    protocol::Motion {
        x: motion.from.x,
        y: motion.from.y,
        vx: motion.velocity.0,
        vy: motion.velocity.1,
        since_ms: motion.since,
        duration_ms: motion.duration_ms,
    }
}

pub(super) fn farewell(code: &str, text: &str) -> Wire {
    Wire::new(ServerMessage::Farewell { code: code.to_owned(), text: text.to_owned() }.encode())
}
