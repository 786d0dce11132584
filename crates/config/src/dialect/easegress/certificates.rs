//! Certificates in texts, and those that an authority is asked for.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, text};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

use super::notes::{Note, not_in_effect};
use super::{NAME, VERSION, base64, copy};

pub(super) static AUTO_CERT_MANAGER: Section = Section {
    path: "AutoCertManager",
    list: false,
    about: "Certificates that an authority is asked for.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        VERSION,
        now("email", Kind::Text, "required", ""),
        now("directoryURL", Kind::Text, "Let's Encrypt", ""),
        now("renewBefore", Kind::Text, "720h", ""),
        now("enableHTTP01", Kind::Bool, "true", ""),
        now("enableTLSALPN01", Kind::Bool, "true", ""),
        now("enableDNS01", Kind::Bool, "true", ""),
        now("domains", Kind::Tables(&DOMAINS), "required", ""),
    ],
};

static DOMAINS: Section = Section {
    path: "AutoCertManager.domains",
    list: true,
    about: "A name.",
    keys: &[now("name", Kind::Text, "required", ""), now("dnsProvider", Kind::Text, "", "")],
};

/// Who is asked for certificates, and for which names.
pub(super) struct Manager {
    acme: TableNode,
    domains: Vec<Node>,
}

/// Decodes the object.
pub(super) fn manager(table: Table<'_>) -> Manager {
    let mut acme = TableNode::at(table.span);
    table.require("email", "admin@example.com");
    table.require("domains", "[{name: example.com}]");
    copy(&table, "email", &mut acme, "email");
    copy(&table, "directoryURL", &mut acme, "directory_url");
    let mut domains = Vec::new();
    for domain in table.tables("domains") {
        domain.require("name", "example.com");
        domains.extend(domain.text("name").map(|name| text(name.value, name.span)));
        not_in_effect(&domain, &["dnsProvider"]);
        domain.finish();
    }
    for key in ["enableHTTP01", "enableTLSALPN01", "enableDNS01"] {
        table.boolean(key);
    }
    if let Some(entry) = table.take("renewBefore") {
        table.context().note_at(entry, "the authority and the certificate say when");
    }
    table.finish();
    Manager { acme, domains }
}

/// Puts the native `ssl` of a server into its site.
pub(super) fn server(table: &Table<'_>, manager: Option<&Manager>, site: &mut TableNode) {
    let context = table.context();
    let https = table.boolean("https").unwrap_or(false);
    let automatic = table.boolean("autoCert").unwrap_or(false);
    let mut pairs = Pairs::default();
    pairs.both(pem(table, "certBase64"), pem(table, "keyBase64"));
    let (certs, keys) = (pems(table, "certs"), pems(table, "keys"));
    for (name, place, cert) in certs {
        let key = keys.iter().find(|(key, ..)| *key == name).map(|(.., key)| key.clone());
        if key.is_none() {
            let message = format!("`certs` has `{}`, `keys` has not", name.escape_debug());
            context.push(
                Diagnostic::error(Code::MissingKey, place, message)
                    .label("a certificate without its key"),
            );
        }
        pairs.both(Some(cert), key);
    }
    let ca = pem(table, "caCertBase64");
    let place = table.peek("https").map_or(table.span, |entry| entry.node.span);
    if !https {
        let keys = ["autoCert", "certBase64", "certs", "caCertBase64"];
        let mut found = keys.iter().filter_map(|key| table.peek(key));
        if let Some(entry) = found.find(|entry| !entry.node.value.is_off()) {
            let message = format!("`{}` without `https: true`", entry.key);
            context.push(
                Diagnostic::warning(Code::Unused, entry.key_span, message)
                    .label("never used: the server speaks plain HTTP"),
            );
        }
        return;
    }
    let mut ssl = TableNode::at(place);
    ssl.put("enabled", boolean(true, place));
    if let Some(ca) = ca {
        ssl.put("client_ca_pem", ca);
    }
    if automatic && pairs.found.is_empty() {
        acme(table, manager, &mut ssl);
    } else if pairs.found.is_empty() {
        if !pairs.broken {
            context.push(
                Diagnostic::error(Code::MissingKey, place, "`https` without a certificate")
                    .label("which one is shown?")
                    .help("add `certBase64` and `keyBase64`, or `certs` and `keys`"),
            );
        }
    } else {
        pairs.put_into(&mut ssl, place);
    }
    site.put("ssl", ssl);
}

fn acme(table: &Table<'_>, manager: Option<&Manager>, ssl: &mut TableNode) {
    let place = table.peek("autoCert").map_or(table.span, |entry| entry.node.span);
    let Some(manager) = manager else {
        table.context().push(
            Diagnostic::error(Code::MissingKey, place, "`autoCert` without an AutoCertManager")
                .label("for which names are certificates got?")
                .help("add an object with `kind: AutoCertManager`, `email` and `domains`"),
        );
        return;
    };
    ssl.put("auto_cert", boolean(true, place));
    ssl.put("domains", list(manager.domains.iter().cloned(), place));
    ssl.put("acme", manager.acme.clone());
}

/// Certificates with their keys.
#[derive(Default)]
struct Pairs {
    found: Vec<(Node, Node)>,
    /// One of two could not be read or is missing.
    broken: bool,
}

impl Pairs {
    fn both(&mut self, cert: Option<Node>, key: Option<Node>) {
        match (cert, key) {
            (Some(cert), Some(key)) => self.found.push((cert, key)),
            (None, None) => {}
            _ => self.broken = true,
        }
    }

    fn put_into(self, ssl: &mut TableNode, place: Span) {
        let single = self.found.len() == 1;
        for (cert, key) in self.found {
            if single {
                ssl.put("cert", cert);
                ssl.put("key", key);
            } else {
                let mut pair = TableNode::at(place);
                pair.put("cert", cert);
                pair.put("key", key);
                ssl.push("certificates", pair);
            }
        }
    }
}

/// A key's text as PEM: it may be that already, or base64 of it. `None` if it is not written, or
/// wrong, which is reported.
pub(super) fn pem(table: &Table<'_>, key: &'static str) -> Option<Node> {
    let entry = table.take(key)?;
    pem_of(table, entry).filter(|_| !entry.node.value.is_off())
}

fn pems(table: &Table<'_>, key: &'static str) -> Vec<(String, Span, Node)> {
    let found = table
        .map(key)
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), entry.key_span, pem_of(table, entry)?)));
    found.collect()
}

fn pem_of(table: &Table<'_>, entry: &Entry) -> Option<Node> {
    const BEGIN: &str = "-----BEGIN ";
    let context = table.context();
    let written = context.text(&entry.key, &entry.node)?;
    if written.value.is_empty() || written.value.contains(BEGIN) {
        return Some(text(written.value, written.span));
    }
    let decoded = base64::decode(written.value).and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.filter(|pem| pem.contains(BEGIN)) {
        Some(pem) => Some(Node { value: Value::String(pem), span: written.span }),
        None => {
            let message = format!("`{}` is neither PEM nor base64 of it", entry.key);
            context.push(
                Diagnostic::error(Code::BadCertificate, written.span, message).label(
                    "a text with `-----BEGIN CERTIFICATE-----` or base64 of one is expected",
                ),
            );
            None
        }
    }
}
