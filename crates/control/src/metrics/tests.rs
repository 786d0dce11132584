//! What is rendered, read by a strict reader of both formats.

use std::collections::HashSet;

use proxy::live::Live;
use proxy::log::{Party, Phase, Record, Times};
use proxy::metrics::{Kind, Metrics};

use super::gather::Table;
use super::strict::{Parsed, parse};
use super::*;

const SITE: &str = r#"
[[sites]]
name = "shop \"a\""
port = 80
hostname = "example.com"
[sites.proxy]
enabled = true
[[sites.proxy.upstreams]]
name = "app"
url = "http://127.0.0.1:1"
[[sites.proxy.routes]]
path = "/api"
upstream = "app"
websocket = true
"#;

fn snapshot(live: &Live) -> Snapshot {
    let files = [("a.toml".into(), SITE.to_owned())];
    let loaded = config::load(&files, &config::Options::default());
    let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.render(false)));
    Snapshot::compile(model, live).unwrap().0
}

/// What two workers have counted of a few exchanges.
fn all() -> All {
    let live = Live::default();
    let snapshot = snapshot(&live);
    let site = &snapshot.sites[0];
    let pool = &site.proxy.as_ref().unwrap().pools[0];
    let member = &pool.balancer.members()[0];
    let route = &site.routes.routes()[0];
    let workers = [Metrics::new(true), Metrics::new(true)];
    let times =
        Times { first_byte: Some(1_000), transfer: Some(50), total: 1_050, ..Times::default() };
    let proxied = Record {
        method: b"GET",
        version: "HTTP/1.1",
        status: 200,
        request_bytes: 3,
        response_bytes: 10,
        site_at: Some(site),
        route_at: Some(route),
        pool: Some(pool),
        member: Some(member),
        attempts: 2,
        times,
        ..Record::default()
    };
    for worker in &workers {
        worker.begun();
        worker.ended();
        worker.retried(&pool.series, Why::Connect);
        worker.failed(&member.series, Why::Connect);
        worker.answered(&member.series, 200);
        worker.finished(&proxied);
    }
    let limited =
        Ended::Failed { by: Party::Client, phase: Phase::Decide, cause: Cause::RateLimit };
    workers[0].begun();
    workers[0].ended();
    workers[0].finished(&Record {
        status: 429,
        ended: limited,
        pool: None,
        member: None,
        attempts: 0,
        ..proxied
    });
    workers[1].begun();
    workers[1].socket_opened(&route.series);
    let gathered = Gathered {
        workers: workers.iter().map(Metrics::worker).collect(),
        sites: gathered(&live, Kind::Site, &workers, Metrics::sites),
        routes: gathered(&live, Kind::Route, &workers, Metrics::routes),
        pools: gathered(&live, Kind::Pool, &workers, Metrics::pools),
        members: gathered(&live, Kind::Member, &workers, Metrics::members),
        listeners: gathered(&live, Kind::Listener, &workers, Metrics::listeners),
        ..Gathered::default()
    };
    All {
        gathered,
        counters: vec![Counters { accepted: 5, ..Counters::default() }; 2],
        pools: endpoints::pool_views(&snapshot),
        snapshot: Arc::new(snapshot),
        reloads: Reloads { generation: 3, last_ok: true, ..Reloads::default() },
        process: Process::now(),
        spans: Some(proxy::traces::spans(Arc::default()).0),
        dropped: vec![("error", 0)],
    }
}

fn gathered<C: proxy::metrics::Counts>(
    live: &Live,
    kind: Kind,
    workers: &[Metrics],
    copy: fn(&Metrics, std::ops::Range<usize>) -> Vec<proxy::metrics::Sample<C>>,
) -> Table<C> {
    let samples = workers.iter().flat_map(|worker| copy(worker, 0..usize::MAX)).collect();
    Table::new(live.known_series(kind), samples)
}

fn rendered(format: Format) -> Parsed {
    let mut page = Page::new(format);
    all().write(&mut page);
    parse(&page.finish(), format)
}

#[test]
fn both_formats_say_the_same_of_what_the_workers_have_counted() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let parsed = rendered(format);
        let site = r#"site="shop \"a\"""#;
        let endpoint = r#"endpoint="http://127.0.0.1:1",pool="app""#;
        for (sample, value) in [
            (format!(r#"ravelin_http_requests_total{{class="2xx",route="/api",{site}}}"#), 2.0),
            (format!(r#"ravelin_http_requests_total{{class="5xx",route="/api",{site}}}"#), 0.0),
            (format!(r#"ravelin_http_requests_total{{class="2xx",route="",{site}}}"#), 0.0),
            (format!(r#"ravelin_http_responses_total{{code="429",{site}}}"#), 1.0),
            (format!(r#"ravelin_http_requests_by_method_total{{method="GET",{site}}}"#), 3.0),
            (format!(r#"ravelin_http_rate_limited_total{{{site}}}"#), 1.0),
            (format!(r#"ravelin_http_denied_total{{{site}}}"#), 0.0),
            (format!(r#"ravelin_http_response_body_bytes_total{{route="/api",{site}}}"#), 30.0),
            (
                format!(
                    r#"ravelin_http_request_duration_seconds_bucket{{le="0.0016",route="/api",{site}}}"#
                ),
                3.0,
            ),
            (
                format!(r#"ravelin_http_request_duration_seconds_sum{{route="/api",{site}}}"#),
                0.00315,
            ),
            (format!(r#"ravelin_websockets_open{{route="/api",{site}}}"#), 1.0),
            (format!(r#"ravelin_pool_attempts_total{{pool="app",{site}}}"#), 4.0),
            (format!(r#"ravelin_pool_retries_total{{pool="app",reason="connect",{site}}}"#), 2.0),
            (format!(r#"ravelin_endpoint_responses_total{{class="2xx",{endpoint},{site}}}"#), 2.0),
            (format!(r#"ravelin_endpoint_up{{address="127.0.0.1:1",{endpoint},{site}}}"#), 1.0),
            (r#"ravelin_worker_http_requests_in_flight{worker="1"}"#.to_owned(), 1.0),
            (r#"ravelin_worker_connections_accepted_total{worker="0"}"#.to_owned(), 5.0),
            ("ravelin_config_generation".to_owned(), 3.0),
        ] {
            let found = parsed.get(&sample);
            assert_eq!(found, Some(value), "{sample} in\n{:#?}", parsed.samples);
        }
    }
}

#[test]
fn everything_that_is_rendered_stands_in_the_table_with_its_type() {
    let parsed = rendered(Format::OpenMetrics);
    for (name, of) in &parsed.types {
        let family = table::ALL.iter().find(|family| family.name == name).unwrap();
        assert_eq!(family.of.as_str(), of);
    }
    for expected in
        [&table::REQUESTS, &table::PHASES, &table::ENDPOINT_FIRST_BYTE, &table::PROCESS_CPU]
    {
        assert!(parsed.types.contains_key(expected.name), "{}", expected.name);
    }
}

#[test]
fn the_dashboard_asks_for_nothing_that_does_not_exist() {
    let known: HashSet<String> =
        table::ALL.iter().flat_map(|family| family.sample_names()).collect();
    let dashboard = include_str!("../../../../packaging/grafana/ravelin.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let mut queries = Vec::new();
    collect_queries(&dashboard, &mut queries);
    assert!(queries.len() > 20, "{}", queries.len());
    for query in queries {
        let words = query.split(|character: char| !character.is_alphanumeric() && character != '_');
        let ours =
            words.filter(|word| word.starts_with("ravelin_") || word.starts_with("process_"));
        let mut any = false;
        for word in ours {
            assert!(known.contains(word), "{word} in {query}");
            any = true;
        }
        assert!(any, "{query} asks for nothing of Ravelin");
    }
}

fn collect_queries(value: &serde_json::Value, queries: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some("prometheus") => {}
                    Some(text) if name == "expr" || name == "query" => {
                        queries.push(text.to_owned())
                    }
                    _ => collect_queries(value, queries),
                }
            }
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| collect_queries(item, queries));
        }
        _ => {}
    }
}
