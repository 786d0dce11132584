//! Requests that came too early and wait for their time.

use std::time::Duration;

use super::Place;

/// A request that has to wait. It has its place among those who do until this is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    wait: Duration,
    _places: Vec<Place<'a>>,
}

impl<'a> Hold<'a> {
    pub(super) fn new(wait: Duration, places: Vec<Place<'a>>) -> Self {
        Self { wait, _places: places }
    }

    /// How long it has to wait.
    pub fn wait(&self) -> Duration {
        self.wait
    }
}
