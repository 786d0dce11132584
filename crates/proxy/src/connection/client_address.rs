//! The peer's address, written out once a connection because every forwarded request carries it.

use std::net::{IpAddr, SocketAddr};

use net::stream::Peer;
use wire::forwarded::write_ip;

/// Longest text of an address: an IPv6 address with an embedded IPv4 one.
const TEXT_MAX: usize = 45;

/// Who is at the other end of a client connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress {
    peer: Peer,
    /// Where it connected to, if that was asked.
    local: Option<SocketAddr>,
    text: [u8; TEXT_MAX],
    len: u8,
}

impl ClientAddress {
    /// The address of `peer`; "unknown" (RFC 7239 §6.2) for a Unix socket.
    pub fn new(peer: &Peer) -> Self {
        let mut written = Vec::with_capacity(TEXT_MAX);
        match peer.ip() {
            Some(ip) => write_ip(&mut written, ip),
            None => written.extend_from_slice(b"unknown"),
        }
        let mut text = [0; TEXT_MAX];
        // The text always fits; if it did not, it would be cut.
        let len = written.len().min(TEXT_MAX);
        for (to, byte) in text.iter_mut().zip(&written) {
            *to = *byte;
        }
        Self { peer: *peer, local: None, text, len: len as u8 }
    }

    /// The same, connected to `local`.
    #[must_use]
    pub fn with_local(self, local: Option<SocketAddr>) -> Self {
        Self { local, ..self }
    }

    /// Where it connected to; `None` if nobody asked or on a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The address as text, IPv6 without brackets.
    pub fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The IP address, unless the peer is on a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        self.peer.ip().map(|ip| ip.to_canonical())
    }

    /// The peer's port; 0 on a Unix socket.
    pub fn port(&self) -> u16 {
        match self.peer {
            Peer::Ip(address) => address.port(),
            Peer::Unix => 0,
        }
    }
}
