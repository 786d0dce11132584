//! TLS 1.2 and 1.3, by rustls with aws-lc-rs. This module is all that the rest of Ravelin sees of
//! either.
//!
//! - `identity`: a certificate with its key, and the place where a site keeps the one it shows now
//! - `pem`: how its files are read; `ocsp`: what may be stapled to it
//! - `server`, `client`: what connections have to agree to
//! - `tickets`: keys for resuming sessions, shared by all workers
//! - `accept`, `connect`: the handshakes; `explain`: why one failed
//! - `stream`, `ciphertext`: the connection afterwards, behind [`crate::stream::Stream`]
//! - `facts`, `distinguished_name`: what the handshake settled, and how a certificate's holder is named
//!
//! What always holds: no byte is given to or taken from an application before the handshake is
//! done; a session made under one policy is never resumed under another; secrets are in no message.

mod accept;
mod ciphertext;
mod client;
mod connect;
mod distinguished_name;
mod explain;
mod facts;
mod identity;
mod ocsp;
mod pem;
mod server;
mod stream;
mod tickets;

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

use crate::stream::Stream;

pub use accept::{Hello, accept};
pub use client::ClientConfig;
pub use connect::connect;
pub use facts::{Alpn, ClientCertificate, Facts, public_key};
pub use identity::{Identity, IdentityError, IdentitySlot};
pub use ocsp::{Freshness, OcspError};
pub use pem::pem_text;
pub use server::{PolicyError, ServerConfig, acme_server_config};
pub use stream::TlsStream;
pub use tickets::Tickets;

/// Stands for a policy: equal policies, down to the contents of the files they name, have equal ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyId(u64);

/// Why a handshake failed, and who is to blame.
#[derive(Debug)]
pub enum HandshakeError {
    /// The peer closed the connection, or it broke.
    Closed(std::io::Error),
    /// The client spoke plain HTTP; the connection is still there to tell it so.
    PlainHttp(Box<PlainHttp>),
    /// No site of the listener has the name that the client asked for.
    UnknownName(Option<Box<str>>),
    /// The two sides cannot agree, or the peer broke the protocol, or its certificate is no good.
    Refused(rustls::Error),
}

/// A connection to a TLS port on which a client began with plain HTTP.
#[derive(Debug)]
pub struct PlainHttp {
    /// The connection, without TLS. Nothing that is meant to be encrypted belongs on it.
    pub stream: Stream,
    /// What has been received.
    pub received: Vec<u8>,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(error) => {
                write!(f, "the connection ended during the TLS handshake: {error}")
            }
            Self::PlainHttp(_) => f.write_str("the client sent a plain HTTP request to a TLS port"),
            Self::UnknownName(Some(name)) => write!(f, "no certificate for the name {name}"),
            Self::UnknownName(None) => {
                f.write_str("no certificate for a client that names no host")
            }
            Self::Refused(error) => write!(f, "TLS handshake: {}", explain::of_client(error)),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// What an error of a connection holds if it is not about the socket: one side broke TLS, or says that
/// the other did.
#[derive(Debug, Clone)]
pub struct TlsFault(String);

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsFault {}

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
