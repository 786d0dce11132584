//! The bounded way from those who log to the thread that writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Blocks under way from the workers to the writer. At 256 KiB each at most 32 MiB wait for a slow
/// disk; more is dropped and counted.
pub const QUEUE_BLOCKS: usize = 128;
/// The same on the way to the writer of the error log, which gets each line by itself; and the blocks of
/// an access log with the same target.
pub const ERROR_QUEUE_BLOCKS: usize = 256;

/// Emptied blocks kept for reuse, so that a busy worker does not allocate memory for each block. The writer
/// empties several at a time.
const SPARES_MAX: usize = 16;

/// The last line of a block may go so far beyond what it is to hold.
const LINE_ROOM: usize = 4 * 1024;

/// Between two attempts to give an order while the queue is full.
const ORDER_PAUSE: Duration = Duration::from_millis(5);

/// What the writer is told.
#[derive(Debug)]
pub enum Order {
    /// Write these whole lines.
    Write(Block),
    /// Close the file and open it again by name, as after a rotation.
    Reopen,
    /// Write what was handed over before this and end.
    Stop,
}

/// Whole lines on their way.
#[derive(Debug)]
pub struct Block {
    /// The lines, each with its end.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub lines: u64,
    /// Where they are counted if they are lost: logs that share a writer have each its own.
    pub total: Total,
}

/// The end that log lines are handed to. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct Sink {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    total: Total,
}

/// How many lines of a log have been lost since the start, whoever wrote it. It never falls.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicU64>);

/// Lines that a sink has lost, for those who watch its writer. It keeps neither alive.
#[derive(Debug, Clone)]
pub struct Losses(Weak<Shared>);

/// The writer's end.
#[derive(Debug)]
pub struct Source {
    /// What to do, in order.
    pub orders: Receiver<Order>,
    shared: Arc<Shared>,
    total: Total,
}

#[derive(Debug, Default)]
struct Shared {
    /// Not yet told.
    dropped: AtomicU64,
    /// Grows as long as the writer gets on.
    steps: AtomicU64,
    spares: Mutex<Vec<Vec<u8>>>,
    /// The writer is to open its target anew, and there was no place in the queue to say so.
    reopen: AtomicBool,
}

/// A queue of at most `blocks` orders.
#[must_use]
pub fn sink(blocks: usize) -> (Sink, Source) {
    sink_of(blocks, Total::default())
}

/// The same for a log of which lines may have been lost before.
#[must_use]
pub fn sink_of(blocks: usize, total: Total) -> (Sink, Source) {
    let (orders, receiver) = sync_channel(blocks);
    let shared = Arc::new(Shared::default());
    let source = Source { orders: receiver, shared: shared.clone(), total: total.clone() };
    (Sink { orders, shared, total }, source)
}

impl Total {
    /// How many there are now.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Sink {
    /// Hands over whole lines; they are dropped and counted when the queue is full or its writer is
    /// gone.
    pub fn write(&self, bytes: Vec<u8>, lines: u64) {
        let total = self.total.clone();
        match self.orders.try_send(Order::Write(Block { bytes, lines, total })) {
            Ok(()) => {}
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => {
                self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
                self.total.add(lines);
                if let Order::Write(block) = order {
                    self.shared.recycle(block.bytes);
                }
            }
        }
    }

    /// Lines that were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.total.lines()
    }

    /// The way to the same writer for another log, which has its own lines counted.
    #[must_use]
    pub fn counted_in(&self, total: &Total) -> Self {
        Self { total: total.clone(), ..self.clone() }
    }

    /// Where lost lines are counted.
    #[must_use]
    pub fn total(&self) -> Total {
        self.total.clone()
    }

    /// What is lost on the way, to be watched by somebody else.
    #[must_use]
    pub fn losses(&self) -> Losses {
        Losses(Arc::downgrade(&self.shared))
    }

    /// An empty block, used before if there is one.
    #[must_use]
    pub fn block(&self) -> Vec<u8> {
        // try_lock: a worker never waits for another, it rather allocates.
        match self.shared.spares.try_lock() {
            Ok(mut spares) => spares.pop().unwrap_or_else(new_block),
            Err(_) => new_block(),
        }
    }

    /// Has the writer open its target anew: behind what was handed over before, or where the queue is full as
    /// soon as it takes anything again. Says whether that is no later than usual. Never waits.
    pub fn reopen(&self) -> bool {
        let is_taken = self.orders.try_send(Order::Reopen).is_ok();
        if !is_taken {
            self.shared.reopen.store(true, Ordering::Release);
        }
        is_taken
    }

    /// Gives the writer an order, waiting up to `patience` while the queue is full: not for the data
    /// path. Says whether it was taken.
    #[must_use]
    pub fn order_within(&self, mut order: Order, patience: Duration) -> bool {
        let started = Instant::now();
        loop {
            order = match self.orders.try_send(order) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(order)) => order,
            };
            if started.elapsed() >= patience {
                return false;
            }
            thread::sleep(ORDER_PAUSE);
        }
    }
}

impl Losses {
    /// There is still somebody who writes, or wants to.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// How many lines have been lost that nobody has told of.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.dropped.load(Ordering::Relaxed))
    }

    /// Another number whenever the writer has got on.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.steps.load(Ordering::Relaxed))
    }

    /// The lines that nobody has told of, for whoever tells of them now.
    #[must_use]
    pub fn take(&self) -> u64 {
        self.0.upgrade().map_or(0, |shared| shared.dropped.swap(0, Ordering::Relaxed))
    }
}

impl Source {
    /// Gives an emptied block back for reuse.
    pub fn recycle(&self, block: Vec<u8>) {
        self.shared.recycle(block);
    }

    /// Whether the target is to be opened anew before the next order; said once.
    #[must_use]
    pub fn takes_reopen(&self) -> bool {
        self.shared.reopen.swap(false, Ordering::AcqRel)
    }

    /// How many lines were dropped since this was last asked.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }

    /// Counts lines that could not be written, of the log that `total` is of.
    pub fn count_dropped(&self, lines: u64, total: &Total) {
        self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        total.add(lines);
    }

    /// Where lost lines of the writer's own log are counted.
    #[must_use]
    pub fn total(&self) -> Total {
        self.total.clone()
    }

    /// Says to whoever [watches](Losses) that the writer gets on.
    pub fn step(&self) {
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// One that takes all lines of a block without growing, which would double it; memory is taken as it fills.
fn new_block() -> Vec<u8> {
    Vec::with_capacity(super::BLOCK_BYTES + LINE_ROOM)
}

impl Shared {
    fn recycle(&self, mut block: Vec<u8>) {
        if let Ok(mut spares) = self.spares.try_lock()
            && spares.len() < SPARES_MAX
            && block.capacity() >= super::BLOCK_BYTES
        {
            block.clear();
            spares.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts_lines() {
        let (sink, source) = sink(1);
        sink.write(b"one\n".to_vec(), 1);
        sink.write(b"two\nthree\n".to_vec(), 2);
        assert_eq!(source.take_dropped(), 2);
        assert_eq!(source.take_dropped(), 0);
        let Ok(Order::Write(block)) = source.orders.try_recv() else {
            panic!("the first block was queued")
        };
        assert_eq!((&block.bytes[..], block.lines), (&b"one\n"[..], 1));
    }

    #[test]
    fn a_full_queue_holds_nobody_up_who_wants_the_target_opened_anew() {
        let (sink, source) = sink(1);
        sink.write(b"one\n".to_vec(), 1);
        assert!(!sink.reopen());
        assert!(source.takes_reopen() && !source.takes_reopen());
        assert!(matches!(source.orders.try_recv(), Ok(Order::Write(_))));
        assert!(sink.reopen() && !source.takes_reopen());
        assert!(matches!(source.orders.try_recv(), Ok(Order::Reopen)));
    }

    #[test]
    fn lines_for_a_writer_that_is_gone_are_counted_not_kept() {
        let (sink, source) = sink(4);
        let shared = source.shared.clone();
        drop(source);
        sink.write(b"one\n".to_vec(), 1);
        assert_eq!(shared.dropped.load(Ordering::Relaxed), 1);
    }
}
