//! `docs/reference.md` says what the decoder knows, and the decoder knows what it says: the tables of
//! the page are made from the schema. `RAVELIN_BLESS=1 cargo test -p config --test reference` writes
//! them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config::schema::{Effect, Key, Kind, Section};
use config::{Code, Options, ROOT, load};

const BEGIN: &str = "<!-- begin: made from the schema by crates/config/tests/reference.rs -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_reference_has_every_key_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the marker where the tables begin");
    let (_, after) = rest.split_once(END).expect("the marker where the tables end");
    let made = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("RAVELIN_BLESS").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(
            page == made,
            "docs/reference.md is not what the schema says; see this test's head"
        );
    }
}

/// Every key of the schema is decoded: nobody forgets a key that is in effect, and exactly those that
/// are not are warned about.
#[test]
fn every_key_in_effect_is_decoded_and_every_other_is_warned_about() {
    let mut text = String::new();
    let mut written = Vec::new();
    for section in ROOT.walk() {
        // Routes may be written at two places, and the tables below them are the same. Certificates as
        // texts stand in the place of files.
        if !written.contains(&section.path) && section.path != "sites.ssl.certificates" {
            written.push(section.path);
            write_section(&mut text, section);
        }
    }
    let loaded = load(&[(PathBuf::from("all.toml"), &text)], &Options::default());
    assert_eq!(loaded.errors(), 0, "{}\n{text}", loaded.render(false));
    let warnings: Vec<String> = loaded
        .diagnostics
        .iter()
        .filter(|found| found.code == Code::NotInEffect)
        .map(|found| found.message.clone())
        .collect();
    for section in ROOT.walk() {
        for key in section.keys.iter().filter(|key| key.effect == Effect::Later) {
            let named = match key.kind.section() {
                Some(section) => format!("`[{}]`", section.path),
                None => format!("`{}`", key.name),
            };
            let inside = warnings.iter().any(|warning| {
                warning.contains(&named) || warning.starts_with(&format!("`[{}]`", section.path))
            });
            assert!(inside, "no warning for {named} in {}", section.header());
        }
    }
}

fn write_section(text: &mut String, section: &Section) {
    if !section.path.is_empty() {
        _ = writeln!(text, "\n{}", section.header());
    }
    for key in section.keys {
        if is_instead_of_another(section, key.name) {
            continue;
        }
        // The keys of the other types contradict the first one.
        if section.path.ends_with(".auth") && !AUTH_KEYS.contains(&key.name) {
            continue;
        }
        if let Some(sample) = sample(section, key) {
            _ = writeln!(text, "{} = {sample}", key.name);
        }
    }
}

/// Whether a key stands in the place of one that is written.
fn is_instead_of_another(section: &Section, key: &str) -> bool {
    const OF_FILES: &[&str] =
        &["root", "index_files", "spa_fallback", "spa_exclude", "cache_control"];
    const OF_ANSWERS: &[&str] = &["redirect", "status", "body", "content_type"];
    const REWRITES: &[&str] = &["trim_prefix", "add_prefix", "replace_prefix", "replace"];
    const PEM_TEXTS: &[&str] = &["cert", "key", "certificates", "client_ca_pem", "ca"];
    match section.path {
        "sites" => key == "port",
        "sites.ssl" | "sites.proxy.upstreams.tls" => PEM_TEXTS.contains(&key),
        // Routes of both lists have names of their own.
        "sites.proxy.routes" if key == "name" => true,
        "sites.routes" | "sites.proxy.routes" => {
            OF_FILES.contains(&key) || OF_ANSWERS.contains(&key)
        }
        path if path.ends_with(".when") => ["query", "cookie"].contains(&key),
        path if path.ends_with(".rewrite") => REWRITES.contains(&key),
        _ => false,
    }
}

/// Those of `type = "basic"`.
const AUTH_KEYS: &[&str] = &["type", "realm", "strip", "users", "file", "user_header"];

fn sample(section: &Section, key: &Key) -> Option<String> {
    let specific = match (section.path, key.name) {
        (_, "hostname") => Some("\"a.example\""),
        (_, "hostnames") => Some("[\"b.example\"]"),
        // Not on a site with TLS.
        ("sites", "h2c") => Some("false"),
        ("sites", "listen") => Some("[\":8080\"]"),
        (_, "url") => Some("\"https://127.0.0.1:1\""),
        (_, "email") => Some("\"a@a.example\""),
        (_, "directory_url") => Some("\"https://ca.example\""),
        ("management", "host") => Some("\"127.0.0.1\""),
        ("management", "socket_mode") => Some("\"660\""),
        ("management", "metrics") => Some("\"127.0.0.1:9100\""),
        ("management.stats", "listen") => Some("\"127.0.0.1:8404\""),
        ("management.stats", "uri") => Some("\"/haproxy?stats\""),
        ("management.stats", "auth") => Some("[\"admin:changeme\"]"),
        ("tracing", "endpoint") => Some("\"http://127.0.0.1:4318\""),
        (_, "path" | "rewrite_target") => Some("\"/x\""),
        (_, "users") => Some("{ a = \"plain:x\" }"),
        (_, "upstream") => Some("\"x\""),
        // What contradicts no other key.
        ("sites.proxy.upstreams", "backup" | "down" | "drain") => Some("false"),
        (_, "method") if section.path.ends_with("load_balancing") => Some("\"hash\""),
        (_, "hash_key") => Some("\"uri\""),
        (_, "origins") => Some("\"same\""),
        (_, "default_origin") => Some("\"https://a.example\""),
        (_, "latency") => Some("500"),
        (_, "host") if section.path.ends_with("health_check") => Some("\"a.example\""),
        ("logging", "format") => Some("\"{client} {status}\""),
        ("logging", "access_log") => Some("\"syslog\""),
        ("lint", "allow") => Some("[\"missing-timeout\"]"),
        ("tests", "request") => Some("\"GET https://a.example/x\""),
        ("tests", "client") => Some("\"192.0.2.1\""),
        (_, "allow" | "deny" | "whitelist") => Some("[\"10.0.0.0/8\"]"),
        (_, "allow_origins" | "allowed_origins") => Some("[\"https://a.example\"]"),
        (path, "key") if path.ends_with(".rate_limit") => Some("\"address\""),
        (_, "trusted_proxies" | "servers") => Some("[\"::1\"]"),
        (_, "fill") => Some("{ \"X-B\" = \"$host\" }"),
        (_, "methods") => Some("[\"GET\"]"),
        (_, "spa_exclude") => Some("[\"/x/\"]"),
        (_, "set_method") => Some("\"POST\""),
        (_, "set_host") => Some("\"a.example\""),
        (_, "on_result") => Some("{ timeout = \"end\" }"),
        (_, "share") => Some("\"5%\""),
        (_, "by") => Some("\"header:X-A\""),
        (_, "failure_statuses") => Some("[\"5xx\"]"),
        (_, "mismatch") => Some("400"),
        ("sites.routes.redirects", "status") => Some("302"),
        (_, "error_pages") => Some("{ 404 = \"x\" }"),
        _ => None,
    };
    if let Some(specific) = specific {
        return Some(specific.to_owned());
    }
    Some(match key.kind {
        Kind::Bool | Kind::BoolOrText | Kind::BoolOrNumber(_) => "true".to_owned(),
        Kind::Text | Kind::TextOrTexts => "\"x\"".to_owned(),
        Kind::Texts | Kind::Names => "[\"x\"]".to_owned(),
        Kind::Integer(min, _) => min.max(1).to_string(),
        Kind::Duration(_) => "\"1s\"".to_owned(),
        Kind::Size(min, _) => min.max(1).to_string(),
        Kind::Bound => "\"unlimited\"".to_owned(),
        Kind::Choice(names, _) => format!("\"{}\"", names[0]),
        Kind::Choices(names) => format!("{names:?}"),
        Kind::Map | Kind::ValueMap | Kind::FieldMap => "{ \"X-A\" = \"1\" }".to_owned(),
        Kind::Statuses | Kind::ChoicesOrStatuses(..) => "[404, \"5xx\"]".to_owned(),
        Kind::Share => "0.1".to_owned(),
        Kind::CountOrDuration(max) => max.min(100).to_string(),
        Kind::Match => "{ regex = \"^x\" }".to_owned(),
        Kind::MatchMap => "{ \"X-A\" = \"1\", \"X-B\" = { contains = \"1\" } }".to_owned(),
        Kind::Table(_) | Kind::Tables(_) | Kind::TableOrTables(_) | Kind::BoolOrTable(_) => {
            return None;
        }
    })
}

fn tables() -> String {
    let mut page = String::new();
    for section in ROOT.walk() {
        let heading = match section.path {
            "" => "Top level".to_owned(),
            _ => format!("`{}`", section.header()),
        };
        _ = writeln!(page, "### {heading}\n\n{}\n", section.about);
        if let Some(same) = same_as(section) {
            _ = writeln!(page, "The keys are those of `{}`.\n", same.header());
            continue;
        }
        page.push_str("| Key | Type | Default | In effect | Meaning |\n|---|---|---|---|---|\n");
        for key in section.keys {
            let effect = if key.effect == Effect::Now { "yes" } else { "not yet" };
            let default = if key.default.is_empty() { "none" } else { key.default };
            let kind = kind(&key.kind);
            let about = format!("{}{}", key.about, other_names(key));
            _ = writeln!(page, "| `{}` | {kind} | {default} | {effect} | {about} |", key.name);
        }
        page.push('\n');
    }
    page.push_str("### Codes of findings\n\n| Code | Meaning |\n|---|---|\n");
    for (_, name, about) in Code::ALL {
        _ = writeln!(page, "| `{name}` | {} |", about.trim());
    }
    page
}

fn other_names(key: &Key) -> String {
    let names: Vec<String> = key.aliases.iter().map(|alias| format!("`{alias}`")).collect();
    if names.is_empty() { String::new() } else { format!(" Also {}.", names.join(", ")) }
}

/// The table of the proxy that a table of a pool has its keys from.
fn same_as(section: &Section) -> Option<&'static Section> {
    let path = section.path.replace("sites.proxy.pools.", "sites.proxy.");
    let path = path.replace("sites.proxy.routes", "sites.routes");
    ROOT.walk().into_iter().find(|other| other.path == path && other.path != section.path)
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "boolean".to_owned(),
        Kind::BoolOrText => "boolean or string".to_owned(),
        Kind::BoolOrNumber(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
            format!("boolean, {}", numbers.join(", "))
        }
        Kind::BoolOrTable(section) => format!("boolean, or table, `{}`", section.header()),
        Kind::Text => "string".to_owned(),
        Kind::Texts => "list of strings".to_owned(),
        Kind::TextOrTexts => "string, or list of strings".to_owned(),
        Kind::Integer(min, max) if *max >= i64::from(u32::MAX) => {
            format!("integer, at least {min}")
        }
        Kind::Integer(min, max) => format!("integer, {min} to {max}"),
        Kind::Duration(true) => "duration".to_owned(),
        Kind::Duration(false) => "duration above 0".to_owned(),
        Kind::Size(..) => "size".to_owned(),
        Kind::Bound => "size, or `\"unlimited\"`".to_owned(),
        Kind::Choice(names, _) => {
            names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Choices(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
            format!("list of {}", names.join(", "))
        }
        Kind::Map => "table of strings".to_owned(),
        Kind::ValueMap => "table of strings, integers, booleans, and lists of them".to_owned(),
        Kind::FieldMap => {
            "table of strings, of lists of them, and of tables with `values` or `regex`".to_owned()
        }
        Kind::Names => "list of names, or table of booleans".to_owned(),
        Kind::Statuses => "status, or list of statuses and ranges".to_owned(),
        Kind::ChoicesOrStatuses(names, _) => {
            let names: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
            format!("list of {} and of statuses", names.join(", "))
        }
        Kind::Share => "number from 0 to 1, or percentage".to_owned(),
        Kind::CountOrDuration(max) => format!("integer, 1 to {max}, or duration"),
        Kind::Match => "string, or table with `exact`, `contains` or `regex`".to_owned(),
        Kind::MatchMap => {
            "table of strings and of tables with `exact`, `contains` or `regex`".to_owned()
        }
        Kind::TableOrTables(section) => format!("table, or tables, `{}`", section.header()),
        Kind::Table(section) => format!("table, `{}`", section.header()),
        Kind::Tables(section) => format!("tables, `{}`", section.header()),
    }
}
