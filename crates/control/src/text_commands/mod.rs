//! The commands of HAProxy's admin socket (version 2.6), so that what teams have for it goes on
//! working: a line in, several commands with `;`, an empty line after each answer.
//!
//! - `words`: a line taken apart
//! - `commands`: what there is, `help`, and who may
//! - `servers`: endpoints: their state, connections, weight
//! - `stat`: counters, as CSV, typed or JSON; `info`: the process
//!
//! A pool is a backend and an endpoint a server; a site is a frontend. See
//! [`endpoints`](crate::endpoints) for their names.
//!
//! What always holds: a line is no longer than [`LINE_MAX`]; a client that sends nothing is let go
//! after a time, or at once if its place is needed; whoever gave the stream bounds how long one may read nothing.

mod columns;
mod commands;
mod info;
mod servers;
pub(crate) mod stat;
mod words;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use config::model::AdminLevel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use self::words::Line;
use crate::admin::Running;
use crate::admin::places::Seat;
use crate::orders::Author;

/// Longest line, in bytes, as with HAProxy's default buffers.
pub const LINE_MAX: usize = 16 * 1024;
/// A client that sends nothing for so long is let go, unless it asks for more with `set timeout cli`.
const IDLE: Duration = Duration::from_secs(30);
/// Most that it may ask for.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What one connection has agreed on.
struct Session<'a> {
    running: &'a Running,
    author: &'a Author,
    level: AdminLevel,
    is_interactive: bool,
    idle: Duration,
}

/// What is to happen after a command.
enum After {
    /// Its answer is sent, which may be empty.
    Answer(String),
    /// The connection ends.
    Quit,
}

/// Answers the commands that come by `stream`, until there are none, or one line without `prompt`.
///
/// # Errors
/// The connection broke off.
pub(crate) async fn serve<S>(
    running: &Running,
    mut stream: S,
    author: &Author,
    level: AdminLevel,
    seat: &Rc<Seat>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut session = Session { running, author, level, is_interactive: false, idle: IDLE };
    let mut lines = Lines::default();
    while let Ok(line) = timeout(session.idle, lines.next(&mut stream)).await {
        let Some(line) = line? else { break };
        for command in Line::new(&line).commands() {
            let asked = seat.ask();
            asked.is_whole();
            let mut answer = match session.run(&command).await {
                After::Answer(answer) => answer,
                After::Quit => return stream.shutdown().await,
            };
            answer.push('\n');
            if session.is_interactive {
                answer.push_str("> ");
            }
            drop(asked);
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.flush().await?;
        if !session.is_interactive && !lines.has_more(&mut stream).await {
            break;
        }
    }
    stream.shutdown().await
}

impl Session<'_> {
    async fn run(&mut self, words: &[String]) -> After {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = match words.as_slice() {
            ["prompt", ..] => {
                self.is_interactive = !self.is_interactive;
                String::new()
            }
            ["quit", ..] => return After::Quit,
            ["help", like @ ..] => commands::help(like),
            ["user", ..] => self.lower(AdminLevel::User),
            ["operator", ..] => self.lower(AdminLevel::Operator),
            ["set", "timeout", "cli", more @ ..] => self.set_timeout(more),
            ["show", "cli", "level", ..] => format!("{}\n", self.level.as_str()),
            ["show", "version", ..] => format!("{}\n", env!("CARGO_PKG_VERSION")),
            ["show", "info", how @ ..] => info::show(self.running, how),
            ["show", "stat", how @ ..] => stat::show(self.running, how).await,
            ["show", "backend", ..] => servers::show_backend(self.running),
            ["show", "servers", "state", more @ ..] => servers::show_state(self.running, more),
            ["show", "servers", "conn", more @ ..] => {
                servers::show_connections(self.running, more).await
            }
            ["get", "weight", more @ ..] => servers::get_weight(self.running, more),
            ["set", "server", ..]
            | ["set", "weight", ..]
            | ["disable", "server", ..]
            | ["enable", "server", ..]
                if self.level < AdminLevel::Admin =>
            {
                commands::DENIED.to_owned()
            }
            ["set", "server", more @ ..] => servers::set_server(self.running, self.author, more),
            ["set", "weight", more @ ..] => servers::set_weight(self.running, self.author, more),
            ["disable", "server", more @ ..] => {
                servers::switch(self.running, self.author, more, false)
            }
            ["enable", "server", more @ ..] => {
                servers::switch(self.running, self.author, more, true)
            }
            other => commands::unknown(other),
        };
        After::Answer(answer)
    }

    /// One may do less from now on, never more.
    fn lower(&mut self, level: AdminLevel) -> String {
        if self.level < level {
            return commands::DENIED.to_owned();
        }
        self.level = level;
        String::new()
    }

    fn set_timeout(&mut self, words: &[&str]) -> String {
        let Some(text) = words.first() else { return "Expects an integer value.\n".to_owned() };
        match words::duration(text) {
            Some(idle) if !idle.is_zero() => {
                self.idle = idle.min(IDLE_MAX);
                String::new()
            }
            _ => "Invalid timeout value.\n".to_owned(),
        }
    }
}

/// The lines of a stream.
#[derive(Default)]
struct Lines {
    /// What was read and not taken.
    buffer: Vec<u8>,
    /// Of it, how much is known to have no end of a line.
    seen: usize,
    is_over: bool,
}

impl Lines {
    /// The next line without its end; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream broke off, or the line is too long.
    async fn next<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<Option<String>> {
        loop {
            let unseen = self.buffer.get(self.seen..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let line: Vec<u8> = self.buffer.drain(..=self.seen + at).collect();
                self.seen = 0;
                return Ok(Some(text(&line)));
            }
            self.seen = self.buffer.len();
            if self.is_over {
                let rest = std::mem::take(&mut self.buffer);
                self.seen = 0;
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
            if self.buffer.len() >= LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.buffer.reserve(LINE_MAX);
            // What is read is kept if this is dropped here.
            self.is_over = stream.read_buf(&mut self.buffer).await? == 0;
        }
    }

    /// There is another line, of what has come by now.
    async fn has_more<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> bool {
        if !self.buffer.contains(&b'\n') && self.buffer.len() < LINE_MAX {
            self.buffer.reserve(LINE_MAX);
            // What is there is read, and nothing is waited for.
            if let Ok(Ok(0)) = timeout(Duration::ZERO, stream.read_buf(&mut self.buffer)).await {
                self.is_over = true;
            }
        }
        self.buffer.contains(&b'\n') || self.is_over && !self.buffer.is_empty()
    }
}

fn text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end_matches(['\n', '\r']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut near, mut far) = tokio::io::duplex(LINE_MAX * 4);
        for chunk in chunks {
            far.write_all(chunk).await.unwrap();
        }
        drop(far);
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        while let Some(line) = lines.next(&mut near).await.unwrap() {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn lines_end_with_a_line_feed_or_the_stream() {
        assert_eq!(
            lines(&[b"show ", b"info\r\nhel", b"p\n\nquit"]).await,
            ["show info", "help", "", "quit"]
        );
        assert!(lines(&[]).await.is_empty());
    }

    #[tokio::test]
    async fn what_has_come_is_more_and_what_may_come_is_not() {
        let (mut near, mut far) = tokio::io::duplex(LINE_MAX);
        let mut lines = Lines::default();
        far.write_all(b"one\n").await.unwrap();
        assert_eq!(lines.next(&mut near).await.unwrap().as_deref(), Some("one"));
        assert!(!lines.has_more(&mut near).await);
        far.write_all(b"two\nthr").await.unwrap();
        assert!(lines.has_more(&mut near).await);
        assert_eq!(lines.next(&mut near).await.unwrap().as_deref(), Some("two"));
        assert!(!lines.has_more(&mut near).await);
        drop(far);
        assert!(lines.has_more(&mut near).await);
        assert_eq!(lines.next(&mut near).await.unwrap().as_deref(), Some("thr"));
        assert!(!lines.has_more(&mut near).await);
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up() {
        let (mut near, mut far) = tokio::io::duplex(LINE_MAX * 4);
        far.write_all(&vec![b'a'; LINE_MAX * 2]).await.unwrap();
        let error = Lines::default().next(&mut near).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
