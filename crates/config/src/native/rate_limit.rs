//! `rate_limit`: how many requests are taken in a time.

use std::collections::HashMap;
use std::time::Duration;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Model, PathMatch, RateKey, RateLimit};
use crate::places::Place;
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{field_name, quoted};

use super::access::networks;
use super::balancing::cookie_name;
use super::conditions::methods;
use super::routes::{checked_path, regex};

const MATCHES: &[&str] = &["prefix", "exact", "starts_with", "regex", "regex_ignore_case"];

/// Highest number of requests that can be given.
const COUNT_MAX: i64 = u32::MAX as i64;
/// Most keys that are remembered: 256 MiB.
const KEYS_MAX: i64 = 1 << 24;
/// A burst that takes longer to come back is a mistake, and times stay far from their limits.
const REFILL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) static SECTION: Section = Section {
    path: "sites.rate_limit",
    list: true,
    about: "How many requests are taken in a time; those beyond are answered 429 with `Retry-After`. A request has to pass all of them, also those of its route. Counts are exact over all workers.",
    keys: KEYS,
};

pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.rate_limit",
    list: true,
    about: "How many requests the route takes in a time, as in `[[sites.rate_limit]]`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now(
        "name",
        Kind::Text,
        "\"site\" or \"route\"",
        "What it is called in `RateLimit` fields; several without a name are numbered.",
    ),
    now("requests", Kind::Integer(1, COUNT_MAX), "required", "So many requests in `per`, evenly."),
    now("per", Kind::Duration(false), "\"1m\"", "The time."),
    now(
        "burst",
        Kind::Integer(1, COUNT_MAX),
        "`requests`",
        "Requests that are taken at once after a pause; never are there more than `burst` and what the time allows. 1: each waits its turn.",
    )
    .or(&["burst_size"]),
    now(
        "key",
        Kind::Text,
        "\"address\"",
        "What is counted together: `address` (of IPv6 its first 64 bits), `header:X-Api-Key` or `cookie:name` (the address where there is none), or `route`: all requests. Values that clients choose freely limit nobody who changes them: give such a limit another by address beside it.",
    ),
    now(
        "zone",
        Kind::Text,
        "each limit by itself",
        "Limits with the same one count together, at whichever routes and sites they stand; `requests`, `per`, `burst`, `key` and `max_keys` are the same in all of them.",
    ),
    now("whitelist", Kind::Texts, "[]", "Addresses and networks that are not counted."),
    now(
        "wait",
        Kind::Duration(true),
        "0",
        "A request that comes too early is held until its time instead, if that is no longer away than this; at most 1024 of each limit at once.",
    ),
    now("methods", Kind::Texts, "[]: all", "The methods it is for."),
    now("path", Kind::Text, "all", "The paths it is for."),
    now("match", Kind::Choice(MATCHES, &[]), "\"prefix\"", "What `path` is, as for a route."),
    now("status", Kind::Integer(400, 599), "429", "What requests beyond it are answered with."),
    now(
        "fields",
        Kind::Bool,
        "true",
        "Tell clients of it with `RateLimit` and `RateLimit-Policy`, on every response that it counted.",
    ),
    now(
        "max_keys",
        Kind::Integer(1, KEYS_MAX),
        "65536",
        "How many keys are remembered at once, rounded up to a power of two; 16 bytes each, taken from memory as keys come. When there are more, those are forgotten that are furthest from their limit.",
    ),
];

pub(super) static RATE_LIMITING: Section = Section {
    path: "security.rate_limiting",
    list: false,
    about: "Limits the requests of one client address to all sites together; beyond it they are answered 429. More is in `[[sites.rate_limit]]`.",
    keys: &[
        now("requests_per_minute", Kind::Integer(1, COUNT_MAX), "required", "Requests a minute."),
        now(
            "burst_size",
            Kind::Integer(1, COUNT_MAX),
            "`requests_per_minute`",
            "Requests at once after a pause.",
        )
        .or(&["burst"]),
        now("whitelist", Kind::Texts, "[]", "Addresses and networks without a limit."),
    ],
};

/// Decodes all tables of this name.
pub(super) fn decode(parent: &Table<'_>) -> Vec<RateLimit> {
    let mut limits: Vec<(RateLimit, Option<Span>)> = Vec::new();
    for table in parent.tables("rate_limit") {
        let name = table.peek("name").map(|entry| entry.node.span);
        let limit = one(table);
        let twin = |(other, _): &&(RateLimit, _)| other.name.is_some() && other.name == limit.name;
        if let (Some((_, first)), Some(place)) = (limits.iter().find(twin), name) {
            let named = limit.name.as_deref().unwrap_or_default();
            let error = Diagnostic::error(
                Code::DuplicateKey,
                place,
                format!("two limits are called \"{named}\""),
            );
            let error = error.label("called so again");
            parent.context().push(match first {
                Some(first) => error.also(*first, "first here"),
                None => error,
            });
        }
        limits.push((limit, name));
    }
    limits.into_iter().map(|(limit, _)| limit).collect()
}

fn one(table: Table<'_>) -> RateLimit {
    table.require("requests", "100");
    let requests = count(table.integer("requests")).unwrap_or(1);
    let burst = count(table.integer("burst")).unwrap_or(requests);
    let limit = RateLimit {
        name: name(&table),
        requests,
        per: table.duration("per").unwrap_or(Duration::from_mins(1)),
        burst,
        key: key(&table).unwrap_or(RateKey::Address),
        zone: zone(&table),
        whitelist: networks(&table, "whitelist").into_iter().map(|(net, _)| net).collect(),
        wait: table.duration("wait").unwrap_or_default(),
        methods: methods(&table),
        path: path(&table),
        status: table.integer("status").and_then(|n| u16::try_from(n.value).ok()).unwrap_or(429),
        fields: table.boolean("fields").unwrap_or(true),
        keys: count(table.integer("max_keys")).unwrap_or(RateLimit::KEYS),
    };
    too_slow(&table, &limit);
    if let (RateKey::Route, Some(entry)) = (&limit.key, table.peek("max_keys")) {
        let message = "`max_keys` has no meaning here";
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, message)
                .label("all requests are counted together, which is one key"),
        );
    }
    table.finish();
    limit
}

/// `security.rate_limiting`.
pub(super) fn of_security(parent: &Table<'_>) -> Option<RateLimit> {
    let table = parent.table("rate_limiting")?;
    table.require("requests_per_minute", "600");
    let requests = count(table.integer("requests_per_minute")).unwrap_or(1);
    let limit = RateLimit {
        name: None,
        requests,
        per: Duration::from_mins(1),
        burst: count(table.integer("burst_size")).unwrap_or(requests),
        key: RateKey::Address,
        zone: None,
        whitelist: networks(&table, "whitelist").into_iter().map(|(net, _)| net).collect(),
        wait: Duration::ZERO,
        methods: Vec::new(),
        path: None,
        status: 429,
        fields: true,
        keys: RateLimit::KEYS,
    };
    too_slow(&table, &limit);
    table.finish();
    Some(limit)
}

fn count(number: Option<Spanned<i64>>) -> Option<u32> {
    u32::try_from(number?.value).ok()
}

/// A name, which stands in a field (RFC 9651 section 3.3.3).
fn name(table: &Table<'_>) -> Option<String> {
    const NAME_MAX: usize = 64;
    let text = table.text("name")?;
    let plain = |c: char| c.is_ascii_graphic() && !"\"\\".contains(c) || c == ' ';
    let reason = match text.value {
        "" => "must not be empty".to_owned(),
        name if name.len() > NAME_MAX => format!("a name has at most {NAME_MAX} characters"),
        name if !name.chars().all(plain) => {
            "it stands in a field: no quotes and nothing beyond ASCII".to_owned()
        }
        name => return Some(name.to_owned()),
    };
    table.context().push(table.context().bad("name", text.span, &reason));
    None
}

fn zone(table: &Table<'_>) -> Option<String> {
    let text = table.text("zone")?;
    if text.value.is_empty() {
        table.context().push(table.context().bad("zone", text.span, "must not be empty"));
        return None;
    }
    Some(text.value.to_owned())
}

/// Reports limits of one zone that could not count together.
pub(super) fn zones(context: &Context<'_>, model: &Model) {
    let mut first: HashMap<&str, (&RateLimit, Option<Place>)> = HashMap::new();
    for (limit, place) in everywhere(model) {
        let Some(zone) = &limit.zone else { continue };
        let (other, there) = first.entry(zone).or_insert_with(|| (limit, place.clone()));
        let counts = |limit: &RateLimit| {
            (limit.requests, limit.per, limit.burst, limit.key.clone(), limit.keys)
        };
        let Some(place) = place.filter(|_| counts(limit) != counts(other)) else { continue };
        let message = format!("two limits of the zone \"{}\" differ", zone.escape_debug());
        let error = Diagnostic::error(Code::Conflict, place.span, message)
            .label("`requests`, `per`, `burst`, `key` and `max_keys` have to be the same");
        context.push(match there {
            Some(there) => error.also(there.span, "the other"),
            None => error,
        });
    }
}

/// The limits of all sites and routes, and where they are written.
fn everywhere(model: &Model) -> impl Iterator<Item = (&RateLimit, Option<Place>)> {
    let places = &model.places;
    model.sites.iter().enumerate().flat_map(move |(index, site)| {
        let of_site = (places.site(index, &["rate_limit"]), &site.guards.rate_limits);
        let of_routes = site.routes.iter().enumerate().map(move |(number, route)| {
            (places.route(index, number, &["rate_limit"]), &route.guards.rate_limits)
        });
        let all = std::iter::once(of_site).chain(of_routes);
        all.flat_map(|(place, limits)| limits.iter().map(move |limit| (limit, place.clone())))
    })
}

fn key(table: &Table<'_>) -> Option<RateKey> {
    let text = table.text("key")?;
    let context = table.context();
    let reason = match text.value.split_once(':') {
        None if text.value == "address" => return Some(RateKey::Address),
        None if text.value == "route" => return Some(RateKey::Route),
        Some(("header", name)) => match field_name(name) {
            Ok(()) => return Some(RateKey::Header(name.to_owned())),
            Err(reason) => reason,
        },
        Some(("cookie", name)) => match cookie_name(name) {
            Ok(()) => return Some(RateKey::Cookie(name.to_owned())),
            Err(reason) => reason,
        },
        _ => "expected \"address\", \"header:X-Name\", \"cookie:name\" or \"route\"".to_owned(),
    };
    let error = context.bad("key", text.span, &reason);
    context.push(match meant(text.value) {
        Some(instead) => {
            let instead = quoted(&instead);
            let question = format!("did you mean {instead}?");
            error.suggest(text.span, instead, question)
        }
        None => error,
    });
    None
}

/// What a key in the way of others stands for.
fn meant(text: &str) -> Option<String> {
    let name = |kind: &str, name: &str| {
        (!name.is_empty() && field_name(name).is_ok()).then(|| format!("{kind}:{name}"))
    };
    match text {
        "ip" | "client" | "client_ip" | "src" | "$remote_addr" | "$binary_remote_addr" => {
            Some("address".to_owned())
        }
        "all" | "global" | "server" | "total" | "$server_name" => Some("route".to_owned()),
        _ => {
            if let Some(field) = text.strip_prefix("$http_") {
                name("header", &field.replace('_', "-"))
            } else if let Some(cookie) = text.strip_prefix("$cookie_") {
                name("cookie", cookie)
            } else {
                let near = crate::decode::nearest(text, ["address", "route"].into_iter());
                near.map(str::to_owned).or_else(|| match text.contains('-') {
                    true => name("header", text),
                    false => None,
                })
            }
        }
    }
}

fn path(table: &Table<'_>) -> Option<PathMatch> {
    let context = table.context();
    let kind = table.choice("match").unwrap_or("prefix");
    let text = table.text("path")?;
    let ignore_case = kind == "regex_ignore_case";
    if ignore_case || kind == "regex" {
        let pattern = regex(context, "path", text)?;
        return Some(PathMatch::Regex { pattern, ignore_case });
    }
    let path = checked_path(context, "path", text)?;
    Some(match kind {
        "exact" => PathMatch::Exact(path),
        "starts_with" => PathMatch::StartsWith(path),
        _ => PathMatch::Prefix(path),
    })
}

/// Reports a limit whose burst takes for ever to come back.
fn too_slow(table: &Table<'_>, limit: &RateLimit) {
    let refill = limit.per.as_nanos() * u128::from(limit.burst) / u128::from(limit.requests);
    if refill <= REFILL_MAX.as_nanos() {
        return;
    }
    let entry =
        table.peek("burst").or_else(|| table.peek("burst_size")).or_else(|| table.peek("per"));
    let place = entry.map_or(table.span, |entry| entry.key_span);
    let message = "the burst is too large for the rate";
    table.context().push(
        Diagnostic::error(Code::BadValue, place, message)
            .label("once spent it takes longer than a year to come back")
            .help("a smaller `burst`, more `requests`, or a shorter `per`"),
    );
}
