//! A client's end of a connection without a socket: what a shard writes is parsed into messages.
//!
//! It answers a ping as every WebSocket library does, when it is read.
//!
//! Shared by the simulation's walkers and the village's people. It checks nothing itself, and it NEVER pushes back: whoever
//! has one looks into it often.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mesh::tasks::Tasks;
use nodes::frontend::shard::Sink;
use tokio::time::sleep;

/// What a ping begins with (RFC 6455, section 5.5.2).
const PING: u8 = 0x89;

/// A socket in memory.
#[derive(Default)]
pub struct Pipe {
    written: Mutex<Vec<u8>>,
    closed: AtomicBool,
    pinged: AtomicBool,
}

impl Sink for Pipe {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let before = written.len();
        slices.iter().for_each(|slice| written.extend_from_slice(slice));
        Ok(written.len() - before)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

impl Pipe {
    /// True once the frontend has closed it. What it wrote before is still there.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether a ping was taken since this was last asked: it is to be answered.
    pub fn pinged(&self) -> bool {
        self.pinged.swap(false, Ordering::SeqCst)
    }

    /// The messages written since the last look, without the pings among them.
    pub fn take(&self) -> Vec<Bytes> {
        let bytes = Bytes::from(std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner)));
        let (mut messages, mut at) = (Vec::new(), 0);
        while at + 2 <= bytes.len() {
            let (head, length) = match bytes[at + 1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]))),
                127 => (10, u64::from_be_bytes(std::array::from_fn(|i| bytes[at + 2 + i])) as usize),
                short => (2, usize::from(short)),
            };
            match bytes[at] {
                PING => self.pinged.store(true, Ordering::SeqCst),
                _ => messages.push(bytes.slice(at + head..at + head + length)),
            }
            at += head + length;
        }
        messages
    }
}

/// Waits for an answer as a client does: until it comes, the process ends, or patience does.
pub async fn within<T>(process: &Tasks, patience_ms: u64, answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answered = answer => Some(answered),
        () = process.until_stopped() => None,
        () = sleep(Duration::from_millis(patience_ms)) => None,
    }
}

/// A runtime on one thread with simulated time, whose own draws come from `seed`.
///
/// Needs `--cfg tokio_unstable` (`.cargo/config.toml`): without it a run does not repeat itself, and this does not compile.
pub fn runtime(seed: u64) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    builder
}
