//! The timer wheel as a pure data structure: it is told the time and says whom to wake.
//!
//! Why it exists: a proxied request moves its connection's deadline several times. Here that is a
//! plain store; a deadline that only ever moves later costs one look each time round the wheel.
//!
//! What always holds: a node is queued in at most one bucket, at a tick in
//! `(processed, processed + BUCKETS)` and never later than its deadline; the bucket of a tick is
//! looked at once the tick is reached, and a node whose deadline has moved on is queued again.

use std::mem;
use std::task::Waker;

/// Buckets of the wheel; at 100 ms a tick, an untouched node is looked at every 51 s.
const BUCKETS: u64 = 512;
/// A deadline that is not set.
pub(crate) const NEVER: u64 = u64::MAX;
/// The end of a list, and a node that is in none.
const NONE: u32 = u32::MAX;

/// Deadlines counted in ticks. Grows with the number of live nodes, which connections bound.
pub(crate) struct Wheel {
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    /// The first node of each bucket's doubly linked list.
    buckets: Vec<u32>,
    /// Every bucket up to this tick has been looked at.
    processed: u64,
    queued: usize,
}

struct Node {
    /// Stays when it has passed.
    due: u64,
    /// The tick it is queued at, [`NEVER`] if it is not.
    queued: u64,
    previous: u32,
    next: u32,
    waker: Option<Waker>,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        let buckets = vec![NONE; BUCKETS as usize];
        Self { nodes: Vec::new(), vacant: Vec::new(), buckets, processed: 0, queued: 0 }
    }

    /// A node without a deadline or waker.
    pub(crate) fn insert(&mut self) -> u32 {
        let node = Node { due: NEVER, queued: NEVER, previous: NONE, next: NONE, waker: None };
        match self.vacant.pop() {
            Some(id) => {
                *self.node(id) = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    /// Takes a node out. The caller drops its waker once the wheel is free again, because that may
    /// run other code.
    #[must_use]
    pub(crate) fn remove(&mut self, id: u32) -> Option<Waker> {
        self.unlink(id);
        self.vacant.push(id);
        self.node(id).waker.take()
    }

    /// Sets a deadline at tick `due`; `now` is the present tick. Says at which tick the wheel must
    /// be looked at because of it, if that is earlier than before.
    pub(crate) fn set(&mut self, id: u32, due: u64, now: u64) -> Option<u64> {
        if self.queued == 0 {
            self.processed = self.processed.max(now);
        }
        let node = self.node(id);
        node.due = due;
        if due >= node.queued {
            return None;
        }
        self.unlink(id);
        Some(self.link(id, due))
    }

    /// Takes a deadline back. The node stays queued: the next deadline finds it in place.
    pub(crate) fn clear(&mut self, id: u32) {
        self.node(id).due = NEVER;
    }

    /// Whether a deadline that was set to tick `due` has passed, as its task is told. Looks at no node: most
    /// of them are in no cache.
    pub(crate) fn has_passed(&self, due: u64) -> bool {
        due <= self.processed
    }

    /// The waker to call when the deadline passes; the earlier one if it differs.
    #[must_use]
    pub(crate) fn register(&mut self, id: u32, waker: &Waker) -> Option<Waker> {
        match &mut self.node(id).waker {
            Some(known) if known.will_wake(waker) => None,
            slot => slot.replace(waker.clone()),
        }
    }

    /// The waker to call when the deadline passes, if there is one.
    pub(crate) fn waker(&self, id: u32) -> Option<Waker> {
        self.nodes.get(id as usize)?.waker.clone()
    }

    /// Looks at every bucket up to tick `now` and adds the wakers of passed deadlines to `wake`.
    pub(crate) fn advance(&mut self, now: u64, wake: &mut Vec<Waker>) {
        let from = self.processed;
        if now <= from {
            return;
        }
        self.processed = now;
        for tick in from + 1..=now.min(from + BUCKETS) {
            let mut id = mem::replace(&mut self.buckets[bucket(tick)], NONE);
            while id != NONE {
                let node = self.node(id);
                let (queued, due, next) = (node.queued, node.due, node.next);
                node.queued = NEVER;
                self.queued -= 1;
                if queued > now {
                    self.link(id, queued); // queued again a moment ago, one turn further on
                } else if due <= now {
                    wake.extend(self.node(id).waker.clone());
                } else if due != NEVER {
                    self.link(id, due);
                }
                id = next;
            }
        }
    }

    /// The tick at which the next bucket must be looked at.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        if self.queued == 0 {
            return None;
        }
        let mut ticks = self.processed + 1..self.processed + BUCKETS;
        ticks.find(|tick| self.buckets[bucket(*tick)] != NONE)
    }

    /// Every registered waker.
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        self.nodes.iter().filter_map(|node| node.waker.clone()).collect()
    }

    /// Queues a node at `due`, or as late before it as the wheel reaches. Returns the tick.
    fn link(&mut self, id: u32, due: u64) -> u64 {
        let tick = due.clamp(self.processed + 1, self.processed + BUCKETS - 1);
        let first = mem::replace(&mut self.buckets[bucket(tick)], id);
        let node = self.node(id);
        node.queued = tick;
        node.previous = NONE;
        node.next = first;
        if first != NONE {
            self.node(first).previous = id;
        }
        self.queued += 1;
        tick
    }

    fn unlink(&mut self, id: u32) {
        let node = self.node(id);
        if node.queued == NEVER {
            return;
        }
        let (tick, previous, next) = (node.queued, node.previous, node.next);
        node.queued = NEVER;
        match previous {
            NONE => self.buckets[bucket(tick)] = next,
            previous => self.node(previous).next = next,
        }
        if next != NONE {
            self.node(next).previous = previous;
        }
        self.queued -= 1;
    }

    /// Ids are given out by `insert` and held by one `Deadline` each, so they are always in range.
    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

fn bucket(tick: u64) -> usize {
    (tick % BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fired(wheel: &Wheel, id: u32) -> bool {
        wheel.has_passed(wheel.nodes[id as usize].due)
    }

    fn advance(wheel: &mut Wheel, now: u64) -> usize {
        let mut wake = Vec::new();
        wheel.advance(now, &mut wake);
        let count = wake.len();
        wake.into_iter().for_each(Waker::wake);
        count
    }

    #[test]
    fn a_deadline_fires_at_its_tick_and_wakes_once() {
        let (mut wheel, count) = (Wheel::new(), Arc::new(Count::default()));
        let id = wheel.insert();
        assert!(wheel.register(id, &Waker::from(Arc::clone(&count))).is_none());
        wheel.set(id, 7, 0);
        advance(&mut wheel, 6);
        assert!(!fired(&wheel, id));
        advance(&mut wheel, 7);
        advance(&mut wheel, 5000);
        assert!(fired(&wheel, id));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn moving_a_deadline_later_touches_no_bucket() {
        let mut wheel = Wheel::new();
        let id = wheel.insert();
        assert_eq!(wheel.set(id, 10, 0), Some(10));
        for due in 11..100 {
            assert_eq!(wheel.set(id, due, 0), None);
        }
        assert_eq!(wheel.next_tick(), Some(10));
        advance(&mut wheel, 10);
        assert!(!fired(&wheel, id));
        assert_eq!(wheel.next_tick(), Some(99));
        assert_eq!(wheel.set(id, 50, 10), Some(50));
    }

    #[test]
    fn a_deadline_beyond_the_wheel_is_neither_early_nor_lost() {
        let mut wheel = Wheel::new();
        let id = wheel.insert();
        let hour = 36_000;
        wheel.set(id, hour, 0);
        let mut looks = 0;
        while let Some(tick) = wheel.next_tick() {
            assert!(!fired(&wheel, id));
            advance(&mut wheel, tick);
            looks += 1;
        }
        assert!(fired(&wheel, id));
        assert_eq!(wheel.processed, hour);
        assert_eq!(looks, hour.div_ceil(BUCKETS - 1));
    }

    #[test]
    fn a_cleared_deadline_leaves_the_wheel_when_its_tick_comes() {
        let mut wheel = Wheel::new();
        let id = wheel.insert();
        wheel.set(id, 3, 0);
        wheel.clear(id);
        advance(&mut wheel, 3);
        assert!(!fired(&wheel, id));
        assert_eq!(wheel.next_tick(), None);
    }

    #[test]
    fn a_wheel_that_was_empty_for_long_starts_at_the_present() {
        let mut wheel = Wheel::new();
        let id = wheel.insert();
        assert_eq!(wheel.set(id, 1_000_005, 1_000_000), Some(1_000_005));
    }

    #[test]
    fn a_removed_node_is_used_again_and_forgets_everything() {
        let mut wheel = Wheel::new();
        let id = wheel.insert();
        wheel.set(id, 2, 0);
        advance(&mut wheel, 2);
        let _ = wheel.remove(id);
        assert_eq!(wheel.insert(), id);
        assert!(!fired(&wheel, id));
        assert_eq!(wheel.next_tick(), None);
    }

    proptest! {
        /// Against a model that looks at every deadline at every step.
        #[test]
        fn every_deadline_fires_exactly_when_it_should(
            steps in prop::collection::vec((0..6_u8, 0..8_usize, 1..1500_u64), 1..200)
        ) {
            let mut wheel = Wheel::new();
            let mut model = [(NEVER, false); 8]; // due, fired
            let mut ids = [0; 8];
            ids.iter_mut().for_each(|id| *id = wheel.insert());
            let mut now = 0;
            for (action, which, amount) in steps {
                match action {
                    0..=2 => {
                        wheel.set(ids[which], now + amount, now);
                        model[which] = (now + amount, false);
                    }
                    3 => {
                        wheel.clear(ids[which]);
                        model[which] = (NEVER, false);
                    }
                    4 => {
                        let _ = wheel.remove(ids[which]);
                        ids[which] = wheel.insert();
                        model[which] = (NEVER, false);
                    }
                    _ => {
                        now += amount;
                        advance(&mut wheel, now);
                        for (due, fired) in &mut model {
                            if *due <= now {
                                (*due, *fired) = (NEVER, true);
                            }
                        }
                    }
                }
                for (id, (_, has_fired)) in ids.iter().zip(model) {
                    prop_assert_eq!(fired(&wheel, *id), has_fired);
                }
                let earliest = model.iter().map(|(due, _)| *due).min().unwrap_or(NEVER);
                if earliest != NEVER {
                    prop_assert!(wheel.next_tick().is_some_and(|tick| tick <= earliest));
                }
            }
        }
    }
}
