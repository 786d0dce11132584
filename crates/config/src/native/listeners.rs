//! What concerns the sites of one listener together: no host twice, one default, TLS for all or none.

use std::collections::BTreeMap;

use crate::decode::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{HostPattern, Listen, Site};
use crate::source::Span;

use super::connections::AGREED;
use super::site::Draft;

/// Checks the sites against each other and settles which are the defaults.
pub(super) fn settle(context: &Context<'_>, drafts: Vec<Draft>) -> Vec<Site> {
    repeated_hosts(context, &drafts);
    let listeners = by_listener(&drafts);
    for (listen, sites) in &listeners {
        several_defaults(context, listen, sites, &drafts);
        mixed(context, listen, sites, &drafts);
        different(context, listen, sites, &drafts);
    }
    let mut sites: Vec<Site> = drafts.into_iter().map(|draft| draft.site).collect();
    for index in implied_defaults(&listeners, &sites) {
        if let Some(site) = sites.get_mut(index) {
            site.default = true;
        }
    }
    sites
}

/// The sites of each listener by index, in declared order, with the place that names the listener.
fn by_listener(drafts: &[Draft]) -> BTreeMap<Listen, Vec<(usize, Span)>> {
    let mut listeners: BTreeMap<Listen, Vec<(usize, Span)>> = BTreeMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        for (listen, place) in draft.site.listen.iter().zip(&draft.listen) {
            listeners.entry(listen.clone()).or_default().push((index, *place));
        }
    }
    listeners
}

fn repeated_hosts(context: &Context<'_>, drafts: &[Draft]) {
    let mut seen: BTreeMap<(&Listen, &HostPattern), (Span, &str)> = BTreeMap::new();
    for draft in drafts {
        for (host, place) in draft.site.hosts.iter().zip(&draft.hosts) {
            for listen in &draft.site.listen {
                if let Some((first, other)) = seen.get(&(listen, host)) {
                    let at = shown(listen);
                    let message = format!("two sites answer to {} at {at}", host_shown(host));
                    context.push(
                        Diagnostic::error(Code::DuplicateHost, *place, message)
                            .label(format!("site `{}`", draft.site.name))
                            .also(*first, format!("site `{other}`"))
                            .help("give one of them another host name or port"),
                    );
                    break;
                }
                seen.insert((listen, host), (*place, &draft.site.name));
            }
        }
    }
}

fn several_defaults(
    context: &Context<'_>,
    listen: &Listen,
    sites: &[(usize, Span)],
    drafts: &[Draft],
) {
    let mut defaults = sites.iter().filter_map(|(index, _)| drafts.get(*index)?.default);
    let Some(first) = defaults.next() else { return };
    for again in defaults {
        let message = format!("more than one default site at {}", shown(listen));
        context.push(
            Diagnostic::error(Code::SeveralDefaults, again, message)
                .label("a second one")
                .also(first, "the first one")
                .help("only one site can take the requests that no other site's host matches"),
        );
    }
}

/// What all sites of a listener have to agree about: it is settled before a request names its site.
fn mixed(context: &Context<'_>, listen: &Listen, sites: &[(usize, Span)], drafts: &[Draft]) {
    type Of = fn(&Site) -> bool;
    let rules: [(Of, &str, &str, &str); 3] = [
        (|site| site.tls.is_some(), "TLS", "plain HTTP", "TLS"),
        (|site| site.proxy_protocol, "the PROXY protocol", "without", "`proxy_protocol = true`"),
        (|site| site.http2_cleartext, "plain HTTP/2", "without", "`h2c = true`"),
    ];
    for (of, what, without, with) in rules {
        let find = |wanted: bool| {
            let is =
                |index: usize| drafts.get(index).is_some_and(|draft| of(&draft.site) == wanted);
            sites.iter().find(|(index, _)| is(*index))
        };
        if let (Some((_, has)), Some((_, has_not))) = (find(true), find(false)) {
            let message = format!("sites with and without {what} at {}", shown(listen));
            context.push(
                Diagnostic::error(Code::Conflict, *has_not, message)
                    .label(without)
                    .also(*has, with)
                    .help("a port speaks one of them; move one site to another port"),
            );
        }
    }
}

/// The same of what sites say about connections, by values.
fn different(context: &Context<'_>, listen: &Listen, sites: &[(usize, Span)], drafts: &[Draft]) {
    let mut members = sites.iter().filter_map(|(index, place)| Some((drafts.get(*index)?, *place)));
    let Some((first, first_place)) = members.next() else { return };
    let others: Vec<(&Draft, Span)> = members.collect();
    for (number, (key, agrees)) in AGREED.iter().enumerate() {
        let differs = |(other, _): &&(&Draft, Span)| {
            !agrees(&first.site.connections, &other.site.connections)
        };
        let Some((other, other_place)) = others.iter().find(differs) else { continue };
        let place = |draft: &Draft, listen: Span| {
            let written = draft.connections.get(number).copied().flatten();
            match written {
                Some(place) => (place, format!("site `{}`", draft.site.name)),
                None => (listen, format!("site `{}`, without `{key}`", draft.site.name)),
            }
        };
        let (at, label) = place(other, *other_place);
        let (first_at, first_label) = place(first, first_place);
        let message = format!("sites with different `{key}` at {}", shown(listen));
        context.push(
            Diagnostic::error(Code::Conflict, at, message)
                .label(label)
                .also(first_at, first_label)
                .help("connections are the listener's, whatever site they are for: say the same in all of its sites"),
        );
    }
}

/// The first site of each listener without an explicit default; not where that would give another
/// listener of the site a second one.
fn implied_defaults(
    listeners: &BTreeMap<Listen, Vec<(usize, Span)>>,
    sites: &[Site],
) -> Vec<usize> {
    let mut default_of: BTreeMap<&Listen, usize> = BTreeMap::new();
    for (listen, members) in listeners {
        let explicit =
            members.iter().find(|(index, _)| sites.get(*index).is_some_and(|site| site.default));
        if let Some((index, _)) = explicit {
            default_of.insert(listen, *index);
        }
    }
    let mut implied = Vec::new();
    for members in listeners.values() {
        let Some((first, _)) = members.first() else { continue };
        let Some(site) = sites.get(*first) else { continue };
        let free = site
            .listen
            .iter()
            .all(|listen| default_of.get(listen).is_none_or(|other| other == first));
        if free {
            site.listen.iter().for_each(|listen| _ = default_of.insert(listen, *first));
            implied.push(*first);
        }
    }
    implied
}

fn shown(listen: &Listen) -> String {
    match listen {
        Listen::Port(port) => format!("port {port}"),
        Listen::Address(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn host_shown(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => format!("`{name}`"),
        HostPattern::Wildcard(name) => format!("`*.{name}`"),
        HostPattern::Any => "any host".to_owned(),
    }
}
