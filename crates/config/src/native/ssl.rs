//! `[sites.ssl]`: TLS of a site.

use std::path::PathBuf;

use crate::decode::{Context, Spanned, Switch, Table};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::model::{
    CertificateSource, ClientAuth, HostPattern, Pem, PemPair, SecretBytes, Tls, TlsPolicy,
    TlsVersion,
};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::syntax::{field_value, quoted};
use crate::tree::Value;

use super::acme::{self, ACME};

const VERSIONS: Kind = Kind::Choice(&["1.2", "1.3"], &["TLSv1.2", "TLSv1.3"]);

pub(super) static SSL: Section = Section {
    path: "sites.ssl",
    list: false,
    about: "TLS. With `enabled = true` nothing but TLS is spoken at the site's addresses; a certificate that cannot be had refuses the start. Sites of one address are told apart by the name a client asks for (SNI); a request for a site with another policy than its connection was made under is answered 421.",
    keys: &[
        now("enabled", Kind::Bool, "false", "Serve the site with TLS."),
        now(
            "auto_cert",
            Kind::Bool,
            "false",
            "Get certificates by ACME; needs `[sites.ssl.acme]` with `email`.",
        ),
        now(
            "domains",
            Kind::Texts,
            "[]",
            "Names in the certificate that ACME gets, beside the host names.",
        ),
        now(
            "cert_file",
            Kind::Text,
            "none",
            "PEM file with the certificate chain, the site's own first; required with TLS unless `auto_cert`. Read again when it changes.",
        ),
        now(
            "key_file",
            Kind::Text,
            "in `cert_file`",
            "PEM file with the private key (PKCS#8, PKCS#1 or SEC1).",
        ),
        now(
            "ocsp_file",
            Kind::Text,
            "none",
            "DER file with an OCSP response to staple, for as long as it says that the certificate is good. Read again when it changes.",
        ),
        now(
            "cert",
            Kind::Text,
            "none",
            "The certificate chain itself as PEM text, in the place of `cert_file`.",
        ),
        now("key", Kind::Text, "none", "Its private key as PEM text; required with `cert`."),
        now(
            "certificates",
            Kind::Tables(&CERTIFICATES),
            "none",
            "Several certificates as texts, in the place of `cert`. The name that a client asks for (SNI) chooses; the first is for all others.",
        ),
        now("min_version", VERSIONS, "\"1.2\"", "Oldest version of TLS taken."),
        now("max_version", VERSIONS, "\"1.3\"", "Newest version of TLS taken."),
        now(
            "ciphers",
            Kind::Choices(TlsPolicy::CIPHERS),
            "all of them",
            "Cipher suites by preference. Each version of TLS that is taken needs one; `TLS_ECDHE_…` are for TLS 1.2, the others for TLS 1.3.",
        ),
        now(
            "groups",
            Kind::Choices(TlsPolicy::GROUPS),
            "X25519MLKEM768, X25519, secp256r1, secp384r1",
            "Key exchange groups by preference.",
        ),
        now(
            "client_ca",
            Kind::Text,
            "none",
            "PEM file with authorities: clients must show a certificate of theirs. The upstream is told by `X-SSL-Client-Verify`, `-S-DN`, `-I-DN`, `-Serial`, `-SHA256` and `Client-Cert` (RFC 9440), which clients cannot send themselves.",
        ),
        now(
            "client_ca_pem",
            Kind::Text,
            "none",
            "The authorities themselves as PEM text, in the place of `client_ca`.",
        ),
        now(
            "client_auth",
            Kind::Choice(&["required", "optional"], &[]),
            "\"required\"",
            "Whether a client without a certificate is refused, with `client_ca`.",
        ),
        now("http2", Kind::Bool, "true", "Offer HTTP/2."),
        now(
            "session_tickets",
            Kind::Bool,
            "true",
            "Let clients resume sessions; never done with `client_ca`. Keys roll every six hours.",
        ),
        now(
            "hsts",
            Kind::BoolOrText,
            "false",
            "Send `Strict-Transport-Security` (RFC 6797) on every response of the site: `true` for \"max-age=31536000\" (a year), or the value to send.",
        ),
        now("acme", Kind::Table(&ACME), "", "How certificates are got."),
    ],
};

static CERTIFICATES: Section = Section {
    path: "sites.ssl.certificates",
    list: true,
    about: "One certificate as text.",
    keys: &[
        now("cert", Kind::Text, "required", "The certificate chain as PEM text."),
        now("key", Kind::Text, "required", "Its private key as PEM text."),
    ],
};

/// What the table says.
pub(super) struct Ssl {
    /// TLS of the site, if it asks for it.
    pub(super) tls: Option<Tls>,
    /// Value of `Strict-Transport-Security`, and where it is asked for.
    pub(super) transport_security: Option<Spanned<String>>,
}

/// Decodes the table of a site with these hosts, written at `places`.
pub(super) fn decode(site: &Table<'_>, hosts: &[HostPattern], places: &[Span]) -> Ssl {
    let Some(ssl) = site.table("ssl") else { return Ssl { tls: None, transport_security: None } };
    let enabled = ssl.boolean("enabled").unwrap_or(false);
    let certificate = certificate(&ssl, enabled, hosts, places);
    let ocsp_file =
        file(&ssl, "ocsp_file", enabled && matches!(certificate, CertificateSource::Files { .. }));
    let tls = Tls { certificate, ocsp_file, policy: policy(&ssl, enabled) };
    let transport_security = transport_security(&ssl);
    if !ssl.has_or_means("enabled") {
        ssl.context().push(
            Diagnostic::warning(Code::Unused, ssl.span, "TLS is off: `enabled` is not set")
                .label("nothing in this table is used, the site speaks plain HTTP")
                .help("write `enabled = true` below `[sites.ssl]`, or `enabled = false` to keep it off"),
        );
    }
    ssl.finish();
    Ssl { tls: enabled.then_some(tls), transport_security: transport_security.filter(|_| enabled) }
}

fn certificate(
    ssl: &Table<'_>,
    enabled: bool,
    hosts: &[HostPattern],
    places: &[Span],
) -> CertificateSource {
    let acme = ssl.table("acme");
    let auto = is_automatic(ssl, acme.as_ref(), enabled);
    let texts = texts(ssl);
    let written = ssl.has("cert") || ssl.has("certificates");
    let used = enabled && auto == Some(false) && !written;
    let files = CertificateSource::Files {
        certificate: file(ssl, "cert_file", used).unwrap_or_default(),
        key: file(ssl, "key_file", used),
    };
    let files = if texts.is_empty() { files } else { CertificateSource::Texts(texts) };
    one_way(ssl);
    if used && !ssl.has_or_means("cert_file") {
        ssl.context().push(
            Diagnostic::error(Code::MissingKey, ssl.span, "`[sites.ssl]` needs the key `cert_file`")
                .label("there is no certificate")
                .help("for example `cert_file = \"/etc/ssl/site.pem\"`, or `auto_cert = true` and `[sites.ssl.acme]` to get one by ACME"),
        );
    }
    if let (true, Some(auto)) = (enabled, auto) {
        unused(ssl, auto);
    }
    let names = acme::Names { hosts, places, domains: ssl.texts("domains").unwrap_or_default() };
    acme::decode(ssl, acme, enabled && auto == Some(true), &names)
        .map_or(files, CertificateSource::Acme)
}

/// Certificates that stand in the configuration itself.
fn texts(ssl: &Table<'_>) -> Vec<PemPair> {
    let pair = |table: &Table<'_>, needed: bool| {
        let (certificate, key) = (pem(table, "cert"), pem(table, "key"));
        if needed || table.has("cert") || table.has("key") {
            table.require("cert", "\"-----BEGIN CERTIFICATE-----…\"");
            table.require("key", "\"-----BEGIN PRIVATE KEY-----…\"");
        }
        let key = SecretBytes(key?.into_bytes());
        Some(PemPair { certificate: certificate?, key })
    };
    let mut found: Vec<PemPair> = pair(ssl, false).into_iter().collect();
    for table in ssl.tables("certificates") {
        found.extend(pair(&table, true));
        table.finish();
    }
    found
}

/// A text that is to be PEM. What stands there is never shown.
pub(super) fn pem(table: &Table<'_>, name: &'static str) -> Option<String> {
    let text = table.text(name)?;
    if !text.value.contains("-----BEGIN ") {
        let message = format!("`{name}` is no PEM text");
        table.context().push(
            Diagnostic::error(Code::BadCertificate, text.span, message)
                .label("expected a text with `-----BEGIN …` in it")
                .help("paths of files stand in other keys: `cert_file`, `key_file`, `client_ca`"),
        );
        return None;
    }
    table.context().conceal(text.span);
    Some(text.value.to_owned())
}

/// A certificate is in a file, in a text, or got by ACME.
fn one_way(ssl: &Table<'_>) {
    let keys = ["cert_file", "cert", "certificates"];
    let mut written = keys.iter().filter_map(|key| ssl.peek(key));
    let on = ssl.peek("auto_cert").filter(|entry| !entry.node.value.is_off());
    let texts = ssl.peek("cert").or_else(|| ssl.peek("certificates"));
    let (first, second) = match (on, texts) {
        (Some(auto), Some(text)) => (Some(auto), Some(text)),
        _ => (written.next(), written.next()),
    };
    if let (Some(first), Some(second)) = (first, second) {
        let message = format!("`{}` together with `{}`", second.key, first.key);
        ssl.context().push(
            Diagnostic::error(Code::Conflict, second.key_span, message)
                .label("says another certificate")
                .also(first.key_span, "says one")
                .help("keep one of them"),
        );
    }
}

/// Whether the certificate comes by ACME: `auto_cert` says it, or else the `enabled` of `acme`. `None`
/// if what they say cannot be read.
fn is_automatic(ssl: &Table<'_>, acme: Option<&Table<'_>>, enabled: bool) -> Option<bool> {
    let auto = ssl.boolean("auto_cert");
    let acme_enabled = acme.and_then(|table| table.boolean("enabled"));
    if let (true, Some(true), Some(false)) = (enabled, auto, acme_enabled)
        && let Some(off) = acme.and_then(|table| table.peek("enabled"))
        && let Some(on) = ssl.peek("auto_cert")
    {
        let message = "`auto_cert` is on and `[sites.ssl.acme]` is off";
        ssl.context().push(
            Diagnostic::error(Code::Conflict, off.key_span, message)
                .label("no certificate would be got")
                .also(on.key_span, "asks for one")
                .help("set both to `true`, or give `cert_file` in the place of `auto_cert`"),
        );
    }
    match auto {
        Some(auto) => Some(auto),
        None if ssl.has("auto_cert") => None,
        None => Some(acme_enabled.unwrap_or(false)),
    }
}

/// Keys about the way of getting a certificate that is not taken.
fn unused(ssl: &Table<'_>, auto: bool) {
    let (keys, why): (&[&str], _) = match auto {
        true => (&["cert_file", "key_file", "ocsp_file"], "the certificate comes by ACME"),
        false => (&["domains"], "the names are those in `cert_file`"),
    };
    for key in keys {
        if let Some(entry) = ssl.peek(key).filter(|entry| !entry.node.value.is_off()) {
            let with = if auto { "with" } else { "without" };
            let message = format!("`{key}` does nothing {with} `auto_cert`");
            ssl.context()
                .push(Diagnostic::warning(Code::Unused, entry.key_span, message).label(why));
        }
    }
}

fn policy(ssl: &Table<'_>, enabled: bool) -> TlsPolicy {
    let version = |name, default| match ssl.choice(name) {
        Some("1.3" | "TLSv1.3") => TlsVersion::Tls13,
        Some(_) => TlsVersion::Tls12,
        None => default,
    };
    let names = |name| -> Vec<String> {
        ssl.choices(name).unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    let (min_version, max_version) =
        (version("min_version", TlsVersion::Tls12), version("max_version", TlsVersion::Tls13));
    if let Some(entry) = ssl.peek("max_version").filter(|_| max_version < min_version) {
        let message = "must not be older than `min_version`";
        ssl.context().push(ssl.context().bad("max_version", entry.node.span, message));
    }
    let ciphers = names("ciphers");
    without_cipher(ssl, &ciphers, min_version, max_version);
    let required = ssl.choice("client_auth") != Some("optional");
    let client_ca = ssl.peek("client_ca").or_else(|| ssl.peek("client_ca_pem"));
    if let (Some(entry), None) = (ssl.peek("client_auth"), client_ca) {
        ssl.context().push(
            Diagnostic::error(Code::Conflict, entry.key_span, "`client_auth` without `client_ca`")
                .label("nobody's certificates could be verified")
                .help("name the file with the authorities: `client_ca = \"clients-ca.pem\"`"),
        );
    }
    TlsPolicy {
        min_version,
        max_version,
        ciphers,
        groups: names("groups"),
        client_auth: file(ssl, "client_ca", enabled)
            .map(Pem::File)
            .or(pem(ssl, "client_ca_pem").map(Pem::Text))
            .map(|ca_file| ClientAuth { ca_file, required }),
        http2: ssl.boolean("http2").unwrap_or(true),
        tickets: ssl.boolean("session_tickets").unwrap_or(true),
    }
}

/// Reports a version for which no suite is named: connections of that version could not be made.
fn without_cipher(ssl: &Table<'_>, ciphers: &[String], min: TlsVersion, max: TlsVersion) {
    let Some(entry) = ssl.peek("ciphers") else { return };
    let all_known =
        matches!(&entry.node.value, Value::Array(items) if items.len() == ciphers.len());
    if ciphers.is_empty() || !all_known {
        return;
    }
    for (version, name, bound) in [
        (TlsVersion::Tls12, "1.2", "set `min_version = \"1.3\"`"),
        (TlsVersion::Tls13, "1.3", "set `max_version = \"1.2\"`"),
    ] {
        let taken = (min..=max).contains(&version);
        if taken && ciphers.iter().all(|cipher| TlsPolicy::version_of(cipher) != version) {
            let message = format!("no cipher suite of TLS {name} is named");
            let otherwise = if min < max { bound } else { "take `ciphers` out" };
            ssl.context().push(
                Diagnostic::error(Code::Conflict, entry.key_span, message)
                    .label(format!("TLS {name} is taken, but could not be spoken"))
                    .help(format!("add one, or {otherwise}")),
            );
        }
    }
}

/// A file of TLS that must be there if it is `used`.
pub(super) fn file(table: &Table<'_>, name: &'static str, used: bool) -> Option<PathBuf> {
    needed_file(table, name, used, "TLS cannot do without it")
}

/// A file that must be there if it is `used`, else nothing is served; `why` says for what.
pub(super) fn needed_file(
    table: &Table<'_>,
    name: &'static str,
    used: bool,
    why: &str,
) -> Option<PathBuf> {
    looked_for(table, name, used, why, ("file", Severity::Error))
}

/// A directory that should be there; `why` says for what. It may be made later.
pub(super) fn wanted_directory(
    table: &Table<'_>,
    name: &'static str,
    used: bool,
    why: &str,
) -> Option<PathBuf> {
    looked_for(table, name, used, why, ("directory", Severity::Warning))
}

fn looked_for(
    table: &Table<'_>,
    name: &'static str,
    used: bool,
    why: &str,
    (what, severity): (&str, Severity),
) -> Option<PathBuf> {
    let path = path(table, name)?;
    if let Some(entry) = table.peek(name).filter(|_| used && !table.context().exists(&path)) {
        let message = format!("the {what} \"{}\" does not exist", path.display());
        let found = Diagnostic::error(Code::MissingFile, entry.node.span, message)
            .label(why)
            .help("relative paths start at the working directory");
        table.context().push(Diagnostic { severity, ..found });
    }
    Some(path)
}

/// A path, which must not be empty.
pub(super) fn path(table: &Table<'_>, name: &'static str) -> Option<PathBuf> {
    let text = table.text(name)?;
    if text.value.is_empty() {
        table.context().push(table.context().bad(name, text.span, "must not be empty"));
        return None;
    }
    Some(text.value.into())
}

/// The value of `Strict-Transport-Security` that `hsts` asks for.
fn transport_security(ssl: &Table<'_>) -> Option<Spanned<String>> {
    const YEAR: &str = "max-age=31536000";
    let switch = ssl.switch("hsts")?;
    let span = ssl.peek("hsts").map_or(ssl.span, |entry| entry.key_span);
    let value = match switch {
        Switch::Bool(true) => YEAR,
        Switch::Text(text) => sendable(ssl.context(), text)?,
        Switch::Bool(false) | Switch::Number(_) => return None,
    };
    Some(Spanned { value: value.to_owned(), span })
}

/// The value, if a browser would heed it: `max-age` is the one directive that is required (RFC 6797
/// section 6.1).
fn sendable<'n>(context: &Context<'_>, text: Spanned<&'n str>) -> Option<&'n str> {
    let bad = |reason: &str| context.bad("hsts", text.span, reason);
    let error = match field_value(text.value) {
        Err(reason) => bad(&reason),
        Ok(value) if value.split(';').any(is_max_age) => return Some(text.value),
        Ok(value) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            let instead = quoted(&format!("max-age={value}"));
            bad("a number needs its name").suggest(text.span, instead, "seconds are `max-age`")
        }
        Ok("true") => bad("is no directive").suggest(text.span, "true", "without quotes"),
        Ok(_) => bad("must have `max-age=SECONDS` in it")
            .help("for example \"max-age=31536000; includeSubDomains\""),
    };
    context.push(error);
    None
}

fn is_max_age(directive: &str) -> bool {
    let Some((name, seconds)) = directive.split_once('=') else { return false };
    let seconds = seconds.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("max-age")
        && !seconds.is_empty()
        && seconds.bytes().all(|byte| byte.is_ascii_digit())
}
