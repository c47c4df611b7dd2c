//! Making what the driver needs: bucket, scope, collection and the index for scans.
//!
//! Everything is made only if it is missing, so that [`init`] may run as often as anybody likes. It NEVER changes or
//! removes anything that is there.

use std::fmt;
use std::time::Duration;

use couchbase::bucket::Bucket;
use couchbase::cluster::Cluster;
use couchbase::error::{Error, ErrorKind};
use couchbase::management::buckets::bucket_settings::BucketSettings;
use couchbase::options::query_index_mgmt_options::CreatePrimaryQueryIndexOptions;
use tokio::time::{Instant, sleep, timeout};

use super::config::{CouchbaseConfig, DEFAULT_NAME};
use super::connect::{self, CONNECT_DEADLINE, ConnectError, call};
use super::scan::QUERY;

/// The memory quota of a bucket that is made, in MiB: enough to begin with; an administrator may raise it at any time.
pub const BUCKET_QUOTA_MIB: u64 = 256;

/// How long one request to the management service may take.
const REQUEST: Duration = Duration::from_secs(10);

/// How long what was made may take until it can be used.
pub const USABLE_DEADLINE: Duration = Duration::from_secs(30);

/// The pause between looks whether it can be.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What was done about one thing that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was there.
    Found(String),
    /// It was missing and has been made.
    Made(String),
    /// It could not be made, and the game runs without it.
    Skipped(String, String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Found(what) => write!(f, "{what}: already there"),
            Step::Made(what) => write!(f, "{what}: made"),
            Step::Skipped(what, why) => write!(f, "{what}: not made ({why})"),
        }
    }
}

/// Why the store could not be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SetupError {
    /// There is no connection to set anything up over.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The cluster refuses to make something.
    #[error("could not make {what}: {why}")]
    Refused { what: String, why: String },
    /// What was made cannot be used yet.
    #[error("{what} was made, but could not be used within {} s: {why}", USABLE_DEADLINE.as_secs())]
    NotUsable { what: String, why: String },
}

/// Makes bucket, scope, collection and index where they are missing, and waits until they can be used.
pub async fn init(config: &CouchbaseConfig) -> Result<Vec<Step>, SetupError> {
    let cluster = connect::cluster(config, Instant::now() + CONNECT_DEADLINE).await?;
    let mut steps = vec![bucket(config, &cluster).await?];
    let bucket = cluster.bucket(&config.bucket);
    steps.extend(collection(config, &bucket).await?);
    let collection = bucket.scope(&config.scope).collection(&config.collection);
    connect::first_read(config, &collection, Instant::now() + USABLE_DEADLINE).await?;
    let what = format!("primary index on {}", config.keyspace());
    let indexes = collection.query_indexes();
    let options = CreatePrimaryQueryIndexOptions::new().ignore_if_exists(false);
    steps.push(match timeout(QUERY, call(indexes.create_primary_index(options))).await {
        Ok(Ok(())) => Step::Made(what),
        Ok(Err(e)) if *e.kind() == ErrorKind::IndexExists => Step::Found(what),
        Ok(Err(e)) => Step::Skipped(what, format!("{}; only tools that walk the whole store need it", e.kind())),
        Err(_) => Step::Skipped(what, format!("no reply within {QUERY:?}; run `store init` again later")),
    });
    Ok(steps)
}

async fn bucket(config: &CouchbaseConfig, cluster: &Cluster) -> Result<Step, SetupError> {
    let what = format!("bucket {}", config.bucket);
    match connect::get_bucket(config, cluster, REQUEST).await {
        Err(ErrorKind::BucketNotFound) => {}
        // Who may use a bucket need not have the right to see its settings. If it is not there, the next step says so.
        Ok(()) | Err(_) => return Ok(Step::Found(what)),
    }
    let settings = BucketSettings::new(&config.bucket).ram_quota_mb(BUCKET_QUOTA_MIB);
    let buckets = cluster.buckets();
    match timeout(REQUEST, call(buckets.create_bucket(settings, None))).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) if *e.kind() == ErrorKind::BucketExists => {}
        Ok(Err(e)) => return Err(refused(&what, &e)),
        Err(_) => return Err(silent(&what)),
    }
    let deadline = Instant::now() + USABLE_DEADLINE;
    loop {
        let why = match connect::get_bucket(config, cluster, REQUEST).await {
            Ok(()) => return Ok(Step::Made(what)),
            Err(why) => why.to_string(),
        };
        if Instant::now() > deadline {
            return Err(SetupError::NotUsable { what, why });
        }
        sleep(LOOK_PAUSE).await;
    }
}

async fn collection(config: &CouchbaseConfig, bucket: &Bucket) -> Result<Vec<Step>, SetupError> {
    let what = format!("collection {}.{}", config.scope, config.collection);
    if config.scope == DEFAULT_NAME && config.collection == DEFAULT_NAME {
        return Ok(vec![Step::Found(what)]);
    }
    if connect::has_collection(config, bucket).await == Ok(true) {
        return Ok(vec![Step::Found(format!("scope {}", config.scope)), Step::Found(what)]);
    }
    let manager = bucket.collections();
    let scope = format!("scope {}", config.scope);
    let made_scope = match timeout(REQUEST, call(manager.create_scope(&config.scope, None))).await {
        _ if config.scope == DEFAULT_NAME => Step::Found(scope),
        Ok(Ok(())) => Step::Made(scope),
        Ok(Err(e)) if *e.kind() == ErrorKind::ScopeExists => Step::Found(scope),
        Ok(Err(e)) => return Err(refused(&scope, &e)),
        Err(_) => return Err(silent(&scope)),
    };
    let making = call(manager.create_collection(&config.scope, &config.collection, None, None));
    let made_collection = match timeout(REQUEST, making).await {
        Ok(Ok(())) => Step::Made(what.clone()),
        Ok(Err(e)) if *e.kind() == ErrorKind::CollectionExists => Step::Found(what.clone()),
        Ok(Err(e)) => return Err(refused(&what, &e)),
        Err(_) => return Err(silent(&what)),
    };
    let deadline = Instant::now() + USABLE_DEADLINE;
    while connect::has_collection(config, bucket).await != Ok(true) {
        if Instant::now() > deadline {
            return Err(SetupError::NotUsable { what, why: "the cluster does not list it".to_owned() });
        }
        sleep(LOOK_PAUSE).await;
    }
    Ok(vec![made_scope, made_collection])
}

fn refused(what: &str, error: &Error) -> SetupError {
    // The SDK has no kind for the management service's "forbidden", but prints its status.
    let text = error.to_string();
    let forbidden = *error.kind() == ErrorKind::AuthenticationFailure || text.contains("\"statusCode\":403");
    let why = match forbidden {
        true => "the user has no right to; make it in the web console, or with an administrator's name and password"
            .to_owned(),
        false => text,
    };
    SetupError::Refused { what: what.to_owned(), why }
}

fn silent(what: &str) -> SetupError {
    SetupError::Refused { what: what.to_owned(), why: format!("no reply within {REQUEST:?}") }
}
