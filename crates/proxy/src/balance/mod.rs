//! Choosing an endpoint of a pool.
//!
//! Each method is one file with one function over the pool's members and a turn. A turn is a number
//! taken from one counter that all workers share, which makes round robin and weighted round robin
//! exact for the whole process without a lock.

#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod bounded_load;
mod candidates;
mod hash;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod ketama;
mod least_connections;
mod load;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod maglev;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod modulo;
mod node;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod peak_ewma;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod random;
mod round_robin;
mod weighted;
#[cfg_attr(not(test), expect(dead_code, reason = "pools do not offer it yet"))]
mod weighted_random;

use std::sync::Arc;

use config::model::Balance;
use net::tls::ClientConfig;

pub use self::peak_ewma::Ewma;
use crate::live::{Endpoint, Turn};

/// The members of a pool and how one is chosen.
#[derive(Debug)]
pub struct Balancer {
    members: Vec<Member>,
    method: Method,
    turn: Arc<Turn>,
}

/// One upstream entry of a pool.
#[derive(Debug)]
pub struct Member {
    /// The endpoint requests go to; entries of several pools may share one.
    pub endpoint: Arc<Endpoint>,
    /// What a TLS connection to it has to agree to; `None` where it is plain.
    pub tls: Option<ClientConfig>,
    /// As the operator wrote it, for logs.
    pub url: String,
    /// Put before every path; empty or "/x".
    pub base_path: String,
    /// Share of requests, for weighted round robin.
    pub weight: u32,
}

#[derive(Debug)]
enum Method {
    RoundRobin,
    Weighted(weighted::Sequence),
    LeastConnections,
}

impl Balancer {
    /// A balancer over `members`, which must not be empty, using `turn`.
    ///
    /// Where weights count, an entry of weight 0 gets no request, not even when others fail.
    pub fn new(method: &Balance, mut members: Vec<Member>, turn: Arc<Turn>) -> Self {
        if *method == Balance::Weighted && members.iter().any(|member| member.weight > 0) {
            members.retain(|member| member.weight > 0);
        }
        let method = match method {
            Balance::Weighted => {
                let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
                Method::Weighted(weighted::Sequence::new(&weights))
            }
            Balance::LeastConnections => Method::LeastConnections,
            _ => Method::RoundRobin,
        };
        Self { members, method, turn }
    }

    /// The members in declared order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member whose turn it is; `None` only if the pool has no member that may be used.
    pub fn choose(&self) -> Option<&Member> {
        let index = match &self.method {
            _ if self.members.len() == 1 => 0,
            Method::RoundRobin => round_robin::choose(self.members.len(), self.turn.take())?,
            Method::Weighted(sequence) => sequence.choose(self.turn.take())?,
            Method::LeastConnections => {
                let load = |index| {
                    let member: &Member = self.members.get(index)?;
                    let in_flight = member.endpoint.in_flight();
                    Some(load::Load { in_flight, weight: member.weight })
                };
                least_connections::choose(self.members.len(), self.turn.take(), load)?
            }
        };
        self.members.get(index)
    }

    /// The member after `failed` in declared order, for a request that could not be sent to it.
    pub fn next_after(&self, failed: &Member) -> Option<&Member> {
        let at = self.members.iter().position(|member| std::ptr::eq(member, failed))?;
        self.members.iter().cycle().nth(at + 1)
    }
}
