//! Operations: the names under which the acts of one player happen once, however often they are asked for.
//!
//! A client numbers its acts; the operation's id is derived from player and number, so that nobody can name another's.
//! Numbers are judged: those of a later claim are forged, those below the *floor* are too old, since whoever keeps
//! documents may have forgotten them. Every number at or above the floor that was asked for in this session is known here
//! with what became of it, so that within a session nothing is carried out twice even if it is in no document. It NEVER
//! reads a clock: time comes in.

use std::collections::{BTreeMap, VecDeque};

use cartographer::geometry::ObjectId;
use estate::transaction::OperationId;
use sha2::{Digest, Sha256};

use super::shard::ClientId;
use crate::protocol::{Act, Outcome, codes};

/// By how many bits a claim's epoch stands above the numbers of its acts.
pub const EPOCH_BITS: u32 = 20;

/// Claims whose acts may still be asked for again when a player comes in.
const EARLIER_CLAIMS: u64 = 8;

/// How long acts of earlier claims may be asked for again after a player has come in, in milliseconds.
const EARLIER_MS: u64 = 60_000;

/// How long an act may be asked for again, in milliseconds: well within what documents remember.
const AGAIN_MS: u64 = 5 * 60_000;

/// Acts of earlier claims are taken only if all of them were asked for within this time before the player comes in, in
/// milliseconds: then documents still remember them. Minutes less than they do, for calendars of two nodes differ.
const REMEMBERED_MS: u64 = 2 * AGAIN_MS;

/// How often the highest number is noted, in milliseconds, to know later which numbers are that old.
const NOTE_MS: u64 = 10_000;

/// Acts of one player that are remembered with what became of them, at most; older numbers fall below the floor.
const KNOWN: usize = 64;

/// Acts of one player that may be under way.
pub const UNDER_WAY: usize = 8;

const _: () = assert!(UNDER_WAY < KNOWN);
const _: () = assert!(AGAIN_MS * 2 < estate::transaction::REMEMBERED.as_millis() as u64);
const _: () = assert!(REMEMBERED_MS + 4 * EARLIER_MS < estate::transaction::REMEMBERED.as_millis() as u64);

/// The acts of one player in one session of its document.
#[derive(Debug)]
pub struct Operations {
    player: ObjectId,
    /// The first number of this claim, and of the next.
    claim: (u64, u64),
    floor: u64,
    since_ms: u64,
    /// How long before `since_ms` acts of earlier claims were asked for at most, in milliseconds.
    earlier_ms: u64,
    /// When which number was the highest, oldest first.
    notes: VecDeque<(u64, u64)>,
    highest: u64,
    known: BTreeMap<u64, Known>,
    under_way: usize,
}

#[derive(Debug)]
struct Known {
    /// A digest of what was asked for.
    asked: [u8; 8],
    state: State,
}

#[derive(Debug)]
enum State {
    /// It is being done; who is told, and whether it may have been done already when it was asked for.
    UnderWay(ClientId, u32, bool),
    /// It is done.
    Done(Outcome),
    /// It surely was not done.
    Refused,
    /// It may have been done.
    Unsure,
}

/// What is to be done about an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is to be done, under this id.
    Do(OperationId),
    /// It was begun and may have happened: it is to be asked for again under this id, whatever the world says now.
    Again(OperationId),
    /// It is done already, and this came of it.
    Told(Outcome),
    /// It is under way; whoever asked last is told.
    Waits,
    /// Too many are under way.
    Busy,
    /// The number cannot be used, and why.
    Stale(&'static str),
}

impl Operations {
    /// Those of a player who comes in at `now_ms` under the claim `epoch`; `floor` is what its document says, and no act
    /// from there on was asked for more than `earlier_ms` milliseconds ago.
    pub fn new(player: ObjectId, epoch: u64, floor: u64, earlier_ms: u64, now_ms: u64) -> Operations {
        let first = |epoch: u64| epoch << EPOCH_BITS;
        // What documents have forgotten would happen a second time.
        let (earliest, earlier_ms) = match earlier_ms <= REMEMBERED_MS {
            true => (first(epoch.saturating_sub(EARLIER_CLAIMS)), earlier_ms),
            false => (first(epoch), 0),
        };
        Operations {
            player,
            claim: (first(epoch), first(epoch + 1)),
            floor: floor.max(earliest),
            since_ms: now_ms,
            earlier_ms,
            notes: VecDeque::new(),
            highest: 0,
            known: BTreeMap::new(),
            under_way: 0,
        }
    }

    /// The lowest number that is taken at `now_ms`.
    pub fn floor(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.since_ms + EARLIER_MS {
            self.floor = self.floor.max(self.claim.0);
        }
        while let Some(&(noted_ms, number)) = self.notes.front()
            && now_ms >= noted_ms + AGAIN_MS
        {
            self.notes.pop_front();
            self.floor = self.floor.max(number.saturating_add(1));
        }
        self.floor
    }

    /// How long ago an act whose number is still taken was asked for first, in milliseconds, at most.
    pub fn oldest_ms(&mut self, now_ms: u64) -> u64 {
        if self.floor(now_ms) < self.claim.0 {
            return self.earlier_ms + now_ms.saturating_sub(self.since_ms);
        }
        self.notes.front().map_or(0, |(noted_ms, _)| now_ms.saturating_sub(*noted_ms))
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// True if the number is of this session: then this knows all that became of it.
    pub fn is_fresh(&self, number: u64) -> bool {
        number >= self.claim.0
    }

    /// Judges an act that a client asks for. After [`Judged::Do`] and [`Judged::Again`] it is under way until
    /// [`Operations::end`].
    pub fn ask(&mut self, now_ms: u64, number: u64, act: &Act, client: ClientId, seq: u32) -> Judged {
        if number >= self.claim.1 {
            return Judged::Stale("the number is not of this session: begin with first_operation");
        }
        if number < self.floor(now_ms) && !planted::is("floor_not_kept") {
            return Judged::Stale("the number is too old: what became of it is not known any more");
        }
        let asked = digest(act);
        let op = operation(self.player, number);
        let again = match self.known.get_mut(&number) {
            Some(known) if known.asked != asked => return Judged::Stale("the number was used for something else"),
            Some(Known { state: State::Done(outcome), .. }) => return Judged::Told(outcome.clone()),
            Some(Known { state: State::UnderWay(to, under, _), .. }) => {
                (*to, *under) = (client, seq);
                return Judged::Waits;
            }
            Some(Known { state: State::Unsure, .. }) => true,
            Some(Known { state: State::Refused, .. }) | None => false,
        };
        if self.under_way >= UNDER_WAY {
            return Judged::Busy;
        }
        self.under_way += 1;
        self.known.insert(number, Known { asked, state: State::UnderWay(client, seq, again) });
        self.note(now_ms, number);
        if self.known.len() > KNOWN {
            self.forget();
        }
        if again { Judged::Again(op) } else { Judged::Do(op) }
    }

    /// What became of an act: who is to be told. `None` if it was not under way.
    pub fn end(&mut self, number: u64, outcome: &Outcome) -> Option<(ClientId, u32)> {
        let known = self.known.get_mut(&number)?;
        let State::UnderWay(client, seq, unsure) = known.state else { return None };
        known.state = match outcome {
            Outcome::Refused { code, .. } if code == codes::UNKNOWN => State::Unsure,
            // This says that it was not begun again, and nothing of what was begun before.
            Outcome::Refused { code, .. } if unsure && for_now(code) => State::Unsure,
            Outcome::Refused { .. } => State::Refused,
            done => State::Done(done.clone()),
        };
        self.under_way -= 1;
        Some((client, seq))
    }

    /// Whether it is under way, or may have happened: then nobody may be told that it has not.
    pub fn is_open(&self, number: u64) -> bool {
        let open = |known: &Known| matches!(known.state, State::UnderWay(..) | State::Unsure);
        self.known.get(&number).is_some_and(open)
    }

    fn note(&mut self, now_ms: u64, number: u64) {
        self.highest = self.highest.max(number);
        match self.notes.back_mut() {
            // What stood at the note's time or a little later is as old as the note only when the next one is.
            Some((noted_ms, noted)) if now_ms < *noted_ms + NOTE_MS => *noted = (*noted).max(self.highest),
            _ => self.notes.push_back((now_ms, self.highest)),
        }
    }

    /// Forgets the lowest number that is not under way; it and all below it are too old from now on.
    fn forget(&mut self) {
        let lowest = self.known.iter().find(|(_, known)| !matches!(known.state, State::UnderWay(..)));
        let Some((&number, _)) = lowest else { return };
        self.known.remove(&number);
        self.floor = self.floor.max(number + 1);
    }
}

/// The id of an act of a player.
pub fn operation(player: ObjectId, number: u64) -> OperationId {
    named(b"wildmesh act", &[player.0, number])
}

/// The id of something that a frontend does by itself, from a word and numbers.
pub fn named(word: &[u8], numbers: &[u64]) -> OperationId {
    let mut hash = Sha256::new();
    hash.update(word);
    for number in numbers {
        hash.update(number.to_be_bytes());
    }
    let hash: [u8; 32] = hash.finalize().into();
    OperationId(hash.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)))
}

/// Refusals that are over after a while, and say nothing of what was asked for before.
fn for_now(code: &str) -> bool {
    [codes::UNAVAILABLE, codes::BUSY, codes::TOO_SOON].contains(&code)
}

/// Tells acts apart: a number that comes back asking for something else must not pass for the act it was.
fn digest(act: &Act) -> [u8; 8] {
    let hash: [u8; 32] = Sha256::digest(format!("{act:?}").as_bytes()).into();
    let mut digest = [0; 8];
    digest.copy_from_slice(&hash[..8]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYER: ObjectId = ObjectId(7);
    const EPOCH: u64 = 10;
    const FIRST: u64 = EPOCH << EPOCH_BITS;

    fn operations(floor: u64) -> Operations {
        Operations::new(PLAYER, EPOCH, floor, 0, 1_000)
    }

    fn ask(operations: &mut Operations, now_ms: u64, number: u64) -> Judged {
        operations.ask(now_ms, number, &Act::Claim {}, ClientId(1), 5)
    }

    fn refused(code: &str) -> Outcome {
        Outcome::Refused { code: code.to_owned(), text: String::new(), motion: None }
    }

    #[test]
    fn ids_follow_from_player_and_number_and_from_nothing_else() {
        let hash = Sha256::digest([&b"wildmesh act"[..], &7_u64.to_be_bytes(), &FIRST.to_be_bytes()].concat());
        let expected = u128::from_be_bytes(hash[..16].try_into().unwrap());
        assert_eq!(operation(PLAYER, FIRST), OperationId(expected));
        assert_ne!(operation(PLAYER, FIRST), operation(ObjectId(8), FIRST));
    }

    #[test]
    fn numbers_of_later_claims_and_below_the_floor_are_not_taken() {
        let mut ours = operations(0);
        let stale = |judged: Judged| matches!(judged, Judged::Stale(_));
        assert!(stale(ask(&mut ours, 1_000, (EPOCH + 1) << EPOCH_BITS)), "of the next claim");
        assert!(stale(ask(&mut ours, 1_000, u64::MAX)), "of no claim");
        assert!(stale(ask(&mut ours, 1_000, ((EPOCH - 8) << EPOCH_BITS) - 1)), "of long ago");
        assert!(matches!(ask(&mut ours, 1_000, (EPOCH - 8) << EPOCH_BITS), Judged::Do(_)));
        assert!(stale(ask(&mut operations(FIRST - 3), 1_000, FIRST - 4)), "below the document's floor");
        assert!(stale(ask(&mut ours, 1_000 + EARLIER_MS, FIRST - 1)), "of an earlier claim, a minute later");
        assert!(matches!(ask(&mut ours, 1_000 + EARLIER_MS, FIRST), Judged::Do(_)));
    }

    #[test]
    fn what_documents_may_have_forgotten_is_not_asked_of_them_again() {
        let mut ours = Operations::new(PLAYER, EPOCH, FIRST - 3, REMEMBERED_MS, 1_000);
        assert!(matches!(ask(&mut ours, 1_000, FIRST - 1), Judged::Do(_)), "just remembered");
        assert_eq!(ours.oldest_ms(31_000), REMEMBERED_MS + 30_000, "so a session after this one does not take it");
        let mut ours = Operations::new(PLAYER, EPOCH, FIRST - 3, REMEMBERED_MS + 1, 1_000);
        let judged = ask(&mut ours, 1_000, FIRST - 1);
        assert!(matches!(judged, Judged::Stale(_)), "the player was away for long: {judged:?}");
        assert_eq!(ours.oldest_ms(31_000), 0, "nothing was asked for in this session");
        assert!(matches!(ask(&mut ours, 31_000, FIRST), Judged::Do(_)));
        assert_eq!(ours.oldest_ms(41_000), 10_000);
        assert_eq!(ours.oldest_ms(31_000 + AGAIN_MS), 0, "below the floor by then");
    }

    #[test]
    fn an_act_that_is_asked_for_again_happens_once_and_whoever_asked_last_is_told() {
        let mut ours = operations(0);
        let Judged::Do(op) = ask(&mut ours, 0, FIRST) else { panic!("not taken") };
        assert_eq!(ours.ask(0, FIRST, &Act::Claim {}, ClientId(2), 9), Judged::Waits);
        assert_eq!(ours.end(FIRST, &refused(codes::UNKNOWN)), Some((ClientId(2), 9)));
        assert_eq!(ask(&mut ours, 0, FIRST), Judged::Again(op));
        let done = Outcome::Made { number: 3 };
        assert_eq!(ours.end(FIRST, &done), Some((ClientId(1), 5)));
        assert_eq!(ours.end(FIRST, &done), None, "it ended already");
        assert_eq!(ask(&mut ours, 0, FIRST), Judged::Told(done));
        let other = ours.ask(0, FIRST, &Act::Flee {}, ClientId(1), 6);
        assert!(matches!(other, Judged::Stale(_)), "{other:?}");
        // Who is not told whether the first try was done is not told by a refusal of the second either.
        ask(&mut ours, 0, FIRST + 2);
        ours.end(FIRST + 2, &refused(codes::UNKNOWN));
        assert!(matches!(ask(&mut ours, 0, FIRST + 2), Judged::Again(_)));
        ours.end(FIRST + 2, &refused(codes::UNAVAILABLE));
        assert!(ours.is_open(FIRST + 2), "it may have happened");
        assert!(matches!(ask(&mut ours, 0, FIRST + 2), Judged::Again(_)));
        ours.end(FIRST + 2, &refused(codes::MISSING));
        assert!(!ours.is_open(FIRST + 2));
        // What was refused may be tried anew.
        ask(&mut ours, 0, FIRST + 1);
        ours.end(FIRST + 1, &refused(codes::TOO_FAR));
        assert!(matches!(ask(&mut ours, 0, FIRST + 1), Judged::Do(_)));
    }

    #[test]
    fn few_are_under_way_and_what_is_forgotten_is_never_taken_again() {
        let mut ours = operations(0);
        for number in 0..UNDER_WAY as u64 {
            assert!(matches!(ask(&mut ours, 0, FIRST + number), Judged::Do(_)));
        }
        assert_eq!(ask(&mut ours, 0, FIRST + 100), Judged::Busy);
        for number in 0..1_000 {
            ours.end(FIRST + number, &Outcome::Made { number });
            let judged = ask(&mut ours, 0, FIRST + number + 8);
            assert!(matches!(judged, Judged::Do(_) | Judged::Told(_)), "{number}: {judged:?}");
        }
        assert!(ours.known.len() <= KNOWN + 1 && ours.notes.len() == 1);
        for number in 1..1_000 {
            let judged = ask(&mut ours, 0, FIRST + number);
            assert!(matches!(judged, Judged::Stale(_) | Judged::Told(_)), "{number}: {judged:?}");
        }
    }

    #[test]
    fn after_five_minutes_an_act_is_too_old() {
        let mut ours = operations(0);
        for minute in 0..20_u64 {
            let now = 1_000 + minute * 60_000;
            assert!(matches!(ask(&mut ours, now, FIRST + minute), Judged::Do(_)), "minute {minute}");
            ours.end(FIRST + minute, &refused(codes::TOO_FAR));
        }
        let now = 1_000 + 19 * 60_000;
        assert_eq!(ours.floor(now), FIRST + 15);
        assert!(matches!(ask(&mut ours, now, FIRST + 14), Judged::Stale(_)));
        assert!(matches!(ask(&mut ours, now, FIRST + 15), Judged::Do(_)));
    }
}
