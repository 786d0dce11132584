//! A configuration that is tried out on a share of the new connections: a canary.
//!
//! What always holds: both snapshots are served from the same listeners, so no connection depends on
//! how it goes; it ends by itself, and then all connections have the same snapshot again.

use std::sync::Arc;
use std::time::Duration;

use control::canary::{Canary as Judge, Verdict};
use control::health::Target;
use control::history::{Entry, Outcome};
use control::orders::{Applied, Canary, Refused};
use proxy::serving::Group;
use proxy::snapshot::Snapshot;

use super::Service;
use super::apply::Candidate;
use crate::health;

/// One that runs.
pub(super) struct Trial {
    candidate: Candidate,
    generation: u64,
    judge: Judge,
}

impl Trial {
    /// Its number.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The snapshot that is tried out.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.candidate.snapshot
    }
}

impl Service {
    /// Begins to serve `candidate` to a share of the new connections.
    pub(super) async fn try_out(
        &mut self,
        candidate: Candidate,
        canary: Canary,
        entry: Entry,
        applied: &mut Applied,
    ) -> Result<(), Refused> {
        if !(canary.percent > 0.0 && canary.percent < 100.0) {
            return Err(Refused::because("a canary is for more than 0 % and less than 100 %"));
        }
        if let Some(why) = self.differs_in_listeners(&candidate) {
            return Err(Refused::because(format!(
                "{why}, which cannot be for some of the connections only: reload without `--canary`"
            )));
        }
        if self.trial.is_some() {
            self.withdraw("another canary has taken its place").await;
        }
        self.names.settle().await;
        self.health.set(self.targets_of_both(&candidate.snapshot));
        // Keys that have to be fetched are fetched for both.
        let old = Arc::clone(&self.snapshot.borrow());
        let both = old.credentials.with(&candidate.snapshot.credentials);
        let both = self.credentials.prepare(&both).map_err(Refused::because)?;
        self.credentials.replace(both, &self.log);
        self.trials = self.trials.wrapping_add(1).max(1);
        let (number, share) = (self.trials, (canary.percent * 10_000.0).round().max(1.0) as u32);
        let snapshot = Arc::clone(&candidate.snapshot);
        let begin = move |worker: &std::rc::Rc<proxy::worker::Worker>| {
            worker.try_out(number, Arc::clone(&snapshot), share);
        };
        self.workers.ask(begin).await;
        let author = entry.author.clone();
        let generation = self.history.borrow_mut().tried(entry);
        applied.generation = generation;
        let judge = Judge::new(canary, self.started.elapsed());
        self.trial = Some(Trial { candidate, generation, judge });
        self.let_go();
        let (percent, seconds) = (canary.percent, canary.lasts.as_secs());
        self.log.info(format_args!(
            "canary by {author}, generation {generation}: {percent} % of new connections for {seconds} s: {}",
            applied.changes.join("; ")
        ));
        Ok(())
    }

    /// Why the candidate cannot be tried out on some connections: another listener, or one of another
    /// nature.
    fn differs_in_listeners(&self, candidate: &Candidate) -> Option<String> {
        let change = &candidate.change;
        if !change.opened.is_empty() || !change.closed.is_empty() {
            return Some("the new configuration listens at other addresses".to_owned());
        }
        let old = self.snapshot.borrow();
        let is_same = |new: &proxy::snapshot::Listener| {
            old.listeners.get(new.number).is_some_and(|old| {
                let nature = |one: &proxy::snapshot::Listener| {
                    (one.tls, one.proxy_protocol, one.http2, one.for_challenges)
                };
                nature(old) == nature(new)
            })
        };
        let other = candidate.snapshot.listeners.iter().find(|new| !is_same(new))?;
        let at = self.addresses.local(other.number).map(ToString::to_string);
        Some(format!("the new configuration speaks another protocol at {}", at.unwrap_or_default()))
    }

    /// What is checked while both are served.
    fn targets_of_both(&self, new: &Snapshot) -> Vec<Target> {
        let mut targets = health::targets(&self.snapshot.borrow());
        for target in health::targets(new) {
            let is_same = |other: &Target| {
                Arc::ptr_eq(&target.endpoint, &other.endpoint)
                    && (&target.site, &target.pool, &target.url)
                        == (&other.site, &other.pool, &other.url)
            };
            if !targets.iter().any(is_same) {
                targets.push(target);
            }
        }
        targets
    }

    /// Looks how it goes, and settles it when that is clear.
    pub(super) async fn look_at_trial(&mut self) {
        let Some(trial) = &self.trial else { return };
        let counted = self.workers.ask(|worker| worker.serving.groups()).await;
        let (mut old, mut new) = (Group::default(), Group::default());
        for (others, own) in counted.into_iter().flatten() {
            old.add(&others);
            new.add(&own);
        }
        let now: Duration = self.started.elapsed();
        match trial.judge.look(now, &old, &new) {
            Verdict::Wait => {}
            Verdict::Promote(reason) => self.promote(&reason).await,
            Verdict::Withdraw(reason) => {
                self.withdraw(&reason).await;
            }
        }
    }

    async fn promote(&mut self, reason: &str) {
        let Some(Trial { candidate, generation, .. }) = self.trial.take() else { return };
        match self.put_in_force(candidate).await {
            Ok(()) => {
                self.history.borrow_mut().settled(generation, Outcome::Applied, reason);
                self.log.info(format_args!("canary promoted, generation {generation}: {reason}"));
            }
            Err(refused) => {
                let reason = refused.reason;
                self.history.borrow_mut().settled(generation, Outcome::Withdrawn, &reason);
                self.log.error(format_args!("canary withdrawn, generation {generation}: {reason}"));
            }
        }
    }

    /// Serves nothing but the snapshot in force again.
    pub(super) async fn withdraw(&mut self, reason: &str) -> Applied {
        let generation = self.history.borrow().in_force();
        let mut applied = Applied { generation, ..Applied::default() };
        let Some(trial) = self.trial.take() else { return applied };
        self.workers.ask(|worker| worker.withdraw()).await;
        let snapshot = Arc::clone(&self.snapshot.borrow());
        self.health.set(health::targets(&snapshot));
        if let Ok(prepared) = self.credentials.prepare(&snapshot.credentials) {
            self.credentials.replace(prepared, &self.log);
        }
        let number = trial.generation;
        self.past.push(trial.candidate.snapshot);
        self.history.borrow_mut().settled(number, Outcome::Withdrawn, reason);
        self.log.warn(format_args!("canary withdrawn, generation {number}: {reason}"));
        applied.changes.push(format!("canary withdrawn, generation {number}"));
        self.let_go();
        self.sweep_now().await;
        applied
    }
}
