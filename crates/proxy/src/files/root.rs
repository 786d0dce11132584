//! The directory that files are served from, and the only code that opens anything below it.
//!
//! The root is opened once and everything is opened relative to it. Unless links may be followed,
//! `openat2(RESOLVE_BENEATH)` lets no symbolic link lead out: links to a place inside work as long
//! as they are relative (the kernel counts every absolute one as leading out). On a kernel or in a
//! sandbox without `openat2`, no symbolic link below the root is followed at all.
//!
//! Only regular files are opened: each is looked at first, so that a FIFO or a device is not even
//! touched, and opened with `O_NONBLOCK`, so that one put there in between cannot block the worker.
//!
//! A release is often switched by renaming the root or turning a link: the open directory is
//! compared with what the path names once in [`CHECK_MS`].

use super::ClockMs;
use arc_swap::ArcSwapOption;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::fs::{openat, openat2, statx};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds for which the open root is taken to be what its path names.
const CHECK_MS: u64 = 1000;

/// Attempts at `openat2` when the kernel could not rule out a concurrent rename (`EAGAIN`).
const OPEN_ATTEMPTS: u32 = 8;

/// A root directory, which may not exist yet or not any more.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    follow_symlinks: bool,
    open: ArcSwapOption<Directory>,
    checked: AtomicU64,
}

impl Root {
    /// Opens the directory; the error says why it is not there now.
    pub(super) fn open(path: &Path, follow_symlinks: bool) -> (Self, Option<Errno>) {
        let (open, error) = match Directory::open(path, follow_symlinks) {
            Ok(directory) => (Some(Arc::new(directory)), None),
            Err(error) => (None, Some(error)),
        };
        let root = Self {
            path: path.to_owned(),
            follow_symlinks,
            open: ArcSwapOption::new(open),
            checked: AtomicU64::new(0),
        };
        (root, error)
    }

    /// Its path, as configured.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory as of at most [`CHECK_MS`] ago; `None` while there is none.
    pub(super) fn directory(&self, now: ClockMs) -> Option<Arc<Directory>> {
        let open = self.open.load_full();
        if now.saturating_sub(self.checked.load(Ordering::Relaxed)) < CHECK_MS {
            return open;
        }
        self.checked.store(now, Ordering::Relaxed);
        let there = look_at(CWD, &self.path).ok();
        if let (Some(open), Some(there)) = (&open, there)
            && open.identity == there.identity()
        {
            return Some(open.clone());
        }
        let fresh = Directory::open(&self.path, self.follow_symlinks).ok().map(Arc::new);
        self.open.store(fresh.clone());
        fresh
    }
}

/// An open root directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    identity: Identity,
    follow_symlinks: bool,
    has_openat2: bool,
}

impl Directory {
    fn open(path: &Path, follow_symlinks: bool) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        let identity = look_at(&fd, c"")?.identity();
        // Old sandboxes answer EPERM for a call they do not know.
        let has_openat2 = openat2(
            &fd,
            c".",
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
        .is_ok();
        Ok(Self { fd, identity, follow_symlinks, has_openat2 })
    }

    /// What is at `path`, links followed. The result only says whether something changed: it may
    /// be about a file that [`Directory::open_file`] refuses.
    pub(super) fn look(&self, path: &CStr) -> Result<Stamp, Errno> {
        look_at(&self.fd, path)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    ///
    /// As `openat2(2)`: `XDEV` where a link leads out of the root. `NXIO` for what is not a
    /// regular file.
    pub(super) fn open_file(&self, path: &CStr) -> Result<(File, Stamp), Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.open_beneath(path, flags)?);
        let stamp = look_at(&file, c"")?;
        if stamp.is_file() { Ok((file, stamp)) } else { Err(Errno::NXIO) }
    }

    /// Whether `path` leads to a directory without leaving the root.
    pub(super) fn check_directory(&self, path: &CStr) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.open_beneath(path, flags).map(drop)
    }

    fn open_beneath(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        if !self.has_openat2 {
            return if self.follow_symlinks {
                openat(&self.fd, path, flags, Mode::empty())
            } else {
                self.open_without_links(path, flags)
            };
        }
        let mut resolve = ResolveFlags::NO_MAGICLINKS;
        if !self.follow_symlinks {
            resolve |= ResolveFlags::BENEATH;
        }
        let mut outcome = Err(Errno::AGAIN);
        for _ in 0..OPEN_ATTEMPTS {
            outcome = openat2(&self.fd, path, flags, Mode::empty(), resolve);
            if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        outcome
    }

    /// One segment after the other, none of them through a link.
    fn open_without_links(&self, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut segments = path.to_bytes().split(|&byte| byte == b'/').peekable();
        let mut parent: Option<OwnedFd> = None;
        while let Some(segment) = segments.next() {
            let segment = CString::new(segment).map_err(|_| Errno::NOENT)?;
            let from = parent.as_ref().unwrap_or(&self.fd);
            let is_last = segments.peek().is_none();
            let how =
                if is_last { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC };
            let opened = openat(from, &segment, how | OFlags::NOFOLLOW, Mode::empty())?;
            if is_last {
                return Ok(opened);
            }
            parent = Some(opened);
        }
        Err(Errno::NOENT)
    }
}

/// What tells one state of a file from another. Equal stamps: same file, same content, same
/// permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: (u32, u32),
    inode: u64,
    mode: u32,
    pub(super) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(super) modified: (i64, u32),
    changed: (i64, u32),
}

/// Device and inode number.
type Identity = ((u32, u32), u64);

impl Stamp {
    /// Whether it is a regular file.
    pub(super) fn is_file(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    fn identity(&self) -> Identity {
        (self.device, self.inode)
    }
}

/// The state of an open file.
pub(super) fn stamp_of(file: &File) -> Result<Stamp, Errno> {
    look_at(file, c"")
}

fn look_at(from: impl AsFd, path: impl rustix::path::Arg) -> Result<Stamp, Errno> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    let stat = statx(from, path, flags, StatxFlags::BASIC_STATS)?;
    Ok(Stamp {
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        mode: stat.stx_mode.into(),
        size: stat.stx_size,
        modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::Site;
    use std::os::unix::fs::symlink;

    #[test]
    fn without_openat2_no_link_is_followed() {
        let site = Site::new("without-openat2");
        site.write("dir/file.txt", "inside");
        symlink("file.txt", site.path("dir/link.txt")).unwrap();
        symlink("dir", site.path("linked")).unwrap();
        let mut directory = Directory::open(&site.root(), false).unwrap();
        directory.has_openat2 = false;
        assert!(directory.open_file(c"dir/file.txt").is_ok());
        assert!(directory.check_directory(c"dir").is_ok());
        assert_eq!(directory.open_file(c"dir/link.txt").unwrap_err(), Errno::LOOP);
        assert_eq!(directory.open_file(c"linked/file.txt").unwrap_err(), Errno::NOTDIR);
        assert_eq!(directory.check_directory(c"linked").unwrap_err(), Errno::NOTDIR);
        assert_eq!(directory.open_file(c"missing/file.txt").unwrap_err(), Errno::NOENT);
        directory.follow_symlinks = true;
        assert!(directory.open_file(c"linked/link.txt").is_ok());
    }

    #[test]
    fn the_kernel_refuses_to_leave_the_root_even_by_dot_dot() {
        let site = Site::new("dot-dot");
        site.write("file.txt", "inside");
        let directory = Directory::open(&site.root(), false).unwrap();
        assert!(directory.has_openat2, "this kernel has no openat2: the main path is not tested");
        assert_eq!(directory.open_file(c"../file.txt").unwrap_err(), Errno::XDEV);
        assert_eq!(directory.open_file(c"/etc/passwd").unwrap_err(), Errno::XDEV);
    }
}
