//! A compiled list of header rules: which fields to drop, which to set.
//!
//! A field that is set is dropped first, so that a client cannot put its own beside ours. Known
//! field names are one bit in a mask; others are compared by name, of which there are few.

use config::model::{HeaderRules, HeaderValue};
use wire::field::{Field, FieldId, field_id};

use super::request::NEVER_NOMINATED;

/// Drops and sets of one direction of one site.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    drop_known: FieldSet,
    drop_other: Vec<String>,
    set: Vec<(String, HeaderValue)>,
    /// Added beside what is there.
    append: Vec<(String, HeaderValue)>,
    /// Every set with a fixed value as "Name: value\r\n".
    fixed_lines: Vec<u8>,
    /// Names whose value is the request's id.
    id_names: Vec<String>,
    /// Names and templates.
    templates: Vec<(String, String)>,
}

impl Edits {
    /// The edits that `rules` ask for.
    pub fn compile(rules: &HeaderRules) -> Self {
        let mut edits = Self::default();
        edits.apply(rules);
        edits
    }

    /// Adds `rules` after what is there; a name set again replaces the earlier value, a name
    /// removed loses it.
    pub fn apply(&mut self, rules: &HeaderRules) {
        for name in &rules.remove {
            self.drop(name);
            self.set.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
            self.append.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        }
        for (name, value) in &rules.set {
            self.set(name, value.clone());
        }
        self.append.extend(rules.append.iter().cloned());
        self.prepare();
    }

    /// Sets each of `fields`.
    pub fn set_all(&mut self, fields: &[(String, String)]) {
        for (name, value) in fields {
            self.set(name, HeaderValue::Text(value.clone()));
        }
        self.prepare();
    }

    /// Drops each of `names`.
    pub fn drop_all(&mut self, names: &[&str]) {
        for name in names {
            self.drop(name);
        }
    }

    /// Drops each of `names`, and sets none of them: somebody else says what they are.
    pub fn leave_alone(&mut self, names: &[&str]) {
        for name in names {
            self.drop(name);
            self.set.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
            self.append.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        }
        self.prepare();
    }

    /// A field's value is the request's id.
    pub fn uses_request_id(&self) -> bool {
        !self.id_names.is_empty()
    }

    /// The field is dropped.
    #[inline]
    pub fn drops(&self, field: &Field, head: &[u8]) -> bool {
        match field.id {
            FieldId::Other => self.drops_other(field.name.of(head)),
            id => self.drop_known.contains(id),
        }
    }

    /// A field of this name is dropped.
    pub fn drops_name(&self, name: &[u8]) -> bool {
        match field_id(name) {
            FieldId::Other => self.drops_other(name),
            id => self.drop_known.contains(id),
        }
    }

    #[inline]
    fn drops_other(&self, sent: &[u8]) -> bool {
        !self.drop_other.is_empty()
            && self.drop_other.iter().any(|name| is_same(sent, name.as_bytes()))
    }

    /// Known fields that are dropped.
    pub fn dropped(&self) -> FieldSet {
        self.drop_known
    }

    /// Names of the fields that are dropped and not set.
    pub fn dropped_names(&self) -> Vec<String> {
        let known = (1..u64::BITS).filter_map(|bit| {
            let id = FieldId::from_number(u8::try_from(bit).ok()?)?;
            self.drop_known.contains(id).then(|| id.name().to_owned())
        });
        let all = known.chain(self.drop_other.iter().cloned());
        let mut names: Vec<String> = all.filter(|name| !self.writes(name.as_bytes())).collect();
        names.sort();
        names.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
        names
    }

    /// Fields whose values are made of what the request says: names and templates.
    pub fn templates(&self) -> &[(String, String)] {
        &self.templates
    }

    /// Appends the fields that are set, but for those of [`Edits::templates`].
    pub fn write(&self, request_id: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fixed_lines);
        for name in &self.id_names {
            for part in [name.as_bytes(), b": ", request_id, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }

    /// The field is set or appended here.
    pub fn writes(&self, name: &[u8]) -> bool {
        self.set.iter().chain(&self.append).any(|(own, _)| is_same(own.as_bytes(), name))
    }

    fn drop(&mut self, name: &str) {
        match field_id(name.as_bytes()) {
            FieldId::Other => {
                self.drop_other.push(name.to_owned());
                // Not what messages hang on, whatever looks like it.
                let known = field_id(name.replace('_', "-").as_bytes());
                if known != FieldId::Other && !NEVER_NOMINATED.contains(known) {
                    self.drop_known.insert(known);
                }
            }
            id => self.drop_known.insert(id),
        }
    }

    fn set(&mut self, name: &str, value: HeaderValue) {
        self.drop(name);
        self.set.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        self.append.retain(|(set, _)| !set.eq_ignore_ascii_case(name));
        self.set.push((name.to_owned(), value));
    }

    fn prepare(&mut self) {
        self.fixed_lines.clear();
        self.id_names.clear();
        self.templates.clear();
        for (name, value) in self.set.iter().chain(&self.append) {
            match value {
                HeaderValue::Text(text) => {
                    self.fixed_lines.extend_from_slice(format!("{name}: {text}\r\n").as_bytes());
                }
                HeaderValue::RequestId => self.id_names.push(name.clone()),
                HeaderValue::Template(text) => self.templates.push((name.clone(), text.clone())),
            }
        }
    }
}

/// Whether both names are the same to a gateway that makes hyphens of underscores, or the other way
/// round: `X_User` must not pass where `X-User` may not, nor `X-User` where `X_User` may not.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

/// A set of known field names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldSet(u64);

impl FieldSet {
    /// The set of `ids`.
    pub const fn of(ids: &[FieldId]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= 1 << ids[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// `id` is in the set.
    #[inline]
    pub const fn contains(self, id: FieldId) -> bool {
        self.0 >> id as u8 & 1 == 1
    }

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set with `id` too, if `is`.
    #[inline]
    pub const fn with_if(self, is: bool, id: FieldId) -> Self {
        Self(self.0 | (is as u64) << id as u8)
    }

    fn insert(&mut self, id: FieldId) {
        self.0 |= 1 << id as u8;
    }
}
