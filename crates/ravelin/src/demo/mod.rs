//! `ravelin demo`: a working Ravelin on a machine that has nothing else.
//!
//! Everything it needs is in this process: two origins and a WebSocket echo on loopback ports that
//! the kernel chooses, an index page in a private directory. The configuration is native TOML that
//! goes through the ordinary front end, and the service is the one `run` starts, so what the demo
//! shows is what Ravelin does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use control::history::Texts;
use net::listener::Local;
use tokio::net::TcpListener;

use crate::cli::{Common, DemoArguments};
use crate::configuration::{Source, load_texts, model_to_serve};
use crate::service::{Configuration, Service, control_runtime};
use crate::terminal::{self, Failure};
use crate::upgrade::Inheritance;

mod assets;
mod connection;
mod echo;
mod json;
mod origin;

/// After Ctrl-C a demo request may take this long; nobody's work is lost with it.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Where the dashboard is, unless somebody else has that port.
const ADMIN_PORT: u16 = 7654;

/// Where the demo's parts are.
struct Parts<'a> {
    listen: SocketAddr,
    /// Where the dashboard is.
    admin: SocketAddr,
    files: &'a Path,
    origins: [SocketAddr; 2],
    echo: SocketAddr,
}

/// Serves the demo; returns when it has been stopped and everything of it is gone.
pub(crate) fn demo(arguments: &DemoArguments, common: &Common) -> Result<(), Failure> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = arguments.listen.unwrap_or(local(arguments.port));
    if arguments.show_config {
        let origins = [local(3001), local(3002)];
        let admin = local(ADMIN_PORT);
        let parts = Parts { listen, admin, files: Path::new("static"), origins, echo: local(3003) };
        let note = "# The demo's origins listen at ports the kernel chooses; 3001 to 3003 stand for\n\
                    # them here, and `static` for the directory of its index page.\n";
        return terminal::show(&format!("{note}{}", configuration(&parts)));
    }
    let files = assets::Directory::create().map_err(|error| {
        let parent = std::env::temp_dir();
        let what =
            format!("cannot write the demo's index page below {}: {error}", parent.display());
        Failure::new(what, "set TMPDIR to a directory that can be written to")
    })?;
    let runtime = control_runtime()?;
    let done = runtime.block_on(serve(listen, files.path(), common));
    runtime.shutdown_background();
    done
}

async fn serve(listen: SocketAddr, files: &Path, common: &Common) -> Result<(), Failure> {
    let (first, second, echo) = (bind().await?, bind().await?, bind().await?);
    let admin = admin_address().await?;
    let parts = Parts {
        listen,
        admin,
        files,
        origins: [address(&first)?, address(&second)?],
        echo: address(&echo)?,
    };
    let text = configuration(&parts);
    let model = model_to_serve(load_texts(&[("demo.toml".into(), text)], common), common)?;

    tokio::spawn(connection::accept(first, |connection| origin::serve("origin-1", connection)));
    tokio::spawn(connection::accept(second, |connection| origin::serve("origin-2", connection)));
    tokio::spawn(connection::accept(echo, echo::serve));

    let source = Source::new(&[], common);
    let configuration = Configuration { model, texts: Texts::default(), source };
    let service =
        Service::start(configuration, &mut Inheritance::default()).await.map_err(|failure| {
            match failure {
                Failure::Plain(what, advice) if !advice.is_empty() => Failure::Plain(
                    what,
                    format!("{advice}; `ravelin demo --port 0` takes a free one"),
                ),
                other => other,
            }
        })?;
    let bound = service.addresses().into_iter().find_map(|local| match local {
        Local::Ip(address) => Some(address),
        Local::Unix(_) => None,
    });
    terminal::print(io::stdout(), &what_to_try(bound.unwrap_or(listen), admin));
    service.until_stopped(DRAIN_MAX).await;
    Ok(())
}

/// The usual address of the admin API, or one that is free if somebody else has it.
async fn admin_address() -> Result<SocketAddr, Failure> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    match TcpListener::bind(usual).await {
        Ok(_) => Ok(usual),
        Err(_) => address(&bind().await?),
    }
}

async fn bind() -> Result<TcpListener, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| no_origin(&error))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| no_origin(&error))
}

fn no_origin(error: &io::Error) -> Failure {
    Failure::new(format!("cannot start the demo's origins on 127.0.0.1: {error}"), "")
}

fn configuration(parts: &Parts<'_>) -> String {
    let Parts { listen, admin, files, origins: [first, second], echo } = parts;
    let admin = admin.port();
    let files = toml_string(&files.to_string_lossy());
    format!(
        r#"[[sites]]
name = "demo"
hostname = "localhost"
listen = ["{listen}"]
default = true
static_dir = {files}

[sites.proxy]
enabled = true

# Two entries with one name are one pool.
[[sites.proxy.upstreams]]
name = "api"
url = "http://{first}"

[[sites.proxy.upstreams]]
name = "api"
url = "http://{second}"

[[sites.proxy.upstreams]]
name = "echo"
url = "http://{echo}"

[[sites.proxy.routes]]
path = "/api/"
upstream = "api"

[[sites.proxy.routes]]
path = "/ws"
upstream = "echo"
websocket = true

[sites.proxy.load_balancing]
method = "round_robin"

# The dashboard, for this machine.
[management]
enabled = true
port = {admin}

[logging]
format = "compact"
"#
    )
}

/// A TOML basic string (TOML 1.0, "String").
fn toml_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn what_to_try(bound: SocketAddr, admin: SocketAddr) -> String {
    let host = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "[::1]".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let at = format!("{host}:{}", bound.port());
    format!(
        "
Ravelin's demo serves at http://{at}   (Ctrl-C ends it)

Try:
  open http://{at}/             an index page, from static files
  open http://{admin}/         the dashboard: traffic, endpoints, requests
  curl http://{at}/api/hello    two origins take turns: repeat it
  curl -d 'a=1' http://{at}/api/form
  curl http://{at}/api/health   Ravelin's own answer
  npx wscat -c ws://{at}/ws     echoes what you type
  curl -iN -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \\
       -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://{at}/ws

Its configuration: ravelin demo --show-config

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_finding() {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let files = Path::new("/tmp/with \"quotes\" and \\ and é");
        let origins = [local(1), local(2)];
        let (listen, admin, echo) = (local(8080), local(4), local(3));
        let parts = Parts { listen, admin, files, origins, echo };
        let text = configuration(&parts);
        let loaded = config::load(&[("demo.toml".into(), text)], &config::Options::default());
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.render(false));
        let model = loaded.model.unwrap();
        assert_eq!(model.sites[0].files.as_ref().unwrap().root, files);
        let proxy = model.sites[0].proxy.as_ref().unwrap();
        assert_eq!(proxy.pools[0].upstreams.len(), 2);
        let mut routes = model.sites[0].routes.iter();
        assert!(routes.any(|route| route.path.text() == "/ws" && route.websocket.is_some()));
    }
}
