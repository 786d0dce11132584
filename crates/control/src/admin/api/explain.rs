//! `/v1/explain`: what would become of a request, and why. Nothing is sent, taken or counted.

use config::model::AdminLevel;
use proxy::explain::Asked;
use serde_json::Value;

use super::super::response::Problem;
use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Field, Shape, has, may};
use super::super::{Request, Response, Running};

pub(super) static ROUTES: &[Route] =
    &[Route::get("/v1/explain", "What would become of a request, and why.", explain)
        .level(Some(AdminLevel::User))
        .query(QUERY)
        .answer(Content::Json(&EXPLANATION))];

const QUERY: &[Field] = &[
    has("url", Shape::Text, "The request's URL."),
    may("method", Shape::Text, "Its method; GET without."),
    may("header", Shape::Text, "A field of it, `Name: value`; may be there several times."),
    may("client", Shape::Text, "Its client's address; 127.0.0.1 without."),
    may("tls", Shape::Bool, "It comes over TLS, whatever its URL says."),
    may(
        "format",
        Shape::OneOf(&["json", "text", "color"]),
        "JSON, or that with `text` for people in it, with terminal colours or without.",
    ),
];

static EXPLANATION: Shape = Shape::Object(
    "Explanation",
    &[
        has("request", Shape::Any, "The request in the form that everything refers to."),
        has("listener", Shape::Any, "Where it comes in."),
        has("site", Shape::Any, "The site that answers, and why."),
        has("route", Shape::Any, "The route that takes it; `null`: none."),
        has("routes", Shape::List(&Shape::Any), "All routes, and why they did not."),
        has("passed_on", Shape::List(&Shape::Any), "Routes that left it to others."),
        has("guards", Shape::List(&Shape::Any), "What guards say, in their order."),
        has("action", Shape::Text, "What is done."),
        has("status", Shape::Maybe(&Shape::Integer), "The status of an answer of Ravelin's own."),
        has("location", Shape::Maybe(&Shape::Text), "Where that leads."),
        has("pools", Shape::List(&Shape::Any), "Where it goes: pools with their members."),
        has(
            "sends",
            Shape::Any,
            "The request as an upstream gets it; asterisks stand for credentials.",
        ),
        has("response", Shape::List(&Shape::Any), "Fields of the response."),
        has("response_without", Shape::List(&Shape::Text), "Fields taken off an upstream's."),
        has("limits", Shape::List(&Shape::Any), "Limits that apply, and where they are written."),
        has("steps", Shape::List(&Shape::Text), "Steps of the decision."),
        has("notes", Shape::List(&Shape::Text), "What else there is to say."),
        may("text", Shape::Text, "All of it for people."),
    ],
);

fn explain(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let mut asked = asked(&request).map_err(Problem::bad)?;
        asked.tls = request.switch("tls")?;
        let snapshot = running.snapshot.borrow().clone();
        let mut explained =
            proxy::explain(&snapshot, &asked).map_err(|error| Problem::bad(error.to_string()))?;
        explained.conceal();
        let mut value = explained.to_json();
        let format = request.query("format").unwrap_or("json");
        if let (Value::Object(members), "text" | "color") = (&mut value, format) {
            members.insert("text".to_owned(), explained.render(format == "color").into());
        }
        Ok(Response::json(&value))
    })
}

/// The request that is asked about.
fn asked(request: &Request) -> Result<Asked, String> {
    let url = request.query("url").ok_or("`url` is missing")?.to_owned();
    let mut asked = Asked { url, ..Asked::default() };
    if let Some(method) = request.query("method") {
        asked.method = method.to_owned();
    }
    if let Some(client) = request.query("client") {
        asked.client = client.parse().map_err(|_| format!("`{client}` is no address"))?;
    }
    for (_, field) in request.query.iter().filter(|(name, _)| name == "header") {
        asked.add_field(field).map_err(|error| error.to_string())?;
    }
    Ok(asked)
}
