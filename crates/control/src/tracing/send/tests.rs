//! Spans as a collector gets them: an HTTP server that decodes what it is sent.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc as std_mpsc;
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use proxy::log::{Cause, Ended, Party, Phase, sink};
use proxy::traces::AttemptSpan;

use super::*;

/// What a collector was sent, and how it answers.
struct Endpoint {
    url: String,
    requests: std_mpsc::Receiver<(String, ExportTraceServiceRequest)>,
}

/// A collector that gives these answers, one a request, the last one for all that follow.
fn collector(answers: &'static [&'static str]) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, requests) = std_mpsc::channel();
    thread::spawn(move || {
        let mut answers = answers.iter();
        let mut answer = *answers.next().unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            let Some((head, body)) = read(&mut stream) else { continue };
            let request = ExportTraceServiceRequest::decode(&*body).unwrap();
            // Before the answer: who has that may ask what came.
            if sender.send((head, request)).is_err() {
                return;
            }
            let text =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            answer = answers.next().unwrap_or(&answer);
        }
    });
    Endpoint { url, requests }
}

fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        all.extend_from_slice(&piece[..count]);
        let Some(end) = all.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let length: usize = length.parse().ok()?;
        if all.len() >= end + 4 + length {
            return Some((head, all[end + 4..].to_vec()));
        }
    }
}

fn exchange() -> Span {
    let attempt = |id: u8, endpoint: &str, begin: u64| AttemptSpan {
        id: [id; 8],
        endpoint: endpoint.to_owned(),
        began_us: begin,
        ended_us: Some(begin + 10),
        status: 0,
        failure: None,
    };
    let first = AttemptSpan { failure: Some("refused"), ..attempt(2, "http://10.0.0.1:81", 5) };
    let second = AttemptSpan { status: 200, ..attempt(3, "https://app.example/base", 20) };
    Span {
        trace_id: [0xab; 16],
        id: [1; 8],
        parent: Some([9; 8]),
        began_us: 1_000_000,
        head_us: 100,
        total_us: 5_000,
        method: "GET".to_owned(),
        path: "/api/x".to_owned(),
        authority: "example.com:8443".to_owned(),
        version: "HTTP/2.0".to_owned(),
        secure: true,
        client: Some([192, 0, 2, 7].into()),
        user_agent: "curl".to_owned(),
        site: "main".to_owned(),
        route: Some("/api".to_owned()),
        pool: Some("app".to_owned()),
        status: 200,
        request_bytes: 0,
        response_bytes: 12,
        ended: Ended::Complete,
        request_id: String::new(),
        attempts: vec![first, second],
    }
}

fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test);
}

fn log() -> ErrorLog {
    ErrorLog::new(sink(8).0, config::model::Level::Error)
}

fn attributes(span: &Sent) -> HashMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let all = span.attributes.iter();
    let value = |value: &opentelemetry_proto::tonic::common::v1::AnyValue| {
        text(value.value.as_ref().unwrap())
    };
    all.map(|one| (&*one.key, value(one.value.as_ref().unwrap()))).collect()
}

/// Sends these exchanges by a queue to the collector, to the end.
async fn sent(endpoint: &Endpoint, exchanges: Vec<Span>) -> Arc<SpanCounts> {
    let counts = Arc::new(SpanCounts::default());
    let (queue, spans) = mpsc::channel(16);
    let sending = Sending::start(spans, Arc::clone(&counts), log());
    sending.set(Some(Collector::new(&endpoint.url, None, "edge").unwrap()));
    for exchange in exchanges {
        queue.send(Box::new(exchange)).await.unwrap();
    }
    drop(queue);
    sending.finish().await;
    counts
}

#[test]
fn an_exchange_and_its_attempts_come_with_the_names_of_the_conventions() {
    run(async {
        let endpoint = collector(&["200 OK"]);
        let counts = sent(&endpoint, vec![exchange()]).await;
        let (head, request) = endpoint.requests.recv().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let of_resource = &request.resource_spans[0];
        let service = &of_resource.resource.as_ref().unwrap().attributes[0];
        assert_eq!(service.key, "service.name");
        let spans = &of_resource.scope_spans[0].spans;
        let [server, first, second] = &spans[..] else { panic!("{spans:#?}") };
        assert!(spans.iter().all(|span| span.trace_id == [0xab; 16]));
        assert_eq!((server.kind, first.kind), (2, 3));
        assert_eq!((&*server.name, &*server.parent_span_id), ("GET /api", &[9; 8][..]));
        assert_eq!((&*first.parent_span_id, &*second.parent_span_id), (&[1; 8][..], &[1; 8][..]));
        assert_eq!(server.start_time_unix_nano, 1_000_000_000);
        assert_eq!(server.end_time_unix_nano, 1_005_000_000);
        assert_eq!(first.start_time_unix_nano, 1_000_105_000);
        assert_eq!(first.end_time_unix_nano, 1_000_115_000);
        assert_eq!(second.end_time_unix_nano, server.end_time_unix_nano);
        let of_server = attributes(server);
        for (name, value) in [
            ("http.request.method", "GET"),
            ("http.route", "/api"),
            ("http.response.status_code", "200"),
            ("server.address", "example.com"),
            ("server.port", "8443"),
            ("url.scheme", "https"),
            ("url.path", "/api/x"),
            ("network.protocol.version", "2.0"),
            ("client.address", "192.0.2.7"),
        ] {
            assert_eq!(of_server.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(server.status.is_none() && !of_server.contains_key("error.type"));
        let of_first = attributes(first);
        assert_eq!((&*of_first["error.type"], &*of_first["server.port"]), ("refused", "81"));
        assert_eq!(first.status.as_ref().unwrap().code, 2);
        let of_second = attributes(second);
        assert_eq!(of_second["url.full"], "https://app.example/base/api/x");
        assert_eq!(
            (&*of_second["server.port"], &*of_second["http.request.resend_count"]),
            ("443", "1")
        );
        assert_eq!(counts.exported.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn an_exchange_that_broke_off_is_an_error() {
    run(async {
        let endpoint = collector(&["200 OK"]);
        let ended =
            Ended::Failed { by: Party::Upstream, phase: Phase::Transfer, cause: Cause::Reset };
        let unusual = Span { ended, method: "BREW".to_owned(), ..exchange() };
        let sent = sent(&endpoint, vec![unusual]).await;
        let (_, request) = endpoint.requests.recv().unwrap();
        let server = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(server.status.as_ref().unwrap().code, 2);
        let attributes = attributes(server);
        assert_eq!(attributes["http.request.method"], "_OTHER");
        assert_eq!(attributes["http.request.method_original"], "BREW");
        assert!(!attributes["error.type"].is_empty());
        assert_eq!(sent.exported.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    run(async {
        let busy = collector(&["503 Busy", "200 OK"]);
        let counts = sent(&busy, vec![exchange()]).await;
        assert_eq!(counts.exported.load(Ordering::Relaxed), 3);
        assert_eq!(busy.requests.try_iter().count(), 2);
        let refusing = collector(&["400 Bad Request"]);
        let counts = sent(&refusing, vec![exchange()]).await;
        assert_eq!(counts.refused.load(Ordering::Relaxed), 3);
        assert_eq!(refusing.requests.try_iter().count(), 1);
    });
}
