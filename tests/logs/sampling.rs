//! Logs with some of the requests only.

use crate::harness::*;

use super::logging;

fn ids(log: &str) -> Vec<String> {
    let mut ids: Vec<String> =
        log.lines().map(|line| Json::parse(line).get("id").text().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn two_that_sample_keep_the_same_requests_and_say_their_share() {
    let origin = Origin::saying("");
    let mut logs = Vec::new();
    for _ in 0..2 {
        let keys = "access_log = \"access.log\"\nformat = \"json\"\nsample = 0.3\nslow = \"1h\"";
        let more = "[sites.proxy.headers.add]\n\"X-Request-ID\" = \"auto\"\n";
        let toml = format!("[logging]\n{keys}\n{}", site(&[&origin.url()], more));
        let mut ravelin = Setup::new(&toml).start();
        let mut client = ravelin.client();
        for number in 0..400 {
            client
                .ask(format!(
                    "GET / HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: request-{number}\r\n\r\n"
                ))
                .expect(200);
        }
        drop(client);
        ravelin.signal("TERM");
        assert!(ravelin.exit().success());
        logs.push(std::fs::read_to_string(ravelin.dir().join("access.log")).unwrap());
    }
    assert_eq!(ids(&logs[0]), ids(&logs[1]));
    let count = logs[0].lines().count();
    assert!((60..180).contains(&count), "{count} of 400");
    assert!(logs[0].lines().all(|line| line.contains("\"sample\":0.3,")), "{}", logs[0]);
}

#[test]
fn what_failed_and_what_is_an_error_is_always_there() {
    let fails = Origin::serve(|request| match &*request.target {
        "/503" => b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/closes" => Vec::new(),
        _ => ok(""),
    });
    let ravelin = logging("sample = 0", &fails).start();
    let mut client = ravelin.client();
    for _ in 0..20 {
        client.get("/well").expect(200);
    }
    client.get("/503").expect(503);
    let line = ravelin.stdout.line_with(&["/503"]);
    assert!(line.contains(" sample=1"), "{line}");
    ravelin.ask("GET /bad HTTP/1.1\r\nHost: example.com\r\nBad Name: x\r\n\r\n").expect(400);
    ravelin.stdout.line_with(&[" 400 ", " sample=1 ended=client"]);
    assert!(!ravelin.stdout.all().iter().any(|line| line.contains("/well")));
}
