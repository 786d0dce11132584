//! Easegress's YAML: objects of some kinds, one a document, to native trees.
//!
//! An HTTPServer becomes a site, each pair of its rules and paths a route, and the Pipeline it leads to
//! what the route does. Everything is checked against the keys that Easegress has, then said in native
//! keys, so that nothing is decided here that native TOML could not say.

use std::cell::Cell;

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, list};
use crate::schema::{Key, Kind, now};
use crate::tree::{Node, Value};

mod adaptors;
mod base64;
mod certificates;
mod cors;
mod filter;
mod flow;
mod health_check;
mod http_server;
mod load_balance;
mod matcher;
mod notes;
mod pipeline;
mod pool;
mod proxy_filter;
mod rate_limiter;
mod redirector;
mod resilience;
mod rules;
mod secrets;
mod validator;
mod websocket_proxy;

use pipeline::Pipelines;

/// Keys of every object.
const NAME: Key = now("name", Kind::Text, "required", "");
const VERSION: Key = now("version", Kind::Text, "", "");

/// Where a Pipeline is served that no HTTPServer leads to: the port of Easegress's tutorials.
const ALONE_LISTEN: &str = "127.0.0.1:8080";

const OBJECTS: &[&str] = &["HTTPServer", "Pipeline", "AutoCertManager"];

/// What Easegress has beside them.
const OTHER_OBJECTS: &[&str] = &[
    "AIGatewayController",
    "ConsulServiceRegistry",
    "EaseMonitorMetrics",
    "EtcdServiceRegistry",
    "EurekaServiceRegistry",
    "FaasController",
    "GRPCServer",
    "GatewayController",
    "GlobalFilter",
    "IngressController",
    "MQTTProxy",
    "MeshController",
    "NacosServiceRegistry",
    "Prometheus",
    "RawConfigTrafficController",
    "StatusSyncController",
    "ServiceRegistry",
    "TrafficController",
    "WAFController",
    "ZookeeperServiceRegistry",
];

/// A document with its kind and name.
pub(super) struct Object<'n> {
    kind: &'n str,
    name: Option<Spanned<&'n str>>,
    node: &'n Node,
    /// Some Pipeline uses it, if it is a filter.
    used: Cell<bool>,
}

/// What these documents, of all files of the dialect, mean in native TOML.
pub(crate) fn translate<'n>(context: &'n Context<'n>, documents: &'n [Node]) -> Vec<Node> {
    documents.iter().for_each(|document| secrets::conceal(context, document));
    let found: Vec<Option<Object<'n>>> =
        documents.iter().map(|document| object(context, document)).collect();
    let incomplete = found.iter().any(|found| found.as_ref().is_none_or(|it| it.name.is_none()));
    let lost = documents.iter().zip(&found).filter(|(_, found)| found.is_none());
    let unread: Vec<&str> = lost.filter_map(|(document, _)| filter::name(document)).collect();
    let objects: Vec<Object<'n>> = found.into_iter().flatten().collect();
    names(context, &objects);
    let of_kind = |kind: &'static str| objects.iter().filter(move |object| object.kind == kind);
    let filters: Vec<&Object<'n>> =
        objects.iter().filter(|object| filter::kind(object.kind).is_some()).collect();
    let beside = pipeline::Alone { filters: &filters, unread: &unread };
    let mut pipelines = Pipelines { all: Vec::new(), incomplete };
    for object in of_kind("Pipeline") {
        let Some((table, name)) = open(context, object, &pipeline::PIPELINE) else { continue };
        let name = name.map_or("pipeline", |name| name.value);
        pipelines.all.push(pipeline::decode(context, table, name, &beside));
    }
    for object in filters.iter().filter(|object| !object.used.get()) {
        pipelines.all.extend(pipeline::around(context, object));
    }
    let managers: Vec<certificates::Manager> = of_kind("AutoCertManager")
        .filter_map(|object| open(context, object, &certificates::AUTO_CERT_MANAGER))
        .map(|(table, _)| certificates::manager(table))
        .collect();
    let Some(place) = documents.first().map(|document| document.span) else { return Vec::new() };
    let mut sites = Vec::new();
    let servers = of_kind("HTTPServer").count();
    for object in of_kind("HTTPServer") {
        let Some((table, name)) = open(context, object, &http_server::HTTP_SERVER) else {
            continue;
        };
        sites.push(http_server::translate(context, table, name, &pipelines, managers.first()));
    }
    if servers == 0 && !incomplete {
        sites.extend(alone(context, &pipelines));
    }
    unused(context, &pipelines, servers > 0);
    let mut root = TableNode::at(place);
    root.put("sites", list(sites, place));
    vec![root.build()]
}

/// The kind and name of a document; `None` if it has no kind that is known, which is reported.
fn object<'n>(context: &Context<'_>, node: &'n Node) -> Option<Object<'n>> {
    if !matches!(node.value, Value::Table(_)) {
        context.push(
            Diagnostic::error(
                Code::WrongType,
                node.span,
                "an object is a table with `kind` and `name`",
            )
            .label(format!("this is {}", node.value.noun())),
        );
        return None;
    }
    let Some(written) = filter::entry(node, "kind") else {
        context.push(
            Diagnostic::error(Code::MissingKey, node.span, "an object without `kind`")
                .label("what is it?")
                .help(format!("there are {}, and filters", OBJECTS.join(", "))),
        );
        return None;
    };
    let kind = context.text("kind", &written.node)?;
    if !OBJECTS.contains(&kind.value) && filter::kind(kind.value).is_none() {
        unknown(context, kind);
        return None;
    }
    let name = filter::entry(node, "name").and_then(|entry| match &entry.node.value {
        Value::String(name) => Some(Spanned { value: name.as_str(), span: entry.node.span }),
        _ => None,
    });
    Some(Object { kind: kind.value, name, node, used: Cell::new(false) })
}

fn unknown(context: &Context<'_>, kind: Spanned<&str>) {
    let shown = kind.value.escape_debug();
    let error = |message: String| Diagnostic::error(Code::BadValue, kind.span, message);
    let known = OBJECTS.iter().copied().chain(filter::KINDS.iter().map(|kind| kind.name));
    context.push(match nearest(kind.value, known) {
        _ if OTHER_OBJECTS.contains(&kind.value) => {
            error(format!("Ravelin has no object of the kind `{shown}`"))
                .label("what it is for would not be done")
                .help(format!("there are {}; take this document out", OBJECTS.join(", ")))
        }
        Some(near) => error(format!("there is no object of the kind `{shown}`")).suggest(
            kind.span,
            near,
            format!("did you mean `{near}`?"),
        ),
        None => error(format!("there is no object of the kind `{shown}`"))
            .help(format!("there are {}", OBJECTS.join(", "))),
    });
}

/// Reports names that two objects have.
fn names(context: &Context<'_>, objects: &[Object<'_>]) {
    for (at, object) in objects.iter().enumerate() {
        let Some(name) = object.name else { continue };
        let same = |other: &&Object<'_>| other.name.is_some_and(|it| it.value == name.value);
        if let Some(first) = objects.iter().take(at).find(same).and_then(|other| other.name) {
            let message = format!("two objects are called `{}`", name.value.escape_debug());
            context.push(
                Diagnostic::error(Code::DuplicateKey, name.span, message)
                    .label("again")
                    .also(first.span, "first here")
                    .help("each object has a name of its own, whatever its kind"),
            );
        }
    }
}

/// Opens an object's table and takes what all of them have.
fn open<'n>(
    context: &'n Context<'n>,
    object: &Object<'n>,
    section: &'static crate::schema::Section,
) -> Option<(Table<'n>, Option<Spanned<&'n str>>)> {
    let table = Table::open(context, object.kind, object.node, section)?;
    for key in ["kind", "version"] {
        table.take(key);
    }
    table.require("name", "demo");
    let name = table.text("name");
    Some((table, name))
}

/// The site for the one Pipeline of a configuration without an HTTPServer.
fn alone<'n>(context: &'n Context<'n>, pipelines: &Pipelines<'n>) -> Option<Node> {
    let pipeline = pipelines.all.first()?;
    let message = format!("no HTTPServer leads to `{}`", pipeline.name.escape_debug());
    context.push(
        Diagnostic::warning(Code::Changed, pipeline.place, message)
            .label(format!("every request to {ALONE_LISTEN} gets there, to try it out"))
            .help(format!(
                "add an object with `kind: HTTPServer`, a `port`, and rules with `backend: {}`",
                pipeline.name.escape_debug()
            )),
    );
    Some(http_server::around(context, pipeline))
}

/// Says which pipelines nothing leads to.
fn unused(context: &Context<'_>, pipelines: &Pipelines<'_>, servers: bool) {
    let skip = usize::from(!servers);
    for pipeline in pipelines.all.iter().skip(skip).filter(|pipeline| !pipeline.used.get()) {
        let message = format!("nothing leads to `{}`", pipeline.name.escape_debug());
        context.push(
            Diagnostic::warning(Code::Unused, pipeline.place, message)
                .label("never used: no path of an HTTPServer has it as its `backend`"),
        );
    }
}

/// Copies a key under its native name, if it is written and of its type; whether it is written.
fn copy(table: &Table<'_>, key: &'static str, native: &mut TableNode, to: &str) -> bool {
    let Some(entry) = table.peek(key) else {
        table.take(key);
        return false;
    };
    let good = match table.section().key(key).map(|key| key.kind) {
        Some(Kind::Bool) => table.boolean(key).is_some(),
        Some(Kind::Integer(..)) => table.integer(key).is_some(),
        Some(Kind::Duration(_)) => table.duration(key).is_some(),
        Some(Kind::Texts) => table.texts(key).is_some(),
        Some(Kind::Statuses) => table.statuses(key).is_some(),
        _ => table.text(key).is_some(),
    };
    if good {
        native.put_at(to, entry.key_span, entry.node.clone());
    }
    true
}
