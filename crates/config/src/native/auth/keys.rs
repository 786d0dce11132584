//! What signatures of tokens are checked with: one key of the table, and fit for its algorithms.

use std::time::Duration;

use crate::decode::{Context, Spanned, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{JwtAlgorithm, JwtKeyKind, JwtKeys, SecretBytes, SecretEncoding};
use crate::syntax::{authority, quoted};
use crate::tree::Entry;

use super::super::ssl::needed_file;

/// The keys that say what signatures are checked with.
const KEY_SOURCES: &[&str] =
    &["secret", "secret_file", "public_key", "public_key_file", "jwks_file", "jwks_url"];

/// What signatures are checked with: exactly one thing, and fit for the algorithms.
pub(super) fn keys(
    table: &Table<'_>,
    algorithms: Option<&[JwtAlgorithm]>,
    short: bool,
) -> Option<JwtKeys> {
    let context = table.context();
    let written: Vec<&Entry> = KEY_SOURCES.iter().filter_map(|key| table.peek(key)).collect();
    if let [first, second, ..] = written[..] {
        let message = format!("`{}` and `{}` are both set", first.key, second.key);
        context.push(
            Diagnostic::error(Code::Conflict, second.key_span, message)
                .label("one of them is enough")
                .also(first.key_span, "the other one")
                .help("several keys go into one `jwks_file`"),
        );
    }
    let encoding = match table.choice("secret_encoding") {
        Some("hex") => SecretEncoding::Hex,
        Some("base64") => SecretEncoding::Base64,
        _ => SecretEncoding::Text,
    };
    let secret =
        table.text("secret").and_then(|text| secret(context, text, encoding, algorithms, short));
    let why = "without it nobody could be let in";
    let secret_file = needed_file(table, "secret_file", true, why);
    let public_key = table.text("public_key");
    let public_key_file = needed_file(table, "public_key_file", true, why);
    let jwks_file = needed_file(table, "jwks_file", true, why);
    let url = table.text("jwks_url").and_then(|text| key_set_url(context, text));
    let refresh = table.duration("refresh").unwrap_or(Duration::from_secs(600));
    let ca_file = needed_file(table, "jwks_ca_file", true, "the key set could not be fetched");
    needs(table, "secret_encoding", &["secret", "secret_file"]);
    needs(table, "allow_short_secret", &["secret", "secret_file"]);
    needs(table, "refresh", &["jwks_url"]);
    needs(table, "jwks_ca_file", &["jwks_url"]);
    if let (Some(source), Some(algorithms)) = (written.first(), algorithms) {
        fitting(table, source, algorithms);
    }
    if written.is_empty() {
        // A key that probably means one of them is reported as unknown.
        if !KEY_SOURCES.iter().any(|key| table.has_or_means(key)) {
            context.push(
                Diagnostic::error(Code::MissingKey, table.span, "`type = \"jwt\"` needs a key")
                    .label("no signature could be checked")
                    .help(
                        "name one of `jwks_url`, `jwks_file`, `public_key_file`, `public_key`, \
                         `secret_file` and `secret`",
                    ),
            );
        }
        return None;
    }
    secret
        .map(JwtKeys::Secret)
        .or(secret_file.map(|file| JwtKeys::SecretFile(file, encoding)))
        .or(public_key.map(|text| JwtKeys::PublicKey(text.value.to_owned())))
        .or(public_key_file.map(JwtKeys::PublicKeyFile))
        .or(jwks_file.map(JwtKeys::JwksFile))
        .or(url.map(|url| JwtKeys::JwksUrl { url, ca_file, refresh }))
}

fn secret(
    context: &Context<'_>,
    text: Spanned<&str>,
    encoding: SecretEncoding,
    algorithms: Option<&[JwtAlgorithm]>,
    short: bool,
) -> Option<SecretBytes> {
    let wrong = |label: String| {
        let message = "`secret` cannot be used";
        let help = match encoding {
            SecretEncoding::Hex => "`openssl rand -hex 64` makes one",
            SecretEncoding::Base64 => "`openssl rand -base64 64` makes one",
            SecretEncoding::Text => {
                "`openssl rand -base64 64` makes one; say `secret_encoding = \"base64\"` then"
            }
        };
        let error = Diagnostic::error(Code::BadValue, text.span, message);
        context.push(error.label(label).help(help));
    };
    let secret = match encoding.decode(text.value.as_bytes()) {
        Ok(secret) => secret,
        Err(reason) => {
            wrong(reason.to_owned());
            return None;
        }
    };
    let longest = algorithms?.iter().max_by_key(|algorithm| algorithm.secret_min())?;
    let (least, has) = (longest.secret_min(), secret.0.len());
    if has >= least {
        return Some(secret);
    }
    let name = longest.name();
    let label = match has {
        0 => "it is empty".to_owned(),
        _ => format!(
            "{has} bytes can be guessed; {name} needs at least {least} (RFC 7518 section 3.2)"
        ),
    };
    if has == 0 || !short {
        wrong(label);
        return None;
    }
    context.push(
        Diagnostic::warning(Code::Unsafe, text.span, "`secret` is shorter than the hash")
            .label(label)
            .help("whoever has a token can try secrets until one fits, and then sign any"),
    );
    Some(secret)
}

/// Reports a key that has no meaning without one of others.
fn needs(table: &Table<'_>, name: &'static str, others: &[&'static str]) {
    let Some(entry) = table.peek(name) else { return };
    if !others.iter().any(|other| table.has_or_means(other)) {
        let message = format!("`{name}` is for `{}`", others.join("` and `"));
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.key_span, message).label("has no meaning here"),
        );
    }
}

/// Reports algorithms that the keys cannot be for. A public key that is taken for the secret of an HMAC
/// lets everybody in who knows it, and everybody does.
fn fitting(table: &Table<'_>, source: &Entry, algorithms: &[JwtAlgorithm]) {
    let Some(entry) = table.peek("algorithms") else { return };
    let hmac = |algorithm: &&JwtAlgorithm| algorithm.key_kind() == JwtKeyKind::Secret;
    let (wrong, why) = match source.key.as_str() {
        "secret" | "secret_file" => {
            (algorithms.iter().find(|algorithm| !hmac(algorithm)), "is checked with a public key")
        }
        "public_key" | "public_key_file" => {
            let of = algorithms.first().map(|algorithm| algorithm.key_kind());
            let other = algorithms.iter().find(|algorithm| Some(algorithm.key_kind()) != of);
            match algorithms.iter().find(hmac) {
                Some(hmac) => (Some(hmac), "is checked with a secret"),
                None => (other, "needs another kind of key than the first: use `jwks_file`"),
            }
        }
        "jwks_url" => (algorithms.iter().find(hmac), "needs a secret, and this set is public"),
        _ => (None, ""),
    };
    if let Some(algorithm) = wrong {
        let name = algorithm.name();
        let message = format!("`{}` is no key for {name}", source.key);
        table.context().push(
            Diagnostic::error(Code::Conflict, entry.node.span, message)
                .label(format!("{name} {why}"))
                .also(source.key_span, "the key"),
        );
    }
}

/// The URL of a key set. What comes over plain HTTP anybody on the way can replace.
fn key_set_url(context: &Context<'_>, text: Spanned<&str>) -> Option<String> {
    let wrong = |reason: &str| context.push(context.bad("jwks_url", text.span, reason));
    let Some((scheme, rest)) = text.value.split_once("://") else {
        wrong("a URL begins with `https://`");
        return None;
    };
    if let Some(c) = text.value.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        wrong(&format!("a URL of a key set must not have `{}`", c.escape_debug()));
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, _) = rest.split_at(end);
    if let Err(reason) = authority(host, 443) {
        wrong(&reason.replace("an upstream URL", "a URL"));
        return None;
    }
    let here = ["127.0.0.1", "localhost", "[::1]"].iter().any(|here| {
        host.strip_prefix(here).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    });
    match scheme.to_ascii_lowercase().as_str() {
        "https" => {}
        "http" if here => {}
        "http" => {
            let error = context.bad(
                "jwks_url",
                text.span,
                "over plain HTTP anybody on the way can put other keys there",
            );
            let instead = quoted(&format!("https://{rest}"));
            context.push(error.suggest(text.span, instead, "fetch it over TLS"));
            return None;
        }
        _ => {
            wrong("the scheme of a key set is `https`");
            return None;
        }
    }
    Some(text.value.to_owned())
}
