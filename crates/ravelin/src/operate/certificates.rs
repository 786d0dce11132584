//! `ravelin certificates`: until when they are valid, and when they are renewed.

use serde_json::Value;

use super::table::Table;
use super::{Asked, items, joined, moment, number, text};
use crate::cli::Common;
use crate::terminal::Failure;

pub(super) fn certificates(asked: &Asked, common: &Common) -> Result<(), Failure> {
    let value = asked.client(common)?.get("/v1/certificates")?;
    asked.show(&value, people)
}

fn people(value: &Value) -> String {
    let mut table =
        Table::new(&["sites", "names", "valid until (UTC)", "days", "issuer", "from", "renewal"]);
    for one in items(value, "certificates") {
        let stand_in = one.get("stand_in").and_then(Value::as_bool).unwrap_or(false);
        let renewal = match (text(one, "next_renewal"), text(one, "failure")) {
            ("", "") if stand_in => "stand-in".to_owned(),
            ("", "") => String::new(),
            (at, "") => moment(at),
            (at, failure) => format!("{} ({failure})", moment(at)),
        };
        let place = text(one, "place");
        table.row([
            joined(one, "sites", ", "),
            joined(one, "names", ", "),
            moment(text(one, "not_after")),
            number(one, "days_left").to_string(),
            text(one, "issuer").to_owned(),
            if place.is_empty() { text(one, "source").to_owned() } else { place.to_owned() },
            renewal,
        ]);
    }
    table.render()
}
