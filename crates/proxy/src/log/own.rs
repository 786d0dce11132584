//! Lines in a format that the operator has put together.
//!
//! The names were looked up when the configuration was read; a line is one walk over a list of pieces.

use config::model::{LogEscape, LogPiece, LogTime, LogValue, OwnFormat, TimeUnit};
use net::tls::{Alpn, ClientCertificate};

use super::escape::{address, json_text, number, quoted, seconds};
use super::sampling::{Chance, share};
use super::stamp::Stamp;
use super::{Ended, Record, Times};

/// Appends the line.
pub(super) fn line(
    out: &mut Vec<u8>,
    stamp: &mut Stamp,
    record: &Record<'_>,
    chance: Chance,
    own: &OwnFormat,
) {
    let mut line = Line { out, escape: own.escape };
    for piece in &own.pieces {
        match piece {
            LogPiece::Text(text) => line.out.extend_from_slice(text.as_bytes()),
            LogPiece::Value(value) => line.value(*value, stamp, record, chance),
            LogPiece::Time(time, unit) => line.time(step(&record.times, *time), *unit),
            LogPiece::RequestField(name) => line.text(record.request_field(name)),
            LogPiece::ResponseField(index) => {
                let value = record.response_fields.get(*index);
                line.text(value.map_or(&[], |value| value));
            }
        }
    }
    line.out.push(b'\n');
}

/// A line under way.
struct Line<'o> {
    out: &'o mut Vec<u8>,
    escape: LogEscape,
}

impl Line<'_> {
    /// Bytes that somebody else chose.
    fn text(&mut self, bytes: &[u8]) {
        match self.escape {
            LogEscape::Default => quoted(self.out, bytes),
            LogEscape::Json => json_text(self.out, bytes),
        }
    }

    /// Bytes that are known to be plain.
    fn plain(&mut self, bytes: &[u8]) {
        match (bytes, self.escape) {
            ([], LogEscape::Default) => self.out.push(b'-'),
            (bytes, _) => self.out.extend_from_slice(bytes),
        }
    }

    fn number(&mut self, value: Option<u64>) {
        match (value, self.escape) {
            (Some(value), _) => number(self.out, value),
            (None, LogEscape::Default) => self.out.push(b'-'),
            (None, LogEscape::Json) => self.out.extend_from_slice(b"null"),
        }
    }

    fn time(&mut self, micros: Option<u64>, unit: TimeUnit) {
        match (micros, unit) {
            (Some(micros), TimeUnit::Seconds) => seconds(self.out, micros),
            (micros, TimeUnit::Millis) => self.number(micros.map(|micros| micros / 1_000)),
            (micros, _) => self.number(micros),
        }
    }

    fn value(&mut self, value: LogValue, stamp: &mut Stamp, record: &Record<'_>, chance: Chance) {
        let query = || record.target.iter().position(|byte| *byte == b'?');
        match value {
            LogValue::Time => stamp.rfc3339(self.out, record.wall_us),
            LogValue::TimeClf => self.out.extend_from_slice(stamp.clf(record.wall_us)),
            LogValue::TimeUnix => {
                number(self.out, record.wall_us / 1_000_000);
                let millis = record.wall_us / 1_000 % 1_000;
                self.out.push(b'.');
                for divisor in [100, 10, 1] {
                    self.out.push(b'0' + (millis / divisor % 10) as u8);
                }
            }
            LogValue::TimeUnixMillis => number(self.out, record.wall_us / 1_000),
            LogValue::Client => match record.client {
                Some(ip) => address(self.out, ip),
                None => self.plain(b"unix:"),
            },
            LogValue::ClientPort => number(self.out, u64::from(record.client_port)),
            LogValue::User => self.text(record.user),
            LogValue::RequestLine if record.method.is_empty() => self.text(record.target),
            LogValue::RequestLine => {
                self.text(record.method);
                self.out.push(b' ');
                self.text(record.target);
                self.out.push(b' ');
                self.plain(record.version.as_bytes());
            }
            LogValue::Method => self.text(record.method),
            LogValue::Target => self.text(record.target),
            LogValue::Path => {
                let end = query().unwrap_or(record.target.len());
                self.text(record.target.get(..end).unwrap_or_default());
            }
            LogValue::Query => {
                let behind = query().and_then(|at| record.target.get(at + 1..));
                self.text(behind.unwrap_or_default());
            }
            LogValue::Protocol => self.plain(record.version.as_bytes()),
            LogValue::Scheme if record.tls.is_some() => self.plain(b"https"),
            LogValue::Scheme => self.plain(b"http"),
            LogValue::Host => self.text(record.host),
            LogValue::Status => number(self.out, u64::from(record.status)),
            LogValue::BytesSent => number(self.out, record.response_bytes),
            LogValue::BytesReceived => number(self.out, record.request_bytes),
            LogValue::Id => self.text(record.request_id),
            LogValue::TraceId => match record.traced {
                Some(traced) => self.plain(&traced.trace_text()),
                None => self.plain(b""),
            },
            LogValue::Site => self.text(record.site.as_bytes()),
            LogValue::Route => self.text(record.route.unwrap_or_default().as_bytes()),
            LogValue::Pool => self.text(record.pool.map_or(&[], |pool| pool.name.as_bytes())),
            LogValue::Upstream => self.text(record.endpoint.as_bytes()),
            LogValue::Attempts => number(self.out, u64::from(record.attempts)),
            LogValue::Connection => self.plain(match (record.attempts, record.reused) {
                (0, _) => b"",
                (_, true) => b"reused",
                (_, false) => b"new",
            }),
            LogValue::Cache => self.plain(match record.cache {
                "" | "-" => b"",
                state => state.as_bytes(),
            }),
            LogValue::Port => number(self.out, u64::from(record.port)),
            LogValue::Ended => self.plain(match record.ended {
                Ended::Complete => b"complete",
                Ended::Failed { by, .. } => by.as_str().as_bytes(),
            }),
            LogValue::Phase => self.plain(match record.ended {
                Ended::Complete => b"",
                Ended::Failed { phase, .. } => phase.as_str().as_bytes(),
            }),
            LogValue::Cause => self.plain(match record.ended {
                Ended::Complete => b"",
                Ended::Failed { cause, .. } => cause.as_str().as_bytes(),
            }),
            LogValue::Reason => {
                self.plain(record.ended.reason().map_or(b"", |reason| reason.name.as_bytes()));
            }
            LogValue::Error => {
                self.plain(record.ended.reason().map_or(b"", |reason| reason.error.as_bytes()));
            }
            LogValue::Sample => share(self.out, chance.share().unwrap_or(1_000_000)),
            LogValue::TlsVersion
            | LogValue::TlsCipher
            | LogValue::TlsName
            | LogValue::TlsAlpn
            | LogValue::TlsResumed
            | LogValue::TlsClient
            | LogValue::TlsClientIssuer
            | LogValue::TlsClientSerial
            | LogValue::TlsClientFingerprint => self.text(tls(value, record)),
        }
    }
}

/// What a handshake settled; empty if there was none.
fn tls<'a>(value: LogValue, record: &Record<'a>) -> &'a [u8] {
    let Some(tls) = record.tls else { return &[] };
    let of_client = |part: fn(&ClientCertificate) -> &String| {
        tls.client.as_deref().map_or(&[][..], |client| part(client).as_bytes())
    };
    match value {
        LogValue::TlsVersion => tls.version.as_bytes(),
        LogValue::TlsCipher => tls.cipher.as_bytes(),
        LogValue::TlsName => tls.server_name.as_deref().unwrap_or_default().as_bytes(),
        LogValue::TlsAlpn => match tls.alpn {
            Alpn::None => b"",
            Alpn::Http11 => b"http/1.1",
            Alpn::Http2 => b"h2",
            Alpn::AcmeTls => b"acme-tls/1",
        },
        LogValue::TlsResumed if tls.resumed => b"true",
        LogValue::TlsResumed => b"false",
        LogValue::TlsClient => of_client(|client| &client.subject),
        LogValue::TlsClientIssuer => of_client(|client| &client.issuer),
        LogValue::TlsClientSerial => of_client(|client| &client.serial),
        LogValue::TlsClientFingerprint => of_client(|client| &client.fingerprint),
        _ => b"",
    }
}

fn step(times: &Times, step: LogTime) -> Option<u64> {
    match step {
        LogTime::Accept => times.accept,
        LogTime::Tls => times.tls,
        LogTime::Head => times.head,
        LogTime::Held => times.held,
        LogTime::Queue => times.queue,
        LogTime::Connect => times.connect,
        LogTime::FirstByte => times.first_byte,
        LogTime::Transfer => times.transfer,
        LogTime::Total => Some(times.total),
    }
}

/// Takes the values of these fields from the text of a response head: of each the first, in the order
/// of the names, which are in lower case.
pub(crate) fn note_fields(names: &[String], head: &[u8], values: &mut Vec<Vec<u8>>) {
    values.clear();
    values.resize_with(names.len(), Vec::new);
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let known = names.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let place = known.and_then(|index| values.get_mut(index)).filter(|place| place.is_empty());
        if let Some(place) = place {
            place.extend_from_slice(value.get(1..).unwrap_or_default().trim_ascii());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local, proxied};
    use super::super::{Cause, Party, Phase};
    use super::*;

    fn own(pieces: Vec<LogPiece>, escape: LogEscape) -> OwnFormat {
        OwnFormat { pieces, escape, response_fields: Vec::new() }
    }

    fn written(own: &OwnFormat, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        line(&mut out, &mut Stamp::default(), record, Chance::ALL, own);
        String::from_utf8(out).unwrap()
    }

    /// A value each, with a blank between them.
    fn values(values: &[LogValue]) -> OwnFormat {
        let pieces = values
            .iter()
            .flat_map(|value| [LogPiece::Value(*value), LogPiece::Text(" ".to_owned())]);
        own(pieces.collect(), LogEscape::Default)
    }

    #[test]
    fn values_of_a_request() {
        use LogValue as V;
        let format = values(&[V::Client, V::Method, V::Path, V::Query, V::Status, V::Upstream]);
        assert_eq!(
            written(&format, &proxied()),
            "192.0.2.7 GET /api/x q=1 200 http://10.0.0.2:80 \n"
        );
        let format = values(&[V::TimeUnix, V::TimeUnixMillis, V::RequestLine, V::Connection]);
        assert_eq!(
            written(&format, &proxied()),
            "1795232881.250 1795232881250 GET /api/x?q=1 HTTP/1.1 reused \n"
        );
        let format = values(&[V::Ended, V::Phase, V::Cause, V::Reason, V::Error, V::Sample]);
        assert_eq!(written(&format, &local()), "complete - - - - 1 \n");
        assert_eq!(
            written(&format, &failed(502, Party::Upstream, Phase::Connect, Cause::Refused)),
            "upstream connect refused connect_refused connection_refused 1 \n"
        );
    }

    #[test]
    fn every_value_can_be_written_of_a_request_that_was_never_read() {
        let all: Vec<LogValue> = LogValue::ALL.iter().map(|(_, value, _)| *value).collect();
        for escape in [LogEscape::Default, LogEscape::Json] {
            let format = OwnFormat { escape, ..values(&all) };
            let line = written(&format, &Record::default());
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[test]
    fn times_have_units_and_what_was_not_taken_is_a_dash() {
        let times = |unit| LogPiece::Time(LogTime::Total, unit);
        let space = || LogPiece::Text(" ".to_owned());
        let pieces = vec![
            times(TimeUnit::Seconds),
            space(),
            times(TimeUnit::Millis),
            space(),
            times(TimeUnit::Micros),
            space(),
            LogPiece::Time(LogTime::Connect, TimeUnit::Seconds),
        ];
        assert_eq!(
            written(&own(pieces.clone(), LogEscape::Default), &proxied()),
            "0.001204 1 1204 -\n"
        );
        assert_eq!(written(&own(pieces, LogEscape::Json), &proxied()), "0.001204 1 1204 null\n");
    }

    #[test]
    fn fields_are_taken_from_the_head_of_a_response_and_not_from_its_body() {
        let names = ["x-cache".to_owned(), "etag".to_owned(), "x-none".to_owned()];
        let head = b"HTTP/1.1 200 OK\r\nX-Cache:  hit \r\nx-cache: second\r\nETag: \"a\"\r\n\r\nX-None: body\r\n";
        let mut values = vec![b"of another".to_vec(); 5];
        note_fields(&names, head, &mut values);
        assert_eq!(values, [b"hit".to_vec(), b"\"a\"".to_vec(), Vec::new()]);
    }

    #[test]
    fn what_clients_send_stays_in_its_place() {
        let hostile: Vec<u8> = (0..=255).collect();
        let record = Record { target: &hostile, ..local() };
        let quoted = |escape| {
            let text = |text: &str| LogPiece::Text(text.to_owned());
            own(vec![text("\""), LogPiece::Value(LogValue::Target), text("\"")], escape)
        };
        for escape in [LogEscape::Default, LogEscape::Json] {
            let line = written(&quoted(escape), &record);
            let inside = line.strip_prefix('"').and_then(|line| line.strip_suffix("\"\n")).unwrap();
            assert!(!inside.contains(char::is_control), "{inside:?}");
            let mut bytes = inside.bytes();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    byte => assert_ne!(byte, b'"', "{inside}"),
                }
            }
        }
    }
}
