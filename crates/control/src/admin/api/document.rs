//! `/openapi.json`: what there is.

use super::super::routes::{Answer, Content, Route};
use super::super::schema::Shape;
use super::super::{Request, Response, Running, openapi};

pub(super) static ROUTES: &[Route] =
    &[Route::get("/openapi.json", "What this API has, as an OpenAPI document.", document)
        .answer(Content::Json(&Shape::Any))];

fn document(_: &Running, _: Request) -> Answer<'_> {
    Box::pin(async { Ok(Response::json(&openapi::document())) })
}
