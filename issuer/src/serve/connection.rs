//! A connection that has its place and cannot keep it by not reading.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// How many connections a listener has at a time, and how long one may not
/// take what is sent to it.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    places: Arc<Semaphore>,
    write_timeout: Duration,
}

impl Limits {
    pub(super) fn new(max_connections: usize, write_timeout: Duration) -> Self {
        let places = max_connections.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), write_timeout }
    }

    /// Gives a connection its place. With none left it is closed at once: the
    /// client learns it at once, too, and what is accepted is always served.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`].
    pub(super) fn admit<S>(&self, stream: S) -> io::Result<Guarded<S>> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                Ok(Guarded { stream, write_timeout: self.write_timeout, blocked: None, _place: place })
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "there is no place left")),
        }
    }
}

/// A stream whose peer has to take what is written: if nothing could be
/// written for as long as the limit says, writing fails.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    write_timeout: Duration,
    /// Runs while the peer takes nothing.
    blocked: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Guarded<S> {
    /// The answer to an attempt to write.
    fn in_time<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let timeout = self.write_timeout;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(blocked.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            return flushed;
        }
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, shut)
    }
}
