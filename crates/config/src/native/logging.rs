//! `[logging]`: access and error log.

use std::path::PathBuf;

use crate::decode::Table;
use crate::model::{Level, LogFormat, LogTarget, Logging};
use crate::schema::{Kind, Section, now};

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
            "`stdout` (or `-`), `stderr`, or a file that lines are appended to.",
        ),
        now("error_log", Kind::Text, "\"stderr\"", "The same for the error log."),
        now(
            "format",
            Kind::Choice(&["combined", "compact", "json"], &[]),
            "\"combined\"",
            "Shape of an access-log line: Apache's combined followed by Ravelin's own fields; method, path, status, bytes and duration only; or one JSON object a line.",
        ),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Logging {
    let mut logging = Logging {
        level: Level::Info,
        log_requests: true,
        access_log: LogTarget::Stdout,
        error_log: LogTarget::Stderr,
        format: LogFormat::Combined,
    };
    let Some(table) = table else { return logging };
    match table.choice("level") {
        Some("error") => logging.level = Level::Error,
        Some("warn" | "warning") => logging.level = Level::Warn,
        Some("debug" | "trace") => logging.level = Level::Debug,
        _ => {}
    }
    match table.choice("format") {
        Some("compact") => logging.format = LogFormat::Compact,
        Some("json") => logging.format = LogFormat::Json,
        _ => {}
    }
    logging.log_requests = table.boolean("log_requests").unwrap_or(logging.log_requests);
    if let Some(target) = target(&table, "access_log") {
        logging.access_log = target;
    }
    if let Some(target) = target(&table, "error_log") {
        logging.error_log = target;
    }
    table.finish();
    logging
}

fn target(table: &Table<'_>, name: &'static str) -> Option<LogTarget> {
    let text = table.text(name)?;
    match text.value {
        "stdout" | "-" => Some(LogTarget::Stdout),
        "stderr" => Some(LogTarget::Stderr),
        path if path.is_empty() || path.contains('\0') || path.ends_with('/') => {
            let reason = "expected \"stdout\", \"stderr\" or the path of a file";
            table.context().push(table.context().bad(name, text.span, reason));
            None
        }
        path => Some(LogTarget::File(PathBuf::from(path))),
    }
}
