//! How WebSockets end.

use std::net::Shutdown;

use super::*;

const CHECKED: &str = "client_max_message_size = \"1MB\"";

#[test]
fn a_close_arrives_as_it_was_sent_and_so_does_its_answer() {
    for (sent, answer) in [
        (status(1000, ""), status(1000, "")),
        (status(1001, "going"), status(1000, "so long")),
        (status(4321, &"\u{1f600}".repeat(30)), status(3000, "gr\u{fc}n")),
        (Vec::new(), Vec::new()),
        (status(1000, ""), Vec::new()),
    ] {
        let mut pair = Pair::new(CHECKED);
        pair.client.send(CLOSE, &sent);
        pair.origin.expect(CLOSE, &sent);
        pair.origin.send(CLOSE, &answer);
        pair.client.expect(CLOSE, &answer);
        pair.client.expect_end();
        pair.origin.expect_end();
        let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
        assert!(!line.contains("ended="), "{line}");

        let mut pair = Pair::new(CHECKED);
        pair.origin.send(CLOSE, &sent);
        pair.client.expect(CLOSE, &sent);
        pair.client.send(CLOSE, &answer);
        pair.origin.expect(CLOSE, &answer);
        pair.client.expect_end();
    }
}

#[test]
fn what_the_other_side_still_has_to_say_comes_before_its_close() {
    let mut pair = Pair::new(CHECKED);
    pair.client.send(CLOSE, status(1000, "bye"));
    pair.origin.expect_close(1000, "bye");
    let data = pattern(300_000, 4);
    pair.origin.send(BINARY, &data);
    pair.origin.send(CLOSE, status(1000, "bye"));
    pair.client.expect(BINARY, &data);
    pair.client.expect_close(1000, "bye");
    pair.client.expect_end();
}

#[test]
fn rfc6455_5_5_1_nothing_passes_behind_a_close() {
    let mut pair = Pair::new(CHECKED);
    let late = [masked(CLOSE, status(1000, "")), masked(TEXT, "late"), vec![0xff; 10]].concat();
    pair.client.raw(late);
    pair.origin.expect_close(1000, "");
    pair.origin.expect_silence();
    pair.origin.send(CLOSE, status(1000, ""));
    pair.client.expect_close(1000, "");
}

#[test]
fn a_client_that_goes_away_without_a_close_is_1001_to_the_origin() {
    let mut pair = Pair::new(CHECKED);
    pair.talk();
    pair.client.wire.sock.shutdown(Shutdown::Write);
    pair.origin.expect_close(1001, "the client is gone");
    // It may still hear what the origin has to say.
    pair.origin.send(TEXT, "wait");
    pair.origin.send(CLOSE, status(1001, ""));
    pair.client.expect(TEXT, "wait");
    pair.client.expect_close(1001, "");
    pair.client.expect_end();
    pair.origin.expect_end();
}

#[test]
fn what_came_before_a_client_went_away_inside_a_long_frame_arrives() {
    for sent in [0, 1, 100_000, 3 << 20] {
        let mut pair = Pair::new("client_max_message_size = \"100MB\"");
        let mut long = masked(BINARY, pattern(4 << 20, 8));
        long.truncate(14 + sent);
        let sent = [masked(TEXT, "before"), long].concat();
        let mut sender = pair.client.wire.sock.try_clone();
        let expected = sent.clone();
        let sending = std::thread::spawn(move || {
            sender.write_all(&sent).unwrap();
            sender.shutdown(Shutdown::Write);
        });
        assert_same_bytes(&pair.origin.wire.bytes(expected.len()).unwrap(), &expected);
        pair.origin.expect_end();
        sending.join().unwrap();
    }
}

#[test]
fn an_origin_that_goes_away_while_it_is_sent_a_long_frame_is_1011_to_the_client() {
    let mut pair = Pair::new("client_max_message_size = \"100MB\"");
    let mut sender = pair.client.wire.sock.try_clone();
    // It is more than all that lies between takes, and may break off.
    let sending = std::thread::spawn(move || {
        let _ = sender.write_all(&masked(BINARY, pattern(50 << 20, 2)));
    });
    pair.origin.wire.bytes(100_000).unwrap();
    drop(pair.origin);
    pair.client.expect_close(1011, "the upstream is gone");
    drop(pair.client);
    sending.join().unwrap();
}

#[test]
fn a_client_whose_connection_is_reset_is_1001_to_the_origin() {
    let mut pair = Pair::new(CHECKED);
    pair.talk();
    let End { wire, .. } = pair.client;
    wire.sock.reset_on_close();
    drop(wire);
    pair.origin.expect_close(1001, "the client is gone");
    pair.origin.send(CLOSE, status(1001, ""));
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=client phase=tunnel cause=reset"), "{line}");
}

#[test]
fn an_origin_that_goes_away_without_a_close_is_1011_to_the_client() {
    let mut pair = Pair::new(CHECKED);
    pair.origin.send(TEXT, "last words");
    drop(pair.origin);
    pair.client.expect(TEXT, "last words");
    pair.client.answer_close(1011, "the upstream is gone");
    pair.client.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(line.contains("ended=upstream phase=tunnel cause=closed"), "{line}");
}

#[test]
fn a_frame_that_breaks_off_is_followed_by_no_other() {
    let mut pair = Pair::new(CHECKED);
    let frame = plain(BINARY, pattern(1000, 8));
    pair.origin.raw(&frame[..600]);
    assert_same_bytes(&pair.client.wire.bytes(600).unwrap(), &frame[..600]);
    drop(pair.origin);
    pair.client.expect_end();
    let mut pair = Pair::new(CHECKED);
    let frame = masked(BINARY, pattern(1000, 8));
    pair.client.raw(&frame[..600]);
    assert_same_bytes(&pair.origin.wire.bytes(600).unwrap(), &frame[..600]);
    drop(pair.client);
    pair.origin.expect_end();
}

#[test]
fn an_origin_that_closes_and_leaves_does_not_wait_for_the_answer() {
    let mut pair = Pair::new(CHECKED);
    // A frame that has not come to its end: in it no answer can be seen.
    let frame = masked(TEXT, pattern(1000, 8));
    pair.client.raw(&frame[..600]);
    assert_same_bytes(&pair.origin.wire.bytes(600).unwrap(), &frame[..600]);
    pair.origin.send(CLOSE, status(1007, "not UTF-8"));
    pair.client.answer_close(1007, "not UTF-8");
    drop(pair.origin);
    pair.client.expect_end();
    // One that only says that it sends nothing more gets the answer.
    let mut pair = Pair::new(CHECKED);
    pair.origin.send(CLOSE, status(1000, "bye"));
    pair.origin.wire.sock.shutdown(Shutdown::Write);
    pair.client.expect_close(1000, "bye");
    pair.client.expect_end();
    pair.client.send(CLOSE, status(4000, "bye"));
    pair.origin.expect_close(4000, "bye");
    pair.origin.expect_end();
    let line = pair.ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    assert!(!line.contains("ended="), "{line}");
}

#[test]
fn last_words_arrive_from_an_origin_that_leaves_while_the_client_sends() {
    // With and without a look at the frames.
    for keys in [CHECKED, ""] {
        let ravelin = Pair::new(keys);
        for _ in 0..10 {
            let (mut client, mut origin) = ravelin.another();
            let Sock::Tcp(socket) = &client.wire.sock else { panic!("not TCP") };
            let mut writer = socket.try_clone().unwrap();
            let flood = std::thread::spawn(move || {
                let frames = masked(BINARY, pattern(3000, 2)).repeat(10);
                while std::io::Write::write_all(&mut writer, &frames).is_ok() {}
            });
            origin.wire.bytes(1000).unwrap();
            origin.raw([plain(TEXT, "last words"), plain(CLOSE, status(4001, "bye"))].concat());
            drop(origin); // with bytes that it has not read, so that it is a reset
            client.expect(TEXT, "last words");
            client.expect_close(4001, "bye");
            client.wire.sock.shutdown(Shutdown::Both);
            flood.join().unwrap();
        }
    }
}

#[test]
fn a_client_that_answers_a_close_with_a_fault_is_no_reason_to_wait() {
    let mut pair = Pair::new(CHECKED);
    pair.origin.send(CLOSE, status(1000, "bye"));
    pair.client.expect_close(1000, "bye");
    pair.client.send(0x83, "");
    assert_eq!(pair.origin.frame().closed().0, 1011);
    pair.client.expect_end();
    pair.origin.expect_end();
}

#[test]
fn a_close_that_nobody_answers_ends_all_the_same() {
    let mut pair = Pair::new("max_age = \"200ms\"");
    pair.client.expect_close(1001, "maximum age reached");
    pair.origin.expect_close(1001, "maximum age reached");
    // Neither answers.
    pair.client.expect_end();
    pair.origin.expect_end();
}

#[test]
fn sigterm_closes_sockets_with_1012_one_after_the_other() {
    let mut pair = Pair::new("drain_window = \"2s\"");
    let others: Vec<(End, End)> = (0..20).map(|_| pair.another()).collect();
    pair.talk();
    let mut ravelin = pair.ravelin;
    ravelin.signal("TERM");
    let mut ends: Vec<(End, End)> = others;
    ends.push((pair.client, pair.origin));
    let began = std::time::Instant::now();
    let waiting: Vec<_> = ends
        .into_iter()
        .map(|(mut client, mut origin)| {
            std::thread::spawn(move || {
                client.expect_close(1012, "service restart");
                let after = began.elapsed();
                client.send(CLOSE, status(1012, ""));
                origin.answer_close(1012, "service restart");
                client.expect_end();
                origin.expect_end();
                after
            })
        })
        .collect();
    let mut times: Vec<Duration> = waiting.into_iter().map(|t| t.join().unwrap()).collect();
    times.sort();
    // Twenty-one places in 2 s: that they all fall into a third of it is next to impossible.
    let spread = times[times.len() - 1] - times[0];
    assert!(spread > Duration::from_millis(500), "all closed within {spread:?}");
    assert_eq!(ravelin.exit().code(), Some(0));
}

#[test]
fn sigterm_leaves_sockets_alone_that_are_not_looked_at() {
    let mut pair = Pair::new("max_open = 5");
    pair.talk();
    pair.ravelin.signal("TERM");
    pair.ravelin.stderr.line_with(&["stopping"]);
    pair.talk();
    pair.client.send(CLOSE, status(1000, ""));
    pair.origin.expect_close(1000, "");
    drop(pair.origin);
    drop(pair.client);
    assert_eq!(pair.ravelin.exit().code(), Some(0));
}
