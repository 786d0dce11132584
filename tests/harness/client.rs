//! A client that sends exactly the bytes it is told and reads strictly.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Broken, PATIENCE, Response, Sock, Wire};

pub struct Client {
    pub wire: Wire,
}

impl Client {
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .unwrap_or_else(|e| panic!("cannot connect to {to}: {e}"));
        stream.set_nodelay(true).unwrap();
        Client::over(Sock::Tcp(stream))
    }

    /// Connects from another loopback address, to look like another client.
    #[track_caller]
    pub fn connect_from(from: &str, to: SocketAddr) -> Client {
        let from: SocketAddr = format!("{from}:0").parse().unwrap();
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)
                .unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        Client::over(Sock::Tcp(socket.into()))
    }

    #[track_caller]
    pub fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path)
            .unwrap_or_else(|e| panic!("cannot connect to {}: {e}", path.display()));
        Client::over(Sock::Unix(stream))
    }

    pub fn over(sock: Sock) -> Client {
        sock.set_patience(PATIENCE);
        Client { wire: Wire::new(sock) }
    }

    /// Sends these bytes. That the peer has closed meanwhile is no failure of the test by itself.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.wire.sock.write_all(bytes.as_ref());
        self
    }

    /// A GET with a Host, keeping the connection.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        self.response("GET")
    }

    /// The next final response.
    #[track_caller]
    pub fn response(&mut self, method: &str) -> Response {
        self.wire.response(method).unwrap_or_else(|e| panic!("no whole response: {e:?}"))
    }

    /// Sends and reads the one response (to a method that may have a body).
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        let method = if request.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        self.send(request);
        self.response(method)
    }

    /// Asserts that Ravelin ends the connection without another byte.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.wire.some() {
            Err(Broken::Closed | Broken::Reset) => {}
            Err(e) => panic!("the connection stayed open: {e:?}"),
            Ok(bytes) => panic!("expected a close, got {:?}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// Ends the client's sending side only.
    pub fn finish(&mut self) {
        self.wire.sock.shutdown(Shutdown::Write);
    }

    /// Goes away rudely.
    pub fn reset(self) {
        self.wire.sock.reset_on_close();
    }
}
