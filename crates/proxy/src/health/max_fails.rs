//! `max_fails` and `fail_timeout`, with nginx's exact meaning: an endpoint that failed `max` times
//! gets no requests for `timeout` after its last failure, then one that tries it.
//!
//! Exactly: failures add up, whatever succeeds between them, until an attempt that began more than
//! `timeout` after the last one has succeeded. So a success soon after a failure proves nothing, and
//! "within `fail_timeout`" is the distance between failures, as in nginx's code.
//!
//! What always holds: all is one word, so that nobody sees half a change; while an endpoint is being
//! tried again no other request gets to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use net::timer::Tick;

use super::{later, millis};

/// The failures of an endpoint, shared by all workers.
///
/// `max` and `timeout` are those of the upstream; `max` is 0 to turn this off, as it also is for the
/// only member of a pool.
#[derive(Debug, Default)]
pub struct Fails(AtomicU64);

/// Whether a request may go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Free,
    /// It may, and is the one that tries the endpoint. If it ends neither well nor badly, as when
    /// the client goes away, [`Fails::abandoned`] is to be told.
    Probe,
    /// It may not.
    Refused,
}

impl Fails {
    /// Whether the endpoint takes requests, or could be tried. Changes nothing.
    pub fn usable(&self, now: Tick, max: u32, timeout: Duration) -> bool {
        let known = self.known();
        !known.is_down(max) || known.is_due(now, timeout)
    }

    /// When the endpoint may be tried; `None` if it is usable.
    pub fn until(&self, now: Tick, max: u32, timeout: Duration) -> Option<Tick> {
        let known = self.known();
        let wait = millis(timeout).saturating_add(1);
        (known.is_down(max) && !known.is_due(now, timeout))
            .then(|| later(Tick::from(known.checked), wait))
    }

    /// Asks for a request that is about to be sent. Costs one load unless the endpoint has failed.
    pub fn try_probe(&self, now: Tick, max: u32, timeout: Duration) -> Turn {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            let is_down = known.is_down(max);
            if known.fails == 0 || max == 0 {
                return Turn::Free;
            }
            if !known.is_due(now, timeout) {
                return if is_down { Turn::Refused } else { Turn::Free };
            }
            let tried = Known { tried: true, due: false, checked: now.as_millis(), ..known };
            match self.replace(bits, tried) {
                Ok(()) => return if is_down { Turn::Probe } else { Turn::Free },
                Err(other) => bits = other,
            }
        }
    }

    /// An attempt failed. True if that made the endpoint unusable; not if it was already, or was
    /// being tried.
    pub fn failed(&self, now: Tick, max: u32) -> bool {
        if max == 0 {
            return false;
        }
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            let fails = known.fails.saturating_add(1);
            let failed = Known { fails, tried: false, due: false, checked: now.as_millis() };
            match self.replace(bits, failed) {
                Ok(()) => return !known.is_down(max) && failed.is_down(max),
                Err(other) => bits = other,
            }
        }
    }

    /// An attempt succeeded. True if the endpoint had been unusable and is usable now. Costs one
    /// load unless the endpoint has failed.
    pub fn succeeded(&self, max: u32) -> bool {
        let mut bits = self.0.load(Ordering::Relaxed);
        loop {
            let known = Known::from_bits(bits);
            if !known.tried {
                return false;
            }
            match self.replace(bits, Known::default()) {
                Ok(()) => return known.is_down(max),
                Err(other) => bits = other,
            }
        }
    }

    /// A request with [`Turn::Probe`] ended neither well nor badly: the next one may try.
    pub fn abandoned(&self) {
        let update = |bits| {
            let known = Known::from_bits(bits);
            known.tried.then(|| Known { tried: false, due: true, ..known }.into_bits())
        };
        // An `Err` means that it has ended otherwise meanwhile.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// Forgets all failures, as when the endpoint has another address.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn known(&self) -> Known {
        Known::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn replace(&self, bits: u64, known: Known) -> Result<(), u64> {
        self.0
            .compare_exchange_weak(bits, known.into_bits(), Ordering::Relaxed, Ordering::Relaxed)
            .map(|_| ())
    }
}

/// What [`Fails`] holds.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    fails: u16,
    /// An attempt began more than `timeout` after the last failure: nginx's `accessed < checked`.
    tried: bool,
    /// That attempt came to nothing: another one may begin at once.
    due: bool,
    /// The last failure, or the begin of that attempt, in milliseconds.
    checked: u64,
}

/// 2231 years.
const CHECKED_BITS: u32 = 46;
const CHECKED: u64 = (1 << CHECKED_BITS) - 1;
const TRIED: u64 = 1 << CHECKED_BITS;
const DUE: u64 = TRIED << 1;
const FAILS_SHIFT: u32 = CHECKED_BITS + 2;

impl Known {
    fn from_bits(bits: u64) -> Self {
        Self {
            fails: (bits >> FAILS_SHIFT) as u16,
            tried: bits & TRIED != 0,
            due: bits & DUE != 0,
            checked: bits & CHECKED,
        }
    }

    fn into_bits(self) -> u64 {
        u64::from(self.fails) << FAILS_SHIFT
            | if self.tried { TRIED } else { 0 }
            | if self.due { DUE } else { 0 }
            | self.checked.min(CHECKED)
    }

    fn is_down(&self, max: u32) -> bool {
        max != 0 && u32::from(self.fails) >= max.min(u32::from(u16::MAX))
    }

    /// The time is over. A clock that jumped back by more than `timeout` ends it, too.
    fn is_due(&self, now: Tick, timeout: Duration) -> bool {
        self.due || now.as_millis().abs_diff(self.checked) > millis(timeout)
    }
}
