//! Texts that are not YAML but some other language, or some other system's configuration: refused in one
//! finding.

use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Source, Span};

/// The finding for such a text. JSON is not one of them: it is YAML.
pub(super) fn refuse(source: &Source, file: usize) -> Option<Diagnostic> {
    let mut seen = Seen::default();
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let words = line.trim();
        if !words.is_empty() && !words.starts_with('#') {
            seen.line(words, start + line.len() - line.trim_start().len());
        }
        start += line.len();
    }
    let (what, help, (at, length)) = seen.language()?;
    let span = Span { file, start: at, end: at + length };
    let error = Diagnostic::error(Code::UnknownDialect, span, "this is not YAML")
        .label(format!("looks like {what}"));
    Some(if help.is_empty() { error } else { error.help(help) })
}

/// An offset and a length.
type Place = (usize, usize);

/// What tells other languages from YAML with mistakes in it.
#[derive(Default)]
struct Seen<'a> {
    lines: usize,
    first: Option<(&'a str, Place)>,
    /// Lines that end as in languages with blocks in braces.
    braced: usize,
    first_braced: Option<Place>,
    semicolons: usize,
    /// Headers and assignments, as in TOML.
    headers: usize,
    equals: usize,
    /// Lines as only YAML has them.
    yaml: usize,
}

impl<'a> Seen<'a> {
    fn line(&mut self, words: &'a str, at: usize) {
        let place = (at, words.len());
        self.lines += 1;
        self.first.get_or_insert((words, place));
        if words.ends_with([';', '{']) || words == "}" {
            self.braced += 1;
            self.first_braced.get_or_insert(place);
            self.semicolons += usize::from(words.ends_with(';'));
        }
        let word = |c: char| c.is_alphanumeric() || "-_.\"".contains(c);
        let is_word = |text: &str| !text.is_empty() && text.chars().all(word);
        let bare = words.trim_matches(['[', ']']);
        self.headers +=
            usize::from(words.starts_with('[') && words.ends_with(']') && is_word(bare));
        self.equals +=
            usize::from(words.split_once('=').is_some_and(|(key, _)| is_word(key.trim())));
        let key = words
            .split_once(':')
            .filter(|(key, rest)| is_word(key) && (rest.is_empty() || rest.starts_with(' ')));
        self.yaml += usize::from(key.is_some() || words.starts_with("- ") || words == "---");
    }

    fn language(self) -> Option<(&'static str, &'static str, Place)> {
        const OF_HAPROXY: &[&str] = &["global", "defaults", "frontend", "backend", "listen"];
        let (first, place) = self.first?;
        if first.starts_with('<') && !first.starts_with("<<") {
            return Some(("XML, or the configuration of Apache", "", place));
        }
        let json = first.starts_with(['{', '[']) && self.headers == 0;
        if self.yaml * 2 > self.lines || json {
            return None;
        }
        if (self.headers + self.equals) * 2 > self.lines {
            let help = "name the file `*.toml` if it is native, or say `--dialect native`";
            return Some(("TOML", help, place));
        }
        if self.braced * 2 > self.lines {
            let what = match self.semicolons {
                0 => "the configuration of another system",
                _ => "the configuration of nginx",
            };
            return Some((what, "", self.first_braced?));
        }
        let word = first.split_whitespace().next()?;
        let section = OF_HAPROXY.contains(&word) && self.yaml == 0;
        section.then_some(("the configuration of HAProxy", "", place))
    }
}
