//! What a configuration says that requests come to, to be looked at before it is used.

use std::net::IpAddr;

/// A request, and what is expected to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expectation {
    /// The method of the request. Default GET.
    pub method: String,
    /// Its URL, with scheme and host.
    pub url: String,
    /// Its fields beside `Host`.
    pub fields: Vec<(String, String)>,
    /// Its client's address. Default 127.0.0.1.
    pub client: Option<IpAddr>,
    /// The name of the site that answers.
    pub site: Option<String>,
    /// The path, or the name, of the route that takes it; empty: none does.
    pub route: Option<String>,
    /// The status of Ravelin's own response; there is none where an upstream answers.
    pub status: Option<u16>,
    /// `Location` of that response.
    pub location: Option<String>,
    /// The name of the pool that it goes to; empty: to none.
    pub upstream: Option<String>,
    /// Path and query as the upstream gets them.
    pub path: Option<String>,
    /// Fields of the response that Ravelin makes, or that it adds to an upstream's. An empty value: the
    /// field is not there.
    pub response: Vec<(String, String)>,
    /// Fields of the request as the upstream gets it, likewise.
    pub request: Vec<(String, String)>,
}
