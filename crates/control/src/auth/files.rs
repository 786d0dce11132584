//! Files of users and of keys, read again when they have changed and are at rest.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxy::auth::{KeyRing, UserFile};
use proxy::log::ErrorLog;
use tokio::sync::watch::Receiver;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::certificates::{INTERVAL, SETTLE, Signature};

/// A file and what is made of it.
#[derive(Debug)]
pub(super) struct Watched {
    content: Content,
    /// The state of the file when it was last read.
    read: Signature,
    /// A newer state, seen once.
    changing: Option<Signature>,
    /// The error that was told, until the file can be read again.
    told: Option<String>,
}

#[derive(Debug)]
enum Content {
    Users(Arc<UserFile>),
    Keys(Arc<KeyRing>),
}

impl Content {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Users(file) => Some(file.path()),
            Self::Keys(ring) => ring.source().file(),
        }
    }

    /// Reads it, and says how much there is.
    fn reload(&self) -> Result<String, String> {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        match self {
            Self::Users(file) => file.reload().map(|users| count(users, "user")),
            Self::Keys(ring) => ring.reload().map(|keys| count(keys, "key")),
        }
    }

    fn signature(&self) -> Signature {
        Signature::of(self.path().into_iter())
    }
}

impl Watched {
    /// A file of users.
    pub(super) fn users(file: &Arc<UserFile>) -> Self {
        Self::new(Content::Users(Arc::clone(file)))
    }

    /// Keys that are in a file.
    pub(super) fn keys(ring: &Arc<KeyRing>) -> Option<Self> {
        ring.source().file().map(|_| Self::new(Content::Keys(Arc::clone(ring))))
    }

    fn new(content: Content) -> Self {
        Self { read: content.signature(), changing: None, told: None, content }
    }

    /// Both are about the same object.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Content::Users(one), Content::Users(other)) => Arc::ptr_eq(one, other),
            (Content::Keys(one), Content::Keys(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Looks whether the file has changed, and reads it if it has and is at rest; with `at_once` it
    /// need not be at rest. True: it is changing, look again soon.
    fn look(&mut self, at_once: bool, log: &ErrorLog) -> bool {
        let seen = self.content.signature();
        if seen == self.read {
            self.changing = None;
            return false;
        }
        if !at_once && self.changing.as_ref() != Some(&seen) {
            self.changing = Some(seen);
            return true;
        }
        self.changing = None;
        let read = self.content.reload();
        if self.content.signature() != seen {
            // Changed while it was read.
            return true;
        }
        self.read = seen;
        match read {
            Ok(count) => {
                let path = self.content.path().unwrap_or(Path::new(""));
                log.info(format_args!("auth: {} read again: {count}", path.display()));
                self.told = None;
            }
            Err(why) => {
                if self.told.as_ref() != Some(&why) {
                    log.error(format_args!("auth: {why}. What was read before stays in force"));
                }
                self.told = Some(why);
            }
        }
        false
    }
}

/// A panic while one is looked at leaves it as it was.
pub(super) fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at all files again and again. Reading them may block, so it is done on a thread for that.
pub(super) async fn watch(
    watched: Vec<Arc<Mutex<Watched>>>,
    log: ErrorLog,
    mut wake: Receiver<u64>,
) {
    let mut pause = INTERVAL;
    loop {
        let at_once = match timeout(pause, wake.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return,
            Err(_) => false,
        };
        let (watched, log) = (watched.clone(), log.clone());
        let looked = spawn_blocking(move || {
            let looks: Vec<bool> =
                watched.iter().map(|one| lock(one).look(at_once, &log)).collect();
            looks.contains(&true)
        });
        let Ok(changing) = looked.await else { return };
        pause = if changing { SETTLE } else { INTERVAL };
    }
}
