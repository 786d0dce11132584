//! What a request and a connection may cost.

use std::process::{Command, Stdio};

use crate::harness::*;

const REQUESTS: usize = 2000;

/// System calls of the process over `work`, by strace.
fn syscalls(pid: u32, work: impl FnOnce()) -> Vec<String> {
    require("strace", &["--version"], "apt-get install strace");
    let dir = TempDir::new();
    let file = dir.path().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-p", &pid.to_string(), "-o", file.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = Lines::read(strace.stderr.take().unwrap());
    // Traced as soon as the kernel says so: every thread has a tracer.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !traced(pid) {
        assert!(
            std::time::Instant::now() < deadline && strace.try_wait().unwrap().is_none(),
            "strace cannot attach (ptrace must be allowed): {:?}",
            stderr.all()
        );
        std::thread::yield_now();
    }
    work();
    let stopped =
        Command::new("kill").args(["-s", "INT", &strace.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    strace.wait().unwrap();
    let trace = std::fs::read_to_string(file).unwrap();
    let call =
        |line: &&str| !line.contains("<... ") && !line.contains("+++") && !line.contains("---");
    trace.lines().filter(call).map(str::to_owned).collect()
}

fn traced(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
    })
}

fn summary(calls: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for call in calls {
        let name = call.split_once(' ').map_or(call.as_str(), |(_, c)| c.trim_start());
        *counts.entry(name.split('(').next().unwrap_or(name)).or_default() += 1;
    }
    format!("{counts:?}")
}

/// One request at a time: the process must wait twice, for the client and for the upstream, beside
/// two reads and two writes. What is above six is the log's share.
#[test]
fn a_lone_keep_alive_request_costs_no_more_than_two_waits_reads_and_writes() {
    let origin = Origin::saying(&"x".repeat(128));
    let toml = format!("[performance]\nworker_threads = 1\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    client.get("/warm").expect(200);
    let calls = syscalls(ravelin.pid(), || {
        for _ in 0..REQUESTS {
            client.get("/").expect(200);
        }
    });
    let each = calls.len() as f64 / REQUESTS as f64;
    assert!(each > 1.0, "strace saw {each} calls a request: it missed some threads");
    assert!(each <= 6.1, "{each:.2} system calls a request: {}", summary(&calls));
}

#[test]
fn a_small_keep_alive_request_costs_at_most_five_system_calls() {
    let origin = Origin::saying(&"x".repeat(128));
    let toml = format!("[performance]\nworker_threads = 1\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut clients: Vec<Client> = (0..32).map(|_| ravelin.client()).collect();
    let mut round = || {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        }
        for client in &mut clients {
            client.response("GET").expect(200);
        }
    };
    round();
    let calls = syscalls(ravelin.pid(), || (0..REQUESTS / 32).for_each(|_| round()));
    let each = calls.len() as f64 / (REQUESTS / 32 * 32) as f64;
    assert!(each > 1.0, "strace saw {each} calls a request: it missed some threads");
    assert!(each <= 5.0, "{each:.2} system calls a request: {}", summary(&calls));
}

#[test]
fn an_idle_client_connection_holds_at_most_four_kibibytes() {
    const IDLE: usize = 2000;
    const BOUND_KIB: f64 = 4.0;
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    // What the first connections allocate once is not theirs.
    let mut clients: Vec<Client> = (0..50).map(|_| ravelin.client()).collect();
    clients.iter_mut().for_each(|c| drop(c.get("/").expect(200)));
    let before = memory_kib(ravelin.pid(), "VmRSS");
    for _ in 0..IDLE {
        let mut client = ravelin.client();
        // From the second request on a connection keeps what it tells upstreams of its client.
        client.get("/").expect(200);
        client.get("/").expect(200);
        clients.push(client);
    }
    let after = memory_kib(ravelin.pid(), "VmRSS");
    let each = after.saturating_sub(before) as f64 / IDLE as f64;
    assert!(each <= BOUND_KIB, "{each:.2} KiB an idle connection ({before} -> {after} KiB)");
}

#[test]
fn it_is_small_after_start() {
    const BOUND_KIB: u64 = 15 * 1024;
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(200);
    // The code of a build for debugging is several times as large as what is shipped; it counts
    // where that is tested (`cargo test --release`).
    let counted = if cfg!(debug_assertions) { "RssAnon" } else { "VmRSS" };
    let resident = memory_kib(ravelin.pid(), counted);
    assert!(resident < BOUND_KIB, "{resident} KiB after start");
}
