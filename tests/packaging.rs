//! What packages are made of.

use std::fs;

use crate::harness::*;

#[test]
fn the_configurations_of_packages_serve() {
    let packaging = project().join("packaging");
    for name in ["ravelin.toml", "container.toml"] {
        let toml = fs::read_to_string(packaging.join(name)).unwrap();
        let toml = toml
            .replace("port = 80\n", "listen = [\"127.0.0.1:0\"]\n")
            .replace("port = 8080\n", "listen = [\"127.0.0.1:0\"]\n")
            .replace("/usr/share/ravelin/html", &packaging.display().to_string());
        let ravelin = Ravelin::start(&toml);
        let page = ravelin.get("/welcome.html").expect(200);
        assert!(page.text().contains("Ravelin works"), "{name}");
    }
}

#[test]
fn every_file_that_the_debian_package_names_is_there() {
    let crate_dir = project().join("crates/ravelin");
    let manifest = fs::read_to_string(crate_dir.join("Cargo.toml")).unwrap();
    let (_, metadata) = manifest.split_once("[package.metadata.deb]").unwrap();
    let sources = metadata.lines().filter_map(|line| line.trim().strip_prefix("[\""));
    let mut found = 0;
    for source in sources.filter_map(|line| line.split('"').next()) {
        // What is built first has no file before.
        if source.contains("target/") {
            continue;
        }
        let path = crate_dir.join(source);
        let directory = fs::read_dir(path.parent().unwrap()).unwrap();
        let wanted = path.file_name().unwrap().to_str().unwrap().to_owned();
        let fits = |name: &str| match wanted.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name == wanted,
        };
        let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().any(|name| fits(&name)), "{source}");
        found += 1;
    }
    assert!(found >= 6, "{found}");
}

#[test]
fn the_unit_keeps_no_right_but_the_one_to_bind_low_ports() {
    let unit = fs::read_to_string(project().join("packaging/ravelin.service")).unwrap();
    for line in [
        "Type=notify",
        "User=ravelin",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "SystemCallFilter=@system-service",
        "ExecStart=/usr/bin/ravelin run -c /etc/ravelin/ravelin.toml",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}
