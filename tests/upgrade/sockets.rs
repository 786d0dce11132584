//! What goes over: addresses of every kind, whatever the number of workers, and the keys that sessions and
//! cookies are made with.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::deaths::held_at_its_configuration;
use super::*;

#[test]
fn a_unix_socket_goes_over_with_its_file() {
    let origin = Origin::saying("served");
    let setup = Setup::new("");
    let path = setup.dir().join("own.sock");
    let listen = format!("unix:{}", path.display());
    let toml = site(&[&origin.url()], "").replace("127.0.0.1:0", &listen);
    let mut place = Place::of(setup.file("ravelin.toml", toml));
    let inode = || fs::metadata(&path).unwrap().ino();
    let before = inode();
    let new = place.upgrade();
    place.await_end();
    assert_eq!(inode(), before, "the old process leaves the file");
    Client::connect_unix(&path).get("/").expect(200);
    let newer = place.upgrade_from(new);
    until("the end of the second process", || !lives(new));
    Client::connect_unix(&path).get("/").expect(200);
    // The last one removes it.
    send_signal(newer, "TERM");
    until("the end of the last process", || !lives(newer));
    assert!(!path.exists());
}

#[test]
fn the_number_of_workers_may_change() {
    let origin = Origin::saying("served");
    let workers = |number: usize| {
        format!("[performance]\nworker_threads = {number}\n{}", site(&[&origin.url()], ""))
    };
    let mut place = Place::new(&workers(2));
    let mut pid = place.ravelin.pid();
    for number in [4, 1, 3] {
        fs::write(place.ravelin.dir().join("ravelin.toml"), workers(number)).unwrap();
        let mut clients: Vec<Client> = (0..16).map(|_| place.ravelin.client()).collect();
        let new = place.upgrade_from(pid);
        clients.extend((0..64).map(|_| place.ravelin.client()));
        for mut client in clients {
            client.get("/").expect(200);
        }
        let before = pid;
        pid = new;
        match before == place.ravelin.pid() {
            true => place.await_end(),
            false => until("the end of the process before", || !lives(before)),
        }
        place.said(&[&format!("{number} worker")]);
    }
}

#[test]
fn addresses_may_come_and_go() {
    let origin = Origin::saying("served");
    let listening = |listen: &str| site(&[&origin.url()], "").replace("\"127.0.0.1:0\"", listen);
    let setup = Setup::new(&listening("\"127.0.0.1:0\", \"127.0.0.2:0\"")).listeners(2);
    let mut place = Place::of(setup);
    let gone = place.ravelin.addr_on("127.0.0.2");
    let port = free_port();
    let changed = listening(&format!("\"127.0.0.1:0\", \"127.0.0.3:{port}\""));
    fs::write(place.ravelin.dir().join("ravelin.toml"), changed).unwrap();
    place.upgrade();
    place.await_end();
    place.ravelin.get("/").expect(200);
    Client::connect(format!("127.0.0.3:{port}").parse().unwrap()).get("/").expect(200);
    assert!(TcpStream::connect(gone).is_err());
}

/// An origin that keeps requests for `/slow`.
struct Keeping {
    /// They are answered when this is dropped.
    keeps: Sender<()>,
    arrived: Receiver<()>,
    origin: Origin,
}

impl Keeping {
    fn new() -> Keeping {
        let ((came, arrived), (keeps, kept)) = (channel(), channel::<()>());
        let kept = Mutex::new(kept);
        let origin = Origin::serve(move |request| {
            if request.target == "/slow" {
                let _ = came.send(());
                let _ = kept.lock().unwrap().recv();
            }
            ok("served")
        });
        Keeping { keeps, arrived, origin }
    }

    /// A site that is listened for at its usual address and at these.
    fn site(&self, more: &str) -> String {
        let listen = format!("\"127.0.0.1:0\"{more}");
        site(&[&self.origin.url()], "").replace("\"127.0.0.1:0\"", &listen)
    }

    /// A client that waits for an answer of the process that serves.
    fn client(&self, place: &Place) -> Client {
        let mut client = place.ravelin.client();
        client.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n");
        next(&self.arrived, "the request at the origin");
        client
    }

    /// Answers it.
    fn answer(self, mut client: Client) {
        drop(self.keeps);
        client.response("GET").expect(200);
    }
}

#[test]
fn an_address_that_the_new_process_gives_up_is_nobodys() {
    let keeping = Keeping::new();
    let second = format!(", \"127.0.0.2:{}\"", free_port());
    let setup = Setup::new(&keeping.site(&format!("{second}, \"127.0.0.3:0\""))).listeners(3);
    let mut place = Place::of(setup);
    let before = keeping.site(&second);
    let [second, third] = ["127.0.0.2", "127.0.0.3"].map(|host| place.ravelin.addr_on(host));
    let active = keeping.client(&place);
    let refused = |place: &Place, addr: SocketAddr| {
        place.said(&[&format!("does not listen on {addr}"), "closed here too"]);
        until("nobody who listens", || TcpStream::connect(addr).is_err());
    };
    // By the upgrade.
    let file = place.ravelin.dir().join("ravelin.toml");
    fs::write(&file, &before).unwrap();
    let new = place.upgrade();
    refused(&place, third);
    Client::connect(second).get("/").expect(200);
    // By a reload of the new process.
    fs::write(&file, keeping.site("")).unwrap();
    send_signal(new, "HUP");
    refused(&place, second);
    assert!(place.ravelin.runs(), "the old process has a request under way");
    // What is left is served by either.
    send_signal(new, "KILL");
    place.said(&["has died", "this one goes on"]);
    place.ravelin.get("/").expect(200);
    // And what comes back, by the old one too.
    fs::write(&file, &before).unwrap();
    send_signal(place.ravelin.pid(), "HUP");
    until("somebody who listens", || TcpStream::connect(second).is_ok());
    Client::connect(second).get("/").expect(200);
    keeping.answer(active);
}

#[test]
fn an_address_that_was_given_up_comes_back_with_watched_files() {
    let keeping = Keeping::new();
    let watching = |more: &str| format!("{}\n[reload]\nwatch = true\n", keeping.site(more));
    let before = watching(&format!(", \"127.0.0.2:{}\"", free_port()));
    let mut place = Place::of(Setup::new(&before).listeners(2));
    let second = place.ravelin.addr_on("127.0.0.2");
    let active = keeping.client(&place);
    let new = place.upgrade();
    let file = place.ravelin.dir().join("ravelin.toml");
    fs::write(&file, watching("")).unwrap();
    send_signal(new, "HUP");
    place.said(&[&format!("does not listen on {second}"), "closed here too"]);
    // The old one has seen the change, which it does not take.
    place.said(&["not reloaded: another process serves"]);
    send_signal(new, "KILL");
    place.said(&["has died", "this one goes on"]);
    assert!(TcpStream::connect(second).is_err());
    // As they were when the old one was started.
    fs::write(&file, &before).unwrap();
    until("somebody who listens", || TcpStream::connect(second).is_ok());
    Client::connect(second).get("/").expect(200);
    keeping.answer(active);
}

#[test]
fn the_file_of_a_unix_socket_that_is_given_up_is_removed() {
    let keeping = Keeping::new();
    let setup = Setup::new("").listeners(2);
    let path = setup.dir().join("own.sock");
    let both = keeping.site(&format!(", \"unix:{}\"", path.display()));
    let mut place = Place::of(setup.file("ravelin.toml", &both));
    Client::connect_unix(&path).get("/").expect(200);
    let active = keeping.client(&place);
    let file = place.ravelin.dir().join("ravelin.toml");
    fs::write(&file, keeping.site("")).unwrap();
    let new = place.upgrade();
    until("the end of the file", || !path.exists());
    place.said(&["does not listen on", "own.sock", "closed here too"]);
    // The old one makes it anew when it is to.
    send_signal(new, "KILL");
    place.said(&["has died", "this one goes on"]);
    fs::write(&file, &both).unwrap();
    send_signal(place.ravelin.pid(), "HUP");
    until("the file", || UnixStream::connect(&path).is_ok());
    Client::connect_unix(&path).get("/").expect(200);
    keeping.answer(active);
}

#[test]
fn every_address_that_is_given_up_is_told_of_although_nobody_listens_at_first() {
    let keeping = Keeping::new();
    let port = free_port();
    let addresses: Vec<SocketAddr> = (0..400_u16)
        .map(|number| ([127, 0, 2 + (number / 200) as u8, 1 + (number % 200) as u8], port).into())
        .collect();
    let more: String = addresses.iter().map(|address| format!(", \"{address}\"")).collect();
    let one_worker = |toml: String| format!("[performance]\nworker_threads = 1\n{toml}");
    let mut place = Place::new(&one_worker(keeping.site(&more)));
    let active = keeping.client(&place);
    let (new, mut writer, _) = held_at_its_configuration(&place);
    place.successors.push(new);
    // More than there is room for is said to a process that does not run.
    send_signal(place.ravelin.pid(), "STOP");
    writer.write_all(one_worker(keeping.site("")).as_bytes()).unwrap();
    drop(writer);
    place.said(&["the process before listens on"]);
    send_signal(place.ravelin.pid(), "CONT");
    for address in addresses {
        until("nobody who listens", || TcpStream::connect(address).is_err());
    }
    assert!(place.ravelin.runs(), "the old process has a request under way");
    keeping.answer(active);
}

#[test]
fn sessions_of_tls_are_resumed_by_the_new_process() {
    const HOST: &str = "a.example.com";
    let authority = Authority::new();
    let origin = Origin::saying("served");
    let setup = Setup::new(&tls_site(HOST, "", &origin.url()));
    let mut place = Place::of(setup.pair(HOST, &authority.server(&[HOST])));
    for client in [TlsClient::trusting(&authority), TlsClient::tls12(&authority)] {
        let resumes = |place: &Place| {
            let mut connection = client.connect(place.ravelin.addr(), HOST);
            // The ticket comes before the response.
            connection.get_from(HOST, "/").expect(200);
            connection.tls().handshake_kind() == Some(rustls::HandshakeKind::Resumed)
        };
        assert!(!resumes(&place));
        assert!(resumes(&place));
        let old = place.successors.last().copied().unwrap_or(place.ravelin.pid());
        place.upgrade_from(old);
        assert!(resumes(&place), "the new process knows the key");
        until("the end of the old process", || !lives(old));
        assert!(resumes(&place));
    }
}

#[test]
fn sticky_cookies_are_good_at_the_new_process() {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::saying(name)).collect();
    let urls: Vec<String> = origins.iter().map(Origin::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let sticky = "[sites.proxy.load_balancing]\nsticky_sessions = true\n";
    let mut place = Place::new(&site(&urls, sticky));
    let first = place.ravelin.get("/").expect(200);
    let cookie = first.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    place.upgrade();
    place.await_end();
    let mut client = place.ravelin.client();
    for _ in 0..6 {
        let request = format!("GET / HTTP/1.1\r\nHost: example.com\r\nCookie: {cookie}\r\n\r\n");
        let again = client.ask(request).expect(200);
        assert_eq!(again.text(), first.text());
        assert!(!again.head.has("set-cookie"));
    }
}
