//! Connections for probes: made as those of traffic are, with the PROXY protocol header that the
//! endpoint wants and its TLS, and ended politely.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use config::model::{ProxyProtocol, UpstreamAddress};
use net::stream::Stream;
use net::tls::{Alpn, ClientConfig};
use proxy::live::Endpoint;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use wire::proxy_protocol::{write_v1, write_v2};

/// Most addresses of one endpoint that are tried for one probe, as for requests.
const ADDRESSES_MAX: usize = 3;

/// How long an endpoint may take to close its side after a probe, and how many bytes it may still
/// send. To close on it at once would be a reset in its eyes.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 * 1024;

/// What a probe is doing, for the message when its time is up.
#[derive(Debug)]
pub(super) struct Progress(Cell<&'static str>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Cell::new("connecting"))
    }

    pub(super) fn enter(&self, phase: &'static str) {
        self.0.set(phase);
    }

    pub(super) fn phase(&self) -> &'static str {
        self.0.get()
    }
}

/// Opens a connection to `endpoint`, or to another `port` of it, up to where TLS would begin.
///
/// # Errors
/// In words.
pub(super) async fn connect(
    endpoint: &Endpoint,
    port: Option<u16>,
    progress: &Progress,
) -> Result<Socket, String> {
    progress.enter("connecting");
    let mut socket = Socket(match &endpoint.address {
        UpstreamAddress::Unix(path) => connect_unix(path).await?,
        UpstreamAddress::Tcp { .. } => connect_tcp(endpoint, port).await?,
    });
    let mut greeting = Vec::new();
    match endpoint.transport.proxy_protocol {
        // Ravelin speaks for itself here, not for a client.
        Some(ProxyProtocol::V1) => write_v1(&mut greeting, None),
        Some(ProxyProtocol::V2) => write_v2(&mut greeting, None),
        None => {}
    }
    socket.write_all(&greeting).await.map_err(|error| words(&error))?;
    Ok(socket)
}

/// Puts TLS on a connection. `http2`: that has to be agreed on.
///
/// # Errors
/// In words.
pub(super) async fn secure(
    socket: Socket,
    endpoint: &Endpoint,
    tls: &ClientConfig,
    http2: bool,
    progress: &Progress,
) -> Result<Socket, String> {
    progress.enter("in the TLS handshake");
    let settings = endpoint.transport.tls.as_ref();
    let name = settings.and_then(|tls| tls.server_name.as_deref()).or(endpoint.host());
    let stream = net::tls::connect(socket.0, tls, name.unwrap_or("localhost")).await;
    let stream = stream.map_err(|error| format!("TLS: {}", error.explain_upstream()))?;
    let agreed = stream.tls().map(|facts| facts.alpn);
    if http2 && agreed != Some(Alpn::Http2) {
        return Err("the upstream does not offer HTTP/2 (ALPN h2)".to_owned());
    }
    Ok(Socket(stream))
}

async fn connect_unix(path: &Path) -> Result<Stream, String> {
    Stream::connect_unix(path).await.map_err(|error| words(&error))
}

async fn connect_tcp(endpoint: &Endpoint, port: Option<u16>) -> Result<Stream, String> {
    let addresses = endpoint.addresses();
    let mut last = "the host name does not resolve".to_owned();
    for &address in addresses.iter().take(ADDRESSES_MAX) {
        let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        match Stream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = words(&error),
        }
    }
    Err(last)
}

/// An error of the system without its number: `connection refused`.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => "the connection failed".to_owned(),
    }
}

/// A connection as tokio and h2 want it.
#[derive(Debug)]
pub(super) struct Socket(Stream);

impl Socket {
    /// Ends the connection in the background, for a second at most: says that nothing more will be
    /// sent, and waits until the endpoint says the same. Call within a `LocalRuntime`.
    pub(super) fn close(self) {
        // It may be gone already.
        let _ = self.0.shutdown_write();
        self.wait_for_end();
    }

    /// Waits in the background, for a second at most, until the endpoint has sent all and ends the
    /// connection, as it was asked to. Call within a `LocalRuntime`.
    pub(super) fn wait_for_end(mut self) {
        tokio::task::spawn_local(async move {
            let mut rest = (&mut self).take(FAREWELL_BYTES);
            // The probe is over: nothing that comes now changes anything.
            let _ = timeout(FAREWELL, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        });
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.0.poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It may be gone already.
        let _ = self.0.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
