//! Certificates of the sites: read from files or got from an authority, and kept up to date while
//! Ravelin serves.
//!
//! [`inspect`] says what is wrong before anything is served. [`Certificates::load`] gives each TLS site an [`IdentitySlot`]: what a slot holds is what the site
//! shows from that moment on. [`Certificates::start`] then watches the files (`watch`) and orders
//! and renews the others (`acme`), on the control runtime. What always holds: a slot has a
//! certificate with its key; one that cannot be read or got changes nothing, it is told in the log.

mod acme;
mod files;
mod report;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use config::Model;
use config::model::{CertificateSource, PemPair, Site, Tls};
use net::tls::{Identity, IdentitySlot};
use proxy::challenges::Challenges;
use proxy::log::ErrorLog;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::{AbortHandle, JoinSet, spawn_blocking};
use tokio::time::timeout;

use self::acme::Orders;
pub(crate) use self::acme::Trust;
use self::acme::schedule::unix_now;
pub(crate) use self::files::Signature;
use self::files::{Fault, Paths, Shown};
pub use self::report::{Next, Report, Said, Source};
pub(crate) use self::watch::{INTERVAL, SETTLE};
use self::watch::{Look, Watched};

/// The certificates of a configuration.
pub struct Certificates {
    slots: Vec<Option<Arc<IdentitySlot>>>,
    /// Those in files that are new.
    watched: Vec<Watched>,
    /// Those that are watched already, with the sites that show them from now on.
    kept: Vec<(Arc<Mutex<Watched>>, Vec<Shown>)>,
    texts: Vec<Texts>,
    orders: Orders,
    /// What is kept already.
    before: Known,
    log: ErrorLog,
}

/// What is kept up to date, to be found again.
#[derive(Default, Clone)]
struct Known {
    watched: Vec<Arc<Mutex<Watched>>>,
    texts: Vec<Texts>,
    orders: acme::Tasks,
}

/// Certificates that stand in the configuration.
#[derive(Clone)]
struct Texts {
    pairs: Vec<PemPair>,
    slot: Arc<IdentitySlot>,
}

impl Certificates {
    /// Reads the certificates of all sites with TLS. Those that an authority is to issue are taken
    /// from the state directory, or a self-signed one stands in. What is odd but no reason not to
    /// start (expired, for other names, key readable by everybody) is told in the log.
    ///
    /// # Errors
    /// Every site whose certificate cannot be had, with the reason. Nothing may be served then: a
    /// site that should have TLS is never served without.
    pub fn load(model: &Model, log: &ErrorLog) -> Result<Self, Vec<CertificateError>> {
        Self::load_with(model, log, Known::default())
    }

    /// The same beside those that are kept up to date already: a certificate that some site shows now goes
    /// on from the same slot, as it was read or ordered. [`Upkeep::replace`] then takes what this
    /// returns.
    ///
    /// # Errors
    /// As for [`Self::load`]; nothing is changed by it.
    pub fn load_beside(
        model: &Model,
        log: &ErrorLog,
        upkeep: &Upkeep,
    ) -> Result<Self, Vec<CertificateError>> {
        Self::load_with(model, log, upkeep.known.clone())
    }

    fn load_with(
        model: &Model,
        log: &ErrorLog,
        before: Known,
    ) -> Result<Self, Vec<CertificateError>> {
        let mut certificates = Self {
            slots: Vec::with_capacity(model.sites.len()),
            watched: Vec::new(),
            kept: Vec::new(),
            texts: Vec::new(),
            orders: Orders::beside(&before.orders),
            before,
            log: log.clone(),
        };
        let mut errors = Vec::new();
        for site in &model.sites {
            let slot = site.tls.as_ref().map(|tls| certificates.add(site, tls)).transpose();
            certificates.slots.push(slot.unwrap_or_else(|error| {
                errors.push(error);
                None
            }));
        }
        if errors.is_empty() { Ok(certificates) } else { Err(errors) }
    }

    /// What the site at this index of the model's sites shows; `None` if it has no TLS.
    #[must_use]
    pub fn slot(&self, site: usize) -> Option<&Arc<IdentitySlot>> {
        self.slots.get(site)?.as_ref()
    }

    /// What there is to know of each certificate of this model, also later.
    #[must_use]
    pub fn reports(&self, model: &Model) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        for (index, site) in model.sites.iter().enumerate() {
            let (Some(tls), Some(slot)) = (&site.tls, self.slot(index)) else { continue };
            match reports.iter_mut().find(|report| Arc::ptr_eq(&report.slot, slot)) {
                Some(same) => same.sites.push(site.name.clone()),
                None => reports.push(Report {
                    sites: vec![site.name.clone()],
                    source: Source::of(&tls.certificate),
                    slot: Arc::clone(slot),
                    renewal: self.orders.renewal(slot),
                }),
            }
        }
        reports
    }

    /// Ports at which HTTP-01 challenges have to be answered, each once: a plain listener has to be
    /// opened where there is none. Empty if no certificate comes from an authority.
    #[must_use]
    pub fn http_ports(&self) -> Vec<u16> {
        self.orders.http_ports()
    }

    /// One of [`Self::http_ports`] cannot be had: names are proved by TLS-ALPN-01 before HTTP-01, which
    /// whoever has the port would hardly answer.
    pub fn without_http(&mut self, port: u16) {
        self.orders.without_http(port);
    }

    /// Starts watching files and ordering certificates on the current runtime, until what this
    /// returns is dropped. Call it when the listeners answer `challenges`.
    pub fn start(self, challenges: &Arc<Challenges>) -> Upkeep {
        let (wake, _) = channel(0);
        let known = Known::default();
        let mut upkeep = Upkeep { wake, known, watching: None, tasks: JoinSet::new() };
        upkeep.replace(self, challenges);
        upkeep
    }

    fn add(&mut self, site: &Site, tls: &Tls) -> Result<Arc<IdentitySlot>, CertificateError> {
        match &tls.certificate {
            CertificateSource::Acme(acme) => {
                let added = self.orders.add(&site.name, acme, &self.log);
                added.map_err(|(problem, advice)| CertificateError {
                    site: site.name.clone(),
                    file: None,
                    problem,
                    advice,
                })
            }
            CertificateSource::Files { certificate, key } => {
                let paths = Paths::new(certificate, key.as_deref(), tls.ocsp_file.as_deref());
                self.add_files(&site.into(), paths)
            }
            CertificateSource::Texts(pairs) => {
                let known = self.texts.iter().chain(&self.before.texts);
                if let Some(same) = known.into_iter().find(|known| known.pairs == *pairs).cloned() {
                    let slot = Arc::clone(&same.slot);
                    self.texts.push(same);
                    return Ok(slot);
                }
                let identities = texts(site, pairs)?;
                for doubt in doubts_of_texts(site, &identities) {
                    self.log.warn(format_args!("certificates: site {}: {doubt}", site.name));
                }
                let mut identities = identities.into_iter();
                let first =
                    identities.next().ok_or_else(|| of_text(site, "is missing".to_owned()))?;
                let slot = IdentitySlot::with(first, identities.collect());
                self.texts.push(Texts { pairs: pairs.clone(), slot: Arc::clone(&slot) });
                Ok(slot)
            }
        }
    }

    /// Sites with the same files share what is read from them.
    fn add_files(
        &mut self,
        site: &Shown,
        paths: Paths,
    ) -> Result<Arc<IdentitySlot>, CertificateError> {
        if let Some(same) = self.watched.iter_mut().find(|watched| *watched.paths() == paths) {
            same.add(site, unix_now(), &self.log);
            return Ok(Arc::clone(same.slot()));
        }
        for (kept, sites) in &mut self.kept {
            let kept = lock(kept);
            if *kept.paths() == paths {
                sites.push(site.clone());
                return Ok(Arc::clone(kept.slot()));
            }
        }
        for known in &self.before.watched {
            let watched = lock(known);
            if *watched.paths() == paths {
                let slot = Arc::clone(watched.slot());
                drop(watched);
                self.kept.push((Arc::clone(known), vec![site.clone()]));
                return Ok(slot);
            }
        }
        let loaded = Watched::load(paths, site, unix_now(), &self.log);
        let watched = loaded.map_err(|fault| CertificateError::new(site.site.clone(), fault))?;
        let slot = Arc::clone(watched.slot());
        self.watched.push(watched);
        Ok(slot)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("sites", &self.slots.len()).finish_non_exhaustive()
    }
}

/// What is wrong with the certificates in files of the configuration and with its authorities, and
/// what is odd about them, as [`Certificates::load`] would say. Changes nothing. A file that whoever
/// asks may not read is odd, no more: Ravelin may run as another user.
pub fn inspect(model: &Model) -> (Vec<CertificateError>, Vec<String>) {
    let (mut errors, mut doubts) = (Vec::new(), Vec::new());
    for site in &model.sites {
        let Some(tls) = &site.tls else { continue };
        let found = match &tls.certificate {
            CertificateSource::Files { certificate, key } => {
                let paths = Paths::new(certificate, key.as_deref(), tls.ocsp_file.as_deref());
                inspect_files(site, &paths)
            }
            CertificateSource::Texts(pairs) => {
                texts(site, pairs).map(|identities| doubts_of_texts(site, &identities))
            }
            CertificateSource::Acme(acme) => match acme.ca_file.as_deref().and_then(forbidden) {
                Some(doubt) => Ok(vec![doubt]),
                None => acme::inspect(acme).map(|()| Vec::new()).map_err(|(problem, advice)| {
                    CertificateError { site: site.name.clone(), file: None, problem, advice }
                }),
            },
        };
        match found {
            Ok(found) => {
                doubts.extend(
                    found.into_iter().map(|doubt| format!("site \"{}\": {doubt}", site.name)),
                );
            }
            Err(error) => errors.push(error),
        }
    }
    (errors, doubts)
}

/// The certificates that a site would show, as far as they can be read now; none that an authority
/// issues.
#[must_use]
pub fn shown(site: &Site) -> Vec<Identity> {
    match site.tls.as_ref().map(|tls| &tls.certificate) {
        Some(CertificateSource::Files { certificate, key }) => {
            let paths = Paths::new(certificate, key.as_deref(), None);
            paths.load().map(|loaded| loaded.identity).into_iter().collect()
        }
        Some(CertificateSource::Texts(pairs)) => texts(site, pairs).unwrap_or_default(),
        Some(CertificateSource::Acme(_)) | None => Vec::new(),
    }
}

/// The certificates that stand in the configuration.
fn texts(site: &Site, pairs: &[PemPair]) -> Result<Vec<Identity>, CertificateError> {
    let read = |pair: &PemPair| {
        let identity = Identity::from_pem(pair.certificate.as_bytes(), Some(&pair.key.0));
        identity.map_err(|error| of_text(site, format!("is of no use: {error}")))
    };
    pairs.iter().map(read).collect()
}

fn of_text(site: &Site, problem: String) -> CertificateError {
    let problem = format!("the certificate in the configuration {problem}");
    let advice = "copy certificate and key once more, whole".to_owned();
    CertificateError { site: site.name.clone(), file: None, problem, advice }
}

/// What is odd about them. Of several no one has to be for all of the site's names.
fn doubts_of_texts(site: &Site, identities: &[Identity]) -> Vec<String> {
    let found = match identities {
        [only] => files::doubts(only, &site.into(), unix_now()),
        several => several.iter().filter_map(|one| files::out_of_date(one, unix_now())).collect(),
    };
    found.into_iter().map(|doubt| format!("the certificate in the configuration {doubt}")).collect()
}

/// What is odd about a site's certificate.
fn inspect_files(site: &Site, paths: &Paths) -> Result<Vec<String>, CertificateError> {
    let unread: Vec<String> = paths.all().filter_map(forbidden).collect();
    if !unread.is_empty() {
        return Ok(unread);
    }
    let loaded =
        paths.load_strictly().map_err(|fault| CertificateError::new(site.name.clone(), fault))?;
    let file = paths.certificate().display();
    let found = files::doubts(&loaded.identity, &site.into(), unix_now());
    let found = found.into_iter().map(|doubt| format!("{file} {doubt}"));
    Ok(found.chain(loaded.unstapled(unix_now())).chain(paths.exposed()).collect())
}

/// What to tell of a file that whoever asks may not read, so that nothing is known of it.
#[must_use]
pub fn forbidden(file: &Path) -> Option<String> {
    // Opening something else, a FIFO for instance, might never return.
    let opened = fs::metadata(file).and_then(|data| match data.is_file() {
        true => File::open(file).map(drop),
        false => Ok(()),
    });
    let denied = opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    denied.then(|| {
        format!(
            "{} may not be read by the user who checks: whether it can be used is not known; check \
             as the user who will run Ravelin",
            file.display()
        )
    })
}

/// The tasks that keep certificates up to date; they end when this is dropped.
#[must_use = "dropping it ends watching and renewing"]
pub struct Upkeep {
    wake: Sender<u64>,
    known: Known,
    /// Looks at the files.
    watching: Option<AbortHandle>,
    tasks: JoinSet<()>,
}

impl Upkeep {
    /// From now on these certificates are kept up to date and no others. Those that were already go on
    /// undisturbed, with orders that are under way.
    pub fn replace(&mut self, certificates: Certificates, challenges: &Arc<Challenges>) {
        let Certificates { watched, kept, texts, orders, log, .. } = certificates;
        let mut all = Vec::with_capacity(watched.len() + kept.len());
        for (kept, sites) in kept {
            lock(&kept).set_sites(sites, unix_now(), &log);
            all.push(kept);
        }
        all.extend(watched.into_iter().map(|watched| Arc::new(Mutex::new(watched))));
        let woken = self.wake.subscribe();
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        if !all.is_empty() {
            let watching = watch(all.clone(), log.clone(), woken.clone());
            self.watching = Some(self.tasks.spawn(watching));
        }
        let orders = orders.start(&mut self.tasks, challenges, &log, &woken);
        self.known = Known { watched: all, texts, orders };
        // Those that have ended are of no use to anybody.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Looks at the files at once, and tries at once what failed before: for SIGHUP.
    pub fn look_now(&self) {
        self.wake.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Why a site has no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateError {
    /// Name of the site.
    pub site: String,
    /// The file it is about, if it is about one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it; may be empty.
    pub advice: String,
}

impl CertificateError {
    fn new(site: String, fault: Fault) -> Self {
        let Fault { file, problem, advice } = fault;
        Self { site, file: Some(file), problem, advice }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "site \"{}\" has no certificate: ", self.site)?;
        if let Some(file) = &self.file {
            write!(f, "{} ", file.display())?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for CertificateError {}

/// Looks at all files again and again. Reading them may block, so it is done on a thread for that.
async fn watch(watched: Vec<Arc<Mutex<Watched>>>, log: ErrorLog, mut wake: Receiver<u64>) {
    let mut pause = INTERVAL;
    loop {
        let at_once = match timeout(pause, wake.changed()).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return,
            Err(_) => false,
        };
        let (watched, log) = (watched.clone(), log.clone());
        let looked = spawn_blocking(move || {
            let now = unix_now();
            let looks: Vec<Look> =
                watched.iter().map(|one| lock(one).look(at_once, now, &log)).collect();
            looks.contains(&Look::Changing)
        });
        let Ok(changing) = looked.await else { return };
        pause = if changing { SETTLE } else { INTERVAL };
    }
}

/// A panic while one is looked at leaves it as it was.
fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A date for people, from Unix seconds.
fn date(unix: i64) -> String {
    let since = Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    let time = UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH);
    String::from_utf8_lossy(&wire::date::http_date(time)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use config::model::Acme;

    use super::testing::{Directory, acme, issued, lines, log};
    use super::*;

    /// A model with a site for each of these; `a` is plain.
    fn model(sites: &[CertificateSource]) -> Model {
        let text: String = ["a", "b", "c", "d"]
            .iter()
            .map(|name| {
                format!("[[sites]]\nname = \"{name}\"\nhostname = \"{name}.test\"\nport = 80\n")
            })
            .collect();
        let file = (PathBuf::from("ravelin.toml"), text);
        let mut model = config::load(&[file], &config::Options::default()).model.unwrap();
        model.sites.truncate(sites.len() + 1);
        for (site, certificate) in model.sites.iter_mut().skip(1).zip(sites) {
            site.tls = Some(testing::tls(certificate.clone()));
        }
        model
    }

    fn files(directory: &Path, name: &str) -> CertificateSource {
        let path = |end: &str| directory.join(format!("{name}.{end}"));
        CertificateSource::Files { certificate: path("crt"), key: Some(path("key")) }
    }

    fn write(directory: &Path, name: &str, names: &[&str]) {
        let (chain, key) = issued(names);
        fs::write(directory.join(format!("{name}.crt")), chain).unwrap();
        fs::write(directory.join(format!("{name}.key")), key).unwrap();
    }

    fn slot(certificates: &Certificates, site: usize) -> Arc<IdentitySlot> {
        Arc::clone(certificates.slot(site).unwrap())
    }

    #[test]
    fn each_site_with_tls_has_a_certificate_and_the_same_files_are_read_once() {
        let directory = Directory::new();
        write(directory.path(), "one", &["b.test", "c.test"]);
        let one = files(directory.path(), "one");
        let order = CertificateSource::Acme(acme(&["d.test"], directory.path()));
        let (log, source) = log();
        let loaded = Certificates::load(&model(&[one.clone(), one, order]), &log).unwrap();
        assert!(loaded.slot(0).is_none() && loaded.slot(9).is_none());
        assert!(Arc::ptr_eq(&slot(&loaded, 1), &slot(&loaded, 2)));
        assert_eq!(slot(&loaded, 1).load().names(), ["b.test", "c.test"]);
        assert_eq!(slot(&loaded, 3).load().names(), ["d.test"]);
        assert_eq!(loaded.http_ports(), [80]);
        let told = lines(&source);
        assert!(told.iter().all(|line| line.contains("private key")), "{told:?}");
    }

    #[test]
    fn every_site_without_a_certificate_is_named_with_its_file_and_what_to_do() {
        let directory = Directory::new();
        write(directory.path(), "good", &["c.test"]);
        let plain = "http://ca.test/".to_owned();
        let order = Acme { directory_url: plain, ..acme(&["d.test"], directory.path()) };
        let sites = [
            files(directory.path(), "missing"),
            files(directory.path(), "good"),
            CertificateSource::Acme(order),
        ];
        let errors = Certificates::load(&model(&sites), &log().0).unwrap_err();
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("site \"b\" has no certificate: "), "{told:?}");
        assert!(told[0].contains("missing.crt cannot be read"), "{told:?}");
        assert!(told[1].starts_with("site \"d\" has no certificate: the authority's URL"));
        assert!(errors.iter().all(|error| !error.advice.is_empty()), "{errors:?}");
    }

    #[test]
    fn a_state_directory_that_cannot_be_written_is_an_error() {
        let directory = Directory::new();
        let state = directory.path().join("state");
        fs::write(&state, "a file").unwrap();
        let order = CertificateSource::Acme(acme(&["b.test"], &state));
        let errors = Certificates::load(&model(&[order]), &log().0).unwrap_err();
        assert!(errors[0].problem.contains("cannot be used"), "{errors:?}");
        assert!(errors[0].advice.contains("`state_dir`"), "{errors:?}");
    }

    #[test]
    fn certificates_that_begin_with_the_same_name_are_kept_apart() {
        let directory = Directory::new();
        let (log, _source) = log();
        let mut orders = Orders::default();
        let one = acme(&["a.test"], directory.path());
        let two = acme(&["a.test", "b.test"], directory.path());
        let first = orders.add("one", &one, &log).unwrap();
        let second = orders.add("two", &two, &log).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &orders.add("three", &one, &log).unwrap()));
        assert!(orders.add("none", &acme(&[], directory.path()), &log).is_err());
    }

    #[test]
    fn new_files_are_shown_at_once_when_somebody_says_so() {
        let directory = Directory::new();
        write(directory.path(), "one", &["b.test"]);
        let (log, _source) = log();
        let loaded = Certificates::load(&model(&[files(directory.path(), "one")]), &log).unwrap();
        let slot = slot(&loaded, 1);
        write(directory.path(), "one", &["b.test", "new.test"]);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(async {
            let upkeep = loaded.start(&Arc::default());
            let start = Instant::now();
            upkeep.look_now();
            while slot.load().names() != ["b.test", "new.test"] {
                assert!(start.elapsed() < Duration::from_secs(30), "nothing new is shown");
                tokio::task::yield_now().await;
            }
        });
    }
}
