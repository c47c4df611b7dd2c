//! The state of the model, what must hold in it, and what may happen next.
//!
//! A compare-and-swap needs no versions here: who has read a document remembers that nobody has written it since
//! (`fresh`), and every write makes the others' memories stale. An arbiter's decisions never return to a former state, so
//! that its state is its version.

use std::fmt::Write as _;

use stateright::Path;

use super::{Flaw, Protocol};

mod steps;

pub(super) const LEFT_OVER: &str = "something is left pending, committed or marked";
pub(super) const HALF: &str = "a transaction happened to one participant and not to the other";
pub(super) const UNTRUE: &str = "what was told is not true";

/// More than it takes to settle one transaction.
const STEPS_OF_A_READER: usize = 32;

const TRANSACTIONS: usize = 2;
const PARTS: usize = 2;
/// The driver that only settles what it meets.
const READER: usize = TRANSACTIONS;
const DRIVERS: usize = TRANSACTIONS + 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Arbiter {
    /// Not there: not yet, or (in a ledger) aborted.
    #[default]
    Missing,
    Pending,
    Committed,
    Aborted,
    /// Applied everywhere; kept, or remembered, for those who ask again.
    Done,
}

/// A participant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Part {
    /// The transaction that has marked it.
    intent: Option<usize>,
    /// How often each transaction's effect was applied.
    applied: [u8; TRANSACTIONS],
}

/// What a driver settles: a transaction, and where it goes on afterwards (`None`: this is its own, and its end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    tx: usize,
    back: Option<usize>,
}

/// Where a driver is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// About to write its arbiter; the reader: at rest.
    #[default]
    Begin,
    /// Does not know whether its arbiter was written.
    ReadBack,
    /// About to read the participant at this place of its order.
    Look(usize),
    /// Has found it unmarked, about to mark it.
    Mark {
        place: usize,
        fresh: bool,
    },
    /// Has found another's intent there, about to read that one's arbiter.
    Met {
        place: usize,
        other: usize,
    },
    /// Has seen it pending.
    Wait {
        place: usize,
        other: usize,
    },
    /// Has lost patience with it.
    Impatient {
        place: usize,
        other: usize,
    },
    Commit,
    /// About to read a participant to apply the effect there, then to write it.
    LookToApply {
        task: Task,
        part: usize,
    },
    Apply {
        task: Task,
        part: usize,
        fresh: bool,
    },
    Close(Task),
    /// About to abort its own.
    GiveUp,
    /// About to read a participant to clear it, then to write it.
    LookToClear {
        task: Task,
        part: usize,
    },
    Clear {
        task: Task,
        part: usize,
        fresh: bool,
    },
    Ended,
    Dead,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is made and answered; so is every read.
    Good,
    /// It is made, but its driver does not know.
    ReplyLost,
    /// It is not made, and its driver does not know.
    RequestLost,
    /// The same, but it is made later, if it still can be.
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Step(usize, Fate),
    /// The reader looks at a participant, or at an arbiter as whoever uses its ledger does.
    ReadPart(usize),
    ReadArbiter(usize),
    /// Patience runs out for one who waits.
    LosePatience(usize),
    /// Patience runs out for all who wait, because nobody can go on.
    TimePasses,
    /// A driver that has lost patience gives up its own transaction.
    Yield(usize),
    Land,
    Die(usize),
}

/// A write under way whose driver no longer listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Late {
    Mark { tx: usize, part: usize },
    Apply { tx: usize, part: usize },
    Clear { tx: usize, part: usize },
    Arbiter { tx: usize, from: Arbiter, to: Arbiter },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    arbiters: [Arbiter; TRANSACTIONS],
    parts: [Part; PARTS],
    drivers: [At; DRIVERS],
    /// What each transaction's client was told: that it is committed, or that it is not.
    told: [Option<bool>; TRANSACTIONS],
    late: Option<Late>,
    /// Nobody has died, been slow or lost a reply so far.
    pub(super) calm: bool,
    /// Somebody else than its driver has closed or aborted a transaction.
    helped: bool,
    hindered: bool,
}

impl Default for World {
    fn default() -> World {
        World {
            arbiters: Default::default(),
            parts: Default::default(),
            drivers: Default::default(),
            told: Default::default(),
            late: None,
            calm: true,
            helped: false,
            hindered: false,
        }
    }
}

/// What must hold.
impl World {
    /// What is wrong, if something is, when all drivers have died now and one reader has seen to everything: by the
    /// protocol's own steps, as the rest.
    pub(super) fn wrong_in_the_end(&self, protocol: &Protocol) -> Option<&'static str> {
        let mut world = self.clone();
        world.late = None;
        world.recover(protocol);
        let mut wrong = world.wrong();
        if wrong.is_none() && self.late.is_some() {
            // The write lands when all seems over, and there is another reading.
            world.late = self.late.filter(|late| self.could_land(*late, &world));
            world.land();
            world.recover(protocol);
            wrong = world.wrong();
        }
        wrong
    }

    fn wrong(&self) -> Option<&'static str> {
        let over = |arbiter: &Arbiter| !matches!(arbiter, Arbiter::Pending | Arbiter::Committed);
        let clear = self.arbiters.iter().all(over) && self.parts.iter().all(|part| part.intent.is_none());
        let happened = |tx: usize| self.arbiters[tx] == Arbiter::Done;
        let whole = |tx: usize| self.parts.iter().all(|part| part.applied[tx] == u8::from(happened(tx)));
        if !clear {
            return Some(LEFT_OVER);
        }
        if !(0..TRANSACTIONS).all(whole) {
            return Some(HALF);
        }
        let untrue = |tx: usize| self.told[tx].is_some_and(|told| told != happened(tx));
        (0..TRANSACTIONS).any(untrue).then_some(UNTRUE)
    }

    /// A new reader reads everything once, and settles what it meets.
    fn recover(&mut self, protocol: &Protocol) {
        self.drivers = [At::Dead; DRIVERS];
        self.drivers[READER] = At::Begin;
        let readings = (0..PARTS).map(Action::ReadPart).chain((0..TRANSACTIONS).map(Action::ReadArbiter));
        for reading in readings {
            self.take(protocol, reading);
            for _ in 0..STEPS_OF_A_READER {
                match self.drivers[READER] {
                    At::Begin => break,
                    At::Wait { .. } => self.take(protocol, Action::LosePatience(READER)),
                    _ => self.take(protocol, Action::Step(READER, Fate::Good)),
                }
            }
        }
    }

    /// True if a write under way here is still possible there, where only others have written since.
    fn could_land(&self, late: Late, there: &World) -> bool {
        match late {
            Late::Arbiter { tx, from, .. } => there.arbiters[tx] == from,
            Late::Mark { part, .. } | Late::Apply { part, .. } | Late::Clear { part, .. } => {
                there.parts[part] == self.parts[part]
            }
        }
    }

    pub(super) fn never_twice(&self) -> bool {
        self.parts.iter().all(|part| part.applied.iter().all(|times| *times <= 1))
    }

    pub(super) fn both_told_aborted(&self) -> bool {
        self.told == [Some(false); TRANSACTIONS]
    }

    pub(super) fn all_committed(&self) -> bool {
        self.told == [Some(true); TRANSACTIONS] && self.arbiters == [Arbiter::Done; TRANSACTIONS]
    }

    pub(super) fn helped(&self) -> bool {
        self.helped && (0..TRANSACTIONS).any(|tx| self.drivers[tx] == At::Dead && self.arbiters[tx] == Arbiter::Done)
    }

    pub(super) fn hindered(&self) -> bool {
        self.hindered && self.told.contains(&Some(false))
    }
}

/// What may happen.
impl World {
    pub(super) fn actions(&self, protocol: &Protocol, actions: &mut Vec<Action>) {
        for driver in 0..DRIVERS {
            self.driver_actions(protocol, driver, actions);
        }
        if self.late.is_some() {
            actions.push(Action::Land);
        }
        if self.nobody_can_go_on(protocol) {
            actions.push(Action::TimePasses);
        }
    }

    fn driver_actions(&self, protocol: &Protocol, driver: usize, actions: &mut Vec<Action>) {
        let at = self.drivers[driver];
        match at {
            At::Ended | At::Dead => return,
            At::Begin if driver == READER => {
                actions.extend((0..PARTS).map(Action::ReadPart));
                actions.extend((0..TRANSACTIONS).map(Action::ReadArbiter));
                // A reader that dies at rest leaves nothing that one which never reads again does not leave.
                return;
            }
            At::Wait { .. } => actions.extend([Action::Step(driver, Fate::Good), Action::LosePatience(driver)]),
            _ => actions.push(Action::Step(driver, Fate::Good)),
        }
        if matches!(at, At::Impatient { .. }) && driver != READER {
            actions.push(Action::Yield(driver));
        }
        if at.writes() {
            actions.push(Action::Step(driver, Fate::ReplyLost));
            if matches!(at, At::Begin) {
                actions.push(Action::Step(driver, Fate::RequestLost));
            }
            if protocol.late && self.late.is_none() {
                actions.push(Action::Step(driver, Fate::Late));
            }
        }
        actions.push(Action::Die(driver));
    }

    /// True if every transaction's driver has ended or waits for one that waits.
    fn nobody_can_go_on(&self, protocol: &Protocol) -> bool {
        let mut waiting = 0;
        for driver in 0..TRANSACTIONS {
            match self.drivers[driver] {
                At::Ended | At::Dead => {}
                At::Wait { place, other } => {
                    let held = self.parts[part_at(protocol, driver, place)].intent == Some(other);
                    if !held || self.arbiters[other] != Arbiter::Pending {
                        return false;
                    }
                    waiting += 1;
                }
                _ => return false,
            }
        }
        waiting > 0
    }
}

impl At {
    fn writes(self) -> bool {
        match self {
            At::Begin
            | At::Mark { .. }
            | At::Impatient { .. }
            | At::Commit
            | At::Apply { .. }
            | At::Close(_)
            | At::GiveUp
            | At::Clear { .. } => true,
            At::ReadBack
            | At::Look(_)
            | At::Met { .. }
            | At::Wait { .. }
            | At::LookToApply { .. }
            | At::LookToClear { .. }
            | At::Ended
            | At::Dead => false,
        }
    }
}

/// The participant at a place of a driver's order.
fn part_at(protocol: &Protocol, driver: usize, place: usize) -> usize {
    match driver {
        1 if protocol.flaw == Some(Flaw::NoOrder) => PARTS - 1 - place,
        _ => place,
    }
}

/// The steps of a path, one a line.
pub(super) fn told(path: Path<World, Action>) -> String {
    let mut text = String::new();
    for (world, action) in path.into_vec() {
        let (arbiters, parts) = (&world.arbiters, &world.parts);
        let marks: Vec<String> = parts.iter().map(|part| format!("{:?} {:?}", part.intent, part.applied)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {arbiters:?} {} told {:?}", marks.join(", "), world.told);
        if let Some(action) = action {
            let at = match action {
                Action::Step(driver, _) | Action::Yield(driver) => format!(" at {:?}", world.drivers[driver]),
                _ => String::new(),
            };
            let _ = writeln!(text, "  {action:?}{at}");
        }
    }
    text
}
