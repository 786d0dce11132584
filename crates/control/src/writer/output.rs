//! What a writer writes to.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use config::model::{LogTarget, Logging};

use super::file::LogFile;
use super::syslog::Syslog;
use super::{Lost, lines_in};

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

    /// Writes whole lines.
    pub(super) fn write(&mut self, block: &[u8], lines: u64) -> Lost {
        let (written, trouble) = match self {
            Self::Stream(to, _) => (to.write(block), None),
            Self::File(file) => file.write(block),
            Self::Syslog(syslog) => return syslog.write(block, lines),
        };
        let lost = match written {
            Ok(()) => Lost::default(),
            Err(Cut { written, error }) => {
                let whole = lines_in(block.get(..written).unwrap_or_default());
                let lines = lines.saturating_sub(whole);
                match error.kind() {
                    ErrorKind::WouldBlock => Lost::because(lines, "nobody reads it"),
                    _ => Lost::because(lines, error),
                }
            }
        };
        Lost { trouble, ..lost }
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

/// A block was not written, or not all of it.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes of it that were.
    pub(super) written: usize,
    pub(super) error: io::Error,
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

    /// Writes the whole block. A line that an earlier failure cut is ended first, so that the next one
    /// stands alone.
    pub(super) fn write(&mut self, block: &[u8]) -> Result<(), Cut> {
        if self.torn {
            self.write_all(b"\n").map_err(|cut| Cut { written: 0, ..cut })?;
        }
        self.write_all(block)
    }

    fn write_all(&mut self, block: &[u8]) -> Result<(), Cut> {
        let mut waited = Duration::ZERO;
        let mut rest = block;
        while !rest.is_empty() {
            let written = block.len() - rest.len();
            match self.file.write(rest) {
                Ok(0) => return Err(Cut { written, error: ErrorKind::WriteZero.into() }),
                Ok(more) => {
                    let (done, left) = rest.split_at(more.min(rest.len()));
                    self.torn = done.last() != Some(&b'\n');
                    rest = left;
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
