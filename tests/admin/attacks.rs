//! Clients of the admin API that are slow, do not read, send too much or ask too often: traffic goes on, and so
//! does the API for others.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{address, ask, get, request, socket};
use crate::harness::{Client, Json, Origin, Ravelin, site};

/// More than a listener takes at once.
const MANY: usize = 80;

fn ravelin(origin: &Origin) -> Ravelin {
    let toml = site(&[&origin.url()], "");
    Ravelin::start(&format!("{toml}\n[management]\nenabled = true\nport = 0\n"))
}

/// Traffic as it should be.
#[track_caller]
fn traffic(ravelin: &Ravelin, requests: usize) {
    let mut client = ravelin.client();
    for _ in 0..requests {
        assert_eq!(client.get("/").text(), "traffic");
    }
}

#[test]
fn slowloris_takes_places_of_its_own_listener_only() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let admin = address(&ravelin, "admin API");
    let slow: Vec<TcpStream> = (0..MANY)
        .map(|_| {
            let mut stream = TcpStream::connect(admin).unwrap();
            stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: local").unwrap();
            stream
        })
        .collect();
    traffic(&ravelin, 100);
    let status = get(&socket(&ravelin), "/v1/status");
    assert_eq!(status.get("generation").number(), 1.0);
    drop(slow);
    // As soon as they are gone there are places again.
    let answer =
        Client::connect(admin).ask(request("GET", "/v1/status", &admin.to_string(), "", ""));
    assert_eq!(answer.status, 200);
}

#[test]
fn who_asks_nothing_gives_way_to_who_asks() {
    let origin = Origin::saying("traffic");
    let more = "[management]\nenabled = true\nport = 0\nmetrics = \"127.0.0.1:0\"\n\
                [management.stats]\nlisten = \"127.0.0.1:0\"\n";
    let ravelin = Ravelin::start(&format!("{more}{}", site(&[&origin.url()], "")));
    for (what, path) in
        [("admin API", "/v1/status"), ("metrics", "/metrics"), ("stats page", "/haproxy?stats;csv")]
    {
        let at = address(&ravelin, what);
        let connect = |said: &str| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(said.as_bytes()).unwrap();
            stream
        };
        let ask = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n");
        // Nothing, a part of a head, and a head without its body.
        let heads = ["", &ask, &format!("{ask}Content-Length: 5\r\n\r\n")];
        let mut silent: Vec<TcpStream> = (0..MANY).map(|n| connect(heads[n % 2])).collect();
        assert_eq!(Client::connect(at).ask(format!("{ask}\r\n")).status, 200, "{what}");
        // Only so many had to go as there are more than places.
        let mut byte = [0];
        assert!(matches!(silent[0].read(&mut byte), Ok(0)), "{what}: the first is there");
        let later = &mut silent[MANY / 2];
        later.set_nonblocking(true).unwrap();
        let kept = later.read(&mut byte).expect_err("it was closed");
        assert_eq!(kept.kind(), ErrorKind::WouldBlock, "{what}");
        let _unfinished: Vec<TcpStream> = (0..MANY).map(|_| connect(heads[2])).collect();
        assert_eq!(Client::connect(at).ask(format!("{ask}\r\n")).status, 200, "{what}");
    }
    traffic(&ravelin, 10);
}

#[test]
fn sessions_of_text_commands_leave_the_socket_to_others() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let socket = socket(&ravelin);
    // Who follows is not idle, though nothing comes of it.
    let mut follower = Client::connect_unix(&socket);
    follower.send("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(follower.wire.until(b"\r\n\r\n").unwrap().starts_with(b"HTTP/1.1 200"));
    let session = |_| {
        let mut client = Client::connect_unix(&socket);
        client.send("prompt;set timeout cli 1h\n");
        client.wire.until(b"> \n> ").unwrap();
        client
    };
    let mut sessions: Vec<Client> = (0..MANY).map(session).collect();
    assert_eq!(ask(&socket, "GET", "/v1/status", "").status, 200);
    sessions[0].expect_close();
    let last = sessions.last_mut().unwrap();
    last.send("show version\n");
    last.wire.until(b"> ").unwrap();
    traffic(&ravelin, 1);
    follower.wire.until(b"event: exchange").unwrap();
}

#[test]
fn clients_that_never_read_hold_up_nobody() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let (socket, admin) = (socket(&ravelin), address(&ravelin, "admin API"));
    // Requests one after the other until nothing more is taken, and not a byte read.
    let asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200);
    let mut deaf: Vec<UnixStream> = Vec::new();
    for _ in 0..8 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_nonblocking(true).unwrap();
        let blocked = (0..10_000).any(|_| match stream.write(&asked) {
            Ok(_) => false,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        assert!(blocked, "the API takes whatever comes");
        deaf.push(stream);
    }
    traffic(&ravelin, 300);
    assert_eq!(ask(&socket, "GET", "/v1/status", "").status, 200);
    let answer =
        Client::connect(admin).ask(request("GET", "/v1/status", &admin.to_string(), "", ""));
    assert_eq!(answer.status, 200);
    drop(deaf);
}

#[test]
fn one_who_follows_and_does_not_read_misses_events_and_holds_up_nothing() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let socket = socket(&ravelin);
    let mut follower = UnixStream::connect(&socket).unwrap();
    follower.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    follower.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 15];
    follower.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // Long ones, so that few fill what lies between: one who reads nothing for 20 s is cut off instead.
    let mut client = ravelin.client();
    let target = format!("/{}", "x".repeat(600));
    for _ in 0..3000 {
        assert_eq!(client.get(&target).text(), "traffic");
    }
    // What it reads now says how much it missed.
    let mut text = String::new();
    let mut buffer = [0; 64 * 1024];
    while !text.contains("event: missed") {
        let length = follower.read(&mut buffer).expect("nothing was missed, or it is not told");
        assert!(length > 0, "the stream has ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(text.contains("\"target\":\"/xxx"), "{}", &text[..500]);
}

#[test]
fn only_so_many_may_follow() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let socket = socket(&ravelin);
    let follow = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status).into_owned(), stream)
    };
    let mut following: Vec<UnixStream> = Vec::new();
    for _ in 0..16 {
        let (status, stream) = follow();
        assert_eq!(status, "HTTP/1.1 200");
        following.push(stream);
    }
    assert_eq!(follow().0, "HTTP/1.1 503");
    traffic(&ravelin, 10);
    following.pop();
    crate::harness::until("there is a place again", || {
        // That one is gone is noticed when something is written to it.
        traffic(&ravelin, 1);
        follow().0 == "HTTP/1.1 200"
    });
}

#[test]
fn what_is_too_long_is_refused() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let socket = socket(&ravelin);
    let client = || Client::connect_unix(&socket);
    let long = "x".repeat(40 * 1024);
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n");
    assert_eq!(client().ask(head).status, 431);
    let fields: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let head = format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    assert_eq!(client().ask(head).status, 431);
    let target = format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!([414, 431].contains(&client().ask(target).status));

    let body = "#".repeat(4 * 1024 * 1024 + 1);
    assert_eq!(ask(&socket, "POST", "/v1/config/validate", &body).status, 413);
    assert_eq!(ask(&socket, "POST", "/v1/reload", &"#".repeat(65 * 1024)).status, 413);
    // The length that is said does not matter.
    let mut chunked = client();
    chunked.send(
        "PUT /v1/log-level HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let chunk = format!("4000\r\n{}\r\n", "#".repeat(0x4000));
    for _ in 0..5 {
        chunked.send(&chunk);
    }
    assert_eq!(chunked.response("PUT").status, 413);
    // Just as long as it may be is read, and no configuration.
    let body = "#".repeat(4 * 1024 * 1024);
    assert_eq!(ask(&socket, "POST", "/v1/config/validate", &body).status, 422);
    traffic(&ravelin, 10);
}

#[test]
fn nonsense_is_no_harm() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let (socket, admin) = (socket(&ravelin), address(&ravelin, "admin API"));
    let nonsense: [&[u8]; 6] = [
        b"\0\0\0\0\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
        b"GET / HTTP/1.1\r\n\0: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for bytes in nonsense {
        let mut client = Client::connect_unix(&socket);
        client.send(bytes);
        client.finish();
        let _whatever = client.wire.rest();
        let mut client = Client::connect(admin);
        client.send(bytes);
        client.finish();
        let _whatever = client.wire.rest();
    }
    traffic(&ravelin, 10);
    assert_eq!(get(&socket, "/v1/status").get("generation").number(), 1.0);
}

#[test]
fn many_who_ask_at_once_are_all_answered() {
    let origin = Origin::saying("traffic");
    let ravelin = ravelin(&origin);
    let socket = socket(&ravelin);
    let askers: Vec<_> = (0..32)
        .map(|_| {
            let socket = socket.clone();
            std::thread::spawn(move || {
                let mut client = Client::connect_unix(&socket);
                for path in ["/v1/status", "/v1/endpoints", "/v1/connections", "/metrics"].repeat(5)
                {
                    let answer = client.ask(request("GET", path, "localhost", "", ""));
                    assert_eq!(answer.status, 200, "{path}");
                    if answer.get("content-type") == Some("application/json") {
                        Json::parse(&answer.text());
                    }
                }
            })
        })
        .collect();
    traffic(&ravelin, 300);
    for asker in askers {
        asker.join().unwrap();
    }
}
