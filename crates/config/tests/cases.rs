//! Snapshot cases, one file a case: input, a line of dashes, and what loading it gives.
//!
//! `RAVELIN_BLESS=1 cargo test -p config --test cases` rewrites what is expected (with
//! a part of a name for 1, of those cases only); read the
//! difference before committing it. A first line `# file: NAME` gives the input that name, each further one starts
//! another file; `# dialect: NAME` is what `--dialect` is, `# missing: PATH …` names files that do not exist,
//! `# environment: NAME=VALUE …` sets variables. With a line `# convert`, and always if a file is no TOML, the same as
//! native TOML is shown too. With a line `# lint` what the linter says takes the place of the model. Inputs that an editor would spoil have escapes: see `unescape`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config::lint::{is_allowed, lint};
use config::model::{
    Buffering, Connections, CorsRule, Guards, HeaderRules, Model, PathMatch, PoolSettings, Proxy,
    ProxyStatus, Route, RouteAction, RouteOrder, Site, Transport, Upstream, UpstreamState,
    WebSocket, When,
};
use config::{Dialect, Loaded, Options, convert, load};
use std::time::Duration;

const SEPARATOR: &str = "----------\n";

#[test]
fn every_case_gives_what_it_says() {
    let bless = std::env::var("RAVELIN_BLESS").ok();
    let blessed = |name: &str| match bless.as_deref() {
        Some(part) => part == "1" || name.contains(part),
        None => false,
    };
    let mut failures = String::new();
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        let actual = outcome(input);
        let name = path.file_name().unwrap().to_string_lossy();
        if blessed(&name) {
            fs::write(&path, format!("{input}{SEPARATOR}{actual}")).unwrap();
        } else if actual != expected {
            _ = writeln!(failures, "=== {name}\n--- expected\n{expected}\n--- actual\n{actual}");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn what_a_case_is_converted_to_gives_the_same_model() {
    let mut converted = 0;
    for path in cases() {
        let case = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let (input, _) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
        with_options(input, |options| {
            let first = convert(&files(input), options);
            let Some(text) = first.text else { return };
            converted += 1;
            let native = Options { dialect: None, ..*options };
            let again = |text: &str| convert(&[(PathBuf::from("converted.toml"), text)], &native);
            let second = again(&text);
            assert_eq!(
                second.loaded.errors(),
                0,
                "{case}\n{text}\n{}",
                second.loaded.render(false)
            );
            assert_eq!(second.loaded.model, first.loaded.model, "{case}\n{text}");
            let text = second.text.unwrap();
            assert_eq!(again(&text).text.as_ref(), Some(&text), "{case}");
        });
    }
    assert!(converted >= 60, "only {converted} cases converted");
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 60, "only {} cases found", cases.len());
    cases
}

/// What the rest of the line says that starts with this word.
fn directive<'a>(input: &'a str, word: &str) -> Option<&'a str> {
    input.lines().find_map(|line| line.strip_prefix(word))
}

/// The files of a case, with their names.
fn files(input: &str) -> Vec<(PathBuf, Vec<u8>)> {
    const NAME: &str = "# file: ";
    let mut files = vec![(PathBuf::from("site.toml"), String::new())];
    for line in input.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix(NAME) {
            if files.last().is_some_and(|(_, text)| !text.is_empty()) {
                files.push((PathBuf::new(), String::new()));
            }
            files.last_mut().unwrap().0 = PathBuf::from(name.trim_end());
        }
        files.last_mut().unwrap().1.push_str(line);
    }
    files.into_iter().map(|(name, text)| (name, unescape(&text))).collect()
}

fn with_options<T>(input: &str, use_them: impl FnOnce(&Options<'_>) -> T) -> T {
    let missing: Vec<&str> = directive(input, "# missing: ").unwrap_or("").split(' ').collect();
    let exists = |path: &Path| !missing.iter().any(|name| path == Path::new(name));
    let set = directive(input, "# environment: ").unwrap_or("");
    let environment = |name: &str| {
        let variables = set.split(' ').filter_map(|variable| variable.split_once('='));
        variables.into_iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_owned())
    };
    let dialect = directive(input, "# dialect: ").map(|name| {
        let known = Dialect::ALL.iter().find(|(known, _)| *known == name);
        known.unwrap_or_else(|| panic!("no dialect {name}")).1
    });
    use_them(&Options { dialect, exists: &exists, environment: &environment })
}

fn run(input: &str) -> Loaded {
    with_options(input, |options| load(&files(input), options))
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

fn outcome(input: &str) -> String {
    let loaded = run(input);
    let mut text = loaded.render(false);
    let Some(model) = &loaded.model else { return text };
    if directive(input, "# lint").is_some() {
        let said = lint(model).into_iter().filter(|finding| !is_allowed(model, finding));
        let diagnostics = said.collect();
        return text + &Loaded { model: None, diagnostics, ..loaded }.render(false);
    }
    describe(&mut text, model);
    let files = files(input);
    let toml = |(name, _): &(PathBuf, Vec<u8>)| name.extension().is_some_and(|end| end == "toml");
    if directive(input, "# convert").is_some() || !files.iter().all(toml) {
        let converted = with_options(input, |options| convert(&files, options)).text;
        text.push_str(SEPARATOR);
        text.push_str(&converted.unwrap());
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
    section("process", format!("{:?}", model.process), format!("{:?}", defaults.process));
    section("limits", format!("{:?}", model.limits), format!("{:?}", defaults.limits));
    section("management", format!("{:?}", model.management), format!("{:?}", defaults.management));
    for expectation in &model.expectations {
        _ = writeln!(out, "{expectation:?}");
    }
}

fn describe_site(out: &mut String, site: &Site) {
    _ = write!(out, "site {:?} {:?} at {:?}", site.name, site.hosts, site.listen);
    for (on, word) in [
        (site.default, "default"),
        (site.tls.is_some(), "tls"),
        (site.redirect_to_https == Some(301), "redirect_to_https"),
        (site.redirect_to_https == Some(308), "redirect_to_https 308"),
        (site.http2_cleartext, "h2c"),
        (!site.health, "without health"),
        (site.proxy_protocol, "proxy_protocol"),
    ] {
        if on {
            _ = write!(out, " {word}");
        }
    }
    out.push('\n');
    if site.proxy_status != ProxyStatus::Off {
        _ = writeln!(out, "  proxy_status {:?}", site.proxy_status);
    }
    if site.connections != Connections::default() {
        _ = writeln!(out, "  {:?}", site.connections);
    }
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
    describe_guards(out, "  ", &site.guards);
    for (name, value) in &site.response_headers {
        _ = writeln!(out, "  response header {name}: {value}");
    }
    if let Some(proxy) = &site.proxy {
        describe_proxy(out, proxy);
    }
    if site.route_order != RouteOrder::default() || site.mismatch_is_error {
        _ = writeln!(out, "  routes {:?} mismatch {}", site.route_order, site.mismatch_is_error);
    }
    for route in &site.routes {
        describe_route(out, site, route);
    }
}

fn describe_route(out: &mut String, site: &Site, route: &Route) {
    let kind = match &route.path {
        PathMatch::Prefix(_) => "",
        PathMatch::Exact(_) => "exact ",
        PathMatch::StartsWith(_) => "starts_with ",
        PathMatch::Regex { ignore_case: false, .. } => "regex ",
        PathMatch::Regex { .. } => "regex_ignore_case ",
        PathMatch::Never => "-",
    };
    _ = write!(out, "  route {kind}{}", route.path.text());
    if let Some(name) = &route.name {
        _ = write!(out, " named {name}");
    }
    match &route.action {
        RouteAction::Upstream(pool) => {
            let proxy = site.proxy.as_ref().expect("a proxy");
            _ = write!(out, " -> {}", proxy.pools[*pool].name);
        }
        action => _ = write!(out, " -> {action:?}"),
    }
    for (on, word) in [
        (route.before_regex, "before_regex"),
        (route.strip_prefix, "strip_prefix"),
        (route.websocket.is_some(), "websocket"),
        (route.redirect_slash, "redirect_slash"),
        (route.rewrite_location, "rewrite_location"),
    ] {
        if on {
            _ = write!(out, " {word}");
        }
    }
    if let Some(target) = &route.rewrite_target {
        _ = write!(out, " rewrite to {target}");
    }
    out.push('\n');
    let plain = config::model::Headers {
        preserve_host: true,
        x_forwarded: true,
        x_real_ip: false,
        forwarded: true,
        via: false,
        request: HeaderRules::default(),
        response: HeaderRules::default(),
    };
    let of_site = site.proxy.as_ref().map_or(&plain, |proxy| &proxy.headers);
    let mut more = |name: &str, value: String, default: String| {
        if value != default {
            _ = writeln!(out, "    {name} {value}");
        }
    };
    let websocket = route.websocket.clone().unwrap_or_default();
    more("websocket", format!("{websocket:?}"), format!("{:?}", WebSocket::default()));
    more("hosts", format!("{:?}", route.hosts), "[]".to_owned());
    more("methods", format!("{:?}", route.methods), "[]".to_owned());
    more("when", format!("{:?}", route.when), format!("{:?}", When::default()));
    more("rewrite", format!("{:?}", route.rewrite), "[]".to_owned());
    more("set_method", format!("{:?}", route.set_method), "None".to_owned());
    more("set_host", format!("{:?}", route.set_host), "None".to_owned());
    more("headers", format!("{:?}", route.headers), format!("{of_site:?}"));
    more("max_request_size", format!("{:?}", route.max_request_size), "Inherited".to_owned());
    more("max_response_size", format!("{:?}", route.max_response_size), "None".to_owned());
    more("redirects", format!("{:?}", route.redirects), "[]".to_owned());
    more("split", format!("{:?}", route.split), "[]".to_owned());
    more("mirror", format!("{:?}", route.mirror), "None".to_owned());
    more("response_when", format!("{:?}", route.response_when), "[]".to_owned());
    more("failure_statuses", format!("{:?}", route.failure_statuses), "[(500, 599)]".to_owned());
    more("on_result", format!("{:?}", route.on_result), "[]".to_owned());
    describe_guards(out, "    ", &route.guards);
}

fn describe_guards(out: &mut String, indent: &str, guards: &Guards) {
    for access in &guards.access {
        _ = writeln!(out, "{indent}{access:?}");
    }
    match &guards.cors {
        CorsRule::Inherited => {}
        CorsRule::Off => _ = writeln!(out, "{indent}Cors off"),
        CorsRule::Rules(cors) => _ = writeln!(out, "{indent}{cors:?}"),
    }
    for limit in &guards.rate_limits {
        _ = writeln!(out, "{indent}{limit:?}");
    }
    for auth in &guards.auth {
        _ = writeln!(out, "{indent}{auth:?}");
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
        timeout,
        idle,
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
    part(format!("{timeout:?}"), format!("{:?}", default.timeout));
    part(format!("{idle:?}"), format!("{:?}", default.idle));
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
