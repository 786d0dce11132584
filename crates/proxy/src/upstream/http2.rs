//! HTTP/2 connections of one worker to its endpoints, shared by exchanges.
//!
//! An exchange asks for a place on a connection. It gets one on the oldest connection that has room
//! (so that surplus connections fall idle and are closed), else one on a new connection, else it
//! waits until a place is free. A new connection is opened by the first exchange that needs it, which
//! goes ahead at once; others that come meanwhile wait until the peer has said how many streams it
//! takes, instead of opening a connection each or being refused.
//!
//! What always holds: no connection has more streams than its peer allows; connections and waiting
//! exchanges are bounded for each endpoint; a connection that its peer has told to end (GOAWAY), that
//! fell silent or that is too old gets no new streams, and is closed when the old ones are done.

mod inspect;
mod link;
mod settings;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use config::model::IdleConnections;
use http::uri::Scheme;
use net::timer::Tick;
use tokio::sync::Notify;

use self::link::Link;
pub use self::link::Place;
use self::settings::STREAMS_MAX;
use super::{ConnectError, Opened};
use crate::log::Cause;

/// Connections to one endpoint. An upstream that allows one stream a connection is no reason to
/// open thousands.
const CONNECTIONS_MAX: usize = 64;
/// Exchanges of one endpoint that wait for a place; more are turned away at once.
const WAITING_MAX: usize = 4096;

/// The HTTP/2 connections of one worker, by endpoint.
#[derive(Debug, Default)]
pub struct Http2Pool {
    /// Indexed by the endpoint's id.
    endpoints: RefCell<Vec<Option<Rc<Links>>>>,
}

/// The connections to one endpoint.
#[derive(Debug, Default)]
struct Links {
    /// The oldest first.
    links: RefCell<Vec<Rc<Link>>>,
    /// Connections that are being opened.
    opening: Cell<usize>,
    waiting: Cell<usize>,
    /// Told when a place may be free.
    room: Rc<Notify>,
    /// How often opening has failed, and why the last time.
    failures: Cell<u64>,
    failure: RefCell<Option<ConnectError>>,
}

impl Http2Pool {
    /// A place for one exchange with endpoint `id` on a connection that is there.
    pub fn take(&self, id: usize) -> Option<Place> {
        self.endpoints.borrow().get(id)?.as_ref()?.take()
    }

    /// A place for one exchange with endpoint `id`; `open` opens a connection to it. Takes no time
    /// limit of its own: the caller drops the future when its patience ends.
    ///
    /// # Errors
    /// No connection can be opened, or too many exchanges wait already.
    pub async fn place(
        &self,
        id: usize,
        scheme: Scheme,
        limits: IdleConnections,
        open: impl AsyncFnOnce() -> Result<Opened, ConnectError>,
    ) -> Result<Place, ConnectError> {
        let links = self.links(id);
        let failures = links.failures.get();
        loop {
            if let Some(place) = links.take() {
                return Ok(place);
            }
            if links.may_open() {
                break;
            }
            if links.waiting.get() >= WAITING_MAX {
                return Err(ConnectError {
                    cause: Cause::NoEndpoint,
                    detail: format!("{WAITING_MAX} requests wait for a stream already"),
                });
            }
            links.wait().await;
            if links.failures.get() != failures
                && let Some(failure) = links.failure.borrow().clone()
            {
                // The connection this one waited for too.
                return Err(failure);
            }
        }
        let opening = Opening::new(&links);
        let result = match open().await {
            Ok(opened) => Link::open(opened, scheme, limits, Rc::clone(&links.room)).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(link) => {
                let link = Rc::new(link);
                links.links.borrow_mut().push(Rc::clone(&link));
                drop(opening);
                Ok(Place::on(link))
            }
            Err(error) => {
                links.failures.set(links.failures.get().wrapping_add(1));
                *links.failure.borrow_mut() = Some(error.clone());
                Err(error)
            }
        }
    }

    /// A place on the connection `opened` that carries this exchange only.
    ///
    /// # Errors
    /// The connection broke at once.
    pub async fn alone(
        opened: Opened,
        scheme: Scheme,
        limits: IdleConnections,
    ) -> Result<Place, ConnectError> {
        let link = Link::open(opened, scheme, limits, Rc::default()).await?;
        Ok(Place::on(Rc::new(link)))
    }

    /// Lets go of connections that are idle for too long, too old, or closed.
    pub fn sweep(&self) {
        let now = Tick::now();
        for links in self.endpoints.borrow().iter().flatten() {
            links.links.borrow_mut().retain(|link| link.is_fit(now) && !link.is_stale(now));
        }
    }

    /// Gives no more places on the connections to endpoint `id`; each is closed when those are done that
    /// it has.
    pub fn let_go(&self, id: usize) {
        if let Some(slot) = self.endpoints.borrow_mut().get_mut(id) {
            *slot = None;
        }
    }

    fn links(&self, id: usize) -> Rc<Links> {
        let mut endpoints = self.endpoints.borrow_mut();
        if endpoints.len() <= id {
            endpoints.resize_with(id + 1, || None);
        }
        match endpoints.get_mut(id) {
            Some(slot) => Rc::clone(slot.get_or_insert_default()),
            None => Rc::default(),
        }
    }
}

impl Links {
    /// A place on the oldest connection with room.
    fn take(&self) -> Option<Place> {
        let now = Tick::now();
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.is_fit(now));
        links.iter().find(|link| link.has_room()).map(|link| Place::on(Rc::clone(link)))
    }

    /// Another connection is allowed, and those that are being opened will not do for all that wait.
    fn may_open(&self) -> bool {
        let links = self.links.borrow();
        let allowed: Vec<_> = links.iter().map(|link| link.allowed()).collect();
        let settled = allowed.iter().flatten().max().copied();
        let begun = allowed.iter().filter(|allowed| allowed.is_none()).count() + self.opening.get();
        let expected = begun * settled.unwrap_or(STREAMS_MAX);
        links.len() + self.opening.get() < CONNECTIONS_MAX && self.waiting.get() >= expected
    }

    async fn wait(&self) {
        struct Waiting<'a>(&'a Cell<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        self.room.notified().await;
    }
}

/// A connection that is being opened; whatever becomes of it, those who wait look again.
struct Opening<'a>(&'a Links);

impl<'a> Opening<'a> {
    fn new(links: &'a Links) -> Self {
        links.opening.set(links.opening.get() + 1);
        Self(links)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
