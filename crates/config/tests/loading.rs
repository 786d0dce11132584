//! The examples load, several files are one configuration, and no input panics.

use std::fs;
use std::path::{Path, PathBuf};

use config::model::Listen;
use config::{Code, Dialect, Loaded, Options, Severity, load};
use proptest::prelude::*;
use wire::text::steers;

const BASIC: &str = include_str!("../../../examples/basic.toml");
const COMPLETE: &str = include_str!("../../../examples/complete.toml");
const HEADERS: &str = include_str!("../../../examples/headers.toml");

fn one(text: impl AsRef<[u8]>) -> Loaded {
    load(&[(PathBuf::from("site.toml"), text)], &Options::default())
}

#[test]
fn every_example_loads_without_a_finding_and_needs_no_privileges() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        let text = fs::read(&path).unwrap();
        let loaded = load(&[(path.clone(), text)], &Options::default());
        assert_eq!(loaded.diagnostics, [], "{}", loaded.render(false));
        for listen in loaded.model.unwrap().sites.iter().flat_map(|site| &site.listen) {
            match listen {
                Listen::Port(port) => assert!(*port > 8000, "{}", path.display()),
                Listen::Address(address) => assert!(address.port() > 8000, "{}", path.display()),
                Listen::Unix(_) => {}
            }
        }
    }
    for name in ["basic", "complete", "load-balancing", "websocket", "static", "headers"] {
        assert!(names.iter().any(|other| other == name), "no example {name}");
    }
}

fn site(name: &str, port: u16) -> String {
    format!(
        "[[sites]]\nname = \"{name}\"\nhostname = \"{name}\"\nport = {port}\nstatic_dir = \"s\"\n"
    )
}

#[test]
fn several_files_are_one_configuration() {
    let files = [
        (PathBuf::from("a.toml"), format!("[server]\nname = \"x\"\n{}", site("a", 1))),
        (PathBuf::from("b.toml"), site("b", 1)),
    ];
    let loaded = load(&files, &Options::default());
    let model = loaded.model.unwrap();
    let names: Vec<&str> = model.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!((names, model.server.name.as_str()), (vec!["a", "b"], "x"));
    assert_eq!(model.default_site(&Listen::Port(1)), Some(0));
    assert_eq!(model.default_site(&Listen::Port(2)), None);
}

#[test]
fn a_mistake_between_two_files_points_into_both() {
    let server = "[server]\nname = \"x\"\n";
    let files = [
        (PathBuf::from("a.toml"), format!("{server}{}", site("same", 1))),
        (PathBuf::from("b.toml"), format!("{server}{}", site("same", 1))),
    ];
    let loaded = load(&files, &Options::default());
    let codes: Vec<Code> = loaded.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, [Code::DuplicateKey, Code::DuplicateHost]);
    let text = loaded.render(false);
    assert!(text.contains("--> b.toml:5:12") && text.contains("::: a.toml:5:12"), "{text}");
}

#[test]
fn the_default_of_a_listener_is_known_where_no_site_has_the_mark() {
    let listen = |name: &str, ports: &str| {
        format!(
            "[[sites]]\nname = \"{name}\"\nhostname = \"{name}\"\nlisten = {ports}\nstatic_dir = \"s\"\n"
        )
    };
    let text =
        listen("a", "[\":1\"]") + &listen("b", "[\":1\", \":2\"]") + &listen("c", "[\":2\"]");
    let model = one(text).model.unwrap();
    let marks: Vec<bool> = model.sites.iter().map(|site| site.default).collect();
    assert_eq!(marks, [true, false, false], "b would be a second default at port 1");
    assert_eq!(model.default_site(&Listen::Port(1)), Some(0));
    assert_eq!(model.default_site(&Listen::Port(2)), Some(1));
}

#[test]
fn the_dialect_can_be_said() {
    let options = Options { dialect: Some(Dialect::Native), ..Options::default() };
    assert!(load(&[(PathBuf::from("-"), site("a", 1))], &options).model.is_some());
}

#[test]
fn an_error_leaves_no_model_and_a_warning_does() {
    let bad = one(site("a", 1) + "prot = 1\n");
    assert!(bad.model.is_none() && bad.errors() == 1 && bad.warnings() == 0);
    let odd = one(site("a", 1) + "api_only = true\n");
    assert!(odd.model.is_some() && odd.errors() == 0 && odd.warnings() == 1);
}

#[test]
fn json_has_one_object_a_line_with_places_and_suggestions() {
    let loaded = one(site("a", 1) + "prot = \"\\t\" # ü\nx\u{1}\n");
    let lines: Vec<String> = loaded.render_json().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), loaded.diagnostics.len());
    assert_eq!(
        lines[0],
        "{\"severity\":\"error\",\"code\":\"unknown-key\",\"message\":\"unknown key `prot`\",\
         \"file\":\"site.toml\",\"line\":6,\"column\":1,\"end_line\":6,\"end_column\":5,\
         \"label\":\"not a key of `[[sites]]`\",\"labels\":[],\"help\":[],\"suggestions\":[\
         {\"file\":\"site.toml\",\"line\":6,\"column\":1,\"end_line\":6,\"end_column\":5,\
         \"replacement\":\"port\",\"message\":\"did you mean `port`?\"}]}"
    );
    assert!(lines.iter().all(|line| !line.contains(char::is_control)));
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let loaded = one("prot = 1\n");
    assert!(loaded.render(true).contains('\u{1b}') && !loaded.render(false).contains('\u{1b}'));
}

#[test]
fn nothing_of_a_file_steers_the_terminal() {
    let long = "x".repeat(2000);
    for text in [
        "\u{1b}[2J = 1 \u{7}\n\"\u{9b}\u{202e}\" = 2\n".to_owned(),
        site("\u{202e}\u{61c}\u{200f}", 1) + "\"p\u{2066}rot\" = 1\nbind = \"\u{200e}\u{2028}\"\n",
        site("a", 1) + &format!("\"p\u{200f}rt\" = 1 # \u{1b}[2J {long}\n"),
        site("a", 1) + "[[sites.proxy.headers.request.set]]\nname = \"\u{202e}\"\n",
    ] {
        let loaded = one(text);
        assert!(!loaded.diagnostics.is_empty());
        for text in [loaded.render(false), loaded.render_json()] {
            assert!(!text.chars().any(|c| steers(c) && c != '\n'), "{text:?}");
        }
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_gives_a_bounded_number_of_findings() {
    for line in ["a = 1\n", "[server]\n", "x y z\n", "\"\n", "a = [\n"] {
        let found = one(line.repeat(50_000)).diagnostics.len();
        assert!((1..=1000).contains(&found), "{line:?} gave {found}");
    }
    let keys: String = (0..50_000).map(|number| format!("key{number} = 1\n")).collect();
    let found = one(keys).diagnostics.len();
    assert!((1..=1000).contains(&found), "keys gave {found}");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
        format!("a = {{ b{} = 1 }}", ".b".repeat(100_000)),
        format!("\"a\"{} = 1", ".\"a\"".repeat(100_000)),
        format!("a{} = 1", " . a".repeat(100_000)),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(100_000)),
    ] {
        assert!(one(&text).model.is_none());
    }
}

#[test]
fn a_thousand_sites_with_ten_routes_load_in_linear_time() {
    let mut text = String::new();
    for site in 0..1000 {
        text +=
            &format!("[[sites]]\nname = \"s{site}\"\nhostname = \"s{site}.example\"\nport = 80\n");
        text += "[sites.proxy]\nenabled = true\n[[sites.proxy.upstreams]]\nname = \"b\"\nurl = \"http://b\"\n";
        for route in 0..10 {
            text += &format!("[[sites.proxy.routes]]\npath = \"/r{route}\"\nupstream = \"b\"\n");
        }
    }
    let loaded = one(&text);
    assert_eq!(loaded.model.map(|model| model.sites.len()), Some(1000));
}

/// So many that what looks at all others for each of them takes minutes.
const MANY: usize = 20_000;

#[test]
fn twenty_thousand_routes_of_one_site_load_in_linear_time() {
    for order in ["longest", "declared"] {
        let mut text = format!(
            "[[sites]]\nname = \"s\"\nhostname = \"s\"\nport = 80\nroute_order = \"{order}\"\n\
             [sites.proxy]\nenabled = true\n"
        );
        for number in 0..MANY {
            text += &format!(
                "[[sites.proxy.upstreams]]\nname = \"u{number}\"\nurl = \"http://u:{}\"\n\
                 [[sites.proxy.routes]]\nname = \"r{number}\"\npath = \"/r{number}/\"\nupstream = \"u{number}\"\n",
                1 + number
            );
        }
        let loaded = one(&text);
        assert_eq!(loaded.diagnostics, []);
        assert_eq!(loaded.model.map(|model| model.sites[0].routes.len()), Some(MANY));
    }
}

#[test]
fn twenty_thousand_entries_of_pyserve_load_in_linear_time() {
    let mut text = "server:\n  reverse_proxy:\n".to_owned();
    for number in 0..MANY {
        let port = 1 + number;
        text += &format!("  - {{path: /r{number}/, host: b.example, port: {port}}}\n");
    }
    let loaded = load(&[(PathBuf::from("site.yaml"), text)], &Options::default());
    assert_eq!(loaded.errors(), 0, "{}", loaded.render(false));
    let model = loaded.model.unwrap();
    assert!(model.sites[0].routes.len() >= MANY);
    assert_eq!(model.sites[0].proxy.as_ref().map(|proxy| proxy.pools.len()), Some(MANY));
}

/// Loads a text and renders what was found in every way.
fn survives(text: &[u8]) {
    let loaded = one(text);
    let refused = loaded.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(loaded.model.is_none(), refused);
    _ = loaded.render(true);
    _ = loaded.render_json();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn no_text_of_toml_characters_panics(text in "[\\[\\]{}=\",.#'\\\\ \r\n\ta-c0-9é;:-]{0,200}") {
        survives(text.as_bytes());
    }

    #[test]
    fn no_change_of_a_good_file_panics(
        file in 0..3_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_usize, "[\\[\\]{}=\",.#'\\\\ \n\ta-z0-9é;:-]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = [BASIC, COMPLETE, HEADERS][file].chars().collect();
        for (place, removed, added) in changes {
            let start = place.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, added.chars());
        }
        survives(text.iter().collect::<String>().as_bytes());
    }

    #[test]
    fn no_line_put_elsewhere_panics(file in 0..3_usize, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let mut lines: Vec<&str> = [BASIC, COMPLETE, HEADERS][file].lines().collect();
        let line = lines[from.index(lines.len())];
        lines.insert(to.index(lines.len() + 1), line);
        survives(lines.join("\n").as_bytes());
    }
}
