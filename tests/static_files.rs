//! Files of a site's `static_dir`.

use std::os::unix::fs::symlink;

use crate::harness::*;

const KEYS: &str = "static_dir = \"www\"\n";

/// A site of files only; `keys` are keys of the site.
fn files(keys: &str) -> Setup {
    let toml = format!(
        "[[sites]]\nname = \"files\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n{keys}\n"
    );
    Setup::new(&toml)
        .file("www/index.html", "<h1>home</h1>")
        .file("www/a.txt", "0123456789")
        .file("www/dir/index.html", "in dir")
        .file("www/dir/page.css", "p{}")
        .file("secret.txt", "secret")
}

fn plain() -> Ravelin {
    files(KEYS).start()
}

fn with_field(target: &str, field: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n{field}\r\n\r\n")
}

#[test]
fn files_have_type_length_etag_and_date() {
    let ravelin = plain();
    let response = ravelin.get("/a.txt").expect(200);
    assert_eq!(response.text(), "0123456789");
    assert!(response.get("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(response.framing, Framing::Length(10));
    assert!(response.get("etag").unwrap().ends_with('"'));
    assert!(response.get("last-modified").unwrap().ends_with(" GMT"));
    assert_eq!(response.get("accept-ranges"), Some("bytes"));
    assert!(response.get("date").unwrap().ends_with(" GMT"));
}

#[test]
fn media_types_follow_the_extension() {
    let mut setup = files(KEYS);
    let types = [
        ("x.html", "text/html"),
        ("x.css", "text/css"),
        ("x.js", "text/javascript"),
        ("x.json", "application/json"),
        ("x.svg", "image/svg+xml"),
        ("x.png", "image/png"),
        ("x.wasm", "application/wasm"),
        ("x.unknown-thing", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
    ];
    for (name, _) in types {
        setup = setup.file(&format!("www/{name}"), "x");
    }
    let ravelin = setup.start();
    for (name, media) in types {
        let response = ravelin.get(&format!("/{name}")).expect(200);
        let got = response.get("content-type").unwrap_or("application/octet-stream");
        assert!(got.starts_with(media), "{name}: {got}");
    }
}

#[test]
fn a_directory_answers_with_its_index() {
    let ravelin = plain();
    assert_eq!(ravelin.get("/").text(), "<h1>home</h1>");
    assert_eq!(ravelin.get("/dir/").text(), "in dir");
    assert_eq!(ravelin.get("/?x=1").text(), "<h1>home</h1>");
}

#[test]
fn index_files_are_tried_in_order() {
    let ravelin = files(
        "static_dir = \"www\"\nindex_files = [\"missing.html\", \"page.css\", \"index.html\"]",
    )
    .start();
    assert_eq!(ravelin.get("/dir/").text(), "p{}");
    assert_eq!(ravelin.get("/").text(), "<h1>home</h1>");
}

#[test]
fn a_directory_without_final_slash_redirects_to_it() {
    let ravelin = plain();
    let response = ravelin.get("/dir?q=1").expect(301);
    let location = response.get("location").unwrap();
    assert!(location == "/dir/?q=1" || location == "http://example.com/dir/?q=1", "{location}");
}

#[test]
fn a_redirect_cannot_lead_to_another_host() {
    let ravelin = files(KEYS).file("www/evil.test/index.html", "x").start();
    for target in ["//evil.test", "/%2e//evil.test", "/.//evil.test", "///evil.test"] {
        let response = ravelin.get(target);
        let location = response.get("location").unwrap_or("/");
        let away = location.starts_with("//") || location.starts_with("http://evil");
        assert!(!away, "{target} leads to {location}");
    }
}

#[test]
fn a_directory_without_index_is_not_listed() {
    let ravelin = files(KEYS).file("www/bare/file", "x").start();
    let response = ravelin.get("/bare/");
    assert!(matches!(response.status, 403 | 404), "{}", response.status);
    assert!(!response.text().contains("file<"), "{}", response.text());
}

#[test]
fn head_has_the_fields_without_the_body() {
    let ravelin = plain();
    let mut client = ravelin.client();
    let head = client.ask("HEAD /a.txt HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
    assert_eq!(head.get("content-length"), Some("10"));
    assert_eq!(client.get("/a.txt").text(), "0123456789");
}

#[test]
fn other_methods_are_405_with_allow() {
    let ravelin = plain();
    for method in ["POST", "PUT", "DELETE"] {
        let response = ravelin
            .ask(format!(
                "{method} /a.txt HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"
            ))
            .expect(405);
        assert!(response.get("allow").unwrap().contains("GET"), "{:?}", response.head);
    }
}

#[test]
fn a_missing_file_is_404() {
    let ravelin = plain();
    ravelin.get("/missing").expect(404);
    ravelin.get("/a.txt/").expect(404);
    ravelin.get("/a.txt/x").expect(404);
    ravelin.get("/missing/deep/down").expect(404);
}

#[test]
fn a_matching_etag_is_304() {
    let ravelin = plain();
    let etag = ravelin.get("/a.txt").get("etag").unwrap().to_owned();
    for value in [
        etag.clone(),
        format!("\"x\", {etag}"),
        format!("W/{etag}").replace("W/W/", "W/"),
        "*".into(),
    ] {
        let response = ravelin.ask(with_field("/a.txt", &format!("If-None-Match: {value}")));
        assert_eq!(response.status, 304, "{value}");
        assert_eq!(response.get("etag"), Some(etag.as_str()));
    }
    ravelin.ask(with_field("/a.txt", "If-None-Match: \"other\"")).expect(200);
    ravelin.ask(with_field("/a.txt", "If-Match: \"other\"")).expect(412);
    ravelin
        .ask(with_field("/a.txt", &format!("If-Match: {etag}")))
        .expect(if etag.starts_with("W/") { 412 } else { 200 });
}

#[test]
fn dates_are_compared_when_there_is_no_etag_in_the_request() {
    let ravelin = plain();
    let date = ravelin.get("/a.txt").get("last-modified").unwrap().to_owned();
    ravelin.ask(with_field("/a.txt", &format!("If-Modified-Since: {date}"))).expect(304);
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    ravelin.ask(with_field("/a.txt", &format!("If-Modified-Since: {old}"))).expect(200);
    ravelin.ask(with_field("/a.txt", "If-Modified-Since: not a date")).expect(200);
    ravelin.ask(with_field("/a.txt", &format!("If-Unmodified-Since: {old}"))).expect(412);
    let both = format!("If-Modified-Since: {date}\r\nIf-None-Match: \"other\"");
    ravelin.ask(with_field("/a.txt", &both)).expect(200);
}

#[test]
fn a_single_range_is_206() {
    let ravelin = plain();
    for (range, want, place) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-500", "56789", "bytes 5-9/10"),
        ("bytes=-500", "0123456789", "bytes 0-9/10"),
    ] {
        let response = ravelin.ask(with_field("/a.txt", &format!("Range: {range}"))).expect(206);
        assert_eq!(response.text(), want, "{range}");
        assert_eq!(response.get("content-range"), Some(place));
    }
}

#[test]
fn an_unsatisfiable_range_is_416() {
    let ravelin = plain();
    for range in ["bytes=10-", "bytes=500-600", "bytes=-0"] {
        let response = ravelin.ask(with_field("/a.txt", &format!("Range: {range}"))).expect(416);
        assert_eq!(response.get("content-range"), Some("bytes */10"), "{range}");
    }
}

#[test]
fn what_is_no_byte_range_is_ignored() {
    let ravelin = plain();
    for range in ["lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=", "bytes"] {
        let response = ravelin.ask(with_field("/a.txt", &format!("Range: {range}"))).expect(200);
        assert_eq!(response.text(), "0123456789", "{range}");
    }
}

#[test]
fn several_ranges_are_multipart() {
    let ravelin = plain();
    let response = ravelin.ask(with_field("/a.txt", "Range: bytes=0-1, 6-7")).expect(206);
    let kind = response.get("content-type").unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap().trim_matches('"');
    let text = response.text();
    assert!(text.contains(&format!("--{boundary}\r\n")), "{text}");
    assert!(text.trim_end().ends_with(&format!("--{boundary}--")), "{text}");
    assert!(text.contains("Content-Range: bytes 0-1/10\r\n"), "{text}");
    assert!(text.contains("\r\n\r\n01\r\n") && text.contains("\r\n\r\n67\r\n"), "{text}");
}

#[test]
fn cve_2011_3192_too_many_or_overlapping_ranges_cost_nothing() {
    let content = pattern(100_000, 1);
    let ravelin = files(KEYS).file("www/big.bin", &content).start();
    let many: Vec<String> = (0..1000).map(|i| format!("{}-{}", i * 2, i * 2)).collect();
    let response = ravelin.ask(with_field("/big.bin", &format!("Range: bytes={}", many.join(","))));
    assert_eq!(response.status, 200);
    assert_same_bytes(&response.body, &content);
    let overlapping: Vec<String> = (0..8).map(|i| format!("{i}-")).collect();
    let response =
        ravelin.ask(with_field("/big.bin", &format!("Range: bytes={}", overlapping.join(","))));
    assert!(response.body.len() <= content.len() + 1000, "{} bytes", response.body.len());
}

#[test]
fn if_range_decides_between_the_part_and_the_whole() {
    let ravelin = plain();
    let first = ravelin.get("/a.txt");
    let etag = first.get("etag").unwrap().to_owned();
    let ask = |value: &str| {
        let fields = format!("Range: bytes=0-1\r\nIf-Range: {value}");
        ravelin.ask(with_field("/a.txt", &fields)).status
    };
    assert_eq!(ask("\"other\""), 200);
    assert_eq!(ask("Sun, 06 Nov 1994 08:49:37 GMT"), 200);
    assert_eq!(ask(&etag), if etag.starts_with("W/") { 200 } else { 206 });
}

#[test]
fn a_large_file_arrives_whole_and_in_parts() {
    let content = pattern(5_000_000, 2);
    let ravelin = files(KEYS).file("www/big.bin", &content).start();
    let mut client = ravelin.client();
    for _ in 0..2 {
        assert_same_bytes(&client.get("/big.bin").expect(200).body, &content);
    }
    let part = client.ask(with_field("/big.bin", "Range: bytes=1000000-3999999")).expect(206);
    assert_same_bytes(&part.body, &content[1_000_000..4_000_000]);
}

#[test]
fn curl_resumes_a_download() {
    let content = pattern(200_000, 4);
    let ravelin = files(KEYS).file("www/big.bin", &content).start();
    let dir = TempDir::new();
    let part = dir.write("part", &content[..70_000]);
    curl(&["-C", "-", "-o", part.to_str().unwrap(), &ravelin.url("/big.bin")]);
    assert_same_bytes(&std::fs::read(part).unwrap(), &content);
}

#[test]
fn an_empty_file_is_served() {
    let ravelin = files(KEYS).file("www/empty.txt", "").start();
    let mut client = ravelin.client();
    let response = client.get("/empty.txt").expect(200);
    assert_eq!(response.framing, Framing::Length(0));
    client.get("/a.txt").expect(200);
}

#[test]
fn a_precompressed_neighbour_is_preferred_when_accepted() {
    let ravelin = files(KEYS)
        .file("www/app.js", "plain script")
        .file("www/app.js.gz", "gz bytes")
        .file("www/app.js.br", "br bytes")
        .file("www/app.js.zst", "zst bytes")
        .start();
    for (accept, coding, text) in [
        ("gzip", Some("gzip"), "gz bytes"),
        ("br", Some("br"), "br bytes"),
        ("zstd", Some("zstd"), "zst bytes"),
        ("gzip;q=0", None, "plain script"),
        ("identity", None, "plain script"),
        ("br;q=0, gzip", Some("gzip"), "gz bytes"),
        ("deflate", None, "plain script"),
    ] {
        let response =
            ravelin.ask(with_field("/app.js", &format!("Accept-Encoding: {accept}"))).expect(200);
        assert_eq!(response.get("content-encoding"), coding, "{accept}");
        assert_eq!(response.text(), text, "{accept}");
        assert!(response.get("content-type").unwrap().starts_with("text/javascript"));
        let vary = response.get("vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("accept-encoding"), "{accept}: {:?}", response.head);
    }
    assert_eq!(ravelin.get("/app.js").text(), "plain script");
    let etag = |accept: &str| {
        let response = ravelin.ask(with_field("/app.js", &format!("Accept-Encoding: {accept}")));
        response.get("etag").unwrap().to_owned()
    };
    assert_ne!(etag("gzip"), etag("identity"), "each coding is a representation of its own");
}

#[test]
fn no_spelling_of_dot_dot_leaves_the_root() {
    let ravelin = plain();
    for target in [
        "/../secret.txt",
        "/dir/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2e/secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/..;/secret.txt",
        "/dir/..%00/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/%uff0e%uff0e/secret.txt",
        "/./../secret.txt",
        "//../secret.txt",
        "/dir/%2e%2e/%2e%2e/secret.txt",
        "/a.txt%00.html",
        "/....//secret.txt",
    ] {
        let response = ravelin.get(target);
        assert!(matches!(response.status, 400 | 403 | 404), "{target}: {}", response.status);
        assert!(!response.text().contains("secret\n") && response.text() != "secret", "{target}");
    }
    // Inside the root it is an ordinary path.
    assert_eq!(ravelin.get("/dir/../a.txt").text(), "0123456789");
}

#[test]
fn escapes_in_names_are_decoded_once() {
    let ravelin = files(KEYS)
        .file("www/with space.txt", "space")
        .file("www/percent%20.txt", "percent")
        .file("www/caf\u{e9}.txt", "utf-8")
        .file("www/plus+.txt", "plus")
        .start();
    assert_eq!(ravelin.get("/with%20space.txt").text(), "space");
    assert_eq!(ravelin.get("/percent%2520.txt").text(), "percent");
    assert_eq!(ravelin.get("/caf%C3%A9.txt").text(), "utf-8");
    assert_eq!(ravelin.get("/plus+.txt").text(), "plus");
    assert_eq!(ravelin.get("/%61.txt").text(), "0123456789");
}

#[test]
fn a_symbolic_link_out_of_the_root_is_not_followed() {
    let setup = files(KEYS);
    symlink(setup.dir().join("secret.txt"), setup.dir().join("www/link.txt")).unwrap();
    symlink("..", setup.dir().join("www/up")).unwrap();
    symlink("a.txt", setup.dir().join("www/inside.txt")).unwrap();
    let ravelin = setup.start();
    for target in ["/link.txt", "/up/secret.txt"] {
        let response = ravelin.get(target);
        assert!(matches!(response.status, 403 | 404), "{target}: {}", response.status);
    }
    assert_eq!(ravelin.get("/inside.txt").text(), "0123456789", "a link inside the root is fine");
}

#[test]
fn follow_symlinks_follows_them() {
    let setup = files("static_dir = \"www\"\nfollow_symlinks = true\n");
    symlink(setup.dir().join("secret.txt"), setup.dir().join("www/link.txt")).unwrap();
    let ravelin = setup.start();
    assert_eq!(ravelin.get("/link.txt").text(), "secret");
    let response = ravelin.get("/../secret.txt");
    assert!(matches!(response.status, 400 | 404), "that is no link: {}", response.status);
}

#[test]
fn what_is_no_regular_file_is_404() {
    let setup = files(KEYS);
    let _socket = std::os::unix::net::UnixListener::bind(setup.dir().join("www/socket")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(setup.dir().join("www/pipe")).status();
    assert!(made.unwrap().success());
    let ravelin = setup.start();
    for target in ["/socket", "/pipe"] {
        let response = ravelin.get(target);
        assert!(matches!(response.status, 403 | 404), "{target}: {}", response.status);
    }
}

#[test]
fn error_pages_keep_the_status() {
    let ravelin = files("static_dir = \"www\"\n[sites.error_pages]\n404 = \"oops.html\"\n")
        .file("www/oops.html", "<p>not here</p>")
        .start();
    let response = ravelin.get("/missing").expect(404);
    assert_eq!(response.text(), "<p>not here</p>");
    assert!(response.get("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn spa_fallback_answers_pages_but_not_files() {
    let keys =
        "static_dir = \"www\"\nspa_fallback = \"index.html\"\nspa_exclude = [\"/users/x\"]\n";
    let ravelin = files(keys).start();
    let page = |target: &str| {
        let request = with_field(target, "Accept: text/html,*/*;q=0.8");
        ravelin.ask(request)
    };
    assert_eq!(page("/users/42").expect(200).text(), "<h1>home</h1>");
    assert_eq!(page("/a.txt").text(), "0123456789");
    page("/missing.js").expect(404);
    page("/users/x4").expect(404);
    let post = "POST /users HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n";
    assert_ne!(ravelin.ask(post).status, 200);
}

#[test]
fn cache_keys_set_and_leave_out_fields() {
    let ravelin =
        files("static_dir = \"www\"\n[sites.cache]\ncache_control = \"public, max-age=60\"\netag_enabled = false\n")
            .start();
    let response = ravelin.get("/a.txt").expect(200);
    assert_eq!(response.get("cache-control"), Some("public, max-age=60"));
    assert!(!response.head.has("etag"));
    assert!(response.head.has("last-modified"));
}

#[test]
fn site_and_security_headers_are_on_files_and_errors() {
    let toml = "[security.security_headers]\n\"X-Frame-Options\" = \"DENY\"\n";
    let setup = files("static_dir = \"www\"\n[sites.headers]\n\"X-Site\" = \"files\"\n");
    let text = std::fs::read_to_string(setup.dir().join("ravelin.toml")).unwrap() + toml;
    let ravelin = setup.file("ravelin.toml", text).start();
    for target in ["/a.txt", "/missing", "/dir"] {
        let response = ravelin.get(target);
        assert_eq!(response.get("x-frame-options"), Some("DENY"), "{target}");
        assert_eq!(response.get("x-site"), Some("files"), "{target}");
    }
}

#[test]
fn hide_server_header_leaves_it_out() {
    assert!(plain().get("/a.txt").head.has("server"));
    let setup = files(KEYS);
    let text = std::fs::read_to_string(setup.dir().join("ravelin.toml")).unwrap()
        + "[security]\nhide_server_header = true\n";
    let ravelin = setup.file("ravelin.toml", text).start();
    assert!(!ravelin.get("/a.txt").head.has("server"));
    assert!(!ravelin.get("/missing").head.has("server"));
}

#[test]
fn a_file_that_is_replaced_is_served_anew() {
    let ravelin = plain();
    let first = ravelin.get("/a.txt").expect(200);
    // Replaced as deployments do: a new file renamed over the old one.
    std::fs::write(ravelin.dir().join("www/new"), "another, longer content").unwrap();
    std::fs::rename(ravelin.dir().join("www/new"), ravelin.dir().join("www/a.txt")).unwrap();
    let etag = first.get("etag").unwrap().to_owned();
    // A cached descriptor may live for a moment; the deadline is far beyond any such moment.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let response = ravelin.get("/a.txt").expect(200);
        if response.text() == "another, longer content" {
            assert_ne!(response.get("etag"), Some(etag.as_str()));
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the old file is served for ever");
    }
}

#[test]
fn routes_win_over_files() {
    let origin = Origin::saying("proxied");
    let toml = site_with("static_dir = \"www\"", &[&origin.url()], "")
        .replace("path = \"/\"", "path = \"/dir/\"");
    let ravelin =
        Setup::new(&toml).file("www/dir/index.html", "file").file("www/a.txt", "a").start();
    assert_eq!(ravelin.get("/dir/index.html").text(), "proxied");
    assert_eq!(ravelin.get("/a.txt").text(), "a");
}

#[test]
fn a_body_sent_to_a_file_does_not_become_the_next_request() {
    let ravelin = plain();
    let mut client = ravelin.client();
    let body = "GET /secret HTTP/1.1\r\nHost: x\r\n\r\n";
    client.send(format!(
        "GET /a.txt HTTP/1.1\r\nHost: example.com\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.response("GET").text(), "0123456789");
    client.send("GET /dir/ HTTP/1.1\r\nHost: example.com\r\n\r\n");
    // Either kept, then the next answer is for /dir/, or closed: never an answer to the body.
    if let Ok(response) = client.wire.response("GET") {
        assert_eq!(response.text(), "in dir");
    }
}
