//! What the process has counted, and what that says of a time.

use std::collections::HashMap;

use serde_json::Value;

use crate::operate::{items, number, text};

/// What was counted until a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    uptime: f64,
    connections: u64,
    active: u64,
    /// By site and route.
    routes: Rows,
    /// By site, pool and URL.
    endpoints: Rows,
    bounds: Vec<f64>,
}

type Rows = HashMap<Vec<String>, Counts>;

/// What was counted of a route or an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counts {
    requests: u64,
    /// Answered 5xx, or not at all.
    errors: u64,
    /// Answered 4xx.
    refused: u64,
    bytes: u64,
    websockets: u64,
    buckets: Vec<u64>,
}

/// What happened in some time.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    /// How long that was, in seconds.
    pub(super) time: f64,
    /// Since the start of the process.
    pub(super) is_all: bool,
    /// Seconds since the start of the process.
    pub(super) uptime: f64,
    /// Connections now.
    pub(super) connections: u64,
    /// Requests under way now.
    pub(super) active: u64,
    /// All routes together.
    pub(super) all: Row,
    /// Those with most requests first.
    pub(super) sites: Vec<Row>,
    /// Likewise.
    pub(super) routes: Vec<Row>,
    /// Likewise.
    pub(super) endpoints: Vec<Row>,
}

/// What happened at one place in some time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) name: Vec<String>,
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) refused: u64,
    pub(super) bytes: u64,
    /// Open now.
    pub(super) websockets: u64,
    /// Half of the requests, 90 and 99 of a hundred took at most so many seconds; `None`: there were none.
    pub(super) percentiles: Option<[f64; 3]>,
}

impl Sample {
    /// What an answer says.
    pub(super) fn of(value: &Value) -> Self {
        let rows = |list: &str, names: &[&str]| -> Rows {
            let row = |row: &Value| {
                let name = names.iter().map(|name| text(row, name).to_owned()).collect();
                (name, Counts::of(row))
            };
            items(value, list).iter().map(row).collect()
        };
        Self {
            uptime: number(value, "uptime"),
            connections: number(value, "connections") as u64,
            active: number(value, "active") as u64,
            routes: rows("routes", &["site", "route"]),
            endpoints: rows("endpoints", &["site", "pool", "endpoint"]),
            bounds: items(value, "bounds").iter().filter_map(Value::as_f64).collect(),
        }
    }
}

impl Counts {
    fn of(row: &Value) -> Self {
        let class = |index: usize| items(row, "classes").get(index).and_then(Value::as_u64);
        Self {
            requests: number(row, "requests") as u64,
            errors: class(5).unwrap_or(0) + number(row, "failures") as u64,
            refused: class(4).unwrap_or(0),
            bytes: number(row, "response_bytes") as u64,
            websockets: number(row, "websockets") as u64,
            buckets: items(row, "buckets").iter().filter_map(Value::as_u64).collect(),
        }
    }

    /// What came since `before`, or all if something was counted anew.
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.requests <= self.requests) else {
            return self.clone();
        };
        let less = |one: u64, other: u64| one.saturating_sub(other);
        let buckets = self.buckets.iter().enumerate();
        Self {
            requests: less(self.requests, before.requests),
            errors: less(self.errors, before.errors),
            refused: less(self.refused, before.refused),
            bytes: less(self.bytes, before.bytes),
            websockets: self.websockets,
            buckets: buckets
                .map(|(at, count)| less(*count, before.buckets.get(at).copied().unwrap_or(0)))
                .collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.refused += other.refused;
        self.bytes += other.bytes;
        self.websockets += other.websockets;
        let missing = other.buckets.len().saturating_sub(self.buckets.len());
        self.buckets.extend(std::iter::repeat_n(0, missing));
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
    }

    fn row(&self, name: Vec<String>, bounds: &[f64]) -> Row {
        Row {
            name,
            requests: self.requests,
            errors: self.errors,
            refused: self.refused,
            bytes: self.bytes,
            websockets: self.websockets,
            percentiles: percentiles(&self.buckets, bounds),
        }
    }
}

impl Traffic {
    /// All that was counted.
    pub(super) fn since_start(sample: &Sample) -> Self {
        Self { is_all: true, ..Self::between(&Sample::default(), sample) }
    }

    /// What was counted between two moments.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let changes = |now: &Rows, before: &Rows| -> Vec<(Vec<String>, Counts)> {
            let change = |(name, counts): (&Vec<String>, &Counts)| {
                (name.clone(), counts.since(before.get(name)))
            };
            now.iter().map(change).collect()
        };
        // Another process has taken over: it has counted less.
        let before = if before.uptime > now.uptime { &Sample::default() } else { before };
        let routes = changes(&now.routes, &before.routes);
        let endpoints = changes(&now.endpoints, &before.endpoints);
        let (mut all, mut sites) = (Counts::default(), HashMap::<Vec<String>, Counts>::new());
        for (name, counts) in &routes {
            all.add(counts);
            let site = name.first().cloned().unwrap_or_default();
            sites.entry(vec![site]).or_default().add(counts);
        }
        let rows = |counts: Vec<(Vec<String>, Counts)>| -> Vec<Row> {
            let mut rows: Vec<Row> =
                counts.into_iter().map(|(name, counts)| counts.row(name, &now.bounds)).collect();
            rows.sort_by(|one, other| {
                other.requests.cmp(&one.requests).then_with(|| one.name.cmp(&other.name))
            });
            rows
        };
        Self {
            time: (now.uptime - before.uptime).max(0.001),
            is_all: false,
            uptime: now.uptime,
            connections: now.connections,
            active: now.active,
            all: all.row(Vec::new(), &now.bounds),
            sites: rows(sites.into_iter().collect()),
            routes: rows(routes),
            endpoints: rows(endpoints),
        }
    }
}

/// The times that 50, 90 and 99 of a hundred kept within, as if those of a bucket were spread evenly.
fn percentiles(buckets: &[u64], bounds: &[f64]) -> Option<[f64; 3]> {
    let all: u64 = buckets.iter().sum();
    (all > 0).then(|| [0.5, 0.9, 0.99].map(|share| percentile(buckets, bounds, share * all as f64)))
}

fn percentile(buckets: &[u64], bounds: &[f64], wanted: f64) -> f64 {
    let (mut below, mut from) = (0.0, 0.0);
    for (at, count) in buckets.iter().enumerate() {
        // Those of the last bucket took longer than the last bound, and that is all there is to say.
        let Some(&to) = bounds.get(at) else { break };
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            return from + (to - from) * ((wanted - below) / count).clamp(0.0, 1.0);
        }
        (below, from) = (below + count, to);
    }
    from
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(uptime: f64, one: [u64; 3], other: [u64; 3]) -> Sample {
        let row = |route: &str, [ok, errors, slow]: [u64; 3]| {
            json!({
                "site": "main", "route": route, "requests": ok + errors,
                "classes": [0, 0, ok, 0, 0, errors], "response_bytes": ok * 10,
                "websockets": 1, "buckets": [ok + errors - slow, slow, 0], "seconds": 1.0,
            })
        };
        Sample::of(&json!({
            "uptime": uptime, "connections": 3, "active": 2, "bounds": [0.1, 0.2],
            "routes": [row("/a", one), row("/b", other)],
            "endpoints": [{
                "site": "main", "pool": "p", "endpoint": "http://e", "requests": one[0],
                "failures": one[1], "classes": [0, 0, one[0], 0, 0, 0], "buckets": [one[0], 0, 0],
            }],
        }))
    }

    #[test]
    fn numbers_add_up() {
        let before = sample(10.0, [100, 5, 0], [10, 0, 0]);
        let now = sample(12.0, [150, 6, 10], [20, 0, 0]);
        let traffic = Traffic::between(&before, &now);
        assert_eq!((traffic.time, traffic.connections, traffic.active), (2.0, 3, 2));
        assert_eq!((traffic.all.requests, traffic.all.errors, traffic.all.bytes), (61, 1, 600));
        assert_eq!(traffic.all.websockets, 2);
        let names: Vec<&str> = traffic.routes.iter().map(|row| row.name[1].as_str()).collect();
        assert_eq!(names, ["/a", "/b"]);
        assert_eq!(traffic.routes.iter().map(|row| row.requests).sum::<u64>(), 61);
        let [site] = &traffic.sites[..] else { panic!("{:?}", traffic.sites) };
        assert_eq!(*site, Row { name: vec!["main".to_owned()], ..traffic.all.clone() });
        assert_eq!((traffic.endpoints[0].requests, traffic.endpoints[0].errors), (50, 1));
        let all = Traffic::since_start(&now);
        assert_eq!((all.all.requests, all.time, all.is_all), (176, 12.0, true));
        // A process that was started anew has counted less.
        let anew = Traffic::between(&now, &sample(1.0, [7, 0, 0], [0, 0, 0]));
        assert_eq!((anew.all.requests, anew.time), (7, 1.0));
    }

    #[test]
    fn percentiles_are_within_their_buckets() {
        let bounds = [0.1, 0.2, 0.4];
        assert_eq!(percentiles(&[0, 0, 0, 0], &bounds), None);
        let [half, most, nearly_all] = percentiles(&[50, 40, 9, 1], &bounds).unwrap();
        assert!((half - 0.1).abs() < 1e-9 && (most - 0.2).abs() < 1e-9);
        assert!((nearly_all - 0.4).abs() < 1e-9);
        // Longer than the last bound: at least that.
        assert_eq!(percentiles(&[0, 0, 0, 5], &bounds), Some([0.4; 3]));
        assert_eq!(percentiles(&[4, 0, 0, 0], &bounds).unwrap()[0], 0.05);
    }
}
