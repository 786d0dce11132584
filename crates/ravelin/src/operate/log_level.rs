//! `ravelin log-level`: which lines the error log has.

use clap::Args;
use serde_json::json;

use super::{Asked, text};
use crate::cli::{Common, LogLevel as Level};
use crate::terminal::Failure;

/// Arguments of `log-level`.
#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    /// The least severe lines from now on
    #[arg(value_name = "LEVEL", value_enum)]
    level: Option<Level>,

    #[command(flatten)]
    asked: Asked,
}

pub(super) fn log_level(arguments: &LogLevel, common: &Common) -> Result<(), Failure> {
    let LogLevel { level, asked } = arguments;
    let client = asked.client(common)?;
    let word = level.map(|level| match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    });
    let value = match word {
        None => client.get("/v1/log-level")?,
        Some(word) => client.ask("PUT", "/v1/log-level", Some(&json!({ "level": word })))?,
    };
    asked.show(&value, |value| format!("{}\n", text(value, "level")))
}
