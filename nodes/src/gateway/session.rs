//! What is remembered of a session, in a document that expires, so that every gateway can tell it.

use std::time::Duration;

use estate::document::{Document, Migration};
use mesh::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// How long a session is remembered for those who ask for it.
pub const MEMORY: Duration = Duration::from_secs(3600);

/// Where the client goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendAddress {
    /// The frontend.
    pub node: NodeId,
    /// Its address for clients: `ws://…`.
    pub url: String,
}

/// A session that was let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Whose it is.
    pub player: u64,
    /// Where it is; none if no frontend would have it.
    pub frontend: Option<FrontendAddress>,
    /// The frontend's life: in its next one it knows nothing of the session.
    pub incarnation: u64,
    /// What the client shows there, once.
    pub ticket: String,
    /// How long the ticket was good for when it was made, in seconds.
    pub expires_in_s: u32,
    /// It was ended.
    pub closed: bool,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl SessionDocument {
    /// A session that no frontend would have.
    pub fn closed(player: cartographer::geometry::ObjectId) -> SessionDocument {
        SessionDocument {
            v: SessionDocument::VERSION,
            player: player.0,
            frontend: None,
            incarnation: 0,
            ticket: String::new(),
            expires_in_s: 0,
            closed: true,
            rest: Map::new(),
        }
    }
}

impl Document for SessionDocument {
    const KIND: &'static str = "session";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// The key of a session's document.
pub fn key(session: Uuid) -> String {
    format!("session/{session}")
}
