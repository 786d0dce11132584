//! What a route may ask of a request beyond its prefix, and do with it beyond forwarding.

use crate::harness::*;

/// A site of these routes; every pool of `pools` answers with its name, or with the status that its
/// name begins with.
struct Routed {
    origins: Vec<Origin>,
    ravelin: Ravelin,
}

impl Routed {
    fn new(pools: &[&'static str], site: &str, routes: &str) -> Routed {
        let origins: Vec<Origin> = pools.iter().map(|name| origin(name)).collect();
        let upstream = |(name, origin): (&&str, &Origin)| {
            format!("[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.url())
        };
        let upstreams: String = pools.iter().zip(&origins).map(upstream).collect();
        let toml = format!(
            "[[sites]]\nname = \"t\"\nhostname = \"*\"\nlisten = [\"127.0.0.1:0\"]\n{site}\n\
             [sites.proxy]\nenabled = true\n{upstreams}\n{routes}\n"
        );
        let setup = Setup::new(&toml)
            .file("pages/index.html", "index")
            .file("pages/docs/a.txt", "a")
            .file("pages/app.html", "app");
        Routed { origins, ravelin: setup.start() }
    }

    /// The response to a request with this line and these fields.
    fn ask(&self, line: &str, fields: &str) -> Response {
        let host = if fields.contains("Host:") { "" } else { "Host: example.com\r\n" };
        self.ravelin.client().ask(format!("{line} HTTP/1.1\r\n{host}{fields}\r\n"))
    }

    /// Who answers it, or with which status it is refused.
    fn who(&self, line: &str, fields: &str) -> String {
        let response = self.ask(line, fields);
        if response.status == 200 { response.text() } else { response.status.to_string() }
    }
}

fn origin(name: &'static str) -> Origin {
    let status = name.split('-').next().filter(|status| status.parse::<u16>().is_ok());
    match status {
        None => Origin::saying(name),
        Some(status) => Origin::serve(move |_| {
            format!("HTTP/1.1 {status} x\r\nContent-Length: 1\r\nServer-Said: yes\r\n\r\nx").into()
        }),
    }
}

fn route(keys: &str) -> String {
    format!("[[sites.routes]]\n{keys}\n")
}

#[test]
fn exact_paths_and_regular_expressions_come_before_prefixes() {
    let routes = route("path = \"/\"\nupstream = \"root\"")
        + &route("path = \"/a\"\nmatch = \"exact\"\nupstream = \"exact\"")
        + &route("path = '\\.php$'\nmatch = \"regex\"\nupstream = \"php\"")
        + &route("path = \"/static\"\nbefore_regex = true\nupstream = \"static\"");
    let site = Routed::new(&["root", "exact", "php", "static"], "", &routes);
    for (target, who) in
        [("/a", "exact"), ("/a/", "root"), ("/x.php", "php"), ("/static/x.php", "static")]
    {
        assert_eq!(site.who(&format!("GET {target}"), ""), who, "{target}");
    }
}

#[test]
fn hosts_methods_fields_query_and_cookies_choose() {
    let routes = route("path = \"/\"\nupstream = \"root\"")
        + &route("path = \"/h\"\nhosts = [\"*.example.org\", \"api.*\"]\nupstream = \"host\"")
        + &route("path = \"/m\"\nmethods = [\"PUT\"]\nupstream = \"put\"")
        + &route(
            "path = \"/f\"\nwhen = [{ header = \"X-Env\", values = [\"test\"] }, { query = \"v\", regex = '^\\d+$' }]\nupstream = \"both\"",
        )
        + &route(
            "path = \"/c\"\nwhen = [{ cookie = \"beta\", values = [\"1\"] }]\nupstream = \"beta\"",
        );
    let site = Routed::new(&["root", "host", "put", "both", "beta"], "", &routes);
    assert_eq!(site.who("GET /h", "Host: a.example.org\r\n"), "host");
    assert_eq!(site.who("GET /h", "Host: api.test:80\r\n"), "host");
    assert_eq!(site.who("GET /h", ""), "root");
    assert_eq!(site.who("PUT /m", "Content-Length: 0\r\n"), "put");
    assert_eq!(site.who("GET /m", ""), "root");
    assert_eq!(site.who("GET /f?v=12", "x-env: test\r\n"), "both");
    assert_eq!(site.who("GET /f?v=x", "x-env: test\r\n"), "root");
    assert_eq!(site.who("GET /f?v=12", ""), "root");
    assert_eq!(site.who("GET /c", "Cookie: a=b; beta=1\r\n"), "beta");
}

#[test]
fn what_no_route_takes_for_its_method_is_405_and_for_its_conditions_400_if_asked() {
    let routes = route("path = \"/a\"\nmethods = [\"PUT\", \"DELETE\"]\nupstream = \"a\"")
        + &route("path = \"/b\"\nwhen = [{ header = \"X-A\" }]\nupstream = \"a\"");
    let site = Routed::new(&["a"], "", &routes);
    let refused = site.ask("GET /a", "").expect(405);
    assert_eq!(refused.get("allow"), Some("PUT, DELETE"));
    site.ask("GET /b", "").expect(404);
    let site = Routed::new(&["a"], "route_order = \"declared\"\nmismatch = 400", &routes);
    site.ask("GET /b", "").expect(400);
    site.ask("GET /c", "").expect(404);
    site.ask("GET /a", "").expect(405);
}

#[test]
fn a_route_may_answer_itself() {
    let routes = route(
        "path = \"/files\"\nstrip_prefix = true\nroot = \"pages\"\ncache_control = \"max-age=7\"",
    ) + &route("path = \"/docs\"\nroot = \"pages\"")
        + &route(
            "path = \"/app\"\nstrip_prefix = true\nroot = \"pages\"\nspa_fallback = \"app.html\"\n\
             spa_exclude = [\"/app/api/\"]",
        )
        + &route(
            "path = '^/old/(\\w+)'\nmatch = \"regex\"\nredirect = \"https://$host/new/$1\"\nstatus = 301",
        )
        + &route(
            "path = \"/hello\"\nmatch = \"exact\"\nstatus = 200\nbody = \"hi\"\ncontent_type = \"text/html\"",
        )
        + &route("path = \"/gone\"\nstatus = 410");
    let site = Routed::new(&["a"], "", &(routes + &route("path = \"/\"\nupstream = \"a\"")));
    let index = site.ask("GET /files/", "").expect(200);
    assert_eq!((index.text().as_str(), index.get("cache-control")), ("index", Some("max-age=7")));
    assert_eq!(site.who("GET /docs/a.txt", ""), "a");
    assert_eq!(site.who("GET /app/any/page", ""), "app");
    site.ask("GET /app/api/page", "").expect(404);
    site.ask("POST /docs/a.txt", "Content-Length: 0\r\n").expect(405);
    let moved = site.ask("GET /old/x?y=1", "").expect(301);
    assert_eq!(moved.get("location"), Some("https://example.com/new/x?y=1"));
    let hello = site.ask("GET /hello", "").expect(200);
    assert_eq!((hello.text().as_str(), hello.get("content-type")), ("hi", Some("text/html")));
    site.ask("GET /gone", "").expect(410);
    assert_eq!(site.origins[0].requests().len(), 0);
}

#[test]
fn a_directory_below_a_route_is_found_by_the_path_that_was_asked_for() {
    let routes = route("path = \"/files/\"\nstrip_prefix = true\nroot = \"pages\"")
        + &route(
            "path = '^/[a-z]*/deep'\nmatch = \"regex\"\nroot = \"pages\"\n\
             rewrite = [{ regex = '^.*$', with = '/docs' }]",
        );
    let site = Routed::new(&["a"], "", &routes);
    let location = |path: &str| {
        let moved = site.ask(&format!("GET {path}"), "").expect(301);
        moved.get("location").unwrap().to_owned()
    };
    assert_eq!(location("/files/docs?q=1"), "/files/docs/?q=1");
    assert_eq!(location("/any/deep"), "/any/deep/");
    // With one more slash it would lead here again.
    assert_eq!(location("/any/deep/"), "/docs/");
}

#[test]
fn the_upstream_gets_what_the_route_makes_of_a_request() {
    let routes = route(
        "path = \"/a\"\nupstream = \"a\"\nset_method = \"POST\"\nset_host = \"inner.test\"\n\
         rewrite = [{ trim_prefix = \"/a\" }, { regex = '^/(\\d+)$', with = '/items/$1?from=a' }]\n\
         request_headers = { set = { X-A = \"1\" }, append = { X-B = \"2\" } }",
    );
    let site = Routed::new(&["a"], "", &routes);
    site.ask("GET /a/42?q", "X-B: 1\r\n").expect(200);
    let request = site.origins[0].request(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/items/42?from=a&q"));
    assert_eq!((request.get("host"), request.get("x-a")), (Some("inner.test"), Some("1")));
    assert_eq!(request.all("x-b"), ["1", "2"]);
}

#[test]
fn redirects_come_before_the_action_for_what_they_match() {
    let routes = route(
        "path = \"/\"\nupstream = \"a\"\nredirects = [\
         { regex = '^/blog/(\\d+)', to = '/posts/$1', status = 308 }, \
         { of = \"full\", regex = '^http://old\\.test(/.*)', to = 'https://new.test$1' }]",
    );
    let site = Routed::new(&["a"], "", &routes);
    let blog = site.ask("GET /blog/7/x?q=1", "").expect(308);
    assert_eq!(blog.get("location"), Some("/posts/7/x?q=1"));
    let old = site.ask("GET /z", "Host: old.test\r\n").expect(302);
    assert_eq!(old.get("location"), Some("https://new.test/z"));
    assert_eq!(site.who("GET /z", ""), "a");
}

#[test]
fn a_failed_request_goes_on_to_the_route_that_is_named() {
    let routes = route(
        "path = \"/\"\nupstream = \"500-main\"\n\
         on_result = { failure_status = \"second\", unreachable = \"second\" }",
    ) + &route(
        "name = \"second\"\nupstream = \"503-other\"\non_result = { failure_status = \"page\" }",
    ) + &route("name = \"page\"\nstatus = 200\nbody = \"sorry\"");
    let retry = "[sites.proxy.retry]\nattempts = 1\n";
    let mut site = Routed::new(&["500-main", "503-other"], "", &(retry.to_owned() + &routes));
    assert_eq!(site.who("GET /", ""), "sorry");
    let post = "Content-Length: 4\r\n\r\nbody";
    let response = site.ravelin.client().ask(format!("POST /x HTTP/1.1\r\nHost: a\r\n{post}"));
    assert_eq!(response.expect(200).text(), "sorry");
    assert_eq!(site.origins[1].request(1).body, b"body");
    // One that cannot be reached at all.
    site.origins.remove(0);
    assert_eq!(site.who("GET /", ""), "sorry");
}

#[test]
fn a_body_that_was_taken_whole_goes_on_with_its_request() {
    let routes =
        route("path = \"/\"\nupstream = \"500-main\"\non_result = { failure_status = \"second\" }")
            + &route("name = \"second\"\nupstream = \"other\"");
    let keys = "[sites.proxy.retry]\nattempts = 1\n[sites.proxy.buffering]\nrequest = true\n";
    let site = Routed::new(&["500-main", "other"], "", &(keys.to_owned() + &routes));
    let mut client = site.ravelin.client();
    let body = "x".repeat(100_000);
    client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body[..50_000]);
    client.send(&body[50_000..]);
    assert_eq!(client.response("POST").expect(200).text(), "other");
    assert_eq!(site.origins[1].request(0).body.len(), body.len());
    // What follows on the connection is the next request.
    client.send("GET /y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("GET").expect(200).text(), "other");
}

#[test]
fn changes_of_responses_may_depend_on_how_requests_end() {
    let routes = route(
        "path = \"/good\"\nupstream = \"a\"\n[[sites.routes.response_headers]]\n\
         when = [\"success\"]\nset = { X-End = \"well\" }\n[[sites.routes.response_headers]]\n\
         when = [\"failure_status\", \"unreachable\"]\nset = { X-End = \"badly\" }",
    );
    let routes = routes.clone()
        + &routes.replace("/good", "/bad").replace("\"a\"", "\"500-b\"")
        + &routes.replace("/good", "/none").replace("\"a\"", "\"c\"");
    let mut site = Routed::new(&["a", "500-b", "c"], "", &routes);
    assert_eq!(site.ask("GET /good", "").expect(200).get("x-end"), Some("well"));
    assert_eq!(site.ask("GET /bad", "").expect(500).get("x-end"), Some("badly"));
    site.origins.pop();
    assert_eq!(site.ask("GET /none", "").expect(502).get("x-end"), Some("badly"));
}

#[test]
fn a_share_of_requests_goes_to_another_pool() {
    let routes = route(
        "path = \"/\"\nupstream = \"main\"\nsplit = [\
         { upstream = \"beta\", when = [{ header = \"X-Beta\" }] }, \
         { upstream = \"tenth\", share = \"10%\", by = \"header:X-User\" }, \
         { upstream = \"half\", share = \"50%\", path = \"/half\" }]",
    );
    let site = Routed::new(&["main", "beta", "tenth", "half"], "", &routes);
    assert_eq!(site.who("GET /", "X-Beta: yes\r\n"), "beta");
    let users: Vec<String> =
        (0..400).map(|n| site.who("GET /", &format!("X-User: u{n}\r\n"))).collect();
    let tenth = users.iter().filter(|who| *who == "tenth").count();
    // Six standard deviations around 40.
    assert!((4..=76).contains(&tenth), "{tenth} of 400");
    // The same user always meets the same.
    for n in [3, 77, 200] {
        assert_eq!(site.who("GET /", &format!("X-User: u{n}\r\n")), users[n]);
    }
    let half = (0..100).filter(|_| site.who("GET /half", "X-User: u-\r\n") == "half").count();
    assert!((20..=80).contains(&half), "{half} of 100");
}

#[test]
fn a_mirror_gets_copies_and_the_client_waits_for_none_of_them() {
    let routes = route(
        "path = \"/\"\nupstream = \"main\"\nmirror = { upstream = \"shadow\", methods = [\"GET\", \"POST\"] }",
    );
    let main = Origin::saying("main");
    // It takes the copies and answers none of them.
    let shadow = Origin::script(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let upstreams: String = [("main", &main), ("shadow", &shadow)]
        .map(|(name, origin)| {
            format!("[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.url())
        })
        .concat();
    let ravelin = Ravelin::start(&format!(
        "[[sites]]\nname = \"t\"\nhostname = \"*\"\nlisten = [\"127.0.0.1:0\"]\n[sites.proxy]\n\
         enabled = true\n{upstreams}\n{routes}"
    ));
    let mut client = ravelin.client();
    assert_eq!(client.get("/a?b").expect(200).text(), "main");
    let post = "POST /c HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(client.ask(post).expect(200).text(), "main");
    let put = "PUT /d HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client.ask(put).expect(200).text(), "main");
    let mut copies: Vec<_> = (0..2).map(|n| shadow.request(n)).collect();
    copies.sort_by_key(|copy| copy.target.clone());
    assert_eq!((copies[0].target.as_str(), copies[0].get("host")), ("/a?b", Some("example.com")));
    assert_eq!((copies[1].method.as_str(), &copies[1].body[..]), ("POST", &b"body"[..]));
    assert_eq!(main.requests().len(), 3);
}

#[test]
fn cve_2026_40912_no_rewriting_leads_out_of_where_the_upstreams_paths_begin() {
    let origin = Origin::saying("inner");
    let shadow = Origin::saying("shadow");
    let keys = [
        "path = \"/files\"\nmatch = \"starts_with\"\nstrip_prefix = true",
        "path = \"/t\"\nrewrite = [{ trim_prefix = \"/t/a\" }]",
        "path = \"/p\"\nrewrite = [{ replace_prefix = \"/p/a\", with = \"/b/\" }]",
        "path = \"/r\"\nrewrite = [{ regex = '^/r/x([^/]*)/', with = '/.$1/' }]",
        // What is hidden comes out by taking one layer of encoding off.
        "path = \"/e\"\nrewrite = [{ regex = '%25', with = '%' }]",
        "name = \"else\"\npath = \"/pub\"\nstrip_prefix = true",
    ];
    let routes: String = keys
        .iter()
        .map(|keys| {
            route(&format!("{keys}\nupstream = \"inner\"\nmirror = {{ upstream = \"shadow\" }}"))
        })
        .collect();
    let first = route(
        "path = \"/public\"\nstatus = 200\nbody = \"x\"\naccess = { deny = [\"127.0.0.1\"] }\n\
         on_result = { denied = \"else\" }",
    );
    let ravelin = Ravelin::start(&format!(
        "[logging]\nformat = \"json\"\n\
         [[sites]]\nname = \"t\"\nhostname = \"*\"\nlisten = [\"127.0.0.1:0\"]\n[sites.proxy]\n\
         enabled = true\n[[sites.proxy.upstreams]]\nname = \"inner\"\nurl = \"{}/base\"\n\
         [[sites.proxy.upstreams]]\nname = \"shadow\"\nurl = \"{}\"\n{first}{routes}",
        origin.url(),
        shadow.url()
    ));
    for target in [
        "/files../private/s.txt",
        "/files..",
        "/files./x",
        "/t/a../adm",
        "/p/a../adm",
        "/r/x./adm",
        "/r/x%2e/adm",
        "/r/x.%2fadm",
        "/e/%252e%252e/adm",
        "/e/%25",
    ] {
        let mut client = ravelin.client();
        let status = client.get(target).status;
        // Of what there is no rewriting for, the canonical path may be another one of no route.
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
    for target in ["/files../private/s.txt", "/t/a../adm", "/p/a../adm", "/r/x./adm"] {
        let mut client = ravelin.client();
        client.get(target).expect(400);
        ravelin.stdout.line_with(&[&format!("\"{target}\""), "\"status\":400", "\"malformed\""]);
        // The connection lives on.
        client.get("/t/a/ok").expect(200);
    }
    // What another route passes on need not be below this one's prefix.
    ravelin.get("/public/../public").expect(200);
    let mut targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    targets.dedup();
    assert_eq!(targets, ["/base/ok", "/base/public"]);
    for copy in shadow.requests() {
        assert!(!copy.target.contains("..") && !copy.target.contains('%'), "{}", copy.target);
    }
}

#[test]
fn a_share_by_address_is_one_of_clients_and_not_of_the_proxy_before_them() {
    let main = Origin::saying("main");
    let half = Origin::saying("half");
    let shadow = Origin::saying("shadow");
    let upstreams: String = [("main", &main), ("half", &half), ("shadow", &shadow)]
        .map(|(name, origin)| {
            format!("[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.url())
        })
        .concat();
    let routes = route(
        "path = \"/\"\nupstream = \"main\"\n\
         split = [{ upstream = \"half\", share = \"50%\", by = \"address\" }]\n\
         mirror = { upstream = \"shadow\", share = \"50%\", by = \"address\" }\n\
         request_headers = { fill = { X-Client = \"$remote_addr\" } }",
    );
    let ravelin = Ravelin::start(&format!(
        "[security]\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [[sites]]\nname = \"t\"\nhostname = \"*\"\nlisten = [\"127.0.0.1:0\"]\n[sites.proxy]\n\
         enabled = true\nheaders = {{ add_x_real_ip = true }}\n{upstreams}\n{routes}"
    ));
    let mut client = ravelin.client();
    let mut who = |n: usize| {
        let request = format!(
            "GET /{n} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{n}\r\n\
             X-Real-IP: 6.6.6.6\r\n\r\n"
        );
        client.ask(request).expect(200).text()
    };
    let answered: Vec<String> = (0..100).map(&mut who).collect();
    let count = answered.iter().filter(|who| *who == "half").count();
    assert!((10..=90).contains(&count), "{count} of 100");
    for n in [3, 77] {
        assert_eq!(who(n), answered[n]);
    }
    for request in main.requests().iter().chain(&half.requests()) {
        let address = format!("203.0.113.{}", &request.target[1..]);
        assert_eq!(request.get("x-real-ip"), Some(address.as_str()));
        assert_eq!(request.get("x-client"), Some(address.as_str()));
    }
}

#[test]
fn a_request_that_is_redirected_or_limited_may_go_on_but_none_that_is_too_large() {
    let routes = route(
        "path = \"/\"\nupstream = \"a\"\nmax_request_size = 10\n\
         redirects = [{ regex = '^/old', to = '/new' }]\n\
         rate_limit = [{ requests = 1, per = \"1h\", burst = 2, key = \"route\" }]\n\
         on_result = { redirected = \"other\", rate_limited = \"other\", client_error = \"other\" }",
    ) + &route("name = \"other\"\nstatus = 200\nbody = \"other\"");
    let site = Routed::new(&["a"], "", &routes);
    let large = "Content-Length: 11\r\n\r\n0123456789x";
    let client = &mut site.ravelin.client();
    client.ask(format!("POST / HTTP/1.1\r\nHost: a\r\n{large}")).expect(413);
    assert_eq!(site.who("GET /old", ""), "other");
    assert_eq!(site.who("GET /", ""), "a");
    assert_eq!(site.who("GET /", ""), "other");
}
