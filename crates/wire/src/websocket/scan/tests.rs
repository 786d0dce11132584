use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SERVER: Rules =
    Rules { sender: Sender::Server, reserved: Reserved::None, message_max: u64::MAX };
const CLIENT: Rules = Rules { sender: Sender::Client, ..SERVER };

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// What passed of data frames.
    passed: Vec<u8>,
    /// After how many such bytes each control frame came, and its payload.
    controls: Vec<(usize, Opcode, Vec<u8>)>,
    /// What was dropped.
    dropped: usize,
    /// What was left to wait for more.
    left: usize,
    fault: Option<Fault>,
}

/// Scans `pieces` one after the other, keeping what was not dealt with.
fn scan<'a>(rules: Rules, allowed: u64, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut scanner = Scanner::new(rules);
    scanner.allow(allowed);
    let mut seen =
        Seen { passed: Vec::new(), controls: Vec::new(), dropped: 0, left: 0, fault: None };
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let used = match scanner.scan(&held) {
                Ok(Step::Pass(count)) => {
                    seen.passed.extend_from_slice(&held[..count]);
                    count
                }
                Ok(Step::Control(header, count)) => {
                    assert!(count <= CONTROL_FRAME_MAX && scanner.between_frames());
                    let payload = Payload::of(&header, &held[..count]).bytes().to_vec();
                    seen.controls.push((seen.passed.len(), header.opcode, payload));
                    count
                }
                Ok(Step::Drop(count)) => {
                    seen.dropped += count;
                    count
                }
                Ok(Step::More) => break,
                Err(fault) => {
                    assert_eq!(scanner.scan(&held), Err(fault), "it is found again");
                    seen.fault = Some(fault);
                    return seen;
                }
            };
            assert!(used > 0 && used <= held.len());
            held.drain(..used);
        }
        assert!(held.len() < CONTROL_FRAME_MAX, "{} bytes are held", held.len());
    }
    seen.left = held.len();
    seen
}

fn whole(rules: Rules, bytes: &[u8]) -> Seen {
    scan(rules, u64::MAX, std::iter::once(bytes))
}

fn fault(rules: Rules, bytes: &[u8]) -> Option<Fault> {
    let seen = whole(rules, bytes);
    assert!(seen.passed.len() < bytes.len() || seen.fault.is_none());
    seen.fault
}

#[test]
fn data_frames_pass_as_they_are_and_control_frames_are_shown() {
    let bytes = b"\x01\x03Hel\x89\x02hi\x80\x02lo\x8a\x00\x82\x7e\x00\x7e";
    let bytes = [&bytes[..], &[9; 126], b"\x88\x05\x03\xe8bye\x81\x01x"].concat();
    let seen = whole(SERVER, &bytes);
    let passed = [b"\x01\x03Hel\x80\x02lo\x82\x7e\x00\x7e", &[9; 126][..]].concat();
    assert_eq!(seen.passed, passed);
    assert_eq!(
        seen.controls,
        [
            (5, Opcode::Ping, b"hi".to_vec()),
            (9, Opcode::Pong, Vec::new()),
            (passed.len(), Opcode::Close, b"\x03\xe8bye".to_vec()),
        ]
    );
    assert_eq!((seen.dropped, seen.left, seen.fault), (3, 0, None));
}

#[test]
fn rfc6455_5_1_a_client_masks_and_a_server_does_not() {
    assert_eq!(fault(CLIENT, b"\x81\x01x"), Some(Fault::Mask));
    assert_eq!(fault(CLIENT, b"\x89\x00"), Some(Fault::Mask));
    assert_eq!(fault(SERVER, b"\x81\x81\0\0\0\0x"), Some(Fault::Mask));
    assert_eq!(fault(SERVER, b"\x88\x80\0\0\0\0"), Some(Fault::Mask));
    assert_eq!(fault(CLIENT, b"\x81\x81\0\0\0\0x"), None);
}

#[test]
fn rfc6455_5_2_reserved_bits_need_an_extension() {
    let with = |reserved| Rules { reserved, ..SERVER };
    for (bytes, deflate) in [
        (b"\xc1\x00".as_slice(), None),
        (b"\x42\x00\x80\x00", None),
        (b"\x41\x00\xc0\x00", Some(Fault::Reserved)),
        (b"\xc9\x00", Some(Fault::Reserved)),
        (b"\xc8\x00", Some(Fault::Reserved)),
        (b"\xe1\x00", Some(Fault::Reserved)),
        (b"\xa1\x00", Some(Fault::Reserved)),
        (b"\x91\x00", Some(Fault::Reserved)),
    ] {
        assert_eq!(fault(with(Reserved::None), bytes), Some(Fault::Reserved), "{bytes:x?}");
        assert_eq!(fault(with(Reserved::Deflate), bytes), deflate, "{bytes:x?}");
        assert_eq!(fault(with(Reserved::Any), bytes), None, "{bytes:x?}");
    }
}

#[test]
fn rfc7692_7_what_the_handshake_agreed_on() {
    for (values, allowed) in [
        (&[][..], Reserved::None),
        (&[""], Reserved::None),
        (&["permessage-deflate"], Reserved::Deflate),
        (
            &["Permessage-Deflate; client_max_window_bits=15 ;server_no_context_takeover"],
            Reserved::Deflate,
        ),
        (&["permessage-deflate, x"], Reserved::Any),
        (&["x", "permessage-deflate"], Reserved::Any),
        (&["permessage-deflate-2"], Reserved::Any),
    ] {
        assert_eq!(
            Reserved::of(values.iter().map(|value| value.as_bytes())),
            allowed,
            "{values:?}"
        );
    }
}

#[test]
fn rfc6455_5_4_fragments_come_in_order() {
    for bytes in [b"\x80\x00".as_slice(), b"\x00\x00", b"\x01\x00\x81\x00", b"\x02\x00\x01\x00"] {
        assert_eq!(fault(SERVER, bytes), Some(Fault::Order), "{bytes:x?}");
    }
    assert_eq!(fault(SERVER, b"\x01\x00\x89\x00\x00\x00\x8a\x00\x80\x00\x82\x00"), None);
    assert_eq!(fault(SERVER, b"\x01\x00\x80\x00\x80\x00"), Some(Fault::Order));
}

#[test]
fn rfc6455_5_2_and_5_5_headers_that_are_none() {
    for (bytes, error) in [
        (b"\x83\x00".as_slice(), FrameError::Opcode),
        (b"\x8f\x00", FrameError::Opcode),
        (b"\x09\x00", FrameError::Control),
        (b"\x89\x7e\x00\x7e", FrameError::Control),
        (b"\x82\x7e\x00\x7d", FrameError::Length),
    ] {
        assert_eq!(fault(SERVER, bytes), Some(Fault::Header(error)), "{bytes:x?}");
    }
}

#[test]
fn a_message_of_just_the_limit_passes_and_one_byte_more_does_not() {
    let rules = Rules { message_max: 10, ..SERVER };
    let frame = |first: u8, len: usize| [&[first, len as u8][..], &vec![b'x'; len]].concat();
    let (text, more, last) = (0x01, 0x00, 0x80);
    for (frames, too_long) in [
        (vec![frame(0x81, 10)], false),
        (vec![frame(0x81, 11)], true),
        (vec![frame(text, 4), frame(more, 4), frame(last, 2)], false),
        (vec![frame(text, 4), frame(more, 4), frame(last, 3)], true),
        (vec![frame(text, 10), frame(more, 0), frame(last, 1)], true),
        // Control frames do not count, and each message is counted anew.
        (vec![frame(text, 10), frame(0x89, 20), frame(last, 0), frame(0x82, 10)], false),
    ] {
        let seen = whole(rules, &frames.concat());
        assert_eq!(seen.fault, too_long.then_some(Fault::TooLong), "{frames:x?}");
        if too_long {
            let before = frames[..frames.len() - 1].concat();
            assert_eq!(seen.passed, before, "nothing of the frame that is too long passes");
        }
    }
    let longest = [b"\x82\x7f".as_slice(), &i64::MAX.to_be_bytes()].concat();
    assert_eq!(fault(rules, &longest), Some(Fault::TooLong));
    assert_eq!(fault(SERVER, &[b"\x02\x01x\x00\x7f", &longest[2..]].concat()), None);
    assert_eq!(fault(Rules { message_max: 0, ..SERVER }, b"\x81\x00\x89\x01a"), None);
}

#[test]
fn rfc6455_7_4_statuses_that_may_be_sent() {
    let close = |status: u16| [b"\x88\x02".as_slice(), &status.to_be_bytes()].concat();
    for status in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 1013, 1014, 3000, 4999] {
        assert_eq!(fault(SERVER, &close(status)), None, "{status}");
    }
    for status in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(fault(SERVER, &close(status)), Some(Fault::CloseStatus), "{status}");
    }
    assert_eq!(fault(SERVER, b"\x88\x01\x03"), Some(Fault::CloseStatus));
    assert_eq!(fault(SERVER, b"\x88\x00"), None);
}

#[test]
fn rfc6455_5_5_1_a_reason_is_utf8_also_when_it_is_masked() {
    let masked = |reason: &[u8]| {
        let mut payload = [b"\x03\xe8", reason].concat();
        let mut frame = vec![0x88, 0x80 | payload.len() as u8, 1, 2, 3, 250];
        apply_mask(&mut payload, [1, 2, 3, 250], 0);
        frame.extend_from_slice(&payload);
        frame
    };
    assert_eq!(fault(CLIENT, &masked("gr\u{fc}n \u{1f600}".as_bytes())), None);
    for reason in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"] {
        assert_eq!(fault(CLIENT, &masked(reason)), Some(Fault::CloseReason), "{reason:x?}");
    }
}

#[test]
fn as_many_messages_begin_as_are_allowed() {
    let bytes = b"\x81\x00\x01\x00\x80\x00\x89\x00\x8a\x00\x82\x00";
    let seen = |allowed| scan(SERVER, allowed, std::iter::once(&bytes[..]));
    assert_eq!(seen(4).fault, None);
    let three = seen(3);
    assert_eq!((three.passed.len(), three.fault), (6, Some(Fault::TooMany)));
    assert_eq!(three.controls.len(), 2);
    let two = seen(2);
    assert_eq!((two.passed.len(), two.controls.len()), (6, 0));
    assert_eq!(seen(0).fault, Some(Fault::TooMany));
    let mut scanner = Scanner::new(SERVER);
    scanner.allow(0);
    assert_eq!(scanner.scan(b"\x81\x00"), Err(Fault::TooMany));
    scanner.allow(2);
    assert_eq!(scanner.scan(b"\x81\x00"), Ok(Step::Pass(2)));
    assert_eq!(scanner.allowed(), 1);
}

/// Frames, most of them in order, now and then with a byte changed.
fn stream(sender: Sender) -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x81u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0x41, 0x83,
    ]);
    let len = prop_oneof![5 => 0usize..8, 1 => 120usize..130, 1 => 65530usize..65540];
    let frame = (first, len, any::<[u8; 4]>()).prop_map(move |(first, len, mask)| {
        let mut frame = vec![first];
        let bit = if sender == Sender::Client { 0x80 } else { 0 };
        let len = if first & 8 != 0 { len.min(125) } else { len };
        match len {
            0..=125 => frame.push(len as u8 | bit),
            126..=0xffff => {
                frame.push(126 | bit);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                frame.push(127 | bit);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        if sender == Sender::Client {
            frame.extend_from_slice(&mask);
        }
        let mut payload = vec![b'a'; len];
        if first & 15 == 8 {
            payload.iter_mut().zip([3, 232]).for_each(|(to, from)| *to = from);
        }
        if sender == Sender::Client {
            apply_mask(&mut payload, mask, 0);
        }
        frame.extend_from_slice(&payload);
        frame
    });
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (vec(frame, 0..8), noise).prop_map(|(frames, noise)| {
        let mut bytes = frames.concat();
        if let (Some((at, byte)), false) = (noise, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_pieces_give_the_same(
        (sender, bytes) in prop_oneof![Just(Sender::Client), Just(Sender::Server)]
            .prop_flat_map(|sender| (Just(sender), stream(sender))),
        deflate in any::<bool>(),
        message_max in prop_oneof![Just(u64::MAX), 0u64..200],
        allowed in prop_oneof![Just(u64::MAX), 0u64..5],
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let reserved = if deflate { Reserved::Deflate } else { Reserved::None };
        let rules = Rules { sender, reserved, message_max };
        let whole = scan(rules, allowed, std::iter::once(&bytes[..]));
        let single = scan(rules, allowed, bytes.chunks(1));
        prop_assert_eq!(&single, &whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        prop_assert_eq!(&scan(rules, allowed, pieces), &whole);
        if whole.fault.is_none() {
            let controls: usize = whole.controls.iter().map(|(.., payload)| {
                payload.len() + if sender == Sender::Client { 6 } else { 2 }
            }).sum();
            prop_assert_eq!(whole.passed.len() + controls + whole.dropped + whole.left, bytes.len());
        }
    }

    #[test]
    fn skipping_a_payload_is_the_same_as_scanning_it(len in 126u64..100_000, cut in 0u64..100_000) {
        let cut = cut.min(len);
        let mut header = Vec::new();
        super::super::write_frame_header(&mut header, true, Opcode::Binary, len);
        let mut scanner = Scanner::new(SERVER);
        prop_assert_eq!(scanner.scan(&header), Ok(Step::Pass(header.len())));
        prop_assert_eq!(scanner.payload_left(), len);
        scanner.skip(cut);
        prop_assert_eq!(scanner.between_frames(), cut == len);
        let rest = vec![0; (len - cut) as usize];
        if !rest.is_empty() {
            prop_assert_eq!(scanner.scan(&rest), Ok(Step::Pass(rest.len())));
        }
        prop_assert!(scanner.between_frames());
    }
}
