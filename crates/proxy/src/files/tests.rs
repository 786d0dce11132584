//! What a user of a site sees.

use super::testing::{Client, Seen, Site, long_ago, replace};
use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Duration;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn request(path: &str) -> FileRequest<'_> {
    FileRequest { path: path.as_bytes(), ..FileRequest::default() }
}

// Files and directories

#[test]
fn a_file_is_served_with_its_type_and_validators() {
    let site = Site::new("plain");
    site.write("docs/a b.html", "<h1>hello</h1>");
    let answer = site.serve().get("/docs/a%20b.html");
    assert_eq!((answer.status, answer.text()), (200, "<h1>hello</h1>"));
    assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.field("Last-Modified"), Some(DATE));
    assert_eq!(answer.field("Accept-Ranges"), Some("bytes"));
    assert_eq!(answer.field("Vary"), None);
    assert_eq!(answer.field("Cache-Control"), None);
    let etag = answer.field("ETag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with("-e\""), "{etag}");
}

#[test]
fn head_is_answered_with_the_fields_and_the_length_of_get() {
    let site = Site::new("head");
    site.write("a.txt", "0123456789");
    let mut client = site.serve();
    let get = client.get("/a.txt");
    let head = client.ask(FileRequest { head_only: true, ..request("/a.txt") });
    assert_eq!((head.status, head.len, &head.fields), (200, 10, &get.fields));
}

#[test]
fn large_files_stay_on_disk_and_small_and_empty_ones_in_memory() {
    let site = Site::new("sizes");
    let large = vec![7; 65537];
    site.write("large.bin", &large);
    site.write("small.bin", &large[1..]);
    site.write("empty.txt", "");
    let mut client = site.serve();
    let answer = client.get("/large.bin");
    assert!(!answer.in_memory && answer.body == large);
    let answer = client.get("/small.bin");
    assert!(answer.in_memory && answer.body == large[1..]);
    let answer = client.get("/empty.txt");
    assert_eq!((answer.status, answer.len), (200, 0));
}

#[test]
fn configured_fields_are_sent_and_others_can_be_turned_off() {
    let site = Site::new("fields");
    site.write("a.txt", "a");
    let files = Files {
        cache_control: Some("public, max-age=3600".to_owned()),
        etag: false,
        last_modified: false,
        ..site.files()
    };
    let answer = Client::new(&files).get("/a.txt");
    assert_eq!(answer.field("Cache-Control"), Some("public, max-age=3600"));
    assert_eq!((answer.field("ETag"), answer.field("Last-Modified")), (None, None));
}

#[test]
fn a_cache_control_that_would_split_the_response_is_not_sent() {
    let site = Site::new("splitting");
    site.write("a.txt", "a");
    let files = Files { cache_control: Some("x\r\nSet-Cookie: a".to_owned()), ..site.files() };
    let mut client = Client::new(&files);
    assert!(client.warning.clone().unwrap().to_string().contains("Cache-Control"));
    assert_eq!(client.get("/a.txt").field("Cache-Control"), None);
}

#[test]
fn a_directory_is_answered_by_its_first_index_file() {
    let site = Site::new("index");
    site.write("index.htm", "root");
    site.write("both/index.html", "first");
    site.write("both/index.htm", "second");
    site.write("none/other.html", "x");
    let mut client = site.serve();
    assert_eq!(client.get("/").text(), "root");
    assert_eq!(client.get("/both/").text(), "first");
    assert_eq!(client.get("/none/").status, 404);
    assert_eq!(client.get("/missing/").status, 404);
    assert_eq!(client.get("/index.htm/").status, 404);
}

#[test]
fn a_directory_without_its_slash_is_a_redirect_that_keeps_the_query() {
    let site = Site::new("slash");
    site.write("a dir/sub/index.html", "x");
    let mut client = site.serve();
    let answer = client.ask(FileRequest { query: Some(b"q=1&r=%0A"), ..request("/a%20dir/sub") });
    assert_eq!((answer.status, answer.len), (301, 0));
    assert_eq!(answer.field("Location"), Some("/a%20dir/sub/?q=1&r=%0A"));
    let answer =
        client.ask(FileRequest { query: Some(b"a\r\nSet-Cookie: b"), ..request("/a%20dir") });
    assert_eq!(answer.fields, [("Location".to_owned(), "/a%20dir/".to_owned())]);
}

#[test]
fn a_redirect_never_leads_to_another_host() {
    let site = Site::new("open-redirect");
    site.write("evil.example/index.html", "x");
    let mut client = site.serve();
    for path in [
        "//evil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "/%2Fevil.example",
        "///evil.example",
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.field("Location")), (404, None), "{path}");
    }
}

#[test]
fn names_that_begin_with_a_dot_are_served() {
    let site = Site::new("dot-names");
    site.write(".well-known/security.txt", "Contact: x");
    assert_eq!(site.serve().get("/.well-known/security.txt").status, 200);
}

#[test]
fn a_missing_root_is_a_warning_and_serves_once_it_appears() {
    let site = Site::new("late-root");
    fs::remove_dir_all(site.root()).unwrap();
    let mut client = site.serve();
    assert!(client.warning.clone().unwrap().to_string().contains("No such file or directory"));
    assert_eq!(client.get("/a.txt").status, 404);
    site.write("a.txt", "here");
    client.now += 1000;
    assert_eq!(client.get("/a.txt").text(), "here");
}

// Nothing outside of the root

#[test]
fn cve_2021_41773_no_encoding_of_dot_dot_leaves_the_root() {
    let site = Site::new("traversal");
    site.write("../secret.txt", "secret");
    site.write("icons/a.txt", "inside");
    let mut client = site.serve();
    let up = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2e.",
        "%2E%2E",
        "%252e%252e",
        "%%32%65%%32%65",
        "..;",
        "..%00",
        "..%5c",
        "..%2f",
        "..\\",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "..%c0%af",
        "%uff0e%uff0e",
        "..%01",
        "...",
        "..%20",
        "%2e%2e%2f%2e%2e",
        "..%252f",
    ];
    for up in up {
        for path in [
            format!("/{up}/secret.txt"),
            format!("/icons/{up}/{up}/secret.txt"),
            format!("/icons/{up}{up}/secret.txt"),
            format!("/{up}secret.txt"),
            format!("/icons/../{up}/secret.txt"),
            format!("/{up}/{up}/{up}/{up}/{up}/{up}/etc/passwd"),
            format!("/{up}"),
            format!("/{up}/"),
        ] {
            let answer = client.get(&path);
            assert_eq!((answer.status, answer.len), (404, 0), "{path}");
        }
    }
    assert_eq!(client.get("/icons/a.txt").status, 200);
}

#[test]
fn cve_2021_41773_following_links_does_not_open_dot_dot() {
    let site = Site::new("traversal-follow");
    site.write("../secret.txt", "secret");
    let mut client = Client::new(&Files { follow_symlinks: true, ..site.files() });
    for path in ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2Fsecret.txt"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn an_absolute_path_is_a_path_below_the_root() {
    let site = Site::new("absolute");
    let mut client = site.serve();
    for path in ["//etc/passwd", "/%2Fetc/passwd", "/etc/passwd", "etc/passwd", "", "*"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_nul_does_not_cut_a_name_short() {
    let site = Site::new("nul");
    site.write("a.php", "source");
    let mut client = site.serve();
    for path in ["/a.php%00.jpg", "/a.php%00", "/%00a.php", "/a.php\0"] {
        assert_eq!(client.get(path).status, 404, "{path:?}");
    }
}

#[test]
fn a_link_out_of_the_root_is_not_found_unless_the_site_allows_it() {
    let site = Site::new("links-out");
    site.write("../outside/secret.txt", "outside");
    symlink("../outside/secret.txt", site.path("file")).unwrap();
    symlink("../outside", site.path("dir")).unwrap();
    symlink(site.path("../outside/secret.txt"), site.path("absolute")).unwrap();
    symlink("dir", site.path("chain")).unwrap();
    symlink("/proc/self/environ", site.path("environ")).unwrap();
    let paths = ["/file", "/dir/secret.txt", "/absolute", "/chain/secret.txt"];
    let mut client = site.serve();
    for path in paths.into_iter().chain(["/dir", "/dir/", "/environ"]) {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.len), (404, 0), "{path}");
        client.now += 5000;
        assert_eq!(client.get(path).status, 404, "{path}, looked at again");
    }
    let mut client = Client::new(&Files { follow_symlinks: true, ..site.files() });
    for path in paths {
        assert_eq!(client.get(path).text(), "outside", "{path}");
    }
}

#[test]
fn a_relative_link_inside_the_root_works() {
    let site = Site::new("links-in");
    site.write("v2/app.js", "code");
    symlink("v2", site.path("current")).unwrap();
    symlink("../v2/app.js", site.path("v2/again.js")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    let mut client = site.serve();
    assert_eq!(client.get("/current/app.js").text(), "code");
    assert_eq!(client.get("/v2/again.js").text(), "code");
    assert_eq!(client.get("/loop").status, 404);
}

#[test]
fn an_index_file_an_error_page_and_a_neighbour_may_not_lead_out_either() {
    let site = Site::new("links-elsewhere");
    site.write("../secret.txt", "secret");
    site.write("app.js", "code");
    symlink("../secret.txt", site.path("index.html")).unwrap();
    symlink("../secret.txt", site.path("404.html")).unwrap();
    symlink("../secret.txt", site.path("app.js.gz")).unwrap();
    let mut files = site.files();
    files.error_pages.insert(404, "404.html".to_owned());
    files.error_pages.insert(500, "../secret.txt".to_owned());
    let mut client = Client::new(&files);
    assert!(client.warning.clone().unwrap().to_string().contains("../secret.txt"));
    assert_eq!((client.get("/").status, client.get("/").len), (404, 0));
    let answer = client.ask(FileRequest { accept_encoding: Some(b"gzip"), ..request("/app.js") });
    assert_eq!(answer.text(), "code");
    assert!(error_page(&mut client, 0, 500).is_none());
}

#[test]
fn only_regular_files_are_served_and_a_fifo_does_not_block() {
    let site = Site::new("special");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, site.path("fifo"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let _socket = UnixListener::bind(site.path("socket")).unwrap();
    symlink("/dev/zero", site.path("zero")).unwrap();
    let files = Files { follow_symlinks: true, ..site.files() };
    for mut client in [site.serve(), Client::new(&files)] {
        for path in ["/fifo", "/socket", "/zero"] {
            assert_eq!(client.get(path).status, 404, "{path}");
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_forbidden() {
    let site = Site::new("forbidden");
    site.write("private.txt", "x");
    fs::set_permissions(site.path("private.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    let expected = if fs::File::open(site.path("private.txt")).is_ok() { 200 } else { 403 };
    assert_eq!(site.serve().get("/private.txt").status, expected, "root may read everything");
}

// Changes on disk

#[test]
fn a_changed_file_is_seen_a_second_later() {
    let site = Site::new("changed");
    site.write("a.txt", "one");
    let mut client = site.serve();
    let before = client.get("/a.txt");
    site.write_as_of("a.txt", "two", long_ago() + Duration::from_secs(60));
    client.now = 999;
    assert_eq!(client.get("/a.txt").text(), "one", "trusted for a second");
    client.now = 1000;
    let after = client.get("/a.txt");
    assert_eq!(after.text(), "two");
    assert_ne!(after.field("ETag"), before.field("ETag"));
    assert_eq!(after.field("Last-Modified"), Some("Sun, 06 Nov 1994 08:50:37 GMT"));
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let site = Site::new("unchanged");
    site.write("a.txt", "one");
    let mut client = site.serve();
    let body = |client: &mut Client| match client
        .server
        .answer(&mut client.cache, client.now, &request("/a.txt"))
        .body
    {
        Body::Memory { bytes, .. } => bytes,
        other => panic!("{other:?}"),
    };
    let first = body(&mut client);
    client.now += 5000;
    assert!(std::rc::Rc::ptr_eq(&first, &body(&mut client)));
}

#[test]
fn a_file_replaced_by_another_of_the_same_size_and_time_is_seen() {
    let site = Site::new("replaced");
    site.write("a.txt", "one");
    let mut client = site.serve();
    assert_eq!(client.get("/a.txt").text(), "one");
    site.write("b.txt", "two");
    replace(&site.path("b.txt"), &site.path("a.txt"));
    client.now += 1000;
    assert_eq!(client.get("/a.txt").text(), "two");
}

#[test]
fn a_change_within_the_clock_tick_of_the_file_system_is_seen() {
    let site = Site::new("racy");
    let just_now = SystemTime::now();
    site.write_as_of("a.txt", "one", just_now);
    let mut client = site.serve();
    assert_eq!(client.get("/a.txt").text(), "one");
    site.write_as_of("a.txt", "two", just_now);
    client.now += 1000;
    assert_eq!(client.get("/a.txt").text(), "two");
}

#[test]
fn files_that_appear_and_disappear_are_seen() {
    let site = Site::new("appear");
    let mut client = site.serve();
    assert_eq!((client.get("/a.txt").status, client.get("/").status), (404, 404));
    site.write("a.txt", "new");
    site.write("index.htm", "second choice");
    client.now += 1000;
    assert_eq!(client.get("/a.txt").text(), "new");
    assert_eq!(client.get("/").text(), "second choice");
    site.write("index.html", "first choice");
    fs::remove_file(site.path("a.txt")).unwrap();
    client.now += 1000;
    assert_eq!(client.get("/").text(), "first choice");
    assert_eq!(client.get("/a.txt").status, 404);
    fs::create_dir(site.path("a.txt")).unwrap();
    client.now += 1000;
    assert_eq!(client.get("/a.txt").status, 301);
}

#[test]
fn a_release_switched_by_a_link_to_the_root_is_seen() {
    let site = Site::new("release");
    site.write("../one/a.txt", "one");
    site.write("../two/a.txt", "two");
    symlink("one", site.path("../current")).unwrap();
    let mut client = Client::new(&Files { root: site.path("../current"), ..site.files() });
    assert_eq!(client.get("/a.txt").text(), "one");
    symlink("two", site.path("../next")).unwrap();
    replace(&site.path("../next"), &site.path("../current"));
    client.now += 1000;
    assert_eq!(client.get("/a.txt").text(), "two");
    fs::remove_file(site.path("../current")).unwrap();
    client.now += 1000;
    assert_eq!(client.get("/a.txt").status, 404);
}

// Conditions

#[test]
fn a_client_that_has_the_file_gets_304() {
    let site = Site::new("conditional");
    site.write("a.txt", "abc");
    let files = Files { cache_control: Some("no-cache".to_owned()), ..site.files() };
    let mut client = Client::new(&files);
    let etag = client.get("/a.txt").field("ETag").unwrap().to_owned();
    let by_etag = FileRequest { if_none_match: Some(etag.as_bytes()), ..request("/a.txt") };
    let by_date = FileRequest { if_modified_since: Some(DATE.as_bytes()), ..request("/a.txt") };
    for asked in [by_etag, by_date, FileRequest { head_only: true, ..by_etag }] {
        let answer = client.ask(asked);
        assert_eq!((answer.status, answer.len), (304, 0));
        assert_eq!(answer.field("ETag"), Some(etag.as_str()));
        assert_eq!(answer.field("Last-Modified"), Some(DATE));
        assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
        assert_eq!((answer.field("Content-Type"), answer.field("Accept-Ranges")), (None, None));
    }
    let other = FileRequest { if_none_match: Some(b"\"other\""), ..request("/a.txt") };
    assert_eq!(client.ask(other).status, 200);
    let failed = FileRequest { if_match: Some(b"\"other\""), ..request("/a.txt") };
    assert_eq!((client.ask(failed).status, client.ask(failed).len), (412, 0));
    let missing = FileRequest { if_match: Some(b"*"), ..request("/missing") };
    assert_eq!(client.ask(missing).status, 404);
}

#[test]
fn last_modified_is_never_in_the_future() {
    let site = Site::new("future");
    site.write_as_of("a.txt", "a", SystemTime::now() + Duration::from_secs(86400));
    let answer = site.serve().get("/a.txt");
    let modified = answer.field("Last-Modified").unwrap().as_bytes();
    assert!(wire::date::parse_http_date(modified).unwrap() <= SystemTime::now());
}

// Ranges

fn ranged(client: &mut Client, range: &str) -> Seen {
    client.ask(FileRequest { range: Some(range.as_bytes()), ..request("/a.txt") })
}

#[test]
fn one_range_is_206_with_that_part() {
    let site = Site::new("range");
    site.write("a.txt", "0123456789");
    let mut client = site.serve();
    for (range, content_range, body) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=7-99", "bytes 7-9/10", "789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=-99", "bytes 0-9/10", "0123456789"),
        ("bytes=0-4,3-6", "bytes 0-6/10", "0123456"),
        ("bytes=2-4,20-30", "bytes 2-4/10", "234"),
    ] {
        let answer = ranged(&mut client, range);
        assert_eq!((answer.status, answer.text()), (206, body), "{range}");
        assert_eq!(answer.field("Content-Range"), Some(content_range), "{range}");
        assert_eq!(answer.field("Content-Type"), Some("text/plain; charset=utf-8"));
        assert!(answer.field("ETag").is_some() && answer.field("Last-Modified").is_some());
    }
}

#[test]
fn a_range_of_a_large_file_is_read_from_the_file() {
    let site = Site::new("range-large");
    let content: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    site.write("a.txt", &content);
    let answer = ranged(&mut site.serve(), "bytes=100000-100099");
    assert!(!answer.in_memory);
    assert_eq!((answer.status, answer.body), (206, content[100_000..100_100].to_vec()));
}

#[test]
fn rfc9110_15_5_17_a_range_beyond_the_end_is_416_with_the_length() {
    let site = Site::new("range-beyond");
    site.write("a.txt", "0123456789");
    site.write("empty.txt", "");
    let mut client = site.serve();
    for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
        let answer = ranged(&mut client, range);
        assert_eq!((answer.status, answer.len), (416, 0), "{range}");
        assert_eq!(answer.field("Content-Range"), Some("bytes */10"), "{range}");
    }
}

#[test]
fn a_range_that_does_not_count_is_200() {
    let site = Site::new("range-ignored");
    site.write("a.txt", "0123456789");
    let mut client = site.serve();
    for range in
        ["bytes=", "bytes=a-b", "bytes=4-2", "items=0-1", "0-1", "bytes=--1", "bytes=1-2-3"]
    {
        let answer = ranged(&mut client, range);
        assert_eq!((answer.status, answer.len), (200, 10), "{range}");
    }
    let range = Some(&b"bytes=0-1"[..]);
    let head = client.ask(FileRequest { head_only: true, range, ..request("/a.txt") });
    assert_eq!((head.status, head.len), (200, 10), "RFC 9110 §14.2: only for GET");
    let changed =
        client.ask(FileRequest { range, if_range: Some(b"\"old\""), ..request("/a.txt") });
    assert_eq!((changed.status, changed.len), (200, 10));
    let etag = changed.field("ETag").unwrap().as_bytes();
    for if_range in [etag, DATE.as_bytes()] {
        let same = client.ask(FileRequest { range, if_range: Some(if_range), ..request("/a.txt") });
        assert_eq!((same.status, same.text()), (206, "01"));
    }
    let not_modified = FileRequest { range, if_none_match: Some(etag), ..request("/a.txt") };
    assert_eq!(client.ask(not_modified).status, 304, "conditions come first");
}

#[test]
fn several_ranges_are_a_multipart_body() {
    let site = Site::new("multipart");
    site.write("a.txt", "0123456789");
    let answer = ranged(&mut site.serve(), "bytes=0-1,4-5,-1");
    assert_eq!((answer.status, answer.field("Content-Range")), (206, None));
    let media_type = answer.field("Content-Type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Range: bytes {range}/10\r\n\r\n{body}"
        )
    };
    let expected =
        [part("0-1", "01"), part("4-5", "45"), part("9-9", "9"), format!("\r\n--{boundary}--\r\n")];
    assert_eq!(answer.text(), expected.concat());
    assert!(answer.field("ETag").is_some());
}

#[test]
fn cve_2011_3192_many_and_overlapping_ranges_do_not_multiply_the_file() {
    let site = Site::new("apache-killer");
    let content = "x".repeat(100_000);
    site.write("a.txt", &content);
    let mut client = site.serve();
    let attack: String = (0..1300).map(|n| format!(",5-{n}")).collect();
    let answer = ranged(&mut client, &format!("bytes=0-{attack}"));
    assert!(answer.len <= 100_000, "{}", answer.len);
    let nine: Vec<String> = (0..9).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect();
    let answer = ranged(&mut client, &format!("bytes={}", nine.join(",")));
    assert_eq!((answer.status, answer.len), (200, 100_000));
    let answer = ranged(&mut client, &format!("bytes={}", nine[..8].join(",")));
    assert_eq!(answer.status, 206);
}

// Precompressed neighbours

fn encoded(client: &mut Client, accept_encoding: &str) -> Seen {
    let accept_encoding = Some(accept_encoding.as_bytes());
    client.ask(FileRequest { accept_encoding, ..request("/app.js") })
}

#[test]
fn a_precompressed_neighbour_is_sent_to_those_who_accept_it() {
    let site = Site::new("precompressed");
    site.write("app.js", "plain");
    site.write("app.js.gz", "gzipped");
    site.write("app.js.br", "brotli!");
    site.write("app.js.zst", "zstandard");
    let mut client = site.serve();
    let mut etags = Vec::new();
    for (accept_encoding, coding, body) in [
        ("gzip, deflate, br, zstd", Some("br"), "brotli!"),
        ("gzip", Some("gzip"), "gzipped"),
        ("zstd;q=0.9, gzip;q=0.8", Some("zstd"), "zstandard"),
        ("identity", None, "plain"),
    ] {
        let answer = encoded(&mut client, accept_encoding);
        assert_eq!((answer.status, answer.text()), (200, body), "{accept_encoding}");
        assert_eq!(answer.field("Content-Encoding"), coding, "{accept_encoding}");
        assert_eq!(answer.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"));
        let etag = answer.field("ETag").unwrap().to_owned();
        assert!(!etags.contains(&etag), "{etag} names two representations");
        etags.push(etag);
    }
    assert_eq!(client.get("/app.js").text(), "plain", "without Accept-Encoding");
    let itself =
        client.ask(FileRequest { accept_encoding: Some(b"gzip"), ..request("/app.js.gz") });
    assert_eq!((itself.text(), itself.field("Content-Encoding")), ("gzipped", None));
    assert_eq!(itself.field("Vary"), None);
}

#[test]
fn ranges_and_conditions_are_about_the_chosen_representation() {
    let site = Site::new("precompressed-range");
    site.write("app.js", "plain plain");
    site.write("app.js.gz", "gzipped");
    let mut client = site.serve();
    let accept_encoding = Some(&b"gzip"[..]);
    let gzip = FileRequest { accept_encoding, ..request("/app.js") };
    let answer = client.ask(FileRequest { range: Some(b"bytes=4-"), ..gzip });
    assert_eq!((answer.status, answer.text()), (206, "ped"));
    assert_eq!(answer.field("Content-Range"), Some("bytes 4-6/7"));
    assert_eq!(answer.field("Content-Encoding"), Some("gzip"));
    let multipart = client.ask(FileRequest { range: Some(b"bytes=0-0,4-4"), ..gzip });
    assert_eq!(multipart.field("Content-Encoding"), None, "the multipart body itself is not gzip");
    assert_eq!(multipart.text().matches("\r\nContent-Encoding: gzip\r\n").count(), 2);
    let plain_tag = client.get("/app.js").field("ETag").unwrap().to_owned();
    let stale = FileRequest { if_none_match: Some(plain_tag.as_bytes()), ..gzip };
    assert_eq!(client.ask(stale).status, 200);
    let not_modified = FileRequest { if_modified_since: Some(DATE.as_bytes()), ..gzip };
    let not_modified = client.ask(not_modified);
    assert_eq!((not_modified.status, not_modified.field("Vary")), (304, Some("Accept-Encoding")));
}

#[test]
fn a_neighbour_older_than_the_file_is_ignored() {
    let site = Site::new("stale-neighbour");
    site.write("app.js", "old");
    site.write("app.js.gz", "old, gzipped");
    let mut client = site.serve();
    assert_eq!(encoded(&mut client, "gzip").text(), "old, gzipped");
    site.write_as_of("app.js", "new", long_ago() + Duration::from_secs(1));
    client.now += 1000;
    let answer = encoded(&mut client, "gzip");
    assert_eq!((answer.text(), answer.field("Vary")), ("new", None));
    site.write_as_of("app.js.gz", "new, gzipped", long_ago() + Duration::from_secs(1));
    client.now += 1000;
    assert_eq!(encoded(&mut client, "gzip").text(), "new, gzipped");
}

// Pages

fn error_page(client: &mut Client, now: u64, status: u16) -> Option<Answer> {
    client.server.error_page(&mut client.cache, now, status, &request("/any"))
}

#[test]
fn an_error_page_keeps_the_status() {
    let site = Site::new("error-pages");
    site.write("errors/404.html", "<h1>lost</h1>");
    site.write("errors/416.html", "<h1>beyond</h1>");
    site.write("a.txt", "0123456789");
    let mut files = site.files();
    for (status, page) in
        [(404, "/errors/404.html"), (416, "errors/416.html"), (502, "errors/502.html")]
    {
        files.error_pages.insert(status, page.to_owned());
    }
    let mut client = Client::new(&files);
    assert_eq!(client.warning, None);
    for path in ["/missing", "/..", "/missing/"] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (404, "<h1>lost</h1>"), "{path}");
        let expected = [("Content-Type".to_owned(), "text/html; charset=utf-8".to_owned())];
        assert_eq!(answer.fields, expected, "a page says nothing about what is missing");
    }
    let answer = ranged(&mut client, "bytes=99-");
    assert_eq!((answer.status, answer.text()), (416, "<h1>beyond</h1>"));
    assert_eq!(answer.field("Content-Range"), Some("bytes */10"));
    assert!(error_page(&mut client, 0, 502).is_none(), "its file is missing");
    assert!(error_page(&mut client, 0, 503).is_none());
    site.write("errors/502.html", "upstream down");
    let page = error_page(&mut client, 1000, 502).map(Seen::from).unwrap();
    assert_eq!((page.status, page.text()), (502, "upstream down"));
    site.write("errors/502.html.gz", "gzipped");
    let gzip = FileRequest { accept_encoding: Some(b"gzip"), ..request("/any") };
    let page =
        client.server.error_page(&mut client.cache, 2000, 502, &gzip).map(Seen::from).unwrap();
    assert_eq!((page.status, page.text()), (502, "gzipped"));
    assert_eq!(page.field("Content-Encoding"), Some("gzip"));
    assert_eq!(page.field("Vary"), Some("Accept-Encoding"));
    let direct = client.get("/errors/404.html");
    assert_eq!(direct.status, 200, "the page is a file like any other");
}

#[test]
fn a_page_of_a_single_page_application_is_its_index_with_200() {
    let site = Site::new("spa");
    site.write("index.html", "<app>");
    site.write("real.html", "real");
    site.write("assets/x.js", "code");
    let mut client =
        Client::new(&Files { spa_fallback: Some("/index.html".to_owned()), ..site.files() });
    for path in ["/users/42", "/users/42/", "/assets/", "/v1.2/users"] {
        let answer =
            client.ask(FileRequest { accept: Some(b"text/html,*/*;q=0.8"), ..request(path) });
        assert_eq!((answer.status, answer.text()), (200, "<app>"), "{path}");
        assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.field("Vary"), Some("Accept"));
    }
    assert_eq!(client.get("/users").status, 200, "without Accept");
    assert_eq!(client.get("/real.html").text(), "real");
    for path in ["/missing.js", "/users/42.json", "/%2e%2e/users", "/a%00"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    let json = client.ask(FileRequest { accept: Some(b"application/json"), ..request("/users") });
    assert_eq!((json.status, json.field("Vary")), (404, Some("Accept")));
    let etag = client.get("/users").field("ETag").unwrap().to_owned();
    let again = FileRequest { if_none_match: Some(etag.as_bytes()), ..request("/other") };
    assert_eq!(client.ask(again).status, 304);
}
