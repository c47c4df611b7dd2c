//! Opening LMDB: the one place of this crate with `unsafe`, and why each use of it is sound.
//!
//! An environment that was read from is NEVER closed while the process lives, but kept for the next opening of the folder:
//! LMDB gives back a thread's reader slot when the thread ends, in memory that closing unmaps, and nothing makes one wait
//! for the other (threads that ended while the last handle was dropped have crashed the process). It NEVER opens a folder
//! that was not checked and locked first: [`open`] asks for the proof.
#![allow(unsafe_code)] // heed marks opening and flag changes unsafe; the conditions they name are met here.

use std::fs::Metadata;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use heed::{Env, EnvFlags, EnvOpenOptions, FlagSetMode, WithTls};

use super::Durability;
use super::folder::DATA;
use super::turnstile::Turn;

/// Reader slots: one per thread that ever read, over all processes of the folder.
const READERS: u32 = 1_022;

/// Tables in the file.
const TABLES: u32 = 8;

/// The environments that this process has read from.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    folder: PathBuf,
    env: Env<WithTls>,
    in_use: Weak<()>,
}

/// An open environment; the folder is in use in this process while a clone of it is left.
#[derive(Clone)]
pub(super) struct Environment {
    env: Env<WithTls>,
    in_use: Arc<()>,
}

impl Deref for Environment {
    type Target = Env<WithTls>;

    fn deref(&self) -> &Env<WithTls> {
        &self.env
    }
}

/// Opens the environment in `folder`, creating its files if they are not there.
///
/// `_turn` proves that no other process opens it at the same moment or writes into it.
pub(super) fn open(folder: &Path, map_bytes: usize, _turn: &Turn<'_>) -> heed::Result<Environment> {
    let in_use = Arc::new(());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = folder.canonicalize()?;
    if let Some(kept) = kept.iter_mut().find(|kept| kept.folder == folder) {
        if kept.in_use.strong_count() > 0 {
            return Err(heed::Error::EnvAlreadyOpened);
        }
        let mapped = kept.env.try_clone_inner_file()?.metadata()?;
        if !folder.join(DATA).metadata().is_ok_and(|present| same_file(&mapped, &present)) {
            let reason = "its files were replaced while this process had them open; restart the process";
            return Err(heed::Error::Io(io::Error::other(reason)));
        }
        kept.in_use = Arc::downgrade(&in_use);
        return Ok(Environment { env: kept.env.clone(), in_use });
    }
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes).max_readers(READERS).max_dbs(TABLES);
    // SAFETY: LMDB maps the file into memory, so nobody may change it but LMDB itself, and no process may open it twice.
    // The folder is the store's own (checked before: a foreign folder is refused), heed refuses a second opening within
    // the process, and the lock file is on: none of the flags that give up these guarantees is used.
    let env = unsafe { options.open(folder) }?;
    Ok(Environment { env, in_use })
}

/// Keeps the environment for good. MUST come before the first read from it.
pub(super) fn keep(environment: &Environment) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = environment.env.path().to_owned();
    if !kept.iter().any(|kept| kept.folder == folder) {
        kept.push(Kept { folder, env: environment.env.clone(), in_use: Arc::downgrade(&environment.in_use) });
    }
}

/// Sets how far a commit goes to the disk. Before the opener gives the environment to others.
pub(super) fn set_durability(env: &Environment, durability: Durability, _turn: &Turn<'_>) -> heed::Result<()> {
    let less = match durability {
        Durability::Process => EnvFlags::NO_SYNC,
        Durability::Power => EnvFlags::NO_META_SYNC,
        Durability::Strict => EnvFlags::empty(),
    };
    // SAFETY: no other thread changes flags (the caller is the only user of the environment: see `in_use`), and these two
    // never endanger memory: what a loss of power may cost is documented at `Durability`.
    unsafe {
        env.set_flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC, FlagSetMode::Disable)?;
        env.set_flags(less, FlagSetMode::Enable)
    }
}

#[cfg(unix)]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    // A mapped file cannot be replaced there.
    true
}
