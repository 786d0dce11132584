//! What Pebble talks to: a web server that knows nothing but challenges.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use net::stream::Stream;
use proxy::challenges::Challenges;
use tokio::runtime::Builder;

/// The server and how it is to behave.
pub struct Web {
    pub http_port: u16,
    pub tls_port: u16,
    /// Answers no HTTP-01 from the offered challenges.
    pub silent: Arc<AtomicBool>,
    /// Closes TLS connections.
    pub deaf: Arc<AtomicBool>,
    /// Answers HTTP-01 from files below this directory.
    pub files: Arc<Mutex<Option<PathBuf>>>,
    /// TLS-ALPN-01 handshakes that succeeded.
    pub handshakes: Arc<AtomicUsize>,
}

impl Web {
    pub fn start(challenges: &Arc<Challenges>) -> Web {
        let (http, tls) = (listener(), listener());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let web = Web {
            http_port: port(&http),
            tls_port: port(&tls),
            silent: Arc::default(),
            deaf: Arc::default(),
            files: Arc::default(),
            handshakes: Arc::default(),
        };
        let (known, silent, files) =
            (Arc::clone(challenges), Arc::clone(&web.silent), Arc::clone(&web.files));
        thread::spawn(move || {
            for stream in http.incoming() {
                let files = files.lock().unwrap().clone();
                let offered = (!silent.load(Ordering::Relaxed)).then_some(&*known);
                // A peer that breaks off is its own affair.
                let _done = stream.and_then(|stream| answer(stream, offered, files.as_deref()));
            }
        });
        let (known, deaf, handshakes) =
            (Arc::clone(challenges), Arc::clone(&web.deaf), Arc::clone(&web.handshakes));
        thread::spawn(move || {
            for stream in tls.incoming() {
                if !deaf.load(Ordering::Relaxed) && accept(stream.unwrap(), &known) {
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        web
    }
}

fn answer(
    mut stream: TcpStream,
    offered: Option<&Challenges>,
    files: Option<&Path>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let file = |root: &Path| {
        let path = std::str::from_utf8(path).ok()?.trim_start_matches('/');
        fs::read_to_string(root.join(path)).ok()
    };
    let body = offered.and_then(|known| known.answer(path)).or_else(|| files.and_then(file));
    let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Shakes hands for TLS-ALPN-01. Whether that succeeded.
fn accept(stream: TcpStream, challenges: &Challenges) -> bool {
    stream.set_nonblocking(true).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = Stream::Tcp(tokio::net::TcpStream::from_std(stream).unwrap());
        let accepted = net::tls::accept(stream, |hello| {
            challenges.tls(hello.server_name?).filter(|_| hello.acme)
        });
        accepted.await.is_ok()
    })
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}
