//! The promises that every store keeps.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use estate::store::couchbase::{self, CouchbaseConfig};
use estate::store::{Store, conformance};
use tests::couchbase::Options;

use crate::bed::{Bed, shared};

/// Two clients of the test server, whose clock is moved.
struct Bench {
    bed: Bed,
    clients: [Arc<dyn Store>; 2],
    next: std::sync::atomic::AtomicUsize,
}

impl Bench {
    async fn new(options: Options) -> Bench {
        let bed = Bed::new(options).await;
        let clients = [shared(bed.connect().await), shared(bed.connect().await)];
        Bench { bed, clients, next: Default::default() }
    }
}

#[async_trait]
impl conformance::Harness for Bench {
    fn client(&self) -> Arc<dyn Store> {
        self.clients[self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2].clone()
    }

    fn prefix(&self) -> String {
        "conformance/".to_owned()
    }

    async fn pass(&self, time: Duration) {
        self.bed.server.pass(time);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_one_node_keeps_every_promise() {
    let bench = Bench::new(Options::default()).await;
    conformance::all(&bench).await;
    assert_eq!(bench.bed.server.logins(), ["SCRAM-SHA512"], "no password goes over TCP as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_three_nodes_keep_every_promise() {
    let bench = Bench::new(Options { nodes: 3, ..Options::default() }).await;
    conformance::all(&bench).await;
    assert_eq!(bench.bed.server.misdirected(), 0, "every request went to the node that holds its document");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_one_node_keeps_every_promise() {
    let bench = Bench::new(Options { tls: true, ..Options::default() }).await;
    conformance::all(&bench).await;
    assert_eq!(bench.bed.server.logins(), ["PLAIN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_three_nodes_keep_every_promise() {
    let bench = Bench::new(Options { tls: true, nodes: 3, ..Options::default() }).await;
    conformance::all(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_collection_keeps_every_promise() {
    let options = Options { collection: Some(("_default".to_owned(), "_default".to_owned())), ..Options::default() };
    let bench = Bench::new(options).await;
    conformance::all(&bench).await;
}

/// A cluster that somebody named, whose clock is everybody's.
struct Real {
    clients: [Arc<dyn Store>; 2],
    prefix: String,
}

#[async_trait]
impl conformance::Harness for Real {
    fn client(&self) -> Arc<dyn Store> {
        self.clients[0].clone()
    }

    fn prefix(&self) -> String {
        self.prefix.clone()
    }

    async fn pass(&self, time: Duration) {
        // Couchbase counts whole seconds, so that a document may outlive its expiry by two.
        tokio::time::sleep(time + Duration::from_secs(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cluster_keeps_every_promise() {
    let Ok(address) = std::env::var("WILDMESH_TEST_COUCHBASE") else {
        println!("not asked for: WILDMESH_TEST_COUCHBASE names no cluster");
        return;
    };
    let config: CouchbaseConfig = address.parse().expect("WILDMESH_TEST_COUCHBASE is an address");
    let said = couchbase::setup::init(&config).await.expect("set up");
    said.iter().for_each(|step| println!("{step}"));
    // Nothing may lie under the prefix yet, whoever ran this before.
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let open = || async { shared(couchbase::connect(config.clone(), now.as_nanos() as u64).await.expect("connected")) };
    let real = Real { clients: [open().await, open().await], prefix: format!("conformance/{}/", now.as_nanos()) };
    conformance::all(&real).await;
}
