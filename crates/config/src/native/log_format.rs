//! A format of access-log lines that the operator has put together: text with names in braces.
//!
//! It is read into a list of pieces once; what writes lines goes through that list and looks nothing up.

use crate::decode::{Context, Spanned, nearest};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{LogEscape, LogPiece, LogTime, LogValue, OwnFormat, TimeUnit};
use crate::syntax;

/// Pieces of one format; longer ones are a mistake.
const PIECES_MAX: usize = 512;

/// What nginx and HAProxy call things, for those who bring a format with them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("$remote_addr", "{client}"),
    ("$remote_port", "{client.port}"),
    ("$remote_user", "{user}"),
    ("$time_local", "{time.clf}"),
    ("$time_iso8601", "{time}"),
    ("$msec", "{time.unix}"),
    ("$request_time", "{time.total}"),
    ("$request_method", "{method}"),
    ("$request_uri", "{target}"),
    ("$request_length", "{bytes.received}"),
    ("$request_id", "{id}"),
    ("$request", "{request}"),
    ("$uri", "{path}"),
    ("$args", "{query}"),
    ("$scheme", "{scheme}"),
    ("$host", "{host}"),
    ("$server_name", "{site}"),
    ("$server_port", "{port}"),
    ("$server_protocol", "{protocol}"),
    ("$status", "{status}"),
    ("$body_bytes_sent", "{bytes.sent}"),
    ("$bytes_sent", "{bytes.sent}"),
    ("$upstream_addr", "{upstream}"),
    ("$upstream_connect_time", "{time.connect}"),
    ("$upstream_header_time", "{time.first_byte}"),
    ("$upstream_response_time", "{time.total}"),
    ("$upstream_cache_status", "{cache}"),
    ("$ssl_protocol", "{tls.version}"),
    ("$ssl_cipher", "{tls.cipher}"),
    ("$ssl_server_name", "{tls.name}"),
    ("$ssl_client_s_dn", "{tls.client}"),
    ("$http_user_agent", "{header.user-agent}"),
    ("$http_referer", "{header.referer}"),
    ("%ci", "{client}"),
    ("%cp", "{client.port}"),
    ("%b", "{pool}"),
    ("%s", "{upstream}"),
    ("%ST", "{status}"),
    ("%B", "{bytes.sent}"),
    ("%U", "{bytes.received}"),
    ("%HM", "{method}"),
    ("%HU", "{target}"),
    ("%HP", "{path}"),
    ("%HV", "{protocol}"),
    ("%r", "{request}"),
    ("%tr", "{time.clf}"),
    ("%t", "{time.clf}"),
    ("%TR", "{time.head_ms}"),
    ("%Tw", "{time.queue_ms}"),
    ("%Tc", "{time.connect_ms}"),
    ("%Tr", "{time.first_byte_ms}"),
    ("%Ta", "{time.total_ms}"),
    ("%Th", "{time.accept_ms}"),
    ("%tsc", "{reason}"),
    ("%ts", "{reason}"),
    ("%sslv", "{tls.version}"),
    ("%sslc", "{tls.cipher}"),
    ("%ID", "{id}"),
];

/// Reads a format. What is wrong with it is reported.
pub(super) fn parse(
    context: &Context<'_>,
    text: Spanned<&str>,
    escape: LogEscape,
) -> Option<OwnFormat> {
    let mut own = OwnFormat { pieces: Vec::new(), escape, response_fields: Vec::new() };
    let complain = |reason: String| {
        context.push(context.bad("format", text.span, &reason));
        None
    };
    if !text.value.contains('{') {
        return none_of_it(context, text);
    }
    if text.value.contains(['\n', '\r', '\0']) {
        return complain("a line has no line ends in it".to_owned());
    }
    let mut plain = String::new();
    let mut rest = text.value;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let brace = from.get(..1).unwrap_or_default();
        let behind = from.get(1..).unwrap_or_default();
        if let Some(behind) = behind.strip_prefix(brace) {
            plain.push_str(brace);
            rest = behind;
            continue;
        }
        if brace == "}" {
            return complain("a `}` without its `{`; a brace itself is written `}}`".to_owned());
        }
        let Some((name, behind)) = behind.split_once('}') else {
            return complain("a `{` without its `}`; a brace itself is written `{{`".to_owned());
        };
        if !plain.is_empty() {
            own.pieces.push(LogPiece::Text(std::mem::take(&mut plain)));
        }
        match piece(name, &mut own.response_fields) {
            Ok(piece) => own.pieces.push(piece),
            Err(reason) => {
                context.push(unknown(context, text, name, reason));
                return None;
            }
        }
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        own.pieces.push(LogPiece::Text(plain));
    }
    if own.pieces.len() > PIECES_MAX {
        return complain(format!("more than {PIECES_MAX} names and texts"));
    }
    Some(own)
}

/// What a name in braces stands for.
fn piece(name: &str, response_fields: &mut Vec<String>) -> Result<LogPiece, Option<String>> {
    if let Some((_, value, _)) = LogValue::ALL.iter().find(|(known, ..)| *known == name) {
        return Ok(LogPiece::Value(*value));
    }
    for (suffix, unit) in TimeUnit::SUFFIXES {
        let Some(bare) = name.strip_suffix(suffix) else { continue };
        if let Some((_, time, _)) = LogTime::ALL.iter().find(|(known, ..)| *known == bare) {
            return Ok(LogPiece::Time(*time, *unit));
        }
    }
    let field = |name: &str| match syntax::field_name(name) {
        Ok(()) => Ok(name.to_ascii_lowercase()),
        Err(reason) => Err(Some(reason)),
    };
    if let Some(name) = name.strip_prefix("request.").or(name.strip_prefix("header.")) {
        return field(name).map(LogPiece::RequestField);
    }
    if let Some(name) = name.strip_prefix("response.") {
        let name = field(name)?;
        let known = response_fields.iter().position(|known| *known == name);
        let index = known.unwrap_or(response_fields.len());
        if known.is_none() {
            response_fields.push(name);
        }
        return Ok(LogPiece::ResponseField(index));
    }
    Err(None)
}

fn unknown(
    context: &Context<'_>,
    text: Spanned<&str>,
    name: &str,
    reason: Option<String>,
) -> Diagnostic {
    if let Some(reason) = reason {
        return context.bad("format", text.span, &format!("`{{{name}}}`: {reason}"));
    }
    let error = Diagnostic::error(
        Code::BadValue,
        text.span,
        format!("`format` names `{{{name}}}`, which there is not"),
    );
    let times = LogTime::ALL.iter().flat_map(|(name, ..)| {
        TimeUnit::SUFFIXES.iter().map(move |(suffix, _)| format!("{name}{suffix}"))
    });
    let names: Vec<String> =
        LogValue::ALL.iter().map(|(name, ..)| (*name).to_owned()).chain(times).collect();
    // What stands alone here is the second word of a name elsewhere: `user_agent`, `ua`, `duration`.
    let field = match name {
        "user_agent" | "user-agent" | "agent" => Some("header.user-agent"),
        "referer" | "referrer" => Some("header.referer"),
        "duration" | "total" | "latency" => Some("time.total"),
        "ip" | "address" | "remote_addr" => Some("client"),
        "url" | "uri" => Some("target"),
        "bytes" | "size" | "length" => Some("bytes.sent"),
        "version" => Some("protocol"),
        "request_id" => Some("id"),
        _ => None,
    };
    match field.or_else(|| nearest(name, names.iter().map(String::as_str))) {
        Some(near) => {
            let instead = text.value.replacen(&format!("{{{name}}}"), &format!("{{{near}}}"), 1);
            let question = format!("did you mean `{{{near}}}`?");
            error.suggest(text.span, syntax::quoted(&instead), question)
        }
        None => error.help(
            "there are fields, `{request.NAME}` and `{response.NAME}`, and what \
             docs/logs.md lists, such as {client}, {method}, {target}, {status}, {time.total}, {reason}",
        ),
    }
}

/// A format without a single name.
fn none_of_it(context: &Context<'_>, text: Spanned<&str>) -> Option<OwnFormat> {
    let words = ["combined", "compact", "json"];
    let error = context.bad(
        "format",
        text.span,
        "expected \"combined\", \"compact\", \"json\", or a line with names in braces",
    );
    let translated = translate(text.value);
    context.push(match (nearest(text.value, words.into_iter()), translated) {
        (Some(near), _) => {
            error.suggest(text.span, format!("\"{near}\""), format!("did you mean \"{near}\"?"))
        }
        (None, Some(instead)) => {
            error.suggest(text.span, syntax::quoted(&instead), "with Ravelin's names")
        }
        (None, None) => {
            error.help("for example \"{client} {method} {path} {status} {time.total}\"")
        }
    });
    None
}

/// The same with Ravelin's names, if all that it names is known.
fn translate(text: &str) -> Option<String> {
    let mut instead = text.to_owned();
    let mut known: Vec<&(&str, &str)> = ELSEWHERE.iter().collect();
    known.sort_by_key(|(theirs, _)| std::cmp::Reverse(theirs.len()));
    for (theirs, ours) in known {
        instead = instead.replace(theirs, ours);
    }
    (instead != text && !instead.contains(['$', '%'])).then_some(instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_and_haproxy_call_things_is_translated() {
        let nginx = "$remote_addr - $remote_user \"$request\" $status $request_time";
        assert_eq!(
            translate(nginx).unwrap(),
            "{client} - {user} \"{request}\" {status} {time.total}"
        );
        assert_eq!(
            translate("%ci:%cp %ST %B").unwrap(),
            "{client}:{client.port} {status} {bytes.sent}"
        );
        assert_eq!(translate("$status $upstream_status"), None);
        assert_eq!(translate("all of it"), None);
        for (_, ours) in ELSEWHERE {
            let name = ours.trim_matches(['{', '}']);
            assert!(piece(name, &mut Vec::new()).is_ok(), "{ours}");
        }
    }
}
