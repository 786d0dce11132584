//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who a connection comes from,
//! said by the proxy that passes it on.
//!
//! What always holds: [`parse`] never takes a byte more than the header; what is not a header to the
//! last byte is a [`Fault`] and the connection has to end, because a receiver that expects a header
//! may never take a connection without one.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, with its line end.
pub const V1_MAX: usize = 107;

/// Longest header of version 2 that is taken, its 16 fixed bytes included. What follows the addresses
/// (TLVs) is not needed here; senders use some hundred bytes for it. (CVE-2026-47692)
pub const V2_MAX: usize = 4096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
const TLV_CRC32C: u8 = 0x03;

/// What is at the front of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// Nothing wrong so far; more bytes are needed.
    Partial,
    /// A whole header.
    Header {
        /// Its length in bytes.
        len: usize,
        /// Who connected to whom. `None` if the proxy speaks for itself, or does not know.
        addresses: Option<Addresses>,
    },
}

/// The ends of the connection that is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It begins like neither version.
    NotAHeader,
    /// A line of version 1 that is not as the protocol has it.
    Line,
    /// A version, command, family or length of version 2 that does not exist or does not fit.
    Binary,
    /// It is longer than [`V2_MAX`].
    TooLong,
    /// Its checksum is wrong.
    Checksum,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotAHeader => "no PROXY protocol header",
            Fault::Line => "a malformed PROXY protocol header (version 1)",
            Fault::Binary => "a malformed PROXY protocol header (version 2)",
            Fault::TooLong => "a PROXY protocol header that is too long",
            Fault::Checksum => "a PROXY protocol header with a wrong checksum",
        })
    }
}

impl std::error::Error for Fault {}

/// Reads the header at the front of `buf`.
///
/// # Errors
/// There is none, and there will not be.
pub fn parse(buf: &[u8]) -> Result<Parsed, Fault> {
    if buf.starts_with(V2_SIGNATURE) {
        return parse_v2(buf);
    }
    if buf.starts_with(b"PROXY ") {
        return parse_v1(buf);
    }
    match V2_SIGNATURE.starts_with(buf) || b"PROXY ".starts_with(buf) {
        true => Ok(Parsed::Partial),
        false => Err(Fault::NotAHeader),
    }
}

/// Appends a header of version 1. Addresses of different families go out as IPv6.
pub fn write_v1(out: &mut Vec<u8>, addresses: Option<Addresses>) {
    // Writing to a Vec does not fail.
    let _ = match addresses.map(same_family) {
        None => out.write_all(b"PROXY UNKNOWN\r\n"),
        Some(Addresses { source, destination }) => write!(
            out,
            "PROXY {} {} {} {} {}\r\n",
            if source.is_ipv4() { "TCP4" } else { "TCP6" },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
    };
}

/// Appends a header of version 2.
pub fn write_v2(out: &mut Vec<u8>, addresses: Option<Addresses>) {
    out.extend_from_slice(V2_SIGNATURE);
    let Some(Addresses { source, destination }) = addresses.map(same_family) else {
        out.extend_from_slice(&[0x20, 0x00, 0, 0]); // LOCAL
        return;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&v6(from).octets());
            out.extend_from_slice(&v6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

fn parse_v1(buf: &[u8]) -> Result<Parsed, Fault> {
    let head = buf.get(..V1_MAX).unwrap_or(buf);
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return match head.len() < V1_MAX {
            true => Ok(Parsed::Partial),
            false => Err(Fault::Line),
        };
    };
    let line = head.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Fault::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| Fault::Line)?;
    let mut words = line.split(' ').skip(1);
    let len = end + 1;
    let mut word = || words.next().ok_or(Fault::Line);
    let v4 = match word()? {
        // Whatever else the line says is to be ignored.
        "UNKNOWN" => return Ok(Parsed::Header { len, addresses: None }),
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(Fault::Line),
    };
    let (from, to) = (address(word()?, v4)?, address(word()?, v4)?);
    let (from_port, to_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Fault::Line);
    }
    let source = SocketAddr::new(from, from_port);
    let destination = SocketAddr::new(to, to_port);
    Ok(Parsed::Header { len, addresses: Some(Addresses { source, destination }) })
}

fn address(text: &str, v4: bool) -> Result<IpAddr, Fault> {
    let ip = match v4 {
        true => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        false => text.parse::<Ipv6Addr>().map(IpAddr::V6),
    };
    ip.map_err(|_| Fault::Line)
}

/// Digits without a sign and without leading zeros.
fn port(text: &str) -> Result<u16, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match plain && (text == "0" || !text.starts_with('0')) {
        true => text.parse().map_err(|_| Fault::Line),
        false => Err(Fault::Line),
    }
}

fn parse_v2(buf: &[u8]) -> Result<Parsed, Fault> {
    let Some(&[version_command, family, high, low]) = buf.get(V2_SIGNATURE.len()..V2_FIXED) else {
        // What is there already may be wrong already.
        return match buf.get(V2_SIGNATURE.len()) {
            None | Some(0x20 | 0x21) => Ok(Parsed::Partial),
            Some(_) => Err(Fault::Binary),
        };
    };
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::Binary),
    };
    let len = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > V2_MAX {
        return Err(Fault::TooLong);
    }
    let Some(rest) = buf.get(V2_FIXED..len) else { return Ok(Parsed::Partial) };
    // AF_UNIX and AF_UNSPEC have nothing that could be used.
    let size = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(Fault::Binary),
    };
    let (Some(addresses), Some(tlvs)) = (rest.get(..size), rest.get(size..)) else {
        // A LOCAL header may leave the addresses out.
        return match local {
            true => Ok(Parsed::Header { len, addresses: None }),
            false => Err(Fault::Binary),
        };
    };
    // Nothing is said of what follows addresses that are not specified.
    if !local && size > 0 {
        check_tlvs(buf.get(..len).unwrap_or_default(), tlvs)?;
    }
    let addresses = (!local).then(|| ends(addresses)).flatten();
    Ok(Parsed::Header { len, addresses })
}

fn ends(bytes: &[u8]) -> Option<Addresses> {
    let ip = |at: usize, v4: bool| -> Option<IpAddr> {
        match v4 {
            true => Some(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?.into()),
            false => Some(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?.into()),
        }
    };
    let port = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (v4, each) = match bytes.len() {
        12 => (true, 4),
        36 => (false, 16),
        _ => return None,
    };
    let source = SocketAddr::new(ip(0, v4)?, port(2 * each)?);
    let destination = SocketAddr::new(ip(each, v4)?, port(2 * each + 2)?);
    Some(Addresses { source, destination })
}

/// Each is a type, a length of two bytes and that many bytes; none may reach beyond the header.
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), Fault> {
    while !tlvs.is_empty() {
        let Some(&[kind, high, low]) = tlvs.get(..3) else { return Err(Fault::Binary) };
        let size = usize::from(u16::from_be_bytes([high, low]));
        let value = tlvs.get(3..3 + size).ok_or(Fault::Binary)?;
        if kind == TLV_CRC32C {
            let told: [u8; 4] = value.try_into().map_err(|_| Fault::Binary)?;
            let at = header.len() - tlvs.len() + 3;
            if crc32c(header, at..at + 4) != u32::from_be_bytes(told) {
                return Err(Fault::Checksum);
            }
        }
        tlvs = tlvs.get(3 + size..).unwrap_or_default();
    }
    Ok(())
}

/// CRC-32C (RFC 3720 §12.1) of `bytes`, of which those in `zeroed` count as 0.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let mut crc = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        crc ^= if zeroed.contains(&at) { 0 } else { u32::from(*byte) };
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn same_family(addresses: Addresses) -> Addresses {
    let Addresses { mut source, mut destination } = addresses;
    source.set_ip(source.ip().to_canonical());
    destination.set_ip(destination.ip().to_canonical());
    if source.is_ipv4() != destination.is_ipv4() {
        source.set_ip(v6(source.ip()).into());
        destination.set_ip(v6(destination.ip()).into());
    }
    Addresses { source, destination }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests;
