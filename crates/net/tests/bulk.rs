//! Splice and sendfile: every byte arrives, in order, however slow the consumer is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs::File;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::task::Poll;
use std::thread;

use common::{on_worker, pattern, tcp_pair};
use net::sendfile::poll_sendfile;
use net::splice::{LENT_PIPES_MAX, PipePool, Splice, Unfilled};
use net::stream::Stream;

/// Moves everything from one stream to the other; the number of bytes.
async fn relay(splice: &mut Splice, from: &Stream, to: &Stream) -> usize {
    let mut total = 0;
    while poll_fn(|cx| splice.poll_fill(cx, from, usize::MAX)).await.unwrap() > 0 {
        while splice.in_pipe() > 0 {
            total += poll_fn(|cx| splice.poll_drain(cx, to)).await.unwrap();
        }
    }
    total
}

#[test]
fn ten_megabytes_reach_a_consumer_that_reads_in_small_steps() {
    on_worker(async {
        let sent = pattern(10 * 1024 * 1024);
        let (from, mut producer) = tcp_pair().await;
        let (to, mut consumer) = tcp_pair().await;
        let expected = sent.clone();
        let producing = thread::spawn(move || {
            // Odd sizes, so that bytes lie unevenly in the pipe's pages.
            sent.chunks(1447).for_each(|chunk| producer.write_all(chunk).unwrap());
        });
        let consuming = thread::spawn(move || {
            let (mut got, mut step) = (Vec::new(), [0; 997]);
            loop {
                match consumer.read(&mut step).unwrap() {
                    0 => return got == expected,
                    count => got.extend_from_slice(&step[..count]),
                }
            }
        });
        let mut splice = PipePool::new().get().unwrap();
        assert_eq!(relay(&mut splice, &from, &to).await, 10 * 1024 * 1024);
        to.shutdown_write().unwrap();
        producing.join().unwrap();
        assert!(consuming.join().unwrap());
    });
}

#[test]
fn no_more_is_taken_from_the_source_than_asked() {
    on_worker(async {
        let (from, mut producer) = tcp_pair().await;
        producer.write_all(b"bodynext").unwrap();
        let mut splice = PipePool::new().get().unwrap();
        let moved = poll_fn(|cx| splice.poll_fill(cx, &from, 4)).await.unwrap();
        assert_eq!((moved, splice.in_pipe()), (4, 4));
        let mut rest = [0; 16];
        let count = common::read(&from, &mut rest).await.unwrap();
        assert_eq!(&rest[..count], b"next");
    });
}

#[test]
fn a_pipe_is_filled_only_when_empty_and_drained_only_when_not() {
    on_worker(async {
        let (from, mut producer) = tcp_pair().await;
        producer.write_all(b"12345678").unwrap();
        let mut splice = PipePool::new().get().unwrap();
        let error = poll_fn(|cx| splice.poll_drain(cx, &from)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        poll_fn(|cx| splice.poll_fill(cx, &from, 4)).await.unwrap();
        let error = poll_fn(|cx| splice.poll_fill(cx, &from, 4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_pipe_with_bytes_left_in_it_is_never_used_again() {
    on_worker(async {
        let pool = PipePool::new();
        let (from, mut producer) = tcp_pair().await;
        let (to, mut consumer) = tcp_pair().await;
        producer.write_all(b"secret").unwrap();
        let mut first = pool.get().unwrap();
        poll_fn(|cx| first.poll_fill(cx, &from, 100)).await.unwrap();
        drop(first);

        producer.write_all(b"mine").unwrap();
        drop(producer);
        let mut second = pool.get().unwrap();
        assert_eq!(relay(&mut second, &from, &to).await, 4);
        drop(to);
        let mut got = String::new();
        consumer.read_to_string(&mut got).unwrap();
        assert_eq!(got, "mine");
    });
}

#[test]
fn no_more_pipes_are_lent_at_once_than_allowed() {
    on_worker(async {
        let pool = PipePool::new();
        let mut lent: Vec<_> = (0..LENT_PIPES_MAX).map(|_| pool.get().unwrap()).collect();
        assert!(pool.get().is_err());
        lent.pop();
        assert!(pool.get().is_ok());
    });
}

#[test]
fn a_pipe_is_given_back_while_nothing_comes_and_kept_while_bytes_are_in_it() {
    on_worker(async {
        let pool = PipePool::new();
        let mut others: Vec<_> = (1..LENT_PIPES_MAX).map(|_| pool.get().unwrap()).collect();
        let (from, mut producer) = tcp_pair().await;
        let mut slot = None;
        let nothing = poll_fn(|cx| Poll::Ready(pool.poll_fill(&mut slot, cx, &from, 100))).await;
        assert!(nothing.is_pending() && slot.is_none());
        others.push(pool.get().unwrap());

        producer.write_all(b"12345678").unwrap();
        let filled = poll_fn(|cx| pool.poll_fill(&mut slot, cx, &from, 4)).await;
        assert!(matches!(filled, Err(Unfilled::NoPipe)), "{filled:?}");
        others.pop();
        let filled = poll_fn(|cx| pool.poll_fill(&mut slot, cx, &from, 4)).await;
        assert_eq!(filled.unwrap(), 4);
        let again = poll_fn(|cx| pool.poll_fill(&mut slot, cx, &from, 4)).await;
        assert!(matches!(again, Err(Unfilled::Unfit)), "{again:?}");
        assert_eq!(slot.as_ref().map(Splice::in_pipe), Some(4));

        slot = None;
        drop(producer);
        let rest = poll_fn(|cx| pool.poll_fill(&mut slot, cx, &from, 4)).await;
        assert_eq!(rest.unwrap(), 4);
        slot = None;
        let end = poll_fn(|cx| pool.poll_fill(&mut slot, cx, &from, 4)).await;
        assert!(matches!(end, Ok(0)) && slot.is_none());
    });
}

/// A file that is removed when the test ends.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("ravelin-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn sendfile_sends_the_range_it_is_asked_for() {
    on_worker(async {
        let content = pattern(3 * 1024 * 1024);
        let temporary = Temporary::new("sendfile", &content);
        let file = File::open(&temporary.0).unwrap();
        let (to, mut consumer) = tcp_pair().await;
        let consuming = thread::spawn(move || {
            let mut got = Vec::new();
            consumer.read_to_end(&mut got).unwrap();
            got
        });
        let (mut offset, end) = (1000, 3_000_000);
        while offset < end {
            let max = (end - offset) as usize;
            let sent = poll_fn(|cx| poll_sendfile(cx, &to, file.as_fd(), &mut offset, max));
            assert!(sent.await.unwrap() > 0);
        }
        assert_eq!(offset, end);
        drop(to);
        assert!(consuming.join().unwrap() == content[1000..3_000_000]);
    });
}

#[test]
fn sendfile_says_when_the_file_has_become_shorter() {
    on_worker(async {
        let temporary = Temporary::new("short", b"12345");
        let file = File::open(&temporary.0).unwrap();
        let (to, _consumer) = tcp_pair().await;
        let mut offset = 0;
        let sent = poll_fn(|cx| poll_sendfile(cx, &to, file.as_fd(), &mut offset, 100)).await;
        assert_eq!(sent.unwrap(), 5);
        let sent = poll_fn(|cx| poll_sendfile(cx, &to, file.as_fd(), &mut offset, 95)).await;
        assert_eq!(sent.unwrap(), 0);
    });
}
