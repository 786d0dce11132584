//! One HTTP/2 request by hand: a fast wrong answer must not count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client;
use http::{HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsConnector;

use crate::Result;
use crate::grpc::{self, METHOD};
use crate::scenario::SMALL;
use crate::tls::{self, Client};

/// Sends a gRPC call if `path` is [`METHOD`], a GET request otherwise. An error unless TLS, status,
/// body and trailers are right.
pub(crate) fn check(client: &Client, target: SocketAddr, path: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let one = one_request(client, target, path);
        tokio::time::timeout(Duration::from_secs(10), one).await?
    }))
}

async fn one_request(client: &Client, target: SocketAddr, path: &str) -> Result<()> {
    let config = Arc::new(client.verifying(b"h2")?);
    let stream = TcpStream::connect(target).await?;
    let stream = TlsConnector::from(config).connect(tls::server_name()?, stream).await?;
    tls::agreed(stream.get_ref().1, b"h2")?;
    let (send, connection) = client::handshake(stream).await?;
    spawn_local(connection);
    let is_call = path == METHOD;
    let request = Request::builder().uri(format!("https://{target}{path}"));
    let request = match is_call {
        true => request
            .method("POST")
            .header("content-type", "application/grpc")
            .header("te", "trailers"),
        false => request,
    };
    let (response, mut body) = send.ready().await?.send_request(request.body(())?, !is_call)?;
    if is_call {
        body.send_data(Bytes::from(grpc::message()), true)?;
    }
    let response = response.await?;
    let status = response.status();
    let mut body = response.into_body();
    let content = grpc::read(&mut body).await?;
    let trailers = body.trailers().await?.unwrap_or_default();
    let length = if is_call { grpc::message().len() } else { SMALL };
    let outcome = trailers.get("grpc-status").map(HeaderValue::as_bytes);
    if status != 200 || content.len() != length || outcome != is_call.then_some(&b"0"[..]) {
        return Err(format!(
            "answers {status} with {} bytes and trailers {trailers:?} over HTTP/2",
            content.len()
        )
        .into());
    }
    Ok(())
}
