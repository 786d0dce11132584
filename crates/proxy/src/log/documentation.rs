//! Tables in `docs/logs.md` that are made from the code: `RAVELIN_BLESS=1 cargo test -p proxy
//! documentation` writes them.

use std::collections::BTreeSet;

use config::model::{LogTime, LogValue};

use super::Phase as P;

#[test]
fn the_table_of_reasons_in_the_documentation_is_that_of_the_code() {
    check("reasons", &reasons());
}

#[test]
fn the_names_of_formats_in_the_documentation_are_those_of_the_code() {
    check("names", &names());
}

fn check(name: &str, table: &str) {
    // One at a time, for both are in one file.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/logs.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let at = page.find(&begin).unwrap() + begin.len();
    let to = page.find(&end).unwrap();
    if std::env::var_os("RAVELIN_BLESS").is_some() {
        let page = [&page[..at], table, &page[to..]].concat();
        return std::fs::write(path, page).unwrap();
    }
    assert!(&page[at..to] == table, "not as in the code; RAVELIN_BLESS=1 writes it");
}

fn names() -> String {
    let mut out = String::from("| name | what it is |\n|---|---|\n");
    let values = LogValue::ALL.iter().map(|(name, _, about)| (name, about));
    let times = LogTime::ALL.iter().map(|(name, _, about)| (name, about));
    for (name, about) in values.chain(times) {
        out.push_str(&format!("| `{name}` | {about} |\n"));
    }
    out
}

fn reasons() -> String {
    let mut out = String::from(
        "| `reason` | `ended` `phase` `cause` | status | `Proxy-Status` error | what happened | what to do |\n\
         |---|---|---|---|---|---|\n",
    );
    for reason in super::reasons::REASONS {
        let words = |words: BTreeSet<&'static str>| match words.is_empty() {
            true => "any".to_owned(),
            false => words.into_iter().collect::<Vec<_>>().join(", "),
        };
        let phases = words(reason.phases.iter().map(|phase| phase.as_str()).collect());
        let causes = words(reason.causes.iter().map(|cause| cause.as_str()).collect());
        let status = match (reason.status, reason.phases) {
            (0, [P::Transfer]) => "as sent".to_owned(),
            (0, _) => "none".to_owned(),
            (status, [P::Transfer]) => format!("as sent, or {status}"),
            (status, _) => status.to_string(),
        };
        let error = match reason.error {
            "" => String::new(),
            error => format!("`{error}`"),
        };
        let (name, by) = (reason.name, reason.by.as_str());
        let (about, advice) = (reason.about, reason.advice);
        out.push_str(&format!(
            "| `{name}` | {by}, {phases}: {causes} | {status} | {error} | {about} | {advice} |\n"
        ));
    }
    out
}
