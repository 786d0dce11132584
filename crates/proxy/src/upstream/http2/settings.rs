//! What is agreed with upstreams for every HTTP/2 connection. Nothing is left to the library's
//! defaults.

use std::time::Duration;

use h2::client::Builder;

/// Streams of one connection at once, if its peer allows so many. Before it has said how many, there
/// is one.
pub(super) const STREAMS_MAX: usize = 100;
/// Bytes of one response that may be under way or waiting to be read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a connection: as much as all its streams together, so that clients which do not read
/// their responses cannot hold up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS_MAX as u32;
/// Bytes of a DATA frame. Fewer frames than with the least allowed, 16 KiB.
const FRAME_SIZE: u32 = 64 * 1024;
/// Bytes of the fields of a response, as RFC 9113 §6.5.2 counts them.
const FIELDS_SIZE: u32 = 64 * 1024;
/// Bytes of one request's body that wait to be sent.
const SEND_BUFFER: usize = 256 * 1024;
/// Bytes of the table of fields for the compression of heads (RFC 7541 §4.2), the protocol's default.
const FIELD_TABLE: u32 = 4096;
/// Streams given up here whose late frames are still known for what they are, so that a burst of
/// clients which go away does not look like an error of the upstream.
const CANCELLED_MAX: usize = 1024;
/// How long they are known.
const CANCELLED_FOR: Duration = Duration::from_secs(5);
/// Streams that broke the protocol before the whole connection is given up.
const ERRORS_MAX: usize = 100;

/// The beginning of every connection.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(1)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_header_list_size(FIELDS_SIZE)
        .max_send_buffer_size(SEND_BUFFER)
        .header_table_size(FIELD_TABLE)
        .max_concurrent_reset_streams(CANCELLED_MAX)
        .reset_stream_duration(CANCELLED_FOR)
        .max_local_error_reset_streams(Some(ERRORS_MAX));
    builder
}
