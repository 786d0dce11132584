//! Writers before files, pipes and sockets.

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use config::model::{Level, LogFormat, SyslogAddress};

use super::file::FILE_MODE;
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
            access_log: LogTarget::File(self.0.join("access.log")),
            error_log: LogTarget::File(self.0.join("error.log")),
            ..Logging::default()
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
    writers.access().unwrap().sink.write(b"one\ntwo\n".to_vec(), 2);
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
    writers.access().unwrap().sink.write(b"one\n".to_vec(), 1);
    writers.error_log().warn(format_args!("two"));
    writers.finish();
    let text = scratch.read("error.log");
    assert!(text.starts_with("one\n") && text.ends_with(" warn two\n"), "{text}");
}

#[test]
fn a_rotated_file_is_made_anew() {
    let scratch = Scratch::new();
    let writers = LogWriters::start(&scratch.logging()).unwrap();
    let sink = writers.access().unwrap().sink;
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
    let sink = writers.access().unwrap().sink;
    sink.write(b"one\n".to_vec(), 1);
    sink.write(b"two\nthree\n".to_vec(), 2);
    writers.finish();
    let text = scratch.read("error.log");
    let lost =
        text.lines().filter(|line| line.contains(" lines lost, cannot write to /dev/full: "));
    let lost = lost.filter_map(|line| line.split(" error log: ").nth(1)?.split(' ').next());
    assert_eq!(lost.map(|count| count.parse::<u64>().unwrap()).sum::<u64>(), 3, "{text}");
}

#[test]
fn lines_that_are_lost_count_for_their_own_log_also_where_two_share_a_target() {
    let full = LogTarget::File("/dev/full".into());
    let logging = Logging { access_log: full.clone(), error_log: full, ..Scratch::new().logging() };
    let writers = LogWriters::start(&logging).unwrap();
    let (access, error) = (writers.access_lost.clone(), writers.error_log());
    writers.access().unwrap().sink.write(b"one\ntwo\n".to_vec(), 2);
    error.warn(format_args!("three"));
    writers.finish();
    // At the end the error log tells of them, and loses that too.
    assert_eq!((access.lines(), error.dropped()), (2, 2));
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
    let sink = writers.access().unwrap().sink;
    for _ in 0..QUEUE_BLOCKS + 10 {
        sink.write(vec![b'x'; 64 * 1024], 1);
    }
    let started = Instant::now();
    writers.finish();
    assert!(started.elapsed() < FINISH_MAX * 4);
}

#[test]
fn full_blocks_and_what_comes_behind_them_are_written_in_order() {
    let scratch = Scratch::new();
    let writers = LogWriters::start(&scratch.logging()).unwrap();
    let sink = writers.access().unwrap().sink;
    let block = |letter: u8| [vec![letter; BLOCK_BYTES - 1], b"\n".to_vec()].concat();
    let mut expected = Vec::new();
    for letter in b'a'..=b'z' {
        let (bytes, total) = (block(letter), sink.total());
        expected.extend_from_slice(&bytes);
        assert!(sink.order_within(Order::Write(Block { bytes, lines: 1, total }), FINISH_MAX * 15));
    }
    // Of more than is taken there are some still to come when this is renamed.
    std::fs::rename(scratch.0.join("access.log"), scratch.0.join("access.log.1")).unwrap();
    writers.reopen();
    sink.write(b"new\n".to_vec(), 1);
    writers.finish();
    assert!(scratch.read("access.log.1").into_bytes() == expected);
    assert_eq!(scratch.read("access.log"), "new\n");
}

#[test]
fn a_writer_pauses_longer_only_while_little_comes_in_a_pause() {
    assert_eq!(next_pause(Duration::ZERO, 0), Duration::ZERO);
    assert_eq!(next_pause(Duration::ZERO, 1), PAUSE_MIN);
    let longest = (0..10).fold(Duration::ZERO, |pause, _| next_pause(pause, PAUSE_BLOCKS));
    assert_eq!(longest, PAUSE_MAX);
    assert_eq!(next_pause(longest, PAUSE_BLOCKS * 2), longest);
    assert_eq!(next_pause(longest, PAUSE_BLOCKS * 2 + 1), longest / 2);
    assert_eq!(next_pause(longest, 0), Duration::ZERO);
}

#[test]
fn a_file_that_is_large_enough_begins_anew_and_no_line_is_lost_or_torn() {
    let scratch = Scratch::new();
    let rotation = Rotation { size: Some(10_000), keep: 3 };
    let logging = Logging { rotation, ..scratch.logging() };
    let writers = LogWriters::start(&logging).unwrap();
    let sink = writers.access().unwrap().sink;
    let line = |number: usize| format!("line {number} {}\n", "x".repeat(90));
    for number in 0..450 {
        let (bytes, total) = (line(number).into_bytes(), sink.total());
        assert!(sink.order_within(Order::Write(Block { bytes, lines: 1, total }), FINISH_MAX * 15));
    }
    writers.finish();
    let names = ["access.log.3", "access.log.2", "access.log.1", "access.log"];
    let mut all = String::new();
    for name in names {
        let text = scratch.read(name);
        assert!(text.len() <= 10_000 && text.ends_with('\n'), "{name}: {}", text.len());
        all.push_str(&text);
    }
    assert!(!scratch.0.join("access.log.4").exists());
    let first = all.lines().next().unwrap();
    let first: usize = first.split(' ').nth(1).unwrap().parse().unwrap();
    let expected: String = (first..450).map(line).collect();
    assert_eq!(all, expected, "lines in order, up to the last");
    assert!(first > 0, "older ones are gone");
}

fn put(file: &mut file::LogFile, block: &[u8]) -> (Result<(), output::Cut>, Option<String>) {
    file.write(&mut [IoSlice::new(block)])
}

#[test]
fn the_oldest_file_stays_until_another_takes_its_place() {
    let scratch = Scratch::new();
    std::fs::write(scratch.0.join("access.log.2"), "oldest\n").unwrap();
    let rotation = Rotation { size: Some(1_000), keep: 2 };
    let mut file = file::LogFile::open(&scratch.0.join("access.log"), rotation).unwrap();
    put(&mut file, &[b'a'; 999]).0.unwrap();
    put(&mut file, &[b'b'; 999]).0.unwrap();
    assert_eq!(scratch.read("access.log.2"), "oldest\n");
    put(&mut file, &[b'c'; 999]).0.unwrap();
    assert_eq!(scratch.read("access.log.2"), "a".repeat(999));
    assert_eq!(scratch.read("access.log.1"), "b".repeat(999));
}

#[test]
fn blocks_that_are_written_at_once_go_to_as_many_files_as_they_need() {
    let scratch = Scratch::new();
    let rotation = Rotation { size: Some(1_000), keep: 3 };
    let mut file = file::LogFile::open(&scratch.0.join("access.log"), rotation).unwrap();
    let blocks: Vec<String> = ["a", "b", "c", "d", "e"].map(|letter| letter.repeat(400)).into();
    let blocks = [&[String::new()], &blocks[..], &["f".repeat(1_500)]].concat();
    let mut slices: Vec<_> = blocks.iter().map(|block| IoSlice::new(block.as_bytes())).collect();
    let (written, trouble) = file.write(&mut slices);
    assert!(written.is_ok() && trouble.is_none());
    assert_eq!(scratch.read("access.log.3"), blocks[1..3].concat());
    assert_eq!(scratch.read("access.log.2"), blocks[3..5].concat());
    assert_eq!(scratch.read("access.log.1"), blocks[5]);
    assert_eq!(scratch.read("access.log"), blocks[6], "one that is too large has its own");
}

#[test]
fn lines_of_blocks_that_were_written_in_part_are_counted_for_the_log_they_are_of() {
    let (one, other) = (Total::default(), Total::default());
    let block = |text: &str, total: &Total| {
        let lines = lines_in(text.as_bytes());
        Block { bytes: text.into(), lines, total: total.clone() }
    };
    let blocks = [block("a\nb\n", &one), block("c\nd\ne\n", &other), block("f\n", &one)];
    for (written, expected) in
        [(0, [2, 3, 1]), (3, [1, 3, 1]), (4, [0, 3, 1]), (7, [0, 2, 1]), (10, [0, 0, 1])]
    {
        let cut = output::Cut { written, error: io::ErrorKind::StorageFull.into() };
        let lost: Vec<u64> = cut.lost_of(&blocks).iter().map(|lost| lost.lines).collect();
        assert_eq!(lost, expected, "{written} bytes");
    }
}

#[test]
fn only_a_file_on_a_disk_takes_blocks_at_once() {
    let scratch = Scratch::new();
    let fifo = scratch.0.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, expected) in [(scratch.0.join("log"), WRITE_BLOCKS), (fifo, 1)] {
        let target = LogTarget::File(path);
        let output = Output::open(&target, &scratch.logging(), Kind::Access).unwrap();
        assert_eq!(output.blocks_at_once(), expected, "{target:?}");
    }
}

#[test]
fn full_blocks_for_a_full_disk_are_counted_line_by_line() {
    let scratch = Scratch::new();
    let full = LogTarget::File("/dev/full".into());
    let logging = Logging { access_log: full, ..scratch.logging() };
    let writers = LogWriters::start(&logging).unwrap();
    let sink = writers.access().unwrap().sink;
    for _ in 0..10 {
        sink.write(b"twice\n".repeat(BLOCK_BYTES / 6 + 1), BLOCK_BYTES as u64 / 6 + 1);
    }
    let lost = writers.access_lost.clone();
    writers.finish();
    assert_eq!(lost.lines(), 10 * (BLOCK_BYTES as u64 / 6 + 1));
}

#[test]
fn a_file_that_somebody_else_has_renamed_is_not_renamed_again() {
    let scratch = Scratch::new();
    let rotation = Rotation { size: Some(1_000), keep: 3 };
    let mut file = file::LogFile::open(&scratch.0.join("access.log"), rotation).unwrap();
    put(&mut file, &[b'a'; 999]).0.unwrap();
    std::fs::rename(scratch.0.join("access.log"), scratch.0.join("moved")).unwrap();
    let (written, trouble) = put(&mut file, b"new\n");
    assert!(written.is_ok() && trouble.is_none());
    assert_eq!(scratch.read("access.log"), "new\n");
    assert!(!scratch.0.join("access.log.1").exists());
}

#[test]
fn a_log_goes_on_where_it_is_when_nothing_can_be_renamed() {
    let scratch = Scratch::new();
    let rotation = Rotation { size: Some(1_000), keep: 1 };
    let path = scratch.0.join("access.log");
    let mut file = file::LogFile::open(&path, rotation).unwrap();
    // A directory that is not empty cannot be replaced by a file.
    std::fs::create_dir_all(scratch.0.join("access.log.1").join("x")).unwrap();
    put(&mut file, &[b'a'; 999]).0.unwrap();
    let (written, trouble) = put(&mut file, b"on\n");
    assert!(written.is_ok(), "no line is lost");
    assert!(trouble.unwrap().contains("directory"), "the operator learns of it");
    let (written, trouble) = put(&mut file, b"and on\n");
    assert!(written.is_ok() && trouble.is_none(), "once");
    assert!(scratch.read("access.log").ends_with("on\nand on\n"));
}

#[test]
fn a_file_that_cannot_begin_anew_is_told_of_and_costs_no_line() {
    let scratch = Scratch::new();
    let rotation = Rotation { size: Some(1_000), keep: 1 };
    let writers = LogWriters::start(&Logging { rotation, ..scratch.logging() }).unwrap();
    std::fs::create_dir_all(scratch.0.join("access.log.1").join("x")).unwrap();
    let sink = writers.access().unwrap().sink;
    for _ in 0..3 {
        sink.write([&[b'a'; 599][..], b"\n"].concat(), 1);
    }
    for writer in [writers.access.as_ref().unwrap(), &writers.error] {
        assert!(writer.sink.order_within(Order::Stop, FINISH_MAX));
        assert_eq!(writer.ended.recv(), Err(std::sync::mpsc::RecvError));
    }
    assert_eq!(scratch.read("access.log").lines().count(), 3);
    let text = scratch.read("error.log");
    assert_eq!(text.matches("access.log cannot begin anew: ").count(), 1, "{text}");
    assert!(!text.contains("lost"), "{text}");
    assert_eq!((writers.access_lost.lines(), writers.error_log.dropped()), (0, 0));
}

#[test]
fn counts_go_on_when_a_log_goes_elsewhere() {
    let scratch = Scratch::new();
    let first = Logging { access_log: LogTarget::File("/dev/full".into()), ..scratch.logging() };
    let mut writers = LogWriters::start(&first).unwrap();
    writers.access().unwrap().sink.write(b"one\ntwo\n".to_vec(), 2);
    // To a file, to where the error log is, and nowhere.
    let second = scratch.logging();
    let third = Logging { access_log: second.error_log.clone(), ..second.clone() };
    let none = Logging { log_requests: false, ..third.clone() };
    for logging in [second, third, none] {
        writers.set(writers.prepare(&logging).unwrap()).unwrap();
        for ended in &writers.retired {
            let _ = ended.recv_timeout(Duration::from_secs(5));
        }
        if let Some(access) = writers.access() {
            assert_eq!(access.sink.dropped(), 2);
        }
        assert_eq!((writers.access_lost.lines(), writers.error_log.dropped()), (2, 0));
    }
    writers.finish();
}

#[test]
fn what_the_error_log_lost_of_itself_is_told_where_it_goes_then() {
    let scratch = Scratch::new();
    let first = Logging { error_log: LogTarget::File("/dev/full".into()), ..scratch.logging() };
    let mut writers = LogWriters::start(&first).unwrap();
    for _ in 0..5 {
        writers.error_log().warn(format_args!("nobody reads this"));
    }
    writers.set(writers.prepare(&scratch.logging()).unwrap()).unwrap();
    writers.finish();
    let text = scratch.read("error.log");
    let lost = " error log: 5 lines lost, cannot write to /dev/full: No space left";
    assert!(text.contains(lost), "{text}");
}

#[test]
fn only_a_writer_that_does_not_get_on_is_called_stuck() {
    let scratch = Scratch::new();
    let logging = scratch.logging();
    let output = Output::open(&logging.error_log, &logging, Kind::Error).unwrap();
    let (reports, told) = sink(8);
    let (_outputs, new_outputs) = channel();
    let (others, new_others) = channel();
    let channels = (new_outputs, new_others);
    let log = ErrorLog::new(reports, Level::Info);
    let mut writer = Writer::new(output, sink(8).1, log, true, channels);
    let (full, other) = sink(0);
    others.send(full.losses()).unwrap();
    writer.watch();
    let mut look = |gets_on: bool| {
        full.write(b"x\n".to_vec(), 1);
        if gets_on {
            other.step();
        }
        writer.watch();
        told.orders.try_recv().is_ok()
    };
    // It tells of itself, with the reason.
    assert!(!(0..4).any(|_| look(true)));
    assert!(look(false), "stuck");
    assert!(!(0..4).any(|_| look(false)), "once in a while");
}

#[test]
fn logs_follow_a_change_of_where_they_go() {
    let scratch = Scratch::new();
    let file = |name: &str| LogTarget::File(scratch.0.join(name));
    let first = scratch.logging();
    let mut writers = LogWriters::start(&first).unwrap();
    let old = writers.access().unwrap();
    old.sink.write(b"one\n".to_vec(), 1);
    writers.error_log().warn(format_args!("first"));

    let second = Logging {
        access_log: file("a2.log"),
        error_log: file("e2.log"),
        format: LogFormat::Json,
        level: Level::Warn,
        ..first.clone()
    };
    let change = writers.prepare(&second).unwrap();
    writers.set(change).unwrap();
    let new = writers.access().unwrap();
    assert_eq!(new.format, LogFormat::Json);
    old.sink.write(b"late\n".to_vec(), 1);
    new.sink.write(b"two\n".to_vec(), 1);
    drop(old);
    writers.error_log().info(format_args!("nobody wants this"));
    writers.error_log().warn(format_args!("second"));

    // To one file, and then none.
    let third = Logging { access_log: file("e2.log"), ..second.clone() };
    writers.set(writers.prepare(&third).unwrap()).unwrap();
    writers.access().unwrap().sink.write(b"three\n".to_vec(), 1);
    let none = Logging { log_requests: false, ..third };
    writers.set(writers.prepare(&none).unwrap()).unwrap();
    assert!(writers.access().is_none());
    for ended in &writers.retired {
        let _ = ended.recv_timeout(Duration::from_secs(5));
    }
    writers.finish();
    assert_eq!(scratch.read("access.log"), "one\nlate\n");
    assert_eq!(scratch.read("a2.log"), "two\n");
    assert!(scratch.read("error.log").ends_with(" warn first\n"));
    let text = scratch.read("e2.log");
    assert!(text.contains(" warn second\n") && text.ends_with("three\n"), "{text}");
    assert!(!text.contains("nobody wants"), "{text}");
}

#[test]
fn a_change_to_what_cannot_be_opened_changes_nothing() {
    let scratch = Scratch::new();
    let first = scratch.logging();
    let writers = LogWriters::start(&first).unwrap();
    std::fs::write(scratch.0.join("none"), "").unwrap();
    let missing = LogTarget::File(scratch.0.join("none").join("x.log"));
    let second = Logging { access_log: missing, ..first };
    assert!(writers.prepare(&second).unwrap_err().to_string().contains("x.log"));
    writers.access().unwrap().sink.write(b"one\n".to_vec(), 1);
    writers.finish();
    assert_eq!(scratch.read("access.log"), "one\n");
}

#[test]
fn a_pipe_that_nobody_has_open_holds_up_nothing() {
    let scratch = Scratch::new();
    let fifo = scratch.0.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let logging = Logging { access_log: LogTarget::File(fifo), ..scratch.logging() };
    let started = Instant::now();
    let writers = LogWriters::start(&logging).unwrap();
    writers.access().unwrap().sink.write(b"one\n".to_vec(), 1);
    writers.finish();
    assert!(started.elapsed() < FINISH_MAX * 2);
}

#[test]
fn a_syslog_that_is_not_there_is_reported_and_found_later() {
    let scratch = Scratch::new();
    let path = scratch.0.join("log.sock");
    let address = SyslogAddress::Unix(path.clone());
    let logging = Logging { access_log: LogTarget::Syslog(address), ..scratch.logging() };
    let writers = LogWriters::start(&logging).unwrap();
    let sink = writers.access().unwrap().sink;
    sink.write(b"one\n".to_vec(), 1);
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    sink.write(b"two\n".to_vec(), 1);
    let mut buffer = [0; 1024];
    for expected in ["one", "two"] {
        let length = socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("<134>1 20") && text.ends_with(&format!(" access - {expected}")));
    }
    writers.finish();
}
