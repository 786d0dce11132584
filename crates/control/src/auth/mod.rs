//! Keeps up to date what credentials are checked with: files of users and of keys, which are read again
//! when they change, and key sets, which are fetched.
//!
//! What always holds: a request never waits for any of this; what cannot be read or fetched changes
//! nothing and is told once; keys that could not be fetched for [`STALE_MAX`] are not believed any
//! more; nothing secret is in the log.

mod fetch;
mod files;

use std::sync::{Arc, Mutex};

use proxy::auth::{KeyRing, KeySource, Sources};
use proxy::log::ErrorLog;
use tokio::sync::watch::{Sender, channel};
use tokio::task::{AbortHandle, JoinSet};

use self::fetch::Http;
pub use self::fetch::STALE_MAX;
use self::files::{Watched, watch};

/// The tasks that keep everything up to date; they end when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends reading and fetching"]
pub struct Upkeep {
    wake: Sender<u64>,
    /// Looks at the files.
    watching: Option<AbortHandle>,
    watched: Vec<Arc<Mutex<Watched>>>,
    /// Fetch key sets.
    fetching: Vec<(Arc<KeyRing>, AbortHandle)>,
    tasks: JoinSet<()>,
}

/// What is to be kept up to date instead of what is.
pub struct Prepared {
    sources: Sources,
    /// For those that are not fetched already.
    clients: Vec<(Arc<KeyRing>, Http)>,
}

impl Upkeep {
    /// Makes ready to keep `sources` up to date, but those that are already. Changes nothing.
    ///
    /// # Errors
    /// As for [`start`].
    pub fn prepare(&self, sources: &Sources) -> Result<Prepared, String> {
        let mut clients = Vec::new();
        for ring in &sources.keys {
            let is_fetched = self.fetching.iter().any(|(known, _)| Arc::ptr_eq(known, ring));
            if let KeySource::JwksUrl { url, ca_file, .. } = ring.source()
                && !is_fetched
            {
                clients.push((Arc::clone(ring), Http::new(url, ca_file.as_deref())?));
            }
        }
        Ok(Prepared { sources: sources.clone(), clients })
    }

    /// From now on these are kept up to date and no others. Those that were already are not read or
    /// fetched for that.
    pub fn replace(&mut self, prepared: Prepared, log: &ErrorLog) {
        let Prepared { sources, clients } = prepared;
        let mut watched = Vec::new();
        let users = sources.users.iter().map(Watched::users);
        let keys = sources.keys.iter().filter_map(Watched::keys);
        for new in users.chain(keys) {
            let same = self.watched.iter().find(|known| files::lock(known).is_same(&new));
            let watched_by = same.cloned().unwrap_or_else(|| Arc::new(Mutex::new(new)));
            watched.push(watched_by);
        }
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        if !watched.is_empty() {
            let watching = watch(watched.clone(), log.clone(), self.wake.subscribe());
            self.watching = Some(self.tasks.spawn(watching));
        }
        self.watched = watched;
        self.fetching.retain(|(ring, task)| {
            let is_used = sources.keys.iter().any(|used| Arc::ptr_eq(used, ring));
            if !is_used {
                task.abort();
            }
            is_used
        });
        for (ring, http) in clients {
            let KeySource::JwksUrl { refresh, .. } = ring.source() else { continue };
            if self.fetching.iter().any(|(known, _)| Arc::ptr_eq(known, &ring)) {
                continue;
            }
            let (refresh, woken) = (*refresh, self.wake.subscribe());
            let keep = fetch::keep(Arc::clone(&ring), http, refresh, log.clone(), woken);
            let task = self.tasks.spawn(keep);
            self.fetching.push((ring, task));
        }
        while self.tasks.try_join_next().is_some() {}
    }

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
    let (wake, _) = channel(0);
    let mut upkeep = Upkeep {
        wake,
        watching: None,
        watched: Vec::new(),
        fetching: Vec::new(),
        tasks: JoinSet::new(),
    };
    let prepared = upkeep.prepare(sources)?;
    upkeep.replace(prepared, log);
    Ok(upkeep)
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
