//! Health and metrics over HTTP for nodes that serve no other HTTP: `--ops ADDR`.
//!
//! For orchestrators and Prometheus, on the private network. `/health`: the process is alive, or draining. `/ready`: the node is
//! in the directory, acts, and is not being emptied. `/metrics`: Prometheus' text format.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use mesh::Mesh;
use mesh::tasks::Tasks;
use tokio::net::TcpListener;

use crate::draining::Draining;
use crate::metrics::{Exposition, TEXT_TYPE};

/// Serves until the node stops.
pub async fn serve(
    address: SocketAddr,
    mesh: Mesh,
    draining: Draining,
    exposition: Exposition,
    tasks: &Tasks,
) -> Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("could not serve health and metrics at {address}"))?;
    let leaves = draining.clone();
    let health = move || {
        let said = if leaves.has_begun() { "draining\n" } else { "alive\n" };
        async move { said }
    };
    let ready = move || {
        let (registered, draining) = (mesh.view().registered, draining.has_begun());
        async move {
            match (registered, draining) {
                (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
                (true, false) => (StatusCode::OK, "ready\n"),
                (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not surely in the directory\n"),
            }
        }
    };
    let metrics = move || {
        let text = exposition.text();
        async move { ([(header::CONTENT_TYPE, TEXT_TYPE)], text) }
    };
    let app = Router::new().route("/health", get(health)).route("/ready", get(ready)).route("/metrics", get(metrics));
    tasks.spawn(async move {
        if let Err(e) = axum::serve(listener, app).await {
            tracing::error!(error = %e, "health and metrics are served no longer");
        }
    });
    Ok(())
}
