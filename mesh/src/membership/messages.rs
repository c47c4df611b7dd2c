//! Messages as they come and go: read, counted if they cannot be, and handed to whoever they concern.
//!
//! Nothing of somebody who has not greeted gets further than here, but for the greeting itself.

use bytes::Bytes;

use super::peer::Greeting;
use super::{Effect, Membership, Now};
use crate::calls::{CallRefusal, Lane};
use crate::record::{Incarnation, NodeId};
use crate::transport::{Command, LinkId, Route, Topic};
use crate::wire::{self, GREETING_BYTES, HEARTBEAT_TOPIC, Reply, Request};

/// A request of a greeted peer that is not the membership's business.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Do this and answer.
    Call {
        from: NodeId,
        incarnation: Incarnation,
        id: u64,
        method: String,
        lane: Lane,
        operation: Option<u128>,
        body: Bytes,
    },
    /// Take note.
    Cast { from: NodeId, incarnation: Incarnation, method: String, body: Bytes },
}

/// An answer to a call of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) from: NodeId,
    pub(crate) id: u64,
    pub(crate) result: Result<Bytes, CallRefusal>,
}

impl Membership {
    /// A message on one of our links. Answers to calls are handed back.
    pub(crate) fn answered(&mut self, now: Now, link: LinkId, message: &Bytes) -> Option<Answered> {
        self.notice_sleep(now);
        let node = self.links.get(&link)?.clone();
        let Ok((reply, body)) = wire::decode::<Reply>(message) else {
            self.counts.malformed += 1;
            return None;
        };
        let greeted = self.peers.get(&node).is_some_and(|peer| peer.greeting == Greeting::Done);
        match reply {
            Reply::Challenge { number, nonce, proof } => self.challenged(now, &node, number, &nonce, &proof),
            Reply::Welcome { number } => self.welcomed(now, &node, number),
            Reply::Refused { number, refusal } => self.refused(now, &node, number, refusal),
            Reply::GreetFirst => self.forgotten(now, &node),
            _ if !greeted => self.counts.ungreeted += 1,
            Reply::Pong { sent_us, clock_us } => self.ponged(now, &node, sent_us, clock_us),
            Reply::Hears { nodes } => self.told_whom_it_hears(now, &node, &nodes),
            Reply::Answer { id } => return Some(Answered { from: node, id, result: Ok(body) }),
            Reply::No { id, refusal } => return Some(Answered { from: node, id, result: Err(refusal) }),
        }
        None
    }

    /// A message at our request endpoint. Calls of greeted peers are handed back.
    pub(crate) fn requested(&mut self, now: Now, route: Route, message: &Bytes) -> Option<Asked> {
        self.notice_sleep(now);
        let from = self.routes.get(&route).and_then(|node| self.peers.get(node));
        let from = from.map(|peer| (peer.record.node.clone(), peer.record.incarnation));
        if from.is_none() && message.len() > GREETING_BYTES {
            self.counts.ungreeted += 1;
            self.reply(route, &Reply::GreetFirst);
            return None;
        }
        let Ok((request, body)) = wire::decode::<Request>(message) else {
            self.counts.malformed += 1;
            return None;
        };
        match (request, from) {
            (Request::Hello(hello), _) => self.greeted(now, route, hello, body),
            (Request::Proof { number, proof }, _) => self.proven(now, &route, number, &proof),
            (Request::Reject { number, refusal }, _) => self.rejected(now, &route, number, &refusal),
            (_, None) => {
                self.counts.ungreeted += 1;
                self.reply(route, &Reply::GreetFirst);
            }
            (Request::Ping { sent_us }, Some(_)) => self.reply(route, &Reply::Pong { sent_us, clock_us: now.us }),
            (Request::Hears, Some(_)) => self.say_whom_we_hear(now, route),
            (Request::Bye, Some((node, _))) => self.said_bye(now, &node),
            (Request::Call { id, method, lane, operation }, Some((from, incarnation))) => {
                let operation = operation.map(|(high, low)| u128::from(high) << 64 | u128::from(low));
                return Some(Asked::Call { from, incarnation, id, method, lane, operation, body });
            }
            (Request::Cast { method }, Some((from, incarnation))) => {
                return Some(Asked::Cast { from, incarnation, method, body });
            }
        }
        None
    }

    /// Something published by a peer. Frames of peers that the program knows are handed back with their publisher.
    pub(crate) fn published(&mut self, now: Now, link: LinkId, topic: &Topic, parts: &[Bytes]) -> Option<Incarnation> {
        self.notice_sleep(now);
        let node = self.links.get(&link)?.clone();
        let peer = self.peers.get(&node).filter(|peer| peer.greeting == Greeting::Done);
        let Some(peer) = peer else {
            self.counts.ungreeted += 1;
            return None;
        };
        if topic.as_str() == HEARTBEAT_TOPIC {
            self.beaten(now, &node, parts);
            return None;
        }
        if !peer.known_to_program {
            self.counts.ungreeted += 1;
            return None;
        }
        Some(peer.record.incarnation)
    }

    pub(super) fn send(&mut self, link: LinkId, request: &Request, body: &[u8]) {
        let message = wire::encode(request, body);
        self.effects.push(Effect::Transport(Command::Send { link, message }));
    }

    pub(super) fn reply(&mut self, route: Route, reply: &Reply) {
        let message = wire::encode(reply, b"");
        self.effects.push(Effect::Transport(Command::Answer { route, message }));
    }
}
