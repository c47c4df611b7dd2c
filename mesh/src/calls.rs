//! Calls between nodes: how a method is declared, which lane it takes, and every way in which a call can fail.
//!
//! A [`Method`] is declared once, as a constant, with its lane; the lane decides what may be repeated. The state machines
//! below (`client`, `server`, `breaker`) are pure steps. A call ALWAYS ends: with an answer, or with a [`CallError`] that
//! says whether the peer may have carried it out. A commit is NEVER repeated without its operation id.

mod breaker;
pub(crate) mod client;
pub(crate) mod server;

use serde::{Deserialize, Serialize};

use crate::peers::PeerState;
use crate::record::NodeId;

/// How a method behaves under failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Reads: repeated freely within the deadline.
    Query,
    /// The caller cannot go on without the answer: a few repeats; the peer carries a repeated request out once.
    Sync,
    /// Must happen once: repeated only under the same operation id, whose result the peer remembers.
    Commit,
    /// Fire and forget: no answer, no repeats.
    Async,
}

/// A method, declared once for both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name: the same at both ends, at most [`METHOD_NAME_BYTES`].
    pub name: &'static str,
    /// Its lane.
    pub lane: Lane,
    /// How long the caller waits, all repeats together, in milliseconds.
    pub deadline_ms: u32,
    /// How often a request may be sent again within the deadline.
    pub retries: u32,
}

/// The longest method name that a node accepts, in bytes.
pub const METHOD_NAME_BYTES: usize = 64;

impl Method {
    /// A read: repeated freely within the deadline.
    pub const fn query(name: &'static str, deadline_ms: u32) -> Method {
        Method { name, lane: Lane::Query, deadline_ms, retries: 64 }
    }

    /// A request that the caller waits for: repeated twice within the deadline.
    pub const fn sync(name: &'static str, deadline_ms: u32) -> Method {
        Method { name, lane: Lane::Sync, deadline_ms, retries: 2 }
    }

    /// Something that must happen once: repeated three times within the deadline, if it has an operation id.
    pub const fn commit(name: &'static str, deadline_ms: u32) -> Method {
        Method { name, lane: Lane::Commit, deadline_ms, retries: 3 }
    }

    /// A hint: sent once, never answered.
    pub const fn send(name: &'static str) -> Method {
        Method { name, lane: Lane::Async, deadline_ms: 0, retries: 0 }
    }
}

/// Whether the peer may have carried out a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It surely did not.
    NotDone,
    /// It may have: ask again under the same operation id, or read back.
    Maybe,
    /// It answered, and the answer was no; the refusal says what that means.
    Answered,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The directory has no such node.
    #[error("{0} is not in the directory")]
    UnknownPeer(NodeId),
    /// The link to it is not up; it is given no new work.
    #[error("{peer} is {state}")]
    NotUp {
        /// Whom.
        peer: NodeId,
        /// How the link stands.
        state: PeerState,
    },
    /// This method failed at this peer several times in a row; it is left alone for a while.
    #[error("{method} at {peer} keeps failing: not asked for another {retry_in_ms} ms")]
    BreakerOpen {
        /// Whom.
        peer: NodeId,
        /// What.
        method: &'static str,
        /// When a call will be let through again, in milliseconds.
        retry_in_ms: u64,
    },
    /// Too many calls are under way, here or at the peer.
    #[error("too many calls to {peer} are under way")]
    Overloaded {
        /// Whom.
        peer: NodeId,
    },
    /// The body is larger than a message may be.
    #[error("a body of {bytes} bytes is larger than a message may be")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No answer within the method's deadline.
    #[error("{method} at {peer}: no answer within {deadline_ms} ms")]
    Deadline {
        /// Whom.
        peer: NodeId,
        /// What.
        method: &'static str,
        /// The method's deadline.
        deadline_ms: u32,
    },
    /// The peer went while it was asked.
    #[error("{peer} went away before it answered")]
    Gone {
        /// Whom.
        peer: NodeId,
    },
    /// The peer answered that it will not.
    #[error("{peer} refused: {refusal}")]
    Refused {
        /// Whom.
        peer: NodeId,
        /// What it said.
        refusal: CallRefusal,
    },
    /// This node is leaving the mesh, or has left.
    #[error("this node has left the mesh")]
    Stopped,
}

impl CallError {
    /// Whether the peer may have carried out the call.
    pub fn outcome(&self) -> Outcome {
        match self {
            CallError::Deadline { .. } | CallError::Gone { .. } | CallError::Stopped => Outcome::Maybe,
            CallError::Refused { refusal, .. } if refusal.code == CallRefusal::DROPPED => Outcome::Maybe,
            CallError::Refused { .. } => Outcome::Answered,
            _ => Outcome::NotDone,
        }
    }
}

/// A peer's answer that it will not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {text}")]
pub struct CallRefusal {
    /// What programs look at: lower case with underscores.
    pub code: String,
    /// What people read.
    pub text: String,
}

impl CallRefusal {
    /// The peer knows no such method.
    pub const UNKNOWN_METHOD: &'static str = "unknown_method";
    /// The peer serves too many calls already; it surely did nothing.
    pub const OVERLOADED: &'static str = "overloaded";
    /// The peer took the call and dropped it without an answer; it may have done something.
    pub const DROPPED: &'static str = "dropped";
    /// The body could not be read.
    pub const MALFORMED: &'static str = "malformed";

    /// A refusal with a code and a text.
    pub fn new(code: &str, text: impl Into<String>) -> CallRefusal {
        CallRefusal { code: code.to_owned(), text: text.into() }
    }

    /// The answer to a method that the node does not have.
    pub fn unknown_method(method: &str) -> CallRefusal {
        CallRefusal::new(CallRefusal::UNKNOWN_METHOD, format!("no method {method:?} here"))
    }

    /// The answer to a body that cannot be read.
    pub fn malformed(why: impl std::fmt::Display) -> CallRefusal {
        CallRefusal::new(CallRefusal::MALFORMED, why.to_string())
    }
}
