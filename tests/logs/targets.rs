//! Where lines go, and what happens when they cannot.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::*;

use super::logging;

/// Requests that go on, whatever becomes of their lines.
fn goes_on(ravelin: &Ravelin) {
    let mut client = ravelin.client();
    let long = "x".repeat(2000);
    for number in 0..300 {
        client.get(&format!("/{number}?{long}")).expect(200);
    }
}

#[test]
fn a_full_disk_loses_lines_and_nothing_else() {
    let origin = Origin::saying("");
    let ravelin = logging("access_log = \"/dev/full\"", &origin).start();
    goes_on(&ravelin);
    ravelin.stderr.line_with(&["error log: ", " lines lost, cannot write to /dev/full: No space"]);
    goes_on(&ravelin);
}

#[test]
fn a_disk_that_fills_up_and_has_room_again_loses_lines_in_between() {
    let dir = TempDir::new();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "none"])
        .arg(dir.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    }
    let unmount = Unmount(dir.path());
    let origin = Origin::saying("");
    let log = dir.path().join("access.log");
    let keys = format!("access_log = \"{}\"", log.display());
    let mut ravelin = logging(&keys, &origin).start();
    goes_on(&ravelin);
    ravelin.stderr.line_with(&["error log: ", " lines lost, cannot write to ", "No space"]);
    // What was on its way may fill it again.
    until("a line where there is room again", || {
        fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
        ravelin.get("/room-again").expect(200);
        let text = || String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
        while !text().contains("/room-again") && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        text().contains("/room-again")
    });
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
    let whole =
        |line: &str| line.starts_with("127.0.0.1 - - [") && line.contains("GET /room-again");
    assert!(text.lines().any(whole), "{text}");
    drop(ravelin);
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_pipe_that_nobody_reads_loses_lines_and_nothing_else() {
    let dir = TempDir::new();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let origin = Origin::saying("");
    let keys = format!("access_log = \"{}\"", pipe.display());
    let mut ravelin = logging(&keys, &origin).start();
    goes_on(&ravelin);
    ravelin.stderr.line_with(&[" lines lost, cannot write to ", "nobody reads it"]);
    goes_on(&ravelin);
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
}

#[test]
fn a_blocked_pipe_as_standard_output_is_told_of() {
    let dir = TempDir::new();
    dir.write(
        "ravelin.toml",
        "[[sites]]\nname = \"files\"\nhostname = \"h\"\nlisten = [\"127.0.0.1:0\"]\nstatic_dir = \".\"\n",
    );
    let mut command = Command::new(binary());
    command.args(["run", "-c", "ravelin.toml"]).current_dir(dir.path());
    command.env("RUNTIME_DIRECTORY", dir.path());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let _unread = child.0.stdout.take();
    let stderr = Lines::read(child.0.stderr.take().unwrap());
    let line = stderr.line_with(&["listening on "]);
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    let long = "x".repeat(25_000);
    let told = || stderr.all().iter().any(|line| line.contains("the access log is stuck"));
    let mut client = Client::connect(addr);
    until("somebody who says that the log is stuck", || {
        // Blocks of 256 KiB fill the queue to the writer: 32 MiB.
        (0..100).for_each(|number| _ = client.get(&format!("/{number}?{long}")).expect(404));
        told()
    });
}

/// A process that ends with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of all files of a log, youngest last; each file has whole lines only.
fn all_lines(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for number in (0..1000).rev() {
        let name = match number {
            0 => "access.log".to_owned(),
            number => format!("access.log.{number}"),
        };
        let Ok(text) = fs::read_to_string(dir.join(name)) else { continue };
        assert!(text.is_empty() || text.ends_with('\n'), "torn at its end");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines
}

#[test]
fn a_file_begins_anew_by_size_and_by_signal_under_load_without_a_lost_or_torn_line() {
    let origin = Origin::saying("");
    let keys = "access_log = \"access.log\"\nformat = '{target} {header.x} end'\n\
                rotate_size = \"64KB\"\nrotate_keep = 900";
    let ravelin = logging(keys, &origin).start();
    let filler = "y".repeat(500);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (addr, filler) = (ravelin.addr(), filler.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                for number in 0..500 {
                    client
                        .ask(format!(
                            "GET /{thread}/{number} HTTP/1.1\r\nHost: example.com\r\nX: {filler}\r\n\r\n"
                        ))
                        .expect(200);
                }
            })
        })
        .collect();
    let mut renamed = 0;
    while threads.iter().any(|thread| !thread.is_finished()) {
        // As logrotate does it.
        let to = ravelin.dir().join(format!("access.log.{}", 901 + renamed));
        if renamed < 90 && fs::rename(ravelin.dir().join("access.log"), to).is_ok() {
            renamed += 1;
            ravelin.signal("USR1");
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut ravelin = ravelin;
    ravelin.signal("TERM");
    assert!(ravelin.exit().success());
    let lines = all_lines(ravelin.dir());
    let mut seen = BTreeSet::new();
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1..], [&*filler, "end"], "{line}");
        assert!(seen.insert(words[0].to_owned()), "twice: {}", words[0]);
    }
    assert_eq!(seen.len(), 2000);
    assert!(renamed > 0, "the load was over before anything was renamed");
    assert!(ravelin.dir().join("access.log.1").exists(), "no file was large enough");
}
