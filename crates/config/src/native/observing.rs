//! `[metrics]` and `[tracing]`: what is counted and traced.

use std::path::PathBuf;

use crate::decode::{Spanned, Table};
use crate::model::{Metrics, TraceAccept, Tracing};
use crate::schema::{Kind, Section, now};
use crate::syntax::authority;

/// Where collectors take spans over HTTP, by the specification of OTLP.
const TRACES_PATH: &str = "/v1/traces";

pub(super) static METRICS: Section = Section {
    path: "metrics",
    list: false,
    about: "What is counted. What there is to see, and where, is in [metrics](metrics.md).",
    keys: &[now(
        "enabled",
        Kind::Bool,
        "true",
        "Count requests, connections, bytes and times, by site, route, pool and endpoint. It costs some 0.1 µs a request.",
    )],
};

pub(super) static TRACING: Section = Section {
    path: "tracing",
    list: false,
    about: "Traces as in W3C Trace Context and OpenTelemetry. What is sent where is in [tracing](tracing.md).",
    keys: &[
        now(
            "propagate",
            Kind::Bool,
            "whether there is an `endpoint`",
            "Tell upstreams which trace a request belongs to (`traceparent`, `tracestate`), and begin one where there is none.",
        ),
        now(
            "accept",
            Kind::Choice(&["always", "trusted", "never"], &[]),
            "\"always\"",
            "Whose `traceparent` counts: every client's, that of `trusted_proxies`, or nobody's. Where it does not count a trace begins here.",
        ),
        now(
            "sample",
            Kind::Share,
            "1",
            "Share of the traces begun here that are recorded, chosen by their id: `0.05` or `\"5%\"`.",
        ),
        now(
            "parent_based",
            Kind::Bool,
            "true",
            "What a caller's `traceparent` says of recording holds here too. `false`: `sample` decides over every trace.",
        ),
        now(
            "endpoint",
            Kind::Text,
            "none",
            "URL of a collector that takes OTLP over HTTP: `\"http://127.0.0.1:4318\"`; without a path `/v1/traces` is added. Needs a Ravelin that was built with the feature `otel`.",
        ),
        now(
            "ca_file",
            Kind::Text,
            "those of the system",
            "PEM file with the authorities that may vouch for a collector at an `https` URL.",
        ),
        now("service", Kind::Text, "\"ravelin\"", "`service.name` of the spans."),
    ],
};

pub(super) fn metrics(table: Option<Table<'_>>) -> Metrics {
    let mut metrics = Metrics::default();
    let Some(table) = table else { return metrics };
    metrics.enabled = table.boolean("enabled").unwrap_or(metrics.enabled);
    table.finish();
    metrics
}

pub(super) fn tracing(table: Option<Table<'_>>) -> Tracing {
    let mut tracing = Tracing::default();
    let Some(table) = table else { return tracing };
    tracing.endpoint = table.text("endpoint").and_then(|text| endpoint(&table, text));
    tracing.propagate = table.boolean("propagate").unwrap_or(tracing.endpoint.is_some());
    match table.choice("accept") {
        Some("trusted") => tracing.accept = TraceAccept::Trusted,
        Some("never") => tracing.accept = TraceAccept::Never,
        _ => {}
    }
    tracing.sample = table.share("sample").unwrap_or(tracing.sample);
    tracing.parent_based = table.boolean("parent_based").unwrap_or(tracing.parent_based);
    tracing.ca_file = table.text("ca_file").map(|text| PathBuf::from(text.value));
    if let Some(service) = table.text("service") {
        service.value.clone_into(&mut tracing.service);
    }
    table.finish();
    tracing
}

/// The URL of a collector, with its path.
fn endpoint(table: &Table<'_>, text: Spanned<&str>) -> Option<String> {
    let context = table.context();
    let wrong = |reason: &str| context.push(context.bad("endpoint", text.span, reason));
    let Some((scheme, rest)) = text.value.split_once("://") else {
        wrong("a URL begins with `http://` or `https://`");
        return None;
    };
    let port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => {
            wrong("the scheme of a collector is `http` or `https`");
            return None;
        }
    };
    if let Some(c) = text.value.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        wrong(&format!("a URL of a collector must not have `{}`", c.escape_debug()));
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if let Err(reason) = authority(host, port) {
        wrong(&reason.replace("an upstream URL", "a URL"));
        return None;
    }
    let path = if matches!(path, "" | "/") { TRACES_PATH } else { path };
    Some(format!("{scheme}://{host}{path}"))
}
