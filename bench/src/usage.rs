//! What a proxy's processes have used so far, as the kernel counts it.
//!
//! The sum of CPU time comes from `schedstat`, which counts nanoseconds; how it divides into user
//! and system comes from `stat`, whose clock ticks are coarse but fair over seconds.

use std::fs;
use std::path::PathBuf;

use crate::Result;

/// Counters of a set of processes, all their threads together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Clock ticks in user mode.
    user_ticks: u64,
    /// Clock ticks in the kernel.
    system_ticks: u64,
    /// Context switches, voluntary or not.
    pub(crate) switches: u64,
}

/// The length of a tick in `/proc/PID/stat`: USER_HZ is 100 on every architecture Debian has.
const TICK_NS: u64 = 10_000_000;

impl Usage {
    /// Reads the counters of these processes.
    pub(crate) fn of(pids: &[u32]) -> Result<Usage> {
        let mut sum = Usage::default();
        let mut scheduled_ns = 0;
        for pid in pids {
            let [user, system] = ticks(*pid)?;
            sum.user_ticks += user;
            sum.system_ticks += system;
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let thread = thread?.path();
                scheduled_ns += first_number(&thread.join("schedstat"));
                sum.switches += switches(&thread.join("status"));
            }
        }
        // A thread that has ended is in `stat` only (and a kernel may lack `schedstat`).
        let ticked_ns = (sum.user_ticks + sum.system_ticks) * TICK_NS;
        let counts_all = scheduled_ns + 2 * TICK_NS * pids.len() as u64 > ticked_ns;
        sum.cpu_ns = if counts_all { scheduled_ns } else { ticked_ns };
        Ok(sum)
    }

    /// What was used between an earlier reading and this one.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }

    /// The part of the CPU time spent in user mode, 0 to 1.
    pub(crate) fn user_share(&self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }
}

/// Memory of a set of processes, in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident; pages that two of them share count twice.
    pub(crate) resident: u64,
    /// Resident; a shared page counts in parts.
    pub(crate) proportional: u64,
}

impl Memory {
    /// Reads it from `smaps_rollup`.
    pub(crate) fn of(pids: &[u32]) -> Result<Memory> {
        let mut sum = Memory::default();
        for pid in pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            sum.resident += labelled(&text, "Rss:") * 1024;
            sum.proportional += labelled(&text, "Pss:") * 1024;
        }
        Ok(sum)
    }
}

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end while it is looked at.
        if let Some(parent) = stat_fields(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&member) = family.get(at) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(pid, _)| *pid));
        at += 1;
    }
    Ok(family)
}

/// The fields of `/proc/PID/stat` after the command, whose name may hold anything: state, parent, ...
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// User and system time: fields 14 and 15 of the line, 12th and 13th after the command.
fn ticks(pid: u32) -> Result<[u64; 2]> {
    let fields = stat_fields(pid).ok_or_else(|| format!("process {pid} is gone"))?;
    let tick = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0);
    Ok([tick(11), tick(12)])
}

fn first_number(path: &PathBuf) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn switches(path: &PathBuf) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    labelled(&text, "voluntary_ctxt_switches:") + labelled(&text, "nonvoluntary_ctxt_switches:")
}

/// The number after a label at the start of a line.
fn labelled(text: &str, label: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default();
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
