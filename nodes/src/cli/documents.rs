//! What people may write after `wildmesh store`, `wildmesh estate` and `wildmesh migrate`.
//!
//! Words and their bounds only: what becomes of documents is in the commands.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use estate::transaction::OperationId;

use crate::wiring::drivers::StoreSpec;

/// Which store a tool works on.
#[derive(Args, Debug)]
pub struct StoreArg {
    /// Where documents lie: a folder, or what nodes are given as --store
    #[arg(long, env = "WILDMESH_STORE", hide_env_values = true, default_value = "data")]
    pub store: StoreSpec,
}

/// `wildmesh store`
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Make what is missing (in Couchbase: bucket, scope, collection and index), as often as you like
    Init(StoreArg),
    /// Write, read back and remove one document, and tell how long each took
    Check(StoreArg),
}

/// `wildmesh estate`
#[derive(Debug, Subcommand)]
pub enum Estate {
    /// Print one document
    Show(Show),
    /// Print what stands on a chunk, and whose it is
    Deed(Deed),
    /// Promise goods out of nothing to a player: kept within half a minute if it is at home, or when it next comes
    Give(Give),
    /// Check every invariant of a whole store; exits with 2 if something is wrong
    Audit(Audit),
}

/// `wildmesh estate show`
#[derive(Args, Debug)]
pub struct Show {
    /// The document's key, such as player/7 or deed/1/12/30
    pub key: String,
    /// The store
    #[command(flatten)]
    pub store: StoreArg,
}

/// `wildmesh estate deed`
#[derive(Args, Debug)]
pub struct Deed {
    /// The island's number
    pub island: u32,
    /// The chunk (16 tiles), from the island's left edge
    pub x: u16,
    /// The chunk, from the island's upper edge
    pub y: u16,
    /// The store
    #[command(flatten)]
    pub store: StoreArg,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh estate give`
#[derive(Args, Debug)]
pub struct Give {
    /// The player's number
    pub player: u64,
    /// The item, in lower-case letters, digits and `_`
    pub item: String,
    /// How many
    pub count: u64,
    /// The operation's id, 32 hexadecimal digits: under the same id it happens once [default: a new one, printed]
    #[arg(long)]
    pub op: Option<OperationId>,
    /// The store
    #[command(flatten)]
    pub store: StoreArg,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
}

/// `wildmesh estate audit`
#[derive(Args, Debug)]
pub struct Audit {
    /// The store
    #[command(flatten)]
    pub store: StoreArg,
    /// Mend what is safe to mend: settle transactions, clear from deeds what does not exist
    #[arg(long)]
    pub repair: bool,
    /// No node uses this store: owners that documents name are gone
    #[arg(long)]
    pub offline: bool,
    /// The folder of terrain packages [default: islands]
    #[arg(long)]
    pub islands: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `wildmesh migrate`
#[derive(Args, Debug)]
pub struct Migrate {
    /// Read all documents as the game would, without writing, and list those that would fail
    #[arg(long)]
    pub rehearse: bool,
    /// The store
    #[command(flatten)]
    pub store: StoreArg,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
