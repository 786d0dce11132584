//! What the bench's own load generators count, and how they tell the run that started them.
//!
//! Each is a process of its own: [`tasks`] runs its connections, counts and prints, and the run
//! reads that with [`parse`].

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::Result;
use crate::measure::Load;

/// Successes with their latencies, and failures.
#[derive(Default)]
pub(crate) struct Tally {
    latency: RefCell<Latency>,
    errors: RefCell<Vec<String>>,
}

impl Tally {
    /// Counts a success.
    pub(crate) fn record(&self, latency: Duration) {
        self.latency.borrow_mut().record(latency);
    }
}

/// Runs one task for each connection on one thread and prints what they counted.
pub(crate) fn tasks<F>(
    connections: usize,
    seconds: u64,
    start: impl Fn(Instant, Rc<Tally>) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = Rc::new(Tally::default());
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    runtime.block_on(LocalSet::new().run_until(async {
        let start = || {
            let work = start(end, Rc::clone(&tally));
            let tally = Rc::clone(&tally);
            tokio::task::spawn_local(async move {
                if let Err(error) = work.await {
                    tally.errors.borrow_mut().push(error.to_string());
                }
            })
        };
        for task in (0..connections).map(|_| start()).collect::<Vec<_>>() {
            task.await?;
        }
        Result::Ok(())
    }))?;
    print!("{}", said(&tally, begin.elapsed())?);
    Ok(())
}

/// What a run says of itself, one figure a line.
fn said(tally: &Tally, elapsed: Duration) -> Result<String> {
    let latency = tally.latency.borrow();
    let mut out = String::new();
    writeln!(out, "requests {}", latency.count)?;
    writeln!(out, "seconds {}", elapsed.as_secs_f64())?;
    writeln!(out, "p50 {}", latency.quantile(0.50))?;
    writeln!(out, "p99 {}", latency.quantile(0.99))?;
    for error in tally.errors.borrow().iter() {
        writeln!(out, "error {}", error.replace('\n', " "))?;
    }
    Ok(out)
}

/// Reads what [`tasks`] printed.
pub(crate) fn parse(said: &str) -> Result<Load> {
    let mut load = Load::default();
    for line in said.lines() {
        match line.split_once(' ') {
            Some(("requests", n)) => load.requests = n.parse()?,
            Some(("seconds", n)) => load.seconds = n.parse()?,
            Some(("p50", n)) => load.p50_us = n.parse()?,
            Some(("p99", n)) => load.p99_us = n.parse()?,
            Some(("error", text)) => load.errors.push(text.to_owned()),
            _ => return Err(format!("the load said `{line}`").into()),
        }
    }
    if load.requests == 0 {
        load.errors.push("no request succeeded".into());
    }
    Ok(load)
}

/// Latencies in microseconds, kept as counts of buckets at most 1/32 wide.
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { buckets: vec![0; 60 * 32], count: 0 }
    }
}

impl Latency {
    /// Counts one.
    pub(crate) fn record(&mut self, latency: Duration) {
        let bucket = bucket_of(latency.as_micros() as u64);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
            self.count += 1;
        }
    }

    /// The lower edge of the bucket that this share of all latencies reaches.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count as f64 * share) as u64;
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += count;
            seen > rank
        });
        reached.map_or(0, lower_edge)
    }
}

/// Values below 64 have a bucket each; above, 32 buckets share every doubling.
fn bucket_of(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(6);
    shift as usize * 32 + (value >> shift) as usize
}

fn lower_edge(bucket: usize) -> u64 {
    let shift = (bucket / 32).saturating_sub(1);
    ((bucket - shift * 32) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_close_below_their_values() {
        for value in (0..5000).chain([1 << 20, 123_456_789]) {
            let edge = lower_edge(bucket_of(value));
            assert!(edge <= value && value - edge <= value / 32, "{value} became {edge}");
        }
    }

    #[test]
    fn what_is_said_is_understood() {
        let tally = Tally::default();
        tally.record(Duration::from_micros(50));
        tally.errors.borrow_mut().push("one\nerror".to_owned());
        let load = parse(&said(&tally, Duration::from_millis(1500)).unwrap()).unwrap();
        assert_eq!((load.requests, load.seconds, load.p50_us), (1, 1.5, 50));
        assert_eq!(load.errors, ["one error"]);
    }
}
