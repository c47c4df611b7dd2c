//! What a bot has built and claimed, as it was told: compared at the end with what anybody may look at.
//!
//! Only what was acknowledged counts. What may or may not have been done is not looked for. Bounded: the oldest works are
//! forgotten, and NEVER take part in the comparison then.

use std::collections::BTreeMap;

use super::commons::ChunkKey;
use super::eyes::CHUNK;
use crate::client::rest::ChunkTiles;
use crate::protocol::Act;

/// Works that are remembered.
const KEPT: usize = 256;

/// Whether something must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stands,
    Gone,
    Unsure,
}

/// What a bot has built and claimed.
#[derive(Debug, Default)]
pub(super) struct Works {
    /// Facilities, by number (which rises with time, roughly): on which chunk, and whether they stand.
    built: BTreeMap<u64, (ChunkKey, State)>,
    /// Land, by chunk.
    land: BTreeMap<ChunkKey, State>,
}

/// What the gateway shows of a chunk.
#[derive(Debug, Default)]
pub(in crate::bots) struct Found {
    /// The objects on its tiles.
    pub(in crate::bots) objects: Vec<u64>,
    /// Whose it is.
    pub(in crate::bots) owner: Option<u64>,
}

impl Found {
    /// Of the gateway's answer.
    pub(in crate::bots) fn of(chunk: &ChunkTiles) -> Found {
        let owner = chunk.holding.as_ref().map(|holding| holding.owner);
        Found { objects: chunk.tiles.iter().filter_map(|tile| tile.object).collect(), owner }
    }
}

impl Works {
    /// An act was done.
    pub(super) fn done(&mut self, act: &Act, place: ChunkKey, made: Option<u64>) {
        match (act, made) {
            (Act::Build { x, y, .. }, Some(object)) => {
                self.built(object, (place.0, x / CHUNK, y / CHUNK), State::Stands);
            }
            (Act::Demolish { object }, _) => self.now(*object, State::Gone),
            (Act::Claim {}, _) => self.claimed(place, State::Stands),
            (Act::GiveUp {}, _) => self.claimed(place, State::Gone),
            _ => {}
        }
    }

    /// Nobody can tell whether an act was done.
    pub(super) fn unsure(&mut self, act: &Act, place: ChunkKey) {
        match act {
            Act::Demolish { object } => self.now(*object, State::Unsure),
            Act::Claim {} | Act::GiveUp {} => self.claimed(place, State::Unsure),
            _ => {}
        }
    }

    fn built(&mut self, object: u64, chunk: ChunkKey, state: State) {
        if self.built.len() >= KEPT {
            self.built.pop_first();
        }
        self.built.insert(object, (chunk, state));
    }

    fn now(&mut self, object: u64, state: State) {
        if let Some(built) = self.built.get_mut(&object) {
            built.1 = state;
        }
    }

    fn claimed(&mut self, chunk: ChunkKey, state: State) {
        if self.land.len() >= KEPT {
            self.land.pop_first();
        }
        self.land.insert(chunk, state);
    }

    /// The chunks to look at.
    pub(super) fn chunks(&self) -> Vec<ChunkKey> {
        let sure = |state: State| state != State::Unsure;
        let built = self.built.values().filter(|(_, state)| sure(*state)).map(|(chunk, _)| *chunk);
        let land = self.land.iter().filter(|(_, state)| sure(**state)).map(|(chunk, _)| *chunk);
        let mut chunks: Vec<ChunkKey> = built.chain(land).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// Compares a chunk: how many works were compared, what is missing there and what ought not to be there, in words.
    pub(super) fn compare(&self, chunk: ChunkKey, found: &Found, me: u64) -> (u64, Vec<String>, Vec<String>) {
        let (mut compared, mut missing, mut more) = (0, Vec::new(), Vec::new());
        for (object, (_, state)) in self.built.iter().filter(|(_, (at, _))| *at == chunk) {
            let stands = found.objects.contains(object);
            compared += u64::from(*state != State::Unsure);
            match state {
                State::Stands if !stands => missing.push(format!("facility {object} on {chunk:?}, which it built")),
                State::Gone if stands => more.push(format!("facility {object} on {chunk:?}, which it took down")),
                _ => {}
            }
        }
        if let Some(state) = self.land.get(&chunk) {
            let owned = found.owner == Some(me);
            compared += u64::from(*state != State::Unsure);
            match state {
                State::Stands if !owned => missing.push(format!("land {chunk:?}, which is {:?}'s", found.owner)),
                State::Gone if owned => more.push(format!("land {chunk:?}, which it gave up")),
                _ => {}
            }
        }
        (compared, missing, more)
    }
}
