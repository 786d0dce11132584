//! What the streams of one HTTP/2 connection have in common: how much may wait to be sent, what they
//! have earned, and memory to work in.
//!
//! What always holds: the memory for what streams have handed over and the connection has not written
//! yet is bounded for the connection as a whole, however many streams there are and whatever windows
//! the client gives them.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use net::buffer::{BUFFER_SIZE, Buffer, Pool};
use net::stream::Stream;
use wire::head::ResponseHead;

/// Memory for DATA of one connection, all streams together, that may wait for its socket. A client
/// that opens every window and then reads nothing makes us keep no more than that (CVE-2019-9517).
pub(crate) const WAITING_MAX: usize = 1024 * 1024;
/// Most bytes of one piece of DATA: the largest frame that every client takes (RFC 9113 §4.2).
pub(super) const CHUNK_MAX: usize = 16 * 1024;
/// Up to this many bytes are copied into memory of their own; more go into a pooled buffer.
const SMALL_MAX: usize = 4 * 1024;
/// What a piece of DATA costs beside its bytes: memory of h2's and the allocator's for it, rounded up.
/// Without it pieces of a byte or two, as a WebSocket may have, would hold hundreds of times the bytes
/// that may wait.
const PIECE_COST: usize = 512;
/// Heads kept for reuse, and the largest capacity (bytes) one of them may have.
const FREE_HEADS_MAX: usize = 16;
const FREE_HEAD_CAPACITY_MAX: usize = 4 * 1024;

/// What a complete response is worth, in control frames that the client may send for it.
const WORTH_OF_RESPONSE: u32 = 8;
/// What a piece of DATA is worth that no window cut short. One that was cut is worth nothing: else a
/// client could pay for a flood of tiny window updates with the tiny frames they cause
/// (CVE-2019-9511).
const WORTH_OF_DATA: u32 = 2;

/// Shared by a connection and its streams.
pub(crate) struct Share {
    /// Memory that bodies are copied to.
    buffers: Pool,
    /// The cost of what was handed over and not written yet.
    waiting: Cell<usize>,
    /// Streams that wait until there are fewer.
    blocked: RefCell<Vec<Waker>>,
    /// Bytes the socket has taken, all in all.
    written: Cell<u64>,
    socket: Rc<Stream>,
    /// Useful work done since it was last asked for.
    earned: Cell<u32>,
    /// Complete responses since that was last asked for.
    answered: Cell<u32>,
    /// The stream of the DATA frame that is being received, and how much of it is here.
    arriving: Cell<(u32, u32)>,
    /// Index over the response head at hand.
    pub(super) response: RefCell<ResponseHead>,
    heads: RefCell<Vec<Vec<u8>>>,
}

impl Share {
    /// For a connection on `socket`.
    pub(crate) fn new(buffers: Pool, socket: Rc<Stream>) -> Rc<Self> {
        Rc::new(Self {
            buffers,
            waiting: Cell::default(),
            blocked: RefCell::default(),
            written: Cell::default(),
            socket,
            earned: Cell::default(),
            answered: Cell::default(),
            arriving: Cell::default(),
            response: RefCell::default(),
            heads: RefCell::default(),
        })
    }

    /// Notes that the socket took `count` bytes.
    pub(crate) fn wrote(&self, count: usize) {
        self.written.set(self.written.get() + count as u64);
    }

    /// Bytes the socket has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Bytes the client's system has taken so far, if the socket says.
    pub(crate) fn taken(&self) -> Option<u64> {
        self.socket.untaken().map(|untaken| self.written.get().saturating_sub(untaken))
    }

    /// Something that streams have handed over was not written yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// The worth of what was done since the last call, and how many responses were completed.
    pub(crate) fn take_earnings(&self) -> (u32, u32) {
        (self.earned.take(), self.answered.take())
    }

    /// Notes that `received` bytes of a DATA frame of this stream are here, which h2 passes on only
    /// as a whole.
    pub(crate) fn set_arriving(&self, stream: u32, received: u32) {
        self.arriving.set((stream, received));
    }

    /// How much of a DATA frame of this stream is here.
    pub(super) fn arriving(&self, stream: u32) -> u64 {
        match self.arriving.get() {
            (id, received) if id == stream => u64::from(received),
            _ => 0,
        }
    }

    /// An empty vector for a request head.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives it back.
    pub(crate) fn put_head(&self, mut head: Vec<u8>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < FREE_HEADS_MAX && head.capacity() <= FREE_HEAD_CAPACITY_MAX {
            head.clear();
            heads.push(head);
        }
    }

    pub(super) fn completed_response(&self) {
        self.earned.set(self.earned.get().saturating_add(WORTH_OF_RESPONSE));
        self.answered.set(self.answered.get().saturating_add(1));
    }

    pub(super) fn sent_whole_piece(&self) {
        self.earned.set(self.earned.get().saturating_add(WORTH_OF_DATA));
    }

    /// Ready when another piece may be handed over.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.get() < WAITING_MAX {
            return Poll::Ready(());
        }
        let mut blocked = self.blocked.borrow_mut();
        if !blocked.iter().any(|waker| waker.will_wake(cx.waker())) {
            blocked.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn free(&self, count: usize) {
        let waiting = self.waiting.get().saturating_sub(count);
        self.waiting.set(waiting);
        // Streams are woken when it is worth their while.
        if waiting <= WAITING_MAX / 2 {
            let blocked = std::mem::take(&mut *self.blocked.borrow_mut());
            blocked.into_iter().for_each(Waker::wake);
        }
    }
}

/// What one stream has handed over.
pub(super) struct Flight {
    share: Rc<Share>,
    /// What it costs.
    charge: Cell<usize>,
}

impl Flight {
    pub(super) fn new(share: &Rc<Share>) -> Rc<Self> {
        Rc::new(Self { share: Rc::clone(share), charge: Cell::default() })
    }

    /// Nothing of the stream waits for the socket.
    pub(super) fn is_empty(&self) -> bool {
        self.charge.get() == 0
    }
}

/// A piece of a response body on its way through h2. Counts as waiting until h2 drops it.
pub(crate) struct Chunk {
    bytes: Memory,
    charge: usize,
    flight: Option<Rc<Flight>>,
}

enum Memory {
    /// The bytes, and how many of them are used up.
    Own(Vec<u8>, usize),
    Pooled(Buffer),
}

impl Chunk {
    /// A piece without bytes.
    pub(super) fn empty() -> Self {
        Self { bytes: Memory::Own(Vec::new(), 0), charge: 0, flight: None }
    }

    /// A copy of `len` bytes of `slices` after the first `skip` ones, at most [`CHUNK_MAX`].
    pub(super) fn copy(
        slices: &[IoSlice<'_>],
        mut skip: usize,
        len: usize,
        flight: &Rc<Flight>,
    ) -> Self {
        let share = &flight.share;
        let (mut bytes, charge) = match len <= SMALL_MAX {
            true => (Memory::Own(Vec::with_capacity(len), 0), PIECE_COST + len),
            false => (Memory::Pooled(share.buffers.get()), PIECE_COST + BUFFER_SIZE),
        };
        let mut left = len;
        for slice in slices {
            let rest = slice.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(slice.len());
            let part = rest.get(..left).unwrap_or(rest);
            match &mut bytes {
                Memory::Own(own, _) => own.extend_from_slice(part),
                Memory::Pooled(buffer) => _ = buffer.append(part),
            }
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        flight.charge.set(flight.charge.get() + charge);
        share.waiting.set(share.waiting.get() + charge);
        Self { bytes, charge, flight: Some(Rc::clone(flight)) }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.chunk().len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.bytes {
            Memory::Own(bytes, at) => bytes.get(*at..).unwrap_or_default(),
            Memory::Pooled(buffer) => buffer.filled(),
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.bytes {
            Memory::Own(_, at) => *at += count,
            Memory::Pooled(buffer) => buffer.consume(count),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.charge.set(flight.charge.get().saturating_sub(self.charge));
            flight.share.free(self.charge);
        }
    }
}

const _: () = assert!(CHUNK_MAX <= BUFFER_SIZE);
