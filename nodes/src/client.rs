//! A client of Wildmesh: REST to the gateway, a WebSocket to the frontend, and what the player is shown.
//!
//! The library behind the bots and the tools, and the pattern for clients in other languages. It knows the protocol and
//! the rules of feeds; it decides nothing about the game, and NEVER trusts what it receives further than the protocol
//! warrants. It is not part of a node and is never simulated.

pub mod rest;

pub mod connection;

pub mod sight;

pub mod clock;

pub use clock::ServerClock;
pub use connection::{Connection, Incoming};
pub use rest::{Admission, Gateway};
pub use sight::{Ghost, Sight};

use crate::protocol::Malformed;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The gateway could not be asked.
    #[error("the gateway could not be asked")]
    Http(#[from] reqwest::Error),
    /// The gateway said no.
    #[error("the gateway refused with {status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// When it makes sense to ask again.
        retry_after_s: Option<u64>,
    },
    /// The gateway answered something that we do not understand.
    #[error("the gateway's answer makes no sense: {0}")]
    Answer(String),
    /// The connection to the frontend failed.
    #[error("the connection to {url} failed")]
    Socket {
        /// The frontend's address.
        url: String,
        /// What happened.
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// The frontend closed the connection, or it was lost.
    #[error("the connection to {0} has ended")]
    Ended(String),
    /// The frontend sent something that is not of the protocol.
    #[error("the frontend sent a malformed message")]
    Malformed(#[from] Malformed),
    /// The frontend took leave of us.
    #[error("the frontend said farewell with {code}: {text}")]
    Farewell {
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
    /// Nothing came in time.
    #[error("no {0} in time")]
    Late(&'static str),
}

impl ClientError {
    /// A short name for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Refused { .. } => "refused_by_gateway",
            Self::Answer(_) => "answer",
            Self::Socket { .. } => "socket",
            Self::Ended(_) => "ended",
            Self::Malformed(_) => "malformed",
            Self::Farewell { .. } => "farewell",
            Self::Late(_) => "late",
        }
    }

    /// The error with its sources, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}
