//! gRPC as far as the bench needs it: an origin that answers unary calls.
//!
//! It speaks HTTP/2 without TLS and reads a call's message to its end before it answers
//! with a message of the same size and trailers.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::Result;
use crate::scenario::SMALL;

/// The method every call is for.
pub(crate) const METHOD: &str = "/bench.Echo/Unary";

/// Requests that the origin takes at once on a connection.
const STREAMS: u32 = 256;

/// A message of [`SMALL`] bytes behind its prefix: not compressed, four bytes of length.
pub(crate) fn message() -> Vec<u8> {
    let mut message = vec![0];
    message.extend_from_slice(&(SMALL as u32).to_be_bytes());
    message.resize(message.len() + SMALL, b'x');
    message
}

/// Serves as tasks of a `LocalSet`.
pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    let message = Bytes::from(message());
    loop {
        let (stream, _) = listener.accept().await?;
        let message = message.clone();
        spawn_local(async move {
            // A proxy may close a connection at any time; that is no news.
            connection(stream, &message).await.ok();
        });
    }
}

async fn connection(stream: TcpStream, message: &Bytes) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(STREAMS);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        let message = message.clone();
        spawn_local(async move {
            answer(request.into_body(), respond, message).await.ok();
        });
    }
    Ok(())
}

async fn answer(
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    message: Bytes,
) -> Result<()> {
    read(&mut body).await?;
    let response = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut send = respond.send_response(response, false)?;
    send.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)?;
    Ok(())
}

/// Reads a body to its end.
pub(crate) async fn read(body: &mut RecvStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}
