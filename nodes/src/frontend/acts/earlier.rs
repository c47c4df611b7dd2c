//! An act that was asked for before, in this life of its player or an earlier one, and is refused now.
//!
//! The answer was lost, not the act: the player has moved on, is in a battle, somebody else has claimed the land, or the thing is
//! gone because of this very act. So before it is refused the estate is asked whether it has happened, and the answer is the
//! one that was lost. This NEVER carries anything out.

use std::sync::Arc;

use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::document::peek;
use estate::land::{ObjectDocument, ledger, object};
use estate::player;
use estate::transaction::OperationId;
use mesh::CallRefusal;

use super::{Came, Done, Shared};
use crate::game::made_by;
use crate::protocol::{Act, codes};

/// An act that may have happened at an earlier try.
pub(super) struct Tried {
    pub(super) shared: Arc<Shared>,
    pub(super) op: OperationId,
    pub(super) player: ObjectId,
    pub(super) act: Act,
    /// The chunk on which the player stands.
    pub(super) stands: Option<Chunk>,
}

impl Tried {
    /// What came of this try; if it was refused, the answer of the one that was lost, if that has happened.
    pub(super) async fn or_happened(self, came: Came) -> Came {
        let Came { result, then } = came;
        let result = match result {
            Err(refusal) if refusal.code != codes::UNKNOWN => self.unless_happened(refusal).await,
            told => told,
        };
        Came { result, then }
    }

    async fn unless_happened(self, refusal: CallRefusal) -> Result<Done, CallRefusal> {
        let unknown = |error: &dyn std::fmt::Display| CallRefusal::new(codes::UNKNOWN, error.to_string());
        let on = |x: u16, y: u16| self.stands.map(|chunk| ledger::key_of_chunk(Tile { x, y }.chunk(chunk.island)));
        let ledger = match &self.act {
            Act::Gather { x, y } | Act::Build { x, y, .. } => on(*x, *y),
            Act::Claim {} | Act::GiveUp {} => self.stands.map(ledger::key_of_chunk),
            Act::Demolish { object } => {
                // What is gone is still known for as long as its operation.
                match peek::<ObjectDocument>(self.shared.store(), &object::key(ObjectId(*object))).await {
                    Ok(kept) => kept.map(|kept| ledger::key(kept.document.island, &kept.document.footprint)),
                    Err(error) => return Err(unknown(&error)),
                }
            }
            _ => None,
        };
        match self.shared.estate.happened(self.op, ledger.as_deref()).await {
            Ok(true) => return Ok(answer(self.op, self.player, &self.act)),
            Ok(false) => {}
            Err(error) => return Err(unknown(&error)),
        }
        // What changes the player alone is remembered with the player.
        match player::find(self.shared.store(), self.player.0).await {
            Ok(Some(kept)) if kept.document.marks.recent.contains(&self.op) => {
                Ok(answer(self.op, self.player, &self.act))
            }
            Ok(_) => Err(refusal),
            Err(error) => Err(unknown(&error)),
        }
    }
}

/// What an act that is done is answered with: it follows from act and operation alone.
fn answer(op: OperationId, player: ObjectId, act: &Act) -> Done {
    match act {
        Act::Build { .. } | Act::Trade { .. } => Done::Made(made_by(op).0),
        Act::Claim {} => Done::Made(player.0),
        _ => Done::Done,
    }
}
