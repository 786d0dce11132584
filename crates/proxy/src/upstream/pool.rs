//! Idle upstream connections of one worker.
//!
//! An idle socket stays registered with the worker's runtime, so that it was closed (or that its
//! peer sent something nobody asked for) is known without asking the kernel. The most recently used
//! connection is taken first, which lets the surplus grow old and be closed.
//!
//! What always holds: a connection in here has carried whole messages only, with not one byte more.

use config::model::IdleConnections;
use net::timer::Tick;

use super::UpstreamConnection;

/// The idle connections of one worker, by endpoint.
#[derive(Debug, Default)]
pub struct IdlePool {
    /// Indexed by the endpoint's id; within it the longest idle first.
    endpoints: Vec<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<UpstreamConnection>,
    /// When it is too old.
    until: Tick,
}

impl IdlePool {
    /// A connection to endpoint `id` that is fit for another exchange.
    pub fn take(&mut self, id: usize) -> Option<Box<UpstreamConnection>> {
        let idle = self.endpoints.get_mut(id)?;
        let now = Tick::now();
        while let Some(mut candidate) = idle.pop() {
            if candidate.is_fit(now) {
                candidate.connection.reused = true;
                return Some(candidate.connection);
            }
        }
        None
    }

    /// Keeps `connection` for the next exchange with endpoint `id`.
    pub fn put(
        &mut self,
        id: usize,
        connection: Box<UpstreamConnection>,
        limits: &IdleConnections,
    ) {
        if limits.max == 0 {
            return;
        }
        if self.endpoints.len() <= id {
            self.endpoints.resize_with(id + 1, Vec::new);
        }
        let idle = &mut self.endpoints[id];
        if idle.len() >= limits.max {
            idle.remove(0);
        }
        let old = connection.established.after(limits.max_age);
        let until = Tick::now().after(limits.timeout).min(old);
        idle.push(Idle { connection, until });
    }

    /// Forgets every idle connection to endpoint `id`: one of them turned out to be dead, so the
    /// others are suspect.
    pub fn distrust(&mut self, id: usize) {
        if let Some(idle) = self.endpoints.get_mut(id) {
            idle.clear();
        }
    }

    /// How many there are, by the endpoint's id.
    pub fn counts(&self) -> Vec<usize> {
        self.endpoints.iter().map(Vec::len).collect()
    }

    /// Closes what is too old or was closed by its peer.
    pub fn sweep(&mut self) {
        let now = Tick::now();
        for idle in &mut self.endpoints {
            idle.retain(|idle| idle.is_fit(now));
        }
    }
}

impl Idle {
    /// It may carry another exchange.
    fn is_fit(&self, now: Tick) -> bool {
        now < self.until && !self.connection.lease.is_over() && self.connection.carrier.idle_check()
    }
}
