//! One worker's access log: a buffer that is handed over when it is full, or when it is time.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use config::model::LogFormat;

use super::stamp::Stamp;
use super::{Record, Sink, format, json};

/// A worker's buffer is handed over when it holds this much: big enough that a write(2) a block
/// costs nothing per line.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// Formats requests into one worker's buffer. Belongs to its worker's thread.
#[derive(Debug)]
pub struct AccessLog {
    output: Option<Output>,
    /// One worker, one log: nothing here is shared between threads.
    not_send: PhantomData<Rc<()>>,
}

#[derive(Debug)]
struct Output {
    format: LogFormat,
    sink: Sink,
    pending: RefCell<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    block: Vec<u8>,
    lines: u64,
    stamp: Stamp,
}

impl AccessLog {
    /// A log in `format` whose blocks go to `sink`; without a sink nothing is logged.
    #[must_use]
    pub fn new(format: LogFormat, sink: Option<Sink>) -> Self {
        let output =
            sink.map(|sink| Output { format, sink, pending: RefCell::new(Pending::default()) });
        Self { output, not_send: PhantomData }
    }

    /// Whether records are wanted at all: when not, a caller need not build one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.output.is_some()
    }

    /// Adds one line.
    pub fn record(&self, record: &Record<'_>) {
        let Some(output) = &self.output else { return };
        let pending = &mut *output.pending.borrow_mut();
        let Pending { block, lines, stamp } = pending;
        match output.format {
            LogFormat::Combined => format::combined(block, stamp, record),
            LogFormat::Compact => format::compact(block, stamp, record),
            LogFormat::Json => json::line(block, stamp, record),
        }
        *lines += 1;
        if block.len() >= BLOCK_BYTES {
            hand_over(&output.sink, pending);
        }
    }

    /// Hands over what there is. To be called about once a second, when the worker is idle and
    /// before it ends, so that no line is held back for long.
    pub fn flush(&self) {
        let Some(output) = &self.output else { return };
        let pending = &mut *output.pending.borrow_mut();
        if !pending.block.is_empty() {
            hand_over(&output.sink, pending);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

fn hand_over(sink: &Sink, pending: &mut Pending) {
    let full = std::mem::replace(&mut pending.block, sink.block());
    sink.write(full, std::mem::take(&mut pending.lines));
}

#[cfg(test)]
mod tests {
    use super::super::{Order, sink};
    use super::*;

    fn block(source: &super::super::Source) -> Option<(Vec<u8>, u64)> {
        match source.orders.try_recv() {
            Ok(Order::Write { block, lines }) => Some((block, lines)),
            _ => None,
        }
    }

    #[test]
    fn lines_wait_for_a_flush_and_are_never_split_between_blocks() {
        let (sink, source) = sink(16);
        let log = AccessLog::new(LogFormat::Compact, Some(sink));
        log.record(&Record { status: 200, ..Record::default() });
        assert!(block(&source).is_none());
        log.flush();
        let (first, lines) = block(&source).unwrap();
        assert_eq!((first.last(), lines), (Some(&b'\n'), 1));
        log.flush();
        assert!(block(&source).is_none());

        let target = vec![b'a'; 1000];
        for _ in 0..100 {
            log.record(&Record { target: &target, ..Record::default() });
        }
        let (full, lines) = block(&source).unwrap();
        assert!(full.len() >= BLOCK_BYTES && full.len() < BLOCK_BYTES + 2000);
        assert_eq!(full.last(), Some(&b'\n'));
        drop(log);
        let (rest, more) = block(&source).unwrap();
        assert_eq!(rest.last(), Some(&b'\n'));
        assert_eq!(lines + more, 100);
    }

    #[test]
    fn a_log_without_a_sink_is_off() {
        let log = AccessLog::new(LogFormat::Json, None);
        assert!(!log.is_on());
        log.record(&Record::default());
        log.flush();
    }
}
