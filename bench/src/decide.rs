//! How long one decision takes with many sites.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use config::Options;
use proxy::decide::{Request, Trace, decide};
use proxy::live::Live;
use proxy::routes::Fields;
use proxy::snapshot::Snapshot;
use wire::head::Upgrade;
use wire::host::Host;
use wire::target::parse_target;

use crate::Result;

const SITES: usize = 1000;
const ROUTES: usize = 10;
/// Decisions in one measurement.
const DECISIONS: usize = 1_000_000;
/// Measurements, of which the median counts.
const MEASUREMENTS: usize = 7;

/// Prints what a decision costs among a thousand sites with ten routes each, and what it costs to
/// make the request canonical before it.
pub(crate) fn measure() -> Result<()> {
    let loaded = config::load(&[("sites.toml".into(), configuration())], &Options::default());
    let model = loaded.model.as_ref().ok_or_else(|| loaded.render(false))?;
    let (snapshot, _) = Snapshot::compile(model, &Live::default())?;
    let requests: Vec<(String, String)> = (0..4096)
        .map(|n| (format!("Host{}.Example.com:80", n * 7 % SITES), path(n % (ROUTES + 1))))
        .collect();
    let mut nanos: Vec<u128> = (0..MEASUREMENTS)
        .map(|_| {
            let begin = Instant::now();
            for n in 0..DECISIONS {
                let (host, target) = &requests[n % requests.len()];
                black_box(decide_one(&snapshot, black_box(host), black_box(target)));
            }
            begin.elapsed().as_nanos() / DECISIONS as u128
        })
        .collect();
    nanos.sort_unstable();
    let median = nanos[MEASUREMENTS / 2];
    println!(
        "{SITES} sites with {ROUTES} routes each: {median} ns to parse host and target and decide"
    );
    Ok(())
}

fn decide_one(snapshot: &Snapshot, host: &str, target: &str) -> bool {
    let Ok(host) = Host::parse(host.as_bytes()) else { return false };
    let Ok(target) = parse_target(b"GET", target.as_bytes(), false) else { return false };
    let request = Request {
        listener: 0,
        method: b"GET",
        host: host.name(),
        authority: b"",
        path: &target.path,
        query: target.query,
        fields: Fields::default(),
        secure: false,
        policy: None,
        upgrade: Upgrade::None,
    };
    black_box(decide(snapshot, &request, &mut Trace::off())).is_some()
}

fn path(route: usize) -> String {
    format!("/section-{route}/articles/2026/some-title?page=2")
}

fn configuration() -> String {
    let mut text = String::new();
    for site in 0..SITES {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "[[sites]]\nname = \"site {site}\"\nhostname = \"host{site}.example.com\"\nport = 80\n\
             [sites.proxy]\nenabled = true\n[[sites.proxy.upstreams]]\nname = \"backend\"\n\
             url = \"http://127.0.0.1:3001\"\n"
        );
        for route in 0..ROUTES {
            let _ = write!(
                text,
                "[[sites.proxy.routes]]\npath = \"/section-{route}/\"\nupstream = \"backend\"\n"
            );
        }
    }
    text
}
