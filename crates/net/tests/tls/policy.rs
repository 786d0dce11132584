//! What a policy may say, and what is said about one that makes no sense.

use std::sync::Arc;

use config::model::{TlsPolicy, TlsVersion, UpstreamHttp, UpstreamTls};
use net::tls::{ClientConfig, ServerConfig, Tickets};

use crate::common::on_worker;
use crate::support::{Place, asking_clients, connected, only, policy, shake, talk};

fn mistake(policy: &TlsPolicy, client_ca: Option<&[u8]>) -> String {
    let identity = Place::new().identity;
    ServerConfig::new(policy, client_ca, Arc::clone(&identity), &Tickets::new())
        .unwrap_err()
        .to_string()
}

#[test]
fn ciphers_are_chosen_by_their_iana_names_in_the_servers_order() {
    on_worker(async {
        let place = Place::new();
        for (version, ciphers) in [
            (TlsVersion::Tls13, ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"]),
            (TlsVersion::Tls13, ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]),
            (
                TlsVersion::Tls12,
                [
                    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                ],
            ),
        ] {
            let first = ciphers[0];
            let ciphers = ciphers.map(str::to_owned).to_vec();
            let server = place.server(&TlsPolicy { ciphers, ..only(version) });
            let (server, client) = connected(&server, &place.client()).await;
            talk(&server, &client).await;
            assert_eq!(server.tls().unwrap().cipher, first);
            assert_eq!(client.tls().unwrap().cipher, first);
        }
    });
}

#[test]
fn groups_are_chosen_by_their_iana_names() {
    on_worker(async {
        let place = Place::new();
        for group in ["secp256r1", "x25519", "X25519MLKEM768", "secp384r1"] {
            let server = place.server(&TlsPolicy { groups: vec![group.to_owned()], ..policy() });
            let (server, client) = connected(&server, &place.client()).await;
            talk(&server, &client).await;
        }
    });
}

#[test]
fn a_client_without_anything_in_common_is_told_so_and_so_is_the_log() {
    on_worker(async {
        let place = Place::new();
        // Only for certificates with RSA keys, and this one has another.
        let ciphers = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
        let server = place.server(&TlsPolicy { ciphers, ..only(TlsVersion::Tls12) });
        let (server, client) = shake(&server, &place.client()).await;
        let said = server.unwrap_err().to_string();
        assert!(said.contains("in common with the policy and the certificate"), "{said}");
        assert!(client.is_err());
    });
}

#[test]
fn a_name_that_does_not_exist_is_answered_with_those_that_do() {
    let said = mistake(&TlsPolicy { ciphers: vec!["AES128-SHA".to_owned()], ..policy() }, None);
    assert!(said.contains("no cipher suite `AES128-SHA`"), "{said}");
    assert!(said.contains("TLS_AES_128_GCM_SHA256, "), "{said}");
    assert!(said.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{said}");
    let said = mistake(&TlsPolicy { groups: vec!["P-256".to_owned()], ..policy() }, None);
    assert!(said.contains("no group `P-256`"), "{said}");
    assert!(said.contains("secp256r1") && said.contains("X25519MLKEM768"), "{said}");
}

#[test]
fn a_version_that_is_left_without_a_cipher_is_a_mistake() {
    let ciphers = vec!["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".to_owned()];
    let said = mistake(&TlsPolicy { ciphers, ..policy() }, None);
    assert!(said.contains("no cipher suite of TLS 1.3 is named"), "{said}");
    assert!(said.contains("TLS_AES_128_GCM_SHA256"), "{said}");
    let ciphers = vec!["TLS_AES_128_GCM_SHA256".to_owned()];
    let said = mistake(&TlsPolicy { ciphers, ..policy() }, None);
    assert!(said.contains("no cipher suite of TLS 1.2 is named"), "{said}");
    assert!(said.contains("`min_version` 1.3"), "{said}");
}

#[test]
fn authorities_for_clients_that_cannot_be_had_close_the_door() {
    for text in [None, Some(&b""[..]), Some(b"hello"), Some(b"-----BEGIN CERTIFICATE-----\nAA==\n")]
    {
        assert!(!mistake(&asking_clients(true), text).is_empty());
    }
}

#[test]
fn a_file_for_upstreams_that_cannot_be_used_is_named() {
    let place = Place::new();
    let empty = place.directory.file("empty.pem", "");
    let missing = place.directory.path().join("missing.pem");
    let key = place.directory.file("other.key", &place.authority.server(&["b.test"]).key);
    let certificate = place.directory.file("c.pem", &place.authority.client("c").certificate);
    let with =
        |tls: UpstreamTls| ClientConfig::new(&tls, UpstreamHttp::Http1).unwrap_err().to_string();
    for (tls, name, what) in [
        (
            UpstreamTls { ca_file: Some(empty.into()), ..place.upstream() },
            "empty.pem",
            "no certificate",
        ),
        (
            UpstreamTls { ca_file: Some(missing.into()), ..place.upstream() },
            "missing.pem",
            "No such file",
        ),
        (
            UpstreamTls {
                client_certificate: Some((certificate.into(), key.into())),
                ..place.upstream()
            },
            "other.key",
            "does not belong",
        ),
    ] {
        let said = with(tls);
        assert!(said.contains(name) && said.contains(what), "{said}");
    }
}
