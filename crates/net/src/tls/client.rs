//! What connections to an upstream have to agree to.

use std::sync::{Arc, OnceLock};

use config::model::{Pem, UpstreamHttp, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::server::authorities;
use super::{Identity, PolicyError, pem_text, provider};

/// Bytes of a file with certificates; those of a system's authorities together are some hundred KiB.
const PEM_MAX: u64 = 16 * 1024 * 1024;

/// What connections to an upstream have to agree to, ready for handshakes. Cheap to clone; clones
/// share the sessions that can be resumed.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(super) config: Arc<rustls::ClientConfig>,
}

impl ClientConfig {
    /// Reads the files that `tls` names, and the authorities of the system where it names none.
    ///
    /// # Errors
    /// A file that cannot be read or used; the text names it.
    pub fn new(tls: &UpstreamTls, http: UpstreamHttp) -> Result<Self, PolicyError> {
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| PolicyError(error.to_string()))?;
        let builder = match (tls.verify, &tls.ca_file) {
            (false, _) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified))
            }
            (true, Some(file)) => {
                let verifier = Named::new(&read(file)?).map_err(|error| of(file, error))?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            (true, None) => builder.with_root_certificates(Arc::clone(system_roots()?)),
        };
        let mut config = match &tls.client_certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let identity = Identity::from_pem(&read(certificate)?, Some(&read(key)?));
                let identity = identity.map_err(|error| {
                    PolicyError(format!("{certificate} with key {key}: {error}"))
                })?;
                builder.with_client_cert_resolver(Arc::new(identity.into_client()))
            }
        };
        config.alpn_protocols = match http {
            UpstreamHttp::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamHttp::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Self { config: Arc::new(config) })
    }
}

fn read(pem: &Pem) -> Result<Vec<u8>, PolicyError> {
    match pem {
        Pem::File(file) => crate::file::read(file, PEM_MAX).map_err(|error| of(pem, error)),
        Pem::Text(text) => Ok(text.as_bytes().to_vec()),
    }
}

fn of(pem: &Pem, error: impl std::fmt::Display) -> PolicyError {
    PolicyError(format!("{pem}: {error}"))
}

/// The authorities of the system, read once.
fn system_roots() -> Result<&'static Arc<RootCertStore>, PolicyError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // Some systems ship a certificate or two that rustls does not take; the others count.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err(PolicyError(
            "this system has no certificate authorities; install them (Debian: ca-certificates) or \
             name a `ca_file`"
                .to_owned(),
        )),
        false => Ok(roots),
    }
}

/// Trusts what a `ca_file` names: what its authorities have signed and, as other proxies do, the very
/// certificates in it. Many a service inside of a network has one that it signed itself.
#[derive(Debug)]
struct Named {
    authorities: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Named {
    fn new(pem: &[u8]) -> Result<Self, PolicyError> {
        let pem = &*pem_text(pem).map_err(|error| PolicyError(error.to_owned()))?;
        let roots = authorities(pem)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider().clone());
        let authorities = verifier.build().map_err(|error| PolicyError(error.to_string()))?;
        // What is no certificate was refused above.
        let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        Ok(Self { authorities, certificates })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.certificates.contains(end_entity) {
            return self.authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        let (_, parsed) =
            X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if seconds > parsed.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes any certificate (`verify = false`), as long as the upstream has its key.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
