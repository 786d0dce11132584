//! Every configuration in `examples/` checks clean and starts.

use std::process::Command;

use crate::harness::*;

#[test]
fn every_example_checks_and_starts() {
    let dir = project().join("examples");
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| [".toml", ".yaml"].iter().any(|end| name.ends_with(end)))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no examples in {}", dir.display());
    for name in names {
        let text = std::fs::read_to_string(dir.join(&name)).unwrap();
        // A start without a single address to listen at would mean that nothing is served.
        // The authority on the internet is not to be asked.
        let text = text.replace("staging = true", "directory_url = \"https://127.0.0.1:1/\"");
        let pair = Authority::new().server(&["localhost"]);
        let setup = match name.ends_with(".toml") {
            true => Setup::new(&on_free_ports(&text)),
            false => Setup::of("config.yaml", &on_free_ports_in_yaml(&text)),
        };
        let setup = setup
            .file("static/index.html", "x")
            .file("site.pem", pair.certificate)
            .file("site.key", pair.key);
        let path = dir.join(&name);
        let output = run(setup.dir(), &["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", printed(&output));
        let ravelin = setup.start();
        match text.contains("[sites.ssl]") {
            true => assert_ne!(https_status(&ravelin), "000", "{name}"),
            false => assert!(ravelin.get("/").status > 0, "{name}"),
        }
    }
}

/// The same configuration in YAML with every port to listen at replaced by a free one: those that
/// stand in their line alone.
fn on_free_ports_in_yaml(yaml: &str) -> String {
    let mut kind = "";
    let line = |line: &str| {
        // Of PyServe's tables `server` has it, of Easegress's objects those of this kind.
        match line.split_once(':') {
            Some(("kind", value)) => kind = if value.trim() == "HTTPServer" { "here" } else { "" },
            Some(("server", _)) => kind = "here",
            _ => {}
        }
        let indent = line.len() - line.trim_start().len();
        match line.trim_start().strip_prefix("port:") {
            Some(_) if indent <= 2 && kind == "here" => {
                format!("{}port: {}\n", &line[..indent], free_port())
            }
            _ => format!("{line}\n"),
        }
    };
    yaml.lines().map(line).collect()
}

/// The status that the first address answers a request over TLS with. What the certificate says is
/// not looked at here.
fn https_status(ravelin: &Ravelin) -> String {
    let url = format!("https://{}/", ravelin.addr());
    let arguments = ["-sk", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let output = Command::new("curl").args(arguments).output().expect("curl");
    String::from_utf8(output.stdout).unwrap()
}

/// The same configuration with every `port` and every port of a `listen` replaced by a free one.
fn on_free_ports(toml: &str) -> String {
    let mut map = std::collections::BTreeMap::new();
    let mut free = |old: &str| -> String {
        let new = map.entry(old.to_owned()).or_insert_with(free_port);
        new.to_string()
    };
    let mut out = String::new();
    for line in toml.lines() {
        let (code, _comment) = line.split_once('#').unwrap_or((line, ""));
        let value = |key: &str| {
            let (name, value) = code.split_once('=')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        };
        if let Some(port) = value("port") {
            out += &format!("port = {}\n", free(&port));
        } else if let Some(port) = value("http_port") {
            out += &format!("http_port = {}\n", free(&port));
        } else if let Some(list) = value("listen") {
            let entries: Vec<String> = list
                .trim_matches(['[', ']'])
                .split(',')
                .map(|e| e.trim().trim_matches('"'))
                .filter(|e| !e.is_empty())
                .map(|e| match e.rsplit_once(':') {
                    Some((host, port)) if port.parse::<u16>().is_ok() => {
                        format!("\"{host}:{}\"", free(port))
                    }
                    _ if e.parse::<u16>().is_ok() => free(e),
                    _ => format!("\"unix:{}.sock\"", e.len()),
                })
                .collect();
            let entries = entries.join(", ");
            out += &match list.starts_with('[') {
                true => format!("listen = [{entries}]\n"),
                false => format!("listen = {entries}\n"),
            };
        } else {
            out += line;
            out += "\n";
        }
    }
    out
}
