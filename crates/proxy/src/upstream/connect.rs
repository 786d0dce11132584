//! Opening a connection to an endpoint.

use std::io;
use std::net::SocketAddr;

use config::model::UpstreamAddress;
use net::stream::Stream;

use crate::live::Endpoint;
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

/// Connects to `endpoint`, trying the addresses its name has in turn. Takes no time limit of its
/// own: the caller drops the future when its patience ends.
pub async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    if let UpstreamAddress::Unix(path) = &endpoint.address {
        return Ok(Stream::connect_unix(path).await?);
    }
    let addresses = endpoint.addresses();
    let mut last = ConnectError {
        cause: Cause::Unresolved,
        detail: "the host name does not resolve".to_owned(),
    };
    for &address in addresses.iter().take(ADDRESSES_MAX) {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
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
