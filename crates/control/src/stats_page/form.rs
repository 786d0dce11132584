//! What the page's forms say: an action for some endpoints of one pool, as HAProxy's forms have it.

use std::net::IpAddr;

use config::model::UpstreamState;

use crate::admin::Running;
use crate::endpoints;
use crate::orders::Author;

/// Endpoints that one form may name.
const ENDPOINTS_MAX: usize = 4096;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// All of it was done.
    All,
    /// Some of the endpoints are not there.
    Part,
    /// There was nothing to do.
    Nothing,
    /// The form cannot be read.
    Wrong,
    /// It is too long.
    TooLong,
    /// Whoever asks may not.
    Denied,
    /// It is not known.
    Unknown,
}

impl Done {
    /// HAProxy's word for it.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::All => "DONE",
            Self::Part => "PART",
            Self::Nothing => "NONE",
            Self::Wrong => "ERRP",
            Self::TooLong => "EXCD",
            Self::Denied => "DENY",
            Self::Unknown => "UNKN",
        }
    }
}

/// What one of these words says, for people.
pub(super) fn in_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "DONE" => "Action processed successfully.",
        "PART" => "Action partially processed: some of the endpoints are not there.",
        "NONE" => "Nothing has changed.",
        "ERRP" => "The form could not be read.",
        "EXCD" => "The form was too long.",
        "DENY" => "Action denied.",
        "UNKN" => "Unexpected result.",
        _ => return None,
    })
}

/// Does what the form in `body` says.
pub(super) fn carry_out(running: &Running, user: &str, peer: IpAddr, body: &[u8]) -> Done {
    let Some(form) = Form::read(body) else { return Done::Wrong };
    if form.endpoints.is_empty() {
        return Done::Nothing;
    }
    let author = Author::new(format!("{user} from {} (stats page)", peer.to_canonical()));
    let snapshot = running.snapshot.borrow().clone();
    let mut done = 0;
    for endpoint in &form.endpoints {
        let pool = pool_name(&snapshot, &form.pool);
        if let Ok(named) = endpoints::find(&snapshot, &pool, endpoint) {
            named.steer(&running.log, &author, Some(form.wanted));
            done += 1;
        }
    }
    match done {
        0 => Done::Wrong,
        some if some < form.endpoints.len() => Done::Part,
        _ => Done::All,
    }
}

/// The pool's name, also where it is given by its number as `#4`.
fn pool_name(snapshot: &proxy::snapshot::Snapshot, given: &str) -> String {
    let number = given.strip_prefix('#').and_then(|number| number.parse::<usize>().ok());
    let views = endpoints::pool_views(snapshot);
    let found = views.into_iter().find(|view| Some(view.number) == number);
    found.map_or_else(|| given.to_owned(), |view| view.name)
}

/// A form that was filled in.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    pool: String,
    wanted: UpstreamState,
    endpoints: Vec<String>,
}

impl Form {
    /// `s`: an endpoint, any number of times; `action`; `b`: the pool.
    fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let (mut pool, mut wanted, mut endpoints) = (None, None, Vec::new());
        for (name, value) in crate::admin::query::pairs(text)? {
            match &*name {
                "b" => pool = Some(value),
                "action" => {
                    wanted = Some(match &*value {
                        "ready" | "enable" => UpstreamState::Up,
                        "drain" => UpstreamState::Drain,
                        "maint" | "disable" => UpstreamState::Down,
                        _ => return None,
                    });
                }
                "s" if endpoints.len() < ENDPOINTS_MAX => endpoints.push(value),
                _ => {}
            }
        }
        Some(Self { pool: pool?, wanted: wanted?, endpoints })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_names_endpoints_an_action_and_a_pool() {
        let form = Form::read(b"s=10.0.0.1%3A80&s=b&action=drain&b=%234").unwrap();
        let expected = Form {
            pool: "#4".to_owned(),
            wanted: UpstreamState::Drain,
            endpoints: vec!["10.0.0.1:80".to_owned(), "b".to_owned()],
        };
        assert_eq!(form, expected);
        for wrong in ["", "s=a&action=drain", "s=a&b=x", "s=a&b=x&action=shutdown", "s=%zz"] {
            assert_eq!(Form::read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
