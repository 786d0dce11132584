//! What must hold for configuration files of any bytes whatsoever.
//!
//! Each function takes arbitrary bytes and panics if a promise of `config` is broken. The fuzz targets
//! feed them what the fuzzer invents; the tests of `config` include this file and feed them the corpus
//! and random texts, so that the promises are also checked where no fuzzer runs.

use std::path::PathBuf;

use config::{Dialect, Loaded, Options, Severity, convert};

/// YAML files in every dialect: there is a model or an error, every finding has its place in the text,
/// and what can be used means the same as native TOML.
pub fn yaml(data: &[u8]) {
    for dialect in [None, Some(Dialect::PyServe), Some(Dialect::Easegress)] {
        let options = Options { dialect, ..Options::default() };
        let first = convert(&[(PathBuf::from("x.yaml"), data)], &options);
        check(&first.loaded);
        let Some(text) = first.text else { continue };
        let again = convert(&[(PathBuf::from("x.toml"), &text)], &Options::default());
        check(&again.loaded);
        assert_eq!(again.loaded.errors(), 0, "{text}\n{}", again.loaded.render(false));
        assert_eq!(again.loaded.model, first.loaded.model, "{text}");
    }
}

fn check(loaded: &Loaded) {
    let refused = loaded.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(loaded.model.is_none(), refused, "{}", loaded.render(false));
    for found in &loaded.diagnostics {
        let places = found.span.into_iter().chain(found.labels.iter().map(|label| label.span));
        for span in places.chain(found.suggestion.iter().map(|suggestion| suggestion.span)) {
            let source = loaded.sources.get(span.file).expect("a file there is");
            assert!(source.text().get(span.start..span.end).is_some(), "{found:?}");
        }
    }
    let text = loaded.render(false);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert_eq!(loaded.render_json().lines().count(), loaded.diagnostics.len());
}
