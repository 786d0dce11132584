//! What the system says of this process (`/proc/self`).

use std::fs;

/// What the system says of this process; `None` where it does not say.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Process {
    /// CPU time, user and system, in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub(super) resident: Option<u64>,
    /// Virtual memory in bytes.
    pub(super) virtual_memory: Option<u64>,
    /// Open descriptors.
    pub(super) descriptors: Option<u64>,
    /// Most descriptors that may be open.
    pub(super) descriptors_max: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// When it was started, in seconds of Unix time.
    pub(super) started: Option<f64>,
}

impl Process {
    /// As it is now. Reads a few small files.
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name may have spaces and parentheses; what follows it does not.
        let stat = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let field = |index: usize| stat.split(' ').nth(index)?.parse::<u64>().ok();
        let ticks = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = |name| number_after(&status, name).map(|kibibytes| kibibytes * 1024);
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            cpu_seconds: field(11).zip(field(12)).map(|(user, system)| ticks(user + system)),
            threads: field(17),
            started: number_after(&boot, "btime")
                .zip(field(19))
                .map(|(boot, since)| boot as f64 + ticks(since)),
            virtual_memory: kibibytes("VmSize:"),
            resident: kibibytes("VmRSS:"),
            // The directory that is being read is one of them.
            descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|all| all.count().saturating_sub(1) as u64),
            descriptors_max: number_after(&limits, "Max open files"),
        }
    }
}

/// `_SC_CLK_TCK`, which Linux has had at 100 on every machine for as long as programs could ask.
const TICKS_PER_SECOND: f64 = 100.0;

/// The number behind `name` on the line that begins with it.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let process = Process::now();
        assert!(process.resident.unwrap() > 1 << 20);
        assert!(process.virtual_memory.unwrap() >= process.resident.unwrap());
        assert!(process.descriptors.unwrap() >= 3 && process.descriptors_max.unwrap() >= 64);
        assert!(process.threads.unwrap() >= 1 && process.cpu_seconds.unwrap() >= 0.0);
        let started = process.started.unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(started > 1.6e9 && started <= now + 1.0, "{started} {now}");
    }
}
