//! What is secret in Easegress's objects, so that no finding shows it.
//!
//! Told apart by the names of keys, before anything is decoded: what is wrong with a secret may be said
//! before it is known what it is for, and its key may be misspelt.

use crate::decode::{Context, nearest};
use crate::tree::{Node, Value};

use super::filter::entry;

/// Keys with secrets, and fields with credentials.
const SECRETS: &[&str] = &["authorization", "keyBase64", "password", "secret"];

/// Conceals what is secret in an object.
pub(super) fn conceal(context: &Context<'_>, node: &Node) {
    match &node.value {
        Value::Table(entries) => {
            let validator = is_validator(node);
            for entry in entries {
                let key = entry.key.as_str();
                if validator && key == "headers" {
                    fields(context, &entry.node);
                } else if key == "keys" || nearest(key, SECRETS.iter().copied()).is_some() {
                    hide(context, &entry.node);
                } else {
                    conceal(context, &entry.node);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| conceal(context, item)),
        Value::String(text) if has_user(text) => context.conceal(node.span),
        _ => {}
    }
}

fn is_validator(node: &Node) -> bool {
    let kind = entry(node, "kind").map(|entry| &entry.node.value);
    matches!(kind, Some(Value::String(kind)) if kind == "Validator")
}

/// The values that fields of a Validator have to have; patterns are none.
fn fields(context: &Context<'_>, node: &Node) {
    let Value::Table(fields) = &node.value else { return hide(context, node) };
    for field in fields {
        let Value::Table(ways) = &field.node.value else {
            hide(context, &field.node);
            continue;
        };
        for way in ways.iter().filter(|way| way.key != "regexp") {
            hide(context, &way.node);
        }
    }
}

/// Conceals everything but the keys.
fn hide(context: &Context<'_>, node: &Node) {
    match &node.value {
        Value::Table(entries) => entries.iter().for_each(|entry| hide(context, &entry.node)),
        _ => context.conceal(node.span),
    }
}

/// Whether a URL has a user; one without a scheme only if it has a password too.
fn has_user(text: &str) -> bool {
    let (whole, rest) = text.split_once("://").map_or((false, text), |(_, rest)| (true, rest));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once('@').is_some_and(|(user, _)| whole || user.contains(':'))
}
