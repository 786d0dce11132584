//! The bytes after the handshake: that they arrive whole, and how a connection ends.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsFd;

use config::model::TlsVersion;
use net::sendfile::poll_sendfile;
use net::stream::Stream;
use rustix::net::sockopt;

use crate::common::{on_worker, pattern, read, write_all};
use crate::support::{Place, both, connected, only, policy, shake_on};

async fn pair() -> (Stream, Stream) {
    let place = Place::new();
    connected(&place.server(&policy()), &place.client()).await
}

/// Sends `bytes` in slices of changing sizes, then says that this was all.
async fn send(stream: &Stream, bytes: &[u8]) {
    let (mut done, mut size) = (0, 1);
    while done < bytes.len() {
        let piece = &bytes[done..(done + size).min(bytes.len())];
        let (head, body) = piece.split_at(piece.len() / 3);
        let slices = [IoSlice::new(head), IoSlice::new(body)];
        let sent = poll_fn(|cx| stream.poll_write_vectored(cx, &slices)).await.unwrap();
        assert!(sent > 0);
        done += sent;
        size = size * 7 % 100_003 + 1;
    }
    stream.shutdown_write().unwrap();
}

async fn receive(stream: &Stream) -> io::Result<Vec<u8>> {
    let (mut got, mut buf) = (Vec::new(), vec![0; 70_000]);
    loop {
        let size = got.len() % buf.len() + 1;
        match read(stream, &mut buf[..size]).await? {
            0 => return Ok(got),
            count => got.extend_from_slice(&buf[..count]),
        }
    }
}

/// As the path of requests reads: wait without a buffer, then take.
async fn receive_by_readiness(stream: &Stream) -> io::Result<Vec<u8>> {
    let (mut got, mut buf) = (Vec::new(), vec![0; 50_000]);
    loop {
        poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        match stream.try_read(&mut buf) {
            Ok(0) => return Ok(got),
            Ok(count) => got.extend_from_slice(&buf[..count]),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "it was said to be ready");
                return Err(error);
            }
        }
    }
}

#[test]
fn megabytes_go_both_ways_at_once_through_small_sockets() {
    on_worker(async {
        let place = Place::new();
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let (near, far) = Stream::pair().unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let far_tcp = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
            let near_tcp = Stream::Tcp(listener.accept().await.unwrap().0);
            for (near, far) in [(near, far), (near_tcp, far_tcp)] {
                for side in [&near, &far] {
                    // As small as the system allows; a small one for receiving makes TCP slow.
                    sockopt::set_socket_send_buffer_size(side, 1).unwrap();
                }
                let (server, client) = (place.server(&only(version)), place.client());
                let (server, client) = shake_on(near, far, &server, &client).await;
                let (server, client) = (server.unwrap(), client.unwrap());
                let (down, up) = (pattern(3_000_000), pattern(2_000_000));
                let at_server = both(send(&server, &down), receive(&server));
                let at_client = both(send(&client, &up), receive_by_readiness(&client));
                // Whoever has said that this was all reads on, for the socket may be full.
                let at_server = async { (at_server.await.1, receive(&server).await) };
                let at_client = async { (at_client.await.1, receive(&client).await) };
                let ((at_server, end), (at_client, _)) = both(at_server, at_client).await;
                assert!(end.unwrap().is_empty());
                assert!(at_server.unwrap() == up, "what the client sent has changed");
                assert!(at_client.unwrap() == down, "what the server sent has changed");
            }
        }
    });
}

#[test]
fn a_write_that_is_done_can_be_read_without_another_call() {
    on_worker(async {
        let (server, client) = pair().await;
        let mut buf = [0; 64];
        for size in 1..64 {
            let bytes = pattern(size);
            let sent = poll_fn(|cx| server.poll_write(cx, &bytes)).await.unwrap();
            assert_eq!(sent, size);
            assert_eq!(read(&client, &mut buf).await.unwrap(), size);
            assert_eq!(buf[..size], bytes);
        }
    });
}

#[test]
fn a_read_takes_more_than_one_record_when_they_are_there() {
    on_worker(async {
        let (server, client) = pair().await;
        for part in [&b"one "[..], b"two ", b"three"] {
            write_all(&client, part).await.unwrap();
        }
        let mut buf = [0; 64];
        assert_eq!(read(&server, &mut buf).await.unwrap(), 13);
        assert_eq!(&buf[..13], b"one two three");
    });
}

#[test]
fn peeking_takes_nothing() {
    on_worker(async {
        let (server, client) = pair().await;
        assert_eq!(server.try_peek().unwrap_err().kind(), ErrorKind::WouldBlock);
        write_all(&client, b"x").await.unwrap();
        poll_fn(|cx| server.poll_read_ready(cx)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(server.try_peek().unwrap(), 1);
        }
        let mut buf = [0; 8];
        assert_eq!(server.try_read(&mut buf).unwrap(), 1);
        drop(client);
        poll_fn(|cx| server.poll_read_ready(cx)).await.unwrap();
        assert_eq!(server.try_peek().unwrap(), 0);
    });
}

#[test]
fn rfc8446_6_1_a_close_notify_is_the_end_and_leaves_the_other_direction() {
    on_worker(async {
        let (server, client) = pair().await;
        write_all(&client, b"last").await.unwrap();
        client.shutdown_write().unwrap();
        let mut buf = [0; 64];
        assert_eq!(read(&server, &mut buf).await.unwrap(), 4);
        for _ in 0..2 {
            assert_eq!(read(&server, &mut buf).await.unwrap(), 0);
        }
        write_all(&server, b"answer").await.unwrap();
        drop(server);
        assert_eq!(read(&client, &mut buf).await.unwrap(), 6);
        assert_eq!(read(&client, &mut buf).await.unwrap(), 0);
    });
}

#[test]
fn rfc8446_6_1_an_end_without_close_notify_is_an_error_after_the_bytes_that_came() {
    on_worker(async {
        let (server, client) = pair().await;
        write_all(&server, b"not all of it").await.unwrap();
        server.reset_on_close();
        drop(server);
        let mut buf = [0; 64];
        assert_eq!(read(&client, &mut buf).await.unwrap(), 13);
        for _ in 0..2 {
            assert_eq!(read(&client, &mut buf).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        poll_fn(|cx| client.poll_read_ready(cx)).await.unwrap();
        assert_eq!(client.try_peek().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(!client.idle_check());
    });
}

#[test]
fn a_write_given_up_in_the_middle_is_never_followed_by_a_clean_end() {
    on_worker(async {
        let (server, client) = pair().await;
        let bytes = pattern(100_000);
        let mut sent = 0;
        // Until a write does not fit, and then no more.
        while let std::task::Poll::Ready(count) = now(&server, &bytes[sent % 50_000..]).await {
            sent += count.unwrap();
        }
        drop(server);
        let error = receive(&client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    });
}

/// One attempt at writing.
async fn now(stream: &Stream, bytes: &[u8]) -> std::task::Poll<io::Result<usize>> {
    poll_fn(|cx| std::task::Poll::Ready(stream.poll_write(cx, bytes))).await
}

#[test]
fn the_end_of_what_fills_the_socket_is_still_a_clean_one() {
    on_worker(async {
        let (server, client) = pair().await;
        let mut sent = 0;
        while now(&server, b"x").await.is_ready() {
            sent += 1;
        }
        // Room for the one that did not fit; with that the socket is full.
        let mut got = read(&client, &mut [0; 1]).await.unwrap();
        write_all(&server, b"x").await.unwrap();
        sent += 1;
        server.shutdown_write().unwrap();
        let reader = async {
            got += receive(&client).await.unwrap().len();
            drop(client);
        };
        let (end, ()) = both(read(&server, &mut [0; 1]), reader).await;
        assert_eq!(end.unwrap(), 0);
        assert_eq!(got, sent);
    });
}

#[test]
fn an_idle_connection_is_fit_until_its_peer_says_something() {
    on_worker(async {
        let (server, client) = pair().await;
        assert!(server.idle_check() && client.idle_check());
        write_all(&server, b"x").await.unwrap();
        poll_fn(|cx| client.poll_read_ready(cx)).await.unwrap();
        assert!(!client.idle_check());

        let (server, client) = pair().await;
        drop(server);
        poll_fn(|cx| client.poll_read_ready(cx)).await.unwrap();
        assert!(!client.idle_check());
    });
}

#[test]
fn what_the_system_would_move_by_itself_is_refused() {
    on_worker(async {
        let (server, client) = pair().await;
        let pipes = net::splice::PipePool::new();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let sent = poll_fn(|cx| poll_sendfile(cx, &server, file.as_fd(), &mut 0, 100)).await;
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::InvalidInput);

        let mut splice = pipes.get().unwrap();
        write_all(&client, b"x").await.unwrap();
        let moved = poll_fn(|cx| splice.poll_fill(cx, &server, 100)).await;
        assert_eq!(moved.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&server, &mut [0; 4]).await.unwrap(), 1);
    });
}
