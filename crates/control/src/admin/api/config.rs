//! `/v1/config`: what is in force, what was, and what is to be.

use std::collections::HashMap;
use std::time::Duration;

use config::model::AdminLevel;
use serde_json::{Value, json};

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has, may};
use super::super::{Problem, Request, Response, Running, bounds};
use super::orders::{CANARY, FOR, canary};
use super::unix_millis;
use crate::history::{Cause, Entry, Outcome, Text};
use crate::orders::{Applied, Canary};

/// Compiling thousands of sites, reading their certificates, and waiting for other orders may take time.
pub(super) const ORDER_TIME: Duration = Duration::from_secs(120);

pub(super) static ROUTES: &[Route] = &[
    Route::get("/v1/config", "The configuration in force, without secrets.", current)
        .level(Some(AdminLevel::Operator))
        .answer(Content::Json(&CONFIG)),
    Route::to(
        "PUT",
        "/v1/config",
        "Serves another configuration, which is kept in memory: the files are as they were, and are served \
         again by the next reload.",
        apply,
    )
    .level(Some(AdminLevel::Admin))
    .query(&[
        may("dry_run", Shape::Bool, "Only says whether it could be served, and what would change."),
        may("name", Shape::Text, "The name of the file, if the body is its text."),
        CANARY,
        FOR,
    ])
    .body(Content::JsonOrText(&TEXTS), bounds::CONFIG_MAX)
    .answer(Content::Json(&APPLIED))
    .time(ORDER_TIME),
    Route::to(
        "POST",
        "/v1/config/validate",
        "Says whether a configuration could be served, and what would change.",
        validate,
    )
    .query(&[may("name", Shape::Text, "The name of the file, if the body is its text.")])
    .body(Content::JsonOrText(&TEXTS), bounds::CONFIG_MAX)
    .answer(Content::Json(&APPLIED))
    .time(ORDER_TIME),
    Route::get("/v1/config/history", "What was served, and what was refused, the latest first.", list)
        .answer(Content::Json(&HISTORY)),
    Route::get("/v1/config/history/{generation}", "One of them with its texts and what was different.", one)
        .level(Some(AdminLevel::Operator))
        .answer(Content::Json(&PAST)),
    Route::to(
        "POST",
        "/v1/config/rollback",
        "Serves again what was served before.",
        rollback,
    )
    .query(&[may("to", Shape::Integer, "The generation; without it the one before that in force.")])
    .answer(Content::Json(&APPLIED))
    .time(ORDER_TIME),
];

/// What an order to serve something answers.
pub(super) static APPLIED: Shape = Shape::Object(
    "Applied",
    &[
        has("generation", Shape::Integer, "The number of the configuration in force."),
        has("changes", Shape::List(&Shape::Text), "What is different from before."),
        has(
            "warnings",
            Shape::List(&Shape::Text),
            "What speaks against it, and what of it needs a restart.",
        ),
    ],
);

static FILE: Shape = Shape::Object(
    "File",
    &[
        has("path", Shape::Text, "The name of the file, which also says what language it is in."),
        has("text", Shape::Text, "Its content."),
    ],
);

static SHOWN: Shape = Shape::Object(
    "ShownFile",
    &[
        has("path", Shape::Text, "The name of the file."),
        has(
            "text",
            Shape::Maybe(&Shape::Text),
            "Its content with asterisks where secrets are; `null` if it is not known where they are.",
        ),
    ],
);

static TEXTS: Shape = Shape::Object(
    "Texts",
    &[has(
        "files",
        Shape::List(&FILE),
        "Read as one configuration. A line with asterisks in it that is shown so by GET stands for the line \
         with the secret.",
    )],
);

static CONFIG: Shape = Shape::Object(
    "Config",
    &[
        has("generation", Shape::Integer, "Its number."),
        has("files", Shape::List(&SHOWN), "The texts."),
    ],
);

static EVENT: Shape = Shape::Object(
    "HistoryEntry",
    &[
        has("generation", Shape::Maybe(&Shape::Integer), "Its number; `null` if it was refused."),
        has("time", Shape::Time, "When."),
        has("author", Shape::Text, "By whose order."),
        has(
            "cause",
            Shape::OneOf(&["start", "reload", "apply", "rollback"]),
            "What the order was.",
        ),
        has(
            "outcome",
            Shape::OneOf(&["applied", "refused", "canary", "withdrawn"]),
            "How it went.",
        ),
        has("reason", Shape::Text, "Why it went so; may be empty."),
        has("in_force", Shape::Bool, "Whether it is in force."),
    ],
);

static HISTORY: Shape =
    Shape::Object("History", &[has("entries", Shape::List(&EVENT), "The latest first.")]);

static PAST: Shape = Shape::Object(
    "Past",
    &[
        has("entry", Shape::Same(&EVENT), "What it was."),
        has("diff", Shape::Text, "What was different from before, without secrets."),
        has("files", Shape::List(&SHOWN), "The texts."),
    ],
);

fn current(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async {
        let history = running.history.borrow();
        let generation = history.in_force();
        let files = history.get(generation).map(shown).unwrap_or_default();
        Ok(Response::json(&json!({ "generation": generation, "files": files })))
    })
}

fn apply(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let (dry_run, canary) = (request.switch("dry_run")?, canary(&request)?);
        order(running, request, canary, dry_run).await
    })
}

fn validate(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(order(running, request, None, true))
}

async fn order(
    running: &Running,
    request: Request,
    canary: Option<Canary>,
    dry_run: bool,
) -> Result<Response, Problem> {
    let mut files = texts(running, &request)?;
    // What is wrong with a line is said with the line: to nobody who may not see the secret in it.
    if request.level >= AdminLevel::Admin {
        for (_, text) in &mut files {
            *text = revealed(running, text)?;
        }
    }
    let applied = running.orders.apply(files, canary, request.author, dry_run).await;
    done(applied.map_err(Problem::refused)?)
}

/// The texts in a request's body.
fn texts(running: &Running, request: &Request) -> Result<Vec<(String, String)>, Problem> {
    if request.media_type != "application/json" {
        let text = String::from_utf8(request.body.to_vec())
            .map_err(|_| Problem::bad("the text is not UTF-8"))?;
        if text.trim().is_empty() {
            return Err(Problem::bad("there is no text in the body"));
        }
        return Ok(vec![(name(running, request), text)]);
    }
    let value = request.json()?;
    if let Some(wrong) = TEXTS.mismatch(&value) {
        return Err(Problem::bad(format!("the body is not as described: {wrong}")));
    }
    let files = value.get("files").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |file: &Value, name| file.get(name).and_then(Value::as_str).map(str::to_owned);
    let files: Vec<(String, String)> =
        files.iter().filter_map(|file| Some((text(file, "path")?, text(file, "text")?))).collect();
    if files.is_empty() {
        return Err(Problem::bad("there is no file in the body"));
    }
    Ok(files)
}

/// The name of a file whose text is the body: the request says it, or it is the one in force.
fn name(running: &Running, request: &Request) -> String {
    if let Some(name) = request.query("name").filter(|name| !name.is_empty()) {
        return name.to_owned();
    }
    let history = running.history.borrow();
    let first = history.get(history.in_force()).and_then(|entry| entry.texts.iter().next());
    first.map_or_else(|| "ravelin.toml".to_owned(), |text| text.path.display().to_string())
}

/// The text with the secrets of the configuration in force where it has what is shown in their place: what
/// GET answered can be sent back with changes.
fn revealed(running: &Running, text: &str) -> Result<String, Problem> {
    let history = running.history.borrow();
    let known: Vec<(&str, String)> = history
        .get(history.in_force())
        .iter()
        .flat_map(|entry| entry.texts.iter())
        .filter_map(|known| {
            let content = String::from_utf8_lossy(&known.content).into_owned();
            Some((known.shown.as_deref()?, content))
        })
        .collect();
    put_back(&known, text).map_err(|line| {
        Problem::bad(format!(
            "line {line} has asterisks in the place of a secret, and there are several that look \
             like it: write the secret itself"
        ))
    })
}

/// A text with the secrets of texts that are shown so; else the number of the line of which it is not known
/// whose secret it has.
fn put_back(known: &[(&str, String)], text: &str) -> Result<String, usize> {
    // The lines of each text as shown, and where one of them has which secret.
    let shown: Vec<Vec<&str>> = known.iter().map(|(shown, _)| shown.lines().collect()).collect();
    let mut hidden: HashMap<&str, Vec<(usize, usize, &str)>> = HashMap::new();
    for (file, (lines, (_, content))) in shown.iter().zip(known).enumerate() {
        let content = content.strip_prefix('\u{feff}').unwrap_or(content);
        let pairs = lines.iter().zip(content.lines()).enumerate();
        for (number, (shown, real)) in pairs.filter(|(_, (shown, real))| *shown != real) {
            hidden.entry(*shown).or_default().push((file, number, real));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end_matches(['\n', '\r']);
        let Some(places) = hidden.get(bare) else {
            out.push_str(line);
            continue;
        };
        let same = |place: &&(usize, usize, &str)| {
            let (file, at, _) = **place;
            shown.get(file).is_some_and(|shown| stands_as_before(shown, at, &lines, number))
        };
        let real = only(places.iter()).or_else(|| only(places.iter().filter(same)));
        out.push_str(&real.ok_or(number + 1)?);
        out.push_str(line.get(bare.len()..).unwrap_or_default());
    }
    Ok(out)
}

/// The secret at these places, if it is the same at all of them.
fn only<'a>(mut places: impl Iterator<Item = &'a (usize, usize, &'a str)>) -> Option<String> {
    let real = places.next()?.2;
    places.all(|place| place.2 == real).then(|| real.to_owned())
}

/// Whether a line stands where another stood: everything before it is the same, from the begin of its site on,
/// whose name is among that.
fn stands_as_before(old: &[&str], at: usize, new: &[&str], number: usize) -> bool {
    let before = old.get(..=at).unwrap_or_default();
    let begin = before.iter().rposition(|line| line.starts_with("[[sites]]")).unwrap_or(0);
    let block = before.get(begin..).unwrap_or_default();
    let named = block.iter().any(|line| line.trim_start().starts_with("name"));
    let same = (number + 1).checked_sub(block.len()).and_then(|from| new.get(from..=number));
    same == Some(block) && named
}

fn list(running: &Running, _: Request) -> Answer<'_> {
    Box::pin(async {
        let history = running.history.borrow();
        let in_force = history.in_force();
        let entries: Vec<Value> = history.entries().rev().map(|one| event(one, in_force)).collect();
        Ok(Response::json(&json!({ "entries": entries })))
    })
}

fn one(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let history = running.history.borrow();
        let number = request.value(0).parse().unwrap_or(0);
        let entry = history.get(number).ok_or_else(|| {
            Problem::missing(format!(
                "there is no generation {}, or it is forgotten",
                request.value(0)
            ))
        })?;
        Ok(Response::json(&json!({
            "entry": event(entry, history.in_force()),
            "diff": entry.diff,
            "files": shown(entry),
        })))
    })
}

fn rollback(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let to = request.number("to")?;
        let applied = running.orders.rollback(to, request.author).await;
        done(applied.map_err(Problem::refused)?)
    })
}

/// What to answer when an order was carried out.
pub(super) fn done(applied: Applied) -> Result<Response, Problem> {
    Ok(Response::json(&value(applied)))
}

/// The same as a value.
pub(super) fn value(applied: Applied) -> Value {
    let Applied { generation, changes, warnings } = applied;
    json!({ "generation": generation, "changes": changes, "warnings": warnings })
}

fn shown(entry: &Entry) -> Vec<Value> {
    let file = |text: &Text| json!({ "path": text.path.display().to_string(), "text": text.shown.as_deref() });
    entry.texts.iter().map(file).collect()
}

fn event(entry: &Entry, in_force: u64) -> Value {
    json!({
        "generation": entry.generation,
        "time": unix_millis(entry.unix_millis),
        "author": entry.author.who,
        "cause": Cause::as_str(entry.cause),
        "outcome": Outcome::as_str(entry.outcome),
        "reason": entry.reason,
        "in_force": entry.generation == Some(in_force),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "[[sites]]\nname = \"a\"\nsecret = \"*****\"\n[[sites]]\nname = \"b\"\nsecret = \"*****\"\n";

    fn sent(text: &str) -> Result<String, usize> {
        put_back(&[(SHOWN, real())], text)
    }

    fn real() -> String {
        SHOWN.replacen("*****", "one", 1).replacen("*****", "two", 1)
    }

    #[test]
    fn secrets_that_look_the_same_are_put_back_where_they_were() {
        assert_eq!(sent(SHOWN), Ok(real()));
        assert_eq!(sent(&format!("# a note\n{SHOWN}")), Ok(format!("# a note\n{}", real())));
    }

    #[test]
    fn whose_secret_it_is_is_never_guessed() {
        let other = SHOWN.replacen("name = \"b\"", "name = \"c\"", 1);
        assert_eq!(sent(&other), Err(6));
        assert_eq!(sent("secret = \"*****\"\n"), Err(1));
        // What looks like no other is known wherever it is.
        let known = [("x = \"*****\"\n", "x = \"y\"\n".to_owned())];
        assert_eq!(put_back(&known, "# z\nx = \"*****\"\n"), Ok("# z\nx = \"y\"\n".to_owned()));
    }
}
