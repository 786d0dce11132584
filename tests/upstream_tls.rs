//! TLS to upstreams: whom it trusts, what it shows of itself, and what it says when it fails.

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use h2::server::Builder;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

/// A site before this upstream, whose table goes on with `upstream`.
fn setup(url: &str, upstream: &str) -> Setup {
    let toml = format!(
        "[performance]\nworker_threads = 1\n[[sites]]\nname = \"test\"\nhostname = \"example.com\"\n\
         listen = [\"127.0.0.1:0\"]\n[sites.proxy]\nenabled = true\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\nwebsocket = {}\n\
         [sites.proxy.timeout]\nconnect = 1\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n{upstream}\n",
        !url.starts_with("h2")
    );
    Setup::new(&toml)
}

/// The same, trusting this authority.
fn trusting(authority: &Authority, url: &str, more: &str) -> Ravelin {
    let tls = format!("[sites.proxy.upstreams.tls]\nca_file = \"ca.pem\"\n{more}");
    setup(url, &tls).file("ca.pem", &authority.pem).start()
}

/// An HTTP/1 origin with TLS that answers with its path and what the handshake settled.
fn describing(pair: &Pair, clients: Option<&Authority>) -> AsyncOrigin {
    AsyncOrigin::connections(
        Some(pair.server(&["h2", "http/1.1"], clients)),
        |mut taken, index| async move {
            while let Some(head) = taken.read_head().await {
                let tls = taken.tls();
                let body = format!(
                    "{} connection={index} sni={} alpn={} client={} kind={:?}",
                    head.split(' ').nth(1).unwrap(),
                    tls.server_name().unwrap_or("-"),
                    String::from_utf8_lossy(tls.alpn_protocol().unwrap_or(b"-")),
                    tls.peer_certificates().is_some(),
                    tls.handshake_kind().unwrap()
                );
                taken.write_all(&ok(&body)).await.unwrap();
                taken.flush().await.unwrap();
            }
        },
    )
}

#[test]
fn an_https_upstream_is_verified_asked_by_name_and_kept() {
    let authority = Authority::new();
    let origin = describing(&authority.server(&["localhost"]), None);
    let ravelin = trusting(&authority, &origin.https_url(), "");
    let mut client = ravelin.client();
    for _ in 0..3 {
        let text = client.get("/x").expect(200).text();
        assert_eq!(text, "/x connection=0 sni=localhost alpn=http/1.1 client=false kind=Full");
    }
}

#[test]
fn an_ip_address_is_verified_as_such_and_not_sent_as_a_name() {
    let authority = Authority::new();
    let origin = describing(&authority.server(&["127.0.0.1"]), None);
    let ravelin = trusting(&authority, &format!("https://{}", origin.addr()), "");
    assert!(ravelin.get("/").expect(200).text().contains("sni=- "));
}

#[test]
fn the_name_can_be_another_than_the_urls() {
    let authority = Authority::new();
    let origin = describing(&authority.server(&["internal.example"]), None);
    let named = "server_name = \"internal.example\"\n";
    let ravelin = trusting(&authority, &origin.https_url(), named);
    assert!(ravelin.get("/").expect(200).text().contains("sni=internal.example "));
}

#[test]
fn a_second_connection_resumes_the_session() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = kinds.clone();
    let origin = AsyncOrigin::connections(Some(pair.server(&[], None)), move |mut taken, _| {
        let seen = seen.clone();
        async move {
            taken.read_head().await.unwrap();
            seen.lock().unwrap().push(taken.tls().handshake_kind().unwrap());
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            taken.write_all(answer.as_bytes()).await.unwrap();
            let _ = taken.shutdown().await;
            let _ = taken.read_to_end(&mut Vec::new()).await;
        }
    });
    let ravelin = trusting(&authority, &origin.https_url(), "");
    ravelin.get("/").expect(200);
    ravelin.get("/").expect(200);
    assert_eq!(*kinds.lock().unwrap(), [HandshakeKind::Full, HandshakeKind::Resumed]);
}

/// What the error log says of an upstream that cannot be had.
fn refusal(ravelin: &Ravelin) -> String {
    ravelin.get("/").expect(502);
    let line = ravelin.stderr.line_with(&["connect: TLS failed"]);
    ravelin.stdout.line_with(&["ended=upstream", "phase=connect", "cause=tls"]);
    line
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let (trusted, other) = (Authority::new(), Authority::new());
    for kind in ["https", "h2"] {
        let origin = describing(&other.server(&["localhost"]), None);
        let url = format!("{kind}://localhost:{}", origin.port());
        let line = refusal(&trusting(&trusted, &url, ""));
        assert!(line.contains("certificate of an unknown authority"), "{line}");
        // The system's authorities do not know it either.
        let line = refusal(&setup(&url, "").start());
        assert!(line.contains("certificate of an unknown authority"), "{line}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let origin = describing(&authority.server(&["other.example", "127.0.0.9"]), None);
    let line = refusal(&trusting(&authority, &origin.https_url(), ""));
    let said =
        "certificate name mismatch: asked for localhost, it is for other.example, 127.0.0.9)";
    assert!(line.contains(said), "{line}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let origin = describing(&authority.expired(&["localhost"]), None);
    let line = refusal(&trusting(&authority, &origin.https_url(), ""));
    assert!(line.contains("certificate expired"), "{line}");
}

#[test]
fn an_upstream_without_tls_is_refused() {
    let authority = Authority::new();
    let origin = Origin::script(|conn| {
        let _ = conn.try_send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conn.wait_closed();
    });
    let line = refusal(&trusting(&authority, &format!("https://localhost:{}", origin.port()), ""));
    assert!(line.contains("does not speak TLS"), "{line}");
}

#[test]
fn cve_2026_1642_what_is_sent_before_the_handshake_is_no_response() {
    // The answer to a request that was never sent, then a proper handshake.
    let authority = Authority::new();
    let config = authority.server(&["localhost"]).server(&["http/1.1"], None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let origin = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(&ok("injected")).unwrap();
        let mut session = rustls::ServerConnection::new(config).unwrap();
        while session.complete_io(&mut socket).is_ok() && session.is_handshaking() {}
    });
    let ravelin = trusting(&authority, &format!("https://localhost:{port}"), "");
    let response = ravelin.get("/");
    assert_eq!(response.status, 502);
    assert!(!response.text().contains("injected"));
    origin.join().unwrap();
}

#[test]
fn verification_can_be_turned_off_with_a_warning() {
    let origin = describing(&Authority::new().expired(&["other.example"]), None);
    let off = "[sites.proxy.upstreams.tls]\nverify = false\n";
    let ravelin = setup(&origin.https_url(), off).start();
    ravelin.get("/").expect(200);
    ravelin.stderr.line_with(&["warn", "localhost", "not checked"]);
}

#[test]
fn a_client_certificate_is_shown_where_there_is_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let origin = describing(&authority.server(&["localhost"]), Some(&clients));
    let me = clients.client("ravelin");
    let tls = "[sites.proxy.upstreams.tls]\nca_file = \"ca.pem\"\ncert_file = \"me.pem\"\nkey_file = \"me.key\"\n";
    let setup = setup(&origin.https_url(), tls).file("ca.pem", &authority.pem);
    let ravelin = setup.file("me.pem", me.certificate).file("me.key", me.key).start();
    assert!(ravelin.get("/").expect(200).text().contains("client=true"));

    let ravelin = trusting(&authority, &origin.https_url(), "");
    ravelin.get("/").expect(502);
    ravelin.stderr.line_with(&["TLS failed", "CertificateRequired"]);
}

#[test]
fn files_that_cannot_be_used_refuse_the_start() {
    let pair = Authority::new().client("me");
    for (tls, file) in [
        ("ca_file = \"missing.pem\"", "missing.pem"),
        ("ca_file = \"empty.pem\"", "empty.pem"),
        ("ca_file = \"nonsense.pem\"", "nonsense.pem"),
        ("cert_file = \"me.pem\"\nkey_file = \"missing.key\"", "missing.key"),
        ("cert_file = \"me.pem\"\nkey_file = \"other.key\"", "me.pem"),
    ] {
        let tls = format!("[sites.proxy.upstreams.tls]\n{tls}\n");
        let setup = setup("https://localhost:1", &tls)
            .file("empty.pem", "")
            .file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .file("me.pem", &pair.certificate)
            .file("other.key", Authority::new().client("other").key);
        let output = run(setup.dir(), &["run", "-c", "ravelin.toml"]);
        assert_eq!(output.status.code(), Some(1), "{file}: {}", printed(&output));
        assert!(printed(&output).contains(file), "{file}: {}", printed(&output));
    }
}

#[test]
fn a_handshake_that_stalls_ends_with_the_time_limit_for_connecting() {
    let origin = Origin::script(|conn| conn.wait_closed());
    let authority = Authority::new();
    let ravelin = trusting(&authority, &format!("https://localhost:{}", origin.port()), "");
    ravelin.get("/").expect(504);
    ravelin.stdout.line_with(&["phase=connect", "cause=timeout"]);
}

#[test]
fn large_bodies_pass_both_ways() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let origin =
        AsyncOrigin::connections(Some(pair.server(&[], None)), |mut taken, _| async move {
            while let Some(head) = taken.read_head().await {
                let lower = head.to_ascii_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.unwrap().parse().unwrap()];
                taken.read_exact(&mut body).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                taken.write_all(head.as_bytes()).await.unwrap();
                taken.write_all(&body).await.unwrap();
                taken.flush().await.unwrap();
            }
        });
    let ravelin = trusting(&authority, &origin.https_url(), "");
    let mut client = ravelin.client();
    for len in [0, 1, 16_383, 16_384, 65_537, 5_000_000] {
        let body = pattern(len, 3);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n"));
        client.send(&body);
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_body_until_close_is_whole_only_with_the_end_that_tls_signs() {
    for proper in [true, false] {
        let authority = Authority::new();
        let pair = authority.server(&["localhost"]);
        let origin = AsyncOrigin::connections(
            Some(pair.server(&[], None)),
            move |mut taken, _| async move {
                taken.read_head().await.unwrap();
                taken.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil close").await.unwrap();
                taken.flush().await.unwrap();
                match proper {
                    true => taken.shutdown().await.unwrap(),
                    // As somebody on the way could end it.
                    false => taken.into_raw().shutdown().await.unwrap(),
                }
            },
        );
        let ravelin = trusting(&authority, &origin.https_url(), "");
        let mut client = ravelin.client();
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        match client.wire.response("GET") {
            Ok(response) => assert!(proper && response.text() == "until close"),
            Err(broken) => assert!(!proper, "{broken:?}"),
        }
    }
}

#[test]
fn websocket_through_a_tls_upstream() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    let origin = AsyncOrigin::connections(
        Some(pair.server(&[], None)),
        |mut taken, _| async move {
            taken.read_head().await.unwrap();
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            taken.write_all(head.as_bytes()).await.unwrap();
            taken.flush().await.unwrap();
            let mut buf = [0; 1000];
            while let Ok(count @ 1..) = taken.read(&mut buf).await {
                taken.write_all(&buf[..count]).await.unwrap();
                taken.flush().await.unwrap();
            }
        },
    );
    let url = origin.https_url().replace("https", "wss");
    let ravelin = trusting(&authority, &url, "");
    let mut client = ravelin.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = String::from_utf8(client.wire.until(b"\r\n\r\n").unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for message in ["hello", "again"] {
        client.send(message);
        assert_eq!(client.wire.bytes(message.len()).unwrap(), message.as_bytes());
    }
}

#[test]
fn http2_over_tls_is_agreed_by_alpn() {
    let authority = Authority::new();
    let config = authority.server(&["localhost"]).server(&["h2", "http/1.1"], None);
    let origin = AsyncOrigin::http2(Some(config), Builder::new(), |request, respond| async move {
        let uri = request.uri().to_string();
        let (body, _) = h2_body(request.into_body()).await;
        h2_answer(respond, format!("{uri} {}", body.len())).await;
    });
    let ravelin = trusting(&authority, &origin.http2_url(), "");
    for _ in 0..3 {
        assert_eq!(ravelin.get("/a").expect(200).text(), "https://example.com/a 0");
    }
    let mut client = ravelin.client();
    client.send("POST /b HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3000000\r\n\r\n");
    client.send(pattern(3_000_000, 5));
    assert_eq!(client.response("POST").expect(200).text(), "https://example.com/b 3000000");
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn rfc9113_3_2_an_upstream_that_does_not_agree_to_http2_is_502() {
    let authority = Authority::new();
    let pair = authority.server(&["localhost"]);
    for alpn in [&["http/1.1"][..], &[]] {
        let origin =
            AsyncOrigin::connections(Some(pair.server(alpn, None)), |mut taken, _| async move {
                let _ = taken.read_to_end(&mut Vec::new()).await;
            });
        let line = refusal(&trusting(&authority, &origin.http2_url(), ""));
        assert!(line.contains("HTTP"), "{line}");
    }
}
