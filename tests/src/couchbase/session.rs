//! One connection to a node's data service: bootstrap first, then documents.
//!
//! Requests are answered in their order, but for those that a fault delays.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::faults::Fault;
use super::sasl::Scram;
use super::wire::{Reply, Request, op, read_request, status};
use super::{Shared, operations};

/// Replies that wait to be written, at most.
const REPLIES: usize = 1_024;

/// The features of HELLO that are granted: those that change nothing here, and those that are spoken.
const FEATURES: [u16; 9] = [
    0x06, // extended attributes (none are ever there)
    0x07, // errors may hold a JSON body
    0x08, // a bucket is selected
    0x0b, // JSON is marked as such
    0x0e, // replies may come in another order
    FEATURE_FRAMES,
    FEATURE_DURABILITY,
    FEATURE_COLLECTIONS,
    FEATURE_PRESERVE_EXPIRY,
];

/// Requests with framing extras.
pub(super) const FEATURE_FRAMES: u16 = 0x10;
/// Durable writes.
pub(super) const FEATURE_DURABILITY: u16 = 0x11;
/// Keys begin with the number of their collection.
pub(super) const FEATURE_COLLECTIONS: u16 = 0x12;
/// Writes that leave the expiry as it is.
pub(super) const FEATURE_PRESERVE_EXPIRY: u16 = 0x14;

const SCRAM: &str = "SCRAM-SHA512";
const PLAIN: &str = "PLAIN";

/// What is known of the client.
pub(super) struct Session {
    pub(super) node: usize,
    tls: bool,
    pub(super) features: BTreeSet<u16>,
    scram: Option<Scram>,
    known: bool,
    pub(super) bucket: Option<String>,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    shared: Arc<Shared>,
    node: usize,
    tls: bool,
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
) -> io::Result<()> {
    let (from, mut to) = tokio::io::split(stream);
    let mut from = BufReader::new(from);
    let (replies, mut waiting) = mpsc::channel::<Bytes>(REPLIES);
    let mut session = Session { node, tls, features: BTreeSet::new(), scram: None, known: false, bucket: None };
    loop {
        tokio::select! {
            request = read_request(&mut from) => {
                let Some(request) = request? else { return Ok(()) };
                if !answer(&shared, &mut session, request, &replies).await {
                    return Ok(());
                }
            }
            Some(first) = waiting.recv() => {
                to.write_all(&first).await?;
                while let Ok(next) = waiting.try_recv() {
                    to.write_all(&next).await?;
                }
                to.flush().await?;
            }
        }
    }
}

/// Answers one request; false closes the connection.
async fn answer(shared: &Arc<Shared>, session: &mut Session, request: Request, replies: &mpsc::Sender<Bytes>) -> bool {
    let fault = shared.faults.pick(&request);
    match fault {
        Some(Fault::CloseBefore) => return false,
        Some(Fault::SwallowRequest) => return true,
        Some(Fault::Refuse(status)) => {
            let _ = replies.try_send(Reply::status(status).encode(&request));
            return true;
        }
        Some(Fault::Delay(time)) => {
            let (shared, place, replies) = (shared.clone(), session.place(), replies.clone());
            shared.cluster().delayed += 1;
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                let reply = operations::document(&shared, &place, &request);
                shared.cluster().delayed -= 1;
                let _ = replies.send(reply.encode(&request)).await;
            });
            return true;
        }
        _ => {}
    }
    let mut reply = session.reply(shared, &request);
    match fault {
        Some(Fault::CloseAfter) => return false,
        Some(Fault::SwallowReply) => return true,
        Some(Fault::Misreport(status)) => reply = Reply::status(status),
        _ => {}
    }
    // The queue is longer than what the SDK has under way; if it were full, the client would see a swallowed reply.
    let _ = replies.try_send(reply.encode(&request));
    true
}

impl Session {
    /// A session as far as documents need it.
    fn place(&self) -> Session {
        Session {
            node: self.node,
            tls: self.tls,
            features: self.features.clone(),
            scram: None,
            known: self.known,
            bucket: self.bucket.clone(),
        }
    }

    fn reply(&mut self, shared: &Shared, request: &Request) -> Reply {
        match request.opcode {
            op::HELLO => self.hello(request),
            op::ERROR_MAP => Reply::value(r#"{"version":2,"revision":1,"errors":{}}"#),
            op::SASL_LIST => Reply::value(if self.tls { format!("{SCRAM} {PLAIN}") } else { SCRAM.to_owned() }),
            op::SASL_AUTH => self.log_in(shared, request),
            op::SASL_STEP => self.prove(shared, request),
            op::NOOP => Reply::default(),
            _ if !self.known => Reply::status(status::ACCESS),
            op::SELECT_BUCKET => self.select(shared, request),
            op::CLUSTER_CONFIG => Reply::value(shared.cluster().config(self.node, self.bucket.as_deref()).to_string()),
            _ if self.bucket.is_none() => Reply::status(status::NO_BUCKET),
            op::COLLECTION_ID => operations::collection_id(shared, self, request),
            _ => operations::document(shared, self, request),
        }
    }

    fn hello(&mut self, request: &Request) -> Reply {
        let asked = request.value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let granted: Vec<u16> = asked.filter(|feature| FEATURES.contains(feature)).collect();
        self.features = granted.iter().copied().collect();
        Reply::value(granted.into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>())
    }

    fn log_in(&mut self, shared: &Shared, request: &Request) -> Reply {
        match std::str::from_utf8(&request.key) {
            Ok(PLAIN) if self.tls && shared.credentials.plain(&request.value) => self.let_in(shared, PLAIN),
            Ok(SCRAM) => match shared.credentials.first(&request.value) {
                Some((scram, message)) => {
                    self.scram = Some(scram);
                    Reply { status: status::AUTH_CONTINUE, ..Reply::value(message) }
                }
                None => Reply::status(status::AUTH_ERROR),
            },
            _ => Reply::status(status::AUTH_ERROR),
        }
    }

    fn prove(&mut self, shared: &Shared, request: &Request) -> Reply {
        let scram = self.scram.take();
        match scram.and_then(|scram| shared.credentials.last(&scram, &request.value)) {
            Some(message) => Reply { value: message.into(), ..self.let_in(shared, SCRAM) },
            None => Reply::status(status::AUTH_ERROR),
        }
    }

    fn let_in(&mut self, shared: &Shared, by: &str) -> Reply {
        self.known = true;
        shared.cluster().logins.insert(by.to_owned());
        Reply::default()
    }

    fn select(&mut self, shared: &Shared, request: &Request) -> Reply {
        let name = String::from_utf8_lossy(&request.key).into_owned();
        if !shared.cluster().buckets.contains_key(&name) {
            return Reply::status(status::NOT_FOUND);
        }
        self.bucket = Some(name);
        Reply::default()
    }
}
