//! Passages: how a player gets from the frontends of one district to those of another.
//!
//! The frontend that a player leaves writes a document under the hash of a token that it makes, and sends the client with that
//! token to a frontend of the other district; that one takes the document, once, by compare-and-swap. The token itself is
//! NEVER stored. A passage that nobody takes expires by itself.

use std::time::Duration;

use cartographer::geometry::{IslandId, ObjectId};
use estate::document::{Document, DocumentError, Migration, encode, peek};
use estate::store::{Outcome, Store, StoreError, WriteOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// How long a passage may wait to be taken.
pub const PASSAGE_TTL: Duration = Duration::from_secs(60);

/// What the tokens of passages begin with: no ticket does, for those are hexadecimal.
pub const MARK: char = 'p';

/// Hexadecimal digits of a token behind its mark.
const DIGITS: usize = 64;

/// Kinds of documents that are kept here.
pub const DOCUMENTS: &[&str] = &[PassageDocument::KIND];

/// How often taking one is tried when the store does not answer clearly.
const TRIES: u32 = 3;

/// A passage as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassageDocument {
    /// The version of the document's form.
    pub v: u32,
    /// Who travels.
    pub player: u64,
    /// Where to.
    pub island: u32,
    /// The only frontend that may take it.
    pub node: String,
    /// Who has taken it: a number of that try. 0: nobody yet.
    pub taken: u64,
    /// What a newer program has added and this one does not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Document for PassageDocument {
    const KIND: &'static str = "passage";
    const VERSION: u32 = 1;
    const MIGRATIONS: &'static [Migration] = &[];

    fn v(&self) -> u32 {
        self.v
    }
}

/// A journey that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Who travels.
    pub player: ObjectId,
    /// Where to.
    pub island: IslandId,
}

/// Why a passage cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It is no token of a passage, or one for another frontend.
    #[error("this passage is not for here: ask the gateway for a session")]
    Forged,
    /// There is none, any more or ever.
    #[error("no such passage, or it has expired: ask the gateway for a session")]
    Expired,
    /// A second time.
    #[error("the passage has been used already: ask the gateway for a session")]
    Used,
    /// The store's or the document's.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Document(error.into())
    }
}

/// Makes a token from random bytes, which MUST be secret.
pub fn token(random: [u8; DIGITS / 2]) -> String {
    std::iter::once(MARK.to_string()).chain(random.iter().map(|byte| format!("{byte:02x}"))).collect()
}

/// Whether a token says that it is a passage's.
pub fn is_token(token: &str) -> bool {
    token.starts_with(MARK)
}

fn key(token: &str) -> Option<String> {
    let digits = token.strip_prefix(MARK)?;
    let good = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = Sha256::digest(token.as_bytes());
    good.then(|| format!("{}/{}", PassageDocument::KIND, hash.iter().map(|b| format!("{b:02x}")).collect::<String>()))
}

/// Writes a passage for whoever shows this token at that frontend.
pub async fn grant(store: &dyn Store, token: &str, passage: Passage, node: &str) -> Result<(), Refused> {
    let key = key(token).ok_or(Refused::Forged)?;
    let document = PassageDocument {
        v: PassageDocument::VERSION,
        player: passage.player.0,
        island: passage.island.0,
        node: node.to_owned(),
        taken: 0,
        rest: Map::new(),
    };
    match store.insert(&key, encode(&document)?, WriteOptions::expiring(PASSAGE_TTL)).await {
        Ok(_) => Ok(()),
        Err(error) if error.outcome() == Outcome::Done => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes a passage: once. `me` is this frontend, `attempt` a number that no other try of it has, not 0.
pub async fn take(store: &dyn Store, token: &str, me: &str, attempt: u64) -> Result<Passage, Refused> {
    let key = key(token).ok_or(Refused::Forged)?;
    let mut last = None;
    for _ in 0..TRIES {
        let kept = peek::<PassageDocument>(store, &key).await?.ok_or(Refused::Expired)?;
        let document = kept.document;
        let passage = Passage { player: ObjectId(document.player), island: IslandId(document.island) };
        match document.taken {
            // An earlier write of this very try, whose reply was lost.
            taken if taken == attempt => return Ok(passage),
            0 if document.node == me => {}
            0 => return Err(Refused::Forged),
            _ => return Err(Refused::Used),
        }
        let taken = encode(&PassageDocument { taken: attempt, ..document })?;
        match store.replace(&key, taken, kept.version, WriteOptions::default()).await {
            Ok(_) => return Ok(passage),
            Err(error) if error.outcome() == Outcome::Done => return Ok(passage),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(Refused::Expired, Refused::from))
}

#[cfg(test)]
mod tests {
    use estate::store::memory::MemoryStore;

    use super::*;

    const PASSAGE: Passage = Passage { player: ObjectId(7), island: IslandId(3) };

    #[tokio::test(start_paused = true)]
    async fn a_passage_is_taken_once_by_the_frontend_that_it_is_for() {
        let server = MemoryStore::new();
        let store = server.client();
        let token = token([7; 32]);
        grant(&store, &token, PASSAGE, "south-1").await.expect("granted");
        assert!(matches!(take(&store, &token, "south-2", 1).await, Err(Refused::Forged)), "not its own");
        let (first, second) = tokio::join!(take(&store, &token, "south-1", 1), take(&store, &token, "south-1", 2));
        let taken: Vec<Passage> = [&first, &second].into_iter().flatten().copied().collect();
        assert_eq!(taken, [PASSAGE], "{first:?} {second:?}");
        assert!(matches!(take(&store, &token, "south-1", 3).await, Err(Refused::Used)));
        assert!(!server.snapshot().keys().any(|key| key.contains(&token[1..])), "the token itself is not stored");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_passage_or_is_too_late_is_refused() {
        let store = MemoryStore::new().client();
        let good = token([9; 32]);
        for bad in ["", "p", "x", &good[1..], &good[..64], &format!("{good}0"), &good.replace("09", "zz"), "pé"] {
            assert!(matches!(take(&store, bad, "a", 1).await, Err(Refused::Forged)), "{bad:?}");
        }
        assert!(matches!(take(&store, &good, "a", 1).await, Err(Refused::Expired)), "never granted");
        grant(&store, &good, PASSAGE, "a").await.expect("granted");
        tokio::time::sleep(PASSAGE_TTL + Duration::from_secs(1)).await;
        assert!(matches!(take(&store, &good, "a", 1).await, Err(Refused::Expired)), "a minute later");
    }
}
