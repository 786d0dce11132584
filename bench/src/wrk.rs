//! HTTP load by wrk: its command line and what it prints.

use std::net::SocketAddr;
use std::path::Path;

use crate::Result;
use crate::lab::Lab;
use crate::measure::Load;

/// One run of wrk.
pub(crate) struct Wrk<'a> {
    pub(crate) program: &'a Path,
    pub(crate) connections: usize,
    pub(crate) close: bool,
    pub(crate) tls: bool,
    /// Bytes of request body: a POST when not 0.
    pub(crate) body: usize,
    pub(crate) seconds: u64,
}

impl Wrk<'_> {
    /// Runs it against one path of a server.
    pub(crate) fn run(&self, lab: &Lab, target: SocketAddr, path: &str) -> Result<Load> {
        let mut args = vec!["-t1".to_owned(), "--latency".into(), "--timeout".into(), "10s".into()];
        args.push(format!("-c{}", self.connections));
        args.push(format!("-d{}s", self.seconds));
        if self.close {
            args.extend(["-H".into(), "Connection: close".into()]);
        }
        if self.body > 0 {
            let script = format!(
                "wrk.method = \"POST\"\n\
                 wrk.headers[\"Content-Type\"] = \"application/octet-stream\"\n\
                 wrk.body = string.rep(\"x\", {})\n",
                self.body
            );
            args.extend(["-s".into(), lab.write("post.lua", script)?.display().to_string()]);
        }
        let scheme = if self.tls { "https" } else { "http" };
        args.push(format!("{scheme}://{target}{path}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        parse(&lab.run_load(self.program, &args)?)
    }
}

/// Reads wrk's report: requests and time, latencies, and every kind of failure it counts.
fn parse(text: &str) -> Result<Load> {
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["50%", value] => load.p50_us = microseconds(value)?,
            ["99%", value] => load.p99_us = microseconds(value)?,
            [count, "requests", "in", time, ..] => {
                load.requests = count.parse()?;
                load.seconds = microseconds(time.trim_end_matches(','))? as f64 / 1e6;
            }
            ["Non-2xx", ..] | ["Socket", "errors:", ..] => load.errors.push(line.to_owned()),
            _ => (),
        }
    }
    if load.requests == 0 {
        load.errors.push("no request succeeded".into());
    }
    Ok(load)
}

/// wrk's times: 612.00us, 1.23ms, 4.00s, 1.02m.
fn microseconds(text: &str) -> Result<u64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6), ("h", 3600e6)];
    let found = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some((number * factor).round() as u64)
    });
    found.ok_or_else(|| format!("wrk printed `{text}` for a time").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.08ms  200.00us\n  \
        Latency Distribution\n     50%    1.02ms\n     75%    1.10ms\n     99%  612.00us\n  \
        118234 requests in 2.01s, 32.10MB read\n";

    #[test]
    fn a_report_is_read() {
        let load = parse(REPORT).unwrap();
        assert_eq!((load.requests, load.p50_us, load.p99_us), (118_234, 1020, 612));
        assert_eq!((load.seconds, load.errors.len()), (2.01, 0));
    }

    #[test]
    fn failures_are_seen() {
        let report = format!(
            "{REPORT}  Socket errors: connect 0, read 3, write 0, timeout 0\n  \
             Non-2xx or 3xx responses: 7\nRequests/sec:  1.00\n"
        );
        assert_eq!(parse(&report).unwrap().errors.len(), 2);
    }
}
