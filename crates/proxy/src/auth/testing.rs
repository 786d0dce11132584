//! Requests and rules for the tests.

use std::future::Future;
use std::path::PathBuf;

use config::Options;
use config::model::Auth;
use wire::head::{HeadLimits, Parse, RequestHead};

use super::Presented;

/// A request that was read.
pub(super) struct Head {
    head: RequestHead,
    bytes: Vec<u8>,
    query: Option<String>,
}

impl Head {
    /// A GET of this target with these field lines.
    pub(super) fn new(target: &str, lines: &str) -> Self {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        let parsed = head.parse(&bytes, 0, &HeadLimits::default());
        assert!(matches!(parsed, Ok(Parse::Complete)), "{target} {lines}: {parsed:?}");
        let query = target.split_once('?').map(|(_, query)| query.to_owned());
        Self { head, bytes, query }
    }

    pub(super) fn presented(&self) -> Presented<'_> {
        let query = self.query.as_deref().map(str::as_bytes);
        Presented { head: &self.head, bytes: &self.bytes, query }
    }
}

/// What a table of `auth` with these keys is.
pub(super) fn rules(keys: &str) -> Vec<Auth> {
    let text = format!(
        "[[sites]]\nname = \"a\"\nhostname = \"a\"\nport = 1\nstatic_dir = \"x\"\n[[sites.auth]]\n{keys}\n"
    );
    let loaded = config::load(&[(PathBuf::from("a.toml"), &text)], &Options::default());
    let model = loaded.model.as_ref().unwrap_or_else(|| panic!("{}", loaded.render(false)));
    model.sites[0].guards.auth.clone()
}

/// Runs a future to its end.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}
