//! Certificates from ACME authorities (RFC 8555), such as Let's Encrypt.
//!
//! The library `instant-acme` speaks the protocol; what is here is everything around it: which
//! certificates there are (`mod`), the life of one (`managed`), one order of it (`order`), when
//! (`schedule`), the account (`account`), the files (`store`), HTTP (`client`) and what to tell the
//! operator when something fails (`failure`).

mod account;
mod client;
mod failure;
mod managed;
mod order;
pub(super) mod schedule;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::model::Acme;
use net::tls::IdentitySlot;
use proxy::challenges::Challenges;
use proxy::log::ErrorLog;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use self::account::Authority;
pub(crate) use self::client::Trust;
use self::failure::Failure;
use self::managed::{Managed, Sites};
use self::store::{Place, Store};
use super::report::Renewal;

/// What in a site's `[sites.ssl.acme]` would be of no use, and what to do about it. Changes nothing.
pub(super) fn inspect(acme: &Acme) -> Result<(), (String, String)> {
    account::trust(acme).map(drop).map_err(|failure| (failure.what, failure.advice))
}

/// The certificates that come from authorities.
#[derive(Default)]
pub(super) struct Orders {
    stores: Vec<(PathBuf, Arc<Store>)>,
    authorities: Vec<Arc<Authority>>,
    /// Those that are new.
    managed: Vec<Managed>,
    /// Those that are kept already, with the sites that show them from now on.
    kept: Vec<(Arc<Running>, Vec<String>)>,
    /// What runs already.
    before: Tasks,
}

/// The certificates that are kept.
#[derive(Default, Clone)]
pub(super) struct Tasks {
    stores: Vec<(PathBuf, Arc<Store>)>,
    authorities: Vec<Arc<Authority>>,
    running: Vec<Arc<Running>>,
}

/// A certificate that is kept by a task of its own.
pub(super) struct Running {
    acme: Acme,
    slot: Arc<IdentitySlot>,
    renewal: Arc<Renewal>,
    place: Place,
    sites: Sites,
    task: AbortHandle,
}

impl Orders {
    /// None yet; those that are kept already go on as they are.
    pub(super) fn beside(before: &Tasks) -> Self {
        Self { before: before.clone(), ..Self::default() }
    }

    /// The certificate for a site; the same one for sites that ask for the same.
    ///
    /// # Errors
    /// What in the site's `[sites.ssl.acme]` is of no use, and what to do about it.
    pub(super) fn add(
        &mut self,
        site: &str,
        acme: &Acme,
        log: &ErrorLog,
    ) -> Result<Arc<IdentitySlot>, (String, String)> {
        let told = |failure: Failure| (failure.what, failure.advice);
        if let Some(same) = self.managed.iter_mut().find(|managed| managed.acme == *acme) {
            same.sites.add(site);
            return Ok(Arc::clone(&same.slot));
        }
        if let Some((same, sites)) = self.kept.iter_mut().find(|(kept, _)| kept.acme == *acme) {
            sites.push(site.to_owned());
            return Ok(Arc::clone(&same.slot));
        }
        if let Some(same) = self.before.running.iter().find(|running| running.acme == *acme) {
            let slot = Arc::clone(&same.slot);
            self.kept.push((Arc::clone(same), vec![site.to_owned()]));
            return Ok(slot);
        }
        let Some(name) = acme.names.first() else {
            let advice = "give the site a `hostname` or list `domains`".to_owned();
            return Err(("there is no name to get a certificate for".to_owned(), advice));
        };
        let store = self.store(&acme.state_dir)?;
        let authority = self.authority(acme, &store).map_err(told)?;
        let place = self.free_place(&store, &acme.directory_url, name);
        let managed = Managed::load(acme, site, authority, place, log).map_err(told)?;
        let slot = Arc::clone(&managed.slot);
        self.managed.push(managed);
        Ok(slot)
    }

    /// What the upkeep of the certificate in this slot says of it.
    pub(super) fn renewal(&self, slot: &Arc<IdentitySlot>) -> Option<Arc<Renewal>> {
        let new = self.managed.iter().map(|managed| (&managed.slot, &managed.renewal));
        let kept = self.kept.iter().map(|(kept, _)| (&kept.slot, &kept.renewal));
        let (_, renewal) = new.chain(kept).find(|(one, _)| Arc::ptr_eq(one, slot))?;
        Some(Arc::clone(renewal))
    }

    /// Ports at which HTTP-01 is to be answered, each once.
    pub(super) fn http_ports(&self) -> Vec<u16> {
        let new = self.managed.iter().map(|managed| managed.acme.http_port);
        let kept = self.kept.iter().map(|(kept, _)| kept.acme.http_port);
        let mut ports: Vec<u16> = new.chain(kept).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// HTTP-01 cannot be answered at this port: another process has it.
    pub(super) fn without_http(&mut self, port: u16) {
        let at_it = self.managed.iter_mut().filter(|managed| managed.acme.http_port == port);
        at_it.for_each(Managed::without_http);
    }

    /// Starts a task for each certificate that is new on the current runtime, and ends those of
    /// certificates that nobody shows any more.
    pub(super) fn start(
        mut self,
        tasks: &mut JoinSet<()>,
        challenges: &Arc<Challenges>,
        log: &ErrorLog,
        wake: &watch::Receiver<u64>,
    ) -> Tasks {
        let mut running = Vec::new();
        for (kept, sites) in self.kept {
            kept.sites.set(sites);
            running.push(kept);
        }
        for gone in self.before.running {
            if !running.iter().any(|kept| Arc::ptr_eq(kept, &gone)) {
                gone.task.abort();
            }
        }
        for managed in self.managed {
            let (acme, slot) = (managed.acme.clone(), Arc::clone(&managed.slot));
            let (place, sites) = (managed.place.clone(), managed.sites.clone());
            let renewal = Arc::clone(&managed.renewal);
            let run = managed.run(Arc::clone(challenges), log.clone(), wake.clone());
            let task = tasks.spawn(run);
            running.push(Arc::new(Running { acme, slot, renewal, place, sites, task }));
        }
        // A store holds its directory's lock for as long as there is one.
        let is_used = |path: &PathBuf| running.iter().any(|one| one.acme.state_dir == *path);
        self.stores.extend(self.before.stores);
        self.stores.retain(|(path, _)| is_used(path));
        self.authorities.extend(self.before.authorities);
        let is_asked = |authority: &Arc<Authority>| {
            let store = |(path, store): &(PathBuf, Arc<Store>)| {
                Arc::ptr_eq(store, &authority.store).then(|| path.clone())
            };
            let directory = self.stores.iter().find_map(store);
            let mut asked = running.iter().filter(|one| authority.is_of(&one.acme));
            directory.is_some_and(|path| asked.any(|one| one.acme.state_dir == path))
        };
        self.authorities.retain(is_asked);
        Tasks { stores: self.stores, authorities: self.authorities, running }
    }

    fn store(&mut self, state_dir: &Path) -> Result<Arc<Store>, (String, String)> {
        let mut known = self.stores.iter().chain(&self.before.stores);
        if let Some((_, store)) = known.find(|(path, _)| path == state_dir) {
            return Ok(Arc::clone(store));
        }
        let store = Store::open(state_dir).map_err(|error| {
            (
                format!("the state directory {} cannot be used: {error}", state_dir.display()),
                "it keeps the account and the certificates: choose a directory with `state_dir` that \
                 the user who runs Ravelin may write"
                    .to_owned(),
            )
        })?;
        let store = Arc::new(store);
        self.stores.push((state_dir.to_owned(), Arc::clone(&store)));
        Ok(store)
    }

    fn authority(&mut self, acme: &Acme, store: &Arc<Store>) -> Result<Arc<Authority>, Failure> {
        let same = |one: &&Arc<Authority>| Arc::ptr_eq(&one.store, store) && one.is_of(acme);
        let mut known = self.authorities.iter().chain(&self.before.authorities);
        if let Some(authority) = known.find(same) {
            return Ok(Arc::clone(authority));
        }
        let authority = Arc::new(Authority::new(acme, Arc::clone(store))?);
        self.authorities.push(Arc::clone(&authority));
        Ok(authority)
    }

    /// A place that no other certificate has: two may begin with the same name.
    fn free_place(&self, store: &Store, directory_url: &str, name: &str) -> Place {
        let taken = |place: &Place| {
            let new = self.managed.iter().map(|managed| &managed.place);
            let kept = self.before.running.iter().map(|running| &running.place);
            new.chain(kept).any(|taken| taken == place)
        };
        let mut place = store.place(directory_url, name);
        let mut number = 2;
        while taken(&place) {
            place = store.place(directory_url, &format!("{name}+{number}"));
            number += 1;
        }
        place
    }
}
