//! Which version of HTTP a client speaks on a plain connection where both are taken.
//!
//! A client with prior knowledge begins with HTTP/2's preface (RFC 9113 §3.3, §3.4), which no
//! request of HTTP/1 can begin with. The bytes are looked at where they are, in the socket, so
//! whichever driver gets the connection reads them itself.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::Connection;
use super::h2::PREFACE;

/// The client begins with HTTP/2's preface. `None` if it sends too little to tell within the time for
/// a head, or nothing at all.
pub(super) async fn is_http2(connection: &Connection) -> Option<bool> {
    let Some(stream) = connection.carrier.plain() else { return Some(false) };
    let deadline = &connection.deadline;
    deadline.set(connection.snapshot().limits.head_timeout);
    poll_fn(|cx| {
        while stream.poll_read_ready(cx).is_ready() {
            let mut seen = [0; PREFACE.len()];
            match stream.try_peek_at(&mut seen, |seen| !PREFACE.starts_with(seen)) {
                Ok(0) => return Poll::Ready(None),
                // Either all of it, or enough to tell that it is something else, or all there will be.
                Ok(_) => return Poll::Ready(Some(seen == *PREFACE)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(None),
            }
        }
        if connection.seat.is_closing() {
            return Poll::Ready(None);
        }
        // A connection that has not had its first request is owed an answer to it, also by a worker
        // that is stopping.
        deadline.poll_expired(cx).map(|()| None)
    })
    .await
}
