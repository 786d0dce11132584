//! Where a request goes that is passed on: pools, members, and the head that they get.

use std::net::IpAddr;

use config::model::{Balance, HashKey, HashTable, UpstreamAddress};
use net::timer::{Tick, unix_millis};
use wire::field::FieldId;

use super::rounds::{This, fields_of, text};
use super::settings::{self, Where};
use super::{Explanation, MemberFound, PoolFound, Sent};
use crate::balance::{Ask, Member};
use crate::decide::{Matched, Request};
use crate::filters::{RequestHeadParts, Told, ToldBefore, write_request_head};
use crate::health::breaker::State;
use crate::pool::Pool;
use crate::sticky::Found;

/// Stands for the id that a request gets when it is served.
const REQUEST_ID: &[u8] = b"(request id)";

/// A request that is passed on.
pub(super) struct For<'r, 'a> {
    pub(super) this: &'r This<'a>,
    pub(super) matched: &'r Matched<'a>,
    pub(super) request: &'r Request<'r>,
    /// Field lines that tell the upstream what was proved.
    pub(super) proved: &'r [u8],
    pub(super) at: &'r Where<'r>,
}

/// Notes where the request goes.
pub(super) fn find(out: &mut Explanation, asked: &For<'_, '_>) {
    let matched = asked.matched;
    let mut rest = 1.0;
    let mut found: Vec<(&Pool, f64, String)> = Vec::new();
    for split in &matched.route.split {
        let odds = split.odds(asked.request, Some(asked.this.client));
        let Some(pool) = matched.proxy.pools.get(split.pool).filter(|_| odds > 0.0) else {
            continue;
        };
        found.push((pool, rest * odds, "a `split` of the route".to_owned()));
        rest *= 1.0 - odds;
        if rest <= 0.0 {
            break;
        }
    }
    if rest > 0.0 {
        found.push((matched.pool, rest, "`upstream` of the route".to_owned()));
    }
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (number, (pool, chance, why)) in found.into_iter().enumerate() {
        let (view, chosen) = asked.pool(pool, chance, why);
        out.pools.push(view);
        if number == 0 {
            let matched = Matched { pool, ..*matched };
            settings::of_upstreams(out, asked.at, &matched);
            out.sent = chosen.map(|member| asked.sent(&matched, member));
        }
    }
    if let Some(mirror) = &matched.route.mirror {
        let odds = mirror.odds(asked.request, Some(asked.this.client));
        let pool = matched.proxy.pools.get(mirror.pool).filter(|_| odds > 0.0 && !matched.upgrade);
        if let Some(pool) = pool {
            let share = odds * 100.0;
            out.notes.push(format!("a copy goes to the pool `{}` ({share:.4} %)", pool.name));
        }
    }
}

impl<'a> For<'_, 'a> {
    /// A pool as it is now, and the member that would have the request, as far as that can be said.
    fn pool<'p>(
        &self,
        pool: &'p Pool,
        chance: f64,
        why: String,
    ) -> (PoolFound, Option<&'p Member>) {
        let now = Tick::now();
        let balancer = &pool.balancer;
        let hash = balancer.hash_key().map_or(0, |key| Ask::hash_of(&self.property(key)));
        let weighed = balancer.weigh(hash, now);
        let kept = self.keeper(pool, now);
        let alone = !balancer.may_leave_out();
        let next = kept.or(weighed.next);
        let members = balancer.members();
        let mut entry: Option<(&str, usize)> = None;
        let mut views = Vec::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            // Members of one entry stand together.
            let nth = match entry {
                Some((url, nth)) if url == member.url && member.endpoint.slot > 0 => nth,
                Some((_, nth)) => nth + 1,
                None => 0,
            };
            entry = Some((&member.url, nth));
            // Places for further addresses of a name are no members before there are such.
            if !member.endpoint.is_known() && member.endpoint.slot > 0 {
                continue;
            }
            let chance = weighed.members.get(index).copied().unwrap_or_default();
            let usable = chance.is_candidate || kept == Some(index);
            let mut why = member.why_not(alone, now);
            if why.is_none() && !usable {
                why = Some("a backup: another tier has somebody".to_owned());
            } else if why.is_some() && usable && kept != Some(index) {
                why = why.map(|why| format!("{why}; asked rather than nobody"));
            }
            views.push(MemberFound {
                url: member.place(),
                usable,
                why,
                tier: member.tier(),
                weight: member.own_weight(),
                share: match kept {
                    Some(kept) => Some(if kept == index { 1.0 } else { 0.0 }),
                    None => chance.share,
                },
                score: chance.score,
                in_flight: member.endpoint.in_flight(),
                next: next == Some(index),
                place: self.this.snapshot.places.upstream(self.at.site, &pool.name, nth, &["url"]),
            });
        }
        let mut method = called(balancer.method());
        if kept.is_some() {
            method = format!("{method}; a cookie keeps the client with a member");
        }
        let likeliest = || {
            let share = |index: &usize| weighed.members.get(*index).map_or(0, |it| it.weight);
            let candidates = (0..members.len())
                .filter(|index| weighed.members.get(*index).is_some_and(|it| it.is_candidate));
            candidates.max_by_key(|index| (share(index), std::cmp::Reverse(*index)))
        };
        // What is sent depends little on the member: any of the pool will do to show it.
        let chosen = next.or_else(likeliest).or(Some(0)).and_then(|index| members.get(index));
        let view = PoolFound {
            name: pool.name.clone(),
            chance,
            why,
            place: self.at.pool(&pool.name, &[]),
            method,
            closed: closed(pool, &views, weighed.full),
            members: views,
        };
        (view, chosen)
    }

    /// The member that a cookie keeps the client with.
    fn keeper(&self, pool: &Pool, now: Tick) -> Option<usize> {
        let sticky = pool.sticky.as_ref()?;
        let cookies = self.this.head.fields.iter().filter(|field| field.id == FieldId::Cookie);
        let cookies = cookies.map(|field| field.value.of(self.this.bytes));
        match sticky.find(cookies, unix_millis() / 1000) {
            Found::None | Found::Invalid => None,
            found => pool.would_keep(found.tag()?, now),
        }
    }

    /// The property of the request that a method hashes.
    fn property(&self, key: &HashKey) -> Vec<u8> {
        let (head, bytes) = (self.this.head, self.this.bytes);
        match (key, self.this.client) {
            (HashKey::ClientNetwork, IpAddr::V4(ip)) => {
                ip.octets().get(..3).unwrap_or_default().to_vec()
            }
            (HashKey::ClientAddress, IpAddr::V4(ip)) => ip.octets().to_vec(),
            (HashKey::ClientAddress | HashKey::ClientNetwork, IpAddr::V6(ip)) => {
                ip.octets().to_vec()
            }
            (HashKey::Uri, _) => {
                let query = self.this.target.query.unwrap_or_default();
                [&self.this.target.path, &b"?"[..], query].concat()
            }
            (HashKey::Header(name), _) => {
                self.request.fields.values(name).next().unwrap_or_default().to_vec()
            }
            (HashKey::Cookie(name), _) => {
                let lines = head.fields.iter().filter(|field| field.id == FieldId::Cookie);
                let pairs = lines.flat_map(|field| field.value.of(bytes).split(|b| *b == b';'));
                let mut values = pairs
                    .map(<[u8]>::trim_ascii)
                    .filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
                values.next().unwrap_or_default().to_vec()
            }
        }
    }

    /// The head that a member gets.
    fn sent(&self, matched: &Matched<'_>, member: &Member) -> Sent {
        let this = self.this;
        let route = matched.route;
        let parts = RequestHeadParts {
            head: this.head,
            bytes: this.bytes,
            path: &this.target.path,
            query: this.target.query,
            route,
            preserve_host: member.preserve_host.unwrap_or(route.forwarding.preserve_host),
            base_path: &member.base_path,
            authority: self.request.authority,
            absolute_form: this.target.authority.is_some(),
            endpoint_host: match &member.endpoint.address {
                UpstreamAddress::Tcp { .. } => &member.endpoint.label,
                UpstreamAddress::Unix(_) => "localhost",
            },
            client: &this.peer,
            told_before: &ToldBefore::default(),
            client_ip: route.tells_client().then_some(this.client),
            peer_trusted: this.peer_trusted,
            secure: this.listener.tls,
            certificate_lines: &[],
            proved_lines: self.proved,
            port: this.listener.port,
            length: None,
            upgrade: matched.upgrade,
            te_trailers: false,
            // Ids of traces are new for every request.
            traced: Told::default(),
            sticky: matched.pool.sticky.as_ref(),
            request_id: REQUEST_ID,
        };
        let mut head = Vec::new();
        write_request_head(&parts, &mut head);
        let end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
        let (line, lines) = head.split_at_checked(end).unwrap_or((&head, &[]));
        let mut words = line.split(|byte| *byte == b' ');
        let method = text(words.next().unwrap_or_default());
        let target = text(words.next().unwrap_or_default());
        let fields = fields_of(lines);
        let own: Vec<(String, String)> = this
            .head
            .fields
            .iter()
            .map(|field| (text(field.name.of(this.bytes)), text(field.value.of(this.bytes))))
            .collect();
        let has = |all: &[(String, String)], name: &str| {
            all.iter().any(|(one, _)| one.eq_ignore_ascii_case(name))
        };
        let mut removed: Vec<String> =
            own.iter().map(|(name, _)| name).filter(|name| !has(&fields, name)).cloned().collect();
        removed.dedup();
        let added = fields.iter().filter(|field| !own.contains(field)).cloned().collect();
        Sent { method, target, fields, added, removed }
    }
}

/// What stands against a request to any member of the pool now.
fn closed(pool: &Pool, members: &[MemberFound], full: bool) -> Option<String> {
    let state = pool.breaker().map(|breaker| breaker.state());
    let in_flight = pool.state.in_flight();
    match (state, pool.most()) {
        (Some(State::Open), _) => {
            Some("its circuit is open: 503 until it is tried again".to_owned())
        }
        (_, Some(most)) if in_flight >= most => {
            Some(format!("it has {in_flight} of {most} requests: the next one waits"))
        }
        _ if full => Some("all members are full: the next one waits".to_owned()),
        _ if !members.iter().any(|member| member.usable) => {
            Some("none of its members can be used: 503".to_owned())
        }
        (Some(State::HalfOpen), _) => Some(
            "its circuit is half open: some requests try it, others are answered 503".to_owned(),
        ),
        _ => None,
    }
}

/// A method as the configuration calls it.
fn called(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "round_robin".to_owned(),
        Balance::Weighted => "weighted".to_owned(),
        Balance::LeastConnections => "least_connections".to_owned(),
        Balance::Random => "random".to_owned(),
        Balance::WeightedRandom => "weighted_random".to_owned(),
        Balance::PeakEwma => "least_time".to_owned(),
        Balance::Hash { key, table, bounded_load } => {
            let of = match key {
                HashKey::ClientNetwork => "the client's network".to_owned(),
                HashKey::ClientAddress => "the client's address".to_owned(),
                HashKey::Uri => "path and query".to_owned(),
                HashKey::Header(name) => format!("the field {name}"),
                HashKey::Cookie(name) => format!("the cookie {name}"),
            };
            let table = match table {
                HashTable::Modulo => "modulo",
                HashTable::Ketama => "ketama",
                HashTable::Maglev => "maglev",
            };
            let bound = bounded_load.map_or_else(String::new, |most| format!(", at most {most} %"));
            format!("hash of {of} ({table}{bound})")
        }
    }
}
