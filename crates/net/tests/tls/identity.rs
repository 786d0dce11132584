//! Certificates and keys as operators have them.

use std::process::Command;

use net::tls::{Identity, IdentityError};
use rcgen::CertificateParams;

use crate::support::{Authority, Directory};

fn load(certificate: &str, key: Option<&str>) -> Result<Identity, IdentityError> {
    Identity::from_pem(certificate.as_bytes(), key.map(str::as_bytes))
}

#[test]
fn a_certificate_tells_its_names_and_its_time() {
    let authority = Authority::new("authority");
    let pair = authority.sign(&["A.test", "*.b.test", "192.0.2.1", "2001:db8::1"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 9, 9);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    // Expired, which is for its user to judge.
    let identity = pair.identity();
    assert_eq!(identity.names(), ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"]);
    assert_eq!((identity.not_before(), identity.not_after()), (999_993_600, 1_009_843_200));
    for (host, covered) in [
        ("a.test", true),
        ("x.a.test", false),
        ("b.test", false),
        ("x.b.test", true),
        ("x.y.b.test", false),
        ("192.0.2.1", true),
        ("2001:db8::1", true),
        ("test", false),
        ("", false),
    ] {
        assert_eq!(identity.covers(host), covered, "{host}");
    }
}

#[test]
fn the_key_may_be_in_the_file_of_the_chain() {
    let pair = Authority::new("authority").server(&["a.test"]);
    let other = Authority::new("middle").pem;
    let bundle = format!("{}{}{other}", pair.key, pair.certificate);
    let identity = load(&bundle, None).unwrap();
    assert_eq!(identity.chain_der().len(), 2);
    assert_eq!(identity.names(), ["a.test"]);
}

#[test]
fn what_is_missing_or_does_not_fit_is_said() {
    let authority = Authority::new("authority");
    let (pair, other) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    use IdentityError as E;
    type Check = fn(&E) -> bool;
    let cases: [(&str, Option<&str>, Check); 10] = [
        ("", Some(&pair.key), |e| matches!(e, E::NoCertificate)),
        ("hello", Some(&pair.key), |e| matches!(e, E::NoCertificate)),
        (&pair.key, Some(&pair.key), |e| matches!(e, E::NoCertificate)),
        (broken, Some(&pair.key), |e| matches!(e, E::Damaged(_))),
        (empty, Some(&pair.key), |e| matches!(e, E::Damaged(_))),
        (&pair.certificate, None, |e| matches!(e, E::NoKey)),
        (&pair.certificate, Some(""), |e| matches!(e, E::NoKey)),
        (&pair.certificate, Some(locked), |e| matches!(e, E::EncryptedKey)),
        (&pair.certificate, Some(nonsense), |e| matches!(e, E::UnsupportedKey(_))),
        (&pair.certificate, Some(&other.key), |e| matches!(e, E::KeyDoesNotMatch)),
    ];
    for (certificate, key, check) in cases {
        let error = load(certificate, key).unwrap_err();
        assert!(check(&error), "{error:?}");
        assert!(!error.to_string().contains("AAAA"), "no part of a key is told");
    }
}

#[test]
fn one_that_signs_itself_can_be_had_for_any_names() {
    let names = ["a.test".to_owned(), "127.0.0.1".to_owned()];
    let identity = Identity::self_signed(&names).unwrap();
    assert_eq!(identity.names(), names);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    assert!(identity.not_before() < now && identity.not_after() > now + 300 * 86_400);
    assert!(Identity::self_signed(&["no\u{e9}l".to_owned()]).is_err());
}

/// Runs `openssl` and returns what it prints; `None` if it is not installed.
fn openssl(directory: &Directory, arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).current_dir(directory.path()).output();
    let output = output.ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn keys_in_every_wrapping_that_openssl_writes_are_read() {
    let directory = Directory::new();
    for (algorithm, option) in [
        ("rsa", "rsa_keygen_bits:2048"),
        ("ec", "ec_paramgen_curve:P-256"),
        ("ec", "ec_paramgen_curve:P-384"),
        ("ed25519", ""),
    ] {
        let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", "key.pem"];
        if !option.is_empty() {
            arguments.extend(["-pkeyopt", option]);
        }
        if openssl(&directory, &arguments).is_none() {
            return println!("openssl is not installed; nothing was tried");
        }
        let request = ["req", "-new", "-key", "key.pem", "-subj", "/CN=a.test", "-out", "csr.pem"];
        openssl(&directory, &request).unwrap();
        // As old recipes make it: version 1, and the name is in the subject only.
        let sign = ["x509", "-req", "-in", "csr.pem", "-signkey", "key.pem", "-days", "2"];
        let certificate = openssl(&directory, &sign).unwrap();
        let plain = openssl(&directory, &["pkey", "-in", "key.pem"]).unwrap();
        load(&certificate, Some(&plain)).unwrap();
        if algorithm != "ed25519" {
            let old = openssl(&directory, &["pkey", "-in", "key.pem", "-traditional"]).unwrap();
            let kind = if algorithm == "rsa" { "BEGIN RSA PRIVATE" } else { "BEGIN EC PRIVATE" };
            assert!(old.contains(kind));
            load(&certificate, Some(&old)).unwrap();
            for wrapping in [&["-traditional"][..], &[]] {
                let locked = ["pkey", "-in", "key.pem", "-aes128", "-passout", "pass:secret"];
                let locked = openssl(&directory, &[&locked, wrapping].concat()).unwrap();
                assert!(locked.contains("ENCRYPTED"));
                let error = load(&certificate, Some(&locked)).unwrap_err();
                assert!(matches!(error, IdentityError::EncryptedKey), "{error:?}");
            }
        }
    }
}

#[test]
fn a_private_authority_may_be_its_own_server() {
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    load(&pem, Some(&key.serialize_pem())).unwrap();
}
