//! What a handshake settled, for decisions, logs and the upstream.

use std::sync::Arc;

use rustls::{Connection, HandshakeKind, ProtocolVersion};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::PolicyId;
use super::accept::canonical_name;
use super::distinguished_name::one_line;
use super::server::cipher_name;

/// What a handshake settled.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The name that the client asked for (SNI), lower-case, without a dot at its end.
    pub server_name: Option<Box<str>>,
    /// The protocol agreed upon.
    pub alpn: Alpn,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// What the connection agreed to; means nothing on a connection to an upstream.
    pub policy: PolicyId,
    /// The client's certificate, if it showed one; it was verified.
    pub client: Option<Arc<ClientCertificate>>,
}

impl Facts {
    pub(super) fn of(session: &Connection, policy: PolicyId) -> Self {
        let server = match session {
            Connection::Server(session) => Some(session),
            Connection::Client(_) => None,
        };
        let name = server.and_then(|session| session.server_name());
        let certificate = server.and_then(|session| session.peer_certificates()?.first());
        Self {
            server_name: name.map(|name| canonical_name(name).into()),
            alpn: Alpn::of(session.alpn_protocol()),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: session
                .negotiated_cipher_suite()
                .map_or("", |suite| cipher_name(suite.suite())),
            resumed: matches!(session.handshake_kind(), Some(HandshakeKind::Resumed)),
            policy,
            client: certificate.and_then(|der| ClientCertificate::of(der)).map(Arc::new),
        }
    }
}

/// Protocols that ALPN (RFC 7301) may settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// The client did not ask, or nothing was agreed.
    None,
    /// `http/1.1`
    Http11,
    /// `h2`
    Http2,
    /// `acme-tls/1` (RFC 8737)
    AcmeTls,
}

impl Alpn {
    fn of(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(b"http/1.1") => Self::Http11,
            Some(b"h2") => Self::Http2,
            Some(b"acme-tls/1") => Self::AcmeTls,
            _ => Self::None,
        }
    }
}

/// A certificate that a client showed and that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Distinguished name of its holder (RFC 4514), in printable ASCII.
    pub subject: String,
    /// Distinguished name of who signed it, likewise.
    pub issuer: String,
    /// Serial number in hexadecimal, without zeros in front.
    pub serial: String,
    /// SHA-256 of the certificate in hexadecimal.
    pub fingerprint: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// When it expires, in seconds since the Unix epoch.
    pub not_after: i64,
}

impl ClientCertificate {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let serial = match parsed.raw_serial() {
            [0, rest @ ..] if !rest.is_empty() => rest, // the sign
            serial => serial,
        };
        Some(Self {
            subject: one_line(parsed.subject()),
            issuer: one_line(parsed.issuer()),
            serial: hex(serial),
            fingerprint: hex(digest.as_ref()),
            der: der.to_vec(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// `bytes` in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The public key of a certificate, as both are written in DER; `None` if it is none.
#[must_use]
pub fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}
