//! Certificates made for a test, the two sides of a handshake, and bytes to exchange.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use config::model::{ClientAuth, TlsPolicy, TlsVersion, UpstreamHttp, UpstreamTls};
use net::stream::Stream;
use net::tls::{
    ClientConfig, HandshakeError, Identity, IdentitySlot, ServerConfig, Tickets, accept, connect,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::common::{read, write_all};

/// A directory of its own for a test, removed at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ravelin-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority that only this test knows.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        self.sign(names, |_| {})
    }

    pub(crate) fn client(&self, name: &str) -> Pair {
        self.sign(&[], |params| {
            params.distinguished_name.push(DnType::OrganizationName, "Ravelin");
            params.distinguished_name.push(DnType::CommonName, name);
        })
    }

    pub(crate) fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    pub(crate) fn identity(&self) -> Identity {
        let (certificate, key) = (self.certificate.as_bytes(), self.key.as_bytes());
        Identity::from_pem(certificate, Some(key)).unwrap()
    }
}

/// What holds when nothing is configured.
pub(crate) fn policy() -> TlsPolicy {
    TlsPolicy {
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        ciphers: Vec::new(),
        groups: Vec::new(),
        client_auth: None,
        http2: true,
        tickets: true,
    }
}

pub(crate) fn only(version: TlsVersion) -> TlsPolicy {
    TlsPolicy { min_version: version, max_version: version, ..policy() }
}

/// As [`policy`], with certificates of clients.
pub(crate) fn asking_clients(required: bool) -> TlsPolicy {
    let client_auth = Some(ClientAuth { ca_file: PathBuf::from("clients.pem").into(), required });
    TlsPolicy { client_auth, ..policy() }
}

/// A server `www.a.test`, and what its clients need.
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) authority: Authority,
    pub(crate) identity: Arc<IdentitySlot>,
    pub(crate) tickets: Tickets,
}

pub(crate) const NAME: &str = "www.a.test";

impl Place {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("authority");
        let identity = IdentitySlot::new(authority.server(&[NAME]).identity());
        let directory = Directory::new();
        directory.file("ca.pem", &authority.pem);
        Self { directory, authority, identity, tickets: Tickets::new() }
    }

    /// Its authority signs certificates of clients, too.
    pub(crate) fn server(&self, policy: &TlsPolicy) -> ServerConfig {
        let clients = policy.client_auth.is_some().then_some(self.authority.pem.as_bytes());
        let identity = Arc::clone(&self.identity);
        ServerConfig::new(policy, clients, identity, &self.tickets).unwrap()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::new(&self.upstream(), UpstreamHttp::Http1).unwrap()
    }

    pub(crate) fn client_with(&self, pair: &Pair) -> ClientConfig {
        let certificate = self.directory.file("client.pem", &pair.certificate);
        let key = self.directory.file("client.key", &pair.key);
        let tls = UpstreamTls {
            client_certificate: Some((certificate.into(), key.into())),
            ..self.upstream()
        };
        ClientConfig::new(&tls, UpstreamHttp::Http1).unwrap()
    }

    pub(crate) fn upstream(&self) -> UpstreamTls {
        UpstreamTls {
            verify: true,
            ca_file: Some(self.directory.path().join("ca.pem").into()),
            server_name: None,
            client_certificate: None,
        }
    }
}

/// Both sides of a handshake over a Unix pair: server, client.
pub(crate) async fn shake(
    server: &ServerConfig,
    client: &ClientConfig,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    let (near, far) = Stream::pair().unwrap();
    shake_on(near, far, server, client).await
}

pub(crate) async fn shake_on(
    near: Stream,
    far: Stream,
    server: &ServerConfig,
    client: &ClientConfig,
) -> (Result<Stream, HandshakeError>, Result<Stream, HandshakeError>) {
    // What a client says last may leave with its first bytes only.
    let client = async {
        let stream = connect(far, client, NAME).await?;
        poll_fn(|cx| stream.poll_write(cx, b"hello")).await.map_err(HandshakeError::Closed)?;
        Ok(stream)
    };
    let server = async {
        let stream = accept(near, |_| Some(server.clone())).await?;
        let mut buf = [0; 16];
        assert_eq!(read(&stream, &mut buf).await.map_err(HandshakeError::Closed)?, 5);
        Ok(stream)
    };
    both(server, client).await
}

/// As [`shake`], where both must succeed.
pub(crate) async fn connected(server: &ServerConfig, client: &ClientConfig) -> (Stream, Stream) {
    let (server, client) = shake(server, client).await;
    (server.unwrap(), client.unwrap())
}

/// One request and its response, by which tickets travel.
pub(crate) async fn talk(server: &Stream, client: &Stream) {
    let mut buf = [0; 64];
    write_all(client, b"ping").await.unwrap();
    assert_eq!(read(server, &mut buf).await.unwrap(), 4);
    write_all(server, b"pong").await.unwrap();
    assert_eq!(read(client, &mut buf).await.unwrap(), 4);
}

/// Whether a session resumes one that this client has had. Ends with a request and a response.
pub(crate) async fn resumes(server: &ServerConfig, client: &ClientConfig) -> bool {
    let (server, client) = connected(server, client).await;
    talk(&server, &client).await;
    let resumed = server.tls().unwrap().resumed;
    assert_eq!(client.tls().unwrap().resumed, resumed);
    resumed
}

/// Drives two futures to their ends.
pub(crate) async fn both<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut a, mut b) = (None, None);
    poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(cx)
        {
            a = Some(result);
        }
        if b.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(cx)
        {
            b = Some(result);
        }
        if a.is_some() && b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (a.unwrap(), b.unwrap())
}

/// A rustls client of the test's own, for what Ravelin's does not do.
pub(crate) fn foreign_client(place: &Place) -> rustls::ClientConnection {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let authority = place.authority.pem.as_bytes();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    rustls::ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap()
}
