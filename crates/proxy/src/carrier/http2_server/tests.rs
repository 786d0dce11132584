//! A client of h2's own on one side, a [`ServerStream`] on the other.

use std::future::{Future, poll_fn};

use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, Response};
use net::buffer::Pool;
use net::stream::Stream;
use net::worker::runtime;
use tokio::net::UnixStream;

use super::*;

/// One connection, both of its ends driven by tasks of their own.
struct Both {
    client: SendRequest<Bytes>,
    server: tokio::sync::mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Chunk>)>,
    share: Rc<Share>,
}

impl Both {
    /// The client gives each of its streams a window of `window` bytes.
    async fn new(window: u32) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        let (sender, server) = tokio::sync::mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            let mut builder = h2::server::Builder::new();
            builder.enable_connect_protocol().max_send_buffer_size(64 * 1024);
            let mut server = builder.handshake::<_, Chunk>(far).await.unwrap();
            while let Some(Ok(stream)) = server.accept().await {
                let _ = sender.send(stream);
            }
        });
        let mut client = h2::client::Builder::new();
        client.initial_window_size(window).initial_connection_window_size(8 * 1024 * 1024);
        let (client, connection) = client.handshake(near).await.unwrap();
        tokio::task::spawn_local(async { drop(connection.await) });
        let socket = Rc::new(Stream::pair().unwrap().0);
        let share = Share::new(Pool::new(), socket);
        Self { client, server, share }
    }

    /// Sends a request and accepts it.
    async fn request(
        &mut self,
        request: Request<()>,
        asked: Asked,
        ends: bool,
    ) -> (ServerStream, ResponseFuture, SendStream<Bytes>) {
        poll_fn(|cx| self.client.poll_ready(cx)).await.unwrap();
        let (response, body) = self.client.send_request(request, ends).unwrap();
        let (received, respond) = self.server.recv().await.unwrap();
        let stream = ServerStream::new(received.into_body(), respond, asked, &self.share);
        (stream, response, body)
    }

    async fn get(&mut self) -> (ServerStream, ResponseFuture) {
        let (stream, response, _) =
            self.request(Request::get("http://a/").body(()).unwrap(), Asked::Other, true).await;
        (stream, response)
    }

    async fn post(&mut self) -> (ServerStream, ResponseFuture, SendStream<Bytes>) {
        self.request(Request::post("http://a/").body(()).unwrap(), Asked::Other, false).await
    }
}

/// What a client's stream may have on its way, unless the test is about that.
const WINDOW: u32 = 65_535;

fn run<F: Future>(test: F) -> F::Output {
    runtime().unwrap().block_on(test)
}

async fn write(stream: &ServerStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn finish(stream: &ServerStream, trailers: &str) -> io::Result<()> {
    poll_fn(|cx| stream.poll_finish(cx, trailers.as_bytes())).await
}

async fn read(stream: &ServerStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = [0; 1000];
    loop {
        poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        match stream.try_read(&mut buf) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(&buf[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The whole body of a response, and its trailers.
async fn body_of(response: Response<RecvStream>) -> Result<(Vec<u8>, Option<HeaderMap>), Reason> {
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| error.reason().unwrap())?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await.map_err(|error| error.reason().unwrap())?))
}

#[test]
fn a_head_and_a_body_of_known_length() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, response) = both.get().await;
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:\r\nConnection: close\r\n\r\nhello";
        write(&stream, text.as_bytes()).await.unwrap();
        finish(&stream, "").await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(response.headers()["x-a"], "");
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(body_of(response).await.unwrap(), (b"hello".to_vec(), None));
    });
}

#[test]
fn a_head_may_come_in_pieces_and_behind_interim_ones() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, mut response) = both.get().await;
        let text = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                    HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        for byte in text.as_bytes() {
            write(&stream, &[*byte]).await.unwrap();
        }
        finish(&stream, "").await.unwrap();
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!(
            (interim.status().as_u16(), &interim.headers()["link"]),
            (103, &"</a>".parse().unwrap())
        );
        assert_eq!(body_of(response.await.unwrap()).await.unwrap().0, b"ab");
    });
}

#[test]
fn slices_are_one_text() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, response) = both.get().await;
        let parts = ["HTTP/1.1 200 OK\r\nContent-", "Length: 6\r\n\r\nab", "cd", "ef"];
        let slices = parts.map(|part| IoSlice::new(part.as_bytes()));
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let count = poll_fn(|cx| stream.poll_write_vectored(cx, &slices)).await.unwrap();
        assert_eq!(count, all);
        finish(&stream, "").await.unwrap();
        assert_eq!(body_of(response.await.unwrap()).await.unwrap().0, b"abcdef");
    });
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        for (asked, head) in [
            (Asked::Head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            (Asked::Other, "HTTP/1.1 204 No Content\r\n\r\n"),
            (Asked::Other, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
            (Asked::Other, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let request = match asked {
                Asked::Head => Request::head("http://a/"),
                _ => Request::get("http://a/"),
            };
            let (stream, response, _) = both.request(request.body(()).unwrap(), asked, true).await;
            write(&stream, head.as_bytes()).await.unwrap();
            assert!(response.await.unwrap().body().is_end_stream(), "{head}");
            finish(&stream, "").await.unwrap();
        }
    });
}

#[test]
fn rfc9113_8_1_trailers_go_both_ways() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"] {
            let (stream, response, mut body) = both.post().await;
            body.send_data("hello".into(), false).unwrap();
            let mut fields = HeaderMap::new();
            fields.insert("x-sum", "1".parse().unwrap());
            fields.insert("content-length", "9".parse().unwrap());
            body.send_trailers(fields).unwrap();
            assert_eq!(read(&stream).await.unwrap(), b"hello");
            assert_eq!(stream.trailers(), b"x-sum: 1\r\n");
            write(&stream, head.as_bytes()).await.unwrap();
            write(&stream, b"ab").await.unwrap();
            finish(&stream, "grpc-status: 0\r\ngrpc-message: \r\n").await.unwrap();
            let (bytes, trailers) = body_of(response.await.unwrap()).await.unwrap();
            assert_eq!(bytes, b"ab");
            let trailers = trailers.unwrap();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["grpc-message"]),
                (&"0".parse().unwrap(), &"".parse().unwrap())
            );
        }
    });
}

#[test]
fn a_response_that_breaks_off_is_reset_and_never_ends() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] {
            let (stream, response) = both.get().await;
            write(&stream, head.as_bytes()).await.unwrap();
            write(&stream, b"ab").await.unwrap();
            if head.contains("Length") {
                let error = finish(&stream, "").await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            }
            let response = response.await.unwrap();
            drop(stream);
            assert_eq!(body_of(response).await, Err(Reason::INTERNAL_ERROR));
        }
        let (stream, response) = both.get().await;
        drop(stream);
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn more_than_was_announced_is_refused() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, _response) = both.get().await;
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(write(&stream, text).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn rfc9113_8_1_an_early_response_ends_the_request_with_no_error() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, response, mut body) = both.post().await;
        write(&stream, b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        finish(&stream, "").await.unwrap();
        drop(stream);
        assert_eq!(response.await.unwrap().status(), 413);
        let reason = poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR);
    });
}

#[test]
fn a_request_that_is_complete_is_not_given_up_and_one_that_is_reset_is() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, _response, mut body) = both.post().await;
        assert_eq!(stream.try_peek().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        body.send_data("a".into(), true).unwrap();
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        assert_eq!(stream.try_peek().unwrap(), 1);
        assert_eq!(stream.try_read(&mut [0; 9]).unwrap(), 1);
        // Its end is told as often as somebody asks: a request may be sent again.
        for _ in 0..2 {
            let gone = poll_fn(|cx| Poll::Ready(stream.poll_gone(cx).is_ready())).await;
            assert!(!gone);
            poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
            assert_eq!(stream.try_read(&mut [0; 9]).unwrap(), 0);
        }
        body.send_reset(Reason::CANCEL);
        poll_fn(|cx| stream.poll_gone(cx)).await;
    });
}

#[test]
fn a_request_body_that_breaks_off_is_an_error() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, _response, mut body) = both.post().await;
        body.send_data("abc".into(), false).unwrap();
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        body.send_reset(Reason::CANCEL);
        assert_eq!(read(&stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn rfc9113_5_2_a_client_that_gives_no_window_is_waited_for_and_nothing_is_kept_for_it() {
    run(async {
        let mut both = Both::new(0).await;
        let (stream, response) = both.get().await;
        write(&stream, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n").await.unwrap();
        let pending = poll_fn(|cx| Poll::Ready(stream.poll_write(cx, b"abc").is_pending())).await;
        assert!(pending);
        assert_eq!(stream.taken(), None);
        let mut response = response.await.unwrap();
        // Gives the window: h2's client has no other way than to raise that of all streams.
        response.body_mut().flow_control().release_capacity(0).unwrap();
        drop(response);
        let error = write(&stream, b"abc").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn cve_2019_9517_what_waits_for_the_socket_is_bounded() {
    run(async {
        let mut both = Both::new(1 << 30).await;
        let (stream, _response) = both.get().await;
        write(&stream, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let flight = Flight::new(&both.share);
        let mut held = Vec::new();
        // Small pieces cost more than their bytes.
        for (len, least, most) in [(2, 1500, 2500), (CHUNK_MAX, 60, 64)] {
            held.clear();
            while poll_fn(|cx| Poll::Ready(both.share.poll_room(cx))).await.is_ready() {
                held.push(Chunk::copy(&[IoSlice::new(&[0; CHUNK_MAX])], 0, len, &flight));
                assert!(held.len() <= most, "{len} bytes each");
            }
            assert!(held.len() >= least, "{} of {len} bytes", held.len());
        }
        let blocked = poll_fn(|cx| Poll::Ready(stream.poll_write(cx, b"a").is_pending())).await;
        assert!(blocked);
        tokio::task::spawn_local(async move { held.clear() });
        write(&stream, b"a").await.unwrap();
    });
}

#[test]
fn rfc8441_5_a_101_becomes_a_200_and_bytes_flow_both_ways() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (stream, response, mut body) = both.websocket().await;
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ANSWER}\r\nSec-WebSocket-Protocol: soap\r\n\r\n"
        );
        write(&stream, head.as_bytes()).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let fields: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(fields, ["sec-websocket-protocol"]);
        write(&stream, b"down").await.unwrap();
        body.send_data("up".into(), true).unwrap();
        assert_eq!(read(&stream).await.unwrap(), b"up");
        stream.shutdown_write().unwrap();
        assert_eq!(body_of(response).await.unwrap().0, b"down");
    });
}

#[test]
fn rfc8441_5_what_is_no_websocket_is_not_a_200() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        for (text, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 501),
            ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
        ] {
            let (stream, response, _body) = both.websocket().await;
            assert!(write(&stream, text.as_bytes()).await.is_err());
            drop(stream);
            let response = response.await.unwrap();
            assert_eq!(response.status(), status);
            assert!(response.body().is_end_stream());
        }
    });
}

#[test]
fn a_panic_resets_its_stream_only() {
    run(async {
        let mut both = Both::new(WINDOW).await;
        let (lost, lost_response) = both.get().await;
        let (kept, kept_response) = both.get().await;
        let task = tokio::task::spawn_local(async move {
            let _lost = lost;
            panic!("on purpose");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(lost_response.await.unwrap_err().is_reset());
        write(&kept, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(kept_response.await.unwrap().status(), 200);
    });
}

const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Both {
    async fn websocket(&mut self) -> (ServerStream, ResponseFuture, SendStream<Bytes>) {
        let asked = Asked::WebSocket(wire::websocket::accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        let request = Request::connect("http://a/chat")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .body(())
            .unwrap();
        self.request(request, asked, false).await
    }
}
