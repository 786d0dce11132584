//! Lines as the operator shapes them.

use crate::harness::*;

use super::logging;

#[test]
fn a_format_of_ones_own_says_what_it_names_and_no_more() {
    let origin = Origin::serve(|_| {
        b"HTTP/1.1 200 OK\r\nX-Cache: hit\r\nContent-Length: 2\r\n\r\nhi".to_vec()
    });
    let keys = "access_log = \"access.log\"\n\
                format = '{client} {method} {path} {query} {status} {bytes.sent} \
                {header.User-Agent} {request.x-a} {response.X-Cache} {response.X-None} {connection} \
                {site} {route} {pool} {ended} {reason} {{x}} {time.total}'";
    let mut ravelin = logging(keys, &origin).start();
    ravelin
        .ask(
            b"GET /page?x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: a \"b\" \\ c\xe9\r\n\
             X-A: one\r\nX-A: two\r\n\r\n",
        )
        .expect(200);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let log = std::fs::read_to_string(ravelin.dir().join("access.log")).unwrap();
    let (line, time) = log.trim_end().rsplit_once(' ').unwrap();
    assert_eq!(
        line,
        "127.0.0.1 GET /page x=1 200 2 a \\\"b\\\" \\\\ c\\xe9 one hit - new test / backend \
         complete - {x}"
    );
    assert!(time.parse::<f64>().unwrap() > 0.0 && time.len() >= 8, "{time}");
}

#[test]
fn a_format_in_json_is_json_whatever_clients_send() {
    let origin = Origin::saying("");
    let keys = "escape = \"json\"\nformat = '{{\"m\":\"{method}\",\"t\":\"{target}\",\
                \"ua\":\"{header.user-agent}\",\"none\":\"{header.none}\",\"s\":{status},\
                \"connect\":{time.connect_us},\"tls\":{time.tls_us}}}'";
    let ravelin = logging(keys, &origin).start();
    ravelin.ask(
        b"GET /json?q=\"x\"\\ HTTP/1.1\r\nHost: example.com\r\nUser-Agent: a\"b\\c\t\xe9\r\n\r\n",
    );
    let line = Json::parse(&ravelin.stdout.line_with(&["/json"]));
    assert_eq!(line.get("m").text(), "GET");
    assert_eq!(line.get("t").text(), "/json?q=\"x\"\\");
    assert_eq!(line.get("none").text(), "");
    assert_eq!(line.get("s").number(), 200.0);
    assert!(line.get("connect").number() > 0.0);
}

#[test]
fn fields_of_responses_made_here_are_shown_too() {
    let origin = Origin::saying("");
    let keys = "format = '{status} {response.location} {response.content-type} {error}'";
    let more = "[[sites.routes]]\npath = \"/old\"\nredirect = \"/new\"\n";
    let toml = format!("[logging]\n{keys}\n{}", site_with("", &[&origin.url()], more));
    let ravelin = Ravelin::start(&toml);
    let answer = ravelin.get("/old");
    let location = answer.get("location").unwrap();
    ravelin.stdout.line_with(&[&format!("{} {location} ", answer.status)]);
}

#[test]
fn every_request_has_its_phases() {
    let origin = Origin::saying("hello");
    let ravelin = logging("format = \"json\"", &origin).start();
    let mut client = ravelin.client();
    client.get("/first").expect(200);
    client.get("/second").expect(200);
    let first = Json::parse(&ravelin.stdout.line_with(&["/first"]));
    let second = Json::parse(&ravelin.stdout.line_with(&["/second"]));
    for name in ["accept_us", "head_us", "connect_us", "first_byte_us", "transfer_us", "total_us"] {
        assert!(first.get(name).number() >= 0.0, "{name}: {first:?}");
    }
    let whole = |line: &Json| {
        let sum = ["head_us", "first_byte_us", "transfer_us"].map(|name| line.get(name).number());
        (sum.iter().sum::<f64>(), line.get("total_us").number())
    };
    for line in [&first, &second] {
        let (sum, total) = whole(line);
        assert!((sum - total).abs() <= 2.0, "{sum} {total}");
    }
    let text = ravelin.stdout.line_with(&["/second"]);
    for name in ["accept_us", "connect_us", "tls_us", "queue_us"] {
        assert!(!text.contains(name), "not taken by the second: {text}");
    }
    assert_eq!(second.get("pool").text(), "backend");
}

#[test]
fn a_format_is_followed_from_the_reload_on() {
    let origin = Origin::saying("");
    let text = |format: &str| {
        format!(
            "[logging]\naccess_log = \"{format}.log\"\nformat = '{format}-{{status}}-{{target}}'\n{}",
            site(&[&origin.url()], "")
        )
    };
    let mut ravelin = Ravelin::start(&text("one"));
    ravelin.get("/before").expect(200);
    std::fs::write(ravelin.dir().join("ravelin.toml"), text("two")).unwrap();
    ravelin.signal("HUP");
    let changed = || ravelin.dir().join("two.log").exists();
    until("the new log", changed);
    until("a line in the new log", || {
        ravelin.get("/after").expect(200);
        std::fs::read_to_string(ravelin.dir().join("two.log")).unwrap().contains("two-200-/after")
    });
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let one = std::fs::read_to_string(ravelin.dir().join("one.log")).unwrap();
    // Each worker has its own part of the log, and its own moment of the change.
    assert!(one.lines().any(|line| line == "one-200-/before"), "{one}");
    assert!(one.lines().all(|line| line.starts_with("one-200-/")), "{one}");
}
