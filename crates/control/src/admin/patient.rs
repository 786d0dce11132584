//! A connection that gives up on a peer who takes nothing of what is written, and says whether all was taken.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::places::Seat;

/// A stream with what was read of it already, and a limit on how long a write may make no progress.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    /// Read before, and not yet by whoever reads here.
    early: Vec<u8>,
    taken: usize,
    limit: Duration,
    /// Who is to know of it.
    seat: Rc<Seat>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// `stream`, of which `early` has been read.
    pub(super) fn new(stream: S, early: Vec<u8>, limit: Duration, seat: Rc<Seat>) -> Self {
        Self { stream, early, taken: 0, limit, seat, waiting: None }
    }

    /// What became of a write, within the limit.
    fn within<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waiting.as_mut().poll(context).is_ready() {
            // Should it be asked again, the answer is the same.
            waiting.as_mut().reset(Instant::now());
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.early.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..length).unwrap_or_default());
        self.taken += length;
        if self.taken == self.early.len() {
            self.early = Vec::new();
            self.taken = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seat.writes();
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seat.writes();
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.seat.has_written();
        }
        self.within(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn patient<S>(stream: S, early: &[u8]) -> Patient<S> {
        Patient::new(stream, early.to_vec(), LIMIT, Rc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, mut far) = duplex(4);
        let mut near = patient(near, b"");
        let begun = Instant::now();
        near.write_all(b"abcd").await.unwrap();
        let error = near.write_all(b"efgh").await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
        assert_eq!(far.read_u8().await.unwrap(), b'a');
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_is_not() {
        let (near, mut far) = duplex(1);
        let mut near = patient(near, b"");
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Ok(byte) = far.read_u8().await {
                read.push(byte);
                sleep(LIMIT - Duration::from_secs(1)).await;
            }
            read
        });
        near.write_all(b"abcdef").await.unwrap();
        drop(near);
        assert_eq!(reader.await.unwrap(), b"abcdef");
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (near, mut far) = duplex(16);
        far.write_all(b"world").await.unwrap();
        drop(far);
        let mut near = patient(near, b"hello ");
        let mut text = String::new();
        assert_eq!(near.read_u8().await.unwrap(), b'h');
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "ello world");
    }
}
