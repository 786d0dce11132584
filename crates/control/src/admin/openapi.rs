//! The OpenAPI document, made of the table of routes.

use serde_json::{Map, Value, json};

use super::routes::{Content, Route, table};
use super::schema::{Field, Shape, has, may};

/// What an answer looks like that says what is wrong.
static PROBLEM: Shape = Shape::Object(
    "Problem",
    &[
        has("type", Shape::Text, "Always `about:blank`: the status says what kind it is."),
        has("title", Shape::Text, "The status in words."),
        has("status", Shape::Integer, "The status."),
        has("detail", Shape::Text, "What is wrong, as a sentence."),
        may(
            "diagnostics",
            Shape::List(&Shape::Text),
            "What is wrong with a configuration, as `ravelin check` writes it.",
        ),
        may(
            "findings",
            Shape::List(&Shape::Any),
            "The same as `ravelin check --format json` writes it.",
        ),
    ],
);

/// The document (OpenAPI 3.1).
pub(super) fn document() -> Value {
    let mut components = Map::new();
    let problem = PROBLEM.describe(&mut components);
    let mut paths = Map::new();
    for route in table() {
        let described = operation(route, &problem, &mut components);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_ascii_lowercase(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ravelin admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Looks at a running Ravelin and tells it what to do. On the Unix socket \
                            the user who connects is known by the system; over TCP every request \
                            needs the key.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{}, { "key": [] }, { "bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

fn operation(route: &Route, problem: &Value, components: &mut Map<String, Value>) -> Value {
    let in_path = route.path.split('/').filter_map(|segment| {
        let name = segment.strip_prefix('{')?.strip_suffix('}')?;
        Some(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        )
    });
    let mut parameters: Vec<Value> = in_path.collect();
    parameters.extend(route.query.iter().map(|field| in_query(field, components)));
    let answered = match content(&route.answer, components) {
        Some(content) => json!({ "description": "Done.", "content": content }),
        None => json!({ "description": "Done." }),
    };
    let wrong = json!({
        "description": "What is wrong.",
        "content": { "application/problem+json": { "schema": problem } },
    });
    let level = match route.level {
        Some(level) => level.as_str(),
        None => "anybody",
    };
    let mut described = json!({
        "operationId": id(route),
        "summary": route.summary,
        "description": format!("Least level: {level}."),
        "responses": { "200": answered, "default": wrong },
    });
    if let Some(members) = described.as_object_mut() {
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(content) = content(&route.body, components) {
            if let Content::Json(shape) | Content::JsonOrText(shape) = &route.body {
                shape.close(components);
            }
            members
                .insert("requestBody".to_owned(), json!({ "content": content, "required": true }));
        }
    }
    described
}

fn in_query(field: &Field, components: &mut Map<String, Value>) -> Value {
    let mut schema = field.shape.describe(components);
    if let (Shape::Integer, Some(members)) = (&field.shape, schema.as_object_mut()) {
        members.insert("minimum".to_owned(), 0.into());
    }
    json!({
        "name": field.name,
        "in": "query",
        "required": field.required,
        "description": field.about,
        "schema": schema,
    })
}

fn content(content: &Content, components: &mut Map<String, Value>) -> Option<Value> {
    let media = |media_type: &str, schema: Value| json!({ media_type: { "schema": schema } });
    match content {
        Content::None => None,
        Content::Json(shape) => Some(media("application/json", shape.describe(components))),
        Content::Text(media_type) => Some(media(media_type, json!({ "type": "string" }))),
        Content::JsonOrText(shape) => Some(json!({
            "application/json": { "schema": shape.describe(components) },
            "text/plain": { "schema": { "type": "string" } },
        })),
    }
}

/// `getV1EndpointsId`: unique, as method and path are.
fn id(route: &Route) -> String {
    let mut id = route.method.to_ascii_lowercase();
    for word in route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|it| !it.is_empty()) {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}
