//! A log in a file, which may begin anew when it has become large.
//!
//! What always holds: a line is in one file only and whole; a file is renamed, never copied or cut, so
//! that whoever reads it goes on reading; if nothing can be renamed, the log goes on where it is.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use config::model::Rotation;
use rustix::fs::OFlags;

use super::output::{Cut, Lines};

/// Rights of a log file: what clients ask for is not for everybody to read.
pub(super) const FILE_MODE: u32 = 0o640;

/// An open file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    to: Lines,
    regular: bool,
    rotation: Rotation,
    /// Bytes in it, as far as this process wrote them or found them.
    len: u64,
    /// It is not tried to begin anew before it has so many, because that did not work before.
    not_before: u64,
}

impl LogFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (file, is) = open(path)?;
        let (path, to) = (path.to_owned(), Lines::to(file));
        let (regular, len) = (is.is_file(), is.len());
        Ok(Self { path, to, regular, rotation, len, not_before: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// It is on a disk, where writing does not wait for a reader.
    pub(super) fn is_regular(&self) -> bool {
        self.regular
    }

    /// Opens it again by its name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let (file, is) = open(&self.path)?;
        (self.regular, self.len, self.not_before) = (is.is_file(), is.len(), 0);
        self.to = Lines::to(file);
        Ok(())
    }

    /// Writes blocks of whole lines; before one that would make it too large the file begins anew. If it
    /// cannot, the block is written all the same, and the text says why.
    pub(super) fn write(
        &mut self,
        blocks: &mut [IoSlice<'_>],
    ) -> (Result<(), Cut>, Option<String>) {
        let (mut written, mut trouble) = (0_usize, None);
        let mut rest = blocks;
        while !rest.is_empty() {
            if self.len > 0 && self.fitting(rest) == 0 {
                trouble = self.begin_anew(rest).or(trouble);
            }
            let (now, later) = rest.split_at_mut(self.fitting(rest).max(1));
            let bytes = now.iter().map(|block| block.len()).sum();
            let outcome = self.to.write(now);
            let added = outcome.as_ref().map_or_else(|cut| cut.written, |()| bytes);
            self.len = self.len.saturating_add(len_of(added));
            written = written.saturating_add(added);
            if let Err(cut) = outcome {
                return (Err(Cut { written, ..cut }), trouble);
            }
            rest = later;
        }
        (Ok(()), trouble)
    }

    /// How many of the blocks can be written before the file is to begin anew.
    fn fitting(&self, blocks: &[IoSlice<'_>]) -> usize {
        let Some(size) = self.rotation.size else { return blocks.len() };
        let max = size.max(self.not_before);
        let mut after = self.len;
        let fits = |block: &&IoSlice<'_>| {
            after = after.saturating_add(len_of(block.len()));
            after <= max
        };
        blocks.iter().take_while(fits).count()
    }

    /// Begins anew before these; why not, if that does not work.
    fn begin_anew(&mut self, blocks: &[IoSlice<'_>]) -> Option<String> {
        let error = self.rotate().err()?;
        let next = blocks.first().map_or(0, |block| len_of(block.len()));
        let size = self.rotation.size.unwrap_or_default();
        self.not_before = self.len.saturating_add(next).saturating_add(size);
        let path = self.path.display();
        Some(format!("{path} cannot begin anew: {error}; going on with the file as it is"))
    }

    /// Gives the file the name of an older one, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        // Somebody else may have done so, as logrotate does, or another process of this Ravelin while
        // one takes over from the other.
        if !self.is_ours()? {
            return self.reopen();
        }
        match self.rotation.keep {
            0 => unless_missing(fs::remove_file(&self.path))?,
            keep => {
                // File systems write a file out at once that takes the place of another one (ext4 by
                // `auto_da_alloc`), and whoever writes the log would wait for that.
                if keep == 1 || self.older(keep - 1).try_exists()? {
                    unless_missing(fs::remove_file(self.older(keep)))?;
                }
                for number in (1..keep).rev() {
                    unless_missing(fs::rename(self.older(number), self.older(number + 1)))?;
                }
                // Also somebody else may have renamed it meanwhile.
                unless_missing(fs::rename(&self.path, self.older(1)))?;
            }
        }
        self.reopen()
    }

    /// The file with this name is the one that is open, and one that can be renamed.
    fn is_ours(&self) -> io::Result<bool> {
        let open = self.to.file.metadata()?;
        if !open.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no file that could begin anew"));
        }
        Ok(match fs::metadata(&self.path) {
            Ok(named) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        })
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Opens a file to append to, and says what it is; it and the directories above it are made if they
/// are not there.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    if fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) {
        // One that nobody reads yet, or any more, must hold up neither this nor a write: a pipe that
        // is open for reading too has a reader, and what does not block can be counted as lost.
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }
    let open = || options.open(path);
    let opened = match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(directory).and_then(|()| open())
        }
        (opened, _) => opened,
    };
    let opened = opened.and_then(|file| {
        let is = file.metadata()?;
        Ok((file, is))
    });
    opened.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "; choose a file this user may write",
            _ => "",
        };
        let path = path.display();
        io::Error::new(error.kind(), format!("cannot open the log file {path}: {error}{hint}"))
    })
}

fn len_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}
