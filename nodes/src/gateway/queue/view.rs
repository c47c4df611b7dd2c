//! The queue as one gateway knows it: a pure state, made of a listing and what the watch tells after it.
//!
//! Places are counted for all at once now and then ([`View::count`]), so that telling one costs a look into a table. They
//! NEVER rise while somebody waits, except when somebody of a better class comes. Time comes in as an argument.

use std::collections::{BTreeMap, BTreeSet};

use cartographer::geometry::ObjectId;
use mesh::directory::{Entry, Revision, WatchEvent};
use rustc_hash::FxHashMap;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Class, DOORKEEPER, KEEP_AFTER, Office, Order, WAITING, Waiting};

/// Where somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub place: u32,
    /// How many wait in all.
    pub length: u32,
    /// The player.
    pub player: ObjectId,
    /// The session.
    pub session: Uuid,
    /// When the entry was made.
    pub created: Revision,
}

/// One who waits, as known here.
#[derive(Clone, Debug)]
struct Known {
    waiting: Waiting,
    modified: Revision,
    place: u32,
    /// When it was last put under a lease, as far as this gateway has seen.
    kept: Option<Instant>,
    /// When this gateway first saw it.
    seen: Instant,
    /// The doorkeeper here has let it in; the entry is about to go.
    let_in: bool,
}

/// The queue as it is known here.
#[derive(Debug)]
pub struct View {
    prefix: String,
    line: BTreeMap<Order, Known>,
    players: FxHashMap<ObjectId, Order>,
    sessions: FxHashMap<Uuid, ObjectId>,
    returning: u32,
    /// Players whose entries are to be kept alive.
    polled: BTreeSet<ObjectId>,
    office: Option<Office>,
    abandoned: u64,
    listed: Revision,
    latest: Revision,
}

impl View {
    /// Nothing is known yet. `prefix` is the queue's.
    pub fn new(prefix: &str) -> View {
        View {
            prefix: prefix.to_owned(),
            line: BTreeMap::new(),
            players: FxHashMap::default(),
            sessions: FxHashMap::default(),
            returning: 0,
            polled: BTreeSet::new(),
            office: None,
            abandoned: 0,
            listed: 0,
            latest: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// How many of them are returning.
    pub fn returning(&self) -> u32 {
        self.returning
    }

    /// What the doorkeeper says, if there is one.
    pub fn office(&self) -> Option<&Office> {
        self.office.as_ref()
    }

    /// How many entries went that nobody here had let in.
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// The revision up to which a listing has told everything.
    pub fn listed(&self) -> Revision {
        self.listed
    }

    /// Where a session stands. Being asked keeps its entry alive.
    pub fn poll(&mut self, session: Uuid, now: Instant) -> Option<Place> {
        let player = *self.sessions.get(&session)?;
        self.poll_player(player, now)
    }

    /// Where a player stands. Being asked keeps its entry alive.
    pub fn poll_player(&mut self, player: ObjectId, now: Instant) -> Option<Place> {
        let order = self.players.get(&player)?;
        let known = self.line.get(order)?;
        if known.kept.is_none_or(|kept| now.saturating_duration_since(kept) >= KEEP_AFTER) {
            self.polled.insert(player);
        }
        self.place(player)
    }

    /// Where a player stands.
    pub fn place(&self, player: ObjectId) -> Option<Place> {
        let order = self.players.get(&player)?;
        let known = self.line.get(order)?;
        let session = known.waiting.session;
        Some(Place { place: known.place, length: self.line.len() as u32, player, session, created: order.created })
    }

    /// One who waits, with the entry's revisions.
    pub fn entry(&self, player: ObjectId) -> Option<(&Waiting, Revision, Revision)> {
        let order = self.players.get(&player)?;
        self.line.get(order).map(|known| (&known.waiting, order.created, known.modified))
    }

    /// The first `count` who were not let in yet, with when they were first seen here.
    pub fn heads(&self, count: usize) -> Vec<(Waiting, Revision, Instant)> {
        let waiting = self.line.iter().filter(|(_, known)| !known.let_in);
        waiting.take(count).map(|(order, known)| (known.waiting.clone(), order.created, known.seen)).collect()
    }

    /// Notes that the doorkeeper here has let somebody in.
    pub fn let_in(&mut self, player: ObjectId, created: Revision) {
        let order = self.players.get(&player).filter(|order| order.created == created);
        if let Some(known) = order.and_then(|order| self.line.get_mut(order)) {
            known.let_in = true;
        }
    }

    /// A new term begins: whoever was let in by the last one, and still has an entry, is looked at again.
    pub fn forget_let_in(&mut self) {
        self.line.values_mut().for_each(|known| known.let_in = false);
    }

    /// Takes up to `count` of those whose entries are to be kept alive: player, value, and the revision it was written at.
    pub fn take_polled(&mut self, count: usize) -> Vec<(Waiting, Revision)> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(player) = self.polled.pop_first()
        {
            taken.extend(self.entry(player).map(|(waiting, _, modified)| (waiting.clone(), modified)));
        }
        taken
    }

    /// Counts everybody's place.
    pub fn count(&mut self) {
        for (place, known) in (1..).zip(self.line.values_mut()) {
            known.place = place;
        }
    }

    /// Takes a listing for the whole truth; true if something is different.
    pub fn adopt(&mut self, entries: &[Entry], revision: Revision, now: Instant) -> bool {
        let mut news = false;
        let listed: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone = self.players.keys().filter(|player| !listed.contains(self.key(**player).as_str()));
        let gone: Vec<ObjectId> = gone.copied().collect();
        for player in gone {
            news |= self.remove(player);
        }
        self.office = None;
        for entry in entries {
            news |= self.put(entry, None, now);
        }
        (self.listed, self.latest) = (revision, revision);
        self.count();
        news
    }

    /// Takes in one event of a watch; true if something is different.
    pub fn apply(&mut self, event: &WatchEvent, now: Instant) -> bool {
        match event {
            WatchEvent::Put(entry) if entry.modified > self.listed => {
                self.latest = self.latest.max(entry.modified);
                self.put(entry, Some(now), now)
            }
            WatchEvent::Deleted { key, revision } if *revision > self.listed => {
                self.latest = self.latest.max(*revision);
                match self.player(key) {
                    Some(player) => self.remove(player),
                    None => self.name(key) == Some(DOORKEEPER) && self.office.take().is_some(),
                }
            }
            _ => false,
        }
    }

    /// The latest revision of any news.
    pub fn latest(&self) -> Revision {
        self.latest
    }

    /// The key of a player's entry.
    pub fn key(&self, player: ObjectId) -> String {
        key(&self.prefix, player)
    }

    fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(self.prefix.as_str())
    }

    fn player(&self, key: &str) -> Option<ObjectId> {
        self.name(key)?.strip_prefix(WAITING)?.parse().ok().map(ObjectId)
    }

    fn put(&mut self, entry: &Entry, kept: Option<Instant>, now: Instant) -> bool {
        if self.name(&entry.key) == Some(DOORKEEPER) {
            let office = serde_json::from_slice(&entry.value).ok();
            return std::mem::replace(&mut self.office, office) != self.office;
        }
        let waiting = self.player(&entry.key).and_then(|player| {
            serde_json::from_slice::<Waiting>(&entry.value).ok().filter(|waiting| waiting.player == player)
        });
        // What nobody can read stays where it is until its lease ends; it stands in nobody's way.
        let Some(waiting) = waiting else { return false };
        let Waiting { class, number, player, session, .. } = waiting;
        let created = if planted::is("queue_order_by_clock") { entry.modified } else { entry.created };
        let order = Order { class, created, number, player };
        let mut fresh = Known { waiting, modified: entry.modified, place: 0, kept, seen: now, let_in: false };
        let before = self.players.get(&player).copied();
        let known = before.filter(|before| before.created == order.created).and_then(|before| self.line.get(&before));
        if let Some(known) = known {
            if known.modified > entry.modified {
                return false;
            }
            fresh = Known { place: known.place, seen: known.seen, let_in: known.let_in, ..fresh };
            if known.modified == entry.modified {
                fresh.kept = known.kept;
            }
        }
        if before == Some(order) {
            self.line.insert(order, fresh);
            return false;
        }
        self.take_out(player);
        // The last of its class: exactly so when it is new, and at worst too far back when it was put into a better class.
        if class == Class::Returning {
            self.returning += 1;
        }
        let arriving = if class == Class::Arriving { self.line.len() as u32 + 1 } else { self.returning };
        fresh.place = arriving;
        self.line.insert(order, fresh);
        self.players.insert(player, order);
        self.sessions.insert(session, player);
        true
    }

    fn remove(&mut self, player: ObjectId) -> bool {
        let known = self.take_out(player);
        self.abandoned += u64::from(known.as_ref().is_some_and(|known| !known.let_in));
        known.is_some()
    }

    fn take_out(&mut self, player: ObjectId) -> Option<Known> {
        let order = self.players.remove(&player)?;
        let known = self.line.remove(&order)?;
        self.sessions.remove(&known.waiting.session);
        if order.class == Class::Returning {
            self.returning -= 1;
        }
        Some(known)
    }
}

/// The key of a player's entry in the queue of this prefix.
pub fn key(prefix: &str, player: ObjectId) -> String {
    format!("{prefix}{WAITING}{}", player.0)
}
