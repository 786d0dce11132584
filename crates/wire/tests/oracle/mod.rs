//! hyper and httparse as readers of one message, driven in memory.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};
use hyper::header::HeaderMap;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

/// What a reader makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Method or status.
    pub(crate) start: String,
    /// Path and query as sent; empty for responses.
    pub(crate) target: String,
    /// Lower-case names and values.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// Room for any message of these tests, so that nobody waits for the other side to read.
const PIPE_BYTES: usize = 256 * 1024;

pub(crate) fn httparse_fields(data: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    if !request.parse(data).ok()?.is_complete() {
        return None;
    }
    let one =
        |header: &httparse::Header<'_>| (header.name.to_ascii_lowercase(), header.value.to_vec());
    Some(request.headers.iter().map(one).collect())
}

/// The first request hyper's server takes from `data`; `None` if it refuses the head or the body.
pub(crate) fn hyper_reads_request(data: &[u8]) -> Option<Reading> {
    let seen = Rc::new(RefCell::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let reading = collect(body).await.map(|body| Reading {
                start: head.method.to_string(),
                target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                fields: fields(&head.headers),
                body,
            });
            let mut seen = seen.borrow_mut();
            if seen.is_none() {
                *seen = Some(reading.ok());
            }
            Ok::<_, io::Error>(Response::new(String::new()))
        }
    });
    in_runtime(async {
        let (mut client, server) = duplex(PIPE_BYTES);
        client.write_all(data).await.expect("room");
        client.shutdown().await.expect("in memory");
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.header_read_timeout(None).half_close(true);
        // Later, pipelined messages may fail; only the first one counts.
        let _ = builder.serve_connection(Io(server), service).await;
    });
    seen.take().flatten()
}

/// The response hyper's client takes from `data`; `None` if it refuses the head or the body.
pub(crate) fn hyper_reads_response(data: &[u8], to_head: bool) -> Option<Reading> {
    let data = data.to_vec();
    in_runtime(async move {
        let (client, mut server) = duplex(PIPE_BYTES);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(Io(client)).await.ok()?;
        tokio::spawn(connection);
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let length = server.read(&mut request).await.expect("in memory");
            assert!(length > 0, "a request");
            server.write_all(&data).await.expect("room");
            server.shutdown().await.expect("in memory");
            // Stay until the client has gone, as a server that only closed its side.
            while server.read(&mut request).await.is_ok_and(|n| n > 0) {}
        });
        let method = if to_head { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("/").body(String::new()).ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        Some(Reading {
            start: head.status.as_str().to_owned(),
            target: String::new(),
            fields: fields(&head.headers),
            body: collect(body).await.ok()?,
        })
    })
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// tokio's in-memory pipe in hyper's terms.
struct Io(DuplexStream);

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        let len = room.len().min(out.remaining());
        let mut buf = ReadBuf::new(&mut room[..len]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf))?;
        out.put_slice(buf.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
