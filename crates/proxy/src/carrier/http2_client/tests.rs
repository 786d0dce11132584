use std::future::poll_fn;
use std::time::Duration;

use config::model::IdleConnections;
use h2::server::{Connection, SendResponse};
use http::Request;
use http::uri::Scheme;
use net::stream::Stream;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::upstream::Http2Pool;

type Server = Connection<UnixStream, Bytes>;

const LIMITS: IdleConnections =
    IdleConnections { max: 8, timeout: Duration::from_secs(60), max_age: Duration::from_secs(60) };

/// Runs `test` with a stream and the server at the other end of its connection.
fn with_stream<F: Future<Output = ()>>(test: impl FnOnce(ClientStream, Server) -> F) {
    with_socket(async |stream, socket| {
        test(stream, h2::server::handshake(socket).await.unwrap()).await;
    });
}

fn with_socket(test: impl AsyncFnOnce(ClientStream, UnixStream)) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let (Stream::Unix(theirs), ours) = Stream::pair().unwrap() else { unreachable!() };
        let place = Http2Pool::alone(ours.into(), Scheme::HTTP, LIMITS).await.unwrap();
        let test = test(ClientStream::new(place), theirs);
        tokio::time::timeout(Duration::from_secs(10), test).await.expect("the test ends");
    });
}

async fn write(stream: &ClientStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn finish(stream: &ClientStream, trailers: &[u8]) -> io::Result<()> {
    poll_fn(|cx| stream.poll_finish(cx, trailers)).await
}

async fn read_some(stream: &ClientStream, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        match stream.try_read(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

async fn read_all(stream: &ClientStream) -> io::Result<String> {
    let mut all = Vec::new();
    let mut buf = [0; 50_000];
    loop {
        match read_some(stream, &mut buf).await? {
            0 => return Ok(String::from_utf8(all).unwrap()),
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

/// The next request; the server goes on by itself.
async fn accept(mut server: Server) -> (Request<RecvStream>, SendResponse<Bytes>) {
    let accepted = server.accept().await.unwrap().unwrap();
    tokio::task::spawn_local(async move { while server.accept().await.is_some() {} });
    accepted
}

async fn body_of(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap())
}

fn response(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

const GET: &[u8] = b"GET /path?q HTTP/1.1\r\nHost: example.com\r\nX-Id: 7\r\n\r\n";

#[test]
fn a_request_without_a_body_ends_with_its_head() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        finish(&stream, b"").await.unwrap();
        let (request, mut respond) = accept(server).await;
        assert_eq!(request.uri(), "http://example.com/path?q");
        assert_eq!(request.headers()["x-id"], "7");
        assert!(request.body().is_end_stream());
        respond.send_response(response(200, &[("x-a", "b")]), true).unwrap();
        let text = read_all(&stream).await.unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\n\r\n");
    });
}

#[test]
fn the_head_may_come_in_any_pieces() {
    for size in [1, 2, 3, 5, 11, GET.len()] {
        with_stream(async |stream, server| {
            for piece in GET.chunks(size) {
                write(&stream, piece).await.unwrap();
            }
            let (request, _respond) = accept(server).await;
            assert_eq!(request.uri().path(), "/path");
        });
    }
}

#[test]
fn a_body_of_known_length_and_one_without() {
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    for head in ["Content-Length: 300000", "Transfer-Encoding: chunked"] {
        with_stream(async |stream, server| {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
            let message = [text.as_bytes(), &body].concat();
            let sending = async {
                write(&stream, &message).await.unwrap();
                finish(&stream, b"").await.unwrap();
            };
            let receiving = async {
                let (request, mut respond) = accept(server).await;
                assert!(!request.headers().contains_key("transfer-encoding"));
                let (got, trailers) = body_of(request.into_body()).await;
                assert!(got == body && trailers.is_none());
                respond.send_response(response(204, &[]), true).unwrap();
            };
            join(sending, receiving).await;
            assert_eq!(read_all(&stream).await.unwrap(), "HTTP/1.1 204 No Content\r\n\r\n");
        });
    }
}

async fn join(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut one_over, mut other_over) = (false, false);
    poll_fn(|cx| {
        one_over = one_over || one.as_mut().poll(cx).is_ready();
        other_over = other_over || other.as_mut().poll(cx).is_ready();
        if one_over && other_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn rfc9113_8_1_trailers_go_both_ways() {
    for head in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
        with_stream(async |stream, server| {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\nbody");
            write(&stream, text.as_bytes()).await.unwrap();
            let trailers = b"x-sum: 12\r\nContent-Length: 9\r\nx-more: a: b\r\n";
            finish(&stream, trailers).await.unwrap();
            let (request, mut respond) = accept(server).await;
            let (got, trailers) = body_of(request.into_body()).await;
            assert_eq!(got, b"body");
            let trailers = trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-more"]), (2, &"a: b".parse().unwrap()));

            let mut send = respond.send_response(response(200, &[]), false).unwrap();
            send.send_data("answer".into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("authorization", "dropped".parse().unwrap());
            send.send_trailers(trailers).unwrap();
            let text = read_all(&stream).await.unwrap();
            assert_eq!(text, "HTTP/1.1 200 OK\r\n\r\nanswer");
            assert_eq!(stream.trailers(), b"grpc-status: 0\r\n");
        });
    }
}

#[test]
fn trailers_are_there_with_the_last_bytes_of_a_known_length() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        let (_, mut respond) = accept(server).await;
        let head = response(200, &[("content-length", "6")]);
        let mut send = respond.send_response(head, false).unwrap();
        send.send_data("ans".into(), false).unwrap();
        let mut buf = [0; 200];
        let head_len = read_some(&stream, &mut buf).await.unwrap();
        assert!(buf[..head_len].ends_with(b"content-length: 6\r\n\r\n"));
        assert_eq!(read_some(&stream, &mut buf).await.unwrap(), 3);
        send.send_data("wer".into(), false).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(stream.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        send.send_trailers(trailers).unwrap();
        assert_eq!(read_some(&stream, &mut buf).await.unwrap(), 3);
        assert_eq!(stream.trailers(), b"x-sum: 1\r\n");
        assert_eq!(read_some(&stream, &mut buf).await.unwrap(), 0);
    });
}

#[test]
fn interim_responses_come_before_the_final_one() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        let (_, mut respond) = accept(server).await;
        respond.send_informational(response(103, &[("link", "</a>")])).unwrap();
        respond.send_informational(response(103, &[("link", "</b>")])).unwrap();
        respond.send_response(response(200, &[]), true).unwrap();
        let text = read_all(&stream).await.unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        );
    });
}

#[test]
fn a_response_to_head_keeps_its_length() {
    with_stream(async |stream, server| {
        write(&stream, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (_, mut respond) = accept(server).await;
        respond.send_response(response(200, &[("content-length", "999")]), true).unwrap();
        let text = read_all(&stream).await.unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n");
    });
}

#[test]
fn rfc9113_5_2_an_upstream_that_gives_no_window_is_waited_for() {
    with_socket(async |stream, socket| {
        let mut builder = h2::server::Builder::new();
        let server = builder.initial_window_size(10).handshake(socket).await;
        let mut server: Server = server.unwrap();
        write(&stream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").await.unwrap();
        let (request, _respond) = server.accept().await.unwrap().unwrap();
        tokio::task::spawn_local(async move { while server.accept().await.is_some() {} });
        let mut body = request.into_body();
        // What is announced before the settings are known may be more; the rest waits.
        let mut sent = 0;
        let blocked = poll_fn(|cx| {
            Poll::Ready(loop {
                match stream.poll_write(cx, &[7; 100][sent..]) {
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => panic!("{error}"),
                    Poll::Pending => break sent < 100,
                }
                if sent == 100 {
                    break false;
                }
            })
        })
        .await;
        if blocked {
            let data = body.data().await.unwrap().unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            assert!(poll_fn(|cx| stream.poll_write(cx, &[7; 100][sent..])).await.unwrap() > 0);
        }
    });
}

#[test]
fn rfc9113_8_7_a_refused_stream_says_so() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        let (_, mut respond) = accept(server).await;
        respond.send_reset(Reason::REFUSED_STREAM);
        let error = read_all(&stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(error.to_string(), "RST_STREAM received: REFUSED_STREAM");
        assert!(stream.was_refused());
    });
}

#[test]
fn another_reset_is_no_refusal() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        with_stream(async |stream, server| {
            write(&stream, GET).await.unwrap();
            let (_, mut respond) = accept(server).await;
            let mut send = respond.send_response(response(200, &[]), false).unwrap();
            send.send_data("part".into(), false).unwrap();
            let mut buf = [0; 100];
            read_some(&stream, &mut buf).await.unwrap();
            assert_eq!(read_some(&stream, &mut buf).await.unwrap(), 4);
            send.send_reset(reason);
            let error = read_some(&stream, &mut buf).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{reason:?}");
            assert!(!stream.was_refused());
            assert_eq!(stream.try_peek().unwrap(), 0);
        });
    }
}

/// Frames by hand: the peer's settings and a GOAWAY with this last stream.
fn goaway(last_stream: u8, code: u8) -> Vec<u8> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, code];
    [&settings[..], &goaway].concat()
}

#[test]
fn rfc9113_6_8_a_stream_above_the_last_of_goaway_was_refused() {
    use tokio::io::AsyncWriteExt;
    for (last, code, refused) in [(0, 0, true), (0, 11, true), (1, 0, false)] {
        with_socket(async |stream, mut socket| {
            write(&stream, GET).await.unwrap();
            socket.write_all(&goaway(last, code)).await.unwrap();
            socket.shutdown().await.unwrap();
            let error = read_all(&stream).await.unwrap_err();
            assert_eq!(stream.was_refused(), refused, "last stream {last}: {error}");
        });
    }
}

#[test]
fn a_connection_that_ends_before_anything_was_sent_refused_the_request() {
    with_socket(async |stream, socket| {
        drop(socket);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let result = write(&stream, GET).await;
        assert!(result.is_err() || read_all(&stream).await.is_err());
        assert!(stream.was_refused());
    });
}

#[test]
fn a_connection_that_ends_after_the_request_was_sent_did_not_refuse_it() {
    with_stream(async |stream, mut server| {
        write(&stream, GET).await.unwrap();
        let accepted = server.accept().await.unwrap().unwrap();
        drop((accepted, server));
        let error = read_all(&stream).await.unwrap_err();
        assert!(!stream.was_refused(), "{error}");
    });
}

#[test]
fn a_response_before_the_end_of_the_request_can_be_read() {
    with_stream(async |stream, server| {
        write(&stream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")
            .await
            .unwrap();
        let (request, mut respond) = accept(server).await;
        drop(request);
        let mut send =
            respond.send_response(response(413, &[("content-length", "3")]), false).unwrap();
        send.send_data("no!".into(), true).unwrap();
        drop((send, respond));
        let text = read_all(&stream).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("\r\n\r\nno!"), "{text}");
        let error = loop {
            if let Err(error) = write(&stream, &[0; 10_000]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // The response is whole all the same.
        assert_eq!(stream.try_read(&mut [0; 9]).unwrap(), 0);
    });
}

#[test]
fn a_body_shorter_than_announced_is_an_error() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        let (_, mut respond) = accept(server).await;
        let head = response(200, &[("content-length", "10")]);
        let mut send = respond.send_response(head, false).unwrap();
        send.send_data("short".into(), true).unwrap();
        let error = read_all(&stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    });
}

#[test]
fn a_stream_that_is_dropped_is_cancelled() {
    with_stream(async |stream, server| {
        write(&stream, GET).await.unwrap();
        let (_, mut respond) = accept(server).await;
        drop(stream);
        let reason = poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::CANCEL);
    });
}

#[test]
fn an_upgrade_is_not_sent() {
    with_stream(async |stream, _server| {
        let head =
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let error = write(&stream, head).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(read_all(&stream).await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(!stream.was_refused());
    });
}

#[test]
fn a_head_without_end_is_given_up() {
    with_stream(async |stream, _server| {
        let line = [b'x'; 1000];
        write(&stream, b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        let mut written = 0;
        let error = loop {
            match write(&stream, &line).await {
                Ok(()) => written += line.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(written <= REQUEST_TEXT_MAX);
    });
}
