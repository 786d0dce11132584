//! One certificate from an authority: shown from the store at once, ordered when there is none that
//! suits, renewed in time, tried again when that fails.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::model::Acme;
use instant_acme::CertificateIdentifier;
use net::tls::{Identity, IdentitySlot};
use proxy::challenges::Challenges;
use proxy::log::ErrorLog;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::files::{self, Signature};
use super::super::report::Renewal;
use super::account::Authority;
use super::failure::{Failure, Remedy};
use super::order::{self, Issued, Method, Request};
use super::schedule::{Window, ari_interval, dice, next_renewal, retry_delay, unix_now};
use super::store::Place;

/// One order, all its waiting included, may take this long.
const ORDER_MAX: Duration = Duration::from_secs(600);

/// Orders made at once when the first ones fail for a reason that goes away by trying again.
const TRIES_AT_ONCE: u32 = 4;

/// While another process holds the lock: until the next look at what it has stored.
const FOLLOW: Duration = Duration::from_secs(10);

/// Until the next order after a certificate that is not valid when it comes.
const ABSURD_RETRY: Duration = Duration::from_secs(6 * 3600);

/// Longest sleep: after it the wall clock is looked at again, in case it was set.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Until an authority is asked again that did not tell the suggested renewal window.
const WINDOW_RETRY: Duration = Duration::from_secs(6 * 3600);

/// One certificate and what is known about it.
pub(super) struct Managed {
    pub(super) acme: Acme,
    /// The sites that show it, for the log.
    pub(super) sites: Sites,
    pub(super) authority: Arc<Authority>,
    pub(super) place: Place,
    pub(super) slot: Arc<IdentitySlot>,
    /// What others may know of its renewal.
    pub(super) renewal: Arc<Renewal>,
    /// What is shown was issued by the authority; else it is a stand-in.
    issued: bool,
    /// State of the stored files when they were last read.
    read: Signature,
    role: Role,
    window: Option<Window>,
    /// When to ask for the window again.
    window_due: Instant,
    /// Chooses a time within windows; the same for the life of the certificate.
    dice: f64,
    failures: u32,
    /// When the authority issued the last certificate, and how many in a row were far too early.
    last: Option<Instant>,
    hasty: u32,
    retry_at: Option<Instant>,
    /// How names are proved first.
    first: Method,
    /// Names whose proof by that failed and is tried by the other method.
    otherwise: HashSet<String>,
}

/// The names of the sites that show a certificate. They may be others after a reload, which the task that
/// keeps the certificate does not notice otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Sites(Arc<Mutex<Vec<String>>>);

impl Sites {
    fn new(site: &str) -> Self {
        Self(Arc::new(Mutex::new(vec![site.to_owned()])))
    }

    pub(super) fn add(&self, site: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(site.to_owned());
    }

    pub(super) fn set(&self, sites: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sites;
    }

    fn listed(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join(", ")
    }
}

/// Who orders: of the processes that share a state directory, the one that holds its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Unknown,
    Leads,
    Follows,
}

impl Managed {
    /// Shows what is stored, or a stand-in until the authority has issued something.
    pub(super) fn load(
        acme: &Acme,
        site: &str,
        authority: Arc<Authority>,
        place: Place,
        log: &ErrorLog,
    ) -> Result<Self, Failure> {
        let stand_in = Identity::self_signed(&acme.names)
            .map_err(|error| Failure::new(format!("no self-signed stand-in: {error}"), ""))?;
        let mut managed = Self {
            acme: acme.clone(),
            sites: Sites::new(site),
            authority,
            place,
            slot: IdentitySlot::new(stand_in),
            renewal: Arc::default(),
            issued: false,
            read: Signature::default(),
            role: Role::Unknown,
            window: None,
            window_due: Instant::now(),
            dice: dice(),
            failures: 0,
            last: None,
            hasty: 0,
            retry_at: None,
            first: Method::Http01,
            otherwise: HashSet::new(),
        };
        managed.show_stored(log);
        managed.renewal.looked(!managed.issued, None);
        Ok(managed)
    }

    /// The HTTP port is not Ravelin's: names are proved by TLS-ALPN-01 first, unless whoever has it
    /// answers in Ravelin's place.
    pub(super) fn without_http(&mut self) {
        if self.acme.challenge_dir.is_none() {
            self.first = Method::TlsAlpn01;
        }
    }

    /// Keeps the certificate valid, for ever. `wake` makes it try at once what it would try later.
    pub(super) async fn run(
        mut self,
        challenges: Arc<Challenges>,
        log: ErrorLog,
        mut wake: watch::Receiver<u64>,
    ) {
        loop {
            let next = self.step(&challenges, &log).await;
            match timeout_at(next, wake.changed()).await {
                Ok(Ok(())) => self.retry_at = None,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
    }

    /// Does what is due. When to look again.
    async fn step(&mut self, challenges: &Arc<Challenges>, log: &ErrorLog) -> Instant {
        if !self.leads(log) {
            if self.place.signature() != self.read {
                self.show_stored(log);
            }
            self.renewal.looked(!self.issued, None);
            return Instant::now() + FOLLOW;
        }
        if self.issued && self.window_due <= Instant::now() {
            self.ask_window(log).await;
        }
        if self.due_in(unix_now()).is_zero() {
            match self.order(challenges, log).await {
                Ok(()) => self.told_success(log),
                Err(failure) => {
                    // The directory may have changed.
                    self.authority.forget().await;
                    self.put_off(&failure, log);
                }
            }
        }
        let (now, due_in) = (unix_now(), self.due_in(unix_now()));
        let due = now.saturating_add(i64::try_from(due_in.as_secs()).unwrap_or(i64::MAX));
        self.renewal.looked(!self.issued, Some(due));
        let next = Instant::now() + due_in.min(SLEEP_MAX);
        if self.issued { next.min(self.window_due) } else { next }
    }

    /// How long until a certificate is to be ordered.
    fn due_in(&self, now: i64) -> Duration {
        let identity = self.slot.load();
        let due = if self.issued && suits(&identity, &self.acme.names) {
            let (from, until) = (identity.not_before(), identity.not_after());
            next_renewal(now, from, until, self.window, self.dice)
        } else {
            now
        };
        let wait = Duration::from_secs(u64::try_from(due.saturating_sub(now)).unwrap_or(0));
        let patience = self.retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        wait.max(patience.unwrap_or_default())
    }

    /// Whether this process is the one that orders.
    fn leads(&mut self, log: &ErrorLog) -> bool {
        let before = self.role;
        let held = self.authority.store.hold();
        self.role = if matches!(held, Ok(true)) { Role::Leads } else { Role::Follows };
        if self.role != before {
            let directory = self.acme.state_dir.display();
            match held {
                Ok(true) if before == Role::Follows => {
                    log.info(format_args!("acme: {}: this process orders from now on", self.names()));
                }
                Ok(true) => {}
                Ok(false) => log.info(format_args!(
                    "acme: {}: another process uses {directory} and orders; what it stores is shown \
                     here too",
                    self.names()
                )),
                Err(error) => log.error(format_args!(
                    "acme: {}: the lock in {directory} cannot be taken: {error}; nothing is ordered",
                    self.names()
                )),
            }
            // What was stored since this process looked is newer.
            self.show_stored(log);
        }
        self.role == Role::Leads
    }

    /// Shows the stored certificate if there is one of any use.
    fn show_stored(&mut self, log: &ErrorLog) {
        let seen = self.place.signature();
        if seen == self.read {
            return;
        }
        self.read = seen;
        let directory = self.place.path().display();
        match self.place.load() {
            Ok(Some(identity)) => {
                let useful = self.acme.names.iter().any(|name| covers(&identity, name));
                if useful {
                    self.show(identity);
                }
            }
            Ok(None) => {}
            Err(problem) => log.warn(format_args!(
                "acme: {}: the certificate stored in {directory} is of no use ({problem}); a new one \
                 is ordered",
                self.names()
            )),
        }
    }

    fn show(&mut self, identity: Identity) {
        self.slot.store(identity);
        self.issued = true;
        self.window = None;
        self.window_due = Instant::now();
        self.dice = dice();
    }

    /// Asks when the authority wants the certificate to be renewed (RFC 9773).
    async fn ask_window(&mut self, log: &ErrorLog) {
        self.window_due = Instant::now() + WINDOW_RETRY;
        let identity = self.slot.load();
        let Some(id) = identity.chain_der().first().and_then(|leaf| identifier(leaf.as_ref()))
        else {
            return;
        };
        let Ok(account) = self.authority.account(log).await else { return };
        let told = account.renewal_info(&id).await;
        if let Err(error) = &told {
            // Nothing is lost: there is the certificate's own lifetime to go by.
            log.debug(format_args!("acme: {}: no renewal window: {error}", self.names()));
        }
        if let Ok((info, asked)) = told {
            let suggested = info.suggested_window;
            let (start, end) = (suggested.start.unix_timestamp(), suggested.end.unix_timestamp());
            self.window_due = Instant::now() + ari_interval(asked);
            let now = unix_now();
            if start <= now && self.window.is_none_or(|before| before.start > now) {
                let why = info.explanation_url.map(|url| format!(" ({url})")).unwrap_or_default();
                log.info(format_args!(
                    "acme: {}: the authority wants the certificate to be renewed now{why}",
                    self.names()
                ));
            }
            self.window = Some(Window { start, end });
        }
    }

    /// Orders, stores and shows a certificate.
    async fn order(&mut self, challenges: &Arc<Challenges>, log: &ErrorLog) -> Result<(), Failure> {
        let authority = Arc::clone(&self.authority);
        let _turn = authority.orders.acquire().await;
        let mut tries = 1;
        let issued = loop {
            let failure = match self.try_once(challenges, log).await {
                Ok(issued) => break issued,
                Err(failure) => failure,
            };
            if tries == TRIES_AT_ONCE {
                return Err(failure);
            }
            tries += 1;
            match &failure.remedy {
                Remedy::Wait => return Err(failure),
                Remedy::Again => {}
                Remedy::NewAccount => {
                    let host = authority.host();
                    log.warn(format_args!(
                        "acme: {host} does not know the stored account any more; a new one is made"
                    ));
                    authority.discard().await?;
                }
                Remedy::OtherMethod(names) => {
                    log.warn(format_args!(
                        "acme: {}: {}; {}. Trying {}",
                        self.names(),
                        failure.what,
                        failure.advice,
                        self.first.other()
                    ));
                    self.otherwise.extend(names.iter().cloned());
                }
            }
        };
        self.keep(issued).await
    }

    async fn try_once(
        &self,
        challenges: &Arc<Challenges>,
        log: &ErrorLog,
    ) -> Result<Issued, Failure> {
        let account = self.authority.account(log).await?;
        let shown = self.slot.load();
        let leaf = shown.chain_der().first().filter(|_| self.window.is_some());
        let request = Request {
            names: &self.acme.names,
            profile: self.acme.profile.as_deref(),
            replaces: leaf.and_then(|leaf| identifier(leaf.as_ref())),
            first: self.first,
            otherwise: &self.otherwise,
            challenge_dir: self.acme.challenge_dir.as_deref(),
        };
        let late = |_| Failure::new("the order takes too long", "the authority may be overloaded");
        timeout(ORDER_MAX, order::obtain(&account, request, challenges)).await.map_err(late)?
    }

    /// Stores what was issued, then shows it.
    async fn keep(&mut self, issued: Issued) -> Result<(), Failure> {
        let Issued { chain, key } = issued;
        let identity =
            Identity::from_pem(chain.as_bytes(), Some(key.as_bytes())).map_err(|error| {
                Failure::new(format!("what the authority issued is of no use: {error}"), "")
            })?;
        if !suits(&identity, &self.acme.names) {
            let names = identity.names().join(", ");
            return Err(Failure::new(format!("the authority issued for {names} instead"), ""));
        }
        let place = self.place.clone();
        let saved = spawn_blocking(move || place.save(chain.as_bytes(), key.as_bytes())).await;
        let lost = |error: &dyn std::fmt::Display| {
            Failure::new(
                format!(
                    "the certificate cannot be stored in {}: {error}",
                    self.place.path().display()
                ),
                "give the user that runs Ravelin its state directory (`state_dir`), with room in it; \
                 until then every restart orders again, up to the authority's limit",
            )
        };
        let unsaved = match saved {
            Ok(saved) => saved.err().map(|error| lost(&error)),
            Err(panic) => Some(lost(&panic)),
        };
        let absurd = files::out_of_date(&identity, unix_now()).map(|doubt| Failure {
            retry_after: Some(ABSURD_RETRY),
            ..Failure::new(
                format!("the certificate just issued {doubt}"),
                "this machine's clock or the authority's is wrong",
            )
        });
        // Better shown than lost, even if it is not stored.
        self.take_note(&identity, Instant::now());
        self.show(identity);
        self.read = self.place.signature();
        unsaved.or(absurd).map_or(Ok(()), Err)
    }

    /// Notes that a certificate came. One renewal before its time is what an authority may ask for;
    /// more of them in a row are a mistake on one side, which must not become a flood of orders.
    fn take_note(&mut self, issued: &Identity, now: Instant) {
        let life = issued.not_after().saturating_sub(issued.not_before());
        let half = Duration::from_secs(u64::try_from(life / 2).unwrap_or(0));
        let early = self.last.is_some_and(|last| now.saturating_duration_since(last) < half);
        self.hasty = if early { self.hasty.saturating_add(1) } else { 0 };
        self.last = Some(now);
        self.failures = 0;
        self.retry_at = (self.hasty > 1).then(|| now + retry_delay(self.hasty - 1, None, dice()));
    }

    fn told_success(&self, log: &ErrorLog) {
        self.renewal.ordered(None);
        let (identity, now) = (self.slot.load(), unix_now());
        let (from, until) = (identity.not_before(), identity.not_after());
        log.info(format_args!(
            "acme: {}: certificate from {}, valid until {}, kept in {}; renewal about {}",
            self.names(),
            self.authority.host(),
            super::super::date(until),
            self.place.path().display(),
            super::super::date(next_renewal(now, from, until, None, self.dice)),
        ));
    }

    /// Waits before the next try, and tells why.
    fn put_off(&mut self, failure: &Failure, log: &ErrorLog) {
        self.failures = self.failures.saturating_add(1);
        let delay = retry_delay(self.failures, failure.retry_after, dice());
        self.retry_at = Some(Instant::now() + delay);
        self.renewal.ordered(Some(failure.what.clone()));
        // The next try begins with the first method again: what was in its way may be gone.
        self.otherwise.clear();
        let advice = match failure.advice.as_str() {
            "" => String::new(),
            advice => format!("; {advice}"),
        };
        let (names, meanwhile, again) = (self.names(), self.meanwhile(unix_now()), in_words(delay));
        let what = &failure.what;
        let text = format_args!(
            "acme: {names}: {what}{advice}. {meanwhile}; trying again in {again}, or on SIGHUP"
        );
        if self.issued && unix_now() < self.slot.load().not_after() {
            log.warn(text);
        } else {
            log.error(text);
        }
    }

    fn meanwhile(&self, now: i64) -> String {
        let sites = self.sites.listed();
        let until = self.slot.load().not_after();
        if !self.issued {
            return format!(
                "Until then {sites} shows a self-signed stand-in, which browsers refuse"
            );
        }
        let verb = if until <= now { "which expired" } else { "valid until" };
        format!(
            "Until then {sites} shows the certificate it has, {verb} {}",
            super::super::date(until)
        )
    }

    fn names(&self) -> String {
        const SHOWN: usize = 5;
        let names = &self.acme.names;
        let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
        match names.len().saturating_sub(SHOWN) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

/// Whether the certificate is for all of the names. It may be for more: one name less in the
/// configuration is no reason to order before it is time.
fn suits(identity: &Identity, names: &[String]) -> bool {
    names.iter().all(|name| covers(identity, name))
}

fn covers(identity: &Identity, name: &str) -> bool {
    identity.names().iter().any(|own| own.eq_ignore_ascii_case(name)) || identity.covers(name)
}

/// Name of a certificate towards its authority (RFC 9773 §4.1).
fn identifier(leaf: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let leaf = rustls::pki_types::CertificateDer::from(leaf);
    CertificateIdentifier::try_from(&leaf).ok().map(CertificateIdentifier::into_owned)
}

fn in_words(delay: Duration) -> String {
    let minutes = (delay.as_secs() + 30) / 60;
    match minutes {
        0..=90 => format!("{} min", minutes.max(1)),
        _ => format!("{} h", (minutes + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use proxy::log::Source;

    use super::super::super::testing::{Directory, acme, issued, lines, log, valid};
    use super::super::store::Store;
    use super::*;

    const DAY: i64 = 86_400;

    struct Test {
        _state: Directory,
        managed: Managed,
        source: Source,
    }

    /// A certificate for these names, when this is stored.
    fn test(names: &[&str], stored: Option<(String, String)>) -> Test {
        let state = Directory::new();
        let acme = acme(names, state.path());
        let store = Arc::new(Store::open(state.path()).unwrap());
        let place = store.place(&acme.directory_url, names[0]);
        if let Some((chain, key)) = stored {
            place.save(chain.as_bytes(), key.as_bytes()).unwrap();
        }
        let (log, source) = log();
        let authority = Arc::new(Authority::new(&acme, store).unwrap());
        let managed = Managed::load(&acme, "main", authority, place, &log).unwrap();
        Test { _state: state, managed, source }
    }

    fn wait(test: &Test, now: i64) -> i64 {
        test.managed.due_in(now).as_secs() as i64
    }

    #[test]
    fn without_a_stored_certificate_a_stand_in_is_shown_and_one_is_ordered_now() {
        let test = test(&["a.test", "b.test"], None);
        assert_eq!(test.managed.slot.load().names(), ["a.test", "b.test"]);
        assert!(!test.managed.issued);
        assert_eq!(wait(&test, 1_800_000_000), 0);
    }

    #[test]
    fn a_stored_certificate_is_shown_and_renewed_at_two_thirds_of_its_life() {
        let test = test(&["a.test"], Some(valid(&["a.test"], 2030, 2040)));
        assert!(test.managed.issued);
        let identity = test.managed.slot.load();
        let (from, until) = (identity.not_before(), identity.not_after());
        let due = from + wait(&test, from);
        let part = (due - from) as f64 / (until - from) as f64;
        assert!((0.61..=0.67).contains(&part), "{part}");
        assert_eq!(due, from + DAY + wait(&test, from + DAY), "the date moved");
        assert_eq!(wait(&test, until - DAY), 0);
    }

    #[test]
    fn a_stored_certificate_that_misses_a_name_is_shown_and_ordered_anew() {
        let mut test = test(&["a.test", "b.test"], Some(issued(&["a.test"])));
        assert_eq!(test.managed.slot.load().names(), ["a.test"]);
        assert_eq!(wait(&test, 1_800_000_000), 0);
        test.managed.acme.names = vec!["a.test".to_owned()];
        assert!(wait(&test, 1_800_000_000) > DAY);
    }

    #[test]
    fn a_stored_certificate_for_other_names_is_not_shown() {
        let test = test(&["a.test"], Some(issued(&["other.test"])));
        assert_eq!(test.managed.slot.load().names(), ["a.test"]);
        assert_eq!(wait(&test, 1_800_000_000), 0);
    }

    #[test]
    fn a_stored_certificate_that_is_broken_is_told_and_ordered_anew() {
        let (chain, _) = issued(&["a.test"]);
        let test = test(&["a.test"], Some((chain, "broken".to_owned())));
        assert_eq!(wait(&test, 1_800_000_000), 0);
        let told = lines(&test.source);
        assert!(told.len() == 1 && told[0].starts_with("warn acme: a.test: "), "{told:?}");
        assert!(told[0].contains("is of no use") && told[0].contains("a new one is ordered"));
    }

    #[test]
    fn after_a_failure_nothing_is_tried_until_the_time_has_come() {
        let mut test = test(&["a.test"], None);
        let (log, source) = log();
        let failure = Failure {
            retry_after: Some(Duration::from_secs(3 * 3600)),
            ..Failure::new("order: the authority says: slow down (rateLimited)", "be patient")
        };
        test.managed.put_off(&failure, &log);
        assert!((3 * 3600 - 1..=3 * 3600).contains(&wait(&test, 1_800_000_000)));
        assert_eq!(
            lines(&source),
            [
                "error acme: a.test: order: the authority says: slow down (rateLimited); be patient. \
              Until then main shows a self-signed stand-in, which browsers refuse; trying again in \
              3 h, or on SIGHUP"
            ]
        );
    }

    #[test]
    fn renewals_long_before_their_time_do_not_become_a_flood() {
        let mut test = test(&["a.test"], Some(issued(&["a.test"])));
        let managed = &mut test.managed;
        let identity = managed.slot.load();
        let now = Instant::now();
        let second = Duration::from_secs(1);
        managed.take_note(&identity, now);
        managed.take_note(&identity, now + second);
        assert!(managed.retry_at.is_none(), "an authority may ask for one at once");
        managed.take_note(&identity, now + 2 * second);
        assert!(managed.retry_at.unwrap() > now + 50 * second);
        managed.take_note(&identity, now + 3 * second);
        assert!(managed.retry_at.unwrap() > now + 200 * second);
        // In time again: all is well.
        let life = (identity.not_after() - identity.not_before()) as u64;
        managed.take_note(&identity, now + Duration::from_secs(life));
        assert!(managed.retry_at.is_none());
    }

    #[test]
    fn while_a_certificate_is_still_valid_a_failure_is_a_warning() {
        let mut test = test(&["a.test"], Some(issued(&["a.test"])));
        let (log, source) = log();
        test.managed.put_off(&Failure::new("no luck", ""), &log);
        let told = lines(&source);
        let valid = "warn acme: a.test: no luck. Until then main shows the certificate it has, valid \
                     until Tue, 01 Jan 2999 00:00:00 GMT; trying again in 1 min, or on SIGHUP";
        assert_eq!(told, [valid]);
    }
}
