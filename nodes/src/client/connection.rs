//! One WebSocket connection to a frontend, from the hello to its end.
//!
//! Frames are handed out as bytes, because somebody who has seen the same frame on another connection need not decode
//! it again; everything else is decoded. Nothing is buffered beyond the socket's own buffers. `ws://` only: TLS is the
//! business of whatever stands in front. The connection NEVER reconnects by itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::ClientError;
use crate::protocol::{
    ClientMessage, HelloKind, MAX_SERVER_MESSAGE_BYTES, Malformed, PROTOCOL, ServerMessage, Welcome, frames,
};

/// Connecting and the welcome take no longer: a frontend may wait for a lease to run out before it has the player.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(16);
/// Small, since a process may hold thousands of connections; a tick's frames for one client mostly fit.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A connection that was welcomed.
#[derive(Debug)]
pub struct Connection {
    url: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What came in.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A frame, not decoded yet.
    Frame(Bytes),
    /// Anything else.
    Message(ServerMessage),
}

impl Connection {
    /// Connects, says hello and waits for the welcome, at most for [`CONNECT_DEADLINE`].
    ///
    /// Messages between the hello and the welcome are against the protocol, except a farewell, which is the error then.
    pub async fn open(url: &str, token: &str, kind: HelloKind) -> Result<(Self, Welcome), ClientError> {
        Self::open_within(CONNECT_DEADLINE, url, token, kind).await
    }

    /// The same with a deadline of one's own.
    pub async fn open_within(
        deadline: Duration,
        url: &str,
        token: &str,
        kind: HelloKind,
    ) -> Result<(Self, Welcome), ClientError> {
        timeout(deadline, Self::open_unbounded(url, token, kind)).await.map_err(|_| ClientError::Late("welcome"))?
    }

    async fn open_unbounded(url: &str, token: &str, kind: HelloKind) -> Result<(Self, Welcome), ClientError> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_SERVER_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_SERVER_MESSAGE_BYTES));
        let connected = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await;
        let (socket, _) = connected.map_err(|error| socket_error(url, error))?;
        let mut connection = Self { url: url.to_owned(), socket };
        connection.send(&ClientMessage::Hello { protocol: PROTOCOL, token: token.to_owned(), kind }).await?;
        match connection.next().await? {
            Incoming::Message(ServerMessage::Welcome(welcome)) => Ok((connection, welcome)),
            Incoming::Message(ServerMessage::Farewell { code, text }) => Err(ClientError::Farewell { code, text }),
            _ => Err(Malformed::Expected("a welcome").into()),
        }
    }

    /// The frontend's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &ClientMessage) -> Result<(), ClientError> {
        self.socket.send(Message::Binary(message.encode())).await.map_err(|error| socket_error(&self.url, error))
    }

    /// The next message. Cancel-safe.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) if frames::is_frame(&bytes) => return Ok(Incoming::Frame(bytes)),
                Some(Ok(Message::Binary(bytes))) => return Ok(Incoming::Message(ServerMessage::decode(&bytes)?)),
                Some(Ok(Message::Text(_))) => return Err(Malformed::Expected("a binary message").into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Err(ClientError::Ended(self.url.clone())),
                Some(Err(error)) => return Err(socket_error(&self.url, error)),
            }
        }
    }

    /// Closes in good order.
    pub async fn close(mut self) {
        // There is nobody left to tell if this fails.
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

fn socket_error(url: &str, source: tokio_tungstenite::tungstenite::Error) -> ClientError {
    ClientError::Socket { url: url.to_owned(), source: Box::new(source) }
}
