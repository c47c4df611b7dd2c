//! Owners that are frozen beyond their lease and thawed, one after the other, with players on them: are there ever two?
//!
//! A cluster of real processes with a lease of two seconds. In turn a frontend, a zoo and a colosseum is stopped (SIGSTOP), the
//! others take over, it goes on (SIGCONT); not amid a write, which would hold up every other writer of the embedded store. Both sides are watched: what the processes *publish*, by a gateway's map feed and by
//! the clients of both frontends ([`sight`]); what they *write*, by the owners that documents name ([`history`]); what they
//! *answer*, by players who keep their own account and stay connected to the frozen one while they play on elsewhere
//! ([`witness`]). Nothing here looks into the nodes.

pub mod history;
pub mod sight;
pub mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::processes::{RealCluster, Running, islands, wait_for};
use history::Historian;
use witness::{Account, Order, Said};

/// The cluster.
const ROLES: [&str; 8] = ["gateway", "frontend", "frontend", "zoo", "zoo", "garden", "colosseum", "colosseum"];

/// Who is frozen in turn. Frontends more often than the others: theirs are the players.
const TURNS: [&str; 4] = ["frontend", "zoo", "frontend", "colosseum"];

/// The lease of every node, in seconds: the shortest that etcd grants.
const LEASE: [&str; 2] = ["--lease", "2"];

/// Players who keep an account.
const WITNESSES: usize = 8;

/// Players who settle, so that there are animals and battles to own.
const SETTLERS: usize = 24;

/// How long to wait for an owner of anything, before one of nothing is frozen.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// What witnesses live on.
const FOOD: &str = "stew";

/// How much of it each is given: as much as a bag's stack holds.
const FOOD_GIVEN: u64 = 1_000;

/// What a row of freezes has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Owners frozen and thawed.
    pub freezes: u32,
    /// Documents that others took from frozen owners, by role.
    pub taken_over: BTreeMap<String, u64>,
    /// Freezes in which something was taken over, by role.
    pub with_takeover: BTreeMap<String, u32>,
    /// What was wrong, in words.
    pub violations: Vec<String>,
    /// What the observers saw.
    pub seen: sight::Counts,
    /// What was answered.
    pub answered: witness::Counts,
    /// Claims seen in documents.
    pub claims: u64,
    /// What the settlers did and found.
    pub settlers_acts: u64,
}

/// The program that watches from outside, on the clients' host.
struct Watchers {
    child: Running,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Watchers {
    fn start(cluster: &RealCluster, program: &Path) -> Watchers {
        let log = std::fs::File::create(cluster.folder().join("witnesses.log")).expect("a file for logs");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cluster.outside().namespace]).arg(program);
        command.args(["--witnesses", &WITNESSES.to_string(), "--gateway", &cluster.gateway()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child: Child = child.expect("the witnesses' process");
        let orders = child.stdin.take().expect("its standard input");
        let said = BufReader::new(child.stdout.take().expect("its standard output"));
        Watchers { child: Running(child), orders, said }
    }

    /// Gives an order and waits for what comes of it. The other side bounds how long that takes.
    fn ask(&mut self, order: &Order) -> Said {
        let line = serde_json::to_string(order).expect("an order");
        writeln!(self.orders, "{line}").expect("the witnesses listen");
        self.orders.flush().expect("the witnesses listen");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("the witnesses answer");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("the witnesses said {line:?} ({e}) to {order:?}"))
    }
}

/// What is known while it goes on.
struct Freezer<'a> {
    cluster: &'a RealCluster,
    historian: Historian,
    watchers: Watchers,
    outcome: Outcome,
}

/// Freezes and thaws so many owners in a row. `program` is `wildmesh-freezes`.
pub fn run(freezes: u32, program: &Path) -> Outcome {
    let cluster = RealCluster::start_with("freezes", &ROLES, &LEASE);
    let historian = Historian::start(cluster.folder().join("store"));
    let settlers = ["--behaviour", "settle", "--layout", "crowd"];
    let settlers = cluster.start_bots(SETTLERS, 3_600, &settlers);
    let watchers = Watchers::start(&cluster, program);
    let mut freezer = Freezer { cluster: &cluster, historian, watchers, outcome: Outcome::default() };
    let accounts = match freezer.watchers.ask(&Order::Make) {
        Said::Made(accounts) => accounts,
        said => panic!("no accounts, but {said:?}"),
    };
    accounts.iter().for_each(|account| give(&cluster, account));
    freezer.expect_playing(&Order::Enter);
    for turn in 0..freezes as usize {
        freezer.freeze(TURNS[turn % TURNS.len()], turn);
    }
    let Freezer { historian, mut watchers, mut outcome, .. } = freezer;
    match watchers.ask(&Order::End) {
        Said::Ended(report) => {
            outcome.violations.extend(report.violations);
            (outcome.seen, outcome.answered) = (report.seen, report.answered);
            historian.catch_up();
            outcome.violations.extend(check_food(&historian, &accounts, &report.eaten));
        }
        said => outcome.violations.push(format!("no report, but {said:?}")),
    }
    // Their own end, in good order.
    drop(watchers.orders);
    let _ = watchers.child.0.wait();
    let report = settlers.stop();
    let settled = &report["settle"];
    outcome.settlers_acts =
        settled["acts"].as_object().into_iter().flatten().filter_map(|(_, acts)| acts["done"].as_u64()).sum();
    for (kind, found) in settled["findings"].as_object().into_iter().flatten() {
        outcome.violations.push(format!("the settlers found {kind}: {found}"));
    }
    outcome.claims = historian.claims();
    outcome.violations.extend(historian.stop());
    outcome
}

impl Freezer<'_> {
    fn expect_playing(&mut self, order: &Order) {
        match self.watchers.ask(order) {
            Said::Playing => {}
            said => self.outcome.violations.push(format!("after {order:?} not all witnesses play: {said:?}")),
        }
    }

    /// Freezes one owner, lets others take over, and thaws it.
    fn freeze(&mut self, role: &str, turn: usize) {
        let Some(victim) = self.victim(role, turn) else {
            return self.outcome.violations.push(format!("there was no {role} to freeze"));
        };
        let process = self.cluster.nodes[victim].as_ref().expect("it runs");
        let name = process.name.clone();
        let owned = self.historian.owned_by(&name);
        if process.freeze(&self.cluster.folder().join("store")).is_none() {
            return self.outcome.violations.push(format!("{name} never stood still between two writes"));
        }
        let was = self.watchers.ask(&Order::Frozen(name.clone()));
        debug_assert!(matches!(was, Said::Playing));
        wait_for(&format!("{name} to leave the directory"), || {
            let status = self.cluster.status()?;
            let there = status["nodes"].as_array()?.iter().any(|node| node["node"] == name.as_str());
            (!there).then_some(())
        });
        if role == "frontend" {
            self.expect_playing(&Order::EnterElsewhere);
        }
        let taken = self.until_taken_over(&owned, &name);
        *self.outcome.taken_over.entry(role.to_owned()).or_default() += taken;
        *self.outcome.with_takeover.entry(role.to_owned()).or_default() += u32::from(taken > 0);
        process.signal("CONT");
        match self.watchers.ask(&Order::Thawed) {
            Said::Playing => {}
            said => self.outcome.violations.push(format!("turn {turn}, after {name} was thawed: {said:?}")),
        }
        self.cluster.until_whole();
        self.outcome.freezes += 1;
        eprintln!("{turn}: {name} was frozen with {} documents, {taken} were taken over", owned.len());
    }

    /// The frontend with the witnesses; of the others each in turn, the one that owns something first.
    fn victim(&mut self, role: &str, turn: usize) -> Option<usize> {
        let of_role: Vec<usize> = (0..ROLES.len()).filter(|i| ROLES[*i] == role).collect();
        let name = |i: usize| format!("{}-{i}", ROLES[i]);
        let owned = |i: &usize| self.historian.owned_by(&name(*i)).len();
        if role == "frontend" {
            let Said::Where(places) = self.watchers.ask(&Order::Where) else { return None };
            return of_role.into_iter().max_by_key(|i| places.get(&name(*i)).copied().unwrap_or(0));
        }
        let first = of_role[turn / TURNS.len() % of_role.len()];
        // Battles come and go: one that goes on is waited for.
        let deadline = Instant::now() + BEGINS_WITHIN;
        loop {
            let rest = of_role.iter().copied().filter(|i| *i != first);
            let found = std::iter::once(first).chain(rest).find(|i| owned(i) > 0);
            if found.is_some() || Instant::now() >= deadline {
                return found.or(Some(first));
            }
            std::thread::sleep(history::EVERY);
        }
    }

    /// How many of these documents others have taken. Waits for one at least, where somebody surely wants them.
    fn until_taken_over(&self, owned: &BTreeSet<String>, from: &str) -> u64 {
        let taken = || self.historian.taken_from(owned, from);
        // Battles may end, and habitats fall asleep, while their owner is frozen: nobody need take those.
        let patience = Duration::from_secs(if owned.is_empty() { 0 } else { 8 });
        let deadline = Instant::now() + patience;
        while taken() == 0 && Instant::now() < deadline {
            std::thread::sleep(history::EVERY);
        }
        taken()
    }
}

/// Promises a witness its food; it is kept when it comes in.
fn give(cluster: &RealCluster, account: &Account) {
    let (player, op) = (account.player.to_string(), format!("{:032x}", u128::from(account.player)));
    let (count, store) = (FOOD_GIVEN.to_string(), cluster.store());
    let words = ["estate", "give", &player, FOOD, &count, "--op", &op, "--store", &store, "--islands", islands()];
    let output = cluster.outside_command(&words).output().expect("the tool");
    assert!(output.status.success(), "no food: {}", String::from_utf8_lossy(&output.stderr));
}

/// What was eaten by the documents, against what the witnesses were told.
fn check_food(historian: &Historian, accounts: &[Account], eaten: &BTreeMap<u64, Eaten>) -> Vec<String> {
    let mut wrong = Vec::new();
    for Account { player, .. } in accounts {
        let Some(left) = historian.carried(*player, FOOD) else {
            wrong.push(format!("player {player} has no document"));
            continue;
        };
        let gone = FOOD_GIVEN.saturating_sub(left);
        let Eaten { acknowledged, unknown } = eaten.get(player).copied().unwrap_or_default();
        if gone < acknowledged {
            wrong.push(format!("lost: player {player} was told of {acknowledged} meals, its document of {gone}"));
        }
        if gone > acknowledged + unknown {
            let most = acknowledged + unknown;
            wrong.push(format!("doubled: player {player} asked for at most {most} meals, its document has {gone}"));
        }
    }
    wrong
}

/// Meals as a witness counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eaten {
    /// Answered with success.
    pub acknowledged: u64,
    /// Not answered, or with what leaves it open.
    pub unknown: u64,
}
