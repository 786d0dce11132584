//! `ravelin top`.

use super::*;
use crate::harness::{Backend, Python, binary, site_of};

#[test]
fn its_numbers_add_up() {
    let (good, bad) = (Backend::new("good"), Backend::new("bad"));
    bad.set_status(500);
    let routes = format!(
        "[[sites.proxy.routes]]\npath = \"/bad\"\nupstream = \"other\"\n\
         [[sites.proxy.upstreams]]\nname = \"other\"\nurl = \"{}\"\n",
        bad.url()
    );
    let ravelin = Ravelin::start(&site_of(&[(good.url(), "")], &routes));
    let mut client = ravelin.client();
    for _ in 0..20 {
        client.get("/").expect(200);
    }
    for _ in 0..7 {
        client.get("/bad").expect(500);
    }
    let text = told(&ravelin, &["top", "--once"]);
    let row = |begins: &[&str]| -> Vec<f64> {
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut rows = text.lines().map(cells).filter(|row| row.starts_with(&begins.map_owned()));
        let row = rows.next().unwrap_or_else(|| panic!("{begins:?}: {text}"));
        row[begins.len()..].iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect()
    };
    // Requests a second, requests, 4xx, errors.
    for (begins, requests, errors) in [
        (&["-"][..], 27.0, 7.0),
        (&["test"], 27.0, 7.0),
        (&["test", "/"], 20.0, 0.0),
        (&["test", "/bad"], 7.0, 7.0),
        (&["test", "backend", &good.url()], 20.0, 0.0),
        (&["test", "other", &bad.url()], 7.0, 7.0),
    ] {
        let row = row(begins);
        assert_eq!((row[1], row[2], row[3]), (requests, 0.0, errors), "{begins:?}: {text}");
        assert!(row[0] > 0.0, "{text}");
    }
    assert!(text.contains("\n1 connections, 0 requests under way, 0 WebSockets\n"), "{text}");

    let json = Json::parse(&told(&ravelin, &["top", "--once", "--format", "json"]));
    for row in items(&json, "routes") {
        let buckets = items(row, "buckets").iter().map(Json::number).sum::<f64>();
        assert_eq!(buckets, row.get("requests").number(), "{row:?}");
    }
    assert_eq!(json.get("requests").number(), 27.0);
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|&one| one.to_owned()).collect()
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let origin = crate::harness::Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    let output = command(&ravelin, &["top"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("--once"), "{err}");
}

/// Runs `top` in a terminal of 24 lines, ends it as `key` says, and looks at what it leaves behind.
const IN_A_TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
binary, socket, key = sys.argv[1:4]
key = {'Ctrl-C': '\x03'}.get(key, key)
size = lambda rows, columns: struct.pack('HHHH', rows, columns, 0, 0)
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, size(24, 80))
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(binary, [binary, 'top', '--socket', socket])
shown = b''
def until(wanted, count=1):
    global shown
    end = time.time() + 20
    while shown.count(wanted) < count:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            shown += os.read(master, 65536)
        assert time.time() < end, (wanted, shown)
until(b'requests under way')
assert termios.tcgetattr(slave) != before
# Each second anew.
until(b'requests under way', 3)
fcntl.ioctl(slave, termios.TIOCSWINSZ, size(5, 20))
shown = b''
until(b'\x1b[H')
until(b'\x1b[J')
page = shown.split(b'\x1b[H')[-1].split(b'\x1b[J')[0]
lines = page.replace(b'\x1b[K', b'').replace(b'\x1b[1m', b'').replace(b'\x1b[0m', b'').split(b'\r\n')
assert len(lines) <= 5 and all(len(line) <= 20 for line in lines), lines
if key == 'TERM':
    os.kill(child, signal.SIGTERM)
else:
    os.write(master, key.encode())
until(b'\x1b[?1049l')
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert b'\x1b[?25h' in shown
assert termios.tcgetattr(slave) == before
print('port 1')
"#;

#[test]
fn it_gives_the_terminal_back_however_it_ends() {
    let origin = crate::harness::Origin::saying("fine");
    let ravelin = Ravelin::before(&origin);
    ravelin.get("/").expect(200);
    for key in ["q", "Ctrl-C", "TERM"] {
        let binary = binary();
        let (binary, socket) = (binary.to_str().unwrap(), socket(&ravelin));
        let arguments = [binary, socket.to_str().unwrap(), key];
        let program = format!("import sys\nsys.argv[1:] = {arguments:?}\n{IN_A_TERMINAL}");
        // It says so when all of it holds.
        Python::run(&program);
    }
}
