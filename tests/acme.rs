//! Certificates that come by themselves: the whole of Ravelin with a real authority.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::harness::pebble::{Pebble, Settings};
use crate::harness::*;

/// The documents' example, word for word.
const SSL_TERMINATION: &str = r#"
# Terminate SSL at BWS, HTTP to backends
[[sites]]
name = "ssl-proxy"
hostname = "api.example.com"
port = 443
static_dir = "static"

[sites.ssl]
enabled = true
auto_cert = true
domains = ["api.example.com"]

[sites.ssl.acme]
enabled = true
email = "admin@example.com"

[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "backend"
url = "http://internal-api:3001"  # HTTP to internal backend
"#;

/// Threads that send requests all the time.
const CLIENTS: usize = 3;

/// An authority and the ports at which it looks for Ravelin.
struct World {
    pebble: Pebble,
    tls_port: u16,
    http_port: u16,
    state: TempDir,
}

impl World {
    fn new(validity: u64) -> World {
        let (tls_port, http_port) = (free_port(), free_port());
        let settings = Settings { http_port, tls_port, validity, ..Settings::default() };
        World { pebble: Pebble::start(&settings), tls_port, http_port, state: TempDir::new() }
    }

    /// The example with this world's addresses in it.
    fn start(&self, origin: &Origin) -> Ravelin {
        let authority = format!(
            "email = \"admin@example.com\"\ndirectory_url = \"{}\"\nca_file = {:?}\n\
             http_port = {}\nstate_dir = {:?}",
            self.pebble.url(),
            self.pebble.ca_file(),
            self.http_port,
            self.state.path(),
        );
        let toml = SSL_TERMINATION
            .replace("port = 443", &format!("port = {}", self.tls_port))
            .replace("email = \"admin@example.com\"", &authority)
            .replace("http://internal-api:3001", &origin.url());
        Setup::new(&toml).file("static/index.html", "static").listeners(2).start()
    }

    /// Whether a certificate is stored.
    fn has_certificate(&self) -> bool {
        let Ok(authorities) = std::fs::read_dir(self.state.path().join("acme")) else {
            return false;
        };
        let file = "api.example.com/certificate.pem";
        authorities.flatten().any(|authority| authority.path().join(file).exists())
    }

    /// What a client sees that trusts the authority and nobody else.
    fn curl(&self, root: &Path) -> String {
        let resolve = format!("api.example.com:{}:127.0.0.1", self.tls_port);
        let url = format!("https://api.example.com:{}/x", self.tls_port);
        curl(&["--cacert", root.to_str().unwrap(), "--resolve", &resolve, &url])
    }
}

#[test]
fn a_certificate_is_got_served_and_renewed_under_load_without_a_failed_request() {
    let world = World::new(9);
    let origin = Origin::saying("from the origin");
    let ravelin = world.start(&origin);
    let load = Load::start(world.tls_port);
    ravelin.stderr.line_with(&["acme: api.example.com: certificate from 127.0.0.1"]);

    let root = world.state.write("root.pem", curl(&["-k", &world.pebble.root_url()]));
    assert_eq!(world.curl(&root), "from the origin");
    load.until_seen(4);
    assert_eq!(world.curl(&root), "from the origin");

    let (requests, failures) = load.stop();
    assert!(failures.is_empty(), "{} of {requests} failed: {failures:?}", failures.len());
    assert!(requests > 100, "only {requests} requests");
    let refused = ravelin.stderr.all().into_iter().find(|line| line.contains(" error acme: "));
    assert_eq!(refused, None);
}

#[test]
fn killed_at_any_moment_of_an_order_it_gets_its_certificate_after_a_restart() {
    let world = World::new(0);
    let origin = Origin::saying("from the origin");
    let mut round = 0;
    while !world.has_certificate() {
        let mut ravelin = world.start(&origin);
        // Not to wait for something: each round is to strike at another moment of the order, until
        // one is late enough for it to be done.
        thread::sleep(Duration::from_millis(round * 20));
        ravelin.signal("KILL");
        ravelin.exit();
        let told = ravelin.stderr.all().join("\n");
        assert!(!told.contains("is of no use") && !told.contains("is broken"), "{told}");
        round += 1;
        assert!(round < 200, "no certificate within {} ms\n{told}", round * 20);
    }
    // Killed right after, or even before, it was shown: it is complete.
    let ravelin = world.start(&origin);
    let root = world.state.write("root.pem", curl(&["-k", &world.pebble.root_url()]));
    assert_eq!(world.curl(&root), "from the origin");
    let ordered = ravelin.stderr.all().into_iter().find(|line| line.contains("certificate from"));
    assert_eq!(ordered, None);
}

#[test]
fn challenges_are_answered_on_the_plain_listener_only_while_there_are_some() {
    let world = World::new(0);
    let origin = Origin::saying("from the origin");
    let ravelin = world.start(&origin);
    ravelin.stderr.line_with(&["certificate from 127.0.0.1"]);
    let to = (Ipv4Addr::LOCALHOST, world.http_port).into();
    let response = Client::connect(to).get("/.well-known/acme-challenge/unknown");
    assert_eq!(response.status, 404);
    // The port is there for challenges: nothing of the site is served without TLS.
    let response = Client::connect(to).get("/x");
    assert_ne!(response.text(), "from the origin");
    assert!(origin.requests().is_empty());
}

/// Requests over new connections and over kept ones, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    clients: Vec<thread::JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    fn start(port: u16) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let seen: Arc<Mutex<Vec<CertificateDer<'static>>>> = Arc::default();
        let clients = (0..CLIENTS).map(|client| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            thread::spawn(move || {
                let (mut requests, mut failures) = (0, Vec::new());
                // The last client keeps one connection through every change of certificate.
                let kept = client == CLIENTS - 1;
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let stream = connection.take().map_or_else(|| connect(port, &seen), Ok);
                    let answered = stream.and_then(|mut stream| {
                        let answer = get(&mut stream)?;
                        Ok((stream, answer))
                    });
                    requests += 1;
                    match answered {
                        Ok((stream, answer)) if answer.ends_with("from the origin") => {
                            connection = kept.then_some(stream);
                        }
                        Ok((_, answer)) => failures.push(answer),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                (requests, failures)
            })
        });
        let clients = clients.collect();
        Load { stop, seen, clients }
    }

    /// Waits until so many different certificates have been shown.
    fn until_seen(&self, count: usize) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while self.seen.lock().unwrap().len() < count {
            assert!(std::time::Instant::now() < deadline, "not {count} certificates in a minute");
            thread::yield_now();
        }
    }

    fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = (0, Vec::new());
        for client in self.clients {
            let (requests, failures) = client.join().unwrap();
            all.0 += requests;
            all.1.extend(failures);
        }
        all
    }
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A connection with a full handshake, whatever the certificate is; it is noted.
fn connect(port: u16, seen: &Mutex<Vec<CertificateDer<'static>>>) -> std::io::Result<Connection> {
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let name = ServerName::try_from("api.example.com").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut connection = StreamOwned::new(session, stream);
    while connection.conn.is_handshaking() {
        connection.conn.complete_io(&mut connection.sock)?;
    }
    let leaf = connection.conn.peer_certificates().unwrap()[0].clone().into_owned();
    let mut seen = seen.lock().unwrap();
    if !seen.contains(&leaf) {
        seen.push(leaf);
    }
    Ok(connection)
}

/// One request; head and body of the answer.
fn get(connection: &mut Connection) -> std::io::Result<String> {
    connection.write_all(b"GET /x HTTP/1.1\r\nHost: api.example.com\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"from the origin") {
        let mut bytes = [0; 4096];
        match connection.read(&mut bytes)? {
            0 => break,
            n => answer.extend_from_slice(&bytes[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Takes every certificate.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
