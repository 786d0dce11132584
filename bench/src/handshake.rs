//! Load of TLS handshakes: every request has a connection of its own.
//!
//! Each task connects, sends one request with `Connection: close`, reads to the end and starts over.
//! When sessions are to be resumed, each task has a store of its own: it resumes the session of its
//! connection before, and a handshake in full is an error from the second on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::lab::Lab;
use crate::measure::Load;
use crate::scenario::SMALL;
use crate::tally::{self, Tally};
use crate::tls::{self, Client};
use crate::{Result, client};

/// Runs the load in a process of its own on the load core.
pub(crate) fn run(
    lab: &Lab,
    target: SocketAddr,
    connections: usize,
    resume: bool,
    seconds: u64,
) -> Result<Load> {
    let certificate = tls::files(lab).certificate.display().to_string();
    let [target, connections, seconds] =
        [target.to_string(), connections.to_string(), seconds.to_string()];
    let args = ["tls-load", "--connect", &target, "--connections", &connections];
    let mut args = [&args[..], &["--seconds", &seconds, "--certificate", &certificate]].concat();
    if resume {
        args.push("--resume");
    }
    tally::parse(&lab.run_load(&std::env::current_exe()?, &args)?)
}

/// Makes the load and prints what came of it; the other end of [`run`].
pub(crate) fn load(
    target: SocketAddr,
    connections: usize,
    certificate: &PathBuf,
    resume: bool,
    seconds: u64,
) -> Result<()> {
    let client = Rc::new(Client::new(certificate)?);
    tally::tasks(connections, seconds, |end, tally| {
        let client = Rc::clone(&client);
        async move { talk(target, &client, resume, end, &tally).await }
    })
}

async fn talk(
    target: SocketAddr,
    client: &Client,
    resume: bool,
    end: Instant,
    tally: &Tally,
) -> Result<()> {
    let config = Arc::new(client.comparing(resume)?);
    let mut expected = HandshakeKind::Full;
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(());
        }
        let answered = request(target, &config);
        match tokio::time::timeout(Duration::from_secs(10), answered).await {
            Err(_) => return Err("no answer within 10 s".into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(kind)) if kind != expected => {
                return Err(format!("a handshake was {kind:?} instead of {expected:?}").into());
            }
            Ok(Ok(_)) => tally.record(begin.elapsed()),
        }
        if resume {
            expected = HandshakeKind::Resumed;
        }
    }
}

/// One request on a connection of its own, up to the connection's end.
async fn request(target: SocketAddr, config: &Arc<ClientConfig>) -> Result<HandshakeKind> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(config));
    let mut stream = connector.connect(tls::server_name()?, stream).await?;
    let kind = stream.get_ref().1.handshake_kind().ok_or("the handshake did not end")?;
    let request = format!("GET /small HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::with_capacity(2048);
    while stream.read_buf(&mut response).await? > 0 {}
    let head = client::head_length(&response).ok_or("the response ends within its head")?;
    let is_right = response.starts_with(b"HTTP/1.1 200 ") && response.len() == head + SMALL;
    if is_right { Ok(kind) } else { Err("a wrong response".into()) }
}
