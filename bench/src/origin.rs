//! The bench's own origin: takes POST bodies, echoes WebSocket messages, shows what it was sent.
//!
//! It reads a request's body to the end before it answers, as an application does (nginx as origin
//! would answer at once, and proxies then give up the upstream connection). It is not a WebSocket
//! implementation: messages are single binary frames, and the handshake's key is always the one of
//! RFC 6455 §1.3.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::{Result, client, grpc, ws};

/// The key every handshake uses, and the answer it must get (RFC 6455 §1.3).
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Answers with 200 and the request head that arrived.
pub(crate) const SHOW_HEAD: &str = "/head";

/// Serves on one thread until the process ends, gRPC at an address of its own.
pub(crate) fn serve(listen: SocketAddr, grpc: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        tokio::task::spawn_local(grpc::serve(TcpListener::bind(grpc).await?));
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                // A proxy may close a connection at any time; that is no news.
                connection(stream).await.ok();
            });
        }
    }))
}

async fn connection(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; ws::MESSAGE_MAX];
    let mut filled = 0;
    loop {
        let head_end = loop {
            if let Some(end) = client::head_length(buffer.get(..filled).unwrap_or_default()) {
                break end;
            }
            let count = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
            if count == 0 {
                return Ok(());
            }
            filled += count;
        };
        let head = buffer.get(..head_end).unwrap_or_default();
        if client::field(head, "upgrade").is_some() {
            return upgraded(stream, head, filled - head_end).await;
        }
        if client::field(head, "transfer-encoding").is_some() {
            stream.write_all(b"HTTP/1.1 411 \r\nContent-Length: 0\r\n\r\n").await?;
            return Ok(());
        }
        let body = client::content_length(head).unwrap_or(0);
        let answer = if head.starts_with(format!("GET {SHOW_HEAD} ").as_bytes()) {
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len()).into_bytes();
            answer.extend_from_slice(head);
            answer
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok".to_vec()
        };
        let mut missing = (head_end + body).saturating_sub(filled);
        while missing > 0 {
            // The head is not needed any more, so the body may overwrite it.
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            missing = missing.saturating_sub(count);
        }
        stream.write_all(&answer).await?;
        let next = (head_end + body).min(filled);
        buffer.copy_within(next..filled, 0);
        filled = filled.saturating_sub(head_end + body);
    }
}

async fn upgraded(mut stream: TcpStream, head: &[u8], early: usize) -> Result<()> {
    let key = client::field(head, "sec-websocket-key");
    if key != Some(KEY) || early > 0 {
        stream.write_all(b"HTTP/1.1 400 \r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(());
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut message = ws::Message::new();
    while message.read(&mut stream).await? {
        stream.write_all(message.echo()).await?;
    }
    Ok(())
}
