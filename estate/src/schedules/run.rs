//! One run of a scenario under one schedule, in virtual time and on the caller's thread.
//!
//! The drivers are polled by hand: between two choices each of them goes on until it waits at its gate, sleeps or ends.
//! Time stands still while anybody could make a call, unless the schedule says otherwise. A run NEVER depends on
//! anything but the scenario and the choices, so the same choices give the same run.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};

use super::gate::{Gate, Reply, Request};
use super::schedule::{CallKind, Fault, STORM, Schedule, Step};
use super::{End, Local, Scenario};
use crate::store::StoreError;
use crate::store::memory::MemoryStore;

/// A driver or a recovery that does nothing for so long, in virtual time, is stuck for ever.
const STUCK: Duration = Duration::from_secs(3_600);
/// The most choices of one run: what needs more does not end by itself.
const POINTS_MOST: usize = 2_000;
/// The most times that drivers are polled between two choices.
const POLLS_MOST: usize = 10_000;

/// What may be chosen at one point. The first is what happens if nobody interferes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    /// [`Step::Call`] without a fault, or another step.
    pub(super) step: Step,
    /// For a call: what kind it is, which says what faults it can have.
    pub(super) kind: Option<CallKind>,
    /// It takes the turn from a driver that could have gone on, or lets time pass before its eyes.
    pub(super) preempts: bool,
}

/// Who chooses.
pub(super) trait Strategy {
    /// One of the choices, perhaps with a fault; an error ends the run and is what it failed with.
    fn choose(&mut self, choices: &[Choice]) -> Result<Step, String>;
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) schedule: Schedule,
    /// How many of the choices took the turn from a driver that could have gone on.
    pub(super) preemptions: u32,
    /// What is wrong, if something is.
    pub(super) verdict: Result<(), String>,
    /// What happened call by call, if that was asked for.
    pub(super) trace: Vec<String>,
}

/// Runs a scenario once. MUST be called on a paused runtime.
pub(super) async fn run<T: 'static>(
    scenario: &Scenario<T>,
    alone: Option<usize>,
    pause: Duration,
    traced: bool,
    strategy: &mut dyn Strategy,
) -> Ran {
    let mut run = Run::new(scenario, alone, pause, traced);
    let verdict = unconstrained(run.whole(strategy)).await;
    Ran { schedule: run.schedule, preemptions: run.preemptions, verdict, trace: run.trace }
}

struct Run<'a, T> {
    scenario: &'a Scenario<T>,
    pause: Duration,
    traced: bool,
    raw: MemoryStore,
    drivers: Vec<Driver<T>>,
    alarm: Arc<Alarm>,
    /// Who made the last call.
    turn: Option<usize>,
    /// Late writes in the order of their numbers; those that have landed are gone.
    late: Vec<Option<Request>>,
    later: Vec<Request>,
    schedule: Schedule,
    preemptions: u32,
    trace: Vec<String>,
}

struct Driver<T> {
    gate: Gate,
    flag: Arc<Flag>,
    /// `None` once it has ended or died.
    future: Option<Local<T>>,
    answer: Option<T>,
    frozen: Option<Instant>,
    /// How many of its next writes meet a conflict.
    storm: u32,
}

impl<T> Driver<T> {
    fn awake(&self) -> bool {
        self.future.is_some() && self.frozen.is_none()
    }
}

/// Wakes the scheduler when a driver stirs.
#[derive(Debug, Default)]
struct Alarm {
    scheduler: Mutex<Option<Waker>>,
}

/// One driver's sign that it can be polled again.
struct Flag {
    up: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.up.store(true, Ordering::Relaxed);
        if let Some(waker) = self.alarm.scheduler.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

/// Polls a future; a panic is an error that says what it said.
fn poll_caught<T>(future: &mut Local<T>, context: &mut Context<'_>) -> Poll<Result<T, String>> {
    match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(format!("panicked: {}", said(&*panic)))),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl<'a, T: 'static> Run<'a, T> {
    fn new(scenario: &'a Scenario<T>, alone: Option<usize>, pause: Duration, traced: bool) -> Run<'a, T> {
        Run {
            scenario,
            pause,
            traced,
            raw: MemoryStore::new(),
            drivers: Vec::new(),
            alarm: Arc::default(),
            turn: None,
            late: Vec::new(),
            later: Vec::new(),
            schedule: Schedule { alone, steps: Vec::new() },
            preemptions: 0,
            trace: Vec::new(),
        }
    }

    async fn whole(&mut self, strategy: &mut dyn Strategy) -> Result<(), String> {
        self.settled("the setup", (self.scenario.setup)(Arc::new(self.raw.client()))).await?;
        for (index, drive) in self.scenario.drivers.iter().enumerate() {
            let gate = Gate::default();
            let runs = self.schedule.alone.is_none_or(|alone| alone == index);
            let future: Option<Local<T>> =
                runs.then(|| Box::pin(unconstrained(drive(Arc::new(gate.clone())))) as Local<T>);
            let flag = Arc::new(Flag { up: AtomicBool::new(true), alarm: self.alarm.clone() });
            self.drivers.push(Driver { gate, flag, future, answer: None, frozen: None, storm: 0 });
        }
        self.drive(strategy).await?;
        for number in 1..=self.late.len() {
            self.land(number).await;
        }
        self.settled("the recovery", (self.scenario.recover)(Arc::new(self.raw.client()))).await??;
        if !self.later.is_empty() {
            for request in std::mem::take(&mut self.later) {
                self.deliver("later", request).await;
            }
            self.settled("the second recovery", (self.scenario.recover)(Arc::new(self.raw.client()))).await??;
        }
        self.judge()
    }

    fn judge(&mut self) -> Result<(), String> {
        let faults = self.schedule.steps.iter().filter(|step| matches!(step, Step::Call(_, Some(_)))).count();
        let end = End {
            documents: self.raw.snapshot(),
            answers: self.drivers.iter_mut().map(|driver| driver.answer.take()).collect(),
            faults,
            alone: self.schedule.alone.is_some(),
        };
        if self.traced {
            for (key, stored) in &end.documents {
                self.trace.push(format!("left: {key} {}", String::from_utf8_lossy(&stored.value)));
            }
        }
        let check = || self.scenario.check.as_ref().map_or(Ok(()), |check| check(&end));
        catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| Err(format!("check: {}", said(&*panic))))
    }

    /// Runs what is not scheduled: setup and recovery.
    async fn settled<U: 'static>(&self, what: &str, mut future: Local<U>) -> Result<U, String> {
        match timeout(STUCK, poll_fn(|context| poll_caught(&mut future, context))).await {
            Ok(Ok(ended)) => Ok(ended),
            Ok(Err(panicked)) => Err(format!("{what} {panicked}")),
            Err(_) => Err(format!("{what} has not ended within {STUCK:?}")),
        }
    }

    /// Lets the drivers run, choice by choice, until none of them lives.
    async fn drive(&mut self, strategy: &mut dyn Strategy) -> Result<(), String> {
        let mut called = Instant::now();
        loop {
            self.poll_drivers()?;
            let choices = self.choices();
            if choices.is_empty() {
                if self.drivers.iter().all(|driver| driver.future.is_none()) {
                    return Ok(());
                }
                self.pass().await?;
                if called.elapsed() > STUCK {
                    return Err(format!("nothing has been called for {STUCK:?}: a driver never ends"));
                }
                continue;
            }
            called = Instant::now();
            if self.schedule.steps.len() >= POINTS_MOST {
                return Err(format!("no end after {POINTS_MOST} calls"));
            }
            let step = strategy.choose(&choices)?;
            let base = match step {
                Step::Call(driver, _) => Step::Call(driver, None),
                other => other,
            };
            self.preemptions += u32::from(choices.iter().any(|choice| choice.step == base && choice.preempts));
            self.schedule.steps.push(step);
            self.take(step).await?;
        }
    }

    /// What may happen next; empty if only time can help, or if all is over.
    fn choices(&self) -> Vec<Choice> {
        let kind_of = |index: usize| {
            let driver: &Driver<T> = &self.drivers[index];
            if driver.awake() { driver.gate.waiting() } else { None }
        };
        let kinds: Vec<Option<CallKind>> = (0..self.drivers.len()).map(kind_of).collect();
        let holder = self.turn.filter(|turn| kinds[*turn].is_some());
        let call = |index: usize| Choice {
            step: Step::Call(index, None),
            kind: kinds[index],
            preempts: holder.is_some_and(|holder| holder != index),
        };
        let able = (0..kinds.len()).filter(|index| kinds[*index].is_some());
        let mut choices: Vec<Choice> = holder.into_iter().map(call).collect();
        choices.extend(able.filter(|index| holder != Some(*index)).map(call));
        let lives = |index: &usize| self.drivers[*index].future.is_some();
        if choices.is_empty() {
            let waits = (0..kinds.len()).any(|index| lives(&index)) && self.late.iter().any(Option::is_some);
            choices.extend(waits.then_some(Choice { step: Step::Pass, kind: None, preempts: false }));
        } else {
            let asleep = (0..kinds.len()).filter(lives).filter(|index| kinds[*index].is_none());
            choices.extend(asleep.map(|index| Choice { step: Step::Wake(index), kind: None, preempts: true }));
        }
        if !choices.is_empty() {
            let numbers = (1..=self.late.len()).filter(|number| self.late[number - 1].is_some());
            choices.extend(numbers.map(|number| Choice { step: Step::Land(number), kind: None, preempts: false }));
        }
        choices
    }

    /// Polls every driver that can go on until none can.
    fn poll_drivers(&mut self) -> Result<(), String> {
        let now = Instant::now();
        for driver in &mut self.drivers {
            if driver.frozen.is_some_and(|until| until <= now) {
                driver.frozen = None;
                driver.flag.up.store(true, Ordering::Relaxed);
            }
        }
        for _ in 0..POLLS_MOST {
            let ready = |driver: &Driver<T>| driver.awake() && driver.flag.up.swap(false, Ordering::Relaxed);
            let Some(index) = self.drivers.iter().position(ready) else { return Ok(()) };
            let driver = &mut self.drivers[index];
            let Some(future) = &mut driver.future else { continue };
            let waker = Waker::from(driver.flag.clone());
            match poll_caught(future, &mut Context::from_waker(&waker)) {
                Poll::Pending => {}
                Poll::Ready(Ok(answer)) => {
                    driver.answer = Some(answer);
                    driver.future = None;
                    self.note(|| format!("{} ends", name(index)));
                }
                Poll::Ready(Err(panicked)) => return Err(format!("driver {} {panicked}", name(index))),
            }
        }
        Err(format!("the drivers were polled {POLLS_MOST} times between two calls"))
    }

    /// Lets time pass until somebody stirs.
    async fn pass(&mut self) -> Result<(), String> {
        let thaw =
            self.drivers.iter().filter(|driver| driver.future.is_some()).filter_map(|driver| driver.frozen).min();
        let stuck = Instant::now() + STUCK;
        let (drivers, alarm) = (&self.drivers, &self.alarm);
        let stirred = poll_fn(|context| {
            if drivers.iter().any(|driver: &Driver<T>| driver.awake() && driver.flag.up.load(Ordering::Relaxed)) {
                return Poll::Ready(());
            }
            *alarm.scheduler.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
            Poll::Pending
        });
        tokio::select! {
            biased;
            () = stirred => Ok(()),
            () = sleep_until(thaw.unwrap_or(stuck).min(stuck)) => {
                if thaw.is_some() { Ok(()) } else { Err(format!("nothing has happened for {STUCK:?}: a driver never ends")) }
            }
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Call(index, fault) => {
                self.turn = Some(index);
                self.call(index, fault).await
            }
            Step::Land(number) => {
                self.land(number).await;
                Ok(())
            }
            Step::Pass => self.pass().await,
            Step::Wake(index) => self.wake(index).await,
        }
    }

    /// Lets time pass until one driver makes a call or ends.
    async fn wake(&mut self, index: usize) -> Result<(), String> {
        let stuck = Instant::now() + STUCK;
        self.turn = Some(index);
        while self.drivers[index].future.is_some()
            && (self.drivers[index].frozen.is_some() || self.drivers[index].gate.waiting().is_none())
        {
            self.pass().await?;
            self.poll_drivers()?;
            if Instant::now() > stuck {
                return Err(format!("driver {} has slept for {STUCK:?}", name(index)));
            }
        }
        self.note(|| format!("time passes until {} stirs", name(index)));
        Ok(())
    }

    async fn land(&mut self, number: usize) {
        if let Some(request) = self.late[number - 1].take() {
            self.deliver(&format!("+{number}"), request).await;
        }
    }

    /// Carries out a request whose sender no longer listens.
    async fn deliver(&mut self, what: &str, request: Request) {
        let text = self.traced.then(|| request.to_string());
        let reply = request.perform(&self.raw).await;
        self.note(|| format!("{what} lands: {} → {}", text.unwrap_or_default(), outcome(&reply)));
    }

    /// Lets a driver's oldest waiting call go on, with what the schedule has for it.
    async fn call(&mut self, index: usize, fault: Option<Fault>) -> Result<(), String> {
        if fault == Some(Fault::PauseBefore) {
            self.drivers[index].frozen = Some(Instant::now() + self.pause);
            self.note(|| format!("{} freezes", name(index)));
            return Ok(());
        }
        let Some(call) = self.drivers[index].gate.take() else {
            return Err(format!("driver {} waits for no call", name(index)));
        };
        let request = call.request.clone();
        if request.kind() == CallKind::Swap {
            let driver = &mut self.drivers[index];
            driver.storm = driver.storm.max(if fault == Some(Fault::Storm) { STORM } else { 0 });
            if driver.storm > 0 || fault == Some(Fault::Conflict) {
                driver.storm = driver.storm.saturating_sub(1);
                request.stir(&self.raw).await;
            }
        }
        let text = self.traced.then(|| request.to_string());
        let reply = self.apply(request, fault).await;
        self.note(|| {
            let step = Step::Call(index, fault);
            let died = matches!(fault, Some(Fault::StopBefore | Fault::StopAfter));
            let told = if died { "it dies".to_owned() } else { outcome(&reply) };
            format!("{step}  {} → {told}", text.unwrap_or_default())
        });
        match fault {
            Some(Fault::StopBefore | Fault::StopAfter) => self.drivers[index].future = None,
            Some(Fault::PauseAfter) => self.drivers[index].frozen = Some(Instant::now() + self.pause),
            _ => {}
        }
        call.answer(reply);
        Ok(())
    }

    /// Carries out a call as far as its fault lets it, and gives what the driver is told.
    async fn apply(&mut self, request: Request, fault: Option<Fault>) -> Reply {
        let lost = || Err(StoreError::Ambiguous("reply lost by the schedule".to_owned()));
        match fault {
            Some(Fault::StopBefore | Fault::LoseRequest) => lost(),
            Some(Fault::Refuse) => Err(StoreError::Unavailable("refused by the schedule".to_owned())),
            Some(Fault::Late) => {
                self.late.push(Some(request));
                lost()
            }
            Some(Fault::Later) => {
                self.later.push(request);
                lost()
            }
            Some(Fault::LoseReply) => {
                // Nobody sees the result.
                let _ = request.perform(&self.raw).await;
                lost()
            }
            Some(Fault::Twice) => {
                let reply = request.clone().perform(&self.raw).await;
                // The second delivery is decided by the versions; its reply arrives nowhere.
                let _ = request.perform(&self.raw).await;
                reply
            }
            _ => request.perform(&self.raw).await,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.traced {
            self.trace.push(line());
        }
    }
}

fn name(index: usize) -> Step {
    Step::Call(index, None)
}

fn outcome(reply: &Reply) -> String {
    match reply {
        Ok(answer) => answer.to_string(),
        Err(error) => error.to_string(),
    }
}
