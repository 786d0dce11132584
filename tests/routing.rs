//! Which site, which route, and what the upstream is asked for.

use crate::harness::*;

/// A site without routes of its own; `routes` are `[[sites.proxy.routes]]` tables. Every pool of
/// `pools` answers with its own name.
struct Routed {
    origins: Vec<Origin>,
    ravelin: Ravelin,
}

impl Routed {
    fn new(pools: &[&str], routes: &str) -> Routed {
        let origins: Vec<Origin> = pools.iter().map(|name| Origin::saying(name)).collect();
        let upstream = |(name, origin): (&&str, &Origin)| {
            format!("[[sites.proxy.upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.url())
        };
        let upstreams: String = pools.iter().zip(&origins).map(upstream).collect();
        let toml = format!(
            "[[sites]]\nname = \"t\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
             [sites.proxy]\nenabled = true\n{upstreams}\n{routes}\n"
        );
        let ravelin = Ravelin::start(&toml);
        Routed { origins, ravelin }
    }

    /// Who answers this target.
    fn who(&self, target: &str) -> String {
        let response = self.ravelin.get(target);
        if response.status == 200 { response.text() } else { response.status.to_string() }
    }

    /// The target that the only origin sees for this one.
    fn forwarded(&self, target: &str) -> String {
        let before = self.origins[0].requests().len();
        self.ravelin.get(target).expect(200);
        self.origins[0].request(before).target
    }
}

fn route(path: &str, upstream: &str, more: &str) -> String {
    format!("[[sites.proxy.routes]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n{more}\n")
}

#[test]
fn the_longest_prefix_wins_in_any_order() {
    let routes = route("/", "root", "")
        + &route("/api/v2/", "v2", "")
        + &route("/api/", "api", "")
        + &route("/api/v2/admin", "admin", "");
    let site = Routed::new(&["root", "v2", "api", "admin"], &routes);
    for (target, who) in [
        ("/", "root"),
        ("/apix", "root"),
        ("/api/", "api"),
        ("/api/v1", "api"),
        ("/api/v2/x", "v2"),
        ("/api/v2/admin", "admin"),
        ("/api/v2/admin/x", "admin"),
        ("/api/v2/administrator", "v2"),
        ("/api/v2/admin?q=1", "admin"),
    ] {
        assert_eq!(site.who(target), who, "{target}");
    }
}

#[test]
fn declared_order_breaks_ties() {
    let routes = route("/x", "first", "") + &route("/x", "second", "");
    let toml_is_accepted = Routed::new(&["first", "second"], &routes);
    assert_eq!(toml_is_accepted.who("/x"), "first");
}

#[test]
fn a_prefix_matches_whole_segments_only() {
    let site = Routed::new(&["a"], &route("/api", "a", ""));
    for (target, who) in
        [("/api", "a"), ("/api/", "a"), ("/api/x", "a"), ("/apix", "404"), ("/API", "404")]
    {
        assert_eq!(site.who(target), who, "{target}");
    }
}

#[test]
fn a_prefix_with_a_final_slash_does_not_match_without_it() {
    let site = Routed::new(&["a"], &route("/api/", "a", ""));
    assert_eq!(site.who("/api"), "404");
    assert_eq!(site.who("/api/"), "a");
}

#[test]
fn redirect_slash_sends_the_client_to_the_slash_and_keeps_the_query() {
    let site = Routed::new(&["a"], &route("/api/", "a", "redirect_slash = true"));
    let response = site.ravelin.get("/api?x=1&y=%2f").expect(301);
    let location = response.get("location").unwrap();
    assert!(location.ends_with("/api/?x=1&y=%2f"), "{location}");
    assert_eq!(site.who("/api/"), "a");
}

#[test]
fn strip_prefix_takes_the_prefix_off() {
    let site = Routed::new(&["a"], &route("/admin/", "a", "strip_prefix = true"));
    assert_eq!(site.forwarded("/admin/users"), "/users");
    assert_eq!(site.forwarded("/admin/"), "/");
    assert_eq!(site.forwarded("/admin/?a=/admin/"), "/?a=/admin/");
    assert_eq!(site.forwarded("/admin/admin/x"), "/admin/x");
}

#[test]
fn strip_prefix_without_final_slash_leaves_a_path() {
    let site = Routed::new(&["a"], &route("/ws", "a", "strip_prefix = true"));
    assert_eq!(site.forwarded("/ws"), "/");
    assert_eq!(site.forwarded("/ws?x"), "/?x");
    assert_eq!(site.forwarded("/ws/chat"), "/chat");
}

#[test]
fn without_strip_prefix_the_path_is_forwarded_whole() {
    let site = Routed::new(&["a"], &route("/api/", "a", "strip_prefix = false"));
    assert_eq!(site.forwarded("/api/users/42"), "/api/users/42");
}

#[test]
fn rewrite_target_replaces_the_whole_path_and_keeps_the_query() {
    let more = "rewrite_target = \"/v1/index\"\nstrip_prefix = true";
    let site = Routed::new(&["a"], &route("/old/", "a", more));
    assert_eq!(site.forwarded("/old/deep/page?q=1"), "/v1/index?q=1");
}

#[test]
fn an_upstream_base_path_comes_first() {
    let origin = Origin::saying("a");
    let url = format!("{}/base/path/", origin.url());
    let more =
        "[[sites.proxy.routes]]\npath = \"/cut/\"\nupstream = \"backend\"\nstrip_prefix = true\n";
    let ravelin = Ravelin::start(&site(&[&url], more));
    ravelin.get("/x?y=1").expect(200);
    ravelin.get("/cut/z").expect(200);
    ravelin.get("/").expect(200);
    let targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/base/path/x?y=1", "/base/path/z", "/base/path/"]);
}

#[test]
fn the_query_is_kept_byte_for_byte() {
    let site = Routed::new(&["a"], &route("/", "a", ""));
    for query in [
        "",
        "a=1",
        "a=%2f%2F%00%zz",
        "../..//x",
        "x=a+b%20c",
        "a?b?c",
        "&&==",
        "%",
        "a=[1]{2}|^`",
        "q=%e2%82%ac",
        "a'b\"c<d>",
        "a\\b",
    ] {
        assert_eq!(site.forwarded(&format!("/p?{query}")), format!("/p?{query}"));
    }
    assert_eq!(site.forwarded("/p"), "/p");
}

#[test]
fn matching_and_forwarding_use_one_canonical_path() {
    let routes = route("/", "open", "") + &route("/admin/", "admin", "");
    let site = Routed::new(&["open", "admin"], &routes);
    for target in [
        "/admin/x",
        "//admin/x",
        "/./admin/x",
        "/a/../admin/x",
        "/%61dmin/x",
        "/a//../admin//x",
        "/adm%69n/x",
        "/a/b/../../admin/./x",
    ] {
        let before = site.origins[1].requests().len();
        assert_eq!(site.who(target), "admin", "{target}");
        assert_eq!(site.origins[1].request(before).target, "/admin/x", "{target}");
    }
    // Other escapes stay, in one spelling.
    let before = site.origins[0].requests().len();
    assert_eq!(site.who("/caf%c3%a9/a%20b;c=1/@:!$&'()*+,~"), "open");
    let forwarded = site.origins[0].request(before).target;
    assert_eq!(forwarded, "/caf%C3%A9/a%20b;c=1/@:!$&'()*+,~");
}

#[test]
fn a_path_without_a_route_is_404_with_no_request_upstream() {
    let site = Routed::new(&["a"], &route("/api/", "a", ""));
    assert_eq!(site.who("/"), "404");
    assert_eq!(site.who("/index.html"), "404");
    assert_eq!(site.origins[0].connections(), 0);
}

#[test]
fn any_method_is_forwarded_as_it_is() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE", "PROPFIND", "get"];
    let mut client = ravelin.client();
    for (i, method) in methods.iter().enumerate() {
        let request =
            format!("{method} /x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n");
        client.ask(request).expect(200);
        assert_eq!(origin.request(i).method, *method);
    }
}

#[test]
fn options_of_the_server_as_a_whole_is_answered() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask("OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert!(matches!(response.status, 200 | 204), "{:?}", response.head);
}

#[test]
fn connect_is_refused_and_never_forwarded() {
    let origin = Origin::saying("");
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.ask("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
    assert!((400..=501).contains(&response.status), "{:?}", response.head);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn redirect_to_https_keeps_host_path_and_query() {
    let toml = "[[sites]]\nname = \"t\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
                redirect_to_https = true\n";
    let ravelin = Ravelin::start(toml);
    let response =
        ravelin.ask("GET /a/b?c=%2f HTTP/1.1\r\nHost: example.com:8080\r\n\r\n").expect(301);
    assert_eq!(response.get("location"), Some("https://example.com/a/b?c=%2f"));
}

/// Several sites on one address, each in front of an origin that says the site's name.
struct Hosts {
    _origins: Vec<Origin>,
    ravelin: Ravelin,
}

impl Hosts {
    /// `(name, keys)` of each site; keys say `hostname` and the like.
    fn new(sites: &[(&str, &str)]) -> Hosts {
        let mut toml = String::new();
        let mut origins = Vec::new();
        for (name, keys) in sites {
            let origin = Origin::saying(name);
            toml += &format!(
                "[[sites]]\nname = \"{name}\"\nlisten = [\"127.0.0.1:0\"]\n{keys}\n\
                 [sites.proxy]\nenabled = true\n\
                 [[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"{}\"\n\
                 [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"b\"\n",
                origin.url()
            );
            origins.push(origin);
        }
        Hosts { ravelin: Ravelin::start(&toml), _origins: origins }
    }

    fn who(&self, host: &str) -> String {
        self.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    fn ask(&self, request: &str) -> String {
        let response = self.ravelin.ask(request);
        if response.status == 200 { response.text() } else { response.status.to_string() }
    }
}

fn example_hosts() -> Hosts {
    Hosts::new(&[
        ("fallback", "hostname = \"fallback.test\"\ndefault = true"),
        ("exact", "hostname = \"www.example.com\"\nhostnames = [\"Example.COM\", \"other.test\"]"),
        ("wild", "hostname = \"*.example.com\""),
        ("deep", "hostname = \"*.deep.example.com\""),
    ])
}

#[test]
fn hosts_match_exactly_then_by_wildcard_then_the_default() {
    let hosts = example_hosts();
    for (host, who) in [
        ("www.example.com", "exact"),
        ("example.com", "exact"),
        ("other.test", "exact"),
        ("api.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("deep.example.com", "wild"),
        ("x.deep.example.com", "deep"),
        ("notexample.com", "fallback"),
        ("example.com.evil.test", "fallback"),
        ("127.0.0.1", "fallback"),
        ("[::1]", "fallback"),
        ("[::1]:8080", "fallback"),
    ] {
        assert_eq!(hosts.who(host), who, "{host}");
    }
}

#[test]
fn hosts_match_in_any_case_with_any_port_and_a_trailing_dot() {
    let hosts = example_hosts();
    for (host, who) in [
        ("WWW.Example.Com", "exact"),
        ("www.example.com:80", "exact"),
        ("www.example.com:8443", "exact"),
        ("www.example.com.", "exact"),
        ("www.example.com.:80", "exact"),
        ("API.EXAMPLE.COM.", "wild"),
        ("www.example.com:", "exact"),
    ] {
        assert_eq!(hosts.who(host), who, "{host}");
    }
}

#[test]
fn malformed_hosts_are_400() {
    let hosts = example_hosts();
    for host in [
        "www.example.com..",
        "a b",
        "www.example.com:99999",
        "www.example.com:80x",
        "user@host",
        "www.example.com/x",
        "a,b",
        "[::1",
        "[::1]x",
        "http://x",
        "www.example.com\\x",
        "%77ww.test",
        "a?b",
        "a#b",
    ] {
        assert_eq!(hosts.who(host), "400", "{host}");
    }
}

#[test]
fn without_default_the_first_site_of_the_listener_answers() {
    let hosts = Hosts::new(&[
        ("first", "hostname = \"first.test\""),
        ("second", "hostname = \"second.test\""),
    ]);
    assert_eq!(hosts.who("second.test"), "second");
    assert_eq!(hosts.who("unknown.test"), "first");
    assert_eq!(hosts.ask("GET / HTTP/1.0\r\n\r\n"), "first");
    // RFC 9110 section 4.2.1: an http URI with an empty host is invalid.
    assert_eq!(hosts.ask("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "400");
}

#[test]
fn rfc9112_3_2_2_absolute_form_wins_over_host() {
    let hosts = example_hosts();
    let absolute = |target: &str, host: &str| {
        hosts.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(absolute("http://www.example.com/x", "fallback.test"), "exact");
    assert_eq!(absolute("http://api.example.com:80/x", "www.example.com"), "wild");
    assert_eq!(absolute("HTTP://WWW.EXAMPLE.COM", "fallback.test"), "exact");
    assert_eq!(absolute("http://user@www.example.com/", "www.example.com"), "400");
    assert_eq!(absolute("http:///x", "www.example.com"), "400");
}

#[test]
fn rfc9112_3_2_2_absolute_form_is_forwarded_as_origin_form_with_its_host() {
    let origin = Origin::saying("x");
    let ravelin = Ravelin::before(&origin);
    ravelin.ask("GET http://Other.test:81/p?q HTTP/1.1\r\nHost: example.com\r\n\r\n").expect(200);
    let request = origin.request(0);
    assert_eq!(request.target, "/p?q");
    assert!(
        request.get("host").unwrap().eq_ignore_ascii_case("other.test:81"),
        "{:?}",
        request.head
    );
}

#[test]
fn one_host_on_two_listeners_is_two_sites() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let toml = site(&[&one.url()], "")
        + &site(&[&two.url()], "")
            .replace("127.0.0.1:0", "127.0.0.2:0")
            .replace("\"test\"", "\"b\"");
    let ravelin = Setup::new(&toml).listeners(2).start();
    assert_eq!(Client::connect(ravelin.addr_on("127.0.0.1")).get("/").text(), "one");
    assert_eq!(Client::connect(ravelin.addr_on("127.0.0.2")).get("/").text(), "two");
}

#[test]
fn the_port_comes_from_the_socket_not_from_the_host_field() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let toml = site(&[&one.url()], "")
        + &site(&[&two.url()], "")
            .replace("127.0.0.1:0", "127.0.0.2:0")
            .replace("\"test\"", "\"b\"");
    let ravelin = Setup::new(&toml).listeners(2).start();
    let other = ravelin.addr_on("127.0.0.2").port();
    let mut client = Client::connect(ravelin.addr_on("127.0.0.1"));
    let response = client.ask(format!("GET / HTTP/1.1\r\nHost: example.com:{other}\r\n\r\n"));
    assert_eq!(response.text(), "one");
}
