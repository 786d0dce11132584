//! A configuration that is tried out on a share of the connections.

use super::*;

/// Opens connections and asks once on each until there is a word about the canary.
fn ask_until(ravelin: &Ravelin, word: &str) -> Vec<Response> {
    let mut answers = Vec::new();
    until(word, || {
        answers.extend((0..20).map(|_| ravelin.get("/")));
        ravelin.stderr.all().iter().any(|line| line.contains(word))
    });
    answers
}

fn count(answers: &[Response], text: &str) -> usize {
    answers.iter().filter(|answer| answer.text() == text).count()
}

#[test]
fn one_that_is_as_good_is_for_all_in_the_end() {
    let ravelin = Ravelin::start(&answering("old"));
    let mut kept = ravelin.client();
    assert_eq!(kept.get("/").text(), "old");
    write(&ravelin, &answering("new"));
    let said = command(&ravelin, &["reload", "--canary", "40%", "--for", "2s"]);
    assert!(said.contains("generation 2"), "{said}");
    // A connection stays with what it has.
    let mut stays: Vec<(Client, String)> = (0..10)
        .map(|_| {
            let mut client = ravelin.client();
            let text = client.get("/").expect(200).text();
            (client, text)
        })
        .collect();
    for (client, text) in &mut stays {
        assert_eq!(client.get("/").expect(200).text(), *text);
    }
    assert_eq!(kept.get("/").text(), "old");
    let answers = ask_until(&ravelin, "canary promoted");
    let (old, new) = (count(&answers, "old"), count(&answers, "new"));
    assert!(old > 20 && new > 20, "{old} and {new}");
    ravelin.stderr.line_with(&["canary promoted, generation 2", "as good"]);
    for (client, _) in &mut stays {
        assert_eq!(client.get("/").expect(200).text(), "new");
    }
    assert_eq!(kept.get("/").text(), "new");
    let history = command(&ravelin, &["history"]);
    assert!(history.contains("applied, in force") && history.contains("as good"), "{history}");
}

#[test]
fn one_that_fails_is_taken_back_by_itself() {
    let ravelin = Ravelin::start(&answering("old"));
    write(&ravelin, &answering("new").replace("status = 200", "status = 500"));
    command(&ravelin, &["reload", "--canary", "30%", "--for", "1h"]);
    let answers = ask_until(&ravelin, "canary withdrawn");
    assert!(answers.iter().any(|answer| answer.status == 500));
    ravelin.stderr.line_with(&["canary withdrawn, generation 2", "more failures"]);
    for _ in 0..50 {
        assert_eq!(ravelin.get("/").expect(200).text(), "old");
    }
    let history = command(&ravelin, &["history"]);
    assert!(history.contains("withdrawn") && history.contains("more failures"), "{history}");
}

#[test]
fn an_operator_may_end_it_at_any_time() {
    let ravelin = Ravelin::start(&answering("old"));
    write(&ravelin, &answering("new"));
    command(&ravelin, &["reload", "--canary", "50%", "--for", "1h"]);
    until("the new one", || ravelin.get("/").text() == "new");
    command(&ravelin, &["rollback"]);
    for _ in 0..20 {
        assert_eq!(ravelin.get("/").text(), "old");
    }
    ravelin.stderr.line_with(&["canary withdrawn, generation 2: by uid "]);
    // A reload ends it too, and takes its place.
    command(&ravelin, &["reload", "--canary", "50%", "--for", "1h"]);
    write(&ravelin, &answering("third"));
    command(&ravelin, &["reload"]);
    for _ in 0..20 {
        assert_eq!(ravelin.get("/").text(), "third");
    }
}

#[test]
fn another_address_cannot_be_for_some_connections_only() {
    let ravelin = Ravelin::start(&answering("old"));
    let more = format!("\"127.0.0.1:0\", \"127.0.0.1:{}\"", free_port());
    write(&ravelin, &answering("new").replace("\"127.0.0.1:0\"", &more));
    let output = run(ravelin.dir(), &["reload", "--canary", "5%"]);
    assert_eq!(output.status.code(), Some(1));
    let said = printed(&output);
    assert!(said.contains("listens at other addresses") && said.contains("--canary"), "{said}");
    assert_eq!(ravelin.get("/").text(), "old");
}

#[test]
fn a_watch_of_the_files_does_not_make_it_for_all() {
    let watching = |text: &str| format!("{}\n[reload]\nwatch = true\n", answering(text));
    let ravelin = Ravelin::start(&watching("old"));
    write(&ravelin, &watching("new"));
    command(&ravelin, &["reload", "--canary", "50%", "--for", "2s"]);
    // With too few requests it ends after three times its time, which is more than the watch needs.
    ravelin.stderr.line_with(&["canary withdrawn, generation 2", "too few"]);
    assert_eq!(ravelin.get("/").text(), "old");
    // Taken back before the watch may have seen anything: it does not take it either.
    write(&ravelin, &watching("newer"));
    command(&ravelin, &["reload", "--canary", "50%", "--for", "1h"]);
    command(&ravelin, &["rollback"]);
    // Written once more as it was it is no other. Meanwhile another canary ends, which again is more than the
    // watch needs.
    write(&ravelin, &watching("newer"));
    let clock = Ravelin::start(&answering("old"));
    write(&clock, &answering("new"));
    command(&clock, &["reload", "--canary", "50%", "--for", "2s"]);
    clock.stderr.line_with(&["canary withdrawn", "too few"]);
    assert_eq!(ravelin.get("/").text(), "old");
    // What is not yet read is taken, and before it nothing was.
    write(&ravelin, &watching("newest"));
    ravelin.stderr.line_with(&["configuration reloaded by file watch, generation 4"]);
    assert_eq!(ravelin.get("/").text(), "newest");
    let lines = ravelin.stderr.all();
    assert_eq!(lines.iter().filter(|line| line.contains("by file watch")).count(), 1, "{lines:?}");
}
