//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).

use config::model;

use super::{Key, Limit, Verdict};

/// A limit as clients are told of it.
#[derive(Debug)]
pub(super) struct Policy {
    /// Its name as a string of structured fields.
    name: String,
    /// Name, quota and window.
    whole: String,
}

impl Policy {
    pub(super) fn new(name: &str, limit: &model::RateLimit) -> Self {
        // Windows are whole seconds.
        let per = limit.per.as_nanos().max(1);
        let window = per.div_ceil(1_000_000_000);
        let quota = (u128::from(limit.requests) * window * 1_000_000_000 / per).max(1);
        let name = format!("\"{}\"", name.replace(['"', '\\'], "_"));
        Self { whole: format!("{name};q={quota};w={window}"), name }
    }
}

/// Appends both fields for the limits that looked at a request, if any of them tells of itself.
pub(super) fn write(asked: &[(&Limit, Key, Verdict)], now: u64, lines: &mut Vec<u8>) {
    let told = || {
        asked
            .iter()
            .filter_map(|(limit, _, verdict)| Some((limit, limit.policy.as_ref()?, verdict)))
    };
    if told().next().is_none() {
        return;
    }
    lines.extend_from_slice(b"RateLimit-Policy: ");
    for (index, (_, policy, _)) in told().enumerate() {
        lines.extend_from_slice(if index > 0 { b", " } else { b"" });
        lines.extend_from_slice(policy.whole.as_bytes());
    }
    lines.extend_from_slice(b"\r\nRateLimit: ");
    let mut number = itoa::Buffer::new();
    for (index, (limit, policy, verdict)) in told().enumerate() {
        let (left, reset) = match *verdict {
            Verdict::Refused { again_in } => (0, again_in),
            Verdict::Admitted { until, .. } => match limit.rate.left(until, now) {
                0 => (0, limit.rate.next_in(until, now)),
                left => (left, until.saturating_sub(now)),
            },
        };
        lines.extend_from_slice(if index > 0 { b", " } else { b"" });
        lines.extend_from_slice(policy.name.as_bytes());
        lines.extend_from_slice(b";r=");
        lines.extend_from_slice(number.format(left).as_bytes());
        lines.extend_from_slice(b";t=");
        lines.extend_from_slice(number.format(seconds(reset)).as_bytes());
    }
    lines.extend_from_slice(b"\r\n");
}

/// Whole seconds, rounded up.
pub(super) fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}
