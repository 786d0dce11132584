//! What the admin API answers, one file a part. Each has its routes with the forms of what goes in and out
//! above the handlers.

mod document;
mod status;

use super::routes::Route;

/// Everything there is.
pub(super) static ROUTES: &[&[Route]] = &[document::ROUTES, status::ROUTES];
