//! Which requests have a line, when not all of them have.
//!
//! The choice follows from the request's id alone: whoever else sees that id and keeps the same share
//! keeps the same requests, and a smaller share is a part of a larger one.

use std::hash::{BuildHasher, Hasher, RandomState};

use config::model::Sampling;

use super::{Ended, Record};

/// The share of requests like one that have a line, in parts of a million; 0 stands for all without
/// a word about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chance(u32);

/// All of them.
const WHOLE: u32 = 1_000_000;

impl Chance {
    /// There is no sampling, and so nothing is said of it.
    pub(super) const ALL: Self = Self(0);

    /// The chance that a request had which has a line; `None` if it has none.
    pub(super) fn of(sampling: &Sampling, record: &Record<'_>) -> Option<Self> {
        let slow = sampling.slow.is_some_and(|slow| {
            u128::from(record.times.total) >= slow.as_micros() && record.status != 101
        });
        let status = record.status;
        let always = slow
            || sampling.failed && record.ended != Ended::Complete
            || sampling.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status));
        if always {
            return Some(Self(WHOLE));
        }
        let sent = || record.request_field("x-request-id");
        let hash = match (record.request_id, sent) {
            ([], sent) if sent().is_empty() => random(),
            ([], sent) => hash_of(sent()),
            (id, _) => hash_of(id),
        };
        // Of the whole range of hashes, as much as the share says.
        let scaled = (u128::from(hash) * u128::from(WHOLE)) >> 64;
        (scaled < u128::from(sampling.of_million)).then_some(Self(sampling.of_million))
    }

    /// In parts of a million, if requests are sampled.
    pub(super) fn share(self) -> Option<u32> {
        (self != Self::ALL).then_some(self.0)
    }
}

/// Appends a share: `0.05`.
pub(super) fn share(out: &mut Vec<u8>, share: u32) {
    if share >= WHOLE {
        return out.push(b'1');
    }
    out.extend_from_slice(b"0");
    let mut digits = [b'0'; 6];
    let mut rest = share;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let used = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    if used > 0 {
        out.push(b'.');
        out.extend_from_slice(digits.get(..used).unwrap_or_default());
    }
}

/// FNV-1a of 64 bits, then mixed so that ids which differ in their last letter only are spread.
fn hash_of(id: &[u8]) -> u64 {
    let hash = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// For a request without an id.
fn random() -> u64 {
    // Keys of a hasher count up from a random beginning, and hashing spreads them.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local};
    use super::super::{Cause, Party, Phase};
    use super::*;

    fn sampling(of_million: u32) -> Sampling {
        Sampling { of_million, ..Sampling::default() }
    }

    #[test]
    fn the_choice_follows_from_the_id_and_a_smaller_share_is_a_part_of_a_larger() {
        let (few, many) = (sampling(100_000), sampling(500_000));
        let mut kept = (0, 0);
        for number in 0..20_000 {
            let id = format!("018f0000-0000-7000-8000-{number:012}");
            let record = Record { request_id: id.as_bytes(), ..local() };
            let (in_few, in_many) = (Chance::of(&few, &record), Chance::of(&many, &record));
            assert_eq!(in_few, Chance::of(&few, &record));
            assert!(in_few.is_none() || in_many.is_some());
            kept.0 += usize::from(in_few.is_some());
            kept.1 += usize::from(in_many.is_some());
        }
        assert!((1_700..2_300).contains(&kept.0), "{kept:?}");
        assert!((9_500..10_500).contains(&kept.1), "{kept:?}");
    }

    #[test]
    fn requests_without_an_id_are_chosen_at_random() {
        let some = sampling(500_000);
        let record = Record { request_id: b"", ..local() };
        let kept = (0..2_000).filter(|_| Chance::of(&some, &record).is_some()).count();
        assert!((800..1_200).contains(&kept), "{kept}");
    }

    #[test]
    fn failed_and_slow_requests_and_statuses_are_always_kept() {
        let none = sampling(0);
        assert_eq!(Chance::of(&none, &local()), None);
        let refused = failed(502, Party::Upstream, Phase::Connect, Cause::Refused);
        let mut slow = local();
        slow.times.total = 1_000_000;
        for record in [refused, slow, Record { status: 503, ..local() }] {
            assert_eq!(Chance::of(&none, &record), Some(Chance(WHOLE)));
        }
        let nothing = Sampling { failed: false, slow: None, statuses: Vec::new(), ..none };
        assert_eq!(Chance::of(&nothing, &refused), None);
    }

    #[test]
    fn shares_are_written_short() {
        for (value, text) in
            [(1_000_000, "1"), (100_000, "0.1"), (12_500, "0.0125"), (1, "0.000001"), (0, "0")]
        {
            let mut out = Vec::new();
            share(&mut out, value);
            assert_eq!(out, text.as_bytes());
        }
    }
}
