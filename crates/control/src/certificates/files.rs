//! Certificates in files of the operator's: reading them, and saying what is wrong with them.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::model::{HostPattern, Site};
use net::tls::{Freshness, Identity, IdentityError, OcspError, pem_text};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// Longest file that is read. A chain with its key is some 10 KiB.
const FILE_MAX: u64 = 1024 * 1024;

/// Seconds by which this machine's clock may be behind that of whoever made an OCSP response.
const SKEW: i64 = 300;

/// Bit of a file's mode that lets everybody read it.
const READABLE_BY_ALL: u32 = 0o004;

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Paths {
    /// The chain, leaf first, and maybe the key.
    certificate: PathBuf,
    /// The key, if it is not in the certificate's file.
    key: Option<PathBuf>,
    /// OCSP response to staple.
    ocsp: Option<PathBuf>,
}

/// What a certificate has to fit: a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// The site's name.
    pub(super) site: String,
    /// The hosts it answers to.
    hosts: Vec<HostPattern>,
}

impl From<&Site> for Shown {
    fn from(site: &Site) -> Self {
        Self { site: site.name.clone(), hosts: site.hosts.clone() }
    }
}

#[cfg(test)]
impl Shown {
    /// A site with these hosts.
    pub(super) fn test(site: &str, hosts: &[&str]) -> Self {
        let exact = |host: &&str| HostPattern::Exact((*host).to_owned());
        Self { site: site.to_owned(), hosts: hosts.iter().map(exact).collect() }
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) file: PathBuf,
    /// What is wrong, as the end of "the certificate's file ...".
    pub(super) problem: String,
    /// What to do about it.
    pub(super) advice: String,
}

/// What was read from the files of a certificate.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The certificate, with nothing stapled to it.
    pub(super) identity: Identity,
    /// The OCSP response for it, if there is to be one.
    pub(super) staple: Result<Option<Staple>, Unstapled>,
}

impl Loaded {
    /// What speaks against stapling the OCSP response at `now`, as a warning.
    pub(super) fn unstapled(&self, now: i64) -> Option<String> {
        match &self.staple {
            Ok(staple) => staple.as_ref()?.out_of_date(now),
            Err(Unstapled::Useless(fault) | Unstapled::Unfit(fault)) => {
                let Fault { file, problem, advice } = fault;
                Some(format!("{} {problem}: it is not stapled; {advice}", file.display()))
            }
        }
    }
}

/// Why there is no OCSP response to staple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unstapled {
    /// The file cannot be read, or is something else.
    Useless(Fault),
    /// The response is not one that says that this certificate is good.
    Unfit(Fault),
}

/// An OCSP response that says that a certificate is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Staple {
    file: PathBuf,
    response: Vec<u8>,
    fresh: Freshness,
}

impl Staple {
    fn read(file: &Path, identity: &Identity) -> Result<Self, Unstapled> {
        let response = read_as(file, "OCSP response").map_err(Unstapled::Useless)?;
        let fault = |problem: String, advice: &str| Fault {
            file: file.to_owned(),
            problem,
            advice: advice.to_owned(),
        };
        match identity.judge_ocsp(&response) {
            Ok(fresh) => Ok(Self { file: file.to_owned(), response, fresh }),
            Err(error @ OcspError::Damaged) => Err(Unstapled::Useless(fault(
                format!("is of no use: it {error}"),
                "write what `openssl ocsp -respout` stores, or take `ocsp_file` out",
            ))),
            Err(error @ OcspError::Revoked) => Err(Unstapled::Unfit(fault(
                error.to_string(),
                "get another certificate, clients will refuse this one",
            ))),
            Err(error) => Err(Unstapled::Unfit(fault(
                error.to_string(),
                "fetch one for the certificate as it is now",
            ))),
        }
    }

    /// One that counts between these times.
    #[cfg(test)]
    pub(super) fn test(response: &[u8], from: i64, until: i64) -> Self {
        let fresh = Freshness { from, until: Some(until) };
        Self { file: "ocsp.der".into(), response: response.to_vec(), fresh }
    }

    /// The response, if it counts at `now`.
    pub(super) fn response(&self, now: i64) -> Option<&[u8]> {
        self.out_of_date(now).is_none().then_some(&self.response)
    }

    /// Why it does not count at `now`, as a warning.
    pub(super) fn out_of_date(&self, now: i64) -> Option<String> {
        let file = self.file.display();
        if let Some(until) = self.fresh.until.filter(|until| now >= *until) {
            let until = super::date(until);
            return Some(format!(
                "the OCSP response in {file} has expired ({until}): it is not stapled; fetch a new one"
            ));
        }
        (now < self.fresh.from.saturating_sub(SKEW)).then(|| {
            let from = super::date(self.fresh.from);
            format!(
                "the OCSP response in {file} is not valid before {from}: it is not stapled until then; \
                 look at this machine's clock"
            )
        })
    }
}

/// Tells whether any of the files has changed: replaced, written to, or reached through a symbolic
/// link that points elsewhere now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Signature(Vec<Option<[i64; 7]>>);

impl Signature {
    /// The state of these files now; one that is not there has one, too.
    pub(crate) fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        Self(paths.map(state).collect())
    }
}

impl Paths {
    /// The files with these paths.
    pub(super) fn new(certificate: &Path, key: Option<&Path>, ocsp: Option<&Path>) -> Self {
        Self {
            certificate: certificate.to_owned(),
            key: key.map(Path::to_owned),
            ocsp: ocsp.map(Path::to_owned),
        }
    }

    /// The certificate's file.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        let all = std::iter::once(&self.certificate).chain(&self.key).chain(&self.ocsp);
        all.map(PathBuf::as_path)
    }

    /// Reads the files.
    pub(super) fn load(&self) -> Result<Loaded, Fault> {
        let chain = read_as(&self.certificate, "certificate")?;
        let key = self.key.as_deref().map(|path| read_as(path, "key")).transpose()?;
        let identity = Identity::from_pem(&chain, key.as_deref())
            .map_err(|error| self.unfit(&error, key.as_deref()))?;
        let staple = self.ocsp.as_deref().map(|path| Staple::read(path, &identity)).transpose();
        Ok(Loaded { identity, staple })
    }

    /// Reads the files; what is no OCSP response at all is an error, too.
    pub(super) fn load_strictly(&self) -> Result<Loaded, Fault> {
        let loaded = self.load()?;
        match loaded.staple {
            Err(Unstapled::Useless(fault)) => Err(fault),
            _ => Ok(loaded),
        }
    }

    /// What it means that the files make no identity.
    fn unfit(&self, error: &IdentityError, key: Option<&[u8]>) -> Fault {
        let readable =
            |key| pem_text(key).is_ok_and(|key| PrivateKeyDer::from_pem_slice(&key).is_ok());
        let bad_key = || key.is_some_and(|key| !readable(key));
        let (of_key, advice) = match error {
            IdentityError::NoKey | IdentityError::EncryptedKey if self.key.is_none() => {
                (false, "add the key to that file, or name its own with `key_file`")
            }
            IdentityError::NoKey => (true, "name the private key's PEM file"),
            IdentityError::EncryptedKey => (true, "name the decrypted key's file"),
            IdentityError::KeyDoesNotMatch => (
                true,
                "take the key that the certificate was requested with; the site's own certificate comes first, its issuers' after it",
            ),
            IdentityError::UnsupportedKey(_) => (
                true,
                "RSA from 2048 bits, ECDSA with P-256, P-384 or P-521, and Ed25519 can be used",
            ),
            IdentityError::Damaged(_) if bad_key() => (true, "copy the file once more, whole"),
            IdentityError::Damaged(_) => (false, "copy the file once more, whole"),
            IdentityError::NoCertificate | IdentityError::NotMade(_) => {
                (false, "name the PEM file of the certificate chain")
            }
        };
        let file = self.key.as_ref().filter(|_| of_key).unwrap_or(&self.certificate);
        Fault {
            file: file.clone(),
            problem: format!("is of no use: {error}"),
            advice: advice.to_owned(),
        }
    }

    /// State of the files now.
    pub(super) fn signature(&self) -> Signature {
        Signature::of(self.all())
    }

    /// Who else may read the key, as a warning.
    pub(super) fn exposed(&self) -> Option<String> {
        let path = self.key.as_ref().unwrap_or(&self.certificate);
        let mode = fs::metadata(path).ok()?.permissions().mode();
        (mode & READABLE_BY_ALL != 0).then(|| {
            let path = path.display();
            format!(
                "every user of this machine may read the private key in {path}; `chmod o= {path}`"
            )
        })
    }
}

/// What speaks against showing this certificate for this site, as warnings; `now` in Unix seconds.
pub(super) fn doubts(identity: &Identity, site: &Shown, now: i64) -> Vec<String> {
    let mut doubts: Vec<String> = out_of_date(identity, now).into_iter().collect();
    let uncovered: Vec<String> =
        site.hosts.iter().filter_map(|host| uncovered(identity, host)).collect();
    if !uncovered.is_empty() {
        doubts.push(format!(
            "is not for {}, only for {}: browsers will refuse it; get a certificate with every name \
             of the site",
            uncovered.join(", "),
            listed(identity.names()),
        ));
    }
    doubts
}

/// Whether the certificate is valid at `now`, as the end of "the certificate ...".
pub(super) fn out_of_date(identity: &Identity, now: i64) -> Option<String> {
    if now >= identity.not_after() {
        let since = super::date(identity.not_after());
        return Some(format!("has expired ({since}): clients will refuse it; renew it"));
    }
    (now < identity.not_before()).then(|| {
        let from = super::date(identity.not_before());
        format!("is not valid before {from}: clients will refuse it; look at this machine's clock")
    })
}

/// Reads a file that should be small.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    net::file::read(path, FILE_MAX)
}

fn read_as(path: &Path, what: &str) -> Result<Vec<u8>, Fault> {
    read(path).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => format!("write the path of the {what}'s PEM file"),
            ErrorKind::PermissionDenied => {
                format!("let the user that runs Ravelin read it: `ls -lL {}`", path.display())
            }
            _ => format!("it should be the {what}'s file"),
        };
        Fault { file: path.to_owned(), problem: format!("cannot be read: {error}"), advice }
    })
}

fn state(path: &Path) -> Option<[i64; 7]> {
    let data = fs::metadata(path).ok()?;
    Some([
        // The bits matter, not the number.
        data.dev() as i64,
        data.ino() as i64,
        data.len() as i64,
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ])
}

fn uncovered(identity: &Identity, host: &HostPattern) -> Option<String> {
    match host {
        HostPattern::Exact(name) => (!identity.covers(name)).then(|| name.clone()),
        // Whatever stands for the star, as long as it is one label.
        HostPattern::Wildcard(name) => {
            (!identity.covers(&format!("a.{name}"))).then(|| format!("*.{name}"))
        }
        HostPattern::Any => None,
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::super::testing::{Directory, issued, valid};
    use super::*;

    fn paths(directory: &Directory) -> Paths {
        let (certificate, key) =
            (directory.path().join("site.crt"), directory.path().join("site.key"));
        Paths::new(&certificate, Some(&key), None)
    }

    fn write(directory: &Directory, (chain, key): &(String, String)) {
        fs::write(directory.path().join("site.crt"), chain).unwrap();
        fs::write(directory.path().join("site.key"), key).unwrap();
    }

    fn shown(hosts: &[HostPattern]) -> Shown {
        Shown { site: "main".to_owned(), hosts: hosts.to_vec() }
    }

    fn exact(host: &str) -> HostPattern {
        HostPattern::Exact(host.to_owned())
    }

    #[test]
    fn a_certificate_and_its_key_make_an_identity() {
        let directory = Directory::new();
        write(&directory, &issued(&["a.test"]));
        assert_eq!(paths(&directory).load().unwrap().identity.names(), ["a.test"]);
    }

    #[test]
    fn both_may_be_in_one_file() {
        let directory = Directory::new();
        let (chain, key) = issued(&["a.test"]);
        let both = directory.path().join("both.pem");
        for text in [format!("{chain}{key}"), format!("{key}{chain}")] {
            fs::write(&both, text).unwrap();
            assert!(Paths::new(&both, None, None).load().is_ok());
        }
    }

    #[test]
    fn what_is_wrong_names_the_file_and_what_to_do() {
        let directory = Directory::new();
        let paths = paths(&directory);
        let fault = paths.load().err().unwrap();
        assert!(fault.file.ends_with("site.crt"));
        assert!(fault.problem.starts_with("cannot be read: No such file"), "{fault:?}");
        assert!(!fault.advice.is_empty());

        write(&directory, &issued(&["a.test"]));
        fs::remove_file(directory.path().join("site.key")).unwrap();
        assert!(paths.load().err().unwrap().file.ends_with("site.key"));

        fs::write(directory.path().join("site.key"), issued(&["a.test"]).1).unwrap();
        let fault = paths.load().err().unwrap();
        assert!(fault.file.ends_with("site.key"), "{fault:?}");
        assert!(fault.problem.contains("does not belong to"), "{fault:?}");

        for damaged in ["", "-----BEGIN PRIVATE KEY-----\nAAAA"] {
            fs::write(directory.path().join("site.key"), damaged).unwrap();
            assert!(paths.load().err().unwrap().file.ends_with("site.key"), "{damaged}");
        }

        fs::write(directory.path().join("site.crt"), "no certificate").unwrap();
        assert!(paths.load().err().unwrap().file.ends_with("site.crt"));
    }

    #[test]
    fn what_is_not_a_small_file_is_not_read() {
        let directory = Directory::new();
        assert!(read(directory.path()).unwrap_err().to_string().contains("not a file"));
        let large = directory.path().join("large.pem");
        fs::File::create(&large).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("1 MiB"));
        fs::File::create(&large).unwrap().set_len(FILE_MAX).unwrap();
        assert_eq!(read(&large).unwrap().len() as u64, FILE_MAX);
    }

    #[test]
    fn a_key_that_everybody_may_read_is_told() {
        let directory = Directory::new();
        write(&directory, &issued(&["a.test"]));
        let key = directory.path().join("site.key");
        for (mode, told) in [(0o644, true), (0o640, false), (0o600, false)] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            assert_eq!(paths(&directory).exposed().is_some(), told, "{mode:o}");
        }
    }

    #[test]
    fn dates_are_looked_at() {
        let directory = Directory::new();
        write(&directory, &valid(&["a.test"], 2000, 2001));
        let identity = paths(&directory).load().unwrap().identity;
        let (from, until) = (identity.not_before(), identity.not_after());
        assert!(out_of_date(&identity, from - 1).unwrap().contains("not valid before"));
        assert_eq!(out_of_date(&identity, from), None);
        assert_eq!(out_of_date(&identity, until - 1), None);
        let expired = out_of_date(&identity, until).unwrap();
        assert!(expired.contains("has expired (Mon, 01 Jan 2001 00:00:00 GMT)"), "{expired}");
    }

    #[test]
    fn every_host_of_the_site_should_be_in_the_certificate() {
        let directory = Directory::new();
        write(&directory, &issued(&["a.test", "*.w.test"]));
        let identity = paths(&directory).load().unwrap().identity;
        let now = identity.not_before();
        let wildcard = |host: &str| HostPattern::Wildcard(host.to_owned());
        let fits = [exact("a.test"), exact("x.w.test"), wildcard("w.test"), HostPattern::Any];
        assert!(doubts(&identity, &shown(&fits), now).is_empty());
        let not = [exact("a.test"), exact("b.test"), wildcard("v.test")];
        let doubts = doubts(&identity, &shown(&not), now);
        assert_eq!(doubts.len(), 1, "{doubts:?}");
        assert!(doubts[0].contains("is not for b.test, *.v.test, only for a.test, *.w.test"));
    }
}
