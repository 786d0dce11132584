//! What is left of a request's body when the response does not need it.
//!
//! Bytes that were not read would be taken for the next request, so either they are read and dropped
//! or the connection ends (the client-side desync class of attacks lives on getting this wrong).

use std::future::poll_fn;
use std::task::Poll;

use net::buffer::Buffer;
use wire::body::BodyDecoder;
use wire::head::Framing;

use crate::connection::Connection;
use crate::exchange::Inbound;
use crate::forward::{Patience, Waiting};

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The message ends after so many of the early bytes.
    Nothing(usize),
    /// So many bytes, few enough to be read and dropped.
    Some(u64),
    /// Too much, or nobody knows: the connection has to end.
    TooMuch,
}

/// What of the request's body was not read with its head.
pub(crate) fn body_left(inbound: &Inbound<'_>) -> Left {
    let mut decoder = BodyDecoder::new(inbound.head.framing);
    let mut consumed = 0;
    while !decoder.is_done() {
        let rest = inbound.early.get(consumed..).unwrap_or_default();
        match decoder.next(rest) {
            Ok(piece) if piece.consumed > 0 => consumed += piece.consumed,
            Ok(_) => break,
            Err(_) => return Left::TooMuch,
        }
    }
    match (inbound.head.framing, decoder.remaining()) {
        _ if decoder.is_done() => Left::Nothing(consumed),
        // The client waits for a 100 that will not come; it may or may not send the body.
        _ if inbound.head.expect_continue => Left::TooMuch,
        (Framing::Length(_), Some(rest)) if rest <= inbound.snapshot.limits.drain => {
            Left::Some(rest)
        }
        _ => Left::TooMuch,
    }
}

/// Reads and drops `left` bytes. `None` if the client does not send them in time; else the bytes
/// that came after them, if any.
pub(crate) async fn drain(
    connection: &Connection,
    patience: &mut Patience<'_>,
    left: u64,
) -> Option<Option<Buffer>> {
    let mut buffer = connection.worker.context.buffers.get();
    let mut dropped = 0;
    poll_fn(|cx| {
        while dropped < left {
            match connection.carrier.poll_read(cx, buffer.spare_mut()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(count)) => {
                    let of_body = (left - dropped).min(count as u64);
                    dropped += of_body;
                    buffer.advance(count);
                    buffer.consume(of_body as usize);
                }
                Poll::Pending if patience.ends(Waiting::ClientToSend, dropped) => {
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(()))
    })
    .await?;
    Some(Some(buffer).filter(|buffer| !buffer.is_empty()))
}
