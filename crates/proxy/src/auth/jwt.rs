//! Signed tokens: JSON Web Tokens (RFC 7519) in the compact form of JWS (RFC 7515 §3.1), presented as
//! bearer tokens (RFC 6750).
//!
//! What always holds: the configuration says which algorithms are taken, and a token only which of
//! them it has; no claim is looked at before the signature is known to be right; what is not
//! understood (`crit`, another type of a claim) is refused.

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::model::{self, ClaimValue, JwtAlgorithm, TokenSource};
use memchr::memchr;
use net::timer::unix_millis;
use serde_json::{Map, Number, Value};
use wire::field::FieldId;

use super::keys::{KeyRing, KeySet};
use super::memory::digest;
use super::{
    Denied, FieldName, Memory, One, Presented, Sources, Verified, credentials, is_called, quoted,
};
use crate::sticky::cookie_values;

/// Longest token in bytes. Heads are no longer than 64 KiB.
const TOKEN_MAX: usize = 16 * 1024;

/// Keys that are tried for a token that does not name its key.
const TRIES_MAX: usize = 8;

/// Longest value of a claim that is told the upstream, in bytes.
const TOLD_MAX: usize = 4096;

/// Below it, fractions are read exactly enough to tell whole numbers apart.
const FRACTION_MAX: f64 = 9_007_199_254_740_992.0;

/// Deepest path to a claim, `a.b.c`.
const DEPTH_MAX: usize = 8;

/// What a token has to be.
#[derive(Debug)]
pub(super) struct Jwt {
    /// What is remembered of tokens is remembered under it.
    number: u64,
    realm: String,
    algorithms: Vec<JwtAlgorithm>,
    keys: Arc<KeyRing>,
    issuer: Vec<String>,
    audience: Vec<String>,
    any_audience: bool,
    /// In milliseconds.
    leeway: u64,
    expiry_optional: bool,
    /// A token is in the first of these that has any.
    from: Vec<From>,
    required: Vec<(String, Vec<ClaimValue>)>,
    told: Vec<(String, String)>,
}

#[derive(Debug)]
enum From {
    /// Authorization.
    Bearer(FieldName),
    Field(FieldName),
    Cookie(String),
    Parameter(String),
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is not good, in words.
    Invalid(&'static str),
    /// It is good, and not for this.
    Insufficient,
    /// There are no keys.
    NoKeys,
    /// It is damaged, or there are several.
    Malformed(&'static str),
    /// There is none.
    Missing,
}

impl Jwt {
    /// Compiles what the configuration says, and reads the keys.
    ///
    /// # Errors
    /// The keys cannot be used; the text names the file.
    pub(super) fn compile(jwt: &model::JwtAuth, sources: &mut Sources) -> Result<Self, String> {
        let (number, keys) = sources.tokens(jwt)?;
        Ok(Self {
            number,
            realm: quoted(&jwt.realm),
            algorithms: jwt.algorithms.clone(),
            keys,
            issuer: jwt.issuer.clone(),
            audience: jwt.audience.clone(),
            any_audience: jwt.any_audience,
            leeway: u64::try_from(jwt.leeway.as_millis()).unwrap_or(u64::MAX),
            expiry_optional: jwt.expiry_optional,
            from: jwt.from.iter().map(From::of).collect(),
            required: jwt.required_claims.clone(),
            told: jwt.claims_to_headers.clone(),
        })
    }

    /// The token stands in the query.
    pub(super) fn reads_query(&self) -> bool {
        self.from.iter().any(|from| matches!(from, From::Parameter(_)))
    }

    /// Checks the token of a request.
    pub(super) fn check(
        &self,
        request: &Presented<'_>,
        memory: &Memory,
    ) -> Result<Rc<Verified>, Denied> {
        self.token(request)
            .and_then(|token| self.verify(token, memory, unix_millis()))
            .map_err(|fault| self.denied(fault))
    }

    /// The token of a request.
    fn token<'a>(&self, request: &Presented<'a>) -> Result<&'a [u8], Fault> {
        let found = self.from.iter().map(|from| from.token(request));
        let mut there = found.filter(|found| !matches!(found, Err(Fault::Missing)));
        there.next().unwrap_or(Err(Fault::Missing))
    }

    /// What a token proves at `now`, in milliseconds since 1970.
    fn verify(&self, token: &[u8], memory: &Memory, now: u64) -> Result<Rc<Verified>, Fault> {
        let keys = self.keys.keys();
        let Some(keys) = &*keys else { return Err(Fault::NoKeys) };
        let numbers = [self.number, keys.number].map(u64::to_le_bytes);
        let key = digest(&[numbers.as_flattened(), token]).map_err(|_| Fault::NoKeys)?;
        if let Some(verified) = memory.token(&key, now) {
            return Ok(verified);
        }
        let claims = self.signed_claims(token, keys)?;
        let until = self.good_until(&claims, now)?;
        self.fits(&claims)?;
        let verified = Rc::new(self.proved(&claims));
        memory.remember_token(key, until, &verified);
        Ok(verified)
    }

    /// The claims of a token whose signature is right.
    fn signed_claims(&self, token: &[u8], keys: &KeySet) -> Result<Map<String, Value>, Fault> {
        const NO_TOKEN: Fault = Fault::Invalid("this is no signed token");
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NO_TOKEN);
        };
        let message = token.get(..header.len() + 1 + payload.len()).ok_or(NO_TOKEN)?;
        let header = object(header).ok_or(NO_TOKEN)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| NO_TOKEN)?;
        // Extensions that must be understood are not (RFC 7515 §4.1.11).
        if header.contains_key("crit") {
            return Err(Fault::Invalid("the token has critical extensions that are not known"));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(JwtAlgorithm::named);
        let algorithm = algorithm.filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm =
            algorithm.ok_or(Fault::Invalid("the algorithm of the token is not allowed"))?;
        let id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(NO_TOKEN),
        };
        let mut candidates = keys.candidates(id, algorithm).take(TRIES_MAX).peekable();
        if candidates.peek().is_none() {
            self.keys.miss();
            return Err(Fault::Invalid("the key of the token is not known"));
        }
        if !candidates.any(|key| key.signed(algorithm, message, &signature)) {
            return Err(Fault::Invalid("the signature of the token is wrong"));
        }
        object(payload).ok_or(NO_TOKEN)
    }

    /// The time until which the token is good, in milliseconds since 1970. It is good at `now`.
    fn good_until(&self, claims: &Map<String, Value>, now: u64) -> Result<u64, Fault> {
        if let Some(not_before) = time(claims, "nbf")?
            && now.saturating_add(self.leeway) < not_before
        {
            return Err(Fault::Invalid("the token is not valid yet"));
        }
        match time(claims, "exp")? {
            Some(expires) => {
                let until = expires.saturating_add(self.leeway);
                match now < until {
                    true => Ok(until),
                    false => Err(Fault::Invalid("the token has expired")),
                }
            }
            None if self.expiry_optional => Ok(u64::MAX),
            None => Err(Fault::Invalid("the token does not say when it expires")),
        }
    }

    /// Whether the token is from whom and for whom it has to be, and has the claims it needs.
    fn fits(&self, claims: &Map<String, Value>) -> Result<(), Fault> {
        if !self.issuer.is_empty() {
            let issuer = claims.get("iss").and_then(Value::as_str);
            if !issuer.is_some_and(|issuer| self.issuer.iter().any(|known| known == issuer)) {
                return Err(Fault::Invalid("the token is from another issuer"));
            }
        }
        let is_us = |name: &str| self.audience.iter().any(|known| known == name);
        let for_us = match claims.get("aud") {
            _ if self.any_audience => true,
            None => self.audience.is_empty(),
            Some(Value::String(name)) => is_us(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is_us),
            Some(_) => false,
        };
        if !for_us {
            return Err(Fault::Invalid("the token is for somebody else"));
        }
        let has = |(name, wanted): &(String, Vec<ClaimValue>)| {
            claim(claims, name).is_some_and(|value| wanted.iter().any(|one| is(name, value, one)))
        };
        if self.required.iter().all(has) { Ok(()) } else { Err(Fault::Insufficient) }
    }

    fn proved(&self, claims: &Map<String, Value>) -> Verified {
        let mut lines = Vec::new();
        for (name, field) in &self.told {
            let Some(value) = claim(claims, name).and_then(told) else { continue };
            for part in [field.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        let user = claims.get("sub").and_then(Value::as_str).filter(|user| !user.is_empty());
        Verified { user: user.map(|user| user.as_bytes().into()), lines }
    }

    /// What the client is told (RFC 6750 §3).
    fn denied(&self, fault: Fault) -> Denied {
        let (status, error, why) = match fault {
            Fault::NoKeys => {
                return Denied::unavailable("there are no keys to check tokens with yet");
            }
            Fault::Missing => (401, "", "no token"),
            Fault::Malformed(why) => (400, ", error=\"invalid_request\"", why),
            Fault::Invalid(why) => (401, ", error=\"invalid_token\"", why),
            Fault::Insufficient => {
                (403, ", error=\"insufficient_scope\"", "the token lacks a claim that is needed")
            }
        };
        let described = match error {
            "" => String::new(),
            _ => format!("{error}, error_description=\"{why}\""),
        };
        let realm = &self.realm;
        let fields = format!("WWW-Authenticate: Bearer realm={realm}{described}\r\n").into_bytes();
        Denied { status, fields, why }
    }
}

impl From {
    fn of(source: &TokenSource) -> Self {
        match source {
            TokenSource::Header(name) => {
                let name = FieldName::new(name);
                match name.id {
                    FieldId::Authorization => From::Bearer(name),
                    _ => From::Field(name),
                }
            }
            TokenSource::Cookie(name) => From::Cookie(name.clone()),
            TokenSource::Query(name) => From::Parameter(name.clone()),
        }
    }

    /// The only token there.
    fn token<'a>(&self, request: &Presented<'a>) -> Result<&'a [u8], Fault> {
        let token = match self {
            From::Bearer(name) => match request.one(name) {
                One::This(value) => match credentials(b"Bearer", value) {
                    Some(token) => One::This(token),
                    // Another scheme, or none.
                    None if value.eq_ignore_ascii_case(b"Bearer") => {
                        return Err(Fault::Malformed("there is no token behind Bearer"));
                    }
                    None => One::Nothing,
                },
                other => other,
            },
            From::Field(name) => match request.one(name) {
                One::This(value) => One::This(credentials(b"Bearer", value).unwrap_or(value)),
                other => other,
            },
            From::Cookie(name) => {
                let cookies = request.head.fields.iter().filter(|one| one.id == FieldId::Cookie);
                let bytes = request.bytes;
                let cookies = cookies.map(move |one| one.value.of(bytes));
                One::of(cookie_values(cookies, name.as_bytes()))
            }
            From::Parameter(name) => One::of(parameters(request.query, name.as_bytes())),
        };
        match token {
            One::This(b"") | One::Nothing => Err(Fault::Missing),
            One::Several => Err(Fault::Malformed("there is more than one token")),
            One::This(token) if token.len() > TOKEN_MAX => {
                Err(Fault::Invalid("the token is too long"))
            }
            One::This(token) => Ok(token),
        }
    }
}

/// The values of the parameters of this name.
fn parameters<'q>(query: Option<&'q [u8]>, name: &[u8]) -> impl Iterator<Item = &'q [u8]> {
    let pieces = query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&'));
    pieces.filter_map(move |piece| {
        let (found, value) = piece.split_at_checked(memchr(b'=', piece)?)?;
        is_called(found, name).then(|| value.get(1..)).flatten()
    })
}

/// A part of a token that is a JSON object. No bit of its encoding is free, so that a token has one
/// form only.
fn object(part: &[u8]) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// A time among the claims, in milliseconds since 1970 (RFC 7519 §2, NumericDate).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Fault> {
    const WRONG: Fault = Fault::Invalid("a time of the token is no number");
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds.saturating_mul(1000)));
    }
    // With a fraction, or before 1970: `as` keeps it within bounds.
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(WRONG)?;
    Ok(Some((seconds * 1000.0) as u64))
}

/// The claim of this name, or at this path.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    let mut steps = rest.split('.');
    let found =
        steps.by_ref().take(DEPTH_MAX).try_fold(claims.get(first)?, |value, step| value.get(step));
    found.filter(|_| steps.next().is_none())
}

/// Whether a claim has this value, or among others.
fn is(name: &str, value: &Value, wanted: &ClaimValue) -> bool {
    match (value, wanted) {
        (Value::Array(items), _) => items.iter().any(|item| equals(item, wanted)),
        // Words with blanks between them (RFC 8693 §4.2).
        (Value::String(scope), ClaimValue::Text(word)) if name == "scope" => {
            scope == word || scope.split(' ').any(|one| one == word)
        }
        _ => equals(value, wanted),
    }
}

fn equals(value: &Value, wanted: &ClaimValue) -> bool {
    match wanted {
        ClaimValue::Text(text) => value.as_str() == Some(text),
        ClaimValue::Integer(number) => value.as_i64() == Some(*number),
        ClaimValue::Bool(on) => value.as_bool() == Some(*on),
    }
}

/// It is read as the token says it: one that does not fit into 64 bits is not.
fn is_exact(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|value| value.abs() < FRACTION_MAX)
}

/// A claim as the value of a field; `None` if it cannot be one.
fn told(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if is_exact(number) => number.to_string(),
        Value::Bool(on) => on.to_string(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            // An item with a comma would be two.
            items?
                .iter()
                .map(|item| (!item.contains(',')).then_some(*item))
                .collect::<Option<Vec<_>>>()?
                .join(",")
        }
        Value::Number(_) | Value::Null | Value::Object(_) => return None,
    };
    let sendable = !text.chars().any(char::is_control) && text.trim() == text;
    (sendable && !text.is_empty() && text.len() <= TOLD_MAX).then_some(text)
}

#[cfg(test)]
mod tests;
