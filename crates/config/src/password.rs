//! Hashes of passwords as `crypt` and `htpasswd` write them: what kind they are and what they are made
//! of. Nothing is computed here.
//!
//! What always holds: a [`PasswordHash`] can be computed in bounded time and memory, whoever wrote the
//! file it is from; neither its debug output nor a reason why a text is none shows any of it.

use std::fmt;

/// Largest cost of bcrypt that is taken; each step doubles the time. 16 takes some seconds.
pub const BCRYPT_COST_MAX: u32 = 16;

/// Most memory of an Argon2 hash in KiB: 512 MiB. Several are computed at once.
pub const ARGON2_MEMORY_MAX: u32 = 512 * 1024;

/// Most passes of Argon2 over its memory.
pub const ARGON2_PASSES_MAX: u32 = 64;

/// Most lanes of Argon2; they are computed one after the other.
pub const ARGON2_LANES_MAX: u32 = 64;

/// Most rounds of SHA-crypt: some seconds.
pub const SHA_ROUNDS_MAX: u32 = 5_000_000;

/// Rounds of SHA-crypt if it does not say how many.
const SHA_ROUNDS: u32 = 5000;

/// Fewer are not allowed.
const SHA_ROUNDS_MIN: u32 = 1000;

/// Longest salt and hash of Argon2 in bytes.
const ARGON2_BYTES_MAX: usize = 64;

/// The forms that are known, for messages.
pub const FORMS: &str = "`$argon2id$…`, `$2b$…` (bcrypt), `$6$…` and `$5$…` (SHA-crypt), `$apr1$…`, `{SHA}…`, or `plain:` and \
     the password";

/// A password hashed, or the password itself.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$argon2id$v=19$m=65536,t=3,p=4$salt$hash` (RFC 9106).
    Argon2(Argon2Hash),
    /// `$2b$12$…`, all of it: sixty characters.
    Bcrypt {
        /// As written.
        text: String,
        /// The logarithm of the number of rounds.
        cost: u32,
    },
    /// `$5$[rounds=…$]salt$hash`.
    Sha256Crypt(ShaCryptHash),
    /// `$6$[rounds=…$]salt$hash`.
    Sha512Crypt(ShaCryptHash),
    /// `$apr1$salt$hash`, Apache's form of MD5-crypt.
    Apr1 {
        /// Up to eight characters.
        salt: String,
        /// The digest in the order in which it is written.
        hash: Vec<u8>,
    },
    /// `{SHA}` and base64 of a SHA-1 digest.
    Sha1(Vec<u8>),
    /// The password itself.
    Plain(String),
}

/// The parts of an Argon2 hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Argon2Hash {
    /// Which of the three.
    pub variant: Argon2Variant,
    /// Version 0x13 (else 0x10).
    pub current: bool,
    /// Memory in KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// The salt.
    pub salt: Vec<u8>,
    /// The hash.
    pub hash: Vec<u8>,
}

/// The variants of Argon2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argon2Variant {
    /// Argon2d.
    D,
    /// Argon2i.
    I,
    /// Argon2id.
    Id,
}

/// The parts of a SHA-crypt hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ShaCryptHash {
    /// How often it is hashed.
    pub rounds: u32,
    /// Up to sixteen characters.
    pub salt: String,
    /// The digest in the order in which it is written.
    pub hash: Vec<u8>,
}

impl PasswordHash {
    /// Takes a hash apart.
    ///
    /// # Errors
    /// It is none, or would take too long; in words that do not show it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(password) = text.strip_prefix("plain:") {
            return match password {
                "" => Err("the password is empty".to_owned()),
                _ if password.contains('\0') => Err("a password has no NUL".to_owned()),
                _ => Ok(Self::Plain(password.to_owned())),
            };
        }
        if let Some(rest) = text.strip_prefix("{SHA}") {
            return match base64(rest) {
                Some(hash) if hash.len() == 20 => Ok(Self::Sha1(hash)),
                _ => Err("what follows `{SHA}` is not the base64 of a SHA-1 digest".to_owned()),
            };
        }
        let mut parts = text.split('$');
        match (parts.next(), parts.next(), text.contains('$')) {
            (Some(""), Some("argon2id"), _) => argon2(Argon2Variant::Id, text),
            (Some(""), Some("argon2i"), _) => argon2(Argon2Variant::I, text),
            (Some(""), Some("argon2d"), _) => argon2(Argon2Variant::D, text),
            (Some(""), Some("2a" | "2b" | "2y"), _) => bcrypt(text),
            (Some(""), Some("5"), _) => sha_crypt(text, 32).map(Self::Sha256Crypt),
            (Some(""), Some("6"), _) => sha_crypt(text, 64).map(Self::Sha512Crypt),
            (Some(""), Some("apr1"), _) => apr1(text),
            (Some(""), Some("1"), _) => {
                Err("MD5-crypt (`$1$`) is too weak; `htpasswd -B` makes bcrypt".to_owned())
            }
            (Some(""), Some("y" | "gy" | "7"), _) => {
                Err("yescrypt and scrypt are not known here; `htpasswd -B` makes bcrypt".to_owned())
            }
            (Some(""), Some(_), true) => {
                Err(format!("not a known form of hash; there are {FORMS}"))
            }
            _ => Err(format!(
                "neither a hash nor `plain:` and a password: there are {FORMS}; `htpasswd -nB NAME` \
                 makes a hash"
            )),
        }
    }

    /// Computing it takes long enough to be done beside the path of requests.
    pub fn is_slow(&self) -> bool {
        !matches!(self, Self::Plain(_) | Self::Sha1(_))
    }

    /// How long computing it takes, roughly in microseconds: to be compared.
    pub fn cost(&self) -> u64 {
        match self {
            Self::Argon2(hash) => u64::from(hash.memory) * u64::from(hash.passes),
            Self::Bcrypt { cost, .. } => 60 << cost,
            Self::Sha256Crypt(hash) | Self::Sha512Crypt(hash) => u64::from(hash.rounds),
            Self::Apr1 { .. } => 500,
            Self::Sha1(_) | Self::Plain(_) => 1,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2(_) => "Argon2(..)",
            Self::Bcrypt { .. } => "Bcrypt(..)",
            Self::Sha256Crypt(_) => "Sha256Crypt(..)",
            Self::Sha512Crypt(_) => "Sha512Crypt(..)",
            Self::Apr1 { .. } => "Apr1(..)",
            Self::Sha1(_) => "Sha1(..)",
            Self::Plain(_) => "Plain(..)",
        })
    }
}

impl fmt::Debug for Argon2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Argon2Hash(..)")
    }
}

impl fmt::Debug for ShaCryptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShaCryptHash(..)")
    }
}

fn argon2(variant: Argon2Variant, text: &str) -> Result<PasswordHash, String> {
    const SHAPE: &str = "Argon2 looks like `$argon2id$v=19$m=65536,t=3,p=4$salt$hash`";
    let wrong = || SHAPE.to_owned();
    let parts: Vec<&str> = text.split('$').skip(2).collect();
    let (version, costs, salt, hash) = match parts[..] {
        [version, costs, salt, hash] => (version, costs, salt, hash),
        // As before there were versions.
        [costs, salt, hash] => ("v=16", costs, salt, hash),
        _ => return Err(wrong()),
    };
    let current = match version {
        "v=19" => true,
        "v=16" => false,
        _ => return Err("this version of Argon2 is not known; it is 19".to_owned()),
    };
    let mut costs = costs.split(',');
    let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
    let (memory, passes, lanes) = match (cost("m="), cost("t="), cost("p=")) {
        (Some(memory), Some(passes), Some(lanes)) if costs.next().is_none() => {
            (memory, passes, lanes)
        }
        _ => return Err(wrong()),
    };
    for (name, value, max) in [
        ("m", memory, ARGON2_MEMORY_MAX),
        ("t", passes, ARGON2_PASSES_MAX),
        ("p", lanes, ARGON2_LANES_MAX),
    ] {
        if value == 0 || value > max {
            return Err(format!("`{name}` of Argon2 has to be from 1 to {max}"));
        }
    }
    if memory < 8 * lanes {
        return Err("`m` of Argon2 has to be at least eight times `p`".to_owned());
    }
    let bytes = |text: &str| base64(text).filter(|bytes| bytes.len() <= ARGON2_BYTES_MAX);
    let (Some(salt), Some(hash)) = (bytes(salt), bytes(hash)) else { return Err(wrong()) };
    if salt.len() < 8 || hash.len() < 12 {
        return Err("salt or hash is too short".to_owned());
    }
    let hash = Argon2Hash { variant, current, memory, passes, lanes, salt, hash };
    Ok(PasswordHash::Argon2(hash))
}

fn bcrypt(text: &str) -> Result<PasswordHash, String> {
    let wrong = || "bcrypt has sixty characters and looks like `$2b$12$…`".to_owned();
    let alphabet = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'/';
    let (Some(cost), Some(rest)) = (text.get(4..6), text.get(7..)) else { return Err(wrong()) };
    if text.len() != 60 || text.get(6..7) != Some("$") || !rest.bytes().all(alphabet) {
        return Err(wrong());
    }
    match cost.parse::<u32>() {
        Ok(cost @ 4..=BCRYPT_COST_MAX) => Ok(PasswordHash::Bcrypt { text: text.to_owned(), cost }),
        _ => Err(format!("the cost of bcrypt has to be from 4 to {BCRYPT_COST_MAX}")),
    }
}

fn sha_crypt(text: &str, bytes: usize) -> Result<ShaCryptHash, String> {
    let wrong = || {
        "SHA-crypt looks like `$6$salt$hash` or `$6$rounds=100000$salt$hash`; `openssl passwd -6` \
         makes one"
            .to_owned()
    };
    let parts: Vec<&str> = text.split('$').skip(2).collect();
    let (rounds, salt, hash) = match parts[..] {
        [salt, hash] => (SHA_ROUNDS, salt, hash),
        [rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").and_then(|number| number.parse().ok());
            match rounds {
                Some(rounds @ SHA_ROUNDS_MIN..=SHA_ROUNDS_MAX) => (rounds, salt, hash),
                Some(_) => {
                    return Err(format!(
                        "the rounds of SHA-crypt have to be from {SHA_ROUNDS_MIN} to {SHA_ROUNDS_MAX}"
                    ));
                }
                None => return Err(wrong()),
            }
        }
        _ => return Err(wrong()),
    };
    match crypt64(hash) {
        Some(hash) if hash.len() == bytes && salt.len() <= 16 => {
            Ok(ShaCryptHash { rounds, salt: salt.to_owned(), hash })
        }
        _ => Err(wrong()),
    }
}

fn apr1(text: &str) -> Result<PasswordHash, String> {
    let parts: Vec<&str> = text.split('$').skip(2).collect();
    match parts[..] {
        [salt, hash] if salt.len() <= 8 => match crypt64(hash) {
            Some(hash) if hash.len() == 16 => {
                Ok(PasswordHash::Apr1 { salt: salt.to_owned(), hash })
            }
            _ => Err("what follows the salt of `$apr1$` is not a digest".to_owned()),
        },
        _ => Err("this form looks like `$apr1$salt$hash`".to_owned()),
    }
}

/// Standard base64, with its padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = match text.len() % 4 {
        0 => text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text),
        _ => text,
    };
    let sextet = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes() {
        bits = bits << 6 | u32::from(sextet(c)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over is less than a byte, and nothing.
    (count < 6 && bits == 0).then_some(bytes)
}

/// Base64 with either alphabet (RFC 4648 §4, §5).
pub(crate) fn any_base64(text: &[u8]) -> Option<Vec<u8>> {
    let standard = |c: char| match c {
        '-' => '+',
        '_' => '/',
        c => c,
    };
    base64(&std::str::from_utf8(text).ok()?.chars().map(standard).collect::<String>())
}

/// The base64 of `crypt`: other letters, and the lowest bits first.
fn crypt64(text: &str) -> Option<Vec<u8>> {
    let sextet = |c: u8| match c {
        b'.' | b'/' => Some(c - b'.'),
        b'0'..=b'9' => Some(c - b'0' + 2),
        b'A'..=b'Z' => Some(c - b'A' + 12),
        b'a'..=b'z' => Some(c - b'a' + 38),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes() {
        bits |= u32::from(sextet(c)?) << count;
        count += 6;
        if count >= 8 {
            bytes.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    }
    (count < 6 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
    const ARGON2: &str =
        "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
    const SHA512: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
    const SHA256: &str =
        "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA";

    #[test]
    fn every_form_is_taken_apart() {
        let parse = |text: &str| PasswordHash::parse(text).map_err(|why| format!("{text}: {why}"));
        assert!(matches!(parse(BCRYPT), Ok(PasswordHash::Bcrypt { cost: 12, .. })));
        let Ok(PasswordHash::Argon2(argon2)) = parse(ARGON2) else { panic!("{:?}", parse(ARGON2)) };
        assert_eq!((argon2.memory, argon2.passes, argon2.lanes), (65536, 2, 4));
        assert_eq!((&argon2.salt[..], argon2.hash.len()), (&b"somesalt"[..], 24));
        let Ok(PasswordHash::Sha256Crypt(sha)) = parse(SHA256) else {
            panic!("{:?}", parse(SHA256))
        };
        assert_eq!(
            (sha.rounds, sha.salt.as_str(), sha.hash.len()),
            (10000, "saltstringsaltst", 32)
        );
        let apr1 = parse("$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/");
        assert!(
            matches!(apr1, Ok(PasswordHash::Apr1 { salt, hash }) if salt == "r31....." && hash.len() == 16)
        );
        let sha1 = parse("{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=");
        assert!(matches!(sha1, Ok(PasswordHash::Sha1(hash)) if hash.len() == 20));
        assert!(matches!(parse("plain:a:b$"), Ok(PasswordHash::Plain(text)) if text == "a:b$"));
    }

    #[test]
    fn what_is_none_is_refused_without_being_shown() {
        let long_bcrypt = format!("{BCRYPT}x");
        let non_ascii = format!("$2y$12${}", "é".repeat(26) + "x");
        for text in [
            "",
            "hunter2hunter2",
            "plain:",
            "plain:a\0b",
            "$",
            "$$",
            "$9$abc$def",
            "$1$abc$SECRETSECRET",
            "$y$j9T$abc$def",
            "{SHA}abc",
            "{SHA}VBPuJHI7uixaa6LQGWx4s-5GKNE=",
            "{SSHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=",
            &long_bcrypt,
            &non_ascii,
            "$2y$é2$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u",
            "$2y$31$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u",
            "$2y$03$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u",
            &ARGON2.replace("m=65536", "m=99999999"),
            &ARGON2.replace("t=2", "t=0"),
            &ARGON2.replace("p=4", "p=65"),
            &ARGON2.replace("m=65536", "m=31"),
            &ARGON2.replace("v=19", "v=20"),
            &ARGON2.replace("t=2,", ""),
            &ARGON2.replace("$c29tZXNhbHQ", "$c29t"),
            &ARGON2.replace("$c29tZXNhbHQ", ""),
            &SHA256.replace("10000", "999"),
            &SHA256.replace("10000", "999999999"),
            &SHA256.replace("saltst$", "saltsts$"),
            &SHA256.replace("$5", "$6"),
            &SHA512.replace("svn8", "svn"),
            "$apr1$r31......$HqJZimcKQFAMYayBlzkrA/",
            "$apr1$r31.....$HqJZimcKQFAMYayBlzkr",
        ] {
            let Err(why) = PasswordHash::parse(text) else { panic!("{text} is taken") };
            assert!(!why.contains("hunter2") && !why.contains("SECRET") && !why.contains('\n'));
        }
    }

    #[test]
    fn debug_output_shows_no_hash() {
        for text in [BCRYPT, ARGON2, SHA256, "plain:hunter2"] {
            let shown = format!("{:?}", PasswordHash::parse(text));
            assert!(shown.len() < 24 && !shown.contains("hunter"), "{shown}");
        }
    }
}
