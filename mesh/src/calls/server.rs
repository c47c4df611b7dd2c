//! The calls that peers make here: each is carried out once, however often it arrives.
//!
//! A pure state machine. A request that arrives again while it is served waits for the same answer; the answers of sync
//! and commit calls are remembered, within bounds, for those that arrive again later. What was decided with documents is
//! remembered with them; this memory only spares the work.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{CallRefusal, Lane, METHOD_NAME_BYTES};
use crate::record::{Incarnation, NodeId};

/// Calls that are served at once, at most.
pub(crate) const SERVING: usize = 4_096;

/// Calls of one peer that are served at once, at most.
pub(crate) const SERVING_PER_PEER: usize = 1_024;

/// Repeated requests that wait for one answer, at most.
const WAITERS: usize = 16;

/// Answers that are remembered, at most.
const REMEMBERED: usize = 8_192;

/// The bytes of all remembered answers, at most.
const REMEMBERED_BYTES: usize = 16 * 1024 * 1024;

/// A call that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) from: &'a NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) id: u64,
    pub(crate) method: &'a str,
    pub(crate) lane: Lane,
    pub(crate) operation: Option<u128>,
}

/// Who waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) from: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) id: u64,
}

/// What becomes of a call that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Carry it out under this number.
    Serve(u64),
    /// It is being carried out already.
    Joined,
    /// It is answered at once.
    Answer(Result<Bytes, CallRefusal>),
}

/// Counts; they only ever rise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) served: u64,
    pub(crate) repeats: u64,
    pub(crate) overloaded: u64,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Server {
    last_serving: u64,
    serving: BTreeMap<u64, Serving>,
    known: FxHashMap<Key, Known>,
    /// What is remembered, the oldest first.
    remembered: VecDeque<Key>,
    remembered_bytes: usize,
    per_peer: BTreeMap<NodeId, usize>,
    pub(crate) counts: Counts,
}

/// What makes two requests the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Request(Incarnation, u64),
    /// Whoever asks, and however often.
    Operation(String, u128),
}

#[derive(Debug)]
enum Known {
    Serving(u64),
    Finished(Result<Bytes, CallRefusal>),
}

#[derive(Debug)]
struct Serving {
    key: Key,
    remember: bool,
    first: NodeId,
    waiters: Vec<Waiter>,
}

impl Server {
    /// A call arrived.
    pub(crate) fn arrived(&mut self, call: &Arrived<'_>) -> Verdict {
        if call.method.len() > METHOD_NAME_BYTES {
            return Verdict::Answer(Err(CallRefusal::malformed("the method's name is too long")));
        }
        let key = match call.operation {
            Some(operation) => Key::Operation(call.method.to_owned(), operation),
            None => Key::Request(call.incarnation, call.id),
        };
        let waiter = Waiter { from: call.from.clone(), incarnation: call.incarnation, id: call.id };
        // A refused operation is forgotten, the requests that were told so are not: one that arrives again is no new question.
        let told = self.known.get(&Key::Request(call.incarnation, call.id));
        match told.or_else(|| self.known.get(&key)).filter(|_| !planted::is("calls_not_deduplicated")) {
            Some(Known::Finished(result)) => {
                self.counts.repeats += 1;
                Verdict::Answer(result.clone())
            }
            Some(Known::Serving(serving)) => {
                let serving = *serving;
                self.join(serving, waiter)
            }
            None => self.begin(key, waiter, matches!(call.lane, Lane::Sync | Lane::Commit)),
        }
    }

    fn join(&mut self, serving: u64, waiter: Waiter) -> Verdict {
        let Some(serving) = self.serving.get_mut(&serving) else { return Verdict::Joined };
        self.counts.repeats += 1;
        if !serving.waiters.contains(&waiter) {
            if serving.waiters.len() >= WAITERS {
                self.counts.overloaded += 1;
                return Verdict::Answer(Err(overloaded()));
            }
            serving.waiters.push(waiter);
        }
        Verdict::Joined
    }

    fn begin(&mut self, key: Key, waiter: Waiter, remember: bool) -> Verdict {
        let of_peer = self.per_peer.entry(waiter.from.clone()).or_default();
        if *of_peer >= SERVING_PER_PEER || self.serving.len() >= SERVING {
            self.counts.overloaded += 1;
            return Verdict::Answer(Err(overloaded()));
        }
        *of_peer += 1;
        self.counts.served += 1;
        self.last_serving += 1;
        let number = self.last_serving;
        self.known.insert(key.clone(), Known::Serving(number));
        let first = waiter.from.clone();
        self.serving.insert(number, Serving { key, remember, first, waiters: vec![waiter] });
        Verdict::Serve(number)
    }

    /// A call was carried out, or refused: who is to be told.
    pub(crate) fn finished(&mut self, serving: u64, result: &Result<Bytes, CallRefusal>) -> Vec<Waiter> {
        let Some(Serving { key, remember, first, waiters }) = self.serving.remove(&serving) else { return Vec::new() };
        if let Some(of_peer) = self.per_peer.get_mut(&first) {
            *of_peer -= 1;
            if *of_peer == 0 {
                self.per_peer.remove(&first);
            }
        }
        // A refused operation may be asked again under its id: the reason may have passed. And who was turned away for
        // lack of room has not been served at all.
        let turned_away = matches!(result, Err(refusal) if refusal.code == CallRefusal::OVERLOADED);
        match (&key, result) {
            _ if !remember || turned_away => drop(self.known.remove(&key)),
            (Key::Operation(..), Err(_)) => {
                self.known.remove(&key);
                for waiter in &waiters {
                    self.remember(Key::Request(waiter.incarnation, waiter.id), result.clone());
                }
            }
            _ => self.remember(key, result.clone()),
        }
        waiters
    }

    fn remember(&mut self, key: Key, result: Result<Bytes, CallRefusal>) {
        self.remembered_bytes += size(&result);
        self.known.insert(key.clone(), Known::Finished(result));
        self.remembered.push_back(key);
        while self.remembered.len() > REMEMBERED || self.remembered_bytes > REMEMBERED_BYTES {
            let Some(oldest) = self.remembered.pop_front() else { break };
            if let Some(Known::Finished(result)) = self.known.remove(&oldest) {
                self.remembered_bytes = self.remembered_bytes.saturating_sub(size(&result));
            }
        }
    }
}

fn size(result: &Result<Bytes, CallRefusal>) -> usize {
    match result {
        Ok(body) => body.len(),
        Err(refusal) => refusal.code.len() + refusal.text.len(),
    }
}

/// The refusal for lack of room: the caller may be sure that nothing was done.
pub(crate) fn overloaded() -> CallRefusal {
    CallRefusal::new(CallRefusal::OVERLOADED, "too many calls are under way here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn yes() -> Result<Bytes, CallRefusal> {
        Ok(Bytes::from_static(b"yes"))
    }

    fn call<'a>(from: &'a NodeId, id: u64, lane: Lane, operation: Option<u128>) -> Arrived<'a> {
        Arrived { from, incarnation: Incarnation(1), id, method: "m", lane, operation }
    }

    /// What becomes of the same request that arrives again after the first was answered.
    fn again(lane: Lane, operation: Option<u128>, result: Result<Bytes, CallRefusal>) -> Verdict {
        let (mut server, zoo) = (Server::default(), node("zoo-1"));
        assert_eq!(server.arrived(&call(&zoo, 7, lane, operation)), Verdict::Serve(1));
        assert_eq!(server.arrived(&call(&zoo, 7, lane, operation)), Verdict::Joined);
        let waiters = server.finished(1, &result);
        assert_eq!(waiters.len(), 1, "a repeated request waits once");
        assert!(server.per_peer.is_empty() && server.serving.is_empty());
        server.arrived(&call(&zoo, 7, lane, operation))
    }

    #[test]
    fn finished_sync_and_commit_calls_are_answered_from_memory() {
        let no = || Err(CallRefusal::new("no", ""));
        assert_eq!(again(Lane::Sync, None, yes()), Verdict::Answer(yes()));
        assert_eq!(again(Lane::Sync, None, no()), Verdict::Answer(no()));
        assert_eq!(again(Lane::Commit, Some(5), yes()), Verdict::Answer(yes()));
        assert_eq!(again(Lane::Query, None, yes()), Verdict::Serve(2));
        assert_eq!(again(Lane::Commit, Some(5), no()), Verdict::Answer(no()), "the same request");
        assert_eq!(again(Lane::Sync, None, Err(overloaded())), Verdict::Serve(2), "nothing was done");
    }

    #[test]
    fn a_refused_operation_is_carried_out_when_it_is_asked_for_anew_and_not_when_a_request_comes_late() {
        let (mut server, one, two) = (Server::default(), node("zoo-1"), node("zoo-2"));
        let no = || Err(CallRefusal::new("no", ""));
        let other = |id| Arrived { incarnation: Incarnation(2), ..call(&two, id, Lane::Commit, Some(9)) };
        assert_eq!(server.arrived(&call(&one, 1, Lane::Commit, Some(9))), Verdict::Serve(1));
        assert_eq!(server.arrived(&other(1)), Verdict::Joined);
        assert_eq!(server.finished(1, &no()).len(), 2);
        assert_eq!(server.arrived(&call(&one, 1, Lane::Commit, Some(9))), Verdict::Answer(no()));
        assert_eq!(server.arrived(&other(1)), Verdict::Answer(no()));
        assert_eq!(
            server.arrived(&call(&one, 2, Lane::Commit, Some(9))),
            Verdict::Serve(2),
            "the reason may have passed"
        );
    }

    #[test]
    fn an_operation_is_carried_out_once_whoever_asks() {
        let (mut server, one, two) = (Server::default(), node("zoo-1"), node("zoo-2"));
        assert_eq!(server.arrived(&call(&one, 1, Lane::Commit, Some(9))), Verdict::Serve(1));
        assert_eq!(server.arrived(&call(&two, 1, Lane::Commit, Some(9))), Verdict::Joined);
        let waiters = server.finished(1, &yes());
        assert_eq!(waiters.iter().map(|w| w.from.as_str()).collect::<Vec<_>>(), ["zoo-1", "zoo-2"]);
        assert_eq!(server.arrived(&call(&two, 2, Lane::Commit, Some(9))), Verdict::Answer(yes()));
        assert_eq!(server.arrived(&call(&two, 3, Lane::Commit, Some(10))), Verdict::Serve(2));
        assert!(server.finished(1, &yes()).is_empty(), "an answer counts once");
    }

    #[test]
    fn memory_is_bounded_in_number_and_bytes() {
        let (mut server, zoo) = (Server::default(), node("zoo-1"));
        let large = Ok(Bytes::from(vec![0; REMEMBERED_BYTES / 4]));
        for id in 0..10 {
            let Verdict::Serve(serving) = server.arrived(&call(&zoo, id, Lane::Sync, None)) else { panic!() };
            server.finished(serving, &large);
        }
        assert_eq!(server.remembered.len(), 4);
        for id in 10..(REMEMBERED as u64 + 100) {
            let Verdict::Serve(serving) = server.arrived(&call(&zoo, id, Lane::Sync, None)) else { panic!() };
            server.finished(serving, &yes());
        }
        assert_eq!((server.remembered.len(), server.known.len()), (REMEMBERED, REMEMBERED));
        assert_eq!(server.remembered_bytes, REMEMBERED * 3);
    }

    #[test]
    fn calls_served_for_one_peer_are_bounded() {
        let (mut server, one, two) = (Server::default(), node("zoo-1"), node("zoo-2"));
        for id in 0..SERVING_PER_PEER as u64 {
            assert!(matches!(server.arrived(&call(&one, id, Lane::Query, None)), Verdict::Serve(_)));
        }
        assert_eq!(server.arrived(&call(&one, 9_999, Lane::Query, None)), Verdict::Answer(Err(overloaded())));
        let other = Arrived { incarnation: Incarnation(2), ..call(&two, 1, Lane::Query, None) };
        assert!(matches!(server.arrived(&other), Verdict::Serve(_)));
    }
}
