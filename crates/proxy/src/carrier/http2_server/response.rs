//! A response head from HTTP/1 text to the fields of HTTP/2 (RFC 9113 §8.2.2, §8.3.2).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use wire::field::{Field, FieldId};
use wire::head::ResponseHead;

/// The response that `head`, an index over `text`, describes, with `status`. `None` if it cannot be
/// said in HTTP/2.
pub(super) fn response(head: &ResponseHead, text: &[u8], status: u16) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = fields(&head.fields, text.get(..head.len)?)?;
    Some(response)
}

/// All values share one copy of the text.
fn fields(fields: &[Field], text: &[u8]) -> Option<HeaderMap> {
    let shared = Bytes::copy_from_slice(text);
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields.iter().filter(|field| !is_of_connection(field.id)) {
        let name = HeaderName::from_bytes(field.name.of(text)).ok()?;
        let value = match field.value.is_empty() {
            true => HeaderValue::from_static(""),
            false => {
                let (start, end) = (field.value.start(), field.value.end());
                HeaderValue::from_maybe_shared(shared.slice(start..end.min(shared.len()))).ok()?
            }
        };
        map.append(name, value);
    }
    Some(map)
}

/// Fields that speak about an HTTP/1 connection, which HTTP/2 forbids (RFC 9113 §8.2.2), or about a
/// WebSocket handshake, which it makes otherwise (RFC 8441 §5).
fn is_of_connection(id: FieldId) -> bool {
    matches!(
        id,
        FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::TransferEncoding
            | FieldId::Upgrade
            | FieldId::Te
            | FieldId::Http2Settings
            | FieldId::SecWebSocketAccept
    )
}
