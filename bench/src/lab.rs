//! Processes and files of a run: started pinned to a core, ended whatever happens.
//!
//! What holds here: every child is in a process group of its own and in [`STARTED`] until it is
//! reaped, so an error, a panic, SIGINT and SIGTERM all end it; and so with the directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::{Options, Result};

/// How long a process that is asked to end has for it.
const TIME_TO_END: Duration = Duration::from_secs(3);

/// Where a run's processes live and write.
pub(crate) struct Lab {
    /// Configurations, files to serve, logs; removed at the end.
    pub(crate) dir: PathBuf,
    /// The proxy's core, in `taskset`'s words.
    pub(crate) proxy_core: String,
    /// The origin's core.
    pub(crate) origin_core: String,
    /// The load generator's core.
    pub(crate) load_core: String,
    /// Descriptors a process may open.
    pub(crate) descriptors: u64,
}

impl Lab {
    /// Makes the directory, raises the descriptor limit and arranges for signals to clean up.
    pub(crate) fn open(options: &Options) -> Result<Lab> {
        let dir = std::env::temp_dir().join(format!("ravelin-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        started().dir = Some(dir.clone());
        clean_up_on_signal()?;
        let origin = options.origin_core.unwrap_or(options.load_core);
        for core in [options.proxy_core, options.load_core, origin] {
            if !core_exists(core) {
                return Err(format!("core {core} is not there: name cores with --proxy-core, --load-core and --origin-core").into());
            }
        }
        if options.proxy_core == options.load_core || options.proxy_core == origin {
            return Err(
                "the proxy needs a core of its own: this machine or these options give it none"
                    .into(),
            );
        }
        Ok(Lab {
            dir,
            proxy_core: options.proxy_core.to_string(),
            origin_core: origin.to_string(),
            load_core: options.load_core.to_string(),
            descriptors: raise_descriptor_limit()?,
        })
    }

    /// Writes a file into the directory.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Starts a server on a core. What it prints goes to `NAME.log` in the directory.
    pub(crate) fn start(
        &self,
        name: &str,
        core: &str,
        program: &Path,
        args: &[&str],
    ) -> Result<Process> {
        let log = self.dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = pinned(core, program);
        command.args(args).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Process { child: spawn(&mut command)?, name: name.to_owned(), log })
    }

    /// Runs a program on the load core to its end and gives what it printed.
    pub(crate) fn run_load(&self, program: &Path, args: &[&str]) -> Result<String> {
        let mut command = pinned(&self.load_core, program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = spawn(&mut command)?;
        let pid = child.id();
        let output = child.wait_with_output()?;
        forget(pid);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} failed: {}", program.display(), said.trim()).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A running server; ended when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Its process id: `taskset` becomes the program it starts.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended by itself, with the last lines it printed.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("{} ended ({status}): {}", self.name, self.last_words()).into())
            }
        }
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join(" / ")
    }

    /// Asks it to end as Ctrl-C would and waits for it.
    pub(crate) fn interrupt(mut self) -> Result<()> {
        if let Some(pid) = group(self.pid()) {
            rustix::process::kill_process(pid, Signal::INT)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and gives it a moment: a program built to write a profile does so then.
    fn ends_when_asked(&mut self) -> bool {
        if let Some(pid) = group(self.pid()) {
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        let given_up = Instant::now() + TIME_TO_END;
        while Instant::now() < given_up {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && !self.ends_when_asked() {
            kill(self.pid());
            self.child.wait().ok();
        }
        forget(self.pid());
    }
}

/// An address on the loopback that nobody listens at, and that was not given before: whom it was for may not
/// listen yet.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if given.insert(address) {
            return Ok(address);
        }
    }
}

/// Finds a program on the path (or where Debian puts daemons).
pub(crate) fn tool(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            format!("`{name}` is not installed; on Debian: apt-get install {package}").into()
        })
}

/// Ends every process still running and removes the directory.
fn clean_up() {
    let mut started = started();
    for pid in started.groups.drain(..) {
        kill(pid);
    }
    if let Some(dir) = started.dir.take() {
        fs::remove_dir_all(dir).ok();
    }
}

/// Cleans up when dropped, so also while a panic unwinds.
pub(crate) struct CleanUp;

impl Drop for CleanUp {
    fn drop(&mut self) {
        clean_up();
    }
}

/// What has to be ended, for those who end it from another thread.
struct Started {
    groups: Vec<u32>,
    dir: Option<PathBuf>,
}

static STARTED: Mutex<Started> = Mutex::new(Started { groups: Vec::new(), dir: None });

fn started() -> MutexGuard<'static, Started> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(command: &mut Command) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    // The lock is held across the start, so that no child can be missed by a clean-up.
    let mut started = started();
    if started.dir.is_none() {
        return Err("interrupted".into());
    }
    let child = command
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    started.groups.push(child.id());
    Ok(child)
}

fn forget(pid: u32) {
    started().groups.retain(|&known| known != pid);
}

fn kill(pid: u32) {
    if let Some(group) = group(pid) {
        rustix::process::kill_process_group(group, Signal::KILL).ok();
    }
}

fn group(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

fn core_exists(core: usize) -> bool {
    Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists()
}

/// Children are started with the limit this process has.
fn raise_descriptor_limit() -> Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit { current: Some(most), maximum: limit.maximum },
    )?;
    Ok(most)
}

fn clean_up_on_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|cx| {
            let asked = interrupt.poll_recv(cx).is_ready() | terminate.poll_recv(cx).is_ready();
            if asked { Poll::Ready(()) } else { Poll::Pending }
        }));
        clean_up();
        eprintln!("bench: interrupted");
        std::process::exit(130);
    });
    Ok(())
}

/// Waits a moment between two looks at something that cannot be waited for.
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
