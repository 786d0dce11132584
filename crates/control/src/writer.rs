//! The threads that write the logs.
//!
//! One thread for each distinct target, so that a pipe nobody reads holds up its own log only and
//! two logs with one target do not mix within a line. What always holds: writing never stops the
//! process and never makes a worker wait; what cannot be written is counted, and the count is told
//! in the error log at most once an interval.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use config::model::{Level, LogTarget, Logging};
use proxy::log::{ErrorLog, Order, QUEUE_BLOCKS, Sink, Source, sink};

/// Lost lines are reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How long the end of the process waits for lines to be written to a target that is stuck.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// How long one block may wait for a non-blocking target to take more.
const WOULD_BLOCK_MAX: Duration = Duration::from_secs(5);
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(10);

/// Rights of a log file: what clients ask for is not for everybody to read.
const FILE_MODE: u32 = 0o640;

/// The running writers of both logs.
#[derive(Debug)]
pub struct LogWriters {
    access: Option<Sink>,
    error: Sink,
    level: Level,
    writers: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    sink: Sink,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl LogWriters {
    /// Opens what `logging` names and starts writing.
    ///
    /// # Errors
    /// A file cannot be opened or a thread cannot be started; the message names the file.
    pub fn start(logging: &Logging) -> io::Result<Self> {
        let error_output = Output::open(&logging.error_log)?;
        let own_access = logging.log_requests && logging.access_log != logging.error_log;
        let access_output =
            if own_access { Some(Output::open(&logging.access_log)?) } else { None };

        let (error, error_source) = sink(QUEUE_BLOCKS);
        let reports = ErrorLog::new(error.clone(), logging.level);
        let mut writers =
            vec![Running::start("log-error", &error, error_source, error_output, &reports)?];
        let mut access = logging.log_requests.then(|| error.clone());
        if let Some(output) = access_output {
            let (sink, source) = sink(QUEUE_BLOCKS);
            writers.push(Running::start("log-access", &sink, source, output, &reports)?);
            access = Some(sink);
        }
        Ok(Self { access, error, level: logging.level, writers })
    }

    /// Where workers hand their access-log blocks to; `None` when requests are not logged.
    #[must_use]
    pub fn access_sink(&self) -> Option<Sink> {
        self.access.clone()
    }

    /// The error log.
    #[must_use]
    pub fn error_log(&self) -> ErrorLog {
        ErrorLog::new(self.error.clone(), self.level)
    }

    /// Opens log files anew by their names, as after a rotation.
    pub fn reopen(&self) {
        for writer in &self.writers {
            if !writer.sink.order_within(Order::Reopen, FINISH_MAX) {
                self.error_log().warn(format_args!("log: a log target is stuck, not reopened"));
            }
        }
    }

    /// Writes what was handed over so far and ends. Waits for a stuck target, but not for long.
    pub fn finish(self) {
        // The error log, first in the list, is ended last: the others report to it.
        for writer in self.writers.iter().rev() {
            if writer.sink.order_within(Order::Stop, FINISH_MAX) {
                let _ended_or_stuck = writer.ended.recv_timeout(FINISH_MAX);
            }
        }
    }
}

impl Running {
    fn start(
        name: &str,
        sink: &Sink,
        source: Source,
        output: Output,
        reports: &ErrorLog,
    ) -> io::Result<Self> {
        let (alive, ended) = channel();
        let writer = Writer::new(output, source, reports.clone());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            writer.run();
        })?;
        Ok(Self { sink: sink.clone(), ended })
    }
}

/// One thread's state.
struct Writer {
    output: Output,
    source: Source,
    reports: ErrorLog,
    reported: Instant,
    /// Why a line could last not be written.
    failure: Option<io::Error>,
    /// The output ends in the middle of a line.
    torn: bool,
}

impl Writer {
    fn new(output: Output, source: Source, reports: ErrorLog) -> Self {
        let reported = Instant::now();
        Self { output, source, reports, reported, failure: None, torn: false }
    }

    fn run(mut self) {
        loop {
            match self.source.orders.recv_timeout(REPORT_INTERVAL) {
                Ok(Order::Write { block, lines }) => self.write(block, lines),
                Ok(Order::Reopen) => self.reopen(),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.reported.elapsed() >= REPORT_INTERVAL {
                self.report();
            }
        }
        self.report();
    }

    fn write(&mut self, block: Vec<u8>, lines: u64) {
        let result = self.output.finish_line(self.torn).and_then(|()| {
            self.torn = false;
            self.output.write(&block, &mut self.torn)
        });
        if let Err(error) = result {
            self.source.count_dropped(lines);
            self.failure = Some(error);
        }
        self.source.recycle(block);
    }

    fn reopen(&mut self) {
        match self.output.reopened() {
            Ok(Some(file)) => {
                self.output.file = file;
                self.torn = false;
            }
            Ok(None) => {}
            Err(error) => self.reports.error(format_args!(
                "log: {error}; going on with the file as it was opened before"
            )),
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        let dropped = self.source.take_dropped();
        if dropped == 0 {
            return;
        }
        let target = self.output.name();
        match self.failure.take() {
            Some(error) => self.reports.error(format_args!(
                "log: {dropped} lines lost, cannot write to {target}: {error}"
            )),
            None => self.reports.warn(format_args!(
                "log: {dropped} lines dropped, {target} does not take them fast enough"
            )),
        }
    }
}

/// An open target.
struct Output {
    file: File,
    target: LogTarget,
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        let file = match target {
            // Not through `io::stdout()`, which would split blocks at line ends.
            LogTarget::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            LogTarget::Stderr => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            LogTarget::File(path) => open_file(path)?,
        };
        Ok(Self { file, target: target.clone() })
    }

    /// The file opened again by name; `None` for standard streams.
    fn reopened(&self) -> io::Result<Option<File>> {
        match &self.target {
            LogTarget::File(path) => open_file(path).map(Some),
            LogTarget::Stdout | LogTarget::Stderr => Ok(None),
        }
    }

    fn name(&self) -> String {
        match &self.target {
            LogTarget::Stdout => "standard output".to_owned(),
            LogTarget::Stderr => "standard error".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        }
    }

    /// Ends a line that an earlier failure cut, so that the next one stands alone.
    fn finish_line(&mut self, torn: bool) -> io::Result<()> {
        if torn { self.write(b"\n", &mut false) } else { Ok(()) }
    }

    /// Writes the whole block; `torn` tells whether a failure left part of a line.
    fn write(&mut self, mut block: &[u8], torn: &mut bool) -> io::Result<()> {
        let mut waited = Duration::ZERO;
        while !block.is_empty() {
            match self.file.write(block) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let (done, rest) = block.split_at(written.min(block.len()));
                    *torn = done.last() != Some(&b'\n');
                    block = rest;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody we share the terminal or pipe with has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock && waited < WOULD_BLOCK_MAX => {
                    thread::sleep(WOULD_BLOCK_PAUSE);
                    waited += WOULD_BLOCK_PAUSE;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Opens a file to append to; it and the directories above it are made if they are not there.
fn open_file(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path);
    let opened = match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(directory).and_then(|()| open())
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "; choose a file this user may write",
            _ => "",
        };
        let path = path.display();
        io::Error::new(error.kind(), format!("cannot open the log file {path}: {error}{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use config::model::LogFormat;

    use super::*;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ravelin-writer-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn logging(&self) -> Logging {
            Logging {
                level: Level::Info,
                log_requests: true,
                access_log: LogTarget::File(self.0.join("access.log")),
                error_log: LogTarget::File(self.0.join("error.log")),
                format: LogFormat::Compact,
            }
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn both_logs_are_written_by_the_time_they_are_finished() {
        let scratch = Scratch::new();
        let writers = LogWriters::start(&scratch.logging()).unwrap();
        writers.access_sink().unwrap().write(b"one\ntwo\n".to_vec(), 2);
        writers.error_log().warn(format_args!("look here"));
        writers.finish();
        assert_eq!(scratch.read("access.log"), "one\ntwo\n");
        assert!(scratch.read("error.log").ends_with(" warn look here\n"));
        let mode = std::fs::metadata(scratch.0.join("access.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !FILE_MODE, 0);
    }

    #[test]
    fn logs_with_one_target_share_one_writer() {
        let scratch = Scratch::new();
        let logging = scratch.logging();
        let logging = Logging { access_log: logging.error_log.clone(), ..logging };
        let writers = LogWriters::start(&logging).unwrap();
        writers.access_sink().unwrap().write(b"one\n".to_vec(), 1);
        writers.error_log().warn(format_args!("two"));
        writers.finish();
        let text = scratch.read("error.log");
        assert!(text.starts_with("one\n") && text.ends_with(" warn two\n"), "{text}");
    }

    #[test]
    fn a_rotated_file_is_made_anew() {
        let scratch = Scratch::new();
        let writers = LogWriters::start(&scratch.logging()).unwrap();
        let sink = writers.access_sink().unwrap();
        sink.write(b"old\n".to_vec(), 1);
        std::fs::rename(scratch.0.join("access.log"), scratch.0.join("access.log.1")).unwrap();
        writers.reopen();
        sink.write(b"new\n".to_vec(), 1);
        writers.finish();
        assert_eq!(scratch.read("access.log.1"), "old\n");
        assert_eq!(scratch.read("access.log"), "new\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_with_what_to_do() {
        let scratch = Scratch::new();
        // A directory that is not there is made; one cannot be made of a file.
        std::fs::write(scratch.0.join("none"), "").unwrap();
        let missing = LogTarget::File(scratch.0.join("none").join("x.log"));
        let logging = Logging { access_log: missing, ..scratch.logging() };
        let message = LogWriters::start(&logging).unwrap_err().to_string();
        assert!(message.contains("x.log") && message.contains("directory"), "{message}");
    }

    #[test]
    fn a_full_disk_loses_lines_is_reported_and_does_not_end_the_writer() {
        let scratch = Scratch::new();
        let full = LogTarget::File("/dev/full".into());
        let logging = Logging { access_log: full, ..scratch.logging() };
        let writers = LogWriters::start(&logging).unwrap();
        let sink = writers.access_sink().unwrap();
        sink.write(b"one\n".to_vec(), 1);
        sink.write(b"two\nthree\n".to_vec(), 2);
        writers.finish();
        let text = scratch.read("error.log");
        assert!(text.contains(" error log: 3 lines lost, cannot write to /dev/full: "), "{text}");
    }

    #[test]
    fn a_target_that_is_stuck_does_not_hold_up_the_end() {
        let scratch = Scratch::new();
        let fifo = scratch.0.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Opened for reading and writing: open does not wait, and nobody ever reads.
        let _held = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let logging = Logging { access_log: LogTarget::File(fifo), ..scratch.logging() };
        let writers = LogWriters::start(&logging).unwrap();
        let sink = writers.access_sink().unwrap();
        for _ in 0..QUEUE_BLOCKS + 10 {
            sink.write(vec![b'x'; 64 * 1024], 1);
        }
        let started = Instant::now();
        writers.finish();
        assert!(started.elapsed() < FINISH_MAX * 4);
    }
}
