//! Copies of requests for a pool whose responses nobody sees.
//!
//! What always holds: the client's own request waits for nothing here; a copy is one task with a
//! connection of its own and bounds on time and bytes, and a worker has at most [`MIRRORS_MAX`] at once:
//! what would be one more is left out, as is a request whose body has not come with its head.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use config::model::UpstreamHttp;
use net::timer::Tick;
use tokio::time::timeout;
use wire::head::Framing;

use super::property::property;
use super::reach::greeting;
use super::sending::write_copy_head;
use crate::balance::{Ask, Choice, Member, Trial, Tried};
use crate::decide::{Matched, Request};
use crate::exchange::Inbound;
use crate::upstream::connect;
use crate::worker::LocalSnapshot;

/// Copies under way in one worker.
const MIRRORS_MAX: usize = 256;

/// Bytes of a response that are read; more is not waited for.
const READ_MAX: usize = 1 << 20;

/// Sends a copy of the request, if the route has a pool for that and this is one of its requests.
pub(crate) fn mirror(inbound: &Inbound<'_>, matched: &Matched<'_>, request: &Request<'_>) {
    let Some(mirror) = &matched.route.mirror else { return };
    let worker = &inbound.connection.worker;
    let takes = mirror.takes(request, || inbound.client_ip(), || worker.next_random());
    if !takes || matched.upgrade {
        return;
    }
    let Some(body) = whole_body(inbound) else { return };
    let Some(pool) = matched.proxy.pools.get(mirror.pool) else { return };
    let hash = pool.balancer.hash_key();
    let ask = Ask {
        hash: hash.map_or(0, |key| Ask::hash_of(&property(inbound, key))),
        random: worker.next_random(),
        turn: pool.balancer.take_turn(),
        now: Tick::now(),
    };
    let Choice::Member(member, trial) = pool.balancer.choose(&ask, &Tried::default()) else {
        return;
    };
    // Nobody learns from a copy how its member is, so it must not be the one request that tries it.
    if trial == Trial::Yes {
        return member.state.trial_abandoned();
    }
    if member.endpoint.transport.http != UpstreamHttp::Http1 {
        return;
    }
    let Some(place) = Place::take(&worker.mirrors) else { return };
    let mut bytes = Vec::new();
    write_copy_head(inbound, &Matched { pool, ..*matched }, member, &mut bytes);
    bytes.extend_from_slice(body);
    let limits = pool.settings.timeout;
    let steps = limits.connect.saturating_add(limits.write).saturating_add(limits.read);
    let within = limits.request.unwrap_or(steps);
    let greeting = greeting(inbound, member);
    let Some(found) = Found::of(inbound.connection.snapshot(), matched, mirror.pool, member) else {
        return;
    };
    tokio::task::spawn_local(async move {
        let _place = place;
        // Nobody waits for it, and nobody is told how it went.
        let _ = timeout(within, copy(&found, &greeting, &bytes)).await;
    });
}

/// The body, if all of it came with the head.
fn whole_body<'a>(inbound: &Inbound<'a>) -> Option<&'a [u8]> {
    match inbound.head.framing {
        Framing::None => Some(&[]),
        Framing::Length(length) => inbound.early.get(..usize::try_from(length).ok()?),
        Framing::Chunked | Framing::UntilClose => None,
    }
}

/// A member of a snapshot, which lives as long as this.
struct Found {
    snapshot: LocalSnapshot,
    site: usize,
    pool: usize,
    member: usize,
}

impl Found {
    /// `None` if the snapshot in force is another one by now.
    fn of(
        snapshot: LocalSnapshot,
        matched: &Matched<'_>,
        pool: usize,
        member: &Member,
    ) -> Option<Self> {
        let site = snapshot.sites.iter().position(|site| std::ptr::eq(site, matched.site))?;
        let member = matched.proxy.pools.get(pool)?.balancer.index_of(member)?;
        Some(Self { snapshot, site, pool, member })
    }

    fn member(&self) -> Option<&Member> {
        let proxy = self.snapshot.sites.get(self.site)?.proxy.as_ref()?;
        proxy.pools.get(self.pool)?.balancer.members().get(self.member)
    }
}

async fn copy(found: &Found, greeting: &[u8], bytes: &[u8]) {
    let Some(member) = found.member() else { return };
    let Some(_flight) = member.endpoint.enter(member.max_conns) else { return };
    let Ok(opened) = connect(member, greeting).await else { return };
    let mut rest = bytes;
    while !rest.is_empty() {
        let Ok(count) = poll_fn(|cx| opened.stream.poll_write(cx, rest)).await else { return };
        rest = rest.get(count..).unwrap_or_default();
    }
    let mut dropped = vec![0; 4096];
    let mut read = 0;
    while read < READ_MAX {
        match poll_fn(|cx| opened.stream.poll_read(cx, &mut dropped)).await {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
    }
}

/// One of the copies that a worker may have under way.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(count: &Rc<Cell<usize>>) -> Option<Self> {
        if count.get() >= MIRRORS_MAX {
            return None;
        }
        count.set(count.get() + 1);
        Some(Self(Rc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
