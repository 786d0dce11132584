//! The native dialect: Ravelin's own TOML, from the tree to the model.
//!
//! One file a part of the configuration, each with its [`Section`]s (what keys there are) above the
//! functions that decode them. What concerns several sites at once is in `listeners`.

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Model;
use crate::places::Places;
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::Node;

mod access;
mod acme;
mod auth;
mod balancing;
mod breaker;
mod buffering;
mod capacity;
mod conditions;
mod connections;
mod cors;
mod dns;
mod expectations;
mod files;
mod guards;
mod headers;
mod health_check;
mod later;
mod limits;
mod lint;
mod listeners;
mod log_format;
mod logging;
mod management;
mod observing;
mod outlier;
mod performance;
mod pools;
mod process;
mod proxy;
mod rate_limit;
mod reload;
mod retry;
mod routes;
mod security;
mod server;
mod site;
mod split;
mod ssl;
mod stats_page;
mod sticky;
mod upstreams;
mod websocket;

/// The top level; every other section is below it.
pub static ROOT: Section = Section {
    path: "",
    list: false,
    about: "The top level of a file has tables only.",
    keys: &[
        now("server", Kind::Table(&server::SERVER), "", "Who the server says it is."),
        now("sites", Kind::Tables(&site::SITES), "required", "The sites, at least one."),
        now("logging", Kind::Table(&logging::LOGGING), "", "Access and error log."),
        now("performance", Kind::Table(&performance::PERFORMANCE), "", "Workers and connections."),
        now("dns", Kind::Table(&dns::DNS), "", "How host names of upstreams are looked up."),
        now("security", Kind::Table(&security::SECURITY), "", "Rules for every site."),
        now(
            "limits",
            Kind::Table(&limits::LIMITS),
            "",
            "Bounds on what a client may send or hold.",
        ),
        now(
            "process",
            Kind::Table(&process::PROCESS),
            "",
            "As whom the process runs, and how it gives way to another.",
        ),
        now("reload", Kind::Table(&reload::RELOAD), "", "When a changed configuration is taken."),
        now("metrics", Kind::Table(&observing::METRICS), "", "What is counted."),
        now("tracing", Kind::Table(&observing::TRACING), "", "How requests are traced."),
        now("lint", Kind::Table(&lint::LINT), "", "What `check --strict` says nothing about."),
        now(
            "tests",
            Kind::Tables(&expectations::TESTS),
            "none",
            "Requests, and what is expected to become of them.",
        ),
        now("management", Kind::Table(&management::MANAGEMENT), "", "The admin API."),
    ],
};

/// Decodes the roots of all files as one configuration. The model is only good if the context was
/// told of no error.
pub(crate) fn decode<'n>(context: &'n Context<'n>, roots: &'n [Node]) -> Option<Model> {
    // Before anything is said of them.
    roots.iter().for_each(|root| crate::secrets::conceal(context, root));
    let tables: Vec<Table<'n>> =
        roots.iter().filter_map(|root| Table::open(context, "file", root, &ROOT)).collect();
    let first = tables.first()?.span;
    let drafts: Vec<site::Draft> =
        tables.iter().flat_map(|table| table.tables("sites")).map(site::decode).collect();
    if drafts.is_empty() && !tables.iter().any(|table| table.has_or_means("sites")) {
        no_sites(context, first);
    }
    let announced = drafts.iter().find_map(|draft| draft.proxy_protocol);
    let model = Model {
        server: server::decode(once(&tables, "server")),
        sites: listeners::settle(context, drafts),
        logging: logging::decode(once(&tables, "logging")),
        performance: performance::decode(once(&tables, "performance")),
        dns: dns::decode(once(&tables, "dns")),
        security: security::decode(once(&tables, "security")),
        limits: limits::decode(once(&tables, "limits")),
        management: management::decode(once(&tables, "management")),
        process: process::decode(once(&tables, "process")),
        reload: reload::decode(once(&tables, "reload")),
        metrics: observing::metrics(once(&tables, "metrics")),
        tracing: observing::tracing(once(&tables, "tracing")),
        expectations: tables
            .iter()
            .flat_map(|table| table.tables("tests"))
            .filter_map(expectations::decode)
            .collect(),
        lint_allow: lint::decode(once(&tables, "lint")),
        places: Places::of(roots, context.sources),
    };
    cors::inherited(&tables, &model.security);
    security::around_guards(&tables, &model);
    rate_limit::zones(context, &model);
    tables.into_iter().for_each(Table::finish);
    if let Some(place) = announced.filter(|_| model.security.trusted_proxies.is_empty()) {
        context.push(
            Diagnostic::error(
                Code::MissingKey,
                place,
                "`proxy_protocol` needs `trusted_proxies` in `[security]`",
            )
            .label("nobody could connect here")
            .help("name who may say where connections come from: `trusted_proxies = [\"10.0.0.0/8\"]`"),
        );
    }
    Some(model)
}

/// A table that only one of the files may have.
fn once<'n>(tables: &[Table<'n>], name: &'static str) -> Option<Table<'n>> {
    let mut found = tables.iter().filter_map(|table| table.table(name));
    let first = found.next()?;
    for again in found {
        first.context().push(
            Diagnostic::error(
                Code::DuplicateKey,
                again.span,
                format!("`[{name}]` is in two files"),
            )
            .label("written again")
            .also(first.span, "first here"),
        );
    }
    Some(first)
}

fn no_sites(context: &Context<'_>, place: Span) {
    context.push(
        Diagnostic::error(Code::MissingKey, place, "the configuration has no site")
            .help("a site starts with `[[sites]]` and needs `name`, `hostname` and `port`"),
    );
}
