//! The flow of a Pipeline as native routes.
//!
//! A native route has guards in a fixed order, one action, and a way on for each way to end. So the
//! steps from the first one to the one that answers become a route, and what a jump leads to becomes
//! another one that only it leads to. Requests keep the changes of the steps that they have passed, and
//! never come anywhere past a Validator: natively limits and preflights are decided before credentials
//! are checked, so what they lead to asks for them itself.

use std::collections::BTreeMap;

use crate::decode::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, list, number, text};
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

use super::filter::{Filter, Role, entry};
use super::pipeline::{Jump, Pipeline, Step};
use super::rules::Base;

/// Most routes that one path may need: a flow with more ways through it is a mistake.
const ROUTES_MAX: usize = 256;

/// How a request that an upstream answered ends.
const ANSWERED: &str = "success";

/// How requests end natively before their credentials are checked.
const BEFORE_CREDENTIALS: &[&str] = &["rate_limited", "preflight"];

/// Keys of routes that keep requests out.
const KEEP_OUT: &[&str] = &["access", "auth"];

/// Where a route begins: a step, the changes that requests have been through, and who has still to admit
/// them.
#[derive(Clone, PartialEq, Eq)]
struct Start {
    step: usize,
    changes: Vec<usize>,
    owed: Vec<Owed>,
}

/// A step that requests may have come past before it has admitted them.
#[derive(Clone, PartialEq, Eq)]
struct Owed {
    step: usize,
    /// How many of the changes came before it.
    changes: usize,
}

/// Makes the routes of one path: the one that takes its requests, then those that jumps lead to, whose
/// names end with `label`.
pub(super) fn expand(
    context: &Context<'_>,
    pipeline: &Pipeline<'_>,
    base: Base,
    label: &str,
) -> Vec<Node> {
    let first = Start { step: 0, changes: Vec::new(), owed: Vec::new() };
    let rewritten = base.request.has("rewrite");
    let mut ways = Ways { pipeline, label, rewritten, starts: vec![first] };
    let mut routes = Vec::new();
    let mut at = 0;
    while let Some(start) = ways.starts.get(at).cloned() {
        let mut route = match at {
            0 => base.matchers.clone(),
            _ => {
                let mut route = TableNode::at(base.matchers.span());
                route.put("name", text(ways.name(at), base.matchers.span()));
                let kept = base.matchers.entries().iter();
                for entry in kept.filter(|entry| entry.key == "max_request_size") {
                    route.put_at(entry.key.as_str(), entry.key_span, entry.node.clone());
                }
                route
            }
        };
        merge(&mut route, &base.request);
        for filter in start.changes.iter().filter_map(|index| pipeline.filters.get(*index)) {
            merge(&mut route, &filter.part.route);
        }
        ways.route(context, start, &mut route);
        routes.push(route.build());
        at += 1;
        if at == ROUTES_MAX {
            let message = format!("more than {ROUTES_MAX} ways through the flow");
            pipeline.say(context, Diagnostic::error(Code::BadValue, pipeline.place, message));
            break;
        }
    }
    routes
}

struct Ways<'p, 'n> {
    pipeline: &'p Pipeline<'n>,
    label: &'p str,
    /// The path is rewritten before the flow begins.
    rewritten: bool,
    starts: Vec<Start>,
}

/// Where each way to end leads.
#[derive(Default)]
struct Ends(BTreeMap<&'static str, End>);

struct End {
    /// The step; `None` is the end of the flow.
    to: Option<Start>,
    span: Span,
}

impl<'n> Ways<'_, 'n> {
    /// Adds what happens from a step on to a route.
    fn route(&mut self, context: &Context<'_>, start: Start, route: &mut TableNode) {
        let first = self.starts.first() == Some(&start);
        let Start { step, mut changes, mut owed } = start;
        let mut ends = Ends::default();
        self.settle(context, &changes, &owed, route, &mut ends);
        let mut next = Some(step);
        let mut answered = false;
        while let Some((at, step)) = next.and_then(|at| Some((at, self.step(at)?))) {
            let Some(filter) = self.filter(step) else { break };
            if filter.part.role == Role::Answer && answered {
                self.pipeline.say(context, second(step, filter));
                break;
            }
            next = self.after(at, step);
            if self.rewrites(&changes) {
                other_path(step, filter).into_iter().for_each(|it| self.pipeline.say(context, it));
            }
            self.ends(context, filter, step, (&changes, &owed), answered, &mut ends);
            match filter.part.role {
                Role::Guard if self.is_owed(&owed, step.filter) => {}
                Role::Guard => {
                    merge(route, &filter.part.route);
                    if KEEP_OUT.iter().any(|key| filter.part.route.has(key)) {
                        owed.push(Owed { step: at, changes: changes.len() });
                    }
                }
                Role::Request if answered => self.pipeline.say(context, late(step)),
                Role::Request => {
                    merge(route, &filter.part.route);
                    changes.extend(step.filter);
                }
                Role::Answer => {
                    merge(route, &filter.part.route);
                    answered = true;
                    let (changes, owed) = (changes.clone(), Vec::new());
                    let to = next.map(|step| Start { step, changes, owed });
                    ends.0.insert(ANSWERED, End { to, span: step.span });
                }
                Role::Response if first && !answered => self.pipeline.say(context, early(step)),
                Role::Response => {}
            }
        }
        if !answered {
            nobody(context, self.pipeline, step, route);
        }
        self.connect(ends, route);
    }

    /// Lets the steps that have not admitted a request do it in this route, and lead on as they would
    /// have done.
    fn settle(
        &self,
        context: &Context<'_>,
        changes: &[usize],
        owed: &[Owed],
        route: &mut TableNode,
        ends: &mut Ends,
    ) {
        for (at, one) in owed.iter().enumerate() {
            let Some(step) = self.step(one.step) else { continue };
            let Some(filter) = self.filter(step) else { continue };
            let kept = filter.part.route.entries().iter();
            let kept = kept.filter(|entry| KEEP_OUT.contains(&entry.key.as_str())).cloned();
            merge(route, &TableNode::of(kept.collect(), filter.part.route.span()));
            let (changes, _) = changes.split_at(one.changes.min(changes.len()));
            let (before, _) = owed.split_at(at);
            self.ends(context, filter, step, (changes, before), false, ends);
        }
    }

    fn is_owed(&self, owed: &[Owed], filter: Option<usize>) -> bool {
        owed.iter().any(|one| self.step(one.step).is_some_and(|step| step.filter == filter))
    }

    /// Whether a request has another path after these changes than its client asked for.
    fn rewrites(&self, changes: &[usize]) -> bool {
        let changes = changes.iter().filter_map(|index| self.pipeline.filters.get(*index));
        self.rewritten || changes.into_iter().any(|filter| filter.part.route.has("rewrite"))
    }

    fn step(&self, at: usize) -> Option<&'_ Step<'n>> {
        self.pipeline.flow.get(at)
    }

    fn filter(&self, step: &Step<'n>) -> Option<&'_ Filter<'n>> {
        self.pipeline.filters.get(step.filter?)
    }

    /// The step after one that ended well.
    fn after(&self, at: usize, step: &Step<'_>) -> Option<usize> {
        match step.jumps.iter().find(|jump| jump.result.is_empty()) {
            Some(jump) => jump.to,
            None => Some(at + 1),
        }
    }

    /// Notes where the results of a step lead, for requests with these changes which these steps have
    /// perhaps not admitted yet.
    fn ends(
        &self,
        context: &Context<'_>,
        filter: &Filter<'_>,
        step: &Step<'_>,
        (changes, owed): (&[usize], &[Owed]),
        answered: bool,
        ends: &mut Ends,
    ) {
        for (result, words) in filter.kind.outcomes {
            let jump = step.jumps.iter().find(|jump| jump.result == *result);
            for word in *words {
                let owed = match BEFORE_CREDENTIALS.contains(word) {
                    true => owed.to_vec(),
                    false => Vec::new(),
                };
                let start = |step| Start { step, changes: changes.to_vec(), owed };
                let to = jump.and_then(|jump| jump.to).map(start);
                let end = End { to, span: span(jump, step) };
                if let Some(conflict) = ends.add(word, end).filter(|_| !answered) {
                    self.pipeline.say(context, conflict);
                }
            }
        }
    }

    /// Writes the ways on into a route.
    fn connect(&mut self, ends: Ends, route: &mut TableNode) {
        let mut adapted: BTreeMap<usize, Vec<&'static str>> = BTreeMap::new();
        let mut on_result = TableNode::at(route.span());
        for (word, end) in ends.0 {
            let Some(start) = end.to else { continue };
            let (responses, answers) = self.responses(start.step);
            if !answers || word == ANSWERED {
                for filter in responses {
                    adapted.entry(filter).or_default().push(word);
                }
                continue;
            }
            let at = self.starts.iter().position(|known| *known == start).unwrap_or_else(|| {
                self.starts.push(start);
                self.starts.len() - 1
            });
            on_result.put(word, text(self.name(at), end.span));
        }
        for (filter, words) in adapted {
            let Some(filter) = self.pipeline.filters.get(filter) else { continue };
            let mut change = filter.part.route.clone();
            let span = change.span();
            change.put("when", list(words.iter().map(|word| text(*word, span)), span));
            route.push("response_headers", change);
        }
        if !on_result.is_empty() {
            route.put("on_result", on_result);
        }
    }

    /// The filters for responses from a step on, and whether one for requests is among them.
    fn responses(&self, start: usize) -> (Vec<usize>, bool) {
        let mut found = Vec::new();
        let mut next = Some(start);
        while let Some((at, step)) = next.and_then(|at| Some((at, self.step(at)?))) {
            let Some(filter) = self.filter(step) else { break };
            match filter.part.role {
                Role::Response => found.extend(step.filter),
                Role::Answer => return (found, true),
                Role::Guard | Role::Request => {}
            }
            next = self.after(at, step);
        }
        (found, false)
    }

    /// What the route of a start is called.
    fn name(&self, at: usize) -> String {
        let step = self.starts.get(at).and_then(|start| self.step(start.step));
        let step = step.map_or("", |step| step.name);
        let again = self
            .starts
            .iter()
            .take(at)
            .filter(|start| self.step(start.step).is_some_and(|other| other.name == step));
        let again = match again.count() {
            0 => String::new(),
            count => format!(" ({})", count + 1),
        };
        format!("{}/{step}{}{again}", self.pipeline.name, self.label)
    }
}

fn span(jump: Option<&Jump<'_>>, step: &Step<'_>) -> Span {
    jump.map_or(step.span, |jump| jump.span)
}

impl Ends {
    /// A native route has one way on for each way to end, whichever step it was.
    fn add(&mut self, word: &'static str, end: End) -> Option<Diagnostic> {
        let Some(first) = self.0.get(word) else {
            self.0.insert(word, end);
            return None;
        };
        let message = "two filters of one kind that lead on in different ways";
        let step = |end: &End| end.to.as_ref().map(|to| to.step);
        let (label, help) = match step(first) == step(&end) {
            true => (
                "leads to the same step, with another request",
                "a route has one way on for each result: let both stand behind the same filters",
            ),
            false => (
                "leads elsewhere",
                "a route has one way on for each result: let both lead to the same step",
            ),
        };
        (first.to != end.to).then(|| {
            Diagnostic::error(Code::Conflict, end.span, message)
                .label(label)
                .also(first.span, "than this one does")
                .help(help)
        })
    }
}

fn second(step: &Step<'_>, filter: &Filter<'_>) -> Diagnostic {
    let message = format!("`{}` comes after a filter that has answered", step.name.escape_debug());
    Diagnostic::error(Code::Conflict, step.span, message)
        .label(format!("a {} answers too", filter.kind.name))
        .help("a request has one answer: end the flow before this step with `jumpIf: {\"\": END}`, and lead to it by a result")
}

fn late(step: &Step<'_>) -> Diagnostic {
    let message = format!("`{}` comes after the request was sent", step.name.escape_debug());
    Diagnostic::warning(Code::Unused, step.span, message)
        .label("changes nothing")
        .help("write it before the Proxy")
}

fn early(step: &Step<'_>) -> Diagnostic {
    let message = format!("`{}` comes before there is a response", step.name.escape_debug());
    Diagnostic::error(Code::Conflict, step.span, message)
        .label("Easegress ends here with `responseNotFound`")
        .help("write it after the Proxy")
}

/// What a filter compares with a path that was rewritten before it: natively all of a route compares the
/// path that the client asked for.
fn other_path(step: &Step<'_>, filter: &Filter<'_>) -> Vec<Diagnostic> {
    let message =
        format!("`{}` compares a path that is rewritten before it", step.name.escape_debug());
    let label = "compared here with the path that the client asks for";
    let mut found = Vec::new();
    for (key, of) in [("rate_limit", "path"), ("split", "path"), ("redirects", "regex")] {
        for place in compared(&filter.part.route, key, of) {
            found.push(match key {
                "rate_limit" => Diagnostic::error(Code::Changed, place, message.clone())
                    .label(label)
                    .help("without `rewriteTarget`, and before filters that change the path, it is the same; `{prefix: /}` is every path"),
                _ => Diagnostic::warning(Code::Changed, place, message.clone())
                    .label(label)
                    .help("write it for that path"),
            });
        }
    }
    found
}

/// Where the tables of a list compare paths, if they do not take all of them.
fn compared(route: &TableNode, key: &str, of: &str) -> Vec<Span> {
    let list = route.entries().iter().find(|entry| entry.key == key);
    let Some(Value::Array(items)) = list.map(|entry| &entry.node.value) else { return Vec::new() };
    let every = |node: &Node| matches!(&node.value, Value::String(path) if path == "/");
    let places = items.iter().filter_map(|item| {
        let path = entry(item, of)?;
        let prefix = entry(item, "match").is_some_and(
            |entry| matches!(&entry.node.value, Value::String(word) if word == "starts_with"),
        );
        (!(prefix && every(&path.node))).then_some(path.node.span)
    });
    places.collect()
}

/// A flow without a filter that answers.
fn nobody(context: &Context<'_>, pipeline: &Pipeline<'_>, step: usize, route: &mut TableNode) {
    let place = pipeline.flow.get(step).map_or(pipeline.place, |step| step.span);
    if step == 0 && !route.has("redirects") {
        let message = format!("the Pipeline `{}` answers nothing", pipeline.name.escape_debug());
        let warning = Diagnostic::warning(Code::Unused, place, message)
            .label("what comes to its end is answered 503")
            .help("add a `Proxy` or a `WebSocketProxy`");
        pipeline.say(context, warning);
    }
    route.put("status", number(503, place));
}

/// Adds the keys of one table to another: lists are put together, tables merged, others replaced.
fn merge(into: &mut TableNode, from: &TableNode) {
    for entry in from.entries() {
        match &entry.node.value {
            Value::Array(items) => {
                for item in items {
                    into.push(&entry.key, item.clone());
                }
            }
            Value::Table(entries) => {
                let more = TableNode::of(entries.clone(), entry.node.span);
                let add = if entry.key == "request_headers" { follow } else { merge };
                into.within(&entry.key, entry.node.span, |table| add(table, &more));
            }
            _ => into.put_at(entry.key.as_str(), entry.key_span, entry.node.clone()),
        }
    }
}

/// Adds rules for fields to others that come before them. Natively all that is removed is removed first,
/// so what is removed or set anew is no longer said before; what both add is one line (RFC 9110 section
/// 5.3).
fn follow(rules: &mut TableNode, later: &TableNode) {
    let of_later = |key: &str| {
        let entry = later.entries().iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node.value)
    };
    let mut gone: Vec<&str> = Vec::new();
    if let Some(Value::Array(names)) = of_later("remove") {
        gone.extend(names.iter().filter_map(string));
    }
    if let Some(Value::Table(fields)) = of_later("set") {
        gone.extend(fields.iter().map(|field| field.key.as_str()));
    }
    let place = later.span();
    for key in ["set", "append"] {
        if rules.has(key) {
            rules.within(key, place, |fields| {
                fields.retain(|it| !gone.iter().any(|name| name.eq_ignore_ascii_case(&it.key)));
            });
        }
    }
    rules.retain(|entry| !matches!(&entry.node.value, Value::Table(fields) if fields.is_empty()));
    let mut others = later.clone();
    others.retain(|entry| entry.key != "append");
    merge(rules, &others);
    let Some(Value::Table(more)) = of_later("append") else { return };
    rules.within("append", place, |fields| {
        for field in more {
            let mut node = field.node.clone();
            let same = |it: &Entry| it.key.eq_ignore_ascii_case(&field.key);
            let before =
                fields.entries().iter().find(|it| same(it)).and_then(|it| string(&it.node));
            if let (Some(before), Value::String(value)) = (before, &mut node.value) {
                *value = format!("{before}, {value}");
            }
            fields.retain(|it| !same(it));
            fields.put_at(field.key.as_str(), field.key_span, node);
        }
    });
}

fn string(node: &Node) -> Option<&str> {
    match &node.value {
        Value::String(text) => Some(text),
        _ => None,
    }
}
