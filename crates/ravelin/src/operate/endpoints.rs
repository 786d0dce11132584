//! `ravelin endpoints`: what endpoints are, and saying which are to be used.

use clap::{Args, Subcommand};
use control::admin::encode;
use serde_json::{Value, json};

use super::table::Table;
use super::{Asked, items, moment, number, text};
use crate::cli::Common;
use crate::terminal::Failure;

/// Arguments of `endpoints`.
#[derive(Debug, Args)]
pub(crate) struct Endpoints {
    #[command(subcommand)]
    what: Option<What>,

    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show them all
    List(Asked),
    /// No new clients for it; those that stick to it go on
    Drain(Which),
    /// No requests for it
    #[command(visible_alias = "maintenance")]
    Maint(Which),
    /// It is used again
    Enable(Which),
    /// Give it a weight, until the process ends
    Weight {
        #[command(flatten)]
        which: Which,
        /// From 0 to 65535, or `configured`
        #[arg(value_name = "WEIGHT")]
        weight: String,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Its pool
    #[arg(value_name = "POOL")]
    pool: String,
    /// Its name there, as `ravelin endpoints` shows it
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    asked: Asked,
}

pub(super) fn endpoints(arguments: &Endpoints, common: &Common) -> Result<(), Failure> {
    match &arguments.what {
        None => list(&arguments.asked, common),
        Some(What::List(asked)) => list(asked, common),
        Some(What::Drain(which)) => say(which, common, "POST", "drain", None),
        Some(What::Maint(which)) => say(which, common, "POST", "maintenance", None),
        Some(What::Enable(which)) => say(which, common, "POST", "enable", None),
        Some(What::Weight { which, weight }) => {
            let weight = match weight.parse::<u32>() {
                Ok(weight) => Some(weight),
                Err(_) if weight == "configured" => None,
                Err(_) => {
                    let what = format!("`{weight}` is no weight");
                    return Err(Failure::new(what, "a number from 0 to 65535, or `configured`"));
                }
            };
            say(which, common, "PUT", "weight", Some(&json!({ "weight": weight })))
        }
    }
}

fn list(asked: &Asked, common: &Common) -> Result<(), Failure> {
    let value = asked.client(common)?.get("/v1/endpoints")?;
    asked.show(&value, |value| {
        let pools = items(value, "pools").iter();
        table(pools.flat_map(|pool| items(pool, "endpoints")))
    })
}

fn say(
    which: &Which,
    common: &Common,
    method: &str,
    what: &str,
    body: Option<&Value>,
) -> Result<(), Failure> {
    let Which { pool, endpoint, asked } = which;
    let path = format!("/v1/endpoints/{}/{}/{what}", encode(pool), encode(endpoint));
    let value = asked.client(common)?.ask(method, &path, body)?;
    asked.show(&value, |value| table(items(value, "endpoints").iter()))
}

fn table<'v>(endpoints: impl Iterator<Item = &'v Value>) -> String {
    let mut table = Table::new(&[
        "pool",
        "endpoint",
        "status",
        "since (UTC)",
        "weight",
        "in flight",
        "requests",
        "why",
    ]);
    for one in endpoints {
        let (now, configured) = (number(one, "weight"), number(one, "configured_weight"));
        let weight =
            if now == configured { now.to_string() } else { format!("{now} (of {configured})") };
        table.row([
            text(one, "pool").to_owned(),
            text(one, "name").to_owned(),
            text(one, "status").to_owned(),
            moment(text(one, "since")),
            weight,
            number(one, "in_flight").to_string(),
            number(one, "requests").to_string(),
            text(one, "why").to_owned(),
        ]);
    }
    table.render()
}
