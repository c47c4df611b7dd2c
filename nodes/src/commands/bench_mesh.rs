//! `wildmesh bench mesh`.
use anyhow::Result;
/// Runs the command.
pub async fn run(_: crate::cli::BenchMesh) -> Result<()> { Ok(()) }
