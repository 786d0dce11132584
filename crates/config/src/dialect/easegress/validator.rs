//! `kind: Validator`: who may make requests. What is not understood refuses the configuration: nothing
//! that should be guarded stands open.

use crate::decode::{Context, Table};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, list, text, texts};
use crate::dialect::never_open;
use crate::model::{JwtAlgorithm, SecretEncoding};
use crate::schema::{Kind, Section, now};
use crate::tree::{Entry, Node, Value};

use super::filter::{Part, Role, Site};
use super::rules::{escape, regexp, strings};
use super::{NAME, copy};

pub(super) static VALIDATOR: Section = Section {
    path: "Validator",
    list: false,
    about: "Who may make requests.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("headers", Kind::Text, "", ""),
        now("jwt", Kind::Table(&JWT), "", ""),
        now("basicAuth", Kind::Table(&BASIC_AUTH), "", ""),
        now("signature", Kind::Text, "", ""),
        now("oauth2", Kind::Text, "", ""),
    ],
};

static VALUE: Section = Section {
    path: "Validator.headers",
    list: false,
    about: "What a field has to be.",
    keys: &[now("values", Kind::Texts, "", ""), now("regexp", Kind::Text, "", "")],
};

static JWT: Section = Section {
    path: "Validator.jwt",
    list: false,
    about: "A signed token.",
    keys: &[
        now("cookieName", Kind::Text, "", ""),
        now("algorithm", Kind::Text, "required", ""),
        now("secret", Kind::Text, "", ""),
        now("publicKey", Kind::Text, "", ""),
    ],
};

static BASIC_AUTH: Section = Section {
    path: "Validator.basicAuth",
    list: false,
    about: "Name and password.",
    keys: &[
        now("mode", Kind::Choice(&["FILE", "ETCD", "LDAP"], &[]), "required", ""),
        now("userFile", Kind::Text, "", ""),
        now("etcdPrefix", Kind::Text, "", ""),
        now("ldap", Kind::Text, "", ""),
    ],
};

/// The field that tells servers the name.
const USER_FIELD: &str = "X-AUTH-USER";

/// What the filter is in a native route.
pub(super) fn decode(table: &Table<'_>, _: &Site<'_>) -> Part {
    let context = table.context();
    let mut route = TableNode::at(table.span);
    never_open(table, &["headers", "jwt", "basicAuth", "signature", "oauth2"]);
    let mut any = false;
    for (key, found) in
        [("headers", headers(table)), ("jwt", jwt(table)), ("basicAuth", basic(table))]
    {
        any |= table.has(key);
        if let Some(auth) = found {
            route.push("auth", auth);
        }
    }
    for key in ["signature", "oauth2"] {
        let Some(entry) = table.take(key) else { continue };
        any = true;
        let message = format!("`{key}` is not provided");
        context.push(
            Diagnostic::error(Code::NotInEffect, entry.key_span, message)
                .label("requests would get in unchecked")
                .help("there are `headers`, `jwt` and `basicAuth` with `mode: FILE`"),
        );
    }
    if !any {
        context.push(
            Diagnostic::error(Code::MissingKey, table.span, "a Validator that checks nothing")
                .label("needs `headers`, `jwt` or `basicAuth`"),
        );
    }
    Part::new(Role::Guard, route)
}

fn headers(table: &Table<'_>) -> Option<TableNode> {
    let context = table.context();
    let entry = table.take("headers")?;
    let Value::Table(entries) = &entry.node.value else {
        return context.wrong_type("headers", &entry.node, &Kind::Map);
    };
    let mut fields = TableNode::at(entry.node.span);
    for entry in entries {
        let Some(field) = Table::open(context, &entry.key, &entry.node, &VALUE) else { continue };
        let place = field.span;
        let values = field.texts("values").unwrap_or_default();
        let pattern = field.text("regexp").filter(|pattern| !pattern.value.is_empty());
        field.finish();
        let mut native = TableNode::at(place);
        match pattern {
            Some(pattern) if values.is_empty() => {
                regexp(context, "regexp", pattern);
                native.put("regex", text(pattern.value, pattern.span));
            }
            Some(pattern) => {
                regexp(context, "regexp", pattern);
                let values: Vec<String> = values.iter().map(|value| escape(value.value)).collect();
                let either = format!("^(?:{})$|(?:{})", values.join("|"), pattern.value);
                native.put("regex", text(either, pattern.span));
            }
            None if values.is_empty() => {}
            None => native.put("values", strings(&values, place)),
        }
        if native.is_empty() {
            context.push(
                Diagnostic::error(Code::MissingKey, entry.key_span, "a field without a value")
                    .label("needs `values` or `regexp`"),
            );
        }
        fields.put_at(entry.key.as_str(), entry.key_span, native);
    }
    let mut auth = TableNode::at(entry.key_span);
    auth.put("type", text("header", entry.key_span));
    auth.put("fields", fields);
    Some(auth)
}

fn jwt(table: &Table<'_>) -> Option<TableNode> {
    let jwt = table.table("jwt")?;
    let context = jwt.context();
    let place = jwt.span;
    let mut auth = TableNode::at(place);
    auth.put("type", text("jwt", place));
    jwt.require("algorithm", "HS256");
    let algorithm = jwt.text("algorithm");
    if let Some(algorithm) = algorithm {
        auth.put("algorithms", list([text(algorithm.value, algorithm.span)], algorithm.span));
    }
    if copy(&jwt, "secret", &mut auth, "secret") {
        auth.put("secret_encoding", text("hex", place));
        if let (Some(algorithm), Some(Entry { node, .. })) = (algorithm, jwt.peek("secret"))
            && let Value::String(secret) = &node.value
            && is_short(algorithm.value, secret)
        {
            // The native decoder says what is wrong with it.
            auth.put("allow_short_secret", boolean(true, node.span));
            context.push(
                Diagnostic::note(
                    Code::Unsafe,
                    node.span,
                    "a secret shorter than the hash is taken",
                )
                .label("as in Easegress, which takes any"),
            );
        }
    }
    if let Some(key) = jwt.text("publicKey").filter(|key| !key.value.is_empty()) {
        match unhex(key.value).and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(pem) => auth.put("public_key", Node { value: Value::String(pem), span: key.span }),
            None if key.value.contains("-----BEGIN ") => {
                auth.put("public_key", text(key.value, key.span));
            }
            None => not_hex(context, key.span),
        }
    }
    if !jwt.has("secret") && !jwt.has("publicKey") {
        context.push(
            Diagnostic::error(Code::MissingKey, place, "tokens without a key")
                .label("needs `secret` or `publicKey`, in hexadecimal digits"),
        );
    }
    if let Some(name) = jwt.text("cookieName").filter(|name| !name.value.is_empty()) {
        // Who has no such cookie may show a token as anybody.
        let places = [format!("cookie:{}", name.value), "header:Authorization".to_owned()];
        auth.put("from", texts(places.iter().map(String::as_str), name.span));
    }
    // As in Easegress: tokens that do not expire are good, and so are those for others.
    auth.put("expiry", text("optional", place));
    auth.put("audience", text("*", place));
    context.push(
        Diagnostic::note(Code::Unsafe, place, "tokens are taken, whomever they are for")
            .label("as in Easegress, which does not look at `aud`")
            .help("with `audience` in native TOML, those that are for somebody else are refused"),
    );
    jwt.finish();
    Some(auth)
}

/// Whether a secret is shorter than the hash of its algorithm.
fn is_short(algorithm: &str, secret: &str) -> bool {
    let Some(algorithm) = JwtAlgorithm::named(&algorithm.to_ascii_uppercase()) else {
        return false;
    };
    let bytes = SecretEncoding::Hex.decode(secret.as_bytes());
    bytes.is_ok_and(|bytes| !bytes.0.is_empty() && bytes.0.len() < algorithm.secret_min())
}

fn not_hex(context: &Context<'_>, span: crate::source::Span) {
    context.push(
        Diagnostic::error(Code::BadValue, span, "`publicKey` is not a key")
            .label("expected PEM in hexadecimal digits"),
    );
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect(),
    )
}

fn basic(table: &Table<'_>) -> Option<TableNode> {
    let basic = table.table("basicAuth")?;
    let context = basic.context();
    let place = basic.span;
    basic.require("mode", "FILE");
    let mode = basic.choice("mode");
    let mut auth = TableNode::at(place);
    auth.put("type", text("basic", place));
    let file = basic.text("userFile").filter(|file| !file.value.is_empty());
    for key in ["etcdPrefix", "ldap"] {
        basic.take(key);
    }
    match (mode, file) {
        (Some("FILE"), Some(file)) => auth.put("file", text(file.value, file.span)),
        (Some("FILE"), None) => context.push(
            Diagnostic::error(Code::MissingKey, place, "`basicAuth` without `userFile`")
                .label("who may come in?")
                .help("name a file as `htpasswd` makes it: `userFile: /etc/ravelin/users`"),
        ),
        (Some(mode), _) => {
            let at = basic.peek("mode").map_or(place, |entry| entry.node.span);
            context.push(
                Diagnostic::error(Code::NotInEffect, at, format!("`mode: {mode}` is not provided"))
                    .label("requests would get in unchecked")
                    .suggest(at, "FILE", "users stand in a file, as `htpasswd` makes it"),
            );
        }
        (None, _) => {}
    }
    auth.put("user_header", text(USER_FIELD, place));
    basic.finish();
    auth.has("file").then_some(auth)
}
