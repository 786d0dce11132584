//! What a connection with TLS costs while nothing happens on it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "tls/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{on_worker, pattern, read, write_all};
use config::model::TlsVersion;
use net::stream::Stream;
use support::{Place, asking_clients, both, connected, only, talk};

/// Bytes that are allocated now.
static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: it passes everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What an idle connection may cost beside its task and what the system holds.
const IDLE_BYTES_MAX: usize = 8 * 1024;
/// So many that what all share does not count.
const CONNECTIONS: usize = 64;

/// Waits for a request as an idle connection does.
async fn be_idle(stream: &Stream) {
    poll_fn(|cx| {
        assert!(stream.poll_read_ready(cx).is_pending());
        std::task::Poll::Ready(())
    })
    .await;
}

/// Moves a megabyte to `to`, and no byte further.
async fn load(from: &Stream, to: &Stream) {
    let bytes = pattern(1_000_000);
    let receiving = async {
        let (mut got, mut buf) = (0, vec![0; 64 * 1024]);
        while got < bytes.len() {
            got += read(to, &mut buf).await.unwrap();
        }
    };
    both(write_all(from, &bytes), receiving).await.0.unwrap();
}

#[test]
fn an_idle_connection_holds_little_memory_whatever_it_has_carried() {
    on_worker(async {
        let place = Place::new();
        let mutual = asking_clients(true);
        let pair = place.authority.client("somebody");
        for (policy, client) in [
            (only(TlsVersion::Tls12), place.client()),
            (only(TlsVersion::Tls13), place.client()),
            (mutual, place.client_with(&pair)),
        ] {
            let server = place.server(&policy);
            drop(connected(&server, &client).await); // what is made once is made
            let before = HELD.load(Ordering::Relaxed);
            let mut pairs = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                let (server, client) = connected(&server, &client).await;
                talk(&server, &client).await;
                load(&server, &client).await;
                load(&client, &server).await;
                be_idle(&server).await;
                be_idle(&client).await;
                pairs.push((server, client));
            }
            let each = (HELD.load(Ordering::Relaxed) - before) / CONNECTIONS / 2;
            println!("{each} bytes a side");
            assert!(each < IDLE_BYTES_MAX, "{each} bytes a side");
        }
    });
}
