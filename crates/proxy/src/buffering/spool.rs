//! Bytes kept between one who gives them and one who takes them at another pace.
//!
//! They are written at the end and read from the front: in memory first, in a temporary file beyond
//! that. A body that may be sent again is kept whole and read as often as needed, each time with a
//! [`Reading`] of its own; of one that only passes, what was read is forgotten.
//!
//! What always holds: a spool holds at most `max` bytes, at most `memory` of them in memory, and all
//! spools of a worker together at most [`WORKER_MEMORY_MAX`] of memory; bytes in memory come before
//! those in the file; a file is only made for a body that needs one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use config::model::Buffering;
use net::buffer::{BUFFER_SIZE, Buffer, Pool};

use super::temporary;

/// Memory of all spools of one worker (64 MiB). Beyond it bodies go to their files early: many slow
/// clients at once must not cost what a few may.
pub const WORKER_MEMORY_MAX: usize = 64 * 1024 * 1024;
/// Bytes given to or taken from a file by one system call. It is the page cache they are copied to,
/// so that this takes some tens of microseconds.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// The memory that the spools of one worker have in use.
#[derive(Debug, Default)]
pub struct SpoolMemory {
    chunks: Cell<usize>,
}

impl SpoolMemory {
    fn is_used_up(&self) -> bool {
        self.chunks.get() >= WORKER_MEMORY_MAX / BUFFER_SIZE
    }

    fn take(&self) {
        self.chunks.set(self.chunks.get() + 1);
    }

    fn give_back(&self, count: usize) {
        self.chunks.set(self.chunks.get().saturating_sub(count));
    }
}

/// Bytes on their way from one side to the other.
pub struct Spool {
    settings: Arc<Buffering>,
    buffers: Pool,
    shared: Rc<SpoolMemory>,
    /// Each but the last full when the next began.
    chunks: VecDeque<Buffer>,
    /// Bytes in the chunks.
    in_memory: usize,
    file: Option<File>,
    /// The bytes in the file are those from here to `file_end`, counted from the first that was ever
    /// there. They lie at the remainder by `max`, so that the file never gets longer.
    file_start: u64,
    file_end: u64,
    /// The file cannot be written any more.
    memory_only: bool,
}

/// How far somebody has read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    chunk: usize,
    offset: usize,
    file: u64,
}

/// The temporary file failed: neither the client nor the upstream is to blame, but the machine or
/// the configuration.
#[derive(Debug)]
pub struct SpoolError {
    directory: PathBuf,
    error: io::Error,
}

impl Spool {
    /// An empty spool within the bounds of `settings`.
    pub fn new(settings: Arc<Buffering>, buffers: Pool, shared: Rc<SpoolMemory>) -> Self {
        Self {
            settings,
            buffers,
            shared,
            chunks: VecDeque::new(),
            in_memory: 0,
            file: None,
            file_start: 0,
            file_end: 0,
            memory_only: false,
        }
    }

    /// Bytes that it holds: those that were added and not forgotten.
    pub fn len(&self) -> u64 {
        self.in_memory as u64 + self.in_file()
    }

    /// It holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds some of `bytes` at the end and says how many: none if the spool is full, and not more
    /// than one call may write to a file.
    ///
    /// # Errors
    /// The temporary file cannot be made or written. The spool is as it was before.
    pub fn add(&mut self, bytes: &[u8]) -> Result<usize, SpoolError> {
        let room = self.settings.max.saturating_sub(self.len());
        let most = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(..most).unwrap_or_default();
        if self.in_file() == 0 {
            let added = self.add_to_memory(bytes);
            if added > 0 || bytes.is_empty() {
                return Ok(added);
            }
        }
        match self.memory_only {
            true => Ok(0),
            false => self.add_to_file(bytes).map_err(|error| self.blame(error)),
        }
    }

    /// Copies what comes after `reading` into `buf`, and moves it on. 0 if there is nothing more, for
    /// now.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn read(&self, reading: &mut Reading, buf: &mut [u8]) -> Result<usize, SpoolError> {
        let mut copied = 0;
        while let Some(chunk) = self.chunks.get(reading.chunk) {
            let from = chunk.get(reading.offset..).unwrap_or_default();
            let to = buf.get_mut(copied..).unwrap_or_default();
            let count = from.len().min(to.len());
            if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
                to.copy_from_slice(from);
            }
            copied += count;
            reading.offset += count;
            // The last one may get more.
            if reading.offset < chunk.len() || reading.chunk + 1 >= self.chunks.len() {
                break;
            }
            reading.chunk += 1;
            reading.offset = 0;
        }
        if copied > 0 || reading.file >= self.file_end {
            return Ok(copied);
        }
        let count = self.read_file(reading.file, buf).map_err(|error| self.blame(error))?;
        reading.file += count as u64;
        Ok(count)
    }

    /// There is something after `reading`.
    pub fn has_more(&self, reading: &Reading) -> bool {
        let rest = |chunk: &Buffer| reading.offset < chunk.len();
        self.chunks.get(reading.chunk).is_some_and(rest)
            || reading.chunk + 1 < self.chunks.len()
            || reading.file < self.file_end
    }

    /// Drops what comes before `reading`, which must be the only one. What lies in a chunk of memory
    /// is dropped when all of the chunk was read.
    pub fn forget(&mut self, reading: &mut Reading) {
        while reading.chunk > 0 {
            self.drop_first();
            reading.chunk -= 1;
        }
        if self.chunks.len() == 1
            && self.chunks.front().is_some_and(|last| last.len() <= reading.offset)
        {
            self.drop_first();
            reading.offset = 0;
        }
        self.file_start = reading.file;
        if self.in_file() == 0 {
            (self.file_start, self.file_end, reading.file) = (0, 0, 0);
        }
    }

    /// Makes do without a file from here on: it holds as much as the memory has room for, and that is
    /// never nothing.
    pub fn give_up_file(&mut self) {
        self.memory_only = true;
    }

    fn in_file(&self) -> u64 {
        self.file_end.saturating_sub(self.file_start)
    }

    fn add_to_memory(&mut self, bytes: &[u8]) -> usize {
        let memory = match self.memory_only {
            true => self.settings.memory.max(BUFFER_SIZE),
            false => self.settings.memory,
        };
        let mut added = 0;
        loop {
            let most = memory.saturating_sub(self.in_memory).min(bytes.len() - added);
            let rest = bytes.get(added..added + most).unwrap_or_default();
            if rest.is_empty() {
                return added;
            }
            let count = self.chunks.back_mut().map_or(0, |last| last.append(rest));
            if count == 0 {
                let first = self.memory_only && self.chunks.is_empty();
                if self.shared.is_used_up() && !first {
                    return added;
                }
                self.shared.take();
                self.chunks.push_back(self.buffers.get());
            }
            self.in_memory += count;
            added += count;
        }
    }

    fn add_to_file(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (at, most) = self.place(self.file_end);
        let bytes = bytes.get(..most.min(bytes.len())).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(0);
        }
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = temporary::open(&directory(&self.settings))?;
                self.file.insert(file)
            }
        };
        let count = again(|| file.write_at(bytes, at))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.file_end += count as u64;
        Ok(count)
    }

    fn read_file(&self, from: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let (at, most) = self.place(from);
        let there = usize::try_from(self.file_end - from).unwrap_or(usize::MAX);
        let most = most.min(there).min(buf.len());
        let count = again(|| file.read_at(buf.get_mut(..most).unwrap_or_default(), at))?;
        match count {
            // Somebody has shortened it, though it has no name.
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(count),
        }
    }

    /// Where the byte `number` lies in the file, and how many may be moved from there at once.
    fn place(&self, number: u64) -> (u64, usize) {
        let at = number % self.settings.max.max(1);
        let to_end = usize::try_from(self.settings.max - at).unwrap_or(usize::MAX);
        (at, to_end.min(FILE_BYTES_MAX))
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            self.in_memory = self.in_memory.saturating_sub(chunk.len());
            self.shared.give_back(1);
        }
    }

    fn blame(&self, error: io::Error) -> SpoolError {
        SpoolError { directory: directory(&self.settings).into_owned(), error }
    }
}

/// Where temporary files are.
fn directory(settings: &Buffering) -> std::borrow::Cow<'_, Path> {
    match &settings.directory {
        Some(directory) => directory.into(),
        None => std::env::temp_dir().into(),
    }
}

/// Calls once more what a signal has interrupted.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.give_back(self.chunks.len());
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spool({} bytes in memory, {} in a file)", self.in_memory, self.in_file())
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, error } = self;
        write!(f, "temporary file in {}: {error}", directory.display())
    }
}

impl std::error::Error for SpoolError {}

#[cfg(test)]
mod tests;
