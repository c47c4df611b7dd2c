//! A real etcd for tests: started on loopback, on free ports and in a directory of its own, and stopped when dropped.
//!
//! It NEVER outlives the test process, even if that is killed: etcd runs under a shell that ends it when the test's end
//! of a pipe closes. A machine without etcd fails the test and says what to install; nothing is skipped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::directory::etcd::{EtcdConfig, EtcdDirectory};
use crate::tasks::Tasks;

/// How long etcd may take to come up on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Other tests may take a port between our finding it free and etcd's binding it.
const PORT_TRIES: u32 = 5;

/// Runs etcd until the pipe to its standard input closes, whoever closes it and however. Tells etcd's pid first.
const KEEPER: &str = r#""$@" >"$ETCD_LOG" 2>&1 </dev/null & pid=$!; echo $pid; read -r _; kill -9 $pid; wait"#;

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// A running etcd of one member.
pub struct EtcdServer {
    home: PathBuf,
    client_port: u16,
    peer_port: u16,
    running: Option<Running>,
}

struct Running {
    shell: Child,
    pipe: ChildStdin,
    pid: u32,
}

impl EtcdServer {
    /// Starts a new, empty etcd and waits until it answers.
    ///
    /// # Panics
    /// If there is no etcd on this machine, or it does not come up.
    pub async fn start() -> EtcdServer {
        let number = DIRECTORIES.fetch_add(1, Ordering::SeqCst);
        let home = std::env::temp_dir().join(format!("wildmesh-etcd-{}-{number}", std::process::id()));
        for _ in 0..PORT_TRIES {
            let _ = std::fs::remove_dir_all(&home);
            std::fs::create_dir_all(&home).expect("a directory for etcd");
            let (client_port, peer_port) = free_ports();
            let mut server = EtcdServer { home: home.clone(), client_port, peer_port, running: None };
            if server.start_again().await {
                return server;
            }
        }
        panic!("etcd does not start; see {}", home.join("log").display());
    }

    /// One etcd for all tests of a process that ask while somebody holds it; use keys of your own in it.
    pub async fn shared() -> Arc<EtcdServer> {
        static SHARED: tokio::sync::Mutex<Weak<EtcdServer>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(EtcdServer::start().await);
        *shared = Arc::downgrade(&server);
        server
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The process's id, for tests that stop and continue it; none while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// A client of it.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn directory(&self, tasks: &Tasks) -> EtcdDirectory {
        let config = EtcdConfig::new(&self.endpoint());
        EtcdDirectory::connect(&config, tasks).await.expect("the etcd of this test answers")
    }

    /// Forgets all history before now, as etcd's compaction does.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn compact(&self) {
        let mut client = etcd_client::Client::connect([self.endpoint()], None).await.expect("a client");
        let now = client.get("now", None).await.expect("a revision");
        let revision = now.header().map_or(0, etcd_client::ResponseHeader::revision);
        client.compact(revision, None).await.expect("compaction");
    }

    /// Kills it, as with SIGKILL. Its data stays.
    pub fn kill(&mut self) {
        let Some(Running { mut shell, pipe, .. }) = self.running.take() else { return };
        drop(pipe);
        let _ = shell.wait();
    }

    /// Stops it, as with SIGSTOP, until [`EtcdServer::resume`]: connections stand, and nothing answers.
    ///
    /// # Panics
    /// If it is not running, or on a system without `/proc`.
    pub async fn pause(&self) {
        self.signal("STOP");
        while self.state() != Some('T') {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a stopped one go on.
    ///
    /// # Panics
    /// If it is not running.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("a running etcd");
        let sent = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {pid}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal to etcd");
    }

    /// Kills it, and loses all that it knew.
    pub fn lose_data(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(self.home.join("data"));
    }

    /// Starts it on the same ports with the same data; false if it exits or does not come up.
    ///
    /// # Panics
    /// If there is no etcd on this machine.
    pub async fn start_again(&mut self) -> bool {
        self.kill();
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(find_etcd())
            .args(["--name", "test", "--data-dir"])
            .arg(self.home.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("test={peer}"), "--log-level", "warn"])
            .env("ETCD_LOG", self.home.join("log"))
            .envs(cfg!(target_arch = "aarch64").then_some(("ETCD_UNSUPPORTED_ARCH", "arm64")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell to start etcd from");
        let pipe = shell.stdin.take().expect("its input is a pipe");
        let mut first_line = String::new();
        let output = shell.stdout.take().expect("its output is a pipe");
        let _ = BufReader::new(output).read_line(&mut first_line);
        let pid = first_line.trim().parse().expect("the shell tells etcd's pid");
        self.running = Some(Running { shell, pipe, pid });
        self.answers().await
    }

    async fn answers(&mut self) -> bool {
        let tasks = Tasks::real();
        let config = EtcdConfig::new(&self.endpoint());
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline && self.alive() {
            if EtcdDirectory::connect(&config, &tasks).await.is_ok() && self.alive() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        self.kill();
        false
    }

    /// True while etcd's process runs; a zombie that only its shell has yet to collect does not.
    fn alive(&self) -> bool {
        !Path::new("/proc/self/stat").exists() || self.state().is_some_and(|state| state != 'Z')
    }

    /// The state of etcd's process as the kernel names it: the letter after the name in parentheses.
    fn state(&self) -> Option<char> {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        status.rsplit(')').next()?.trim_start().chars().next()
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.home);
        }
    }
}

fn find_etcd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from));
    let found = places.find_map(|place| Some(place.join("etcd")).filter(|file| Path::is_file(file)));
    found.expect("this test needs a real etcd and there is none: apt-get install etcd-server")
}

fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    let (client, peer) = (bind(), bind());
    let port = |listener: &TcpListener| listener.local_addr().expect("a bound port").port();
    (port(&client), port(&peer))
}
