//! What the sites' connections have to agree to: certificates and policies together.

use std::path::Path;

use config::Model;
use config::model::Tls;
use control::certificates::Certificates;
use net::tls::{ServerConfig, Tickets};

use crate::terminal::Failure;

/// An entry for each site, `None` for a plain one.
///
/// # Errors
/// A policy that cannot be had. Nothing may be served then: what is to be guarded would stand open.
pub(crate) fn configs(
    model: &Model,
    certificates: &Certificates,
    tickets: &Tickets,
) -> Result<Vec<Option<ServerConfig>>, Failure> {
    let configs = model.sites.iter().enumerate().map(|(index, site)| {
        let Some(tls) = &site.tls else { return Ok(None) };
        let cannot = |what: String| {
            let advice = "look at the site's `ssl` table: `ravelin check` shows where it is";
            Failure::new(format!("site \"{}\" cannot have TLS: {what}", site.name), advice)
        };
        let slot = certificates.slot(index).ok_or_else(|| cannot("no certificate".to_owned()))?;
        let authorities = client_authorities(tls).map_err(cannot)?;
        let config = ServerConfig::new(&tls.policy, authorities.as_deref(), slot.clone(), tickets);
        config.map(Some).map_err(|error| match &tls.policy.client_auth {
            Some(auth) => cannot(format!("{}: {error}", auth.ca_file.display())),
            None => cannot(error.to_string()),
        })
    });
    configs.collect()
}

/// The text of the file with the authorities of client certificates.
fn client_authorities(tls: &Tls) -> Result<Option<Vec<u8>>, String> {
    let Some(auth) = &tls.policy.client_auth else { return Ok(None) };
    let file: &Path = &auth.ca_file;
    let text = std::fs::read(file);
    text.map(Some).map_err(|error| format!("cannot read {}: {error}", file.display()))
}
