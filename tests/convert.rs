//! `ravelin convert`: the same configuration as native TOML, and the same behaviour.

use crate::harness::*;

const PYSERVE: &str = "server:
  host: 127.0.0.1
  port: 8000
  default_root: false
  reverse_proxy:
    - host: 127.0.0.1
      path: /api
      port: 9000
      websocket: true
";

fn convert(files: &[(&str, &str)], args: &[&str]) -> (Option<i32>, String, String) {
    let dir = TempDir::new();
    for (name, text) in files {
        dir.write(name, text);
    }
    let output = run(dir.path(), &[&["convert"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn native_toml_stays_what_it_is() {
    let site = site(&["http://127.0.0.1:3001"], "");
    let (code, first, errors) = convert(&[("site.toml", &site)], &["site.toml"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{first}");
    assert!(first.starts_with("[[sites]]\n"), "{first}");
    let (code, second, _) = convert(&[("again.toml", &first)], &["again.toml"]);
    assert_eq!((code, second), (Some(0), first));
}

#[test]
fn yaml_becomes_toml_that_check_takes_with_a_comment_where_a_line_means_something_else() {
    let (code, toml, errors) = convert(&[("config.yaml", PYSERVE)], &["config.yaml"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{toml}");
    assert!(toml.starts_with("# config.yaml, read as PyServe\n"), "{toml}");
    assert!(toml.contains("# config.yaml:9: ") && toml.contains("websocket"), "{toml}");
    let dir = TempDir::new();
    dir.write("converted.toml", &toml);
    dir.write("static/index.html", "");
    let output = run(dir.path(), &["check", "converted.toml"]);
    assert_eq!(output.status.code(), Some(0), "{toml}\n{}", printed(&output));
}

#[test]
fn every_mistake_is_told_on_standard_error_and_nothing_is_written() {
    let files = [("bad.yaml", "server:\n  port: 70000\n  reverse_proxy: 1\n")];
    let (code, toml, errors) = convert(&files, &["bad.yaml"]);
    assert_eq!((code, toml.as_str()), (Some(1), ""), "{errors}");
    for part in ["bad.yaml:2:9", "bad.yaml:3:18", "2 errors, nothing is converted"] {
        assert!(errors.contains(part), "{part:?} is missing in\n{errors}");
    }
}

#[test]
fn files_that_are_on_another_machine_are_no_hindrance() {
    let ssl = "ssl = { enabled = true, cert_file = \"c.pem\", key_file = \"k.pem\" }\n";
    let site = "[[sites]]\nname = \"a\"\nhostname = \"a\"\nport = 1\n".to_owned() + ssl;
    let (code, toml, errors) = convert(&[("site.toml", &site)], &["site.toml"]);
    assert_eq!((code, toml.contains("c.pem")), (Some(0), true), "{errors}");
}

#[test]
fn a_directory_is_converted_as_a_whole() {
    let files = [("conf/a.yml", PYSERVE), ("conf/b.toml", &site(&["http://127.0.0.1:1"], ""))];
    let (code, toml, errors) = convert(&files, &["conf"]);
    assert_eq!((code, toml.matches("[[sites]]").count()), (Some(0), 2), "{toml}{errors}");
}

#[test]
fn the_language_can_be_said_and_must_be_where_nothing_says_it() {
    let (code, _, errors) = convert(&[("conf", PYSERVE)], &["conf"]);
    assert!(code == Some(1) && errors.contains("--dialect"), "{errors}");
    let (code, toml, errors) = convert(&[("conf", PYSERVE)], &["--dialect", "pyserve", "conf"]);
    assert_eq!(code, Some(0), "{toml}{errors}");
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(convert(&[], &[]).0, Some(2));
    assert_eq!(convert(&[], &["--dialect", "klingon", "x"]).0, Some(2));
    assert_eq!(convert(&[], &["missing.yaml"]).0, Some(1), "no usage, but nothing to read");
}
