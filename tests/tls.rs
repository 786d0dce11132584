//! HTTPS as clients see it: who is shown which certificate, what is agreed upon, and that requests
//! over it are served as any others.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::harness::*;

/// One site, `example.com`, before this origin; `ssl` continues its table.
struct One {
    authority: Authority,
    ravelin: Ravelin,
}

impl One {
    #[track_caller]
    fn before(origin: &Origin, ssl: &str) -> One {
        let authority = Authority::new();
        let pair = authority.server(&["example.com"]);
        let setup = Setup::new(&tls_site("example.com", ssl, &origin.url()));
        let ravelin = setup.pair("example.com", &pair).start();
        One { authority, ravelin }
    }

    fn addr(&self) -> SocketAddr {
        self.ravelin.addr()
    }

    #[track_caller]
    fn client(&self) -> Client {
        TlsClient::trusting(&self.authority).connect(self.addr(), "example.com")
    }

    /// curl as a user calls it; `args` and the path last.
    #[track_caller]
    fn curl(&self, args: &[&str], path: &str) -> String {
        let ca = self.ravelin.dir().join("ca.pem");
        std::fs::write(&ca, &self.authority.pem).unwrap();
        let (ca, port) = (ca.to_str().unwrap(), self.addr().port());
        let resolve = format!("example.com:{port}:127.0.0.1");
        let url = format!("https://example.com:{port}{path}");
        let all = [&["--cacert", ca, "--resolve", &resolve], args, &[&url]].concat();
        curl(&all)
    }
}

/// What `openssl s_client` prints that connects and closes at once; whether it got in.
fn openssl(to: SocketAddr, args: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &to.to_string()]).args(args).stdin(Stdio::null());
    let output = run_to_end(command);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn curl_gets_a_page_by_either_version_of_tls_and_of_http() {
    let origin = Origin::saying("over TLS");
    let one = One::before(&origin, "");
    for (versions, http) in [
        (["--tlsv1.3", "--tls-max", "1.3"], "--http1.1"),
        (["--tlsv1.2", "--tls-max", "1.2"], "--http1.1"),
        (["--tlsv1.3", "--tls-max", "1.3"], "--http2"),
        (["--tlsv1.2", "--tls-max", "1.2"], "--http2"),
    ] {
        let write = ["-w", " %{http_version} %{ssl_verify_result}", http];
        let text = one.curl(&[&versions[..], &write].concat(), "/a");
        let version = http.trim_start_matches("--http");
        assert_eq!(text, format!("over TLS {version} 0"), "{versions:?}");
    }
}

#[test]
fn a_browser_loads_a_page_and_twenty_more_things_by_http2() {
    require("chromium", &["--version"], "apt-get install chromium");
    let page = "<body><p id=o></p><script>Promise.all([...Array(20)].map((_, i) => \
                fetch('/x' + i).then(r => r.text()))).then(t => o.textContent = \
                t.filter(x => x === 'data').length + ' by ' + \
                performance.getEntriesByType('navigation')[0].nextHopProtocol)</script>";
    let origin = Origin::serve(move |request| match request.target.starts_with("/x") {
        true => ok("data"),
        false => {
            let length = page.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length:";
            format!("{head} {length}\r\n\r\n{page}").into_bytes()
        }
    });
    let one = One::before(&origin, "");
    let profile = one.ravelin.dir().join("browser");
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    chromium.args(["--ignore-certificate-errors", "--virtual-time-budget=10000", "--dump-dom"]);
    chromium.arg("--host-resolver-rules=MAP example.com 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("https://example.com:{}/", one.ravelin.addr().port()));
    let output = run_to_end(chromium);
    let dom = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(dom.contains("20 by h2"), "{dom}\n{errors}");
}

#[test]
fn the_upstream_is_told_that_the_client_speaks_https() {
    let origin = Origin::saying("");
    let more = "[sites.proxy.headers]\nadd_forwarded = true\n";
    let one = One::before(&origin, more);
    let port = one.addr().port().to_string();
    let mut client = one.client();
    client.ask(
        "GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Port: 80\r\nForwarded: proto=http\r\n\r\n",
    );
    let request = origin.request(0);
    assert_eq!(request.get("x-forwarded-proto"), Some("https"));
    assert_eq!(request.get("x-forwarded-port"), Some(&port[..]));
    assert_eq!(request.get("x-forwarded-host"), Some("example.com"));
    assert_eq!(request.get("x-forwarded-for"), Some("127.0.0.1"));
    let forwarded = request.get("forwarded").unwrap();
    let last = forwarded.rsplit(", ").next().unwrap();
    assert!(last.contains("proto=https") && last.contains("for=127.0.0.1"), "{forwarded}");
    assert!(!request.head.has("x-ssl-client-verify"), "{:?}", request.head);
}

#[test]
fn a_site_is_chosen_by_the_name_asked_for() {
    let authority = Authority::new();
    let hosts = ["fallback.test", "exact.wild.test", "*.wild.test"];
    let pairs: Vec<Pair> = [
        &["fallback.test", "unknown.test"][..],
        &["exact.wild.test"],
        &["*.wild.test", "*.deep.wild.test"],
    ]
    .map(|names| authority.server(names))
    .into();
    let origins = hosts.map(Origin::saying);
    let sites = hosts.iter().zip(&origins).map(|(host, origin)| tls_site(host, "", &origin.url()));
    let mut setup = Setup::new(&sites.collect::<String>());
    for (host, pair) in hosts.iter().zip(&pairs) {
        setup = setup.pair(host, pair);
    }
    let ravelin = setup.start();
    assert_eq!(ravelin.addrs().len(), 1);
    let client = TlsClient::trusting(&authority);
    for (name, site) in [
        ("exact.wild.test", 1),
        ("EXACT.wild.TEST", 1),
        ("other.wild.test", 2),
        ("a.deep.wild.test", 2),
        ("fallback.test", 0),
        ("unknown.test", 0),
    ] {
        let mut client = client.connect(ravelin.addr(), name);
        assert!(client.was_shown(&pairs[site]), "{name} was shown another certificate");
        assert_eq!(client.get_from(name, "/").expect(200).text(), hosts[site], "{name}");
        // Sites of equal policies may share a connection, as browsers do it (RFC 9113 §9.1.1).
        assert_eq!(client.get_from(hosts[1], "/").expect(200).text(), hosts[1]);
    }
    // A client that names nobody is shown the default's.
    let (_, text) = openssl(ravelin.addr(), &["-noservername"]);
    let lines = pairs[0].certificate.lines().filter(|line| !line.starts_with('-'));
    assert!(lines.into_iter().all(|line| text.contains(line)), "{text}");
}

#[test]
fn a_certificate_of_version_and_key_of_every_kind_is_served() {
    for (kind, args) in [
        ("RSA PRIVATE KEY", &["genrsa", "-traditional", "2048"][..]),
        ("EC PRIVATE KEY", &["ecparam", "-genkey", "-name", "prime256v1", "-noout"]),
        ("BEGIN PRIVATE KEY", &["genpkey", "-algorithm", "RSA"]),
    ] {
        let setup = Setup::new(&tls_site("example.com", "", "http://127.0.0.1:1"));
        let make = |args: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(args).current_dir(setup.dir()).stdin(Stdio::null());
            let output = run_to_end(command);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let key = make(args);
        assert!(key.contains(kind), "{key}");
        std::fs::write(setup.dir().join("example.com.key"), key).unwrap();
        let certificate = make(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "example.com.key",
            "-subj",
            "/CN=example.com",
            "-addext",
            "subjectAltName=DNS:example.com",
        ]);
        std::fs::write(setup.dir().join("example.com.pem"), certificate).unwrap();
        let ravelin = setup.start();
        let ca = ravelin.dir().join("example.com.pem");
        let ca = ca.to_str().unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let verify =
                [version, "-CAfile", ca, "-verify_return_error", "-servername", "example.com"];
            let (got_in, text) = openssl(ravelin.addr(), &verify);
            assert!(got_in && text.contains("Verify return code: 0 (ok)"), "{kind}: {text}");
        }
    }
}

#[test]
fn a_chain_and_its_key_may_share_a_file() {
    let authority = Authority::new();
    let pair = authority.server(&["example.com"]);
    let toml = tls_site("example.com", "", &Origin::saying("").url());
    let toml = toml.replace("key_file = \"example.com.key\"\n", "");
    let both = format!("{}{}", pair.key, pair.certificate);
    let ravelin = Setup::new(&toml).file("example.com.pem", both).start();
    let client = TlsClient::trusting(&authority).connect(ravelin.addr(), "example.com");
    assert!(client.was_shown(&pair));
}

#[test]
fn a_client_that_comes_again_resumes_its_session() {
    let origin = Origin::saying("");
    let one = One::before(&origin, "");
    for client in [TlsClient::trusting(&one.authority), TlsClient::tls12(&one.authority)] {
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut client = client.connect(one.addr(), "example.com");
            client.get("/").expect(200); // the ticket of TLS 1.3 comes with the response
            kinds.push(client.tls().handshake_kind().unwrap());
        }
        use HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed, Resumed]);
    }
    let never = One::before(&origin, "session_tickets = false\n");
    let client = TlsClient::trusting(&never.authority);
    for _ in 0..2 {
        let mut client = client.connect(never.addr(), "example.com");
        client.get("/").expect(200);
        assert_eq!(client.tls().handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn the_hybrid_key_exchange_is_agreed_on_with_a_client_that_has_it() {
    let one = One::before(&Origin::saying(""), "");
    let client = one.client();
    let group = client.tls().negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    // A client without it gets in as well.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(one.authority.roots())
        .with_no_client_auth();
    let client = TlsClient { config }.connect(one.addr(), "example.com");
    let group = client.tls().negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519);
}

#[test]
fn min_and_max_version_are_kept_to() {
    let origin = Origin::saying("");
    let one = One::before(&origin, "min_version = \"1.3\"\n");
    assert!(openssl(one.addr(), &["-tls1_3"]).0);
    let (got_in, text) = openssl(one.addr(), &["-tls1_2"]);
    assert!(!got_in && text.contains("alert protocol version"), "{text}");
    let one = One::before(&origin, "max_version = \"1.2\"\n");
    assert_eq!(one.client().tls().protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let (got_in, text) = openssl(one.addr(), &["-tls1_3"]);
    assert!(!got_in && text.contains("alert protocol version"), "{text}");
}

#[test]
fn rfc8996_tls_1_0_and_1_1_are_refused() {
    let one = One::before(&Origin::saying(""), "");
    for version in ["-tls1", "-tls1_1"] {
        let (got_in, text) = openssl(one.addr(), &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!got_in && text.contains("SSL alert number"), "{version}: {text}");
    }
}

#[test]
fn ciphers_and_groups_are_those_that_are_named() {
    let origin = Origin::saying("");
    let ssl = "ciphers = [\"TLS_AES_256_GCM_SHA384\", \
               \"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\"]\ngroups = [\"secp384r1\"]\n";
    let one = One::before(&origin, ssl);
    let (_, text) = openssl(one.addr(), &["-tls1_3", "-groups", "X25519:P-384"]);
    assert!(text.contains("Cipher is TLS_AES_256_GCM_SHA384"), "{text}");
    assert!(text.contains("Server Temp Key: ECDH, secp384r1"), "{text}");
    let (_, text) = openssl(one.addr(), &["-tls1_2"]);
    assert!(text.contains("Cipher is ECDHE-ECDSA-CHACHA20-POLY1305"), "{text}");
    let (got_in, text) = openssl(one.addr(), &["-tls1_3", "-groups", "X25519"]);
    assert!(!got_in && text.contains("alert handshake failure"), "{text}");
    let (got_in, text) =
        openssl(one.addr(), &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
    assert!(!got_in && text.contains("alert handshake failure"), "{text}");
}

#[test]
fn an_ocsp_response_is_stapled_if_it_says_that_the_certificate_is_good() {
    let authority = Authority::new();
    let (pair, other) = (authority.server(&["example.com"]), authority.server(&["example.com"]));
    let setup =
        Setup::new(&tls_site("example.com", "ocsp_file = \"ocsp.der\"\n", "http://127.0.0.1:1"));
    let setup = setup.pair("example.com", &pair);
    let ravelin = setup.file("ocsp.der", authority.ocsp(&pair, false)).start();
    for version in ["-tls1_2", "-tls1_3"] {
        let (_, text) = openssl(ravelin.addr(), &[version, "-status"]);
        assert!(text.contains("OCSP Response Status: successful"), "{text}");
        assert!(text.contains("Cert Status: good"), "{text}");
    }
    // What a client could not use is not stapled, and somebody is told. RFC 6960 §4.2.1: tryLater.
    for (response, problem) in [
        (authority.ocsp(&other, false), "is about another certificate"),
        (authority.ocsp(&pair, true), "says that the certificate is revoked"),
        (vec![0x30, 3, 0x0a, 1, 3], "says to try again later"),
        (b"nothing".to_vec(), "is not an OCSP response"),
    ] {
        std::fs::write(ravelin.dir().join("ocsp.der"), &response).unwrap();
        ravelin.signal("HUP");
        ravelin.stderr.line_with(&["warn", "ocsp.der", problem, "it is not stapled"]);
        let (_, text) = openssl(ravelin.addr(), &["-status"]);
        assert!(text.contains("OCSP response: no response sent"), "{text}");
    }
    // A response for the certificate that follows comes first, the certificate after it.
    std::fs::write(ravelin.dir().join("ocsp.der"), authority.ocsp(&other, false)).unwrap();
    std::fs::write(ravelin.dir().join("example.com.key"), &other.key).unwrap();
    std::fs::write(ravelin.dir().join("example.com.pem"), &other.certificate).unwrap();
    ravelin.signal("HUP");
    ravelin.stderr.line_with(&["new certificate from example.com.pem"]);
    let (_, text) = openssl(ravelin.addr(), &["-status"]);
    assert!(text.contains("Cert Status: good"), "{text}");
}

#[test]
fn an_ocsp_response_for_another_certificate_does_not_refuse_the_start() {
    let authority = Authority::new();
    let (pair, other) = (authority.server(&["example.com"]), authority.server(&["example.com"]));
    let setup =
        Setup::new(&tls_site("example.com", "ocsp_file = \"ocsp.der\"\n", "http://127.0.0.1:1"))
            .pair("example.com", &pair)
            .file("ocsp.der", authority.ocsp(&other, false));
    let output = run(setup.dir(), &["check", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(printed(&output).contains("is about another certificate"), "{}", printed(&output));
    let ravelin = setup.start();
    ravelin.stderr.line_with(&["warn", "ocsp.der", "is about another certificate"]);
    let (_, text) = openssl(ravelin.addr(), &["-status"]);
    assert!(text.contains("OCSP response: no response sent"), "{text}");
}

#[test]
fn a_certificate_and_a_key_may_begin_with_a_byte_order_mark() {
    let authority = Authority::new();
    let Pair { certificate, key } = authority.server(&["example.com"]);
    let marked =
        Pair { certificate: format!("\u{feff}{certificate}"), key: format!("\u{feff}{key}") };
    let origin = Origin::saying("served");
    let ca = "client_ca = \"ca.pem\"\nclient_auth = \"optional\"\n";
    let setup = Setup::new(&tls_site("example.com", ca, &origin.url()))
        .pair("example.com", &marked)
        .file("ca.pem", format!("\u{feff}{}", authority.pem));
    let ravelin = setup.start();
    let mut client = TlsClient::trusting(&authority).connect(ravelin.addr(), "example.com");
    assert_eq!(client.get("/").expect(200).text(), "served");
}

#[test]
fn hsts_is_on_every_response_over_tls_and_on_no_other() {
    let origin = Origin::serve(|request| match &request.target[..] {
        "/own" => b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=0\r\n\
                    Content-Length: 0\r\n\r\n"
            .to_vec(),
        _ => ok("fine"),
    });
    let authority = Authority::new();
    let plain = site_with("redirect_to_https = true\n", &[&origin.url()], "");
    let toml = tls_site("example.com", "hsts = \"max-age=31536000\"\n", &origin.url())
        + &plain.replace("127.0.0.1:0", "127.0.0.2:0");
    let setup = Setup::new(&toml).listeners(2);
    let ravelin = setup.pair("example.com", &authority.server(&["example.com"])).start();
    let mut client =
        TlsClient::trusting(&authority).connect(ravelin.addr_on("127.0.0.1"), "example.com");
    for (path, status) in [("/", 200), ("/own", 200), ("/api/health", 200), ("/%00", 400)] {
        let response = client.get(path).expect(status);
        assert_eq!(response.get("strict-transport-security"), Some("max-age=31536000"), "{path}");
    }
    let response = Client::connect(ravelin.addr_on("127.0.0.2")).get("/").expect(301);
    assert!(!response.head.has("strict-transport-security"), "{:?}", response.head);
}

#[test]
fn plain_requests_are_redirected_to_where_tls_is_spoken_and_those_are_not() {
    let origin = Origin::saying("served");
    let authority = Authority::new();
    let (port, plain_port) = (free_port(), free_port());
    for (status, key) in [(301, "true"), (308, "308")] {
        // Also the site with TLS has the key: it must not send anybody in circles.
        let secure = tls_site("example.com", "", &origin.url())
            .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
            .replace("[sites.proxy]", "redirect_to_https = true\n[sites.proxy]");
        let plain = site_with(&format!("redirect_to_https = {key}"), &[&origin.url()], "")
            .replace("127.0.0.1:0", &format!("127.0.0.1:{plain_port}"));
        let setup = Setup::new(&(secure + &plain)).listeners(2);
        let ravelin = setup.pair("example.com", &authority.server(&["example.com"])).start();
        let mut plain = Client::connect(([127, 0, 0, 1], plain_port).into());
        for (host, target, location) in [
            ("example.com", "/", "/"),
            ("example.com:1234", "/a%20b/?c=d&e=%2F", "/a%20b/?c=d&e=%2F"),
            ("EXAMPLE.com", "//evil.test/x", "/evil.test/x"),
        ] {
            let response = plain.get_from(host, target).expect(status);
            let location = format!("https://example.com:{port}{location}");
            assert_eq!(response.get("location"), Some(&location[..]));
        }
        let response =
            plain.ask("POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\na=b");
        assert_eq!(
            response.expect(status).get("location").map(|l| l.ends_with("/form")),
            Some(true)
        );
        let client = TlsClient::trusting(&authority);
        let mut client = client.connect(([127, 0, 0, 1], port).into(), "example.com");
        assert_eq!(client.get("/").expect(200).text(), "served");
        drop(ravelin);
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn plain_requests_for_any_host_are_redirected_to_the_port_of_tls() {
    let port = free_port();
    let authority = Authority::new();
    for (plain, secure, host) in [
        ("*", "example.com", "example.com"),
        ("*.example.com", "www.example.com", "www.example.com"),
        ("www.example.com", "*.example.com", "www.example.com"),
    ] {
        let secure = tls_site("example.com", "", "http://127.0.0.1:1")
            .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
            .replace("hostname = \"example.com\"", &format!("hostname = \"{secure}\""));
        let plain = site_with("redirect_to_https = true", &["http://127.0.0.1:1"], "")
            .replace("127.0.0.1:0", "127.0.0.2:0")
            .replace("hostname = \"example.com\"", &format!("hostname = \"{plain}\""));
        let setup = Setup::new(&(secure + &plain)).listeners(2);
        let ravelin = setup.pair("example.com", &authority.server(&[host])).start();
        let response = Client::connect(ravelin.addr_on("127.0.0.2")).get_from(host, "/a?b");
        let location = format!("https://{host}:{port}/a?b");
        assert_eq!(response.expect(301).get("location"), Some(&location[..]));
    }
}

#[test]
fn a_redirect_for_any_host_goes_to_the_port_where_that_host_is_served() {
    let authority = Authority::new();
    let at = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    let secure = |host: &str, at: &str| {
        tls_site("example.com", "", "http://127.0.0.1:1")
            .replace("127.0.0.1:0", &format!("{at}:0"))
            .replace("name = \"example.com\"", &format!("name = \"{host}\""))
            .replace("hostname = \"example.com\"", &format!("hostname = \"{host}\""))
    };
    let plain = site_with("redirect_to_https = true", &["http://127.0.0.1:1"], "")
        .replace("127.0.0.1:0", "127.0.0.4:0")
        .replace("hostname = \"example.com\"", "hostname = \"*\"");
    let toml = secure("one.test", at[0])
        + &secure("two.test", at[1])
        + &secure("*.two.test", at[1])
        + &secure("a.two.test", at[2])
        + &plain;
    let setup = Setup::new(&toml).listeners(4);
    let ravelin = setup.pair("example.com", &authority.server(&["one.test"])).start();
    let mut client = Client::connect(ravelin.addr_on("127.0.0.4"));
    for (host, at) in [
        ("one.test", at[0]),
        ("two.test", at[1]),
        ("b.two.test", at[1]),
        ("a.two.test", at[2]),
        ("nobodys.test", at[0]),
    ] {
        let port = ravelin.addr_on(at).port();
        let location = format!("https://{host}:{port}/x");
        assert_eq!(client.get_from(host, "/x").expect(301).get("location"), Some(&location[..]));
    }
}

#[test]
fn plain_http_on_a_tls_port_is_told_to_speak_tls() {
    let origin = Origin::saying("secret");
    let one = One::before(&origin, "");
    let mut client = one.ravelin.client();
    let asked = "GET /page HTTP/1.1\r\nHost: example.com\r\nAccept: text/html\r\n\r\n";
    let response = client.ask(asked).expect(400);
    assert_eq!(response.get("connection"), Some("close"));
    assert_eq!(response.get("content-type"), Some("text/html; charset=utf-8"));
    let text = "plain HTTP request was sent to an HTTPS port";
    assert!(response.text().contains(text), "{}", response.text());
    one.ravelin.stdout.line_with(&["GET /page HTTP/1.1", " 400 ", "ended=client", "cause=tls"]);
    // For programs, to a HEAD, and for as little of a request as shows what it is.
    assert!(one.ravelin.get("/").expect(400).text().contains("\"status\":400"));
    let mut client = one.ravelin.client();
    client.send("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    client.response("HEAD").expect(400);
    assert!(client.wire.rest().unwrap_or_default().is_empty());
    one.ravelin.ask("G").expect(400);
    assert!(origin.requests().is_empty());
    assert_eq!(one.client().get("/").expect(200).text(), "secret");
}

#[test]
fn rfc9110_4_2_2_plain_http_is_never_served_on_a_tls_port() {
    let origin = Origin::saying("secret");
    let one = One::before(&origin, "");
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhello",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"get / http/1.0\r\n\r\n",
    ] {
        let mut client = one.ravelin.client();
        client.send(bytes);
        let answer = client.wire.rest().unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("HTTP/1.1 2") && !answer.contains("secret"), "{answer}");
        assert!(answer.matches("HTTP/").count() <= 1, "{answer}");
    }
    assert!(origin.requests().is_empty());
    assert_eq!(one.client().get("/").expect(200).text(), "secret");
}

#[test]
fn cve_2026_1642_bytes_sent_before_the_handshake_are_not_part_of_what_comes_after_it() {
    // A request in plain before the handshake breaks the connection: it is not kept and served as if
    // it had come encrypted.
    use std::io::Write as _;
    let origin = Origin::saying("");
    let one = One::before(&origin, "");
    let mut socket = std::net::TcpStream::connect(one.addr()).unwrap();
    socket.write_all(b"GET /injected HTTP/1.1\r\nHost: example.com\r\n\r\n").unwrap();
    let client = TlsClient::trusting(&one.authority);
    assert!(client.try_connect_over(socket, "example.com").is_err());
    one.client().get("/after").expect(200);
    let targets: Vec<String> = origin.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/after"]);
}

#[test]
fn five_megabytes_pass_byte_for_byte_up_and_down() {
    const LENGTH: usize = 5_000_000;
    let origin = Origin::serve(|request| {
        let (length, body) = (request.body.len(), &request.body);
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
    });
    let one = One::before(&origin, "");
    let body = pattern(LENGTH, 21);
    let head = "POST /echo HTTP/1.1\r\nHost: example.com\r\n";
    for client in [TlsClient::trusting(&one.authority), TlsClient::tls12(&one.authority)] {
        let mut client = client.connect(one.addr(), "example.com");
        client.send(format!("{head}Content-Length: {LENGTH}\r\n\r\n")).send(&body);
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
        let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for piece in body.chunks(70_001) {
            chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
            chunked.extend_from_slice(piece);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        client.send(chunked);
        assert_same_bytes(&client.response("POST").expect(200).body, &body);
    }
}

#[test]
fn a_large_file_of_a_python_origin_arrives_whole_by_curl() {
    let files = TempDir::new();
    let content = pattern(5_000_000, 22);
    files.write("large", &content);
    let python = Python::http_server(files.path());
    let authority = Authority::new();
    let setup = Setup::new(&tls_site("example.com", "", &python.url()));
    let pair = authority.server(&["example.com"]);
    let ravelin = setup.pair("example.com", &pair).start();
    let one = One { authority, ravelin };
    for http in ["--http1.1", "--http2"] {
        let out = one.ravelin.dir().join("out");
        one.curl(&[http, "-o", out.to_str().unwrap()], "/large");
        assert_same_bytes(&std::fs::read(out).unwrap(), &content);
    }
}

#[test]
fn static_files_are_served_whole() {
    let content = pattern(3_000_000, 23);
    let authority = Authority::new();
    let toml = "[[sites]]\nname = \"files\"\nhostname = \"example.com\"\nlisten = [\"127.0.0.1:0\"]\n\
                static_dir = \"files\"\n[sites.ssl]\nenabled = true\n\
                cert_file = \"example.com.pem\"\nkey_file = \"example.com.key\"\n";
    let setup = Setup::new(toml).file("files/large.bin", &content);
    let ravelin = setup.pair("example.com", &authority.server(&["example.com"])).start();
    let mut client = TlsClient::trusting(&authority).connect(ravelin.addr(), "example.com");
    assert_same_bytes(&client.get("/large.bin").expect(200).body, &content);
    let range =
        "GET /large.bin HTTP/1.1\r\nHost: example.com\r\nRange: bytes=100000-299999\r\n\r\n";
    assert_same_bytes(&client.ask(range).expect(206).body, &content[100_000..300_000]);
}

#[test]
fn rfc9112_9_8_a_response_that_ends_by_close_ends_with_close_notify() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let one = One::before(&origin, "");
    let mut client = one.client();
    // The harness takes an end without close_notify for a broken connection.
    client.send("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n");
    assert_eq!(client.response("GET").expect(200).text(), "until the end");
}

#[test]
fn rfc9112_9_8_a_response_cut_off_upstream_has_no_close_notify() {
    let origin = Origin::script(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
    });
    let one = One::before(&origin, "");
    let mut client = one.client();
    // This client does not know chunks: the end of the connection is the end of the response.
    client.send("GET / HTTP/1.0\r\nHost: example.com\r\n\r\n");
    assert_eq!(client.wire.response("GET").unwrap_err(), Broken::Reset);
}

#[test]
fn rfc8446_6_1_a_request_cut_off_by_a_truncated_connection_is_not_taken_for_whole() {
    let origin =
        Origin::script(|conn| assert!(conn.try_request().is_err(), "a whole request came"));
    let one = One::before(&origin, "");
    let mut client = one.client();
    client.send("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\nhalf");
    // A FIN without close_notify: anybody on the way can send it.
    client.wire.sock.tcp().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
    client.wire.sock.set_patience(PATIENCE);
    let line = one.ravelin.stdout.line_with(&["POST / HTTP/1.1"]);
    assert!(!line.contains("\" 200 "), "{line}");
}

#[test]
fn websocket_runs_over_tls() {
    let echo = Python::websocket_echo();
    let authority = Authority::new();
    let setup = Setup::new(&tls_site("localhost", "", &echo.url())).file("ca.pem", &authority.pem);
    let ravelin = setup.pair("localhost", &authority.server(&["localhost"])).start();
    let url = format!("wss://localhost:{}/chat", ravelin.addr().port());
    let ca = ravelin.dir().join("ca.pem");
    let body = "for size in (0, 5, 125, 126, 70000, 1 << 20):\n    sent = os.urandom(size)\n    \
                ws.send(sent)\n    assert ws.recv() == sent, size\nprint('all came back')";
    let out = websocket_client_trusting(&ca, &url, body);
    assert_eq!(out.trim(), "all came back");
    ravelin.stdout.line_with(&["/chat", " 101 "]);
}

#[test]
fn a_graceful_stop_lets_a_response_end_and_closes_what_is_idle_cleanly() {
    let gate = Gate::new();
    let origin = Origin::script({
        let gate = gate.clone();
        move |conn| {
            while let Ok(request) = conn.try_request() {
                if request.target == "/slow" {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
                    gate.pass();
                    conn.send("lf");
                    return;
                }
                conn.send(ok("quick"));
            }
        }
    });
    let mut one = One::before(&origin, "");
    let mut idle = one.client();
    idle.get("/quick").expect(200);
    let mut busy = one.client();
    busy.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let (_, _, _, framing) = busy.wire.response_head("GET").unwrap();
    one.ravelin.signal("TERM");
    assert_eq!(idle.wire.some(), Err(Broken::Closed), "no clean end for an idle connection");
    gate.open();
    assert_eq!(busy.wire.body(framing).unwrap().0, b"half");
    assert_eq!(busy.wire.some(), Err(Broken::Closed));
    assert!(one.ravelin.exit().success());
}
