//! What the steward says of itself: the value of its key in the directory, for `wildmesh status` and the gateways.

use std::collections::VecDeque;

use mesh::directory::{self, Directory};
use mesh::registry::District;
use serde::{Deserialize, Serialize};

/// Deeds that are told, at most; the oldest are forgotten.
pub const DEEDS: usize = 20;

/// What stands in a steward's key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Office {
    /// Who is steward.
    pub node: String,
    /// Of which district.
    pub district: String,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// When it last looked.
    pub looked_s: u64,
    /// Players of the district then.
    pub players: u32,
    /// How many more players there are each minute, smoothed.
    pub growth_per_minute: f64,
    /// Unstable islands that are open.
    pub open: u32,
    /// Unstable islands that are wanted.
    pub wanted: u32,
    /// Animals in the habitats of those that are open.
    pub animals: u32,
    /// What it did last, oldest first.
    pub deeds: VecDeque<Deed>,
    /// What does not work, for people.
    pub troubles: Vec<String>,
}

/// Something that a steward did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

impl Office {
    /// Adds what was done.
    pub fn did(&mut self, at_s: u64, what: String, why: String) {
        tracing::info!(what, why, "steward");
        self.deeds.push_back(Deed { at_s, what, why });
        while self.deeds.len() > DEEDS {
            self.deeds.pop_front();
        }
    }

    /// As it stands in the key.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Writing plain values to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The stewards of all districts of a cluster.
pub async fn read_all(directory: &dyn Directory, district: &District) -> directory::Result<Vec<Office>> {
    let (entries, _) = directory.list(district.cluster_prefix()).await?;
    let office = |entry: &directory::Entry| {
        let place = entry.key.strip_prefix(district.cluster_prefix())?;
        let (_, "steward") = place.split_once('/')? else { return None };
        serde_json::from_slice(&entry.value).ok()
    };
    Ok(entries.iter().filter_map(office).collect())
}
