//! The secret that cookies are made and checked with.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::{digest, hmac, rand};
use zeroize::Zeroizing;

/// Least bytes of a secret, white space around it not counted. 16 random bytes cannot be guessed.
pub const SECRET_BYTES_MIN: usize = 16;

/// What the secret of the process is made of.
type Bytes = Zeroizing<[u8; 32]>;

static OF_PROCESS: OnceLock<(Secret, Bytes)> = OnceLock::new();

/// A key of HMAC-SHA256. Its debug output does not show it.
#[derive(Debug, Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// The secret in a file with these contents, the same for every proxy that has the file. White
    /// space around it does not count.
    ///
    /// # Errors
    /// There are fewer than [`SECRET_BYTES_MIN`] bytes: the operator has to give more.
    pub fn from_contents(contents: &[u8]) -> Result<Self, SecretError> {
        let text = contents.trim_ascii();
        if text.len() < SECRET_BYTES_MIN {
            return Err(SecretError::TooShort);
        }
        let hashed = digest::digest(&digest::SHA256, text);
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, hashed.as_ref())))
    }

    /// The secret of this process: random, made when it is first asked for, and kept until the end, also by
    /// the process that takes this one's place.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn of_process() -> Result<&'static Self, SecretError> {
        if let Some(secret) = OF_PROCESS.get() {
            return Ok(&secret.0);
        }
        let mut bytes = Bytes::default();
        rand::fill(&mut bytes[..]).map_err(|_| SecretError::NoRandomNumbers)?;
        let (secret, _) = OF_PROCESS.get_or_init(|| (Self::of(&bytes), bytes));
        Ok(secret)
    }

    /// The secret of this process if it has been used, for the one that takes its place and nobody else.
    pub fn to_go_on_with() -> Option<Zeroizing<Vec<u8>>> {
        OF_PROCESS.get().map(|(_, bytes)| Zeroizing::new(bytes.to_vec()))
    }

    /// Goes on with the secret of the process before this one. To be called before it is asked for.
    pub fn go_on_with(passed: &[u8]) {
        if let Ok(passed) = passed.try_into() {
            let bytes = Bytes::new(passed);
            OF_PROCESS.get_or_init(|| (Self::of(&bytes), bytes));
        }
    }

    fn of(bytes: &Bytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes[..]))
    }

    /// The key for one purpose; of no use for another.
    pub(super) fn derive(&self, purpose: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&self.0, purpose).as_ref())
    }
}

/// Why there is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// The file has fewer than [`SECRET_BYTES_MIN`] bytes.
    TooShort,
    /// The system gives no random numbers.
    NoRandomNumbers,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(
                f,
                "a secret needs at least {SECRET_BYTES_MIN} bytes; \
                 `head -c 32 /dev/urandom | base64` makes one"
            ),
            Self::NoRandomNumbers => f.write_str("the system gives no random numbers"),
        }
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &Secret) -> Vec<u8> {
        hmac::sign(&secret.derive(b"test"), b"x").as_ref().to_vec()
    }

    #[test]
    fn a_short_secret_is_refused() {
        for contents in ["", " \n", "0123456789abcde", "  0123456789abcde\n\n"] {
            let refused = Secret::from_contents(contents.as_bytes());
            assert_eq!(refused.err(), Some(SecretError::TooShort), "{contents:?}");
        }
        assert!(Secret::from_contents(b"0123456789abcdef").is_ok());
        assert!(SecretError::TooShort.to_string().contains("at least 16 bytes"));
    }

    #[test]
    fn white_space_around_a_secret_does_not_count() {
        let plain = Secret::from_contents(b"0123456789abcdef").unwrap();
        let edited = Secret::from_contents(b" 0123456789abcdef\r\n").unwrap();
        let other = Secret::from_contents(b"0123456789abcdeg").unwrap();
        assert_eq!(sign(&plain), sign(&edited));
        assert_ne!(sign(&plain), sign(&other));
    }

    #[test]
    fn the_secret_of_the_process_stays_and_is_random() {
        let first = sign(Secret::of_process().unwrap());
        assert_eq!(first, sign(Secret::of_process().unwrap()));
        assert_ne!(first, sign(&Secret::of(&Bytes::default())));
        let passed = Secret::to_go_on_with().unwrap();
        assert_eq!(first, sign(&Secret::of(&Bytes::new(passed[..].try_into().unwrap()))));
    }

    #[test]
    fn debug_output_does_not_show_a_secret() {
        let text = format!("{:?}", Secret::from_contents(b"0123456789abcdef").unwrap());
        assert_eq!(text, "Secret(Key { algorithm: SHA256 })");
    }
}
