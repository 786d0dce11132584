//! From an accepted socket to a connection that can carry requests: the PROXY protocol header, the
//! TLS handshake, and the choice between HTTP/1 and HTTP/2.
//!
//! What always holds: a TLS listener gives no byte of a response before the handshake is done, but for
//! the error that tells a client of plain HTTP to speak TLS; a
//! listener that expects PROXY headers takes none from a peer that is not trusted to send them; all
//! of it ends with `limits.handshake_timeout`; what a peer does wrong here costs its own connection
//! only and is told in the debug log.

use std::cell::Cell;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use config::model::Level;
use net::clock;
use net::stream::{Peer, Stream};
use net::timer::{Deadline, unix_millis};
use net::tls::{Alpn, HandshakeError, Hello, PlainHttp, ServerConfig};
use net::worker::Accepted;
use wire::proxy_protocol::Addresses;

use super::linger::linger;
use super::proxy_protocol::HeaderError;
use super::{ClientAddress, Connection, Opened, describe, h1, h2, preface, proxy_protocol};
use crate::carrier::Carrier;
use crate::connections;
use crate::exchange::failed;
use crate::filters::client_certificate_lines;
use crate::forward::TunnelSlot;
use crate::local::{self, Refusal};
use crate::log::{Cause, Party, Phase, Record};
use crate::metrics::{Handshake, Unshaken};
use crate::snapshot::{Listener, Snapshot};
use crate::worker::Worker;

/// Serves what was accepted until it ends.
pub async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    // Boxed for this step only: while a connection is idle it should cost little memory.
    let Some(connection) = Box::pin(open(worker, accepted)).await else { return };
    let is_http2 = match connection.tls.as_ref().map(|tls| tls.alpn) {
        // The certificate was all that the authority wanted to see (RFC 8737 §3).
        Some(Alpn::AcmeTls) => None,
        Some(Alpn::Http2) => Some(true),
        Some(Alpn::Http11 | Alpn::None) => Some(false),
        None => begins_http2(&connection).await,
    };
    match is_http2 {
        Some(true) => Box::pin(h2::serve(connection)).await,
        Some(false) => h1::serve(&connection).await,
        None => {}
    }
}

/// The client of a connection without TLS begins with HTTP/2, where that is taken. `None` if it has to
/// end before that is known.
async fn begins_http2(connection: &Connection) -> Option<bool> {
    let snapshot = connection.snapshot();
    let listener = snapshot.listeners.get(connection.listener);
    match listener.is_some_and(|listener| listener.http2) {
        true => preface::is_http2(connection).await,
        false => Some(false),
    }
}

async fn open(worker: Rc<Worker>, accepted: Accepted) -> Option<Connection> {
    let mut opened = Opened::now(&worker);
    let canary = worker.canary_for_new();
    let snapshot = worker.serving.at(accepted.listener, canary);
    let listener = snapshot.listeners.get(accepted.listener)?;
    let deadline = worker.context.timers.deadline();
    deadline.set(snapshot.limits.handshake_timeout);
    let Accepted { mut stream, peer, .. } = accepted;
    let mut client = ClientAddress::new(&peer).with_local(stream.local_address());
    let number = (accepted.listener, canary);
    let mut opening = Opening { worker: &worker, peer, client, listener: number, opened };
    if listener.proxy_protocol
        && let Some(Addresses { source, destination }) =
            announced(&opening, &snapshot, &stream, &deadline).await?
    {
        opening.client = ClientAddress::new(&Peer::Ip(source));
        client = ClientAddress::new(&Peer::Ip(source)).with_local(Some(destination));
    }
    if listener.tls {
        let count = |how| worker.metrics.handshake(&listener.series, how);
        let shaking = pin!(handshake(&worker, &snapshot, listener, client.ip(), stream));
        stream = match within(&deadline, shaking).await {
            Some(Some(Ok((stream, took)))) => {
                if let Some(facts) = stream.tls() {
                    let (is_1_3, resumed) = (facts.version == "TLSv1.3", facts.resumed);
                    count(Handshake::Done { is_1_3, resumed });
                }
                if let Some(opened) = &mut opened {
                    opened.tls = took;
                }
                stream
            }
            Some(Some(Err(HandshakeError::PlainHttp(plain)))) => {
                count(Handshake::Failed(Unshaken::PlainHttp));
                let PlainHttp { stream, received } = *plain;
                let connection = Connection {
                    seat: connections::enter(&worker, &client, accepted.listener, None, &deadline),
                    tls: None,
                    certificate_lines: Rc::default(),
                    carrier: Carrier::Socket(stream),
                    client,
                    tunnel: TunnelSlot::default(),
                    told_before: Rc::default(),
                    listener: accepted.listener,
                    canary,
                    deadline,
                    worker: Rc::clone(&worker),
                    opened: Cell::new(opened),
                    guard: Some(accepted.guard),
                };
                refuse_plain(&connection, &received).await;
                return None;
            }
            Some(Some(Err(error))) => {
                count(Handshake::Failed(unshaken(&error)));
                let cause = match &error {
                    HandshakeError::Closed(_) => Cause::Closed,
                    _ if error.is_certificate() => Cause::Certificate,
                    _ => Cause::Tls,
                };
                opening.fails(Party::Client, cause, &error);
                return None;
            }
            Some(None) => {
                count(Handshake::Failed(Unshaken::Displaced));
                let what = "its TLS handshake gave way to newer ones";
                opening.fails(Party::Proxy, Cause::Limit, &what);
                return None;
            }
            None => {
                count(Handshake::Failed(Unshaken::Timeout));
                opening.fails(Party::Client, Cause::Timeout, &"the TLS handshake took too long");
                return None;
            }
        };
    }
    let tls = stream.tls().map(|facts| Rc::new(facts.clone()));
    let certificate_lines = tls.as_ref().map(|facts| client_certificate_lines(facts).into());
    let seat = connections::enter(&worker, &client, accepted.listener, tls.clone(), &deadline);
    Some(Connection {
        seat,
        tls,
        certificate_lines: certificate_lines.unwrap_or_default(),
        carrier: Carrier::Socket(stream),
        client,
        tunnel: TunnelSlot::default(),
        told_before: Rc::default(),
        listener: accepted.listener,
        canary,
        deadline,
        worker,
        opened: Cell::new(opened),
        guard: Some(accepted.guard),
    })
}

/// What a handshake that failed is counted as.
fn unshaken(error: &HandshakeError) -> Unshaken {
    match error {
        HandshakeError::Closed(_) => Unshaken::Closed,
        HandshakeError::PlainHttp(_) => Unshaken::PlainHttp,
        HandshakeError::UnknownName(_) => Unshaken::UnknownName,
        HandshakeError::Refused(_) => Unshaken::Refused,
    }
}

/// Tells a client that it has to speak TLS here. Whatever it asked for, this is all it gets.
async fn refuse_plain(connection: &Connection, received: &[u8]) {
    let worker = &connection.worker;
    let mut scratch = worker.take_scratch();
    scratch.head_micros = 0;
    Box::pin(local::refuse(connection, &mut scratch, received, Refusal::PLAIN_HTTP)).await;
    worker.put_scratch(scratch);
    linger(connection).await;
}

/// Who connected where to, by the PROXY header of a peer that may say so; nothing if it speaks for
/// itself, as for a health check. `None` if the connection has to end.
async fn announced(
    opening: &Opening<'_>,
    snapshot: &Snapshot,
    stream: &Stream,
    deadline: &Deadline,
) -> Option<Option<Addresses>> {
    let trusted = opening.peer.ip().is_some_and(|ip| {
        let ip = ip.to_canonical();
        snapshot.trusted_proxies.iter().any(|net| net.contains(&ip))
    });
    if !trusted {
        let what = "not trusted to connect to a listener with the PROXY protocol";
        opening.fails(Party::Client, Cause::Denied, &what);
        return None;
    }
    match within(deadline, pin!(proxy_protocol::read_header(stream))).await {
        Some(Ok(addresses)) => Some(addresses),
        Some(Err(error)) => {
            let cause = match &error {
                HeaderError::Closed(error) => Cause::of(error),
                HeaderError::Fault(_) => Cause::Malformed,
            };
            opening.fails(Party::Client, cause, &error);
            None
        }
        None => {
            opening.fails(Party::Client, Cause::Timeout, &"no PROXY header in time");
            None
        }
    }
}

/// Shakes hands once the client has begun to speak: a client that only connects takes nobody's place.
/// Says how long that took, if somebody wants to know.
/// `None` if the handshake had to give way to others.
async fn handshake(
    worker: &Worker,
    snapshot: &Snapshot,
    listener: &Listener,
    client: Option<IpAddr>,
    stream: Stream,
) -> Option<Result<(Stream, Option<Duration>), HandshakeError>> {
    // What is wrong with the connection shows in the handshake.
    let _ = poll_fn(|cx| stream.poll_read_ready(cx)).await;
    let began = worker.observes().then(clock::now);
    let accepting =
        pin!(net::tls::accept(stream, |hello| choose(worker, snapshot, listener, hello)));
    let shaken = worker.handshakes.run(client, accepting).await?;
    Some(shaken.map(|stream| (stream, began.map(|began| clock::now() - began))))
}

/// What the client has to agree to: that of the site with the name it asks for (exact, then wildcard,
/// then the listener's default).
fn choose(
    worker: &Worker,
    snapshot: &Snapshot,
    listener: &Listener,
    hello: &Hello<'_>,
) -> Option<ServerConfig> {
    let name = hello.server_name.unwrap_or_default();
    if hello.acme {
        return worker.challenges.tls(name);
    }
    snapshot.tls_of(listener.site_for(name)).cloned()
}

/// The result of `step`, unless the deadline passes first.
async fn within<T>(deadline: &Deadline, mut step: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match step.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => deadline.poll_expired(cx).map(|()| None),
    })
    .await
}

/// A connection on its way to its first request.
struct Opening<'a> {
    worker: &'a Worker,
    peer: Peer,
    client: ClientAddress,
    /// Number of the listener, and which configuration it has there.
    listener: (usize, u32),
    opened: Option<Opened>,
}

impl Opening<'_> {
    /// It does not get there: in the debug log, and if wanted in the access log too.
    fn fails(&self, by: Party, cause: Cause, what: &dyn Display) {
        let Self { worker, peer, client, listener, opened } = *self;
        if worker.error_log.enabled(Level::Debug) {
            match peer.ip() {
                Some(ip) => worker.error_log.debug(format_args!("client {ip}: {what}")),
                None => worker.error_log.debug(format_args!("client: {what}")),
            }
        }
        if worker.access_log.is_on() {
            let took = opened.map_or(Duration::ZERO, |opened| opened.at.elapsed());
            let total = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let mut record = Record::default();
            describe(worker, &client, listener, None, &mut record);
            record.wall_us = (unix_millis() * 1000).saturating_sub(total);
            record.times.total = total;
            record.ended = failed(by, Phase::Accept, cause);
            worker.access_log.failed_connection(&record);
        }
    }
}
