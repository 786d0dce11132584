//! The flow of a Pipeline as native routes.
//!
//! A native route has guards in a fixed order, one action, and a way on for each way to end. So the
//! steps from the first one to the one that answers become a route, and what a jump leads to becomes
//! another one that only it leads to. Requests keep the changes of the steps that they have passed.

use std::collections::BTreeMap;

use crate::decode::Context;
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, list, number, text};
use crate::source::Span;
use crate::tree::{Node, Value};

use super::filter::{Filter, Role};
use super::pipeline::{Jump, Pipeline, Step};
use super::rules::Base;

/// Most routes that one path may need: a flow with more ways through it is a mistake.
const ROUTES_MAX: usize = 256;

/// How a request that an upstream answered ends.
const ANSWERED: &str = "success";

/// Where a route begins: a step, and the changes that requests have been through.
#[derive(Clone, PartialEq, Eq)]
struct Start {
    step: usize,
    changes: Vec<usize>,
}

/// Makes the routes of one path: the one that takes its requests, then those that jumps lead to, whose
/// names end with `label`.
pub(super) fn expand(
    context: &Context<'_>,
    pipeline: &Pipeline<'_>,
    base: Base,
    label: &str,
) -> Vec<Node> {
    let mut ways = Ways { pipeline, label, starts: vec![Start { step: 0, changes: Vec::new() }] };
    let mut routes = Vec::new();
    let mut at = 0;
    while let Some(start) = ways.starts.get(at).cloned() {
        let mut route = match at {
            0 => base.matchers.clone(),
            _ => {
                let mut route = TableNode::at(base.matchers.span());
                route.put("name", text(ways.name(at), base.matchers.span()));
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
        let Start { step, mut changes } = start;
        let mut ends = Ends::default();
        let mut next = Some(step);
        let mut answered = false;
        while let Some((at, step)) = next.and_then(|at| Some((at, self.step(at)?))) {
            let Some(filter) = self.filter(step) else { break };
            if filter.part.role == Role::Answer && answered {
                self.pipeline.say(context, second(step, filter));
                break;
            }
            next = self.after(at, step);
            self.ends(context, filter, step, &changes, answered, &mut ends);
            match filter.part.role {
                Role::Guard => merge(route, &filter.part.route),
                Role::Request if answered => self.pipeline.say(context, late(step)),
                Role::Request => {
                    merge(route, &filter.part.route);
                    changes.extend(step.filter);
                }
                Role::Answer => {
                    merge(route, &filter.part.route);
                    answered = true;
                    let to = next.map(|step| Start { step, changes: changes.clone() });
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

    /// Notes where the results of a step lead.
    fn ends(
        &self,
        context: &Context<'_>,
        filter: &Filter<'_>,
        step: &Step<'_>,
        changes: &[usize],
        answered: bool,
        ends: &mut Ends,
    ) {
        for (result, words) in filter.kind.outcomes {
            let jump = step.jumps.iter().find(|jump| jump.result == *result);
            let to =
                jump.and_then(|jump| jump.to).map(|step| Start { step, changes: changes.to_vec() });
            for word in *words {
                let end = End { to: to.clone(), span: span(jump, step) };
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
        (first.to != end.to).then(|| {
            Diagnostic::error(Code::Conflict, end.span, message)
                .label("leads elsewhere")
                .also(first.span, "than this one does")
                .help("a route has one way on for each result: let both lead to the same step")
        })
    }
}

fn second(step: &Step<'_>, filter: &Filter<'_>) -> Diagnostic {
    let message = format!("`{}` comes after a filter that has answered", step.name);
    Diagnostic::error(Code::Conflict, step.span, message)
        .label(format!("a {} answers too", filter.kind.name))
        .help("a request has one answer: end the flow before this step with `jumpIf: {\"\": END}`, and lead to it by a result")
}

fn late(step: &Step<'_>) -> Diagnostic {
    let message = format!("`{}` comes after the request was sent", step.name);
    Diagnostic::warning(Code::Unused, step.span, message)
        .label("changes nothing")
        .help("write it before the Proxy")
}

fn early(step: &Step<'_>) -> Diagnostic {
    let message = format!("`{}` comes before there is a response", step.name);
    Diagnostic::error(Code::Conflict, step.span, message)
        .label("Easegress ends here with `responseNotFound`")
        .help("write it after the Proxy")
}

/// A flow without a filter that answers.
fn nobody(context: &Context<'_>, pipeline: &Pipeline<'_>, step: usize, route: &mut TableNode) {
    let place = pipeline.flow.get(step).map_or(pipeline.place, |step| step.span);
    if step == 0 && !route.has("redirects") {
        let message = format!("the Pipeline `{}` answers nothing", pipeline.name);
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
                into.within(&entry.key, entry.node.span, |table| merge(table, &more));
            }
            _ => into.put_at(entry.key.as_str(), entry.key_span, entry.node.clone()),
        }
    }
}
