//! What players want done: checked against the content, done as one transaction of the estate, then shown, then answered.
//!
//! An operation that is asked for again, here or at another garden, happens once and has the same answer: what follows from
//! the operation and the question alone. Because the world has moved on since, the question may look impossible then; so
//! before anything is refused, the estate is asked whether it has happened ([`Shared::serve`]). Who may do it is looked up when it
//! is asked; what the estate guards itself (whose the land is, what a bag holds) is decided in the transaction. What takes long is
//! given up before it has begun ([`ACTS_MOST`]), NEVER where it has.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use cartographer::geometry::{Chunk, IslandId, ObjectId};
use cartographer::terrain::Terrain;
use estate::document::peek;
use estate::goods::{Goods, GoodsEffect, ItemName, Place};
use estate::land::{ObjectDocument, ledger, object};
use estate::transaction::{OperationId, Part, TransactionError};
use mesh::CallRefusal;
use tokio::time::sleep;

use super::{ACTS_MOST, Shared};
use crate::game::made_by;
use crate::methods::living::{GardenAnswer, GardenAsk, GardenWhat, refusal};
use crate::protocol::codes;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// By the garden itself.
    #[error("{0}")]
    Here(CallRefusal),
    /// By the estate.
    #[error(transparent)]
    Estate(#[from] TransactionError),
}

impl From<estate::transaction::Refusal> for Refused {
    fn from(refusal: estate::transaction::Refusal) -> Refused {
        Refused::Estate(refusal.into())
    }
}

impl Refused {
    pub(super) fn new(code: &str, text: impl Into<String>) -> Refused {
        Refused::Here(CallRefusal::new(code, text))
    }

    /// Surely nothing was changed, and it was not for lack of anybody's answer.
    fn is_final(&self) -> bool {
        matches!(self, Refused::Here(_) | Refused::Estate(TransactionError::Refused(_)))
    }

    /// True if the estate refused it with this code.
    pub(super) fn is(&self, code: &str) -> bool {
        matches!(self, Refused::Estate(TransactionError::Refused(refusal)) if refusal.code == code)
    }

    fn told(self) -> CallRefusal {
        match self {
            Refused::Here(refusal) => refusal,
            Refused::Estate(error) => refusal(&error),
        }
    }
}

/// What was done, and which chunk looks different now.
pub(super) type Done = Result<Option<Chunk>, Refused>;

impl Shared {
    /// Does what is asked.
    pub(super) async fn serve(&self, ask: &GardenAsk) -> Result<GardenAnswer, CallRefusal> {
        if let GardenWhat::Look { object } = &ask.what {
            let looked = self.in_time(ask, self.look(ask, *object)).await;
            return looked.map(GardenAnswer::Holds).map_err(Refused::told);
        }
        let done = self.in_time(ask, self.act_or_has_happened(ask)).await;
        if let Some(chunk) = done.map_err(Refused::told)? {
            self.changed(chunk).await;
        }
        Ok(answer(ask))
    }

    /// What comes of an act, unless it has not begun within [`ACTS_MOST`].
    async fn in_time<T>(
        &self,
        ask: &GardenAsk,
        act: impl Future<Output = Result<T, Refused>> + Send,
    ) -> Result<T, Refused> {
        let (mut act, mut time) = (pin!(act), pin!(sleep(ACTS_MOST)));
        poll_fn(|context| {
            // Looked at first: what was interrupted by a freeze goes no step further.
            let late = time.is_elapsed() || time.as_mut().poll(context).is_ready();
            let cut = || late && !self.estate.drives(ask.op);
            if !cut()
                && let Poll::Ready(done) = act.as_mut().poll(context)
            {
                return Poll::Ready(done);
            }
            match cut() {
                true => {
                    let text = "it took too long: ask again under the same number";
                    Poll::Ready(Err(Refused::new(codes::UNKNOWN, text)))
                }
                false => Poll::Pending,
            }
        })
        .await
    }

    async fn act_or_has_happened(&self, ask: &GardenAsk) -> Done {
        match self.act(ask).await {
            Err(refused) if refused.is_final() => match self.has_happened(ask).await {
                Ok(true) => Ok(None),
                Ok(false) => Err(refused),
                Err(error) => Err(error.into()),
            },
            other => other,
        }
    }

    async fn act(&self, ask: &GardenAsk) -> Done {
        match &ask.what {
            GardenWhat::Gather { tile, tools } => self.gather(ask, *tile, tools).await,
            GardenWhat::Build { facility, tile, turned } => self.build(ask, facility, *tile, *turned).await,
            GardenWhat::Demolish { object } => self.demolish(ask, *object).await,
            GardenWhat::Use { object } => self.operate(ask, *object).await,
            GardenWhat::Put { object, goods } => self.put(ask, *object, goods).await,
            GardenWhat::Take { object, goods } => self.take(ask, *object, goods).await,
            GardenWhat::Look { .. } => Ok(None),
            GardenWhat::Claim { chunk } => self.claim(ask, in_island(ask, *chunk)).await,
            GardenWhat::GiveUp { chunk } => self.give_up(ask, in_island(ask, *chunk)).await,
        }
    }

    /// Whether this very operation has happened before.
    async fn has_happened(&self, ask: &GardenAsk) -> Result<bool, TransactionError> {
        let ledger = match &ask.what {
            GardenWhat::Gather { tile, .. } | GardenWhat::Build { tile, .. } => {
                Some(ledger::key_of_chunk(tile.chunk(ask.island)))
            }
            GardenWhat::Claim { chunk } | GardenWhat::GiveUp { chunk } => {
                Some(ledger::key_of_chunk(in_island(ask, *chunk)))
            }
            GardenWhat::Demolish { object } => {
                // What is gone is still known for as long as its operation.
                let kept = peek::<ObjectDocument>(&**self.estate.store(), &object::key(*object)).await;
                // Who cannot look does not know.
                let kept = kept.map_err(|error| TransactionError::Unknown { op: ask.op, why: error.to_string() })?;
                let Some(gone) = kept.map(|kept| kept.document) else { return Ok(false) };
                Some(ledger::key(gone.island, &gone.footprint))
            }
            GardenWhat::Use { .. } | GardenWhat::Put { .. } | GardenWhat::Take { .. } | GardenWhat::Look { .. } => None,
        };
        self.estate.happened(ask.op, ledger.as_deref()).await
    }

    /// The island that is asked about.
    pub(super) fn terrain(&self, island: IslandId) -> Result<Arc<Terrain>, Refused> {
        let found = self.islands.get(island);
        found.ok_or_else(|| Refused::new(estate::land::codes::OUTSIDE, format!("there is no island {island}")))
    }
}

/// The answer to what has been done: it follows from the question, so that it is the same whoever gives it, and when.
fn answer(ask: &GardenAsk) -> GardenAnswer {
    match &ask.what {
        GardenWhat::Build { .. } => GardenAnswer::Made(made_by(ask.op)),
        GardenWhat::Claim { .. } => GardenAnswer::Made(ask.player),
        _ => GardenAnswer::Done,
    }
}

fn in_island(ask: &GardenAsk, (x, y): (u16, u16)) -> Chunk {
    Chunk { island: ask.island, x, y }
}

/// The part that takes and destroys what something costs, and creates and puts what it yields, in the player's bag.
pub(super) fn bag(op: OperationId, player: ObjectId, used: Goods, made: Goods) -> Part {
    Place::Player(player.0).part(op, &GoodsEffect::craft(used, made))
}

/// Goods of the content.
pub(super) fn stacks<'a>(items: impl IntoIterator<Item = (&'a String, &'a u64)>) -> Result<Goods, Refused> {
    let mut goods = Goods::default();
    for (item, count) in items {
        let item: ItemName = item
            .parse()
            .map_err(|error: estate::goods::BadName| Refused::new(codes::UNKNOWN_NAME, error.to_string()))?;
        goods.add(&Goods::stack(item, *count))?;
    }
    Ok(goods)
}
