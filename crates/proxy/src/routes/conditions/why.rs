//! Which condition a request does not meet, in words.

use config::model::{HostPattern, Property};
use config::secrets::is_secret_field;

use super::{Conditions, Host, Is, Test};
use crate::decide::Request;

impl Conditions {
    /// Why they do not hold for a request; `None` if they do.
    pub fn why_not(&self, request: &Request<'_>) -> Option<String> {
        if !self.host(request.host) {
            let hosts: Vec<String> = self.hosts.iter().map(host).collect();
            return Some(format!("its hosts are {}", hosts.join(", ")));
        }
        if !self.properties(request) {
            let failed = |test: &&Test| !test.holds(request.fields, request.query);
            let mut tests = self.properties.tests.iter().filter(failed);
            return Some(match tests.next() {
                Some(test) => test.wants(),
                None => "its conditions".to_owned(),
            });
        }
        let methods: Vec<&str> = self.methods().collect();
        (!self.method(request.method)).then(|| format!("its methods are {}", methods.join(", ")))
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Pattern(HostPattern::Exact(name)) => name.clone(),
        Host::Pattern(HostPattern::Wildcard(suffix)) => format!("*.{suffix}"),
        Host::Pattern(HostPattern::Any) => "*".to_owned(),
        Host::Leading(begin) => format!("{begin}.*"),
        Host::Regex(_) => "by a regular expression".to_owned(),
    }
}

impl Test {
    fn wants(&self) -> String {
        let of = match &self.of {
            Property::Header(name) => format!("the field {name}"),
            Property::Query(name) => format!("the parameter {name}"),
            Property::Cookie(name) => format!("the cookie {name}"),
        };
        let is: Vec<String> = self
            .is
            .iter()
            .map(|is| match is {
                Is::Value(value) => format!("\"{value}\""),
                Is::Prefix(prefix) => format!("begin with \"{prefix}\""),
                Is::Regex(_) => "match its regular expression".to_owned(),
                Is::Empty => "be empty".to_owned(),
            })
            .collect();
        let secret = match &self.of {
            Property::Header(name) | Property::Query(name) => is_secret_field(name),
            Property::Cookie(_) => true,
        };
        match is.is_empty() {
            false if secret => format!("{of} is not what it has to be"),
            true => format!("{of} has to be there"),
            false => format!("{of} has to be {}", is.join(" or ")),
        }
    }
}
