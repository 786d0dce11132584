//! A reader of both text formats that takes nothing which the specifications do not allow, for tests.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::text::Format;

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// By name and labels as `name{label="value",…}`, labels in alphabetical order.
    pub(crate) samples: BTreeMap<String, f64>,
    /// Types by family.
    pub(crate) types: HashMap<String, String>,
    /// Names of all samples.
    pub(crate) names: HashSet<String>,
}

impl Parsed {
    /// The value of a sample, whose labels stand in alphabetical order.
    pub(crate) fn get(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }
}

/// Reads a page.
///
/// # Panics
/// It breaks a rule.
pub(crate) fn parse(page: &str, format: Format) -> Parsed {
    let mut parsed = Parsed::default();
    let open = format == Format::OpenMetrics;
    assert!(page.ends_with('\n'), "the last line has no end");
    let mut family: Option<(String, String)> = None;
    let mut helped = HashSet::new();
    let mut seen_families = HashSet::new();
    let mut ended = false;
    let mut buckets: HashMap<String, (f64, f64)> = HashMap::new();
    for line in page.lines() {
        assert!(!ended, "a line after # EOF: {line}");
        assert!(!line.is_empty(), "an empty line");
        if line == "# EOF" {
            assert!(open);
            ended = true;
            continue;
        }
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (keyword, name, text) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
            assert!(is_name(name), "{line}");
            match keyword {
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&text), "{line}");
                    assert!(seen_families.insert(name.to_owned()), "{name} is described twice");
                    if text == "counter" {
                        assert_eq!(!open, name.ends_with("_total"), "{line}");
                    }
                    parsed.types.insert(name.to_owned(), text.to_owned());
                    family = Some((name.to_owned(), text.to_owned()));
                }
                "HELP" => {
                    assert!(helped.insert(name.to_owned()), "two descriptions of {name}");
                    assert_eq!(family.as_ref().unwrap().0, name);
                    check_escapes(text, open);
                }
                "UNIT" => {
                    assert!(open && name.ends_with(&format!("_{text}")), "{line}");
                    assert_eq!(family.as_ref().unwrap().0, name);
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let (family, of) = family.as_ref().expect("a sample before any TYPE");
        let allowed: &[&str] = match (of.as_str(), open) {
            ("counter", true) => &["_total"],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let end =
            name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} in {family}"));
        assert!(allowed.contains(&end), "{line} in {family}");
        let le = labels.get("le").cloned();
        assert_eq!(le.is_some(), end == "_bucket", "{line}");
        let number: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(of == "gauge" || number >= 0.0, "{line}");
        if let Some(le) = le {
            let others: Vec<_> = labels.iter().filter(|(label, _)| **label != "le").collect();
            let bound = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
            assert!(
                !open || le == "+Inf" || le.contains('.'),
                "{line}: a bound is written as a float"
            );
            let series = format!("{name}{others:?}");
            let before = buckets.insert(series, (bound, number));
            let (last_bound, last) = before.unwrap_or((f64::NEG_INFINITY, 0.0));
            assert!(bound > last_bound && number >= last, "buckets out of order: {line}");
        }
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let key = match labels.is_empty() {
            true => name.to_owned(),
            false => format!("{name}{{{}}}", labels.join(",")),
        };
        parsed.names.insert(name.to_owned());
        assert!(parsed.samples.insert(key, number).is_none(), "twice: {line}");
    }
    assert_eq!(ended, open, "OpenMetrics ends with # EOF");
    assert!(buckets.values().all(|(bound, _)| bound.is_infinite()), "no bucket for +Inf");
    assert!(parsed.types.keys().all(|family| helped.contains(family)));
    parsed
}

/// Name, labels and value.
fn sample(line: &str) -> (&str, BTreeMap<&str, String>, &str) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.contains(':') && !label.starts_with("__"), "{line}");
            let (value, after) = label_value(after, line);
            assert!(labels.insert(label, value).is_none(), "a label twice: {line}");
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = after.strip_prefix('}').unwrap_or_else(|| panic!("{line}"));
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    assert!(!value.contains(' '), "{line}");
    (name, labels, value)
}

fn label_value<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &text[index + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => panic!("{line}"),
            },
            character => value.push(character),
        }
    }
    panic!("a value without an end: {line}")
}

fn check_escapes(text: &str, open: bool) {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            assert!(matches!(characters.next(), Some('\\' | 'n' | '"')), "{text}");
        }
        assert!(!open || character != '"', "a quote as it is: {text}");
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}
