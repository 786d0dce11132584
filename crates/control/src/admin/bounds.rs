//! What clients of the admin API may hold at once, and for how long.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

/// Connections of each listener at once. When there are more, those give way that have waited longest
/// without a request. Those of the Unix socket do not take places of TCP's, nor the other way round.
pub const CONNECTIONS_MAX: usize = 64;

/// Longest head of a request, in bytes: keys and paths are short, cookies of a browser may be there.
pub const HEAD_MAX: usize = 32 * 1024;

/// Fields of a head.
pub const FIELDS_MAX: usize = 64;

/// Longest body of a request, in bytes, where a route does not say otherwise.
pub const BODY_MAX: usize = 64 * 1024;

/// Longest configuration that can be applied, in bytes.
pub const CONFIG_MAX: usize = 4 * 1024 * 1024;

/// A connection without a request ends after this at the latest, and so does one whose head does not get complete.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// The first line on the Unix socket, which says what is spoken, comes within this.
pub const FIRST_LINE_TIME: Duration = Duration::from_secs(10);

/// Longest first line that is waited for, in bytes; what is longer is taken for HTTP.
pub const FIRST_LINE_MAX: usize = 16 * 1024;

/// From a head to the end of its body.
pub const BODY_TIME: Duration = Duration::from_secs(30);

/// From a whole request to its response, where a route does not say otherwise.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A client that reads nothing for so long is cut off.
pub const WRITE_TIME: Duration = Duration::from_secs(20);

/// Those who follow a stream at once.
pub const FOLLOWERS_MAX: usize = 16;

/// Pieces that wait for a follower who does not read; what does not fit is dropped and counted.
pub const FOLLOWER_QUEUE: usize = 1024;

/// Requests without the right key are told of in the log this often at most.
pub const KEYLESS_TOLD: Duration = Duration::from_secs(10);

/// Items of a list in one response.
pub const PAGE_MAX: usize = 1000;

/// Items of a list where the request does not say how many.
pub const PAGE_DEFAULT: usize = 100;

/// HTTP/1.1 with what one connection may take.
pub(crate) fn http() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(HEAD_MAX)
        .max_headers(FIELDS_MAX);
    builder
}
