//! Tickets and resume tokens: who may come in, once.
//!
//! A frontend makes its own tickets (the gateway asks it to, see `session.open`), signs them with a key that lives as long
//! as its process, and counts their time on its own clock: no two clocks must agree. A ticket opens one session once. A
//! resume token takes its place after the welcome: it is signed with a key of the whole cluster, so that any frontend knows a
//! true one, and carries a turn that rises at every use; whether it is the session's last one stands in the player's seat
//! (`estate::player::Seat`). Signature: HMAC-SHA256 (RFC 2104). The book is bounded; what does not fit is refused, NEVER
//! forgotten silently.

use std::collections::BTreeMap;

use cartographer::geometry::{IslandId, ObjectId};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::protocol::codes;

/// How long a ticket may wait to be used, in milliseconds.
pub const TICKET_TTL_MS: u64 = 30_000;

/// How long the book remembers a used or expired ticket, to say which it was, in milliseconds.
const MEMORY_MS: u64 = 60_000;

/// How often the book is cleared of what it need not remember, in milliseconds.
const SWEEP_MS: u64 = 1_000;

/// Sessions in the book, at most.
pub const SESSIONS: usize = 65_536;

/// A ticket's bytes before the signature: session 16, nonce 8, expiry 8.
const CLAIMS_BYTES: usize = 32;

/// A resume token's bytes before the signature: session 16, player 8, turn 8.
const RESUME_BYTES: usize = 32;

/// What resume tokens begin with: no ticket does, for those are hexadecimal, and passages begin otherwise.
pub const RESUME_MARK: char = 'r';

/// What resume tokens are signed for.
const RESUME_WORD: &[u8] = b"wildmesh resume";

/// The signature's bytes.
const MAC_BYTES: usize = 32;

/// The number of a session; a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

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
    /// Not made by this life of this frontend, or for a resume token by none of this cluster; or changed.
    #[error("the token was not made here: ask the gateway for a session")]
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
            Refused::Forged => codes::TICKET_FORGED,
            Refused::Expired => codes::TICKET_EXPIRED,
            Refused::Used => codes::TICKET_USED,
            Refused::Ended => codes::SESSION_ENDED,
        }
    }
}

/// What a resume token says: a session comes back to its player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The session.
    pub session: SessionId,
    /// Its player.
    pub player: ObjectId,
    /// Which of the session's tokens it is.
    pub turn: u64,
}

/// The key that makes and checks resume tokens: the same on all frontends of a cluster.
#[derive(Clone)]
pub struct ResumeKey([u8; MAC_BYTES]);

impl ResumeKey {
    /// Derives it from the cluster's key.
    pub fn new(cluster_key: &[u8]) -> ResumeKey {
        ResumeKey(hmac(cluster_key, RESUME_WORD).finalize().into_bytes().into())
    }

    /// Makes a token.
    pub fn token(&self, resume: &Resume) -> String {
        let mut bytes = [0; RESUME_BYTES];
        bytes[..16].copy_from_slice(&resume.session.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&resume.player.0.to_be_bytes());
        bytes[24..].copy_from_slice(&resume.turn.to_be_bytes());
        let mut token = String::with_capacity(1 + 2 * (RESUME_BYTES + MAC_BYTES));
        token.push(RESUME_MARK);
        put_signed(&mut token, &bytes, hmac(&self.0, &bytes));
        token
    }

    /// Reads a token, if this cluster made it.
    pub fn read(&self, token: &str) -> Result<Resume, Refused> {
        let digits = token.strip_prefix(RESUME_MARK).ok_or(Refused::Forged)?;
        let bytes = signed::<RESUME_BYTES>(digits, &self.0).ok_or(Refused::Forged)?;
        let [session, player, turn] = [&bytes[..16], &bytes[16..24], &bytes[24..]].map(number);
        // Player and turn have eight bytes each.
        Ok(Resume { session: SessionId(session), player: ObjectId(player as u64), turn: turn as u64 })
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
    Playing { until_ms: u64 },
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
            State::Offered { until_ms } => Some(self.token(session, entry.nonce, until_ms)),
            State::Playing { .. } | State::Over { .. } => None,
        }
    }

    /// Checks a ticket and uses it up.
    pub fn redeem(&mut self, now_ms: u64, ticket: &str) -> Result<(SessionId, Guest), Refused> {
        let (session, until_ms) = self.read(ticket).ok_or(Refused::Forged)?;
        let gone = if until_ms < now_ms { Refused::Expired } else { Refused::Ended };
        let entry = self.sessions.get_mut(&session).ok_or(gone)?;
        match entry.state {
            State::Over { .. } => Err(Refused::Ended),
            State::Playing { .. } => Err(Refused::Used),
            State::Offered { until_ms } if now_ms > until_ms => Err(Refused::Expired),
            State::Offered { until_ms } => {
                entry.state = State::Playing { until_ms };
                Ok((session, entry.guest))
            }
        }
    }

    /// Whoever came with this session's ticket did not get in: the ticket is good again, for as long as it would have been.
    pub fn give_back(&mut self, session: SessionId) {
        if let Some(entry) = self.sessions.get_mut(&session)
            && let State::Playing { until_ms } = entry.state
        {
            entry.state = State::Offered { until_ms };
        }
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
            State::Playing { .. } => true,
            State::Over { since_ms } => now_ms <= since_ms + MEMORY_MS,
        });
    }

    fn token(&self, session: SessionId, nonce: u64, until_ms: u64) -> String {
        let mut bytes = [0; CLAIMS_BYTES];
        bytes[..16].copy_from_slice(&session.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&nonce.to_be_bytes());
        bytes[24..].copy_from_slice(&until_ms.to_be_bytes());
        let mut token = String::with_capacity(2 * (CLAIMS_BYTES + MAC_BYTES));
        put_signed(&mut token, &bytes, hmac(&self.key, &bytes));
        token
    }

    fn read(&self, token: &str) -> Option<(SessionId, u64)> {
        let bytes = signed::<CLAIMS_BYTES>(token, &self.key)?;
        Some((SessionId(number(&bytes[..16])), number(&bytes[24..]) as u64))
    }
}

/// Writes bytes and their signature as hexadecimal digits.
fn put_signed(token: &mut String, bytes: &[u8], mac: Hmac<Sha256>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes.iter().chain(&mac.finalize().into_bytes()) {
        token.push(char::from(DIGITS[usize::from(byte >> 4)]));
        token.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Reads `N` bytes whose signature by `key` follows them, as hexadecimal digits in small letters.
fn signed<const N: usize>(digits: &str, key: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * (N + MAC_BYTES) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes: Vec<u8> = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect::<Option<_>>()?;
    let (claims, mac) = bytes.split_at(N);
    hmac(key, claims).verify_slice(mac).ok()?;
    claims.try_into().ok()
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn hmac(key: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    // A key of any length is taken: the error cannot occur.
    #[allow(clippy::unwrap_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac
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
        assert_eq!(book.redeem(3, &ticket), Ok((SESSION, GUEST)));
        assert_eq!(book.redeem(4, &ticket), Err(Refused::Used));
    }

    #[test]
    fn a_late_ticket_has_expired_and_is_forgotten_later() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.redeem(TICKET_TTL_MS + 1, &ticket), Err(Refused::Expired));
        book.offer(640_000, SessionId(2), GUEST, 12).unwrap();
        assert_eq!(book.len(), 1);
        assert_eq!(book.redeem(640_000, &ticket), Err(Refused::Expired));
    }

    #[test]
    fn a_forged_ticket_is_refused_whatever_byte_was_changed() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        for i in 0..ticket.len() {
            let mut forged = ticket.clone().into_bytes();
            forged[i] = if forged[i] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(book.redeem(1, &forged), Err(Refused::Forged), "byte {i}");
        }
        for garbage in ["", "x", "zz", &"é".repeat(65), &ticket[2..]] {
            assert_eq!(book.redeem(1, garbage), Err(Refused::Forged));
        }
        let elsewhere = Book::new([4; 32]).offer(0, SESSION, GUEST, 11).unwrap();
        assert_eq!(book.redeem(1, &elsewhere), Err(Refused::Forged));
        assert_eq!(key().read(&ticket), Err(Refused::Forged), "a ticket is not a resume token");
        assert!(book.redeem(1, &ticket).is_ok(), "the true one still works");
    }

    #[test]
    fn a_ticket_that_let_nobody_in_is_good_again_while_its_time_lasts() {
        let mut book = book();
        let ticket = book.offer(0, SESSION, GUEST, 11).unwrap();
        book.redeem(1, &ticket).unwrap();
        book.give_back(SESSION);
        assert_eq!(book.redeem(2, &ticket), Ok((SESSION, GUEST)));
        book.give_back(SESSION);
        assert_eq!(book.redeem(TICKET_TTL_MS + 1, &ticket), Err(Refused::Expired));
        book.end(3, SESSION);
        book.give_back(SESSION);
        assert_eq!(book.redeem(4, &ticket), Err(Refused::Ended), "what is over stays so");
    }

    fn key() -> ResumeKey {
        ResumeKey::new(b"the cluster's key")
    }

    const RESUME: Resume = Resume { session: SessionId(u128::MAX - 3), player: ObjectId(77), turn: 9 };

    #[test]
    fn every_frontend_of_the_cluster_reads_a_resume_token_and_no_other_does() {
        let token = key().token(&RESUME);
        assert_eq!((token.len(), token.starts_with(RESUME_MARK)), (129, true));
        assert_eq!(key().read(&token), Ok(RESUME));
        assert_eq!(ResumeKey::new(b"another cluster's").read(&token), Err(Refused::Forged));
        assert_ne!(key().token(&Resume { turn: 10, ..RESUME }), token);
    }

    #[test]
    fn a_resume_token_that_was_changed_cut_or_lengthened_is_forged() {
        let token = key().token(&RESUME);
        for i in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[i] = if forged[i] == b'0' { b'1' } else { b'0' };
            assert_eq!(key().read(&String::from_utf8(forged).unwrap()), Err(Refused::Forged), "byte {i}");
            assert_eq!(key().read(&token[..i]), Err(Refused::Forged), "the first {i}");
        }
        for garbage in
            ["", "r", "rr", &"é".repeat(64), &format!("r{}", "é".repeat(64)), &token[1..], &format!("{token}0")]
        {
            assert_eq!(key().read(garbage), Err(Refused::Forged), "{garbage:?}");
        }
        assert_eq!(key().read(&token.to_uppercase()), Err(Refused::Forged), "one form only");
        let mut book = book();
        assert_eq!(book.redeem(1, &token), Err(Refused::Forged), "a resume token is no ticket");
    }
}
