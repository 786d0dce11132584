//! Pings of Ravelin's own, and sockets that are idle or old.

use super::*;

#[test]
fn silent_sides_are_pinged_and_their_pongs_go_no_further() {
    let mut pair = Pair::new("ping_interval = \"300ms\"\npong_timeout = \"5s\"");
    for _ in 0..3 {
        let to_client = pair.client.frame();
        let to_origin = pair.origin.frame();
        assert_eq!((to_client.first, to_origin.first), (PING, PING));
        assert_ne!(to_client.payload, to_origin.payload);
        pair.client.send(PONG, &to_client.payload);
        pair.origin.send(PONG, &to_origin.payload);
    }
    // Nothing of that has reached the other side.
    pair.client.send(TEXT, "hello");
    let frame = loop {
        let frame = pair.origin.frame();
        if frame.first != PING {
            break frame;
        }
    };
    assert_eq!((frame.first, &frame.payload[..]), (TEXT, &b"hello"[..]));
}

#[test]
fn what_comes_around_the_answer_to_a_ping_of_ravelin_passes() {
    let mut pair = Pair::new("ping_interval = \"200ms\"\npong_timeout = \"9s\"");
    let ping = pair.client.frame();
    assert_eq!(ping.first, PING);
    let frames = [(TEXT, &b"before"[..]), (PONG, &ping.payload), (PING, b"x"), (TEXT, b"behind")];
    pair.client.raw(frames.map(|(first, payload)| masked(first, payload)).concat());
    for expected in [(TEXT, &b"before"[..]), (PING, b"x"), (TEXT, b"behind")] {
        let frame = loop {
            let frame = pair.origin.frame();
            if frame.first != PING || frame.payload == b"x" {
                break frame;
            }
        };
        assert_eq!((frame.first, &frame.payload[..]), expected);
    }
}

#[test]
fn pings_and_pongs_of_the_peers_pass() {
    let mut pair = Pair::new("ping_interval = \"1h\"");
    for payload in ["", "12345678", &"x".repeat(125)] {
        pair.client.send(PING, payload);
        pair.origin.expect(PING, payload);
        pair.origin.send(PONG, payload);
        pair.client.expect(PONG, payload);
        pair.origin.send(PING, payload);
        pair.client.expect(PING, payload);
        pair.client.send(PONG, payload);
        pair.origin.expect(PONG, payload);
    }
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let mut pair = Pair::new("ping_interval = \"200ms\"\npong_timeout = \"1s\"");
    assert_eq!(pair.client.frame().first, PING);
    let silent = loop {
        let frame = pair.origin.frame();
        match frame.first {
            PING => pair.origin.send(PONG, &frame.payload),
            _ => break frame,
        }
    };
    assert_eq!(silent.closed(), (1011, "no answer from the client".to_owned()));
    pair.origin.send(CLOSE, status(1011, ""));
    pair.client.expect_close(1011, "no answer from the client");
    pair.client.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=client phase=tunnel cause=timeout"), "{line}");
}

#[test]
fn an_origin_that_answers_no_ping_is_given_up() {
    let mut pair = Pair::new("ping_interval = \"200ms\"\npong_timeout = \"1s\"");
    assert_eq!(pair.origin.frame().first, PING);
    let silent = loop {
        let frame = pair.client.frame();
        match frame.first {
            PING => pair.client.send(PONG, &frame.payload),
            _ => break frame,
        }
    };
    assert_eq!(silent.closed(), (1011, "no answer from the upstream".to_owned()));
    pair.client.send(CLOSE, status(1011, ""));
    pair.client.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=upstream phase=tunnel cause=timeout"), "{line}");
}

#[test]
fn a_ping_never_comes_inside_a_frame() {
    let mut pair = Pair::new("ping_interval = \"200ms\"\npong_timeout = \"5s\"");
    let frame = masked(BINARY, pattern(1000, 2));
    pair.client.raw(&frame[..500]);
    assert_same_bytes(&pair.origin.wire.bytes(500).unwrap(), &frame[..500]);
    // One for the origin is due, and waits.
    assert_eq!(pair.client.frame().first, PING);
    pair.origin.expect_silence();
    pair.client.raw(&frame[500..]);
    assert_same_bytes(&pair.origin.wire.bytes(frame.len() - 500).unwrap(), &frame[500..]);
    assert_eq!(pair.origin.frame().first, PING);
}

#[test]
fn a_client_that_cannot_be_pinged_inside_a_frame_is_not_given_up() {
    let mut pair = Pair::new("ping_interval = \"200ms\"\npong_timeout = \"1s\"");
    let frame = plain(BINARY, pattern(1000, 2));
    pair.origin.raw(&frame[..500]);
    assert_same_bytes(&pair.client.wire.bytes(500).unwrap(), &frame[..500]);
    // A slow origin, which shows so that it is there. What is tested is time that goes by.
    for at in 500..530 {
        std::thread::sleep(Duration::from_millis(100));
        pair.origin.raw(&frame[at..=at]);
        assert_eq!(pair.client.wire.bytes(1).unwrap(), &frame[at..=at]);
    }
    pair.origin.raw(&frame[530..]);
    assert_same_bytes(&pair.client.wire.bytes(frame.len() - 530).unwrap(), &frame[530..]);
    assert_eq!(pair.client.frame().first, PING);
}

#[test]
fn a_socket_on_which_no_frame_passes_is_closed_1001() {
    let mut pair = Pair::new("idle_timeout = \"500ms\"");
    pair.talk();
    pair.client.answer_close(1001, "idle for too long");
    pair.origin.answer_close(1001, "idle for too long");
    pair.client.expect_end();
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=proxy phase=tunnel cause=timeout"), "{line}");
}

#[test]
fn pings_of_ravelin_do_not_keep_an_idle_socket_open() {
    let mut pair =
        Pair::new("idle_timeout = \"1s\"\nping_interval = \"200ms\"\npong_timeout = \"9s\"");
    let mut pings = 0;
    let last = loop {
        let frame = pair.client.frame();
        match frame.first {
            PING => pair.client.send(PONG, &frame.payload),
            _ => break frame,
        }
        pings += 1;
    };
    assert_eq!(last.closed(), (1001, "idle for too long".to_owned()));
    assert!(pings > 0);
}

#[test]
fn frames_keep_a_socket_open_beyond_its_idle_time() {
    let mut pair = Pair::new("idle_timeout = \"2s\"");
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        pair.talk();
        // What is tested is time that goes by.
        std::thread::sleep(Duration::from_millis(100));
    }
    pair.talk();
}

#[test]
fn a_socket_of_its_greatest_age_is_closed_1001() {
    let mut pair = Pair::new("max_age = \"1s\"\nmax_age_jitter = 50");
    let began = std::time::Instant::now();
    pair.client.answer_close(1001, "maximum age reached");
    assert!(began.elapsed() > Duration::from_millis(300), "after {:?}", began.elapsed());
    pair.origin.answer_close(1001, "maximum age reached");
    pair.client.expect_end();
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=proxy phase=tunnel cause=limit"), "{line}");
}
