//! One run: the cluster, the bots, the plan carried out, quiet, and the end.
//!
//! One loop carries out what is due and looks after what is under way; a sample of every process is taken every few seconds.
//! What the plan wants is left out where it would leave no node of a role, because something took longer than planned. Every
//! wait ends at Ctrl-C, and everything that was started ends with the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cluster::{Cluster, Stall};
use super::plan::{self, Fault, MARGIN_MS, Only, Planned};
use super::samples::Samples;
use super::verdict::{Outcome, judge};
use crate::processes::Running;

/// Between two looks at what is due.
const STEP: Duration = Duration::from_millis(20);
/// Between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(3);
/// A node that was told to end and has not after so long is a finding, and is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(90);
/// All bots are in within this time.
const JOINED_WITHIN: Duration = Duration::from_secs(300);
/// What the bots may take to settle up, in seconds, and how much longer their report may take.
const SETTLE_UP_S: u64 = 120;
const REPORT_WITHIN: Duration = Duration::from_secs(SETTLE_UP_S + 40);
/// Once everything is healed, so long passes before the bots settle up.
const QUIET: Duration = Duration::from_secs(8);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long faults happen.
    pub length: Duration,
    /// How many bots.
    pub bots: usize,
    /// What the schedule and the bots are drawn from.
    pub seed: u64,
    /// What the schedule is restricted to.
    pub only: Option<Only>,
    /// Where report, logs and data go.
    pub folder: PathBuf,
    /// What nodes log, as RUST_LOG has it.
    pub verbose: String,
    /// The program that all nodes start with, if it is another than what they come back as: a deploy of mixed versions.
    pub upgrade_from: Option<PathBuf>,
    /// Prints what happens.
    pub loud: bool,
}

/// Whether the run is to end now.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicBool>);

impl Stop {
    /// Waits, at most until the run is to end.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            if self.0.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}

/// Something that happened, for the report: when in milliseconds since 1970, until when, what, to whom.
#[derive(Clone, Debug)]
pub struct Happened {
    /// When.
    pub at_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// Its kind.
    pub kind: &'static str,
    /// In words.
    pub words: String,
    /// The role of the node that was killed, if one was.
    pub killed: Option<&'static str>,
}

/// What is under way.
enum Going {
    Down { node: usize },
    Frozen { node: usize },
    Cut { from: usize, to: usize, both: bool },
    NoDirectory { node: usize },
    Stalled(Stall),
    Leaderless { member: usize },
    Ending { node: usize },
}

struct Run<'a> {
    options: &'a Options,
    stop: &'a Stop,
    cluster: Cluster,
    bots: Running,
    /// What is under way: since which entry of `happened`, and when it ends.
    going: Vec<(usize, Instant, Going)>,
    happened: Vec<Happened>,
    /// Until when nodes count as hit.
    hit: Vec<Instant>,
    samples: Samples,
    sampled: Instant,
    found: Vec<String>,
    left_out: u64,
}

/// Runs chaos and judges it. An error means that there is nothing to judge.
pub fn run(options: &Options, stop: &Stop) -> Result<Outcome> {
    std::fs::create_dir_all(&options.folder).context("the report's folder")?;
    let planned = plan::plan(options.seed, u64::try_from(options.length.as_millis())?, options.only);
    say(
        options,
        &format!("seed {}: {} faults planned; logs in {}", options.seed, planned.len(), options.folder.display()),
    );
    let cluster = Cluster::start(&options.folder, options.upgrade_from.as_deref(), &options.verbose, stop)?;
    say(options, "the mesh is whole");
    let bots = start_bots(&cluster, options)?;
    let hit = vec![Instant::now(); plan::names().len()];
    let mut run = Run {
        options,
        stop,
        cluster,
        bots,
        going: Vec::new(),
        happened: Vec::new(),
        hit,
        samples: Samples::default(),
        sampled: Instant::now(),
        found: Vec::new(),
        left_out: 0,
    };
    run.until_joined()?;
    run.carry_out(planned)?;
    run.heal()?;
    let report = run.bots_report()?;
    run.end(report)
}

fn start_bots(cluster: &Cluster, options: &Options) -> Result<Running> {
    let (gateways, bots) = (cluster.gateways(), options.bots.to_string());
    let (seed, settle_up) = (options.seed.to_string(), SETTLE_UP_S.to_string());
    let timeline = options.folder.join("timeline.tsv").display().to_string();
    let words = ["bots", "--json", "--gateway", &gateways, "--players", &bots, "--seconds", "1000000"];
    let more = ["--behaviour", "settle", "--seed", &seed, "--settle-up", &settle_up, "--timeline", &timeline];
    cluster.start_bots(&[&words[..], &more[..]].concat())
}

fn say(options: &Options, words: &str) {
    if options.loud {
        eprintln!("{words}");
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    // A clock before 1970 only moves the plot.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Run<'_> {
    fn until_joined(&mut self) -> Result<()> {
        let all = format!("{0} of {0} in", self.options.bots);
        let deadline = Instant::now() + JOINED_WITHIN;
        while !self.cluster.log_of("bots").contains(&all) {
            if let Some(status) = self.bots.0.try_wait()? {
                bail!("the bots have ended with {status}: {}", tail(&self.cluster.log_of("bots")));
            }
            if Instant::now() > deadline {
                bail!("not all bots are in: {}", tail(&self.cluster.log_of("bots")));
            }
            self.stop.sleep(Duration::from_millis(200))?;
        }
        say(self.options, &all);
        Ok(())
    }

    /// Carries the plan out; over when its time is over and nothing is under way.
    fn carry_out(&mut self, planned: Vec<Planned>) -> Result<()> {
        let started = Instant::now();
        let mut left = planned.into_iter().peekable();
        while started.elapsed() < self.options.length || left.peek().is_some() {
            let now = Instant::now();
            while let Some(next) = left.next_if(|next| started.elapsed().as_millis() as u64 >= next.at_ms) {
                self.begin(&self.aimed(next.fault), now)?;
            }
            self.go_on(now, false);
            self.sample(now);
            self.look_for_the_dead();
            if let Some(status) = self.bots.0.try_wait()? {
                bail!("the bots have ended with {status}: {}", tail(&self.cluster.log_of("bots")));
            }
            self.stop.sleep(STEP)?;
        }
        Ok(())
    }

    /// Where deaths of frontends are measured, the one that has most players dies: the others' deaths nobody notices.
    fn aimed(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Kill { node, for_ms } if self.options.only == Some(Only::KillFrontend) => {
                Fault::Kill { node: self.cluster.busiest("frontend").unwrap_or(node), for_ms }
            }
            fault => fault,
        }
    }

    fn begin(&mut self, fault: &Fault, now: Instant) -> Result<()> {
        let nodes = fault.nodes();
        let hit: Vec<usize> = (0..self.hit.len()).filter(|node| self.hit[*node] > now).collect();
        if !plan::leaves_one(&hit, &nodes) || nodes.iter().any(|node| hit.contains(node)) {
            self.left_out += 1;
            return Ok(());
        }
        let named = |node: usize| self.cluster.name(node).to_owned();
        let seconds = fault.for_ms() as f64 / 1000.0;
        let mut killed = None;
        let (words, going) = match fault {
            Fault::Kill { node, .. } => {
                killed = Some(plan::role(*node));
                (format!("{} killed for {seconds:.1} s", named(*node)), Some(Going::Down { node: *node }))
            }
            Fault::Freeze { node, .. } => {
                (format!("{} frozen for {seconds:.1} s", named(*node)), Some(Going::Frozen { node: *node }))
            }
            Fault::Cut { from, to, both, .. } => {
                let way = if *both { "and" } else { "to" };
                let words = format!("{} {way} {} cut for {seconds:.1} s", named(*from), named(*to));
                (words, Some(Going::Cut { from: *from, to: *to, both: *both }))
            }
            Fault::NoDirectory { node, .. } => {
                let words = format!("{} cut off from the directory for {seconds:.1} s", named(*node));
                (words, Some(Going::NoDirectory { node: *node }))
            }
            Fault::Stall { .. } => {
                let words = format!("the store stalls for {seconds:.1} s");
                (words, Some(Going::Stalled(self.cluster.stall()?)))
            }
            Fault::Leader { .. } => {
                let killed = self.cluster.kill_leader();
                let words = format!("the directory's leader {killed:?} killed for {seconds:.1} s");
                (words, killed.map(|member| Going::Leaderless { member }))
            }
            Fault::Replace { node } => (format!("{} replaced", named(*node)), Some(Going::Ending { node: *node })),
        };
        let Some(going) = going else {
            self.left_out += 1;
            return Ok(());
        };
        let at_ms = now_ms();
        say(
            self.options,
            &format!("{:>6} s  {words}", (at_ms - self.happened.first().map_or(at_ms, |it| it.at_ms)) / 1000),
        );
        self.hits(&going);
        let ends = match going {
            Going::Ending { .. } => now + ENDS_WITHIN,
            _ => now + Duration::from_millis(fault.for_ms()),
        };
        for node in nodes {
            // A little less than planned: it began a little later than planned.
            self.hit[node] = ends + Duration::from_millis(MARGIN_MS - 1_000);
        }
        self.going.push((self.happened.len(), ends, going));
        self.happened.push(Happened { at_ms, until_ms: at_ms, kind: fault.kind(), words, killed });
        Ok(())
    }

    /// What is done when it begins.
    fn hits(&mut self, going: &Going) {
        let cluster = &mut self.cluster;
        match going {
            Going::Down { node } => cluster.kill_node(*node),
            Going::Frozen { node } => signal(cluster, *node, "STOP"),
            Going::Ending { node } => signal(cluster, *node, "TERM"),
            Going::Cut { from, to, both } => {
                let (from, to) = (cluster.node_host(*from), cluster.node_host(*to));
                cluster.net.cut(from, to);
                if *both {
                    cluster.net.cut(to, from);
                }
            }
            Going::NoDirectory { node } => {
                for member in 0..cluster.members.len() {
                    cluster.net.cut(cluster.node_host(*node), cluster.member_host(member));
                    cluster.net.cut(cluster.member_host(member), cluster.node_host(*node));
                }
            }
            Going::Stalled(_) | Going::Leaderless { .. } => {}
        }
    }

    /// Ends what is over, or everything.
    fn go_on(&mut self, now: Instant, all: bool) {
        for (happened, ends, going) in std::mem::take(&mut self.going) {
            let ended = match &going {
                Going::Ending { node } => {
                    let gone = self.cluster.nodes[*node].as_ref().is_none_or(|node| !node.alive());
                    if !gone && now >= ends {
                        let name = self.cluster.name(*node);
                        self.found.push(format!("{name} has not ended {} s after SIGTERM", ENDS_WITHIN.as_secs()));
                    }
                    gone || now >= ends
                }
                _ => all || now >= ends,
            };
            if !ended {
                self.going.push((happened, ends, going));
                continue;
            }
            self.happened[happened].until_ms = now_ms();
            if let Going::Ending { node } = going {
                self.hit[node] = now + Duration::from_millis(MARGIN_MS - 1_000);
            }
            self.ends(going);
        }
    }

    fn ends(&mut self, going: Going) {
        let cluster = &mut self.cluster;
        match going {
            Going::Down { node } => cluster.start_node(node),
            Going::Frozen { node } => signal(cluster, node, "CONT"),
            Going::Ending { node } => {
                cluster.kill_node(node);
                cluster.start_node(node);
            }
            Going::Cut { from, to, both } => {
                let (from, to) = (cluster.node_host(from), cluster.node_host(to));
                cluster.net.heal_from(from, to);
                if both {
                    cluster.net.heal_from(to, from);
                }
            }
            Going::NoDirectory { node } => {
                let host = cluster.node_host(node);
                for member in 0..cluster.members.len() {
                    cluster.net.heal_from(host, cluster.member_host(member));
                    cluster.net.heal_from(cluster.member_host(member), host);
                }
            }
            Going::Stalled(stall) => drop(stall),
            Going::Leaderless { member } => cluster.start_member(member),
        }
    }

    fn sample(&mut self, now: Instant) {
        if now.saturating_duration_since(self.sampled) < SAMPLE_EVERY {
            return;
        }
        self.sampled = now;
        let at_ms = now_ms();
        let all = self.cluster.nodes.iter().chain(&self.cluster.members).flatten();
        all.for_each(|process| self.samples.look(process, at_ms));
    }

    /// A process that nobody ended and that is gone is a finding; it is started again.
    fn look_for_the_dead(&mut self) {
        let ending: Vec<usize> = self
            .going
            .iter()
            .filter_map(|(.., going)| if let Going::Ending { node } = going { Some(*node) } else { None })
            .collect();
        for node in 0..self.cluster.nodes.len() {
            let dead = self.cluster.nodes[node].as_ref().is_some_and(|process| !process.alive());
            if dead && !ending.contains(&node) {
                let name = self.cluster.name(node).to_owned();
                let log = self.cluster.log_of(&name);
                self.found.push(format!("{name} died by itself; its log ends with:\n{}", tail(&log)));
                self.cluster.start_node(node);
            }
        }
        for member in 0..self.cluster.members.len() {
            if self.cluster.members[member].as_ref().is_some_and(|process| !process.alive()) {
                self.found.push(format!("etcd-{member} died by itself"));
                self.cluster.start_member(member);
            }
        }
    }

    /// Everything is healed, and everybody finds everybody again.
    fn heal(&mut self) -> Result<()> {
        say(self.options, "quiet");
        loop {
            self.go_on(Instant::now(), true);
            if self.going.is_empty() {
                break;
            }
            self.stop.sleep(STEP)?;
        }
        if let Err(error) = self.cluster.until_whole(self.stop) {
            self.stop.sleep(Duration::ZERO)?;
            self.found.push(format!("{error:#}"));
        }
        let until = Instant::now() + QUIET;
        while Instant::now() < until {
            self.sample(Instant::now());
            self.look_for_the_dead();
            self.stop.sleep(STEP)?;
        }
        Ok(())
    }

    /// The bots settle up and report.
    fn bots_report(&mut self) -> Result<Value> {
        let pid = self.bots.0.id().to_string();
        let status = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().context("kill")?;
        if !status.success() {
            bail!("the bots could not be told to settle up");
        }
        let deadline = Instant::now() + REPORT_WITHIN;
        while self.bots.0.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the bots did not end: {}", tail(&self.cluster.log_of("bots")));
            }
            self.look_for_the_dead();
            self.stop.sleep(STEP)?;
        }
        let text = std::fs::read_to_string(self.options.folder.join("bots.json")).context("the bots' report")?;
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("no report: {}", tail(&self.cluster.log_of("bots"))))
    }

    /// All nodes end in order; then the documents are checked, and everything is judged.
    fn end(mut self, bots: Value) -> Result<Outcome> {
        for node in 0..self.cluster.nodes.len() {
            signal(&self.cluster, node, "TERM");
        }
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.cluster.nodes.iter().flatten().any(|node| node.alive()) && Instant::now() < deadline {
            self.stop.sleep(STEP)?;
        }
        for node in self.cluster.nodes.iter().flatten().filter(|node| node.alive()) {
            self.found.push(format!("{} has not ended {} s after SIGTERM", node.name, ENDS_WITHIN.as_secs()));
        }
        self.cluster.nodes.iter_mut().for_each(|node| drop(node.take()));
        let store = self.cluster.store();
        let words =
            ["estate", "audit", "--json", "--offline", "--store", &store, "--islands", crate::processes::islands()];
        let output = self.cluster.outside_command(&words).output().context("the audit")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let audit = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let audit = audit
            .or_else(|| serde_json::from_str(&text).ok())
            .with_context(|| format!("the audit says nothing: {text} {}", String::from_utf8_lossy(&output.stderr)))?;
        for name in plan::names() {
            self.found.extend(panics(&name, &self.cluster.log_of(&name)));
        }
        let timeline = std::fs::read_to_string(self.options.folder.join("timeline.tsv")).unwrap_or_default();
        let Run { options, happened, samples, found, left_out, .. } = self;
        judge(options, happened, &samples, &timeline, bots, audit, found, left_out)
    }
}

fn signal(cluster: &Cluster, node: usize, signal: &str) {
    if let Some(process) = cluster.nodes[node].as_ref().filter(|process| process.alive()) {
        // It may have ended just now: whoever looks for the dead finds it.
        let _ = std::process::Command::new("kill").args(["-s", signal, &process.pid.to_string()]).status();
    }
}

/// The last lines of a log.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Panics in a log, each with the lines around it.
fn panics(name: &str, log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let at = lines.iter().enumerate().filter(|(_, line)| line.contains("panicked at")).map(|(at, _)| at);
    at.take(3).map(|at| format!("{name}: {}", lines[at..lines.len().min(at + 4)].join("\n"))).collect()
}
