//! `wildmesh store init` and `wildmesh store check`: whether documents can lie where the operator says.
//!
//! `init` makes what is missing and NEVER changes what is there. `check` leaves nothing behind: its one document is
//! removed, and would expire if it could not be. Passwords are NEVER printed.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use estate::store::{Store, WriteOptions};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cli;
use crate::wiring::drivers::{self, StoreSpec};

/// How long the document of a check lives if nobody removes it.
const CHECK_LIVES: Duration = Duration::from_secs(600);

/// Runs `wildmesh store init`.
pub async fn init(args: cli::StoreArg) -> Result<()> {
    match &args.store {
        StoreSpec::Memory => bail!("a store in memory is gone with its process: there is nothing to set up"),
        StoreSpec::Embedded(folder) => {
            let there = folder.exists();
            drivers::store(&args.store).await?;
            println!("folder {}: {}", folder.display(), if there { "already there" } else { "made" });
        }
        #[cfg(feature = "couchbase")]
        StoreSpec::Couchbase(config) => {
            let config = drivers::with_password(config);
            let steps = estate::store::couchbase::setup::init(&config).await.context("could not set up the store")?;
            steps.iter().for_each(|step| println!("{step}"));
        }
    }
    println!("The store is ready. `wildmesh store check` tries it out.");
    Ok(())
}

/// Runs `wildmesh store check`.
pub async fn check(args: cli::StoreArg) -> Result<()> {
    let begun = Instant::now();
    let store = drivers::store(&args.store).await?;
    println!("{}", store.describe().await);
    told("connect", begun);
    let key = format!("wildmesh/check/{}", Uuid::new_v4());
    let tried = try_out(store.as_ref(), &key).await;
    tried.context("the store opens, but does not work")?;
    match store.scan("wildmesh/check/", None, 1).await {
        Ok(_) => println!("The store works."),
        Err(e) => println!("The store works, except for tools that walk all of it: {e}"),
    }
    Ok(())
}

async fn try_out(store: &dyn Store, key: &str) -> Result<()> {
    let (first, second) = (Bytes::from_static(br#"{"check":1}"#), Bytes::from_static(br#"{"check":2}"#));
    let options = WriteOptions::expiring(CHECK_LIVES);
    let begun = Instant::now();
    let version = store.insert(key, first.clone(), options).await.context("could not write")?;
    told("write", begun);
    let begun = Instant::now();
    let stored = store.get(key).await.context("could not read")?;
    told("read", begun);
    ensure!(stored.is_some_and(|stored| stored.value == first && stored.version == version), "something else was read");
    let begun = Instant::now();
    let version = store.replace(key, second, version, WriteOptions::default()).await.context("could not replace")?;
    told("replace", begun);
    let begun = Instant::now();
    store.remove(key, version, WriteOptions::default()).await.context("could not remove")?;
    told("remove", begun);
    ensure!(store.get(key).await.context("could not read")?.is_none(), "what was removed is still there");
    Ok(())
}

fn told(what: &str, begun: Instant) {
    println!("{what:<8} {:>8.2} ms", begun.elapsed().as_secs_f64() * 1_000.0);
}
