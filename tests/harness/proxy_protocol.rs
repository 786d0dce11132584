//! Headers of the PROXY protocol as HAProxy's `proxy-protocol.txt` has them, and HAProxy itself.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use super::{TempDir, require};

/// The first twelve bytes of version 2.
pub const PROXY_V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2: its two bytes of what it is, and all that follows its length.
pub fn proxy_v2(command: u8, family: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = rest.as_ref();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [PROXY_V2_SIGNATURE, &[command, family][..], &length, rest].concat()
}

/// A header of version 2 for a TCP connection between these, with these TLVs.
pub fn proxy_v2_between(source: &str, destination: &str, tlvs: &[u8]) -> Vec<u8> {
    let [source, destination]: [SocketAddr; 2] = [source, destination].map(|a| a.parse().unwrap());
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut rest = [octets(source), octets(destination)].concat();
    rest.extend(source.port().to_be_bytes());
    rest.extend(destination.port().to_be_bytes());
    rest.extend_from_slice(tlvs);
    proxy_v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, rest)
}

/// A TLV of version 2.
pub fn proxy_tlv(kind: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// A header of version 1 for a TCP connection between these.
pub fn proxy_v1_between(source: &str, destination: &str) -> Vec<u8> {
    let [source, destination]: [SocketAddr; 2] = [source, destination].map(|a| a.parse().unwrap());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = format!("{} {}", source.port(), destination.port());
    format!("PROXY {family} {from} {to} {ports}\r\n").into_bytes()
}

/// HAProxy at a free port of 127.0.0.1.
pub struct HaProxy {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl HaProxy {
    /// With one frontend: what its `bind` line goes on with, and the lines after it.
    #[track_caller]
    pub fn start(bind: &str, lines: &str, files: &[(&str, &str)]) -> HaProxy {
        require("haproxy", &["-v"], "apt-get install haproxy");
        let dir = TempDir::new();
        for (name, content) in files {
            dir.write(name, content);
        }
        let path = dir.write(
            "haproxy.cfg",
            format!(
                "global\n    maxconn 200\ndefaults\n    timeout connect 5s\n    timeout client 20s\n    \
                 timeout server 20s\nfrontend f\n    bind fd@0 {bind}\n{lines}\n"
            ),
        );
        // It inherits the listening socket, so no port has to be chosen before it starts.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(path).current_dir(dir.path());
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        HaProxy { child, addr, _dir: dir }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
