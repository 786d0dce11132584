//! `ravelin reload`, `ravelin rollback`, `ravelin upgrade`.

use clap::Args;
use serde_json::Value;

use super::{Asked, items, number, refused};
use crate::cli::Common;
use crate::terminal::Failure;

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    #[command(flatten)]
    asked: Asked,

    /// Serve it to this share of new connections first, such as 5%
    #[arg(long, value_name = "SHARE")]
    canary: Option<String>,

    /// For how long, before it is for all or for none
    #[arg(long = "for", value_name = "TIME", requires = "canary")]
    lasts: Option<String>,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Which generation; without it the one before that in force
    #[arg(value_name = "GENERATION")]
    to: Option<u64>,

    #[command(flatten)]
    asked: Asked,
}

pub(super) fn reload(arguments: &Reload, common: &Common) -> Result<(), Failure> {
    let Reload { asked, canary, lasts } = arguments;
    let mut path = "/v1/reload".to_owned();
    let encode = control::admin::encode;
    if let Some(canary) = canary {
        path.push_str(&format!("?canary={}", encode(canary)));
    }
    if let Some(lasts) = lasts {
        path.push_str(&format!("&for={}", encode(lasts)));
    }
    let outcome = if canary.is_some() { "is tried out" } else { "is in force" };
    order(asked, common, &path, outcome)
}

pub(super) fn rollback(arguments: &Rollback, common: &Common) -> Result<(), Failure> {
    let Rollback { to, asked } = arguments;
    let to = to.map(|to| format!("?to={to}")).unwrap_or_default();
    order(asked, common, &format!("/v1/config/rollback{to}"), "is in force")
}

pub(super) fn upgrade(asked: &Asked, common: &Common) -> Result<(), Failure> {
    let value = asked.client(common)?.ask("POST", "/v1/upgrade", None)?;
    asked.show(&value, |value| {
        format!("a new process serves; {} finishes what it has under way\n", number(value, "pid"))
    })
}

fn order(asked: &Asked, common: &Common, path: &str, outcome: &str) -> Result<(), Failure> {
    let answered = asked.client(common)?.ask("POST", path, None);
    let value = answered.map_err(|unanswered| refused(unanswered, asked.format))?;
    asked.show(&value, |value| people(value, outcome))
}

fn people(value: &Value, outcome: &str) -> String {
    let mut text = format!("ok: generation {} {outcome}\n", number(value, "generation"));
    if items(value, "changes").is_empty() {
        text.push_str("  nothing is different\n");
    }
    for (name, mark) in [("changes", " "), ("warnings", " warning:")] {
        for line in items(value, name).iter().filter_map(Value::as_str) {
            text.push_str(&format!(" {mark} {line}\n"));
        }
    }
    text
}
