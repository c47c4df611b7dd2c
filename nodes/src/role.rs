//! What the nodes that own things besides players are made from, and how they are asked.

use std::sync::Arc;

use async_trait::async_trait;
use estate::transaction::Transactions;
use mesh::directory::Directory;
use mesh::registry::District;
use mesh::tasks::Tasks;
use mesh::{Event, IncomingCall, Mesh};
use tokio::sync::mpsc;

use crate::calendar::Calendar;
use crate::draining::Draining;
use crate::game::GameWorld;
use crate::game::content::Content;
use crate::islands::Archipelago;
use crate::metrics::Metrics;
use crate::owners::MeshOwners;

/// What a garden, a zoo or a colosseum is made from.
pub struct Parts {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// What the mesh tells it.
    pub events: mpsc::Receiver<Event>,
    /// Its world, without objects.
    pub world: GameWorld,
    /// Where documents lie, and transactions over them.
    pub estate: Arc<Transactions>,
    /// Who lives.
    pub owners: Arc<MeshOwners>,
    /// The directory.
    pub directory: Arc<dyn Directory>,
    /// Where it belongs.
    pub district: District,
    /// The islands that it serves.
    pub islands: Archipelago,
    /// The game's content.
    pub content: Arc<Content>,
    /// What day it is.
    pub calendar: Calendar,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Its tasks.
    pub tasks: Tasks,
    /// Whether it is being emptied.
    pub draining: Draining,
    /// Randomness of this life.
    pub secret: [u8; 32],
}

/// Somebody who answers the calls of peers.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    /// Whether calls of this family (the name up to the first dot) are answered here.
    fn takes(&self, family: &str) -> bool;

    /// Answers one.
    async fn answer(&self, call: IncomingCall);
}
