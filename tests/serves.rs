//! The first thing anyone tries: start it, ask it, read the answer.

use crate::harness::*;

#[test]
fn a_get_reaches_the_upstream_and_its_answer_the_client() {
    let origin = Origin::saying("hello");
    let ravelin = Ravelin::before(&origin);
    let response = ravelin.get("/some/page?x=1").expect(200);
    assert_eq!(response.text(), "hello");
    let request = origin.request(0);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/some/page?x=1"));
    assert_eq!(request.version, "HTTP/1.1");
}

#[test]
fn curl_gets_and_posts_through_it() {
    let origin = Origin::serve(|r| ok(&String::from_utf8_lossy(&r.body)));
    let ravelin = Ravelin::before(&origin);
    assert_eq!(curl(&[&ravelin.url("/")]), "");
    assert_eq!(curl(&["-d", "a=1&b=2", &ravelin.url("/form")]), "a=1&b=2");
    let put =
        curl(&["-X", "PUT", "-H", "Transfer-Encoding: chunked", "-d", "piece", &ravelin.url("/x")]);
    assert_eq!(put, "piece");
}

#[test]
fn a_real_http_server_is_served_unchanged() {
    let files = TempDir::new();
    let content = pattern(300_000, 7);
    files.write("data.bin", &content);
    let server = Python::http_server(files.path());
    let ravelin = Ravelin::start(&site(&[&server.url()], ""));
    let response = ravelin.get("/data.bin").expect(200);
    assert_same_bytes(&response.body, &content);
    ravelin.get("/missing").expect(404);
}

#[test]
fn the_default_configuration_is_ravelin_toml_in_the_working_directory() {
    let origin = Origin::saying("found");
    let ravelin = Setup::new(&site(&[&origin.url()], "")).args(&["run"]).start();
    assert_eq!(ravelin.get("/").text(), "found");
}

#[test]
fn a_missing_configuration_is_named_and_ends_with_1() {
    let dir = TempDir::new();
    let output = run(dir.path(), &["run", "-c", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains("nowhere.toml"), "{}", printed(&output));
}

#[test]
fn a_wrong_configuration_refuses_to_start_and_ends_with_1() {
    let dir = TempDir::new();
    dir.write("ravelin.toml", "[[sites]]\nname = 3\n");
    let output = run(dir.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains("ravelin.toml:2"), "{}", printed(&output));
}

#[test]
fn wrong_usage_ends_with_2() {
    let dir = TempDir::new();
    for args in [&["run", "--no-such-flag"][..], &["fly"], &["check"]] {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", printed(&output));
    }
}

#[test]
fn help_and_version_end_with_0() {
    let dir = TempDir::new();
    let help = run(dir.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["run", "check", "demo"] {
        assert!(printed(&help).contains(command), "{}", printed(&help));
    }
    let version = run(dir.path(), &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(printed(&version).contains("ravelin"));
}

#[test]
fn an_address_in_use_is_named_and_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let toml = site(&["http://127.0.0.1:1"], "").replace("127.0.0.1:0", &addr);
    let dir = TempDir::new();
    dir.write("ravelin.toml", toml);
    let output = run(dir.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert!(printed(&output).contains(&addr), "{}", printed(&output));
}

#[test]
fn health_is_answered_by_ravelin_itself() {
    let origin = Origin::saying("from the origin");
    let ravelin = Ravelin::before(&origin);
    let health = ravelin.get("/api/health").expect(200);
    assert!(health.get("content-type").unwrap().starts_with("application/json"));
    assert!(health.get("cache-control").unwrap().contains("no-store"));
    assert_eq!(Json::parse(&health.text()).get("status").text(), "ok");
    let ready = ravelin.get("/api/health/ready").expect(200);
    assert_eq!(Json::parse(&ready.text()).get("status").text(), "ready");
    ravelin.get("/api/health/live").expect(200);
    assert_eq!(ravelin.get("/api/other").text(), "from the origin");
    assert_eq!(ravelin.get("/api/healthy").text(), "from the origin");
    assert!(origin.requests().iter().all(|r| !r.target.ends_with("health")));
}

#[test]
fn a_route_that_names_the_health_path_takes_it() {
    let origin = Origin::saying("mine");
    let more = "[[sites.proxy.routes]]\npath = \"/api/health\"\nupstream = \"backend\"\n";
    let ravelin = Ravelin::before_with(&origin, more);
    assert_eq!(ravelin.get("/api/health").text(), "mine");
}

#[test]
fn the_server_name_and_version_are_the_operators() {
    let origin = Origin::saying("x");
    let toml = format!(
        "[server]\nname = \"Edge One\"\nversion = \"9.8.7\"\n{}",
        site(&[&origin.url()], "")
    );
    let ravelin = Ravelin::start(&toml);
    let health = ravelin.get("/api/health").expect(200);
    assert!(health.text().contains("9.8.7"), "{}", health.text());
    assert!(health.get("server").unwrap().starts_with("Edge One"), "{:?}", health.head);
}

#[test]
fn proxy_enabled_with_one_pool_and_no_routes_proxies_every_path() {
    let origin = Origin::saying("all of it");
    let toml = format!(
        "[[sites]]\nname = \"t\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
         [sites.proxy]\nenabled = true\n[[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{}\"\n",
        origin.url()
    );
    let ravelin = Ravelin::start(&toml);
    assert_eq!(ravelin.get("/anything/at/all").text(), "all of it");
    assert_eq!(origin.request(0).target, "/anything/at/all");
}

#[test]
fn proxy_disabled_proxies_nothing() {
    let origin = Origin::saying("never");
    let toml = site(&[&origin.url()], "").replace("enabled = true", "enabled = false");
    let ravelin = Ravelin::start(&toml);
    ravelin.get("/").expect(404);
    assert_eq!(origin.connections(), 0);
}
