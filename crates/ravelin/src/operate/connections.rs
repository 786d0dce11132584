//! `ravelin connections`: what clients have open, and closing one.

use clap::{Args, Subcommand};
use control::admin::encode;
use serde_json::Value;

use super::table::Table;
use super::{Asked, counted, duration, items, moment, number, text};
use crate::cli::Common;
use crate::terminal::Failure;

/// Arguments of `connections`.
#[derive(Debug, Args)]
pub(crate) struct Connections {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show them
    List(List),
    /// End one: when its request is done, or at once
    Close {
        /// What it is called in the list
        #[arg(value_name = "ID")]
        id: String,
        /// Also in the middle of a response
        #[arg(long)]
        force: bool,
        /// It is a WebSocket
        #[arg(long, conflicts_with = "force")]
        websocket: bool,
        #[command(flatten)]
        asked: Asked,
    },
}

#[derive(Debug, Args)]
struct List {
    /// Show WebSockets
    #[arg(long)]
    websockets: bool,
    /// Only those of this address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    asked: Asked,
}

pub(super) fn connections(arguments: &Connections, common: &Common) -> Result<(), Failure> {
    match &arguments.what {
        None => list(&arguments.list, common),
        Some(What::List(arguments)) => list(arguments, common),
        Some(What::Close { id, force, websocket, asked }) => {
            let kind = if *websocket { "websockets" } else { "connections" };
            let force = if *force { "?force=true" } else { "" };
            let path = format!("/v1/{kind}/{}{force}", encode(id));
            let value = asked.client(common)?.ask("DELETE", &path, None)?;
            asked.show(&value, |value| format!("{} told to end\n", number(value, "closed")))
        }
    }
}

fn list(arguments: &List, common: &Common) -> Result<(), Failure> {
    let List { websockets, client, limit, asked } = arguments;
    let kind = if *websockets { "websockets" } else { "connections" };
    let mut path = format!("/v1/{kind}?limit={limit}");
    if let Some(client) = client {
        path.push_str(&format!("&client={}", encode(client)));
    }
    let value = asked.client(common)?.get(&path)?;
    asked.show(&value, if *websockets { of_websockets } else { of_connections })
}

fn of_connections(value: &Value) -> String {
    let mut table = Table::new(&[
        "id",
        "client",
        "protocol",
        "since (UTC)",
        "requests",
        "doing",
        "for",
        "site",
        "endpoint",
    ]);
    for one in items(value, "connections") {
        table.row([
            text(one, "id").to_owned(),
            text(one, "peer").to_owned(),
            text(one, "protocol").to_owned(),
            moment(text(one, "since")),
            number(one, "requests").to_string(),
            text(one, "doing").to_owned(),
            duration(number(one, "doing_for")),
            text(one, "site").to_owned(),
            text(one, "endpoint").to_owned(),
        ]);
    }
    table.render() + &more(value, "connections", "connection")
}

fn of_websockets(value: &Value) -> String {
    let mut table = Table::new(&[
        "id",
        "client",
        "since (UTC)",
        "received",
        "sent",
        "site",
        "target",
        "endpoint",
    ]);
    for one in items(value, "websockets") {
        let request = one.get("request").unwrap_or(&Value::Null);
        table.row([
            text(one, "id").to_owned(),
            text(request, "client").to_owned(),
            moment(text(one, "since")),
            number(one, "received_bytes").to_string(),
            number(one, "sent_bytes").to_string(),
            text(request, "site").to_owned(),
            text(request, "target").to_owned(),
            text(request, "endpoint").to_owned(),
        ]);
    }
    table.render() + &more(value, "websockets", "WebSocket")
}

/// What a list that is not complete leaves out.
fn more(value: &Value, name: &str, what: &str) -> String {
    match text(value, "next") {
        "" => String::new(),
        _ => {
            let shown = items(value, name).len();
            format!("{shown} of {}; `--limit` shows more\n", counted(value, "total", what))
        }
    }
}
