//! Joins the parts of the document, and adds the responses and headers that all operations share.

use serde_json::{Map, Value, json};

use crate::api::problem::{Code, Problem};

/// The parts of the document: the paths and schemas of one resource each, what they share, and the introduction.
pub(crate) const PARTS: [&str; 14] = [
    include_str!("hub.json"),
    include_str!("events.json"),
    include_str!("streams.json"),
    include_str!("subscriptions.json"),
    include_str!("signing.json"),
    include_str!("handshakes.json"),
    include_str!("pull.json"),
    include_str!("deliveries.json"),
    include_str!("replays.json"),
    include_str!("keys.json"),
    include_str!("tenants.json"),
    include_str!("audit.json"),
    include_str!("operations.json"),
    include_str!("shared.json"),
];
/// The requests that the hub sends.
const WEBHOOKS: &str = include_str!("webhooks.json");
/// The parameters and responses that all operations share, or all with a key, or all with a body.
pub(crate) const EVERYWHERE: &str = include_str!("everywhere.json");

/// The member of a response that lists its problem codes in the parts. [`document`] replaces it by a schema and examples.
pub(crate) const CODES: &str = "x-codes";
/// The request id in the examples.
const REQUEST_ID: &str = "019ab1f2-0c3d-7e4f-8a5b-6c7d8e9f0a1b";

/// Joins all parts, and completes every operation and response.
pub(crate) fn document() -> Value {
    let mut document = json!({});
    for part in PARTS.into_iter().chain([WEBHOOKS]) {
        merge(&mut document, read(part));
    }
    if let Some(info) = object_at(&mut document, "/info") {
        info.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    }
    let everywhere = read(EVERYWHERE);
    for item in each_at(&mut document, "/paths") {
        for operation in item.as_object_mut().into_iter().flat_map(|item| item.values_mut()) {
            complete_operation(operation, &everywhere);
        }
    }
    for response in each_at(&mut document, "/components/responses") {
        complete_response(response, &everywhere);
    }
    document
}

/// Parses a part of the OpenAPI document from its JSON text. Returns null for invalid JSON, which a test excludes.
pub(crate) fn read(part: &str) -> Value {
    serde_json::from_str(part).unwrap_or_default()
}

/// Merges `more` into `into`: objects are merged member by member, and any other value replaces the value in `into`.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Returns the object at a JSON pointer, or `None` if no object is there.
fn object_at<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Map<String, Value>> {
    value.pointer_mut(pointer)?.as_object_mut()
}

/// The member values of the object at a JSON pointer. Empty if no object is there.
fn each_at<'a>(value: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object_at(value, pointer).into_iter().flat_map(|members| members.values_mut())
}

/// Adds the shared parameters and responses that apply to an operation, and sorts its responses by status.
fn complete_operation(operation: &mut Value, everywhere: &Value) {
    let security = operation.get("security").and_then(Value::as_array).into_iter().flatten();
    let with_key = security.into_iter().any(|way| way.get("bearer").is_some());
    let with_body = operation.get("requestBody").is_some();
    let kinds = [("with_body", with_body), ("with_key", with_key), ("every", true)];
    let Some(members) = operation.as_object_mut() else { return };
    let mut responses = match members.remove("responses") {
        Some(Value::Object(responses)) => responses,
        _ => Map::new(),
    };
    for kind in kinds.into_iter().filter_map(|(kind, is_it)| everywhere.get(kind).filter(|_| is_it))
    {
        let common = kind.get("responses").and_then(Value::as_object);
        for (status, response) in common.into_iter().flatten() {
            responses.entry(status.clone()).or_insert_with(|| response.clone());
        }
        if let Some(Value::Array(common)) = kind.get("parameters") {
            let own = members.entry("parameters").or_insert_with(|| json!([]));
            own.as_array_mut().into_iter().for_each(|own| own.extend(common.iter().cloned()));
        }
    }
    responses.sort_keys();
    responses.values_mut().for_each(|response| complete_response(response, everywhere));
    members.insert("responses".into(), Value::Object(responses));
}

/// Adds the shared headers to a response, and replaces its list of problem codes by their schema and examples. Skips a
/// `$ref`.
fn complete_response(response: &mut Value, everywhere: &Value) {
    let Some(members) = response.as_object_mut().filter(|members| !members.contains_key("$ref"))
    else {
        return;
    };
    let mut headers = everywhere.pointer("/every/headers").cloned().unwrap_or_default();
    if let Some(codes) = members.remove(CODES) {
        let described = members.get("description").and_then(Value::as_str).unwrap_or_default();
        let codes: Vec<Code> = names(&codes).filter_map(|code| code.parse().ok()).collect();
        merge(&mut headers, problem_headers(&codes));
        let content = problem_content(&codes, described);
        members.insert("content".into(), content);
    }
    if let Some(own) = members.get("headers") {
        merge(&mut headers, own.clone());
    }
    members.insert("headers".into(), headers);
}

/// The strings of a JSON array. Skips other items; empty if `codes` is not an array.
pub(crate) fn names(codes: &Value) -> impl Iterator<Item = &str> {
    codes.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the OpenAPI headers of a problem response, such as `Retry-After`. The `codes` share one HTTP status.
fn problem_headers(codes: &[Code]) -> Value {
    let header = |name: &str| json!({ name: { "$ref": format!("#/components/headers/{name}") } });
    match codes.first().map(|code| code.status().as_u16()) {
        Some(401) => header("WWW-Authenticate"),
        Some(429 | 503) => header("Retry-After"),
        _ => json!({}),
    }
}

/// The schema and an example of each problem. `described`: the text for `detail` in the examples.
fn problem_content(codes: &[Code], described: &str) -> Value {
    let example = |code: &Code| {
        let problem = Problem::new(*code, described);
        let value = problem.document(REQUEST_ID);
        (code.name().to_owned(), json!({ "summary": code.title(), "value": value }))
    };
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    json!({ "application/problem+json": {
        "schema": {
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "code": { "enum": names } },
        },
        "examples": codes.iter().map(example).collect::<Map<_, _>>(),
    }})
}
