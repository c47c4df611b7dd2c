//! Real processes of Wildmesh and etcd on the hosts of a [`Net`]: started, killed by their process id, asked over REST.
//!
//! Every process is started under a shell that kills it when the test's end of a pipe closes, so that none outlives the
//! test, however that ends.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::net::{Host, Net};

/// How long to look for a moment between two writes.
const FREEZES_WITHIN: Duration = Duration::from_secs(20);

/// Runs a program until the pipe to its standard input closes. Tells the program's pid first, on standard error.
const KEEPER: &str =
    r#""$@" >>"$WM_LOG" 2>&1 </dev/null & pid=$!; echo $pid >&2; read -r _; kill -9 $pid 2>/dev/null; wait"#;

/// The clusters' secret.
pub const KEY: &str = "a key for tests";

/// How long a state may take to come about on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process on a host.
pub struct Process {
    /// What it is called in logs.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    shell: Child,
}

impl Process {
    /// Starts a program on a host; its output goes to `{folder}/{name}.log`.
    pub fn start(host: &Host, name: &str, folder: &Path, program: &[&str]) -> Process {
        let pid_file = folder.join(format!("{name}.pid"));
        let pids = File::create(&pid_file).expect("a file for the process id");
        let mut shell = Command::new("ip")
            .args(["netns", "exec", &host.namespace, "sh", "-c", KEEPER, "sh"])
            .args(program)
            .env("WM_LOG", folder.join(format!("{name}.log")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(pids)
            // Ctrl-C is for the test, which ends its processes in order.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("could not start {name}: {e}"));
        let pid = wait_for(&format!("the process id of {name}"), || {
            assert!(shell.try_wait().expect("the shell's state").is_none(), "{name} ended at once");
            std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
        });
        Process { name: name.to_owned(), pid, shell }
    }

    /// SIGKILL, SIGSTOP, SIGCONT or SIGTERM, by name.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args(["-s", signal, &self.pid.to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "could not send {signal} to {}", self.name);
    }

    /// Stops it (SIGSTOP) at a moment at which it holds no lock of the embedded store in this folder: else all other writers of the
    /// folder would wait for it, which is the store's bound and not what a freeze is to show. `None` if that did not come about.
    pub fn freeze(&self, store: &Path) -> Option<()> {
        let deadline = Instant::now() + FREEZES_WITHIN;
        while Instant::now() < deadline {
            self.signal("STOP");
            wait_for(&format!("{} to stand still", self.name), || self.stands_still().then_some(()));
            if !self.holds_locks(store) {
                return Some(());
            }
            self.signal("CONT");
            std::thread::sleep(Duration::from_millis(3));
        }
        None
    }

    fn stands_still(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        stats.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    }

    /// Whether the kernel says that it has a file of this folder locked alone.
    fn holds_locks(&self, folder: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let inodes: Vec<u64> = files.filter_map(|file| file.metadata().ok()).map(|file| file.ino()).collect();
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        // `1: FLOCK  ADVISORY  WRITE 1199 fe:00:5890866 0 EOF`; whoever waits has an arrow behind its number.
        locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else { return false };
            let inode = file.rsplit(':').next().and_then(|inode| inode.parse().ok());
            pid.parse() == Ok(self.pid) && inode.is_some_and(|inode: u64| inodes.contains(&inode))
        })
    }

    /// True while it runs.
    pub fn alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }

    /// Its resident memory, in MiB.
    pub fn memory_mib(&self) -> f64 {
        self.status_mib("VmRSS:").expect("its resident memory")
    }

    /// Its resident memory without what is mapped from files, in MiB; `None` if it is gone.
    pub fn own_memory_mib(&self) -> Option<f64> {
        self.status_mib("RssAnon:")
    }

    fn status_mib(&self, field: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the process's descriptors").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A process that is dead at the latest when the test ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A new folder that goes with the test.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wildmesh-").tempdir().expect("a folder")
}

/// What this file of a folder is called, whether or not it is there.
pub fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("a printable path").to_owned()
}

/// A cluster of real processes: etcd on host 0, a gateway on host 1, other nodes behind.
pub struct RealCluster {
    /// The network.
    pub net: Net,
    /// etcd.
    pub etcd: Option<Process>,
    /// The nodes, by host.
    pub nodes: Vec<Option<Process>>,
    roles: Vec<&'static str>,
    more: Vec<&'static str>,
    folder: PathBuf,
}

impl RealCluster {
    /// Starts etcd and a node for each role; the first MUST be the gateway.
    pub fn start(name: &str, roles: &[&'static str]) -> RealCluster {
        RealCluster::start_with(name, roles, &[])
    }

    /// The same, with more words on every node's command line.
    pub fn start_with(name: &str, roles: &[&'static str], more: &[&'static str]) -> RealCluster {
        let folder = std::env::temp_dir().join(format!("wildmesh-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for logs and data");
        let mut cluster = RealCluster {
            net: Net::new(roles.len() + 2),
            etcd: None,
            nodes: roles.iter().map(|_| None).collect(),
            roles: roles.to_vec(),
            more: more.to_vec(),
            folder,
        };
        cluster.start_etcd();
        for i in 0..roles.len() {
            cluster.start_node(i);
        }
        cluster.until_whole();
        cluster
    }

    /// Starts etcd, with the data of its former life.
    pub fn start_etcd(&mut self) {
        let host = self.net.host(0);
        let client = self.etcd_url();
        let peer = format!("http://{}:2380", host.address);
        let data = self.folder.join("etcd");
        let data = data.to_str().expect("a printable path");
        let initial = format!("e={peer}");
        let words = [
            "etcd",
            "--name",
            "e",
            "--data-dir",
            data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &initial,
        ];
        self.etcd = Some(Process::start(host, "etcd", &self.folder, &words));
    }

    /// Starts the node of this number.
    pub fn start_node(&mut self, i: usize) {
        let (role, host) = (self.roles[i], self.net.host(i + 1).clone());
        let name = format!("{role}-{i}");
        self.nodes[i] =
            Some(self.spawn(&host, role, &name, &name, "store", &[&["--key", KEY][..], &self.more].concat()));
    }

    /// Starts a node that is not one of the cluster's, with the same etcd but documents of its own. It logs as `other-`
    /// and its name.
    pub fn start_other(&self, host: &Host, role: &str, name: &str, more: &[&str]) -> Process {
        self.spawn(host, role, name, &format!("other-{name}"), "other-store", more)
    }

    fn spawn(&self, host: &Host, role: &str, name: &str, log: &str, store: &str, more: &[&str]) -> Process {
        let address = host.address.to_string();
        let (etcd, store) = (self.etcd_url(), format!("embedded:{}", self.folder.join(store).display()));
        let listen = format!("{address}:{}", if role == "gateway" { 8080 } else { 7400 });
        let binary = binary();
        let islands = islands();
        let mut words = vec![
            binary.to_str().expect("a printable path"),
            "node",
            "--role",
            role,
            "--name",
            name,
            "--etcd",
            &etcd,
            "--store",
            &store,
            "--bind",
            &address,
            "--islands",
            islands,
        ];
        if matches!(role, "gateway" | "frontend") {
            words.extend(["--listen", &listen]);
        }
        words.extend(more);
        Process::start(host, log, &self.folder, &words)
    }

    /// Kills a node with SIGKILL and waits until it is dead.
    pub fn kill_node(&mut self, i: usize) {
        if let Some(node) = self.nodes[i].take() {
            node.signal("KILL");
            wait_for(&format!("the death of {}", node.name), || (!node.alive()).then_some(()));
        }
    }

    /// Tells a node to leave by SIGTERM, waits until its process has ended, and starts it again. How long it took to leave.
    ///
    /// # Panics
    /// If it does not leave in order, or not within [`PATIENCE`].
    pub fn replace_node(&mut self, i: usize) -> Duration {
        let began = Instant::now();
        if let Some(node) = &self.nodes[i] {
            node.signal("TERM");
        }
        self.until_left(i);
        let took = began.elapsed();
        self.start_node(i);
        took
    }

    /// Waits until the process of a node that was told to leave has ended in order, and forgets it.
    ///
    /// # Panics
    /// If it does not, or not within [`PATIENCE`].
    pub fn until_left(&mut self, i: usize) {
        let Some(node) = self.nodes[i].take() else { return };
        wait_for(&format!("{} to leave", node.name), || (!node.alive()).then_some(()));
        let log = self.log_of(&node.name);
        assert!(log.contains("has left"), "{} did not leave in order:\n{log}", node.name);
    }

    /// `wildmesh drain` on the host outside: its exit code and what it printed as its result.
    pub fn drain(&self, node: &str, more: &[&str]) -> (Option<i32>, Value) {
        let etcd = self.etcd_url();
        let output = self.outside_command(&[&["drain", node, "--etcd", &etcd, "--json"][..], more].concat()).output();
        let output = output.expect("wildmesh drain");
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
        (output.status.code(), result)
    }

    /// The gateway's address.
    pub fn gateway(&self) -> String {
        format!("http://{}:8080", self.net.host(1).address)
    }

    fn etcd_url(&self) -> String {
        format!("http://{}:2379", self.net.host(0).address)
    }

    /// The host that is nobody's: where clients come from.
    pub fn outside(&self) -> &Host {
        self.net.host(self.roles.len() + 1)
    }

    /// The mesh as its members see it.
    pub fn status(&self) -> Option<Value> {
        self.status_at(&self.gateway())
    }

    /// The same, asked at any gateway.
    pub fn status_at(&self, gateway: &str) -> Option<Value> {
        let output = self.outside_command(&["status", "--json", "--gateway", gateway]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until every node is there and hears every other.
    pub fn until_whole(&self) {
        let expected = self.nodes.iter().flatten().count();
        let mut last = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status() {
                let nodes = status["nodes"].as_array().map_or(0, Vec::len);
                if status["whole"] == true && nodes == expected {
                    return;
                }
                last = status;
            }
            assert!(
                Instant::now() < deadline,
                "the mesh is not whole: {}\nlogs in {}",
                last["disagreements"],
                self.folder.display()
            );
            pause();
        }
    }

    /// Sends bots from outside and returns their report.
    pub fn bots(&self, players: usize, seconds: u64, more: &[&str]) -> Value {
        self.start_bots(players, seconds, more).report()
    }

    /// Sends bots from outside.
    pub fn start_bots(&self, players: usize, seconds: u64, more: &[&str]) -> Bots {
        let (players, seconds, gateway) = (players.to_string(), seconds.to_string(), self.gateway());
        let words = ["bots", "--json", "--gateway", &gateway, "--players", &players, "--seconds", &seconds];
        let mut command = self.outside_command(&[&words[..], more].concat());
        // Their progress is for people; what a report lacks is said by its fields.
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(self.log_file("bots")).spawn();
        Bots { child: Running(child.expect("bots")), log: self.folder.join("bots.log") }
    }

    fn log_file(&self, name: &str) -> File {
        File::create(self.folder.join(format!("{name}.log"))).expect("a file for logs")
    }

    /// `wildmesh` with these words, on the host outside.
    pub fn outside_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.outside().namespace]).arg(binary()).args(words);
        command
    }

    /// What a process of this name has logged so far.
    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Where the nodes' documents lie, as `--store` wants it.
    pub fn store(&self) -> String {
        format!("embedded:{}", self.folder.join("store").display())
    }

    /// Where logs and data are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for RealCluster {
    fn drop(&mut self) {
        self.nodes.clear();
        self.etcd = None;
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Bots that play.
pub struct Bots {
    child: Running,
    log: PathBuf,
}

impl Bots {
    /// True if their progress so far contains this.
    pub fn said(&self, words: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap_or_default().contains(words)
    }

    /// Ends them in good order; their report.
    pub fn stop(self) -> Value {
        // What has ended already cannot be told to.
        let _ = Command::new("kill").args(["-s", "INT", &self.child.0.id().to_string()]).status();
        self.report()
    }

    /// Waits for their end; their report.
    pub fn report(mut self) -> Value {
        let mut text = String::new();
        let mut stdout = self.child.0.stdout.take().expect("their standard output");
        stdout.read_to_string(&mut text).expect("their report");
        let line = text.lines().last().unwrap_or_default();
        let said = || std::fs::read_to_string(&self.log).unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("no report ({e}): {}", said()))
    }
}

/// The islands of the repository.
pub fn islands() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../islands")
}

/// The binary under test: `WILDMESH_BIN`, or the one that cargo built beside this test.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("WILDMESH_BIN") {
        return named.into();
    }
    let own = std::env::current_exe().expect("the program's own path");
    // A test lies in target/debug/deps, a program in target/debug.
    let folder = own.parent().expect("target/debug or target/debug/deps");
    let folder = if folder.ends_with("deps") { folder.parent().expect("target/debug") } else { folder };
    let beside = folder.join("wildmesh");
    assert!(
        beside.exists(),
        "{} is missing: cargo build -p wildmesh-nodes makes it, scripts/test does all",
        beside.display()
    );
    beside
}

/// Waits until `state` gives something.
///
/// # Panics
/// After [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(reached) = state() {
            return reached;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        pause();
    }
}

/// Between two looks at a state.
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
