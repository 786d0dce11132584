//! Sites that ask clients for certificates: who gets in, what the upstream is told, and that no way
//! leads around the check.

use std::process::{Command, Stdio};

use rustls::HandshakeKind;
use rustls::version::TLS12;

use crate::harness::*;

const OPEN: &str = "open.test";
const SECURE: &str = "secure.test";

/// An open site and one for holders of certificates, at one address.
struct Both {
    authority: Authority,
    clients: Authority,
    origin: Origin,
    ravelin: Ravelin,
}

impl Both {
    #[track_caller]
    fn start() -> Both {
        Both::with("")
    }

    /// `ssl` continues the guarded site's table.
    #[track_caller]
    fn with(ssl: &str) -> Both {
        let origin = Origin::serve(|request| ok(request.get("host").unwrap()));
        let (authority, clients) = (Authority::new(), Authority::new());
        let toml = tls_site(OPEN, "", &origin.url())
            + &tls_site(SECURE, &format!("client_ca = \"clients.pem\"\n{ssl}"), &origin.url());
        let ravelin = Setup::new(&toml)
            .file("clients.pem", &clients.pem)
            // One certificate for both, as a wildcard often is: the worst case for telling them apart.
            .pair(OPEN, &authority.server(&[OPEN, SECURE]))
            .pair(SECURE, &authority.server(&[OPEN, SECURE]))
            .start();
        Both { authority, clients, origin, ravelin }
    }

    fn stranger(&self) -> TlsClient {
        TlsClient::trusting(&self.authority)
    }

    fn member(&self, name: &str) -> TlsClient {
        TlsClient::showing(&self.authority, &self.clients.client(name))
    }

    /// A connection to this site.
    #[track_caller]
    fn connect(&self, client: &TlsClient, name: &str) -> Client {
        client.connect(self.ravelin.addr(), name)
    }

    #[track_caller]
    fn refusal(&self, client: &TlsClient) -> String {
        client.refusal(self.ravelin.addr(), SECURE)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let host = |request: &Request| request.get("host").unwrap().to_owned();
        let hosts: Vec<String> = self.origin.requests().iter().map(host).collect();
        assert!(
            hosts.iter().all(|host| host.starts_with(OPEN)),
            "the guarded site was reached: {hosts:?}"
        );
    }
}

#[test]
fn only_holders_of_a_certificate_get_in() {
    let both = Both::start();
    let mut client = both.connect(&both.member("alice"), SECURE);
    assert_eq!(client.get_from(SECURE, "/").expect(200).text(), SECURE);
    let fresh = Both::start();
    for versions in [&[&rustls::version::TLS13][..], &[&TLS12]] {
        let client = TlsClient::new(&fresh.authority, None, versions);
        let refusal = fresh.refusal(&client);
        assert!(
            refusal.contains("CertificateRequired") || refusal.contains("HandshakeFailure"),
            "{refusal}"
        );
        let other = Authority::new();
        let client = TlsClient::new(&fresh.authority, Some(&other.client("alice")), versions);
        let refusal = fresh.refusal(&client);
        assert!(refusal.contains("UnknownCA") || refusal.contains("DecryptError"), "{refusal}");
        let client =
            TlsClient::new(&fresh.authority, Some(&fresh.clients.expired(&["a.test"])), versions);
        let refusal = fresh.refusal(&client);
        assert!(refusal.contains("CertificateExpired"), "{refusal}");
        // A certificate for a server is none for a client, whoever signed it.
        let client =
            TlsClient::new(&fresh.authority, Some(&fresh.clients.for_servers_only()), versions);
        let refusal = fresh.refusal(&client);
        assert!(refusal.contains("alert"), "{refusal}");
    }
    fresh.assert_untouched();
    // The open site asks nobody.
    let mut client = fresh.connect(&fresh.stranger(), OPEN);
    assert_eq!(client.get_from(OPEN, "/").expect(200).text(), OPEN);
}

#[test]
fn the_upstream_is_told_who_the_client_is() {
    let both = Both::start();
    let pair = both.clients.client("alice, \"the\" <admin>");
    let client = TlsClient::showing(&both.authority, &pair);
    let mut client = both.connect(&client, SECURE);
    for n in 0..2 {
        client.get_from(SECURE, "/").expect(200);
        let request = both.origin.request(n);
        assert_eq!(request.get("x-ssl-client-verify"), Some("SUCCESS"));
        let subject = request.get("x-ssl-client-s-dn").unwrap();
        assert_eq!(subject, r#"CN=alice\, \"the\" \<admin\>"#);
        assert!(request.get("x-ssl-client-i-dn").unwrap().starts_with("CN=test authority"));
        let file = both.ravelin.dir().join("alice.pem");
        std::fs::write(&file, &pair.certificate).unwrap();
        let ask = |args: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["x509", "-noout", "-in", file.to_str().unwrap()]).args(args);
            let output = run_to_end(command);
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase()
        };
        let serial = ask(&["-serial"]);
        assert_eq!(request.get("x-ssl-client-serial"), Some(serial.trim_start_matches("00")));
        let fingerprint = ask(&["-fingerprint", "-sha256"]);
        assert_eq!(request.get("x-ssl-client-sha256"), Some(&fingerprint[..]));
        // RFC 9440 §2.1: a byte sequence of structured fields.
        let sent: String = pair.certificate.lines().filter(|l| !l.starts_with('-')).collect();
        assert_eq!(request.get("client-cert"), Some(&format!(":{sent}:")[..]));
    }
}

/// Every field about certificates, in the spellings that gateways take for each other, as a client
/// may send them.
fn forged() -> String {
    let names = [
        "X-SSL-Client-Verify",
        "X-SSL-Client-S-DN",
        "X-SSL-Client-I-DN",
        "X-SSL-Client-Serial",
        "X-SSL-Client-SHA256",
        "Client-Cert",
        // RFC 9440 §4: taken out, too, although it is never added.
        "Client-Cert-Chain",
    ];
    let spellings = |name: &&str| {
        [
            (*name).to_owned(),
            name.to_lowercase(),
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
            name.to_uppercase().replace('-', "_"),
        ]
    };
    let lines = names.iter().flat_map(spellings).map(|name| format!("{name}: forged\r\n"));
    lines.collect()
}

/// What of [`forged`] has arrived.
fn arrived(request: &Request) -> Vec<&(String, String)> {
    let forged = |(_, value): &&(String, String)| value == "forged";
    request.head.fields.iter().filter(forged).collect()
}

#[test]
fn cve_2026_30851_a_client_cannot_say_itself_who_it_is() {
    let both = Both::with("client_auth = \"optional\"\n");
    let request = format!("GET / HTTP/1.1\r\nHost: {SECURE}\r\n{}\r\n", forged());
    // Without a certificate, with one, and hoping that `Connection` takes away what Ravelin adds.
    let mut client = both.connect(&both.stranger(), SECURE);
    client.ask(&request).expect(200);
    let got = both.origin.request(0);
    assert_eq!(got.head.all("x-ssl-client-verify"), ["NONE"]);
    assert!(arrived(&got).is_empty(), "{:?}", arrived(&got));
    assert!(!got.head.has("x-ssl-client-s-dn") && !got.head.has("client-cert"));

    let mut client = both.connect(&both.member("alice"), SECURE);
    client.ask(&request).expect(200);
    let got = both.origin.request(1);
    assert!(arrived(&got).is_empty(), "{:?}", arrived(&got));
    assert_eq!(got.head.all("x-ssl-client-s-dn"), ["CN=alice"]);
    assert_eq!(got.head.all("client-cert").len(), 1);

    client.ask(format!(
        "GET / HTTP/1.1\r\nHost: {SECURE}\r\nConnection: X-SSL-Client-Verify, X-SSL-Client-S-DN, \
         Client-Cert\r\n\r\n"
    ));
    let got = both.origin.request(2);
    assert_eq!(got.head.all("x-ssl-client-verify"), ["SUCCESS"]);
    assert_eq!(got.head.all("x-ssl-client-s-dn"), ["CN=alice"]);
}

#[test]
fn cve_2026_30851_nor_by_the_open_site_before_the_same_upstream() {
    let both = Both::start();
    let mut client = both.connect(&both.stranger(), OPEN);
    client.ask(format!("GET / HTTP/1.1\r\nHost: {OPEN}\r\n{}\r\n", forged())).expect(200);
    let got = both.origin.request(0);
    assert!(arrived(&got).is_empty(), "{:?}", arrived(&got));
}

#[test]
fn where_certificates_are_optional_a_bad_one_is_refused_all_the_same() {
    let both = Both::with("client_auth = \"optional\"\n");
    let mut client = both.connect(&both.stranger(), SECURE);
    client.get_from(SECURE, "/").expect(200);
    let other = TlsClient::showing(&both.authority, &Authority::new().client("alice"));
    let refusal = both.refusal(&other);
    assert!(refusal.contains("UnknownCA") || refusal.contains("DecryptError"), "{refusal}");
}

#[test]
fn rfc9110_15_5_20_a_host_that_another_policy_guards_is_421() {
    let both = Both::start();
    // Into the guarded site through the open one, in every spelling of its host.
    for host in ["secure.test", "SECURE.test", "secure.test.", "secure.test:443"] {
        let mut client = both.connect(&both.stranger(), OPEN);
        client.get_from(host, "/").expect(421);
        // The connection goes on being good for what it was made for.
        assert_eq!(client.get_from(OPEN, "/").expect(200).text(), OPEN, "{host}");
    }
    let mut client = both.connect(&both.stranger(), OPEN);
    client.ask(format!("GET https://{SECURE}/ HTTP/1.1\r\nHost: {OPEN}\r\n\r\n")).expect(421);
    client.ask(format!("GET /api/health HTTP/1.1\r\nHost: {SECURE}\r\n\r\n")).expect(421);
    both.assert_untouched();
    // What is explained is what is done.
    for (host, is_refused) in [(SECURE, true), (OPEN, false)] {
        let (url, host) = (format!("https://{OPEN}/"), format!("Host: {host}"));
        let args = ["explain", "--live", "--format", "json", &url, "-H", &host];
        let said = printed(&run(both.ravelin.dir(), &args));
        assert_eq!(said.contains("\"status\":421"), is_refused, "{said}");
    }
    // And the other way round: who showed a certificate did so to one site only.
    let mut client = both.connect(&both.member("alice"), SECURE);
    client.get_from(OPEN, "/").expect(421);
    client.get_from(SECURE, "/").expect(200);
}

#[test]
fn rfc9113_9_1_2_the_same_holds_for_each_stream_of_http2() {
    let both = Both::start();
    let ca = both.ravelin.dir().join("ca.pem");
    std::fs::write(&ca, &both.authority.pem).unwrap();
    let port = both.ravelin.addr().port();
    // The name in the URL is asked for in the handshake; the field is `:authority`.
    let resolve = format!("{OPEN}:{port}:127.0.0.1");
    let url = format!("https://{OPEN}:{port}/");
    let field = format!("Host: {SECURE}");
    let out = curl(&[
        "--http2",
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &resolve,
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code} ",
        "-H",
        &field,
        &url,
        "--next",
        "-sS",
        "--http2",
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &resolve,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ]);
    assert_eq!(out, "2 421 200");
    both.assert_untouched();
}

#[test]
fn cve_2026_53622_the_name_asked_for_is_the_same_in_every_spelling() {
    let both = Both::start();
    // Were upper case another name, it would be the default's, which is open to everybody.
    for name in ["SECURE.TEST", "Secure.Test"] {
        let refusal = both.stranger().refusal(both.ravelin.addr(), name);
        assert!(refusal.contains("CertificateRequired"), "{name}: {refusal}");
    }
    // Nor is a dot at its end a part of it; openssl sends it as it is told.
    let addr = both.ravelin.addr().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-servername", "secure.test.", "-connect", &addr]);
    command.stdin(Stdio::null());
    let output = run_to_end(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Acceptable client certificate CA names"), "{text}");
    // Without any name there is the default site, and no way from there.
    let mut command = Command::new("openssl");
    let addr = both.ravelin.addr().to_string();
    command.args(["s_client", "-quiet", "-noservername", "-connect", &addr]);
    let request = format!("GET / HTTP/1.1\r\nHost: {SECURE}\r\nConnection: close\r\n\r\n");
    let file = both.ravelin.dir().join("request");
    std::fs::write(&file, request).unwrap();
    command.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    // `-quiet` goes on when standard input ends, until the server closes.
    let output = run_to_end(command);
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    both.assert_untouched();
}

#[test]
fn cve_2025_23419_a_session_of_the_open_site_does_not_open_the_guarded_one() {
    let both = Both::start();
    for client in [both.stranger(), TlsClient::tls12(&both.authority)] {
        // The client keeps its sessions without regard to the name.
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut open = both.connect(&client, OPEN);
            open.get_from(OPEN, "/").expect(200);
            assert_eq!(open.tls().handshake_kind(), Some(kind));
        }
        let refusal = both.refusal(&client);
        assert!(
            refusal.contains("CertificateRequired") || refusal.contains("HandshakeFailure"),
            "{refusal}"
        );
    }
    both.assert_untouched();
}

#[test]
fn cve_2025_23419_nor_does_openssl_get_in_with_one() {
    let both = Both::start();
    let addr = both.ravelin.addr().to_string();
    let session = both.ravelin.dir().join("session.pem");
    let session = session.to_str().unwrap();
    let request = both.ravelin.dir().join("request");
    for version in ["-tls1_2", "-tls1_3"] {
        let speak = |host: &str, args: &[&str]| {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            std::fs::write(&request, text).unwrap();
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &addr, "-servername", host, version, "-ign_eof"]);
            command.args(args).stdin(Stdio::from(std::fs::File::open(&request).unwrap()));
            let output = run_to_end(command);
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        };
        let text = speak(OPEN, &["-sess_out", session]);
        assert!(text.contains("HTTP/1.1 200 "), "{text}");
        let text = speak(OPEN, &["-sess_in", session]);
        assert!(text.contains("Reused, TLSv1."), "the session is no good: {text}");
        let text = speak(SECURE, &["-sess_in", session]);
        assert!(!text.contains("HTTP/1.1") && !text.contains("Reused"), "{text}");
        assert!(text.contains("SSL alert number"), "{text}");
    }
    both.assert_untouched();
}

#[test]
fn cve_2025_23419_sessions_of_certificate_holders_are_not_resumed() {
    let both = Both::start();
    let client = both.member("alice");
    for _ in 0..3 {
        let mut client = both.connect(&client, SECURE);
        client.get_from(SECURE, "/").expect(200);
        assert_eq!(client.tls().handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn cve_2026_27586_authorities_that_cannot_be_had_refuse_the_start() {
    let authority = Authority::new();
    let site = tls_site(SECURE, "client_ca = \"clients.pem\"\n", "http://127.0.0.1:1");
    let no_certificate = authority.server(&[SECURE]).key;
    for content in [None, Some("no certificate at all"), Some(""), Some(&no_certificate[..])] {
        let setup = Setup::new(&site).pair(SECURE, &authority.server(&[SECURE]));
        let setup = match content {
            Some(content) => setup.file("clients.pem", content),
            None => setup,
        };
        let output = run(setup.dir(), &["run", "-c", "ravelin.toml"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("clients.pem") && text.contains("help"), "{content:?}: {text}");
        assert!(!text.contains("listening on"), "{text}");
    }
}
