//! Chooses drivers by what the operator wrote: `--store`, `--etcd`, and the addresses of the mesh.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use estate::store::Store;
#[cfg(feature = "couchbase")]
use estate::store::couchbase::{self, CouchbaseConfig, Password};
use estate::store::embedded;
use estate::store::memory::MemoryStore;
use mesh::Incarnation;
use mesh::directory::Directory;
use mesh::directory::etcd::{EtcdConfig, EtcdDirectory};
use mesh::tasks::Tasks;
use mesh::transport::Transport;
use mesh::transport::zeromq::{self, ZmqConfig};
use rand::TryRngCore;
use rand::rngs::OsRng;

/// Which store, as written after `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSpec {
    /// `memory`: gone with the process.
    Memory,
    /// `embedded:DIR`, or just `DIR`: a folder that processes of one machine may share.
    Embedded(PathBuf),
    /// `couchbase://USER:PASSWORD@HOST[,HOST]/BUCKET[/SCOPE[/COLLECTION]]`, or `couchbases://…` for TLS.
    #[cfg(feature = "couchbase")]
    Couchbase(Box<CouchbaseConfig>),
}

/// The variable that holds a store's password, for addresses that leave it out.
pub const STORE_PASSWORD: &str = "WILDMESH_STORE_PASSWORD";

/// What a store may be, for people.
const STORES: &str = "`memory`, `embedded:DIR` and `couchbase://USER@HOST/BUCKET`";

impl FromStr for StoreSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<StoreSpec, String> {
        match text.split_once(':') {
            _ if text == "memory" => Ok(StoreSpec::Memory),
            _ if text.is_empty() => Err(format!("a store is one of {STORES}")),
            Some(("couchbase" | "couchbases", _)) => couchbase_spec(text),
            Some(("embedded", dir)) if !dir.is_empty() => Ok(StoreSpec::Embedded(dir.into())),
            Some((kind, _)) => Err(format!("{kind:?} is not a kind of store; there are {STORES}")),
            None => Ok(StoreSpec::Embedded(text.into())),
        }
    }
}

#[cfg(feature = "couchbase")]
fn couchbase_spec(text: &str) -> Result<StoreSpec, String> {
    text.parse().map(Box::new).map(StoreSpec::Couchbase).map_err(|e: couchbase::config::BadAddress| e.to_string())
}

#[cfg(not(feature = "couchbase"))]
fn couchbase_spec(_text: &str) -> Result<StoreSpec, String> {
    Err("this wildmesh was built without the feature `couchbase`".to_owned())
}

/// How the command line reads a store: clap's own parser would print what it refuses, and there may be a password in it.
#[derive(Clone, Debug)]
pub struct StoreParser;

impl ValueParserFactory for StoreSpec {
    type Parser = StoreParser;

    fn value_parser() -> StoreParser {
        StoreParser
    }
}

impl TypedValueParser for StoreParser {
    type Value = StoreSpec;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<StoreSpec, clap::Error> {
        let parsed = value.to_str().ok_or_else(|| "it is not UTF-8".to_owned()).and_then(str::parse);
        parsed.map_err(|why: String| {
            let flag = arg.map_or_else(|| "--store".to_owned(), ToString::to_string);
            let message = format!("unusable value for '{flag}': {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

/// Opens the store.
pub async fn store(spec: &StoreSpec) -> Result<Arc<dyn Store>> {
    match spec {
        StoreSpec::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreSpec::Embedded(folder) => {
            let store = embedded::open(folder, None)
                .await
                .with_context(|| format!("could not open the store in {}", folder.display()))?;
            Ok(Arc::new(store))
        }
        #[cfg(feature = "couchbase")]
        StoreSpec::Couchbase(config) => {
            let config = with_password(config);
            let seed = u64::from_le_bytes(random()?);
            let store = couchbase::connect(config, seed).await.context("could not open the store")?;
            Ok(Arc::new(store))
        }
    }
}

/// The address with the password from the environment, if it holds none itself.
#[cfg(feature = "couchbase")]
pub fn with_password(config: &CouchbaseConfig) -> CouchbaseConfig {
    let mut config = config.clone();
    if config.password.is_none() {
        config.password = std::env::var(STORE_PASSWORD).ok().map(Password::new);
    }
    config
}

/// Connects to etcd; `endpoints` are separated by commas.
pub async fn etcd(endpoints: &str, tasks: &Tasks) -> Result<Arc<dyn Directory>> {
    let config = EtcdConfig::new(endpoints);
    if config.endpoints.is_empty() {
        bail!("--etcd names no address: write for instance --etcd http://127.0.0.1:2379");
    }
    let directory = EtcdDirectory::connect(&config, tasks).await?;
    let described = directory.describe().await?;
    tracing::info!("directory: {described}");
    Ok(Arc::new(directory))
}

/// Opens a ZeroMQ transport that listens on `bind` and tells peers to connect to `advertise`.
pub fn zeromq(bind: IpAddr, advertise: &str, life: Incarnation, tasks: &Tasks) -> Result<Transport> {
    let config = ZmqConfig { host: Some(advertise.to_owned()), ..ZmqConfig::new(bind, life.0) };
    zeromq::start(config, tasks).with_context(|| format!("could not open the mesh's sockets on {bind}"))
}

/// 32 bytes that nobody can guess, from the operating system.
pub fn secret() -> Result<[u8; 32]> {
    random()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_chosen_by_their_first_word() {
        let check = |text: &str, expected: Result<StoreSpec, &str>| {
            assert_eq!(
                text.parse::<StoreSpec>().map_err(|e| e.contains("not a kind")),
                expected.map_err(|_| true),
                "{text}"
            );
        };
        check("memory", Ok(StoreSpec::Memory));
        check("embedded:/x", Ok(StoreSpec::Embedded("/x".into())));
        check("some/dir", Ok(StoreSpec::Embedded("some/dir".into())));
        check("mongo:x", Err(""));
    }

    #[cfg(feature = "couchbase")]
    #[test]
    fn a_couchbase_address_names_a_collection_and_keeps_its_password_to_itself() {
        let spec: StoreSpec = "couchbases://game:s3cr3t@a,b/world/estate/documents".parse().expect("an address");
        let StoreSpec::Couchbase(config) = &spec else { panic!("{spec:?}") };
        assert_eq!(config.keyspace(), "world.estate.documents");
        assert!(!format!("{spec:?}").contains("s3cr3t"));
        let wrong = "couchbase://game:s3cr3t@host".parse::<StoreSpec>().expect_err("no bucket");
        assert!(wrong.contains("BUCKET") && !wrong.contains("s3cr3t"), "{wrong}");
    }
}
