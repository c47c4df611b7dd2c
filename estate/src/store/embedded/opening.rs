//! Opening a store, and switching its durability.
//!
//! All of it happens on the thread that becomes the writer: locks of other processes may make it wait, the caller never
//! waits longer than [`OPEN_DEADLINE`]. It NEVER writes into a folder before it knows that the folder is empty or a store.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::environment::{self, Environment};
use super::folder::{heed_error, io_error, prepare};
use super::records::{self, Recorded, Tables};
use super::turnstile::{Seats, Turnstile, members};
use super::writer::{self, Writer};
use super::{Durability, EmbeddedStore, OpenError, QUEUE, Settings};

/// How long opening waits for other processes: far longer than any commit of theirs takes.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Openings so far in this process.
static OPENINGS: AtomicU64 = AtomicU64::new(0);

/// Opens the store in `folder`, making folder and store if they are not there.
///
/// `durability`: what the store must have, or `None` for whatever it has ([`Durability::Power`] for a new one).
pub async fn open(
    folder: impl AsRef<Path>,
    durability: impl Into<Option<Durability>>,
) -> Result<EmbeddedStore, OpenError> {
    open_with(folder, Settings { durability: durability.into(), ..Settings::default() }).await
}

/// Opens the store in `folder` with all settings.
pub async fn open_with(folder: impl AsRef<Path>, settings: Settings) -> Result<EmbeddedStore, OpenError> {
    let folder = folder.as_ref().to_owned();
    let for_thread = folder.clone();
    let (ready, opened) = oneshot::channel();
    let started = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
        let begun = begin(&for_thread, settings);
        let (result, run) = match begun {
            Ok((store, writer, runtime)) => (Ok(store), Some((writer, runtime))),
            Err(error) => (Err(error), None),
        };
        // A caller that gave up dropped its end: the store is closed again by dropping it here.
        let sent = ready.send(result).is_ok();
        if let (true, Some((writer, runtime))) = (sent, run) {
            writer.run(&runtime);
        }
    });
    started.map_err(|error| io_error(&folder, error))?;
    wait(&folder, opened).await
}

/// Changes what the store's writes survive. No process may have it open.
pub async fn switch_durability(folder: impl AsRef<Path>, to: Durability) -> Result<(), OpenError> {
    let folder = folder.as_ref().to_owned();
    let for_thread = folder.clone();
    let (ready, switched) = oneshot::channel();
    let started = thread::Builder::new().name("store-switch".to_owned()).spawn(move || {
        // A caller that gave up does not want to know.
        let _ = ready.send(switch(&for_thread, to));
    });
    started.map_err(|error| io_error(&folder, error))?;
    wait(&folder, switched).await
}

async fn wait<T>(folder: &Path, result: oneshot::Receiver<Result<T, OpenError>>) -> Result<T, OpenError> {
    let locked = |reason: String| OpenError::Locked { folder: folder.to_owned(), reason };
    match timeout(OPEN_DEADLINE, result).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(OpenError::Damaged { folder: folder.to_owned(), reason: "its opening panicked".to_owned() }),
        Err(_) => Err(locked(format!("another process has been writing for {OPEN_DEADLINE:?}; is it stopped?"))),
    }
}

/// A store and what its writer needs.
struct Begun {
    env: Environment,
    tables: Tables,
    durability: Durability,
}

fn begin(folder: &Path, settings: Settings) -> Result<(EmbeddedStore, Writer, Runtime), OpenError> {
    prepare(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| io_error(folder, error))?;
    let member = join(folder, File::try_lock_shared, "a tool needs it to itself")?;
    let turnstile = Turnstile::open(folder).map_err(|error| io_error(folder, error))?;
    let seats = Arc::new(Seats::open(folder).map_err(|error| io_error(folder, error))?);
    let Begun { env, tables, durability } =
        open_files(folder, &turnstile, &seats, settings.map_bytes, settings.durability, true)?;
    let (queue, inbox) = mpsc::channel(QUEUE);
    let counters = writer::counters();
    let store = EmbeddedStore {
        env: env.clone(),
        tables,
        folder: folder.to_owned(),
        durability,
        clock: settings.clock.clone(),
        seats: seats.clone(),
        counters: counters.clone(),
        queue,
        closed: AtomicBool::new(false),
        number: OPENINGS.fetch_add(1, Ordering::Relaxed),
    };
    let clock = settings.clock;
    let closers = Vec::new();
    let writer = Writer { env, tables, durability, turnstile, seats, _member: member, clock, counters, inbox, closers };
    Ok((store, writer, runtime))
}

/// Takes the lock that every process of the folder holds.
fn join(folder: &Path, lock: impl FnOnce(&File) -> Result<(), TryLockError>, reason: &str) -> Result<File, OpenError> {
    let file = members(folder).map_err(|error| io_error(folder, error))?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::Locked { folder: folder.to_owned(), reason: reason.to_owned() })
        }
        Err(TryLockError::Error(error)) => Err(io_error(folder, error)),
    }
}

/// Opens LMDB and what it says of itself, in the process's turn.
fn open_files(
    folder: &Path,
    turnstile: &Turnstile,
    seats: &Seats,
    map_bytes: usize,
    asked: Option<Durability>,
    check: bool,
) -> Result<Begun, OpenError> {
    let failed = |error| heed_error(folder, error);
    let turn = turnstile.enter().map_err(|error| io_error(folder, error))?;
    let _seat = seats.hold().map_err(|error| io_error(folder, error))?;
    let env = environment::open(folder, map_bytes, &turn).map_err(failed)?;
    env.clear_stale_readers().map_err(failed)?;
    let mut txn = env.write_txn().map_err(failed)?;
    let recorded = records::recorded(&env, &mut txn, asked.unwrap_or(Durability::Power)).map_err(failed)?;
    let durability = match (recorded, asked) {
        (Recorded::Fresh, asked) => asked.unwrap_or(Durability::Power),
        (Recorded::Store(recorded), Some(asked)) if check && recorded != asked => {
            return Err(OpenError::OtherDurability { folder: folder.to_owned(), recorded, asked });
        }
        (Recorded::Store(recorded), _) => recorded,
        (Recorded::Newer(found), _) => return Err(OpenError::Newer { folder: folder.to_owned(), found }),
        (Recorded::Foreign, _) => {
            let reason = "its data.mdb is another program's".to_owned();
            return Err(OpenError::NotAStore { folder: folder.to_owned(), reason });
        }
        (Recorded::Damaged, _) => {
            let reason = "its record of format and durability cannot be read".to_owned();
            return Err(OpenError::Damaged { folder: folder.to_owned(), reason });
        }
    };
    let tables = Tables::open(&env, &mut txn).map_err(failed)?;
    txn.commit().map_err(failed)?;
    environment::set_durability(&env, durability, &turn).map_err(failed)?;
    environment::keep(&env);
    Ok(Begun { env, tables, durability })
}

fn switch(folder: &Path, to: Durability) -> Result<(), OpenError> {
    prepare(folder)?;
    let failed = |error| heed_error(folder, error);
    let _alone = join(folder, File::try_lock, "stop all its processes first")?;
    let turnstile = Turnstile::open(folder).map_err(|error| io_error(folder, error))?;
    let seats = Seats::open(folder).map_err(|error| io_error(folder, error))?;
    let begun = open_files(folder, &turnstile, &seats, super::MAP_BYTES, Some(to), false)?;
    let _turn = turnstile.enter().map_err(|error| io_error(folder, error))?;
    let mut txn = begun.env.write_txn().map_err(failed)?;
    records::record(&begun.env, &mut txn, to).map_err(failed)?;
    txn.commit().map_err(failed)?;
    begun.env.force_sync().map_err(failed)
}
