//! Players who keep account of what they were answered, and go on asking whoever froze under them.
//!
//! Runs in a process of its own, on the clients' host, and does what it is told line by line. Each witness walks, stands still and
//! eats. When its frontend is frozen it keeps the connection and goes on asking there, and enters elsewhere by a new session.
//! From the moment it is in there, whatever the former connection still *decides* for it (a walk, a stop) is the answer of a
//! second owner. Meals are counted as answered by whichever connection; documents are compared with that by whoever asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use nodes::client::{Connection, Gateway, Incoming};
use nodes::protocol::{Act, ClientMessage, Command, Frame, HelloKind, Motion, Outcome, ServerMessage, Welcome, codes};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::sight::{self, Observer};
use super::{Eaten, FOOD};

/// How often a witness asks for something.
const ASKS: Duration = Duration::from_millis(250);

/// Every which of its wishes is a meal.
const MEAL: u64 = 4;

/// How long a state may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long a thawed frontend may take to say farewell to clients whose players are elsewhere.
const FAREWELL: Duration = Duration::from_secs(15);

/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(50);

/// How far it walks, in 1/256 tile.
const STEP: i32 = 512;

/// Who a witness plays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The account's name.
    pub name: String,
    /// The player's number.
    pub player: u64,
}

/// What the witnesses are told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Make accounts.
    Make,
    /// Come in, and wait until all play.
    Enter,
    /// Tell where everybody is.
    Where,
    /// This node was frozen just now.
    Frozen(String),
    /// It is gone from the directory: enter elsewhere, and wait until all play.
    EnterElsewhere,
    /// It goes on: wait until it has let all go who play elsewhere, and until all play.
    Thawed,
    /// Tell what was seen, and end.
    End,
}

/// What they say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// The accounts.
    Made(Vec<Account>),
    /// Everybody plays, as far as was asked.
    Playing,
    /// Somebody does not.
    Trouble(String),
    /// How many are at which frontend.
    Where(BTreeMap<String, u32>),
    /// All that was seen.
    Ended(Box<Report>),
}

/// What was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Walks and stops that were granted.
    pub granted: u64,
    /// What was refused.
    pub refused: u64,
    /// Meals that were acknowledged.
    pub meals: u64,
    /// Asked of a frozen frontend on the former connection, and answered with a refusal after it was thawed.
    pub refused_by_former: u64,
    /// Former connections that ended with a farewell.
    pub farewells: u64,
    /// Former connections that ended without one.
    pub cut: u64,
    /// Other connections that were lost.
    pub drops: u64,
}

/// All that was seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was wrong, in words.
    pub violations: Vec<String>,
    /// By observers.
    pub seen: sight::Counts,
    /// By witnesses.
    pub answered: Counts,
    /// Meals by player.
    pub eaten: BTreeMap<u64, Eaten>,
}

/// A connection's place among those of its witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The only one.
    Present,
    /// Its frontend is frozen.
    Frozen,
    /// The player is elsewhere.
    Former,
}

#[derive(Debug)]
struct Link {
    node: String,
    standing: Standing,
    /// Grants since it began, or since somebody wanted to know.
    granted: u64,
    ended: Option<String>,
    task: AbortHandle,
}

#[derive(Default)]
struct Book {
    report: Report,
    /// All connections, by number, with their witness.
    links: BTreeMap<u64, (usize, Link)>,
    last_link: u64,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Witnesses {
    gateway: Gateway,
    base: String,
    accounts: Vec<Account>,
    book: Shared,
    tasks: JoinSet<()>,
}

/// Does what standard input says, line by line, until it ends.
pub async fn run(base: &str, count: usize) -> Result<()> {
    let gateway = Gateway::new(base).map_err(|e| anyhow!(e))?;
    let (book, tasks) = (Shared::default(), JoinSet::new());
    let mut all = Witnesses { gateway, base: base.to_owned(), accounts: Vec::new(), book, tasks };
    let mut orders: Lines<BufReader<Stdin>> = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        let order: Order = serde_json::from_str(&line).with_context(|| format!("an order: {line}"))?;
        let ends = matches!(order, Order::End);
        let said = all.obey(order, count).await.unwrap_or_else(|error| Said::Trouble(format!("{error:#}")));
        println!("{}", serde_json::to_string(&said)?);
        if ends {
            break;
        }
    }
    Ok(())
}

impl Witnesses {
    async fn obey(&mut self, order: Order, count: usize) -> Result<Said> {
        match order {
            Order::Make => {
                for i in 0..count {
                    let name = format!("witness-{i}");
                    let account = self.gateway.create_account(&name, PASSWORD).await.map_err(|e| anyhow!(e))?;
                    self.accounts.push(Account { name, player: account.player });
                }
                self.watch_maps().await?;
                Ok(Said::Made(self.accounts.clone()))
            }
            Order::Enter => {
                for witness in 0..self.accounts.len() {
                    self.enter(witness).await?;
                }
                self.until_all_play().await
            }
            Order::Where => {
                let mut places: BTreeMap<String, u32> = BTreeMap::new();
                for (_, link) in lock(&self.book).links.values().filter(|(_, link)| link.ended.is_none()) {
                    *places.entry(link.node.clone()).or_default() += 1;
                }
                Ok(Said::Where(places))
            }
            Order::Frozen(node) => {
                let mut book = lock(&self.book);
                book.links.values_mut().filter(|(_, link)| link.node == node).for_each(|(_, link)| {
                    link.standing = Standing::Frozen;
                });
                Ok(Said::Playing)
            }
            Order::EnterElsewhere => {
                let stranded: Vec<usize> = {
                    let book = lock(&self.book);
                    let frozen = book.links.values().filter(|(_, link)| link.standing == Standing::Frozen);
                    frozen.map(|(witness, _)| *witness).collect()
                };
                for witness in stranded {
                    self.enter(witness).await?;
                    for (_, link) in lock(&self.book).links.values_mut().filter(|(whose, _)| *whose == witness) {
                        if link.standing == Standing::Frozen {
                            link.standing = Standing::Former;
                        }
                    }
                }
                self.until_all_play().await
            }
            Order::Thawed => self.thawed().await,
            Order::End => {
                self.tasks.shutdown().await;
                // What was asked and not answered may have been done.
                Ok(Said::Ended(Box::new(std::mem::take(&mut lock(&self.book).report))))
            }
        }
    }

    /// A new session, and a connection that plays.
    async fn enter(&mut self, witness: usize) -> Result<()> {
        let account = self.accounts[witness].clone();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tried = self.try_enter(&account, deadline).await;
            match tried {
                Ok((connection, welcome, node)) => {
                    self.play(witness, account.player, node, connection, welcome);
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => return Err(error.context(account.name)),
                Err(_) => sleep(LOOK * 4).await,
            }
        }
    }

    async fn try_enter(&self, account: &Account, deadline: Instant) -> Result<(Connection, Welcome, String)> {
        let admission = self.gateway.admit(&account.name, PASSWORD, None, deadline).await.map_err(|e| anyhow!(e))?;
        let opened = Connection::open(&admission.url, &admission.ticket, HelloKind::Ticket).await;
        let (connection, welcome) = opened.map_err(|e| anyhow!(e))?;
        Ok((connection, welcome, admission.node))
    }

    fn play(&mut self, witness: usize, player: u64, node: String, connection: Connection, welcome: Welcome) {
        let mut book = lock(&self.book);
        book.last_link += 1;
        let number = book.last_link;
        let shared = self.book.clone();
        let observer = Observer::new(format!("player {player} at {node}"));
        let playing = Playing { book: shared, number, player, observer, next: welcome.first_operation, asked: 0 };
        let task = self.tasks.spawn(playing.run(connection, welcome));
        book.links.insert(number, (witness, Link { node, standing: Standing::Present, granted: 0, ended: None, task }));
    }

    /// Waits until every witness has been granted something on a connection that is not a former one. Whoever lost its
    /// connection enters again.
    async fn until_all_play(&mut self) -> Result<Said> {
        let deadline = Instant::now() + PATIENCE;
        lock(&self.book).links.values_mut().for_each(|(_, link)| link.granted = 0);
        loop {
            let (mut idle, mut lost) = (Vec::new(), Vec::new());
            {
                let book = lock(&self.book);
                for witness in 0..self.accounts.len() {
                    let mut present = book.links.values().filter(|(whose, link)| {
                        *whose == witness && link.standing == Standing::Present && link.ended.is_none()
                    });
                    match present.next() {
                        None => lost.push(witness),
                        Some((_, link)) if link.granted == 0 => idle.push(witness),
                        Some(_) => {}
                    }
                }
            }
            if idle.is_empty() && lost.is_empty() {
                return Ok(Said::Playing);
            }
            if Instant::now() >= deadline {
                bail!("witnesses {idle:?} are granted nothing, {lost:?} have no connection");
            }
            for witness in lost {
                self.enter(witness).await?;
            }
            sleep(LOOK).await;
        }
    }

    /// The frozen one goes on: its former clients must be let go; whoever is still its own plays on.
    async fn thawed(&mut self) -> Result<Said> {
        let deadline = Instant::now() + FAREWELL;
        loop {
            let hung: Vec<u64> = {
                let book = lock(&self.book);
                let former = book.links.iter().filter(|(_, (_, link))| link.standing == Standing::Former);
                former.filter(|(_, (_, link))| link.ended.is_none()).map(|(number, _)| *number).collect()
            };
            if hung.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                let mut book = lock(&self.book);
                for number in hung {
                    if let Some((_, link)) = book.links.get(&number) {
                        link.task.abort();
                        let text = format!("{} did not let a former client go within {FAREWELL:?}", link.node);
                        book.report.violations.push(text);
                    }
                }
                break;
            }
            sleep(LOOK).await;
        }
        {
            let mut book = lock(&self.book);
            book.links.retain(|_, (_, link)| link.standing != Standing::Former);
            book.links.values_mut().for_each(|(_, link)| link.standing = Standing::Present);
        }
        self.until_all_play().await
    }

    /// Follows the map feeds of all islands from the gateway.
    async fn watch_maps(&mut self) -> Result<()> {
        let islands = self.gateway.islands().await.map_err(|e| anyhow!(e))?;
        let base = self.base.replacen("http", "ws", 1);
        for island in islands {
            let url = format!("{base}/v1/map?island={}", island.id);
            let (socket, _) = tokio_tungstenite::connect_async(&url).await.with_context(|| url.clone())?;
            let size = (island.width_tiles.div_ceil(32), island.height_tiles.div_ceil(32));
            let watching = watch_map(self.book.clone(), island.id, size, socket);
            self.tasks.spawn(watching);
        }
        Ok(())
    }
}

/// The password of all witnesses.
const PASSWORD: &str = "a witness's password";

/// Follows one map feed until it ends.
async fn watch_map<S>(book: Shared, island: u32, size: (u16, u16), mut socket: S)
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    let mut observer = Observer::new(format!("the map of island {island}"));
    let all: Vec<(u16, u16)> = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y))).collect();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.contains("\"reset\"") => {
                observer.reset();
                observer.sight.set_vision(island, &all, &[]);
            }
            Message::Binary(bytes) => match ServerMessage::decode(&bytes) {
                Ok(ServerMessage::Frame(frame)) => drop(observer.frame(&Arc::new(frame))),
                _ => lock(&book).report.violations.push("the map feed sent what is no frame".to_owned()),
            },
            _ => {}
        }
        note_seen(&book, &mut observer);
    }
    lock(&book).report.violations.push(format!("the map feed of island {island} ended"));
}

fn note_seen(book: &Shared, observer: &mut Observer) {
    let mut book = lock(book);
    book.report.seen.add(std::mem::take(&mut observer.counts));
    book.report.violations.append(&mut observer.violations);
}

/// One connection that plays.
struct Playing {
    book: Shared,
    number: u64,
    player: u64,
    observer: Observer,
    /// The number of its next act.
    next: u64,
    asked: u64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Walk,
    Stop,
    Meal,
}

impl Playing {
    async fn run(mut self, mut connection: Connection, welcome: Welcome) {
        let mut motion = welcome.motion;
        let mut pending: BTreeMap<u32, Wish> = BTreeMap::new();
        let mut beat = interval(ASKS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            let said = tokio::select! {
                said = connection.next() => said,
                _ = beat.tick() => {
                    let (seq, wish, message) = self.wish(motion);
                    // A meal that is on its way may be eaten, whatever becomes of the connection.
                    if wish == Wish::Meal {
                        self.eaten(|eaten| eaten.unknown += 1);
                    }
                    pending.insert(seq, wish);
                    // A frozen peer takes what its buffers hold; then writing waits, and reading must not.
                    match timeout(ASKS, connection.send(&message)).await {
                        Ok(Err(error)) => break error.to_string(),
                        Ok(Ok(())) | Err(_) => continue,
                    }
                }
            };
            let asks = match said {
                Ok(Incoming::Frame(bytes)) => match Frame::decode(&bytes) {
                    Ok(frame) => {
                        let cell = frame.head.cell;
                        self.observer.frame(&Arc::new(frame)).then_some(cell)
                    }
                    Err(error) => break format!("a bad frame: {error}"),
                },
                Ok(Incoming::Message(ServerMessage::Vision { island, entered, left })) => {
                    self.observer.sight.set_vision(island, &entered, &left);
                    None
                }
                Ok(Incoming::Message(ServerMessage::Answer { seq, outcome })) => {
                    if let Some(wish) = pending.remove(&seq) {
                        self.answered(wish, &outcome, &mut motion);
                    }
                    None
                }
                Ok(Incoming::Message(ServerMessage::Farewell { code, .. })) => break format!("farewell {code}"),
                Ok(Incoming::Message(ServerMessage::Redirect { .. })) => break "farewell by redirect".to_owned(),
                Ok(Incoming::Message(_)) => None,
                Err(error) => break error.to_string(),
            };
            note_seen(&self.book, &mut self.observer);
            if let Some(cell) = asks {
                // An error is found by the next reading.
                let _ = timeout(ASKS, connection.send(&ClientMessage::Ask { cells: vec![cell] })).await;
            }
        };
        note_seen(&self.book, &mut self.observer);
        let mut book = lock(&self.book);
        let former = book.links.get_mut(&self.number).is_none_or(|(_, link)| {
            link.ended = Some(why.clone());
            link.standing != Standing::Present
        });
        let counts = &mut book.report.answered;
        match (former, why.starts_with("farewell")) {
            (true, true) => counts.farewells += 1,
            (true, false) => counts.cut += 1,
            (false, _) => {
                counts.drops += 1;
                eprintln!("player {} lost its connection: {why}", self.player);
            }
        }
    }

    /// What it asks for next: stops, a step there, a step back; now and then a meal.
    fn wish(&mut self, motion: Motion) -> (u32, Wish, ClientMessage) {
        self.asked += 1;
        // Rises by one every quarter of a second: it has room for years.
        let seq = self.asked as u32;
        let (wish, command) = match self.asked % MEAL {
            0 => {
                let number = self.next;
                self.next += 1;
                (Wish::Meal, Command::Act { number, act: Act::Eat { item: FOOD.to_owned() } })
            }
            2 => {
                let there = if self.asked % (2 * MEAL) == 2 { STEP } else { -STEP };
                let from = (motion.x, motion.y);
                (Wish::Walk, Command::Walk { from, to: (from.0 + there, from.1), speed: STEP / 2 })
            }
            _ => (Wish::Stop, Command::Stop),
        };
        (seq, wish, ClientMessage::Command { seq, command })
    }

    fn eaten(&self, change: impl FnOnce(&mut Eaten)) {
        change(lock(&self.book).report.eaten.entry(self.player).or_default());
    }

    fn answered(&mut self, wish: Wish, outcome: &Outcome, motion: &mut Motion) {
        if let (Wish::Stop, Outcome::Ok { motion: Some(stands) }) = (wish, outcome) {
            *motion = *stands;
        }
        if wish == Wish::Meal {
            match outcome {
                Outcome::Refused { code, .. } if code == codes::UNKNOWN => {}
                Outcome::Refused { .. } => self.eaten(|eaten| eaten.unknown -= 1),
                _ => self
                    .eaten(|eaten| (eaten.unknown, eaten.acknowledged) = (eaten.unknown - 1, eaten.acknowledged + 1)),
            }
        }
        let mut book = lock(&self.book);
        let Book { report, links, .. } = &mut *book;
        let Some((_, link)) = links.get_mut(&self.number) else { return };
        let former = link.standing == Standing::Former;
        match (wish, outcome) {
            (_, Outcome::Refused { .. }) => {
                report.answered.refused += 1;
                report.answered.refused_by_former += u64::from(former);
            }
            // It is done by whoever owns the player, and counted by the documents.
            (Wish::Meal, _) => report.answered.meals += 1,
            (Wish::Walk | Wish::Stop, _) if former => {
                let (node, player) = (&link.node, self.player);
                report.violations.push(format!("{node} moved player {player}, which another frontend owned by then"));
            }
            (Wish::Walk | Wish::Stop, _) => {
                report.answered.granted += 1;
                link.granted += 1;
            }
        }
    }
}
