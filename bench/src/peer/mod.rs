//! The measured proxies: configured for equal work, started, checked, looked at.

mod haproxy;
mod nginx;
mod ravelin;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::lab::{self, Lab, Process};
use crate::scenario::{Load, Scenario};
use crate::{Options, Result, client, origin, tls, usage};

pub(crate) use nginx::{SHOW_PORT, origin as nginx_origin};

/// A proxy that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The first control.
    Nginx,
    /// The second control.
    Haproxy,
    /// What is measured.
    Ravelin,
}

/// A proxy and, where it matters, a way to set it up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) program: Program,
    /// With `splice(2)`, for HAProxy.
    pub(crate) splice: bool,
    /// What looks at traffic, in Ravelin.
    pub(crate) eyes: Eyes,
}

/// What looks at traffic, in Ravelin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eyes {
    /// What does by default, without the access log.
    Default,
    /// Nothing.
    Off,
    /// Everything: metrics, a log in JSON, the recorder.
    On,
}

impl Variant {
    /// A program as it is measured beside others.
    pub(crate) fn of(program: Program) -> Self {
        Self { program, splice: false, eyes: Eyes::Default }
    }

    /// As the tables call it.
    pub(crate) fn name(self) -> &'static str {
        match (self.program, self.splice) {
            (Program::Nginx, _) => "nginx",
            (Program::Haproxy, false) => "haproxy",
            (Program::Haproxy, true) => "haproxy-splice",
            (Program::Ravelin, _) if self.eyes == Eyes::Off => "ravelin-blind",
            (Program::Ravelin, _) if self.eyes == Eyes::On => "ravelin-observed",
            (Program::Ravelin, _) => "ravelin",
        }
    }

    /// Whether the others are compared with it.
    pub(crate) fn is_control(self) -> bool {
        self.program != Program::Ravelin || self.eyes == Eyes::Off
    }
}

/// The variants of the chosen programs that a scenario measures.
pub(crate) fn variants(programs: &[Program], scenario: &Scenario) -> Vec<Variant> {
    let is_static = scenario.backend == crate::scenario::Backend::Files;
    let mut variants = Vec::new();
    if scenario.observed {
        if programs.contains(&Program::Ravelin) {
            let ravelin = Variant::of(Program::Ravelin);
            variants.extend([Eyes::Off, Eyes::On].map(|eyes| Variant { eyes, ..ravelin }));
        }
        return variants;
    }
    for &program in programs {
        if program == Program::Haproxy && is_static {
            continue;
        }
        variants.push(Variant::of(program));
        if program == Program::Haproxy && scenario.bulk {
            variants.push(Variant { splice: true, ..Variant::of(program) });
        }
    }
    variants
}

/// Where the programs are.
pub(crate) struct Programs {
    pub(crate) nginx: PathBuf,
    haproxy: Option<PathBuf>,
    ravelin: Option<PathBuf>,
}

impl Programs {
    /// Finds those that this run needs; nginx always, since it is the origin too.
    pub(crate) fn find(options: &Options) -> Result<Programs> {
        let wants = |program| options.peers.contains(&program);
        Ok(Programs {
            nginx: lab::tool("nginx", "nginx-core")?,
            haproxy: match wants(Program::Haproxy) {
                true => Some(lab::tool("haproxy", "haproxy")?),
                false => None,
            },
            ravelin: match wants(Program::Ravelin) {
                true => Some(ravelin::find(options.ravelin.as_deref())?),
                false => None,
            },
        })
    }

    /// Each program's own words about its version.
    pub(crate) fn versions(&self) -> Vec<String> {
        let first_line = |path: &Path, flag: &str| {
            let output = std::process::Command::new(path).arg(flag).output();
            let text = output.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
            let line = String::from_utf8_lossy(&text).lines().next().unwrap_or("?").to_owned();
            line.replace("nginx version: ", "")
        };
        let mut versions = vec![first_line(&self.nginx, "-v")];
        versions.extend(self.haproxy.iter().map(|path| first_line(path, "-v")));
        versions.extend(self.ravelin.iter().map(|path| first_line(path, "--version")));
        versions
    }
}

/// What a proxy is to do in a scenario.
pub(crate) struct Task<'a> {
    /// Where it takes requests.
    pub(crate) listen: SocketAddr,
    /// Where it sends them: in turn, watching how they do, if there are several; nowhere if it is
    /// to answer from the directory itself.
    pub(crate) upstreams: Vec<SocketAddr>,
    /// Files it may have to serve.
    pub(crate) files: PathBuf,
    /// The traffic it is to be set up for.
    pub(crate) load: &'a Load,
    /// The certificate to show, if clients speak TLS.
    pub(crate) tls: Option<tls::Files>,
    /// With `splice(2)`, where that is a choice.
    pub(crate) splice: bool,
    /// What looks at traffic, where that is a choice.
    pub(crate) eyes: Eyes,
}

impl Task<'_> {
    /// It has several upstreams, checks them, and keeps account of how they answer.
    pub(crate) fn is_balanced(&self) -> bool {
        self.upstreams.len() > 1
    }

    /// Connections that it may have besides its clients' and one to an upstream for each of those:
    /// each of several upstreams gets as many as it ever needed at once.
    pub(crate) fn spare_connections(&self) -> usize {
        if self.is_balanced() { 256 + IDLE_UPSTREAM } else { 256 }
    }
}

/// Upstream connections that are kept while they are not needed, at most.
const IDLE_UPSTREAM: usize = 2048;

/// A proxy that runs and answers.
pub(crate) struct Peer {
    /// Which it is.
    pub(crate) variant: Variant,
    /// Where it takes requests.
    pub(crate) address: SocketAddr,
    /// Its processes.
    pub(crate) pids: Vec<u32>,
    process: Process,
}

impl Peer {
    /// Starts a proxy on its core and waits until it answers.
    pub(crate) fn start(
        lab: &Lab,
        programs: &Programs,
        variant: Variant,
        scenario: &Scenario,
        upstreams: Vec<SocketAddr>,
    ) -> Result<Peer> {
        let task = Task {
            listen: lab::free_address()?,
            upstreams,
            files: lab.dir.join("files"),
            load: &scenario.load,
            tls: scenario.load.is_tls().then(|| tls::files(lab)),
            splice: variant.splice,
            eyes: variant.eyes,
        };
        let mut process = match (variant.program, &programs.haproxy, &programs.ravelin) {
            (Program::Haproxy, Some(path), _) => haproxy::start(lab, path, variant.name(), &task)?,
            (Program::Ravelin, _, Some(path)) => ravelin::start(lab, path, variant.name(), &task)?,
            _ => nginx::start(lab, &programs.nginx, &task)?,
        };
        wait_until_it_answers(&mut process, task.listen)?;
        let pids = usage::family(process.pid())?;
        Ok(Peer { variant, address: task.listen, pids, process })
    }

    /// An error if it has ended.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        self.process.still_runs()
    }

    /// Which fields it sends to the own origin that the client did not send.
    pub(crate) fn added_fields(&self) -> Result<Vec<String>> {
        let mut stream = client::connect(self.address)?;
        let response = client::get(&mut stream, self.address, origin::SHOW_HEAD)?;
        let head = String::from_utf8(response.body)?;
        if client::field(head.as_bytes(), "host") != Some(&self.address.to_string()) {
            return Err(format!("{} does not keep Host: {head}", self.variant.name()).into());
        }
        let names = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut names: Vec<_> = names.map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.retain(|name| name != "host" && name != "connection");
        names.sort();
        Ok(names)
    }
}

/// Waits until a server takes a connection.
pub(crate) fn wait_until_it_answers(process: &mut Process, address: SocketAddr) -> Result<()> {
    for _ in 0..200 {
        process.still_runs()?;
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        lab::pause(50);
    }
    Err(format!("nobody listens at {address} after 10 s: {}", process.last_words()).into())
}
