//! `[[tests]]`: what requests are to come to, looked at by `check`, at the start and before a reload.

use std::io;

use config::{Code, Diagnostic, Loaded, Model, Severity, Sources};
use proxy::explain::{Unmet, unmet};
use proxy::live::Live;
use proxy::snapshot::Snapshot;

use crate::cli::Common;
use crate::configuration::count;
use crate::terminal::{self, Failure};

/// What a snapshot does not meet of its model's tests, as errors.
pub(crate) fn failed(model: &Model, snapshot: &Snapshot) -> Vec<Diagnostic> {
    unmet(snapshot, &model.expectations).into_iter().map(finding).collect()
}

/// Adds what is not met to what was found, which leaves no model then. What cannot be compiled is said
/// by whoever does that.
pub(crate) fn judge(loaded: &mut Loaded) {
    let Some(model) = loaded.model.as_ref().filter(|model| !model.expectations.is_empty()) else {
        return;
    };
    let Ok((snapshot, _)) = Snapshot::compile(model, &Live::default()) else { return };
    let failed = failed(model, &snapshot);
    if !failed.is_empty() {
        loaded.diagnostics.extend(failed);
        loaded.model = None;
    }
}

/// Refuses to serve what does not meet its tests. What came instead goes to standard error and into
/// `findings`.
pub(crate) fn insist(
    model: &Model,
    sources: Sources,
    common: &Common,
    findings: &mut String,
) -> Result<(), Failure> {
    if model.expectations.is_empty() {
        return Ok(());
    }
    let compiled = Snapshot::compile(model, &Live::default());
    let (snapshot, _) = compiled.map_err(|error| Failure::new(error, ""))?;
    let diagnostics = failed(model, &snapshot);
    let tests = diagnostics.len();
    if tests == 0 {
        return Ok(());
    }
    let unmet = Loaded { model: None, diagnostics, sources };
    let stderr = io::stderr();
    terminal::print(&stderr, &unmet.render(terminal::colored(common.color, &stderr)));
    *findings = unmet.render(false);
    let what = format!(
        "{} of the configuration came out otherwise, nothing is served",
        count(tests, "expectation")
    );
    Err(Failure::new(what, ""))
}

fn finding(unmet: Unmet) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: Code::FailedTest,
        message: unmet.message,
        span: unmet.place.map(|place| place.span),
        label: unmet.label,
        labels: Vec::new(),
        help: unmet.why,
        suggestion: None,
    }
}
