//! A client's TCP socket, shared by its two sides: reading goes through the WebSocket library, writing through a shard.
//!
//! Until the client is handed to a shard, the library writes to the socket itself (handshake, farewells). From then on
//! everything it wants to write (pongs, the closing handshake) is dropped, for only the shard may write: it answers the
//! pings of WebSocket itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::shard::Sink;

/// The socket of one client.
#[derive(Clone)]
pub struct Socket {
    stream: Arc<TcpStream>,
    streaming: Arc<AtomicBool>,
}

impl Socket {
    /// Takes a connected stream.
    pub fn new(stream: TcpStream) -> Socket {
        Socket { stream: Arc::new(stream), streaming: Arc::default() }
    }

    /// From now on only the returned sink writes.
    pub fn hand_over(&self) -> Arc<dyn Sink> {
        self.streaming.store(true, Ordering::Release);
        Arc::new(self.clone())
    }

    /// The shard has not come to use its sink after all, and NEVER will: the library may write again.
    pub fn take_back(&self) {
        self.streaming.store(false, Ordering::Release);
    }

    fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }
}

impl Sink for Socket {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(slices)
    }

    fn close(&self) {
        // Already closed is as good.
        let _ = socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Both);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.is_streaming() {
                return Poll::Ready(Ok(bytes.len()));
            }
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_streaming() {
            self.close();
        }
        Poll::Ready(Ok(()))
    }
}
