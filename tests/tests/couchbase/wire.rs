//! What goes over the wire: durability where it was asked for, expiry that stays.

use std::time::Duration;

use estate::store::couchbase::{self, CouchbaseConfig, Durability};
use estate::store::{Ack, Expiry, Store, WriteOptions};
use tests::couchbase::Seen;

use crate::bed::{Bed, bytes};

const SHORT: Duration = Duration::from_secs(2);

async fn levels(durability: Durability, ack: Ack) -> Vec<Option<u8>> {
    let bed = Bed::nodes(1).await;
    let config = CouchbaseConfig { durability, ..bed.config() };
    let store = couchbase::connect(config, 1).await.expect("connected");
    let options = WriteOptions { ack, ..WriteOptions::default() };
    let version = store.insert("doc", bytes("one"), options).await.expect("insert");
    let version = store.replace("doc", bytes("two"), version, options).await.expect("replace");
    store.remove("doc", version, options).await.expect("remove");
    bed.server.seen().into_iter().map(|seen: Seen| seen.durability).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_writes_carry_their_level_and_early_ones_none() {
    for (durability, level) in
        [(Durability::Majority, 1), (Durability::MajorityAndPersist, 2), (Durability::Persist, 3)]
    {
        assert_eq!(levels(durability, Ack::Durable).await, [Some(level); 3], "{durability:?}");
        assert_eq!(levels(durability, Ack::Early).await, [None; 3], "{durability:?}");
    }
    assert_eq!(levels(Durability::None, Ack::Durable).await, [None; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replace_asks_for_the_expiry_to_stay_only_where_it_is_to() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let mut version = store.insert("doc", bytes("one"), WriteOptions::expiring(SHORT)).await.expect("insert");
    let mut asked = Vec::new();
    for expiry in [Expiry::Keep, Expiry::Never, Expiry::In(SHORT)] {
        bed.server.seen();
        let options = WriteOptions { expiry, ..WriteOptions::default() };
        version = store.replace("doc", bytes("two"), version, options).await.expect("replace");
        asked.extend(bed.server.seen().into_iter().map(|seen| seen.preserve_expiry));
    }
    assert_eq!(asked, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_survives_replacement_and_touches_that_keep_it() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let version = store.insert("doc", bytes("one"), WriteOptions::expiring(SHORT)).await.expect("insert");
    let version = store.replace("doc", bytes("two"), version, WriteOptions::default()).await.expect("replace");
    let touched = store.touch("doc", Expiry::Keep).await.expect("touch");
    assert_ne!(version, touched, "a touch makes a new version");
    bed.server.pass(SHORT + Duration::from_secs(1));
    assert_eq!(store.get("doc").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn expiries_are_rounded_up_and_may_be_years() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    let odd = WriteOptions::expiring(Duration::from_millis(1_001));
    store.insert("odd", bytes("x"), odd).await.expect("insert");
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    store.insert("year", bytes("x"), WriteOptions::expiring(year)).await.expect("insert");
    bed.server.pass(Duration::from_secs(1));
    assert!(store.get("odd").await.expect("get").is_some(), "1.001 s have not passed");
    bed.server.pass(year - Duration::from_secs(60));
    assert!(store.get("year").await.expect("get").is_some());
    assert_eq!(store.get("odd").await, Ok(None));
    bed.server.pass(Duration::from_secs(120));
    assert_eq!(store.get("year").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_ends_an_expiry() {
    let bed = Bed::nodes(1).await;
    let store = bed.connect().await;
    store.insert("doc", bytes("one"), WriteOptions::expiring(SHORT)).await.expect("insert");
    store.touch("doc", Expiry::Never).await.expect("touch");
    bed.server.pass(SHORT * 10);
    assert!(store.get("doc").await.expect("get").is_some());
}
