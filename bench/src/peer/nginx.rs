//! nginx as a peer, and as the origin of plain responses.

use std::net::SocketAddr;
use std::path::Path;

use super::{IDLE_UPSTREAM, Task};
use crate::Result;
use crate::lab::{Lab, Process};
use crate::scenario::{Load, SMALL};
use crate::tls::{Files, GROUP, SUITE};

/// Starts nginx as proxy or file server.
pub(super) fn start(lab: &Lab, program: &Path, task: &Task) -> Result<Process> {
    // A small file costs less when it is read and written with its head in one call.
    let location = match task.upstreams.is_empty() {
        false => {
            let connection = if task.load.is_websocket() { TUNNEL } else { PLAIN };
            match task.load.is_grpc() {
                true => GRPC.to_owned(),
                false => format!("{PROXY}{connection}{AGAIN}{}", buffers(task.load)),
            }
        }
        true => format!("root {}; sendfile off;", task.files.display()),
    };
    // The only server never fails for nginx; of several, one that fails is left out. The limits are
    // those that Ravelin has.
    let limits = if task.is_balanced() { "max_fails=3 fail_timeout=10s" } else { "" };
    let servers = task.upstreams.iter().map(|upstream| format!("server {upstream} {limits};"));
    let upstream = match task.upstreams.is_empty() {
        false => format!(
            "upstream origin {{
                {servers}
                keepalive {IDLE_UPSTREAM};
                keepalive_requests 1000000000;
                keepalive_timeout 600s;
            }}",
            servers = servers.collect::<String>(),
        ),
        true => String::new(),
    };
    let http = format!(
        "{upstream}
        server {{
            listen {listen} reuseport backlog=4096 {http2};
            {tls}
            location / {{ {location} }}
        }}",
        listen = task.listen,
        http2 = if task.tls.is_some() { "ssl http2" } else { "" },
        tls = task.tls.as_ref().map_or(String::new(), tls),
    );
    let slots = 2 * task.load.connections() + task.spare_connections();
    run(lab, "nginx", &lab.proxy_core, program, &http, slots)
}

/// Asks the origin for the port where it was asked.
pub(crate) const SHOW_PORT: &str = "/port";

/// Starts nginx as an origin: `/small` from memory, everything else from the directory; `/health` is
/// what the peers' health checks ask for.
pub(crate) fn origin<'a>(
    lab: &Lab,
    program: &Path,
    addresses: impl Iterator<Item = &'a SocketAddr>,
) -> Result<Process> {
    let listen = addresses.map(|address| format!("listen {address} reuseport backlog=4096;"));
    let http = format!(
        "server {{
            {listen}
            root {files};
            location = /small {{ return 200 \"{body}\"; }}
            location = {SHOW_PORT} {{ return 200 $server_port; }}
            location = /health {{ return 200 \"well\"; }}
        }}",
        listen = listen.collect::<String>(),
        files = lab.dir.join("files").display(),
        body = "x".repeat(SMALL),
    );
    run(lab, "origin-nginx", &lab.origin_core, program, &http, 2 * 6000 + 256)
}

/// The header work that every peer does; no body is ever written to a file.
///
/// All of it stands in one block: a `proxy_set_header` inside hides every one outside.
const PROXY: &str = r#"
            proxy_pass http://origin;
            proxy_max_temp_file_size 0;
            proxy_read_timeout 600s;
            client_max_body_size 0;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header Forwarded 'for=$remote_addr;host="$http_host";proto=$scheme';
            "#;

const PLAIN: &str = r#"
            proxy_set_header Connection "";
            "#;

/// The same for gRPC, which is another module of nginx.
const GRPC: &str = r#"
            grpc_pass grpc://origin;
            grpc_read_timeout 600s;
            client_max_body_size 0;
            grpc_set_header Host $http_host;
            grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            grpc_set_header X-Forwarded-Proto $scheme;
            grpc_set_header X-Forwarded-Host $http_host;
            grpc_set_header X-Forwarded-Port $server_port;
            grpc_set_header Forwarded 'for=$remote_addr;host="$http_host";proto=$scheme';
            "#;

/// Other attempts as Ravelin makes them by default.
const AGAIN: &str = r#"
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 3;
            "#;

const TUNNEL: &str = r#"
            proxy_set_header Connection "upgrade";
            proxy_set_header Upgrade $http_upgrade;
            "#;

/// What is spoken to clients. OpenSSL sends two tickets by default, Ravelin one.
fn tls(files: &Files) -> String {
    format!(
        "ssl_certificate {};
            ssl_certificate_key {};
            ssl_protocols TLSv1.3;
            ssl_ecdh_curve {GROUP};
            ssl_conf_command Ciphersuites {SUITE};
            ssl_conf_command NumTickets 1;",
        files.certificate.display(),
        files.key.display(),
    )
}

/// The buffers that measured best for this traffic.
fn buffers(load: &Load) -> &'static str {
    match load {
        // A tunnel moves its bytes through one buffer each way, of proxy_buffer_size.
        Load::WebSocket { size: 0x1000.., .. } => {
            "proxy_buffer_size 128k; proxy_buffers 8 64k; proxy_busy_buffers_size 192k;"
        }
        Load::Http { body: 1.., .. } => {
            "proxy_request_buffering off; client_body_buffer_size 128k;"
        }
        Load::Http { response: 0x4_0000.., .. } => {
            "proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 8 64k;
             proxy_busy_buffers_size 128k;"
        }
        Load::Http { response: 0x1000.., .. } => {
            "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 256k;"
        }
        _ => "",
    }
}

fn run(
    lab: &Lab,
    name: &str,
    core: &str,
    program: &Path,
    http: &str,
    slots: usize,
) -> Result<Process> {
    // Its workers cannot read the directory as another user than ours.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let dir = lab.dir.join(name);
    std::fs::create_dir_all(&dir)?;
    let config = format!(
        "daemon off;
        worker_processes 1;
        {user}
        pid {dir}/pid;
        error_log stderr error;
        events {{
            use epoll;
            multi_accept off;
            worker_connections {slots};
        }}
        http {{
            access_log off;
            default_type application/octet-stream;
            sendfile on;
            tcp_nodelay on;
            keepalive_requests 1000000000;
            keepalive_timeout 600s;
            open_file_cache max=100 inactive=600s;
            open_file_cache_valid 600s;
            client_body_temp_path {dir}/body;
            proxy_temp_path {dir}/proxy;
            fastcgi_temp_path {dir}/fastcgi;
            uwsgi_temp_path {dir}/uwsgi;
            scgi_temp_path {dir}/scgi;
            {http}
        }}",
        dir = dir.display(),
    );
    let file = lab.write(&format!("{name}.conf"), config)?;
    let args =
        ["-e", "stderr", "-p", &dir.display().to_string(), "-c", &file.display().to_string()];
    lab.start(name, core, program, &args)
}
