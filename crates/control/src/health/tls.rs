//! A TLS handshake succeeds, with the settings of traffic.

use config::model::UpstreamHttp;
use net::tls::ClientConfig;
use proxy::live::Endpoint;

use super::connect::{Progress, connect, secure};

/// # Errors
/// In words.
pub(super) async fn probe(
    endpoint: &Endpoint,
    port: Option<u16>,
    tls: Option<&ClientConfig>,
    progress: &Progress,
) -> Result<(), String> {
    let tls = tls.ok_or("there are no settings for TLS")?;
    let http2 = endpoint.transport.http == UpstreamHttp::Http2;
    let socket = connect(endpoint, port, progress).await?;
    secure(socket, endpoint, tls, http2, progress).await?.close();
    Ok(())
}
