//! The fair queue of a district: who waits to come in, in what order, kept in the directory.
//!
//! An entry is a key of its own, one for each player: `…/waiting/{player}`. What decides the order is in the directory too:
//! the class, the revision at which the key was made, and, since keys made in one call share their revision, the number
//! within that call. No clock and no gateway decides anything about it, so that the order outlives every gateway.
//!
//! Every gateway follows the queue ([`follower`]) and tells places from memory ([`view`]); entries are made and kept alive
//! in batches ([`scribe`]); one gateway at a time, elected, lets the first ones in ([`doorkeeper`]). Entries live under
//! leases that are never renewed: each poll of an entry has it moved to a newer lease now and then, whichever gateway was
//! asked. So who stops asking leaves the queue within [`LEASE_S`], and the death of a gateway takes nobody's place.
//!
//! The keys stand beside the cluster's other keys, NEVER under their prefix: whoever lists the cluster must not read tens
//! of thousands of waiting players.

pub mod view;

pub mod follower;
pub mod scribe;

pub mod doorkeeper;

#[cfg(test)]
mod tests;

use std::time::Duration;

use cartographer::geometry::{IslandId, ObjectId};
use mesh::directory::Revision;
use mesh::registry::District;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How long an entry's lease lasts, in seconds: an entry that nobody asks for leaves within this time.
pub const LEASE_S: u32 = 60;

/// For how long entries are put under the same lease. The last of them is left with [`LEASE_S`] less this.
const LEASE_SHARED: Duration = Duration::from_secs(15);

/// How old an entry's last lease must be for a poll to move it to a newer one.
const KEEP_AFTER: Duration = Duration::from_secs(10);

/// The longest that clients are told to wait between two polls.
pub const POLL_MOST: Duration = Duration::from_secs(10);

/// The least.
pub const POLL_LEAST: Duration = Duration::from_secs(1);

/// How long a client may look for another gateway after its own has died, at least.
const FAILOVER: Duration = Duration::from_secs(20);

const _: () = assert!(
    LEASE_SHARED.as_secs() + KEEP_AFTER.as_secs() + POLL_MOST.as_secs() + FAILOVER.as_secs() < LEASE_S as u64,
    "a player who asks when told to, and finds its gateway dead, must not lose its place"
);

/// What the keys of a district's queue begin with.
pub fn prefix(district: &District) -> String {
    // No name has a colon as it stands in keys: this is no other cluster's prefix.
    format!("{}:queue/{}/", district.cluster_prefix().trim_end_matches('/'), district.name())
}

/// Where the keys of those who wait begin, within the prefix.
const WAITING: &str = "waiting/";

/// Where the doorkeeper's key is, within the prefix.
const DOORKEEPER: &str = "doorkeeper";

/// Who goes before whom; within a class, who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum Class {
    /// Players whose frontend died under them: they were in already.
    Returning,
    /// Everybody else.
    Arriving,
}

impl From<Class> for u8 {
    fn from(class: Class) -> u8 {
        class as u8
    }
}

impl From<u8> for Class {
    fn from(number: u8) -> Class {
        if number == 0 { Class::Returning } else { Class::Arriving }
    }
}

/// One who waits: the value of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The session that will be opened; its client asks by this.
    pub session: Uuid,
    /// The player.
    pub player: ObjectId,
    /// Its class.
    pub class: Class,
    /// The number within the call that made the key.
    #[serde(default)]
    pub number: u32,
    /// The island that was asked for, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub island: Option<IslandId>,
    /// Where the player was last: island, and place in 1/256 tile. For choosing a frontend only.
    #[serde(default)]
    pub at: (u32, i32, i32),
}

impl Waiting {
    fn to_bytes(&self) -> Vec<u8> {
        // Writing plain values to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What orders those who wait: class, revision of making, number within the call, player.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    class: Class,
    created: Revision,
    number: u32,
    player: ObjectId,
}

/// What the doorkeeper says of itself: the value of its key, for `wildmesh status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Office {
    /// The gateway that has the duty.
    pub node: String,
    /// How many it lets in each second, at most.
    pub most_per_s: u32,
    /// How many it let in each second lately.
    pub per_s: f64,
    /// How many it let in since it has the duty.
    pub admitted: u64,
    /// How many it saw leave without having been let in.
    pub abandoned: u64,
    /// How many more the frontends would take, as it counts.
    pub room: u32,
}

/// Why somebody could not be put in line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The directory cannot be reached, or what it did is not known.
    #[error("the queue cannot be reached: {0}")]
    Away(String),
    /// More ask at once than can be written.
    #[error("too many ask at once")]
    Busy,
}
