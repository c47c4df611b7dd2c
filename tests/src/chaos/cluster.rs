//! The cluster under chaos: real nodes, three members of etcd, one folder of documents, and a namespace for each process.
//!
//! Every node has its host in a [`Net`]; the last host is outside, where the bots live. Starting and killing is by process id.
//! What a node needs to come back under its name it finds as it left it. NEVER reaches beyond its own namespaces and folder.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::plan::{self, LEASE_S};
use super::run::Stop;
use crate::net::Net;
use crate::processes::{KEY, Process, Running, binary, islands};

/// Members of the directory.
pub const MEMBERS: usize = 3;
/// How long the mesh may take to be whole on a busy machine.
const WHOLE: Duration = Duration::from_secs(90);
/// The files that stand before the store's writers, in the order in which they pass (see the embedded store's turnstile).
const LOCKS: [&str; 2] = ["turn.lock", "gate.lock"];

/// The cluster.
pub struct Cluster {
    /// The network: members first, then nodes, then outside.
    pub net: Net,
    /// The members of etcd, by number.
    pub members: Vec<Option<Process>>,
    /// The nodes, by number.
    pub nodes: Vec<Option<Process>>,
    names: Vec<String>,
    folder: PathBuf,
    verbose: String,
    /// What nodes are started with.
    program: PathBuf,
}

/// Keeps the store's writers waiting until it is dropped.
pub struct Stall {
    _locks: [File; 2],
}

impl Cluster {
    /// Starts everything and waits until it is whole. Logs and data go to the folder. Nodes start with the program `first`, and
    /// come back with the one under test, which is also the first where none is named.
    pub fn start(folder: &Path, first: Option<&Path>, verbose: &str, stop: &Stop) -> Result<Cluster> {
        std::fs::create_dir_all(folder.join("store")).context("a folder for documents")?;
        let names = plan::names();
        let mut cluster = Cluster {
            net: Net::new(MEMBERS + names.len() + 1),
            members: (0..MEMBERS).map(|_| None).collect(),
            nodes: names.iter().map(|_| None).collect(),
            names,
            folder: folder.to_owned(),
            verbose: verbose.to_owned(),
            program: first.map_or_else(binary, Path::to_owned),
        };
        for member in 0..MEMBERS {
            cluster.start_member(member);
        }
        for node in 0..cluster.nodes.len() {
            cluster.start_node(node);
        }
        cluster.until_whole(stop)?;
        cluster.program = binary();
        Ok(cluster)
    }

    /// The host of a member.
    pub fn member_host(&self, member: usize) -> usize {
        member
    }

    /// The host of a node.
    pub fn node_host(&self, node: usize) -> usize {
        MEMBERS + node
    }

    fn outside(&self) -> usize {
        MEMBERS + self.nodes.len()
    }

    /// What a node is called.
    pub fn name(&self, node: usize) -> &str {
        &self.names[node]
    }

    /// Starts a member of etcd, with the data of its former life.
    pub fn start_member(&mut self, member: usize) {
        let url = |host: usize, port: u16| format!("http://{}:{port}", self.net.host(host).address);
        let (client, peer) = (url(member, 2379), url(member, 2380));
        let all: Vec<String> = (0..MEMBERS).map(|m| format!("e{m}={}", url(m, 2380))).collect();
        let (name, all) = (format!("e{member}"), all.join(","));
        let data = self.folder.join(format!("etcd-{member}"));
        let words = [
            "etcd",
            "--name",
            &name,
            "--data-dir",
            &data.display().to_string(),
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &all,
        ];
        let process = Process::start(self.net.host(member), &format!("etcd-{member}"), &self.folder, &words);
        self.members[member] = Some(process);
    }

    fn etcd_urls(&self) -> String {
        let urls: Vec<String> =
            (0..MEMBERS).map(|member| format!("http://{}:2379", self.net.host(member).address)).collect();
        urls.join(",")
    }

    /// Starts a node under its name.
    pub fn start_node(&mut self, node: usize) {
        let host = self.net.host(self.node_host(node)).clone();
        let (role, name, address) = (plan::role(node), self.names[node].clone(), host.address.to_string());
        let (etcd, lease) = (self.etcd_urls(), LEASE_S.to_string());
        let (store, program) = (self.store(), self.program.display().to_string());
        let listen = format!("{address}:{}", if role == "gateway" { 8080 } else { 7400 });
        let rust_log = format!("RUST_LOG={}", self.verbose);
        let mut words = vec!["env", &rust_log, &program, "node", "--role", role, "--name", &name, "--etcd", &etcd];
        words.extend(["--store", &store, "--bind", &address, "--islands", islands(), "--key", KEY, "--lease", &lease]);
        if matches!(role, "gateway" | "frontend") {
            words.extend(["--listen", &listen]);
        }
        self.nodes[node] = Some(Process::start(&host, &name, &self.folder, &words));
    }

    /// Where documents lie.
    pub fn store(&self) -> String {
        format!("embedded:{}", self.folder.join("store").display())
    }

    /// The gateways' addresses, separated by commas.
    pub fn gateways(&self) -> String {
        let urls = plan::of_role("gateway").into_iter().map(|node| self.gateway(node));
        urls.collect::<Vec<_>>().join(",")
    }

    fn gateway(&self, node: usize) -> String {
        format!("http://{}:8080", self.net.host(self.node_host(node)).address)
    }

    /// Kills a node and waits until it is dead.
    pub fn kill_node(&mut self, node: usize) {
        if let Some(process) = self.nodes[node].take() {
            end(&process);
        }
    }

    /// Kills the member that leads, if anybody knows which; its number.
    pub fn kill_leader(&mut self) -> Option<usize> {
        let leader = self.leader()?;
        end(&self.members[leader].take()?);
        Some(leader)
    }

    fn leader(&self) -> Option<usize> {
        let words = ["etcdctl", "--endpoints", &self.etcd_urls(), "endpoint", "status", "-w", "json"];
        let output = self.outside_words(&words).env("ETCDCTL_API", "3").stderr(Stdio::null()).output().ok()?;
        let rows: Value = serde_json::from_slice(&output.stdout).ok()?;
        let leads = |row: &&Value| row["Status"]["header"]["member_id"] == row["Status"]["leader"];
        let leader = rows.as_array()?.iter().find(leads)?["Endpoint"].as_str()?.to_owned();
        (0..MEMBERS).find(|member| leader.contains(&format!("//{}:", self.net.host(*member).address)))
    }

    /// Has all writers of the store wait.
    pub fn stall(&self) -> Result<Stall> {
        let lock = |name: &str| -> Result<File> {
            let path = self.folder.join("store").join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            let file = file.with_context(|| format!("{} is not there", path.display()))?;
            file.lock().context("a lock of the store")?;
            Ok(file)
        };
        Ok(Stall { _locks: [lock(LOCKS[0])?, lock(LOCKS[1])?] })
    }

    /// `wildmesh` with these words, on the host outside, in a process group of its own.
    pub fn outside_command(&self, words: &[&str]) -> Command {
        let program = binary().display().to_string();
        self.outside_words(&[&[program.as_str()], words].concat())
    }

    fn outside_words(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.net.host(self.outside()).namespace]).args(words);
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Sends bots; their report goes to `bots.json`, their progress to `bots.log`.
    pub fn start_bots(&self, words: &[&str]) -> Result<Running> {
        let log = |name: &str| File::create(self.folder.join(name)).context("a file for the bots");
        let mut command = self.outside_command(words);
        Ok(Running(command.stdout(log("bots.json")?).stderr(log("bots.log")?).spawn().context("bots")?))
    }

    /// The mesh as a gateway sees it, whichever answers.
    pub fn status(&self) -> Option<Value> {
        plan::of_role("gateway").into_iter().filter(|node| self.nodes[*node].is_some()).find_map(|node| {
            let output = self.outside_command(&["status", "--json", "--gateway", &self.gateway(node)]).output().ok()?;
            serde_json::from_slice(&output.stdout).ok()
        })
    }

    /// True if every node that runs is there and hears every other.
    pub fn is_whole(&self) -> bool {
        let expected = self.nodes.iter().flatten().count();
        let status = self.status();
        let nodes = status.as_ref().and_then(|status| status["nodes"].as_array()).map(Vec::len);
        nodes == Some(expected) && status.is_some_and(|status| status["whole"] == true)
    }

    /// The node of a role that has the most players, as a gateway sees it; `None` if none has any.
    pub fn busiest(&self, role: &str) -> Option<usize> {
        let status = self.status()?;
        let players = |node: &usize| {
            let rows = status["nodes"].as_array().into_iter().flatten();
            let own = rows.filter(|row| row["node"].as_str() == Some(self.name(*node)));
            own.filter_map(|row| row["load"]["players"].as_u64()).sum::<u64>()
        };
        plan::of_role(role).into_iter().filter(|node| players(node) > 0).max_by_key(|node| players(node))
    }

    /// Waits until every node is there and hears every other.
    pub fn until_whole(&self, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + WHOLE;
        while !self.is_whole() {
            if Instant::now() > deadline {
                let status = self.status().unwrap_or_default();
                bail!("the mesh is not whole after {} s: {}", WHOLE.as_secs(), status["disagreements"]);
            }
            stop.sleep(Duration::from_millis(250))?;
        }
        Ok(())
    }

    /// What a process of this name has logged so far.
    pub fn log_of(&self, name: &str) -> String {
        let bytes = std::fs::read(self.folder.join(format!("{name}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Where logs and data are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What is frozen or waits cannot end by itself; SIGKILL ends it all the same.
        self.nodes.clear();
        self.members.clear();
    }
}

fn end(process: &Process) {
    process.signal("KILL");
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}
