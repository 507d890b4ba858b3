//! A connection as the server reads and writes it, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Caller, Place, Stage};

/// What bytes come and go on.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<L: AsyncRead + AsyncWrite + Unpin + Send + 'static> Line for L {}

/// A line with its place: it fails as soon as the place is given to another.
pub(crate) struct Wire<L> {
    line: L,
    place: Place,
}

/// A connection on which calls may come.
pub(crate) enum Connection<L> {
    Plain(Wire<L>),
    Tls(Box<TlsStream<Wire<L>>>),
}

impl<L: Line> Wire<L> {
    pub(crate) fn new(line: L, place: Place) -> Self {
        Self { line, place }
    }

    fn line(&mut self, context: &Context<'_>) -> io::Result<Pin<&mut L>> {
        let known = &self.place.caller.0;
        known.waker.register(context.waker());
        if known.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by this side"));
        }
        Ok(Pin::new(&mut self.line))
    }
}

impl<L: Line> Connection<L> {
    pub(crate) fn plain(wire: Wire<L>) -> Self {
        wire.place.caller.advance(Stage::Silent);
        Self::Plain(wire)
    }

    pub(crate) fn tls(stream: TlsStream<Wire<L>>) -> Self {
        stream.get_ref().0.place.caller.advance(Stage::Silent);
        Self::Tls(Box::new(stream))
    }

    fn wire(&self) -> &Wire<L> {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl<L: Line> Connected for Connection<L> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.wire().place.caller.clone()
    }
}

impl<L: Line> AsyncRead for Wire<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line(context)?.poll_read(context, buffer)
    }
}

impl<L: Line> AsyncWrite for Wire<L> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line(context)?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.line.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line(context)?.poll_shutdown(context)
    }
}

impl<L: Line> AsyncRead for Connection<L> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<L: Line> AsyncWrite for Connection<L> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
