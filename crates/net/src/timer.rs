//! Time on a worker: a coarse clock, and deadlines that cost next to nothing to move.
//!
//! Why it exists: `tokio::time::timeout` registers and cancels a timer for each operation. Here a
//! connection has one [`Deadline`] for its whole life, moves it with a plain store, and is woken by
//! the worker's wheel when it passes.
//!
//! What always holds: a deadline is never early and at most about 200 ms late; the wheel's task
//! sleeps until the next tick at which something is queued, and without end when nothing is.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::wheel::{NEVER, Wheel};

/// Resolution of deadlines.
const TICK: u64 = 100; // ms
/// How far the coarse clock may be behind: one tick of a kernel with the lowest rate, 100 Hz.
const CLOCK_LAG: u64 = 10; // ms

/// A point in time, in milliseconds of the machine's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The present, up to 10 ms behind. Read from shared memory, without a system call.
    pub fn now() -> Self {
        Self(millis(ClockId::MonotonicCoarse))
    }

    /// Milliseconds since the machine started.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// So much later; the end of time if there is no such moment.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<u64> for Tick {
    fn from(millis: u64) -> Self {
        Self(millis)
    }
}

/// Milliseconds since 1970, up to 10 ms behind. Read from shared memory, without a system call.
pub fn unix_millis() -> u64 {
    millis(ClockId::RealtimeCoarse)
}

/// One worker's deadlines. Clones share the wheel.
#[derive(Clone)]
pub struct Timers {
    shared: Rc<Shared>,
}

struct Shared {
    wheel: RefCell<Wheel>,
    /// The tick the wheel's task sleeps until; `u64::MAX` when it waits for a deadline to be set.
    asleep_until: Cell<u64>,
    driver: Cell<Option<Waker>>,
}

/// A time limit of one task. Not set at first.
pub struct Deadline {
    shared: Rc<Shared>,
    /// The tick it is set to.
    due: Cell<u64>,
    id: u32,
}

/// Wakes the task of a deadline from outside, so that it looks at what it is to do. May outlive the
/// deadline, and then wakes nobody, or another task for nothing.
#[derive(Clone)]
pub struct Nudge {
    shared: Rc<Shared>,
    id: u32,
}

impl Timers {
    /// Starts a wheel and its task on the worker this is called on.
    ///
    /// # Panics
    /// Outside of a `LocalRuntime`.
    pub fn start() -> Self {
        let shared = Rc::new(Shared {
            wheel: RefCell::new(Wheel::new()),
            asleep_until: Cell::new(u64::MAX),
            driver: Cell::new(None),
        });
        tokio::task::spawn_local(drive(Rc::clone(&shared)));
        Self { shared }
    }

    /// A deadline for the calling task, not set.
    pub fn deadline(&self) -> Deadline {
        let id = self.shared.wheel.borrow_mut().insert();
        Deadline { shared: Rc::clone(&self.shared), due: Cell::new(NEVER), id }
    }

    /// Wakes every task that has polled a deadline, so that it looks at the state of the worker.
    pub fn wake_all(&self) {
        let wakers = self.shared.wheel.borrow().wakers();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Deadline {
    /// Lets the deadline pass `after` from now, whatever was set before.
    pub fn set(&self, after: Duration) {
        let now = Tick::now().0;
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // Rounded up, plus what the clock may be behind now: never early.
        let due = (now + CLOCK_LAG).saturating_add(after) / TICK + 1;
        self.due.set(due);
        let look_at = self.shared.wheel.borrow_mut().set(self.id, due, now / TICK);
        if look_at.is_some_and(|tick| tick < self.shared.asleep_until.get()) {
            self.shared.nudge();
        }
    }

    /// Takes the deadline back.
    pub fn clear(&self) {
        self.due.set(NEVER);
        self.shared.wheel.borrow_mut().clear(self.id);
    }

    /// The way to wake the task that polls this deadline.
    pub fn nudge(&self) -> Nudge {
        Nudge { shared: Rc::clone(&self.shared), id: self.id }
    }

    /// Whether the deadline has passed since it was last set. Reads no clock.
    pub fn expired(&self) -> bool {
        self.shared.wheel.borrow().has_passed(self.due.get())
    }

    /// Ready when the deadline has passed; else the task is woken when it does. The waker is kept,
    /// so polling once is enough for as long as the same task uses the deadline.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.expired() {
            return Poll::Ready(());
        }
        let replaced = self.shared.wheel.borrow_mut().register(self.id, cx.waker());
        drop(replaced); // after the wheel is free again: it may run the drop of a task
        Poll::Pending
    }
}

impl Nudge {
    /// Wakes the task, if it has polled the deadline.
    pub fn wake(&self) {
        let waker = self.shared.wheel.borrow().waker(self.id);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Nudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nudge({})", self.id)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let waker = self.shared.wheel.borrow_mut().remove(self.id);
        drop(waker);
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline({})", if self.expired() { "expired" } else { "not expired" })
    }
}

impl Shared {
    /// Makes the wheel's task look again now.
    fn nudge(&self) {
        self.asleep_until.set(0);
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }
}

/// The wheel's task: sleeps until the next queued tick, or until it is nudged.
async fn drive(shared: Rc<Shared>) {
    let mut wake = Vec::new();
    loop {
        let now = Tick::now().0;
        shared.wheel.borrow_mut().advance(now / TICK, &mut wake);
        wake.drain(..).for_each(Waker::wake);
        let next = shared.wheel.borrow().next_tick();
        shared.asleep_until.set(next.unwrap_or(u64::MAX));
        let sleep = next.map(|tick| {
            let rest = (tick * TICK + CLOCK_LAG).saturating_sub(now);
            tokio::time::sleep(Duration::from_millis(rest))
        });
        let mut sleep = pin!(sleep);
        poll_fn(|cx| {
            if shared.asleep_until.get() == 0 {
                return Poll::Ready(());
            }
            shared.driver.set(Some(cx.waker().clone()));
            match sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(cx),
                None => Poll::Pending,
            }
        })
        .await;
    }
}

fn millis(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1000 + nanos / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::worker::runtime;

    async fn expiry(deadline: &Deadline) {
        poll_fn(|cx| deadline.poll_expired(cx)).await;
    }

    #[test]
    fn a_deadline_wakes_its_task_and_is_never_early() {
        runtime().unwrap().block_on(async {
            let timers = Timers::start();
            for after in [0, 1, 99, 100, 150].map(Duration::from_millis) {
                let deadline = timers.deadline();
                let start = Instant::now();
                deadline.set(after);
                assert!(!deadline.expired());
                expiry(&deadline).await;
                assert!(start.elapsed() >= after);
            }
        });
    }

    #[test]
    fn an_earlier_deadline_rouses_a_wheel_that_sleeps_for_a_later_one() {
        runtime().unwrap().block_on(async {
            let timers = Timers::start();
            let (late, early) = (timers.deadline(), timers.deadline());
            late.set(Duration::from_secs(3600));
            tokio::task::yield_now().await; // lets the wheel go to sleep
            early.set(Duration::from_millis(1));
            expiry(&early).await;
            assert!(!late.expired());
        });
    }

    #[test]
    fn a_deadline_moved_before_it_passed_does_not_expire() {
        runtime().unwrap().block_on(async {
            let timers = Timers::start();
            let (moved, cleared, witness) =
                (timers.deadline(), timers.deadline(), timers.deadline());
            moved.set(Duration::from_millis(1));
            cleared.set(Duration::from_millis(1));
            moved.set(Duration::from_secs(3600));
            cleared.clear();
            witness.set(Duration::from_millis(200));
            expiry(&witness).await;
            assert!(!moved.expired());
            assert!(!cleared.expired());
            moved.set(Duration::ZERO);
            expiry(&moved).await;
        });
    }

    #[test]
    fn waking_all_reaches_a_task_that_waits_for_its_deadline() {
        runtime().unwrap().block_on(async {
            let timers = Timers::start();
            let deadline = timers.deadline();
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                let _ = deadline.poll_expired(cx);
                if polls == 1 {
                    timers.wake_all();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(polls, 2);
        });
    }

    #[test]
    fn a_nudge_wakes_the_task_of_its_deadline_and_no_one_once_that_is_gone() {
        runtime().unwrap().block_on(async {
            let timers = Timers::start();
            let deadline = timers.deadline();
            let nudge = deadline.nudge();
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                let _ = deadline.poll_expired(cx);
                if polls == 1 {
                    nudge.wake();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(polls, 2);
            assert!(!deadline.expired());
            drop(deadline);
            nudge.wake();
        });
    }

    #[test]
    fn the_clocks_agree_with_the_standard_library() {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        assert!(unix_millis().abs_diff(since_1970) < 1000);
        let before = Tick::now();
        assert_eq!(before.since(Tick::from(before.as_millis() + 5)), Duration::ZERO);
        assert_eq!(Tick::from(12).since(Tick::from(5)), Duration::from_millis(7));
    }
}
