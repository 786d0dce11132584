//! `kind: Proxy`: requests to pools.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, text};
use crate::schema::{Kind, Section, now};
use crate::tree::Node;

use super::filter::{Part, Role, Site};
use super::notes::{Note, not_in_effect};
use super::pool::{self, Common, PROXY_POOL, Pool};
use super::{NAME, certificates};

pub(super) static PROXY: Section = Section {
    path: "Proxy",
    list: false,
    about: "Requests to pools.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("pools", Kind::Tables(&PROXY_POOL), "required", ""),
        now("mirrorPool", Kind::Table(&PROXY_POOL), "", ""),
        now("mtls", Kind::Table(&MTLS), "", ""),
        now("maxIdleConns", Kind::Integer(0, 10_000_000), "10240", ""),
        now("maxIdleConnsPerHost", Kind::Integer(0, 65_536), "1024", ""),
        now("maxRedirection", Kind::Integer(0, 100), "0", ""),
        now("serverMaxBodySize", Kind::Integer(-1, i64::MAX), "4194304", ""),
        now("compression", Kind::Text, "", ""),
    ],
};

static MTLS: Section = Section {
    path: "Proxy.mtls",
    list: false,
    about: "TLS to servers.",
    keys: &[
        now("certBase64", Kind::Text, "", ""),
        now("keyBase64", Kind::Text, "", ""),
        now("rootCertBase64", Kind::Text, "", ""),
        now("insecureSkipVerify", Kind::Bool, "false", ""),
    ],
};

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, site: &Site<'_>) -> Part {
    let place = table.span;
    let mut part = Part::new(Role::Answer, TableNode::at(place));
    let tls = table.table("mtls").map(mtls);
    let mut common = Common { site, websocket: false, tls, pool: TableNode::at(place) };
    pool::idle(table, &mut common.pool);
    let own = own_max_body(table);
    if let Some((main, others)) = pool::pools(table, &common, |_, _| {}) {
        add(&mut part, main, others, own);
    }
    if let Some(mirror) = table.table("mirrorPool") {
        self::mirror(mirror, &common, &mut part);
    }
    redirections(table);
    not_in_effect(table, &["compression"]);
    part
}

/// Puts pools into a part: the first gets what no other wants.
pub(super) fn add(part: &mut Part, main: Pool, others: Vec<Pool>, own_max: Option<Node>) {
    let route = &mut part.route;
    route.put("upstream", text(main.name.as_str(), main.place));
    if let Some(size) = main.max_body.clone().or(own_max) {
        route.put("max_response_size", size);
    }
    if let Some(failures) = &main.failures {
        route.put("failure_statuses", failures.clone());
    }
    for pool in others {
        for wanted in pool.wanted.iter().flatten() {
            let mut split = TableNode::at(pool.place);
            split.put("upstream", text(pool.name.as_str(), pool.place));
            copy_all(wanted, &mut split);
            route.push("split", split);
        }
        part.upstreams.extend(pool.upstreams);
        part.pools.push(pool.settings.build());
    }
    part.upstreams.splice(0..0, main.upstreams);
    part.pools.insert(0, main.settings.build());
}

fn copy_all(from: &TableNode, to: &mut TableNode) {
    for entry in from.entries() {
        to.put_at(entry.key.as_str(), entry.key_span, entry.node.clone());
    }
}

fn own_max_body(table: &Table<'_>) -> Option<Node> {
    let size = table.integer("serverMaxBodySize")?;
    match size.value {
        0 => None,
        -1 => Some(text("unlimited", size.span)),
        bytes => Some(crate::dialect::build::number(bytes, size.span)),
    }
}

fn mtls(table: Table<'_>) -> TableNode {
    let mut native = TableNode::at(table.span);
    let unverified = table.boolean("insecureSkipVerify").unwrap_or(false);
    let root = table.peek("rootCertBase64").is_some_and(|entry| !entry.node.value.is_off());
    for (key, to) in [("certBase64", "cert"), ("keyBase64", "key"), ("rootCertBase64", "ca")] {
        if let Some(pem) = certificates::pem(&table, key) {
            native.put(to, pem);
        }
    }
    if native.has("cert") != native.has("key") {
        table.context().push(
            Diagnostic::error(
                Code::MissingKey,
                table.span,
                "`certBase64` and `keyBase64` go together",
            )
            .label("one of them is missing"),
        );
    }
    if unverified && let Some(entry) = table.peek("insecureSkipVerify") {
        native.put("verify", boolean(false, entry.node.span));
        if root {
            table.context().note_at(entry, "`rootCertBase64` says whom to trust");
        }
    }
    table.finish();
    native
}

fn redirections(table: &Table<'_>) {
    if table.integer("maxRedirection").is_some_and(|most| most.value > 0)
        && let Some(entry) = table.peek("maxRedirection")
    {
        let message = "`maxRedirection` is not in effect yet";
        table.context().push(
            Diagnostic::warning(Code::NotInEffect, entry.key_span, message)
                .label("redirects of servers go to the client"),
        );
    }
}

fn mirror(table: Table<'_>, common: &Common<'_>, part: &mut Part) {
    let context = table.context();
    let place = table.span;
    if let Some(entry) = table.peek("memoryCache") {
        context.push(
            Diagnostic::error(Code::Conflict, entry.key_span, "a mirror has no cache")
                .label("nobody sees what it answers"),
        );
    }
    let pool = pool::pool(table, format!("{}/mirror", pool::own_name(common.site)), common);
    let Some(wanted) = &pool.wanted else {
        context.push(
            Diagnostic::error(Code::MissingKey, place, "a mirror without `filter`")
                .label("which requests are copied?")
                .help("for all of them: `filter: {policy: random, permil: 1000}`"),
        );
        return;
    };
    if wanted.len() > 1 {
        context.push(
            Diagnostic::warning(Code::Unused, place, "one of `urls` is enough for a mirror")
                .label("only requests for the first of them are copied"),
        );
    }
    let mut mirror = TableNode::at(place);
    mirror.put("upstream", text(pool.name.as_str(), place));
    if let Some(wanted) = wanted.first() {
        copy_all(wanted, &mut mirror);
    }
    part.route.put("mirror", mirror);
    part.upstreams.extend(pool.upstreams);
    part.pools.push(pool.settings.build());
}
