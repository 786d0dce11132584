use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::log::{Cause, Party, Phase, Record, Times};
use crate::recorder::Text;

fn record() -> Record<'static> {
    Record {
        wall_us: 1_795_232_881_250_000,
        client: Some(IpAddr::from([192, 0, 2, 7])),
        method: b"GET",
        target: b"/api/x?q=1",
        version: "HTTP/1.1",
        status: 502,
        response_bytes: 2048,
        request_bytes: 5,
        host: b"Example.com:8080",
        site: "main",
        route: Some("/api/"),
        endpoint: "http://10.0.0.2:80",
        user: b"ann",
        request_id: b"7-a",
        attempts: 2,
        times: Times { total: 1_500_000, connect: Some(12_000), ..Times::default() },
        ended: crate::exchange::failed(Party::Upstream, Phase::Connect, Cause::Refused),
        ..Record::default()
    }
}

#[track_caller]
fn passes(text: &str) -> bool {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    filter.passes(&Exchange::of(&record()))
}

#[test]
fn what_is_so_passes() {
    for text in [
        "status>=500",
        "status == 502",
        "status = 5xx",
        "status in (404, 502)",
        "status in [500..503]",
        "status not in (404, 2xx)",
        "status != 404",
        "method == GET",
        "method==\"GET\" && path == '/api/x'",
        "target == '/api/x?q=1'",
        "path =~ '^/api/'",
        "path !~ \"^/static\"",
        "host == example.COM",
        "site == main and route == /api/",
        "endpoint == http://10.0.0.2:80",
        "client == 192.0.2.0/24",
        "client in (10.0.0.0/8, 192.0.2.7)",
        "client == ::ffff:192.0.2.7",
        "client != 10.0.0.0/8",
        "time > 1s && time <= 1.5s",
        "total >= 1500ms",
        "connect < 12.001ms",
        "time.connect == 12000us",
        "bytes == 2KB && request_bytes < 10",
        "ended == upstream && phase == connect && cause == refused",
        "reason == connect_refused && reason =~ '^connect_'",
        "user == ann or user == bob",
        "request_id == 7-a",
        "protocol == HTTP/1.1",
        "attempts > 1",
        "failed",
        "!reused && not websocket",
        "!(status < 500) && (site == x || site == \"main\")",
        "status==404 && site==x || failed",
        "tls == \"\"",
    ] {
        assert!(passes(text), "{text}");
    }
}

#[test]
fn what_is_not_so_does_not_pass() {
    for text in [
        "status < 502",
        "status == 2xx",
        "status not in (5xx)",
        "method == get",
        "path == /api",
        "host == example.org",
        "client == 10.0.0.0/8",
        "client == 2001:db8::/32",
        "time < 1s",
        "status < 0",
        "bytes > 18446744073709551615",
        "ended == client",
        "tls == TLSv1.3",
        "status==404 && (site==x || failed)",
    ] {
        assert!(!passes(text), "{text}");
    }
}

#[test]
fn a_test_of_what_is_not_known_is_not_passed() {
    for text in ["queue > 0ms", "queue < 1h", "queue != 5ms", "queue == 5ms"] {
        assert!(!passes(text), "{text}");
    }
    assert!(passes("!(queue > 0ms)"));
    let nobody = Record { client: None, ..record() };
    let filter = Filter::parse("client != 10.0.0.0/8").unwrap();
    assert!(!filter.passes(&Exchange::of(&nobody)));
}

#[test]
fn mistakes_are_shown_at_their_place_with_what_to_write() {
    for (text, expected) in [
        ("statu>=500", "no field is called `statu`\n  statu>=500\n  ^^^^^ did you mean `status`?"),
        (
            "request-id==1",
            "no field is called `request-id`\n  request-id==1\n  ^^^^^^^^^^ did you mean `request_id`?",
        ),
        ("status>=", "expected a value\n  status>=\n          ^ such as `status >= 500`"),
        (
            "status",
            "expected a comparison of `status`\n  status\n        ^ such as `status >= 500`",
        ),
        ("time > 5", "a unit is missing: 5ms if milliseconds are meant\n  time > 5\n         ^"),
        (
            "time > 5min",
            "`min` is no unit of time; there are us, ms, s, m, h and d\n  time > 5min\n         ^^^^",
        ),
        (
            "path > x",
            "this compares numbers, sizes and times\n  path > x\n       ^ use ==, != or in, or =~ where it is text",
        ),
        (
            "status =~ 5",
            "only text matches a regular expression\n  status =~ 5\n         ^^ use ==, !=, <, <=, >, >= or in",
        ),
        ("site == \"a", "this text has no end\n  site == \"a\n          ^^ it ends with \""),
        ("(failed", "expected `&&`, `||` or `)`\n  (failed\n         ^ `(` is not closed"),
        ("failed)", "there is no `(` for this\n  failed)\n        ^ take it out"),
        ("failed & reused", "expected `&&`, `||` or the end\n  failed & reused\n         ^"),
        (
            "failed == true",
            "`failed` stands alone\n  failed == true\n         ^^ `failed` or `!failed`",
        ),
        (
            "client == 10.0.0.0/40",
            "expected an address or a network such as 10.0.0.0/8\n  client == 10.0.0.0/40\n            ^^^^^^^^^^^",
        ),
        (
            "ended == server",
            "`server` is none of its values\n  ended == server\n           ^^^^^^ there are complete, client, upstream, proxy",
        ),
        (
            "reason == conect_refused",
            "no reason is called `conect_refused`\n  reason == conect_refused\n            ^^^^^^^^^^^^^^ did you mean `connect_refused`?",
        ),
        ("site in a", "expected a list\n  site in a\n          ^ such as (404, 502)"),
        ("status in (1 2)", "expected `,` or `)`\n  status in (1 2)\n               ^"),
        (
            "status == 5000",
            "expected a status such as 404, or a class such as 5xx\n  status == 5000\n            ^^^^",
        ),
        ("", "expected the name of a field\n  \n  ^ such as `status`, `site` or `time`"),
        (
            "site == ä && x==1",
            "no field is called `x`\n  site == ä && x==1\n               ^ there are ",
        ),
    ] {
        let error = Filter::parse(text).expect_err(text).to_string();
        let begins = expected.ends_with("are ") && error.starts_with(expected);
        assert!(begins || error == expected, "{text}: {error}");
    }
    let error = Filter::parse("path =~ '('").expect_err("no regular expression");
    assert_eq!((error.at.clone(), error.message.contains('\n')), (8..11, false), "{error}");
}

#[test]
fn everything_is_bounded() {
    let deep = "(".repeat(DEPTH_MAX + 1) + "failed" + &")".repeat(DEPTH_MAX + 1);
    let long = format!("site == \"{}\"", "a".repeat(BYTES_MAX));
    let tests = vec!["failed"; TESTS_MAX + 1].join("||");
    let values = format!("status in ({})", vec!["1"; VALUES_MAX + 1].join(","));
    let regexes = ["site=~a"; REGEXES_MAX + 1].join("&&");
    for text in [deep, long, "!".repeat(DEPTH_MAX + 1), tests, values, regexes] {
        let error = Filter::parse(&text).expect_err("too much");
        assert!(
            error.message.contains("more than") || error.message.contains("at most"),
            "{error}"
        );
    }
}

#[test]
fn regular_expressions_that_would_hold_up_a_worker_are_refused() {
    let large = "path =~ '(a?b?c?){200}'";
    // One of these is small enough, eight are not.
    let several = ["path =~ '[a-z]{100}x'"; REGEXES_MAX].join(" || ");
    assert!(Filter::parse("path =~ '[a-z]{100}x'").is_ok());
    for text in [large, &several] {
        let error = Filter::parse(text).expect_err("too large");
        assert!(error.message.contains("too large"), "{error}");
    }
    let usual = ["path =~ '(?i)^/api/v\\d+/(users|groups)/\\w+$'"; REGEXES_MAX].join(" || ");
    assert!(Filter::parse(&usual).is_ok(), "{:?}", Filter::parse(&usual));
}

#[test]
fn regular_expressions_see_what_is_recorded() {
    let target = "/".to_owned() + &"a".repeat(Text::Target.max()) + "b";
    let long = Record { target: target.as_bytes(), ..record() };
    for (text, expected) in [("path =~ 'b'", false), ("path =~ 'a$'", true)] {
        let filter = Filter::parse(text).unwrap();
        assert_eq!(filter.passes(&Exchange::of(&long)), expected, "{text}");
        assert_eq!(
            filter.passes(&super::super::Kept::new(&Exchange::of(&long)).exchange()),
            expected
        );
    }
    let whole = Filter::parse(&format!("target == '{target}'")).unwrap();
    assert!(whole.passes(&Exchange::of(&long)));
}

#[test]
fn every_field_has_one_name_of_its_own() {
    let mut names: Vec<&str> = FIELDS.iter().flat_map(|field| field.names).copied().collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(FIELDS.iter().all(|field| !field.names.is_empty() && !field.about.is_empty()));
}

#[test]
fn every_field_is_documented() {
    let docs = include_str!("../../../../../docs/observe.md");
    for name in FIELDS.iter().filter_map(|field| field.names.first()) {
        assert!(docs.contains(&format!("`{name}`")), "{name}");
    }
}

/// Pieces that make texts which are nearly filters.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("status".to_owned()),
        Just("site".to_owned()),
        Just("client".to_owned()),
        Just("time.connect".to_owned()),
        Just("failed".to_owned()),
        Just("in".to_owned()),
        Just("not".to_owned()),
        proptest::sample::select(vec![
            "==", "!=", "<", "<=", ">", ">=", "=~", "!~", "&&", "||", "!", "(", ")", "[", "]", ",",
            "\"", "'", "\\", " ", "=", "&",
        ])
        .prop_map(str::to_owned),
        "[0-9]{1,20}(ms|s|us|KB|xx|\\.\\.[0-9]+)?",
        "[a-z0-9./:\\-*\u{e4}]{0,8}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in prop_oneof![pieces(), "\\PC{0,80}", any::<String>()]) {
        match Filter::parse(&text) {
            Ok(filter) => drop(filter.passes(&Exchange::of(&record()))),
            Err(error) => {
                prop_assert!(error.text.get(error.at.clone()).is_some() || error.text.is_empty());
                prop_assert!(!error.message.contains('\n'));
                drop(error.to_string());
            }
        }
    }

    #[test]
    fn a_negation_is_the_opposite(text in pieces()) {
        if let Ok(filter) = Filter::parse(&text) && text.len() + 3 <= BYTES_MAX {
            let negated = Filter::parse(&format!("!({text})"));
            if let Ok(negated) = negated {
                let record = record();
                let exchange = Exchange::of(&record);
                prop_assert_ne!(filter.passes(&exchange), negated.passes(&exchange));
            }
        }
    }

    #[test]
    fn statuses_compare_as_numbers_do(status in 0u16..1000, with in 0u16..1000) {
        let record = Record { status, ..record() };
        let exchange = Exchange::of(&record);
        for (operator, expected) in [
            ("==", status == with),
            ("!=", status != with),
            ("<", status < with),
            ("<=", status <= with),
            (">", status > with),
            (">=", status >= with),
        ] {
            let filter = Filter::parse(&format!("status {operator} {with}")).unwrap();
            prop_assert_eq!(filter.passes(&exchange), expected, "{} {} {}", status, operator, with);
        }
    }
}
