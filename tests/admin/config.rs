//! Configuration by the admin API: shown without secrets, tried, applied, and taken back.

use super::{ask, get, items, over, socket, texts};
use crate::harness::{Json, Origin, Ravelin, site};

fn json(files: &[(&str, &str)]) -> String {
    let text = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    };
    let file = |(path, content): &(&str, &str)| {
        format!("{{\"path\": {}, \"text\": {}}}", text(path), text(content))
    };
    let files: Vec<String> = files.iter().map(file).collect();
    format!("{{\"files\": [{}]}}", files.join(", "))
}

const JSON: &str = "Content-Type: application/json";

#[test]
fn the_configuration_is_shown_without_its_secrets_and_can_be_sent_back() {
    let (origin, other) = (Origin::saying("before"), Origin::saying("after"));
    let key = "a-key-that-nobody-should-see";
    let toml = format!(
        "{}\n[management]\nenabled = true\nport = 0\napi_key = \"{key}\" # kept\n",
        site(&[&origin.url()], "")
    );
    let ravelin = Ravelin::start(&toml);
    let socket = socket(&ravelin);
    let admin = super::address(&ravelin, "admin API");
    let shown = get(&socket, "/v1/config");
    let [file] = items(shown.get("files")) else { panic!("{shown:?}") };
    let text = file.get("text").text();
    assert!(
        !text.contains(key) && text.contains("api_key = \"****") && text.contains("# kept"),
        "{text}"
    );
    assert!(!over(&socket, &[], "/v1/config/history/1").contains(key));

    // What was shown, with something else in it, has the same key.
    let changed = text.replace(&origin.url(), &other.url());
    let body = json(&[("ravelin.toml", &changed)]);
    let answer = over(&socket, &["-X", "PUT", "-H", JSON, "-d", &body], "/v1/config");
    assert_eq!(Json::parse(&answer).get("generation").number(), 2.0, "{answer}");
    assert_eq!(ravelin.get("/").text(), "after");
    let lines = format!("X-API-Key: {key}\r\n");
    let asked = super::request("GET", "/v1/status", &admin.to_string(), &lines, "");
    assert_eq!(crate::harness::Client::connect(admin).ask(asked).status, 200);
    assert!(!over(&socket, &[], "/v1/config/history/2").contains(key));
    // The file is as it was, and is served again by the next reload.
    ask(&socket, "POST", "/v1/reload", "").expect(200);
    assert_eq!(ravelin.get("/").text(), "before");
}

#[test]
fn a_text_is_tried_applied_and_taken_back() {
    let (origin, other) = (Origin::saying("before"), Origin::saying("after"));
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&toml);
    let socket = socket(&ravelin);
    let changed = toml.replace(&origin.url(), &other.url());
    let put = |query: &str| {
        let args = ["-X", "PUT", "-H", "Content-Type: application/toml", "--data-binary", &changed];
        Json::parse(&over(&socket, &args, &format!("/v1/config{query}")))
    };
    let tried = put("?dry_run");
    assert_eq!(tried.get("generation").number(), 1.0);
    assert!(!items(tried.get("changes")).is_empty(), "{tried:?}");
    assert_eq!(ravelin.get("/").text(), "before");
    let validated =
        Json::parse(&over(&socket, &["--data-binary", &changed], "/v1/config/validate"));
    assert_eq!(texts(validated.get("changes")), texts(tried.get("changes")));
    let history = get(&socket, "/v1/config/history");
    assert_eq!(items(history.get("entries")).len(), 1, "{history:?}");

    assert_eq!(put("").get("generation").number(), 2.0);
    assert_eq!(ravelin.get("/").text(), "after");
    let second = get(&socket, "/v1/config/history/2");
    let diff = second.get("diff").text().to_owned();
    assert!(diff.contains(&format!("-url = \"{}\"", origin.url())), "{diff}");
    assert!(diff.contains(&format!("+url = \"{}\"", other.url())), "{diff}");
    ask(&socket, "POST", "/v1/config/rollback", "").expect(200);
    assert_eq!(ravelin.get("/").text(), "before");
    let history = get(&socket, "/v1/config/history");
    let told: Vec<String> = items(history.get("entries"))
        .iter()
        .map(|it| format!("{} {}", it.get("cause").text(), it.get("outcome").text()))
        .collect();
    assert_eq!(told, ["rollback applied", "apply applied", "start applied"]);
    assert_eq!(ask(&socket, "GET", "/v1/config/history/99", "").status, 404);
    assert_eq!(ask(&socket, "POST", "/v1/config/rollback?to=99", "").status, 422);
}

#[test]
fn a_file_that_is_written_once_more_as_it_was_does_not_undo_what_was_applied() {
    let (origin, other) = (Origin::saying("before"), Origin::saying("after"));
    let watching = |comment: &str, origin: &Origin| {
        format!("# {comment}\n{}\n[reload]\nwatch = true\n", site(&[&origin.url()], ""))
    };
    let write = |ravelin: &Ravelin, toml: &str| {
        std::fs::write(ravelin.dir().join("ravelin.toml"), toml).unwrap();
    };
    let ravelin = Ravelin::start(&watching("one", &origin));
    ask(&socket(&ravelin), "PUT", "/v1/config", &watching("one", &other)).expect(200);
    write(&ravelin, &watching("one", &origin));
    // From a change on that another watch has taken until it has taken the next, each watch has looked.
    let clock = Ravelin::start(&watching("one", &origin));
    for (comment, taken) in [("two", "generation 2"), ("three", "generation 3")] {
        write(&clock, &watching(comment, &origin));
        clock.stderr.line_with(&["configuration reloaded by file watch", taken]);
    }
    assert_eq!(ravelin.get("/").text(), "after");
    write(&ravelin, &watching("two", &origin));
    ravelin.stderr.line_with(&["configuration reloaded by file watch, generation 3"]);
    assert_eq!(ravelin.get("/").text(), "before");
}

#[test]
fn a_mistake_is_told_with_its_place_and_changes_nothing() {
    let origin = Origin::saying("before");
    let ravelin = Ravelin::before(&origin);
    let socket = socket(&ravelin);
    for path in ["/v1/config", "/v1/config?dry_run", "/v1/config/validate"] {
        let method = if path.ends_with("validate") { "POST" } else { "PUT" };
        let wrong = site(&[&origin.url()], "").replace("hostname", "hostnam");
        let answer = ask(&socket, method, path, &wrong);
        assert_eq!(answer.status, 422, "{path}");
        let problem = Json::parse(&answer.text());
        let [diagnostic, ..] = items(problem.get("diagnostics")) else { panic!("{problem:?}") };
        assert!(diagnostic.text().contains("--> ravelin.toml:"), "{}", diagnostic.text());
        assert!(diagnostic.text().contains("hostnam"), "{}", diagnostic.text());
        assert!(!items(problem.get("findings")).is_empty());
    }
    assert_eq!(ravelin.get("/").text(), "before");
    assert_eq!(get(&socket, "/v1/status").get("generation").number(), 1.0);
    for body in ["{}", "{\"files\": []}", "{\"files\": [{\"path\": 1}]}", "nonsense"] {
        let (_, answer, _) = crate::harness::curl_any(&[
            "--unix-socket",
            socket.to_str().unwrap(),
            "-X",
            "PUT",
            "-H",
            JSON,
            "-d",
            body,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "http://localhost/v1/config",
        ]);
        assert_eq!(answer, "400", "{body}");
    }
}

#[test]
fn asterisks_that_stand_for_one_of_several_secrets_are_refused() {
    let origin = Origin::saying("before");
    let auth = "[sites.auth]\ntype = \"header\"\n\n[sites.auth.fields.\"X-Api-Key\"]\nvalues = [\n";
    let toml =
        format!("{}\n{auth}  \"key-one!\",\n  \"key-two!\",\n]\n", site(&[&origin.url()], ""));
    let ravelin = Ravelin::start(&toml);
    let socket = socket(&ravelin);
    let shown = get(&socket, "/v1/config");
    let text = items(shown.get("files"))[0].get("text").text();
    assert_eq!(text.matches("  \"*****\",\n").count(), 2, "{text}");
    // As it was shown, each stands where it stood.
    assert_eq!(ask(&socket, "PUT", "/v1/config?dry_run", text).status, 200);
    let moved = text.replacen("name = \"", "name = \"x", 1);
    let refused = ask(&socket, "PUT", "/v1/config", &moved);
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("asterisks in the place of a secret"), "{}", refused.text());
    // One of them said again, the other is still not known.
    let half = text.replacen("*****", "key-one!", 1);
    assert_eq!(ask(&socket, "PUT", "/v1/config", &half).status, 400);
    let whole = half.replacen("*****", "key-two!", 1);
    assert_eq!(ask(&socket, "PUT", "/v1/config", &whole).status, 200);
}

#[test]
fn a_text_is_tried_out_on_a_share_of_the_connections_first() {
    let (origin, other) = (Origin::saying("before"), Origin::saying("after"));
    let toml = site(&[&origin.url()], "");
    let ravelin = Ravelin::start(&toml);
    let socket = socket(&ravelin);
    let changed = toml.replace(&origin.url(), &other.url());
    let path = "/v1/config?canary=50%25&for=10m";
    let tried = ask(&socket, "PUT", path, &changed).expect(200);
    assert_eq!(Json::parse(&tried.text()).get("generation").number(), 2.0);
    let outcome = || {
        let history = get(&socket, "/v1/config/history");
        items(history.get("entries"))[0].get("outcome").text().to_owned()
    };
    assert_eq!(outcome(), "canary");
    crate::harness::until("one is served by it", || ravelin.get("/").text() == "after");
    crate::harness::until("one is not", || ravelin.get("/").text() == "before");
    assert_eq!(get(&socket, "/v1/status").get("generation").number(), 1.0);
    ask(&socket, "POST", "/v1/config/rollback", "").expect(200);
    assert_eq!(outcome(), "withdrawn");
    assert!((0..20).all(|_| ravelin.get("/").text() == "before"));
}

/// What is shown with asterisks stands for the secret when it comes back; what is wrong with a line is told
/// with the line.
#[test]
fn an_operator_cannot_have_secrets_quoted() {
    const SECRET: &str = "k8fj2-a-key-nobody-sees";
    let origin = Origin::saying("traffic");
    let keys = format!("[management]\nsocket_level = \"operator\"\napi_key = \"{SECRET}\"");
    let ravelin = Ravelin::start(&format!("{}\n{keys}\n", site(&[&origin.url()], "")));
    let socket = socket(&ravelin);
    let shown = get(&socket, "/v1/config");
    let [file] = items(shown.get("files")) else { panic!("one file") };
    let masked = file.get("text").text().lines().find(|line| line.starts_with("api_key"));
    let masked = masked.expect("the line is shown").to_owned();
    assert!(masked.contains("***"), "{masked}");
    for text in [format!("{masked}\n"), format!("[[sites]]\nname = \"\"\"\n{masked}\n\"\"\"\n")] {
        let answer = ask(&socket, "POST", "/v1/config/validate", &text).text();
        assert!(!answer.contains(SECRET), "{answer}");
    }
}
