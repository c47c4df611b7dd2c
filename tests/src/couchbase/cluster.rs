//! What the test server's nodes have in common: their map, the buckets, the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::Service;
use super::documents::{Bucket, Seen};

/// How many vBuckets a bucket has: Couchbase takes 1,024; fewer show the same.
pub(super) const VBUCKETS: usize = 64;

/// How many writes are remembered for tests to look at.
const SEEN_MAX: usize = 4_096;

/// Where a node listens.
#[derive(Clone, Debug, Default)]
pub(super) struct NodePorts {
    data: u16,
    http: u16,
    data_tls: u16,
    http_tls: u16,
}

impl NodePorts {
    pub(super) fn of(listeners: &[(Service, TcpListener)]) -> Result<NodePorts> {
        let mut ports = NodePorts::default();
        for (service, listener) in listeners {
            let port = listener.local_addr()?.port();
            match service {
                Service::Data { tls: false } => ports.data = port,
                Service::Data { tls: true } => ports.data_tls = port,
                Service::Http { tls: false } => ports.http = port,
                Service::Http { tls: true } => ports.http_tls = port,
            }
        }
        Ok(ports)
    }

    pub(super) fn data(&self, tls: bool) -> u16 {
        if tls { self.data_tls } else { self.data }
    }

    pub(super) fn all(&self) -> Vec<(Service, u16)> {
        let all = [
            (Service::Data { tls: false }, self.data),
            (Service::Http { tls: false }, self.http),
            (Service::Data { tls: true }, self.data_tls),
            (Service::Http { tls: true }, self.http_tls),
        ];
        all.into_iter().filter(|(_, port)| *port != 0).collect()
    }
}

/// The state of all nodes.
pub(super) struct Cluster {
    ports: Vec<NodePorts>,
    tls: bool,
    /// Rises with every change of the map.
    revision: i64,
    /// The node of each vBucket.
    map: Vec<usize>,
    pub(super) buckets: BTreeMap<String, Bucket>,
    next_collection: u32,
    last_cas: u64,
    /// The clock: where it stood, when, and by how much it was moved since.
    started: (Duration, Instant),
    moved: Duration,
    pub(super) seen: Vec<Seen>,
    pub(super) logins: BTreeSet<String>,
    pub(super) misdirected: u64,
    pub(super) connections: u64,
    /// Requests that a fault holds back and that are yet to be applied.
    pub(super) delayed: u64,
    pub(super) durability_impossible: bool,
}

impl Cluster {
    pub(super) fn new(ports: Vec<NodePorts>, tls: bool) -> Cluster {
        // Expiries may be dates, which clients make by their own clocks.
        #[allow(clippy::disallowed_methods)]
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Cluster {
            map: (0..VBUCKETS).map(|vbucket| vbucket % ports.len()).collect(),
            ports,
            tls,
            revision: 1,
            buckets: BTreeMap::new(),
            next_collection: 8,
            // As Couchbase's clocks have it: nanoseconds, so that another life of the server never repeats one.
            last_cas: unix.as_nanos() as u64,
            started: (unix, Instant::now()),
            moved: Duration::ZERO,
            seen: Vec::new(),
            logins: BTreeSet::new(),
            misdirected: 0,
            connections: 0,
            delayed: 0,
            durability_impossible: false,
        }
    }

    pub(super) fn ports(&self) -> &[NodePorts] {
        &self.ports
    }

    /// The present second, counted as Unix does.
    pub(super) fn now(&self) -> u32 {
        (self.started.0 + self.started.1.elapsed() + self.moved).as_secs() as u32
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.moved += time;
    }

    /// A version that no document ever had.
    pub(super) fn next_cas(&mut self) -> u64 {
        self.last_cas += 1;
        self.last_cas
    }

    pub(super) fn see(&mut self, seen: Seen) {
        if self.seen.len() < SEEN_MAX {
            self.seen.push(seen);
        }
    }

    pub(super) fn holds(&self, node: usize, vbucket: u16) -> bool {
        self.map.get(usize::from(vbucket)) == Some(&node)
    }

    pub(super) fn node_of(&self, key: &str) -> usize {
        self.map[usize::from((crc32(key.as_bytes()) >> 16) as u16 & 0x7fff) % VBUCKETS]
    }

    pub(super) fn rebalance(&mut self, from: usize, to: usize) {
        self.map.iter_mut().filter(|node| **node == from).for_each(|node| *node = to);
        self.revision += 1;
    }

    pub(super) fn peek(&mut self, key: &str) -> Option<Vec<u8>> {
        let now = self.now();
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.buckets.values_mut().find_map(|bucket| {
            let ids: Vec<u32> = bucket.scopes.values().flat_map(BTreeMap::values).copied().collect();
            ids.into_iter().find_map(|id| bucket.live(id, &key, now).map(|document| document.value.to_vec()))
        })
    }

    pub(super) fn add_bucket(&mut self, name: &str) -> bool {
        self.revision += 1;
        let there = self.buckets.contains_key(name);
        self.buckets.entry(name.to_owned()).or_insert_with(Bucket::with_default_collection);
        !there
    }

    /// Makes scope, collection and index, whichever is missing.
    pub(super) fn add_collection(&mut self, bucket: &str, scope: &str, collection: &str) {
        self.make_scope(bucket, scope);
        self.make_collection(bucket, scope, collection);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.indexes.insert((scope.to_owned(), collection.to_owned()));
        }
    }

    /// Whether there was no such scope yet.
    pub(super) fn make_scope(&mut self, bucket: &str, scope: &str) -> bool {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return false };
        bucket.manifest += 1;
        let there = bucket.scopes.contains_key(scope);
        bucket.scopes.entry(scope.to_owned()).or_default();
        !there
    }

    /// Whether there was no such collection yet. The scope must be there.
    pub(super) fn make_collection(&mut self, bucket: &str, scope: &str, collection: &str) -> bool {
        self.next_collection += 1;
        let Some(bucket) = self.buckets.get_mut(bucket) else { return false };
        bucket.manifest += 1;
        let Some(scope) = bucket.scopes.get_mut(scope) else { return false };
        let there = scope.contains_key(collection);
        scope.entry(collection.to_owned()).or_insert(self.next_collection);
        !there
    }

    pub(super) fn drop_collection(&mut self, bucket: &str, scope: &str, collection: &str) {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return };
        bucket.manifest += 1;
        if let Some(id) = bucket.scopes.get_mut(scope).and_then(|scope| scope.remove(collection)) {
            bucket.documents.retain(|(of, _), _| *of != id);
        }
    }

    /// The map as clients read it: of a bucket, or of the nodes alone.
    pub(super) fn config(&self, node: usize, bucket: Option<&str>) -> Value {
        let nodes: Vec<Value> = self.ports.iter().enumerate().map(|(at, ports)| self.node(at == node, ports)).collect();
        let mut config = json!({
            "rev": self.revision,
            "revEpoch": 1,
            "nodesExt": nodes,
            "clusterCapabilitiesVer": [1, 0],
            "clusterCapabilities": {},
            "clusterUUID": "wildmesh-test",
            "clusterName": "wildmesh-test",
        });
        if let Some(bucket) = bucket {
            let entry = |key: &str, value: Value| (key.to_owned(), value);
            let of_bucket = [
                entry("name", json!(bucket)),
                entry("uuid", json!("0123456789abcdef")),
                entry("nodeLocator", json!("vbucket")),
                entry("bucketCapabilitiesVer", json!("")),
                entry("bucketCapabilities", json!(["collections", "durableWrite", "xattr", "nodesExt"])),
                entry("nodes", json!(self.ports.iter().map(|ports| self.direct(ports)).collect::<Vec<_>>())),
                entry("vBucketServerMap", self.vbucket_map()),
            ];
            if let Some(config) = config.as_object_mut() {
                config.extend(of_bucket);
            }
        }
        config
    }

    fn node(&self, this: bool, ports: &NodePorts) -> Value {
        let mut services = json!({"kv": ports.data, "mgmt": ports.http, "n1ql": ports.http});
        if self.tls {
            services = json!({
                "kv": ports.data, "mgmt": ports.http, "n1ql": ports.http,
                "kvSSL": ports.data_tls, "mgmtSSL": ports.http_tls, "n1qlSSL": ports.http_tls,
            });
        }
        json!({"services": services, "thisNode": this, "hostname": "127.0.0.1"})
    }

    fn direct(&self, ports: &NodePorts) -> Value {
        json!({"hostname": format!("127.0.0.1:{}", ports.http), "ports": {"direct": ports.data}})
    }

    fn vbucket_map(&self) -> Value {
        let servers: Vec<String> = self.ports.iter().map(|ports| format!("127.0.0.1:{}", ports.data)).collect();
        let map: Vec<[usize; 1]> = self.map.iter().map(|node| [*node]).collect();
        json!({"hashAlgorithm": "CRC", "numReplicas": 0, "serverList": servers, "vBucketMap": map})
    }
}

/// The checksum by which keys are dealt to vBuckets (IEEE 802.3).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
