//! Tests of the OpenAPI document against the route table, the problem codes and its own schemas.

use std::collections::BTreeSet;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};
use strum::VariantArray;

use super::join::{CODES, PARTS, document, names, read};
use crate::api::problem::Code;
use crate::api::route::Access;
use crate::api::routes::table;

/// The URI under which the validator finds the document.
const HERE: &str = "urn:hookhub:openapi";

/// Each operation of the document with its path and method.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let each = |(path, item): (&String, &Value)| -> Vec<_> {
        let methods = item.as_object().unwrap().iter();
        methods
            .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
            .collect()
    };
    document["paths"].as_object().unwrap().iter().flat_map(each).collect()
}

/// The value and everything nested in it, each with its JSON pointer.
fn everything(value: &Value) -> Vec<(String, &Value)> {
    let mut found = vec![(String::new(), value)];
    let mut at = 0;
    while let Some((pointer, value)) = found.get(at).cloned() {
        let part = |name: &str| format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(members) => {
                found.extend(members.iter().map(|(name, value)| (part(name), value)));
            }
            Value::Array(items) => {
                found.extend(
                    items.iter().enumerate().map(|(n, value)| (part(&n.to_string()), value)),
                );
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Follows a reference within the document.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(target) => document.pointer(target.trim_start_matches('#')).expect(target),
        None => value,
    }
}

/// The access rule of an operation, as in the route table.
fn access(operation: &Value) -> String {
    let ways = operation["security"].as_array().expect("each says who may ask");
    let scopes = ways.iter().filter_map(|way| way.get("bearer"));
    let scopes: Vec<_> = scopes.flat_map(names).collect();
    if scopes.is_empty() { "public".into() } else { scopes.join(" ") }
}

#[test]
fn the_document_has_the_routes_of_the_table_with_the_same_access() {
    let document = document();
    let documented: BTreeSet<_> = operations(&document)
        .into_iter()
        .map(|(path, method, operation)| (path, method, access(&operation)))
        .collect();
    let routes: BTreeSet<_> = table()
        .into_iter()
        .map(|entry| {
            let access = match entry.access {
                Access::Public => "public".to_owned(),
                Access::Scope(scope) => scope.to_string(),
            };
            (entry.path.to_owned(), entry.method.to_string(), access)
        })
        .collect();
    let missing: Vec<_> = routes.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&routes).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "missing: {missing:?}; invented: {invented:?}"
    );
}

#[test]
fn the_document_lists_exactly_the_problem_codes() {
    let document = document();
    let codes = &document["components"]["schemas"]["ProblemCode"];
    let known: BTreeSet<_> = Code::VARIANTS.iter().map(|code| code.name()).collect();
    assert_eq!(names(&codes["enum"]).collect::<BTreeSet<_>>(), known);
    for code in Code::VARIANTS {
        let line = format!("| `{}` | {} |", code.name(), code.status().as_u16());
        assert!(codes["description"].as_str().unwrap().contains(&line), "{line}");
    }
}

#[test]
fn every_code_is_documented_under_its_status() {
    let mut given = BTreeSet::new();
    for part in PARTS.into_iter().chain([super::join::EVERYWHERE]) {
        for (pointer, value) in everything(&read(part)) {
            for name in value.get(CODES).into_iter().flat_map(names) {
                let code: Code = name.parse().expect(name);
                assert!(
                    pointer.ends_with(&format!("/{}", code.status().as_u16())),
                    "{name} at {pointer}"
                );
                given.insert(name.to_owned());
            }
        }
    }
    // A method that a path does not have has no operation to document it.
    let known = Code::VARIANTS.iter().map(|code| code.name().to_owned());
    let never: Vec<_> = known.filter(|name| !given.contains(name)).collect();
    assert_eq!(never, ["method_not_allowed"]);
}

#[test]
fn every_reference_resolves_and_every_component_is_used() {
    let document = document();
    let all = everything(&document);
    let is_reference = |pointer: &str| pointer.ends_with("/$ref");
    let targets: BTreeSet<_> = all
        .iter()
        .filter(|(pointer, _)| is_reference(pointer))
        .map(|(_, target)| target.as_str().unwrap().trim_start_matches('#'))
        .collect();
    for target in &targets {
        assert!(document.pointer(target).is_some(), "{target}");
    }
    // WebSocket messages are in no operation's request or response.
    let spoken = ["/components/schemas/WebSocketCommand", "/components/schemas/WebSocketAnswer"];
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
            let pointer = format!("/components/{kind}/{name}");
            let is_used = targets.iter().any(|target| target.starts_with(&pointer));
            assert!(is_used || spoken.contains(&&*pointer), "{pointer} is used nowhere");
        }
    }
}

#[test]
fn every_operation_is_documented_in_full() {
    let document = document();
    let tags = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone());
    let (tags, mut ids): (Vec<_>, _) = (tags.collect(), BTreeSet::new());
    for (path, method, operation) in operations(&document) {
        let here = format!("{method} {path}");
        let has = |name: &str| operation[name].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("summary") && has("description") && has("operationId"), "{here}");
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{here}: its operationId is taken"
        );
        assert!(tags.contains(&operation["tags"][0]), "{here}: no known tag");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(&document, parameter);
            assert!(parameter["description"].is_string(), "{here}: {parameter}");
        }
        let placeholders = path.matches('{').count();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_path = parameters.filter(|one| resolved(&document, one)["in"] == "path").count();
        assert_eq!(placeholders, in_path, "{here}");
        let mut expected = vec!["414", "431"];
        if access(&operation) != "public" {
            expected.extend(["400", "401", "403", "500", "503"]);
        }
        if !operation["requestBody"].is_null() {
            expected.extend(["400", "408", "413", "415", "422"]);
        }
        // The first two do not reveal whether a subscription exists, and a PUT creates the tenant.
        let hidden = [
            "POST /v1/subscriptions/{id}/verification",
            "GET /v1/subscriptions/{id}/verification",
            "PUT /v1/tenants/{name}",
        ];
        if placeholders > 0 && !hidden.contains(&&*here) {
            expected.push("404");
        }
        let answers = operation["responses"].as_object().unwrap();
        for status in expected {
            assert!(answers.contains_key(status), "{here} may answer {status}");
        }
        assert!(answers.keys().any(|status| status.starts_with(['1', '2'])), "{here}");
    }
}

#[test]
fn every_schema_field_has_a_description() {
    let document = document();
    for (pointer, value) in everything(&document["components"]["schemas"]) {
        let Some((_, within)) = pointer.rsplit_once("/properties/") else { continue };
        if within.contains('/') || pointer.contains("/examples") {
            continue;
        }
        let fixed = value.get("const").is_some();
        let said = fixed
            || value.get("description").is_some()
            || value.get("$ref").is_some()
            || within == "code";
        assert!(said, "{pointer}: {value}");
    }
}

/// The examples of a media type, header or parameter.
fn examples(document: &Value, described: &Value) -> Vec<Value> {
    let many = described.get("examples").and_then(Value::as_object);
    let many = many.into_iter().flat_map(|many| many.values());
    let many = many.map(|one| resolved(document, one)["value"].clone());
    described.get("example").cloned().into_iter().chain(many).collect()
}

/// A validator for the schema at a JSON pointer into the document.
fn validator(registry: &Registry<'_>, pointer: &str) -> Validator {
    let pointer: String = url::form_urlencoded::byte_serialize(pointer.as_bytes()).collect();
    let pointer = pointer.replace("%2F", "/").replace("%7E", "~").replace('+', "%20");
    jsonschema::draft202012::options()
        .with_registry(registry)
        .should_validate_formats(true)
        .build(&json!({ "$ref": format!("{HERE}#{pointer}") }))
        .expect(&pointer)
}

#[test]
fn every_example_matches_its_schema() {
    let document = document();
    let registry = Registry::new().add(HERE, document.clone()).unwrap().prepare().unwrap();
    let (mut checked, mut bare) = (0, Vec::new());
    for (pointer, value) in everything(&document) {
        if value.get("schema").is_none_or(|schema| !schema.is_object()) {
            continue;
        }
        // The example of a stream is its text, but its schema describes one event.
        if pointer.ends_with("event-stream") {
            continue;
        }
        let validator = validator(&registry, &format!("{pointer}/schema"));
        let examples = examples(&document, value);
        if examples.is_empty() && pointer.contains("/content/") {
            bare.push(pointer.clone());
        }
        for example in examples {
            let wrong: Vec<_> = validator.iter_errors(&example).map(|e| e.to_string()).collect();
            assert!(wrong.is_empty(), "{pointer}: {wrong:?}\n{example}");
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
    let pictures = |pointer: &&String| !pointer.contains("docs~1{file}");
    assert_eq!(bare.iter().filter(pictures).collect::<Vec<_>>(), [""; 0], "without an example");
}

#[test]
fn every_schema_example_matches_its_schema() {
    let document = document();
    let registry = Registry::new().add(HERE, document.clone()).unwrap().prepare().unwrap();
    let mut checked = 0;
    for (pointer, value) in everything(&document["components"]["schemas"]) {
        let Some(Value::Array(examples)) = value.get("examples") else { continue };
        let validator = validator(&registry, &format!("/components/schemas{pointer}"));
        for example in examples {
            let wrong: Vec<_> = validator.iter_errors(example).map(|e| e.to_string()).collect();
            assert!(wrong.is_empty(), "{pointer}: {wrong:?}\n{example}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}
