//! Filters of a Pipeline: which kinds there are, and what each is in a native route.

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::TableNode;
use crate::schema::Section;
use crate::tree::{Entry, Node, Value};

use super::resilience::Policies;
use super::{adaptors, cors, proxy_filter, rate_limiter, redirector, validator, websocket_proxy};

/// A kind of filter.
pub(super) struct FilterKind {
    /// As `kind` has it.
    pub(super) name: &'static str,
    section: &'static Section,
    /// How it may end beside well.
    pub(super) results: &'static [&'static str],
    /// What the results are called in a native route; those that never come are not here.
    pub(super) outcomes: &'static [(&'static str, &'static [&'static str])],
    decode: for<'n> fn(&Table<'n>, &Site<'_>) -> Part,
}

/// What a filter needs to know of its surroundings.
pub(super) struct Site<'t> {
    /// The pipeline's name.
    pub(super) pipeline: &'t str,
    /// The filter's name.
    pub(super) name: &'t str,
    /// The pipeline's policies.
    pub(super) policies: &'t Policies,
}

/// What a filter does to a request that comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Refuses some, or answers some of its own.
    Guard,
    /// Changes it.
    Request,
    /// Answers it.
    Answer,
    /// Changes the response.
    Response,
}

/// What a filter is in a native route.
pub(super) struct Part {
    pub(super) role: Role,
    /// Keys of the route.
    pub(super) route: TableNode,
    /// Entries of its pools.
    pub(super) upstreams: Vec<Node>,
    /// What holds for its pools.
    pub(super) pools: Vec<Node>,
}

impl Part {
    pub(super) fn new(role: Role, route: TableNode) -> Part {
        Part { role, route, upstreams: Vec::new(), pools: Vec::new() }
    }
}

/// A filter, decoded.
pub(super) struct Filter<'n> {
    pub(super) name: Spanned<&'n str>,
    pub(super) kind: &'static FilterKind,
    pub(super) part: Part,
}

/// The kinds that have a meaning here.
pub(super) static KINDS: &[FilterKind] = &[
    FilterKind {
        name: "Proxy",
        section: &proxy_filter::PROXY,
        results: &[
            "internalError",
            "clientError",
            "serverError",
            "failureCode",
            "timeout",
            "shortCircuited",
        ],
        outcomes: &[
            ("internalError", &["no_endpoint"]),
            ("clientError", &["client_error"]),
            ("serverError", &["unreachable"]),
            ("failureCode", &["failure_status"]),
            ("timeout", &["timeout"]),
            ("shortCircuited", &["circuit_open"]),
        ],
        decode: proxy_filter::decode,
    },
    FilterKind {
        name: "WebSocketProxy",
        section: &websocket_proxy::WEBSOCKET_PROXY,
        // The last is one that Easegress gives and then does not let jumps name.
        results: &["internalError", "clientError", "serverError"],
        outcomes: &[
            ("internalError", &["no_endpoint"]),
            ("clientError", &["client_error"]),
            ("serverError", &["unreachable", "timeout"]),
        ],
        decode: websocket_proxy::decode,
    },
    FilterKind {
        name: "RequestAdaptor",
        section: &adaptors::REQUEST_ADAPTOR,
        results: &["decompressFailed", "compressFailed", "signFailed"],
        outcomes: &[],
        decode: adaptors::request,
    },
    FilterKind {
        name: "ResponseAdaptor",
        section: &adaptors::RESPONSE_ADAPTOR,
        results: &["responseNotFound", "decompressFailed", "compressFailed"],
        outcomes: &[],
        decode: adaptors::response,
    },
    FilterKind {
        name: "Redirector",
        section: &redirector::REDIRECTOR,
        results: &["redirected"],
        outcomes: &[("redirected", &["redirected"])],
        decode: redirector::decode,
    },
    FilterKind {
        name: "RateLimiter",
        section: &rate_limiter::RATE_LIMITER,
        results: &["rateLimited"],
        outcomes: &[("rateLimited", &["rate_limited"])],
        decode: rate_limiter::decode,
    },
    FilterKind {
        name: "CORSAdaptor",
        section: &cors::CORS_ADAPTOR,
        results: &["preflighted", "rejected"],
        outcomes: &[("preflighted", &["preflight"])],
        decode: cors::decode,
    },
    FilterKind {
        name: "Validator",
        section: &validator::VALIDATOR,
        results: &["invalid"],
        outcomes: &[("invalid", &["unauthorized"])],
        decode: validator::decode,
    },
];

/// What Easegress has beside them.
const OTHER_KINDS: &[&str] = &[
    "APIAggregator",
    "AIGatewayProxy",
    "Bridge",
    "CertExtractor",
    "ConnectControl",
    "DataBuilder",
    "FileServer",
    "Fallback",
    "GRPCProxy",
    "HeaderLookup",
    "HeaderToJSON",
    "Kafka",
    "KafkaMQTT",
    "MeshAdaptor",
    "Mock",
    "MQTTClientAuth",
    "OIDCAdaptor",
    "OPAFilter",
    "RedirectorV2",
    "RemoteFilter",
    "RequestBuilder",
    "ResponseBuilder",
    "ResultBuilder",
    "SimpleHTTPProxy",
    "TopicMapper",
    "WasmHost",
];

/// The kind of this name.
pub(super) fn kind(name: &str) -> Option<&'static FilterKind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// An entry of a table that is not opened yet.
pub(super) fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    let Value::Table(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key && !matches!(entry.node.value, Value::Null))
}

/// What an object or filter that is not opened yet is called.
pub(super) fn name(node: &Node) -> Option<&str> {
    match &entry(node, "name")?.node.value {
        Value::String(name) => Some(name),
        _ => None,
    }
}

/// Decodes a filter; `None` if it is of no known kind or has no name, which is reported.
pub(super) fn decode<'n>(
    context: &'n Context<'n>,
    node: &'n Node,
    pipeline: &str,
    policies: &Policies,
) -> Option<Filter<'n>> {
    if !matches!(node.value, Value::Table(_)) {
        let message = "a filter is a table with `name` and `kind`";
        context.push(
            Diagnostic::error(Code::WrongType, node.span, message)
                .label(format!("this is {}", node.value.noun())),
        );
        return None;
    }
    let Some(written) = entry(node, "kind") else {
        context.push(
            Diagnostic::error(Code::MissingKey, node.span, "a filter without `kind`")
                .label("what is it?")
                .help(format!("there are {}", names())),
        );
        return None;
    };
    let name = context.text("kind", &written.node)?;
    let Some(kind) = kind(name.value) else {
        unknown(context, name);
        return None;
    };
    let table = Table::open(context, "filters", node, kind.section)?;
    table.take("kind");
    table.require("name", "proxy");
    let name = table.text("name");
    let site = Site { pipeline, name: name.map_or("", |name| name.value), policies };
    let part = (kind.decode)(&table, &site);
    table.finish();
    Some(Filter { name: name?, kind, part })
}

/// Says that there is no such kind of filter.
pub(super) fn unknown(context: &Context<'_>, kind: Spanned<&str>) {
    let shown = kind.value.escape_debug();
    let error = |message: String| Diagnostic::error(Code::BadValue, kind.span, message);
    context.push(match nearest(kind.value, KINDS.iter().map(|kind| kind.name)) {
        _ if OTHER_KINDS.contains(&kind.value) => {
            error(format!("Ravelin has no filter of the kind `{shown}`"))
                .label("requests would go on without it")
                .help(format!("there are {}", names()))
        }
        Some(near) => error(format!("there is no filter of the kind `{shown}`")).suggest(
            kind.span,
            near,
            format!("did you mean `{near}`?"),
        ),
        None => error(format!("there is no filter of the kind `{shown}`"))
            .help(format!("there are {}", names())),
    });
}

fn names() -> String {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}
