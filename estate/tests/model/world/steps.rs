//! The steps of the model: what each driver does where it is, one call of the store at a time.

use super::{Action, Arbiter, At, DRIVERS, Fate, Late, PARTS, READER, Task, World, part_at};
use crate::{Flaw, Protocol};

impl World {
    pub(crate) fn take(&mut self, protocol: &Protocol, action: Action) {
        match action {
            Action::Step(driver, fate) => {
                self.calm &= fate == Fate::Good;
                self.drivers[driver] = self.step(protocol, driver, fate);
            }
            Action::ReadPart(part) => {
                if let Some(other) = self.parts[part].intent {
                    self.drivers[READER] = At::Met { place: part, other };
                }
            }
            Action::ReadArbiter(tx) => self.drivers[READER] = self.meet(0, tx, false),
            Action::LosePatience(driver) => {
                self.calm = false;
                self.lose_patience(driver);
            }
            Action::TimePasses => (0..DRIVERS).for_each(|driver| self.lose_patience(driver)),
            Action::Yield(driver) => {
                self.told[driver] = Some(false);
                self.drivers[driver] = At::GiveUp;
            }
            Action::Land => self.land(),
            Action::Die(driver) => {
                self.calm &= driver == READER;
                self.drivers[driver] = At::Dead;
            }
        }
        // What can no longer be made is as good as gone.
        if let Some(Late::Arbiter { tx, from, .. }) = self.late
            && self.arbiters[tx] != from
        {
            self.late = None;
        }
    }

    fn lose_patience(&mut self, driver: usize) {
        if let At::Wait { place, other } = self.drivers[driver] {
            self.drivers[driver] = At::Impatient { place, other };
        }
    }

    /// Where a driver is after its next step.
    fn step(&mut self, protocol: &Protocol, driver: usize, fate: Fate) -> At {
        let sure = fate == Fate::Good;
        match self.drivers[driver] {
            At::Begin => {
                let from = match self.arbiters[driver] {
                    Arbiter::Aborted if protocol.flaw == Some(Flaw::SameToken) => Arbiter::Aborted,
                    _ => Arbiter::Missing,
                };
                self.decide(driver, fate, from, Arbiter::Pending);
                if sure { At::Look(0) } else { At::ReadBack }
            }
            At::ReadBack => match self.arbiters[driver] {
                Arbiter::Pending => At::Look(0),
                Arbiter::Missing | Arbiter::Aborted if protocol.flaw == Some(Flaw::SameToken) => At::Begin,
                // This attempt is over; another would have another token.
                _ => self.tell(driver, false),
            },
            At::Look(place) => match self.parts[part_at(protocol, driver, place)].intent {
                None => At::Mark { place, fresh: true },
                Some(tx) if tx == driver => self.marked(place),
                Some(other) => At::Met { place, other },
            },
            At::Mark { place, fresh } => {
                let part = part_at(protocol, driver, place);
                let made = fresh && self.swap(driver, fate, Late::Mark { tx: driver, part });
                if sure && made { self.marked(place) } else { At::Look(place) }
            }
            At::Met { place, other } => self.meet(place, other, driver != READER),
            At::Wait { place, .. } => self.resume(driver, Some(place)),
            At::Impatient { place, other } => self.abort_other(protocol, driver, place, other, fate),
            At::Commit => self.commit(protocol, driver, fate),
            At::GiveUp => {
                self.decide(driver, fate, Arbiter::Pending, aborted(protocol));
                let task = Task { tx: driver, back: None };
                if sure { At::LookToClear { task, part: 0 } } else { At::GiveUp }
            }
            At::LookToApply { task, part } => {
                let stands = self.parts[part].intent == Some(task.tx) || protocol.flaw == Some(Flaw::NoPresence);
                if stands { At::Apply { task, part, fresh: true } } else { applied(task, part) }
            }
            At::Apply { task, part, fresh } => {
                let made = fresh && self.swap(driver, fate, Late::Apply { tx: task.tx, part });
                if sure && made { applied(task, part) } else { At::LookToApply { task, part } }
            }
            At::Close(task) => {
                self.helped |= self.arbiters[task.tx] == Arbiter::Committed && task.tx != driver;
                self.decide(task.tx, fate, Arbiter::Committed, Arbiter::Done);
                if sure { self.resume(driver, task.back) } else { At::Close(task) }
            }
            At::LookToClear { task, part } => {
                let stands = self.parts[part].intent == Some(task.tx);
                if stands { At::Clear { task, part, fresh: true } } else { self.cleared(driver, task, part) }
            }
            At::Clear { task, part, fresh } => {
                let made = fresh && self.swap(driver, fate, Late::Clear { tx: task.tx, part });
                if sure && made { self.cleared(driver, task, part) } else { At::LookToClear { task, part } }
            }
            over @ (At::Ended | At::Dead) => over,
        }
    }

    fn marked(&self, place: usize) -> At {
        if place + 1 < PARTS { At::Look(place + 1) } else { At::Commit }
    }

    /// What one does who has met a transaction and reads its arbiter.
    fn meet(&self, place: usize, other: usize, drives: bool) -> At {
        let task = Task { tx: other, back: Some(place) };
        match self.arbiters[other] {
            Arbiter::Pending => At::Wait { place, other },
            Arbiter::Committed => At::LookToApply { task, part: 0 },
            // A reader that came by the arbiter finds nothing there to do.
            Arbiter::Missing | Arbiter::Done if !drives && self.drivers[READER] == At::Begin => At::Begin,
            Arbiter::Missing | Arbiter::Aborted | Arbiter::Done => At::LookToClear { task, part: 0 },
        }
    }

    fn abort_other(&mut self, protocol: &Protocol, driver: usize, place: usize, other: usize, fate: Fate) -> At {
        let task = Task { tx: other, back: Some(place) };
        self.hindered |= self.arbiters[other] == Arbiter::Pending && fate != Fate::Late;
        self.decide(other, fate, Arbiter::Pending, aborted(protocol));
        match self.arbiters[other] {
            _ if fate != Fate::Good => At::Impatient { place, other },
            Arbiter::Committed if protocol.flaw != Some(Flaw::StaleLook) => At::LookToApply { task, part: 0 },
            Arbiter::Done if protocol.flaw != Some(Flaw::StaleLook) => self.resume(driver, Some(place)),
            _ => At::LookToClear { task, part: 0 },
        }
    }

    fn commit(&mut self, protocol: &Protocol, driver: usize, fate: Fate) -> At {
        let from = match self.arbiters[driver] {
            state @ (Arbiter::Aborted | Arbiter::Missing) if protocol.flaw == Some(Flaw::NoFencing) => state,
            _ => Arbiter::Pending,
        };
        self.decide(driver, fate, from, Arbiter::Committed);
        let task = Task { tx: driver, back: None };
        match self.arbiters[driver] {
            _ if fate != Fate::Good => At::Commit,
            Arbiter::Committed | Arbiter::Done => {
                self.told[driver] = Some(true);
                At::LookToApply { task, part: 0 }
            }
            _ => {
                self.told[driver] = Some(false);
                At::LookToClear { task, part: 0 }
            }
        }
    }

    fn tell(&mut self, driver: usize, committed: bool) -> At {
        self.told[driver] = Some(committed);
        At::Ended
    }

    fn cleared(&self, driver: usize, task: Task, part: usize) -> At {
        if part + 1 < PARTS { At::LookToClear { task, part: part + 1 } } else { self.resume(driver, task.back) }
    }

    /// Where a driver goes on after it has settled something.
    fn resume(&self, driver: usize, back: Option<usize>) -> At {
        match back {
            None => At::Ended,
            Some(_) if driver == READER => At::Begin,
            Some(place) => At::Look(place),
        }
    }

    /// Compare-and-swap of an arbiter.
    fn decide(&mut self, tx: usize, fate: Fate, from: Arbiter, to: Arbiter) {
        match fate {
            _ if self.arbiters[tx] != from => {}
            Fate::Good | Fate::ReplyLost => self.arbiters[tx] = to,
            Fate::RequestLost => {}
            Fate::Late => self.late = Some(Late::Arbiter { tx, from, to }),
        }
    }

    /// Compare-and-swap of a participant that nobody has written since it was read; true if it was made now.
    fn swap(&mut self, driver: usize, fate: Fate, write: Late) -> bool {
        match fate {
            Fate::Good | Fate::ReplyLost => {
                self.write(driver, write);
                true
            }
            Fate::RequestLost => false,
            Fate::Late => {
                self.late = Some(write);
                false
            }
        }
    }

    fn write(&mut self, driver: usize, write: Late) {
        let part = match write {
            Late::Mark { tx, part } => {
                self.parts[part].intent = Some(tx);
                part
            }
            Late::Apply { tx, part } => {
                self.parts[part].intent = None;
                self.parts[part].applied[tx] = (self.parts[part].applied[tx] + 1).min(2);
                part
            }
            Late::Clear { part, .. } => {
                self.parts[part].intent = None;
                part
            }
            Late::Arbiter { tx, to, .. } => {
                self.arbiters[tx] = to;
                return;
            }
        };
        self.outdate(driver, part);
    }

    /// Nobody's reading of this participant is fresh any more.
    fn outdate(&mut self, writer: usize, written: usize) {
        for (driver, at) in self.drivers.iter_mut().enumerate() {
            match at {
                // Both orders of marking go through the participants by their places.
                At::Mark { fresh, .. } if driver != writer => *fresh = false,
                At::Apply { part, fresh, .. } | At::Clear { part, fresh, .. } if *part == written => *fresh = false,
                _ => {}
            }
        }
        let late = match self.late {
            Some(Late::Mark { part, .. } | Late::Apply { part, .. } | Late::Clear { part, .. }) => part == written,
            _ => false,
        };
        if late {
            self.late = None;
        }
    }

    pub(crate) fn land(&mut self) {
        if let Some(write) = self.late.take() {
            self.write(DRIVERS, write);
        }
    }
}

fn aborted(protocol: &Protocol) -> Arbiter {
    if protocol.ledger { Arbiter::Missing } else { Arbiter::Aborted }
}

fn applied(task: Task, part: usize) -> At {
    if part + 1 < PARTS { At::LookToApply { task, part: part + 1 } } else { At::Close(task) }
}
