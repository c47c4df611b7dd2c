//! The seat of a player: which session may come back to it, and with which of its tokens.
//!
//! A session's token carries a *turn* that rises with each use. The seat keeps the turn of the last token that the client is
//! known to have, as far as it was saved: it has shown that one, or was heard since it was given it. An older one is used up; one
//! that was handed out and may never have come uses up nothing. Pure values: whoever claims a player takes its seat in the same
//! write, so that of two who come back with one token one finds the other to be its owner. Calendars only end a seat that was
//! left behind; they NEVER decide who owns a player.

use serde::{Deserialize, Serialize};

/// Who sits in a player's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The session, as 32 hexadecimal digits; empty: nobody may come back.
    pub session: String,
    /// The turn of the last token that the session's client is known to have: the lowest that is good.
    pub turn: u64,
    /// Until when the session may come back if it is not served, in seconds since 1970.
    pub until_s: u64,
}

impl Seat {
    /// The form in which a session stands in documents.
    pub fn name(session: u128) -> String {
        format!("{session:032x}")
    }

    /// Nobody may come back from now on.
    pub fn clear(&mut self) {
        *self = Seat::default();
    }
}

/// How a claim takes the seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seating {
    /// Whoever sat there, this session sits there now: the newest wins.
    Anew {
        /// The session.
        session: String,
        /// Until when it may come back.
        until_s: u64,
    },
    /// The session comes back with a token of this turn, or is moved by those who serve it (no turn).
    Back {
        /// The session.
        session: String,
        /// The token's turn.
        turn: Option<u64>,
        /// What day it is, in seconds since 1970.
        now_s: u64,
    },
    /// The seat stays as it is.
    AsItIs,
}

/// Why a session may not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unseated {
    /// Another session has taken the player.
    #[error("a newer session has taken over")]
    Replaced,
    /// The session's client has a later token.
    #[error("the token has been used already")]
    Used,
    /// The session is over, or was away for too long.
    #[error("the session is over")]
    Ended,
}

impl Seating {
    /// Takes the seat, or says why not and leaves it as it is.
    ///
    /// Whoever shows a token has it: from then on no older one is good. Whether whoever served the session lives makes no
    /// difference, for it never saved a turn that the client may not have heard of.
    pub fn take(&self, seat: &mut Seat) -> Result<(), Unseated> {
        match self {
            Seating::AsItIs => Ok(()),
            Seating::Anew { session, until_s } => {
                *seat = Seat { session: session.clone(), turn: 0, until_s: *until_s };
                Ok(())
            }
            Seating::Back { session, turn, now_s } => {
                if seat.session.is_empty() || (seat.session == *session && seat.until_s < *now_s) {
                    return Err(Unseated::Ended);
                }
                if seat.session != *session {
                    return Err(Unseated::Replaced);
                }
                if turn.is_some_and(|turn| turn < seat.turn) && !planted::is("resume_not_rotated") {
                    return Err(Unseated::Used);
                }
                seat.turn = turn.map_or(seat.turn, |turn| turn.max(seat.turn));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> Seat {
        Seat { session: Seat::name(7), turn: 3, until_s: 1_000 }
    }

    fn back(session: u128, turn: Option<u64>, now_s: u64) -> (Result<(), Unseated>, Seat) {
        let mut seat = seat();
        let taken = Seating::Back { session: Seat::name(session), turn, now_s }.take(&mut seat);
        (taken, seat)
    }

    #[test]
    fn a_session_comes_back_with_the_token_that_it_is_known_to_have_or_a_later_one() {
        for turn in [3, 4, 90] {
            assert_eq!(back(7, Some(turn), 1_000), (Ok(()), Seat { turn, ..seat() }), "turn {turn}");
        }
        assert_eq!(back(7, None, 0), (Ok(()), seat()), "moved by those who serve it");
    }

    #[test]
    fn whoever_has_shown_a_token_has_used_up_those_before_it_and_not_that_one() {
        let back = |turn| Seating::Back { session: Seat::name(7), turn: Some(turn), now_s: 0 };
        let mut taken = seat();
        for turn in [4, 4, 6] {
            assert_eq!(back(turn).take(&mut taken), Ok(()));
            assert_eq!(taken, Seat { turn, ..seat() });
        }
        for turn in [0, 3, 4, 5] {
            assert_eq!(back(turn).take(&mut taken), Err(Unseated::Used), "turn {turn}");
        }
        assert_eq!(taken, Seat { turn: 6, ..seat() }, "the turn does not go back");
    }

    #[test]
    fn whoever_may_not_come_back_is_told_why_and_changes_nothing() {
        for (session, turn, now_s, why) in [
            (7, Some(2), 0, Unseated::Used),
            (8, Some(9), 0, Unseated::Replaced),
            (8, Some(9), 2_000, Unseated::Replaced),
            (8, None, 0, Unseated::Replaced),
            (7, Some(3), 1_001, Unseated::Ended),
            (7, None, 1_001, Unseated::Ended),
        ] {
            assert_eq!(back(session, turn, now_s), (Err(why), seat()), "{session} {turn:?} {now_s}");
        }
        let mut empty = Seat::default();
        let back = Seating::Back { session: String::new(), turn: Some(9), now_s: 0 };
        assert_eq!(back.take(&mut empty), Err(Unseated::Ended), "nobody is nobody's session");
    }

    #[test]
    fn the_newest_session_sits_wherever_another_sat() {
        for mut taken in [seat(), Seat::default()] {
            let anew = Seating::Anew { session: Seat::name(8), until_s: 5 };
            assert_eq!(anew.take(&mut taken), Ok(()));
            assert_eq!(taken, Seat { session: Seat::name(8), turn: 0, until_s: 5 });
        }
        let mut same = seat();
        assert_eq!((Seating::AsItIs.take(&mut same), same), (Ok(()), seat()));
    }
}
