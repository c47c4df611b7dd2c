//! The book of a district's unstable islands: the document that says which of them should exist.
//!
//! The directory's records follow it: what stands here and not there is restored, what stands there and not here is
//! removed. It outlives directories and processes, so that islands on which something stands come back. Every change is one
//! compare-and-swap: of two stewards who think that they are, one is refused and looks again.

use std::collections::BTreeMap;

use estate::document::{Document, DocumentError, Kept, Migration, encode, peek};
use estate::store::{Outcome, Store, StoreError, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::islands::record::IslandRecord;

/// How often a change is tried when others change the book meanwhile.
const TRIES: u32 = 8;

/// Books that are read at a time.
const PAGE: usize = 64;

/// The book.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BookDocument {
    /// The version of the document's form.
    pub v: u32,
    /// The islands, by their numbers.
    pub islands: BTreeMap<u32, IslandRecord>,
    /// The highest number that an island of this book ever had.
    #[serde(default)]
    pub last: u32,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for BookDocument {
    const KIND: &'static str = "islands";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// Errors of the book.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The store's or the document's.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Others change it all the time.
    #[error("the book of islands is being changed by others")]
    Busy,
}

impl From<StoreError> for BookError {
    fn from(error: StoreError) -> BookError {
        BookError::Document(error.into())
    }
}

/// The key of a district's book.
pub fn key(district: &str) -> String {
    format!("{}/{district}", BookDocument::KIND)
}

/// Reads the book; one that is not there is empty.
pub async fn read(store: &dyn Store, key: &str) -> Result<BookDocument, BookError> {
    Ok(peek::<BookDocument>(store, key).await?.map_or_else(empty, |kept| kept.document))
}

/// The islands in the books of all districts.
pub async fn all(store: &dyn Store) -> Result<Vec<IslandRecord>, BookError> {
    let (prefix, mut after, mut records) = (key(""), None::<String>, Vec::new());
    loop {
        let page = store.scan(&prefix, after.as_deref(), PAGE).await?;
        for (key, _) in &page {
            records.extend(read(store, key).await?.islands.into_values());
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
            _ => return Ok(records),
        }
    }
}

fn empty() -> BookDocument {
    BookDocument { v: BookDocument::VERSION, ..BookDocument::default() }
}

/// Changes the book. `change` says whether there is anything to change; it may be asked several times. True if the book
/// is as it says now, by this or an earlier write.
pub async fn change(
    store: &dyn Store,
    key: &str,
    mut change: impl FnMut(&mut BookDocument) -> bool,
) -> Result<bool, BookError> {
    for _ in 0..TRIES {
        let kept: Option<Kept<BookDocument>> = peek(store, key).await?;
        let mut book = kept.as_ref().map_or_else(empty, |kept| kept.document.clone());
        if !change(&mut book) {
            return Ok(false);
        }
        let bytes = encode(&book)?;
        let written = match &kept {
            Some(kept) => store.replace(key, bytes, kept.version, WriteOptions::default()).await,
            None => store.insert(key, bytes, WriteOptions::default()).await,
        };
        match written {
            Ok(_) => return Ok(true),
            Err(error) if error.outcome() == Outcome::Done => return Ok(true),
            // Read again: an ambiguous write of ours shows itself as nothing left to change.
            Err(StoreError::Conflict | StoreError::Exists | StoreError::NotFound) => {}
            Err(error) if error.outcome() == Outcome::Maybe => {
                if read(store, key).await? == book {
                    return Ok(true);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(BookError::Busy)
}

#[cfg(test)]
mod tests {
    use cartographer::geometry::IslandId;
    use estate::store::memory::MemoryStore;

    use super::*;
    use crate::islands::record::{IslandKind, IslandState};

    #[tokio::test(start_paused = true)]
    async fn the_islands_of_all_books_are_found_and_nothing_else() {
        let store = MemoryStore::new().client();
        for (district, island) in [("east", 7), ("west", 9)] {
            let record = IslandRecord {
                id: IslandId(island),
                title: format!("Island {island}"),
                template: "ulleung".to_owned(),
                district: district.to_owned(),
                kind: IslandKind::Unstable,
                state: IslandState::Open,
                born_s: 1,
                ends_s: 2,
                size: (1, 1),
                harbours: Vec::new(),
            };
            let put = |book: &mut BookDocument| book.islands.insert(island, record.clone()).is_none();
            assert!(change(&store, &key(district), put).await.expect("a store without faults"));
        }
        store.insert("islandsx", b"{}".to_vec().into(), WriteOptions::default()).await.expect("another document");
        let found = all(&store).await.expect("two books");
        assert_eq!(found.iter().map(|record| record.id.0).collect::<Vec<_>>(), [7, 9]);
    }
}
