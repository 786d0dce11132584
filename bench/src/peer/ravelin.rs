//! Ravelin, the proxy that is measured.

use std::path::{Path, PathBuf};

use super::{Eyes, IDLE_UPSTREAM, Task};
use crate::Result;
use crate::lab::{Lab, Process};
use crate::tls::{GROUP, SUITE};

/// The binary: the one that was named, or the one built beside this program.
pub(super) fn find(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe()?.with_file_name("ravelin"),
    };
    if path.is_file() {
        return Ok(std::path::absolute(path)?);
    }
    Err(format!(
        "no Ravelin at {}: build it with `cargo build --release -p ravelin`, name another with \
         --ravelin, or leave it out with --peers nginx,haproxy",
        path.display()
    )
    .into())
}

/// Starts it as proxy or file server.
pub(super) fn start(lab: &Lab, program: &Path, name: &str, task: &Task) -> Result<Process> {
    let scheme = if task.load.is_grpc() { "h2c" } else { "http" };
    let upstreams = task.upstreams.iter().map(|upstream| {
        format!("[[sites.proxy.upstreams]]\nname = \"origin\"\nurl = \"{scheme}://{upstream}\"\n\n")
    });
    let proxy = match task.upstreams.is_empty() {
        false => format!(
            r#"[sites.proxy]
enabled = true

{upstreams}{balancing}
[[sites.proxy.routes]]
path = "/"
upstream = "origin"
websocket = {websocket}

{frames}
[sites.proxy.headers]
preserve_host = true
add_x_forwarded = true
add_forwarded = true

[sites.proxy.idle_connections]
max = {IDLE_UPSTREAM}
timeout = 600
"#,
            upstreams = upstreams.collect::<String>(),
            balancing = if task.is_balanced() { BALANCING } else { "" },
            websocket = task.load.is_websocket(),
            frames = if task.load.looks_at_frames() { FRAMES } else { "" },
        ),
        true => String::new(),
    };
    let tls = task.tls.as_ref().map_or(String::new(), |files| {
        format!(
            r#"[sites.ssl]
enabled = true
cert_file = "{}"
key_file = "{}"
min_version = "1.3"
ciphers = ["{SUITE}"]
groups = ["{GROUP}"]

"#,
            files.certificate.display(),
            files.key.display(),
        )
    });
    let config = format!(
        r#"[server]
name = "ravelin"

{eyes}
[performance]
worker_threads = 1
max_connections = {connections}
keep_alive_timeout = 600

[[sites]]
name = "bench"
hostname = "localhost"
listen = ["{listen}"]
static_dir = "{files}"
default = true

{tls}{proxy}"#,
        eyes = eyes(lab, name, task.eyes),
        connections = task.load.connections() + 256,
        listen = task.listen,
        files = task.files.display(),
    );
    let file = lab.write(&format!("{name}.toml"), config)?;
    lab.start(name, &lab.proxy_core, program, &["run", "-c", &file.display().to_string()])
}

/// What looks at traffic.
fn eyes(lab: &Lab, name: &str, eyes: Eyes) -> String {
    let socket = lab.dir.join(format!("{name}.sock"));
    let management = format!("[management]\nsocket = \"{}\"\n", socket.display());
    match eyes {
        Eyes::Default => format!("[logging]\nlog_requests = false\n\n{management}"),
        Eyes::Off => format!(
            "[logging]\nlog_requests = false\n\n[metrics]\nenabled = false\n\n\
             {management}recorder = 0\n"
        ),
        Eyes::On => format!(
            "[logging]\naccess_log = \"{}\"\nformat = \"json\"\nrotate_size = \"64MB\"\n\
             rotate_keep = 1\n\n{management}",
            lab.dir.join(format!("{name}.access.log")).display()
        ),
    }
}

/// Limits that no message of the load reaches.
const FRAMES: &str = r#"
[sites.proxy.websocket]
client_max_message_size = "1MB"
server_max_message_size = "1MB"
"#;

/// Everything that keeps requests from upstreams that fail. `max_fails` and the attempts with
/// their budget are the defaults.
const BALANCING: &str = r#"
[sites.proxy.load_balancing]
method = "round_robin"

[sites.proxy.health_check]
type = "http"
path = "/health"
interval = 1
fall = 3
rise = 1

[sites.proxy.outlier]
consecutive = 5
failures = 50
latency = 1000

[sites.proxy.circuit_breaker]
failure_rate = 50
"#;
