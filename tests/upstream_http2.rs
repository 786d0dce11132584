//! HTTP/2 to upstreams: what a client sees, what the origin gets, and what a hostile origin can do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;
use http::{HeaderMap, Request};
use tokio::io::AsyncWriteExt;

use crate::harness::*;

/// One worker, so that connections can be counted.
fn one_worker(toml: &str) -> String {
    format!("[performance]\nworker_threads = 1\n{toml}")
}

fn before(origin: &AsyncOrigin, more: &str) -> Ravelin {
    Ravelin::start(&one_worker(&site(&[&origin.http2_url()], more)))
}

/// Answers every request with its head as text: method, URI, then the fields.
fn echo_head() -> AsyncOrigin {
    AsyncOrigin::http2(None, Builder::new(), |request, respond| async move {
        h2_answer(respond, describe(&request)).await;
    })
}

fn describe<B>(request: &Request<B>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

/// Answers every request with its body.
fn echo_body() -> AsyncOrigin {
    let mut builder = Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    AsyncOrigin::http2(None, builder, |request, mut respond| async move {
        let (body, trailers) = h2_body(request.into_body()).await;
        let mut stream = respond.send_response(h2_head(200, &[]), false).unwrap();
        stream.send_data(body.into(), trailers.is_none()).unwrap();
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).unwrap();
        }
        // The stream must not be dropped before the last of it is sent.
        let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
    })
}

#[test]
fn requests_share_one_connection() {
    let origin = echo_head();
    let ravelin = before(&origin, "");
    let mut client = ravelin.client();
    for n in 0..20 {
        let text = client.get(&format!("/{n}")).expect(200).text();
        assert!(text.starts_with(&format!("GET http://example.com/{n}\n")), "{text}");
        ravelin.get("/other").expect(200);
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn many_exchanges_are_under_way_on_one_connection() {
    let (here, all) = (Arc::new(AtomicUsize::new(0)), Gate::new());
    let origin = AsyncOrigin::http2(None, Builder::new(), {
        let waiting = Arc::new(Mutex::new(Vec::new()));
        move |_, respond| {
            let (here, all, waiting) = (here.clone(), all.clone(), waiting.clone());
            async move {
                waiting.lock().unwrap().push(respond);
                if here.fetch_add(1, Ordering::SeqCst) + 1 == 50 {
                    all.open();
                    let waiting = std::mem::take(&mut *waiting.lock().unwrap());
                    for respond in waiting {
                        h2_answer(respond, "together").await;
                    }
                }
            }
        }
    });
    let ravelin = before(&origin, "");
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = ravelin.client();
            thread::spawn(move || client.get("/").expect(200).text())
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), "together");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    let origin = echo_body();
    let ravelin = before(&origin, "");
    for len in [0, 1, 16_384, 65_536, 1_000_000, 10_000_000] {
        let body = pattern(len, 7);
        let mut client = ravelin.client();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n"));
        client.send(&body);
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
    }
}

#[test]
fn chunked_bodies_become_data_and_trailers_stay_trailers() {
    let origin = echo_body();
    let ravelin = before(&origin, "");
    let response = ravelin.ask(
        "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(response.text(), "hello world");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "11".to_owned())]);
}

#[test]
fn rfc9113_8_2_2_fields_of_the_clients_connection_are_not_sent() {
    let origin = echo_head();
    let ravelin = before(&origin, "");
    let text = ravelin
        .ask(
            "GET /p?q=1 HTTP/1.1\r\nHost: Example.com\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
             Keep-Alive: 5\r\nTE: gzip, trailers\r\nX-Kept: a\r\nX-Kept: b\r\nCookie: a=1; b=2\r\n\r\n",
        )
        .expect(200)
        .text();
    let (line, fields) = text.split_once('\n').unwrap();
    assert!(line.eq_ignore_ascii_case("GET http://example.com/p?q=1"), "{line}");
    for gone in ["connection", "keep-alive", "x-hop", "\nhost:", "transfer-encoding", "gzip"] {
        assert!(!fields.contains(gone), "{gone} in {fields}");
    }
    for kept in
        ["te: trailers\n", "x-kept: a\nx-kept: b\n", "cookie: a=1; b=2\n", "x-forwarded-for: "]
    {
        assert!(fields.contains(kept), "{kept} not in {fields}");
    }
}

#[test]
fn the_endpoint_is_named_when_the_host_is_not_kept() {
    let origin = echo_head();
    let ravelin = before(&origin, "[sites.proxy.headers]\npreserve_host = false\n");
    let text = ravelin.get("/x").expect(200).text();
    assert!(text.starts_with(&format!("GET http://{}/x\n", origin.addr())), "{text}");
}

#[test]
fn interim_responses_are_passed_on() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |_, mut respond| async move {
        respond.send_informational(h2_head(103, &[("link", "</style.css>")])).unwrap();
        h2_answer(respond, "page").await;
    });
    let ravelin = before(&origin, "");
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let head = String::from_utf8(client.wire.until(b"\r\n\r\n").unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 103") && head.contains("</style.css>"), "{head}");
    assert_eq!(client.response("GET").expect(200).text(), "page");
}

#[test]
fn a_response_gets_the_reason_phrase_of_its_status() {
    let origin = echo_head();
    let ravelin = before(&origin, "");
    let text = curl(&["-si", &ravelin.url("/")]);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

#[test]
fn responses_without_a_body_have_none() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |request, mut respond| async move {
        let status = request.uri().path()[1..].parse().unwrap();
        let fields: &[_] = match (status, request.method().as_str()) {
            (304, _) | (_, "HEAD") => &[("content-length", "1234")],
            _ => &[],
        };
        respond.send_response(h2_head(status, fields), true).unwrap();
    });
    let ravelin = before(&origin, "");
    let mut client = ravelin.client();
    for status in [200, 204, 304, 404] {
        let response = client.get(&format!("/{status}")).expect(status);
        assert!(response.body.is_empty());
        let response = client.ask(format!("HEAD /{status} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        assert_eq!(response.status, status);
    }
}

/// Closes the first connection with a GOAWAY that says nothing was processed; answers afterwards.
fn goes_away_first(seen: Arc<AtomicUsize>) -> AsyncOrigin {
    AsyncOrigin::connections(None, move |mut taken, index| {
        let seen = seen.clone();
        async move {
            if index == 0 {
                taken.write_all(&frame(SETTINGS, 0, 0, [])).await.unwrap();
                assert!(read_until_headers(&mut taken).await);
                taken.write_all(&frame(GOAWAY, 0, 0, [0; 8])).await.unwrap();
                taken.shutdown().await.unwrap();
                return;
            }
            let mut connection = taken.http2(&Builder::new()).await;
            while let Some(Ok((request, respond))) = connection.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::task::spawn_local(async move {
                    let (body, _) = h2_body(request.into_body()).await;
                    h2_answer(respond, body).await;
                });
            }
        }
    })
}

#[test]
fn rfc9113_6_8_a_request_that_goaway_leaves_out_is_sent_again() {
    for request in [
        "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let origin = goes_away_first(seen.clone());
        let ravelin = before(&origin, "");
        let response = ravelin.ask(request).expect(200);
        assert_eq!(response.text(), if request.starts_with("POST") { "hello" } else { "" });
        assert_eq!((origin.accepted(), seen.load(Ordering::SeqCst)), (2, 1));
    }
}

#[test]
fn rfc9113_6_8_requests_under_way_survive_goaway() {
    let (told, finish) = (Gate::new(), Gate::new());
    let origin = AsyncOrigin::connections(None, {
        let (told, finish) = (told.clone(), finish.clone());
        move |taken, index| {
            let (told, finish) = (told.clone(), finish.clone());
            async move {
                let mut connection = taken.http2(&Builder::new()).await;
                let Some(Ok((_, respond))) = connection.accept().await else { return };
                if index > 0 {
                    h2_answer(respond, "second connection").await;
                } else {
                    connection.graceful_shutdown();
                    told.open();
                    tokio::task::spawn_local(async move {
                        tokio::task::spawn_blocking(move || finish.pass()).await.unwrap();
                        h2_answer(respond, "first connection").await;
                    });
                }
                while connection.accept().await.is_some() {}
            }
        }
    });
    let ravelin = before(&origin, "");
    let mut slow = ravelin.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    told.pass();
    // Until the GOAWAY has arrived, a request may still be refused and sent again: never an error.
    while origin.accepted() == 1 {
        assert_eq!(ravelin.get("/").expect(200).text(), "second connection");
    }
    finish.open();
    assert_eq!(slow.response("GET").expect(200).text(), "first connection");
}

/// Refuses the first `n` streams.
fn refuses(n: usize) -> AsyncOrigin {
    let count = Arc::new(AtomicUsize::new(0));
    AsyncOrigin::http2(None, Builder::new(), move |_, mut respond| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            match number < n {
                true => respond.send_reset(Reason::REFUSED_STREAM),
                false => h2_answer(respond, "taken").await,
            }
        }
    })
}

#[test]
fn rfc9113_8_7_a_refused_stream_is_tried_twice_more() {
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi";
    let ravelin_and_origin = |n| {
        let origin = refuses(n);
        (before(&origin, ""), origin)
    };
    let (ravelin, _origin) = ravelin_and_origin(2);
    assert_eq!(ravelin.ask(post).expect(200).text(), "taken");
    let (ravelin, _origin) = ravelin_and_origin(3);
    ravelin.ask(post).expect(502);
    ravelin.stderr.line_with(&["RST_STREAM received: REFUSED_STREAM"]);
    assert_eq!(ravelin.ask(post).expect(200).text(), "taken");
}

/// Refuses the first `n` streams once their bodies have come, which it checks; then answers with it.
fn refuses_late(n: usize, expected: Vec<u8>) -> AsyncOrigin {
    let count = Arc::new(AtomicUsize::new(0));
    AsyncOrigin::http2(None, Builder::new(), move |request, mut respond| {
        let (number, expected) = (count.fetch_add(1, Ordering::SeqCst), expected.clone());
        async move {
            let (body, trailers) = h2_body(request.into_body()).await;
            assert!(body == expected, "attempt {number}: {} bytes", body.len());
            let sum = trailers.map(|trailers| trailers["x-sum"].clone());
            match number < n {
                true => respond.send_reset(Reason::REFUSED_STREAM),
                false => h2_answer(respond, format!("{} {sum:?}", body.len())).await,
            }
        }
    })
}

#[test]
fn rfc9113_8_7_a_refused_body_is_sent_again_whole() {
    for len in [1, 5_000, 60_000] {
        let body = pattern(len, 9);
        let origin = refuses_late(2, body.clone());
        let ravelin = before(&origin, "");
        // The body comes after the head, in two parts, so that it is not in the first read.
        let (one, other) = body.split_at(len / 2);
        let mut client = ravelin.client();
        let head = format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n");
        client.send(head);
        thread::sleep(Duration::from_millis(20));
        client.send(one);
        thread::sleep(Duration::from_millis(20));
        client.send(other);
        assert_eq!(client.response("POST").expect(200).text(), format!("{len} None"));

        let origin = refuses_late(2, body.clone());
        let ravelin = before(&origin, "");
        let mut client = ravelin.client();
        client.send("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n");
        thread::sleep(Duration::from_millis(20));
        client.send(format!("{len:x}\r\n")).send(&body);
        client.send("\r\n0\r\nX-Sum: 7\r\n\r\n");
        assert_eq!(client.response("POST").expect(200).text(), format!("{len} Some(\"7\")"));
    }
}

#[test]
fn a_refused_body_that_is_too_long_to_keep_is_502() {
    let body = pattern(1_000_000, 9);
    let origin = refuses_late(1, body.clone());
    let ravelin = before(&origin, "");
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1000000\r\n\r\n");
    client.send(&body);
    assert_eq!(client.response("POST").status, 502);
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let origin = AsyncOrigin::http2(None, Builder::new(), move |_, mut respond| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { respond.send_reset(reason) }
        });
        let ravelin = before(&origin, "");
        ravelin
            .ask("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\nhi")
            .expect(502);
        assert_eq!(count.load(Ordering::SeqCst), 1, "{reason:?}");
    }
}

#[test]
fn rfc9113_5_1_2_the_upstreams_limit_of_streams_is_kept() {
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = AsyncOrigin::connections(None, {
        let most = most.clone();
        move |taken, _| {
            let (builder, most) = (builder.clone(), most.clone());
            let mine = Arc::new(AtomicUsize::new(0));
            let now = now.clone();
            async move {
                let mut connection = taken.http2(&builder).await;
                while let Some(Ok((_, respond))) = connection.accept().await {
                    let (mine, most, now) = (mine.clone(), most.clone(), now.clone());
                    most.fetch_max(mine.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    now.fetch_add(1, Ordering::SeqCst);
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        mine.fetch_sub(1, Ordering::SeqCst);
                        h2_answer(respond, "ok").await;
                    });
                }
            }
        }
    });
    let ravelin = before(&origin, "");
    ravelin.get("/").expect(200); // now the limit is known
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = ravelin.client();
            thread::spawn(move || (0..10).for_each(|_| drop(client.get("/").expect(200))))
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(most.load(Ordering::SeqCst) <= 2);
    assert!(origin.accepted() > 1, "twenty clients at two streams a connection");
}

#[test]
fn a_body_that_is_reset_breaks_off_for_the_client() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |request, mut respond| async move {
        let fields: &[_] = match request.uri().path() {
            "/known" => &[("content-length", "100")],
            _ => &[],
        };
        let mut stream = respond.send_response(h2_head(200, fields), false).unwrap();
        stream.send_data("part".into(), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.send_reset(match request.uri().path() {
            "/no-error" => Reason::NO_ERROR,
            _ => Reason::INTERNAL_ERROR,
        });
    });
    let ravelin = before(&origin, "");
    for path in ["/known", "/unknown", "/no-error"] {
        let mut client = ravelin.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        let broken = client.wire.response("GET").unwrap_err();
        assert!(matches!(broken, Broken::Truncated(_) | Broken::Reset), "{path}: {broken:?}");
    }
}

#[test]
fn rfc9113_8_1_1_a_body_of_another_length_than_announced_is_not_passed_as_whole() {
    for (announced, sent) in [("10", "short"), ("3", "longer")] {
        let origin = AsyncOrigin::http2(None, Builder::new(), move |_, mut respond| async move {
            let head = h2_head(200, &[("content-length", announced)]);
            let mut stream = respond.send_response(head, false).unwrap();
            let _ = stream.send_data(sent.into(), true);
        });
        let ravelin = before(&origin, "");
        let mut client = ravelin.client();
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        match client.wire.response("GET") {
            Ok(response) => assert_eq!(response.status, 502),
            Err(broken) => assert!(!matches!(broken, Broken::Malformed(_)), "{broken:?}"),
        }
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_is_passed_on() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |request, respond| async move {
        drop(request);
        h2_answer(respond, "enough").await;
    });
    let ravelin = before(&origin, "");
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 50000000\r\n\r\n");
    client.send(pattern(100_000, 1));
    assert_eq!(client.response("POST").expect(200).text(), "enough");
}

#[test]
fn clients_that_do_not_read_do_not_hold_up_others() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |request, mut respond| async move {
        if request.uri().path() == "/small" {
            return h2_answer(respond, "small").await;
        }
        let mut stream = respond.send_response(h2_head(200, &[]), false).unwrap();
        stream.send_data(Bytes::from(vec![b'x'; 20_000_000]), true).unwrap();
        let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
    });
    let ravelin = before(&origin, "");
    let mut stalled = Vec::new();
    for _ in 0..60 {
        let mut client = ravelin.client();
        client.send("GET /large HTTP/1.1\r\nHost: example.com\r\n\r\n");
        client.wire.until(b"\r\n\r\n").unwrap();
        stalled.push(client);
    }
    for _ in 0..50 {
        assert_eq!(ravelin.get("/small").expect(200).text(), "small");
    }
    assert_eq!(origin.accepted(), 1);
    assert!(memory_kib(ravelin.pid(), "VmRSS") < 256 * 1024);
}

#[test]
fn clients_that_go_away_cost_their_stream_only() {
    let (started, resets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = AsyncOrigin::http2(None, Builder::new(), {
        let (started, resets) = (started.clone(), resets.clone());
        move |request, mut respond| {
            let (started, resets) = (started.clone(), resets.clone());
            async move {
                if request.uri().path() == "/ok" {
                    return h2_answer(respond, "ok").await;
                }
                started.fetch_add(1, Ordering::SeqCst);
                if std::future::poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                    resets.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    let ravelin = before(&origin, "");
    for n in 1..=150 {
        let mut client = ravelin.client();
        client.send("GET /never HTTP/1.1\r\nHost: example.com\r\n\r\n");
        await_count(&started, n);
        drop(client);
        await_count(&resets, n);
        ravelin.get("/ok").expect(200);
    }
    assert!(origin.accepted() < 5, "{} connections", origin.accepted());
}

fn await_count(count: &AtomicUsize, at_least: usize) {
    let deadline = Instant::now() + PATIENCE;
    while count.load(Ordering::SeqCst) < at_least {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

#[test]
fn an_upstream_that_falls_silent_is_504_and_its_connection_is_left() {
    let origin = AsyncOrigin::connections(None, |mut taken, index| async move {
        if index == 0 {
            // Takes the request and is never heard of again.
            read_until_headers(&mut taken).await;
            std::future::pending().await
        }
        let mut connection = taken.http2(&Builder::new()).await;
        while let Some(Ok((_, respond))) = connection.accept().await {
            h2_answer(respond, "alive").await;
        }
    });
    let ravelin = before(&origin, "[sites.proxy.timeout]\nread = \"500ms\"\n");
    ravelin.get("/").expect(504);
    assert_eq!(ravelin.get("/").expect(200).text(), "alive");
}

#[test]
fn an_upstream_that_does_not_speak_http2_is_502() {
    let origin = Origin::saying("HTTP/1.1 only");
    let ravelin = Ravelin::start(&site(&[&format!("h2c://{}", origin.addr())], ""));
    ravelin.get("/").expect(502);
    let nobody = format!("h2c://127.0.0.1:{}", free_port());
    let ravelin = Ravelin::start(&site(&[&nobody], ""));
    ravelin.get("/").expect(502);
    ravelin.stderr.line_with(&["connection refused"]);
}

/// What becomes of a request to an origin that answers with these frames; the process stays small
/// and an honest origin is still served.
fn under_attack(frames: impl Fn(usize) -> Vec<u8> + Send + 'static) -> u16 {
    let hostile = frames_origin(frames);
    let honest = echo_head();
    let toml = format!(
        "[performance]\nworker_threads = 1\n[[sites]]\nname = \"a\"\nhostname = \"example.com\"\n\
         listen = [\"127.0.0.1:0\"]\n[sites.proxy]\nenabled = true\n\
         [[sites.proxy.upstreams]]\nname = \"hostile\"\nurl = \"{}\"\n\
         [[sites.proxy.upstreams]]\nname = \"honest\"\nurl = \"{}\"\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"hostile\"\n\
         [[sites.proxy.routes]]\npath = \"/honest\"\nupstream = \"honest\"\n\
         [sites.proxy.timeout]\nread = 2\n",
        hostile.http2_url(),
        honest.http2_url()
    );
    let ravelin = Ravelin::start(&toml);
    ravelin.get("/honest").expect(200);
    let status = ravelin.get("/").status;
    ravelin.get("/honest").expect(200);
    let peak = memory_kib(ravelin.pid(), "VmHWM");
    assert!(peak < 256 * 1024, "{peak} KiB");
    status
}

/// ":status: 200" and ":status: 103" as HPACK has them.
const OK_200: &[u8] = &[0x88];
const HINTS_103: &[u8] = &[0x08, 3, b'1', b'0', b'3'];

#[test]
fn cve_2026_33814_a_frame_size_that_is_not_allowed_is_502() {
    for size in [0u32, 1, 16_383, 1 << 24, u32::MAX] {
        let settings = [&[0, 5][..], &size.to_be_bytes()].concat();
        assert_eq!(under_attack(move |_| frame(SETTINGS, 0, 0, &settings)), 502, "{size}");
    }
}

#[test]
fn cve_2016_6581_fields_that_unpack_to_more_than_allowed_are_502() {
    // A field of 4000 bytes into the table, then named by one byte 10,000 times.
    let mut block = OK_200.to_vec();
    block.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend(std::iter::repeat_n(b'x', 4000));
    block.extend(std::iter::repeat_n(0xbe, 10_000));
    assert_eq!(under_attack(move |_| frame(HEADERS, END_HEADERS, 1, &block)), 502);
}

#[test]
fn cve_2024_27316_heads_that_are_continued_without_end_are_502() {
    let mut bytes = frame(HEADERS, 0, 1, OK_200);
    for _ in 0..20_000 {
        let field = [&[0x00, 1, b'a', 0x7f, 0x81, 0x07][..], &[b'x'; 1024]].concat();
        bytes.extend(frame(CONTINUATION, 0, 1, &field));
    }
    assert_eq!(under_attack(move |_| bytes.clone()), 502);
    let mut bytes = frame(HEADERS, 0, 1, OK_200);
    (0..1_000_000).for_each(|_| bytes.extend(frame(CONTINUATION, 0, 1, [])));
    assert_eq!(under_attack(move |_| bytes.clone()), 502);
}

#[test]
fn interim_responses_without_end_are_502() {
    let bytes = frame(HEADERS, END_HEADERS, 1, HINTS_103).repeat(500_000);
    assert_eq!(under_attack(move |_| bytes.clone()), 502);
}

#[test]
fn rustsec_2026_0258_empty_data_without_end_is_not_kept() {
    let head = frame(HEADERS, END_HEADERS, 1, OK_200);
    let bytes = [head, frame(DATA, 0, 1, []).repeat(1_000_000)].concat();
    let hostile = frames_origin(move |_| bytes.clone());
    let ravelin = before(&hostile, "");
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    if let Ok(response) = client.wire.response("GET") {
        assert_eq!(response.status, 502);
    }
    assert!(memory_kib(ravelin.pid(), "VmHWM") < 256 * 1024);
}

#[test]
fn frames_that_break_the_rules_are_502() {
    let head = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("RFC 9113 §8.3.2: no :status", head(&[0x00, 1, b'a', 1, b'b'])),
        ("RFC 9113 §8.3.2: two :status", head(&[0x88, 0x88])),
        ("RFC 9113 §8.3: a pseudo field of requests", head(&[0x82])),
        ("RFC 9113 §8.2.1: an upper-case name", head(&[0x88, 0x00, 1, b'A', 1, b'b'])),
        ("RFC 9113 §8.2.1: a line feed in a value", head(&[0x88, 0x00, 1, b'a', 2, b'\n', b'b'])),
        ("RFC 9113 §8.2.1: a NUL in a value", head(&[0x88, 0x00, 1, b'a', 2, 0, b'b'])),
        (
            "RFC 9113 §8.2.2: transfer-encoding",
            head(&[&[0x88, 0x00, 17][..], b"transfer-encoding", &[7], b"chunked"].concat()),
        ),
        (
            "RFC 9113 §8.2.2: connection",
            head(&[&[0x88, 0x00, 10][..], b"connection", &[5], b"close"].concat()),
        ),
        ("RFC 7541 §4.2: a table larger than allowed", head(&[0x3f, 0xe1, 0xff, 0x03, 0x88])),
        ("RFC 7541 §2.3.3: an index that does not exist", head(&[0x88, 0xff, 0x80, 0x01])),
        ("RFC 9113 §5.1: DATA before HEADERS", frame(DATA, END_STREAM, 1, b"x")),
        ("RFC 9113 §5.1.1: a stream of the server", frame(HEADERS, END_HEADERS, 2, OK_200)),
        ("RFC 9113 §5.1: a stream nobody opened", frame(DATA, 0, 99, b"x")),
        ("RFC 9113 §6.6: a push that was turned off", {
            let promise = [&2u32.to_be_bytes()[..], &[0x82, 0x87, 0x84]].concat();
            frame(PUSH_PROMISE, END_HEADERS, 1, &promise)
        }),
        ("RFC 9113 §4.2: a frame larger than allowed", frame(DATA, 0, 1, vec![0; 70_000])),
        ("RFC 9113 §6.4: RST_STREAM of a wrong size", frame(RST_STREAM, 0, 1, [0; 3])),
        ("RFC 9113 §6.7: PING of a wrong size", frame(PING, 0, 0, [0; 7])),
        ("RFC 9113 §6.10: CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1, OK_200)),
        ("RFC 9113 §4.3: frames between those of a head", {
            [frame(HEADERS, 0, 1, OK_200), frame(PING, 0, 0, [0; 8])].concat()
        }),
        ("a status that is none", head(&[0x08, 3, b'2', b'0', b'x'])),
        ("a content-length that is none", { head(&[&[0x88, 0x0f, 13, 2][..], b"-1"].concat()) }),
        ("two content-lengths", {
            let two = [&[0x88, 0x0f, 13, 1][..], b"1", &[0x0f, 13, 1], b"2"].concat();
            [frame(HEADERS, END_HEADERS, 1, &two), frame(DATA, END_STREAM, 1, b"x")].concat()
        }),
    ];
    for (what, bytes) in cases {
        assert_eq!(under_attack(move |_| bytes.clone()), 502, "{what}");
    }
}

#[test]
fn cve_2019_9512_and_9515_pings_and_settings_without_end_do_not_pile_up() {
    for bytes in [frame(PING, 0, 0, [7; 8]), frame(SETTINGS, 0, 0, [])] {
        let flood = bytes.repeat(1_000_000);
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, 1, OK_200);
        // Whether it is borne, cut off or blocked by answers that nobody reads, it costs no memory.
        let status = under_attack(move |_| [&flood[..], &answer].concat());
        assert!(matches!(status, 200 | 502 | 504), "{status}");
    }
}

#[test]
fn trailers_of_an_upstream_are_bounded_and_filtered() {
    let origin = AsyncOrigin::http2(None, Builder::new(), |request, mut respond| async move {
        let mut stream = respond.send_response(h2_head(200, &[]), false).unwrap();
        stream.send_data("body".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "4".parse().unwrap());
        trailers.insert("set-cookie", "a=b".parse().unwrap());
        trailers.insert("content-length", "9".parse().unwrap());
        if request.uri().path() == "/many" {
            (0..100).for_each(|n| _ = trailers.append("x-more", n.into()));
        }
        stream.send_trailers(trailers).unwrap();
    });
    let ravelin = before(&origin, "");
    let response = ravelin.get("/").expect(200);
    assert_eq!(response.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    let mut client = ravelin.client();
    client.send("GET /many HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.wire.response("GET").unwrap_err();
}
