//! What is at a path, found on disk.
//!
//! Every look at the file system on the way is noted: as long as all of them would see the same
//! again, the result stands. This is how the cache re-validates a file, a directory with several
//! possible index files, a missing file and a neighbour that appears, all in the same way.

use super::precompressed::{CODINGS, Coding};
use super::resource::{Content, Representation, Resource, Sayings, read};
use super::root::{Directory, Stamp};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// A file that was modified less than this before it was read may change again without its times
/// showing it: the clock of a file system is coarse.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What a path comes to.
#[derive(Debug, Clone)]
pub(super) enum Resolution {
    /// A file to serve.
    File(Rc<Resource>),
    /// A directory that was asked for without its trailing slash.
    Directory,
    /// Nothing to serve, and the status that says why: 404, 403, 500 or 503.
    Refused(u16),
}

/// A resolution and what it rests on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) resolution: Resolution,
    pub(super) evidence: Vec<Sight>,
    /// Whether unchanged evidence means an unchanged file.
    pub(super) settled: bool,
}

/// One look at the file system.
#[derive(Debug)]
pub(super) struct Sight {
    path: CString,
    seen: Result<Stamp, Errno>,
}

impl Found {
    /// Whether everything still looks as it did.
    pub(super) fn holds(&self, directory: &Directory) -> bool {
        self.settled && self.evidence.iter().all(|sight| directory.look(&sight.path) == sight.seen)
    }

    /// Whether it may be remembered: our own trouble, such as having too many files open, passes.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self.resolution, Resolution::Refused(500..))
    }
}

/// Resolves the path of a request, decoded and relative to the root.
pub(super) fn find(
    directory: &Directory,
    path: &[u8],
    index: &[CString],
    sayings: &Sayings,
) -> Found {
    let mut look = Lookup { directory, sayings, evidence: Vec::new(), settled: true };
    let resolution = if path.is_empty() || path.ends_with(b"/") {
        look.index_of(path, index)
    } else {
        look.named(path)
    };
    Found { resolution, evidence: look.evidence, settled: look.settled }
}

/// Resolves a path that must be a file, such as an error page.
pub(super) fn find_page(directory: &Directory, path: &CStr, sayings: &Sayings) -> Found {
    let mut look = Lookup { directory, sayings, evidence: Vec::new(), settled: true };
    let resolution = match look.see(path) {
        Ok(stamp) if stamp.is_file() => look.load(path),
        _ => Resolution::Refused(404),
    };
    Found { resolution, evidence: look.evidence, settled: look.settled }
}

struct Lookup<'a> {
    directory: &'a Directory,
    sayings: &'a Sayings,
    evidence: Vec<Sight>,
    settled: bool,
}

impl Lookup<'_> {
    fn named(&mut self, path: &[u8]) -> Resolution {
        let Ok(path) = CString::new(path) else { return Resolution::Refused(404) };
        match self.see(&path) {
            Ok(stamp) if stamp.is_file() => self.load(&path),
            Ok(stamp) if stamp.is_directory() => match self.directory.check_directory(&path) {
                Ok(()) => Resolution::Directory,
                Err(error) => refused(error),
            },
            Ok(_) => Resolution::Refused(404),
            Err(error) => self.unseen(&path, error),
        }
    }

    /// A directory without an index file is not found, like one that does not exist: what a
    /// directory holds, and that it exists, is nobody's business.
    fn index_of(&mut self, directory: &[u8], index: &[CString]) -> Resolution {
        for name in index {
            let path = [directory, name.as_bytes()].concat();
            let Ok(path) = CString::new(path) else { continue };
            match self.see(&path) {
                Ok(stamp) if stamp.is_file() => return self.load(&path),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return self.unseen(&path, error),
            }
        }
        Resolution::Refused(404)
    }

    /// 403 tells the operator about permissions, but only of files inside of the root: the look
    /// followed links anywhere, so opening has to say the same.
    fn unseen(&self, path: &CStr, error: Errno) -> Resolution {
        match error {
            Errno::ACCESS => match self.directory.open_file(path) {
                Err(error) => refused(error),
                Ok(_) => Resolution::Refused(404),
            },
            error => refused(error),
        }
    }

    fn load(&mut self, path: &CStr) -> Resolution {
        let (content, stamp) = match self.open(path) {
            Ok(opened) => opened,
            Err(error) => return refused(error),
        };
        let mut neighbours = Vec::new();
        if !CODINGS.iter().any(|coding| path.to_bytes().ends_with(coding.extension().as_bytes())) {
            for coding in CODINGS {
                neighbours
                    .extend(self.neighbour(path, &stamp, coding).map(|opened| (coding, opened)));
            }
        }
        let varies = !neighbours.is_empty();
        let describe = |opened, coding| {
            Representation::new(opened, path.to_bytes(), coding, varies, self.sayings)
        };
        let identity = describe((content, stamp), None);
        let coded = neighbours.into_iter();
        let coded =
            coded.map(|(coding, opened)| (coding, describe(opened, Some(coding)))).collect();
        Resolution::File(Rc::new(Resource { identity, coded }))
    }

    /// A neighbour older than the file (by more than the second that some tools keep of a time)
    /// holds what the file was once: it is not used.
    fn neighbour(&mut self, path: &CStr, of: &Stamp, coding: Coding) -> Option<(Content, Stamp)> {
        let name = [path.to_bytes(), coding.extension().as_bytes()].concat();
        let name = CString::new(name).ok()?;
        let seen = self.see(&name).ok()?;
        if !seen.is_file() || seen.modified.0 < of.modified.0 {
            return None;
        }
        self.open(&name).ok()
    }

    fn see(&mut self, path: &CStr) -> Result<Stamp, Errno> {
        let seen = self.directory.look(path);
        self.evidence.push(Sight { path: path.to_owned(), seen });
        seen
    }

    fn open(&mut self, path: &CStr) -> Result<(Content, Stamp), Errno> {
        let (file, stamp) = self.directory.open_file(path)?;
        let (content, stamp) = read(file, stamp);
        let modified = u64::try_from(stamp.modified.0).unwrap_or(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age = now.saturating_sub(Duration::from_secs(modified));
        // A file that is sent from its descriptor is always as it is on disk: only its size and
        // its validators can be out of date, and those come with the stamp.
        self.settled &= age > SETTLED_AFTER || matches!(content, Content::File(_));
        Ok((content, stamp))
    }
}

/// The status for a file that cannot be opened. What a link outside of the root points to is as
/// good as not there.
fn refused(error: Errno) -> Resolution {
    Resolution::Refused(match error {
        Errno::ACCESS | Errno::PERM => 403,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => 503,
        Errno::IO | Errno::STALE | Errno::TIMEDOUT => 500,
        _ => 404,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root::Root;
    use crate::files::testing::Site;

    fn look_up(site: &Site, path: &str) -> (std::sync::Arc<Directory>, Found) {
        let directory = Root::open(&site.root(), false).0.directory(0).unwrap();
        let sayings = Sayings { etag: true, last_modified: true, cache_control: None };
        let found = find(&directory, path.as_bytes(), &[], &sayings);
        (directory, found)
    }

    #[test]
    fn a_file_written_a_moment_ago_is_read_again_although_it_looks_the_same() {
        let site = Site::new("settled");
        site.write("old.txt", "x");
        site.write_as_of("new.txt", "x", SystemTime::now());
        let (directory, old) = look_up(&site, "old.txt");
        assert!(old.holds(&directory));
        let (directory, new) = look_up(&site, "new.txt");
        assert!(!new.holds(&directory));
    }

    #[test]
    fn running_out_of_descriptors_is_our_trouble_and_passes() {
        for error in [Errno::MFILE, Errno::NFILE] {
            let resolution = refused(error);
            assert!(matches!(resolution, Resolution::Refused(503)));
            assert!(!Found { resolution, evidence: Vec::new(), settled: true }.is_lasting());
        }
    }
}
