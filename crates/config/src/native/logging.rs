//! `[logging]`: access and error log.

use std::path::PathBuf;
use std::sync::Arc;

use super::log_format;
use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Level, LogEscape, LogFormat, LogTarget, Logging, Rotation, Sampling, SyslogAddress,
    SyslogLabel, UpstreamAddress,
};
use crate::schema::{Kind, Section, now};
use crate::syntax;

/// Where a syslog is looked for on this machine.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Ports of a syslog: RFC 5426, and what goes with RFC 6587.
const SYSLOG_UDP_PORT: u16 = 514;
const SYSLOG_TCP_PORT: u16 = 601;

/// Longest name of an application that RFC 5424 allows.
const TAG_MAX: usize = 48;

/// RFC 5424 §6.2.1, by number.
const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

pub(super) static LOGGING: Section = Section {
    path: "logging",
    list: false,
    about: "Access and error log.",
    keys: &[
        now(
            "level",
            Kind::Choice(&["error", "warn", "info", "debug"], &["warning", "trace"]),
            "\"info\"",
            "Least severe line in the error log. `warning` is `warn`, `trace` is `debug`.",
        ),
        now("log_requests", Kind::Bool, "true", "Write a line for each request."),
        now(
            "access_log",
            Kind::Text,
            "\"stdout\"",
            "`stdout` (or `-`), `stderr`, a file that lines are appended to, or a syslog: `syslog`, `syslog:unix:/dev/log`, `syslog:udp://HOST:514`, `syslog:tcp://HOST:601`.",
        ),
        now("error_log", Kind::Text, "\"stderr\"", "The same for the error log."),
        now(
            "format",
            Kind::Text,
            "\"combined\"",
            "Shape of an access-log line: `combined`, Apache's followed by Ravelin's own fields; `compact`, method, path, status, bytes and duration only; `json`, one object a line; or one of your own with names in braces: `{client} {method} {path} {status} {time.total} {header.user-agent}`.",
        ),
        now(
            "escape",
            Kind::Choice(&["default", "json"], &[]),
            "\"default\"",
            "How values in a format of your own are made safe. `default`: `\\\"`, `\\\\` and `\\xHH`. `json`: for JSON that you write around them.",
        ),
        now(
            "sample",
            Kind::Share,
            "1",
            "Share of requests that have a line, chosen by their id; what `sample_always` names has one in any case. Every line says the share.",
        ),
        now(
            "sample_always",
            Kind::ChoicesOrStatuses(&["failed", "slow"], &[]),
            "[\"5xx\", \"failed\", \"slow\"]",
            "Requests that always have a line: by status, those that did not end well, those that took as long as `slow`.",
        ),
        now("slow", Kind::Duration(false), "1", "From when on a request is slow."),
        now(
            "failed_connections",
            Kind::Bool,
            "false",
            "Write a line for a connection that ended before it had a request, too: a TLS handshake that failed, a PROXY header that is none.",
        ),
        now(
            "rotate_size",
            Kind::Size(64 * 1024, i64::MAX as u64),
            "never",
            "A log file that has so many bytes is renamed to `FILE.1`, and a new one begun.",
        ),
        now(
            "rotate_keep",
            Kind::Integer(0, 1000),
            "5",
            "How many of those are kept: `FILE.1` is the youngest.",
        ),
        now(
            "syslog_facility",
            Kind::Choice(FACILITIES, &[]),
            "\"local0\"",
            "Facility of lines that go to a syslog.",
        ),
        now("syslog_tag", Kind::Text, "\"ravelin\"", "Name of the application there."),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Logging {
    let mut logging = Logging::default();
    let Some(table) = table else { return logging };
    match table.choice("level") {
        Some("error") => logging.level = Level::Error,
        Some("warn" | "warning") => logging.level = Level::Warn,
        Some("debug" | "trace") => logging.level = Level::Debug,
        _ => {}
    }
    let escape = match table.choice("escape") {
        Some("json") => LogEscape::Json,
        _ => LogEscape::Default,
    };
    logging.format = format(&table, escape);
    logging.log_requests = table.boolean("log_requests").unwrap_or(logging.log_requests);
    logging.failed_connections = table.boolean("failed_connections").unwrap_or(false);
    if let Some(target) = target(&table, "access_log") {
        logging.access_log = target;
    }
    if let Some(target) = target(&table, "error_log") {
        logging.error_log = target;
    }
    logging.sampling = sampling(&table);
    logging.rotation = rotation(&table, &logging);
    logging.syslog = label(&table, &logging);
    for_nothing(&table, &logging);
    table.finish();
    logging
}

fn format(table: &Table<'_>, escape: LogEscape) -> LogFormat {
    let Some(text) = table.text("format") else { return LogFormat::Combined };
    match text.value {
        "combined" => LogFormat::Combined,
        "compact" => LogFormat::Compact,
        "json" => LogFormat::Json,
        _ => match log_format::parse(table.context(), text, escape) {
            Some(own) => LogFormat::Own(Arc::new(own)),
            None => LogFormat::Combined,
        },
    }
}

fn target(table: &Table<'_>, name: &'static str) -> Option<LogTarget> {
    let text = table.text(name)?;
    let read = match text.value {
        "stdout" | "-" => Ok(LogTarget::Stdout),
        "stderr" => Ok(LogTarget::Stderr),
        "syslog" => Ok(LogTarget::Syslog(SyslogAddress::Unix(SYSLOG_SOCKET.into()))),
        text if text.starts_with("syslog:") => {
            syslog(text.get("syslog:".len()..).unwrap_or_default()).map(LogTarget::Syslog)
        }
        path if path.is_empty() || path.contains('\0') || path.ends_with('/') => {
            Err("expected \"stdout\", \"stderr\", \"syslog\" or the path of a file".to_owned())
        }
        path => Ok(LogTarget::File(PathBuf::from(path))),
    };
    read.map_err(|reason| {
        table.context().push(table.context().bad(name, text.span, &reason));
    })
    .ok()
}

/// What is behind `syslog:`.
fn syslog(address: &str) -> Result<SyslogAddress, String> {
    let tcp = |default: u16, rest: &str| match syntax::authority(rest, default)? {
        UpstreamAddress::Tcp { host, port } => Ok((host, port)),
        UpstreamAddress::Unix(_) => Err("expected a host and a port".to_owned()),
    };
    if let Some(path) = address.strip_prefix("unix:") {
        return match path.starts_with('/') && !path.contains('\0') {
            true => Ok(SyslogAddress::Unix(PathBuf::from(path))),
            false => Err("expected an absolute path, as in \"syslog:unix:/dev/log\"".to_owned()),
        };
    }
    if let Some(rest) = address.strip_prefix("udp://") {
        return tcp(SYSLOG_UDP_PORT, rest).map(|(host, port)| SyslogAddress::Udp(host, port));
    }
    if let Some(rest) = address.strip_prefix("tcp://") {
        return tcp(SYSLOG_TCP_PORT, rest).map(|(host, port)| SyslogAddress::Tcp(host, port));
    }
    Err("expected `syslog:unix:/PATH`, `syslog:udp://HOST:PORT` or `syslog:tcp://HOST:PORT`".into())
}

fn sampling(table: &Table<'_>) -> Sampling {
    let mut sampling = Sampling::default();
    if let Some(share) = table.share("sample") {
        sampling.of_million = share;
    }
    let slow = table.duration("slow").or(sampling.slow);
    if let Some(always) = table.reasons("sample_always") {
        sampling.statuses = always.statuses;
        sampling.failed = always.words.contains(&"failed");
        sampling.slow = slow.filter(|_| always.words.contains(&"slow"));
    } else {
        sampling.slow = slow;
    }
    sampling
}

fn rotation(table: &Table<'_>, logging: &Logging) -> Rotation {
    let mut rotation = Rotation { size: table.size("rotate_size"), ..Rotation::default() };
    if let Some(keep) = table.integer("rotate_keep") {
        rotation.keep = u32::try_from(keep.value).unwrap_or(rotation.keep);
    }
    let files = [&logging.access_log, &logging.error_log];
    let none = !files.into_iter().any(|target| matches!(target, LogTarget::File(_)));
    let size = rotation.size.and_then(|_| table.peek("rotate_size"));
    if let Some(entry) = size.filter(|_| none) {
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, "`rotate_size` has no meaning here")
                .label("neither log goes to a file"),
        );
    }
    rotation
}

fn label(table: &Table<'_>, logging: &Logging) -> SyslogLabel {
    let mut label = SyslogLabel::default();
    if let Some(name) = table.choice("syslog_facility")
        && let Some(number) = FACILITIES.iter().position(|facility| *facility == name)
    {
        label.facility = u8::try_from(number).unwrap_or(label.facility);
    }
    if let Some(tag) = table.text("syslog_tag") {
        let fits = (1..=TAG_MAX).contains(&tag.value.len());
        match fits && tag.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => tag.value.clone_into(&mut label.tag),
            false => {
                let reason = "expected up to 48 letters, digits and signs without blanks";
                table.context().push(table.context().bad("syslog_tag", tag.span, reason));
            }
        }
    }
    let targets = [&logging.access_log, &logging.error_log];
    let none = !targets.into_iter().any(|target| matches!(target, LogTarget::Syslog(_)));
    for key in ["syslog_facility", "syslog_tag"] {
        if let Some(entry) = table.peek(key).filter(|_| none) {
            let message = format!("`{key}` has no meaning here");
            table.context().push(
                Diagnostic::warning(Code::Unused, entry.key_span, message)
                    .label("neither log goes to a syslog"),
            );
        }
    }
    label
}

/// Says which keys have no meaning together.
fn for_nothing(table: &Table<'_>, logging: &Logging) {
    let own = matches!(logging.format, LogFormat::Own(_));
    let all = logging.sampling.is_all() && !table.has("sample");
    let unused = [
        ("escape", !own, "only a format of your own has it; the others know how to be safe"),
        ("sample_always", all, "every request has a line; see `sample`"),
        ("slow", all, "every request has a line; see `sample`"),
    ];
    for (key, _, why) in unused.into_iter().filter(|(_, unused, _)| *unused) {
        if let Some(entry) = table.peek(key) {
            let message = format!("`{key}` has no meaning here");
            let warning = Diagnostic::warning(Code::Unused, entry.key_span, message);
            table.context().push(warning.label(why));
        }
    }
}
