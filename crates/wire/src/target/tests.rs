use super::*;

fn path(target: &str) -> String {
    let parsed = parse_target(b"GET", target.as_bytes(), false);
    let parsed = parsed.unwrap_or_else(|error| panic!("{target}: {error}"));
    String::from_utf8(parsed.path.into_owned()).unwrap()
}

fn error(target: &str) -> TargetError {
    match parse_target(b"GET", target.as_bytes(), false) {
        Err(error) => error,
        Ok(parsed) => panic!("{target} was accepted as {parsed:?}"),
    }
}

#[test]
fn canonical_paths_are_borrowed() {
    for target in
        ["/", "/a/b.html", "/a/", "/.well-known/acme", "/a..b/...", "/%20x/%C3%A4", "/a;b=c"]
    {
        let parsed = parse_target(b"GET", target.as_bytes(), false).unwrap();
        assert!(matches!(parsed.path, Cow::Borrowed(_)), "{target}");
        assert_eq!(parsed.path, target.as_bytes());
        assert_eq!(canonical_path(target.as_bytes(), false).unwrap(), target.as_bytes());
    }
}

#[test]
fn paths_have_one_spelling() {
    for (target, canonical) in [
        ("/a//b///c", "/a/b/c"),
        ("//evil.example/a", "/evil.example/a"),
        ("/a/", "/a/"),
        ("/a//", "/a/"),
        ("/./a", "/a"),
        ("/a/.", "/a/"),
        ("/a/./", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/../b", "/b"),
        ("/a//../b", "/b"),
        ("/%61%2Db%7e", "/a-b~"),
        ("/%c3%a4%2b", "/%C3%A4%2B"),
        ("/a%20b", "/a%20b"),
        ("/a|b[\"]{^}<`>", "/a%7Cb%5B%22%5D%7B%5E%7D%3C%60%3E"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/a%2", ""),
        ("/%2e%2efoo/.%2e.", "/..foo/..."),
    ] {
        if canonical.is_empty() {
            assert_eq!(error(target), TargetError::Percent);
        } else {
            assert_eq!(path(target), canonical, "{target}");
        }
    }
}

#[test]
fn the_query_is_kept_byte_for_byte() {
    for (target, query) in [
        ("/a", None),
        ("/a?", Some("")),
        ("/a?b=%2e%2E/../%2f//?c&b=%00", Some("b=%2e%2E/../%2f//?c&b=%00")),
        ("/a/../?\\|\"", Some("\\|\"")),
        ("http://h?x", Some("x")),
    ] {
        let parsed = parse_target(b"GET", target.as_bytes(), false).unwrap();
        assert_eq!(parsed.query, query.map(str::as_bytes), "{target}");
    }
}

#[test]
fn cve_2021_41773_traversal_by_encoded_dots_is_400() {
    for target in [
        "/cgi-bin/.%2e/.%2e/etc/passwd",
        "/%2e%2e/",
        "/%2e",
        "/a/%2E./b",
        "/a/.%2e?x",
        "/a/%2e%2e;x/b",
    ] {
        assert_eq!(error(target), TargetError::HiddenDots, "{target}");
    }
}

#[test]
fn cve_2021_42013_double_encoding_is_decoded_once_and_kept_encoded() {
    assert_eq!(path("/a/.%252e/b"), "/a/.%252e/b");
    assert_eq!(error("/a/.%%32%65/b"), TargetError::Percent);
}

#[test]
fn cve_2024_38473_and_cve_2026_40912_encoded_delimiters_are_400() {
    for target in [
        "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5C..", "/a%00b", "/a%00", "/%c0%af", "/%C1%9c",
        "/%c0%ae/",
    ] {
        assert_eq!(error(target), TargetError::EncodedDelimiter, "{target}");
    }
}

#[test]
fn cve_2025_66490_encoded_slashes_stay_encoded_where_allowed() {
    let allowed = |target: &'static str| parse_target(b"GET", target.as_bytes(), true);
    assert_eq!(&*allowed("/a%2fb%5c/c").unwrap().path, b"/a%2Fb%5C/c");
    assert_eq!(allowed("/a%00"), Err(TargetError::EncodedDelimiter));
    for target in ["/a%2f..%2fb", "/a%2f%2e%2e/b", "/..%2f", "/..%5cb", "/x%5C..;y"] {
        assert_eq!(allowed(target), Err(TargetError::HiddenDots), "{target}");
    }
}

#[test]
fn path_parameters_on_dot_segments_are_400() {
    for target in ["/a/..;/b", "/..;x=1/b", "/.;/b", "/a/..%3b/b", "/a/..;"] {
        assert_eq!(error(target), TargetError::HiddenDots, "{target}");
    }
    assert_eq!(path("/a;..;x/b"), "/a;..;x/b");
}

#[test]
fn paths_above_the_root_are_400() {
    for target in ["/..", "/../", "/a/../..", "/a/../../b", "/./../a", "//..//"] {
        assert_eq!(error(target), TargetError::AboveRoot, "{target}");
    }
}

#[test]
fn forbidden_bytes_are_400() {
    for target in ["/a\\b", "/a\tb", "/a b", "/\u{7f}", "/ä", "/a?ä", "/a?b c", "/\0", "/a?\r\nb"]
    {
        assert_eq!(error(target), TargetError::Byte, "{target:?}");
    }
    for target in ["/#", "/a#b", "/a?b#c", "http://h#x", "http://h/a#"] {
        assert_eq!(error(target), TargetError::Fragment, "{target}");
    }
    for target in ["/%", "/%2", "/%zz", "/%2/", "/%%20", "/%+2"] {
        assert_eq!(error(target), TargetError::Percent, "{target}");
    }
}

#[test]
fn rfc9112_3_2_the_four_forms() {
    let absolute = parse_target(b"GET", b"HTTP://Example.org:8080/a/../b?c", false).unwrap();
    assert_eq!(absolute.form, Form::Absolute);
    assert_eq!(absolute.scheme, Some(Scheme::Http));
    assert_eq!(absolute.authority, Some(b"Example.org:8080".as_slice()));
    assert_eq!((&*absolute.path, absolute.query), (b"/b".as_slice(), Some(b"c".as_slice())));
    assert_eq!(path("https://example.org"), "/");

    let asterisk = parse_target(b"OPTIONS", b"*", false).unwrap();
    assert_eq!((asterisk.form, &*asterisk.path), (Form::Asterisk, b"*".as_slice()));
    let options = parse_target(b"OPTIONS", b"http://example.org:8001", false).unwrap();
    assert_eq!((options.form, &*options.path), (Form::Asterisk, b"*".as_slice()));
    assert_eq!(options.authority, Some(b"example.org:8001".as_slice()));

    let connect = parse_target(b"CONNECT", b"example.org:443", false).unwrap();
    assert_eq!(
        (connect.form, connect.authority),
        (Form::Authority, Some(b"example.org:443".as_slice()))
    );
}

#[test]
fn rfc9112_3_2_forms_the_method_does_not_allow_are_400() {
    for target in
        ["", "*", "a", "example.org:80", "ftp://h/", "http:/h/", "http://", "?a", "%2f", "*x"]
    {
        assert!(parse_target(b"GET", target.as_bytes(), false).is_err(), "{target}");
    }
    for target in ["/", "*", "example.org", "http://example.org/", "a@b:1", ""] {
        assert!(parse_target(b"CONNECT", target.as_bytes(), false).is_err(), "{target}");
    }
}

#[test]
fn cve_2021_40438_user_information_in_the_authority_is_400() {
    for target in
        ["http://a@b/", "http://a:b@c/", "http://a\\@b/", "http://a,b/", "http://a b/", "http:///x"]
    {
        assert_eq!(error(target), TargetError::Authority, "{target}");
    }
}
