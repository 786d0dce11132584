//! What hostile HTTP/2 clients do. Each attack is made over several connections at once where that
//! makes it worse; meanwhile honest requests on other connections succeed, and the process stays
//! small.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::*;

/// What the process may hold at any time, in KiB.
const MEMORY_MAX: u64 = 256 * 1024;

/// CPU time that one connection of an attack may cost, in times of what it costs to serve an honest
/// client over HTTP/2 and one over HTTP/1, each with a connection of its own. An attacker has to
/// connect anew for more.
const COST_MAX: u32 = 300;

/// How many honest clients the measure of that is taken from.
const HONEST: u32 = 20;

/// A Ravelin that takes HTTP/2 before an origin, with these limits.
struct Target {
    origin: Origin,
    ravelin: Ravelin,
}

impl Target {
    #[track_caller]
    fn new(origin: Origin, limits: &str) -> Target {
        let site = site_with("h2c = true", &[&origin.url()], "");
        // One worker: whoever is honest shares it with the attackers.
        let logging = "[logging]\nlog_requests = false\n[performance]\nworker_threads = 1";
        let ravelin = Ravelin::start(&format!("[limits]\n{limits}\n{logging}\n{site}"));
        Target { origin, ravelin }
    }

    fn addr(&self) -> SocketAddr {
        self.ravelin.addr()
    }

    /// Runs the attack on `connections` connections at once, and honest clients beside it.
    #[track_caller]
    fn endures(&self, connections: usize, attack: impl Fn(Http2) + Sync) {
        let addr = self.addr();
        let cpu = || cpu_time(self.ravelin.pid());
        let start = cpu();
        (0..HONEST).for_each(|_| self.is_well());
        let (start, price) = (cpu(), (cpu() - start) / HONEST);
        let mut honest = 0;
        std::thread::scope(|scope| {
            let attackers: Vec<_> =
                (0..connections).map(|_| scope.spawn(|| attack(Http2::connect(addr)))).collect();
            while attackers.iter().any(|attacker| !attacker.is_finished()) {
                self.is_well();
                honest += 1;
            }
            for attacker in attackers {
                attacker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        self.is_well();
        // CPU time does not depend on how busy the machine is, but for its caches.
        let used = cpu() - start;
        let count = u32::try_from(connections).unwrap();
        println!(
            "{used:?} for {count} attackers and {honest} honest rounds of {price:?}: {} each",
            used.saturating_sub(price * honest).as_nanos() / price.as_nanos() / u128::from(count)
        );
        let allowed = price * (COST_MAX * count + 3 * (honest + 1));
        assert!(used < allowed, "{used:?} of CPU, where an honest round costs {price:?}");
    }

    /// Honest clients are served and the process is small.
    #[track_caller]
    fn is_well(&self) {
        let answer = Http2::connect(self.addr()).get(1, "/honest");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"honest"[..]));
        self.ravelin.get("/honest").expect(200);
        let peak = memory_kib(self.ravelin.pid(), "VmHWM");
        assert!(peak < MEMORY_MAX, "the process grew to {peak} KiB");
    }
}

/// Answers honest requests; all others as `other` says.
fn origin(other: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    Origin::serve(move |request| match request.target.as_str() {
        "/honest" => ok("honest"),
        _ => other(request),
    })
}

fn quick() -> Origin {
    origin(|_| ok("quick"))
}

/// An origin that answers with more than any window or buffer holds.
fn large() -> Origin {
    Origin::script(|conn| {
        let piece = [b'x'; 16 * 1024];
        while let Ok(request) = conn.try_request() {
            if request.target == "/honest" {
                let _ = conn.try_send(ok("honest"));
                continue;
            }
            let _ = conn.try_send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
            for _ in 0..512 {
                if conn.try_send(piece).is_err() {
                    return;
                }
            }
        }
    })
}

/// Sends `frames` again and again until the connection ends; it has to, with ENHANCE_YOUR_CALM where
/// the client gets to see why.
#[track_caller]
fn flood(mut client: Http2, frames: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while client.send(frames) {
        assert!(Instant::now() < deadline, "a flood is taken for ever");
    }
    calmed(client);
}

#[track_caller]
fn calmed(mut client: Http2) {
    let code = client.goaway_code();
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&with_method("POST", "/upload")))
}

#[test]
fn a_client_that_ends_in_its_preface_is_let_go_at_once() {
    // Nobody may look for the rest, which never comes, until the time for a head is over.
    let target = Target::new(quick(), "head_timeout = 60");
    for len in [0, 1, 10, PREFACE.len() - 1] {
        let mut client = target.ravelin.client();
        client.send(&PREFACE[..len]).finish();
        let rest = client.wire.rest();
        assert!(matches!(rest, Ok(_) | Err(Broken::Reset)), "after {len} bytes: {rest:?}");
    }
    assert_eq!(target.origin.requests().len(), 0);
    target.is_well();
}

#[test]
fn cve_2019_9512_ping_flood() {
    let target = Target::new(quick(), "");
    let pings = frame(PING, 0, 0, [0; 8]).repeat(1000);
    target.endures(4, |client| flood(client, &pings));
}

#[test]
fn cve_2019_9512_ping_flood_of_a_client_that_reads_nothing() {
    let target = Target::new(quick(), "body_grace = 1");
    let pings = frame(PING, 0, 0, [0; 8]).repeat(100_000);
    target.endures(4, |mut client| {
        client.send(&pings);
        assert!(client.goaway_code() != Some(NO_ERROR));
    });
}

#[test]
fn cve_2019_9513_priority_churn() {
    let target = Target::new(quick(), "");
    let frames: Vec<u8> =
        (0..1000).flat_map(|i| frame(PRIORITY, 0, 2 * i + 1, [0, 0, 0, 0, 16])).collect();
    target.endures(4, |client| flood(client, &frames));
}

#[test]
fn cve_2019_9514_reset_flood_by_requests_that_are_malformed() {
    let target = Target::new(quick(), "");
    target.endures(4, |mut client| {
        let mut fields = get_fields("/");
        fields.push(("connection", "close"));
        let block = block(&fields);
        let frames: Vec<u8> = (0..2000)
            .flat_map(|i| frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, &block))
            .collect();
        client.send(frames);
        calmed(client);
    });
}

#[test]
fn cve_2019_9515_settings_flood() {
    let target = Target::new(quick(), "");
    let empty = frame(SETTINGS, 0, 0, []).repeat(1000);
    target.endures(4, |client| flood(client, &empty));
    // Each of these would have every stream's window moved 2730 times.
    let many = settings(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 100_000)].repeat(1300));
    let many = frame(SETTINGS, 0, 0, many).repeat(10);
    target.endures(4, |client| flood(client, &many));
}

#[test]
fn cve_2019_9516_headers_without_names_or_values() {
    let target = Target::new(quick(), "");
    target.endures(4, |mut client| {
        let fields = [get_fields("/"), vec![("", ""); 2000]].concat();
        let block = block(&fields);
        for stream in 0..2000 {
            if !client.frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block) {
                break;
            }
        }
        assert!(client.goaway_code() != Some(NO_ERROR));
    });
}

#[test]
fn cve_2019_9511_data_dribbled_by_tiny_windows() {
    let target = Target::new(large(), "body_grace = 1");
    target.endures(4, |_| {
        let mut client = Http2::connect_with(target.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
        for stream in 0..100 {
            client.open(2 * stream + 1, &get_fields("/large"));
        }
        let updates: Vec<u8> =
            (0..100).flat_map(|i| frame(WINDOW_UPDATE, 0, 2 * i + 1, [0, 0, 0, 1])).collect();
        flood(client, &updates);
    });
}

#[test]
fn cve_2019_9517_windows_wide_open_and_nothing_read() {
    let target = Target::new(large(), "body_grace = 1");
    target.endures(8, |_| {
        let most = 0x7fff_ffff - 65_535_u32;
        let mut client = Http2::connect_with(target.addr(), &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
        client.frame(WINDOW_UPDATE, 0, 0, most.to_be_bytes());
        for stream in 0..100 {
            client.open(2 * stream + 1, &get_fields("/large"));
        }
        // Reads nothing until Ravelin has given it up, which its writes then show.
        let deadline = Instant::now() + PATIENCE;
        let gone = |client: &mut Http2| !client.frame(PING, ACK, 0, [0; 8]);
        while !gone(&mut client) {
            assert!(Instant::now() < deadline, "a client that reads nothing is kept for ever");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn cve_2019_9518_and_rustsec_2026_0258_empty_frames() {
    let target = Target::new(origin(|request| ok(&request.body.len().to_string())), "");
    let empty = frame(DATA, 0, 1, []).repeat(1000);
    target.endures(4, |mut client| {
        client.send(post(1));
        flood(client, &empty);
    });
    let padded = frame(DATA, PADDED, 1, [0; 1]).repeat(1000);
    target.endures(4, |mut client| {
        client.send(post(1));
        flood(client, &padded);
    });
    let unknown = frame(0xee, 0, 1, []).repeat(1000);
    target.endures(4, |client| flood(client, &unknown));
}

#[test]
fn cve_2023_44487_rapid_reset() {
    let target = Target::new(
        origin(|_| {
            std::thread::sleep(Duration::from_millis(20));
            ok("slow")
        }),
        "",
    );
    let block = block(&get_fields("/"));
    // In one burst, and stream by stream so that each request is begun.
    for size in [1000, 1] {
        target.endures(4, |mut client| {
            let mut stream = 1;
            let deadline = Instant::now() + PATIENCE;
            loop {
                let mut frames = Vec::new();
                for _ in 0..size {
                    frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
                    frames.extend(frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes()));
                    stream += 2;
                }
                if !client.send(frames) {
                    break;
                }
                assert!(Instant::now() < deadline, "streams may be given up for ever");
            }
            calmed(client);
        });
    }
    // A few hundred requests at the origin are no more than honest clients make.
    assert!(target.origin.connections() < 4000, "{}", target.origin.connections());
}

#[test]
fn cve_2023_44487_a_stream_counts_until_its_upstream_is_free() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = origin(move |_| {
        held.pass();
        Vec::new()
    });
    let target = Target::new(origin, "http2_streams = 10");
    let mut client = Http2::connect(target.addr());
    for stream in 0..100 {
        client.open(2 * stream + 1, &get_fields("/"));
        client.frame(RST_STREAM, 0, 2 * stream + 1, CANCEL.to_be_bytes());
        client.ping();
        // What was given up is freed at once, so never more than the limit are at work.
    }
    assert_eq!(client.get(1001, "/honest").status, 200);
    gate.open();
}

#[test]
fn cve_2025_8671_made_you_reset() {
    let target = Target::new(quick(), "");
    let block = block(&with_method("POST", "/"));
    let attacks: [fn(u32) -> Vec<u8>; 3] = [
        // A window update of nothing, one that overflows, DATA that is too long.
        |stream| frame(WINDOW_UPDATE, 0, stream, [0; 4]),
        |stream| frame(WINDOW_UPDATE, 0, stream, [0x7f, 0xff, 0xff, 0xff]),
        |stream| frame(HEADERS, END_HEADERS, stream, [0x00, 1, b'x', 1, b'y']),
    ];
    for attack in attacks {
        target.endures(2, |mut client| {
            let deadline = Instant::now() + PATIENCE;
            let mut stream = 1;
            loop {
                let open = frame(HEADERS, END_HEADERS, stream, &block);
                if !client.send([open, attack(stream)].concat()) {
                    break;
                }
                stream += 2;
                assert!(Instant::now() < deadline, "resets may be provoked for ever");
            }
            let code = client.goaway_code();
            assert_ne!(code, Some(NO_ERROR));
        });
    }
}

#[test]
fn cve_2024_27316_continuation_flood() {
    let target = Target::new(quick(), "");
    let begin = frame(HEADERS, END_STREAM, 1, block(&get_fields("/")));
    for part in [block(&[("x", "y")]).repeat(1000), Vec::new(), vec![0]] {
        let parts = frame(CONTINUATION, 0, 1, &part).repeat(100);
        target.endures(4, |mut client| {
            client.send(&begin);
            let deadline = Instant::now() + PATIENCE;
            while client.send(&parts) {
                assert!(Instant::now() < deadline, "a header block never has to end");
            }
            assert_ne!(client.goaway_code(), Some(NO_ERROR));
        });
    }
}

#[test]
fn cve_2024_27316_a_header_block_that_takes_its_time() {
    let target = Target::new(quick(), "head_timeout = 1");
    target.endures(4, |mut client| {
        client.send(frame(HEADERS, END_STREAM, 1, block(&get_fields("/"))));
        let start = Instant::now();
        while client.frame(CONTINUATION, 0, 1, []) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(300));
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        calmed(client);
    });
    // Also when the frame itself does not end.
    target.endures(4, |mut client| {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&get_fields("/")))[..20]);
        calmed(client);
    });
}

/// A block that puts one large field into the table and then refers to it with a byte each time.
fn bomb(value: usize, times: usize) -> Vec<u8> {
    // The three pseudo-fields from the static table, and the host.
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 4];
    block.extend_from_slice(b"host");
    block.push(0x40);
    let value = "v".repeat(value);
    block.extend_from_slice(&string("n"));
    block.extend_from_slice(&string(&value));
    block.extend(std::iter::repeat_n(0xbe, times));
    block
}

fn string(text: &str) -> Vec<u8> {
    block(&[(text, "")])[1..].split_last().map(|(_, rest)| rest.to_vec()).unwrap()
}

#[test]
fn cve_2016_6581_and_cve_2026_49975_header_bombs() {
    let target = Target::new(large(), "body_grace = 1");
    // Few large fields and many tiny ones, many streams, no window to answer into.
    for (value, times) in [(3900, 12_000), (3900, 9), (1, 800), (0, 14_000)] {
        let block = bomb(value, times);
        target.endures(8, |_| {
            let mut client = Http2::connect_with(target.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
            for stream in 0..128 {
                if !client.frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block) {
                    break;
                }
            }
            // Every stream is refused or the connection ends, soon.
            let mut open = 128;
            while open > 0 {
                match client.next_frame() {
                    Ok(frame)
                        if frame.kind == RST_STREAM || frame.has(END_STREAM) && frame.kind < 2 =>
                    {
                        open -= 1;
                    }
                    Ok(_) => {}
                    Err(Gone::Closed) => break,
                    Err(Gone::Silent) => panic!("{open} streams of {value} bytes stay open"),
                }
            }
        });
    }
    assert!(target.origin.requests().iter().all(|request| request.target == "/honest"));
}

#[test]
fn cve_2026_49975_requests_within_the_limits_and_no_window() {
    let target = Target::new(large(), "body_grace = 1\nfields = 100");
    // Ninety fields of three hundred bytes from one byte each, on every stream.
    let block = bomb(300, 90);
    target.endures(16, |_| {
        let mut client = Http2::connect_with(target.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
        for stream in 0..128 {
            client.frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block);
        }
        // No window ever comes: each of the streams ends nevertheless. More than a megabyte of heads
        // is not held, so some are refused, which a client may try again.
        let ended = |frame: &Frame| frame.kind == RST_STREAM || frame.has(END_STREAM);
        let codes: Vec<u32> = (0..128)
            .map(|_| client.until(|frame| frame.kind != SETTINGS && ended(frame)))
            .map(|frame| frame.code())
            .collect();
        let refused = codes.iter().filter(|code| **code == REFUSED_STREAM).count();
        assert!((64..128).contains(&refused), "{refused} refused");
    });
}

#[test]
fn a_stream_that_is_refused_for_want_of_room_is_logged() {
    let origin = large();
    let site = site_with("h2c = true", &[&origin.url()], "");
    let ravelin = Ravelin::start(&format!("[limits]\nbody_grace = 1\nfields = 100\n{site}"));
    let block = bomb(300, 90);
    let mut client = Http2::connect_with(ravelin.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
    for stream in 0..128 {
        client.frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &block);
    }
    client.until(|frame| frame.kind == RST_STREAM && frame.code() == REFUSED_STREAM);
    ravelin.stdout.line_with(&["\"GET / HTTP/2.0\" 503 ", "ended=client", "cause=limit"]);
}

#[test]
fn cve_2023_43622_a_stream_without_a_window_ends() {
    let target = Target::new(large(), "body_grace = 1");
    target.endures(4, |_| {
        let mut client = Http2::connect_with(target.addr(), &[(INITIAL_WINDOW_SIZE, 0)]);
        let start = Instant::now();
        client.open(1, &get_fields("/large"));
        client.reset_code(1);
        let time = start.elapsed();
        assert!(time > Duration::from_millis(900) && time < Duration::from_secs(5), "{time:?}");
        // And so does one whose window is used up, or that only the connection holds up.
        let mut client = Http2::connect(target.addr());
        client.generous = false;
        client.open(1, &get_fields("/large"));
        client.reset_code(1);
        client.frame(WINDOW_UPDATE, 0, 0, [0, 1, 0, 0]);
        assert_eq!(client.get(3, "/honest").status, 200);
    });
}

#[test]
fn cve_2023_43622_an_upload_that_stalls_ends() {
    let target = Target::new(quick(), "body_grace = 1");
    target.endures(4, |mut client| {
        client.send(post(1));
        client.frame(DATA, 0, 1, "a");
        let answer = client.try_response(1);
        assert!(answer.is_ok_and(|answer| answer.status == 408));
    });
}

#[test]
fn cve_2026_26311_and_26330_frames_after_the_end_of_a_stream() {
    let target = Target::new(quick(), "");
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("x", "y")]));
    let reset = frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes());
    for (what, frames) in [
        ("DATA after RST_STREAM", [post(1), reset.clone(), frame(DATA, 0, 1, "abc")].concat()),
        ("RST_STREAM twice", [post(1), reset.clone(), reset.clone()].concat()),
        ("trailers twice", [post(1), trailers.clone(), trailers.clone()].concat()),
        ("trailers after RST_STREAM", [post(1), reset.clone(), trailers.clone()].concat()),
        (
            "trailers without an end",
            [post(1), frame(HEADERS, END_HEADERS, 1, block(&[("x", "y")]))].concat(),
        ),
        ("DATA after trailers", [post(1), trailers, frame(DATA, 0, 1, "abc")].concat()),
    ] {
        let mut client = Http2::connect(target.addr());
        client.send(frames);
        client.frame(PING, 0, 0, *b"12345678");
        // Either the connection goes on, or it ends with an error.
        let answer = loop {
            match client.next_frame() {
                Ok(frame) if frame.kind == PING && frame.has(ACK) => break None,
                Ok(frame) if frame.kind == GOAWAY => break Some(frame.code()),
                Ok(_) => {}
                Err(gone) => panic!("{what}: {gone:?}"),
            }
        };
        assert!(
            matches!(answer, None | Some(PROTOCOL_ERROR | STREAM_CLOSED)),
            "{what}: {answer:?}"
        );
    }
    target.is_well();
}

#[test]
fn cve_2026_27141_no_frame_makes_it_panic() {
    let target = Target::new(quick(), "body_grace = 1\nhead_timeout = 1");
    // That nothing panicked is asserted when Ravelin ends.
    for seed in 0..300 {
        let noise = pattern(4096, seed + 1);
        let mut bytes = noise.iter();
        let mut next = || u32::from(*bytes.next().unwrap());
        let mut client = Http2::connect(target.addr());
        let fields = block(&with_method("POST", "/"));
        for _ in 0..40 {
            let kind = (next() % 11) as u8;
            let stream = [0, 1, 3, 5, 7, 2, 0x7fff_ffff][next() as usize % 7];
            let payload = match next() % 4 {
                0 => fields.clone(),
                1 => vec![0; (next() % 20) as usize],
                _ => (0..next() % 24).map(|_| next() as u8).collect(),
            };
            client.frame(kind, next() as u8, stream, payload);
        }
    }
    target.is_well();
}

#[test]
fn cve_2021_32778_giving_up_many_streams_at_once_is_quick() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = origin(move |_| {
        held.pass();
        Vec::new()
    });
    let target = Target::new(origin, "");
    let start = Instant::now();
    for _ in 0..20 {
        let mut client = Http2::connect(target.addr());
        for stream in 0..100 {
            client.open(2 * stream + 1, &get_fields("/"));
        }
        client.ping();
        for stream in 0..100 {
            client.frame(RST_STREAM, 0, 2 * stream + 1, CANCEL.to_be_bytes());
        }
        client.ping();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    gate.open();
    target.is_well();
}

#[test]
fn cve_2022_41721_an_upgrade_to_h2c_is_neither_taken_nor_forwarded() {
    let target = Target::new(quick(), "");
    let mut client = target.ravelin.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    client.response("GET").expect(200);
    let request = target.origin.request(0);
    assert!(!request.head.has("upgrade") && !request.head.has("http2-settings"));
    client.get("/honest").expect(200);
}

#[test]
fn a_thousand_idle_connections_cost_little() {
    let target = Target::new(quick(), "");
    let mut clients: Vec<Http2> = (0..1000).map(|_| Http2::connect(target.addr())).collect();
    clients.iter_mut().for_each(|client| _ = client.get(1, "/"));
    target.is_well();
    let each = memory_kib(target.ravelin.pid(), "VmRSS") / 1000;
    assert!(each < 96, "{each} KiB a connection, the process's own included");
}
