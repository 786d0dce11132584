//! Accounts and certificates on disk, below `acme` in the state directory:
//!
//! ```text
//! acme/lock                                   held by the process that orders
//! acme/<authority>/account-<email>.json       account and its key
//! acme/<authority>/<first name>/certificate.pem, key.pem
//! ```
//!
//! What always holds, wherever a crash or `kill -9` strikes: a file is either the old or the new one
//! whole, and the key of the certificate that is there is there too, in `key.pem` or, for the moment
//! between two renames, in `next-key.pem`. Nobody but the owner may read any of it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use net::tls::Identity;

use super::super::files::{self, Signature};

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const NEXT_KEY: &str = "next-key.pem";

/// A longer name of a file or directory is cut, with a hash in place of the rest.
const NAME_MAX: usize = 120;

/// The part of a state directory that is about ACME.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Makes the directory if it is not there and sees whether it may be written.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let root = state_dir.join("acme");
        make_directory(state_dir)?;
        make_directory(&root)?;
        open_lock(&root)?;
        Ok(Self { root, lock: Mutex::new(None) })
    }

    /// Takes the lock that one process at a time may have, if it is free, and keeps it. Whether it
    /// is held now.
    pub(super) fn hold(&self) -> io::Result<bool> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(true);
        }
        let file = open_lock(&self.root)?;
        match file.try_lock() {
            Ok(()) => {
                *held = Some(file);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// File of the account with this address, and external key if any, at this authority.
    pub(super) fn account(
        &self,
        directory_url: &str,
        email: &str,
        key_id: Option<&str>,
    ) -> PathBuf {
        let mut name = format!("account-{email}");
        if let Some(key_id) = key_id {
            name.push('+');
            name.push_str(key_id);
        }
        self.root.join(authority(directory_url)).join(format!("{}.json", slug(&name)))
    }

    /// Where a certificate of this authority is kept under this name.
    pub(super) fn place(&self, directory_url: &str, name: &str) -> Place {
        Place { directory: self.root.join(authority(directory_url)).join(slug(name)) }
    }
}

/// Where one certificate and its key are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    directory: PathBuf,
}

impl Place {
    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.directory
    }

    /// State of the files now.
    pub(super) fn signature(&self) -> Signature {
        let paths = [CERTIFICATE, KEY].map(|name| self.directory.join(name));
        Signature::of(paths.iter().map(PathBuf::as_path))
    }

    /// What is stored; `None` if nothing is. Neither writes nor needs the lock.
    pub(super) fn load(&self) -> Result<Option<Identity>, String> {
        let Some(chain) = self.read(CERTIFICATE)? else { return Ok(None) };
        let mut reason = format!("there is no {KEY}");
        for name in [KEY, NEXT_KEY] {
            if let Some(key) = self.read(name)? {
                match Identity::from_pem(&chain, Some(&key)) {
                    Ok(identity) => return Ok(Some(identity)),
                    Err(error) if name == KEY => reason = error.to_string(),
                    Err(_) => {}
                }
            }
        }
        Err(reason)
    }

    /// Stores a certificate and its key in place of those before. Needs the lock.
    pub(super) fn save(&self, chain: &[u8], key: &[u8]) -> io::Result<()> {
        if let Some(parent) = self.directory.parent() {
            make_directory(parent)?;
        }
        make_directory(&self.directory)?;
        self.settle()?;
        write(&self.directory.join(NEXT_KEY), key)?;
        // From here on the new certificate counts: its key is there already.
        write(&self.directory.join(CERTIFICATE), chain)?;
        self.adopt_next_key()
    }

    /// Finishes a save that was cut short: a key that the certificate needs is not overwritten.
    fn settle(&self) -> io::Result<()> {
        let (Ok(Some(chain)), Ok(Some(next))) = (self.read(CERTIFICATE), self.read(NEXT_KEY))
        else {
            return Ok(());
        };
        match Identity::from_pem(&chain, Some(&next)) {
            Ok(_) => self.adopt_next_key(),
            Err(_) => Ok(()),
        }
    }

    fn adopt_next_key(&self) -> io::Result<()> {
        fs::rename(self.directory.join(NEXT_KEY), self.directory.join(KEY))?;
        sync(&self.directory)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let path = self.directory.join(name);
        match files::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{name} cannot be read: {error}")),
        }
    }
}

/// Replaces a file, or makes it, so that it is whole at any moment, on the disk when this returns,
/// and for its owner only.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600)
}

/// [`write`] with other permissions.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let mut temporary = name.to_owned();
    temporary.push(".new");
    let temporary = directory.join(temporary);
    // One of a process that was killed; never one in use, because there is a lock.
    remove(&temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync(directory)
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it, for the owner only.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn open_lock(root: &Path) -> io::Result<File> {
    let path = root.join("lock");
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Directory name of an authority: its URL without the scheme.
fn authority(directory_url: &str) -> String {
    slug(directory_url.split_once("://").map_or(directory_url, |(_, rest)| rest))
}

/// `text` as the name of a file: readable, without anything that means something in a path. What is
/// cut is told apart by a hash.
fn slug(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | '+');
    let replaced = |c: char| if allowed(c) { c } else { '-' };
    let name: String = text.chars().take(NAME_MAX).map(replaced).collect();
    if name.starts_with('.') || name.is_empty() || text.chars().count() > NAME_MAX {
        return format!("{:016x}-{}", hash(text), name.trim_start_matches('.'));
    }
    name
}

/// FNV-1a, 64 bits: the same for ever, which the standard library's hash does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Directory, issued};
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(identity: &Identity) -> &[String] {
        identity.names()
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_the_owner_may_read_it() {
        let state = Directory::new();
        let store = Store::open(&state.path().join("state")).unwrap();
        let place = store.place("https://ca.test:14000/dir", "a.test");
        assert!(place.load().unwrap().is_none());
        let (chain, key) = issued(&["a.test"]);
        place.save(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(names(&place.load().unwrap().unwrap()), ["a.test"]);
        assert!(place.path().ends_with("acme/ca.test-14000-dir/a.test"), "{place:?}");
        let mut directory = place.path().to_owned();
        for name in ["key.pem", "certificate.pem"] {
            assert_eq!(mode(&directory.join(name)), 0o600);
        }
        while directory != state.path() {
            assert_eq!(mode(&directory), 0o700, "{}", directory.display());
            directory.pop();
        }
        assert!(!place.path().join("next-key.pem").exists());
    }

    #[test]
    fn a_save_that_is_cut_short_anywhere_leaves_a_certificate_with_its_key() {
        let (old_chain, old_key) = issued(&["old.test"]);
        let (chain, key) = issued(&["new.test"]);
        // What is on the disk after each step of a save.
        for (certificate, next_key, left) in [
            (&old_chain, None, "old.test"),
            (&old_chain, Some(&key), "old.test"),
            (&chain, Some(&key), "new.test"),
        ] {
            let state = Directory::new();
            let place = Store::open(state.path()).unwrap().place("https://ca.test/", "a.test");
            place.save(old_chain.as_bytes(), old_key.as_bytes()).unwrap();
            fs::write(place.path().join("certificate.pem"), certificate).unwrap();
            if let Some(next) = next_key {
                fs::write(place.path().join("next-key.pem"), next).unwrap();
            }
            fs::write(place.path().join("certificate.pem.new"), "half").unwrap();
            assert_eq!(names(&place.load().unwrap().unwrap()), [left]);
            // Cut short again after the next save's first step: the key in use is not lost.
            let (_, other_key) = issued(&["other.test"]);
            place.settle().unwrap();
            write(&place.path().join("next-key.pem"), other_key.as_bytes()).unwrap();
            assert_eq!(names(&place.load().unwrap().unwrap()), [left]);
        }
    }

    #[test]
    fn a_stored_key_of_another_certificate_is_an_error_not_a_panic() {
        let state = Directory::new();
        let place = Store::open(state.path()).unwrap().place("https://ca.test/", "a.test");
        let (chain, key) = issued(&["a.test"]);
        place.save(chain.as_bytes(), key.as_bytes()).unwrap();
        fs::write(place.path().join("key.pem"), issued(&["a.test"]).1).unwrap();
        assert!(place.load().is_err());
        fs::remove_file(place.path().join("key.pem")).unwrap();
        assert_eq!(place.load().err().unwrap(), "there is no key.pem");
        fs::write(place.path().join("certificate.pem"), "nonsense").unwrap();
        assert!(place.load().is_err());
    }

    #[test]
    fn one_process_at_a_time_holds_the_lock() {
        let state = Directory::new();
        let first = Store::open(state.path()).unwrap();
        let second = Store::open(state.path()).unwrap();
        assert!(first.hold().unwrap() && first.hold().unwrap());
        assert!(!second.hold().unwrap());
        drop(first);
        assert!(second.hold().unwrap());
    }

    #[test]
    fn names_from_a_configuration_stay_below_the_directory() {
        assert_eq!(slug("a.example.test"), "a.example.test");
        assert_eq!(authority("https://ca.test/acme/dir?x=1"), "ca.test-acme-dir-x-1");
        for text in ["..", ".", "", "../../etc", ".hidden"] {
            let name = slug(text);
            assert!(!name.starts_with('.') && !name.contains('/') && name.len() > 2, "{name}");
        }
        assert!(slug(&"x".repeat(1000)).len() < 200);
        assert_ne!(slug(&"x".repeat(1000)), slug(&"x".repeat(1001)));
    }
}
