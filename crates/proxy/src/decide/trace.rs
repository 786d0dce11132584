//! What a decision was made of, for those who ask why.

use std::fmt;

use crate::routes::Route;

/// The steps of one decision, in order; nothing, unless somebody wants to know.
#[derive(Debug, Default)]
pub struct Trace(Option<Vec<Step>>);

/// One step of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The site of this name answers for the host.
    Site(String),
    /// The route's path matches, but something else of it does not.
    Passed {
        /// The route.
        route: String,
        /// What does not match.
        why: &'static str,
    },
    /// The route takes the request.
    Took(String),
    /// A filter lets the request through, or is what ends it.
    Filter {
        /// Which, as the reference calls it.
        name: &'static str,
        /// What it says.
        says: &'static str,
    },
}

impl Trace {
    /// Steps are forgotten.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Steps are kept.
    pub const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Adds a step, which is only made if steps are kept.
    pub fn add(&mut self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }

    pub(crate) fn took(&mut self, route: &Route) {
        self.add(|| Step::Took(route.name.clone()));
    }

    pub(crate) fn passed(&mut self, route: &Route, why: &'static str) {
        self.add(|| Step::Passed { route: route.name.clone(), why });
    }

    pub(crate) fn filter(&mut self, name: &'static str, says: &'static str) {
        self.add(|| Step::Filter { name, says });
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(name) => write!(f, "site \"{name}\""),
            Self::Passed { route, why } => write!(f, "not route {route}: {why}"),
            Self::Took(route) => write!(f, "route {route}"),
            Self::Filter { name, says } => write!(f, "{name}: {says}"),
        }
    }
}
