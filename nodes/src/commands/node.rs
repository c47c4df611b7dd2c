//! `wildmesh node`: one node, found by the others through etcd.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh::tasks::Tasks;
use mesh::{NodeId, Role};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::signals::Signals;
use crate::calendar::Calendar;
use crate::cli;
use crate::frontend::shard::Limits;
use crate::frontend::{Config as FrontendConfig, listener};
use crate::gateway::Config as GatewayConfig;
use crate::islands;
use crate::metrics::Exposition;
use crate::ops;
use crate::steward::WorldRules;
use crate::wiring::drivers;
use crate::wiring::{self, Membership, Node, Setup};

/// The shortest secret that a cluster may have, in bytes.
const KEY_BYTES_MIN: usize = 8;

/// The port on which a gateway serves unless told otherwise.
const GATEWAY_PORT: u16 = 8080;

impl cli::FrontendArgs {
    /// The set-up that the flags describe.
    pub fn config(&self) -> FrontendConfig {
        let limits = Limits { every_ticks: 20 / self.stream_hz, ..Limits::default() };
        FrontendConfig { capacity: self.capacity, shards: self.shards, limits }
    }
}

impl cli::GatewayArgs {
    /// The set-up that the flags describe.
    pub fn config(&self) -> GatewayConfig {
        let (admissions_per_second, queue_most) = (self.admissions_per_second, self.queue_most as usize);
        GatewayConfig { admissions_per_second, queue_most, ..GatewayConfig::default() }
    }
}

impl cli::UnstableArgs {
    /// The rules that the flags describe.
    pub fn rules(&self) -> WorldRules {
        WorldRules {
            players_per_island: self.unstable_players,
            islands_least: self.unstable_least.min(self.unstable_most),
            islands_most: self.unstable_most,
            animals_per_player: self.unstable_animals,
            ..WorldRules::with_life(Duration::from_secs(self.unstable_life))
        }
    }
}

/// Runs the command.
pub async fn run(node: cli::Node) -> Result<()> {
    if node.key.len() < KEY_BYTES_MIN {
        bail!("--key has {} bytes: a cluster's secret needs at least {KEY_BYTES_MIN}", node.key.len());
    }
    let tasks = Tasks::real();
    let mut signals = Signals::new().context("could not wait for signals")?;
    let secret = drivers::secret()?;
    let name = node.name.unwrap_or_else(|| format!("{}-{:02x}{:02x}", node.role, secret[0], secret[1]));
    let id = NodeId::new(&name)?;
    let islands = islands::open(node.islands.as_deref())?;
    let content = super::content::open(node.content.as_deref())?;
    let store = drivers::store(&node.store).await?;
    let directory = drivers::etcd(&node.etcd, &tasks).await?;
    let advertise = node.advertise.unwrap_or_else(|| node.bind.to_string());
    let transport = drivers::zeromq(node.bind, &advertise, wiring::incarnation(&secret), &tasks)?;
    let (door, public) = match node.role {
        Role::Frontend => {
            let address = node.listen.unwrap_or(SocketAddr::new(node.bind, 0));
            let door = listener::bind(address).with_context(|| format!("could not listen at {address}"))?;
            let public =
                format!("ws://{}", SocketAddr::new(public_ip(&advertise, node.bind), door.local_addr()?.port()));
            (Some(door), Some(node.public.unwrap_or(public)))
        }
        Role::Gateway => {
            let address = node.listen.unwrap_or(SocketAddr::new(node.bind, GATEWAY_PORT));
            let door = TcpListener::bind(address).await.with_context(|| format!("could not listen at {address}"))?;
            let public = format!("http://{}", door.local_addr()?);
            println!("Serving at http://{}/", door.local_addr()?);
            (Some(door), Some(node.public.unwrap_or(public)))
        }
        Role::Zoo | Role::Garden | Role::Colosseum => (None, None),
    };
    let exposition = Exposition::new();
    let setup = Setup {
        membership: Membership {
            cluster: node.cluster,
            district: node.district,
            key: node.key.into_bytes(),
            lease_ttl_s: node.lease,
        },
        node: id,
        role: node.role,
        directory,
        transport,
        store,
        islands,
        tasks: tasks.clone(),
        door,
        public,
        frontend: node.frontend.config(),
        gateway: node.gateway.config(),
        exposition: exposition.clone(),
        secret,
        content,
        calendar: Calendar::real(),
        steward: Some(node.unstable.rules()),
    };
    let running = wiring::start(setup).await.with_context(|| format!("could not start {name}"))?;
    if let Some(address) = node.ops {
        ops::serve(address, running.mesh.clone(), running.draining.clone(), exposition, &tasks).await?;
    }
    tracing::info!(node = name, "started");
    let why = tokio::select! {
        () = signals.next() => "a signal".to_owned(),
        reason = running.ordered_to_leave() => reason,
        () = tasks.until_stopped() => bail!("{name} has stopped; the log says why"),
    };
    tracing::info!(node = name, why, "leaving");
    leave(running, Duration::from_secs(node.drain_timeout), signals).await
}

/// Empties the node and leaves. At one more signal it leaves at once, and at the one after that it stops where it stands.
async fn leave(running: Node, patience: Duration, mut signals: Signals) -> Result<()> {
    let name = running.mesh.me().node.clone();
    let (hurry, hurried) = oneshot::channel::<()>();
    let impatience = async {
        signals.next().await;
        // An error means that it is beyond hurrying.
        let _ = hurry.send(());
        signals.next().await;
    };
    let hurried = async {
        // An error means that the process ends.
        let _ = hurried.await;
    };
    tokio::select! {
        () = running.drain(patience, hurried) => {
            tracing::info!(node = %name, "has left");
            Ok(())
        }
        () = impatience => bail!("{name} was stopped before it had left; what it held is free when its lease has run out"),
    }
}

fn public_ip(advertise: &str, bind: std::net::IpAddr) -> std::net::IpAddr {
    advertise.parse().unwrap_or(bind)
}
