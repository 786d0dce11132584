//! `/v1/certificates`: what sites show, until when, and when it is renewed.

use serde_json::{Value, json};

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has};
use super::super::{Request, Response, Running};
use super::unix_millis;
use crate::certificates::{Report, Said, Source};

pub(super) static ROUTES: &[Route] =
    &[Route::get("/v1/certificates", "The certificates that sites show.", list)
        .answer(Content::Json(&CERTIFICATES))];

static CERTIFICATES: Shape = Shape::Object(
    "Certificates",
    &[has("certificates", Shape::List(&CERTIFICATE), "Each with the sites that show it.")],
);

static CERTIFICATE: Shape = Shape::Object(
    "Certificate",
    &[
        has("sites", Shape::List(&Shape::Text), "Names of the sites."),
        has("names", Shape::List(&Shape::Text), "Host names and addresses that it is for."),
        has("subject", Shape::Text, "Whom it is for, as it says itself."),
        has("issuer", Shape::Text, "Who says so."),
        has("serial", Shape::Text, "Its serial number, in hexadecimal."),
        has("not_before", Shape::Time, "Since when it is valid."),
        has("not_after", Shape::Time, "Until when."),
        has("days_left", Shape::Integer, "Whole days until then; negative once it has expired."),
        has(
            "source",
            Shape::OneOf(&["file", "configuration", "authority"]),
            "Where it comes from.",
        ),
        has("place", Shape::Text, "The file, or the authority's directory; may be empty."),
        has("stand_in", Shape::Bool, "It is self-signed, until the authority issues one."),
        has(
            "next_renewal",
            Shape::Maybe(&Shape::Time),
            "When one is ordered next; `null` if that is not Ravelin's business, or not known yet.",
        ),
        has("failure", Shape::Maybe(&Shape::Text), "Why the last order failed."),
        has("stapled", Shape::Bool, "An OCSP response is sent with it."),
    ],
);

fn list(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async {
        let certificates: Vec<Value> =
            running.certificates.borrow().iter().map(certificate).collect();
        Ok(Response::json(&json!({ "certificates": certificates })))
    })
}

fn certificate(report: &Report) -> Value {
    let identity = report.identity();
    let said = Said::of(&identity);
    let of_said = |of: fn(&Said) -> &String| said.as_ref().map(of).cloned().unwrap_or_default();
    let next = report.next().unwrap_or_default();
    let (source, place) = match &report.source {
        Source::File(file) => ("file", file.display().to_string()),
        Source::Text => ("configuration", String::new()),
        Source::Authority(directory) => ("authority", directory.clone()),
    };
    json!({
        "sites": report.sites,
        "names": identity.names(),
        "subject": of_said(|said| &said.subject),
        "issuer": of_said(|said| &said.issuer),
        "serial": of_said(|said| &said.serial),
        "not_before": date(identity.not_before()),
        "not_after": date(identity.not_after()),
        "days_left": report.days_left(),
        "source": source,
        "place": place,
        "stand_in": next.stand_in,
        "next_renewal": next.due.map(date),
        "failure": next.failure,
        "stapled": identity.staple().is_some(),
    })
}

fn date(unix: i64) -> String {
    unix_millis(u64::try_from(unix).unwrap_or(0).saturating_mul(1000))
}
