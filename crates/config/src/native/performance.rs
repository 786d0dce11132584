//! `[performance]`: workers and connections.

use std::time::Duration;

use crate::decode::Table;
use crate::model::Performance;
use crate::schema::{Kind, Section, later, now};

/// More threads than any machine has cores; a larger number is a mistake.
const WORKERS_MAX: i64 = 1024;
/// More connections than one process can have descriptors.
pub(super) const CONNECTIONS_MAX: i64 = 1 << 30;

pub(super) static PERFORMANCE: Section = Section {
    path: "performance",
    list: false,
    about: "Workers and connections.",
    keys: &[
        now(
            "worker_threads",
            Kind::Integer(1, WORKERS_MAX),
            "one a core",
            "Worker threads. Cores are those the process may use (affinity and cgroup quota).",
        ),
        now(
            "max_connections",
            Kind::Integer(1, CONNECTIONS_MAX),
            "as many as descriptors allow",
            "Client connections at once; more wait in the backlog.",
        ),
        now(
            "keep_alive_timeout",
            Kind::Duration(false),
            "60",
            "A client connection idle between two requests is closed after this.",
        ),
        later("request_timeout", Kind::Duration(false), "30", "Time for a whole request."),
        later("read_buffer_size", Kind::Size(1, u64::MAX), "\"32KB\"", "Buffer for reading."),
        later("write_buffer_size", Kind::Size(1, u64::MAX), "\"32KB\"", "Buffer for writing."),
    ],
};

pub(super) fn decode(table: Option<Table<'_>>) -> Performance {
    let mut performance = Performance {
        worker_threads: None,
        max_connections: None,
        keep_alive_timeout: Duration::from_secs(60),
    };
    let Some(table) = table else { return performance };
    let count = |name| table.integer(name).and_then(|count| usize::try_from(count.value).ok());
    performance.worker_threads = count("worker_threads");
    performance.max_connections = count("max_connections");
    if let Some(timeout) = table.duration("keep_alive_timeout") {
        performance.keep_alive_timeout = timeout;
    }
    table.finish();
    performance
}
