//! `ravelin explain`: what would become of a request, by a configuration or by a running Ravelin.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use control::admin::encode;
use proxy::explain::Asked;
use proxy::live::Live;
use proxy::snapshot::Snapshot;
use serde_json::Value;

use crate::cli::{Common, Format};
use crate::client::{Client, Target};
use crate::configuration::{count, load};
use crate::operate::json_line;
use crate::terminal::{self, Failure};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// A configuration file or directory (not with --live), then the request: a URL, or a method and a
    /// URL
    #[arg(value_name = "FILE|METHOD|URL", required = true, num_args = 1..)]
    words: Vec<String>,

    /// Ask a running Ravelin, which knows how its upstreams fare
    #[arg(long)]
    live: bool,

    /// A field of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    fields: Vec<String>,

    /// The address that the request comes from
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,

    /// The request comes over TLS, whatever its URL says
    #[arg(long)]
    tls: bool,

    /// How to explain
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    format: Format,

    #[command(flatten)]
    target: Target,
}

/// Explains on standard output.
pub(crate) fn explain(arguments: &ExplainArguments, common: &Common) -> Result<(), Failure> {
    let (files, words) = parts(arguments)?;
    let mut asked = Asked::of(&words.join(" ")).map_err(|error| Failure::new(error, USAGE))?;
    for field in &arguments.fields {
        asked.add_field(field).map_err(|error| Failure::new(error, USAGE))?;
    }
    asked.client = arguments.client.unwrap_or(asked.client);
    asked.tls = arguments.tls;
    let color = terminal::colored(common.color, &io::stdout());
    let text = match arguments.live {
        true => ask(arguments, &asked, color, common)?,
        false => work_out(arguments, &files, &asked, color, common)?,
    };
    terminal::show(&text)
}

const USAGE: &str = "for example `ravelin explain ravelin.toml GET https://example.com/api/x`";

/// Configuration files, and the words of the request.
fn parts(arguments: &ExplainArguments) -> Result<(Vec<PathBuf>, &[String]), Failure> {
    if arguments.live {
        return Ok((Vec::new(), &arguments.words));
    }
    let words = &arguments.words[..];
    // The request is the URL and the method before it, if that looks like one.
    let url = words.len().saturating_sub(1);
    let is_method = |word: &String| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    };
    let begin = match url.checked_sub(1).and_then(|at| Some((at, words.get(at)?))) {
        Some((at, word)) if is_method(word) && (at > 0 || !arguments.target.config.is_empty()) => {
            at
        }
        _ => url,
    };
    let (files, request) = words.split_at_checked(begin).unwrap_or((&[], words));
    let files: Vec<PathBuf> = match files.is_empty() {
        true => arguments.target.config.clone(),
        false => files.iter().map(PathBuf::from).collect(),
    };
    if files.is_empty() {
        return Err(Failure::new(
            "which configuration, or which running Ravelin (`--live`)?",
            USAGE,
        ));
    }
    Ok((files, request))
}

/// What the configuration makes of the request.
fn work_out(
    arguments: &ExplainArguments,
    files: &[PathBuf],
    asked: &Asked,
    color: bool,
    common: &Common,
) -> Result<String, Failure> {
    let loaded = load(files, common)?;
    let Some(model) = &loaded.model else {
        let stderr = io::stderr();
        terminal::print(&stderr, &loaded.render(terminal::colored(common.color, &stderr)));
        let errors = count(loaded.errors(), "error");
        return Err(Failure::new(format!("the configuration has {errors}"), ""));
    };
    let (snapshot, _) = Snapshot::compile(model, &Live::default())
        .map_err(|error| Failure::new(error, "`ravelin check` says more"))?;
    let explained = proxy::explain(&snapshot, asked).map_err(|error| Failure::new(error, USAGE))?;
    Ok(match arguments.format {
        Format::Json => json_line(&explained.to_json()),
        Format::Human => explained.render(color),
    })
}

/// What a running Ravelin would make of it.
fn ask(
    arguments: &ExplainArguments,
    asked: &Asked,
    color: bool,
    common: &Common,
) -> Result<String, Failure> {
    let client = Client::find(&arguments.target, common)?;
    let mut path = format!(
        "/v1/explain?method={}&url={}&client={}",
        encode(&asked.method),
        encode(&asked.url),
        asked.client
    );
    for (name, value) in &asked.fields {
        path.push_str(&format!("&header={}", encode(&format!("{name}: {value}"))));
    }
    if asked.tls {
        path.push_str("&tls=true");
    }
    path.push_str(match (arguments.format, color) {
        (Format::Json, _) => "",
        (Format::Human, true) => "&format=color",
        (Format::Human, false) => "&format=text",
    });
    let value = client.get(&path)?;
    Ok(match (arguments.format, value.get("text").and_then(Value::as_str)) {
        (Format::Human, Some(text)) => text.to_owned(),
        _ => json_line(&value),
    })
}
