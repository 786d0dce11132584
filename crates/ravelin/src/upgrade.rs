//! Another binary in place of the one that runs, without a connection refused or a request lost.
//!
//! The old process executes its program as it is now, with the arguments it was given itself, and passes
//! it the listening sockets ([`net::handover`]). From when the new one says that it serves, the old one
//! accepts nothing more and lets its connections end. What always holds:
//!
//! - until the new process serves, the old one does, whatever becomes of the new one;
//! - while the old one still has connections it also keeps the sockets that the new one has: if that dies, it
//!   goes on;
//! - once the new one ends in order, or gives way in turn, the old one has no listening socket any more;
//! - secrets (ticket keys, the key of sticky cookies) go from process to process and nowhere else.

use std::cell::Cell;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use control::orders::{Refused, Reply};
use net::handover::{Channel, Message, SOCKETS_MAX, Watched};
use net::listener::{Listen, Local, Stock, leave_socket_files};
use net::tls::Tickets;
use net::worker::{Sockets, Workers};
use proxy::sticky::Secret;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

use crate::systemd;
use crate::terminal::Failure;

/// Tells a process that its standard input is where it takes over.
const VARIABLE: &str = "RAVELIN_HANDOVER";
const BY_STDIN: &str = "stdin";

/// A new process that does not serve within this is taken for one that never will. Ample for ten thousand
/// certificates.
const START_MAX: Duration = Duration::from_secs(60);
/// Within this the other process takes or gives the next message; both are at nothing else then.
const MESSAGE_MAX: Duration = Duration::from_secs(20);
/// A process that serves waits so long for the one before it to hear what it has to say: more than a moment
/// only if that one hangs.
const SAY_MAX: Duration = Duration::from_secs(10);
/// Steps of an upgrade that wait to be seen to. The new process says where it listens no more, as often as it
/// likes: it waits when there are more.
const PROGRESS_MAX: usize = 64;
/// How often the old process looks whether its last connection has ended.
const LOOK: Duration = Duration::from_millis(100);
/// A new process that has let go of its end is about to end; if it is not, it is killed.
const END_MAX: Duration = Duration::from_secs(2);

/// Names of what is passed beside sockets.
const TICKET_KEY: &str = "ticket-key";
const STICKY_SECRET: &str = "sticky-secret";
/// Says, with nothing in it, that the old process understands [`Message::Gone`]; one that does not would take
/// the new one for broken.
const HEARS_GONE: &str = "hears-gone";

/// The program that runs, to be executed again.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Call at the start: by the name it was called by, which may come to mean another file. That is what
    /// an upgrade is.
    ///
    /// # Errors
    /// Nobody knows where it is.
    pub(crate) fn running() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let running = env::current_exe()?;
        let by_name = found(Path::new(&name)).filter(|path| is_same(path, &running));
        Ok(Self { path: by_name.unwrap_or(running), arguments: arguments.collect() })
    }
}

/// Where the shell would have found it.
fn found(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return std::path::absolute(name).ok();
    }
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// What a process begins with, from the one before it or from a service manager.
#[derive(Default)]
pub(crate) struct Inheritance {
    /// Sockets that listen already.
    pub(crate) stock: Stock,
    /// Keys that sessions of TLS go on with.
    pub(crate) tickets: Tickets,
    /// Where the service manager listens for it.
    pub(crate) activated: Vec<Local>,
    /// The process before this one waits to hear how it goes.
    before: Option<Channel>,
    /// And where this one does not listen.
    hears_gone: bool,
}

impl Inheritance {
    /// Takes what there is. Call once, before anything else is opened.
    ///
    /// # Errors
    /// What is passed cannot be taken.
    pub(crate) fn take() -> Result<Self, Failure> {
        let mut inheritance = Self::default();
        if env::var_os(VARIABLE).is_some_and(|by| by == BY_STDIN) {
            let taken = inheritance.take_from_before();
            if let Err(error) = taken {
                let what = format!("cannot take over from the process before: {error}");
                let failure = Failure::new(what, "");
                inheritance.failed(&failure, "");
                return Err(failure);
            }
        }
        let activated = systemd::sockets(&mut inheritance.stock);
        inheritance.activated = activated.map_err(|what| Failure::new(what, ""))?;
        Ok(inheritance)
    }

    fn take_from_before(&mut self) -> io::Result<()> {
        let channel = self.before.insert(Channel::from_stdin()?);
        channel.set_timeout(MESSAGE_MAX)?;
        // Until it is said who serves, the files are the other's.
        leave_socket_files(true);
        let mut listeners: Vec<Sockets> = Vec::new();
        loop {
            match channel.receive()? {
                Some(Message::Hello(_)) => {}
                Some(Message::Listener { listen, has_file, sockets }) => match listeners.last_mut()
                {
                    Some(last) if last.listen == listen => last.sockets.extend(sockets),
                    _ => listeners.push(Sockets { listen, sockets, has_file }),
                },
                Some(Message::Item(name, content)) => match name.as_str() {
                    TICKET_KEY => self.tickets.take(&content),
                    STICKY_SECRET => Secret::go_on_with(&content),
                    HEARS_GONE => self.hears_gone = true,
                    _ => {} // of a later version, which can do without
                },
                Some(Message::Over) => break,
                // It is gone before it could pass everything. What came is used, the rest is bound.
                None => break,
                Some(_) => return Err(io::Error::other("it says what only a new process says")),
            }
        }
        for Sockets { listen, sockets, has_file } in listeners {
            let sockets = sockets.into_iter().filter_map(Arc::into_inner).collect();
            self.stock.pass(listen, sockets, has_file)?;
        }
        Ok(())
    }

    /// There is a process before this one, which gives way.
    pub(crate) fn takes_over(&self) -> bool {
        self.before.is_some()
    }

    /// Says that this process serves. From here on the one before ends. Socket files are still left where
    /// they are: the one before may need those of sockets that this one does not use.
    ///
    /// # Errors
    /// The runtime cannot watch it; it has been told nevertheless.
    pub(crate) fn ready(&mut self) -> io::Result<Option<Predecessor>> {
        let Some(channel) = self.before.take() else { return Ok(None) };
        // If it is gone, all the better that this one serves.
        let _ = channel.send(&Message::Ready);
        let channel = Rc::new(channel.watched()?);
        Ok(Some(Predecessor { channel, hears_gone: self.hears_gone }))
    }

    /// Says that this process cannot serve, and why, if somebody waits for it.
    pub(crate) fn failed(&self, failure: &Failure, findings: &str) {
        let (Some(channel), Failure::Plain(what, advice)) = (&self.before, failure) else { return };
        let parts = [findings.trim_end(), what, advice];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let _ = channel.send(&Message::Failed(parts.join("\n")));
    }
}

/// The process before this one, as long as it lasts.
pub(crate) struct Predecessor {
    channel: Rc<Watched>,
    hears_gone: bool,
}

impl Predecessor {
    /// Calls `ended` when it has.
    pub(crate) fn watch(&self, ended: impl FnOnce() + 'static) {
        let channel = Rc::clone(&self.channel);
        tokio::task::spawn_local(async move {
            while let Ok(Some(_)) = channel.receive().await {}
            ended();
        });
    }

    /// Says that this process does not listen there. Returns what could not be said.
    pub(crate) async fn gone<'a>(&self, left: &'a [Local]) -> &'a [Local] {
        if !self.hears_gone {
            return left;
        }
        let latest = Instant::now() + SAY_MAX;
        let mut unsaid = left;
        while let Some((local, others)) = unsaid.split_first() {
            let message = Message::Gone(local.clone());
            match timeout_at(latest, self.channel.send(&message)).await {
                Ok(Ok(())) => unsaid = others,
                // It is gone itself, and so are its sockets.
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return &[],
                Ok(Err(_)) | Err(_) => break,
            }
        }
        unsaid
    }

    /// Says that it need not go on if this process ends.
    pub(crate) async fn dismiss(&self) {
        // There is nothing to be done about one that does not hear it.
        let _ = timeout(SAY_MAX, self.channel.send(&Message::Ending)).await;
    }
}

/// How an upgrade goes.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The new process with this id serves.
    Serves(u32),
    /// There is none, for this reason.
    Failed(String),
    /// The new process with this id has died, in this way.
    Died(u32, String),
    /// The new process with this id does not listen here (any more).
    Gone(u32, Local),
    /// The new process ends because it was told to.
    Ends(u32),
    /// Connections that are left have had their time.
    Late,
    /// No connection is left.
    Drained,
}

/// The upgrade of a process: at most one at a time.
pub(crate) struct Upgrade {
    program: Option<Program>,
    stage: Stage,
    /// Who waits to hear whether it comes to something.
    replies: Vec<Reply<()>>,
    tell: mpsc::Sender<Progress>,
    told: mpsc::Receiver<Progress>,
    /// Looks whether connections are left.
    draining: Option<AbortHandle>,
    /// The process that is starting, not yet waited for.
    starting: Rc<Cell<Option<u32>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serves,
    /// A new process is starting.
    Starts,
    /// It serves.
    Over(u32),
}

impl Upgrade {
    /// For a process that may be upgraded by this program; `None`: it may not be.
    pub(crate) fn new(program: Option<Program>) -> Self {
        let (tell, told) = mpsc::channel(PROGRESS_MAX);
        Self {
            program,
            stage: Stage::Serves,
            replies: Vec::new(),
            tell,
            told,
            draining: None,
            starting: Rc::default(),
        }
    }

    /// Has a process that is starting not come to serve.
    pub(crate) fn cancel(&self) {
        let pid = self.starting.take().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It is not waited for before this is empty, so the id is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    /// Another process serves in place of this one.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// A new process is starting.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starts)
    }

    /// Starts a new process and passes it what `workers` listen with, and `tickets`. What comes of it is told by
    /// [`Upgrade::poll_progress`].
    pub(crate) fn begin<S>(
        &mut self,
        workers: &Workers<S>,
        tickets: &Tickets,
        reply: Option<Reply<()>>,
    ) {
        let refuse = |reply: Option<Reply<()>>, why: String| {
            if let Some(reply) = reply {
                let _ = reply.send(Err(Refused::because(why)));
            }
        };
        let program = match (&self.program, self.stage) {
            (None, _) => return refuse(reply, "this process cannot be upgraded".to_owned()),
            (_, Stage::Over(pid)) => {
                return refuse(reply, format!("process {pid} serves in place of this one already"));
            }
            (_, Stage::Starts) => return self.replies.extend(reply),
            (Some(program), Stage::Serves) => program.clone(),
        };
        self.replies.extend(reply);
        self.stage = Stage::Starts;
        let parcel = parcel(workers.sockets(), tickets);
        let (tell, starting) = (self.tell.clone(), Rc::clone(&self.starting));
        tokio::task::spawn_local(async move {
            match start(program, parcel, &starting).await {
                Ok((channel, child)) => {
                    let _ = tell.send(Progress::Serves(child.id())).await;
                    watch(channel, child, &tell).await;
                }
                Err(why) => drop(tell.send(Progress::Failed(why)).await),
            }
        });
    }

    /// The next thing that happens to the upgrade under way.
    pub(crate) fn poll_progress(&mut self, context: &mut Context<'_>) -> Poll<Progress> {
        match self.told.poll_recv(context) {
            Poll::Ready(Some(progress)) => {
                self.went(&progress);
                Poll::Ready(progress)
            }
            _ => Poll::Pending,
        }
    }

    fn went(&mut self, progress: &Progress) {
        match progress {
            Progress::Serves(pid) => {
                self.stage = Stage::Over(*pid);
                for reply in self.replies.drain(..) {
                    let _ = reply.send(Ok(()));
                }
            }
            Progress::Failed(why) => {
                self.stage = Stage::Serves;
                for reply in self.replies.drain(..) {
                    let _ = reply.send(Err(Refused::because(why)));
                }
            }
            Progress::Died(..) => {
                self.stage = Stage::Serves;
                if let Some(draining) = self.draining.take() {
                    draining.abort();
                }
            }
            Progress::Gone(..) | Progress::Ends(_) | Progress::Late | Progress::Drained => {}
        }
    }

    /// Tells when no connection is left, or when `time` is over.
    pub(crate) fn drain<S: 'static>(&mut self, workers: &Arc<Workers<S>>, time: Duration) {
        let (workers, tell) = (Arc::clone(workers), self.tell.clone());
        let draining = tokio::task::spawn_local(async move {
            let end = Instant::now().checked_add(time);
            // Not at once: whoever ordered it has yet to be told that it is done.
            let mut looks = interval_at(Instant::now() + LOOK, LOOK);
            loop {
                looks.tick().await;
                let progress = match workers.connections() {
                    0 => Progress::Drained,
                    _ if end.is_some_and(|end| Instant::now() >= end) => Progress::Late,
                    _ => continue,
                };
                let _ = tell.send(progress).await;
                return;
            }
        });
        if let Some(before) = self.draining.replace(draining.abort_handle()) {
            before.abort();
        }
    }
}

/// Everything that a new process is told, in this order.
fn parcel(listeners: Vec<Sockets>, tickets: &Tickets) -> Vec<Message> {
    let mut parcel = vec![Message::Hello(env!("CARGO_PKG_VERSION").to_owned())];
    for Sockets { listen, sockets, has_file } in listeners {
        for sockets in sockets.chunks(SOCKETS_MAX) {
            let (listen, sockets) = (Listen::clone(&listen), sockets.to_vec());
            parcel.push(Message::Listener { listen, has_file, sockets });
        }
    }
    for key in tickets.pass() {
        let key = key.bytes().to_vec().into();
        parcel.push(Message::Item(TICKET_KEY.to_owned(), key));
    }
    if let Some(secret) = Secret::to_go_on_with() {
        parcel.push(Message::Item(STICKY_SECRET.to_owned(), secret));
    }
    parcel.push(Message::Item(HEARS_GONE.to_owned(), Vec::new().into()));
    parcel.push(Message::Over);
    parcel
}

/// Starts a new process, which serves when this returns.
///
/// # Errors
/// Why it does not. Then it is gone.
async fn start(
    program: Program,
    mut parcel: Vec<Message>,
    starting: &Cell<Option<u32>>,
) -> Result<(Watched, Child), String> {
    let cannot = |error: io::Error| format!("cannot start a new process: {error}");
    let (channel, theirs) = Channel::pair().map_err(cannot)?;
    // What there is room for is sent before there is a process to take it: so it has the sockets from its
    // first moment on, whatever becomes of this one.
    let sent = parcel.iter().take_while(|message| channel.try_send(message).is_ok()).count();
    parcel.drain(..sent);
    let mut child = {
        // Its copy of the other end is closed with it, so that the end of the new process is seen.
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env(VARIABLE, BY_STDIN).stdin(theirs);
        for name in systemd::OWN_VARIABLES {
            command.env_remove(name);
        }
        let path = program.path.display();
        command.spawn().map_err(|error| format!("cannot execute {path}: {error}"))?
    };
    starting.set(Some(child.id()));
    let passed = passed(channel, parcel).await;
    starting.set(None);
    let why = match passed {
        Ok(channel) => return Ok((channel, child)),
        Err(why) => why,
    };
    Err(match why {
        Unserved::Ended => {
            let how = end(&mut child, END_MAX).await;
            format!("the new process ended before it served: {how}")
        }
        Unserved::Said(why) => {
            end(&mut child, END_MAX).await;
            why
        }
        // At once: it must not come to serve after all.
        Unserved::Strange(why) => {
            end(&mut child, Duration::ZERO).await;
            why
        }
    })
}

/// Why a new process does not serve.
enum Unserved {
    /// It ended without a word.
    Ended,
    /// It says why, and ends.
    Said(String),
    /// Nobody knows what it does.
    Strange(String),
}

/// Passes everything and waits for the answer.
async fn passed(channel: Channel, parcel: Vec<Message>) -> Result<Watched, Unserved> {
    let sent = tokio::task::spawn_blocking(move || {
        channel.set_timeout(MESSAGE_MAX)?;
        parcel.iter().try_for_each(|message| channel.send(message))?;
        io::Result::Ok(channel)
    });
    let strange = |what: &str| Unserved::Strange(format!("the new process {what}"));
    let channel = match sent.await.map_err(io::Error::other).flatten() {
        Ok(channel) => channel,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(Unserved::Ended),
        Err(error) => return Err(strange(&format!("does not take the sockets: {error}"))),
    };
    let channel = channel.watched().map_err(|error| strange(&format!("is not heard: {error}")))?;
    match timeout(START_MAX, channel.receive()).await {
        Ok(Ok(Some(Message::Ready))) => Ok(channel),
        Ok(Ok(Some(Message::Failed(why)))) => Err(Unserved::Said(why)),
        Ok(Ok(None)) => Err(Unserved::Ended),
        Ok(Ok(Some(_))) => Err(strange("says what is not understood")),
        Ok(Err(error)) => Err(strange(&format!("cannot be heard: {error}"))),
        Err(_) => Err(strange(&format!("does not serve after {} s", START_MAX.as_secs()))),
    }
}

/// Tells what becomes of the new process, for as long as this one lasts.
async fn watch(channel: Watched, mut child: Child, tell: &mpsc::Sender<Progress>) {
    loop {
        match channel.receive().await {
            Ok(Some(Message::Gone(local))) => {
                let _ = tell.send(Progress::Gone(child.id(), local)).await;
            }
            Ok(Some(Message::Ending)) => {
                let _ = tell.send(Progress::Ends(child.id())).await;
                return;
            }
            _ => break,
        }
    }
    // Nobody has the other end any more: it is dead, or as good as dead.
    let how = end(&mut child, END_MAX).await;
    let _ = tell.send(Progress::Died(child.id(), how)).await;
}

/// Waits for the end of a process that is of no use any more, for this time; then kills it. Says how it
/// ended.
async fn end(child: &mut Child, time: Duration) -> String {
    let latest = Instant::now() + time;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return told(status),
            Ok(None) if Instant::now() < latest => sleep(LOOK / 10).await,
            _ => break,
        }
    }
    let _ = child.kill();
    // That takes no time worth mentioning.
    let _ = child.wait();
    "killed, because it did not end by itself".to_owned()
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "in a way nobody knows".to_owned(),
    }
}
