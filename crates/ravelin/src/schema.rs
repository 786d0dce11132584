//! `ravelin schema`: what may be written in a configuration, as a JSON schema for editors.
//!
//! Made from the same table of keys that the decoder checks against, so that an editor accepts what
//! `ravelin check` accepts, as far as a schema can say it: what keys mean to each other it cannot.

use config::ROOT;
use config::schema::{Effect, Key, Kind, Section};
use serde_json::{Map, Value, json};

use crate::terminal::{self, Failure};

/// The draft that editors of TOML and YAML understand.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Writes the schema to standard output.
pub(crate) fn schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&json_schema())
        .map_err(|error| Failure::new(format!("cannot write the schema: {error}"), ""))?;
    terminal::show(&(text + "\n"))
}

/// The schema of native TOML.
pub(crate) fn json_schema() -> Value {
    let mut definitions = Map::new();
    for section in ROOT.walk() {
        if !section.path.is_empty() {
            definitions.entry(name(section)).or_insert_with(|| table(section));
        }
    }
    let mut root = table(&ROOT);
    root["$schema"] = DRAFT.into();
    root["title"] = "Ravelin configuration".into();
    root["definitions"] = Value::Object(definitions);
    root
}

/// What a section is called among the definitions. Sections of one path may have other keys (routes
/// that are written in two places), so where it stands in memory tells them apart.
fn name(section: &'static Section) -> String {
    let same = ROOT.walk().into_iter().filter(|other| other.path == section.path);
    let mut distinct: Vec<*const Key> = Vec::new();
    for other in same {
        let keys = other.keys.as_ptr();
        if !distinct.contains(&keys) {
            distinct.push(keys);
        }
    }
    match distinct.iter().position(|keys| *keys == section.keys.as_ptr()) {
        Some(number) if number > 0 => format!("{}-{}", section.path, number + 1),
        _ => section.path.to_owned(),
    }
}

fn table(section: &'static Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        let about = property(key);
        for alias in key.other_names() {
            let mut other = about.clone();
            other["description"] = format!("Another name for `{}`.", key.name).into();
            properties.insert(alias, other);
        }
        properties.insert(key.name.to_owned(), about);
    }
    json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut value = kind(&key.kind);
    let mut about = key.about.to_owned();
    if !key.default.is_empty() && !value_is_table(&key.kind) {
        about.push_str(&format!("\n\nDefault: {}", key.default));
    }
    if key.effect == Effect::Later {
        about.push_str("\n\nNot in effect yet.");
    }
    if value.get("$ref").is_some() {
        // Beside `$ref` nothing counts in this draft.
        value = json!({ "allOf": [value] });
    }
    value["description"] = about.into();
    value
}

fn value_is_table(kind: &Kind) -> bool {
    matches!(kind, Kind::Table(_) | Kind::Tables(_) | Kind::TableOrTables(_))
}

fn kind(kind: &Kind) -> Value {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let map = |of: Value| json!({ "type": "object", "additionalProperties": of });
    match *kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::BoolOrText => json!({ "type": ["boolean", "string"] }),
        Kind::BoolOrNumber(numbers) => {
            let all =
                [json!(true), json!(false)].into_iter().chain(numbers.iter().map(|n| json!(n)));
            json!({ "enum": all.collect::<Vec<_>>() })
        }
        Kind::BoolOrTable(section) => either([json!({ "type": "boolean" }), reference(section)]),
        Kind::Text => text(),
        Kind::Texts => texts(),
        Kind::TextOrTexts => either([text(), texts()]),
        Kind::Integer(min, max) => {
            let mut value = json!({ "type": "integer", "minimum": min });
            if max < i64::from(u32::MAX) {
                value["maximum"] = max.into();
            }
            value
        }
        Kind::Duration(zero) => {
            let number = match zero {
                true => json!({ "type": "number", "minimum": 0 }),
                false => json!({ "type": "number", "exclusiveMinimum": 0 }),
            };
            either([number, text()])
        }
        Kind::Size(..) => either([json!({ "type": "integer", "minimum": 0 }), text()]),
        Kind::Bound => either([json!({ "type": "integer", "minimum": -1 }), text()]),
        Kind::Choice(words, aliases) => {
            json!({ "enum": words.iter().chain(aliases).collect::<Vec<_>>() })
        }
        Kind::Choices(words) => json!({ "type": "array", "items": { "enum": words } }),
        Kind::Statuses => {
            let one = json!({ "type": ["integer", "string"] });
            either([one.clone(), json!({ "type": "array", "items": one })])
        }
        Kind::ChoicesOrStatuses(words, aliases) => {
            let words: Vec<_> = words.iter().chain(aliases).collect();
            let one = either([json!({ "enum": words }), json!({ "type": ["integer", "string"] })]);
            json!({ "type": "array", "items": one })
        }
        Kind::Share => either([json!({ "type": "number", "minimum": 0, "maximum": 1 }), text()]),
        Kind::CountOrDuration(max) => {
            either([json!({ "type": "integer", "minimum": 1, "maximum": max }), text()])
        }
        Kind::Match => matching(),
        Kind::MatchMap => map(matching()),
        Kind::Map => map(text()),
        Kind::ValueMap => map(json!({ "type": ["string", "integer", "boolean", "array"] })),
        Kind::FieldMap => map(json!({ "type": ["string", "array", "object"] })),
        Kind::Names => either([texts(), map(json!({ "type": "boolean" }))]),
        Kind::Table(section) => reference(section),
        Kind::Tables(section) => json!({ "type": "array", "items": reference(section) }),
        Kind::TableOrTables(section) => {
            either([reference(section), json!({ "type": "array", "items": reference(section) })])
        }
    }
}

fn matching() -> Value {
    json!({ "type": ["string", "object"] })
}

fn either<const N: usize>(of: [Value; N]) -> Value {
    json!({ "anyOf": Vec::from(of) })
}

fn reference(section: &'static Section) -> Value {
    json!({ "$ref": format!("#/definitions/{}", name(section)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let schema = json_schema();
        let text = schema.to_string();
        let named = text
            .match_indices("\"#/definitions/")
            .map(|(at, found)| text[at + found.len()..].split('"').next().unwrap_or_default());
        let mut references = 0;
        for name in named {
            references += 1;
            assert!(schema["definitions"].get(name).is_some(), "{name}");
        }
        assert!(references > 20);
    }

    #[test]
    fn every_name_that_is_accepted_is_there() {
        let schema = json_schema();
        let origins = |name: &str| {
            let section = &schema["definitions"]["sites.access_control"]["properties"];
            section[name]["description"].as_str().unwrap_or_default().to_owned()
        };
        assert!(origins("allow_origins").contains("Default"));
        for other in ["allowed_origins", "allowedOrigins", "origins"] {
            assert_eq!(origins(other), "Another name for `allow_origins`.", "{other}");
        }
        let mut names = 0;
        for section in ROOT.walk() {
            for key in section.keys {
                for other in key.other_names() {
                    assert!(key.is(&other), "{other}");
                    names += 1;
                }
            }
        }
        assert!(names > 50);
    }

    #[test]
    fn keys_are_described_and_others_refused() {
        let schema = json_schema();
        let sites = &schema["definitions"]["sites"];
        assert_eq!(sites["additionalProperties"], false);
        assert_eq!(sites["properties"]["hostname"]["type"], "string");
        let level = &schema["definitions"]["logging"]["properties"]["level"];
        assert!(level["enum"].as_array().is_some_and(|words| words.contains(&json!("warn"))));
        assert!(
            level["description"].as_str().is_some_and(|text| text.contains("Default: \"info\""))
        );
    }
}
