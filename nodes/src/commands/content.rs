//! `wildmesh content check`: whether the game's data files can be used, and all that is wrong with them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::game::content::{Content, ContentError};

/// The content of a folder, or what comes with the program.
pub fn open(folder: Option<&Path>) -> Result<Arc<Content>> {
    match folder {
        Some(folder) => {
            Content::open(folder).context("could not use the game's data files: `wildmesh content check` says more")
        }
        None => Ok(Content::bundled()),
    }
}

/// Checks a folder, or the content that comes with the program; every error is a line on standard error.
pub fn check(folder: Option<PathBuf>) -> ExitCode {
    let content = match folder.map(|folder| Content::open(&folder)) {
        None => Content::bundled(),
        Some(Ok(content)) => content,
        Some(Err(error)) => {
            eprintln!("{error}");
            if let ContentError::Read { source, .. } = &error {
                eprintln!("  because: {source}");
            }
            return ExitCode::FAILURE;
        }
    };
    println!(
        "ok: {} items, {} natural objects, {} facilities, {} recipes, {} species",
        content.items.len(),
        content.naturals.len(),
        content.facilities.len(),
        content.recipes.len(),
        content.species.len()
    );
    ExitCode::SUCCESS
}
