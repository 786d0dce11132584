//! The plain-text shapes of an access-log line.
//!
//! Only lines about proxied requests carry the words `proxy` and `upstream`, so that `grep proxy`
//! finds those and no others; a request that did not end well says who ended it, in which phase and
//! why: `ended=upstream phase=connect cause=refused`.

use super::escape::{address, number, quoted, seconds, word};
use super::sampling::{Chance, share};
use super::stamp::Stamp;
use super::{Ended, Record};

/// Apache's combined format, then `key=value` fields.
///
/// ```text
/// 127.0.0.1 - - [21/Nov/2026:03:48:01 +0000] "GET /api/x HTTP/1.1" 200 612 "-" "curl/8.5.0" host=example.com site=main proxy=/api/ upstream=http://10.0.0.2:80 try=1 conn=reused id=7 rt=0.001204 ut=0.001100
/// ```
pub(super) fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, record: &Record<'_>, chance: Chance) {
    client(out, record);
    out.extend_from_slice(b" - ");
    word(out, record.user);
    out.push(b' ');
    out.extend_from_slice(stamp.clf(record.wall_us));
    out.extend_from_slice(b" \"");
    request_line(out, record);
    out.extend_from_slice(b"\" ");
    number(out, u64::from(record.status));
    out.push(b' ');
    number(out, record.response_bytes);
    out.extend_from_slice(b" \"");
    quoted(out, record.referer);
    out.extend_from_slice(b"\" \"");
    quoted(out, record.user_agent);
    out.push(b'"');

    key(out, " host=", record.host);
    key(out, " site=", record.site.as_bytes());
    proxied(out, record);
    if !record.request_id.is_empty() {
        key(out, " id=", record.request_id);
    }
    if record.request_bytes > 0 {
        out.extend_from_slice(b" in=");
        number(out, record.request_bytes);
    }
    times(out, record);
    sampled(out, chance);
    ended(out, record.ended);
    out.push(b'\n');
}

/// Method, target, status, bytes and duration, and whatever went wrong.
///
/// ```text
/// 2026-11-21T03:48:01.045Z GET /api/x 200 612 0.001204 proxy=/api/ upstream=http://10.0.0.2:80
/// ```
pub(super) fn compact(out: &mut Vec<u8>, stamp: &mut Stamp, record: &Record<'_>, chance: Chance) {
    stamp.rfc3339(out, record.wall_us);
    out.push(b' ');
    word(out, record.method);
    out.push(b' ');
    word(out, record.target);
    out.push(b' ');
    number(out, u64::from(record.status));
    out.push(b' ');
    number(out, record.response_bytes);
    out.push(b' ');
    seconds(out, record.times.total);
    if let Some(route) = record.route {
        key(out, " proxy=", route.as_bytes());
        key(out, " upstream=", record.endpoint.as_bytes());
    }
    sampled(out, chance);
    ended(out, record.ended);
    out.push(b'\n');
}

fn client(out: &mut Vec<u8>, record: &Record<'_>) {
    match record.client {
        Some(ip) => address(out, ip),
        None => out.extend_from_slice(b"unix:"),
    }
}

/// A head that could not be read has no request line: `-`.
fn request_line(out: &mut Vec<u8>, record: &Record<'_>) {
    if record.method.is_empty() {
        // A head that could not be read: its first line as it came.
        return quoted(out, record.target);
    }
    quoted(out, record.method);
    out.push(b' ');
    quoted(out, record.target);
    out.push(b' ');
    quoted(out, record.version.as_bytes());
}

fn proxied(out: &mut Vec<u8>, record: &Record<'_>) {
    let Some(route) = record.route else { return };
    key(out, " proxy=", route.as_bytes());
    key(out, " upstream=", record.endpoint.as_bytes());
    out.extend_from_slice(b" try=");
    number(out, u64::from(record.attempts));
    if record.attempts > 0 {
        out.extend_from_slice(if record.reused { b" conn=reused" } else { b" conn=new" });
    }
}

/// `rt` the whole request, `ht` its head, `ct` connecting, `ut` the upstream's response head.
fn times(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(b" rt=");
    seconds(out, record.times.total);
    for (name, time) in [
        (" ht=", record.times.head),
        (" ct=", record.times.connect),
        (" ut=", record.times.first_byte),
    ] {
        if let Some(us) = time {
            out.extend_from_slice(name.as_bytes());
            seconds(out, us);
        }
    }
}

/// The share of requests like this one that have a line, if not all of them have.
fn sampled(out: &mut Vec<u8>, chance: Chance) {
    if let Some(of_million) = chance.share() {
        out.extend_from_slice(b" sample=");
        share(out, of_million);
    }
}

fn ended(out: &mut Vec<u8>, ended: Ended) {
    if let Ended::Failed { by, phase, cause } = ended {
        for (name, value) in
            [(" ended=", by.as_str()), (" phase=", phase.as_str()), (" cause=", cause.as_str())]
        {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    }
}

fn key(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    word(out, value);
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{failed, local, proxied};
    use super::super::{Cause, Party, Phase};
    use super::*;

    type Format = fn(&mut Vec<u8>, &mut Stamp, &Record<'_>, Chance);

    fn line(format: Format, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        format(&mut out, &mut Stamp::default(), record, Chance::ALL);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn combined_of_a_proxied_request() {
        assert_eq!(
            line(combined, &proxied()),
            "192.0.2.7 - - [21/Nov/2026:03:48:01 +0000] \"GET /api/x?q=1 HTTP/1.1\" 200 612 \
             \"-\" \"curl/8.5.0\" host=example.com site=main proxy=/api/ \
             upstream=http://10.0.0.2:80 try=1 conn=reused id=7 rt=0.001204 ht=0.000009 \
             ut=0.001100\n"
        );
    }

    #[test]
    fn a_request_served_from_files_does_not_mention_proxy_or_upstream() {
        for format in [combined, compact] {
            let line = line(format, &local());
            assert!(!line.contains("proxy") && !line.contains("upstream"), "{line}");
        }
    }

    #[test]
    fn compact_is_short_but_names_the_upstream() {
        assert_eq!(
            line(compact, &proxied()),
            "2026-11-21T03:48:01.250Z GET /api/x?q=1 200 612 0.001204 proxy=/api/ \
             upstream=http://10.0.0.2:80\n"
        );
    }

    #[test]
    fn every_failure_can_be_told_from_the_others() {
        let failures = [
            (502, Party::Upstream, Phase::Connect, Cause::Refused),
            (502, Party::Upstream, Phase::Connect, Cause::Unresolved),
            (502, Party::Upstream, Phase::FirstByte, Cause::Closed),
            (502, Party::Upstream, Phase::FirstByte, Cause::Malformed),
            (503, Party::Proxy, Phase::Queue, Cause::NoEndpoint),
            (504, Party::Upstream, Phase::Connect, Cause::Timeout),
            (504, Party::Upstream, Phase::FirstByte, Cause::Timeout),
            (499, Party::Client, Phase::FirstByte, Cause::Closed),
            (200, Party::Client, Phase::Transfer, Cause::Reset),
            (200, Party::Upstream, Phase::Transfer, Cause::Closed),
            (200, Party::Upstream, Phase::Transfer, Cause::Timeout),
            (400, Party::Client, Phase::Head, Cause::Malformed),
            (413, Party::Client, Phase::Send, Cause::Limit),
        ];
        for format in [combined, compact] {
            let mut lines: Vec<String> = failures
                .iter()
                .map(|&(status, by, phase, cause)| line(format, &failed(status, by, phase, cause)))
                .collect();
            lines.sort();
            lines.dedup();
            assert_eq!(lines.len(), failures.len());
        }
        let refused = failed(502, Party::Upstream, Phase::Connect, Cause::Refused);
        let refused = line(combined, &refused);
        assert!(refused.contains("\" 502 "), "{refused}");
        assert!(refused.ends_with(" ended=upstream phase=connect cause=refused\n"), "{refused}");
    }

    #[test]
    fn a_request_that_was_never_read_has_a_dash() {
        let record = Record { status: 400, version: "", method: b"", target: b"", ..local() };
        assert!(line(combined, &record).contains("] \"-\" 400 "));
    }

    #[test]
    fn a_hostile_target_stays_inside_its_line() {
        let record = Record { target: b"/\n10.0.0.1 - - \"", user_agent: b"a\"\x1b", ..local() };
        for format in [combined, compact] {
            let line = line(format, &record);
            assert_eq!(line.matches('\n').count(), 1);
            assert!(line.contains("/\\x0a10.0.0.1 - - \\\""), "{line}");
        }
    }
}
