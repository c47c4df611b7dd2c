//! The duty itself: standing for election, and while in office looking, planning and doing.
//!
//! Before anything is written the directory is asked whether this node still is the steward. Every write is a
//! compare-and-swap of its own all the same, so that a steward of yesterday NEVER undoes what today's has done. What fails
//! is told in the office and tried again after growing pauses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cartographer::geometry::IslandId;
use cartographer::terrain::Terrain;
use estate::transaction::Transactions;
use futures_util::future::join_all;
use mesh::directory::{Directory, Revision};
use mesh::registry::District;
use mesh::{Mesh, NodeId, PeerState, Role};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::births::Births;
use super::book::{self, BookDocument};
use super::office::Office;
use super::pauses::Pauses;
use super::planner::{Planner, Seen, Situation, Template, What, end_of_life};
use super::{WorldRules, clearing};
use crate::calendar::Calendar;
use crate::draining::Draining;
use crate::election::{self, Term};
use crate::game::grounds::Terrains;
use crate::islands::Archipelago;
use crate::islands::record::{self, ISLAND_LIMIT, IslandKind, IslandRecord, IslandState};
use crate::methods::{ISLANDS_COUNT, unpack};
use crate::owners::MeshOwners;
use crate::world_loop::WorldReport;

/// How often a node that is not the steward looks whether there is one, should the directory not tell it.
const STAND_EVERY: Duration = Duration::from_secs(2);

/// The least pause before a node stands for election, so that one that cannot win does not ask without end.
const STAND_PAUSE: Duration = Duration::from_millis(100);

/// Nodes are spread by up to this, so that not all stand in the same moment.
const SPREAD_MS: u64 = 250;

/// The least number of an island that comes and goes: those of packages are small.
const FIRST_NUMBER: u32 = 1 << 20;

/// Numbers also rise with time, one in so many seconds, so that a directory that lost its data repeats none.
const SECONDS_PER_NUMBER: u64 = 64;

/// Where that time begins, in seconds since 1970.
const NUMBERS_BEGIN_S: u64 = 1_750_000_000;

/// How often a number is asked for when others take numbers meanwhile.
const NUMBER_TRIES: u32 = 8;

/// How often the office is told anew though nothing has happened, in seconds.
const TELL_EVERY_S: u64 = 10;

/// What a steward is made from.
pub struct Parts {
    /// Its place in the mesh.
    pub mesh: Mesh,
    /// The directory.
    pub directory: Arc<dyn Directory>,
    /// The district that it looks after.
    pub district: District,
    /// Where documents lie, and transactions over them.
    pub estate: Arc<Transactions>,
    /// Who lives.
    pub owners: Arc<MeshOwners>,
    /// The islands.
    pub islands: Archipelago,
    /// What this node's own world says of itself.
    pub report: watch::Receiver<Arc<WorldReport>>,
    /// What day it is.
    pub calendar: Calendar,
    /// The lease of the steward's key, in seconds.
    pub lease_ttl_s: u32,
    /// How it looks after the islands.
    pub rules: WorldRules,
    /// Whether this node is being emptied: then it does not stand for election.
    pub draining: Draining,
    /// True once it is to give the duty up for good.
    pub resign: watch::Receiver<bool>,
}

/// Stands for election, and does the duty whenever it is won. Ends with the node, or when it is to resign: then the key is
/// given up, so that another wins without waiting for its lease.
pub async fn serve(parts: Parts) {
    if parts.mesh.registered().await.is_err() {
        return;
    }
    let mut resign = parts.resign.clone();
    let spread = Duration::from_millis(parts.mesh.me().incarnation.0 % SPREAD_MS);
    let key = election::key(&parts.district, "steward");
    let mut duty = Duty::new(parts);
    loop {
        tokio::select! {
            biased;
            () = resigned(&mut resign) => return,
            () = election::vacancy(&*duty.parts.directory, &key, STAND_EVERY) => {}
        }
        tokio::select! {
            biased;
            () = resigned(&mut resign) => return,
            () = sleep(STAND_PAUSE + spread) => {}
        }
        if !duty.parts.mesh.lease().holds() || duty.parts.draining.has_begun() {
            continue;
        }
        duty.office.since_s = duty.parts.calendar.now_s();
        let (directory, ttl_s) = (duty.parts.directory.clone(), duty.parts.lease_ttl_s);
        match election::stand(directory, &key, ttl_s, &duty.office.to_bytes()).await {
            Ok(Some(term)) => {
                tracing::info!(node = %duty.parts.mesh.me().node, "is the steward now");
                // What is done when the term ends is dropped where it waits: all of it can be taken up by another.
                tokio::select! {
                    biased;
                    () = resigned(&mut resign) => {}
                    () = term.keep() => {}
                    () = duty.hold(&term) => {}
                }
                tracing::info!(node = %duty.parts.mesh.me().node, "is not the steward any more");
                term.resign().await;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "could not stand for steward"),
        }
    }
}

async fn resigned(resign: &mut watch::Receiver<bool>) {
    // Without anybody who could ask for it, it NEVER is.
    if resign.wait_for(|resign| *resign).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Why a round or an action came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Directory(#[from] mesh::directory::Error),
    #[error(transparent)]
    Book(#[from] book::BookError),
    #[error(transparent)]
    Clearing(#[from] clearing::ClearError),
    #[error("no more numbers for islands")]
    Numbers,
    #[error("there is no terrain package {0:?} here")]
    Package(String),
    #[error("another has changed it meanwhile")]
    Changed,
}

/// The records in the directory with their revisions.
type Records = BTreeMap<IslandId, (IslandRecord, Revision)>;

pub(super) struct Duty {
    parts: Parts,
    prefix: String,
    book: String,
    planner: Planner,
    births: Births,
    pauses: Pauses,
    office: Office,
    told_s: u64,
    /// What each frontend said last of its players, by island.
    counts: BTreeMap<NodeId, BTreeMap<IslandId, u32>>,
}

impl Duty {
    pub(super) fn new(parts: Parts) -> Duty {
        let office = Office {
            node: parts.mesh.me().node.to_string(),
            district: parts.district.name().to_owned(),
            ..Office::default()
        };
        Duty {
            prefix: record::prefix(&parts.district),
            book: book::key(parts.district.name()),
            planner: Planner::new(parts.rules.clone()),
            births: Births::default(),
            pauses: Pauses::default(),
            told_s: 0,
            counts: BTreeMap::new(),
            office,
            parts,
        }
    }

    /// Does the duty until the term or the node's own lease is over.
    pub(super) async fn hold(&mut self, term: &Term) {
        self.planner = Planner::new(self.parts.rules.clone());
        let mut peers = self.parts.mesh.watch_peers();
        let mut next = Instant::now();
        while term.holds() && self.parts.mesh.lease().holds() {
            tokio::select! {
                biased;
                () = sleep_until(next) => {
                    next = Instant::now() + self.parts.rules.every;
                    let now_s = self.parts.calendar.now_s();
                    match self.round(term, now_s).await {
                        Ok(()) => self.pauses.worked("looking"),
                        Err(trouble) => {
                            tracing::warn!(%trouble, "the steward could not look after the islands");
                            self.pauses.failed("looking", now_s, &trouble.to_string());
                        }
                    }
                    self.tell(term, now_s).await;
                }
                Ok(()) = peers.changed() => {}
            }
            let (now_s, table) = (self.parts.calendar.now_s(), peers.borrow_and_update().clone());
            let lives = table.iter().map(|it| (&it.record.node, it.record.role, it.record.incarnation));
            self.births.look(now_s, lives);
        }
    }

    /// Looks, plans and does.
    pub(super) async fn round(&mut self, term: &Term, now_s: u64) -> Result<(), Trouble> {
        let complete = self.census().await;
        let mut records = self.records().await?;
        let book = book::read(&**self.parts.estate.store(), &self.book).await?;
        self.mend(term, &mut records, &book).await?;
        let seen = self.seen(&book);
        let templates = self.templates(now_s);
        let players = self.counts.values().flat_map(BTreeMap::values).sum();
        let situation = Situation { now_s, players, complete, islands: &seen, templates: &templates };
        let actions = self.planner.plan(&situation);
        self.note(&situation);
        let mut known: Vec<u32> = book.islands.keys().copied().collect();
        for action in actions {
            let (what, place) = self.named(&action.what, &book);
            if !self.pauses.over(&place, now_s) {
                continue;
            }
            if !term.confirm().await {
                return Ok(());
            }
            match self.carry_out(&action.what, &mut records, &mut known, now_s).await {
                Ok(()) => {
                    self.pauses.worked(&place);
                    self.office.did(now_s, what, action.why);
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, what, "the steward failed");
                    self.pauses.failed(&place, now_s, &trouble.to_string());
                }
            }
        }
        Ok(())
    }

    /// An action for people, and the name under which its failures are remembered.
    fn named(&self, what: &What, book: &BookDocument) -> (String, String) {
        let title = |id: &IslandId| {
            let title = book.islands.get(&id.0).map_or("?", |record| record.title.as_str());
            format!("island {id} ({title})")
        };
        match what {
            What::Make(template) => (format!("made an island from {template}"), make_of(template)),
            What::Warn(id, _) => (format!("warned {}", title(id)), format!("warning island {id}")),
            What::Sink(id) => (format!("sank {}", title(id)), format!("sinking island {id}")),
            What::Remove(id) => (format!("removed {}", title(id)), format!("removing island {id}")),
        }
    }

    /// Asks all frontends how many players they have on each island. True if all answered; of the others what they said
    /// last is still believed.
    async fn census(&mut self) -> bool {
        let table = self.parts.mesh.peers();
        let me = self.parts.mesh.me();
        self.counts
            .retain(|node, _| *node == me.node || table.get(node).is_some_and(|it| it.record.role == Role::Frontend));
        if me.role == Role::Frontend {
            self.counts.insert(me.node.clone(), self.parts.report.borrow().by_island.clone());
        }
        let mesh = &self.parts.mesh;
        let frontends = table.iter().filter(|it| it.record.role == Role::Frontend);
        let asked = join_all(frontends.map(|it| async move {
            let node = it.record.node.clone();
            if it.state != PeerState::Up {
                return (node, None);
            }
            let answer = mesh.call(&node, &ISLANDS_COUNT, bytes::Bytes::new()).await.ok();
            (node, answer.and_then(|bytes| unpack::<BTreeMap<IslandId, u32>>(&bytes).ok()))
        }))
        .await;
        let complete = asked.iter().all(|(_, counts)| counts.is_some());
        self.counts.extend(asked.into_iter().filter_map(|(node, counts)| Some((node, counts?))));
        complete
    }

    async fn records(&self) -> Result<Records, Trouble> {
        let (entries, _) = self.parts.directory.list(&self.prefix).await?;
        let read = |entry| IslandRecord::read(&self.prefix, entry).map(|record| (record.id, (record, entry.modified)));
        Ok(entries.iter().filter_map(read).collect())
    }

    /// Makes the directory's records what they should be: those of islands that last, and those in the book.
    async fn mend(&mut self, term: &Term, records: &mut Records, book: &BookDocument) -> Result<(), Trouble> {
        let now_s = self.parts.calendar.now_s();
        let district = self.parts.district.name().to_owned();
        let mut due: Vec<(IslandRecord, &str)> = Vec::new();
        for package in self.parts.islands.stable_packages() {
            match records.get(&package.id()) {
                None => {
                    due.push((IslandRecord::new(package, &district, now_s, 0), "an island that lasts had no record"))
                }
                Some((found, _)) if found.district == district => {
                    let right = IslandRecord { born_s: found.born_s, ..IslandRecord::new(package, &district, 0, 0) };
                    if *found != right {
                        due.push((right, "its terrain package says something else"));
                    }
                }
                Some(_) => {}
            }
        }
        for right in book.islands.values() {
            match records.get(&right.id) {
                // It was being removed.
                None if right.state == IslandState::Sinking => {}
                None => due.push((right.clone(), "it should exist and had no record")),
                Some((found, _)) if found != right => due.push((right.clone(), "the book says something else")),
                Some(_) => {}
            }
        }
        for (right, why) in due {
            let place = format!("restoring island {}", right.id);
            if !self.pauses.over(&place, now_s) {
                continue;
            }
            if !term.confirm().await {
                return Ok(());
            }
            match self.project(&right, records).await {
                Ok(()) => self.office.did(
                    now_s,
                    format!("wrote the record of island {} ({})", right.id, right.title),
                    why.to_owned(),
                ),
                Err(trouble) => self.pauses.failed(&place, now_s, &trouble.to_string()),
            }
        }
        self.sweep(term, records, book, now_s).await
    }

    /// Removes records of islands that come and go which the book does not know: late writes, or of a store that is gone.
    async fn sweep(
        &mut self,
        term: &Term,
        records: &mut Records,
        book: &BookDocument,
        now_s: u64,
    ) -> Result<(), Trouble> {
        let ours = |record: &IslandRecord| {
            record.district == self.parts.district.name() && record.kind == IslandKind::Unstable
        };
        let stray = records.iter().filter(|(id, (record, _))| ours(record) && !book.islands.contains_key(&id.0));
        for (id, revision) in stray.map(|(id, (_, revision))| (*id, *revision)).collect::<Vec<_>>() {
            if !term.confirm().await {
                return Ok(());
            }
            if self.parts.directory.delete(&record::key(&self.parts.district, id), Some(revision)).await? {
                records.remove(&id);
                self.office.did(
                    now_s,
                    format!("removed the record of island {id}"),
                    "no such island is in the book".to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Writes a record, if nobody else has written it since it was read.
    async fn project(&self, right: &IslandRecord, records: &mut Records) -> Result<(), Trouble> {
        let key = record::key(&self.parts.district, right.id);
        let known = records.get(&right.id).map_or(0, |(_, revision)| *revision);
        match self.parts.directory.swap(&key, known, &right.to_bytes(), None).await? {
            Some(revision) => {
                records.insert(right.id, (right.clone(), revision));
                Ok(())
            }
            None => Err(Trouble::Changed),
        }
    }

    fn seen(&self, book: &BookDocument) -> Vec<Seen> {
        let players = |id: IslandId| self.counts.values().filter_map(|counts| counts.get(&id)).sum();
        let seen = |record: &IslandRecord| Seen {
            id: record.id,
            template: record.template.clone(),
            state: record.state,
            ends_s: record.ends_s,
            players: players(record.id),
            animals: self.parts.islands.templates().get(&record.template).map_or(0, |it| animals_of(it)),
        };
        book.islands.values().map(seen).collect()
    }

    fn templates(&self, now_s: u64) -> Vec<Template> {
        let templates = self.parts.islands.templates().iter();
        let usable = templates.filter(|(name, _)| self.pauses.over(&make_of(name), now_s));
        usable.map(|(name, terrain)| Template { name: name.clone(), animals: animals_of(terrain) }).collect()
    }

    async fn carry_out(
        &self,
        what: &What,
        records: &mut Records,
        known: &mut Vec<u32>,
        now_s: u64,
    ) -> Result<(), Trouble> {
        match what {
            What::Make(template) => self.make(template, records, known, now_s).await,
            What::Warn(id, ends_s) => {
                let warned = |record: &mut IslandRecord| {
                    (record.state, record.ends_s) = (IslandState::Warned, *ends_s);
                };
                self.amend(*id, IslandState::Open, warned, records).await
            }
            What::Sink(id) => {
                let sinking = |record: &mut IslandRecord| record.state = IslandState::Sinking;
                self.amend(*id, IslandState::Warned, sinking, records).await
            }
            What::Remove(id) => self.remove(*id, records, known).await,
        }
    }

    /// Makes an island: into the book if that is as it was when this was planned, then into the directory.
    async fn make(
        &self,
        template: &str,
        records: &mut Records,
        known: &mut Vec<u32>,
        now_s: u64,
    ) -> Result<(), Trouble> {
        let package = self.parts.islands.templates().get(template);
        let package = package.ok_or_else(|| Trouble::Package(template.to_owned()))?;
        let store = &**self.parts.estate.store();
        let last = book::read(store, &self.book).await?.last;
        let id = self.number(last, now_s).await?;
        let terrain = package.instance(id, format!("{} {}", package.title(), id.0 % 1_000));
        let ends_s = end_of_life(&self.parts.rules, id, now_s);
        let made = IslandRecord::new(&terrain, self.parts.district.name(), now_s, ends_s);
        let written = book::change(store, &self.book, |book| {
            if book.islands.get(&id.0) == Some(&made) {
                return true;
            }
            let as_planned = book.islands.keys().eq(known.iter());
            if as_planned {
                book.islands.insert(id.0, made.clone());
                book.last = book.last.max(id.0);
            }
            as_planned
        });
        if !written.await? {
            return Err(Trouble::Changed);
        }
        known.push(id.0);
        known.sort_unstable();
        // If this fails the next round finds an island without a record, and writes it.
        self.project(&made, records).await
    }

    /// The next number: never used before in this cluster.
    async fn number(&self, last: u32, now_s: u64) -> Result<IslandId, Trouble> {
        let key = format!("{}island-numbers", self.parts.district.cluster_prefix());
        let by_time = now_s.saturating_sub(NUMBERS_BEGIN_S) / SECONDS_PER_NUMBER;
        let least = FIRST_NUMBER.saturating_add(u32::try_from(by_time).unwrap_or(u32::MAX)).max(last.saturating_add(1));
        for _ in 0..NUMBER_TRIES {
            let (used, revision) = match self.parts.directory.get(&key).await? {
                Some(entry) => (std::str::from_utf8(&entry.value).ok().and_then(|it| it.parse().ok()), entry.modified),
                None => (None, 0),
            };
            let next = used.map_or(least, |used: u32| least.max(used.saturating_add(1)));
            if next >= ISLAND_LIMIT {
                return Err(Trouble::Numbers);
            }
            if self.parts.directory.swap(&key, revision, next.to_string().as_bytes(), None).await?.is_some() {
                return Ok(IslandId(next));
            }
        }
        Err(Trouble::Changed)
    }

    /// Changes an island that is in this state, in the book and then in the directory.
    async fn amend(
        &self,
        id: IslandId,
        from: IslandState,
        change: impl Fn(&mut IslandRecord) + Send + Sync,
        records: &mut Records,
    ) -> Result<(), Trouble> {
        let mut right = None;
        let written = book::change(&**self.parts.estate.store(), &self.book, |book| {
            let Some(record) = book.islands.get_mut(&id.0).filter(|record| record.state == from) else { return false };
            change(record);
            right = Some(record.clone());
            true
        });
        let written = written.await?;
        match right.filter(|_| written) {
            Some(right) => self.project(&right, records).await,
            None => Err(Trouble::Changed),
        }
    }

    /// Clears an island's documents, then takes its record away, then forgets it: whoever dies in between leaves an island
    /// that sinks, and the next steward does the rest.
    async fn remove(&self, id: IslandId, records: &mut Records, known: &mut Vec<u32>) -> Result<(), Trouble> {
        let store = &**self.parts.estate.store();
        let book = book::read(store, &self.book).await?;
        let Some(record) = book.islands.get(&id.0) else { return Err(Trouble::Changed) };
        let package = self.parts.islands.templates().get(&record.template);
        if let Some(package) = package {
            let terrain = package.instance(id, record.title.clone());
            let grounds = Terrains::new(&self.parts.islands);
            clearing::clear(&self.parts.estate, &grounds, &self.parts.owners, &terrain).await?;
        }
        if let Some((_, revision)) = records.get(&id) {
            let key = record::key(&self.parts.district, id);
            if !self.parts.directory.delete(&key, Some(*revision)).await? {
                return Err(Trouble::Changed);
            }
            records.remove(&id);
        }
        let forgotten = book::change(store, &self.book, |book| {
            let sinking = |record: &IslandRecord| record.state == IslandState::Sinking;
            book.islands.get(&id.0).is_some_and(sinking) && book.islands.remove(&id.0).is_some()
        });
        forgotten.await?;
        known.retain(|other| *other != id.0);
        Ok(())
    }

    /// Writes down what was seen.
    fn note(&mut self, seen: &Situation<'_>) {
        let open = || seen.islands.iter().filter(|it| it.state == IslandState::Open);
        let there: u32 = seen.islands.iter().map(|it| it.players).sum();
        let office = &mut self.office;
        office.looked_s = seen.now_s;
        office.players = seen.players;
        office.growth_per_minute = (self.planner.growth_per_minute() * 10.0).round() / 10.0;
        office.open = open().count() as u32;
        office.animals = open().map(|it| it.animals).sum();
        office.wanted = self.planner.wanted(self.planner.need_of(seen.players, there));
    }

    /// Tells the office, if there is news or it has been a while.
    async fn tell(&mut self, term: &Term, now_s: u64) {
        let troubles: Vec<String> = self.births.loops().into_iter().chain(self.pauses.told(now_s)).collect();
        let news = self.office.deeds.back().is_some_and(|deed| deed.at_s == now_s)
            || troubles.len() != self.office.troubles.len();
        self.office.troubles = troubles;
        if (news || now_s >= self.told_s + TELL_EVERY_S) && term.tell(&self.office.to_bytes()).await {
            self.told_s = now_s;
        }
    }
}

fn make_of(template: &str) -> String {
    format!("making an island from {template}")
}

/// Animals of all habitats of an island.
pub fn animals_of(terrain: &Terrain) -> u32 {
    terrain.habitats().iter().map(|habitat| u32::from(habitat.animals)).sum()
}
