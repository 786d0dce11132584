//! PyServe's YAML: a document to the native tree of one site.
//!
//! The tables of its keys are in `sections`. `environment` puts variables of the environment in their
//! places; `server` and `routing` make a `plan` of all routes, which becomes native ones. Where PyServe
//! does something else than its documentation promises, the promise is kept and a note says so.

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::source::Span;
use crate::tree::{Node, Value};

use super::build::{self, TableNode};
use super::never_open;

mod environment;
mod plan;
mod routing;
mod sections;
mod server;
mod twins;

use self::plan::{Does, Path, Plan, Planned, Takes};
use self::sections::{HTTP, LOGGING, ROOT, SERVER, SSL};

/// PyServe's `max_log_size`.
const MAX_LOG_SIZE: i64 = 10 * 1024 * 1024;
/// Bounds of `rotate_size` and `rotate_keep`.
const ROTATE_SIZE_MIN: i64 = 64 * 1024;
const ROTATE_KEEP_MAX: i64 = 1000;

/// The page at `/` where nothing else is, with `default_root`.
const WELCOME: &str = include_str!("welcome.html");

/// Where the files of `static_dir` are in any case.
const STATIC: &str = "/static/";

/// What these documents, of all files of the dialect, mean in native TOML.
pub(crate) fn translate(context: &Context<'_>, documents: &[Node]) -> Vec<Node> {
    let mut first: Option<&Node> = None;
    let mut trees = Vec::new();
    for document in documents {
        match first.filter(|first| first.span.file == document.span.file) {
            Some(first) => context.push(
                Diagnostic::error(
                    Code::DuplicateKey,
                    document.span,
                    "a second document in one file",
                )
                .label("PyServe reads one")
                .also(first.span, "the first one"),
            ),
            None => trees.extend(translated(context, &environment::applied(context, document))),
        }
        first = Some(document);
    }
    trees
}

fn translated<'n>(context: &'n Context<'n>, document: &'n Node) -> Option<Node> {
    let start = Span { end: document.span.start, ..document.span };
    let nothing = Node { value: Value::Table(Vec::new()), span: start };
    let top = Table::open(context, "file", document, &ROOT)?;
    let or_nothing = |name: &'static str, section| {
        top.table(name).or_else(|| Table::open(context, name, &nothing, section))
    };
    let version = top.integer("version").map_or(1, |version| version.value);
    let (server, http) = (or_nothing("server", &SERVER)?, or_nothing("http", &HTTP)?);
    let (ssl, logging) = (or_nothing("ssl", &SSL)?, or_nothing("logging", &LOGGING)?);
    let mut plan = Plan { files: static_dir(&http), ..Plan::default() };
    server::reverse_proxy(&server, &mut plan);
    server::redirects(&server, &mut plan);
    routing::extensions(&top, version, &mut plan);
    files_and_welcome(&server, start, &mut plan);
    server::locations(&server, &mut plan);
    let mut site = TableNode::at(start);
    site.put("name", build::text("pyserve", start));
    site.put("hostname", build::text("*", start));
    site.put("listen", listen(&server));
    if let Some(backlog) = server.integer("backlog") {
        site.put("backlog", build::number(backlog.value, backlog.span));
    }
    let place = http.peek("static_dir").map_or(start, |entry| entry.node.span);
    site.put("static_dir", build::text(plan.files.as_str(), place));
    site.put_some("ssl", tls(&ssl));
    site.put("health", build::boolean(false, start));
    let routes = plan.build();
    site.put_some("proxy", proxy(&plan));
    if !routes.is_empty() {
        site.put("routes", build::list(routes, start));
    }
    let mut root = TableNode::at(start);
    root.put_some("logging", logs(&logging));
    root.push("sites", site);
    [server, http, ssl, logging, top].into_iter().for_each(Table::finish);
    Some(root.build())
}

/// The directory of files.
fn static_dir(http: &Table<'_>) -> String {
    http.text("static_dir").map_or("./static", |text| text.value).to_owned()
}

/// Adds what there is without a word: files below `/static/`, and a page at `/`.
fn files_and_welcome(server: &Table<'_>, start: Span, plan: &mut Plan) {
    let covered = plan.routes.iter().any(|route| match &route.takes {
        Takes::Prefix(prefix) => !route.takes_the_rest && plan::covers(prefix, STATIC),
        _ => false,
    });
    if !covered {
        let does =
            Does::Files { root: plan.files.clone(), index: None, spa: None, path: Path::Stripped };
        plan.routes.push(Planned::new(Takes::Prefix(STATIC.to_owned()), does, start));
    }
    let wanted = server.boolean("default_root").unwrap_or(true);
    if wanted && plan.find("/").is_none() {
        let place = server.peek("default_root").map_or(start, |entry| entry.key_span);
        let does = Does::Respond {
            status: 200,
            body: WELCOME.to_owned(),
            content_type: Some("text/html; charset=utf-8".to_owned()),
        };
        plan.routes.push(Planned::new(Takes::Exact("/".to_owned()), does, place));
    }
}

/// Where to listen.
fn listen(server: &Table<'_>) -> Node {
    let context = server.context();
    let port = server.integer("port").map_or(8000, |port| port.value);
    let Some(host) = server.text("host") else {
        return build::texts([format!("127.0.0.1:{port}")], server.span);
    };
    let address = match host.value {
        "localhost" => "127.0.0.1".to_owned(),
        "" | "*" => String::new(),
        text => match text.parse() {
            Ok(std::net::IpAddr::V4(ip)) => ip.to_string(),
            Ok(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            Err(_) => {
                let reason = "expected an address of this machine";
                context.push(
                    context
                        .bad("host", host.span, reason)
                        .help("`0.0.0.0` is every address of IPv4, `::` of both IPv6 and IPv4"),
                );
                String::new()
            }
        },
    };
    build::texts([format!("{address}:{port}")], host.span)
}

/// TLS with clients, if it is on.
fn tls(ssl: &Table<'_>) -> Option<Node> {
    never_open(ssl, &["enabled"]);
    let enabled = ssl.boolean("enabled");
    let file = |key: &'static str, default: &str| match ssl.text(key) {
        Some(text) => build::text(text.value, text.span),
        None => build::text(default, ssl.span),
    };
    let certificate = file("cert_file", "./ssl/cert.pem");
    let key = file("key_file", "./ssl/key.pem");
    let place = ssl.peek("enabled")?.node.span;
    let mut node = TableNode::at(ssl.span);
    node.put("enabled", build::boolean(true, place));
    node.put("cert_file", certificate);
    node.put("key_file", key);
    enabled?.then(|| node.build())
}

/// What holds for all backends, if there are any.
fn proxy(plan: &Plan) -> Option<Node> {
    let span = plan.backends.first()?.span;
    let mut proxy = TableNode::at(span);
    proxy.put("enabled", build::boolean(true, span));
    proxy.within("timeout", span, |timeout| {
        timeout.put("connect", build::number(10, span));
        timeout.put("read", build::number(30, span));
    });
    proxy.within("headers", span, |headers| {
        for (key, on) in [
            ("preserve_host", false),
            ("add_x_forwarded", true),
            ("add_x_real_ip", true),
            ("add_forwarded", false),
        ] {
            headers.put(key, build::boolean(on, span));
        }
    });
    proxy.put("upstreams", build::list(plan.upstreams(), span));
    Some(proxy.build())
}

/// Files that begin anew. PyServe does so with smaller ones too, which is for nothing but tests.
fn rotation(logging: &Table<'_>, has_file: bool, node: &mut TableNode) {
    let switch = logging.peek("use_rotation").map(|entry| entry.node.span);
    let on = logging.boolean("use_rotation") == Some(true);
    let (size, keep) = (logging.integer("max_log_size"), logging.integer("backup_count"));
    let Some(switch) = switch.filter(|_| on && has_file) else { return };
    let bytes = size.as_ref().map_or(MAX_LOG_SIZE, |size| size.value).max(ROTATE_SIZE_MIN);
    node.put("rotate_size", build::number(bytes, size.map_or(switch, |size| size.span)));
    if let Some(keep) = keep {
        node.put("rotate_keep", build::number(keep.value.min(ROTATE_KEEP_MAX), keep.span));
    }
}

/// The log. PyServe has one for everything.
fn logs(logging: &Table<'_>) -> Option<Node> {
    let context = logging.context();
    let mut node = TableNode::at(logging.span);
    let level = logging.choice("level").map(|level| match level {
        "DEBUG" => "debug",
        "INFO" => "info",
        "WARNING" | "WARN" => "warn",
        _ => "error",
    });
    let place = |key: &str| logging.peek(key).map_or(logging.span, |entry| entry.node.span);
    node.put_some("level", level.map(|level| build::text(level, place("level"))));
    let file = logging.text("log_file").filter(|file| !file.value.is_empty());
    let console = logging.boolean("console_output");
    if let Some(file) = file {
        node.put("access_log", build::text(file.value, file.span));
        node.put("error_log", build::text(file.value, file.span));
        if let (Some(true), Some(entry)) = (console, logging.peek("console_output")) {
            context.push(
                Diagnostic::warning(
                    Code::NotInEffect,
                    entry.key_span,
                    "the log goes to one place, which is `log_file`",
                )
                .label("not to the terminal as well")
                .help("`tail -f` shows it there"),
            );
        }
    } else if console == Some(false) {
        context.push(
            Diagnostic::warning(
                Code::NotInEffect,
                place("console_output"),
                "the log goes to the terminal",
            )
            .label("there is no `log_file` that it could go to in the place of it"),
        );
    }
    if logging.boolean("structured_logs") == Some(true) {
        node.put("format", build::text("json", place("structured_logs")));
    }
    _ = logging.boolean("use_colors");
    rotation(logging, file.is_some(), &mut node);
    (!node.is_empty()).then(|| node.build())
}
