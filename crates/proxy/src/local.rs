//! Requests that Ravelin answers itself: files, health, redirects, errors.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Instant;

use config::model::Level;
use net::buffer::Buffer;
use net::timer::unix_millis;
use wire::field::FieldId;
use wire::head::{HeadError, RequestHead};
use wire::target::Target;

use crate::connection::{ClientAddress, Connection};
use crate::decide::Action;
use crate::drain::{Left, drain};
use crate::exchange::{After, Done, Inbound, failed};
use crate::files::{Answer, Body, ClockMs, FileCache, FileRequest};
use crate::filters::{ConnectionSays, Edits};
use crate::forward::{Patience, no_upstream_timeouts};
use crate::log::{Cause, Party, Phase, Record};
use crate::redirect;
use crate::respond;
use crate::routes::{LocalAction, Route};
use crate::send::{Manner, send_answer};
use crate::snapshot::{Site, Snapshot};
use crate::worker::{Scratch, Worker};

/// Bytes of a malformed request that are shown in the log.
const SHOWN_MAX: usize = 200;

/// What an answer of Ravelin's own depends on.
pub(crate) struct Question<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// Index over the request's head.
    pub(crate) head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub(crate) bytes: &'a [u8],
    pub(crate) target: &'a Target<'a>,
    /// The client's connection has TLS.
    pub(crate) tls: bool,
    pub(crate) files: &'a RefCell<FileCache>,
    pub(crate) now: ClockMs,
}

impl<'a> Question<'a> {
    fn of(inbound: &'a Inbound<'a>) -> Self {
        let worker = &inbound.connection.worker;
        Self {
            snapshot: inbound.snapshot,
            head: inbound.head,
            bytes: inbound.bytes,
            target: &inbound.target,
            tls: inbound.connection.tls.is_some(),
            files: &worker.files,
            now: worker.context.now().as_millis(),
        }
    }

    /// The host and port as the client named them.
    pub(crate) fn authority(&self) -> &'a [u8] {
        self.head.host.map(|host| host.of(self.bytes)).unwrap_or_default()
    }

    fn find(&self, id: FieldId) -> Option<&'a [u8]> {
        self.head.get(id).map(|field| field.value.of(self.bytes))
    }

    fn file_request(&self) -> FileRequest<'a> {
        FileRequest {
            head_only: self.head.method.of(self.bytes) == b"HEAD",
            path: &self.target.path,
            asked: None,
            query: self.target.query,
            if_match: self.find(FieldId::IfMatch),
            if_none_match: self.find(FieldId::IfNoneMatch),
            if_modified_since: self.find(FieldId::IfModifiedSince),
            if_unmodified_since: self.find(FieldId::IfUnmodifiedSince),
            if_range: self.find(FieldId::IfRange),
            range: self.find(FieldId::Range),
            accept_encoding: self.find(FieldId::AcceptEncoding),
            accept: self.find(FieldId::Accept),
        }
    }
}

/// The answer to a request that is not forwarded. `None` stands for a listener without sites.
pub(crate) fn answer(
    inbound: &Inbound<'_>,
    action: Option<&Action<'_>>,
    site: Option<&Site>,
    host: &str,
) -> Answer {
    answer_to(&Question::of(inbound), action, site, host)
}

/// The same, whoever asks.
pub(crate) fn answer_to(
    question: &Question<'_>,
    action: Option<&Action<'_>>,
    site: Option<&Site>,
    host: &str,
) -> Answer {
    match action {
        Some(Action::Files) => match site.and_then(|site| site.files.as_ref()) {
            Some(files) => {
                let cache = &mut question.files.borrow_mut();
                files.answer(cache, question.now, &question.file_request())
            }
            None => Answer::error(404),
        },
        Some(Action::Health(page)) => respond::health(*page, question.snapshot, started()),
        Some(Action::ToHttps(_)) if host.is_empty() => Answer::error(400),
        Some(Action::ToHttps(to)) => {
            let port = question.snapshot.https_port(host, *to);
            respond::redirect(to.status, &respond::https_location(host, port, question.target))
        }
        Some(Action::AddSlash) => respond::redirect(301, &respond::slash_location(question.target)),
        Some(Action::ServerOptions) => respond::server_options(),
        Some(Action::Redirect(_, location, status)) => respond::redirect(*status, location),
        Some(Action::Local(route, action)) => local(question, route, action),
        Some(Action::NotAllowed(methods)) => respond::not_allowed(methods),
        Some(Action::Refuse(405)) if site.is_some_and(|site| site.proxy.is_none()) => {
            respond::not_allowed(&["GET", "HEAD"])
        }
        Some(Action::Refuse(405)) => respond::not_allowed(respond::FORWARDED_METHODS),
        Some(Action::Refuse(status)) => Answer::error(*status),
        Some(Action::Malformed(..)) => Answer::error(400),
        // A listener that is there for challenges only.
        None => Answer::error(404),
        Some(Action::Proxy(_)) => Answer::error(503),
    }
}

/// The answer of a route that answers itself.
fn local(question: &Question<'_>, route: &Route, action: &LocalAction) -> Answer {
    match action {
        LocalAction::Files(files) => {
            let mut path = Vec::new();
            route.rewrite.write(&question.target.path, &mut path);
            let asked = Some(&question.target.path[..]);
            let request = FileRequest { path: &path, asked, ..question.file_request() };
            files.answer(&mut question.files.borrow_mut(), question.now, &request)
        }
        LocalAction::Redirect { to, status } => {
            let parts = redirect::Parts {
                scheme: if question.tls { "https" } else { "http" },
                authority: question.authority(),
                path: &question.target.path,
                query: question.target.query,
            };
            match redirect::location(to, &route.path, &parts) {
                Some(location) => respond::redirect(*status, &location),
                None => Answer::error(414),
            }
        }
        LocalAction::Respond { status, body, content_type } => {
            respond::text(*status, body.as_deref(), content_type)
        }
    }
}

/// What of a request is still on the client's connection when it is answered.
#[derive(Debug)]
pub(crate) struct Rest {
    /// What is left of its body.
    pub(crate) left: Left,
    /// Bytes behind it that were read into another buffer.
    pub(crate) excess: Option<Buffer>,
}

impl Rest {
    /// Nothing was read beyond the buffer with the head.
    pub(crate) fn of(left: Left) -> Self {
        Self { left, excess: None }
    }
}

/// A response of Ravelin's own.
pub(crate) struct Reply<'a> {
    /// The response.
    pub(crate) answer: Answer,
    /// The site whose error pages are used, if one took the request.
    pub(crate) site: Option<&'a Site>,
    /// The rules for its head: those of the site, or of its proxy part.
    pub(crate) edits: &'a Edits,
    /// What of the request is still on the client's connection.
    pub(crate) rest: Rest,
}

/// Sends `reply` and takes what is left of the request off the connection.
pub(crate) async fn respond(
    inbound: &Inbound<'_>,
    reply: Reply<'_>,
    out: &mut Vec<u8>,
    request_id: &mut Vec<u8>,
    record: &mut Record<'_>,
) -> Done {
    let (connection, snapshot) = (inbound.connection, inbound.snapshot);
    let Reply { mut answer, site, edits, rest } = reply;
    if edits.uses_request_id() {
        inbound.ensure_id(request_id);
    }
    if answer.status >= 400 {
        inbound.ensure_id(request_id);
        answer = error_page(inbound, site, answer, request_id);
    }
    if let Some(says) = site.and_then(|site| site.proxy_status.as_ref()) {
        says.of_made(record, answer.status, &mut inbound.lines.borrow_mut().status);
    }
    let Rest { left, excess } = rest;
    let persist = inbound.may_persist() && left != Left::TooMuch;
    let manner = Manner {
        head_only: inbound.is_head(),
        connection: inbound.says(persist),
        edits,
        server_line: &snapshot.server_line,
        lines: Some(&inbound.lines),
        request_id,
    };
    let timeouts = no_upstream_timeouts();
    let mut patience = Patience::new(connection, &snapshot.limits, &timeouts);
    record.status = answer.status;
    let sent = send_answer(connection, &mut patience, out, &answer, &manner).await;
    inbound.note_response(out);
    let consumed = inbound.head.len;
    let done = |after, consumed, excess| Done { after, consumed, excess };
    match sent {
        Ok(bytes) => record.response_bytes = bytes,
        Err(cause) => {
            let by = if cause == Cause::Internal { Party::Proxy } else { Party::Client };
            record.ended = failed(by, Phase::Transfer, cause);
            return done(After::Reset, consumed, None);
        }
    }
    match left {
        Left::Nothing(early) if persist => done(After::Persist, consumed + early, excess),
        Left::Nothing(early) => done(After::Close, consumed + early, None),
        Left::Some(rest) if persist => match drain(connection, &mut patience, rest).await {
            Some(excess) => done(After::Persist, consumed + inbound.early.len(), excess),
            None => done(After::Linger, consumed, None),
        },
        _ => done(After::Linger, consumed, None),
    }
}

/// Why a request's head cannot be used.
pub(crate) struct Refusal {
    /// The status to answer with.
    pub(crate) status: u16,
    /// For the access log.
    pub(crate) cause: Cause,
    /// In words, for the error log.
    pub(crate) why: &'static str,
}

impl Refusal {
    /// For a plain request at a port that speaks TLS: not even its head is looked at.
    pub(crate) const PLAIN_HTTP: Self =
        Self { status: 400, cause: Cause::Tls, why: "a plain HTTP request to a TLS port" };

    /// For a head that could not be parsed.
    pub(crate) fn of(error: &HeadError) -> Self {
        let status = error.status();
        let cause = match status {
            400 => Cause::Malformed,
            414 | 431 => Cause::Limit,
            _ => Cause::Unsupported,
        };
        Self { status, cause, why: error.reason() }
    }
}

/// Tells, to those who look for a fault, why a request was refused: `cause=malformed` covers much.
pub(crate) fn explain_refusal(
    worker: &Worker,
    client: &ClientAddress,
    refusal: &Refusal,
    id: &[u8],
) {
    let log = &worker.error_log;
    if log.enabled(Level::Debug) {
        let id = String::from_utf8_lossy(id);
        let Refusal { status, why, .. } = refusal;
        match client.ip() {
            Some(ip) => log.debug(format_args!("client {ip}: {why}; answered {status} id={id}")),
            None => log.debug(format_args!("client: {why}; answered {status} id={id}")),
        }
    }
}

/// Answers a request whose head could not be read, or may not be, and logs it. The connection has to end.
pub(crate) async fn refuse(
    connection: &Connection,
    scratch: &mut Scratch,
    received: &[u8],
    refusal: Refusal,
) {
    let worker = &connection.worker;
    let snapshot = connection.snapshot();
    worker.new_request_id(&mut scratch.request_id);
    let manner = Manner {
        head_only: received.starts_with(b"HEAD "),
        connection: ConnectionSays::Close,
        edits: &Edits::default(),
        server_line: &snapshot.server_line,
        lines: None,
        request_id: &scratch.request_id,
    };
    let timeouts = no_upstream_timeouts();
    let mut patience = Patience::new(connection, &snapshot.limits, &timeouts);
    let page = match refusal.cause {
        Cause::Tls => respond::plain_http(received, &scratch.request_id),
        _ => respond::error(refusal.status, b"", &scratch.request_id),
    };
    // Whether the client still gets it changes nothing: the connection ends.
    let out = &mut scratch.heads.out;
    let sent = send_answer(connection, &mut patience, out, &page, &manner).await;
    let mut record = Record { response_bytes: sent.unwrap_or(0), ..connection.record() };
    if worker.observes() {
        record.times.head = Some(scratch.head_micros);
        connection.times_of_opening(Instant::now(), &mut record.times);
    }
    log_refusal(worker, &connection.client, scratch, received, &refusal, record);
}

/// Logs a request whose head could not be read, of which `record` says what is known of its connection.
pub(crate) fn log_refusal(
    worker: &Worker,
    client: &ClientAddress,
    scratch: &mut Scratch,
    received: &[u8],
    refusal: &Refusal,
    mut record: Record<'_>,
) {
    let Scratch { request_id, head_micros, .. } = scratch;
    if request_id.is_empty() {
        worker.new_request_id(request_id);
    }
    explain_refusal(worker, client, refusal, request_id);
    if worker.observes() {
        let line = received.split(|&byte| byte == b'\r' || byte == b'\n').next();
        let line = line.unwrap_or_default();
        record.times.head = Some(*head_micros);
        record.times.over(0);
        worker.finished(&Record {
            wall_us: (unix_millis() * 1000).saturating_sub(*head_micros),
            target: line.get(..SHOWN_MAX).unwrap_or(line),
            status: refusal.status,
            request_id,
            ended: failed(Party::Client, Phase::Head, refusal.cause),
            ..record
        });
    }
}

/// The page for an error without content: the site's own if it has one, else Ravelin's.
fn error_page(inbound: &Inbound<'_>, site: Option<&Site>, bare: Answer, id: &[u8]) -> Answer {
    if !matches!(bare.body, Body::Empty) {
        return bare;
    }
    let bare = match bare.status {
        503 if bare.fields.is_empty() => respond::unavailable(respond::RETRY_AFTER),
        _ => bare,
    };
    let worker = &inbound.connection.worker;
    let now = worker.context.now().as_millis();
    let files = site.and_then(|site| site.files.as_ref());
    let own = files.and_then(|files| {
        files.error_page(&mut worker.files.borrow_mut(), now, bare.status, &file_request(inbound))
    });
    own.unwrap_or_else(|| respond::error(bare.status, inbound.value(FieldId::Accept), id))
        .with_fields_of(bare)
}

fn file_request<'a>(inbound: &'a Inbound<'a>) -> FileRequest<'a> {
    Question::of(inbound).file_request()
}

/// When this process began to serve; asked for once at start.
pub(crate) fn started() -> Instant {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    *STARTED.get_or_init(Instant::now)
}
