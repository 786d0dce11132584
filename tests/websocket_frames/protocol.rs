//! What a side must not send, and what goes through untouched.

use super::*;

const CHECKED: &str = "client_max_message_size = \"1MB\"";
const OTHER: &str = "the other side broke the WebSocket protocol";

#[test]
fn rfc6455_a_client_that_breaks_the_protocol_is_told_1002() {
    for (bytes, words) in [
        (plain(TEXT, "x"), "wrong masking of a WebSocket frame"),
        (plain(PING, ""), "wrong masking of a WebSocket frame"),
        (masked(0xc1, "x"), "reserved bit of a WebSocket frame"),
        (masked(0xa1, "x"), "reserved bit of a WebSocket frame"),
        (masked(0x83, "x"), "reserved WebSocket opcode"),
        (masked(0x8b, ""), "reserved WebSocket opcode"),
        (masked(0x09, ""), "fragmented or oversized WebSocket control frame"),
        (masked(PING, [0; 126]), "fragmented or oversized WebSocket control frame"),
        (masked(ENDS, "x"), "WebSocket fragments out of order"),
        ([masked(TEXT_BEGINS, ""), masked(TEXT, "")].concat(), "WebSocket fragments out of order"),
        (vec![BINARY, 0xfe, 0, 1, 0, 0, 0, 0, 0], "invalid WebSocket frame length"),
        (masked(CLOSE, [3]), "invalid WebSocket close status"),
        (masked(CLOSE, status(1005, "")), "invalid WebSocket close status"),
        (masked(CLOSE, status(2999, "")), "invalid WebSocket close status"),
    ] {
        let mut pair = Pair::new(CHECKED);
        pair.client.raw(&bytes);
        let mut frame = pair.origin.frame();
        if frame.first == TEXT_BEGINS {
            frame = pair.origin.frame();
        }
        assert_eq!(frame.closed(), (1011, OTHER.to_owned()), "{bytes:x?}");
        pair.origin.send(CLOSE, status(1011, ""));
        pair.client.expect_close(1002, words);
        pair.client.send(CLOSE, status(1002, ""));
        pair.client.expect_end();
        pair.origin.expect_end();
        let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
        assert!(line.contains("ended=client phase=tunnel cause=malformed"), "{line}");
    }
}

#[test]
fn rfc6455_an_origin_that_breaks_the_protocol_is_told_1002() {
    for bytes in [masked(TEXT, "x"), plain(0xc1, "x"), plain(0x85, ""), plain(GOES_ON, "x")] {
        let mut pair = Pair::new(CHECKED);
        pair.origin.raw(&bytes);
        pair.client.answer_close(1011, OTHER);
        assert_eq!(pair.origin.frame().closed().0, 1002, "{bytes:x?}");
        pair.client.expect_end();
        let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
        assert!(line.contains("ended=upstream phase=tunnel cause=malformed"), "{line}");
    }
}

#[test]
fn rfc6455_5_5_1_a_reason_that_is_not_utf8_is_1007() {
    let mut pair = Pair::new(CHECKED);
    pair.client.send(CLOSE, [&status(1000, "")[..], b"ab\xff"].concat());
    pair.origin.answer_close(1011, OTHER);
    pair.client.expect_close(1007, "WebSocket close reason is not UTF-8");
    let mut pair = Pair::new(CHECKED);
    pair.origin.send(CLOSE, [&status(1000, "")[..], b"\xed\xa0\x80"].concat());
    pair.client.answer_close(1011, OTHER);
    pair.origin.expect_close(1007, "WebSocket close reason is not UTF-8");
}

#[test]
fn what_came_before_the_fault_arrives_and_so_does_what_the_origin_says_to_it() {
    let mut pair = Pair::new(CHECKED);
    pair.client.raw([masked(TEXT, "good"), masked(0xb1, "bad")].concat());
    pair.origin.expect(TEXT, "good");
    pair.origin.expect_close(1011, OTHER);
    pair.origin.send(TEXT, "an answer to what was good");
    pair.origin.send(CLOSE, status(1011, OTHER));
    pair.client.expect(TEXT, "an answer to what was good");
    assert_eq!(pair.client.frame().closed().0, 1002);
}

#[test]
fn of_two_sides_that_break_the_protocol_each_is_told() {
    let mut pair = Pair::new("client_max_message_size = 10");
    pair.client.send(0x83, "");
    assert_eq!(pair.origin.frame().closed().0, 1011);
    pair.origin.send(0x83, "");
    assert_eq!(pair.client.frame().closed().0, 1002);
    pair.client.expect_end();
    pair.origin.expect_end();
}

#[test]
fn an_origin_that_does_not_answer_keeps_nobody_from_being_told() {
    let mut pair = Pair::new(CHECKED);
    pair.client.send(0x83, "");
    pair.origin.expect_close(1011, OTHER);
    assert_eq!(pair.client.frame().closed().0, 1002);
    pair.origin.expect_end();
}

#[test]
fn rfc7692_compressed_messages_pass_as_they_are() {
    let agreed = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let mut pair = Pair::with(CHECKED, agreed);
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    for (first, payload) in
        [(0xc1, &hello[..]), (0x41, &hello[..3]), (PING, b"p"), (ENDS, &hello[3..])]
    {
        pair.client.send(first, payload);
        pair.origin.expect(first, payload);
        pair.origin.send(first, payload);
        pair.client.expect(first, payload);
    }
    // Only the first frame of a message says that it is compressed.
    pair.client.send(0x41, hello);
    pair.origin.expect(0x41, hello);
    pair.client.send(0xc0, hello);
    pair.origin.answer_close(1011, OTHER);
    pair.client.expect_close(1002, "reserved bit of a WebSocket frame");
}

#[test]
fn extensions_that_nobody_knows_may_use_reserved_bits() {
    let mut pair = Pair::with(CHECKED, "Sec-WebSocket-Extensions: x-stars; n=3\r\n");
    pair.client.send(0xf2, "***");
    pair.origin.expect(0xf2, "***");
}

#[test]
fn frames_right_behind_the_handshake_are_looked_at_too() {
    let before = [masked(TEXT, "early"), masked(TEXT, "bird")].concat();
    let mut pair =
        Pair::early(CHECKED, "", &before[..before.len() - 2], &plain(TEXT, "first words"));
    pair.origin.expect(TEXT, "early");
    pair.client.expect(TEXT, "first words");
    pair.client.raw(&before[before.len() - 2..]);
    pair.origin.expect(TEXT, "bird");
    let mut pair = Pair::early(CHECKED, "", &masked(0x8f, ""), b"");
    pair.origin.answer_close(1011, OTHER);
    assert_eq!(pair.client.frame().closed().0, 1002);
}

#[test]
fn a_python_client_and_a_python_origin_notice_nothing() {
    let echo = Python::websocket_echo();
    let keys = "client_max_message_size = \"8MB\"\nserver_max_message_size = \"8MB\"\n\
                ping_interval = \"100ms\"\nmax_age = \"1h\"\nmessages = { rate = 100000 }";
    let ravelin = Ravelin::start(&site(&[&echo.url()], &sockets(keys)));
    let said = websocket_client(
        &format!("ws://{}/chat?room=1", ravelin.addr()),
        "for text in ['hello', '', 'x' * 125, 'y' * 126, 'z' * 70000]:\n\
         \x20   ws.send(text)\n\
         \x20   assert ws.recv(timeout=8) == text\n\
         for n in [0, 1, 125, 126, 65535, 65536, 1 << 20]:\n\
         \x20   data = os.urandom(n)\n\
         \x20   ws.send(data)\n\
         \x20   assert ws.recv(timeout=8) == data\n\
         ws.send(['frag', 'men', 'ted'])\n\
         assert ws.recv(timeout=8) == 'fragmented'\n\
         ws.ping().wait(8)\n\
         ws.close(4001, 'enough')\n\
         print('code', ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason)",
    );
    assert_eq!(said.trim(), "code 4001 enough");
}
