//! What a node says of itself when somebody asks: the answer of `node.report`.

use std::collections::BTreeMap;

use bytes::Bytes;
use mesh::Mesh;

use crate::methods::{self, NodeReport};
use crate::world_loop::WorldReport;

/// The report of a node, as JSON.
pub fn node(mesh: &Mesh, world: &WorldReport) -> Bytes {
    // Maps of numbers and names always become JSON.
    serde_json::to_vec(&of(mesh, world)).unwrap_or_default().into()
}

/// The report of a node.
pub fn of(mesh: &Mesh, world: &WorldReport) -> NodeReport {
    let me = mesh.me();
    let load = (world.load.capacity > 0).then(|| (&world.load).into());
    NodeReport {
        node: me.node.clone(),
        role: me.role,
        publisher: me.incarnation,
        load,
        vision: methods::runs(world.cells.iter().copied()),
        mesh: mesh.view(),
        counters: counters(world),
    }
}

fn counters(world: &WorldReport) -> BTreeMap<String, u64> {
    let stats = &world.stats;
    [
        ("ticks", world.ticks),
        ("tick_p50_us", world.tick_us[0]),
        ("tick_p99_us", world.tick_us[1]),
        ("tick_longest_us", world.longest_tick_us),
        ("reals", stats.reals as u64),
        ("ghosts", stats.ghosts as u64),
        ("cells", stats.cells as u64),
        ("seen_cells", stats.seen_cells as u64),
        ("feeds", stats.feeds as u64),
        ("wanted", stats.wanted as u64),
        ("frames", stats.frames),
        ("frame_bytes", stats.frame_bytes),
        ("keyframes", stats.keyframes),
        ("applied", stats.applied),
        ("old", stats.old),
        ("ignored", stats.ignored),
        ("malformed", stats.malformed),
        ("gaps", stats.gaps),
        ("asked", stats.asked),
        ("repaired", stats.repaired),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
