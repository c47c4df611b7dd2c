//! A small server that speaks as much of Couchbase as the official SDK asks for when our driver uses it.
//!
//! Several nodes in one process, each with its own ports, over one set of documents: bootstrap and SCRAM or PLAIN log-in,
//! cluster maps, collections, the document operations, durability and expiry as the real one keeps them, and the parts
//! of the management and query services that the driver needs. It can be told to fail in every way that matters
//! ([`Faults`]), its nodes go down and come back, vBuckets move, and its clock can be moved. It lives in tests only and
//! NEVER stands for how fast or how safe Couchbase is: everything lies in one process's memory.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

mod cluster;
mod documents;
mod faults;
mod http;
mod operations;
mod query;
mod sasl;
mod session;
mod tls;
mod wire;

use cluster::{Cluster, NodePorts};
pub use documents::Seen;
pub use faults::{Fault, Faults, Rule, What};
use sasl::Credentials;
use tls::Certificate;

/// How long a node's old port may take to be free again when the node comes back.
const REBIND: Duration = Duration::from_secs(5);

/// How the server is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// Who may log in.
    pub user: String,
    /// With which password.
    pub password: String,
    /// Whether the user may make buckets, scopes, collections and indexes.
    pub may_manage: bool,
    /// Whether to serve TLS as well.
    pub tls: bool,
    /// The bucket that is there from the beginning, if one is.
    pub bucket: Option<String>,
    /// The scope and collection in it that are there from the beginning, with their index.
    pub collection: Option<(String, String)>,
    /// The port of the first node's data service; the others' follow. 0 for any.
    pub port: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            nodes: 1,
            user: "game".to_owned(),
            password: "correct horse".to_owned(),
            may_manage: true,
            tls: false,
            bucket: Some("world".to_owned()),
            collection: Some(("estate".to_owned(), "documents".to_owned())),
            port: 0,
        }
    }
}

/// The running server. Dropping it ends it.
pub struct TestServer {
    shared: Arc<Shared>,
    options: Options,
    nodes: Vec<Mutex<JoinSet<()>>>,
}

/// What all connections share.
struct Shared {
    cluster: Mutex<Cluster>,
    credentials: Credentials,
    may_manage: bool,
    faults: Faults,
    certificate: Option<Certificate>,
}

impl Shared {
    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        // A panic elsewhere fails its test anyway.
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which service a port serves.
#[derive(Clone, Copy)]
enum Service {
    Data { tls: bool },
    Http { tls: bool },
}

impl TestServer {
    /// Starts the server.
    ///
    /// # Errors
    /// If no port is free, or no certificate can be made.
    pub async fn start(options: Options) -> Result<TestServer> {
        let certificate = options.tls.then(Certificate::make).transpose()?;
        let mut listeners = Vec::new();
        let mut ports = Vec::new();
        for node in 0..options.nodes {
            let port = if options.port == 0 { 0 } else { options.port + node as u16 };
            let data = listen(port).await.with_context(|| format!("could not listen on port {port}"))?;
            let mut of_node = vec![(Service::Data { tls: false }, data)];
            of_node.push((Service::Http { tls: false }, listen(0).await?));
            if options.tls {
                of_node.push((Service::Data { tls: true }, listen(0).await?));
                of_node.push((Service::Http { tls: true }, listen(0).await?));
            }
            ports.push(NodePorts::of(&of_node)?);
            listeners.push(of_node);
        }
        let shared = Arc::new(Shared {
            cluster: Mutex::new(Cluster::new(ports, options.tls)),
            credentials: Credentials::new(&options.user, &options.password),
            may_manage: options.may_manage,
            faults: Faults::default(),
            certificate,
        });
        if let Some(bucket) = &options.bucket {
            shared.cluster().add_bucket(bucket);
            if let Some((scope, collection)) = &options.collection {
                shared.cluster().add_collection(bucket, scope, collection);
            }
        }
        let server = TestServer { shared, nodes: (0..options.nodes).map(|_| Mutex::default()).collect(), options };
        for (node, of_node) in listeners.into_iter().enumerate() {
            server.serve(node, of_node);
        }
        Ok(server)
    }

    /// Where it is, as `--store` takes it: with user, password, bucket and, if there is one, collection.
    pub fn address(&self) -> String {
        let password = self.options.password.replace('%', "%25");
        self.address_for(&format!("{}:{password}", self.options.user))
    }

    /// The same for another login.
    pub fn address_for(&self, login: &str) -> String {
        let mut address = format!("{}/{}", self.hosts(login), self.options.bucket.as_deref().unwrap_or("world"));
        if let Some((scope, collection)) = &self.options.collection {
            address = format!("{address}/{scope}/{collection}");
        }
        address
    }

    /// Its hosts, without a bucket.
    pub fn hosts(&self, login: &str) -> String {
        let tls = self.options.tls;
        let scheme = if tls { "couchbases" } else { "couchbase" };
        let hosts: Vec<String> =
            self.shared.cluster().ports().iter().map(|node| format!("127.0.0.1:{}", node.data(tls))).collect();
        format!("{scheme}://{login}@{}", hosts.join(","))
    }

    /// The certificate to trust, in PEM, if TLS is served.
    pub fn certificate(&self) -> Option<&str> {
        self.shared.certificate.as_ref().map(Certificate::pem)
    }

    /// What it is told to fail at.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Moves its clock forward.
    pub fn pass(&self, time: Duration) {
        self.shared.cluster().pass(time);
    }

    /// The writes that arrived since the last call, in the order in which they did.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.cluster().seen)
    }

    /// The mechanisms by which clients have logged in, each once.
    pub fn logins(&self) -> Vec<String> {
        self.shared.cluster().logins.iter().cloned().collect()
    }

    /// How often a request came to a node that does not hold its vBucket.
    pub fn misdirected(&self) -> u64 {
        self.shared.cluster().misdirected
    }

    /// How many connections to data services have been made.
    pub fn connections(&self) -> u64 {
        self.shared.cluster().connections
    }

    /// How many requests a fault holds back that are yet to be applied.
    pub fn delayed(&self) -> u64 {
        self.shared.cluster().delayed
    }

    /// The value of a document as it lies there, past any fault.
    pub fn document(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.cluster().peek(key)
    }

    /// The node that holds a key.
    pub fn node_of(&self, key: &str) -> usize {
        self.shared.cluster().node_of(key)
    }

    /// Ends a node: its connections break and its ports refuse.
    pub async fn stop_node(&self, node: usize) {
        let mut tasks = std::mem::take(&mut *self.tasks(node));
        tasks.shutdown().await;
    }

    /// Lets a node come back on its ports.
    ///
    /// # Errors
    /// If somebody else has taken one of them.
    pub async fn start_node(&self, node: usize) -> Result<()> {
        let ports = self.shared.cluster().ports()[node].all();
        let mut listeners = Vec::new();
        for (service, port) in ports {
            let bound = tokio::time::timeout(REBIND, async {
                loop {
                    match listen(port).await {
                        Ok(listener) => return listener,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            });
            listeners.push((service, bound.await.with_context(|| format!("port {port} stays taken"))?));
        }
        self.serve(node, listeners);
        Ok(())
    }

    /// Moves all vBuckets of one node to another; the former answers "not mine" from now on.
    pub fn rebalance(&self, from: usize, to: usize) {
        self.shared.cluster().rebalance(from, to);
    }

    /// Refuses durable writes from now on, as a cluster does that has too few nodes for the bucket's replicas.
    pub fn refuse_durability(&self, refuse: bool) {
        self.shared.cluster().durability_impossible = refuse;
    }

    /// Removes a collection with all that is in it.
    pub fn drop_collection(&self, bucket: &str, scope: &str, collection: &str) {
        self.shared.cluster().drop_collection(bucket, scope, collection);
    }

    fn tasks(&self, node: usize) -> MutexGuard<'_, JoinSet<()>> {
        self.nodes[node].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, node: usize, listeners: Vec<(Service, TcpListener)>) {
        for (service, listener) in listeners {
            self.tasks(node).spawn(accept(self.shared.clone(), node, service, listener));
        }
    }
}

async fn listen(port: u16) -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?)
}

/// Accepts connections for one port; they end with it.
async fn accept(shared: Arc<Shared>, node: usize, service: Service, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(shared.clone(), node, service, stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(shared: Arc<Shared>, node: usize, service: Service, stream: TcpStream) {
    // Replies are small and waited for.
    let _ = stream.set_nodelay(true);
    let tls = match service {
        Service::Data { tls } | Service::Http { tls } => tls,
    };
    // Connections end as they like; tests look at what arrived.
    match (service, tls.then_some(shared.certificate.as_ref()).flatten()) {
        (Service::Data { .. }, None) => {
            shared.cluster().connections += 1;
            let _ = session::serve(shared.clone(), node, false, stream).await;
        }
        (Service::Http { .. }, None) => {
            let _ = http::serve(shared.clone(), node, stream).await;
        }
        (service, Some(certificate)) => {
            let Ok(stream) = certificate.acceptor().accept(stream).await else { return };
            match service {
                Service::Data { .. } => {
                    shared.cluster().connections += 1;
                    let _ = session::serve(shared.clone(), node, true, stream).await;
                }
                Service::Http { .. } => {
                    let _ = http::serve(shared.clone(), node, stream).await;
                }
            }
        }
    }
}
