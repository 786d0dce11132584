//! Keeps up to date what credentials are checked with: files of users and of keys, which are read again
//! when they change, and key sets, which are fetched.
//!
//! What always holds: a request never waits for any of this; what cannot be read or fetched changes
//! nothing and is told once; keys that could not be fetched for [`STALE_MAX`] are not believed any
//! more; nothing secret is in the log.

mod fetch;
mod files;

use proxy::auth::{KeySource, Sources};
use proxy::log::ErrorLog;
use tokio::sync::watch::{Sender, channel};
use tokio::task::JoinSet;

use self::fetch::Http;
pub use self::fetch::STALE_MAX;
use self::files::{Watched, watch};

/// The tasks that keep everything up to date; they end when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends reading and fetching"]
pub struct Upkeep {
    wake: Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Upkeep {
    /// Reads changed files and fetches key sets at once: for SIGHUP.
    pub fn look_now(&self) {
        self.wake.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Starts keeping `sources` up to date on the current runtime, until what this returns is dropped.
///
/// # Errors
/// The authorities that may vouch for the server of a key set cannot be read.
pub fn start(sources: &Sources, log: &ErrorLog) -> Result<Upkeep, String> {
    let (wake, woken) = channel(0);
    let mut tasks = JoinSet::new();
    let users = sources.users.iter().map(Watched::users);
    let keys = sources.keys.iter().filter_map(Watched::keys);
    let watched: Vec<Watched> = users.chain(keys).collect();
    if !watched.is_empty() {
        tasks.spawn(watch(watched, log.clone(), woken.clone()));
    }
    for ring in &sources.keys {
        if let KeySource::JwksUrl { url, ca_file, refresh } = ring.source() {
            let http = Http::new(url, ca_file.as_deref())?;
            tasks.spawn(fetch::keep(ring.clone(), http, *refresh, log.clone(), woken.clone()));
        }
    }
    Ok(Upkeep { wake, _tasks: tasks })
}

/// Says what would keep [`start`] from starting, so that a check can tell it. Changes nothing.
///
/// # Errors
/// As for [`start`].
pub fn inspect(sources: &Sources) -> Result<(), String> {
    for ring in &sources.keys {
        if let KeySource::JwksUrl { url, ca_file, .. } = ring.source() {
            Http::new(url, ca_file.as_deref())?;
        }
    }
    Ok(())
}
