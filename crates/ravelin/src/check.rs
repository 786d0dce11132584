//! `ravelin check`: every mistake of a configuration, for people or for tools.

use std::io;

use config::{Code, Diagnostic, Loaded, Model, Severity};
use control::certificates::inspect;
use proxy::live::Live;
use proxy::snapshot::Snapshot;

use crate::cli::{CheckArguments, Common, Format};
use crate::configuration::{count, load};
use crate::secure;
use crate::terminal::{self, Failure};
use crate::{expectations, lint};

/// Reports what is wrong on standard output; fails when there is an error among it.
pub(crate) fn check(arguments: &CheckArguments, common: &Common) -> Result<(), Failure> {
    let mut loaded = load(&arguments.files, common)?;
    look_at_files(&mut loaded);
    expectations::judge(&mut loaded);
    let minded = if arguments.strict { lint::add(&mut loaded) } else { 0 };
    let stdout = io::stdout();
    let report = match arguments.format {
        Format::Json => loaded.render_json(),
        Format::Human => {
            let mut text = loaded.render(terminal::colored(common.color, &stdout));
            text.push_str(&conclusion(&loaded));
            text
        }
    };
    terminal::show(&report)?;
    if loaded.model.is_some() && minded == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// Adds what files say that the configuration names: what would refuse the start is an error here too.
fn look_at_files(loaded: &mut Loaded) {
    let Some(model) = &loaded.model else { return };
    net::tls::install();
    let (errors, mut doubts) = inspect(model);
    let (faults, unread) = secure::faults(model);
    let mut others = Vec::new();
    if errors.is_empty() && faults.is_empty() && unread.is_empty() {
        // What of the rest would refuse it.
        let compiled = Snapshot::compile(model, &Live::default());
        others.extend(match compiled {
            Ok((snapshot, _)) => control::auth::inspect(&snapshot.credentials).err(),
            Err(error) => Some(error.to_string()),
        });
    }
    if !(errors.is_empty() && faults.is_empty() && others.is_empty()) {
        loaded.model = None;
    }
    doubts.extend(unread);
    let finding = |severity, code, message, help| Diagnostic {
        severity,
        code,
        message,
        span: None,
        label: String::new(),
        labels: Vec::new(),
        help,
        suggestion: None,
    };
    let error = |code, message| finding(Severity::Error, code, message, Vec::new());
    let errors = errors.into_iter().map(|error| {
        let help = Some(error.advice.clone()).filter(|advice| !advice.is_empty());
        let help = help.into_iter().collect();
        finding(Severity::Error, Code::BadCertificate, error.to_string(), help)
    });
    let faults = faults.into_iter().map(|fault| error(Code::BadCertificate, fault));
    let others = others.into_iter().map(|other| error(Code::BadValue, other));
    let doubts = doubts
        .into_iter()
        .map(|doubt| finding(Severity::Warning, Code::BadCertificate, doubt, Vec::new()));
    loaded.diagnostics.extend(errors.chain(faults).chain(others).chain(doubts));
}

/// The last line: how many findings there are, or what the configuration would serve.
fn conclusion(loaded: &Loaded) -> String {
    let mut warnings = match loaded.warnings() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    let of_rules = |found: &&Diagnostic| matches!(found.code, Code::Lint(_));
    match loaded.diagnostics.iter().filter(of_rules).count() {
        0 => {}
        number => warnings.push_str(&format!(", {}", count(number, "note"))),
    }
    match &loaded.model {
        Some(model) => format!("ok{warnings}: {}\n", summary(model)),
        None => format!("{}{warnings}\n", count(loaded.errors(), "error")),
    }
}

fn summary(model: &Model) -> String {
    let proxies = || model.sites.iter().filter_map(|site| site.proxy.as_ref());
    let routes = model.sites.iter().map(|site| site.routes.len()).sum();
    let upstreams = proxies().flat_map(|proxy| &proxy.pools).map(|pool| pool.upstreams.len()).sum();
    format!(
        "{}, {}, {}",
        count(model.sites.len(), "site"),
        count(routes, "route"),
        count(upstreams, "upstream")
    )
}
