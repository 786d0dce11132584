//! `show stat`: what was counted of sites, pools and endpoints, in HAProxy's columns. Also the CSV and
//! JSON of the stats page.
//!
//! What Ravelin does not count is empty, as what does not apply is with HAProxy.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use config::model::{Balance, HashKey};
use net::timer::unix_millis;
use proxy::metrics::{Histogram, MemberCounts, RouteCounts, Why};
use proxy::snapshot::Snapshot;
use serde_json::{Value as Json, json};

use super::columns::COLUMNS;
use super::servers::{Found, Health};
use crate::admin::Running;
use crate::endpoints::{self, EndpointView, PoolView, Status};
use crate::metrics::gather::{Gathered, gather};

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// A site.
    Frontend,
    /// A pool.
    Backend,
    /// An endpoint.
    Server,
}

/// One row, by column.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) of: Of,
    /// Number of the site or pool.
    pub(crate) proxy: usize,
    /// Number of the endpoint in its pool, else 0.
    pub(crate) server: usize,
    /// What it is, for those who leave rows out.
    status: Option<Status>,
    values: Vec<Value>,
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    /// It does not apply.
    Empty,
    Text(String),
    /// Below 2^32, as far as the column knows.
    Number(u64),
    /// A count that grows.
    Count(u64),
}

/// Which rows are wanted.
#[derive(Debug, Default)]
struct Wanted {
    up: bool,
    no_maintenance: bool,
    proxy: Option<usize>,
    /// 1: sites; 2: pools; 4: endpoints.
    kinds: Option<u32>,
    server: Option<usize>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line each, values with commas between.
    Csv,
    /// A line for each value, with its type.
    Typed,
    /// One JSON text.
    Json,
}

/// `show stat [{<proxy>} <type> <server>] [json|no-maint|typed|up]*`.
pub(super) async fn show(running: &Running, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let mut wanted = Wanted::default();
    let mut words = words;
    if let [proxy, kinds, server, rest @ ..] = words
        && let (Ok(kinds), Ok(server)) = (kinds.parse::<i64>(), server.parse::<i64>())
    {
        match proxy_of(&snapshot, proxy) {
            Some(proxy) => wanted.proxy = proxy,
            None => return "No such proxy.\n".to_owned(),
        }
        wanted.kinds = u32::try_from(kinds).ok();
        wanted.server = usize::try_from(server).ok();
        words = rest;
    }
    let mut form = Form::Csv;
    for word in words {
        match *word {
            "typed" => form = Form::Typed,
            "json" => form = Form::Json,
            "up" => wanted.up = true,
            "no-maint" => wanted.no_maintenance = true,
            _ => {}
        }
    }
    let mut rows = rows(running, &snapshot).await;
    rows.retain(|row| wanted.has(row));
    write(&rows, form)
}

/// The rows of everything there is, as this form writes them.
pub(crate) async fn all(running: &Running, form: Form) -> String {
    let snapshot = running.snapshot.borrow().clone();
    write(&rows(running, &snapshot).await, form)
}

/// A number of a site or pool; `-1` means all, which is `Some(None)`.
fn proxy_of(snapshot: &Snapshot, text: &str) -> Option<Option<usize>> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(usize::try_from(number).ok());
    }
    let pools = endpoints::pool_views(snapshot);
    if let Some(pool) = pools.iter().find(|pool| pool.name == text) {
        return Some(Some(pool.number));
    }
    let site = snapshot.sites.iter().position(|site| site.name == text)?;
    Some(Some(site + 1))
}

impl Wanted {
    fn has(&self, row: &Row) -> bool {
        let bit = match row.of {
            Of::Frontend => 1,
            Of::Backend => 2,
            Of::Server => 4,
        };
        let is_up = |status| !matches!(status, Status::Down | Status::Unresolved);
        let up = !self.up
            || row.status.is_none_or(|status| status != Status::Maintenance && is_up(status));
        let kept = !self.no_maintenance || row.status != Some(Status::Maintenance);
        up && kept
            && self.proxy.is_none_or(|proxy| proxy == row.proxy)
            && self.kinds.is_none_or(|kinds| kinds & bit != 0)
            && self.server.is_none_or(|server| row.of != Of::Server || server == row.server)
    }
}

/// All rows: the sites, then each pool's endpoints and the pool.
pub(crate) async fn rows(running: &Running, snapshot: &Arc<Snapshot>) -> Vec<Row> {
    let gathered = gather(&running.workers, &running.live).await;
    let mut rows = Vec::new();
    for (index, site) in snapshot.sites.iter().enumerate() {
        rows.push(frontend(index + 1, &site.name, &gathered));
    }
    let views = endpoints::pool_views(snapshot);
    let members: Members<'_> = gathered.members.iter().collect();
    for (view, (_, pool)) in views.iter().zip(endpoints::pools(snapshot)) {
        let check = pool.settings.health_checks.first();
        for endpoint in &view.endpoints {
            let counts = of_endpoint(&members, view, &endpoint.url);
            let health = Health::of(endpoint, check);
            rows.push(server(view, endpoint, counts, &health));
        }
        rows.push(backend(view, &pool.settings.balance, &gathered, &members));
    }
    rows
}

/// What was counted of entries of pools, by site, pool and URL.
type Members<'a> = HashMap<&'a [String], &'a MemberCounts>;

fn of_endpoint<'a>(members: &Members<'a>, pool: &PoolView, url: &str) -> Option<&'a MemberCounts> {
    let labels = [pool.site.clone(), pool.pool.clone(), url.to_owned()];
    members.get(labels.as_slice()).copied()
}

impl Row {
    fn new(of: Of, proxy: usize, server: usize, status: Option<Status>) -> Self {
        Self { of, proxy, server, status, values: vec![Value::Empty; COLUMNS.len()] }
    }

    fn set(&mut self, column: &str, value: Value) {
        let index = COLUMNS.iter().position(|(name, _)| *name == column);
        debug_assert!(index.is_some(), "{column}");
        if let Some(place) = index.and_then(|index| self.values.get_mut(index)) {
            *place = value;
        }
    }

    fn text(&mut self, column: &str, text: impl Into<String>) {
        self.set(column, Value::Text(text.into()));
    }

    fn number(&mut self, column: &str, number: impl TryInto<u64>) {
        self.set(column, Value::Number(number.try_into().unwrap_or(u64::MAX)));
    }

    fn count(&mut self, column: &str, count: u64) {
        self.set(column, Value::Count(count));
    }

    /// What all rows have: names, numbers and the columns that are always the same.
    fn head(&mut self, proxy: &str, server: &str, kind: u64) {
        self.text("pxname", proxy);
        self.text("svname", server);
        self.number("pid", 1u64);
        self.number("iid", self.proxy);
        self.number("sid", self.server);
        self.number("type", kind);
        self.text("mode", "http");
        self.text("-", "-");
    }

    /// Responses by class: `none`, 1xx to 5xx.
    fn classes(&mut self, classes: &[u64; 6]) {
        let columns = ["hrsp_other", "hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"];
        for (column, count) in columns.into_iter().zip(classes) {
            self.count(column, *count);
        }
    }

    /// A mean in milliseconds.
    fn mean(&mut self, column: &str, histogram: &Histogram) {
        let micros = histogram.sum_micros().checked_div(histogram.count()).unwrap_or(0);
        self.number(column, micros / 1000);
    }

    /// The value of a column as the CSV has it.
    pub(crate) fn get(&self, column: &str) -> String {
        let index = COLUMNS.iter().position(|(name, _)| *name == column);
        index.and_then(|index| self.values.get(index)).map(Value::plain).unwrap_or_default()
    }
}

fn frontend(number: usize, site: &str, gathered: &Gathered) -> Row {
    let mut row = Row::new(Of::Frontend, number, 0, None);
    row.head(site, "FRONTEND", 0);
    row.text("status", "OPEN");
    let mut all = RouteCounts::default();
    let of_site =
        gathered.routes.iter().filter(|(labels, _)| labels.first().is_some_and(|it| it == site));
    for (_, counts) in of_site {
        proxy::metrics::Counts::add(&mut all, counts);
    }
    let requests: u64 = all.classes.iter().sum();
    row.count("stot", requests);
    row.count("req_tot", requests);
    row.count("bin", all.request_bytes + all.socket_bytes_in);
    row.count("bout", all.response_bytes + all.socket_bytes_out);
    row.classes(&all.classes);
    row
}

fn failed(counts: &MemberCounts, why: &[Why]) -> u64 {
    why.iter().filter_map(|why| counts.failures.get(*why as usize)).sum()
}

/// Failures that are responses that did not come, or no good ones.
const NO_RESPONSE: [Why; 4] = [Why::Refused, Why::Timeout, Why::Reset, Why::Invalid];

fn server(
    pool: &PoolView,
    endpoint: &EndpointView,
    counts: Option<&MemberCounts>,
    health: &Health,
) -> Row {
    let mut row = Row::new(Of::Server, pool.number, endpoint.number, Some(endpoint.status));
    row.head(&pool.name, &endpoint.name, 2);
    row.number("qcur", 0u64);
    row.number("scur", endpoint.in_flight);
    if let Some(max) = endpoint.max_conns {
        row.number("slim", max);
    }
    row.text("status", status(endpoint, health));
    row.number("weight", endpoint.weight);
    row.number("uweight", endpoint.weight);
    row.number("act", u64::from(endpoint.priority == 0));
    row.number("bck", u64::from(endpoint.priority > 0));
    let now = unix_millis();
    row.number("lastchg", now.saturating_sub(endpoint.since) / 1000);
    if endpoint.has_checks {
        row.count("chkfail", endpoint.failed_checks);
        row.count("chkdown", u64::from(endpoint.downs));
        let down =
            if endpoint.status == Status::Down { now.saturating_sub(endpoint.since) } else { 0 };
        row.number("downtime", endpoint.down_for.as_secs() + down / 1000);
        row.number("check_rise", health.rise);
        row.number("check_fall", health.fall);
        row.number("check_health", health.counter);
    }
    if let Some(check) = endpoint.check.as_ref().filter(|_| endpoint.status != Status::Maintenance)
    {
        let found = Found::of(check);
        row.text("check_status", found.code);
        if let Some(status) = found.status {
            row.number("check_code", status);
        }
        row.count("check_duration", check.micros / 1000);
        row.text("check_desc", found.about);
        row.text("last_chk", check.failure.as_deref().unwrap_or_default());
    }
    row.text("addr", endpoint.address.as_deref().unwrap_or("-"));
    row.number("used_conn_cur", endpoint.in_flight);
    let none = MemberCounts::default();
    counted(&mut row, counts.unwrap_or(&none));
    row
}

/// What HAProxy says an endpoint is.
fn status(endpoint: &EndpointView, health: &Health) -> String {
    let against = endpoint.check.as_ref().map_or(0, |check| check.against);
    match endpoint.status {
        Status::Maintenance => "MAINT".to_owned(),
        Status::Unresolved => "MAINT (resolution)".to_owned(),
        Status::Drain => "DRAIN".to_owned(),
        Status::Down if against > 0 => format!("DOWN {}/{}", health.counter, health.rise),
        Status::Down | Status::Failing | Status::Ejected => "DOWN".to_owned(),
        Status::Up if !endpoint.has_checks => "no check".to_owned(),
        Status::Up if against > 0 => {
            format!("UP {}/{}", health.counter.saturating_sub(health.rise) + 1, health.fall)
        }
        Status::Up => "UP".to_owned(),
    }
}

/// Counters of an endpoint.
fn counted(row: &mut Row, counts: &MemberCounts) {
    let unconnected = failed(counts, &[Why::Connect]);
    row.count("stot", counts.attempts);
    row.count("lbtot", counts.attempts);
    row.count("req_tot", counts.attempts.saturating_sub(unconnected));
    row.count("bin", counts.request_bytes);
    row.count("bout", counts.response_bytes);
    row.count("econ", unconnected);
    row.count("eresp", failed(counts, &NO_RESPONSE));
    row.count("connect", counts.connect.count());
    row.count("reuse", counts.reused);
    row.classes(&counts.classes);
    row.mean("ctime", &counts.connect);
    row.mean("rtime", &counts.first_byte);
}

fn backend(pool: &PoolView, balance: &Balance, gathered: &Gathered, members: &Members<'_>) -> Row {
    let mut row = Row::new(Of::Backend, pool.number, 0, None);
    row.head(&pool.name, "BACKEND", 1);
    let is_usable = |endpoint: &&EndpointView| endpoint.status == Status::Up;
    let usable: Vec<&EndpointView> = pool.endpoints.iter().filter(is_usable).collect();
    let of_tier = |backup: bool| usable.iter().filter(move |one| (one.priority > 0) == backup);
    row.text("status", if usable.is_empty() { "DOWN" } else { "UP" });
    let backups_only = of_tier(false).count() == 0;
    let weight: u64 = of_tier(backups_only).map(|one| u64::from(one.weight)).sum();
    row.number("weight", weight);
    row.number("uweight", weight);
    row.number("act", of_tier(false).count());
    row.number("bck", of_tier(true).count());
    row.number("qcur", pool.waiting);
    row.number("scur", pool.in_flight);
    if let Some(max) = pool.max_in_flight {
        row.number("slim", max);
    }
    let latest = pool.endpoints.iter().map(|endpoint| endpoint.since).max();
    row.number("lastchg", unix_millis().saturating_sub(latest.unwrap_or_default()) / 1000);
    let downs = pool.endpoints.iter().map(|endpoint| u64::from(endpoint.downs)).sum();
    row.count("chkdown", downs);
    row.text("algo", algorithm(balance));
    let mut all = MemberCounts::default();
    let mut urls: Vec<&str> = pool.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
    urls.sort_unstable();
    urls.dedup();
    for url in urls {
        if let Some(counts) = of_endpoint(members, pool, url) {
            proxy::metrics::Counts::add(&mut all, counts);
        }
    }
    counted(&mut row, &all);
    if let Some(counts) = gathered.pools.get(&[&pool.site, &pool.pool]) {
        row.count("stot", counts.requests);
        row.count("req_tot", counts.requests);
        // What was said to clients when no endpoint answered is in it, as with HAProxy.
        row.classes(&counts.classes);
        row.count("wretr", counts.retries.iter().sum());
        row.count("dreq", counts.circuit_open);
        row.mean("qtime", &counts.queue);
    }
    row
}

fn algorithm(balance: &Balance) -> &'static str {
    match balance {
        Balance::RoundRobin | Balance::Weighted => "roundrobin",
        Balance::LeastConnections => "leastconn",
        Balance::Random | Balance::WeightedRandom => "random",
        Balance::PeakEwma => "least_time",
        Balance::Hash { key: HashKey::ClientNetwork | HashKey::ClientAddress, .. } => "source",
        Balance::Hash { key: HashKey::Uri, .. } => "uri",
        Balance::Hash { key: HashKey::Header(_), .. } => "hdr",
        Balance::Hash { .. } => "hash",
    }
}

impl Value {
    fn plain(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => text.clone(),
            Self::Number(number) | Self::Count(number) => number.to_string(),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Empty | Self::Text(_) => "str",
            Self::Number(_) => "u32",
            Self::Count(_) => "u64",
        }
    }
}

pub(crate) fn write(rows: &[Row], form: Form) -> String {
    match form {
        Form::Csv => csv(rows),
        Form::Typed => typed(rows),
        Form::Json => format!("{}\n", as_json(rows)),
    }
}

fn csv(rows: &[Row]) -> String {
    let names = COLUMNS.iter().map(|(name, _)| format!("{name},"));
    let mut text = "# ".to_owned();
    text.extend(names);
    text.push('\n');
    for row in rows {
        for value in &row.values {
            text.push_str(&quoted(&value.plain()));
            text.push(',');
        }
        text.push('\n');
    }
    text
}

/// As CSV has values with commas or quotes in them (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// The values that apply, each with its column.
fn applying(row: &Row) -> impl Iterator<Item = (usize, &'static str, &'static str, &Value)> {
    let columns = COLUMNS.iter().zip(&row.values).enumerate();
    columns
        .map(|(index, ((name, tags), value))| (index, *name, *tags, value))
        .filter(|(_, name, _, value)| **value != Value::Empty && *name != "-")
}

fn typed(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let letter = match row.of {
            Of::Frontend => 'F',
            Of::Backend => 'B',
            Of::Server => 'S',
        };
        for (index, name, tags, value) in applying(row) {
            let (proxy, server) = (row.proxy, row.server);
            let (kind, plain) = (value.kind(), value.plain());
            // Writing to a String does not fail.
            let _infallible =
                writeln!(text, "{letter}.{proxy}.{server}.{index}.{name}.1:{tags}:{kind}:{plain}");
        }
    }
    text
}

fn as_json(rows: &[Row]) -> Json {
    let row = |row: &Row| -> Json {
        let kind = match row.of {
            Of::Frontend => "Frontend",
            Of::Backend => "Backend",
            Of::Server => "Server",
        };
        let value = |(index, name, tags, value): (usize, &str, &str, &Value)| {
            json!({
                "objType": kind,
                "proxyId": row.proxy,
                "id": row.server,
                "field": { "pos": index, "name": name },
                "processNum": 1,
                "tags": tags_in_words(tags),
                "value": { "type": value.kind(), "value": json_value(value) },
            })
        };
        applying(row).map(value).collect()
    };
    rows.iter().map(row).collect()
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Empty => Json::Null,
        Value::Text(text) => text.clone().into(),
        Value::Number(number) | Value::Count(number) => (*number).into(),
    }
}

/// `MGP`: a metric, a gauge, of the process.
pub(super) fn tags_in_words(tags: &str) -> Json {
    let mut letters = tags.chars();
    let origin = match letters.next() {
        Some('K') => "Key",
        Some('S') => "Status",
        Some('C') => "Config",
        Some('P') => "Product",
        _ => "Metric",
    };
    let nature = match letters.next() {
        Some('A') => "Age",
        Some('a') => "Avg",
        Some('C') => "Counter",
        Some('D') => "Duration",
        Some('G') => "Gauge",
        Some('L') => "Limit",
        Some('M') => "Max",
        Some('N') => "Name",
        Some('O') => "Output",
        Some('R') => "Rate",
        Some('m') => "Min",
        _ => "Output",
    };
    let scope = match letters.next() {
        Some('C') => "Cluster",
        Some('S') => "Service",
        _ => "Process",
    };
    json!({ "origin": origin, "nature": nature, "scope": scope })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_begin_as_haproxys_do() {
        let header = csv(&[]);
        assert!(header.starts_with("# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,"));
        assert!(header.contains(",agg_check_status,-,ssl_sess,"));
        assert!(header.ends_with(",h1_spliced_bytes_out,\n"));
    }

    #[test]
    fn values_stand_in_their_columns() {
        let mut row = Row::new(Of::Server, 4, 1, None);
        row.head("api", "10.0.0.1:80", 2);
        row.text("last_chk", "a \"b\", c");
        row.count("hrsp_2xx", 7);
        let text = csv(std::slice::from_ref(&row));
        let (header, line) = text.split_once('\n').unwrap();
        assert!(line.starts_with("api,10.0.0.1:80,,,,,,"));
        assert!(line.contains(",\"a \"\"b\"\", c\","));
        let at = header[2..].split(',').position(|name| name == "hrsp_2xx").unwrap();
        assert_eq!(line.split(',').nth(at), Some("7"));
        let text = typed(std::slice::from_ref(&row));
        assert!(
            text.starts_with(
                "S.4.1.0.pxname.1:KNS:str:api\nS.4.1.1.svname.1:KNS:str:10.0.0.1:80\n"
            )
        );
        assert!(text.contains("\nS.4.1.40.hrsp_2xx.1:MCP:u64:7\n"));
        let json = as_json(&[row]);
        assert_eq!(json[0][0]["field"]["name"], "pxname");
        assert_eq!(json[0][0]["tags"]["nature"], "Name");
    }
}
