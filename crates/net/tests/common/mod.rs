//! What the tests of sockets share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::future::{Future, poll_fn};
use std::net::{TcpListener, TcpStream};

use net::stream::Stream;
use net::worker::runtime;

/// Runs `future` as a worker would.
pub(crate) fn on_worker<T>(future: impl Future<Output = T>) -> T {
    runtime().unwrap().block_on(future)
}

/// A connected TCP pair: one end as Ravelin has it, the other blocking.
pub(crate) async fn tcp_pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
    (stream, listener.accept().unwrap().0)
}

pub(crate) async fn read(stream: &Stream, buf: &mut [u8]) -> std::io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buf)).await
}

pub(crate) async fn write_all(stream: &Stream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let sent = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Bytes in which every window of a few is different.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}
