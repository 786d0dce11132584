//! Who may make a request: checked before anything is spent on it.
//!
//! [`Auth::check`] is what a request meets. What a site and a route ask for is compiled into one
//! [`Auth`], whose steps have all to be passed.
//!
//! - `basic`: name and password (RFC 7617); `htpasswd`: the files they are in
//! - `passwords`: the kinds of hashes; `hashing`: the threads they are computed on
//! - `jwt`: signed tokens (RFC 7519, RFC 6750); `keys`: what their signatures are checked with
//! - `fields`: fields with certain values
//! - `sources`: what of all that goes on when a snapshot is compiled anew
//! - `memory`: what a worker remembers, so that the same is not checked again and again
//!
//! What always holds: what cannot be checked is not let in; credentials that could be read in two ways
//! are refused; what is compared with a secret is compared in constant time; a name that does not
//! exist takes as long as one that does; a password is never hashed on a worker; nothing of a password,
//! a token or a key gets into a log or a response; a field that tells the upstream what was proved is
//! never the client's, and there is one line of it.

mod asks;
mod basic;
mod fields;
mod hashing;
mod htpasswd;
mod jwt;
mod keys;
mod memory;
mod passwords;
mod sources;
#[cfg(test)]
mod testing;

pub use asks::{Asks, Said};
pub use hashing::{HASH_THREADS_MAX, HASHES_WAITING_MAX};
pub use htpasswd::{USERS_MAX, UserFile};
pub use keys::{JWKS_BYTES_MAX, KEYS_MAX, KeyFault, KeyRing, KeySource};
pub use memory::Memory;
pub use sources::Sources;

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::{constant_time, digest};
use config::model;
use memchr::memchr;
use wire::field::{FieldId, field_id};
use wire::head::RequestHead;

use self::basic::Basic;
use self::fields::Fields;
use self::jwt::Jwt;
use crate::filters::is_same;

/// After a refusal for want of capacity a client may come again in so many seconds.
const COME_AGAIN: &str = "Retry-After: 1\r\n";

/// What a site and a route ask of a request.
#[derive(Debug, Default)]
pub struct Auth {
    steps: Vec<Asked>,
    stripped: Stripped,
}

/// One thing that is asked for.
#[derive(Debug)]
struct Asked {
    step: Step,
    /// Names of the fields that tell the upstream of it.
    told: Vec<String>,
}

#[derive(Debug)]
enum Step {
    Basic(Basic),
    Jwt(Jwt),
    Fields(Fields),
}

/// What of a request its credentials may be in.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Index over the head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
    /// The query, without "?".
    pub query: Option<&'a [u8]>,
}

/// What was proved.
#[derive(Debug, Default, Clone)]
pub struct Verified {
    /// Who makes the request, if that was said: for the log.
    pub user: Option<Rc<[u8]>>,
    /// Field lines that tell it the upstream.
    pub lines: Vec<u8>,
}

/// Why a request goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// 400, 401, 403 or 503.
    pub status: u16,
    /// Field lines of the response.
    pub fields: Vec<u8>,
    /// In words, for the error log. Nothing of the credentials is in it.
    pub why: &'static str,
}

/// What of the credentials does not go to the upstream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Stripped {
    /// Names of fields.
    pub fields: Vec<String>,
    /// Names of cookies.
    pub cookies: Vec<String>,
    /// Names of parameters of the query.
    pub parameters: Vec<String>,
}

impl Auth {
    /// Compiles what a site asks for, and then what a route does.
    ///
    /// # Errors
    /// A file cannot be read or used; the text names it.
    pub fn compile<'m>(
        rules: impl Iterator<Item = &'m model::Auth>,
        sources: &mut Sources,
    ) -> Result<Self, String> {
        let mut auth = Self::default();
        for rule in rules {
            let stripped = &mut auth.stripped;
            let told = rule.told().into_iter().map(str::to_owned).collect();
            let step = match rule {
                model::Auth::Basic(basic) => {
                    if basic.strip {
                        stripped.fields.push("Authorization".to_owned());
                    }
                    Step::Basic(Basic::compile(basic, sources)?)
                }
                model::Auth::Jwt(jwt) => {
                    for place in jwt.from.iter().filter(|_| jwt.strip) {
                        match place {
                            model::TokenSource::Header(name) => stripped.fields.push(name.clone()),
                            model::TokenSource::Cookie(name) => stripped.cookies.push(name.clone()),
                            model::TokenSource::Query(name) => {
                                stripped.parameters.push(name.clone());
                            }
                        }
                    }
                    Step::Jwt(Jwt::compile(jwt, sources)?)
                }
                model::Auth::Fields(fields) => {
                    if fields.strip {
                        let names = fields.fields.iter().map(|field| field.name.clone());
                        stripped.fields.extend(names);
                    }
                    Step::Fields(Fields::compile(fields)?)
                }
            };
            auth.steps.push(Asked { step, told });
        }
        Ok(auth)
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What of the credentials does not go to the upstream.
    pub fn stripped(&self) -> &Stripped {
        &self.stripped
    }

    /// A token may stand in the query, which is not to be logged then.
    pub fn reads_query(&self) -> bool {
        self.steps.iter().any(|one| matches!(&one.step, Step::Jwt(jwt) if jwt.reads_query()))
    }

    /// Names of the fields that tell the upstream what was proved.
    pub fn told(&self) -> impl Iterator<Item = &String> {
        self.steps.iter().flat_map(|one| &one.told)
    }

    /// Checks a request. Waits only for a password that has to be hashed.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    pub async fn check(
        &self,
        request: &Presented<'_>,
        memory: &Memory,
    ) -> Result<Verified, Denied> {
        let mut verified = Verified::default();
        for Asked { step, told } in &self.steps {
            let proved = match step {
                Step::Basic(basic) => basic.check(request, memory).await?,
                Step::Jwt(jwt) => jwt.check(request, memory)?,
                Step::Fields(fields) => {
                    fields.check(request)?;
                    continue;
                }
            };
            tell(&mut verified.lines, told, &proved.lines);
            verified.user = verified.user.or_else(|| proved.user.clone());
        }
        Ok(verified)
    }
}

impl Stripped {
    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |one: &[String], other: &[String]| [one, other].concat();
        Self {
            fields: both(&self.fields, &other.fields),
            cookies: both(&self.cookies, &other.cookies),
            parameters: both(&self.parameters, &other.parameters),
        }
    }
}

impl<'a> Presented<'a> {
    /// The values of the fields of this name.
    fn values(&self, name: &FieldName) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let of_name = move |field: &&wire::field::Field| match name.id {
            FieldId::Other => field.name.of(bytes).eq_ignore_ascii_case(name.text.as_bytes()),
            id => field.id == id,
        };
        self.head.fields.iter().filter(of_name).map(move |field| field.value.of(bytes))
    }

    /// The only value of the field of this name.
    fn one(&self, name: &FieldName) -> One<'a> {
        One::of(self.values(name))
    }
}

/// What there is to be of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum One<'a> {
    Nothing,
    This(&'a [u8]),
    Several,
}

impl<'a> One<'a> {
    fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => Self::This(value),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// The name of a field to look for.
#[derive(Debug, Clone)]
struct FieldName {
    id: FieldId,
    text: String,
}

impl FieldName {
    fn new(text: &str) -> Self {
        Self { id: field_id(text.as_bytes()), text: text.to_owned() }
    }
}

impl Denied {
    /// 503: it cannot be checked now.
    fn unavailable(why: &'static str) -> Self {
        Self { status: 503, fields: COME_AGAIN.into(), why }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; answered {}", self.why, self.status)
    }
}

/// What follows the scheme in a value of `Authorization`, if it is this scheme (RFC 9110 §11.4).
fn credentials<'a>(scheme: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (found, rest) = value.split_at_checked(memchr(b' ', value)?)?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

/// `text` as a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

/// Whether both are the same, in a time that says nothing of either but how long the first is.
fn same(presented: &[u8], secret: &[u8]) -> bool {
    let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let (presented, secret) = (hash(presented), hash(secret));
    constant_time::verify_slices_are_equal(presented.as_ref(), secret.as_ref()).is_ok()
}

/// A number that no other part of the process has: what is remembered is remembered under it.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Adds `more` lines to `lines`, with all there is to say of the fields called `told`: what was said of
/// them before is gone, so that an upstream never has two to choose from.
pub fn tell<'n>(lines: &mut Vec<u8>, told: impl IntoIterator<Item = &'n String>, more: &[u8]) {
    for name in told {
        if self::lines(lines).any(|line| is_same(name_of(line), name.as_bytes())) {
            let others = self::lines(lines);
            *lines = others
                .filter(|line| !is_same(name_of(line), name.as_bytes()))
                .collect::<Vec<_>>()
                .concat();
        }
    }
    lines.extend_from_slice(more);
}

/// The field lines in these, with their ends. No value has a line feed.
pub fn lines(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|byte| *byte == b'\n')
}

/// The name of the field in a line.
pub fn name_of(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// Whether the name of a parameter, as it is written in a query, is this one to whoever decodes it as
/// forms are.
fn is_called(written: &[u8], name: &[u8]) -> bool {
    let mut rest = written;
    let hex = |byte: u8| char::from(byte).to_digit(16);
    for wanted in name {
        let (byte, behind) = match rest {
            [] => return false,
            [b'%', high, low, behind @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => return false,
            },
            [b'+', behind @ ..] => (u32::from(b' '), behind),
            [byte, behind @ ..] => (u32::from(*byte), behind),
        };
        if byte != u32::from(*wanted) {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// The query without the parameters of these names; `None` if nothing is left.
pub fn query_without<'q>(query: &'q [u8], names: &[String]) -> Option<std::borrow::Cow<'q, [u8]>> {
    let is_named = |piece: &[u8]| {
        let name = memchr(b'=', piece).and_then(|at| piece.get(..at)).unwrap_or(piece);
        names.iter().any(|known| is_called(name, known.as_bytes()))
    };
    if names.is_empty() || !query.split(|byte| *byte == b'&').any(is_named) {
        return Some(query.into());
    }
    let left: Vec<&[u8]> =
        query.split(|byte| *byte == b'&').filter(|piece| !is_named(piece)).collect();
    if left.is_empty() { None } else { Some(left.join(&b'&').into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_called_what_its_name_decodes_to() {
        for name in ["token", "%74oken", "%74%6f%6B%65%6e"] {
            assert!(is_called(name.as_bytes(), b"token"), "{name}");
        }
        for name in ["", "toke", "tokens", "Token", "%2574oken", "%7", "%zzoken", "toke%6", "%00"] {
            assert!(!is_called(name.as_bytes(), b"token"), "{name}");
        }
        let left = |query: &str| {
            let left = query_without(query.as_bytes(), &["token".to_owned()]);
            left.map(|left| String::from_utf8(left.into_owned()).unwrap())
        };
        assert_eq!(left("a=b&%74oken=x&token=y&token").as_deref(), Some("a=b"));
        assert_eq!(left("%74oken=x"), None);
        assert_eq!(left("a=%74oken&%2574oken=x").as_deref(), Some("a=%74oken&%2574oken=x"));
    }

    #[test]
    fn what_is_told_last_of_a_field_is_all_there_is() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let mut lines = Vec::new();
        tell(&mut lines, &names(&["X-A", "X-B"]), b"X-A: 1\r\nX-B: 2: X-C\r\n");
        tell(&mut lines, &names(&["x_a", "X-C"]), b"x_a: 3\r\n");
        assert_eq!(lines, b"X-B: 2: X-C\r\nx_a: 3\r\n");
        tell(&mut lines, &names(&["X-A"]), b"");
        assert_eq!(lines, b"X-B: 2: X-C\r\n");
    }
}
