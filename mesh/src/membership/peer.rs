//! One peer that the directory shows: its link, how far the greetings are, and what speaks against it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Clock;
use super::greeting::Refusal;
use super::{MUTE_MS, RELINK_MS, SILENT_MS, UNLISTED_MS};
use crate::peers::{PeerInfo, PeerState};
use crate::record::{NodeId, NodeRecord};
use crate::transport::{LinkId, Route};
use crate::wire::Hello;

/// Why a peer is not up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Our greeting is under way.
    Greeting,
    /// Our greetings are not answered.
    NoAnswer,
    /// Our greeting was refused, or we refused the peer's proof.
    Refused(Refusal),
    /// The peer has not greeted us.
    NotGreetedBack,
    /// Its clock is not known yet.
    NoClock,
    /// The connection broke.
    Broken,
    /// No heartbeat.
    Silent,
    /// No answers.
    Mute,
    /// The peer does not hear us.
    Unlisted,
    /// It says that it is leaving.
    Leaving,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Greeting => f.write_str("being greeted"),
            Reason::NoAnswer => f.write_str("does not answer greetings"),
            Reason::Refused(refusal) => write!(f, "greeting refused: this node {refusal}"),
            Reason::NoClock => f.write_str("has not told its clock"),
            Reason::NotGreetedBack => f.write_str("has not greeted this node"),
            Reason::Broken => f.write_str("the connection broke"),
            Reason::Silent => write!(f, "not heard for {SILENT_MS} ms"),
            Reason::Mute => write!(f, "has answered nothing for {MUTE_MS} ms"),
            Reason::Unlisted => f.write_str("does not hear this node"),
            Reason::Leaving => f.write_str("is leaving"),
        }
    }
}

/// How far our greeting of a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Hello is to be said at this time.
    Due { at_ms: u64 },
    /// Hello was said; it is said again when this time comes.
    Said { hello: Box<Hello>, until_ms: u64 },
    /// The challenge was answered; all is said again when this time comes.
    Proved { number: u64, until_ms: u64 },
    /// The peer let us in.
    Done,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) record: Arc<NodeRecord>,
    pub(super) state: PeerState,
    pub(super) since_ms: u64,
    pub(super) reason: Option<Reason>,
    /// True once the program was told of this life: frames are handed on from then.
    pub(super) known_to_program: bool,
    /// When it said that it is leaving.
    pub(super) leaving_ms: Option<u64>,

    pub(super) link: LinkId,
    /// When the link was opened.
    pub(super) linked_ms: u64,
    pub(super) reconnects: u64,
    pub(super) next_relink_ms: u64,
    pub(super) relink_pause_ms: u64,
    pub(super) greeting: Greeting,
    /// What became of the last greeting that failed, until one succeeds.
    pub(super) failed: Option<Reason>,
    /// Greetings that failed in a row.
    pub(super) failures: u32,
    /// The way back to the peer: it has greeted us.
    pub(super) route: Option<Route>,

    /// When our greeting of this link was done.
    pub(super) greeted_ms: u64,
    /// When the last heartbeat came, on this link since it was greeted.
    pub(super) heard_ms: Option<u64>,
    /// When the peer last answered anything on this link.
    pub(super) answered_ms: u64,
    /// Since when the peer is known not to hear us.
    pub(super) unlisted_ms: Option<u64>,
    pub(super) next_ask_ms: u64,
    /// True if a ping was not answered yet.
    pub(super) owes_answer: bool,
    pub(super) next_ping_ms: u64,

    pub(super) clock: Clock,
    pub(super) load: Bytes,
    /// The digest of whom it hears; 0 before the first heartbeat.
    pub(super) hears: u64,
    /// Whom the directory has and it does not hear.
    pub(super) misses: Vec<NodeId>,
}

impl Peer {
    pub(super) fn new(now_ms: u64, record: Arc<NodeRecord>, link: LinkId) -> Peer {
        Peer {
            record,
            state: PeerState::Connecting,
            since_ms: now_ms,
            reason: Some(Reason::Greeting),
            known_to_program: false,
            leaving_ms: None,
            link,
            linked_ms: now_ms,
            reconnects: 0,
            next_relink_ms: now_ms,
            relink_pause_ms: RELINK_MS.0,
            greeting: Greeting::Due { at_ms: now_ms },
            failed: None,
            failures: 0,
            route: None,
            greeted_ms: now_ms,
            heard_ms: None,
            answered_ms: now_ms,
            unlisted_ms: None,
            next_ask_ms: now_ms,
            owes_answer: false,
            next_ping_ms: now_ms,
            clock: Clock::default(),
            load: Bytes::new(),
            hears: 0,
            misses: Vec::new(),
        }
    }

    pub(super) fn info(&self) -> PeerInfo {
        let offset_us = self.clock.offset_us();
        PeerInfo {
            record: self.record.clone(),
            state: self.state,
            clock_offset_ms: offset_us.div_euclid(1000),
            clock_offset_us: offset_us,
            rtt_us: self.clock.rtt_us(),
            load: self.load.clone(),
        }
    }

    pub(super) fn turn(&mut self, now_ms: u64, state: PeerState, reason: Option<Reason>) {
        self.state = state;
        self.since_ms = now_ms;
        self.reason = reason;
    }

    /// A new link takes the place of the old one: everything about it starts anew.
    pub(super) fn relinked(&mut self, now_ms: u64, link: LinkId) {
        self.link = link;
        self.linked_ms = now_ms;
        self.reconnects += 1;
        self.greeting = Greeting::Due { at_ms: now_ms };
        self.forget_evidence();
    }

    /// Our greeting is no longer good; it is due again at `at_ms`.
    pub(super) fn ungreeted(&mut self, at_ms: u64, why: Reason) {
        self.greeting = Greeting::Due { at_ms };
        self.failed = Some(why);
        self.failures = 0;
        self.forget_evidence();
    }

    /// What was heard counts no longer. That the peer does not hear us still does, until it says otherwise.
    fn forget_evidence(&mut self) {
        self.heard_ms = None;
        self.owes_answer = false;
    }

    /// This node slept for `gap_ms`, until now: that time counts for nobody.
    pub(super) fn forgive(&mut self, now_ms: u64, gap_ms: u64) {
        let later = |time_ms: u64| time_ms.saturating_add(gap_ms).min(now_ms);
        self.greeted_ms = later(self.greeted_ms);
        self.answered_ms = later(self.answered_ms);
        self.heard_ms = self.heard_ms.map(later);
        self.unlisted_ms = self.unlisted_ms.map(later);
    }

    /// True if this node hears it: greeted, its heartbeats come, and it answers. Others are told of exactly these, so that
    /// both ends of a link agree on it. Who was suspect gets no grace for the first heartbeat: else a new link would count
    /// as good for a while, again and again.
    pub(super) fn heard(&self, now_ms: u64) -> bool {
        self.greeting == Greeting::Done && !self.silent(now_ms) && !self.mute(now_ms)
    }

    fn silent(&self, now_ms: u64) -> bool {
        let grace_ms = (self.state != PeerState::Suspect).then_some(self.greeted_ms);
        let last_ms = self.heard_ms.max(grace_ms);
        last_ms.is_none_or(|last_ms| now_ms.saturating_sub(last_ms) > SILENT_MS)
    }

    fn mute(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.answered_ms) > MUTE_MS
    }

    /// What speaks against the peer. One that was suspect must be heard again, and hear us, before it is up.
    pub(super) fn standing(&self, now_ms: u64) -> Result<(), Reason> {
        let recovers = self.state == PeerState::Suspect;
        if self.leaving_ms.is_some() {
            return Err(Reason::Leaving);
        }
        if self.greeting != Greeting::Done {
            return Err(self.failed.clone().unwrap_or(Reason::Greeting));
        }
        if self.route.is_none() {
            return Err(Reason::NotGreetedBack);
        }
        // Programs translate what a peer says by its clock from the first moment.
        if !self.clock.known() {
            return Err(Reason::NoClock);
        }
        if self.silent(now_ms) {
            return Err(Reason::Silent);
        }
        if self.mute(now_ms) && !planted::is("one_way_link_trusted") {
            return Err(Reason::Mute);
        }
        match self.unlisted_ms.filter(|_| !planted::is("one_way_link_trusted")) {
            Some(since_ms) if recovers || now_ms.saturating_sub(since_ms) > UNLISTED_MS => Err(Reason::Unlisted),
            _ => Ok(()),
        }
    }
}
