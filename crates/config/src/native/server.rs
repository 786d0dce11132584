//! `[server]`: who the server says it is.

use crate::decode::Table;
use crate::model::Server;
use crate::schema::{Kind, Section, now};
use crate::syntax::field_value;

pub(super) static SERVER: Section = Section {
    path: "server",
    list: false,
    about: "Who the server says it is. The table may be left out.",
    keys: &[
        now(
            "name",
            Kind::Text,
            "\"ravelin\"",
            "Sent in the `Server` field of responses Ravelin makes itself.",
        ),
        now("version", Kind::Text, "Ravelin's own", "Shown by `/api/health`."),
        now("description", Kind::Text, "empty", "Free text for operators."),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Server {
    let mut server = Server {
        name: "ravelin".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: String::new(),
    };
    let Some(table) = table else { return server };
    if let Some(name) = table.text("name") {
        match field_value(name.value) {
            Ok("") => {
                table.context().push(table.context().bad("name", name.span, "must not be empty"))
            }
            Ok(value) => server.name = value.to_owned(),
            Err(reason) => table.context().push(table.context().bad("name", name.span, &reason)),
        }
    }
    if let Some(version) = table.text("version") {
        server.version = version.value.to_owned();
    }
    if let Some(description) = table.text("description") {
        server.description = description.value.to_owned();
    }
    table.finish();
    server
}
