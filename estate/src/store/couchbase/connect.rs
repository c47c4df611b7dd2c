//! Coming to a working collection, or to one clear reason why not, within a bound.
//!
//! The SDK's own `connect` retries for ever, whatever is wrong, and says what only in its log. So its log is listened to
//! while it connects: a refused password ends the attempt at once, and what it last complained of is the reason given
//! when the time is up. A missing bucket or collection makes the SDK's later calls hang, so they are asked for first.
//! Connecting NEVER waits past [`CONNECT_DEADLINE`] and its errors NEVER hold the password.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use couchbase::authenticator::PasswordAuthenticator;
use couchbase::bucket::Bucket;
use couchbase::cluster::Cluster;
use couchbase::collection::Collection;
use couchbase::error::{Error, ErrorKind};
use couchbase::options::cluster_options::{ClusterOptions, KvOptions, OrphanReporterOptions, TlsOptions};
use couchbase::retry::{RetryAction, RetryReason, RetryRequest, RetryStrategy};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::instrument::WithSubscriber;

use super::config::CouchbaseConfig;
use super::whispers::Whispers;

/// How long connecting may take in all, for the cluster, the bucket and the collection.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long one connection may take to be made and logged in.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How long the SDK waits before it connects again to a node that failed it. Its own default, five seconds, is longer
/// than most calls of ours may take.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How long the management service may take to say which collections there are.
const MANAGEMENT: Duration = Duration::from_secs(3);

/// How long one attempt to open the collection has for itself before another is made beside it.
const HEDGE: Duration = Duration::from_secs(1);

/// How many such attempts there are at most.
const ATTEMPTS: usize = 8;

/// The pause between first reads that failed.
const FIRST_READ_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(HANDSHAKE.as_millis() < CONNECT_DEADLINE.as_millis());
const _: () = assert!(2 * MANAGEMENT.as_millis() < CONNECT_DEADLINE.as_millis());
const _: () = assert!(ATTEMPTS as u128 * HEDGE.as_millis() < CONNECT_DEADLINE.as_millis());

/// The keys that are read to learn whether the collection answers begin so. Nothing is ever written under them.
const PROBE: &str = "wildmesh/probe";

/// How many of them are read.
const PROBES: usize = 16;

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConnectError {
    /// The address holds no password, and none was given otherwise.
    #[error("no password for couchbase user {user}: write USER:PASSWORD@ or set WILDMESH_STORE_PASSWORD")]
    NoPassword { user: String },
    /// The file of certificates to trust is missing or holds none.
    #[error("could not use the certificates in {file}: {why}")]
    Certificates { file: String, why: String },
    /// No host of the address has an IP address.
    #[error("unknown host {host}: {why}")]
    UnknownHost { host: String, why: String },
    /// The hosts do not answer.
    #[error("no couchbase server answers at {hosts}: {why}")]
    NoServer { hosts: String, why: String },
    /// They answer, but what they show is not trusted, or is not TLS.
    #[error("no secure connection to {hosts}: {why}")]
    Tls { hosts: String, why: String },
    /// Wrong user or password.
    #[error("couchbase at {hosts} refused user {user}: wrong user name or password")]
    WrongPassword { hosts: String, user: String },
    /// There is no such bucket, or the user may not know of it.
    #[error(
        "there is no bucket {bucket} at {hosts}, or user {user} has no right to it; an administrator makes it \
         with `wildmesh store init`"
    )]
    NoBucket { hosts: String, bucket: String, user: String },
    /// The bucket is there, the collection is not.
    #[error("bucket {bucket} has no collection {scope}.{collection}: `wildmesh store init` makes it")]
    NoCollection { bucket: String, scope: String, collection: String },
    /// The user may not read or write the collection.
    #[error("user {user} may not use {keyspace}: {why}")]
    NotAllowed { user: String, keyspace: String, why: String },
    /// The cluster is there, the collection does not answer.
    #[error(
        "{keyspace} did not answer within {} s ({why}): its nodes may be down, or user {user} may have no right to it",
        CONNECT_DEADLINE.as_secs()
    )]
    NoAnswer { user: String, keyspace: String, why: String },
    /// Anything else that the SDK refuses before it asks anybody.
    #[error("the couchbase library refuses the address: {0}")]
    Refused(String),
}

/// A call of the SDK with its type forgotten: written out, those types are too deep for the compiler.
pub(super) type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(super) fn call<'a, T>(future: impl Future<Output = T> + Send + 'a) -> Call<'a, T> {
    Box::pin(future)
}

/// Never asks again by itself: the driver does, within its own bounds. (What the server redirects, because a vBucket has
/// moved, the SDK repeats regardless; those requests had no effect.)
#[derive(Debug)]
pub(super) struct FailFast;

impl RetryStrategy for FailFast {
    fn retry_after(&self, _request: &RetryRequest, _reason: &RetryReason) -> Option<RetryAction> {
        None
    }
}

/// Connects and logs in to the cluster.
pub(super) async fn cluster(config: &CouchbaseConfig, deadline: Instant) -> Result<Cluster, ConnectError> {
    let hosts = || config.hosts.join(",");
    let options = options(config).await?;
    let (whispers, mut heard) = Whispers::new();
    let connecting = call(Cluster::connect(config.connection_string(), options).with_subscriber(whispers.clone()));
    tokio::select! {
        connected = timeout_at(deadline, connecting) => match connected {
            Ok(Ok(cluster)) => Ok(cluster),
            Ok(Err(e)) => Err(ConnectError::Refused(e.to_string())),
            Err(_) => Err(why_not(config, whispers.last()).await),
        },
        Some(()) = heard.recv() => Err(ConnectError::WrongPassword { hosts: hosts(), user: config.user.clone() }),
    }
}

/// Connects to the cluster and opens the collection, which has answered when this returns.
///
/// The SDK asks one node, whichever its hash map names first, for the number of the collection, and waits for that one
/// even if it is down. So an attempt that takes long is not waited for alone: another is made beside it, whose luck may
/// be better, and the first to answer wins.
pub(super) async fn open(config: &CouchbaseConfig) -> Result<(Cluster, Collection), ConnectError> {
    let deadline = Instant::now() + CONNECT_DEADLINE;
    let mut attempts = FuturesUnordered::new();
    loop {
        if attempts.len() < ATTEMPTS {
            attempts.push(call(attempt(config, deadline)));
        }
        let wait = if attempts.len() < ATTEMPTS { HEDGE } else { CONNECT_DEADLINE };
        if let Ok(Some(opened)) = timeout(wait, attempts.next()).await {
            return opened;
        }
    }
}

async fn attempt(config: &CouchbaseConfig, deadline: Instant) -> Result<(Cluster, Collection), ConnectError> {
    let cluster = cluster(config, deadline).await?;
    check_bucket(config, &cluster).await?;
    let bucket = cluster.bucket(&config.bucket);
    check_collection(config, &bucket).await?;
    let collection = bucket.scope(&config.scope).collection(&config.collection);
    first_read(config, &collection, deadline).await?;
    Ok((cluster, collection))
}

/// Asks for the bucket before it is opened: opening one that is missing keeps the SDK trying until the process ends.
/// Who may not ask the management service, or cannot reach it, finds out by the first read.
async fn check_bucket(config: &CouchbaseConfig, cluster: &Cluster) -> Result<(), ConnectError> {
    match get_bucket(config, cluster, MANAGEMENT).await {
        Err(ErrorKind::BucketNotFound) => Err(no_bucket(config)),
        Err(why) => {
            tracing::debug!("could not ask couchbase for bucket {}: {why}", config.bucket);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Asks the management service for the bucket, and waits for so long at most.
pub(super) async fn get_bucket(config: &CouchbaseConfig, cluster: &Cluster, wait: Duration) -> Result<(), ErrorKind> {
    let buckets = cluster.buckets();
    match timeout(wait, call(buckets.get_bucket(&config.bucket, None))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(e.kind().clone()),
        Err(_) => Err(ErrorKind::OtherFailure(format!("no reply within {wait:?}"))),
    }
}

fn no_bucket(config: &CouchbaseConfig) -> ConnectError {
    let (hosts, bucket, user) = (config.hosts.join(","), config.bucket.clone(), config.user.clone());
    ConnectError::NoBucket { hosts, bucket, user }
}

/// Asks which collections there are: calls on a missing one never end in an error, they only never end.
async fn check_collection(config: &CouchbaseConfig, bucket: &Bucket) -> Result<(), ConnectError> {
    let there = match has_collection(config, bucket).await {
        Ok(there) => there,
        Err(why) => {
            tracing::debug!("could not ask couchbase for the collections of {}: {why}", config.bucket);
            true
        }
    };
    if there {
        return Ok(());
    }
    Err(ConnectError::NoCollection {
        bucket: config.bucket.clone(),
        scope: config.scope.clone(),
        collection: config.collection.clone(),
    })
}

/// Whether the management service knows the collection; an error tells why it could not be asked.
pub(super) async fn has_collection(config: &CouchbaseConfig, bucket: &Bucket) -> Result<bool, String> {
    let scopes = match timeout(MANAGEMENT, call(bucket.collections().get_all_scopes(None))).await {
        Ok(scopes) => scopes.map_err(|e| e.kind().to_string())?,
        Err(_) => return Err(format!("no answer within {MANAGEMENT:?}")),
    };
    let scope = scopes.iter().find(|scope| scope.name() == config.scope);
    Ok(scope.is_some_and(|scope| scope.collections().iter().any(|one| one.name() == config.collection)))
}

/// Reads until any node answers.
pub(super) async fn first_read(
    config: &CouchbaseConfig,
    collection: &Collection,
    deadline: Instant,
) -> Result<(), ConnectError> {
    let mut why = "no reply".to_owned();
    loop {
        // Several keys, for the node of one may be down. None of the reads is dropped before one has been answered:
        // dropped while it waits for the collection's number, it would leave every later call waiting for it.
        let mut reads: FuturesUnordered<_> =
            (0..PROBES).map(|n| call(collection.get(format!("{PROBE}/{n}"), None))).collect();
        match timeout_at(deadline, reads.next()).await {
            Ok(Some(Err(e))) => match e.kind() {
                ErrorKind::DocumentNotFound => return Ok(()),
                ErrorKind::AuthenticationFailure => return Err(not_allowed(config, &e)),
                kind => why = kind.to_string(),
            },
            Ok(Some(Ok(_)) | None) => return Ok(()),
            Err(_) => {
                let (user, keyspace) = (config.user.clone(), config.keyspace());
                return Err(ConnectError::NoAnswer { user, keyspace, why });
            }
        }
        sleep(FIRST_READ_PAUSE).await;
    }
}

fn not_allowed(config: &CouchbaseConfig, error: &Error) -> ConnectError {
    ConnectError::NotAllowed { user: config.user.clone(), keyspace: config.keyspace(), why: error.kind().to_string() }
}

async fn options(config: &CouchbaseConfig) -> Result<ClusterOptions, ConnectError> {
    let password = config.password.as_ref().ok_or_else(|| ConnectError::NoPassword { user: config.user.clone() })?;
    let authenticator = PasswordAuthenticator::new(&config.user, password.expose());
    let kv = KvOptions::new()
        .connect_timeout(HANDSHAKE)
        .connect_throttle_timeout(RECONNECT_PAUSE)
        .enable_server_durations(false)
        .enable_mutation_tokens(false);
    let mut options = ClusterOptions::new(authenticator.into())
        .kv_options(kv)
        .orphan_reporter_options(OrphanReporterOptions::new().enabled(false))
        .default_retry_strategy(Arc::new(FailFast));
    if let Some(file) = &config.ca_file {
        let refused = |why: String| ConnectError::Certificates { file: file.display().to_string(), why };
        let text = tokio::fs::read(file).await.map_err(|e| refused(e.to_string()))?;
        let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|e| refused(e.to_string()))?;
        if certificates.is_empty() {
            return Err(refused("there is no certificate in it".to_owned()));
        }
        options = options.tls_options(TlsOptions::new().add_ca_certificates(certificates));
    }
    Ok(options)
}

/// Finds out why nothing could be connected to, once the SDK has tried for long enough.
async fn why_not(config: &CouchbaseConfig, whispered: Option<String>) -> ConnectError {
    let hosts = config.hosts.join(",");
    for host in &config.hosts {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().unwrap_or(0)),
            _ => (host.as_str(), if config.tls { 11207 } else { 11210 }),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(Err(e)) = timeout(HANDSHAKE, tokio::net::lookup_host((name, port))).await {
            return ConnectError::UnknownHost { host: host.clone(), why: e.to_string() };
        }
    }
    let why = whispered.unwrap_or_else(|| "no reply".to_owned());
    if config.tls && (why.contains("tls") || why.contains("certificate")) {
        return ConnectError::Tls { hosts, why };
    }
    ConnectError::NoServer { hosts, why }
}
