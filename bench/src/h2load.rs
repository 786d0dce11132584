//! HTTP/2 load by h2load: its command line and what it prints.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::lab::Lab;
use crate::measure::Load;
use crate::tally::Latency;

/// One run of h2load.
pub(crate) struct H2load<'a> {
    pub(crate) program: &'a Path,
    pub(crate) connections: usize,
    /// Requests at once on each connection.
    pub(crate) streams: usize,
    /// A gRPC message to send with every request; GET requests without one.
    pub(crate) message: Option<Vec<u8>>,
    pub(crate) seconds: u64,
}

impl H2load<'_> {
    /// Runs it against one path of a server, over TLS.
    pub(crate) fn run(&self, lab: &Lab, target: SocketAddr, path: &str) -> Result<Load> {
        let log = lab.write("h2load.log", "")?;
        let mut args = vec!["-t1".to_owned(), format!("--log-file={}", log.display())];
        args.extend(["-D".into(), self.seconds.to_string()]);
        args.extend(["-c".into(), self.connections.to_string()]);
        args.extend(["-m".into(), self.streams.to_string()]);
        if let Some(message) = &self.message {
            args.extend(["-d".into(), lab.write("message.bin", message)?.display().to_string()]);
            args.extend(["-H".into(), "content-type: application/grpc".into()]);
            args.extend(["-H".into(), "te: trailers".into()]);
        }
        args.push(format!("https://{target}{path}"));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut load = parse(&lab.run_load(self.program, &args)?, self.seconds)?;
        let latency = latencies(&fs::read_to_string(log)?)?;
        load.p50_us = latency.quantile(0.50);
        load.p99_us = latency.quantile(0.99);
        Ok(load)
    }
}

/// Reads h2load's report: requests and every kind of failure it counts.
fn parse(text: &str, seconds: u64) -> Result<Load> {
    let mut load = Load { seconds: seconds as f64, ..Load::default() };
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [
                "requests:",
                ..,
                good,
                "succeeded",
                failed,
                "failed",
                _,
                "errored",
                late,
                "timeout",
            ] => {
                load.requests = good.parse()?;
                if (failed, late) != ("0", "0") {
                    load.errors.push(line.to_owned());
                }
            }
            ["status", "codes:", _, "2xx", "0", "3xx", "0", "4xx", "0", "5xx"] => (),
            ["status", "codes:", ..] => load.errors.push(line.to_owned()),
            _ => (),
        }
    }
    if load.requests == 0 {
        load.errors.push("no request succeeded".into());
    }
    Ok(load)
}

/// Reads h2load's log: a line for each request with its start, its status and its microseconds.
fn latencies(log: &str) -> Result<Latency> {
    let mut latency = Latency::default();
    for line in log.lines() {
        let time = line.rsplit('\t').next().and_then(|word| word.parse().ok());
        let time = time.ok_or_else(|| format!("h2load logged `{line}`"))?;
        latency.record(Duration::from_micros(time));
    }
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "finished in 2.00s, 8000.00 req/s, 523.95KB/s\n\
        requests: 16111 total, 16240 started, 16111 done, 16000 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 16000 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn a_report_is_read() {
        let load = parse(GOOD, 2).unwrap();
        assert_eq!((load.requests, load.seconds, load.errors.len()), (16_000, 2.0, 0));
    }

    #[test]
    fn failures_are_seen() {
        let failed = GOOD.replace(" 0 failed, 0 errored", " 111 failed, 111 errored");
        assert_eq!(parse(&failed, 2).unwrap().errors.len(), 1);
        let refused = GOOD.replace(" 0 5xx", " 3 5xx");
        assert_eq!(parse(&refused, 2).unwrap().errors.len(), 1);
        assert_eq!(parse("", 2).unwrap().errors.len(), 1);
    }

    #[test]
    fn a_log_is_read() {
        let latency = latencies("1\t200\t40\n2\t200\t40\n").unwrap();
        assert_eq!(latency.quantile(0.5), 40);
        assert!(latencies("1\t200\tfast\n").is_err());
    }
}
