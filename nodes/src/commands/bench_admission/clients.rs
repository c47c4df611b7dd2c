//! The clients of the benchmark: many players over few keep-alive connections, each polling when it was told to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use mesh::tasks::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::connection::Connection;
use crate::protocol::HelloKind;

/// The longest that an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause of a connection that has nothing to ask.
const IDLE: Duration = Duration::from_millis(5);

/// The pause before a refused login is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The name of an account.
pub(super) fn name(number: u64) -> String {
    format!("bench-{number}")
}

/// What is to be asked. Those that are due first come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Login(u64),
    Poll(u64, String),
    Leave(String),
}

/// All clients.
#[derive(Clone)]
pub(super) struct Clients(Arc<Shared>);

struct Shared {
    urls: Vec<String>,
    joins: u64,
    stay: Duration,
    next: AtomicU64,
    /// The gateway that clients fall back to.
    turn: AtomicUsize,
    due: Mutex<BinaryHeap<Reverse<(Instant, Job)>>>,
    tasks: Tasks,
    counts: Mutex<Counts>,
}

struct Counts {
    latency_us: Histogram<u64>,
    report: Report,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) admitted: u64,
    pub(super) queued: u64,
    pub(super) lost: u64,
    pub(super) refused: u64,
    pub(super) hellos: u64,
    pub(super) hellos_failed: u64,
    pub(super) answers: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) most_ms: f64,
    pub(super) last_admitted: Option<Instant>,
}

impl Clients {
    /// Begins: all log in as fast as `connections` connections, spread over the gateways, carry it.
    pub(super) fn start(urls: Vec<String>, joins: u64, connections: usize, stay: Duration, tasks: &Tasks) -> Clients {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds");
        let clients = Clients(Arc::new(Shared {
            urls,
            joins,
            stay,
            next: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
            due: Mutex::default(),
            tasks: tasks.clone(),
            counts: Mutex::new(Counts { latency_us, report: Report::default() }),
        }));
        for number in 0..connections {
            tasks.spawn(clients.clone().carry(number));
        }
        clients
    }

    pub(super) fn admitted(&self) -> u64 {
        self.counts().report.admitted
    }

    pub(super) fn progress(&self) -> String {
        let report = self.report();
        format!(
            "{} logged in, {} let in, {} came in; answers p50 {:.1} ms, p99 {:.1} ms",
            self.0.next.load(Ordering::Relaxed).min(self.0.joins),
            report.admitted,
            report.hellos,
            report.p50_ms,
            report.p99_ms
        )
    }

    pub(super) fn report(&self) -> Report {
        let counts = self.counts();
        let ms = |quantile: f64| counts.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
        let answers = counts.latency_us.len();
        Report { answers, p50_ms: ms(0.5), p99_ms: ms(0.99), most_ms: ms(1.0), ..counts.report.clone() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn later(&self, after: Duration, job: Job) {
        let due = Instant::now() + after;
        self.0.due.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse((due, job)));
    }

    /// What is due now; logins that were never tried come before everything.
    fn job(&self) -> Option<Job> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        if number < self.0.joins {
            return Some(Job::Login(number));
        }
        let mut due = self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
        match due.peek() {
            Some(Reverse((at, _))) if *at <= Instant::now() => due.pop().map(|Reverse((_, job))| job),
            _ => None,
        }
    }

    /// One connection: carries one request after the other, at another gateway when its own is gone.
    async fn carry(self, number: usize) {
        let mut gateway = number;
        let mut stream: Option<TcpStream> = None;
        loop {
            let Some(job) = self.job() else {
                sleep(IDLE).await;
                continue;
            };
            let url = &self.0.urls[gateway % self.0.urls.len()];
            let began = Instant::now();
            match timeout(PATIENCE, ask(&mut stream, url, &job)).await {
                Ok(Ok((status, body))) => {
                    let us = began.elapsed().as_micros() as u64;
                    self.counts().latency_us.saturating_record(us);
                    self.told(job, status, &body);
                }
                _ => {
                    stream = None;
                    gateway += 1 + self.0.turn.fetch_add(1, Ordering::Relaxed);
                    self.later(Duration::from_millis(50), job);
                }
            }
        }
    }

    fn told(&self, job: Job, status: u16, body: &Value) {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let number = match &job {
            Job::Login(number) | Job::Poll(number, _) => *number,
            Job::Leave(_) if status == 503 => return self.later(AGAIN, job),
            Job::Leave(_) => return,
        };
        match (status, body["state"].as_str()) {
            (200..=202, Some("queued")) => {
                if matches!(job, Job::Login(_)) {
                    self.counts().report.queued += 1;
                }
                let poll = Duration::from_secs(body["poll_s"].as_u64().unwrap_or(1));
                self.later(poll, Job::Poll(number, text("session")));
            }
            (200..=202, Some("admitted")) => {
                let mut counts = self.counts();
                counts.report.admitted += 1;
                counts.report.last_admitted = Some(Instant::now());
                drop(counts);
                let url = body["frontend"]["url"].as_str().unwrap_or_default().to_owned();
                self.0.tasks.spawn(self.clone().play(url, text("ticket"), text("session")));
            }
            (404, _) | (200, _) => {
                self.counts().report.lost += 1;
                self.later(Duration::ZERO, Job::Login(number));
            }
            _ => {
                self.counts().report.refused += 1;
                self.later(AGAIN, job);
            }
        }
    }

    /// Comes in, stays a while, and leaves.
    async fn play(self, url: String, ticket: String, session: String) {
        match Connection::open(&url, &ticket, HelloKind::Ticket).await {
            Ok((mut connection, _)) => {
                self.counts().report.hellos += 1;
                let until = Instant::now() + self.0.stay;
                let reading = async { while connection.next().await.is_ok() {} };
                tokio::select! { () = sleep_until(until) => {} () = reading => {} }
                self.later(Duration::ZERO, Job::Leave(session));
                // The frontend closes it when the player has left.
                sleep(Duration::from_millis(500)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a client that was let in could not come in");
                self.counts().report.hellos_failed += 1;
            }
        }
    }
}

/// One request over a connection that is kept, made anew if there is none.
async fn ask(stream: &mut Option<TcpStream>, url: &str, job: &Job) -> std::io::Result<(u16, Value)> {
    let host = url.trim_start_matches("http://");
    if stream.is_none() {
        let fresh = TcpStream::connect(host).await?;
        fresh.set_nodelay(true)?;
        *stream = Some(fresh);
    }
    let Some(stream) = stream.as_mut() else { return Err(std::io::ErrorKind::NotConnected.into()) };
    let request = match job {
        Job::Login(number) => {
            let body = json!({ "name": name(*number), "password": super::PASSWORD }).to_string();
            let length = body.len();
            format!(
                "POST /v1/sessions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        }
        Job::Poll(_, session) => format!("GET /v1/sessions/{session} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        Job::Leave(session) => format!("DELETE /v1/sessions/{session} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    };
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1_024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(whole) = parse(&answer) {
            return Ok(whole);
        }
    }
}

/// An answer, once all of it is there. Only what our own gateway sends is understood.
fn parse(bytes: &[u8]) -> Option<(u16, Value)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or("0", str::trim);
    let body = bytes.get(end + 4..end + 4 + length.parse::<usize>().ok()?)?;
    Some((status, serde_json::from_slice(body).unwrap_or_default()))
}
