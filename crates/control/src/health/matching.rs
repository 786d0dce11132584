//! What a response has to be like for a probe to succeed, and in which words it is not.

use config::model::{HttpProbe, TextMatch};
use http::{HeaderMap, HeaderName};
use memchr::memmem;
use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

/// Bytes that a compiled regular expression may take. Those that operators write take some KiB.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// Characters of a field's value that are shown in a message.
const SHOWN_MAX: usize = 80;

/// What is expected of a response.
#[derive(Debug)]
pub(super) struct Expected {
    statuses: Vec<(u16, u16)>,
    fields: Vec<(HeaderName, Matcher)>,
    body: Option<Matcher>,
}

/// What a text has to be.
#[derive(Debug)]
enum Matcher {
    Exact(String),
    Contains(String),
    Regex(String, Box<Regex>),
}

impl Expected {
    /// Compiles what `probe` expects.
    ///
    /// # Errors
    /// A field name or a regular expression is no good.
    pub(super) fn new(probe: &HttpProbe) -> Result<Self, String> {
        let field = |(name, text): &(String, TextMatch)| {
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let name = parsed.map_err(|_| format!("{name:?} is no name of a field"))?;
            Ok((name, Matcher::new(text)?))
        };
        Ok(Self {
            statuses: probe.statuses.clone(),
            fields: probe.expect_fields.iter().map(field).collect::<Result<_, String>>()?,
            body: probe.expect_body.as_ref().map(Matcher::new).transpose()?,
        })
    }

    /// The body has to be read for it.
    pub(super) fn wants_body(&self) -> bool {
        self.body.is_some()
    }

    /// The status is one of those.
    ///
    /// # Errors
    /// It is not, in words.
    pub(super) fn judge_status(&self, status: u16) -> Result<(), String> {
        match self.statuses.iter().any(|&(low, high)| (low..=high).contains(&status)) {
            true => Ok(()),
            false => Err(format!("status {status} (expected {})", ranges(&self.statuses))),
        }
    }

    /// The fields are there. Of several with one name, one has to fit.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub(super) fn judge_fields(&self, fields: &HeaderMap) -> Result<(), String> {
        for (name, matcher) in &self.fields {
            let mut values = fields.get_all(name).iter().map(|value| value.as_bytes()).peekable();
            let Some(&first) = values.peek() else {
                return Err(format!("no field {name} (expected {})", matcher.words()));
            };
            if !values.any(|value| matcher.fits(value.trim_ascii())) {
                let value = shown(first);
                return Err(format!("field {name} is {value:?} (expected {})", matcher.words()));
            }
        }
        Ok(())
    }

    /// The beginning of the body holds what it should.
    ///
    /// # Errors
    /// It does not, in words.
    pub(super) fn judge_body(&self, body: &[u8]) -> Result<(), String> {
        match &self.body {
            Some(matcher) if !matcher.fits(body) => {
                Err(format!("the body is not as expected ({})", matcher.words()))
            }
            _ => Ok(()),
        }
    }
}

impl Matcher {
    fn new(text: &TextMatch) -> Result<Self, String> {
        Ok(match text {
            TextMatch::Exact(text) => Self::Exact(text.clone()),
            TextMatch::Contains(text) => Self::Contains(text.clone()),
            TextMatch::Regex(pattern) => {
                let regex = Regex::builder()
                    // What comes need not be UTF-8.
                    .syntax(syntax::Config::new().utf8(false))
                    .configure(Config::new().utf8_empty(false).nfa_size_limit(Some(REGEX_SIZE_MAX)))
                    .build(pattern);
                let regex = regex
                    .map_err(|error| format!("regular expression {pattern:?} fails: {error}"))?;
                Self::Regex(pattern.clone(), Box::new(regex))
            }
        })
    }

    fn fits(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => text == expected.as_bytes(),
            Self::Contains(part) => memmem::find(text, part.as_bytes()).is_some(),
            Self::Regex(_, regex) => regex.is_match(text),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Exact(text) => format!("{text:?}"),
            Self::Contains(text) => format!("with {text:?} in it"),
            Self::Regex(pattern, _) => format!("matching /{pattern}/"),
        }
    }
}

/// `200-399, 404`.
fn ranges(statuses: &[(u16, u16)]) -> String {
    let one = |&(low, high): &(u16, u16)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    };
    statuses.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::testing::http_probe;
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        lines.iter().map(pair).collect()
    }

    fn regex(pattern: &str) -> TextMatch {
        TextMatch::Regex(pattern.to_owned())
    }

    #[test]
    fn a_status_is_in_one_of_the_ranges() {
        let probe = HttpProbe { statuses: vec![(200, 399), (404, 404)], ..http_probe() };
        let expected = Expected::new(&probe).unwrap();
        for status in [200, 301, 399, 404] {
            assert_eq!(expected.judge_status(status), Ok(()));
        }
        for status in [100, 199, 400, 403, 405, 500, 999] {
            let words = format!("status {status} (expected 200-399, 404)");
            assert_eq!(expected.judge_status(status), Err(words));
        }
    }

    #[test]
    fn fields_are_there_and_as_expected() {
        let expect_fields = vec![
            ("X-State".to_owned(), TextMatch::Exact("ready".to_owned())),
            ("content-type".to_owned(), regex("^text/(html|plain)")),
        ];
        let expected = Expected::new(&HttpProbe { expect_fields, ..http_probe() }).unwrap();
        let judge = |lines: &[_]| expected.judge_fields(&fields(lines));
        let text = ("content-type", "text/plain; charset=utf-8");
        assert_eq!(judge(&[("x-state", "ready"), text]), Ok(()));
        assert_eq!(judge(&[("x-state", "starting"), ("x-state", "ready"), text]), Ok(()));
        let missing = "no field x-state (expected \"ready\")".to_owned();
        assert_eq!(judge(&[text]), Err(missing));
        let other = "field x-state is \"Ready\" (expected \"ready\")".to_owned();
        assert_eq!(judge(&[("x-state", "Ready"), text]), Err(other));
        let other = judge(&[("x-state", "ready"), ("content-type", "image/png")]);
        let words = "field content-type is \"image/png\" (expected matching /^text/(html|plain)/)";
        assert_eq!(other, Err(words.to_owned()));
    }

    #[test]
    fn a_body_contains_or_matches() {
        let expected =
            |text| Expected::new(&HttpProbe { expect_body: Some(text), ..http_probe() }).unwrap();
        let contains = expected(TextMatch::Contains("\"ok\"".to_owned()));
        assert!(contains.wants_body());
        assert_eq!(contains.judge_body(b"{\"status\": \"ok\"}"), Ok(()));
        assert!(contains.judge_body(b"{\"status\": \"no\"}").unwrap_err().contains("\\\"ok\\\""));
        let matches = expected(regex("(?i)status.{1,4}ok"));
        assert_eq!(matches.judge_body(b"\xff{\"Status\": OK"), Ok(()));
        assert!(matches.judge_body(b"").is_err());
        assert!(!Expected::new(&http_probe()).unwrap().wants_body());
    }

    #[test]
    fn what_cannot_be_compiled_is_told() {
        let probe = |text| HttpProbe { expect_body: Some(text), ..http_probe() };
        assert!(Expected::new(&probe(regex("("))).unwrap_err().contains("\"(\" fails"));
        // Too large to be kept.
        assert!(Expected::new(&probe(regex(r"(\w{1000}){1000}"))).is_err());
        let expect_fields = vec![("not a name".to_owned(), regex("x"))];
        assert!(Expected::new(&HttpProbe { expect_fields, ..http_probe() }).is_err());
    }
}
