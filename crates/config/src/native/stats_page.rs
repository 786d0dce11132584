//! `[management.stats]`: the stats page, as HAProxy has one.

use std::net::SocketAddr;

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{SecretBytes, StatsPage};
use crate::schema::{Kind, Section, now};

/// Where HAProxy's page is if nothing is said.
const URI: &str = "/haproxy?stats";

pub(super) static STATS_PAGE: Section = Section {
    path: "management.stats",
    list: false,
    about: "A page with the numbers of all sites, pools and endpoints, laid out as HAProxy's stats page. `;csv` behind its address is the same as CSV, in HAProxy's columns, and `;json` as JSON.",
    keys: &[
        now(
            "listen",
            Kind::Text,
            "required",
            "Address and port at which the page is, and nothing else: `\"127.0.0.1:8404\"`, or `\"*:8404\"` for every address of this machine.",
        ),
        now("uri", Kind::Text, "\"/haproxy?stats\"", "Path of the page, and query."),
        now(
            "refresh",
            Kind::Duration(false),
            "none",
            "Browsers load the page again after this, in whole seconds.",
        ),
        now(
            "auth",
            Kind::Texts,
            "[]",
            "Users who may see it, each `\"name:password\"`. With none everybody may who gets there. What is sent is not encrypted: keep it to addresses that only you can reach.",
        ),
        now(
            "admin",
            Kind::Bool,
            "false",
            "Those users may also set endpoints ready, drain them and put them in maintenance.",
        ),
    ],
};

pub(super) fn decode(table: Table<'_>) -> Option<StatsPage> {
    table.require("listen", "listen = \"127.0.0.1:8404\"");
    let listen = table.text("listen").and_then(|text| listen(&table, text));
    let uri = table.text("uri").and_then(|text| uri(&table, text));
    let refresh = table.duration("refresh");
    let auth = auth(&table);
    let admin = table.boolean("admin").unwrap_or(false);
    if let (true, true, Some(entry)) = (admin, auth.is_empty(), table.peek("admin")) {
        table.context().push(
            Diagnostic::error(Code::Conflict, entry.node.span, "anybody could steer endpoints")
                .label("without `auth`")
                .help("add `auth = [\"name:password\"]`"),
        );
    }
    table.finish();
    let uri = uri.unwrap_or_else(|| URI.to_owned());
    Some(StatsPage { listen: listen?, uri, refresh, auth, admin })
}

fn listen(table: &Table<'_>, text: Spanned<&str>) -> Option<SocketAddr> {
    let address = match text.value.split_once(':') {
        Some(("localhost", port)) => format!("127.0.0.1:{port}").parse(),
        Some(("*" | "", port)) => format!("[::]:{port}").parse(),
        _ => text.value.parse(),
    };
    match address {
        Ok(address) => Some(address),
        Err(_) => {
            let reason = "expected an address and a port, such as \"127.0.0.1:8404\"";
            table.context().push(table.context().bad("listen", text.span, reason));
            None
        }
    }
}

fn uri(table: &Table<'_>, text: Spanned<&str>) -> Option<String> {
    let is_target = text.value.starts_with('/')
        && text.value.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\"<>;".contains(&byte));
    if !is_target {
        let reason = "expected a path, such as \"/haproxy?stats\"";
        table.context().push(table.context().bad("uri", text.span, reason));
    }
    is_target.then(|| text.value.to_owned())
}

fn auth(table: &Table<'_>) -> Vec<(String, SecretBytes)> {
    let mut users = Vec::new();
    for text in table.texts("auth").unwrap_or_default() {
        table.context().conceal(text.span);
        match text.value.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                users.push((name.to_owned(), SecretBytes(password.as_bytes().to_vec())));
            }
            _ => {
                let message = "`auth` names no user with a password";
                table.context().push(
                    Diagnostic::error(Code::BadValue, text.span, message)
                        .label("expected \"name:password\""),
                );
            }
        }
    }
    users
}
