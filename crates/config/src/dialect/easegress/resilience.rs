//! `resilience` of a Pipeline: policies that pools name.

use std::cell::Cell;

use crate::decode::{Context, Spanned, Table, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::dialect::build::{TableNode, boolean, number, text};
use crate::schema::{Kind, Section, now};
use crate::source::Span;
use crate::tree::Node;

use super::filter::entry;
use super::notes::Note;
use super::{NAME, copy};

/// Bytes of a request that are kept to be sent again: as much as Easegress takes of a body by itself.
const BODY_KEPT: i64 = 4 << 20;

static RETRY: Section = Section {
    path: "resilience Retry",
    list: false,
    about: "When a request is sent again.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now("maxAttempts", Kind::Integer(1, 100), "3", ""),
        now("waitDuration", Kind::Duration(true), "500ms", ""),
        now("backOffPolicy", Kind::Choice(&["random", "exponential"], &[]), "random", ""),
        now("randomizationFactor", Kind::Text, "0", ""),
    ],
};

static CIRCUIT_BREAKER: Section = Section {
    path: "resilience CircuitBreaker",
    list: false,
    about: "When no request is sent.",
    keys: &[
        now("kind", Kind::Text, "", ""),
        NAME,
        now(
            "slidingWindowType",
            Kind::Choice(&["COUNT_BASED", "TIME_BASED"], &[]),
            "COUNT_BASED",
            "",
        ),
        now("slidingWindowSize", Kind::Integer(1, 100_000), "100", ""),
        now("failureRateThreshold", Kind::Integer(1, 100), "50", ""),
        now("slowCallRateThreshold", Kind::Integer(1, 100), "100", ""),
        now("slowCallDurationThreshold", Kind::Duration(false), "1m", ""),
        now("minimumNumberOfCalls", Kind::Integer(1, 100_000), "100", ""),
        now("permittedNumberOfCallsInHalfOpenState", Kind::Integer(1, 100_000), "10", ""),
        now("waitDurationInOpenState", Kind::Duration(false), "1m", ""),
        now("maxWaitDurationInHalfOpenState", Kind::Duration(true), "0", ""),
    ],
};

const KINDS: &[&str] = &["Retry", "CircuitBreaker"];

/// The policies of a pipeline.
#[derive(Default)]
pub(super) struct Policies {
    all: Vec<Policy>,
    /// Some policy's name could not be read.
    incomplete: bool,
}

struct Policy {
    name: String,
    span: Span,
    kind: &'static str,
    table: TableNode,
    used: Cell<bool>,
}

impl Policies {
    /// The native table of the policy that a pool names.
    pub(super) fn find(
        &self,
        context: &Context<'_>,
        kind: &'static str,
        name: Spanned<&str>,
    ) -> Option<TableNode> {
        let of_kind = || self.all.iter().filter(|policy| policy.kind == kind);
        if let Some(policy) = of_kind().find(|policy| policy.name == name.value) {
            policy.used.set(true);
            return Some(policy.table.clone());
        }
        if self.incomplete {
            return None;
        }
        let message = format!("there is no {kind} policy `{}`", name.value.escape_debug());
        let error = Diagnostic::error(Code::BadValue, name.span, message)
            .label("`resilience` of this Pipeline has none of that name");
        let other = self.all.iter().find(|policy| policy.name == name.value);
        context.push(match (nearest(name.value, of_kind().map(|it| it.name.as_str())), other) {
            (_, Some(other)) => error.also(other.span, format!("this is a {}", other.kind)),
            (Some(near), None) => error.suggest(name.span, near, format!("did you mean `{near}`?")),
            (None, None) => error.help(format!("add it to `resilience:` with `kind: {kind}`")),
        });
        None
    }

    /// Says which are for nothing.
    pub(super) fn finish(self, context: &Context<'_>) {
        for policy in self.all.iter().filter(|policy| !policy.used.get()) {
            let message = format!("the {} policy `{}` is not used", policy.kind, policy.name);
            context.push(
                Diagnostic::warning(Code::Unused, policy.span, message)
                    .label("no pool of this Pipeline names it"),
            );
        }
    }
}

/// Decodes the policies of a pipeline.
pub(super) fn decode<'n>(context: &'n Context<'n>, nodes: &[&'n Node]) -> Policies {
    let mut policies = Policies::default();
    for node in nodes {
        match policy(context, node) {
            Some(policy) => {
                let same = policies.all.iter().find(|other| other.name == policy.name);
                if let Some(first) = same {
                    let message = format!("two policies are called `{}`", policy.name);
                    context.push(
                        Diagnostic::error(Code::DuplicateKey, policy.span, message)
                            .label("again")
                            .also(first.span, "first here"),
                    );
                }
                policies.all.push(policy);
            }
            None => policies.incomplete = true,
        }
    }
    policies
}

fn policy<'n>(context: &'n Context<'n>, node: &'n Node) -> Option<Policy> {
    let Some(written) = entry(node, "kind") else {
        context.push(
            Diagnostic::error(Code::MissingKey, node.span, "a policy without `kind`")
                .label("what is it?")
                .help("there are Retry and CircuitBreaker"),
        );
        return None;
    };
    let word = context.text("kind", &written.node)?;
    let Some(kind) = KINDS.iter().copied().find(|kind| *kind == word.value) else {
        let message = format!("there is no policy of the kind `{}`", word.value.escape_debug());
        let error = Diagnostic::error(Code::BadValue, word.span, message);
        context.push(match nearest(word.value, KINDS.iter().copied()) {
            Some(near) => error.suggest(word.span, near, format!("did you mean `{near}`?")),
            None => error.help("there are Retry and CircuitBreaker"),
        });
        return None;
    };
    let retry = kind == "Retry";
    let section = if retry { &RETRY } else { &CIRCUIT_BREAKER };
    let table = Table::open(context, "resilience", node, section)?;
    table.take("kind");
    table.require("name", "retry");
    let name = table.text("name");
    let native = if retry { self::retry(&table) } else { breaker(&table) };
    table.finish();
    let name = name?;
    let used = Cell::new(false);
    Some(Policy { name: name.value.to_owned(), span: name.span, kind, table: native, used })
}

fn retry(table: &Table<'_>) -> TableNode {
    let context = table.context();
    let place = table.span;
    let mut native = TableNode::at(place);
    if !copy(table, "maxAttempts", &mut native, "attempts") {
        native.put("attempts", number(3, place));
    }
    if !copy(table, "waitDuration", &mut native, "backoff") {
        native.put("backoff", text("500ms", place));
    }
    if let Some(entry) = table.take("randomizationFactor") {
        context.note_at(entry, "pauses vary by half");
    }
    table.choice("backOffPolicy");
    native.put("body", number(BODY_KEPT, place));
    // As Easegress has it: whatever the method.
    native.put("non_idempotent", boolean(true, place));
    native
}

fn breaker(table: &Table<'_>) -> TableNode {
    let mut native = TableNode::at(table.span);
    let by_time = table.choice("slidingWindowType") == Some("TIME_BASED");
    let word = if by_time { "time" } else { "count" };
    let place = table.peek("slidingWindowType").map_or(table.span, |entry| entry.node.span);
    native.put("window_type", text(word, place));
    for (key, to) in [
        ("slidingWindowSize", "window_size"),
        ("failureRateThreshold", "failure_rate"),
        ("slowCallRateThreshold", "slow_rate"),
        ("slowCallDurationThreshold", "slow"),
        ("minimumNumberOfCalls", "minimum"),
        ("permittedNumberOfCallsInHalfOpenState", "trials"),
        ("waitDurationInOpenState", "open"),
        ("maxWaitDurationInHalfOpenState", "half_open_max"),
    ] {
        copy(table, key, &mut native, to);
    }
    native
}
