//! Parties: who goes together with whom.
//!
//! A party is documents of the estate, changed in one transaction each; what a player's body shows of it is a copy that every
//! frontend renews when it is told of a change, and when a player comes in. It NEVER decides who is in a party.

use std::sync::Arc;

use cartographer::geometry::ObjectId;
use estate::party::{self, PartyDocument};
use estate::player;
use estate::transaction::{OperationId, TransactionError};
use mesh::CallRefusal;
use tokio::sync::mpsc;

use super::{Actor, Begun, Came, Done, Shared, later, note, refusal};
use crate::frontend::operations::named;
use crate::frontend::people;
use crate::frontend::players::FrontInput;
use crate::game::made_by;
use crate::methods::living::{Changed, ChangedWhat};
use crate::protocol::codes;
use crate::world_loop::Input;

/// A party as its members are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number; 0 for none.
    pub party: u64,
    /// Who leads it.
    pub leader: u64,
    /// Who is in it, with names.
    pub members: Vec<(u64, String)>,
}

/// Asks a player into one's party; without one, one is founded.
pub(super) fn invite(actor: &Actor<'_>, guest: u64) -> Begun {
    if guest == actor.id.0 {
        return super::refused(codes::FORBIDDEN, "one does not invite oneself");
    }
    let (flow, name) = (Flow::of(actor), actor.body.name.clone());
    let number = made_by(actor.op).0;
    later(async move {
        let party = match flow.party_or_found(number, guest).await {
            Ok(party) => party,
            Err(refusal) => return Err(refusal).into(),
        };
        if let Err(error) = party::invite(&flow.shared.estate, flow.op, flow.player.0, guest).await {
            return Err(refusal(&error)).into();
        }
        let invites = note(ObjectId(guest), "invite", format!("{name} asks you into a party"), party);
        people::tell_note(&flow.shared, &flow.inputs, invites).await;
        Ok(Done::Made(party)).into()
    })
}

/// Joins a party into which one was asked.
pub(super) fn enter(actor: &Actor<'_>, number: u64) -> Begun {
    let (flow, most) = (Flow::of(actor), usize::from(actor.content().tuning.party_most));
    later(async move {
        let entered = party::enter(&flow.shared.estate, flow.op, number, flow.player.0, most).await;
        flow.end(entered, None).await
    })
}

/// Leaves one's party.
pub(super) fn leave_party(actor: &Actor<'_>) -> Begun {
    let flow = Flow::of(actor);
    later(async move {
        let before = flow.party().await.ok().flatten();
        let left = party::leave(&flow.shared.estate, flow.op, flow.player.0).await;
        flow.end(left, before).await
    })
}

/// Hands on the lead of one's party.
pub(super) fn lead(actor: &Actor<'_>, to: u64) -> Begun {
    let flow = Flow::of(actor);
    later(async move {
        let led = party::lead(&flow.shared.estate, flow.op, flow.player.0, to).await;
        flow.end(led, None).await
    })
}

/// Ends the party that one leads.
pub(super) fn dissolve(actor: &Actor<'_>) -> Begun {
    let flow = Flow::of(actor);
    later(async move {
        let before = flow.party().await.ok().flatten();
        let dissolved = party::dissolve(&flow.shared.estate, flow.op, flow.player.0).await;
        flow.end(dissolved, before).await
    })
}

/// Looks at the party of a player; `None` if it cannot be read now.
pub async fn look(shared: &Shared, player: ObjectId) -> Option<Seen> {
    let Some(document) = party::of(&shared.estate, player.0).await.ok()? else {
        return Some(Seen { party: 0, leader: 0, members: Vec::new() });
    };
    let mut members = Vec::with_capacity(document.members.len());
    for member in &document.members {
        let name = match player::find(shared.store(), *member).await {
            Ok(Some(kept)) => kept.document.name,
            _ => String::new(),
        };
        members.push((*member, name));
    }
    Some(Seen { party: document.id, leader: document.leader, members })
}

/// What a flow about a party needs.
struct Flow {
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input<FrontInput>>,
    player: ObjectId,
    op: OperationId,
}

impl Flow {
    fn of(actor: &Actor<'_>) -> Flow {
        Flow { shared: actor.shared.clone(), inputs: actor.inputs.clone(), player: actor.id, op: actor.op }
    }

    async fn party(&self) -> Result<Option<PartyDocument>, TransactionError> {
        party::of(&self.shared.estate, self.player.0).await
    }

    /// The number of the player's party; without one, `number` is founded, unless there is no such guest.
    async fn party_or_found(&self, number: u64, guest: u64) -> Result<u64, CallRefusal> {
        if let Some(party) = self.party().await.map_err(|error| refusal(&error))? {
            return Ok(party.id);
        }
        let found = player::find(self.shared.store(), guest).await;
        if !matches!(found, Ok(Some(_))) {
            return super::refused(codes::MISSING, format!("there is no player {guest}"));
        }
        let founds = named(b"wildmesh party", &[self.player.0, number]);
        match party::found(&self.shared.estate, founds, number, self.player.0).await {
            Ok(()) => {
                self.changed(vec![self.player]).await;
                Ok(number)
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Tells all who are in the party now, and who were, that it has changed.
    async fn end(&self, result: Result<(), TransactionError>, before: Option<PartyDocument>) -> Came {
        if let Err(error) = result {
            return Err(refusal(&error)).into();
        }
        let now = match &before {
            // Who stays is in there; who was asked to leave again is told once more.
            Some(_) => None,
            None => self.party().await.ok().flatten(),
        };
        let members = before.or(now).map(|party| party.members).unwrap_or_default();
        let mut players: Vec<ObjectId> = members.into_iter().map(ObjectId).collect();
        if !players.contains(&self.player) {
            players.push(self.player);
        }
        self.changed(players).await;
        Ok(Done::Done).into()
    }

    async fn changed(&self, players: Vec<ObjectId>) {
        people::tell_changed(&self.shared, &self.inputs, Changed { players, what: ChangedWhat::Party }).await;
    }
}
