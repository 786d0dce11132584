//! The decoder: asks a tree for keys by name and type, and reports everything that does not fit.
//!
//! A front end opens a [`Table`] on a node with its [`Section`], takes the keys it knows what to do
//! with, and finishes it. Whatever was not taken is then either a key that is not in effect yet (type
//! checked, one warning a table) or a mistake with a suggestion. A value that does not fit is reported
//! and read as absent, so that decoding goes on.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::dialect::Dialect;
use crate::model::{Bound, TextMatch};
use crate::schema::{Effect, Key, Kind, Section};
use crate::source::{Sources, Span};
use crate::syntax;
use crate::tree::{Entry, Node, Value};

mod matches;
mod mistakes;
mod statuses;

pub(crate) use mistakes::nearest;
pub(crate) use statuses::Reasons;

/// Where the decoder is: what it may ask and where it reports.
pub(crate) struct Context<'a> {
    pub(crate) sources: &'a Sources,
    /// The language of the trees it decodes, which says how findings are worded.
    dialect: Dialect,
    options: &'a Options<'a>,
    out: Diagnostics,
    concealed: RefCell<Vec<Span>>,
}

/// A value with the place it was written at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// What stands where a boolean may be replaced by something that says more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Switch<'n> {
    Bool(bool),
    Text(Spanned<&'n str>),
    Number(u16),
}

/// A number of something, or a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    Count(u32),
    Time(Duration),
}

/// What stands where a boolean may be replaced by a table.
pub(crate) enum SwitchTable<'n> {
    Bool(bool),
    Table(Table<'n>),
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        sources: &'a Sources,
        dialect: Dialect,
        options: &'a Options<'a>,
    ) -> Context<'a> {
        Context {
            sources,
            dialect,
            options,
            out: Diagnostics::default(),
            concealed: RefCell::default(),
        }
    }

    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.out.push(diagnostic);
    }

    /// What stands here is secret and not to be shown.
    pub(crate) fn conceal(&self, span: Span) {
        self.concealed.borrow_mut().push(span);
    }

    /// Whether something secret stands here.
    fn is_concealed(&self, span: Span) -> bool {
        self.concealed.borrow().iter().any(|one| one.overlaps(span))
    }

    /// What is not to be shown.
    pub(crate) fn concealed(&self) -> Vec<Span> {
        self.concealed.borrow().clone()
    }

    /// Whether there are so many findings that wording one more is for nothing.
    pub(crate) fn is_full(&self) -> bool {
        self.out.is_full()
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        (self.options.exists)(path)
    }

    /// A variable of the environment, for dialects that are configured by it too.
    pub(crate) fn environment(&self, name: &str) -> Option<String> {
        (self.options.environment)(name)
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let concealed = self.concealed.take();
        let mut found = self.out.into_sorted();
        // What is suggested for a secret would have the secret in it.
        for diagnostic in &mut found {
            diagnostic.suggestion.take_if(|it| concealed.iter().any(|one| one.overlaps(it.span)));
        }
        found
    }

    /// A value that is a boolean.
    pub(crate) fn boolean(&self, name: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Value::Bool(on) => Some(*on),
            Value::String(word) => match self.old_boolean(node, word) {
                None => self.wrong_type(name, node, &Kind::Bool),
                on => on,
            },
            _ => self.wrong_type(name, node, &Kind::Bool),
        }
    }

    /// A boolean, or what may stand in its place.
    pub(crate) fn switch<'n>(&self, name: &str, node: &'n Node, kind: &Kind) -> Option<Switch<'n>> {
        match (kind, &node.value) {
            (_, Value::Bool(on)) => Some(Switch::Bool(*on)),
            (Kind::BoolOrText, Value::String(text)) => {
                Some(Switch::Text(Spanned { value: text, span: node.span }))
            }
            (Kind::BoolOrNumber(numbers), Value::Integer(number)) => {
                let found = numbers.iter().find(|known| i128::from(**known) == *number);
                if found.is_none() {
                    self.bad_value(name, node, &format!("expected {}", kind.expected()));
                }
                found.copied().map(Switch::Number)
            }
            _ => self.wrong_type(name, node, kind),
        }
    }

    /// A value that is a string.
    pub(crate) fn text<'n>(&self, name: &str, node: &'n Node) -> Option<Spanned<&'n str>> {
        match &node.value {
            Value::String(text) => Some(Spanned { value: text, span: node.span }),
            _ => self.wrong_type(name, node, &Kind::Text),
        }
    }

    /// A value that is a list of strings; items that are not are reported and left out.
    pub(crate) fn texts<'n>(&self, name: &str, node: &'n Node) -> Option<Vec<Spanned<&'n str>>> {
        match &node.value {
            Value::Array(items) => {
                Some(items.iter().filter_map(|item| self.text(name, item)).collect())
            }
            _ => self.wrong_type(name, node, &Kind::Texts),
        }
    }

    /// A whole number between two bounds.
    pub(crate) fn integer(&self, name: &str, node: &Node, min: i64, max: i64) -> Option<i64> {
        let Value::Integer(number) = node.value else {
            return self.wrong_type(name, node, &Kind::Integer(min, max));
        };
        if let Some(number) =
            i64::try_from(number).ok().filter(|number| (min..=max).contains(number))
        {
            return Some(number);
        }
        let message = format!("`{name}` is out of range: {}", self.shown(node.span));
        let expected = Kind::Integer(min, max).expected();
        self.push(
            Diagnostic::error(Code::BadValue, node.span, message)
                .label(format!("expected {expected}")),
        );
        None
    }

    /// A duration: seconds as a number, or a string with units.
    pub(crate) fn duration(&self, name: &str, node: &Node, zero: bool) -> Option<Duration> {
        let read = match &node.value {
            Value::Integer(seconds) => syntax::seconds(*seconds as f64),
            Value::Float(seconds) => syntax::seconds(*seconds),
            Value::String(text) => syntax::duration(text),
            _ => return self.wrong_type(name, node, &Kind::Duration(zero)),
        };
        let reason = match read {
            Ok(length) if zero || !length.is_zero() => return Some(length),
            Ok(_) => "must be longer than zero".to_owned(),
            Err(reason) => reason,
        };
        self.bad_value(name, node, &reason);
        None
    }

    /// A share, in parts of a million.
    pub(crate) fn share(&self, name: &str, node: &Node) -> Option<u32> {
        const WHOLE: f64 = 1_000_000.0;
        let share = match &node.value {
            Value::Integer(share) => *share as f64,
            Value::Float(share) => *share,
            Value::String(text) => {
                match text.strip_suffix('%').map(|text| text.trim().parse::<f64>()) {
                    Some(Ok(percent)) => percent / 100.0,
                    _ => return self.wrong_type(name, node, &Kind::Share),
                }
            }
            _ => return self.wrong_type(name, node, &Kind::Share),
        };
        if (0.0..=1.0).contains(&share) {
            return Some((share * WHOLE).round() as u32);
        }
        self.bad_value(name, node, &format!("expected {}", Kind::Share.expected()));
        None
    }

    /// A whole number from 1 to `max`, or a duration as a string with units.
    pub(crate) fn count_or_duration(&self, name: &str, node: &Node, max: i64) -> Option<Amount> {
        match node.value {
            Value::Integer(_) => {
                let count = self.integer(name, node, 1, max)?;
                Some(Amount::Count(u32::try_from(count).unwrap_or(u32::MAX)))
            }
            Value::String(_) => self.duration(name, node, false).map(Amount::Time),
            _ => self.wrong_type(name, node, &Kind::CountOrDuration(max)),
        }
    }

    /// A size in bytes: a number, or a string with a unit.
    pub(crate) fn size(&self, name: &str, node: &Node, min: u64, max: u64) -> Option<u64> {
        let read = match &node.value {
            Value::Integer(bytes) => u64::try_from(*bytes).map_err(|_| not_u64(*bytes)),
            Value::String(text) => syntax::size(text),
            _ => return self.wrong_type(name, node, &Kind::Size(min, max)),
        };
        let reason = match read {
            Ok(bytes) if bytes < min => at_least(min),
            Ok(bytes) if bytes > max => format!("must be at most {max} bytes"),
            Ok(bytes) => return Some(bytes),
            Err(reason) => reason,
        };
        self.bad_value(name, node, &reason);
        None
    }

    /// A size in bytes that may be unlimited.
    pub(crate) fn bound(&self, name: &str, node: &Node) -> Option<Bound> {
        match &node.value {
            Value::Integer(-1) => Some(Bound::Unlimited),
            Value::String(text) if text.eq_ignore_ascii_case("unlimited") => Some(Bound::Unlimited),
            Value::Integer(_) | Value::String(_) => {
                self.size(name, node, 1, u64::MAX).map(Bound::Bytes)
            }
            _ => self.wrong_type(name, node, &Kind::Bound),
        }
    }

    /// One of several words; returns the word as the list has it.
    pub(crate) fn choice(
        &self,
        name: &str,
        node: &Node,
        words: &'static [&'static str],
        aliases: &'static [&'static str],
    ) -> Option<&'static str> {
        let Value::String(text) = &node.value else {
            return self.wrong_type(name, node, &Kind::Choice(words, aliases));
        };
        let mut all = words.iter().chain(aliases);
        let found = all.find(|word| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            self.unknown_word(name, node, text, words);
        }
        found.copied()
    }

    /// A list of such words; items that are none are reported and left out.
    pub(crate) fn choices(
        &self,
        name: &str,
        node: &Node,
        words: &'static [&'static str],
    ) -> Option<Vec<&'static str>> {
        match &node.value {
            Value::Array(items) => {
                let texts = items.iter().filter(|item| self.text(name, item).is_some());
                Some(texts.filter_map(|item| self.choice(name, item, words, &[])).collect())
            }
            _ => self.wrong_type(name, node, &Kind::Choices(words)),
        }
    }

    /// Checks a value whose function is not built yet.
    fn check(&self, key: &Key, node: &Node) {
        let name = key.name;
        match key.kind {
            Kind::Bool => _ = self.boolean(name, node),
            Kind::BoolOrText | Kind::BoolOrNumber(_) => _ = self.switch(name, node, &key.kind),
            Kind::Text => _ = self.text(name, node),
            Kind::TextOrTexts if matches!(node.value, Value::String(_)) => {}
            Kind::Texts | Kind::TextOrTexts => _ = self.texts(name, node),
            Kind::Integer(min, max) => _ = self.integer(name, node, min, max),
            Kind::Duration(zero) => _ = self.duration(name, node, zero),
            Kind::Size(min, max) => _ = self.size(name, node, min, max),
            Kind::Bound => _ = self.bound(name, node),
            Kind::Choice(words, aliases) => _ = self.choice(name, node, words, aliases),
            Kind::Choices(words) => _ = self.choices(name, node, words),
            Kind::Statuses => _ = self.statuses(name, node),
            Kind::ChoicesOrStatuses(words, aliases) => {
                _ = self.reasons(name, node, words, aliases);
            }
            Kind::Share => _ = self.share(name, node),
            Kind::CountOrDuration(max) => _ = self.count_or_duration(name, node, max),
            Kind::Match => _ = self.text_match(name, node, TextMatch::Contains),
            Kind::MatchMap => _ = self.text_matches(name, node, TextMatch::Exact),
            Kind::Map => self.check_map(key, node),
            Kind::Names | Kind::ValueMap | Kind::FieldMap => {}
            Kind::Table(section) => {
                if let Some(table) = Table::open(self, key.name, node, section) {
                    table.check_all();
                }
            }
            Kind::Tables(_) | Kind::TableOrTables(_) | Kind::BoolOrTable(_) => {}
        }
    }

    fn check_map(&self, key: &Key, node: &Node) {
        match &node.value {
            Value::Table(entries) => {
                entries.iter().for_each(|entry| _ = self.text(&entry.key, &entry.node));
            }
            _ => _ = self.wrong_type::<()>(key.name, node, &key.kind),
        }
    }
}

/// A table being decoded.
pub(crate) struct Table<'n> {
    context: &'n Context<'n>,
    entries: &'n [Entry],
    section: &'static Section,
    /// Where the table is opened, for what is missing in it.
    pub(crate) span: Span,
    taken: RefCell<Vec<&'static str>>,
}

impl<'n> Table<'n> {
    /// Opens a node as a table of this section; reports if it is none.
    pub(crate) fn open(
        context: &'n Context<'n>,
        name: &str,
        node: &'n Node,
        section: &'static Section,
    ) -> Option<Table<'n>> {
        match &node.value {
            Value::Table(entries) => Some(Table {
                context,
                entries,
                section,
                span: node.span,
                taken: RefCell::default(),
            }),
            _ => context.wrong_type(name, node, &Kind::Table(section)),
        }
    }

    /// The context it reports to.
    pub(crate) fn context(&self) -> &'n Context<'n> {
        self.context
    }

    /// What it is a table of.
    pub(crate) fn section(&self) -> &'static Section {
        self.section
    }

    /// Takes a key, whatever its type; reports another name for it beside it.
    pub(crate) fn take(&self, name: &'static str) -> Option<&'n Entry> {
        self.taken.borrow_mut().push(name);
        let mut found = self.named(name);
        let first = found.next()?;
        for again in found {
            let message = format!("`{}` and `{}` are the same key", first.key, again.key);
            self.context.push(
                Diagnostic::error(Code::DuplicateKey, again.key_span, message)
                    .label("written again")
                    .also(first.key_span, "first here"),
            );
        }
        Some(first)
    }

    /// Whether a key is written.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.peek(name).is_some()
    }

    /// Looks at a key without taking it.
    pub(crate) fn peek(&self, name: &str) -> Option<&'n Entry> {
        self.named(name).next()
    }

    /// Everything that is written in it.
    pub(crate) fn written(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries.iter()
    }

    /// The entries that are this key, by its name or another one.
    fn named<'t>(&self, name: &'t str) -> impl Iterator<Item = &'n Entry> + use<'t, 'n> {
        let key = self.section.key(name);
        self.entries.iter().filter(move |entry| match key {
            _ if matches!(entry.node.value, Value::Null) => false,
            Some(key) => key.is(&entry.key),
            None => entry.key == name,
        })
    }

    /// Whether a key is written, or another one that probably means it and is reported as unknown.
    pub(crate) fn has_or_means(&self, name: &str) -> bool {
        const UNKNOWN_MAX: usize = 100; // more of them are no typing mistakes
        let unknown = |entry: &&Entry| self.section.key(&entry.key).is_none();
        self.has(name)
            || self
                .entries
                .iter()
                .filter(unknown)
                .take(UNKNOWN_MAX)
                .any(|entry| mistakes::meant(&entry.key, self.section) == Some(name))
    }

    /// Reports a key that must be there and is not.
    pub(crate) fn require(&self, name: &'static str, example: &str) {
        if !self.has_or_means(name) {
            self.context.missing_key(self.span, self.section, name, example);
        }
    }

    pub(crate) fn boolean(&self, name: &'static str) -> Option<bool> {
        self.take(name).and_then(|entry| self.context.boolean(name, &entry.node))
    }

    pub(crate) fn switch(&self, name: &'static str) -> Option<Switch<'n>> {
        let (entry, kind) = (self.take(name)?, self.kind(name)?);
        self.context.switch(name, &entry.node, &kind)
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<Spanned<&'n str>> {
        self.take(name).and_then(|entry| self.context.text(name, &entry.node))
    }

    pub(crate) fn texts(&self, name: &'static str) -> Option<Vec<Spanned<&'n str>>> {
        self.take(name).and_then(|entry| self.context.texts(name, &entry.node))
    }

    pub(crate) fn integer(&self, name: &'static str) -> Option<Spanned<i64>> {
        let entry = self.take(name)?;
        let Some(Kind::Integer(min, max)) = self.kind(name) else { return None };
        let value = self.context.integer(name, &entry.node, min, max)?;
        Some(Spanned { value, span: entry.node.span })
    }

    pub(crate) fn duration(&self, name: &'static str) -> Option<Duration> {
        let entry = self.take(name)?;
        let Some(Kind::Duration(zero)) = self.kind(name) else { return None };
        self.context.duration(name, &entry.node, zero)
    }

    /// In parts of a million.
    pub(crate) fn share(&self, name: &'static str) -> Option<u32> {
        self.take(name).and_then(|entry| self.context.share(name, &entry.node))
    }

    pub(crate) fn size(&self, name: &'static str) -> Option<u64> {
        let entry = self.take(name)?;
        let Some(Kind::Size(min, max)) = self.kind(name) else { return None };
        self.context.size(name, &entry.node, min, max)
    }

    /// A size that may be unlimited, or is inherited if it is not written.
    pub(crate) fn bound(&self, name: &'static str) -> Bound {
        let entry = self.take(name);
        entry.and_then(|entry| self.context.bound(name, &entry.node)).unwrap_or_default()
    }

    pub(crate) fn choice(&self, name: &'static str) -> Option<&'static str> {
        let entry = self.take(name)?;
        let Some(Kind::Choice(words, aliases)) = self.kind(name) else { return None };
        self.context.choice(name, &entry.node, words, aliases)
    }

    pub(crate) fn choices(&self, name: &'static str) -> Option<Vec<&'static str>> {
        let entry = self.take(name)?;
        let Some(Kind::Choices(words)) = self.kind(name) else { return None };
        self.context.choices(name, &entry.node, words)
    }

    /// Ranges of response statuses, both ends included.
    pub(crate) fn statuses(&self, name: &'static str) -> Option<Vec<(u16, u16)>> {
        self.take(name).and_then(|entry| self.context.statuses(name, &entry.node))
    }

    /// Words and statuses.
    pub(crate) fn reasons(&self, name: &'static str) -> Option<Reasons> {
        let entry = self.take(name)?;
        let Some(Kind::ChoicesOrStatuses(words, aliases)) = self.kind(name) else { return None };
        self.context.reasons(name, &entry.node, words, aliases)
    }

    /// A string, or a table with `exact`, `contains` or `regex`; `plain` is what a string is.
    pub(crate) fn text_match(
        &self,
        name: &'static str,
        plain: fn(String) -> TextMatch,
    ) -> Option<TextMatch> {
        self.take(name).and_then(|entry| self.context.text_match(name, &entry.node, plain))
    }

    /// A table of such matches with any keys.
    pub(crate) fn text_matches(
        &self,
        name: &'static str,
        plain: fn(String) -> TextMatch,
    ) -> Vec<(&'n Entry, TextMatch)> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        self.context.text_matches(name, &entry.node, plain)
    }

    pub(crate) fn count_or_duration(&self, name: &'static str) -> Option<Spanned<Amount>> {
        let entry = self.take(name)?;
        let Some(Kind::CountOrDuration(max)) = self.kind(name) else { return None };
        let value = self.context.count_or_duration(name, &entry.node, max)?;
        Some(Spanned { value, span: entry.node.span })
    }

    /// A boolean, or a table with the keys of its own section.
    pub(crate) fn switch_table(&self, name: &'static str) -> Option<SwitchTable<'n>> {
        let (entry, kind) = (self.take(name)?, self.kind(name)?);
        match (&entry.node.value, kind.section()) {
            (Value::Bool(on), _) => Some(SwitchTable::Bool(*on)),
            (Value::Table(_), Some(section)) => {
                Table::open(self.context, name, &entry.node, section).map(SwitchTable::Table)
            }
            _ => self.context.wrong_type(name, &entry.node, &kind),
        }
    }

    /// A table with any keys.
    pub(crate) fn map(&self, name: &'static str) -> &'n [Entry] {
        let Some(entry) = self.take(name) else { return &[] };
        match &entry.node.value {
            Value::Table(entries) => entries,
            _ => {
                self.context.wrong_type::<()>(name, &entry.node, &Kind::Map);
                &[]
            }
        }
    }

    /// A table with the keys of its own section.
    pub(crate) fn table(&self, name: &'static str) -> Option<Table<'n>> {
        let entry = self.take(name)?;
        let section = self.kind(name)?.section()?;
        Table::open(self.context, name, &entry.node, section)
    }

    /// A list of tables with the keys of their own section.
    pub(crate) fn tables(&self, name: &'static str) -> Vec<Table<'n>> {
        let Some(entry) = self.take(name) else { return Vec::new() };
        let Some(kind) = self.kind(name) else { return Vec::new() };
        match (&entry.node.value, kind.section()) {
            (Value::Table(_), Some(section)) if matches!(kind, Kind::TableOrTables(_)) => {
                Table::open(self.context, name, &entry.node, section).into_iter().collect()
            }
            (Value::Array(items), Some(section)) => items
                .iter()
                .filter_map(|item| Table::open(self.context, name, item, section))
                .collect(),
            _ => {
                self.context.wrong_type::<()>(name, &entry.node, &kind);
                Vec::new()
            }
        }
    }

    /// Looks at what was not taken: keys not in effect yet, and keys that do not exist.
    pub(crate) fn finish(self) {
        self.context.not_in_effect(&self.check_rest());
    }

    /// The same without a word on keys that are not in effect: the caller has spoken about the table.
    pub(crate) fn finish_quietly(self) {
        self.check_rest();
    }

    /// Checks what was not taken, and returns the keys that ask for something not in effect yet.
    fn check_rest(&self) -> Vec<(&'static Key, &'n Entry)> {
        let mut later = Vec::new();
        for entry in self.entries {
            let key = self.section.key(&entry.key);
            if key.is_some_and(|key| self.taken.borrow().contains(&key.name)) {
                continue;
            }
            match key {
                Some(_) if matches!(entry.node.value, Value::Null) => {}
                Some(key) if key.effect == Effect::Later => {
                    self.context.check(key, &entry.node);
                    if matters(key, &entry.node) {
                        later.push((key, entry));
                    }
                }
                Some(key) => debug_assert!(false, "nobody takes `{}`", key.name),
                None => self.context.unknown_key(entry, self.section),
            }
        }
        later
    }

    /// Checks every key without a word on what is in effect: the table as a whole is not.
    fn check_all(self) {
        for entry in self.entries {
            match self.section.key(&entry.key) {
                Some(_) if matches!(entry.node.value, Value::Null) => {}
                Some(key) => self.context.check(key, &entry.node),
                None => self.context.unknown_key(entry, self.section),
            }
        }
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "`{name}` is not in {}", self.section.header());
        key.map(|key| key.kind)
    }
}

fn at_least(min: u64) -> String {
    if min == 1 { "must not be zero".to_owned() } else { format!("must be at least {min} bytes") }
}

fn not_u64(number: i128) -> String {
    if number < 0 { "must not be negative" } else { "does not fit into 64 bits" }.to_owned()
}

/// Whether a key that is not in effect yet asks for anything: a table whose `enabled` is false (or
/// absent and false by default) does not, nor does an empty value.
fn matters(key: &Key, node: &Node) -> bool {
    let (Kind::Table(section), Value::Table(entries)) = (key.kind, &node.value) else {
        return !node.value.is_off();
    };
    let Some(enabled) = section.key("enabled") else { return !entries.is_empty() };
    match entries.iter().find(|entry| entry.key == "enabled") {
        Some(entry) => !entry.node.value.is_off(),
        None => enabled.default == "true",
    }
}
