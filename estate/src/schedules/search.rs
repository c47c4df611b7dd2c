//! Who chooses: a walk through all schedules within a budget, a seeded walk at random, a replay.
//!
//! The walk through all is depth first by replay: a schedule is run from its beginning with the choices of the former
//! one up to the last point at which something else could still be chosen. Bounding the preemptions rather than the
//! length is the idea of CHESS (Musuvathi and Qadeer, 2007): most faults need very few. It NEVER tries a schedule twice
//! within one walk.

use super::run::{Choice, Strategy};
use super::schedule::{Fault, Step};

const UNREPEATABLE: &str = "the scenario is not repeatable: the same choices led to another point";

/// What a walk may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) preemptions: u32,
    pub(super) faults: u32,
}

/// A point of the schedule that a walk is at.
#[derive(Clone, Copy, Debug)]
struct Frame {
    chosen: usize,
    count: usize,
    step: Step,
}

/// All schedules within a budget, one after the other.
pub(super) struct Walk<'a> {
    faults: &'a [Fault],
    budget: Budget,
    frames: Vec<Frame>,
    depth: usize,
    left: Budget,
}

impl<'a> Walk<'a> {
    pub(super) fn new(faults: &'a [Fault], budget: Budget) -> Walk<'a> {
        Walk { faults, budget, frames: Vec::new(), depth: 0, left: budget }
    }

    /// What the schedule just run has spent.
    pub(super) fn spent(&self) -> Budget {
        Budget {
            preemptions: self.budget.preemptions - self.left.preemptions,
            faults: self.budget.faults - self.left.faults,
        }
    }

    /// Goes to the next schedule; false if there is none. An error if the last run did not get to where it branched off.
    pub(super) fn next(&mut self) -> Result<bool, String> {
        if self.depth < self.frames.len() {
            return Err(UNREPEATABLE.to_owned());
        }
        Ok(self.advance())
    }

    fn advance(&mut self) -> bool {
        (self.depth, self.left) = (0, self.budget);
        while let Some(frame) = self.frames.last_mut() {
            if frame.chosen + 1 < frame.count {
                frame.chosen += 1;
                return true;
            }
            self.frames.pop();
        }
        false
    }

    /// The steps that can be paid for, the one that costs nothing first.
    fn affordable(&self, choices: &[Choice]) -> Vec<(Step, Budget)> {
        let mut steps = Vec::with_capacity(choices.len());
        for choice in choices {
            let preemptions = u32::from(choice.preempts);
            if preemptions > self.left.preemptions {
                continue;
            }
            steps.push((choice.step, Budget { preemptions, faults: 0 }));
            let (Step::Call(driver, _), Some(kind), 1..) = (choice.step, choice.kind, self.left.faults) else {
                continue;
            };
            let fitting = self.faults.iter().filter(|fault| fault.fits(kind));
            steps.extend(fitting.map(|fault| (Step::Call(driver, Some(*fault)), Budget { preemptions, faults: 1 })));
        }
        steps
    }
}

impl Strategy for Walk<'_> {
    fn choose(&mut self, choices: &[Choice]) -> Result<Step, String> {
        let steps = self.affordable(choices);
        let Some((first, _)) = steps.first() else { return Err("nothing to choose from".to_owned()) };
        if self.depth == self.frames.len() {
            self.frames.push(Frame { chosen: 0, count: steps.len(), step: *first });
        }
        let again = self.depth + 1 < self.frames.len();
        let frame = &mut self.frames[self.depth];
        let (step, cost) = steps[frame.chosen.min(steps.len() - 1)];
        if frame.count != steps.len() || (again && frame.step != step) {
            return Err(UNREPEATABLE.to_owned());
        }
        frame.step = step;
        self.depth += 1;
        self.left.preemptions -= cost.preemptions;
        self.left.faults -= cost.faults;
        Ok(step)
    }
}

/// Chance in units of 1/1,024.
const CHANCE: u64 = 1_024;
/// The most faults of one schedule drawn at random: with more, nothing ever succeeds.
const FAULTS_DRAWN_MOST: u32 = 6;

/// A schedule drawn from a seed: how often it switches and how often calls go wrong is drawn as well.
pub(super) struct Chance<'a> {
    faults: &'a [Fault],
    faults_left: u32,
    random: u64,
    switching: u64,
    failing: u64,
}

impl<'a> Chance<'a> {
    pub(super) fn new(faults: &'a [Fault], seed: u64) -> Chance<'a> {
        let mut chance = Chance { faults, faults_left: FAULTS_DRAWN_MOST, random: seed, switching: 0, failing: 0 };
        chance.switching = CHANCE >> (1 + chance.draw() % 4);
        chance.failing = [0, CHANCE / 64, CHANCE / 16, CHANCE / 6][chance.below(4)];
        chance
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to choose schedules.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        // Lossless: the rest is below `bound`.
        (self.draw() % bound.max(1) as u64) as usize
    }

    fn happens(&mut self, chance: u64) -> bool {
        self.draw() % CHANCE < chance
    }
}

impl Strategy for Chance<'_> {
    fn choose(&mut self, choices: &[Choice]) -> Result<Step, String> {
        let other = choices.len() > 1 && self.happens(self.switching);
        let index = if other { self.below(choices.len()) } else { 0 };
        let choice = choices[index];
        let (Step::Call(driver, _), Some(kind)) = (choice.step, choice.kind) else { return Ok(choice.step) };
        if self.faults_left == 0 || !self.happens(self.failing) {
            return Ok(choice.step);
        }
        let fitting: Vec<Fault> = self.faults.iter().copied().filter(|fault| fault.fits(kind)).collect();
        if fitting.is_empty() {
            return Ok(choice.step);
        }
        self.faults_left -= 1;
        let fault = fitting[self.below(fitting.len())];
        Ok(Step::Call(driver, Some(fault)))
    }
}

/// The choices of a text, then those that cost nothing.
pub(super) struct Replay<'a> {
    steps: std::slice::Iter<'a, Step>,
    /// The first step that could not be taken.
    pub(super) misfit: Option<Step>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(steps: &'a [Step]) -> Replay<'a> {
        Replay { steps: steps.iter(), misfit: None }
    }

    /// The choices that were not needed, because all had ended.
    pub(super) fn rest(&self) -> usize {
        self.steps.len()
    }
}

impl Strategy for Replay<'_> {
    fn choose(&mut self, choices: &[Choice]) -> Result<Step, String> {
        let Some(step) = self.steps.next() else { return Ok(choices[0].step) };
        let fits = |choice: &Choice| match (*step, choice.step) {
            (Step::Call(driver, Some(fault)), Step::Call(other, _)) => {
                driver == other && choice.kind.is_some_and(|kind| fault.fits(kind))
            }
            (step, other) => step == other,
        };
        if choices.iter().any(fits) {
            return Ok(*step);
        }
        self.misfit = Some(*step);
        let possible: Vec<String> = choices.iter().map(|choice| choice.step.to_string()).collect();
        Err(format!("the schedule does not fit: {step} is not possible, but {}", possible.join(", ")))
    }
}

/// The choices of a text, then somebody else's.
pub(super) struct After<'a> {
    pub(super) first: Replay<'a>,
    pub(super) then: &'a mut dyn Strategy,
}

impl Strategy for After<'_> {
    fn choose(&mut self, choices: &[Choice]) -> Result<Step, String> {
        if self.first.rest() > 0 { self.first.choose(choices) } else { self.then.choose(choices) }
    }
}
