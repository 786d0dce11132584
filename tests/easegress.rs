//! Configurations of Easegress: the two of its document on WebSocket word for word, and what filters
//! and rules promise.

use std::process::{Command, Stdio};

use crate::harness::*;

/// The document's Pipeline.
const PIPELINE: &str = "\
name: websocket-pipeline
kind: Pipeline
flow:
- filter: wsproxy
filters:
- kind: WebSocketProxy
  name: wsproxy
  defaultOrigin: http://127.0.0.1/hello
  pools:
  - servers:
    - url: ws://127.0.0.1:12345
      # keepHost: true, the `Host` will be the same as the original request
      # If the backend is a load balancer, it would prove to be highly beneficial
      keepHost: true
    - url: ws://127.0.0.1:9095
    - url: ws://127.0.0.1:9096
    - url: ws://127.0.0.1:9097
    loadBalance:
      policy: roundRobin
    # the max number of bytes to read for a single message in
    # client/server connection.
    # default is 32769, set -1 to disable limit.
    clientMaxMsgSize: 32769
    serverMaxMsgSize: 32769
";

/// The document's HTTPServer.
const SERVER: &str = "\
name: demo-server
kind: HTTPServer
port: 8080
rules:
- paths:
  - path: /ws
    clientMaxBodySize: -1 # REQUIRED!
    backend: websocket-pipeline
";

/// The document's health check.
const HEALTH: &str = "\
kind: WebSocketProxy
name: proxy-example-1
pools:
- servers:
  - url: ws://127.0.0.1:9095
  - url: ws://127.0.0.1:9096
  - url: ws://127.0.0.1:9097
  healthCheck:
    # interval between health checks (default: 60s)
    interval: 60s
    # timeout for health check response (default: 3s)
    timeout: 3s
    # fail threshold to mark server as unhealthy (default: 1)
    fails: 1
    # success threshold to mark server as healthy (default: 1)
    pass: 1
    ws:
      # health check request port (defaults to server's port, e.g., 9095)
      port: 10080
      # uri for health check
      uri: /health/ws
      # http request headers for health check
      headers:
        X-Health-Check: easegress
      # response validation criteria (default: 101 Switching Protocols)
      match:
        # acceptable status code ranges
        statusCodes:
        - [101, 101] # 101
        # response header validation
        # name is header key.
        # value is header value, can be empty.
        # type is type of value, can be \"exact\" or \"regexp\".
        headers:
        - name: X-Status
          value: healthy
          type: exact
    http:
      uri: /health
";

/// The document's objects in two files of a directory, at free ports: servers that listen at these,
/// and as many others as it takes where nobody does.
fn document(pipeline: &str, servers: &[u16]) -> (Ravelin, u16) {
    let port = free_port();
    let mut pipeline = pipeline.to_owned();
    for (at, named) in ["12345", "9095", "9096", "9097"].iter().enumerate() {
        let server = servers.get(at).copied().unwrap_or_else(free_port);
        pipeline = pipeline.replace(&format!(":{named}"), &format!(":{server}"));
    }
    let server = SERVER.replace("8080", &port.to_string());
    let setup = Setup::of("conf/pipeline.yaml", &pipeline).file("conf/server.yaml", server);
    (setup.args(&["run", "-c", "conf"]).start(), port)
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// An origin that switches, and then says nothing until the other side has gone.
fn switching() -> Origin {
    Origin::script(|conn| {
        conn.request();
        conn.send(format!("{SWITCHING}\r\n"));
        conn.wait_closed();
    })
}

/// What a Python client of a WebSocket prints, which says nothing of an origin.
#[track_caller]
fn talk(port: u16, path: &str, body: &str) -> String {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let program = format!(
        "from websockets.sync.client import connect\n\
         with connect('ws://127.0.0.1:{port}{path}', max_size=None, proxy=None, compression=None) as ws:\n{body}"
    );
    let mut command = Command::new("python3");
    command.args(["-c", &program]).stdin(Stdio::null());
    let output = run_to_end(command);
    assert!(output.status.success(), "{}\n{program}", printed(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A server of these paths, and a Pipeline `main` of these filters, in this flow if it is not empty.
fn objects(port: u16, server: &str, paths: &str, pipeline: &str) -> String {
    format!(
        "name: edge\nkind: HTTPServer\naddress: 127.0.0.1\nport: {port}\n{server}rules:\n- paths:\n\
         {paths}---\nname: main\nkind: Pipeline\n{pipeline}"
    )
}

/// The same, started.
fn start(server: &str, paths: &str, pipeline: &str) -> Ravelin {
    Setup::of("all.yaml", &objects(free_port(), server, paths, pipeline)).start()
}

/// Everything to `main`.
const EVERYTHING: &str = "  - {pathPrefix: /, backend: main}\n";

/// A filter for requests to these servers, with more keys of its pool.
fn proxy(name: &str, servers: &[&Origin], more: &str) -> String {
    let servers: Vec<String> =
        servers.iter().map(|server| format!("{{url: \"{}\"}}", server.url())).collect();
    format!(
        "- name: {name}\n  kind: Proxy\n  pools:\n  - servers: [{}]\n{more}",
        servers.join(", ")
    )
}

#[test]
fn the_document_word_for_word_carries_messages_of_the_size_it_names() {
    let echo = Python::websocket_echo();
    let (ravelin, port) = document(PIPELINE, &[echo.port()]);
    let said = talk(
        port,
        "/ws",
        "for n in [0, 1, 125, 126, 32768, 32769]:\n\
         \x20   ws.send('x' * n)\n\
         \x20   assert ws.recv(timeout=8) == 'x' * n\n\
         ws.send('x' * 32770)\n\
         try:\n\
         \x20   ws.recv(timeout=8)\n\
         except Exception:\n\
         \x20   print('closed', ws.protocol.close_rcvd.code)",
    );
    assert_eq!(said.trim(), "closed 1009");
    ravelin.stdout.line_with(&["GET /ws ", " 101 "]);
}

#[test]
fn the_document_without_bounds_carries_any_message() {
    let echo = Python::websocket_echo();
    let (_ravelin, port) = document(&PIPELINE.replace(": 32769", ": -1"), &[echo.port()]);
    let said = talk(
        port,
        "/ws",
        "ws.send('x' * 1000000)\n\
         print(len(ws.recv(timeout=8)))",
    );
    assert_eq!(said.trim(), "1000000");
}

#[test]
fn servers_get_the_fields_that_the_document_promises() {
    let server = switching();
    let (ravelin, _) = document(PIPELINE, &[server.port()]);
    let more = "Cookie: a=b\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let mut client = ravelin.client();
    let response = client.ask(upgrade("/ws", more));
    assert_eq!(response.status, 101, "{response:?}");
    let request = server.request(0);
    for (name, value) in [
        ("host", "example.com"),
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "example.com"),
        ("origin", "http://127.0.0.1"),
        ("sec-websocket-version", "13"),
    ] {
        assert_eq!(request.head.get(name), Some(value), "{name}");
    }
    let clients = request.head.get("x-forwarded-for").unwrap();
    assert!(clients.ends_with("::1") || clients.ends_with("127.0.0.1"), "{clients}");
}

#[test]
fn pages_of_other_origins_are_refused_unless_the_pool_says_otherwise() {
    let server = switching();
    let ask = |pipeline: &str, origin: &str| {
        let (ravelin, _) = document(pipeline, &[server.port()]);
        ravelin.client().ask(upgrade("/ws", &format!("Origin: {origin}\r\n"))).status
    };
    assert_eq!(ask(PIPELINE, "http://example.com"), 101, "its own");
    assert_eq!(ask(PIPELINE, "http://evil.example"), 403);
    let more = |line: &str| format!("{PIPELINE}    {line}\n");
    assert_eq!(ask(&more("insecureSkipVerify: true"), "http://evil.example"), 101);
    let patterns = more("originPatterns: [\"*.trusted.example\"]");
    assert_eq!(ask(&patterns, "https://app.trusted.example"), 101);
    assert_eq!(ask(&patterns, "https://app.other.example"), 403);
}

#[test]
fn what_is_no_websocket_is_told_so_and_other_paths_are_not_there() {
    let server = switching();
    let (ravelin, port) = document(PIPELINE, &[server.port()]);
    assert_eq!(ravelin.get("/ws").status, 426);
    assert_eq!(ravelin.get("/").status, 404, "the document's own curl asks for this");
    assert_eq!(ravelin.get("/ws/more").status, 404);
    let url = format!("http://127.0.0.1:{port}/");
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let arguments = [
        "--include",
        "--no-buffer",
        "--header",
        "Connection: Upgrade",
        "--header",
        "Upgrade: websocket",
        "--header",
        "Host: 127.0.0.1:10020",
        "--header",
        &key,
        "--header",
        "Sec-WebSocket-Version: 13",
        "--max-time",
        "1",
    ];
    let (_, said, _) = curl_any(&[&arguments[..], &[&url]].concat());
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    let (_, said, _) = curl_any(&[&arguments[..], &[&format!("{url}ws")]].concat());
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
}

#[test]
fn a_dead_server_is_an_error_and_no_handshake() {
    let (ravelin, _) = document(PIPELINE, &[]);
    assert_eq!(ravelin.client().ask(upgrade("/ws", "")).status, 502);
}

/// A WebSocket server that is healthy, and as long as nobody asks it for `/tired`, says so.
const HEALTHY: &str = "\
from websockets.sync.server import serve
status = 'healthy'
def ask(ws, request):
    global status
    if request.path == '/health':
        return ws.respond(200, 'fine')
    if request.path in ['/tired', '/healthy']:
        status = request.path[1:]
        return ws.respond(200, status)
def answer(ws, request, response):
    if request.path == '/health/ws' and request.headers.get('X-Health-Check') == 'easegress':
        response.headers['X-Status'] = status
def echo(ws):
    for message in ws:
        ws.send(message)
with serve(echo, '127.0.0.1', 0, process_request=ask, process_response=answer) as server:
    print('port', server.socket.getsockname()[1])
    server.serve_forever()
";

#[test]
fn the_documents_health_check_keeps_servers_out_until_both_ways_say_healthy() {
    let (good, checked) = (Python::run(HEALTHY), Python::run(HEALTHY));
    let sick = Origin::serve(|request| match request.target.as_str() {
        "/health" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 418 Sick\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let port = free_port();
    let mut yaml = HEALTH.replace("60s", "100ms").replace("10080", &checked.port().to_string());
    for (named, server) in [("9095", sick.port()), ("9096", good.port()), ("9097", sick.port())] {
        yaml = yaml.replace(&format!(":{named}"), &format!(":{server}"));
    }
    let server =
        SERVER.replace("8080", &port.to_string()).replace("websocket-pipeline", "proxy-example-1");
    let ravelin = Setup::of("all.yaml", &format!("{yaml}---\n{server}")).start();
    let status = || ravelin.client().ask(upgrade("/ws", "")).status;
    let say = |word: &str| {
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], checked.port()));
        Client::connect(to).get(&format!("/{word}")).expect(200);
    };
    until("only the healthy server is asked", || (0..6).all(|_| status() == 101));
    say("tired");
    until("no server is healthy", || status() == 503);
    say("healthy");
    until("the healthy one is back", || (0..6).all(|_| status() == 101));
}

#[test]
fn a_document_with_a_filter_alone_can_be_tried_out() {
    let setup = Setup::of("filter.yaml", HEALTH);
    let output = setup.run(&["check", "filter.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let said = printed(&output);
    assert!(said.contains("no HTTPServer leads to `proxy-example-1`"), "{said}");
    assert!(said.contains("127.0.0.1:8080") && said.contains("filter.yaml:1:1"), "{said}");
}

#[test]
fn the_first_rule_and_path_that_match_win_and_mismatches_have_their_order() {
    let server = Origin::serve(|request| ok(&request.target));
    let paths = "  - {path: /blocked, ipFilter: {blockIPs: [127.0.0.1]}, backend: main}
  - {path: /field, headers: [{key: X-Env, values: [test], regexp: ^dev}], backend: main}
  - {path: /field, methods: [PUT], backend: main}
  - {path: /query, queries: [{key: q, regexp: '^\\d+$'}, {key: r, values: [a]}], backend: main}
  - {path: /both, queries: [{key: q, values: [a]}, {key: r, values: [b]}], matchAllQuery: true, backend: main}
  - {path: /method, methods: [GET, HEAD], backend: main}
  - {path: /exact, rewriteTarget: /other, backend: main}
  - {pathPrefix: /fo, rewriteTarget: /ba, backend: main}
  - {pathRegexp: '^/u/(\\d+)$', rewriteTarget: /users/$1, backend: main}
  - {path: /nowhere, backend: missing}
";
    let ravelin = start("", paths, &format!("filters:\n{}", proxy("proxy", &[&server], "")));
    let ask = |method: &str, target: &str, more: &str| {
        let body = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{more}{body}\r\n");
        let response = ravelin.ask(request);
        match response.status {
            200 => response.text(),
            status => status.to_string(),
        }
    };
    for (method, target, more, answer) in [
        ("GET", "/blocked", "", "403"),
        ("GET", "/field", "X-Env: test\r\n", "/field"),
        ("GET", "/field", "X-Env: develop\r\n", "/field"),
        ("GET", "/field", "X-Env: live\r\n", "400"),
        ("PUT", "/field", "", "/field"),
        ("GET", "/query?q=12", "", "/query?q=12"),
        ("GET", "/query?r=a", "", "/query?r=a"),
        ("GET", "/query?q=x", "", "400"),
        ("GET", "/both?q=a&r=b", "", "/both?q=a&r=b"),
        ("GET", "/both?q=a", "", "400"),
        ("POST", "/method", "", "405"),
        ("GET", "/none", "", "404"),
        ("GET", "/exact?a=b", "", "/other?a=b"),
        ("GET", "/foo/x", "", "/bao/x"),
        ("GET", "/u/12", "", "/users/12"),
        ("GET", "/u/x", "", "404"),
        ("GET", "/nowhere", "", "503"),
    ] {
        assert_eq!(ask(method, target, more), answer, "{method} {target} {more}");
    }
}

#[test]
fn hosts_of_rules_are_names_patterns_and_regular_expressions() {
    let server = Origin::serve(|request| ok(request.head.get("x-rule").unwrap_or("")));
    let port = free_port();
    let rule = |name: &str, host: &str| {
        format!(
            "- {host}\n  paths:\n  - {{pathPrefix: /, setHeaders: {{X-Rule: {name}}}, backend: main}}\n"
        )
    };
    let yaml = format!(
        "name: edge\nkind: HTTPServer\nport: {port}\nrules:\n{}{}{}{}---\nname: main\nkind: Pipeline\n\
         filters:\n{}",
        rule("name", "host: www.example.com"),
        rule("sub", "host: \"*.example.com\""),
        rule("top", "hosts: [{value: example.*}, {isRegexp: true, value: '^x\\d+$'}]"),
        rule("end", "hostRegexp: \\.test$"),
        proxy("proxy", &[&server], ""),
    );
    let ravelin = Setup::of("all.yaml", &yaml).start();
    for (host, rule) in [
        ("www.example.com", "name"),
        ("WWW.example.com:8080", "name"),
        ("a.b.example.com", "sub"),
        ("example.org", "top"),
        ("x12", "top"),
        ("a.test", "end"),
    ] {
        let response = ravelin.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((response.status, response.text().as_str()), (200, rule), "{host}");
    }
    let response = ravelin.ask("GET / HTTP/1.1\r\nHost: other.com\r\n\r\n");
    assert_eq!(response.status, 404);
}

#[test]
fn bodies_are_taken_up_to_four_mebibytes_unless_a_path_says_otherwise() {
    let server = Origin::serve(|request| ok(&request.body.len().to_string()));
    let paths = "  - {path: /few, clientMaxBodySize: 10, backend: main}
  - {path: /any, clientMaxBodySize: -1, backend: main}
  - {pathPrefix: /, backend: main}
";
    let ravelin = start("", paths, &format!("filters:\n{}", proxy("proxy", &[&server], "")));
    let ask = |path: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let mut client = ravelin.client();
        client.send(head);
        if length <= 10 || path == "/any" {
            client.send(vec![b'x'; length]);
        }
        client.response("POST").status
    };
    assert_eq!((ask("/few", 10), ask("/few", 11)), (200, 413));
    assert_eq!((ask("/other", 10), ask("/other", (4 << 20) + 1)), (200, 413));
    assert_eq!(ask("/any", (4 << 20) + 1), 200);
}

#[test]
fn each_server_says_how_its_connections_are_kept_and_how_many_there_are() {
    let origin = Origin::saying("served");
    let ports = [free_port(), free_port()];
    let filters = format!("filters:\n{}", proxy("p", &[&origin], ""));
    let keys = "keepAliveTimeout: 1s\nmaxConnections: 1\n";
    let first = objects(ports[0], keys, EVERYTHING, &filters);
    let second = format!(
        "---\nname: other\nkind: HTTPServer\naddress: 127.0.0.1\nport: {}\nkeepAlive: false\n\
         rules:\n- paths:\n{EVERYTHING}",
        ports[1]
    );
    let _ravelin = Setup::of("all.yaml", &(first + &second)).listeners(2).start();
    let at = |port: u16| Client::connect(([127, 0, 0, 1], port).into());
    let mut inside = at(ports[0]);
    inside.get("/").expect(200);
    inside.get("/").expect(200);
    // While that one is there the next one waits, and then it comes in.
    let mut waiting = at(ports[0]);
    waiting.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    inside.expect_close();
    drop(inside);
    assert_eq!(waiting.response("GET").text(), "served");
    waiting.expect_close();
    for _ in 0..2 {
        let mut once = at(ports[1]);
        once.get("/").expect(200);
        once.expect_close();
    }
}

#[test]
fn adaptors_change_requests_and_responses() {
    let server = Origin::serve(|request| {
        let fields: Vec<&str> = ["x-set", "x-add", "x-del", "host"]
            .iter()
            .map(|name| request.head.get(name).unwrap_or("-"))
            .collect();
        let said = format!("{} {} {}", request.method, request.target, fields.join(" "));
        ok(&said)
    });
    let pipeline = format!(
        "flow:\n- filter: before\n- filter: proxy\n- filter: after\nfilters:\n\
         - name: before\n  kind: RequestAdaptor\n  method: PUT\n  host: inner.example\n\
         \x20 path: {{regexpReplace: {{regexp: '^/([a-z]+)/([a-z]+)', replace: '/$2/$1'}}}}\n\
         \x20 header: {{del: [X-Del], set: {{X-Set: set}}, add: {{X-Add: more}}}}\n\
         - name: after\n  kind: ResponseAdaptor\n  header: {{set: {{X-After: \"1\"}}, del: [X-Origin]}}\n{}",
        proxy("proxy", &[&server], "")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let response = ravelin
        .ask("GET /one/two/x?q=1 HTTP/1.1\r\nHost: a\r\nX-Del: gone\r\nX-Set: client's\r\n\r\n");
    assert_eq!(response.text(), "PUT /two/one/x?q=1 set more - inner.example");
    assert_eq!(response.head.get("x-after"), Some("1"));
}

#[test]
fn a_response_adaptor_is_for_responses_that_are_no_failure_or_that_are_led_there() {
    let server = Origin::serve(|request| match request.target.as_str() {
        "/500" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => ok("fine"),
    });
    let pipeline = |jump: &str| {
        format!(
            "flow:\n- filter: proxy\n{jump}- filter: after\nfilters:\n\
             - name: after\n  kind: ResponseAdaptor\n  header: {{set: {{X-After: \"1\"}}}}\n{}",
            proxy("proxy", &[&server], "")
        )
    };
    let fields = |ravelin: &Ravelin| {
        ["/", "/500"].map(|path| ravelin.get(path).head.get("x-after").is_some())
    };
    assert_eq!(fields(&start("", EVERYTHING, &pipeline(""))), [true, false]);
    let jump = pipeline("  jumpIf: {failureCode: after, \"\": END}\n");
    assert_eq!(fields(&start("", EVERYTHING, &jump)), [false, true]);
}

#[test]
fn results_lead_to_later_steps_and_end_without_a_jump() {
    let fails = Origin::serve(|_| b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let second = Origin::saying("second");
    let dead = {
        let origin = Origin::saying("");
        origin.url()
    };
    let pipeline = |url: &str, jumps: &str| {
        format!(
            "flow:\n- filter: first\n  jumpIf: {jumps}\n- filter: second\n  alias: instead\nfilters:\n\
             - name: first\n  kind: Proxy\n  pools: [{{servers: [{{url: \"{url}\"}}]}}]\n{}",
            proxy("second", &[&second], "")
        )
    };
    let ask = |url: &str, jumps: &str| {
        let response = start("", EVERYTHING, &pipeline(url, jumps)).get("/");
        (response.status, response.text())
    };
    let led = (200, "second".to_owned());
    assert_eq!(ask(&fails.url(), "{\"\": END, failureCode: instead}"), led);
    assert_eq!(ask(&dead, "{\"\": END, serverError: instead}"), led);
    assert_eq!(ask(&fails.url(), "{\"\": END, serverError: instead}").0, 503);
    assert_eq!(ask(&dead, "{\"\": END, failureCode: instead}").0, 502);
}

#[test]
fn a_request_that_is_refused_may_be_led_elsewhere() {
    let (inside, outside) = (Origin::saying("inside"), Origin::saying("outside"));
    let pipeline = format!(
        "flow:\n- filter: key\n  jumpIf: {{invalid: outside}}\n- filter: inside\n  jumpIf: {{\"\": END}}\n\
         - filter: outside\nfilters:\n\
         - name: key\n  kind: Validator\n  headers: {{X-Key: {{values: [abc], regexp: ^ok-}}}}\n{}{}",
        proxy("inside", &[&inside], ""),
        proxy("outside", &[&outside], "")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let ask = |key: &str| {
        ravelin.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n")).text()
    };
    assert_eq!([ask("abc"), ask("ok-1"), ask("other")], ["inside", "inside", "outside"]);
}

/// Who has no key gets nowhere, whatever comes between the Validator and the jump.
#[test]
fn no_jump_leads_past_a_validator() {
    let (fast, slow) = (Origin::saying("fast"), Origin::saying("slow"));
    let pipeline = |guard: &str, jumps: &str| {
        format!(
            "flow:\n- filter: key\n- filter: guard\n  jumpIf: {jumps}\n- filter: fast\n  jumpIf: {{\"\": END}}\n\
             - filter: slow\nfilters:\n\
             - name: key\n  kind: Validator\n  headers: {{X-Key: {{values: [abc]}}}}\n\
             - name: guard\n{guard}{}{}",
            proxy("fast", &[&fast], ""),
            proxy("slow", &[&slow], "")
        )
    };
    let few = "  kind: RateLimiter\n\
               \x20 policies: [{name: p, limitForPeriod: 2, limitRefreshPeriod: 1h, timeoutDuration: 0s}]\n\
               \x20 defaultPolicyRef: p\n  urls: [{url: {prefix: /}}]\n";
    let ravelin = start("", EVERYTHING, &pipeline(few, "{rateLimited: slow}"));
    let ask = |key: &str| {
        let response = ravelin.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n"));
        (response.status, if response.status == 200 { response.text() } else { String::new() })
    };
    let refused = (403, String::new());
    assert_eq!(ask("no"), refused);
    assert_eq!(ask("abc"), (200, "fast".to_owned()));
    assert_eq!([ask("no"), ask("no")], [refused.clone(), refused], "beyond the limit too");
    assert_eq!(ask("abc"), (200, "slow".to_owned()));

    let cors = "  kind: CORSAdaptor\n  allowedOrigins: [\"https://app.example.com\"]\n";
    let ravelin = start("", EVERYTHING, &pipeline(cors, "{preflighted: slow}"));
    let preflight = |more: &str| {
        let response = ravelin.ask(format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.com\r\n\
             Access-Control-Request-Method: PUT\r\n{more}\r\n"
        ));
        response.status
    };
    assert_eq!([preflight(""), preflight("X-Key: abc\r\n")], [403, 200]);
    assert_eq!([fast.requests().len(), slow.requests().len()], [1, 2]);
}

/// The bound of a path holds wherever its requests are led.
#[test]
fn jumps_keep_the_bound_of_bodies() {
    let (fast, slow) = (Origin::saying("fast"), Origin::saying("slow"));
    let pipeline = format!(
        "flow:\n- filter: key\n  jumpIf: {{invalid: slow}}\n- filter: fast\n  jumpIf: {{\"\": END}}\n\
         - filter: slow\nfilters:\n\
         - name: key\n  kind: Validator\n  headers: {{X-Key: {{values: [abc]}}}}\n{}{}",
        proxy("fast", &[&fast], ""),
        proxy("slow", &[&slow], "")
    );
    let paths = "  - {pathPrefix: /, backend: main, clientMaxBodySize: 10}\n";
    let ravelin = start("", paths, &pipeline);
    let ask = |key: &str, size: usize| {
        let body = "x".repeat(size);
        ravelin
            .ask(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {size:x}\r\n{body}\r\n0\r\n\r\n"
            ))
            .status
    };
    assert_eq!([ask("abc", 10), ask("abc", 11)], [200, 413]);
    assert_eq!([ask("no", 10), ask("no", 11)], [200, 413]);
}

#[test]
fn retries_are_made_as_the_policy_says() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let flaky =
        Origin::serve(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 | 1 => b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => ok("at last"),
        });
    let pipeline = format!(
        "resilience:\n- {{name: again, kind: Retry, maxAttempts: 3, waitDuration: 1ms}}\nfilters:\n{}",
        proxy("proxy", &[&flaky], "    retryPolicy: again\n    failureCodes: [502]\n")
    );
    let response = start("", EVERYTHING, &pipeline).get("/");
    assert_eq!((response.status, response.text().as_str()), (200, "at last"));
    assert_eq!(flaky.requests().len(), 3);
}

#[test]
fn a_circuit_breaker_opens_as_the_policy_says() {
    let fails = Origin::serve(|_| b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec());
    let pipeline = format!(
        "resilience:\n- name: breaker\n  kind: CircuitBreaker\n  slidingWindowSize: 4\n\
         \x20 minimumNumberOfCalls: 4\n  waitDurationInOpenState: 1h\nfilters:\n{}",
        proxy("proxy", &[&fails], "    circuitBreakerPolicy: breaker\n")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let statuses: Vec<u16> = (0..6).map(|_| ravelin.get("/").status).collect();
    assert_eq!(statuses, [500, 500, 500, 500, 503, 503]);
    assert_eq!(fails.requests().len(), 4);
}

#[test]
fn pools_with_a_filter_get_the_requests_they_want() {
    let (main, canary) = (Origin::saying("main"), Origin::saying("canary"));
    let pipeline = format!(
        "filters:\n- name: proxy\n  kind: Proxy\n  pools:\n  - filter:\n      headers: {{X-Canary: {{exact: \
         \"yes\", prefix: v2}}}}\n      urls: [{{methods: [GET], url: {{prefix: /a}}}}, {{url: {{exact: /b}}}}]\n\
         \x20   servers: [{{url: \"{}\"}}]\n  - servers: [{{url: \"{}\"}}]\n",
        canary.url(),
        main.url()
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let ask = |target: &str, value: &str| {
        ravelin.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Canary: {value}\r\n\r\n")).text()
    };
    for (target, value, who) in [
        ("/a/x", "yes", "canary"),
        ("/a/x", "v2.1", "canary"),
        ("/b", "yes", "canary"),
        ("/b/x", "yes", "main"),
        ("/a", "no", "main"),
    ] {
        assert_eq!(ask(target, value), who, "{target} {value}");
    }
}

#[test]
fn redirectors_send_what_matches_elsewhere() {
    let server = Origin::saying("here");
    let pipeline = format!(
        "flow: [{{filter: moved}}, {{filter: proxy}}]\nfilters:\n- name: moved\n  kind: Redirector\n\
         \x20 match: ^/old/(.*)$\n  matchPart: path\n  replacement: https://new.example/$1\n\
         \x20 statusCode: 308\n{}",
        proxy("proxy", &[&server], "")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let response = ravelin.get("/old/page");
    assert_eq!(response.status, 308);
    assert_eq!(response.head.get("location"), Some("https://new.example/page"));
    assert_eq!(ravelin.get("/other").text(), "here");
}

#[test]
fn rate_limiters_count_the_requests_of_their_urls() {
    let server = Origin::saying("here");
    let pipeline = format!(
        "flow: [{{filter: few}}, {{filter: proxy}}]\nfilters:\n- name: few\n  kind: RateLimiter\n\
         \x20 policies: [{{name: p, limitForPeriod: 2, limitRefreshPeriod: 1h, timeoutDuration: 0s}}]\n\
         \x20 defaultPolicyRef: p\n  urls: [{{methods: [GET], url: {{exact: /one, regex: ^/two/}}}}]\n{}",
        proxy("proxy", &[&server], "")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let statuses = ["/one", "/two/x", "/one", "/two", "/one"].map(|path| ravelin.get(path).status);
    assert_eq!(statuses, [200, 200, 429, 200, 429]);
}

#[test]
fn a_rate_limiter_is_one_for_all_paths_that_lead_to_its_pipeline() {
    let server = Origin::saying("here");
    let pipeline = format!(
        "flow: [{{filter: few}}, {{filter: proxy}}]\nfilters:\n- name: few\n  kind: RateLimiter\n\
         \x20 policies: [{{name: p, limitForPeriod: 2, limitRefreshPeriod: 1h, timeoutDuration: 0s}}]\n\
         \x20 defaultPolicyRef: p\n  urls: [{{url: {{prefix: /}}}}, {{methods: [PUT], url: {{prefix: /b}}}}]\n{}",
        proxy("proxy", &[&server], "")
    );
    let paths = "  - {pathPrefix: /a, backend: main}\n  - {pathPrefix: /b, backend: main}\n";
    let ravelin = start("", paths, &pipeline);
    let statuses = ["/a", "/b", "/a", "/b"].map(|path| ravelin.get(path).status);
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[test]
fn validators_ask_for_passwords_and_tell_servers_the_name() {
    let server = Origin::serve(|request| ok(request.head.get("x-auth-user").unwrap_or("-")));
    let pipeline = format!(
        "flow: [{{filter: who}}, {{filter: proxy}}]\nfilters:\n- name: who\n  kind: Validator\n\
         \x20 basicAuth: {{mode: FILE, userFile: users}}\n{}",
        proxy("proxy", &[&server], "")
    );
    // "secret" in SHA-1, as `htpasswd -s` has it.
    let users = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";
    let yaml = objects(free_port(), "", EVERYTHING, &pipeline);
    let ravelin = Setup::of("all.yaml", &yaml).file("users", users).start();
    assert_eq!(ravelin.get("/").status, 401);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Auth-User: root\r\n\
                   Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n";
    assert_eq!(ravelin.ask(request).text(), "ann");
}

#[test]
fn cors_adaptors_answer_preflights() {
    let server = Origin::saying("here");
    let pipeline = format!(
        "flow: [{{filter: cors}}, {{filter: proxy}}]\nfilters:\n- name: cors\n  kind: CORSAdaptor\n\
         \x20 allowedOrigins: [\"https://app.example.com\"]\n  allowedMethods: [PUT]\n  maxAge: 60\n{}",
        proxy("proxy", &[&server], "")
    );
    let ravelin = start("", EVERYTHING, &pipeline);
    let response = ravelin.ask(
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.example.com\r\n\
         Access-Control-Request-Method: PUT\r\n\r\n",
    );
    assert_eq!(response.status, 204);
    let field = response.head.get("access-control-allow-origin");
    assert_eq!(field, Some("https://app.example.com"));
    assert!(server.requests().is_empty());
}

#[test]
fn the_host_that_servers_get_depends_on_how_they_are_named() {
    let server = Origin::serve(|request| ok(request.head.get("host").unwrap_or("-")));
    let port = server.port();
    for (named, host) in [
        (format!("{{url: \"http://127.0.0.1:{port}\"}}"), "client.example".to_owned()),
        (format!("{{url: \"http://localhost:{port}\"}}"), format!("localhost:{port}")),
        (
            format!("{{url: \"http://localhost:{port}\", keepHost: true}}"),
            "client.example".to_owned(),
        ),
        (
            format!("{{url: \"http://127.0.0.1:{port}\", setUpstreamHost: true}}"),
            format!("127.0.0.1:{port}"),
        ),
    ] {
        let pipeline =
            format!("filters:\n- name: proxy\n  kind: Proxy\n  pools: [{{servers: [{named}]}}]\n");
        let ravelin = start("", EVERYTHING, &pipeline);
        let response = ravelin.ask("GET / HTTP/1.1\r\nHost: client.example\r\n\r\n");
        assert_eq!(response.text(), host, "{named}");
    }
}

#[test]
fn forwarding_fields_are_sent_only_where_the_server_says_so() {
    let server = Origin::serve(|request| ok(request.head.get("x-forwarded-for").unwrap_or("-")));
    let pipeline = format!("filters:\n{}", proxy("proxy", &[&server], ""));
    assert_eq!(start("", EVERYTHING, &pipeline).get("/").text(), "-");
    let ravelin = start("xForwardedFor: true\n", EVERYTHING, &pipeline);
    assert_eq!(ravelin.get("/").text(), "127.0.0.1");
}

#[test]
fn sticky_sessions_keep_a_client_with_a_server() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let more = "    loadBalance: {stickySession: {mode: DurationBased}}\n";
    let pipeline = format!("filters:\n{}", proxy("proxy", &[&one, &two], more));
    let ravelin = start("", EVERYTHING, &pipeline);
    let first = ravelin.get("/");
    let cookie = first.head.get("set-cookie").unwrap();
    assert!(cookie.starts_with("EG_SESSION="), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..4 {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {pair}\r\n\r\n");
        assert_eq!(ravelin.ask(request).text(), first.text());
    }
}

#[test]
fn what_it_is_converted_to_answers_the_same() {
    let server = Origin::serve(|request| {
        let host = request.head.get("host").unwrap_or("-");
        let host = if host.contains("127.0.0.1") { "own" } else { host };
        ok(&format!("{} {} {host}", request.method, request.target))
    });
    let dead = "http://127.0.0.1:1";
    let paths = "  - {path: /exact, rewriteTarget: /other, backend: main}
  - {path: /x, methods: [GET], headers: [{key: Accept, regexp: html}], backend: main}
  - {pathPrefix: /pre, rewriteTarget: /post, clientMaxBodySize: 3, backend: main}
  - {pathRegexp: '^/u/(.*)$', rewriteTarget: /$1, ipFilter: {allowIPs: [127.0.0.1]}, backend: main}
  - {pathPrefix: /closed, ipFilter: {blockByDefault: true}, backend: main}
  - {pathPrefix: /lost, backend: nobody}
";
    let pipeline = format!(
        "flow:\n- filter: moved\n- filter: before\n- filter: gone\n  jumpIf: {{\"\": END, serverError: there}}\n\
         - filter: there\n- filter: after\nfilters:\n\
         - {{name: moved, kind: Redirector, match: \"below$\", replacement: above}}\n\
         - {{name: before, kind: RequestAdaptor, header: {{set: {{X-A: b}}}}, path: {{addPrefix: /v1}}}}\n\
         - {{name: after, kind: ResponseAdaptor, header: {{add: {{X-After: \"1\"}}}}}}\n\
         - {{name: gone, kind: Proxy, pools: [{{servers: [{{url: \"{dead}\"}}]}}]}}\n{}",
        proxy("there", &[&server], "")
    );
    let twins = Twins::start("all.yaml", |port| {
        Setup::of("all.yaml", &objects(port, "", paths, &pipeline))
    });
    let paths = ["/", "/exact", "/x", "/pre", "/u/12", "/closed/a", "/lost", "/u"];
    twins.agree(&a_hundred_requests(&paths));
}

#[test]
fn certificates_in_the_text_are_shown_by_the_name_that_is_asked_for() {
    let server = Origin::saying("over TLS");
    let authority = Authority::new();
    let block = |name: &str, pem: &str| {
        let lines: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        format!("  {name}: |\n{lines}")
    };
    let (mut certs, mut keys) = ("certs:\n".to_owned(), "keys:\n".to_owned());
    for name in ["one.example", "two.example"] {
        let pair = authority.server(&[name]);
        certs += &block(name, &pair.certificate);
        keys += &block(name, &pair.key);
    }
    let port = free_port();
    let https = format!("https: true\n{certs}{keys}");
    let pipeline = format!("filters:\n{}", proxy("proxy", &[&server], ""));
    let yaml = objects(port, &https, EVERYTHING, &pipeline);
    let setup = Setup::of("all.yaml", &yaml).file("ca.pem", &authority.pem);
    let ca = setup.dir().join("ca.pem");
    let checked = setup.run(&["check", "all.yaml"]);
    assert_eq!(checked.status.code(), Some(0), "{}", printed(&checked));
    let _ravelin = setup.start();
    for name in ["one.example", "two.example"] {
        let resolve = format!("{name}:{port}:127.0.0.1");
        let url = format!("https://{name}:{port}/");
        let said = curl(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]);
        assert_eq!(said, "over TLS", "{name}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let bad = objects(
        8080,
        "",
        "  - {path: /, backend: mian}\n",
        "flow:\n- filter: prxy\nfilters:\n\
         - name: proxy\n  kind: Proxxy\n- name: other\n  kind: WasmHost\n",
    );
    let output = Setup::of("bad.yaml", &bad).run(&["check", "bad.yaml"]);
    let said = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "did you mean `Proxy`?",
        "no filter of the kind `WasmHost`",
        "there is no filter `prxy`",
        "bad.yaml:15:9",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
}
