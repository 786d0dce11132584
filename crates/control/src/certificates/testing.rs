//! What the tests of this directory share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use config::model::{Acme, CertificateSource, Level, Tls, TlsPolicy, TlsVersion};
use proxy::log::{ErrorLog, Order, Source, sink};
use rcgen::{CertificateParams, KeyPair};

/// A directory of its own for a test, removed at its end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ravelin-certificates-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// Certificate and key in PEM, valid for ever, so to say.
pub(super) fn issued(names: &[&str]) -> (String, String) {
    valid(names, 2020, 2999)
}

/// Certificate and key in PEM, valid from the first of January of one year to that of the other.
pub(super) fn valid(names: &[&str], from: i32, until: i32) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = rcgen::date_time_ymd(from, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// Settings that ask an authority nobody has for these names.
pub(super) fn acme(names: &[&str], state_dir: &Path) -> Acme {
    Acme {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        email: "admin@a.test".to_owned(),
        directory_url: "https://ca.test/directory".to_owned(),
        ca_file: None,
        challenge_dir: None,
        external_account: None,
        profile: None,
        http_port: 80,
        state_dir: state_dir.to_owned(),
    }
}

/// A log and where its lines can be read.
pub(super) fn log() -> (ErrorLog, Source) {
    let (sink, source) = sink(64);
    (ErrorLog::new(sink, Level::Info), source)
}

/// The lines written since the last call, without their times.
pub(super) fn lines(source: &Source) -> Vec<String> {
    let orders = std::iter::from_fn(|| source.orders.try_recv().ok());
    let text = |order| match order {
        Order::Write(block) => String::from_utf8(block.bytes).ok(),
        _ => None,
    };
    let without_time = |line: String| line.split_once(' ').map(|(_, rest)| rest.trim().to_owned());
    orders.filter_map(text).filter_map(without_time).collect()
}

/// TLS with this certificate and nothing special.
pub(super) fn tls(certificate: CertificateSource) -> Tls {
    Tls {
        certificate,
        ocsp_file: None,
        policy: TlsPolicy {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            ciphers: Vec::new(),
            groups: Vec::new(),
            client_auth: None,
            http2: true,
            tickets: true,
        },
    }
}
