//! The directory in etcd.
//!
//! Every call has a deadline of its own. A call that surely did not reach etcd is tried again on another member; a
//! write whose outcome is unknown is NEVER repeated here, it is reported as ambiguous. Watches do not resume: they end,
//! and say so. Lists are read in pages of one revision, so that a large district does not hit gRPC's message limit.

mod link;
mod outcome;
mod version;
mod watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use self::link::Link;
use self::outcome::{Effect, Failure};
use super::{
    CALL_DEADLINE, Change, Changed, Directory, Entry, Error, Expect, Guard, LeaseId, Result, Revision, WatchEvent,
    check_changes,
};
use crate::tasks::Tasks;

/// The pause before a call that reached nobody is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Tries per member and call, of calls that reached nobody.
const TRIES_PER_MEMBER: usize = 2;

/// Keys in one page of a list.
const PAGE: i64 = 500;

/// How often a list is begun anew because its revision was compacted away between two pages.
const LIST_TRIES: usize = 3;

/// Where etcd is, and as whom to speak to it.
#[derive(Clone, Debug, Default)]
pub struct EtcdConfig {
    /// Its members, as `http://host:port` or `host:port`.
    pub endpoints: Vec<String>,
    /// Name and password, where etcd asks for them.
    pub user: Option<(String, String)>,
}

impl EtcdConfig {
    /// The members given as one text, separated by commas.
    pub fn new(endpoints: &str) -> EtcdConfig {
        let members = endpoints.split(',').map(str::trim).filter(|text| !text.is_empty());
        EtcdConfig { endpoints: members.map(str::to_owned).collect(), user: None }
    }
}

/// A connection to etcd. It heals by itself when etcd comes back.
#[derive(Clone)]
pub struct EtcdDirectory {
    link: Arc<Link>,
    endpoints: String,
    tries: usize,
    tasks: Tasks,
}

impl EtcdDirectory {
    /// Connects, and checks that etcd answers: an error names the endpoints and comes within [`CALL_DEADLINE`].
    ///
    /// Watches run on `tasks` until these stop.
    pub async fn connect(config: &EtcdConfig, tasks: &Tasks) -> Result<EtcdDirectory> {
        if config.endpoints.is_empty() {
            return Err(Error::Refused("no etcd endpoint is given".to_owned()));
        }
        let endpoints = config.endpoints.join(", ");
        let link = match timeout(CALL_DEADLINE, Link::open(config)).await {
            Ok(Ok(link)) => Arc::new(link),
            Ok(Err(error)) => return Err(Failure::of(&error).into_error(Effect::None, &endpoints)),
            Err(_) => return Err(unanswered(Effect::None, &endpoints)),
        };
        let tries = config.endpoints.len() * TRIES_PER_MEMBER;
        let directory = EtcdDirectory { link, endpoints, tries, tasks: tasks.clone() };
        directory.get("/wildmesh").await?;
        Ok(directory)
    }

    /// Makes a call, with the deadline and with more tries as long as nobody was reached.
    async fn call<T, F>(&self, effect: Effect, make: impl Fn(Client) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let trying = async {
            let mut tries = 1;
            loop {
                let client = self.link.client().await;
                let unanswered = self.link.watch_over();
                let answer = make(client).await;
                unanswered.answered();
                let failure = match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => Failure::of(&error),
                };
                if failure.ends_client() {
                    self.link.suspect();
                }
                if tries >= self.tries || !failure.may_retry(effect) {
                    return Err(failure.into_error(effect, &self.endpoints));
                }
                tries += 1;
                sleep(RETRY_PAUSE).await;
            }
        };
        timeout(CALL_DEADLINE, trying).await.unwrap_or_else(|_| Err(unanswered(effect, &self.endpoints)))
    }

    /// Reads all keys of a prefix at one revision.
    async fn pages(&self, prefix: &str) -> Result<(Vec<Entry>, Revision)> {
        let mut entries: Vec<Entry> = Vec::new();
        let end = range_end(prefix);
        let mut from = prefix.as_bytes().to_vec();
        let mut revision = 0;
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
            let page = self
                .call(Effect::None, |mut client| {
                    let (from, options) = (from.clone(), options.clone());
                    async move { client.get(from, Some(options)).await }
                })
                .await?;
            if revision == 0 {
                revision = revision_in(page.header());
            }
            entries.extend(page.kvs().iter().map(entry));
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                _ => return Ok((entries, revision)),
            }
        }
    }
}

fn unanswered(effect: Effect, endpoints: &str) -> Error {
    Failure::Unknown(format!("no answer within {} s", CALL_DEADLINE.as_secs())).into_error(effect, endpoints)
}

fn revision_in(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

/// The first key after all that start with `prefix`; prefixes of this project are never empty and end in ASCII.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A transaction of its own within the transaction of all changes: so each depends on its own expectation alone.
fn nested(change: &Change) -> TxnOp {
    let key = change.key.as_str();
    let expected = match change.expect {
        Expect::Missing => Compare::create_revision(key, CompareOp::Equal, 0),
        Expect::Created(revision) => Compare::create_revision(key, CompareOp::Equal, revision),
        Expect::Modified(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
    };
    // A key that does not exist has revision 0.
    let exists = Compare::create_revision(key, CompareOp::Greater, 0);
    let (compares, write) = match &change.becomes {
        Some((value, lease)) => {
            let options = PutOptions::new().with_lease(lease.unwrap_or(0));
            (vec![expected], TxnOp::put(key, value.as_slice(), Some(options)))
        }
        None => (vec![expected, exists], TxnOp::delete(key, None)),
    };
    TxnOp::txn(Txn::new().when(compares).and_then([write]))
}

fn entry(kv: &KeyValue) -> Entry {
    Entry {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        value: kv.value().to_vec(),
        created: kv.create_revision(),
        modified: kv.mod_revision(),
        lease: Some(kv.lease()).filter(|lease| *lease != 0),
    }
}

#[async_trait]
impl Directory for EtcdDirectory {
    async fn grant(&self, ttl_s: u32) -> Result<LeaseId> {
        let granted =
            self.call(Effect::Write, |mut client| async move { client.lease_grant(ttl_s.into(), None).await });
        Ok(granted.await?.id())
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        let kept = self.call(Effect::Lease(lease), |mut client| async move { client.lease_keep_alive(lease).await });
        kept.await.map(|_| ())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let revoked = self.call(Effect::Lease(lease), |mut client| async move { client.lease_revoke(lease).await });
        revoked.await.map(|_| ())
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let got = self.call(Effect::None, |mut client| async move { client.get(key, None).await }).await?;
        Ok(got.kvs().first().map(entry))
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision)> {
        let reading = async {
            let mut listed = self.pages(prefix).await;
            for _ in 1..LIST_TRIES {
                match &listed {
                    Err(Error::Refused(reason)) if outcome::is_compaction(reason) => listed = self.pages(prefix).await,
                    _ => break,
                }
            }
            listed
        };
        timeout(CALL_DEADLINE, reading).await.unwrap_or_else(|_| Err(unanswered(Effect::None, &self.endpoints)))
    }

    async fn put(&self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<Revision> {
        let lease = lease.unwrap_or(0);
        let options = PutOptions::new().with_lease(lease);
        let put = self.call(Effect::Under(lease), |mut client| {
            let options = options.clone();
            async move { client.put(key, value, Some(options)).await }
        });
        Ok(revision_in(put.await?.header()))
    }

    async fn swap(
        &self,
        key: &str,
        expected: Revision,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Result<Option<Revision>> {
        let lease = lease.unwrap_or(0);
        let write = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let txn = Txn::new().when([Compare::mod_revision(key, CompareOp::Equal, expected)]).and_then([write]);
        let swapped = self
            .call(Effect::Under(lease), |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        Ok(swapped.succeeded().then(|| revision_in(swapped.header())))
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<bool> {
        // A key that does not exist has revision 0, and so matches no revision above it.
        let compare = match expected {
            Some(revision) => Compare::mod_revision(key, CompareOp::Equal, revision),
            None => Compare::mod_revision(key, CompareOp::Greater, 0),
        };
        let txn = Txn::new()
            .when([compare, Compare::mod_revision(key, CompareOp::Greater, 0)])
            .and_then([TxnOp::delete(key, Some(DeleteOptions::new()))]);
        let deleted = self
            .call(Effect::Write, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        Ok(deleted.succeeded())
    }

    async fn change(&self, guard: Option<Guard<'_>>, changes: &[Change]) -> Result<Option<Changed>> {
        check_changes(changes)?;
        let compares = guard.map(|guard| Compare::create_revision(guard.key, CompareOp::Equal, guard.created));
        let writes: Vec<TxnOp> = changes.iter().map(nested).collect();
        let txn = Txn::new().when(compares.into_iter().collect::<Vec<_>>()).and_then(writes);
        let lease = changes.iter().find_map(|change| change.becomes.as_ref()?.1).unwrap_or(0);
        let made = self
            .call(Effect::Under(lease), |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        let done =
            made.op_responses().iter().map(|op| matches!(op, TxnOpResponse::Txn(txn) if txn.succeeded())).collect();
        Ok(made.succeeded().then(|| Changed { revision: revision_in(made.header()), done }))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<mpsc::Receiver<WatchEvent>> {
        let opened = self.call(Effect::None, |client| watch::open(client, prefix, range_end(prefix), from)).await?;
        let (sender, receiver) = mpsc::channel(watch::EVENTS);
        self.tasks.spawn(watch::pump(opened, sender));
        Ok(receiver)
    }

    async fn describe(&self) -> Result<String> {
        let status = self.call(Effect::None, |mut client| async move { client.status().await }).await?;
        let warning = version::warning(status.version()).map(|text| format!("; warning: {text}")).unwrap_or_default();
        Ok(format!("etcd {} at {}{warning}", status.version(), self.endpoints))
    }
}
