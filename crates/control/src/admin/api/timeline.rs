//! `/v1/timeline` and `/v1/session`: what happened to the process of late, and who asks.

use config::model::{AdminLevel, Level};
use proxy::log::Message;
use serde_json::{Value, json};

use super::super::routes::{Answer, Content, Route};
use super::super::schema::{Shape, has, may};
use super::super::{Request, Response, Running};
use super::unix_millis;

pub(super) static ROUTES: &[Route] = &[
    Route::get(
        "/v1/timeline",
        "The last messages of the error log that were not about single requests.",
        timeline,
    )
    .query(&[may("limit", Shape::Integer, "At most so many; 100 if nothing is said.")])
    .answer(Content::Json(&TIMELINE)),
    Route::get("/v1/session", "Who asks, and what they may do.", session)
        .answer(Content::Json(&SESSION)),
];

static TIMELINE: Shape = Shape::Object(
    "Timeline",
    &[has("messages", Shape::List(&MESSAGE), "The latest first, written to the log or not.")],
);

static MESSAGE: Shape = Shape::Object(
    "Message",
    &[
        has("time", Shape::Time, "When."),
        has("level", Shape::OneOf(&["error", "warn", "info"]), "How severe."),
        has("text", Shape::Text, "What it said; long ones are cut."),
    ],
);

static SESSION: Shape = Shape::Object(
    "Session",
    &[
        has("author", Shape::Text, "As whom orders of this caller are told."),
        has("level", Shape::OneOf(&["user", "operator", "admin"]), "What they may do."),
    ],
);

fn timeline(running: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let limit = request.limit()?;
        let recent = running.log.recent();
        let messages: Vec<Value> = recent.iter().rev().take(limit).map(message).collect();
        Ok(Response::json(&json!({ "messages": messages })))
    })
}

fn message(message: &Message) -> Value {
    let level = match message.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info | Level::Debug => "info",
    };
    json!({ "time": unix_millis(message.at), "level": level, "text": message.text })
}

fn session(_: &Running, request: Request) -> Answer<'_> {
    Box::pin(async move {
        let level = AdminLevel::as_str(request.level);
        Ok(Response::json(&json!({ "author": request.author.who, "level": level })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_described() {
        for level in [Level::Error, Level::Warn, Level::Info] {
            let value = message(&Message { at: 1_700_000_000_123, level, text: "up".to_owned() });
            assert_eq!(MESSAGE.mismatch(&value), None);
            assert_eq!(value["time"], "2023-11-14T22:13:20.123Z");
        }
    }
}
