//! The `Proxy-Status` response field (RFC 9209): what became of a request here, for whoever reads the
//! response.
//!
//! It is written behind those fields of that name that came with the response, so that the list it is
//! part of has Ravelin at its end (RFC 9209 §2).

use config::model;

use crate::balance::Member;
use crate::log::Record;

/// What a site says in `Proxy-Status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyStatus {
    /// `Proxy-Status: ` and who says it.
    lead: Vec<u8>,
    /// It says more of errors than their kind.
    details: bool,
}

impl ProxyStatus {
    /// As the site asks for it; `None` if it does not. `name` is that of the server.
    pub fn compile(asked: model::ProxyStatus, name: &str) -> Option<Self> {
        let details = match asked {
            model::ProxyStatus::Off => return None,
            model::ProxyStatus::On => false,
            model::ProxyStatus::Details => true,
        };
        let mut lead = b"Proxy-Status: ".to_vec();
        match is_token(name) {
            true => lead.extend_from_slice(name.as_bytes()),
            false => string(&mut lead, name),
        }
        Some(Self { lead, details })
    }

    /// The line of a response with `status` that `member` gave.
    pub(crate) fn of_forwarded(&self, member: &Member, status: u16, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.lead);
        next_hop(member, out);
        out.extend_from_slice(b"; received-status=");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// The line of a response with `status` that is made here; nothing if all is well.
    pub(crate) fn of_made(&self, record: &Record<'_>, status: u16, out: &mut Vec<u8>) {
        out.clear();
        let reason = record.ended.reason();
        let error = match reason.map(|reason| reason.error) {
            Some(error) if !error.is_empty() => error,
            _ if status >= 400 => "proxy_internal_response",
            _ => return,
        };
        out.extend_from_slice(&self.lead);
        out.extend_from_slice(b"; error=");
        out.extend_from_slice(error.as_bytes());
        if let Some(member) = record.member {
            next_hop(member, out);
        }
        if let Some(reason) = reason.filter(|_| self.details) {
            out.extend_from_slice(b"; details=");
            string(out, reason.name);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whom it was sent to: host and port, or the path of a socket.
fn next_hop(member: &Member, out: &mut Vec<u8>) {
    let url = &*member.url;
    let hop = match url.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or(rest),
        None => url,
    };
    out.extend_from_slice(b"; next-hop=");
    string(out, hop);
}

/// An `sf-token` (RFC 8941 §3.3.4).
fn is_token(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
    begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte))
}

/// An `sf-string` (RFC 8941 §3.3.3), which has printable ASCII only.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
            ' '..='~' => out.push(letter as u8),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Cause, Ended, Party, Phase};

    fn made(asked: model::ProxyStatus, name: &str, record: &Record<'_>, status: u16) -> String {
        let mut out = b"what was there".to_vec();
        ProxyStatus::compile(asked, name).unwrap().of_made(record, status, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc9209_2_3_an_error_has_its_kind_and_details_only_if_asked() {
        let ended =
            Ended::Failed { by: Party::Upstream, phase: Phase::Connect, cause: Cause::Refused };
        let record = Record { ended, ..Record::default() };
        assert_eq!(
            made(model::ProxyStatus::On, "ravelin", &record, 502),
            "Proxy-Status: ravelin; error=connection_refused\r\n"
        );
        assert_eq!(
            made(model::ProxyStatus::Details, "ravelin", &record, 502),
            "Proxy-Status: ravelin; error=connection_refused; details=\"connect_refused\"\r\n"
        );
    }

    #[test]
    fn what_is_well_says_nothing_and_an_error_of_no_kind_was_made_here() {
        let record = Record::default();
        assert_eq!(made(model::ProxyStatus::On, "ravelin", &record, 200), "");
        assert_eq!(
            made(model::ProxyStatus::On, "ravelin", &record, 404),
            "Proxy-Status: ravelin; error=proxy_internal_response\r\n"
        );
    }

    #[test]
    fn rfc8941_3_3_a_name_that_is_no_token_is_a_string() {
        let name = "My \"edge\" ü";
        let line = made(model::ProxyStatus::On, name, &Record::default(), 404);
        assert!(line.starts_with("Proxy-Status: \"My \\\"edge\\\" ?\"; error="), "{line}");
        assert!(ProxyStatus::compile(model::ProxyStatus::Off, name).is_none());
    }
}
