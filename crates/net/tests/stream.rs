//! Streams: reading, writing, closing, and noticing what became of an idle connection.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::future::{Future, poll_fn};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::pin::pin;
use std::task::{Poll, ready};

use common::{on_worker, pattern, read, tcp_pair, write_all};
use net::stream::{Peer, Stream};

#[test]
fn bytes_go_both_ways_and_a_half_close_leaves_the_other_half() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        write_all(&stream, b"ping").await.unwrap();
        stream.shutdown_write().unwrap();
        let mut got = Vec::new();
        peer.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"ping");

        peer.write_all(b"pong").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 16];
        assert_eq!(read(&stream, &mut buf).await.unwrap(), 4);
        assert_eq!(read(&stream, &mut buf).await.unwrap(), 0);
    });
}

#[test]
fn a_reader_that_gets_less_than_it_asked_still_sees_the_next_bytes_and_the_end() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        let mut buf = [0; 64];
        for _ in 0..100 {
            peer.write_all(b"a").unwrap();
            assert_eq!(read(&stream, &mut buf).await.unwrap(), 1);
        }
        peer.write_all(b"z").unwrap();
        drop(peer);
        assert_eq!(read(&stream, &mut buf).await.unwrap(), 1);
        assert_eq!(read(&stream, &mut buf).await.unwrap(), 0);
    });
}

#[test]
fn a_read_may_give_something_from_when_bytes_have_come_until_they_are_taken_and_at_the_end() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        let pending = poll_fn(|cx| Poll::Ready(stream.poll_read_ready(cx))).await.is_pending();
        assert!(pending && !stream.is_read_ready());
        peer.write_all(b"a").unwrap();
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        assert!(stream.is_read_ready());
        let mut buf = [0; 16];
        assert_eq!(stream.try_read(&mut buf).unwrap(), 1);
        assert!(!stream.is_read_ready());
        drop(peer);
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        assert_eq!(stream.try_read(&mut buf).unwrap(), 0);
        assert!(stream.is_read_ready());
    });
}

#[test]
fn a_writer_that_fills_the_socket_goes_on_when_there_is_room() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        let sent = pattern(8 * 1024 * 1024);
        let expected = sent.clone();
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got == expected
        });
        let (head, body) = sent.split_at(100);
        let mut done = 0;
        while done < sent.len() {
            let slices = [
                IoSlice::new(head.get(done..).unwrap_or_default()),
                IoSlice::new(&body[done.saturating_sub(100)..]),
            ];
            done += poll_fn(|cx| stream.poll_write_vectored(cx, &slices)).await.unwrap();
        }
        stream.shutdown_write().unwrap();
        assert!(reader.join().unwrap());
    });
}

#[test]
fn a_writer_that_does_not_wait_is_told_that_there_is_no_room_and_goes_on_when_there_is() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        let bytes = pattern(64 * 1024);
        poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
        let mut sent = 0;
        let full = loop {
            match stream.try_write(&bytes) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        let mut got = vec![0; sent];
        peer.read_exact(&mut got).unwrap();
        poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
        assert_eq!(stream.try_write(b"more").unwrap(), 4);
    });
}

#[test]
fn connecting_where_nobody_listens_is_refused() {
    on_worker(async {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Stream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        let path = std::env::temp_dir().join("ravelin-nobody-is-here.sock");
        let error = Stream::connect_unix(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn an_idle_connection_is_fit_while_it_is_open_and_silent() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        assert!(stream.idle_check());
        peer.write_all(b"answer").unwrap();
        read(&stream, &mut [0; 6]).await.unwrap(); // fills the buffer: readiness stays
        assert!(stream.idle_check());
        assert!(stream.idle_check());
    });
}

#[test]
fn an_idle_connection_that_the_peer_closed_is_not_fit() {
    on_worker(async {
        let (stream, peer) = tcp_pair().await;
        drop(peer);
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        assert!(!stream.idle_check());
    });
}

#[test]
fn an_idle_connection_with_an_unexpected_byte_is_not_fit() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        peer.write_all(b"!").unwrap();
        poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        assert!(!stream.idle_check());
    });
}

#[test]
fn a_reset_tells_the_peer_that_the_message_was_cut_off() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        stream.reset_on_close();
        drop(stream);
        let error = peer.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_pair_is_connected() {
    on_worker(async {
        let (one, other) = Stream::pair().unwrap();
        write_all(&one, b"x").await.unwrap();
        assert_eq!(read(&other, &mut [0; 8]).await.unwrap(), 1);
        assert!(!one.is_tcp());
        assert_eq!(Peer::Unix.ip(), None);
    });
}

#[test]
fn who_looks_for_more_bytes_than_there_are_is_told_of_the_end() {
    on_worker(async {
        let (stream, mut peer) = tcp_pair().await;
        let mut buf = [0; 8];
        let looked = async |buf: &mut [u8]| {
            poll_fn(|cx| {
                loop {
                    ready!(stream.poll_read_ready(cx))?;
                    match stream.try_peek_at(buf, |seen| seen.len() >= 4) {
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        result => return Poll::Ready(result),
                    }
                }
            })
            .await
        };
        peer.write_all(b"four").unwrap();
        assert_eq!(looked(&mut buf).await.unwrap(), 4);
        stream.take_peeked(&mut buf[..3]).unwrap();
        // One byte is left, which is too few until nothing follows it.
        {
            let mut look = pin!(looked(&mut buf));
            let early = poll_fn(|cx| Poll::Ready(look.as_mut().poll(cx))).await;
            assert!(early.is_pending(), "{early:?}");
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(look.await.unwrap(), 1);
        }
        assert_eq!(buf[0], b'r');
        stream.take_peeked(&mut buf[..1]).unwrap();
        assert_eq!(looked(&mut buf).await.unwrap(), 0);
    });
}
