use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::Bytes;
use config::model::{HttpProbe, ProxyProtocol, TextMatch, Transport, UpstreamHttp, UpstreamTls};
use proxy::live::Live;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsAcceptor;
use wire::websocket::accept_key;

use super::super::testing::{check, http_probe};
use super::super::*;

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build_local(LocalOptions::default()).unwrap().block_on(work)
}

/// An origin that gives every connection to `answer`.
async fn origin<F: Future<Output = ()> + 'static>(
    answer: impl Fn(TcpStream) -> F + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(answer(stream));
        }
    });
    address
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// An origin that answers every request with these bytes and closes.
async fn canned(response: impl Into<Vec<u8>>) -> SocketAddr {
    let response = Rc::new(response.into());
    origin(move |mut stream| {
        let response = Rc::clone(&response);
        async move {
            read_head(&mut stream).await;
            stream.write_all(&response).await.unwrap();
        }
    })
    .await
}

/// An origin that shows what it was sent: the head is the body of its answer.
async fn mirror() -> SocketAddr {
    origin(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

fn endpoint_at(address: &UpstreamAddress, transport: &Transport) -> Arc<Endpoint> {
    Live::default().endpoint(address, transport, proxy::live::Lookup::Addresses, 0)
}

fn endpoint(address: SocketAddr, transport: &Transport) -> Arc<Endpoint> {
    let (host, port) = (address.ip().to_string(), address.port());
    endpoint_at(&UpstreamAddress::Tcp { host, port }, transport)
}

async fn outcome_of(check: HealthCheck, endpoint: &Endpoint) -> Outcome {
    let transport = &endpoint.transport;
    let tls = transport.tls.as_ref().map(|tls| ClientConfig::new(tls, transport.http).unwrap());
    Prepared::new(&check, transport, tls.as_ref()).run(endpoint).await
}

async fn probe(probe: Probe, address: SocketAddr) -> Outcome {
    outcome_of(check(probe), &endpoint(address, &Transport::default())).await
}

async fn get(address: SocketAddr) -> Outcome {
    probe(Probe::Http(http_probe()), address).await
}

async fn get_with_body(address: SocketAddr, expected: &str) -> Outcome {
    let expect_body = Some(TextMatch::Contains(expected.to_owned()));
    probe(Probe::Http(HttpProbe { expect_body, ..http_probe() }), address).await
}

async fn closed_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[track_caller]
fn assert_fails(outcome: Outcome, expected: &str) {
    let reason = outcome.expect_err("it should fail");
    assert!(reason.contains(expected), "{reason:?} instead of {expected:?}");
}

#[test]
fn http_succeeds_and_fails_by_status() {
    run(async {
        assert_eq!(get(canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await).await, Ok(()));
        assert_eq!(get(canned("HTTP/1.0 204 \r\n\r\n").await).await, Ok(()));
        let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n";
        assert_eq!(get(canned(moved).await).await, Ok(()), "it is not followed");
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 No\r\n\r\n";
        let status = "status 500 (expected 200-399)";
        assert_eq!(get(canned(interim).await).await, Err(status.to_owned()));
    });
}

#[test]
fn http_asks_as_it_is_told() {
    run(async {
        let address = mirror().await;
        let expect_body = Some(TextMatch::Regex(
            "^GET /health HTTP/1.1\r\nHost: 127.0.0.1:[0-9]+\r\nUser-Agent: Ravelin/[0-9.]+ health \
             check\r\nConnection: close\r\n\r\n$"
                .to_owned(),
        ));
        let plain = HttpProbe { expect_body, ..http_probe() };
        assert_eq!(probe(Probe::Http(plain), address).await, Ok(()));

        let expected = "POST /up?deep=1 HTTP/1.1\r\nHost: a.test\r\nX-Probe: Yes\r\nuser-agent: \
                        me\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
        let fields = [("X-Probe", "Yes"), ("Connection", "keep-alive"), ("user-agent", "me")];
        let told = HttpProbe {
            method: "POST".to_owned(),
            target: "/up?deep=1".to_owned(),
            host: Some("a.test".to_owned()),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: b"hi".to_vec(),
            expect_body: Some(TextMatch::Exact(expected.to_owned())),
            ..http_probe()
        };
        assert_eq!(probe(Probe::Http(told.clone()), address).await, Ok(()));

        // A Host among the fields counts if none is named.
        let host = vec![("host".to_owned(), "b.test".to_owned())];
        let contains = |text: &str| Some(TextMatch::Contains(text.to_owned()));
        let named = HttpProbe {
            fields: host.clone(),
            expect_body: contains("\r\nHost: b.test\r\n"),
            ..http_probe()
        };
        assert_eq!(probe(Probe::Http(named), address).await, Ok(()));
        let both =
            HttpProbe { fields: host, expect_body: contains("\r\nHost: a.test\r\n"), ..told };
        assert_eq!(probe(Probe::Http(both), address).await, Ok(()));
    });
}

#[test]
fn http_reads_a_body_of_any_framing_if_something_is_expected_of_it() {
    run(async {
        let bodies = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n3\r\nady\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nready",
        ];
        for body in bodies {
            assert_eq!(get_with_body(canned(body).await, "ready").await, Ok(()));
            let other = get_with_body(canned(body).await, "Ready").await;
            assert_fails(other, "the body is not as expected (with \"Ready\" in it)");
        }
        let broken = canned("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nready").await;
        assert!(get_with_body(broken, "ready").await.is_err(), "it broke off");
        assert_eq!(get(broken).await, Ok(()), "nobody wants it");
        let head = HttpProbe { method: "HEAD".to_owned(), ..http_probe() };
        assert_eq!(probe(Probe::Http(head), broken).await, Ok(()));
    });
}

#[test]
fn http_reads_no_more_than_64_kib_of_an_endless_body() {
    run(async {
        let address = origin(|mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nready").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        })
        .await;
        assert_eq!(get_with_body(address, "ready").await, Ok(()));
        assert_fails(get_with_body(address, "never").await, "the body is not as expected");
        assert_eq!(get(address).await, Ok(()));
    });
}

#[test]
fn http_takes_no_endless_head() {
    run(async {
        let answer = |beginning: &'static str, line: &'static str| {
            origin(move |mut stream| async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(beginning.as_bytes()).await;
                while stream.write_all(line.as_bytes()).await.is_ok() {}
            })
        };
        let fields = answer("HTTP/1.1 200 OK\r\n", "X-Line: and so on\r\n").await;
        assert_fails(get(fields).await, "response");
        let interim = answer("", "HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_fails(get(interim).await, "response");
    });
}

#[test]
fn what_is_no_response_fails() {
    run(async {
        assert_fails(get(canned("SSH-2.0-OpenSSH\r\n").await).await, "status line");
        assert_fails(get(canned("").await).await, "ended without a response");
        assert_fails(get(canned("HTTP/1.1 200 O").await).await, "within the response's head");
        assert_eq!(get(closed_port().await).await, Err("connection refused".to_owned()));
        let unresolved = UpstreamAddress::Tcp { host: "backend.test".to_owned(), port: 80 };
        let unresolved = endpoint_at(&unresolved, &Transport::default());
        assert_fails(outcome_of(check(Probe::Tcp), &unresolved).await, "does not resolve");
    });
}

#[test]
fn a_slow_endpoint_fails_when_the_time_is_up() {
    run(async {
        let quick = |probe| HealthCheck { timeout: Duration::from_millis(60), ..check(probe) };
        let silent = endpoint(silent_origin().await, &Transport::default());
        let outcome = outcome_of(quick(Probe::Http(http_probe())), &silent).await;
        assert_eq!(outcome, Err("not done within 60ms, waiting for the response".to_owned()));
        assert_eq!(outcome_of(quick(Probe::Tcp), &silent).await, Ok(()));
        let outcome = outcome_of(quick(Probe::Grpc(String::new())), &silent).await;
        assert_fails(outcome, "not done within 60ms, ");
        // Bytes that trickle in make no more time.
        let trickling = origin(|mut stream| async move {
            read_head(&mut stream).await;
            for byte in b"HTTP/1.1 200 OK\r\n".chunks(1).cycle() {
                if stream.write_all(byte).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let trickling = endpoint(trickling, &Transport::default());
        let outcome = outcome_of(quick(Probe::Http(http_probe())), &trickling).await;
        assert_fails(outcome, "not done within");
        let tls = Transport { tls: Some(settings(None)), ..Transport::default() };
        let outcome = outcome_of(quick(Probe::Tls), &endpoint(silent_origin().await, &tls)).await;
        assert_eq!(outcome, Err("not done within 60ms, in the TLS handshake".to_owned()));
    });
}

async fn silent_origin() -> SocketAddr {
    origin(|stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await
}

#[test]
fn another_port_may_be_asked() {
    run(async {
        let other = canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let endpoint = endpoint(closed_port().await, &Transport::default());
        let http = check(Probe::Http(http_probe()));
        assert!(outcome_of(http.clone(), &endpoint).await.is_err());
        let there = HealthCheck { port: Some(other.port()), ..http };
        assert_eq!(outcome_of(there, &endpoint).await, Ok(()));
    });
}

#[test]
fn a_proxy_protocol_header_that_names_nobody_goes_first() {
    let begins = |version, expected: &'static [u8]| async move {
        let address = origin(move |mut stream| async move {
            let mut header = vec![0; expected.len()];
            stream.read_exact(&mut header).await.unwrap();
            let head = read_head(&mut stream).await;
            if header == expected && head.starts_with("GET /health HTTP/1.1\r\n") {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let transport = Transport { proxy_protocol: Some(version), ..Transport::default() };
        let endpoint = endpoint(address, &transport);
        assert_eq!(outcome_of(check(Probe::Http(http_probe())), &endpoint).await, Ok(()));
    };
    run(async {
        begins(ProxyProtocol::V1, b"PROXY UNKNOWN\r\n").await;
        begins(ProxyProtocol::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    });
}

#[test]
fn a_unix_socket_is_asked() {
    run(async {
        let directory = Directory::new();
        let path = directory.0.join("origin");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            assert!(head.contains("\r\nHost: localhost\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        let endpoint = endpoint_at(&UpstreamAddress::Unix(path), &Transport::default());
        assert_eq!(outcome_of(check(Probe::Http(http_probe())), &endpoint).await, Ok(()));
        let nothing = UpstreamAddress::Unix(directory.0.join("nothing"));
        let nothing = endpoint_at(&nothing, &Transport::default());
        assert_fails(outcome_of(check(Probe::Tcp), &nothing).await, "no such file");
    });
}

#[test]
fn settings_that_make_no_request_fail_with_their_reason() {
    run(async {
        let address = closed_port().await;
        let bad = [
            HttpProbe { method: "G ET".to_owned(), ..http_probe() },
            HttpProbe { target: "/\u{7f}".to_owned(), ..http_probe() },
            HttpProbe { host: Some("a\r\nb".to_owned()), ..http_probe() },
            HttpProbe { fields: vec![("a".to_owned(), "b\r\nc: d".to_owned())], ..http_probe() },
        ];
        for bad in bad {
            assert_fails(probe(Probe::Http(bad), address).await, " is no ");
        }
    });
}

#[test]
fn tls_is_that_of_traffic() {
    run(async {
        let (trusted, other) = (Certificate::new("127.0.0.1"), Certificate::new("127.0.0.1"));
        let directory = Directory::new();
        let file = directory.file("ca.pem", &trusted.pem);
        let tls = |settings| Transport { tls: Some(settings), ..Transport::default() };
        let transport = tls(settings(Some(file.clone())));
        let (http, shake) = (check(Probe::Http(http_probe())), check(Probe::Tls));

        let good = endpoint(https_origin(&trusted, &["http/1.1"]).await, &transport);
        assert_eq!(outcome_of(http.clone(), &good).await, Ok(()));
        assert_eq!(outcome_of(shake.clone(), &good).await, Ok(()));
        let wrong = https_origin(&other, &["http/1.1"]).await;
        let untrusted = endpoint(wrong, &transport);
        assert_fails(outcome_of(http.clone(), &untrusted).await, "TLS: ");
        assert_fails(outcome_of(shake.clone(), &untrusted).await, "certificate");
        assert_eq!(outcome_of(check(Probe::Tcp), &untrusted).await, Ok(()));
        let unverified = UpstreamTls { verify: false, ..settings(None) };
        let unverified = endpoint(wrong, &tls(unverified));
        assert_eq!(outcome_of(http.clone(), &unverified).await, Ok(()));
        let named = UpstreamTls { server_name: Some("b.test".to_owned()), ..settings(Some(file)) };
        let named = endpoint(https_origin(&trusted, &[]).await, &tls(named));
        assert_fails(outcome_of(shake.clone(), &named).await, "TLS: ");
        let plain = origin(|mut stream| async move {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        });
        let plain = endpoint(plain.await, &transport);
        assert_fails(outcome_of(shake, &plain).await, "TLS: ");
        assert_fails(outcome_of(http, &plain).await, "TLS: ");
    });
}

#[test]
fn http_2_is_spoken_where_traffic_speaks_it() {
    run(async {
        let answer = |path: &str, host: &str, _: &[u8]| {
            let status = if (path, host) == ("/health", "a.test") { 200 } else { 500 };
            let response = Response::builder().status(status).header("x-state", "ready");
            (response.body(()).unwrap(), Bytes::from_static(b"all well"), HeaderMap::new())
        };
        let plain = origin(move |stream| http2(stream, answer)).await;
        let transport = Transport { http: UpstreamHttp::Http2, ..Transport::default() };
        let asked = HttpProbe {
            host: Some("a.test".to_owned()),
            expect_fields: vec![("X-State".to_owned(), TextMatch::Exact("ready".to_owned()))],
            expect_body: Some(TextMatch::Contains("well".to_owned())),
            ..http_probe()
        };
        let at = |transport: &Transport, address| endpoint(address, transport);
        let plain = at(&transport, plain);
        assert_eq!(outcome_of(check(Probe::Http(asked.clone())), &plain).await, Ok(()));
        let other = check(Probe::Http(http_probe()));
        let status = "status 500 (expected 200-399)".to_owned();
        assert_eq!(outcome_of(other.clone(), &plain).await, Err(status));
        let h1 = at(&transport, canned("HTTP/1.1 200 OK\r\n\r\n").await);
        assert!(outcome_of(other.clone(), &h1).await.is_err());

        let certificate = Certificate::new("127.0.0.1");
        let directory = Directory::new();
        let file = directory.file("ca.pem", &certificate.pem);
        let secure = Transport { tls: Some(settings(Some(file))), ..transport };
        let server = certificate.server(&["h2"]);
        let address = origin(move |stream| {
            let acceptor = TlsAcceptor::from(Arc::clone(&server));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    http2(stream, answer).await;
                }
            }
        });
        let both = at(&secure, address.await);
        assert_eq!(outcome_of(check(Probe::Http(asked)), &both).await, Ok(()));
        let without = at(&secure, https_origin(&certificate, &[]).await);
        assert_fails(outcome_of(check(Probe::Tls), &without).await, "does not offer HTTP/2");
    });
}

#[test]
fn http_2_reads_no_more_than_64_kib_of_an_endless_body() {
    run(async {
        let endless = origin(|stream| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                tokio::task::spawn_local(async move {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    loop {
                        body.reserve_capacity(4096);
                        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                        let Some(Ok(room)) = room else { return };
                        if body.send_data(Bytes::from(vec![b'x'; room]), false).is_err() {
                            return;
                        }
                    }
                });
            }
        })
        .await;
        let transport = Transport { http: UpstreamHttp::Http2, ..Transport::default() };
        let endpoint = endpoint(endless, &transport);
        let probe = |text: &str| HttpProbe {
            expect_body: Some(TextMatch::Contains(text.to_owned())),
            ..http_probe()
        };
        assert_eq!(outcome_of(check(Probe::Http(probe("xxx"))), &endpoint).await, Ok(()));
        let other = outcome_of(check(Probe::Http(probe("y"))), &endpoint).await;
        assert_fails(other, "the body is not as expected");
    });
}

#[test]
fn grpc_health_decides() {
    run(async {
        // The service's name is the answer that is wanted of it.
        let address = origin(|stream| http2(stream, grpc_answer)).await;
        let ask = |service: &str| probe(Probe::Grpc(service.to_owned()), address);
        assert_eq!(ask("").await, Ok(()));
        assert_eq!(ask("serving").await, Ok(()));
        let says = |word: &str| Err(format!("it says {word} (expected SERVING)"));
        assert_eq!(ask("not serving").await, says("NOT_SERVING"));
        assert_eq!(ask("unknown").await, says("UNKNOWN"));
        assert_fails(ask("missing").await, "gRPC status 5: the service is not known there");
        assert_fails(ask("unimplemented").await, "gRPC status 12: it offers no grpc.health.v1");
        assert_fails(ask("overloaded").await, "gRPC status 14: come back later");
        assert_fails(ask("garbage").await, "no HealthCheckResponse");
        assert_fails(ask("plain").await, "no grpc-status");
        assert_fails(ask("500").await, "status 500 (expected 200)");
        let http1 = canned("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(probe(Probe::Grpc(String::new()), http1).await.is_err());
    });
}

#[test]
fn grpc_goes_over_tls_even_where_traffic_is_http_1() {
    run(async {
        let certificate = Certificate::new("127.0.0.1");
        let directory = Directory::new();
        let file = directory.file("ca.pem", &certificate.pem);
        let server = certificate.server(&["h2", "http/1.1"]);
        let address = origin(move |stream| {
            let acceptor = TlsAcceptor::from(Arc::clone(&server));
            async move { http2(acceptor.accept(stream).await.unwrap(), grpc_answer).await }
        });
        let transport = Transport { tls: Some(settings(Some(file))), ..Transport::default() };
        let endpoint = endpoint(address.await, &transport);
        assert_eq!(outcome_of(check(Probe::Grpc(String::new())), &endpoint).await, Ok(()));
    });
}

#[test]
fn websocket_needs_a_handshake_that_fits_and_says_goodbye() {
    run(async {
        let seen: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let frames = Rc::clone(&seen);
        let address = origin(move |mut stream| {
            let frames = Rc::clone(&frames);
            async move {
                let head = read_head(&mut stream).await;
                let (_, key) = head.split_once("Sec-WebSocket-Key: ").unwrap();
                let key = key.split("\r\n").next().unwrap();
                let accept = match head.contains("/wrong") {
                    true => accept_key(b"other").to_vec(),
                    false => accept_key(key.as_bytes()).to_vec(),
                };
                let accept = String::from_utf8(accept).unwrap();
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: \
                     websocket\r\nSec-WebSocket-Accept: {accept}\r\nX-State: ready\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut frame = vec![0; 8];
                if stream.read_exact(&mut frame).await.is_ok() {
                    frames.borrow_mut().push(frame);
                }
            }
        })
        .await;
        let ask = |target: &str, state: &str| {
            let state = TextMatch::Exact(state.to_owned());
            let ask = HttpProbe {
                target: target.to_owned(),
                statuses: vec![(101, 101)],
                expect_fields: vec![("x-state".to_owned(), state)],
                ..http_probe()
            };
            probe(Probe::WebSocket(ask), address)
        };
        assert_eq!(ask("/ws", "ready").await, Ok(()));
        while seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        let frame = seen.borrow()[0].clone();
        assert_eq!(frame[..2], [0x88, 0x82]);
        assert_eq!([frame[6] ^ frame[2], frame[7] ^ frame[3]], 1000u16.to_be_bytes());
        assert_fails(ask("/ws", "starting").await, "field x-state is \"ready\"");
        assert_fails(ask("/wrong", "ready").await, "Sec-WebSocket-Accept does not fit");

        let websocket = |statuses| Probe::WebSocket(HttpProbe { statuses, ..http_probe() });
        let refuses = canned("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        let outcome = probe(websocket(vec![(101, 101)]), refuses).await;
        assert_eq!(outcome, Err("status 403 (expected 101)".to_owned()));
        // A handshake is needed whatever the statuses.
        let outcome = probe(websocket(vec![(100, 499)]), refuses).await;
        assert_eq!(outcome, Err("status 403 (expected 101)".to_owned()));
        let bare = canned("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
        assert_fails(probe(websocket(vec![(101, 101)]), bare).await, "101");
    });
}

#[test]
fn tcp_needs_somebody_who_listens() {
    run(async {
        assert_eq!(probe(Probe::Tcp, silent_origin().await).await, Ok(()));
        let refused = probe(Probe::Tcp, closed_port().await).await;
        assert_eq!(refused, Err("connection refused".to_owned()));
    });
}

type H2Answer = (Response<()>, Bytes, HeaderMap);

/// Answers the requests of an HTTP/2 connection by path, authority and body.
async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(&str, &str, &[u8]) -> H2Answer + Copy + 'static,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::task::spawn_local(async move {
            let path = request.uri().path().to_owned();
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let (mut body, mut bytes) = (request.into_body(), Vec::new());
            while let Some(Ok(data)) = body.data().await {
                bytes.extend_from_slice(&data);
            }
            let (response, body, trailers) = answer(&path, &host, &bytes);
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(body, trailers.is_empty()).unwrap();
            if !trailers.is_empty() {
                stream.send_trailers(trailers).unwrap();
            }
        });
    }
}

/// Answers as the service's name says.
fn grpc_answer(path: &str, _host: &str, body: &[u8]) -> H2Answer {
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    // Five bytes of gRPC, then tag and length.
    let service = std::str::from_utf8(body.get(7..).unwrap_or_default()).unwrap();
    let status = |number: &'static str| {
        let pairs = [("grpc-status", number), ("grpc-message", "come back later")];
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.map(pair).into_iter().collect::<HeaderMap>()
    };
    let (message, trailers): (&[u8], _) = match service {
        "" | "serving" => (&[0, 0, 0, 0, 2, 8, 1], status("0")),
        "not serving" => (&[0, 0, 0, 0, 2, 8, 2], status("0")),
        "unknown" => (&[0, 0, 0, 0, 0], status("0")),
        "garbage" => (&[0, 0, 0, 0, 9, 8], status("0")),
        "missing" => (&[], status("5")),
        "unimplemented" => (&[], status("12")),
        "overloaded" => (&[], status("14")),
        _ => (&[0, 0, 0, 0, 2, 8, 1], HeaderMap::new()),
    };
    let code = if service == "500" { 500 } else { 200 };
    let response = Response::builder().status(code).header("content-type", "application/grpc");
    (response.body(()).unwrap(), Bytes::copy_from_slice(message), trailers)
}

/// A certificate that it signed itself, for one name or address.
struct Certificate {
    pem: String,
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), key }
    }

    fn server(&self, alpn: &[&str]) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![self.der.clone()], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// An origin that answers 200 over TLS.
async fn https_origin(certificate: &Certificate, alpn: &[&str]) -> SocketAddr {
    let server = certificate.server(alpn);
    origin(move |stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&server));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

fn settings(ca_file: Option<PathBuf>) -> UpstreamTls {
    let ca_file = ca_file.map(Into::into);
    UpstreamTls { verify: true, ca_file, server_name: None, client_certificate: None }
}

/// A directory of its own for a test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ravelin-health-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}
