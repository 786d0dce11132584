//! Who may make requests, and how they prove who they are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::password::PasswordHash;

/// Something a request has to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Name and password (RFC 7617).
    Basic(BasicAuth),
    /// A signed token (RFC 7519, RFC 6750).
    Jwt(Box<JwtAuth>),
    /// Fields with certain values.
    Fields(FieldAuth),
}

/// Name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicAuth {
    /// What browsers show when they ask. Default "restricted".
    pub realm: String,
    /// Names, each once, and what their passwords are checked against.
    pub users: Vec<(String, PasswordHash)>,
    /// A file of more users, as `htpasswd` makes them, read again when it changes.
    pub file: Option<PathBuf>,
    /// The field that tells the upstream the name.
    pub user_header: Option<String>,
    /// The credentials do not go to the upstream. Default false.
    pub strip: bool,
}

/// A signed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuth {
    /// What clients are told the token is for. Default "restricted".
    pub realm: String,
    /// The algorithms that are taken; never empty, and fit for the keys.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What signatures are checked with.
    pub keys: JwtKeys,
    /// A secret shorter than the hash is taken (against RFC 7518 §3.2). Default false.
    pub short_secret: bool,
    /// The issuers that are taken; empty: any.
    pub issuer: Vec<String>,
    /// The token has to be for one of these; empty: for nobody in particular.
    pub audience: Vec<String>,
    /// It may be for anybody instead. Default false.
    pub any_audience: bool,
    /// By how much clocks may differ. Default 60 s.
    pub leeway: Duration,
    /// A token without the time it expires is taken. Default false.
    pub expiry_optional: bool,
    /// Where the token is: in the first of these where there is any.
    pub from: Vec<TokenSource>,
    /// Claims that must have one of these values.
    pub required_claims: Vec<(String, Vec<ClaimValue>)>,
    /// Claims, and the fields that tell them the upstream.
    pub claims_to_headers: Vec<(String, String)>,
    /// The token does not go to the upstream. Default false.
    pub strip: bool,
}

/// Algorithms of signatures (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// ECDSA with P-521 and SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// Kinds of keys that algorithms need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JwtKeyKind {
    /// A shared secret.
    Secret,
    /// RSA.
    Rsa,
    /// Elliptic curve P-256.
    P256,
    /// Elliptic curve P-384.
    P384,
    /// Elliptic curve P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

impl JwtAlgorithm {
    /// Every algorithm with its name.
    pub const ALL: &'static [(&'static str, JwtAlgorithm)] = &[
        ("HS256", JwtAlgorithm::Hs256),
        ("HS384", JwtAlgorithm::Hs384),
        ("HS512", JwtAlgorithm::Hs512),
        ("RS256", JwtAlgorithm::Rs256),
        ("RS384", JwtAlgorithm::Rs384),
        ("RS512", JwtAlgorithm::Rs512),
        ("PS256", JwtAlgorithm::Ps256),
        ("PS384", JwtAlgorithm::Ps384),
        ("PS512", JwtAlgorithm::Ps512),
        ("ES256", JwtAlgorithm::Es256),
        ("ES384", JwtAlgorithm::Es384),
        ("ES512", JwtAlgorithm::Es512),
        ("EdDSA", JwtAlgorithm::EdDsa),
    ];

    /// The algorithm of this name; names are case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }

    /// The kind of key it needs.
    pub fn key_kind(self) -> JwtKeyKind {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => JwtKeyKind::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 => JwtKeyKind::Rsa,
            Self::Ps256 | Self::Ps384 | Self::Ps512 => JwtKeyKind::Rsa,
            Self::Es256 => JwtKeyKind::P256,
            Self::Es384 => JwtKeyKind::P384,
            Self::Es512 => JwtKeyKind::P521,
            Self::EdDsa => JwtKeyKind::Ed25519,
        }
    }

    /// Least bytes of a secret: as many as the hash has (RFC 7518 §3.2). Zero for others.
    pub fn secret_min(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }
}

/// What signatures of tokens are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A shared secret.
    Secret(SecretBytes),
    /// A file with a shared secret, read again when it changes.
    SecretFile(PathBuf, SecretEncoding),
    /// A public key or certificate in PEM.
    PublicKey(String),
    /// A PEM file with one, read again when it changes.
    PublicKeyFile(PathBuf),
    /// A file with a JSON Web Key Set (RFC 7517), read again when it changes.
    JwksFile(PathBuf),
    /// A key set that is fetched.
    JwksUrl {
        /// `https`, or `http` to the same machine.
        url: String,
        /// PEM file with the authorities that may vouch for the server. `None`: those of the system.
        ca_file: Option<PathBuf>,
        /// It is fetched again after this. Default 10 min.
        refresh: Duration,
    },
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    /// As it is; white space around the content of a file does not count.
    Text,
    /// In hexadecimal digits.
    Hex,
    /// In base64 or base64url.
    Base64,
}

impl SecretEncoding {
    /// The bytes of a secret that is written so.
    ///
    /// # Errors
    /// It is not, in words that do not show it.
    pub fn decode(self, text: &[u8]) -> Result<SecretBytes, &'static str> {
        let text = text.trim_ascii();
        let bytes = match self {
            Self::Text => Some(text.to_vec()),
            Self::Hex => hexadecimal(text),
            Self::Base64 => crate::password::any_base64(text),
        };
        let wrong = match self {
            Self::Hex => "these are not pairs of hexadecimal digits",
            _ => "this is not base64",
        };
        bytes.map(SecretBytes).ok_or(wrong)
    }
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// A secret. Its debug output does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In this field; in `Authorization` behind `Bearer`.
    Header(String),
    /// In the cookie of this name.
    Cookie(String),
    /// In the parameter of the query of this name.
    Query(String),
}

/// A value that a claim may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// A string, an item of a list of strings, or a word of `scope`.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A boolean.
    Bool(bool),
}

/// Fields with certain values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldAuth {
    /// All of them have to fit.
    pub fields: Vec<FieldRule>,
    /// They do not go to the upstream. Default false.
    pub strip: bool,
}

/// What a field has to be.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldRule {
    /// Its name.
    pub name: String,
    /// One of these is enough. May be secrets.
    pub values: Vec<String>,
    /// Or something that this regular expression is found in.
    pub regex: Option<String>,
}

impl fmt::Debug for FieldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FieldRule");
        shown.field("name", &self.name).field("values", &self.values.len());
        shown.field("regex", &self.regex).finish()
    }
}

impl Auth {
    /// The files that it needs.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Basic(basic) => basic.file.as_deref().into_iter().collect(),
            Self::Jwt(jwt) => match &jwt.keys {
                JwtKeys::SecretFile(file, _)
                | JwtKeys::PublicKeyFile(file)
                | JwtKeys::JwksFile(file) => vec![file],
                JwtKeys::JwksUrl { ca_file, .. } => ca_file.as_deref().into_iter().collect(),
                JwtKeys::Secret(_) | JwtKeys::PublicKey(_) => Vec::new(),
            },
            Self::Fields(_) => Vec::new(),
        }
    }

    /// Names of the fields that tell upstreams what was proved. No client may send them.
    pub fn told(&self) -> Vec<&str> {
        match self {
            Self::Basic(basic) => basic.user_header.iter().map(String::as_str).collect(),
            Self::Jwt(jwt) => jwt.claims_to_headers.iter().map(|(_, name)| name.as_str()).collect(),
            Self::Fields(_) => Vec::new(),
        }
    }
}
