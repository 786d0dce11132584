//! How the decoder words its findings, and what it guesses was meant.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::Context;
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::dialect::{Dialect, Grammar};
use crate::native::ROOT;
use crate::schema::{Key, Kind, Section};
use crate::source::Span;
use crate::syntax::{Hint, quoted};
use crate::tree::{Entry, Node, Value};

/// What other systems call things, and what Ravelin calls them.
const SYNONYMS: &[(&str, &str)] = &[
    ("address", "url"),
    ("backend", "upstream"),
    ("backends", "upstreams"),
    ("bind", "listen"),
    ("ca", "ca_file"),
    ("cert", "cert_file"),
    ("certificate", "cert_file"),
    ("cipher_suites", "ciphers"),
    ("curves", "groups"),
    ("document_root", "static_dir"),
    ("domain", "hostname"),
    ("domains", "hostnames"),
    ("host", "hostname"),
    ("hosts", "hostnames"),
    ("index", "index_files"),
    ("index_file", "index_files"),
    ("interval_seconds", "interval"),
    ("key", "key_file"),
    ("keepalive_timeout", "keep_alive_timeout"),
    ("location", "path"),
    ("locations", "routes"),
    ("prefix", "path"),
    ("private_key", "key_file"),
    ("proxy_pass", "upstream"),
    ("rewrite", "rewrite_target"),
    ("root", "static_dir"),
    ("server", "url"),
    ("server_name", "hostname"),
    ("servers", "upstreams"),
    ("sni", "server_name"),
    ("strategy", "method"),
    ("target", "url"),
    ("threads", "worker_threads"),
    ("timeouts", "timeout"),
    ("tls", "ssl"),
    ("uri", "path"),
    ("workers", "worker_threads"),
    ("ws", "websocket"),
];

impl Context<'_> {
    /// Whether the trees are YAML.
    pub(super) fn is_yaml(&self) -> bool {
        self.dialect.grammar() == Grammar::Yaml
    }

    /// A section as it is called in this dialect.
    fn header(&self, section: &Section) -> String {
        match self.is_yaml() {
            true if section.path.is_empty() => "the top level".to_owned(),
            true => section.path.to_owned(),
            false => section.header(),
        }
    }

    /// What is expected of a kind, as it is called in this dialect.
    fn expected(&self, kind: &Kind) -> String {
        let header = |section| self.header(section);
        match kind {
            Kind::Table(section) if self.is_yaml() => format!("a table, `{}`", header(section)),
            Kind::Tables(section) if self.is_yaml() => {
                format!("a list of tables, `{}`", header(section))
            }
            Kind::TableOrTables(section) if self.is_yaml() => {
                format!("a table, `{}`, or a list of tables", header(section))
            }
            Kind::BoolOrTable(section) if self.is_yaml() => {
                format!("`true`, `false` or a table, `{}`", header(section))
            }
            _ => kind.expected(),
        }
    }

    /// The word of YAML 1.1 for a boolean, which is a string since YAML 1.2 but which the systems
    /// that the dialects come from still read so.
    pub(super) fn old_boolean(&self, node: &Node, word: &str) -> Option<bool> {
        let on =
            old_boolean(word).filter(|_| self.is_yaml() && self.sources.text(node.span) == word)?;
        let message = format!("`{word}` is taken for `{on}`");
        self.push(
            Diagnostic::warning(Code::WrongType, node.span, message)
                .label("a string since YAML 1.2")
                .suggest(node.span, on.to_string(), format!("write `{on}`")),
        );
        Some(on)
    }

    /// Reports a value of the wrong type; `None`, so that callers can return it.
    pub(crate) fn wrong_type<T>(&self, name: &str, node: &Node, kind: &Kind) -> Option<T> {
        if matches!(node.value, Value::Broken) {
            return None;
        }
        if let (Kind::Tables(section), Value::Table(_)) = (kind, &node.value)
            && !self.is_yaml()
            && !self.sources.text(node.span).starts_with('[')
        {
            self.push(outside(node.span, &section.header()));
            return None;
        }
        let message = format!("`{name}` has the wrong type");
        let label = format!("expected {}, found {}", self.expected(kind), node.value.noun());
        let error = Diagnostic::error(Code::WrongType, node.span, message).label(label);
        let several_hosts = name == "hostname" && matches!(node.value, Value::Array(_));
        let error = match several_hosts {
            true => error.help("one stands here; put the others into `hostnames = [\"…\"]`"),
            false => error,
        };
        self.push(self.retype(error, node, kind));
        None
    }

    /// Offers the same value in the right type where that is easy to say.
    fn retype(&self, error: Diagnostic, node: &Node, kind: &Kind) -> Diagnostic {
        let written = self.sources.text(node.span);
        let (replacement, message) = match (kind, &node.value) {
            (Kind::Bool | Kind::BoolOrNumber(_), Value::String(text))
                if text == "true" || text == "false" =>
            {
                (text.clone(), "booleans stand without quotes")
            }
            (Kind::Bool, Value::String(text)) if old_boolean(text) == Some(true) => {
                ("true".to_owned(), "booleans are `true` and `false`")
            }
            (Kind::Bool, Value::String(text)) if old_boolean(text) == Some(false) => {
                ("false".to_owned(), "booleans are `true` and `false`")
            }
            (Kind::Bool, Value::Integer(0)) => ("false".to_owned(), "booleans are words"),
            (Kind::Bool, Value::Integer(1)) => ("true".to_owned(), "booleans are words"),
            (Kind::Integer(..) | Kind::BoolOrNumber(_), Value::String(text))
                if text.parse::<i64>().is_ok() =>
            {
                (text.clone(), "numbers stand without quotes")
            }
            (
                Kind::Text | Kind::Choice(..),
                Value::Integer(_) | Value::Float(_) | Value::Bool(_),
            ) => (format!("\"{written}\""), "strings stand in quotes"),
            (
                Kind::Texts | Kind::Choices(_) | Kind::ChoicesOrStatuses(..) | Kind::Names,
                Value::String(_),
            ) => (format!("[{written}]"), "a list of one stands in brackets"),
            (Kind::Table(section) | Kind::Tables(section), Value::String(text))
                if self.is_yaml()
                    && written == text
                    && !self.is_behind_a_key(node.span)
                    && with_colon(text, section).is_some() =>
            {
                (with_colon(text, section).unwrap_or_default(), COLON_MISSING)
            }
            (Kind::Table(_) | Kind::Map, Value::String(text)) if self.is_yaml() => {
                let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                match text.split_once(':') {
                    Some((key, value)) if !key.is_empty() && key.chars().all(word) => {
                        (format!("{key}: {value}"), "a space is missing after `:`")
                    }
                    _ => return error,
                }
            }
            (Kind::Tables(_), Value::Table(_)) if self.is_yaml() => {
                return error.help("each of them begins with `- `, also if there is only one");
            }
            (Kind::Table(_), Value::Array(_)) if self.is_yaml() => {
                return error
                    .help("a table here: its keys stand without `- ` and without brackets");
            }
            (Kind::Tables(section), Value::Table(_)) if written.starts_with('[') => {
                (section.header(), "each of them starts with a header in double brackets")
            }
            (Kind::Table(section), Value::Array(_)) if written.starts_with("[[") => {
                (section.header(), "there is one of it: its header has single brackets")
            }
            _ => return error,
        };
        error.suggest(node.span, replacement, message)
    }

    /// Whether a key of the same line stands before a place.
    fn is_behind_a_key(&self, span: Span) -> bool {
        let line = self.sources.get(span.file).map_or("", |source| {
            let (start, _) = source.line_bounds(source.line_of(span.start));
            source.text().get(start..span.start).unwrap_or("")
        });
        line.contains(':')
    }

    /// Reports a value that has the right type and cannot be used.
    pub(crate) fn bad_value(&self, name: &str, node: &Node, reason: &str) {
        self.push(self.bad(name, node.span, reason));
    }

    /// The error for a value at a place that cannot be used.
    pub(crate) fn bad(&self, name: &str, span: Span, reason: &str) -> Diagnostic {
        let message = format!("`{name}` cannot be {}", self.shown(span));
        Diagnostic::error(Code::BadValue, span, message).label(reason.to_owned())
    }

    /// Reports a string that cannot be used, and offers what was perhaps meant.
    pub(crate) fn push_hint(&self, name: &str, span: Span, hint: Hint) {
        let error = self.bad(name, span, &hint.reason);
        self.push(match hint.instead {
            Some(instead) => {
                let instead = quoted(&instead);
                error.suggest(span, instead.clone(), format!("did you mean {instead}?"))
            }
            None => error,
        });
    }

    /// A value as it was written, shortened to something that fits into a sentence.
    pub(super) fn shown(&self, span: Span) -> String {
        const SHOWN_MAX: usize = 40;
        let text = match self.is_concealed(span) {
            true => "",
            false => self.sources.text(span),
        };
        let line = text.lines().next().unwrap_or("");
        match line.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or("")),
            None if line.len() < text.len() => format!("{line}…"),
            None if line.is_empty() => "this".to_owned(),
            None => line.to_owned(),
        }
    }

    pub(super) fn unknown_word(
        &self,
        name: &str,
        node: &Node,
        text: &str,
        words: &'static [&'static str],
    ) {
        let few = words.len() <= WORDS_IN_LABEL_MAX;
        let expected = match few {
            true => format!("expected {}", Kind::Choice(words, &[]).expected()),
            false => "there is no such name".to_owned(),
        };
        let error = self.bad(name, node.span, &expected);
        self.push(match nearest(text, words.iter().copied()) {
            Some(word) => {
                error.suggest(node.span, format!("\"{word}\""), format!("did you mean \"{word}\"?"))
            }
            None if few => error,
            None => error.help(format!("there are {}", words.join(", "))),
        });
    }

    pub(super) fn missing_key(&self, span: Span, section: &Section, name: &str, example: &str) {
        let header = self.header(section);
        let sign = if self.is_yaml() { ":" } else { " =" };
        let message = format!("`{header}` needs the key `{name}`");
        self.push(
            Diagnostic::error(Code::MissingKey, span, message)
                .label(format!("`{name}` is missing"))
                .help(format!("for example `{name}{sign} {example}`")),
        );
    }

    pub(super) fn unknown_key(&self, entry: &Entry, section: &'static Section) {
        if self.is_full() {
            return;
        }
        let key = entry.key.as_str();
        let header = self.header(section);
        let written = self.sources.text(entry.key_span);
        // A front end's keys stand at the place of something else.
        let own = written.starts_with(['"', '\'']) || written.contains(key);
        let name = if own { written } else { key };
        let message = format!("unknown key `{name}`");
        let place = if section.path.is_empty() { header } else { format!("`{header}`") };
        // The systems that the other dialects come from pass over what they do not know.
        let severity = match self.dialect {
            Dialect::Native => Severity::Error,
            Dialect::PyServe | Dialect::Easegress => Severity::Warning,
        };
        let error = Diagnostic::error(Code::UnknownKey, entry.key_span, message);
        let error = Diagnostic { severity, ..error }.label(format!("not a key of {place}"));
        if let Some(instead) = self.without_colon(entry, section) {
            return self.push(error.suggest(entry.key_span, instead, COLON_MISSING));
        }
        let native = self.dialect == Dialect::Native;
        self.push(match meant(key, section).and_then(|name| section.key(name)) {
            Some(meant) => self.suggest_key(error, entry, meant),
            None => match native.then(|| belongs_to(key, section)).flatten() {
                Some(home) => error.help(home),
                None if section.keys.len() <= KEYS_LISTED_MAX => {
                    error.help(format!("its keys are {}", listed(section.keys)))
                }
                None => error,
            },
        });
    }

    /// `port: 80` for a key `port 80` without a value.
    fn without_colon(&self, entry: &Entry, section: &Section) -> Option<String> {
        let alone = self.is_yaml() && matches!(entry.node.value, Value::Null);
        with_colon(&entry.key, section).filter(|_| alone)
    }

    /// Offers the key that was meant; for a table with a header of its own, the whole header.
    fn suggest_key(&self, error: Diagnostic, entry: &Entry, meant: &Key) -> Diagnostic {
        let written = self.sources.text(entry.node.span);
        match meant.kind.section() {
            Some(section) if written.starts_with('[') && written.contains(&entry.key) => {
                let header = section.header();
                let question = format!("did you mean `{header}`?");
                error.suggest(entry.node.span, header, question)
            }
            _ => {
                error.suggest(entry.key_span, meant.name, format!("did you mean `{}`?", meant.name))
            }
        }
    }

    pub(super) fn not_in_effect(&self, later: &[(&'static Key, &Entry)]) {
        let (tables, keys): (Vec<_>, Vec<_>) =
            later.iter().partition(|(key, _)| matches!(key.kind, Kind::Table(_)));
        for (key, entry) in tables {
            let header =
                key.kind.section().map_or_else(String::new, |section| self.header(section));
            self.push(
                Diagnostic::warning(
                    Code::NotInEffect,
                    entry.node.span,
                    format!("`{header}` is not in effect yet"),
                )
                .label("checked and accepted, but nothing acts on it"),
            );
        }
        let Some((_, first)) = keys.first() else { return };
        let names: Vec<String> = keys.iter().map(|(key, _)| format!("`{}`", key.name)).collect();
        let verb = if keys.len() == 1 { "is" } else { "are" };
        let message = format!("{} {verb} not in effect yet", names.join(", "));
        let warning = Diagnostic::warning(Code::NotInEffect, first.key_span, message)
            .label("checked and accepted, but nothing acts on it");
        let rest = keys.iter().skip(1);
        self.push(rest.fold(warning, |warning, (_, entry)| warning.also(entry.key_span, "")));
    }
}

/// What is said of `port 80`.
const COLON_MISSING: &str = "a colon is missing";

/// `port: 80` for `port 80`, if a section has the key.
fn with_colon(text: &str, section: &Section) -> Option<String> {
    let (key, value) = text.split_once([' ', '='])?;
    let value = value.trim_start_matches([' ', '=']);
    (section.key(key).is_some() && !value.is_empty()).then(|| format!("{key}: {value}"))
}

/// What a word of YAML 1.1 for a boolean means.
fn old_boolean(word: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is(&["yes", "on"]) {
        return Some(true);
    }
    is(&["no", "off"]).then_some(false)
}

/// A table below a list of which no entry is open.
fn outside(span: Span, header: &str) -> Diagnostic {
    Diagnostic::error(Code::WrongType, span, format!("this table stands outside of any `{header}`"))
        .label(format!("no `{header}` above it"))
        .help(format!("write `{header}` and its keys first; tables below it belong to it"))
}

/// More words than this do not fit beside the place.
const WORDS_IN_LABEL_MAX: usize = 6;

/// Sections with more keys than this are not listed in a message.
const KEYS_LISTED_MAX: usize = 8;

fn listed(keys: &[Key]) -> String {
    let names: Vec<String> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    names.join(", ")
}

/// The key of a section that an unknown one probably means.
pub(super) fn meant(key: &str, section: &Section) -> Option<&'static str> {
    let synonym =
        SYNONYMS.iter().find(|(other, ours)| *other == key && section.key(ours).is_some());
    synonym.map(|(_, ours)| *ours).or_else(|| nearest(key, section.keys.iter().map(|key| key.name)))
}

/// In which other tables a key of this name is known.
fn belongs_to(key: &str, section: &Section) -> Option<String> {
    const HOMES_SHOWN_MAX: usize = 2;
    static SECTIONS: OnceLock<Vec<&Section>> = OnceLock::new();
    let sections = SECTIONS.get_or_init(|| {
        // What a pool's table says of a key, the proxy's table of the same name says before it.
        let first = |home: &Section| !home.path.starts_with("sites.proxy.pools.");
        // A section that two tables share is walked twice.
        let mut seen: HashSet<&str> = HashSet::new();
        let homes = ROOT.walk().into_iter().filter(|home| first(home));
        homes.filter(|home| seen.insert(home.path)).collect()
    });
    let homes = || sections.iter().filter_map(|section| Some((*section, section.key(key)?)));
    let above = homes().map(|(home, _)| home).find(|home| {
        section.path.strip_prefix(home.path).is_some_and(|rest| rest.starts_with('.'))
    });
    if let Some(home) = above {
        let (home, header) = (home.header(), section.header());
        return Some(format!("it is a key of `{home}`: write it above `{header}`"));
    }
    let headers: Vec<String> = homes()
        .filter_map(|(_, key)| key.kind.section())
        .map(|section| format!("`{}`", section.header()))
        .take(HOMES_SHOWN_MAX)
        .collect();
    if !headers.is_empty() {
        return Some(format!("there is {}", headers.join(" and ")));
    }
    let sections: Vec<String> = homes()
        .map(|(section, _)| format!("`{}`", section.header()))
        .take(HOMES_SHOWN_MAX)
        .collect();
    (!sections.is_empty()).then(|| format!("it is a key of {}", sections.join(" and of ")))
}

/// The candidate that was probably meant: few enough letters away, and not all of them.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    const WORD_MAX: usize = 100; // longer ones are no typing mistake, and comparing them takes long
    if word.len() > WORD_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .filter(|candidate| candidate.len() <= WORD_MAX)
        .map(|candidate| {
            (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| {
            let length = candidate.len().min(word.len());
            *distance <= (length / 3).max(1).min(length.saturating_sub(1))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
