//! The ways an exchange can end other than well: one table, for logs, metrics, `Proxy-Status` and people.
//!
//! What always holds: every party, phase and cause that can be put together has a reason; where the
//! table has none for just that, it is the general one of the party.

use super::{Cause, Party, Phase};
use Cause as C;
use Party::{Client, Proxy, Upstream};
use Phase as P;

/// One way for an exchange to end.
#[derive(Debug, Clone, Copy)]
pub struct Reason {
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Who is to blame.
    pub by: Party,
    /// What was being done; any phase if empty.
    pub phases: &'static [Phase],
    /// What went wrong; anything if empty.
    pub causes: &'static [Cause],
    /// The status that the client gets if it has got nothing yet; 0 if it gets none, or one of several.
    pub status: u16,
    /// The error in `Proxy-Status` (RFC 9209 §2.3); empty if there is nobody to tell.
    pub error: &'static str,
    /// What happened, in a sentence.
    pub about: &'static str,
    /// What an operator may do about it.
    pub advice: &'static str,
}

/// The reason for this end.
#[must_use]
pub fn of(by: Party, phase: Phase, cause: Cause) -> &'static Reason {
    &REASONS[usize::from(INDEX[by as usize][phase as usize][cause as usize])]
}

/// The number of the reason for this end in [`REASONS`].
#[must_use]
pub fn index_of(by: Party, phase: Phase, cause: Cause) -> usize {
    usize::from(INDEX[by as usize][phase as usize][cause as usize])
}

type Index = [[[u8; C::ALL.len()]; P::ALL.len()]; Party::ALL.len()];

static INDEX: Index = index();

/// The first row that fits each combination.
const fn index() -> Index {
    let mut index = [[[0; C::ALL.len()]; P::ALL.len()]; Party::ALL.len()];
    let mut by = 0;
    while by < Party::ALL.len() {
        let mut phase = 0;
        while phase < P::ALL.len() {
            let mut cause = 0;
            while cause < C::ALL.len() {
                let ended = (Party::ALL[by], P::ALL[phase], C::ALL[cause]);
                index[by][phase][cause] = row_of(ended.0, ended.1, ended.2);
                cause += 1;
            }
            phase += 1;
        }
        by += 1;
    }
    index
}

const fn row_of(by: Party, phase: Phase, cause: Cause) -> u8 {
    // A cause that no row names is what its class is.
    let exact = find(by, phase, cause);
    match exact < REASONS.len() {
        true => exact as u8,
        false => find(by, phase, cause.class()) as u8,
    }
}

/// The first row; beyond the last one if there is none but for a cause that is no class.
const fn find(by: Party, phase: Phase, cause: Cause) -> usize {
    let fine = cause as u8 != cause.class() as u8;
    let mut row = 0;
    while row < REASONS.len() {
        let reason = &REASONS[row];
        if reason.by as u8 == by as u8 {
            let mut at = 0;
            let mut fits_phase = reason.phases.is_empty();
            while at < reason.phases.len() {
                fits_phase |= reason.phases[at] as u8 == phase as u8;
                at += 1;
            }
            at = 0;
            let mut fits_cause = reason.causes.is_empty() && !fine;
            while at < reason.causes.len() {
                fits_cause |= reason.causes[at] as u8 == cause as u8;
                at += 1;
            }
            if fits_phase && fits_cause {
                return row;
            }
        }
        row += 1;
    }
    row
}

/// One row; read it as: name, who, phases, causes, status, `Proxy-Status` error, sentence, advice.
macro_rules! reasons {
    ($($name:literal $by:ident [$($phase:ident),*] [$($cause:ident),*] $status:literal $error:literal
        $about:literal $advice:literal;)*) => {
        /// All of them, as a request would meet them; the general ones come last.
        pub const REASONS: &[Reason] = &[$(Reason {
            name: $name,
            by: $by,
            phases: &[$(P::$phase),*],
            causes: &[$(C::$cause),*],
            status: $status,
            error: $error,
            about: $about,
            advice: $advice,
        }),*];
    };
}

reasons! {
    // Before a request.
    "tls_handshake" Client [Accept] [Tls, Certificate] 0 ""
        "No TLS connection could be agreed upon with the client; at level `debug` the error log says why."
        "Compare what the client offers with `ssl`; a client that does not trust the certificate says so there.";
    "handshake_cut" Client [Accept] [Closed, Reset] 0 ""
        "The client left before its connection could carry a request."
        "Nothing; scanners and load balancers' probes do so.";
    "handshake_timeout" Client [Accept] [Timeout] 0 ""
        "The PROXY header or the TLS handshake was not complete within `limits.handshake_timeout`."
        "Many at once are an attack.";
    "handshake_displaced" Proxy [Accept] [Limit] 0 ""
        "The TLS handshake gave way to newer ones: more than `limits.handshakes` were under way."
        "Many at once are an attack, or the machine is too slow for its clients.";
    "proxy_header" Client [Accept] [Malformed, Unsupported] 0 ""
        "What came in place of a PROXY header is none."
        "Is the load balancer set to send it?";
    "proxy_header_untrusted" Client [Accept] [Denied] 0 ""
        "A peer that is not in `trusted_proxies` connected to a listener with the PROXY protocol."
        "Name it there if it is yours.";

    // The head.
    "plain_http" Client [Head] [Tls] 400 "http_request_error"
        "A plain HTTP request came to a port that speaks TLS; only the 400 was sent."
        "Write `https://` where the address is written; `redirect_to_https` needs a plain port of its own.";
    "head_malformed" Client [Head] [Malformed] 400 "http_request_error"
        "The head or target breaks HTTP, or could be read in two ways; over HTTP/2 the stream is reset and nothing is answered."
        "An attack, or a faulty client; `%2F` in paths: `security.allow_encoded_slashes`.";
    "head_too_large" Client [Head] [Limit] 431 "http_request_error"
        "The head is larger than `limits.head_size` or has more than `limits.fields`; 414 if the target alone is too long."
        "Large cookies are the usual reason.";
    "head_unsupported" Client [Head] [Unsupported] 501 "http_request_error"
        "The request has a transfer coding, a version (505) or an expectation (417) that Ravelin does not know."
        "Usually nothing.";
    "head_timeout" Client [Head] [Timeout] 408 "http_request_error"
        "The head was not complete within `limits.head_timeout`."
        "Usually nothing; many at once are an attack.";
    "streams_exceeded" Client [Head] [Streams] 503 "http_request_denied"
        "More HTTP/2 streams, or bytes of their heads, at once than a connection may have; the stream was refused and can be tried again."
        "Look at the client if it happens often.";

    // What the rules say.
    "access_denied" Client [Decide] [Denied] 403 "http_request_denied"
        "An access list keeps the client out."
        "Nothing, if the list is right.";
    "target_malformed" Client [Decide] [Malformed] 400 "http_request_error"
        "The target is not what the route's rules can make use of."
        "Usually nothing.";
    "body_too_large" Client [Decide, Send] [Limit] 413 "http_request_error"
        "The body is longer than `max_request_size`."
        "Raise it if the request was meant.";
    "preflight_refused" Client [Decide] [Preflight] 403 "http_request_denied"
        "A page of an origin, or with a method or field, that `access_control` does not allow asked whether it may send a request."
        "Allow it if it is yours.";
    "rate_limited" Client [Decide] [RateLimit] 429 "http_request_denied"
        "More requests came than a rate limit takes."
        "Raise the limit if the client is welcome.";
    "left_held" Client [Decide] [Closed, Reset] 499 ""
        "The client left while a rate limit held its request."
        "Nothing.";
    "unauthorized" Client [Decide] [Unauthorized] 401 "http_request_denied"
        "Credentials are missing, wrong or expired; 400 if there are several, or an empty one. At level `debug` the error log says which."
        "Usually nothing; many at once are somebody who guesses.";
    "forbidden" Client [Decide] [Forbidden] 403 "http_request_denied"
        "The credentials are good, but not for this."
        "Compare what the route asks for with what the user has.";
    "auth_busy" Client [Decide] [AuthBusy] 503 "http_request_denied"
        "More passwords came than can be checked; each costs some processor time on purpose."
        "Somebody guesses passwords, or passwords are hashed at too high a cost.";
    "early_upgrade" Client [Decide] [EarlyUpgrade] 400 "http_request_error"
        "More bytes than `limits.early_upgrade` came with an upgrade request."
        "A faulty client.";
    "origin_denied" Client [Decide] [Origin] 403 "http_request_denied"
        "A page asked for a WebSocket whose origin `websocket.origins` does not name."
        "Name it there if it is yours.";
    "sockets_exceeded" Client [Decide] [Sockets] 503 "http_request_denied"
        "`websocket.max_open` or `max_open_per_address` WebSockets are open."
        "Raise it if they were meant.";
    "upgrade_required" Client [Decide] [Unsupported] 426 "http_request_error"
        "No WebSocket was asked for where `websocket.required` is set."
        "Usually nothing.";

    // Finding an endpoint.
    "no_endpoint" Proxy [Queue] [NoEndpoint] 503 "destination_unavailable"
        "No endpoint of the pool may be used: all are down, drained, or have been tried."
        "Look at the pool's entries, and at what the error log said of them.";
    "no_address" Proxy [Queue] [Unresolved] 503 "dns_error"
        "No host name of the pool's endpoints resolves; they are looked up again, every 30 s at the latest."
        "Correct the names, or the name server.";
    "queue_full" Proxy [Queue] [QueueFull] 503 "connection_limit_reached"
        "All endpoints are at `max_conns`, and `queue.max` requests wait already."
        "The application is too slow, or the limits too low.";
    "queue_timeout" Proxy [Queue] [QueueTimeout] 503 "connection_limit_reached"
        "No endpoint had room within `queue.timeout`."
        "The application is too slow, or the limits too low.";
    "request_timeout" Proxy [Queue] [Timeout] 504 "http_response_timeout"
        "The time for the whole request, `timeout.request`, passed while it waited for an endpoint."
        "The application is too slow, or the limits too low.";
    "circuit_open" Proxy [Queue] [CircuitOpen] 503 "destination_unavailable"
        "Too many requests to the pool failed, so its circuit breaker keeps them away; the error log said so when it began."
        "Look at the upstreams; `Retry-After` tells the client when to come again.";
    "left_waiting_for_room" Client [Queue] [Closed, Reset, Tls] 499 ""
        "The client left while its request waited for an endpoint, or for another attempt."
        "Many of them: too few endpoints.";

    // Connecting.
    "connect_refused" Upstream [Connect] [Refused] 502 "connection_refused"
        "Nothing listens at any endpoint that was tried."
        "Start the application; compare `url` with where it listens.";
    "connect_timeout" Upstream [Connect] [Timeout] 504 "connection_timeout"
        "There was no answer to the connection within `timeout.connect`."
        "Look for a firewall or an overloaded host.";
    "connect_unreachable" Upstream [Connect] [Unreachable] 502 "destination_ip_unroutable"
        "There is no route to the host."
        "Look at addresses and routes of this machine.";
    "unresolved" Upstream [Connect] [Unresolved] 503 "dns_error"
        "The name did not resolve when it was last looked up, or the Unix socket does not exist; a name is tried again, every 30 s at the latest."
        "Correct the name, or the name server; start the application.";
    "connect_tls" Upstream [Connect] [Tls] 502 "tls_protocol_error"
        "There is no TLS connection to the upstream; the error log says why: no TLS or no HTTP/2 there, no version in common."
        "Compare `url` with what is spoken there; set `server_name` in the upstream's `tls` table.";
    "upstream_certificate" Upstream [Connect] [Certificate] 502 "tls_certificate_error"
        "The upstream's certificate is no good; the error log says why: expired, for another name, of an unknown authority."
        "Renew it; set `server_name` or `ca_file` in the upstream's `tls` table.";
    "no_stream" Upstream [Connect] [NoEndpoint] 503 "connection_limit_reached"
        "More requests wait for a stream of an HTTP/2 upstream than may wait."
        "It is overloaded, or allows too few streams.";
    "connect_lost" Upstream [Connect] [Closed, Reset] 502 "connection_terminated"
        "The upstream ended the connection while it was being opened."
        "Look in the application's log; is something else in front of it?";
    "connect_failed" Upstream [Connect] [] 502 "proxy_internal_error"
        "The system refused a connection for another reason; the error log has its words."
        "Often descriptors (`ulimit -n`) or rights of a Unix socket.";

    // Sending.
    "body_malformed" Client [Send] [Malformed] 400 "http_request_error"
        "The coding of the request's body is broken."
        "An attack, or a faulty client.";
    "body_too_slow" Client [Send] [Timeout] 408 "http_request_error"
        "The body came slower than `limits.body_min_rate`."
        "Lower it for clients on bad lines.";
    "left_sending" Client [Send] [] 499 ""
        "The client left in the middle of its request."
        "Nothing.";
    "upstream_not_reading" Upstream [Send] [Timeout] 504 "connection_write_timeout"
        "The upstream took nothing of the request for `timeout.write`."
        "It is stuck or overloaded.";
    "buffer_failed" Proxy [Send] [Internal] 500 "proxy_internal_error"
        "The request's body could not be kept in a file; the error log says why."
        "Look at the disk that `buffering.directory` is on.";

    // Waiting for the response.
    "response_timeout" Upstream [FirstByte] [Timeout] 504 "http_response_timeout"
        "Connected and sent, but no response came within `timeout.first_byte` (as `read`, if it is not written)."
        "Find out why it is slow, or raise it.";
    "found_down" Upstream [FirstByte] [Down] 504 "destination_unavailable"
        "Active checks found the endpoint down while it owed a response, and no other had one."
        "Look in the application's log.";
    "closed_early" Upstream [FirstByte] [Closed] 502 "connection_terminated"
        "The upstream closed the connection before a response."
        "Look for a crash, or a worker limit, in the application's log.";
    "reset_early" Upstream [FirstByte] [Reset] 502 "connection_terminated"
        "The upstream reset the connection or stream before a response."
        "Look for a crash, or a worker limit, in the application's log.";
    "goaway" Upstream [FirstByte] [Goaway] 502 "connection_terminated"
        "An HTTP/2 upstream said that it did nothing with the request (GOAWAY, REFUSED_STREAM), and no other took it."
        "It is being restarted, or allows too few streams.";
    "response_malformed" Upstream [FirstByte] [Malformed] 502 "http_protocol_error"
        "The answer is not HTTP, or not as it must be; the error log says what was wrong."
        "Is it the right port? Does it speak TLS there?";
    "response_head_too_large" Upstream [FirstByte] [HeadTooLarge] 502 "http_response_header_section_size"
        "The head of the response is larger than 64 KiB or has more than 200 fields."
        "Look for cookies that the application sets again and again.";
    "upgrade_failed" Upstream [FirstByte] [BadUpgrade] 502 "http_upgrade_failed"
        "The upstream changed to a protocol nobody asked for."
        "A fault of the application.";
    "left_waiting" Client [FirstByte] [] 499 ""
        "The client did not wait for the response; the request to the upstream was cancelled."
        "Many of them: the application is too slow for its users.";

    // The response.
    "response_cut" Upstream [Transfer] [Closed, Reset] 502 "http_response_incomplete"
        "The response broke off; the client's was broken off too, or it got a 502 if it had not seen a byte."
        "Look in the application's log.";
    "response_stalled" Upstream [Transfer] [Timeout] 504 "connection_read_timeout"
        "Nothing came of the response for `timeout.read`."
        "Look in the application's log.";
    "response_coding" Upstream [Transfer] [Malformed, Unsupported] 502 "http_response_transfer_coding"
        "The response's chunked coding is broken."
        "A fault of the application.";
    "response_too_large" Upstream [Transfer] [Limit] 502 "http_response_body_size"
        "The response is longer than `max_response_size`."
        "Raise it if the response was meant.";
    "upstream_tls" Upstream [Send, FirstByte, Transfer] [Tls] 502 "tls_protocol_error"
        "The upstream broke TLS on a connection that was open."
        "Look in the application's log.";
    "left_receiving" Client [Transfer] [Closed, Reset, Tls] 0 ""
        "The client left before it had the whole response."
        "Nothing.";
    "receiving_too_slow" Client [Transfer] [Timeout] 0 ""
        "The client took the response slower than `limits.body_min_rate`."
        "Lower it for clients on bad lines.";
    "file_changed" Proxy [Transfer] [Internal] 500 "proxy_internal_error"
        "A file became shorter while it was sent, or what was kept of a response could not be read."
        "Replace files by renaming, not by writing into them.";

    // Tunnels.
    "client_message_too_large" Client [Tunnel] [Limit] 101 ""
        "The client sent a message over `websocket.client_max_message_size`; closed with 1009."
        "Raise it if the message was meant.";
    "client_messages_exceeded" Client [Tunnel] [MessageRate] 101 ""
        "The client sent more than `websocket.messages`; closed with 1008."
        "Raise it if they were meant.";
    "client_frames" Client [Tunnel] [Malformed] 101 ""
        "The client broke the WebSocket protocol; at level `debug` the error log says how."
        "A faulty client.";
    "client_silent" Client [Tunnel] [Timeout] 101 ""
        "The client did not answer a ping within `websocket.pong_timeout`, or a close frame."
        "Nothing.";
    "client_tunnel_lost" Client [Tunnel] [] 101 ""
        "The client's side of the tunnel was reset. One that is closed, even without a close frame, is not a failure."
        "Nothing.";
    "upstream_message_too_large" Upstream [Tunnel] [Limit] 101 ""
        "The upstream sent a message over `websocket.server_max_message_size`; closed with 1009."
        "Raise it if the message was meant.";
    "upstream_frames" Upstream [Tunnel] [Malformed] 101 ""
        "The upstream broke the WebSocket protocol; at level `debug` the error log says how."
        "A fault of the application.";
    "upstream_silent" Upstream [Tunnel] [Timeout] 101 ""
        "The upstream did not answer a ping within `websocket.pong_timeout`, or a close frame."
        "Look in the application's log.";
    "upstream_tunnel_lost" Upstream [Tunnel] [] 101 ""
        "The upstream broke the tunnel off."
        "Look in the application's log.";
    "tunnel_idle" Proxy [Tunnel] [Timeout] 101 ""
        "Not a byte came either way for `timeout.tunnel`, or no frame for `websocket.idle_timeout`."
        "Send pings, or raise it.";
    "tunnel_age" Proxy [Tunnel] [Limit] 101 ""
        "Closed at `websocket.max_age`."
        "Nothing.";
    "drained" Proxy [Tunnel] [Aborted] 101 ""
        "Closed with 1012 because Ravelin was ending, or cut off then."
        "Nothing; clients come again.";

    // Ravelin itself.
    "panic" Proxy [] [Panic] 0 ""
        "Cut off by a fault in Ravelin, which has cost this connection only; standard error says where."
        "Please report it.";
    "cut_off" Proxy [] [Aborted] 0 ""
        "Cut off because Ravelin was ending: at SIGQUIT, at a second SIGTERM, or when its time to drain was over. How many bytes it had moved is not known."
        "Give it more time to drain if that happens often.";
    "internal" Proxy [] [] 500 "proxy_internal_error"
        "A fault of Ravelin or the machine; the error log has the system's words."
        "Look at descriptors, memory and disk; report it if it is none of them.";
    "client_failed" Client [] [] 400 "http_request_error"
        "The client is to blame in another way, which the phase and cause say."
        "Usually nothing.";
    "upstream_failed" Upstream [] [] 502 "proxy_internal_error"
        "The upstream is to blame in another way, which the phase and cause say."
        "Look in the application's log.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All errors of RFC 9209 §2.3.
    const ERRORS: &[&str] = &[
        "dns_timeout",
        "dns_error",
        "destination_not_found",
        "destination_unavailable",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_read_timeout",
        "connection_write_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "tls_alert_received",
        "http_request_error",
        "http_request_denied",
        "http_response_incomplete",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_body_size",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_response_content_coding",
        "http_response_timeout",
        "http_upgrade_failed",
        "http_protocol_error",
        "proxy_internal_response",
        "proxy_internal_error",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ];

    fn all() -> impl Iterator<Item = (Party, Phase, Cause)> {
        let phases = || P::ALL.into_iter().flat_map(|phase| C::ALL.map(|cause| (phase, cause)));
        Party::ALL.into_iter().flat_map(move |by| phases().map(move |(p, c)| (by, p, c)))
    }

    #[test]
    fn every_end_has_a_reason_and_every_reason_an_end() {
        let mut met = BTreeSet::new();
        for (by, phase, cause) in all() {
            let reason = of(by, phase, cause);
            assert_eq!(reason.by, by, "{}", reason.name);
            assert!(reason.phases.is_empty() || reason.phases.contains(&phase), "{}", reason.name);
            let causes = reason.causes;
            let fits = causes.contains(&cause) || causes.contains(&cause.class());
            assert!(causes.is_empty() || fits, "{}: {cause:?}", reason.name);
            assert_eq!(REASONS[index_of(by, phase, cause)].name, reason.name);
            met.insert(reason.name);
        }
        let names: BTreeSet<&str> = REASONS.iter().map(|reason| reason.name).collect();
        assert_eq!(names.len(), REASONS.len(), "a name stands for two");
        assert_eq!(met, names, "nothing ends like that");
    }

    #[test]
    fn what_is_said_exactly_is_not_taken_for_something_general() {
        let cases = [
            (Client, P::Decide, C::Denied, "access_denied"),
            (Client, P::Decide, C::Origin, "origin_denied"),
            (Client, P::Send, C::Limit, "body_too_large"),
            (Client, P::Head, C::Streams, "streams_exceeded"),
            (Proxy, P::Queue, C::QueueFull, "queue_full"),
            (Upstream, P::Connect, C::Certificate, "upstream_certificate"),
            (Upstream, P::Connect, C::Internal, "connect_failed"),
            (Upstream, P::FirstByte, C::Goaway, "goaway"),
            // The cause is finer than any row of that phase, and falls to its class.
            (Upstream, P::Transfer, C::Goaway, "response_cut"),
            (Proxy, P::FirstByte, C::Panic, "panic"),
            (Proxy, P::Tunnel, C::Aborted, "drained"),
            (Proxy, P::Transfer, C::Aborted, "cut_off"),
            (Client, P::Transfer, C::Internal, "client_failed"),
        ];
        for (by, phase, cause, name) in cases {
            assert_eq!(of(by, phase, cause).name, name, "{by:?} {phase:?} {cause:?}");
        }
    }

    #[test]
    fn the_table_is_fit_to_be_shown() {
        for reason in REASONS {
            let Reason { name, error, about, advice, .. } = *reason;
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(error.is_empty() || ERRORS.contains(&error), "{name}: {error}");
            for text in [about, advice] {
                assert!(
                    text.ends_with(['.', '?']) && !text.contains(['|', '\n']),
                    "{name}: {text}"
                );
            }
            // Whom an error is told, there is a status for.
            assert!(error.is_empty() || reason.status >= 400, "{name}");
        }
    }
}
