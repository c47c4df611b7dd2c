//! Looks after the post of one habitat: claims it, saves what is to be kept, gives it up at the end.
//!
//! One task per habitat that is awake, fed by the world through a small queue and NEVER waited for by it. A save that is
//! refused means that another zoo has the habitat: the world is told to drop its animals at once (rule 2 of the design). What
//! could not be saved because the store is away is told too, and the world hands over newer state later: nothing queues up.
//! Whoever takes a habitat over from an owner that is gone, or that has just handed it on, asks what was last seen of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::ObjectId;
use estate::post::{self, Claim, Claimant, Gone, Held, Owner, PostError};
use estate::store::{Ack, Store};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::habitats::HabitatId;
use super::{Claimed, NotClaimed, Shared, ZooInput};
use crate::game::animal::AnimalId;
use crate::last_seen;
use crate::methods::moving::Seen;
use crate::owners::MeshOwners;
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
    /// Told under this number when it is saved.
    Save(State, u64),
    /// Told under this number, too.
    Check(u64),
}

/// The world's side of a keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: mpsc::Sender<Order>,
    leave: oneshot::Sender<(State, Option<oneshot::Sender<()>>)>,
}

impl Keeper {
    /// Saves; [`ZooInput::Saved`] with this number, [`ZooInput::Unsaved`] or [`ZooInput::Fenced`] tells what came of it. False
    /// if the keeper is still busy.
    pub(super) fn save(&self, state: State, number: u64) -> bool {
        self.orders.try_send(Order::Save(state, number)).is_ok()
    }

    /// Looks whether the post is still ours; [`ZooInput::Checked`] or [`ZooInput::Fenced`] tells.
    pub(super) fn check(&self, number: u64) -> bool {
        self.orders.try_send(Order::Check(number)).is_ok()
    }

    /// Saves for the last time and gives the post up; [`ZooInput::Released`] and `done` tell when it is over.
    pub(super) fn leave(self, state: State, done: Option<oneshot::Sender<()>>) {
        // An error means that the keeper has ended because it was fenced: there is nothing to save.
        let _ = self.leave.send((state, done));
    }
}

/// Claims a habitat's post, and looks after it until it is fenced or given up. `handed`: another zoo has given it up for us, and
/// still shows its animals.
pub(super) async fn keep(shared: Arc<Shared>, world: WorldHandle<ZooInput>, id: HabitatId, handed: bool) {
    let (mut held, seen) = match claim(&shared, id, handed).await {
        Ok(claimed) => claimed,
        Err(why) => {
            world.role(ZooInput::NotClaimed(id, why)).await;
            return;
        }
    };
    let (orders, mut inbox) = mpsc::channel(ORDERS);
    let (leave, mut leaving) = oneshot::channel();
    let (epoch, state) = (held.epoch(), held.state.clone());
    let keeper = Keeper { orders, leave };
    let claimed = Box::new(Claimed { id, epoch, state, seen, keeper });
    if !world.role(ZooInput::Claimed(claimed)).await {
        return;
    }
    let store = shared.estate.store();
    let left = loop {
        tokio::select! {
            biased;
            left = &mut leaving => break left.ok(),
            order = inbox.recv() => {
                let Some(order) = order else { continue };
                let (number, checks) = match order {
                    Order::Save(state, number) => {
                        held.state = state;
                        (number, false)
                    }
                    Order::Check(number) => (number, true),
                };
                let told = match save(&**store, &mut held, id).await {
                    Some(true) if checks => ZooInput::Checked { id, epoch, number },
                    Some(true) => ZooInput::Saved { id, epoch, number },
                    None => ZooInput::Unsaved(id, epoch),
                    Some(false) => {
                        world.role(ZooInput::Fenced(id, epoch)).await;
                        return;
                    }
                };
                world.role(told).await;
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
    give_up(&**store, &mut held, id, |given_up| async move {
        if let Some(done) = done {
            // An error means that nobody waits any more.
            let _ = done.send(());
        }
        world.role(ZooInput::Released { id, epoch, given_up }).await;
    })
    .await;
}

/// Gives a post up, and has `told` tell so, or (false) that it is taking long. A post that names a living node would be out of
/// reach of every other zoo, so it is not left alone before it is given up, or claimed by another, or by this one anew.
async fn give_up<F: Future<Output = ()>>(
    store: &dyn Store,
    held: &mut Held,
    id: HabitatId,
    told: impl FnOnce(bool) -> F,
) {
    let mut released = release(store, held, id).await;
    told(released).await;
    while !released {
        sleep(PAUSE_LATER).await;
        released = release(store, held, id).await;
    }
}

/// Who says of which zoos a habitat can be inherited.
struct Heirs<'a>(&'a MeshOwners);

#[async_trait]
impl Gone for Heirs<'_> {
    async fn is_gone(&self, owner: &Owner) -> bool {
        planted::is("habitat_woken_twice") || self.0.is_gone(owner).await
    }
}

/// Claims the post; with what others last saw of its animals, if its owner is gone or has handed it on: else nothing that is
/// seen of them can be newer than what was saved.
async fn claim(shared: &Shared, id: HabitatId, handed: bool) -> Result<(Held, Option<Vec<Seen>>), NotClaimed> {
    let me = shared.mesh.me();
    let claim = shared.next_claim();
    let claimant = Claimant { node: me.node.to_string(), incarnation: me.incarnation.0, claim };
    let (store, key) = (&**shared.estate.store(), post::key("habitat", &id.to_string()));
    let failed = |error: estate::document::DocumentError| {
        tracing::warn!(habitat = %id, %error, "could not claim a habitat; it is tried again");
        NotClaimed::Failed
    };
    let orphan = post::find(store, &key).await.map_err(failed)?.is_some_and(|post| post.owner.is_some());
    let held = match post::claim(store, &key, &claimant, &Heirs(&shared.owners)).await.map_err(failed)? {
        Claim::Claimed(held) => *held,
        Claim::HeldBy(owner) => {
            tracing::debug!(habitat = %id, owner = owner.node, "another zoo looks after the habitat");
            return Err(if shared.owners.is_seen(&owner) { NotClaimed::Held } else { NotClaimed::Failed });
        }
    };
    let mut seen = None;
    if orphan || handed {
        let terrain = shared.terrain(id.island);
        let habitat = terrain.as_ref().and_then(|terrain| terrain.habitats().get(usize::from(id.index)));
        let animal = |index| AnimalId { island: id.island, habitat: id.index, index }.object();
        let animals: Vec<ObjectId> = (0..habitat.map_or(0, |habitat| habitat.animals)).map(animal).collect();
        seen = Some(last_seen::asked(&shared.mesh, &animals, Vec::new()).await);
    }
    Ok((held, seen))
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
        let claimed = post::claim(&store, &key, &claimant("zoo-1"), &|_: &Owner| false).await.expect("claimed");
        let Claim::Claimed(mut held) = claimed else { panic!("not claimed") };
        for call in 0..500 {
            store.faults().at(call, Fault::Refuse);
        }
        let id = HabitatId { island: IslandId(1), index: 0 };
        let mut told = false;
        let other = server.client();
        give_up(&store, &mut held, id, |given_up| {
            told = !given_up;
            async {
                let tried = post::claim(&other, &key, &claimant("zoo-2"), &|_: &Owner| false).await.expect("asked");
                assert!(matches!(tried, Claim::HeldBy(_)), "the store was out of reach: {tried:?}");
            }
        })
        .await;
        assert!(told, "the zoo goes on meanwhile");
        let claimed = post::claim(&other, &key, &claimant("zoo-2"), &|_: &Owner| false).await.expect("asked");
        assert!(matches!(claimed, Claim::Claimed(_)), "{claimed:?}");
    }
}
