use super::*;

fn parts(value: &str) -> (String, Option<u16>) {
    let host = Host::parse(value.as_bytes()).unwrap_or_else(|_| panic!("{value}"));
    (host.name().to_owned(), host.port())
}

#[test]
fn cve_2026_27588_one_spelling_a_host() {
    for (value, name, port) in [
        ("example.com", "example.com", None),
        ("EXAMPLE.Com", "example.com", None),
        ("example.com.", "example.com", None),
        ("Example.com.:8080", "example.com", Some(8080)),
        ("example.com:", "example.com", None),
        ("a_b-c~d", "a_b-c~d", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
        ("localhost:00080", "localhost", Some(80)),
        ("[::1]", "::1", None),
        ("[0:0:0:0:0:0:0:1]:443", "::1", Some(443)),
        ("[2001:DB8::A]:", "2001:db8::a", None),
        ("[::ffff:192.0.2.1]", "::ffff:192.0.2.1", None),
    ] {
        assert_eq!(parts(value), (name.to_owned(), port), "{value}");
        assert_eq!(check(value.as_bytes()), Ok(()));
    }
}

#[test]
fn cve_2021_40438_values_that_could_name_another_host_are_400() {
    for value in [
        "",
        ".",
        "..",
        ".example.com",
        "a..b",
        "example.com..",
        "a b",
        " a",
        "a\t",
        "a@b",
        "a:b@c",
        "a/b",
        "/",
        "a\\b",
        "a,b",
        "a, b",
        "a?b",
        "a#b",
        "a%2eb",
        "a%b",
        "bücher.example",
        "a;b",
        "a!",
        "a\0",
        "a\u{7f}",
        ":80",
        "a:0",
        "a:65536",
        "a:999999",
        "a:-1",
        "a:+1",
        "a: 80",
        "a:80:80",
        "a:8x",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[::1]80",
        "[::1]:x",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[v1.a]",
        "[127.0.0.1]",
        "[a]",
        "*",
        "http://a",
    ] {
        assert_eq!(Host::parse(value.as_bytes()), Err(HostError), "{value:?}");
        assert_eq!(check(value.as_bytes()), Err(HostError));
    }
}

#[test]
fn names_are_bounded() {
    let longest = "a".repeat(NAME_MAX);
    assert_eq!(parts(&longest).0, longest);
    assert_eq!(parts(&format!("{longest}.:1")), (longest.clone(), Some(1)));
    assert!(Host::parse(format!("{longest}a").as_bytes()).is_err());
    assert!(Host::parse(&b"a".repeat(30_000)).is_err());
}
