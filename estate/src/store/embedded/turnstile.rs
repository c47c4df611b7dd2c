//! Who may write now, among several processes: OS file locks in front of LMDB's own mutexes.
//!
//! LMDB's mutexes live in shared memory, and a wake-up is lost now and then when their owner is killed: survivors then
//! wait for ever. The kernel's file locks do not have that fault. So whoever wants LMDB's writer mutex passes the
//! *turnstile* first (lock turn, lock gate, unlock turn; unlock gate after the transaction: the two files make waiters
//! alternate), and whoever wants its reader-table mutex holds *seats*. No process ever waits inside LMDB.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of the lock files.
pub(super) const FILES: [&str; 4] = ["turn.lock", "gate.lock", "seats.lock", "members.lock"];

/// The lock files in front of the writer's mutex.
#[derive(Debug)]
pub(super) struct Turnstile {
    turn: File,
    gate: File,
}

/// The right to write, until it is dropped. Dies with the process, too.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    gate: &'a File,
}

impl Turnstile {
    pub(super) fn open(folder: &Path) -> io::Result<Turnstile> {
        Ok(Turnstile { turn: lock_file(folder, FILES[0])?, gate: lock_file(folder, FILES[1])? })
    }

    /// Waits for the right to write, for as long as others take: only on the writer's own thread.
    pub(super) fn enter(&self) -> io::Result<Turn<'_>> {
        lock(&self.turn)?;
        let gate = lock(&self.gate);
        let turn = self.turn.unlock();
        gate?;
        let entered = Turn { gate: &self.gate };
        turn?;
        Ok(entered)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.gate.unlock() {
            tracing::error!(%error, "the store's gate could not be unlocked; other processes cannot write until this one ends");
        }
    }
}

/// The lock in front of the reader table's mutex: for a thread's first read, for clearing stale readers, and for the
/// begin of a write transaction (where LMDB cleans up after a dead writer). Held for microseconds.
#[derive(Debug)]
pub(super) struct Seats {
    /// The file's lock belongs to the process, so threads exclude one another by the mutex.
    file: Mutex<File>,
}

/// The right to the reader table, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    file: MutexGuard<'a, File>,
}

impl Seats {
    pub(super) fn open(folder: &Path) -> io::Result<Seats> {
        Ok(Seats { file: Mutex::new(lock_file(folder, FILES[2])?) })
    }

    pub(super) fn hold(&self) -> io::Result<Seat<'_>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&file)?;
        Ok(Seat { file })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::error!(%error, "the store's seats could not be unlocked; new readers wait until this process ends");
        }
    }
}

/// Opens the file whose lock every process of the folder holds: shared in use, alone for changes to the whole store.
pub(super) fn members(folder: &Path) -> io::Result<File> {
    lock_file(folder, FILES[3])
}

fn lock_file(folder: &Path, name: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(folder.join(name))
}

fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
