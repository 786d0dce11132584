//! Who may come in, by address.
//!
//! Networks either lie within each other or apart, so a list of them cuts the addresses into ranges
//! of which each has one answer: that of the smallest network it is in. The ranges are worked out
//! once; a request is a binary search in them, however many networks there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use config::model;
use ipnet::IpNet;

/// Bits by which an IPv4 address is longer when it is written as an IPv6 one.
const MAPPED_BITS: u8 = 96;

/// All lists that a client has to be admitted by.
#[derive(Debug, Default)]
pub struct Access {
    lists: Vec<AccessList>,
}

impl Access {
    /// Compiles lists, and reads the files they name.
    ///
    /// # Errors
    /// A file cannot be read, or a line of it is no network; in words that name the file.
    pub fn compile(lists: &[model::Access]) -> Result<Self, String> {
        let lists = lists.iter().map(|list| {
            let mut rules = Vec::with_capacity(list.allow.len() + list.deny.len());
            rules.extend(list.allow.iter().map(|net| (*net, true)));
            rules.extend(list.deny.iter().map(|net| (*net, false)));
            for (file, admits) in [(&list.allow_file, true), (&list.deny_file, false)] {
                if let Some(file) = file {
                    rules.extend(read(file)?.into_iter().map(|net| (net, admits)));
                }
            }
            Ok(AccessList::new(rules, list.others))
        });
        Ok(Self { lists: lists.collect::<Result<_, String>>()? })
    }

    /// There are none: everybody is admitted.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Whether a client with this address is admitted; `None` is one without, on a Unix socket.
    pub fn admits(&self, client: Option<IpAddr>) -> bool {
        self.lists.iter().all(|list| list.admits(client))
    }
}

/// One list of networks, each with an answer.
#[derive(Debug)]
pub struct AccessList {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    /// For addresses in none of them, and clients that have none.
    others: bool,
}

impl AccessList {
    /// The list of these networks. Of two that are the same, that with the answer `false` counts.
    pub fn new(rules: impl IntoIterator<Item = (IpNet, bool)>, others: bool) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, admits) in rules {
            match net {
                IpNet::V4(net) => v4.push(Rule {
                    first: u32::from(net.network()),
                    last: u32::from(net.broadcast()),
                    admits,
                }),
                // IPv4 addresses as a dual-stack socket sees them.
                IpNet::V6(net) => match net.network().to_ipv4_mapped() {
                    Some(first) if net.prefix_len() >= MAPPED_BITS => v4.push(Rule {
                        first: u32::from(first),
                        last: net.broadcast().to_ipv4_mapped().map_or(u32::MAX, u32::from),
                        admits,
                    }),
                    _ => v6.push(Rule {
                        first: u128::from(net.network()),
                        last: u128::from(net.broadcast()),
                        admits,
                    }),
                },
            }
        }
        Self { v4: Ranges::new(v4, others), v6: Ranges::new(v6, others), others }
    }

    /// A list that has the answer `true` for these networks only.
    pub fn of(networks: &[IpNet]) -> Self {
        Self::new(networks.iter().map(|net| (*net, true)), false)
    }

    /// Its answer for a client with this address.
    pub fn admits(&self, client: Option<IpAddr>) -> bool {
        match client.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => self.v4.find(u32::from(ip)).unwrap_or(self.others),
            Some(IpAddr::V6(ip)) => self.v6.find(u128::from(ip)).unwrap_or(self.others),
            None => self.others,
        }
    }
}

/// A network and its answer.
struct Rule<A> {
    first: A,
    last: A,
    admits: bool,
}

/// Addresses from which on there is another answer, sorted.
#[derive(Debug)]
struct Ranges<A> {
    begins: Vec<(A, bool)>,
}

/// An address as a number.
trait Address: Copy + Ord {
    const ZERO: Self;
    fn next(self) -> Option<Self>;
}

impl Address for u32 {
    const ZERO: Self = u32::from_be_bytes(Ipv4Addr::UNSPECIFIED.octets());

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    const ZERO: Self = u128::from_be_bytes(Ipv6Addr::UNSPECIFIED.octets());

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<A: Address> Ranges<A> {
    fn new(mut rules: Vec<Rule<A>>, others: bool) -> Self {
        if rules.is_empty() {
            return Self { begins: Vec::new() };
        }
        // A network comes before those within it, and of two that are the same the one that counts
        // comes last.
        rules.sort_by_key(|rule| (rule.first, std::cmp::Reverse(rule.last), !rule.admits));
        let mut begins = vec![(A::ZERO, others)];
        // Networks that the present place is in, the smallest last.
        let mut open: Vec<Rule<A>> = Vec::new();
        for rule in rules {
            leave(&mut open, &mut begins, others, |last| last < rule.first);
            begin(&mut begins, rule.first, rule.admits);
            open.push(rule);
        }
        leave(&mut open, &mut begins, others, |_| true);
        begins.dedup_by_key(|(_, admits)| *admits);
        begins.shrink_to_fit();
        Self { begins }
    }

    fn find(&self, address: A) -> Option<bool> {
        let behind = self.begins.partition_point(|(first, _)| *first <= address);
        self.begins.get(behind.checked_sub(1)?).map(|(_, admits)| *admits)
    }
}

/// From `at` on the answer is `admits`.
fn begin<A: Address>(begins: &mut Vec<(A, bool)>, at: A, admits: bool) {
    match begins.last_mut() {
        Some(last) if last.0 == at => last.1 = admits,
        _ => begins.push((at, admits)),
    }
}

/// Takes those networks off `open` that end where `ends` says: behind each of them the answer is that
/// of the network around it.
fn leave<A: Address>(
    open: &mut Vec<Rule<A>>,
    begins: &mut Vec<(A, bool)>,
    others: bool,
    ends: impl Fn(A) -> bool,
) {
    while let Some(inner) = open.pop_if(|rule| ends(rule.last)) {
        // A network around it that ends at the same place has nothing more to say.
        let around = open.last().map_or(others, |rule| rule.admits);
        if let Some(next) = inner.last.next() {
            begin(begins, next, around);
        }
    }
}

/// Bytes of a file with networks: some million of them.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The networks of a file: one a line, `#` begins a comment.
fn read(file: &Path) -> Result<Vec<IpNet>, String> {
    let fault = |what: String| format!("access: {}: {what}", file.display());
    let text =
        net::file::read(file, FILE_MAX).map_err(|error| fault(format!("cannot read: {error}")))?;
    let text = std::str::from_utf8(&text).map_err(|_| fault("it is not UTF-8 text".to_owned()))?;
    let mut networks = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        let parsed = written.parse::<IpAddr>().map(IpNet::from);
        let parsed = parsed.or_else(|_| written.parse::<IpNet>());
        networks.push(parsed.map_err(|_| {
            let shown: String = written.chars().take(40).collect();
            fault(format!("line {}: \"{shown}\" is no address and no network", index + 1))
        })?);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(allow: &[&str], deny: &[&str], others: bool) -> AccessList {
        let net = |text: &&str| {
            let ip = text.parse::<IpAddr>().map(IpNet::from);
            ip.unwrap_or_else(|_| text.parse::<IpNet>().unwrap())
        };
        let allow = allow.iter().map(|text| (net(text), true));
        AccessList::new(allow.chain(deny.iter().map(|text| (net(text), false))), others)
    }

    fn admits(list: &AccessList, ip: &str) -> bool {
        list.admits(Some(ip.parse().unwrap()))
    }

    #[test]
    fn the_smallest_network_counts_whatever_the_order() {
        let list = nets(
            &["10.0.0.0/8", "10.1.2.0/24", "10.255.255.255"],
            &["10.1.0.0/16", "10.1.2.128/25", "10.255.0.0/16"],
            false,
        );
        for (ip, expected) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.0.255.255", true),
            ("10.1.0.0", false),
            ("10.1.2.0", true),
            ("10.1.2.127", true),
            ("10.1.2.128", false),
            ("10.1.3.0", false),
            ("10.2.0.0", true),
            ("10.254.255.255", true),
            ("10.255.0.0", false),
            ("10.255.255.254", false),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
        ] {
            assert_eq!(admits(&list, ip), expected, "{ip}");
        }
    }

    #[test]
    fn deny_counts_where_both_say_something() {
        for list in [
            nets(&["10.0.0.0/8"], &["10.0.0.0/8"], true),
            nets(&["10.0.0.0/8", "10.0.0.0/8"], &["10.0.0.0/8"], true),
        ] {
            assert!(!admits(&list, "10.1.1.1"));
            assert!(admits(&list, "11.1.1.1"));
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_no_special_places() {
        let list = nets(&["0.0.0.0", "255.255.255.255", "::", "ffff::/16"], &[], false);
        for (ip, expected) in [
            ("0.0.0.0", true),
            ("0.0.0.1", false),
            ("255.255.255.254", false),
            ("255.255.255.255", true),
            ("::", true),
            ("::1", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ] {
            assert_eq!(admits(&list, ip), expected, "{ip}");
        }
        let all = nets(&["0.0.0.0/0", "::/0"], &["1.2.3.4"], false);
        assert!(admits(&all, "255.255.255.255") && admits(&all, "::") && admits(&all, "1.2.3.5"));
        assert!(!admits(&all, "1.2.3.4"));
    }

    #[test]
    fn an_address_mapped_into_ipv6_is_the_ipv4_address() {
        let list = nets(&["::ffff:10.0.0.0/104", "192.0.2.1"], &[], false);
        assert!(admits(&list, "10.1.1.1") && admits(&list, "::ffff:10.1.1.1"));
        assert!(admits(&list, "::ffff:192.0.2.1"));
        assert!(!admits(&list, "11.1.1.1") && !admits(&list, "::10.1.1.1"));
        let every = nets(&["::/0"], &[], false);
        assert!(!admits(&every, "10.1.1.1"), "no IPv6 network has IPv4 addresses in it");
        let mapped = nets(&["::ffff:0:0/96"], &[], false);
        assert!(admits(&mapped, "255.255.255.255") && admits(&mapped, "0.0.0.0"));
    }

    #[test]
    fn a_client_without_an_address_is_one_of_the_others() {
        assert!(!nets(&["0.0.0.0/0", "::/0"], &[], false).admits(None));
        assert!(nets(&[], &["0.0.0.0/0", "::/0"], true).admits(None));
    }

    #[test]
    fn all_lists_have_to_admit() {
        let lists = vec![nets(&["10.0.0.0/8"], &[], false), nets(&[], &["10.1.0.0/16"], true)];
        let both = Access { lists };
        let admits = |ip: &str| both.admits(Some(ip.parse().unwrap()));
        assert!(admits("10.2.0.1") && !admits("10.1.0.1") && !admits("11.0.0.1"));
        assert!(Access::default().admits(None) && Access::default().is_empty());
    }

    #[test]
    fn files_have_a_network_a_line() {
        let dir = std::env::temp_dir().join(format!("ravelin-access-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("nets");
        std::fs::write(&file, "# ours\n10.0.0.0/8  # office\n\n\t::1\r\n").unwrap();
        assert_eq!(read(&file).unwrap().len(), 2);
        std::fs::write(&file, "10.0.0.0/8\nexample.com\n").unwrap();
        let error = read(&file).unwrap_err();
        assert!(error.contains("line 2: \"example.com\"") && error.contains("nets"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(read(&file).unwrap_err().contains("cannot read"));
    }

    fn net() -> impl Strategy<Value = IpNet> {
        // Few leading bytes, so that networks lie within each other and end at the same places.
        let v4 = (prop::array::uniform4(prop_oneof![Just(0u8), Just(255), 0u8..4]), 0u8..=32);
        let v4 = v4.prop_map(|(ip, len)| IpNet::new(IpAddr::from(ip), len).unwrap().trunc());
        let v6 = (prop::array::uniform8(prop_oneof![Just(0u16), Just(0xffff)]), 0u8..=128);
        let v6 = v6.prop_map(|(ip, len)| IpNet::new(IpAddr::from(ip), len).unwrap().trunc());
        prop_oneof![3 => v4, 1 => v6]
    }

    /// What the ranges stand for: ask every network.
    fn by_asking_all(rules: &[(IpNet, bool)], others: bool, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let around = rules.iter().filter_map(|(net, admits)| match net {
            IpNet::V6(six) if six.prefix_len() >= MAPPED_BITS => {
                match (six.network().to_ipv4_mapped(), ip) {
                    (Some(first), IpAddr::V4(ip)) => {
                        let net = ipnet::Ipv4Net::new(first, six.prefix_len() - MAPPED_BITS);
                        let net = net.unwrap();
                        net.contains(&ip).then_some((net.prefix_len(), *admits))
                    }
                    _ => six
                        .contains(&match ip {
                            IpAddr::V6(ip) => ip,
                            IpAddr::V4(_) => return None,
                        })
                        .then_some((six.prefix_len(), *admits)),
                }
            }
            net => net.contains(&ip).then_some((net.prefix_len(), *admits)),
        });
        // The longest prefix; `false` before `true` among those.
        around.max_by_key(|(len, admits)| (*len, !*admits)).map_or(others, |(_, admits)| admits)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn ranges_answer_as_the_networks_do(
            rules in prop::collection::vec((net(), any::<bool>()), 0..40),
            others: bool,
        ) {
            let list = AccessList::new(rules.clone(), others);
            for (net, _) in &rules {
                let (first, last) = (net.network(), net.broadcast());
                let beside = |ip: IpAddr, step: i8| match ip {
                    IpAddr::V4(ip) => {
                        IpAddr::from(Ipv4Addr::from(u32::from(ip).wrapping_add_signed(step.into())))
                    }
                    IpAddr::V6(ip) => {
                        IpAddr::from(Ipv6Addr::from(u128::from(ip).wrapping_add_signed(step.into())))
                    }
                };
                for ip in [first, last, beside(first, -1), beside(last, 1)] {
                    prop_assert_eq!(list.admits(Some(ip)), by_asking_all(&rules, others, ip), "{}", ip);
                }
            }
        }
    }
}
