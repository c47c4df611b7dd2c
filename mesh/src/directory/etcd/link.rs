//! The connection to etcd, and its replacement when it hangs.
//!
//! A connection that silently died looks like a slow etcd until HTTP/2's probes give it up, which takes longer than a
//! lease lives. So a call that went unanswered for [`SUSPECT_AFTER`] makes the next one go over a new connection; NEVER
//! is a call itself repeated because of that.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::EtcdConfig;
use crate::directory::CALL_DEADLINE;

/// How long one attempt to connect to a member may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a call may go unanswered before its connection is not trusted any more.
const SUSPECT_AFTER: Duration = Duration::from_millis(1000);

/// How often the connection is probed. etcd hangs up on clients that do it more often than every 5 s.
const PROBE_EVERY: Duration = Duration::from_secs(6);

/// How long a probe may stay unanswered before the connection, with its watches, is given up.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

const _: () = assert!(CONNECT_TIMEOUT.as_millis() < CALL_DEADLINE.as_millis());
const _: () = assert!(SUSPECT_AFTER.as_millis() < CALL_DEADLINE.as_millis());

pub(super) struct Link {
    config: EtcdConfig,
    /// Where connections live: not the runtime of whoever happens to make the call that replaces one, which may end.
    runtime: Handle,
    client: Mutex<Client>,
    suspect: AtomicBool,
}

impl Link {
    /// Makes a client. Without a user nothing is sent before the first call; with one, etcd is asked for a token.
    pub(super) async fn open(config: &EtcdConfig) -> Result<Link, etcd_client::Error> {
        let runtime = Handle::current();
        let client = Mutex::new(connect(config, &runtime).await?);
        Ok(Link { config: config.clone(), runtime, client, suspect: AtomicBool::new(false) })
    }

    /// A client on a connection that is not known to hang.
    pub(super) async fn client(&self) -> Client {
        if self.suspect.swap(false, Ordering::SeqCst) {
            match timeout(CONNECT_TIMEOUT, connect(&self.config, &self.runtime)).await {
                // Watches that run on the former connection keep it until they end.
                Ok(Ok(client)) => *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client,
                _ => self.suspect.store(true, Ordering::SeqCst),
            }
        }
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the next call go over a new connection.
    pub(super) fn suspect(&self) {
        self.suspect.store(true, Ordering::SeqCst);
    }

    /// Watches over one call, whoever gives it up.
    pub(super) fn watch_over(&self) -> Unanswered<'_> {
        Unanswered { link: self, since: Instant::now(), answered: false }
    }
}

async fn connect(config: &EtcdConfig, runtime: &Handle) -> Result<Client, etcd_client::Error> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_keep_alive(PROBE_EVERY, PROBE_TIMEOUT)
        .with_keep_alive_while_idle(false)
        .with_require_leader(true);
    if let Some((name, password)) = &config.user {
        options = options.with_user(name, password).with_auto_token_refresh(true);
    }
    let mut connecting = pin!(Client::connect(&config.endpoints, Some(options)));
    poll_fn(|cx| {
        // What the client spawns, it spawns here.
        let _inside = runtime.enter();
        connecting.as_mut().poll(cx)
    })
    .await
}

/// A call under way.
pub(super) struct Unanswered<'a> {
    link: &'a Link,
    since: Instant,
    answered: bool,
}

impl Unanswered<'_> {
    /// There was an answer, be it an error.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() >= SUSPECT_AFTER {
            self.link.suspect();
        }
    }
}
