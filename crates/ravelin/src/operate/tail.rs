//! `ravelin tail`: requests as they end, or those that the recorder has.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::Args;
use control::admin::encode;
use proxy::log::steers;
use proxy::recorder::{Filter, FilterError};
use serde_json::Value;

use super::{items, json_line, number, text};
use crate::cli::{Common, Format};
use crate::client::{Client, Target};
use crate::terminal::{self, Failure, colored};

/// Requests that are shown of the recorder where nobody says how many.
const LAST: usize = 20;

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Only requests like this, such as 'status>=500 && upstream=="b"'
    #[arg(value_name = "FILTER", value_parser = filter)]
    filter: Option<String>,

    /// The last N requests, from the recorder
    #[arg(short = 'n', long, value_name = "N", num_args = 0..=1, default_missing_value = "20")]
    last: Option<usize>,

    /// The last requests that failed, from the recorder
    #[arg(long, conflicts_with = "slow")]
    failed: bool,

    /// The slowest requests of the last minutes, from the recorder
    #[arg(long)]
    slow: bool,

    /// Go on with those that end from now on
    #[arg(short, long, conflicts_with = "slow")]
    follow: bool,

    #[command(flatten)]
    target: Target,

    /// How to report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// A filter that can be understood, as it is written.
fn filter(written: &str) -> Result<String, FilterError> {
    Filter::parse(written).map(|_| written.to_owned())
}

pub(super) fn tail(arguments: &Tail, common: &Common) -> Result<(), Failure> {
    let client = Client::find(&arguments.target, common)?;
    let stdout = io::stdout();
    let color = arguments.format == Format::Human && colored(common.color, &stdout);
    let mut out = Out { format: arguments.format, color, to: BufWriter::new(stdout) };
    let recorded = arguments.last.is_some() || arguments.failed || arguments.slow;
    let shown = if recorded { show(arguments, &client, &mut out)? } else { Shown::All };
    match shown {
        Shown::All if !recorded || arguments.follow => follow(arguments, &client, &mut out),
        _ => Ok(()),
    }
}

/// Whether whoever reads still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    All,
    NobodyReads,
}

/// What the recorder has.
fn show(arguments: &Tail, client: &Client, out: &mut Out<impl Write>) -> Result<Shown, Failure> {
    let which = match (arguments.failed, arguments.slow) {
        (true, _) => "failed",
        (_, true) => "slow",
        _ => "last",
    };
    let limit = arguments.last.unwrap_or(LAST);
    let mut path = format!("/v1/requests?which={which}&limit={limit}");
    if let Some(filter) = &arguments.filter {
        path.push_str(&format!("&filter={}", encode(filter)));
    }
    let value = client.get(&path)?;
    let found = items(&value, "requests");
    // As a log has them: the latest at the end. The slowest come first.
    let ordered: Vec<&Value> = match arguments.slow {
        true => found.iter().collect(),
        false => found.iter().rev().collect(),
    };
    for exchange in ordered {
        if out.exchange(exchange)? == Shown::NobodyReads {
            return Ok(Shown::NobodyReads);
        }
    }
    out.flush()
}

/// What ends from now on, until nobody reads it or the process ends.
fn follow(arguments: &Tail, client: &Client, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let filter = match (&arguments.filter, arguments.failed) {
        (Some(filter), true) => Some(format!("failed && ({filter})")),
        (None, true) => Some("failed".to_owned()),
        (filter, false) => filter.clone(),
    };
    let path = match filter {
        Some(filter) => format!("/v1/events?filter={}", encode(&filter)),
        None => "/v1/events".to_owned(),
    };
    let mut event = String::new();
    for line in client.lines(&path)? {
        let line = line
            .map_err(|error| Failure::new(format!("{} broke off: {error}", client.place()), ""))?;
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let Ok(value) = serde_json::from_str::<Value>(data) else { continue };
            let shown = match event.as_str() {
                "exchange" => out.exchange(&value)?,
                "missed" => {
                    missed(&value);
                    Shown::All
                }
                _ => Shown::All,
            };
            if shown == Shown::NobodyReads {
                return Ok(());
            }
        } else if line.is_empty() && out.flush()? == Shown::NobodyReads {
            return Ok(());
        }
    }
    Err(Failure::new(format!("{} has ended", client.place()), ""))
}

fn missed(value: &Value) {
    let missed = number(value, "missed");
    terminal::print(io::stderr(), &format!("({missed} more than could be shown)\n"));
}

/// Where requests are written.
struct Out<W> {
    format: Format,
    color: bool,
    to: W,
}

impl<W: Write> Out<W> {
    fn exchange(&mut self, exchange: &Value) -> Result<Shown, Failure> {
        let line = match self.format {
            Format::Json => json_line(exchange),
            Format::Human => human(exchange, self.color),
        };
        written(self.to.write_all(line.as_bytes()))
    }

    fn flush(&mut self) -> Result<Shown, Failure> {
        written(self.to.flush())
    }
}

fn written(result: io::Result<()>) -> Result<Shown, Failure> {
    match result {
        Ok(()) => Ok(Shown::All),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Shown::NobodyReads),
        Err(error) => Err(Failure::new(format!("cannot write: {error}"), "")),
    }
}

/// One line for people.
fn human(exchange: &Value, color: bool) -> String {
    let status = number(exchange, "status") as u16;
    let failed = exchange.get("failed").and_then(Value::as_bool).unwrap_or_default();
    let (on, off) = match (color, status, failed) {
        (false, ..) => ("", ""),
        (true, _, true) => ("\x1b[31m", "\x1b[0m"),
        (true, 400.., _) => ("\x1b[33m", "\x1b[0m"),
        (true, ..) => ("\x1b[32m", "\x1b[0m"),
    };
    let time = text(exchange, "time");
    let time = time.get(11..23).unwrap_or(time);
    let took = duration(number(exchange, "total"));
    let asked = match text(exchange, "method") {
        "" => text(exchange, "target").to_owned(),
        method => format!("{method} {}{}", text(exchange, "host"), text(exchange, "target")),
    };
    let mut line = format!("{took:>8} {asked}");
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            line.push_str(&format!("  {name}={value}"));
        }
    };
    add("client", text(exchange, "client"));
    for name in ["user", "site", "route", "pool", "endpoint"] {
        add(name, text(exchange, name));
    }
    if number(exchange, "attempts") > 1.0 {
        add("attempts", &number(exchange, "attempts").to_string());
    }
    let ended = text(exchange, "ended");
    if ended != "complete" {
        add("ended", ended);
        add("phase", text(exchange, "phase"));
        add("cause", text(exchange, "cause"));
    }
    add("id", text(exchange, "request_id"));
    // What comes from elsewhere does not steer the terminal.
    let line: String = line.chars().map(visible).collect();
    format!("{time} {on}{status:03}{off} {line}\n")
}

fn visible(c: char) -> char {
    if steers(c) { char::REPLACEMENT_CHARACTER } else { c }
}

/// "0.8ms", "12ms", "1.24s", "3.5min".
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.1}ms", s * 1e3),
        s if s < 1.0 => format!("{:.0}ms", s * 1e3),
        s if s < 100.0 => format!("{s:.2}s"),
        s => format!("{:.1}min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exchange() -> Value {
        json!({
            "time": "2026-11-21T03:48:01.250Z", "client": "192.0.2.7", "method": "GET",
            "host": "example.com", "target": "/a\u{1b}[2J\u{202e}", "site": "main", "route": "/",
            "pool": "b", "endpoint": "http://10.0.0.2:80", "status": 502, "total": 0.0123,
            "failed": true, "ended": "upstream", "phase": "connect", "cause": "refused",
            "attempts": 2,
        })
    }

    #[test]
    fn a_line_has_what_is_known_and_does_not_steer_the_terminal() {
        assert_eq!(
            human(&exchange(), false),
            "03:48:01.250 502     12ms GET example.com/a\u{fffd}[2J\u{fffd}  client=192.0.2.7  site=main  \
             route=/  pool=b  endpoint=http://10.0.0.2:80  attempts=2  ended=upstream  \
             phase=connect  cause=refused\n"
        );
        let colored = human(&exchange(), true);
        assert!(colored.starts_with("03:48:01.250 \x1b[31m502\x1b[0m "), "{colored:?}");
        assert_eq!(colored.matches('\x1b').count(), 2);
        let refused = json!({
            "time": "2026-11-21T03:48:01.250Z", "target": "GET /", "status": 400, "total": 0,
            "failed": true, "ended": "client", "phase": "head", "cause": "malformed",
        });
        assert_eq!(
            human(&refused, false),
            "03:48:01.250 400    0.0ms GET /  ended=client  phase=head  cause=malformed\n"
        );
    }

    #[test]
    fn for_tools_too_nothing_steers_the_terminal() {
        let line = json_line(&json!({ "target": "/\u{7f}\u{9b}2J\u{202e}\u{e9}" }));
        assert_eq!(line, "{\"target\":\"/\\u007f\\u009b2J\\u202e\u{e9}\"}\n");
    }

    #[test]
    fn durations_have_about_three_digits() {
        let told = [0.0004, 0.0123, 0.999, 1.2345, 200.0].map(duration);
        assert_eq!(told, ["0.4ms", "12ms", "999ms", "1.23s", "3.3min"]);
    }
}
