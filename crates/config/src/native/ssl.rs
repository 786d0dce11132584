//! `[sites.ssl]`: TLS of a site.

use crate::decode::{Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{CertificateSource, ClientAuth, Tls, TlsPolicy, TlsVersion};
use crate::schema::{Kind, Section, now};

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
        now("ocsp_file", Kind::Text, "none", "DER file with an OCSP response to staple."),
        now("min_version", VERSIONS, "\"1.2\"", "Oldest version of TLS taken."),
        now("max_version", VERSIONS, "\"1.3\"", "Newest version of TLS taken."),
        now(
            "ciphers",
            Kind::Texts,
            "all that are safe",
            "Cipher suites by preference, by their IANA names, such as `TLS_AES_128_GCM_SHA256`.",
        ),
        now(
            "groups",
            Kind::Texts,
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
            Kind::Text,
            "none",
            "Value of `Strict-Transport-Security` on every response, such as \"max-age=31536000\".",
        ),
        now("acme", Kind::Table(&ACME), "", "How certificates are got."),
    ],
};

/// What the table says: TLS of the site, if it asks for it, and fields for its responses.
pub(super) struct Ssl {
    pub(super) tls: Option<Tls>,
    pub(super) headers: Vec<(String, String)>,
}

/// Decodes the table. `hosts` are the site's exact host names.
pub(super) fn decode(table: &Table<'_>, hosts: &[String]) -> Ssl {
    let Some(ssl) = table.table("ssl") else { return Ssl { tls: None, headers: Vec::new() } };
    let enabled = ssl.boolean("enabled").unwrap_or(false);
    let auto = ssl.boolean("auto_cert").unwrap_or(false);
    let domains = ssl.texts("domains").unwrap_or_default();
    let acme = acme::decode(&ssl, enabled && auto, hosts, domains);
    let files = CertificateSource::Files {
        certificate: path(&ssl, "cert_file").unwrap_or_default(),
        key: path(&ssl, "key_file"),
    };
    if enabled && !auto {
        ssl.require("cert_file", "\"/etc/ssl/site.pem\"");
    }
    let certificate = acme.map_or(files, CertificateSource::Acme);
    let ocsp_file = path(&ssl, "ocsp_file");
    let policy = policy(&ssl);
    let hsts = ssl.text("hsts").filter(|text| is_field_value(&ssl, text));
    let headers = hsts.map(|text| ("Strict-Transport-Security".to_owned(), text.value.to_owned()));
    match enabled {
        true => ssl.finish(),
        false => ssl.finish_quietly(),
    }
    Ssl {
        tls: enabled.then_some(Tls { certificate, ocsp_file, policy }),
        headers: headers.filter(|_| enabled).into_iter().collect(),
    }
}

fn policy(ssl: &Table<'_>) -> TlsPolicy {
    let version = |name, default| match ssl.choice(name) {
        Some("1.3" | "TLSv1.3") => TlsVersion::Tls13,
        Some(_) => TlsVersion::Tls12,
        None => default,
    };
    let names = |name| -> Vec<String> {
        let texts = ssl.texts(name).unwrap_or_default();
        texts.into_iter().map(|text| text.value.to_owned()).collect()
    };
    let (min_version, max_version) =
        (version("min_version", TlsVersion::Tls12), version("max_version", TlsVersion::Tls13));
    if let Some(entry) = ssl.peek("max_version").filter(|_| max_version < min_version) {
        let message = "must not be older than `min_version`";
        ssl.context().push(ssl.context().bad("max_version", entry.node.span, message));
    }
    let required = ssl.choice("client_auth") != Some("optional");
    if let (Some(entry), None) = (ssl.peek("client_auth"), ssl.peek("client_ca")) {
        ssl.context().push(
            Diagnostic::error(Code::Conflict, entry.key_span, "`client_auth` without `client_ca`")
                .label("nobody's certificates could be verified")
                .help("name the file with the authorities: `client_ca = \"clients-ca.pem\"`"),
        );
    }
    TlsPolicy {
        min_version,
        max_version,
        ciphers: names("ciphers"),
        groups: names("groups"),
        client_auth: path(ssl, "client_ca").map(|ca_file| ClientAuth { ca_file, required }),
        http2: ssl.boolean("http2").unwrap_or(true),
        tickets: ssl.boolean("session_tickets").unwrap_or(true),
    }
}

/// A path, which must not be empty.
pub(super) fn path(table: &Table<'_>, name: &'static str) -> Option<std::path::PathBuf> {
    let text = table.text(name)?;
    if text.value.is_empty() {
        table.context().push(table.context().bad(name, text.span, "must not be empty"));
        return None;
    }
    Some(text.value.into())
}

fn is_field_value(ssl: &Table<'_>, text: &Spanned<&str>) -> bool {
    let fits =
        !text.value.is_empty() && text.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !fits {
        let message = "must be the value of a field, such as \"max-age=31536000\"";
        ssl.context().push(ssl.context().bad("hsts", text.span, message));
    }
    fits
}
