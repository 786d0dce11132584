//! What limits would say to a request, without counting it.

use std::net::IpAddr;
use std::time::Duration;

use config::model::RateKey;

use super::{RateLimits, Verdict};
use crate::decide::Request;

/// What one limit would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The limit's name.
    pub name: String,
    /// What is counted together, and which that is here.
    pub key: &'static str,
    /// It is not for this request: another method or path, or a client that is not counted.
    pub exempt: bool,
    /// More requests that would be admitted at once after this one.
    pub left: u64,
    /// Requests that are admitted at once after a pause.
    pub burst: u64,
    /// The request would be refused, and another be admitted after this time.
    pub refused_for: Option<Duration>,
    /// The request would have to wait for so long.
    pub wait: Duration,
    /// What it would be answered with if it is refused.
    pub status: u16,
}

impl RateLimits {
    /// What each of them would say at `now`. Nothing is counted.
    pub fn look(&self, request: &Request<'_>, client: Option<IpAddr>, now: u64) -> Vec<Look> {
        let looks = self.limits.iter().map(|limit| {
            let key = limit.key_of(request, client);
            let verdict = limit.counts.table.look(key, &limit.rate, now, limit.patience);
            let (left, wait, refused_for) = match verdict {
                Verdict::Admitted { until, wait } => (limit.rate.left(until, now), wait, None),
                Verdict::Refused { again_in } => (0, 0, Some(Duration::from_nanos(again_in))),
            };
            Look {
                name: limit.name.clone(),
                key: match limit.key {
                    RateKey::Address => "address",
                    RateKey::Header(_) => "field",
                    RateKey::Cookie(_) => "cookie",
                    RateKey::Route => "all requests",
                },
                exempt: !limit.is_for(request, client),
                left,
                burst: limit.rate.left(0, now),
                refused_for,
                wait: Duration::from_nanos(wait),
                status: limit.status,
            }
        });
        looks.collect()
    }
}
