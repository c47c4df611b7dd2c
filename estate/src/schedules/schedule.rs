//! Schedules as text: what happened at each point where something could be chosen, short enough to paste into a test.
//!
//! `a3 b!lose-reply a~ +1 b` reads: driver `a` makes three calls, the reply to `b`'s next one is lost, time passes until
//! the sleeping `a` stirs, the first late write lands, `b` makes a call. Where a text ends, the schedule goes on without
//! faults and without switching needlessly. `alone b: …` leaves the other drivers out. A text NEVER depends on chance.

use std::fmt;
use std::str::FromStr;

/// What happens to one call of a driver, besides being carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The driver dies before it.
    StopBefore,
    /// The driver dies after it was applied.
    StopAfter,
    /// It is applied; the driver is told that it may have been.
    LoseReply,
    /// It is not applied; the driver is told that it may have been.
    LoseRequest,
    /// The driver is told that it may have been applied; it lands (or is refused) at a later point.
    Late,
    /// The same, but it lands only when everybody believes that all is over; then there is another recovery.
    Later,
    /// The store says that it cannot be asked, and that nothing has happened.
    Refuse,
    /// Somebody touches the document just before it is replaced or removed.
    Conflict,
    /// The same before this and the next writes of the driver, [`STORM`] in all.
    Storm,
    /// The request arrives twice; the driver gets the reply to the first.
    Twice,
    /// The driver freezes before it, for longer than anybody's patience.
    PauseBefore,
    /// It is applied, and the driver freezes before it sees the reply.
    PauseAfter,
}

/// How many writes in a row a [`Fault::Storm`] meets. Less than what one change of a document must put up with.
pub const STORM: u32 = 4;

/// What kind of call a fault can happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Read,
    /// A write that does not ask for a version: insert and touch.
    Write,
    /// A write that does: replace and remove.
    Swap,
}

impl Fault {
    /// Every fault, in the order in which a search tries them.
    pub const ALL: [Fault; 12] = [
        Fault::StopBefore,
        Fault::StopAfter,
        Fault::LoseReply,
        Fault::LoseRequest,
        Fault::Late,
        Fault::Later,
        Fault::Refuse,
        Fault::Conflict,
        Fault::Storm,
        Fault::Twice,
        Fault::PauseBefore,
        Fault::PauseAfter,
    ];

    /// Deaths only.
    pub const STOPS: [Fault; 2] = [Fault::StopBefore, Fault::StopAfter];

    /// True if it can happen to a call of this kind. A read whose reply is lost is one that was refused.
    pub(super) fn fits(self, kind: CallKind) -> bool {
        match self {
            Fault::StopBefore | Fault::StopAfter | Fault::Refuse | Fault::PauseBefore | Fault::PauseAfter => true,
            Fault::LoseReply | Fault::LoseRequest | Fault::Late | Fault::Later | Fault::Twice => kind != CallKind::Read,
            Fault::Conflict | Fault::Storm => kind == CallKind::Swap,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Fault::StopBefore => "stop-before",
            Fault::StopAfter => "stop-after",
            Fault::LoseReply => "lose-reply",
            Fault::LoseRequest => "lose-request",
            Fault::Late => "late",
            Fault::Later => "later",
            Fault::Refuse => "refuse",
            Fault::Conflict => "conflict",
            Fault::Storm => "storm",
            Fault::Twice => "twice",
            Fault::PauseBefore => "pause-before",
            Fault::PauseAfter => "pause-after",
        }
    }
}

/// One choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The driver's oldest call that waits goes on, perhaps with a fault.
    Call(usize, Option<Fault>),
    /// Time passes until this sleeping or frozen driver makes a call or ends, though others could go on.
    Wake(usize),
    /// The late write of this number, counted from 1, lands.
    Land(usize),
    /// Nobody can go on: time passes until somebody stirs, and late writes stay late.
    Pass,
}

/// A schedule that can be replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The only driver that runs, if it is not all of them.
    pub(super) alone: Option<usize>,
    pub(super) steps: Vec<Step>,
}

fn letter(driver: usize) -> char {
    // Drivers are few: `Scenario` refuses more than there are letters.
    char::from(b'a' + u8::try_from(driver).unwrap_or(u8::MAX - b'a'))
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Call(driver, None) => write!(f, "{}", letter(*driver)),
            Step::Call(driver, Some(fault)) => write!(f, "{}!{}", letter(*driver), fault.name()),
            Step::Wake(driver) => write!(f, "{}~", letter(*driver)),
            Step::Land(number) => write!(f, "+{number}"),
            Step::Pass => f.write_str("."),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(driver) = self.alone {
            parts.push(format!("alone {}:", letter(driver)));
        }
        for run in self.steps.chunk_by(|one, other| one == other) {
            match (run[0], run.len()) {
                (Step::Call(_, None), count) if count > 1 => parts.push(format!("{}{count}", run[0])),
                (step, count) => parts.extend(std::iter::repeat_n(step.to_string(), count)),
            }
        }
        f.write_str(&parts.join(" "))
    }
}

/// What a text of a schedule stumbles over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a step of a schedule: {0:?}")]
pub struct BadSchedule(String);

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Schedule, BadSchedule> {
        let mut schedule = Schedule::default();
        let mut text = text.trim();
        if let Some((head, rest)) = text.strip_prefix("alone ").and_then(|text| text.split_once(':')) {
            schedule.alone = Some(driver(head.trim()).ok_or_else(|| BadSchedule(head.to_owned()))?);
            text = rest;
        }
        for word in text.split_whitespace() {
            let (step, count) = step(word).ok_or_else(|| BadSchedule(word.to_owned()))?;
            schedule.steps.extend(std::iter::repeat_n(step, count));
        }
        Ok(schedule)
    }
}

fn driver(word: &str) -> Option<usize> {
    match word.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(usize::from(letter - b'a')),
        _ => None,
    }
}

fn step(word: &str) -> Option<(Step, usize)> {
    if word == "." {
        return Some((Step::Pass, 1));
    }
    if let Some(number) = word.strip_prefix('+') {
        return Some((Step::Land(number.parse().ok()?), 1));
    }
    let (first, rest) = word.split_at_checked(1)?;
    let driver = driver(first)?;
    match rest.strip_prefix('!') {
        Some(name) => {
            let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name)?;
            Some((Step::Call(driver, Some(fault)), 1))
        }
        None if rest == "~" => Some((Step::Wake(driver), 1)),
        None if rest.is_empty() => Some((Step::Call(driver, None), 1)),
        None => Some((Step::Call(driver, None), rest.parse().ok().filter(|count| (1..=COUNT_MOST).contains(count))?)),
    }
}

/// The most repetitions that one word may stand for: far beyond any schedule's length.
const COUNT_MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_back_as_it_was_written() {
        let all: Vec<Step> = Fault::ALL.into_iter().map(|fault| Step::Call(1, Some(fault))).collect();
        let mixed = vec![
            Step::Call(0, None),
            Step::Call(0, None),
            Step::Call(0, Some(Fault::Late)),
            Step::Call(0, Some(Fault::Late)),
            Step::Wake(2),
            Step::Land(12),
            Step::Pass,
            Step::Pass,
            Step::Call(1, None),
        ];
        for (alone, steps) in [(None, all), (Some(2), mixed.clone()), (None, Vec::new()), (Some(0), Vec::new())] {
            let schedule = Schedule { alone, steps };
            assert_eq!(schedule.to_string().parse(), Ok(schedule.clone()), "{schedule}");
        }
        assert_eq!(Schedule { alone: None, steps: mixed }.to_string(), "a2 a!late a!late c~ +12 . . b");
    }

    #[test]
    fn what_is_no_schedule_is_refused_by_the_word() {
        for (text, word) in [
            ("a b?", "b?"),
            ("A", "A"),
            ("a!slow", "a!slow"),
            ("a0", "a0"),
            ("a10001", "a10001"),
            ("+x", "+x"),
            ("alone ab: a", "ab"),
            ("ä", "ä"),
        ] {
            assert_eq!(text.parse::<Schedule>(), Err(BadSchedule(word.to_owned())), "{text}");
        }
    }
}
