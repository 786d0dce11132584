//! What keys there are: one description a key, which the decoder checks against and from which the
//! reference is made. A key that is not described here does not exist.

/// A table of the configuration and its keys.
#[derive(Debug)]
pub struct Section {
    /// Dotted path from the root, e.g. `sites.proxy.routes`; empty for the root.
    pub path: &'static str,
    /// Whether it is written as `[[path]]`, any number of times.
    pub list: bool,
    /// What it is for, as a sentence.
    pub about: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name in its table.
    pub name: &'static str,
    /// Other names for it, in snake case; camel case is taken as well.
    pub aliases: &'static [&'static str],
    /// What may be written.
    pub kind: Kind,
    /// Whether it does anything yet.
    pub effect: Effect,
    /// What holds when it is not written, for the reference.
    pub default: &'static str,
    /// What it does, for the reference.
    pub about: &'static str,
}

/// Whether a key does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Now,
    /// It is checked and accepted with a warning; its function comes with a later version.
    Later,
}

/// What may be written as a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// `true` or `false`, or a string that says more than `true`.
    BoolOrText,
    /// `true` or `false`, or one of these numbers, the first of which is what `true` stands for.
    BoolOrNumber(&'static [u16]),
    /// `true` or `false`, or a table that says more than `true`.
    BoolOrTable(&'static Section),
    /// A string.
    Text,
    /// A list of strings.
    Texts,
    /// A string that stands for a list, or the list.
    TextOrTexts,
    /// A whole number between the two, both included.
    Integer(i64, i64),
    /// Seconds as a number, or a string such as "500ms"; `true` if zero is allowed.
    Duration(bool),
    /// Bytes as a number, or a string such as "10MB", between the two, both included.
    Size(u64, u64),
    /// Bytes as a number, or a string such as "10MB"; or "unlimited", which -1 stands for as well.
    Bound,
    /// One of the first strings, or of the second, which are other names for some of the first.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A list of these strings.
    Choices(&'static [&'static str]),
    /// Response statuses: numbers, ranges such as "200-399", classes such as "5xx", or a list of them.
    Statuses,
    /// A list of statuses and of the first strings, or of the second, which are other names for some
    /// of the first.
    ChoicesOrStatuses(&'static [&'static str], &'static [&'static str]),
    /// A number from 0 to 1, or a string such as "10%".
    Share,
    /// Between one and this many of something, or a duration.
    CountOrDuration(i64),
    /// A string, or a table with `exact`, `contains` or `regex`.
    Match,
    /// A table of such matches with any keys.
    MatchMap,
    /// A table of strings with any keys.
    Map,
    /// A table of strings, whole numbers, booleans and lists of them, with any keys.
    ValueMap,
    /// A table of strings, of lists of strings and of tables with `values` or `regex`, with any keys.
    FieldMap,
    /// A list of names, or a table of booleans.
    Names,
    /// A table with the keys of this section.
    Table(&'static Section),
    /// A list of tables with the keys of this section.
    Tables(&'static Section),
    /// A table with the keys of this section, or a list of such tables.
    TableOrTables(&'static Section),
}

impl Section {
    /// As its header is written: `[a.b]`, `[[a.b]]`, or "the top level".
    pub fn header(&self) -> String {
        match (self.path, self.list) {
            ("", _) => "the top level".to_owned(),
            (path, true) => format!("[[{path}]]"),
            (path, false) => format!("[{path}]"),
        }
    }

    /// The key with this name, be it another name for it.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.is(name))
    }

    /// This section and all below it, depth first.
    pub fn walk(&'static self) -> Vec<&'static Section> {
        let below = self.keys.iter().filter_map(|key| key.kind.section());
        std::iter::once(self).chain(below.flat_map(Section::walk)).collect()
    }
}

impl Key {
    /// Whether this is a name of it.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
            || self.aliases.iter().any(|alias| *alias == name || is_camel_case_of(name, alias))
    }

    /// Every other name for it.
    pub fn other_names(&self) -> impl Iterator<Item = String> {
        let camel = self.aliases.iter().map(|alias| camel_case(alias));
        let camel = camel.filter(|name| name != self.name && !self.aliases.contains(&&**name));
        self.aliases.iter().map(|alias| (*alias).to_owned()).chain(camel)
    }

    /// The same with other names, in snake case.
    pub(crate) const fn or(mut self, aliases: &'static [&'static str]) -> Key {
        self.aliases = aliases;
        self
    }
}

impl Kind {
    /// The section of a table or a list of tables.
    pub fn section(&self) -> Option<&'static Section> {
        match self {
            Kind::Table(section)
            | Kind::Tables(section)
            | Kind::TableOrTables(section)
            | Kind::BoolOrTable(section) => Some(section),
            _ => None,
        }
    }

    /// What is expected, with its article.
    pub fn expected(&self) -> String {
        match *self {
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::BoolOrText => "`true`, `false` or a string".to_owned(),
            Kind::BoolOrNumber(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
                format!("`true`, `false`, {}", numbers.join(" or "))
            }
            Kind::BoolOrTable(section) => {
                format!("`true`, `false` or a table, `{}`", section.header())
            }
            Kind::Text => "a string".to_owned(),
            Kind::TextOrTexts => "a string, or a list of strings".to_owned(),
            Kind::Texts | Kind::Choices(_) => "a list of strings".to_owned(),
            Kind::Integer(0, max) if max >= u32::MAX.into() => {
                "an integer, not negative".to_owned()
            }
            Kind::Integer(min, max) if max >= u32::MAX.into() => {
                format!("an integer, at least {min}")
            }
            Kind::Integer(min, max) => format!("an integer from {min} to {max}"),
            Kind::Duration(_) => "seconds, or a string such as \"30s\" or \"500ms\"".to_owned(),
            Kind::Bound => "bytes, a string such as \"10MB\", or \"unlimited\"".to_owned(),
            Kind::Size(..) => "bytes, or a string such as \"64KB\" or \"10MB\"".to_owned(),
            Kind::Choice(names, _) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                format!("one of {}", names.join(", "))
            }
            Kind::Statuses => {
                "a status, or a list such as `[200, \"300-399\", \"5xx\"]`".to_owned()
            }
            Kind::ChoicesOrStatuses(..) => "a list of strings and of statuses".to_owned(),
            Kind::Share => "a number from 0 to 1, or a string such as \"10%\"".to_owned(),
            Kind::CountOrDuration(max) => {
                format!("an integer from 1 to {max}, or a duration such as \"60s\"")
            }
            Kind::Match => "a string, or `{ regex = \"…\" }`".to_owned(),
            Kind::MatchMap => "a table of strings and of `{ regex = \"…\" }`".to_owned(),
            Kind::Map => "a table of strings".to_owned(),
            Kind::ValueMap => "a table of strings, integers, booleans and lists of them".to_owned(),
            Kind::FieldMap => {
                "a table of `{ values = [\"…\"] }` and of `{ regex = \"…\" }`".to_owned()
            }
            Kind::Names => "a list of names, or a table of booleans".to_owned(),
            Kind::Table(section) => format!("a table, `{}`", section.header()),
            Kind::Tables(section) => format!("a list of tables, `{}`", section.header()),
            Kind::TableOrTables(section) => {
                format!("a table, `{}`, or a list of tables", section.header())
            }
        }
    }
}

/// A key that is in effect.
pub(crate) const fn now(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, aliases: &[], kind, effect: Effect::Now, default, about }
}

/// A key whose function is not built yet.
pub(crate) const fn later(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key { name, aliases: &[], kind, effect: Effect::Later, default, about }
}

/// `maxAttempts` for `max_attempts`.
fn camel_case(snake: &str) -> String {
    let mut parts = snake.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (head, tail) = part.split_at(part.len().min(1));
        name.push_str(&head.to_ascii_uppercase());
        name.push_str(tail);
    }
    name
}

/// Whether `name` is `snake` as other systems write it: `maxAttempts` for `max_attempts`.
fn is_camel_case_of(name: &str, snake: &str) -> bool {
    let mut letters = name.chars();
    let mut parts = snake.split('_');
    let first = parts.next().unwrap_or("");
    first.chars().all(|c| letters.next() == Some(c))
        && parts.all(|part| {
            let (head, tail) = part.split_at(part.len().min(1));
            let head = head.to_ascii_uppercase();
            head.chars().chain(tail.chars()).all(|c| letters.next() == Some(c))
        })
        && letters.next().is_none()
}
