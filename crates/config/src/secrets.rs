//! What is secret wherever it is written: fields with credentials, and users in URLs.
//!
//! Told apart by names, before anything is decoded: what is wrong with a secret may be said before it is
//! known what it is for. Keys that are secrets themselves (`secret`, `users`, …) are concealed where they
//! are decoded.

use crate::decode::Context;
use crate::tree::{Entry, Node, Value};

/// What stands in the place of a secret, whatever its length.
pub const HIDDEN: &str = "*****";

/// Tables whose keys are names of fields.
const FIELDS: &[&str] =
    &["set", "add", "headers", "request_headers", "response_headers", "upstream_headers"];

/// Fields that are named like a secret and are none.
const HARMLESS: &[&str] = &[
    "sec-websocket-key",
    "sec-websocket-accept",
    "www-authenticate",
    "proxy-authenticate",
    "public-key-pins",
];

/// Parts of names that tell a secret.
const PARTS: &[&str] = &["token", "secret", "key", "auth", "password", "cookie"];

/// Whether the value of a field with this name is a secret, as far as a name can tell.
pub fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !HARMLESS.contains(&&*name) && PARTS.iter().any(|part| name.contains(part))
}

/// Conceals what is secret at a node and below it.
pub(crate) fn conceal(context: &Context<'_>, node: &Node) {
    match &node.value {
        Value::Table(entries) => {
            condition(context, entries);
            for entry in entries {
                if FIELDS.contains(&&*entry.key) {
                    fields(context, &entry.node);
                }
                conceal(context, &entry.node);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| conceal(context, item)),
        Value::String(text) if has_user(text) => context.conceal(node.span),
        _ => {}
    }
}

/// A condition on a field or cookie: what it has to be.
fn condition(context: &Context<'_>, entries: &[Entry]) {
    let secret = entries.iter().any(|entry| match &entry.node.value {
        Value::String(name) => match entry.key.as_str() {
            "header" => is_secret_field(name),
            "cookie" => true,
            _ => false,
        },
        _ => false,
    });
    for entry in entries.iter().filter(|entry| secret && is_value(&entry.key)) {
        hide(context, &entry.node);
    }
}

/// Keys of a condition that say what something has to be.
fn is_value(key: &str) -> bool {
    matches!(key, "value" | "values" | "prefix" | "prefixes")
}

/// Values of fields.
fn fields(context: &Context<'_>, node: &Node) {
    let Value::Table(entries) = &node.value else { return };
    entries
        .iter()
        .filter(|entry| is_secret_field(&entry.key))
        .for_each(|entry| hide(context, &entry.node));
}

/// Conceals everything but the keys.
pub(crate) fn hide(context: &Context<'_>, node: &Node) {
    match &node.value {
        Value::Table(entries) => entries.iter().for_each(|entry| hide(context, &entry.node)),
        Value::Array(items) => items.iter().for_each(|item| hide(context, item)),
        _ => context.conceal(node.span),
    }
}

/// Whether a text is a URL that names a user.
fn has_user(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@')
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn shown(text: &str) -> String {
        let files = [(PathBuf::from("site.toml"), text)];
        let loaded = crate::load(&files, &crate::Options::default());
        loaded.sources.iter().map(crate::source::Source::shown).collect()
    }

    #[test]
    fn names_tell_secrets() {
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "X-API-Key",
            "X-Vault-Token",
            "X-Client-Secret",
            "X-Auth",
            "X-Password",
        ] {
            assert!(is_secret_field(name), "{name}");
        }
        for name in ["Accept", "X-Env", "Sec-WebSocket-Key", "WWW-Authenticate", "Keep-Alive"] {
            assert!(!is_secret_field(name), "{name}");
        }
    }

    #[test]
    fn credentials_in_fields_and_urls_are_not_shown_nor_is_their_length() {
        let text = |secret: &str| {
            format!(
                "[[sites]]\nname = \"a\"\nport = 80\n[sites.proxy]\nenabled = true\n\
                 [sites.proxy.request_headers]\n\
                 set = {{ Authorization = \"Bearer {secret}\", X-Env = \"test\" }}\n\
                 add = {{ X-API-Key = '{secret}' }}\n\
                 [[sites.proxy.upstreams]]\nname = \"b\"\n\
                 url = \"http://me:{secret}@127.0.0.1:1\"\n\
                 [[sites.routes]]\npath = \"/\"\nupstream = \"b\"\n\
                 auth = {{ type = \"basic\", users = {{ ann = \"\"\"\n{secret}\"\"\" }} }}\n\
                 when = [{{ header = \"X-Token\", values = [\"{secret}\", \"x\"] }}]\n"
            )
        };
        let (short, long) = (shown(&text("pw")), shown(&text("a much longer, [other] word")));
        assert!(!short.contains("pw"), "{short}");
        assert!(short.contains("Authorization = \"*****\", X-Env = \"test\""), "{short}");
        assert!(short.contains("X-API-Key = '*****'"), "{short}");
        assert!(short.contains("url = \"*****\""), "{short}");
        assert!(short.contains("values = [\"*****\", \"*****\"]"), "{short}");
        assert_eq!(short.lines().count(), text("pw").lines().count());
        assert_eq!(short, shown(&text("other")));
        assert!(!long.contains("much") && !long.contains("word"), "{long}");
    }
}
