//! Who is believed, who may come in, and what is safe on its way.

use std::cell::LazyCell;
use std::net::IpAddr;

use ipnet::IpNet;
use regex_automata::meta::Regex;

use super::{Of, Rule};
use crate::diagnostic::Diagnostic;
use crate::model::{
    AllowedOrigins, Auth, Bound, CorsRule, Guards, HostPattern, Listen, Model, PathMatch, Route,
    RouteAction, RouteOrder, Site, TlsVersion, UpstreamAddress,
};
use crate::password::PasswordHash;
use crate::pattern;

const TRANSPORT_SECURITY: &str = "Strict-Transport-Security";

/// Bits that all addresses of a network have in common, if it is somebody's and not everybody's.
const PREFIX_MIN: u8 = 8;

pub(super) fn of_all(model: &Model, found: &mut Vec<Diagnostic>) {
    if let Some(net) = model.security.trusted_proxies.iter().find(|net| is_everybody(net)) {
        let message = format!(
            "`trusted_proxies` has {net}: any client in it can say whose request it makes, past \
             access lists, rate limits and logs"
        );
        let place = model.places.top(&["security", "trusted_proxies"]);
        let mut finding = Diagnostic::lint(Rule::TrustsEverybody, place, message);
        finding.help.push("name the addresses of your load balancers".to_owned());
        found.push(finding);
    }
}

/// A network that is large enough to be no longer somebody's own. Unique local addresses (RFC 4193) are
/// nobody's on the Internet.
fn is_everybody(net: &IpNet) -> bool {
    let local = match net {
        IpNet::V4(_) => false,
        IpNet::V6(net) => net.prefix_len() == 7 && net.network().segments()[0] == 0xfc00,
    };
    net.prefix_len() < PREFIX_MIN && !local
}

pub(super) fn of_site(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    bodies(of, found);
    loops(of, found);
    redirects(of, found);
    tls(of, found);
    let site = |keys: &[&str]| of.place(keys);
    guards(of, &of.site.guards, &site, found);
    for (index, route) in of.site.routes.iter().enumerate() {
        guards(of, &route.guards, &|keys| of.route(index, keys), found);
    }
}

fn bodies(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let buffering = of.site.proxy.as_ref().map(|proxy| &proxy.buffering);
    let Some(buffering) = buffering.filter(|buffering| buffering.request) else { return };
    let open = |bound: Bound| {
        let limit = match bound {
            Bound::Unlimited => None,
            Bound::Inherited => of.model.security.max_request_size,
            Bound::Bytes(bytes) => Some(bytes),
        };
        limit.is_none_or(|limit| limit > buffering.max)
    };
    let has_bodies = |route: &Route| {
        let bodiless = |method: &String| ["GET", "HEAD", "OPTIONS"].contains(&method.as_str());
        let of_methods = route.methods.is_empty() || !route.methods.iter().all(bodiless);
        of_methods && !route.websocket.as_ref().is_some_and(|websocket| websocket.required)
    };
    let mut routes = of.site.routes.iter().enumerate();
    let route = routes.find(|(_, route)| {
        matches!(route.action, RouteAction::Upstream(_))
            && has_bodies(route)
            && open(route.max_request_size)
    });
    if let Some((index, route)) = route {
        let message = format!(
            "`{}` keeps bodies as long as `buffering.max` allows before it passes them on",
            route.path.text()
        );
        let place = of.route(index, &["max_request_size"]);
        let mut finding = Diagnostic::lint(Rule::NoBodyLimit, place, message);
        finding.help.push("set `max_request_size` in `[security]`, or at the route".to_owned());
        found.push(finding);
    }
}

/// Clients that are sent to where they are.
fn loops(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let site = of.site;
    let secure_elsewhere = of.model.sites.iter().any(|other| {
        other.tls.is_some()
            && other.hosts.iter().any(|host| site.hosts.iter().any(|own| own.meets(host)))
    });
    if site.redirect_to_https.is_some()
        && site.tls.is_none()
        && !secure_elsewhere
        && of.model.security.trusted_proxies.is_empty()
    {
        let message = format!(
            "`{}` sends clients to https, and nothing here serves that: behind a proxy which does, \
             they go round and round",
            site.name
        );
        let place = of.place(&["redirect_to_https"]);
        let mut finding = Diagnostic::lint(Rule::HttpsLoop, place, message);
        finding.help.push(
            "name that proxy in `trusted_proxies`, so that its `X-Forwarded-Proto` is believed"
                .to_owned(),
        );
        found.push(finding);
    }
    let patterns = LazyCell::new(|| patterns(site));
    for (index, route) in site.routes.iter().enumerate() {
        let RouteAction::Redirect { to, .. } = &route.action else { continue };
        let same = match to.as_str() {
            "https://$host$uri" | "https://$host$path" | "https://$host$request_uri" => {
                site.tls.is_some()
            }
            "http://$host$uri" | "http://$host$path" | "http://$host$request_uri" => {
                site.tls.is_none()
            }
            "$uri" | "$path" | "$request_uri" | "$scheme://$host$uri" | "$scheme://$host$path" => {
                true
            }
            to => {
                at_home(site, to).is_some_and(|to| meets_itself(site, index, route, to, &patterns))
            }
        };
        if same {
            let message =
                format!("`{}` redirects to where the client already is", route.path.text());
            let place = of.route(index, &["redirect"]);
            found.push(Diagnostic::lint(Rule::HttpsLoop, place, message));
        }
    }
    into_itself(of, found);
}

/// What is behind the host, if the site is at home there: of a URL that names one of its hosts and ports,
/// or none.
fn at_home<'t>(site: &Site, to: &'t str) -> Option<&'t str> {
    if to.starts_with('/') {
        return Some(to);
    }
    let (rest, default, is_secure) = match to.strip_prefix("https://") {
        Some(rest) => (rest, 443, true),
        None => (to.strip_prefix("http://")?, 80, false),
    };
    let (authority, path) = rest.split_at_checked(rest.find('/')?)?;
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (authority, default),
    };
    let is_host = |host: &HostPattern| matches!(host, HostPattern::Exact(own) if own.eq_ignore_ascii_case(name));
    let is_port = |listen: &Listen| match listen {
        Listen::Port(own) => *own == port,
        Listen::Address(own) => own.port() == port,
        Listen::Unix(_) => false,
    };
    let is_here = is_secure == site.tls.is_some()
        && (authority == "$host"
            || site.hosts.iter().any(is_host) && site.listen.iter().any(is_port));
    is_here.then_some(path)
}

/// A redirect to a path that the route takes again, and no other route takes before it.
fn meets_itself(
    site: &Site,
    index: usize,
    route: &Route,
    to: &str,
    patterns: &LazyCell<Vec<(usize, Regex)>, impl FnOnce() -> Vec<(usize, Regex)>>,
) -> bool {
    let path = to.split(['?', '#']).next().unwrap_or_default();
    // Only what is a path as it stands, and is no other when a client has looked at it.
    let plain = path.starts_with('/') && !["//", "/.", "$"].iter().any(|part| path.contains(part));
    // Else the request that comes back may not be what the route wants.
    let any_request = route.when.conditions.is_empty()
        && (route.methods.is_empty() || route.methods.iter().any(|method| method == "GET"));
    if !plain || !any_request || !takes(&route.path, path) {
        return false;
    }
    let Some(own) = literal(&route.path) else { return false };
    let is_exact = |path: &PathMatch| matches!(path, PathMatch::Exact(_));
    let before = |(other, one): (usize, &Route)| match site.route_order {
        RouteOrder::Declared => other < index && takes(&one.path, path),
        RouteOrder::Longest => {
            let wins = match literal(&one.path) {
                Some(_) if is_exact(&one.path) != is_exact(&route.path) => is_exact(&one.path),
                Some(text) => text.len() > own.len() || text.len() == own.len() && other < index,
                None => false,
            };
            other != index && wins && takes(&one.path, path)
        }
    };
    let asked = |other: usize| match site.route_order {
        RouteOrder::Declared => other < index,
        RouteOrder::Longest => !is_exact(&route.path) && !route.before_regex,
    };
    let mut routes = site.routes.iter().enumerate();
    !routes.any(before)
        && !patterns.iter().any(|(other, regex)| asked(*other) && regex.is_match(path.as_bytes()))
}

/// Regular expressions of a site's routes; one that cannot be compiled takes nothing.
fn patterns(site: &Site) -> Vec<(usize, Regex)> {
    let routes = site.routes.iter().enumerate();
    let compiled = routes.filter_map(|(index, route)| {
        let PathMatch::Regex { pattern, ignore_case } = &route.path else { return None };
        let pattern = if *ignore_case { format!("(?i){pattern}") } else { pattern.clone() };
        Some((index, pattern::compile(&pattern).ok()?))
    });
    compiled.collect()
}

fn literal(path: &PathMatch) -> Option<&str> {
    match path {
        PathMatch::Prefix(own) | PathMatch::StartsWith(own) | PathMatch::Exact(own) => Some(own),
        PathMatch::Regex { .. } | PathMatch::Never => None,
    }
}

/// Whether these are paths that this one is among; not asked of regular expressions.
fn takes(paths: &PathMatch, path: &str) -> bool {
    match paths {
        PathMatch::Prefix(own) => path
            .strip_prefix(own.as_str())
            .is_some_and(|rest| own.ends_with('/') || rest.is_empty() || rest.starts_with('/')),
        PathMatch::StartsWith(own) => path.starts_with(own.as_str()),
        PathMatch::Exact(own) => own == path,
        PathMatch::Regex { .. } | PathMatch::Never => false,
    }
}

/// An upstream that is a listener of this configuration which sends everybody to https.
fn into_itself(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    for pool in of.site.proxy.iter().flat_map(|proxy| &proxy.pools) {
        for (nth, upstream) in pool.upstreams.iter().enumerate() {
            let UpstreamAddress::Tcp { host, port } = &upstream.address else { continue };
            let here =
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            let listens = |site: &&Site| {
                site.listen.iter().any(|listen| match listen {
                    Listen::Port(own) => own == port,
                    Listen::Address(own) => own.port() == *port,
                    Listen::Unix(_) => false,
                })
            };
            let mut sites = of.model.sites.iter().filter(listens);
            let sends_away = |site: &Site| {
                site.redirect_to_https.is_some()
                    && site.hosts.iter().any(|host| of.site.hosts.iter().any(|own| own.meets(host)))
            };
            if !here || upstream.transport.tls.is_some() {
                continue;
            }
            if let Some(other) = sites.find(|site| sends_away(site)) {
                let message = format!(
                    "{} is the site `{}` of this configuration, which sends everybody to https",
                    upstream.url, other.name
                );
                let place = of.upstream(&pool.name, nth, &["url"]);
                found.push(Diagnostic::lint(Rule::HttpsLoop, place, message));
            }
        }
    }
}

fn redirects(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    if !of.site.hosts.contains(&HostPattern::Any) {
        return;
    }
    for (index, route) in of.site.routes.iter().enumerate() {
        let to_host = |to: &str| to.contains("://$host") || to.contains("://${host}");
        let RouteAction::Redirect { to, .. } = &route.action else { continue };
        if to_host(to) && !is_to_https(to) && route.hosts.is_empty() {
            let message = format!(
                "`{}` redirects to whatever host a request names, and the site answers to any",
                route.path.text()
            );
            let place = of.route(index, &["redirect"]);
            let mut finding = Diagnostic::lint(Rule::OpenRedirect, place, message);
            finding.help.push("name the host, or those that the site answers to".to_owned());
            found.push(finding);
        }
    }
}

/// The same URL under https, which is where a client wanted to be: as `redirect_to_https` does it.
fn is_to_https(to: &str) -> bool {
    let bare = to.replace("${", "$").replace('}', "");
    let path = bare.strip_prefix("https://$host");
    path.is_some_and(|path| ["$uri", "$request_uri", "$path", "$path?$query"].contains(&path))
}

fn tls(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let Some(tls) = &of.site.tls else { return };
    if tls.policy.max_version < TlsVersion::Tls13 {
        let place = of.place(&["ssl", "max_version"]);
        let message = format!("`{}` does not take TLS 1.3", of.site.name);
        found.push(Diagnostic::lint(Rule::WeakTls, place, message));
    }
    let mut told = of
        .site
        .response_headers
        .iter()
        .chain(&of.model.security.security_headers)
        .filter(|(name, _)| name.eq_ignore_ascii_case(TRANSPORT_SECURITY));
    let (told, lasts) = (told.clone().next().is_some(), told.any(|(_, value)| !is_over(value)));
    if !lasts && tls.policy.client_auth.is_none() && comes_from_plain(of) {
        let name = &of.site.name;
        let message = match told {
            true => format!("browsers are told to forget that `{name}` is for TLS only"),
            false => format!("browsers are not told to use TLS only for `{name}`"),
        };
        let mut finding = Diagnostic::lint(Rule::MissingHsts, of.place(&["ssl"]), message);
        finding.help.push("set `hsts = true` in `[sites.ssl]`".to_owned());
        found.push(finding);
    }
}

/// A value of `Strict-Transport-Security` that ends what others began (RFC 6797 section 6.1.1).
fn is_over(value: &str) -> bool {
    value.split(';').filter_map(|directive| directive.split_once('=')).any(|(name, seconds)| {
        let seconds = seconds.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("max-age")
            && !seconds.is_empty()
            && seconds.bytes().all(|byte| byte == b'0')
    })
}

/// Browsers of others come to the site from a plain one of the same host, which sends them here.
fn comes_from_plain(of: &Of<'_>) -> bool {
    let sends_here = |host: &HostPattern| {
        of.model.sites.iter().any(|other| {
            other.tls.is_none()
                && other.redirect_to_https.is_some()
                && other.hosts.iter().any(|one| one.meets(host))
        })
    };
    // What HSTS is of no use for (RFC 6797 section 8.1.1), or a nuisance.
    let has_name = |host: &HostPattern| match host {
        HostPattern::Exact(name) => name != "localhost" && name.parse::<IpAddr>().is_err(),
        HostPattern::Wildcard(_) | HostPattern::Any => true,
    };
    let mut hosts = of.site.hosts.iter();
    hosts.any(|host| has_name(host) && sends_here(host)) && !of.site.listen.iter().all(is_local)
}

fn guards(
    of: &Of<'_>,
    guards: &Guards,
    place: &dyn Fn(&[&str]) -> Option<crate::places::Place>,
    found: &mut Vec<Diagnostic>,
) {
    if let CorsRule::Rules(rules) = &guards.cors
        && rules.credentials
    {
        let open = match &rules.origins {
            AllowedOrigins::Any => true,
            AllowedOrigins::Inherited => {
                !matches!(of.model.security.allowed_origins, AllowedOrigins::Only(_))
            }
            AllowedOrigins::Only(_) => false,
        };
        if open {
            let message = "pages of any origin may act as your users, and read what they may see";
            let at = place(&["access_control", "allow_credentials"]);
            let at = at.or_else(|| place(&["access_control"]));
            let mut finding = Diagnostic::lint(Rule::OpenCors, at, message);
            finding.help.push("name the origins: `allow_origins = [\"https://…\"]`".to_owned());
            found.push(finding);
        }
    }
    if guards.auth.is_empty() {
        return;
    }
    let secret = guards.auth.iter().any(|auth| !matches!(auth, Auth::Fields(_)));
    let plain = of.site.tls.is_none()
        && of.site.redirect_to_https.is_none()
        && of.model.security.trusted_proxies.is_empty()
        && !of.site.listen.iter().all(is_local);
    if secret && plain {
        let message = format!("`{}` asks for credentials over plain HTTP", of.site.name);
        found.push(Diagnostic::lint(Rule::PlainCredentials, place(&["auth"]), message));
    }
    for auth in &guards.auth {
        if let Some(message) = weak(auth) {
            found.push(Diagnostic::lint(Rule::WeakCredentials, place(&["auth"]), message));
        }
    }
}

fn weak(auth: &Auth) -> Option<String> {
    match auth {
        Auth::Basic(basic) => basic.users.iter().find_map(|(user, hash)| match hash {
            PasswordHash::Plain(_) => Some(format!("the password of `{user}` is plain text")),
            PasswordHash::Sha1(_) | PasswordHash::Apr1 { .. } => {
                Some(format!("the hash of `{user}`'s password is quickly guessed from"))
            }
            _ => None,
        }),
        Auth::Jwt(jwt) if jwt.short_secret => {
            Some("the secret of tokens is shorter than their hash".to_owned())
        }
        Auth::Jwt(jwt) if jwt.expiry_optional => {
            Some("a token that never expires is taken".to_owned())
        }
        Auth::Jwt(_) | Auth::Fields(_) => None,
    }
}

/// Nobody but this machine comes in there.
fn is_local(listen: &Listen) -> bool {
    match listen {
        Listen::Address(address) => address.ip().is_loopback(),
        Listen::Unix(_) => true,
        Listen::Port(_) => false,
    }
}
