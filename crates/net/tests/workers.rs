//! Workers: serving, sharing out, limiting, stopping.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{read, write_all};
use net::listener::{BACKLOG, Bound, Listen, Local, bind};
use net::stream::Peer;
use net::worker::{Accepted, Life, Options, WorkerContext, Workers, start};

const MINUTE: Duration = Duration::from_secs(60);

/// What the workers tell the test.
#[derive(Debug, PartialEq)]
enum Event {
    /// Worker, listener.
    Accepted(usize, usize, Peer),
    /// Worker; why the connection ended.
    Ended(usize, &'static str),
}

fn options(workers: usize, listeners: Vec<Bound>) -> Options {
    Options { workers, listeners, max_connections: None, max_per_address: None }
}

fn loopback(workers: usize) -> Bound {
    bind(&Listen::Address("127.0.0.1:0".parse().unwrap()), workers, BACKLOG).unwrap()
}

fn address(bound: &Bound) -> SocketAddr {
    match bound.local() {
        Local::Ip(address) => *address,
        Local::Unix(path) => panic!("{path:?} has no address"),
    }
}

/// Workers that send every byte back, and tell what happens.
fn echo(options: Options) -> (Workers<Rc<WorkerContext>>, Receiver<Event>) {
    let (events, told) = channel();
    let workers = start(
        options,
        |context| Rc::new(context.clone()),
        move |context: &Rc<WorkerContext>, accepted| {
            let Accepted { peer, listener, .. } = accepted;
            let _ = events.send(Event::Accepted(context.id, listener, peer));
            tokio::task::spawn_local(echo_one(Rc::clone(context), accepted, events.clone()));
        },
    );
    (workers.unwrap(), told)
}

async fn echo_one(context: Rc<WorkerContext>, accepted: Accepted, events: Sender<Event>) {
    let Accepted { stream, guard, .. } = accepted;
    let deadline = context.timers.deadline();
    let ended = loop {
        deadline.set(MINUTE);
        let stopping = poll_fn(|cx| {
            if stream.poll_read_ready(cx).is_ready() {
                return Poll::Ready(false);
            }
            let _ = deadline.poll_expired(cx);
            if context.stopping() { Poll::Ready(true) } else { Poll::Pending }
        });
        if stopping.await {
            break "stopping";
        }
        let mut buffer = context.buffers.get();
        match read(&stream, buffer.spare_mut()).await {
            Ok(0) => break "closed",
            Ok(count) => {
                buffer.advance(count);
                write_all(&stream, &buffer).await.unwrap();
            }
            Err(_) => break "broken",
        }
    };
    drop(stream);
    drop(guard);
    let _ = events.send(Event::Ended(context.id, ended));
}

fn round_trip(client: &mut (impl Read + Write), bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut got = vec![0; bytes.len()];
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

#[test]
fn connections_are_served_with_what_is_known_of_them() {
    let bounds = vec![loopback(2), loopback(2)];
    let addresses = [address(&bounds[0]), address(&bounds[1])];
    let (workers, told) = echo(options(2, bounds));
    for (index, address) in addresses.into_iter().enumerate() {
        let mut client = TcpStream::connect(address).unwrap();
        round_trip(&mut client, b"hello");
        let peer = Peer::Ip(client.local_addr().unwrap());
        match told.recv().unwrap() {
            Event::Accepted(_, listener, from) => assert_eq!((listener, from), (index, peer)),
            other => panic!("{other:?}"),
        }
        drop(client);
        assert!(matches!(told.recv().unwrap(), Event::Ended(_, "closed")));
    }
    workers.stop(MINUTE);
    workers.join();
    assert!(workers.counters().iter().all(|counters| counters.connections == 0));
    assert_eq!(workers.counters().iter().map(|counters| counters.accepted).sum::<u64>(), 2);
}

#[test]
fn every_address_takes_ipv6_and_ipv4_clients_and_names_the_latter_as_ipv4() {
    let bound = bind(&Listen::Port(0), 1, BACKLOG).unwrap();
    let port = bound.port().unwrap();
    let (_workers, told) = echo(options(1, vec![bound]));
    for host in ["127.0.0.1", "::1"] {
        let Ok(client) = TcpStream::connect((host, port)) else {
            assert_eq!(host, "::1", "IPv4 must always work; a machine may lack IPv6");
            continue;
        };
        let from = Peer::Ip(client.local_addr().unwrap());
        assert_eq!(told.recv().unwrap(), Event::Accepted(0, 0, from));
        drop(client);
        told.recv().unwrap();
    }
}

#[test]
fn connections_spread_over_workers_even_if_one_takes_them_all() {
    // One socket for three workers: whatever the others get was handed over.
    let bound = loopback(1);
    let address = address(&bound);
    let (workers, told) = echo(options(3, vec![bound]));
    let mut clients: Vec<_> = (0..30).map(|_| TcpStream::connect(address).unwrap()).collect();
    for client in &mut clients {
        round_trip(client, b"x");
    }
    let mut share = [0; 3];
    for _ in &clients {
        match told.recv().unwrap() {
            Event::Accepted(worker, ..) => share[worker] += 1,
            other => panic!("{other:?}"),
        }
    }
    let (least, most) = (share.iter().min().unwrap(), share.iter().max().unwrap());
    assert!(most <= &(least + 1 + least / 4), "{share:?}");
    let counters = workers.counters();
    assert_eq!(counters.iter().map(|counters| counters.connections).sum::<usize>(), 30);
    assert_eq!(counters.iter().map(|counters| counters.accepted).max(), Some(30));
    let given_away = counters.iter().map(|counters| counters.handed_over).sum::<u64>();
    assert_eq!(given_away, 30 - share[0] as u64);
}

#[test]
fn past_the_limit_connections_wait_until_one_ends() {
    let bound = loopback(2);
    let address = address(&bound);
    let limited = Options { max_connections: Some(2), ..options(2, vec![bound]) };
    let (workers, told) = echo(limited);
    let mut first = TcpStream::connect(address).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    round_trip(&mut first, b"1");
    round_trip(&mut second, b"2");

    let mut third = TcpStream::connect(address).unwrap();
    third.write_all(b"3").unwrap();
    round_trip(&mut first, b"1"); // the workers have been round since
    round_trip(&mut second, b"2");
    third.set_nonblocking(true).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(told.try_iter().count(), 2);

    drop(first);
    third.set_nonblocking(false).unwrap();
    let mut got = [0];
    third.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"3");
    let connections = workers.counters().iter().map(|counters| counters.connections).sum::<usize>();
    assert_eq!(connections, 2);
}

#[test]
fn past_a_listeners_limit_its_connections_wait_and_those_of_others_do_not() {
    let limited = loopback(2).with_max_connections(Some(2));
    let (address, free) = (address(&limited), loopback(2));
    let elsewhere = self::address(&free);
    let (_workers, told) = echo(options(2, vec![limited, free]));
    let mut inside: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    inside.iter_mut().for_each(|client| round_trip(client, b"1"));
    // Enough for some to wait at the socket of either worker.
    let mut waiting: Vec<_> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
    waiting.iter_mut().for_each(|client| client.write_all(b"2").unwrap());
    for _ in 0..8 {
        round_trip(&mut TcpStream::connect(elsewhere).unwrap(), b"3");
    }
    let taken = |from: &Receiver<Event>| {
        from.try_iter().filter(|event| matches!(event, Event::Accepted(_, 0, _))).count()
    };
    assert_eq!(taken(&told), 2);

    // As soon as one ends another one is taken, whichever.
    for _ in 0..16 {
        drop(inside.pop());
        let at = loop {
            match told.recv().unwrap() {
                Event::Accepted(_, 0, Peer::Ip(peer)) => break peer,
                _other => {}
            }
        };
        let next = waiting.iter().position(|client| client.local_addr().unwrap() == at).unwrap();
        let mut next = waiting.swap_remove(next);
        let mut got = [0];
        next.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"2");
        inside.push(next);
        assert_eq!(taken(&told), 0);
    }
}

#[test]
fn an_address_with_too_many_connections_has_the_next_closed() {
    let bound = loopback(2);
    let address = address(&bound);
    let limited = Options { max_per_address: Some(2), ..options(2, vec![bound]) };
    let (workers, told) = echo(limited);
    let mut first = TcpStream::connect(address).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    round_trip(&mut first, b"1");
    round_trip(&mut second, b"2");
    let mut third = TcpStream::connect(address).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    assert_eq!(workers.counters().iter().map(|counters| counters.refused).sum::<u64>(), 1);

    drop(first);
    while !matches!(told.recv().unwrap(), Event::Ended(..)) {}
    round_trip(&mut TcpStream::connect(address).unwrap(), b"4");
    round_trip(&mut second, b"2");
}

#[test]
fn stopping_tells_idle_connections_and_waits_for_them() {
    let bound = loopback(2);
    let address = address(&bound);
    let (workers, told) = echo(options(2, vec![bound]));
    let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    clients.iter_mut().for_each(|client| round_trip(client, b"x"));
    let begin = Instant::now();
    workers.stop(MINUTE);
    workers.join();
    assert!(begin.elapsed() < MINUTE);
    let stopped = told.iter().filter(|event| matches!(event, Event::Ended(_, "stopping")));
    assert_eq!(stopped.count(), 4);
    for mut client in clients {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_connection_that_does_not_end_is_cut_after_the_grace() {
    let bound = loopback(1);
    let address = address(&bound);
    let (taken, told) = channel();
    let accepted = move |(): &(), accepted: Accepted| {
        let taken = taken.clone();
        tokio::task::spawn_local(async move {
            taken.send(()).unwrap();
            poll_fn::<(), _>(|_| Poll::Pending).await;
            drop(accepted);
        });
    };
    let workers = start(options(1, vec![bound]), |_| (), accepted).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    told.recv().unwrap();
    workers.stop(MINUTE);
    workers.stop(Duration::ZERO); // a second signal: now
    workers.join();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(workers.counters()[0].connections, 0);
}

#[test]
fn what_waits_in_the_backlog_when_stopping_begins_is_served() {
    let bound = loopback(1);
    let address = address(&bound);
    // No worker looks at the socket before these are queued.
    let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    let (events, told) = channel();
    let accepted = move |(): &(), accepted: Accepted| {
        events.send(()).unwrap();
        drop(accepted);
    };
    let workers = start(options(1, vec![bound]), |_| (), accepted).unwrap();
    workers.stop(MINUTE);
    workers.join();
    assert_eq!(told.try_iter().count(), clients.len());
}

#[test]
fn while_accepting_is_paused_connections_wait_for_whoever_has_the_sockets() {
    let bound = loopback(2);
    let address = address(&bound);
    let (workers, told) = echo(options(2, vec![bound]));
    let mut client = TcpStream::connect(address).unwrap();
    round_trip(&mut client, b"hello");
    assert!(matches!(told.recv().unwrap(), Event::Accepted(..)));
    common::on_worker(workers.pause(Life::Drains));
    // Idle ones are told to end.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(matches!(told.recv().unwrap(), Event::Ended(_, "stopping")));
    assert_eq!(workers.connections(), 0);

    let [passed] = &workers.sockets()[..] else { panic!("one listener") };
    assert_eq!(passed.listen, Listen::Address("127.0.0.1:0".parse().unwrap()));
    let mut waiting = TcpStream::connect(address).unwrap();
    let lives = common::on_worker(workers.ask(|context| context.life()));
    assert_eq!(lives, [Life::Drains; 2]);
    // Another process could have it; none has, so it is served once these workers go on.
    common::on_worker(workers.resume()).unwrap();
    round_trip(&mut waiting, b"hello");
    assert!(matches!(told.recv().unwrap(), Event::Accepted(..)));

    common::on_worker(workers.pause(Life::Drains));
    assert_eq!(waiting.read(&mut [0]).unwrap(), 0);
    let theirs: Vec<_> = passed
        .sockets
        .iter()
        .map(|socket| TcpListener::from(socket.try_clone().unwrap()))
        .collect();
    let mut left = TcpStream::connect(address).unwrap();
    workers.stop(MINUTE);
    workers.join();
    // Not taken at the end, as what waits at sockets that are closed would be.
    let mut taken = theirs.iter().filter_map(|socket| socket.accept().ok());
    taken.next().unwrap().0.write_all(b"!").unwrap();
    left.read_exact(&mut [0]).unwrap();
}

#[test]
fn sockets_that_are_let_go_leave_the_address_free_and_connections_open() {
    let bound = loopback(2);
    let address = address(&bound);
    // Connections that do not look whether they are to end.
    let (came, told) = channel();
    let accepted = move |(): &(), connection: Accepted| {
        came.send(()).unwrap();
        tokio::task::spawn_local(async move {
            let _open = connection;
            std::future::pending::<()>().await;
        });
    };
    let workers = start(options(2, vec![bound]), |_| (), accepted).unwrap();
    let _client = TcpStream::connect(address).unwrap();
    told.recv().unwrap();
    common::on_worker(workers.pause(Life::Drains));
    workers.let_sockets_go();
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
    assert_eq!(workers.connections(), 1);
    assert!(workers.sockets().is_empty());
}

#[test]
fn a_panic_for_one_connection_leaves_the_worker_serving() {
    let bound = loopback(1);
    let address = address(&bound);
    let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let accepted = move |(): &(), accepted: Accepted| {
        if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            panic!("a fault in setting up one connection (expected by this test)");
        }
        tokio::task::spawn_local(async move { write_all(&accepted.stream, b"served").await });
    };
    let workers = start(options(1, vec![bound]), |_| (), accepted).unwrap();
    let mut got = Vec::new();
    TcpStream::connect(address).unwrap().read_to_end(&mut got).unwrap();
    assert_eq!(got, b"");
    TcpStream::connect(address).unwrap().read_to_end(&mut got).unwrap();
    assert_eq!(got, b"served");
    assert_eq!(workers.counters()[0].connections, 0);
}

#[test]
fn a_worker_that_panics_at_its_start_is_an_error() {
    let init = |context: &WorkerContext| assert_eq!(context.id, 0, "expected by this test");
    let error = start(options(2, vec![loopback(2)]), init, |(), _| ()).err().unwrap();
    assert!(error.to_string().contains("did not start"), "{error}");
}
