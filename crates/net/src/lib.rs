//! Workers and the sockets, buffers, timers and pipes they own: everything of Ravelin that touches
//! the operating system's network side.
//!
//! A worker is a thread with its own runtime; what it owns never leaves it. The path of a byte:
//! `listener` makes the sockets, `worker` runs them, `accept` takes connections and hands some to a
//! less loaded worker, and from there on a `stream` is driven by one task with `buffer`s and a
//! `timer` deadline, or by `splice` and `sendfile` without touching user memory.

// Each exception says why it is sound; there should be few.
#![deny(unsafe_code)]

pub mod allocator;
pub mod buffer;
pub mod clock;
pub mod descriptors;
pub mod file;
pub mod handover;
pub mod listener;
pub mod prefetch;
pub mod sendfile;
pub mod splice;
pub mod stream;
pub mod timer;
pub mod tls;
pub mod worker;

mod accept;
mod admission;
mod cores;
mod wheel;
