//! The promises of `fuzz/src/lib.rs` for random bytes and for random messages that look like real
//! ones: no panic, the same result in any pieces, nothing ill-formed accepted.

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, clippy::expect_used)]
mod promises;

/// One of the given byte strings.
fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(choices).prop_map(|text| text.as_bytes().to_vec())
}

/// Parts put together at random, with some bytes changed afterwards.
fn joined(parts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let noise = vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (vec(one_of(parts), 0..24), noise).prop_map(|(parts, noise)| {
        let mut bytes = parts.concat();
        for (at, byte) in noise {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

fn after(
    prefix: &'static [&'static str],
    rest: impl Strategy<Value = Vec<u8>>,
) -> impl Strategy<Value = Vec<u8>> {
    (one_of(prefix), rest).prop_map(|(prefix, rest)| [prefix, rest].concat())
}

const FIELDS: &[&str] = &[
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "X:\t y \r\n",
    "X:\r\n",
    "X: y\n",
    "X: y\r\n z\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    ":",
    " ",
    "a",
    "\0",
    "\u{80}",
];

const FRAMES: &[&[u8]] = &[
    b"\x81\x05Hello",
    b"\x01\x03Hel",
    b"\x80\x02lo",
    b"\x00\x00",
    b"\x89\x01p",
    b"\x8a\x00",
    b"\xc1\x01x",
    b"\x82\x7e\x00\x7e",
    b"\x88\x02\x03\xe8",
    b"\x88\x00",
    b"\x81\x85abcdHello",
    b"\x01\x80abcd",
    b"\x80\x81abcdx",
    b"\x89\x80abcd",
    b"\x88\x82aaaa\x62\x89",
    b"\x82\x7f\0\0\0\0",
    b"\x83\x00",
    b"\xff",
];

const PROXY_WORDS: &[&str] = &[
    "192.0.2.1",
    "198.51.100.255 ",
    "2001:db8::1 ",
    "::ffff:192.0.2.1 ",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ",
    "0",
    "65535",
    " 443",
    " ",
    "\r\n",
    "\r",
    "\n",
    "\0",
    "+",
    "\u{80}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_break_no_promise(data in vec(any::<u8>(), 0..200)) {
        promises::request_head(&data);
        promises::response_head(&data);
        promises::chunked(&data);
        promises::target(&data);
        promises::proxy_protocol(&data);
        promises::websocket(&data);
    }

    #[test]
    fn request_heads_hold_their_promises(
        data in after(
            &["GET / HTTP/1.1\r\nHost: a\r\n", "POST /a?b HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "\r\nPUT http://b/ HTTP/1.1\r\n", "G"],
            joined(FIELDS),
        ),
    ) {
        promises::request_head(&data);
    }

    #[test]
    fn response_heads_hold_their_promises(
        data in after(
            &["\0HTTP/1.1 200 OK\r\n", "\u{1}HTTP/1.1 200 OK\r\n", "\0HTTP/1.0 404\r\n", "\0HTTP/1.1 204 \r\n", "\0HTTP/1.1 101 x\r\n", "\0"],
            joined(FIELDS),
        ),
    ) {
        promises::response_head(&data);
    }

    #[test]
    fn chunked_bodies_hold_their_promises(
        data in after(
            &["\u{1}", "\u{2}", "\u{7}"],
            joined(&[
                "1\r\nx\r\n", "5\r\nhello\r\n", "a;b=c\r\n0123456789\r\n", "0\r\n", "0\r\n\r\n", "X-A: b\r\n", "Host: a\r\n", "\r\n", "\r", "\n",
                ";", " ", "0", "f", ": ", "7fffffffffffffff\r\n",
            ]),
        ),
    ) {
        promises::chunked(&data);
    }

    #[test]
    fn targets_hold_their_promises(
        data in joined(&[
            "/", "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5C", "%00", "%", "%41", "%c3%A4", "%C0%AF", ";", "%3b", "a", "~", "|", "?", "#", "\\",
            "http://", "h", ":80", "@", "[::1]", "*", "bytes=", "1-2", ",", "-",
        ]),
    ) {
        promises::target(&data);
        let mut path = b"/".to_vec();
        path.extend_from_slice(&data);
        promises::target(&path);
    }

    #[test]
    fn websockets_hold_their_promises(
        rules in 0_u8..16,
        size in 1_u8..40,
        frames in vec(prop::sample::select(FRAMES), 0..12),
    ) {
        promises::websocket(&[&[rules, size][..], &frames.concat()].concat());
    }

    #[test]
    fn proxy_headers_of_version_1_hold_their_promises(
        data in after(
            &["PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2", "PROXY "],
            joined(PROXY_WORDS),
        ),
    ) {
        promises::proxy_protocol(&data);
    }

    #[test]
    fn proxy_headers_of_version_2_hold_their_promises(
        command in prop::sample::select(&[0x20, 0x21, 0x11, 0x22][..]),
        family in prop::sample::select(&[0x00, 0x11, 0x12, 0x21, 0x31, 0x13][..]),
        length in prop_oneof![0_u16..64, 200_u16..260, 4070_u16..4090, any::<u16>()],
        rest in vec(prop_oneof![0_u8..5, any::<u8>()], 0..300),
    ) {
        let [high, low] = length.to_be_bytes();
        let fixed = [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, high, low][..]].concat();
        promises::proxy_protocol(&[fixed, rest].concat());
    }
}
