//! One worker's access log: a buffer that is handed over when it is full, or when it is time.
//!
//! What it is like can be changed while it is written ([`AccessLog::set`]); lines that were recorded
//! before go where they were meant to go.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use config::model::{LogFormat, Sampling};
use net::prefetch::prefetch;

use super::sampling::Chance;
use super::stamp::Stamp;
use super::{Record, Sink, Total, format, json, own};

/// A worker's buffer is handed over when it holds this much: big enough that what there is to do for each
/// costs little per line, also for the writer, which takes several at a time where lines come fast. With
/// 64 KiB that costs as much as the lines, where a worker shares its core with the writer.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes of most lines.
const LINE_USUAL: usize = 512;

/// What an access log is like.
#[derive(Debug, Clone)]
pub struct AccessSettings {
    /// Where blocks of lines go.
    pub sink: Sink,
    /// Shape of a line.
    pub format: LogFormat,
    /// Which requests have one.
    pub sampling: Sampling,
    /// So have connections that ended before they had a request.
    pub failed_connections: bool,
}

/// Formats requests into one worker's buffer. Belongs to its worker's thread.
#[derive(Debug)]
pub struct AccessLog {
    on: Cell<bool>,
    shows_fields: Cell<bool>,
    /// Names of response fields that lines show.
    response_fields: RefCell<Rc<[String]>>,
    output: RefCell<Option<Output>>,
    /// Lines that were lost, also while the log is off.
    lost: RefCell<Total>,
    /// One worker, one log: nothing here is shared between threads.
    not_send: PhantomData<Rc<()>>,
}

#[derive(Debug)]
struct Output {
    settings: AccessSettings,
    pending: Pending,
}

#[derive(Debug, Default)]
struct Pending {
    block: Vec<u8>,
    lines: u64,
    stamp: Stamp,
    room: json::Room,
}

impl AccessLog {
    /// A log like this; nothing is logged without settings.
    #[must_use]
    pub fn new(settings: Option<AccessSettings>) -> Self {
        let log = Self {
            on: Cell::new(false),
            shows_fields: Cell::new(false),
            response_fields: RefCell::new(Rc::new([])),
            output: RefCell::new(None),
            lost: RefCell::default(),
            not_send: PhantomData,
        };
        log.set(settings);
        log
    }

    /// From the next record on the log is like this. What was recorded before is handed over.
    pub fn set(&self, settings: Option<AccessSettings>) {
        self.flush();
        self.on.set(settings.is_some());
        let fields = match settings.as_ref().map(|settings| &settings.format) {
            Some(LogFormat::Own(own)) => own.response_fields.as_slice().into(),
            _ => Rc::new([]) as Rc<[String]>,
        };
        self.shows_fields.set(!fields.is_empty());
        self.response_fields.replace(fields);
        if let Some(settings) = &settings {
            self.lost.replace(settings.sink.total());
        }
        let pending = Pending::default();
        self.output.replace(settings.map(|settings| Output { settings, pending }));
    }

    /// Whether records are wanted at all: when not, a caller need not build one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.get()
    }

    /// Whether lines show fields of responses.
    #[must_use]
    pub fn shows_response_fields(&self) -> bool {
        self.shows_fields.get()
    }

    /// Names of response fields, in lower case, that a record should have, in this order.
    #[must_use]
    pub fn response_fields(&self) -> Rc<[String]> {
        Rc::clone(&self.response_fields.borrow())
    }

    /// Lines that were dropped since the start, of all workers with the same log.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lost.try_borrow().map_or(0, |lost| lost.lines())
    }

    /// Adds one line, unless chance has it that there is none for this request.
    pub fn record(&self, record: &Record<'_>) {
        // What fails while it writes a line has nothing more to say.
        let Ok(mut output) = self.output.try_borrow_mut() else { return };
        let Some(Output { settings, pending }) = &mut *output else { return };
        let chance = match settings.sampling.is_all() {
            true => Chance::ALL,
            false => match Chance::of(&settings.sampling, record) {
                Some(chance) => chance,
                None => return,
            },
        };
        pending.add(settings, record, chance);
    }

    /// Adds a line for a connection that ended before it had a request, if those are wanted.
    pub fn failed_connection(&self, record: &Record<'_>) {
        let Ok(mut output) = self.output.try_borrow_mut() else { return };
        let Some(Output { settings, pending }) = &mut *output else { return };
        if settings.failed_connections {
            pending.add(settings, record, Chance::ALL);
        }
    }

    /// Hands over what there is. To be called about once a second, when the worker is idle and
    /// before it ends, so that no line is held back for long.
    pub fn flush(&self) {
        let Ok(mut output) = self.output.try_borrow_mut() else { return };
        let Some(Output { settings, pending }) = &mut *output else { return };
        if !pending.block.is_empty() {
            pending.hand_over(&settings.sink);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Pending {
    fn add(&mut self, settings: &AccessSettings, record: &Record<'_>, chance: Chance) {
        let Self { block, lines, stamp, room } = self;
        match &settings.format {
            LogFormat::Combined => format::combined(block, stamp, record, chance),
            LogFormat::Compact => format::compact(block, stamp, record, chance),
            LogFormat::Json => json::line(block, room, stamp, record, chance),
            LogFormat::Own(own) => own::line(block, stamp, record, chance, own),
        }
        *lines += 1;
        if block.len() >= BLOCK_BYTES {
            self.hand_over(&settings.sink);
        }
        // Where the next line goes, for which there is time until then.
        let next = &*self.block.spare_capacity_mut();
        prefetch(next.get(..LINE_USUAL).unwrap_or(next));
    }

    fn hand_over(&mut self, sink: &Sink) {
        let full = std::mem::replace(&mut self.block, sink.block());
        sink.write(full, std::mem::take(&mut self.lines));
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local};
    use super::super::{Cause, Order, Party, Phase, sink};
    use super::*;

    fn settings(format: LogFormat, sink: Sink) -> AccessSettings {
        AccessSettings { sink, format, sampling: Sampling::default(), failed_connections: false }
    }

    fn block(source: &super::super::Source) -> Option<(Vec<u8>, u64)> {
        match source.orders.try_recv() {
            Ok(Order::Write(block)) => Some((block.bytes, block.lines)),
            _ => None,
        }
    }

    #[test]
    fn lines_wait_for_a_flush_and_are_never_split_between_blocks() {
        let (sink, source) = sink(16);
        let log = AccessLog::new(Some(settings(LogFormat::Compact, sink)));
        log.record(&Record { status: 200, ..Record::default() });
        assert!(block(&source).is_none());
        log.flush();
        let (first, lines) = block(&source).unwrap();
        assert_eq!((first.last(), lines), (Some(&b'\n'), 1));
        log.flush();
        assert!(block(&source).is_none());

        let target = vec![b'a'; 1000];
        for _ in 0..400 {
            log.record(&Record { target: &target, ..Record::default() });
        }
        let (full, lines) = block(&source).unwrap();
        assert!(full.len() >= BLOCK_BYTES && full.len() < BLOCK_BYTES + 2000);
        assert_eq!(full.last(), Some(&b'\n'));
        drop(log);
        let (rest, more) = block(&source).unwrap();
        assert_eq!(rest.last(), Some(&b'\n'));
        assert_eq!(lines + more, 400);
    }

    #[test]
    fn a_log_without_settings_is_off() {
        let log = AccessLog::new(None);
        assert!(!log.is_on());
        log.record(&Record::default());
        log.flush();
    }

    #[test]
    fn a_log_that_is_changed_loses_nothing() {
        let (old, old_source) = sink(4);
        let (new, new_source) = sink(4);
        let log = AccessLog::new(Some(settings(LogFormat::Compact, old)));
        log.record(&local());
        log.set(Some(settings(LogFormat::Json, new)));
        assert!(block(&old_source).unwrap().0.starts_with(b"2026-"));
        log.record(&local());
        log.set(None);
        assert!(block(&new_source).unwrap().0.starts_with(b"{\"time\""));
        assert!(!log.is_on());
    }

    #[test]
    fn what_is_sampled_says_so_and_what_failed_is_always_there() {
        let (sink, source) = sink(4);
        let sampling = Sampling { of_million: 100_000, ..Sampling::default() };
        let log =
            AccessLog::new(Some(AccessSettings { sampling, ..settings(LogFormat::Compact, sink) }));
        let ids: Vec<String> = (0..10_000).map(|number| format!("id-{number}")).collect();
        for id in &ids {
            log.record(&Record { request_id: id.as_bytes(), ..local() });
        }
        for _ in 0..100 {
            log.record(&failed(502, Party::Upstream, Phase::Connect, Cause::Refused));
        }
        log.flush();
        let mut text = Vec::new();
        while let Some((block, _)) = block(&source) {
            text.extend(block);
        }
        let text = String::from_utf8(text).unwrap();
        let sampled = text.lines().filter(|line| line.contains(" sample=0.1")).count();
        let always = text.lines().filter(|line| line.contains(" sample=1 ")).count();
        assert!((800..1200).contains(&sampled), "{sampled}");
        assert_eq!(always, 100, "{text}");
    }
}
