//! What is tried again, where, and what is left alone meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::harness::*;

fn start(urls: &[&str], more: &str) -> Ravelin {
    Ravelin::start(&site(urls, more))
}

/// An origin that answers every request with this status, and counts them.
fn status(status: u16) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = Origin::serve(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        format!("HTTP/1.1 {status} Made up\r\nContent-Length: 1\r\n\r\nx").into_bytes()
    });
    (origin, count)
}

/// Where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// An origin that reads a request and closes without an answer.
fn resetting() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = Origin::script(move |conn| {
        conn.request();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (origin, count)
}

const RETRY_ALL: &str = "[sites.proxy.retry]\non = [\"connect\", \"reset\", 503]\nbudget = 100\n";

#[test]
fn a_request_goes_elsewhere_when_no_connection_is_to_be_had() {
    let b = Origin::saying("b");
    let ravelin = start(&[&nowhere(), &b.url()], "");
    let mut client = ravelin.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").expect(200).text(), "b");
    }
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_that_is_told_once() {
    let (a, asked) = resetting();
    let b = Origin::saying("b");
    let ravelin = start(&[&a.url(), &b.url()], "");
    let mut client = ravelin.client();
    for _ in 0..30 {
        assert_eq!(client.get("/").expect(200).text(), "b");
    }
    // Three failures, by default; then nothing for ten seconds.
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    ravelin.stderr.line_with(&[
        "warn",
        "pool \"backend\"",
        &a.url(),
        "left out for 10s",
        "3 failures",
    ]);
}

#[test]
fn max_fails_0_leaves_none_out() {
    let (a, asked) = resetting();
    let b = Origin::saying("b");
    let toml = site(&[&a.url(), &b.url()], "[sites.proxy.retry]\nbudget = 100\n");
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_fails = 0");
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").expect(200).text(), "b");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

#[test]
fn rfc9110_9_2_2_what_may_do_harm_twice_is_sent_once() {
    let (a, asked) = resetting();
    let (b, asked_too) = resetting();
    let ravelin = start(&[&a.url(), &b.url()], "");
    let post = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx";
    let mut client = ravelin.client();
    client.send(post);
    client.response("POST").expect(502);
    assert_eq!(asked.load(Ordering::SeqCst) + asked_too.load(Ordering::SeqCst), 1);
}

#[test]
fn non_idempotent_says_that_it_may_be_sent_twice() {
    let (a, _) = resetting();
    let b = Origin::saying("b");
    let ravelin = start(&[&a.url(), &b.url()], "[sites.proxy.retry]\nnon_idempotent = true\n");
    let mut client = ravelin.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.response("POST").expect(200).text(), "b");
}

#[test]
fn a_listed_status_is_tried_elsewhere_and_another_is_passed_on() {
    let (a, asked) = status(503);
    let b = Origin::saying("b");
    let ravelin = start(&[&a.url(), &b.url()], RETRY_ALL);
    assert_eq!(ravelin.get("/").expect(200).text(), "b");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let (a, asked) = status(500);
    let ravelin = start(&[&a.url(), &b.url()], RETRY_ALL);
    ravelin.get("/").expect(500);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn the_last_response_is_passed_on_when_all_have_failed() {
    let (a, asked) = status(503);
    let (b, asked_too) = status(503);
    let ravelin = start(&[&a.url(), &b.url()], RETRY_ALL);
    assert_eq!(ravelin.get("/").expect(503).text(), "x");
    let asked = asked.load(Ordering::SeqCst) + asked_too.load(Ordering::SeqCst);
    assert!((2..=3).contains(&asked), "{asked}");
}

#[test]
fn the_budget_bounds_what_an_outage_costs() {
    let (a, asked) = status(503);
    let (b, asked_too) = status(503);
    let more = "[sites.proxy.retry]\non = [503]\nbudget = 20\nbudget_minimum = 0\nattempts = 2\n";
    let toml = site(&[&a.url(), &b.url()], more);
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_fails = 0");
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    (0..100).for_each(|_| _ = client.get("/").expect(503));
    let asked = asked.load(Ordering::SeqCst) + asked_too.load(Ordering::SeqCst);
    assert!((101..=120).contains(&asked), "{asked}");
}

#[test]
fn a_backup_is_asked_only_when_nobody_else_can_be() {
    let b = Origin::saying("b");
    let a = Origin::saying("a");
    let entry = |url: &str, more: &str| {
        format!("[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n{more}\n")
    };
    let toml = |first: &str| {
        let one = site(&["http://127.0.0.1:1"], "");
        let at = one.find("[[sites.proxy.upstreams]]").unwrap();
        let routes = one.find("[[sites.proxy.routes]]").unwrap();
        let entries = entry(first, "") + &entry(&b.url(), "backup = true");
        format!("{}{}{}", &one[..at], entries, &one[routes..])
    };
    let ravelin = Ravelin::start(&toml(&a.url()));
    assert!((0..5).all(|_| ravelin.get("/").expect(200).text() == "a"));
    let ravelin = Ravelin::start(&toml(&nowhere()));
    assert!((0..5).all(|_| ravelin.get("/").expect(200).text() == "b"));
}

#[test]
fn requests_beyond_max_conns_wait_for_their_turn() {
    let gate = Gate::new();
    let (came, held) = channel();
    let passing = gate.clone();
    let a = Origin::script(move |conn| {
        while conn.try_request().is_ok() {
            let _ = came.send(());
            passing.pass();
            conn.send(ok("a"));
        }
    });
    let toml = site(&[&a.url()], "");
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_conns = 1");
    let ravelin = Ravelin::start(&toml);
    let mut clients: Vec<Client> = (0..3).map(|_| ravelin.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    }
    held.recv_timeout(PATIENCE).unwrap();
    assert!(held.try_recv().is_err(), "one at a time");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").expect(200).text(), "a");
    }
}

#[test]
fn requests_beyond_what_a_pool_takes_at_once_wait_without_a_core_for_it() {
    let gate = Gate::new();
    let (came, held) = channel();
    let passing = gate.clone();
    let a = Origin::serve(move |_| {
        let _ = came.send(());
        passing.pass();
        ok("a")
    });
    let ravelin = start(&[&a.url()], "[sites.proxy.concurrency]\nmax = 1\n");
    let mut clients: Vec<Client> = (0..3).map(|_| ravelin.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    }
    held.recv_timeout(PATIENCE).unwrap();
    // Nothing comes while one is held; and what waits uses next to no time of the processor.
    let before = cpu_ticks(ravelin.pid());
    assert!(held.recv_timeout(std::time::Duration::from_millis(600)).is_err(), "one at a time");
    let used = cpu_ticks(ravelin.pid()) - before;
    assert!(used < 20, "{used} hundredths of a second");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").expect(200).text(), "a");
    }
}

#[test]
fn a_client_that_goes_away_while_it_waits_is_not_asked_for() {
    let gate = Gate::new();
    let (came, held) = channel();
    let passing = gate.clone();
    let a = Origin::serve(move |request| {
        let _ = came.send(request.target.clone());
        passing.pass();
        ok("a")
    });
    let ravelin = start(&[&a.url()], "[sites.proxy.concurrency]\nmax = 1\n");
    let mut first = ravelin.client();
    first.send("GET /first HTTP/1.1\r\nHost: example.com\r\n\r\n");
    held.recv_timeout(PATIENCE).unwrap();
    let mut second = ravelin.client();
    second.send("GET /second HTTP/1.1\r\nHost: example.com\r\n\r\n");
    drop(second);
    ravelin.stdout.line_with(&["/second", "499"]);
    gate.open();
    first.response("GET").expect(200);
    assert_eq!(ravelin.get("/third").expect(200).text(), "a");
    assert_eq!(held.try_iter().collect::<Vec<_>>(), ["/third"]);
}

/// Time of the processor that a process has used, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_request_that_waits_too_long_is_503_with_a_time_to_come_again() {
    let gate = Gate::new();
    let passing = gate.clone();
    let (came, held) = channel();
    let a = Origin::serve(move |_| {
        let _ = came.send(());
        passing.pass();
        ok("a")
    });
    let toml = site(&[&a.url()], "[sites.proxy.queue]\ntimeout = \"200ms\"\n");
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_conns = 1");
    let ravelin = Ravelin::start(&toml);
    let mut first = ravelin.client();
    first.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    held.recv_timeout(PATIENCE).unwrap();
    let late = ravelin.get("/").expect(503);
    assert!(late.get("retry-after").is_some_and(|value| value.parse::<u64>().is_ok()));
    gate.open();
    first.response("GET").expect(200);
}

#[test]
fn an_open_breaker_answers_in_place_of_the_pool() {
    let (a, asked) = status(500);
    let more = "[sites.proxy.circuit_breaker]\nwindow = 4\nminimum = 4\nopen = 60\n";
    let ravelin = start(&[&a.url()], more);
    let mut client = ravelin.client();
    (0..4).for_each(|_| _ = client.get("/").expect(500));
    let refused = client.get("/").expect(503);
    assert!(refused.get("retry-after").is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    ravelin.stderr.line_with(&["warn", "pool \"backend\"", "4 of 4"]);
}

#[test]
fn one_of_two_that_answers_5xx_is_ejected() {
    let (a, asked) = status(500);
    let b = Origin::saying("b");
    let ravelin = start(&[&a.url(), &b.url()], "[sites.proxy.outlier]\nconsecutive = 3\n");
    let mut client = ravelin.client();
    (0..40).for_each(|_| _ = client.get("/"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    ravelin.stderr.line_with(&["warn", "pool \"backend\"", "ejected", &a.url(), "for 10s"]);
}

#[test]
fn the_whole_request_has_a_time_too() {
    let gate = Gate::new();
    let passing = gate.clone();
    let a = Origin::script(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
        passing.pass();
    });
    let ravelin = start(&[&a.url()], "[sites.proxy.timeout]\nrequest = \"300ms\"\n");
    let mut client = ravelin.client();
    client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let start = std::time::Instant::now();
    let _ = client.wire.rest();
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    gate.open();
}

/// Those that failed may be well again, which nobody finds out while all others are.
#[test]
fn fail_open_tries_those_left_out_before_a_request_fails() {
    let [a, b] = ["a", "b"].map(Backend::new);
    let entries = [(a.url(), "max_fails = 1\nfail_timeout = \"1h\""), (b.url(), "max_fails = 100")];
    for (fail_open, answers) in [(false, 503), (true, 200)] {
        let load_balancing = format!("[sites.proxy.load_balancing]\nfail_open = {fail_open}\n");
        let ravelin = Ravelin::start(&site_of(&entries, &format!("{RETRY_ALL}{load_balancing}")));
        let mut client = ravelin.client();
        a.set_status(503);
        assert_eq!(order(&mut client, 4), "bbbb");
        ravelin.stderr.line_with(&[&a.url(), "is left out"]);
        a.set_status(200);
        assert_eq!(order(&mut client, 4), "bbbb", "while another is well");
        b.set_status(503);
        for _ in 0..4 {
            client.get("/").expect(answers);
        }
        b.set_status(200);
    }
}

#[test]
fn who_waits_is_served_in_the_order_of_arrival() {
    let gate = Gate::new();
    let (came, order) = channel();
    let passing = gate.clone();
    let a = Origin::serve(move |request| {
        let _ = came.send(request.target.clone());
        passing.pass();
        ok("a")
    });
    let toml = site(&[&a.url()], "");
    let toml =
        toml.replace("[[sites.proxy.upstreams]]", "[[sites.proxy.upstreams]]\nmax_conns = 1");
    // One worker, so that the order in which requests arrive is known.
    let ravelin = Ravelin::start(&format!("[performance]\nworker_threads = 1\n{toml}"));
    let mut clients = Vec::new();
    for number in 0..12 {
        let mut client = ravelin.client();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        // What is answered at once shows that the request before it has been read.
        ravelin.get("/api/health/live");
        clients.push(client);
    }
    assert_eq!(order.recv_timeout(PATIENCE).unwrap(), "/0");
    gate.open();
    clients.iter_mut().for_each(|client| _ = client.response("GET").expect(200));
    let order: Vec<String> = order.try_iter().collect();
    let expected: Vec<String> = (1..12).map(|number| format!("/{number}")).collect();
    assert_eq!(order, expected);
}

#[test]
fn an_endpoint_is_not_blamed_for_time_that_was_spent_in_the_queue() {
    let a = Origin::serve(|_| {
        // What makes it slow; nothing waits for it.
        let (_never, clock) = channel::<()>();
        let _ = clock.recv_timeout(std::time::Duration::from_millis(400));
        ok("a")
    });
    let b = Origin::saying("b");
    let more = "[sites.proxy.timeout]\nrequest = 1\n";
    let slow = (a.url(), "max_conns = 1\nmax_fails = 1");
    let entries = [slow, (b.url(), "down = true")];
    let ravelin = Ravelin::start(&site_of(&entries, more));
    let mut clients: Vec<Client> = (0..8).map(|_| ravelin.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|c| c.response("GET").status).collect();
    assert!(statuses.contains(&200) && statuses.contains(&504), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 504].contains(status)), "{statuses:?}");
    ravelin.stdout.line_with(&["504", "phase=queue", "cause=timeout"]);
    let lines = ravelin.stderr.all();
    assert!(!lines.iter().any(|line| line.contains("left out")), "{lines:?}");
}
