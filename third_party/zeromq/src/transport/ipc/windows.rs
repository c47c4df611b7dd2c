//! The small `AF_UNIX` adapter needed by the Windows IPC transport.
//!
//! `socket2` supplies the Winsock socket operations and `async-io` supplies
//! readiness notifications, independently of the selected task executor.

use async_io::Async;
use futures::{AsyncRead, AsyncWrite};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::Shutdown;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(super) struct UnixStream(Async<Socket>);

impl UnixStream {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Set nonblocking before connect: a full listen backlog must not block
        // the executor thread. Winsock reports WSAEWOULDBLOCK while connecting.
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let stream = Async::new_nonblocking(socket)?;
        stream.writable().await?;
        if let Some(error) = stream.get_ref().take_error()? {
            return Err(error);
        }
        Ok(Self(stream))
    }
}

impl AsyncRead for UnixStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        // I/O through a shared reference cannot invalidate the registered socket.
        Pin::new(&mut &self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &self.0).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown(Shutdown::Write))
    }
}

pub(super) struct UnixListener(Async<Socket>);

impl UnixListener {
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        socket.listen(128)?;
        Ok(Self(Async::new(socket)?))
    }

    pub(super) async fn accept(&self) -> io::Result<(UnixStream, SockAddr)> {
        let (socket, address) = self.0.read_with(Socket::accept).await?;
        // Accepted sockets do not necessarily inherit the listener's flags.
        Ok((UnixStream(Async::new(socket)?), address))
    }
}
