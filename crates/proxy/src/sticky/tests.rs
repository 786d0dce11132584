use proptest::prelude::*;

use super::value::VALUE_LEN;
use super::*;

const NOW: u64 = 1_700_000_000;
const HOUR: u64 = 3600;

fn secret() -> Secret {
    Secret::from_contents(b"a secret of enough bytes").unwrap()
}

fn settings(mode: StickyMode) -> Settings {
    Settings {
        mode,
        key_file: None,
        secure: None,
        same_site: SameSite::Lax,
        path: "/".to_owned(),
        domain: None,
    }
}

fn cookie_mode(duration: Option<u64>) -> StickyMode {
    let duration = duration.map(Duration::from_secs);
    StickyMode::Cookie { name: Some("ROUTE".to_owned()), duration }
}

fn application_mode() -> StickyMode {
    StickyMode::ApplicationCookie { application: "sid".to_owned(), name: Some("ROUTE".to_owned()) }
}

fn sticky(mode: StickyMode) -> Sticky {
    Sticky::new(&settings(mode), &secret(), "backend")
}

fn find(sticky: &Sticky, fields: &[&str], now: u64) -> Found {
    sticky.find(fields.iter().map(|field| field.as_bytes()), now)
}

fn line(sticky: &Sticky, tag: Tag, https: bool) -> String {
    let mut out = Vec::new();
    sticky.set_cookie(tag, https, NOW, &mut out);
    String::from_utf8(out).unwrap()
}

/// What a browser sends after it was told to set the cookie: "ROUTE=…".
fn cookie(sticky: &Sticky, tag: Tag) -> String {
    let line = line(sticky, tag, false);
    let pair = line.strip_prefix("Set-Cookie: ").unwrap().split(';').next().unwrap();
    assert_eq!(pair.len(), "ROUTE=".len() + VALUE_LEN);
    pair.to_owned()
}

fn valid(tag: Tag) -> Found {
    Found::Valid { tag, aged: false }
}

#[test]
fn a_cookie_names_the_member_again() {
    let sticky = sticky(cookie_mode(None));
    let (a, b) = (sticky.member_tag("http://10.0.0.1"), sticky.member_tag("http://10.0.0.2"));
    assert_ne!(a, b);
    for tag in [a, b] {
        let cookie = cookie(&sticky, tag);
        assert_eq!(find(&sticky, &[&cookie], NOW), valid(tag));
        assert_eq!(find(&sticky, &["x=1", &format!("y=2;  {cookie} ;z")], NOW), valid(tag));
        assert_eq!(find(&sticky, &[&cookie], u64::MAX), valid(tag));
        assert_eq!(find(&sticky, &[&cookie], NOW).tag(), Some(Mark::Member(tag)));
    }
    assert_eq!(find(&sticky, &[], NOW), Found::None);
    assert_eq!(find(&sticky, &["x=1; route=2"], NOW), Found::None);
}

#[test]
fn a_restart_and_another_proxy_understand_a_cookie_made_with_the_same_secret() {
    let first = sticky(cookie_mode(None));
    let tag = first.member_tag("http://a");
    let second = sticky(cookie_mode(None));
    assert_eq!(find(&second, &[&cookie(&first, tag)], NOW), valid(second.member_tag("http://a")));
}

#[test]
fn a_cookie_of_another_pool_or_secret_is_refused() {
    let ours = sticky(cookie_mode(None));
    let mode = settings(cookie_mode(None));
    let other_secret = Secret::from_contents(b"another secret of enough bytes").unwrap();
    for theirs in [
        Sticky::new(&mode, &secret(), "other"),
        Sticky::new(&mode, &secret(), ""),
        Sticky::new(&mode, &other_secret, "backend"),
    ] {
        assert_ne!(theirs.member_tag("http://a"), ours.member_tag("http://a"));
        let cookie = cookie(&theirs, ours.member_tag("http://a"));
        assert_eq!(find(&ours, &[&cookie], NOW), Found::Invalid);
    }
}

#[test]
fn a_cookie_with_one_character_changed_is_refused() {
    let sticky = sticky(cookie_mode(Some(HOUR)));
    let cookie = cookie(&sticky, sticky.member_tag("http://a"));
    assert!(find(&sticky, &[&cookie], NOW).tag().is_some());
    for at in "ROUTE=".len()..cookie.len() {
        for other in *b"A8z-_=+/ \"\0" {
            let mut forged = cookie.clone().into_bytes();
            if std::mem::replace(&mut forged[at], other) != other {
                let found = sticky.find([forged.as_slice()].into_iter(), NOW);
                assert_eq!(found, Found::Invalid, "{other} at {at}");
            }
        }
    }
    for length in "ROUTE=".len()..cookie.len() {
        assert_eq!(find(&sticky, &[&cookie[..length]], NOW), Found::Invalid);
    }
    assert_eq!(find(&sticky, &[&format!("{cookie}=")], NOW), Found::Invalid);
    assert_eq!(find(&sticky, &[&format!("{cookie}A")], NOW), Found::Invalid);
}

/// Easegress puts the key of the HMAC into the cookie, so that anybody can make one.
#[test]
fn a_cookie_signed_with_a_key_of_the_clients_is_refused() {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let sticky = sticky(cookie_mode(None));
    let key = [7; 8];
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"http://a");
    let text: String =
        key.iter().chain(signed.as_ref()).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(find(&sticky, &[&format!("ROUTE={text}")], NOW), Found::Invalid);
    let tag = sticky.member_tag("http://a");
    for seal in [&[0; 16][..], &signed.as_ref()[..16], &[&tag[..], &tag[..]].concat()] {
        let text = URL_SAFE_NO_PAD.encode([&tag[..], &[0; 8], seal].concat());
        assert_eq!(text.len(), VALUE_LEN);
        assert_eq!(find(&sticky, &[&format!("ROUTE={text}")], NOW), Found::Invalid);
    }
}

#[test]
fn the_first_valid_cookie_counts_among_a_few() {
    let sticky = sticky(cookie_mode(None));
    let (a, b) = (sticky.member_tag("a"), sticky.member_tag("b"));
    let (cookie_a, cookie_b) = (cookie(&sticky, a), cookie(&sticky, b));
    let fields = format!("ROUTE=; ROUTE=x; {cookie_b}; {cookie_a}");
    assert_eq!(find(&sticky, &[&fields], NOW), valid(b));
    assert_eq!(find(&sticky, &["ROUTE=", &cookie_a, &cookie_b], NOW), valid(a));
    let many = "ROUTE=x; ".repeat(COOKIES_TRIED_MAX);
    assert_eq!(find(&sticky, &[&format!("{many}{cookie_a}")], NOW), Found::Invalid);
}

#[test]
fn a_cookie_with_a_duration_ages_and_expires() {
    let sticky = sticky(cookie_mode(Some(HOUR)));
    let tag = sticky.member_tag("a");
    let cookie = cookie(&sticky, tag);
    let at = |seconds: u64| find(&sticky, &[&cookie], NOW + seconds);
    assert_eq!(at(0), valid(tag));
    assert_eq!(at(HOUR / 2 - 1), valid(tag));
    assert_eq!(at(HOUR / 2), Found::Valid { tag, aged: true });
    assert_eq!(at(HOUR - 1), Found::Valid { tag, aged: true });
    assert_eq!(at(HOUR), Found::Invalid);
    assert_eq!(find(&sticky, &[&cookie], u64::MAX), Found::Invalid);
}

#[test]
fn a_cookie_from_before_a_change_of_the_duration_is_valid_and_replaced() {
    let session = sticky(cookie_mode(None));
    let short = sticky(cookie_mode(Some(HOUR)));
    let long = sticky(cookie_mode(Some(2 * HOUR)));
    let tag = session.member_tag("a");
    for (old, new) in [(&session, &short), (&short, &session), (&long, &short), (&short, &long)] {
        let found = find(new, &[&cookie(old, tag)], NOW);
        assert_eq!(found, Found::Valid { tag, aged: true });
    }
}

#[test]
fn the_attributes_are_those_configured() {
    let attributes = |settings: &Settings, https| {
        let sticky = Sticky::new(settings, &secret(), "backend");
        let line = line(&sticky, sticky.member_tag("a"), https);
        line.split_once("; ").unwrap().1.to_owned()
    };
    let plain = settings(cookie_mode(None));
    assert_eq!(attributes(&plain, false), "Path=/; HttpOnly; SameSite=Lax\r\n");
    assert_eq!(attributes(&plain, true), "Path=/; HttpOnly; SameSite=Lax; Secure\r\n");
    let all = Settings {
        secure: Some(true),
        same_site: SameSite::Strict,
        path: "/shop".to_owned(),
        domain: Some("example.test".to_owned()),
        ..settings(cookie_mode(Some(HOUR)))
    };
    let expected =
        "Path=/shop; HttpOnly; SameSite=Strict; Domain=example.test; Max-Age=3600; Secure\r\n";
    assert_eq!(attributes(&all, false), expected);
    let never = Settings { secure: Some(false), ..plain.clone() };
    assert_eq!(attributes(&never, true), "Path=/; HttpOnly; SameSite=Lax\r\n");
    let none = Settings { same_site: SameSite::None, ..plain };
    assert_eq!(attributes(&none, false), "Path=/; HttpOnly; SameSite=None; Secure\r\n");
    let host =
        StickyMode::Cookie { name: Some("__Host-r".to_owned()), duration: Some(Duration::ZERO) };
    let expected = "Path=/; HttpOnly; SameSite=Lax; Max-Age=1; Secure\r\n";
    assert_eq!(attributes(&settings(host), false), expected);
}

#[test]
fn a_cookie_shows_nothing_of_the_member() {
    let sticky = sticky(cookie_mode(None));
    let text = line(&sticky, sticky.member_tag("http://10.0.0.1:8080"), true);
    let value = text.strip_prefix("Set-Cookie: ROUTE=").unwrap().split_once(';').unwrap().0;
    assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    assert!(!text.contains("10.0"));
}

#[test]
fn a_response_sets_the_cookie_only_if_the_client_has_not_got_it() {
    let sticky = sticky(cookie_mode(Some(HOUR)));
    let (a, b) = (sticky.member_tag("a"), sticky.member_tag("b"));
    let needs = |found| sticky.needs_cookie(found, a, std::iter::empty());
    assert!(needs(Found::None) && needs(Found::Invalid) && needs(valid(b)));
    assert!(needs(Found::Valid { tag: a, aged: true }));
    assert!(!needs(valid(a)));
}

#[test]
fn beside_the_applications_cookie_it_is_set_when_the_application_sets_its_own() {
    let sticky = sticky(application_mode());
    let (a, b) = (sticky.member_tag("a"), sticky.member_tag("b"));
    let needs = |found, fields: &[&str]| {
        sticky.needs_cookie(found, a, fields.iter().map(|field| field.as_bytes()))
    };
    for found in [Found::None, Found::Invalid, valid(b)] {
        assert!(needs(found, &["x=1", "sid=2; Path=/"]));
        assert!(!needs(found, &["x=1; sid=2", "SID=1"]));
        assert!(!needs(found, &[]));
    }
    assert!(!needs(valid(a), &["sid=2"]));
    let line = line(&sticky, a, false);
    assert!(line.ends_with("; Path=/; HttpOnly; SameSite=Lax\r\n"), "{line}");
    assert_eq!(find(&sticky, &[&cookie(&sticky, b)], NOW), valid(b));
}

#[test]
fn the_applications_cookie_is_hashed_and_nothing_else_happens() {
    let sticky = sticky(StickyMode::ConsistentHash { application: "sid".to_owned() });
    let hash = |fields: &[&str]| match find(&sticky, fields, NOW) {
        Found::Hash(hash) => Some(hash),
        _ => None,
    };
    assert_eq!(hash(&["x=1; sid=abc"]), Some(xxh3_64(b"abc")));
    assert_eq!(hash(&["sid=; x=1", "sid=abc; sid=d"]), hash(&["sid=abc"]));
    assert_ne!(hash(&["sid=abd"]), hash(&["sid=abc"]));
    assert_eq!(hash(&[]), None);
    assert_eq!(hash(&["sid=; SID=1; x"]), None);
    assert_eq!(Found::Hash(7).tag(), Some(Mark::Hash(7)));
    let tag = sticky.member_tag("a");
    assert_eq!(find(&sticky, &["=1; ROUTE=1"], NOW), Found::None);
    assert!(!sticky.needs_cookie(Found::None, tag, [&b"sid=1"[..]].into_iter()));
    assert!(!sticky.needs_cookie(Found::Hash(1), tag, [&b"sid=1"[..]].into_iter()));
    assert_eq!(line(&sticky, tag, true), "");
    let mut out = Vec::new();
    sticky.write_cookie_line(b"=1; sid=abc", &mut out);
    assert_eq!(out, b"Cookie: =1; sid=abc\r\n");
}

/// RFC 6265 §5.3: a browser keeps one cookie for a name, path and host.
#[test]
fn pools_have_cookies_of_different_names_unless_told_otherwise() {
    let mode = || settings(StickyMode::Cookie { name: None, duration: None });
    let name = |pool: &str| {
        let sticky = Sticky::new(&mode(), &secret(), pool);
        let line = line(&sticky, sticky.member_tag("a"), false);
        line.split('=').next().unwrap().to_owned()
    };
    // Another name would forget every client at an update.
    assert_eq!(name("backend"), "Set-Cookie: RAVELIN_ROUTE_65fc35cc");
    assert_ne!(name("backend"), name("frontend"));
    assert_eq!(name("a b;\u{e9}").len(), name("backend").len());
}

#[test]
fn the_cookie_does_not_go_upstream() {
    let sticky = sticky(cookie_mode(None));
    let own = cookie(&sticky, sticky.member_tag("a"));
    let mut out = b"GET / HTTP/1.1\r\n".to_vec();
    for cookies in [format!("a=1; {own}; b=2"), own, "ROUTE=x; c=3".to_owned()] {
        sticky.write_cookie_line(cookies.as_bytes(), &mut out);
    }
    let expected = "GET / HTTP/1.1\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n";
    assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
}

proptest! {
    #[test]
    fn what_was_not_sealed_is_never_believed(
        fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        values in prop::collection::vec("[A-Za-z0-9_-]{42,44}", 0..4),
        now: u64,
    ) {
        let sticky = sticky(cookie_mode(Some(HOUR)));
        let own: Vec<Vec<u8>> =
            values.iter().map(|value| format!("a; ROUTE={value}").into_bytes()).collect();
        let found = sticky.find(fields.iter().chain(&own).map(Vec::as_slice), now);
        prop_assert_eq!(found.tag(), None);
        prop_assert!(own.is_empty() || found == Found::Invalid);
    }

    #[test]
    fn every_cookie_set_is_found_among_others(
        tag: [u8; 8],
        before in "[a-z=;\" ]{0,30}",
        after in "[A-Za-z=;\" ]{0,30}",
        now in 0..u64::MAX - HOUR,
    ) {
        let sticky = sticky(cookie_mode(Some(HOUR)));
        let mut line = Vec::new();
        sticky.set_cookie(tag, true, now, &mut line);
        let line = String::from_utf8(line).unwrap();
        let own = line.strip_prefix("Set-Cookie: ").unwrap().split(';').next().unwrap();
        let field = format!("{before}; {own}; {after}");
        prop_assert_eq!(find(&sticky, &[&field], now), valid(tag));
    }
}
