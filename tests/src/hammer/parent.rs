//! The parent: fills the store, starts processes and kills them, asks once more what has no answer, and compares the account.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cartographer::geometry::ObjectId;
use estate::audit::{self, Report};
use estate::goods::container::{BoxDocument, GroundDocument};
use estate::goods::{Goods, GoodsEffect, Leg, Limits, Place, promise, transfer};
use estate::land::{claims, ledger, object, works};
use estate::player::{self, Birth, PlayerDocument};
use estate::store::{SCAN_LIMIT, Store};
use estate::transaction::{OperationId, Request, Transactions};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ask::{held, item};
use super::child::{open, transactions};
use super::log::{Log, Operations, read};
use super::{Answer, Ask, BOXES, CHUNKS, CLAIMABLE, Chance, ISLAND, PLAYERS, PROCESSES, chunks};

/// What each player has of coins and of wood at the beginning; a bag holds three times as much of both together.
const WEALTH: u64 = 10_000;

/// The pause between two kills, at least and at most, in milliseconds. Patience with the dead is every process's own, so a
/// process must live longer than that now and then: eight of them do at this pace.
const KILL_EVERY_MS: (u64, u64) = (100, 2_000);

/// How long a process may take to end when it is told to: longer than any single question takes.
const ENDING: Duration = Duration::from_secs(60);

/// Operations asked once more at a time in the end.
const AT_A_TIME: usize = 64;

/// How often each of them is.
const ASKED_AT_LAST: u32 = 30;

/// What is told of broken sums at most.
const TOLD: usize = 20;

/// What to do.
#[derive(Clone, Debug)]
pub struct Hammering {
    /// The store, as `--store` takes it; it MUST be empty.
    pub store: String,
    /// Where the logs lie.
    pub logs: PathBuf,
    /// How long processes are killed.
    pub seconds: u64,
    /// What kills and questions are drawn from. Processes make the order of events another one every time.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Operations that were asked for.
    pub operations: u64,
    /// Those that were answered with success, in the end.
    pub acknowledged: u64,
    /// Those that were refused, in the end.
    pub refused: u64,
    /// Those that others were in the way of, in the end.
    pub busy: u64,
    /// Those that nobody could tell about while the processes lived: killed half-way, or answered so.
    pub unknown: u64,
    /// Questions asked again under the same id.
    pub asked_again: u64,
    /// Processes killed.
    pub kills: u64,
    /// Numbers of the account that were compared with the store.
    pub compared: u64,
    /// `clean`, or how many findings.
    pub audit: String,
    /// Acknowledged operations by their kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// What broke the account, at most twenty.
    pub violations: Vec<String>,
}

impl Outcome {
    /// True if nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.audit == "clean"
    }
}

/// Runs it all. `command` starts a process that calls [`super::child::run`], with the flags given here added.
///
/// # Errors
/// If processes or the store cannot be used at all. What the account or the audit finds is in the outcome.
pub async fn run(hammering: &Hammering, command: impl Fn() -> Command) -> Result<Outcome> {
    let mut chance = Chance(hammering.seed);
    let store = open(&hammering.store).await?;
    if !store.scan("", None, 1).await?.is_empty() {
        bail!("the store is not empty");
    }
    let all = Arc::new(transactions(store, chance.bits()));
    let before = settle_the_world(&all, &mut chance).await?;
    let (logs, kills) = kill_about(hammering, &mut chance, &command).await?;
    let mut operations = Operations::new();
    for log in &logs {
        read(log, &mut operations)?;
    }
    let mut outcome = Outcome { kills, ..Outcome::default() };
    outcome.unknown = operations.values().filter(|known| known.certain().is_none()).count() as u64;
    ask_at_last(&all, &hammering.logs.join("last.log"), &mut operations).await?;
    let expected = account(&operations, before, &mut outcome);
    let found = take_stock(&all, &expected).await?;
    outcome.compared = expected.len() as u64;
    for (key, number) in &expected {
        let there = found.get(key).copied().unwrap_or(0);
        if there != *number {
            outcome.violations.push(format!("{key} is {there} and should be {number}"));
        }
    }
    for (key, number) in found.iter().filter(|(key, number)| **number != 0 && !expected.contains_key(*key)) {
        outcome.violations.push(format!("{key} is {number} and nobody asked for it"));
    }
    outcome.violations.truncate(TOLD);
    let report = audit::audit(&all, false, &mut |_| {}).await?;
    outcome.audit = told(&report, &mut outcome.violations);
    Ok(outcome)
}

fn told(report: &Report, violations: &mut Vec<String>) -> String {
    if report.clean() {
        return "clean".to_owned();
    }
    violations.extend(report.findings.iter().take(TOLD).map(|finding| format!("{}: {}", finding.key, finding.text)));
    format!("{} findings", report.found)
}

/// Makes players, boxes and their goods; the account as it stands then.
async fn settle_the_world(all: &Transactions, chance: &mut Chance) -> Result<BTreeMap<String, i64>> {
    let mut account = BTreeMap::new();
    let mut op = || OperationId((u128::from(chance.bits()) << 64) | u128::from(chance.bits()));
    for id in 1..=PLAYERS {
        let birth = Birth { hue: 0, island: ISLAND.0, x: 0, y: 0 };
        player::create(&**all.store(), id, "hammer", &format!("player {id}"), &birth).await?;
        let to = Place::Player(id);
        for name in ["coin", "wood"] {
            let goods = Goods::stack(item(name), WEALTH);
            transfer(all, op(), &[Leg { from: Place::Mint, to, goods }]).await?;
            account.insert(held(to, name), WEALTH as i64);
        }
    }
    for id in 1..=BOXES {
        let op = op();
        let opened = GoodsEffect::open(Limits { slots: 16, per_stack: 1_000_000 });
        all.run(Request::transfer(op, vec![Place::Box(id).part(op, &opened)])).await?;
    }
    Ok(account)
}

/// A process that hammers.
struct Hammer {
    child: Child,
    log: PathBuf,
}

/// Keeps [`PROCESSES`] running for as long as it is to last, killing one after the other; all logs, oldest first.
async fn kill_about(
    hammering: &Hammering,
    chance: &mut Chance,
    command: &impl Fn() -> Command,
) -> Result<(Vec<PathBuf>, u64)> {
    let mut logs = Vec::new();
    let mut start = |predecessor: Option<&Path>, chance: &mut Chance| -> Result<Hammer> {
        let log = hammering.logs.join(format!("{:06}.log", logs.len()));
        std::fs::File::create(&log)?;
        logs.push(log.clone());
        let mut command = command();
        command.args(["--child", "--store", &hammering.store, "--seed", &chance.bits().to_string()]);
        command.arg("--log").arg(&log);
        if let Some(predecessor) = predecessor {
            command.arg("--predecessor").arg(predecessor);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        Ok(Hammer { child: child.context("could not start a process")?, log })
    };
    let mut hammers = Vec::new();
    for _ in 0..PROCESSES {
        hammers.push(start(None, chance)?);
    }
    let until = Instant::now() + Duration::from_secs(hammering.seconds);
    let mut kills = 0;
    while Instant::now() < until {
        sleep(Duration::from_millis(chance.between(KILL_EVERY_MS))).await;
        let hammer = &mut hammers[chance.below(PROCESSES as u64) as usize];
        if let Some(status) = hammer.child.try_wait()? {
            bail!("a process ended by itself: {status}; its log is {}", hammer.log.display());
        }
        hammer.child.kill().await.context("could not kill a process")?;
        kills += 1;
        let next = start(Some(&hammer.log), chance)?;
        *hammer = next;
    }
    // The others finish what they are at.
    for hammer in &mut hammers {
        drop(hammer.child.stdin.take());
    }
    for hammer in &mut hammers {
        let ended = timeout(ENDING, hammer.child.wait()).await;
        let status = ended.with_context(|| format!("a process hangs; its log is {}", hammer.log.display()))??;
        if !status.success() {
            bail!("a process failed: {status}; its log is {}", hammer.log.display());
        }
    }
    Ok((logs, kills))
}

/// Asks again what has no certain answer, until it has one; many at a time, for what the dead have left pending is waited for.
async fn ask_at_last(all: &Arc<Transactions>, log: &Path, operations: &mut Operations) -> Result<()> {
    let log = Arc::new(Log::open(log)?);
    let mut left: Vec<_> = operations.iter().filter(|(_, known)| known.certain().is_none()).collect();
    let mut asking = JoinSet::new();
    let mut answers = Vec::new();
    while !left.is_empty() || !asking.is_empty() {
        while asking.len() < AT_A_TIME
            && let Some((op, known)) = left.pop()
        {
            let (all, log, op, ask) = (all.clone(), log.clone(), *op, known.ask.clone());
            asking.spawn(async move { until_certain(&all, &log, op, &ask).await });
        }
        if let Some(asked) = asking.join_next().await {
            answers.push(asked.context("a task died")??);
        }
    }
    for (op, more) in answers {
        let known = operations.get_mut(&op).context("nobody asked that")?;
        known.answers.extend(more);
        known.asked = known.answers.len() as u64;
    }
    Ok(())
}

async fn until_certain(
    all: &Transactions,
    log: &Log,
    op: OperationId,
    ask: &Ask,
) -> Result<(OperationId, Vec<Answer>)> {
    let mut answers = Vec::new();
    for _ in 0..ASKED_AT_LAST {
        log.asking(op, ask)?;
        let answer = ask.ask(all, op).await;
        log.answered(op, &answer)?;
        let certain = answer.is_certain();
        answers.push(answer);
        if certain {
            break;
        }
    }
    Ok((op, answers))
}

/// The sums of all that was acknowledged; answers that contradict one another are told.
fn account(operations: &Operations, before: BTreeMap<String, i64>, outcome: &mut Outcome) -> BTreeMap<String, i64> {
    let mut account = before;
    for (op, known) in operations {
        outcome.operations += 1;
        outcome.asked_again += (known.answers.len() as u64).saturating_sub(1);
        let first_ok = known.answers.iter().position(|answer| *answer == Answer::Ok);
        let after = first_ok.map_or(&known.answers[..0], |at| &known.answers[at..]);
        if let Some(other) = after.iter().find(|answer| answer.is_certain() && **answer != Answer::Ok) {
            outcome.violations.push(format!("{op} was acknowledged and later answered {other:?}: {:?}", known.ask));
        }
        match known.certain() {
            _ if first_ok.is_some() => {
                outcome.acknowledged += 1;
                *outcome.kinds.entry(known.ask.name()).or_default() += 1;
                for (key, change) in known.ask.account() {
                    *account.entry(key).or_default() += change;
                }
            }
            Some(Answer::Refused(_)) => outcome.refused += 1,
            Some(Answer::Busy(_)) => outcome.busy += 1,
            Some(Answer::Wrong(why)) => outcome.violations.push(format!("{op}: {why}: {:?}", known.ask)),
            Some(Answer::Ok | Answer::Unknown(_)) | None => {
                outcome.violations.push(format!("{op} never got an answer: {:?}", known.ask));
            }
        }
        if first_ok.is_none() {
            // What did not happen is to be compared as well.
            for key in known.ask.account().into_keys() {
                account.entry(key).or_default();
            }
        }
    }
    account
}

/// Lets everything come to rest, and reads the numbers of the account out of the store.
async fn take_stock(all: &Transactions, expected: &BTreeMap<String, i64>) -> Result<BTreeMap<String, i64>> {
    for id in 1..=PLAYERS {
        // A full bag keeps the rest waiting: what waits is counted below.
        promise::keep(all, id).await?;
    }
    for chunk in chunks() {
        all.settle_ledger(&ledger::key_of_chunk(chunk)).await?;
    }
    let mut found = BTreeMap::new();
    for id in 1..=PLAYERS {
        count_player(all, id, &mut found).await?;
    }
    let kind = estate::goods::BoxKind;
    for key in keys(&**all.store(), "box/").await? {
        let Some(kept) = all.read(&kind, &key).await? else { continue };
        let BoxDocument(container) = kept.document;
        let id: u64 = key["box/".len()..].parse()?;
        count(&mut found, Place::Box(id), &container.goods);
        for unique in container.goods.uniques.values() {
            *found.entry(format!("box/{id} {}", unique.item)).or_default() += 1;
        }
    }
    for x in 0..CHUNKS {
        let place = Place::Ground { island: ISLAND.0, x, y: 0 };
        let key = place.key(OperationId(0));
        if let Some(kept) = all.read(&estate::goods::GroundKind, &key).await? {
            let GroundDocument(container) = kept.document;
            count(&mut found, place, &container.goods);
        }
    }
    for chunk in chunks().filter(|chunk| chunk.x < CLAIMABLE && chunk.y < CLAIMABLE) {
        let held = claims::whose(all, chunk).await?.is_some();
        found.insert(format!("chunk/{chunk}"), i64::from(held));
    }
    for key in expected.keys().filter_map(|key| key.strip_prefix("object/")) {
        let id = ObjectId(key.parse()?);
        found.insert(object::key(id), i64::from(works::object(all, id).await?.is_some()));
    }
    Ok(found)
}

async fn count_player(all: &Transactions, id: u64, found: &mut BTreeMap<String, i64>) -> Result<()> {
    let kept = all.read(&player::PlayerKind, &player::key(id)).await?.context("a player is gone")?;
    let PlayerDocument { bag, experience, kept, .. } = kept.document;
    let place = Place::Player(id);
    count(found, place, &bag);
    found.insert(format!("player/{id} experience"), i64::try_from(experience)?);
    let waiting = all.read(&estate::goods::PromiseKind, &promise::key(id)).await?;
    let queue = waiting.map(|kept| kept.document.queue).unwrap_or_default();
    for promised in queue.iter().filter(|promised| promised.id > kept) {
        match &promised.what {
            promise::What::Goods(goods) => count(found, place, goods),
            promise::What::Experience(amount) => {
                *found.entry(format!("player/{id} experience")).or_default() += i64::try_from(*amount)?;
            }
            promise::What::Note(_) => {}
        }
    }
    Ok(())
}

fn count(found: &mut BTreeMap<String, i64>, place: Place, goods: &Goods) {
    for (item, count) in &goods.stacks {
        *found.entry(held(place, item.as_str())).or_default() += i64::try_from(*count).unwrap_or(i64::MAX);
    }
}

/// All keys that start with this.
async fn keys(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let page = store.scan(prefix, keys.last().map(String::as_str), SCAN_LIMIT).await?;
        if page.is_empty() {
            return Ok(keys);
        }
        keys.extend(page.into_iter().map(|(key, _)| key));
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::Known;
    use super::*;

    fn known(ask: &Ask, answers: &[Answer]) -> Known {
        Known { ask: ask.clone(), asked: answers.len() as u64, answers: answers.to_vec() }
    }

    #[test]
    fn the_account_tells_what_was_lost_doubled_or_answered_in_two_ways() {
        let ask = Ask::Transfer { from: Place::Player(1), to: Place::Player(2), amount: 7 };
        let refused = Answer::Refused("too_little".to_owned());
        let operations = Operations::from([
            (OperationId(1), known(&ask, &[Answer::Ok])),
            (OperationId(2), known(&ask, std::slice::from_ref(&refused))),
            (OperationId(3), known(&ask, &[Answer::Unknown(String::new()), Answer::Ok])),
        ]);
        let mut outcome = Outcome::default();
        let account = account(&operations, BTreeMap::new(), &mut outcome);
        assert_eq!(account, BTreeMap::from([("player/1 coin".to_owned(), -14), ("player/2 coin".to_owned(), 14)]));
        assert_eq!((outcome.acknowledged, outcome.refused, outcome.asked_again), (2, 1, 1));
        assert!(outcome.violations.is_empty());
        let contradiction = Operations::from([(OperationId(4), known(&ask, &[Answer::Ok, refused]))]);
        super::account(&contradiction, BTreeMap::new(), &mut outcome);
        assert_eq!(outcome.violations.len(), 1);
        let silent = Operations::from([(OperationId(5), known(&ask, &[]))]);
        super::account(&silent, BTreeMap::new(), &mut outcome);
        assert_eq!(outcome.violations.len(), 2);
    }
}
