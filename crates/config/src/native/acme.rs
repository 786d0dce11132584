//! `[sites.ssl.acme]`: certificates from an authority.

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Acme, ExternalAccount, HostPattern};
use crate::schema::{Kind, Section, now};
use crate::syntax::host_pattern;

use super::ssl::path;

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

pub(super) static ACME: Section = Section {
    path: "sites.ssl.acme",
    list: false,
    about: "How certificates are got (RFC 8555), for the site's exact host names and `domains`. Challenges are HTTP-01, answered before any route on every plain listener, and TLS-ALPN-01. Until the first certificate arrives a self-signed one stands in; renewal needs no restart.",
    keys: &[
        now("enabled", Kind::Bool, "true", "Use ACME; the same as the site's `auto_cert`."),
        now("email", Kind::Text, "required", "Address the authority may write to."),
        now(
            "staging",
            Kind::Bool,
            "false",
            "Use the test service of Let's Encrypt, whose certificates no browser trusts.",
        ),
        now("directory_url", Kind::Text, "Let's Encrypt", "URL of the authority's directory."),
        now(
            "ca_file",
            Kind::Text,
            "those of the system",
            "PEM file with the root that the directory's own certificate comes from, for a private authority.",
        ),
        now(
            "challenge_dir",
            Kind::Text,
            "none",
            "Directory where challenge files are written too, for another web server that answers in Ravelin's place.",
        ),
        now(
            "state_dir",
            Kind::Text,
            "\"ravelin-state\"",
            "Directory for account keys, certificates and their keys; must survive a restart.",
        ),
        now(
            "http_port",
            Kind::Integer(1, 65535),
            "80",
            "Port at which HTTP-01 challenges are answered; opened if no site listens there. Authorities on the internet ask at 80.",
        ),
        now("profile", Kind::Text, "none", "Certificate profile to ask for, such as `shortlived`."),
        now(
            "external_account",
            Kind::Table(&EXTERNAL_ACCOUNT),
            "none",
            "Binds the account to one that the authority knows.",
        ),
    ],
};

static EXTERNAL_ACCOUNT: Section = Section {
    path: "sites.ssl.acme.external_account",
    list: false,
    about: "External account binding (RFC 8555 §7.3.4).",
    keys: &[
        now("key_id", Kind::Text, "required", "Key identifier from the authority."),
        now("hmac_key", Kind::Text, "required", "Key from the authority, base64url. Secret."),
    ],
};

/// Decodes the table; the result counts only if ACME is `wanted`.
pub(super) fn decode(
    ssl: &Table<'_>,
    wanted: bool,
    hosts: &[String],
    domains: Vec<Spanned<&str>>,
) -> Option<Acme> {
    let context = ssl.context();
    let table = ssl.table("acme");
    let email = table.as_ref().and_then(|table| table.text("email"));
    if wanted && email.as_ref().is_none_or(|email| !email.value.contains('@')) {
        context.push(
            Diagnostic::error(Code::MissingKey, ssl.span, "`auto_cert = true` needs `email` in `[sites.ssl.acme]`")
                .label("automatic certificates are asked for here")
                .help("certificate authorities want an address: `[sites.ssl.acme]` with `email = \"admin@example.com\"`"),
        );
    }
    let mut names = hosts.to_vec();
    for domain in domains {
        match host_pattern(domain.value) {
            Ok(HostPattern::Exact(name)) if names.contains(&name) => {}
            Ok(HostPattern::Exact(name)) => names.push(name),
            Ok(_) => context.push(
                context
                    .bad("domains", domain.span, "a wildcard cannot be checked by HTTP-01")
                    .help("name each host, or get the certificate otherwise and set `cert_file`"),
            ),
            Err(hint) => context.push_hint("domains", domain.span, hint),
        }
    }
    if wanted && names.is_empty() {
        context.push(
            Diagnostic::error(
                Code::BadValue,
                ssl.span,
                "there is no name to get a certificate for",
            )
            .label("the site answers to no exact host name")
            .help("set `domains`, or an exact `hostname`"),
        );
    }
    let Some(table) = table else { return None };
    let _ = table.boolean("enabled");
    let staging = table.boolean("staging").unwrap_or(false);
    let directory = table.text("directory_url");
    if let Some(url) = directory.as_ref().filter(|url| !url.value.starts_with("https://")) {
        context.push(context.bad("directory_url", url.span, "must begin with https://"));
    }
    let default = if staging { LETS_ENCRYPT_STAGING } else { LETS_ENCRYPT };
    let acme = Acme {
        names,
        email: email.map_or("", |email| email.value).to_owned(),
        directory_url: directory.map_or(default, |url| url.value).to_owned(),
        ca_file: path(&table, "ca_file"),
        challenge_dir: path(&table, "challenge_dir"),
        external_account: table.table("external_account").map(external_account),
        profile: table.text("profile").map(|text| text.value.to_owned()),
        http_port: table
            .integer("http_port")
            .and_then(|port| u16::try_from(port.value).ok())
            .unwrap_or(80),
        state_dir: path(&table, "state_dir").unwrap_or_else(|| "ravelin-state".into()),
    };
    table.finish();
    wanted.then_some(acme)
}

fn external_account(table: Table<'_>) -> ExternalAccount {
    table.require("key_id", "\"kid-1\"");
    table.require("hmac_key", "\"…\"");
    let text = |name| table.text(name).map_or("", |text| text.value).to_owned();
    let account = ExternalAccount { key_id: text("key_id"), hmac_key: text("hmac_key") };
    table.finish();
    account
}
