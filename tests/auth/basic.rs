//! Names and passwords (RFC 7617).

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

const PLAIN: &str = "[sites.auth]\ntype = \"basic\"\nrealm = \"staff\"\n\
                     users = { ann = \"plain:se:cret\", \"é\" = \"plain:ü\" }";

fn authorization(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64(format!("{user}:{password}")))
}

/// What a program that hashes passwords prints.
fn made_by(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args);
    let output = run_to_end(command);
    assert!(output.status.success(), "{program}: {}", printed(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn proxied_paths_files_upgrades_and_http2_are_guarded_alike() {
    let origin = switching();
    let ravelin = guarded(&origin, PLAIN).start();
    let challenge = "Basic realm=\"staff\", charset=\"UTF-8\"";
    for request in [get("/api/x", ""), get("/page.txt", ""), upgrade("/ws", "")] {
        for wrong in ["", &authorization("ann", "wrong"), &authorization("bob", "se:cret")] {
            let request = request.replacen("\r\n\r\n", &format!("\r\n{wrong}\r\n"), 1);
            let response = ravelin.ask(&request).expect(401);
            assert_eq!(response.get("www-authenticate"), Some(challenge), "{request}");
        }
    }
    let mut http2 = Http2::connect(ravelin.addr());
    let with = |path: &'static str, authorization: &'static str| {
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "example.com"),
            (":path", path),
            ("authorization", authorization),
        ]
    };
    let right: &'static str = Box::leak(format!("Basic {}", base64("ann:se:cret")).into());
    http2.open(1, &with("/api/x", "Basic YTpi"));
    assert_eq!(http2.response(1).status, 401);
    assert_eq!(origin.connections(), 0, "something went to the upstream");

    http2.open(3, &with("/api/x", right));
    assert_eq!(http2.response(3).status, 200);
    let lines = authorization("ann", "se:cret");
    ravelin.ask(get("/api/x", &lines)).expect(200);
    assert_eq!(ravelin.ask(get("/page.txt", &lines)).expect(200).text(), "a page");
    ravelin.ask(get("/page.txt", &authorization("é", "ü"))).expect(200);
    let mut client = ravelin.client();
    client.send(upgrade("/ws", &lines));
    switched(&mut client);
    ravelin.stdout.line_with(&["127.0.0.1 - ann [", "\"GET /api/x HTTP/1.1\" 200"]);
    ravelin.stdout.line_with(&["127.0.0.1 - - [", "401", "cause=denied"]);
}

#[test]
fn credentials_are_for_one_request() {
    let origin = switching();
    let ravelin = guarded(&origin, PLAIN).start();
    let mut client = ravelin.client();
    let lines = authorization("ann", "se:cret");
    client.ask(get("/api", &lines)).expect(200);
    client.ask(get("/api", "")).expect(401);
    client.ask(get("/api", &lines)).expect(200);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_body_is_not_asked_for_and_two_authorizations_are_refused() {
    let origin = switching();
    let ravelin = guarded(&origin, PLAIN).start();
    let mut client = ravelin.client();
    client.send(
        "POST /api HTTP/1.1\r\nHost: example.com\r\nContent-Length: 9000000\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    let response = client.response("POST").expect(401);
    assert!(response.interim.is_empty(), "{:?}", response.interim);
    let twice = authorization("ann", "se:cret").repeat(2);
    ravelin.ask(get("/api", &twice)).expect(400);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_htpasswd_openssl_and_crypt_make_is_taken() {
    require("htpasswd", &["-nbs", "a", "b"], "apt-get install apache2-utils");
    let crypt = |setting: &str| {
        let program = format!("import crypt; print(crypt.crypt('p w', {setting}))");
        made_by("python3", &["-W", "ignore", "-c", &program])
    };
    let users = [
        ("apache-bcrypt", made_by("htpasswd", &["-nbB", "-C", "5", "x", "p w"])),
        ("apache-md5", made_by("htpasswd", &["-nbm", "x", "p w"])),
        ("apache-sha", made_by("htpasswd", &["-nbs", "x", "p w"])),
        ("openssl-6", made_by("openssl", &["passwd", "-6", "p w"])),
        ("openssl-5", made_by("openssl", &["passwd", "-5", "p w"])),
        ("openssl-apr1", made_by("openssl", &["passwd", "-apr1", "p w"])),
        ("crypt-6", crypt("crypt.mksalt(crypt.METHOD_SHA512, rounds=2000)")),
        ("crypt-2b", crypt("crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=32)")),
    ];
    let lines = users
        .iter()
        .map(|(name, hash)| format!("{name}:{}\n", hash.strip_prefix("x:").unwrap_or(hash)));
    let file: String = lines.collect();
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nfile = \"htpasswd\"";
    let ravelin = guarded(&origin, auth).file("htpasswd", file).start();
    for (name, _) in &users {
        let user = |password: &str| format!("{name}:{password}");
        let url = ravelin.url("/page.txt");
        assert_eq!(curl(&["-u", &user("p w"), &url]), "a page", "{name}");
        for wrong in ["p", "p w ", ""] {
            let status = curl(&["-o", "/dev/null", "-w", "%{http_code}", "-u", &user(wrong), &url]);
            assert_eq!(status, "401", "{name} {wrong:?}");
        }
    }
}

#[test]
fn the_upstream_is_told_the_name_and_no_client_can_tell_it_another() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nuser_header = \"X-User\"\nstrip = true\n\
                users = { ann = \"plain:secret\" }";
    // An open site before the same upstream.
    let url = origin.url();
    let open = format!(
        "[[sites]]\nname = \"open\"\nhostname = \"open.example\"\nlisten = [\"127.0.0.1:0\"]\n\
         h2c = true\n[sites.proxy]\nenabled = true\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\n"
    );
    let setup = guarded(&origin, auth);
    let text = std::fs::read_to_string(setup.dir().join("ravelin.toml")).unwrap();
    let ravelin = setup.file("ravelin.toml", text + &open).start();
    let forged = "X-User: root\r\nx-user: root\r\nX_User: root\r\nx_uSer: root\r\n";
    let lines = authorization("ann", "secret") + forged;
    ravelin.ask(get("/api", &lines)).expect(200);
    let request = origin.request(0);
    assert_eq!(request.head.get("x-user"), Some("ann"));
    assert!(!request.head.has("x_user") && !request.head.has("authorization"));
    let open = get("/api", forged).replace("example.com", "open.example");
    ravelin.ask(open).expect(200);
    assert!(!origin.request(1).head.has("x-user") && !origin.request(1).head.has("x_user"));
    // Nor by having it dropped on the way.
    let lines = authorization("ann", "secret") + "Connection: X-User, close\r\n";
    ravelin.ask(get("/api", &lines)).expect(200);
    assert_eq!(origin.request(2).head.get("x-user"), Some("ann"));
}

#[test]
fn a_changed_file_is_in_force_and_a_broken_one_changes_nothing() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nfile = \"htpasswd\"";
    let hash = made_by("openssl", &["passwd", "-6", "secret"]);
    let ravelin = guarded(&origin, auth).file("htpasswd", format!("ann:{hash}\n")).start();
    let path = ravelin.dir().join("htpasswd");
    let status = |user: &str| ravelin.ask(get("/page.txt", &authorization(user, "secret"))).status;
    assert_eq!([status("ann"), status("bob")], [200, 401]);
    std::fs::write(&path, "ann:not-a-hash\n").unwrap();
    ravelin.signal("HUP");
    let line = ravelin.stderr.line_with(&["htpasswd, line 1: ", "stays in force"]);
    assert!(!line.contains("not-a-hash"), "{line}");
    assert_eq!([status("ann"), status("bob")], [200, 401]);
    std::fs::write(&path, format!("bob:{hash}\n")).unwrap();
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["htpasswd read again: 1 user"]);
    // What was remembered of Ann counts no more.
    assert_eq!([status("ann"), status("bob")], [401, 200]);
}

#[test]
fn without_its_file_nothing_is_served() {
    let config = |auth: &str| site_with(auth, &["http://127.0.0.1:1"], "");
    let auth = "[sites.auth]\ntype = \"basic\"\nfile = \"htpasswd\"\n";
    for (content, expected) in [
        (None, "the file \"htpasswd\" does not exist"),
        (Some("ann:hunter2\n"), "htpasswd, line 1: "),
        (Some("# nobody\nann\n"), "htpasswd, line 2: "),
    ] {
        let dir = TempDir::new();
        dir.write("ravelin.toml", config(auth));
        if let Some(content) = content {
            dir.write("htpasswd", content);
        }
        for args in [["run", "-c", "ravelin.toml"], ["check", "ravelin.toml", "--color=never"]] {
            let output = run(dir.path(), &args);
            let said = printed(&output);
            assert!(!output.status.success() && said.contains(expected), "{args:?}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn secrets_are_in_no_message() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nusers = { ann = \"plain:hunter2\" }";
    let setup = guarded(&origin, auth);
    let said = printed(&run(setup.dir(), &["check", "ravelin.toml"]));
    assert!(said.contains("stands here as it is") && !said.contains("hunter2"), "{said}");
    let ravelin = setup.args(&["run", "-c", "ravelin.toml", "--log-level", "debug"]).start();
    ravelin.ask(get("/api", &authorization("ann", "hunter2"))).expect(200);
    ravelin.ask(get("/api", &authorization("ann", "hunter3"))).expect(401);
    ravelin.stderr.line_with(&["the name or the password is wrong"]);
    let encoded = [base64("ann:hunter2"), base64("ann:hunter3")];
    for line in ravelin.stderr.all().into_iter().chain(ravelin.stdout.all()) {
        let shown = line.contains("hunter") || encoded.iter().any(|text| line.contains(text));
        assert!(!shown, "{line}");
    }
}

/// Hashes that take some seconds together.
const SLOW: &str = "[performance]\nworker_threads = 1\n";

fn slow(origin: &Origin) -> Ravelin {
    let hash = made_by("htpasswd", &["-nbB", "-C", "14", "x", "secret"]);
    let hash = hash.strip_prefix("x:").unwrap();
    let auth = format!(
        "[[sites.routes]]\npath = \"/guarded\"\nstatus = 204\n\
         auth = {{ type = \"basic\", users = {{ ann = \"{hash}\" }} }}\n"
    );
    let setup = guarded(origin, &auth);
    let text = std::fs::read_to_string(setup.dir().join("ravelin.toml")).unwrap();
    setup.file("ravelin.toml", format!("{SLOW}{text}")).start()
}

#[test]
fn a_slow_hash_holds_up_nobody_else() {
    let origin = switching();
    let ravelin = slow(&origin);
    // Twelve passwords that take a second or so each, on one or two threads.
    let mut guesses: Vec<Client> = (0..12)
        .map(|guess| {
            let mut client = ravelin.client();
            client.send(get("/guarded", &authorization("ann", &guess.to_string())));
            client
        })
        .collect();
    // The only worker serves others in the meantime.
    for _ in 0..50 {
        ravelin.ask(get("/api", "")).expect(200);
        assert_eq!(ravelin.ask(get("/page.txt", "")).expect(200).text(), "a page");
    }
    for client in &guesses {
        client.wire.sock.set_patience(Duration::from_millis(1));
    }
    let silent = |client: &mut Client| matches!(client.wire.some(), Err(Broken::TimedOut));
    let unanswered = guesses.iter_mut().map(silent).filter(|silent| *silent).count();
    assert!(unanswered > 0, "all were hashed before a hundred others were served");
}

#[test]
fn more_guesses_than_may_wait_are_told_to_come_again() {
    let origin = switching();
    let ravelin = slow(&origin);
    // 64 may wait, and four at most are computed.
    let (sender, answers) = channel();
    for guess in 0..64 + 4 + 10 {
        let mut client = ravelin.client();
        client.send(get("/guarded", &authorization("bob", &guess.to_string())));
        let sender = sender.clone();
        std::thread::spawn(move || {
            if let Ok(response) = client.wire.response("GET") {
                _ = sender.send(response);
            }
        });
    }
    for _ in 0..10 {
        let response = loop {
            let response = next(&answers, "a refusal");
            // The first ones may be through by now.
            if response.status != 401 {
                break response;
            }
        };
        assert_eq!((response.status, response.get("retry-after")), (503, Some("1")));
    }
    ravelin.ask(get("/api", "")).expect(200);
}

#[test]
fn a_password_is_hashed_once_for_many_requests() {
    let origin = switching();
    let ravelin = slow(&origin);
    let lines = authorization("ann", "secret");
    // At once, and afterwards: were each of them hashed, this would take minutes.
    let mut clients: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = ravelin.client();
            client.send(get("/guarded", &lines));
            client
        })
        .collect();
    for client in &mut clients {
        client.response("GET").expect(204);
    }
    for _ in 0..100 {
        ravelin.ask(get("/guarded", &lines)).expect(204);
    }
}

#[test]
fn no_trailer_says_who_makes_a_request() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nuser_header = \"X-Who\"\n\
                users = { ann = \"plain:secret\" }\n\
                [sites.proxy.request_headers]\nset = { \"X-Tenant\" = \"one\" }\n";
    let ravelin = guarded(&origin, auth).start();
    let forged = [
        ("X-Who", "admin"),
        ("x_who", "admin"),
        ("X-Tenant", "two"),
        ("X-SSL-Client-Verify", "SUCCESS"),
        ("X-SSL-Client-S-DN", "CN=admin"),
        ("Client-Cert", ":YQ==:"),
        ("Client_Cert_Chain", ":YQ==:"),
        ("X-Sum", "1"),
    ];
    let trailers: String =
        forged.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = authorization("ann", "secret") + "Transfer-Encoding: chunked\r\n";
    // The trailers come with the last chunk, and alone.
    for body in ["3\r\nabc\r\n0\r\n", "0\r\n"] {
        let head = get("/api", &lines).replace("GET", "POST");
        ravelin.ask(head + body + &trailers + "\r\n").expect(200);
    }
    let mut http2 = Http2::connect(ravelin.addr());
    let authorization = authorization("ann", "secret");
    let authorization = authorization.trim_end().split_once(": ").unwrap().1;
    let mut fields = with_method("POST", "/api");
    fields.push(("authorization", authorization));
    http2.open_body(1, &fields);
    http2.frame(DATA, 0, 1, "abc");
    let lower: Vec<String> = forged.iter().map(|(name, _)| name.to_lowercase()).collect();
    let fields: Vec<(&str, &str)> =
        lower.iter().zip(forged).map(|(name, (_, value))| (name.as_str(), value)).collect();
    http2.frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&fields));
    assert_eq!(http2.response(1).status, 200);
    for n in 0..3 {
        let request = origin.request(n);
        assert_eq!(request.get("x-who"), Some("ann"));
        let names: Vec<String> =
            request.trailers.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert_eq!(names, ["x-sum"], "request {n}");
    }
}

#[test]
fn a_name_with_underscores_cannot_be_forged_with_hyphens() {
    let origin = switching();
    let auth = "[sites.auth]\ntype = \"basic\"\nuser_header = \"X_Auth_User\"\n\
                users = { ann = \"plain:secret\" }\n\
                [sites.proxy.request_headers]\nset = { \"X_Real_IP\" = \"192.0.2.1\" }\n";
    let ravelin = guarded(&origin, auth).start();
    let forged = "X-Auth-User: root\r\nX_Auth-User: root\r\nx-auth_user: root\r\n\
                  X-Real-IP: 6.6.6.6\r\n";
    ravelin.ask(get("/api", &(authorization("ann", "secret") + forged))).expect(200);
    let request = origin.request(0);
    let who: Vec<&str> = request
        .head
        .names()
        .into_iter()
        .filter(|name| name.to_lowercase().replace('_', "-") == "x-auth-user")
        .collect();
    assert_eq!(who, ["X_Auth_User"]);
    assert_eq!(request.get("x_auth_user"), Some("ann"));
    assert_eq!((request.get("x-real-ip"), request.get("x_real_ip")), (None, Some("192.0.2.1")));
}
