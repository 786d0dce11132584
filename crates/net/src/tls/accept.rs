//! The handshake with a client.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use rustls::server::{AcceptedAlert, Acceptor};

use super::ciphertext::{Ciphertext, SocketWriter};
use super::stream::TlsStream;
use super::{HandshakeError, PlainHttp, ServerConfig};
use crate::stream::Stream;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// The host it wants (SNI), lower-case.
    pub server_name: Option<&'a str>,
    /// It speaks `acme-tls/1` and nothing else (RFC 8737).
    pub acme: bool,
}

/// A fatal alert in a record of its own (RFC 6066 §3, RFC 8446 §6).
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Shakes hands with a client, under what `choose` picks once the whole ClientHello is there. Takes no
/// time limit of its own: drop the future to give up.
///
/// # Errors
/// Why there is no connection; the client has been told by an alert, where there is one for it.
pub async fn accept(
    stream: Stream,
    choose: impl FnOnce(&Hello<'_>) -> Option<ServerConfig>,
) -> Result<Stream, HandshakeError> {
    let mut ciphertext = Ciphertext::default();
    let mut acceptor = Acceptor::default();
    let mut begun = false;
    let accepted = loop {
        if ciphertext.is_empty() {
            let count = poll_fn(|cx| ciphertext.poll_receive(cx, &stream)).await;
            match count.map_err(HandshakeError::Closed)? {
                0 => return Err(closed()),
                _ if !begun && ciphertext.is_http() => {
                    let received = ciphertext.rest().to_vec();
                    return Err(HandshakeError::PlainHttp(PlainHttp { stream, received }.into()));
                }
                _ => begun = true,
            }
        }
        acceptor.read_tls(&mut ciphertext).map_err(HandshakeError::Closed)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err((error, alert)) => return Err(refused(&stream, error, alert).await),
        }
    };
    let hello = accepted.client_hello();
    let name = hello.server_name().map(canonical_name);
    let acme = hello.alpn().is_some_and(|mut offered| {
        offered.next() == Some(b"acme-tls/1") && offered.next().is_none()
    });
    let Some(config) = choose(&Hello { server_name: name.as_deref(), acme }) else {
        let _ = poll_fn(|cx| stream.poll_write(cx, UNRECOGNIZED_NAME)).await;
        return Err(HandshakeError::UnknownName(name.map(Into::into)));
    };
    let policy = config.policy();
    let session = match accepted.into_connection(config.config) {
        Ok(session) => session,
        Err((error, alert)) => return Err(refused(&stream, error, alert).await),
    };
    let tls = TlsStream::handshake(stream, session.into(), ciphertext, policy).await?;
    Ok(Stream::Tls(Box::new(tls)))
}

/// The name asked for as sites have it. A dot at its end means nothing; RFC 6066 §3 wants none.
pub(super) fn canonical_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

pub(super) fn closed() -> HandshakeError {
    HandshakeError::Closed(io::ErrorKind::UnexpectedEof.into())
}

/// Tells the client why, as far as it takes that at once.
async fn refused(
    stream: &Stream,
    error: rustls::Error,
    mut alert: AcceptedAlert,
) -> HandshakeError {
    poll_fn(|cx: &mut Context<'_>| {
        let _ = alert.write_all(&mut SocketWriter::new(stream, cx));
        Poll::Ready(())
    })
    .await;
    HandshakeError::Refused(error)
}
