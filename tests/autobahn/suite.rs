//! Autobahn|Testsuite's two programs: the server that echoes, the client that tries what may break.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::harness::{Lines, free_port, project, until};
use crate::verdicts::Verdicts;

/// How long a run of the usual cases may take on a machine that does other things too.
const USUAL: Duration = Duration::from_secs(300);
/// How long one may take that was asked for.
const WHOLE: Duration = Duration::from_secs(2 * 60 * 60);

/// The suite's own echo server.
pub struct Echo {
    server: Wstest,
    port: u16,
}

impl Echo {
    #[track_caller]
    pub fn start() -> Echo {
        let port = free_port();
        let url = format!("ws://127.0.0.1:{port}");
        let server = Wstest::start(&["-m", "testeeserver", "-w", &url, "-u", "0"]);
        until("the echo server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Echo { server, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs the cases against this address, and panics unless what is said of each is what is said
    /// of the echo server alone.
    #[track_caller]
    pub fn assert_same_through(&self, name: &str, url: &str) {
        let direct = DIRECT.get_or_init(|| {
            let url = format!("ws://127.0.0.1:{}", self.port);
            let verdicts = try_all("direct", &url);
            verdicts.assert_good();
            verdicts
        });
        let through = try_all(name, url);
        let differing = direct.differing(&through);
        assert!(
            differing.is_empty(),
            "{} of {} cases differ:\n{}\n--- the echo server said\n{}",
            differing.len(),
            direct.len(),
            differing.join("\n"),
            self.server.said()
        );
        println!("{name}: {}", through.summary());
    }
}

/// What is said of the echo server alone, by whichever test asks first.
static DIRECT: OnceLock<Verdicts> = OnceLock::new();

/// Runs the cases against an address; what it says stays in the directory for who wants to know more.
#[track_caller]
fn try_all(name: &str, url: &str) -> Verdicts {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("autobahn").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let chosen = std::env::var("RAVELIN_AUTOBAHN").unwrap_or_default();
    let (cases, time) = match chosen.as_str() {
        "" => (list(QUICK), USUAL),
        "all" => (list("*"), WHOLE),
        some => (list(some), WHOLE),
    };
    let spec = format!(
        "{{\"outdir\": \"{}\", \"servers\": [{{\"agent\": \"{name}\", \"url\": \"{url}\"}}], \
         \"cases\": [{cases}], \"exclude-cases\": [], \"exclude-agent-cases\": {{}}}}",
        dir.display()
    );
    let file = dir.join("spec.json");
    std::fs::write(&file, spec).unwrap();
    Wstest::start(&["-m", "fuzzingclient", "-s", file.to_str().unwrap()]).end_within(time);
    Verdicts::read(&dir, name)
}

/// All but what takes long, which is most of those with large messages (9) and with thousands of
/// compressed ones (12, 13).
const QUICK: &str = "1.*,2.*,3.*,4.*,5.*,6.*,7.*,9.1.3,9.2.3,9.4.7,9.5.6,9.6.6,10.*,\
                     12.1.1,12.2.1,12.3.1,12.5.1,13.1.1,13.3.1,13.6.1";

fn list(patterns: &str) -> String {
    let quoted = |p: &str| format!("\"{}\"", p.trim());
    patterns.split(',').filter(|p| !p.is_empty()).map(quoted).collect::<Vec<_>>().join(", ")
}

/// A running wstest.
struct Wstest {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Wstest {
    #[track_caller]
    fn start(args: &[&str]) -> Wstest {
        let mut command = Command::new(wstest());
        // What it prints is to be there when it is ended.
        command.args(args).env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        Wstest { child, stdout, stderr }
    }

    /// Waits for its end. Its exit code says nothing.
    #[track_caller]
    fn end_within(mut self, time: Duration) {
        let deadline = Instant::now() + time;
        let ended = self.stdout.ended_by(deadline) && self.stderr.ended_by(deadline);
        assert!(ended, "wstest has not ended after {time:?}\n{}", self.said());
        self.child.wait().unwrap();
    }

    fn said(&self) -> String {
        let end = |lines: &Lines| {
            let lines = lines.all();
            lines[lines.len().saturating_sub(10)..].join("\n")
        };
        format!("{}\n{}", end(&self.stdout), end(&self.stderr))
    }
}

impl Drop for Wstest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it is installed.
#[track_caller]
fn wstest() -> PathBuf {
    let path = project().join("target/autobahn/bin/wstest");
    assert!(path.exists(), "this test needs Autobahn|Testsuite: install it with `.ci/autobahn`");
    path
}
