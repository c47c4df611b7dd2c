//! Holdings: private estates, each the truth about which chunks are its owner's and until when they are paid for.
//!
//! A holding without chunks is none. Losing chunks needs no other document: the deeds that still point here then point to
//! nothing. Gaining one changes its deed in the same transaction, so that two holdings NEVER both have it.

use std::collections::BTreeSet;

use cartographer::geometry::{Chunk, IslandId, ObjectId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{HOLDING_CHUNKS, codes, number_in};
use crate::document::{Document, Migration};
use crate::transaction::{Kind, Marks, Refusal};

/// The last second that a holding may be paid for: what every client language's number holds.
pub const PAID_MOST_S: u64 = (1 << 53) - 1;

/// One holding, under `holding/ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldingDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Its number.
    pub id: ObjectId,
    /// The island on which all its chunks lie.
    pub island: IslandId,
    /// The player whose it is; 0 before there is one.
    pub owner: ObjectId,
    /// Its chunks, at most [`HOLDING_CHUNKS`]; none once it is given up.
    pub chunks: BTreeSet<(u16, u16)>,
    /// Until when it is paid for, in seconds since 1970.
    pub paid_until_s: u64,
    /// When it was founded, in seconds since 1970.
    pub since_s: u64,
    /// What transactions have left.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub marks: Marks,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for HoldingDocument {
    const KIND: &'static str = "holding";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

impl HoldingDocument {
    /// Whether it has this chunk.
    pub fn lists(&self, chunk: Chunk) -> bool {
        self.island == chunk.island && self.chunks.contains(&(chunk.x, chunk.y))
    }
}

/// What is done to a holding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldingEffect {
    /// It comes into being with its first chunk. Refused as [`codes::TAKEN`] if the id is or was another's, or has chunks.
    Found {
        /// Whose it is.
        owner: ObjectId,
        /// The chunk.
        chunk: Chunk,
        /// Now.
        since_s: u64,
        /// Until when it is paid for.
        paid_until_s: u64,
    },
    /// It gets one more chunk at one of its sides. Refused as [`codes::OWNED`], [`codes::NOT_ADJACENT`],
    /// [`codes::TOO_LARGE`], or [`codes::UNPAID`] if it was paid for until before `unpaid_before_s`.
    Extend {
        /// Whose it must be.
        by: ObjectId,
        /// The chunk.
        chunk: Chunk,
        /// Before when what is paid for is forfeited.
        unpaid_before_s: u64,
    },
    /// It loses a chunk. Refused as [`codes::OWNED`] or [`codes::MISSING`].
    GiveUp {
        /// Whose it must be.
        by: ObjectId,
        /// The chunk.
        chunk: Chunk,
    },
    /// It loses all chunks. Refused as [`codes::OWNED`].
    GiveUpAll {
        /// Whose it must be.
        by: ObjectId,
    },
    /// It has the chunk no more, if it was paid for until before `unpaid_before_s`; refused as [`codes::OWNED`] if it has it
    /// and was paid for longer. Nothing changes if it does not have it.
    Yield {
        /// The chunk.
        chunk: Chunk,
        /// Before when what is paid for is forfeited.
        unpaid_before_s: u64,
    },
    /// It becomes another's. Refused as [`codes::OWNED`].
    GiveAway {
        /// Whose it must be.
        by: ObjectId,
        /// Whose it becomes.
        to: ObjectId,
    },
    /// It is paid for `seconds` more, from `now_s` if that is later than until when it was paid for. By anybody.
    Pay {
        /// Now.
        now_s: u64,
        /// How much longer.
        seconds: u64,
    },
    /// Nothing changes; refused as [`codes::OWNED`] if it has chunks of `listed` and is not `by`'s, as [`codes::CHANGED`] if it
    /// does not have all of `listed`, or has one of `free`.
    Guard {
        /// Whose it must be.
        by: ObjectId,
        /// Chunks that it must have.
        listed: Vec<Chunk>,
        /// Chunks that it must not have.
        free: Vec<Chunk>,
    },
}

/// The key of a holding's document.
pub fn key(id: ObjectId) -> String {
    format!("holding/{id}")
}

/// Holdings in transactions.
#[derive(Clone, Copy, Debug, Default)]
pub struct HoldingKind;

impl Kind for HoldingKind {
    type Document = HoldingDocument;
    type Effect = HoldingEffect;

    fn born(&self, key: &str) -> Result<HoldingDocument, Refusal> {
        Ok(HoldingDocument {
            v: HoldingDocument::VERSION,
            id: number_in(key, HoldingDocument::KIND)?,
            island: IslandId(0),
            owner: ObjectId(0),
            chunks: BTreeSet::new(),
            paid_until_s: 0,
            since_s: 0,
            marks: Marks::default(),
            rest: Map::new(),
        })
    }

    fn marks<'a>(&self, document: &'a mut HoldingDocument) -> &'a mut Marks {
        &mut document.marks
    }

    fn apply(&self, document: &mut HoldingDocument, effect: &HoldingEffect) -> Result<(), Refusal> {
        match effect {
            HoldingEffect::Found { owner, chunk, since_s, paid_until_s } => {
                // Who has given up all of it may begin anew: deeds that still point here are not listed.
                let again = document.owner == *owner && document.chunks.is_empty();
                if document.owner != ObjectId(0) && !again {
                    return Err(Refusal::new(codes::TAKEN, format!("holding id {} is or was another's", document.id)));
                }
                document.owner = *owner;
                document.island = chunk.island;
                document.chunks = BTreeSet::from([(chunk.x, chunk.y)]);
                document.since_s = *since_s;
                document.paid_until_s = *paid_until_s;
            }
            HoldingEffect::Extend { by, chunk, unpaid_before_s } => extend(document, *by, *chunk, *unpaid_before_s)?,
            HoldingEffect::GiveUp { by, chunk } => {
                check_owner(document, *by)?;
                if !document.lists(*chunk) {
                    let why = format!("chunk {chunk} is not of holding {}", document.id);
                    return Err(Refusal::new(codes::MISSING, why));
                }
                document.chunks.remove(&(chunk.x, chunk.y));
            }
            HoldingEffect::GiveUpAll { by } => {
                check_owner(document, *by)?;
                document.chunks.clear();
            }
            HoldingEffect::Yield { chunk, unpaid_before_s } => {
                if document.lists(*chunk) && document.paid_until_s >= *unpaid_before_s {
                    return Err(owned(document));
                }
                if document.lists(*chunk) {
                    document.chunks.remove(&(chunk.x, chunk.y));
                }
            }
            HoldingEffect::GiveAway { by, to } => {
                check_owner(document, *by)?;
                document.owner = *to;
            }
            HoldingEffect::Pay { now_s, seconds } => pay(document, *now_s, *seconds)?,
            HoldingEffect::Guard { by, listed, free } => guard(document, *by, listed, free)?,
        }
        Ok(())
    }

    fn is_blank(&self, _key: &str, document: &HoldingDocument) -> bool {
        document.chunks.is_empty()
    }
}

fn owned(document: &HoldingDocument) -> Refusal {
    Refusal::new(codes::OWNED, format!("holding {} is player {}'s", document.id, document.owner))
}

fn check_there(document: &HoldingDocument) -> Result<(), Refusal> {
    if document.chunks.is_empty() {
        return Err(Refusal::new(codes::MISSING, format!("there is no holding {}", document.id)));
    }
    Ok(())
}

fn check_owner(document: &HoldingDocument, by: ObjectId) -> Result<(), Refusal> {
    check_there(document)?;
    if document.owner == by { Ok(()) } else { Err(owned(document)) }
}

fn extend(document: &mut HoldingDocument, by: ObjectId, chunk: Chunk, unpaid_before_s: u64) -> Result<(), Refusal> {
    check_owner(document, by)?;
    let refused = |code: &str, why: String| Err(Refusal::new(code, why));
    if document.lists(chunk) {
        return refused(codes::OWNED, format!("holding {} has chunk {chunk} already", document.id));
    }
    let beside = |(x, y): &(u16, u16)| u32::from(x.abs_diff(chunk.x)) + u32::from(y.abs_diff(chunk.y)) == 1;
    if document.island != chunk.island || !document.chunks.iter().any(beside) {
        return refused(codes::NOT_ADJACENT, format!("chunk {chunk} touches no side of holding {}", document.id));
    }
    if document.chunks.len() >= HOLDING_CHUNKS {
        return refused(codes::TOO_LARGE, format!("holding {} has {HOLDING_CHUNKS} chunks already", document.id));
    }
    if document.paid_until_s < unpaid_before_s {
        return refused(codes::UNPAID, format!("holding {} is not paid for", document.id));
    }
    document.chunks.insert((chunk.x, chunk.y));
    Ok(())
}

fn pay(document: &mut HoldingDocument, now_s: u64, seconds: u64) -> Result<(), Refusal> {
    check_there(document)?;
    let until_s = document.paid_until_s.max(now_s).checked_add(seconds).filter(|until_s| *until_s <= PAID_MOST_S);
    let Some(until_s) = until_s else {
        let why = format!("holding {} cannot be paid for {seconds} seconds more", document.id);
        return Err(Refusal::new(codes::TOO_LARGE, why));
    };
    document.paid_until_s = until_s;
    Ok(())
}

fn guard(document: &HoldingDocument, by: ObjectId, listed: &[Chunk], free: &[Chunk]) -> Result<(), Refusal> {
    if document.owner != by && listed.iter().any(|chunk| document.lists(*chunk)) {
        return Err(owned(document));
    }
    if listed.iter().any(|chunk| !document.lists(*chunk)) || free.iter().any(|chunk| document.lists(*chunk)) {
        let why = format!("holding {} has other chunks than were read", document.id);
        return Err(Refusal::new(codes::CHANGED, why));
    }
    Ok(())
}
