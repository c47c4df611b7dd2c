//! The HTTP server under the router: connections, bounded in number and in patience, and their graceful end.
//!
//! Every connection has a time to send its request head (a slow one holds nothing else up), and there are only so many:
//! further ones wait in the kernel. When the gateway is shut down no new ones are taken and the requests under way finish.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh::tasks::Tasks;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections open at once, at most.
pub const CONNECTIONS: u32 = 8_192;

/// How long a connection may take to send a request's head, or stay idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest request head, in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// How long accepting pauses after it failed (most often because no file descriptors are left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address a request came from, as the connection tells it.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// The open connections of one listener.
#[derive(Debug)]
pub struct Server {
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Takes connections on `listener` and serves them by `app`, until the node stops or [`Server::shut_down`].
    pub fn start(listener: TcpListener, app: Router, open: IntGauge, tasks: &Tasks) -> Server {
        let server = Server { places: Arc::new(Semaphore::new(CONNECTIONS as usize)), stop: watch::Sender::new(false) };
        let acceptor =
            Acceptor { app, open, places: server.places.clone(), tasks: tasks.clone(), stop: server.stop.subscribe() };
        tasks.spawn(acceptor.run(listener));
        server
    }

    /// Takes no new connections, lets the requests under way finish for at most `patience`. True if all did.
    pub async fn shut_down(&self, patience: Duration) -> bool {
        self.stop.send_replace(true);
        tokio::time::timeout(patience, self.places.acquire_many(CONNECTIONS)).await.is_ok()
    }
}

struct Acceptor {
    app: Router,
    open: IntGauge,
    places: Arc<Semaphore>,
    tasks: Tasks,
    stop: watch::Receiver<bool>,
}

/// What a connection holds while it lives.
struct Held {
    _place: OwnedSemaphorePermit,
    open: IntGauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut stop = self.stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((held, stream, address)) => {
                    let connection = serve(stream, address, self.app.clone(), self.stop.clone());
                    self.tasks.spawn(async move {
                        let _held = held;
                        connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting an HTTP connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self, listener: &TcpListener) -> std::io::Result<(Held, TcpStream, SocketAddr)> {
        let place = self.places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
        let (stream, address) = listener.accept().await?;
        self.open.inc();
        Ok((Held { _place: place, open: self.open.clone() }, stream, address))
    }
}

async fn serve(stream: TcpStream, address: SocketAddr, app: Router, mut stop: watch::Receiver<bool>) {
    // Small answers and map frames must not wait for each other; a socket that cannot do it works all the same.
    let _ = stream.set_nodelay(true);
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(address.ip()));
        app.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, error = super::error::chain(&error), "an HTTP connection ended badly");
    }
}

/// Waits until the switch is on.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever holds the switch is gone, which is as good. What is borrowed must not be held across an await.
    let _ = stop.wait_for(|stop| *stop).await;
}
