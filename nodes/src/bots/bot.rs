//! One bot's life: an account, a session, playing, and coming back when its connection is lost or redirected.
//!
//! The order of coming back is the protocol's: the same frontend with the resume token, the fallbacks named in the
//! welcome, and at last a new session through the gateway. A bot NEVER comes back after another connection replaced it.

mod play;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Layout;
use super::checks::distance;
use super::settle::Settler;
use super::shared::Shared;
use super::walker::Walker;
use crate::client::connection::CONNECT_DEADLINE;
use crate::client::{ClientError, Connection, Sight};
use crate::protocol::{HelloKind, Motion, UNITS_PER_TILE, Welcome, codes};

/// Joining takes no longer, counted from when the bot's turn comes.
const JOIN_DEADLINE: Duration = Duration::from_secs(120);
/// Coming back takes no longer.
const COMEBACK_DEADLINE: Duration = Duration::from_secs(60);
/// How often the same frontend is tried before the fallbacks, and the pause after each try. One that lives has kept the player
/// and welcomes it at once; one that is frozen never does.
const SAME_FRONTEND_TRIES: u32 = 2;
const SAME_FRONTEND_DEADLINE: Duration = Duration::from_secs(2);
/// How often all fallbacks are tried, each in turn.
const FALLBACK_ROUNDS: u32 = 2;
const TRY_PAUSE: Duration = Duration::from_millis(250);
/// Farewells to a token that is no good at any frontend.
const TOKEN_CODES: [&str; 4] = [codes::TICKET_FORGED, codes::TICKET_EXPIRED, codes::TICKET_USED, codes::SESSION_ENDED];
/// How often a bot tries all its ways of coming back, and the pause after each time.
const COME_BACKS: u32 = 100;
const COME_BACK_PAUSE: Duration = Duration::from_secs(1);
/// A new welcome further than this from where the bot knew itself counts as a jump.
const JUMP_UNITS: u32 = 2 * UNITS_PER_TILE as u32;

/// Joins, plays until the run stops or nothing helps, and leaves the counts in the tally.
pub(super) async fn live(shared: Arc<Shared>, index: usize) {
    let joined = Bot::join(&shared, index).await;
    shared.count_tried();
    match joined {
        Ok(bot) => {
            shared.event(index, "joined", &bot.player.to_string());
            bot.run().await;
            shared.presence().ended(index);
        }
        Err(error) if shared.stopped() => tracing::debug!(error = error.chain(), "stopped while joining"),
        Err(error) => shared.tally().error(&format!("join_{}", error.kind()), error.chain()),
    }
    shared.count_ended();
}

/// A bot that is connected.
struct Bot {
    shared: Arc<Shared>,
    index: usize,
    connection: Connection,
    sight: Sight,
    walker: Walker,
    player: u64,
    welcome: Welcome,
    /// Where it is, as its frontend said last.
    motion: Motion,
    seq: u32,
    /// The command that is not answered yet, and when it was sent.
    pending: Option<(u32, Instant)>,
    timing: play::Timing,
    /// When anything came in last.
    heard: Instant,
    /// Whether it was where it is to walk at the last round.
    home: bool,
    /// What lives its life, if it does more than walk.
    settler: Option<Settler>,
    /// It follows a redirect, and has heard nothing since then.
    silent: Option<Instant>,
}

/// Why playing ended.
enum End {
    Stopped,
    Redirected { url: String, token: String },
    Lost(ClientError),
}

/// How a bot came back.
#[derive(Clone, Copy, Debug)]
enum Way {
    Resumed,
    Fallback,
    Rejoined,
    Redirected,
}

/// A connection taken up again.
type Back = Result<(Way, Connection, Welcome), ClientError>;

/// Why a connection was lost, in a word.
fn cause(error: &ClientError) -> String {
    match error {
        ClientError::Farewell { code, .. } => code.clone(),
        // Nothing was said: whoever had us is gone.
        ClientError::Ended(_) | ClientError::Socket { .. } => "killed".to_owned(),
        ClientError::Late(_) => "silent".to_owned(),
        other => other.kind().to_owned(),
    }
}

impl Bot {
    async fn join(shared: &Arc<Shared>, index: usize) -> Result<Bot, ClientError> {
        // The semaphore lives as long as the bots and is never closed.
        let _turn = shared.joining.acquire().await.map_err(|_| ClientError::Late("turn"))?;
        if shared.stopped() {
            return Err(ClientError::Late("turn"));
        }
        let (name, password) = credentials(shared, index);
        match shared.gateway.create_account(&name, &password).await {
            Ok(_) => {}
            Err(ClientError::Refused { code, .. }) if code == "name_taken" => {
                shared.tally().report.accounts_reused += 1
            }
            Err(error) => return Err(error),
        }
        let started = Instant::now();
        let (connection, welcome) =
            enter(shared, index, Some(shared.island(index).id), started + JOIN_DEADLINE).await?;
        let now = Instant::now();
        let mut tally = shared.tally();
        tally.report.joined += 1;
        tally.join.saturating_record(now.saturating_duration_since(started).as_micros() as u64);
        drop(tally);
        Ok(Bot::new(shared.clone(), index, connection, welcome, now))
    }

    fn new(shared: Arc<Shared>, index: usize, connection: Connection, welcome: Welcome, now: Instant) -> Bot {
        let settler = shared
            .settle
            .clone()
            .map(|commons| Settler::new(commons, shared.config.seed ^ ((index as u64) << 24), welcome.player));
        let mut bot = Bot {
            settler,
            walker: Walker::spread(shared.config.seed ^ ((index as u64) << 20), 1, 1),
            shared,
            index,
            connection,
            sight: Sight::new(),
            player: welcome.player,
            motion: welcome.motion,
            welcome: welcome.clone(),
            seq: 0,
            pending: None,
            timing: play::Timing::new(now),
            heard: now,
            home: false,
            silent: None,
        };
        bot.settle(welcome, now);
        let offset = bot.walker.below(1000);
        bot.timing.scatter(now, Duration::from_millis(offset));
        bot
    }

    /// Everything begins anew with a welcome, but for where the bot wants to go.
    fn settle(&mut self, welcome: Welcome, now: Instant) {
        self.sight = Sight::new();
        self.heard = now;
        self.player = welcome.player;
        self.motion = welcome.motion;
        self.pending = None;
        let mut registry = self.shared.registry();
        registry.observe_clock(welcome.publisher, now, welcome.now_ms);
        registry.welcomed(welcome.player, welcome.island, welcome.publisher, welcome.motion, now);
        let first = registry.first_place(welcome.island).unwrap_or((welcome.motion.x, welcome.motion.y));
        drop(registry);
        self.shared.tally().report.connected += 1;
        let seed = self.shared.config.seed ^ ((self.index as u64) << 20) ^ u64::from(self.seq);
        // An island that the gateway did not list: it has become one since; a guess of its size does.
        let listed = self.shared.islands.iter().find(|island| island.id == welcome.island);
        let (width, height) = listed.map_or((256, 256), |island| (island.width_tiles, island.height_tiles));
        self.walker = match self.shared.config.layout {
            Layout::Spread | Layout::Still => Walker::spread(seed, width, height),
            Layout::Crowd => {
                let spawn = listed.and_then(|island| island.spawn_points.first());
                Walker::crowd(seed, spawn.map_or(first, |spawn| (spawn.x, spawn.y)), width, height)
            }
        };
        if let Some(settler) = &mut self.settler {
            settler.welcomed(welcome.player, welcome.island, welcome.first_operation);
        }
        self.welcome = welcome;
    }

    async fn run(mut self) {
        loop {
            let end = self.play().await;
            let lost_at = Instant::now();
            self.shared.registry().lost(self.player);
            self.shared.tally().report.connected -= 1;
            let back = match end {
                End::Stopped => {
                    self.ended();
                    return self.connection.close().await;
                }
                End::Redirected { url, token } => {
                    self.silent = Some(self.heard);
                    // It counts from the last that was heard: whoever moved us may have kept us waiting before it said so.
                    self.shared.presence().lost(self.index, "redirected", true, lost_at);
                    self.follow(&url, &token).await
                }
                End::Lost(error) => {
                    let silent = matches!(error, ClientError::Late(_));
                    self.shared.presence().lost(self.index, &cause(&error), silent, lost_at);
                    self.come_back(error).await
                }
            };
            match self.persist(back).await {
                Ok((way, connection, welcome)) => self.returned(way, connection, welcome, lost_at),
                Err(_) if self.shared.stopped() => return self.ended(),
                Err(error) => {
                    self.shared.presence().gave_up(self.index, &cause(&error), Instant::now());
                    self.shared.tally().error(&format!("lost_for_good_{}", error.kind()), error.chain());
                    return self.ended();
                }
            }
        }
    }

    /// Goes on trying to come back: whoever waits for too long is hung, and comes back all the same if it can.
    async fn persist(&self, mut back: Back) -> Back {
        for _ in 0..COME_BACKS {
            match back {
                Err(ClientError::Farewell { ref code, .. }) if code == codes::REPLACED => break,
                Err(error) if !self.shared.stopped() => {
                    self.shared.event(self.index, "still_lost", &error.chain());
                    sleep(COME_BACK_PAUSE).await;
                    back = self.come_back(error).await;
                }
                _ => break,
            }
        }
        back
    }

    fn ended(&mut self) {
        if let Some(settler) = &mut self.settler {
            settler.ended();
        }
    }

    fn returned(&mut self, way: Way, connection: Connection, welcome: Welcome, lost_at: Instant) {
        let now = Instant::now();
        // Nobody walks on while away; so the place at the loss counts.
        let known = self.place(lost_at);
        let told = welcome.motion.at(i64::try_from(welcome.now_ms).unwrap_or(i64::MAX));
        let jumped = distance(known, told) > JUMP_UNITS;
        let gap_us = now.saturating_duration_since(lost_at).as_micros() as u64;
        let mut tally = self.shared.tally();
        match way {
            Way::Resumed => tally.report.resumes += 1,
            Way::Fallback => tally.report.fallback_resumes += 1,
            Way::Rejoined => tally.report.rejoins += 1,
            Way::Redirected => tally.report.redirects += 1,
        }
        match way {
            Way::Redirected => tally.redirect.saturating_record(gap_us),
            _ => tally.resume.saturating_record(gap_us),
        }
        tally.report.jumps += u64::from(jumped);
        drop(tally);
        self.shared.event(self.index, "back", &format!("{} {way:?} {}", gap_us / 1000, connection.url()));
        self.connection = connection;
        self.settle(welcome, now);
    }

    async fn follow(&mut self, url: &str, token: &str) -> Result<(Way, Connection, Welcome), ClientError> {
        let kind = HelloKind::of(token);
        if kind == HelloKind::Resume {
            // The last one that this session was given: also elsewhere, should that frontend be lost too.
            token.clone_into(&mut self.welcome.resume_token);
        }
        match Connection::open(url, token, kind).await {
            Ok((connection, welcome)) => Ok((Way::Redirected, connection, welcome)),
            Err(error) => {
                self.shared.tally().error("redirect", error.chain());
                self.come_back(error).await
            }
        }
    }

    async fn come_back(&self, cause: ClientError) -> Result<(Way, Connection, Welcome), ClientError> {
        self.shared.tally().report.drops += 1;
        if let ClientError::Malformed(_) = &cause {
            self.shared.tally().error("malformed", cause.chain());
        }
        if let ClientError::Farewell { code, text } = &cause {
            self.shared.tally().error(&format!("farewell_{code}"), text.clone());
            if code == codes::REPLACED {
                return Err(cause);
            }
        }
        match self.resume().await? {
            Some(back) => Ok(back),
            None => self.rejoin().await,
        }
    }

    /// Comes back with the last resume token: to the same frontend, then to the fallbacks. `None` if that leads nowhere.
    async fn resume(&self) -> Result<Option<(Way, Connection, Welcome)>, ClientError> {
        let token = &self.welcome.resume_token;
        let same = (0..SAME_FRONTEND_TRIES).map(|_| (Way::Resumed, self.connection.url(), SAME_FRONTEND_DEADLINE));
        let others = self.welcome.fallbacks.iter().map(|url| (Way::Fallback, url.as_str(), CONNECT_DEADLINE));
        let others = std::iter::repeat_n(others, FALLBACK_ROUNDS as usize).flatten();
        let ways: Vec<(Way, &str, Duration)> = same.chain(others).collect();
        let mut unwilling = None;
        for (way, url, deadline) in ways {
            if unwilling == Some(url) {
                continue;
            }
            match Connection::open_within(deadline, url, token, HelloKind::Resume).await {
                Ok((connection, welcome)) => return Ok(Some((way, connection, welcome))),
                Err(ClientError::Farewell { code, text }) if code == codes::REPLACED => {
                    return Err(ClientError::Farewell { code, text });
                }
                // The token is no good anywhere.
                Err(ClientError::Farewell { code, .. }) if TOKEN_CODES.contains(&code.as_str()) => return Ok(None),
                // It is there and cannot take us: another may, with the same token.
                Err(ClientError::Farewell { .. }) => unwilling = Some(url),
                Err(_) => sleep(TRY_PAUSE).await,
            }
        }
        Ok(None)
    }

    /// Comes back with a new session.
    async fn rejoin(&self) -> Result<(Way, Connection, Welcome), ClientError> {
        let deadline = Instant::now() + COMEBACK_DEADLINE;
        let mut pause = TRY_PAUSE;
        loop {
            // Who sails about comes back to wherever it is.
            let island = self.settler.is_none().then(|| self.shared.island(self.index).id);
            match enter(&self.shared, self.index, island, deadline).await {
                Ok((connection, welcome)) => return Ok((Way::Rejoined, connection, welcome)),
                Err(error) if Instant::now() + pause > deadline || self.shared.stopped() => return Err(error),
                Err(_) => sleep(pause).await,
            }
            pause *= 2;
        }
    }

    /// Where it is now, as far as it knows.
    fn place(&self, now: Instant) -> (i32, i32) {
        let registry = self.shared.registry();
        match registry.clock(self.welcome.publisher) {
            Some(clock) => self.motion.at(clock.at_ms(now)),
            None => (self.motion.x, self.motion.y),
        }
    }
}

fn credentials(shared: &Shared, index: usize) -> (String, String) {
    let seed = shared.config.seed;
    // A name has at most 32 characters.
    (format!("bot-{:x}-{index}", seed as u32), format!("password of bot {seed} {index}"))
}

/// A new session through the gateway, up to the welcome.
async fn enter(
    shared: &Shared,
    index: usize,
    island: Option<u32>,
    deadline: Instant,
) -> Result<(Connection, Welcome), ClientError> {
    let (name, password) = credentials(shared, index);
    let admission = shared.gateway.admit(&name, &password, island, deadline).await?;
    shared.tally().report.join_retries += u64::from(admission.retries);
    Connection::open(&admission.url, &admission.ticket, HelloKind::Ticket).await
}
