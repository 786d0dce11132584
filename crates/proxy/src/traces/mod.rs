//! Which trace a request belongs to (W3C Trace Context), and what is told of it to a collector.
//!
//! What always holds: a request costs nothing here unless the configuration asks for traces; what a
//! client says is taken over only if it is valid, whole and allowed; spans are only made of exchanges that
//! are recorded, and handed over by a queue that never makes a worker wait ([`SpanSink`]).

mod span;

pub use span::{AttemptSpan, SPANS_MAX, Span, SpanCounts, SpanSink, spans};

use std::cell::RefCell;

use config::model::{SHARE_WHOLE, TraceAccept, Tracing};
use wire::field::FieldId;
use wire::head::RequestHead;
use wire::trace_context::{TraceParent, write_hex};

use crate::log::Record;

/// The id of a span.
pub type SpanId = [u8; 8];

/// Attempts of one exchange that have a span of their own; hardly any has more.
const ATTEMPTS_MAX: usize = 16;

/// How requests are traced, ready to be asked.
#[derive(Debug, Clone)]
pub struct Settings {
    accept: TraceAccept,
    /// A trace whose last eight bytes are a number below this, as 64 bits, is recorded.
    threshold: u128,
    parent_based: bool,
    /// Who takes spans, if somebody does.
    sink: Option<SpanSink>,
}

impl Settings {
    /// What `tracing` says; `None` if requests are not traced. Spans go to `sink`.
    #[must_use]
    pub fn compile(tracing: &Tracing, sink: Option<SpanSink>) -> Option<Self> {
        let sink = sink.filter(|_| tracing.endpoint.is_some());
        (tracing.propagate || sink.is_some()).then(|| Self {
            accept: tracing.accept,
            threshold: (u128::from(tracing.sample) << 64) / u128::from(SHARE_WHOLE),
            parent_based: tracing.parent_based,
            sink,
        })
    }

    fn samples(&self, trace_id: [u8; 16]) -> bool {
        u128::from(u128::from_be_bytes(trace_id) as u64) < self.threshold
    }
}

/// What is known of the trace of one request.
#[derive(Debug)]
pub struct Traced<'s> {
    /// The trace.
    pub trace_id: [u8; 16],
    /// Ravelin's span in it.
    pub span_id: SpanId,
    /// The span of who made the request; `None` if the trace begins here.
    pub parent: Option<SpanId>,
    /// Whoever takes part in it may record its spans.
    pub sampled: bool,
    /// Where its spans go, if they are recorded.
    sink: Option<&'s SpanSink>,
    attempts: RefCell<Vec<AttemptSpan>>,
}

impl<'s> Traced<'s> {
    /// The trace of the request with this head. `random` gives numbers for ids.
    pub fn of(
        settings: &'s Settings,
        (head, bytes): (&RequestHead, &[u8]),
        peer_trusted: impl FnOnce() -> bool,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let counts = match settings.accept {
            TraceAccept::Always => true,
            TraceAccept::Trusted => peer_trusted(),
            TraceAccept::Never => false,
        };
        let caller = counts.then(|| caller(head, bytes)).flatten();
        let mut id = || random().max(1);
        let new_trace = u128::from(id()) << 64 | u128::from(id());
        let span_id = id().to_be_bytes();
        let trace_id = caller.map_or(new_trace.to_be_bytes(), |caller| caller.trace_id);
        let sampled = match caller {
            Some(caller) if settings.parent_based => caller.sampled,
            _ => settings.samples(trace_id),
        };
        Self {
            trace_id,
            span_id,
            parent: caller.map(|caller| caller.span_id),
            sampled,
            sink: settings.sink.as_ref().filter(|_| sampled),
            attempts: RefCell::default(),
        }
    }

    /// The trace as text.
    #[must_use]
    pub fn trace_text(&self) -> [u8; 32] {
        let mut text = [0; 32];
        write_hex(&self.trace_id, &mut text);
        text
    }

    /// Its spans are recorded here.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.sink.is_some()
    }

    /// The exchange is over: hands its spans over, if they are recorded.
    pub(crate) fn finished(&self, record: &Record<'_>) {
        if let Some(sink) = self.sink {
            sink.tell(record, self);
        }
    }

    /// An attempt at `endpoint` begins, `micros` after the head of the request was there.
    pub fn begin_attempt(&self, endpoint: &str, micros: u64, random: u64) -> SpanId {
        let id = random.max(1).to_be_bytes();
        if self.is_recorded()
            && let Ok(mut attempts) = self.attempts.try_borrow_mut()
            && attempts.len() < ATTEMPTS_MAX
        {
            attempts.push(AttemptSpan::new(id, endpoint, micros));
        }
        id
    }

    /// The attempt at `endpoint` under way was answered, or failed.
    pub fn attempt_ended(&self, endpoint: &str, micros: u64, how: Result<u16, &'static str>) {
        if !self.is_recorded() {
            return;
        }
        if let Ok(mut attempts) = self.attempts.try_borrow_mut() {
            // Two may be under way at once, but not at one endpoint.
            let open = attempts.iter_mut().rev().find(|one| one.endpoint == endpoint);
            if let Some(attempt) = open {
                attempt.ended(micros, how);
            }
        }
    }

    /// What an upstream is told, in an attempt with the span `attempt`; `None` if what the client sent
    /// goes on as it came.
    #[must_use]
    pub fn for_upstream(&self, attempt: SpanId) -> Option<TraceParent> {
        match (self.is_recorded(), self.parent) {
            (false, Some(_)) => None,
            (false, None) => Some(self.says(self.span_id)),
            (true, _) => Some(self.says(attempt)),
        }
    }

    /// A `tracestate` that came along belongs to another trace.
    #[must_use]
    pub fn drops_state(&self) -> bool {
        self.parent.is_none()
    }

    fn says(&self, span_id: SpanId) -> TraceParent {
        TraceParent { trace_id: self.trace_id, span_id, sampled: self.sampled }
    }
}

/// What the client says; `None` unless it says one thing that is valid (§4.3), and not to Ravelin alone: a
/// field that `Connection` names does not go on (RFC 9110 §7.6.1).
fn caller(head: &RequestHead, bytes: &[u8]) -> Option<TraceParent> {
    let mut fields = head.fields.iter().filter(|field| field.id == FieldId::Traceparent);
    let first = fields.next()?;
    let is_for_all = !head.nominated(bytes, b"traceparent");
    match fields.next() {
        None if is_for_all => TraceParent::parse(first.value.of(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use wire::head::{HeadLimits, Parse};

    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    fn settings(sample: u32, records: bool) -> Settings {
        let endpoint = Some("http://127.0.0.1:4318/v1/traces".to_owned());
        let tracing = Tracing { propagate: true, sample, endpoint, ..Tracing::default() };
        Settings::compile(&tracing, records.then(|| spans(Default::default()).0)).unwrap()
    }

    fn traced<'s>(settings: &'s Settings, fields: &str) -> Traced<'s> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        let parsed = head.parse(text.as_bytes(), 0, &HeadLimits { bytes: 8192, fields: 50 });
        assert!(matches!(parsed, Ok(Parse::Complete)));
        let mut last = 0x0102_0304_0506_0700;
        Traced::of(
            settings,
            (&head, text.as_bytes()),
            || false,
            || {
                last += 1;
                last
            },
        )
    }

    #[test]
    fn a_valid_trace_is_taken_over_and_goes_on_as_it_came() {
        let settings = settings(0, false);
        let traced = traced(&settings, &format!("Traceparent: {CALLER}-01\r\n"));
        assert_eq!(traced.trace_id[0], 0x0a);
        assert!(traced.sampled && !traced.is_recorded() && !traced.drops_state());
        assert_eq!(traced.for_upstream([7; 8]), None);
    }

    #[test]
    fn a_recorded_attempt_is_the_parent_of_what_the_upstream_does() {
        let all = settings(SHARE_WHOLE, true);
        let traced = traced(&all, &format!("traceparent: {CALLER}-01\r\n"));
        let said = traced.for_upstream([7; 8]).unwrap();
        assert_eq!((said.trace_id[0], said.span_id, said.sampled), (0x0a, [7; 8], true));
        assert_eq!(traced.parent.unwrap()[0], 0xb7);
    }

    #[test]
    fn a_caller_that_does_not_record_is_followed_unless_told_otherwise() {
        let fields = format!("traceparent: {CALLER}-00\r\n");
        let all = settings(SHARE_WHOLE, true);
        assert!(!traced(&all, &fields).is_recorded());
        assert!(traced(&Settings { parent_based: false, ..all }, &fields).is_recorded());
    }

    #[test]
    fn what_is_not_valid_or_not_one_begins_a_new_trace() {
        let twice = format!("traceparent: {CALLER}-01\r\ntraceparent: {CALLER}-01\r\n");
        let for_one = format!("Connection: traceparent\r\ntraceparent: {CALLER}-01\r\n");
        for fields in ["", "traceparent: nonsense\r\n", &twice, &for_one] {
            let all = settings(SHARE_WHOLE, false);
            let traced = traced(&all, fields);
            assert!(traced.parent.is_none() && traced.drops_state() && traced.sampled, "{fields}");
            let said = traced.for_upstream([7; 8]).unwrap();
            assert_eq!((said.trace_id, said.span_id), (traced.trace_id, traced.span_id));
        }
    }

    #[test]
    fn nobody_who_is_not_trusted_names_a_trace_where_only_those_may() {
        let fields = format!("traceparent: {CALLER}-01\r\n");
        for (accept, taken) in [
            (TraceAccept::Always, true),
            (TraceAccept::Trusted, false),
            (TraceAccept::Never, false),
        ] {
            let settings = Settings { accept, ..settings(0, false) };
            assert_eq!(traced(&settings, &fields).parent.is_some(), taken, "{accept:?}");
        }
    }

    #[test]
    fn the_share_of_traces_is_that_of_their_ids() {
        let half = settings(SHARE_WHOLE / 2, false);
        let ids = (0..=255_u8).map(|high| {
            let mut id = [0xff; 16];
            id[8] = high;
            id
        });
        assert_eq!(ids.filter(|id| half.samples(*id)).count(), 128);
        assert!(!settings(0, false).samples([0; 16]));
        assert!(settings(SHARE_WHOLE, false).samples([0xff; 16]));
    }

    #[test]
    fn what_finds_the_queue_full_is_counted_and_nobody_waits() {
        let (sink, _queue) = spans(Default::default());
        let endpoint = Some("http://127.0.0.1:4318/v1/traces".to_owned());
        let tracing = Tracing { endpoint, ..Tracing::default() };
        let settings = Settings::compile(&tracing, Some(sink.clone())).unwrap();
        let traced = traced(&settings, "");
        traced.begin_attempt("http://a", 0, 1);
        (0..SPANS_MAX + 3).for_each(|_| traced.finished(&Record::default()));
        let lost = sink.counts().queue_full.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(lost, 6, "an exchange and an attempt each");
    }
}
