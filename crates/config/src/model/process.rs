//! The process that serves.

use std::time::Duration;

/// As whom the process runs, and how it gives way to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// A name or number: who it becomes once its sockets are bound. `None`: whoever started it.
    pub user: Option<String>,
    /// A name or number. `None`: the user's own groups.
    pub group: Option<String>,
    /// Keep the right to bind ports below 1024. Default false.
    pub keep_bind: bool,
    /// After an upgrade, connections to the old process may last so long. Default 10 minutes.
    pub drain_timeout: Duration,
}

impl Default for Process {
    fn default() -> Self {
        Self { user: None, group: None, keep_bind: false, drain_timeout: Duration::from_secs(600) }
    }
}
