//! `docs/linter.md` has every rule: its table is made from them. `RAVELIN_BLESS=1 cargo test -p config
//! --test linter` writes it anew. Every rule has a case that shows it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use config::lint::Rule;

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
