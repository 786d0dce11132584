//! Where the Unix socket of the admin API is, for those who serve at it and those who look for it.
//!
//! The file has the name of the configuration that is served, so that two on one machine do not collide
//! and `ravelin reload -c FILE` finds the right one.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::timeout;
use xxhash_rust::xxh3::Xxh3;

/// Sockets in a directory that are looked at whether they are of any use, and for how long each.
const SWEPT_MAX: usize = 256;
const SWEEP_TIME: Duration = Duration::from_millis(100);

/// How the names of sockets end.
pub const EXTENSION: &str = "sock";

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// Somebody who listens takes a connection within this, unless it is very busy.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// The socket of a process that serves these files, if its configuration names no other.
pub fn default_path(configuration: &[PathBuf]) -> PathBuf {
    directory().join(name(configuration))
}

/// The name of that socket, the same for everybody who means the same files.
pub fn name(configuration: &[PathBuf]) -> String {
    if configuration.is_empty() {
        return format!("{}.{EXTENSION}", std::process::id());
    }
    let mut hash = Xxh3::new();
    for path in configuration {
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        hash.update(whole.as_os_str().as_encoded_bytes());
        hash.update(b"\0");
    }
    format!("{:016x}.{EXTENSION}", hash.digest())
}

/// Where sockets may be, of this user and of the system, each once.
pub fn directories() -> Vec<PathBuf> {
    let mut all = vec![directory(), PathBuf::from(SYSTEM)];
    all.extend(of_session());
    all.push(of_user());
    let mut seen = Vec::new();
    all.retain(|one| {
        let new = !seen.contains(one);
        seen.push(one.clone());
        new
    });
    all.retain(|one| *one != of_user() || is_private(one));
    all
}

const SYSTEM: &str = "/run/ravelin";

/// Where this process has its socket.
fn directory() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").filter(|it| !it.is_empty());
    if let Some(given) = given {
        // systemd gives several with colons between them.
        let first = given.to_str().and_then(|all| all.split(':').next()).map(PathBuf::from);
        return first.unwrap_or_else(|| given.into());
    }
    // Root has it, or whoever it was made for before that was given up.
    let user = rustix::process::geteuid();
    let is_own = fs::metadata(SYSTEM).is_ok_and(|data| data.uid() == user.as_raw());
    if user.is_root() || is_own {
        return PathBuf::from(SYSTEM);
    }
    of_session().unwrap_or_else(of_user)
}

fn of_session() -> Option<PathBuf> {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|it| !it.is_empty())?;
    Some(PathBuf::from(given).join("ravelin"))
}

fn of_user() -> PathBuf {
    PathBuf::from(format!("/tmp/ravelin-{}", rustix::process::geteuid().as_raw()))
}

/// Nobody else can have put anything there.
fn is_private(directory: &Path) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|data| {
        data.is_dir()
            && data.uid() == rustix::process::geteuid().as_raw()
            && data.mode() & 0o077 == 0
    })
}

/// The file of a socket that this process listens at; it is removed with this, unless another process
/// has put its own there.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl File {
    /// Whether the file is there, and no other has taken its place.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|data| data.dev() == self.device && data.ino() == self.inode)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.is_there() {
            // If it cannot be, it is a socket that nobody listens at: it is replaced by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, whose directory is made if `own_directory`. A socket that nobody listens at, or that
/// belongs to the process which is about to hand over to this one, is replaced.
pub(super) async fn listen(
    path: &Path,
    mode: u32,
    own_directory: bool,
    takes_over: bool,
) -> io::Result<(UnixListener, File)> {
    if own_directory && let Some(directory) = path.parent() {
        prepare(directory)?;
        sweep(directory).await;
    }
    match fs::symlink_metadata(path) {
        Ok(data) if !data.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "the file is no socket"));
        }
        Ok(_) => free(path, takes_over).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Under another name first: a connection is answered, or there is no such file.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let bound = bind(&temporary, mode).and_then(|listener| {
        let data = fs::symlink_metadata(&temporary)?;
        fs::rename(&temporary, path)?;
        let file = File { path: path.to_owned(), device: data.dev(), inode: data.ino() };
        Ok((listener, file))
    });
    if bound.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    bound
}

fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    // The file gets these rights when it is made: at no moment has it more than it should.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    socket.bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)
}

/// Removes what processes have left that were killed: sockets that nobody listens at. A file has its name
/// here only when somebody listens, so none that is about to be used is among them.
async fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let sockets = paths.filter(|path| path.extension().is_some_and(|end| end == EXTENSION));
    for path in sockets.take(SWEPT_MAX) {
        let connected = timeout(SWEEP_TIME, UnixStream::connect(&path)).await;
        if matches!(connected, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused) {
            // Another user's stays.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether the socket at `path` may be replaced.
async fn free(path: &Path, takes_over: bool) -> io::Result<()> {
    match timeout(CONNECT_TIME, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
            if takes_over && pid.is_some() && pid == parent {
                return Ok(());
            }
            let who =
                pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Err(io::Error::new(ErrorKind::AddrInUse, format!("{who} listens there")))
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(ErrorKind::AddrInUse, "somebody listens there")),
    }
}

/// Makes the directory for sockets. In a place where everybody may write it has to be this user's alone.
fn prepare(directory: &Path) -> io::Result<()> {
    let private = directory == of_user();
    let mode = if private { 0o700 } else { 0o755 };
    match DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if private && !is_private(directory) {
        let reason = format!("{} is not a directory of this user alone", directory.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_files_however_they_are_written() {
        let here = std::env::current_dir().unwrap();
        let file = PathBuf::from("Cargo.toml");
        let whole = here.join("Cargo.toml");
        assert_eq!(name(std::slice::from_ref(&file)), name(&[whole]));
        assert_eq!(name(std::slice::from_ref(&file)), name(&["./src/../Cargo.toml".into()]));
        assert_ne!(name(std::slice::from_ref(&file)), name(&[file, "src".into()]));
        assert_eq!(name(&["a".into()]).len(), 16 + 5);
    }
}
