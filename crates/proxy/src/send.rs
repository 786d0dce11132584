//! Sending a response that Ravelin makes itself to a client.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll};

use net::sendfile::poll_sendfile;

use crate::carrier::Carrier;
use crate::connection::Connection;
use crate::files::{Answer, Body, Part};
use crate::filters::{ConnectionSays, Edits};
use crate::forward::{Patience, Waiting};
use crate::guards::Lines;
use crate::log::Cause;
use crate::respond::reason;

/// Bytes one call of sendfile(2) is asked for.
const SENDFILE_BYTES: u64 = 256 * 1024;

/// How an answer is sent.
#[derive(Debug)]
pub(crate) struct Manner<'a> {
    /// Leave the body out, as for HEAD.
    pub(crate) head_only: bool,
    /// What to say of the connection.
    pub(crate) connection: ConnectionSays,
    /// The site's rules.
    pub(crate) edits: &'a Edits,
    /// "Server: …\r\n" or nothing.
    pub(crate) server_line: &'a [u8],
    /// What guards have to say.
    pub(crate) lines: Option<&'a RefCell<Lines>>,
    /// The id of the request.
    pub(crate) request_id: &'a [u8],
}

/// Sends `answer`; says how many bytes of body were sent.
///
/// # Errors
/// The client is gone or too slow; or a file became shorter, and the connection has to be broken.
pub(crate) async fn send_answer(
    connection: &Connection,
    patience: &mut Patience<'_>,
    out: &mut Vec<u8>,
    answer: &Answer,
    manner: &Manner<'_>,
) -> Result<u64, Cause> {
    out.clear();
    write_head(connection, answer, manner, out);
    let carrier = &connection.carrier;
    if manner.head_only {
        write_all(carrier, patience, &[out]).await?;
        finish(carrier, patience).await?;
        return Ok(0);
    }
    match &answer.body {
        Body::Empty => write_all(carrier, patience, &[out]).await?,
        Body::Memory { bytes, range } => {
            let body = bytes.get(range.clone()).unwrap_or_default();
            write_all(carrier, patience, &[out, body]).await?;
        }
        Body::File { file, start, len } => {
            write_more(carrier, patience, out).await?;
            send_file(connection, patience, file, *start, *len).await?;
        }
        Body::Parts(parts) => {
            write_more(carrier, patience, out).await?;
            for part in parts {
                match part {
                    Part::Memory { bytes, range } => {
                        let text = bytes.get(range.clone()).unwrap_or_default();
                        write_all(carrier, patience, &[text]).await?;
                    }
                    Part::File { file, start, len } => {
                        send_file(connection, patience, file, *start, *len).await?;
                    }
                }
            }
        }
    }
    finish(carrier, patience).await?;
    Ok(answer.body.len())
}

/// Writes all of `parts`, waiting for the client as long as `patience` allows.
pub(crate) async fn write_all(
    carrier: &Carrier,
    patience: &mut Patience<'_>,
    parts: &[&[u8]],
) -> Result<(), Cause> {
    let total = parts.iter().map(|part| part.len()).sum();
    write_until(patience, total, |cx, written| {
        let mut skip = written;
        let mut slices = [IoSlice::new(&[]); 4];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(part.len());
        }
        carrier.poll_write_vectored(cx, slices.get(..parts.len()).unwrap_or_default())
    })
    .await
}

/// Writes a head that a file follows at once, so that the two can share a segment.
async fn write_more(
    carrier: &Carrier,
    patience: &mut Patience<'_>,
    head: &[u8],
) -> Result<(), Cause> {
    write_until(patience, head.len(), |cx, written| {
        carrier.poll_write_more(cx, head.get(written..).unwrap_or_default())
    })
    .await
}

/// Calls `write` with how much is written until that is `total`.
async fn write_until(
    patience: &mut Patience<'_>,
    total: usize,
    mut write: impl FnMut(&mut Context<'_>, usize) -> Poll<io::Result<usize>>,
) -> Result<(), Cause> {
    let mut written = 0;
    poll_fn(|cx| {
        while written < total {
            match write(cx, written) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Cause::Closed)),
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cause::of(&error))),
                Poll::Pending if patience.ends(Waiting::ClientToReceive, written as u64) => {
                    return Poll::Ready(Err(Cause::Timeout));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Says that the answer is complete, where its carrier does not know.
async fn finish(carrier: &Carrier, patience: &mut Patience<'_>) -> Result<(), Cause> {
    poll_fn(|cx| match carrier.poll_finish(cx, b"") {
        Poll::Ready(result) => Poll::Ready(result.map_err(|error| Cause::of(&error))),
        Poll::Pending if patience.ends(Waiting::ClientToReceive, 0) => {
            Poll::Ready(Err(Cause::Timeout))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn send_file(
    connection: &Connection,
    patience: &mut Patience<'_>,
    file: &File,
    start: u64,
    len: u64,
) -> Result<(), Cause> {
    let end = start.saturating_add(len);
    let Some(stream) = connection.carrier.plain() else {
        return copy_file(connection, patience, file, start, end).await;
    };
    let mut offset = start;
    poll_fn(|cx| {
        while offset < end {
            let most = (end - offset).min(SENDFILE_BYTES) as usize;
            match poll_sendfile(cx, stream, file.as_fd(), &mut offset, most) {
                // The file has become shorter than announced.
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Cause::Internal)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                    return Poll::Ready(Err(Cause::Internal));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Cause::of(&error))),
                Poll::Pending if patience.ends(Waiting::ClientToReceive, offset) => {
                    return Poll::Ready(Err(Cause::Timeout));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Sends the bytes of `file` from `offset` to `end` through a buffer: they have to be encrypted or
/// framed.
async fn copy_file(
    connection: &Connection,
    patience: &mut Patience<'_>,
    file: &File,
    mut offset: u64,
    end: u64,
) -> Result<(), Cause> {
    let mut buffer = connection.worker.context.buffers.get_bulk();
    while offset < end {
        buffer.make_room();
        let room = buffer.spare_mut();
        let most = usize::try_from(end - offset).unwrap_or(usize::MAX).min(room.len());
        let count = match file.read_at(room.get_mut(..most).unwrap_or_default(), offset) {
            // The file has become shorter than announced, or it cannot be read any more.
            Ok(0) | Err(_) => return Err(Cause::Internal),
            Ok(count) => count,
        };
        buffer.advance(count);
        write_all(&connection.carrier, patience, &[buffer.filled()]).await?;
        buffer.consume(count);
        offset += count as u64;
        patience.renew();
    }
    Ok(())
}

fn write_head(connection: &Connection, answer: &Answer, manner: &Manner<'_>, out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    for part in [
        b"HTTP/1.1 ",
        number.format(answer.status).as_bytes(),
        b" ",
        reason(answer.status).as_bytes(),
        b"\r\n",
        &connection.worker.date_line(),
    ] {
        out.extend_from_slice(part);
    }
    let drops_server = manner.edits.dropped().contains(wire::field::FieldId::Server);
    if !drops_server {
        out.extend_from_slice(manner.server_line);
    }
    out.extend_from_slice(&answer.fields);
    // RFC 9110 §8.6: none with 204; with 304 it would have to be that of the 200.
    if !matches!(answer.status, 204 | 304) {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(number.format(answer.body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(manner.connection.lines());
    if let Some(lines) = manner.lines {
        lines.borrow().write(out);
    }
    manner.edits.write(manner.request_id, out);
    out.extend_from_slice(b"\r\n");
}
