use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use config::model::IdleConnections;
use http::Response;
use http::uri::Scheme;
use net::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

use super::*;
use crate::carrier::Carrier;
use crate::carrier::http2_client::ClientStream;

const LIMITS: IdleConnections = IdleConnections {
    max: 8,
    timeout: Duration::from_secs(60),
    max_age: Duration::from_secs(3600),
};

fn run(test: impl Future<Output = ()>) {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(10), test).await };
    runtime.block_on(limited).expect("the test ends");
}

/// The server's ends of the connections a pool opens.
type Accepted = mpsc::UnboundedReceiver<Socket>;

/// What the library's server runs on.
type Socket = tokio::net::UnixStream;

struct Bench {
    pool: Rc<Http2Pool>,
    opened: mpsc::UnboundedSender<Socket>,
    limits: IdleConnections,
}

fn bench(limits: IdleConnections) -> (Bench, Accepted) {
    let (opened, accepted) = mpsc::unbounded_channel();
    (Bench { pool: Rc::default(), opened, limits }, accepted)
}

impl Bench {
    async fn place(&self) -> Result<Place, ConnectError> {
        let open = async || {
            let (Stream::Unix(theirs), ours) = Stream::pair()? else { unreachable!() };
            let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            self.opened.send(theirs).map_err(|_| refused)?;
            Ok(ours.into())
        };
        self.pool.place(3, Scheme::HTTP, self.limits, open).await
    }

    async fn get(&self) -> std::io::Result<Carrier> {
        let stream = ClientStream::new(self.place().await.unwrap());
        let carrier = Carrier::Http2Client(Box::new(stream));
        write(&carrier, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        Ok(carrier)
    }
}

async fn write(carrier: &Carrier, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let count = std::future::poll_fn(|cx| carrier.poll_write(cx, bytes)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

async fn read_all(carrier: &Carrier) -> std::io::Result<String> {
    let mut all = Vec::new();
    let mut buf = [0; 100];
    loop {
        match std::future::poll_fn(|cx| carrier.poll_read(cx, &mut buf)).await? {
            0 => return Ok(String::from_utf8(all).unwrap()),
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

/// Answers every request of every connection with 200.
async fn answer_all(mut accepted: Accepted, streams: u32) {
    while let Some(socket) = accepted.recv().await {
        tokio::task::spawn_local(async move {
            let mut builder = h2::server::Builder::new();
            let server = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(socket);
            let mut server = server.await.unwrap();
            while let Some(Ok((_, mut respond))) = server.accept().await {
                let _ = respond.send_response(Response::new(()), true);
            }
        });
    }
}

#[test]
fn one_connection_carries_exchanges_one_after_the_other_and_at_once() {
    run(async {
        let (bench, accepted) = bench(LIMITS);
        let first = bench.place().await.unwrap();
        assert!(!first.is_reused());
        tokio::task::spawn_local(answer_all(accepted, 100));
        let second = bench.place().await.unwrap();
        assert!(second.is_reused());
        drop((first, second));
        assert!(bench.place().await.unwrap().is_reused());
        assert_eq!(bench.pool.links(3).links.borrow().len(), 1);
    });
}

#[test]
fn one_stream_is_opened_before_the_peer_has_said_how_many_it_takes() {
    run(async {
        let (bench, mut accepted) = bench(LIMITS);
        let first = bench.get().await.unwrap();
        let bench = Rc::new(bench);
        let other = tokio::task::spawn_local({
            let bench = Rc::clone(&bench);
            async move { bench.place().await.unwrap().is_reused() }
        });
        while bench.pool.links(3).waiting.get() == 0 {
            tokio::task::yield_now().await;
        }
        let mut socket = accepted.try_recv().unwrap();
        assert!(accepted.try_recv().is_err(), "no second connection");
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        assert!(other.await.unwrap());
        drop(first);
    });
}

#[test]
fn those_who_come_while_a_connection_is_opened_wait_for_it() {
    run(async {
        let (bench, accepted) = bench(LIMITS);
        let bench = Rc::new(bench);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let bench = Rc::clone(&bench);
                tokio::task::spawn_local(async move {
                    let carrier = bench.get().await.unwrap();
                    read_all(&carrier).await.unwrap()
                })
            })
            .collect();
        tokio::task::spawn_local(answer_all(accepted, 100));
        for task in tasks {
            assert!(task.await.unwrap().starts_with("HTTP/1.1 200 "));
        }
        let links = bench.pool.links(3);
        assert_eq!(links.links.borrow().len(), 1);
        assert_eq!((links.opening.get(), links.waiting.get()), (0, 0));
    });
}

#[test]
fn rfc9113_5_1_2_the_peers_limit_of_streams_is_kept() {
    run(async {
        let (bench, accepted) = bench(LIMITS);
        tokio::task::spawn_local(answer_all(accepted, 2));
        // The settings of the peer come with its answer.
        let first = bench.get().await.unwrap();
        read_all(&first).await.unwrap();
        let second = bench.place().await.unwrap();
        let third = bench.place().await.unwrap();
        assert!(second.is_reused() && !third.is_reused());
        drop(second);
        assert!(bench.place().await.unwrap().is_reused());
        assert_eq!(bench.pool.links(3).links.borrow().len(), 2);
    });
}

#[test]
fn a_waiting_exchange_gets_the_place_that_is_given_back() {
    run(async {
        let (bench, accepted) = bench(LIMITS);
        tokio::task::spawn_local(answer_all(accepted, 100));
        let mut places = Vec::new();
        for _ in 0..CONNECTIONS_MAX * STREAMS_MAX {
            places.push(bench.place().await.unwrap());
        }
        let bench = Rc::new(bench);
        let waiting = tokio::task::spawn_local({
            let bench = Rc::clone(&bench);
            async move { bench.place().await.unwrap().is_reused() }
        });
        while bench.pool.links(3).waiting.get() == 0 {
            tokio::task::yield_now().await;
        }
        places.pop();
        assert!(waiting.await.unwrap());
        assert_eq!(bench.pool.links(3).links.borrow().len(), CONNECTIONS_MAX);
    });
}

#[test]
fn a_failure_to_connect_is_told_to_all_that_waited_for_it() {
    run(async {
        let (bench, accepted) = bench(LIMITS);
        drop(accepted);
        let bench = Rc::new(bench);
        let tasks: Vec<_> = (0..5)
            .map(|_| {
                let bench = Rc::clone(&bench);
                tokio::task::spawn_local(async move { bench.place().await.map(drop) })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap_err().cause, Cause::Refused);
        }
    });
}

#[test]
fn idle_and_old_connections_are_let_go_and_say_goodbye() {
    run(async {
        for limits in [
            IdleConnections { timeout: Duration::ZERO, ..LIMITS },
            IdleConnections { max_age: Duration::ZERO, ..LIMITS },
            IdleConnections { max: 0, ..LIMITS },
        ] {
            let (bench, mut accepted) = bench(limits);
            drop(bench.place().await.unwrap());
            let socket = accepted.recv().await.unwrap();
            bench.pool.sweep();
            assert!(bench.pool.links(3).links.borrow().is_empty(), "{limits:?}");
            let mut server = h2::server::handshake(socket).await.unwrap();
            let end = server.accept().await;
            assert!(end.is_none_or(|end| end.is_err()), "the connection has ended");
        }
    });
}

#[test]
fn rfc9113_6_8_no_new_streams_after_goaway_and_old_ones_finish() {
    run(async {
        let (bench, mut accepted) = bench(LIMITS);
        let old = bench.get().await.unwrap();
        let mut server = h2::server::handshake(accepted.recv().await.unwrap()).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        server.graceful_shutdown();
        let serving = tokio::task::spawn_local(async move { server.accept().await.is_none() });
        // Until the GOAWAY is there, its connection is still taken.
        let fresh = loop {
            let place = bench.place().await.unwrap();
            if !place.is_reused() {
                break place;
            }
            tokio::task::yield_now().await;
        };
        respond.send_response(Response::new(()), true).unwrap();
        assert!(read_all(&old).await.unwrap().starts_with("HTTP/1.1 200 "));
        assert!(serving.await.unwrap());
        drop(fresh);
    });
}

#[test]
fn a_connection_on_which_nothing_comes_back_is_not_trusted_again() {
    run(async {
        let (bench, _accepted) = bench(LIMITS);
        let carrier = bench.get().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(carrier);
        assert!(!bench.place().await.unwrap().is_reused());
    });
}

#[test]
fn cve_2026_33814_settings_that_are_not_allowed_end_the_connection() {
    // SETTINGS_MAX_FRAME_SIZE below and above what RFC 9113 §6.5.2 allows.
    for size in [0u32, 16_383, 1 << 24] {
        run(async {
            let (bench, mut accepted) = bench(LIMITS);
            let carrier = bench.get().await.unwrap();
            let mut socket = accepted.recv().await.unwrap();
            let frame = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5][..], &size.to_be_bytes()].concat();
            socket.write_all(&frame).await.unwrap();
            let error = read_all(&carrier).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
            assert!(!bench.place().await.unwrap().is_reused());
        });
    }
}

#[test]
fn interim_responses_without_end_break_the_connection() {
    run(async {
        let (bench, mut accepted) = bench(LIMITS);
        let carrier = bench.get().await.unwrap();
        let mut socket = accepted.recv().await.unwrap();
        let (mut reader, mut writer) = socket.split();
        let flood = async {
            writer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            loop {
                // ":status: 103", literal with an indexed name.
                let head = [0, 0, 5, 1, 4, 0, 0, 0, 1, 0x08, 3, b'1', b'0', b'3'];
                writer.write_all(&head).await?;
            }
        };
        let result: std::io::Result<()> = flood.await;
        assert!(result.is_err(), "the flood was cut off");
        let mut sent = Vec::new();
        let _ = reader.read_to_end(&mut sent).await;
        let mut buf = [0; 100_000];
        let ended = loop {
            match std::future::poll_fn(|cx| carrier.poll_read(cx, &mut buf)).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(ended.to_string().contains("too many heads"), "{ended}");
    });
}
