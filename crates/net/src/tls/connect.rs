//! The handshake with an upstream.

use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::ciphertext::Ciphertext;
use super::stream::TlsStream;
use super::{ClientConfig, HandshakeError, PolicyId};
use crate::stream::Stream;

/// Shakes hands with an upstream that has to prove to be `server_name`, a DNS name or an IP address.
/// Takes no time limit of its own: drop the future to give up.
///
/// # Errors
/// Why there is no connection.
pub async fn connect(
    stream: Stream,
    config: &ClientConfig,
    server_name: &str,
) -> Result<Stream, HandshakeError> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| HandshakeError::UnknownName(Some(server_name.into())))?;
    let session = ClientConnection::new(Arc::clone(&config.config), name);
    let session = session.map_err(HandshakeError::Refused)?;
    let ciphertext = Ciphertext::default();
    let tls = TlsStream::handshake(stream, session.into(), ciphertext, PolicyId(0)).await?;
    Ok(Stream::Tls(Box::new(tls)))
}
