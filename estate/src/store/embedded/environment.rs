//! Opening LMDB: the one place of this crate with `unsafe`, and why each use of it is sound.
//!
//! It NEVER hands out an environment whose folder was not checked and locked first: [`open`] asks for the proof.
#![allow(unsafe_code)] // heed marks opening and flag changes unsafe; the conditions they name are met here.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, FlagSetMode, WithTls};

use super::Durability;
use super::turnstile::Turn;

/// Reader slots: one per thread that ever read, over all processes of the folder.
const READERS: u32 = 1_022;

/// Tables in the file.
const TABLES: u32 = 8;

/// Opens the environment in `folder` with full syncing, creating its files if they are not there.
///
/// `_turn` proves that no other process opens it at the same moment or writes into it.
pub(super) fn open(folder: &Path, map_bytes: usize, _turn: &Turn<'_>) -> heed::Result<Env<WithTls>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_bytes).max_readers(READERS).max_dbs(TABLES);
    // SAFETY: LMDB maps the file into memory, so nobody may change it but LMDB itself, and no process may open it twice.
    // The folder is the store's own (checked before: a foreign folder is refused), heed refuses a second opening within
    // the process, and the lock file is on: none of the flags that give up these guarantees is used.
    unsafe { options.open(folder) }
}

/// Sets how far a commit goes to the disk. Before any other thread has the environment.
pub(super) fn set_durability(env: &Env<WithTls>, durability: Durability, _turn: &Turn<'_>) -> heed::Result<()> {
    let flags = match durability {
        Durability::Process => EnvFlags::NO_SYNC,
        Durability::Power => EnvFlags::NO_META_SYNC,
        Durability::Strict => return Ok(()),
    };
    // SAFETY: no other thread uses the environment yet (it was opened by the caller just now), and these two flags never
    // endanger memory: what a loss of power may cost is documented at `Durability`.
    unsafe { env.set_flags(flags, FlagSetMode::Enable) }
}
