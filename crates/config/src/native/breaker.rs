//! `[sites.proxy.circuit_breaker]`: stops requests to a pool that fails.

use std::time::Duration;

use crate::decode::{Amount, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Breaker, BreakerWindow};
use crate::schema::{Key, Kind, Section, now};

/// Each call of a window is remembered.
const CALLS_MAX: i64 = 100_000;
/// Each second of a window is counted apart.
const WINDOW_MAX: Duration = Duration::from_secs(3600);

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.circuit_breaker",
    list: false,
    about: "Stops requests to a pool that fails: they are answered 503 at once, until trials succeed.",
    keys: KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.circuit_breaker",
    list: false,
    about: "The circuit breaker of this pool, in the place of the proxy's.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now("enabled", Kind::Bool, "true", "`false`: the same as no such table."),
    now(
        "window_type",
        Kind::Choice(&["count", "time"], &["COUNT_BASED", "TIME_BASED"]),
        "by `window_size`",
        "Rates are taken of the last calls, or of those of the last time.",
    )
    .or(&["sliding_window_type"]),
    now(
        "window_size",
        Kind::CountOrDuration(CALLS_MAX),
        "100",
        "How many calls, or how long (whole seconds, up to \"1h\"); a number is of seconds with `window_type = \"time\"`.",
    )
    .or(&["sliding_window_size", "window"]),
    now("failure_rate", Kind::Integer(1, 100), "50", "Per cent of failed calls that opens it.")
        .or(&["failure_rate_threshold"]),
    now("slow_rate", Kind::Integer(1, 100), "100", "Per cent of slow calls that opens it.")
        .or(&["slow_call_rate_threshold"]),
    now("slow", Kind::Duration(false), "\"1m\"", "Calls that take longer are slow.")
        .or(&["slow_call_duration_threshold"]),
    now(
        "minimum",
        Kind::Integer(1, CALLS_MAX),
        "100, or the window if that is smaller",
        "Least calls in a window before rates count.",
    )
    .or(&["minimum_number_of_calls"]),
    now("trials", Kind::Integer(1, CALLS_MAX), "10", "Calls let through while half open.")
        .or(&["permitted_number_of_calls_in_half_open_state"]),
    now("open", Kind::Duration(false), "\"1m\"", "How long it stays open before it is half open.")
        .or(&["wait_duration_in_open_state"]),
    now(
        "half_open_max",
        Kind::Duration(true),
        "0: until the trials have ended",
        "How long it may stay half open before it opens again.",
    )
    .or(&["max_wait_duration_in_half_open_state"]),
    now(
        "statuses",
        Kind::Statuses,
        "[\"5xx\"]",
        "Statuses that are failures, beside no response.",
    )
    .or(&["failure_codes"]),
];

/// Decodes the table of a proxy or a pool, if it has one; `Some(None)` if it turns the breaker off.
pub(super) fn decode(parent: &Table<'_>) -> Option<Option<Breaker>> {
    let table = parent.table("circuit_breaker")?;
    let enabled = table.boolean("enabled").unwrap_or(true);
    let count = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    let window = window(&table);
    let calls = match window {
        BreakerWindow::Count(calls) => calls,
        BreakerWindow::Time(_) => u32::MAX,
    };
    let minute = Duration::from_secs(60);
    let breaker = Breaker {
        window,
        failure_rate: count("failure_rate").unwrap_or(50),
        slow_rate: count("slow_rate").unwrap_or(100),
        slow: table.duration("slow").unwrap_or(minute),
        minimum: count("minimum").unwrap_or(calls.min(100)),
        trials: count("trials").unwrap_or(10),
        open: table.duration("open").unwrap_or(minute),
        half_open_max: table.duration("half_open_max").unwrap_or_default(),
        statuses: table.statuses("statuses").unwrap_or_else(|| vec![(500, 599)]),
    };
    if let Some(entry) = table.peek("minimum").filter(|_| breaker.minimum > calls) {
        let message = format!("`{}` is larger than the window", entry.key);
        let error = Diagnostic::error(Code::Conflict, entry.node.span, message)
            .label("never reached: the breaker would never open");
        table.context().push(match table.peek("window_size") {
            Some(size) => error.also(size.node.span, "the window"),
            None => error.help("the window has 100 calls; `window_size` says otherwise"),
        });
    }
    table.finish();
    Some(enabled.then_some(breaker))
}

fn window(table: &Table<'_>) -> BreakerWindow {
    let context = table.context();
    let by_time = table.choice("window_type").map(|word| matches!(word, "time" | "TIME_BASED"));
    let size = table.count_or_duration("window_size");
    let bad = |size: Spanned<Amount>, reason: &str| {
        context.push(context.bad("window_size", size.span, reason));
    };
    let Some(size) = size else {
        return match by_time {
            Some(true) => BreakerWindow::Time(Duration::from_secs(100)),
            _ => BreakerWindow::Count(100),
        };
    };
    match (size.value, by_time) {
        (Amount::Count(calls), Some(false) | None) => BreakerWindow::Count(calls),
        (Amount::Count(seconds), Some(true)) => {
            let time = Duration::from_secs(seconds.into());
            if time > WINDOW_MAX {
                bad(size, "a window is at most one hour long");
            }
            BreakerWindow::Time(time)
        }
        (Amount::Time(time), by_time) => {
            if by_time == Some(false) {
                bad(size, "the window is of calls: expected their number");
            } else if time.subsec_nanos() != 0 {
                bad(size, "a window is whole seconds long");
            } else if time > WINDOW_MAX {
                bad(size, "a window is at most one hour long");
            }
            BreakerWindow::Time(time)
        }
    }
}
