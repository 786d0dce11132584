//! Variables of the environment that PyServe prefers to its file.
//!
//! They are put into the tree before anything else looks at it, so that what they say is checked like
//! what is written.

use crate::decode::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

use super::sections::LEVELS;

/// What a variable holds.
enum Holds {
    Text,
    Port,
    Switch,
    Level,
    /// Something that nothing acts on.
    Nothing,
}

/// Each variable, and the table and key it stands for.
const VARIABLES: &[(&str, &str, &str, Holds)] = &[
    ("PYSERVE_HOST", "server", "host", Holds::Text),
    ("PYSERVE_PORT", "server", "port", Holds::Port),
    ("PYSERVE_STATIC_DIR", "http", "static_dir", Holds::Text),
    ("PYSERVE_TEMPLATES_DIR", "http", "templates_dir", Holds::Nothing),
    ("PYSERVE_LOG_LEVEL", "logging", "level", Holds::Level),
    ("PYSERVE_LOG_FILE", "logging", "log_file", Holds::Text),
    ("PYSERVE_SSL_ENABLED", "ssl", "enabled", Holds::Switch),
    ("PYSERVE_SSL_CERT", "ssl", "cert_file", Holds::Text),
    ("PYSERVE_SSL_KEY", "ssl", "key_file", Holds::Text),
];

/// What turns something on. PyServe takes every other word for `false`; one with a mistake in it must not
/// turn TLS off.
const ON: &[&str] = &["true", "1", "yes", "on"];

/// What turns something off.
const OFF: &[&str] = &["false", "0", "no", "off"];

/// The document as the environment changes it.
pub(super) fn applied(context: &Context<'_>, document: &Node) -> Node {
    let mut document = document.clone();
    let start = Span { end: document.span.start, ..document.span };
    for (variable, table, key, holds) in VARIABLES {
        let Some(said) = context.environment(variable).filter(|said| !said.is_empty()) else {
            continue;
        };
        let place = place_of(&document, table, key);
        let span = place.unwrap_or(start);
        if matches!(holds, Holds::Nothing) {
            let message = format!("`{variable}` is not in effect");
            let warning = Diagnostic::warning(Code::NotInEffect, span, message);
            context.push(Diagnostic { span: None, ..warning });
            continue;
        }
        match value(&said, holds) {
            Ok(value) => {
                let instead = match place {
                    Some(_) => format!("`{variable}` is used in the place of `{key}`"),
                    None => {
                        let said = said.escape_debug();
                        format!("`{variable}` is used for `{table}.{key}`: {said}")
                    }
                };
                let note = Diagnostic::note(Code::Unused, span, instead);
                context.push(match place {
                    Some(_) => note.label(format!("the environment says {}", said.escape_debug())),
                    None => Diagnostic { span: None, ..note },
                });
                put(&mut document, table, key, Node { value, span });
            }
            Err(reason) => {
                let message = format!("`{variable}` cannot be `{}`", said.escape_debug());
                let error = Diagnostic::error(Code::BadValue, span, message);
                context.push(match place {
                    Some(_) => {
                        error.label(format!("the environment takes the place of this: {reason}"))
                    }
                    None => Diagnostic { span: None, ..error }.help(reason),
                });
            }
        }
    }
    document
}

fn value(said: &str, holds: &Holds) -> Result<Value, String> {
    match holds {
        Holds::Text | Holds::Nothing => Ok(Value::String(said.to_owned())),
        Holds::Port => match said.trim().parse::<u16>() {
            Ok(port) if port > 0 => Ok(Value::Integer(port.into())),
            _ => Err("expected a number from 1 to 65535".to_owned()),
        },
        Holds::Switch => {
            let is =
                |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(said.trim()));
            match () {
                () if is(ON) => Ok(Value::Bool(true)),
                () if is(OFF) => Ok(Value::Bool(false)),
                () => Err(format!("expected one of {}, {}", ON.join(", "), OFF.join(", "))),
            }
        }
        Holds::Level => match LEVELS.iter().find(|level| level.eq_ignore_ascii_case(said.trim())) {
            Some(level) => Ok(Value::String((*level).to_owned())),
            None => Err(format!("expected one of {}", LEVELS.join(", "))),
        },
    }
}

/// Where the value of a key is written.
fn place_of(document: &Node, table: &str, key: &str) -> Option<Span> {
    let find = |node: &Node, name: &str| match &node.value {
        Value::Table(entries) => {
            entries.iter().find(|entry| entry.key == name).map(|entry| entry.node.clone())
        }
        _ => None,
    };
    let node = find(&find(document, table)?, key)?;
    (!matches!(node.value, Value::Null)).then_some(node.span)
}

fn put(document: &mut Node, table: &str, key: &str, node: Node) {
    let Value::Table(entries) = &mut document.value else { return };
    let at = match entries.iter().position(|entry| entry.key == table) {
        Some(at) => at,
        None => {
            let empty = Node { value: Value::Table(Vec::new()), span: node.span };
            entries.push(Entry { key: table.to_owned(), key_span: node.span, node: empty });
            entries.len() - 1
        }
    };
    let Some(entry) = entries.get_mut(at) else { return };
    if matches!(entry.node.value, Value::Null) {
        entry.node.value = Value::Table(Vec::new());
    }
    let Value::Table(entries) = &mut entry.node.value else { return };
    match entries.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => entry.node = node,
        None => entries.push(Entry { key: key.to_owned(), key_span: node.span, node }),
    }
}

/// A text in which `${NAME}` stands for a variable of the environment; reports one that is not set or
/// has no end, because a password must not be the name of one.
pub(super) fn expanded(context: &Context<'_>, text: &str, span: Span) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            context.push(
                Diagnostic::error(Code::BadValue, span, "a `${` without its `}`")
                    .label("would be taken as it is")
                    .help("`${NAME}` stands for a variable of the environment"),
            );
            return None;
        };
        let Some(said) = context.environment(name) else {
            let message = format!("the variable `{}` is not set", name.escape_debug());
            context.push(
                Diagnostic::error(Code::BadValue, span, message)
                    .label("stands for a variable of the environment"),
            );
            return None;
        };
        out += before;
        out += &said;
        rest = behind;
    }
    out += rest;
    Some(out)
}
