//! `[sites.ssl.acme]`: certificates from an authority.

use std::net::IpAddr;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{Acme, ExternalAccount, HostPattern};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{authority, host_pattern};

use super::ssl::{file, path, wanted_directory};

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

pub(super) static ACME: Section = Section {
    path: "sites.ssl.acme",
    list: false,
    about: "How certificates are got (RFC 8555), for the site's exact host names and `domains`. Challenges are HTTP-01, answered before any route on every plain listener, and TLS-ALPN-01. Until the first certificate arrives a self-signed one stands in; renewal needs no restart.",
    keys: &[
        now(
            "enabled",
            Kind::Bool,
            "as `auto_cert`",
            "Use ACME; what counts if `auto_cert` is not written.",
        ),
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
            "Directory where challenge files are written too, for another web server that answers in Ravelin's place: below it, in `.well-known/acme-challenge`. It must exist.",
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

/// What a certificate may be got for.
pub(super) struct Names<'n> {
    pub(super) hosts: &'n [HostPattern],
    /// Where each of the hosts is written.
    pub(super) places: &'n [Span],
    pub(super) domains: Vec<Spanned<&'n str>>,
}

/// Decodes the table; `None` unless certificates by ACME are `wanted`.
pub(super) fn decode(
    ssl: &Table<'_>,
    table: Option<Table<'_>>,
    wanted: bool,
    names: &Names<'_>,
) -> Option<Acme> {
    let directory = table.as_ref().and_then(directory);
    let own = table.as_ref().is_some_and(|table| table.has_or_means("directory_url"));
    let names = if wanted { collect(ssl, names, own) } else { Vec::new() };
    let email = table.as_ref().and_then(|table| email(table, wanted));
    let Some(table) = table else {
        if wanted {
            no_email(ssl.context(), ssl.span);
        }
        return None;
    };
    if wanted && !table.has_or_means("email") {
        no_email(ssl.context(), table.span);
    }
    let staging = table.boolean("staging").unwrap_or(false);
    if let (true, Some(entry)) = (staging && own, table.peek("staging")) {
        let message = "`staging` does nothing with `directory_url`";
        ssl.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, message)
                .label("is a test service of Let's Encrypt only"),
        );
    }
    let default = if staging { LETS_ENCRYPT_STAGING } else { LETS_ENCRYPT };
    let port = table.integer("http_port").and_then(|port| u16::try_from(port.value).ok());
    let acme = Acme {
        names,
        email: email.unwrap_or_default().to_owned(),
        directory_url: directory.unwrap_or(default).to_owned(),
        ca_file: file(&table, "ca_file", wanted),
        challenge_dir: wanted_directory(
            &table,
            "challenge_dir",
            wanted,
            "the web server reads challenges there",
        ),
        external_account: table.table("external_account").map(external_account),
        profile: table.text("profile").map(|text| text.value.to_owned()),
        http_port: port.unwrap_or(80),
        state_dir: path(&table, "state_dir").unwrap_or_else(|| "ravelin-state".into()),
    };
    table.finish();
    wanted.then_some(acme)
}

fn email<'n>(table: &Table<'n>, wanted: bool) -> Option<&'n str> {
    let email = table.text("email")?;
    let fits = email.value.contains('@') && !email.value.contains(char::is_whitespace);
    if wanted && !fits {
        let reason = "expected an address such as \"admin@example.com\"";
        table.context().push(table.context().bad("email", email.span, reason));
    }
    Some(email.value)
}

fn no_email(context: &Context<'_>, place: Span) {
    let message = "`auto_cert = true` needs `email` in `[sites.ssl.acme]`";
    context.push(
        Diagnostic::error(Code::MissingKey, place, message)
            .label("`email` is missing")
            .help("certificate authorities want an address: `[sites.ssl.acme]` with `email = \"admin@example.com\"`"),
    );
}

fn directory<'n>(table: &Table<'n>) -> Option<&'n str> {
    let url = table.text("directory_url")?;
    let rest = url.value.strip_prefix("https://");
    let reason = match rest.map(|rest| authority(rest.split('/').next().unwrap_or(""), 443)) {
        None => "must begin with https://",
        Some(Err(_)) => "expected a URL such as \"https://ca.example/directory\"",
        Some(Ok(_)) => return Some(url.value),
    };
    table.context().push(table.context().bad("directory_url", url.span, reason));
    None
}

/// The names to get a certificate for, each once; reports those for which there can be none. Only an
/// `own` authority knows names that lead nowhere on the internet.
fn collect(ssl: &Table<'_>, given: &Names<'_>, own: bool) -> Vec<String> {
    let context = ssl.context();
    let mut names: Vec<String> = Vec::new();
    let mut local: Option<(&str, Span)> = None;
    for (host, place) in given.hosts.iter().zip(given.places) {
        match host {
            HostPattern::Exact(name) if !own && is_local(name) => local = Some((name, *place)),
            HostPattern::Exact(name) => names.push(name.clone()),
            HostPattern::Wildcard(_) | HostPattern::Any => {}
        }
    }
    for domain in &given.domains {
        match host_pattern(domain.value) {
            Ok(HostPattern::Exact(name)) if names.contains(&name) => {}
            Ok(HostPattern::Exact(name)) if !own && is_local(&name) => {
                context.push(no_authority(&name, domain.span));
            }
            Ok(HostPattern::Exact(name)) => names.push(name),
            Ok(_) => context.push(wildcard(context.bad("domains", domain.span, NO_WILDCARD))),
            Err(hint) => context.push_hint("domains", domain.span, hint),
        }
    }
    uncovered(context, given, &names);
    match local {
        Some((name, place)) if names.is_empty() => context.push(no_authority(name, place)),
        Some((name, place)) => context.push(
            Diagnostic::warning(Code::Unused, place, format!("`{name}` is not in the certificate"))
                .label("Let's Encrypt gives no certificate for it"),
        ),
        None if names.is_empty() && given.domains.is_empty() && !is_wildcard(given.hosts) => {
            context.push(
                Diagnostic::error(
                    Code::BadValue,
                    ssl.span,
                    "there is no name to get a certificate for",
                )
                .label("the site answers to no exact host name")
                .help("list the names in `domains`, or set an exact `hostname`"),
            );
        }
        None => {}
    }
    names
}

const NO_WILDCARD: &str = "no certificate can be got for a wildcard";

fn wildcard(error: Diagnostic) -> Diagnostic {
    error
        .help("authorities give one for proof by DNS alone; HTTP-01 and TLS-ALPN-01, which are done here, prove single names")
        .help("list the hosts one by one in `domains`, or get the certificate by other means and set `cert_file`")
}

/// Wildcard hosts below which there is no name: every request for them would meet a certificate of
/// another name.
fn uncovered(context: &Context<'_>, given: &Names<'_>, names: &[String]) {
    for (host, place) in given.hosts.iter().zip(given.places) {
        let HostPattern::Wildcard(parent) = host else { continue };
        let is_below = |name: &str| {
            name.strip_suffix(parent.as_str()).is_some_and(|labels| labels.ends_with('.'))
        };
        if !names.iter().any(|name| is_below(name)) {
            let message = format!("no certificate for `*.{parent}` with `auto_cert`");
            context.push(wildcard(
                Diagnostic::error(Code::BadValue, *place, message).label(NO_WILDCARD),
            ));
        }
    }
}

fn is_wildcard(hosts: &[HostPattern]) -> bool {
    hosts.iter().any(|host| matches!(host, HostPattern::Wildcard(_)))
}

/// Whether no authority on the internet can look for this name.
fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn no_authority(name: &str, place: Span) -> Diagnostic {
    let message = format!("Let's Encrypt gives no certificate for `{name}`");
    Diagnostic::error(Code::BadValue, place, message)
        .label("is no name of the internet")
        .help("set `directory_url` to an authority that knows it, or `cert_file` in the place of `auto_cert`")
}

fn external_account(table: Table<'_>) -> ExternalAccount {
    table.require("key_id", "\"kid-1\"");
    table.require("hmac_key", "\"…\"");
    let text = |name| table.text(name).map_or("", |text| text.value).to_owned();
    let account = ExternalAccount { key_id: text("key_id"), hmac_key: text("hmac_key") };
    table.finish();
    account
}
