//! Opening a connection to an endpoint: the socket, the PROXY protocol header where the endpoint wants
//! one, the TLS handshake. All of it falls under the time limit for connecting.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use config::model::{UpstreamAddress, UpstreamHttp};
use net::stream::Stream;
use net::tls::{Alpn, HandshakeError};

use super::Opened;
use crate::balance::Member;
use crate::live::{Endpoint, Lease};
use crate::log::Cause;

/// Most addresses of one host name that are tried for one connection.
const ADDRESSES_MAX: usize = 3;

/// Why no connection could be opened.
#[derive(Debug, Clone)]
pub struct ConnectError {
    /// The kind of failure.
    pub cause: Cause,
    /// The system's words for it.
    pub detail: String,
}

/// Connects to `member`'s endpoint. `greeting` goes out first, before TLS. Takes no time limit of its
/// own: the caller drops the future when its patience ends.
pub async fn connect(member: &Member, greeting: &[u8]) -> Result<Opened, ConnectError> {
    let endpoint = &member.endpoint;
    let (stream, lease) = reach(endpoint).await?;
    let mut rest = greeting;
    while !rest.is_empty() {
        let count = poll_fn(|cx| stream.poll_write(cx, rest)).await?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let Some(config) = &member.tls else { return Ok(Opened { stream, lease }) };
    let tls = endpoint.transport.tls.as_ref();
    let name = tls.and_then(|tls| tls.server_name.as_deref()).or(endpoint.host());
    let stream = net::tls::connect(stream, config, name.unwrap_or("localhost")).await?;
    let agreed = stream.tls().map(|facts| facts.alpn);
    if endpoint.transport.http == UpstreamHttp::Http2 && agreed != Some(Alpn::Http2) {
        let detail = "the upstream does not offer HTTP/2 (ALPN h2)".to_owned();
        return Err(ConnectError { cause: Cause::Tls, detail });
    }
    Ok(Opened { stream, lease })
}

/// Opens a socket to `endpoint`, trying the addresses its name has in turn.
async fn reach(endpoint: &Endpoint) -> Result<(Stream, Lease), ConnectError> {
    if let UpstreamAddress::Unix(path) = &endpoint.address {
        return Ok((Stream::connect_unix(path).await?, endpoint.lease()));
    }
    let mut last = ConnectError {
        cause: Cause::Unresolved,
        detail: "the host name does not resolve".to_owned(),
    };
    for (address, lease) in endpoint.leased().into_iter().take(ADDRESSES_MAX) {
        match connect_to(address).await {
            Ok(stream) => return Ok((stream, lease)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> Result<Stream, ConnectError> {
    Ok(Stream::connect(address).await?)
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self { cause: Cause::of(&error), detail: error.to_string() }
    }
}

impl From<HandshakeError> for ConnectError {
    fn from(error: HandshakeError) -> Self {
        let cause = match error.is_certificate() {
            true => Cause::Certificate,
            false => Cause::Tls,
        };
        Self { cause, detail: error.explain_upstream() }
    }
}
