//! `sticky_sessions`: keeps a client with an upstream.

use crate::decode::{SwitchTable, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{SameSite, Sticky, StickyMode};
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::host_name;

use super::balancing::cookie_name;
use super::ssl::needed_file;

const MODES: Kind = Kind::Choice(
    &["cookie", "application", "consistent_hash"],
    &[
        "duration",
        "DurationBased",
        "duration_based",
        "insert",
        "ApplicationBased",
        "application_based",
        "application_cookie",
        "CookieConsistentHash",
        "cookie_consistent_hash",
    ],
);

pub(super) static SECTION: Section = Section {
    path: "sites.proxy.load_balancing.sticky_sessions",
    list: false,
    about: "Keeps a client with an upstream. If that one is not usable, another is chosen by the method.",
    keys: KEYS,
};

pub(super) static OF_A_POOL: Section = Section {
    path: "sites.proxy.pools.load_balancing.sticky_sessions",
    list: false,
    about: "Keeps a client with an upstream of this pool.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now("enabled", Kind::Bool, "true", "`false`: the same as no such table."),
    now(
        "mode",
        MODES,
        "\"cookie\"",
        "`cookie`: a signed cookie of Ravelin's, set on responses to clients without a valid one. `application`: the same, set only when the application sets a cookie of its own. `consistent_hash`: a hash of the application's cookie chooses among the upstreams that can be used, most clients stay where they are when one comes or goes, and nothing is set; clients without that cookie are balanced by the method. Easegress's names are taken too (`DurationBased`, `ApplicationBased`, `CookieConsistentHash`).",
    ),
    now(
        "cookie",
        Kind::Text,
        "`RAVELIN_ROUTE_` and eight digits",
        "Name of Ravelin's cookie. The digits follow from the pool's name, so that pools do not take each other's cookie.",
    )
    .or(&["cookie_name", "lb_cookie_name", "name"]),
    now(
        "application_cookie",
        Kind::Text,
        "required with `application` and `consistent_hash`",
        "Name of the application's cookie.",
    )
    .or(&["app_cookie", "app_cookie_name"]),
    now(
        "duration",
        Kind::Duration(false),
        "the browser's session",
        "How long the cookie is kept (`Max-Age`), in whole seconds, with `cookie`.",
    )
    .or(&["lb_cookie_expire", "expires", "max_age"]),
    now(
        "key_file",
        Kind::Text,
        "a random key, so that a restart forgets",
        "File with the secret that signs the cookie; the same for every Ravelin of a group.",
    ),
    now("secure", Kind::Bool, "as the client's connection", "Set `Secure` on the cookie."),
    now(
        "same_site",
        Kind::Choice(&["strict", "lax", "none"], &[]),
        "\"lax\"",
        "`SameSite` of the cookie. With `none` it is always `Secure`, since browsers take no other.",
    ),
    now("path", Kind::Text, "\"/\"", "`Path` of the cookie."),
    now("domain", Kind::Text, "none: the host alone", "`Domain` of the cookie."),
];

/// What the key of a balancing table asks for.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) sticky: Sticky,
    /// Where the name of Ravelin's cookie is written.
    pub(super) cookie: Option<Span>,
}

/// Decodes the key of a balancing table.
pub(super) fn decode(balancing: &Table<'_>) -> Option<Kept> {
    let table = match balancing.switch_table("sticky_sessions")? {
        SwitchTable::Bool(false) => return None,
        SwitchTable::Bool(true) => {
            let mode = StickyMode::Cookie { name: None, duration: None };
            let sticky = Sticky {
                mode,
                key_file: None,
                secure: None,
                same_site: SameSite::Lax,
                path: "/".to_owned(),
                domain: None,
            };
            return Some(Kept { sticky, cookie: None });
        }
        SwitchTable::Table(table) => table,
    };
    let enabled = table.boolean("enabled").unwrap_or(true);
    let sticky = Sticky {
        mode: mode(&table),
        key_file: needed_file(&table, "key_file", enabled, "cookies cannot be signed without it"),
        secure: table.boolean("secure"),
        same_site: match table.choice("same_site") {
            Some("strict") => SameSite::Strict,
            Some("none") => SameSite::None,
            _ => SameSite::Lax,
        },
        path: path(&table).unwrap_or_else(|| "/".to_owned()),
        domain: domain(&table),
    };
    let cookie = table.peek("cookie").map(|entry| entry.node.span);
    fitting(&table, &sticky);
    table.finish();
    enabled.then_some(Kept { sticky, cookie })
}

fn mode(table: &Table<'_>) -> StickyMode {
    let name = cookie(table, "cookie");
    let application = cookie(table, "application_cookie");
    let written = table.peek("duration");
    let duration = table.duration("duration");
    let mode = match table.choice("mode") {
        Some("application" | "ApplicationBased" | "application_based" | "application_cookie") => {
            table.require("application_cookie", "\"JSESSIONID\"");
            StickyMode::ApplicationCookie { application: application.unwrap_or_default(), name }
        }
        Some("consistent_hash" | "CookieConsistentHash" | "cookie_consistent_hash") => {
            table.require("application_cookie", "\"JSESSIONID\"");
            StickyMode::ConsistentHash { application: application.unwrap_or_default() }
        }
        _ => StickyMode::Cookie { name, duration },
    };
    if let (Some(duration), Some(entry)) = (duration, written)
        && duration.subsec_nanos() != 0
    {
        let context = table.context();
        context.push(context.bad("duration", entry.node.span, "cookies are kept whole seconds"));
    }
    mode
}

fn cookie(table: &Table<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    match cookie_name(text.value) {
        Ok(()) => Some(text.value.to_owned()),
        Err(reason) => {
            table.context().push(table.context().bad(key, text.span, &reason));
            None
        }
    }
}

fn path(table: &Table<'_>) -> Option<String> {
    let text = table.text("path")?;
    let reason = match text.value.chars().find(|c| *c == ';' || !c.is_ascii_graphic()) {
        _ if !text.value.starts_with('/') => "a path must start with \"/\"",
        Some(_) => "the path of a cookie has no `;`, no blanks and nothing beyond ASCII",
        None => return Some(text.value.to_owned()),
    };
    table.context().push(table.context().bad("path", text.span, reason));
    None
}

fn domain(table: &Table<'_>) -> Option<String> {
    let text = table.text("domain")?;
    // A leading dot means nothing (RFC 6265 section 5.2.3).
    match host_name(text.value.strip_prefix('.').unwrap_or(text.value)) {
        Ok(name) => Some(name),
        Err(reason) => {
            table.context().push(table.context().bad("domain", text.span, &reason));
            None
        }
    }
}

/// Says which keys have no meaning together.
fn fitting(table: &Table<'_>, sticky: &Sticky) {
    let (unused, why): (&[&str], &str) = match &sticky.mode {
        StickyMode::Cookie { .. } => {
            (&["application_cookie"], "only a cookie of Ravelin's is used")
        }
        StickyMode::ApplicationCookie { .. } => {
            (&["duration"], "the cookie is kept for the browser's session")
        }
        StickyMode::ConsistentHash { .. } => (
            &["cookie", "duration", "key_file", "secure", "same_site", "path", "domain"],
            "Ravelin sets no cookie in this mode",
        ),
    };
    for entry in unused.iter().filter_map(|key| table.peek(key)) {
        let message = format!("`{}` has no meaning in this mode", entry.key);
        let warning = Diagnostic::warning(Code::Unused, entry.key_span, message).label(why);
        table.context().push(match table.peek("mode") {
            Some(mode) => warning.also(mode.node.span, "the mode"),
            None => warning.help("the mode is `cookie`; there is also `mode = \"application\"`"),
        });
    }
    prefixed(table, sticky);
    let sets_cookie = !matches!(sticky.mode, StickyMode::ConsistentHash { .. });
    let none = sticky.same_site == SameSite::None && sets_cookie;
    if let Some(entry) = table.peek("same_site").filter(|_| none && sticky.secure != Some(true)) {
        let place = entry.node.span;
        table.context().push(match table.peek("secure") {
            Some(secure) => {
                Diagnostic::error(Code::Conflict, place, "`same_site = \"none\"` needs `Secure`")
                    .label("browsers throw such a cookie away")
                    .suggest(secure.node.span, "true", "what browsers ask for")
            }
            None => {
                let message = "`same_site = \"none\"` without `secure`";
                Diagnostic::warning(Code::Unsafe, place, message)
                    .label("browsers take such a cookie only as `Secure`, and so only over TLS")
                    .help("add `secure = true`: the cookie is set so in any case")
            }
        });
    }
}

/// Reports a name that browsers believe only with certain attributes (RFC 6265bis section 4.1.3).
fn prefixed(table: &Table<'_>, sticky: &Sticky) {
    let (StickyMode::Cookie { name: Some(name), .. }
    | StickyMode::ApplicationCookie { name: Some(name), .. }) = &sticky.mode
    else {
        return;
    };
    let (host, secure) = (name.starts_with("__Host-"), name.starts_with("__Secure-"));
    let wrong = [
        ("secure", (host || secure) && sticky.secure == Some(false), "`Secure`"),
        ("path", host && sticky.path != "/", "`Path=/`"),
        ("domain", host && sticky.domain.is_some(), "no `Domain`"),
    ];
    for (key, _, wanted) in wrong.into_iter().filter(|(_, wrong, _)| *wrong) {
        let (Some(entry), Some(cookie)) = (table.peek(key), table.peek("cookie")) else { continue };
        let message = format!("a cookie called `{name}` needs {wanted}");
        table.context().push(
            Diagnostic::error(Code::Conflict, entry.key_span, message)
                .label("browsers throw such a cookie away")
                .also(cookie.node.span, "the beginning of its name says so")
                .help("call it otherwise, or take this out"),
        );
    }
}
