//! Origins that speak TLS, HTTP/2, or both. Each runs on a thread of its own until it is dropped.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{HEADERS, PATIENCE, SETTINGS, frame};

/// A connection that an origin took, with or without TLS.
pub enum Taken {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Taken {
    /// What the handshake settled.
    pub fn tls(&self) -> &rustls::ServerConnection {
        match self {
            Taken::Tls(stream) => stream.get_ref().1,
            Taken::Plain(_) => panic!("the connection has no TLS"),
        }
    }

    /// The socket without its TLS, to break the rules with.
    pub fn into_raw(self) -> TcpStream {
        match self {
            Taken::Plain(stream) => stream,
            Taken::Tls(stream) => stream.into_inner().0,
        }
    }

    /// Reads an HTTP/1 head; `None` at the end.
    pub async fn read_head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.read_u8().await.ok()?);
        }
        Some(String::from_utf8(head).unwrap())
    }

    /// HTTP/2 as the library speaks it.
    pub async fn http2(self, builder: &Builder) -> Connection<Taken, Bytes> {
        builder.handshake(self).await.unwrap()
    }
}

/// An origin.
pub struct AsyncOrigin {
    addr: SocketAddr,
    tls: bool,
    accepted: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AsyncOrigin {
    /// Runs `script` for each connection. A handshake that fails is none.
    pub fn connections<F>(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(Taken, usize) -> F + Send + 'static,
    ) -> AsyncOrigin
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let has_tls = tls.is_some();
        let (accepted, failures) = <(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>)>::default();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let (accepted, failures) = (accepted.clone(), failures.clone());
            move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
                let accepting = accept(listener, tls, script, accepted, failures);
                runtime.block_on(until(accepting, stopped));
            }
        });
        let (stop, thread) = (Some(stop), Some(thread));
        AsyncOrigin { addr, tls: has_tls, accepted, failures, stop, thread }
    }

    /// Answers every request of every HTTP/2 connection with `handler`, in a task of its own.
    pub fn http2<F>(
        tls: Option<Arc<rustls::ServerConfig>>,
        builder: Builder,
        handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
    ) -> AsyncOrigin
    where
        F: Future<Output = ()> + 'static,
    {
        AsyncOrigin::connections(tls, move |taken, _| {
            let (builder, handler) = (builder.clone(), handler.clone());
            async move {
                let mut connection = taken.http2(&builder).await;
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(handler(request, respond));
                }
            }
        })
    }

    /// Its URL: `h2c://…` or, with TLS, `h2://localhost:…`.
    pub fn http2_url(&self) -> String {
        match self.tls {
            true => format!("h2://localhost:{}", self.port()),
            false => format!("h2c://{}", self.addr),
        }
    }

    pub fn https_url(&self) -> String {
        format!("https://localhost:{}", self.port())
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for AsyncOrigin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        let failures = std::mem::take(&mut *self.failures.lock().unwrap());
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "the origin's script failed: {failures:?}");
            ended.unwrap().unwrap();
        }
    }
}

async fn until(work: impl Future<Output = ()>, mut stopped: oneshot::Receiver<()>) {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        if Pin::new(&mut stopped).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        work.as_mut().poll(cx)
    })
    .await;
}

async fn accept<F>(
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    script: impl Fn(Taken, usize) -> F + 'static,
    accepted: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
) where
    F: Future<Output = ()> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let script = Rc::new(script);
    while let Ok((socket, _)) = listener.accept().await {
        let index = accepted.fetch_add(1, Ordering::SeqCst);
        socket.set_nodelay(true).unwrap();
        let (tls, script, failures) = (tls.clone(), script.clone(), failures.clone());
        let task = tokio::task::spawn_local(async move {
            let taken = match tls {
                None => Taken::Plain(socket),
                Some(config) => match TlsAcceptor::from(config).accept(socket).await {
                    Ok(stream) => Taken::Tls(Box::new(stream)),
                    Err(_) => return,
                },
            };
            script(taken, index).await;
        });
        tokio::task::spawn_local(async move {
            if let Err(error) = task.await {
                failures.lock().unwrap().push(format!("connection {index}: {error}"));
            }
        });
    }
}

impl AsyncRead for Taken {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Taken::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Taken::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Taken {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Taken::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Taken::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Taken::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Taken::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Taken::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Taken::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A response with these fields and no body.
pub fn h2_head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

/// Answers with 200 and this body.
pub async fn h2_answer(mut respond: SendResponse<Bytes>, body: impl Into<Bytes>) {
    // The proxy may have given the stream up.
    if let Ok(mut stream) = respond.send_response(h2_head(200, &[]), false) {
        let _ = stream.send_data(body.into(), true);
    }
}

/// The whole body of a request, and its trailers.
pub async fn h2_body(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { break };
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap_or(None))
}

/// A plain origin that sends these frames once a whole request head has come, and then waits until
/// the proxy closes, for as long as it sends anything.
pub fn frames_origin(frames: impl Fn(usize) -> Vec<u8> + Send + 'static) -> AsyncOrigin {
    AsyncOrigin::connections(None, move |mut taken, index| {
        let frames = frames(index);
        async move {
            let settings = frame(SETTINGS, 0, 0, []);
            let _ = taken.write_all(&settings).await;
            if read_until_headers(&mut taken).await {
                let _ = taken.write_all(&frames).await;
                let rest = async { while taken.read_u8().await.is_ok() {} };
                let _ = tokio::time::timeout(PATIENCE, rest).await;
            }
        }
    })
}

/// Reads the preface and frames up to and with the first HEADERS; false if the connection ends.
pub async fn read_until_headers(taken: &mut Taken) -> bool {
    let mut preface = [0; 24];
    if taken.read_exact(&mut preface).await.is_err() {
        return false;
    }
    loop {
        let mut head = [0; 9];
        if taken.read_exact(&mut head).await.is_err() {
            return false;
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if taken.read_exact(&mut vec![0; len]).await.is_err() {
            return false;
        }
        if head[3] == HEADERS {
            return true;
        }
    }
}
