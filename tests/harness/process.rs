//! What the kernel knows about a process.

use std::fs;

/// A value of `/proc/PID/status` in KiB, such as `VmRSS`.
pub fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of its threads that live.
pub fn cpu_time(pid: u32) -> std::time::Duration {
    let of_thread = |entry: std::io::Result<fs::DirEntry>| -> u64 {
        // Nanoseconds on a CPU come first. A thread may end meanwhile.
        let path = entry.unwrap().path().join("schedstat");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    std::time::Duration::from_nanos(threads.map(of_thread).sum())
}

/// How many descriptors it holds open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How many established TCP connections of this machine end at this local IPv4 port.
pub fn established_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let remote = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fits = |l: &&str| {
        let parts: Vec<&str> = l.split_whitespace().collect();
        parts.get(2).is_some_and(|r| r.ends_with(&remote)) && parts.get(3) == Some(&ESTABLISHED)
    };
    table.lines().skip(1).filter(fits).count()
}

/// Bytes on established TCP connections of this machine to or from this local IPv4 port that were
/// written at one end and not yet read at the other.
pub fn bytes_under_way(port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let queued = |line: &str| -> Option<u64> {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let (local, remote, state) = (parts.get(1)?, parts.get(2)?, parts.get(3)?);
        let fits = *state == "01" && (local.ends_with(&port) || remote.ends_with(&port));
        let (sending, received) = parts.get(4).filter(|_| fits)?.split_once(':')?;
        let number = |digits| u64::from_str_radix(digits, 16).unwrap();
        Some(number(sending) + number(received))
    };
    table.lines().skip(1).filter_map(queued).sum()
}
