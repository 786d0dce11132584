//! Memory of idle client connections.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::lab::{self, Lab};
use crate::peer::Peer;
use crate::scenario::{Load, SMALL};
use crate::tls::{self, Client};
use crate::usage::Memory;
use crate::{Result, client, ws};

/// What one proxy's connections cost.
pub(crate) struct Idle {
    /// Its memory after the start, before any connection.
    pub(crate) start: Memory,
    /// What each connection added to the proportional memory, in bytes.
    pub(crate) bytes_each: f64,
    /// How many there were.
    pub(crate) connections: usize,
}

/// Opens connections that do one request or echo each and stay, and weighs the proxy before and
/// after.
pub(crate) fn measure(lab: &Lab, peer: &Peer, load: &Load, path: &str) -> Result<Idle> {
    let connections = load.connections().min(possible(lab, load));
    let config = match load.is_tls() {
        true => Some(Arc::new(Client::new(&tls::files(lab).certificate)?.verifying(b"http/1.1")?)),
        false => None,
    };
    let open = || match &config {
        _ if load.is_websocket() => ws::open(peer.address, SMALL),
        Some(config) => {
            let mut stream = tls::open(config, peer.address)?;
            request(&mut stream, peer.address, path)?;
            // The proxy cannot know that nobody holds the session at this end any more.
            Ok(stream.sock)
        }
        None => {
            let mut stream = client::connect(peer.address)?;
            request(&mut stream, peer.address, path)?;
            Ok(stream)
        }
    };
    let start = settled(&peer.pids)?;
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(open()?);
    }
    let full = settled(&peer.pids)?;
    let still_open = held.iter().filter(|stream| is_open(stream)).count();
    if still_open < connections {
        return Err(format!("only {still_open} of {connections} connections were kept").into());
    }
    let added = full.proportional.saturating_sub(start.proportional);
    Ok(Idle { start, bytes_each: added as f64 / connections as f64, connections })
}

/// How many a proxy can have: it needs a descriptor for each, two for one that goes on to the
/// origin, and some for itself and those that it may have besides.
fn possible(lab: &Lab, load: &Load) -> usize {
    match load.is_websocket() {
        true => (lab.descriptors.saturating_sub(64) / 2).saturating_sub(256) as usize,
        false => lab.descriptors.saturating_sub(256) as usize,
    }
}

fn request(stream: &mut (impl Read + Write), peer: SocketAddr, path: &str) -> Result<()> {
    match client::get(stream, peer, path)?.status {
        200 => Ok(()),
        other => Err(format!("a connection was answered {other}").into()),
    }
}

/// Memory once it has stopped to change.
fn settled(pids: &[u32]) -> Result<Memory> {
    let mut last = Memory::of(pids)?;
    for _ in 0..10 {
        lab::pause(300);
        let next = Memory::of(pids)?;
        if next.proportional == last.proportional {
            break;
        }
        last = next;
    }
    Ok(last)
}

fn is_open(stream: &std::net::TcpStream) -> bool {
    let nothing_arrived = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_ok() && stream.peek(&mut [0]).is_err_and(nothing_arrived)
}
