//! The threads that hash passwords, so that no worker has to.
//!
//! A hash is meant to take long: some tens of milliseconds, or seconds. There are few threads for it,
//! they give way to the workers, and no more than [`HASHES_WAITING_MAX`] wait: who comes then is told to
//! come again, so that guessing passwords costs those who guess and nobody else.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use config::password::PasswordHash;
use tokio::sync::oneshot;

use super::passwords;

/// Passwords hashed at once, at most: half of the cores, and no more than this. One may take as much
/// memory as its hash says.
pub const HASH_THREADS_MAX: usize = 4;

/// Passwords that wait to be hashed. More would wait longer than clients do.
pub const HASHES_WAITING_MAX: usize = 64;

/// What a thread adds to its niceness.
const NICE: i32 = 10;

/// The threads.
#[derive(Debug)]
pub(super) struct Hashing {
    jobs: SyncSender<Job>,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests ask for it"))]
    done: Arc<AtomicU64>,
}

struct Job {
    hash: Arc<PasswordHash>,
    password: Box<[u8]>,
    reply: oneshot::Sender<bool>,
}

impl Hashing {
    /// Those of the process, started when they are first asked for.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn of_process() -> Result<&'static Self, String> {
        static HASHING: OnceLock<Result<Hashing, String>> = OnceLock::new();
        let started = HASHING.get_or_init(|| {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            Self::start((cores / 2).clamp(1, HASH_THREADS_MAX), HASHES_WAITING_MAX)
        });
        started.as_ref().map_err(Clone::clone)
    }

    /// So many threads, and so many that may wait for them.
    pub(super) fn start(threads: usize, waiting: usize) -> Result<Self, String> {
        let (jobs, waiting) = sync_channel(waiting);
        let waiting = Arc::new(Mutex::new(waiting));
        let done = Arc::new(AtomicU64::new(0));
        for number in 0..threads {
            let (waiting, done) = (Arc::clone(&waiting), Arc::clone(&done));
            thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&waiting, &done))
                .map_err(|error| format!("cannot start a thread to hash passwords: {error}"))?;
        }
        Ok(Self { jobs, done })
    }

    /// Hands a password over. `None`: too many wait already.
    pub(super) fn submit(
        &self,
        hash: &Arc<PasswordHash>,
        password: &[u8],
    ) -> Option<oneshot::Receiver<bool>> {
        let (reply, answer) = oneshot::channel();
        let job = Job { hash: Arc::clone(hash), password: password.into(), reply };
        self.jobs.try_send(job).ok().map(|()| answer)
    }

    /// How many passwords were hashed.
    #[cfg(test)]
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, done: &AtomicU64) {
    // On Linux this is the niceness of the calling thread. Without it only the order suffers.
    _ = rustix::process::setpriority_process(None, NICE);
    loop {
        // One thread waits for a job, the others for that one.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { hash, password, reply }) = job else { return };
        // Nobody waits for it any more.
        if reply.is_closed() {
            continue;
        }
        let right = passwords::matches(&hash, &password);
        done.fetch_add(1, Ordering::Release);
        _ = reply.send(right);
    }
}
