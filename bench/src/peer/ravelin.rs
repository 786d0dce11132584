//! Ravelin, the proxy that is measured.

use std::path::{Path, PathBuf};

use super::Task;
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
pub(super) fn start(lab: &Lab, program: &Path, task: &Task) -> Result<Process> {
    let proxy = match task.upstream {
        Some(upstream) => format!(
            r#"[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "origin"
url = "{scheme}://{upstream}"

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
            scheme = if task.load.is_grpc() { "h2c" } else { "http" },
            websocket = task.load.is_websocket()
        ),
        None => String::new(),
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

{tls}{proxy}"#,
        connections = task.load.connections() + 256,
        listen = task.listen,
        files = task.files.display(),
    );
    let file = lab.write("ravelin.toml", config)?;
    lab.start("ravelin", &lab.proxy_core, program, &["run", "-c", &file.display().to_string()])
}
