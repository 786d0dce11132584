//! Handshakes that succeed, and what they settle.

use config::model::{TlsPolicy, TlsVersion, UpstreamHttp, UpstreamTls};
use net::stream::Stream;
use net::tls::{
    Alpn, ClientConfig, HandshakeError, Hello, Identity, IdentitySlot, accept, acme_server_config,
    connect,
};

use crate::common::on_worker;
use crate::support::{
    Authority, NAME, Place, both, connected, foreign_client, only, policy, shake, shake_on, talk,
};

#[test]
fn both_versions_carry_bytes_both_ways_over_unix_and_tcp() {
    on_worker(async {
        let place = Place::new();
        for (version, name) in [(TlsVersion::Tls12, "TLSv1.2"), (TlsVersion::Tls13, "TLSv1.3")] {
            let (server, client) = (place.server(&only(version)), place.client());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let far = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
            let near = Stream::Tcp(listener.accept().await.unwrap().0);
            let (near_unix, far_unix) = Stream::pair().unwrap();
            for (near, far) in [(near, far), (near_unix, far_unix)] {
                let is_tcp = near.is_tcp();
                let (server, client) = shake_on(near, far, &server, &client).await;
                let (server, client) = (server.unwrap(), client.unwrap());
                talk(&server, &client).await;
                for side in [&server, &client] {
                    let facts = side.tls().unwrap();
                    assert_eq!((facts.version, facts.alpn), (name, Alpn::Http11));
                    assert!(facts.cipher.starts_with("TLS_"), "{}", facts.cipher);
                    assert!(!side.is_plain());
                    assert_eq!(side.is_tcp(), is_tcp);
                }
                assert_eq!(server.tls().unwrap().server_name.as_deref(), Some(NAME));
            }
        }
    });
}

#[test]
fn post_quantum_key_exchange_is_what_is_agreed_on_with_a_client_that_can() {
    on_worker(async {
        let place = Place::new();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut client = foreign_client(&place);
        let group = std::thread::spawn(move || {
            let mut far = far;
            while client.is_handshaking() {
                client.complete_io(&mut far).unwrap();
            }
            client.negotiated_key_exchange_group().unwrap().name()
        });
        let near = Stream::Unix(tokio::net::UnixStream::from_std(near).unwrap());
        accept(near, |_| Some(place.server(&policy()))).await.unwrap();
        assert_eq!(group.join().unwrap(), rustls::NamedGroup::X25519MLKEM768);
    });
}

#[test]
fn the_name_asked_for_chooses_what_is_shown() {
    on_worker(async {
        let place = Place::new();
        let other = place.authority.server(&["b.test", "*.b.test"]).identity();
        let b = Place { identity: IdentitySlot::new(other), ..Place::new() };
        for (name, offered) in [("B.test", "b.test"), ("x.b.test", "x.b.test"), (NAME, NAME)] {
            let (near, far) = Stream::pair().unwrap();
            let server = accept(near, |hello: &Hello<'_>| {
                assert!(!hello.acme);
                assert_eq!(hello.server_name, Some(offered));
                let place = if offered == NAME { &place } else { &b };
                Some(place.server(&policy()))
            });
            let client = place.client();
            let (server, client) = both(server, async {
                let stream = connect(far, &client, name).await?;
                crate::common::write_all(&stream, b"x").await.unwrap();
                Ok::<_, HandshakeError>(stream)
            })
            .await;
            client.unwrap();
            assert_eq!(server.unwrap().tls().unwrap().server_name.as_deref(), Some(offered));
        }
    });
}

#[test]
fn a_client_that_asks_for_an_address_names_no_host() {
    on_worker(async {
        let place = Place::new();
        place.identity.store(place.authority.server(&["192.0.2.1", "2001:db8::1"]).identity());
        let config = place.client();
        for address in ["192.0.2.1", "2001:db8::1"] {
            let (near, far) = Stream::pair().unwrap();
            let server = accept(near, |hello: &Hello<'_>| {
                assert_eq!(hello.server_name, None);
                Some(place.server(&policy()))
            });
            let client = async {
                let stream = connect(far, &config, address).await.unwrap();
                crate::common::write_all(&stream, b"x").await.unwrap();
                stream
            };
            let (server, _client) = both(server, client).await;
            assert_eq!(server.unwrap().tls().unwrap().server_name, None);
        }
    });
}

#[test]
fn the_protocol_is_agreed_upon_by_alpn() {
    on_worker(async {
        let place = Place::new();
        let with = |http| ClientConfig::new(&place.upstream(), http).unwrap();
        let server = place.server(&policy());
        let (server_side, client_side) = connected(&server, &with(UpstreamHttp::Http2)).await;
        assert_eq!(server_side.tls().unwrap().alpn, Alpn::Http2);
        assert_eq!(client_side.tls().unwrap().alpn, Alpn::Http2);

        let old = place.server(&TlsPolicy { http2: false, ..policy() });
        let (server_side, _client) = connected(&old, &with(UpstreamHttp::Http1)).await;
        assert_eq!(server_side.tls().unwrap().alpn, Alpn::Http11);

        let (server_side, client_side) = shake(&old, &with(UpstreamHttp::Http2)).await;
        let said = server_side.unwrap_err().to_string();
        assert!(said.contains("offers no protocol (ALPN) that is spoken here"), "{said}");
        let said = client_side.unwrap_err().explain_upstream();
        assert!(said.contains("does not speak this version of HTTP"), "{said}");
    });
}

#[test]
fn rfc8737_an_authority_is_shown_the_challenge_and_spoken_nothing_else_with() {
    on_worker(async {
        let identity = Identity::acme_tls_alpn(NAME, "token.thumbprint").unwrap();
        let shown = identity.chain_der().first().unwrap().clone();
        let server = acme_server_config(identity).unwrap();
        let seen = std::cell::Cell::new(false);

        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = std::sync::Arc::new(Seen(provider.clone()));
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let name = NAME.try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let authority = std::thread::spawn(move || {
            let mut far = far;
            while client.is_handshaking() {
                client.complete_io(&mut far).unwrap();
            }
            (client.peer_certificates().unwrap()[0].clone().into_owned(), far)
        });
        let near = Stream::Unix(tokio::net::UnixStream::from_std(near).unwrap());
        let stream = accept(near, |hello: &Hello<'_>| {
            seen.set(hello.acme);
            Some(server.clone())
        });
        let stream = stream.await.unwrap();
        assert!(seen.get());
        assert_eq!(stream.tls().unwrap().alpn, Alpn::AcmeTls);
        assert_eq!(authority.join().unwrap().0, shown);

        let place = Place::new();
        let (server, client) = shake(&server, &place.client()).await;
        assert!(server.is_err() && client.is_err());
    });
}

#[test]
fn an_upstream_has_to_prove_who_it_is_unless_it_need_not() {
    on_worker(async {
        let place = Place::new();
        let client = place.client();
        let server = place.server(&policy());
        let stranger = Authority::new("somebody else").server(&[NAME]);
        let expired = place.authority.sign(&[NAME], |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        });
        let cases = [
            (stranger, "unknown authority"),
            (expired, "expired"),
            (place.authority.server(&["b.test"]), "mismatch: asked for www.a.test, it is for"),
        ];
        let trusting = UpstreamTls { verify: false, ca_file: None, ..place.upstream() };
        let trusting = ClientConfig::new(&trusting, UpstreamHttp::Http1).unwrap();
        for (pair, expected) in cases {
            place.identity.store(pair.identity());
            let (server_side, client_side) = shake(&server, &client).await;
            let said = client_side.unwrap_err().explain_upstream();
            assert!(said.contains(expected), "{said}");
            let said = server_side.unwrap_err().to_string();
            assert!(said.contains("the client "), "{said}");

            let (server_side, client_side) = connected(&server, &trusting).await;
            talk(&server_side, &client_side).await;
        }
    });
}

#[test]
fn a_name_that_no_certificate_could_have_is_refused_before_any_byte() {
    on_worker(async {
        let (_near, far) = Stream::pair().unwrap();
        let error = connect(far, &Place::new().client(), "no such name").await.unwrap_err();
        assert!(matches!(error, HandshakeError::UnknownName(Some(_))), "{error}");
    });
}

/// Takes any certificate, as an authority does that looks at it by itself.
#[derive(Debug)]
struct Seen(std::sync::Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
