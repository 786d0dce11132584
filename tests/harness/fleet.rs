//! Origins that are processes of their own, so that what happens to real ones can happen to them:
//! they can be killed, stopped, restarted, and made to fail or to be slow while they run.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, Lines, require};

/// Several origins, each a process at an address of its own.
pub struct Fleet(Vec<OriginProcess>);

/// A Python program that answers every request after its service time with its number, a space, and
/// the body of the request.
pub struct OriginProcess {
    number: usize,
    service: Duration,
    addr: SocketAddr,
    child: Child,
}

impl Fleet {
    /// Starts so many and waits until all of them listen.
    #[track_caller]
    pub fn start(count: usize, service: Duration) -> Fleet {
        require("python3", &["--version"], "apt-get install python3");
        // Addresses that no client's socket gets by itself: a port stays free while nobody has it.
        let at = |number| SocketAddr::from(([127, 0, 0, 2 + number as u8], 0));
        let begun: Vec<_> = (0..count).map(|n| (n, launch(n, at(n), service))).collect();
        let complete = |(number, (child, stdout)): (usize, (Child, Lines))| {
            let addr = listens_at(&stdout);
            OriginProcess { number, service, addr, child }
        };
        Fleet(begun.into_iter().map(complete).collect())
    }

    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(OriginProcess::url).collect()
    }
}

impl std::ops::Deref for Fleet {
    type Target = [OriginProcess];

    fn deref(&self) -> &[OriginProcess] {
        &self.0
    }
}

impl std::ops::DerefMut for Fleet {
    fn deref_mut(&mut self) -> &mut [OriginProcess] {
        &mut self.0
    }
}

impl OriginProcess {
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Behaves like this from now on: "well", "failing" (500 to everything), "slow" (a hundred times
    /// the service time), "resetting" (no response but a reset).
    #[track_caller]
    pub fn become_(&self, what: &str) {
        self.ask(&format!("/become/{what}"));
    }

    /// How many requests it was asked, and the most connections and requests it had at once.
    #[track_caller]
    pub fn counts(&self) -> [usize; 3] {
        let text = self.ask("/counts");
        let numbers: Vec<usize> = text.split(' ').map(|number| number.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    #[track_caller]
    fn ask(&self, target: &str) -> String {
        Client::connect(self.addr).get(target).expect(200).text()
    }

    /// Ends it at once (SIGKILL); what it was doing breaks off.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Holds it (SIGSTOP): the system still takes connections for it, and nobody answers.
    pub fn hold(&self) {
        self.signal(Signal::STOP);
    }

    /// Asks it to end (SIGTERM) and waits: it listens no more, closes the connections that are idle,
    /// answers what it was asked and closes those, too.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "an origin ended with {status}");
    }

    /// Starts it again where it was, and waits until it listens.
    #[track_caller]
    pub fn start_again(&mut self) {
        let (child, stdout) = launch(self.number, self.addr, self.service);
        self.child = child;
        assert_eq!(listens_at(&stdout), self.addr);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(number: usize, addr: SocketAddr, service: Duration) -> (Child, Lines) {
    let service = service.as_secs_f64().to_string();
    let mut command = Command::new("python3");
    command.args(["-u", "-c", ORIGIN, &number.to_string()]);
    command.args([&addr.ip().to_string(), &addr.port().to_string(), &service]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = Lines::read(child.stdout.take().unwrap());
    (child, stdout)
}

#[track_caller]
fn listens_at(stdout: &Lines) -> SocketAddr {
    stdout.line_with(&["at "]).strip_prefix("at ").unwrap().parse().unwrap()
}

const ORIGIN: &str = r#"
import asyncio, re, signal, socket, struct, sys

number, address, port, service = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
loop = asyncio.new_event_loop()
state, ending = "well", False
connections, most_connections = set(), 0
asked = busy = most_busy = 0

class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        global most_connections
        self.transport, self.received = transport, b""
        self.busy = self.counts = self.blocked = False
        transport.set_write_buffer_limits(high=0)
        connections.add(self)
        most_connections = max(most_connections, len(connections))

    def connection_lost(self, error):
        connections.discard(self)
        self.is_done()
        if ending and not connections:
            loop.stop()

    def data_received(self, data):
        self.received += data
        self.take_request()

    def take_request(self):
        global state, asked, busy, most_busy
        end = self.received.find(b"\r\n\r\n") + 4
        if self.busy or end < 4:
            return
        head = self.received[:end]
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        whole = end + (int(length[1]) if length else 0)
        if len(self.received) < whole:
            return
        body, self.received = self.received[end:whole], self.received[whole:]
        target = head.split(b" ", 2)[1].decode()
        self.busy = True
        if target.startswith("/become/"):
            state = target[8:]
            return self.answer(200, b"")
        if target == "/counts":
            return self.answer(200, b"%d %d %d" % (asked, most_connections, most_busy))
        asked += 1
        busy += 1
        most_busy = max(most_busy, busy)
        self.counts = True
        if state == "resetting":
            at_once = struct.pack("ii", 1, 0)
            ours = self.transport.get_extra_info("socket")
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            return self.transport.abort()
        size = re.match(r"/bytes/(\d+)", target)
        body = bytes(range(256)) * (int(size[1]) // 256) if size else number.encode() + b" " + body
        status = 500 if state == "failing" else 200
        loop.call_later(service * (100 if state == "slow" else 1), self.answer, status, body)

    def answer(self, status, body):
        if self.transport.is_closing():
            return
        close = "Connection: close\r\n" if ending else ""
        head = f"HTTP/1.1 {status} Made up\r\nContent-Length: {len(body)}\r\n{close}\r\n"
        self.transport.write(head.encode() + body)
        # Else when the system has taken all of it.
        if not self.blocked:
            self.is_sent()

    def pause_writing(self):
        self.blocked = True

    def resume_writing(self):
        self.blocked = False
        self.is_sent()

    def is_sent(self):
        self.is_done()
        if ending:
            self.transport.close()
        else:
            self.take_request()

    def is_done(self):
        global busy
        busy -= self.counts
        self.busy = self.counts = False

async def main():
    server = await loop.create_server(Connection, address, port, backlog=1024)
    def end():
        global ending
        ending = True
        server.close()
        for connection in list(connections):
            if not connection.busy and not connection.received:
                connection.transport.close()
        if not connections:
            loop.stop()
    loop.add_signal_handler(signal.SIGTERM, end)
    print("at %s:%d" % server.sockets[0].getsockname())
    return server

keep = loop.create_task(main())
loop.run_forever()
"#;
