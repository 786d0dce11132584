//! What becomes of keys when an endpoint goes away, or has too much to do.

use std::collections::BTreeMap;

use crate::harness::*;

/// No multiple of five, so that going round does not look like keeping keys.
const KEYS: usize = 203;

fn table(keys: &str) -> String {
    format!("[sites.proxy.load_balancing]\n{keys}\n")
}

fn five() -> (Vec<Backend>, Vec<(String, &'static str)>) {
    let backends: Vec<Backend> = ["a", "b", "c", "d", "e"].map(Backend::new).into();
    let entries = backends.iter().map(|backend| (backend.url(), "max_fails = 1")).collect();
    (backends, entries)
}

fn owners(client: &mut Client) -> Vec<String> {
    (0..KEYS).map(|key| client.get(&format!("/{key}")).expect(200).text()).collect()
}

/// Kills one of five. How many keys of others have moved, and where its own went.
fn moved(keys: &str) -> (usize, BTreeMap<String, usize>) {
    let (mut backends, entries) = five();
    let ravelin = Ravelin::start(&site_of(&entries, &table(keys)));
    let mut client = ravelin.client();
    let before = owners(&mut client);
    assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    backends[2].kill();
    // Nobody has found out yet, and it is the same afterwards.
    let finding_out = owners(&mut client);
    let line = ["pool \"backend\"", &entries[2].0, " is left out"];
    ravelin.stderr.line_with(&line);
    let after = owners(&mut client);
    let differ = finding_out.iter().zip(&after).filter(|(one, other)| one != other).count();
    assert!(differ <= KEYS / 50, "{differ} keys moved twice");
    let said = ravelin.stderr.all();
    let left_out = said.iter().filter(|line| line.contains("is left out")).count();
    assert_eq!(left_out, 1, "{said:#?}");
    let mut others = 0;
    let mut went: BTreeMap<String, usize> = BTreeMap::new();
    for (before, after) in before.into_iter().zip(after) {
        match before.as_str() {
            "c" => *went.entry(after).or_default() += 1,
            _ => others += usize::from(before != after),
        }
    }
    (others, went)
}

#[test]
fn ketama_moves_no_key_but_those_of_the_endpoint_that_is_gone() {
    let (others, went) = moved("method = \"uri_hash\"\nconsistent = \"ketama\"");
    assert_eq!(others, 0);
    assert!(went.len() >= 3 && !went.contains_key("c"), "to several: {went:?}");
}

#[test]
fn maglev_moves_next_to_no_key_but_those_of_the_endpoint_that_is_gone() {
    // Endpoints are told apart by their ports, and for a few choices of ports in a thousand more keys move: it is
    // the middle one of three that counts.
    let mut moved = [(); 3].map(|()| {
        let (others, went) = moved("method = \"uri_hash\"\nconsistent = \"maglev\"");
        assert!(went.len() >= 3 && !went.contains_key("c"), "to several: {went:?}");
        others
    });
    moved.sort_unstable();
    assert!(moved[1] <= KEYS / 25, "{moved:?}");
}

#[test]
fn keys_come_home_when_the_endpoint_is_back() {
    let (backends, entries) = five();
    let more = table("method = \"uri_hash\"\nconsistent = true")
        + "[sites.proxy.retry]\non = [503]\nbudget = 100\n";
    let entries: Vec<_> =
        entries.into_iter().map(|(url, _)| (url, "max_fails = 1\nfail_timeout = 1")).collect();
    let ravelin = Ravelin::start(&site_of(&entries, &more));
    let mut client = ravelin.client();
    let before = owners(&mut client);
    backends[2].set_status(503);
    assert!(!owners(&mut client).contains(&"c".to_owned()));
    backends[2].set_status(200);
    until("the endpoint to be back", || owners(&mut client).contains(&"c".to_owned()));
    assert_eq!(owners(&mut client), before);
}

#[test]
fn two_proxies_send_a_key_to_the_same_endpoint() {
    for keys in [
        "method = \"uri_hash\"",
        "method = \"uri_hash\"\nconsistent = \"ketama\"",
        "method = \"uri_hash\"\nconsistent = \"maglev\"",
    ] {
        let (_backends, entries) = five();
        let toml = site_of(&entries, &table(keys));
        let (one, other) = (Ravelin::start(&toml), Ravelin::start(&toml));
        other.get("/").expect(200);
        assert_eq!(owners(&mut one.client()), owners(&mut other.client()), "{keys}");
    }
}

/// How many of twelve requests for one key, all in flight at once, each of three has.
fn of_a_hot_key(keys: &str) -> Vec<usize> {
    let backends = ["a", "b", "c"].map(Backend::new);
    let entries = backends.each_ref().map(|backend| (backend.url(), ""));
    let ravelin = Ravelin::start(&site_of(&entries, &table(keys)));
    let gates = backends.each_ref().map(Backend::hold);
    let asked = || backends.each_ref().map(Backend::asked);
    let mut clients: Vec<Client> = (0..12).map(|_| ravelin.client()).collect();
    for (came, client) in (1..).zip(&mut clients) {
        client.send("GET /hot HTTP/1.1\r\nHost: example.com\r\n\r\n");
        until("the next request", || asked().iter().sum::<usize>() == came);
    }
    gates.iter().for_each(Gate::open);
    clients.iter_mut().for_each(|client| drop(client.response("GET").expect(200)));
    let mut asked = asked().to_vec();
    asked.sort_unstable();
    asked
}

#[test]
fn bounded_load_passes_on_what_one_endpoint_has_too_much_of() {
    for table in ["\"ketama\"", "\"maglev\"", "false"] {
        let keys = format!("method = \"uri_hash\"\nconsistent = {table}");
        assert_eq!(of_a_hot_key(&keys), [0, 0, 12]);
        // Of twelve the average is four, and a quarter more is five.
        let bounded = of_a_hot_key(&format!("{keys}\nbounded_load = 125"));
        assert_eq!(bounded.iter().sum::<usize>(), 12);
        assert!(bounded[2] == 5 && bounded[1] <= 5, "{table}: {bounded:?}");
    }
}
