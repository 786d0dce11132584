//! Certificates made for one test: an authority, and what it signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority that only this test knows.
pub struct Authority {
    /// Its certificate, as a `ca_file` holds it.
    pub pem: String,
    /// Its key in PEM.
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        // Authorities of one name would be taken for each other.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test authority {}", NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, key: key.serialize_pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server with these names (IP addresses too).
    pub fn server(&self, names: &[&str]) -> Pair {
        self.sign(names, |_| {})
    }

    /// One that ended years ago.
    pub fn expired(&self, names: &[&str]) -> Pair {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// A certificate for a client of this name.
    pub fn client(&self, name: &str) -> Pair {
        self.sign(&[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate that is of use to servers alone.
    pub fn for_servers_only(&self) -> Pair {
        self.sign(&["server.test"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// What its OCSP responder says of a certificate, for a day from now, in DER.
    pub fn ocsp(&self, pair: &Pair, revoked: bool) -> Vec<u8> {
        super::require("openssl", &["version"], "apt-get install openssl");
        let dir = super::TempDir::new();
        dir.write("ca.pem", &self.pem);
        dir.write("ca.key", &self.key);
        dir.write("site.pem", &pair.certificate);
        let openssl = |args: &str| {
            let mut command = std::process::Command::new("openssl");
            command.args(args.split(' ')).current_dir(dir.path());
            let output = super::run_to_end(command);
            assert!(output.status.success(), "openssl {args}: {}", super::printed(&output));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let serial = openssl("x509 -in site.pem -noout -serial");
        let serial = serial.trim().trim_start_matches("serial=");
        let state = if revoked { "R\t491231235959Z\t200101000000Z" } else { "V\t491231235959Z\t" };
        dir.write("index.txt", format!("{state}\t{serial}\tunknown\t/CN=site\n"));
        openssl(
            "ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem \
             -cert site.pem -no_nonce -ndays 1 -noverify -respout response.der",
        );
        std::fs::read(dir.path().join("response.der")).unwrap()
    }

    /// What trusts it and nobody else.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }
}

impl Pair {
    /// TLS for a server that shows this certificate, and wants one of `clients`, if that is given,
    /// from its clients.
    pub fn server(&self, alpn: &[&str], clients: Option<&Authority>) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(authority.roots()),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
