//! Commands that ask a running Ravelin, or tell it what to do: one file a part.

mod certificates;
mod connections;
mod endpoints;
mod history;
mod log_level;
mod orders;
mod status;
mod table;
mod tail;
mod top;

use clap::{Args, Subcommand};
use proxy::log::steers;
use serde_json::Value;

use crate::cli::{Common, Format};
use crate::client::{Client, Problem, Target, Unanswered};
use crate::configuration::count;
use crate::terminal::{self, Failure};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Show what a running Ravelin serves, and since when
    #[command(after_help = TARGET_NOTES, after_long_help = TARGET_NOTES)]
    Status(Asked),

    /// Have a running Ravelin read its configuration again
    #[command(
        long_about = "Has a running Ravelin read its configuration again. If there is a mistake in it, \
                      it is reported as `check` does, and what is in force stays.",
        after_help = RELOAD_NOTES,
        after_long_help = RELOAD_NOTES
    )]
    Reload(orders::Reload),

    /// Have a running Ravelin serve again what it served before
    #[command(after_help = ROLLBACK_NOTES, after_long_help = ROLLBACK_NOTES)]
    Rollback(orders::Rollback),

    /// Show what a running Ravelin has served, since when and by whose order
    History(history::History),

    /// Have a running Ravelin hand over to a new process of the same binary
    #[command(
        long_about = "Has a running Ravelin start its binary anew, which may be another version by now, and \
                      hand over to it: no connection is refused, and requests under way are finished."
    )]
    Upgrade(Asked),

    /// Show endpoints, or say which are to be used and how much
    #[command(
        visible_alias = "endpoint",
        args_conflicts_with_subcommands = true,
        after_help = ENDPOINTS_NOTES,
        after_long_help = ENDPOINTS_NOTES
    )]
    Endpoints(endpoints::Endpoints),

    /// Show the connections and WebSockets that clients have open, or close one
    #[command(args_conflicts_with_subcommands = true)]
    Connections(connections::Connections),

    /// Follow requests as they end, or show those that ended last, failed or were slowest
    #[command(after_help = TAIL_NOTES, after_long_help = TAIL_NOTES)]
    Tail(tail::Tail),

    /// Show requests a second, errors and latencies by site, route and endpoint, each second anew
    Top(top::Top),

    /// Show the certificates of sites, until when they are valid and when they are renewed
    Certificates(Asked),

    /// Show which lines the error log of a running Ravelin has, or say so until the next reload
    LogLevel(log_level::LogLevel),
}

const TARGET_NOTES: &str = "\
Which Ravelin is asked:
  ravelin status                           the only one that runs on this machine
  ravelin status -c /etc/ravelin           the one that serves this configuration
  ravelin status --socket /run/r.sock      the one with this admin socket
  ravelin status --url http://10.0.0.5:7654 --token-file key

Exit status: 0 done, 1 it could not be done, 2 wrong usage.";

const RELOAD_NOTES: &str = "\
Examples:
  ravelin reload                           all connections, at once
  ravelin reload --canary 5% --for 60s     a share of new connections first; it is for all afterwards,
                                           or for none if errors or latency get worse

Exit status: 0 in force (or tried out), 1 refused, nothing has changed, 2 wrong usage.";

const ROLLBACK_NOTES: &str = "\
Examples:
  ravelin rollback                         what was in force before
  ravelin history && ravelin rollback 3    what is number 3 there";

const ENDPOINTS_NOTES: &str = "\
Examples:
  ravelin endpoints
  ravelin endpoints drain backend 10.0.0.7:8080      no new clients; those that stick to it go on
  ravelin endpoints maint backend 10.0.0.7:8080      no requests
  ravelin endpoints enable backend 10.0.0.7:8080
  ravelin endpoints weight backend 10.0.0.7:8080 50

A pool goes by its name, or by SITE/POOL where two sites have one of that name.";

const TAIL_NOTES: &str = "\
Examples:
  ravelin tail                                       every request as it ends
  ravelin tail 'status>=500 && upstream==\"b\"'
  ravelin tail 'time>1s && client==10.0.0.0/8' --last 50
  ravelin tail --failed                              the last ones that failed
  ravelin tail --slow --format json                  the slowest of the last minutes, for tools

Filters:
  fields     status, method, path, target, host, site, route, upstream, endpoint, client, user,
             user_agent, request_id, protocol, tls, ended, phase, cause, bytes, request_bytes,
             attempts, time, time.connect, time.first_byte, ..., failed, reused, websocket
  operators  == != < <= > >= =~ (regular expression) !~ in (a, b) && || ! ( )
  values     5xx, 250ms, 1.5s, 10KB, 10.0.0.0/8, \"any text\"";

/// What every such command takes.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    target: Target,

    /// How to report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Does it.
pub(crate) fn operate(command: &Operate, common: &Common) -> Result<(), Failure> {
    match command {
        Operate::Status(asked) => status::status(asked, common),
        Operate::Reload(arguments) => orders::reload(arguments, common),
        Operate::Rollback(arguments) => orders::rollback(arguments, common),
        Operate::History(arguments) => history::history(arguments, common),
        Operate::Upgrade(asked) => orders::upgrade(asked, common),
        Operate::Endpoints(arguments) => endpoints::endpoints(arguments, common),
        Operate::Connections(arguments) => connections::connections(arguments, common),
        Operate::Tail(arguments) => tail::tail(arguments, common),
        Operate::Top(arguments) => top::top(arguments, common),
        Operate::Certificates(asked) => certificates::certificates(asked, common),
        Operate::LogLevel(arguments) => log_level::log_level(arguments, common),
    }
}

impl Asked {
    fn client(&self, common: &Common) -> Result<Client, Failure> {
        Client::find(&self.target, common)
    }

    /// Shows an answer: as it is for tools, or as `people` are told.
    fn show(&self, value: &Value, people: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => json_line(value),
            Format::Human => people(value),
        };
        terminal::show(&text)
    }
}

/// What was refused, as `check` reports it.
fn refused(unanswered: Unanswered, format: Format) -> Failure {
    let problem = match unanswered {
        Unanswered::Problem(problem) => problem,
        Unanswered::Failure(failure) => return failure,
    };
    let Problem { detail, diagnostics, findings, .. } = &problem;
    if diagnostics.is_empty() {
        return Unanswered::Problem(problem).into();
    }
    let text = match format {
        Format::Json => findings.iter().map(json_line).collect(),
        Format::Human => {
            let shown: Vec<&str> = diagnostics.iter().map(|one| one.trim_end()).collect();
            format!("{}\n\n", shown.join("\n\n"))
        }
    };
    terminal::print(std::io::stdout(), &text);
    Failure::new(detail, "")
}

/// A value for tools, of which nothing steers the terminal that it may go to.
pub(crate) fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match steers(c) {
            // Only within texts, and all of them are in the basic plane.
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// A member that is a text; empty if there is none.
fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A member that is a number.
fn number(value: &Value, name: &str) -> f64 {
    value.get(name).and_then(Value::as_f64).unwrap_or_default()
}

/// The items of a member that is a list.
fn items<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Those of a list of texts, with something between them.
fn joined(value: &Value, name: &str, between: &str) -> String {
    let texts: Vec<&str> = items(value, name).iter().filter_map(Value::as_str).collect();
    texts.join(between)
}

/// A time of the API as people read it: to the second, in UTC.
fn moment(text: &str) -> String {
    let second = text.get(..19).unwrap_or(text);
    second.replace('T', " ")
}

/// "12 s", "4 min 5 s", "3 h 12 min", "5 d 3 h".
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

/// "3 connections".
fn counted(value: &Value, name: &str, what: &str) -> String {
    count(number(value, name) as usize, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_two_units() {
        let told = [0.4, 61.0, 3_700.0, 90_000.0].map(duration);
        assert_eq!(told, ["0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
