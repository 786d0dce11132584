//! The places of a listener: so many connections at once, and who has to go when all are taken.
//!
//! What always holds: a connection that has asked for something keeps its place until it is answered.
//! When somebody comes and there is no place, the one goes that has waited longest without a request, of
//! which there may be a part of the head; those whose head is whole and whose body is not, or that have not
//! taken all of an answer, go when there is no other.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: RefCell<Vec<Rc<Seat>>>,
    /// A place is free, or somebody waits who did not.
    changed: Rc<Notify>,
}

/// A place that is taken. It is free again when this is dropped.
pub(super) struct Place {
    places: Rc<Places>,
    seat: Rc<Seat>,
}

/// What is known of a connection that has a place.
#[derive(Debug)]
pub(crate) struct Seat {
    stage: Cell<Stage>,
    /// What was written has not all been taken.
    unsent: Cell<bool>,
    /// When it came, or its last request was answered.
    since: Cell<Instant>,
    /// Ends it; `None` until it is served, and once it was told to go.
    task: RefCell<Option<AbortHandle>>,
    leaves: Cell<bool>,
    changed: Rc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits for a request, of which there may be a part of the head.
    Waits,
    /// The head is whole, and the body may not be.
    Begun,
    /// It is answered.
    Answered,
}

/// A request of a connection, until it is answered.
#[derive(Debug)]
pub(crate) struct Asked(Rc<Seat>);

/// The content of an answer, and the request that is answered with it.
#[derive(Debug)]
pub(crate) struct Answering<B> {
    body: B,
    _asked: Asked,
}

impl Places {
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, taken: RefCell::default(), changed: Rc::default() })
    }

    /// A place for a connection that has come, as soon as there is one.
    pub(super) async fn take(self: &Rc<Self>) -> Place {
        while self.taken.borrow().len() >= self.max {
            self.make_room();
            // One who has gone before this is waited for is told as well.
            self.changed.notified().await;
        }
        let seat = Rc::new(Seat::new(Rc::clone(&self.changed)));
        self.taken.borrow_mut().push(Rc::clone(&seat));
        Place { places: Rc::clone(self), seat }
    }

    /// Tells one to go, unless one is about to.
    fn make_room(&self) {
        let taken = self.taken.borrow();
        if taken.iter().any(|seat| seat.leaves.get()) {
            return;
        }
        let idle = taken.iter().filter(|seat| seat.task.borrow().is_some());
        let idle = idle.filter_map(|seat| seat.rank().map(|rank| (rank, seat)));
        let Some((_, longest)) = idle.min_by_key(|(rank, _)| *rank) else { return };
        if let Some(task) = longest.task.take() {
            longest.leaves.set(true);
            task.abort();
        }
    }
}

impl Place {
    /// The connection's own part.
    pub(super) fn seat(&self) -> Rc<Seat> {
        Rc::clone(&self.seat)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().retain(|seat| !Rc::ptr_eq(seat, &self.seat));
        self.places.changed.notify_one();
    }
}

impl Seat {
    fn new(changed: Rc<Notify>) -> Self {
        Self {
            stage: Cell::new(Stage::Waits),
            unsent: Cell::new(false),
            since: Cell::new(Instant::now()),
            task: RefCell::default(),
            leaves: Cell::new(false),
            changed,
        }
    }

    /// The task that serves the connection, and has its place.
    pub(super) fn is_served_by(&self, task: AbortHandle) {
        *self.task.borrow_mut() = Some(task);
    }

    /// The head of a request is there.
    pub(crate) fn ask(self: &Rc<Self>) -> Asked {
        self.stage.set(Stage::Begun);
        Asked(Rc::clone(self))
    }

    /// Something is written.
    pub(super) fn writes(&self) {
        self.unsent.set(true);
    }

    /// All that was written has been taken.
    pub(super) fn has_written(&self) {
        if self.unsent.replace(false) {
            self.since.set(Instant::now());
        }
    }

    /// The least goes first; `None`: it stays.
    fn rank(&self) -> Option<(bool, Instant)> {
        let later = self.unsent.get() || self.stage.get() == Stage::Begun;
        (self.stage.get() != Stage::Answered).then(|| (later, self.since.get()))
    }
}

impl Asked {
    /// The request is whole: the connection keeps its place until this is dropped.
    pub(crate) fn is_whole(&self) {
        self.0.stage.set(Stage::Answered);
    }

    /// The same, with the content of the answer.
    pub(crate) fn answering<B>(self, body: B) -> Answering<B> {
        Answering { body, _asked: self }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.stage.set(Stage::Waits);
        self.0.since.set(Instant::now());
        self.0.changed.notify_one();
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
impl Default for Seat {
    fn default() -> Self {
        Self::new(Rc::default())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// A connection that is there until it is told to go.
    async fn come(places: &Rc<Places>) -> Rc<Seat> {
        let place = places.take().await;
        let seat = place.seat();
        let task = spawn_local(async move {
            let _place = place;
            pending::<()>().await;
        });
        seat.is_served_by(task.abort_handle());
        seat
    }

    fn is_there(places: &Places, seat: &Rc<Seat>) -> bool {
        places.taken.borrow().iter().any(|one| Rc::ptr_eq(one, seat))
    }

    #[tokio::test]
    async fn the_one_goes_that_has_waited_longest_and_nobody_while_there_is_room() {
        let test = async {
            let places = Places::new(3);
            let (first, second, third) =
                (come(&places).await, come(&places).await, come(&places).await);
            assert!(is_there(&places, &first));
            // The first has asked for something since.
            drop(first.ask());
            let fourth = come(&places).await;
            assert!(!is_there(&places, &second));
            assert!([&first, &third, &fourth].iter().all(|seat| is_there(&places, seat)));
            // Whose body is not whole, or who has not taken the answer, goes last.
            let _head = third.ask();
            first.writes();
            let fifth = come(&places).await;
            assert!(!is_there(&places, &fourth));
            first.has_written();
            let _sixth = come(&places).await;
            assert!(!is_there(&places, &fifth) && is_there(&places, &first));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn nobody_goes_who_is_answered() {
        let test = async {
            let places = Places::new(1);
            let first = come(&places).await;
            let asked = first.ask();
            asked.is_whole();
            let waiting = spawn_local({
                let places = Rc::clone(&places);
                async move { drop(come(&places).await) }
            });
            for _ in 0..10 {
                yield_now().await;
            }
            assert!(is_there(&places, &first) && !waiting.is_finished());
            drop(asked);
            waiting.await.unwrap();
            assert!(!is_there(&places, &first));
        };
        LocalSet::new().run_until(test).await;
    }
}
