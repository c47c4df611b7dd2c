//! A store's folder: checked before anything is written into it, so that nothing foreign is ever touched.
//!
//! Says in words an operator can act on what is wrong: not a folder, not ours, read-only, in use. NEVER opens LMDB's lock
//! file: closing any handle to it would drop the locks that LMDB holds on it for this process.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::turnstile;
use super::{Durability, FORMAT};

pub(super) const DATA: &str = "data.mdb";
const LOCK: &str = "lock.mdb";

/// LMDB's magic number, and where it stands in the file: behind the header of the first page.
const MAGIC: u32 = 0xbeef_c0de;
const MAGIC_AT: usize = 16;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path is a file or something else that is no folder.
    #[error("{0} is not a folder; a store is a folder")]
    NotAFolder(PathBuf),
    /// The folder holds other things. Nothing was written into it.
    #[error("{folder} is not a wildmesh store: {reason}; give an empty folder or a store")]
    NotAStore {
        /// The folder.
        folder: PathBuf,
        /// What was found in it.
        reason: String,
    },
    /// The folder or a file in it may not be written.
    #[error("{folder} cannot be written; a store needs a folder that this user may write")]
    ReadOnly {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left to open the store in {folder}")]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process needs the store to itself, or is in it while this one does.
    #[error("the store in {folder} is locked: {reason}")]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// By whom or what.
        reason: String,
    },
    /// This process has it open already: share that one.
    #[error("the store in {0} is already open in this process")]
    AlreadyOpen(PathBuf),
    /// It was made by a newer program.
    #[error("the store in {folder} has format {found}; this program knows {FORMAT}: upgrade it")]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It was made with another durability, which all its processes must share.
    #[error(
        "the store in {folder} has durability {recorded}, not {asked}; open it with {recorded}, or stop all its processes \
         and switch it"
    )]
    OtherDurability {
        /// The folder.
        folder: PathBuf,
        /// What it has.
        recorded: Durability,
        /// What was asked for.
        asked: Durability,
    },
    /// Its files are damaged.
    #[error("the store in {folder} is damaged: {reason}")]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system or LMDB failed in another way.
    #[error("the store in {folder} could not be opened")]
    Failed {
        /// The folder.
        folder: PathBuf,
        /// What they say.
        #[source]
        source: heed::Error,
    },
}

/// Makes sure that `folder` is there and is a store or empty.
pub(super) fn prepare(folder: &Path) -> Result<(), OpenError> {
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => check(folder),
        Ok(_) => Err(OpenError::NotAFolder(folder.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).map_err(|error| io_error(folder, error))
        }
        Err(error) => Err(io_error(folder, error)),
    }
}

fn check(folder: &Path) -> Result<(), OpenError> {
    let foreign = |reason: String| OpenError::NotAStore { folder: folder.to_owned(), reason };
    let data = folder.join(DATA);
    if data.exists() {
        return match has_magic(&data) {
            Ok(true) => Ok(()),
            Ok(false) => Err(foreign(format!("its {DATA} is no LMDB file"))),
            Err(error) => Err(io_error(folder, error)),
        };
    }
    let entries = fs::read_dir(folder).map_err(|error| io_error(folder, error))?;
    for entry in entries {
        let name = entry.map_err(|error| io_error(folder, error))?.file_name();
        // What a process leaves that was killed while it made the store.
        let ours = name.to_str().is_some_and(|name| name == LOCK || turnstile::FILES.contains(&name));
        if !ours {
            return Err(foreign(format!("it holds {name:?}, but no {DATA}")));
        }
    }
    Ok(())
}

/// True for an LMDB file, and for an empty one (from a process killed while it made the store).
fn has_magic(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take((MAGIC_AT + 4) as u64).read_to_end(&mut head)?;
    Ok(head.is_empty() || head.get(MAGIC_AT..) == Some(&MAGIC.to_ne_bytes()))
}

/// Says what an error of the file system means for a store.
pub(super) fn io_error(folder: &Path, error: io::Error) -> OpenError {
    let folder = folder.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { folder, source: error }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            OpenError::Full { folder, source: error }
        }
        io::ErrorKind::NotADirectory => OpenError::NotAFolder(folder),
        _ => OpenError::Failed { folder, source: heed::Error::Io(error) },
    }
}

/// Says what an error of LMDB means for a store.
pub(super) fn heed_error(folder: &Path, error: heed::Error) -> OpenError {
    use heed::MdbError;
    let owned = folder.to_owned();
    match error {
        heed::Error::Io(error) => io_error(folder, error),
        heed::Error::EnvAlreadyOpened => OpenError::AlreadyOpen(owned),
        heed::Error::Mdb(MdbError::Invalid | MdbError::VersionMismatch) => {
            OpenError::NotAStore { folder: owned, reason: format!("its {DATA} is not of this LMDB") }
        }
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Panic) => {
            OpenError::Damaged { folder: owned, reason: error.to_string() }
        }
        source => OpenError::Failed { folder: owned, source },
    }
}
