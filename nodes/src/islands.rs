//! Finds and opens the terrain packages that a node serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use cartographer::terrain::Terrain;

/// The folder's name, looked for where people run the program and beside an installed binary.
const FOLDER: &str = "islands";

/// Opens all packages of `folder`, or of the usual one. Any that cannot be used is an error that names it.
pub fn open(folder: Option<&Path>) -> anyhow::Result<Arc<Vec<Arc<Terrain>>>> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => usual_folder()?,
    };
    let terrains = cartographer::terrain::open_folder(&folder)
        .with_context(|| format!("could not open the islands in {}", folder.display()))?;
    if terrains.is_empty() {
        bail!(
            "no terrain package (.tmx or .tmj) in {}: put one there, or name another folder by --islands",
            folder.display()
        );
    }
    Ok(Arc::new(terrains.into_iter().map(Arc::new).collect()))
}

fn usual_folder() -> anyhow::Result<PathBuf> {
    let beside_binary = std::env::current_exe().ok().and_then(|exe| {
        let prefix = exe.parent()?.parent()?;
        Some(prefix.join("share/wildmesh").join(FOLDER))
    });
    let candidates: Vec<PathBuf> = std::iter::once(PathBuf::from(FOLDER)).chain(beside_binary).collect();
    match candidates.iter().find(|c| c.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => bail!(
            "no folder of islands at {}: run from the repository, or name one by --islands",
            candidates.iter().map(|c| c.display().to_string()).collect::<Vec<_>>().join(" or ")
        ),
    }
}
