//! Watches the files of certificates and shows a new certificate as soon as its files are whole.
//!
//! By looking at them every few seconds: that works for every way files are replaced (written in
//! place, renamed over, a directory swapped by a symbolic link as Kubernetes does), on every file
//! system, and costs a few `stat` calls.

use std::sync::Arc;
use std::time::Duration;

use net::tls::IdentitySlot;
use proxy::log::ErrorLog;

use super::files::{self, Fault, Loaded, Paths, Shown, Signature, Staple};

/// Between two looks at the files.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);

/// After a change, until a second look shows whether the files are at rest.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// A certificate in files, and the sites that show it.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Paths,
    sites: Vec<Shown>,
    slot: Arc<IdentitySlot>,
    /// State of the files when they were last read.
    read: Signature,
    /// A newer state, seen once.
    changing: Option<Signature>,
    /// The error that was told, until a certificate can be read again.
    told: Option<String>,
    out_of_date: bool,
    /// What may be stapled to the certificate, as long as it counts.
    staple: Option<Staple>,
}

/// What a look at the files found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing that needs another look soon.
    AtRest,
    /// A change that may not be complete: look again after [`SETTLE`].
    Changing,
}

impl Watched {
    /// Reads the files for the first time and tells what speaks against the certificate.
    pub(super) fn load(
        paths: Paths,
        site: &Shown,
        now: i64,
        log: &ErrorLog,
    ) -> Result<Self, Fault> {
        let read = paths.signature();
        let loaded = paths.load_strictly()?;
        let mut watched = Self {
            slot: IdentitySlot::new(loaded.identity.clone()),
            sites: Vec::new(),
            read,
            changing: None,
            told: None,
            out_of_date: false,
            staple: None,
            paths,
        };
        watched.add(site, now, log);
        watched.show(loaded, now, log);
        if let Some(exposed) = watched.paths.exposed() {
            log.warn(format_args!("certificates: site \"{}\": {exposed}", site.site));
        }
        Ok(watched)
    }

    /// The files.
    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Where the certificate is shown from.
    pub(super) fn slot(&self) -> &Arc<IdentitySlot> {
        &self.slot
    }

    /// One more site that shows this certificate.
    pub(super) fn add(&mut self, site: &Shown, now: i64, log: &ErrorLog) {
        self.sites.push(site.clone());
        self.doubt(std::slice::from_ref(site), now, log);
    }

    /// From now on these sites show this certificate.
    pub(super) fn set_sites(&mut self, sites: Vec<Shown>, now: i64, log: &ErrorLog) {
        let new: Vec<Shown> =
            sites.iter().filter(|site| !self.sites.contains(site)).cloned().collect();
        self.sites = sites;
        self.doubt(&new, now, log);
    }

    /// Looks whether the files have changed, and reads them if they have and are at rest. With `at
    /// once` they need not be at rest: somebody has said that they are complete.
    pub(super) fn look(&mut self, at_once: bool, now: i64, log: &ErrorLog) -> Look {
        let seen = self.paths.signature();
        if seen == self.read {
            self.changing = None;
            self.tell_when_out_of_date(now, log);
            self.staple_while_it_counts(now, log);
            return Look::AtRest;
        }
        if !at_once && self.changing.as_ref() != Some(&seen) {
            self.changing = Some(seen);
            return Look::Changing;
        }
        self.changing = None;
        let loaded = self.paths.load();
        if self.paths.signature() != seen {
            // Changed while it was read: what was read may be half of each.
            return Look::Changing;
        }
        self.read = seen;
        match loaded {
            Ok(loaded) => {
                let (file, until) = (
                    self.paths.certificate().display().to_string(),
                    super::date(loaded.identity.not_after()),
                );
                let is_same = loaded.identity.chain_der() == self.slot.load().chain_der();
                // Told when it is so: whoever reads that meets it.
                self.show(loaded, now, log);
                if is_same {
                    log.info(format_args!(
                        "certificates: site {}: the files of {file} were read again, the certificate \
                         is the same",
                        self.names()
                    ));
                } else {
                    log.info(format_args!(
                        "certificates: site {}: new certificate from {file}, valid until {until}",
                        self.names()
                    ));
                }
                self.told = None;
                self.doubt(&self.sites.clone(), now, log);
                if let Some(exposed) = self.paths.exposed() {
                    log.warn(format_args!("certificates: site {}: {exposed}", self.names()));
                }
            }
            Err(fault) => self.tell(&fault, log),
        }
        Look::AtRest
    }

    /// Shows what was read, with the OCSP response if it counts; tells why if it does not.
    fn show(&mut self, loaded: Loaded, now: i64, log: &ErrorLog) {
        if let Some(doubt) = loaded.unstapled(now) {
            log.warn(format_args!("certificates: site {}: {doubt}", self.names()));
        }
        let Loaded { identity, staple } = loaded;
        self.staple = staple.ok().flatten();
        let response = self.staple.as_ref().and_then(|staple| staple.response(now));
        self.slot.store(identity.stapled(response.map(<[u8]>::to_vec)));
    }

    /// Begins and ends stapling when the time of the OCSP response has come.
    fn staple_while_it_counts(&mut self, now: i64, log: &ErrorLog) {
        let Some(staple) = &self.staple else { return };
        let shown = self.slot.load();
        let response = staple.response(now);
        if response.is_some() == shown.staple().is_some() {
            return;
        }
        self.slot.store(shown.stapled(response.map(<[u8]>::to_vec)));
        if let Some(doubt) = staple.out_of_date(now) {
            log.warn(format_args!("certificates: site {}: {doubt}", self.names()));
        }
    }

    fn tell(&mut self, fault: &Fault, log: &ErrorLog) {
        let text = format!("{} {}", fault.file.display(), fault.problem);
        if self.told.as_ref() != Some(&text) {
            log.error(format_args!(
                "certificates: site {}: {text}; {}. The certificate read before stays in use",
                self.names(),
                fault.advice
            ));
            self.told = Some(text);
        }
    }

    fn tell_when_out_of_date(&mut self, now: i64, log: &ErrorLog) {
        let doubt = files::out_of_date(&self.slot.load(), now);
        if let (Some(doubt), false) = (&doubt, self.out_of_date) {
            let file = self.paths.certificate().display();
            log.error(format_args!("certificates: site {}: {file} {doubt}", self.names()));
        }
        self.out_of_date = doubt.is_some();
    }

    fn doubt(&mut self, sites: &[Shown], now: i64, log: &ErrorLog) {
        let identity = self.slot.load();
        self.out_of_date = files::out_of_date(&identity, now).is_some();
        for site in sites {
            for doubt in files::doubts(&identity, site, now) {
                let file = self.paths.certificate().display();
                log.warn(format_args!("certificates: site \"{}\": {file} {doubt}", site.site));
            }
        }
    }

    fn names(&self) -> String {
        let names: Vec<String> =
            self.sites.iter().map(|site| format!("\"{}\"", site.site)).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use proxy::log::Source;

    use super::super::testing::{Directory, issued, lines, log, valid};
    use super::*;

    struct Test {
        directory: Directory,
        watched: Watched,
        log: ErrorLog,
        source: Source,
        now: i64,
    }

    impl Test {
        /// Watches `site.crt` and `site.key` below `part` of a new directory.
        fn new(part: &str, prepare: impl FnOnce(&Path)) -> Self {
            let directory = Directory::new();
            prepare(directory.path());
            let path = |name: &str| directory.path().join(part).join(name);
            let paths = Paths::new(&path("site.crt"), Some(&path("site.key")), None);
            let (log, source) = log();
            let now = 1_800_000_000;
            let watched =
                Watched::load(paths, &Shown::test("main", &["a.test"]), now, &log).unwrap();
            lines(&source);
            Self { directory, watched, log, source, now }
        }

        fn look(&mut self, at_once: bool) -> Look {
            self.watched.look(at_once, self.now, &self.log)
        }

        /// Looks until the files are at rest.
        fn settle(&mut self) -> Vec<String> {
            while self.look(false) == Look::Changing {}
            lines(&self.source)
        }

        fn names(&self) -> Vec<String> {
            self.watched.slot().load().names().to_vec()
        }
    }

    fn write(directory: &Path, (chain, key): &(String, String)) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("site.crt"), chain).unwrap();
        fs::write(directory.join("site.key"), key).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(directory.join("site.key"), private).unwrap();
    }

    #[test]
    fn new_files_are_shown_once_they_are_at_rest() {
        let mut test = Test::new("", |path| write(path, &issued(&["a.test"])));
        assert_eq!(test.look(false), Look::AtRest);
        let (chain, key) = issued(&["a.test", "b.test"]);
        fs::write(test.directory.path().join("site.crt"), chain).unwrap();
        assert_eq!(test.look(false), Look::Changing);
        // The key follows: nothing is read between the two, and nothing is told.
        fs::write(test.directory.path().join("site.key"), key).unwrap();
        assert_eq!(test.look(false), Look::Changing);
        assert_eq!(test.names(), ["a.test"]);
        assert_eq!(test.look(false), Look::AtRest);
        assert_eq!(test.names(), ["a.test", "b.test"]);
        let told = lines(&test.source);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("info certificates: site \"main\": new certificate from"));
    }

    #[test]
    fn on_demand_they_are_read_at_once() {
        let mut test = Test::new("", |path| write(path, &issued(&["a.test"])));
        write(test.directory.path(), &issued(&["c.test"]));
        assert_eq!(test.look(true), Look::AtRest);
        assert_eq!(test.names(), ["c.test"]);
        assert!(lines(&test.source)[1].contains("is not for a.test, only for c.test"));
    }

    #[test]
    fn a_directory_swapped_by_a_symbolic_link_is_seen() {
        // As Kubernetes does: site.crt -> ..data/site.crt, ..data -> ..first, then -> ..second.
        let mut test = Test::new("", |path| {
            write(&path.join("..first"), &issued(&["a.test"]));
            write(&path.join("..second"), &issued(&["b.test"]));
            symlink("..first", path.join("..data")).unwrap();
            for name in ["site.crt", "site.key"] {
                symlink(format!("..data/{name}"), path.join(name)).unwrap();
            }
        });
        assert_eq!(test.look(false), Look::AtRest);
        let path = test.directory.path();
        symlink("..second", path.join("..new")).unwrap();
        fs::rename(path.join("..new"), path.join("..data")).unwrap();
        test.settle();
        assert_eq!(test.names(), ["b.test"]);
    }

    #[test]
    fn files_that_are_renamed_over_are_seen() {
        let mut test = Test::new("", |path| write(path, &issued(&["a.test"])));
        let path = test.directory.path();
        write(&path.join("new"), &issued(&["b.test"]));
        for name in ["site.crt", "site.key"] {
            fs::rename(path.join("new").join(name), path.join(name)).unwrap();
        }
        test.settle();
        assert_eq!(test.names(), ["b.test"]);
    }

    #[test]
    fn a_broken_file_keeps_the_certificate_and_is_told_once() {
        let mut test = Test::new("", |path| write(path, &issued(&["a.test"])));
        let certificate = test.directory.path().join("site.crt");
        fs::write(&certificate, "broken").unwrap();
        let told = test.settle();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("error certificates: site \"main\": "), "{told:?}");
        assert!(told[0].contains("site.crt") && told[0].contains("stays in use"), "{told:?}");
        // Touched, broken as before.
        fs::write(&certificate, "broken").unwrap();
        assert!(test.settle().is_empty());
        assert_eq!(test.names(), ["a.test"]);
        // Gone altogether: that is something new.
        fs::remove_file(&certificate).unwrap();
        assert_eq!(test.settle().len(), 1);
        assert!(test.settle().is_empty());
        write(test.directory.path(), &issued(&["a.test", "b.test"]));
        assert_eq!(test.settle().len(), 1);
        assert_eq!(test.names(), ["a.test", "b.test"]);
    }

    #[test]
    fn a_response_is_stapled_from_its_beginning_to_its_end() {
        let mut test = Test::new("", |path| write(path, &valid(&["a.test"], 2020, 2040)));
        let (from, until) = (test.now + 1000, test.now + 2000);
        test.watched.staple = Some(Staple::test(b"response", from, until));
        let mut staple_at = |now| {
            test.now = now;
            let told = test.settle();
            (test.watched.slot().load().staple().map(<[u8]>::to_vec), told)
        };
        assert_eq!(staple_at(from - 301), (None, Vec::new()));
        let stapled = Some(b"response".to_vec());
        assert_eq!(staple_at(from - 300), (stapled.clone(), Vec::new()));
        assert_eq!(staple_at(until - 1), (stapled, Vec::new()));
        let (staple, told) = staple_at(until);
        assert!(staple.is_none() && told.len() == 1, "{told:?}");
        assert!(told[0].starts_with("warn certificates: site \"main\": the OCSP response in"));
        assert!(told[0].contains("has expired") && told[0].contains("not stapled"), "{told:?}");
        assert_eq!(staple_at(until + 1), (None, Vec::new()));
    }

    #[test]
    fn a_certificate_that_expires_while_it_is_shown_is_told_once() {
        let mut test = Test::new("", |path| write(path, &valid(&["a.test"], 2020, 2040)));
        assert!(test.settle().is_empty());
        test.now = test.watched.slot().load().not_after();
        let told = test.settle();
        assert!(told.len() == 1 && told[0].contains("has expired"), "{told:?}");
        assert!(test.settle().is_empty());
    }
}
