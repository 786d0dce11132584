//! A name server whose answers the test changes.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// Largest answer by UDP; what is longer has to be asked for by TCP.
const UDP_MAX: usize = 512;

pub struct NameServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    asked: Condvar,
}

#[derive(Default)]
struct Zone {
    /// By name and type.
    sets: HashMap<(String, u16), RecordSet>,
    conduct: Conduct,
    questions: HashMap<String, usize>,
}

/// The time to live of records, and what is in them.
type RecordSet = (u32, Vec<Vec<u8>>);

/// How a name server answers.
#[derive(Clone, Default)]
pub enum Conduct {
    /// As it should.
    #[default]
    Well,
    /// Not at all.
    Silent,
    /// SERVFAIL.
    Fails,
    /// The header of an answer and then these bytes.
    Garbage(Vec<u8>),
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

impl NameServer {
    pub fn start() -> NameServer {
        let shared = Arc::new(Shared::default());
        // The same port by UDP and TCP: another one may have it of TCP.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
                let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .expect("a port for a name server");
        let addr = udp.local_addr().unwrap();
        let of_udp = shared.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buf) {
                let Some(mut answer) = of_udp.answer(&buf[..length]) else { continue };
                if answer.len() > UDP_MAX {
                    // Cut off after the question, which says so.
                    answer.truncate(length.min(question_end(&answer)));
                    answer[2] |= 2;
                    answer[6..12].fill(0);
                }
                let _ = udp.send_to(&answer, from);
            }
        });
        let of_tcp = shared.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let (Ok(mut stream), shared) = (stream, of_tcp.clone()) else { return };
                std::thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                        if stream.read_exact(&mut query).is_err() {
                            return;
                        }
                        let Some(answer) = shared.answer(&query) else { return };
                        let length = (answer.len() as u16).to_be_bytes();
                        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        NameServer { addr, shared }
    }

    /// The part of a configuration that has names asked of it.
    pub fn toml(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\n", self.addr)
    }

    /// From now on the name has these addresses, and none of another family.
    pub fn set(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
        let octets = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        self.put(name, A, ttl, v4.iter().map(octets).collect());
        self.put(name, AAAA, ttl, v6.iter().map(octets).collect());
    }

    /// From now on the name has these SRV records: priority, weight, port and target.
    pub fn set_services(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let numbers = [*priority, *weight, *port];
            [numbers.map(u16::to_be_bytes).concat(), labels(target)].concat()
        };
        self.put(name, SRV, ttl, services.iter().map(record).collect());
    }

    fn put(&self, name: &str, kind: u16, ttl: u32, records: Vec<Vec<u8>>) {
        let key = (name.to_owned(), kind);
        self.shared.zone.lock().unwrap().sets.insert(key, (ttl, records));
    }

    /// From now on there is no such name.
    pub fn remove(&self, name: &str) {
        self.shared.zone.lock().unwrap().sets.retain(|(known, _), _| known != name);
    }

    pub fn conduct(&self, conduct: Conduct) {
        self.shared.zone.lock().unwrap().conduct = conduct;
    }

    /// Waits until the name has been asked for this many times more.
    #[track_caller]
    pub fn wait_asked(&self, name: &str, times: usize) {
        let count = |zone: &Zone| zone.questions.get(name).copied().unwrap_or(0);
        let zone = self.shared.zone.lock().unwrap();
        let until = count(&zone) + times;
        let waiting = |zone: &mut Zone| count(zone) < until;
        let (zone, timeout) =
            self.shared.asked.wait_timeout_while(zone, PATIENCE * 3, waiting).unwrap();
        drop(zone);
        assert!(!timeout.timed_out(), "{name} was not asked for {times} times");
    }
}

impl Shared {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let end = question_end(query);
        let (name, kind) = (name(query), u16::from_be_bytes([query[end - 4], query[end - 3]]));
        let mut zone = self.zone.lock().unwrap();
        *zone.questions.entry(name.clone()).or_default() += 1;
        self.asked.notify_all();
        let known = zone.sets.keys().any(|(other, _)| *other == name);
        let (code, set) = match (&zone.conduct, zone.sets.get(&(name, kind))) {
            (Conduct::Silent, _) => return None,
            (Conduct::Fails, _) => (2, None),
            (Conduct::Garbage(bytes), _) => {
                let head = [&query[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
                return Some([&head, &query[12..end], bytes].concat());
            }
            (Conduct::Well, Some(set)) => (0, Some(set)),
            (Conduct::Well, None) => (if known { 0 } else { 3 }, None),
        };
        let (ttl, records) = set.cloned().unwrap_or_default();
        let count = (records.len() as u16).to_be_bytes();
        let mut out = [&query[..2], &[0x81, 0x80 | code, 0, 1], &count, &[0; 4]].concat();
        out.extend_from_slice(&query[12..end]);
        for record in records {
            out.extend_from_slice(&[0xc0, 12]); // the name of the question
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&(record.len() as u16).to_be_bytes());
            out.extend_from_slice(&record);
        }
        Some(out)
    }
}

/// Where the question of a message ends.
fn question_end(message: &[u8]) -> usize {
    let mut at = 12;
    while message[at] != 0 {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

/// The name that is asked for, in lower case.
fn name(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    labels.join(".")
}

fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}
