//! One JSON object a line, valid for any bytes a client may send. Times are whole microseconds.
//!
//! Every request has a line, and most of what it costs is that each of its forty pieces waits for the
//! place of the one before. So a line is written into room that is enough for all of it ([`room_for`]),
//! what is left of that goes from hand to hand by value, and short pieces are copied as so many bytes as
//! the longest of them has.
//!
//! What always holds: a piece for which there is no room is left out; nothing is in a line that was not
//! written for it.

use super::escape::{self, address, json_text};
use super::sampling::{Chance, share};
use super::stamp::Stamp;
use super::{Ended, Record, reasons};
use crate::copy::{copy, copy_first};

/// Room for the lines of requests whose texts have about a thousand bytes.
const ROOM_USUAL: usize = 8 * 1024;
/// Most bytes that a byte of a text becomes.
const ESCAPE_MAX: usize = 6;
/// Room for all that is no text of the record.
const ROOM_FIXED: usize = 2 * 1024;

/// Where lines are written before they go to the others.
#[derive(Debug, Default)]
pub(super) struct Room(Vec<u8>);

/// What stands before a number or a word.
macro_rules! key {
    ($name:literal) => {
        const { &Key::new(concat!(",\"", $name, "\":")) }
    };
}

/// What stands before a text, with its quote.
macro_rules! text_key {
    ($name:literal) => {
        const { &Key::new(concat!(",\"", $name, "\":\"")) }
    };
}

/// What stands before a value.
struct Key {
    /// The first of them are meant.
    bytes: [u8; 24],
    len: usize,
}

impl Key {
    /// For constants only: what is too long does not compile.
    const fn new(text: &str) -> Self {
        let mut key = Self { bytes: [0; 24], len: text.len() };
        key.bytes.split_at_mut(text.len()).0.copy_from_slice(text.as_bytes());
        key
    }
}

/// Appends the line; fields that are not known are left out.
pub(super) fn line(
    out: &mut Vec<u8>,
    Room(usual): &mut Room,
    stamp: &mut Stamp,
    record: &Record<'_>,
    chance: Chance,
) {
    let needed = room_for(record);
    let mut large = Vec::new();
    let room = if needed > ROOM_USUAL { &mut large } else { usual };
    if room.len() < needed {
        room.resize(needed.max(ROOM_USUAL), 0);
    }
    let left = write(room, stamp, record, chance).len();
    out.extend_from_slice(room.get(..room.len() - left).unwrap_or_default());
}

/// What the line of this record takes at most.
fn room_for(record: &Record<'_>) -> usize {
    let tls = record.tls.map_or(0, |tls| {
        let client = tls.client.as_ref().map_or(0, |client| client.subject.len());
        tls.server_name.as_deref().unwrap_or_default().len() + client
    });
    let texts = [
        record.user.len(),
        record.method.len(),
        record.target.len(),
        record.host.len(),
        record.referer.len(),
        record.user_agent.len(),
        record.site.len(),
        record.route.map_or(0, str::len),
        record.endpoint.len(),
        record.pool.map_or(0, |pool| pool.name.len()),
        record.request_id.len(),
        tls,
    ];
    ROOM_FIXED + texts.iter().sum::<usize>() * ESCAPE_MAX
}

/// Writes the line; the room that is left.
fn write<'w>(
    room: &'w mut [u8],
    stamp: &mut Stamp,
    record: &Record<'_>,
    chance: Chance,
) -> &'w mut [u8] {
    let (second, millis) = stamp.rfc3339_parts(record.wall_us);
    let room = copy(room, b"{\"time\":\"");
    let room = copy(copy(room, second), b".");
    let room = copy(copy(room, &millis), b"\"");
    let room = client(room, record);
    let room = text(room, text_key!("user"), record.user);
    let room = text(room, text_key!("method"), record.method);
    let room = text(room, text_key!("target"), record.target);
    let room = match record.version {
        // That of most lines, as one piece.
        "HTTP/1.1" => copy(room, b",\"version\":\"HTTP/1.1\""),
        version => text(room, text_key!("version"), version.as_bytes()),
    };
    let room = count(room, key!("status"), u64::from(record.status));
    let room = count(room, key!("response_bytes"), record.response_bytes);
    let room = count(room, key!("request_bytes"), record.request_bytes);
    let room = text(room, text_key!("host"), record.host);
    let room = text(room, text_key!("referer"), record.referer);
    let room = text(room, text_key!("user_agent"), record.user_agent);
    let room = text(room, text_key!("site"), record.site.as_bytes());
    let room = proxied(room, record);
    let room = text(room, text_key!("id"), record.request_id);
    let room = match record.traced {
        Some(traced) => text(room, text_key!("trace_id"), &traced.trace_text()),
        None => room,
    };
    let room = tls(room, record);
    let room = times(room, record);
    let room = match chance.share() {
        Some(of_million) => {
            let mut digits = Vec::new();
            share(&mut digits, of_million);
            word(room, key!("sample"), &digits)
        }
        None => room,
    };
    let room = ended(room, record.ended);
    copy(room, b"}\n")
}

fn client<'w>(room: &'w mut [u8], record: &Record<'_>) -> &'w mut [u8] {
    let Some(ip) = record.client else { return room };
    let room = match record.client_text {
        [] => {
            let mut text_of_it = Vec::with_capacity(40);
            address(&mut text_of_it, ip);
            text(room, text_key!("client"), &text_of_it)
        }
        text_of_it => text(room, text_key!("client"), text_of_it),
    };
    count(room, key!("client_port"), u64::from(record.client_port))
}

fn proxied<'w>(room: &'w mut [u8], record: &Record<'_>) -> &'w mut [u8] {
    let Some(route) = record.route else { return room };
    let room = text(room, text_key!("proxy"), route.as_bytes());
    let room = text(room, text_key!("upstream"), record.endpoint.as_bytes());
    let room = text(room, text_key!("pool"), record.pool.map_or(&[], |pool| pool.name.as_bytes()));
    let room = match record.cache {
        "-" => room,
        cache => text(room, text_key!("cache"), cache.as_bytes()),
    };
    match (record.attempts, record.reused) {
        // Those of most lines, as one piece.
        (1, true) => copy(room, b",\"attempts\":1,\"reused\":true"),
        (1, false) => copy(room, b",\"attempts\":1,\"reused\":false"),
        (0, _) => copy(room, b",\"attempts\":0"),
        (attempts, reused) => {
            let room = count(room, key!("attempts"), u64::from(attempts));
            truth(room, key!("reused"), reused)
        }
    }
}

fn tls<'w>(room: &'w mut [u8], record: &Record<'_>) -> &'w mut [u8] {
    let Some(tls) = record.tls else { return room };
    let room = text(room, text_key!("tls"), tls.version.as_bytes());
    let room = text(room, text_key!("cipher"), tls.cipher.as_bytes());
    let name = tls.server_name.as_deref().unwrap_or_default();
    let room = text(room, text_key!("sni"), name.as_bytes());
    let room = truth(room, key!("resumed"), tls.resumed);
    match &tls.client {
        Some(client) => text(room, text_key!("client_subject"), client.subject.as_bytes()),
        None => room,
    }
}

fn times<'w>(room: &'w mut [u8], record: &Record<'_>) -> &'w mut [u8] {
    let times = &record.times;
    let room = count(room, key!("total_us"), times.total);
    let room = time(room, key!("accept_us"), times.accept);
    let room = time(room, key!("tls_us"), times.tls);
    let room = time(room, key!("head_us"), times.head);
    let room = time(room, key!("held_us"), times.held);
    let room = time(room, key!("queue_us"), times.queue);
    let room = time(room, key!("connect_us"), times.connect);
    let room = time(room, key!("first_byte_us"), times.first_byte);
    time(room, key!("transfer_us"), times.transfer)
}

/// A time that was not measured has no place in the line.
#[inline]
fn time<'w>(room: &'w mut [u8], key: &Key, micros: Option<u64>) -> &'w mut [u8] {
    match micros {
        Some(micros) => count(room, key, micros),
        None => room,
    }
}

fn ended(room: &mut [u8], ended: Ended) -> &mut [u8] {
    match ended {
        Ended::Complete => copy(room, b",\"ended\":\"complete\""),
        Ended::Failed { by, phase, cause } => {
            let room = text(room, text_key!("ended"), by.as_str().as_bytes());
            let room = text(room, text_key!("phase"), phase.as_str().as_bytes());
            let room = text(room, text_key!("cause"), cause.as_str().as_bytes());
            text(room, text_key!("reason"), reasons::of(by, phase, cause).name.as_bytes())
        }
    }
}

fn truth<'w>(room: &'w mut [u8], key: &Key, value: bool) -> &'w mut [u8] {
    word(room, key, if value { b"true" } else { b"false" })
}

fn word<'w>(room: &'w mut [u8], key: &Key, value: &[u8]) -> &'w mut [u8] {
    copy(copy_first(room, &key.bytes, key.len), value)
}

// The two below are calls on purpose: in their place a line's code is half as long again, and to fetch it
// costs more than to call.
#[inline(never)]
fn count<'w>(room: &'w mut [u8], key: &Key, value: u64) -> &'w mut [u8] {
    let room = copy_first(room, &key.bytes, key.len);
    match escape::small_number(value) {
        Some((digits, len)) => copy_first(room, &digits, len),
        None => copy(room, itoa::Buffer::new().format(value).as_bytes()),
    }
}

/// A text that is empty has no place in the line.
#[inline]
fn text<'w>(room: &'w mut [u8], key: &Key, value: &[u8]) -> &'w mut [u8] {
    match value {
        [] => room,
        value => quoted(room, key, value),
    }
}

#[inline(never)]
fn quoted<'w>(room: &'w mut [u8], key: &Key, value: &[u8]) -> &'w mut [u8] {
    let room = copy_first(room, &key.bytes, key.len);
    let room = match escape::are_plain(value) {
        true => copy(room, value),
        false => escaped(room, value),
    };
    copy_first(room, b"\"", 1)
}

#[cold]
fn escaped<'w>(room: &'w mut [u8], value: &[u8]) -> &'w mut [u8] {
    let mut text = Vec::new();
    json_text(&mut text, value);
    copy(room, &text)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local, proxied};
    use super::super::{Cause, Party, Phase};
    use super::*;

    fn written(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        line(&mut out, &mut Room::default(), &mut Stamp::default(), record, Chance::ALL);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_proxied_request() {
        assert_eq!(
            written(&proxied()),
            "{\"time\":\"2026-11-21T03:48:01.250Z\",\"client\":\"192.0.2.7\",\
             \"client_port\":40001,\"method\":\"GET\",\"target\":\"/api/x?q=1\",\
             \"version\":\"HTTP/1.1\",\"status\":200,\"response_bytes\":612,\"request_bytes\":0,\
             \"host\":\"example.com\",\"user_agent\":\"curl/8.5.0\",\"site\":\"main\",\
             \"proxy\":\"/api/\",\"upstream\":\"http://10.0.0.2:80\",\"attempts\":1,\
             \"reused\":true,\"id\":\"7\",\"total_us\":1204,\"head_us\":9,\
             \"first_byte_us\":1100,\"ended\":\"complete\"}\n"
        );
    }

    #[test]
    fn a_failure_names_party_phase_and_cause() {
        let line = written(&failed(504, Party::Upstream, Phase::FirstByte, Cause::Timeout));
        assert!(
            line.ends_with(
                ",\"ended\":\"upstream\",\"phase\":\"first_byte\",\"cause\":\"timeout\",\
                 \"reason\":\"response_timeout\"}\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn a_text_of_any_length_is_in_its_line_whole() {
        let mut room = Room::default();
        for len in [0, 1, 7, 15, 40, 1_400, 1_500, 70_000, 3] {
            for byte in [b'a', b'"', 0x01, 0xff] {
                let text = vec![byte; len];
                let record = Record { target: &text, user_agent: &text, ..proxied() };
                let mut out = Vec::new();
                line(&mut out, &mut room, &mut Stamp::default(), &record, Chance::ALL);
                let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
                for field in ["target", "user_agent"] {
                    let written = read[field].as_str().unwrap_or_default();
                    assert_eq!(written, String::from_utf8_lossy(&text), "{len} of {byte}");
                }
                assert_eq!(read["ended"], "complete");
            }
        }
        assert_eq!(room.0.len(), ROOM_USUAL);
    }

    #[test]
    fn any_bytes_give_valid_json_of_one_line() {
        let every: Vec<u8> = (0..=255).collect();
        let line = written(&Record { target: &every, user_agent: &every, host: &every, ..local() });
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.trim_end().bytes().all(|byte| byte >= 0x20));
        // Every quote that is not escaped opens or closes a string: an even number in all.
        let mut quotes = 0;
        let mut bytes = line.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => quotes += 1,
                _ => {}
            }
        }
        assert_eq!(quotes % 2, 0);
    }
}
