//! Endpoints: what they are, how many connections they have, and what an operator says of them.

use std::fmt::Write as _;

use config::model::{HealthCheck, UpstreamAddress, UpstreamState};
use net::timer::unix_millis;
use proxy::balance::{Member, WEIGHT_MAX};
use proxy::health::standing::{CheckKind, Checked};
use proxy::live::Lookup;
use proxy::pool::Pool;
use proxy::snapshot::{Site, Snapshot};

use crate::admin::Running;
use crate::endpoints::{self, EndpointView, Named, NotFound, Status};
use crate::orders::Author;

/// Largest weight that HAProxy takes.
const HAPROXY_WEIGHT_MAX: u32 = 256;

const STATE_HEADING: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state \
    srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result \
    srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port \
    srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n";

/// `show backend`.
pub(super) fn show_backend(running: &Running) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let mut text = "# name\n".to_owned();
    for (site, pool) in endpoints::pools(&snapshot) {
        text.push_str(&endpoints::pool_name(&snapshot, site, pool));
        text.push('\n');
    }
    text
}

/// `show servers state [backend]`.
pub(super) fn show_state(running: &Running, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let Some(pools) = chosen(&snapshot, words) else { return "Can't find backend.\n".to_owned() };
    let mut text = STATE_HEADING.to_owned();
    for view in pools {
        let Some((_, pool)) = endpoints::pools(&snapshot).nth(view.index) else { continue };
        let check = pool.settings.health_checks.first();
        let members = endpoints::members(pool);
        for (endpoint, (_, _, member)) in view.pool.endpoints.iter().zip(&members) {
            state_line(&mut text, &view.pool, endpoint, member, check);
        }
    }
    text
}

/// A pool, and which of all it is.
struct Chosen {
    index: usize,
    pool: endpoints::PoolView,
}

/// The pools that are asked for: all, or one by its name, or by its number as `#4`.
fn chosen(snapshot: &Snapshot, words: &[&str]) -> Option<Vec<Chosen>> {
    let pools = endpoints::pool_views(snapshot).into_iter().enumerate();
    let mut pools = pools.map(|(index, pool)| Chosen { index, pool });
    let Some(name) = words.first() else { return Some(pools.collect()) };
    let number = name.strip_prefix('#').and_then(|number| number.parse::<usize>().ok());
    let qualified = |pool: &endpoints::PoolView| format!("{}/{}", pool.site, pool.pool);
    let found = pools.find(|one| match number {
        Some(number) => one.pool.number == number,
        None => one.pool.name == *name || qualified(&one.pool) == *name,
    });
    found.map(|pool| vec![pool])
}

fn state_line(
    text: &mut String,
    pool: &endpoints::PoolView,
    endpoint: &EndpointView,
    member: &Member,
    check: Option<&HealthCheck>,
) {
    let Place { address, port, name, service } = place(member);
    let health = Health::of(endpoint, check);
    let seconds = unix_millis().saturating_sub(endpoint.since) / 1000;
    // Writing to a String does not fail.
    let _infallible = writeln!(
        text,
        "{} {} {} {} {address} {} {} {} {} {seconds} {} {} {} {} 0 0 0 {name} {port} {service} {} 0 - - 0",
        pool.number,
        pool.name,
        endpoint.number,
        endpoint.name,
        operational(endpoint.status),
        administrative(endpoint),
        endpoint.weight,
        endpoint.configured_weight,
        health.status,
        health.result,
        health.counter,
        health.state,
        u8::from(member.tls.is_some()),
    );
}

/// Where an endpoint is, in HAProxy's columns.
struct Place {
    address: String,
    port: u16,
    name: String,
    service: String,
}

fn place(member: &Member) -> Place {
    let endpoint = &member.endpoint;
    let none = || "-".to_owned();
    let at = endpoint.place();
    let (address, port) = match (&endpoint.address, at) {
        (UpstreamAddress::Unix(path), _) => (format!("unix:{}", path.display()), 0),
        (UpstreamAddress::Tcp { .. }, Some(at)) => (at.ip().to_canonical().to_string(), at.port()),
        (UpstreamAddress::Tcp { port, .. }, None) => (none(), *port),
    };
    let name = endpoint.name_to_resolve().map(|(name, _)| name.to_owned());
    let (name, service) = match endpoint.lookup {
        Lookup::Addresses => (name, None),
        Lookup::Services => (endpoint.host().map(str::to_owned), name),
    };
    Place { address, port, name: name.unwrap_or_else(none), service: service.unwrap_or_else(none) }
}

/// 0: it takes no requests; 2: it does.
fn operational(status: Status) -> u8 {
    match status {
        Status::Up | Status::Drain => 2,
        Status::Maintenance
        | Status::Down
        | Status::Failing
        | Status::Ejected
        | Status::Unresolved => 0,
    }
}

/// 1: off by order; 4: off by configuration; 8: drained; 32: its name has no address.
fn administrative(endpoint: &EndpointView) -> u8 {
    let wanted = endpoint.steered.unwrap_or(endpoint.configured);
    let mut flags = match wanted {
        UpstreamState::Up => 0,
        UpstreamState::Drain => 8,
        UpstreamState::Down => 1,
    };
    if endpoint.configured == UpstreamState::Down {
        flags |= 4;
    }
    if endpoint.status == Status::Unresolved {
        flags |= 32;
    }
    flags
}

/// What checks say, in HAProxy's numbers.
pub(super) struct Health {
    pub(super) status: u8,
    result: u8,
    /// From 0 to `rise + fall - 1`; it is up from `rise` on.
    pub(super) counter: u32,
    state: u8,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

impl Health {
    pub(super) fn of(endpoint: &EndpointView, check: Option<&HealthCheck>) -> Self {
        let is_paused = endpoint.status == Status::Maintenance;
        let paused = if is_paused { 8 } else { 0 };
        let Some(check) = check else {
            let counter = if is_paused { 0 } else { 2 };
            return Self { status: 1, result: 0, counter, state: paused, rise: 2, fall: 3 };
        };
        let (rise, fall) = (check.rise.max(1), check.fall.max(1));
        let against = endpoint.check.as_ref().map_or(0, |check| check.against);
        let counter = match endpoint.status {
            Status::Maintenance => 0,
            Status::Down | Status::Unresolved => against.min(rise - 1),
            Status::Up | Status::Drain | Status::Failing | Status::Ejected => {
                (rise + fall - 1).saturating_sub(against).max(rise)
            }
        };
        let found = endpoint.check.as_ref().map(|check| Found::of(check));
        let status = found.as_ref().map_or(1, |found| found.number);
        let result = match endpoint.check.as_ref().map(|check| check.failure.is_some()) {
            None => 0,
            Some(true) => 2,
            Some(false) => 3,
        };
        Self { status, result, counter, state: 6 | paused, rise, fall }
    }
}

/// What a check found, in HAProxy's words.
pub(super) struct Found {
    number: u8,
    /// `L7OK`.
    pub(super) code: &'static str,
    /// `Layer7 check passed`.
    pub(super) about: &'static str,
    /// The status that came, if it was the wrong one.
    pub(super) status: Option<u16>,
}

impl Found {
    pub(super) fn of(check: &Checked) -> Self {
        let status = |failure: &str| {
            let rest = failure.strip_prefix("status ")?;
            rest.get(..3)?.parse::<u16>().ok()
        };
        let code = check.failure.as_deref().and_then(status);
        let (number, word, about) = match (&check.failure, check.kind) {
            (None, CheckKind::Tcp) => (6, "L4OK", "Layer4 check passed"),
            (None, CheckKind::Tls) => (9, "L6OK", "Layer6 check passed"),
            (None, _) => (15, "L7OK", "Layer7 check passed"),
            (Some(why), kind) => match Trouble::of(why, kind) {
                Trouble::NoConnection => (8, "L4CON", "Layer4 connection problem"),
                Trouble::ConnectTime => (7, "L4TOUT", "Layer4 timeout"),
                Trouble::NoTls => (11, "L6RSP", "Layer6 invalid response"),
                Trouble::TlsTime => (10, "L6TOUT", "Layer6 timeout"),
                Trouble::AnswerTime => (12, "L7TOUT", "Layer7 timeout"),
                Trouble::Answer if code.is_some() => (17, "L7STS", "Layer7 wrong status"),
                Trouble::Answer => (13, "L7RSP", "Layer7 invalid response"),
            },
        };
        Self { number, code: word, about, status: code }
    }
}

/// In which layer a check failed.
enum Trouble {
    NoConnection,
    ConnectTime,
    NoTls,
    TlsTime,
    AnswerTime,
    Answer,
}

impl Trouble {
    /// By the words that checks have for it.
    fn of(why: &str, kind: CheckKind) -> Self {
        let late = why.starts_with("not done within");
        let unconnected = [
            "connection refused",
            "no route to host",
            "network is unreachable",
            "host is unreachable",
            "the host name does not resolve",
            "no such file or directory",
            "connection timed out",
        ];
        match kind {
            _ if late && why.ends_with("connecting") => Self::ConnectTime,
            _ if late && why.ends_with("TLS handshake") => Self::TlsTime,
            _ if late => Self::AnswerTime,
            _ if unconnected.contains(&why) => Self::NoConnection,
            CheckKind::Tcp => Self::NoConnection,
            _ if why.starts_with("TLS:") => Self::NoTls,
            CheckKind::Tls => Self::NoTls,
            CheckKind::Http | CheckKind::Grpc | CheckKind::WebSocket => Self::Answer,
        }
    }
}

/// `show servers conn [backend]`.
pub(super) async fn show_connections(running: &Running, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let Some(pools) = chosen(&snapshot, words) else { return "Can't find backend.\n".to_owned() };
    let idle = running.workers.ask(|worker| worker.idle.borrow().counts()).await;
    let mut text = format!(
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb \
         safe_nb idle_lim idle_cur idle_per_thr[{}]\n",
        idle.len()
    );
    for view in pools {
        let Some((_, pool)) = endpoints::pools(&snapshot).nth(view.index) else { continue };
        let limit = pool.settings.idle.max;
        let milliseconds = pool.settings.idle.timeout.as_millis();
        let members = endpoints::members(pool);
        for (endpoint, (_, _, member)) in view.pool.endpoints.iter().zip(&members) {
            let of_worker =
                |counts: &Vec<usize>| counts.get(member.endpoint.id).copied().unwrap_or(0);
            let per_worker: Vec<usize> = idle.iter().map(of_worker).collect();
            let all: usize = per_worker.iter().sum();
            let Place { address, port, .. } = place(member);
            let (used, needed) = (endpoint.in_flight, endpoint.in_flight);
            let _infallible = write!(
                text,
                "{}/{} {}/{} {address} {port} - {milliseconds} {used} {used} {needed} 0 {all} {limit} {all}",
                view.pool.name, endpoint.name, view.pool.number, endpoint.number
            );
            per_worker.iter().for_each(|count| text.push_str(&format!(" {count}")));
            text.push('\n');
        }
    }
    text
}

/// `get weight backend/server`.
pub(super) fn get_weight(running: &Running, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    match named(&snapshot, words) {
        Err(said) => said,
        Ok(named) => match named.members.first() {
            Some(member) => format!("{} (initial {})\n", member.own_weight(), member.weight),
            None => "No such server.\n".to_owned(),
        },
    }
}

/// `set server backend/server …`.
pub(super) fn set_server(running: &Running, author: &Author, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let named = match named(&snapshot, words) {
        Ok(named) => named,
        Err(said) => return said,
    };
    match words.get(1..).unwrap_or_default() {
        ["state", "ready", ..] => steer(running, author, &named, UpstreamState::Up),
        ["state", "drain", ..] => steer(running, author, &named, UpstreamState::Drain),
        ["state", "maint", ..] => steer(running, author, &named, UpstreamState::Down),
        ["state", ..] => {
            "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n".to_owned()
        }
        ["weight", weight, ..] => weigh(running, author, &named, weight),
        ["weight"] => "Require <weight> or <weight%>.\n".to_owned(),
        _ => "usage: set server <backend>/<server> state | weight\n".to_owned(),
    }
}

/// `set weight backend/server weight`.
pub(super) fn set_weight(running: &Running, author: &Author, words: &[&str]) -> String {
    let snapshot = running.snapshot.borrow().clone();
    match (named(&snapshot, words), words.get(1)) {
        (Err(said), _) => said,
        (Ok(_), None) => "Require <weight> or <weight%>.\n".to_owned(),
        (Ok(named), Some(weight)) => weigh(running, author, &named, weight),
    }
}

/// `enable server` and `disable server`.
pub(super) fn switch(running: &Running, author: &Author, words: &[&str], on: bool) -> String {
    let snapshot = running.snapshot.borrow().clone();
    let wanted = if on { UpstreamState::Up } else { UpstreamState::Down };
    match named(&snapshot, words) {
        Ok(named) => steer(running, author, &named, wanted),
        Err(said) => said,
    }
}

/// The endpoint that the first word names, or what is said where it names none.
fn named<'a>(snapshot: &'a Snapshot, words: &[&str]) -> Result<Named<'a>, String> {
    let path = words.first().copied().unwrap_or_default();
    if !path.contains('/') {
        return Err("Require 'backend/server'.\n".to_owned());
    }
    let path = path_of_numbers(snapshot, path).unwrap_or_else(|| path.to_owned());
    endpoints::find_path(snapshot, &path).map_err(|failure| match failure {
        NotFound::Pool => "No such backend.\n".to_owned(),
        NotFound::Endpoint => "No such server.\n".to_owned(),
    })
}

/// What `#4/#1`, or one of the two, stands for.
fn path_of_numbers(snapshot: &Snapshot, path: &str) -> Option<String> {
    let (pool, server) = path.split_once('/')?;
    let number = |text: &str| text.strip_prefix('#')?.parse::<usize>().ok();
    let of_pool: (&Site, &Pool) = match number(pool) {
        Some(number) => {
            endpoints::pools(snapshot).nth(number.checked_sub(snapshot.sites.len() + 1)?)?
        }
        None => endpoints::find_pool(snapshot, pool)?,
    };
    let server = match number(server) {
        Some(number) => {
            endpoints::members(of_pool.1).into_iter().find(|(one, ..)| *one == number)?.1
        }
        None => server.to_owned(),
    };
    Some(format!("{}/{server}", endpoints::pool_name(snapshot, of_pool.0, of_pool.1)))
}

fn steer(running: &Running, author: &Author, named: &Named<'_>, wanted: UpstreamState) -> String {
    named.steer(&running.log, author, Some(wanted));
    String::new()
}

fn weigh(running: &Running, author: &Author, named: &Named<'_>, text: &str) -> String {
    let Some(member) = named.members.first() else { return "No such server.\n".to_owned() };
    match weight(text, member.weight) {
        Ok(weight) => {
            named.set_weight(&running.log, author, Some(weight));
            String::new()
        }
        Err(said) => said.to_owned(),
    }
}

/// A weight, or per cent of the `initial` one.
fn weight(text: &str, initial: u32) -> Result<u32, &'static str> {
    let most = initial.clamp(HAPROXY_WEIGHT_MAX, WEIGHT_MAX);
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = unsigned.find(|one: char| !one.is_ascii_digit()).unwrap_or(unsigned.len());
    let (number, rest) = unsigned.split_at_checked(digits).unwrap_or_default();
    if number.is_empty() {
        return Err("Empty weight string empty or preceded by garbage");
    }
    let number = number.parse::<u64>().unwrap_or(u64::MAX);
    let is_negative = text.starts_with('-') && number > 0;
    match rest {
        "%" if is_negative => Err("Relative weight must be positive.\n"),
        "%" => {
            // More than a hundredfold of the largest makes no difference.
            let share = number.min(25_600) * u64::from(initial) / 100;
            Ok(u32::try_from(share).unwrap_or(u32::MAX).min(most))
        }
        _ if is_negative || number > u64::from(most) => {
            Err("Absolute weight can only be between 0 and 256 inclusive.\n")
        }
        "" => Ok(u32::try_from(number).unwrap_or(most)),
        _ => Err("Trailing garbage in weight string"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_haproxy_reads_them() {
        let garbage = Err("Trailing garbage in weight string");
        let empty = Err("Empty weight string empty or preceded by garbage");
        let absolute = Err("Absolute weight can only be between 0 and 256 inclusive.\n");
        for (text, initial, expected) in [
            ("0", 10, Ok(0)),
            ("256", 10, Ok(256)),
            ("257", 10, absolute),
            ("1000", 1000, Ok(1000)),
            ("-1", 10, absolute),
            ("50%", 10, Ok(5)),
            ("50%", 1, Ok(0)),
            ("0%", 10, Ok(0)),
            ("101%", 100, Ok(101)),
            ("99999%", 10, Ok(256)),
            ("-5%", 10, Err("Relative weight must be positive.\n")),
            ("abc", 10, empty),
            ("%", 10, empty),
            ("", 10, empty),
            ("10x", 10, garbage),
            ("10%%", 10, garbage),
            ("99999999999999999999", 10, absolute),
        ] {
            assert_eq!(weight(text, initial), expected, "{text} of {initial}");
        }
    }

    #[test]
    fn what_a_check_found_has_haproxys_word() {
        let check = |kind, failure: Option<&str>| Checked {
            at: 0,
            micros: 0,
            kind,
            failure: failure.map(str::to_owned),
            against: 0,
            needed: 1,
        };
        for (kind, failure, code, status) in [
            (CheckKind::Tcp, None, "L4OK", None),
            (CheckKind::Tls, None, "L6OK", None),
            (CheckKind::Http, None, "L7OK", None),
            (CheckKind::Tcp, Some("connection refused"), "L4CON", None),
            (CheckKind::Http, Some("connection refused"), "L4CON", None),
            (CheckKind::Http, Some("status 503 (expected 200-399)"), "L7STS", Some(503)),
            (CheckKind::Http, Some("not done within 5s, connecting"), "L4TOUT", None),
            (CheckKind::Http, Some("not done within 5s, in the TLS handshake"), "L6TOUT", None),
            (CheckKind::Http, Some("not done within 5s, waiting for the response"), "L7TOUT", None),
            (CheckKind::Http, Some("TLS: the certificate has expired"), "L6RSP", None),
            (CheckKind::Http, Some("the body does not match"), "L7RSP", None),
        ] {
            let found = Found::of(&check(kind, failure));
            assert_eq!((found.code, found.status), (code, status), "{failure:?}");
        }
    }
}
