//! How an explanation looks: aligned text for people, JSON for tools.

use std::fmt::Write as _;

use config::model::Outcome;
use config::places::Place;
use serde_json::{Value, json};

use super::{Candidate, Explanation, MemberFound, PoolFound};
use crate::guards::Verdict;
use crate::log::steers;

/// Routes whose paths are others are counted where there are more of them, and not shown.
const OTHERS_MAX: usize = 12;

/// Routes in JSON.
const ROUTES_MAX: usize = 2000;

/// Where the second column begins.
const COLUMN: usize = 10;

/// Terminal colours, or nothing.
struct Paint(bool);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn doubt(&self, text: &str) -> String {
        self.with("33", text)
    }
}

/// Lines of columns that stand below each other.
#[derive(Default)]
struct Rows(Vec<(String, Vec<String>, String)>);

impl Rows {
    /// A row with a mark before it and something faint behind it.
    fn add<const N: usize>(&mut self, mark: String, cells: [String; N], behind: String) {
        self.0.push((mark, cells.map(|cell| visible(&cell)).to_vec(), visible(&behind)));
    }

    fn write(self, out: &mut String, paint: &Paint) {
        let columns = self.0.iter().map(|(_, cells, _)| cells.len()).max().unwrap_or(0);
        let width = |column: usize| {
            let of = self.0.iter().filter_map(|(_, cells, _)| cells.get(column));
            of.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (mark, cells, behind) in &self.0 {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                _ = write!(line, "{cell:width$}  ");
            }
            let line = line.trim_end();
            let used = line.chars().count();
            let all: usize = widths.iter().map(|width| width + 2).sum();
            match behind.is_empty() {
                true => _ = writeln!(out, "  {mark} {line}"),
                false => {
                    let gap = " ".repeat(all.saturating_sub(used).max(2));
                    _ = writeln!(out, "  {mark} {line}{gap}{}", paint.dim(behind));
                }
            }
        }
    }
}

/// Text for people.
pub(super) fn text(explained: &Explanation, color: bool) -> String {
    let paint = Paint(color);
    let mut out = String::new();
    head(&mut out, explained, &paint);
    candidates(&mut out, explained, &paint);
    guards(&mut out, explained, &paint);
    action(&mut out, explained, &paint);
    explained.pools.iter().for_each(|found| pool(&mut out, found, &paint));
    messages(&mut out, explained, &paint);
    if !explained.settings.is_empty() {
        title(&mut out, "limits", "", &paint);
        let mut rows = Rows::default();
        for setting in &explained.settings {
            let place = setting.place.as_ref().map_or_else(|| "default".to_owned(), shown);
            rows.add(" ".to_owned(), [setting.name.to_owned(), setting.value.clone()], place);
        }
        rows.write(&mut out, &paint);
    }
    for note in &explained.notes {
        title(&mut out, "note", &visible(note), &paint);
    }
    out
}

fn title(out: &mut String, name: &str, text: &str, paint: &Paint) {
    let line =
        format!("{}{}{text}", paint.bold(name), " ".repeat(COLUMN.saturating_sub(name.len())));
    _ = writeln!(out, "{}", line.trim_end());
}

fn head(out: &mut String, explained: &Explanation, paint: &Paint) {
    let request = &explained.request;
    title(out, "request", &visible(&format!("{} {}", request.method, request.url)), paint);
    let mut facts = vec![format!("path {}", request.path)];
    facts.extend(request.query.iter().map(|query| format!("query {query}")));
    facts.push(format!("host {}", request.host));
    facts.extend(request.client.iter().map(|client| format!("client {client}")));
    facts.push(if request.secure { "over TLS" } else { "plain" }.to_owned());
    let facts = match request.fault {
        Some(fault) => format!("refused: {fault}"),
        None => facts.join(", "),
    };
    title(out, "", &visible(&facts), paint);
    if let Some(listener) = &explained.listener {
        let tls = if listener.tls { " (TLS)" } else { "" };
        title(out, "listener", &format!("{}{tls}", listener.listen), paint);
    }
    if let Some(site) = &explained.site {
        let name = paint.bold(&visible(&site.name));
        let place = behind(site.place.as_ref(), paint);
        title(out, "site", &format!("{name}: {}{place}", visible(&site.how)), paint);
    }
    for (from, outcome, to) in &explained.passed_on {
        let words = format!("{from} passes it on to {to}: {}", word(*outcome));
        title(out, "", &visible(&words), paint);
    }
    let route = match &explained.route {
        Some(route) => {
            let called = route.called.as_ref().filter(|called| **called != route.name);
            let called = called.map_or_else(String::new, |name| format!(" ({name})"));
            let place = behind(route.place.as_ref(), paint);
            format!("{}{}{place}", paint.bold(&visible(&route.name)), visible(&called))
        }
        None if explained.site.is_some() => "none".to_owned(),
        None => return,
    };
    title(out, "route", &route, paint);
}

fn candidates(out: &mut String, explained: &Explanation, paint: &Paint) {
    let is_near = |route: &&Candidate| route.takes || !route.why.starts_with("its path");
    let few = explained.routes.len() <= OTHERS_MAX;
    let shown_ones = explained.routes.iter().filter(|route| few || is_near(route));
    let mut rows = Rows::default();
    for route in shown_ones {
        let (mark, why) = match route.takes {
            true => (paint.good("+"), "takes it".to_owned()),
            false => (paint.dim("-"), route.why.clone()),
        };
        let place = route.place.as_ref().map_or_else(String::new, shown);
        rows.add(mark, [route.name.clone(), route.kind.to_owned(), why], place);
    }
    let left_out = explained.routes.len() - rows.0.len();
    if !rows.0.is_empty() {
        title(out, "routes", "", paint);
        rows.write(out, paint);
    }
    if left_out > 0 {
        _ = writeln!(out, "    {}", paint.dim(&format!("{left_out} more, whose paths are others")));
    }
}

fn guards(out: &mut String, explained: &Explanation, paint: &Paint) {
    if explained.guards.is_empty() {
        return;
    }
    title(out, "guards", "", paint);
    let mut rows = Rows::default();
    for (says, place) in &explained.guards {
        let (mark, end) = match says.verdict {
            Verdict::Passes => (paint.good("+"), String::new()),
            Verdict::Unknown => (paint.doubt("?"), String::new()),
            Verdict::Ends(status) => (paint.bad("x"), format!(": {status}")),
        };
        let of = if says.of_site { "site" } else { "route" };
        let place = place.as_ref().map_or_else(|| "default".to_owned(), shown);
        let words = format!("{}{end}", says.words);
        rows.add(mark, [says.guard.to_owned(), of.to_owned(), words], place);
    }
    rows.write(out, paint);
}

fn action(out: &mut String, explained: &Explanation, paint: &Paint) {
    let mut text = visible(&explained.action);
    if let Some(status) = explained.status {
        let shown = status.to_string();
        let shown = if status < 400 { paint.good(&shown) } else { paint.bad(&shown) };
        text = format!("{shown} {text}");
    }
    if let Some(location) = &explained.location {
        text = format!("{text}: {}", visible(location));
    }
    title(out, "action", &text, paint);
}

fn pool(out: &mut String, found: &PoolFound, paint: &Paint) {
    let chance = match found.chance {
        1.0 => String::new(),
        chance => format!(", {:.4} % of requests", chance * 100.0),
    };
    let place = behind(found.place.as_ref(), paint);
    let name = paint.bold(&visible(&found.name));
    let words = visible(&format!(" by {}{chance}, {}", found.why, found.method));
    title(out, "upstream", &format!("{name}{words}{place}"), paint);
    if let Some(closed) = &found.closed {
        title(out, "", &paint.bad(&visible(closed)), paint);
    }
    let mut rows = Rows::default();
    for member in &found.members {
        let mark = match (member.next, member.usable) {
            (true, _) => paint.good(">"),
            (false, true) => paint.good("+"),
            (false, false) => paint.bad("x"),
        };
        let place = member.place.as_ref().map_or_else(String::new, shown);
        rows.add(mark, [member.url.clone(), facts(member)], place);
    }
    rows.write(out, paint);
}

fn facts(member: &MemberFound) -> String {
    let mut facts = Vec::new();
    facts.extend(member.why.clone());
    if member.next {
        facts.push("has the next request".to_owned());
    }
    facts.extend(member.share.map(|share| format!("{:.1} %", share * 100.0)));
    facts.extend(member.score.map(|score| format!("score {score:.1}")));
    facts.push(format!("weight {}", member.weight));
    if member.tier != (0, 0) {
        facts.push(format!("tier {}", member.tier.0));
    }
    facts.push(format!("{} in flight", member.in_flight));
    facts.join(", ")
}

fn messages(out: &mut String, explained: &Explanation, paint: &Paint) {
    if let Some(sent) = &explained.sent {
        title(out, "sends", &visible(&format!("{} {}", sent.method, sent.target)), paint);
        for (name, value) in &sent.added {
            _ = writeln!(out, "  {} {}", paint.good("+"), visible(&format!("{name}: {value}")));
        }
        for name in &sent.removed {
            _ = writeln!(out, "  {} {}", paint.bad("-"), visible(name));
        }
    }
    if explained.response.is_empty() && explained.response_without.is_empty() {
        return;
    }
    let whose = if explained.status.is_some() { "" } else { "what the upstream answers, with" };
    title(out, "response", whose, paint);
    for (name, value) in &explained.response {
        _ = writeln!(out, "  {} {}", paint.good("+"), visible(&format!("{name}: {value}")));
    }
    for name in &explained.response_without {
        _ = writeln!(out, "  {} {}", paint.bad("-"), visible(name));
    }
}

fn shown(place: &Place) -> String {
    place.to_string()
}

fn behind(place: Option<&Place>, paint: &Paint) -> String {
    place.map_or_else(String::new, |place| format!("  {}", paint.dim(&visible(&place.to_string()))))
}

/// Nothing that a request says moves a terminal's cursor.
fn visible(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// An outcome as `on_result` calls it.
fn word(outcome: Outcome) -> &'static str {
    Outcome::ALL.iter().find(|(_, one)| *one == outcome).map_or("", |(word, _)| word)
}

/// For tools.
pub(super) fn json(explained: &Explanation) -> Value {
    let place = |place: &Option<Place>| match place {
        Some(place) => json!({ "file": &*place.file, "line": place.line }),
        None => Value::Null,
    };
    let fields = |fields: &[(String, String)]| -> Value {
        fields.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    let request = &explained.request;
    let routes = explained.routes.iter().take(ROUTES_MAX).map(|route| {
        json!({
            "route": route.name,
            "kind": route.kind,
            "takes": route.takes,
            "why": route.why,
            "place": place(&route.place),
        })
    });
    let guards = explained.guards.iter().map(|(says, at)| {
        let (verdict, status) = match says.verdict {
            Verdict::Passes => ("passes", None),
            Verdict::Unknown => ("unknown", None),
            Verdict::Ends(status) => ("ends", Some(status)),
        };
        json!({
            "guard": says.guard,
            "of": if says.of_site { "site" } else { "route" },
            "says": says.words,
            "verdict": verdict,
            "status": status,
            "place": place(at),
        })
    });
    let pools = explained.pools.iter().map(|found| {
        let members = found.members.iter().map(|member| {
            json!({
                "url": member.url,
                "usable": member.usable,
                "why": member.why,
                "tier": member.tier.0,
                "weight": member.weight,
                "share": member.share,
                "score": member.score,
                "in_flight": member.in_flight,
                "next": member.next,
                "place": place(&member.place),
            })
        });
        json!({
            "pool": found.name,
            "chance": found.chance,
            "why": found.why,
            "method": found.method,
            "closed": found.closed,
            "place": place(&found.place),
            "members": members.collect::<Value>(),
        })
    });
    let settings = explained.settings.iter().map(|setting| {
        json!({ "name": setting.name, "value": setting.value, "place": place(&setting.place) })
    });
    let passed_on = explained
        .passed_on
        .iter()
        .map(|(from, outcome, to)| json!({ "from": from, "outcome": word(*outcome), "to": to }));
    json!({
        "request": {
            "method": request.method,
            "url": request.url,
            "path": request.path,
            "query": request.query,
            "host": request.host,
            "authority": request.authority,
            "client": request.client.map(|client| client.to_string()),
            "secure": request.secure,
            "fault": request.fault,
        },
        "listener": explained.listener.as_ref().map(|listener| {
            json!({ "listen": listener.listen, "tls": listener.tls })
        }),
        "site": explained.site.as_ref().map(|site| {
            json!({ "site": site.name, "how": site.how, "place": place(&site.place) })
        }),
        "route": explained.route.as_ref().map(|route| {
            json!({ "route": route.name, "name": route.called, "place": place(&route.place) })
        }),
        "routes": routes.collect::<Value>(),
        "passed_on": passed_on.collect::<Value>(),
        "guards": guards.collect::<Value>(),
        "action": explained.action,
        "status": explained.status,
        "location": explained.location,
        "pools": pools.collect::<Value>(),
        "sends": explained.sent.as_ref().map(|sent| json!({
            "method": sent.method,
            "target": sent.target,
            "fields": fields(&sent.fields),
            "added": fields(&sent.added),
            "removed": sent.removed,
        })),
        "response": fields(&explained.response),
        "response_without": explained.response_without,
        "limits": settings.collect::<Value>(),
        "steps": explained.steps,
        "notes": explained.notes,
    })
}
