//! The stats page, as HAProxy has one: who may see it, what it says, and how endpoints are steered by it.

use std::net::SocketAddr;

use crate::harness::*;

const STATS: &str = "[management.stats]\nlisten = \"127.0.0.1:0\"\nrefresh = \"10s\"\nauth = [\"admin:changeme\"]\n";

/// `admin:changeme`.
const RIGHT: &str = "Authorization: Basic YWRtaW46Y2hhbmdlbWU=\r\n";
/// `admin:changem`.
const WRONG: &str = "Authorization: Basic YWRtaW46Y2hhbmdlbQ==\r\n";

#[track_caller]
fn page(ravelin: &Ravelin) -> SocketAddr {
    let line = ravelin.stderr.line_with(&["stats page at http://"]);
    line.split_once(" at http://").unwrap().1.parse().unwrap()
}

fn get(at: SocketAddr, target: &str, lines: &str) -> Response {
    Client::connect(at).ask(format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n{lines}\r\n"))
}

fn post(at: SocketAddr, lines: &str, form: &str) -> Response {
    let length = form.len();
    Client::connect(at).ask(format!(
        "POST /haproxy?stats HTTP/1.1\r\nHost: {at}\r\n{RIGHT}{lines}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
    ))
}

/// The values of a column of the CSV, by name of the row.
fn column(csv: &str, column: &str) -> Vec<(String, String)> {
    let (header, rows) = csv.split_once('\n').unwrap();
    let at = header.trim_start_matches("# ").split(',').position(|name| name == column).unwrap();
    let cell = |row: &str, at: usize| row.split(',').nth(at).unwrap().to_owned();
    rows.lines().map(|row| (cell(row, 1), cell(row, at))).collect()
}

#[test]
fn only_its_users_see_it() {
    let backend = Backend::new("one");
    let ravelin = Ravelin::start(&site(&[&backend.url()], STATS));
    let at = page(&ravelin);
    for lines in ["", WRONG, "Authorization: Bearer YWRtaW46Y2hhbmdlbWU=\r\n"] {
        for target in ["/haproxy?stats", "/haproxy?stats;csv", "/haproxy?stats;css"] {
            let refused = get(at, target, lines);
            assert_eq!(refused.status, 401);
            assert_eq!(refused.get("www-authenticate"), Some("Basic realm=\"HAProxy Statistics\""));
            assert!(!refused.text().contains("backend"));
        }
    }
    let shown = get(at, "/haproxy?stats", RIGHT).expect(200);
    assert_eq!(shown.get("refresh"), Some("10"));
    assert!(shown.text().contains("Statistics Report") && !shown.text().contains("<form"));
    assert_eq!(get(at, "/haproxy?stats;norefresh", RIGHT).expect(200).get("refresh"), None);
    get(at, "/other", RIGHT).expect(404);
}

#[test]
fn its_csv_has_the_numbers_of_every_endpoint() {
    let backend = Backend::new("one");
    let ravelin = Ravelin::start(&site(&[&backend.url()], STATS));
    let mut client = ravelin.client();
    (0..7).for_each(|_| drop(client.get("/").expect(200)));
    let at = page(&ravelin);
    until("seven responses", || {
        let csv = get(at, "/haproxy?stats;csv", RIGHT).expect(200).text();
        let counts = column(&csv, "hrsp_2xx");
        counts.len() == 3 && counts.iter().all(|(_, count)| count == "7")
    });
    let csv = get(at, "/haproxy?stats;csv", RIGHT).expect(200).text();
    assert!(csv.starts_with("# pxname,svname,qcur,"));
    let status = column(&csv, "status");
    let names: Vec<&str> = status.iter().map(|(name, _)| name.as_str()).collect();
    let endpoint = backend.url().replace("http://", "");
    assert_eq!(names, ["FRONTEND", &endpoint, "BACKEND"]);
    assert_eq!(status[1].1, "no check");
    let json = Json::parse(&get(at, "/haproxy?stats;json", RIGHT).expect(200).text());
    assert!(matches!(json, Json::List(rows) if rows.len() == 3));
}

#[test]
fn endpoints_are_steered_only_where_that_is_allowed_and_by_its_own_forms() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let urls = [&*one.url(), &*other.url()];
    let name = one.url().replace("http://", "");
    let form = format!("s={}&action=drain&b=%232", name.replace(':', "%3A"));
    let closed = Ravelin::start(&site(&urls, STATS));
    let denied = post(page(&closed), "", &form).expect(303);
    assert_eq!(denied.get("location"), Some("/haproxy?stats;st=DENY"));

    let open = Ravelin::start(&site(&urls, &format!("{STATS}admin = true\n")));
    let at = page(&open);
    let elsewhere = post(at, "Origin: http://evil.example\r\n", &form).expect(303);
    assert_eq!(elsewhere.get("location"), Some("/haproxy?stats;st=DENY"));
    let mut client = open.client();
    assert_eq!(order(&mut client, 4).matches("one").count(), 2);
    let done = post(at, "", &form).expect(303);
    assert_eq!(done.get("location"), Some("/haproxy?stats;st=DONE"));
    assert_eq!(order(&mut client, 4).matches("one").count(), 0);
    let csv = get(at, "/haproxy?stats;csv", RIGHT).expect(200).text();
    assert_eq!(column(&csv, "status")[1].1, "DRAIN");
    open.stderr.line_with(&["is drained, says admin from 127.0.0.1"]);
    let wrong = post(at, "", "s=nobody&action=drain&b=backend").expect(303);
    assert_eq!(wrong.get("location"), Some("/haproxy?stats;st=ERRP"));
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_sees_nothing() {
    let backend = Backend::new("one");
    let open = STATS.replace("auth = [\"admin:changeme\"]\n", "");
    let ravelin = Ravelin::start(&format!(
        "[management]\nallowed_hosts = [\"Stats.example.com\"]\n{open}{}",
        site(&[&backend.url()], "")
    ));
    let at = page(&ravelin);
    let ask = |lines: &str| {
        let head = format!("GET /haproxy?stats;csv HTTP/1.1\r\n{lines}\r\n");
        Client::connect(at).ask(head)
    };
    let evil = ask("Host: evil.example:8404\r\n").expect(421).text();
    assert!(evil.contains("allowed_hosts") && !evil.contains("BACKEND"), "{evil}");
    for host in [&*at.to_string(), "localhost:8404", "stats.example.com"] {
        assert!(ask(&format!("Host: {host}\r\n")).expect(200).text().contains("BACKEND"));
    }
    // Browsers say where they mean to be; a script may leave it out.
    Client::connect(at).ask("GET /haproxy?stats;csv HTTP/1.0\r\n\r\n").expect(200);
}

#[test]
fn a_browser_shows_it_and_its_forms_work() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin =
        Ravelin::start(&site(&[&one.url(), &other.url()], &format!("{STATS}admin = true\n")));
    let at = page(&ravelin);
    let mut browser = Browser::start();
    for (width, dark) in [(1280, false), (360, true)] {
        browser.window(width, 800, dark);
        browser.open(&format!("http://admin:changeme@{at}/haproxy?stats;norefresh"));
        browser.until("document.querySelectorAll('tr.unchecked').length === 2");
        browser.until(
            "getComputedStyle(document.querySelector('table')).borderCollapse === 'collapse'",
        );
        let wide = browser
            .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide.number(), 0.0);
        browser.screenshot(&format!("stats-{width}"));
    }
    browser.eval(
        "document.querySelector('input[name=s]').click(); \
         document.querySelector('select').value = 'maint'; document.querySelector('button').click()",
    );
    browser.until("document.querySelector('.done')?.textContent.includes('successfully')");
    browser.until("document.querySelectorAll('tr.maint').length === 1");
    browser.assert_content();
}
