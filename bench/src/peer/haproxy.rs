//! HAProxy as a peer.

use std::path::Path;

use super::Task;
use crate::Result;
use crate::lab::{Lab, Process};
use crate::scenario::Load;
use crate::tls::{GROUP, SUITE};

/// Starts HAProxy as proxy.
pub(super) fn start(lab: &Lab, program: &Path, name: &str, task: &Task) -> Result<Process> {
    if task.upstreams.is_empty() {
        return Err("HAProxy serves no files".into());
    }
    let splice = if task.splice {
        "option splice-auto\n    option splice-request\n    option splice-response"
    } else {
        ""
    };
    let buffer = buffer_size(task);
    // It does not start unless it may have two descriptors for each connection.
    let possible = (lab.descriptors.saturating_sub(64) / 2) as usize;
    let tls = task.tls.as_ref().map_or(String::new(), |files| {
        format!(
            "ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.3 curves {GROUP} ciphersuites {SUITE}",
            files.both.display()
        )
    });
    let http2 = if task.load.is_grpc() { "proto h2" } else { "" };
    let servers = task.upstreams.iter().enumerate().map(|(number, upstream)| {
        format!("server origin{number} {upstream} pool-max-conn -1 pool-purge-delay 600s {http2}")
    });
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
    bind {listen} backlog 4096 {tls}
    option forwardfor
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header Forwarded for=%[src];host=\"%[req.hdr(host)]\";proto={scheme}
    default_backend origin

backend origin
    {balancing}
    {servers}
"#,
        balancing = if task.is_balanced() { BALANCING } else { "" },
        servers = servers.collect::<Vec<_>>().join("\n    "),
        scheme = if task.tls.is_some() { "https" } else { "http" },
        connections = (task.load.connections() + task.spare_connections()).min(possible),
        listen = task.listen,
    );
    let file = lab.write(&format!("{name}.cfg"), config)?;
    // It has no key for the number of tickets, but its library reads one.
    let library = lab.write("openssl.cnf", OPENSSL)?;
    let library = format!("OPENSSL_CONF={}", library.display());
    let args = [&library, &program.display().to_string(), "-db", "-f", &file.display().to_string()];
    lab.start(name, &lab.proxy_core, Path::new("env"), &args)
}

/// Checks, ejection and other attempts as Ravelin has them.
const BALANCING: &str = "balance roundrobin
    option httpchk GET /health
    http-check expect status 200-399
    retries 2
    option redispatch 1
    retry-on conn-failure empty-response
    default-server check inter 1s fall 3 rise 1 observe layer7 error-limit 5 on-error mark-down";

/// One ticket for a session instead of two, as the others send.
const OPENSSL: &str = "openssl_conf = all
[all]
ssl_conf = modules
[modules]
system_default = defaults
[defaults]
NumTickets = 1
";

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
