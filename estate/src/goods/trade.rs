//! Trades: two players offer goods to each other, and both change hands at once when both consent to the same offers.
//!
//! The document `trade/OPERATION` holds the offers. Every change of an offer raises the revision and clears both consents;
//! a consent names the revision that it is for. Executing is one transaction over both players and the trade itself, so
//! that it can neither be withdrawn half-way nor done twice. An open trade that nobody touches expires by itself. A trade
//! NEVER holds goods: what is offered stays with its player until it changes hands.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Goods, GoodsEffect, Place, mix};
use crate::document::{Document, Kept, Migration};
use crate::transaction::{
    Kind, Marks, OperationId, Part, REMEMBERED, Refusal, Request, TransactionError, Transactions,
};

/// How long an open trade stays after its last change.
pub const OPEN: Duration = Duration::from_secs(60 * 60);

/// The most stacks and uniques that one side offers.
pub const OFFER_MOST: usize = 64;

/// How often a trade is read anew because it changed between reading and deciding.
const RETRIES: u32 = 8;

const _: () = assert!(OFFER_MOST * 2 <= super::transfer::MOVED_MOST);
const _: () = assert!(OPEN.as_secs() >= REMEMBERED.as_secs());

/// A trade, under `trade/OPERATION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TradeDocument {
    /// The version of the document's form.
    pub v: u32,
    /// How far it has come.
    pub state: TradeState,
    /// The two sides, in the order in which it was opened.
    pub sides: [Side; 2],
    /// Raised by every change of an offer.
    pub revision: u64,
    /// What transactions leave.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How far a trade has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TradeState {
    /// Not opened yet.
    Unopened,
    /// Offers may be made.
    Open,
    /// The goods have changed hands.
    Done,
    /// One side has withdrawn.
    Withdrawn,
}

/// One side of a trade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The player.
    pub player: u64,
    /// What the player offers.
    #[serde(default, skip_serializing_if = "Goods::is_empty")]
    pub offer: Goods,
    /// The revision that the player consents to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<u64>,
}

impl Document for TradeDocument {
    const KIND: &'static str = "trade";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// What is done to a trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TradeEffect {
    /// It begins.
    Open {
        /// The two sides.
        players: [u64; 2],
    },
    /// One side offers something else.
    Offer {
        /// The side.
        player: u64,
        /// All that it offers now.
        goods: Goods,
    },
    /// One side agrees.
    Consent {
        /// The side.
        player: u64,
        /// To what.
        revision: u64,
    },
    /// One side does not want it any more.
    Withdraw {
        /// The side.
        player: u64,
    },
    /// It could not be executed: both have to consent anew.
    Lapse {
        /// What could not.
        revision: u64,
    },
    /// The goods change hands.
    Execute {
        /// What both have agreed to.
        revision: u64,
    },
}

/// The key of a trade.
pub fn key(trade: OperationId) -> String {
    format!("trade/{trade}")
}

/// Trades in transactions.
#[derive(Clone, Copy, Debug)]
pub struct TradeKind;

impl Kind for TradeKind {
    type Document = TradeDocument;
    type Effect = TradeEffect;

    fn born(&self, key: &str) -> Result<TradeDocument, Refusal> {
        let op = key.strip_prefix("trade/").and_then(|op| op.parse().ok());
        if op.map(self::key).as_deref() != Some(key) {
            return Err(Refusal::new("malformed", format!("{key} is not the key of a trade")));
        }
        Ok(TradeDocument {
            v: TradeDocument::VERSION,
            state: TradeState::Unopened,
            sides: [Side::default(), Side::default()],
            revision: 0,
            marks: Marks::default(),
            rest: Map::new(),
        })
    }

    fn marks<'a>(&self, document: &'a mut TradeDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut TradeDocument, effect: &TradeEffect) -> Result<(), Refusal> {
        document.apply(effect)
    }

    fn is_blank(&self, _key: &str, document: &TradeDocument) -> bool {
        document.state == TradeState::Unopened && document.rest.is_empty()
    }

    fn lives(&self, document: &TradeDocument) -> Option<Duration> {
        Some(if document.state == TradeState::Open { OPEN } else { REMEMBERED })
    }
}

impl TradeDocument {
    /// True if both sides consent to the offers as they are.
    pub fn is_agreed(&self) -> bool {
        self.state == TradeState::Open && self.sides.iter().all(|side| side.consent == Some(self.revision))
    }

    fn apply(&mut self, effect: &TradeEffect) -> Result<(), Refusal> {
        if let TradeEffect::Open { players } = effect {
            return self.open(*players);
        }
        match self.state {
            TradeState::Open => {}
            TradeState::Unopened => return Err(Refusal::new("missing", "there is no such trade")),
            TradeState::Done => return Err(Refusal::new("done", "the goods have changed hands already")),
            TradeState::Withdrawn if matches!(effect, TradeEffect::Withdraw { .. }) => {}
            TradeState::Withdrawn => return Err(Refusal::new("withdrawn", "the trade was withdrawn")),
        }
        match effect {
            TradeEffect::Open { .. } => {}
            TradeEffect::Offer { player, goods } => {
                check_offer(goods)?;
                self.side(*player)?.offer = goods.clone();
                let overflow = || Refusal::new("overflow", "no number holds that many offers");
                self.revision = self.revision.checked_add(1).ok_or_else(overflow)?;
                self.clear_consents();
            }
            TradeEffect::Consent { player, revision } => {
                if *revision != self.revision {
                    let why = format!("the offers are at revision {}, not {revision}", self.revision);
                    return Err(Refusal::new("changed", why));
                }
                if self.sides.iter().all(|side| side.offer.is_empty()) {
                    return Err(Refusal::new("malformed", "a trade of nothing"));
                }
                self.side(*player)?.consent = Some(*revision);
            }
            TradeEffect::Withdraw { player } => {
                self.side(*player)?;
                self.state = TradeState::Withdrawn;
                self.clear_consents();
            }
            TradeEffect::Lapse { revision } => {
                if *revision == self.revision {
                    self.clear_consents();
                }
            }
            TradeEffect::Execute { revision } => {
                if *revision != self.revision || !self.is_agreed() {
                    return Err(Refusal::new("changed", "not both sides consent to these offers any more"));
                }
                self.state = TradeState::Done;
            }
        }
        Ok(())
    }

    fn open(&mut self, players: [u64; 2]) -> Result<(), Refusal> {
        if self.state != TradeState::Unopened {
            return Err(Refusal::new("taken", "the trade was opened already"));
        }
        if players[0] == players[1] {
            return Err(Refusal::new("malformed", "nobody trades with oneself"));
        }
        self.state = TradeState::Open;
        self.sides = players.map(|player| Side { player, ..Side::default() });
        Ok(())
    }

    fn side(&mut self, player: u64) -> Result<&mut Side, Refusal> {
        let stranger = || Refusal::new("stranger", format!("player {player} has no part in the trade"));
        self.sides.iter_mut().find(|side| side.player == player).ok_or_else(stranger)
    }

    fn clear_consents(&mut self) {
        for side in &mut self.sides {
            side.consent = None;
        }
    }
}

/// What became of a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consented {
    /// The other side has not consented yet.
    Waiting,
    /// The goods have changed hands.
    Done,
}

/// Opens a trade between two players; its id is `op`.
pub async fn open(transactions: &Transactions, op: OperationId, players: [u64; 2]) -> Result<(), TransactionError> {
    change(transactions, op, op, &TradeEffect::Open { players }).await
}

/// Reads a trade, until some time after it has ended.
pub async fn find(
    transactions: &Transactions,
    trade: OperationId,
) -> Result<Option<Kept<TradeDocument>>, TransactionError> {
    transactions.read(&TradeKind, &key(trade)).await
}

/// Changes what a side offers, to all of `goods`. Both sides have to consent anew. Refused: `done`, `withdrawn`, `missing`,
/// `stranger`, `malformed`.
pub async fn offer(
    transactions: &Transactions,
    op: OperationId,
    trade: OperationId,
    player: u64,
    goods: Goods,
) -> Result<(), TransactionError> {
    change(transactions, op, trade, &TradeEffect::Offer { player, goods }).await
}

/// Withdraws from a trade. `Ok` means that it never happens; refused with `done` if it has happened.
pub async fn withdraw(
    transactions: &Transactions,
    op: OperationId,
    trade: OperationId,
    player: u64,
) -> Result<(), TransactionError> {
    change(transactions, op, trade, &TradeEffect::Withdraw { player }).await
}

/// Consents to the offers of `revision`; if the other side does too, the goods change hands.
///
/// A refusal means that the goods have not changed hands and will not by this consent: `changed` (other offers, or a unique
/// is not as offered), `withdrawn`, `lapsed` (it could not be executed), and what a transfer refuses, such as `too_little`
/// and `full`. After any other error the consent may stand: ask again under the same id, change the offer, or withdraw.
pub async fn consent(
    transactions: &Transactions,
    op: OperationId,
    trade: OperationId,
    player: u64,
    revision: u64,
) -> Result<Consented, TransactionError> {
    change(transactions, op, trade, &TradeEffect::Consent { player, revision }).await?;
    let unknown = |error: &TransactionError| TransactionError::Unknown { op, why: error.to_string() };
    for _ in 0..RETRIES {
        let found = find(transactions, trade).await.map_err(|error| unknown(&error))?;
        let Some(Kept { document, .. }) = found else {
            return Err(Refusal::new("missing", "the trade was forgotten").into());
        };
        let stands = |side: &Side| side.player == player && side.consent == Some(revision);
        match document.state {
            TradeState::Done => return Ok(Consented::Done),
            TradeState::Withdrawn => return Err(Refusal::new("withdrawn", "the trade was withdrawn").into()),
            _ if document.revision != revision => {
                return Err(Refusal::new("changed", "an offer was changed after the consent").into());
            }
            _ if !document.sides.iter().any(stands) => {
                return Err(Refusal::new("lapsed", "the trade could not be executed; consent anew").into());
            }
            _ if !document.is_agreed() => return Ok(Consented::Waiting),
            _ => {}
        }
        match execute(transactions, trade, &document).await {
            Ok(()) => return Ok(Consented::Done),
            Err(TransactionError::Refused(refusal)) => {
                // Else the consents would stand, and the trade happen whenever it becomes possible.
                let lapse = Part::new::<TradeKind>(key(trade), &TradeEffect::Lapse { revision });
                match transactions.run_guarded(op, &lapse).await {
                    Ok(()) => return Err(refusal.into()),
                    // Done or withdrawn in the meantime.
                    Err(TransactionError::Refused(_)) => {}
                    Err(error) => return Err(unknown(&error)),
                }
            }
            Err(error) => return Err(unknown(&error)),
        }
    }
    Err(TransactionError::Unknown { op, why: "the trade keeps changing".to_owned() })
}

/// Lets the goods of an agreed trade change hands. Everybody who executes the same revision does so under the same id.
async fn execute(
    transactions: &Transactions,
    trade: OperationId,
    document: &TradeDocument,
) -> Result<(), TransactionError> {
    let op = execution(trade, document.revision);
    let [one, other] = &document.sides;
    let swap = |gives: &Side, gets: &Side| {
        let effect = GoodsEffect { take: gives.offer.clone(), put: gets.offer.clone(), ..GoodsEffect::default() };
        Place::Player(gives.player).part(op, &effect)
    };
    let done = Part::new::<TradeKind>(key(trade), &TradeEffect::Execute { revision: document.revision });
    transactions.run(Request::transfer(op, vec![swap(one, other), swap(other, one), done])).await
}

/// The id under which a revision of a trade is executed.
fn execution(trade: OperationId, revision: u64) -> OperationId {
    // Halves of a 128-bit number: each cast keeps what is meant.
    let (high, low) = ((trade.0 >> 64) as u64, trade.0 as u64);
    let high = mix(high ^ mix(low ^ mix(revision)));
    OperationId((u128::from(high) << 64) | u128::from(mix(high ^ low)))
}

async fn change(
    transactions: &Transactions,
    op: OperationId,
    trade: OperationId,
    effect: &TradeEffect,
) -> Result<(), TransactionError> {
    let part = Part::new::<TradeKind>(key(trade), effect);
    transactions.run(Request::transfer(op, vec![part])).await
}

fn check_offer(goods: &Goods) -> Result<(), Refusal> {
    if goods.entries() > OFFER_MOST {
        let why = format!("an offer of {} stacks and uniques; the bound is {OFFER_MOST}", goods.entries());
        return Err(Refusal::new("malformed", why));
    }
    // Adding checks every unique.
    Goods::default().add(goods)
}

#[cfg(test)]
mod tests;
