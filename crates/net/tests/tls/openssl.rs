//! Another implementation at the other end: `openssl s_client`, where it is installed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use config::model::TlsVersion;
use net::stream::Stream;
use net::tls::accept;

use crate::common::{on_worker, read, write_all};
use crate::support::{NAME, Place, only};

/// Runs a client that says `input`; the server hears it and answers "pong" once it has. Returns what
/// the client prints, or `None` if it is not installed.
fn converse(version: TlsVersion, extra: &[&str], input: &str) -> Option<(Vec<u8>, String)> {
    on_worker(async {
        let place = Place::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let authority = place.directory.path().join("ca.pem");
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-servername", NAME, "-verify_return_error"])
            .arg("-CAfile")
            .arg(authority)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut keyboard = client.stdin.take().unwrap();
        keyboard.write_all(input.as_bytes()).unwrap();
        let near = Stream::Tcp(listener.accept().await.unwrap().0);
        let stream = accept(near, |_| Some(place.server(&only(version)))).await.unwrap();
        let (mut heard, mut buf) = (Vec::new(), [0; 1024]);
        while !heard.ends_with(b"\n") {
            match read(&stream, &mut buf).await {
                Ok(0) | Err(_) => break,
                Ok(count) => heard.extend_from_slice(&buf[..count]),
            }
        }
        let _ = write_all(&stream, b"pong\n").await;
        drop(stream);
        drop(keyboard);
        let output = client.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        Some((heard, String::from_utf8_lossy(&said).into_owned()))
    })
}

#[test]
fn openssl_speaks_both_versions_with_us() {
    for (version, name) in [(TlsVersion::Tls12, "TLSv1.2"), (TlsVersion::Tls13, "TLSv1.3")] {
        let extra = ["-alpn", "h2,http/1.1", "-quiet", "-brief"];
        let Some((heard, said)) = converse(version, &extra, "ping\n") else {
            return println!("openssl is not installed; nothing was tried");
        };
        assert_eq!(heard, b"ping\n");
        assert!(said.contains("pong"), "{said}");
        assert!(said.contains(name), "{said}");
        assert!(said.contains("Verification: OK"), "{said}");
    }
}

#[test]
fn rfc5246_7_2_2_renegotiation_is_turned_down() {
    // A line with R alone makes this client ask for a new handshake.
    let Some((heard, said)) = converse(TlsVersion::Tls12, &[], "R\nping\n") else {
        return println!("openssl is not installed; nothing was tried");
    };
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(said.contains("no renegotiation"), "{said}");
    assert!(heard.is_empty(), "it gives up");
}
