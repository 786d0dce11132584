//! A small blocking HTTP/1.1 client: is a server ready, does it answer right, what did it forward.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

/// A response, read to its end.
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The bytes after the head.
    pub(crate) body: Vec<u8>,
}

/// Connects, with a limit on every later read and write.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One GET request on a connection that stays open; `host` is what it was opened to.
pub(crate) fn get(
    stream: &mut (impl Read + Write),
    host: SocketAddr,
    path: &str,
) -> Result<Response> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    read_response(stream)
}

fn read_response(stream: &mut impl Read) -> Result<Response> {
    let mut input = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err("the connection was closed before the response was complete".into());
        }
        input.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let Some(head) = head_length(&input) else { continue };
        let (head, body) = input.split_at(head);
        if let Some(body) = body.get(..content_length(head).unwrap_or(0)) {
            return Ok(Response { status: status(head)?, body: body.to_vec() });
        }
    }
}

/// Bytes of a head, its empty line included, if it is there in full.
pub(crate) fn head_length(input: &[u8]) -> Option<usize> {
    input.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field of this name, in any case.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The length the head announces.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    field(head, "content-length")?.parse().ok()
}

fn status(head: &[u8]) -> Result<u16> {
    let line = String::from_utf8_lossy(head.split(|&b| b == b'\r').next().unwrap_or_default());
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.ok_or_else(|| format!("not a status line: {line}").into())
}
