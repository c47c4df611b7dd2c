//! An act that was asked for in an earlier life of its player, and that the world would not let begin now.
//!
//! The answer of that life was lost, not the act: the player has moved on, is in a battle, or the thing is gone because of this
//! very act. So before it is refused the estate is asked whether it has happened, and the answer is the one that was lost. This
//! NEVER carries anything out.

use std::sync::Arc;

use cartographer::geometry::{Chunk, ObjectId, Tile};
use estate::document::peek;
use estate::land::{ObjectDocument, ledger, object};
use estate::transaction::OperationId;
use mesh::CallRefusal;

use super::{Came, Done, Shared};
use crate::game::made_by;
use crate::protocol::{Act, codes};

/// The answer of the life in which it happened, or the refusal if it has not. `stands` is the player's chunk.
pub(super) async fn unless_happened(
    shared: Arc<Shared>,
    op: OperationId,
    player: ObjectId,
    act: Act,
    stands: Option<Chunk>,
    refusal: CallRefusal,
) -> Came {
    let unknown = |error: &dyn std::fmt::Display| CallRefusal::new(codes::UNKNOWN, error.to_string());
    let on = |x: u16, y: u16| stands.map(|chunk| ledger::key_of_chunk(Tile { x, y }.chunk(chunk.island)));
    let ledger = match &act {
        Act::Gather { x, y } | Act::Build { x, y, .. } => on(*x, *y),
        Act::Claim {} | Act::GiveUp {} => stands.map(ledger::key_of_chunk),
        Act::Demolish { object } => {
            // What is gone is still known for as long as its operation.
            match peek::<ObjectDocument>(shared.store(), &object::key(ObjectId(*object))).await {
                Ok(kept) => kept.map(|kept| ledger::key(kept.document.island, &kept.document.footprint)),
                Err(error) => return Err(unknown(&error)).into(),
            }
        }
        _ => None,
    };
    match shared.estate.happened(op, ledger.as_deref()).await {
        Ok(true) => Ok(answer(op, player, &act)).into(),
        Ok(false) => Err(refusal).into(),
        Err(error) => Err(unknown(&error)).into(),
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
