//! Documents as typed values: JSON objects that carry their version `v`, and the chain of migrations to the present one.
//!
//! Reading an old document runs the chain; [`read`] also writes the result back under compare-and-swap. A document newer
//! than this program is refused and left as it is. This module NEVER writes a document that it could not read whole:
//! what a type does not know it keeps (a `#[serde(flatten)] rest` field).

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::store::{Outcome, SCAN_LIMIT, Store, StoreError, Stored, Version, WriteOptions};

/// Takes a document from one version to the next; an error says what it stumbled over. `v` is set by the caller.
pub type Migration = fn(&mut Map<String, Value>) -> Result<(), String>;

/// A kind of document.
///
/// The type's own `v` field MUST be written as [`Document::VERSION`], and a type SHOULD keep what it does not know in a
/// flattened map.
pub trait Document: Serialize + DeserializeOwned + Send + Sync {
    /// The kind's name; its keys start with it and a slash.
    const KIND: &'static str;
    /// The present version, from 1.
    const VERSION: u32;
    /// The first takes version 1 to 2, and so on: one less than [`Document::VERSION`].
    const MIGRATIONS: &'static [Migration];

    /// The document's `v` field.
    fn v(&self) -> u32;
}

/// A document and the version under which the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<D> {
    /// The document.
    pub document: D,
    /// The store's version, for the next write.
    pub version: Version,
}

/// Errors of reading and writing documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was written by a newer program. It was left as it is.
    #[error("document {key} has version {found}; this program knows up to {known}: upgrade it")]
    Newer {
        /// The document.
        key: String,
        /// Its version.
        found: u64,
        /// The newest version known here.
        known: u32,
    },
    /// It is not what its key says. It was left as it is.
    #[error("document {key} is malformed: {reason}")]
    Malformed {
        /// The document.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A migration failed. It was left as it is.
    #[error("document {key} cannot be migrated from version {from}: {reason}")]
    Migration {
        /// The document.
        key: String,
        /// The version at which it failed.
        from: u32,
        /// What the migration says.
        reason: String,
    },
}

impl DocumentError {
    /// The document that could not be read, unless the store failed.
    pub fn key(&self) -> Option<&str> {
        match self {
            DocumentError::Store(_) => None,
            DocumentError::Newer { key, .. }
            | DocumentError::Malformed { key, .. }
            | DocumentError::Migration { key, .. } => Some(key),
        }
    }

    /// What became of the write.
    pub fn outcome(&self) -> Outcome {
        match self {
            DocumentError::Store(error) => error.outcome(),
            DocumentError::Newer { .. } | DocumentError::Malformed { .. } | DocumentError::Migration { .. } => {
                Outcome::NotDone
            }
        }
    }
}

/// Reads a document; an old one comes migrated but stays in the store as it is.
///
/// For owned documents, which only their owner may write: the owner's next save stores the new form.
pub async fn peek<D: Document>(store: &dyn Store, key: &str) -> Result<Option<Kept<D>>, DocumentError> {
    let Some(stored) = store.get(key).await? else { return Ok(None) };
    let (document, _) = decode(key, &stored.value)?;
    Ok(Some(Kept { document, version: stored.version }))
}

/// Reads a document; an old one is migrated and written back under compare-and-swap.
///
/// NEVER for owned documents that others hold: see [`peek`].
pub async fn read<D: Document>(store: &dyn Store, key: &str) -> Result<Option<Kept<D>>, DocumentError> {
    let mut attempts = Attempts::new();
    loop {
        let Some(stored) = store.get(key).await? else { return Ok(None) };
        let (document, migrated) = decode::<D>(key, &stored.value)?;
        if !migrated {
            return Ok(Some(Kept { document, version: stored.version }));
        }
        match store.replace(key, encode(&document)?, stored.version, WriteOptions::default()).await {
            Ok(version) => return Ok(Some(Kept { document, version })),
            // Writing back is a courtesy: what was read holds all the same, and the next write stores the new form.
            Err(error) => {
                let unwritten = Kept { document, version: stored.version };
                if attempts.after(error).await.is_err() {
                    return Ok(Some(unwritten));
                }
            }
        }
    }
}

/// Reads bytes as a document of version [`Document::VERSION`]; true if it had to be migrated.
pub fn decode<D: Document>(key: &str, bytes: &[u8]) -> Result<(D, bool), DocumentError> {
    const { assert!(D::MIGRATIONS.len() + 1 == D::VERSION as usize, "one migration for each step between versions") };
    #[derive(Deserialize)]
    struct Head {
        v: u64,
    }
    // Nearly every document is of the present version and is read once.
    if let Ok(document) = serde_json::from_slice::<D>(bytes)
        && document.v() == D::VERSION
    {
        return Ok((document, false));
    }
    let malformed =
        |error: serde_json::Error| DocumentError::Malformed { key: key.to_owned(), reason: error.to_string() };
    let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
    if head.v > u64::from(D::VERSION) {
        return Err(DocumentError::Newer { key: key.to_owned(), found: head.v, known: D::VERSION });
    }
    if head.v == u64::from(D::VERSION) {
        return Ok((serde_json::from_slice(bytes).map_err(malformed)?, false));
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(malformed)?;
    for from in head.v.max(1)..u64::from(D::VERSION) {
        // In range: `from` is at least 1 and below VERSION.
        let index = from as usize - 1;
        let failed = |reason| DocumentError::Migration { key: key.to_owned(), from: index as u32 + 1, reason };
        D::MIGRATIONS[index](&mut fields).map_err(failed)?;
        fields.insert("v".to_owned(), Value::from(from + 1));
    }
    Ok((serde_json::from_value(Value::Object(fields)).map_err(malformed)?, true))
}

/// Writes a document as bytes.
///
/// # Panics
/// In debug builds, if its `v` is not [`Document::VERSION`].
pub fn encode<D: Document>(document: &D) -> Result<Bytes, DocumentError> {
    debug_assert_eq!(document.v(), D::VERSION, "a document of kind {} made with another version", D::KIND);
    let bytes = serde_json::to_vec(document);
    let bytes =
        bytes.map_err(|error| DocumentError::Malformed { key: D::KIND.to_owned(), reason: error.to_string() })?;
    Ok(Bytes::from(bytes))
}

/// The most failures that a rehearsal lists of each kind; the others are only counted.
pub const FAILURES: usize = 100;

/// What a rehearsal of one kind's migrations found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Documents of the kind.
    pub documents: u64,
    /// Those of them that are older than the present version.
    pub old: u64,
    /// How many of them this program cannot read.
    pub failed: u64,
    /// Those, with the reason, at most [`FAILURES`].
    pub failures: Vec<DocumentError>,
}

/// Reads every document of a kind as the game would, without writing. `progress` is told how many have been read, after
/// every page.
pub async fn rehearse<D: Document>(
    store: &dyn Store,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Rehearsal, StoreError> {
    let prefix = format!("{}/", D::KIND);
    let (mut found, mut after) = (Rehearsal::default(), None::<String>);
    loop {
        let some: Vec<(String, Stored)> = store.scan(&prefix, after.as_deref(), SCAN_LIMIT).await?;
        let Some((last, _)) = some.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, stored) in &some {
            found.documents += 1;
            match decode::<D>(key, &stored.value) {
                Ok((_, migrated)) => found.old += u64::from(migrated),
                Err(error) => {
                    found.failed += 1;
                    if found.failures.len() < FAILURES {
                        found.failures.push(error);
                    }
                }
            }
        }
        progress(found.documents);
    }
}

/// How often one change of a document is tried against others' writes and lost replies.
const ATTEMPTS: u32 = 8;
/// How often it is tried against others' writes alone: a hot document has many writers, and each of them gets through.
const RACES: u32 = 256;
/// How long to wait before the first reading back of a write in doubt; each further wait is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest wait between two attempts. All of them together stay below two seconds.
const PAUSE_MOST: Duration = Duration::from_millis(500);

/// The bounded retries of one change of a document: read, decide, swap, and again when that did not settle it.
#[derive(Debug)]
pub(crate) struct Attempts {
    left: u32,
    races: u32,
    pause: Duration,
    doubt: Option<StoreError>,
}

impl Attempts {
    pub(crate) fn new() -> Attempts {
        Attempts { left: ATTEMPTS, races: RACES, pause: PAUSE_FIRST, doubt: None }
    }

    /// After a failed call: `Ok` to read again and decide anew, or the error for the caller.
    ///
    /// Refusals by compare-and-swap are read again at once, doubtful writes after a pause. Once a write was in doubt,
    /// failing to read back keeps it in doubt: the caller is NEVER told that it surely did not happen.
    pub(crate) async fn after(&mut self, error: StoreError) -> Result<(), StoreError> {
        let refused = matches!(error, StoreError::Conflict | StoreError::NotFound | StoreError::Exists);
        match error.outcome() {
            Outcome::Done => return Err(error),
            Outcome::Maybe => self.doubt = Some(error.clone()),
            Outcome::NotDone if refused || self.doubt.is_some() => {}
            Outcome::NotDone => return Err(error),
        }
        let left = if refused { &mut self.races } else { &mut self.left };
        if *left == 0 {
            return Err(self.doubt.take().unwrap_or(error));
        }
        *left -= 1;
        if !refused {
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSE_MOST);
        }
        Ok(())
    }

    /// The same after a failed reading of a document.
    pub(crate) async fn after_reading(&mut self, error: DocumentError) -> Result<(), DocumentError> {
        match error {
            DocumentError::Store(error) => Ok(self.after(error).await?),
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::{Fault, MemoryStore};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Boat {
        v: u32,
        name: String,
        oars: u32,
        sails: Vec<String>,
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
                fields.insert("sails".to_owned(), Value::Array(Vec::new()));
                Ok(())
            },
        ];

        fn v(&self) -> u32 {
            self.v
        }
    }

    const FIRST: &str = r#"{"v":1,"title":"Ark","oars":2,"crew":[1,2]}"#;
    const PRESENT: &str = r#"{"v":3,"name":"Ark","oars":2,"sails":[],"crew":[1,2]}"#;

    async fn put(store: &MemoryStore, key: &str, text: &str) -> Version {
        store.insert(key, Bytes::copy_from_slice(text.as_bytes()), WriteOptions::default()).await.expect("insert")
    }

    fn text(store: &MemoryStore, key: &str) -> String {
        String::from_utf8(store.snapshot()[key].value.to_vec()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_document_is_migrated_and_written_back() {
        for old in [FIRST, r#"{"v":2,"name":"Ark","oars":2,"crew":[1,2]}"#, PRESENT] {
            let store = MemoryStore::new();
            let version = put(&store, "boat/1", old).await;
            let kept = read::<Boat>(&store, "boat/1").await.expect("read").expect("there");
            assert_eq!(kept.document.name, "Ark");
            assert_eq!(kept.document.rest["crew"], serde_json::json!([1, 2]), "unknown fields are kept");
            assert_eq!(text(&store, "boat/1"), PRESENT);
            assert_eq!(store.snapshot()["boat/1"].version, kept.version);
            assert_eq!(kept.version == version, old == PRESENT, "a present one is not written");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn peeking_never_writes() {
        let store = MemoryStore::new();
        let version = put(&store, "boat/1", FIRST).await;
        let kept = peek::<Boat>(&store, "boat/1").await.expect("read").expect("there");
        assert_eq!((kept.document.v, kept.version), (3, version));
        assert_eq!(text(&store, "boat/1"), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_or_refused_write_back_does_not_spoil_the_reading() {
        for fault in [Fault::LoseReply, Fault::LoseRequest, Fault::Refuse, Fault::Storm, Fault::Late(PAUSE_FIRST)] {
            let store = MemoryStore::new();
            put(&store, "boat/1", FIRST).await;
            store.faults().at(1, fault);
            let kept = read::<Boat>(&store, "boat/1").await.expect("read").expect("there");
            assert_eq!(kept.document.v, 3, "{fault:?}");
            let again = encode(&kept.document).expect("encode");
            let swapped = store.replace("boat/1", again, kept.version, WriteOptions::default()).await;
            assert!(swapped.is_ok() || matches!(fault, Fault::Late(_)), "{fault:?}: {swapped:?}");
            assert_eq!(text(&store, "boat/1"), PRESENT, "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_refused_and_left_as_it_is() {
        for (bad, wanted) in [
            (
                r#"{"v":4,"name":"Ark","wings":2}"#,
                "document boat/1 has version 4; this program knows up to 3: upgrade it",
            ),
            (r#"{"v":1,"oars":2}"#, "document boat/1 cannot be migrated from version 1: no title"),
            (r#"{"v":3,"name":7}"#, "document boat/1 is malformed: "),
            (r#"{"name":"Ark"}"#, "document boat/1 is malformed: missing field `v`"),
            (r#"[3]"#, "document boat/1 is malformed: "),
            ("\u{1}", "document boat/1 is malformed: "),
            ("", "document boat/1 is malformed: "),
        ] {
            let store = MemoryStore::new();
            put(&store, "boat/1", bad).await;
            let error = read::<Boat>(&store, "boat/1").await.expect_err(bad);
            assert!(error.to_string().starts_with(wanted), "{bad}: {error}");
            assert_eq!(text(&store, "boat/1"), bad);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rehearsal_lists_every_document_that_would_fail() {
        let store = MemoryStore::new();
        for n in 0..SCAN_LIMIT {
            put(&store, &format!("boat/ok{n}"), if n % 2 == 0 { FIRST } else { PRESENT }).await;
        }
        put(&store, "boat/untitled", r#"{"v":1}"#).await;
        put(&store, "boat/zeppelin", r#"{"v":9}"#).await;
        put(&store, "boats/other", "not a boat").await;
        let before = store.snapshot();
        let found = rehearse::<Boat>(&store, &mut |_| {}).await.expect("rehearsal");
        assert_eq!((found.documents, found.old), (SCAN_LIMIT as u64 + 2, SCAN_LIMIT as u64 / 2));
        assert_eq!((found.failed, found.failures.len()), (2, 2));
        assert_eq!(store.snapshot(), before);
    }
}
