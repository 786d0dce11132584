//! `/v1/cache`: what is kept of responses, which is nothing yet.

use serde_json::json;

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has};
use super::super::{Request, Response, Running};

pub(super) static ROUTES: &[Route] = &[
    Route::get("/v1/cache", "What is kept of responses: nothing, there is no cache yet.", show)
        .answer(Content::Json(&CACHE)),
    Route::to("DELETE", "/v1/cache", "Has every response asked for anew.", clear)
        .answer(Content::Json(&CLEARED)),
];

static CACHE: Shape = Shape::Object(
    "Cache",
    &[
        has("in_effect", Shape::Bool, "Responses are kept; `false` in this version."),
        has("responses", Shape::Integer, "How many are kept."),
        has("bytes", Shape::Integer, "How much memory they take."),
    ],
);

static CLEARED: Shape = Shape::Object(
    "CacheCleared",
    &[has("removed", Shape::Integer, "How many responses were kept and are not any more.")],
);

fn show(_: &Running, _: Request) -> Answer<'_> {
    Box::pin(async {
        Ok(Response::json(&json!({ "in_effect": false, "responses": 0, "bytes": 0 })))
    })
}

/// After it nothing old is served, which is what was asked for.
fn clear(_: &Running, _: Request) -> Answer<'_> {
    Box::pin(async { Ok(Response::json(&json!({ "removed": 0 }))) })
}
