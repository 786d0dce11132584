//! Clients that do not mean well, or are not clients of TLS at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};

use config::model::TlsVersion;
use net::stream::Stream;
use net::tls::{HandshakeError, accept};

use crate::common::{on_worker, read, tcp_pair, write_all};
use crate::support::{NAME, Place, foreign_client, only, policy};

/// What comes of a client that sends `bytes` and then no more.
async fn greeted_with(bytes: &[u8]) -> (HandshakeError, Vec<u8>) {
    let place = Place::new();
    let (near, mut far) = tcp_pair().await;
    far.write_all(bytes).unwrap();
    far.shutdown(std::net::Shutdown::Write).unwrap();
    let error = accept(near, |_| Some(place.server(&policy()))).await.unwrap_err();
    let mut answer = Vec::new();
    let _ = far.read_to_end(&mut answer);
    (error, answer)
}

fn client_hello() -> Vec<u8> {
    let mut hello = Vec::new();
    foreign_client(&Place::new()).write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn plain_http_is_told_from_a_broken_client() {
    on_worker(async {
        for text in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "P"] {
            let (near, mut far) = tcp_pair().await;
            far.write_all(text.as_bytes()).unwrap();
            let error = accept(near, |_| None).await.unwrap_err();
            assert!(error.to_string().contains("plain HTTP request to a TLS port"));
            let HandshakeError::PlainHttp(plain) = error else { panic!("{error}") };
            assert_eq!(plain.received, text.as_bytes());
            write_all(&plain.stream, b"HTTP/1.1 400").await.unwrap();
            drop(plain);
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"HTTP/1.1 400", "the connection is still there");
        }
    });
}

#[test]
fn garbage_is_answered_by_an_alert() {
    on_worker(async {
        for bytes in
            [&b"\0\0\0\0\0\0\0\0"[..], b"\x16\x03\x01\xff\xff\x01", b"hello, who is there?"]
        {
            let (error, answer) = greeted_with(bytes).await;
            assert!(matches!(error, HandshakeError::Refused(_)), "{error}");
            assert_eq!(answer.first(), Some(&21), "an alert");
        }
        let (error, _) = greeted_with(b"hello, who is there?").await;
        assert!(error.to_string().contains("is not TLS"), "{error}");
    });
}

#[test]
fn a_client_that_leaves_before_it_has_said_all_is_no_more_than_gone() {
    on_worker(async {
        let hello = client_hello();
        for length in [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
            let (error, _) = greeted_with(&hello[..length]).await;
            assert!(matches!(error, HandshakeError::Closed(_)), "{length}: {error}");
        }
    });
}

#[test]
fn every_byte_of_a_client_hello_may_be_wrong() {
    on_worker(async {
        let place = Place::new();
        let config = place.server(&policy());
        let hello = client_hello();
        for index in 0..hello.len().min(400) {
            for flip in [0x01, 0x80, 0xff] {
                let mut wrong = hello.clone();
                wrong[index] ^= flip;
                let (near, far) = Stream::pair().unwrap();
                write_all(&far, &wrong).await.unwrap();
                far.shutdown_write().unwrap();
                assert!(accept(near, |_| Some(config.clone())).await.is_err());
            }
        }
    });
}

#[test]
fn rfc6066_3_a_name_nobody_has_is_answered_by_unrecognized_name() {
    on_worker(async {
        let (near, mut far) = tcp_pair().await;
        far.write_all(&client_hello()).unwrap();
        let error = accept(near, |hello| {
            assert_eq!(hello.server_name, Some(NAME));
            None
        });
        let error = error.await.unwrap_err();
        assert!(matches!(&error, HandshakeError::UnknownName(Some(name)) if &**name == NAME));
        assert!(error.to_string().contains(NAME));
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 112]);
    });
}

/// Passes on one byte at a time.
struct Dripping(TcpStream);

impl Write for Dripping {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes.get(..1).unwrap_or_default())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Read for Dripping {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf.get_mut(..1).unwrap_or_default())
    }
}

#[test]
fn cve_2026_32305_a_hello_in_pieces_chooses_the_same_site() {
    on_worker(async {
        let place = Place::new();
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let (near, far) = tcp_pair().await;
            far.set_nodelay(true).unwrap();
            let mut session = foreign_client(&place);
            let client = thread::spawn(move || {
                let mut far = Dripping(far);
                let mut stream = rustls::Stream::new(&mut session, &mut far);
                stream.write_all(b"ping").unwrap();
                let mut buf = [0; 4];
                stream.read_exact(&mut buf).unwrap();
                buf
            });
            let mut asked = 0;
            let server = accept(near, |hello| {
                asked += 1;
                assert_eq!(hello.server_name, Some(NAME));
                Some(place.server(&only(version)))
            });
            let server = server.await.unwrap();
            assert_eq!(asked, 1);
            let mut buf = [0; 16];
            assert_eq!(read(&server, &mut buf).await.unwrap(), 4);
            write_all(&server, b"pong").await.unwrap();
            assert_eq!(&client.join().unwrap(), b"pong");
        }
    });
}

/// A client of TLS 1.3 that asks for new keys `times` times, then says "ping" and returns what it
/// hears.
fn restless_client(place: &Place, far: TcpStream, times: usize) -> JoinHandle<Vec<u8>> {
    let mut session = foreign_client(place);
    thread::spawn(move || {
        let mut far = far;
        while session.is_handshaking() {
            session.complete_io(&mut far).unwrap();
        }
        for _ in 0..times {
            session.refresh_traffic_keys().unwrap();
            if session.write_tls(&mut far).is_err() {
                return Vec::new();
            }
        }
        let mut stream = rustls::Stream::new(&mut session, &mut far);
        let mut heard = vec![0; 4];
        match stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut heard)) {
            Ok(()) => heard,
            Err(_) => Vec::new(),
        }
    })
}

#[test]
fn rfc8446_4_6_3_new_keys_are_answered_by_new_keys_with_the_next_bytes() {
    on_worker(async {
        let place = Place::new();
        let (near, far) = tcp_pair().await;
        let client = restless_client(&place, far, 20);
        let server = accept(near, |_| Some(place.server(&policy()))).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(read(&server, &mut buf).await.unwrap(), 4);
        write_all(&server, b"pong").await.unwrap();
        assert_eq!(client.join().unwrap(), b"pong");
    });
}

#[test]
fn rfc8446_4_6_3_a_flood_of_new_keys_ends_the_connection() {
    on_worker(async {
        let place = Place::new();
        let (near, far) = tcp_pair().await;
        let client = restless_client(&place, far, 100_000);
        let server = accept(near, |_| Some(place.server(&policy()))).await.unwrap();
        for _ in 0..2 {
            let error = read(&server, &mut [0; 16]).await.unwrap_err();
            let inner = error.get_ref().unwrap();
            assert!(inner.is::<net::tls::TlsFault>());
            assert!(inner.to_string().contains("KeyUpdate"), "{inner}");
        }
        drop(server);
        assert!(client.join().unwrap().is_empty());
    });
}

#[test]
fn a_record_that_was_changed_on_its_way_is_an_error_and_no_bytes() {
    on_worker(async {
        let place = Place::new();
        let (near, mut far) = tcp_pair().await;
        let mut session = foreign_client(&place);
        let client = thread::spawn(move || {
            while session.is_handshaking() {
                session.complete_io(&mut far).unwrap();
            }
            let mut record = Vec::new();
            session.writer().write_all(b"pay 100 to alice").unwrap();
            while session.wants_write() {
                session.write_tls(&mut record).unwrap();
            }
            *record.last_mut().unwrap() ^= 1;
            far.write_all(&record).unwrap();
            let mut answer = Vec::new();
            let _ = far.read_to_end(&mut answer);
            answer
        });
        let server = accept(near, |_| Some(place.server(&policy()))).await.unwrap();
        let error = read(&server, &mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(!server.idle_check());
        drop(server);
        assert!(!client.join().unwrap().is_empty(), "it is told by an alert");
    });
}
