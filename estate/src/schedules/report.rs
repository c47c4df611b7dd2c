//! What an exploration tells: counts of what was tried, or the schedule that failed.
//!
//! Counts are of distinct schedules within one search; those drawn at random may repeat others. A failure's text NEVER
//! needs more than the scenario's source to be repeated.

use std::fmt;

use super::schedule::{Fault, Schedule, Step};

/// What was tried. Every schedule is counted once in [`Report::schedules`]; the other counts overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The scenario.
    pub name: String,
    /// Schedules.
    pub schedules: u64,
    /// Choices made in all of them.
    pub points: u64,
    /// Schedules of one driver alone.
    pub alone: u64,
    /// Schedules in which a driver took the turn from another that could have gone on.
    pub interleaved: u64,
    /// Every interleaving without faults was tried.
    pub every_interleaving: bool,
    /// The most preemptions up to which every interleaving without faults was tried.
    pub preemptions: Option<u32>,
    /// Schedules in which a driver died.
    pub stopped: u64,
    /// Schedules in which a request or reply was lost.
    pub lost: u64,
    /// Schedules in which a write landed late.
    pub late: u64,
    /// Schedules in which the store refused a call.
    pub refused: u64,
    /// Schedules in which others kept changing a document.
    pub stormy: u64,
    /// Schedules in which a request arrived twice.
    pub doubled: u64,
    /// Schedules in which a driver froze.
    pub paused: u64,
    /// Schedules drawn at random.
    pub random: u64,
    /// The seed of the first of those.
    pub seed: u64,
    /// Searches that ended at [`super::Bounds::schedules`] before they had tried all.
    pub cut: Vec<String>,
}

impl Report {
    pub(super) fn count(&mut self, schedule: &Schedule, preemptions: u32) {
        let met = |faults: &[Fault]| {
            let meets = |step: &Step| matches!(step, Step::Call(_, Some(fault)) if faults.contains(fault));
            u64::from(schedule.steps.iter().any(meets))
        };
        self.schedules += 1;
        self.points += schedule.steps.len() as u64;
        self.alone += u64::from(schedule.alone.is_some());
        self.interleaved += u64::from(preemptions > 0);
        self.stopped += met(&[Fault::StopBefore, Fault::StopAfter]);
        self.lost += met(&[Fault::LoseReply, Fault::LoseRequest]);
        self.late += met(&[Fault::Late, Fault::Later]);
        self.refused += met(&[Fault::Refuse]);
        self.stormy += met(&[Fault::Conflict, Fault::Storm]);
        self.doubled += met(&[Fault::Twice]);
        self.paused += met(&[Fault::PauseBefore, Fault::PauseAfter]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} schedules, {} points; ", self.name, self.schedules, self.points)?;
        write!(f, "alone {}, interleaved {}", self.alone, self.interleaved)?;
        match self.preemptions {
            _ if self.every_interleaving => f.write_str(" (all without faults)")?,
            Some(preemptions) => write!(f, " (without faults all up to {preemptions} preemptions)")?,
            None => {}
        }
        write!(f, ", stopped {}, lost {}, late {}", self.stopped, self.lost, self.late)?;
        write!(f, ", refused {}, stormy {}, doubled {}", self.refused, self.stormy, self.doubled)?;
        write!(f, ", paused {}, random {} from seed {}", self.paused, self.random, self.seed)?;
        match self.cut.as_slice() {
            [] => Ok(()),
            cut => write!(f, "; cut off: {}", cut.join(", ")),
        }
    }
}

/// A schedule under which the check did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The scenario.
    pub name: String,
    /// The schedule, for [`super::replay`].
    pub schedule: String,
    /// The seed it was drawn from, if it was. It has been shortened since.
    pub seed: Option<u64>,
    /// What the check said.
    pub said: String,
    /// What happened, call by call, and what was left.
    pub trace: Vec<String>,
    /// How many schedules had been run before.
    pub after: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.said)?;
        write!(f, "  after {} schedules, by replay(&scenario, {:?})", self.after, self.schedule)?;
        if let Some(seed) = self.seed {
            write!(f, ", drawn from seed {seed}")?;
        }
        for line in &self.trace {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
