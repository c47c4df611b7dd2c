//! Migration on demand: whoever reads an old document finds it in the present form, and nobody's write is lost to it.

use std::sync::Arc;

use bytes::Bytes;
use estate::document::{Document, DocumentError, Kept, Migration, encode, read};
use estate::schedules::{End, Scenario};
use estate::store::{Outcome, Store, StoreError, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ensure, prove};

const KEY: &str = "boat/1";
const OLD: &str = r#"{"v":1,"title":"Ark","oars":2,"crew":[1,2]}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Boat {
    v: u32,
    name: String,
    oars: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Document for Boat {
    const KIND: &'static str = "boat";
    const VERSION: u32 = 3;
    const MIGRATIONS: &'static [Migration] = &[
        |fields| {
            let title = fields.remove("title").ok_or("no title")?;
            fields.insert("name".to_owned(), title);
            Ok(())
        },
        |fields| {
            fields.insert("sails".to_owned(), Value::from(0));
            Ok(())
        },
    ];

    fn v(&self) -> u32 {
        self.v
    }
}

type Told = Result<Kept<Boat>, DocumentError>;

fn present(oars: u32) -> String {
    format!(r#"{{"v":3,"name":"Ark","oars":{oars},"crew":[1,2],"sails":0}}"#)
}

async fn look(store: Arc<dyn Store>) -> Told {
    read::<Boat>(&*store, KEY).await.map(|kept| kept.expect("the setup made it"))
}

/// Reads and adds an oar, as often as somebody else was faster.
async fn add_an_oar(store: Arc<dyn Store>) -> Told {
    for _ in 0..16 {
        let Kept { mut document, version } = look(store.clone()).await?;
        document.oars += 1;
        match store.replace(KEY, encode(&document)?, version, WriteOptions::default()).await {
            Err(StoreError::Conflict) => {}
            result => return Ok(Kept { document, version: result? }),
        }
    }
    Err(StoreError::Conflict.into())
}

fn migrating(name: &str) -> Scenario<Told> {
    Scenario::new(name)
        .setup(async |store| {
            store.insert(KEY, Bytes::from_static(OLD.as_bytes()), WriteOptions::default()).await.expect("insert");
        })
        .recover(async |store| look(store).await.map(drop).map_err(|error| error.to_string()))
}

fn text(end: &End<Told>) -> String {
    String::from_utf8_lossy(&end.documents[KEY].value).into_owned()
}

#[test]
fn readers_at_once_leave_one_document_in_the_present_form() {
    let scenario = migrating("migration").driver(look).driver(look).check(|end| {
        ensure(text(end) == present(2), || text(end))?;
        for kept in end.told().flatten() {
            let seen = String::from_utf8_lossy(&encode(&kept.document).expect("encode")).into_owned();
            ensure(seen == present(2), || format!("seen: {seen}"))?;
            let current = kept.version == end.documents[KEY].version;
            ensure(end.faults > 0 || current, || format!("{kept:?} cannot be swapped"))?;
        }
        ensure(end.faults > 0 || end.told().all(Result::is_ok), || format!("{:?}", end.answers))
    });
    assert!(prove(&scenario).every_interleaving);
}

#[test]
fn a_write_is_not_lost_to_a_migration_under_way() {
    let scenario = migrating("migration and writers").driver(look).driver(add_an_oar).driver(add_an_oar).check(|end| {
        let writers = &end.answers[1..];
        let surely = writers.iter().filter(|told| matches!(told, Some(Ok(_)))).count();
        let maybe = writers.iter().filter(|told| match told {
            Some(Err(error)) => error.outcome() == Outcome::Maybe,
            Some(Ok(_)) => false,
            None => true,
        });
        let most = surely + maybe.count();
        let fits = (surely..=most).any(|added| text(end) == present(2 + added as u32));
        ensure(fits, || format!("{surely} to {most} oars were added: {}", text(end)))
    });
    prove(&scenario);
}
