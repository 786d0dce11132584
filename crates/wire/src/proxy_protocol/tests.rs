use proptest::prelude::*;

use super::*;

fn ends_of(source: &str, destination: &str) -> Option<Addresses> {
    let parse = |text: &str| text.parse().expect("an address");
    Some(Addresses { source: parse(source), destination: parse(destination) })
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend((rest.len() as u16).to_be_bytes());
    header.extend(rest);
    header
}

#[test]
fn version_1_names_both_ends() {
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / ";
    let addresses = ends_of("192.0.2.1:56324", "198.51.100.2:443");
    assert_eq!(parse(line), Ok(Parsed::Header { len: line.len() - 6, addresses }));
    let line = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
    let addresses = ends_of("[2001:db8::1]:1", "[::1]:65535");
    assert_eq!(parse(line), Ok(Parsed::Header { len: line.len(), addresses }));
    for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN what ever 0 0\r\n"] {
        assert_eq!(parse(line), Ok(Parsed::Header { len: line.len(), addresses: None }));
    }
}

#[test]
fn version_1_is_strict() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Fault::Line), "{line:?}");
    }
    assert_eq!(parse(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 107]].concat()), Err(Fault::Line));
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"proxy TCP4", b"\r\n\r\n\0\r\nQUIX"] {
        assert_eq!(parse(other), Err(Fault::NotAHeader), "{other:?}");
    }
}

#[test]
fn version_2_names_both_ends() {
    let header = v2(0x21, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb]);
    let addresses = ends_of("192.0.2.1:56324", "198.51.100.2:443");
    assert_eq!(parse(&header), Ok(Parsed::Header { len: header.len(), addresses }));
    for (command, family, rest) in [
        (0x20, 0x00, &[][..]),
        (0x20, 0x11, &[]),
        (0x20, 0x00, &[1, 2, 3]),
        (0x21, 0x00, &[9; 5]),
        (0x21, 0x31, &[0; 216]),
    ] {
        let header = v2(command, family, rest);
        let expected = Parsed::Header { len: header.len(), addresses: None };
        assert_eq!(parse(&header), Ok(expected), "{command:#x} {family:#x}");
    }
}

#[test]
fn version_2_is_strict() {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    for (command, family, rest) in [
        (0x11, 0x11, addresses.to_vec()),
        (0x22, 0x11, addresses.to_vec()),
        (0x21, 0x13, addresses.to_vec()),
        (0x21, 0x41, addresses.to_vec()),
        (0x21, 0x11, addresses[..11].to_vec()),
        (0x21, 0x21, addresses.to_vec()),
    ] {
        let header = v2(command, family, &rest);
        assert_eq!(parse(&header), Err(Fault::Binary), "{command:#x} {family:#x}");
    }
}

#[test]
fn cve_2026_47692_tlvs_stay_inside_the_header() {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    let with = |tlvs: &[u8]| v2(0x21, 0x11, &[&addresses, tlvs].concat());
    assert!(parse(&with(&[0x01, 0, 2, b'h', b'2', 0x04, 0, 0])).is_ok());
    for tlvs in [&[0x01][..], &[0x01, 0], &[0x01, 0, 3, b'h', b'2'], &[0x04, 0xff, 0xff]] {
        assert_eq!(parse(&with(tlvs)), Err(Fault::Binary), "{tlvs:?}");
    }
    let mut long = with(&[]);
    long[14] = 0xff;
    assert_eq!(parse(&long), Err(Fault::TooLong));
}

#[test]
fn a_checksum_that_is_there_has_to_be_right() {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 1, 0xbb];
    let mut header = v2(0x21, 0x11, &[&addresses[..], &[TLV_CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    let at = header.len() - 4;
    let sum = crc32c(&header, at..at + 4);
    header[at..].copy_from_slice(&sum.to_be_bytes());
    assert!(parse(&header).is_ok());
    header[at] ^= 1;
    assert_eq!(parse(&header), Err(Fault::Checksum));
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
}

proptest! {
    #[test]
    fn what_is_written_is_read_whole_and_no_sooner(
        from: [u8; 16], to: [u8; 16], v4: bool, ports: (u16, u16), version_1: bool,
    ) {
        let ip = |bytes: [u8; 16]| match v4 {
            true => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
            false => IpAddr::from(bytes).to_canonical(),
        };
        let ends = same_family(Addresses {
            source: SocketAddr::new(ip(from), ports.0),
            destination: SocketAddr::new(ip(to), ports.1),
        });
        let mut header = Vec::new();
        match version_1 {
            true => write_v1(&mut header, Some(ends)),
            false => write_v2(&mut header, Some(ends)),
        }
        for end in 0..header.len() {
            prop_assert_eq!(parse(&header[..end]), Ok(Parsed::Partial));
        }
        let len = header.len();
        header.extend(b"more");
        prop_assert_eq!(parse(&header), Ok(Parsed::Header { len, addresses: Some(ends) }));
    }

    #[test]
    fn nothing_panics_and_nothing_is_longer_than_allowed(
        signed: bool, bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let input = match signed {
            true => [V2_SIGNATURE, &bytes[..]].concat(),
            false => [b"PROXY ", &bytes[..]].concat(),
        };
        if let Ok(Parsed::Header { len, .. }) = parse(&input) {
            prop_assert!(len <= input.len() && len <= V2_MAX);
        }
    }
}
