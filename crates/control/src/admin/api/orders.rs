//! Orders that concern the whole process: `/v1/reload`, `/v1/upgrade`, `/v1/log-level`, and the path at which
//! the seeds have a configuration read again.

use std::time::Duration;

use config::model::{AdminLevel, Level};
use serde_json::{Value, json};

use super::super::bounds::BODY_MAX;
use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Field, Shape, has, may};
use super::super::{Problem, Request, Response, Running};
use super::config::{APPLIED, ORDER_TIME, done, value};
use crate::orders::{Canary, Order};

/// How long a canary is tried out where the order does not say.
const CANARY_TIME: Duration = Duration::from_secs(60);

/// A new process has to read and compile everything, and to say that it serves.
const UPGRADE_TIME: Duration = Duration::from_secs(180);

pub(super) static ROUTES: &[Route] = &[
    Route::to(
        "POST",
        "/v1/reload",
        "Reads the files again and serves what they say, if they can be served.",
        reload,
    )
    .query(&[CANARY, FOR])
    .answer(Content::Json(&APPLIED))
    .time(ORDER_TIME),
    Route::to("POST", "/api/config/reload", "The same, as BWS has it.", reload_as_bws)
        .answer(Content::Json(&RELOADED))
        .time(ORDER_TIME),
    Route::to("POST", "/v1/upgrade", "Starts the binary anew and hands over to it.", upgrade)
        .level(Some(AdminLevel::Admin))
        .answer(Content::Json(&UPGRADED))
        .time(UPGRADE_TIME),
    Route::get("/v1/log-level", "Which lines the error log has.", log_level)
        .answer(Content::Json(&LOG_LEVEL)),
    Route::to(
        "PUT",
        "/v1/log-level",
        "Says which lines the error log has from now on, until the next reload.",
        set_log_level,
    )
    .body(Content::Json(&LOG_LEVEL), BODY_MAX)
    .answer(Content::Json(&LOG_LEVEL)),
];

/// Parameters of what may be tried out first.
pub(super) const CANARY: Field =
    may("canary", Shape::Text, "Serve it to this share of new connections first: `5%`.");
pub(super) const FOR: Field =
    may("for", Shape::Text, "For how long, before it is for all or for none: `60s`.");

static RELOADED: Shape = Shape::Object(
    "Reloaded",
    &[
        has("status", Shape::OneOf(&["success"]), "It was done."),
        has("message", Shape::Text, "The same in words."),
        has("generation", Shape::Integer, "The number of the configuration in force."),
        has("changes", Shape::List(&Shape::Text), "What is different from before."),
        has("warnings", Shape::List(&Shape::Text), "What speaks against it."),
    ],
);

static UPGRADED: Shape = Shape::Object(
    "Upgraded",
    &[has(
        "pid",
        Shape::Integer,
        "The process that hands over, and ends when it has done its work.",
    )],
);

static LOG_LEVEL: Shape = Shape::Object(
    "LogLevel",
    &[has(
        "level",
        Shape::OneOf(&["error", "warn", "info", "debug"]),
        "The least severe lines that are written.",
    )],
);

fn reload(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let canary = canary(&request)?;
        let applied = running.orders.reload(canary, request.author).await;
        done(applied.map_err(Problem::refused)?)
    })
}

/// What the parameters say.
pub(super) fn canary(request: &Request) -> Result<Option<Canary>, Problem> {
    let lasts = match request.query("for") {
        None => CANARY_TIME,
        Some(text) => duration(text).ok_or_else(|| {
            Problem::bad("`for` is a time such as `60s` or `5m`, and not more than a day")
        })?,
    };
    let Some(share) = request.query("canary") else {
        return match request.query("for") {
            Some(_) => Err(Problem::bad("`for` has no meaning without `canary`")),
            None => Ok(None),
        };
    };
    let percent = share.strip_suffix('%').unwrap_or(share).parse::<f64>().ok();
    match percent.filter(|percent| *percent > 0.0 && *percent < 100.0) {
        Some(percent) => Ok(Some(Canary { percent, lasts })),
        None => Err(Problem::bad("`canary` is a share such as `5%`, above 0 and below 100")),
    }
}

/// `90`, `60s`, `5m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let number: f64 = text.get(..split)?.trim().parse().ok()?;
    let factor = match text.get(split..)? {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds = number * factor;
    (seconds > 0.0 && seconds <= DAY).then(|| Duration::from_secs_f64(seconds))
}

fn reload_as_bws(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let applied =
            running.orders.reload(None, request.author).await.map_err(Problem::refused)?;
        let mut value = value(applied);
        if let Some(members) = value.as_object_mut() {
            members.insert("status".to_owned(), "success".into());
            members.insert("message".to_owned(), "Configuration reloaded".into());
        }
        Ok(Response::json(&value))
    })
}

fn upgrade(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let author = request.author;
        let done = running.orders.ask(|reply| Order::Upgrade { author, reply }).await;
        done.map_err(Problem::refused)?;
        Ok(Response::json(&json!({ "pid": std::process::id() })))
    })
}

fn log_level(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async { Ok(Response::json(&json!({ "level": word(level(running)) }))) })
}

fn set_log_level(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let value = request.json()?;
        if let Some(wrong) = LOG_LEVEL.mismatch(&value) {
            return Err(Problem::bad(format!("the body is not as described: {wrong}")));
        }
        let level = match value.get("level").and_then(Value::as_str) {
            Some("error") => Level::Error,
            Some("warn") => Level::Warn,
            Some("debug") => Level::Debug,
            _ => Level::Info,
        };
        running.orders.give(Order::SetLogLevel(level)).map_err(Problem::refused)?;
        Ok(Response::json(&json!({ "level": word(level) })))
    })
}

/// The least severe lines that are written.
fn level(running: &Running) -> Level {
    let levels = [Level::Debug, Level::Info, Level::Warn];
    levels.into_iter().find(|level| running.log.enabled(*level)).unwrap_or(Level::Error)
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let seconds = |text| duration(text).map(|time| time.as_secs_f64());
        assert_eq!(seconds("60s"), Some(60.0));
        assert_eq!(seconds("90"), Some(90.0));
        assert_eq!(seconds("5m"), Some(300.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        for text in ["", "s", "-1s", "0", "1d", "25h", "NaN", "inf", "1e300h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
