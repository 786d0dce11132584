//! TLS as all scenarios use it: one certificate, one version, one suite, one group for every peer.
//!
//! They are pinned on the peers' side, and [`Client::check`] sees that they are what is spoken:
//! peers left to their defaults would not do equal work.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, SignatureScheme, StreamOwned,
};

use crate::lab::Lab;
use crate::{Result, client};

/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";
/// The only cipher suite the peers take.
pub(crate) const SUITE: &str = "TLS_AES_128_GCM_SHA256";
/// The only key exchange group the peers take: OpenSSL 3.0 has none with ML-KEM.
pub(crate) const GROUP: &str = "X25519";

/// Where the certificate's files are.
pub(crate) struct Files {
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// Its P-256 key.
    pub(crate) key: PathBuf,
    /// Both in one file.
    pub(crate) both: PathBuf,
}

/// The files' places in a run's directory.
pub(crate) fn files(lab: &Lab) -> Files {
    let [certificate, key, both] =
        ["certificate.pem", "key.pem", "both.pem"].map(|name| lab.dir.join(name));
    Files { certificate, key, both }
}

/// Makes a self-signed certificate with ECDSA on P-256 and writes its files.
pub(crate) fn make_certificate(lab: &Lab) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    lab.write("certificate.pem", &certificate)?;
    lab.write("key.pem", &key)?;
    lab.write("both.pem", certificate + &key)?;
    Ok(())
}

/// How the bench's own clients speak TLS.
pub(crate) struct Client {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Client {
    /// A client that trusts the certificate in this file and nothing else.
    pub(crate) fn new(certificate: &PathBuf) -> Result<Client> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
        Ok(Client {
            certificate: CertificateDer::from_pem_file(certificate)?,
            provider: Arc::new(provider),
        })
    }

    /// A configuration that verifies everything, as clients do.
    pub(crate) fn verifying(&self, alpn: &[u8]) -> Result<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }

    /// A configuration for load: it compares the certificate with the one expected and leaves the
    /// signature alone, which is the most expensive part of a handshake for a client. What the
    /// peer does is the same.
    pub(crate) fn comparing(&self, resume: bool) -> Result<ClientConfig> {
        let verifier =
            Comparing { expected: self.certificate.clone(), provider: Arc::clone(&self.provider) };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    /// Two connections with a request each: what is spoken is what was agreed, and the second
    /// resumes the first's session.
    pub(crate) fn check(&self, target: SocketAddr, path: &str) -> Result<client::Response> {
        let config = Arc::new(self.verifying(b"http/1.1")?);
        let mut first = open(&config, target)?;
        client::get(&mut first, target, path)?;
        agreed(&first.conn, b"http/1.1")?;
        let mut second = open(&config, target)?;
        let response = client::get(&mut second, target, path)?;
        if second.conn.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Err("does not resume a TLS session".into());
        }
        Ok(response)
    }
}

/// Connects and lets the handshake happen with the first bytes.
pub(crate) fn open(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let session = ClientConnection::new(Arc::clone(config), server_name()?)?;
    Ok(StreamOwned::new(session, client::connect(target)?))
}

/// The name clients ask for.
pub(crate) fn server_name() -> Result<ServerName<'static>> {
    Ok(ServerName::try_from(NAME)?)
}

/// An error unless version, suite, group and protocol are the agreed ones.
pub(crate) fn agreed(session: &ClientConnection, alpn: &[u8]) -> Result<()> {
    let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    let facts = (session.protocol_version(), suite, group, session.alpn_protocol());
    // rustls writes TLS13_AES_128_GCM_SHA256 where RFC 8446 has TLS_AES_128_GCM_SHA256.
    let suite = SUITE.replace("TLS_", "TLS13_");
    let wanted = (Some(ProtocolVersion::TLSv1_3), Some(suite), Some(GROUP.to_owned()), Some(alpn));
    if facts != wanted {
        return Err(format!("speaks TLS otherwise than the others: {facts:?}").into());
    }
    Ok(())
}

/// Accepts the one certificate that it knows.
#[derive(Debug)]
struct Comparing {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Comparing {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if *shown != self.expected {
            return Err(rustls::CertificateError::UnknownIssuer.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
