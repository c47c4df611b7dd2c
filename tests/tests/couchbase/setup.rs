//! `store init` as a library: what is missing is made, what is there is left alone.

use estate::store::Store;
use estate::store::couchbase::setup::{self, SetupError, Step};
use estate::store::couchbase::{self, ConnectError};
use tests::couchbase::Options;

use crate::bed::{Bed, note};

#[tokio::test(flavor = "multi_thread")]
async fn everything_missing_is_made_once() {
    let bed = Bed::new(Options { bucket: None, collection: None, nodes: 3, ..Options::default() }).await;
    let address = format!("{}/world/estate/documents", bed.server.hosts("game:correct horse"));
    let config = bed.config_of(&address);
    let steps = setup::init(&config).await.expect("made");
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Made(_))).count(), 4, "{steps:?}");
    let again = setup::init(&config).await.expect("found");
    assert!(again.iter().all(|step| matches!(step, Step::Found(_))), "{again:?}");
    let store = couchbase::connect(config, 1).await.expect("usable");
    note(&store, "doc").insert("one").await.expect("insert");
    assert_eq!(store.scan("", None, 10).await.expect("the index is there").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_manage_is_told_so() {
    let bed = Bed::new(Options { may_manage: false, collection: None, ..Options::default() }).await;
    let at = |path: &str| bed.config_of(&format!("{}/{path}", bed.server.hosts("game:correct horse")));
    for (path, what) in [("wurld", "bucket wurld"), ("world/estate/documents", "scope estate")] {
        match setup::init(&at(path)).await {
            Err(SetupError::Refused { what: refused, why }) => {
                assert!(refused == what && why.contains("right"), "{refused}: {why}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    let steps = setup::init(&at("world")).await.expect("the default collection is there");
    assert!(matches!(steps.last(), Some(Step::Skipped(..))), "only tools need the index: {steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_without_index_says_what_is_missing() {
    let bed = Bed::new(Options { collection: None, ..Options::default() }).await;
    let store = bed.connect().await;
    let error = store.scan("", None, 10).await.expect_err("no index").to_string();
    assert!(error.contains("wildmesh store init"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_a_wrong_password_here_too() {
    let bed = Bed::nodes(1).await;
    let error = setup::init(&bed.config_of(&bed.server.address_for("game:s3cr3t"))).await.expect_err("refused");
    assert!(matches!(error, SetupError::Connect(ConnectError::WrongPassword { .. })), "{error:?}");
}
