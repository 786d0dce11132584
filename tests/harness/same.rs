//! A configuration in another dialect and what `ravelin convert` makes of it, side by side: the same
//! requests must get the same responses.

use super::{Ravelin, Response, Setup, free_port, printed};

/// Two Ravelins that are to do the same.
pub struct Twins {
    /// Started with the configuration as it is.
    pub original: Ravelin,
    /// Started with what it is converted to.
    pub converted: Ravelin,
    /// That text.
    pub toml: String,
}

impl Twins {
    /// `setup` makes the configuration in the file `name` that listens at a port, with all the files
    /// and variables it wants.
    #[track_caller]
    pub fn start(name: &str, setup: impl Fn(u16) -> Setup) -> Twins {
        let original = setup(free_port()).start();
        let other = setup(free_port());
        let output = other.run(&["convert", name]);
        assert_eq!(output.status.code(), Some(0), "convert {name}: {}", printed(&output));
        let toml = String::from_utf8(output.stdout).unwrap();
        let other = other.file("converted.toml", &toml).args(&["run", "-c", "converted.toml"]);
        Twins { original, converted: other.start(), toml }
    }

    /// Asks both the same; panics where they answer differently.
    #[track_caller]
    pub fn agree(&self, requests: &[String]) {
        for request in requests {
            let [one, other] =
                [&self.original, &self.converted].map(|ravelin| said(&ravelin.ask(request)));
            assert_eq!(
                one, other,
                "the configuration itself, then converted:\n{request}\n{}",
                self.toml
            );
        }
    }
}

/// A hundred requests or a few more: each of these paths with several methods, hosts, queries and
/// fields.
pub fn a_hundred_requests(paths: &[&str]) -> Vec<String> {
    const HUNDRED: usize = 100;
    let shapes = [
        ("GET", "", "example.com", ""),
        ("GET", "?a=b&c", "example.com:8080", "Accept: text/html\r\n"),
        ("HEAD", "", "example.com", "Accept-Encoding: gzip\r\n"),
        ("POST", "", "other.example", "Content-Length: 5\r\n"),
        ("DELETE", "?", "[::1]", "Authorization: Basic YWRtaW46c2VjcmV0cGFzcw==\r\n"),
        ("GET", "", "example.com", "Authorization: Basic YWRtaW46c2VjcmV0cGFzcw==\r\n"),
        ("GET", "/below", "example.com", "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n"),
        ("OPTIONS", "", "example.com", "Origin: http://example.com\r\n"),
        ("GET", "x", "example.com", "Cookie: a=b\r\nAccept: application/json\r\n"),
        ("GET", "/%2e%2e/x//y", "example.com", ""),
        ("BREW", "", "example.com", ""),
    ];
    let times = HUNDRED.div_ceil(shapes.len() * paths.len().max(1));
    let one = |path: &str, round: usize, (method, more, host, fields): (&str, &str, &str, &str)| {
        let body = if method == "POST" { "hello" } else { "" };
        let round = if round > 0 { format!("/round{round}") } else { String::new() };
        let path = format!("{}{round}", path.trim_end_matches('/'));
        let path = if path.is_empty() { "/" } else { &path };
        let path = format!("{path}{more}").replace("//", "/");
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n{body}"
        )
    };
    (0..times)
        .flat_map(|round| {
            let shapes = shapes.iter();
            shapes.flat_map(move |shape| paths.iter().map(move |path| one(path, round, *shape)))
        })
        .collect()
}

/// A response without what differs from one to the next: times, and the request's id.
fn said(response: &Response) -> String {
    let mut text = format!("{}\n", response.head.start);
    for (name, value) in &response.head.fields {
        let fleeting = ["date", "x-request-id", "content-length", "etag", "last-modified"];
        if !fleeting.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            text += &format!("{name}: {value}\n");
        }
    }
    text += &without_id(&response.text(), "\"request_id\":\"", "\"");
    without_id(&text, "<code>", "</code>")
}

fn without_id(text: &str, before: &str, behind: &str) -> String {
    match text.split_once(before).map(|(start, rest)| (start, rest.split_once(behind))) {
        Some((start, Some((_, rest)))) => format!("{start}{rest}"),
        _ => text.to_owned(),
    }
}
