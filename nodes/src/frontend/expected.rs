//! Who holds a ticket of this frontend and has not come yet: room that is taken, so that whoever was let in finds room.
//!
//! A ticket that nobody used in its time gives its room back by itself.

use std::collections::BTreeMap;

use super::tickets::{SessionId, TICKET_TTL_MS};

/// How often the list is cleared of those whose tickets are over, in milliseconds.
const SWEEP_MS: u64 = 250;

/// Sessions whose tickets are out, with the end of their time. Its number is bounded by the frontend's capacity.
#[derive(Debug, Default)]
pub(super) struct Expected {
    until_ms: BTreeMap<SessionId, u64>,
    swept_ms: u64,
}

impl Expected {
    /// Reserves room for a session's player, unless `players` and those expected already fill it. Asked again for the same
    /// session it takes no more.
    pub(super) fn expect(&mut self, now_ms: u64, session: SessionId, players: u32, capacity: u32) -> bool {
        let known = self.until_ms.contains_key(&session);
        if !known && players.saturating_add(self.count(now_ms)) >= capacity {
            return false;
        }
        self.until_ms.entry(session).or_insert(now_ms + TICKET_TTL_MS);
        true
    }

    /// The session's player came, or was turned away.
    pub(super) fn came(&mut self, session: SessionId) {
        self.until_ms.remove(&session);
    }

    /// How many are expected.
    pub(super) fn count(&mut self, now_ms: u64) -> u32 {
        if now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.until_ms.retain(|_, until_ms| *until_ms > now_ms);
        }
        self.until_ms.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_take_room_until_their_players_came_or_their_time_is_over() {
        let mut expected = Expected::default();
        let mut ask = |now_ms, session, players| expected.expect(now_ms, SessionId(session), players, 10);
        assert!(ask(0, 1, 8) && ask(0, 2, 8));
        assert!(!ask(0, 3, 8), "two are on their way");
        assert!(ask(0, 1, 10), "asked again, whatever happened since");
        expected.came(SessionId(1));
        assert_eq!(expected.count(0), 1);
        assert!(expected.expect(1_000, SessionId(3), 8, 10));
        assert!(!expected.expect(TICKET_TTL_MS, SessionId(4), 9, 10), "the third is still expected");
        assert!(expected.expect(TICKET_TTL_MS, SessionId(4), 8, 10), "the second never came");
        assert_eq!(expected.count(3 * TICKET_TTL_MS), 0);
    }
}
