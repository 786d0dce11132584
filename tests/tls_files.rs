//! Certificates in files: what is wrong with them is said before anything is served, and they are
//! replaced while connections live.

use std::path::Path;
use std::time::Instant;

use crate::harness::*;

const HOST: &str = "example.com";

/// Runs a configuration that cannot be served, to its end; what it says.
#[track_caller]
fn refused(setup: &Setup) -> String {
    let output = run(setup.dir(), &["run", "-c", "ravelin.toml"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("listening on") && !text.contains("panicked"), "{text}");
    text
}

/// A site with TLS, to whose table `ssl` is added, with a good certificate in its place.
fn good(ssl: &str) -> Setup {
    let authority = Authority::new();
    let setup = Setup::new(&tls_site(HOST, ssl, "http://127.0.0.1:1"));
    setup.pair(HOST, &authority.server(&[HOST]))
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "not all of {parts:?} in {text}");
}

#[test]
fn files_that_are_not_there_refuse_the_start() {
    for (key, path) in [("cert_file", "example.com.pem"), ("key_file", "example.com.key")] {
        let setup = good("");
        std::fs::remove_file(setup.dir().join(path)).unwrap();
        let said = ["error[missing-file]", path, "does not exist", "help", key];
        assert_says(&refused(&setup), &said);
        let output = run(setup.dir(), &["check", "ravelin.toml"]);
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
        assert_says(&printed(&output), &said);
    }
}

#[test]
fn every_file_without_which_nothing_is_served_is_an_error_of_a_check() {
    let upstream = |tls: &str| {
        let site = tls_site(HOST, "", "https://127.0.0.1:1");
        site.replace("url = ", &format!("tls = {{ {tls} }}\nurl = "))
    };
    let tls = |ssl: &str| tls_site(HOST, ssl, "http://127.0.0.1:1");
    let acme = "[[sites]]\nname = \"acme\"\nhostname = \"a.test\"\nlisten = [\"127.0.0.1:0\"]\n\
                [sites.ssl]\nenabled = true\nauto_cert = true\n\
                acme = { email = \"a@a.test\", ca_file = \"gone.pem\", \
                directory_url = \"https://127.0.0.1:1/\" }\n";
    let sticky = tls("")
        + "[sites.proxy.load_balancing]\nsticky_sessions = { mode = \"cookie\", \
           key_file = \"gone.pem\" }\n";
    for toml in [
        tls("client_ca = \"gone.pem\"\n"),
        tls("ocsp_file = \"gone.pem\"\n"),
        upstream("ca_file = \"gone.pem\""),
        upstream("cert_file = \"gone.pem\", key_file = \"example.com.key\""),
        upstream("cert_file = \"example.com.pem\", key_file = \"gone.pem\""),
        acme.to_owned(),
        sticky,
    ] {
        let pair = Authority::new().server(&[HOST]);
        let setup = Setup::new(&toml).pair(HOST, &pair);
        let output = run(setup.dir(), &["check", "ravelin.toml"]);
        assert_eq!(output.status.code(), Some(1), "{toml}{}", printed(&output));
        assert_says(&printed(&output), &["error[missing-file]", "gone.pem"]);
        assert_says(&refused(&setup), &["error[missing-file]", "gone.pem"]);
        // There, and of no use.
        let setup = setup.file("gone.pem", "nothing");
        let output = run(setup.dir(), &["check", "ravelin.toml"]);
        assert_eq!(output.status.code(), Some(1), "{toml}{}", printed(&output));
        assert_says(&refused(&setup), &["gone.pem"]);
    }
}

#[test]
fn a_file_that_whoever_checks_may_not_read_is_a_warning_of_the_check_alone() {
    use std::os::unix::fs::PermissionsExt;
    let setup = good("client_ca = \"clients.pem\"\n").file("clients.pem", "nothing");
    for (secret, others) in [("example.com.key", 0o000), ("clients.pem", 0o000)] {
        let path = setup.dir().join(secret);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(others)).unwrap();
    }
    let output = run_unprivileged(setup.dir(), &["check", "ravelin.toml"]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let said =
        ["warning[bad-certificate]", "example.com.key may not be read", "clients.pem may not"];
    assert_says(&text, &said);
    // Whoever runs it has to read them.
    let output = run_unprivileged(setup.dir(), &["run", "-c", "ravelin.toml"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert_says(&printed(&output), &["example.com.key cannot be read", "ermission denied"]);
}

#[test]
fn a_key_of_another_certificate_refuses_the_start() {
    let setup = good("").file("example.com.key", Authority::new().server(&[HOST]).key);
    let text = refused(&setup);
    assert_says(&text, &["example.com.key", "does not belong to the first certificate", "help"]);
}

#[test]
fn a_check_finds_what_would_refuse_the_start_and_what_is_odd() {
    let wrong = good("").file("example.com.key", Authority::new().server(&[HOST]).key);
    let output = run(wrong.dir(), &["check", "ravelin.toml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_says(&text, &["error[bad-certificate]", "example.com.key", "does not belong", "help"]);
    let output = run(wrong.dir(), &["check", "--format", "json", "ravelin.toml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_says(&text, &["\"bad-certificate\"", "does not belong"]);

    let authority = Authority::new();
    let odd = Setup::new(&tls_site(HOST, "", "http://127.0.0.1:1"));
    let odd = odd.pair(HOST, &authority.expired(&["other.test"]));
    let output = run(odd.dir(), &["check", "ravelin.toml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let said = ["example.com.pem has expired", "example.com.pem is not for example.com"];
    assert_says(&text, &[&["warning[bad-certificate]"][..], &said].concat());
}

#[test]
fn what_is_no_ocsp_response_is_not_stapled() {
    let authority = Authority::new();
    let pem = authority.server(&[HOST]).certificate;
    for content in ["", "hello", &pem, "0\u{3}\n\u{1}", "0\u{3}\n\u{1}\u{3}more"] {
        let setup = good("ocsp_file = \"ocsp.der\"\n").file("ocsp.der", content);
        assert_says(&refused(&setup), &["ocsp.der", "not an OCSP response", "help"]);
        let output = run(setup.dir(), &["check", "ravelin.toml"]);
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    }
}

#[test]
fn a_check_finds_authorities_and_certificates_for_upstreams_that_would_refuse_the_start() {
    let authority = Authority::new();
    let (pair, other) = (authority.client("ravelin"), authority.client("other"));
    let upstream = |tls: &str| {
        let site = tls_site(HOST, "", "https://127.0.0.1:1");
        site.replace("url = ", &format!("tls = {{ {tls} }}\nurl = "))
    };
    for (toml, problem) in [
        (tls_site(HOST, "client_ca = \"bad.pem\"\n", "http://127.0.0.1:1"), "bad.pem"),
        (upstream("ca_file = \"bad.pem\""), "bad.pem"),
        (upstream("cert_file = \"a.pem\", key_file = \"b.key\""), "does not belong"),
    ] {
        let setup = Setup::new(&toml)
            .pair(HOST, &authority.server(&[HOST]))
            .file("bad.pem", "nothing")
            .file("a.pem", &pair.certificate)
            .file("b.key", &other.key);
        assert_says(&refused(&setup), &[problem]);
        let output = run(setup.dir(), &["check", "ravelin.toml"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_says(&text, &["error[bad-certificate]", HOST, problem]);
    }
}

#[test]
fn an_encrypted_key_refuses_the_start_in_either_wrapping() {
    require("openssl", &["version"], "apt-get install openssl");
    let setup = good("");
    let key = setup.dir().join("example.com.key");
    let plain = setup.dir().join("plain.key");
    std::fs::rename(&key, &plain).unwrap();
    let paths = ["-in", plain.to_str().unwrap(), "-out", key.to_str().unwrap()];
    for args in [&["pkcs8", "-topk8"][..], &["ec", "-aes256"]] {
        let mut command = std::process::Command::new("openssl");
        command.args(args).args(paths).args(["-passout", "pass:secret"]);
        assert!(run_to_end(command).status.success());
        assert!(std::fs::read_to_string(&key).unwrap().contains("ENCRYPTED"));
        let text = refused(&setup);
        assert_says(&text, &["example.com.key", "encrypted", "openssl pkey", "help"]);
    }
}

#[test]
fn what_is_no_certificate_refuses_the_start() {
    let chain = Authority::new().server(&[HOST]).certificate;
    let cut = &chain[..chain.len() / 2];
    let damaged = chain.replacen("MII", "MIA", 1);
    for content in ["", "hello", cut, &damaged] {
        let setup = good("").file("example.com.pem", content);
        assert_says(&refused(&setup), &["example.com.pem", "help"]);
    }
}

#[test]
fn every_site_that_cannot_be_served_is_named_and_no_other_is_served_either() {
    let authority = Authority::new();
    let hosts = ["a.test", "b.test", "c.test"];
    let sites: String = hosts.iter().map(|host| tls_site(host, "", "http://127.0.0.1:1")).collect();
    let setup = Setup::new(&sites).pair("b.test", &authority.server(&["b.test"]));
    let text = refused(&setup);
    assert_says(&text, &["\"a.test.pem\" does not exist", "\"c.test.pem\" does not exist"]);
    assert!(!text.contains("\"b.test.pem\" does not"), "{text}");
    let setup = ["a.test", "c.test"].iter().fold(setup, |setup, host| {
        let strangers = authority.server(&[host]).key;
        setup.pair(host, &authority.server(&[host])).file(&format!("{host}.key"), strangers)
    });
    let text = refused(&setup);
    assert_says(&text, &["site \"a.test\" has no", "a.test.key", "site \"c.test\"", "c.test.key"]);
    assert!(!text.contains("site \"b.test\" has no"), "{text}");
}

#[test]
fn a_cipher_or_group_that_does_not_exist_refuses_the_start_with_those_that_do() {
    let text = refused(&good("ciphers = [\"ROT13\"]\n"));
    assert_says(
        &text,
        &["ROT13", "TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    );
    let text = refused(&good("groups = [\"curve9\"]\n"));
    assert_says(&text, &["curve9", "X25519MLKEM768", "secp256r1"]);
    let text = refused(&good("min_version = \"1.3\"\nmax_version = \"1.2\"\n"));
    assert_says(&text, &["max_version"]);
    let only = "ciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]\nmin_version = \"1.3\"\n";
    assert_says(&refused(&good(only)), &["TLS 1.3", "ciphers", "help"]);
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let authority = Authority::new();
    let setup = Setup::new(&tls_site(HOST, "", "http://127.0.0.1:1"));
    let ravelin = setup.pair(HOST, &authority.expired(&[HOST])).start();
    ravelin.stderr.line_with(&["warn", "example.com.pem", "has expired"]);
    let error = TlsClient::trusting(&authority).try_connect(ravelin.addr(), HOST).err().unwrap();
    assert!(error.contains("expired"), "{error}");
}

#[test]
fn a_certificate_for_other_names_is_served_with_a_warning() {
    let authority = Authority::new();
    let setup = Setup::new(&tls_site(HOST, "", "http://127.0.0.1:1"));
    let ravelin = setup.pair(HOST, &authority.server(&["other.test"])).start();
    ravelin.stderr.line_with(&["warn", "is not for example.com, only for other.test"]);
    TlsClient::trusting(&authority).connect(ravelin.addr(), "other.test");
}

#[test]
fn plain_and_tls_sites_cannot_share_an_address() {
    let origin = Origin::saying("");
    let toml = tls_site(HOST, "", &origin.url())
        + &site(&[&origin.url()], "").replace("example.com", "plain.test");
    let authority = Authority::new();
    let setup = Setup::new(&toml).pair(HOST, &authority.server(&[HOST]));
    assert_says(&refused(&setup), &["error", "127.0.0.1:0"]);
}

/// A site that serves, with what may be shown next.
struct Served {
    authority: Authority,
    first: Pair,
    ravelin: Ravelin,
    _origin: Origin,
}

impl Served {
    fn start() -> Served {
        let origin = Origin::saying("served");
        let authority = Authority::new();
        let first = authority.server(&[HOST]);
        let setup = Setup::new(&tls_site(HOST, "", &origin.url()));
        let ravelin = setup.pair(HOST, &first).start();
        Served { authority, first, ravelin, _origin: origin }
    }

    fn connect(&self) -> Client {
        TlsClient::trusting(&self.authority).connect(self.ravelin.addr(), HOST)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.ravelin.dir().join(name)
    }
}

fn put(path: &Path, content: &str) {
    // As everybody should: whole, or not at all.
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_replaced_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let served = Served::start();
    let mut old = served.connect();
    old.get("/").expect(200);
    let second = served.authority.server(&[HOST, "new.test"]);
    put(&served.path("example.com.pem"), &second.certificate);
    put(&served.path("example.com.key"), &second.key);
    let start = Instant::now();
    served.ravelin.stderr.line_with(&["new certificate from example.com.pem"]);
    assert!(start.elapsed().as_secs() < 9, "it took {:?}", start.elapsed());
    let mut new = served.connect();
    assert!(new.was_shown(&second) && !new.was_shown(&served.first));
    new.get("/").expect(200);
    for _ in 0..3 {
        assert_eq!(old.get("/").expect(200).text(), "served");
    }
    assert!(old.was_shown(&served.first));
}

#[test]
fn a_broken_replacement_keeps_the_certificate_and_is_told() {
    let served = Served::start();
    put(&served.path("example.com.pem"), "-----BEGIN CERTIFICATE-----\nhalf of");
    served.ravelin.signal("HUP");
    served.ravelin.stderr.line_with(&["error", "example.com.pem", "stays in use"]);
    assert!(served.connect().was_shown(&served.first));
    // The certificate of another key: half of a replacement.
    let second = served.authority.server(&[HOST]);
    put(&served.path("example.com.pem"), &second.certificate);
    served.ravelin.signal("HUP");
    served.ravelin.stderr.line_with(&["error", "does not belong", "stays in use"]);
    assert!(served.connect().was_shown(&served.first));
    // Gone altogether.
    std::fs::remove_file(served.path("example.com.pem")).unwrap();
    served.ravelin.signal("HUP");
    served.ravelin.stderr.line_with(&["error", "No such file", "stays in use"]);
    assert!(served.connect().was_shown(&served.first));
    // Whole in the end.
    put(&served.path("example.com.pem"), &second.certificate);
    put(&served.path("example.com.key"), &second.key);
    served.ravelin.signal("HUP");
    served.ravelin.stderr.line_with(&["new certificate from example.com.pem"]);
    let mut client = served.connect();
    assert!(client.was_shown(&second));
    client.get("/").expect(200);
}

#[test]
fn no_connection_fails_while_certificates_are_replaced() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let served = Arc::new(Served::start());
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (served, stop, made) = (served.clone(), stop.clone(), made.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    served.connect().get("/").expect(200);
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..5 {
        let next = served.authority.server(&[HOST, &format!("round{round}.test")]);
        put(&served.path("example.com.key"), &next.key);
        put(&served.path("example.com.pem"), &next.certificate);
        served.ravelin.signal("HUP");
        let start = Instant::now();
        while !served.connect().was_shown(&next) {
            assert!(start.elapsed() < PATIENCE, "round {round} is never shown");
        }
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(made.load(Ordering::Relaxed) > 5);
}
