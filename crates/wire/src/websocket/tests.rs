use super::*;

#[test]
fn rfc6455_1_3_the_example_key() {
    assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(is_websocket_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
    for key in [
        "",
        "==",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBsZSBub25jZQA==",
        "a",
    ] {
        assert!(!is_websocket_key(key.as_bytes()), "{key}");
    }
}

#[test]
fn rfc6455_5_7_the_example_frames() {
    let header = |bytes: &[u8]| parse_frame_header(bytes).unwrap().unwrap();
    let hello = header(b"\x81\x05Hello");
    assert_eq!((hello.fin, hello.opcode, hello.payload_len), (true, Opcode::Text, 5));
    assert_eq!((hello.mask, hello.header_len), (None, 2));

    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let parsed = header(masked);
    let mut payload = masked[parsed.header_len..].to_vec();
    apply_mask(&mut payload, parsed.mask.unwrap(), 0);
    assert_eq!(payload, b"Hello");

    assert!(!header(b"\x01\x03Hel").fin);
    assert_eq!(header(b"\x80\x02lo").opcode, Opcode::Continuation);
    assert_eq!(header(b"\x82\x7e\x01\x00").payload_len, 256);
    assert_eq!(header(b"\x82\x7f\0\0\0\0\0\x01\0\0").payload_len, 65536);
    assert_eq!(header(b"\xc1\x00").reserved, 4);
}

#[test]
fn rfc6455_5_2_broken_headers_are_errors() {
    for (bytes, error) in [
        (b"\x83\x00".as_slice(), FrameError::Opcode),
        (b"\x8b\x00", FrameError::Opcode),
        (b"\x09\x00", FrameError::Control),
        (b"\x89\x7e", FrameError::Control),
        (b"\x82\x7e\x00\x7d", FrameError::Length),
        (b"\x82\x7f\0\0\0\0\0\0\xff\xff", FrameError::Length),
        (b"\x82\x7f\x80\0\0\0\0\0\0\0", FrameError::Length),
    ] {
        assert_eq!(parse_frame_header(bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn headers_are_written_as_they_are_read() {
    for len in [0, 1, 125, 126, 0xffff, 0x1_0000, i64::MAX as u64] {
        let mut out = Vec::new();
        write_frame_header(&mut out, true, Opcode::Binary, len);
        let parsed = parse_frame_header(&out).unwrap().unwrap();
        assert_eq!((parsed.payload_len, parsed.header_len), (len, out.len()));
        assert_eq!((parsed.opcode, parsed.fin, parsed.mask), (Opcode::Binary, true, None));
        assert_eq!(parse_frame_header(&out[..out.len() - 1]), Ok(None));
    }
}

#[test]
fn masking_in_pieces_is_masking_at_once() {
    let payload: Vec<u8> = (0..100).collect();
    let mut whole = payload.clone();
    apply_mask(&mut whole, [1, 2, 3, 4], 0);
    for split in 0..payload.len() {
        let mut pieces = payload.clone();
        let (head, tail) = pieces.split_at_mut(split);
        apply_mask(head, [1, 2, 3, 4], 0);
        apply_mask(tail, [1, 2, 3, 4], split as u64);
        assert_eq!(pieces, whole, "{split}");
    }
}

#[test]
fn the_scanner_finds_the_same_frames_in_any_pieces() {
    let mut stream = b"\x81\x05Hello\x89\x00\x82\x7e\x01\x00".to_vec();
    stream.extend([7; 256]);
    stream.extend(b"\x88\x82\x01\x02\x03\x04ab");
    for size in [1, 2, 3, 7, 100, stream.len()] {
        let mut scanner = FrameScanner::default();
        let (mut headers, mut payload) = (Vec::new(), 0);
        for mut piece in stream.chunks(size) {
            loop {
                match scanner.next(piece).unwrap() {
                    Scanned::Header { consumed, header } => {
                        headers.push((header.opcode, header.payload_len));
                        piece = &piece[consumed..];
                    }
                    Scanned::Payload { consumed } => {
                        payload += consumed;
                        piece = &piece[consumed..];
                    }
                    Scanned::More => break,
                }
            }
        }
        assert!(scanner.between_frames());
        assert_eq!(payload, 5 + 256 + 2);
        assert_eq!(
            headers,
            [(Opcode::Text, 5), (Opcode::Ping, 0), (Opcode::Binary, 256), (Opcode::Close, 2)]
        );
    }
}
