//! Tests in the configuration: what requests come to, beside what they are expected to come to.

use config::model::Expectation;
use config::places::Place;
use config::secrets::{HIDDEN, is_secret_field};

use super::{Asked, Explanation, explain};
use crate::snapshot::Snapshot;

/// A test that a configuration does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Where what was expected is written.
    pub place: Option<Place>,
    /// What came in its place.
    pub message: String,
    /// What was expected, in a word or two, to stand below the place.
    pub label: String,
    /// Why it came so.
    pub why: Vec<String>,
}

/// The tests that a snapshot does not meet. Nothing is sent anywhere.
pub fn unmet(snapshot: &Snapshot, expectations: &[Expectation]) -> Vec<Unmet> {
    let mut found = Vec::new();
    for (index, expected) in expectations.iter().enumerate() {
        let asked = Asked {
            method: expected.method.clone(),
            url: expected.url.clone(),
            fields: expected.fields.clone(),
            client: expected.client.unwrap_or(Asked::default().client),
            tls: false,
        };
        let request = format!("{} {}", expected.method, expected.url);
        let place = |key: &str| {
            let places = &snapshot.places;
            places.test(index, &[key]).or_else(|| places.test(index, &[]))
        };
        match explain(snapshot, &asked) {
            Ok(explained) => {
                let test = Test { expected, explained: &explained, request: &request };
                found.extend(test.unmet().map(|(key, message, why)| Unmet {
                    place: place(key),
                    message,
                    label: "expected this".to_owned(),
                    why,
                }));
            }
            Err(error) => found.push(Unmet {
                place: place("request"),
                message: format!("{request} is no request: {error}"),
                label: String::new(),
                why: Vec::new(),
            }),
        }
    }
    found
}

struct Test<'t> {
    expected: &'t Expectation,
    explained: &'t Explanation,
    request: &'t str,
}

impl Test<'_> {
    /// Key, what came in its place, and why.
    fn unmet(&self) -> impl Iterator<Item = (&'static str, String, Vec<String>)> {
        let found = [
            self.site(),
            self.route(),
            self.status(),
            self.location(),
            self.upstream(),
            self.path(),
        ];
        let fields = [
            ("headers", &self.expected.response, &self.explained.response[..]),
            ("upstream_headers", &self.expected.request, self.sent()),
        ];
        let fields = fields.into_iter().flat_map(|(key, expected, fields)| {
            let differ = expected.iter().filter_map(|(name, value)| field(name, value, fields));
            differ.map(|differs| (key, self.says(&differs), self.why())).collect::<Vec<_>>()
        });
        found.into_iter().flatten().chain(fields).collect::<Vec<_>>().into_iter()
    }

    fn sent(&self) -> &[(String, String)] {
        self.explained.sent.as_ref().map_or(&[], |sent| &sent.fields)
    }

    fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.request)
    }

    fn site(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.site.as_ref()?;
        let site = self.explained.site.as_ref();
        if site.is_some_and(|site| site.name == *expected) {
            return None;
        }
        let (what, why) = match site {
            Some(site) => (format!("the site `{}` answers", site.name), vec![site.how.clone()]),
            None => ("no site answers".to_owned(), vec![self.explained.action.clone()]),
        };
        Some(("site", self.says(&what), why))
    }

    fn route(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.route.as_deref()?;
        let route = self.explained.route.as_ref();
        let is_it = match route {
            Some(route) => route.name == expected || route.called.as_deref() == Some(expected),
            None => expected.is_empty(),
        };
        if is_it {
            return None;
        }
        let what = match route {
            Some(route) => format!("the route `{}` takes it", route.name),
            None => "no route takes it".to_owned(),
        };
        let mut why = Vec::new();
        let lost = self.explained.routes.iter().find(|route| route.name == expected);
        match lost {
            Some(lost) if !lost.why.is_empty() => {
                why.push(format!("not `{expected}`: {}", lost.why));
            }
            Some(_) => {}
            None if expected.is_empty() => {}
            None => why.push(format!("the site has no route `{expected}`")),
        }
        why.extend(self.why());
        Some(("route", self.says(&what), why))
    }

    fn status(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.status?;
        let what = match self.explained.status {
            Some(status) if status == expected => return None,
            Some(status) => format!("answered {status}"),
            None => "goes to an upstream, whose status is not known".to_owned(),
        };
        Some(("status", self.says(&what), self.why()))
    }

    fn location(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.location.as_ref()?;
        let what = match &self.explained.location {
            Some(location) if location == expected => return None,
            Some(location) => format!("redirected to {location}"),
            None => "not redirected".to_owned(),
        };
        Some(("location", self.says(&what), self.why()))
    }

    fn upstream(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.upstream.as_ref()?;
        let pools = &self.explained.pools;
        let is_it = match expected.is_empty() {
            true => pools.is_empty(),
            false => pools.iter().any(|pool| pool.name == *expected),
        };
        if is_it {
            return None;
        }
        let names: Vec<String> = pools.iter().map(|pool| format!("`{}`", pool.name)).collect();
        let what = match names.is_empty() {
            true => "goes to no upstream".to_owned(),
            false => format!("goes to the upstream {}", names.join(" or ")),
        };
        Some(("upstream", self.says(&what), self.why()))
    }

    fn path(&self) -> Option<(&'static str, String, Vec<String>)> {
        let expected = self.expected.path.as_ref()?;
        let what = match &self.explained.sent {
            Some(sent) if sent.target == *expected => return None,
            Some(sent) => format!("the upstream gets {}", sent.target),
            None => "goes to no upstream".to_owned(),
        };
        Some(("path", self.says(&what), self.why()))
    }

    /// What became of it.
    fn why(&self) -> Vec<String> {
        let explained = self.explained;
        let ended = explained.guards.iter().filter_map(|(says, _)| match says.verdict {
            crate::guards::Verdict::Ends(status) => {
                Some(format!("{} {}: {status}", says.guard, says.words))
            }
            _ => None,
        });
        let mut why: Vec<String> = ended.collect();
        let route = explained.route.as_ref();
        why.push(match route.and_then(|route| Some((route, route.place.as_ref()?))) {
            Some((route, place)) => {
                format!("{} by the route `{}` ({place})", explained.action, route.name)
            }
            None => explained.action.clone(),
        });
        why
    }
}

/// How a field differs from what is expected; an empty value: it is not to be there.
fn field(name: &str, expected: &str, fields: &[(String, String)]) -> Option<String> {
    let values: Vec<&str> = fields
        .iter()
        .filter(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    // What is written here may be shown to anybody.
    let found = match is_secret_field(name) {
        true => HIDDEN.to_owned(),
        false => values.join(", "),
    };
    match (expected.is_empty(), &values[..]) {
        (true, []) => None,
        (true, _) => Some(format!("{name} is there: {found}")),
        (false, []) => Some(format!("{name} is not there")),
        (false, values) if values.contains(&expected) || values.join(", ") == expected => None,
        (false, _) if is_secret_field(name) => Some(format!("{name} is another: {found}")),
        (false, _) => Some(format!("{name} is {found}")),
    }
}
