//! Exchanges as the spans of OTLP, with the names of OpenTelemetry's conventions for HTTP.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proxy::log::{Ended, Party};
use proxy::traces::{AttemptSpan, Span as Exchange};

/// Methods that have a name of their own in the conventions.
const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// The flag of a span whose parent is known to be in another process.
const REMOTE_PARENT: u32 = 0x300;

/// One request to a collector.
pub(super) fn request(service: &str, exchanges: &[Box<Exchange>]) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            number("process.pid", u64::from(std::process::id())),
            text("telemetry.sdk.name", "ravelin"),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "ravelin".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let mut spans = Vec::with_capacity(exchanges.len() * 2);
    for exchange in exchanges {
        spans.push(server(exchange));
        let attempts = exchange.attempts.iter().enumerate();
        spans.extend(attempts.map(|(index, attempt)| client(exchange, index, attempt)));
    }
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    let resource_spans = ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// How many spans an exchange has.
pub(super) fn count(exchange: &Exchange) -> u64 {
    1 + exchange.attempts.len() as u64
}

/// The exchange as the client saw it.
fn server(exchange: &Exchange) -> Span {
    let method = method(&exchange.method);
    let name = match &exchange.route {
        Some(route) => format!("{} {route}", method_name(method)),
        None => method_name(method).to_owned(),
    };
    let (host, port) = host_and_port(&exchange.authority, if exchange.secure { 443 } else { 80 });
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.scheme", if exchange.secure { "https" } else { "http" }),
        text("url.path", &exchange.path),
        text("server.address", host),
        number("server.port", u64::from(port)),
        text("network.protocol.name", "http"),
        text("network.protocol.version", exchange.version.trim_start_matches("HTTP/")),
        number("http.request.body.size", exchange.request_bytes),
        number("http.response.body.size", exchange.response_bytes),
    ];
    if method == "_OTHER" {
        attributes.push(text("http.request.method_original", &exchange.method));
    }
    if exchange.status != 0 {
        attributes.push(number("http.response.status_code", u64::from(exchange.status)));
    }
    let client = exchange.client.map(|client| client.to_string());
    for (name, value) in [
        ("http.route", exchange.route.as_deref()),
        ("client.address", client.as_deref()),
        ("user_agent.original", Some(&*exchange.user_agent)),
        ("ravelin.site", Some(&*exchange.site)),
        ("ravelin.pool", exchange.pool.as_deref()),
        ("ravelin.request_id", Some(&*exchange.request_id)),
    ] {
        attributes.extend(value.filter(|value| !value.is_empty()).map(|value| text(name, value)));
    }
    let reason = exchange.ended.reason().map(|reason| reason.name);
    attributes.extend(reason.map(|reason| text("ravelin.reason", reason)));
    let broke = matches!(exchange.ended, Ended::Failed { by: Party::Upstream | Party::Proxy, .. });
    let error = match exchange.status {
        500.. => Some(exchange.status.to_string()),
        _ if broke => reason.map(str::to_owned),
        _ => None,
    };
    attributes.extend(error.as_deref().map(|error| text("error.type", error)));
    Span {
        trace_id: exchange.trace_id.to_vec(),
        span_id: exchange.id.to_vec(),
        parent_span_id: exchange.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: 1 | if exchange.parent.is_some() { REMOTE_PARENT } else { 0 },
        name,
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(exchange.began_us),
        end_time_unix_nano: nanos(exchange.began_us.saturating_add(exchange.total_us)),
        attributes,
        status: status(error.is_some()),
        ..Span::default()
    }
}

/// One attempt, as Ravelin saw it.
fn client(exchange: &Exchange, index: usize, attempt: &AttemptSpan) -> Span {
    let method = method(&exchange.method);
    let (scheme, rest) = attempt.endpoint.split_once("://").unwrap_or(("", &attempt.endpoint));
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = host_and_port(authority, if scheme.ends_with('s') { 443 } else { 80 });
    let full = format!("{}{}", attempt.endpoint.trim_end_matches('/'), exchange.path);
    let mut attributes = vec![
        text("http.request.method", method),
        text("server.address", host),
        number("server.port", u64::from(port)),
        text("url.full", &full),
    ];
    if index > 0 {
        attributes.push(number("http.request.resend_count", index as u64));
    }
    if attempt.status != 0 {
        attributes.push(number("http.response.status_code", u64::from(attempt.status)));
    }
    let error = match (attempt.failure, attempt.status) {
        (Some(failure), _) => Some(failure.to_owned()),
        (None, status @ 400..) => Some(status.to_string()),
        (None, _) => None,
    };
    attributes.extend(error.as_deref().map(|error| text("error.type", error)));
    let head = exchange.began_us.saturating_add(exchange.head_us);
    let end = exchange.began_us.saturating_add(exchange.total_us);
    // The last one that was answered is the one whose response was passed on.
    let is_last = index + 1 == exchange.attempts.len() && attempt.failure.is_none();
    let ended =
        attempt.ended_us.filter(|_| !is_last).map_or(end, |ended| head.saturating_add(ended));
    Span {
        trace_id: exchange.trace_id.to_vec(),
        span_id: attempt.id.to_vec(),
        parent_span_id: exchange.id.to_vec(),
        flags: 1,
        name: method_name(method).to_owned(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: nanos(head.saturating_add(attempt.began_us)),
        end_time_unix_nano: nanos(ended),
        attributes,
        status: status(error.is_some()),
        ..Span::default()
    }
}

fn status(is_error: bool) -> Option<Status> {
    is_error.then(|| Status { code: StatusCode::Error.into(), ..Status::default() })
}

/// The method as the conventions have it.
fn method(method: &str) -> &str {
    if METHODS.contains(&method) { method } else { "_OTHER" }
}

/// What stands for it in the name of a span.
fn method_name(method: &str) -> &str {
    if method == "_OTHER" { "HTTP" } else { method }
}

fn host_and_port(authority: &str, default: u16) -> (&str, u16) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse().unwrap_or(default))
        }
        _ => (authority, default),
    }
}

fn nanos(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
