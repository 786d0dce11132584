//! What is measured.

use crate::Result;

/// One kind of traffic, the same for every proxy.
pub(crate) struct Scenario {
    /// As `--scenario` and the tables call it.
    pub(crate) name: &'static str,
    /// What a reader of the table has to know.
    pub(crate) about: &'static str,
    /// Who makes the traffic.
    pub(crate) load: Load,
    /// Who answers it.
    pub(crate) backend: Backend,
    /// Much payload a message: HAProxy is measured with `splice(2)` and without.
    pub(crate) bulk: bool,
    /// Ravelin is compared with itself: everything that looks at traffic on, and off.
    pub(crate) observed: bool,
}

/// The traffic.
pub(crate) enum Load {
    /// HTTP/1.1 requests from wrk.
    Http {
        connections: usize,
        path: &'static str,
        /// Bytes the response carries.
        response: usize,
        /// Bytes of the request's body; a POST if there are any.
        body: usize,
        /// `Connection: close` on every request.
        close: bool,
        /// Over TLS.
        tls: bool,
    },
    /// A TLS connection for every request, from the bench's own client.
    Handshake {
        /// At once.
        connections: usize,
        /// With the ticket of the connection before; in full otherwise.
        resume: bool,
    },
    /// HTTP/2 requests over TLS from h2load.
    Http2 {
        connections: usize,
        /// Requests at once on each.
        streams: usize,
        /// Unary gRPC calls; GET requests otherwise.
        grpc: bool,
    },
    /// One WebSocket message at a time on each connection, `size` bytes.
    WebSocket { connections: usize, size: usize, mode: Mode },
    /// Nothing: connections that have done one request each and wait.
    Idle {
        connections: usize,
        /// Over TLS.
        tls: bool,
    },
    /// Nothing: WebSockets that have echoed one message each and wait.
    IdleWebSockets { connections: usize, mode: Mode },
}

/// What Ravelin does with the bytes of a WebSocket. nginx and HAProxy only ever pipe them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes them on.
    Pipe,
    /// Looks at the frames, because there is a limit on the length of messages.
    Frames,
}

impl Load {
    /// Client connections at once.
    pub(crate) fn connections(&self) -> usize {
        match *self {
            Load::Http { connections, .. }
            | Load::Handshake { connections, .. }
            | Load::Http2 { connections, .. }
            | Load::WebSocket { connections, .. }
            | Load::IdleWebSockets { connections, .. }
            | Load::Idle { connections, .. } => connections,
        }
    }

    /// Whether clients speak TLS.
    pub(crate) fn is_tls(&self) -> bool {
        match *self {
            Load::Http { tls, .. } | Load::Idle { tls, .. } => tls,
            Load::Handshake { .. } | Load::Http2 { .. } => true,
            Load::WebSocket { .. } | Load::IdleWebSockets { .. } => false,
        }
    }

    /// Whether memory is measured and not time.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Load::Idle { .. } | Load::IdleWebSockets { .. })
    }

    /// Bytes of memory that each connection may cost Ravelin at most, where that is said.
    pub(crate) fn memory_max(&self) -> Option<f64> {
        match self {
            Load::IdleWebSockets { .. } => Some(6.0 * 1024.0),
            Load::Idle { tls: true, .. } => Some(24.0 * 1024.0),
            _ => None,
        }
    }

    /// Whether upstreams speak HTTP/2, as gRPC needs.
    pub(crate) fn is_grpc(&self) -> bool {
        matches!(self, Load::Http2 { grpc: true, .. })
    }

    /// Whether tunnels are asked for.
    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self, Load::WebSocket { .. } | Load::IdleWebSockets { .. })
    }

    /// Whether messages of tunnels have a limit.
    pub(crate) fn looks_at_frames(&self) -> bool {
        let (Load::WebSocket { mode, .. } | Load::IdleWebSockets { mode, .. }) = *self else {
            return false;
        };
        mode == Mode::Frames
    }
}

/// Where a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// By an nginx as origin.
    Nginx,
    /// By the same nginx at [`FIVE`] more addresses, which are one pool with health checks and all
    /// that a proxy has for keeping requests from upstreams that fail.
    Five,
    /// By the bench's own origin, which reads a request's body before it answers.
    Own,
    /// By the bench's own origin for gRPC, which speaks HTTP/2 without TLS.
    Grpc,
    /// By the proxy itself, from a directory.
    Files,
}

/// Body of a small response.
pub(crate) const SMALL: usize = 128;
/// A static file's size.
pub(crate) const FILE: usize = 4096;
/// Upstreams of [`Backend::Five`].
pub(crate) const FIVE: usize = 5;

/// Every scenario, in the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "keepalive-64",
        about: "128-byte responses on 64 kept connections",
        load: http(64, "/small", SMALL),
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "keepalive-1000",
        about: "128-byte responses on 1000 kept connections",
        load: http(1000, "/small", SMALL),
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "connection-per-request",
        about: "128-byte responses, a new client connection each, upstream connections kept",
        load: CONNECTION_PER_REQUEST,
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "body-64k",
        about: "64 KiB responses on 64 kept connections",
        load: http(64, "/64k.bin", 64 << 10),
        backend: Backend::Nginx,
        bulk: true,
        observed: false,
    },
    Scenario {
        name: "body-1m",
        about: "1 MiB responses on 16 kept connections",
        load: http(16, "/1m.bin", 1 << 20),
        backend: Backend::Nginx,
        bulk: true,
        observed: false,
    },
    Scenario {
        name: "post-64k",
        about: "64 KiB request bodies on 64 kept connections, small responses",
        load: Load::Http {
            connections: 64,
            path: "/sink",
            response: 2,
            body: 64 << 10,
            close: false,
            tls: false,
        },
        backend: Backend::Own,
        bulk: true,
        observed: false,
    },
    Scenario {
        name: "ws-echo-128",
        about: "128-byte WebSocket messages and their echoes on 64 connections",
        load: Load::WebSocket { connections: 64, size: 128, mode: Mode::Pipe },
        backend: Backend::Own,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "ws-echo-64k",
        about: "64 KiB WebSocket messages and their echoes on 16 connections",
        load: Load::WebSocket { connections: 16, size: 64 << 10, mode: Mode::Pipe },
        backend: Backend::Own,
        bulk: true,
        observed: false,
    },
    Scenario {
        name: "ws-frames-128",
        about: "ws-echo-128 with a limit on the length of messages in Ravelin",
        load: Load::WebSocket { connections: 64, size: 128, mode: Mode::Frames },
        backend: Backend::Own,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "ws-frames-64k",
        about: "ws-echo-64k with a limit on the length of messages in Ravelin",
        load: Load::WebSocket { connections: 16, size: 64 << 10, mode: Mode::Frames },
        backend: Backend::Own,
        bulk: true,
        observed: false,
    },
    Scenario {
        name: "static-4k",
        about: "a 4 KiB file from the proxy's own directory on 64 kept connections",
        load: http(64, "/4k.bin", FILE),
        backend: Backend::Files,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "idle",
        about: "process memory of client connections that did one request and wait",
        load: Load::Idle { connections: 5000, tls: false },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "idle-ws",
        about: "process memory of WebSockets that did one echo and wait",
        load: Load::IdleWebSockets { connections: 10_000, mode: Mode::Pipe },
        backend: Backend::Own,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "idle-ws-frames",
        about: "idle-ws with a limit on the length of messages in Ravelin",
        load: Load::IdleWebSockets { connections: 10_000, mode: Mode::Frames },
        backend: Backend::Own,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "https-keepalive",
        about: "128-byte responses over TLS on 64 kept connections",
        load: Load::Http {
            connections: 64,
            path: "/small",
            response: SMALL,
            body: 0,
            close: false,
            tls: true,
        },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "tls-handshake",
        about: "128-byte responses, a new connection with a full TLS handshake each",
        load: Load::Handshake { connections: 32, resume: false },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "tls-resume",
        about: "128-byte responses, a new connection with a resumed TLS session each",
        load: Load::Handshake { connections: 32, resume: true },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "h2-16x16",
        about: "128-byte responses, HTTP/2 over TLS, 16 connections with 16 requests at once each",
        load: Load::Http2 { connections: 16, streams: 16, grpc: false },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "h2-1x100",
        about: "128-byte responses, HTTP/2 over TLS, one connection with 100 requests at once",
        load: Load::Http2 { connections: 1, streams: 100, grpc: false },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "grpc-unary",
        about: "gRPC calls with 128-byte messages, HTTP/2 on both sides, 16 connections with 16 \
                calls at once each",
        load: Load::Http2 { connections: 16, streams: 16, grpc: true },
        backend: Backend::Grpc,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "idle-tls",
        about: "process memory of TLS connections that did one request and wait",
        load: Load::Idle { connections: 5000, tls: true },
        backend: Backend::Nginx,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "observed-keepalive-64",
        about: "keepalive-64: Ravelin with metrics, JSON log and recorder against itself without",
        load: http(64, "/small", SMALL),
        backend: Backend::Nginx,
        bulk: false,
        observed: true,
    },
    Scenario {
        name: "observed-keepalive-1000",
        about: "keepalive-1000: Ravelin with metrics, JSON log and recorder against itself without",
        load: http(1000, "/small", SMALL),
        backend: Backend::Nginx,
        bulk: false,
        observed: true,
    },
    Scenario {
        name: "observed-connection-per-request",
        about: "connection-per-request: Ravelin with metrics, JSON log and recorder against itself \
                without",
        load: CONNECTION_PER_REQUEST,
        backend: Backend::Nginx,
        bulk: false,
        observed: true,
    },
    Scenario {
        name: "observed-body-64k",
        about: "body-64k: Ravelin with metrics, JSON log and recorder against itself without",
        load: http(64, "/64k.bin", 64 << 10),
        backend: Backend::Nginx,
        bulk: false,
        observed: true,
    },
    Scenario {
        name: "five-keepalive-64",
        about: "keepalive-64 with five upstreams, health checks and passive accounting",
        load: http(64, "/small", SMALL),
        backend: Backend::Five,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "five-keepalive-1000",
        about: "keepalive-1000 with five upstreams, health checks and passive accounting",
        load: http(1000, "/small", SMALL),
        backend: Backend::Five,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "five-connection-per-request",
        about: "connection-per-request with five upstreams, health checks and passive accounting",
        load: CONNECTION_PER_REQUEST,
        backend: Backend::Five,
        bulk: false,
        observed: false,
    },
    Scenario {
        name: "five-body-64k",
        about: "body-64k with five upstreams, health checks and passive accounting",
        load: http(64, "/64k.bin", 64 << 10),
        backend: Backend::Five,
        bulk: true,
        observed: false,
    },
];

const CONNECTION_PER_REQUEST: Load = Load::Http {
    connections: 64,
    path: "/small",
    response: SMALL,
    body: 0,
    close: true,
    tls: false,
};

/// The scenarios of these names, or all when none is given.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if let Some(unknown) = names.iter().find(|name| SCENARIOS.iter().all(|s| s.name != **name)) {
        let known: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
        return Err(format!("no scenario `{unknown}`; there are {}", known.join(", ")).into());
    }
    let wanted = |s: &&Scenario| names.is_empty() || names.iter().any(|name| name == s.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

const fn http(connections: usize, path: &'static str, response: usize) -> Load {
    Load::Http { connections, path, response, body: 0, close: false, tls: false }
}
