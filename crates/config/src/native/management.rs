//! `[management]`: the admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::stats_page;
use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{AdminLevel, AdminSocket, Management, SecretBytes};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::host_name;

/// Where the seeds' own server listens.
const PORT: u16 = 7654;

/// Most memory of a worker's recorder, in bytes: looking through it must not take long.
const RECORDER_MAX: u64 = 64 * 1024 * 1024;

pub(super) static MANAGEMENT: Section = Section {
    path: "management",
    list: false,
    about: "How a running Ravelin is looked at and told what to do: `ravelin status`, `ravelin reload` and the like, and whatever speaks HTTP, ask the admin API. It is on a Unix socket unless that is turned off, and at a TCP address if that is turned on.",
    keys: &[
        now(
            "socket",
            Kind::Text,
            "by the configuration's name",
            "Path of the Unix socket, or `none`. A path that cannot be had refuses the start. Without this key it is in `$RUNTIME_DIRECTORY`, else `/run/ravelin` for root, else `$XDG_RUNTIME_DIR/ravelin`, else `/tmp/ravelin-UID`, has a name that `ravelin reload -c FILE` finds, and that it cannot be had is a warning.",
        ),
        now("socket_mode", Kind::Text, "\"600\"", "Rights of the socket's file: who may connect."),
        now(
            "socket_level",
            Kind::Choice(&["user", "operator", "admin"], &[]),
            "\"admin\"",
            "What those may do who connect to it: `user` looks; `operator` also steers endpoints and connections and has the files read again; `admin` does everything.",
        ),
        now("enabled", Kind::Bool, "false", "Serve it over TCP, too."),
        now("host", Kind::Text, "\"127.0.0.1\"", "Address to listen at, or `localhost`."),
        now("port", Kind::Integer(0, 65535), "7654", "Port to listen at; 0 for any that is free."),
        now(
            "api_key",
            Kind::Text,
            "none",
            "Key that every request over TCP must have in `X-API-Key`, or in `Authorization` behind `Bearer`. Without one only processes of this machine are answered, at the level `operator`.",
        ),
        now(
            "allowed_hosts",
            Kind::Texts,
            "[]",
            "Names of this server in `Host`, beside the address it listens at and `localhost`. Others are refused, by the stats page too: a page whose name was made to lead here has its own.",
        ),
        now(
            "allowed_origins",
            Kind::Texts,
            "[]",
            "Origins whose pages may ask, beside its own: `\"https://ops.example.com\"`.",
        ),
        now(
            "metrics",
            Kind::Text,
            "none",
            "Address and port at which there is `/metrics` and nothing else, for everybody who gets there: `\"127.0.0.1:9100\"`.",
        ),
        now(
            "recorder",
            Kind::Size(0, RECORDER_MAX),
            "\"1MB\"",
            "Memory in which each worker keeps its last requests, those that failed and the slowest, for `ravelin tail --last` and the dashboard. `\"1MB\"` holds about 1,500 of the last. 0: none are kept.",
        ),
        now("stats", Kind::Table(&stats_page::STATS_PAGE), "", "A stats page as HAProxy's."),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Management {
    let mut management = Management::default();
    let Some(table) = table else { return management };
    if let Some(socket) = socket(&table) {
        management.socket = socket;
    }
    if let Some(mode) = mode(&table) {
        management.socket_mode = mode;
    }
    management.socket_level = match table.choice("socket_level") {
        Some("user") => AdminLevel::User,
        Some("operator") => AdminLevel::Operator,
        _ => management.socket_level,
    };
    let enabled = table.boolean("enabled").unwrap_or(false);
    let host = host(&table).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = table.integer("port").and_then(|port| u16::try_from(port.value).ok());
    management.tcp = enabled.then(|| SocketAddr::new(host, port.unwrap_or(PORT)));
    management.api_key = api_key(&table);
    management.allowed_hosts = hosts(&table);
    management.allowed_origins = origins(&table);
    management.metrics = metrics(&table);
    if let Some(bytes) = table.size("recorder") {
        management.recorder = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    management.stats = table.table("stats").and_then(stats_page::decode);
    table.finish();
    management
}

fn socket(table: &Table<'_>) -> Option<AdminSocket> {
    let text = table.text("socket")?;
    match text.value {
        "none" => Some(AdminSocket::None),
        path if path.is_empty() || path.contains('\0') || path.ends_with('/') => {
            table.context().push(table.context().bad(
                "socket",
                text.span,
                "expected the path of a file, or \"none\"",
            ));
            None
        }
        path => Some(AdminSocket::Path(PathBuf::from(path))),
    }
}

fn mode(table: &Table<'_>) -> Option<u32> {
    let text = table.text("socket_mode")?;
    let digits = text.value.strip_prefix("0o").unwrap_or(text.value);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let reason = "expected three octal digits, such as \"660\"";
        table.context().push(table.context().bad("socket_mode", text.span, reason));
    }
    mode
}

fn host(table: &Table<'_>) -> Option<IpAddr> {
    let text = table.text("host")?;
    let bare = text.value.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match text.value {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        "*" => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        value => match bare.unwrap_or(value).parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let reason = "expected an address of this machine, such as \"127.0.0.1\"";
                table.context().push(table.context().bad("host", text.span, reason));
                None
            }
        },
    }
}

fn api_key(table: &Table<'_>) -> Option<SecretBytes> {
    let text = table.text("api_key")?;
    table.context().conceal(text.span);
    let is_token = text.value.bytes().all(|byte| byte.is_ascii_graphic());
    if text.value.is_empty() || !is_token {
        table.context().push(
            Diagnostic::error(Code::BadValue, text.span, "`api_key` cannot be sent in a field")
                .label("expected printable ASCII characters, without spaces")
                .help("`openssl rand -hex 24` writes one"),
        );
        return None;
    }
    Some(SecretBytes(text.value.as_bytes().to_vec()))
}

fn hosts(table: &Table<'_>) -> Vec<String> {
    let mut hosts = Vec::new();
    for text in table.texts("allowed_hosts").unwrap_or_default() {
        match host_name(text.value) {
            Ok(name) => hosts.push(name),
            Err(reason) => {
                table.context().push(table.context().bad("allowed_hosts", text.span, &reason));
            }
        }
    }
    hosts
}

fn origins(table: &Table<'_>) -> Vec<String> {
    let mut origins = Vec::new();
    for text in table.texts("allowed_origins").unwrap_or_default() {
        match is_origin(text.value) {
            true => origins.push(text.value.to_ascii_lowercase()),
            false => wrong_origin(table, text.span),
        }
    }
    origins
}

/// `https://ops.example.com:8443`, without a path.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && !host.contains(['/', '*', '?', '#', '@', ' ']) && host.is_ascii()
    })
}

fn wrong_origin(table: &Table<'_>, span: Span) {
    let reason = "expected scheme and host: \"https://ops.example.com\"";
    table.context().push(table.context().bad("allowed_origins", span, reason));
}

fn metrics(table: &Table<'_>) -> Option<SocketAddr> {
    let text = table.text("metrics")?;
    let address = match text.value.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse(),
        None => text.value.parse(),
    };
    match address {
        Ok(address) => Some(address),
        Err(_) => {
            let reason = "expected an address and a port, such as \"127.0.0.1:9100\"";
            table.context().push(table.context().bad("metrics", text.span, reason));
            None
        }
    }
}
