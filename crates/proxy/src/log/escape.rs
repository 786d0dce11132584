//! Bytes from the network made safe for a log line: a client can never end a line, close a quoted
//! string, send an escape sequence to a terminal, or have it show text in another order.

use std::net::{IpAddr, Ipv6Addr};

use wire::text::steers;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` for use between double quotes: `"` and `\` get a backslash, everything outside of
/// printable ASCII becomes `\xHH`. Empty becomes `-`.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.push(b'-');
    } else if !append_plain(out, bytes) {
        append_quoted(out, bytes);
    }
}

/// Appends `bytes` with what has to be escaped between double quotes.
#[cold]
fn append_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| !is_plain(byte)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        if let Some((&byte, after)) = tail.split_first() {
            escape(out, byte);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
}

/// Appends `bytes` as the value of a `key=value` field: as it is when it is one plain word, else in
/// quotes. Empty becomes `-`.
pub(super) fn word(out: &mut Vec<u8>, bytes: &[u8]) {
    let blank = bytes.iter().fold(false, |blank, &byte| blank | (byte == b' '));
    if bytes.is_empty() {
        out.push(b'-');
    } else if blank || !append_plain(out, bytes) {
        out.push(b'"');
        quoted(out, bytes);
        out.push(b'"');
    }
}

/// Appends `bytes` as they may stand within a JSON string; what is not UTF-8 becomes U+FFFD.
pub(super) fn json_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if !append_plain(out, bytes) {
        append_escaped(out, bytes);
    }
}

/// Appends `bytes` as they are if nothing in them has to be escaped.
fn append_plain(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let plain = are_plain(bytes);
    if plain {
        out.extend_from_slice(bytes);
    }
    plain
}

/// Nothing in `bytes` has to be escaped. Nearly every text of a line is such a one: eight bytes are
/// looked at at once, without an early end.
#[inline]
pub(super) fn are_plain(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    if let Some(last) = bytes.last_chunk::<8>() {
        words.iter().fold(is_plain_word(*last), |plain, word| plain & is_plain_word(*word))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [low, high] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        is_plain_word((low | high << 32).to_le_bytes())
    } else {
        bytes.iter().all(|byte| is_plain(*byte))
    }
}

/// All of eight bytes are plain: [`is_plain`] of each at once.
#[inline]
fn is_plain_word(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    // A byte below `least`, if none is above 0x7f; exact as far as "is there any" goes.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH;
    let any = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (word & HIGH | below(word, 0x20) | any(b'"') | any(b'\\') | any(0x7f)) == 0
}

/// Appends `bytes` with what has to be escaped.
#[cold]
fn append_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(|c| steers(c) || c == '"' || c == '\\') {
            let (plain, tail) = rest.split_at(at);
            out.extend_from_slice(plain.as_bytes());
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                json_escape(out, c);
            }
            rest = chars.as_str();
        }
        out.extend_from_slice(rest.as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Appends a decimal number. Nearly every number of a line is a small one.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    match small_number(value) {
        Some((digits, len)) => {
            // All four and then fewer: a length that is known makes it one move.
            let end = out.len() + len;
            out.extend_from_slice(&digits);
            out.truncate(end);
        }
        None => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// The digits of a number below ten thousand, and how many of them are meant.
#[inline]
pub(super) fn small_number(value: u64) -> Option<([u8; 4], usize)> {
    let value = u32::try_from(value).ok().filter(|value| *value < 10_000)?;
    let digits = values_of_digits(value);
    // The last one stays, whatever it is.
    let noughts = digits.trailing_zeros().min(24) / 8;
    let digits = (digits | NOUGHTS) >> (noughts * 8);
    Some((digits.to_le_bytes(), 4 - noughts as usize))
}

/// All digits of a number below ten thousand.
#[inline]
pub(super) const fn four_digits(value: u32) -> [u8; 4] {
    (values_of_digits(value) | NOUGHTS).to_le_bytes()
}

/// The digit nought, four times.
const NOUGHTS: u32 = u32::from_le_bytes(*b"0000");

/// The values of the digits of a number below ten thousand, the first one in the lowest byte.
#[inline]
const fn values_of_digits(value: u32) -> u32 {
    let hundreds = value / 100;
    let pairs = hundreds | (value - hundreds * 100) << 16;
    // Both pairs at once: a tenth of a number below a hundred is 103 of its 1024ths.
    let tens = ((pairs * 103) >> 10) & 0x000f_000f;
    tens | (pairs - tens * 10) << 8
}

/// Appends microseconds as seconds with six decimals: `1.002003`.
pub(super) fn seconds(out: &mut Vec<u8>, us: u64) {
    number(out, us / 1_000_000);
    out.push(b'.');
    let mut digits = [b'0'; 6];
    let mut rest = us % 1_000_000;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Appends an address as RFC 5952 writes it; a v4-mapped IPv6 address as IPv4.
pub(super) fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => address_v6(out, ip),
    }
}

fn address_v6(out: &mut Vec<u8>, ip: Ipv6Addr) {
    let segments = ip.segments();
    let (gap_start, gap_len) = longest_zero_run(&segments);
    for (at, &segment) in segments.iter().enumerate() {
        if gap_len >= 2 && at >= gap_start && at < gap_start + gap_len {
            if at == gap_start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if at > 0 && !(gap_len >= 2 && at == gap_start + gap_len) {
            out.push(b':');
        }
        hex(out, segment);
    }
}

/// Start and length of the first longest run of zero segments.
fn longest_zero_run(segments: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut current) = ((0, 0), (0, 0));
    for (at, &segment) in segments.iter().enumerate() {
        current = match (segment, current) {
            (0, (_, 0)) => (at, 1),
            (0, (start, len)) => (start, len + 1),
            _ => (0, 0),
        };
        if current.1 > best.1 {
            best = current;
        }
    }
    best
}

fn hex(out: &mut Vec<u8>, value: u16) {
    let mut started = false;
    for shift in [12, 8, 4, 0] {
        let digit = (value >> shift) & 0xf;
        started |= digit != 0 || shift == 0;
        if started {
            out.push(hex_digit(digit as u8));
        }
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => out.extend_from_slice(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte)]),
    }
}

fn json_escape(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let [high, low] = unit.to_be_bytes();
                out.extend_from_slice(b"\\u");
                out.extend([high >> 4, high, low >> 4, low].map(hex_digit));
            }
        }
    }
}

/// The digit of the low four bits.
const fn hex_digit(value: u8) -> u8 {
    HEX[(value & 0xf) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_quoted_string_cannot_be_closed_or_broken_from_inside() {
        let hostile = b"/a\" 200 0 \"\r\n127.0.0.1 \\ \x1b[31m\x00\xff";
        assert_eq!(
            text(|out| quoted(out, hostile)),
            r#"/a\" 200 0 \"\x0d\x0a127.0.0.1 \\ \x1b[31m\x00\xff"#
        );
        assert_eq!(text(|out| quoted(out, b"")), "-");
    }

    #[test]
    fn a_word_with_a_blank_is_quoted() {
        assert_eq!(text(|out| word(out, b"main")), "main");
        assert_eq!(text(|out| word(out, b"main site")), "\"main site\"");
        assert_eq!(text(|out| word(out, b"a\nb")), "\"a\\x0ab\"");
        assert_eq!(text(|out| word(out, b"")), "-");
    }

    #[test]
    fn json_strings_are_valid_for_any_bytes() {
        assert_eq!(
            text(|out| json_text(out, b"a\"\\\n\t\x01\xc3\xa9\xff\xfe z")),
            "a\\\"\\\\\\n\\t\\u0001\u{e9}\u{fffd}\u{fffd} z"
        );
    }

    #[test]
    fn nothing_in_a_json_string_steers_a_terminal_or_turns_text_around() {
        let hostile = "\u{1b}[2J\u{7f}\u{9b}31m\u{202e}gpj.exe\u{2066}\u{2069}\u{200f}\u{2028}";
        assert_eq!(
            text(|out| json_text(out, hostile.as_bytes())),
            r"\u001b[2J\u007f\u009b31m\u202egpj.exe\u2066\u2069\u200f\u2028"
        );
        let harmless = "\u{a0}\u{e9}\u{5d0}\u{1f600}\u{2027}\u{202f}\u{206a}";
        assert_eq!(text(|out| json_text(out, harmless.as_bytes())), harmless);
    }

    #[test]
    fn a_text_of_any_length_is_the_same_by_the_short_way() {
        for len in 0..70 {
            let plain: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
            assert_eq!(text(|out| json_text(out, &plain)).as_bytes(), plain);
            for at in 0..len {
                for byte in 0..=255 {
                    let mut bytes = plain.clone();
                    bytes[at] = byte;
                    let by_the_long_way = text(|out| append_escaped(out, &bytes));
                    assert_eq!(text(|out| json_text(out, &bytes)), by_the_long_way);
                    let by_the_long_way = text(|out| append_quoted(out, &bytes));
                    assert_eq!(text(|out| quoted(out, &bytes)), by_the_long_way);
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        let around = [99_999, 100_000, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for value in (0..=10_010).chain(around) {
            assert_eq!(text(|out| number(out, value)), value.to_string());
        }
    }

    #[test]
    fn microseconds_are_written_as_seconds() {
        assert_eq!(text(|out| seconds(out, 0)), "0.000000");
        assert_eq!(text(|out| seconds(out, 1_002_003)), "1.002003");
        assert_eq!(text(|out| seconds(out, 61_500_000)), "61.500000");
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for ip in [
            "127.0.0.1",
            "255.1.0.20",
            "::",
            "::1",
            "1::",
            "2001:db8::1",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1::1",
            "fe80::1:0:0:a",
            "1:2:3:4:5:6:7:8",
            "0:0:1:0:0:1:0:0",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(text(|out| address(out, ip)), ip.to_string());
        }
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(text(|out| address(out, mapped)), "10.0.0.1");
    }
}
