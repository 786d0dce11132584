//! What it costs to keep what is known of one request: a line of the access log, in each format, and a
//! place in the recorder.
//!
//! In a loop everything is in the cache of the one core, so these are the least it may cost; the scenario
//! `observed-keepalive-64` shows what a whole request costs with everything on.

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use config::model::{
    LogEscape, LogFormat, LogPiece, LogTime, LogValue, OwnFormat, Sampling, TimeUnit,
};
use proxy::log::{AccessLog, AccessSettings, Order, Record, Times, sink};
use proxy::recorder::{DEFAULT_BYTES, Recorder};

use crate::Result;

/// Requests of one measurement.
const REQUESTS: u32 = 1_000_000;
/// Blocks that may wait for the thread that throws them away.
const BLOCKS: usize = 16;

/// Measures everything and writes nanoseconds a request to standard output.
pub(crate) fn measure() -> Result<()> {
    let some = Sampling { of_million: 10_000, ..Sampling::default() };
    println!("| kept | ns |\n|---|---|");
    for (name, format, sampling) in [
        ("combined", LogFormat::Combined, Sampling::default()),
        ("compact", LogFormat::Compact, Sampling::default()),
        ("json", LogFormat::Json, Sampling::default()),
        ("a format of one's own, five values", own(), Sampling::default()),
        ("json, one in a hundred", LogFormat::Json, some),
    ] {
        println!("| {name} | {:.0} |", line(Some((format, sampling)))?);
    }
    println!("| no line | {:.0} |", line(None)?);
    println!("| in the recorder | {:.0} |", recorded());
    Ok(())
}

/// Nanoseconds a line takes.
fn line(of: Option<(LogFormat, Sampling)>) -> Result<f64> {
    let (sink, source) = sink(BLOCKS);
    let writer = thread::spawn(move || {
        while let Ok(Order::Write(block)) = source.orders.recv() {
            source.recycle(block.bytes);
        }
    });
    let settings =
        |(format, sampling)| AccessSettings { sink, format, sampling, failed_connections: false };
    let log = AccessLog::new(of.map(settings));
    let nanos = nanos(|number| log.record(black_box(&record(number))));
    drop(log);
    writer.join().map_err(|_| "the writer of lines panicked")?;
    Ok(nanos)
}

/// Nanoseconds it takes to be recorded.
fn recorded() -> f64 {
    let recorder = Recorder::new(DEFAULT_BYTES);
    nanos(|number| recorder.finished(black_box(&record(number))))
}

fn nanos(mut keep: impl FnMut(u32)) -> f64 {
    let began = Instant::now();
    (0..REQUESTS).for_each(&mut keep);
    began.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
}

/// A request that was answered by an upstream.
fn record(number: u32) -> Record<'static> {
    Record {
        wall_us: 1_795_232_881_000_000 + u64::from(number) * 10,
        client: Some([192, 0, 2, 7].into()),
        client_port: (number % 60_000) as u16,
        method: b"GET",
        target: b"/api/users/1234567?fields=name,mail",
        version: "HTTP/1.1",
        status: 200,
        response_bytes: 612,
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        host: b"www.example.com",
        site: "main",
        route: Some("/api/"),
        endpoint: "http://10.0.0.2:8080",
        attempts: 1,
        reused: true,
        request_id: b"01a1fc8c-3350-79a9-8cc9-c20bcf520caa",
        times: Times { head: Some(9), first_byte: Some(1_100), total: 1_204, ..Times::default() },
        ..Record::default()
    }
}

fn own() -> LogFormat {
    let text = |text: &str| LogPiece::Text(text.to_owned());
    LogFormat::Own(Arc::new(OwnFormat {
        pieces: vec![
            LogPiece::Value(LogValue::Client),
            text(" "),
            LogPiece::Value(LogValue::Method),
            text(" "),
            LogPiece::Value(LogValue::Path),
            text(" "),
            LogPiece::Value(LogValue::Status),
            text(" "),
            LogPiece::Time(LogTime::Total, TimeUnit::Seconds),
        ],
        escape: LogEscape::Default,
        response_fields: Vec::new(),
    }))
}
