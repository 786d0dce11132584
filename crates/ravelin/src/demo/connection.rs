//! One HTTP/1.1 connection as the demo's small servers see it: request after request, on the codec
//! that Ravelin itself uses.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use wire::body::BodyDecoder;
use wire::field::Span;
use wire::head::{HeadLimits, Parse, RequestHead};

/// Connections one server takes at once; more wait.
const CONNECTIONS_MAX: usize = 256;

/// A connection without a byte for this long is closed. Longer than Ravelin keeps idle upstream
/// connections, so that it is Ravelin who closes.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(90);

/// After accepting failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes asked for in one read.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// Serves every connection of `listener` with `serve`, for as long as the runtime lives.
pub(crate) async fn accept<F>(listener: TcpListener, serve: fn(Connection) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let _slower_without = stream.set_nodelay(true);
                let connection = Connection::new(stream);
                tokio::spawn(async move {
                    // That a peer breaks off is its own business.
                    let _broken_off = serve(connection).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// A connection and the request at its front.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The request's head; its spans lie in the buffer until [`Connection::read_body`].
    pub(crate) head: RequestHead,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), head: RequestHead::default() }
    }

    /// Waits for a whole request head; false when the peer is done. A broken head is answered here.
    pub(crate) async fn next_head(&mut self) -> io::Result<bool> {
        let mut scanned = 0;
        loop {
            if self.buffer.len() > scanned {
                match self.head.parse(&self.buffer, scanned, &HeadLimits::default()) {
                    Ok(Parse::Complete) => return Ok(true),
                    Ok(Parse::Partial) => scanned = self.buffer.len(),
                    Err(error) => {
                        self.refuse(error.status()).await?;
                        return Ok(false);
                    }
                }
            }
            if self.read().await? == 0 {
                return Ok(false);
            }
        }
    }

    /// What a span of the head stands for.
    pub(crate) fn text(&self, span: Span) -> &[u8] {
        span.of(&self.buffer)
    }

    /// Reads the request's body to its end and forgets it and the head's bytes; returns its length.
    pub(crate) async fn read_body(&mut self) -> io::Result<u64> {
        if self.head.expect_continue {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.forget(self.head.len);
        let mut body = BodyDecoder::new(self.head.framing);
        let mut length: u64 = 0;
        while !body.is_done() {
            let piece = body.next(&self.buffer).map_err(io::Error::other)?;
            length = length.saturating_add(piece.payload.len() as u64);
            self.forget(piece.consumed);
            if piece.consumed == 0 && self.read().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(length)
    }

    /// Sends bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(IDLE_MAX, self.stream.write_all(bytes)).await {
            Ok(written) => written,
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// The stream and the bytes after the head, for another protocol.
    pub(crate) fn upgrade(mut self) -> (TcpStream, Vec<u8>) {
        self.forget(self.head.len);
        (self.stream, self.buffer)
    }

    async fn refuse(&mut self, status: u16) -> io::Result<()> {
        let head =
            format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        self.write(head.as_bytes()).await
    }

    async fn read(&mut self) -> io::Result<usize> {
        // The buffer stays bounded: a head that is longer than its limit is refused, and a body's
        // pieces are forgotten before more is read.
        self.buffer.reserve(READ_BYTES);
        match timeout(IDLE_MAX, self.stream.read_buf(&mut self.buffer)).await {
            Ok(read) => read,
            Err(_) => Ok(0),
        }
    }

    fn forget(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
    }
}
