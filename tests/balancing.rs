//! Which endpoint gets the request.

mod addresses;
mod breaker;
mod capacity;
mod ejection;
mod hashes;
mod left_out;
mod methods;
mod slow_start;
mod tiers;

use std::sync::mpsc::channel;

use crate::harness::*;

const WEIGHTED: &str = "[sites.proxy.load_balancing]\nmethod = \"weighted\"\n";
const LEAST: &str = "[sites.proxy.load_balancing]\nmethod = \"least_connections\"\n";

fn named(names: &[&str]) -> Vec<Origin> {
    names.iter().map(|name| Origin::saying(name)).collect()
}

fn urls(origins: &[Origin]) -> Vec<String> {
    origins.iter().map(Origin::url).collect()
}

fn start(origins: &[Origin], more: &str) -> Ravelin {
    let urls = urls(origins);
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    Ravelin::start(&site(&urls, more))
}

#[test]
fn round_robin_goes_round_on_one_connection() {
    let origins = named(&["a", "b", "c"]);
    let ravelin = start(&origins, "");
    let mut client = ravelin.client();
    let order: String = (0..9).map(|_| client.get("/").text()).collect();
    assert_eq!(order, "abcabcabc");
}

#[test]
fn round_robin_is_exact_over_many_connections_and_workers() {
    let origins = named(&["a", "b", "c"]);
    let ravelin = start(&origins, "[performance]\nworker_threads = 4\n");
    let mut clients: Vec<Client> = (0..12).map(|_| ravelin.client()).collect();
    let mut order = String::new();
    for _ in 0..5 {
        for client in &mut clients {
            order += &client.get("/").text();
        }
    }
    assert_eq!(order, "abc".repeat(20));
}

#[test]
fn round_robin_ignores_weights() {
    let origins = named(&["a", "b"]);
    let toml = site(&[&origins[0].url(), &origins[1].url()], "");
    let toml =
        toml.replacen("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nweight = 9", 1);
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    let order: String = (0..6).map(|_| client.get("/").text()).collect();
    assert_eq!(order, "ababab");
}

fn weighted_order(weights: &[u32], turns: usize) -> String {
    let names = ["a", "b", "c"];
    let origins = named(&names[..weights.len()]);
    let mut toml = site(&[], WEIGHTED);
    let upstreams: String = origins
        .iter()
        .zip(weights)
        .map(|(o, w)| {
            format!(
                "[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{}\"\nweight = {w}\n",
                o.url()
            )
        })
        .collect();
    toml = toml.replace("[[sites.proxy.routes]]", &format!("{upstreams}\n[[sites.proxy.routes]]"));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    (0..turns).map(|_| client.get("/").text()).collect()
}

#[test]
fn weight_0_gets_nothing_even_when_the_others_fail() {
    let spare = Origin::saying("spare");
    let dead = format!("http://127.0.0.1:{}", free_port());
    let toml = site(&[&dead, &spare.url()], WEIGHTED);
    let second = toml.rfind("[[sites.proxy.upstreams]]").unwrap();
    let (before, after) = toml.split_at(second);
    let after =
        after.replacen("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nweight = 0", 1);
    let ravelin = Ravelin::start(&format!("{before}{after}"));
    ravelin.get("/").expect(502);
}

#[test]
fn weighted_two_to_one_spreads_smoothly() {
    assert_eq!(weighted_order(&[2, 1], 9), "abaabaaba");
}

#[test]
fn weighted_five_one_one_is_the_smooth_order() {
    assert_eq!(weighted_order(&[5, 1, 1], 14), "aabacaaaabacaa");
}

#[test]
fn weighted_three_to_one_gets_three_times_as_many() {
    let order = weighted_order(&[3, 1], 40);
    assert_eq!(order.matches('a').count(), 30, "{order}");
}

/// An origin that answers "/held" only once the gate opens, and says so when one has come.
fn holding(name: &'static str, gate: &Gate) -> (Origin, std::sync::mpsc::Receiver<()>) {
    let (came, held) = channel();
    let gate = gate.clone();
    let origin = Origin::serve(move |request| {
        if request.target.starts_with("/held") {
            let _ = came.send(());
            gate.pass();
        }
        ok(name)
    });
    (origin, held)
}

#[test]
fn least_connections_avoids_the_busy_endpoint() {
    let gate = Gate::new();
    let (a, held) = holding("a", &gate);
    let (b, _) = holding("b", &gate);
    let origins = [a, b];
    let ravelin = start(&origins, LEAST);
    let mut busy = ravelin.client();
    busy.send("GET /held HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&held, "the held request at a");
    let mut client = ravelin.client();
    let order: String = (0..5).map(|_| client.get("/").text()).collect();
    assert_eq!(order, "bbbbb");
    gate.open();
    assert_eq!(busy.response("GET").text(), "a");
}

#[test]
fn least_connections_ties_go_round() {
    let origins = named(&["a", "b"]);
    let ravelin = start(&origins, LEAST);
    let mut client = ravelin.client();
    let order: String = (0..4).map(|_| client.get("/").text()).collect();
    assert_eq!(order, "abab");
}

#[test]
fn least_connections_counts_across_workers() {
    let gate = Gate::new();
    let (a, held_a) = holding("a", &gate);
    let (b, held_b) = holding("b", &gate);
    let origins = [a, b];
    let ravelin = start(&origins, &format!("{LEAST}[performance]\nworker_threads = 4\n"));
    // Eight held requests from eight connections, which land on different workers.
    let mut busy: Vec<Client> = (0..8).map(|_| ravelin.client()).collect();
    for (i, client) in busy.iter_mut().enumerate() {
        client.send("GET /held HTTP/1.1\r\nHost: example.com\r\n\r\n");
        next(if i % 2 == 0 { &held_a } else { &held_b }, "the next held request");
    }
    gate.open();
    let order: String = busy.iter_mut().map(|c| c.response("GET").text()).collect();
    assert_eq!(order, "abababab");
}

#[test]
fn least_connections_forgets_clients_that_went_away() {
    let gate = Gate::new();
    let (came, held) = channel();
    let (gone, closed) = channel();
    let a = Origin::script({
        let gate = gate.clone();
        move |conn| {
            let request = conn.request();
            if request.target == "/held" {
                let _ = came.send(());
                conn.wait_closed();
                let _ = gone.send(());
            } else {
                conn.send(ok("a"));
                gate.pass();
            }
        }
    });
    let b = Origin::saying("b");
    let origins = [a, b];
    let ravelin = start(&origins, LEAST);
    let mut client = ravelin.client();
    client.send("GET /held HTTP/1.1\r\nHost: example.com\r\n\r\n");
    next(&held, "the held request");
    drop(client);
    next(&closed, "the abort of the upstream request");
    // It is a's turn every other time, unless that request still counts.
    let order: String = (0..2).map(|_| ravelin.get("/").text()).collect();
    assert_eq!(order, "ba");
    gate.open();
}

#[test]
fn entries_with_one_name_are_one_pool_and_other_names_are_others() {
    let origins = named(&["a", "b", "c"]);
    let toml = site(&[&origins[0].url(), &origins[1].url()], "").replace(
        "[[sites.proxy.routes]]",
        &format!(
            "[[sites.proxy.upstreams]]\nname = \"other\"\nurl = \"{}\"\n\n[[sites.proxy.routes]]",
            origins[2].url()
        ),
    ) + "[[sites.proxy.routes]]\npath = \"/other\"\nupstream = \"other\"\n";
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    let order: String =
        ["/", "/other", "/", "/other", "/"].iter().map(|t| client.get(t).text()).collect();
    assert_eq!(order, "acbca");
}
