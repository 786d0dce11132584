//! One exchange of HTTP/1.1.

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::body::BodyDecoder;
use wire::head::{FIELDS_MAX, HEAD_BYTES_CEILING, HeadLimits, Parse, ResponseHead};

use super::connect::{Progress, Socket, words};
use super::http::{Answer, BODY_MAX};

/// Bytes read at once.
const READ_MAX: usize = 16 * 1024;

/// Bytes of the response's head, interim responses included: nearly 64 KiB.
const HEAD_MAX: usize = HEAD_BYTES_CEILING;

/// Sends the `request` in its parts and reads the response, of its body only what is wanted. Gives
/// the connection back too.
///
/// # Errors
/// In words.
pub(super) async fn exchange(
    mut socket: Socket,
    request: &[&[u8]],
    to_head: bool,
    wants_body: bool,
    progress: &Progress,
) -> Result<(Answer, Socket), String> {
    progress.enter("sending the request");
    socket.write_all(&request.concat()).await.map_err(|error| words(&error))?;
    progress.enter("waiting for the response");
    let mut bytes = Vec::new();
    let head = read_head(&mut socket, &mut bytes, to_head).await?;
    let (own, rest) = bytes.split_at_checked(head.len).unwrap_or_default();
    let fields = fields(&head, own);
    let mut body = Vec::new();
    if wants_body {
        progress.enter("reading the body");
        body = read_body(&mut socket, &head, rest.to_vec()).await?;
    }
    let answer = Answer { status: head.status, fields, body, trailers: HeaderMap::new() };
    Ok((answer, socket))
}

/// Reads until the final response's head is at the front of `bytes`.
async fn read_head(
    socket: &mut Socket,
    bytes: &mut Vec<u8>,
    to_head: bool,
) -> Result<ResponseHead, String> {
    let mut head = ResponseHead::default();
    let (mut scanned, mut interim) = (0, 0);
    loop {
        let limits = HeadLimits { bytes: HEAD_MAX.saturating_sub(interim), fields: FIELDS_MAX };
        match head.parse(bytes, scanned, &limits, to_head) {
            Err(error) => return Err(error.to_string()),
            Ok(Parse::Complete) if head.is_interim() => {
                bytes.drain(..head.len.min(bytes.len()));
                interim += head.len;
                scanned = 0;
            }
            Ok(Parse::Complete) => return Ok(head),
            Ok(Parse::Partial) => {
                scanned = bytes.len();
                if read_more(socket, bytes).await? == 0 {
                    return Err(match bytes.is_empty() {
                        true => "the connection ended without a response".to_owned(),
                        false => "the connection ended within the response's head".to_owned(),
                    });
                }
            }
        }
    }
}

/// Reads the body's beginning, which is all of it unless it is longer than [`BODY_MAX`].
async fn read_body(
    socket: &mut Socket,
    head: &ResponseHead,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let mut decoder = BodyDecoder::new(head.framing);
    let mut body = Vec::new();
    loop {
        let piece = decoder.next(&bytes).map_err(|error| error.reason().to_owned())?;
        body.extend_from_slice(bytes.get(piece.payload.clone()).unwrap_or_default());
        bytes.drain(..piece.consumed.min(bytes.len()));
        if decoder.is_done() || body.len() >= BODY_MAX {
            body.truncate(BODY_MAX);
            return Ok(body);
        }
        if piece.consumed == 0 && read_more(socket, &mut bytes).await? == 0 {
            decoder.finish_eof().map_err(|error| error.reason().to_owned())?;
            return Ok(body);
        }
    }
}

async fn read_more(socket: &mut Socket, bytes: &mut Vec<u8>) -> Result<usize, String> {
    let before = bytes.len();
    bytes.resize(before + READ_MAX, 0);
    let room = bytes.get_mut(before..).unwrap_or_default();
    let count = socket.read(room).await.map_err(|error| words(&error))?;
    bytes.truncate(before + count);
    Ok(count)
}

fn fields(head: &ResponseHead, bytes: &[u8]) -> HeaderMap {
    let pairs = head.fields.iter().filter_map(|field| {
        let name = HeaderName::from_bytes(field.name.of(bytes)).ok()?;
        Some((name, HeaderValue::from_bytes(field.value.of(bytes)).ok()?))
    });
    pairs.collect()
}
