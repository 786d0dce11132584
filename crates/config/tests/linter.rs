//! `docs/linter.md` has every rule: its table is made from them. `RAVELIN_BLESS=1 cargo test -p config
//! --test linter` writes it anew. Every rule has a case that shows it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use config::lint::{Rule, is_allowed, lint};
use config::{Options, load};

const BEGIN: &str = "<!-- begin: made from the rules by crates/config/tests/linter.rs -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_page_has_every_rule_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/linter.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the marker where the table begins");
    let (_, after) = rest.split_once(END).expect("the marker where the table ends");
    let mut table = "| Code | Name | What it says |\n|---|---|---|\n".to_owned();
    for (_, code, name, about) in Rule::ALL {
        writeln!(table, "| `{code}` | `{name}` | {} |", about.trim()).unwrap();
    }
    let made = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("RAVELIN_BLESS").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(page == made, "docs/linter.md is not what the rules say; see this test's head");
    }
}

#[test]
fn codes_and_names_are_found_and_no_two_are_the_same() {
    let mut seen = Vec::new();
    for (rule, code, name, _) in Rule::ALL {
        assert_eq!((Rule::called(code), Rule::called(name)), (Some(*rule), Some(*rule)));
        assert_eq!((rule.code(), rule.name()), (*code, *name));
        assert!(!seen.contains(code) && !seen.contains(name), "{code} {name}");
        seen.extend([*code, *name]);
    }
}

#[test]
fn every_rule_has_a_case() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let names: Vec<String> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    // Those of certificates are shown by the built binary.
    for (rule, code, ..) in Rule::ALL {
        let reads_certificates = matches!(rule, Rule::CertificateHost | Rule::CertificateExpiry);
        let shown = names.iter().any(|name| name.starts_with(&format!("lint_{code}_")));
        assert!(shown || reads_certificates, "no case lint_{code}_*.case");
    }
}

/// What is said of examples all the same, and why it is right there.
const SAID: &[(&str, &str)] = &[];

/// A rule that speaks of what is recommended is wrong, or the recommendation is.
#[test]
fn nothing_is_said_of_the_examples_and_the_quickstart() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for entry in fs::read_dir(top.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            texts.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    for page in ["docs/quickstart.md", "README.md"] {
        let text = fs::read_to_string(top.join(page)).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if block.contains("[[sites]]") && !block.contains('…') {
                texts.push((page.to_owned(), block.to_owned()));
            }
        }
    }
    let (mut looked_at, mut said) = (0, String::new());
    for (name, text) in texts {
        let files = [(PathBuf::from(format!("{name}.toml")), text)];
        let loaded = load(&files, &Options::default());
        let Some(model) = &loaded.model else { continue };
        looked_at += 1;
        for finding in lint(model).iter().filter(|finding| !is_allowed(model, finding)) {
            let code = finding.code.as_str();
            if !SAID.contains(&(name.as_str(), code)) {
                writeln!(said, "{name}: {code} {}", finding.message).unwrap();
            }
        }
    }
    assert!(looked_at >= 15, "only {looked_at} configurations were read");
    assert!(said.is_empty(), "\n{said}");
}
