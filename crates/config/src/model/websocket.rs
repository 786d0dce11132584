//! WebSockets: what holds for those of a site or a route beside being passed on.

use std::time::Duration;

/// Settings of WebSockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocket {
    /// Longest message from a client, in bytes as they are sent, over all its fragments. `None`: any.
    pub client_message_max: Option<u64>,
    /// Longest message from an upstream, likewise.
    pub server_message_max: Option<u64>,
    /// Whose pages may open one.
    pub origins: Origins,
    /// The `Origin` that the upstream gets when the client sends none.
    pub default_origin: Option<String>,
    /// A side that has sent nothing for so long is sent a ping. `None`: never.
    pub ping_interval: Option<Duration>,
    /// A side that then sends nothing for so long is given up. Default 10 s.
    pub pong_timeout: Duration,
    /// One in which neither side sends a frame for so long is closed. `None`: that of any tunnel,
    /// which ends without a close frame unless frames are looked at for another reason.
    pub idle_timeout: Option<Duration>,
    /// One that is so old is closed. `None`: none is.
    pub max_age: Option<Duration>,
    /// Per cent of `max_age` by which it may be closed earlier. Default 10.
    pub max_age_jitter: u32,
    /// Most at once. `None`: any number.
    pub max_open: Option<usize>,
    /// Most at once of one client address (IPv6: /64).
    pub max_open_per_address: Option<usize>,
    /// How many messages a client may send.
    pub messages: Option<MessageRate>,
    /// At a graceful stop they are closed one after the other within this time. `None`: within 10 s
    /// if frames are looked at for another reason; else they end with the process.
    pub drain_window: Option<Duration>,
    /// A request that asks for none is answered 426. Default false.
    pub required: bool,
}

/// Whose pages may open a WebSocket. Clients that send no `Origin`, which are no browsers, always may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Any.
    Any,
    /// Those of the same host and port, and those whose host, or host and port, matches one of these,
    /// lower-case, in which `*` stands for any characters and `?` for one.
    Listed(Vec<String>),
}

/// How many messages a client may send on one WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRate {
    /// So many, on average, ...
    pub rate: u32,
    /// ... in this time. Default 1 s.
    pub per: Duration,
    /// So many at once. Default `rate`.
    pub burst: u32,
}

impl WebSocket {
    /// Within this time sockets are closed at a graceful stop if nothing else is said.
    pub const DRAIN_WINDOW: Duration = Duration::from_secs(10);

    /// Some of it can only be kept by one who looks at the frames.
    pub fn needs_frames(&self) -> bool {
        self.client_message_max.is_some()
            || self.server_message_max.is_some()
            || self.ping_interval.is_some()
            || self.idle_timeout.is_some()
            || self.max_age.is_some()
            || self.messages.is_some()
            || self.drain_window.is_some()
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            client_message_max: None,
            server_message_max: None,
            origins: Origins::Any,
            default_origin: None,
            ping_interval: None,
            pong_timeout: Duration::from_secs(10),
            idle_timeout: None,
            max_age: None,
            max_age_jitter: 10,
            max_open: None,
            max_open_per_address: None,
            messages: None,
            drain_window: None,
            required: false,
        }
    }
}
