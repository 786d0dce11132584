//! `ravelin check --strict`: what one may think better of.

use crate::harness::*;

fn strict(dir: &TempDir, toml: &str) -> (Option<i32>, String) {
    dir.write("site.toml", toml);
    let output = run(dir.path(), &["check", "--strict", "site.toml"]);
    (output.status.code(), printed(&output))
}

const BARE: &str = r#"[[sites]]
name = "main"
hostname = "example.com"
port = 8080

[sites.proxy]
enabled = true
timeout = { read = "3h" }
buffering = { request = true }

[[sites.proxy.upstreams]]
name = "backend"
url = "http://127.0.0.1:3001"

[[sites.proxy.upstreams]]
name = "unused"
url = "http://127.0.0.1:3002"

[[sites.proxy.routes]]
path = "/"
upstream = "backend"
"#;

#[test]
fn notes_of_rules_come_with_strict_only_and_fail_it() {
    let dir = TempDir::new();
    let (code, text) = strict(&dir, BARE);
    assert_eq!(code, Some(1), "{text}");
    for part in ["note[L003]", "note[L004]", "note[L005]", "site.toml:15:1", "ok, 3 notes"] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    // The warning about the same is not said twice.
    assert!(!text.contains("warning[unused]"), "{text}");
    let output = run(dir.path(), &["check", "site.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert!(!printed(&output).contains("L00"), "{}", printed(&output));
}

#[test]
fn what_is_allowed_is_not_said() {
    let dir = TempDir::new();
    let allow = "[lint]\nallow = [\"L003\", \"missing-timeout\", \"no-body-limit\"]\n\n";
    let (code, text) = strict(&dir, &format!("{allow}{BARE}"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ok:"), "{text}");
}

#[test]
fn certificates_are_read() {
    let dir = TempDir::new();
    let pair = Authority::new().server(&["other.example"]);
    dir.write("site.pem", pair.certificate);
    dir.write("site.key", pair.key);
    // Or there is something to be said about that.
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.path().join("site.key"), own).unwrap();
    dir.write("public/index.html", "x");
    let toml = "[[sites]]\nname = \"main\"\nhostname = \"example.com\"\nport = 8443\n\
         static_dir = \"public\"\n[sites.ssl]\nenabled = true\ncert_file = \"site.pem\"\n\
         key_file = \"site.key\"\nhsts = true\n";
    let (code, text) = strict(&dir, toml);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("note[L012]"), "{text}");
    assert!(text.contains("is not for `example.com`"), "{text}");
    assert!(text.contains("site.toml:8:1"), "{text}");
    // The warning about the same is not said twice.
    assert!(!text.contains("bad-certificate"), "{text}");

    let pair = Authority::new().expired(&["example.com"]);
    dir.write("site.pem", pair.certificate);
    dir.write("site.key", pair.key);
    let (code, text) = strict(&dir, toml);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("note[L013]"), "{text}");
    assert!(text.contains("the certificate of `main` has expired"), "{text}");
    assert!(!text.contains("note[L012]") && !text.contains("bad-certificate"), "{text}");
}

#[test]
fn tools_get_codes() {
    let dir = TempDir::new();
    dir.write("site.toml", BARE);
    let output = run(dir.path(), &["check", "--strict", "--format", "json", "site.toml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let codes: Vec<String> =
        text.lines().map(|line| Json::parse(line).get("code").text().to_owned()).collect();
    assert!(codes.contains(&"L003".to_owned()) && codes.contains(&"L004".to_owned()), "{codes:?}");
}
