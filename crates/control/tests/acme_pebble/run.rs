//! Certificates as a running Ravelin has them, without the rest of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use config::model::{Acme, CertificateSource, Level, Model, Tls, TlsPolicy, TlsVersion};
use control::certificates::{Certificates, Upkeep};
use net::tls::{Identity, IdentitySlot};
use proxy::challenges::Challenges;
use proxy::log::{ErrorLog, Order, Source, sink};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::PATIENCE;
use crate::pebble::{Pebble, Settings};
use crate::web::Web;

/// An authority, a web server, and what they and Ravelin know of each other.
pub struct Test {
    pub pebble: Option<Pebble>,
    pub web: Web,
    pub challenges: Arc<Challenges>,
    pub state: PathBuf,
    pub acme: Acme,
}

impl Test {
    pub fn new(settings: Settings) -> Test {
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

    pub fn start_pebble(&mut self, settings: Settings) {
        let (http_port, tls_port) = (self.web.http_port, self.web.tls_port);
        let pebble = Pebble::start(&Settings { http_port, tls_port, ..settings });
        self.acme.directory_url = pebble.url();
        self.acme.ca_file = Some(pebble.ca_file());
        self.pebble = Some(pebble);
    }

    pub fn load(&self, names: &[&str]) -> Run {
        Run::load(&self.state, &self.challenges, self.acme.clone(), names)
    }

    /// Everything in the state directory: path and permissions, by path.
    pub fn files(&self) -> Vec<(String, u32)> {
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
pub struct Run {
    certificates: Option<Certificates>,
    pub http_ports: Vec<u16>,
    slot: Arc<IdentitySlot>,
    challenges: Arc<Challenges>,
    source: Source,
    running: Option<(UnboundedSender<()>, JoinHandle<()>)>,
}

impl Run {
    pub fn load(state: &Path, challenges: &Arc<Challenges>, acme: Acme, names: &[&str]) -> Run {
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

    /// Another process has the HTTP port.
    pub fn without_http(&mut self) {
        self.certificates.as_mut().unwrap().without_http(80);
    }

    /// Starts the tasks, on a runtime as the control runtime is.
    pub fn start(&mut self) {
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

    pub fn look_now(&self) {
        self.running.as_ref().unwrap().0.send(()).unwrap();
    }

    pub fn stop(&mut self) {
        if let Some((sender, thread)) = self.running.take() {
            drop(sender);
            thread.join().unwrap();
        }
    }

    pub fn shown(&self) -> Arc<Identity> {
        self.slot.load()
    }

    /// Waits for a line with this part.
    pub fn told(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut before = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.source.orders.recv_timeout(left) {
                Ok(Order::Write(block)) => {
                    let line = String::from_utf8(block.bytes).unwrap();
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
    pub fn lines(&self) -> Vec<String> {
        let orders = std::iter::from_fn(|| self.source.orders.try_recv().ok());
        orders.map(|order| format!("{order:?}")).collect()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
    }
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
