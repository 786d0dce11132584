//! System calls of a request: counted by `perf stat`, or by `strace` where perf cannot.
//!
//! perf counts in the kernel and hardly slows the proxy. strace stops it at every call, so the
//! proxy finds more work at each `epoll_wait` and the count comes out a little low.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::lab::{self, Lab, Process};

/// A program that can count.
pub(crate) enum Counter {
    /// The kernel's tracepoint, by linux-perf.
    Perf(PathBuf),
    /// ptrace, by strace.
    Strace(PathBuf),
}

/// Seconds of load to count in: the first system calls of 1000 connections must not matter.
pub(crate) const SECONDS: u64 = 2;

const EVENT: &str = "raw_syscalls:sys_enter";

/// The better counter that works here.
pub(crate) fn counter(lab: &Lab) -> Option<Counter> {
    let perf = lab::tool("perf", "linux-perf").ok().map(Counter::Perf);
    let strace = lab::tool("strace", "strace").ok().map(Counter::Strace);
    [perf, strace].into_iter().flatten().find(|counter| counter.works(lab))
}

impl Counter {
    /// What to call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Counter::Perf(_) => "perf stat",
            Counter::Strace(_) => "strace -c",
        }
    }

    /// The system calls of these processes while `load` runs, for each request it made.
    pub(crate) fn count(
        &self,
        lab: &Lab,
        pids: &[u32],
        load: impl FnOnce() -> Result<u64>,
    ) -> Result<f64> {
        let mut counting = self.attach(lab, pids)?;
        lab::pause(500);
        counting.still_runs()?;
        let requests = load()?;
        counting.interrupt()?;
        let calls = self.total(lab)?;
        Ok(calls as f64 / requests.max(1) as f64)
    }

    fn attach(&self, lab: &Lab, pids: &[u32]) -> Result<Process> {
        let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let args = match self {
            Counter::Perf(_) => ["stat", "-x,", "-o", "calls", "-e", EVENT, "-p", &list],
            Counter::Strace(_) => ["-c", "-f", "-q", "-q", "-o", "calls", "-p", &list],
        };
        let (Counter::Perf(program) | Counter::Strace(program)) = self;
        lab.start("counter", &lab.load_core, program, &args)
    }

    fn total(&self, lab: &Lab) -> Result<u64> {
        let text = fs::read_to_string(lab.dir.join("calls"))?;
        let number = match self {
            // 12345,,raw_syscalls:sys_enter,...
            Counter::Perf(_) => {
                text.lines().find(|line| line.contains(EVENT)).and_then(|l| l.split(',').next())
            }
            // 100.00    0.123456           5     12345         6 total
            Counter::Strace(_) => text
                .lines()
                .find(|line| line.ends_with(" total"))
                .and_then(|line| line.split_whitespace().nth(3)),
        };
        let number = number.and_then(|word| word.parse().ok());
        number.ok_or_else(|| format!("{} counted nothing: {}", self.name(), text.trim()).into())
    }

    /// Whether it may look at another process, tried on this one.
    fn works(&self, lab: &Lab) -> bool {
        self.count(lab, &[std::process::id()], || Ok(1)).is_ok_and(|calls| calls > 0.0)
    }
}
