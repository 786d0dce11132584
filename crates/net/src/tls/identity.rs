//! A certificate with its key, and the place where a site keeps the one it shows now.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::ocsp::{self, Freshness, OcspError};
use super::{pem_text, provider};

/// A certificate chain whose key is known to belong to it.
#[derive(Debug, Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// Why there is no identity to be had from what was given.
#[derive(Debug)]
pub enum IdentityError {
    /// The text has no certificate in it.
    NoCertificate,
    /// The text has no private key in it.
    NoKey,
    /// The private key is encrypted; nobody could type its passphrase at a restart.
    EncryptedKey,
    /// It is not PEM, or what is in it is damaged.
    Damaged(String),
    /// The key is not that of the first certificate.
    KeyDoesNotMatch,
    /// The kind of key is not supported.
    UnsupportedKey(String),
    /// No certificate could be made.
    NotMade(String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("there is no certificate (BEGIN CERTIFICATE) in it"),
            Self::NoKey => f.write_str("there is no private key (BEGIN PRIVATE KEY) in it"),
            Self::EncryptedKey => f.write_str(
                "the private key is encrypted; store it decrypted, readable by Ravelin alone \
                 (openssl pkey -in key.pem -out plain.pem)",
            ),
            Self::Damaged(what) => write!(f, "it cannot be read: {what}"),
            Self::KeyDoesNotMatch => {
                f.write_str("the private key does not belong to the first certificate of the chain")
            }
            Self::UnsupportedKey(what) => write!(f, "the private key cannot be used: {what}"),
            Self::NotMade(what) => write!(f, "no certificate could be made: {what}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// Reads a chain, leaf first, and the key (PKCS#8, PKCS#1 or SEC1) of the leaf. Without `key`
    /// the key is looked for beside the certificates.
    ///
    /// An identity that has expired, or is not valid yet, is not refused here: see
    /// [`Identity::not_after`].
    ///
    /// # Errors
    /// What is missing or does not fit together.
    pub fn from_pem(certificate: &[u8], key: Option<&[u8]>) -> Result<Self, IdentityError> {
        let damaged = |what: &str| IdentityError::Damaged(what.to_owned());
        let certificate = &*pem_text(certificate).map_err(damaged)?;
        let key = key.map(pem_text).transpose().map_err(damaged)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| IdentityError::Damaged(error.to_string()))?;
        if chain.is_empty() {
            return Err(IdentityError::NoCertificate);
        }
        let text = key.as_deref().unwrap_or(certificate);
        let key = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
            _ if contains(text, b"ENCRYPTED") => IdentityError::EncryptedKey,
            rustls::pki_types::pem::Error::NoItemsFound => IdentityError::NoKey,
            error => IdentityError::Damaged(error.to_string()),
        })?;
        Self::from_der(chain, key)
    }

    /// When an OCSP response in DER counts that says that this certificate is good.
    ///
    /// # Errors
    /// It does not say that, or not of this certificate: it is not to be stapled.
    pub fn judge_ocsp(&self, response: &[u8]) -> Result<Freshness, OcspError> {
        ocsp::judge(response, self.chain_der().iter().map(AsRef::as_ref))
    }

    /// The same certificate with this OCSP response stapled to it, or with none.
    #[must_use]
    pub fn stapled(&self, response: Option<Vec<u8>>) -> Self {
        let key = CertifiedKey { ocsp: response, ..CertifiedKey::clone(&self.key) };
        Self { key: Arc::new(key), ..self.clone() }
    }

    /// The OCSP response that is stapled to it.
    pub fn staple(&self) -> Option<&[u8]> {
        self.key.ocsp.as_deref()
    }

    /// A certificate signed by its own key, for `names` (host names or IP addresses): something to
    /// show until there is a real one. Valid for a year.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn self_signed(names: &[String]) -> Result<Self, IdentityError> {
        let params = rcgen::CertificateParams::new(names).map_err(not_made)?;
        Self::sign(params)
    }

    /// The certificate that answers a TLS-ALPN-01 challenge for `name` (RFC 8737 §3).
    ///
    /// # Errors
    /// A name that cannot stand in a certificate.
    pub fn acme_tls_alpn(name: &str, key_authorization: &str) -> Result<Self, IdentityError> {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).map_err(not_made)?;
        let sha256 = &aws_lc_rs::digest::SHA256;
        let digest = aws_lc_rs::digest::digest(sha256, key_authorization.as_bytes());
        params.custom_extensions =
            vec![rcgen::CustomExtension::new_acme_identifier(digest.as_ref())];
        Self::sign(params)
    }

    /// DNS names and IP addresses it is for, lower-case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it begins to be valid, in seconds since the Unix epoch.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// When it expires, in seconds since the Unix epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// It is for `host` (lower-case), by name or by a wildcard for its left-most label (RFC 9525 §6.3).
    pub fn covers(&self, host: &str) -> bool {
        let rest = host.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|name| {
            name == host || name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == rest)
        })
    }

    /// The chain, leaf first.
    pub fn chain_der(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    fn sign(mut params: rcgen::CertificateParams) -> Result<Self, IdentityError> {
        const DAY: i64 = 86_400;
        let now = (crate::timer::unix_millis() / 1000) as i64;
        let day = |days: i64| {
            let (year, month, day) = civil(now / DAY + days);
            rcgen::date_time_ymd(year, month, day)
        };
        (params.not_before, params.not_after) = (day(-1), day(365));
        let key = rcgen::KeyPair::generate().map_err(not_made)?;
        let certificate = params.self_signed(&key).map_err(not_made)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| IdentityError::NotMade(error.to_owned()))?;
        Self::from_der(vec![certificate.der().clone()], key)
    }

    fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|error| IdentityError::UnsupportedKey(error.to_string()))?;
        let leaf = Leaf::read(&chain)?;
        if key.public_key().is_some_and(|public| *public != *leaf.public_key) {
            return Err(IdentityError::KeyDoesNotMatch);
        }
        let Leaf { names, not_before, not_after, .. } = leaf;
        let key = CertifiedKey { cert: chain, key, ocsp: None };
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// For showing it to a server.
    pub(super) fn into_client(self) -> SingleCertAndKey {
        self.key.into()
    }
}

/// The certificate a site shows now. Every connection made after [`IdentitySlot::store`] gets the new
/// one; those that exist are not touched.
#[derive(Debug)]
pub struct IdentitySlot {
    shown: ArcSwap<Identity>,
    /// Shown in its place to clients that ask for a name which one of these is for and it is not.
    others: Vec<Identity>,
}

impl IdentitySlot {
    /// A slot with `identity` in it.
    pub fn new(identity: Identity) -> Arc<Self> {
        Self::with(identity, Vec::new())
    }

    /// The same with others for the names that they are for.
    pub fn with(identity: Identity, others: Vec<Identity>) -> Arc<Self> {
        Arc::new(Self { shown: ArcSwap::from_pointee(identity), others })
    }

    /// What is shown now.
    pub fn load(&self) -> Arc<Identity> {
        self.shown.load_full()
    }

    /// Shows `identity` from now on.
    pub fn store(&self, identity: Identity) {
        self.shown.store(Arc::new(identity));
    }
}

impl ResolvesServerCert for IdentitySlot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.load();
        if let (Some(name), false) = (hello.server_name(), self.others.is_empty())
            && !shown.covers(name)
            && let Some(other) = self.others.iter().find(|other| other.covers(name))
        {
            return Some(Arc::clone(&other.key));
        }
        Some(Arc::clone(&shown.key))
    }
}

fn not_made(error: rcgen::Error) -> IdentityError {
    IdentityError::NotMade(error.to_string())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// What the first certificate of a chain says.
///
/// It is not read as rustls reads it, which is as a client does: an authority's challenge has a
/// critical extension that no client knows (RFC 8737 §3), and a certificate of version 1 may be what
/// private clients are content with.
struct Leaf {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
    /// DER of its SubjectPublicKeyInfo.
    public_key: Vec<u8>,
}

impl Leaf {
    fn read(chain: &[CertificateDer<'_>]) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let (_, leaf) = X509Certificate::from_der(leaf)
            .map_err(|error| IdentityError::Damaged(format!("the first certificate: {error}")))?;
        let alternatives = leaf.subject_alternative_name().ok().flatten();
        let names = alternatives.map(|names| &names.value.general_names[..]).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress([a, b, c, d]) => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            GeneralName::IPAddress(bytes) => {
                <[u8; 16]>::try_from(*bytes).ok().map(|ip| Ipv6Addr::from(ip).to_string())
            }
            _ => None,
        });
        let validity = leaf.validity();
        Ok(Self {
            names: names.collect(),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
            public_key: leaf.public_key().raw.to_vec(),
        })
    }
}

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i32, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u8, day as u8)
}
