//! The queue on simulated directory, store and time: its order, whatever happens to gateways, directory and replies.
//!
//! A checker of its own watches the directory: it learns the order from the keys alone, and who was let in when from their
//! removal and the sessions' documents.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cartographer::geometry::ObjectId;
use estate::kinds;
use estate::store::memory::{Fault, Faults, MemoryStore};
use estate::transaction::{NoOwners, Transactions};
use futures_util::future::join_all;
use mesh::NodeId;
use mesh::directory::memory::{Calls, Cut, Loss, MemoryClient, MemoryDirectory};
use mesh::directory::{Directory, Revision, WatchEvent};
use mesh::registry::District;
use mesh::tasks::Tasks;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::doorkeeper::{self, Counts, Frontends, Refused};
use super::follower::{self, Line};
use super::scribe::Scribe;
use super::view::{Place, View};
use super::{Class, QueueError, Waiting, prefix};
use crate::game::grounds::Terrains;
use crate::gateway;
use crate::gateway::session::{FrontendAddress, SessionDocument};
use crate::islands::Archipelago;
use crate::metrics::Metrics;

/// More than anything here takes on simulated time.
const LONG: Duration = Duration::from_secs(900);

/// Frontends that have so much room, and take their time.
struct Hall {
    gate: String,
    room: Arc<AtomicU32>,
    delay: Mutex<Duration>,
    unfit: Mutex<Option<ObjectId>>,
}

#[async_trait]
impl Frontends for Hall {
    fn room(&self) -> u32 {
        self.room.load(Atomic::SeqCst)
    }

    async fn open(&self, waiting: &Waiting) -> Result<SessionDocument, Refused> {
        let delay = *self.delay.lock().unwrap();
        sleep(delay).await;
        if *self.unfit.lock().unwrap() == Some(waiting.player) {
            return Err(Refused::Unfit("nobody wants it".to_owned()));
        }
        if self.room.load(Atomic::SeqCst) == 0 {
            return Err(Refused::Full);
        }
        let frontend = FrontendAddress { node: NodeId::new("frontend-1").unwrap(), url: "ws://f".to_owned() };
        let closed = SessionDocument::closed(waiting.player);
        Ok(SessionDocument { frontend: Some(frontend), ticket: self.gate.clone(), closed: false, ..closed })
    }
}

struct Site {
    tasks: Tasks,
    directory: MemoryDirectory,
    store: MemoryStore,
    room: Arc<AtomicU32>,
}

struct Gate {
    name: String,
    tasks: Tasks,
    client: MemoryClient,
    line: Arc<Line>,
    scribe: Scribe,
    hall: Arc<Hall>,
    faults: Faults,
    counts: Counts,
}

impl Site {
    fn new(seed: u64) -> Site {
        let tasks = Tasks::simulated();
        let directory = MemoryDirectory::start(&tasks, seed);
        Site { tasks, directory, store: MemoryStore::new(), room: Arc::default() }
    }

    fn prefix() -> String {
        prefix(&District::new("test", "main"))
    }

    fn gate(&self, number: u64, per_second: u32) -> Gate {
        let (tasks, name, client) = (Tasks::simulated(), format!("gateway-{number}"), self.directory.client());
        let directory: Arc<dyn Directory> = Arc::new(client.clone());
        let metrics = Metrics::new(&name, "gateway");
        let line = Line::new(&Site::prefix(), metrics.gauge("queue_length", "waiting"));
        tasks.spawn(follower::follow(directory.clone(), Site::prefix(), line.clone()));
        let scribe = Scribe::start(directory.clone(), &Site::prefix(), line.clone(), &tasks);
        let store = self.store.client();
        let (faults, counts) = (store.faults(), Counts::new(&metrics));
        let kinds = kinds::all(Arc::new(Terrains::new(&Archipelago::new([])))).beside(gateway::DOCUMENTS);
        let owners = Arc::new(NoOwners { all_gone: false });
        let estate = Arc::new(Transactions::new(Arc::new(store), kinds, owners, number));
        let (room, delay) = (self.room.clone(), Mutex::default());
        let hall = Arc::new(Hall { gate: name.clone(), room, delay, unfit: Mutex::default() });
        let parts = doorkeeper::Parts {
            node: name.clone(),
            directory,
            prefix: Site::prefix(),
            line: line.clone(),
            estate,
            frontends: hall.clone(),
            per_second,
            spread: number * 100,
            counts: counts.clone(),
        };
        tasks.spawn(doorkeeper::serve(parts, || true));
        Gate { name, tasks, client, line, scribe, hall, faults, counts }
    }

    /// Who waits, in order, as the directory itself has it.
    fn waiting(&self) -> Vec<Waiting> {
        let mut view = View::new(&Site::prefix());
        view.adopt(&self.directory.peek(&Site::prefix()), 1, Instant::now());
        view.heads(usize::MAX).into_iter().map(|(waiting, ..)| waiting).collect()
    }

    /// The sessions that were let in, with the gateway whose ticket counts.
    fn admitted(&self) -> BTreeMap<Uuid, String> {
        let read = |(key, stored): (String, estate::store::Stored)| {
            let session = key.strip_prefix("session/")?.parse().ok()?;
            let document: SessionDocument = serde_json::from_slice(&stored.value).unwrap();
            Some((session, document.ticket))
        };
        self.store.snapshot().into_iter().filter_map(read).collect()
    }

    fn doorkeeper(&self) -> Option<String> {
        let entries = self.directory.peek(&format!("{}doorkeeper", Site::prefix()));
        entries.first().map(|entry| serde_json::from_slice::<super::Office>(&entry.value).unwrap().node)
    }

    /// Writes down who goes in what order, for ever; those of one revision together.
    async fn departures(&self) -> Arc<Mutex<Vec<(Revision, ObjectId)>>> {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let (client, log) = (self.directory.client(), told.clone());
        let begin = format!("{}waiting/", Site::prefix());
        let mut watch = client.watch(&begin, 0).await.unwrap();
        self.tasks.spawn(async move {
            let mut from = 0;
            loop {
                match watch.recv().await {
                    Some(WatchEvent::Deleted { key, revision }) => {
                        let player = key.strip_prefix(&begin).unwrap().parse().unwrap();
                        log.lock().unwrap().push((revision, ObjectId(player)));
                        from = revision + 1;
                    }
                    Some(WatchEvent::Put(entry)) => from = entry.modified + 1,
                    _ => watch = client.watch(&begin, from).await.unwrap(),
                }
            }
        });
        told
    }
}

impl Gate {
    /// Puts a player in line as a client does: asks again until it is told where it stands.
    async fn join(&self, player: u64, class: Class) -> Uuid {
        loop {
            let session = Uuid::from_u128(u128::from(player) << 64 | u128::from(rand_of(player, &self.name)));
            match self.scribe.join(waiting(session, player, class)).await {
                Ok(joined) => return joined.session,
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    fn place(&self, session: Uuid) -> Option<Place> {
        self.line.view().poll(session, Instant::now())
    }

    fn kill(&self) {
        self.tasks.stop();
    }
}

fn rand_of(player: u64, name: &str) -> u64 {
    name.bytes().fold(player, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte))
}

fn waiting(session: Uuid, player: u64, class: Class) -> Waiting {
    Waiting { session, player: ObjectId(player), class, number: 0, island: None, at: (1, 0, 0) }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(LONG, waiting).await.is_ok(), "this never came true: {what}");
}

/// Players come at all gates, so many at a time; returns the sessions.
async fn arrive(gates: &[Gate], players: std::ops::Range<u64>, at_once: usize) -> Vec<Uuid> {
    let players: Vec<u64> = players.collect();
    let mut sessions = Vec::new();
    for some in players.chunks(at_once) {
        let joins = some.iter().map(|player| gates[*player as usize % gates.len()].join(*player, Class::Arriving));
        sessions.extend(join_all(joins).await);
    }
    sessions
}

/// Keeps asking for all sessions at the living gates, and counts the places that rose: none may.
fn poll(site: &Site, gates: &[Gate], sessions: &[Uuid]) -> Arc<AtomicU32> {
    let rose = Arc::new(AtomicU32::new(0));
    let counted = rose.clone();
    let lines: Vec<(Arc<Line>, Tasks)> = gates.iter().map(|gate| (gate.line.clone(), gate.tasks.clone())).collect();
    let sessions = sessions.to_vec();
    let mut last: BTreeMap<(usize, Uuid), u32> = BTreeMap::new();
    site.tasks.spawn(async move {
        loop {
            for (number, (line, _)) in lines.iter().enumerate().filter(|(_, (_, tasks))| !tasks.stopped()) {
                for session in &sessions {
                    let Some(place) = line.view().poll(*session, Instant::now()) else { continue };
                    let before = last.insert((number, *session), place.place);
                    counted.fetch_add(u32::from(before.is_some_and(|before| place.place > before)), Atomic::SeqCst);
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    rose
}

/// All were let in, each once, in this order.
fn check_order(site: &Site, order: &[Waiting], departures: &Mutex<Vec<(Revision, ObjectId)>>) {
    let went = departures.lock().unwrap().clone();
    assert_eq!(went.len(), order.len(), "each goes once");
    let rank: BTreeMap<ObjectId, usize> = order.iter().enumerate().map(|(at, one)| (one.player, at)).collect();
    let mut ranks: Vec<(Revision, usize)> = went.iter().map(|(revision, player)| (*revision, rank[player])).collect();
    // Those of one revision go at once.
    ranks.sort_unstable();
    assert!(ranks.iter().map(|(_, rank)| *rank).eq(0..order.len()), "out of order: {ranks:?}");
    let admitted = site.admitted();
    assert_eq!(admitted.len(), order.len());
    assert!(order.iter().all(|one| admitted.contains_key(&one.session)), "nobody is skipped");
}

#[tokio::test(start_paused = true)]
async fn two_thousand_arrivals_over_three_gateways_are_let_in_in_order_though_the_gateways_are_killed() {
    let site = Site::new(1);
    let gates = [site.gate(1, 200), site.gate(2, 200), site.gate(3, 200)];
    let departures = site.departures().await;
    let sessions = arrive(&gates, 0..2_000, 300).await;
    let order = site.waiting();
    assert_eq!(order.len(), 2_000);
    until("every gateway knows all", || gates.iter().all(|gate| gate.line.view().len() == 2_000)).await;
    sleep(Duration::from_secs(1)).await;
    for gate in &gates {
        for (place, one) in (1..).zip(&order) {
            assert_eq!(gate.place(one.session).map(|told| (told.place, told.length)), Some((place, 2_000)));
        }
    }
    let rose = poll(&site, &gates, &sessions);
    site.room.store(u32::MAX, Atomic::SeqCst);
    for killed in [1, 2] {
        until("some were let in", || departures.lock().unwrap().len() >= killed * 500).await;
        let doorkeeper = site.doorkeeper();
        gates.iter().filter(|gate| Some(&gate.name) == doorkeeper.as_ref()).for_each(Gate::kill);
    }
    let began = Instant::now();
    until("all were let in", || site.waiting().is_empty()).await;
    sleep(Duration::from_secs(1)).await;
    check_order(&site, &order, &departures);
    let by: std::collections::BTreeSet<String> = site.admitted().into_values().collect();
    assert_eq!(by.len(), 3, "three doorkeepers, one after the other: {by:?}");
    assert!(began.elapsed() >= Duration::from_secs(4), "at the rate, not faster: {:?}", began.elapsed());
    assert!(gates.iter().all(|gate| gate.counts.abandoned.get() == 0));
    assert_eq!(rose.load(Atomic::SeqCst), 0, "places never rise");
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn lost_requests_and_replies_and_delays_neither_double_nor_lose_nor_reorder_anybody() {
    for seed in 1..=6 {
        let site = Site::new(seed);
        let gates = [site.gate(1, 500), site.gate(2, 500)];
        for gate in &gates {
            gate.client.delay(0, 40);
            gate.client.lose_by_chance(60, 120);
        }
        let departures = site.departures().await;
        let sessions = arrive(&gates, 0..300, 60).await;
        let order = site.waiting();
        assert_eq!(order.len(), 300, "each has one place, with seed {seed}");
        assert!(order.iter().all(|one| sessions.contains(&one.session)), "each was told its own session");
        let rose = poll(&site, &gates, &sessions);
        site.room.store(u32::MAX, Atomic::SeqCst);
        until("all were let in", || site.waiting().is_empty()).await;
        check_order(&site, &order, &departures);
        assert_eq!(rose.load(Atomic::SeqCst), 0, "places never rise");
        gates.iter().for_each(Gate::kill);
        site.tasks.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn every_write_whose_reply_is_lost_gives_one_place() {
    let site = Site::new(1);
    let gate = site.gate(1, 100);
    until("the queue is known", || gate.line.fresh()).await;
    for (player, loss) in [(1, Loss::Reply), (2, Loss::Request)] {
        for calls in [Calls::Writes, Calls::Leases] {
            gate.client.lose_next(calls, loss, 1);
            let session = gate.join(player, Class::Arriving).await;
            assert_eq!(site.waiting().iter().filter(|one| one.session == session).count(), 1, "{loss:?} {calls:?}");
        }
    }
    assert_eq!(site.waiting().len(), 2);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_compacted_or_cancelled_watch_loses_nobody() {
    let site = Site::new(1);
    let gates = [site.gate(1, 100), site.gate(2, 100)];
    let departures = site.departures().await;
    for round in 0..10 {
        arrive(&gates, round * 30..round * 30 + 30, 30).await;
        site.directory.compact();
        gates.iter().for_each(|gate| gate.client.end_watches("compacted"));
    }
    let order = site.waiting();
    until("both know all", || gates.iter().all(|gate| gate.line.view().len() == 300 && gate.line.fresh())).await;
    poll(&site, &gates, &order.iter().map(|one| one.session).collect::<Vec<_>>());
    site.room.store(u32::MAX, Atomic::SeqCst);
    for _ in 0..5 {
        sleep(Duration::from_millis(400)).await;
        gates.iter().for_each(|gate| gate.client.end_watches("compacted"));
    }
    until("all were let in", || site.waiting().is_empty()).await;
    check_order(&site, &order, &departures);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn while_the_directory_is_away_joins_are_refused_and_places_kept() {
    let site = Site::new(1);
    let gates = [site.gate(1, 100), site.gate(2, 100)];
    let sessions = arrive(&gates, 0..50, 50).await;
    let order = site.waiting();
    poll(&site, &gates, &sessions);
    until("both know all", || gates.iter().all(|gate| gate.line.view().len() == 50)).await;
    let places: Vec<Option<Place>> = sessions.iter().map(|session| gates[0].place(*session)).collect();
    for cut in [Cut::Refused, Cut::Silent] {
        gates.iter().for_each(|gate| gate.client.cut(cut));
        sleep(Duration::from_secs(15)).await;
        assert!(gates.iter().all(|gate| !gate.line.fresh()), "{cut:?}");
        let refused = gates[0].scribe.join(waiting(Uuid::from_u128(9), 999, Class::Arriving)).await;
        assert!(matches!(refused, Err(QueueError::Away(_))), "{refused:?}");
        let now: Vec<Option<Place>> = sessions.iter().map(|session| gates[0].place(*session)).collect();
        assert_eq!(now, places, "told from memory");
        gates.iter().for_each(|gate| gate.client.heal());
        until("the queue is known again", || gates.iter().all(|gate| gate.line.fresh())).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(site.waiting(), order);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_for_anywhere_stays_and_who_is_not_leaves() {
    let site = Site::new(1);
    let gates = [site.gate(1, 100), site.gate(2, 100)];
    let sessions = arrive(&gates[..1], 0..100, 100).await;
    until("both know all", || gates.iter().all(|gate| gate.line.view().len() == 100)).await;
    gates[0].kill();
    let half = &sessions[..50];
    for _ in 0..30 {
        half.iter().for_each(|session| assert!(gates[1].place(*session).is_some(), "asked for all the time"));
        sleep(Duration::from_secs(8)).await;
    }
    let left: Vec<Uuid> = site.waiting().into_iter().map(|one| one.session).collect();
    assert_eq!(left, half, "in their old order");
    assert_eq!(site.doorkeeper().as_deref(), Some("gateway-2"));
    assert_eq!(gates[1].counts.abandoned.get(), 50);
    sleep(Duration::from_secs(u64::from(super::LEASE_S) + 1)).await;
    assert!(site.waiting().is_empty(), "nobody asks any more");
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_player_has_one_place_and_keeps_it_and_returning_players_go_first() {
    let site = Site::new(1);
    let gates = [site.gate(1, 100), site.gate(2, 100)];
    arrive(&gates, 1..6, 1).await;
    let (one, two) = tokio::join!(gates[0].join(7, Class::Arriving), gates[1].join(7, Class::Arriving));
    assert_eq!(one, two, "both clients ask for the same session");
    arrive(&gates, 8..10, 1).await;
    gates[1].join(2, Class::Arriving).await;
    let players = || site.waiting().iter().map(|one| one.player.0).collect::<Vec<u64>>();
    assert_eq!(players(), [1, 2, 3, 4, 5, 7, 8, 9], "whoever asks again keeps the place");
    gates[0].join(20, Class::Returning).await;
    gates[1].join(21, Class::Returning).await;
    let promoted = gates[0].join(5, Class::Returning).await;
    assert_eq!(players(), [5, 20, 21, 1, 2, 3, 4, 7, 8, 9], "by class, then by arrival");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(gates[1].place(promoted).map(|told| told.place), Some(1));
    assert_eq!(gates[1].line.view().returning(), 3);
    assert_eq!(gates[1].line.view().abandoned(), 0);
    let created = gates[0].line.view().place(ObjectId(20)).unwrap().created;
    gates[0].scribe.leave(ObjectId(20), created).await.unwrap();
    assert_eq!(players(), [5, 21, 1, 2, 3, 4, 7, 8, 9]);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn players_whose_entries_are_made_in_one_call_stand_in_the_order_in_which_they_came() {
    let site = Site::new(1);
    let gate = site.gate(1, 100);
    until("the queue is known", || gate.line.fresh()).await;
    // Neither by player nor by session: a hundred and some, so that one call does not do.
    let players: Vec<u64> = (0..250).map(|number| number * 7_919 % 1_009).collect();
    join_all(players.iter().map(|player| gate.join(*player, Class::Arriving))).await;
    let waiting = site.waiting();
    assert_eq!(waiting.iter().map(|one| one.player.0).collect::<Vec<_>>(), players);
    let calls: std::collections::BTreeSet<Revision> =
        site.directory.peek(&Site::prefix()).iter().map(|entry| entry.created).collect();
    assert!(calls.len() < 10, "in few calls: {}", calls.len());
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_doorkeeper_that_dies_at_any_write_admits_nobody_twice_and_skips_nobody() {
    for at in 1..=24 {
        for fault in [Fault::StopBefore, Fault::StopAfter, Fault::LoseReply] {
            let site = Site::new(at);
            let gates = [site.gate(1, 100)];
            let departures = site.departures().await;
            arrive(&gates, 0..12, 12).await;
            let order = site.waiting();
            gates[0].faults.at(at, fault);
            site.room.store(u32::MAX, Atomic::SeqCst);
            until("it stopped or is done", || gates[0].faults.calls() >= at || site.waiting().is_empty()).await;
            sleep(Duration::from_millis(70)).await;
            gates[0].kill();
            let second = site.gate(2, 100);
            until("all were let in", || site.waiting().is_empty()).await;
            check_order(&site, &order, &departures);
            second.kill();
            site.tasks.stop();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_doorkeeper_that_was_frozen_does_nothing_when_it_thaws() {
    let site = Site::new(1);
    let first = site.gate(1, 50);
    until("the first keeps the door", || site.doorkeeper().is_some()).await;
    let second = site.gate(2, 50);
    let departures = site.departures().await;
    let gates = [first, second];
    let sessions = arrive(&gates, 0..400, 100).await;
    poll(&site, &gates[1..], &sessions);
    let order = site.waiting();
    *gates[0].hall.delay.lock().unwrap() = Duration::from_millis(30);
    site.room.store(u32::MAX, Atomic::SeqCst);
    until("some were let in", || site.admitted().len() >= 100).await;
    // In the middle of asking frontends: the offers are on their way to it when it freezes.
    sleep(Duration::from_millis(35)).await;
    gates[0].tasks.freeze(true);
    until("the other keeps the door", || site.doorkeeper().as_deref() == Some("gateway-2")).await;
    let by_first = |site: &Site| site.admitted().values().filter(|by| *by == "gateway-1").count();
    let before = by_first(&site);
    until("it lets in", || site.admitted().len() > before + 20).await;
    gates[0].tasks.freeze(false);
    until("all were let in", || site.waiting().is_empty()).await;
    assert_eq!(by_first(&site), before, "its term is over");
    check_order(&site, &order, &departures);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn a_doorkeeper_that_lost_the_directory_goes_on_where_it_was_when_it_is_back() {
    for cut_after_ms in (0..200).step_by(10) {
        let site = Site::new(1);
        let gates = [site.gate(1, 400)];
        gates[0].client.delay(5, 15);
        let departures = site.departures().await;
        let sessions = arrive(&gates, 0..200, 200).await;
        let order = site.waiting();
        poll(&site, &gates, &sessions);
        site.room.store(u32::MAX, Atomic::SeqCst);
        until("some were let in", || site.admitted().len() >= 20).await;
        sleep(Duration::from_millis(cut_after_ms)).await;
        gates[0].client.cut(Cut::Refused);
        sleep(Duration::from_secs(10)).await;
        gates[0].client.heal();
        until("all were let in", || site.waiting().is_empty()).await;
        check_order(&site, &order, &departures);
        gates[0].kill();
        site.tasks.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_no_frontend_would_have_is_told_so_and_is_in_nobodys_way() {
    let site = Site::new(1);
    let gates = [site.gate(1, 100)];
    *gates[0].hall.unfit.lock().unwrap() = Some(ObjectId(0));
    let sessions = arrive(&gates, 0..10, 10).await;
    site.room.store(u32::MAX, Atomic::SeqCst);
    until("all were let in", || site.waiting().is_empty()).await;
    let stored = site.store.snapshot();
    let document = &stored[&crate::gateway::session::key(sessions[0])].value;
    assert!(serde_json::from_slice::<SessionDocument>(document).unwrap().closed);
    assert_eq!(site.admitted().len(), 10);
    site.tasks.stop();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_without_room_and_nobody_passes_the_first_in_line() {
    let site = Site::new(1);
    let gates = [site.gate(1, 1_000)];
    let departures = site.departures().await;
    arrive(&gates, 0..100, 100).await;
    let order = site.waiting();
    poll(&site, &gates, &order.iter().map(|one| one.session).collect::<Vec<_>>());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(site.waiting().len(), 100);
    // Room for a few at a time, taken away while frontends are being asked.
    *gates[0].hall.delay.lock().unwrap() = Duration::from_millis(10);
    while !site.waiting().is_empty() {
        site.room.store(7, Atomic::SeqCst);
        sleep(Duration::from_millis(55)).await;
        site.room.store(0, Atomic::SeqCst);
        sleep(Duration::from_millis(35)).await;
    }
    check_order(&site, &order, &departures);
    site.tasks.stop();
}
