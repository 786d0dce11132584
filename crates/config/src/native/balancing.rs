//! `[sites.proxy.load_balancing]`: how an upstream of a pool is chosen.

use crate::decode::{Context, Spanned, Switch, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Balance, FailOpen, HashKey, HashTable};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{field_name, quoted};

use super::sticky::{self, Kept};

/// A bound of the average itself leaves no room for chance.
const BOUND_MIN: i64 = 101;
/// A higher bound is none.
const BOUND_MAX: i64 = 10_000;

/// What `method` may be.
const METHODS: &[&str] = &[
    "round_robin",
    "weighted",
    "least_connections",
    "random",
    "weighted_random",
    "least_time",
    "ip_hash",
    "uri_hash",
    "header_hash",
    "cookie_hash",
    "hash",
];

/// What other systems call them.
const OTHER_METHODS: &[&str] = &[
    "roundrobin",
    "rr",
    "weighted_round_robin",
    "weightedRoundRobin",
    "static-rr",
    "static_rr",
    "wrr",
    "byrequests",
    "bytraffic",
    "least_conn",
    "leastconn",
    "least_request",
    "leastConnections",
    "bybusyness",
    "heartbeat",
    "weightedRandom",
    "leastTime",
    "p2c",
    "power_of_two",
    "power_of_two_choices",
    "ewma",
    "peak_ewma",
    "ipHash",
    "client_ip_hash",
    "source",
    "uri",
    "uriHash",
    "url_hash",
    "headerHash",
    "hdr",
    "cookieHash",
    "consistent_hash",
    "consistentHash",
    "ketama",
    "ring_hash",
    "maglev",
];

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.load_balancing",
    list: false,
    about: "How an upstream of a pool is chosen.",
    keys: &KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.load_balancing",
    list: false,
    about: "How an upstream of this pool is chosen.",
    keys: &KEYS_OF_A_POOL,
};

static KEYS: [Key; 6] = keys(&sticky::SECTION);
static KEYS_OF_A_POOL: [Key; 6] = keys(&sticky::OF_A_POOL);

const fn keys(sticky: &'static Section) -> [Key; 6] {
    [
        now(
            "method",
            Kind::Choice(METHODS, OTHER_METHODS),
            "\"round_robin\"",
            "`round_robin`: each in turn, weights ignored but for 0. `weighted`: smooth weighted round robin. `least_connections`: the fewest requests in flight for its weight. `random`, `weighted_random`: any. `least_time`: of two at random the one with the lower latency and fewer requests. `ip_hash`, `uri_hash`, `header_hash`, `cookie_hash`, `hash`: by a property of the request. The names of nginx, HAProxy, Apache and Easegress are taken too (`least_conn`, `leastconn`, `byrequests`, `bybusyness`, `p2c`, `source`, `weightedRandom`, `ketama`, `maglev`, …).",
        ),
        now(
            "hash_key",
            Kind::Text,
            "by the method",
            "What is hashed: \"ip\" (the client's address), \"network\" (of an IPv4 address the first three octets, as `ip_hash` has it), \"uri\" (path and query), \"header:NAME\" or \"cookie:NAME\". Required with `hash`, `header_hash` and `cookie_hash`; the last two take the name alone as well.",
        )
        .or(&["header_hash_key", "cookie_hash_key"]),
        now(
            "consistent",
            Kind::BoolOrText,
            "false",
            "Keep most clients where they are when an upstream comes or goes: \"ketama\" (a ring, also `true`) or \"maglev\" (a table, evener).",
        )
        .or(&["hash_table"]),
        now(
            "bounded_load",
            Kind::Integer(BOUND_MIN, BOUND_MAX),
            "no bound",
            "For hashes: no upstream gets more than so many per cent of the average of requests in flight; the next one by hash has them. 125 is usual.",
        ),
        now(
            "sticky_sessions",
            Kind::BoolOrTable(sticky),
            "false",
            "Keep a client with one upstream; `true` for a cookie with the defaults.",
        )
        .or(&["sticky_session"]),
        now(
            "fail_open",
            Kind::Bool,
            "those left out because of failures",
            "Which upstreams are asked when none is usable, or all usable ones failed the request: all (`true`), none, so that \
             the answer is 503 (`false`), or, if it is not written, those left out because requests failed there, but none that \
             active checks found down.",
        ),
    ]
}

/// What the table says, and where.
#[derive(Clone)]
pub(super) struct Balancing {
    pub(super) balance: Balance,
    pub(super) sticky: Option<Kept>,
    pub(super) fail_open: FailOpen,
    /// The method could not be read; nothing is to be said about it.
    pub(super) unknown: bool,
    /// The method, if it is written.
    pub(super) place: Option<Span>,
}

/// Decodes the table of a proxy or a pool, if it has one.
pub(super) fn decode(parent: &Table<'_>) -> Option<Balancing> {
    let table = parent.table("load_balancing")?;
    let place = table.peek("method").map(|entry| entry.node.span);
    let method = table.choice("method");
    let otherwise = if place.is_some() { "" } else { "round_robin" };
    let balance = match method.unwrap_or(otherwise) {
        "" => unread(&table),
        "weighted"
        | "weighted_round_robin"
        | "weightedRoundRobin"
        | "static-rr"
        | "static_rr"
        | "wrr"
        | "byrequests"
        | "bytraffic" => plain(&table, Balance::Weighted),
        "least_connections" | "least_conn" | "leastconn" | "least_request" | "leastConnections"
        | "bybusyness" | "heartbeat" => plain(&table, Balance::LeastConnections),
        "random" => plain(&table, Balance::Random),
        "weighted_random" | "weightedRandom" => plain(&table, Balance::WeightedRandom),
        "least_time"
        | "leastTime"
        | "p2c"
        | "power_of_two"
        | "power_of_two_choices"
        | "ewma"
        | "peak_ewma" => plain(&table, Balance::PeakEwma),
        "round_robin" | "roundrobin" | "rr" => plain(&table, Balance::RoundRobin),
        hash => hashed(&table, hash),
    };
    let sticky = sticky::decode(&table);
    let unknown = place.is_some() && method.is_none();
    let fail_open = match table.boolean("fail_open") {
        None => FailOpen::default(),
        Some(false) => FailOpen::Never,
        Some(true) => FailOpen::ToAll,
    };
    table.finish();
    Some(Balancing { balance, sticky, fail_open, unknown, place })
}

/// A method that hashes nothing; what is for hashes only contradicts it.
fn plain(table: &Table<'_>, balance: Balance) -> Balance {
    for key in ["hash_key", "consistent", "bounded_load"] {
        let off = table.take(key).is_none_or(|entry| entry.node.value.is_off());
        let (false, Some(entry)) = (off, table.peek(key)) else { continue };
        let message = format!("`{}` needs a method that hashes", entry.key);
        let error = Diagnostic::error(Code::Conflict, entry.key_span, message);
        let error = match table.peek("method") {
            Some(method) => error
                .label("has no meaning here")
                .also(method.node.span, "hashes nothing")
                .help("set `method = \"hash\"`, or take it out"),
            None => error.label("the method is `round_robin`").help("add `method = \"hash\"`"),
        };
        table.context().push(error);
    }
    balance
}

/// A method that could not be read, which has been reported: nothing contradicts it.
fn unread(table: &Table<'_>) -> Balance {
    for key in ["hash_key", "consistent", "bounded_load"] {
        table.take(key);
    }
    Balance::RoundRobin
}

fn hashed(table: &Table<'_>, method: &str) -> Balance {
    let (own, kind) = match method {
        "ip_hash" => (Some(HashKey::ClientNetwork), ""),
        "ipHash" | "client_ip_hash" | "source" => (Some(HashKey::ClientAddress), ""),
        "uri_hash" | "uriHash" | "uri" | "url_hash" => (Some(HashKey::Uri), ""),
        "header_hash" | "headerHash" | "hdr" => (None, "header:"),
        "cookie_hash" | "cookieHash" => (None, "cookie:"),
        _ => (None, ""),
    };
    let key = match own {
        Some(key) => {
            fixed(table, method);
            Some(key)
        }
        None => {
            let example = match kind {
                "header:" => "\"X-User\"",
                "cookie:" => "\"session\"",
                _ => "\"header:X-User\"",
            };
            table.require("hash_key", example);
            table.text("hash_key").and_then(|text| hash_key(table.context(), text, kind))
        }
    };
    let own_table = match method {
        "maglev" => Some(HashTable::Maglev),
        "consistent_hash" | "consistentHash" | "ketama" | "ring_hash" => Some(HashTable::Ketama),
        _ => None,
    };
    let bound = table.integer("bounded_load").and_then(|bound| u32::try_from(bound.value).ok());
    let written = consistent(table);
    if let (Some(own), Some(written), Some(entry)) = (own_table, written, table.peek("consistent"))
        && own != written
    {
        let message = format!("`{}` contradicts the method", entry.key);
        let error = Diagnostic::error(Code::Conflict, entry.key_span, message)
            .label("says it otherwise")
            .help("set `method = \"hash\"` and keep this, or take this out");
        table.context().push(match table.peek("method") {
            Some(method) => error.also(method.node.span, "is one way to make hashes consistent"),
            None => error,
        });
    }
    Balance::Hash {
        key: key.unwrap_or(HashKey::ClientAddress), // there is an error without one
        table: own_table.or(written).unwrap_or(HashTable::Modulo),
        bounded_load: bound,
    }
}

/// The method says itself what it hashes.
fn fixed(table: &Table<'_>, method: &str) {
    let Some(entry) = table.take("hash_key") else { return };
    let message = format!("`{}` beside a method that has its own", entry.key);
    let error = Diagnostic::error(Code::Conflict, entry.key_span, message)
        .label(format!("`{method}` says what is hashed"));
    table.context().push(match table.peek("method") {
        Some(method) => error.suggest(method.node.span, "\"hash\"", "to hash by `hash_key`"),
        None => error,
    });
}

/// What `consistent` says; modulo if it is false.
fn consistent(table: &Table<'_>) -> Option<HashTable> {
    match table.switch("consistent")? {
        Switch::Bool(true) => Some(HashTable::Ketama),
        Switch::Bool(false) => Some(HashTable::Modulo),
        Switch::Number(_) => None,
        Switch::Text(_) => {
            let node = &table.peek("consistent")?.node;
            let words = &["ketama", "maglev"];
            match table.context().choice("consistent", node, words, &["ring", "none", "modulo"])? {
                "maglev" => Some(HashTable::Maglev),
                "none" | "modulo" => Some(HashTable::Modulo),
                _ => Some(HashTable::Ketama),
            }
        }
    }
}

/// What is hashed; `kind` is put before a name alone.
fn hash_key(context: &Context<'_>, text: Spanned<&str>, kind: &str) -> Option<HashKey> {
    let whole = match text.value.contains(':') {
        false if !kind.is_empty() => format!("{kind}{}", text.value),
        _ => text.value.to_owned(),
    };
    let wrong_kind = !kind.is_empty() && !whole.starts_with(kind);
    let read = match (whole.split_once(':'), whole.as_str()) {
        _ if wrong_kind => Err(format!("the method hashes a {}", kind.trim_end_matches(':'))),
        (_, "ip") => Ok(HashKey::ClientAddress),
        (_, "network") => Ok(HashKey::ClientNetwork),
        (_, "uri") => Ok(HashKey::Uri),
        (Some(("header", name)), _) => {
            field_name(name).map(|()| HashKey::Header(name.to_ascii_lowercase()))
        }
        (Some(("cookie", name)), _) => cookie_name(name).map(|()| HashKey::Cookie(name.to_owned())),
        _ => {
            Err("expected \"ip\", \"network\", \"uri\", \"header:NAME\" or \"cookie:NAME\""
                .to_owned())
        }
    };
    match read {
        Ok(key) => Some(key),
        Err(reason) => {
            let error = context.bad("hash_key", text.span, &reason);
            context.push(match meant(text.value) {
                Some(meant) if !wrong_kind => {
                    let meant = quoted(&meant);
                    error.suggest(text.span, meant.clone(), format!("did you mean {meant}?"))
                }
                _ => error,
            });
            None
        }
    }
}

/// Checks the name of a cookie: a token (RFC 6265 section 4.1.1).
pub(super) fn cookie_name(name: &str) -> Result<(), String> {
    field_name(name).map_err(|reason| reason.replace("a field name", "the name of a cookie"))
}

/// What a value in the way of nginx stands for.
fn meant(text: &str) -> Option<String> {
    match text {
        "$remote_addr" | "$binary_remote_addr" | "client_ip" | "source" | "src" => {
            Some("ip".to_owned())
        }
        "$request_uri" | "$uri" | "url" | "path" => Some("uri".to_owned()),
        _ => {
            let (kind, name) = if let Some(name) = text.strip_prefix("$http_") {
                ("header", name.replace('_', "-"))
            } else if let Some(name) = text.strip_prefix("$cookie_") {
                ("cookie", name.to_owned())
            } else {
                ("header", Some(text).filter(|text| text.contains('-'))?.to_owned())
            };
            field_name(&name).is_ok().then(|| format!("{kind}:{name}"))
        }
    }
}
