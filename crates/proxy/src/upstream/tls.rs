//! What TLS connections to upstreams have to agree to, compiled once for each distinct setting of a
//! snapshot, so that upstreams with equal settings resume each other's sessions.

use std::collections::HashMap;

use config::model::{Transport, UpstreamHttp, UpstreamTls};
use net::tls::{ClientConfig, PolicyError};

/// The settings compiled so far.
#[derive(Debug, Default)]
pub struct TlsConfigs {
    known: HashMap<(UpstreamTls, UpstreamHttp), ClientConfig>,
}

impl TlsConfigs {
    /// The settings of `transport`; `None` if it has no TLS.
    ///
    /// # Errors
    /// A file that cannot be read or used; the text names it.
    pub fn of(&mut self, transport: &Transport) -> Result<Option<ClientConfig>, PolicyError> {
        let Some(tls) = &transport.tls else { return Ok(None) };
        let key = (tls.clone(), transport.http);
        if let Some(config) = self.known.get(&key) {
            return Ok(Some(config.clone()));
        }
        let config = ClientConfig::new(tls, transport.http)?;
        self.known.insert(key, config.clone());
        Ok(Some(config))
    }
}
