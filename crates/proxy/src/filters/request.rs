//! The request head as the upstream gets it.
//!
//! What always holds: fields that concern one connection only, and those that `Connection` names,
//! are gone before any field of ours is added (so a client cannot make us drop ours); the length of
//! the body is announced by what [`wire`] decided and by nothing else.

use std::borrow::Cow;
use std::net::IpAddr;

use wire::field::{Field, FieldId, field_id};
use wire::head::{Framing, RequestHead, Version};
use wire::trace_context::TraceParent;

use super::edits::FieldSet;
use super::forwarded::{ToldBefore, X_FORWARDED, appended, write_told};
use crate::auth::{lines, name_of, query_without};
use crate::connection::ClientAddress;
use crate::redirect;
use crate::routes::Route;
use crate::sticky::{Sticky, write_cookies_without};

/// What a forwarded request head is made of.
#[derive(Debug)]
pub struct RequestHeadParts<'a> {
    /// The client's head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
    /// Canonical path.
    pub path: &'a [u8],
    /// Query as received, without "?".
    pub query: Option<&'a [u8]>,
    /// The route that took it.
    pub route: &'a Route,
    /// Send Host as the client sent it, else the endpoint's.
    pub preserve_host: bool,
    /// Put before the path.
    pub base_path: &'a str,
    /// Host and port as the client named them; empty if it did not.
    pub authority: &'a [u8],
    /// The authority came in the request line, so the Host field does not count (RFC 9112 §3.2.2).
    pub absolute_form: bool,
    /// Host of the endpoint, sent when the client's is not kept.
    pub endpoint_host: &'a str,
    /// Who is at the other end of the client's connection.
    pub client: &'a ClientAddress,
    /// What an upstream was told of the client for an earlier request of the connection.
    pub told_before: &'a ToldBefore,
    /// The client, as far as trusted proxies tell; not asked for if no field says it.
    pub client_ip: Option<IpAddr>,
    /// The peer is a trusted proxy: what it says of the client is kept.
    pub peer_trusted: bool,
    /// The client's connection has TLS.
    pub secure: bool,
    /// Lines about the client's certificate, at a site that asks for one.
    pub certificate_lines: &'a [u8],
    /// Lines about what the request has proved.
    pub proved_lines: &'a [u8],
    /// The port the request came in by.
    pub port: u16,
    /// The length of a body that was taken whole, whatever the client said of it.
    pub length: Option<u64>,
    /// Ask for WebSocket.
    pub upgrade: bool,
    /// Say that trailers are welcome, which is for HTTP/2 to say (RFC 9113 §8.2.2).
    pub te_trailers: bool,
    /// What it is told of the request's trace.
    pub traced: Told,
    /// Whose cookie, among the client's, is for Ravelin alone.
    pub sticky: Option<&'a Sticky>,
    /// The id of the request, if a rule wants it.
    pub request_id: &'a [u8],
}

/// What an upstream is told of a request's trace in the place of what the client says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// Which trace and span; `None`: what the client says goes on as it is.
    pub parent: Option<TraceParent>,
    /// The client's `tracestate` belongs to another trace.
    pub drops_state: bool,
}

/// Never forwarded: fields of one connection (RFC 9110 §7.6.1), and `Proxy`, which CGI programs
/// take for an environment variable (httpoxy, CVE-2016-5385). `Proxy-Authorization` is for this hop
/// as well: Ravelin is the origin to its clients, so a credential for a proxy is not the upstream's.
pub(super) const CONNECTION_FIELDS: FieldSet = FieldSet::of(&[
    FieldId::Connection,
    FieldId::ProxyConnection,
    FieldId::KeepAlive,
    FieldId::Te,
    FieldId::TransferEncoding,
    FieldId::Upgrade,
    FieldId::ProxyAuthenticate,
    FieldId::ProxyAuthorization,
    FieldId::Http2Settings,
    FieldId::Proxy,
]);

/// Cannot be dropped by naming them in `Connection`: message length and routing hang on them.
pub(super) const NEVER_NOMINATED: FieldSet =
    FieldSet::of(&[FieldId::Host, FieldId::ContentLength, FieldId::Date]);

/// Appends the head to forward to `out`.
pub fn write_request_head(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    write_request_line(parts, out);
    let forwarding = &parts.route.forwarding;
    // HTTP/1.0 may come without Host, HTTP/1.1 may not go without it (RFC 9112 §3.2).
    let has_host = !parts.authority.is_empty();
    let set_host = parts.route.set_host.as_deref();
    let keep_host = set_host.is_none() && parts.preserve_host && has_host && !parts.absolute_form;
    if !keep_host {
        let host = match (set_host, parts.preserve_host && has_host) {
            (Some(host), _) => host.as_bytes(),
            (None, true) => parts.authority,
            (None, false) => parts.endpoint_host.as_bytes(),
        };
        field(out, b"Host", &[host]);
    }
    let hides_cookies = parts.sticky.is_some() || hides_cookies(parts);
    let dropped = CONNECTION_FIELDS
        .union(parts.route.request.dropped())
        .with_if(!keep_host, FieldId::Host)
        .with_if(forwarding.forwarded, FieldId::Forwarded)
        .with_if(forwarding.via, FieldId::Via)
        .with_if(hides_cookies, FieldId::Cookie)
        .with_if(parts.traced.parent.is_some(), FieldId::Traceparent)
        .with_if(parts.traced.drops_state, FieldId::Tracestate)
        // Answered already, where the body was taken.
        .with_if(parts.head.version == Version::Http10 || parts.length.is_some(), FieldId::Expect)
        .with_if(forwarding.x_real_ip, FieldId::XRealIp);
    let dropped = match forwarding.x_forwarded {
        true => dropped.union(X_FORWARDED),
        false => dropped,
    };
    copy_fields(out, parts.bytes, &parts.head.fields, |field| {
        !dropped.contains(field.id)
            && (field.id != FieldId::Other
                || !(parts.route.request.drops(field, parts.bytes)
                    || is_alias(field.name.of(parts.bytes), dropped)))
            && (NEVER_NOMINATED.contains(field.id)
                || !parts.head.nominated(parts.bytes, field.name.of(parts.bytes)))
    });
    // A body of unknown length; an HTTP/2 client does not have to announce it.
    if matches!(parts.head.framing, Framing::Chunked | Framing::UntilClose) {
        match parts.length {
            Some(length) => {
                field(out, b"Content-Length", &[itoa::Buffer::new().format(length).as_bytes()]);
            }
            None => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }
    if hides_cookies && !parts.route.request.dropped().contains(FieldId::Cookie) {
        for cookies in parts.head.fields.iter().filter(|field| field.id == FieldId::Cookie) {
            write_cookies(parts, cookies.value.of(parts.bytes), out);
        }
    }
    if parts.te_trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if parts.upgrade {
        out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: websocket\r\n");
        let sockets = parts.route.websocket.as_ref();
        if let Some(origin) = sockets.and_then(|sockets| sockets.model.default_origin.as_ref())
            && parts.head.get(FieldId::Origin).is_none()
        {
            field(out, b"Origin", &[origin.as_bytes()]);
        }
    }
    write_told(parts, out);
    if forwarding.x_real_ip {
        field(out, b"X-Real-IP", &[&client_text(parts)]);
    }
    if forwarding.via {
        appended(parts, out, b"Via", FieldId::Via, |out| out.extend_from_slice(b"1.1 ravelin"));
    }
    if let Some(parent) = parts.traced.parent {
        field(out, b"traceparent", &[&parent.to_text()]);
    }
    out.extend_from_slice(parts.certificate_lines);
    write_proved(parts, out);
    parts.route.request.write(parts.request_id, out);
    for (name, template) in parts.route.request.templates() {
        write_filled(parts, name, template, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Cookies with credentials are not for the upstream.
fn hides_cookies(parts: &RequestHeadParts<'_>) -> bool {
    !parts.route.guards.hidden().cookies.is_empty()
}

/// A Cookie line without what is for Ravelin alone.
fn write_cookies(parts: &RequestHeadParts<'_>, cookies: &[u8], out: &mut Vec<u8>) {
    let mut left = Cow::Borrowed(cookies);
    for name in &parts.route.guards.hidden().cookies {
        let mut without = Vec::new();
        write_cookies_without(&left, name.as_bytes(), &mut without);
        left = Cow::Owned(without);
    }
    match parts.sticky {
        _ if left.is_empty() => {}
        Some(sticky) => sticky.write_cookie_line(&left, out),
        None => field(out, b"Cookie", &[&left]),
    }
}

/// What was proved, but for what the route that took over says itself.
fn write_proved(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    for line in lines(parts.proved_lines) {
        if !parts.route.request.writes(name_of(line)) {
            out.extend_from_slice(line);
        }
    }
}

/// A field made of what the request says; nothing if that comes to nothing.
fn write_filled(parts: &RequestHeadParts<'_>, name: &str, template: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let value = out.len();
    let query = forwarded_query(parts);
    let says = redirect::Parts {
        scheme: if parts.secure { "https" } else { "http" },
        authority: parts.authority,
        path: parts.path,
        query: query.as_deref(),
    };
    redirect::fill(template, &parts.route.path, &says, Some(&client_text(parts)), out);
    match out.len() - value {
        0 => out.truncate(start),
        _ => out.extend_from_slice(b"\r\n"),
    }
}

/// A name that gateways further on, which turn "-" into "_", take for one of `dropped`, or for a
/// field that says how long the message is or whom it is for.
fn is_alias(name: &[u8], dropped: FieldSet) -> bool {
    if !name.contains(&b'_') {
        return false;
    }
    // Longer than any name that is known.
    let mut hyphenated = [b'-'; 32];
    for (to, from) in hyphenated.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    let Some(hyphenated) = hyphenated.get(..name.len()) else { return false };
    let id = field_id(hyphenated);
    id != FieldId::Other && (dropped.contains(id) || NEVER_NOMINATED.contains(id))
}

/// Copies the lines of the fields that `keep` picks, neighbours in one piece.
pub(super) fn copy_fields(
    out: &mut Vec<u8>,
    bytes: &[u8],
    fields: &[Field],
    mut keep: impl FnMut(&Field) -> bool,
) {
    let mut run: Option<(usize, usize)> = None;
    let mut flush = |run: Option<(usize, usize)>| {
        if let Some(lines) = run.and_then(|(start, end)| bytes.get(start..end)) {
            out.extend_from_slice(lines);
            out.extend_from_slice(b"\r\n");
        }
    };
    for field in fields {
        if keep(field) {
            // An empty value may have no place of its own; the line ends with the colon then.
            let end = field.value.end().max(field.name.end() + 1);
            run = Some((run.map_or(field.name.start(), |(start, _)| start), end));
        } else {
            flush(run.take());
        }
    }
    flush(run);
}

pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &[&[u8]]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    value.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

fn write_request_line(parts: &RequestHeadParts<'_>, out: &mut Vec<u8>) {
    let method = parts.head.method.of(parts.bytes);
    out.extend_from_slice(match &parts.route.set_method {
        // A response to HEAD has no body whatever it says, so this one must not change.
        Some(method_set) if method != b"HEAD" => method_set.as_bytes(),
        _ => method,
    });
    out.push(b' ');
    out.extend_from_slice(parts.base_path.as_bytes());
    let path = out.len();
    parts.route.rewrite.write(parts.path, out);
    if let Some(query) = forwarded_query(parts) {
        // What was written in the place of the path may bring a query of its own.
        let has_query = out.get(path..).unwrap_or_default().contains(&b'?');
        out.push(if has_query { b'&' } else { b'?' });
        out.extend_from_slice(&query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// The query without what is for Ravelin alone.
fn forwarded_query<'a>(parts: &RequestHeadParts<'a>) -> Option<Cow<'a, [u8]>> {
    let hidden = &parts.route.guards.hidden().parameters;
    parts.query.and_then(|query| query_without(query, hidden))
}

/// The client's address.
fn client_text<'a>(parts: &RequestHeadParts<'a>) -> Cow<'a, [u8]> {
    match parts.client_ip.filter(|ip| Some(*ip) != parts.client.ip()) {
        Some(ip) => ip.to_string().into_bytes().into(),
        None => parts.client.text().into(),
    }
}
