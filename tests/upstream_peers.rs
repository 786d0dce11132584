//! Upstreams that others wrote: nginx and Node, by HTTP/2, TLS and with the PROXY protocol.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::LocalOptions;

use crate::harness::*;

/// nginx with a port of each kind, its own directory, and a certificate for localhost.
struct Nginx {
    child: Child,
    _dir: TempDir,
    authority: Authority,
    ports: [u16; 5],
}

const H2C: usize = 0;
const H2_TLS: usize = 1;
const PROXY: usize = 2;
const PROXY_H2_TLS: usize = 3;
const RENEWED: usize = 4;

impl Nginx {
    fn start() -> Nginx {
        require("nginx", &["-v"], "apt-get install nginx");
        let dir = TempDir::new();
        let authority = Authority::new();
        let pair = authority.server(&["localhost"]);
        dir.write("cert.pem", pair.certificate);
        dir.write("key.pem", pair.key);
        dir.write("files/large", pattern(5_000_000, 11));
        let ports = [(); 5].map(|()| free_port());
        let proxied = "return 200 \"$proxy_protocol_addr:$proxy_protocol_port \
                       $proxy_protocol_server_addr:$proxy_protocol_server_port $server_protocol\";";
        let plain = "return 200 \"$server_protocol $request_method $request_uri $http_host\";";
        let ssl = "ssl_certificate cert.pem; ssl_certificate_key key.pem;";
        let [h2c, h2_tls, proxy, proxy_h2_tls, renewed] = ports;
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths: String = paths.iter().map(|name| format!("{name}_temp_path {name};")).collect();
        let config = format!(
            "worker_processes 1; daemon off; master_process off; pid nginx.pid;\n\
             error_log stderr crit; events {{ worker_connections 1024; }}\n\
             http {{ access_log off; {paths} client_max_body_size 100m;\n\
             server {{ listen 127.0.0.1:{h2c} http2; location / {{ {plain} }} \
             location /large {{ root files; }} }}\n\
             server {{ listen 127.0.0.1:{h2_tls} ssl http2; {ssl} location / {{ {plain} }} \
             location /large {{ root files; }} }}\n\
             server {{ listen 127.0.0.1:{proxy} proxy_protocol; location / {{ {proxied} }} }}\n\
             server {{ listen 127.0.0.1:{proxy_h2_tls} ssl http2 proxy_protocol; {ssl} \
             location / {{ {proxied} }} }}\n\
             server {{ listen 127.0.0.1:{renewed} http2; keepalive_requests 10; \
             location / {{ {plain} }} }}\n}}\n"
        );
        let file = dir.write("nginx.conf", config);
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-e").arg("stderr").arg("-c").arg(file);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        for port in ports {
            await_listener(port);
        }
        Nginx { child, _dir: dir, authority, ports }
    }

    fn ravelin(&self, scheme: &str, which: usize, upstream: &str) -> Ravelin {
        let url = format!("{scheme}://localhost:{}", self.ports[which]);
        let tls = match scheme {
            "h2" | "https" => "[sites.proxy.upstreams.tls]\nca_file = \"ca.pem\"\n",
            _ => "",
        };
        let toml = format!(
            "[performance]\nworker_threads = 1\n[[sites]]\nname = \"test\"\n\
             hostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n[sites.proxy]\nenabled = true\n\
             [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\n\
             [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n{upstream}\n{tls}"
        );
        Setup::new(&toml).file("ca.pem", &self.authority.pem).start()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn await_listener(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens at port {port}");
        thread::yield_now();
    }
}

#[test]
fn nginx_by_http2_with_and_without_tls() {
    let nginx = Nginx::start();
    for (scheme, which) in [("h2c", H2C), ("h2", H2_TLS)] {
        let ravelin = nginx.ravelin(scheme, which, "");
        let mut client = ravelin.client();
        for n in 0..20 {
            let text = client.get(&format!("/{n}?a=b")).expect(200).text();
            assert_eq!(text, format!("HTTP/2.0 GET /{n}?a=b example.com"));
        }
        assert_same_bytes(&client.get("/large").expect(200).body, &pattern(5_000_000, 11));
        let body = pattern(2_000_000, 12);
        client.send(format!(
            "POST /post HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        assert_eq!(client.response("POST").expect(200).text(), "HTTP/2.0 POST /post example.com");
        assert_eq!(established_to(nginx.ports[which]), 1, "{scheme}");
    }
}

#[test]
fn nginx_by_https_speaks_http1() {
    let nginx = Nginx::start();
    let ravelin = nginx.ravelin("https", H2_TLS, "");
    assert_eq!(ravelin.get("/x").expect(200).text(), "HTTP/1.1 GET /x example.com");
}

#[test]
fn nginx_that_ends_its_connections_loses_no_request() {
    // It says GOAWAY after ten requests, whatever else is on its way.
    let nginx = Nginx::start();
    let ravelin = nginx.ravelin("h2c", RENEWED, "");
    let clients: Vec<_> = (0..10)
        .map(|_| {
            let mut client = ravelin.client();
            thread::spawn(move || {
                for _ in 0..50 {
                    client.get("/").expect(200);
                    let post =
                        "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody";
                    client.ask(post).expect(200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn nginx_that_ends_its_connections_loses_no_upload_over_http2() {
    // Here the body of a request is a frame of its own, which is on its way when GOAWAY comes.
    let nginx = Nginx::start();
    let url = format!("h2c://localhost:{}", nginx.ports[RENEWED]);
    let toml = site_with("h2c = true", &[&url], "");
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{toml}"));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(ravelin.addr()).await.unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::task::spawn_local(connection);
        let uploads = (0..10).map(|_| {
            let sender = sender.clone();
            tokio::task::spawn_local(async move {
                for len in 0..50 {
                    let mut sender = sender.clone().ready().await.unwrap();
                    let request = http::Request::post("http://example.com/").body(()).unwrap();
                    let (response, mut body) = sender.send_request(request, false).unwrap();
                    body.send_data(Bytes::from(vec![b'x'; len * 100]), true).unwrap();
                    assert_eq!(response.await.unwrap().status(), 200);
                }
            })
        });
        for upload in uploads.collect::<Vec<_>>() {
            upload.await.unwrap();
        }
    });
}

#[test]
fn the_proxy_protocol_names_each_client() {
    let nginx = Nginx::start();
    for version in ["v1", "v2"] {
        for (scheme, which, protocol) in
            [("http", PROXY, "HTTP/1.1"), ("h2", PROXY_H2_TLS, "HTTP/2.0")]
        {
            let setting = format!("proxy_protocol = \"{version}\"");
            let ravelin = nginx.ravelin(scheme, which, &setting);
            let (mut one, mut other) = (ravelin.client(), ravelin.client());
            for _ in 0..3 {
                for client in [&mut one, &mut other] {
                    let Sock::Tcp(socket) = &client.wire.sock else { unreachable!() };
                    let (from, to): (SocketAddr, _) =
                        (socket.local_addr().unwrap(), ravelin.addr());
                    let text = client.get("/").expect(200).text();
                    assert_eq!(text, format!("{from} {to} {protocol}"), "{version} {scheme}");
                }
            }
        }
    }
}

const NODE: &str = r#"
const http2 = require("http2");
const server = http2.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
        response.writeEarlyHints && response.writeEarlyHints({ link: "</a.css>; rel=preload" });
        response.setHeader("x-method", request.method);
        response.setHeader("x-path", request.url);
        response.setHeader("x-authority", request.authority);
        response.addTrailers({ "x-length": Buffer.concat(chunks).length });
        response.end(Buffer.concat(chunks));
    });
});
server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port));
"#;

#[test]
fn node_by_http2() {
    require("node", &["--version"], "apt-get install nodejs");
    let mut command = Command::new("node");
    command.args(["-e", NODE]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut node = command.spawn().unwrap();
    let line = Lines::read(node.stdout.take().unwrap()).line_with(&["port "]);
    let port = line.strip_prefix("port ").unwrap();
    let ravelin = Ravelin::start(&site(&[&format!("h2c://127.0.0.1:{port}")], ""));
    let mut client = ravelin.client();
    for len in [0, 10, 200_000, 3_000_000] {
        let body = pattern(len, 4);
        client.send(format!(
            "PUT /p?q HTTP/1.1\r\nHost: example.com\r\nContent-Length: {len}\r\n\r\n"
        ));
        client.send(&body);
        let response = client.response("PUT").expect(200);
        assert_same_bytes(&response.body, &body);
        assert_eq!(response.get("x-method"), Some("PUT"));
        assert_eq!(response.get("x-path"), Some("/p?q"));
        assert_eq!(response.get("x-authority"), Some("example.com"));
        assert_eq!(response.trailers, [("x-length".to_owned(), len.to_string())]);
        assert_eq!(response.interim.len(), 1);
    }
    node.kill().unwrap();
    node.wait().unwrap();
}
