//! Tickets and resume tokens: who may come in, once, here.
//!
//! A frontend makes its own tickets (the gateway asks it to, see `session.open`), signs them with a key that lives as long
//! as its process, and counts their time on its own clock: no two clocks must agree. A ticket opens one session once. A
//! resume token takes its place after the welcome and changes at every use, so that a stolen old one is worthless.
//! Signature: HMAC-SHA256 (RFC 2104). The book is bounded; what does not fit is refused, never forgotten silently.

use std::collections::BTreeMap;

use cartographer::geometry::{IslandId, ObjectId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// How long a ticket may wait to be used, in milliseconds.
pub const TICKET_TTL_MS: u64 = 30_000;

/// How long the book remembers a used or expired ticket, to say which it was, in milliseconds.
const MEMORY_MS: u64 = 60_000;

/// How often the book is cleared of what it need not remember, in milliseconds.
const SWEEP_MS: u64 = 1_000;

/// Sessions in the book, at most.
pub const SESSIONS: usize = 65_536;

/// The token's bytes before the signature: session 16, nonce 8, expiry 8, kind 1.
const CLAIMS_BYTES: usize = 33;

/// The signature's bytes.
const MAC_BYTES: usize = 32;

/// The number of a session; a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first entry.
    Ticket,
    /// Coming back after a lost connection.
    Resume,
}

/// Who a session is for and where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The player.
    pub player: ObjectId,
    /// The island they asked for, if any.
    pub island: Option<IslandId>,
}

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not made by this life of this frontend, or changed.
    #[error("the ticket's signature is not this frontend's: ask the gateway for a session")]
    Forged,
    /// Too late.
    #[error("the ticket has expired: ask the gateway for a new session")]
    Expired,
    /// A second time.
    #[error("the ticket has been used already: resume with the token of the last welcome, or ask the gateway")]
    Used,
    /// The session is over.
    #[error("the session is over: ask the gateway for a new one")]
    Ended,
}

impl Refused {
    /// The code that clients see.
    pub fn code(self) -> &'static str {
        match self {
            Refused::Forged => "ticket_forged",
            Refused::Expired => "ticket_expired",
            Refused::Used => "ticket_used",
            Refused::Ended => "session_ended",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    guest: Guest,
    /// The nonce of the only token that opens the session now.
    nonce: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered { until_ms: u64 },
    Playing,
    Over { since_ms: u64 },
}

/// The sessions that a frontend knows.
pub struct Book {
    key: [u8; 32],
    swept_ms: u64,
    sessions: BTreeMap<SessionId, Entry>,
}

impl Book {
    /// An empty book; `key` MUST be secret and random, and of this process only.
    pub fn new(key: [u8; 32]) -> Book {
        Book { key, swept_ms: 0, sessions: BTreeMap::new() }
    }

    /// Makes a ticket. Asked again for the same session it makes the same one, until it is used. `None`: the book is full.
    pub fn offer(&mut self, now_ms: u64, session: SessionId, guest: Guest, nonce: u64) -> Option<String> {
        self.sweep(now_ms);
        if self.sessions.len() >= SESSIONS && !self.sessions.contains_key(&session) {
            return None;
        }
        let fresh = Entry { guest, nonce, state: State::Offered { until_ms: now_ms + TICKET_TTL_MS } };
        let entry = *self.sessions.entry(session).or_insert(fresh);
        match entry.state {
            State::Offered { until_ms } => Some(self.token(session, entry.nonce, until_ms, Kind::Ticket)),
            State::Playing | State::Over { .. } => None,
        }
    }

    /// Checks a token and uses it up. On success the caller hands out a new one by [`Book::resume_token`].
    pub fn redeem(&mut self, now_ms: u64, token: &str, kind: Kind) -> Result<(SessionId, Guest), Refused> {
        let (session, nonce, until_ms) = self.read(token, kind).ok_or(Refused::Forged)?;
        let entry = self.sessions.get_mut(&session).ok_or(match kind {
            Kind::Ticket if until_ms < now_ms => Refused::Expired,
            _ => Refused::Ended,
        })?;
        match (kind, entry.state) {
            (_, State::Over { .. }) => Err(Refused::Ended),
            (Kind::Ticket, State::Playing) => Err(Refused::Used),
            (Kind::Ticket, State::Offered { until_ms }) if now_ms > until_ms => Err(Refused::Expired),
            (Kind::Ticket, State::Offered { .. }) => {
                entry.state = State::Playing;
                Ok((session, entry.guest))
            }
            (Kind::Resume, _) if nonce != entry.nonce && !planted::is("resume_not_rotated") => Err(Refused::Used),
            (Kind::Resume, _) => {
                // Worthless from here on: of two hellos with one token at the same moment, one passes.
                entry.nonce = entry.nonce.wrapping_add(1);
                Ok((session, entry.guest))
            }
        }
    }

    /// Makes the session's next resume token; earlier ones stop working. `None` if the session is not playing.
    pub fn resume_token(&mut self, session: SessionId, nonce: u64) -> Option<String> {
        let entry = self.sessions.get_mut(&session).filter(|e| e.state == State::Playing)?;
        entry.nonce = nonce;
        Some(self.token(session, nonce, 0, Kind::Resume))
    }

    /// Ends a session: none of its tokens works any more.
    pub fn end(&mut self, now_ms: u64, session: SessionId) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.state = State::Over { since_ms: now_ms };
        }
    }

    /// Sessions in the book.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True without sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.swept_ms + SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        self.sessions.retain(|_, entry| match entry.state {
            State::Offered { until_ms } => now_ms <= until_ms + MEMORY_MS,
            State::Playing => true,
            State::Over { since_ms } => now_ms <= since_ms + MEMORY_MS,
        });
    }

    fn token(&self, session: SessionId, nonce: u64, until_ms: u64, kind: Kind) -> String {
        let mut bytes = Vec::with_capacity(CLAIMS_BYTES + MAC_BYTES);
        bytes.extend_from_slice(&session.0.to_be_bytes());
        bytes.extend_from_slice(&nonce.to_be_bytes());
        bytes.extend_from_slice(&until_ms.to_be_bytes());
        bytes.push(kind as u8);
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn read(&self, token: &str, kind: Kind) -> Option<(SessionId, u64, u64)> {
        if token.len() != 2 * (CLAIMS_BYTES + MAC_BYTES) || !token.is_ascii() {
            return None;
        }
        let bytes: Vec<u8> = (0..token.len() / 2)
            .map(|i| u8::from_str_radix(&token[2 * i..2 * i + 2], 16).ok())
            .collect::<Option<_>>()?;
        let (claims, mac) = bytes.split_at(CLAIMS_BYTES);
        self.mac(claims).verify_slice(mac).ok()?;
        if claims[32] != kind as u8 {
            return None;
        }
        let session = u128::from_be_bytes(claims[..16].try_into().ok()?);
        let nonce = u64::from_be_bytes(claims[16..24].try_into().ok()?);
        let until_ms = u64::from_be_bytes(claims[24..32].try_into().ok()?);
        Some((SessionId(session), nonce, until_ms))
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        // A key of any length is taken: the error cannot occur.
        #[allow(clippy::unwrap_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap();
        mac.update(bytes);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Guest = Guest { player: ObjectId(7), island: None };
    const SESSION: SessionId = SessionId(1);

    fn book() -> Book {
        Book::new([3; 32])
    }

    #[test]
    fn a_ticket_opens_once() {
        let mut book = book();
        let ticket = book.offer(1, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.offer(2, SESSION, GUEST, 12).unwrap(), ticket, "asked twice, the same ticket");
        assert_eq!(book.redeem(3, &ticket, Kind::Ticket), Ok((SESSION, GUEST)));
        assert_eq!(book.redeem(4, &ticket, Kind::Ticket), Err(Refused::Used));
    }

    #[test]
    fn a_late_ticket_has_expired_and_is_forgotten_later() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.redeem(TICKET_TTL_MS + 1, &ticket, Kind::Ticket), Err(Refused::Expired));
        book.offer(640_000, SessionId(2), GUEST, 12).unwrap();
        assert_eq!(book.len(), 1);
        assert_eq!(book.redeem(640_000, &ticket, Kind::Ticket), Err(Refused::Expired));
    }

    #[test]
    fn a_forged_ticket_is_refused_whatever_byte_was_changed() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        for i in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            forged[i] = if forged[i] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(book.redeem(1, &forged, Kind::Ticket), Err(Refused::Forged), "byte {i}");
        }
        for garbage in ["", "x", "zz", &"é".repeat(65), &ticket[2..]] {
            assert_eq!(book.redeem(1, garbage, Kind::Ticket), Err(Refused::Forged));
        }
        let elsewhere = Book::new([4; 32]).offer(0, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.redeem(1, &elsewhere, Kind::Ticket), Err(Refused::Forged));
        assert_eq!(book.redeem(1, &ticket, Kind::Resume), Err(Refused::Forged), "a ticket is not a resume token");
        assert!(book.redeem(1, &ticket, Kind::Ticket).is_ok(), "the true one still works");
    }

    #[test]
    fn resume_tokens_rotate() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.resume_token(SESSION, 1), None, "not before the ticket is used");
        book.redeem(1, &ticket, Kind::Ticket).unwrap();
        let first = book.resume_token(SESSION, 1).unwrap();
        assert!(book.redeem(2, &first, Kind::Resume).is_ok());
        assert_eq!(book.redeem(2, &first, Kind::Resume), Err(Refused::Used), "at once, before the next one is made");
        let second = book.resume_token(SESSION, 2).unwrap();
        assert_eq!(book.redeem(3, &first, Kind::Resume), Err(Refused::Used));
        assert!(book.redeem(4, &second, Kind::Resume).is_ok());
        book.end(5, SESSION);
        assert_eq!(book.redeem(6, &second, Kind::Resume), Err(Refused::Ended));
    }
}
