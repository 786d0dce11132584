//! Origins in this process: from "answers every request with this" down to exact bytes, held
//! until told, reset or half closed. Every request that is read is kept for the test to look at.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::{Broken, PATIENCE, Request, Sock, Wire};

pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    open: Mutex<HashMap<usize, TcpStream>>,
    failures: Mutex<Vec<String>>,
}

impl Origin {
    /// Answers each request with the bytes `answer` gives; no bytes: closes the connection.
    /// Also closes after an answer that says so itself.
    pub fn serve(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::script(move |conn| {
            while let Ok(request) = conn.try_request() {
                let bytes = answer(&request);
                if bytes.is_empty() || conn.try_send(&bytes).is_err() {
                    return;
                }
                let head = bytes.split(|&b| b == b'\n').take_while(|l| l.len() > 1);
                if head.into_iter().any(|l| l.eq_ignore_ascii_case(b"connection: close\r")) {
                    return;
                }
            }
        })
    }

    /// Answers every request with 200 and this text.
    pub fn saying(text: &str) -> Origin {
        let bytes = ok(text);
        Origin::serve(move |_| bytes.clone())
    }

    /// Runs `script` in a thread of its own for each connection, which closes when it returns.
    pub fn script(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Origin {
        Origin::script_at("127.0.0.1:0".parse().unwrap(), script)
    }

    pub fn script_at(
        addr: SocketAddr,
        script: impl Fn(&mut Conn) + Send + Sync + 'static,
    ) -> Origin {
        let listener =
            TcpListener::bind(addr).unwrap_or_else(|e| panic!("origin cannot listen: {e}"));
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            let script = Arc::new(script);
            move || accept(listener, shared, script)
        });
        Origin { addr, shared, accepting: Some(accepting) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// The requests read so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The `n`-th request (from 0), waiting until it has come.
    #[track_caller]
    pub fn request(&self, n: usize) -> Request {
        let guard = self.shared.requests.lock().unwrap();
        let (guard, timeout) = self
            .shared
            .arrived
            .wait_timeout_while(guard, PATIENCE, |requests| requests.len() <= n)
            .unwrap();
        assert!(!timeout.timed_out(), "request {n} never reached the origin");
        guard[n].clone()
    }

    /// Stops listening and breaks every connection, as a killed process does.
    pub fn kill(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.accepting.take() {
            let _ = TcpStream::connect(self.addr);
            let _ = thread.join();
        }
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("the origin's script failed: {failures:?}");
        }
    }
}

fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    script: Arc<impl Fn(&mut Conn) + Send + Sync + 'static>,
) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let index = shared.accepted.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true).unwrap();
        shared.open.lock().unwrap().insert(index, stream.try_clone().unwrap());
        let sock = Sock::Tcp(stream);
        sock.set_patience(PATIENCE * 3);
        let mut conn = Conn { wire: Wire::new(sock), index, shared: shared.clone() };
        let script = script.clone();
        std::thread::spawn(move || {
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| script(&mut conn)));
            if result.is_err() {
                conn.shared.failures.lock().unwrap().push(format!("connection {index}"));
            }
        });
    }
}

/// One connection that an origin accepted.
pub struct Conn {
    pub wire: Wire,
    /// From 0, in the order of arrival.
    pub index: usize,
    shared: Arc<Shared>,
}

impl Conn {
    /// The next request, whole. Panics when the proxy sends anything else.
    #[track_caller]
    pub fn request(&mut self) -> Request {
        self.try_request().unwrap_or_else(|e| panic!("origin expected a request: {e:?}"))
    }

    pub fn try_request(&mut self) -> Result<Request, Broken> {
        let mut request = self.wire.request()?;
        request.connection = self.index;
        self.shared.requests.lock().unwrap().push(request.clone());
        self.shared.arrived.notify_all();
        Ok(request)
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|e| panic!("origin cannot send: {e}"));
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.wire.sock.write_all(bytes.as_ref())
    }

    /// Waits until the proxy closes, dropping what still comes.
    pub fn wait_closed(&mut self) {
        match self.wire.rest() {
            Ok(_) | Err(Broken::Reset | Broken::Closed | Broken::Truncated(_)) => {}
            Err(e) => panic!("the proxy kept the connection open: {e:?}"),
        }
    }

    /// Ends the origin's sending side only.
    pub fn half_close(&mut self) {
        self.wire.sock.shutdown(Shutdown::Write);
    }

    /// Makes the end of this connection a reset.
    pub fn reset_on_close(&mut self) {
        self.shared.open.lock().unwrap().remove(&self.index);
        self.wire.sock.reset_on_close();
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The copy kept for kill() would hold the socket open.
        if self.shared.open.lock().unwrap().remove(&self.index).is_some() {
            self.wire.sock.shutdown(Shutdown::Both);
        }
    }
}

/// A plain 200.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
