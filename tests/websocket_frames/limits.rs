//! How large messages may be, and how many.

use super::*;

const TEN: &str = "client_max_message_size = 10\nserver_max_message_size = 10";
const TOO_LARGE: &str = "message larger than 10 bytes";
const OTHER_TOO_LARGE: &str = "the other side sent a message that is too large";

#[test]
fn a_message_of_just_the_limit_passes_both_ways() {
    let mut pair = Pair::new(TEN);
    pair.talk();
    pair.client.send(TEXT, "0123456789");
    pair.origin.expect(TEXT, "0123456789");
    pair.origin.send(BINARY, "0123456789");
    pair.client.expect(BINARY, "0123456789");
}

#[test]
fn one_byte_more_from_the_client_is_1009_to_it_and_1011_to_the_origin() {
    let mut pair = Pair::new(TEN);
    pair.client.send(TEXT, "0123456789a");
    pair.origin.answer_close(1011, OTHER_TOO_LARGE);
    pair.client.answer_close(1009, TOO_LARGE);
    pair.client.expect_end();
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=client phase=tunnel cause=limit"), "{line}");
}

#[test]
fn one_byte_more_from_the_origin_is_1009_to_it_and_1011_to_the_client() {
    let mut pair = Pair::new(TEN);
    pair.origin.send(BINARY, "0123456789a");
    pair.client.answer_close(1011, OTHER_TOO_LARGE);
    pair.origin.answer_close(1009, TOO_LARGE);
    pair.client.expect_end();
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=upstream phase=tunnel cause=limit"), "{line}");
}

#[test]
fn a_limit_counts_all_fragments_of_a_message_and_each_message_anew() {
    let mut pair = Pair::new(TEN);
    for _ in 0..3 {
        for (first, payload) in
            [(TEXT_BEGINS, "0123"), (PING, "ping"), (GOES_ON, ""), (ENDS, "456789")]
        {
            pair.client.send(first, payload);
            pair.origin.expect(first, payload);
            pair.origin.send(first, payload);
            pair.client.expect(first, payload);
        }
    }
    pair.client.send(TEXT_BEGINS, "0123456789");
    pair.origin.expect(TEXT_BEGINS, "0123456789");
    pair.client.send(ENDS, "a");
    // A close frame may come in the middle of a message.
    pair.origin.answer_close(1011, OTHER_TOO_LARGE);
    pair.client.answer_close(1009, TOO_LARGE);
    pair.client.expect_end();
}

#[test]
fn a_limit_is_for_one_direction() {
    let mut pair = Pair::new("client_max_message_size = 10");
    let long = pattern(100_000, 1);
    pair.origin.send(BINARY, &long);
    pair.client.expect(BINARY, &long);
    let mut pair = Pair::new("server_max_message_size = \"10B\"\nclient_max_message_size = -1");
    pair.client.send(BINARY, &long);
    pair.origin.expect(BINARY, &long);
}

#[test]
fn nothing_of_a_message_that_is_too_large_has_to_be_sent_to_be_refused() {
    let mut pair = Pair::new(TEN);
    // A header that announces 2^62 bytes.
    pair.client.raw([&[BINARY, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0][..], &[1, 2, 3, 4]].concat());
    pair.origin.answer_close(1011, OTHER_TOO_LARGE);
    pair.client.expect_close(1009, TOO_LARGE);
}

#[test]
fn a_client_that_sends_on_still_gets_to_see_why() {
    let mut pair = Pair::new(TEN);
    let mut sender = pair.client.wire.sock.try_clone();
    let sending = std::thread::spawn(move || {
        // Ends when Ravelin has closed.
        let _ = sender.write_all(&masked(BINARY, vec![7; 4 << 20]));
    });
    pair.origin.answer_close(1011, OTHER_TOO_LARGE);
    pair.client.expect_close(1009, TOO_LARGE);
    sending.join().unwrap();
}

#[test]
fn a_limit_counts_what_is_on_the_wire_of_a_compressed_message() {
    let echo = Python::websocket_echo();
    let ravelin =
        Ravelin::start(&site(&[&echo.url()], &sockets("client_max_message_size = \"10KB\"")));
    let said = websocket_client(
        &format!("ws://{}/", ravelin.addr()),
        "assert ws.protocol.extensions, 'no compression'\n\
         ws.send('x' * 1000000)\n\
         assert ws.recv(timeout=8) == 'x' * 1000000\n\
         ws.send(os.urandom(20000))\n\
         try:\n\
         \x20   ws.recv(timeout=8)\n\
         except ConnectionClosed as e:\n\
         \x20   print(e.rcvd.code, e.rcvd.reason)",
    );
    assert_eq!(said.trim(), "1009 message larger than 10240 bytes");
}

#[test]
fn a_python_origin_sees_why_its_message_was_too_large() {
    let origin = Python::run(
        "from websockets.sync.server import serve\n\
         from websockets.exceptions import ConnectionClosed\n\
         import sys\n\
         def talk(ws):\n\
         \x20   ws.send('x' * 11)\n\
         \x20   try:\n\
         \x20       ws.recv(timeout=8)\n\
         \x20   except ConnectionClosed as e:\n\
         \x20       print('seen', e.rcvd.code, e.rcvd.reason, file=sys.stderr, flush=True)\n\
         with serve(talk, '127.0.0.1', 0, compression=None) as server:\n\
         \x20   print('port', server.socket.getsockname()[1])\n\
         \x20   server.serve_forever()\n",
    );
    let ravelin = Ravelin::start(&site(&[&origin.url()], &sockets(TEN)));
    let said = websocket_client(
        &format!("ws://{}/", ravelin.addr()),
        "try:\n\
         \x20   ws.recv(timeout=8)\n\
         except ConnectionClosed as e:\n\
         \x20   print(e.rcvd.code, e.rcvd.reason)",
    );
    assert_eq!(said.trim(), format!("1011 {OTHER_TOO_LARGE}"));
    origin.stderr.line_with(&["seen 1009", TOO_LARGE]);
}

#[test]
fn more_messages_than_allowed_are_1008() {
    let mut pair = Pair::new("messages = { rate = 1, per = \"1h\", burst = 3 }");
    for (first, text) in
        [(TEXT, "one"), (PING, "two"), (TEXT_BEGINS, "three"), (GOES_ON, "is"), (ENDS, "long")]
    {
        pair.client.send(first, text);
        pair.origin.expect(first, text);
    }
    // Those of the origin are not limited.
    for _ in 0..10 {
        pair.origin.send(TEXT, "answer");
        pair.client.expect(TEXT, "answer");
    }
    pair.client.send(TEXT, "four");
    pair.origin.answer_close(1011, "the other side sent too many messages");
    pair.client.answer_close(1008, "too many WebSocket messages");
    pair.client.expect_end();
}

#[test]
fn messages_that_come_at_once_are_counted_one_by_one() {
    let mut pair = Pair::new("messages = { rate = 1, per = \"1h\", burst = 2 }");
    pair.client.raw([masked(TEXT, "a"), masked(TEXT, "b"), masked(TEXT, "c")].concat());
    pair.origin.expect(TEXT, "a");
    pair.origin.expect(TEXT, "b");
    assert_eq!(pair.origin.frame().closed().0, 1011);
}

#[test]
fn pongs_that_nobody_asked_for_and_empty_fragments_count_too() {
    let keys = "messages = { rate = 1, per = \"1h\", burst = 3 }";
    for (first, repeated) in [(None, PONG), (Some(TEXT_BEGINS), GOES_ON)] {
        let mut pair = Pair::new(keys);
        pair.client.send(first.unwrap_or(PONG), "x");
        pair.client.raw(masked(repeated, "").repeat(3));
        for first in [first.unwrap_or(PONG), repeated, repeated] {
            assert_eq!(pair.origin.frame().first, first);
        }
        pair.client.expect_close(1008, "too many WebSocket messages");
    }
}

#[test]
fn messages_are_allowed_again_after_a_while() {
    let mut pair = Pair::new("messages = { rate = 20, burst = 1 }");
    for _ in 0..5 {
        pair.client.send(TEXT, "tick");
        pair.origin.expect(TEXT, "tick");
        // What is waited for is time itself: at 20 a second, one more in 50 ms.
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn ten_mebibytes_pass_in_frames_of_all_sizes() {
    let mut pair =
        Pair::new("client_max_message_size = \"100MB\"\nserver_max_message_size = \"100MB\"");
    let data = pattern(10 << 20, 5);
    let sizes = [0, 1, 125, 126, 1000, 16_383, 16_384, 65_535, 65_536, 1 << 20];
    let mut frames = Vec::new();
    let mut rest = &data[..];
    for size in sizes.iter().cycle() {
        let (piece, left) = rest.split_at((*size).min(rest.len()));
        frames.push((BINARY, piece.to_vec()));
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    let up: Vec<u8> = frames.iter().flat_map(|(first, piece)| masked(*first, piece)).collect();
    let down: Vec<u8> = frames.iter().flat_map(|(first, piece)| plain(*first, piece)).collect();
    let mut sender = pair.client.wire.sock.try_clone();
    let expected = up.clone();
    let sending = std::thread::spawn(move || sender.write_all(&up).unwrap());
    assert_same_bytes(&pair.origin.wire.bytes(expected.len()).unwrap(), &expected);
    sending.join().unwrap();
    let mut sender = pair.origin.wire.sock.try_clone();
    let expected = down.clone();
    let sending = std::thread::spawn(move || sender.write_all(&down).unwrap());
    assert_same_bytes(&pair.client.wire.bytes(expected.len()).unwrap(), &expected);
    sending.join().unwrap();
}

#[test]
fn a_long_frame_and_what_comes_behind_it_arrive_in_order_at_one_who_is_slow_to_read() {
    let mut pair = Pair::new("client_max_message_size = \"100MB\"");
    let long = pattern(8 << 20, 3);
    let sent = [
        masked(TEXT, "before"),
        masked(BINARY, &long),
        masked(PING, "now"),
        masked(BINARY, pattern(100_000, 6)),
        masked(TEXT, "behind"),
        masked(CLOSE, status(1000, "bye")),
    ];
    let sent = sent.concat();
    let mut sender = pair.client.wire.sock.try_clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    // The other direction does not wait for this one.
    pair.origin.send(BINARY, pattern(200_000, 7));
    pair.client.expect(BINARY, pattern(200_000, 7));
    pair.origin.expect(TEXT, "before");
    pair.origin.expect(BINARY, &long);
    pair.origin.expect(PING, "now");
    pair.origin.expect(BINARY, pattern(100_000, 6));
    pair.origin.expect(TEXT, "behind");
    pair.origin.expect_close(1000, "bye");
    sending.join().unwrap();
}

#[test]
fn frames_pass_while_they_come() {
    let mut pair = Pair::new("client_max_message_size = \"1MB\"");
    let frame = masked(BINARY, pattern(200_000, 9));
    let (quick, slow) = frame.split_at(100_000);
    for piece in quick.chunks(40_000).chain(slow.chunks(1000)) {
        pair.client.raw(piece);
        assert_same_bytes(&pair.origin.wire.bytes(piece.len()).unwrap(), piece);
    }
    // Of a header alone nothing is known.
    let frame = masked(TEXT, "hello");
    for byte in &frame {
        pair.client.raw([*byte]);
    }
    pair.origin.expect(TEXT, "hello");
}

#[test]
fn a_limit_holds_over_http2_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ravelin = Ravelin::start(&site_with("h2c = true", &[&url], &sockets(TEN)));
    let mut client = Http2::connect(ravelin.addr());
    let mut fields = with_method("CONNECT", "/chat");
    fields.extend([(":protocol", "websocket"), ("sec-websocket-version", "13")]);
    client.open_body(1, &fields);
    let (stream, _) = listener.accept().unwrap();
    let sock = Sock::Tcp(stream);
    sock.set_patience(PATIENCE);
    let mut origin = End { wire: Wire::new(sock), is_client: false };
    let request = origin.wire.request().unwrap();
    let accept = wire::websocket::accept_key(request.get("sec-websocket-key").unwrap().as_bytes());
    let accept = String::from_utf8_lossy(&accept).into_owned();
    origin.raw(switching("").replace(ACCEPT, &accept));
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    client.frame(DATA, 0, 1, masked(TEXT, "0123456789"));
    origin.expect(TEXT, "0123456789");
    origin.send(TEXT, "answer");
    let data = client.until(|frame| frame.kind == DATA && frame.stream == 1);
    assert_eq!(data.payload, plain(TEXT, "answer"));
    client.frame(DATA, 0, 1, masked(TEXT, "0123456789a"));
    origin.answer_close(1011, OTHER_TOO_LARGE);
    let data = client.until(|frame| frame.kind == DATA && frame.stream == 1);
    assert_eq!(data.payload, plain(CLOSE, status(1009, TOO_LARGE)));
    // It ends in order, without a reset.
    client.until(|frame| frame.stream == 1 && frame.kind == DATA && frame.has(END_STREAM));
    origin.expect_end();
}
