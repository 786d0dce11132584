//! Regular expressions as operators write them: compiled in one way and in bounded space everywhere.
//!
//! They are matched in time linear in the text, which need not be UTF-8. A configuration that was
//! accepted has none that fails here.

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::syntax;

/// Bytes that a compiled regular expression may take. Those that operators write take some KiB.
const SIZE_MAX: usize = 1 << 20;

/// Longest regular expression in bytes.
const LENGTH_MAX: usize = 4096;

/// Deepest nesting of groups.
const DEPTH_MAX: u32 = 100;

/// Compiles a regular expression.
///
/// # Errors
/// It is none, or too large; in words that fit below it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    build(pattern, syntax(), SIZE_MAX)
}

/// Compiles a regular expression into at most `size_max` bytes, and says how many it takes. The time that a
/// match takes grows with them. Its classes know ASCII, unless it asks for more with `(?u)`: those of
/// Unicode take tens of KiB.
///
/// # Errors
/// As [`compile`].
pub fn compile_small(pattern: &str, size_max: usize) -> Result<(Regex, usize), String> {
    let syntax = syntax().unicode(false);
    let regex = build(pattern, syntax, size_max)?;
    let size =
        NFA::compiler().syntax(syntax).build(pattern).map_or(size_max, |nfa| nfa.memory_usage());
    Ok((regex, size))
}

fn syntax() -> syntax::Config {
    syntax::Config::new().utf8(false).nest_limit(DEPTH_MAX)
}

fn build(pattern: &str, syntax: syntax::Config, size_max: usize) -> Result<Regex, String> {
    if pattern.len() > LENGTH_MAX {
        return Err(format!("a regular expression has at most {LENGTH_MAX} bytes"));
    }
    Regex::builder()
        .syntax(syntax)
        .configure(Config::new().utf8_empty(false).nfa_size_limit(Some(size_max)))
        .build(pattern)
        .map_err(|error| reason(&error))
}

fn reason(error: &BuildError) -> String {
    if error.size_limit().is_some() {
        return "the regular expression is too large".to_owned();
    }
    // Several lines with the pattern in them; the last one says what is wrong.
    let text = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    let last = text.lines().last().unwrap_or("");
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_write_compiles_and_matches_bytes() {
        for (pattern, text) in [
            (r"^2\d\d$", &b"204"[..]),
            (r"(?i)OK", b"\xff ok"),
            (r"\bup\b", b"is up."),
            ("gr\u{fc}n", "gr\u{fc}n".as_bytes()),
            (r"a.c", b"a\xffc"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|reason| panic!("{pattern}: {reason}"));
            assert_eq!(regex.is_match(text), pattern != "a.c", "{pattern}");
        }
    }

    #[test]
    fn reasons_fit_on_a_line() {
        let long = "a".repeat(LENGTH_MAX + 1);
        let deep = "(".repeat(200) + &")".repeat(200);
        for pattern in ["(", "[a", "a{2,1}", "*", r"\k", "(?<n>a)(?<n>b)", &long, &deep] {
            let Err(reason) = compile(pattern) else { panic!("{pattern}") };
            assert!(!reason.contains('\n') && reason.len() < 100, "{reason}");
        }
    }

    #[test]
    fn size_is_bounded() {
        assert!(compile("((a{100}){100}){100}").is_err());
    }

    #[test]
    fn a_small_one_is_bounded_further_and_says_what_it_takes() {
        let (regex, size) = compile_small(r"^/api/v\d+/\w+$", 8192).unwrap();
        assert!(regex.is_match(b"/api/v2/users") && size < 8192, "{size}");
        assert!(compile_small(r"(?u)\w+", 8192).unwrap_err().contains("too large"));
        assert!(compile_small("(a{50}){50}", 16384).unwrap_err().contains("too large"));
        assert!(compile("(a{50}){50}").is_ok());
    }
}
