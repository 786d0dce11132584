//! What is counted, as somebody sees it who collects it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::channel;

use crate::harness::*;

const METRICS: &str = "[management]\nmetrics = \"127.0.0.1:0\"\n";

/// A site before this upstream, whose metrics can be had without a token.
fn start(url: &str, more: &str) -> Ravelin {
    Ravelin::start(&format!("{METRICS}\n{}", site(&[url], more)))
}

fn metrics_address(ravelin: &Ravelin) -> SocketAddr {
    let line = ravelin.stderr.line_with(&["metrics at http://"]);
    let (_, address) = line.split_once("metrics at http://").unwrap();
    let end = address.find(['/', ' ']).unwrap_or(address.len());
    address[..end].parse().unwrap()
}

fn scrape(ravelin: &Ravelin, accept: &str) -> Response {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    Client::connect(metrics_address(ravelin)).ask(request).expect(200)
}

/// All samples by name and labels, as they are written.
fn samples(ravelin: &Ravelin) -> BTreeMap<String, f64> {
    let text = scrape(ravelin, "*/*").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

#[track_caller]
fn value(samples: &BTreeMap<String, f64>, sample: &str) -> f64 {
    let found = samples.get(sample);
    *found.unwrap_or_else(|| panic!("no {sample} in {samples:#?}"))
}

#[test]
fn lines_that_were_lost_stay_counted_when_the_log_goes_elsewhere() {
    let origin = Origin::saying("");
    let logging = |keys: &str| {
        let site = site(&[&origin.url()], "");
        format!("{METRICS}\n[logging]\n{keys}\n{site}")
    };
    let ravelin = Ravelin::start(&logging("access_log = \"/dev/full\""));
    let lost = || {
        let name = "ravelin_log_dropped_lines_total{log=\"access\"}";
        samples(&ravelin).get(name).copied().unwrap_or_default()
    };
    ravelin.get("/").expect(200);
    until("a line that is lost", || lost() >= 1.0);
    for keys in [
        "access_log = \"access.log\"",
        "access_log = \"stderr\"",
        "log_requests = false",
        "access_log = \"other.log\"",
    ] {
        std::fs::write(ravelin.dir().join("ravelin.toml"), logging(keys)).unwrap();
        let reload = run(ravelin.dir(), &["reload"]);
        assert!(reload.status.success(), "{}", printed(&reload));
        assert!(lost() >= 1.0, "{keys}");
    }
}

#[test]
fn lost_lines_are_counted_for_their_log_where_both_have_one_target() {
    let origin = Origin::saying("");
    let site = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("{METRICS}\n{site}"));
    let full = "[logging]\naccess_log = \"/dev/full\"\nerror_log = \"/dev/full\"";
    std::fs::write(ravelin.dir().join("ravelin.toml"), format!("{METRICS}\n{full}\n{site}"))
        .unwrap();
    let reload = run(ravelin.dir(), &["reload"]);
    assert!(reload.status.success(), "{}", printed(&reload));
    ravelin.get("/").expect(200);
    until("a line of the access log that is lost", || {
        let name = "ravelin_log_dropped_lines_total{log=\"access\"}";
        samples(&ravelin).get(name).is_some_and(|lines| *lines == 1.0)
    });
}

#[test]
fn requests_are_counted_where_they_belong() {
    let origin = Origin::serve(|request| match request.head.start.contains("/missing") {
        true => b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        false => ok("four"),
    });
    let ravelin = start(&origin.url(), "");
    let mut client = ravelin.client();
    (0..3).for_each(|_| drop(client.get("/").expect(200)));
    client.get("/missing").expect(404);
    let body = "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello";
    client.ask(body).expect(200);
    let samples = samples(&ravelin);
    let endpoint = format!("site=\"test\",pool=\"backend\",endpoint=\"{}\"", origin.url());
    for (sample, expected) in [
        ("ravelin_http_requests_total{site=\"test\",route=\"/\",class=\"2xx\"}", 4.0),
        ("ravelin_http_requests_total{site=\"test\",route=\"/\",class=\"4xx\"}", 1.0),
        ("ravelin_http_requests_total{site=\"test\",route=\"/\",class=\"5xx\"}", 0.0),
        ("ravelin_http_responses_total{site=\"test\",code=\"404\"}", 1.0),
        ("ravelin_http_requests_by_method_total{site=\"test\",method=\"POST\"}", 1.0),
        ("ravelin_http_requests_by_protocol_total{site=\"test\",protocol=\"HTTP/1.1\"}", 5.0),
        ("ravelin_http_request_body_bytes_total{site=\"test\",route=\"/\"}", 5.0),
        ("ravelin_http_response_body_bytes_total{site=\"test\",route=\"/\"}", 18.0),
        ("ravelin_http_request_duration_seconds_count{site=\"test\",route=\"/\"}", 5.0),
        ("ravelin_http_phase_duration_seconds_count{site=\"test\",phase=\"first_byte\"}", 5.0),
        ("ravelin_pool_requests_total{site=\"test\",pool=\"backend\"}", 5.0),
        ("ravelin_pool_attempts_total{site=\"test\",pool=\"backend\"}", 5.0),
        (&*format!("ravelin_endpoint_responses_total{{{endpoint},class=\"2xx\"}}"), 4.0),
        (&*format!("ravelin_endpoint_connections_reused_total{{{endpoint}}}"), 4.0),
        (&*format!("ravelin_endpoint_connect_duration_seconds_count{{{endpoint}}}"), 1.0),
        (&*format!("ravelin_endpoint_up{{{endpoint},address=\"{}\"}}", origin.addr()), 1.0),
        ("ravelin_config_generation", 1.0),
        ("ravelin_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(value(&samples, sample), expected, "{sample}");
    }
    let of_workers = |name: &str| -> f64 {
        let all = samples.iter().filter(|(sample, _)| sample.starts_with(&format!("{name}{{")));
        all.map(|(_, value)| value).sum()
    };
    assert_eq!(of_workers("ravelin_worker_connections"), 1.0);
    assert_eq!(of_workers("ravelin_worker_http_requests_total"), 5.0);
    assert_eq!(of_workers("ravelin_worker_http_requests_in_flight"), 0.0);
    assert!(value(&samples, "process_resident_memory_bytes") > 1e6);
}

#[test]
fn who_asks_for_openmetrics_gets_it() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin.url(), "");
    ravelin.get("/").expect(200);
    let open = scrape(&ravelin, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    let kind = open.get("Content-Type").unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = open.text();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE ravelin_http_requests counter\n"), "{text}");
    let plain = scrape(&ravelin, "text/plain");
    assert!(plain.get("Content-Type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = plain.text();
    assert!(text.contains("# TYPE ravelin_http_requests_total counter\n"), "{text}");
    assert!(!text.contains("# EOF"));
}

#[test]
fn what_is_tried_again_is_counted_with_the_reason() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Origin::saying("x");
    let gone = format!("http://{nobody}");
    let toml = site(&[&gone, &origin.url()], "");
    let ravelin = Ravelin::start(&format!("{METRICS}\n{toml}"));
    let mut client = ravelin.client();
    (0..4).for_each(|_| drop(client.get("/").expect(200)));
    let samples = samples(&ravelin);
    let retries = "ravelin_pool_retries_total{site=\"test\",pool=\"backend\",reason=\"connect\"}";
    let failures = format!(
        "ravelin_endpoint_failures_total{{site=\"test\",pool=\"backend\",endpoint=\"{gone}\",reason=\"connect\"}}"
    );
    let retried = value(&samples, retries);
    assert!(retried >= 1.0);
    assert_eq!(value(&samples, &failures), retried);
    let attempts = value(&samples, "ravelin_pool_attempts_total{site=\"test\",pool=\"backend\"}");
    assert_eq!(attempts, 4.0 + retried);
}

#[test]
fn counts_outlive_a_reload_and_go_with_their_names() {
    let origin = Origin::saying("x");
    let toml = format!("{METRICS}\n{}", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let mut client = ravelin.client();
    (0..3).for_each(|_| drop(client.get("/").expect(200)));
    let more = "[[sites.proxy.routes]]\npath = \"/new\"\nupstream = \"backend\"\n";
    std::fs::write(ravelin.dir().join("ravelin.toml"), format!("{toml}\n{more}")).unwrap();
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["generation 2"]);
    client.get("/").expect(200);
    client.get("/new").expect(200);
    let samples = samples(&ravelin);
    let requests = |route: &str| {
        format!("ravelin_http_requests_total{{site=\"test\",route=\"{route}\",class=\"2xx\"}}")
    };
    assert_eq!(value(&samples, &requests("/")), 4.0);
    assert_eq!(value(&samples, &requests("/new")), 1.0);
    assert_eq!(value(&samples, "ravelin_config_generation"), 2.0);
}

#[test]
fn a_websocket_is_open_until_it_is_not() {
    let (told, ended) = channel();
    let told = std::sync::Mutex::new(told);
    let origin = Origin::script(move |conn| {
        conn.request();
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        conn.wait_closed();
        let _ = told.lock().unwrap().send(());
    });
    let ravelin = start(&origin.url(), "websocket = true\n");
    let mut client = ravelin.client();
    client.send(
        "GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    client.wire.head().unwrap();
    let open = "ravelin_websockets_open{site=\"test\",route=\"/\"}";
    assert_eq!(value(&samples(&ravelin), open), 1.0);
    drop(client);
    next(&ended, "the end of the WebSocket");
    ravelin.stdout.line_with(&["GET /chat ", " 101 "]);
    let samples = samples(&ravelin);
    assert_eq!(value(&samples, open), 0.0);
    let opened = "ravelin_websockets_opened_total{site=\"test\",route=\"/\"}";
    assert_eq!(value(&samples, opened), 1.0);
}

#[test]
fn what_was_refused_is_counted_with_who_and_why() {
    let origin = Origin::saying("x");
    let limit = "[sites.proxy.routes.rate_limit]\nrequests = 1\nper = \"1h\"\n";
    let ravelin = start(&origin.url(), limit);
    let mut client = ravelin.client();
    client.get("/").expect(200);
    client.get("/").expect(429);
    ravelin.ask("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").expect(400);
    let samples = samples(&ravelin);
    assert_eq!(value(&samples, "ravelin_http_rate_limited_total{site=\"test\"}"), 1.0);
    let refused = samples
        .iter()
        .filter(|(sample, _)| sample.starts_with("ravelin_worker_http_requests_refused_total{"));
    assert_eq!(refused.map(|(_, value)| value).sum::<f64>(), 1.0);
    let failures = samples.iter().filter(|(sample, _)| {
        sample.starts_with("ravelin_http_failures_total{") && sample.contains("by=\"client\"")
    });
    assert_eq!(failures.map(|(_, value)| value).sum::<f64>(), 2.0);
}

#[test]
fn nothing_is_counted_where_that_is_turned_off() {
    let origin = Origin::saying("x");
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("{METRICS}\n[metrics]\nenabled = false\n\n{toml}"));
    ravelin.get("/").expect(200);
    let samples = samples(&ravelin);
    let requests = "ravelin_http_requests_total{site=\"test\",route=\"/\",class=\"2xx\"}";
    assert_eq!(value(&samples, requests), 0.0);
}
