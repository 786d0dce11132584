//! Ending a connection whose peer may still be sending.
//!
//! Closing a socket with unread bytes in it resets the connection, and the reset can overtake the
//! response. So the response is followed by a FIN, and what still comes is dropped for a while.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use super::Connection;

/// How long a client is listened to after the last response.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How much of what it sends is dropped.
const LINGER_BYTES: usize = 256 * 1024;

/// Says that nothing more comes, then drops what the client sends until it closes, time is up or it
/// has sent too much.
pub(crate) async fn linger(connection: &Connection) {
    if connection.stream.shutdown_write().is_err() {
        return;
    }
    connection.deadline.set(LINGER_TIME);
    let mut buffer = connection.worker.context.buffers.get();
    let mut dropped = 0;
    poll_fn(|cx| {
        while dropped < LINGER_BYTES && !connection.deadline.expired() {
            match connection.stream.poll_read(cx, buffer.spare_mut()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => dropped += count,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    })
    .await;
}
