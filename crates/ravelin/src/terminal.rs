//! Talking to whoever started the process: before there is a log, and when there is none.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use clap::ColorChoice;

/// Why a command could not do what it was asked to; ends the process with status 1.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Everything has been said already.
    Told,
    /// One sentence what went wrong, and what to do about it (may be empty).
    Plain(String, String),
}

impl Failure {
    /// A failure with advice.
    pub(crate) fn new(what: impl fmt::Display, advice: impl Into<String>) -> Self {
        Self::Plain(what.to_string(), advice.into())
    }
}

/// Writes a failure to standard error.
pub(crate) fn tell(failure: &Failure, color: ColorChoice) {
    if let Failure::Plain(what, advice) = failure {
        let stderr = io::stderr();
        let (red, cyan, off) = match colored(color, &stderr) {
            true => ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m"),
            false => ("", "", ""),
        };
        let mut text = format!("{red}error{off}: {what}\n");
        if !advice.is_empty() {
            text.push_str(&format!("{cyan}help{off}: {advice}\n"));
        }
        print(stderr, &text);
    }
}

/// Writes text to a standard stream. That nobody reads it is not our failure, so it is ignored.
pub(crate) fn print(mut to: impl Write, text: &str) {
    let _nobody_reads = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Writes what a command is for to standard output.
///
/// # Errors
/// It cannot be written, as when a disk is full. That nobody reads it (any more) is none.
pub(crate) fn show(text: &str) -> Result<(), Failure> {
    show_at(io::stdout(), text)
}

fn show_at(mut to: impl Write, text: &str) -> Result<(), Failure> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}"), ""))
        }
        _ => Ok(()),
    }
}

/// Whether to use terminal colours on this stream.
pub(crate) fn colored(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            stream.is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as it is told to.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_that_nobody_reads_is_no_failure() {
        assert!(show_at(Failing(io::ErrorKind::BrokenPipe), "x").is_ok());
        assert!(show_at(Failing(io::ErrorKind::StorageFull), "x").is_err());
    }
}
