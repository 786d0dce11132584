//! `[[sites.proxy.upstreams]]`: entries that share a name are one pool.

use std::collections::HashMap;
use std::time::Duration;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Pem, Pool, PoolSettings, ProxyProtocol, Transport, Upstream, UpstreamState, UpstreamTls,
};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{UpstreamUrl, host_name, upstream};

use super::ssl::{file, pem};

/// Larger weights only make the turns longer.
const WEIGHT_MAX: i64 = 1_000_000;
/// More connections than one process can have descriptors.
const CONNECTIONS_MAX: i64 = u32::MAX as i64;
/// Highest number that counters can hold.
const COUNT_MAX: i64 = u32::MAX as i64;

pub(super) static UPSTREAMS: Section = Section {
    path: "sites.proxy.upstreams",
    list: true,
    about: "Where requests may be sent. Entries that share a name are one pool, in declared order.",
    keys: &[
        now("name", Kind::Text, "required", "The pool it belongs to."),
        now(
            "url",
            Kind::Text,
            "required",
            "`http://host[:port][/base]`, or `unix:/path/to.sock`. The base is put before every path. `https` and `wss` speak TLS; `h2` (TLS) and `h2c` (plain) speak HTTP/2, many requests on one connection; `ws` is `http`. With `srv+` before the scheme, as in `srv+http://_http._tcp.example.com`, SRV records of the name give hosts, ports, priorities and weights.",
        ),
        now("tls", Kind::Table(&TLS), "", "TLS to it, for `https`, `wss` and `h2`."),
        now(
            "proxy_protocol",
            Kind::Choice(&["v1", "v2"], &[]),
            "none",
            "Begin each connection with a PROXY protocol header that names the client. Such connections are not kept for other clients.",
        ),
        now(
            "weight",
            Kind::Integer(0, WEIGHT_MAX),
            "1",
            "Share of requests relative to the other entries, for every method but `round_robin` and `random`; 0 gets none while another of its tier can be used. Those of SRV records are multiplied by it.",
        ),
        now(
            "backup",
            Kind::Bool,
            "false",
            "Used only when no other upstream of the pool is usable; the same as `priority = 1`. For room at one that is full requests wait in the queue.",
        ),
        now(
            "priority",
            Kind::Integer(0, 255),
            "0",
            "Of the pool's upstreams, those with the lowest number that has a usable one get all requests. Among the targets of SRV records, their own priorities come after it.",
        ),
        now("down", Kind::Bool, "false", "Gets no requests."),
        now(
            "drain",
            Kind::Bool,
            "false",
            "Gets no requests but those of clients that stick to it already, by a cookie of Ravelin's.",
        ),
        now(
            "max_conns",
            Kind::Integer(1, CONNECTIONS_MAX),
            "no limit",
            "Most requests in flight to it at once, each until its response has come whole; more go to others, or wait in the pool's queue.",
        )
        .or(&["maxconn", "max_connections"]),
        now(
            "slow_start",
            Kind::Duration(true),
            "0",
            "After it comes back its weight grows from nothing over this time.",
        )
        .or(&["slowstart"]),
        now(
            "max_fails",
            Kind::Integer(0, COUNT_MAX),
            "3",
            "So many failed attempts within `fail_timeout` make it unusable for `fail_timeout`; 0 turns that off.",
        ),
        now("fail_timeout", Kind::Duration(false), "10", "See `max_fails`."),
        now(
            "preserve_host",
            Kind::Bool,
            "as `sites.proxy.headers`",
            "Send it the client's `Host` (else its own).",
        ),
    ],
};

static TLS: Section = Section {
    path: "sites.proxy.upstreams.tls",
    list: false,
    about: "TLS to an upstream. Its certificate is verified unless that is turned off.",
    keys: &[
        now(
            "verify",
            Kind::Bool,
            "true",
            "Verify the upstream's certificate and name. Without that, anyone who can answer at the address can read and change what is sent.",
        ),
        now(
            "ca_file",
            Kind::Text,
            "those of the system",
            "PEM file with the authorities that are trusted.",
        ),
        now(
            "server_name",
            Kind::Text,
            "the URL's host",
            "Name asked for (SNI) and looked for in the certificate. For SRV records it is the URL's host without `_service._protocol`, not the name of a target: an answer could be forged.",
        ),
        now("cert_file", Kind::Text, "none", "PEM file with a certificate to show the upstream."),
        now("key_file", Kind::Text, "none", "PEM file with its private key."),
        now("ca", Kind::Text, "none", "The authorities as PEM text, in the place of `ca_file`."),
        now(
            "cert",
            Kind::Text,
            "none",
            "The certificate as PEM text, in the place of `cert_file`.",
        ),
        now("key", Kind::Text, "none", "Its private key as PEM text, in the place of `key_file`."),
    ],
};

/// Pools in the order of their first entries, and where those are.
#[derive(Default)]
pub(super) struct Pools {
    pub(super) pools: Vec<Pool>,
    pub(super) places: Vec<Span>,
    /// Of each pool, where its upstreams say what.
    pub(super) written: Vec<Vec<Written>>,
    by_name: HashMap<String, usize>,
    /// Some entry's name could not be read, so that a name which is missing here may be that one.
    pub(super) incomplete: bool,
}

/// Where an upstream says what.
pub(super) struct Written {
    pub(super) url: Span,
    pub(super) weight: Option<Span>,
    pub(super) max_conns: Option<Span>,
    pub(super) drain: Option<Span>,
}

impl Pools {
    /// The index of a pool.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// Decodes the upstream entries of a proxy.
pub(super) fn decode<'n>(context: &'n Context<'n>, tables: Vec<Table<'n>>) -> Pools {
    let mut found = Pools {
        pools: Vec::new(),
        places: Vec::new(),
        written: Vec::new(),
        by_name: HashMap::new(),
        incomplete: false,
    };
    for table in tables {
        table.require("name", "\"backend\"");
        table.require("url", "\"http://127.0.0.1:3001\"");
        let name = table.text("name").filter(|name| named(context, name));
        let url = table.text("url");
        let use_of_it = use_of_it(&table);
        let place = |key| table.peek(key).map(|entry| entry.key_span);
        let written = url.map(|url| Written {
            url: url.span,
            weight: place("weight"),
            max_conns: place("max_conns"),
            drain: place("drain"),
        });
        if url.is_none() {
            // Without it nothing can be said about these.
            for key in ["proxy_protocol", "tls", "preserve_host"] {
                table.take(key);
            }
        }
        let parsed = url.and_then(|url| entry(context, &table, url, use_of_it));
        found.incomplete |= name.is_none();
        if let Some(name) = name {
            let index = *found.by_name.entry(name.value.to_owned()).or_insert_with(|| {
                found.pools.push(Pool {
                    name: name.value.to_owned(),
                    upstreams: Vec::new(),
                    settings: PoolSettings::default(),
                });
                found.places.push(name.span);
                found.written.push(Vec::new());
                found.pools.len() - 1
            });
            if let (Some(pool), Some(places), Some((upstream, written))) =
                (found.pools.get_mut(index), found.written.get_mut(index), parsed.zip(written))
            {
                pool.upstreams.push(upstream);
                places.push(written);
            }
        }
        table.finish();
    }
    found
}

fn named(context: &Context<'_>, name: &Spanned<&str>) -> bool {
    if name.value.is_empty() {
        context.push(context.bad("name", name.span, "must not be empty"));
    }
    !name.value.is_empty()
}

/// How much an upstream is used, and when.
struct Use {
    weight: u32,
    priority: u8,
    state: UpstreamState,
    max_conns: Option<u32>,
    slow_start: Duration,
    max_fails: u32,
    fail_timeout: Duration,
}

fn use_of_it(table: &Table<'_>) -> Use {
    let context = table.context();
    let count = |key| table.integer(key).and_then(|count| u32::try_from(count.value).ok());
    let max_fails = count("max_fails").unwrap_or(3);
    let fail_timeout = table.duration("fail_timeout").unwrap_or(Duration::from_secs(10));
    if let (0, Some(entry)) = (max_fails, table.peek("fail_timeout")) {
        let warning = Diagnostic::warning(
            Code::Unused,
            entry.key_span,
            "`fail_timeout` without failures that count",
        )
        .label("never used");
        context.push(match table.peek("max_fails") {
            Some(fails) => warning.also(fails.node.span, "no number of failures is too many"),
            None => warning,
        });
    }
    Use {
        weight: count("weight").unwrap_or(1),
        priority: priority(table),
        state: state(table),
        max_conns: count("max_conns"),
        slow_start: table.duration("slow_start").unwrap_or_default(),
        max_fails,
        fail_timeout,
    }
}

fn priority(table: &Table<'_>) -> u8 {
    let backup = table.boolean("backup").unwrap_or(false);
    let priority = table.integer("priority");
    if let (true, Some(priority), Some(entry)) = (backup, priority, table.peek("backup")) {
        table.context().push(
            Diagnostic::error(Code::Conflict, entry.key_span, "`backup` together with `priority`")
                .label("stands for `priority = 1`")
                .also(priority.span, "says it otherwise")
                .help("keep one of them"),
        );
    }
    let written = priority.and_then(|priority| u8::try_from(priority.value).ok());
    written.unwrap_or(u8::from(backup))
}

fn state(table: &Table<'_>) -> UpstreamState {
    let on = |key| table.boolean(key).unwrap_or(false);
    match (on("down"), on("drain")) {
        (false, false) => UpstreamState::Up,
        (false, true) => UpstreamState::Drain,
        (true, drain) => {
            if let (true, Some(down), Some(drain)) =
                (drain, table.peek("down"), table.peek("drain"))
            {
                table.context().push(
                    Diagnostic::error(
                        Code::Conflict,
                        drain.key_span,
                        "`drain` together with `down`",
                    )
                    .label("keeps the clients that stick to it")
                    .also(down.key_span, "keeps none")
                    .help("keep one of them"),
                );
            }
            UpstreamState::Down
        }
    }
}

fn entry(
    context: &Context<'_>,
    table: &Table<'_>,
    url: Spanned<&str>,
    use_of_it: Use,
) -> Option<Upstream> {
    let proxy_protocol = table.choice("proxy_protocol").map(|version| match version {
        "v1" => ProxyProtocol::V1,
        _ => ProxyProtocol::V2,
    });
    let settings = table.table("tls").map(settings);
    let preserve_host = table.boolean("preserve_host");
    let parsed = match upstream(url.value) {
        Ok(parsed) => parsed,
        Err(hint) => {
            context.push_hint("url", url.span, hint);
            return None;
        }
    };
    if let Some((tls, place)) = &settings {
        fitting(context, tls, *place, &parsed, url.span);
    }
    let tls = settings.map_or(VERIFIED, |(tls, _)| tls);
    let transport = Transport { http: parsed.http, tls: parsed.tls.then_some(tls), proxy_protocol };
    let UpstreamUrl { address, base_path, srv, .. } = parsed;
    let Use { weight, priority, state, max_conns, slow_start, max_fails, fail_timeout } = use_of_it;
    Some(Upstream {
        url: url.value.to_owned(),
        address,
        srv,
        base_path,
        weight,
        priority,
        state,
        max_conns,
        slow_start,
        max_fails,
        fail_timeout,
        transport,
        preserve_host,
    })
}

/// TLS as it is without a word about it.
const VERIFIED: UpstreamTls =
    UpstreamTls { verify: true, ca_file: None, server_name: None, client_certificate: None };

/// What the `tls` table of an entry says, and where it is.
fn settings(table: Table<'_>) -> (UpstreamTls, Span) {
    let either = |name, text| {
        let file = file(&table, name, true).map(Pem::File);
        file.or(pem(&table, text).map(Pem::Text))
    };
    let (certificate, key) = (either("cert_file", "cert"), either("key_file", "key"));
    if certificate.is_some() != key.is_some() && !table.has("cert") && !table.has("key") {
        table.require("cert_file", "\"client.pem\"");
        table.require("key_file", "\"client.key\"");
    } else if certificate.is_some() != key.is_some() {
        table.require("cert", "\"-----BEGIN CERTIFICATE-----…\"");
        table.require("key", "\"-----BEGIN PRIVATE KEY-----…\"");
    }
    let name = table.text("server_name");
    let tls = UpstreamTls {
        verify: table.boolean("verify").unwrap_or(true),
        ca_file: either("ca_file", "ca"),
        server_name: name.and_then(|text| server_name(table.context(), &text)),
        client_certificate: certificate.zip(key),
    };
    let place = table.peek("verify").filter(|_| !tls.verify).map(|entry| entry.key_span);
    let place = place.unwrap_or(table.span);
    table.finish();
    (tls, place)
}

/// Says what is wrong or dangerous about TLS settings together with a URL.
fn fitting(context: &Context<'_>, tls: &UpstreamTls, place: Span, parsed: &UpstreamUrl, url: Span) {
    if !parsed.tls {
        context.push(
            Diagnostic::error(Code::Conflict, place, "`tls` for an upstream without TLS")
                .label("has no meaning here")
                .also(url, "is spoken to in plain text")
                .help("write `https://` (or `h2://`), or take `tls` out"),
        );
    } else if !tls.verify {
        context.push(
            Diagnostic::warning(Code::Unsafe, place, "the upstream's certificate is not verified")
                .label("anyone who can answer at that address can read and change what is sent")
                .help("name its authority in the place of this: `ca_file = \"internal-ca.pem\"`"),
        );
    }
}

fn server_name(context: &Context<'_>, text: &Spanned<&str>) -> Option<String> {
    match text.value.parse::<std::net::IpAddr>() {
        Ok(ip) => Some(ip.to_string()),
        Err(_) => match host_name(text.value) {
            Ok(name) => Some(name),
            Err(reason) => {
                context.push(context.bad("server_name", text.span, &reason));
                None
            }
        },
    }
}
