//! `ravelin status`: what runs, and since when.

use serde_json::Value;

use super::table::Table;
use super::{Asked, duration, items, joined, moment, number, text};
use crate::cli::Common;
use crate::terminal::Failure;

pub(super) fn status(asked: &Asked, common: &Common) -> Result<(), Failure> {
    let value = asked.client(common)?.get("/v1/status")?;
    asked.show(&value, people)
}

fn people(value: &Value) -> String {
    let since = format!(
        "{} UTC, for {}",
        moment(text(value, "started")),
        duration(number(value, "uptime"))
    );
    let mut connections = format!(
        "{} now, {} since the start",
        number(value, "connections"),
        number(value, "accepted")
    );
    if number(value, "refused") > 0.0 {
        connections.push_str(&format!(", {} refused for their number", number(value, "refused")));
    }
    let mut table = Table::bare();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("version", text(value, "version").to_owned());
    row("process", format!("{}, {}", number(value, "pid"), workers(value)));
    row("running", format!("since {since}"));
    row("configuration", joined(value, "configuration", ", "));
    row("generation", number(value, "generation").to_string() + " ");
    row("listeners", joined(value, "listeners", ", "));
    row("sites", joined(value, "sites", ", "));
    row("connections", connections);
    table.render()
}

fn workers(value: &Value) -> String {
    match items(value, "workers").len() {
        1 => "1 worker".to_owned(),
        several => format!("{several} workers"),
    }
}
