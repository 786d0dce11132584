//! Finding an endpoint and a connection to it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use super::Broken;
use crate::balance::Member;
use crate::decide::Matched;
use crate::exchange::Inbound;
use crate::live::InFlight;
use crate::log::{Cause, Party, Phase, Record};
use crate::upstream::{ConnectError, UpstreamConnection, connect};

/// Endpoints tried for one request when connecting fails; nothing was sent to those before.
const ENDPOINTS_TRIED_MAX: usize = 3;

/// An endpoint and a connection to it.
pub(super) struct Reached<'a> {
    /// The pool's entry.
    pub(super) member: &'a Member,
    /// The connection, kept or new.
    pub(super) connection: UpstreamConnection,
    /// Counts the request at the endpoint.
    _in_flight: InFlight<'a>,
}

/// Chooses an endpoint and takes a kept connection to it (unless `fresh_only`) or opens one. When
/// that fails, the next endpoint of the pool has its turn.
pub(super) async fn reach<'a>(
    inbound: &Inbound<'a>,
    matched: &Matched<'a>,
    fresh_only: bool,
    record: &mut Record<'a>,
) -> Result<Reached<'a>, Broken> {
    let balancer = &matched.pool.balancer;
    let no_endpoint = || Broken::new(Party::Proxy, Phase::Queue, Cause::NoEndpoint);
    let mut member = balancer.choose().ok_or_else(no_endpoint)?;
    let tries = balancer.members().len().min(ENDPOINTS_TRIED_MAX);
    let mut broken = no_endpoint();
    for _ in 0..tries {
        record.attempts += 1;
        record.endpoint = &member.url;
        let in_flight = member.endpoint.enter();
        let kept = match fresh_only {
            true => None,
            false => inbound.connection.worker.idle.borrow_mut().take(member.endpoint.id),
        };
        record.reused = kept.is_some();
        let connection = match kept {
            Some(connection) => Ok(connection),
            None => open(inbound, matched, member, record).await,
        };
        match connection {
            Ok(connection) => return Ok(Reached { member, connection, _in_flight: in_flight }),
            Err(error) => {
                broken = Broken {
                    by: Party::Upstream,
                    phase: Phase::Connect,
                    cause: error.cause,
                    detail: error.detail,
                };
                member = balancer.next_after(member).unwrap_or(member);
            }
        }
    }
    Err(broken)
}

async fn open(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    member: &Member,
    record: &mut Record<'_>,
) -> Result<UpstreamConnection, ConnectError> {
    let started = inbound.started.map(|_| Instant::now());
    let deadline = &inbound.connection.deadline;
    deadline.set(matched.proxy.timeout.connect);
    let mut connecting = pin!(connect(&member.endpoint));
    let stream = poll_fn(|cx| match connecting.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if deadline.expired() => Poll::Ready(Err(ConnectError {
            cause: Cause::Timeout,
            detail: format!("no answer within {:?}", matched.proxy.timeout.connect),
        })),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    record.times.connect = started.map(|started| started.elapsed().as_micros() as u64);
    Ok(UpstreamConnection::new(stream))
}
