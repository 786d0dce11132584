//! Users and the hashes of their passwords, and the files they are in.
//!
//! What always holds: a file is taken whole or not at all; when it cannot be read any more, what was
//! read before stays in force; nothing of a hash is in a message.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use config::password::PasswordHash;

use super::next_number;

/// Most users of a file.
pub const USERS_MAX: usize = 100_000;

/// Longest file, in bytes: that many users with long hashes.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Users by name.
#[derive(Debug)]
pub(super) struct Users {
    by_name: HashMap<String, Arc<PasswordHash>>,
    /// The hash that takes longest: what is computed for a name that does not exist.
    costliest: Option<Arc<PasswordHash>>,
    /// Other users have another number.
    pub(super) number: u64,
}

impl Users {
    /// These users.
    pub(super) fn new(users: impl Iterator<Item = (String, PasswordHash)>) -> Self {
        let by_name: HashMap<_, _> = users.map(|(name, hash)| (name, Arc::new(hash))).collect();
        let costliest = by_name.values().max_by_key(|hash| hash.cost()).cloned();
        Self { by_name, costliest, number: next_number() }
    }

    /// The hash of this user's password.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<PasswordHash>> {
        self.by_name.get(std::str::from_utf8(name).ok()?)
    }

    /// The hash that takes longest.
    pub(super) fn costliest(&self) -> Option<&Arc<PasswordHash>> {
        self.costliest.as_ref()
    }

    /// Takes the text of a file apart: `name:hash` on each line, `#` begins a comment.
    ///
    /// # Errors
    /// A line that cannot be understood, by its number.
    fn parse(text: &str) -> Result<Self, String> {
        let mut users: HashMap<String, PasswordHash> = HashMap::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| Err(format!("line {number}: {what}"));
            let Some((name, rest)) = line.split_once(':') else {
                return wrong("a user looks like `name:hash`");
            };
            if name.is_empty() || name.chars().any(char::is_control) {
                return wrong("the name is empty or has control characters");
            }
            // Other fields may follow, as in a shadow file; a plain password may have colons.
            let hash = match rest.starts_with("plain:") {
                true => rest,
                false => rest.split(':').next().unwrap_or(rest),
            };
            let hash = match PasswordHash::parse(hash) {
                Ok(hash) => hash,
                Err(why) => return wrong(&why),
            };
            if users.insert(name.to_owned(), hash).is_some() {
                return wrong("a user of this name stands above already");
            }
            if users.len() > USERS_MAX {
                return wrong(&format!("there are more than {USERS_MAX} users"));
            }
        }
        Ok(Self::new(users.into_iter()))
    }
}

/// A file of users that is read again when it changes.
#[derive(Debug)]
pub struct UserFile {
    path: PathBuf,
    current: ArcSwap<Users>,
}

impl UserFile {
    /// Reads a file for the first time.
    ///
    /// # Errors
    /// It cannot be read or understood; the text names it.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let users = read(path)?;
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(users) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it again. Blocks. What is remembered of passwords is forgotten with what it said before.
    ///
    /// # Errors
    /// It cannot be read or understood, and what was read before stays in force.
    pub fn reload(&self) -> Result<usize, String> {
        let users = read(&self.path)?;
        let count = users.by_name.len();
        self.current.store(Arc::new(users));
        Ok(count)
    }

    /// The users in it.
    pub(super) fn users(&self) -> arc_swap::Guard<Arc<Users>> {
        self.current.load()
    }
}

fn read(path: &Path) -> Result<Users, String> {
    let file = path.display();
    let bytes = read_bounded(path, FILE_BYTES_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{file} is not UTF-8 text"))?;
    Users::parse(text).map_err(|why| format!("{file}, {why}"))
}

/// The content of a file of at most so many bytes.
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    net::file::read(path, max).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APR1: &str = "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/";

    #[test]
    fn lines_are_names_and_hashes() {
        let text = format!(
            "\u{feff}# users\n\nann:{APR1}\r\nbob:{APR1}:comment\ncy:plain:a:b\nd é:{APR1}\n"
        );
        let users = Users::parse(&text).unwrap();
        for name in ["ann", "bob", "cy", "d é"] {
            assert!(users.get(name.as_bytes()).is_some(), "{name}");
        }
        assert!(users.get(b"# users").is_none() && users.get(b"").is_none());
        assert!(users.get(b"\xff").is_none());
        assert!(matches!(&**users.get(b"cy").unwrap(), PasswordHash::Plain(text) if text == "a:b"));
        assert!(matches!(&**users.costliest().unwrap(), PasswordHash::Apr1 { .. }));
        assert!(Users::parse("").unwrap().costliest().is_none());
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_shown() {
        for (text, line) in [
            ("ann", 1),
            (":x", 1),
            ("# a\nann:hunter2", 2),
            ("ann:{SHA}hunter2", 1),
            ("ann:plain:a\n\nann:plain:b", 3),
            ("a\u{1}n:plain:a", 1),
        ] {
            let why = Users::parse(text).unwrap_err();
            assert!(why.starts_with(&format!("line {line}: ")), "{why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn other_users_have_another_number() {
        assert_ne!(Users::parse("").unwrap().number, Users::parse("").unwrap().number);
    }
}
