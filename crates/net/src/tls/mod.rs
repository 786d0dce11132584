//! TLS 1.2 and 1.3, by rustls with aws-lc-rs. This module is all that the rest of Ravelin sees of
//! either.
//!
//! - `identity`: a certificate with its key, and the place where a site keeps the one it shows now
//! - `server`, `client`: what connections have to agree to
//! - `tickets`: keys for resuming sessions, shared by all workers
//! - `accept`, `connect`: the handshakes; `explain`: why one failed
//! - `stream`: the connection afterwards, behind [`crate::stream::Stream`]
//!
//! What always holds: no byte is given to or taken from an application before the handshake is
//! done; a session made under one policy is never resumed under another; secrets are in no message.

mod accept;
mod client;
mod connect;
mod explain;
mod identity;
mod server;
mod stream;
mod tickets;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

pub use accept::{Hello, accept};
pub use client::ClientConfig;
pub use connect::connect;
pub use identity::{Identity, IdentityError, IdentitySlot};
pub use server::{PolicyError, ServerConfig, acme_server_config};
pub use stream::TlsStream;
pub use tickets::Tickets;

/// What a handshake settled.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The name that the client asked for (SNI), lower-case.
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
    /// The peer's certificate, if it showed one; it was verified.
    pub client: Option<Arc<ClientCertificate>>,
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
    /// Distinguished name of its holder, on one line.
    pub subject: String,
    /// Distinguished name of who signed it.
    pub issuer: String,
    /// Serial number in hexadecimal.
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
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: hex(parsed.raw_serial()),
            fingerprint: hex(digest.as_ref()),
            der: der.to_vec(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}

/// Stands for a policy: equal policies, down to the contents of the files they name, have equal ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId(u64);

/// Why a handshake failed, and who is to blame.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer closed the connection, or it broke.
    Closed(std::io::Error),
    /// The client spoke plain HTTP.
    PlainHttp,
    /// No site of the listener has the name that the client asked for.
    UnknownName(Option<Box<str>>),
    /// The two sides cannot agree, or the peer broke the protocol, or its certificate is no good.
    Refused(rustls::Error),
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(error) => {
                write!(f, "the connection ended during the TLS handshake: {error}")
            }
            Self::PlainHttp => f.write_str("plain HTTP was sent to a TLS port"),
            Self::UnknownName(Some(name)) => write!(f, "no certificate for the name {name}"),
            Self::UnknownName(None) => {
                f.write_str("no certificate for a client that names no host")
            }
            Self::Refused(error) => write!(f, "TLS handshake: {error}"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// The cryptography that everything here uses.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Makes that cryptography the default of the process, for libraries that do not ask. Call it once at
/// start.
pub fn install() {
    // A second call finds the same one installed.
    let _ = CryptoProvider::install_default(CryptoProvider::clone(provider()));
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
