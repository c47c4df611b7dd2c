//! Promises: goods, experience or a word left for a player, kept exactly once when the player is next at home.
//!
//! The document `promise/PLAYER` is a queue with ids that only rise. Giving takes the goods from the giver in the same
//! transaction. Keeping is one swap of the player's own document, which has the effect and the id of the last promise kept
//! in it; only then are the kept ones dropped from the queue. So whoever dies in between, a promise is NEVER kept twice and
//! never forgotten. One that does not fit the bag waits, and those behind it wait with it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{BAG, Goods, GoodsEffect, Keep, Place, transfer};
use crate::document::{Document, Kept, Migration};
use crate::player::{self, PlayerDocument, PlayerKind};
use crate::transaction::{Kind, Marks, OperationId, Part, Refusal, Request, TransactionError, Transactions};

/// The most promises that wait for one player.
pub const QUEUE_MOST: usize = 256;

/// The most bytes of all promises that wait for one player, as JSON.
pub const QUEUE_BYTES: usize = crate::store::VALUE_BYTES / 2;

/// The part of the queue, in number and in bytes, that gifts of players leave free: one in so many. Else whoever sends a
/// player many small gifts would have their loot refused, and what lies in their boxes on an island that ends.
pub const SPARED: usize = 4;

/// The longest note, in bytes.
pub const NOTE_BYTES: usize = 1_024;

/// How often the promises of a player are read anew because something changed between reading and keeping.
const RETRIES: u32 = 8;

/// The promises that wait for a player, under `promise/PLAYER`. It stays when they are kept: its ids only rise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromiseDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The id of the next promise, from 1.
    pub next: u64,
    /// What waits, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Promised>,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promised {
    /// Its number in the player's queue.
    pub id: u64,
    /// The operation that gave it.
    pub op: OperationId,
    /// What is promised.
    pub what: What,
    /// Who or what gave it.
    pub from: Place,
}

/// What is promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Goods, which the promise holds until it is kept.
    Goods(Goods),
    /// So much experience.
    Experience(u64),
    /// A word, at most [`NOTE_BYTES`]: whoever keeps it shows it.
    Note(String),
}

impl Document for PromiseDocument {
    const KIND: &'static str = "promise";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// What is done to a player's promises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PromiseEffect {
    /// One more comes.
    Add {
        /// The operation that gives it.
        op: OperationId,
        /// What.
        what: What,
        /// From whom.
        from: Place,
    },
    /// Those that are kept go.
    Drop {
        /// The last one that is kept.
        through: u64,
    },
}

/// The key of a player's promises.
pub fn key(player: u64) -> String {
    format!("promise/{player}")
}

/// Promises in transactions.
#[derive(Clone, Copy, Debug)]
pub struct PromiseKind;

impl Kind for PromiseKind {
    type Document = PromiseDocument;
    type Effect = PromiseEffect;

    fn born(&self, key: &str) -> Result<PromiseDocument, Refusal> {
        let player = key.strip_prefix("promise/").and_then(|id| id.parse().ok());
        if player.map(self::key).as_deref() != Some(key) {
            return Err(Refusal::new("malformed", format!("{key} is not the key of a player's promises")));
        }
        let (queue, marks) = (Vec::new(), Marks::default());
        Ok(PromiseDocument { v: PromiseDocument::VERSION, next: 1, queue, marks, rest: Map::new() })
    }

    fn marks<'a>(&self, document: &'a mut PromiseDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut PromiseDocument, effect: &PromiseEffect) -> Result<(), Refusal> {
        match effect {
            PromiseEffect::Add { op, what, from } => document.add(*op, what, *from),
            PromiseEffect::Drop { through } => {
                document.queue.retain(|promised| promised.id > *through);
                Ok(())
            }
        }
    }

    fn is_blank(&self, _key: &str, document: &PromiseDocument) -> bool {
        document.next == 1 && document.queue.is_empty() && document.rest.is_empty()
    }
}

impl PromiseDocument {
    fn add(&mut self, op: OperationId, what: &What, from: Place) -> Result<(), Refusal> {
        what.check()?;
        let spared = |most: usize| if matches!(from, Place::Player(_)) { most - most / SPARED } else { most };
        let (most, most_bytes) = (spared(QUEUE_MOST), spared(QUEUE_BYTES));
        if self.queue.len() >= most {
            return Err(Refusal::new("full", format!("{most} promises or more wait for the player already")));
        }
        let id = self.next;
        self.next = id.checked_add(1).ok_or_else(|| Refusal::new("overflow", "no number is left for a promise"))?;
        self.queue.push(Promised { id, op, what: what.clone(), from });
        let bytes = serde_json::to_vec(&self.queue).map_or(usize::MAX, |text| text.len());
        if bytes > most_bytes {
            return Err(Refusal::new("full", format!("promises of {bytes} bytes; the bound is {most_bytes}")));
        }
        Ok(())
    }
}

impl What {
    /// Refuses what could never be kept.
    fn check(&self) -> Result<(), Refusal> {
        let malformed = |why: String| Err(Refusal::new("malformed", why));
        match self {
            What::Goods(goods) if goods.is_empty() => malformed("a promise of nothing".to_owned()),
            What::Goods(goods) if goods.slots(BAG.per_stack) > u64::from(BAG.slots) => {
                Err(Refusal::new("full", format!("no bag of {} slots ever holds that", BAG.slots)))
            }
            What::Goods(goods) => Goods::default().add(goods),
            What::Experience(0) => malformed("a promise of nothing".to_owned()),
            What::Note(text) if text.is_empty() || text.len() > NOTE_BYTES => {
                malformed(format!("a note of {} bytes; the bounds are 1 and {NOTE_BYTES}", text.len()))
            }
            What::Experience(_) | What::Note(_) => Ok(()),
        }
    }
}

/// Leaves something for a player; it is kept at once if the player is at home. Gives what was kept, for whoever tells the
/// player.
///
/// `from` gives it: goods are taken there, or created if it is the mint. Refused: `missing` (no such player or box), `full`
/// (too many promises wait), `too_little`, `changed`, `malformed`.
pub async fn give(
    transactions: &Transactions,
    op: OperationId,
    from: Place,
    to: u64,
    what: What,
) -> Result<Keeping, TransactionError> {
    if player::find(&**transactions.store(), to).await?.is_none() {
        return Err(Refusal::new("missing", format!("there is no player {to}")).into());
    }
    let mut parts = vec![Part::new::<PromiseKind>(key(to), &PromiseEffect::Add { op, what: what.clone(), from })];
    if let What::Goods(goods) = what {
        let mut effect = GoodsEffect::default();
        if from == Place::Mint {
            transfer::check_serials(op, &goods)?;
            effect.create = goods;
        } else {
            effect.take = goods;
        }
        parts.push(from.part(op, &effect));
    }
    // Many clients leave promises for one player.
    transactions.run(Request::remembered(op, parts)).await?;
    let home = player::find(&**transactions.store(), to).await;
    if !matches!(home, Ok(Some(Kept { document: PlayerDocument { owner: Some(_), .. }, .. }))) {
        return Ok(Keeping::default());
    }
    let keeping = keep(transactions, to).await;
    Ok(keeping.unwrap_or_else(|error| {
        tracing::debug!(player = to, %error, "a promise waits for the next login");
        Keeping::default()
    }))
}

/// What keeping a player's promises came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keeping {
    /// What was kept by this call, in order.
    pub kept: Vec<Promised>,
    /// How many wait on.
    pub waiting: usize,
    /// Why the first of them waits, if it does.
    pub blocked: Option<Refusal>,
}

/// Keeps a player's promises, as many as fit: at login, when a bag that was full has room again, and after giving.
///
/// However often and by however many it is called, each is kept once, and told of at most once: whoever is told of a note
/// shows it. After an error, or if another's answer is lost, some may have been kept without anybody being told.
pub async fn keep(transactions: &Transactions, player: u64) -> Result<Keeping, TransactionError> {
    let mut keeping = Keeping::default();
    for _ in 0..RETRIES {
        // The queue is read first: what was dropped from it before was kept before the player is read.
        let Some(promises) = transactions.read(&PromiseKind, &key(player)).await? else { break };
        let Some(home) = transactions.read(&PlayerKind, &player::key(player)).await? else {
            return Err(Refusal::new("missing", format!("there is no player {player}")).into());
        };
        let kept = home.document.kept;
        if promises.document.queue.first().is_some_and(|first| first.id <= kept) {
            drop_kept(transactions, player, kept).await;
        }
        let waiting: Vec<Promised> = promises.document.queue.into_iter().filter(|one| one.id > kept).collect();
        let (effect, fit, blocked) = fitting(&home.document, &waiting);
        (keeping.waiting, keeping.blocked) = (waiting.len() - fit, blocked);
        let Some(last) = waiting[..fit].last() else { break };
        let (op, through) = (last.op, last.id);
        match transactions.run_guarded(op, &Place::Player(player).part(op, &effect)).await {
            Ok(()) => {
                drop_kept(transactions, player, through).await;
                keeping.kept.extend(waiting.into_iter().take(fit));
                if keeping.waiting == 0 {
                    break;
                }
            }
            // The bag has changed since it was read, or another has kept them: look again.
            Err(TransactionError::Refused(refusal)) => keeping.blocked = Some(refusal),
            Err(error) => return Err(error),
        }
    }
    Ok(keeping)
}

/// Drops what is kept from the queue. What fails is left to the next keeping.
async fn drop_kept(transactions: &Transactions, player: u64, through: u64) {
    let part = Part::new::<PromiseKind>(key(player), &PromiseEffect::Drop { through });
    // Dropping has no id of its own; it changes nothing when it comes again.
    if let Err(error) = transactions.run_guarded(OperationId(u128::from(through)), &part).await {
        tracing::debug!(player, %error, "promises that are kept stay in the queue for now");
    }
}

/// The effect of the first of the promises, as many as fit; how many they are; and why the next does not.
fn fitting(home: &PlayerDocument, waiting: &[Promised]) -> (GoodsEffect, usize, Option<Refusal>) {
    let mut after = home.clone();
    let mut effect = GoodsEffect::default();
    for (fit, promised) in waiting.iter().enumerate() {
        let mut step = GoodsEffect::default();
        match &promised.what {
            What::Goods(goods) => step.put = goods.clone(),
            What::Experience(amount) => step.experience = *amount,
            What::Note(_) => {}
        }
        let fits = PlayerKind.apply(&mut after, &step).and_then(|()| effect.put.add(&step.put));
        if let Err(refusal) = fits {
            return (effect, fit, Some(refusal));
        }
        effect.experience = effect.experience.saturating_add(step.experience);
        effect.keep = Some(Keep { after: home.kept, to: promised.id });
    }
    (effect, waiting.len(), None)
}

#[cfg(test)]
mod tests;
