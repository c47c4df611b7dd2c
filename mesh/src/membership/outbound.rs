//! Our greetings: hello, the answer to the peer's challenge, and patience with those who refuse or do not answer.

use rand::RngCore;
use tracing::{debug, warn};

use super::greeting::{Exchange, Refusal, Side};
use super::inbound::UNREGISTERED_MS;
use super::peer::{Greeting, Reason};
use super::{Membership, Now, PING_MAX_MS, PING_MS};
use crate::record::NodeId;
use crate::wire::{Bytes32, Hello, Request};

/// How long an answer to a greeting is waited for: at first and at most, in milliseconds.
const ANSWER_MS: (u64, u64) = (500, 4_000);

/// How long the welcome is waited for, in milliseconds: the peer may have to ask the directory first.
const WELCOME_MS: u64 = 3_000;

const _: () =
    assert!(WELCOME_MS > UNREGISTERED_MS, "a refusal for want of a record comes before the greeting is said again");

/// The pause after a refusal that may pass by itself: the first and the longest, in milliseconds.
const PASSING_MS: (u64, u64) = (200, 5_000);

/// The pause after a refusal that somebody must repair: the first and the longest, in milliseconds.
const LASTING_MS: (u64, u64) = (1_000, 30_000);

/// The pause after so many failures in a row: it doubles each time.
fn pause((first_ms, longest_ms): (u64, u64), failures: u32) -> u64 {
    first_ms.saturating_mul(1 << failures.min(20)).min(longest_ms)
}

impl Membership {
    /// Says hello if it is time to, for the first time or again.
    pub(super) fn greet_if_due(&mut self, now: Now, node: &NodeId) {
        let now_ms = now.ms();
        let Some(peer) = self.peers.get_mut(node) else { return };
        match &peer.greeting {
            Greeting::Due { at_ms } if now_ms >= *at_ms => {}
            Greeting::Said { until_ms, .. } | Greeting::Proved { until_ms, .. } if now_ms >= *until_ms => {
                peer.failures += 1;
                peer.failed = Some(Reason::NoAnswer);
            }
            _ => return,
        }
        if !self.leaving {
            self.say_hello(now, node);
        }
    }

    fn say_hello(&mut self, now: Now, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        self.last_number += 1;
        let mut nonce = Bytes32::default();
        self.rng.fill_bytes(&mut nonce);
        let hello = Hello {
            protocol: self.me.protocol,
            cluster: self.cluster.clone(),
            district: self.district.clone(),
            node: self.me.node.as_str().to_owned(),
            incarnation: self.me.incarnation,
            to: node.as_str().to_owned(),
            to_incarnation: peer.record.incarnation,
            number: self.last_number,
            nonce,
        };
        let until_ms = now.ms() + pause(ANSWER_MS, peer.failures);
        peer.greeting = Greeting::Said { hello: Box::new(hello.clone()), until_ms };
        let link = peer.link;
        let record = self.me_bytes.clone();
        self.send(link, &Request::Hello(hello), &record);
    }

    /// The peer proved itself and wants our proof.
    pub(super) fn challenged(&mut self, now: Now, node: &NodeId, number: u64, nonce: &Bytes32, proof: &Bytes32) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Greeting::Said { hello, .. } = &peer.greeting else { return };
        if hello.number != number {
            return;
        }
        let exchange = Exchange { hello, record: &self.me_bytes, nonce };
        let link = peer.link;
        if self.key.verify(Side::Greeted, &exchange, proof) {
            let proof = self.key.prove(Side::Greeter, &exchange);
            let until_ms = now.ms() + WELCOME_MS;
            peer.greeting = Greeting::Proved { number, until_ms };
            self.send(link, &Request::Proof { number, proof }, b"");
        } else {
            self.send(link, &Request::Reject { number, refusal: Refusal::WrongKey }, b"");
            self.greeting_refused(now, node, Refusal::WrongKey);
        }
    }

    /// The peer let us in.
    pub(super) fn welcomed(&mut self, now: Now, node: &NodeId, number: u64) {
        let now_ms = now.ms();
        let Some(peer) = self.peers.get_mut(node) else { return };
        if !matches!(peer.greeting, Greeting::Proved { number: current, .. } if current == number) {
            return;
        }
        debug!(peer = %node, "greeted");
        peer.greeting = Greeting::Done;
        peer.failed = None;
        peer.failures = 0;
        peer.greeted_ms = now_ms;
        peer.answered_ms = now_ms;
        peer.next_ping_ms = now_ms;
        self.settle(now, node);
        self.ping_if_due(now, node);
    }

    /// The peer refused our greeting.
    pub(super) fn refused(&mut self, now: Now, node: &NodeId, number: u64, refusal: Refusal) {
        let Some(peer) = self.peers.get(node) else { return };
        let current = match &peer.greeting {
            Greeting::Said { hello, .. } => hello.number,
            Greeting::Proved { number, .. } => *number,
            Greeting::Due { .. } | Greeting::Done => return,
        };
        if current == number {
            self.greeting_refused(now, node, refusal);
        }
    }

    fn greeting_refused(&mut self, now: Now, node: &NodeId, refusal: Refusal) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let pauses = if refusal.passes() { PASSING_MS } else { LASTING_MS };
        let pause_ms = pause(pauses, peer.failures);
        if refusal.passes() {
            debug!(peer = %node, pause_ms, "greeting refused: this node {refusal}");
        } else {
            warn!(peer = %node, endpoint = peer.record.request, pause_ms, "greeting refused: this node {refusal}");
        }
        peer.greeting = Greeting::Due { at_ms: now.ms() + pause_ms };
        peer.failures = peer.failures.saturating_add(1);
        let elsewhere = matches!(refusal, Refusal::NotMe { .. });
        peer.failed = Some(Reason::Refused(refusal));
        if elsewhere {
            // The directory knows better by now who lives there.
            self.refresh_now_and_then(now);
        }
        self.settle(now, node);
    }

    /// The peer does not know our connection: it forgot us, or it is another life at the same address.
    pub(super) fn forgotten(&mut self, now: Now, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node)
            && peer.greeting == Greeting::Done
        {
            peer.ungreeted(now.ms(), Reason::NoAnswer);
            self.settle(now, node);
            self.greet_if_due(now, node);
        }
    }

    /// Pings a greeted peer every [`PING_MS`], twice as often while it owes an answer, and as often as it takes at first.
    pub(super) fn ping_if_due(&mut self, now: Now, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.greeting != Greeting::Done || now.ms() < peer.next_ping_ms {
            return;
        }
        let pause_ms = match (peer.clock.known(), peer.owes_answer) {
            (false, _) => ANSWER_MS.0,
            (true, true) => PING_MS / 2,
            (true, false) => PING_MS,
        };
        peer.next_ping_ms = now.ms() + pause_ms;
        peer.owes_answer = true;
        let link = peer.link;
        self.send(link, &Request::Ping { sent_us: now.us }, b"");
    }

    /// The peer answered a ping.
    pub(super) fn ponged(&mut self, now: Now, node: &NodeId, sent_us: u64, clock_us: u64) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.answered_ms = now.ms();
        peer.owes_answer = false;
        // The peer sends back what we sent; it is believed only if it can be so.
        if sent_us <= now.us && now.us - sent_us <= PING_MAX_MS * 1000 {
            peer.clock.sample(sent_us, now.us, clock_us);
        }
        self.settle(now, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let of = |failures| pause(LASTING_MS, failures);
        assert_eq!([0, 1, 2, 5, 40].map(of), [1_000, 2_000, 4_000, 30_000, 30_000]);
    }
}
