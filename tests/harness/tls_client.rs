//! Clients that speak TLS to Ravelin, and the sites they speak to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, NamedGroup, StreamOwned, SupportedProtocolVersion};

use super::{Authority, Client, PATIENCE, Pair, Setup, Sock};

/// A client of TLS. It keeps sessions between its connections and offers them to any host: one that
/// wants to slip in does not keep to the name it was let in for.
#[derive(Clone)]
pub struct TlsClient {
    pub config: rustls::ClientConfig,
}

impl TlsClient {
    /// Speaks TLS 1.2 and 1.3 and HTTP/1.1, and trusts this authority.
    pub fn trusting(authority: &Authority) -> TlsClient {
        TlsClient::new(authority, None, &[&TLS13, &TLS12])
    }

    /// The same with TLS 1.2 only.
    pub fn tls12(authority: &Authority) -> TlsClient {
        TlsClient::new(authority, None, &[&TLS12])
    }

    /// The same with a certificate of its own.
    pub fn showing(authority: &Authority, pair: &Pair) -> TlsClient {
        TlsClient::new(authority, Some(pair), &[&TLS13, &TLS12])
    }

    pub fn new(
        authority: &Authority,
        pair: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsClient {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authority.roots());
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::store(Arc::new(AnyHost(ClientSessionMemoryCache::new(8))));
        TlsClient { config }
    }

    /// Shakes hands with whoever has this name there.
    #[track_caller]
    pub fn connect(&self, to: SocketAddr, name: &str) -> Client {
        self.try_connect(to, name).unwrap_or_else(|e| panic!("no TLS with {name} at {to}: {e}"))
    }

    /// The same; else what went wrong.
    pub fn try_connect(&self, to: SocketAddr, name: &str) -> Result<Client, String> {
        self.try_connect_over(open(to)?, name)
    }

    /// The same over this connection.
    pub fn try_connect_over(&self, socket: TcpStream, name: &str) -> Result<Client, String> {
        let mut stream = self.session(socket, name);
        stream.sock.set_nodelay(true).unwrap();
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|e| e.to_string())?;
        }
        Ok(Client::over(Sock::Tls(Box::new(stream))))
    }

    /// Why this client does not get in. In TLS 1.3 a server speaks last, so that a client has to ask to
    /// be told.
    #[track_caller]
    pub fn refusal(&self, to: SocketAddr, name: &str) -> String {
        let ask = || {
            let mut stream = self.session(open(to).unwrap(), name);
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())?;
            let mut answer = vec![0; 4096];
            stream.read(&mut answer).map(|count| {
                answer.truncate(count);
                String::from_utf8_lossy(&answer).into_owned()
            })
        };
        match ask() {
            Ok(answer) => panic!("{name} at {to} let the client in: {answer}"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("{name} at {to} did not answer")
            }
            Err(error) => error.to_string(),
        }
    }

    fn session(&self, socket: TcpStream, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).unwrap();
        StreamOwned::new(session, socket)
    }
}

fn open(to: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect_timeout(&to, PATIENCE).map_err(|e| e.to_string())
}

impl Pair {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

impl Client {
    /// What the handshake settled.
    #[track_caller]
    pub fn tls(&self) -> &ClientConnection {
        match &self.wire.sock {
            Sock::Tls(stream) => &stream.conn,
            _ => panic!("the connection has no TLS"),
        }
    }

    /// The server showed the certificate of this pair.
    #[track_caller]
    pub fn was_shown(&self, pair: &Pair) -> bool {
        self.tls().peer_certificates().unwrap()[0] == pair.der()
    }

    /// A GET for a host, keeping the connection.
    #[track_caller]
    pub fn get_from(&mut self, host: &str, target: &str) -> super::Response {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }
}

impl Setup {
    /// Puts a certificate and its key where [`tls_site`] names them.
    pub fn pair(self, host: &str, pair: &Pair) -> Setup {
        let name = file_name(host);
        self.file(&format!("{name}.pem"), &pair.certificate).file(&format!("{name}.key"), &pair.key)
    }
}

fn file_name(host: &str) -> String {
    host.replace('*', "any")
}

/// A site called as its host, with TLS: the certificate in `HOST.pem`, the key in `HOST.key`, every
/// path to this upstream. `ssl` continues its `[sites.ssl]` table and may open its own.
pub fn tls_site(host: &str, ssl: &str, url: &str) -> String {
    let file = file_name(host);
    format!(
        "[[sites]]\nname = \"{host}\"\nhostname = \"{host}\"\nlisten = [\"127.0.0.1:0\"]\n\
         [sites.proxy]\nenabled = true\n\
         [[sites.proxy.upstreams]]\nname = \"backend\"\nurl = \"{url}\"\n\
         [[sites.proxy.routes]]\npath = \"/\"\nupstream = \"backend\"\nwebsocket = true\n\
         [sites.ssl]\nenabled = true\ncert_file = \"{file}.pem\"\nkey_file = \"{file}.key\"\n{ssl}\n"
    )
}

/// Sessions without regard to whom they were made with.
#[derive(Debug)]
struct AnyHost(ClientSessionMemoryCache);

fn anybody() -> ServerName<'static> {
    ServerName::try_from("anybody.test").unwrap()
}

impl ClientSessionStore for AnyHost {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(anybody(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&anybody())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(anybody(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&anybody())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&anybody());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(anybody(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&anybody())
    }
}
