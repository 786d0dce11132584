//! The host a request is for, in the one form that sites are matched by.
//!
//! Lower-case, one trailing dot removed, IPv6 addresses in their canonical text, the port apart:
//! `EXAMPLE.com.:80` and `example.com` name one site. What a lenient reader could take for another
//! host (user information, list, path, percent-encoding) is refused.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// Longest host name in bytes, without the trailing dot (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 253;

/// A valid host. Most clients name it in its canonical form, which is borrowed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    port: Option<u16>,
}

/// The value is not a host name or IP address with an optional port. The client is at fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError;

impl<'a> Host<'a> {
    /// Parses the value of `Host` or the authority of a target (RFC 9110 §7.2, without user
    /// information).
    ///
    /// # Errors
    /// If the value is empty or is anything but `name[:port]`, `v4[:port]`, `[v6][:port]`. Names are
    /// letters, digits, `-`, `.`, `_` and `~` without empty labels; names in other scripts come as
    /// `xn--` labels.
    pub fn parse(value: &'a [u8]) -> Result<Self, HostError> {
        let parts = split(value)?;
        let name = match parts.name {
            Name::Text(text) => {
                let text = std::str::from_utf8(text).map_err(|_| HostError)?;
                match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    true => Cow::Owned(text.to_ascii_lowercase()),
                    false => Cow::Borrowed(text),
                }
            }
            // So that `[::1]` and `[0:0::1]` are one host.
            Name::V6(address) => Cow::Owned(address.to_string()),
        };
        Ok(Self { name, port: parts.port })
    }

    /// The name, lower-case, without trailing dot; an IPv6 address without brackets.
    #[inline]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if one was given.
    #[inline]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid host")
    }
}

impl std::error::Error for HostError {}

/// Whether [`Host::parse`] would accept `value`.
#[inline]
pub(crate) fn check(value: &[u8]) -> Result<(), HostError> {
    split(value).map(|_| ())
}

struct Parts<'a> {
    name: Name<'a>,
    port: Option<u16>,
}

enum Name<'a> {
    Text(&'a [u8]),
    V6(Ipv6Addr),
}

#[inline]
fn split(value: &[u8]) -> Result<Parts<'_>, HostError> {
    if let Some(bracketed) = value.strip_prefix(b"[") {
        return split_v6(bracketed);
    }
    let end = value.iter().position(|byte| !NAME_BYTES[usize::from(*byte)]);
    let (name, rest) = value.split_at_checked(end.unwrap_or(value.len())).ok_or(HostError)?;
    let empty_label = name.starts_with(b".") || name.windows(2).any(|pair| pair == b"..");
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() || name.len() > NAME_MAX || empty_label {
        return Err(HostError);
    }
    Ok(Parts { name: Name::Text(name), port: port(rest)? })
}

fn split_v6(bracketed: &[u8]) -> Result<Parts<'_>, HostError> {
    let end = memchr::memchr(b']', bracketed).ok_or(HostError)?;
    let (address, rest) = bracketed.split_at_checked(end).ok_or(HostError)?;
    let text = std::str::from_utf8(address).map_err(|_| HostError)?;
    let address: Ipv6Addr = text.parse().map_err(|_| HostError)?;
    let rest = rest.strip_prefix(b"]").ok_or(HostError)?;
    Ok(Parts { name: Name::V6(address), port: port(rest)? })
}

/// What follows the name: nothing, or a colon and a port, which may be empty (RFC 3986 §3.2.3).
#[inline]
fn port(rest: &[u8]) -> Result<Option<u16>, HostError> {
    let digits = match rest {
        [] | [b':'] => return Ok(None),
        [b':', digits @ ..] if digits.len() <= 5 => digits,
        _ => return Err(HostError),
    };
    let mut port: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(HostError);
        }
        port = port.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
    }
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(Some(port)),
        _ => Err(HostError),
    }
}

static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
