//! From addresses to the slots of endpoints.

use std::net::SocketAddr;
use std::sync::Arc;

use config::model::Transport;
use proxy::live::{Endpoint, Lookup, Share};

/// An address that requests may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Port 0 stands for that of the endpoint.
    pub(super) address: SocketAddr,
    /// Which host it is an address of, among those of the name.
    pub(super) target: usize,
    /// What SRV records say of it.
    pub(super) share: Share,
}

/// The endpoints of a name as the slots of each port and what is spoken there, in order.
pub(super) fn slots(mut endpoints: Vec<Arc<Endpoint>>) -> Vec<Vec<Arc<Endpoint>>> {
    fn kind(endpoint: &Endpoint) -> (Option<u16>, &Transport) {
        (endpoint.name_to_resolve().map(|(_, port)| port), &endpoint.transport)
    }
    endpoints.sort_by_key(|endpoint| endpoint.slot);
    let mut all: Vec<Vec<Arc<Endpoint>>> = Vec::new();
    for endpoint in endpoints {
        let same = |slots: &&mut Vec<Arc<Endpoint>>| {
            slots.first().is_some_and(|first| kind(first) == kind(&endpoint))
        };
        match all.iter_mut().find(same) {
            Some(slots) => slots.push(endpoint),
            None => all.push(vec![endpoint]),
        }
    }
    all
}

/// Spreads addresses over the slots of one name; says how many found none. A slot keeps its address
/// for as long as the name has it: connections should not wander with every shuffled answer.
///
/// An address of each family of one target makes one endpoint: most hosts with both have them of one
/// machine, and where one family does not work the other is tried. That which comes first is tried
/// first. `joins`: others of the name serve already.
pub(super) fn fill(slots: &[Arc<Endpoint>], places: &[Place], joins: bool) -> usize {
    let port = |slot: &Endpoint| match slot.lookup {
        Lookup::Addresses => slot.name_to_resolve().map(|(_, port)| port),
        Lookup::Services => None,
    };
    let port = slots.first().and_then(|slot| port(slot));
    let mut wanted: Vec<Place> = Vec::new();
    for place in places {
        let mut place = place.clone();
        place.address.set_port(port.unwrap_or(place.address.port()));
        if !wanted.iter().any(|other| other.address == place.address) {
            wanted.push(place);
        }
    }
    // Indices of places, for each slot.
    let mut filled: Vec<Vec<usize>> = Vec::with_capacity(slots.len());
    let mut placed = vec![false; wanted.len()];
    let fits = |slot: &[usize], place: &Place| {
        slot.iter().filter_map(|&index| wanted.get(index)).all(|other| {
            other.target == place.target && other.address.is_ipv4() != place.address.is_ipv4()
        })
    };
    for slot in slots {
        let mut kept = Vec::new();
        for address in slot.addresses().iter() {
            let index = wanted.iter().position(|place| place.address == *address);
            let place = index.and_then(|index| Some((index, wanted.get(index)?)));
            if let Some((index, place)) = place
                && !placed.get(index).is_none_or(|placed| *placed)
                && fits(&kept, place)
            {
                kept.push(index);
                placed.iter_mut().skip(index).take(1).for_each(|placed| *placed = true);
            }
        }
        filled.push(kept);
    }
    let mut left_out = 0;
    for (index, place) in wanted.iter().enumerate() {
        if placed.get(index).is_some_and(|placed| *placed) {
            continue;
        }
        let beside = filled.iter().position(|slot| !slot.is_empty() && fits(slot, place));
        let slot = beside.or_else(|| filled.iter().position(Vec::is_empty));
        match slot.and_then(|slot| filled.get_mut(slot)) {
            Some(slot) => slot.push(index),
            None => left_out += 1,
        }
    }
    for (slot, mut indices) in slots.iter().zip(filled) {
        indices.sort_unstable();
        let here: Vec<&Place> = indices.iter().filter_map(|&index| wanted.get(index)).collect();
        let share = here.first().map_or_else(Share::default, |place| place.share);
        let mut addresses: Vec<SocketAddr> = here.iter().map(|place| place.address).collect();
        // That of the first family in the answer, not of the first in this slot.
        let first_is_v4 = wanted.first().is_none_or(|place| place.address.is_ipv4());
        addresses.sort_by_key(|address| address.is_ipv4() != first_is_v4);
        slot.publish(addresses, share, joins);
    }
    left_out
}

#[cfg(test)]
mod tests {
    use config::model::UpstreamAddress;
    use proxy::live::Live;

    use super::*;

    fn endpoints(count: usize, lookup: Lookup) -> Vec<Arc<Endpoint>> {
        let live = Live::default();
        let address = UpstreamAddress::Tcp { host: "a.test".to_owned(), port: 80 };
        let slot = |slot| live.endpoint(&address, &Transport::default(), lookup, slot);
        (0..count).map(slot).collect()
    }

    /// A digit is an IPv4 address, a letter an IPv6 one.
    fn at(name: char) -> SocketAddr {
        match name.to_digit(10) {
            Some(digit) => ([10, 0, 0, digit as u8], 80).into(),
            None => ([0xfd00, 0, 0, 0, 0, 0, 0, name as u16], 80).into(),
        }
    }

    fn places(names: &str, target: usize) -> Vec<Place> {
        let place = |name| Place { address: at(name), target, share: Share::default() };
        names.chars().map(place).collect()
    }

    #[track_caller]
    fn assert_slots(slots: &[Arc<Endpoint>], expected: &[&str]) {
        let found: Vec<Vec<SocketAddr>> =
            slots.iter().map(|slot| slot.addresses().to_vec()).collect();
        let expected: Vec<Vec<SocketAddr>> =
            expected.iter().map(|names| names.chars().map(at).collect()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_same_addresses_in_another_order_change_nothing() {
        let slots = endpoints(3, Lookup::Addresses);
        fill(&slots, &places("12", 0), false);
        assert_slots(&slots, &["1", "2", ""]);
        fill(&slots, &places("21", 0), true);
        assert_slots(&slots, &["1", "2", ""]);
        assert_eq!(slots[0].generation(), 1);
        fill(&slots, &places("2", 0), true);
        assert_slots(&slots, &["", "2", ""]);
        fill(&slots, &places("342", 0), true);
        assert_slots(&slots, &["3", "2", "4"]);
    }

    #[test]
    fn an_address_of_each_family_is_one_endpoint() {
        let slots = endpoints(3, Lookup::Addresses);
        fill(&slots, &places("12ab", 0), false);
        assert_slots(&slots, &["1a", "2b", ""]);
        fill(&slots, &places("b2", 0), true);
        assert_slots(&slots, &["", "b2", ""]);
    }

    #[test]
    fn families_of_two_targets_are_two_endpoints() {
        let slots = endpoints(3, Lookup::Services);
        let all = [places("1", 0), places("a", 1), places("2b", 2)].concat();
        fill(&slots, &all, false);
        assert_slots(&slots, &["1", "a", "2b"]);
    }

    #[test]
    fn what_has_no_slot_is_counted() {
        let slots = endpoints(2, Lookup::Addresses);
        assert_eq!(fill(&slots, &places("1234", 0), false), 2);
        assert_slots(&slots, &["1", "2"]);
        assert_eq!(fill(&slots, &places("4321", 0), true), 2);
        assert_slots(&slots, &["1", "2"]);
        assert_eq!(fill(&slots, &places("431", 0), true), 1);
        assert_slots(&slots, &["1", "4"]);
    }

    #[test]
    fn priorities_and_weights_change_where_addresses_stay() {
        let slots = endpoints(2, Lookup::Services);
        let mut all = places("12", 0);
        fill(&slots, &all, false);
        let generation = slots[1].generation();
        all[1].share = Share { priority: 5, weight: 7 };
        fill(&slots, &all, true);
        assert_eq!(slots[1].share(), Share { priority: 5, weight: 7 });
        assert_eq!(slots[1].generation(), generation);
    }
}
