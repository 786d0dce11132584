use super::*;

type Decoded = (Vec<u8>, usize, Vec<u8>);

/// Decodes `input` fed in pieces of `size`: payload, bytes consumed, trailers.
fn decode(input: &[u8], size: usize) -> Result<Decoded, BodyError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut payload, mut total) = (Vec::new(), 0);
    for mut piece in input.chunks(size) {
        loop {
            let found = decoder.next(piece)?;
            payload.extend_from_slice(&piece[found.payload]);
            total += found.consumed;
            piece = &piece[found.consumed..];
            if found.done || found.consumed == 0 {
                break;
            }
        }
    }
    decoder.finish_eof()?;
    Ok((payload, total, decoder.trailers().to_vec()))
}

fn every_way(input: &str) -> Result<Decoded, BodyError> {
    let whole = decode(input.as_bytes(), usize::MAX);
    for size in [1, 2, 3, 5] {
        assert_eq!(decode(input.as_bytes(), size), whole, "{input:?} in pieces of {size}");
    }
    whole
}

fn payload(input: &str) -> String {
    let (payload, consumed, _) = every_way(input).unwrap_or_else(|e| panic!("{input:?}: {e}"));
    assert_eq!(consumed, input.len(), "{input:?}");
    String::from_utf8(payload).unwrap()
}

#[track_caller]
fn refused(input: &str, error: BodyError) {
    assert_eq!(every_way(input), Err(error), "{input:?}");
}

#[test]
fn rfc9112_7_1_chunks() {
    for (input, expected) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n\r\n", "01234567890123456789"),
        ("0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", "x"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ] {
        assert_eq!(payload(input), expected);
    }
}

#[test]
fn a_small_body_is_one_piece() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let piece = decoder.next(b"5\r\nhello\r\n0\r\n\r\nGET").unwrap();
    assert_eq!(piece, Piece { consumed: 15, payload: 3..8, done: true });
    assert_eq!(decoder.next(b"GET").unwrap(), Piece { consumed: 0, payload: 0..0, done: true });
}

#[test]
fn rfc9112_7_1_1_chunk_extensions_are_skipped() {
    for input in [
        "1;a\r\nx\r\n0\r\n\r\n",
        "1;a=b;c=\"d;e\"\r\nx\r\n0;f\r\n\r\n",
        "1 ; a\r\nx\r\n0\r\n\r\n",
        "1\t;\t\r\nx\r\n0;\r\n\r\n",
    ] {
        assert_eq!(payload(input), "x");
    }
}

#[test]
fn cve_2023_39326_chunk_extensions_share_one_small_budget() {
    let half = "e".repeat(usize::from(CHUNK_EXTENSION_BYTES_MAX) / 2 - 1);
    assert_eq!(payload(&format!("1;{half}\r\nx\r\n0;{half}\r\n\r\n")), "x");
    refused(&format!("1;{half}\r\nx\r\n0;{half}e\r\n\r\n"), BodyError::ChunkExtensionsTooLarge);
    refused(&format!("1;{}", "e".repeat(300)), BodyError::ChunkExtensionsTooLarge);
    refused(&format!("1{}", " ".repeat(300)), BodyError::ChunkExtensionsTooLarge);
}

#[test]
fn cve_2025_22871_bare_line_feeds_are_refused() {
    for input in [
        "1\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\r\n0\n\r\n",
        "1\r\nx\r\n0\r\n\n",
        "1;a\nx\r\n0\r\n\r\n",
        "1;a\rb\r\nx\r\n0\r\n\r\n",
        "1\rx\r\n0\r\n\r\n",
        "0\r\na: b\n\r\n",
        "0\r\n\rx",
    ] {
        refused(input, BodyError::LineEnd);
    }
}

#[test]
fn cve_2025_58056_a_chunk_must_be_followed_by_crlf() {
    for input in
        ["1\r\nxx\r\n0\r\n\r\n", "1\r\nx0\r\n\r\n", "1\r\nx\r0\r\n\r\n", "5\r\nhello0\r\n\r\n"]
    {
        refused(input, BodyError::LineEnd);
    }
}

#[test]
fn chunk_sizes_are_1_to_16_hexadecimal_digits_below_2_to_the_63() {
    for size in [
        "",
        ";a",
        "0x5",
        "5_0",
        "_5",
        "+5",
        "-5",
        " 5",
        "g",
        "5g",
        "5,5",
        "\u{ff15}",
        "00000000000000001",
        "10000000000000000",
        "ffffffffffffffff",
        "8000000000000000",
        "fffffffffffffffff",
        "\r\n5",
    ] {
        refused(&format!("{size}\r\nhello\r\n0\r\n\r\n"), BodyError::ChunkSize);
    }
    for line in ["5 ", "5 6", "5\t", "5 \t x"] {
        refused(&format!("{line}\r\nhello\r\n0\r\n\r\n"), BodyError::ChunkExtension);
    }
    refused("1;a\0\r\n", BodyError::ChunkExtension);
}

#[test]
fn rustsec_2026_0181_the_largest_chunk_size_does_not_overflow() {
    refused("7fffffffffffffff\r\nhello", BodyError::Truncated);
    refused("fffffffffffffffe\r\nhello", BodyError::ChunkSize);
}

#[test]
fn a_body_that_breaks_off_is_never_a_clean_end() {
    let whole = "5;e\r\nhello\r\n0\r\na: b\r\n\r\n";
    for end in 0..whole.len() {
        refused(&whole[..end], BodyError::Truncated);
    }
    assert_eq!(payload(whole), "hello");
}

#[test]
fn what_follows_the_body_is_left_for_the_next_message() {
    let (payload, consumed, _) = every_way("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n").unwrap();
    assert_eq!((payload.as_slice(), consumed), (b"x".as_slice(), 11));
}

#[test]
fn an_error_is_final() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.next(b"x"), Err(BodyError::ChunkSize));
    assert_eq!(decoder.next(b"0\r\n\r\n"), Err(BodyError::ChunkSize));
    assert_eq!(decoder.finish_eof(), Err(BodyError::ChunkSize));
    assert!(!decoder.is_done());
}

#[test]
fn rfc9110_6_5_1_trailers_that_matter_to_the_head_are_dropped() {
    let trailers = |section: &str| {
        let (_, _, trailers) = every_way(&format!("0\r\n{section}\r\n")).unwrap();
        String::from_utf8(trailers).unwrap()
    };
    assert_eq!(
        trailers("Grpc-Status:0\r\nX-Sum: \t a b\t\r\nETag: \"x\"\r\nempty:\r\n"),
        "Grpc-Status: 0\r\nX-Sum: a b\r\nETag: \"x\"\r\nempty: \r\n"
    );
    for name in [
        "Transfer-Encoding",
        "Content-Length",
        "Host",
        "Connection",
        "Trailer",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Content-Type",
        "Content-MD5",
        "X-Forwarded-For",
        "X-Real-IP",
        "Forwarded",
        "Proxy-Authorization",
        "Proxy-Anything",
        "WWW-Authenticate",
        "Cache-Control",
        "Range",
        "Expect",
        "TE",
        "Age",
        "Expires",
        "Location",
        "content_length",
        "X_Forwarded_For",
        "Sec-WebSocket-Key",
        "Proxy",
        "Access-Control-Allow-Origin",
        "X-Request-ID",
    ] {
        assert_eq!(
            trailers(&format!("a: 1\r\n{name}: x\r\nb: 2\r\n")),
            "a: 1\r\nb: 2\r\n",
            "{name}"
        );
    }
}

#[test]
fn malformed_trailers_are_refused() {
    for line in [
        ": a",
        "a",
        "a : b",
        " a: b",
        "a: b\r\n folded",
        "\ta: b",
        "a: b\0",
        "a: \rb",
        "ä: b",
        "a\u{b}: b",
    ] {
        refused(&format!("0\r\n{line}\r\n\r\n"), BodyError::Trailer);
    }
}

#[test]
fn trailers_are_bounded() {
    let many = "a: b\r\n".repeat(TRAILER_FIELDS_MAX);
    assert!(every_way(&format!("0\r\n{many}\r\n")).is_ok());
    refused(&format!("0\r\n{many}a: b\r\n\r\n"), BodyError::TrailersTooLarge);
    let dropped = "host: b\r\n".repeat(TRAILER_FIELDS_MAX + 1);
    refused(&format!("0\r\n{dropped}\r\n"), BodyError::TrailersTooLarge);
    let long = "a".repeat(TRAILER_BYTES_MAX + 1);
    refused(&format!("0\r\n{long}"), BodyError::TrailersTooLarge);
    refused(&format!("0\r\na: {long}\r\n\r\n"), BodyError::TrailersTooLarge);
}

#[test]
fn bodies_by_length() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    assert_eq!(decoder.next(b"ab").unwrap(), Piece { consumed: 2, payload: 0..2, done: false });
    assert_eq!((decoder.remaining(), decoder.finish_eof()), (Some(3), Err(BodyError::Truncated)));
    decoder.skip(1);
    assert_eq!(decoder.next(b"cdef").unwrap(), Piece { consumed: 2, payload: 0..2, done: true });
    assert!(decoder.is_done());
    assert_eq!((decoder.remaining(), decoder.finish_eof()), (Some(0), Ok(())));

    let mut moved = BodyDecoder::new(Framing::Length(5));
    moved.skip(5);
    assert!(moved.is_done());
    for empty in [Framing::None, Framing::Length(0)] {
        assert!(BodyDecoder::new(empty).is_done());
    }
}

#[test]
fn bodies_until_close() {
    let mut decoder = BodyDecoder::new(Framing::UntilClose);
    assert_eq!(decoder.next(b"abc").unwrap(), Piece { consumed: 3, payload: 0..3, done: false });
    assert_eq!(decoder.remaining(), None);
    assert_eq!(decoder.finish_eof(), Ok(()));
    assert!(decoder.is_done());
}

#[test]
fn chunk_prefixes() {
    for len in [1, 9, 10, 31, 0x1000, usize::MAX, 0] {
        let mut out = [0; 20];
        assert_eq!(chunk_prefix(len, &mut out), format!("{len:x}\r\n").as_bytes());
    }
}
