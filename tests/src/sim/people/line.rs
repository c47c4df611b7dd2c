//! A client's connection without a socket: how it comes in, what it sends and what it is sent.
//!
//! What a frontend's listener does for a socket is done here by a task of that frontend's process, so that a process that is
//! dead or stands still does nothing for anybody. It checks nothing and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cartographer::geometry::ObjectId;
use mesh::tasks::Tasks;
use nodes::frontend::connection::Gate;
use nodes::frontend::players::{FrontInput, Said};
use nodes::frontend::sessions::Sessions;
use nodes::frontend::shard::ClientId;
use nodes::methods::OpenSession;
use nodes::protocol::{ClientMessage, HelloKind, PROTOCOL};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::pipe::Pipe;

/// What became of a try to come in.
pub enum Entry {
    /// In.
    In(Line),
    /// A typed error.
    Refused(String),
    /// The process ended while one waited, as every client notices: its connection breaks.
    Broken,
    /// No answer.
    Silent,
}

/// How one asks to be let in.
#[derive(Clone, Debug)]
pub enum Key {
    /// By a new session, as a gateway opens it.
    Session(Uuid),
    /// By a ticket or passage.
    Ticket(String),
    /// By a resume token.
    Resume(String),
}

/// A connection.
pub struct Line {
    sessions: Sessions,
    process: Tasks,
    id: ClientId,
    gate: Gate,
    pipe: Arc<Pipe>,
    since: Instant,
}

impl Line {
    /// Comes in at a frontend.
    pub async fn open(door: (Sessions, Tasks), player: u64, key: Key, patience: Duration) -> Entry {
        let (sessions, process) = door;
        let pipe = Arc::new(Pipe::default());
        let (sink, frontend, given_up) = (pipe.clone(), sessions.clone(), Arc::new(AtomicBool::new(false)));
        let (tell, told) = oneshot::channel();
        let gone = given_up.clone();
        process.spawn(async move {
            let entering = async {
                let (token, kind) = match key {
                    Key::Ticket(token) => (token, HelloKind::Ticket),
                    Key::Resume(token) => (token, HelloKind::Resume),
                    Key::Session(session) => {
                        let open = OpenSession { session, player: ObjectId(player), island: None };
                        let offer = frontend.open(&open).map_err(|refused| refused.code)?;
                        (offer.ticket, HelloKind::Ticket)
                    }
                };
                let entered = frontend.hello(PROTOCOL, &token, kind, move || sink).await;
                entered.map_err(|farewell| farewell.code.to_owned())
            };
            let entered = entering.await;
            // Who has hung up meanwhile is let go, as when a socket closes.
            if let (true, Ok(id)) = (gone.load(Ordering::SeqCst), &entered) {
                frontend.try_role(FrontInput::Detach(*id));
            }
            // An error means just that.
            let _ = tell.send(entered);
        });
        match timeout(patience, told).await {
            Ok(Ok(Ok(id))) => {
                let (gate, since) = (Gate::new(0), Instant::now());
                Entry::In(Line { sessions, process, id, gate, pipe, since })
            }
            Ok(Ok(Err(code))) => Entry::Refused(code),
            Ok(Err(_)) => Entry::Broken,
            Err(_) => {
                given_up.store(true, Ordering::SeqCst);
                Entry::Silent
            }
        }
    }

    /// Ends the session for good, as the gateway does when it is told to.
    pub fn end(self, player: u64) {
        self.say(FrontInput::Detach(self.id));
        let sessions = self.sessions;
        self.process.spawn(async move { sessions.close(ObjectId(player), "the player has logged out").await });
    }

    /// The connection is lost.
    pub fn hang_up(self) {
        self.say(FrontInput::Detach(self.id));
    }

    /// Sends a message. A dead process never gets it; a frozen one takes it when it thaws.
    pub fn send(&mut self, message: &ClientMessage) {
        let said = self.gate.take(self.since.elapsed().as_millis() as u64, &message.encode());
        self.say(FrontInput::Said(self.id, said));
    }

    /// What was sent here since the last look.
    pub fn take(&self) -> Vec<bytes::Bytes> {
        let messages = self.pipe.take();
        if self.pipe.pinged() {
            self.say(FrontInput::Said(self.id, Said::Echo));
        }
        messages
    }

    /// Whether it is over: the process is dead, or has closed it.
    pub fn is_over(&self) -> bool {
        self.process.stopped() || self.pipe.closed()
    }

    fn say(&self, input: FrontInput) {
        if !self.process.stopped() {
            self.sessions.try_role(input);
        }
    }
}
