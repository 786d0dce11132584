use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client(peer: &str, fields: &[&str], trusted: &[&str]) -> IpAddr {
    let fields = fields.iter().map(|value| value.as_bytes());
    client_address(ip(peer), fields, |address| trusted.iter().any(|t| ip(t) == address))
}

#[test]
fn the_client_is_the_right_most_untrusted_address() {
    for (peer, fields, trusted, expected) in [
        ("192.0.2.9", &["1.1.1.1"][..], &[][..], "192.0.2.9"),
        ("10.0.0.1", &["1.1.1.1, 2.2.2.2"], &["10.0.0.1"], "2.2.2.2"),
        ("10.0.0.1", &["1.1.1.1, 2.2.2.2, 10.0.0.2"], &["10.0.0.1", "10.0.0.2"], "2.2.2.2"),
        ("10.0.0.1", &["1.1.1.1", "2.2.2.2"], &["10.0.0.1"], "2.2.2.2"),
        ("10.0.0.1", &["1.1.1.1", "10.0.0.2"], &["10.0.0.1", "10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", &["10.0.0.3,10.0.0.2"], &["10.0.0.1", "10.0.0.2", "10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", &[], &["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", &["2.2.2.2, unknown"], &["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", &["2.2.2.2,"], &["10.0.0.1"], "10.0.0.1"),
        ("10.0.0.1", &["x, 10.0.0.2"], &["10.0.0.1", "10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["2.2.2.2:99"], &["10.0.0.1"], "2.2.2.2"),
        ("10.0.0.1", &["[2001:db8::1]:99"], &["10.0.0.1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", &["::ffff:2.2.2.2"], &["10.0.0.1"], "2.2.2.2"),
    ] {
        assert_eq!(client(peer, fields, trusted), ip(expected), "{peer} {fields:?} {trusted:?}");
    }
}

#[test]
fn what_is_not_an_address() {
    for text in [
        "",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:x",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "::1]",
        "\u{e4}",
    ] {
        assert_eq!(parse_address(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn rfc7239_4_elements() {
    for (address, proto, host, expected) in [
        (Some("192.0.2.60"), "http", "example.com", "for=192.0.2.60;host=example.com;proto=http"),
        (
            Some("2001:db8:cafe::17"),
            "https",
            "a:8080",
            "for=\"[2001:db8:cafe::17]\";host=\"a:8080\";proto=https",
        ),
        (Some("::ffff:192.0.2.1"), "http", "", "for=192.0.2.1;proto=http"),
        (None, "http", "", "for=unknown;proto=http"),
        (Some("192.0.2.1"), "http", "a\"b\r\n\\", "for=192.0.2.1;host=\"a\\\"b\\\\\";proto=http"),
    ] {
        let mut out = Vec::new();
        write_forwarded(&mut out, address.map(ip), proto, host.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

proptest! {
    #[test]
    fn addresses_are_written_as_the_standard_library_does(
        v4 in any::<[u8; 4]>(),
        v6 in prop::array::uniform8(prop_oneof![Just(0u16), any::<u16>()]),
    ) {
        for address in [IpAddr::V4(Ipv4Addr::from(v4)), IpAddr::V6(Ipv6Addr::from(v6))] {
            let mut out = Vec::new();
            write_ip(&mut out, address);
            prop_assert_eq!(String::from_utf8(out).unwrap(), address.to_canonical().to_string());
        }
    }
}
