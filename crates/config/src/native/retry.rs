//! `[sites.proxy.retry]`: when a request is sent again.

use crate::decode::{Reasons, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Retry, RetryOn};
use crate::schema::{Key, Kind, Section, now};

/// More attempts than any client waits for.
const ATTEMPTS_MAX: i64 = 100;
/// Kept in memory for every request with a body.
const BODY_MAX: u64 = 64 << 20;
/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.retry",
    list: false,
    about: "When a request is sent again, to another upstream first. Nothing is sent again once a part of a response has gone to the client.",
    keys: KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.retry",
    list: false,
    about: "When a request to this pool is sent again; replaces the proxy's table as a whole.",
    keys: KEYS,
};

const REASONS: Kind = Kind::ChoicesOrStatuses(
    &["connect", "reset", "timeout", "invalid", "refused"],
    &[
        "error",
        "conn-failure",
        "connect-failure",
        "empty-response",
        "response-timeout",
        "junk-response",
        "invalid_header",
        "refused-stream",
        "refused_stream",
        "gateway-error",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
        "http_403",
        "http_404",
        "http_429",
    ],
);

const KEYS: &[Key] = &[
    now(
        "attempts",
        Kind::Integer(1, ATTEMPTS_MAX),
        "3",
        "Attempts in all, the first included; 1 sends nothing again.",
    )
    .or(&["max_attempts"]),
    now(
        "timeout",
        Kind::Duration(false),
        "no limit",
        "Time from the first attempt in which further ones may begin.",
    ),
    now(
        "on",
        REASONS,
        "[\"connect\", \"reset\", \"timeout\", \"refused\"]",
        "What is a reason. `connect`: no connection. `reset`: it ended before a response. `timeout`: no response in time. `invalid`: what came is no response. `refused`: HTTP/2, the upstream refused the stream. And statuses of responses: `[\"connect\", 502, \"503-504\"]`.",
    )
    .or(&["retry_on"]),
    now(
        "non_idempotent",
        Kind::Bool,
        "false",
        "Also send requests again whose repetition may do harm (POST, PATCH, …) after they were sent.",
    ),
    now(
        "body",
        Kind::Size(0, BODY_MAX),
        "\"64KB\"",
        "Bytes of a request body that are kept to be sent again, 64 MiB a worker in all; a request with a longer one is sent once.",
    )
    .or(&["body_size"]),
    now(
        "backoff",
        Kind::Duration(true),
        "0",
        "Pause before the second attempt, doubled for each further one and varied by half.",
    )
    .or(&["wait_duration"]),
    now(
        "budget",
        Kind::Integer(0, 100),
        "20",
        "Per cent of live requests that may be further attempts, so that an outage is not made worse.",
    ),
    now(
        "budget_minimum",
        Kind::Integer(0, COUNT_MAX),
        "3",
        "Further attempts a second that are allowed in any case.",
    ),
    now(
        "hedge",
        Kind::Duration(false),
        "none",
        "Start a second attempt when there is no response after this, and take the first response; for idempotent requests without a body.",
    ),
];

/// Decodes the table of a proxy or a pool, if it has one.
pub(super) fn decode(parent: &Table<'_>) -> Option<Retry> {
    let table = parent.table("retry")?;
    let default = Retry::default();
    let count = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    let body = table.size("body");
    let retry = Retry {
        attempts: count("attempts").unwrap_or(default.attempts),
        timeout: table.duration("timeout"),
        on: table.reasons("on").map_or(default.on, |reasons| on(&reasons)),
        non_idempotent: table.boolean("non_idempotent").unwrap_or(false),
        body: body.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default.body),
        backoff: table.duration("backoff").unwrap_or_default(),
        budget: count("budget").unwrap_or(default.budget),
        budget_minimum: count("budget_minimum").unwrap_or(default.budget_minimum),
        hedge: table.duration("hedge"),
    };
    once_only(&table, &retry);
    table.finish();
    Some(retry)
}

fn on(reasons: &Reasons) -> RetryOn {
    let mut on = RetryOn {
        connect: false,
        timeout: false,
        reset: false,
        invalid: false,
        refused: false,
        statuses: Vec::new(),
    };
    for word in &reasons.words {
        match *word {
            "connect" | "conn-failure" | "connect-failure" => on.connect = true,
            "reset" | "empty-response" => on.reset = true,
            "timeout" | "response-timeout" => on.timeout = true,
            "invalid" | "junk-response" | "invalid_header" => on.invalid = true,
            "refused" | "refused-stream" | "refused_stream" => on.refused = true,
            "error" => (on.connect, on.reset) = (true, true),
            "gateway-error" => on.statuses.extend([502, 503, 504]),
            word => on
                .statuses
                .extend(word.strip_prefix("http_").and_then(|status| status.parse::<u16>().ok())),
        }
    }
    for (first, last) in &reasons.statuses {
        on.statuses.extend(*first..=*last);
    }
    on.statuses.sort_unstable();
    on.statuses.dedup();
    on
}

/// Says which keys are for nothing when there is one attempt.
fn once_only(table: &Table<'_>, retry: &Retry) {
    let Some(attempts) = table.peek("attempts").filter(|_| retry.attempts == 1) else { return };
    let rest = table
        .written()
        .filter(|entry| KEYS.iter().any(|key| key.is(&entry.key) && key.name != "attempts"));
    for entry in rest {
        let message = format!("`{}` has no effect", entry.key);
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, message)
                .label("nothing is sent a second time")
                .also(attempts.node.span, "there is one attempt"),
        );
    }
}
