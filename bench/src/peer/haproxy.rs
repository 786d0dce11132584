//! HAProxy as a peer.

use std::path::Path;

use super::Task;
use crate::Result;
use crate::lab::{Lab, Process};
use crate::scenario::Load;

/// Starts HAProxy as proxy.
pub(super) fn start(lab: &Lab, program: &Path, name: &str, task: &Task) -> Result<Process> {
    let upstream = task.upstream.ok_or("HAProxy serves no files")?;
    let splice = if task.splice {
        "option splice-auto\n    option splice-request\n    option splice-response"
    } else {
        ""
    };
    let buffer = buffer_size(task);
    let config = format!(
        r#"global
    nbthread 1
    maxconn {connections}
    tune.bufsize {buffer}
    tune.pipesize 1048576
    tune.pool-low-fd-ratio 100
    tune.pool-high-fd-ratio 100

defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    timeout tunnel 1h
    http-reuse always
    {splice}

frontend clients
    bind {listen} backlog 4096
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header Forwarded for=%[src];host=\"%[req.hdr(host)]\";proto=http
    default_backend origin

backend origin
    server origin {upstream} pool-max-conn -1 pool-purge-delay 600s
"#,
        connections = task.load.connections() + 256,
        listen = task.listen,
    );
    let file = lab.write(&format!("{name}.cfg"), config)?;
    lab.start(name, &lab.proxy_core, program, &["-db", "-f", &file.display().to_string()])
}

/// The size that measured best: what is spliced needs no large buffer, except to splice more at once.
fn buffer_size(task: &Task) -> usize {
    match *task.load {
        Load::Http { body: 1.., .. } if !task.splice => 128 << 10,
        Load::Http { response: 0x1_0000.., .. } if !task.splice => 64 << 10,
        Load::Http { response: 0x1_0001.., .. } => 64 << 10,
        Load::WebSocket { size: 0x1_0000.., .. } => 64 << 10,
        _ => 16 << 10,
    }
}
