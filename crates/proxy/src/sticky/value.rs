//! The value of Ravelin's cookie: the name of a member and when that ends, sealed.
//!
//! Eight bytes of name, eight of time (seconds since 1970, big-endian; 0 for no end), and the first
//! 16 of their HMAC-SHA256, all in base64url. The name is a part of an HMAC as well: it tells
//! members apart and tells nothing about them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::secret::Secret;

/// The name of a member in cookies.
pub type Tag = [u8; TAG_BYTES];

const TAG_BYTES: usize = 8;
const EXPIRY_BYTES: usize = 8;
const SEAL_BYTES: usize = 16;
const SEALED_BYTES: usize = TAG_BYTES + EXPIRY_BYTES;
const TOKEN_BYTES: usize = SEALED_BYTES + SEAL_BYTES;

/// Length of every value: that of 32 bytes in base64 without padding.
pub(super) const VALUE_LEN: usize = (TOKEN_BYTES * 4).div_ceil(3);

/// What a cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) tag: Tag,
    /// Seconds since 1970, not 0. `None`: as long as the browser has it.
    pub(super) expiry: Option<u64>,
}

impl Token {
    pub(super) fn is_valid(self, now: u64) -> bool {
        self.expiry.is_none_or(|expiry| now < expiry)
    }
}

/// Makes and opens the values of one pool.
#[derive(Debug)]
pub(super) struct Sealer {
    key: hmac::Key,
}

impl Sealer {
    pub(super) fn new(secret: &Secret, pool: &str) -> Self {
        let purpose = [b"sticky sessions of pool ", pool.as_bytes()].concat();
        Self { key: secret.derive(&purpose) }
    }

    pub(super) fn member_tag(&self, name: &[u8]) -> Tag {
        first(&self.sign(Purpose::Member, name))
    }

    pub(super) fn seal(&self, token: Token) -> [u8; VALUE_LEN] {
        let mut bytes = [0; TOKEN_BYTES];
        let (sealed, seal) = bytes.split_at_mut(SEALED_BYTES);
        let (tag, expiry) = sealed.split_at_mut(TAG_BYTES);
        tag.copy_from_slice(&token.tag);
        expiry.copy_from_slice(&token.expiry.unwrap_or(0).to_be_bytes());
        seal.copy_from_slice(&first::<SEAL_BYTES>(&self.sign(Purpose::Cookie, sealed)));
        let mut text = [0; VALUE_LEN];
        // The text has exactly the room that the bytes need.
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(VALUE_LEN));
        text
    }

    /// What `value` says; `None` unless it was made by [`seal`](Self::seal) for this pool.
    pub(super) fn open(&self, value: &[u8]) -> Option<Token> {
        if value.len() != VALUE_LEN {
            return None;
        }
        let mut bytes = [0; TOKEN_BYTES];
        let decoded = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes);
        if decoded != Ok(TOKEN_BYTES) {
            return None;
        }
        let (sealed, seal) = bytes.split_at(SEALED_BYTES);
        let expected = first::<SEAL_BYTES>(&self.sign(Purpose::Cookie, sealed));
        verify_slices_are_equal(&expected, seal).ok()?;
        let (tag, expiry) = sealed.split_at(TAG_BYTES);
        let expiry = u64::from_be_bytes(expiry.try_into().ok()?);
        Some(Token { tag: tag.try_into().ok()?, expiry: (expiry != 0).then_some(expiry) })
    }

    fn sign(&self, purpose: Purpose, bytes: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&[purpose as u8]);
        context.update(bytes);
        context.sign()
    }
}

/// What is signed begins with its purpose, so that no name of a member is ever a seal.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum Purpose {
    Member = b'm',
    Cookie = b'c',
}

/// The first `N` bytes, of which an HMAC-SHA256 has 32.
fn first<const N: usize>(signature: &hmac::Tag) -> [u8; N] {
    const { assert!(N <= 32) };
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
        *to = *from;
    }
    bytes
}
