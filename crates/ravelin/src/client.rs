//! Asking a running Ravelin: finds its admin API, sends a request, reads the answer.
//!
//! HTTP/1.0 on a connection of its own, so that an answer is all there is until its end. Blocking: a command
//! has nothing else to do.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use config::model::AdminSocket;
use control::admin::socket;
use serde_json::Value;

use crate::cli::Common;
use crate::configuration;
use crate::terminal::Failure;

/// To be connected to.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Between two pieces of an answer: the longest order may take this long, and a little more.
const ANSWER_TIME: Duration = Duration::from_secs(240);
/// Longest head of an answer.
const HEAD_MAX: u64 = 64 * 1024;
/// Longest answer, in bytes.
const BODY_MAX: u64 = 256 * 1024 * 1024;
/// Sockets that are listed where there are several.
const SHOWN_MAX: usize = 16;

/// Which process is meant.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The process that serves this configuration; may be given several times, as for `run`. Without it the
    /// only one that runs
    #[arg(short, long = "config", value_name = "FILE|DIR")]
    pub(crate) config: Vec<PathBuf>,

    /// The process with this admin socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "url"])]
    pub(crate) socket: Option<PathBuf>,

    /// The process whose admin API is here, such as http://127.0.0.1:7654
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) url: Option<String>,

    /// The file with the `api_key` for it
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Where a process is asked.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    token: Option<String>,
}

#[derive(Debug)]
enum Place {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status.
    pub(crate) status: u16,
    /// What is wrong.
    pub(crate) detail: String,
    /// What is wrong with a configuration, as `check` writes it.
    pub(crate) diagnostics: Vec<String>,
    /// The same for tools.
    pub(crate) findings: Vec<Value>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The process answers that it does not.
    Problem(Problem),
    /// There is no process, or it breaks off.
    Failure(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Failure(failure) => failure,
            Unanswered::Problem(problem) => Failure::new(problem.detail, advice(problem.status)),
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => "give the file with the `api_key` of `[management]`: `--token-file FILE`",
        403 => "ask on the admin socket, as a user who may",
        _ => "",
    }
}

impl Client {
    /// The process that is meant.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(crate) fn find(target: &Target, common: &Common) -> Result<Self, Failure> {
        if let Some(url) = &target.url {
            let token = target.token_file.as_deref().map(token).transpose()?;
            return Ok(Self { place: Place::Tcp(authority(url)?), token });
        }
        let path = match &target.socket {
            Some(path) => path.clone(),
            None if target.config.is_empty() => only_one(common)?,
            None => of_configuration(&target.config, common)?,
        };
        Ok(Self { place: Place::Unix(path), token: None })
    }

    /// The answer to a GET.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Unanswered> {
        self.ask("GET", path, None)
    }

    /// The answer to a request, which may have a body.
    ///
    /// # Errors
    /// There is none, or it is no success.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Unanswered> {
        let (status, mut content) = self.send(method, path, body)?;
        let mut bytes = Vec::new();
        let read = content.by_ref().take(BODY_MAX).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(&error))?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        match (status, value) {
            (200..=299, Some(value)) => Ok(value),
            (200..=299, None) => {
                let what = format!("{} answers something else than Ravelin", self.place());
                Err(Failure::new(what, "").into())
            }
            (_, value) => Err(Unanswered::Problem(problem(status, value.as_ref(), &bytes))),
        }
    }

    /// The lines of an answer as they come, for as long as there are any.
    ///
    /// # Errors
    /// There is no answer, or it is no success.
    #[allow(dead_code, reason = "for commands that follow a stream")]
    pub(crate) fn lines(
        &self,
        path: &str,
    ) -> Result<impl Iterator<Item = io::Result<String>> + use<>, Unanswered> {
        let (status, mut content) = self.send("GET", path, None)?;
        if !(200..=299).contains(&status) {
            let mut bytes = Vec::new();
            let read = content.by_ref().take(BODY_MAX).read_to_end(&mut bytes);
            read.map_err(|error| self.broken(&error))?;
            let value: Option<Value> = serde_json::from_slice(&bytes).ok();
            return Err(Unanswered::Problem(problem(status, value.as_ref(), &bytes)));
        }
        content.get_ref().wait_for_ever().map_err(|error| self.broken(&error))?;
        Ok(content.lines())
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match &self.place {
            Place::Unix(path) => path.display().to_string(),
            Place::Tcp(authority) => format!("http://{authority}"),
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, BufReader<Stream>), Failure> {
        let mut stream = self.connect()?;
        let host = match &self.place {
            Place::Unix(_) => "localhost",
            Place::Tcp(authority) => authority,
        };
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n");
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        if !body.is_empty() || method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let sent =
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        sent.map_err(|error| self.broken(&error))?;
        let mut content = BufReader::new(stream);
        let status = read_head(&mut content).map_err(|error| self.broken(&error))?;
        let Some(status) = status else {
            let what = format!("{} answers something else than HTTP", self.place());
            return Err(Failure::new(what, ""));
        };
        Ok((status, content))
    }

    fn connect(&self) -> Result<Stream, Failure> {
        let connected = match &self.place {
            Place::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Place::Tcp(authority) => connect_tcp(authority).map(Stream::Tcp),
        };
        let stream = connected.and_then(|stream| stream.patient().map(|()| stream));
        stream.map_err(|error| {
            let what = format!("cannot ask {}: {error}", self.place());
            let advice = match (error.kind(), &self.place) {
                (ErrorKind::PermissionDenied, _) => {
                    "its user may, or whom `socket_mode` of `[management]` lets in"
                }
                (ErrorKind::NotFound | ErrorKind::ConnectionRefused, Place::Unix(_)) => {
                    "no Ravelin serves there; `ravelin status` without arguments finds one that runs"
                }
                (ErrorKind::ConnectionRefused, Place::Tcp(_)) => {
                    "is `enabled = true` in `[management]`, and does it run?"
                }
                _ => "",
            };
            Failure::new(what, advice)
        })
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let why = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "it does not answer".to_owned(),
            _ => error.to_string(),
        };
        Failure::new(format!("{} broke off: {why}", self.place()), "")
    }
}

fn problem(status: u16, value: Option<&Value>, bytes: &[u8]) -> Problem {
    let member = |name| value.and_then(|value| value.get(name));
    let list = |name| member(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let detail = match member("detail").and_then(Value::as_str) {
        Some(detail) => detail.to_owned(),
        None => {
            let text = String::from_utf8_lossy(bytes);
            format!("answered {status}: {}", text.trim().chars().take(200).collect::<String>())
        }
    };
    let diagnostics = list("diagnostics");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Problem {
        status,
        detail,
        diagnostics: diagnostics.iter().filter_map(text).collect(),
        findings: list("findings"),
    }
}

/// Reads a head; the status, or `None` if it is none.
fn read_head(content: &mut impl BufRead) -> io::Result<Option<u16>> {
    let mut head = content.take(HEAD_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.trim().parse().ok()).filter(|_| is_http);
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.trim_end().is_empty() {
            return Ok(status);
        }
    }
}

/// The only process that runs, or the one that serves `ravelin.toml` of the working directory.
fn only_one(common: &Common) -> Result<PathBuf, Failure> {
    let directories = socket::directories();
    let (mut live, mut closed) = (Vec::new(), Vec::new());
    for path in directories.iter().flat_map(|directory| sockets_in(directory)) {
        match UnixStream::connect(&path) {
            Ok(_) => live.push(path),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => closed.push(path),
            Err(_) => {}
        }
    }
    let here = PathBuf::from("ravelin.toml");
    if let ([], true) = (&live[..], here.is_file())
        && let Ok(path) = of_configuration(std::slice::from_ref(&here), common)
        && UnixStream::connect(&path).is_ok()
    {
        return Ok(path);
    }
    match &live[..] {
        [one] => Ok(one.clone()),
        [] if !closed.is_empty() => Err(Failure::new(
            format!("may not ask {}", list(&closed)),
            "its user may, or whom `socket_mode` of `[management]` lets in",
        )),
        [] => Err(Failure::new(
            format!("no Ravelin runs here: nobody answers at a socket in {}", list(&directories)),
            "start one with `ravelin run`, or name the one that is meant: `-c FILE`, `--socket PATH` or \
             `--url http://127.0.0.1:7654 --token-file FILE`",
        )),
        several => Err(Failure::new(
            format!("several run here: {}", list(several)),
            "name the one that is meant: `--socket PATH`, or `-c FILE` with its configuration",
        )),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> =
        paths.iter().take(SHOWN_MAX).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(SHOWN_MAX);
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == socket::EXTENSION))
        .collect();
    paths.sort();
    paths
}

/// The socket of the process that serves these files: the one they name, or the one that is named after them.
fn of_configuration(paths: &[PathBuf], common: &Common) -> Result<PathBuf, Failure> {
    let named = configuration::load(paths, common)?.model.map(|model| model.management.socket);
    match named {
        Some(AdminSocket::Path(path)) => return Ok(path),
        Some(AdminSocket::None) => {
            return Err(Failure::new(
                "this configuration has no admin socket: `socket` of `[management]` is \"none\"",
                "use `--url` if it has `enabled = true`",
            ));
        }
        // A configuration that is wrong by now may be served as it was.
        Some(AdminSocket::Default) | None => {}
    }
    let name = socket::name(paths);
    let all: Vec<PathBuf> = socket::directories().iter().map(|it| it.join(&name)).collect();
    if let Some(path) = all.iter().find(|path| path.exists()) {
        return Ok(path.clone());
    }
    Err(Failure::new(
        format!("no Ravelin serves this configuration here: there is no {}", list(&all)),
        "start it with `ravelin run`; `ravelin status` without arguments finds one that runs",
    ))
}

/// Host and port of a URL.
fn authority(url: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::new(
            format!("`{url}` is no place to ask"),
            "write it as http://127.0.0.1:7654; TLS is spoken by what stands before it",
        )
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return Err(wrong());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

fn token(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display()), ""))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let what = format!("{} has no key in it", file.display());
        return Err(Failure::new(what, "it is one line with the `api_key` of `[management]`"));
    }
    Ok(token.to_owned())
}

fn connect_tcp(authority: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in authority.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn patient(&self) -> io::Result<()> {
        let (read, write) = (Some(ANSWER_TIME), Some(CONNECT_TIME));
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write))
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(read).and_then(|()| stream.set_write_timeout(write))
            }
        }
    }

    fn wait_for_ever(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(None),
            Self::Tcp(stream) => stream.set_read_timeout(None),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        let place = |url: &str| authority(url).ok();
        assert_eq!(place("http://127.0.0.1:7654").as_deref(), Some("127.0.0.1:7654"));
        assert_eq!(place("http://[::1]:7654/").as_deref(), Some("[::1]:7654"));
        assert_eq!(place("http://ops.example.com").as_deref(), Some("ops.example.com:80"));
        for url in ["127.0.0.1:7654", "https://a", "http://", "http://a/v1", "http://u@a"] {
            assert_eq!(place(url), None, "{url}");
        }
    }

    #[test]
    fn a_head_is_a_status() {
        let status = |text: &str| read_head(&mut text.as_bytes()).ok().flatten();
        assert_eq!(status("HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody"), Some(200));
        assert_eq!(status("HTTP/1.1 404\r\n\r\n"), Some(404));
        assert_eq!(status("SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(status("HTTP/1.1 200 OK\r\n"), None);
    }
}
