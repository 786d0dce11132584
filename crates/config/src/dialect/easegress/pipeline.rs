//! `kind: Pipeline`: filters, their order, and what happens when one of them refuses.

use std::cell::{Cell, RefCell};

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::{Node, Value};

use super::filter::{self, Filter};
use super::notes::Note;
use super::resilience::{self, Policies};
use super::{NAME, Object, VERSION};

/// Where a flow ends.
const END: &str = "END";

pub(super) static PIPELINE: Section = Section {
    path: "Pipeline",
    list: false,
    about: "Filters and their order.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        VERSION,
        now("flow", Kind::Tables(&FLOW), "", ""),
        now("filters", Kind::Texts, "", ""),
        now("resilience", Kind::Texts, "", ""),
        now("data", Kind::Text, "", ""),
    ],
};

static FLOW: Section = Section {
    path: "Pipeline.flow",
    list: true,
    about: "One step.",
    keys: &[
        now("filter", Kind::Text, "required", ""),
        now("alias", Kind::Text, "", ""),
        now("namespace", Kind::Text, "", ""),
        now("jumpIf", Kind::Map, "", ""),
    ],
};

/// A pipeline, decoded.
pub(super) struct Pipeline<'n> {
    pub(super) name: &'n str,
    pub(super) place: Span,
    pub(super) filters: Vec<Filter<'n>>,
    pub(super) flow: Vec<Step<'n>>,
    /// Some path leads to it.
    pub(super) used: Cell<bool>,
    /// Places of its flow about which everything is said.
    pub(super) said: RefCell<Vec<Span>>,
}

/// One step of a flow.
pub(super) struct Step<'n> {
    /// Index of the filter; `None` is `END`.
    pub(super) filter: Option<usize>,
    /// What jumps call it.
    pub(super) name: &'n str,
    pub(super) span: Span,
    /// Where each result leads.
    pub(super) jumps: Vec<Jump<'n>>,
}

/// Where a result leads.
pub(super) struct Jump<'n> {
    /// The result; empty if nothing went wrong.
    pub(super) result: &'n str,
    pub(super) span: Span,
    /// Index of a later step; `None` is `END`.
    pub(super) to: Option<usize>,
}

impl Pipeline<'_> {
    /// Reports something about its flow, once however many paths lead there.
    pub(super) fn say(&self, context: &Context<'_>, finding: Diagnostic) {
        let mut said = self.said.borrow_mut();
        if !finding.span.is_some_and(|span| said.contains(&span)) {
            said.extend(finding.span);
            context.push(finding);
        }
    }

    /// The entries of all its pools.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = Node> + '_ {
        self.used().flat_map(|filter| filter.part.upstreams.iter().cloned())
    }

    /// What holds for each of its pools.
    pub(super) fn pools(&self) -> impl Iterator<Item = Node> + '_ {
        self.used().flat_map(|filter| filter.part.pools.iter().cloned())
    }

    fn used(&self) -> impl Iterator<Item = &Filter<'_>> {
        let used = |index: usize| self.flow.iter().any(|step| step.filter == Some(index));
        self.filters.iter().enumerate().filter(move |(index, _)| used(*index)).map(|(_, it)| it)
    }
}

/// All pipelines.
#[derive(Default)]
pub(super) struct Pipelines<'n> {
    pub(super) all: Vec<Pipeline<'n>>,
    /// Some pipeline's name could not be read.
    pub(super) incomplete: bool,
}

impl<'n> Pipelines<'n> {
    /// The pipeline that a path names. That there is none is said here.
    pub(super) fn find(
        &self,
        context: &Context<'_>,
        name: Option<Spanned<&str>>,
        server: &str,
    ) -> Option<&Pipeline<'n>> {
        let name = name?;
        let found = self.all.iter().find(|pipeline| pipeline.name == name.value);
        if found.is_none() && !self.incomplete {
            let message = format!("there is no Pipeline `{}`", name.value.escape_debug());
            let warning = Diagnostic::warning(Code::UnknownUpstream, name.span, message)
                .label(format!("these requests to `{server}` are answered 503"));
            let names = self.all.iter().map(|pipeline| pipeline.name);
            context.push(match nearest(name.value, names) {
                Some(near) => warning.suggest(name.span, near, format!("did you mean `{near}`?")),
                None => {
                    warning.help("put the Pipeline into this file or into another of the directory")
                }
            });
        }
        if let Some(pipeline) = found {
            pipeline.used.set(true);
        }
        found
    }
}

/// What flows may name beside the filters of their own Pipeline.
pub(super) struct Alone<'o, 'n> {
    /// Those that stand in documents of their own.
    pub(super) filters: &'o [&'o Object<'n>],
    /// What filters are called that could not be read, which is reported.
    pub(super) unread: &'o [&'n str],
}

/// Decodes a pipeline.
pub(super) fn decode<'n>(
    context: &'n Context<'n>,
    table: Table<'n>,
    name: &'n str,
    alone: &Alone<'_, 'n>,
) -> Pipeline<'n> {
    let place = table.span;
    let policies = resilience::decode(context, &objects(&table, "resilience"));
    let mut filters: Vec<Filter<'n>> = Vec::new();
    let mut unread = alone.unread.to_vec();
    for node in objects(&table, "filters") {
        match filter::decode(context, node, name, &policies) {
            Some(filter) => add(context, &mut filters, filter),
            None => unread.extend(filter::name(node)),
        }
    }
    let alone = Alone { filters: alone.filters, unread: &unread };
    let flow = flow(context, &table, name, &policies, &alone, &mut filters);
    if let Some(entry) = table.take("data")
        && !entry.node.value.is_off()
    {
        context.note_at(entry, "no filter of Ravelin reads it");
    }
    table.finish();
    policies.finish(context);
    Pipeline { name, place, filters, flow, used: Cell::new(false), said: RefCell::default() }
}

/// A filter that stands alone, as a pipeline of its own.
pub(super) fn around<'n>(context: &'n Context<'n>, object: &Object<'n>) -> Option<Pipeline<'n>> {
    let name = object.name.map_or("pipeline", |name| name.value);
    let policies = Policies::default();
    let filter = filter::decode(context, object.node, name, &policies)?;
    let flow = vec![Step { filter: Some(0), name, span: object.node.span, jumps: Vec::new() }];
    let used = Cell::new(false);
    Some(Pipeline {
        name,
        place: object.node.span,
        filters: vec![filter],
        flow,
        used,
        said: RefCell::default(),
    })
}

/// The tables of a list whose sections go by their kinds.
fn objects<'n>(table: &Table<'n>, key: &'static str) -> Vec<&'n Node> {
    let Some(entry) = table.take(key) else { return Vec::new() };
    match &entry.node.value {
        Value::Array(items) => items.iter().collect(),
        Value::Null | Value::Broken => Vec::new(),
        _ => {
            let message = format!("`{key}` has the wrong type");
            table.context().push(
                Diagnostic::error(Code::WrongType, entry.node.span, message)
                    .label(format!("expected a list, found {}", entry.node.value.noun()))
                    .help(format!("each of the {key} begins with `- name: …`")),
            );
            Vec::new()
        }
    }
}

fn add<'n>(context: &Context<'_>, filters: &mut Vec<Filter<'n>>, filter: Filter<'n>) {
    if filter.name.value == END {
        context.push(
            Diagnostic::error(Code::BadValue, filter.name.span, "a filter cannot be called `END`")
                .label("stands for the end of the flow"),
        );
    } else if let Some(first) = filters.iter().find(|it| it.name.value == filter.name.value) {
        let message = format!("two filters are called `{}`", filter.name.value.escape_debug());
        context.push(
            Diagnostic::error(Code::DuplicateKey, filter.name.span, message)
                .label("again")
                .also(first.name.span, "first here")
                .help("each filter of a Pipeline has a name of its own"),
        );
        return;
    }
    filters.push(filter);
}

fn flow<'n>(
    context: &'n Context<'n>,
    table: &Table<'n>,
    pipeline: &str,
    policies: &Policies,
    alone: &Alone<'_, 'n>,
    filters: &mut Vec<Filter<'n>>,
) -> Vec<Step<'n>> {
    let written = table.tables("flow");
    if written.is_empty() {
        return filters
            .iter()
            .enumerate()
            .map(|(index, filter)| Step {
                filter: Some(index),
                name: filter.name.value,
                span: filter.name.span,
                jumps: Vec::new(),
            })
            .collect();
    }
    let mut steps = Vec::new();
    let mut targets = Vec::new();
    let mut whole = true;
    for step in written {
        step.require("filter", "proxy");
        let alias = step.text("alias").filter(|alias| !alias.value.is_empty());
        let filter = step.text("filter");
        let jumps = step.map("jumpIf");
        namespace(&step);
        step.finish();
        let Some(filter) = filter else {
            whole = false;
            continue;
        };
        let index = index(context, filter, pipeline, policies, alone, filters);
        if filter.value != END && index.is_none() {
            whole = false;
            continue;
        }
        if let Some(alias) = alias.filter(|alias| alias.value == END) {
            context.push(
                Diagnostic::error(Code::BadValue, alias.span, "a step cannot be called `END`")
                    .label("stands for the end of the flow"),
            );
        }
        let name = alias.unwrap_or(filter);
        targets.push(jumps);
        steps.push(Step { filter: index, name: name.value, span: name.span, jumps: Vec::new() });
    }
    for (at, jumps) in targets.into_iter().enumerate() {
        let found: Vec<Jump<'n>> = jumps
            .iter()
            .filter_map(|entry| jump(context, entry, at, &steps, filters, whole))
            .collect();
        if let Some(step) = steps.get_mut(at) {
            step.jumps = found;
        }
    }
    unused(context, filters, &steps, whole);
    steps
}

fn namespace(step: &Table<'_>) {
    let Some(entry) = step.peek("namespace") else {
        step.take("namespace");
        return;
    };
    let named = step.text("namespace").is_some_and(|name| !matches!(name.value, "" | "DEFAULT"));
    if named {
        step.context().note_at(entry, "a request has one namespace, and one response");
    }
}

/// The filter of a step, perhaps one that stands in a document of its own.
fn index<'n>(
    context: &'n Context<'n>,
    name: Spanned<&'n str>,
    pipeline: &str,
    policies: &Policies,
    alone: &Alone<'_, 'n>,
    filters: &mut Vec<Filter<'n>>,
) -> Option<usize> {
    let found = filters.iter().position(|filter| filter.name.value == name.value);
    if found.is_some() || name.value == END {
        return found;
    }
    let same = |object: &&&Object<'n>| object.name.is_some_and(|it| it.value == name.value);
    if let Some(object) = alone.filters.iter().find(same) {
        object.used.set(true);
        filters.push(filter::decode(context, object.node, pipeline, policies)?);
        return Some(filters.len() - 1);
    }
    if alone.unread.contains(&name.value) {
        return None; // said enough
    }
    let message = format!("there is no filter `{}`", name.value.escape_debug());
    let error = Diagnostic::error(Code::BadValue, name.span, message)
        .label("`filters` of this Pipeline has none of that name");
    context.push(match nearest(name.value, filters.iter().map(|filter| filter.name.value)) {
        Some(near) => error.suggest(name.span, near, format!("did you mean `{near}`?")),
        None if filters.is_empty() => error.help("add `filters:`, with `name` and `kind` of each"),
        None => {
            let names: Vec<String> =
                filters.iter().map(|it| format!("`{}`", it.name.value.escape_debug())).collect();
            error.help(format!("there are {}", names.join(", ")))
        }
    });
    None
}

fn jump<'n>(
    context: &Context<'_>,
    entry: &'n crate::tree::Entry,
    at: usize,
    steps: &[Step<'n>],
    filters: &[Filter<'n>],
    whole: bool,
) -> Option<Jump<'n>> {
    let step = steps.get(at)?;
    let result = entry.key.as_str();
    let target = context.text(result, &entry.node)?;
    if let Some(filter) = step.filter.and_then(|index| filters.get(index)) {
        known(context, entry, filter)?;
    }
    let jump = |to| Jump { result, span: target.span, to };
    if target.value == END {
        return Some(jump(None));
    }
    let named = |(_, step): &(usize, &Step<'_>)| step.name == target.value;
    let mut later = steps.iter().enumerate().skip(at + 1).filter(named);
    let error = |message: String| Diagnostic::error(Code::BadValue, target.span, message);
    match (later.next(), later.next()) {
        (Some((to, _)), None) => Some(jump(Some(to))),
        (Some((_, first)), Some((_, second))) => {
            let message = format!("two steps are called `{}`", target.value.escape_debug());
            context.push(
                error(message)
                    .label("which of them?")
                    .also(first.span, "one")
                    .also(second.span, "the other")
                    .help("give one of them an `alias`, and jump to that"),
            );
            None
        }
        (None, _) => {
            nowhere(context, target, at, steps, filters, whole);
            None
        }
    }
}

/// A result that the filter's kind has; others never come.
fn known(context: &Context<'_>, entry: &crate::tree::Entry, filter: &Filter<'_>) -> Option<()> {
    let result = entry.key.as_str();
    let results = filter.kind.results;
    if result.is_empty() || results.contains(&result) {
        return Some(());
    }
    let message = format!("a {} never ends as `{}`", filter.kind.name, result.escape_debug());
    let error = Diagnostic::error(Code::BadValue, entry.key_span, message);
    context.push(match nearest(result, results.iter().copied()) {
        Some(near) => error.suggest(entry.key_span, near, format!("did you mean `{near}`?")),
        None if results.is_empty() => error.help("filters of this kind have no results"),
        None => error.help(format!("its results are {}", results.join(", "))),
    });
    None
}

/// Says why there is nothing to jump to.
fn nowhere(
    context: &Context<'_>,
    target: Spanned<&str>,
    at: usize,
    steps: &[Step<'_>],
    filters: &[Filter<'_>],
    whole: bool,
) {
    let error = |message: String| Diagnostic::error(Code::BadValue, target.span, message);
    let shown = target.value.escape_debug();
    if let Some(earlier) = steps.iter().take(at + 1).find(|step| step.name == target.value) {
        context.push(
            error(format!("a jump back to `{shown}`"))
                .label("a flow goes forward only")
                .also(earlier.span, "is not behind this step")
                .help("write the step a second time, further down and with an `alias`, and jump to that"),
        );
        return;
    }
    if !whole {
        return; // it may be one that could not be read
    }
    let aliased = steps.iter().skip(at + 1).find(|step| {
        let filter = step.filter.and_then(|index| filters.get(index));
        filter.is_some_and(|filter| filter.name.value == target.value)
    });
    let error = error(format!("there is no step `{shown}` to jump to"));
    context.push(match aliased {
        Some(step) => error.label("this filter has an alias in the flow").suggest(
            target.span,
            step.name,
            "jump to its alias",
        ),
        None => {
            let names = steps.iter().skip(at + 1).map(|step| step.name).chain([END]);
            match nearest(target.value, names) {
                Some(near) => error.suggest(target.span, near, format!("did you mean `{near}`?")),
                None if filters.iter().any(|filter| filter.name.value == target.value) => {
                    error.label("this filter is not in the flow")
                }
                None => {
                    error.help("a jump goes to a later step, by its alias or filter, or to `END`")
                }
            }
        }
    });
}

fn unused(context: &Context<'_>, filters: &[Filter<'_>], steps: &[Step<'_>], whole: bool) {
    if !whole {
        return;
    }
    for (index, filter) in filters.iter().enumerate() {
        if steps.iter().all(|step| step.filter != Some(index)) {
            let message =
                format!("the filter `{}` is not in the flow", filter.name.value.escape_debug());
            context.push(
                Diagnostic::warning(Code::Unused, filter.name.span, message).label("never used"),
            );
        }
    }
}
