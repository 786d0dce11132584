//! Every metric there is: its name, type, unit, labels and meaning. What is rendered, the page
//! `docs/metrics.md` and the check of the dashboard all come from this table.

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Only grows, from nought at the start of the process.
    Counter,
    /// A state.
    Gauge,
    /// Durations, by how long they are.
    Histogram,
}

impl Type {
    /// The word for it in both formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric with all its series.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name; of a counter without `_total`.
    pub name: &'static str,
    /// Its type.
    pub of: Type,
    /// Its unit, which the name ends with; empty for plain numbers.
    pub unit: &'static str,
    /// The labels of each series, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const NONE: &[&str] = &[];
const SITE: &[&str] = &["site"];
const ROUTE: &[&str] = &["site", "route"];
const POOL: &[&str] = &["site", "pool"];
const ENDPOINT: &[&str] = &["site", "pool", "endpoint"];
const ADDRESS: &[&str] = &["site", "pool", "endpoint", "address"];
const WORKER: &[&str] = &["worker"];
const LISTENER: &[&str] = &["listener"];

macro_rules! families {
    ($($id:ident: $of:ident $unit:literal $name:literal $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Family = Family {
                name: $name,
                of: Type::$of,
                unit: $unit,
                labels: $labels,
                help: $help,
            };
        )*

        /// All of them, in the order in which they are rendered.
        pub const ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    BUILD_INFO: Gauge "" "ravelin_build_info" &["version"],
        "Always 1; the label says which version runs.";
    CONFIG_GENERATION: Gauge "" "ravelin_config_generation" NONE,
        "Number of the configuration in force; it grows with each that is taken.";
    CONFIG_LAST_OK: Gauge "" "ravelin_config_last_reload_successful" NONE,
        "1 if the last configuration that was to be taken was taken, else 0.";
    CONFIG_LAST_OK_AT: Gauge "seconds" "ravelin_config_last_reload_success_timestamp_seconds" NONE,
        "When a configuration was last taken, in Unix time.";
    CONFIG_HISTORY: Gauge "" "ravelin_config_history_entries" &["result"],
        "Configurations that were to be taken, by how that went, as far as the history goes back.";

    WORKER_CONNECTIONS: Gauge "" "ravelin_worker_connections" WORKER,
        "Client connections open.";
    WORKER_ACCEPTED: Counter "" "ravelin_worker_connections_accepted" WORKER,
        "Client connections taken off a listening socket.";
    WORKER_HANDED_OVER: Counter "" "ravelin_worker_connections_handed_over" WORKER,
        "Client connections taken and given to a worker with less to do.";
    WORKER_REFUSED: Counter "" "ravelin_worker_connections_refused" WORKER,
        "Client connections closed at once because their address had as many as it may.";
    WORKER_SHORTAGES: Counter "" "ravelin_worker_accept_shortages" WORKER,
        "Times that accepting paused for want of descriptors or memory.";
    WORKER_ACCEPT_ERRORS: Counter "" "ravelin_worker_accept_errors" WORKER,
        "Other failures to accept a connection.";
    WORKER_REQUESTS: Counter "" "ravelin_worker_http_requests" WORKER,
        "Requests that have come to their end.";
    WORKER_IN_FLIGHT: Gauge "" "ravelin_worker_http_requests_in_flight" WORKER,
        "Requests under way, open WebSockets included.";
    WORKER_REFUSED_HEADS: Counter "" "ravelin_worker_http_requests_refused" WORKER,
        "Requests whose head could not be read or was refused before a site was looked for.";

    ACCEPT: Histogram "seconds" "ravelin_connection_first_request_wait_seconds" LISTENER,
        "From accepting a connection to the first byte of its first request, without its TLS handshake.";
    HANDSHAKES: Counter "" "ravelin_tls_handshakes" &["listener", "version", "resumed"],
        "TLS handshakes with clients that went well.";
    HANDSHAKE_FAILURES: Counter "" "ravelin_tls_handshake_failures" &["listener", "reason"],
        "TLS handshakes with clients that came to nothing.";
    HANDSHAKE: Histogram "seconds" "ravelin_tls_handshake_duration_seconds" LISTENER,
        "Time of TLS handshakes with clients that had a request afterwards.";
    CERTIFICATE_EXPIRES: Gauge "seconds" "ravelin_certificate_expiry_timestamp_seconds" &["certificate"],
        "When a certificate in use expires, in Unix time.";

    REQUESTS: Counter "" "ravelin_http_requests" &["site", "route", "class"],
        "Requests that have come to their end, by class of status. Requests that no route took have an empty route; class `none`: no response was possible.";
    REQUEST_DURATION: Histogram "seconds" "ravelin_http_request_duration_seconds" ROUTE,
        "From the first byte of a request to the last of its response. WebSockets are not in it.";
    REQUEST_BYTES: Counter "bytes" "ravelin_http_request_body_bytes" ROUTE,
        "Bytes of request bodies received.";
    RESPONSE_BYTES: Counter "bytes" "ravelin_http_response_body_bytes" ROUTE,
        "Bytes of response bodies sent.";
    RESPONSES: Counter "" "ravelin_http_responses" &["site", "code"],
        "Requests that have come to their end, by status. 499: the client left before there was one; `other`: more than 64 different ones.";
    METHODS: Counter "" "ravelin_http_requests_by_method" &["site", "method"],
        "Requests that have come to their end, by method.";
    PROTOCOLS: Counter "" "ravelin_http_requests_by_protocol" &["site", "protocol"],
        "Requests that have come to their end, by the protocol of the client.";
    PHASES: Histogram "seconds" "ravelin_http_phase_duration_seconds" &["site", "phase"],
        "Time that the steps of exchanges took: `head` from the first byte of the request head to its last, `queue` waiting for an endpoint, `connect` opening a connection, `first_byte` from the end of the request head to the first of the response, `transfer` from there to the end.";
    FAILURES: Counter "" "ravelin_http_failures" &["site", "by", "reason"],
        "Exchanges that did not end as they should: who is to blame, and why, in the words of the access log.";
    RATE_LIMITED: Counter "" "ravelin_http_rate_limited" SITE,
        "Requests refused because there were more than a rate limit takes.";
    DENIED: Counter "" "ravelin_http_denied" SITE,
        "Requests refused by a rule: addresses, origins, methods, credentials that are missing or do not do.";

    SOCKETS_OPEN: Gauge "" "ravelin_websockets_open" ROUTE,
        "WebSockets open.";
    SOCKETS_OPENED: Counter "" "ravelin_websockets_opened" ROUTE,
        "WebSockets that were opened.";
    SOCKET_BYTES_IN: Counter "bytes" "ravelin_websocket_received_bytes" ROUTE,
        "Bytes from clients in WebSockets, counted when they end.";
    SOCKET_BYTES_OUT: Counter "bytes" "ravelin_websocket_sent_bytes" ROUTE,
        "Bytes to clients in WebSockets, counted when they end.";

    POOL_REQUESTS: Counter "" "ravelin_pool_requests" POOL,
        "Requests that were, or were to be, forwarded to the pool.";
    POOL_ATTEMPTS: Counter "" "ravelin_pool_attempts" POOL,
        "Attempts made for them.";
    POOL_RETRIES: Counter "" "ravelin_pool_retries" &["site", "pool", "reason"],
        "Attempts beyond the first, by why they were made.";
    POOL_NO_ENDPOINT: Counter "" "ravelin_pool_no_endpoint" POOL,
        "Requests for which no endpoint was found.";
    POOL_CIRCUIT_OPEN: Counter "" "ravelin_pool_circuit_open" POOL,
        "Requests that the circuit breaker kept away from the pool.";
    POOL_QUEUE: Histogram "seconds" "ravelin_pool_queue_duration_seconds" POOL,
        "Time that requests waited for room at an endpoint; nought for those that did not.";
    POOL_WAITING: Gauge "" "ravelin_pool_queue_length" POOL,
        "Requests that wait for room at an endpoint.";
    POOL_IN_FLIGHT: Gauge "" "ravelin_pool_requests_in_flight" POOL,
        "Requests in flight at the endpoints of the pool, those of other pools at the same endpoints included.";
    POOL_LIMIT: Gauge "" "ravelin_pool_requests_in_flight_max" POOL,
        "Most requests that may be in flight in the pool now, where that is bounded.";
    POOL_BREAKER: Gauge "" "ravelin_pool_breaker_state" &["site", "pool", "state"],
        "1 for the state that the pool's circuit breaker is in, 0 for the others.";
    POOL_BUDGET: Gauge "" "ravelin_pool_retry_budget" POOL,
        "Further attempts that the pool's budget would pay for now.";

    ENDPOINT_ATTEMPTS: Counter "" "ravelin_endpoint_attempts" ENDPOINT,
        "Attempts at an endpoint that have ended: answered, failed, or given up because the client left or another one was answered first.";
    ENDPOINT_RESPONSES: Counter "" "ravelin_endpoint_responses" &["site", "pool", "endpoint", "class"],
        "Responses of an endpoint, those that were not passed on included, by class of status.";
    ENDPOINT_FAILURES: Counter "" "ravelin_endpoint_failures" &["site", "pool", "endpoint", "reason"],
        "Attempts at an endpoint that failed, by how.";
    ENDPOINT_CONNECT: Histogram "seconds" "ravelin_endpoint_connect_duration_seconds" ENDPOINT,
        "Time that opening a connection to an endpoint took.";
    ENDPOINT_REUSED: Counter "" "ravelin_endpoint_connections_reused" ENDPOINT,
        "Requests that used a connection to the endpoint which was there already.";
    ENDPOINT_FIRST_BYTE: Histogram "seconds" "ravelin_endpoint_first_byte_duration_seconds" ENDPOINT,
        "From the end of a request's head to the beginning of the response, by the endpoint that was tried last.";
    ENDPOINT_SENT: Counter "bytes" "ravelin_endpoint_sent_bytes" ENDPOINT,
        "Bytes of request bodies, and of WebSockets, for the endpoint.";
    ENDPOINT_RECEIVED: Counter "bytes" "ravelin_endpoint_received_bytes" ENDPOINT,
        "Bytes of response bodies, and of WebSockets, from the endpoint.";
    ENDPOINT_UP: Gauge "" "ravelin_endpoint_up" ADDRESS,
        "1 if requests may go to the endpoint, 0 if it is down, left out, ejected, drained or without an address.";
    ENDPOINT_STATUS: Gauge "" "ravelin_endpoint_status" &["site", "pool", "endpoint", "address", "status"],
        "1, with what the endpoint is now in the label.";
    ENDPOINT_EJECTED: Gauge "" "ravelin_endpoint_ejected" ADDRESS,
        "1 while the endpoint gets no requests because it stands out from the others.";
    ENDPOINT_WEIGHT: Gauge "" "ravelin_endpoint_weight" ADDRESS,
        "Weight of the endpoint, as configured or as an operator set it.";
    ENDPOINT_IN_FLIGHT: Gauge "" "ravelin_endpoint_requests_in_flight" ADDRESS,
        "Requests in flight to the endpoint.";
    ENDPOINT_CHECKS_FAILED: Counter "" "ravelin_endpoint_health_checks_failed" ADDRESS,
        "Active checks that failed while the endpoint was up.";

    LOG_DROPPED: Counter "" "ravelin_log_dropped_lines" &["log"],
        "Log lines that could not be written.";
    SPANS_EXPORTED: Counter "" "ravelin_tracing_spans_exported" NONE,
        "Spans that the collector took.";
    SPANS_LOST: Counter "" "ravelin_tracing_spans_lost" &["reason"],
        "Spans that were dropped: the queue was full, or the collector did not take them.";
    SCRAPE_HOLD: Gauge "seconds" "ravelin_scrape_longest_hold_seconds" NONE,
        "Longest time that gathering these numbers held up a worker, this time.";

    PROCESS_CPU: Counter "seconds" "process_cpu_seconds" NONE,
        "CPU time of the process, user and system.";
    PROCESS_RESIDENT: Gauge "bytes" "process_resident_memory_bytes" NONE,
        "Resident memory.";
    PROCESS_VIRTUAL: Gauge "bytes" "process_virtual_memory_bytes" NONE,
        "Virtual memory.";
    PROCESS_FDS: Gauge "" "process_open_fds" NONE,
        "Open file descriptors.";
    PROCESS_FDS_MAX: Gauge "" "process_max_fds" NONE,
        "Most file descriptors that may be open.";
    PROCESS_THREADS: Gauge "" "process_threads" NONE,
        "Threads.";
    PROCESS_START: Gauge "seconds" "process_start_time_seconds" NONE,
        "When the process started, in Unix time.";
}

impl Family {
    /// The names that its samples have.
    pub fn sample_names(&self) -> Vec<String> {
        match self.of {
            Type::Counter => vec![format!("{}_total", self.name)],
            Type::Gauge => vec![self.name.to_owned()],
            Type::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .map(|end| format!("{}{end}", self.name))
                .collect(),
        }
    }
}

/// The page of the manual, made from the table.
pub fn manual() -> String {
    let mut page = String::from(include_str!("manual.md"));
    page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for family in ALL {
        let name = match family.of {
            Type::Counter => format!("{}_total", family.name),
            _ => family.name.to_owned(),
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (of, labels, help) = (family.of.as_str(), labels.join(", "), family.help);
        page.push_str(&format!("| `{name}` | {of} | {labels} | {help} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = HashSet::new();
        for family in ALL {
            let name = family.name;
            assert!(seen.insert(name), "{name} twice");
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
            assert!(name.bytes().all(is_plain), "{name}");
            assert!(name.ends_with(family.unit), "{name} does not end with its unit");
            assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name}");
            assert!(family.of != Type::Histogram || family.unit == "seconds", "{name}");
            assert!(family.help.ends_with('.') && !family.help.contains('|'), "{name}");
            assert!(!family.labels.contains(&"le"));
        }
    }

    #[test]
    fn the_manual_says_what_there_is() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("RAVELIN_BLESS").is_some() {
            std::fs::write(page, manual()).unwrap();
        }
        let written = std::fs::read_to_string(page).unwrap();
        assert!(written == manual(), "RAVELIN_BLESS=1 cargo test -p control metrics writes {page}");
    }
}
