//! A WebSocket handshake is answered as expected (RFC 6455 §4); then the connection is closed with
//! 1000.

use std::hash::{BuildHasher, Hasher, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use net::tls::ClientConfig;
use proxy::live::Endpoint;
use tokio::io::AsyncWriteExt;
use wire::websocket::{accept_key, apply_mask};

use super::connect::{Progress, connect, secure};
use super::http::Question;
use super::http1;

/// A close frame, masked, with two bytes: FIN and opcode, mask bit and length (RFC 6455 §5.2).
const CLOSE: [u8; 2] = [0x88, 0x82];
const NORMAL_CLOSURE: u16 = 1000;

/// # Errors
/// In words.
pub(super) async fn probe(
    question: &Question,
    endpoint: &Endpoint,
    port: Option<u16>,
    tls: Option<&ClientConfig>,
    progress: &Progress,
) -> Result<(), String> {
    let mut socket = connect(endpoint, port, progress).await?;
    if let Some(tls) = tls {
        socket = secure(socket, endpoint, tls, false, progress).await?;
    }
    let key = STANDARD.encode([random(), random()].concat());
    let handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key.as_str()),
    ];
    let head = question.head(endpoint, &handshake);
    let (answer, mut socket) = http1::exchange(socket, &[&head], false, false, progress).await?;
    question.expected.judge_status(answer.status)?;
    if answer.status != 101 {
        return Err(format!("status {} (expected 101)", answer.status));
    }
    judge_handshake(&answer.fields, &key)?;
    question.expected.judge_fields(&answer.fields)?;
    // What it was to show is shown; it need not take this.
    let _ = socket.write_all(&close_frame()).await;
    socket.wait_for_end();
    Ok(())
}

fn judge_handshake(fields: &HeaderMap, key: &str) -> Result<(), String> {
    let upgrade = fields.get("upgrade").map(|value| value.as_bytes()).unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case(b"websocket") {
        return Err("the 101 is not for a WebSocket".to_owned());
    }
    match fields.get("sec-websocket-accept") {
        Some(value) if value.as_bytes() == accept_key(key.as_bytes()) => Ok(()),
        Some(_) => Err("Sec-WebSocket-Accept does not fit the key".to_owned()),
        None => Err("the 101 has no Sec-WebSocket-Accept".to_owned()),
    }
}

fn close_frame() -> Vec<u8> {
    let [a, b, c, d, ..] = random();
    let mask = [a, b, c, d];
    let mut code = NORMAL_CLOSURE.to_be_bytes();
    apply_mask(&mut code, mask, 0);
    [&CLOSE[..], &mask, &code].concat()
}

/// Nobody can foresee it: the keys of a hasher are random.
fn random() -> [u8; 8] {
    RandomState::new().build_hasher().finish().to_ne_bytes()
}
