//! Pools that get some of a route's requests, or copies of them.

use std::net::IpAddr;

use config::model::{self, SplitBy};
use xxhash_rust::xxh3::xxh3_64;

use super::{Conditions, Path};
use crate::decide::Request;

/// Parts that a share is counted in.
const WHOLE: u64 = 1_000_000;

/// A pool that gets some requests.
#[derive(Debug)]
pub struct Split {
    /// By index.
    pub pool: usize,
    share: Option<u32>,
    by: SplitBy,
    conditions: Option<Conditions>,
    path: Option<Path>,
}

impl Split {
    /// Compiles it.
    pub fn compile(split: &model::Split) -> Self {
        Self {
            pool: split.pool,
            share: split.share,
            by: split.by.clone(),
            conditions: Conditions::compile(&[], &split.methods, &split.when),
            path: split.path.as_ref().map(Path::compile),
        }
    }

    /// How likely the request is one of those, from 0 to 1: something in between only where chance
    /// decides.
    pub fn odds(&self, request: &Request<'_>, address: Option<IpAddr>) -> f64 {
        match (&self.by, self.share) {
            (SplitBy::Random, Some(share)) => {
                // Whatever is below every share.
                let fits = self.takes(request, || address, || 0);
                if fits { f64::from(share) / WHOLE as f64 } else { 0.0 }
            }
            _ => f64::from(u8::from(self.takes(request, || address, || 0))),
        }
    }

    /// The request is one of those. `chance` is any number, equally likely, where that decides; the
    /// client's `address` or field always says the same.
    pub fn takes(
        &self,
        request: &Request<'_>,
        address: impl Fn() -> Option<IpAddr>,
        chance: impl Fn() -> u64,
    ) -> bool {
        let fits = self.path.as_ref().is_none_or(|path| path.takes(request.path))
            && self.conditions.as_ref().is_none_or(|conditions| {
                conditions.method(request.method) && conditions.properties(request)
            });
        let Some(share) = self.share.filter(|_| fits) else { return fits };
        let place = match &self.by {
            SplitBy::Random => chance(),
            SplitBy::Address => match address() {
                Some(IpAddr::V4(ip)) => xxh3_64(&ip.octets()),
                Some(IpAddr::V6(ip)) => xxh3_64(&ip.octets()),
                None => xxh3_64(&[]),
            },
            SplitBy::Header(name) => {
                xxh3_64(request.fields.values(name).next().unwrap_or_default())
            }
        };
        place % WHOLE < u64::from(share)
    }
}
