//! Looks after the post of one habitat: claims it, saves what is to be kept, gives it up at the end.
//!
//! One task per habitat that is awake, fed by the world through a small queue and NEVER waited for by it. A save that is
//! refused means that another zoo has the habitat: the world is told to drop its animals at once (rule 2 of the design).

use std::sync::Arc;
use std::time::Duration;

use estate::post::{self, Claim, Claimant, Held, PostError};
use estate::store::{Ack, Store};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::habitats::HabitatId;
use super::{Shared, ZooInput};
use crate::world_loop::WorldHandle;

/// Orders that wait for one keeper, at most. A save that finds the queue full is left out: the next one is newer.
const ORDERS: usize = 2;
/// How often the last save is tried before whoever waits for it is told; then it is tried on, now and then.
const LAST_SAVES: u32 = 5;
/// The pause before the last save is tried on.
const PAUSE_LATER: Duration = Duration::from_secs(30);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long the state of a habitat that nobody watches is kept. After that it begins anew.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a habitat keeps.
pub(super) type State = Map<String, Value>;

/// What a keeper is to do.
#[derive(Debug)]
enum Order {
    Save(State),
    Check,
}

/// The world's side of a keeper.
#[derive(Debug)]
pub struct Keeper {
    orders: mpsc::Sender<Order>,
    leave: oneshot::Sender<(State, Option<oneshot::Sender<()>>)>,
}

impl Keeper {
    /// Saves. False if the keeper is still busy.
    pub(super) fn save(&self, state: State) -> bool {
        self.orders.try_send(Order::Save(state)).is_ok()
    }

    /// Looks whether the post is still ours; [`ZooInput::Checked`] or [`ZooInput::Fenced`] tells.
    pub(super) fn check(&self) -> bool {
        self.orders.try_send(Order::Check).is_ok()
    }

    /// Saves for the last time and gives the post up; [`ZooInput::Released`] and `done` tell when it is over.
    pub(super) fn leave(self, state: State, done: Option<oneshot::Sender<()>>) {
        // An error means that the keeper has ended because it was fenced: there is nothing to save.
        let _ = self.leave.send((state, done));
    }
}

/// Claims a habitat's post, and looks after it until it is fenced or given up.
pub(super) async fn keep(shared: Arc<Shared>, world: WorldHandle<ZooInput>, id: HabitatId) {
    let Some(mut held) = claim(&shared, id).await else {
        world.role(ZooInput::NotClaimed(id)).await;
        return;
    };
    let (orders, mut inbox) = mpsc::channel(ORDERS);
    let (leave, mut leaving) = oneshot::channel();
    let (epoch, state) = (held.epoch(), held.state.clone());
    let keeper = Keeper { orders, leave };
    if !world.role(ZooInput::Claimed { id, epoch, state, keeper }).await {
        return;
    }
    let store = shared.estate.store();
    let left = loop {
        tokio::select! {
            biased;
            left = &mut leaving => break left.ok(),
            order = inbox.recv() => {
                let Some(order) = order else { continue };
                let checks = matches!(order, Order::Check);
                if let Order::Save(state) = order {
                    held.state = state;
                }
                let ours = save(&**store, &mut held, id).await;
                match ours {
                    Some(true) if checks => world.role(ZooInput::Checked(id, epoch)).await,
                    Some(false) => {
                        world.role(ZooInput::Fenced(id, epoch)).await;
                        return;
                    }
                    _ => true,
                };
            }
        }
    };
    let done = match left {
        Some((state, done)) => {
            held.state = state;
            done
        }
        None => None,
    };
    let told = async {
        if let Some(done) = done {
            // An error means that nobody waits any more.
            let _ = done.send(());
        }
        world.role(ZooInput::Released(id, epoch)).await;
    };
    give_up(&**store, &mut held, id, told).await;
}

/// Gives a post up, and has `told` tell so, or that it is taking long. A post that names a living node would be out of reach
/// of every other zoo, so it is not left alone before it is given up, or claimed by another, or by this one anew.
async fn give_up(store: &dyn Store, held: &mut Held, id: HabitatId, told: impl Future<Output = ()>) {
    let mut released = release(store, held, id).await;
    told.await;
    while !released {
        sleep(PAUSE_LATER).await;
        released = release(store, held, id).await;
    }
}

async fn claim(shared: &Shared, id: HabitatId) -> Option<Held> {
    let me = shared.mesh.me();
    let claim = shared.next_claim();
    let claimant = Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim };
    let living = shared.owners.living().await;
    let key = post::key("habitat", &id.to_string());
    match post::claim(&**shared.estate.store(), &key, &claimant, |owner| {
        living.is_gone(owner) || planted::is("habitat_woken_twice")
    })
    .await
    {
        Ok(Claim::Claimed(held)) => Some(*held),
        Ok(Claim::HeldBy(owner)) => {
            tracing::debug!(habitat = %id, owner = owner.node, "another zoo looks after the habitat");
            None
        }
        Err(error) => {
            tracing::warn!(habitat = %id, %error, "could not claim a habitat; it is tried again");
            None
        }
    }
}

/// Whether the post is still ours, if that is known.
async fn save(store: &dyn Store, held: &mut Held, id: HabitatId) -> Option<bool> {
    match post::save(store, held, Ack::Early).await {
        Ok(()) => Some(true),
        Err(PostError::Fenced { .. }) => Some(false),
        Err(error) => {
            tracing::warn!(habitat = %id, %error, "could not save a habitat; it is tried again");
            None
        }
    }
}

/// False if the post may still be ours.
async fn release(store: &dyn Store, held: &mut Held, id: HabitatId) -> bool {
    for _ in 0..LAST_SAVES {
        match post::release(store, held, Some(KEEP)).await {
            Ok(()) | Err(PostError::Fenced { .. }) => return true,
            Err(error) => tracing::warn!(habitat = %id, %error, "could not give a habitat up"),
        }
        sleep(PAUSE).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use cartographer::geometry::IslandId;
    use estate::store::memory::{Fault, MemoryStore};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_habitat_is_given_up_at_last_however_long_the_store_was_out_of_reach() {
        let server = MemoryStore::new();
        let (store, key) = (server.client(), post::key("habitat", "1.0"));
        let claimant = |node: &str| Claimant { node: node.to_owned(), incarnation: 1, claim: 1 };
        let claimed = post::claim(&store, &key, &claimant("zoo-1"), |_| false).await.expect("claimed");
        let Claim::Claimed(mut held) = claimed else { panic!("not claimed") };
        for call in 0..500 {
            store.faults().at(call, Fault::Refuse);
        }
        let id = HabitatId { island: IslandId(1), index: 0 };
        let mut told = false;
        let other = server.client();
        give_up(&store, &mut held, id, async {
            told = true;
            let tried = post::claim(&other, &key, &claimant("zoo-2"), |_| false).await.expect("asked");
            assert!(matches!(tried, Claim::HeldBy(_)), "the store was out of reach: {tried:?}");
        })
        .await;
        assert!(told, "the zoo goes on meanwhile");
        let claimed = post::claim(&other, &key, &claimant("zoo-2"), |_| false).await.expect("asked");
        assert!(matches!(claimed, Claim::Claimed(_)), "{claimed:?}");
    }
}
