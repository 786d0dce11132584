//! `ravelin history`: what was served, since when and by whose order.

use clap::Args;
use serde_json::Value;

use super::table::Table;
use super::{Asked, items, moment, text};
use crate::cli::Common;
use crate::terminal::Failure;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Show what this one changed
    #[arg(value_name = "GENERATION")]
    generation: Option<u64>,

    #[command(flatten)]
    asked: Asked,
}

pub(super) fn history(arguments: &History, common: &Common) -> Result<(), Failure> {
    let History { generation, asked } = arguments;
    let client = asked.client(common)?;
    match generation {
        None => asked.show(&client.get("/v1/config/history")?, table),
        Some(number) => {
            let value = client.get(&format!("/v1/config/history/{number}"))?;
            asked.show(&value, |value| text(value, "diff").to_owned())
        }
    }
}

fn table(value: &Value) -> String {
    let mut table = Table::new(&["generation", "time (UTC)", "order", "by", "outcome", "reason"]);
    for entry in items(value, "entries") {
        let in_force = entry.get("in_force").and_then(Value::as_bool).unwrap_or(false);
        let outcome = text(entry, "outcome");
        table.row([
            entry
                .get("generation")
                .and_then(Value::as_u64)
                .map(|it| it.to_string())
                .unwrap_or_default(),
            moment(text(entry, "time")),
            text(entry, "cause").to_owned(),
            text(entry, "author").to_owned(),
            if in_force { format!("{outcome}, in force") } else { outcome.to_owned() },
            text(entry, "reason").lines().next().unwrap_or_default().to_owned(),
        ]);
    }
    table.render()
}
