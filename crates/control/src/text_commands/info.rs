//! `show info`: the process, in the lines of HAProxy's that have a meaning here.

use std::fmt::Write as _;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::stat::tags_in_words;
use crate::admin::Running;

/// One line.
struct Line {
    /// Its number in HAProxy's list.
    number: usize,
    name: &'static str,
    tags: &'static str,
    value: Value,
    about: &'static str,
}

enum Value {
    Text(String),
    Number(u64),
}

/// `show info [desc|json|typed]*`.
pub(super) fn show(running: &Running, how: &[&str]) -> String {
    let lines = lines(running);
    if how.contains(&"json") {
        return format!("{}\n", as_json(&lines));
    }
    let (typed, about) = (how.contains(&"typed"), how.contains(&"desc"));
    let mut text = String::new();
    for Line { number, name, tags, value, about: meaning } in &lines {
        // Writing to a String does not fail.
        let _infallible = match typed {
            true => write!(text, "{number}.{name}.1:{tags}:{}:{}", value.kind(), value.plain()),
            false => write!(text, "{name}: {}", value.plain()),
        };
        if about {
            let _infallible = write!(text, ":\"{meaning}\"");
        }
        text.push('\n');
    }
    text
}

fn lines(running: &Running) -> Vec<Line> {
    let counters = running.workers.counters();
    let connections: usize = counters.iter().map(|one| one.connections).sum();
    let accepted: u64 = counters.iter().map(|one| one.accepted).sum();
    let descriptors = descriptors_max().unwrap_or(0);
    let max = running.workers.connections_max().map_or(0, |max| max as u64);
    let up = running.started.elapsed().as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, hours, minutes, seconds) = (up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60);
    let listeners = running.snapshot.borrow().listeners.len();
    let text = |text: &str| Value::Text(text.to_owned());
    let number = Value::Number;
    let line = |number, name, tags, value, about| Line { number, name, tags, value, about };
    vec![
        line(0, "Name", "POS", text("Ravelin"), "Product name"),
        line(1, "Version", "POS", text(env!("CARGO_PKG_VERSION")), "Product version"),
        line(3, "Nbthread", "CGS", number(counters.len() as u64), "Number of workers"),
        line(4, "Nbproc", "CGS", number(1), "Number of processes, always 1"),
        line(5, "Process_num", "KGP", number(1), "Number of this process, always 1"),
        line(
            6,
            "Pid",
            "SGP",
            number(u64::from(std::process::id())),
            "Its identifier for the system",
        ),
        line(
            7,
            "Uptime",
            "MDP",
            Value::Text(format!("{days}d {hours}h{minutes:02}m{seconds:02}s")),
            "How long ago it was started (days+hours+minutes+seconds)",
        ),
        line(8, "Uptime_sec", "MDP", number(up), "How long ago it was started (seconds)"),
        line(13, "Ulimit-n", "CLP", number(descriptors), "Most descriptors that may be open"),
        line(15, "Maxconn", "CLP", number(max), "Most client connections at once; 0: any number"),
        line(17, "CurrConns", "MGP", number(connections as u64), "Client connections now"),
        line(18, "CumConns", "MCP", number(accepted), "Client connections since the start"),
        line(50, "node", "COS", Value::Text(node()), "Name of the machine"),
        line(52, "Stopping", "MGP", number(0), "1 if it is about to end"),
        line(55, "Listeners", "MGP", number(listeners as u64), "Addresses that are listened at"),
        line(
            58,
            "DroppedLogs",
            "MGP",
            number(running.log.dropped()),
            "Lines of the error log that were dropped",
        ),
        line(
            70,
            "Start_time_sec",
            "MDP",
            number(now.saturating_sub(up)),
            "When it was started, in Unix time",
        ),
    ]
}

/// The name of the machine.
fn node() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn descriptors_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "str",
            Self::Number(_) => "u32",
        }
    }

    fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn as_json(lines: &[Line]) -> Json {
    let value = |value: &Value| -> Json {
        match value {
            Value::Text(text) => text.clone().into(),
            Value::Number(number) => (*number).into(),
        }
    };
    let line = |line: &Line| {
        json!({
            "field": { "pos": line.number, "name": line.name },
            "processNum": 1,
            "tags": tags_in_words(line.tags),
            "value": { "type": line.value.kind(), "value": value(&line.value) },
        })
    };
    lines.iter().map(line).collect()
}
