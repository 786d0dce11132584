//! Certificates from a real ACME authority: Pebble, which looks for the answers to its challenges at
//! small servers of these tests.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/harness/pebble.rs"]
mod pebble;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use config::model::{
    Acme, CertificateSource, ExternalAccount, Level, Model, Tls, TlsPolicy, TlsVersion,
};
use control::certificates::{Certificates, Upkeep};
use net::stream::Stream;
use net::tls::{Identity, IdentitySlot};
use pebble::{Pebble, Settings};
use proxy::challenges::Challenges;
use proxy::log::{ErrorLog, Order, Source, sink};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_certificate_is_ordered_shown_stored_and_there_after_a_restart() {
    let mut test = Test::new(Settings::default());
    let mut run = test.load(&["a.test", "www.a.test"]);
    let stand_in = run.shown();
    assert_eq!(stand_in.names(), ["a.test", "www.a.test"]);
    assert_eq!(run.http_ports, [80]);

    run.start();
    let told = run.told("info acme: a.test, www.a.test: certificate from 127.0.0.1");
    assert!(told.contains("valid until") && told.contains("renewal about"), "{told}");
    let issued = run.shown();
    assert_eq!(sorted(issued.names()), ["a.test", "www.a.test"]);
    assert!(issued.chain_der().len() >= 2, "no chain");
    assert_ne!(issued.chain_der(), stand_in.chain_der());
    assert!(test.challenges.is_empty(), "an answer is still offered");
    run.stop();

    let files = test.files();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for ((name, mode), end) in
        files.iter().zip(["a.test/certificate.pem", "a.test/key.pem", "a.test.json", "acme/lock"])
    {
        assert!(name.ends_with(end) && *mode == 0o600, "{name} {mode:o}");
    }

    // The authority is gone now; the certificate is there.
    test.pebble = None;
    let acme = Acme { ca_file: None, ..test.acme.clone() };
    let again = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    assert_eq!(again.shown().chain_der(), issued.chain_der());
}

#[test]
fn a_name_is_proved_by_tls_alpn_01_if_http_01_fails() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    run.start();
    let told = run.told("warn acme: a.test: the authority refuses the proof for a.test by http-01");
    assert!(told.contains("Trying tls-alpn-01"), "{told}");
    run.told("certificate from");
    assert_eq!(run.shown().names(), ["a.test"]);
    assert!(test.web.handshakes.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_failure_says_whose_it_is_and_the_stand_in_stays() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    let mut run = test.load(&["a.test"]);
    let stand_in = run.shown();
    run.start();
    let told =
        run.told("error acme: a.test: the authority refuses the proof for a.test by tls-alpn-01");
    for part in ["shows a self-signed stand-in", "trying again in 1 min"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(run.shown().chain_der(), stand_in.chain_der());
    assert!(test.challenges.is_empty());

    // What was in the way is gone, and somebody says so.
    test.web.silent.store(false, Ordering::Relaxed);
    run.look_now();
    run.told("certificate from");
}

#[test]
fn a_name_more_in_the_configuration_is_ordered_at_the_next_start() {
    let test = Test::new(Settings::default());
    let mut run = test.load(&["a.test"]);
    run.start();
    run.told("certificate from");
    let first = run.shown();
    run.stop();

    let mut run = test.load(&["a.test", "b.test"]);
    // Better the old one than a stand-in, until the new one is there.
    assert_eq!(run.shown().chain_der(), first.chain_der());
    run.start();
    run.told("certificate from");
    assert_eq!(sorted(run.shown().names()), ["a.test", "b.test"]);
    run.stop();

    // One name less is no reason to bother the authority.
    let mut run = test.load(&["a.test"]);
    let before = run.shown();
    run.start();
    run.look_now();
    run.stop();
    assert_eq!(run.shown().chain_der(), before.chain_der());
    assert!(!run.lines().iter().any(|line| line.contains("certificate from")));
}

#[test]
fn a_certificate_is_renewed_in_time_again_and_again() {
    let test = Test::new(Settings { validity: 6, ..Settings::default() });
    let mut run = test.load(&["a.test"]);
    run.start();
    let mut seen: Vec<Arc<Identity>> = Vec::new();
    for _ in 0..3 {
        run.told("certificate from");
        let shown = run.shown();
        assert!(seen.iter().all(|before| before.chain_der() != shown.chain_der()));
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        // The one before was still valid when this one came.
        assert!(seen.last().is_none_or(|before| before.not_after() >= now as i64));
        seen.push(shown);
    }
}

#[test]
fn an_external_account_is_used_where_one_is_wanted() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external_account = Some(("kid-1".to_owned(), key.to_owned()));
    let test = Test::new(Settings { external_account, ..Settings::default() });
    let mut run = test.load(&["a.test"]);
    run.start();
    let told = run.told("error acme: a.test: account: the authority says");
    assert!(told.contains("externalAccountRequired") && told.contains("HMAC key"), "{told}");
    run.stop();

    let external = ExternalAccount { key_id: "kid-1".to_owned(), hmac_key: key.to_owned() };
    let acme = Acme { external_account: Some(external), ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    run.told("certificate from");
    run.stop();
    assert!(run.lines().iter().all(|line| !line.contains(key)));
}

#[test]
fn an_authority_that_forgot_the_account_gets_a_new_one() {
    let mut test = Test::new(Settings::default());
    let mut run = test.load(&["a.test"]);
    run.start();
    run.told("info acme: new account at 127.0.0.1");
    run.told("certificate from");
    run.stop();

    // At the same port, because the account is kept by URL.
    let port = test.pebble.as_ref().unwrap().port();
    test.pebble = None;
    test.start_pebble(Settings { port, ..Settings::default() });
    let mut run = test.load(&["a.test", "b.test"]);
    run.start();
    run.told("does not know the stored account any more");
    run.told("info acme: new account at 127.0.0.1");
    run.told("certificate from");
}

#[test]
fn challenge_files_are_written_for_another_web_server_and_removed() {
    let test = Test::new(Settings::default());
    let directory = test.state.join("challenges");
    // Ravelin answers nothing itself: the files do.
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    *test.web.files.lock().unwrap() = Some(directory.clone());
    let acme = Acme { challenge_dir: Some(directory.clone()), ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    run.told("certificate from");
    let left = fs::read_dir(directory.join(".well-known/acme-challenge")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn of_two_processes_one_orders_and_the_other_shows_what_it_stores() {
    let test = Test::new(Settings::default());
    test.web.silent.store(true, Ordering::Relaxed);
    test.web.deaf.store(true, Ordering::Relaxed);
    let mut first = test.load(&["a.test"]);
    first.start();
    first.told("trying again");
    let mut second = test.load(&["a.test"]);
    second.start();
    second.told("another process uses");
    test.web.silent.store(false, Ordering::Relaxed);
    first.look_now();
    first.told("certificate from");
    second.look_now();
    let shown = || second.shown().chain_der() == first.shown().chain_der();
    until("the other process shows it, too", shown);
    // And takes over when the first one has ended.
    first.stop();
    second.look_now();
    second.told("this process orders from now on");
}

#[test]
fn an_authority_whose_certificate_is_not_trusted_leads_to_ca_file() {
    let test = Test::new(Settings::default());
    let acme = Acme { ca_file: None, ..test.acme.clone() };
    let mut run = Run::load(&test.state, &test.challenges, acme, &["a.test"]);
    run.start();
    let told = run.told("error acme: a.test: account: the authority cannot be reached");
    assert!(told.contains("`ca_file`"), "{told}");
}

#[test]
fn a_name_with_a_star_needs_what_is_not_there() {
    let test = Test::new(Settings::default());
    let mut run = test.load(&["*.a.test"]);
    run.start();
    let told = run.told("takes neither http-01 nor tls-alpn-01 as proof for *.a.test");
    assert!(told.contains("list the names one by one"), "{told}");
}

/// An authority, a web server, and what they and Ravelin know of each other.
struct Test {
    pebble: Option<Pebble>,
    web: Web,
    challenges: Arc<Challenges>,
    state: PathBuf,
    acme: Acme,
}

impl Test {
    fn new(settings: Settings) -> Test {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ravelin-acme-{}-{number}", std::process::id());
        let state = std::env::temp_dir().join(name);
        fs::create_dir_all(&state).unwrap();
        let challenges = Arc::new(Challenges::default());
        let acme = Acme {
            names: Vec::new(),
            email: "admin@a.test".to_owned(),
            directory_url: String::new(),
            ca_file: None,
            challenge_dir: None,
            external_account: None,
            profile: None,
            http_port: 80,
            state_dir: state.join("state"),
        };
        let web = Web::start(&challenges);
        let mut test = Test { pebble: None, web, challenges, state, acme };
        test.start_pebble(settings);
        test
    }

    fn start_pebble(&mut self, settings: Settings) {
        let (http_port, tls_port) = (self.web.http_port, self.web.tls_port);
        let pebble = Pebble::start(&Settings { http_port, tls_port, ..settings });
        self.acme.directory_url = pebble.url();
        self.acme.ca_file = Some(pebble.ca_file());
        self.pebble = Some(pebble);
    }

    fn load(&self, names: &[&str]) -> Run {
        Run::load(&self.state, &self.challenges, self.acme.clone(), names)
    }

    /// Everything in the state directory: path and permissions, by path.
    fn files(&self) -> Vec<(String, u32)> {
        let mut files = Vec::new();
        let mut directories = vec![self.acme.state_dir.clone()];
        while let Some(directory) = directories.pop() {
            assert_eq!(mode(&directory), 0o700, "{}", directory.display());
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push((path.display().to_string(), mode(&path)));
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.state);
    }
}

/// Certificates as a running Ravelin has them.
struct Run {
    certificates: Option<Certificates>,
    http_ports: Vec<u16>,
    slot: Arc<IdentitySlot>,
    challenges: Arc<Challenges>,
    source: Source,
    running: Option<(UnboundedSender<()>, JoinHandle<()>)>,
}

impl Run {
    fn load(state: &Path, challenges: &Arc<Challenges>, acme: Acme, names: &[&str]) -> Run {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (sink, source) = sink(256);
        let log = ErrorLog::new(sink, Level::Info);
        let certificates = Certificates::load(&model(state, Acme { names, ..acme }), &log).unwrap();
        let slot = Arc::clone(certificates.slot(0).unwrap());
        Run {
            http_ports: certificates.http_ports(),
            certificates: Some(certificates),
            slot,
            challenges: Arc::clone(challenges),
            source,
            running: None,
        }
    }

    /// Starts the tasks, on a runtime as the control runtime is.
    fn start(&mut self) {
        let (certificates, challenges) =
            (self.certificates.take().unwrap(), Arc::clone(&self.challenges));
        let (sender, mut looks) = unbounded_channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let upkeep: Upkeep = certificates.start(&challenges);
                while let Some(()) = looks.recv().await {
                    upkeep.look_now();
                }
            });
        });
        self.running = Some((sender, thread));
    }

    fn look_now(&self) {
        self.running.as_ref().unwrap().0.send(()).unwrap();
    }

    fn stop(&mut self) {
        if let Some((sender, thread)) = self.running.take() {
            drop(sender);
            thread.join().unwrap();
        }
    }

    fn shown(&self) -> Arc<Identity> {
        self.slot.load()
    }

    /// Waits for a line with this part.
    fn told(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut before = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.source.orders.recv_timeout(left) {
                Ok(Order::Write { block, .. }) => {
                    let line = String::from_utf8(block).unwrap();
                    if line.contains(part) {
                        return line;
                    }
                    before.push_str(&line);
                }
                Ok(_) => {}
                Err(error) => panic!("not told ({error}): {part}\nbut:\n{before}"),
            }
        }
    }

    /// The lines that nobody has waited for.
    fn lines(&self) -> Vec<String> {
        let orders = std::iter::from_fn(|| self.source.orders.try_recv().ok());
        orders.map(|order| format!("{order:?}")).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What Pebble talks to: a web server that knows nothing but challenges.
struct Web {
    http_port: u16,
    tls_port: u16,
    /// Answers no HTTP-01 from the offered challenges.
    silent: Arc<AtomicBool>,
    /// Closes TLS connections.
    deaf: Arc<AtomicBool>,
    /// Answers HTTP-01 from files below this directory.
    files: Arc<std::sync::Mutex<Option<PathBuf>>>,
    /// TLS-ALPN-01 handshakes that succeeded.
    handshakes: Arc<AtomicUsize>,
}

impl Web {
    fn start(challenges: &Arc<Challenges>) -> Web {
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
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

/// One site that gets its certificate as `acme` says.
fn model(root: &Path, acme: Acme) -> Model {
    let text = format!(
        "[[sites]]\nname = \"main\"\nhostname = \"a.test\"\nport = 8080\nstatic_dir = {:?}\n",
        root.display().to_string()
    );
    let loaded =
        config::load(&[(PathBuf::from("ravelin.toml"), text)], &config::Options::default());
    let mut model = loaded.model.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    model.sites[0].tls = Some(Tls {
        certificate: CertificateSource::Acme(acme),
        ocsp_file: None,
        policy: TlsPolicy {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            ciphers: Vec::new(),
            groups: Vec::new(),
            client_auth: None,
            http2: true,
            tickets: true,
        },
    });
    model
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// Waits until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::yield_now();
    }
}
