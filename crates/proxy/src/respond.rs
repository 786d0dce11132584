//! Responses that Ravelin makes itself: errors, redirects, health.

use std::rc::Rc;
use std::time::Instant;

use net::timer::unix_millis;
use wire::target::Target;

use crate::decide::Health;
use crate::files::{Answer, Body, Fields};
use crate::log::rfc3339;
use crate::snapshot::Snapshot;

/// The page for an error: HTML for clients that accept it by name, as browsers do; JSON else.
pub(crate) fn error(status: u16, accept: &[u8], request_id: &[u8]) -> Answer {
    error_page(status, (reason(status), advice(status)), accept, request_id)
}

/// The page for a plain request at a port that speaks TLS; `head` is as much as there is of its head.
pub(crate) fn plain_http(head: &[u8], request_id: &[u8]) -> Answer {
    const WORDS: (&str, &str) = (
        "the plain HTTP request was sent to an HTTPS port",
        "The plain HTTP request was sent to an HTTPS port: the address has to begin with https://",
    );
    error_page(400, WORDS, head, request_id)
}

/// A page with an error for programs, and advice for people.
fn error_page(
    status: u16,
    (error, advice): (&str, &str),
    accept: &[u8],
    request_id: &[u8],
) -> Answer {
    let reason = reason(status);
    let id = String::from_utf8_lossy(request_id);
    let html = accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"));
    let (media_type, page) = match html {
        true => (
            "text/html; charset=utf-8",
            format!(
                "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
                 <meta name=\"viewport\" content=\"width=device-width\">\
                 <title>{status} {reason}</title>\n\
                 <style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;\
                 max-width:34rem;margin:18vh auto;padding:0 1rem}}code{{opacity:.7}}</style>\n\
                 <h1>{status} {reason}</h1>\n<p>{}</p>\n<p><code>{id}</code></p>\n</html>\n",
                advice,
            ),
        ),
        false => (
            "application/json",
            format!("{{\"status\":{status},\"error\":\"{error}\",\"request_id\":\"{id}\"}}\n"),
        ),
    };
    let fields = format!("Content-Type: {media_type}\r\nCache-Control: no-store\r\n").into_bytes();
    page_of(status, fields, page.into_bytes())
}

/// The answer to a certificate authority's HTTP-01 challenge (RFC 8555 §8.3).
pub(crate) fn challenge(key_authorization: String) -> Answer {
    let fields = b"Content-Type: application/octet-stream\r\n".to_vec();
    page_of(200, fields, key_authorization.into_bytes())
}

/// Moves a client to another URL with this status. `location` must be free of control bytes.
pub(crate) fn redirect(status: u16, location: &[u8]) -> Answer {
    let fields = [b"Location: ", location, b"\r\n"].concat();
    page_of(status, fields, Vec::new())
}

/// `https://host[:port]/path?query` for a request that came in plain.
pub(crate) fn https_location(host: &str, port: Option<u16>, target: &Target<'_>) -> Vec<u8> {
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let mut location = format!("https://{host}").into_bytes();
    if let Some(port) = port {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    location.extend_from_slice(&target.path);
    push_query(&mut location, target);
    location
}

/// The same path with a final slash. Relative to the server, so that no Host can lead elsewhere.
pub(crate) fn slash_location(target: &Target<'_>) -> Vec<u8> {
    let mut location = target.path.to_vec();
    location.push(b'/');
    push_query(&mut location, target);
    location
}

/// The methods that a site may forward; others are too, but these are the ones to name.
pub(crate) const FORWARDED_METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The answer to `OPTIONS *`.
pub(crate) fn server_options() -> Answer {
    let fields = format!("Allow: {}\r\n", FORWARDED_METHODS.join(", ")).into_bytes();
    page_of(204, fields, Vec::new())
}

/// 405, whose page is left to the sender.
pub(crate) fn not_allowed(methods: &[&str]) -> Answer {
    page_of(405, format!("Allow: {}\r\n", methods.join(", ")).into_bytes(), Vec::new())
}

/// An answer from the configuration. Without a body that of an error is left to the sender.
pub(crate) fn text(status: u16, body: Option<&str>, content_type: &str) -> Answer {
    let Some(body) = body else { return page_of(status, Vec::new(), Vec::new()) };
    let fields = format!("Content-Type: {content_type}\r\n").into_bytes();
    page_of(status, fields, body.as_bytes().to_vec())
}

/// The answer to a CORS preflight that is granted.
pub(crate) fn preflight(fields: Vec<u8>) -> Answer {
    page_of(204, fields, Vec::new())
}

/// This status, whose page is left to the sender, with the time after which to come again.
pub(crate) fn come_again(status: u16, seconds: u64) -> Answer {
    Answer::error(status).with_fields(format!("Retry-After: {seconds}\r\n").into_bytes())
}

/// Seconds after which a client may come again when nobody knows better.
pub(crate) const RETRY_AFTER: u64 = 5;

/// 503 with the time after which to come again (RFC 9110 §10.2.3).
pub(crate) fn unavailable(seconds: u64) -> Answer {
    come_again(503, seconds)
}

/// 426 where nothing but WebSockets is (RFC 9110 §15.5.22).
pub(crate) fn websocket_required() -> Answer {
    let fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    Answer::error(426).with_fields(fields.to_vec())
}

/// The pages below `/api/health`.
pub(crate) fn health(page: Health, snapshot: &Snapshot, started: Instant) -> Answer {
    let body = match page {
        Health::Summary => {
            let mut time = Vec::new();
            rfc3339(&mut time, unix_millis() * 1000);
            let time = String::from_utf8_lossy(&time);
            let uptime = started.elapsed().as_secs();
            let version = json_text(&snapshot.server.version);
            format!(
                "{{\"status\":\"ok\",\"timestamp\":\"{time}\",\"service\":\"ravelin\",\
                 \"version\":\"{version}\",\"uptime_seconds\":{uptime}}}\n"
            )
        }
        Health::Ready => "{\"status\":\"ready\"}\n".to_owned(),
        Health::Live => "{\"status\":\"alive\"}\n".to_owned(),
    };
    let fields = b"Content-Type: application/json; charset=utf-8\r\n\
                   Cache-Control: no-cache, no-store, must-revalidate\r\n";
    page_of(200, fields.to_vec(), body.into_bytes())
}

/// The usual reason phrase of a status (RFC 9110 §15).
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// What a person who meets the status may do.
fn advice(status: u16) -> &'static str {
    match status {
        401 => "This needs a name and a password, or another proof of who you are.",
        403 => "This is not open to you.",
        404 => "There is nothing at this address.",
        408 => "The request took too long to arrive.",
        413 => "The request is larger than this site accepts.",
        429 => "These were too many requests. Please try again later.",
        426 => "Only WebSocket connections are accepted here.",
        400..500 => "The request could not be understood or is not allowed here.",
        502 => "The application behind this site gave no valid response. Please try again shortly.",
        503 => "The application behind this site is not available. Please try again shortly.",
        504 => "The application behind this site took too long to respond.",
        _ => "Something went wrong on the server.",
    }
}

fn page_of(status: u16, fields: Vec<u8>, page: Vec<u8>) -> Answer {
    let range = 0..page.len();
    let body = match page.is_empty() {
        true => Body::Empty,
        false => Body::Memory { bytes: Rc::from(page), range },
    };
    Answer { status, fields: Fields::Owned(fields), body }
}

fn push_query(location: &mut Vec<u8>, target: &Target<'_>) {
    if let Some(query) = target.query {
        location.push(b'?');
        location.extend_from_slice(query);
    }
}

/// `text` as the inside of a JSON string.
fn json_text(text: &str) -> String {
    text.chars()
        .flat_map(|char| match char {
            '"' | '\\' => vec!['\\', char],
            char if char.is_control() => vec![' '],
            char => vec![char],
        })
        .collect()
}
