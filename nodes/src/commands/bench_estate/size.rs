//! `wildmesh bench estate --size`: what a large world costs before anybody touches it, and what a large store costs to open
//! and to audit.
//!
//! First 836 islands with 3,000,000 natural objects (mirages) are opened from terrain packages, every chunk's deed is read,
//! and the documents that came of it are counted: there MUST be none, until one is touched. Then a store of its own is
//! filled with deeds and the objects on them, as transactions would have left them; processes of their own open it and
//! audit it, and are measured from outside through `/proc`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cartographer::geometry::{Chunk, IslandId, ObjectId, Tile};
use cartographer::ground::Ground;
use cartographer::terrain::Terrain;
use estate::document::{Document, encode};
use estate::kinds;
use estate::land::footprint::index_in_chunk;
use estate::land::{By, DeedDocument, Footprint, Grounds, ObjectDocument, Rotation, Stand, deed, object, works};
use estate::store::embedded::{self, Durability};
use estate::store::memory::MemoryStore;
use estate::store::{Store, StoreError, WriteOptions};
use estate::transaction::{Marks, NoOwners, OperationId, Transactions};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::scratch;
use crate::cli::BenchEstate;
use crate::commands::bench_world::maker::{self, Drawing, SIDE};
use crate::game::grounds::Terrains;
use crate::islands::Archipelago;

/// Islands, and natural objects on each: 3,000,000 in all, as Durango's second beta had.
const ISLANDS: u32 = 836;
const NATURALS: usize = 3_589;

/// Objects on each deed of the large store.
const OBJECTS: u64 = 3;
/// Writes under way while it is filled.
const AT_A_TIME: usize = 4_096;

/// How often the store is opened in a fresh process.
const OPENINGS: usize = 5;
/// How often a process's memory is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Runs the command.
pub(super) async fn run(bench: &BenchEstate) -> Result<()> {
    let folder = scratch("size")?;
    let figures = measure(bench, &folder).await;
    std::fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
    let figures = figures?;
    if bench.json {
        println!("{figures}");
    }
    Ok(())
}

async fn measure(bench: &BenchEstate, folder: &Path) -> Result<Value> {
    let islands = folder.join("islands");
    draw_islands(&islands)?;
    let mirages = mirages(&islands).await?;
    let store = folder.join("store");
    let filled = fill(&store, bench.deeds).await?;
    let opened = open_in_fresh_processes(&store)?;
    let audited = audit_in_fresh_process(&store, &islands).await?;
    Ok(json!({ "mirages": mirages, "filled": filled, "opened": opened, "audited": audited }))
}

/// Writes the terrain packages: grass all over, and naturals evenly among it.
fn draw_islands(folder: &Path) -> Result<()> {
    maker::begin(folder)?;
    let drawing = Drawing { naturals: NATURALS, ..Drawing::default() };
    (1..=ISLANDS).try_for_each(|island| maker::island(folder, island, &drawing))
}

/// Opens all islands, reads the deed of every chunk, and touches one mirage.
async fn mirages(folder: &Path) -> Result<Value> {
    let started = Instant::now();
    let terrains: Vec<Arc<Terrain>> = cartographer::terrain::open_folder(folder)?.into_iter().map(Arc::new).collect();
    let opened = started.elapsed();
    let naturals: usize = terrains.iter().map(|terrain| terrain.natural_count()).sum();
    let store = MemoryStore::new();
    let grounds = Arc::new(Terrains::new(&Archipelago::new(terrains.iter().cloned())));
    let owners = Arc::new(NoOwners { all_gone: true });
    let transactions = Transactions::new(Arc::new(store.client()), kinds::all(grounds.clone()), owners, 1);
    let (mut read, mut stands) = (0_u64, 0_usize);
    for terrain in &terrains {
        let (width, height) = terrain.size();
        for (x, y) in (0..height / 16).flat_map(|y| (0..width / 16).map(move |x| (x, y))) {
            let chunk = Chunk { island: terrain.id(), x, y };
            stands += works::deed(&transactions, &*grounds, chunk).await?.stands.len();
            read += 1;
        }
    }
    let before = store.snapshot().len();
    let first = terrains.first().context("no island")?;
    let (tile, _) = first.naturals_within(Tile::new(0, 0), Tile::new(SIDE, SIDE)).next().context("no mirage")?;
    let (at, number) = ((first.id(), tile), grounds.natural(first.id(), tile));
    works::clear_natural(&transactions, &*grounds, OperationId(1), By::World, at, number, &[]).await?;
    let after: Vec<String> = store.snapshot().keys().cloned().collect();
    let deeds = after.iter().filter(|key| key.starts_with("deed/")).count();
    eprintln!(
        "{} islands with {naturals} mirages opened in {:.2} s; {read} deeds read: {before} documents; one mirage touched: {deeds} deed",
        terrains.len(),
        opened.as_secs_f64(),
    );
    if naturals < 3_000_000 || stands != naturals || before != 0 || deeds != 1 {
        bail!("{naturals} mirages, {stands} in deeds, {before} documents before one was touched, then {after:?}");
    }
    Ok(json!({
        "islands": terrains.len(), "mirages": naturals, "open_s": opened.as_secs_f64(), "deeds_read": read,
        "documents_before": before, "deeds_after_one_touch": deeds,
    }))
}

/// The deed number `n` of the large store, and the objects on it.
fn land(n: u64) -> Result<Vec<(String, bytes::Bytes)>> {
    let island = IslandId(1 + (n % u64::from(ISLANDS)) as u32);
    let within = n / u64::from(ISLANDS);
    // An island of 256 × 256 chunks has room for far more than there are.
    let chunk = Chunk { island, x: (within % 256) as u16, y: (within / 256) as u16 };
    let mut documents = Vec::new();
    let mut stands = std::collections::BTreeMap::new();
    for i in 0..OBJECTS {
        let id = ObjectId(1 + n * OBJECTS + i);
        let tile = Tile::new(chunk.x * 16 + 5 * i as u16, chunk.y * 16 + (n % 16) as u16);
        stands.insert(index_in_chunk(tile), Stand::Object(id));
        let document = ObjectDocument {
            v: ObjectDocument::VERSION,
            id,
            kind: "post".to_owned(),
            island,
            footprint: Footprint::new(tile, 1, 1, Rotation::R0)?,
            holding: None,
            builder: ObjectId(1 + n % 10_000),
            made_s: 1_780_000_000 + n,
            data: Map::new(),
            removed: None,
            marks: Marks::default(),
            rest: Map::new(),
        };
        documents.push((object::key(id), encode(&document)?));
    }
    let (x, y) = (chunk.x, chunk.y);
    let (marks, rest) = (Marks::default(), Map::new());
    let document = DeedDocument { v: DeedDocument::VERSION, island, x, y, stands, holding: None, marks, rest };
    documents.push((deed::key(chunk), encode(&document)?));
    Ok(documents)
}

async fn fill(folder: &Path, deeds: u64) -> Result<Value> {
    let store = Arc::new(embedded::open(folder, Durability::Process).await?);
    let started = Instant::now();
    let documents = (0..deeds).flat_map(|n| match land(n) {
        Ok(documents) => documents.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let writing = documents.map(|document| {
        let store = store.clone();
        async move {
            let (key, value) = document?;
            let bytes = value.len() as u64;
            store.insert(&key, value, WriteOptions::early()).await.with_context(|| format!("could not write {key}"))?;
            anyhow::Ok(bytes)
        }
    });
    let written = stream::iter(writing).buffer_unordered(AT_A_TIME);
    let mut progress = 0_u64;
    let (documents, bytes) = written
        .try_fold((0_u64, 0_u64), |(documents, bytes), more| {
            if documents / 1_000_000 > progress {
                progress = documents / 1_000_000;
                eprintln!("{progress} million documents after {:.0} s", started.elapsed().as_secs_f64());
            }
            std::future::ready(Ok((documents + 1, bytes + more)))
        })
        .await?;
    let took = started.elapsed().as_secs_f64();
    let described = store.describe().await;
    store.close().await;
    if !matches!(store.get("deed/1/0/0").await, Err(StoreError::Closed)) {
        bail!("the store did not close");
    }
    eprintln!(
        "{documents} documents of {} bytes each on average in {took:.0} s: {described}",
        bytes / documents.max(1)
    );
    Ok(json!({ "documents": documents, "deeds": deeds, "value_bytes": bytes, "seconds": took, "store": described }))
}

fn wildmesh(words: &[&str], store: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command.args(words).arg("--store").arg(store).stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// From starting a process to its end, which has opened the store and read one document.
fn open_in_fresh_processes(store: &Path) -> Result<Value> {
    let mut took = Vec::new();
    for _ in 0..OPENINGS {
        let started = Instant::now();
        let output = wildmesh(&["estate", "show", "deed/1/0/0"], store)?.output()?;
        took.push(started.elapsed().as_secs_f64());
        if !output.status.success() {
            bail!("the store could not be opened by another process: {}", output.status);
        }
    }
    took.sort_by(f64::total_cmp);
    let (median, most) = (took[OPENINGS / 2], took[OPENINGS - 1]);
    eprintln!("a fresh process opens it, reads a deed and ends within {median:.3} s (median; at most {most:.3} s)");
    Ok(json!({ "process_s": median, "process_most_s": most, "times": OPENINGS }))
}

/// Memory of a process in KiB: its own (anonymous), and all that is resident, the mapped file included.
fn memory_kib(child: &Child) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((field("RssAnon:")?, field("VmRSS:")?))
}

/// Audits the store in a process of its own, and reads that process's memory all the while.
async fn audit_in_fresh_process(store: &Path, islands: &Path) -> Result<Value> {
    let report = store.with_extension("audit.json");
    let islands = islands.to_str().context("a folder with an odd name")?;
    let mut command = wildmesh(&["estate", "audit", "--json", "--offline", "--islands", islands], store)?;
    let started = Instant::now();
    let mut child = command.stdout(std::fs::File::create(&report)?).spawn().context("could not start the audit")?;
    let mut samples: Vec<(f64, u64, u64)> = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some((own, all)) = memory_kib(&child) {
            samples.push((started.elapsed().as_secs_f64(), own, all));
        }
        sleep(SAMPLE_EVERY).await;
    };
    let took = started.elapsed().as_secs_f64();
    let text = std::fs::read_to_string(&report)?;
    let said: Value = text.lines().last().map(serde_json::from_str).transpose()?.unwrap_or_default();
    if !status.success() || said["clean"] != true {
        bail!("the audit ended with {status}: {}", text.chars().take(2_000).collect::<String>());
    }
    let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
    let quarters: Vec<Value> = (0..=4)
        .map(|quarter| {
            let (second, own, all) = at(quarter);
            json!({ "s": second, "own_mib": own as f64 / 1024.0, "with_map_mib": all as f64 / 1024.0 })
        })
        .collect();
    let most = samples.iter().map(|sample| sample.1).max().unwrap_or_default() as f64 / 1024.0;
    let own: Vec<String> = (1..=4).map(|quarter| format!("{:.1}", at(quarter).1 as f64 / 1024.0)).collect();
    eprintln!(
        "audited in {took:.0} s: clean; its own memory at the quarters {} MiB, at most {most:.1} (the mapped file not counted)",
        own.join(", ")
    );
    Ok(
        json!({ "seconds": took, "clean": true, "documents": said["documents"], "quarters": quarters, "own_most_mib": most }),
    )
}
