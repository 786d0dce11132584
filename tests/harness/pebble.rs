//! Pebble, the test server of Let's Encrypt: a real ACME authority on loopback, with the name server
//! that comes with it (every name is this machine). It rejects one nonce in twenty, as it does by
//! default.
//!
//! Needs nothing else of the harness, so that tests of single crates can have it, too.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// A free port may be taken by somebody else before it is used; then others are tried.
const TRIES: u32 = 5;

/// What the authority is to be like.
#[derive(Clone, Default)]
pub struct Settings {
    /// Port where it looks for the answer to HTTP-01.
    pub http_port: u16,
    /// Port where it looks for the answer to TLS-ALPN-01.
    pub tls_port: u16,
    /// Life of certificates in seconds; 0: five years.
    pub validity: u64,
    /// Key id and HMAC key of the one external account, which is required then.
    pub external_account: Option<(String, String)>,
    /// Listen at this port, as one before did; 0: any.
    pub port: u16,
}

/// A running authority. It ends, and forgets everything, when this is dropped.
pub struct Pebble {
    directory: PathBuf,
    port: u16,
    management_port: u16,
    _processes: Vec<Process>,
}

impl Pebble {
    /// Starts it and waits until it can be used.
    pub fn start(settings: &Settings) -> Pebble {
        for _ in 0..TRIES {
            if let Some(pebble) = try_start(settings) {
                return pebble;
            }
        }
        panic!("pebble does not start; are the packages pebble and pebble-challtestsrv installed?");
    }

    /// URL of its directory.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of the root certificate that it issues under; new at every start.
    pub fn root_url(&self) -> String {
        format!("https://127.0.0.1:{}/roots/0", self.management_port)
    }

    /// Root of its own TLS certificate, in PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.directory);
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn try_start(settings: &Settings) -> Option<Pebble> {
    let [port, management_port, dns_management] = free_ports();
    let port = if settings.port == 0 { port } else { settings.port };
    let dns = free_dns_port();
    let directory = std::env::temp_dir().join(format!("pebble-{}-{port}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    write_certificates(&directory);
    let config = directory.join("pebble.json");
    fs::write(&config, configuration(settings, port, management_port, &directory)).unwrap();

    let name_server = Command::new("pebble-challtestsrv")
        .args(["-dns01", &format!("127.0.0.1:{dns}"), "-defaultIPv6", ""])
        .args(["-management", &format!("127.0.0.1:{dns_management}")])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tests need the package pebble-challtestsrv");
    let mut processes = vec![Process(name_server)];
    let mut pebble = Command::new("pebble")
        .arg("-config")
        .arg(&config)
        .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
        .env("PEBBLE_VA_NOSLEEP", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tests need the package pebble");
    print_lines(pebble.stdout.take().unwrap());
    processes.push(Process(pebble));
    let answers =
        [port, management_port, dns_management].iter().all(|&port| wait_for(port, &mut processes));
    let pebble = Pebble { directory, port, management_port, _processes: processes };
    answers.then_some(pebble)
}

/// Shows what it says with the test's output, which is shown when the test fails.
fn print_lines(output: impl std::io::Read + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            println!("{line}");
        }
    });
}

fn configuration(settings: &Settings, port: u16, management_port: u16, directory: &Path) -> String {
    let Settings { http_port, tls_port, validity, external_account, .. } = settings;
    let (required, keys) = match external_account {
        Some((id, key)) => (true, format!(r#""{id}": "{key}""#)),
        None => (false, String::new()),
    };
    let validity = match validity {
        0 => String::new(),
        seconds => format!(r#""certificateValidityPeriod": {seconds},"#),
    };
    let directory = directory.display();
    format!(
        r#"{{"pebble": {{
            "listenAddress": "127.0.0.1:{port}",
            "managementListenAddress": "127.0.0.1:{management_port}",
            "certificate": "{directory}/server.pem",
            "privateKey": "{directory}/server.key",
            "httpPort": {http_port},
            "tlsPort": {tls_port},
            {validity}
            "externalAccountMACKeys": {{{keys}}},
            "externalAccountBindingRequired": {required}
        }}}}"#
    )
}

/// `ca.pem`, and a certificate of that authority for 127.0.0.1.
fn write_certificates(directory: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    fs::write(directory.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All of them are held at once, so that they differ.
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// One that is free for TCP and UDP.
fn free_dns_port() -> u16 {
    loop {
        let [port] = free_ports();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Whether somebody listens there before one of the processes has ended.
fn wait_for(port: u16, processes: &mut [Process]) -> bool {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let ended = processes.iter_mut().any(|process| !matches!(process.0.try_wait(), Ok(None)));
        if ended || start.elapsed() > START_MAX {
            return false;
        }
        // There is nothing to wait on: the port opens when it opens.
        thread::sleep(Duration::from_millis(10));
    }
    true
}
