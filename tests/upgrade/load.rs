//! Upgrades under load: no request fails, no connection is refused, and WebSockets go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// What all clients of a load have in common.
pub struct Shared {
    to: SocketAddr,
    pace: Option<Duration>,
    over: AtomicBool,
    pub requests: AtomicUsize,
    pub connections: AtomicUsize,
    pub messages: AtomicUsize,
    pub sockets: AtomicUsize,
    pub failures: Mutex<BTreeMap<String, usize>>,
}

/// Clients of every kind, on a thread of their own.
pub struct Load {
    pub shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How many clients of each kind there are.
#[derive(Clone, Copy)]
pub struct Clients {
    /// With a connection that they keep for as long as they may.
    pub keeping: usize,
    /// With a connection for each request.
    pub fresh: usize,
    /// Of HTTP/2, with several streams at once.
    pub http2: usize,
    /// WebSockets that send a message now and then, for their whole life in the process they came to.
    pub sockets: usize,
    /// Each of the others but those of WebSockets begins a request so often; `None`: as often as it can.
    pub pace: Option<Duration>,
}

impl Load {
    pub fn start(to: SocketAddr, clients: Clients) -> Load {
        let shared = Arc::new(Shared {
            to,
            pace: clients.pace,
            over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            failures: Mutex::default(),
        });
        let work = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut tasks = Vec::new();
                for _ in 0..clients.keeping {
                    tasks.push(tokio::spawn(keeping(Arc::clone(&work))));
                }
                for _ in 0..clients.fresh {
                    tasks.push(tokio::spawn(fresh(Arc::clone(&work))));
                }
                for _ in 0..clients.http2 {
                    tasks.push(tokio::spawn(http2(Arc::clone(&work))));
                }
                for _ in 0..clients.sockets {
                    tasks.push(tokio::spawn(socket(Arc::clone(&work))));
                }
                for task in tasks {
                    task.await.unwrap();
                }
            });
        });
        Load { shared, thread: Some(thread) }
    }

    /// Waits until so many more requests have been answered.
    #[track_caller]
    pub fn await_requests(&self, more: usize) {
        // As long as there are some it may take its time.
        for _ in 0..more.div_ceil(100) {
            let wanted = self.shared.requests.load(Ordering::SeqCst) + 100;
            until("requests", || self.shared.requests.load(Ordering::SeqCst) >= wanted);
        }
    }

    pub fn end(mut self) -> Arc<Shared> {
        self.shared.over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        Arc::clone(&self.shared)
    }
}

/// Says when the next request is due.
struct Pace(Option<tokio::time::Interval>);

impl Pace {
    async fn next(&mut self) {
        if let Some(interval) = &mut self.0 {
            interval.tick().await;
        }
    }
}

impl Shared {
    fn pace(&self) -> Pace {
        Pace(self.pace.map(tokio::time::interval))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn fail(&self, kind: &str, what: &str) {
        *self.failures.lock().unwrap().entry(format!("{kind}: {what}")).or_default() += 1;
    }

    async fn connect(&self, kind: &str) -> Option<TcpStream> {
        match TcpStream::connect(self.to).await {
            Ok(stream) => {
                self.connections.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                Some(stream)
            }
            Err(error) => {
                self.fail(kind, &format!("connect: {error}"));
                None
            }
        }
    }
}

/// Sends a request and reads the response, which has a length: whether the connection persists.
async fn ask(stream: &mut TcpStream) -> Result<bool, String> {
    let request = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    stream.write_all(request).await.map_err(|error| format!("send: {error}"))?;
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            if !head.starts_with("http/1.1 200") {
                return Err(head.lines().next().unwrap_or_default().to_owned());
            }
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                assert_eq!(body, "served");
                return Ok(!head.contains("connection: close"));
            }
        }
        match stream.read_buf(&mut got).await {
            Ok(0) => return Err(format!("closed after {} bytes", got.len())),
            Ok(_) => {}
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
}

async fn keeping(shared: Arc<Shared>) {
    let mut pace = shared.pace();
    while !shared.is_over() {
        let Some(mut stream) = shared.connect("keeping").await else { continue };
        while !shared.is_over() {
            pace.next().await;
            match ask(&mut stream).await {
                Ok(persists) => {
                    shared.requests.fetch_add(1, Ordering::SeqCst);
                    if !persists {
                        break;
                    }
                }
                Err(what) => {
                    shared.fail("keeping", &what);
                    break;
                }
            }
        }
    }
}

async fn fresh(shared: Arc<Shared>) {
    let mut pace = shared.pace();
    while !shared.is_over() {
        pace.next().await;
        let Some(mut stream) = shared.connect("fresh").await else { continue };
        match ask(&mut stream).await {
            Ok(_) => drop(shared.requests.fetch_add(1, Ordering::SeqCst)),
            Err(what) => shared.fail("fresh", &what),
        }
    }
}

/// A client of HTTP/2 as libraries are: one that is told to open no more streams opens a connection.
async fn http2(shared: Arc<Shared>) {
    while !shared.is_over() {
        let Some(stream) = shared.connect("http2").await else { continue };
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let streams = (0..4).map(|_| {
            let (mut client, shared) = (client.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let mut pace = shared.pace();
                while !shared.is_over() {
                    pace.next().await;
                    client = match client.ready().await {
                        Ok(client) => client,
                        Err(_) => return, // told to go elsewhere, before a request was made
                    };
                    let request = http::Request::get("http://example.com/").body(()).unwrap();
                    let Ok((response, _)) = client.send_request(request, true) else { return };
                    match whole(response).await {
                        Ok(()) => drop(shared.requests.fetch_add(1, Ordering::SeqCst)),
                        Err(error) if may_be_repeated(&error) => return,
                        Err(error) => shared.fail("http2", &error.to_string()),
                    }
                }
            })
        });
        let streams: Vec<_> = streams.collect();
        for stream in streams {
            stream.await.unwrap();
        }
        drop(client);
        let _ = connection.await;
    }
}

async fn whole(response: h2::client::ResponseFuture) -> Result<(), h2::Error> {
    let response = response.await?;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data: Bytes = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    assert_eq!(all, b"served");
    Ok(())
}

/// The stream was opened after the last that the peer says it serves (RFC 9113 §6.8, §8.7): every client
/// asks again.
fn may_be_repeated(error: &h2::Error) -> bool {
    error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
        || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

async fn socket(shared: Arc<Shared>) {
    let Some(mut stream) = shared.connect("socket").await else { return };
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    shared.sockets.fetch_add(1, Ordering::SeqCst);
    let mut echoed = [0; TEXT.len()];
    while !shared.is_over() {
        let sent = stream.write_all(TEXT).await;
        if sent.is_err() || stream.read_exact(&mut echoed).await.is_err() || echoed != TEXT {
            return shared.fail("socket", "ended");
        }
        shared.messages.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// An origin for all of them.
pub fn origin() -> AsyncOrigin {
    AsyncOrigin::connections(None, |mut taken, _| async move {
        while let Some(head) = taken.read_head().await {
            if head.starts_with("GET /ws ") {
                let _ = taken.write_all(SWITCHING.as_bytes()).await;
                let mut bytes = [0; TEXT.len()];
                while taken.read_exact(&mut bytes).await.is_ok() {
                    let _ = taken.write_all(&bytes).await;
                }
                return;
            }
            let _ = taken.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved").await;
        }
    })
}

/// More of everything, and longer: `RAVELIN_LOAD=heavy`, best with `RAVELIN_BINARY` a release build.
pub fn heavy() -> bool {
    std::env::var_os("RAVELIN_LOAD").is_some_and(|load| load == "heavy")
}

#[test]
fn no_request_fails_and_no_connection_is_refused() {
    let (clients, upgrades, between) = match heavy() {
        true => {
            (Clients { keeping: 48, fresh: 8, http2: 4, sockets: 2000, pace: None }, 20, 10_000)
        }
        false => (Clients { keeping: 12, fresh: 4, http2: 2, sockets: 40, pace: None }, 4, 300),
    };
    let origin = origin();
    let url = format!("http://{}", origin.addr());
    let limits = "[logging]\nlog_requests = false\n";
    let mut place = Place::new(&format!(
        "{limits}{}",
        site_with("h2c = true\n", &[&url], "websocket = true\n")
    ));
    let load = Load::start(place.ravelin.addr(), clients);
    until("all WebSockets", || load.shared.sockets.load(Ordering::SeqCst) == clients.sockets);
    let began = std::time::Instant::now();
    let requests = load.shared.requests.load(Ordering::SeqCst);
    load.await_requests(between);
    let mut pid = place.ravelin.pid();
    for _ in 0..upgrades {
        pid = place.upgrade_from(pid);
        load.await_requests(between);
    }
    let took = began.elapsed();
    let done = load.shared.requests.load(Ordering::SeqCst) - requests;
    let shared = load.end();
    let failures = shared.failures.lock().unwrap();
    println!(
        "{upgrades} upgrades in {took:.1?}: {done} requests ({:.0} a second), {} connections, \
         {} WebSockets with {} messages; failed: {failures:?}",
        done as f64 / took.as_secs_f64(),
        shared.connections.load(Ordering::SeqCst),
        clients.sockets,
        shared.messages.load(Ordering::SeqCst),
    );
    assert!(failures.is_empty(), "{failures:?}");
    // All of the WebSockets were the first one's, which ends with them.
    place.await_end();
}
