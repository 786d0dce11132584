//! A service manager that speaks systemd's protocols: what it is told (sd_notify(3)), the sockets it
//! passes (sd_listen_fds(3)), and the sign of life it wants (sd_watchdog_enabled(3)).
//!
//! Nothing here fails: where there is no manager, nobody is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use net::handover::activated;
use net::listener::{Local, Stock};
use rustix::time::{ClockId, clock_gettime};

/// Variables that are meant for one process only and must not be seen by one that takes its place.
pub(crate) const OWN_VARIABLES: &[&str] =
    &["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID"];

/// The manager that started this process, if one did.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    pub(crate) fn of_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| socket_at(&name).ok());
        let variable = |name| std::env::var(name).ok();
        let own = std::process::id().to_string();
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| variable("WATCHDOG_PID").is_none_or(|pid| pid == own))
            .and_then(|micros| micros.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// Serves now; also after a reload.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=Serving");
    }

    /// Takes a new configuration; to be followed by [`Manager::ready`].
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading"));
    }

    /// Ends when requests under way are finished.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping");
    }

    /// This process is the one that serves.
    pub(crate) fn main_process(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// Is alive.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// It wants to be told so at least this often. Half of what it waits, as its manual says.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not listen has lost interest; there is nobody to tell that.
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}

/// A path, or a name of Linux's own after an `@`.
fn socket_at(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?; // a manager that is slow must hold up nobody
    Ok((socket, address))
}

/// Puts the sockets that the manager passed into `stock` and says where they listen. They are found by
/// that, whatever their names are.
///
/// # Errors
/// One of them is no listening stream socket; the text says which.
pub(crate) fn sockets(stock: &mut Stock) -> Result<Vec<Local>, String> {
    let variable = |name| std::env::var(name).ok();
    let (pid, number) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let passed = activated(pid.as_deref(), number.as_deref())
        .map_err(|error| format!("the sockets of LISTEN_FDS cannot be taken: {error}"))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut take = |socket| {
        let name = names.next().filter(|name| !name.is_empty());
        stock.activate(socket).map_err(|error| {
            let name = name.unwrap_or_else(|| "unknown".to_owned());
            format!("the socket \"{name}\" of the service manager cannot be used: {error}")
        })
    };
    passed.into_iter().map(&mut take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_at_a_path_or_an_abstract_name() {
        let name = format!("ravelin-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (given, listening) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ] {
            listening.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let manager = Manager { socket: socket_at(&given).ok(), watchdog: None };
            manager.main_process(17);
            manager.reloading();
            let mut told = [0; 256];
            let length = listening.recv(&mut told).unwrap();
            assert_eq!(&told[..length], b"MAINPID=17");
            let length = listening.recv(&mut told).unwrap();
            let said = std::str::from_utf8(&told[..length]).unwrap();
            let micros = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.split('\n').next().unwrap().parse::<u64>().unwrap() > 0);
        }
        std::fs::remove_file(&path).unwrap();
        let nobody = Manager { socket: socket_at(path.as_os_str()).ok(), watchdog: None };
        nobody.ready();
        Manager::default().ready();
    }
}
