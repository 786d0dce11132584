//! Ending a connection whose peer may still be sending.
//!
//! Closing a socket with unread bytes in it resets the connection, and the reset can overtake the
//! response. So the response is followed by a FIN, and what still comes is dropped for a while.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use net::timer::{Deadline, Tick};
use net::worker::WorkerContext;

use super::Connection;
use crate::carrier::Carrier;

/// How long a client may be silent after the last response.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// How long it is listened to in all: many clients look for a response only when they have sent all
/// of the request, so an upload that was turned down is given time to end.
const LINGER_TIME: Duration = Duration::from_secs(10);
/// How much of what it sends is dropped.
const LINGER_BYTES: usize = 256 * 1024 * 1024;

/// Says that nothing more comes, then drops what the client sends until it closes, is silent, time is
/// up or it has sent too much.
pub(crate) async fn linger(connection: &Connection) {
    linger_on(&connection.carrier, &connection.deadline, &connection.worker.context).await;
}

/// The same for any connection, by a deadline of the same task.
pub(crate) async fn linger_on(carrier: &Carrier, deadline: &Deadline, context: &WorkerContext) {
    if carrier.shutdown_write().is_err() {
        return;
    }
    let since = Tick::now();
    deadline.set(QUIET_TIME);
    let mut buffer = context.buffers.get();
    let mut dropped = 0;
    poll_fn(|cx| {
        while dropped < LINGER_BYTES && !deadline.expired() {
            match carrier.poll_read(cx, buffer.spare_mut()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => {
                    dropped += count;
                    let left = LINGER_TIME.saturating_sub(Tick::now().since(since));
                    if left.is_zero() {
                        return Poll::Ready(());
                    }
                    deadline.set(left.min(QUIET_TIME));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    })
    .await;
}
