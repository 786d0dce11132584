//! From the text of a filter to its tree, by recursive descent.

use std::ops::Range;

use super::fields::{FIELDS, Field, Kind, Number, Value};
use crate::log::reasons::REASONS;

use super::{
    BYTES_MAX, DEPTH_MAX, FilterError, Node, REGEX_BYTES_MAX, REGEXES_MAX, TESTS_MAX, Test,
    VALUES_MAX, values,
};

/// Reads a word as the least and the most that it stands for.
type ReadRange = dyn Fn(&str) -> Result<(u64, u64), String>;

/// Operators, those first that others begin.
const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("=~", Operator::Matches),
    ("!~", Operator::MatchesNot),
    ("!=", Operator::Unequal),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Below),
    (">", Operator::Above),
    ("=", Operator::Equal),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Below,
    AtMost,
    Above,
    AtLeast,
    Matches,
    MatchesNot,
}

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let mut parser =
        Parser { text, at: 0, depth: 0, tests: 0, values: 0, regexes: 0, regex_bytes: 0 };
    if text.len() > BYTES_MAX {
        return parser.fail(0..0, format!("a filter has at most {BYTES_MAX} bytes"), "");
    }
    let node = parser.any()?;
    parser.skip_space();
    match parser.rest() {
        "" => Ok(node),
        rest if rest.starts_with(')') => {
            parser.fail(parser.next(), "there is no `(` for this", "take it out")
        }
        _ => parser.fail(parser.next(), "expected `&&`, `||` or the end", ""),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    tests: usize,
    values: usize,
    regexes: usize,
    regex_bytes: usize,
}

type Parsed<T> = Result<T, FilterError>;

impl<'t> Parser<'t> {
    fn any(&mut self) -> Parsed<Node> {
        let mut nodes = vec![self.all()?];
        while self.takes("||") || self.takes_word("or") {
            nodes.push(self.all()?);
        }
        Ok(sole(nodes, Node::Any))
    }

    fn all(&mut self) -> Parsed<Node> {
        let mut nodes = vec![self.one()?];
        while self.takes("&&") || self.takes_word("and") {
            nodes.push(self.one()?);
        }
        Ok(sole(nodes, Node::All))
    }

    fn one(&mut self) -> Parsed<Node> {
        self.skip_space();
        let start = self.next();
        if self.depth >= DEPTH_MAX {
            return self.fail(start, format!("more than {DEPTH_MAX} levels"), "");
        }
        self.depth += 1;
        let node = if self.takes("!") || self.takes_word("not") {
            Node::Not(Box::new(self.one()?))
        } else if self.takes("(") {
            let node = self.any()?;
            if !self.takes(")") {
                let found = self.next();
                return self.fail(found, "expected `&&`, `||` or `)`", "`(` is not closed");
            }
            node
        } else {
            Node::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Parsed<Test> {
        let (field, name) = self.field()?;
        self.tests += 1;
        if self.tests > TESTS_MAX {
            return self.fail(name, format!("more than {TESTS_MAX} tests"), "");
        }
        let before = self.at;
        let negated = self.takes_word("not");
        if self.takes_word("in") {
            return self.list(field, !negated);
        }
        self.at = before;
        let Some((operator, place)) = self.operator() else {
            if let Kind::Flag(flag) = field.kind {
                return Ok(Test::Flag(flag));
            }
            let message = format!("expected a comparison of `{}`", self.of(&name));
            return self.fail(self.next(), message, example(field));
        };
        if let Kind::Flag(_) = field.kind {
            let name = self.of(&name).to_owned();
            return self.fail(
                place,
                format!("`{name}` stands alone"),
                format!("`{name}` or `!{name}`"),
            );
        }
        let (word, at) = self.value(field)?;
        match operator {
            Operator::Equal => self.equal(field, vec![(word, at)], true),
            Operator::Unequal => self.equal(field, vec![(word, at)], false),
            Operator::Matches | Operator::MatchesNot => {
                self.matches(field, &word, at, place, operator == Operator::Matches)
            }
            _ => self.compare(field, operator, &word, at, place),
        }
    }

    fn field(&mut self) -> Parsed<(&'static Field, Range<usize>)> {
        self.skip_space();
        let start = self.at;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
        let len = self.rest().find(|c: char| !is_name(c)).unwrap_or(self.rest().len());
        if len == 0 {
            let found = self.next();
            let help = "such as `status`, `site` or `time`";
            return self.fail(found, "expected the name of a field", help);
        }
        self.at += len;
        let place = start..self.at;
        let name = self.of(&place);
        let found = FIELDS.iter().find(|field| field.names.contains(&name));
        if let Some(field) = found {
            return Ok((field, place));
        }
        let message = format!("no field is called `{}`", shortened(name));
        let fields = FIELDS.iter().flat_map(|field| field.names).copied();
        let help = match nearest(name, fields) {
            Some(name) => format!("did you mean `{name}`?"),
            None => {
                let names: Vec<&str> =
                    FIELDS.iter().filter_map(|field| field.names.first().copied()).collect();
                format!("there are {}", names.join(", "))
            }
        };
        self.fail(place, message, help)
    }

    fn operator(&mut self) -> Option<(Operator, Range<usize>)> {
        self.skip_space();
        let rest = self.rest();
        let (text, operator) = OPERATORS.iter().find(|(text, _)| rest.starts_with(text))?;
        let start = self.at;
        self.at += text.len();
        Some((*operator, start..self.at))
    }

    /// A quoted text, or a word up to a space or anything that has a meaning of its own.
    fn value(&mut self, field: &Field) -> Parsed<(String, Range<usize>)> {
        self.skip_space();
        let start = self.at;
        self.values += 1;
        if self.values > VALUES_MAX {
            return self.fail(self.next(), format!("more than {VALUES_MAX} values"), "");
        }
        if let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'')) {
            return self.quoted(quote, start);
        }
        let ends = |c: char| c.is_whitespace() || "()[],&|\"'!<>=".contains(c);
        let len = self.rest().find(ends).unwrap_or(self.rest().len());
        if len == 0 {
            return self.fail(self.next(), "expected a value", example(field));
        }
        self.at += len;
        let place = start..self.at;
        Ok((self.of(&place).to_owned(), place))
    }

    /// `\"` and `\\` stand for themselves; any other backslash is one, as regular expressions have them.
    fn quoted(&mut self, quote: char, start: usize) -> Parsed<(String, Range<usize>)> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += at + c.len_utf8();
                    return Ok((text, start..self.at));
                }
                '\\' if chars.peek().is_some_and(|(_, next)| *next == quote) => {
                    text.push(quote);
                    chars.next();
                }
                c => text.push(c),
            }
        }
        self.fail(start..self.text.len(), "this text has no end", format!("it ends with {quote}"))
    }

    fn list(&mut self, field: &'static Field, is: bool) -> Parsed<Test> {
        if let Kind::Flag(_) = field.kind {
            return self.fail(self.next(), "this field stands alone", "");
        }
        let end = if self.takes("(") {
            ")"
        } else if self.takes("[") {
            "]"
        } else {
            let found = self.next();
            return self.fail(found, "expected a list", "such as (404, 502)");
        };
        let mut words = Vec::new();
        loop {
            words.push(self.value(field)?);
            if self.takes(end) {
                return self.equal(field, words, is);
            }
            if !self.takes(",") {
                return self.fail(self.next(), format!("expected `,` or `{end}`"), "");
            }
        }
    }

    /// One of these values, or none of them.
    fn equal(&self, field: &Field, words: Vec<(String, Range<usize>)>, is: bool) -> Parsed<Test> {
        let ranges = |number, read: &ReadRange| {
            let ranges: Parsed<Vec<(u64, u64)>> =
                words.iter().map(|(word, at)| self.read(read(word), at)).collect();
            Ok(Test::Number { field: number, ranges: ranges?, is })
        };
        match field.kind {
            Kind::Number(number) => ranges(number, &|word| values::range(word, values::number)),
            Kind::Status => ranges(Number::Status, &values::status),
            Kind::Bytes(number) => ranges(number, &|word| values::range(word, values::bytes)),
            Kind::Time(number) => ranges(number, &|word| values::range(word, values::time)),
            Kind::Client => {
                let nets: Parsed<_> =
                    words.iter().map(|(word, at)| self.read(values::net(word), at)).collect();
                Ok(Test::Client { nets: nets?, is })
            }
            Kind::Word(field, among) => {
                for (word, at) in &words {
                    self.one_of(word, at, among)?;
                }
                Ok(texts(field, words, is))
            }
            Kind::Reason => {
                for (word, at) in &words {
                    self.reason(word, at)?;
                }
                Ok(texts(Value::Reason, words, is))
            }
            Kind::Text(field) => Ok(texts(field, words, is)),
            Kind::Flag(flag) => Ok(Test::Flag(flag)),
        }
    }

    fn one_of(&self, word: &str, at: &Range<usize>, among: &[&str]) -> Parsed<()> {
        if among.contains(&word) {
            return Ok(());
        }
        let among: Vec<&str> = among.iter().copied().filter(|one| !one.is_empty()).collect();
        let message = format!("`{}` is none of its values", shortened(word));
        self.fail(at.clone(), message, format!("there are {}", among.join(", ")))
    }

    fn reason(&self, word: &str, at: &Range<usize>) -> Parsed<()> {
        let names = || REASONS.iter().map(|reason| reason.name);
        if names().any(|name| name == word) {
            return Ok(());
        }
        let message = format!("no reason is called `{}`", shortened(word));
        let help = nearest(word, names()).map(|name| format!("did you mean `{name}`?"));
        self.fail(at.clone(), message, help.unwrap_or_default())
    }

    fn compare(
        &self,
        field: &Field,
        operator: Operator,
        word: &str,
        at: Range<usize>,
        place: Range<usize>,
    ) -> Parsed<Test> {
        let (field, value) = match field.kind {
            Kind::Number(number) => (number, values::number(word)),
            Kind::Status => (Number::Status, values::number(word)),
            Kind::Bytes(number) => (number, values::bytes(word)),
            Kind::Time(number) => (number, values::time(word)),
            Kind::Client | Kind::Text(_) | Kind::Word(..) | Kind::Reason | Kind::Flag(_) => {
                let help = "use ==, != or in, or =~ where it is text";
                return self.fail(place, "this compares numbers, sizes and times", help);
            }
        };
        let value = self.read(value, &at)?;
        let range = match operator {
            Operator::Below => value.checked_sub(1).map(|to| (0, to)),
            Operator::AtMost => Some((0, value)),
            Operator::Above => value.checked_add(1).map(|from| (from, u64::MAX)),
            _ => Some((value, u64::MAX)),
        };
        Ok(Test::Number { field, ranges: range.into_iter().collect(), is: true })
    }

    fn matches(
        &mut self,
        field: &Field,
        pattern: &str,
        at: Range<usize>,
        place: Range<usize>,
        is: bool,
    ) -> Parsed<Test> {
        let field = match field.kind {
            Kind::Text(field) | Kind::Word(field, _) => field,
            Kind::Reason => Value::Reason,
            _ => {
                let help = "use ==, !=, <, <=, >, >= or in";
                return self.fail(place, "only text matches a regular expression", help);
            }
        };
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return self.fail(at, format!("more than {REGEXES_MAX} regular expressions"), "");
        }
        let left = REGEX_BYTES_MAX.saturating_sub(self.regex_bytes);
        let (regex, size) = match config::pattern::compile_small(pattern, left) {
            Ok(compiled) => compiled,
            Err(message) => {
                let help = match message.contains("too large") {
                    true => {
                        "all of a filter take at most 16 KiB, compiled; count less often, ask for less"
                    }
                    false => "",
                };
                return self.fail(at, message, help);
            }
        };
        self.regex_bytes += size;
        Ok(Test::Regex { field, regex, is })
    }

    fn read<T>(&self, read: Result<T, String>, at: &Range<usize>) -> Parsed<T> {
        read.or_else(|message| self.fail(at.clone(), message, ""))
    }

    /// Takes a sign, if it is next.
    fn takes(&mut self, sign: &str) -> bool {
        self.skip_space();
        let rest = self.rest();
        // `!` is also how two operators begin; but nothing is compared where it can negate.
        let is = rest.starts_with(sign);
        if is {
            self.at += sign.len();
        }
        is
    }

    /// Takes a word, if it is next and no longer word begins with it.
    fn takes_word(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(after) = self.rest().strip_prefix(word) else { return false };
        let is = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if is {
            self.at += word.len();
        }
        is
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn of(&self, place: &Range<usize>) -> &'t str {
        self.text.get(place.clone()).unwrap_or_default()
    }

    /// The place of the next character that is no space; behind the end if there is none.
    fn next(&self) -> Range<usize> {
        let rest = self.rest();
        let start = self.at + (rest.len() - rest.trim_start().len());
        let len = rest.trim_start().chars().next().map_or(0, char::len_utf8);
        start..start + len
    }

    fn fail<T>(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Parsed<T> {
        let text = match self.text.len() > BYTES_MAX {
            true => String::new(),
            false => self.text.to_owned(),
        };
        Err(FilterError { text, at, message: message.into(), help: help.into() })
    }
}

/// The only one of several, or all of them.
fn sole(mut nodes: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match nodes.len() {
        1 => nodes.remove(0),
        _ => several(nodes),
    }
}

fn texts(field: Value, words: Vec<(String, Range<usize>)>, is: bool) -> Test {
    let texts = words.into_iter().map(|(word, _)| word.into_bytes().into_boxed_slice()).collect();
    Test::Text { field, texts, is }
}

fn example(field: &Field) -> String {
    let name = field.names.first().copied().unwrap_or_default();
    let rest = match field.kind {
        Kind::Number(_) => " > 1",
        Kind::Status => " >= 500",
        Kind::Bytes(_) => " > 1MB",
        Kind::Time(_) => " > 250ms",
        Kind::Text(_) => " == \"…\"",
        Kind::Word(_, words) => {
            return format!("such as `{name} == {}`", words.first().copied().unwrap_or_default());
        }
        Kind::Reason => " == connect_refused",
        Kind::Client => " == 10.0.0.0/8",
        Kind::Flag(_) => "",
    };
    format!("such as `{name}{rest}`")
}

/// The one of `names` that was probably meant.
fn nearest(word: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const WORD_MAX: usize = 32;
    if word.len() > WORD_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::damerau_levenshtein(&word, name), name))
        .filter(|(distance, name)| {
            let length = name.len().min(word.len());
            *distance <= (length / 3).max(1).min(length.saturating_sub(1))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn shortened(word: &str) -> String {
    const SHOWN_MAX: usize = 40;
    match word.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", word.get(..end).unwrap_or_default()),
        None => word.to_owned(),
    }
}
