//! What there is to know of each certificate, for those who ask.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use config::model::CertificateSource;
use net::tls::{Identity, IdentitySlot};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::acme::schedule::unix_now;

/// A certificate that sites show.
#[derive(Debug, Clone)]
pub struct Report {
    /// Names of the sites.
    pub sites: Vec<String>,
    /// Where it comes from.
    pub source: Source,
    pub(super) slot: Arc<IdentitySlot>,
    pub(super) renewal: Option<Arc<Renewal>>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This file.
    File(PathBuf),
    /// The configuration itself.
    Text,
    /// The authority with this directory.
    Authority(String),
}

/// What its upkeep says of a certificate from an authority.
#[derive(Debug, Default)]
pub(super) struct Renewal(Mutex<Next>);

/// What comes next for a certificate from an authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// What is shown is a stand-in: the authority has not issued one yet.
    pub stand_in: bool,
    /// When one is ordered next, in seconds since 1970; `None` before that is known.
    pub due: Option<i64>,
    /// Why the last order failed, until one succeeds.
    pub failure: Option<String>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whom it is for, one line (RFC 4514).
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

impl Report {
    /// What is shown now.
    pub fn identity(&self) -> Arc<Identity> {
        self.slot.load()
    }

    /// What comes next; `None` if nobody renews it but who writes its file.
    pub fn next(&self) -> Option<Next> {
        self.renewal.as_ref().map(|renewal| renewal.read())
    }

    /// Whole days until it expires; negative once it has.
    pub fn days_left(&self) -> i64 {
        (self.identity().not_after() - unix_now()).div_euclid(86_400)
    }
}

impl Source {
    pub(super) fn of(source: &CertificateSource) -> Self {
        match source {
            CertificateSource::Acme(acme) => Self::Authority(acme.directory_url.clone()),
            CertificateSource::Files { certificate, .. } => Self::File(certificate.clone()),
            CertificateSource::Texts(_) => Self::Text,
        }
    }
}

impl Said {
    /// What the certificate of this identity says; `None` if it cannot be read.
    pub fn of(identity: &Identity) -> Option<Self> {
        let leaf = identity.chain_der().first()?;
        let (_, leaf) = X509Certificate::from_der(leaf.as_ref()).ok()?;
        Some(Self {
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            serial: leaf.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl Renewal {
    fn read(&self) -> Next {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was last found.
    pub(super) fn looked(&self, stand_in: bool, due: Option<i64>) {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        next.stand_in = stand_in;
        next.due = due;
    }

    /// How the last order went.
    pub(super) fn ordered(&self, failure: Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failure = failure;
    }
}
