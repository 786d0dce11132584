//! `[[sites.proxy.upstreams]]`: entries that share a name are one pool.

use std::collections::HashMap;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Pool, Upstream};
use crate::schema::{Kind, Section, later, now};
use crate::source::Span;
use crate::syntax::{Rejected, upstream};

/// Larger weights only make the turns longer.
const WEIGHT_MAX: i64 = 1_000_000;
/// More connections than one process can have descriptors.
const CONNECTIONS_MAX: i64 = u32::MAX as i64;

pub(super) static UPSTREAMS: Section = Section {
    path: "sites.proxy.upstreams",
    list: true,
    about: "Where requests may be sent. Entries that share a name are one pool, in declared order.",
    keys: &[
        now("name", Kind::Text, "required", "The pool it belongs to."),
        now(
            "url",
            Kind::Text,
            "required",
            "`http://host[:port][/base]`, the same with `ws`, or `unix:/path/to.sock`. The base is put before every path. `https` and `wss` are errors until TLS to upstreams is in effect.",
        ),
        now(
            "weight",
            Kind::Integer(0, WEIGHT_MAX),
            "1",
            "Share of requests relative to the other entries, for `weighted`; 0 gets none.",
        ),
        later(
            "max_conns",
            Kind::Integer(1, CONNECTIONS_MAX),
            "no limit",
            "Most connections to it.",
        ),
    ],
};

/// Pools in the order of their first entries, and where those are.
pub(super) struct Pools {
    pub(super) pools: Vec<Pool>,
    pub(super) places: Vec<Span>,
    by_name: HashMap<String, usize>,
    /// Some entry's name could not be read, so that a name which is missing here may be that one.
    pub(super) incomplete: bool,
}

impl Pools {
    /// The index of a pool.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// Decodes the upstream entries of a proxy.
pub(super) fn decode<'n>(context: &'n Context<'n>, tables: Vec<Table<'n>>) -> Pools {
    let mut found =
        Pools { pools: Vec::new(), places: Vec::new(), by_name: HashMap::new(), incomplete: false };
    for table in tables {
        table.require("name", "\"backend\"");
        table.require("url", "\"http://127.0.0.1:3001\"");
        let name = table.text("name").filter(|name| named(context, name));
        let url = table.text("url");
        let weight = table.integer("weight").map_or(1, |weight| weight.value);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let parsed = url.and_then(|url| entry(context, url, weight));
        found.incomplete |= name.is_none();
        if let Some(name) = name {
            let index = *found.by_name.entry(name.value.to_owned()).or_insert_with(|| {
                found.pools.push(Pool { name: name.value.to_owned(), upstreams: Vec::new() });
                found.places.push(name.span);
                found.pools.len() - 1
            });
            if let Some(pool) = found.pools.get_mut(index) {
                pool.upstreams.extend(parsed);
            }
        }
        table.finish();
    }
    for (pool, place) in found.pools.iter().zip(&found.places) {
        if !pool.upstreams.is_empty() && pool.upstreams.iter().all(|upstream| upstream.weight == 0)
        {
            let message = format!("every upstream of `{}` has the weight 0", pool.name);
            context.push(
                Diagnostic::error(Code::BadValue, *place, message)
                    .label("nothing could ever be sent to it")
                    .help("give at least one of its entries a weight above 0"),
            );
        }
    }
    found
}

fn named(context: &Context<'_>, name: &Spanned<&str>) -> bool {
    if name.value.is_empty() {
        context.push(context.bad("name", name.span, "must not be empty"));
    }
    !name.value.is_empty()
}

fn entry(context: &Context<'_>, url: Spanned<&str>, weight: u32) -> Option<Upstream> {
    match upstream(url.value) {
        Ok((address, base_path)) => {
            Some(Upstream { url: url.value.to_owned(), address, base_path, weight, transport: Default::default() })
        }
        Err(Rejected::Tls) => {
            context.push(
                Diagnostic::error(Code::UpstreamTls, url.span, "TLS to upstreams is not in effect yet")
                    .label("would have to be reached over TLS")
                    .help("Ravelin never speaks plain HTTP to an upstream that expects TLS; use `http://` only for one that does not"),
            );
            None
        }
        Err(Rejected::Because { reason, instead }) => {
            context.push_hint("url", url.span, crate::syntax::Hint { reason, instead });
            None
        }
    }
}
