//! YAML files of any bytes: the promises of `fuzz/src/configuration.rs` for the fuzzer's corpus, for its
//! nearest neighbours and for random texts.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use config::{Code, Loaded, Options, load};
use proptest::prelude::*;

#[path = "../../../fuzz/src/configuration.rs"]
mod promises;

const PYSERVE: &str = include_str!("../../../fuzz/corpus/yaml/pyserve");
const EASEGRESS: &str = include_str!("../../../fuzz/corpus/yaml/easegress");

fn one(text: impl AsRef<[u8]>) -> Loaded {
    load(&[(PathBuf::from("x.yaml"), text)], &Options::default())
}

#[test]
fn the_corpus_keeps_every_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/yaml");
    let mut seen = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap();
        promises::yaml(&text);
        seen += 1;
        for cut in (0..text.len()).step_by(11) {
            promises::yaml(&text[..cut]);
            let mut changed = text.clone();
            changed[cut] = b"\t:-\"'[{#&*!|\0\xff"[cut % 14];
            promises::yaml(&changed);
        }
    }
    assert!(seen >= 60, "only {seen} files");
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let steps: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
        format!("{}1", "[".repeat(60) + &"]".repeat(60)),
        steps,
    ] {
        assert!(one(&text).model.is_none());
    }
}

#[test]
fn aliases_of_aliases_do_not_grow_without_bound() {
    let mut text = String::from("server: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
    for level in 1..40 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 9].join(", ");
        text += &format!("x{level}: &a{level} [{items}]\n");
    }
    let loaded = one(&text);
    assert!(loaded.render(false).contains("aliases of aliases"), "{}", loaded.render(false));
    let many = format!("server: &a 1\nx: [{}]\n", "*a, ".repeat(20_000));
    assert!(one(many).render(false).contains("more aliases than"));
    let merged: String = (1..40)
        .map(|level| {
            format!("x{level}: &a{level} {{<<: [*a{0}, *a{0}], k{level}: 1}}\n", level - 1)
        })
        .collect();
    _ = one(format!("server: &a0 {{k: 1}}\n{merged}"));
}

#[test]
fn a_file_of_nothing_but_mistakes_gives_a_bounded_number_of_findings() {
    for line in
        ["a: 1\n", "a: b: c\n", "\t- x\n", "- \"\n", "a: [\n", "x\n", "\u{1}\n", "a: !b c\n"]
    {
        let text = "server:\n".to_owned() + &line.repeat(20_000);
        let found = one(text).diagnostics.len();
        assert!((1..=1000).contains(&found), "{line:?} gave {found}");
    }
}

#[test]
fn a_long_file_is_read_in_linear_time() {
    let mut text = String::from("of_no_dialect:\n");
    for number in 0..10_000 {
        text += &format!(
            "  - {{host: h{number}, path: /p{number}, port: 80}}\n  - k{number}: 1\n    l: [2]\n"
        );
    }
    let codes: Vec<Code> = one(&text).diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, [Code::UnknownDialect]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_keep_every_promise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        promises::yaml(&bytes);
    }

    #[test]
    fn any_text_of_yaml_characters_keeps_every_promise(text in "[\\[\\]{}:,.#'\"\\\\ \r\n\t&*!|>%@`a-c0-9é?~<-]{0,120}") {
        promises::yaml(text.as_bytes());
    }

    #[test]
    fn any_change_of_a_good_file_keeps_every_promise(
        file in 0..2_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_usize, "[\\[\\]{}:,#'\"\\\\ \n\t&*!|>a-z0-9é-]{0,6}"), 1..5),
    ) {
        let mut text: Vec<char> = [PYSERVE, EASEGRESS][file].chars().collect();
        for (place, removed, added) in changes {
            let start = place.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, added.chars());
        }
        promises::yaml(text.iter().collect::<String>().as_bytes());
    }

    #[test]
    fn any_line_put_elsewhere_keeps_every_promise(file in 0..2_usize, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let mut lines: Vec<&str> = [PYSERVE, EASEGRESS][file].lines().collect();
        let line = lines[from.index(lines.len())];
        lines.insert(to.index(lines.len() + 1), line);
        promises::yaml(lines.join("\n").as_bytes());
    }
}
