//! Who is believed, who may come in, and what is safe on its way.

use super::{Of, Rule};
use crate::diagnostic::Diagnostic;
use crate::model::{
    AllowedOrigins, Auth, Bound, CorsRule, Guards, HostPattern, Listen, Model, PathMatch,
    RouteAction, Site, TlsVersion, UpstreamAddress,
};
use crate::password::PasswordHash;

const TRANSPORT_SECURITY: &str = "Strict-Transport-Security";

pub(super) fn of_all(model: &Model, found: &mut Vec<Diagnostic>) {
    let everybody = model.security.trusted_proxies.iter().find(|net| net.prefix_len() == 0);
    if let Some(net) = everybody {
        let message = format!(
            "`trusted_proxies` has {net}: any client can say whose request it makes, past access \
             lists, rate limits and logs"
        );
        let place = model.places.top(&["security", "trusted_proxies"]);
        let mut finding = Diagnostic::lint(Rule::TrustsEverybody, place, message);
        finding.help.push("name the addresses of your load balancers".to_owned());
        found.push(finding);
    }
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
    let open = |bound: Bound| match bound {
        Bound::Unlimited => true,
        Bound::Inherited => of.model.security.max_request_size.is_none(),
        Bound::Bytes(_) => false,
    };
    let mut routes = of.site.routes.iter().enumerate();
    let route = routes.find(|(_, route)| {
        matches!(route.action, RouteAction::Upstream(_)) && open(route.max_request_size)
    });
    if let Some((index, route)) = route {
        let message = format!("`{}` passes on bodies of any length", route.path.text());
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
            && other.hosts.iter().any(|host| site.hosts.iter().any(|own| meet(own, host)))
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
            path => match &route.path {
                // Below itself, so the redirect meets the route again.
                PathMatch::Prefix(own) | PathMatch::StartsWith(own) => {
                    own == path && !path.contains('$')
                }
                PathMatch::Exact(own) => own == path,
                PathMatch::Regex { .. } | PathMatch::Never => false,
            },
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

/// An upstream that is a listener of this configuration which sends everybody to https.
fn into_itself(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    for pool in of.site.proxy.iter().flat_map(|proxy| &proxy.pools) {
        for (nth, upstream) in pool.upstreams.iter().enumerate() {
            let UpstreamAddress::Tcp { host, port } = &upstream.address else { continue };
            let here = host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
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
                    && site.hosts.iter().any(|host| of.site.hosts.iter().any(|own| meet(own, host)))
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
        if to_host(to) && route.hosts.is_empty() {
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

fn tls(of: &Of<'_>, found: &mut Vec<Diagnostic>) {
    let Some(tls) = &of.site.tls else { return };
    if tls.policy.max_version < TlsVersion::Tls13 {
        let place = of.place(&["ssl", "max_version"]);
        let message = format!("`{}` does not take TLS 1.3", of.site.name);
        found.push(Diagnostic::lint(Rule::WeakTls, place, message));
    }
    let has_hsts = of
        .site
        .response_headers
        .iter()
        .chain(&of.model.security.security_headers)
        .any(|(name, _)| name.eq_ignore_ascii_case(TRANSPORT_SECURITY));
    if !has_hsts && tls.policy.client_auth.is_none() {
        let message = format!("browsers are not told to use TLS only for `{}`", of.site.name);
        let mut finding = Diagnostic::lint(Rule::MissingHsts, of.place(&["ssl"]), message);
        finding.help.push("set `hsts = true` in `[sites.ssl]`".to_owned());
        found.push(finding);
    }
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

/// There is a host that both match.
fn meet(one: &HostPattern, other: &HostPattern) -> bool {
    let below = |name: &str, suffix: &str| {
        name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
    };
    match (one, other) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(one), HostPattern::Exact(other)) => one == other,
        (HostPattern::Exact(name), HostPattern::Wildcard(suffix))
        | (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => below(name, suffix),
        (HostPattern::Wildcard(one), HostPattern::Wildcard(other)) => {
            one == other || below(one, other) || below(other, one)
        }
    }
}
