//! What went wrong between Ravelin and an authority, in plain words: whose fault it is and what to
//! do. Never holds a secret.

use std::error::Error as StdError;
use std::time::{Duration, Instant};

use instant_acme::{Error, Problem};

use super::client::{Refusal, Silent};

/// Longest text of an authority that is repeated in the log, in characters.
const DETAIL_MAX: usize = 500;

/// Why there is no new certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What happened.
    pub(super) what: String,
    /// What to do about it; empty if nothing can be done here.
    pub(super) advice: String,
    /// The authority wants to be left alone for this long.
    pub(super) retry_after: Option<Duration>,
    /// What Ravelin itself can do.
    pub(super) remedy: Remedy,
}

/// What Ravelin itself can do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Try again later.
    Wait,
    /// Try again at once.
    Again,
    /// Make a new account: the authority does not know the one that is stored.
    NewAccount,
    /// Prove these names by the other method.
    OtherMethod(Vec<String>),
}

impl Failure {
    /// A failure that only time or the operator mends.
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (what, advice) = (what.into(), advice.into());
        Self { what, advice, retry_after: None, remedy: Remedy::Wait }
    }

    /// What the library's error means, while `doing` something.
    pub(super) fn of(doing: &str, error: &Error) -> Self {
        match error {
            Error::Api(problem) => Self::of_problem(doing, problem),
            Error::Other(inner) => match inner.downcast_ref::<Refusal>() {
                Some(refusal) => Self::of_refusal(doing, refusal),
                None => Self::of_transport(doing, inner.as_ref()),
            },
            Error::Timeout(next) => Self {
                retry_after: next.map(|at| at.saturating_duration_since(Instant::now())),
                ..Self::new(format!("{doing}: the authority takes too long"), "")
            },
            Error::Json(error) => Self::new(
                format!("{doing}: what was answered is not ACME ({error})"),
                "`directory_url` in `[sites.ssl.acme]` should be the URL of an ACME directory",
            ),
            Error::InvalidUri(_) | Error::Http(_) => Self::new(
                format!("{doing}: {error}"),
                "look at `directory_url` in `[sites.ssl.acme]`",
            ),
            _ => Self::new(format!("{doing}: {error}"), ""),
        }
    }

    fn of_refusal(doing: &str, refusal: &Refusal) -> Self {
        let own =
            || Self::new(format!("{doing}: {refusal}"), "the authority has trouble of its own");
        let failure = refusal.problem.as_ref().map_or_else(own, |p| Self::of_problem(doing, p));
        Self { retry_after: refusal.retry_after, ..failure }
    }

    fn of_problem(doing: &str, problem: &Problem) -> Self {
        let kind = kind(problem);
        let remedy = match kind {
            "badNonce" => Remedy::Again,
            "accountDoesNotExist" => Remedy::NewAccount,
            _ => Remedy::Wait,
        };
        let what = format!("{doing}: the authority says: {}", said(problem));
        Self { remedy, ..Self::new(what, advice(kind)) }
    }

    fn of_transport(doing: &str, error: &(dyn StdError + Send + Sync + 'static)) -> Self {
        if error.is::<Silent>() {
            let what = format!("{doing}: {error} of the authority");
            return Self::new(what, "look whether a firewall drops what goes out");
        }
        let mut innermost: &(dyn StdError + 'static) = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let reason = cut(&innermost.to_string());
        let advice = if reason.contains("certificate") {
            "if the authority is a private one, name its root certificate with `ca_file` in \
             `[sites.ssl.acme]`; else somebody stands between it and this machine"
        } else {
            "look at `directory_url` in `[sites.ssl.acme]`, at name resolution and at the way out of \
             this machine"
        };
        Self::new(format!("{doing}: the authority cannot be reached: {reason}"), advice)
    }
}

/// What an authority says about a problem.
pub(super) fn said(problem: &Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_default();
    for part in &problem.subproblems {
        text.push_str(&format!("; {part}"));
    }
    let kind = kind(problem);
    if text.is_empty() { kind.to_owned() } else { format!("{} ({kind})", cut(&text)) }
}

/// The last part of the problem's type (RFC 8555 §6.7).
pub(super) fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("no type given");
    kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind)
}

/// What to do about a problem of this type.
pub(super) fn advice(kind: &str) -> &'static str {
    match kind {
        "caa" => {
            "a CAA record of the domain allows other authorities only: change it, or `directory_url`"
        }
        "connection" | "tls" => {
            "the authority must reach this Ravelin at port 80 (http-01) or 443 (tls-alpn-01) of every \
             address the name has"
        }
        "dns" => "the name needs an A or AAAA record that points to this machine",
        "incorrectResponse" | "unauthorized" => {
            "another server answers for the name: its A and AAAA records must all lead to this Ravelin"
        }
        "externalAccountRequired" => {
            "this authority wants an account of its own kind: get a key id and an HMAC key from it and \
             set them in `[sites.ssl.acme.external_account]`"
        }
        "invalidContact" | "unsupportedContact" => "correct `email` in `[sites.ssl.acme]`",
        "invalidProfile" => "correct `profile` in `[sites.ssl.acme]`",
        "rateLimited" => {
            "use `staging = true` while you try things out; the limit passes by itself"
        }
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "this authority does not issue for that name: take it out of the site's hosts or `domains`"
        }
        "userActionRequired" => "do what the authority says, then restart Ravelin",
        _ => "",
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let json = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"{detail}"}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_problem_is_told_with_what_to_do_about_it() {
        let failure = Failure::of("order", &Error::Api(problem("caa", "CAA forbids")));
        assert_eq!(failure.what, "order: the authority says: CAA forbids (caa)");
        assert!(failure.advice.contains("CAA record"));
        assert_eq!(failure.remedy, Remedy::Wait);
        let remedy = |kind| Failure::of("order", &Error::Api(problem(kind, ""))).remedy;
        assert_eq!(remedy("badNonce"), Remedy::Again);
        assert_eq!(remedy("accountDoesNotExist"), Remedy::NewAccount);
    }

    #[test]
    fn a_limit_keeps_the_time_the_authority_asks_for() {
        let refusal = Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            problem: Some(problem("rateLimited", "slow down")),
            retry_after: Some(Duration::from_secs(77)),
        };
        let failure = Failure::of("order", &Error::Other(Box::new(refusal)));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(77)));
        assert!(failure.what.contains("slow down") && failure.advice.contains("staging"));
    }

    #[test]
    fn an_unknown_authority_certificate_leads_to_ca_file() {
        let error = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let failure = Failure::of("account", &Error::Other(Box::new(error)));
        assert!(failure.advice.contains("ca_file"), "{failure:?}");
        let error = std::io::Error::other("Connection refused");
        let failure = Failure::of("account", &Error::Other(Box::new(error)));
        assert!(failure.advice.contains("directory_url"), "{failure:?}");
    }

    #[test]
    fn what_an_authority_says_is_cut() {
        let long = problem("malformed", &"ä".repeat(10_000));
        assert!(said(&long).chars().count() < DETAIL_MAX + 30);
    }
}
