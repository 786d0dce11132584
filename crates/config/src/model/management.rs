//! The admin API, in the model.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::SecretBytes;

/// How a running Ravelin is looked at and told what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// The Unix socket.
    pub socket: AdminSocket,
    /// Rights of its file. Default 0600.
    pub socket_mode: u32,
    /// What those may do who connect to it. Default admin.
    pub socket_level: AdminLevel,
    /// Where it listens for TCP; `None`: nowhere.
    pub tcp: Option<SocketAddr>,
    /// What every request over TCP has to show. Without one only this machine is answered.
    pub api_key: Option<SecretBytes>,
    /// Names of this server in `Host`, beside its addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may ask, beside its own.
    pub allowed_origins: Vec<String>,
    /// An address at which there are metrics and nothing else, for everybody who gets there.
    pub metrics: Option<SocketAddr>,
    /// The stats page.
    pub stats: Option<StatsPage>,
    /// Bytes of each worker's memory of the last requests; 0: there is none. Default 1 MiB.
    pub recorder: usize,
}

/// A page with the numbers of all sites, pools and endpoints, as HAProxy has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsPage {
    /// Where it is served, and nothing else.
    pub listen: SocketAddr,
    /// Path and query of the page, which those of its other forms begin with.
    pub uri: String,
    /// Browsers load it again after this.
    pub refresh: Option<Duration>,
    /// Names and passwords of those who may see it; everybody may if there are none.
    pub auth: Vec<(String, SecretBytes)>,
    /// They may steer endpoints, too.
    pub admin: bool,
}

/// Where the Unix socket of the admin API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminSocket {
    /// Where the process's user has such files, named after the configuration.
    Default,
    /// There is none.
    None,
    /// Here; if it cannot be made, nothing is served.
    Path(PathBuf),
}

/// What somebody may do, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminLevel {
    /// Look.
    User,
    /// Also what goes on with what is configured: endpoints, connections, reading the files again.
    Operator,
    /// Everything.
    Admin,
}

impl AdminLevel {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Default for Management {
    fn default() -> Self {
        Self {
            socket: AdminSocket::Default,
            socket_mode: 0o600,
            socket_level: AdminLevel::Admin,
            tcp: None,
            api_key: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            metrics: None,
            stats: None,
            recorder: 1024 * 1024,
        }
    }
}
