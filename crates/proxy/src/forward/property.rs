//! What of a request decides where it goes, for methods that hash.

use std::net::IpAddr;

use config::model::HashKey;
use wire::field::FieldId;

use crate::exchange::Inbound;

/// The property of a request that its endpoint depends on.
pub(super) fn property(inbound: &Inbound<'_>, key: &HashKey) -> Vec<u8> {
    match key {
        HashKey::ClientAddress | HashKey::ClientNetwork => match inbound.client_ip() {
            Some(IpAddr::V4(ip)) if *key == HashKey::ClientNetwork => {
                ip.octets().get(..3).unwrap_or_default().to_vec()
            }
            Some(IpAddr::V4(ip)) => ip.octets().to_vec(),
            Some(IpAddr::V6(ip)) => ip.octets().to_vec(),
            None => Vec::new(),
        },
        HashKey::Uri => {
            let query = inbound.target.query.unwrap_or_default();
            [&inbound.target.path, &b"?"[..], query].concat()
        }
        HashKey::Header(name) => {
            let fields = inbound.head.fields.iter();
            let mut named = fields
                .filter(|field| field.name.of(inbound.bytes).eq_ignore_ascii_case(name.as_bytes()));
            named.next().map(|field| field.value.of(inbound.bytes).to_vec()).unwrap_or_default()
        }
        HashKey::Cookie(name) => cookie(inbound, name.as_bytes()).unwrap_or_default().to_vec(),
    }
}

/// The values of the `Cookie` fields.
pub(super) fn cookies<'a>(inbound: &Inbound<'a>) -> impl Iterator<Item = &'a [u8]> {
    let bytes = inbound.bytes;
    let fields = inbound.head.fields.iter().filter(|field| field.id == FieldId::Cookie);
    fields.map(move |field| field.value.of(bytes))
}

/// The value of a cookie (RFC 6265 §4.2.1).
fn cookie<'a>(inbound: &Inbound<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = cookies(inbound).flat_map(|value| value.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}
