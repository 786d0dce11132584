//! What a writer writes to.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use config::model::{LogTarget, Logging};
use proxy::log::Block;

use super::file::LogFile;
use super::syslog::Syslog;
use super::{Lost, WRITE_BLOCKS, lines_in};

/// How long one block may wait for a non-blocking target to take more.
const WOULD_BLOCK_MAX: Duration = Duration::from_secs(5);
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(10);

/// Which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Error,
}

/// An open target.
#[derive(Debug)]
pub(super) enum Output {
    /// Standard output or error, and its name.
    Stream(Lines, &'static str),
    File(LogFile),
    Syslog(Box<Syslog>),
}

impl Output {
    /// Opens a target.
    ///
    /// # Errors
    /// It cannot be opened; the message names it. A syslog that is not there is none: it is looked for
    /// again.
    pub(super) fn open(target: &LogTarget, logging: &Logging, kind: Kind) -> io::Result<Self> {
        Ok(match target {
            // Not through `io::stdout()`, which would split blocks at line ends.
            LogTarget::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Self::Stream(Lines::to(file), "standard output")
            }
            LogTarget::Stderr => {
                let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
                Self::Stream(Lines::to(file), "standard error")
            }
            LogTarget::File(path) => Self::File(LogFile::open(path, logging.rotation)?),
            LogTarget::Syslog(address) => {
                Self::Syslog(Box::new(Syslog::new(address.clone(), &logging.syslog, kind)))
            }
        })
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stream(_, name) => (*name).to_owned(),
            Self::File(file) => file.path().display().to_string(),
            Self::Syslog(syslog) => syslog.name(),
        }
    }

    /// Opens a file again by its name, or a connection.
    ///
    /// # Errors
    /// It cannot be opened; what was open goes on.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(..) => Ok(()),
            Self::File(file) => file.reopen(),
            Self::Syslog(syslog) => {
                syslog.hang_up();
                Ok(())
            }
        }
    }

    /// How many blocks it should be given at once. One where it may have to wait for somebody who reads: each
    /// block has a time of its own for that.
    pub(super) fn blocks_at_once(&self) -> usize {
        match self {
            Self::File(file) if file.is_regular() => WRITE_BLOCKS,
            _ => 1,
        }
    }

    /// Writes blocks of whole lines, all at once if it can. Says what was lost of each.
    pub(super) fn write(&mut self, blocks: &[Block]) -> Vec<Lost> {
        let mut slices: Vec<_> = blocks.iter().map(|block| IoSlice::new(&block.bytes)).collect();
        let (written, trouble) = match self {
            Self::Stream(to, _) => (to.write(&mut slices), None),
            Self::File(file) => file.write(&mut slices),
            Self::Syslog(syslog) => {
                let write = |block: &Block| syslog.write(&block.bytes, block.lines);
                return blocks.iter().map(write).collect();
            }
        };
        let mut lost = match written {
            Ok(()) => blocks.iter().map(|_| Lost::default()).collect(),
            Err(cut) => cut.lost_of(blocks),
        };
        if let Some(first) = lost.first_mut() {
            first.trouble = trouble;
        }
        lost
    }

    /// Sees to what has to be done from time to time.
    pub(super) fn look(&mut self) -> Lost {
        match self {
            Self::Syslog(syslog) => syslog.look(),
            _ => Lost::default(),
        }
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self) -> Lost {
        match self {
            Self::Syslog(syslog) => syslog.finish(),
            _ => Lost::default(),
        }
    }
}

/// Blocks were not written, or not all of them.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes of them that were.
    pub(super) written: usize,
    pub(super) error: io::Error,
}

impl Cut {
    /// What was lost of each block.
    pub(super) fn lost_of(self, blocks: &[Block]) -> Vec<Lost> {
        let why = match self.error.kind() {
            ErrorKind::WouldBlock => "nobody reads it".to_owned(),
            _ => self.error.to_string(),
        };
        let mut left = self.written;
        let lost = |block: &Block| {
            let written = block.bytes.get(..left).unwrap_or(&block.bytes);
            left -= written.len();
            match block.lines.saturating_sub(lines_in(written)) {
                0 => Lost::default(),
                lines => Lost::because(lines, &why),
            }
        };
        blocks.iter().map(lost).collect()
    }
}

/// Lines one after the other, whatever fails in between.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) file: File,
    /// It ends in the middle of a line.
    torn: bool,
}

impl Lines {
    pub(super) fn to(file: File) -> Self {
        Self { file, torn: false }
    }

    /// Writes the blocks, whole. A line that an earlier failure cut is ended first, so that the next one
    /// stands alone.
    pub(super) fn write(&mut self, blocks: &mut [IoSlice<'_>]) -> Result<(), Cut> {
        if self.torn {
            let end = &mut [IoSlice::new(b"\n")];
            self.write_all(end).map_err(|cut| Cut { written: 0, ..cut })?;
        }
        self.write_all(blocks)
    }

    fn write_all(&mut self, mut rest: &mut [IoSlice<'_>]) -> Result<(), Cut> {
        let (mut written, mut waited) = (0_usize, Duration::ZERO);
        // Blocks at the front that are empty are gone with this.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(Cut { written, error: ErrorKind::WriteZero.into() }),
                Ok(more) => {
                    self.torn = byte_at(rest, more - 1) != Some(b'\n');
                    IoSlice::advance_slices(&mut rest, more);
                    written = written.saturating_add(more);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A named pipe, or somebody we share the terminal with has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock && waited < WOULD_BLOCK_MAX => {
                    thread::sleep(WOULD_BLOCK_PAUSE);
                    waited += WOULD_BLOCK_PAUSE;
                }
                Err(error) => return Err(Cut { written, error }),
            }
        }
        Ok(())
    }
}

fn byte_at(blocks: &[IoSlice<'_>], mut at: usize) -> Option<u8> {
    for block in blocks {
        match block.get(at) {
            Some(byte) => return Some(*byte),
            None => at -= block.len(),
        }
    }
    None
}
