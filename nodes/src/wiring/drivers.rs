//! Chooses drivers by what the operator wrote: `--store`, `--etcd`, and the addresses of the mesh.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use estate::store::Store;
use estate::store::embedded::{self, Durability};
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
}

impl FromStr for StoreSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<StoreSpec, String> {
        match text.split_once(':') {
            _ if text == "memory" => Ok(StoreSpec::Memory),
            _ if text.is_empty() => Err("a store is `memory` or `embedded:DIR`".to_owned()),
            Some(("embedded", dir)) if !dir.is_empty() => Ok(StoreSpec::Embedded(dir.into())),
            Some((kind, _)) => Err(format!("{kind:?} is not a kind of store; there are `memory` and `embedded:DIR`")),
            None => Ok(StoreSpec::Embedded(text.into())),
        }
    }
}

/// Opens the store.
pub async fn store(spec: &StoreSpec) -> Result<Arc<dyn Store>> {
    match spec {
        StoreSpec::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreSpec::Embedded(folder) => {
            let store = embedded::open(folder, Durability::Process)
                .await
                .with_context(|| format!("could not open the store in {}", folder.display()))?;
            Ok(Arc::new(store))
        }
    }
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
    let mut secret = [0; 32];
    OsRng.try_fill_bytes(&mut secret).context("the operating system gives no random bytes")?;
    Ok(secret)
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
}
