//! Conditions on exchanges, as people write them: `status>=500 && upstream=="b"`.
//!
//! [`Filter::parse`] is for whoever takes the text: what is wrong with it is said with its place. What comes
//! of it is a small tree ([`Filter::passes`]) that workers evaluate without allocating.
//!
//! ```text
//! any    = all *( ( "||" | "or" ) all )
//! all    = one *( ( "&&" | "and" ) one )
//! one    = ( "!" | "not" ) one | "(" any ")" | field [ test ]
//! test   = ( "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~" ) value
//!        | [ "not" ] "in" ( "(" values ")" | "[" values "]" )
//! value  = "…" | '…' | word
//! ```
//!
//! What always holds: a text has at most [`BYTES_MAX`] bytes, [`TESTS_MAX`] tests and [`REGEXES_MAX`]
//! regular expressions, which take at most [`REGEX_BYTES_MAX`] and see no more of a text than is recorded; a
//! test of something that is not known is not passed, whatever it asks.

mod fields;
mod parse;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;
use regex_automata::meta::Regex;

use self::fields::{Number, Value};
use super::exchange::Exchange;
use crate::log::steers;

pub use self::fields::{FIELDS, Field};

/// Bytes of a text.
pub const BYTES_MAX: usize = 2048;
/// Tests of one filter: each is made for every exchange as long as somebody watches.
pub const TESTS_MAX: usize = 64;
/// Values of all its lists.
pub const VALUES_MAX: usize = 256;
/// Regular expressions of one filter.
pub const REGEXES_MAX: usize = 8;
/// Bytes that those take together once they are compiled. A worker matches them, and how long that takes
/// grows with them: a large one would hold up everything else on its worker.
pub const REGEX_BYTES_MAX: usize = 16 * 1024;
/// Parentheses and negations inside each other.
pub const DEPTH_MAX: usize = 32;

/// A condition on exchanges.
#[derive(Debug, Clone)]
pub struct Filter(Node);

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// The text.
    pub text: String,
    /// The place, in bytes.
    pub at: Range<usize>,
    /// What is wrong there, in one sentence without a full stop.
    pub message: String,
    /// What to write instead; empty if nobody knows.
    pub help: String,
}

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// One test.
#[derive(Debug, Clone)]
enum Test {
    /// The number is in one of the ranges, both ends included, or in none of them.
    Number { field: Number, ranges: Vec<(u64, u64)>, is: bool },
    /// The text is one of these, or none of them.
    Text { field: Value, texts: Vec<Box<[u8]>>, is: bool },
    /// The regular expression matches somewhere in the text, or nowhere.
    Regex { field: Value, regex: Regex, is: bool },
    /// The client is in one of the networks, or in none of them.
    Client { nets: Vec<IpNet>, is: bool },
    /// Something is so.
    Flag(fields::Flag),
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// The text is none; the error says why.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Whether an exchange is as the filter says.
    pub fn passes(&self, exchange: &Exchange<'_>) -> bool {
        self.0.passes(exchange)
    }
}

impl Node {
    fn passes(&self, exchange: &Exchange<'_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(exchange)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(exchange)),
            Self::Not(node) => !node.passes(exchange),
            Self::Test(test) => test.passes(exchange),
        }
    }
}

impl Test {
    fn passes(&self, exchange: &Exchange<'_>) -> bool {
        match self {
            Self::Number { field, ranges, is } => field.of(exchange).is_some_and(|number| {
                let within = |(from, to): &(u64, u64)| (*from..=*to).contains(&number);
                ranges.iter().any(within) == *is
            }),
            Self::Text { field, texts, is } => {
                let text = field.of(exchange);
                let same = |other: &[u8]| match field.ignores_case() {
                    true => text.eq_ignore_ascii_case(other),
                    false => text == other,
                };
                texts.iter().any(|other| same(other)) == *is
            }
            Self::Regex { field, regex, is } => regex.is_match(field.beginning(exchange)) == *is,
            Self::Client { nets, is } => exchange.facts.client.is_some_and(|client| {
                let client: IpAddr = client.to_canonical();
                nets.iter().any(|net| net.contains(&client)) == *is
            }),
            Self::Flag(flag) => flag.of(exchange),
        }
    }
}

impl fmt::Display for FilterError {
    /// The message, the text with carets below the place, and what to write instead.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().map(visible).collect();
        let before = self.text.get(..self.at.start).unwrap_or_default().chars().count();
        let marked = self.text.get(self.at.clone()).unwrap_or_default().chars().count().max(1);
        let Self { message, help, .. } = self;
        let gap = if help.is_empty() { "" } else { " " };
        write!(f, "{message}\n  {shown}\n  {:before$}{}{gap}{help}", "", "^".repeat(marked))
    }
}

impl std::error::Error for FilterError {}

/// A character as a terminal may have it, in one column.
fn visible(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        c if steers(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}
