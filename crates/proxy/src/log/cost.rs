//! What a line costs: `cargo test --release -p proxy log::cost -- --ignored --nocapture`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use config::model::{
    LogEscape, LogFormat, LogPiece, LogTime, LogValue, OwnFormat, Sampling, TimeUnit,
};

use super::record::tests::proxied;
use super::{AccessLog, AccessSettings, Order, Record, sink};

/// Lines of each format.
const LINES: u32 = 2_000_000;

#[test]
#[ignore = "a measurement, not a test"]
fn nanoseconds_a_line() {
    let text = |text: &str| LogPiece::Text(text.to_owned());
    let own = OwnFormat {
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
    };
    let some = Sampling { of_million: 10_000, ..Sampling::default() };
    let all = Sampling::default();
    for (name, format, sampling) in [
        ("combined", LogFormat::Combined, all.clone()),
        ("compact", LogFormat::Compact, all.clone()),
        ("json", LogFormat::Json, all.clone()),
        ("own, five values", LogFormat::Own(Arc::new(own)), all),
        ("json, one in a hundred", LogFormat::Json, some),
    ] {
        println!("{name}: {:.0} ns", time(Some((format, sampling))));
    }
    println!("off: {:.1} ns", time(None));
}

fn time(of: Option<(LogFormat, Sampling)>) -> f64 {
    let (sink, source) = sink(16);
    let drain = std::thread::spawn(move || {
        while let Ok(Order::Write { block, .. }) = source.orders.recv() {
            source.recycle(block);
        }
    });
    let log = AccessLog::new(of.map(|(format, sampling)| AccessSettings {
        sink,
        format,
        sampling,
        failed_connections: false,
    }));
    let began = Instant::now();
    for number in 0..LINES {
        let record = Record {
            wall_us: 1_795_232_881_000_000 + u64::from(number) * 10,
            client_port: (number % 60_000) as u16,
            request_id: b"01a1fc8c-3350-79a9-8cc9-c20bcf520caa",
            ..proxied()
        };
        log.record(black_box(&record));
    }
    let nanos = began.elapsed().as_nanos() as f64 / f64::from(LINES);
    drop(log);
    drain.join().unwrap();
    nanos
}
