//! Connecting to what is not there, or not open to one: a clear reason within the bound, and never the password.

use std::time::Duration;

use estate::store::Store;
use estate::store::couchbase::{self, CONNECT_DEADLINE, ConnectError, CouchbaseConfig};
use tests::couchbase::{Fault, Options, Rule, What};
use tokio::time::Instant;

use crate::bed::{Bed, note};

/// What a refusal may take beyond the bound on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_at_once() {
    for tls in [false, true] {
        let bed = Bed::new(Options { tls, ..Options::default() }).await;
        let begun = Instant::now();
        for login in ["game:s3cr3t", "nobody:s3cr3t"] {
            let error = bed.refused(&bed.server.address_for(login)).await;
            assert!(matches!(error, ConnectError::WrongPassword { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
        }
        assert!(begun.elapsed() < CONNECT_DEADLINE, "both before one attempt would have given up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_at_all_is_said_within_the_bound() {
    // Bound, then closed again: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let config: CouchbaseConfig = format!("couchbase://game:pw@127.0.0.1:{port}/world").parse().expect("an address");
    let begun = Instant::now();
    let error = couchbase::connect(config, 1).await.err().expect("nobody is there");
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(begun.elapsed() < CONNECT_DEADLINE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named() {
    let address = "couchbase://game:pw@nowhere.invalid/world";
    let error = couchbase::connect(address.parse().expect("an address"), 1).await.err().expect("no such host");
    assert!(matches!(&error, ConnectError::UnknownHost { host, .. } if host == "nowhere.invalid"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_no_server() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("couchbase://game:pw@{}/world", silent.local_addr().expect("bound"));
    let begun = Instant::now();
    let error = couchbase::connect(address.parse().expect("an address"), 1).await.err().expect("silence");
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error:?}");
    assert!(begun.elapsed() < CONNECT_DEADLINE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_scope_or_collection_is_named() {
    let bed = Bed::nodes(1).await;
    let at = |path: &str| format!("{}/{path}", bed.server.hosts("game:correct horse"));
    let error = bed.refused(&at("wurld")).await;
    assert!(matches!(&error, ConnectError::NoBucket { bucket, .. } if bucket == "wurld"), "{error:?}");
    for path in ["world/estate/dokuments", "world/state/documents"] {
        let error = bed.refused(&at(path)).await;
        assert!(matches!(error, ConnectError::NoCollection { .. }), "{path}: {error:?}");
        assert!(error.to_string().contains("wildmesh store init"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_does_not_answer_is_given_up() {
    let bed = Bed::nodes(1).await;
    bed.server.faults().add(Rule::always(What::Documents, "", Fault::SwallowRequest));
    let begun = Instant::now();
    let error = bed.refused(&bed.server.address()).await;
    assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error:?}");
    assert!(begun.elapsed() < CONNECT_DEADLINE + SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_host_of_several_is_enough() {
    let bed = Bed::nodes(3).await;
    bed.server.stop_node(0).await;
    let store = bed.connect().await;
    let key = (0..).map(|n| n.to_string()).find(|key| bed.server.node_of(key) == 1).expect("one of many");
    note(&store, &key).insert("one").await.expect("the other node serves its documents");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let bed = Bed::new(Options { tls: true, ..Options::default() }).await;
    let config = CouchbaseConfig { ca_file: None, ..bed.config() };
    let error = couchbase::connect(config, 1).await.err().expect("nobody vouches for it");
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let missing = CouchbaseConfig { ca_file: Some("/nowhere/ca.pem".into()), ..bed.config() };
    let error = couchbase::connect(missing, 1).await.err().expect("no such file");
    assert!(matches!(error, ConnectError::Certificates { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_password_asks_for_one() {
    let bed = Bed::nodes(1).await;
    let error = bed.refused(&bed.server.address_for("game")).await;
    assert!(matches!(error, ConnectError::NoPassword { .. }), "{error:?}");
    assert!(error.to_string().contains("WILDMESH_STORE_PASSWORD"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_describes_itself_without_its_password() {
    let bed = Bed::nodes(1).await;
    let described = bed.connect().await.describe().await;
    assert!(described.contains("game@127.0.0.1") && described.contains("durability majority"), "{described}");
    assert!(!described.contains("horse"), "{described}");
}
