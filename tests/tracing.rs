//! Which trace a request belongs to (W3C Trace Context): what the upstream is told, and the log.

use crate::harness::*;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn start(origin: &Origin, keys: &str) -> Ravelin {
    Ravelin::start(&format!("[tracing]\n{keys}\n\n{}", site(&[&origin.url()], "")))
}

/// What the upstream was told of a request with these lines.
fn told(ravelin: &Ravelin, origin: &Origin, lines: &str) -> (Option<String>, Option<String>) {
    let before = origin.requests().len();
    ravelin.ask(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n")).expect(200);
    let head = origin.request(before).head;
    let value = |name: &str| head.get(name).map(str::to_owned);
    (value("traceparent"), value("tracestate"))
}

#[test]
fn w3c_a_trace_goes_on_as_it_came() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin, "propagate = true");
    let lines = format!("Traceparent: {CALLER}\r\nTracestate: a=1,b=2\r\n");
    let (parent, state) = told(&ravelin, &origin, &lines);
    assert_eq!(parent.as_deref(), Some(CALLER));
    assert_eq!(state.as_deref(), Some("a=1,b=2"));
}

#[test]
fn w3c_a_request_without_a_trace_or_with_a_broken_one_begins_one() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin, "propagate = true");
    let mut seen = std::collections::HashSet::new();
    let twice = format!("traceparent: {CALLER}\r\ntraceparent: {CALLER}\r\n");
    for lines in [
        "",
        "traceparent: nonsense\r\ntracestate: a=1\r\n",
        "traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n",
        &twice,
    ] {
        let (parent, state) = told(&ravelin, &origin, lines);
        let parent = parent.unwrap();
        assert!(parent.len() == 55 && parent.starts_with("00-"), "{parent}");
        assert!(parent.ends_with("-01"), "{parent}");
        assert_eq!(state, None, "a state of another trace");
        assert!(seen.insert(parent), "the same again");
    }
}

#[test]
fn what_is_not_sampled_says_so() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin, "propagate = true\nsample = 0");
    assert!(told(&ravelin, &origin, "").0.unwrap().ends_with("-00"));
    let (parent, _) = told(&ravelin, &origin, &format!("traceparent: {CALLER}\r\n"));
    assert_eq!(parent.as_deref(), Some(CALLER), "the caller's own choice");
}

#[test]
fn a_trace_of_who_is_not_trusted_does_not_count_where_that_matters() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin, "propagate = true\naccept = \"trusted\"");
    let lines = format!("traceparent: {CALLER}\r\ntracestate: a=1\r\n");
    let (parent, state) = told(&ravelin, &origin, &lines);
    assert!(!parent.unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(state, None);
}

#[test]
fn without_tracing_the_fields_are_like_any_other() {
    let origin = Origin::saying("x");
    let ravelin = start(&origin, "");
    assert_eq!(told(&ravelin, &origin, ""), (None, None));
    let (parent, _) = told(&ravelin, &origin, "traceparent: anything\r\n");
    assert_eq!(parent.as_deref(), Some("anything"));
}

#[test]
fn the_log_names_the_trace() {
    let origin = Origin::saying("x");
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&format!(
        "[tracing]\npropagate = true\n\n[logging]\nformat = \"json\"\n\n{toml}"
    ));
    told(&ravelin, &origin, &format!("traceparent: {CALLER}\r\n"));
    ravelin.stdout.line_with(&["\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\""]);
}

#[test]
fn an_upgrade_to_a_collector_that_is_not_there_costs_nobody_anything() {
    let origin = Origin::saying("x");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ravelin = start(&origin, &format!("endpoint = \"http://{nobody}\""));
    let mut client = ravelin.client();
    for _ in 0..50 {
        client.get("/").expect(200);
    }
}

/// Only what is built so sends spans; what it sends is decoded in the crate that does.
#[cfg(feature = "otel")]
#[test]
fn a_recorded_exchange_reaches_the_collector() {
    let collector = Origin::serve(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    let origin = Origin::saying("x");
    let ravelin = start(&origin, &format!("endpoint = \"{}\"", collector.url()));
    let (parent, _) = told(&ravelin, &origin, &format!("traceparent: {CALLER}\r\n"));
    let parent = parent.unwrap();
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
    assert!(!parent.contains("b7ad6b7169203331"), "the attempt is the parent now");
    let sent = collector.request(0);
    assert!(sent.head.start.starts_with("POST /v1/traces "), "{}", sent.head.start);
    let trace: Vec<u8> = (0..32).step_by(2).map(|at| hex(&CALLER[3 + at..][..2])).collect();
    let span: Vec<u8> = (0..16).step_by(2).map(|at| hex(&parent[36 + at..][..2])).collect();
    let has = |bytes: &[u8]| sent.body.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&trace) && has(&span) && has(b"http.request.method"));
}

#[cfg(feature = "otel")]
fn hex(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).unwrap()
}
