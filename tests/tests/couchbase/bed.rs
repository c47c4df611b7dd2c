//! What the tests share: a server with the options of the test, and clients of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estate::store::couchbase::{self, ConnectError, CouchbaseConfig, CouchbaseStore};
use estate::store::{Store, StoreError, Version, WriteOptions};
use tests::couchbase::{Options, TestServer};

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bed {
    pub(crate) server: TestServer,
    /// Where the server's certificate lies, for as long as the bed stands.
    certificates: Option<tempfile::TempDir>,
}

impl Bed {
    pub(crate) async fn new(options: Options) -> Bed {
        let server = TestServer::start(options).await.expect("the test server starts");
        let certificates = server.certificate().map(|pem| {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join("ca.pem"), pem).expect("written");
            folder
        });
        Bed { server, certificates }
    }

    pub(crate) async fn nodes(nodes: usize) -> Bed {
        Bed::new(Options { nodes, ..Options::default() }).await
    }

    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(|folder| folder.path().join("ca.pem"))
    }

    pub(crate) fn config(&self) -> CouchbaseConfig {
        self.config_of(&self.server.address())
    }

    pub(crate) fn config_of(&self, address: &str) -> CouchbaseConfig {
        CouchbaseConfig { ca_file: self.ca_file(), ..address.parse().expect("the server's own address") }
    }

    pub(crate) async fn connect(&self) -> CouchbaseStore {
        couchbase::connect(self.config(), 1).await.expect("connected")
    }

    pub(crate) async fn refused(&self, address: &str) -> ConnectError {
        match couchbase::connect(self.config_of(address), 1).await {
            Ok(_) => panic!("{address} should be refused"),
            Err(e) => e,
        }
    }
}

/// A document of a test.
pub(crate) struct Note<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) key: &'a str,
}

impl Note<'_> {
    pub(crate) async fn insert(&self, value: &str) -> Result<Version, StoreError> {
        self.store.insert(self.key, bytes(value), WriteOptions::default()).await
    }

    pub(crate) async fn replace(&self, value: &str, version: Version) -> Result<Version, StoreError> {
        self.store.replace(self.key, bytes(value), version, WriteOptions::default()).await
    }

    pub(crate) async fn remove(&self, version: Version) -> Result<(), StoreError> {
        self.store.remove(self.key, version, WriteOptions::default()).await
    }

    pub(crate) async fn value(&self) -> Option<String> {
        let stored = self.store.get(self.key).await.expect("readable")?;
        Some(String::from_utf8(stored.value.to_vec()).expect("text"))
    }
}

pub(crate) fn note<'a>(store: &'a CouchbaseStore, key: &'a str) -> Note<'a> {
    Note { store, key }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn shared(store: CouchbaseStore) -> Arc<dyn Store> {
    Arc::new(store)
}
