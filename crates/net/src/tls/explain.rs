//! Why there is no TLS connection, in words that say who is to blame and what to mend.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::HandshakeError;

impl HandshakeError {
    /// The certificate of the other side is no good.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self, Self::Refused(Error::InvalidCertificate(_)))
    }

    /// What an operator should know of a handshake with an upstream that failed.
    #[must_use]
    pub fn explain_upstream(&self) -> String {
        match self {
            Self::Closed(_) => "the upstream ended the connection during the handshake".to_owned(),
            Self::PlainHttp(_) => "the upstream speaks plain HTTP here".to_owned(),
            Self::UnknownName(name) => {
                let name = name.as_deref().unwrap_or_default();
                format!("{name:?} is no name that a certificate could have; set `server_name`")
            }
            Self::Refused(error) => of_upstream(error),
        }
    }
}

/// What an operator should know of a client with which there is no agreement, or no more.
pub(super) fn of_client(error: &Error) -> String {
    let text = match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what the client sent is not TLS"
        }
        Error::NoApplicationProtocol => "the client offers no protocol (ALPN) that is spoken here",
        Error::NoCertificatesPresented => "the client showed no certificate",
        Error::InvalidCertificate(error) => {
            return format!("the client's certificate is refused: {}", certificate(error));
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "the client has no cipher suite in common with the policy and the certificate"
        }
        Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => {
            "the client has no key exchange group in common with the policy"
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "the client has no version of TLS in common with the policy",
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown),
        ) => return format!("the client does not trust the certificate shown to it ({alert:?})"),
        Error::AlertReceived(alert) => return format!("the client gave up ({alert:?})"),
        error => return error.to_string(),
    };
    text.to_owned()
}

/// What an operator should know of an upstream with which there is no agreement, or no more.
pub(super) fn of_upstream(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the upstream does not speak TLS here".to_owned()
        }
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the upstream does not speak this version of HTTP over TLS".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => format!("the upstream wants another client certificate, or one at all: {error}"),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the upstream knows no such server name; set `server_name`".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "the upstream has neither TLS 1.2 nor 1.3".to_owned()
        }
        _ => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "certificate of an unknown authority; name it with `ca_file`".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let (name, names) = (expected.to_str(), names.join(", "));
            format!("certificate name mismatch: asked for {name}, it is for {names}")
        }
        CertificateError::NotValidForName => "certificate name mismatch".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::BadSignature => "certificate with a bad signature".to_owned(),
        _ => format!("bad certificate: {error}"),
    }
}

/// The name in `DnsName("example.com")` or `IpAddress(192.0.2.1)`, as the library tells names.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}
