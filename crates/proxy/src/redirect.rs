//! Where a redirect leads: the target of a route, with what it takes from the request; and the
//! redirects that come before a route's action.
//!
//! What always holds: what comes from the request is its canonical path, its query as received (which
//! has no control byte and no space), its parsed host, or a group of a regular expression found in
//! one of those, so nothing a client sends can end the field.

use config::model::{self, UrlPart};
use regex_automata::PatternID;
use regex_automata::meta::Regex;

use crate::routes::{Path, replace_all};

/// Longest URL made here, in bytes: groups can repeat what a client sent.
const URL_MAX: usize = 16 << 10;

/// A redirect of the requests whose URL matches.
#[derive(Debug)]
pub struct Redirect {
    of: UrlPart,
    regex: Regex,
    to: String,
    /// The status that is answered.
    pub status: u16,
}

impl Redirect {
    /// Compiles it; one whose regular expression does not compile is none, and configurations with one
    /// are not accepted.
    pub fn compile(redirect: &model::Redirect) -> Option<Self> {
        let regex = config::pattern::compile(&redirect.regex).ok()?;
        let model::Redirect { of, to, status, .. } = redirect.clone();
        Some(Self { of, regex, to, status })
    }

    /// Where the request is sent, if it is.
    pub(crate) fn location(&self, parts: &Parts<'_>) -> Option<Vec<u8>> {
        let mut url = Vec::new();
        if self.of == UrlPart::Full {
            url.extend_from_slice(parts.scheme.as_bytes());
            url.extend_from_slice(b"://");
            url.extend_from_slice(parts.authority);
        }
        url.extend_from_slice(parts.path);
        if self.of != UrlPart::Path {
            push_query(&mut url, parts.query);
        }
        if !self.regex.is_match(&url) {
            return None;
        }
        replace_all(&self.regex, &self.to, &mut url);
        if self.of == UrlPart::Path {
            push_query(&mut url, parts.query);
        }
        (url.len() <= URL_MAX).then_some(url)
    }
}

/// What a target may take from a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// "http" or "https".
    pub(crate) scheme: &'a str,
    /// The host, with its port if the client named one.
    pub(crate) authority: &'a [u8],
    /// Canonical.
    pub(crate) path: &'a [u8],
    /// Without "?".
    pub(crate) query: Option<&'a [u8]>,
}

/// The URL for a target such as `https://$host$uri`; `None` if it would be too long. The query is kept
/// if the target names none.
pub(crate) fn location(to: &str, path: &Path, parts: &Parts<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let names_query = fill(to, path, parts, None, &mut out);
    if !names_query && !to.contains('?') {
        push_query(&mut out, parts.query);
    }
    (out.len() <= URL_MAX).then_some(out)
}

/// Appends a template with what the request says in the place of its placeholders, at most
/// [`URL_MAX`] bytes; whether the query was among them. `$remote_addr` stands for `address`, if there
/// is one.
pub(crate) fn fill(
    template: &str,
    path: &Path,
    parts: &Parts<'_>,
    address: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    let mut rest = template;
    let mut names_query = false;
    while let Some((before, behind)) = rest.split_once('$') {
        out.extend_from_slice(before.as_bytes());
        let (name, after) = name(behind);
        match name {
            "host" => out.extend_from_slice(parts.authority),
            "scheme" => out.extend_from_slice(parts.scheme.as_bytes()),
            "path" => out.extend_from_slice(parts.path),
            "query" => {
                names_query = true;
                out.extend_from_slice(parts.query.unwrap_or_default());
            }
            "uri" | "request_uri" => {
                names_query = true;
                out.extend_from_slice(parts.path);
                push_query(out, parts.query);
            }
            "remote_addr" if address.is_some() => {
                out.extend_from_slice(address.unwrap_or_default())
            }
            "" => out.push(b'$'),
            name => match group_called(name, path) {
                Some((regex, group)) => {
                    out.extend_from_slice(self::group(regex, parts.path, group));
                }
                None => {
                    out.push(b'$');
                    out.extend_from_slice(name.as_bytes());
                }
            },
        }
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    out.truncate(start.saturating_add(URL_MAX).saturating_add(1));
    names_query
}

/// The group of a route's regular expression that a number or a name stands for.
fn group_called<'p>(name: &str, path: &'p Path) -> Option<(&'p Regex, usize)> {
    let Path::Regex(regex) = path else { return None };
    let named = || regex.group_info().to_index(PatternID::ZERO, name);
    name.parse().ok().or_else(named).map(|group| (regex, group))
}

/// A placeholder's name, without braces if it has some, and what comes behind it.
fn name(text: &str) -> (&str, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (name, after);
    }
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let part = |c: char| match digits {
        true => c.is_ascii_digit(),
        false => c.is_ascii_alphabetic() || c == '_',
    };
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn group<'p>(regex: &Regex, path: &'p [u8], group: usize) -> &'p [u8] {
    let mut captures = regex.create_captures();
    regex.captures(path, &mut captures);
    let span = captures.get_group(group);
    span.and_then(|span| path.get(span.range())).unwrap_or_default()
}

fn push_query(out: &mut Vec<u8>, query: Option<&[u8]>) {
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

#[cfg(test)]
mod tests {
    use config::model::PathMatch;

    use super::*;

    fn made(to: &str, pattern: &str) -> String {
        let parts = Parts {
            scheme: "http",
            authority: b"example.com:8080",
            path: b"/old/a%20b",
            query: Some(b"x=1"),
        };
        let path = PathMatch::Regex { pattern: pattern.to_owned(), ignore_case: false };
        String::from_utf8(location(to, &Path::compile(&path), &parts).unwrap()).unwrap()
    }

    #[test]
    fn templates_know_groups_by_name_and_the_client() {
        let parts = Parts {
            scheme: "https",
            authority: b"example.com",
            path: b"/v2/users",
            query: Some(b"x=1"),
        };
        let pattern = "^/v(?P<version>[0-9]+)/(x)?".to_owned();
        let regex = Path::compile(&PathMatch::Regex { pattern, ignore_case: false });
        let prefix = Path::Prefix("/v2".to_owned());
        let filled = |template: &str, path: &Path| {
            let mut out = Vec::new();
            fill(template, path, &parts, Some(b"192.0.2.1"), &mut out);
            String::from_utf8(out).unwrap()
        };
        for (template, expected) in [
            ("${version} $1", "2 2"),
            ("v${version}x", "v2x"),
            ("$2", ""),
            ("$9", ""),
            ("$remote_addr", "192.0.2.1"),
            ("$scheme://$host$uri", "https://example.com/v2/users?x=1"),
            ("${}5 ${nothing}", "$5 $nothing"),
        ] {
            assert_eq!(filled(template, &regex), expected, "{template}");
        }
        assert_eq!(filled("${version}", &prefix), "$version", "no groups there");
        let long = "$path".repeat(URL_MAX);
        assert!(filled(&long, &prefix).len() <= URL_MAX + 1);
    }

    #[test]
    fn placeholders_are_filled_and_the_query_is_kept() {
        for (to, expected) in [
            ("/new", "/new?x=1"),
            ("/new?y=2", "/new?y=2"),
            ("https://$host$uri", "https://example.com:8080/old/a%20b?x=1"),
            ("$scheme://other$path", "http://other/old/a%20b?x=1"),
            ("/new/$1", "/new/a%20b?x=1"),
            ("/new/${1}0", "/new/a%20b0?x=1"),
            ("/search?$query&z", "/search?x=1&z"),
            ("/$", "/$?x=1"),
            ("/$other/$9", "/$other/?x=1"),
        ] {
            assert_eq!(made(to, "^/old/(.*)"), expected, "{to}");
        }
    }
}
