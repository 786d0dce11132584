//! `access_control`: requests that pages of other origins make (CORS).

use std::time::Duration;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{AllowedOrigins, Cors, CorsRule, Names, OriginPattern, Security};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, field_name, quoted};
use crate::tree::{Entry, Node, Value};

use super::conditions::method;

pub(super) static SECTION: Section = Section {
    path: "sites.access_control",
    list: false,
    about: "Which pages of other origins may make requests, and read the responses (CORS). With it, upstreams are not asked: preflights are answered here, and `Access-Control-*` fields of upstreams are replaced.",
    keys: KEYS,
};

pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.access_control",
    list: false,
    about: "The same for the route, in the place of `[sites.access_control]`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now("enabled", Kind::Bool, "true", "`false`: the same as no such table; on a route, nor the site's."),
    now(
        "allow_origins",
        Kind::Texts,
        "`security.allowed_origins`, else [\"*\"]",
        "Origins that may make requests: `\"https://app.example.com\"`, `\"https://*.example.com\"` (one `*` in it, for at least one character), `\"null\"` (pages without an origin, which anybody can make), or `\"*\"` for any.",
    )
    .or(&["allowed_origins", "origins"]),
    now(
        "allow_methods",
        Kind::Texts,
        "[\"GET\", \"HEAD\", \"OPTIONS\"]",
        "Methods they may use, or `\"*\"`. Browsers ask only about others than GET, HEAD and POST.",
    )
    .or(&["allowed_methods", "methods"]),
    now(
        "allow_headers",
        Kind::Texts,
        "[\"Content-Type\", \"Authorization\"]",
        "Fields they may send, or `\"*\"` for any that is asked for, `Authorization` included.",
    )
    .or(&["allowed_headers", "headers"]),
    now(
        "expose_headers",
        Kind::Texts,
        "[]",
        "Fields of responses that scripts may read, beside those they always may; `\"*\"`: all, with `allow_credentials` none.",
    )
    .or(&["exposed_headers"]),
    now(
        "allow_credentials",
        Kind::Bool,
        "false",
        "Whether they may send cookies and read what only their user may see.",
    )
    .or(&["credentials"]),
    now(
        "max_age",
        Kind::Duration(true),
        "86400",
        "How long a browser may remember what a preflight said.",
    ),
];

/// Decodes the table of this name.
pub(super) fn decode(parent: &Table<'_>) -> CorsRule {
    let Some(table) = parent.table("access_control") else { return CorsRule::Inherited };
    let enabled = table.boolean("enabled").unwrap_or(true);
    let cors = Cors {
        origins: origins(&table, "allow_origins"),
        methods: names(&table, "allow_methods", |context, _, text| method(context, text))
            .unwrap_or_else(|| only(&["GET", "HEAD", "OPTIONS"])),
        headers: names(&table, "allow_headers", field)
            .unwrap_or_else(|| only(&["Content-Type", "Authorization"])),
        expose_headers: names(&table, "expose_headers", field).unwrap_or_else(|| only(&[])),
        credentials: table.boolean("allow_credentials").unwrap_or(false),
        max_age: table.duration("max_age").unwrap_or(Duration::from_hours(24)),
    };
    if enabled {
        too_open(&table, &cors);
    }
    table.finish();
    if enabled { CorsRule::Rules(cors) } else { CorsRule::Off }
}

fn only(names: &[&str]) -> Names {
    Names::Only(names.iter().map(|name| (*name).to_owned()).collect())
}

/// A list of origins.
pub(super) fn origins(table: &Table<'_>, name: &'static str) -> AllowedOrigins {
    let Some(texts) = table.texts(name) else { return AllowedOrigins::Inherited };
    let mut found = Vec::new();
    let mut any = false;
    for text in texts {
        match text.value {
            "*" => any = true,
            _ => found.extend(pattern(table.context(), name, text)),
        }
    }
    found.sort();
    found.dedup();
    if any { AllowedOrigins::Any } else { AllowedOrigins::Only(found) }
}

/// One origin (RFC 6454 section 6.2), with at most one `*` in it.
fn pattern(
    context: &Context<'_>,
    name: &'static str,
    text: Spanned<&str>,
) -> Option<OriginPattern> {
    let refuse = |reason: &str, instead: Option<String>| {
        let error = context.bad(name, text.span, reason);
        context.push(match instead.map(|instead| quoted(&instead)) {
            Some(instead) => {
                let question = format!("did you mean {instead}?");
                error.suggest(text.span, instead, question)
            }
            None => error,
        });
        None
    };
    if text.value == "null" {
        return Some(OriginPattern::Exact("null".to_owned()));
    }
    let lower = text.value.to_ascii_lowercase();
    let Some((scheme, rest)) = lower.split_once("://") else {
        let is_host = authority(&lower, 443).is_ok();
        let instead = is_host.then(|| format!("https://{lower}"));
        return refuse("an origin has a scheme: \"https://example.com\"", instead);
    };
    if let Some((host, _)) = rest.split_once('/') {
        let instead = Some(format!("{scheme}://{host}"));
        return refuse("an origin has no path, not even \"/\"", instead);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(plain) {
        return refuse("expected a scheme such as \"https\" before \"://\"", None);
    }
    if let Some((before, behind)) = lower.split_once('*') {
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-._:/[]".contains(c);
        if behind.contains('*') || !before.chars().chain(behind.chars()).all(fits) {
            return refuse(
                "expected an origin with one `*` in it: \"https://*.example.com\"",
                None,
            );
        }
        if behind.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let instead = format!("{before}*.{behind}");
            let other = format!("{before}evil{behind}");
            context.push(
                Diagnostic::warning(Code::Unsafe, text.span, "this takes in origins of others too")
                    .label(format!("also takes in {other}"))
                    .suggest(text.span, quoted(&instead), "`*.` stands for whole labels"),
            );
        }
        if is_open_ended(before, behind) && !before.ends_with("://") {
            let other = format!("{}.evil.example{behind}", before.trim_end_matches('.'));
            let message = "this takes in origins of others too";
            context.push(
                Diagnostic::warning(Code::Unsafe, text.span, message)
                    .label(format!("also takes in {other}"))
                    .help("a `*` stands at the beginning of a host, or in the place of its port"),
            );
        }
        return Some(OriginPattern::Between(before.to_owned(), behind.to_owned()));
    }
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => 0,
    };
    if let Err(reason) = authority(rest, own_port.max(1)) {
        return refuse(&reason, None);
    }
    // Browsers leave it out.
    let rest = rest.strip_suffix(&format!(":{own_port}")).unwrap_or(rest);
    Some(OriginPattern::Exact(format!("{scheme}://{rest}")))
}

/// Whether the end of a host is left open, so that anybody can have a host that fits.
fn is_open_ended(before: &str, behind: &str) -> bool {
    let host = before.split_once("://").map_or(before, |(_, host)| host);
    let is_port = host.ends_with(':');
    !is_port && (behind.is_empty() || behind.starts_with(':'))
}

/// A list of names of which each is checked, or `*` for all.
fn names(
    table: &Table<'_>,
    name: &'static str,
    check: fn(&Context<'_>, &str, Spanned<&str>) -> Option<String>,
) -> Option<Names> {
    let mut found: Vec<String> = Vec::new();
    let mut any = false;
    for text in table.texts(name)? {
        match text.value {
            "*" => any = true,
            _ => match check(table.context(), name, text) {
                Some(one) if !found.contains(&one) => found.push(one),
                _ => {}
            },
        }
    }
    Some(if any { Names::Any } else { Names::Only(found) })
}

fn field(context: &Context<'_>, name: &str, text: Spanned<&str>) -> Option<String> {
    match field_name(text.value) {
        Ok(()) => Some(text.value.to_owned()),
        Err(reason) => {
            context.push(context.bad(name, text.span, &reason));
            None
        }
    }
}

/// Warns of rules that take down what keeps sites apart.
fn too_open(table: &Table<'_>, cors: &Cors) {
    let Some(entry) = table.peek("allow_credentials").filter(|_| cors.credentials) else { return };
    let whose = match &cors.origins {
        AllowedOrigins::Any => "any origin".to_owned(),
        AllowedOrigins::Only(all) => match all.iter().find_map(anybodys) {
            Some(whose) => whose,
            None => return,
        },
        // What `[security]` says is looked at by `inherited`.
        AllowedOrigins::Inherited => return,
    };
    let warning = for_anybody(entry.key_span, &whose);
    table.context().push(match table.peek("allow_origins") {
        Some(origins) => warning.also(origins.node.span, "name the origins here"),
        None => warning.help(NAME_THEM),
    });
}

const NAME_THEM: &str = "name the origins: `allow_origins = [\"https://app.example.com\"]`";

fn for_anybody(place: Span, whose: &str) -> Diagnostic {
    Diagnostic::warning(Code::Unsafe, place, format!("`allow_credentials` for {whose}"))
        .label("any page on the web can read what your users may see")
}

/// The same for rules without origins of their own, now that it is known what `[security]` says. Looks at
/// the sites of these files, and takes nothing.
pub(super) fn inherited(files: &[Table<'_>], security: &Security) {
    let whose = match &security.allowed_origins {
        AllowedOrigins::Inherited | AllowedOrigins::Any => Some("any origin".to_owned()),
        AllowedOrigins::Only(all) => all.iter().find_map(anybodys),
    };
    let Some(whose) = whose else { return };
    for file in files {
        let Some(sites) = file.peek("sites") else { continue };
        for site in items(&sites.node) {
            let proxy = get(site, &["proxy"]);
            let routes = [Some(site), proxy.map(|proxy| &proxy.node)]
                .into_iter()
                .flatten()
                .filter_map(|parent| get(parent, &["routes"]))
                .flat_map(|routes| items(&routes.node));
            for guarded in std::iter::once(site).chain(routes) {
                if let Some(place) = anybody_with_credentials(guarded) {
                    file.context().push(for_anybody(place, &whose).help(NAME_THEM));
                }
            }
        }
    }
}

/// Where the rules of a site or a route allow credentials and name no origins.
fn anybody_with_credentials(guarded: &Node) -> Option<Span> {
    let rules = &get(guarded, &["access_control", "cors"])?.node;
    let is = |entry: &Entry, on: bool| matches!(entry.node.value, Value::Bool(own) if own == on);
    let credentials = get(rules, &["allow_credentials", "credentials"])?;
    let off = get(rules, &["enabled"]).is_some_and(|entry| is(entry, false));
    let origins = get(rules, &["allow_origins", "allowed_origins", "origins"]);
    (is(credentials, true) && !off && origins.is_none()).then_some(credentials.key_span)
}

fn get<'n>(table: &'n Node, keys: &[&str]) -> Option<&'n Entry> {
    let Value::Table(entries) = &table.value else { return None };
    entries.iter().find(|entry| keys.contains(&entry.key.as_str()))
}

fn items(list: &Node) -> &[Node] {
    match &list.value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// The origins of a pattern, if anybody can have one of them.
fn anybodys(pattern: &OriginPattern) -> Option<String> {
    match pattern {
        OriginPattern::Exact(origin) => {
            (origin == "null").then(|| "the origin \"null\"".to_owned())
        }
        OriginPattern::Between(before, behind) => {
            is_open_ended(before, behind).then(|| format!("any origin like \"{before}*{behind}\""))
        }
    }
}
