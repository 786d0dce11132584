//! What a connection or tunnel is called: `0-17`.

use std::fmt;
use std::str::FromStr;

/// The name of a connection or a tunnel, for as long as the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The worker that has it.
    pub worker: usize,
    /// Its number there; numbers grow and are not used again.
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.worker, self.number)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(worker, number)| {
            Some(Self { worker: digits(worker)?, number: digits(number)? })
        });
        parts.ok_or_else(|| "an id is two numbers such as 0-17".to_owned())
    }
}

fn digits<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
