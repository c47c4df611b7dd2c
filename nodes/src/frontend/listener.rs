//! The front door: accepts sockets, speaks WebSocket with them, and takes each to its session.
//!
//! Nothing a stranger sends costs the world anything before its ticket is good: connections in their first seconds are
//! bounded in number and time, messages in length. A refusal is told in a farewell before the socket closes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::connection::Gate;
use super::players::{FrontInput, Said};
use super::sessions::{Farewell, Sessions};
use super::shard::ClientId;
use super::socket::Socket;
use super::wire::WELCOMED;
use crate::protocol::{ClientMessage, MAX_CLIENT_MESSAGE_BYTES, ServerMessage, codes};

/// Connections that have not yet been let in, at most; further ones wait in the listen backlog.
const STRANGERS: usize = 1_024;

/// How long a connection may take for the WebSocket handshake and its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may say nothing. Clients ping every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// The kernel's send buffer per client, in bytes: what a slow client may lag behind in the kernel.
const SEND_BUFFER: usize = 256 * 1024;

/// The library's read buffer per client, in bytes: clients say little.
const READ_BUFFER: usize = 2 * 1024;

/// Messages of a client that are kept while it waits for its welcome; further ones wait in its socket.
const EARLY: usize = 8;

/// Pause after a failed accept (out of descriptors, most likely), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the address that clients connect to, with a backlog for bursts of joins.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts clients until the node stops.
pub async fn serve(listener: TcpListener, sessions: Sessions) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = strangers.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let sessions = sessions.clone();
                let tasks = sessions.shared.tasks.clone();
                tasks.spawn(async move {
                    if let Some((stream, early, client)) = welcome(stream, permit, &sessions).await {
                        listen(stream, early, client, &sessions).await;
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "could not accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type Stream = WebSocketStream<Socket>;

/// What came from a client before its welcome.
type Early = VecDeque<Result<Message, WsError>>;

/// Handshake and hello. `None` if the connection came to nothing; it has then been told why, where it could be. Whose token
/// is good is no stranger any more, however long its player's owner is waited for: the permit is given back then.
async fn welcome(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    sessions: &Sessions,
) -> Option<(Stream, Early, ClientId)> {
    let metrics = &sessions.shared.metrics;
    // Both only make things better; a socket that refuses them still works.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let socket = Socket::new(stream);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_CLIENT_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_CLIENT_MESSAGE_BYTES))
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0);
    let late = Instant::now() + HELLO_TIMEOUT;
    let shaking = tokio_tungstenite::accept_async_with_config(socket.clone(), Some(config));
    // Who does not speak WebSocket could not understand a farewell.
    let mut stream = match timeout_at(late, shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => {
            metrics.refused(codes::MALFORMED);
            return None;
        }
        Err(_) => {
            metrics.refused(codes::HELLO_LATE);
            return None;
        }
    };
    let hello = timeout_at(late, hello(&mut stream)).await;
    let mut early = Early::new();
    let proven = match hello {
        Ok(Ok((protocol, token, kind))) => sessions.prove(protocol, &token, kind),
        Ok(Err(farewell)) => Err(farewell),
        Err(_) => Err(Farewell::new(codes::HELLO_LATE, format!("no hello within {} s", HELLO_TIMEOUT.as_secs()))),
    };
    let entered = match proven {
        Ok(proven) => {
            drop(permit);
            tokio::select! {
                biased;
                entered = sessions.admit(proven, || socket.hand_over()) => entered,
                // Nobody is left to be told.
                () = hung_up(&mut stream, &mut early) => return None,
            }
        }
        Err(farewell) => Err(farewell),
    };
    match entered {
        Ok(client) => Some((stream, early, client)),
        Err(farewell) => {
            metrics.refused(farewell.code);
            // The sink went to the world with the player that it did not take, if it went at all.
            socket.take_back();
            part(&mut stream, farewell).await;
            None
        }
    }
}

/// Waits until a client that waits for its welcome has gone away; what it says meanwhile is kept.
async fn hung_up(stream: &mut Stream, early: &mut Early) {
    while early.len() < EARLY {
        match stream.next().await {
            None
            | Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed | WsError::Io(_))) => {
                return;
            }
            Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => return,
            Some(Ok(message)) => early.push_back(Ok(message)),
            Some(Err(error)) => {
                early.push_back(Err(error));
                break;
            }
        }
    }
    std::future::pending().await
}

async fn hello(stream: &mut Stream) -> Result<(u32, String, crate::protocol::HelloKind), Farewell> {
    match stream.next().await {
        Some(Ok(Message::Binary(bytes))) => match ClientMessage::decode(&bytes) {
            Ok(ClientMessage::Hello { protocol, token, kind }) => Ok((protocol, token, kind)),
            Ok(_) => Err(Farewell::new(codes::MALFORMED, "the first message must be hello")),
            Err(e) => Err(Farewell::new(codes::MALFORMED, e.to_string())),
        },
        Some(Ok(_)) => Err(Farewell::new(codes::MALFORMED, "messages are binary")),
        Some(Err(WsError::Capacity(e))) => Err(Farewell::new(codes::MALFORMED, e.to_string())),
        Some(Err(e)) => Err(Farewell::new(codes::MALFORMED, format!("not a WebSocket message: {e}"))),
        None => Err(Farewell::new(codes::MALFORMED, "closed before hello")),
    }
}

/// Says farewell on a socket that no shard owns, and closes it.
async fn part(stream: &mut Stream, farewell: Farewell) {
    let words = ServerMessage::Farewell { code: farewell.code.to_owned(), text: farewell.text };
    // The client may be gone already; nobody else is to be told.
    let _ = tokio::time::timeout(HELLO_TIMEOUT, async {
        let _ = stream.send(Message::Binary(words.encode())).await;
        let _ = stream.close(None).await;
    })
    .await;
}

/// Takes what the client says to the world, until its connection ends.
async fn listen(mut stream: Stream, mut early: Early, client: ClientId, sessions: &Sessions) {
    let mesh = &sessions.shared.mesh;
    let mut gate = Gate::new(mesh.now_ms());
    let mut echoed = false;
    loop {
        let next = match early.pop_front() {
            Some(early) => Ok(Some(early)),
            None => tokio::time::timeout(SILENCE, stream.next()).await,
        };
        let said = match next {
            Ok(Some(Ok(Message::Binary(bytes)))) => gate.take(mesh.now_ms(), &bytes),
            Ok(Some(Ok(Message::Text(_)))) => {
                Said::Expelled(codes::MALFORMED, "messages are binary, this one was text".to_owned())
            }
            Ok(Some(Ok(Message::Ping(payload)))) => gate.knock(mesh.now_ms(), payload),
            // Once: whatever else it echoes costs the world nothing.
            Ok(Some(Ok(Message::Pong(payload)))) if !echoed && payload == WELCOMED => {
                echoed = true;
                Said::Echo
            }
            Ok(Some(Ok(Message::Pong(_) | Message::Frame(_)))) => continue,
            Ok(Some(Err(WsError::Capacity(e)))) => Said::Expelled(codes::MALFORMED, e.to_string()),
            // How a connection ends that was simply lost: its player may come back.
            Ok(Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)))) => break,
            Ok(Some(Err(WsError::Protocol(e)))) => Said::Expelled(codes::MALFORMED, e.to_string()),
            // Closed, cut off, or silent for too long: the player lingers.
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => break,
        };
        let last = matches!(said, Said::Expelled(..));
        if let Said::Expelled(code, _) = &said {
            sessions.shared.metrics.refused(code);
        }
        if !sessions.world.role(FrontInput::Said(client, said)).await || last {
            return;
        }
    }
    // False means that the world has ended, and with it the player.
    sessions.world.role(FrontInput::Detach(client)).await;
}
