//! Conditional requests: RFC 9110 §13, in the order of precedence of §13.2.2. Pure.

use super::FileRequest;
use std::time::{Duration, SystemTime};
use wire::date::parse_http_date;
use wire::etag;

/// What a representation can be compared by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validators<'a> {
    /// A strong entity tag with its quotes, if one is sent.
    pub(super) etag: Option<&'a [u8]>,
    /// `Last-Modified`, in whole seconds, if it is sent.
    pub(super) modified: Option<SystemTime>,
}

/// What the preconditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answer as if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a `GET` or `HEAD` whose answer would be 200. A date that cannot
/// be read makes its condition not be there.
pub(super) fn evaluate(request: &FileRequest<'_>, validators: Validators<'_>) -> Outcome {
    if let Some(list) = request.if_match {
        if !names(list, validators.etag, etag::matches_strongly) {
            return Outcome::Failed;
        }
    } else if let Some(date) = request.if_unmodified_since.and_then(parse_http_date)
        && validators.modified.is_some_and(|modified| modified > date)
    {
        return Outcome::Failed;
    }
    if let Some(list) = request.if_none_match {
        if names(list, validators.etag, etag::matches_weakly) {
            return Outcome::NotModified;
        }
    } else if let Some(date) = request.if_modified_since.and_then(parse_http_date)
        && validators.modified.is_some_and(|modified| modified <= date)
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether `Range` counts, given `If-Range` (RFC 9110 §13.1.5): the tag must match strongly, a
/// date exactly, and only if it is old enough to be a strong validator (§8.8.2.2).
pub(super) fn range_applies(
    if_range: Option<&[u8]>,
    validators: Validators<'_>,
    now: SystemTime,
) -> bool {
    let Some(condition) = if_range else { return true };
    if condition.contains(&b'"') {
        return validators.etag.is_some_and(|etag| etag::strong_eq(condition, etag));
    }
    let Some(modified) = validators.modified else { return false };
    parse_http_date(condition) == Some(modified)
        && now.duration_since(modified).is_ok_and(|age| age > Duration::from_secs(1))
}

/// `*` names whatever exists, even without a tag.
fn names(list: &[u8], etag: Option<&[u8]>, matches: fn(&[u8], &[u8]) -> bool) -> bool {
    list.trim_ascii() == b"*" || etag.is_some_and(|etag| matches(list, etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";

    fn request() -> FileRequest<'static> {
        FileRequest { path: b"/", ..FileRequest::default() }
    }

    fn validators() -> Validators<'static> {
        Validators { etag: Some(b"\"a\""), modified: parse_http_date(MODIFIED) }
    }

    fn outcome(request: FileRequest<'_>) -> Outcome {
        evaluate(&request, validators())
    }

    #[test]
    fn rfc9110_13_1_1_if_match_compares_strongly() {
        let with = |list| outcome(FileRequest { if_match: Some(list), ..request() });
        assert_eq!(with(b"\"a\""), Outcome::Proceed);
        assert_eq!(with(b"\"b\", \"a\""), Outcome::Proceed);
        assert_eq!(with(b"*"), Outcome::Proceed);
        assert_eq!(with(b"\"b\""), Outcome::Failed);
        assert_eq!(with(b"W/\"a\""), Outcome::Failed);
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match_compares_weakly() {
        let with = |list| outcome(FileRequest { if_none_match: Some(list), ..request() });
        assert_eq!(with(b"\"a\""), Outcome::NotModified);
        assert_eq!(with(b"W/\"a\""), Outcome::NotModified);
        assert_eq!(with(b"\"b\", W/\"a\""), Outcome::NotModified);
        assert_eq!(with(b"*"), Outcome::NotModified);
        assert_eq!(with(b"\"b\""), Outcome::Proceed);
    }

    #[test]
    fn rfc9110_13_1_3_if_modified_since() {
        let with = |date| outcome(FileRequest { if_modified_since: Some(date), ..request() });
        assert_eq!(with(MODIFIED), Outcome::NotModified);
        assert_eq!(with(AFTER), Outcome::NotModified);
        assert_eq!(with(BEFORE), Outcome::Proceed);
        assert_eq!(with(b"yesterday"), Outcome::Proceed);
    }

    #[test]
    fn rfc9110_13_1_4_if_unmodified_since() {
        let with = |date| outcome(FileRequest { if_unmodified_since: Some(date), ..request() });
        assert_eq!(with(MODIFIED), Outcome::Proceed);
        assert_eq!(with(BEFORE), Outcome::Failed);
        assert_eq!(with(b"0"), Outcome::Proceed);
    }

    #[test]
    fn rfc9110_13_2_2_tags_take_precedence_over_dates() {
        let changed = FileRequest {
            if_none_match: Some(b"\"old\""),
            if_modified_since: Some(AFTER),
            ..request()
        };
        assert_eq!(outcome(changed), Outcome::Proceed);
        let same = FileRequest {
            if_match: Some(b"\"a\""),
            if_unmodified_since: Some(BEFORE),
            ..request()
        };
        assert_eq!(outcome(same), Outcome::Proceed);
        let both =
            FileRequest { if_match: Some(b"\"b\""), if_none_match: Some(b"\"a\""), ..request() };
        assert_eq!(outcome(both), Outcome::Failed);
    }

    #[test]
    fn rfc9110_13_1_5_if_range() {
        let applies = |condition: &[u8], now: &[u8]| {
            range_applies(Some(condition), validators(), parse_http_date(now).unwrap())
        };
        let later = b"Mon, 07 Nov 1994 08:49:37 GMT";
        assert!(range_applies(None, validators(), SystemTime::UNIX_EPOCH));
        assert!(applies(b"\"a\"", later));
        assert!(!applies(b"W/\"a\"", later));
        assert!(!applies(b"\"b\"", later));
        assert!(applies(MODIFIED, later));
        assert!(!applies(AFTER, later), "the date has to match exactly");
        assert!(!applies(MODIFIED, AFTER), "a date this fresh is a weak validator");
        assert!(!applies(b"*", later));
    }

    #[test]
    fn without_validators_only_the_star_matches() {
        let none = Validators { etag: None, modified: None };
        let star = FileRequest { if_match: Some(b"*"), ..request() };
        let tag = FileRequest { if_match: Some(b"\"a\""), ..request() };
        let date = FileRequest { if_modified_since: Some(AFTER), ..request() };
        assert_eq!(evaluate(&star, none), Outcome::Proceed);
        assert_eq!(evaluate(&tag, none), Outcome::Failed);
        assert_eq!(evaluate(&date, none), Outcome::Proceed);
        assert!(!range_applies(Some(MODIFIED), none, SystemTime::now()));
    }
}
