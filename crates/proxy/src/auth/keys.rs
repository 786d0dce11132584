//! What signatures of tokens are checked with: secrets, public keys, JSON Web Key Sets (RFC 7517).
//!
//! What always holds: a key is only ever used for the algorithms that the configuration names and that
//! its kind is for, so no token can have its signature checked in a way that its sender chose; a set is
//! taken whole; nothing of a secret is in a message.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{self as sig, ParsedPublicKey, RsaPublicKeyComponents};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use config::model::{JwtAlgorithm, JwtAuth, JwtKeyKind, JwtKeys, SecretBytes, SecretEncoding};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::htpasswd::read_bounded;
use super::next_number;

/// Longest key set, in bytes. Those of large providers have some 10 KiB.
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;

/// Most keys of a set.
pub const KEYS_MAX: usize = 100;

/// Longest file with a secret or a public key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Shortest RSA key, in bits (RFC 7518 §3.3).
const RSA_BITS_MIN: usize = 2048;

/// Keys that are in force, from where they come.
#[derive(Debug)]
pub struct KeyRing {
    source: KeySource,
    algorithms: Vec<JwtAlgorithm>,
    /// A secret may be shorter than the hash.
    short_secret: bool,
    current: ArcSwapOption<KeySet>,
    /// A token names a key that is not there.
    missed: Notify,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The configuration itself; they never change.
    Configuration,
    /// A file with a secret.
    SecretFile(PathBuf, SecretEncoding),
    /// A PEM file.
    PemFile(PathBuf),
    /// A file with a key set.
    JwksFile(PathBuf),
    /// A key set that is fetched.
    JwksUrl {
        /// From here.
        url: String,
        /// The authorities that may vouch for the server, if not those of the system.
        ca_file: Option<PathBuf>,
        /// How often.
        refresh: std::time::Duration,
    },
}

/// Why there are no keys, in words that name the file.
pub type KeyFault = String;

/// The keys of a moment.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Other keys have another number.
    pub(super) number: u64,
}

/// One key, made ready for each algorithm that it may be used with.
pub(super) struct Key {
    /// What tokens call it.
    id: Option<String>,
    checks: Vec<(JwtAlgorithm, Check)>,
}

enum Check {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl KeyRing {
    /// The keys that the configuration names; those of a file are read, those of a URL fetched later.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub(super) fn open(jwt: &JwtAuth) -> Result<Self, KeyFault> {
        let JwtAuth { keys, algorithms, short_secret, .. } = jwt;
        let source = KeySource::of(keys);
        let ring = |current: Option<KeySet>| Self {
            source: source.clone(),
            algorithms: algorithms.clone(),
            short_secret: *short_secret,
            current: ArcSwapOption::new(current.map(Arc::new)),
            missed: Notify::new(),
        };
        match keys {
            JwtKeys::Secret(secret) => {
                Ok(ring(Some(KeySet::of_secret(secret, algorithms, *short_secret)?)))
            }
            JwtKeys::PublicKey(text) => {
                let set = KeySet::of_pem(text.as_bytes(), algorithms);
                Ok(ring(Some(set.map_err(|why| format!("`public_key`: {why}"))?)))
            }
            JwtKeys::JwksUrl { .. } => Ok(ring(None)),
            JwtKeys::SecretFile(..) | JwtKeys::PublicKeyFile(_) | JwtKeys::JwksFile(_) => {
                let ring = ring(None);
                ring.reload()?;
                Ok(ring)
            }
        }
    }

    /// Where its keys come from.
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// It has the keys for this.
    pub(super) fn is_for(&self, jwt: &JwtAuth) -> bool {
        let source = KeySource::of(&jwt.keys);
        source != KeySource::Configuration
            && source == self.source
            && self.algorithms == jwt.algorithms
            && self.short_secret == jwt.short_secret
    }

    /// Reads the file again. Blocks. Returns the number of keys.
    ///
    /// # Errors
    /// It cannot be read or used, and the keys that were read before stay in force.
    pub fn reload(&self) -> Result<usize, KeyFault> {
        let Some(path) = self.source.file() else { return Ok(0) };
        let max = match &self.source {
            KeySource::JwksFile(_) => JWKS_BYTES_MAX as u64,
            _ => KEY_BYTES_MAX,
        };
        let bytes = read_bounded(path, max)?;
        let set = match &self.source {
            KeySource::SecretFile(_, encoding) => encoding
                .decode(&bytes)
                .map_err(str::to_owned)
                .and_then(|secret| KeySet::of_secret(&secret, &self.algorithms, self.short_secret)),
            KeySource::PemFile(_) => KeySet::of_pem(&bytes, &self.algorithms),
            _ => KeySet::of_jwks(&bytes, &self.algorithms),
        };
        self.put(set.map_err(|why| format!("{}: {why}", path.display()))?)
    }

    /// Takes a key set that was fetched. Returns the number of keys.
    ///
    /// # Errors
    /// It cannot be used, and the keys that were there before stay in force.
    pub fn take(&self, jwks: &[u8]) -> Result<usize, KeyFault> {
        self.put(KeySet::of_jwks(jwks, &self.algorithms)?)
    }

    /// Forgets all keys: they are too old to be believed, and nobody is let in until there are others.
    pub fn forget(&self) {
        self.current.store(None);
    }

    /// Waits until a token names a key that is not there.
    pub fn missed(&self) -> Notified<'_> {
        self.missed.notified()
    }

    /// A token named a key that is not there.
    pub(super) fn miss(&self) {
        self.missed.notify_one();
    }

    /// The keys in force, if there are any.
    pub(super) fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.current.load()
    }

    fn put(&self, set: KeySet) -> Result<usize, KeyFault> {
        let count = set.keys.len();
        self.current.store(Some(Arc::new(set)));
        Ok(count)
    }
}

impl KeySource {
    fn of(keys: &JwtKeys) -> Self {
        match keys.clone() {
            JwtKeys::Secret(_) | JwtKeys::PublicKey(_) => Self::Configuration,
            JwtKeys::SecretFile(path, encoding) => Self::SecretFile(path, encoding),
            JwtKeys::PublicKeyFile(path) => Self::PemFile(path),
            JwtKeys::JwksFile(path) => Self::JwksFile(path),
            JwtKeys::JwksUrl { url, ca_file, refresh } => Self::JwksUrl { url, ca_file, refresh },
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::SecretFile(path, _) | Self::PemFile(path) | Self::JwksFile(path) => Some(path),
            Self::Configuration | Self::JwksUrl { .. } => None,
        }
    }
}

impl KeySet {
    fn new(keys: Vec<Key>) -> Self {
        Self { keys, number: next_number() }
    }

    fn of_secret(
        secret: &SecretBytes,
        algorithms: &[JwtAlgorithm],
        short: bool,
    ) -> Result<Self, KeyFault> {
        let checks = with_secret(&secret.0, algorithms, short)?;
        Ok(Self::new(vec![Key { id: None, checks }]))
    }

    /// The first public key or certificate of a PEM text.
    fn of_pem(text: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, KeyFault> {
        let der = public_key(text)?;
        let checks = with_public(&der, algorithms)?;
        if let Some(missing) =
            algorithms.iter().find(|one| checks.iter().all(|(other, _)| other != *one))
        {
            return Err(format!("this is no key for {}", missing.name()));
        }
        Ok(Self::new(vec![Key { id: None, checks }]))
    }

    /// A key set. Keys of kinds that are not known, or that are for something else, are passed over
    /// (RFC 7517 §5).
    fn of_jwks(text: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, KeyFault> {
        let set: Value = serde_json::from_slice(text).map_err(|error| {
            // The message of the parser may show a piece of the text.
            format!("this is no JSON: line {}, column {}", error.line(), error.column())
        })?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("this is no key set: it has no list of `keys`")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("there are more than {KEYS_MAX} keys"));
        }
        let mut usable = Vec::new();
        for (number, jwk) in (1..).zip(keys) {
            let key = Key::of_jwk(jwk, algorithms);
            usable.extend(key.map_err(|why| format!("key {number}: {why}"))?);
        }
        match usable.is_empty() {
            true => {
                let names: Vec<&str> = algorithms.iter().map(|one| one.name()).collect();
                Err(format!("no key of the set is for {}", names.join(", ")))
            }
            false => Ok(Self::new(usable)),
        }
    }

    /// The keys that may have signed a token that names this one, or none.
    pub(super) fn candidates<'s>(
        &'s self,
        id: Option<&'s str>,
        algorithm: JwtAlgorithm,
    ) -> impl Iterator<Item = &'s Key> {
        self.keys.iter().filter(move |key| {
            let named = match (id, &key.id) {
                (Some(id), Some(own)) => id == own,
                // A token need not name its key, and a key that stands alone has no name.
                _ => true,
            };
            named && key.checks.iter().any(|(own, _)| *own == algorithm)
        })
    }
}

impl Key {
    /// A key of a set, if it can be used for one of the algorithms.
    fn of_jwk(jwk: &Value, algorithms: &[JwtAlgorithm]) -> Result<Option<Self>, KeyFault> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or_else(|| format!("`{name}` is missing or no base64url"))
        };
        if text("use").is_some_and(|used| used != "sig") {
            return Ok(None);
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|one| one.as_str() == Some("verify"))
        {
            return Ok(None);
        }
        let wanted = |kind: JwtKeyKind| -> Vec<JwtAlgorithm> {
            let own = text("alg");
            let fits = |one: &&JwtAlgorithm| {
                one.key_kind() == kind && own.is_none_or(|own| own == one.name())
            };
            algorithms.iter().filter(fits).copied().collect()
        };
        let kind = match (text("kty"), text("crv")) {
            (Some("oct"), _) => JwtKeyKind::Secret,
            (Some("RSA"), _) => JwtKeyKind::Rsa,
            (Some("EC"), Some("P-256")) => JwtKeyKind::P256,
            (Some("EC"), Some("P-384")) => JwtKeyKind::P384,
            (Some("EC"), Some("P-521")) => JwtKeyKind::P521,
            (Some("OKP"), Some("Ed25519")) => JwtKeyKind::Ed25519,
            _ => return Ok(None),
        };
        let wanted = wanted(kind);
        if wanted.is_empty() {
            return Ok(None);
        }
        let checks = match kind {
            JwtKeyKind::Secret => with_secret(&bytes("k")?, &wanted, false)?,
            JwtKeyKind::Rsa => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let der = RsaPublicKeyComponents { n: &n, e: &e }.as_der();
                let der: PublicKeyX509Der<'_> = der.map_err(|_| "this is no RSA key")?;
                with_public(der.as_ref(), &wanted)?
            }
            JwtKeyKind::P256 | JwtKeyKind::P384 | JwtKeyKind::P521 => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                with_public(&[&[4][..], &x, &y].concat(), &wanted)?
            }
            JwtKeyKind::Ed25519 => with_public(&bytes("x")?, &wanted)?,
        };
        if checks.is_empty() {
            return Err("it is not a key of the kind that it says".to_owned());
        }
        Ok(Some(Self { id: text("kid").map(str::to_owned), checks }))
    }

    /// Whether it made this signature.
    pub(super) fn signed(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let mut checks = self.checks.iter().filter(|(own, _)| *own == algorithm);
        checks.any(|(_, check)| match check {
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A secret for these algorithms, if it is long enough for all of them, or `short` and not empty.
fn with_secret(
    secret: &[u8],
    algorithms: &[JwtAlgorithm],
    short: bool,
) -> Result<Vec<(JwtAlgorithm, Check)>, KeyFault> {
    let mut checks = Vec::new();
    for algorithm in algorithms {
        let hash = match algorithm {
            JwtAlgorithm::Hs256 => hmac::HMAC_SHA256,
            JwtAlgorithm::Hs384 => hmac::HMAC_SHA384,
            JwtAlgorithm::Hs512 => hmac::HMAC_SHA512,
            _ => continue,
        };
        let least = if short { 1 } else { algorithm.secret_min() };
        if secret.len() < least {
            return Err(format!(
                "a secret of {} bytes can be guessed; {} needs at least {least} (RFC 7518)",
                secret.len(),
                algorithm.name()
            ));
        }
        checks.push((*algorithm, Check::Secret(Box::new(hmac::Key::new(hash, secret)))));
    }
    Ok(checks)
}

/// A public key, as the algorithms want it or in DER, for those of these algorithms that it is for.
fn with_public(
    key: &[u8],
    algorithms: &[JwtAlgorithm],
) -> Result<Vec<(JwtAlgorithm, Check)>, KeyFault> {
    let mut checks = Vec::new();
    for algorithm in algorithms {
        let how: &'static dyn sig::VerificationAlgorithm = match algorithm {
            JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512 => continue,
            JwtAlgorithm::Rs256 => &sig::RSA_PKCS1_2048_8192_SHA256,
            JwtAlgorithm::Rs384 => &sig::RSA_PKCS1_2048_8192_SHA384,
            JwtAlgorithm::Rs512 => &sig::RSA_PKCS1_2048_8192_SHA512,
            JwtAlgorithm::Ps256 => &sig::RSA_PSS_2048_8192_SHA256,
            JwtAlgorithm::Ps384 => &sig::RSA_PSS_2048_8192_SHA384,
            JwtAlgorithm::Ps512 => &sig::RSA_PSS_2048_8192_SHA512,
            JwtAlgorithm::Es256 => &sig::ECDSA_P256_SHA256_FIXED,
            JwtAlgorithm::Es384 => &sig::ECDSA_P384_SHA384_FIXED,
            JwtAlgorithm::Es512 => &sig::ECDSA_P521_SHA512_FIXED,
            JwtAlgorithm::EdDsa => &sig::ED25519,
        };
        if algorithm.key_kind() == JwtKeyKind::Rsa && is_unfit_rsa(key) {
            return Err(format!(
                "this RSA key is too short, too long or damaged; it needs {RSA_BITS_MIN} bits"
            ));
        }
        if let Ok(key) = ParsedPublicKey::new(how, key) {
            checks.push((*algorithm, Check::Public(key)));
        }
    }
    Ok(checks)
}

/// It is an RSA key, and signatures by it would never be taken.
fn is_unfit_rsa(key: &[u8]) -> bool {
    let Ok(key) = rsa::PublicKey::from_der(key) else { return false };
    let der: Result<PublicKeyX509Der<'_>, _> = key.as_der();
    der.is_ok_and(|der| rsa::PublicEncryptingKey::from_der(der.as_ref()).is_err())
}

/// The first public key of a PEM text, in DER; that of a certificate if it has one.
fn public_key(text: &[u8]) -> Result<Vec<u8>, KeyFault> {
    let text = std::str::from_utf8(text).map_err(|_| "this is no PEM text")?;
    for (begin, end, certificate) in [
        ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----", false),
        ("-----BEGIN RSA PUBLIC KEY-----", "-----END RSA PUBLIC KEY-----", false),
        ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----", true),
    ] {
        let body = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let Some((body, _)) = body else { continue };
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(body).map_err(|_| "what is between the lines is no base64")?;
        return match certificate {
            false => Ok(der),
            true => net::tls::public_key(&der).ok_or_else(|| "the certificate is damaged".into()),
        };
    }
    match text.contains("PRIVATE KEY-----") {
        true => {
            Err("this is a private key; `openssl pkey -pubout` makes the public one, which is \
                     all that is needed"
                .to_owned())
        }
        false => Err("there is no `-----BEGIN PUBLIC KEY-----` in it".to_owned()),
    }
}
