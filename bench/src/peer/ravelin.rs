//! Ravelin, the proxy that is measured.

use std::path::{Path, PathBuf};

use super::Task;
use crate::Result;
use crate::lab::{Lab, Process};

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
pub(super) fn start(lab: &Lab, program: &Path, task: &Task) -> Result<Process> {
    let proxy = match task.upstream {
        Some(upstream) => format!(
            r#"[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "origin"
url = "http://{upstream}"

[[sites.proxy.routes]]
path = "/"
upstream = "origin"
websocket = {websocket}

[sites.proxy.headers]
preserve_host = true
add_x_forwarded = true
add_forwarded = true

[sites.proxy.idle_connections]
max = 2048
timeout = 600
"#,
            websocket = task.load.is_websocket()
        ),
        None => String::new(),
    };
    let config = format!(
        r#"[server]
name = "ravelin"

[logging]
log_requests = false

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

{proxy}"#,
        connections = task.load.connections() + 256,
        listen = task.listen,
        files = task.files.display(),
    );
    let file = lab.write("ravelin.toml", config)?;
    lab.start("ravelin", &lab.proxy_core, program, &["run", "-c", &file.display().to_string()])
}
