//! `loadBalance` of a pool.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, text};
use crate::schema::{Kind, Section, now};
use crate::tree::Node;

use super::copy;
use super::notes::Note;

const POLICIES: &[&str] =
    &["roundRobin", "random", "weightedRandom", "ipHash", "headerHash", "cookieHash"];

/// Statuses that the sticky cookie of Easegress is called by itself.
const COOKIE: &str = "EG_SESSION";

pub(super) static LOAD_BALANCE: Section = Section {
    path: "pools.loadBalance",
    list: false,
    about: "How a server is chosen.",
    keys: &[
        now("policy", Kind::Choice(POLICIES, &["", "forward"]), "roundRobin", ""),
        now("headerHashKey", Kind::Text, "", ""),
        now("forwardKey", Kind::Text, "", ""),
        now("stickySession", Kind::Table(&STICKY), "", ""),
        now("healthCheck", Kind::Text, "", ""),
    ],
};

static STICKY: Section = Section {
    path: "pools.loadBalance.stickySession",
    list: false,
    about: "Keeps a client with a server.",
    keys: &[
        now(
            "mode",
            Kind::Choice(&["CookieConsistentHash", "DurationBased", "ApplicationBased"], &[]),
            "required",
            "",
        ),
        now("appCookieName", Kind::Text, "", ""),
        now("lbCookieName", Kind::Text, "EG_SESSION", ""),
        now("lbCookieExpire", Kind::Duration(false), "2h", ""),
    ],
};

/// The native `load_balancing`; `None` if it says nothing.
pub(super) fn decode(table: Table<'_>) -> Option<Node> {
    let context = table.context();
    let place = table.peek("policy").map_or(table.span, |entry| entry.node.span);
    let mut native = TableNode::at(table.span);
    let key = table.text("headerHashKey").filter(|key| !key.value.is_empty());
    let method = match table.choice("policy").unwrap_or("") {
        "" | "roundRobin" => "round_robin",
        "random" => "random",
        "weightedRandom" => "weighted_random",
        "ipHash" => "ipHash",
        "headerHash" => {
            match key {
                Some(key) => {
                    native.put("hash_key", text(format!("header:{}", key.value), key.span))
                }
                None => context.push(
                    Diagnostic::error(
                        Code::MissingKey,
                        place,
                        "`headerHash` without `headerHashKey`",
                    )
                    .label("which field is hashed?")
                    .help("for example `headerHashKey: X-User`"),
                ),
            }
            "header_hash"
        }
        "cookieHash" => {
            // The whole field, as Easegress has it.
            native.put("hash_key", text("header:Cookie", place));
            "header_hash"
        }
        _ => {
            context.push(
                Diagnostic::error(Code::BadValue, place, "the policy `forward` is for gRPC only")
                    .label("Easegress would take turns here")
                    .suggest(place, "roundRobin", "to take turns"),
            );
            "round_robin"
        }
    };
    native.put("method", text(method, place));
    table.take("forwardKey");
    if let Some(sticky) = table.table("stickySession") {
        native.put("sticky_sessions", self::sticky(sticky));
    }
    if let Some(entry) = table.take("healthCheck") {
        context.note_at(entry, "`healthCheck` stands beside `loadBalance`, not in it");
    }
    table.finish();
    Some(native.build())
}

fn sticky(table: Table<'_>) -> Node {
    let context = table.context();
    let place = table.span;
    let mut native = TableNode::at(place);
    table.require("mode", "DurationBased");
    let mode = table.choice("mode").unwrap_or("DurationBased");
    let at = table.peek("mode").map_or(place, |entry| entry.node.span);
    let word = match mode {
        "CookieConsistentHash" => "consistent_hash",
        "ApplicationBased" => "application",
        _ => "cookie",
    };
    native.put("mode", text(word, at));
    let application = word != "cookie";
    if application {
        table.require("appCookieName", "JSESSIONID");
        copy(&table, "appCookieName", &mut native, "application_cookie");
    } else if let Some(entry) = table.take("appCookieName") {
        context.note_at(entry, "only a cookie of the proxy is used in this mode");
    }
    if word == "consistent_hash" {
        for key in ["lbCookieName", "lbCookieExpire"] {
            if let Some(entry) = table.take(key) {
                context.note_at(entry, "no cookie is set in this mode");
            }
        }
        table.finish();
        return native.build();
    }
    if !copy(&table, "lbCookieName", &mut native, "cookie") {
        native.put("cookie", text(COOKIE, place));
    }
    if application {
        if let Some(entry) = table.take("lbCookieExpire") {
            context.note_at(entry, "the cookie is kept for the browser's session");
        }
    } else if !copy(&table, "lbCookieExpire", &mut native, "duration") {
        native.put("duration", text("2h", place));
    }
    table.finish();
    native.build()
}
