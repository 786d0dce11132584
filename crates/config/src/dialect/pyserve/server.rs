//! `server` of PyServe: backends, redirects, passwords.

use std::collections::{BTreeSet, HashMap};

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::never_open;
use crate::schema::Kind;
use crate::source::Span;
use crate::syntax::{self, quoted};
use crate::tree::{Entry, Node, Value};

use super::environment;
use super::plan::{Auth, Does, Path, Plan, Planned, Takes};
use super::sections::{LOCATION, LOCATIONS, REDIRECTS};
use super::twins;

/// Adds a route for each entry of `reverse_proxy`.
pub(super) fn reverse_proxy(server: &Table<'_>, plan: &mut Plan) {
    let context = server.context();
    let mut websocket: Vec<(Span, bool)> = Vec::new();
    let mut seen = Seen::default();
    for table in server.tables("reverse_proxy") {
        let place = table.span;
        let host = table.text("host");
        let port = table.integer("port").map_or(80, |port| port.value);
        let ssl = table.boolean("ssl").unwrap_or(false);
        let path = match table.text("path") {
            Some(text) => (checked_path(context, "path", text), text.span),
            None => (Some("/".to_owned()), place),
        };
        if let Some(on) = table.boolean("websocket") {
            websocket.extend(table.peek("websocket").map(|entry| (entry.key_span, on)));
        }
        table.finish();
        let host = host.unwrap_or(Spanned { value: "localhost", span: place });
        let (Some(host), (Some(path), path_place)) = (checked_host(context, host), path) else {
            continue;
        };
        if let Some((_, first)) = seen.places.get(&path) {
            second(context, &path, path_place, *first);
            continue;
        }
        if let Some((own, first)) = seen.first_within(&path) {
            reached_at_last(context, (&path, path_place), (own, first));
        }
        seen.insert(path.clone(), path_place);
        let name = format!("{host}:{port}");
        let url = format!("{}://{name}", if ssl { "https" } else { "http" });
        let backend = plan.backend(url, &name, place);
        let sent = if path == "/" { Path::Kept } else { Path::Stripped };
        let does = Does::Proxy { backend, path: sent };
        plan.routes.push(Planned::new(Takes::Prefix(path), does, place));
    }
    always_on(context, &websocket);
}

/// The paths of entries so far.
#[derive(Default)]
struct Seen {
    /// Which entry it is, and where its path is written.
    places: HashMap<String, (usize, Span)>,
    lengths: BTreeSet<usize>,
}

impl Seen {
    fn insert(&mut self, path: String, place: Span) {
        self.lengths.insert(path.len());
        let at = self.places.len();
        self.places.insert(path, (at, place));
    }

    /// The first one that begins a path.
    fn first_within<'p>(&self, path: &'p str) -> Option<(&'p str, Span)> {
        let begins = self.lengths.iter().filter_map(|length| {
            let begin = path.get(..*length)?;
            self.places.get(begin).map(|(at, place)| (*at, begin, *place))
        });
        begins.min_by_key(|(at, ..)| *at).map(|(_, begin, place)| (begin, place))
    }
}

/// A host as it stands in a URL.
fn checked_host(context: &Context<'_>, host: Spanned<&str>) -> Option<String> {
    if host.value.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(format!("[{}]", host.value));
    }
    let reason = match syntax::host_name(host.value) {
        Ok(name) => return Some(name),
        Err(reason) => reason,
    };
    let rest = host.value.split_once("://").map_or(host.value, |(_, rest)| rest);
    let bare = rest.split(['/', ':']).next().unwrap_or("");
    let error = |reason: &str| context.bad("host", host.span, reason);
    context.push(match syntax::host_name(bare) {
        Ok(_) if bare != host.value => error("a host stands without scheme, port and path")
            .suggest(host.span, quoted(bare), format!("did you mean {}?", quoted(bare))),
        _ => error(&reason),
    });
    None
}

fn second(context: &Context<'_>, path: &str, place: Span, first: Span) {
    let message = format!("a second entry for `{path}`");
    context.push(
        Diagnostic::warning(Code::Unused, place, message)
            .label("never used: the first one takes every request")
            .also(first, "the first one")
            .help("to balance between them, `ravelin convert` and give both upstreams one name"),
    );
}

/// PyServe asks its entries in order, whatever its documentation's examples need.
fn reached_at_last(context: &Context<'_>, later: (&str, Span), first: (&str, Span)) {
    let message = format!("`{}` is reached in spite of `{}` before it", later.0, first.0);
    context.push(
        Diagnostic::note(Code::Changed, later.1, message)
            .label("the longest prefix wins; PyServe would take the first entry that fits")
            .also(first.1, "fits too"),
    );
}

fn always_on(context: &Context<'_>, places: &[(Span, bool)]) {
    let Some((first, _)) = places.first() else { return };
    let warning = Diagnostic::warning(Code::Ignored, *first, "`websocket` is no key any more")
        .label("WebSocket is always on, for every entry");
    let mut warning = warning.help("take it out: upgrades are known by their header fields");
    for (place, on) in places.iter().skip(1) {
        warning = warning.also(*place, if *on { "the same" } else { "does not turn it off" });
    }
    context.push(warning);
}

/// Adds a route for each redirect; before those of patterns, which they replace.
pub(super) fn redirects(server: &Table<'_>, plan: &mut Plan) {
    let context = server.context();
    let Some(entry) = server.take("redirect_instructions") else { return };
    let Value::Array(items) = &entry.node.value else {
        return wrong(context, "redirect_instructions", &entry.node, &Kind::Tables(&REDIRECTS));
    };
    let mut seen: HashMap<String, Span> = HashMap::new();
    for item in items {
        let Value::Table(entries) = &item.value else {
            let kind = Kind::Table(&REDIRECTS);
            wrong(context, "redirect_instructions", item, &kind);
            continue;
        };
        for entry in entries {
            let from = Spanned { value: entry.key.as_str(), span: entry.key_span };
            let path = checked_path(context, "redirect_instructions", from);
            let to = context.text(&entry.key, &entry.node).and_then(|to| destination(context, to));
            let (Some(path), Some(to)) = (path, to) else { continue };
            if let Some(first) = seen.insert(path.clone(), entry.key_span) {
                let message = format!("a second redirect of `{path}`");
                context.push(
                    Diagnostic::warning(Code::DuplicateKey, entry.key_span, message)
                        .label("this one counts")
                        .also(first, "the first one"),
                );
                plan.routes
                    .retain(|route| !matches!(&route.takes, Takes::Exact(own) if *own == path));
            }
            let proxied = plan.find(&path).filter(|route| matches!(route.does, Does::Proxy { .. }));
            if let Some(route) = proxied {
                let message = format!("`{path}` is redirected before it is proxied");
                context.push(
                    Diagnostic::note(Code::Changed, entry.key_span, message)
                        .label("as PyServe's documentation says; PyServe itself would proxy it")
                        .also(route.span, "takes it too"),
                );
            }
            let does = Does::Redirect { to, status: 302 };
            plan.routes.push(Planned::new(Takes::Exact(path), does, entry.node.span));
        }
    }
}

/// Where clients are sent: a path or a URL of HTTP.
pub(super) fn destination(context: &Context<'_>, to: Spanned<&str>) -> Option<String> {
    let begins = ["/", "http://", "https://"].iter().any(|begin| to.value.starts_with(begin));
    let reason = match syntax::field_value(to.value) {
        Err(reason) => reason,
        Ok(_) if !begins => "expected a path such as \"/index.html\", or a URL".to_owned(),
        Ok(_) if to.value.contains(' ') => "a URL has no blanks".to_owned(),
        Ok(value) => return Some(value.to_owned()),
    };
    let error = context.bad("redirect_instructions", to.span, &reason);
    let instead = quoted(&format!("/{}", to.value));
    let is_path = to.value.starts_with(|c: char| c.is_ascii_alphanumeric());
    context.push(match is_path && !to.value.contains(' ') {
        true => error.suggest(to.span, instead, "a path starts with a slash"),
        false => error,
    });
    None
}

/// Makes the paths of `locations` ask for a password, and do otherwise what they do without.
pub(super) fn locations(server: &Table<'_>, plan: &mut Plan) {
    let context = server.context();
    never_open(server, &["locations"]);
    let Some(entry) = server.take("locations") else { return };
    let Value::Table(entries) = &entry.node.value else {
        return wrong(context, "locations", &entry.node, &Kind::Table(&LOCATIONS));
    };
    let mut protected: Vec<(String, Auth, Span)> = Vec::new();
    for entry in entries {
        let path = Spanned { value: entry.key.as_str(), span: entry.key_span };
        let path = checked_path(context, "locations", path);
        let Some(location) = Table::open(context, &entry.key, &entry.node, &LOCATION) else {
            continue;
        };
        let auth = auth(&location);
        never_open(&location, &["auth"]);
        if !location.has_or_means("auth") {
            context.push(
                Diagnostic::error(Code::MissingKey, entry.key_span, "a location without `auth`")
                    .label("nothing would be asked for here")
                    .help("give it `auth` with `type: basic`, `username` and `password`"),
            );
        }
        location.finish();
        if let (Some(path), Some(auth)) = (path, auth) {
            protect(context, entry, &path, auth.clone(), plan);
            protected.push((path, auth, entry.key_span));
        }
    }
    // After all that have passwords of their own.
    for (path, auth, place) in &protected {
        protect_twins(context, (path, *place), auth, plan);
    }
}

fn auth(location: &Table<'_>) -> Option<Auth> {
    let context = location.context();
    let auth = location.table("auth")?;
    // Before anything is said of them: the password, be its key misspelt.
    for entry in auth.written().filter(|entry| !["type", "username"].contains(&&*entry.key)) {
        context.conceal(entry.node.span);
    }
    auth.require("type", "basic");
    auth.require("username", "admin");
    auth.require("password", "\"a long one\"");
    never_open(&auth, &["type", "username", "password"]);
    let place = auth.span;
    let kind = auth.choice("type");
    let text = |key: &'static str| {
        let text = auth.text(key)?;
        if text.value.is_empty() {
            context.push(context.bad(key, text.span, "must not be empty"));
            return None;
        }
        Some((environment::expanded(context, text.value, text.span)?, text.span))
    };
    let (username, password) = (text("username"), text("password"));
    if let Some((_, span)) = username.as_ref().filter(|(name, _)| name.contains(':')) {
        let reason = "must not contain a colon, which ends it (RFC 7617 section 2)";
        context.push(context.bad("username", *span, reason));
    }
    auth.finish();
    kind?;
    Some(Auth { username: username?, password: password?, span: place })
}

fn protect(context: &Context<'_>, entry: &Entry, path: &str, auth: Auth, plan: &mut Plan) {
    if let Some(route) = plan.exact(path) {
        if matches!(route.does, Does::Redirect { .. }) {
            let message = format!("`{path}` is redirected before a password is asked for");
            context.push(
                Diagnostic::warning(Code::Unused, entry.key_span, message)
                    .label("never asked")
                    .also(route.span, "the redirect"),
            );
        } else {
            route.auth = Some(auth);
        }
        return;
    }
    if let Some(route) = plan.find(path).filter(|route| matches!(route.does, Does::Proxy { .. })) {
        let message = format!("`{path}` asks for its password before it is proxied");
        context.push(
            Diagnostic::note(Code::Changed, entry.key_span, message)
                .label("PyServe itself would pass the request on without asking")
                .also(route.span, "takes the path"),
        );
    }
    lock(path, auth, entry.key_span, plan);
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    if !is_file {
        let below = path.trim_end_matches('/').to_owned() + "/";
        let message = format!("the password is for `{path}` alone");
        context.push(
            Diagnostic::note(Code::Unsafe, entry.key_span, message)
                .label(format!("what is below `{below}` is open, as in PyServe")),
        );
    }
}

/// Makes one path ask for a password, and do otherwise what it does without.
fn lock(path: &str, auth: Auth, place: Span, plan: &mut Plan) {
    if let Some(route) = plan.exact(path) {
        route.auth.get_or_insert(auth);
        return;
    }
    let does = plan.does_at(path).unwrap_or_else(|| plan.does_without_route());
    let found = plan.find(path);
    let route = Planned {
        request: plan.fields_at(path),
        response: found.map(|route| route.response.clone()).unwrap_or_default(),
        cache_control: found.and_then(|route| route.cache_control.clone()),
        auth: Some(auth),
        ..Planned::new(Takes::Exact(path.to_owned()), does, place)
    };
    plan.routes.push(route);
}

/// Asks for the password of a path wherever else the same is to be had.
fn protect_twins(context: &Context<'_>, (path, place): (&str, Span), auth: &Auth, plan: &mut Plan) {
    const SHOWN_MAX: usize = 3;
    if twins::is_page_of_all(path, plan) {
        let message = format!("`{path}` is the page of `spa_fallback`");
        context.push(
            Diagnostic::warning(Code::Unsafe, place, message)
                .label("open at every path that is not there"),
        );
    }
    let mut twins = twins::of(path, plan);
    twins.retain(|twin| plan.exact(twin).is_none_or(|route| route.auth.is_none()));
    for twin in &twins {
        lock(twin, auth.clone(), place, plan);
    }
    if twins.is_empty() {
        return;
    }
    let shown: Vec<String> = twins.iter().take(SHOWN_MAX).map(|twin| format!("`{twin}`")).collect();
    let more = match twins.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!("the password of `{path}` is for {}{more} too", shown.join(", "));
    context.push(
        Diagnostic::note(Code::Changed, place, message)
            .label("the same would be open there, and is in PyServe"),
    );
}

/// A path in the form that requests are matched in.
pub(super) fn checked_path(
    context: &Context<'_>,
    key: &str,
    text: Spanned<&str>,
) -> Option<String> {
    path_behind("", context, key, text)
}

/// A path that stands behind a sign.
pub(super) fn path_behind(
    sign: &str,
    context: &Context<'_>,
    key: &str,
    text: Spanned<&str>,
) -> Option<String> {
    match syntax::path(text.value) {
        Ok(path) => Some(path),
        Err(reason) => {
            let error = context.bad(key, text.span, &reason);
            let instead = quoted(&format!("{sign}/{}", text.value));
            context.push(match text.value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                true => error.suggest(text.span, instead, "start it with a slash"),
                false => error,
            });
            None
        }
    }
}

fn wrong(context: &Context<'_>, name: &str, node: &Node, kind: &Kind) {
    _ = context.wrong_type::<()>(name, node, kind);
}
