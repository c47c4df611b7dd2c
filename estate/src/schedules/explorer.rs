//! Explores: the searches in their order, shortening what fails, replaying.
//!
//! One runtime on the caller's thread serves all runs of an exploration. It MUST NOT be called from within another one,
//! so tests of schedules are plain `#[test]`s.

use tokio::runtime::{Builder, Runtime};

use super::report::{Failure, Report};
use super::run::{Ran, Strategy, run};
use super::schedule::{Schedule, Step};
use super::search::{After, Budget, Chance, Replay, Walk};
use super::{Bounds, DRIVERS_MOST, Scenario};

/// The most runs spent on shortening a schedule that failed.
const SHORTENING_RUNS: u32 = 2_000;

/// Tries a scenario under every schedule within the bounds, and under some at random.
///
/// # Panics
/// At the first schedule that fails, with the text that repeats it; if the scenario has no driver or check; within a
/// runtime.
pub fn explore<T: 'static>(scenario: &Scenario<T>, bounds: &Bounds) -> Report {
    find_fault(scenario, bounds).unwrap_or_else(|failure| panic!("{failure}"))
}

/// The same, but a schedule that fails is given back: for scenarios with a fault planted.
///
/// # Panics
/// If the scenario has no driver or check; if [`Bounds::after`] is no schedule; within a runtime.
pub fn find_fault<T: 'static>(scenario: &Scenario<T>, bounds: &Bounds) -> Result<Report, Box<Failure>> {
    let mut explorer = Explorer::new(scenario, bounds);
    let begins = !bounds.after.is_empty();
    for driver in (0..scenario.drivers.len()).filter(|_| !begins) {
        for faults in 0..=bounds.faults_alone {
            explorer.walk(Some(driver), Budget { preemptions: 0, faults })?;
        }
    }
    if begins || scenario.drivers.len() > 1 {
        explorer.interleave()?;
        for faults in 1..=bounds.faults_together {
            for preemptions in 0..=bounds.preemptions_with_fault {
                explorer.walk(None, Budget { preemptions, faults })?;
            }
        }
    }
    for seed in (0..bounds.random).map(|number| bounds.seed.wrapping_add(number)) {
        explorer.draw(seed)?;
    }
    Ok(explorer.report)
}

/// Runs a scenario under one schedule: the text of a [`Failure`], or a hand-written one. Gives what happened.
///
/// # Panics
/// If the text is no schedule, or none of this scenario; if the scenario has no driver or check; within a runtime.
pub fn replay<T: 'static>(
    scenario: &Scenario<T>,
    bounds: &Bounds,
    schedule: &str,
) -> Result<Vec<String>, Box<Failure>> {
    let explorer = Explorer::new(scenario, bounds);
    let schedule: Schedule = schedule.parse().unwrap_or_else(|error| panic!("{schedule:?}: {error}"));
    let mut steps = Replay::new(&schedule.steps);
    let ran = explorer.run(schedule.alone, true, &mut steps);
    assert!(steps.misfit.is_none(), "{}: {:?}", scenario.name, ran.verdict);
    assert_eq!(steps.rest(), 0, "{}: all had ended before the last steps of {schedule}", scenario.name);
    match ran.verdict {
        Ok(()) => Ok(ran.trace),
        Err(said) => Err(Box::new(explorer.failure(schedule.to_string(), None, said, ran.trace))),
    }
}

struct Explorer<'a, T> {
    scenario: &'a Scenario<T>,
    bounds: &'a Bounds,
    runtime: Runtime,
    after: Schedule,
    report: Report,
    runs: u64,
}

/// What one walk did.
struct Walked {
    /// Schedules that spent the whole budget.
    counted: u64,
    complete: bool,
}

impl<'a, T: 'static> Explorer<'a, T> {
    fn new(scenario: &'a Scenario<T>, bounds: &'a Bounds) -> Explorer<'a, T> {
        assert!(scenario.check.is_some(), "{scenario:?} checks nothing");
        assert!((1..=DRIVERS_MOST).contains(&scenario.drivers.len()), "{scenario:?}: 1 to {DRIVERS_MOST} are possible");
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let report =
            Report { name: scenario.name.clone(), random: bounds.random, seed: bounds.seed, ..Report::default() };
        let runtime = runtime.expect("a runtime of one thread");
        let after = bounds.after.parse().unwrap_or_else(|error| panic!("{:?}: {error}", bounds.after));
        Explorer { scenario, bounds, runtime, after, report, runs: 0 }
    }

    /// Runs what is explored: after what all begins with.
    fn run_after(&self, alone: Option<usize>, strategy: &mut dyn Strategy) -> Ran {
        let first = Replay::new(&self.after.steps);
        self.run(alone, false, &mut After { first, then: strategy })
    }

    fn run(&self, alone: Option<usize>, traced: bool, strategy: &mut dyn Strategy) -> Ran {
        self.runtime.block_on(run(self.scenario, alone, self.bounds.pause, traced, strategy))
    }

    /// All interleavings without faults, with more and more preemptions.
    fn interleave(&mut self) -> Result<(), Box<Failure>> {
        for preemptions in 0..=self.bounds.preemptions {
            let walked = self.walk(None, Budget { preemptions, faults: 0 })?;
            if !walked.complete {
                return Ok(());
            }
            self.report.preemptions = Some(preemptions);
            if walked.counted == 0 {
                self.report.every_interleaving = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Every schedule that spends exactly the budget. Those that spend less were counted by an earlier walk.
    fn walk(&mut self, alone: Option<usize>, budget: Budget) -> Result<Walked, Box<Failure>> {
        let mut walk = Walk::new(&self.bounds.faults, budget);
        let mut walked = Walked { counted: 0, complete: true };
        loop {
            let mut ran = self.run_after(alone, &mut walk);
            let counts = walk.spent() == budget;
            let more = walk.next();
            ran.verdict = ran.verdict.and(more.clone().map(drop));
            self.settle(ran, counts, None)?;
            walked.counted += u64::from(counts);
            if more != Ok(true) {
                return Ok(walked);
            }
            if walked.counted >= self.bounds.schedules {
                walked.complete = false;
                let who = alone.map_or("all".to_owned(), |driver| format!("{} alone", Step::Call(driver, None)));
                let Budget { preemptions, faults } = budget;
                self.report.cut.push(format!("{who} with {preemptions} preemptions and {faults} faults"));
                return Ok(walked);
            }
        }
    }

    fn draw(&mut self, seed: u64) -> Result<(), Box<Failure>> {
        let mut chance = Chance::new(&self.bounds.faults, seed);
        let ran = self.run_after(None, &mut chance);
        self.settle(ran, true, Some(seed))
    }

    fn settle(&mut self, ran: Ran, counts: bool, seed: Option<u64>) -> Result<(), Box<Failure>> {
        self.runs += 1;
        if ran.verdict.is_err() {
            return Err(Box::new(self.shorten(ran, seed)));
        }
        if counts {
            self.report.count(&ran.schedule, ran.preemptions);
        }
        Ok(())
    }

    /// Takes away what a failing schedule does not need, and runs it once more to tell what happens.
    fn shorten(&self, ran: Ran, seed: Option<u64>) -> Failure {
        let mut best = ran.schedule;
        let mut left = SHORTENING_RUNS;
        let fails = |steps: &[Step]| {
            let mut replay = Replay::new(steps);
            let ran = self.run(best.alone, false, &mut replay);
            ran.verdict.is_err() && replay.misfit.is_none() && replay.rest() == 0
        };
        let mut steps = best.steps.clone();
        let mut shorter = true;
        while shorter {
            shorter = false;
            for candidate in simpler(&steps) {
                if left == 0 {
                    break;
                }
                left -= 1;
                if fails(&candidate) {
                    (steps, shorter) = (candidate, true);
                    break;
                }
            }
        }
        best.steps = steps;
        let again = self.run(best.alone, true, &mut Replay::new(&best.steps));
        // What cannot be repeated was told by the first run.
        let said = again.verdict.err().or(ran.verdict.err()).unwrap_or_default();
        self.failure(best.to_string(), seed, said, again.trace)
    }

    fn failure(&self, schedule: String, seed: Option<u64>, said: String, trace: Vec<String>) -> Failure {
        Failure { name: self.scenario.name.clone(), schedule, seed, said, trace, after: self.runs }
    }
}

/// Schedules like this one but shorter or with less in it: first beginnings, then without one fault or one step.
fn simpler(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut found: Vec<Vec<Step>> = Vec::new();
    let half = steps.len() / 2;
    found.extend((half < steps.len()).then(|| steps[..half].to_vec()));
    found.extend((!steps.is_empty()).then(|| steps[..steps.len() - 1].to_vec()));
    for (index, step) in steps.iter().enumerate() {
        if let Step::Call(driver, Some(_)) = step {
            let mut plain = steps.to_vec();
            plain[index] = Step::Call(*driver, None);
            found.push(plain);
        }
    }
    for index in 0..steps.len() {
        let mut without = steps.to_vec();
        without.remove(index);
        found.push(without);
    }
    found
}
