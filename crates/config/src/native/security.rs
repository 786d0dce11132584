//! `[security]`: rules for every site.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{AllowedOrigins, Guards, Model, PathMatch, Route, Security};
use crate::schema::{Kind, Section, now};
use crate::syntax::network;
use crate::tree::Value;

use super::{cors, rate_limit};

pub(super) static SECURITY: Section = Section {
    path: "security",
    list: false,
    about: "Rules for every site.",
    keys: &[
        now(
            "hide_server_header",
            Kind::Bool,
            "false",
            "Leave out the `Server` field of Ravelin's own responses.",
        ),
        now(
            "max_request_size",
            Kind::Size(1, u64::MAX),
            "no limit",
            "Longest request body; more is 413.",
        ),
        now(
            "security_headers",
            Kind::Map,
            "empty",
            "Fields set on every response, as `name = \"value\"`.",
        ),
        now(
            "trusted_proxies",
            Kind::Texts,
            "[]",
            "Addresses and networks (`\"10.0.0.0/8\"`) whose `X-Forwarded-For` is believed.",
        ),
        now(
            "allow_encoded_slashes",
            Kind::Bool,
            "false",
            "Let `%2F` and `%5C` through in paths instead of answering 400. They stay as they are, and are no slashes to routes: `/a%2Fb` is not below `/a`, and gets around what the route there asks (`access`, `auth`), though an upstream may take it for `/a/b`. Guard the site then, not the route.",
        ),
        now(
            "allowed_origins",
            Kind::Texts,
            "any",
            "Origins that may make cross-origin requests where an `[sites.access_control]` names none; alone it does nothing.",
        ),
        now(
            "rate_limiting",
            Kind::Table(&rate_limit::RATE_LIMITING),
            "",
            "Limits on requests of one client.",
        ),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Security {
    let mut security = Security {
        hide_server_header: false,
        max_request_size: None,
        allowed_origins: AllowedOrigins::Inherited,
        rate_limit: None,
        security_headers: Vec::new(),
        trusted_proxies: Vec::new(),
        allow_encoded_slashes: false,
    };
    let Some(table) = table else { return security };
    security.hide_server_header = table.boolean("hide_server_header").unwrap_or(false);
    security.max_request_size = table.size("max_request_size");
    security.allowed_origins = match cors::origins(&table, "allowed_origins") {
        // As in BWS, where this is the default.
        AllowedOrigins::Only(none) if none.is_empty() => AllowedOrigins::Inherited,
        origins => origins,
    };
    security.rate_limit = rate_limit::of_security(&table);
    security.security_headers = super::headers::plain(&table, "security_headers");
    security.allow_encoded_slashes = table.boolean("allow_encoded_slashes").unwrap_or(false);
    for text in table.texts("trusted_proxies").unwrap_or_default() {
        match network(text.value) {
            Ok(net) => security.trusted_proxies.push(net),
            Err(hint) => table.context().push_hint("trusted_proxies", text.span, hint),
        }
    }
    table.finish();
    security
}

/// Warns of encoded slashes that are let through where routes are guarded by their paths: one takes the
/// request for another route than the upstream takes it for.
pub(super) fn around_guards(files: &[Table<'_>], model: &Model) {
    if !model.security.allow_encoded_slashes {
        return;
    }
    let guarded = |route: &&Route| {
        let Guards { access, auth, .. } = &route.guards;
        let deep = route.path.text().len() > 1 && route.path != PathMatch::Never;
        deep && !(access.is_empty() && auth.is_empty())
    };
    let Some(route) = model.sites.iter().flat_map(|site| &site.routes).find(guarded) else {
        return;
    };
    let key = files.iter().find_map(|file| match &file.peek("security")?.node.value {
        Value::Table(entries) => {
            let key = entries.iter().find(|entry| entry.key == "allow_encoded_slashes")?;
            Some((file.context(), key.key_span))
        }
        _ => None,
    });
    let Some((context, place)) = key else { return };
    let path = route.path.text();
    context.push(
        Diagnostic::warning(Code::Unsafe, place, "encoded slashes go around what routes ask")
            .label(format!(
                "`%2F` is not the `/` that `{path}` asks for, but may be one to an upstream"
            ))
            .help("put `access` and `auth` on the site, or leave this off"),
    );
}
