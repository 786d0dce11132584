//! Snapshot cases, one file a case: input, a line of dashes, and what loading it gives.
//!
//! `RAVELIN_BLESS=1 cargo test -p config --test cases` rewrites what is expected; read the
//! difference before committing it. A first line `# file: NAME` gives the input that name; `# missing: PATH …` names
//! files that do not exist. Inputs that an editor would spoil have escapes: see `unescape`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config::model::{
    Buffering, HeaderRules, Model, PoolSettings, Proxy, Site, Transport, Upstream, UpstreamState,
};
use config::{Loaded, Options, load};
use std::time::Duration;

const SEPARATOR: &str = "----------\n";

#[test]
fn every_case_gives_what_it_says() {
    let bless = std::env::var_os("RAVELIN_BLESS").is_some();
    let mut cases: Vec<PathBuf> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 60, "only {} cases found", cases.len());
    let mut failures = String::new();
    for path in cases {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        let actual = outcome(&run(input));
        if bless {
            fs::write(&path, format!("{input}{SEPARATOR}{actual}")).unwrap();
        } else if actual != expected {
            let name = path.file_name().unwrap().to_string_lossy();
            _ = writeln!(failures, "=== {name}\n--- expected\n{expected}\n--- actual\n{actual}");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn run(input: &str) -> Loaded {
    let directive = |word: &str| input.lines().find_map(|line| line.strip_prefix(word));
    let name = directive("# file: ").unwrap_or("site.toml");
    let missing: Vec<&str> = directive("# missing: ").unwrap_or("").split(' ').collect();
    let exists = |path: &Path| !missing.iter().any(|name| path == Path::new(name));
    let options = Options { exists: &exists, ..Options::default() };
    load(&[(PathBuf::from(name), unescape(input))], &options)
}

/// `⏎CRLF⏎` anywhere turns every line end into CR LF, `⏎BOM⏎` puts a byte order mark first,
/// `⏎BYTE⏎` anywhere is a byte that is not UTF-8, `⏎NOEND⏎` takes the last line end off.
fn unescape(input: &str) -> Vec<u8> {
    let mut text = input.to_owned();
    if text.contains("⏎CRLF⏎") {
        text = text.replace('\n', "\r\n");
    }
    if text.contains("⏎BOM⏎") {
        text.insert(0, '\u{feff}');
    }
    if text.contains("⏎NOEND⏎") {
        text = text.trim_end().to_owned();
    }
    let parts: Vec<&[u8]> = text.split("⏎BYTE⏎").map(str::as_bytes).collect();
    parts.join(&0xff)
}

fn outcome(loaded: &Loaded) -> String {
    let mut text = loaded.render(false);
    if let Some(model) = &loaded.model {
        describe(&mut text, model);
    }
    text
}

/// The model in few lines: every site, and what differs from the defaults elsewhere.
fn describe(out: &mut String, model: &Model) {
    for site in &model.sites {
        describe_site(out, site);
    }
    let Some(defaults) = run("[[sites]]\nname = \"a\"\nhostname = \"a\"\nport = 1\n").model else {
        panic!("the smallest configuration is one");
    };
    let mut section = |name: &str, own: String, default: String| {
        if own != default {
            _ = writeln!(out, "{name}: {own}");
        }
    };
    section("server", format!("{:?}", model.server), format!("{:?}", defaults.server));
    section("logging", format!("{:?}", model.logging), format!("{:?}", defaults.logging));
    section(
        "performance",
        format!("{:?}", model.performance),
        format!("{:?}", defaults.performance),
    );
    section("security", format!("{:?}", model.security), format!("{:?}", defaults.security));
    section("dns", format!("{:?}", model.dns), format!("{:?}", defaults.dns));
    section("limits", format!("{:?}", model.limits), format!("{:?}", defaults.limits));
}

fn describe_site(out: &mut String, site: &Site) {
    _ = write!(out, "site {:?} {:?} at {:?}", site.name, site.hosts, site.listen);
    for (on, word) in [
        (site.default, "default"),
        (site.tls.is_some(), "tls"),
        (site.redirect_to_https == Some(301), "redirect_to_https"),
        (site.redirect_to_https == Some(308), "redirect_to_https 308"),
        (site.http2_cleartext, "h2c"),
        (site.proxy_protocol, "proxy_protocol"),
    ] {
        if on {
            _ = write!(out, " {word}");
        }
    }
    out.push('\n');
    if let Some(tls) = &site.tls {
        _ = writeln!(out, "  {:?}", tls.certificate);
        _ = writeln!(out, "  {:?}", tls.policy);
        if let Some(file) = &tls.ocsp_file {
            _ = writeln!(out, "  OCSP {file:?}");
        }
    }
    if let Some(files) = &site.files {
        _ = writeln!(out, "  {files:?}");
    }
    for (name, value) in &site.response_headers {
        _ = writeln!(out, "  response header {name}: {value}");
    }
    if let Some(proxy) = &site.proxy {
        describe_proxy(out, proxy);
    }
}

fn describe_proxy(out: &mut String, proxy: &Proxy) {
    for pool in &proxy.pools {
        _ = writeln!(out, "  pool {}", pool.name);
        describe_settings(out, &pool.settings);
        for upstream in &pool.upstreams {
            let base = if upstream.base_path.is_empty() { "" } else { " base " };
            let base = format!("{base}{}", upstream.base_path);
            _ = write!(out, "    {:?}{base} weight {}", upstream.address, upstream.weight);
            describe_use(out, upstream);
            match upstream.transport == Transport::default() {
                true => out.push('\n'),
                false => _ = writeln!(out, " {:?}", upstream.transport),
            }
        }
    }
    for route in &proxy.routes {
        _ = write!(out, "  route {} -> {}", route.path, proxy.pools[route.pool].name);
        for (on, word) in [
            (route.strip_prefix, "strip_prefix"),
            (route.websocket, "websocket"),
            (route.redirect_slash, "redirect_slash"),
        ] {
            if on {
                _ = write!(out, " {word}");
            }
        }
        if let Some(target) = &route.rewrite_target {
            _ = write!(out, " rewrite to {target}");
        }
        out.push('\n');
    }
    _ = writeln!(out, "  {:?} {:?}", proxy.timeout, proxy.idle);
    if proxy.buffering != Buffering::default() {
        _ = writeln!(out, "  {:?}", proxy.buffering);
    }
    let headers = &proxy.headers;
    _ = writeln!(
        out,
        "  preserve_host {} x_forwarded {} forwarded {} via {}",
        headers.preserve_host, headers.x_forwarded, headers.forwarded, headers.via
    );
    if headers.x_real_ip {
        _ = writeln!(out, "  x_real_ip");
    }
    for (name, rules) in [("request", &headers.request), ("response", &headers.response)] {
        if *rules != HeaderRules::default() {
            _ = writeln!(out, "  {name} remove {:?} set {:?}", rules.remove, rules.set);
        }
    }
}

/// What is not as it is without a word about it.
fn describe_settings(out: &mut String, settings: &PoolSettings) {
    let default = PoolSettings::default();
    let PoolSettings {
        balance,
        sticky,
        health_checks,
        outlier,
        fail_open,
        retry,
        breaker,
        concurrency,
        queue,
    } = settings;
    let mut part = |own: String, default: String| {
        if own != default {
            _ = writeln!(out, "    {own}");
        }
    };
    part(format!("{balance:?}"), format!("{:?}", default.balance));
    part(format!("sticky {sticky:?}"), format!("sticky {:?}", default.sticky));
    for check in health_checks {
        part(format!("{check:?}"), String::new());
    }
    part(format!("outlier {outlier:?}"), format!("outlier {:?}", default.outlier));
    part(format!("fail_open {fail_open:?}"), format!("fail_open {:?}", default.fail_open));
    part(format!("{retry:?}"), format!("{:?}", default.retry));
    part(format!("breaker {breaker:?}"), format!("breaker {:?}", default.breaker));
    part(format!("{concurrency:?}"), format!("{:?}", default.concurrency));
    part(format!("{queue:?}"), format!("{:?}", default.queue));
}

fn describe_use(out: &mut String, upstream: &Upstream) {
    for (on, word) in [
        (upstream.srv, " srv".to_owned()),
        (upstream.priority != 0, format!(" priority {}", upstream.priority)),
        (upstream.state != UpstreamState::Up, format!(" {:?}", upstream.state)),
        (upstream.max_conns.is_some(), format!(" max_conns {:?}", upstream.max_conns)),
        (!upstream.slow_start.is_zero(), format!(" slow_start {:?}", upstream.slow_start)),
        (upstream.max_fails != 3, format!(" max_fails {}", upstream.max_fails)),
        (
            upstream.fail_timeout != Duration::from_secs(10),
            format!(" fail_timeout {:?}", upstream.fail_timeout),
        ),
    ] {
        if on {
            out.push_str(&word);
        }
    }
}
