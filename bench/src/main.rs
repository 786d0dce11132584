//! Measures Ravelin beside nginx and HAProxy: what one request costs each of them in CPU time.
//!
//! The proxy alone runs on one core, origin and load generator on another; the peers take turns in
//! an order that changes every round. `bench/README.md` says how to run it and how to read it.
//!
//! The files, in the order of a run: [`scenario`] says what is measured, [`lab`] starts and ends
//! processes, [`peer`] writes each proxy's configuration, [`origin`] and [`grpc`] answer, [`tls`]
//! and [`http2`] say what has to be spoken, [`wrk`], [`h2load`], [`ws`] and [`handshake`] make load,
//! [`usage`] and [`syscalls`] read what it cost, [`measure`] is the order of it all, and
//! [`report`] prints the tables.
#![forbid(unsafe_code)]

mod choose;
mod client;
mod decide;
mod grpc;
mod h2load;
mod handshake;
mod http2;
mod idle;
mod lab;
mod looking;
mod measure;
mod origin;
mod peer;
mod report;
mod scenario;
mod syscalls;
mod tally;
mod tls;
mod usage;
mod wrk;
mod ws;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What may go wrong: a sentence for the person who runs it.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "bench", about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What to measure, with what, how long.
#[derive(Args, Clone)]
struct Options {
    /// How often every peer is measured in every scenario
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of load for one measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Only these scenarios (may be given several times); all by default
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Which proxies to measure
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,ravelin")]
    peers: Vec<peer::Program>,
    /// The Ravelin to measure; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    ravelin: Option<PathBuf>,
    /// Also write every single measurement to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// The core that the measured proxy has for itself
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the load generator
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The core of the origin; by default the load generator's
    #[arg(long)]
    origin_core: Option<usize>,
}

/// What else it can do; all but the first three are parts that it runs as processes of their own.
#[derive(Subcommand)]
enum Part {
    /// Measure what one decision costs among a thousand sites
    Decide,
    /// Measure what choosing among five upstreams and accounting cost a request
    Choose {
        /// How often everything is measured; the best counts
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        runs: u32,
        /// Fail if a method costs more than this above round robin with one upstream
        #[arg(long, value_name = "NANOSECONDS", default_value_t = 300.0)]
        most: f64,
    },
    /// Measure what a line of the access log and a place in the recorder cost a request
    Looking,
    /// Answer POST requests and gRPC calls, echo WebSocket messages
    #[command(hide = true)]
    Origin {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        grpc: SocketAddr,
    },
    /// Send WebSocket messages and wait for their echo
    #[command(hide = true)]
    WsLoad {
        #[arg(long)]
        connect: SocketAddr,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        size: usize,
        #[arg(long)]
        seconds: u64,
    },
    /// Make a TLS connection for every request
    #[command(hide = true)]
    TlsLoad {
        #[arg(long)]
        connect: SocketAddr,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        certificate: PathBuf,
        #[arg(long)]
        resume: bool,
        #[arg(long)]
        seconds: u64,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _clean_up = lab::CleanUp;
    let outcome = match cli.part {
        Some(Part::Decide) => decide::measure().map(|()| true),
        Some(Part::Choose { runs, most }) => choose::measure(runs, most),
        Some(Part::Looking) => looking::measure().map(|()| true),
        Some(Part::Origin { listen, grpc }) => origin::serve(listen, grpc).map(|()| true),
        Some(Part::WsLoad { connect, connections, size, seconds }) => {
            ws::load(connect, connections, size, seconds).map(|()| true)
        }
        Some(Part::TlsLoad { connect, connections, certificate, resume, seconds }) => {
            handshake::load(connect, connections, &certificate, resume, seconds).map(|()| true)
        }
        None => measure::run(&cli.options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
