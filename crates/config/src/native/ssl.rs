//! `[sites.ssl]`: read and checked now; a site that asks for TLS is not served before there is TLS.

use crate::decode::Table;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{CertificateSource, Tls, TlsPolicy, TlsVersion};
use crate::schema::{Kind, Section, later, now};

pub(super) static SSL: Section = Section {
    path: "sites.ssl",
    list: false,
    about: "TLS. A site with `enabled = true` is not served until TLS is in effect: it is never served in plain text instead.",
    keys: &[
        now(
            "enabled",
            Kind::Bool,
            "false",
            "Serve the site with TLS. Until that is built the site is not served.",
        ),
        later(
            "auto_cert",
            Kind::Bool,
            "false",
            "Get certificates by ACME; needs `[sites.ssl.acme]` with `email`.",
        ),
        later("domains", Kind::Texts, "[]", "Names in the certificate beside the host names."),
        later(
            "cert_file",
            Kind::Text,
            "none",
            "Certificate chain; required with TLS unless `auto_cert`.",
        ),
        later("key_file", Kind::Text, "none", "Private key; required with TLS unless `auto_cert`."),
        later("acme", Kind::Table(&ACME), "", "How certificates are got."),
    ],
};

static ACME: Section = Section {
    path: "sites.ssl.acme",
    list: false,
    about: "How certificates are got.",
    keys: &[
        later("enabled", Kind::Bool, "false", "Use ACME."),
        later("email", Kind::Text, "required", "Address the authority may write to."),
        later("staging", Kind::Bool, "false", "Use the authority's test service."),
        later(
            "challenge_dir",
            Kind::Text,
            "\"./acme-challenges\"",
            "Directory for challenge files.",
        ),
    ],
};

/// Whether the site asks for TLS.
pub(super) fn decode(table: &Table<'_>, site: &str) -> Option<Tls> {
    let ssl = table.table("ssl")?;
    let enabled = ssl.boolean("enabled").unwrap_or(false);
    let acme = ssl.peek_boolean("auto_cert");
    if enabled {
        if !acme {
            ssl.require("cert_file", "\"/etc/ssl/site.crt\"");
            ssl.require("key_file", "\"/etc/ssl/site.key\"");
        }
        ssl.context().push(
            Diagnostic::warning(
                Code::NotInEffect,
                ssl.span,
                format!("site `{site}` is not served: TLS is not in effect yet"),
            )
            .label("checked and accepted, but nothing acts on it")
            .help("the site's port stays closed; nothing of it is ever served in plain text"),
        );
    }
    let email = ssl.peek("acme").is_some_and(|entry| entry.node.value.has("email"));
    if enabled && acme && !email {
        ssl.context().push(
            Diagnostic::error(Code::MissingKey, ssl.span, "`auto_cert = true` needs `email` in `[sites.ssl.acme]`")
                .label("automatic certificates are asked for here")
                .help("certificate authorities want an address: `[sites.ssl.acme]` with `email = \"admin@example.com\"`"),
        );
    }
    let certificate = CertificateSource::Files {
        certificate: ssl.text("cert_file").map_or("", |text| text.value).into(),
        key: ssl.text("key_file").map(|text| text.value.into()),
    };
    ssl.finish_quietly();
    enabled.then(|| Tls {
        certificate,
        ocsp_file: None,
        policy: TlsPolicy {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            ciphers: Vec::new(),
            groups: Vec::new(),
            client_auth: None,
            http2: true,
            tickets: true,
        },
    })
}
