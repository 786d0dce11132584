//! The pages below `docs/` are one book: each is in its table of contents, links lead somewhere, and the
//! configurations in them can be served.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Options, load};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The pages by their names.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(docs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            pages.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    pages
}

/// What stands in parentheses behind brackets, without what is in code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if in_code {
            continue;
        }
        let words = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        let targets = words.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        links.extend(targets.map(|(target, _)| target.to_owned()));
    }
    links
}

#[test]
fn the_table_of_contents_has_every_page() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&summary).into_iter().collect();
    let there: BTreeSet<String> =
        pages().into_iter().map(|(name, _)| name).filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, there);
}

#[test]
fn links_lead_somewhere() {
    for (page, text) in pages() {
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            assert!(docs().join(target).exists(), "{page}: {link}");
        }
    }
}

/// Those with a site; others are parts of one.
#[test]
fn configurations_in_the_book_can_be_served() {
    let mut served = 0;
    for (page, text) in pages() {
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if !block.contains("[[sites]]") || block.contains('…') {
                continue;
            }
            let files = [(PathBuf::from(format!("{page}.toml")), block)];
            let loaded = load(&files, &Options::default());
            assert!(loaded.errors() == 0, "{}", loaded.render(false));
            served += 1;
        }
    }
    assert!(served > 5);
}
