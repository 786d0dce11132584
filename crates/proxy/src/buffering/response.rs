//! Which responses are read as fast as the upstream gives them.

use wire::field::FieldId;
use wire::head::{Framing, ResponseHead};

use crate::decide::Matched;

/// Whether this response is buffered: as the site says, unless the upstream says otherwise in
/// `X-Accel-Buffering`, as nginx takes it.
pub(crate) fn wants_response(matched: &Matched<'_>, head: &ResponseHead, bytes: &[u8]) -> bool {
    let settings = &matched.proxy.buffering;
    let wants = says(head, bytes).unwrap_or(settings.response);
    wants && settings.max > 0 && head.framing != Framing::None
}

/// Whether `X-Accel-Buffering` has done its work here. Where nothing is buffered, a `no` is left for
/// the next proxy on the way.
pub(crate) fn hides_field(matched: &Matched<'_>, head: &ResponseHead, bytes: &[u8]) -> bool {
    matched.proxy.buffering.response || says(head, bytes) == Some(true)
}

/// What the upstream says of it.
fn says(head: &ResponseHead, bytes: &[u8]) -> Option<bool> {
    let value = head.get(FieldId::XAccelBuffering)?.value.of(bytes);
    match () {
        () if value.eq_ignore_ascii_case(b"yes") => Some(true),
        () if value.eq_ignore_ascii_case(b"no") => Some(false),
        () => None,
    }
}
