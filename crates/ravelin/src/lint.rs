//! What `ravelin check --strict` says beside errors and warnings: the rules of the linter, with those that
//! need certificates.

use config::lint::{EXPIRY_DAYS, Rule, is_allowed, lint};
use config::model::HostPattern;
use config::{Code, Diagnostic, Loaded, Model, Severity};
use control::certificates::shown;
use net::timer::unix_millis;

const DAY: i64 = 24 * 60 * 60;

/// Adds what the rules say, but for what `[lint]` allows, and takes away what is allowed or said twice.
/// How much there is left that a strict reader minds.
pub(crate) fn add(loaded: &mut Loaded) -> usize {
    let Some(model) = loaded.model.take() else { return 0 };
    let mut said = lint(&model);
    said.extend(certificates(&model));
    // A rule that is allowed allows the warning about the same, too.
    loaded.diagnostics.retain(|found| !is_allowed(&model, found) && !is_repeated(found, &said));
    said.retain(|finding| !is_allowed(&model, finding));
    loaded.diagnostics.extend(said);
    loaded.diagnostics.sort_by_key(|found| (found.span.is_none(), found.span, found.severity));
    loaded.model = Some(model);
    // What a front end notes of its dialect is no reproach.
    let minded = |found: &&Diagnostic| {
        found.severity == Severity::Warning || matches!(found.code, Code::Lint(_))
    };
    loaded.diagnostics.iter().filter(minded).count()
}

/// A warning about the very place that a rule speaks of, in the same matter.
fn is_repeated(found: &Diagnostic, said: &[Diagnostic]) -> bool {
    use Code::{Lint, Unsafe, Unused};
    if found.code == Code::BadCertificate && found.severity == Severity::Warning {
        return said.iter().any(|one| is_of_certificate(found, one));
    }
    if !matches!(found.code, Unused | Unsafe) {
        return false;
    }
    said.iter().any(|one| {
        let same_place = match (one.span, found.span) {
            (Some(one), Some(found)) => {
                one == found || one.file == found.file && one.end.abs_diff(found.start) <= NEAR
            }
            _ => false,
        };
        let same_matter = match one.code {
            Lint(Rule::UnreachableRoute | Rule::UnusedUpstream) => found.code == Unused,
            Lint(Rule::OpenCors | Rule::UnverifiedUpstream | Rule::WeakCredentials) => {
                found.code == Unsafe
            }
            _ => false,
        };
        same_place && same_matter
    })
}

/// A warning about the certificate of a site in the matter that a rule speaks of. It has no place: it is
/// known by what it says.
fn is_of_certificate(found: &Diagnostic, one: &Diagnostic) -> bool {
    let matter = match one.code {
        Code::Lint(Rule::CertificateHost) => " is not for ",
        Code::Lint(Rule::CertificateExpiry) => ": clients will refuse it; renew it",
        _ => return false,
    };
    let site = one.message.split('`').nth(1).unwrap_or_default();
    found.message.starts_with(&format!("site \"{site}\": ")) && found.message.contains(matter)
}

/// Bytes between a table's header and the key in it that a warning points at: `name = `.
const NEAR: usize = 16;

/// What the rules say about certificates that can be read now.
fn certificates(model: &Model) -> Vec<Diagnostic> {
    let now = i64::try_from(unix_millis() / 1000).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for (index, site) in model.sites.iter().enumerate() {
        let identities = shown(site);
        let place = || {
            let places = &model.places;
            places
                .site(index, &["ssl", "cert_file"])
                .or_else(|| places.site(index, &["ssl"]))
                .or_else(|| places.site(index, &[]))
        };
        for host in &site.hosts {
            let name = match host {
                HostPattern::Exact(name) => name.clone(),
                // Any name right below.
                HostPattern::Wildcard(suffix) => format!("any.{suffix}"),
                HostPattern::Any => continue,
            };
            if !identities.is_empty() && !identities.iter().any(|one| one.covers(&name)) {
                let host = name.strip_prefix("any.").map_or(name.clone(), |suffix| match host {
                    HostPattern::Wildcard(_) => format!("*.{suffix}"),
                    _ => name.clone(),
                });
                let message = format!("the certificate of `{}` is not for `{host}`", site.name);
                found.push(Diagnostic::lint(Rule::CertificateHost, place(), message));
            }
        }
        for identity in &identities {
            let left = (identity.not_after() - now).div_euclid(DAY);
            if left < EXPIRY_DAYS {
                let name = &site.name;
                let message = match left {
                    ..0 => format!("the certificate of `{name}` has expired"),
                    0 => format!("the certificate of `{name}` expires today"),
                    days => format!("the certificate of `{name}` expires in {days} days"),
                };
                found.push(Diagnostic::lint(Rule::CertificateExpiry, place(), message));
            }
        }
    }
    found
}
