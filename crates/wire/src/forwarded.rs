//! Who the client is, and telling the upstream.
//!
//! `X-Forwarded-For` is written by whoever likes to. What can be trusted is the address of the peer,
//! and, if that peer is a trusted proxy, what it appended: so the list is read from the right until
//! the first address that is not a trusted proxy's.

use std::net::{IpAddr, Ipv6Addr};

use crate::token;

/// The client's address: the right-most one that is not from a trusted proxy.
///
/// `fields` are the values of `X-Forwarded-For` in the order of the head. With an untrusted peer they
/// are not looked at. An element that is not an address ends the search at the last address that was
/// vouched for. IPv4 addresses mapped into IPv6 count as IPv4, for `trusted` as well.
pub fn client_address<'a>(
    peer: IpAddr,
    fields: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted(client) {
        return client;
    }
    for element in fields.rev().flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let Some(address) = parse_address(token::trim(element)) else { return client };
        client = address;
        if !trusted(client) {
            return client;
        }
    }
    client
}

/// An address as proxies write it into `X-Forwarded-For`: `192.0.2.1`, `192.0.2.1:4711`,
/// `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address: IpAddr = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        IpAddr::V6(address.parse().ok()?)
    } else {
        match text.split_once(':') {
            Some((v4, port)) if !port.contains(':') => {
                IpAddr::V4(v4.parse().ok().filter(|_| is_port(port))?)
            }
            _ => text.parse().ok()?,
        }
    };
    Some(address.to_canonical())
}

fn is_port(text: &str) -> bool {
    matches!(text.len(), 1..=5) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Appends one `Forwarded` element (RFC 7239 §4), `for=...;host=...;proto=...`. A client without an
/// address is `unknown` (§6.2). `proto` is a token, `http` or `https`; `host` is a value that [`crate::host::Host::parse`] accepts,
/// or empty to leave it out.
pub fn write_forwarded(out: &mut Vec<u8>, for_: Option<IpAddr>, proto: &str, host: &[u8]) {
    out.extend_from_slice(b"for=");
    match for_ {
        Some(address) => write_node(out, address),
        None => out.extend_from_slice(b"unknown"),
    }
    if !host.is_empty() {
        out.extend_from_slice(b";host=");
        write_value(out, host);
    }
    out.extend_from_slice(b";proto=");
    write_value(out, proto.as_bytes());
}

/// An address as RFC 7239 §6 writes it: IPv6 in brackets and therefore quoted.
fn write_node(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(_) => write_ip(out, address),
        IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            write_ip(out, address);
            out.extend_from_slice(b"]\"");
        }
    }
}

/// A token as it is, anything else as a quoted string without the bytes a field value cannot hold.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    if token::is_token(value) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    let is_escaped = |byte: u8| matches!(byte, b'"' | b'\\');
    match value.iter().all(|byte| token::is_value_byte(*byte) && !is_escaped(*byte)) {
        true => out.extend_from_slice(value),
        false => {
            for byte in value.iter().filter(|byte| token::is_value_byte(**byte)) {
                if is_escaped(*byte) {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
        }
    }
    out.push(b'"');
}

/// Appends the text of an address, IPv4-mapped addresses as IPv4. The same text as `Display` gives,
/// without formatting machinery: it is written for every request.
pub fn write_ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                write_octet(out, octet);
            }
        }
        IpAddr::V6(v6) => write_v6(out, v6),
    }
}

fn write_octet(out: &mut Vec<u8>, octet: u8) {
    if octet >= 100 {
        out.push(b'0' + octet / 100);
    }
    if octet >= 10 {
        out.push(b'0' + octet / 10 % 10);
    }
    out.push(b'0' + octet % 10);
}

/// RFC 5952: the longest run of at least two zero groups, the first of equals, becomes `::`.
fn write_v6(out: &mut Vec<u8>, address: Ipv6Addr) {
    let groups = address.segments();
    let (mut longest, mut run) = (0..0, 0..0);
    for (at, group) in groups.iter().enumerate() {
        run = if *group == 0 { run.start..at + 1 } else { at + 1..at + 1 };
        if run.len() > longest.len() {
            longest = run.clone();
        }
    }
    if longest.len() < 2 {
        longest = groups.len()..groups.len();
    }
    for (at, group) in groups.iter().enumerate() {
        if longest.contains(&at) {
            if at == longest.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if at > 0 && at != longest.end {
            out.push(b':');
        }
        write_group(out, *group);
    }
}

fn write_group(out: &mut Vec<u8>, group: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = [group >> 12, group >> 8 & 15, group >> 4 & 15, group & 15];
    let first = digits.iter().position(|digit| *digit != 0).unwrap_or(digits.len() - 1);
    out.extend(digits.iter().skip(first).map(|digit| DIGITS[usize::from(digit & 15)]));
}

#[cfg(test)]
mod tests;
