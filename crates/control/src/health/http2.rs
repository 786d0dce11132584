//! One exchange of HTTP/2, on a connection of its own.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::{HeaderMap, Request};
use tokio::time::timeout;

use super::connect::{Progress, Socket, words};
use super::http::{Answer, BODY_MAX};

/// Bytes of one response that may be under way.
const WINDOW: u32 = BODY_MAX as u32;
/// Bytes of the fields of a response, as RFC 9113 §6.5.2 counts them.
const FIELDS_SIZE: u32 = 64 * 1024;
/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Sends a request and reads the response, of its body and trailers only what is wanted.
///
/// # Errors
/// In words.
pub(super) async fn exchange(
    socket: Socket,
    request: Request<()>,
    body: Bytes,
    wants_body: bool,
    progress: &Progress,
) -> Result<Answer, String> {
    progress.enter("beginning HTTP/2");
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(FIELDS_SIZE);
    let (sender, mut connection) = builder.handshake(socket).await.map_err(explain)?;
    let answer = {
        let mut work = pin!(ask(sender, request, body, wants_body, progress));
        poll_fn(|cx| {
            let ended = Pin::new(&mut connection).poll(cx);
            match (work.as_mut().poll(cx), ended) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(explain(error))),
                (Poll::Pending, Poll::Ready(Ok(()))) => {
                    Poll::Ready(Err("the connection ended without a response".to_owned()))
                }
            }
        })
        .await
    };
    if answer.is_ok() {
        // Nobody can send requests any more, so it says GOAWAY and ends.
        tokio::task::spawn_local(async move {
            let _ = timeout(FAREWELL, connection).await;
        });
    }
    answer
}

async fn ask(
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
    wants_body: bool,
    progress: &Progress,
) -> Result<Answer, String> {
    let mut sender = sender.ready().await.map_err(explain)?;
    progress.enter("waiting for the response");
    let (response, mut stream) = sender.send_request(request, body.is_empty()).map_err(explain)?;
    if !body.is_empty() {
        stream.send_data(body, true).map_err(explain)?;
    }
    let (parts, mut incoming) = response.await.map_err(explain)?.into_parts();
    let mut body = Vec::new();
    let mut trailers = HeaderMap::new();
    if wants_body {
        progress.enter("reading the body");
        while let Some(data) = incoming.data().await {
            let data = data.map_err(explain)?;
            // A response that was ended for its length has said enough.
            let _ = incoming.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
            if body.len() >= BODY_MAX {
                body.truncate(BODY_MAX);
                break;
            }
        }
        if incoming.is_end_stream() || body.len() < BODY_MAX {
            trailers = incoming.trailers().await.map_err(explain)?.unwrap_or_default();
        }
    }
    Ok(Answer { status: parts.status.as_u16(), fields: parts.headers, body, trailers })
}

fn explain(error: h2::Error) -> String {
    match error.get_io() {
        Some(error) => words(error),
        None => format!("HTTP/2: {error}"),
    }
}
