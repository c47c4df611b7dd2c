//! What the mesh tells the program: peers that come and go, frames, losses, and calls to answer.
//!
//! Comings and goings are NEVER lost and arrive in order. Frames may be dropped when the program does not keep up; then
//! it is told by [`Event::Lost`].

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::calls::CallRefusal;
use crate::peers::PeerInfo;
use crate::record::{Incarnation, NodeId, NodeRecord};
use crate::transport::Topic;

/// A peer, as it stood when the event was made.
pub type Peer = PeerInfo;

/// What happened on the mesh.
#[derive(Clone, Debug)]
pub enum Event {
    /// Both nodes have greeted each other: frames and calls flow. If it was down in this life before, `Lost` follows.
    PeerUp(Peer),
    /// The peer is given no new work. It may come up again, unless the reason is [`Down::Gone`].
    PeerDown {
        /// Who.
        peer: NodeId,
        /// Which life.
        incarnation: Incarnation,
        /// Why.
        reason: Down,
    },
    /// The directory removed it, or a new life took its place: what it owned may be taken over. Comes for every incarnation
    /// that the directory showed, up or not. A node that only lost its lease may come up again in the same life.
    PeerGone {
        /// Who.
        peer: NodeId,
        /// Which life.
        incarnation: Incarnation,
    },
    /// A greeted peer published.
    Frames {
        /// Whose.
        from: Incarnation,
        /// Where.
        topic: Topic,
        /// The parts, as published.
        parts: Vec<Bytes>,
    },
    /// Something that this peer published was surely lost, here or on the way: ask it for keyframes.
    Lost {
        /// Whose.
        from: Incarnation,
    },
    /// This node's lease may have run out: it MUST stop acting as an owner.
    OwnLeaseLost,
    /// It is registered, for the first time or again, and may act as an owner of what it claims from now on.
    OwnLeaseBack,
    /// Another living node has this node's name. Final: the node MUST stop.
    NameTaken {
        /// Who has it.
        by: NodeRecord,
    },
}

/// Why a peer is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// The directory has it no longer.
    Gone,
    /// The link does not work, or not both ways.
    Cut,
}

/// The receiving ends of what the mesh tells the program.
#[derive(Debug)]
pub struct Inbox {
    /// What happens.
    pub events: mpsc::Receiver<Event>,
    /// What peers ask.
    pub calls: mpsc::Receiver<IncomingCall>,
}

/// A call to answer. Dropping it unanswered refuses it with [`CallRefusal::DROPPED`].
#[derive(Debug)]
pub struct IncomingCall {
    /// Who asks.
    pub from: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What it asks for.
    pub method: String,
    /// With which arguments.
    pub body: Bytes,
    /// Under which operation id, on the commit lane.
    pub operation: Option<u128>,
    responder: Option<Responder>,
}

impl IncomingCall {
    pub(crate) fn new(
        from: NodeId,
        incarnation: Incarnation,
        method: String,
        body: Bytes,
        operation: Option<u128>,
    ) -> IncomingCall {
        IncomingCall { from, incarnation, method, body, operation, responder: None }
    }

    pub(crate) fn answered_by(mut self, responder: Responder) -> IncomingCall {
        self.responder = Some(responder);
        self
    }

    /// A call as a peer would make it, for tests of whoever answers calls; the receiver gets the answer.
    pub fn pretend(from: NodeId, method: &str, body: Bytes) -> (IncomingCall, mpsc::Receiver<Answer>) {
        IncomingCall::pretend_in((from, Incarnation(1)), method, body)
    }

    /// The same, in a certain life of the peer.
    pub fn pretend_in(
        (from, life): (NodeId, Incarnation),
        method: &str,
        body: Bytes,
    ) -> (IncomingCall, mpsc::Receiver<Answer>) {
        let (answers, receiver) = mpsc::channel(1);
        let call = IncomingCall::new(from, life, method.to_owned(), body, None);
        let permit = answers.try_reserve_owned().ok();
        let responder = permit.map(|permit| Responder { serving: 0, permit: Some(permit) });
        (IncomingCall { responder, ..call }, receiver)
    }

    /// True if somebody waits for an answer: false on the async lane.
    pub fn wants_answer(&self) -> bool {
        self.responder.is_some()
    }

    /// Answers. Never waits.
    pub fn answer(mut self, answer: Result<Bytes, CallRefusal>) {
        if let Some(mut responder) = self.responder.take() {
            responder.give(answer);
        }
    }
}

/// An answer on its way back to the hub.
#[derive(Debug)]
pub struct Answer {
    pub(crate) serving: u64,
    /// What was answered.
    pub result: Result<Bytes, CallRefusal>,
}

/// The way of one answer. It holds its place in the hub's queue from the start, so that answering never waits or fails.
#[derive(Debug)]
pub(crate) struct Responder {
    pub(crate) serving: u64,
    pub(crate) permit: Option<mpsc::OwnedPermit<Answer>>,
}

impl Responder {
    fn give(&mut self, result: Result<Bytes, CallRefusal>) {
        if let Some(permit) = self.permit.take() {
            permit.send(Answer { serving: self.serving, result });
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.give(Err(CallRefusal::new(CallRefusal::DROPPED, "the call was dropped without an answer")));
    }
}
