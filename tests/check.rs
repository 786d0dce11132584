//! `ravelin check`: every mistake at once, each where it is.

use crate::harness::*;

const MANY_MISTAKES: &str = r#"[[sites]]
name = "one"
hostname = "example.com"
port = 70000

[sites.proxy]
enabled = true

[[sites.proxy.upstreams]]
name = "backend"
url = "http://127.0.0.1:3001"

[[sites.proxy.routes]]
path = "/api/"
upstrem = "backend"

[[sites.proxy.routes]]
path = "/x/"
upstream = "bakend"

[[sites]]
name = "two"
hostname = "same.test"
port = 8080
default = true

[[sites]]
name = "three"
hostname = "SAME.test"
port = 8080
default = true
"#;

fn check(text: &str, args: &[&str]) -> (Option<i32>, String) {
    let dir = TempDir::new();
    dir.write("site.toml", text);
    let output = run(dir.path(), &[&["check", "site.toml"], args].concat());
    (output.status.code(), printed(&output))
}

#[test]
fn a_good_configuration_is_0() {
    let (code, text) = check(&site(&["http://127.0.0.1:3001"], ""), &[]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn every_mistake_is_found_at_once_with_its_place() {
    let (code, text) = check(MANY_MISTAKES, &[]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "site.toml:4:8",  // the port out of range
        "site.toml:15:1", // the unknown key
        "upstrem",
        "did you mean",
        "site.toml:19:12", // the route whose upstream has no entry
        "bakend",
        "backend",
        "port = 70000", // the source line itself
        "^",            // and a caret below it
        "SAME.test",    // two sites with one host name and port
        "default",      // more than one default
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn a_duplicate_key_is_a_mistake() {
    let (code, text) =
        check("[[sites]]\nname = \"a\"\nname = \"b\"\nhostname = \"h\"\nport = 1\n", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("site.toml:3:1"), "{text}");
}

#[test]
fn text_that_is_no_toml_is_a_mistake_with_its_place() {
    let (code, text) = check("[[sites]]\nname = \"a\nport = 1\n", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("site.toml:2:"), "{text}");
}

#[test]
fn json_output_has_one_finding_a_line() {
    let dir = TempDir::new();
    dir.write("site.toml", MANY_MISTAKES);
    let output = run(dir.path(), &["check", "site.toml", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<Json> = text.lines().map(Json::parse).collect();
    let errors: Vec<&Json> =
        findings.iter().filter(|f| f.get("severity").text() == "error").collect();
    assert!(errors.len() >= 5, "{text}");
    for error in &errors {
        assert!(error.get("line").number() >= 1.0, "{error:?}");
        assert!(error.get("column").number() >= 1.0, "{error:?}");
        assert!(error.get("file").text().ends_with("site.toml"), "{error:?}");
        assert!(!error.get("message").text().is_empty(), "{error:?}");
    }
    assert!(errors.iter().any(|e| e.get("line").number() == 15.0), "{text}");
    assert!(text.contains("\"replacement\":\"upstream\""), "{text}");
}

#[test]
fn keys_of_later_versions_are_accepted_and_reported() {
    let toml = site_with("[sites.compression]\nenabled = true\n", &["http://127.0.0.1:1"], "");
    let (code, text) = check(&toml, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("not in effect yet"), "{text}");
    assert!(text.contains("site.toml:"), "{text}");
}

#[test]
fn a_warning_does_not_fail_the_check() {
    let (code, text) =
        check(&site_with("static_dir = \"nowhere\"", &["http://127.0.0.1:1"], ""), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning") && text.contains("nowhere"), "{text}");
}

#[test]
fn durations_and_sizes_take_numbers_and_units() {
    let toml =
        "[security]\nmax_request_size = \"10MB\"\n[performance]\nkeep_alive_timeout = \"90s\"\n"
            .to_owned()
            + &site(
                &["http://127.0.0.1:1"],
                "[sites.proxy.timeout]\nread = 30\nwrite = \"1m\"\nconnect = \"500ms\"\n",
            );
    let (code, text) = check(&toml, &[]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&toml.replace("\"90s\"", "\"90 parsecs\""), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("site.toml:4:22"), "{text}");
}

#[test]
fn several_files_are_checked() {
    let dir = TempDir::new();
    dir.write("good.toml", site(&["http://127.0.0.1:1"], ""));
    dir.write("bad.toml", MANY_MISTAKES);
    let output = run(dir.path(), &["check", "bad.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let output = run(dir.path(), &["check", "good.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    let output = run(dir.path(), &["check", "absent.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("absent.toml"));
}

#[test]
fn color_is_off_when_nobody_looks() {
    let (_, text) = check(MANY_MISTAKES, &[]);
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn hostile_text_does_not_crash_the_check() {
    for text in [
        "",
        "[[sites]]",
        "sites = 3",
        "[[sites]]\nname = \"\u{202e}x\"\nhostname = \"\u{0}\"\nport = 99999999999999999999\n",
        "[[[[[[[[[[[[[[",
        "a.b.c.d.e.f.g = 1",
        "[sites]\nproxy = []\n",
        "[[sites]]\nlisten = [1, {a = 2}, [[[]]]]\nhostname = [\"a\"]\nname = 2024-01-01\n",
    ] {
        let (code, out) = check(text, &[]);
        assert_eq!(code, Some(1), "{text:?}: {out}");
        assert!(!out.contains("panicked"), "{text:?}: {out}");
    }
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let (code, out) = check(&deep, &[]);
    assert_eq!(code, Some(1), "{}", &out[..out.len().min(500)]);
}
