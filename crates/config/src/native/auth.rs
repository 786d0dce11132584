//! `[sites.auth]`: who may make requests, and how they prove who they are.
//!
//! What always holds: no message shows a secret or a password; a table with any mistake makes no
//! model, so nothing that should be guarded stands open.

use std::time::Duration;

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{
    Auth, BasicAuth, ClaimValue, FieldAuth, FieldRule, JwtAlgorithm, JwtAuth, JwtKeys, TokenSource,
};
use crate::password::PasswordHash;
use crate::pattern;
use crate::schema::{Key, Kind, Section, now};
use crate::source::Span;
use crate::syntax::{field_name, managed_field, quoted};
use crate::tree::{Entry, Node, Value};

use super::balancing::cookie_name;
use super::ssl::needed_file;

mod beside;
mod keys;

pub(super) use beside::{Asked, SetFields};
use keys::keys;

const TYPES: &[&str] = &["basic", "jwt", "header"];

const EXPIRY: &[&str] = &["required", "optional"];

const ENCODINGS: &[&str] = &["text", "hex", "base64"];

/// Longest difference of clocks that is made up for: a token is good for so much longer.
const LEEWAY_MAX: Duration = Duration::from_secs(3600);

/// Longest name of a user in bytes.
const USER_MAX: usize = 255;

const REALM: &str = "restricted";

/// Keys that only one type has.
const OF_BASIC: &[&str] = &["users", "file", "user_header"];
const OF_JWT: &[&str] = &[
    "algorithms",
    "secret",
    "secret_file",
    "secret_encoding",
    "allow_short_secret",
    "public_key",
    "public_key_file",
    "jwks_file",
    "jwks_url",
    "jwks_ca_file",
    "refresh",
    "issuer",
    "audience",
    "leeway",
    "expiry",
    "from",
    "required_claims",
    "claims_to_headers",
];
const OF_HEADER: &[&str] = &["fields"];

pub(super) static AUTH: Section = Section {
    path: "sites.auth",
    list: false,
    about: "Who may make requests to the site, files and WebSockets included. Of several tables (`[[sites.auth]]`), and of those of the route, all have to be satisfied.",
    keys: KEYS,
};

/// The same for one route.
pub(super) static OF_A_ROUTE: Section = Section {
    path: "sites.routes.auth",
    list: false,
    about: "Who may make the requests that the route takes, in addition to what `[sites.auth]` asks for.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    now(
        "type",
        Kind::Choice(TYPES, &[]),
        "required",
        "`basic`: name and password. `jwt`: a signed token. `header`: fields with certain values.",
    ),
    now(
        "realm",
        Kind::Text,
        "\"restricted\"",
        "What clients are told that they need credentials for; browsers show it.",
    ),
    now("strip", Kind::Bool, "false", "Do not pass the credentials on to the upstream."),
    now(
        "users",
        Kind::Map,
        "empty",
        "Basic: names and hashes of passwords: Argon2 (`$argon2id$…`), bcrypt (`$2b$…`), SHA-crypt (`$6$…`, `$5$…`), `$apr1$…`, `{SHA}…`, or `plain:` and the password.",
    ),
    now(
        "file",
        Kind::Text,
        "none",
        "Basic: file with more users, as `htpasswd` makes it: `name:hash` on each line. Read again when it changes.",
    ),
    now(
        "user_header",
        Kind::Text,
        "none",
        "Basic: field that tells the upstream the name, such as `X-User`. What clients send by that name never gets there.",
    ),
    now(
        "algorithms",
        Kind::Choices(&[
            "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
            "ES256", "ES384", "ES512", "EdDSA",
        ]),
        "required for `jwt`",
        "JWT: the algorithms that are taken; what a token says of itself does not count.",
    ),
    now(
        "secret",
        Kind::Text,
        "none",
        "JWT: the secret of HS256, HS384 and HS512, as long as the hash: 32, 48 or 64 bytes.",
    ),
    now("secret_file", Kind::Text, "none", "JWT: file with it. Read again when it changes."),
    now(
        "secret_encoding",
        Kind::Choice(ENCODINGS, &[]),
        "\"text\"",
        "JWT: how the secret is written.",
    ),
    now(
        "allow_short_secret",
        Kind::Bool,
        "false",
        "JWT: take a secret that is shorter than the hash, against RFC 7518 section 3.2. Whoever has one token can try out at home which secret it is signed with, and a short one is found.",
    ),
    now("public_key", Kind::Text, "none", "JWT: a public key or certificate in PEM."),
    now(
        "public_key_file",
        Kind::Text,
        "none",
        "JWT: PEM file with one. Read again when it changes.",
    ),
    now(
        "jwks_file",
        Kind::Text,
        "none",
        "JWT: file with a JSON Web Key Set. Read again when it changes.",
    ),
    now(
        "jwks_url",
        Kind::Text,
        "none",
        "JWT: `https` URL of a JSON Web Key Set. Fetched at start, then every `refresh`, and when a token names a key that is not in it. Until it can be had requests are answered 503.",
    ),
    now(
        "jwks_ca_file",
        Kind::Text,
        "those of the system",
        "JWT: PEM file with the authorities that may vouch for the server of `jwks_url`.",
    ),
    now("refresh", Kind::Duration(false), "\"10m\"", "JWT: how often `jwks_url` is fetched."),
    now("issuer", Kind::TextOrTexts, "any", "JWT: what `iss` has to be, or one of these."),
    now(
        "audience",
        Kind::TextOrTexts,
        "none",
        "JWT: what has to be in `aud`, or one of these. Without it a token that names an audience is refused; `\"*\"` takes tokens for anybody.",
    ),
    now(
        "leeway",
        Kind::Duration(true),
        "\"60s\"",
        "JWT: by how much clocks may differ, at most an hour.",
    ),
    now(
        "expiry",
        Kind::Choice(EXPIRY, &[]),
        "\"required\"",
        "JWT: whether a token has to say when it expires (`exp`).",
    ),
    now(
        "from",
        Kind::TextOrTexts,
        "\"header:Authorization\"",
        "JWT: where the token is: `header:NAME` (in `Authorization` behind `Bearer`), `cookie:NAME` or `query:NAME`; of several the first where there is one.",
    ),
    now(
        "required_claims",
        Kind::ValueMap,
        "empty",
        "JWT: claims and what they have to be: `{ role = \"admin\", plan = [\"pro\", \"team\"] }`. Of a list one is enough; of a claim that is a list one item has to fit, of `scope` one word. `a.b` is claim `b` inside of `a`. A valid token without them is answered 403.",
    ),
    now(
        "claims_to_headers",
        Kind::Map,
        "empty",
        "JWT: claims, and fields that tell them the upstream: `{ sub = \"X-User\" }`. What clients send by those names never gets there.",
    ),
    now(
        "fields",
        Kind::FieldMap,
        "required for `header`",
        "Header: fields and what they have to be: `{ \"X-Api-Key\" = { values = [\"…\"] }, \"X-Env\" = { regex = \"^test\" } }`. All of them have to fit.",
    ),
];

/// Decodes what stands under `auth` in a site's or a route's table.
pub(super) fn decode(table: &Table<'_>) -> Vec<Auth> {
    let auth = table.tables("auth").into_iter().filter_map(one).collect();
    Asked::of(table).report(table.context());
    auth
}

fn one(table: Table<'_>) -> Option<Auth> {
    table.require("type", "\"basic\"");
    // Before anything is said of them.
    conceal(&table);
    let kind = table.choice("type");
    let realm = realm(&table);
    let strip = table.boolean("strip").unwrap_or(false);
    let auth = match kind {
        Some("basic") => Some(Auth::Basic(basic(&table, realm, strip))),
        Some("jwt") => jwt(&table, realm, strip).map(|jwt| Auth::Jwt(Box::new(jwt))),
        Some("header") => Some(Auth::Fields(fields(&table, strip))),
        _ => None,
    };
    for (own, keys) in [("basic", OF_BASIC), ("jwt", OF_JWT), ("header", OF_HEADER)] {
        let foreign = keys.iter().filter(|_| kind != Some(own));
        for entry in foreign.filter_map(|key| table.take(key)) {
            // Without a type nothing is known.
            let Some(kind) = kind else { continue };
            let message = format!("`{}` has no meaning for `type = \"{kind}\"`", entry.key);
            let error = Diagnostic::error(Code::Conflict, entry.key_span, message);
            table.context().push(error.label(format!("a key of `type = \"{own}\"`")));
        }
    }
    table.finish();
    auth
}

/// Keeps what is secret out of the lines that findings show.
fn conceal(table: &Table<'_>) {
    let context = table.context();
    for name in ["secret", "users"] {
        match table.peek(name).map(|entry| &entry.node) {
            Some(Node { value: Value::Table(entries), .. }) => {
                entries.iter().for_each(|entry| context.conceal(entry.node.span));
            }
            Some(node) => context.conceal(node.span),
            None => {}
        }
    }
    let Some(Value::Table(fields)) = table.peek("fields").map(|entry| &entry.node.value) else {
        return;
    };
    for field in fields {
        match &field.node.value {
            Value::Table(ways) => {
                let values = ways.iter().filter(|way| way.key == "values");
                values.for_each(|way| crate::secrets::hide(context, &way.node));
            }
            _ => crate::secrets::hide(context, &field.node),
        }
    }
}

fn realm(table: &Table<'_>) -> String {
    let Some(text) = table.text("realm") else { return REALM.to_owned() };
    if text.value.chars().any(char::is_control) {
        table.context().push(table.context().bad(
            "realm",
            text.span,
            "it must not have control characters",
        ));
    }
    text.value.to_owned()
}

fn basic(table: &Table<'_>, realm: String, strip: bool) -> BasicAuth {
    let context = table.context();
    let mut users = Vec::new();
    for entry in table.map("users") {
        if let Err(reason) = user_name(&entry.key) {
            let message = format!("`{}` cannot be the name of a user", entry.key.escape_debug());
            context.push(Diagnostic::error(Code::BadValue, entry.key_span, message).label(reason));
        }
        let Some(text) = context.text(&entry.key, &entry.node) else { continue };
        match PasswordHash::parse(text.value) {
            Ok(hash) => {
                if matches!(hash, PasswordHash::Plain(_)) {
                    plain_password(context, entry);
                }
                users.push((entry.key.clone(), hash));
            }
            Err(reason) => {
                let message = format!("the password of `{}` cannot be checked", entry.key);
                context.push(Diagnostic::error(Code::BadValue, text.span, message).label(reason));
            }
        }
    }
    let file = needed_file(table, "file", true, "without it nobody could be let in");
    if !table.has_or_means("file") && table.map("users").is_empty() {
        let message = "`type = \"basic\"` needs users";
        context.push(
            Diagnostic::error(Code::MissingKey, table.span, message)
                .label("neither `users` nor `file`")
                .help("for example `file = \"htpasswd\"`, made by `htpasswd -cB htpasswd NAME`"),
        );
    }
    BasicAuth { realm, users, file, user_header: told_field(table, "user_header"), strip }
}

/// RFC 7617 section 2: a name has no colon, and neither of the two control characters.
fn user_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a name must not be empty".to_owned());
    }
    if name.len() > USER_MAX {
        return Err(format!("a name has at most {USER_MAX} bytes"));
    }
    match name.chars().find(|c| *c == ':' || c.is_control()) {
        Some(':') => Err("a name must not have a colon (RFC 7617)".to_owned()),
        Some(_) => Err("a name must not have control characters".to_owned()),
        None => Ok(()),
    }
}

fn plain_password(context: &Context<'_>, entry: &Entry) {
    let message = format!("the password of `{}` stands here as it is", entry.key.escape_debug());
    context.push(
        Diagnostic::warning(Code::Unsafe, entry.key_span, message)
            .label("whoever reads this file knows it")
            .help("put its hash here: `htpasswd -nB NAME` or `openssl passwd -6` makes one"),
    );
}

/// A field that tells the upstream what was proved.
fn told_field(table: &Table<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    may_be_told(table.context(), text).then(|| text.value.to_owned())
}

/// Fields that have another meaning.
const TAKEN: &[&str] = &["host", "authorization", "cookie", "expect", "date", "origin"];

/// Fields that Ravelin writes itself, about the connection and the client's certificate.
const WRITTEN: &[&str] = &[
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-ssl-client-verify",
    "x-ssl-client-s-dn",
    "x-ssl-client-i-dn",
    "x-ssl-client-serial",
    "x-ssl-client-sha256",
    "client-cert",
    "client-cert-chain",
];

/// The name of a field as gateways further on may read it, for which `-` and `_` are the same.
fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn may_be_told(context: &Context<'_>, name: Spanned<&str>) -> bool {
    let canonical = canonical(name.value);
    let reason = match field_name(name.value) {
        Err(reason) => reason,
        Ok(()) if managed_field(&canonical) => {
            "it says how one connection or message is framed".to_owned()
        }
        Ok(()) if TAKEN.contains(&canonical.as_str()) => {
            "this field has another meaning".to_owned()
        }
        Ok(()) if WRITTEN.contains(&canonical.as_str()) => {
            "Ravelin writes this field itself, about something else".to_owned()
        }
        Ok(()) => return true,
    };
    let message = format!("`{}` cannot tell the upstream of it", name.value.escape_debug());
    context.push(Diagnostic::error(Code::BadField, name.span, message).label(reason));
    false
}

fn jwt(table: &Table<'_>, realm: String, strip: bool) -> Option<JwtAuth> {
    let algorithms = algorithms(table);
    let short_secret = table.boolean("allow_short_secret").unwrap_or(false);
    let keys = keys(table, algorithms.as_deref(), short_secret);
    let mut audience = strings(table, "audience");
    let any_audience = any(table, "audience", &audience);
    audience.retain(|name| name != "*");
    let required =
        table.take("required_claims").map(|entry| required_claims(table.context(), entry));
    let jwt = JwtAuth {
        realm,
        algorithms: Vec::new(),
        keys: JwtKeys::PublicKey(String::new()),
        short_secret,
        issuer: strings(table, "issuer"),
        any_audience,
        audience,
        leeway: leeway(table),
        expiry_optional: table.choice("expiry") == Some("optional"),
        from: sources(table),
        required_claims: required.unwrap_or_default(),
        claims_to_headers: claims_to_headers(table),
        strip,
    };
    Some(JwtAuth { algorithms: algorithms?, keys: keys?, ..jwt })
}

fn algorithms(table: &Table<'_>) -> Option<Vec<JwtAlgorithm>> {
    let context = table.context();
    table.require("algorithms", "[\"RS256\"]");
    let entry = table.peek("algorithms")?;
    if let Value::Array(items) = &entry.node.value
        && let Some(none) = items.iter().find(|item| is_none_algorithm(item))
    {
        table.take("algorithms");
        let message = "the algorithm `none` would let anybody in";
        context.push(
            Diagnostic::error(Code::BadValue, none.span, message)
                .label("such a token has no signature")
                .help("name the algorithm that tokens are signed with, such as `\"RS256\"`"),
        );
        return None;
    }
    let names = table.choices("algorithms")?;
    if let Value::Array(items) = &entry.node.value
        && items.is_empty()
    {
        let error = context.bad("algorithms", entry.node.span, "must name at least one algorithm");
        context.push(error);
        return None;
    }
    let mut algorithms = Vec::new();
    for algorithm in names.into_iter().filter_map(JwtAlgorithm::named) {
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    (!algorithms.is_empty()).then_some(algorithms)
}

fn is_none_algorithm(item: &Node) -> bool {
    matches!(&item.value, Value::String(text) if text.eq_ignore_ascii_case("none"))
}

/// A string, or a list of strings; none may be empty.
fn strings(table: &Table<'_>, name: &'static str) -> Vec<String> {
    let context = table.context();
    let Some(entry) = table.take(name) else { return Vec::new() };
    let texts = texts(context, name, entry);
    let empty = texts.iter().find(|text| text.value.is_empty()).map(|text| text.span);
    let nothing = matches!(&entry.node.value, Value::Array(items) if items.is_empty());
    if let Some(span) = empty.or(nothing.then_some(entry.node.span)) {
        context.push(context.bad(name, span, "must not be empty; leave the key out to allow any"));
    }
    texts.into_iter().map(|text| text.value.to_owned()).collect()
}

/// Whether a list takes anything, by `*`.
fn any(table: &Table<'_>, name: &'static str, texts: &[String]) -> bool {
    let any = texts.iter().any(|text| text == "*");
    if let Some(entry) = table.peek(name).filter(|_| any && texts.len() > 1) {
        let message = format!("`{name}` names others beside `*`");
        table.context().push(
            Diagnostic::warning(Code::Unused, entry.node.span, message)
                .label("`*` takes what they take, and all else"),
        );
    }
    any
}

fn leeway(table: &Table<'_>) -> Duration {
    let leeway = table.duration("leeway").unwrap_or(Duration::from_secs(60));
    if let Some(entry) = table.peek("leeway").filter(|_| leeway > LEEWAY_MAX) {
        let reason = "tokens that expired more than an hour ago would be taken";
        table.context().push(table.context().bad("leeway", entry.node.span, reason));
    }
    leeway
}

/// A string that stands for a list, or the list.
fn texts<'n>(context: &Context<'_>, name: &'static str, entry: &'n Entry) -> Vec<Spanned<&'n str>> {
    match &entry.node.value {
        Value::String(_) => context.text(name, &entry.node).into_iter().collect(),
        Value::Array(items) => items.iter().filter_map(|item| context.text(name, item)).collect(),
        _ => {
            context.wrong_type::<()>(name, &entry.node, &Kind::TextOrTexts);
            Vec::new()
        }
    }
}

fn sources(table: &Table<'_>) -> Vec<TokenSource> {
    let context = table.context();
    let Some(entry) = table.take("from") else {
        return vec![TokenSource::Header("Authorization".to_owned())];
    };
    if matches!(&entry.node.value, Value::Array(items) if items.is_empty()) {
        let reason = "must not be empty; leave the key out to take tokens from `Authorization`";
        context.push(context.bad("from", entry.node.span, reason));
    }
    let written = texts(context, "from", entry);
    written.into_iter().filter_map(|text| source(context, text)).collect()
}

fn source(context: &Context<'_>, text: Spanned<&str>) -> Option<TokenSource> {
    let (kind, name) = text.value.split_once(':').unwrap_or((text.value, ""));
    let checked = match kind {
        "header" => field_name(name).map(|()| TokenSource::Header(name.to_owned())),
        "cookie" => cookie_name(name).map(|()| TokenSource::Cookie(name.to_owned())),
        "query" if !name.is_empty() && name.bytes().all(plain_parameter) => {
            Ok(TokenSource::Query(name.to_owned()))
        }
        "query" => Err("the parameter has letters, digits, `-`, `_`, `.` and `~`".to_owned()),
        _ => Err("a token is in `header:NAME`, `cookie:NAME` or `query:NAME`".to_owned()),
    };
    match checked {
        Ok(source) => {
            if let TokenSource::Query(_) = source {
                context.push(
                    Diagnostic::warning(Code::Unsafe, text.span, "a token in a query gets around")
                        .label("URLs stand in histories, in logs of others and in `Referer`")
                        .help("take it from a field or from a cookie if clients can send one"),
                );
            }
            Some(source)
        }
        Err(reason) => {
            let error = context.bad("from", text.span, &reason);
            let near = nearest(kind, ["header", "cookie", "query"].into_iter());
            context.push(match near.filter(|near| *near != kind) {
                Some(near) => {
                    let instead = quoted(&format!("{near}:{name}"));
                    error.suggest(text.span, instead.clone(), format!("did you mean {instead}?"))
                }
                None => error,
            });
            None
        }
    }
}

/// A byte that stands for itself in a query, whoever writes it.
fn plain_parameter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}

fn required_claims(context: &Context<'_>, entry: &Entry) -> Vec<(String, Vec<ClaimValue>)> {
    let Value::Table(entries) = &entry.node.value else {
        context.wrong_type::<()>("required_claims", &entry.node, &Kind::ValueMap);
        return Vec::new();
    };
    let claims = entries.iter().filter_map(|entry| {
        let items = match &entry.node.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        if items.is_empty() {
            let reason = "must name at least one value";
            context.push(context.bad(&entry.key, entry.node.span, reason));
        }
        let values: Option<Vec<ClaimValue>> =
            items.iter().map(|item| claim_value(context, &entry.key, item)).collect();
        Some((entry.key.clone(), values?))
    });
    claims.collect()
}

fn claim_value(context: &Context<'_>, name: &str, node: &Node) -> Option<ClaimValue> {
    match &node.value {
        Value::String(text) => Some(ClaimValue::Text(text.clone())),
        Value::Bool(on) => Some(ClaimValue::Bool(*on)),
        Value::Integer(number) => match i64::try_from(*number) {
            Ok(number) => Some(ClaimValue::Integer(number)),
            Err(_) => {
                context.push(context.bad(name, node.span, "does not fit into 64 bits"));
                None
            }
        },
        Value::Broken => None,
        other => {
            let message = format!("`{}` has the wrong type", name.escape_debug());
            let label = format!(
                "expected a string, an integer, a boolean or a list of them, found {}",
                other.noun()
            );
            context.push(Diagnostic::error(Code::WrongType, node.span, message).label(label));
            None
        }
    }
}

fn claims_to_headers(table: &Table<'_>) -> Vec<(String, String)> {
    let context = table.context();
    let mut seen: Vec<(String, Span)> = Vec::new();
    let told = table.map("claims_to_headers").iter().filter_map(|entry| {
        let name = context.text(&entry.key, &entry.node)?;
        if !may_be_told(context, name) {
            return None;
        }
        let field = canonical(name.value);
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == field) {
            let message = format!("`{}` would tell two claims", name.value);
            context.push(
                Diagnostic::error(Code::Conflict, name.span, message)
                    .label("a field tells one claim")
                    .also(*first, "the other one"),
            );
            return None;
        }
        seen.push((field, name.span));
        Some((entry.key.clone(), name.value.to_owned()))
    });
    told.collect()
}

fn fields(table: &Table<'_>, strip: bool) -> FieldAuth {
    let context = table.context();
    table.require("fields", "{ \"X-Api-Key\" = { values = [\"…\"] } }");
    let Some(entry) = table.take("fields") else { return FieldAuth { fields: Vec::new(), strip } };
    let Value::Table(entries) = &entry.node.value else {
        context.wrong_type::<()>("fields", &entry.node, &Kind::FieldMap);
        return FieldAuth { fields: Vec::new(), strip };
    };
    if entries.is_empty() {
        context.push(context.bad("fields", entry.node.span, "must name at least one field"));
    }
    let fields = entries.iter().filter_map(|entry| field(context, entry)).collect();
    FieldAuth { fields, strip }
}

fn field(context: &Context<'_>, entry: &Entry) -> Option<FieldRule> {
    let bad = |span: Span, reason: &str| {
        let message = format!("`{}` is no rule for a field", entry.key.escape_debug());
        context.push(Diagnostic::error(Code::BadValue, span, message).label(reason.to_owned()));
    };
    if let Err(reason) = field_name(&entry.key) {
        bad(entry.key_span, &reason);
        return None;
    }
    let name = entry.key.clone();
    let list = |node: &Node| -> Vec<String> {
        match &node.value {
            Value::String(text) => vec![text.clone()],
            _ => {
                let texts = context.texts(&name, node).unwrap_or_default();
                texts.into_iter().map(|text| text.value.to_owned()).collect()
            }
        }
    };
    let (values, regex) = match &entry.node.value {
        Value::Table(ways) => {
            let (mut values, mut regex) = (None, None);
            for way in ways {
                match way.key.as_str() {
                    "values" => values = Some(list(&way.node)),
                    "regex" => regex = expression(context, way),
                    _ => bad(way.key_span, "there are `values` and `regex`"),
                }
            }
            match (ways.iter().any(|way| way.key == "regex"), &values) {
                (true, Some(_)) => bad(entry.node.span, "one of `values` and `regex` is enough"),
                (false, None) => bad(entry.node.span, "needs `values` or `regex`"),
                _ => {}
            }
            (values, regex)
        }
        _ => (Some(list(&entry.node)), None),
    };
    if values.as_ref().is_some_and(|values| values.iter().all(String::is_empty)) {
        bad(entry.node.span, "needs a value that is not empty");
    }
    let values = values.unwrap_or_default().into_iter().filter(|value| !value.is_empty()).collect();
    Some(FieldRule { name, values, regex })
}

fn expression(context: &Context<'_>, way: &Entry) -> Option<String> {
    let text = context.text("regex", &way.node)?;
    match pattern::compile(text.value) {
        Ok(_) => Some(text.value.to_owned()),
        Err(reason) => {
            context.push(context.bad("regex", text.span, &reason));
            None
        }
    }
}
