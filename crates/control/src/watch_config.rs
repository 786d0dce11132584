//! Watches the files of the configuration, for those who want a change to be taken by itself.
//!
//! By looking at them every few seconds, as for certificates: that works for every way files are replaced.
//! What always holds: files are taken when two looks in a row have found the same; one state of the files
//! makes one order, whatever comes of it. Whoever carries it out leaves it at that if the files have been
//! read in this state already, by another's order.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::sleep;

use crate::certificates::{INTERVAL, SETTLE, Signature};
use crate::orders::{Author, Order, Orders};

/// Who gives the order.
pub const AUTHOR: &str = "file watch";

/// Says which files there are now: a directory may have other ones than before.
pub type Files = Arc<dyn Fn() -> Vec<PathBuf> + Send + Sync>;

/// A watch; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches `files` on the current runtime and orders a reload when they have changed since they were
/// `seen`.
///
/// # Panics
/// Outside of a `LocalRuntime`.
pub fn start(files: Files, seen: Seen, orders: Orders) -> Watch {
    Watch(tokio::task::spawn_local(watch(files, seen, orders)).abort_handle())
}

async fn watch(files: Files, seen: Seen, orders: Orders) {
    let mut state = State { taken: seen, changing: None };
    loop {
        sleep(if state.changing.is_some() { SETTLE } else { INTERVAL }).await;
        let Some(seen) = look(&files).await else { return };
        if state.settles(seen) {
            let (reply, _) = oneshot::channel();
            let author = Author::new(AUTHOR);
            // With too many orders waiting, one of them reads the files anyway.
            let _ = orders.give(Order::Reload { canary: None, author, reply });
        }
    }
}

async fn look(files: &Files) -> Option<Seen> {
    let files = Arc::clone(files);
    spawn_blocking(move || Seen::now(files())).await.ok()
}

/// The files at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    files: Vec<PathBuf>,
    signature: Signature,
}

impl Seen {
    /// As they are now. To be looked at before they are read, so that no change is missed.
    pub fn now(files: Vec<PathBuf>) -> Self {
        let signature = Signature::of(files.iter().map(PathBuf::as_path));
        Self { files, signature }
    }
}

struct State {
    /// What was taken last.
    taken: Seen,
    /// A newer state, seen once.
    changing: Option<Seen>,
}

impl State {
    /// The files have changed and are at rest.
    fn settles(&mut self, seen: Seen) -> bool {
        if seen == self.taken {
            self.changing = None;
            return false;
        }
        if self.changing.as_ref() != Some(&seen) {
            self.changing = Some(seen);
            return false;
        }
        self.changing = None;
        self.taken = seen;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::certificates::testing::Directory;

    #[test]
    fn a_change_is_taken_once_when_two_looks_have_found_the_same() {
        let directory = Directory::new();
        let file = directory.path().join("ravelin.toml");
        let look = || Seen::now(vec![file.clone()]);
        fs::write(&file, "one").unwrap();
        let mut state = State { taken: look(), changing: None };
        assert!(!state.settles(look()));
        fs::write(&file, "one two").unwrap();
        assert!(!state.settles(look()));
        fs::write(&file, "one two three").unwrap();
        assert!(!state.settles(look()));
        assert!(state.settles(look()));
        assert!(!state.settles(look()));
        fs::remove_file(&file).unwrap();
        assert!(!state.settles(look()));
        assert!(state.settles(look()));
    }

    #[test]
    fn another_file_in_a_directory_is_a_change() {
        let directory = Directory::new();
        let files = [directory.path().join("a.toml"), directory.path().join("b.toml")];
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        let mut state = State { taken: Seen::now(files[..1].to_vec()), changing: None };
        assert!(!state.settles(Seen::now(files.to_vec())));
        assert!(state.settles(Seen::now(files.to_vec())));
    }
}
