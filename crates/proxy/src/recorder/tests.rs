use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::exchange::TEXT_MAX;
use super::*;
use crate::exchange::failed;
use crate::log::{Cause, Phase, Times};

fn record(target: &[u8], total: u64) -> Record<'_> {
    Record {
        wall_us: 1_000_000 + total,
        method: b"GET",
        target,
        version: "HTTP/1.1",
        status: 200,
        times: Times { total, ..Times::default() },
        ..Record::default()
    }
}

fn targets(found: &[Kept]) -> Vec<String> {
    let target = |kept: &Kept| String::from_utf8_lossy(kept.exchange().text(Text::Target)).into();
    found.iter().map(target).collect()
}

#[test]
fn the_last_ones_are_kept_in_their_order_whatever_the_size_of_their_texts() {
    let recorder = Recorder::new(64 * 1024);
    let mut all = Vec::new();
    for number in 0..5000usize {
        // Sizes without a common factor, so that the ring wraps at ever other places.
        let target = format!("/{number}/{}", "x".repeat(number * 37 % 251));
        recorder.finished(&record(target.as_bytes(), 1));
        all.push(target);
    }
    let found = targets(&recorder.look(Which::Last, LOOK_MAX));
    assert!(found.len() > 50, "{}", found.len());
    let expected: Vec<String> = all
        .iter()
        .rev()
        .take(found.len())
        .map(|target| target.get(..Text::Target.max()).unwrap_or(target).to_owned())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn memory_is_what_was_asked_for_and_does_not_grow() {
    for bytes in [64 * 1024, DEFAULT_BYTES] {
        let mut ring = Ring::new(bytes);
        let before = ring.bytes();
        assert!(before <= bytes + bytes / 16, "{before} of {bytes}");
        let long = vec![b'x'; 2000];
        for _ in 0..10_000 {
            let record = Record { user_agent: &long, ..record(&long, 1) };
            ring.push(&Exchange::of(&record));
        }
        assert_eq!(ring.bytes(), before);
    }
    // Even one that is far too small holds an exchange.
    let recorder = Recorder::new(1);
    recorder.finished(&record(b"/a", 1));
    recorder.finished(&record(b"/b", 1));
    assert_eq!(targets(&recorder.look(Which::Last, 10)), ["/b"]);
}

#[test]
fn a_text_that_is_cut_is_marked() {
    let long = vec![b'x'; 2000];
    let kept = Kept::new(&Exchange::of(&Record { host: b"a", ..record(&long, 1) }));
    let exchange = kept.exchange();
    assert_eq!(exchange.text(Text::Target).len(), Text::Target.max());
    assert!(exchange.is_cut(Text::Target) && !exchange.is_cut(Text::Host));
    assert_eq!(exchange.text(Text::Host), b"a");
}

#[test]
fn the_slowest_are_kept_among_many() {
    let recorder = Recorder::new(256 * 1024);
    for number in 0..10_000u64 {
        // All from 0 to 9999 in an order without sense.
        let total = number * 7919 % 10_000;
        recorder.finished(&record(format!("/{total}").as_bytes(), total));
    }
    let found = recorder.look(Which::Slow, 10);
    let expected: Vec<String> = (9990..10_000).rev().map(|total| format!("/{total}")).collect();
    assert_eq!(targets(&found), expected);
    // A WebSocket is not slow.
    recorder.finished(&Record { status: 101, ..record(b"/ws", 1_000_000) });
    assert_eq!(targets(&recorder.look(Which::Slow, 1)), ["/9999"]);
}

#[test]
fn the_slowest_are_those_of_the_last_minutes() {
    let later = |spans: u64| Tick::from(spans * SPAN.as_millis() as u64);
    let mut slowest = Slowest::new(4 * TEXT_MAX, later(0));
    let offer = |slowest: &mut Slowest, target: &'static [u8], total| {
        slowest.offer(&Exchange::of(&record(target, total)));
    };
    let all = |slowest: &Slowest| {
        let mut all: Vec<u64> = slowest.iter().map(|found| found.facts.total_us).collect();
        all.sort_unstable();
        all
    };
    offer(&mut slowest, b"/old", 500);
    slowest.turn(later(1));
    offer(&mut slowest, b"/new", 5);
    assert_eq!(all(&slowest), [5, 500]);
    slowest.turn(later(2));
    assert_eq!(all(&slowest), [5]);
    // Nothing came for two spans.
    slowest.turn(later(4));
    assert_eq!(all(&slowest), [0u64; 0]);
}

#[test]
fn failures_of_clients_push_out_no_others() {
    let recorder = Recorder::new(64 * 1024);
    let by = |by, cause| failed(by, Phase::Head, cause);
    let broken = by(Party::Upstream, Cause::Reset);
    recorder.finished(&Record { ended: broken, status: 502, ..record(b"/up", 1) });
    for _ in 0..10_000 {
        let nonsense = by(Party::Client, Cause::Malformed);
        recorder.finished(&Record { ended: nonsense, status: 400, ..record(b"/x", 1) });
    }
    recorder.finished(&Record { status: 500, ..record(b"/500", 1) });
    let mut found = recorder.look(Which::Failed, LOOK_MAX);
    found.retain(|kept| kept.exchange().facts.status >= 500);
    assert_eq!(targets(&found), ["/500", "/up"]);
    assert_eq!(recorder.look(Which::Failed, 10).len(), 10);
    assert!(!targets(&recorder.look(Which::Last, LOOK_MAX)).contains(&"/up".to_owned()));
}

#[test]
fn one_that_is_off_keeps_nothing_and_may_be_turned_on() {
    let recorder = Recorder::new(0);
    assert!(!recorder.is_on());
    recorder.finished(&record(b"/a", 1));
    assert!(recorder.look(Which::Last, 10).is_empty());
    recorder.resize(64 * 1024);
    recorder.finished(&record(b"/b", 1));
    recorder.resize(64 * 1024);
    assert_eq!(targets(&recorder.look(Which::Last, 10)), ["/b"]);
}

fn subscription(queue: usize, rate: u32) -> (Subscription, mpsc::Receiver<Kept>) {
    let (sink, source) = mpsc::channel(queue);
    let missed = Arc::new(AtomicU64::new(0));
    (Subscription { filter: None, sink, missed, rate }, source)
}

#[test]
fn who_watches_gets_what_the_filter_lets_pass() {
    let recorder = Recorder::new(0);
    let (subscription, mut source) = subscription(10, 1000);
    let filter = Some(Arc::new(Filter::parse("path == /b").unwrap()));
    assert!(recorder.subscribe(Subscription { filter, ..subscription }));
    assert!(recorder.is_on());
    recorder.finished(&record(b"/a", 1));
    recorder.finished(&record(b"/b?c", 1));
    assert_eq!(source.try_recv().unwrap().exchange().text(Text::Target), b"/b?c");
    assert!(source.try_recv().is_err());
    drop(source);
    recorder.sweep(Tick::now());
    assert!(!recorder.is_on());
}

#[test]
fn who_does_not_read_or_gets_too_many_misses_some_and_that_is_counted() {
    let recorder = Recorder::new(0);
    let (slow, mut slow_source) = subscription(2, 1000);
    let (bounded, mut bounded_source) = subscription(1000, 5);
    let missed = [Arc::clone(&slow.missed), Arc::clone(&bounded.missed)];
    assert!(recorder.subscribe(slow) && recorder.subscribe(bounded));
    for _ in 0..100 {
        recorder.finished(&record(b"/a", 1));
    }
    let count = |source: &mut mpsc::Receiver<Kept>| {
        std::iter::from_fn(|| source.try_recv().ok()).count() as u64
    };
    assert_eq!(count(&mut slow_source), 2);
    // The second may have ended in between.
    let got = count(&mut bounded_source);
    assert!((5..=10).contains(&got), "{got}");
    let missed = missed.map(|missed| missed.load(Ordering::Relaxed));
    assert_eq!(missed, [98, 100 - got]);
}

#[test]
fn there_are_only_so_many_who_watch() {
    let recorder = Recorder::new(0);
    let mut sources = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (subscription, source) = subscription(1, 1);
        assert!(recorder.subscribe(subscription));
        sources.push(source);
    }
    assert!(!recorder.subscribe(subscription(1, 1).0));
    sources.pop();
    assert!(recorder.subscribe(subscription(1, 1).0));
}
