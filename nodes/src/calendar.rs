//! The calendar: seconds since 1970, for what must last longer than a process, such as a tree that grows again.
//!
//! Taken from the system once and counted on by the monotonic clock, so that it never jumps while a node runs, and passes
//! with simulated time. Nothing is ever decided by comparing two nodes' calendars to the minute: a wrong one only makes a
//! tree grow early or late, or an act of a former session too old to be asked again.

use std::time::Duration;

use tokio::time::Instant;

/// What day it is.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    began: Duration,
    since: Instant,
}

impl Calendar {
    /// The system's.
    pub fn real() -> Calendar {
        // A clock before 1970 is as good as 1970.
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's date for the world")]
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Calendar { began, since: Instant::now() }
    }

    /// One that begins at so many seconds since 1970.
    pub fn beginning(seconds: u64) -> Calendar {
        Calendar { began: Duration::from_secs(seconds), since: Instant::now() }
    }

    /// Seconds since 1970.
    pub fn now_s(&self) -> u64 {
        (self.began + self.since.elapsed()).as_secs()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.began + self.since.elapsed()).as_millis() as u64
    }
}
