//! From a request to what becomes of it, step by step as serving goes.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use config::model::{Listen, Outcome};
use config::places::Place;
use net::stream::Peer;
use net::timer::Tick;
use wire::field::FieldId;
use wire::forwarded::client_address;
use wire::head::RequestHead;
use wire::host::Host;
use wire::target::{Target, parse_target};

use super::asked::{Asked, Written};
use super::pools::{self, For};
use super::settings::{self, Where};
use super::{Candidate, Explanation, ListenerFound, RouteFound, SiteFound};
use crate::auth::Presented;
use crate::buffering;
use crate::connection::ClientAddress;
use crate::decide::{Action, Decision, Request, Trace, decide};
use crate::files::{Answer, Body, FileCache};
use crate::filters::Edits;
use crate::guards::look::{Looked, Seen, look};
use crate::guards::{Says, Verdict};
use crate::local::{self, Question};
use crate::respond;
use crate::routes::{Against, Fields, LocalAction, Route, RouteAction};
use crate::snapshot::{Fit, Listener, Site, Snapshot};
use crate::websocket;

/// Stands for the id that a request gets when it is served.
const REQUEST_ID: &[u8] = b"(request id)";

/// Explains what would become of a request that was written out.
pub(super) fn explain(snapshot: &Snapshot, asked: &Asked, written: &Written) -> Explanation {
    let mut out = Explanation::default();
    out.request.method.clone_from(&asked.method);
    out.request.url.clone_from(&asked.url);
    out.request.client = Some(asked.client);
    let (head, bytes) = (&written.head, &written.bytes[..]);
    if let Some((status, why)) = written.refused {
        out.request.fault = Some(why);
        out.refuse(status, format!("refused before anything else: {why}"));
        return out;
    }
    let authority = head.host.map(|host| host.of(bytes)).unwrap_or_default();
    let host = Host::parse(authority).ok();
    let host = host.as_ref().map_or("", Host::name);
    out.request.host = host.to_owned();
    out.request.authority = text(authority);
    if written.has_fragment {
        out.notes.push("what begins with `#` stays with the client".to_owned());
    }
    let Some(listener) = out.listen(snapshot, written, host) else { return out };
    if listener.tls && !written.tls {
        out.refuse(400, "a plain HTTP request to a TLS port".to_owned());
        return out;
    }
    let method = head.method.of(bytes);
    let target = parse_target(method, head.target.of(bytes), snapshot.allow_encoded_slashes);
    let target = match target {
        Ok(target) => target,
        Err(fault) => {
            out.request.fault = Some(fault.reason());
            out.refuse(400, format!("refused: {}", fault.reason()));
            return out;
        }
    };
    out.request.path = text(&target.path);
    out.request.query = target.query.map(text);
    let peer_trusted = snapshot.trusted_proxies.iter().any(|net| net.contains(&asked.client));
    let client = client(snapshot, asked.client, head, bytes);
    let forwarded = head.get(FieldId::XForwardedProto).map(|field| field.value.of(bytes));
    let says_https = forwarded.is_some_and(|proto| proto.eq_ignore_ascii_case(b"https"));
    let secure = listener.tls || peer_trusted && says_https;
    out.request.client = Some(client);
    out.request.secure = secure;
    // A connection is bound to the TLS of the name that it was opened for.
    let opened_for = written.server_name.as_deref().filter(|_| listener.tls).unwrap_or(host);
    let request = Request {
        listener: listener.number,
        method,
        host,
        authority,
        path: &target.path,
        query: target.query,
        fields: Fields::of(head, bytes),
        secure,
        policy: snapshot.policy_of(listener.site_for(opened_for)),
        upgrade: head.upgrade,
    };
    let mut trace = Trace::on();
    let met = decide(snapshot, &request, &mut trace);
    out.steps = trace.steps().iter().map(ToString::to_string).collect();
    let Some(met) = met else {
        out.refuse(404, "the listener has no site".to_owned());
        return out;
    };
    let peer = Peer::Ip(SocketAddr::new(asked.client, 0));
    let this = This {
        snapshot,
        listener,
        head,
        bytes,
        target: &target,
        client,
        peer: ClientAddress::new(&peer),
        peer_trusted,
        files: RefCell::new(FileCache::new()),
        site: snapshot.sites.iter().position(|site| std::ptr::eq(site, met.site)).unwrap_or(0),
    };
    this.find_site(&mut out, met.site, host);
    this.candidates(&mut out, &met, &request);
    this.rounds(&mut out, met, &request);
    out
}

/// The client's address: the right-most of X-Forwarded-For and the peer that is not trusted.
fn client(snapshot: &Snapshot, peer: IpAddr, head: &RequestHead, bytes: &[u8]) -> IpAddr {
    let trusted = |ip| snapshot.trusted_proxies.iter().any(|net| net.contains(&ip));
    let said = head.fields.iter().filter(|field| field.id == FieldId::XForwardedFor);
    client_address(peer, said.map(|field| field.value.of(bytes)), trusted)
}

/// A request, and where it came in.
pub(super) struct This<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) listener: &'a Listener,
    pub(super) head: &'a RequestHead,
    pub(super) bytes: &'a [u8],
    pub(super) target: &'a Target<'a>,
    pub(super) client: IpAddr,
    pub(super) peer: ClientAddress,
    pub(super) peer_trusted: bool,
    files: RefCell<FileCache>,
    /// Index of the site that answers.
    pub(super) site: usize,
}

impl Explanation {
    fn refuse(&mut self, status: u16, action: String) {
        self.status = Some(status);
        self.action = action;
    }

    /// Finds the listener that the request comes in by.
    fn listen<'s>(
        &mut self,
        snapshot: &'s Snapshot,
        written: &Written,
        host: &str,
    ) -> Option<&'s Listener> {
        let port = |listener: &Listener| match &listener.listen {
            _ if listener.port != 0 => listener.port,
            Listen::Port(port) => *port,
            Listen::Address(address) => address.port(),
            Listen::Unix(_) => 0,
        };
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let fits = |listener: &&Listener| {
            let (same_port, same_tls) =
                (port(listener) == written.port, listener.tls == written.tls);
            let first =
                if written.names_port { (same_port, same_tls) } else { (same_tls, same_port) };
            // As the kernel does: who is bound to the very address comes first.
            let bound = match (&listener.listen, ip) {
                (Listen::Address(address), Some(ip)) if address.ip() == ip => 2,
                (Listen::Address(address), Some(_)) if !address.ip().is_unspecified() => 0,
                _ => 1,
            };
            (first, bound, listener.found(host).1)
        };
        let all = snapshot.listeners.iter().filter(|listener| !listener.for_challenges);
        // The first of those that are left.
        let best = all.clone().rev().max_by_key(fits);
        let Some(listener) = best else {
            self.refuse(404, "nothing listens".to_owned());
            return None;
        };
        let written_out = |listener: &Listener| match &listener.listen {
            Listen::Port(_) => format!(":{}", port(listener)),
            Listen::Address(address) => SocketAddr::new(address.ip(), port(listener)).to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        let listen = written_out(listener);
        let name = |listener: &Listener| {
            snapshot.sites.get(listener.site_for(host)).map_or("", |site| &*site.name)
        };
        let beside = all.filter(|one| port(one) == port(listener) && one.tls == listener.tls);
        for other in beside.filter(|other| name(other) != name(listener)) {
            self.notes.push(format!(
                "{} has another site for it, `{}`: the address that a client connects to decides",
                written_out(other),
                name(other)
            ));
        }
        if port(listener) != written.port {
            self.notes.push(format!(
                "nothing listens at port {} that fits; {listen} is taken instead",
                written.port
            ));
        }
        if written.tls && !listener.tls {
            self.notes.push(format!("{listen} does not speak TLS: taken as plain HTTP"));
        }
        self.listener = Some(ListenerFound { listen, tls: listener.tls });
        Some(listener)
    }
}

impl<'a> This<'a> {
    fn find_site(&self, out: &mut Explanation, site: &Site, host: &str) {
        let how = match self.listener.found(host).1 {
            Fit::Exact => format!("`{host}` is one of its hosts"),
            Fit::Wildcard(length) => {
                let suffix = host.len().checked_sub(length).and_then(|at| host.get(at..));
                format!("`*.{}` is one of its hosts", suffix.unwrap_or_default())
            }
            Fit::Any => "it answers to any host".to_owned(),
            Fit::Default => format!("no site has the host `{host}`, and it is the default"),
        };
        let place = self.snapshot.places.site(self.site, &[]);
        out.site = Some(SiteFound { name: site.name.clone(), how, place });
    }

    /// Where a route is written, by its address.
    fn route_index(&self, site: &Site, route: &Route) -> Option<usize> {
        site.routes.routes().iter().position(|one| std::ptr::eq(one, route))
    }

    fn candidates(&self, out: &mut Explanation, met: &Decision<'_>, request: &Request<'_>) {
        let site = met.site;
        for (index, route) in site.routes.routes().iter().enumerate() {
            let takes = met.route.is_some_and(|taken| std::ptr::eq(taken, route));
            let why = match (takes, route.against(request), met.route) {
                (true, ..) => String::new(),
                (_, Some(Against::Path(why) | Against::Condition(why)), _) => why,
                (_, None, Some(taken)) => site.routes.why_first(taken, route),
                (_, None, None) => match met.action {
                    Action::Health(_) => "Ravelin answers that path itself".to_owned(),
                    Action::ToHttps(_) => "the site sends plain requests to https".to_owned(),
                    _ => "the request is answered before routes are asked".to_owned(),
                },
            };
            out.routes.push(Candidate {
                name: route.name.clone(),
                kind: route.kind(),
                takes,
                why,
                place: self.snapshot.places.route(self.site, index, &[]),
            });
        }
    }

    /// What guards say, and which route has it in the end.
    fn rounds(&self, out: &mut Explanation, met: Decision<'a>, request: &Request<'_>) {
        let seen = Seen {
            presented: Presented { head: self.head, bytes: self.bytes, query: self.target.query },
            framing: self.head.framing,
            client: Some(self.client),
        };
        let (mut met, mut passed_on) = (met, false);
        // Whoever could not prove enough need not prove it where that leads; at every other route the
        // site asks until it has been told.
        let (mut excused, mut site_proved) = (false, false);
        let mut proved = Vec::new();
        loop {
            let mut looked = look(&seen, request, &met, (passed_on, !excused && !site_proved));
            proved.append(&mut looked.proved);
            self.socket(&met, request, &mut looked);
            for says in std::mem::take(&mut looked.says) {
                let place = self.place_of(&met, &says);
                out.guards.push((says, place));
            }
            let outcome = match (&looked.ended, &met.action) {
                (Some((413, ..)), _) => None,
                (Some((_, outcome, _)), _) => Some(*outcome),
                (None, Action::Malformed(..)) => Some(Outcome::ClientError),
                (None, Action::Redirect(..)) => Some(Outcome::Redirected),
                (None, _) => None,
            };
            let next = outcome.and_then(|outcome| Some((outcome, met.next(outcome, request)?)));
            let Some((outcome, next)) = next else {
                return self.finish(out, &met, request, looked, &proved);
            };
            let name = |route: Option<&Route>| route.map_or("", |route| &route.name).to_owned();
            out.passed_on.push((name(met.route), outcome, name(next.route)));
            site_proved |= looked.site_proved;
            excused = outcome == Outcome::Unauthorized;
            (met, passed_on) = (next, true);
        }
    }

    /// What the route says to a request that asks for a WebSocket, or does not.
    fn socket(&self, met: &Decision<'_>, request: &Request<'_>, looked: &mut Looked) {
        let Action::Proxy(matched) = &met.action else { return };
        let Some(settings) = matched.route.websocket.as_ref() else { return };
        if looked.ended.is_some() {
            return;
        }
        let how = (request.secure, matched.upgrade);
        let denied = websocket::look(settings, self.head, self.bytes, how);
        let (words, verdict) = match &denied {
            Some(denied) if denied.answer.status == 426 => {
                ("takes nothing but WebSockets", Verdict::Ends(426))
            }
            Some(denied) => {
                ("the origin is not among those allowed", Verdict::Ends(denied.answer.status))
            }
            None if matched.upgrade => ("admits the WebSocket", Verdict::Passes),
            None => return,
        };
        looked.says.push(Says {
            guard: "websocket",
            of_site: false,
            words: words.to_owned(),
            verdict,
        });
        looked.ended = denied
            .map(|denied| (denied.answer.status, denied.outcome, denied.answer.fields.to_vec()));
    }

    /// Where what a guard goes by is written.
    fn place_of(&self, met: &Decision<'_>, says: &Says) -> Option<Place> {
        let places = &self.snapshot.places;
        let route = || {
            let index = self.route_index(met.site, met.route?)?;
            places.route(self.site, index, &[says.guard])
        };
        let security = match says.guard {
            "max_request_size" => places.top(&["security", "max_request_size"]),
            "rate_limit" => places.top(&["security", "rate_limit"]),
            _ => None,
        };
        let of_site = || places.site(self.site, &[says.guard]);
        match says.of_site {
            true => of_site().or(security),
            false => route().or_else(of_site).or(security),
        }
    }

    fn finish(
        &self,
        out: &mut Explanation,
        met: &Decision<'a>,
        request: &Request<'_>,
        looked: Looked,
        proved: &[u8],
    ) {
        let route = met.route.and_then(|route| Some((self.route_index(met.site, route)?, route)));
        out.route = route.map(|(index, route)| RouteFound {
            name: route.name.clone(),
            called: route.called.clone(),
            place: self.snapshot.places.route(self.site, index, &[]),
        });
        if out.guards.iter().any(|(says, _)| says.verdict == Verdict::Unknown) {
            out.notes.push(
                "what follows holds if the credentials are right: passwords are not checked here"
                    .to_owned(),
            );
        }
        let at = Where { snapshot: self.snapshot, site: self.site, route: route.map(|(at, _)| at) };
        if let Some((status, outcome, fields)) = looked.ended {
            let answer = Answer::error(status).with_fields(fields);
            out.action = format!("answered {status} {}", respond::reason(status));
            self.answered(out, answer, met.edits(outcome), &looked.lines);
            settings::of_clients(out, &at, met);
            return;
        }
        settings::of_clients(out, &at, met);
        if let Action::Proxy(matched) = &met.action {
            if buffering::is_too_long(self.head.framing, matched) {
                out.action = "answered 413: the body is longer than `buffering.max`".to_owned();
                settings::of_upstreams(out, &at, matched);
                let edits = met.edits(Outcome::ClientError);
                self.answered(out, Answer::error(413), edits, &looked.lines);
                return;
            }
            out.action = match matched.upgrade {
                true => "passed on to an upstream, as a WebSocket".to_owned(),
                false => "passed on to an upstream".to_owned(),
            };
            let edits = matched.route.response(Outcome::Success);
            out.response = fields_of(&[&looked.lines[..], &written(edits)].concat());
            out.response_without = edits.dropped_names();
            pools::find(out, &For { this: self, matched, request, proved, at: &at });
            return;
        }
        out.action = described(met);
        let answer = self.answer(met);
        let edits = match met.action {
            Action::Local(route, _) => route.response(Outcome::Success),
            Action::Redirect(route, ..) => route.response(Outcome::Redirected),
            Action::Malformed(route, _) => route.response(Outcome::ClientError),
            _ => &met.site.response,
        };
        self.answered(out, answer, edits, &looked.lines);
    }

    fn answer(&self, met: &Decision<'a>) -> Answer {
        let question = Question {
            snapshot: self.snapshot,
            head: self.head,
            bytes: self.bytes,
            target: self.target,
            tls: self.listener.tls,
            files: &self.files,
            now: Tick::now().as_millis(),
        };
        let host = Host::parse(question.authority()).ok();
        let host = host.as_ref().map_or("", Host::name);
        local::answer_to(&question, Some(&met.action), Some(met.site), host)
    }

    /// Notes what Ravelin answers itself.
    fn answered(&self, out: &mut Explanation, answer: Answer, edits: &Edits, lines: &[u8]) {
        let status = answer.status;
        let answer = match (&answer.body, status) {
            (Body::Empty, 400..) => {
                let accept = self.head.get(FieldId::Accept);
                let accept = accept.map(|field| field.value.of(self.bytes)).unwrap_or_default();
                respond::error(status, accept, REQUEST_ID).with_fields_of(answer)
            }
            _ => answer,
        };
        let server = match edits.dropped().contains(FieldId::Server) {
            true => &[][..],
            false => &self.snapshot.server_line,
        };
        let all = [server, &answer.fields, lines, &written(edits)].concat();
        out.status = Some(status);
        out.response = fields_of(&all);
        let location = out.response.iter().find(|(name, _)| name.eq_ignore_ascii_case("location"));
        out.location = location.map(|(_, value)| value.clone());
    }
}

/// The field lines that edits set.
fn written(edits: &Edits) -> Vec<u8> {
    let mut lines = Vec::new();
    edits.write(REQUEST_ID, &mut lines);
    lines
}

/// What is done where nothing is passed on.
fn described(met: &Decision<'_>) -> String {
    let root = |route: &Route| match &route.action {
        RouteAction::Local(LocalAction::Files(files)) => files.root_path().display().to_string(),
        _ => String::new(),
    };
    match &met.action {
        Action::Proxy(_) => "passed on to an upstream".to_owned(),
        Action::Redirect(..) => "redirected by `redirects` of the route".to_owned(),
        Action::Local(route, LocalAction::Files(_)) => {
            format!("answered from files in {}", root(route))
        }
        Action::Local(_, LocalAction::Redirect { .. }) => "redirected by the route".to_owned(),
        Action::Local(_, LocalAction::Respond { .. }) => "answered by the route".to_owned(),
        Action::Files => "answered from the site's files".to_owned(),
        Action::Health(_) => "answered by Ravelin: its own health".to_owned(),
        Action::ToHttps(_) => "redirected to https, as the site wants it".to_owned(),
        Action::AddSlash => "redirected to the same path with a slash at its end".to_owned(),
        Action::ServerOptions => "answered by Ravelin: OPTIONS of the server".to_owned(),
        Action::Refuse(404) => "no route takes it, and there are no files".to_owned(),
        Action::Refuse(400) => {
            "a route would take it but for its conditions (`mismatch = 400`)".to_owned()
        }
        Action::Refuse(421) => {
            "refused: the connection is for another site, whose TLS has other rules".to_owned()
        }
        Action::Refuse(status) => format!("refused: {}", respond::reason(*status)),
        Action::Malformed(_, fault) => {
            format!("refused: what the route makes of the path is a {}", fault.reason())
        }
        Action::NotAllowed(methods) => {
            format!("refused: the methods taken are {}", methods.join(", "))
        }
    }
}

/// Field lines as names and values.
pub(super) fn fields_of(lines: &[u8]) -> Vec<(String, String)> {
    let lines = lines.split(|byte| *byte == b'\n');
    let pairs = lines.filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((text(name), text(value.get(1..)?.trim_ascii())))
    });
    pairs.collect()
}

/// Bytes for people.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
