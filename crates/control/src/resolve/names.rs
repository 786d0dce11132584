//! Whom a name is asked of, and what comes back.
//!
//! In this order, as most systems have it: `/etc/hosts`; the name servers of `/etc/resolv.conf` with
//! its search domains, or those of the configuration; and last the system itself (`getaddrinfo`), for
//! names that only it knows (mDNS, containers, modules of `nsswitch.conf`), or if `/etc/resolv.conf`
//! cannot be used. The system says nothing of an answer's time to live. Where the configuration names
//! the servers, nobody else is asked.
//!
//! Both files are read again when they have changed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver};
use proxy::log::ErrorLog;
use proxy::snapshot::SLOTS;
use tokio::task::JoinSet;
use tokio::time::timeout;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// How long a name server of the configuration may take, and how often it is asked.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const SERVER_ATTEMPTS: usize = 2;

/// How long to wait for IPv6 addresses where there are others already: some name servers never answer
/// that question.
const V6_MAX: Duration = Duration::from_secs(1);

/// Targets of SRV records that are looked at, those with the lowest priorities and highest weights.
/// There are as many slots.
const TARGETS_MAX: usize = SLOTS;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// The addresses of a host.
    Addresses(String),
    /// SRV records, and the addresses of their targets.
    Services(String),
}

/// What comes back.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// The addresses of a host.
    Addresses(Found),
    /// The targets of SRV records, and for how long these are good. No targets: the service is
    /// decidedly not offered (RFC 2782, a target of ".").
    Services(Vec<Service>, Duration),
}

/// The addresses of a host.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// `None`: nothing was said of it.
    pub(super) ttl: Option<Duration>,
    /// There was no answer about IPv6 addresses.
    pub(super) lacks_v6: bool,
}

/// A target of SRV records.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) found: Result<Found, Failure>,
}

/// Why there is no answer, in words.
#[derive(Debug, Clone)]
pub(super) struct Failure(String);

impl Question {
    /// The name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Addresses(name) | Self::Services(name) => name,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(name) => write!(f, "upstream host \"{name}\""),
            Self::Services(name) => write!(f, "upstream service \"{name}\" (SRV)"),
        }
    }
}

impl Found {
    /// What is not sure about it.
    pub(super) fn doubt(&self) -> Option<String> {
        self.lacks_v6.then(|| "no answer about IPv6 addresses".to_owned())
    }
}

impl Failure {
    pub(super) fn of(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    pub(super) fn late(after: Duration) -> Self {
        Self(format!("no answer within {} s", after.as_secs()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Asks all that may know a name.
pub(super) struct Names {
    /// Name servers of the configuration; empty for those of the system.
    servers: Vec<SocketAddr>,
    sources: Mutex<Option<Sources>>,
    log: ErrorLog,
}

/// What the files said when they were read.
#[derive(Clone)]
struct Sources {
    hosts: Arc<Hosts>,
    /// `None`: there is no name server.
    servers: Option<TokioResolver>,
    stamps: [Option<SystemTime>; 2],
}

impl Names {
    pub(super) fn new(servers: Vec<SocketAddr>, log: ErrorLog) -> Self {
        Self { servers, sources: Mutex::new(None), log }
    }

    /// Asks a question.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn answer(&self, question: Question) -> Result<Answer, Failure> {
        let name = Name::from_ascii(question.name()).map_err(|error| Failure(error.to_string()))?;
        let asked = Asked { sources: self.sources(), system: self.servers.is_empty() };
        match question {
            Question::Addresses(_) => asked.addresses(name).await.map(Answer::Addresses),
            Question::Services(_) => asked.services(name).await,
        }
    }

    /// What is asked, after the files that say it have been read again if they have changed.
    fn sources(&self) -> Sources {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |file| std::fs::metadata(file).and_then(|about| about.modified()).ok();
        let stamps = [changed(HOSTS), changed(RESOLV_CONF)];
        match &*sources {
            Some(known) if known.stamps == stamps => known.clone(),
            _ => {
                let servers = self.resolver();
                if let Err(error) = &servers {
                    self.log.warn(format_args!(
                        "resolve: no name servers ({error}); names are asked of the system every {} s",
                        super::INTERVAL.as_secs()
                    ));
                }
                let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
                let read = Sources { hosts, servers: servers.ok(), stamps };
                *sources = Some(read.clone());
                read
            }
        }
    }

    fn resolver(&self) -> Result<TokioResolver, String> {
        let (config, mut options) = match self.servers.is_empty() {
            true => hickory_resolver::system_conf::read_system_conf()
                .map_err(|error| format!("{RESOLV_CONF}: {}", words(&error)))?,
            false => {
                let mut options = ResolverOpts::default();
                options.timeout = SERVER_TIMEOUT;
                options.attempts = SERVER_ATTEMPTS;
                (ResolverConfig::from_parts(None, Vec::new(), self.name_servers()), options)
            }
        };
        // Answers are kept by the endpoints, and asked for again when they are over.
        options.cache_size = 0;
        options.negative_max_ttl = Some(Duration::ZERO);
        options.preserve_intermediates = true;
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|error| words(&error))
    }

    fn name_servers(&self) -> Vec<NameServerConfig> {
        let config = |server: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections = connections;
            config
        };
        self.servers.iter().map(config).collect()
    }
}

/// One question's sources.
#[derive(Clone)]
struct Asked {
    sources: Sources,
    /// The system may be asked as well.
    system: bool,
}

/// What name servers say.
enum Refusal {
    /// There is no such name, or it has no such records.
    NotFound(Failure),
    /// They could not be asked, or have trouble themselves.
    Trouble(Failure),
}

impl Refusal {
    fn into_failure(self) -> Failure {
        match self {
            Self::NotFound(failure) | Self::Trouble(failure) => failure,
        }
    }
}

impl Asked {
    async fn addresses(&self, name: Name) -> Result<Found, Failure> {
        if let Some(found) = self.in_hosts(&name) {
            return Ok(found);
        }
        let refusal = match &self.sources.servers {
            Some(servers) => match from_servers(servers, &name).await {
                Ok(found) => return Ok(found),
                Err(refusal) => Some(refusal.into_failure()),
            },
            None => None,
        };
        if !self.system {
            return Err(refusal.unwrap_or_else(|| Failure::of("no name servers")));
        }
        let host = name.to_ascii();
        let host = host.trim_end_matches('.');
        match tokio::net::lookup_host((host, 0)).await {
            Ok(found) => {
                let addresses = found.map(|address| address.ip()).collect();
                Ok(Found { addresses, ttl: None, lacks_v6: false })
            }
            Err(error) => Err(refusal.unwrap_or_else(|| Failure(error.to_string()))),
        }
    }

    /// What `/etc/hosts` says, where it says anything.
    fn in_hosts(&self, name: &Name) -> Option<Found> {
        let of =
            |family| self.sources.hosts.lookup_static_host(&Query::query(name.clone(), family));
        let both = [of(RecordType::A), of(RecordType::AAAA)];
        let records = both.iter().flatten().flat_map(|lookup| lookup.answers());
        let addresses: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
        let found = Found { addresses, ttl: None, lacks_v6: false };
        (!found.addresses.is_empty()).then_some(found)
    }

    async fn services(&self, name: Name) -> Result<Answer, Failure> {
        let Some(servers) = &self.sources.servers else {
            return Err(Failure::of("there are no name servers to ask for SRV records"));
        };
        let records = ask(servers, name, RecordType::SRV).await.map_err(Refusal::into_failure)?;
        let ttl = records.ttl;
        let mut targets: Vec<(u16, u16, Name, u16)> = Vec::new();
        for record in records.data {
            let RData::SRV(srv) = record else { continue };
            targets.push((srv.priority, u16::MAX - srv.weight, srv.target, srv.port));
        }
        if targets.is_empty() {
            return Err(Failure::of("no SRV records"));
        }
        // "." says that there is nothing; a port of 0 cannot be connected to.
        targets.retain(|(_, _, target, port)| !target.is_root() && *port != 0);
        targets.sort();
        targets.dedup();
        targets.truncate(TARGETS_MAX);
        let mut hosts: JoinSet<(Name, Result<Found, Failure>)> = JoinSet::new();
        let mut asked: Vec<&Name> = Vec::new();
        for (_, _, target, _) in &targets {
            if asked.contains(&target) {
                continue;
            }
            asked.push(target);
            let (this, target) = (self.clone(), target.clone());
            hosts.spawn(async move { (target.clone(), this.addresses(target).await) });
        }
        let found = hosts.join_all().await;
        let of = |target: &Name| match found.iter().find(|(host, _)| host == target) {
            Some((_, found)) => found.clone(),
            None => Err(Failure::of("not looked up")),
        };
        let services = targets.iter().map(|(priority, without, target, port)| Service {
            host: target.to_ascii().trim_end_matches('.').to_owned(),
            port: *port,
            priority: *priority,
            weight: u16::MAX - without,
            found: of(target),
        });
        Ok(Answer::Services(services.collect(), ttl))
    }
}

/// The addresses of a host: IPv4, then IPv6.
async fn from_servers(servers: &TokioResolver, name: &Name) -> Result<Found, Refusal> {
    match ask(servers, name.clone(), RecordType::A).await {
        Ok(records) => {
            // Of the very name that was found: in another search domain it is another host.
            let more = ask(servers, records.name.clone(), RecordType::AAAA);
            let more = timeout(V6_MAX, more).await;
            let mut found = records.found();
            match more {
                Ok(Ok(more)) => found.extend(more.found()),
                Ok(Err(Refusal::NotFound(_))) => {}
                Ok(Err(Refusal::Trouble(_))) | Err(_) => found.lacks_v6 = true,
            }
            Ok(found)
        }
        Err(Refusal::NotFound(_)) => {
            ask(servers, name.clone(), RecordType::AAAA).await.map(Records::found)
        }
        Err(trouble) => Err(trouble),
    }
}

/// What was found, of one type.
struct Records {
    /// The name that has them, complete.
    name: Name,
    data: Vec<RData>,
    /// The shortest of these, and of the aliases that led to them.
    ttl: Duration,
}

impl Records {
    fn found(self) -> Found {
        let addresses = self.data.iter().filter_map(RData::ip_addr).collect();
        Found { addresses, ttl: Some(self.ttl), lacks_v6: false }
    }
}

impl Found {
    fn extend(&mut self, more: Found) {
        self.addresses.extend(more.addresses);
        self.ttl = self.ttl.min(more.ttl);
    }
}

async fn ask(servers: &TokioResolver, name: Name, kind: RecordType) -> Result<Records, Refusal> {
    let lookup = servers.lookup(name, kind).await.map_err(|error| {
        match error.is_no_records_found() || error.is_nx_domain() {
            true => Refusal::NotFound(Failure(missing(&error, kind))),
            false => Refusal::Trouble(Failure(words(&error))),
        }
    })?;
    let mut name = lookup.query().name().clone();
    name.set_fqdn(true);
    let mut ttl = u32::MAX;
    let mut data = Vec::new();
    for record in lookup.answers() {
        let of_kind = record.record_type() == kind;
        if of_kind || record.record_type() == RecordType::CNAME {
            ttl = ttl.min(record.ttl);
        }
        if of_kind {
            data.push(record.data.clone());
        }
    }
    match data.is_empty() {
        true => Err(Refusal::NotFound(Failure(format!("no {kind} records")))),
        false => Ok(Records { name, data, ttl: Duration::from_secs(ttl.into()) }),
    }
}

fn missing(error: &NetError, kind: RecordType) -> String {
    match (error.is_nx_domain(), kind) {
        (true, _) => "no such name".to_owned(),
        (false, RecordType::SRV) => "no SRV records".to_owned(),
        (false, _) => "no address".to_owned(),
    }
}

/// What went wrong, without the words of a library.
fn words(error: &NetError) -> String {
    match error {
        NetError::Timeout => "the name servers do not answer".to_owned(),
        NetError::NoConnections => "the name servers cannot be reached".to_owned(),
        NetError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
