//! Reloads again and again under load: no request fails, no WebSocket ends, memory does not grow.
//!
//! The full measure (a thousand reloads, 5,000 requests a second, 2,000 WebSockets), with clients that are
//! optimised too:
//!
//! ```text
//! RAVELIN_LOAD=heavy cargo test --release -p ravelin --test blackbox -- reload::many --nocapture
//! ```

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::upgrade::load::{Clients, Load, heavy, origin};

/// Reloads before memory is looked at: what is kept on purpose (the history, the recorder, free
/// buffers) has its full size then.
const WARM_UP: usize = 60;
/// Looks at the memory, one after each reload, of which the middle one counts: two snapshots are there for a
/// moment.
const LOOKS: usize = 25;

/// What a configuration has beside the site of the clients: another site each time, with listeners,
/// upstreams, routes and limits that come and go.
fn others(round: usize, ports: [u16; 2]) -> String {
    let mut toml = String::new();
    for number in 0..round % 4 {
        let port = ports[round % 2];
        toml += &format!(
            "[[sites]]\nname = \"other-{round}-{number}\"\nhostname = \"o{number}.test\"\n\
             listen = [\"127.0.0.1:{port}\"]\n[[sites.rate_limit]]\nrequests = {}\nper = \"1m\"\n\
             [sites.proxy]\nenabled = true\n\
             [[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"http://127.0.{}.{}:9\"\n\
             [[sites.proxy.routes]]\npath = \"/{round}\"\nupstream = \"b\"\n",
            round % 100 + 1,
            round / 250 % 250,
            round % 250 + 1,
        );
    }
    toml
}

#[test]
fn many_reloads_fail_no_request_end_no_websocket_and_keep_no_memory() {
    let (reloads, clients) = match heavy() {
        true => {
            let pace = Duration::from_millis(10);
            (1_000, Clients { keeping: 40, fresh: 8, http2: 2, sockets: 2000, pace: Some(pace) })
        }
        false => {
            let pace = Duration::from_millis(10);
            (100, Clients { keeping: 6, fresh: 2, http2: 1, sockets: 200, pace: Some(pace) })
        }
    };
    let origin = origin();
    let url = format!("http://{}", origin.addr());
    let same = site_with("h2c = true\n", &[&url], "websocket = true\n");
    let ports = [free_port(), free_port()];
    let ravelin = Ravelin::start(&same);
    let load = Load::start(ravelin.addr(), clients);
    until("all WebSockets", || load.shared.sockets.load(Ordering::SeqCst) == clients.sockets);
    let mut memory = Vec::new();
    let mut round = |round: usize| {
        change(&ravelin, &format!("{same}\n{}", others(round, ports)));
        load.await_requests(2);
        memory.push(memory_kib(ravelin.pid(), "VmRSS"));
    };
    (0..WARM_UP).for_each(&mut round);
    let (files, began) = (open_files(ravelin.pid()), Instant::now());
    let requests = load.shared.requests.load(Ordering::SeqCst);
    (WARM_UP..WARM_UP + reloads).for_each(&mut round);
    let took = began.elapsed();
    let before = middle(&mut memory[WARM_UP - LOOKS..WARM_UP]);
    let after = middle(&mut memory[WARM_UP + reloads - LOOKS..]);
    let done = load.shared.requests.load(Ordering::SeqCst) - requests;
    let sockets = established_to(ravelin.addr().port());
    let files_after = open_files(ravelin.pid());
    let shared = load.end();
    let failures = shared.failures.lock().unwrap();
    println!(
        "{reloads} reloads in {took:.1?}: {done} requests ({:.0} a second), {} connections, \
         {} WebSockets with {} messages; failed: {failures:?}; memory {before} KiB before, {after} KiB \
         after, {files} and {files_after} files, {sockets} connections at the end",
        done as f64 / took.as_secs_f64(),
        shared.connections.load(Ordering::SeqCst),
        clients.sockets,
        shared.messages.load(Ordering::SeqCst),
    );
    assert!(failures.is_empty(), "{failures:?}");
    assert!(after as f64 <= before as f64 * 1.05, "{before} KiB became {after} KiB");
}

fn middle(looks: &mut [u64]) -> u64 {
    looks.sort_unstable();
    looks[looks.len() / 2]
}
