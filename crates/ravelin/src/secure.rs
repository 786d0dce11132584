//! What the sites' connections have to agree to: certificates and policies together.

use std::path::Path;
use std::sync::Arc;

use config::Model;
use config::model::{Pem, Tls, Transport, UpstreamTls};
use control::certificates::{Certificates, forbidden};
use net::tls::{ClientConfig, Identity, IdentitySlot, ServerConfig, Tickets};

use crate::configuration::read_file;
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
        config(tls, slot.clone(), tickets).map(Some).map_err(cannot)
    });
    configs.collect()
}

/// What of the TLS of sites and upstreams would refuse the start beside certificates of sites, and
/// what whoever asks may not read, so that nothing is known of it.
pub(crate) fn faults(model: &Model) -> (Vec<String>, Vec<String>) {
    let (mut faults, mut doubts) = (Vec::new(), Vec::new());
    // Whether these files may be read; tells those that may not.
    let mut readable = |site: &str, files: &mut dyn Iterator<Item = &Path>| {
        let unread: Vec<String> = files.filter_map(forbidden).collect();
        let readable = unread.is_empty();
        doubts.extend(unread.into_iter().map(|unread| format!("site \"{site}\": {unread}")));
        readable
    };
    for site in &model.sites {
        let name = &site.name;
        if let Some(tls) = &site.tls
            && let auth = tls.policy.client_auth.as_ref()
            && readable(name, &mut auth.iter().filter_map(|auth| auth.ca_file.file()))
            && let Ok(identity) = Identity::self_signed(&[])
            && let Err(what) = config(tls, IdentitySlot::new(identity), &Tickets::new())
        {
            faults.push(format!("site \"{name}\" cannot have TLS: {what}"));
        }
        let guards = site.routes.iter().map(|route| &route.guards).chain([&site.guards]);
        for auth in guards.flat_map(|guards| &guards.auth) {
            readable(name, &mut auth.files().into_iter());
        }
        for pool in site.proxy.iter().flat_map(|proxy| &proxy.pools) {
            for upstream in &pool.upstreams {
                let Transport { tls: Some(tls), http, .. } = &upstream.transport else { continue };
                if readable(name, &mut files(tls))
                    && let Err(error) = ClientConfig::new(tls, *http)
                {
                    let url = &upstream.url;
                    faults.push(format!("site \"{name}\": upstream {url}: TLS: {error}"));
                }
            }
            let sticky = pool.settings.sticky.as_ref();
            let key_file = sticky.and_then(|sticky| sticky.key_file.as_deref());
            readable(name, &mut key_file.into_iter());
        }
    }
    (faults, doubts)
}

/// The files that TLS to an upstream needs.
fn files(tls: &UpstreamTls) -> impl Iterator<Item = &Path> {
    let shown = tls.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
    tls.ca_file.iter().chain(shown).filter_map(Pem::file)
}

fn config(
    tls: &Tls,
    identity: Arc<IdentitySlot>,
    tickets: &Tickets,
) -> Result<ServerConfig, String> {
    let authorities = client_authorities(tls)?;
    let config = ServerConfig::new(&tls.policy, authorities.as_deref(), identity, tickets);
    config.map_err(|error| match &tls.policy.client_auth {
        Some(auth) => format!("{}: {error}", auth.ca_file),
        None => error.to_string(),
    })
}

/// The text with the authorities of client certificates.
fn client_authorities(tls: &Tls) -> Result<Option<Vec<u8>>, String> {
    let Some(auth) = &tls.policy.client_auth else { return Ok(None) };
    match &auth.ca_file {
        Pem::Text(text) => Ok(Some(text.as_bytes().to_vec())),
        Pem::File(file) => read_file(file)
            .map(Some)
            .map_err(|error| format!("cannot read {}: {error}", file.display())),
    }
}
