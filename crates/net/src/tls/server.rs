//! What a client's connection has to agree to.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use config::model::{TlsPolicy, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore};

use super::{Identity, IdentitySlot, PolicyId, Tickets, pem_text, provider};

/// What connections to a site have to agree to, ready for handshakes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub(super) config: Arc<rustls::ServerConfig>,
    policy: PolicyId,
    identity: Option<Arc<IdentitySlot>>,
}

/// Why a policy cannot be had. The text says what there is instead.
#[derive(Debug)]
pub struct PolicyError(pub(super) String);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

impl ServerConfig {
    /// Connections under `policy` that show what is in `identity`. `client_ca` is the PEM text of the
    /// file that the policy names for client certificates.
    ///
    /// # Errors
    /// A name of a cipher or group that does not exist, versions without a cipher, authorities that
    /// cannot be read.
    pub fn new(
        policy: &TlsPolicy,
        client_ca: Option<&[u8]>,
        identity: Arc<IdentitySlot>,
        tickets: &Tickets,
    ) -> Result<Self, PolicyError> {
        let id = policy_id(policy, client_ca);
        let versions: Vec<_> = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
            .into_iter()
            .filter(|(version, _)| (policy.min_version..=policy.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
        let provider = Arc::new(provider_for(policy)?);
        for version in &versions {
            let has_cipher = provider.cipher_suites.iter().any(|suite| suite.version() == *version);
            if !has_cipher {
                return Err(PolicyError(without_cipher(version.version)));
            }
        }
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| PolicyError(format!("versions and ciphers do not fit: {error}")))?;
        let builder = match &policy.client_auth {
            None => builder.with_no_client_auth(),
            Some(auth) => {
                let roots = authorities(client_ca.unwrap_or_default())?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = match auth.required {
                    true => verifier,
                    false => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build();
                let cannot = |error| PolicyError(format!("client certificates: {error}"));
                builder.with_client_cert_verifier(verifier.map_err(cannot)?)
            }
        };
        let shown = Arc::clone(&identity);
        let mut config = builder.with_cert_resolver(shown);
        config.ignore_client_order = !policy.ciphers.is_empty();
        config.alpn_protocols = match policy.http2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let resumes = policy.tickets && policy.client_auth.is_none();
        if let Some(keys) = resumes.then(|| tickets.for_policy(id)).flatten() {
            config.ticketer = keys;
            config.send_tls13_tickets = 1;
        }
        Ok(Self { config: Arc::new(config), policy: id, identity: Some(identity) })
    }

    /// What is shown now; `None` where it is for a certificate authority.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.as_ref().map(|slot| slot.load())
    }

    /// The policy, to compare with that of another connection or site.
    pub fn policy(&self) -> PolicyId {
        self.policy
    }
}

/// For connections of a certificate authority that checks TLS-ALPN-01 (RFC 8737): shows `identity`
/// and speaks no other protocol.
///
/// # Errors
/// No protocol version is left; this cannot be with the provider in use.
pub fn acme_server_config(identity: Identity) -> Result<ServerConfig, PolicyError> {
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| PolicyError(error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(IdentitySlot::new(identity));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(ServerConfig { config: Arc::new(config), policy: PolicyId(0), identity: None })
}

/// The authorities in a PEM text.
pub(super) fn authorities(pem: &[u8]) -> Result<RootCertStore, PolicyError> {
    let mut roots = RootCertStore::empty();
    let pem = pem_text(pem).map_err(|error| PolicyError(error.to_owned()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| PolicyError(format!("not PEM: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| PolicyError(format!("not fit to be an authority: {error}")))?;
    }
    match roots.is_empty() {
        true => Err(PolicyError("there is no certificate (BEGIN CERTIFICATE) in it".to_owned())),
        false => Ok(roots),
    }
}

/// The cryptography with the ciphers and groups that `policy` names, in its order.
fn provider_for(policy: &TlsPolicy) -> Result<CryptoProvider, PolicyError> {
    let mut chosen = CryptoProvider::clone(provider());
    if !policy.ciphers.is_empty() {
        let name_of = |suite: &rustls::SupportedCipherSuite| cipher_name(suite.suite());
        let all = ALL_CIPHER_SUITES;
        chosen.cipher_suites = pick(&policy.ciphers, all, name_of, "cipher suite")?;
    }
    if !policy.groups.is_empty() {
        let name_of = |group: &&dyn rustls::crypto::SupportedKxGroup| {
            group.name().as_str().unwrap_or_default()
        };
        chosen.kx_groups = pick(&policy.groups, ALL_KX_GROUPS, name_of, "group")?;
    }
    Ok(chosen)
}

fn pick<T: Copy>(
    names: &[String],
    all: &[T],
    name_of: impl Fn(&T) -> &'static str,
    what: &str,
) -> Result<Vec<T>, PolicyError> {
    let find = |name: &String| {
        all.iter().find(|one| name_of(one).eq_ignore_ascii_case(name)).copied().ok_or_else(|| {
            let known: Vec<_> = all.iter().map(&name_of).collect();
            PolicyError(format!("there is no {what} `{name}`; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn without_cipher(version: ProtocolVersion) -> String {
    let (name, bound) = match version {
        ProtocolVersion::TLSv1_2 => ("TLS 1.2", "`min_version` 1.3"),
        _ => ("TLS 1.3", "`max_version` 1.2"),
    };
    let ciphers = ALL_CIPHER_SUITES.iter().filter(|suite| suite.version().version == version);
    let ciphers: Vec<_> = ciphers.map(|suite| cipher_name(suite.suite())).collect();
    let ciphers = ciphers.join(", ");
    format!("no cipher suite of {name} is named; name one of {ciphers}, or set {bound}")
}

/// The IANA name; rustls leaves the TLS out of those of TLS 1.3.
pub(super) fn cipher_name(suite: rustls::CipherSuite) -> &'static str {
    match suite {
        rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

/// A process compares ids with its own, and with those of the process before it, whose ticket keys it
/// takes over. The hash has no key of its own, so that both come to the same; should they not, because the policy has got
/// another shape, there are new keys.
fn policy_id(policy: &TlsPolicy, client_ca: Option<&[u8]>) -> PolicyId {
    let mut hasher = DefaultHasher::new();
    policy.hash(&mut hasher);
    client_ca.hash(&mut hasher);
    PolicyId(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ravelin check` takes the names that a start takes, and no others.
    #[test]
    fn the_configuration_knows_every_cipher_suite_and_group() {
        let ciphers: Vec<_> =
            ALL_CIPHER_SUITES.iter().map(|suite| cipher_name(suite.suite())).collect();
        assert_eq!(ciphers, TlsPolicy::CIPHERS);
        let groups: Vec<_> =
            ALL_KX_GROUPS.iter().filter_map(|group| group.name().as_str()).collect();
        assert_eq!(groups, TlsPolicy::GROUPS);
        for suite in ALL_CIPHER_SUITES {
            let tls13 = suite.version().version == ProtocolVersion::TLSv1_3;
            let version = TlsPolicy::version_of(cipher_name(suite.suite()));
            assert_eq!(version == TlsVersion::Tls13, tls13);
        }
    }
}
