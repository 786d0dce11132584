//! What a request has to be like for a route, beyond its path.

mod why;

use config::model::{Condition, Expected, HostMatch, HostPattern, Property, When};
use regex_automata::meta::Regex;
use wire::field::{Field, FieldId};
use wire::head::RequestHead;

use crate::decide::Request;

/// Parameters of a query that are looked at. A query with more meets no condition: what stands behind
/// would be unseen here, and not where the request goes.
const PARAMETERS_MAX: usize = 1000;

/// The fields of a request, to be looked up by name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    fields: &'a [Field],
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Those of a head and the bytes it was parsed from.
    pub fn of(head: &'a RequestHead, bytes: &'a [u8]) -> Self {
        Self { fields: &head.fields, bytes }
    }

    /// The values of the fields with this name, in any case.
    pub fn values(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named =
            move |field: &&Field| field.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(move |field| field.value.of(self.bytes))
    }

    /// The values of the cookie with this name.
    pub fn cookies(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.fields.iter().filter(|field| field.id == FieldId::Cookie);
        let pairs = lines.flat_map(move |field| field.value.of(self.bytes).split(|b| *b == b';'));
        pairs.filter_map(move |pair| {
            let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=").map(<[u8]>::trim_ascii_end)
        })
    }
}

/// Hosts, methods and properties that a route asks for.
#[derive(Debug)]
pub struct Conditions {
    hosts: Vec<Host>,
    methods: Vec<String>,
    properties: Properties,
}

#[derive(Debug)]
enum Host {
    Pattern(HostPattern),
    Leading(String),
    Regex(Regex),
}

/// Conditions on fields, parameters and cookies.
#[derive(Debug, Default)]
pub(super) struct Properties {
    tests: Vec<Test>,
    any_header: bool,
    any_query: bool,
}

#[derive(Debug)]
struct Test {
    of: Property,
    is: Vec<Is>,
}

#[derive(Debug)]
enum Is {
    Value(String),
    Prefix(String),
    Regex(Regex),
    Empty,
}

impl Conditions {
    /// Compiles them; `None` if every request is as it has to be.
    pub fn compile(hosts: &[HostMatch], methods: &[String], when: &When) -> Option<Self> {
        if hosts.is_empty() && methods.is_empty() && when.conditions.is_empty() {
            return None;
        }
        let hosts = hosts.iter().filter_map(|host| {
            Some(match host {
                HostMatch::Pattern(pattern) => Host::Pattern(pattern.clone()),
                HostMatch::Leading(begin) => Host::Leading(begin.clone()),
                HostMatch::Regex(pattern) => Host::Regex(config::pattern::compile(pattern).ok()?),
            })
        });
        Some(Self {
            hosts: hosts.collect(),
            methods: methods.to_vec(),
            properties: Properties::compile(when),
        })
    }

    /// The host, in lower case and without port, is one of those.
    pub fn host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|one| one.matches(host))
    }

    /// The method is one of those. What answers GET answers HEAD as well (RFC 9110 §9.3.2).
    pub fn method(&self, method: &[u8]) -> bool {
        self.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|one| one.as_bytes() == method || one == "GET" && method == b"HEAD")
    }

    /// The methods that are taken.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.methods.iter().map(String::as_str)
    }

    /// The request has what it has to have.
    pub fn properties(&self, request: &Request<'_>) -> bool {
        self.properties.hold(request.fields, request.query)
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Pattern(HostPattern::Exact(name)) => host == name,
            Self::Pattern(HostPattern::Wildcard(suffix)) => {
                host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            Self::Pattern(HostPattern::Any) => true,
            Self::Leading(begin) => {
                host.strip_prefix(begin.as_str()).is_some_and(|rest| rest.starts_with('.'))
            }
            Self::Regex(regex) => regex.is_match(host),
        }
    }
}

impl Properties {
    /// Compiles them. A regular expression that does not compile matches nothing, and configurations
    /// with one are not accepted.
    pub(super) fn compile(when: &When) -> Self {
        let tests = when.conditions.iter().map(|Condition { of, is }| {
            let is = is.iter().filter_map(|expected| {
                Some(match expected {
                    Expected::Value(value) => Is::Value(value.clone()),
                    Expected::Prefix(prefix) => Is::Prefix(prefix.clone()),
                    Expected::Regex(pattern) => Is::Regex(config::pattern::compile(pattern).ok()?),
                    Expected::Empty => Is::Empty,
                })
            });
            Test { of: of.clone(), is: is.collect() }
        });
        Self { tests: tests.collect(), any_header: when.any_header, any_query: when.any_query }
    }

    /// They hold for these fields and this query.
    pub(super) fn hold(&self, fields: Fields<'_>, query: Option<&[u8]>) -> bool {
        let any = |of: fn(&Property) -> bool, any: bool| {
            let mut tests = self.tests.iter().filter(|test| of(&test.of)).peekable();
            match any {
                _ if tests.peek().is_none() => true,
                true => tests.any(|test| test.holds(fields, query)),
                false => tests.all(|test| test.holds(fields, query)),
            }
        };
        any(|of| matches!(of, Property::Header(_)), self.any_header)
            && any(|of| matches!(of, Property::Query(_)), self.any_query)
            && any(|of| matches!(of, Property::Cookie(_)), false)
    }
}

impl Test {
    fn holds(&self, fields: Fields<'_>, query: Option<&[u8]>) -> bool {
        match &self.of {
            Property::Header(name) => self.one_of(fields.values(name)),
            Property::Cookie(name) => self.one_of(fields.cookies(name)),
            Property::Query(name) => {
                let query = query.unwrap_or_default();
                if query.split(|byte| *byte == b'&').nth(PARAMETERS_MAX).is_some() {
                    return false;
                }
                let values: Vec<Vec<u8>> = parameters(query, name).collect();
                self.one_of(values.iter().map(Vec::as_slice))
            }
        }
    }

    /// One of the values is as it has to be.
    fn one_of<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        let mut none = true;
        for value in values {
            none = false;
            if self.is.is_empty() || self.is.iter().any(|is| is.is(value)) {
                return true;
            }
        }
        none && self.is.iter().any(|is| matches!(is, Is::Empty))
    }
}

impl Is {
    fn is(&self, value: &[u8]) -> bool {
        match self {
            Self::Value(expected) => value == expected.as_bytes(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
            Self::Empty => value.is_empty(),
        }
    }
}

/// The values of the parameters with this name, decoded as forms are.
fn parameters<'q>(query: &'q [u8], name: &'q str) -> impl Iterator<Item = Vec<u8>> {
    let pairs = query.split(|byte| *byte == b'&');
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at(at);
        (decoded(key) == name.as_bytes()).then(|| decoded(value.get(1..).unwrap_or_default()))
    })
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'+', _) => out.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}
