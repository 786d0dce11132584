//! One JSON object a line, valid for any bytes a client may send. Times are whole microseconds.

use super::escape::{address, json_string, number};
use super::sampling::{Chance, share};
use super::stamp::Stamp;
use super::{Ended, Record, reasons};

/// What stands before a value, in one piece: many small ones cost more than what is in them.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

/// Appends the line; fields that are not known are left out.
pub(super) fn line(out: &mut Vec<u8>, stamp: &mut Stamp, record: &Record<'_>, chance: Chance) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.rfc3339(out, record.wall_us);
    out.push(b'"');
    if let Some(ip) = record.client {
        out.extend_from_slice(b",\"client\":\"");
        match record.client_text {
            [] => address(out, ip),
            text => out.extend_from_slice(text),
        }
        out.push(b'"');
        count(out, key!("client_port"), u64::from(record.client_port));
    }
    string(out, key!("user"), record.user);
    string(out, key!("method"), record.method);
    string(out, key!("target"), record.target);
    string(out, key!("version"), record.version.as_bytes());
    count(out, key!("status"), u64::from(record.status));
    count(out, key!("response_bytes"), record.response_bytes);
    count(out, key!("request_bytes"), record.request_bytes);
    string(out, key!("host"), record.host);
    string(out, key!("referer"), record.referer);
    string(out, key!("user_agent"), record.user_agent);
    string(out, key!("site"), record.site.as_bytes());
    proxied(out, record);
    string(out, key!("id"), record.request_id);
    if let Some(traced) = record.traced {
        string(out, key!("trace_id"), &traced.trace_text());
    }
    tls(out, record);
    times(out, record);
    if let Some(of_million) = chance.share() {
        out.extend_from_slice(key!("sample"));
        share(out, of_million);
    }
    ended(out, record.ended);
    out.extend_from_slice(b"}\n");
}

fn proxied(out: &mut Vec<u8>, record: &Record<'_>) {
    let Some(route) = record.route else { return };
    string(out, key!("proxy"), route.as_bytes());
    string(out, key!("upstream"), record.endpoint.as_bytes());
    string(out, key!("pool"), record.pool.map_or(&[], |pool| pool.name.as_bytes()));
    if record.cache != "-" {
        string(out, key!("cache"), record.cache.as_bytes());
    }
    count(out, key!("attempts"), u64::from(record.attempts));
    if record.attempts > 0 {
        out.extend_from_slice(key!("reused"));
        out.extend_from_slice(if record.reused { b"true" } else { b"false" });
    }
}

fn tls(out: &mut Vec<u8>, record: &Record<'_>) {
    let Some(tls) = record.tls else { return };
    string(out, key!("tls"), tls.version.as_bytes());
    string(out, key!("cipher"), tls.cipher.as_bytes());
    string(out, key!("sni"), tls.server_name.as_deref().unwrap_or_default().as_bytes());
    out.extend_from_slice(key!("resumed"));
    out.extend_from_slice(if tls.resumed { b"true" } else { b"false" });
    if let Some(client) = &tls.client {
        string(out, key!("client_subject"), client.subject.as_bytes());
    }
}

fn times(out: &mut Vec<u8>, record: &Record<'_>) {
    count(out, key!("total_us"), record.times.total);
    let times = &record.times;
    for (name, time) in [
        (key!("accept_us"), times.accept),
        (key!("tls_us"), times.tls),
        (key!("head_us"), times.head),
        (key!("held_us"), times.held),
        (key!("queue_us"), times.queue),
        (key!("connect_us"), times.connect),
        (key!("first_byte_us"), times.first_byte),
        (key!("transfer_us"), times.transfer),
    ] {
        if let Some(us) = time {
            count(out, name, us);
        }
    }
}

fn ended(out: &mut Vec<u8>, ended: Ended) {
    match ended {
        Ended::Complete => out.extend_from_slice(b",\"ended\":\"complete\""),
        Ended::Failed { by, phase, cause } => {
            string(out, key!("ended"), by.as_str().as_bytes());
            string(out, key!("phase"), phase.as_str().as_bytes());
            string(out, key!("cause"), cause.as_str().as_bytes());
            string(out, key!("reason"), reasons::of(by, phase, cause).name.as_bytes());
        }
    }
}

// The two below are calls on purpose: in their place a line's code is half as long again, and to fetch it
// costs more than to call.
#[inline(never)]
fn count(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    number(out, value);
}

#[inline(never)]
fn string(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        json_string(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local, proxied};
    use super::super::{Cause, Party, Phase};
    use super::*;

    fn text(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        line(&mut out, &mut Stamp::default(), record, Chance::ALL);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_proxied_request() {
        assert_eq!(
            text(&proxied()),
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
        let line = text(&failed(504, Party::Upstream, Phase::FirstByte, Cause::Timeout));
        assert!(
            line.ends_with(
                ",\"ended\":\"upstream\",\"phase\":\"first_byte\",\"cause\":\"timeout\",\
                 \"reason\":\"response_timeout\"}\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn any_bytes_give_valid_json_of_one_line() {
        let every: Vec<u8> = (0..=255).collect();
        let line = text(&Record { target: &every, user_agent: &every, host: &every, ..local() });
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
