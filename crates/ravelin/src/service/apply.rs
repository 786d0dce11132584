//! Another configuration in the place of the one in force, while it is served.
//!
//! First everything is made ready that can fail: the texts are read, the snapshot is compiled, files are
//! opened, new addresses are bound. Then it is published, and only then what is no longer needed goes.
//! What always holds: an order that is refused has changed nothing; what is the same in both
//! configurations (listeners, pools, health, counters, certificates, connections) is not touched.

use std::path::PathBuf;
use std::sync::Arc;

use config::{Loaded, Model};
use control::auth::Prepared;
use control::certificates::Certificates;
use control::history::{Cause, Entry, Texts};
use control::orders::{Applied, Author, Canary, Refused};
use control::tracing;
use control::watch_config;
use control::writer::Change as LogChange;
use net::listener::{Local, bind};
use net::worker::worker_count;
use proxy::listener::Change;
use proxy::live::Live;
use proxy::snapshot::Snapshot;
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::changes::changes;
use super::trial::Trial;
use super::{Service, start};
use crate::configuration::{Source, count};
use crate::expectations;
use crate::health;
use crate::secure;
use crate::terminal::Failure;

/// Findings about a configuration that the log has, each a line; the rest is counted.
const FINDINGS_TOLD: usize = 20;

/// What is asked for.
pub(super) struct Wanted {
    pub(super) cause: Cause,
    pub(super) author: Author,
    /// For a share of the connections first.
    pub(super) canary: Option<Canary>,
    /// Only to find out whether it could be served.
    pub(super) dry_run: bool,
}

/// A configuration that can be served, made ready so far that nothing can be wrong with it any more.
pub(super) struct Candidate {
    pub(super) model: Arc<Model>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) change: Change,
    pub(super) certificates: Certificates,
    pub(super) credentials: Prepared,
    pub(super) logs: LogChange,
    pub(super) spans: tracing::Prepared,
}

/// A configuration that was read and compiled.
struct Compiled {
    model: Model,
    snapshot: Snapshot,
    warnings: Vec<String>,
}

impl Service {
    /// Reads the files again and serves what they say.
    pub(super) async fn reload(
        &mut self,
        canary: Option<Canary>,
        author: Author,
    ) -> Result<Applied, Refused> {
        let (source, is_watch) = (self.source.clone(), author.who == watch_config::AUTHOR);
        // One state of the files is read once: what was tried out and taken back stays taken back.
        let read = spawn_blocking(move || match is_watch && !source.is_newer() {
            true => None,
            false => Some(source.texts_again()),
        });
        let read = match read.await {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(self.nothing_to_do()),
            Err(_panic) => Err(Failure::Told),
        };
        let wanted = Wanted { cause: Cause::Reload, author, canary, dry_run: false };
        let done = match read {
            Ok(files) => self.take(files, wanted).await,
            Err(failure) => {
                let refused = refused(&failure);
                let entry = Entry::new(wanted.cause, wanted.author.clone(), Texts::default());
                self.tell_refused(&wanted, entry, &refused);
                Err(refused)
            }
        };
        // Whether it was taken or not: what certificates and credentials are read from may be newer too.
        self.certificates.look_now();
        self.credentials.look_now();
        done
    }

    /// Serves what these texts say.
    pub(super) async fn take_texts(
        &mut self,
        files: Vec<(String, String)>,
        canary: Option<Canary>,
        author: Author,
        dry_run: bool,
    ) -> Result<Applied, Refused> {
        let file = |(name, text): (String, String)| (PathBuf::from(name), text.into_bytes());
        let files = files.into_iter().map(file).collect();
        self.take(files, Wanted { cause: Cause::Apply, author, canary, dry_run }).await
    }

    /// Serves what was served before, as it was, whatever has become of the files.
    pub(super) async fn roll_back(
        &mut self,
        to: Option<u64>,
        author: Author,
    ) -> Result<Applied, Refused> {
        if to.is_none() && self.trial.is_some() {
            return Ok(self.withdraw(&format!("by {author}")).await);
        }
        let found = {
            let history = self.history.borrow();
            let number = to.or_else(|| history.before());
            let entry = number.and_then(|number| history.get(number));
            entry.map(|entry| (number.unwrap_or_default(), entry.texts.files()))
        };
        let Some((number, files)) = found else {
            return Err(Refused::because(match to {
                Some(number) => format!("generation {number} is not known any more"),
                None => "nothing else was served before".to_owned(),
            }));
        };
        let files = files.into_iter().map(|(path, content)| (path, content.to_vec())).collect();
        let cause = Cause::Rollback(number);
        self.take(files, Wanted { cause, author, canary: None, dry_run: false }).await
    }

    /// Serves what `files` say, or says why not.
    async fn take(
        &mut self,
        files: Vec<(PathBuf, Vec<u8>)>,
        wanted: Wanted,
    ) -> Result<Applied, Refused> {
        if wanted.author.who == watch_config::AUTHOR
            && let Some(generation) = self.made_of(&files)
        {
            // Somebody was faster, or it was taken back and is written once more.
            self.from_files = generation;
            return Ok(self.nothing_to_do());
        }
        let (source, live) = (self.source.clone(), Arc::clone(&self.live));
        let compiled = spawn_blocking(move || compile(files, &source, &live)).await;
        let (texts, compiled) = match compiled {
            Ok(compiled) => compiled,
            Err(panic) => (Texts::default(), Err(Refused::because(panic))),
        };
        let mut entry = Entry::new(wanted.cause, wanted.author.clone(), texts);
        entry.diff = self.history.borrow().diff(&entry.texts);
        let done = match compiled {
            Ok(compiled) => self.serve_instead(compiled, &wanted, &mut entry).await,
            Err(refused) => Err(refused),
        };
        match done {
            Ok(applied) => {
                if matches!(wanted.cause, Cause::Reload) {
                    self.from_files = applied.generation;
                }
                Ok(applied)
            }
            Err(refused) => {
                self.tell_refused(&wanted, entry, &refused);
                // What was made for it alone is of no use.
                self.let_go();
                self.sweep_now().await;
                Err(refused)
            }
        }
    }

    /// What is in force, tried out, or was last made of the files is made of these as they are, and what is
    /// in force is served as it says.
    fn made_of(&self, files: &[(PathBuf, Vec<u8>)]) -> Option<u64> {
        let history = self.history.borrow();
        let served = self.listens_everywhere().then(|| [history.in_force(), self.from_files]);
        let tried = self.trial.as_ref().map(Trial::generation);
        let mut known = served.into_iter().flatten().chain(tried);
        let is_it = |number: &u64| history.get(*number).is_some_and(|it| it.texts.are(files));
        known.find(is_it)
    }

    /// No address of the snapshot in force was given up for a process that has died since.
    fn listens_everywhere(&self) -> bool {
        let snapshot = self.snapshot.borrow();
        snapshot.listeners.iter().all(|one| self.addresses.local(one.number).is_some())
    }

    fn nothing_to_do(&self) -> Applied {
        Applied { generation: self.history.borrow().in_force(), ..Applied::default() }
    }

    async fn serve_instead(
        &mut self,
        compiled: Compiled,
        wanted: &Wanted,
        entry: &mut Entry,
    ) -> Result<Applied, Refused> {
        let mut warnings = compiled.warnings.clone();
        let candidate = self.prepare(compiled, &mut warnings)?;
        let changes = changes(&self.model.borrow(), &candidate.model);
        let generation = self.history.borrow().in_force();
        let mut applied = Applied { generation, changes, warnings };
        if wanted.dry_run {
            drop(candidate);
            self.let_go();
            self.sweep_now().await;
            return Ok(applied);
        }
        if let Some(canary) = wanted.canary {
            self.try_out(candidate, canary, entry.clone(), &mut applied).await?;
            return Ok(applied);
        }
        if self.trial.is_some() {
            self.withdraw("another configuration has taken its place").await;
        }
        self.put_in_force(candidate).await?;
        applied.generation = self.history.borrow_mut().applied(entry.clone());
        self.tell_applied(wanted, &applied);
        Ok(applied)
    }

    /// Makes everything ready that can fail.
    fn prepare(
        &self,
        compiled: Compiled,
        warnings: &mut Vec<String>,
    ) -> Result<Candidate, Refused> {
        let Compiled { model, snapshot, .. } = compiled;
        let mut certificates = Certificates::load_beside(&model, &self.log, &self.certificates)
            .map_err(|errors| refused(&start::no_certificates(errors)))?;
        let configs = secure::configs(&model, &certificates, &self.tickets)
            .map_err(|failure| refused(&failure))?;
        let mut snapshot =
            snapshot.with_tls(configs).with_challenge_ports(certificates.http_ports());
        let credentials =
            self.credentials.prepare(&snapshot.credentials).map_err(Refused::because)?;
        let logs = self.writers.prepare(&model.logging).map_err(Refused::because)?;
        let spans = self.spans.prepare(&model.tracing).map_err(Refused::because)?;
        let change = self
            .addresses
            .prepare(&mut snapshot, self.count, &mut bind)
            .map_err(|error| refused(&start::cannot_bind(&error)))?;
        start::tell_missing(&change.missing, &mut certificates, &self.log);
        warnings.extend(change.warnings.iter().cloned());
        warnings.extend(self.fixed(&model));
        let (model, snapshot) = (Arc::new(model), Arc::new(snapshot));
        Ok(Candidate { model, snapshot, change, certificates, credentials, logs, spans })
    }

    /// What `model` wants that a running process cannot be given.
    fn fixed(&self, model: &Model) -> Vec<String> {
        let old = self.model.borrow();
        let mut fixed = Vec::new();
        let mut say = |differs: bool, what: &str| {
            if differs {
                fixed.push(format!("{what} stays as it is until Ravelin is restarted or upgraded"));
            }
        };
        let (was, wants) = (&old.performance, &model.performance);
        say(worker_count(wants.worker_threads) != self.count, "`performance.worker_threads`");
        say(was.max_connections != wants.max_connections, "`performance.max_connections`");
        let (was, wants) = (&old.limits, &model.limits);
        say(
            was.connections_per_address != wants.connections_per_address,
            "`limits.connections_per_address`",
        );
        let (was, wants) = (&old.process, &model.process);
        say((&was.user, &was.group) != (&wants.user, &wants.group), "`process.user`");
        say(was.keep_bind != wants.keep_bind, "`process.keep_bind`");
        fixed
    }

    /// Serves `candidate` from now on, all of it. If its new addresses cannot be served, nothing has
    /// changed but that for a moment.
    pub(super) async fn put_in_force(&mut self, candidate: Candidate) -> Result<(), Refused> {
        let Candidate { model, snapshot, change, certificates, credentials, logs, spans } =
            candidate;
        self.spans.set(spans);
        // Names that are new are looked up before somebody asks for what they stand for.
        self.names.set(&model.dns).await;
        self.names.settle().await;
        self.health.set(health::targets(&snapshot));
        let before = self.snapshot.replace(Arc::clone(&snapshot));
        self.publish(&snapshot).await;
        let mut open = Vec::new();
        for (number, bound) in change.opened {
            open.push(number);
            if let Err(error) = self.workers.open(number, bound).await {
                self.snapshot.replace(Arc::clone(&before));
                self.publish(&before).await;
                self.health.set(health::targets(&before));
                for number in open {
                    self.workers.close(number).await;
                }
                return Err(refused(&start::no_resources("listen", &error)));
            }
        }
        for number in &change.closed {
            self.workers.close(*number).await;
        }
        let before_addresses = std::mem::replace(&mut self.addresses, change.addresses);
        for local in open.iter().filter_map(|number| self.addresses.local(*number)) {
            self.log.info(format_args!("listening on {local}"));
        }
        let closed = change.closed.iter().filter_map(|number| before_addresses.local(*number));
        let closed: Vec<Local> = closed.cloned().collect();
        for local in &closed {
            self.log.info(format_args!("no longer listening on {local}"));
        }
        self.say_gone(&closed).await;
        self.set_logs(logs).await;
        *self.reports.borrow_mut() = certificates.reports(&model);
        self.certificates.replace(certificates, &self.challenges);
        self.credentials.replace(credentials, &self.log);
        self.watch = match (self.watch.take(), model.reload.watch) {
            (Some(watch), true) => Some(watch),
            _ => self.source.watch(&model, &self.orders),
        };
        *self.model.borrow_mut() = Arc::clone(&model);
        self.admin.set(&model.management).await;
        self.past.push(before);
        self.let_go();
        self.sweep_now().await;
        // Tasks that were told to end have what they had for a moment longer.
        self.sweep_due = true;
        Ok(())
    }

    /// Writes the logs as they are to be.
    async fn set_logs(&mut self, change: LogChange) {
        if let Err(error) = self.writers.set(change) {
            self.log.error(format_args!("log: {error}; the access log goes on as before"));
        }
        let settings = self.writers.access();
        self.workers.ask(move |worker| worker.access_log.set(settings.clone())).await;
    }

    async fn publish(&self, snapshot: &Arc<Snapshot>) {
        let snapshot = Arc::clone(snapshot);
        self.workers.ask(move |worker| worker.publish(Arc::clone(&snapshot))).await;
    }

    /// Keeps no connections to endpoints that nothing in force uses.
    pub(super) fn let_go(&mut self) {
        let in_force = Arc::clone(&self.snapshot.borrow());
        let trial = self.trial.as_ref().map(|trial| Arc::clone(trial.snapshot()));
        let used = [Some(&in_force), trial.as_ref()].into_iter().flatten();
        let gone = self.live.keep(used.map(|snapshot| &**snapshot));
        self.gone.extend(gone);
    }

    /// Forgets what only snapshots of the past had, as soon as no request of theirs is under way.
    pub(super) async fn sweep(&mut self) {
        let is_over = |snapshot: &Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        if std::mem::take(&mut self.sweep_due) || self.past.iter().any(is_over) {
            self.sweep_now().await;
        }
    }

    pub(super) async fn sweep_now(&mut self) {
        let (over, past) = std::mem::take(&mut self.past)
            .into_iter()
            .partition(|snapshot| Arc::strong_count(snapshot) == 1);
        self.past = past;
        // Taking a large one apart takes a while.
        let over: Vec<Arc<Snapshot>> = over;
        if !over.is_empty() {
            let _ = spawn_blocking(move || drop(over)).await;
        }
        let forgotten = self.live.sweep();
        let mut closed = std::mem::take(&mut self.gone);
        closed.extend(&forgotten);
        if !closed.is_empty() {
            self.workers.ask(move |worker| worker.let_go(&closed)).await;
        }
        self.live.free(forgotten);
    }

    fn tell_applied(&self, wanted: &Wanted, applied: &Applied) {
        let (generation, author) = (applied.generation, &wanted.author);
        let what = match wanted.cause {
            Cause::Rollback(to) => {
                format!("rolled back to generation {to} as it was, not as its files are")
            }
            Cause::Apply => "configuration applied, not from files".to_owned(),
            Cause::Reload | Cause::Start => "configuration reloaded".to_owned(),
        };
        let changes = match applied.changes.is_empty() {
            true => "nothing is different".to_owned(),
            false => applied.changes.join("; "),
        };
        self.log.info(format_args!("{what} by {author}, generation {generation}: {changes}"));
        for warning in &applied.warnings {
            self.log.warn(format_args!("{warning}"));
        }
    }

    fn tell_refused(&self, wanted: &Wanted, entry: Entry, refused: &Refused) {
        if wanted.dry_run {
            return; // whoever asked is told
        }
        let (author, reason) = (&wanted.author, &refused.reason);
        let what = wanted.cause.as_str();
        self.log.error(format_args!(
            "{what} by {author} refused: {reason}; what was served before is served on"
        ));
        for finding in refused.json.iter().take(FINDINGS_TOLD) {
            self.log.error(format_args!("{}", in_a_line(finding)));
        }
        if let Some(more) = refused.json.len().checked_sub(FINDINGS_TOLD + 1) {
            self.log.error(format_args!("and {}", count(more + 1, "more finding")));
        }
        self.history.borrow_mut().refused(entry, reason);
    }
}

/// Reads the texts and compiles what they say. Nothing of what serves changes by it.
fn compile(
    files: Vec<(PathBuf, Vec<u8>)>,
    source: &Source,
    live: &Live,
) -> (Texts, Result<Compiled, Refused>) {
    let loaded = source.load(&files);
    // Of what could not be read it is not known what is secret in it.
    let shown = loaded.model.is_some().then_some(&loaded.sources);
    let texts = Texts::new(files, shown);
    let findings = Refused::of_findings(&loaded);
    let Loaded { model: Some(mut model), .. } = loaded else { return (texts, Err(findings)) };
    source.settle(&mut model);
    let mut warnings = findings.diagnostics;
    let compiled = match Snapshot::compile(&model, live) {
        Ok((snapshot, more)) => {
            let diagnostics = expectations::failed(&model, &snapshot);
            if !diagnostics.is_empty() {
                let unmet = Loaded { model: None, diagnostics, sources: loaded.sources };
                return (texts, Err(Refused::of_findings(&unmet)));
            }
            warnings.extend(more);
            Ok(Compiled { model, snapshot, warnings })
        }
        Err(error) => Err(Refused::because(error)),
    };
    (texts, compiled)
}

/// `ravelin.toml:3:1: error: unknown key ...`
fn in_a_line(finding: &Value) -> String {
    let text = |name: &str| finding.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| finding.get(name).and_then(Value::as_u64);
    let place = match (number("line"), number("column")) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}: ", text("file")),
        _ => String::new(),
    };
    format!("{place}{}: {}", text("severity"), text("message"))
}

/// A failure as an answer.
fn refused(failure: &Failure) -> Refused {
    match failure {
        Failure::Plain(what, advice) if !advice.is_empty() => {
            Refused::because(format_args!("{what}; {advice}"))
        }
        Failure::Plain(what, _) => Refused::because(what),
        Failure::Told => Refused::because("the configuration cannot be read"),
    }
}
