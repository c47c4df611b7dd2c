//! `wildmesh estate` and `wildmesh migrate`: looking at documents, checking them all, and mending what is safe to mend.
//!
//! These tools open the store beside the nodes that use it. They take part in transactions like everybody else, but have
//! no place in the mesh: a document that names an owner is left to that owner, unless `--offline` says that no node runs.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cartographer::geometry::{Chunk, IslandId};
use estate::audit::{self, Report};
use estate::document::peek;
use estate::goods::promise::{self, What};
use estate::goods::{Goods, ItemName, Place};
use estate::kinds;
use estate::land::{DeedDocument, HoldingDocument, Stand, deed, footprint, holding, ledger};
use estate::store::{Outcome, Store};
use estate::transaction::arbiter::LedgerDocument;
use estate::transaction::{NoOwners, OperationId, Transactions};
use serde_json::{Value, json};

use crate::cli::{Audit, Deed, Estate, Give, Migrate, Show, StoreArg};
use crate::game::grounds::Terrains;
use crate::gateway;
use crate::islands::record::IslandRecord;
use crate::islands::{self, Archipelago};
use crate::passage;
use crate::steward;
use crate::steward::book;
use crate::wiring::drivers::{self, StoreSpec};

/// What an audit's exit code says when something is wrong: another than that of a command that failed.
const UNCLEAN: u8 = 2;

/// How often a progress line is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The width of a progress bar, in characters.
const BAR: u64 = 30;

/// Runs the command.
pub async fn run(command: Estate) -> Result<ExitCode> {
    match command {
        Estate::Show(show) => self::show(show).await.map(|()| ExitCode::SUCCESS),
        Estate::Deed(deed) => self::deed(deed).await.map(|()| ExitCode::SUCCESS),
        Estate::Give(give) => self::give(give).await.map(|()| ExitCode::SUCCESS),
        Estate::Audit(audit) => self::audit(audit).await,
    }
}

/// Opens a store that is there: a tool NEVER makes an empty one because of a mistyped name.
async fn open(store: &StoreArg) -> Result<Arc<dyn Store>> {
    if let StoreSpec::Embedded(folder) = &store.store
        && !folder.is_dir()
    {
        bail!("there is no store in {}: name one by --store", folder.display());
    }
    drivers::store(&store.store).await
}

/// All islands of all districts: the lasting ones of the packages, and those that come and go, as the stewards' books name
/// them.
async fn archipelago(store: &dyn Store, folder: Option<&Path>) -> Result<Archipelago> {
    let islands = islands::open(folder)?;
    let read = book::all(store).await.context("could not read the books of islands")?;
    // A tool belongs to no district: every island is its own.
    let records = read.into_iter().map(|record| (record.id, IslandRecord { district: String::new(), ..record }));
    islands.adopt(records.collect());
    Ok(islands)
}

async fn transactions(store: Arc<dyn Store>, islands: Option<&Path>, offline: bool) -> Result<Transactions> {
    let grounds = Arc::new(Terrains::new(&archipelago(&*store, islands).await?));
    let secret = drivers::secret()?;
    let seed = u64::from_le_bytes(std::array::from_fn(|i| secret[i]));
    let kinds = kinds::all(grounds).beside(gateway::DOCUMENTS).beside(steward::DOCUMENTS).beside(passage::DOCUMENTS);
    Ok(Transactions::new(store, kinds, Arc::new(NoOwners { all_gone: offline }), seed))
}

async fn show(show: Show) -> Result<()> {
    let store = open(&show.store).await?;
    let Some(stored) = store.get(&show.key).await? else {
        bail!("there is no document {:?} in {}", show.key, store.describe().await);
    };
    let text = match serde_json::from_slice::<Value>(&stored.value) {
        Ok(value) => serde_json::to_string_pretty(&value)?,
        Err(error) => {
            eprintln!("warning: {} is not JSON: {error}", show.key);
            String::from_utf8_lossy(&stored.value).into_owned()
        }
    };
    eprintln!("{} · version {} · {} bytes", show.key, stored.version, stored.value.len());
    println!("{text}");
    Ok(())
}

async fn deed(asked: Deed) -> Result<()> {
    let chunk = Chunk { island: IslandId(asked.island), x: asked.x, y: asked.y };
    let store = open(&asked.store).await?;
    let islands = archipelago(&*store, asked.islands.as_deref()).await?;
    if islands.get(chunk.island).is_none() {
        let known: Vec<String> =
            islands.all().iter().map(|terrain| format!("{} {}", terrain.id(), terrain.name())).collect();
        bail!("there is no island {}; there are {}", asked.island, known.join(", "));
    }
    let kept = peek::<DeedDocument>(&*store, &deed::key(chunk)).await?;
    let written = kept.is_some();
    let document = match kept {
        Some(kept) => kept.document,
        None => deed::born(&Terrains::new(&islands), chunk)?,
    };
    let held = match document.holding {
        Some(id) => peek::<HoldingDocument>(&*store, &holding::key(id)).await?,
        None => None,
    };
    let held = held.filter(|kept| kept.document.lists(chunk));
    let key = ledger::key_of_chunk(chunk);
    let pending = peek::<LedgerDocument>(&*store, &key).await?.map(|kept| kept.document.entries).unwrap_or_default();
    if asked.json {
        let holding = held.map(|kept| kept.document);
        println!("{}", json!({ "written": written, "deed": document, "holding": holding, "pending": pending }));
        return Ok(());
    }
    let from = if written { "" } else { " (no document: nobody has changed it, the terrain package is the deed)" };
    println!("{}{from}", deed::key(chunk));
    print!("{}", map(chunk, &document));
    match held {
        Some(kept) => println!(
            "holding {} of player {}, {} chunks",
            kept.document.id,
            kept.document.owner,
            kept.document.chunks.len()
        ),
        None => println!("free land"),
    }
    if let Some(intent) = &document.marks.intent {
        println!("held by operation {} of {}", intent.op, intent.arbiter);
    }
    for (op, entry) in &pending {
        println!("{key}: operation {op} is {:?}", entry.state);
    }
    Ok(())
}

/// The chunk as people read it: `.` free, `n` natural, letters for objects, and what the letters stand for.
fn map(chunk: Chunk, document: &DeedDocument) -> String {
    let mut named = Vec::new();
    let mut text = String::new();
    for index in 0..=u8::MAX {
        let sign = match document.stands.get(&index) {
            None => '.',
            Some(Stand::Natural(_)) => 'n',
            Some(Stand::Object(id)) => {
                let place = named.iter().position(|other| other == id).unwrap_or_else(|| {
                    named.push(*id);
                    named.len() - 1
                });
                char::from(b'A' + (place % 26) as u8)
            }
        };
        text.push(sign);
        let row_ends = footprint::tile_in_chunk(chunk, index).is_none_or(|tile| tile.x % 16 == 15);
        if row_ends {
            text.push('\n');
        }
    }
    for (place, id) in named.iter().enumerate() {
        text.push_str(&format!("{} is object {id}\n", char::from(b'A' + (place % 26) as u8)));
    }
    text
}

async fn give(asked: Give) -> Result<()> {
    let item: ItemName = asked.item.parse()?;
    if asked.count == 0 {
        bail!("0 {item} is nothing to give");
    }
    let op = match asked.op {
        Some(op) => op,
        None => OperationId(u128::from_le_bytes(std::array::from_fn({
            let secret = drivers::secret()?;
            move |i| secret[i]
        }))),
    };
    let transactions = transactions(open(&asked.store).await?, asked.islands.as_deref(), false).await?;
    let goods = What::Goods(Goods::stack(item.clone(), asked.count));
    if let Err(error) = promise::give(&transactions, op, Place::Mint, asked.player, goods).await {
        let done = outcome(error.outcome());
        return Err(anyhow::Error::new(error).context(format!("operation {op}: {done}")));
    }
    println!("operation {op}: {} {item} are promised to player {}", asked.count, asked.player);
    Ok(())
}

async fn audit(asked: Audit) -> Result<ExitCode> {
    let store = open(&asked.store).await?;
    let total = store.estimate().await;
    let transactions = transactions(store, asked.islands.as_deref(), asked.offline).await?;
    let mut bar = Bar::new(total);
    let report = audit::audit(&transactions, asked.repair, &mut |progress| {
        bar.draw(progress.doing, progress.documents, progress.found);
    })
    .await;
    bar.clear();
    let report = report.context("the audit could not be finished")?;
    if asked.json {
        let mut value = serde_json::to_value(&report)?;
        value["clean"] = Value::from(report.clean());
        println!("{value}");
    } else {
        print!("{}", told(&report, asked.repair));
    }
    Ok(if report.clean() { ExitCode::SUCCESS } else { ExitCode::from(UNCLEAN) })
}

fn told(report: &Report, repair: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let repaired = if finding.repaired { "repaired: " } else { "" };
        let rule = serde_json::to_value(finding.rule).unwrap_or_default();
        text.push_str(&format!("{} [{}] {repaired}{}\n", finding.key, rule.as_str().unwrap_or("?"), finding.text));
    }
    let unlisted = report.found - report.findings.len() as u64;
    if unlisted > 0 {
        text.push_str(&format!("and {unlisted} more\n"));
    }
    let kinds: Vec<String> = report.documents.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let documents = if kinds.is_empty() { "no documents".to_owned() } else { kinds.join(", ") };
    let left = report.found - report.repaired;
    text.push_str(&format!("{documents}\n"));
    if report.in_use {
        text.push_str("the store is in use: goods that changed hands meanwhile may be counted twice or not at all\n");
    }
    text.push_str(&match (left, report.repaired) {
        (0, 0) => "clean\n".to_owned(),
        (0, repaired) => format!("clean after {repaired} repairs\n"),
        (left, _) if repair => format!("{left} findings that cannot be repaired safely\n"),
        (left, _) => format!("{left} findings; --repair mends those that are safe to mend\n"),
    });
    text
}

/// `wildmesh migrate --rehearse`.
pub async fn migrate(asked: Migrate) -> Result<ExitCode> {
    if !asked.rehearse {
        bail!("documents are migrated when they are next used; --rehearse tells beforehand what would fail");
    }
    let store = open(&asked.store).await?;
    let mut bar = Bar::new(store.estimate().await);
    let (mut kind_now, mut kinds_before, mut read_now) = ("", 0, 0);
    let found = kinds::rehearse_all(&*store, &mut |kind, read| {
        if kind != kind_now {
            (kind_now, kinds_before) = (kind, kinds_before + read_now);
        }
        read_now = read;
        bar.draw(kind, kinds_before + read, 0);
    })
    .await;
    bar.clear();
    let found = found.context("the rehearsal could not be finished")?;
    let failed: u64 = found.iter().map(|(_, rehearsal)| rehearsal.failed).sum();
    if asked.json {
        let kinds: Value = found
            .iter()
            .map(|(kind, r)| {
                let failures: Vec<String> = r.failures.iter().map(ToString::to_string).collect();
                let value = json!({ "documents": r.documents, "old": r.old, "failed": r.failed, "failures": failures });
                ((*kind).to_owned(), value)
            })
            .collect::<serde_json::Map<String, Value>>()
            .into();
        println!("{}", json!({ "failed": failed, "kinds": kinds }));
    } else {
        for (kind, rehearsal) in found.iter().filter(|(_, rehearsal)| rehearsal.documents > 0) {
            println!("{kind:<10} {:>10} documents, {:>8} old", rehearsal.documents, rehearsal.old);
            rehearsal.failures.iter().for_each(|failure| println!("    ! {failure}"));
        }
        println!("{}", if failed == 0 { "all can be read".to_owned() } else { format!("{failed} would fail") });
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(UNCLEAN) })
}

/// A progress bar on standard error; nothing where that is no terminal.
struct Bar {
    total: Option<u64>,
    shown: bool,
    drawn: Option<Instant>,
    width: usize,
}

impl Bar {
    fn new(total: Option<u64>) -> Bar {
        Bar { total, shown: std::io::stderr().is_terminal(), drawn: None, width: 0 }
    }

    #[allow(clippy::disallowed_methods)] // how often people see a line is no part of any simulation
    fn draw(&mut self, doing: &str, documents: u64, found: u64) {
        if !self.shown || self.drawn.is_some_and(|last| last.elapsed() < DRAW_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut line = match self.total {
            Some(total) if total > 0 => {
                let full = (documents.min(total) * BAR / total) as usize;
                let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR as usize - full));
                format!("{bar} {documents} of about {total} · {doing}")
            }
            _ => format!("{documents} documents · {doing}"),
        };
        if found > 0 {
            line.push_str(&format!(" · {found} to look at"));
        }
        let width = line.chars().count();
        // What was longer before is painted over.
        line.push_str(&" ".repeat(self.width.saturating_sub(width)));
        self.width = width;
        eprint!("\r{line}");
        // A terminal that cannot be written to shows nothing; the result does not depend on it.
        let _ = std::io::stderr().flush();
    }

    fn clear(&self) {
        if self.drawn.is_some() {
            eprint!("\r{}\r", " ".repeat(self.width));
        }
    }
}

/// What became of something that failed, for people.
fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotDone => "nothing was changed",
        Outcome::Done => "it has happened",
        Outcome::Maybe => "it may have happened: ask again with --op and this id",
    }
}
