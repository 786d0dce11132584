//! `[sites.proxy.outlier]`: ejection of upstreams that stand out.

use std::time::Duration;

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Outlier;
use crate::schema::{Key, Kind, Section, now};

/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;
/// An upstream a hundred times slower than the others stands out whatever one thinks of latency.
const LATENCY_MAX: i64 = 10_000;

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.outlier",
    list: false,
    about: "Takes upstreams out for a while that stand out by their errors or latency. The only usable upstream is never taken out.",
    keys: KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.outlier",
    list: false,
    about: "Ejection of upstreams of this pool, in the place of the proxy's.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now("enabled", Kind::Bool, "true", "`false`: the same as no such table."),
    now(
        "consecutive",
        Kind::Integer(0, COUNT_MAX),
        "5",
        "Failures in a row (no connection, no response, or 5xx) that eject; 0 turns that off.",
    )
    .or(&["consecutive_errors", "consecutive_failures"]),
    now(
        "failures",
        Kind::Integer(0, 100),
        "50",
        "Per cent of failed responses in a window that eject; 0 turns that off.",
    )
    .or(&["failure_percentage"]),
    now(
        "latency",
        Kind::Integer(0, LATENCY_MAX),
        "0",
        "Latency in per cent of the pool's median that ejects, for example 500; 0 turns that off.",
    ),
    now(
        "minimum",
        Kind::Integer(1, COUNT_MAX),
        "20",
        "Least requests in a window for `failures` and `latency` to count.",
    )
    .or(&["minimum_requests", "request_volume"]),
    now("window", Kind::Duration(false), "10", "Length of a window.").or(&["interval"]),
    now(
        "base_time",
        Kind::Duration(false),
        "10",
        "How long the first ejection takes; the n-th in a row takes n times as long.",
    )
    .or(&["base_ejection_time"]),
    now("max_time", Kind::Duration(false), "\"5m\"", "Longest ejection.")
        .or(&["max_ejection_time"]),
    now(
        "max_ejected",
        Kind::Integer(0, 100),
        "50",
        "Per cent of the pool's upstreams that may be out at once; one always may.",
    )
    .or(&["max_ejection_percent"]),
];

/// Decodes the table of a proxy or a pool, if it has one; `Some(None)` if it turns ejection off.
pub(super) fn decode(parent: &Table<'_>) -> Option<Option<Outlier>> {
    let table = parent.table("outlier")?;
    let enabled = table.boolean("enabled").unwrap_or(true);
    let count = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    let base_time = table.duration("base_time");
    let max_time = table.duration("max_time");
    let default_base = Duration::from_secs(10);
    let outlier = Outlier {
        consecutive: count("consecutive").unwrap_or(5),
        failures: count("failures").unwrap_or(50),
        latency: count("latency").unwrap_or(0),
        minimum: count("minimum").unwrap_or(20),
        window: table.duration("window").unwrap_or(Duration::from_secs(10)),
        base_time: base_time.unwrap_or_else(|| default_base.min(max_time.unwrap_or(default_base))),
        max_time: max_time
            .unwrap_or_else(|| Duration::from_secs(300).max(base_time.unwrap_or_default())),
        max_ejected: count("max_ejected").unwrap_or(50),
    };
    fitting(&table, &outlier);
    table.finish();
    Some(enabled.then_some(outlier))
}

fn fitting(table: &Table<'_>, outlier: &Outlier) {
    let context = table.context();
    if let Some(entry) = table.peek("latency").filter(|_| (1..=100).contains(&outlier.latency)) {
        context.push(
            context
                .bad("latency", entry.node.span, "half of the upstreams are slower than the median")
                .help("it is in per cent of the median: 500 ejects what takes five times as long"),
        );
    }
    if let (Some(base), Some(max)) = (table.peek("base_time"), table.peek("max_time"))
        && outlier.base_time > outlier.max_time
    {
        let message = "the first ejection is longer than the longest";
        context.push(
            Diagnostic::error(Code::Conflict, base.node.span, message)
                .label("longer")
                .also(max.node.span, "the longest"),
        );
    }
    if (outlier.consecutive, outlier.failures, outlier.latency) == (0, 0, 0) {
        context.push(
            Diagnostic::warning(Code::Unused, table.span, "nothing ejects an upstream")
                .label("`consecutive`, `failures` and `latency` are all off")
                .help("write `enabled = false` if that is meant"),
        );
    }
}
