//! The compiled configuration: what [`decide`](crate::decide) and the exchange look things up in.
//!
//! A snapshot is immutable. A reload compiles a new one and publishes it; requests under way keep
//! the one they started with. What must survive the change is in [`Live`].

mod listeners;

pub use listeners::Listeners;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::model::{self, Connections, HostPattern, Listen, Model, StartState};
use config::places::Places;
use ipnet::IpNet;
use net::timer::Tick;
use net::tls::{PolicyId, ServerConfig};

use crate::auth::Sources;
use crate::balance::{Balancer, Member};
use crate::files::FileServer;
use crate::filters::{CLIENT_CERTIFICATE_FIELDS, Edits};
use crate::guards::cors::CORS_FIELDS;
use crate::guards::{Common, Guards, is_open};
use crate::live::{Live, Lookup};
use crate::metrics::{Kind, Series};
use crate::pool::Pool;
use crate::proxy_status::ProxyStatus;
use crate::routes::{LocalAction, Route, RouteAction, RouteTable};
use crate::sticky::{Secret, Sticky};
use crate::traces;
use crate::upstream::TlsConfigs;
use crate::websocket;

/// One configuration, ready to be asked.
#[derive(Debug)]
pub struct Snapshot {
    /// One for each address served.
    pub listeners: Listeners,
    /// All sites that are served.
    pub sites: Vec<Site>,
    /// Who the server says it is.
    pub server: model::Server,
    /// Bounds on clients.
    pub limits: model::Limits,
    /// Between requests a client connection may be idle this long, unless its listener says otherwise.
    keep_alive_timeout: Duration,
    /// Longest request body.
    pub max_request_size: Option<u64>,
    /// `%2F` and `%5C` may stand in proxied paths.
    pub allow_encoded_slashes: bool,
    /// Peers whose X-Forwarded-* fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `Server: name\r\n` for responses made here; empty if hidden.
    pub server_line: Vec<u8>,
    /// Count what happens.
    pub counts: bool,
    /// How requests are traced, if they are.
    pub traces: Option<traces::Settings>,
    /// Bytes of each worker's recorder.
    pub recorder: usize,
    /// What credentials are checked with, to be kept up to date.
    pub credentials: Sources,
    /// Where all of it is written.
    pub places: Places,
    /// What connections to each site agree to, by the site's index; `None` for a plain one.
    tls: Vec<Option<ServerConfig>>,
}

/// The sites of one listening address.
#[derive(Debug)]
pub struct Listener {
    /// Its number, for as long as it is listened at.
    pub number: usize,
    /// Where it listens.
    pub listen: Listen,
    /// The port that is really bound, and before there is one that of the configuration; 0 on a Unix
    /// socket.
    pub port: u16,
    /// It is there for ACME challenges only, and Ravelin can do without it.
    pub for_challenges: bool,
    /// Nothing but TLS is spoken here.
    pub tls: bool,
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// HTTP/2 is taken without TLS from clients that begin with its preface.
    pub http2: bool,
    /// What holds for its connections.
    pub connections: Connections,
    /// Where it is counted.
    pub series: Series,
    hosts: HostTable,
}

/// Host names to site indices.
#[derive(Debug, Default)]
struct HostTable {
    exact: HashMap<String, usize>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, usize>,
    any: Option<usize>,
    default: usize,
}

/// One virtual host.
#[derive(Debug)]
pub struct Site {
    /// The operator's name for it.
    pub name: String,
    /// Send what comes in plain to https.
    pub redirect_to_https: Option<ToHttps>,
    /// Finds the route of a request.
    pub routes: RouteTable,
    /// What a route would take but for its conditions is answered 400.
    pub mismatch_is_error: bool,
    /// Ravelin answers the pages of health.
    pub health: bool,
    /// Static files for what no route takes, if the site has a directory.
    pub files: Option<Arc<FileServer>>,
    /// What is asked of requests.
    pub guards: Guards,
    /// Edits of responses that Ravelin makes itself.
    pub response: Edits,
    /// What responses say of what became of their requests.
    pub proxy_status: Option<ProxyStatus>,
    /// The proxy part.
    pub proxy: Option<ProxySite>,
    /// Where it is counted.
    pub series: Series,
    /// Where its requests are counted that no route takes.
    pub no_route: Series,
}

/// How plain requests are sent to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToHttps {
    /// 301, or 308, which keeps the method.
    pub status: u16,
    /// Where hosts of the site are served over TLS, if that is not at 443: to be preferred among
    /// ports at which a host is served equally well.
    pub port: Option<u16>,
}

/// The proxy part of a site.
#[derive(Debug)]
pub struct ProxySite {
    /// The pools routes point into.
    pub pools: Vec<Pool>,
    /// Bodies that are taken whole before they are passed on.
    pub buffering: Arc<model::Buffering>,
    /// Clients are asked for certificates, and the upstream is told about them.
    pub client_auth: bool,
}

/// Addresses of one host name, or of the targets of its SRV records, that requests are spread over; a
/// name that has more uses the first.
pub const SLOTS: usize = 16;

/// What the upstream is told of the client and the way the request took.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding {
    /// Host as the client sent it, else the endpoint's.
    pub preserve_host: bool,
    /// X-Forwarded-For, -Proto, -Host, -Port.
    pub x_forwarded: bool,
    /// X-Real-IP.
    pub x_real_ip: bool,
    /// Forwarded (RFC 7239).
    pub forwarded: bool,
    /// Via, both ways.
    pub via: bool,
}

impl Snapshot {
    /// Compiles `model`, taking endpoints and counters from `live`.
    ///
    /// The strings are warnings for the operator: static directories that do not exist yet, upstreams
    /// whose certificate nobody checks.
    ///
    /// # Errors
    /// A file that TLS to an upstream needs cannot be read or used.
    pub fn compile(model: &Model, live: &Live) -> Result<(Self, Vec<String>), CompileError> {
        let mut parts = Parts {
            live,
            tls: TlsConfigs::default(),
            has_client_auth: model.sites.iter().any(has_client_auth),
            told: told(model),
            credentials: Sources::knowing(live.credentials()),
            warnings: Vec::new(),
        };
        let sites = model.sites.iter().map(|site| Site::compile(site, model, &mut parts));
        let sites = sites.collect::<Result<_, _>>()?;
        let credentials = parts.credentials.used();
        live.remember(&credentials);
        let name = &model.server.name;
        let snapshot = Self {
            listeners: listeners(&model.sites, live).into_iter().collect(),
            sites,
            server: model.server.clone(),
            limits: model.limits,
            keep_alive_timeout: model.performance.keep_alive_timeout,
            max_request_size: model.security.max_request_size,
            allow_encoded_slashes: model.security.allow_encoded_slashes,
            trusted_proxies: model.security.trusted_proxies.clone(),
            server_line: match model.security.hide_server_header {
                true => Vec::new(),
                false => format!("Server: {name}\r\n").into_bytes(),
            },
            counts: model.metrics.enabled,
            traces: traces::Settings::compile(&model.tracing, live.spans()),
            recorder: model.management.recorder,
            credentials,
            places: model.places.clone(),
            tls: Vec::new(),
        };
        Ok((snapshot, parts.warnings))
    }
}

/// Why a configuration cannot be compiled. The text names the site and the upstream.
#[derive(Debug)]
pub struct CompileError(String);

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CompileError {}

/// What sites are compiled with.
struct Parts<'a> {
    live: &'a Live,
    tls: TlsConfigs,
    /// Some site asks its clients for certificates.
    has_client_auth: bool,
    /// Fields that tell upstreams what was proved, at whatever site.
    told: Vec<String>,
    credentials: Sources,
    warnings: Vec<String>,
}

fn told(model: &Model) -> Vec<String> {
    let guards = model.sites.iter().flat_map(|site| {
        std::iter::once(&site.guards).chain(site.routes.iter().map(|route| &route.guards))
    });
    let told = guards.flat_map(|guards| &guards.auth).flat_map(model::Auth::told);
    told.map(str::to_owned).collect()
}

fn has_client_auth(site: &model::Site) -> bool {
    site.tls.as_ref().is_some_and(|tls| tls.policy.client_auth.is_some())
}

impl Snapshot {
    /// The same with TLS: `configs` has an entry for each site, `None` for a plain one.
    #[must_use]
    pub fn with_tls(self, configs: Vec<Option<ServerConfig>>) -> Self {
        Self { tls: configs, ..self }
    }

    /// The same, answering ACME challenges at these ports too where no site listens.
    #[must_use]
    pub fn with_challenge_ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        for port in ports {
            let taken = self.listeners.iter().any(|listener| match &listener.listen {
                Listen::Port(other) => *other == port,
                Listen::Address(address) => address.port() == port,
                Listen::Unix(_) => false,
            });
            if !taken {
                let number = self.listeners.iter().map(|one| one.number + 1).max().unwrap_or(0);
                let listener = Listener { number, ..Listener::for_challenges(port) };
                self.listeners.add(listener);
            }
        }
        self
    }

    /// The ids of all endpoints that requests may go to, some several times.
    pub fn endpoint_ids(&self) -> impl Iterator<Item = usize> {
        let pools = self.sites.iter().filter_map(|site| site.proxy.as_ref());
        let pools = pools.flat_map(|proxy| &proxy.pools);
        pools.flat_map(|pool| pool.balancer.members()).map(|member| member.endpoint.id)
    }

    /// How long a connection to the listener of this index may be idle between requests.
    pub fn keep_alive_timeout(&self, listener: usize) -> Duration {
        let own = self.listeners.get(listener).map(|listener| listener.connections);
        own.and_then(|own| own.keep_alive_timeout).unwrap_or(self.keep_alive_timeout)
    }

    /// Whether an HTTP/1 connection to the listener of this index may have more than one request.
    pub fn keeps_alive(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_none_or(|listener| listener.connections.keep_alive)
    }

    /// What a connection to the site of this index has to agree to.
    pub fn tls_of(&self, site: usize) -> Option<&ServerConfig> {
        self.tls.get(site)?.as_ref()
    }

    /// The port at which `host` is served over TLS, unless that is 443 or nowhere here: where it is a
    /// site's name, else where a wildcard of a site's meets it, and so on. Of several 443 is taken,
    /// then the one that `to` prefers.
    #[must_use]
    pub fn https_port(&self, host: &str, to: ToHttps) -> Option<u16> {
        let secure = self.listeners.iter().enumerate().filter(|(_, one)| {
            // One that would answer for want of a better is only taken for a site that goes with it.
            let fits = to.port.is_some() || one.found(host).1 > Fit::Default;
            one.tls && one.port != 0 && fits
        });
        let best = secure.max_by_key(|(place, listener)| {
            let (_, fit) = listener.found(host);
            let preferred = to.port == Some(listener.port);
            // The first of those that are left.
            (fit, listener.port == 443, preferred, std::cmp::Reverse(*place))
        });
        best.map(|(_, listener)| listener.port).filter(|port| *port != 443)
    }

    /// The policy of the site of this index; `None` for a plain one.
    pub fn policy_of(&self, site: usize) -> Option<PolicyId> {
        self.tls_of(site).map(ServerConfig::policy)
    }
}

impl Listener {
    /// The same with this number, bound to this port.
    pub(crate) fn bound(self, number: usize, port: u16) -> Self {
        Self { number, port, ..self }
    }

    /// A listener without sites, where only challenges are answered.
    fn for_challenges(port: u16) -> Self {
        let hosts = HostTable { default: usize::MAX, ..HostTable::default() };
        let listen = Listen::Port(port);
        Self {
            number: 0,
            listen,
            port: 0,
            for_challenges: true,
            tls: false,
            proxy_protocol: false,
            http2: false,
            connections: Connections::default(),
            series: Series::default(),
            hosts,
        }
    }

    /// The index of the site that answers for `host` (lower-case, without port) here: an exact name,
    /// else the longest wildcard, else a catch-all, else the default.
    pub fn site_for(&self, host: &str) -> usize {
        self.found(host).0
    }

    /// The same, and how well the name of that site fits: the longer the part of `host` that it names,
    /// the better.
    pub(crate) fn found(&self, host: &str) -> (usize, Fit) {
        if let Some(&site) = self.hosts.exact.get(host) {
            return (site, Fit::Exact);
        }
        if !self.hosts.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(&site) = self.hosts.wildcard.get(suffix) {
                    return (site, Fit::Wildcard(suffix.len()));
                }
                rest = suffix;
            }
        }
        match self.hosts.any {
            Some(site) => (site, Fit::Any),
            None => (self.hosts.default, Fit::Default),
        }
    }
}

/// How a site comes to answer for a host, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// For want of another.
    Default,
    /// It answers for any.
    Any,
    /// By a wildcard of this length.
    Wildcard(usize),
    /// By its name.
    Exact,
}

/// The distinct listening addresses of `sites` with their host tables.
fn listeners(sites: &[model::Site], live: &Live) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        for listen in &site.listen {
            let at = listeners.iter().position(|known| known.listen == *listen);
            let at = at.unwrap_or_else(|| {
                let hosts = HostTable { default: index, ..HostTable::default() };
                listeners.push(Listener {
                    number: 0,
                    listen: listen.clone(),
                    port: configured_port(listen),
                    for_challenges: false,
                    tls: false,
                    proxy_protocol: false,
                    http2: false,
                    connections: site.connections,
                    series: live.series(Kind::Listener, &[&listen_label(listen)]),
                    hosts,
                });
                listeners.len() - 1
            });
            let listener = &mut listeners[at];
            // All sites of a listener agree on these; if they did not, TLS would win.
            listener.tls |= site.tls.is_some();
            listener.proxy_protocol |= site.proxy_protocol;
            listener.http2 |= site.http2_cleartext;
            let hosts = &mut listener.hosts;
            if site.default {
                hosts.default = index;
            }
            for pattern in &site.hosts {
                match pattern {
                    HostPattern::Exact(name) => {
                        hosts.exact.entry(name.clone()).or_insert(index);
                    }
                    HostPattern::Wildcard(suffix) => {
                        hosts.wildcard.entry(suffix.clone()).or_insert(index);
                    }
                    HostPattern::Any => hosts.any = hosts.any.or(Some(index)),
                }
            }
        }
    }
    listeners
}

fn configured_port(listen: &Listen) -> u16 {
    match listen {
        Listen::Port(port) => *port,
        Listen::Address(address) => address.port(),
        Listen::Unix(_) => 0,
    }
}

/// What a listener is called where it is counted.
fn listen_label(listen: &Listen) -> String {
    match listen {
        Listen::Port(port) => format!(":{port}"),
        Listen::Address(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The port at which a host of `site` is served over TLS, unless that is 443 or nowhere here. Sites
/// with one of its hosts count before those whose hosts only meet its wildcards.
fn https_port(site: &model::Site, sites: &[model::Site]) -> Option<u16> {
    let ports = |meet: fn(&HostPattern, &HostPattern) -> bool| -> Vec<u16> {
        let shares_host = |other: &model::Site| {
            site.hosts.iter().any(|host| other.hosts.iter().any(|one| meet(host, one)))
        };
        let secure = sites.iter().filter(|other| other.tls.is_some() && shares_host(other));
        secure
            .flat_map(|other| &other.listen)
            .filter_map(|listen| match listen {
                Listen::Port(port) => Some(*port),
                Listen::Address(address) => Some(address.port()),
                Listen::Unix(_) => None,
            })
            .collect()
    };
    let equal = ports(|host, other| host == other);
    let ports = if equal.is_empty() { ports(HostPattern::meets) } else { equal };
    ports.first().copied().filter(|_| !ports.contains(&443))
}

impl Site {
    fn compile(
        site: &model::Site,
        model: &Model,
        parts: &mut Parts<'_>,
    ) -> Result<Self, CompileError> {
        let files = site.files.as_ref().map(|files| parts.files(site, files));
        let mut response = Edits::default();
        response.set_all(&model.security.security_headers);
        response.set_all(&site.response_headers);
        let proxy = match &site.proxy {
            Some(proxy) => Some(ProxySite::compile(site, proxy, parts)?),
            None => None,
        };
        let redirect_to_https = site
            .redirect_to_https
            .map(|status| ToHttps { status, port: https_port(site, &model.sites) });
        let live = parts.live;
        let counts = |id| live.counts(id);
        let credentials = RefCell::new(std::mem::take(&mut parts.credentials));
        let common =
            Common { security: &model.security, counts: &counts, credentials: &credentials };
        let fault = |error| CompileError(format!("site \"{}\": {error}", site.name));
        let guards = Guards::of_site(&site.name, &site.guards, &common).map_err(fault)?;
        let mut routes = Vec::with_capacity(site.routes.len());
        let mut of_path: HashMap<&str, usize> = HashMap::new();
        for route in &site.routes {
            // Which of those with its path it is tells it from the others.
            let nth = of_path.entry(route.path.text()).or_default();
            *nth += 1;
            let id = format!("{} {nth}", route.path.text());
            let own = guards.of_route((&site.name, &id), route, &common).map_err(fault)?;
            routes.push(parts.route(site, route, &response, own));
        }
        parts.credentials = credentials.into_inner();
        if guards.has_cors() {
            response.leave_alone(CORS_FIELDS);
        }
        let rules = site.routes.iter().map(|route| &route.guards.cors);
        let mut rules = rules.chain([&site.guards.cors]);
        if rules.any(|rules| is_open(rules, &model.security.allowed_origins)) {
            parts.warnings.push(format!(
                "site \"{}\": pages of any origin may make requests with credentials and read what \
                 your users may see: name the origins (`allow_origins`)",
                site.name
            ));
        }
        let routes = RouteTable::new(routes, site.route_order);
        let name = site.name.clone();
        let mismatch_is_error = site.mismatch_is_error;
        let health = site.health;
        Ok(Self {
            name,
            redirect_to_https,
            routes,
            mismatch_is_error,
            health,
            files,
            guards,
            response,
            proxy_status: ProxyStatus::compile(site.proxy_status, &model.server.name),
            proxy,
            series: live.series(Kind::Site, &[&site.name]),
            no_route: live.series(Kind::Route, &[&site.name, ""]),
        })
    }
}

impl ProxySite {
    fn compile(
        site: &model::Site,
        proxy: &model::Proxy,
        parts: &mut Parts<'_>,
    ) -> Result<Self, CompileError> {
        let pools = proxy.pools.iter().map(|pool| {
            let mut members = Vec::with_capacity(pool.upstreams.len());
            for upstream in &pool.upstreams {
                parts.add_members(site, pool, upstream, &mut members)?;
            }
            let state = parts.live.pool(&site.name, &pool.name);
            let epoch = Arc::clone(parts.live.epoch());
            let balancer =
                Balancer::new(&pool.settings, members, Arc::clone(&state), epoch, Tick::now());
            let sticky = sticky(site, pool)?;
            let series = parts.live.series(Kind::Pool, &[&site.name, &pool.name]);
            Ok(Pool::new(pool, balancer, sticky, state).counted_in(series))
        });
        let pools = pools.collect::<Result<_, CompileError>>()?;
        Ok(Self {
            pools,
            buffering: Arc::new(proxy.buffering.clone()),
            client_auth: has_client_auth(site),
        })
    }
}

/// Bytes of a file with a key for cookies.
const KEY_FILE_MAX: u64 = 1024 * 1024;

/// What keeps the clients of a pool with their members, with its secret.
fn sticky(site: &model::Site, pool: &model::Pool) -> Result<Option<Sticky>, CompileError> {
    let Some(settings) = &pool.settings.sticky else { return Ok(None) };
    let (site, name) = (&site.name, &pool.name);
    let secret = match &settings.key_file {
        None => Secret::of_process().cloned().map_err(|error| error.to_string()),
        Some(file) => match net::file::read(file, KEY_FILE_MAX) {
            Ok(contents) => Secret::from_contents(&contents)
                .map_err(|error| format!("{}: {error}", file.display())),
            Err(error) => Err(format!("cannot read {}: {error}", file.display())),
        },
    };
    let secret = secret.map_err(|error| {
        CompileError(format!("site \"{site}\": pool \"{name}\": sticky sessions: {error}"))
    })?;
    Ok(Some(Sticky::new(settings, &secret, name)))
}

impl Parts<'_> {
    /// Opens the files of a site or of one of its routes.
    fn files(&mut self, site: &model::Site, files: &model::Files) -> Arc<FileServer> {
        let (server, warning) = FileServer::open(files);
        let warning = warning.map(|warning| format!("site \"{}\": {warning}", site.name));
        self.warnings.extend(warning);
        Arc::new(server)
    }

    /// One route, with the edits of responses that all of its site have before its own.
    fn route(
        &mut self,
        site: &model::Site,
        route: &model::Route,
        response: &Edits,
        guards: Guards,
    ) -> Route {
        let action = match &route.action {
            model::RouteAction::Upstream(pool) => RouteAction::Pool(*pool),
            model::RouteAction::Files(files) => {
                RouteAction::Local(LocalAction::Files(self.files(site, files)))
            }
            model::RouteAction::Redirect { to, status } => {
                RouteAction::Local(LocalAction::Redirect { to: to.clone(), status: *status })
            }
            model::RouteAction::Respond { status, body, content_type } => {
                RouteAction::Local(LocalAction::Respond {
                    status: *status,
                    body: body.clone(),
                    content_type: content_type.clone(),
                })
            }
        };
        let mut request = Edits::default();
        // At every site: an open one may stand before the same upstream, which believes these fields.
        if self.has_client_auth {
            request.drop_all(CLIENT_CERTIFICATE_FIELDS);
        }
        let hidden = guards.hidden().fields.iter().chain(&self.told);
        request.drop_all(&hidden.map(String::as_str).collect::<Vec<_>>());
        let mut compiled = Route::compile(route, action, (request, response.clone()), guards);
        compiled.series = self.live.series(Kind::Route, &[&site.name, &compiled.name]);
        compiled.websocket = route.websocket.as_ref().map(|sockets| {
            let open = match websocket::Settings::counts(sockets) {
                true => self.live.sockets(&site.name, &compiled.name),
                false => Arc::default(),
            };
            websocket::Settings::new(sockets.clone(), open)
        });
        compiled
    }

    /// One member for each address that an entry may have.
    fn add_members(
        &mut self,
        site: &model::Site,
        pool: &model::Pool,
        upstream: &model::Upstream,
        members: &mut Vec<Member>,
    ) -> Result<(), CompileError> {
        let (name, url) = (&site.name, &upstream.url);
        let tls = self.tls.of(&upstream.transport);
        let tls = tls.map_err(|error| {
            CompileError(format!("site \"{name}\": upstream {url}: TLS: {error}"))
        })?;
        if upstream.transport.tls.as_ref().is_some_and(|tls| !tls.verify) {
            self.warnings.push(format!(
                "site \"{name}\": upstream {url}: its certificate is not checked (verify = false), \
                 so anybody on the way can pose as it; name its authority with `ca_file` instead"
            ));
        }
        let slots = match upstream.address.is_name() {
            true => SLOTS,
            false => 1,
        };
        let lookup = if upstream.srv { Lookup::Services } else { Lookup::Addresses };
        let checks = &pool.settings.health_checks;
        let series = self.live.series(Kind::Member, &[name, &pool.name, url]);
        let begins_down = checks.iter().any(|check| check.start == StartState::Down);
        members.extend((0..slots).map(|slot| {
            let endpoint = self.live.endpoint(&upstream.address, &upstream.transport, lookup, slot);
            let state = self.live.member(name, &pool.name, url, &endpoint);
            state.set_begins_down(begins_down);
            Member {
                endpoint,
                state,
                tls: tls.clone(),
                url: url.clone(),
                base_path: upstream.base_path.clone(),
                weight: upstream.weight,
                priority: upstream.priority,
                wanted: upstream.state,
                max_conns: upstream.max_conns,
                slow_start: upstream.slow_start,
                max_fails: upstream.max_fails,
                fail_timeout: upstream.fail_timeout,
                preserve_host: upstream.preserve_host,
                series: series.clone(),
            }
        }));
        Ok(())
    }
}
