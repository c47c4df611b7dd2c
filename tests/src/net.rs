//! A network of test hosts on this machine: one network namespace per host, joined by a bridge, cut by nftables.
//!
//! Needs root (or sudo rights of the test's user), `ip` and `nft`. Everything is inside namespaces named after the test's
//! process id and goes when the value is dropped. NEVER touches the machine's own network.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A network of hosts.
pub struct Net {
    prefix: String,
    hosts: Vec<Host>,
}

/// One host of it.
#[derive(Clone, Debug)]
pub struct Host {
    /// The namespace.
    pub namespace: String,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Net {
    /// Makes the bridge and the hosts.
    ///
    /// # Panics
    /// If namespaces cannot be made, saying what is missing.
    pub fn new(hosts: usize) -> Net {
        let number = NETWORKS.fetch_add(1, Ordering::SeqCst);
        let prefix = format!("wm{}x{number}", std::process::id());
        let mut net = Net { prefix: prefix.clone(), hosts: Vec::new() };
        let hub = format!("{prefix}hub");
        run(&["ip", "netns", "add", &hub]);
        run(&["ip", "-n", &hub, "link", "add", "br0", "type", "bridge"]);
        run(&["ip", "-n", &hub, "link", "set", "br0", "up"]);
        for i in 0..hosts {
            net.add_host(&hub, i);
        }
        net
    }

    fn add_host(&mut self, hub: &str, i: usize) {
        let namespace = format!("{}n{i}", self.prefix);
        let address = Ipv4Addr::new(10, 99, 0, 1 + i as u8);
        let port = format!("p{i}");
        self.hosts.push(Host { namespace: namespace.clone(), address });
        run(&["ip", "netns", "add", &namespace]);
        run(&["ip", "-n", hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        run(&["ip", "-n", hub, "link", "set", &port, "master", "br0", "up"]);
        run(&["ip", "-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        run(&["ip", "-n", &namespace, "link", "set", "eth0", "up"]);
        run(&["ip", "-n", &namespace, "link", "set", "lo", "up"]);
        let nft = ["ip", "netns", "exec", &namespace, "nft"];
        run(&[&nft[..], &["add", "table", "ip", "wm"]].concat());
        run(&[&nft[..], &["add chain ip wm in { type filter hook input priority 0 ; }"]].concat());
    }

    /// A host.
    pub fn host(&self, i: usize) -> &Host {
        &self.hosts[i]
    }

    /// From now on nothing that `from` sends arrives at `to`. The way back stays open.
    pub fn cut(&self, from: usize, to: usize) {
        let (from, to) = (&self.hosts[from], &self.hosts[to]);
        let rule = format!("add rule ip wm in ip saddr {} drop", from.address);
        run(&["ip", "netns", "exec", &to.namespace, "nft", &rule]);
    }

    /// Ends the cut of what arrives at `to` from `from`.
    pub fn heal_from(&self, from: usize, to: usize) {
        let (from, to) = (&self.hosts[from], &self.hosts[to]);
        let nft = ["ip", "netns", "exec", &to.namespace, "nft"];
        let list = Command::new(nft[0]).args(&nft[1..]).args(["-a", "list", "chain", "ip", "wm", "in"]).output();
        let list = list.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let wanted = format!("ip saddr {} drop # handle ", from.address);
        for handle in list.lines().filter_map(|line| line.trim().strip_prefix(&wanted)) {
            run(&[&nft[..], &["delete", "rule", "ip", "wm", "in", "handle", handle.trim()]].concat());
        }
    }

    /// Ends all cuts of what arrives at `to`.
    pub fn heal(&self, to: usize) {
        run(&["ip", "netns", "exec", &self.hosts[to].namespace, "nft", "flush chain ip wm in"]);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let hub = format!("{}hub", self.prefix);
        for namespace in self.hosts.iter().map(|h| h.namespace.as_str()).chain([hub.as_str()]) {
            // What is gone already is as good.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("could not run {}: {e}; scripts/setup installs it", words[0]));
    assert!(
        output.status.success(),
        "{} failed: {} (network namespaces need root)",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
