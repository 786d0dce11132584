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
use tokio::task::JoinSet;

use self::account::Authority;
pub(crate) use self::client::Trust;
use self::failure::Failure;
use self::managed::Managed;
use self::store::{Place, Store};

/// What in a site's `[sites.ssl.acme]` would be of no use, and what to do about it. Changes nothing.
pub(super) fn inspect(acme: &Acme) -> Result<(), (String, String)> {
    account::trust(acme).map(drop).map_err(|failure| (failure.what, failure.advice))
}

/// The certificates that come from authorities.
#[derive(Default)]
pub(super) struct Orders {
    stores: Vec<(PathBuf, Arc<Store>)>,
    authorities: Vec<Arc<Authority>>,
    managed: Vec<Managed>,
}

impl Orders {
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
            same.sites.push(site.to_owned());
            return Ok(Arc::clone(&same.slot));
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

    /// Ports at which HTTP-01 is to be answered, each once.
    pub(super) fn http_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> =
            self.managed.iter().map(|managed| managed.acme.http_port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// HTTP-01 cannot be answered at this port: another process has it.
    pub(super) fn without_http(&mut self, port: u16) {
        let at_it = self.managed.iter_mut().filter(|managed| managed.acme.http_port == port);
        at_it.for_each(Managed::without_http);
    }

    /// Starts a task for each certificate on the current runtime.
    pub(super) fn start(
        self,
        tasks: &mut JoinSet<()>,
        challenges: &Arc<Challenges>,
        log: &ErrorLog,
        wake: &watch::Receiver<u64>,
    ) {
        for managed in self.managed {
            tasks.spawn(managed.run(Arc::clone(challenges), log.clone(), wake.clone()));
        }
    }

    fn store(&mut self, state_dir: &Path) -> Result<Arc<Store>, (String, String)> {
        if let Some((_, store)) = self.stores.iter().find(|(path, _)| path == state_dir) {
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
        if let Some(authority) = self.authorities.iter().find(same) {
            return Ok(Arc::clone(authority));
        }
        let authority = Arc::new(Authority::new(acme, Arc::clone(store))?);
        self.authorities.push(Arc::clone(&authority));
        Ok(authority)
    }

    /// A place that no other certificate has: two may begin with the same name.
    fn free_place(&self, store: &Store, directory_url: &str, name: &str) -> Place {
        let taken = |place: &Place| self.managed.iter().any(|managed| managed.place == *place);
        let mut place = store.place(directory_url, name);
        let mut number = 2;
        while taken(&place) {
            place = store.place(directory_url, &format!("{name}+{number}"));
            number += 1;
        }
        place
    }
}
