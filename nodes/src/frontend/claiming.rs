//! How a player's document is claimed: whoever has it is asked to let go, and who is dead is waited for.
//!
//! A node that lives on in the directory may still act as an owner, whatever it answers: its players are waited for until it
//! lets them go or its record is gone, at most as long as its lease lasts and [`SLACK`] more. All who wait share their looks
//! into the directory, and few claim at once. What decides is the compare-and-swap of the claim, NEVER how long it took.

use std::time::Duration;

use cartographer::geometry::{Epoch, ObjectId};
use estate::player::{self, Claim, Claimant, Claimed, Gone, Owner, Seat, Seating};
use estate::store::Outcome;
use mesh::{CallError, NodeId, PeerState};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::arriving::{Arriving, Comes, Glance};
use super::keeper::SEAT_S;
use super::sessions::{Farewell, Sessions};
use crate::methods::{SESSION_YIELD, YieldSession, Yielded, pack, unpack};
use crate::owners::LOOK_EVERY;
use crate::protocol::codes;

/// How much longer than a lease a dead owner is waited for.
const SLACK: Duration = Duration::from_secs(5);

/// How often a claim is tried when the store does not answer.
const FAILURES: u32 = 4;

/// The pause after the first of these; each is longer than the one before.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at the peers, by one who waits for an owner.
const LOOK: Duration = Duration::from_millis(50);

/// After so long without news a document is read again whose owner is waited for, and the owner asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a keeper here is waited for that is releasing what is to be claimed: within the deadlines of calls.
const RELEASING: Duration = Duration::from_millis(1_500);

const _: () = assert!(LOOK.as_millis() < LOOK_EVERY.as_millis() && LOOK_EVERY.as_millis() < AGAIN.as_millis());

/// A player that was claimed, and what its document does not say.
pub(super) struct Taken {
    /// The claim.
    pub(super) claimed: Claimed,
    /// What others last saw of it, if its owner was gone.
    pub(super) glance: Option<Glance>,
    /// What its owner said, if that let it go.
    pub(super) yielded: Yielded,
}

/// What became of waiting for an owner.
enum Waited {
    /// It has let the player go.
    Yielded(Yielded),
    /// It is gone for good.
    Gone,
    /// Nothing: the document may say something new.
    Nothing(String),
}

impl Sessions {
    /// Claims the document of a player that comes in. `wanted` says whether anybody still waits for it.
    pub(super) async fn claim(&self, arriving: &Arriving, wanted: impl Fn() -> bool + Sync) -> Result<Taken, Farewell> {
        let (shared, id) = (&self.shared, arriving.player);
        // Its last place and steps are only there.
        if !self.is_released(id).await {
            let text = "the player's document cannot be saved at the moment: try again";
            return Err(Farewell::new(codes::UNAVAILABLE, text));
        }
        let me = Claimant { claim: shared.random(), ..shared.claimant.clone() };
        let seating = self.seating(arriving);
        let until = Instant::now() + shared.lease_ttl + SLACK;
        let (mut glance, mut yielded) = (None, Yielded::default());
        let (mut failures, mut in_doubt, mut yields) = (0, false, 0);
        let why = loop {
            // The semaphore is never closed.
            let permit = shared.claims.acquire().await.ok();
            let claim = player::claim(shared.store(), id.0, &me, &seating, &*shared.owners).await;
            drop(permit);
            match claim {
                Ok(Claim::Claimed(claimed)) => {
                    let glance = self.glance_of(&claimed, glance, failures > 0).await;
                    return Ok(Taken { claimed: *claimed, glance, yielded });
                }
                Ok(Claim::Missing) => return Err(Farewell::new(codes::UNAVAILABLE, "no such player")),
                Ok(Claim::Unseated(why)) => return Err(why.into()),
                Ok(Claim::HeldBy(owner)) => match self.wait_for(&owner, arriving, until, &wanted).await? {
                    Waited::Yielded(told) => {
                        if told != Yielded::default() {
                            yielded = told;
                        }
                        // It may say so of a document that it cannot release for the moment.
                        sleep(LOOK * yields).await;
                        yields += 1;
                        if Instant::now() >= until {
                            break format!("{} does not release this player", owner.node);
                        }
                    }
                    Waited::Gone => glance = shared.glances.at(id, Epoch(owner.epoch)).await,
                    Waited::Nothing(why) if Instant::now() >= until => break why,
                    Waited::Nothing(_) => {}
                },
                Err(error) => {
                    in_doubt |= error.outcome() != Outcome::NotDone;
                    failures += 1;
                    if failures >= FAILURES {
                        break error.to_string();
                    }
                    sleep(PAUSE * failures).await;
                }
            }
            if !wanted() {
                break "nobody waits for it any more".to_owned();
            }
        };
        if in_doubt {
            self.claim_in_doubt(id);
        }
        tracing::warn!(player = id.0, why, "could not claim a player");
        Err(Farewell::new(codes::UNAVAILABLE, format!("the player could not be claimed: {why}")))
    }

    /// Waits until no keeper here has the document of a player that has left; false if that takes too long.
    pub(super) async fn is_released(&self, player: ObjectId) -> bool {
        let until = Instant::now() + RELEASING;
        while self.shared.keepers.has(player) {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// How a player's seat is taken.
    fn seating(&self, arriving: &Arriving) -> Seating {
        let (session, now_s) = (Seat::name(arriving.session.0), self.shared.calendar.now_s());
        match arriving.comes {
            Comes::Anew => Seating::Anew { session, until_s: now_s + SEAT_S },
            Comes::Back { turn } => Seating::Back { session, turn: Some(turn), now_s },
            Comes::Moved => Seating::Back { session, turn: None, now_s },
        }
    }

    /// What others last saw of a player whose owner is gone, under the epoch of that owner alone.
    async fn glance_of(&self, claimed: &Claimed, looked: Option<Glance>, again: bool) -> Option<Glance> {
        let abandoned = match claimed.abandoned() {
            // A claim that was repeated does not know any more from whom it was taken.
            0 if again => claimed.epoch() - 1,
            0 => return None,
            epoch => epoch,
        };
        match looked.filter(|glance| glance.seen.epoch.0 == abandoned) {
            Some(glance) => Some(glance),
            None => self.shared.glances.at(ObjectId(claimed.document.id), Epoch(abandoned)).await,
        }
    }

    /// Waits until an owner has let go of a player or is gone, for a while.
    async fn wait_for(
        &self,
        owner: &Owner,
        arriving: &Arriving,
        until: Instant,
        wanted: impl Fn() -> bool,
    ) -> Result<Waited, Farewell> {
        let shared = &self.shared;
        let end = until.min(Instant::now() + AGAIN);
        let mut why = format!("{} still has this player", owner.node);
        let mut asked = false;
        loop {
            if !shared.owners.is_seen(owner) {
                if shared.owners.is_gone(owner).await {
                    return Ok(Waited::Gone);
                }
            } else if !asked && let Some(node) = self.up(owner) {
                asked = true;
                match self.ask_for(&node, arriving).await {
                    Ok(yielded) => return Ok(Waited::Yielded(yielded)),
                    Err(CallError::Refused { refusal, .. }) => {
                        let codes = [codes::TICKET_USED, codes::REPLACED, codes::SESSION_ENDED];
                        if let Some(code) = codes.into_iter().find(|code| refusal.code == *code) {
                            return Err(Farewell::new(code, refusal.text));
                        }
                        why = format!("{why}: {refusal}");
                    }
                    Err(error) => why = format!("{why}, and cannot be asked to let it go: {error}"),
                }
            }
            if Instant::now() >= end || !wanted() {
                return Ok(Waited::Nothing(why));
            }
            sleep(LOOK).await;
        }
    }

    /// The owner's node, if it can be asked in that life.
    fn up(&self, owner: &Owner) -> Option<NodeId> {
        let peers = self.shared.mesh.peers();
        let peer = peers.get(&NodeId::new(&owner.node).ok()?)?;
        let up = peer.state == PeerState::Up && peer.record.incarnation.0 == owner.incarnation;
        up.then(|| peer.record.node.clone())
    }

    async fn ask_for(&self, node: &NodeId, arriving: &Arriving) -> Result<Yielded, CallError> {
        let session = Uuid::from_u128(arriving.session.0);
        let turn = match arriving.comes {
            Comes::Anew => None,
            Comes::Back { turn } => Some(turn),
            // It was released by those who moved it: whoever has it now has it for another reason.
            Comes::Moved => Some(0),
        };
        let body = pack(&YieldSession { player: arriving.player, session, turn });
        let answer = self.shared.mesh.call(node, &SESSION_YIELD, body).await?;
        // An answer that cannot be read is that of a newer program: it has let go all the same.
        Ok(unpack(&answer).unwrap_or_default())
    }
}
