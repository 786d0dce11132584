//! What requests and responses look like, as constants beside the handlers: the OpenAPI document is made
//! of these, and tests hold responses against it.

use serde_json::{Map, Value, json};

/// The form of a JSON value.
#[derive(Debug)]
pub enum Shape {
    /// A string.
    Text,
    /// A time, as RFC 3339 writes it, in UTC.
    Time,
    /// A whole number.
    Integer,
    /// A number; durations are in seconds.
    Number,
    /// `true` or `false`.
    Bool,
    /// Anything.
    Any,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// An object with any names.
    Map(&'static Shape),
    /// That, or `null`.
    Maybe(&'static Shape),
    /// One that is described elsewhere.
    Same(&'static Shape),
    /// An object of this name with these members.
    Object(&'static str, &'static [Field]),
}

/// A member of an object, or a parameter.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its form.
    pub shape: Shape,
    /// Whether it is always there.
    pub required: bool,
    /// What it says.
    pub about: &'static str,
}

/// A member that is always there.
pub const fn has(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: true, about }
}

/// A member that may be missing.
pub const fn may(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, required: false, about }
}

impl Shape {
    /// The schema in the words of JSON Schema 2020-12. Objects go to `components` and are referred to.
    pub fn describe(&self, components: &mut Map<String, Value>) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::Integer => json!({ "type": "integer" }),
            Self::Number => json!({ "type": "number" }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Any => json!({}),
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::List(item) => json!({ "type": "array", "items": item.describe(components) }),
            Self::Map(value) => {
                json!({ "type": "object", "additionalProperties": value.describe(components) })
            }
            Self::Maybe(shape) => {
                json!({ "anyOf": [shape.describe(components), { "type": "null" }] })
            }
            Self::Same(shape) => shape.describe(components),
            Self::Object(name, fields) => {
                if !components.contains_key(*name) {
                    // An object may have itself among its members.
                    components.insert((*name).to_owned(), Value::Null);
                    let described = object(fields, components);
                    components.insert((*name).to_owned(), described);
                }
                json!({ "$ref": format!("#/components/schemas/{name}") })
            }
        }
    }

    /// Has the descriptions in `components` say that what is sent may have no other members: those of
    /// answers may, in a later version.
    pub fn close(&self, components: &mut Map<String, Value>) {
        match self {
            Self::List(shape) | Self::Map(shape) | Self::Maybe(shape) | Self::Same(shape) => {
                shape.close(components);
            }
            Self::Object(name, fields) => {
                let Some(described) = components.get_mut(*name).and_then(Value::as_object_mut)
                else {
                    return;
                };
                // One that has itself among its members has been here before.
                if described.insert("additionalProperties".to_owned(), false.into()).is_none() {
                    fields.iter().for_each(|field| field.shape.close(components));
                }
            }
            _ => {}
        }
    }

    /// What of `value` is not of this form, with its place; `None` if it is.
    pub fn mismatch(&self, value: &Value) -> Option<String> {
        let is = match self {
            Self::Text => value.is_string(),
            Self::Time => value.as_str().is_some_and(|text| text.ends_with('Z')),
            Self::Integer => value.is_u64() || value.is_i64(),
            Self::Number => value.is_number(),
            Self::Bool => value.is_boolean(),
            Self::Any => true,
            Self::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Self::Maybe(shape) => {
                return if value.is_null() { None } else { shape.mismatch(value) };
            }
            Self::Same(shape) => return shape.mismatch(value),
            Self::List(item) => match value.as_array() {
                Some(items) => {
                    let wrong = items.iter().enumerate().find_map(|(at, one)| {
                        item.mismatch(one).map(|wrong| format!("{at}: {wrong}"))
                    });
                    return wrong;
                }
                None => false,
            },
            Self::Map(shape) => match value.as_object() {
                Some(members) => {
                    let wrong = members.iter().find_map(|(name, one)| {
                        shape.mismatch(one).map(|wrong| format!("{name}: {wrong}"))
                    });
                    return wrong;
                }
                None => false,
            },
            Self::Object(_, fields) => match value.as_object() {
                Some(members) => return members_mismatch(fields, members),
                None => false,
            },
        };
        (!is).then(|| format!("{value} is not {}", self.words()))
    }

    /// What it is, for people.
    fn words(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Time => "a time such as \"2026-11-21T05:20:06Z\"".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Any => "a value".to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Object(..) => "an object".to_owned(),
            Self::Maybe(shape) | Self::Same(shape) => shape.words(),
        }
    }
}

fn object(fields: &'static [Field], components: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut described = field.shape.describe(components);
        if let (Some(members), false) = (described.as_object_mut(), field.about.is_empty()) {
            members.insert("description".to_owned(), field.about.into());
        }
        properties.insert(field.name.to_owned(), described);
        if field.required {
            required.push(field.name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn members_mismatch(fields: &'static [Field], members: &Map<String, Value>) -> Option<String> {
    for field in fields {
        match members.get(field.name) {
            Some(value) => {
                if let Some(wrong) = field.shape.mismatch(value) {
                    return Some(format!("{}: {wrong}", field.name));
                }
            }
            None if field.required => return Some(format!("{} is missing", field.name)),
            None => {}
        }
    }
    let known = |name: &&String| fields.iter().any(|field| field.name == *name);
    members.keys().find(|name| !known(name)).map(|name| format!("{name} is not described"))
}

#[cfg(test)]
mod tests {
    use super::*;

    static CHILD: Shape = Shape::Object("Child", &[has("name", Shape::Text, "Its name.")]);
    static PARENT: Shape = Shape::Object(
        "Parent",
        &[
            has("children", Shape::List(&CHILD), ""),
            may("age", Shape::Maybe(&Shape::Integer), "In years."),
        ],
    );

    #[test]
    fn objects_are_described_once_and_referred_to() {
        let mut components = Map::new();
        let described = PARENT.describe(&mut components);
        assert_eq!(described, json!({ "$ref": "#/components/schemas/Parent" }));
        assert_eq!(
            components["Parent"]["properties"]["children"]["items"],
            json!({ "$ref": "#/components/schemas/Child" })
        );
        assert_eq!(components["Parent"]["required"], json!(["children"]));
        assert_eq!(components["Child"]["properties"]["name"]["description"], "Its name.");
    }

    #[test]
    fn what_is_sent_has_no_other_members() {
        let mut components = Map::new();
        PARENT.describe(&mut components);
        assert_eq!(components["Parent"].get("additionalProperties"), None);
        PARENT.close(&mut components);
        for name in ["Parent", "Child"] {
            assert_eq!(components[name]["additionalProperties"], false, "{name}");
        }
    }

    #[test]
    fn a_value_of_another_form_is_told_with_its_place() {
        let wrong = |value: Value| PARENT.mismatch(&value);
        assert_eq!(wrong(json!({ "children": [{ "name": "a" }], "age": null })), None);
        assert_eq!(wrong(json!({ "age": 1 })).unwrap(), "children is missing");
        let found = wrong(json!({ "children": [{ "name": "a" }, { "name": 1 }] })).unwrap();
        assert!(found.starts_with("children: 1: name: 1 is not a text"), "{found}");
        let found = wrong(json!({ "children": [], "age": "old" })).unwrap();
        assert_eq!(found, "age: \"old\" is not a whole number");
        let found = wrong(json!({ "children": [], "more": 1 })).unwrap();
        assert_eq!(found, "more is not described");
    }
}
