//! An etcd of the benchmark's own: one member on loopback, in a folder that goes with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh::directory::etcd::{EtcdConfig, EtcdDirectory};
use mesh::tasks::Tasks;
use tokio::time::{Instant, sleep};

/// How long it may take to answer.
const READY: Duration = Duration::from_secs(30);

/// A running etcd; it ends with this.
pub(super) struct Etcd {
    /// Where clients find it.
    pub(super) endpoint: String,
    child: Child,
    home: PathBuf,
}

impl Etcd {
    /// Starts one, if this machine has etcd.
    pub(super) async fn start() -> Result<Option<Etcd>> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("etcd").is_file()) {
            return Ok(None);
        }
        let home = super::folder("bench-etcd");
        let listeners = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let url = |listener: &TcpListener| Ok::<_, std::io::Error>(format!("http://{}", listener.local_addr()?));
        let (client, peer) = (url(&listeners.0)?, url(&listeners.1)?);
        drop(listeners);
        let child = Command::new("etcd")
            .args(["--name", "bench", "--log-level", "error", "--data-dir"])
            .arg(&home)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("could not start etcd")?;
        let etcd = Etcd { endpoint: client, child, home };
        let (config, began) = (EtcdConfig::new(&etcd.endpoint), Instant::now());
        while EtcdDirectory::connect(&config, &Tasks::real()).await.is_err() {
            if began.elapsed() > READY {
                bail!("etcd does not answer within {} s", READY.as_secs());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(Some(etcd))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Nothing of it is worth keeping, and nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
