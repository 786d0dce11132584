//! `ravelin check`: every mistake of a configuration, for people or for tools.

use std::io;

use config::{Code, Diagnostic, Loaded, Model, Severity};
use control::certificates::inspect;

use crate::cli::{CheckArguments, Common, Format};
use crate::configuration::{count, load};
use crate::secure;
use crate::terminal::{self, Failure};

/// Reports what is wrong on standard output; fails when there is an error among it.
pub(crate) fn check(arguments: &CheckArguments, common: &Common) -> Result<(), Failure> {
    let mut loaded = load(&arguments.files, common)?;
    look_at_certificates(&mut loaded);
    let stdout = io::stdout();
    let report = match arguments.format {
        Format::Json => loaded.render_json(),
        Format::Human => {
            let mut text = loaded.render(terminal::colored(common.color, &stdout));
            text.push_str(&conclusion(&loaded));
            text
        }
    };
    terminal::print(stdout, &report);
    if loaded.model.is_some() { Ok(()) } else { Err(Failure::Told) }
}

/// Adds what is wrong with certificates and authorities in files: the configuration alone does not show it.
fn look_at_certificates(loaded: &mut Loaded) {
    let Some(model) = &loaded.model else { return };
    net::tls::install();
    let (errors, doubts) = inspect(model);
    let faults = secure::faults(model);
    if !errors.is_empty() || !faults.is_empty() {
        loaded.model = None;
    }
    let finding = |severity, message, help| Diagnostic {
        severity,
        code: Code::BadCertificate,
        message,
        span: None,
        label: String::new(),
        labels: Vec::new(),
        help,
        suggestion: None,
    };
    let errors = errors.into_iter().map(|error| {
        let help = Some(error.advice.clone()).filter(|advice| !advice.is_empty());
        finding(Severity::Error, error.to_string(), help.into_iter().collect())
    });
    let faults = faults.into_iter().map(|fault| finding(Severity::Error, fault, Vec::new()));
    let doubts = doubts.into_iter().map(|doubt| finding(Severity::Warning, doubt, Vec::new()));
    loaded.diagnostics.extend(errors.chain(faults).chain(doubts));
}

/// The last line: how many findings there are, or what the configuration would serve.
fn conclusion(loaded: &Loaded) -> String {
    let warnings = match loaded.warnings() {
        0 => String::new(),
        number => format!(", {}", count(number, "warning")),
    };
    match &loaded.model {
        Some(model) => format!("ok{warnings}: {}\n", summary(model)),
        None => format!("{}{warnings}\n", count(loaded.errors(), "error")),
    }
}

fn summary(model: &Model) -> String {
    let proxies = || model.sites.iter().filter_map(|site| site.proxy.as_ref());
    let routes = proxies().map(|proxy| proxy.routes.len()).sum();
    let upstreams = proxies().flat_map(|proxy| &proxy.pools).map(|pool| pool.upstreams.len()).sum();
    format!(
        "{}, {}, {}",
        count(model.sites.len(), "site"),
        count(routes, "route"),
        count(upstreams, "upstream")
    )
}
