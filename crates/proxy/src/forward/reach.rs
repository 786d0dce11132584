//! Finding a connection to an endpoint: a kept one, a place on a shared one, or a new one.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use config::model::{ProxyProtocol, UpstreamHttp};
use http::uri::Scheme;
use net::stream::Stream;
use wire::proxy_protocol::{Addresses, write_v1, write_v2};

use super::attempt::{Call, Work};
use super::attempts::Flight;
use crate::balance::Member;
use crate::decide::Matched;
use crate::exchange::Inbound;
use crate::log::Cause;
use crate::traces::SpanId;
use crate::upstream::{ConnectError, Http2Pool, UpstreamConnection, connect};

/// An endpoint and a connection to it.
pub(super) struct Reached<'a> {
    /// The pool's entry.
    pub(super) member: &'a Member,
    /// The connection, kept or new.
    pub(super) connection: Box<UpstreamConnection>,
    /// Counts the request at the endpoint.
    pub(super) flight: Flight<'a>,
    /// The span of the attempt.
    pub(super) span: SpanId,
}

/// A connection that is there already, and has room.
pub(super) fn ready_connection(
    inbound: &Inbound<'_>,
    member: &Member,
    fresh_only: bool,
) -> Option<Box<UpstreamConnection>> {
    // One that is told of a client is for that client alone.
    if member.endpoint.transport.proxy_protocol.is_some() {
        return None;
    }
    let worker = &inbound.connection.worker;
    let id = member.endpoint.id;
    match member.endpoint.transport.http {
        UpstreamHttp::Http1 if fresh_only => None,
        UpstreamHttp::Http1 => worker.idle.borrow_mut().take(id),
        UpstreamHttp::Http2 => worker.http2.take(id).map(UpstreamConnection::shared),
    }
}

/// A new connection, or a place on one that others open, within the time limit for connecting.
pub(super) async fn open_in_time(
    call: Call<'_, '_>,
    member: &Member,
    work: &mut Work<'_, '_, '_>,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    let Call { inbound, matched, .. } = call;
    let greeting = greeting(inbound, member);
    let opening = pin!(open(inbound, matched, member, &greeting));
    in_time(inbound, matched.pool.settings.timeout.connect, work, opening).await
}

/// Opens a connection, or waits for a place on one that others open.
async fn open(
    inbound: &Inbound<'_>,
    matched: &Matched<'_>,
    member: &Member,
    greeting: &[u8],
) -> Result<Box<UpstreamConnection>, ConnectError> {
    let open = async || connect(member, greeting).await;
    match member.endpoint.transport.http {
        UpstreamHttp::Http1 => open().await.map(UpstreamConnection::new),
        UpstreamHttp::Http2 => {
            let scheme = if member.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
            let idle = matched.pool.settings.idle;
            let place = match greeting.is_empty() {
                true => {
                    let pool = &inbound.connection.worker.http2;
                    pool.place(member.endpoint.id, scheme, idle, open).await
                }
                false => Http2Pool::alone(open().await?, scheme, idle).await,
            };
            place.map(UpstreamConnection::shared)
        }
    }
}

/// What goes out first on a new connection: the PROXY protocol header, where the endpoint wants one. A
/// connection that has told of one client is no other's.
pub(super) fn greeting(inbound: &Inbound<'_>, member: &Member) -> Vec<u8> {
    let mut greeting = Vec::new();
    match member.endpoint.transport.proxy_protocol {
        None => {}
        Some(ProxyProtocol::V1) => write_v1(&mut greeting, addresses(inbound)),
        Some(ProxyProtocol::V2) => write_v2(&mut greeting, addresses(inbound)),
    }
    greeting
}

/// The client, behind proxies that are trusted, and where it connected to.
fn addresses(inbound: &Inbound<'_>) -> Option<Addresses> {
    let connection = inbound.connection;
    let source = inbound.client_ip()?;
    let port = match Some(source) == connection.client.ip() {
        true => connection.client.port(),
        // The port is that of the proxy which vouches for the client.
        false => 0,
    };
    let asked = || connection.carrier.plain().and_then(Stream::local_address);
    let destination = connection.client.local().or_else(asked)?;
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    Some(Addresses { source: SocketAddr::new(source, port), destination })
}

/// The result of `opening`, if it comes within the time limit for connecting.
async fn in_time(
    inbound: &Inbound<'_>,
    limit: Duration,
    work: &mut Work<'_, '_, '_>,
    mut opening: Pin<&mut impl Future<Output = Result<Box<UpstreamConnection>, ConnectError>>>,
) -> Result<Box<UpstreamConnection>, ConnectError> {
    let started = inbound.started.map(|_| Instant::now());
    let limit = work.patience.within(limit);
    let deadline = work.patience.deadline();
    deadline.set(limit);
    let connection = poll_fn(|cx| match opening.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending if deadline.expired() => Poll::Ready(Err(ConnectError {
            cause: Cause::Timeout,
            detail: format!("no answer within {limit:?}"),
        })),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    if !connection.reused {
        work.record.times.connect = started.map(|started| started.elapsed().as_micros() as u64);
    }
    Ok(connection)
}
