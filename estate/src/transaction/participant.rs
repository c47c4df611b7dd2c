//! Documents that take part in transactions: their marks, and the three steps that a transaction takes on each.
//!
//! [`take`] is the whole rule, a pure function of the document and the step; the driver runs it under compare-and-swap,
//! a live owner on its real and document together. A step may come twice or late: it NEVER has an effect twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Intent, OperationId, REMEMBERED, Refusal, arbiter};
use crate::document::{Document, DocumentError, decode, encode};
use crate::player::Owner;
use crate::store::{Expiry, WriteOptions};

/// How many operations that changed it alone a document remembers. A client MUST NOT have more unanswered ones.
pub const RECENT: usize = 16;

/// What transactions leave in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The transaction that holds the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The last transfer that was applied here: before the next one its arbiter is seen closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Intent>,
    /// The latest operations that changed this document alone, at most [`RECENT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<OperationId>,
}

impl Marks {
    /// True if there is nothing to keep for others.
    pub fn is_empty(&self) -> bool {
        *self == Marks::default()
    }
}

/// A kind of document that takes part.
pub trait Kind: Send + Sync + 'static {
    /// The document.
    type Document: Document + Clone;
    /// What may be done to it. Its JSON form lies in arbiters: changing it needs the care of a document's form.
    type Effect: Serialize + DeserializeOwned + Send;

    /// The document as it is before anybody has written it, or why there can be none under this key.
    fn born(&self, key: &str) -> Result<Self::Document, Refusal>;

    /// Its marks.
    fn marks<'a>(&self, document: &'a mut Self::Document) -> &'a mut Marks;

    /// Does the effect, or tells why it cannot be done. After a refusal the document is thrown away.
    fn apply(&self, document: &mut Self::Document, effect: &Self::Effect) -> Result<(), Refusal>;

    /// True if the document, its marks aside, is as good as none. It becomes a tombstone that expires.
    fn is_blank(&self, key: &str, document: &Self::Document) -> bool;

    /// Who holds it.
    fn owner(&self, document: &Self::Document) -> Option<Owner> {
        let _ = document;
        None
    }

    /// How long a document that is not blank lives after each write that leaves it without an intent; for ever if `None`.
    /// At least [`REMEMBERED`], as a late write may not meet a document made anew.
    fn lives(&self, document: &Self::Document) -> Option<Duration> {
        let _ = document;
        None
    }

    /// Takes it from an owner that is gone, or that has released it and may not know that yet: raises its epoch, so that
    /// such an owner is fenced and never saves over what was done meanwhile. Called before every write that is not an
    /// owner's.
    fn disown(&self, document: &mut Self::Document) {
        let _ = document;
    }
}

/// One step of a transaction on one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The document.
    pub key: String,
    /// The transaction.
    pub intent: Intent,
    /// What to do.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// Check that the effect is possible, and mark the intent.
    Mark {
        /// The effect.
        effect: Value,
        /// The token of the last transfer applied to the document, if its arbiter is known to be closed.
        closed: Option<u64>,
    },
    /// Apply the effect and clear the intent.
    Apply {
        /// The effect.
        effect: Value,
    },
    /// Clear the intent.
    Clear,
    /// Apply the effect of an operation on this document alone, and remember the operation.
    Alone {
        /// The effect.
        effect: Value,
    },
    /// Apply an effect on this document alone that the document itself refuses, or that changes nothing, when it comes
    /// again. Nothing is remembered, so that the memory is left to what clients ask for.
    Guarded {
        /// The effect.
        effect: Value,
    },
}

impl Act {
    fn effect(&self) -> Option<&Value> {
        match self {
            Act::Mark { effect, .. } | Act::Apply { effect } | Act::Alone { effect } | Act::Guarded { effect } => {
                Some(effect)
            }
            Act::Clear => None,
        }
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stepped {
    /// It is taken.
    Taken,
    /// There was nothing left to do: it had been taken before, or is no longer wanted.
    Already,
    /// Another transaction holds the document.
    Busy(Intent),
    /// The last transfer applied here may not be closed yet: see to it first.
    Unclosed(Intent),
    /// The effect is not possible.
    Refused(Refusal),
}

/// Takes a step on a document; the document has changed if and only if the answer is [`Stepped::Taken`].
pub fn take<K: Kind>(kind: &K, document: &mut K::Document, step: &Step) -> Stepped {
    let read = |effect: &Value| {
        K::Effect::deserialize(effect)
            .map_err(|error| Refusal::new("malformed", format!("effect on {} unreadable: {error}", step.key)))
    };
    let mut next = document.clone();
    let marks = kind.marks(&mut next);
    let ours = marks.intent.as_ref() == Some(&step.intent);
    let taken = match &step.act {
        Act::Mark { .. } => ours,
        Act::Apply { .. } | Act::Clear => !ours,
        Act::Alone { .. } => marks.recent.contains(&step.intent.op) && !planted::is("operation_forgotten"),
        Act::Guarded { .. } => false,
    };
    if taken {
        return Stepped::Already;
    }
    if let Some(other) = marks.intent.clone().filter(|_| !ours && !planted::is("intent_not_checked")) {
        return Stepped::Busy(other);
    }
    match &step.act {
        Act::Mark { closed, .. } => {
            if let Some(last) =
                marks.last.clone().filter(|last| Some(last.token) != *closed && !planted::is("transfer_left_open"))
            {
                return Stepped::Unclosed(last);
            }
            marks.intent = Some(step.intent.clone());
        }
        Act::Apply { .. } => {
            marks.intent = None;
            // A ledger's entries are seen by whoever uses the ledger; a transfer's arbiter has only its participants.
            if arbiter::is_transfer(&step.intent.arbiter) {
                marks.last = Some(step.intent.clone());
            }
        }
        Act::Alone { .. } => {
            marks.recent.push(step.intent.op);
            let over = marks.recent.len().saturating_sub(RECENT);
            marks.recent.drain(..over);
        }
        Act::Clear => marks.intent = None,
        Act::Guarded { .. } => {}
    }
    if let Some(effect) = step.act.effect() {
        // A mark only tries the effect.
        let mut trial;
        let target = if matches!(step.act, Act::Mark { .. }) {
            trial = next.clone();
            &mut trial
        } else {
            &mut next
        };
        if let Err(refusal) = read(effect).and_then(|effect| kind.apply(target, &effect)) {
            return Stepped::Refused(refusal);
        }
    }
    *document = next;
    Stepped::Taken
}

/// What a document says of itself, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// Its marks.
    pub marks: Marks,
    /// Who holds it.
    pub owner: Option<Owner>,
}

/// A step's answer, and the document as it is to be written.
pub struct Outcome {
    /// The answer.
    pub stepped: Stepped,
    /// What to write, if anything changed.
    pub write: Option<(Bytes, WriteOptions)>,
}

/// A document that was read once, or is not there yet, and takes steps without being read again.
pub trait AnyDocument: Send {
    /// Who holds it.
    fn owner(&self) -> Option<Owner>;

    /// Takes a step on it as no living owner holds it; what is to be written MUST replace what it was opened from, or what
    /// the last step wrote.
    fn step(&mut self, step: &Step) -> Result<Outcome, DocumentError>;
}

/// A document of one kind.
struct Opened<'a, K: Kind> {
    kind: &'a K,
    /// None if there can be none under its key, and why.
    document: Result<K::Document, Refusal>,
    unborn: bool,
}

impl<K: Kind> AnyDocument for Opened<'_, K> {
    fn owner(&self) -> Option<Owner> {
        if self.unborn {
            return None;
        }
        self.document.as_ref().ok().and_then(|document| self.kind.owner(document))
    }

    fn step(&mut self, step: &Step) -> Result<Outcome, DocumentError> {
        if self.unborn && matches!(step.act, Act::Apply { .. } | Act::Clear) {
            return Ok(Outcome { stepped: Stepped::Already, write: None });
        }
        let document = match &mut self.document {
            Ok(document) => document,
            Err(refusal) => return Ok(Outcome { stepped: Stepped::Refused(refusal.clone()), write: None }),
        };
        let stepped = take(self.kind, document, step);
        if stepped != Stepped::Taken {
            return Ok(Outcome { stepped, write: None });
        }
        if !self.unborn {
            self.kind.disown(document);
        }
        self.unborn = false;
        let held = self.kind.marks(document).intent.is_some();
        // The memory of operations and of the last transfer may go with a document that holds nothing: as long as a
        // tombstone stays, so long are they of use.
        let expiry = match self.kind.lives(document) {
            _ if held => Expiry::Never,
            _ if self.kind.is_blank(&step.key, document) => Expiry::In(REMEMBERED),
            Some(time) => Expiry::In(time.max(REMEMBERED)),
            None => Expiry::Never,
        };
        let options = WriteOptions { expiry, ..WriteOptions::default() };
        Ok(Outcome { stepped, write: Some((encode(document)?, options)) })
    }
}

/// A [`Kind`] of any document and effect.
pub trait AnyKind: Send + Sync {
    /// What keys start with, before the slash.
    fn name(&self) -> &'static str;

    /// A stored document, or the one that is not there yet.
    fn open<'a>(&'a self, key: &str, bytes: Option<&[u8]>) -> Result<Box<dyn AnyDocument + 'a>, DocumentError>;

    /// Marks and owner of a stored document.
    fn head(&self, key: &str, bytes: &[u8]) -> Result<Head, DocumentError>;
}

impl<K: Kind> AnyKind for K {
    fn name(&self) -> &'static str {
        K::Document::KIND
    }

    fn head(&self, key: &str, bytes: &[u8]) -> Result<Head, DocumentError> {
        let (mut document, _) = decode::<K::Document>(key, bytes)?;
        let owner = self.owner(&document);
        Ok(Head { marks: self.marks(&mut document).clone(), owner })
    }

    fn open<'a>(&'a self, key: &str, bytes: Option<&[u8]>) -> Result<Box<dyn AnyDocument + 'a>, DocumentError> {
        let document = match bytes {
            Some(bytes) => Ok(decode::<K::Document>(key, bytes)?.0),
            None => self.born(key),
        };
        Ok(Box::new(Opened { kind: self, document, unborn: bytes.is_none() }))
    }
}

/// The kinds of documents that take part in transactions, by the word that their keys start with.
#[derive(Clone, Default)]
pub struct Kinds {
    part: BTreeMap<&'static str, Arc<dyn AnyKind>>,
    others: BTreeSet<&'static str>,
}

impl Kinds {
    /// With one more kind.
    #[must_use]
    pub fn with(mut self, kind: impl AnyKind + 'static) -> Kinds {
        self.part.insert(kind.name(), Arc::new(kind));
        self
    }

    /// With documents that lie in the same store and take no part: whoever checks the whole store passes them by.
    #[must_use]
    pub fn beside(mut self, others: &[&'static str]) -> Kinds {
        self.others.extend(others);
        self
    }

    /// True for a kind of documents that lie in the same store and take no part.
    pub fn is_beside(&self, kind: &str) -> bool {
        self.others.contains(kind)
    }

    /// The kind of the document under `key`.
    pub fn of(&self, key: &str) -> Result<&dyn AnyKind, Refusal> {
        let name = key.split('/').next().unwrap_or(key);
        let unknown = || Refusal::new("malformed", format!("{key} names no kind of document that takes part"));
        self.part.get(name).map(Arc::as_ref).ok_or_else(unknown)
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.part.keys()).finish()
    }
}
