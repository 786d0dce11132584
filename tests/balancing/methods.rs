//! The methods, by every name they have here and in other systems.

use std::time::Duration;

use crate::harness::*;

/// A site for each of `tables`, which are keys of `load_balancing`, all before the same upstreams.
fn sites(tables: &[String], upstreams: &[(String, &str)]) -> Ravelin {
    let port = free_port();
    let site = |(index, table): (usize, &String)| {
        let more = format!("[sites.proxy.load_balancing]\n{table}\n");
        site_of(upstreams, &more)
            .replace("name = \"test\"", &format!("name = \"s{index}\""))
            .replace("example.com", &host(index))
            .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
    };
    Ravelin::start(&tables.iter().enumerate().map(site).collect::<String>())
}

fn host(index: usize) -> String {
    format!("s{index}.example")
}

fn methods(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("method = \"{name}\"")).collect()
}

/// Who answers a request to a site, with fields of its own.
fn ask(client: &mut Client, index: usize, target: &str, fields: &str) -> String {
    let host = host(index);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    client.ask(request).expect(200).text()
}

fn turns(client: &mut Client, index: usize, count: usize) -> String {
    (0..count).map(|_| ask(client, index, "/", "")).collect()
}

fn backends(weights: [&str; 3]) -> ([Backend; 3], Vec<(String, &str)>) {
    let backends = ["a", "b", "c"].map(Backend::new);
    let entries = backends.iter().map(Backend::url).zip(weights).collect();
    (backends, entries)
}

const FIVE_ONE_ONE: [&str; 3] = ["weight = 5", "", ""];

#[test]
fn every_name_of_round_robin() {
    let (_backends, entries) = backends(FIVE_ONE_ONE);
    let names = ["round_robin", "roundrobin", "roundRobin", "rr"];
    let ravelin = sites(&methods(&names), &entries);
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(turns(&mut client, index, 7), "abcabca", "{name}");
    }
}

#[test]
fn every_name_of_weighted() {
    let (_backends, entries) = backends(FIVE_ONE_ONE);
    let names = [
        "weighted",
        "weighted_round_robin",
        "weightedRoundRobin",
        "static-rr",
        "static_rr",
        "wrr",
        "byrequests",
        "bytraffic",
    ];
    let ravelin = sites(&methods(&names), &entries);
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        assert_eq!(turns(&mut client, index, 14), "aabacaaaabacaa", "{name}");
    }
}

#[test]
fn every_name_of_least_connections() {
    let ([a, _b, _c], entries) = backends([""; 3]);
    let names = [
        "least_connections",
        "least_conn",
        "leastconn",
        "least_request",
        "leastConnections",
        "bybusyness",
        "heartbeat",
    ];
    let ravelin = sites(&methods(&names), &entries);
    let gate = a.hold();
    let mut busy = ravelin.client();
    busy.send("GET / HTTP/1.1\r\nHost: s0.example\r\n\r\n");
    a.await_held();
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        let order = turns(&mut client, index, 6);
        assert!(!order.contains('a') && order.contains('b') && order.contains('c'), "{name}");
    }
    gate.open();
    assert_eq!(busy.response("GET").text(), "a");
}

#[test]
fn weight_0_gets_nothing_by_any_method() {
    let (_backends, entries) = backends(["weight = 0", "", ""]);
    let names = ["round_robin", "random", "weighted", "weighted_random", "least_connections"];
    let ravelin = sites(&methods(&names), &entries);
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        assert!(!turns(&mut client, index, 30).contains('a'), "{name}");
    }
}

#[test]
fn least_connections_are_counted_for_each_unit_of_weight() {
    let (a, b) = (Backend::new("a"), Backend::new("b"));
    let entries = [(a.url(), "weight = 3"), (b.url(), "")];
    let ravelin = Ravelin::start(&site_of(
        &entries,
        "[sites.proxy.load_balancing]\nmethod = \"least_connections\"\n",
    ));
    let gates = [a.hold(), b.hold()];
    let mut clients: Vec<Client> = (0..8).map(|_| ravelin.client()).collect();
    for (came, client) in (1..).zip(&mut clients) {
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
        until("the next request", || a.asked() + b.asked() == came);
    }
    assert_eq!((a.asked(), b.asked()), (6, 2));
    gates.iter().for_each(Gate::open);
    clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
}

#[test]
fn random_takes_each_as_often_and_in_no_order() {
    let (_backends, entries) = backends(FIVE_ONE_ONE);
    let ravelin = sites(&methods(&["random"]), &entries);
    let order = turns(&mut ravelin.client(), 0, 120);
    // 40 are expected of each; 15 are five standard deviations less.
    for name in ["a", "b", "c"] {
        assert!(order.matches(name).count() >= 15, "{order}");
    }
    assert!(["aa", "bb", "cc"].iter().any(|pair| order.contains(pair)), "{order}");
}

#[test]
fn every_name_of_weighted_random() {
    let (_backends, entries) = backends(FIVE_ONE_ONE);
    let names = ["weighted_random", "weightedRandom"];
    let ravelin = sites(&methods(&names), &entries);
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        let order = turns(&mut client, index, 140);
        // 100 are expected; 73 and 127 are five standard deviations away.
        assert!((73..=127).contains(&order.matches('a').count()), "{name}: {order}");
        assert!(order.contains('b') && order.contains('c'), "{name}: {order}");
    }
}

#[test]
fn every_name_of_least_time() {
    let ([a, _b, _c], entries) = backends([""; 3]);
    let names = [
        "least_time",
        "leastTime",
        "p2c",
        "power_of_two",
        "power_of_two_choices",
        "ewma",
        "peak_ewma",
    ];
    let ravelin = sites(&methods(&names), &entries);
    let gate = a.hold();
    let mut asking = Vec::new();
    until("a request at the one that does not answer", || {
        let mut one = ravelin.client();
        one.send("GET / HTTP/1.1\r\nHost: s0.example\r\n\r\n");
        // The next one follows when it is known where this one went.
        let tcp = one.wire.sock.tcp().unwrap().try_clone().unwrap();
        tcp.set_nonblocking(true).unwrap();
        until("an answer, or none", || a.asked() == 1 || tcp.peek(&mut [0]).is_ok());
        tcp.set_nonblocking(false).unwrap();
        asking.push(one);
        a.asked() == 1
    });
    let mut client = ravelin.client();
    for (index, name) in names.iter().enumerate() {
        let order = turns(&mut client, index, 40);
        assert!(order.contains('b') && order.contains('c'), "{name}: {order}");
    }
    assert_eq!(a.asked(), 1);
    gate.open();
}

#[test]
fn least_time_leaves_one_that_is_slow_alone() {
    let slow = Origin::serve(|_| {
        // What makes it slow; nothing waits for it.
        std::thread::sleep(Duration::from_millis(400));
        ok("s")
    });
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let entries = [&slow, &a, &b].map(|origin| (origin.url(), ""));
    let ravelin = sites(&methods(&["least_time"]), &entries);
    let order = turns(&mut ravelin.client(), 0, 60);
    // By any other method it has a third of them. It is tried, and may be again.
    assert!(order.matches('s').count() <= 6, "{order}");
    assert!(order.contains('a') && order.contains('b'), "{order}");
}

/// Asks twice with each of 25 keys: the same member answers both times, and not always the same one.
/// (25 is no multiple of three, so that going round does not look like it.)
#[track_caller]
fn keeps_and_spreads(name: &str, mut ask: impl FnMut(usize) -> String) {
    let mut round = || -> Vec<String> { (0..25).map(&mut ask).collect() };
    let first = round();
    assert_eq!(first, round(), "{name}");
    assert!(first.iter().any(|member| *member != first[0]), "{name}: {first:?}");
}

#[test]
fn every_name_of_hashes_of_the_address() {
    let (_backends, entries) = backends([""; 3]);
    let mut tables = methods(&["ipHash", "client_ip_hash", "source"]);
    tables.push("method = \"hash\"\nhash_key = \"ip\"".to_owned());
    let ravelin = sites(&tables, &entries);
    for (index, table) in tables.iter().enumerate() {
        keeps_and_spreads(table, |key| {
            let mut client = Client::connect_from(&format!("127.0.1.{}", key + 1), ravelin.addr());
            ask(&mut client, index, &format!("/{key}"), "")
        });
    }
}

#[test]
fn ip_hash_takes_the_first_three_octets_as_nginx_does() {
    let (_backends, entries) = backends([""; 3]);
    let ravelin = sites(&methods(&["ip_hash"]), &entries);
    let ask = |address: &str| ask(&mut Client::connect_from(address, ravelin.addr()), 0, "/", "");
    keeps_and_spreads("ip_hash", |key| ask(&format!("127.0.{key}.1")));
    let one = ask("127.0.7.1");
    assert!((2..20).all(|host| ask(&format!("127.0.7.{host}")) == one));
}

#[test]
fn every_name_of_hashes_of_the_target() {
    let (_backends, entries) = backends([""; 3]);
    let mut tables = methods(&["uri_hash", "uriHash", "uri", "url_hash"]);
    tables.push("method = \"hash\"\nhash_key = \"uri\"".to_owned());
    let ravelin = sites(&tables, &entries);
    let mut client = ravelin.client();
    for (index, table) in tables.iter().enumerate() {
        keeps_and_spreads(table, |key| ask(&mut client, index, &format!("/page/{key}"), ""));
        keeps_and_spreads(table, |key| ask(&mut client, index, &format!("/?id={key}"), ""));
    }
}

#[test]
fn every_name_of_hashes_of_a_field() {
    let (_backends, entries) = backends([""; 3]);
    let keyed = |method: &str, key: &str| format!("method = \"{method}\"\nhash_key = \"{key}\"");
    let mut tables: Vec<String> =
        ["header_hash", "headerHash", "hdr"].map(|name| keyed(name, "X-User")).into();
    let consistent = ["consistent_hash", "consistentHash", "ketama", "ring_hash", "maglev", "hash"];
    tables.extend(consistent.map(|name| keyed(name, "header:X-User")));
    let ravelin = sites(&tables, &entries);
    let mut client = ravelin.client();
    for (index, table) in tables.iter().enumerate() {
        keeps_and_spreads(table, |key| {
            // Names of fields are the same in any case.
            let name = if key % 2 == 0 { "X-User" } else { "x-user" };
            ask(&mut client, index, "/", &format!("{name}: user-{key}\r\n"))
        });
    }
}

#[test]
fn every_name_of_hashes_of_a_cookie() {
    let (_backends, entries) = backends([""; 3]);
    let tables = [
        "method = \"cookie_hash\"\nhash_key = \"session\"",
        "method = \"cookieHash\"\nhash_key = \"session\"",
        "method = \"hash\"\nhash_key = \"cookie:session\"",
    ]
    .map(str::to_owned);
    let ravelin = sites(&tables, &entries);
    let mut client = ravelin.client();
    let mut count = 0;
    for (index, table) in tables.iter().enumerate() {
        keeps_and_spreads(table, |key| {
            count += 1;
            let cookie = format!("Cookie: seen={count}; session=s{key}; x=y\r\n");
            ask(&mut client, index, "/", &cookie)
        });
    }
}
