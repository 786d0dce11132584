//! The order of a run: for every scenario the peers are started, and take turns round by round.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::h2load::H2load;
use crate::idle::{self, Idle};
use crate::lab::{self, Lab, Process};
use crate::peer::{self, Peer, Programs, Variant};
use crate::report::Report;
use crate::scenario::{self, Backend, FILE, FIVE, SMALL, Scenario};
use crate::syscalls::{self, Counter};
use crate::tls::Client;
use crate::usage::Usage;
use crate::wrk::Wrk;
use crate::{Options, Result, client, grpc, handshake, http2, tls, ws};

/// What a load generator saw.
#[derive(Default)]
pub(crate) struct Load {
    /// Requests answered, or messages echoed.
    pub(crate) requests: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Half of the answers came within this.
    pub(crate) p50_us: u64,
    /// 99 of 100 came within this.
    pub(crate) p99_us: u64,
    /// Anything that went wrong; the measurement is then void.
    pub(crate) errors: Vec<String>,
}

/// One measurement: one peer, one scenario, one round.
pub(crate) struct Sample {
    pub(crate) load: Load,
    pub(crate) used: Usage,
}

/// Everything about one peer in one scenario.
pub(crate) struct Row {
    pub(crate) variant: Variant,
    /// One for every round.
    pub(crate) samples: Vec<Sample>,
    pub(crate) calls_per_request: Option<f64>,
    pub(crate) idle: Option<Idle>,
    /// Why there is nothing to compare.
    pub(crate) failure: Option<String>,
}

/// Measures what the options ask for and prints it; false if a row is not valid.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let scenarios = scenario::chosen(&options.scenarios)?;
    let programs = Programs::find(options)?;
    let wrk = lab::tool("wrk", "wrk")?;
    let h2load = match scenarios.iter().any(|s| matches!(s.load, scenario::Load::Http2 { .. })) {
        true => lab::tool("h2load", "nghttp2-client")?,
        false => PathBuf::new(),
    };
    lab::tool("taskset", "util-linux")?;
    let lab = Lab::open(options)?;
    write_files(&lab)?;
    tls::make_certificate(&lab)?;
    let bench = Bench {
        counter: syscalls::counter(&lab),
        origins: Origins::start(&lab, &programs)?,
        lab: &lab,
        programs: &programs,
        options,
        wrk,
        h2load,
    };
    let mut report = Report::new(options, bench.counter.as_ref().map(Counter::name));
    report.environment(&programs.versions());
    report.fields(&bench.added_fields()?);
    for scenario in scenarios {
        eprintln!("{}:", scenario.name);
        report.scenario(scenario, bench.scenario(scenario))?;
    }
    report.end()
}

struct Bench<'a> {
    lab: &'a Lab,
    programs: &'a Programs,
    options: &'a Options,
    wrk: PathBuf,
    /// Empty if no scenario needs it.
    h2load: PathBuf,
    origins: Origins,
    counter: Option<Counter>,
}

impl Bench<'_> {
    /// What every peer adds to a request, to show that they do equal work.
    fn added_fields(&self) -> Result<Vec<(&'static str, Vec<String>)>> {
        let Some(scenario) = scenario::SCENARIOS.iter().find(|s| s.backend == Backend::Own) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for &program in &self.options.peers {
            let variant = Variant::of(program);
            let fields = self.start(variant, scenario).and_then(|peer| peer.added_fields());
            // A peer that cannot do this will say so again in its rows.
            all.push((variant.name(), fields.unwrap_or_else(|error| vec![error.to_string()])));
        }
        Ok(all)
    }

    /// One row for each peer.
    fn scenario(&self, scenario: &Scenario) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut peers = Vec::new();
        for variant in peer::variants(&self.options.peers, scenario) {
            let started = self.start(variant, scenario).and_then(|peer| {
                check(self.lab, scenario, peer.address)?;
                Ok(peer)
            });
            let failure = started.as_ref().err().map(ToString::to_string);
            peers.push(started.ok());
            rows.push(Row {
                variant,
                samples: Vec::new(),
                calls_per_request: None,
                idle: None,
                failure,
            });
        }
        if scenario.load.is_idle() {
            for (row, peer) in rows.iter_mut().zip(&peers) {
                let Some(peer) = peer else { continue };
                note(row, |row| {
                    row.idle = Some(idle::measure(self.lab, peer, &scenario.load, "/small")?);
                    Ok(())
                });
            }
            return rows;
        }
        for round in 0..self.options.rounds as usize {
            for turn in 0..rows.len() {
                // A fixed order would give each peer the same neighbour every time.
                let at = (turn + round) % rows.len();
                let (Some(row), Some(Some(peer))) = (rows.get_mut(at), peers.get_mut(at)) else {
                    continue;
                };
                note(row, |row| self.take_turn(scenario, peer, row, round));
            }
        }
        rows
    }

    fn start(&self, variant: Variant, scenario: &Scenario) -> Result<Peer> {
        let upstreams = match scenario.backend {
            Backend::Nginx => vec![self.origins.nginx],
            Backend::Five => self.origins.five.to_vec(),
            Backend::Own => vec![self.origins.own],
            Backend::Grpc => vec![self.origins.grpc],
            Backend::Files => Vec::new(),
        };
        Peer::start(self.lab, self.programs, variant, scenario, upstreams)
    }

    fn take_turn(
        &self,
        scenario: &Scenario,
        peer: &mut Peer,
        row: &mut Row,
        round: usize,
    ) -> Result<()> {
        if round == 0 {
            self.load(scenario, peer.address, 1)?;
            if let Some(counter) = &self.counter {
                let load = || Ok(self.load(scenario, peer.address, syscalls::SECONDS)?.requests);
                row.calls_per_request = Some(counter.count(self.lab, &peer.pids, load)?);
            }
        }
        let before = Usage::of(&peer.pids)?;
        let load = self.load(scenario, peer.address, self.options.seconds)?;
        peer.still_runs()?;
        let used = Usage::of(&peer.pids)?.since(&before);
        if let Some(error) = load.errors.first() {
            row.failure.get_or_insert(error.clone());
        }
        eprintln!(
            "  round {} {:<15} {:>8.2} µs/request",
            round + 1,
            row.variant.name(),
            used.cpu_ns as f64 / 1e3 / load.requests.max(1) as f64
        );
        row.samples.push(Sample { load, used });
        Ok(())
    }

    fn load(&self, scenario: &Scenario, target: SocketAddr, seconds: u64) -> Result<Load> {
        match scenario.load {
            scenario::Load::Http { connections, path, body, close, tls, .. } => {
                let wrk = Wrk { program: &self.wrk, connections, close, tls, body, seconds };
                wrk.run(self.lab, target, path)
            }
            scenario::Load::Handshake { connections, resume } => {
                handshake::run(self.lab, target, connections, resume, seconds)
            }
            scenario::Load::Http2 { connections, streams, grpc } => {
                let program = &self.h2load;
                let message = grpc.then(grpc::message);
                let h2load = H2load { program, connections, streams, message, seconds };
                h2load.run(self.lab, target, path_of(grpc))
            }
            scenario::Load::WebSocket { connections, size, .. } => {
                ws::run(self.lab, target, connections, size, seconds)
            }
            scenario::Load::Idle { .. } | scenario::Load::IdleWebSockets { .. } => {
                Err("idle connections are no load".into())
            }
        }
    }
}

/// Does something for a row and keeps why it failed, if it does.
fn note(row: &mut Row, work: impl FnOnce(&mut Row) -> Result<()>) {
    if let Err(error) = work(row) {
        eprintln!("  {}: {error}", row.variant.name());
        row.failure.get_or_insert(error.to_string());
    }
}

/// One request by hand: a fast wrong answer must not count.
fn check(lab: &Lab, scenario: &Scenario, target: SocketAddr) -> Result<()> {
    if scenario.backend == Backend::Five {
        check_all_are_used(target)?;
    }
    let client = || Client::new(&tls::files(lab).certificate);
    let (response, expected) = match scenario.load {
        scenario::Load::Http2 { grpc, .. } => {
            return http2::check(&client()?, target, path_of(grpc));
        }
        scenario::Load::Http { path, response, tls: true, .. } => {
            (client()?.check(target, path)?, response)
        }
        scenario::Load::Http { path, response, body: 0, .. } => {
            (client::get(&mut client::connect(target)?, target, path)?, response)
        }
        scenario::Load::Handshake { .. } | scenario::Load::Idle { tls: true, .. } => {
            (client()?.check(target, "/small")?, SMALL)
        }
        _ => return Ok(()),
    };
    if response.status != 200 || response.body.len() != expected {
        return Err(format!(
            "answers {} with {} bytes instead of 200 with {expected}",
            response.status,
            response.body.len()
        )
        .into());
    }
    Ok(())
}

/// A proxy that leaves all requests to one of its upstreams would save itself work.
fn check_all_are_used(target: SocketAddr) -> Result<()> {
    let mut stream = client::connect(target)?;
    let ask = |_| Ok(client::get(&mut stream, target, peer::SHOW_PORT)?.body);
    let ports = (0..4 * FIVE).map(ask).collect::<Result<HashSet<_>>>()?;
    match ports.len() {
        FIVE => Ok(()),
        used => Err(format!("uses {used} of {FIVE} upstreams").into()),
    }
}

/// What HTTP/2 requests ask for.
fn path_of(grpc: bool) -> &'static str {
    if grpc { grpc::METHOD } else { "/small" }
}

/// The origins, shared by all peers.
struct Origins {
    nginx: SocketAddr,
    /// More addresses of the same.
    five: [SocketAddr; FIVE],
    own: SocketAddr,
    grpc: SocketAddr,
    _processes: [Process; 2],
}

impl Origins {
    fn start(lab: &Lab, programs: &Programs) -> Result<Origins> {
        let (nginx, own) = (lab::free_address()?, lab::free_address()?);
        let grpc = lab::free_address()?;
        let mut five = [nginx; FIVE];
        for address in &mut five {
            *address = lab::free_address()?;
        }
        let mut processes = [
            peer::nginx_origin(lab, &programs.nginx, [nginx].iter().chain(&five))?,
            lab.start(
                "origin",
                &lab.origin_core,
                &std::env::current_exe()?,
                &["origin", "--listen", &own.to_string(), "--grpc", &grpc.to_string()],
            )?,
        ];
        for (process, address) in processes.iter_mut().zip([nginx, own]) {
            peer::wait_until_it_answers(process, address)?;
        }
        Ok(Origins { nginx, five, own, grpc, _processes: processes })
    }
}

fn write_files(lab: &Lab) -> Result<()> {
    std::fs::create_dir_all(lab.dir.join("files"))?;
    for (name, size) in [("4k.bin", FILE), ("64k.bin", 64 << 10), ("1m.bin", 1 << 20)] {
        lab.write(&format!("files/{name}"), vec![b'x'; size])?;
    }
    Ok(())
}
