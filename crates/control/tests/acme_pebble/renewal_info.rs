//! Renewal information (RFC 9773), which the Pebble of Debian does not have yet: a server in front of
//! it that adds this and passes everything else on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

/// A window that lies behind us.
const NOW: &str = r#"{"suggestedWindow": {"start": "2020-01-02T04:00:00Z", "end": "2020-01-03T04:00:00Z"},
                      "explanationURL": "https://a.test/why"}"#;

/// A window that does not come soon.
const LATER: &str =
    r#"{"suggestedWindow": {"start": "2500-01-02T04:00:00Z", "end": "2500-01-03T04:00:00Z"}}"#;

/// The server. It ends with the test's process.
pub struct Front {
    port: u16,
    ca_file: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// What was asked.
#[derive(Default)]
pub struct Seen {
    /// Names of the certificates it was asked about, in order. The first one is to be renewed at
    /// once, the others have time.
    pub asked: Vec<String>,
    /// Bodies of new orders.
    pub orders: Vec<String>,
}

impl Front {
    /// Starts it before the authority at `port`, whose certificate is by `ca_file`. It keeps a file
    /// in `directory`.
    pub fn start(port: u16, ca_file: &Path, directory: &Path) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let own_ca = directory.join("front.pem");
        std::fs::write(&own_ca, certificate.pem()).unwrap();
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca_file).unwrap()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let front = Front {
            port: listener.local_addr().unwrap().port(),
            ca_file: own_ca,
            seen: Arc::default(),
        };
        let (own_port, seen) = (front.port, Arc::clone(&front.seen));
        let (server, client) = (Arc::new(server), Arc::new(client));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&server)).unwrap();
                let stream = StreamOwned::new(session, stream.unwrap());
                // A peer that breaks off is its own affair.
                let _done = serve(stream, own_port, port, &client, &seen);
            }
        });
        front
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.ca_file.clone()
    }

    pub fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// Answers one request.
fn serve(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    own_port: u16,
    port: u16,
    client: &Arc<ClientConfig>,
    seen: &Mutex<Seen>,
) -> std::io::Result<()> {
    let (head, body) = message(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if let Some(name) = path.strip_prefix("/renewal-info/") {
        let mut seen = seen.lock().unwrap();
        seen.asked.push(name.to_owned());
        let first = seen.asked.iter().all(|asked| asked == name);
        let info = if first { NOW } else { LATER };
        let length = info.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nRetry-After: 21600\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{info}"
        )?;
        return close(stream);
    }
    if path.ends_with("/order-plz") {
        seen.lock().unwrap().orders.push(payload(&body));
    }
    let upstream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut upstream = StreamOwned::new(session, upstream);
    upstream.write_all(head.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    // Go closes the connection after the answer; whether with a close_notify does not matter here.
    let _end = upstream.read_to_end(&mut answer);
    if path == "/dir" {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let link = format!(r#"{{"renewalInfo": "https://127.0.0.1:{own_port}/renewal-info","#);
        let body = body.replacen('{', &link, 1);
        let status = head.lines().next().unwrap_or_default();
        let length = body.len();
        answer = format!(
            "{status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .into_bytes();
    }
    stream.write_all(&answer)?;
    close(stream)
}

fn close(mut stream: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
    stream.conn.send_close_notify();
    stream.flush()
}

/// Head and body of a request.
fn message(stream: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

/// What a signed request says.
fn payload(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(json["payload"].as_str().unwrap()).unwrap();
    String::from_utf8(payload).unwrap()
}
