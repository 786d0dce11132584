//! A connection is taken.

use proxy::live::Endpoint;

use super::connect::{Progress, connect};

/// # Errors
/// In words.
pub(super) async fn probe(
    endpoint: &Endpoint,
    port: Option<u16>,
    progress: &Progress,
) -> Result<(), String> {
    connect(endpoint, port, progress).await?.close();
    Ok(())
}
