//! Failures of a member in a row, in one word.

use net::timer::Tick;

use super::{Failure, Reason};

/// Failures in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streak {
    pub(super) failures: u32,
    kind: Option<Failure>,
    /// The first one, in milliseconds.
    began: u64,
}

/// Failures in a row that are counted; more are as many.
pub(super) const MOST: u32 = (1 << 15) - 1;
const BEGAN_BITS: u32 = 46;
const BEGAN: u64 = (1 << BEGAN_BITS) - 1;
const KIND_BITS: u32 = 3;

impl Streak {
    pub(super) fn from_bits(bits: u64) -> Self {
        let kind = match bits >> BEGAN_BITS & ((1 << KIND_BITS) - 1) {
            1 => Some(Failure::Connect),
            2 => Some(Failure::Reset),
            3 => Some(Failure::Timeout),
            4 => Some(Failure::Invalid),
            5 => Some(Failure::Status),
            _ => None,
        };
        Self { failures: (bits >> (BEGAN_BITS + KIND_BITS)) as u32, kind, began: bits & BEGAN }
    }

    pub(super) fn into_bits(self) -> u64 {
        let kind = match self.kind {
            None => 0,
            Some(Failure::Connect) => 1,
            Some(Failure::Reset) => 2,
            Some(Failure::Timeout) => 3,
            Some(Failure::Invalid) => 4,
            Some(Failure::Status) => 5,
        };
        u64::from(self.failures.min(MOST)) << (BEGAN_BITS + KIND_BITS)
            | kind << BEGAN_BITS
            | self.began.min(BEGAN)
    }

    /// One more.
    pub(super) fn and(self, kind: Failure, now: Tick) -> Self {
        if self.failures == 0 {
            return Self { failures: 1, kind: Some(kind), began: now.as_millis() };
        }
        let failures = self.failures.saturating_add(1).min(MOST);
        Self { failures, kind: self.kind.filter(|one| *one == kind), ..self }
    }

    pub(super) fn reason(&self, now: Tick) -> Reason {
        let within = now.as_millis().saturating_sub(self.began);
        Reason::Consecutive { failures: self.failures, kind: self.kind, within }
    }
}
