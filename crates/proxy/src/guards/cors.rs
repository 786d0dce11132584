//! Which pages of other origins may make requests, and read the responses (CORS, the Fetch standard,
//! section "CORS protocol").
//!
//! Where it is configured, what it says takes the place of anything that an upstream says: the fields
//! in [`CORS_FIELDS`] are taken off its responses. An origin that is not allowed gets none of them, and
//! the browser keeps the response from its page. The request itself passes on, as it would without
//! CORS; only a preflight is refused.

use config::model::{self, AllowedOrigins, Names, OriginPattern};

use crate::routes::Fields;

/// Fields that only Ravelin writes where CORS is configured.
pub const CORS_FIELDS: &[&str] = &[
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    // Private Network Access: never said by Ravelin, and so by nobody.
    "Access-Control-Allow-Private-Network",
];

/// Longest list of fields in a preflight that is said back.
const ASKED_MAX: usize = 4096;

/// Rules for other origins, ready to be asked.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: AllowedOrigins,
    /// What is said depends on who asks.
    varies: bool,
    /// Lines of an actual response after that with the origin.
    actual: Vec<u8>,
    /// Lines of a preflight's that are the same for all, likewise.
    preflight: Vec<u8>,
    /// Say the method back that is asked for.
    any_method: bool,
    /// Say the fields back that are asked for.
    any_header: bool,
}

impl Cors {
    /// Compiles rules; `inherited` are the origins for those that name none.
    pub fn compile(rules: &model::Cors, inherited: &AllowedOrigins) -> Self {
        let origins = match (&rules.origins, inherited) {
            (AllowedOrigins::Inherited, AllowedOrigins::Inherited) => AllowedOrigins::Any,
            (AllowedOrigins::Inherited, inherited) => inherited.clone(),
            (own, _) => own.clone(),
        };
        let (mut actual, mut preflight) = (Vec::new(), Vec::new());
        if rules.credentials {
            line(&mut actual, "Access-Control-Allow-Credentials", "true");
            line(&mut preflight, "Access-Control-Allow-Credentials", "true");
        }
        if let Some(names) = list(&rules.expose_headers) {
            line(&mut actual, "Access-Control-Expose-Headers", &names);
        }
        // With credentials a `*` is the name of a method or field, and never does it stand for
        // Authorization: what is asked for is said back instead.
        let any_method = rules.methods == Names::Any && rules.credentials;
        let any_header = rules.headers == Names::Any;
        for (name, names, said_back) in [
            ("Access-Control-Allow-Methods", &rules.methods, any_method),
            ("Access-Control-Allow-Headers", &rules.headers, any_header),
        ] {
            if let Some(names) = list(names).filter(|_| !said_back) {
                line(&mut preflight, name, &names);
            }
        }
        line(&mut preflight, "Access-Control-Max-Age", rules.max_age.as_secs().to_string());
        let varies = rules.credentials || origins != AllowedOrigins::Any;
        Self { origins, varies, actual, preflight, any_method, any_header }
    }

    /// The method of the request that a preflight asks about; `None` if this is none.
    pub fn asks_for<'a>(method: &[u8], fields: Fields<'a>) -> Option<&'a [u8]> {
        if method != b"OPTIONS" {
            return None;
        }
        fields.values("Origin").next()?;
        fields.values("Access-Control-Request-Method").next()
    }

    /// Appends the field lines of the 204 that answers a preflight; `false` if it is refused.
    pub fn preflight(&self, fields: Fields<'_>, out: &mut Vec<u8>) -> bool {
        let Some(origin) = only(fields.values("Origin")).filter(|origin| self.allows(origin))
        else {
            return false;
        };
        self.write_origin(origin, out);
        out.extend_from_slice(&self.preflight);
        if self.any_method {
            let asked = only(fields.values("Access-Control-Request-Method"));
            if let Some(method) = asked.filter(|method| is_token(method)) {
                line(out, "Access-Control-Allow-Methods", method);
            }
        }
        if self.any_header {
            let asked = only(fields.values("Access-Control-Request-Headers"));
            if let Some(names) = asked.filter(|names| is_list(names)) {
                line(out, "Access-Control-Allow-Headers", names);
            }
        }
        line(out, "Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
        true
    }

    /// Appends the field lines of a response to any other request.
    pub fn write(&self, fields: Fields<'_>, out: &mut Vec<u8>) {
        // Caches have to know that it varies, whoever asks (Fetch, "CORS protocol and HTTP caches").
        if self.varies {
            line(out, "Vary", "Origin");
        }
        match only(fields.values("Origin")) {
            Some(origin) if self.allows(origin) => {
                self.write_origin(origin, out);
                out.extend_from_slice(&self.actual);
            }
            // The same for all, so that a cache may give it to a page that does ask.
            None if !self.varies => {
                self.write_origin(b"", out);
                out.extend_from_slice(&self.actual);
            }
            _ => {}
        }
    }

    fn write_origin(&self, origin: &[u8], out: &mut Vec<u8>) {
        let value = if self.varies { origin } else { b"*" };
        line(out, "Access-Control-Allow-Origin", value);
    }

    fn allows(&self, origin: &[u8]) -> bool {
        // What no browser sends as an origin is none, and is not said back (RFC 6454 §7.1).
        if origin.is_empty() || !origin.iter().all(u8::is_ascii_graphic) {
            return false;
        }
        match &self.origins {
            AllowedOrigins::Any | AllowedOrigins::Inherited => true,
            AllowedOrigins::Only(patterns) => patterns.iter().any(|one| matches(one, origin)),
        }
    }
}

fn matches(pattern: &OriginPattern, origin: &[u8]) -> bool {
    match pattern {
        OriginPattern::Exact(exact) => origin.eq_ignore_ascii_case(exact.as_bytes()),
        OriginPattern::Between(before, behind) => {
            let split = origin.len().checked_sub(behind.len());
            let Some((begin, end)) = split.and_then(|at| origin.split_at_checked(at)) else {
                return false;
            };
            let Some((first, middle)) = begin.split_at_checked(before.len()) else { return false };
            // Something that reaches neither over the end of the host into another part of a URL, nor
            // from a user's name into it.
            let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(b);
            first.eq_ignore_ascii_case(before.as_bytes())
                && end.eq_ignore_ascii_case(behind.as_bytes())
                && !middle.is_empty()
                && middle.iter().all(plain)
        }
    }
}

/// The value, if there is exactly one.
fn only<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    let first = values.next();
    first.filter(|_| values.next().is_none())
}

/// A comma list of names, short enough to be said back.
fn is_list(names: &[u8]) -> bool {
    names.len() <= ASKED_MAX
        && names.split(|byte| *byte == b',').all(|name| is_token(name.trim_ascii()))
}

/// A token (RFC 9110 §5.6.2), which methods and names of fields are.
fn is_token(bytes: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(tchar)
}

fn list(names: &Names) -> Option<String> {
    match names {
        Names::Any => Some("*".to_owned()),
        Names::Only(names) if names.is_empty() => None,
        Names::Only(names) => Some(names.join(", ")),
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::head::RequestHead;

    use super::*;

    fn rules() -> model::Cors {
        let only = |names: &[&str]| Names::Only(names.iter().map(|n| (*n).to_owned()).collect());
        model::Cors {
            origins: AllowedOrigins::Only(vec![
                OriginPattern::Exact("https://a.example".to_owned()),
                OriginPattern::Between("https://".to_owned(), ".b.example".to_owned()),
            ]),
            methods: only(&["GET", "PUT"]),
            headers: only(&["X-Own"]),
            expose_headers: only(&[]),
            credentials: false,
            max_age: Duration::from_secs(60),
        }
    }

    fn any() -> model::Cors {
        model::Cors {
            origins: AllowedOrigins::Any,
            methods: Names::Any,
            headers: Names::Any,
            ..rules()
        }
    }

    /// The lines for a request with these fields: of a preflight, and of any other.
    fn said(rules: &model::Cors, fields: &str) -> (Option<String>, String) {
        let text = format!("OPTIONS / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        let limits = wire::head::HeadLimits::default();
        let _ = head.parse(text.as_bytes(), 0, &limits).unwrap();
        let fields = Fields::of(&head, text.as_bytes());
        let cors = Cors::compile(rules, &AllowedOrigins::Inherited);
        let (mut preflight, mut actual) = (Vec::new(), Vec::new());
        let answered = cors.preflight(fields, &mut preflight);
        cors.write(fields, &mut actual);
        let text = |lines| String::from_utf8(lines).unwrap().replace("\r\n", "\n");
        (answered.then(|| text(preflight)), text(actual))
    }

    #[test]
    fn a_listed_origin_is_said_back() {
        let (preflight, actual) = said(&rules(), "Origin: https://a.example\r\n");
        assert_eq!(actual, "Vary: Origin\nAccess-Control-Allow-Origin: https://a.example\n");
        assert_eq!(
            preflight.unwrap(),
            "Access-Control-Allow-Origin: https://a.example\n\
             Access-Control-Allow-Methods: GET, PUT\n\
             Access-Control-Allow-Headers: X-Own\n\
             Access-Control-Max-Age: 60\n\
             Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\n"
        );
    }

    #[test]
    fn another_origin_gets_nothing_but_vary() {
        for origin in [
            "https://a.example:8443",
            "http://a.example",
            "https://a.example.evil",
            "https://b.example",
            "https://.b.example",
            "https://x/.b.example",
            "https://x@y.b.example",
            "https://x.b.example.evil",
            "https://x.b.example/",
            "https://a.example https://b.example",
            "null",
        ] {
            let (preflight, actual) = said(&rules(), &format!("Origin: {origin}\r\n"));
            assert_eq!((preflight, &*actual), (None, "Vary: Origin\n"), "{origin}");
        }
        for fields in
            ["", "Origin:\r\n", "Origin: https://a.example\r\nOrigin: https://a.example\r\n"]
        {
            assert_eq!(said(&rules(), fields), (None, "Vary: Origin\n".to_owned()), "{fields}");
        }
    }

    #[test]
    fn a_star_stands_for_labels_or_ports() {
        for (before, behind, origin) in [
            ("https://", ".b.example", "https://x.y.b.example"),
            ("http://localhost:", "", "http://localhost:3000"),
            ("https://", "", "https://[::1]:8443"),
        ] {
            let pattern = OriginPattern::Between(before.to_owned(), behind.to_owned());
            assert!(matches(&pattern, origin.as_bytes()), "{origin}");
        }
    }

    #[test]
    fn null_is_an_origin_like_any_other() {
        let only = AllowedOrigins::Only(vec![OriginPattern::Exact("null".to_owned())]);
        let (preflight, actual) =
            said(&model::Cors { origins: only, ..rules() }, "Origin: null\r\n");
        assert!(preflight.is_some() && actual.contains("Access-Control-Allow-Origin: null\n"));
    }

    #[test]
    fn any_origin_without_credentials_is_a_star_for_all() {
        let (_, actual) = said(&any(), "");
        assert_eq!(actual, "Access-Control-Allow-Origin: *\n");
        let (preflight, actual) = said(
            &any(),
            "Origin: https://x.example\r\nAccess-Control-Request-Method: PATCH\r\n\
             Access-Control-Request-Headers: authorization, x-a\r\n",
        );
        assert_eq!(actual, "Access-Control-Allow-Origin: *\n");
        let preflight = preflight.unwrap();
        assert!(preflight.contains("Access-Control-Allow-Methods: *\n"), "{preflight}");
        assert!(
            preflight.contains("Access-Control-Allow-Headers: authorization, x-a\n"),
            "{preflight}"
        );
    }

    #[test]
    fn credentials_never_go_with_a_star() {
        let rules = model::Cors { credentials: true, expose_headers: Names::Any, ..any() };
        let (preflight, actual) = said(
            &rules,
            "Origin: https://x.example\r\nAccess-Control-Request-Method: PATCH\r\n\
             Access-Control-Request-Headers: x-a\r\n",
        );
        assert!(actual.contains("Access-Control-Allow-Origin: https://x.example\n"), "{actual}");
        assert!(actual.contains("Access-Control-Allow-Credentials: true\n"), "{actual}");
        let preflight = preflight.unwrap();
        assert!(!preflight.contains('*'), "{preflight}");
        assert!(preflight.contains("Access-Control-Allow-Methods: PATCH\n"), "{preflight}");
        assert!(preflight.contains("Access-Control-Allow-Headers: x-a\n"), "{preflight}");
        assert_eq!(said(&rules, "").1, "Vary: Origin\n");
    }

    #[test]
    fn what_is_no_list_of_names_is_not_said_back() {
        let long = "x-a, ".repeat(2000) + "x-a";
        for names in ["x-a, b c", "x-a,,b", "", "x:y", &long] {
            let (preflight, _) = said(
                &any(),
                &format!(
                    "Origin: https://x.example\r\nAccess-Control-Request-Headers: {names}\r\n"
                ),
            );
            assert!(!preflight.unwrap().contains("Allow-Headers"), "{names}");
        }
    }

    #[test]
    fn origins_not_named_are_those_of_the_whole() {
        let inherits = model::Cors { origins: AllowedOrigins::Inherited, ..rules() };
        let only = AllowedOrigins::Only(vec![OriginPattern::Exact("https://c.example".to_owned())]);
        assert!(Cors::compile(&inherits, &only).allows(b"https://c.example"));
        assert!(!Cors::compile(&inherits, &only).allows(b"https://a.example"));
        assert!(Cors::compile(&inherits, &AllowedOrigins::Inherited).allows(b"https://d.example"));
    }
}
