//! Bodies that rest in Ravelin: slow clients keep no origin waiting.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use h2::server::Builder;

use crate::harness::*;

/// Beyond what the kernel holds for a client that does not read.
const LONG: usize = 24 << 20;

/// One worker, so that connections can be counted; `keys` are those of `[sites.proxy.buffering]`.
fn buffering(keys: &str) -> String {
    format!("[performance]\nworker_threads = 1\n[sites.proxy.buffering]\n{keys}\n")
}

/// A Ravelin that keeps bodies in the directory `bodies`, which has one file.
#[track_caller]
fn start(url: &str, keys: &str, site_keys: &str, before: &str) -> Ravelin {
    let toml = format!(
        "[performance]\nworker_threads = 1\n{before}\n{}",
        site_with(
            site_keys,
            &[url],
            &format!("[sites.proxy.buffering]\ndirectory = \"bodies\"\n{keys}\n"),
        )
    );
    Setup::new(&toml).file("bodies/keep", "").start()
}

#[track_caller]
fn before(origin: &Origin, keys: &str) -> Ravelin {
    start(&origin.url(), keys, "", "")
}

/// The sizes of the files that this process has open and that have no name any more, and where they
/// had one.
fn nameless_files(pid: u32) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let name = target.to_string_lossy().into_owned();
        if let (Some(name), Ok(facts)) =
            (name.strip_suffix(" (deleted)"), std::fs::metadata(entry.path()))
            && facts.is_file()
        {
            assert_eq!((facts.nlink(), facts.mode() & 0o777), (0, 0o600), "{name}");
            found.push((name.into(), facts.len()));
        }
    }
    found
}

/// Waits for something that nothing announces.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// Waits until what the origin has sent was read to its last byte.
#[track_caller]
fn wait_until_read(port: u16) {
    wait_until("the response to be read", || bytes_under_way(port) == 0);
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn with_length(body: &[u8], fields: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn post(framing: &str) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: example.com\r\n{framing}\r\n\r\n")
}

mod requests {
    use super::*;

    #[test]
    fn the_origin_hears_of_a_request_when_it_is_whole() {
        let origin = Origin::serve(|r| ok(&r.body.len().to_string()));
        let ravelin = before(&origin, "request = true\nmemory = \"64KB\"");
        let body = pattern(5_000_000, 1);
        let mut slow = ravelin.client();
        slow.send(post(&format!("Content-Length: {}", body.len()))).send(&body[..4_999_999]);
        // All of it but one byte is in memory and a file that has no name.
        wait_until("the body in a file", || {
            let in_files = nameless_files(ravelin.pid()).iter().map(|f| f.1).sum::<u64>();
            in_files + 64 * 1024 >= 4_999_999
        });
        let files = nameless_files(ravelin.pid());
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].0.starts_with(ravelin.dir().join("bodies")), "{files:?}");
        assert_eq!(std::fs::read_dir(ravelin.dir().join("bodies")).unwrap().count(), 1);
        assert_eq!(origin.connections(), 0);
        slow.send(&body[4_999_999..]);
        assert_eq!(slow.response("POST").expect(200).text(), "5000000");
        let request = origin.request(0);
        assert_same_bytes(&request.body, &body);
        assert_eq!(request.get("content-length"), Some("5000000"));
        wait_until("the file to go", || nameless_files(ravelin.pid()).is_empty());
    }

    #[test]
    fn a_chunked_body_goes_on_with_its_length() {
        let origin = Origin::serve(|_| ok("thanks"));
        let ravelin = before(&origin, "request = true\nmemory = \"100KB\"");
        let mut client = ravelin.client();
        for (n, (len, size)) in [(5_000_000, 70_000), (3, 1), (0, 1)].into_iter().enumerate() {
            let body = pattern(len, 2);
            client.send(post("Transfer-Encoding: chunked")).send(chunked(&body, size));
            client.response("POST").expect(200);
            let request = origin.request(n);
            assert_same_bytes(&request.body, &body);
            assert_eq!(request.get("content-length"), Some(&*len.to_string()));
            assert_eq!(request.get("transfer-encoding"), None);
        }
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn requests_that_arrive_together_are_told_apart() {
        let origin = Origin::serve(|r| ok(&format!("{} {}", r.target, r.body.len())));
        let ravelin = before(&origin, "request = true");
        let mut client = ravelin.client();
        let body = pattern(40_000, 3);
        let mut all = Vec::new();
        for _ in 0..3 {
            all.extend_from_slice(post("Transfer-Encoding: chunked").as_bytes());
            all.extend_from_slice(&chunked(&body, 9000));
            all.extend_from_slice(post("Content-Length: 40000").as_bytes());
            all.extend_from_slice(&body);
            all.extend_from_slice(b"GET /next HTTP/1.1\r\nHost: example.com\r\n\r\n");
        }
        client.send(all);
        for _ in 0..3 {
            assert_eq!(client.response("POST").text(), "/upload 40000");
            assert_eq!(client.response("POST").text(), "/upload 40000");
            assert_eq!(client.response("GET").text(), "/next 0");
        }
    }

    #[test]
    fn rfc9110_10_1_1_expect_is_answered_here() {
        let origin = Origin::saying("thanks");
        let ravelin = before(&origin, "request = true");
        let mut client = ravelin.client();
        client.send(post("Content-Length: 4\r\nExpect: 100-continue"));
        assert_eq!(client.wire.until(b"\r\n\r\n").unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(origin.connections(), 0);
        client.send("body");
        client.response("POST").expect(200);
        let request = origin.request(0);
        assert_eq!((request.body.as_slice(), request.get("expect")), (&b"body"[..], None));
    }

    #[test]
    fn a_body_beyond_the_bound_is_413_and_the_origin_hears_nothing() {
        let origin = Origin::saying("");
        for (before, keys) in [
            ("", "request = true\nmax = \"100KB\"\nmemory = \"10KB\""),
            ("[security]\nmax_request_size = \"100KB\"", "request = true"),
        ] {
            let ravelin = start(&origin.url(), keys, "", before);
            let mut client = ravelin.client();
            client.send(post("Content-Length: 200000\r\nExpect: 100-continue"));
            client.response("POST").expect(413);
            let mut client = ravelin.client();
            client.send(post("Transfer-Encoding: chunked"));
            client.send(chunked(&pattern(200_000, 4), 5000));
            client.response("POST").expect(413);
        }
        assert_eq!(origin.connections(), 0);
    }

    #[test]
    fn a_client_that_breaks_off_costs_the_origin_nothing() {
        let origin = Origin::saying("");
        let ravelin = before(&origin, "request = true");
        let mut client = ravelin.client();
        client.send(post("Content-Length: 10")).send("half");
        client.finish();
        client.expect_close();
        ravelin.stdout.line_with(&["POST /upload", " 499 "]);
        let malformed = ravelin.ask(post("Transfer-Encoding: chunked") + "zz\r\n");
        malformed.expect(400);
        assert_eq!(origin.connections(), 0);
    }

    #[test]
    fn a_client_that_stops_sending_is_408() {
        let origin = Origin::saying("");
        let limits = "[limits]\nbody_min_rate = 1000\nbody_grace = 1";
        let ravelin = start(&origin.url(), "request = true", "", limits);
        let mut client = ravelin.client();
        client.send(post("Content-Length: 100000")).send("half");
        client.response("POST").expect(408);
        assert_eq!(origin.connections(), 0);
    }

    #[test]
    fn a_body_that_is_kept_can_be_sent_again() {
        let origin = Origin::script(|conn| {
            conn.request();
            conn.send(ok("first"));
            if let Ok(_put) = conn.try_request()
                && conn.index > 0
            {
                conn.send(ok("second"));
            }
            // The first connection closes without an answer, as an idle one may.
        });
        let ravelin = before(&origin, "request = true\nmemory = \"64KB\"");
        let mut client = ravelin.client();
        client.get("/").expect(200);
        let body = pattern(300_000, 5);
        let put = "PUT / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(put).send(chunked(&body, 10_000));
        assert_eq!(client.response("PUT").expect(200).text(), "first");
        assert_same_bytes(&origin.request(1).body, &body);
        assert_same_bytes(&origin.request(2).body, &body);
    }

    #[test]
    fn without_a_place_for_its_file_a_body_is_500_and_the_log_says_why() {
        let origin = Origin::saying("");
        let ravelin = before(&origin, "request = true\nmemory = 1000");
        std::fs::remove_dir_all(ravelin.dir().join("bodies")).unwrap();
        let body = pattern(100_000, 6);
        let mut client = ravelin.client();
        client.send(post("Content-Length: 100000")).send(body);
        client.response("POST").expect(500);
        ravelin.stderr.line_with(&["temporary file in bodies: No such file", "answered 500"]);
        assert_eq!(origin.connections(), 0);
    }

    #[test]
    fn over_http_2_on_both_sides_the_length_is_told_and_trailers_pass() {
        let origin = AsyncOrigin::http2(None, Builder::new(), |request, respond| async move {
            let length = request.headers().get("content-length").cloned();
            let (body, trailers) = h2_body(request.into_body()).await;
            let text = format!("{length:?} {} {trailers:?}", body.len());
            h2_answer(respond, text).await;
        });
        let ravelin = start(&origin.http2_url(), "request = true", "h2c = true", "");
        let mut client = Http2::connect(ravelin.addr());
        client.open_body(1, &with_method("POST", "/"));
        for n in 0..5 {
            assert!(client.frame(DATA, 0, 1, pattern(10_000, n)));
        }
        client.ping();
        assert_eq!(origin.accepted(), 0);
        client.frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&[("x-sum", "7")]));
        let response = client.response(1);
        let text = String::from_utf8(response.body).unwrap();
        assert!(text.starts_with("Some(\"50000\") 50000 Some("), "{text}");
        assert!(text.contains("\"x-sum\": \"7\""), "{text}");
    }

    #[test]
    fn websocket_handshakes_are_left_alone() {
        let echo = Python::websocket_echo();
        let ravelin = Ravelin::start(&site(
            &[&echo.url()],
            &format!("websocket = true\n{}", buffering("request = true\nresponse = true")),
        ));
        let url = ravelin.url("/").replace("http", "ws");
        assert!(websocket_client(&url, "assert True").is_empty());
    }
}

mod responses {
    use super::*;

    /// Sends `response` to the first request of each connection, says so, and answers what follows.
    fn origin_of(response: Vec<u8>) -> (Origin, std::sync::mpsc::Receiver<usize>) {
        let (sent, sending) = channel();
        let sent = Mutex::new(sent);
        let origin = Origin::script(move |conn| {
            conn.request();
            if conn.try_send(&response).is_ok() {
                let _ = sent.lock().unwrap().send(conn.index);
            }
            while conn.try_request().is_ok() {
                conn.send(ok("free"));
            }
        });
        (origin, sending)
    }

    #[test]
    fn the_origin_is_free_while_its_response_is_read_slowly() {
        let body = pattern(LONG, 10);
        let (origin, sent) = origin_of(with_length(&body, "X-Accel-Buffering: maybe\r\n"));
        let ravelin = before(&origin, "response = true\nmemory = \"64KB\"");
        let mut slow = ravelin.client();
        slow.send("GET /long HTTP/1.1\r\nHost: example.com\r\n\r\n");
        next(&sent, "the response to be taken");
        wait_until_read(origin.port());
        // The rest of it lies in a file without a name; another client has the connection.
        assert_eq!(ravelin.get("/other").expect(200).text(), "free");
        assert_eq!(origin.connections(), 1);
        let files = nameless_files(ravelin.pid());
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].0.starts_with(ravelin.dir().join("bodies")), "{files:?}");
        let response = slow.response("GET").expect(200);
        assert_same_bytes(&response.body, &body);
        assert_eq!(response.get("x-accel-buffering"), None);
        // The client's connection goes on as well.
        assert_eq!(slow.get("/again").text(), "free");
        wait_until("the file to go", || nameless_files(ravelin.pid()).is_empty());
    }

    #[test]
    fn bodies_of_every_framing_arrive_byte_for_byte() {
        let body = pattern(5_000_000, 11);
        let chunks = chunked(&body, 33_333);
        let trailing = [&chunks[..chunks.len() - 2], b"X-Sum: 7\r\n\r\n"].concat();
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (response, trailer) in [
            (with_length(&body, ""), false),
            ([head.as_bytes(), &chunks].concat(), false),
            ([head.as_bytes(), &trailing].concat(), true),
            ([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &body[..]].concat(), false),
        ] {
            let origin = Origin::script(move |conn| {
                while conn.try_request().is_ok() {
                    let _ = conn.try_send(&response);
                    if response.starts_with(b"HTTP/1.1 200 OK\r\nConnection: close") {
                        return;
                    }
                }
            });
            for keys in ["memory = \"64KB\"", "memory = 0\nmax = 100000", ""] {
                let ravelin = before(&origin, &format!("response = true\n{keys}"));
                let mut client = ravelin.client();
                for _ in 0..2 {
                    let response = client.get("/").expect(200);
                    assert_same_bytes(&response.body, &body);
                    assert_eq!(!response.trailers.is_empty(), trailer);
                }
                let old = ravelin.ask("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n");
                assert_same_bytes(&old.expect(200).body, &body);
            }
        }
    }

    #[test]
    fn http_2_clients_get_the_same_bytes() {
        let body = pattern(5_000_000, 12);
        let length = with_length(&body, "");
        let chunks = chunked(&body, 33_333);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = [head.as_bytes(), &chunks].concat();
        let origin =
            Origin::serve(move |r| if r.target == "/c" { chunks.clone() } else { length.clone() });
        let keys = "response = true\nmemory = \"64KB\"";
        let ravelin = start(&origin.url(), keys, "h2c = true", "");
        let out = ravelin.dir().join("out");
        for path in ["/c", "/l"] {
            curl(&["--http2-prior-knowledge", "-o", out.to_str().unwrap(), &ravelin.url(path)]);
            assert_same_bytes(&std::fs::read(&out).unwrap(), &body);
        }
    }

    #[test]
    fn an_http_2_client_with_a_closed_window_does_not_hold_the_origin() {
        let body = pattern(100_000, 13);
        let (origin, sent) = origin_of(with_length(&body, ""));
        let ravelin = start(&origin.url(), "response = true", "h2c = true", "");
        let mut client = Http2::connect_with(ravelin.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
        client.open(1, &get_fields("/"));
        next(&sent, "the response to be taken");
        wait_until_read(origin.port());
        // Its body has no window either; the head is enough.
        client.open(3, &get_fields("/other"));
        client.until(|frame| frame.kind == HEADERS && frame.stream == 3);
        assert_eq!(origin.connections(), 1);
    }

    #[test]
    fn http_2_origins_are_read_to_the_end_as_well() {
        let body = pattern(3_000_000, 14);
        let (sent, sending) = channel();
        let answer = body.clone();
        let origin = AsyncOrigin::http2(None, Builder::new(), move |request, mut respond| {
            let (body, sent) = (answer.clone(), sent.clone());
            async move {
                if request.uri().path() != "/long" {
                    return h2_answer(respond, "free").await;
                }
                let mut stream = respond.send_response(h2_head(200, &[]), false).unwrap();
                stream.reserve_capacity(body.len());
                let mut at = 0;
                while at < body.len() {
                    let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return };
                    let end = (at + room).min(body.len());
                    stream.send_data(body[at..end].to_vec().into(), end == body.len()).unwrap();
                    at = end;
                }
                sent.send(()).unwrap();
                let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            }
        });
        let ravelin = start(&origin.http2_url(), "response = true\nmemory = \"64KB\"", "", "");
        let mut client = ravelin.client();
        client.send("GET /long HTTP/1.1\r\nHost: example.com\r\n\r\n");
        next(&sending, "the response to be taken");
        assert_eq!(ravelin.get("/other").text(), "free");
        assert_same_bytes(&client.response("GET").body, &body);
    }

    #[test]
    fn x_accel_buffering_decides_for_its_response() {
        for (says, keys, passes_on) in
            [("yes", "", None), ("YES", "response = false", None), ("no", "", Some("no"))]
        {
            let body = pattern(LONG, 15);
            let field = format!("X-Accel-Buffering: {says}\r\n");
            let (origin, sent) = origin_of(with_length(&body, &field));
            let ravelin = before(&origin, keys);
            let mut slow = ravelin.client();
            slow.send("GET /long HTTP/1.1\r\nHost: example.com\r\n\r\n");
            if passes_on.is_none() {
                next(&sent, "the response to be taken");
                wait_until_read(origin.port());
            }
            assert_eq!(ravelin.get("/other").status, 200);
            assert_eq!(origin.connections(), if passes_on.is_none() { 1 } else { 2 });
            let response = slow.response("GET").expect(200);
            assert_eq!(response.get("x-accel-buffering"), passes_on);
            assert_same_bytes(&response.body, &body);
        }
        // "no" where it means something.
        let (origin, _) = origin_of(with_length(b"body", "X-Accel-Buffering: no\r\n"));
        let ravelin = before(&origin, "response = true");
        assert_eq!(ravelin.get("/").expect(200).get("x-accel-buffering"), None);
    }

    #[test]
    fn beyond_the_bound_the_origin_waits_for_the_client() {
        let body = pattern(LONG, 16);
        let (origin, sent) = origin_of(with_length(&body, ""));
        let ravelin = before(&origin, "response = true\nmemory = \"64KB\"\nmax = \"1MB\"");
        let mut slow = ravelin.client();
        slow.send("GET /long HTTP/1.1\r\nHost: example.com\r\n\r\n");
        wait_until("the file to be full", || {
            nameless_files(ravelin.pid()).iter().any(|file| file.1 > 900_000)
        });
        assert_eq!(ravelin.get("/other").status, 200);
        assert_eq!(origin.connections(), 2, "the first is not free");
        assert!(nameless_files(ravelin.pid()).iter().all(|file| file.1 <= 1_000_000 * 11 / 10));
        assert_same_bytes(&slow.response("GET").body, &body);
        next(&sent, "the response to be taken");
    }

    #[test]
    fn a_response_that_breaks_off_does_not_end_cleanly() {
        for head in ["Content-Length: 3000000", "Transfer-Encoding: chunked"] {
            let piece = pattern(1_000_000, 17);
            let piece = match head.starts_with('C') {
                true => piece,
                false => [b"f4240\r\n", &piece[..], b"\r\n"].concat(),
            };
            let origin = Origin::script(move |conn| {
                conn.request();
                conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
                conn.send(&piece);
            });
            let ravelin = before(&origin, "response = true\nmemory = \"64KB\"");
            let mut client = ravelin.client();
            client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
            let broken = client.wire.response("GET").unwrap_err();
            assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{broken:?}");
            ravelin.stderr.line_with(&["upstream", "broke off the response"]);
        }
    }

    #[test]
    fn an_origin_that_falls_silent_meets_its_time_limit() {
        let origin = Origin::script(|conn| {
            conn.request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            conn.wait_closed();
        });
        let timeout = "response = true\n[sites.proxy.timeout]\nread = 1";
        let ravelin = before(&origin, timeout);
        let mut client = ravelin.client();
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        assert!(client.wire.response("GET").is_err());
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let (origin, sent) = origin_of(with_length(&pattern(LONG, 18), ""));
        let limits = "[limits]\nbody_min_rate = 10000\nbody_grace = 1";
        let ravelin = start(&origin.url(), "response = true\nmemory = 0", "", limits);
        let mut client = ravelin.client();
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        next(&sent, "the response to be taken");
        wait_until("the file to go", || nameless_files(ravelin.pid()).is_empty());
    }

    #[test]
    fn without_a_place_for_its_file_a_response_goes_at_the_clients_pace() {
        let body = pattern(LONG, 19);
        let (origin, sent) = origin_of(with_length(&body, ""));
        let ravelin = before(&origin, "response = true\nmemory = 0");
        std::fs::remove_dir_all(ravelin.dir().join("bodies")).unwrap();
        assert_same_bytes(&ravelin.get("/").expect(200).body, &body);
        next(&sent, "the response to be taken");
        ravelin.stderr.line_with(&["warn", "temporary file in bodies: No such file"]);
    }

    #[test]
    fn a_thousand_trickling_readers_hold_no_connection_of_the_origin() {
        const READERS: usize = 1000;
        // The system keeps some hundred kilobytes for a client on a Unix socket, megabytes on TCP.
        let body = pattern(400_000, 20);
        let answer = with_length(&body, "");
        let origin = Origin::serve(move |_| answer.clone());
        let more = "[sites.proxy.buffering]\nresponse = true\nmemory = \"64KB\"";
        let dir = TempDir::new();
        let socket = dir.path().join("socket");
        let listen = format!("[\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
        let toml = site(&[&origin.url()], more).replace("[\"127.0.0.1:0\"]", &listen);
        let toml = format!("[performance]\nworker_threads = 1\n[limits]\nbody_grace = 60\n{toml}");
        let ravelin = Setup::new(&toml).listeners(2).start();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut reader = Client::connect_unix(&socket);
            reader.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
            // The beginning is all it takes for now.
            let beginning = reader.wire.until(b"\r\n\r\n").unwrap();
            assert!(beginning.starts_with(b"HTTP/1.1 200 "));
            readers.push(reader);
        }
        // All of them have begun, none has ended, and the origin is done with every one.
        assert_eq!(ravelin.get("/").expect(200).body.len(), body.len());
        assert_eq!(origin.requests().len(), READERS + 1);
        assert!(origin.connections() < 20, "{} connections", origin.connections());
        assert_eq!(nameless_files(ravelin.pid()).len(), READERS);
        for reader in &mut readers {
            assert!(reader.wire.bytes(body.len()).unwrap() == body);
        }
    }
}
