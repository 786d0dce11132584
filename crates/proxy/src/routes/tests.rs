use config::Options;
use wire::head::Upgrade;

use super::*;
use crate::live::Live;
use crate::snapshot::Snapshot;

/// A site with these routes; each leads to a pool of its own kind.
fn snapshot(routes: &str) -> Snapshot {
    let toml = format!(
        "[[sites]]\nname = \"s\"\nhostname = \"example.com\"\nport = 80\n{}\n\
         [sites.proxy]\nenabled = true\n[[sites.proxy.upstreams]]\nname = \"b\"\n\
         url = \"http://127.0.0.1:1\"\n{routes}",
        if routes.contains("# declared") {
            "route_order = \"declared\"\nmismatch = 400"
        } else {
            ""
        },
    );
    let loaded = config::load(&[("a.toml".into(), toml)], &Options::default());
    let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.render(false)));
    Snapshot::compile(model, &Live::default()).unwrap().0
}

fn route(keys: &str) -> String {
    format!("[[sites.proxy.routes]]\nupstream = \"b\"\n{keys}\n")
}

fn prefixes(paths: &[&str]) -> Snapshot {
    let routes: String = paths.iter().map(|path| route(&format!("path = \"{path}\""))).collect();
    snapshot(&routes)
}

fn request(path: &str) -> Request<'_> {
    Request {
        listener: 0,
        method: b"GET",
        host: "example.com",
        authority: b"example.com",
        path: path.as_bytes(),
        query: None,
        fields: Fields::default(),
        secure: false,
        policy: None,
        upgrade: Upgrade::None,
    }
}

/// The name of the route that takes a request, or why there is none.
fn asked(snapshot: &Snapshot, request: &Request<'_>) -> String {
    match snapshot.sites[0].routes.find(request, &mut Trace::off()) {
        Found::Route(route) => route.name.clone(),
        Found::AddSlash => "redirect".to_owned(),
        Found::Missed(missed) if missed.conditions => "conditions".to_owned(),
        Found::Missed(missed) if !missed.methods.is_empty() => missed.methods.join(" "),
        Found::Missed(_) => "none".to_owned(),
    }
}

fn find(snapshot: &Snapshot, path: &str) -> String {
    asked(snapshot, &request(path))
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let mut paths = ["/", "/api/", "/api/v1", "/api/v1/users", "/ws"];
    paths.reverse();
    let table = prefixes(&paths);
    for (path, expected) in [
        ("/", "/"),
        ("/x", "/"),
        ("/api/x", "/api/"),
        ("/api/v1", "/api/v1"),
        ("/api/v1/u", "/api/v1"),
        ("/api/v10", "/api/"),
        ("/api/v1/users/7", "/api/v1/users"),
        ("/api/v1/users7", "/api/v1"),
        ("/ws/chat", "/ws"),
        ("/wsx", "/"),
        ("/zzz", "/"),
    ] {
        assert_eq!(find(&table, path), expected, "{path}");
    }
}

#[test]
fn a_prefix_ends_at_a_segment() {
    let table = prefixes(&["/api"]);
    for (path, expected) in
        [("/apix", "none"), ("/api-v2", "none"), ("/api", "/api"), ("/api/", "/api")]
    {
        assert_eq!(find(&table, path), expected, "{path}");
    }
}

#[test]
fn the_slash_is_added_only_when_asked() {
    assert_eq!(find(&prefixes(&["/api/"]), "/api"), "none");
    let redirecting = route("path = \"/api/\"\nredirect_slash = true");
    let table = snapshot(&(redirecting + &route("path = \"/api-v2\"")));
    assert_eq!(find(&table, "/api"), "redirect");
    assert_eq!(find(&table, "/ap"), "none");
}

#[test]
fn exact_paths_then_regular_expressions_then_prefixes() {
    let table = snapshot(
        &[
            route("path = \"/\""),
            route("path = \"/img\"\nbefore_regex = true"),
            route("path = '\\.png$'\nmatch = \"regex\""),
            route("path = '^/A'\nmatch = \"regex_ignore_case\""),
            route("path = \"/a\"\nmatch = \"exact\""),
            route("path = \"/raw\"\nmatch = \"starts_with\""),
        ]
        .concat(),
    );
    for (path, expected) in [
        ("/a", "/a"),
        ("/a/", "^/A"),
        ("/a.png", "\\.png$"),
        ("/img/a.png", "/img"),
        ("/imgs/a.png", "\\.png$"),
        ("/rawer", "/raw"),
        ("/x", "/"),
    ] {
        assert_eq!(find(&table, path), expected, "{path}");
    }
}

#[test]
fn declared_order_is_that() {
    let declared = [
        "# declared\n".to_owned(),
        route("path = \"/api\"\nmethods = [\"POST\"]"),
        route("path = \"/a\"\nmatch = \"starts_with\"\nhosts = [\"other.*\", \"*.example.org\"]"),
        route("path = \"/api/v1\""),
        route("path = \"/api\"\nname = \"later\"\nwhen = [{ query = \"v\", values = [\"2\"] }]"),
    ];
    let table = snapshot(&declared.concat());
    let get = request("/api/v1");
    assert_eq!(asked(&table, &get), "/api/v1");
    assert_eq!(asked(&table, &Request { method: b"POST", ..get }), "/api");
    assert_eq!(asked(&table, &Request { host: "other.net", ..get }), "/a");
    assert_eq!(asked(&table, &Request { host: "x.example.org", ..get }), "/a");
    assert_eq!(asked(&table, &request("/api/v2")), "conditions");
    assert_eq!(asked(&table, &Request { query: Some(b"a&v=%32"), ..request("/api/v2") }), "/api");
}

#[test]
fn conditions_and_methods_leave_a_request_to_the_next_best() {
    let table = snapshot(
        &[
            route("path = \"/\"\nmethods = [\"GET\", \"POST\"]"),
            route("path = \"/api\"\nwhen = [{ query = \"beta\" }]"),
            route("path = \"/api\"\nmethods = [\"PUT\"]"),
        ]
        .concat(),
    );
    let get = request("/api/x");
    assert_eq!(asked(&table, &get), "/");
    assert_eq!(asked(&table, &Request { query: Some(b"beta"), ..get }), "/api");
    assert_eq!(asked(&table, &Request { method: b"PUT", ..get }), "/api");
    assert_eq!(asked(&table, &Request { method: b"HEAD", ..get }), "/");
    // One more that would take it but for its condition.
    assert_eq!(asked(&table, &Request { method: b"DELETE", ..get }), "conditions");
    assert_eq!(asked(&table, &Request { method: b"DELETE", ..request("/x") }), "GET POST");
}

#[test]
fn a_trace_says_why() {
    let table = snapshot(&(route("path = \"/api\"\nmethods = [\"PUT\"]") + &route("path = \"/\"")));
    let mut trace = Trace::on();
    crate::decide::decide(&table, &request("/api/x"), &mut trace);
    let steps: Vec<String> = trace.steps().iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["site \"s\"", "not route /api: its methods", "route /"]);
}

#[test]
fn paths_are_rewritten_step_by_step() {
    for (keys, path, expected) in [
        ("path = \"/admin/\"\nstrip_prefix = true", "/admin/users", "/users"),
        ("path = \"/ws\"\nstrip_prefix = true", "/ws/chat", "/chat"),
        ("path = \"/ws\"\nstrip_prefix = true", "/ws", "/"),
        ("path = \"/ws\"\nstrip_prefix = true\nrewrite_target = \"/new\"", "/ws/chat", "/new"),
        (
            "path = \"/foo\"\nmatch = \"starts_with\"\n\
             rewrite = [{ replace_prefix = \"/fo\", with = \"/ba\" }]",
            "/foo",
            "/bao",
        ),
        (
            "path = \"/a\"\nrewrite = [{ regex = '^/a/(\\d+)/(\\w+)', with = '/$2/${1}x' }]",
            "/a/12/b/c",
            "/b/12x/c",
        ),
        (
            "path = \"/a\"\nrewrite = [{ trim_prefix = \"/a\" }, { add_prefix = \"/b\" }]",
            "/a/c",
            "/b/c",
        ),
        ("path = \"/a\"\nrewrite = [{ trim_prefix = \"/a\" }]", "/a", "/"),
        ("path = \"/a\"\nrewrite = [{ replace = \"/z\" }]", "/a/b", "/z"),
    ] {
        let snapshot = snapshot(&route(keys));
        let mut out = Vec::new();
        snapshot.sites[0].routes.routes()[0].rewrite.write(path.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{keys}");
    }
}

#[test]
fn what_a_route_makes_of_a_path_is_judged_like_what_clients_send() {
    for (keys, path, fault) in [
        ("path = \"/f\"\nmatch = \"starts_with\"\nstrip_prefix = true", "/f../x", true),
        ("path = \"/f\"\nmatch = \"starts_with\"\nstrip_prefix = true", "/f.x", false),
        ("path = \"/f\"\nstrip_prefix = true", "/f../x", false),
        ("path = \"/f/\"\nstrip_prefix = true", "/f/..x", false),
        ("path = \"/f\"\nrewrite_target = \"/z\"", "/f", false),
        ("path = \"/f\"\nrewrite = [{ trim_prefix = \"/f/a\" }]", "/f/a..", true),
        ("path = \"/f\"\nrewrite = [{ trim_prefix = \"/f/a\" }]", "/f/a./x", true),
        ("path = \"/f\"\nrewrite = [{ trim_prefix = \"/f/a\" }]", "/f/a...", false),
        ("path = \"/f\"\nrewrite = [{ trim_prefix = \"/f/%C3\" }]", "/f/%C3%A4", false),
        ("path = \"/f\"\nrewrite = [{ regex = '%25', with = '%' }]", "/f/%252e%252e", true),
        ("path = \"/f\"\nrewrite = [{ regex = '^/f', with = '/a?b=../c' }]", "/f", false),
        ("path = \"/f\"\nrewrite = [{ regex = '^/f/', with = '/a%2Fb/' }]", "/f/x", false),
    ] {
        let snapshot = snapshot(&route(keys));
        let found = snapshot.sites[0].routes.routes()[0].rewrite.fault(path.as_bytes());
        assert_eq!(found.is_some(), fault, "{keys} {path} {found:?}");
    }
}

#[test]
fn what_is_not_below_a_prefix_keeps_it() {
    let snapshot = snapshot(&route("path = \"/f\"\nstrip_prefix = true"));
    for (path, made) in [("/f/x", "/x"), ("/f", "/"), ("/f../x", "/f../x"), ("/x", "/x")] {
        let mut out = Vec::new();
        snapshot.sites[0].routes.routes()[0].rewrite.write(path.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), made);
    }
}

#[test]
fn a_query_with_too_many_parameters_meets_no_condition() {
    let when = |is: &str| format!("path = \"/\"\nwhen = [{{ query = \"debug\"{is} }}]");
    let padding = |count: usize| "a&".repeat(count) + "debug=1";
    for (is, count, expected) in [
        (", empty = true", 998, "conditions"),
        (", empty = true", 1000, "conditions"),
        (", empty = true", 2000, "conditions"),
        ("", 999, "/"),
        ("", 1000, "conditions"),
    ] {
        let snapshot = snapshot(&route(&when(is)));
        let query = padding(count);
        let request = Request { query: Some(query.as_bytes()), ..request("/") };
        assert_eq!(asked(&snapshot, &request), expected, "{is} {count}");
    }
    let snapshot = snapshot(&route(&when(", empty = true")));
    assert_eq!(find(&snapshot, "/"), "/");
}
