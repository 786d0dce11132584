//! Giving way to a new process, and taking the place of an old one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use control::orders::{Author, Order, Refused, Reply};
use net::listener::{Local, leave_socket_files};
use net::worker::{Life, Workers};
use proxy::worker::Worker;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Ending, Service, answer};
use crate::configuration::count;
use crate::systemd::Manager;
use crate::upgrade::{Inheritance, Predecessor, Program, Progress, Upgrade};

/// Where a process stands between the one before it and the one after it.
pub(super) struct Succession {
    pub(super) upgrade: Upgrade,
    /// The process before this one, if it still has connections.
    before: Option<Predecessor>,
    pub(super) manager: Rc<Manager>,
    /// Connections that were left have had their time.
    is_late: bool,
}

impl Succession {
    /// Of a process that nobody has told yet that it serves.
    pub(super) fn new() -> Self {
        Self {
            upgrade: Upgrade::new(None),
            before: None,
            manager: Rc::new(Manager::of_environment()),
            is_late: false,
        }
    }

    /// Says to all who may want to know that the process ends.
    pub(super) async fn ends(&mut self) {
        self.upgrade.cancel();
        if let Some(before) = self.before.take() {
            before.dismiss().await;
        }
        if !self.upgrade.is_over() {
            self.manager.stopping();
        }
    }
}

impl Service {
    /// Says that this process serves: to the one before it, to the service manager. Another `program` may
    /// take its place in turn.
    pub(crate) async fn take_over(
        &mut self,
        inheritance: &mut Inheritance,
        program: Option<Program>,
    ) {
        let log = self.log.clone();
        self.succession.upgrade = Upgrade::new(program);
        let left: Vec<Local> = inheritance.stock.left().cloned().collect();
        for local in &left {
            let who = if inheritance.activated.contains(local) {
                "service manager"
            } else {
                "process before"
            };
            log.warn(format_args!(
                "the {who} listens on {local}, and the configuration does not: it is closed"
            ));
        }
        let stock = std::mem::take(&mut inheritance.stock);
        match inheritance.ready() {
            Ok(Some(before)) => {
                log.info(format_args!("took over from the process before this one"));
                before.watch(move || {
                    log.info(format_args!("the process before this one has ended"));
                });
                self.succession.before = Some(before);
                let is_told = self.say_gone(&left).await;
                // The files go with the sockets, unless the process before may listen there again.
                leave_socket_files(!is_told);
                drop(stock);
                leave_socket_files(false);
                self.catch_up();
            }
            // The manager knows already that the service is ready.
            Ok(None) => {
                drop(stock);
                self.succession.manager.ready();
            }
            Err(error) => {
                drop(stock);
                leave_socket_files(false);
                log.warn(format_args!("cannot watch the process before: {error}"));
            }
        }
        if let Some(time) = self.succession.manager.watchdog() {
            let (manager, workers) = (&self.succession.manager, &self.workers);
            let alive = tell_alive(Rc::clone(manager), Arc::clone(workers), self.count, time);
            tokio::task::spawn_local(alive);
        }
    }

    /// Says to the process before this one, if there is one, that nobody listens there. Whether it knows.
    pub(super) async fn say_gone(&self, left: &[Local]) -> bool {
        let Some(before) = &self.succession.before else { return true };
        let untold = before.gone(left).await;
        for local in untold {
            self.log.warn(format_args!(
                "the process before this one does not hear that {local} is closed: clients that come there may wait for \
                 nobody until it has ended"
            ));
        }
        untold.is_empty()
    }

    /// Takes what the process before this one may have taken, and said so, while this one started.
    fn catch_up(&self) {
        if self.source.is_newer() {
            let (reply, _nobody_waits) = oneshot::channel();
            let author = Author::new("upgrade");
            // With too many orders waiting, the operator is told of each that none is taken.
            let _ = self.orders.give(Order::Reload { canary: None, author, reply });
        }
    }

    /// Starts another process in the place of this one.
    pub(super) fn begin_upgrade(&mut self, author: &Author, reply: Option<Reply<()>>) {
        if self.trial.is_some() {
            // It would serve to everybody what is tried out on a few.
            let why = "a canary runs, which a new process would serve to everybody: `ravelin rollback` ends it, or \
                       wait until it is over";
            self.log.warn(format_args!("no upgrade, by {author}: {why}"));
            if let Some(reply) = reply {
                answer(reply, Err(Refused::because(why)));
            }
            return;
        }
        self.log.info(format_args!("upgrade, by {author}: starting a new process"));
        self.succession.upgrade.begin(&self.workers, &self.tickets, reply);
    }

    /// Why no other configuration is taken, if another process serves.
    pub(super) fn has_given_way(&self) -> Option<Refused> {
        let is_over = self.succession.upgrade.is_over();
        is_over.then(|| Refused::because("another process serves in place of this one"))
    }

    /// Why nothing is taken that the new process would know nothing of: it reads the files.
    pub(super) fn gives_way(&self) -> Option<Refused> {
        let starting = || {
            let why = "an upgrade is under way, and the new process serves what the files say: ask again when it is done";
            self.succession.upgrade.is_starting().then(|| Refused::because(why))
        };
        self.has_given_way().or_else(starting)
    }

    pub(super) async fn upgrade_goes(
        &mut self,
        progress: Progress,
        drain_max: Duration,
    ) -> Option<Ending> {
        match progress {
            Progress::Serves(pid) => self.give_way(pid).await,
            Progress::Failed(why) => {
                for line in why.lines().filter(|line| !line.is_empty()) {
                    self.log.error(format_args!("upgrade failed: {line}"));
                }
                self.log.warn(format_args!("this process goes on, without an upgrade"));
            }
            Progress::Died(pid, how) => self.go_on(pid, &how).await,
            Progress::Gone(pid, local) => {
                // Else clients would connect there, to wait for nobody.
                if self.workers.let_socket_go(&local) {
                    self.addresses.forget(&local);
                    self.log.info(format_args!(
                        "process {pid} does not listen on {local}: closed here too"
                    ));
                }
            }
            Progress::Ends(pid) => {
                // Because it was told to, or has given way to another in turn. Nobody would ever accept
                // what comes to sockets that are kept here: clients would wait, and whoever is started
                // anew would find the address in use.
                self.workers.let_sockets_go();
                self.log.info(format_args!(
                    "process {pid} ends in order: this one ends too, with its last connection"
                ));
            }
            Progress::Late if self.succession.is_late => {
                return Some(Ending { grace: Duration::ZERO });
            }
            Progress::Late => {
                self.succession.is_late = true;
                let seconds = drain_max.as_secs();
                self.log.info(format_args!(
                    "{} still open, waiting up to {seconds} s more for requests under way",
                    count(self.workers.connections(), "connection")
                ));
                self.workers.pause(Life::Stops).await;
                self.succession.upgrade.drain(&self.workers, drain_max);
            }
            Progress::Drained => return Some(Ending { grace: Duration::ZERO }),
        }
        None
    }

    /// Accepts no more, and keeps the sockets for as long as there are connections.
    async fn give_way(&mut self, pid: u32) {
        self.workers.pause(Life::Drains).await;
        leave_socket_files(true);
        self.admin.stop_listening();
        self.succession.manager.main_process(pid);
        if let Some(before) = self.succession.before.take() {
            before.dismiss().await;
        }
        let time = self.model.borrow().process.drain_timeout;
        self.log.info(format_args!(
            "process {pid} serves in place of this one, which has {} and waits up to {} s for them",
            count(self.workers.connections(), "connection"),
            time.as_secs()
        ));
        self.succession.upgrade.drain(&self.workers, time);
    }

    /// Serves again, as the new process does not.
    async fn go_on(&mut self, pid: u32, how: &str) {
        leave_socket_files(false);
        self.succession.is_late = false;
        if let Err(error) = self.workers.resume().await {
            self.log.error(format_args!("not every address is accepted at again: {error}"));
        }
        let management = self.model.borrow().management.clone();
        self.admin.set(&management).await;
        self.succession.manager.main_process(std::process::id());
        self.log.error(format_args!("process {pid} has died ({how}): this one goes on"));
    }
}

/// Feeds the manager's watchdog for as long as every worker answers.
async fn tell_alive(
    manager: Rc<Manager>,
    workers: Arc<Workers<Rc<Worker>>>,
    number: usize,
    time: Duration,
) {
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answered = timeout(time, workers.ask(|_| ())).await;
        if answered.is_ok_and(|answers| answers.len() == number) {
            manager.alive();
        }
    }
}
