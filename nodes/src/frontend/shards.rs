//! The world's side of the shards: orders collected during a tick, and one batch for each shard at its end.
//!
//! A client belongs to the shard that its number names. A shard whose queue is full gets its orders later and its frames
//! as [`Batch::missed`]: the world NEVER waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cartographer::geometry::Cell;
use cartographer::world::CellFrame;
use tokio::sync::mpsc;

use super::shard::{Batch, ClientId, Order};
use super::wire::Wire;

/// Orders that wait for one shard while its queue is full, at most; what comes after is dropped with the client's
/// connection left to fail, which the shard will notice.
const ORDERS: usize = 262_144;

struct Port {
    batches: mpsc::Sender<Batch>,
    orders: Vec<(ClientId, Order)>,
    missed: BTreeSet<Cell>,
}

/// The ways to all shards.
pub(super) struct Shards(Vec<Port>);

impl Shards {
    pub(super) fn new(shards: Vec<mpsc::Sender<Batch>>) -> Shards {
        let port = |batches| Port { batches, orders: Vec::new(), missed: BTreeSet::new() };
        Shards(shards.into_iter().map(port).collect())
    }

    /// Something for one client, in this tick's batch.
    pub(super) fn order(&mut self, client: ClientId, order: Order) {
        let shard = client.0 as usize % self.0.len();
        let port = &mut self.0[shard];
        if port.orders.len() < ORDERS {
            port.orders.push((client, order));
        }
    }

    /// Sends every shard its batch. The frames get their headers here, once for all clients of all shards.
    pub(super) fn send(&mut self, frames: Vec<CellFrame>) {
        let frames = Arc::new(frames.into_iter().map(|f| (f.cell, Wire::new(f.bytes))).collect::<Vec<_>>());
        for port in &mut self.0 {
            let Ok(permit) = port.batches.try_reserve() else {
                port.missed.extend(frames.iter().map(|(cell, _)| *cell));
                continue;
            };
            let missed = std::mem::take(&mut port.missed).into_iter().collect();
            permit.send(Batch { frames: frames.clone(), missed, orders: std::mem::take(&mut port.orders) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cartographer::geometry::IslandId;

    #[test]
    fn a_full_shard_gets_its_orders_later_and_learns_what_it_missed() {
        let (sender, mut batches) = mpsc::channel(1);
        let mut shards = Shards::new(vec![sender]);
        let cell = Cell::new(IslandId(1), 2, 3);
        shards.send(Vec::new());
        shards.order(ClientId(5), Order::Leave(cell));
        shards.send(vec![CellFrame { cell, bytes: bytes::Bytes::from_static(b"lost") }]);
        assert!(batches.try_recv().unwrap().orders.is_empty());
        shards.send(Vec::new());
        let late = batches.try_recv().unwrap();
        assert_eq!((late.orders.len(), late.missed), (1, vec![cell]));
    }
}
