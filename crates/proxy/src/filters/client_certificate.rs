//! What the upstream is told about the client's certificate.
//!
//! What always holds: at a site that asks clients for certificates these fields say what the
//! handshake verified and nothing else; what a client sends under their names, there or at another
//! site of the same configuration, never reaches an upstream, in whatever spelling.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::tls::{ClientCertificate, Facts};

/// The fields. `Client-Cert` is that of RFC 9440, the others are what applications behind nginx and
/// HAProxy usually read. `Client-Cert-Chain` is not sent, but upstreams that know RFC 9440 believe it
/// (§4).
pub const CLIENT_CERTIFICATE_FIELDS: &[&str] = &[
    "X-SSL-Client-Verify",
    "X-SSL-Client-S-DN",
    "X-SSL-Client-I-DN",
    "X-SSL-Client-Serial",
    "X-SSL-Client-SHA256",
    "Client-Cert",
    "Client-Cert-Chain",
];

/// The field lines for a connection; made once for all its requests.
pub fn client_certificate_lines(facts: &Facts) -> Vec<u8> {
    let mut lines = Vec::new();
    let Some(certificate) = &facts.client else {
        line(&mut lines, "X-SSL-Client-Verify", "NONE");
        return lines;
    };
    let ClientCertificate { subject, issuer, serial, fingerprint, der, .. } = &**certificate;
    for (name, value) in [
        ("X-SSL-Client-Verify", "SUCCESS"),
        ("X-SSL-Client-S-DN", subject),
        ("X-SSL-Client-I-DN", issuer),
        ("X-SSL-Client-Serial", serial),
        ("X-SSL-Client-SHA256", fingerprint),
    ] {
        line(&mut lines, name, value);
    }
    line(&mut lines, "Client-Cert", &format!(":{}:", STANDARD.encode(der)));
    lines
}

/// A certificate may hold any character in its names; a field may not (RFC 9110 §5.5).
fn line(lines: &mut Vec<u8>, name: &str, value: &str) {
    let value = value.bytes().map(|byte| if (b' '..=b'~').contains(&byte) { byte } else { b'?' });
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    lines.extend(value);
    lines.extend_from_slice(b"\r\n");
}
