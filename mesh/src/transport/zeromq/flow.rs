//! Flow control that ZeroMQ lacks: how much may be under way to one peer, in either direction, and who fell behind.
//!
//! Pure arithmetic: no socket, no clock. Time comes in as milliseconds of any monotonic clock.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Limits;
use super::wire::{Tally, Token};

/// What one queued message costs beside its bytes: handles, queue nodes, allocator overhead. Rather too much than too
/// little, so that a flood of tiny messages is bounded too.
pub(super) const MESSAGE_OVERHEAD: u64 = 256;

/// One direction of a request connection, seen by its sender: what was sent and not yet confirmed.
#[derive(Debug, Default)]
pub(super) struct Window {
    sent: Tally,
    confirmed: Tally,
}

impl Window {
    /// True while another message may be sent. One message of any size always fits into an empty window.
    pub(super) fn open(&self, limits: &Limits) -> bool {
        self.sent.messages - self.confirmed.messages < limits.window_messages
            && self.sent.bytes - self.confirmed.bytes < limits.window_bytes
    }

    /// Counts a message sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent.messages += 1;
        self.sent.bytes += bytes as u64;
    }

    /// Takes the receiver's word for what it has got. False if it cannot be true.
    #[must_use]
    pub(super) fn confirm(&mut self, received: Tally) -> bool {
        let possible = received.messages <= self.sent.messages && received.bytes <= self.sent.bytes;
        if possible {
            self.confirmed.messages = self.confirmed.messages.max(received.messages);
            self.confirmed.bytes = self.confirmed.bytes.max(received.bytes);
        }
        possible
    }
}

/// The same direction, seen by its receiver.
#[derive(Debug, Default)]
pub(super) struct Intake {
    received: Tally,
    told: Tally,
}

impl Intake {
    /// Counts a message. True if the sender should be told by now, well before its window closes.
    pub(super) fn received(&mut self, bytes: usize, limits: &Limits) -> bool {
        self.received.messages += 1;
        self.received.bytes += bytes as u64;
        self.received.messages - self.told.messages >= limits.window_messages / 4
            || self.received.bytes - self.told.bytes >= limits.window_bytes / 4
    }

    /// What to tell; counts as told.
    pub(super) fn tell(&mut self) -> Tally {
        self.told = self.received;
        self.received
    }
}

/// How far each subscriber has come, against how much was published.
///
/// A subscriber's backlog is what was published since the pulse that it last reported, whether or not it subscribed to
/// all of it: the most that may wait for it in the socket.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    published: u64,
    pulses: VecDeque<Pulse>,
    readers: FxHashMap<Token, Reader>,
    /// How far the last reader has come, and how far the first.
    floor: u64,
    best: u64,
    /// When any reader last progressed.
    progress_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    sequence: u64,
    published: u64,
}

#[derive(Debug)]
struct Reader {
    reported: bool,
    read: u64,
    progress_ms: u64,
}

/// Pulses that are remembered, at most; a reader that is further behind than this has been evicted long since.
const PULSES: usize = 4_096;

impl Ledger {
    /// A subscriber connected.
    pub(super) fn accepted(&mut self, token: Token, now_ms: u64) {
        let reader = Reader { reported: false, read: self.published, progress_ms: now_ms };
        self.readers.insert(token, reader);
        self.settle();
    }

    /// A subscriber is gone.
    pub(super) fn gone(&mut self, token: &Token) {
        if self.readers.remove(token).is_some() {
            self.settle();
        }
    }

    /// Counts what is about to be published.
    pub(super) fn published(&mut self, bytes: usize) {
        self.published += bytes as u64 + MESSAGE_OVERHEAD;
    }

    /// Bytes published since the last pulse.
    pub(super) fn since_pulse(&self) -> u64 {
        self.published - self.pulses.back().map_or(0, |p| p.published)
    }

    /// Notes the pulse that is about to be published.
    pub(super) fn pulse(&mut self, sequence: u64) {
        if self.pulses.len() == PULSES {
            self.pulses.pop_front();
        }
        self.pulses.push_back(Pulse { sequence, published: self.published });
    }

    /// A subscriber reports the last pulse it has seen. Reports of pulses or subscribers unknown here are old: ignored.
    pub(super) fn report(&mut self, token: &Token, sequence: u64, now_ms: u64) {
        let Some(reader) = self.readers.get_mut(token) else { return };
        // A report that was sent before the first pulse says only that the subscriber speaks our language.
        reader.reported = true;
        let Ok(index) = self.pulses.binary_search_by_key(&sequence, |p| p.sequence) else { return };
        let read = self.pulses[index].published;
        if read > reader.read {
            reader.read = read;
            reader.progress_ms = now_ms;
            self.progress_ms = now_ms;
            self.settle();
        } else if read == self.published {
            reader.progress_ms = now_ms;
        }
    }

    /// The longest backlog, in bytes with overhead. Constant time, so that it can be asked with every message.
    pub(super) fn worst(&self) -> u64 {
        self.published - self.floor
    }

    /// True while publishing runs ahead even of the fastest subscriber, so that more of it serves nobody. Constant time.
    ///
    /// Only while somebody progresses: a publisher NEVER waits for those who stand still.
    pub(super) fn ahead(&self, now_ms: u64, limits: &Limits) -> bool {
        self.published - self.best > limits.pace_bytes
            && now_ms.saturating_sub(self.progress_ms) < limits.patience_ms / 2
    }

    /// The subscribers to cut off now.
    ///
    /// Those who never reported within the time to greet are not ours. Those behind by the window may go on while they
    /// progress; when they stood still for the patience, or are behind by the hard limit, they must go.
    pub(super) fn laggards(&self, now_ms: u64, limits: &Limits) -> Vec<Token> {
        let behind = |reader: &Reader| {
            let backlog = self.published - reader.read;
            let still_ms = now_ms.saturating_sub(reader.progress_ms);
            backlog > limits.backlog_hard_bytes
                || (backlog > limits.backlog_bytes && still_ms >= limits.patience_ms)
                || (!reader.reported && still_ms >= limits.greeting_ms)
        };
        let mut laggards: Vec<Token> = self.readers.iter().filter(|(_, r)| behind(r)).map(|(t, _)| *t).collect();
        laggards.sort_unstable();
        laggards
    }

    fn settle(&mut self) {
        let reads = self.readers.values().map(|r| r.read);
        self.floor = reads.min().unwrap_or(self.published);
        let reads = self.readers.values().filter(|r| r.reported).map(|r| r.read);
        self.best = reads.max().unwrap_or(self.published);
        // One pulse at the floor itself stays, so that `since_pulse` keeps its meaning.
        while self.pulses.len() > 1 && self.pulses[1].published <= self.floor {
            self.pulses.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Token = [1; 16];
    const B: Token = [2; 16];

    fn limits() -> Limits {
        Limits { backlog_bytes: 10_000, backlog_hard_bytes: 50_000, ..Limits::default() }
    }

    fn publish(ledger: &mut Ledger, bytes: u64) {
        ledger.published((bytes - MESSAGE_OVERHEAD) as usize);
    }

    #[test]
    fn a_window_closes_when_full_and_opens_when_confirmed() {
        let limits = Limits { window_messages: 2, window_bytes: 100, ..Limits::default() };
        let mut window = Window::default();
        window.sent(1000);
        assert!(!window.open(&limits), "too many bytes");
        assert!(!window.confirm(Tally { messages: 2, bytes: 1000 }), "more than was sent");
        assert!(window.confirm(Tally { messages: 1, bytes: 1000 }));
        window.sent(1);
        window.sent(1);
        assert!(!window.open(&limits), "too many messages");
        assert!(window.confirm(Tally { messages: 1, bytes: 1000 }), "an old word is no lie");
        assert!(!window.open(&limits));
        assert!(window.confirm(Tally { messages: 3, bytes: 1002 }));
        assert!(window.open(&limits));
    }

    #[test]
    fn a_reader_that_stands_still_is_cut_off_and_one_that_progresses_is_not() {
        let mut ledger = Ledger::default();
        let limits = limits();
        for token in [A, B] {
            ledger.accepted(token, 0);
            ledger.report(&token, 0, 0);
        }
        ledger.pulse(1);
        publish(&mut ledger, 11_000);
        assert_eq!(ledger.worst(), 11_000);
        ledger.pulse(2);
        assert!(ledger.laggards(limits.patience_ms - 1, &limits).is_empty(), "within the patience");
        ledger.report(&A, 2, 500);
        assert_eq!(ledger.laggards(limits.patience_ms, &limits), [B]);
        ledger.gone(&B);
        assert_eq!(ledger.worst(), 0);
        assert!(ledger.laggards(1_000_000, &limits).is_empty(), "standing still with nothing to read is no fault");
    }

    #[test]
    fn nobody_may_be_behind_by_the_hard_limit() {
        let mut ledger = Ledger::default();
        ledger.accepted(A, 0);
        ledger.report(&A, 0, 0);
        publish(&mut ledger, 51_000);
        assert_eq!(ledger.laggards(0, &limits()), [A]);
    }

    #[test]
    fn publishing_waits_for_the_fastest_reader_but_not_for_those_who_stand_still() {
        let limits = Limits { pace_bytes: 5_000, ..limits() };
        let mut ledger = Ledger::default();
        for token in [A, B] {
            ledger.accepted(token, 0);
            ledger.report(&token, 0, 0);
        }
        publish(&mut ledger, 6_000);
        ledger.pulse(1);
        assert!(ledger.ahead(10, &limits));
        ledger.report(&B, 1, 20);
        assert!(!ledger.ahead(20, &limits), "A is behind, B is not");
        publish(&mut ledger, 6_000);
        assert!(ledger.ahead(20, &limits));
        assert!(!ledger.ahead(20 + limits.patience_ms / 2, &limits), "nobody moves");
    }

    #[test]
    fn a_stranger_who_never_reports_is_cut_off() {
        let mut ledger = Ledger::default();
        ledger.accepted(A, 5);
        assert!(ledger.laggards(4 + limits().greeting_ms, &limits()).is_empty());
        assert_eq!(ledger.laggards(5 + limits().greeting_ms, &limits()), [A]);
    }

    #[test]
    fn what_was_published_before_a_reader_came_is_not_its_backlog() {
        let mut ledger = Ledger::default();
        publish(&mut ledger, 1_000_000);
        ledger.accepted(A, 0);
        assert_eq!(ledger.worst(), 0);
        assert_eq!(ledger.since_pulse(), 1_000_000);
    }

    #[test]
    fn pulses_are_forgotten_once_everybody_has_seen_them() {
        let mut ledger = Ledger::default();
        ledger.accepted(A, 0);
        for sequence in 1..10_000 {
            publish(&mut ledger, 1_000);
            ledger.pulse(sequence);
            if sequence < 5_000 {
                ledger.report(&A, sequence, sequence);
                assert_eq!(ledger.pulses.len(), 1);
            }
        }
        assert_eq!(ledger.pulses.len(), PULSES);
        ledger.report(&A, 9_999, 10_000);
        assert_eq!(ledger.worst(), 0);
    }
}
