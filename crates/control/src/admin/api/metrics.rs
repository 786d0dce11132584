//! `/metrics`: what was counted, for Prometheus and those who read its format.

use super::super::routes::{Answer, Content, Route};
use super::super::{Request, Running};
use crate::metrics;

pub(super) static ROUTES: &[Route] = &[Route::get(
    "/metrics",
    "Metrics as text: OpenMetrics for those who ask for it, else the format of Prometheus.",
    metrics,
)
.answer(Content::Text("text/plain"))];

fn metrics(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move { Ok(metrics::answer(running, &request).await) })
}
