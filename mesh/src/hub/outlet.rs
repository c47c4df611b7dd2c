//! The way of events to the program: bounded, and it never makes the hub wait.
//!
//! Frames that do not fit are dropped and counted, and their publisher is told as lost once there is room. Comings and
//! goings wait in order; of one life only what still matters waits, so that even a program that takes nothing for hours
//! costs a few events for each life that the directory showed.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::events::{Down, Event};
use crate::record::Incarnation;
use crate::transport::Topic;

/// The sending end.
pub(super) struct Outlet {
    sender: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    lost: BTreeSet<Incarnation>,
    pub(super) frames: u64,
    pub(super) dropped: u64,
}

impl Outlet {
    pub(super) fn new(sender: mpsc::Sender<Event>) -> Outlet {
        Outlet { sender, waiting: VecDeque::new(), lost: BTreeSet::new(), frames: 0, dropped: 0 }
    }

    /// Hands frames on, or drops them.
    pub(super) fn frames(&mut self, from: Incarnation, topic: Topic, parts: Vec<Bytes>) {
        if self.is_clear()
            && let Ok(permit) = self.sender.try_reserve()
        {
            self.frames += 1;
            permit.send(Event::Frames { from, topic, parts });
        } else {
            self.dropped += 1;
            self.lost.insert(from);
        }
    }

    /// Hands any other event on, now or as soon as there is room.
    pub(super) fn tell(&mut self, event: Event) {
        match event {
            Event::Frames { from, topic, parts } => return self.frames(from, topic, parts),
            Event::Lost { from } => {
                self.lost.insert(from);
            }
            event => {
                if let Some(event) = self.shorten(event) {
                    self.waiting.push_back(event);
                }
            }
        }
        self.flush();
    }

    /// Takes away what waits and is overtaken by `event`; `None` if nothing remains to be told.
    fn shorten(&mut self, event: Event) -> Option<Event> {
        let Some(life) = life(&event) else {
            if matches!(event, Event::OwnLeaseLost) {
                self.waiting.retain(|waiting| !matches!(waiting, Event::OwnLeaseBack | Event::OwnLeaseLost));
            }
            return Some(event);
        };
        // Only the last word on this life can be overtaken: what was said before that has been answered by it.
        let last = self.waiting.iter().rposition(|waiting| self::life(waiting) == Some(life));
        let Some(place) = last else { return Some(event) };
        match (&self.waiting[place], &event) {
            (Event::PeerDown { reason: Down::Cut, .. }, Event::PeerUp(_)) => {
                // The program never knew that it was down; but something may have been missed.
                self.waiting.remove(place);
                self.lost.insert(life);
                None
            }
            (Event::PeerUp(_), Event::PeerDown { .. }) => {
                self.waiting.remove(place);
                None
            }
            _ => Some(event),
        }
    }

    /// True if nothing waits.
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty() && self.lost.is_empty()
    }

    /// Hands on what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while !self.is_clear() {
            match self.sender.try_reserve() {
                Ok(permit) => match (self.waiting.pop_front(), self.lost.pop_first()) {
                    (Some(event), lost) => {
                        self.lost.extend(lost);
                        permit.send(event);
                    }
                    (None, Some(from)) => permit.send(Event::Lost { from }),
                    (None, None) => return,
                },
                Err(mpsc::error::TrySendError::Full(())) => return,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    // Nobody listens any more.
                    self.waiting.clear();
                    self.lost.clear();
                }
            }
        }
    }

    /// Waits until there is room for what waits.
    pub(super) async fn room(&self) {
        // The room is given back at once and taken by `flush`: nobody else sends on this channel.
        drop(self.sender.reserve().await);
    }
}

/// The life that an event brings up, down or to its end.
fn life(event: &Event) -> Option<Incarnation> {
    match event {
        Event::PeerUp(peer) => Some(peer.record.incarnation),
        Event::PeerDown { incarnation, .. } | Event::PeerGone { incarnation, .. } => Some(*incarnation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{PeerInfo, PeerState};
    use crate::record::{NodeId, NodeRecord, Role};
    use std::sync::Arc;

    fn up(life: u64) -> Event {
        let record = NodeRecord {
            node: NodeId::new("zoo-1").unwrap(),
            role: Role::Zoo,
            incarnation: Incarnation(life),
            publish: String::new(),
            request: String::new(),
            public: None,
            version: String::new(),
            protocol: 1,
        };
        Event::PeerUp(PeerInfo {
            record: Arc::new(record),
            state: PeerState::Up,
            clock_offset_ms: 0,
            clock_offset_us: 0,
            rtt_us: 0,
            load: Bytes::new(),
        })
    }

    fn down(life: u64, reason: Down) -> Event {
        Event::PeerDown { peer: NodeId::new("zoo-1").unwrap(), incarnation: Incarnation(life), reason }
    }

    fn gone(life: u64) -> Event {
        Event::PeerGone { peer: NodeId::new("zoo-1").unwrap(), incarnation: Incarnation(life) }
    }

    fn frame(outlet: &mut Outlet, life: u64) {
        outlet.frames(Incarnation(life), Topic::new("t"), Vec::new());
    }

    fn drain(outlet: &mut Outlet, events: &mut mpsc::Receiver<Event>) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(match event {
                Event::PeerUp(peer) => format!("up {}", peer.record.incarnation.0),
                Event::PeerDown { incarnation, .. } => format!("down {}", incarnation.0),
                Event::PeerGone { incarnation, .. } => format!("gone {}", incarnation.0),
                Event::Frames { from, .. } => format!("frames {}", from.0),
                Event::Lost { from } => format!("lost {}", from.0),
                other => format!("{other:?}"),
            });
            outlet.flush();
        }
        told
    }

    /// What a program gets that took nothing while these events came, behind one frame that filled its queue.
    fn check(events: Vec<Event>, expected: &[&str]) {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outlet = Outlet::new(sender);
        frame(&mut outlet, 9);
        events.into_iter().for_each(|event| outlet.tell(event));
        assert_eq!(drain(&mut outlet, &mut receiver)[1..], *expected);
        assert!(outlet.is_clear());
    }

    #[test]
    fn comings_and_goings_wait_in_order_and_are_never_lost() {
        check(vec![up(1), up(2), down(3, Down::Cut), gone(3)], &["up 1", "up 2", "down 3", "gone 3"]);
        check(vec![down(1, Down::Gone), gone(1), up(2)], &["down 1", "gone 1", "up 2"]);
        check(vec![Event::OwnLeaseLost, Event::OwnLeaseBack], &["OwnLeaseLost", "OwnLeaseBack"]);
        let twice = vec![Event::OwnLeaseLost, Event::OwnLeaseBack, Event::OwnLeaseLost, Event::OwnLeaseBack];
        check(twice, &["OwnLeaseLost", "OwnLeaseBack"]);
    }

    #[test]
    fn a_link_that_flaps_behind_a_slow_program_takes_no_room() {
        check(vec![up(1), down(1, Down::Cut), up(1), down(1, Down::Cut), up(2)], &["up 2"]);
        check(vec![down(1, Down::Cut), up(1), down(1, Down::Cut), up(1)], &["lost 1"]);
        check(vec![up(1), down(1, Down::Gone), gone(1)], &["gone 1"]);
        check(vec![down(1, Down::Cut), gone(1), up(1)], &["down 1", "gone 1", "up 1"]);
        check(vec![down(1, Down::Cut), gone(1), up(1), down(1, Down::Cut)], &["down 1", "gone 1"]);
        check(vec![down(1, Down::Cut), up(1), down(1, Down::Gone), gone(1)], &["down 1", "gone 1", "lost 1"]);
    }

    #[test]
    fn frames_that_do_not_fit_are_counted_and_told_as_lost_before_newer_ones() {
        let (sender, mut events) = mpsc::channel(2);
        let mut outlet = Outlet::new(sender);
        for life in [1, 2, 1, 1] {
            frame(&mut outlet, life);
        }
        assert_eq!((outlet.frames, outlet.dropped), (2, 2));
        assert!(events.try_recv().is_ok());
        outlet.flush();
        frame(&mut outlet, 1);
        assert_eq!(drain(&mut outlet, &mut events), ["frames 2", "lost 1", "lost 1"], "and each loss is told");
        assert_eq!(outlet.dropped, 3);
        frame(&mut outlet, 1);
        assert_eq!(drain(&mut outlet, &mut events), ["frames 1"]);
    }
}
