//! How many WebSockets of a route are open, in all and of each client address.
//!
//! What always holds: the counts are exact, because a place is taken before the upstream is asked and
//! given back when its holder is dropped; an address has an entry only while it has a socket, so the
//! table is no larger than there are sockets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open WebSockets of one route, of all workers.
#[derive(Debug, Default)]
pub struct OpenSockets {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of_address: HashMap<IpAddr, usize>,
}

/// A place among them.
#[derive(Debug)]
pub struct Place {
    sockets: Arc<OpenSockets>,
    address: Option<IpAddr>,
}

impl OpenSockets {
    /// Takes a place for a client if there are less than `max` and, of its address, less than
    /// `max_per_address`. A client without an address (on a Unix socket) counts among all only.
    pub fn enter(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        max: Option<usize>,
        max_per_address: Option<usize>,
    ) -> Option<Place> {
        let address = client.filter(|_| max_per_address.is_some()).map(network);
        let mut counts = self.lock();
        if max.is_some_and(|max| counts.all >= max) {
            return None;
        }
        if let (Some(address), Some(max)) = (address, max_per_address) {
            let count = counts.of_address.get(&address).copied().unwrap_or(0);
            if count >= max {
                return None;
            }
            counts.of_address.insert(address, count + 1);
        }
        counts.all += 1;
        drop(counts);
        Some(Place { sockets: Arc::clone(self), address })
    }

    /// A panic while it is held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sockets.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(count) = counts.of_address.get_mut(&address)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.of_address.remove(&address);
            }
        }
    }
}

/// One client has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let sockets = Arc::<OpenSockets>::default();
        let enter = |client, max, each| sockets.enter(client, max, each);
        let one = enter(ip("192.0.2.1"), Some(2), Some(1));
        assert!(one.is_some());
        assert!(enter(ip("192.0.2.1"), Some(2), Some(1)).is_none());
        assert!(enter(ip("::ffff:192.0.2.1"), Some(2), Some(1)).is_none());
        let two = enter(ip("2001:db8::1"), Some(2), Some(1));
        assert!(two.is_some());
        assert!(enter(None, Some(2), Some(1)).is_none(), "two are open");
        drop(one);
        assert!(enter(ip("2001:db8::ffff"), Some(2), Some(1)).is_none(), "of the same /64");
        assert!(enter(ip("2001:db8:0:1::1"), Some(2), Some(1)).is_some());
        drop(two);
        let counts = sockets.lock();
        assert_eq!((counts.all, counts.of_address.len()), (0, 0));
    }
}
