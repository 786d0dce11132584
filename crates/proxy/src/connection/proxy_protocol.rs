//! The PROXY protocol header at the front of a connection.
//!
//! What always holds: exactly the header is taken off the socket, so that whatever follows (TLS or
//! HTTP) finds its first byte first.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use net::stream::Stream;
use wire::proxy_protocol::{Addresses, Fault, Parsed, V2_MAX, parse};

/// Why there is no header to be had.
#[derive(Debug)]
pub(super) enum HeaderError {
    /// The connection ended or broke.
    Closed(io::Error),
    /// What came is no header.
    Fault(Fault),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Closed(error) => {
                write!(f, "the connection ended before its PROXY header: {error}")
            }
            HeaderError::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Reads the header and says whom the connection comes from and where it went; `None` if the proxy speaks for itself or
/// does not know. Takes no time limit of its own: drop the future to give up.
pub(super) async fn read_header(stream: &Stream) -> Result<Option<Addresses>, HeaderError> {
    let mut seen = [0; V2_MAX];
    poll_fn(|cx| {
        loop {
            ready!(stream.poll_read_ready(cx)).map_err(HeaderError::Closed)?;
            let partial = |seen: &[u8]| matches!(parse(seen), Ok(Parsed::Partial));
            let count = match stream.try_peek_at(&mut seen, |seen| !partial(seen)) {
                Ok(0) => Err(HeaderError::Closed(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result.map_err(HeaderError::Closed),
            }?;
            let (header, _) = seen.split_at_mut(count);
            return Poll::Ready(match parse(header).map_err(HeaderError::Fault)? {
                Parsed::Header { len, addresses } => {
                    let header = header.get_mut(..len).unwrap_or_default();
                    stream.take_peeked(header).map_err(HeaderError::Closed)?;
                    Ok(addresses)
                }
                // As much as there may be, and still not whole.
                Parsed::Partial if count == V2_MAX => Err(HeaderError::Fault(Fault::TooLong)),
                // As much as there will be.
                Parsed::Partial => Err(HeaderError::Closed(io::ErrorKind::UnexpectedEof.into())),
            });
        }
    })
    .await
}
