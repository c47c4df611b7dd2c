//! The calls that this node makes: which are let out, when they are sent again, and how each of them ends.
//!
//! A pure state machine. Every call that it takes ends exactly once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::breaker::Breaker;
use super::{CallError, CallRefusal, Lane, METHOD_NAME_BYTES, Method};
use crate::peers::PeerState;
use crate::record::NodeId;
use crate::wire::{self, BODY_BYTES, Request};

/// Calls under way to one peer, at most.
pub(crate) const IN_FLIGHT: usize = 1_024;

/// A query is sent so often within its deadline if nothing is heard.
const QUERY_ATTEMPTS: u64 = 5;

/// The shortest time between two attempts, in milliseconds.
const ATTEMPT_MIN_MS: u64 = 20;

/// The first pause after a peer said that it is overloaded, in milliseconds; it doubles.
const OVERLOADED_MS: u64 = 50;

/// A call to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewCall {
    pub(crate) to: NodeId,
    /// How the link to it stands; `None` if the directory does not show it.
    pub(crate) state: Option<PeerState>,
    pub(crate) method: &'static Method,
    pub(crate) operation: Option<u128>,
    pub(crate) body: Bytes,
}

/// What the hub is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this to the peer, if there is a link; if nobody waits for the answer any more, [`Client::forget`] the call instead.
    Send { id: u64, to: NodeId, message: Bytes },
    /// The call is over.
    End { id: u64, result: Result<Bytes, CallError> },
}

/// Counts; they only ever rise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) retries: u64,
    pub(crate) breaker_open: u64,
    pub(crate) late_answers: u64,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Client {
    last_id: u64,
    calls: BTreeMap<u64, Pending>,
    /// When something is to be done about which call.
    timers: BTreeSet<(u64, u64)>,
    peers: BTreeMap<NodeId, PeerCalls>,
    effects: Vec<Effect>,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct Pending {
    to: NodeId,
    method: &'static Method,
    message: Bytes,
    deadline_ms: u64,
    /// When it is sent again or given up.
    timer_ms: u64,
    attempt_ms: u64,
    repeats_left: u32,
    overloads: u32,
}

#[derive(Debug, Default)]
struct PeerCalls {
    up: bool,
    in_flight: usize,
    breakers: BTreeMap<&'static str, Breaker>,
}

impl Client {
    /// Takes a call, or says at once why not. The number names it in [`Effect::End`].
    pub(crate) fn call(&mut self, now_ms: u64, call: NewCall) -> Result<u64, CallError> {
        let taken = self.take(now_ms, call);
        self.counts.calls += 1;
        self.counts.failed += u64::from(taken.is_err());
        taken
    }

    fn take(&mut self, now_ms: u64, call: NewCall) -> Result<u64, CallError> {
        let NewCall { to, state, method, operation, body } = call;
        match state {
            None => return Err(CallError::UnknownPeer(to)),
            Some(PeerState::Up) => {}
            Some(state) => return Err(CallError::NotUp { peer: to, state }),
        }
        if body.len() > BODY_BYTES || method.name.len() > METHOD_NAME_BYTES {
            return Err(CallError::TooLarge { bytes: body.len() });
        }
        let peer = self.peers.entry(to.clone()).or_default();
        peer.up = true;
        if peer.in_flight >= IN_FLIGHT {
            return Err(CallError::Overloaded { peer: to });
        }
        let breaker = peer.breakers.entry(method.name).or_default();
        if let Err(retry_in_ms) = breaker.pass(now_ms, u64::from(method.deadline_ms)) {
            self.counts.breaker_open += 1;
            return Err(CallError::BreakerOpen { peer: to, method: method.name, retry_in_ms });
        }
        peer.in_flight += 1;
        self.last_id += 1;
        let id = self.last_id;
        let halves = operation.map(|operation| ((operation >> 64) as u64, operation as u64));
        let header = Request::Call { id, method: method.name.to_owned(), lane: method.lane, operation: halves };
        let message = wire::encode(&header, &body);
        let (repeats_left, attempt_ms) = repeats(method, operation.is_some());
        let deadline_ms = now_ms + u64::from(method.deadline_ms);
        let timer_ms = (now_ms + attempt_ms).min(deadline_ms);
        self.effects.push(Effect::Send { id, to: to.clone(), message: message.clone() });
        self.timers.insert((timer_ms, id));
        let pending = Pending { to, method, message, deadline_ms, timer_ms, attempt_ms, repeats_left, overloads: 0 };
        self.calls.insert(id, pending);
        Ok(id)
    }

    /// What the hub is to do now, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Client::tick`] has something to do next.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.timers.first().map(|(due_ms, _)| *due_ms)
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now_ms: u64) {
        while let Some((due_ms, id)) = self.timers.first().copied()
            && due_ms <= now_ms
        {
            self.timers.remove(&(due_ms, id));
            let Some(call) = self.calls.get(&id) else { continue };
            if now_ms >= call.deadline_ms {
                let Method { name, deadline_ms, .. } = *call.method;
                let error = CallError::Deadline { peer: call.to.clone(), method: name, deadline_ms };
                self.end(now_ms, id, Err(error));
            } else {
                self.repeat(now_ms, id);
            }
        }
    }

    /// Sends a call again if it may be. While the peer is not up it waits for that.
    fn repeat(&mut self, now_ms: u64, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let up = self.peers.get(&call.to).is_some_and(|peer| peer.up);
        let next_ms = if up && call.repeats_left > 0 {
            call.repeats_left -= 1;
            self.counts.retries += 1;
            self.effects.push(Effect::Send { id, to: call.to.clone(), message: call.message.clone() });
            (now_ms + call.attempt_ms).min(call.deadline_ms)
        } else {
            call.deadline_ms
        };
        self.set_timer(id, next_ms);
    }

    fn set_timer(&mut self, id: u64, timer_ms: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        self.timers.remove(&(call.timer_ms, id));
        call.timer_ms = timer_ms;
        self.timers.insert((timer_ms, id));
    }

    /// The peer answered a call.
    pub(crate) fn answered(&mut self, now_ms: u64, from: &NodeId, id: u64, result: Result<Bytes, CallRefusal>) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.to == *from) else {
            self.counts.late_answers += 1;
            return;
        };
        let peer = from.clone();
        match result {
            Ok(body) => self.end(now_ms, id, Ok(body)),
            Err(refusal) if refusal.code == CallRefusal::OVERLOADED => {
                let pause_ms = OVERLOADED_MS << call.overloads.min(8);
                call.overloads += 1;
                if call.repeats_left > 0 && now_ms + pause_ms < call.deadline_ms {
                    self.set_timer(id, now_ms + pause_ms);
                } else {
                    self.end(now_ms, id, Err(CallError::Overloaded { peer }));
                }
            }
            Err(refusal) => self.end(now_ms, id, Err(CallError::Refused { peer, refusal })),
        }
    }

    /// The peer is up (again): what waited for it is sent again.
    pub(crate) fn up(&mut self, now_ms: u64, node: &NodeId) {
        let peer = self.peers.entry(node.clone()).or_default();
        peer.up = true;
        // The link was the fault; it is new, so its methods get a new chance.
        peer.breakers.clear();
        for id in self.calls_to(node) {
            self.repeat(now_ms, id);
        }
    }

    /// The peer is given no new work.
    pub(crate) fn down(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.up = false;
        }
    }

    /// The peer is gone.
    pub(crate) fn gone(&mut self, now_ms: u64, node: &NodeId) {
        for id in self.calls_to(node) {
            self.end(now_ms, id, Err(CallError::Gone { peer: node.clone() }));
        }
        self.peers.remove(node);
    }

    /// Nobody waits for this call any more, and others may have been asked instead: it is not sent again.
    pub(crate) fn forget(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.timers.remove(&(call.timer_ms, id));
        if let Some(peer) = self.peers.get_mut(&call.to) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
        }
    }

    fn calls_to(&self, node: &NodeId) -> Vec<u64> {
        self.calls.iter().filter(|(_, call)| call.to == *node).map(|(id, _)| *id).collect()
    }

    fn end(&mut self, now_ms: u64, id: u64, result: Result<Bytes, CallError>) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.timers.remove(&(call.timer_ms, id));
        self.counts.failed += u64::from(result.is_err());
        if let Some(peer) = self.peers.get_mut(&call.to) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
            let breaker = peer.breakers.entry(call.method.name).or_default();
            if works(&result) { breaker.succeeded() } else { breaker.failed(now_ms) }
        }
        self.effects.push(Effect::End { id, result });
    }
}

/// How often a method's request may be sent again, and after how many milliseconds.
fn repeats(method: &Method, named: bool) -> (u32, u64) {
    let deadline_ms = u64::from(method.deadline_ms);
    let (repeats, attempts) = match method.lane {
        Lane::Query => (method.retries, QUERY_ATTEMPTS.min(u64::from(method.retries) + 1)),
        Lane::Sync => (method.retries, u64::from(method.retries) + 1),
        Lane::Commit if named => (method.retries, u64::from(method.retries) + 1),
        Lane::Commit | Lane::Async => (0, 1),
    };
    (repeats, (deadline_ms / attempts).max(ATTEMPT_MIN_MS))
}

/// Whether the result shows that the method works at that peer: a refusal by the method itself does.
fn works(result: &Result<Bytes, CallError>) -> bool {
    match result {
        Ok(_) => true,
        Err(CallError::Refused { refusal, .. }) => refusal.code != CallRefusal::DROPPED,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Method = Method::query("read", 1_000);
    const OPEN: Method = Method::sync("open", 900);
    const GIVE: Method = Method::commit("give", 1_000);

    fn node() -> NodeId {
        NodeId::new("zoo-1").unwrap()
    }

    fn new(method: &'static Method, operation: Option<u128>) -> NewCall {
        NewCall { to: node(), state: Some(PeerState::Up), method, operation, body: Bytes::new() }
    }

    /// The times at which a call that is never answered is sent, and when it ends.
    fn sends(method: &'static Method, operation: Option<u128>) -> (Vec<u64>, u64) {
        let mut client = Client::default();
        client.call(0, new(method, operation)).unwrap();
        let (mut sent, mut now) = (Vec::new(), 0);
        loop {
            for effect in client.take_effects() {
                match effect {
                    Effect::Send { .. } => sent.push(now),
                    Effect::End { result, .. } => {
                        assert!(matches!(result, Err(CallError::Deadline { .. })));
                        return (sent, now);
                    }
                }
            }
            now = client.due_ms().unwrap();
            client.tick(now);
        }
    }

    #[test]
    fn each_lane_repeats_what_it_may() {
        assert_eq!(sends(&READ, None), (vec![0, 200, 400, 600, 800], 1_000));
        assert_eq!(sends(&OPEN, None), (vec![0, 300, 600], 900));
        assert_eq!(sends(&GIVE, None), (vec![0], 1_000));
        assert_eq!(sends(&GIVE, Some(1)), (vec![0, 250, 500, 750], 1_000));
    }

    #[test]
    fn an_answer_ends_a_call_once_and_a_late_one_is_counted() {
        let mut client = Client::default();
        let id = client.call(0, new(&READ, None)).unwrap();
        client.take_effects();
        client.answered(5, &NodeId::new("zoo-2").unwrap(), id, Ok(Bytes::new()));
        assert!(client.take_effects().is_empty(), "only the peer that was asked may answer");
        client.answered(6, &node(), id, Ok(Bytes::from_static(b"yes")));
        assert_eq!(client.take_effects(), [Effect::End { id, result: Ok(Bytes::from_static(b"yes")) }]);
        client.answered(7, &node(), id, Ok(Bytes::new()));
        assert!(client.take_effects().is_empty());
        assert_eq!(client.counts.late_answers, 2);
        assert_eq!(client.due_ms(), None);
    }

    #[test]
    fn calls_to_a_peer_that_is_not_up_fail_at_once_and_surely_were_not_done() {
        let mut client = Client::default();
        for (state, error) in [
            (None, CallError::UnknownPeer(node())),
            (Some(PeerState::Suspect), CallError::NotUp { peer: node(), state: PeerState::Suspect }),
        ] {
            let refused = client.call(0, NewCall { state, ..new(&READ, None) }).unwrap_err();
            assert_eq!(refused.outcome(), super::super::Outcome::NotDone);
            assert_eq!(refused, error);
        }
    }

    #[test]
    fn a_call_waits_for_a_cut_link_and_is_sent_again_when_it_heals() {
        let mut client = Client::default();
        let id = client.call(0, new(&OPEN, None)).unwrap();
        client.take_effects();
        client.down(&node());
        client.tick(300);
        assert!(client.take_effects().is_empty(), "nothing is sent into a cut link");
        client.up(350, &node());
        assert!(matches!(client.take_effects()[..], [Effect::Send { .. }]));
        client.answered(360, &node(), id, Ok(Bytes::new()));
        assert!(matches!(client.take_effects()[..], [Effect::End { result: Ok(_), .. }]));
    }

    #[test]
    fn the_calls_to_a_gone_peer_end_at_once_and_may_have_been_done() {
        let mut client = Client::default();
        client.call(0, new(&READ, None)).unwrap();
        client.take_effects();
        client.gone(10, &node());
        let effects = client.take_effects();
        let [Effect::End { result: Err(error), .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(error.outcome(), super::super::Outcome::Maybe);
    }

    #[test]
    fn a_failing_method_is_left_alone_while_others_pass() {
        let mut client = Client::default();
        for round in 0..5 {
            client.call(round * 1_000, new(&READ, None)).unwrap();
            client.tick(round * 1_000 + 1_000);
        }
        let refused = client.call(5_001, new(&READ, None)).unwrap_err();
        assert!(matches!(refused, CallError::BreakerOpen { retry_in_ms: 999, .. }), "{refused:?}");
        client.call(5_001, new(&OPEN, None)).unwrap();
        let id = client.call(6_000, new(&READ, None)).expect("one call tries");
        client.call(6_001, new(&READ, None)).expect_err("others wait for it");
        client.answered(6_002, &node(), id, Ok(Bytes::new()));
        client.call(6_003, new(&READ, None)).expect("closed again");
    }

    #[test]
    fn refusals_by_the_method_do_not_open_the_breaker_but_dropped_calls_do() {
        let mut client = Client::default();
        let mut refuse = |code: &str, times: u64| {
            for _ in 0..times {
                let Ok(id) = client.call(0, new(&OPEN, None)) else { return false };
                client.answered(0, &node(), id, Err(CallRefusal::new(code, "")));
            }
            client.call(0, new(&OPEN, None)).is_ok()
        };
        assert!(refuse("busy", 20));
        assert!(!refuse(CallRefusal::DROPPED, 5));
    }

    #[test]
    fn an_overloaded_peer_is_asked_again_after_a_pause() {
        let mut client = Client::default();
        let id = client.call(0, new(&OPEN, None)).unwrap();
        let overloaded = || Err(CallRefusal::new(CallRefusal::OVERLOADED, ""));
        client.take_effects();
        client.answered(1, &node(), id, overloaded());
        assert_eq!(client.due_ms(), Some(51));
        client.tick(51);
        client.answered(52, &node(), id, overloaded());
        client.tick(152);
        assert_eq!(client.take_effects().len(), 2);
        client.answered(153, &node(), id, overloaded());
        let effects = client.take_effects();
        assert!(matches!(effects[..], [Effect::End { result: Err(CallError::Overloaded { .. }), .. }]), "{effects:?}");
    }

    #[test]
    fn calls_under_way_to_one_peer_are_bounded() {
        let mut client = Client::default();
        for _ in 0..IN_FLIGHT {
            client.call(0, new(&READ, None)).unwrap();
        }
        let refused = client.call(0, new(&READ, None)).unwrap_err();
        assert_eq!(refused, CallError::Overloaded { peer: node() });
        client.call(0, NewCall { to: NodeId::new("zoo-2").unwrap(), ..new(&READ, None) }).expect("others are free");
    }
}
