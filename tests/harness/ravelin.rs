//! A running Ravelin: the built binary in a directory of its own, its addresses read from what it
//! logs, its output kept, killed at the end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::{Client, Origin, PATIENCE, Response, TempDir};

/// The binary under test: the one built with the tests, or what `RAVELIN_BINARY` names (to test a
/// release build).
pub fn binary() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_ravelin").into();
    std::env::var_os("RAVELIN_BINARY").map_or_else(built, PathBuf::from)
}

/// The variable that says where the admin socket is: in the directory of the test, for each test alone.
const RUNTIME: &str = "RUNTIME_DIRECTORY";

/// The start of a line on standard error for each address served.
const LISTENING: &str = "listening on ";

/// What a Ravelin is started with.
pub struct Setup {
    dir: TempDir,
    listeners: usize,
    args: Vec<String>,
    env: Vec<(String, String)>,
    open_files: Option<u64>,
    program: Option<PathBuf>,
}

impl Setup {
    /// A directory with this `ravelin.toml`, not started yet.
    pub fn new(toml: &str) -> Setup {
        let dir = TempDir::new();
        dir.write("ravelin.toml", toml);
        let args = ["run", "-c", "ravelin.toml"].map(str::to_owned).to_vec();
        Setup { dir, listeners: 1, args, env: Vec::new(), open_files: None, program: None }
    }

    /// The same with a configuration of another name, and so perhaps in another dialect.
    pub fn of(name: &str, text: &str) -> Setup {
        Setup::new("").file(name, text).args(&["run", "-c", name])
    }

    /// Puts a file into the directory.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        self.dir.write(name, content);
        self
    }

    /// How many addresses the start is complete with; 1 unless said.
    pub fn listeners(mut self, n: usize) -> Setup {
        self.listeners = n;
        self
    }

    /// The command line instead of `run -c ravelin.toml`.
    pub fn args(mut self, args: &[&str]) -> Setup {
        self.args = args.iter().map(|&a| a.to_owned()).collect();
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Setup {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs another command in the same directory and environment, to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir()).stdin(Stdio::null());
        command.env(RUNTIME, self.dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        run_to_end(command)
    }

    /// Starts this program instead of the binary under test.
    pub fn program(mut self, path: PathBuf) -> Setup {
        self.program = Some(path);
        self
    }

    /// Limits the descriptors the process may have.
    pub fn open_files(mut self, n: u64) -> Setup {
        self.open_files = Some(n);
        self
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it and waits until it says where it listens.
    #[track_caller]
    pub fn start(self) -> Ravelin {
        allow_many_files();
        let mut command = match self.open_files {
            None => Command::new(self.program.clone().unwrap_or_else(binary)),
            Some(n) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {n}; exec \"$0\" \"$@\"")]).arg(binary());
                shell
            }
        };
        command.args(&self.args).current_dir(self.dir.path());
        command.env(RUNTIME, self.dir.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        let mut ravelin = Ravelin { child, dir: self.dir, stdout, stderr, addresses: Vec::new() };
        ravelin.await_listeners(self.listeners);
        ravelin
    }
}

/// A Ravelin that serves.
pub struct Ravelin {
    child: Child,
    dir: TempDir,
    /// Standard output, where access lines go unless configured otherwise.
    pub stdout: Lines,
    /// Standard error.
    pub stderr: Lines,
    addresses: Vec<String>,
}

impl Ravelin {
    #[track_caller]
    pub fn start(toml: &str) -> Ravelin {
        Setup::new(toml).start()
    }

    /// One site, every path proxied to the origin.
    #[track_caller]
    pub fn before(origin: &Origin) -> Ravelin {
        Ravelin::start(&site(&[&origin.url()], ""))
    }

    /// The same, with more TOML: keys of the route first, then tables of their own.
    #[track_caller]
    pub fn before_with(origin: &Origin, more: &str) -> Ravelin {
        Ravelin::start(&site(&[&origin.url()], more))
    }

    #[track_caller]
    fn await_listeners(&mut self, n: usize) {
        let found = |lines: &[String]| -> Vec<String> {
            let address = |l: &String| {
                let (_, rest) = l.split_once(LISTENING)?;
                rest.split_whitespace().next().map(|a| a.trim_end_matches(',').to_owned())
            };
            lines.iter().filter_map(address).collect()
        };
        if self.stderr.wait(|lines| found(lines).len() >= n).is_err() {
            panic!("Ravelin did not start to listen at {n} addresses\n{}", self.logs());
        }
        self.addresses = found(&self.stderr.all());
    }

    /// The first address, where it is an internet one.
    #[track_caller]
    pub fn addr(&self) -> SocketAddr {
        self.addrs()[0]
    }

    /// Every internet address, in the order logged.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.addresses.iter().filter_map(|a| a.trim_start_matches("http://").parse().ok()).collect()
    }

    /// The address that listens on this IP address.
    #[track_caller]
    pub fn addr_on(&self, ip: &str) -> SocketAddr {
        let on = |a: &SocketAddr| a.ip().to_string() == ip;
        self.addrs().into_iter().find(on).unwrap_or_else(|| panic!("nothing listens on {ip}"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// One GET over a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// One request, byte for byte, over a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        self.client().ask(request)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Sends a signal by name ("TERM").
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "cannot send SIG{name}");
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        self.exit_within(PATIENCE)
    }

    #[track_caller]
    pub fn exit_within(&mut self, time: Duration) -> ExitStatus {
        // The pipes close when the process ends: that is the event waited for.
        let deadline = Instant::now() + time;
        for stream in [&self.stdout, &self.stderr] {
            if !stream.ended_by(deadline) {
                panic!("the process does not end\n{}", self.logs());
            }
        }
        self.child.wait().unwrap()
    }

    /// How it ended, once it has.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        self.child.try_wait().unwrap().expect("the process has not ended")
    }

    /// Whether the process has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn logs(&self) -> String {
        format!(
            "--- standard error of Ravelin\n{}\n--- standard output of Ravelin\n{}",
            self.stderr.all().join("\n"),
            tail(&self.stdout.all(), 50).join("\n")
        )
    }
}

fn tail(lines: &[String], n: usize) -> &[String] {
    &lines[lines.len().saturating_sub(n)..]
}

impl Drop for Ravelin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            return;
        }
        let panicked = self.stderr.all().iter().any(|l| l.contains("panicked at"));
        assert!(!panicked, "Ravelin panicked\n{}", self.logs());
    }
}

/// The lines of a stream as they come.
#[derive(Clone)]
pub struct Lines(Arc<(Mutex<Progress>, Condvar)>);

#[derive(Default)]
struct Progress {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn read(stream: impl Read + Send + 'static) -> Lines {
        let lines = Lines(Arc::default());
        let shared = lines.0.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                shared.0.lock().unwrap().lines.push(text);
                shared.1.notify_all();
                line.clear();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        lines
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// Waits until `done` holds for the lines so far; `Err` when the stream ends or time is up.
    fn wait(&self, done: impl Fn(&[String]) -> bool) -> Result<(), ()> {
        let guard = self.0.0.lock().unwrap();
        let waiting = |read: &mut Progress| !done(&read.lines) && !read.ended;
        let (guard, _) = self.0.1.wait_timeout_while(guard, PATIENCE, waiting).unwrap();
        if done(&guard.lines) { Ok(()) } else { Err(()) }
    }

    /// The first line that holds all of these, waiting until it comes.
    #[track_caller]
    pub fn line_with(&self, parts: &[&str]) -> String {
        let fits = |l: &&String| parts.iter().all(|p| l.contains(p));
        if self.wait(|lines| lines.iter().any(|l| fits(&l))).is_err() {
            panic!("no line with {parts:?} among\n{}", tail(&self.all(), 30).join("\n"));
        }
        self.all().iter().find(fits).unwrap().clone()
    }

    /// The same, doing `again` what may bring it about until it comes.
    #[track_caller]
    pub fn line_with_after(&self, again: &mut impl FnMut(), parts: &[&str]) -> String {
        let comes = |line: &String| parts.iter().all(|part| line.contains(part));
        super::until(&format!("a line with {parts:?}"), || {
            again();
            self.all().iter().any(comes)
        });
        self.line_with(parts)
    }

    /// Waits until the stream ends; whether it did in time.
    pub fn ended_by(&self, deadline: Instant) -> bool {
        let guard = self.0.0.lock().unwrap();
        let left = deadline.saturating_duration_since(Instant::now());
        let (guard, _) = self.0.1.wait_timeout_while(guard, left, |read| !read.ended).unwrap();
        guard.ended
    }
}

/// One site named "test" on a free loopback port, every path to these upstreams as the pool
/// "backend". `more` continues in the route's table and may open its own.
pub fn site(urls: &[&str], more: &str) -> String {
    site_with("", urls, more)
}

/// Like [`site`], with keys for the site itself.
pub fn site_with(keys: &str, urls: &[&str], more: &str) -> String {
    let upstream =
        |u: &&str| format!("[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{u}\"\n");
    let upstreams: String = urls.iter().map(upstream).collect();
    format!(
        "[[sites]]\nname = \"test\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
         {keys}\n[sites.proxy]\nenabled = true\n\n{upstreams}\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\n{more}\n"
    )
}

/// Like [`site`], with keys of its own for each upstream.
pub fn site_of(upstreams: &[(String, &str)], more: &str) -> String {
    let entry = |(url, keys): &(String, &str)| {
        format!("[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n{keys}\n")
    };
    let entries: String = upstreams.iter().map(entry).collect();
    let routes = "[[sites.proxy.routes]]";
    site(&[], more).replacen(routes, &format!("{entries}\n{routes}"), 1)
}

/// Runs the binary to its end, in a directory.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).current_dir(dir).env(RUNTIME, dir).stdin(Stdio::null());
    run_to_end(command)
}

/// The same as a user who may read only what everybody may.
pub fn run_unprivileged(dir: &Path, args: &[&str]) -> Output {
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            super::require("setpriv", &["--version"], "apt-get install util-linux");
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary());
            command
        }
        false => Command::new(binary()),
    };
    command.args(args).current_dir(dir).env(RUNTIME, dir).stdin(Stdio::null());
    run_to_end(command)
}

/// Runs any command to its end; panics when it does not come to one.
#[track_caller]
pub fn run_to_end(mut command: Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let collect = |mut stream: Box<dyn Read + Send>| {
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = done.send(bytes);
        });
        result
    };
    let stdout = collect(Box::new(child.stdout.take().unwrap()));
    let stderr = collect(Box::new(child.stderr.take().unwrap()));
    let (Ok(stdout), Ok(stderr)) =
        (stdout.recv_timeout(PATIENCE * 2), stderr.recv_timeout(PATIENCE * 2))
    else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} does not end");
    };
    Output { status: child.wait().unwrap(), stdout, stderr }
}

/// Everything a run printed.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A port that was free a moment ago, each time another: for configurations that can only name a
/// port. From below those that the kernel hands out, which would give it to the next who asks.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        // Test programs that run at once begin at different places.
        let begin = std::process::id() % 1000 * 20;
        AtomicU16::new(OWN_PORTS.start + begin as u16)
    });
    const OWN_PORTS: std::ops::Range<u16> = 10_000..32_000;
    loop {
        let port = NEXT.fetch_add(1, Ordering::SeqCst);
        if !OWN_PORTS.contains(&port) {
            NEXT.store(OWN_PORTS.start, Ordering::SeqCst);
        } else if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// The checkout.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Tests hold both ends of thousands of connections: take all descriptors that may be had.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
