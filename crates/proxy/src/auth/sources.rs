//! What credentials are checked with, and what of it an earlier snapshot had already.
//!
//! What always holds: a part of the configuration that has not changed goes on with the same object when
//! a snapshot is compiled anew, so that keys which were fetched are there, and what workers remember of
//! credentials stays good; nothing is read again by that, which is for those who watch the files.

use std::path::Path;
use std::sync::Arc;

use config::model::JwtAuth;
use config::password::PasswordHash;

use super::htpasswd::Users;
use super::keys::KeyFault;
use super::{KeyRing, UserFile, next_number};

/// The files and URLs that credentials are checked with, to be kept up to date beside the path. Two
/// places that name the same one share it.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// Files of users.
    pub users: Vec<Arc<UserFile>>,
    /// Keys of tokens that may change.
    pub keys: Vec<Arc<KeyRing>>,
    listed: Vec<Listed>,
    tokens: Vec<Tokens>,
    /// Those of earlier snapshots.
    known: Option<Box<Sources>>,
}

/// Users that stand in the configuration.
#[derive(Debug, Clone)]
struct Listed {
    list: Vec<(String, PasswordHash)>,
    users: Arc<Users>,
}

/// Rules for tokens.
#[derive(Debug, Clone)]
struct Tokens {
    jwt: JwtAuth,
    number: u64,
    ring: Arc<KeyRing>,
}

impl Sources {
    /// None, but what is the same as in these is taken from there.
    pub(crate) fn knowing(known: Self) -> Self {
        Self { known: Some(Box::new(known)), ..Self::default() }
    }

    /// These and the others.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        let mut both = self.clone();
        both.remember(others);
        both
    }

    /// Only those that were asked for.
    pub(crate) fn used(&self) -> Self {
        Self { known: None, ..self.clone() }
    }

    /// A file of users, read if it is new.
    pub(super) fn user_file(&mut self, path: &Path) -> Result<Arc<UserFile>, String> {
        let find = |users: &[Arc<UserFile>]| users.iter().find(|it| it.path() == path).cloned();
        if let Some(same) = find(&self.users) {
            return Ok(same);
        }
        let known = self.known.as_ref().and_then(|known| find(&known.users));
        let file = known.map_or_else(|| UserFile::open(path).map(Arc::new), Ok)?;
        self.users.push(Arc::clone(&file));
        Ok(file)
    }

    /// Users that stand in the configuration.
    pub(super) fn listed(&mut self, list: &[(String, PasswordHash)]) -> Arc<Users> {
        let find = |listed: &[Listed]| listed.iter().find(|it| it.list == list).cloned();
        if let Some(same) = find(&self.listed) {
            return same.users;
        }
        let known = self.known.as_ref().and_then(|known| find(&known.listed));
        let listed = known.unwrap_or_else(|| {
            let list = list.to_vec();
            Listed { users: Arc::new(Users::new(list.iter().cloned())), list }
        });
        self.listed.push(listed.clone());
        listed.users
    }

    /// The keys for these rules, read if they are new, and the number that only equal rules have.
    pub(super) fn tokens(&mut self, jwt: &JwtAuth) -> Result<(u64, Arc<KeyRing>), KeyFault> {
        let find = |tokens: &[Tokens]| tokens.iter().find(|it| it.jwt == *jwt).cloned();
        let own = find(&self.tokens);
        let known = || self.known.as_ref().and_then(|known| find(&known.tokens));
        let tokens = match own.or_else(known) {
            Some(same) => same,
            None => {
                let same = |ring: &&Arc<KeyRing>| ring.is_for(jwt);
                let rings = self.known.iter().flat_map(|known| &known.keys);
                let ring = match self.keys.iter().chain(rings).find(same) {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(KeyRing::open(jwt)?),
                };
                Tokens { jwt: jwt.clone(), number: next_number(), ring }
            }
        };
        if !self.tokens.iter().any(|known| known.number == tokens.number) {
            self.tokens.push(tokens.clone());
        }
        if !self.keys.iter().any(|ring| Arc::ptr_eq(ring, &tokens.ring)) {
            self.keys.push(Arc::clone(&tokens.ring));
        }
        Ok((tokens.number, tokens.ring))
    }

    /// Adds those of a snapshot.
    pub(crate) fn remember(&mut self, used: &Self) {
        fn add<T: Clone>(to: &mut Vec<T>, from: &[T], same: impl Fn(&T, &T) -> bool) {
            for one in from {
                if !to.iter().any(|known| same(known, one)) {
                    to.push(one.clone());
                }
            }
        }
        add(&mut self.users, &used.users, Arc::ptr_eq);
        add(&mut self.keys, &used.keys, Arc::ptr_eq);
        add(&mut self.listed, &used.listed, |one, other| Arc::ptr_eq(&one.users, &other.users));
        self.tokens.clone_from(&used.tokens);
    }

    /// Forgets those that no snapshot has.
    pub(crate) fn sweep(&mut self) {
        self.keys.retain(|ring| {
            // Rules have their keys too.
            let own = self.tokens.iter().filter(|tokens| Arc::ptr_eq(&tokens.ring, ring)).count();
            Arc::strong_count(ring) > own + 1
        });
        self.tokens.retain(|tokens| self.keys.iter().any(|ring| Arc::ptr_eq(ring, &tokens.ring)));
        self.users.retain(|file| Arc::strong_count(file) > 1);
        self.listed.retain(|listed| Arc::strong_count(&listed.users) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn list(name: &str) -> Vec<(String, PasswordHash)> {
        vec![(name.to_owned(), PasswordHash::parse("plain:secret").unwrap())]
    }

    #[test]
    fn what_has_not_changed_goes_on_as_it_is() {
        let mut first = Sources::default();
        let (ann, bob) = (first.listed(&list("ann")), first.listed(&list("bob")));
        assert!(!Arc::ptr_eq(&ann, &bob) && Arc::ptr_eq(&ann, &first.listed(&list("ann"))));
        let mut live = Sources::default();
        live.remember(&first.used());
        let mut second = Sources::knowing(live.clone());
        assert!(Arc::ptr_eq(&ann, &second.listed(&list("ann"))));
        assert!(!Arc::ptr_eq(&ann, &second.listed(&list("eve"))));
        assert_eq!(second.used().listed.len(), 2);
        live.remember(&second.used());
        drop((first, second, bob));
        live.sweep();
        assert_eq!(live.listed.len(), 1, "somebody still has one of them");
    }

    #[test]
    fn files_are_read_when_they_are_new_only() {
        let path = std::env::temp_dir().join(format!("ravelin-sources-{}", std::process::id()));
        std::fs::write(&path, "ann:plain:secret\n").unwrap();
        let mut first = Sources::default();
        let file = first.user_file(&path).unwrap();
        let mut live = Sources::default();
        live.remember(&first.used());
        std::fs::remove_file(&path).unwrap();
        let mut second = Sources::knowing(live);
        assert!(Arc::ptr_eq(&file, &second.user_file(&path).unwrap()));
        assert!(second.user_file(&PathBuf::from("/none")).is_err());
    }
}
