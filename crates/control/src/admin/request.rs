//! What a handler is given.

use std::sync::Arc;

use bytes::Bytes;
use config::model::AdminLevel;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bounds::{PAGE_DEFAULT, PAGE_MAX};
use super::response::Problem;
use crate::orders::Author;

/// A request that has passed the gate and met a route.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub author: Author,
    /// What they may do.
    pub level: AdminLevel,
    /// The values of the path's `{…}`, in order.
    pub(super) values: Vec<String>,
    /// The query; its names are those that the route describes.
    pub(super) query: Vec<(String, String)>,
    /// The media type of the body, without parameters, in lower case.
    pub media_type: String,
    /// The `Accept` field, as it came.
    pub accept: String,
    /// The body.
    pub body: Bytes,
    pub(super) followers: Arc<Semaphore>,
}

impl Request {
    /// What stands in the path where its pattern has the `{…}` with this number; empty if it has none.
    pub fn value(&self, number: usize) -> &str {
        self.values.get(number).map_or("", String::as_str)
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query that is a switch: `?dry_run`, `?dry_run=true`.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.query(name) {
            None | Some("false" | "0" | "no") => Ok(false),
            Some("" | "true" | "1" | "yes") => Ok(true),
            Some(_) => Err(Problem::bad(format!("`{name}` is `true` or `false`"))),
        }
    }

    /// A parameter of the query that is a number.
    ///
    /// # Errors
    /// It is something else.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Problem> {
        let wrong = |_| Problem::bad(format!("`{name}` is no number that can be used here"));
        self.query(name).map(str::parse).transpose().map_err(wrong)
    }

    /// How many items a list may have: `?limit`.
    ///
    /// # Errors
    /// It is no number.
    pub fn limit(&self) -> Result<usize, Problem> {
        Ok(self.number("limit")?.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Problem::bad(format!("the body is no JSON: {error}")))
    }

    /// A place for one who follows a stream.
    ///
    /// # Errors
    /// All are taken.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            let detail = "too many follow a stream already; end one of them first";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })
    }
}
