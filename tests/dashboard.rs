//! The dashboard, in a browser: every view is shown, numbers move, endpoints can be steered, and no page
//! complains of anything.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use crate::harness::*;

/// Views, by the names in their addresses.
const VIEWS: [&str; 9] = [
    "overview",
    "traffic",
    "endpoints",
    "requests",
    "connections",
    "certificates",
    "configuration",
    "timeline",
    "explain",
];

/// By how much a page is wider than the window.
const TOO_WIDE: &str =
    "document.documentElement.scrollWidth - document.documentElement.clientWidth";

const MANAGEMENT: &str = "[management]\nenabled = true\nport = 0\n";

/// Where the dashboard is.
#[track_caller]
fn dashboard(ravelin: &Ravelin) -> SocketAddr {
    let line = ravelin.stderr.line_with(&["admin API at http://"]);
    line.split_once(" at http://").unwrap().1.parse().unwrap()
}

fn two(one: &Backend, other: &Backend, more: &str) -> Ravelin {
    Ravelin::start(&site(&[&one.url(), &other.url()], &format!("{more}\n{MANAGEMENT}")))
}

/// The dashboard in a browser, with data.
#[track_caller]
fn browse(ravelin: &Ravelin, width: u32, dark: bool) -> Browser {
    let mut browser = Browser::start();
    browser.window(width, 900, dark);
    browser.open(&format!("http://{}/", dashboard(ravelin)));
    browser.until("document.querySelector('.live.on')");
    browser
}

#[test]
fn every_view_is_shown_in_both_colours_and_on_a_phone() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut client = ravelin.client();
    (0..20).for_each(|_| drop(client.get("/some/path?with=query").expect(200)));
    for (width, dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        let mut browser = browse(&ravelin, width, dark);
        let ground = browser.eval("getComputedStyle(document.body).backgroundColor");
        let is_light = ground.text().contains("24");
        assert_eq!(is_light, !dark, "{ground:?}");
        for view in VIEWS {
            browser.eval(&format!("location.hash = '{view}'"));
            browser.until(&format!(
                "document.querySelector('nav a[aria-current]').hash === '#{view}' \
                 && document.querySelector('main .card, main .table')"
            ));
            let wide = browser.eval(TOO_WIDE);
            assert_eq!(wide.number(), 0.0, "{view} at {width} is too wide");
            // Whatever can be pressed or written in says what it is.
            let nameless = browser.eval(
                "[...document.querySelectorAll('button, a, input, select, textarea, summary')] \
                 .filter((one) => one.offsetParent && !(one.textContent.trim() \
                 || one.getAttribute('aria-label') || one.labels?.length)) \
                 .map((one) => one.outerHTML).join()",
            );
            assert_eq!(nameless.text(), "", "{view}");
            browser.screenshot(&format!("{view}-{width}-{}", if dark { "dark" } else { "light" }));
        }
        browser.assert_content();
    }
}

#[test]
fn numbers_move_while_requests_come() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut browser = browse(&ravelin, 1280, false);
    browser.until("document.querySelector('.tile .value')?.textContent === '0/s'");
    let mut client = ravelin.client();
    (0..200).for_each(|_| drop(client.get("/").expect(200)));
    browser.until("parseFloat(document.querySelector('.tile .value').textContent) > 1");
    browser.until("document.querySelector('.chart path.s2').getAttribute('d').length > 10");
    browser.eval("location.hash = 'traffic'");
    browser.until("document.querySelector('table tbody th')?.textContent === 'test'");
    browser
        .until("[...document.querySelectorAll('td')].some((cell) => cell.textContent === '200')");
    // The live requests: those that come from now on, too, and their phases.
    browser.eval("location.hash = 'requests'");
    browser.until("document.querySelector('main [role=status]').textContent.includes('following')");
    client.get("/later?yes").expect(200);
    browser.until("document.querySelector('.requests tbody .target').textContent === '/later?yes'");
    browser.eval("document.querySelector('.requests tbody tr').click()");
    browser.until("document.querySelectorAll('.waterfall tr').length >= 3");
    browser.until("document.querySelector('tr.more dl').textContent.includes('complete')");
    browser.assert_content();
}

#[test]
fn pools_of_one_name_in_two_sites_have_numbers_of_their_own() {
    let backend = Backend::new("one");
    let first = site(&[&backend.url()], "");
    let second = first.replace("\"test\"", "\"other\"").replace("127.0.0.1:0", "127.0.0.2:0");
    let ravelin = Setup::new(&format!("{first}{second}{MANAGEMENT}")).listeners(2).start();
    let mut browser = browse(&ravelin, 1280, false);
    browser.eval("location.hash = 'endpoints'");
    browser.until("document.querySelectorAll('main tbody tr').length === 2");
    let mut client = Client::connect(ravelin.addr_on("127.0.0.1"));
    (0..100).for_each(|_| drop(client.get("/").expect(200)));
    let rate = |site: &str| {
        format!(
            "parseFloat(document.querySelector('[aria-label=\"{site}/backend\"] \
             td[data-title=\"Req/s\"]').textContent)"
        )
    };
    browser.until(&format!("{} > 0 && {} === 0", rate("test"), rate("other")));
    browser.eval(
        "document.querySelector('[aria-label=\"test/backend\"] [data-act=maintenance]').click()",
    );
    browser.until("document.querySelector('dialog[open]')");
    browser.eval("document.querySelector('dialog .strong').click()");
    browser.until(
        "document.querySelector('[aria-label=\"test/backend\"] .badge').textContent === 'maint'",
    );
    let other = "document.querySelector('[aria-label=\"other/backend\"] .badge').textContent";
    assert_eq!(browser.eval(other).text(), "up");
    browser.assert_content();
}

#[test]
fn names_of_pools_lead_to_them_whatever_is_in_them() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let name = "50% of a/b#c?";
    let toml = site(&[&one.url(), &other.url()], MANAGEMENT)
        .replace("\"backend\"", &format!("{name:?}"))
        .replacen("url = ", "drain = true\nurl = ", 1);
    let ravelin = Ravelin::start(&toml);
    let mut browser = browse(&ravelin, 1280, false);
    browser.until("document.querySelector('main a[href^=\"#endpoints/\"]')");
    browser.eval("document.querySelector('main a[href^=\"#endpoints/\"]').click()");
    browser.until(&format!(
        "document.querySelector('main input[type=search]').value === {name:?} \
         && document.querySelectorAll('main tbody tr').length === 2"
    ));
    // What nobody can have meant is no harm.
    browser.eval("location.hash = '#endpoints/50%'");
    browser.until("document.querySelector('main input[type=search]').value === '50%'");
    browser.assert_content();
}

#[test]
fn requests_are_followed_again_when_that_has_failed() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let socket = ravelin.stderr.line_with(&["admin socket "]);
    let socket = socket.split_once("admin socket ").unwrap().1.to_owned();
    // Nobody else may follow while these do.
    let follow = |_| {
        let mut client = Client::over(Sock::Unix(UnixStream::connect(&socket).unwrap()));
        client.send("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.wire.until(b"\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 200"));
        client
    };
    let others: Vec<Client> = (0..16).map(follow).collect();
    let mut browser = browse(&ravelin, 1280, false);
    browser.eval("location.hash = 'requests'");
    let status = |says: &str| {
        format!("document.querySelector('main [role=status]').textContent.includes('{says}')")
    };
    browser.until(&status("not connected, next attempt after"));
    drop(others);
    let mut client = ravelin.client();
    // That they are gone is noticed when something is written to them.
    until("it follows again", || {
        client.get("/again").expect(200);
        let following =
            format!("new Promise((done) => setTimeout(() => done({}), 200))", status("following"));
        browser.eval(&following) == Json::Bool(true)
    });
    client.get("/later").expect(200);
    browser.until("document.querySelector('.requests tbody .target').textContent === '/later'");
    let gap = browser.eval("document.querySelector('main [role=status]').textContent");
    assert!(gap.text().contains("nothing of "), "{}", gap.text());
    // The browser itself says of each refused attempt that it was refused.
}

#[test]
fn why_requests_cannot_be_shown_is_said_and_tried_again_only_if_it_may_pass() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut browser = browse(&ravelin, 1280, false);
    browser.eval(
        "{ window.real = window.fetch; window.answers = (status, detail) => { \
           window.fetch = (url, ...more) => String(url).includes('/v1/requests') \
             ? Promise.resolve(new Response(JSON.stringify({ detail }), { status })) \
             : real(url, ...more); }; \
         answers(403, 'not with this key'); location.hash = 'requests'; }",
    );
    let wrong = |says: &str| {
        format!(
            "(({{ hidden, textContent }}) => !hidden && textContent.includes('{says}')) \
             (document.querySelector('main [role=alert]'))"
        )
    };
    let status = "document.querySelector('main [role=status]').textContent";
    browser.until(&wrong("not with this key"));
    assert_eq!(browser.eval(status).text(), "0 shown");
    let choose = |title: &str| {
        format!(
            "[...document.querySelectorAll('main .group button')] \
             .find((one) => one.textContent === '{title}').click()"
        )
    };
    browser.eval(&format!("{{ answers(500, 'not now'); {} }}", choose("Last")));
    browser.until(&format!(
        "{} && {status}.includes('not connected, next attempt after')",
        wrong("not now")
    ));
    // What was wrong with another list is not said while this one is asked for.
    let asked =
        format!("{{ {}; document.querySelector('main [role=alert]').hidden }}", choose("Slowest"));
    assert_eq!(browser.eval(&asked), Json::Bool(true));
    browser.eval(&format!("{{ window.fetch = real; {} }}", choose("Live")));
    browser.until(&format!("{status}.includes('following')"));
    // A filter that cannot be understood; the browser itself says that it was refused.
    let filter = |text: &str| {
        format!(
            "{{ const search = document.querySelector('main input[type=search]'); \
             search.value = '{text}'; search.dispatchEvent(new Event('input')); }}"
        )
    };
    browser.eval(&filter("status>>"));
    browser.until(&wrong(""));
    assert_eq!(browser.eval(status).text(), "0 shown");
    browser.eval(&filter("status>=200"));
    browser.until(&format!(
        "{status}.includes('following') && document.querySelector('main [role=alert]').hidden"
    ));
}

#[test]
fn who_leaves_the_requests_does_not_follow_them() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut browser = browse(&ravelin, 1280, false);
    // The view is left while it still asks for what the recorder has.
    browser.eval(
        "{ window.opened = []; const Source = window.EventSource; \
         window.EventSource = class extends Source { \
           constructor(url) { super(url); opened.push(this); } }; \
         addEventListener('hashchange', () => { location.hash = 'explain'; }, { once: true }); \
         location.hash = 'requests'; }",
    );
    let asked = |path: &str| {
        format!(
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('{path}')).length"
        )
    };
    browser.until(&format!("{} === 1", asked("/v1/requests")));
    // It has looked at other things since, so it has made of this answer what it would.
    let looks = browser.eval(&asked("/v1/traffic")).number();
    browser.until(&format!("{} > {looks}", asked("/v1/traffic")));
    let following = "opened.filter((one) => one.readyState !== EventSource.CLOSED).length";
    assert_eq!(browser.eval(following).number(), 0.0);
    browser.eval("location.hash = 'requests'");
    browser.until(&format!("{following} === 1"));
    browser.assert_content();
}

#[test]
fn on_a_phone_the_chosen_view_is_in_sight_and_dates_are_whole() {
    let one = Backend::new("one");
    let toml = tls_site("example.com", "", &one.url());
    let ravelin = Setup::new(&format!("{toml}{MANAGEMENT}"))
        .pair("example.com", &Authority::new().server(&["example.com"]))
        .start();
    let mut browser = browse(&ravelin, 390, false);
    // No day is today, so that every time has its date.
    browser.eval("{ let days = 0; Date.prototype.toDateString = () => String(days += 1); }");
    for width in [390, 1280] {
        browser.window(width, 900, false);
        for view in VIEWS.iter().rev() {
            browser.eval(&format!("location.hash = '{view}'"));
            browser.until(&format!(
                "document.querySelector('nav a[aria-current]').hash === '#{view}' \
                 && document.querySelector('main .card, main .table')"
            ));
            browser.until(
                "(({ left, right }) => left >= 0 && right <= innerWidth) \
                 (document.querySelector('nav a[aria-current]').getBoundingClientRect())",
            );
            if ["configuration", "timeline", "certificates"].contains(view) {
                browser.until("document.querySelector('main time')");
                let broken = browser.eval(
                    "[...document.querySelectorAll('main time')].filter((one) => { \
                       const range = document.createRange(); range.selectNodeContents(one); \
                       return range.getClientRects().length !== 1; }) \
                     .map((one) => one.textContent).join()",
                );
                assert_eq!(broken.text(), "", "{view} at {width}");
            }
            browser.screenshot(&format!("dated-{view}-{width}"));
        }
    }
    browser.assert_content();
}

#[test]
fn an_endpoint_is_drained_and_weighed() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut client = ravelin.client();
    let mut browser = browse(&ravelin, 1280, false);
    browser.eval("location.hash = 'endpoints'");
    browser.until("document.querySelectorAll('main tbody tr').length === 2");
    browser.eval("document.querySelector('main tbody tr [data-act=drain]').click()");
    // Nothing is done without being asked.
    browser.until("document.querySelector('dialog[open]').textContent.includes('No new clients')");
    assert_eq!(order(&mut client, 4).matches("one").count(), 2);
    browser.eval("document.querySelector('dialog .strong').click()");
    browser.until("document.querySelector('main tbody .badge').textContent === 'drain'");
    assert_eq!(order(&mut client, 4).matches("one").count(), 0);
    browser.eval("document.querySelector('main tbody tr [data-act=enable]').click()");
    browser.until("document.querySelector('main tbody .badge').textContent === 'up'");
    browser.eval(
        "{ const weight = document.querySelector('main tbody .weight'); weight.value = 3; \
         weight.dispatchEvent(new Event('change')); }",
    );
    browser.until("document.querySelector('.toast').textContent.includes('has weight 3')");
    assert_eq!(order(&mut client, 8).matches("one").count(), 6);
    // It is told who said so.
    browser.eval("location.hash = 'timeline'");
    browser
        .until("document.querySelector('main .events').textContent.includes('is drained, says')");
    browser.assert_content();
}

#[test]
fn why_an_endpoint_is_down_is_shown() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    other.set_status(500);
    let checks =
        "[sites.proxy.health_check]\nenabled = true\npath = \"/\"\ninterval = \"50ms\"\nfall = 1\n";
    let ravelin = two(&one, &other, checks);
    let mut browser = browse(&ravelin, 1280, false);
    browser.until("document.querySelector('main').textContent.includes('1 of 2 up')");
    browser.until("document.querySelector('main').textContent.includes('status 500')");
    browser.assert_content();
}

#[test]
fn keys_lead_everywhere() {
    let (one, other) = (Backend::new("one"), Backend::new("other"));
    let ravelin = two(&one, &other, "");
    let mut browser = browse(&ravelin, 1280, false);
    browser.press("3");
    browser.until("document.querySelector('nav a[aria-current]').hash === '#endpoints'");
    browser.press("/");
    browser.until("document.activeElement.type === 'search'");
    browser.press("Escape");
    browser.until("document.activeElement.type !== 'search'");
    browser.press("j");
    browser.until("document.activeElement.tagName === 'TR'");
    browser.press("?");
    browser.until("document.querySelector('dialog[open] kbd')");
    browser.eval("document.querySelector('dialog').close()");
    browser.press("t");
    browser.until("document.documentElement.dataset.theme === 'light'");
    browser.assert_content();
}

#[test]
fn with_a_key_nothing_is_shown_without_it() {
    let backend = Backend::new("one");
    let management =
        "[management]\nenabled = true\nport = 0\napi_key = \"a-key-that-is-long-enough\"\n";
    let ravelin = Ravelin::start(&site(&[&backend.url()], management));
    let address = dashboard(&ravelin);
    for path in ["/", "/dashboard/app.js", "/v1/timeline", "/v1/session"] {
        let response =
            Client::connect(address).ask(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        assert_eq!(response.status, 401, "{path}");
    }
    // As a browser asks for it: any name, and the key.
    let mut browser = Browser::start();
    browser.window(1280, 900, false);
    browser.open(&format!("http://ops:a-key-that-is-long-enough@{address}/"));
    browser.until("document.querySelector('.live.on')");
    browser.assert_content();
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_cannot_be_framed() {
    let backend = Backend::new("one");
    let ravelin = Ravelin::start(&site(&[&backend.url()], MANAGEMENT));
    let address = dashboard(&ravelin);
    let page = Client::connect(address).ask(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let policy = page.get("content-security-policy").unwrap().to_owned();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}
