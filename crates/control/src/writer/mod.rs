//! The threads that write the logs.
//!
//! One thread for each distinct target, so that a pipe nobody reads holds up its own log only and
//! two logs with one target do not mix within a line. What always holds: writing never stops the
//! process and never makes a worker wait; what cannot be written is counted, and the count is told
//! with its reason in the error log at most once an interval. Where logs go can be changed while they are
//! written; the counts go on.

mod file;
mod output;
mod syslog;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use config::model::{LogTarget, Logging, Rotation, SyslogLabel};
use proxy::log::{
    AccessSettings, BLOCK_BYTES, Block, ERROR_QUEUE_BLOCKS, ErrorLog, Losses, Order, QUEUE_BLOCKS,
    Sink, Source, Total, sink, sink_of,
};

use self::output::{Kind, Output};

/// Lost lines are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How often a writer looks up when nothing comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// While lines come fast, a writer looks for more of them only after a pause of up to so long: to wake it for
/// each block costs a worker on the same core as much as dozens of lines.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// The first pause; the next are longer or shorter, by how much comes in them.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Lines come fast where a full block follows another within so long.
const FAST: Duration = Duration::from_millis(100);
/// So many full blocks may come in a pause that is to be longer next time: a sixteenth of what the queue
/// takes, because lines may come much faster all at once.
const PAUSE_BLOCKS: usize = QUEUE_BLOCKS / 16;

/// So many full blocks are written to a file at once: a file system takes the ends of a write in pieces of
/// one page, two, four and so on, which costs it a tenth more where a write is one block.
const WRITE_BLOCKS: usize = 4;

/// How long the end of the process waits for lines to be written to a target that is stuck.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// Name of the thread that writes the error log.
const ERROR_THREAD: &str = "log-error";

/// The running writers of both logs.
#[derive(Debug)]
pub struct LogWriters {
    logging: Logging,
    error: Running,
    error_log: ErrorLog,
    /// Of its own, unless the access log has the target of the error log, or is off.
    access: Option<Running>,
    /// Lines of the access log that were lost, by all its writers.
    access_lost: Total,
    /// They end when they have written what was handed to them.
    retired: Vec<Receiver<()>>,
}

#[derive(Debug)]
struct Running {
    sink: Sink,
    place: Place,
    /// Where it writes to from the next [`Order::Reopen`] on.
    outputs: Sender<Output>,
    /// Whom it tells of others that are stuck.
    others: Sender<Losses>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// A target and what else makes a difference to who writes there.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    target: LogTarget,
    rotation: Rotation,
    label: SyslogLabel,
}

impl LogWriters {
    /// Opens what `logging` names and starts writing.
    ///
    /// # Errors
    /// A file cannot be opened or a thread cannot be started; the message names the file.
    pub fn start(logging: &Logging) -> io::Result<Self> {
        let place = Place::of(&logging.error_log, logging);
        let output = Output::open(&place.target, logging, Kind::Error)?;
        let access = match own_access(logging) {
            Some(place) => Some((Output::open(&place.target, logging, Kind::Access)?, place)),
            None => None,
        };
        let (sink, source) = sink(ERROR_QUEUE_BLOCKS);
        let error_log = ErrorLog::new(sink.clone(), logging.level);
        let error = Running::start(ERROR_THREAD, place, (sink, source), output, &error_log)?;
        let access_lost = Total::default();
        let access = match access {
            Some((output, place)) => Some(error.beside(place, output, &error_log, &access_lost)?),
            None => None,
        };
        let logging = logging.clone();
        Ok(Self { logging, error, error_log, access, access_lost, retired: Vec::new() })
    }

    /// What the access logs of workers are like; `None` when requests are not logged.
    #[must_use]
    pub fn access(&self) -> Option<AccessSettings> {
        let sink = match &self.access {
            Some(access) => access.sink.clone(),
            None => self.error.sink.counted_in(&self.access_lost),
        };
        self.logging.log_requests.then(|| AccessSettings {
            sink,
            format: self.logging.format.clone(),
            sampling: self.logging.sampling.clone(),
            failed_connections: self.logging.failed_connections,
        })
    }

    /// The error log.
    #[must_use]
    pub fn error_log(&self) -> ErrorLog {
        self.error_log.clone()
    }

    /// Opens what is new in `logging`, so that nothing can go wrong when it is [taken](Self::set).
    ///
    /// # Errors
    /// A file cannot be opened; the message names it. Nothing has changed.
    pub fn prepare(&self, logging: &Logging) -> io::Result<Change> {
        let error = Place::of(&logging.error_log, logging);
        let error = match error == self.error.place {
            true => None,
            false => Some((Output::open(&error.target, logging, Kind::Error)?, error)),
        };
        let place = own_access(logging);
        let access = match place == self.access.as_ref().map(|access| access.place.clone()) {
            true => AccessChange::None,
            false => match place {
                Some(place) => {
                    let output = Output::open(&place.target, logging, Kind::Access)?;
                    AccessChange::To(Box::new((output, place)))
                }
                None => AccessChange::Ends,
            },
        };
        Ok(Change { logging: logging.clone(), error, access })
    }

    /// Writes as `change` says from now on. The access logs of workers have to be told: with
    /// [`Self::access`], right after this. A writer that is needed no more ends when it has written
    /// what workers handed to it until then.
    ///
    /// # Errors
    /// A thread cannot be started; the access log goes on as before.
    pub fn set(&mut self, change: Change) -> io::Result<()> {
        let Change { logging, error, access } = change;
        if let Some((output, place)) = error {
            // The thread lives as long as the process, so it listens.
            let _listens = self.error.outputs.send(output);
            self.error.place = place;
            let _told = self.order_reopen(&self.error);
        }
        self.error_log.set_level(logging.level);
        let started = match access {
            AccessChange::None => Ok(()),
            AccessChange::Ends => {
                self.retire();
                Ok(())
            }
            AccessChange::To(to) => {
                let (output, place) = *to;
                let beside = self.error.beside(place, output, &self.error_log, &self.access_lost);
                beside.map(|running| {
                    self.retire();
                    self.access = Some(running);
                })
            }
        };
        if started.is_ok() {
            self.logging = logging;
        }
        started
    }

    /// Opens log files anew by their names, as after a rotation. False where a target is stuck, which is
    /// told: its file is opened anew when it takes anything again.
    pub fn reopen(&self) -> bool {
        let access = self.access.as_ref().is_none_or(|access| self.order_reopen(access));
        self.order_reopen(&self.error) && access
    }

    /// Writes what was handed over so far and ends. Waits for a stuck target, but not for long.
    pub fn finish(self) {
        // The error log is ended last: the others report to it.
        for writer in self.access.iter().chain([&self.error]) {
            if writer.sink.order_within(Order::Stop, FINISH_MAX) {
                let _ended_or_stuck = writer.ended.recv_timeout(FINISH_MAX);
            }
        }
    }

    fn order_reopen(&self, writer: &Running) -> bool {
        let is_taken = writer.sink.reopen();
        if !is_taken {
            self.error_log.warn(format_args!(
                "log: a log target is stuck; it is opened anew when it takes lines again"
            ));
        }
        is_taken
    }

    fn retire(&mut self) {
        self.retired.retain(|ended| ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty));
        self.retired.extend(self.access.take().map(|access| access.ended));
    }
}

/// What [`LogWriters::set`] takes: targets that are open already.
#[derive(Debug)]
pub struct Change {
    logging: Logging,
    error: Option<(Output, Place)>,
    access: AccessChange,
}

#[derive(Debug)]
enum AccessChange {
    None,
    Ends,
    To(Box<(Output, Place)>),
}

/// Where the access log goes, if that is not where the error log goes.
fn own_access(logging: &Logging) -> Option<Place> {
    // To a syslog the two are not the same.
    let same = logging.access_log == logging.error_log
        && !matches!(logging.access_log, LogTarget::Syslog(_));
    (logging.log_requests && !same).then(|| Place::of(&logging.access_log, logging))
}

impl Place {
    fn of(target: &LogTarget, logging: &Logging) -> Self {
        Self { target: target.clone(), rotation: logging.rotation, label: logging.syslog.clone() }
    }
}

impl Running {
    fn start(
        name: &str,
        place: Place,
        (sink, source): (Sink, Source),
        output: Output,
        reports: &ErrorLog,
    ) -> io::Result<Self> {
        let (alive, ended) = channel();
        let (outputs, new_outputs) = channel();
        let (others, new_others) = channel();
        let is_error_log = name == ERROR_THREAD;
        let channels = (new_outputs, new_others);
        let writer = Writer::new(output, source, reports.clone(), is_error_log, channels);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            writer.run();
        })?;
        Ok(Self { sink, place, outputs, others, ended })
    }

    /// A writer of the access log, of which this one, of the error log, knows.
    fn beside(
        &self,
        place: Place,
        output: Output,
        reports: &ErrorLog,
        lost: &Total,
    ) -> io::Result<Self> {
        let (sink, source) = sink_of(QUEUE_BLOCKS, lost.clone());
        let _listens = self.others.send(sink.losses());
        Self::start("log-access", place, (sink, source), output, reports)
    }
}

/// One thread's state.
struct Writer {
    output: Output,
    source: Source,
    reports: ErrorLog,
    /// It writes the error log, where its reports go too.
    is_error_log: bool,
    /// When losses were last reported.
    reported: Option<Instant>,
    /// Why a line could last not be written.
    failure: Option<String>,
    /// What else went wrong and cost no line.
    trouble: Option<String>,
    /// The last lines could not be written.
    failing: bool,
    /// When it last looked up.
    looked: Instant,
    /// How many blocks came full since the queue was last empty.
    full_blocks: usize,
    /// When there were full blocks last.
    full_at: Instant,
    /// The last pause; zero if none was made when the queue was last empty.
    pause: Duration,
    /// What came behind the blocks that were written last.
    next: Option<Order>,
    outputs: Receiver<Output>,
    others: Receiver<Losses>,
    /// Writers that this one reports on when they cannot do so themselves.
    watched: Vec<Watched>,
}

/// A writer seen by another.
struct Watched {
    losses: Losses,
    /// How many lines it had lost, without telling, at the last look.
    untold: u64,
    /// How far it was then.
    steps: u64,
    /// When it was last told of.
    told: Option<Instant>,
}

impl Writer {
    fn new(
        output: Output,
        source: Source,
        reports: ErrorLog,
        is_error_log: bool,
        (outputs, others): (Receiver<Output>, Receiver<Losses>),
    ) -> Self {
        Self {
            output,
            source,
            reports,
            is_error_log,
            reported: None,
            failure: None,
            trouble: None,
            failing: false,
            looked: Instant::now(),
            full_blocks: 0,
            full_at: Instant::now(),
            pause: Duration::ZERO,
            next: None,
            outputs,
            others,
            watched: Vec::new(),
        }
    }

    fn run(mut self) {
        loop {
            let order = self.next_order();
            self.source.step();
            if self.source.takes_reopen() {
                self.reopen();
            }
            match order {
                Ok(Order::Write(block)) => self.write(block),
                Ok(Order::Reopen) => self.reopen(),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Also while there is much to write.
            if self.looked.elapsed() >= LOOK_INTERVAL {
                self.looked = Instant::now();
                let lost = self.output.look();
                self.count(lost, &self.source.total());
                self.watch();
            }
            // Of the error log itself when it can be read there: else the report would be lost too, and
            // the count with it.
            let can_tell = !(self.is_error_log && self.failing);
            if can_tell && self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                self.report();
            }
        }
        if self.is_error_log {
            // What it says itself comes behind the order to stop.
            self.report();
            for _ in 0..ERROR_QUEUE_BLOCKS {
                let Ok(Order::Write(block)) = self.source.orders.try_recv() else { break };
                self.write(block);
            }
        }
        let lost = self.output.finish();
        self.count(lost, &self.source.total());
        self.report();
    }

    /// The next order, if one comes soon.
    fn next_order(&mut self) -> Result<Order, RecvTimeoutError> {
        if let Some(order) = self.next.take().or_else(|| self.source.orders.try_recv().ok()) {
            return Ok(order);
        }
        let mut came = std::mem::take(&mut self.full_blocks);
        if came > 0 && std::mem::replace(&mut self.full_at, Instant::now()).elapsed() > FAST {
            came = 0;
        }
        // The error log's queue has an order for each line, so it fills up too soon.
        self.pause = if self.is_error_log { Duration::ZERO } else { next_pause(self.pause, came) };
        if !self.pause.is_zero() {
            thread::sleep(self.pause);
        }
        self.source.orders.recv_timeout(LOOK_INTERVAL)
    }

    /// Writes a block and, while they are full, those that are there behind it.
    fn write(&mut self, first: Block) {
        let is_full = |block: &Block| block.bytes.len() >= BLOCK_BYTES;
        let mut blocks = vec![first];
        let most = self.output.blocks_at_once();
        while blocks.len() < most && blocks.last().is_some_and(is_full) {
            match self.source.orders.try_recv() {
                Ok(Order::Write(block)) => blocks.push(block),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.full_blocks += blocks.iter().filter(|block| is_full(block)).count();
        let lost = self.output.write(&blocks);
        self.failing = lost.last().is_some_and(|lost| lost.lines > 0);
        for (block, lost) in blocks.into_iter().zip(lost) {
            self.count(lost, &block.total);
            self.source.recycle(block.bytes);
        }
    }

    /// Counts lines of the log that `total` is of. What waits in an output is of the writer's own: to a
    /// syslog, which alone keeps any, each log has a writer.
    fn count(&mut self, lost: Lost, total: &Total) {
        if lost.lines > 0 {
            self.source.count_dropped(lost.lines, total);
            // A failure that has cost nothing, as a connection that is made again, is no reason.
            self.failure = lost.why.or(self.failure.take());
        }
        self.trouble = lost.trouble.or(self.trouble.take());
    }

    fn reopen(&mut self) {
        if let Some(output) = self.outputs.try_iter().last() {
            let lost = self.output.finish();
            self.count(lost, &self.source.total());
            // By the name of what it was.
            self.report();
            (self.output, self.failing) = (output, false);
            return;
        }
        if let Err(error) = self.output.reopen() {
            self.reports.error(format_args!(
                "log: {error}; going on with the file as it was opened before"
            ));
        }
    }

    fn report(&mut self) {
        let target = self.output.name();
        if let Some(trouble) = self.trouble.take() {
            self.reported = Some(Instant::now());
            self.reports.error(format_args!("log: {trouble}"));
        }
        let dropped = self.source.take_dropped();
        if dropped == 0 {
            return;
        }
        self.reported = Some(Instant::now());
        match self.failure.take() {
            Some(error) => self.reports.error(format_args!(
                "log: {dropped} lines lost, cannot write to {target}: {error}"
            )),
            None => self.reports.warn(format_args!(
                "log: {dropped} lines dropped, {target} does not take them fast enough"
            )),
        }
    }

    /// Tells of others that have lost lines and cannot say so, because they are stuck.
    fn watch(&mut self) {
        let new = self.others.try_iter().map(|losses| {
            let (untold, steps) = (0, losses.steps());
            Watched { losses, untold, steps, told: None }
        });
        self.watched.extend(new);
        self.watched.retain(|one| one.losses.is_alive());
        for one in &mut self.watched {
            let before = std::mem::replace(&mut one.untold, one.losses.untold());
            let steps = one.losses.steps();
            // One that gets on tells for itself, and knows why.
            let is_stuck = std::mem::replace(&mut one.steps, steps) == steps;
            let is_time = one.told.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
            if is_stuck && is_time && before > 0 && one.untold > before {
                let dropped = one.losses.take();
                (one.untold, one.told) = (0, Some(Instant::now()));
                self.reports.warn(format_args!(
                    "log: {dropped} lines dropped, the access log is stuck: nobody reads it, or its disk \
                     hangs"
                ));
            }
        }
    }
}

/// How long to leave the queue alone, when so many full blocks came in and since the last pause.
fn next_pause(last: Duration, came: usize) -> Duration {
    match came {
        0 => Duration::ZERO,
        _ if came <= PAUSE_BLOCKS => (last * 2).clamp(PAUSE_MIN, PAUSE_MAX),
        _ if came <= PAUSE_BLOCKS * 2 => last,
        _ => last / 2,
    }
}

/// Lines that could not be written.
#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    why: Option<String>,
    /// Something that has cost no line, and that somebody should see to.
    trouble: Option<String>,
}

impl Lost {
    fn because(lines: u64, why: impl ToString) -> Self {
        Self { lines, why: Some(why.to_string()), trouble: None }
    }
}

/// How many lines end in `block`.
fn lines_in(block: &[u8]) -> u64 {
    block.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
