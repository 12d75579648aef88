//! The hub's OpenAPI document, and the check of responses against it.

use std::collections::BTreeSet;
use std::fmt;

use jsonschema::{Registry, Validator};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::client::{Client, Response, array_at, string_at};

/// The base URI of the document's schemas.
const DOCUMENT_URI: &str = "urn:hookhub:openapi";
/// Headers of HTTP itself, which no operation describes.
const PROTOCOL_HEADERS: [&str; 6] =
    ["allow", "connection", "content-length", "content-type", "date", "transfer-encoding"];
/// The methods that a path item can have.
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The document of a running hub.
pub(crate) struct Contract {
    document: Value,
    registry: Registry<'static>,
}

/// One method of one path.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The operation object of the document.
    pub(crate) spec: Value,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Operation {
    /// The roles that the operation requires of a security scheme; `None` when it does not accept the scheme.
    pub(crate) fn required_roles(&self, scheme: &str) -> Option<Vec<String>> {
        let mut schemes = array_at(&self.spec, "/security").iter();
        let roles = schemes.find_map(|accepted| accepted.get(scheme)?.as_array())?;
        Some(roles.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
    }

    /// The scope that a key must have.
    pub(crate) fn scope(&self) -> Option<String> {
        self.required_roles("bearer")?.pop()
    }

    /// The path with its parameters replaced by `values`.
    pub(crate) fn path_with(&self, values: &[(&str, &str)]) -> String {
        let fill = |path: String, (name, value): &(&str, &str)| {
            path.replace(&format!("{{{name}}}"), value)
        };
        let path = values.iter().fold(self.path.clone(), fill);
        assert!(!path.contains('{'), "{path}");
        path
    }
}

impl Contract {
    /// Reads the document of a hub.
    pub(crate) async fn of(hub: &Client) -> Self {
        let document = hub.with_key(None).get("/openapi.json").await.expect(200);
        let registry = Registry::new().add(DOCUMENT_URI, document.clone()).expect("a document");
        Self { document, registry: registry.prepare().expect("a document") }
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.document.pointer("/paths").and_then(Value::as_object).expect("paths");
        let of_path = |(path, item): (&String, &Value)| {
            let operation = |method: &Method| {
                let spec = item.get(method.as_str().to_lowercase())?;
                Some(Operation { method: method.clone(), path: path.clone(), spec: spec.clone() })
            };
            METHODS.iter().filter_map(operation).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[track_caller]
    pub(crate) fn operation(&self, method: &Method, path: &str) -> Operation {
        let found =
            self.operations().into_iter().find(|one| one.method == method && one.path == path);
        found.expect(path)
    }

    /// The value itself, or the target of its `$ref`.
    pub(crate) fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(target) => self.document.pointer(target.trim_start_matches('#')).expect(target),
            None => value,
        }
    }

    /// The parameters of an operation in `query`, `header` or `path`.
    pub(crate) fn parameters(&self, operation: &Operation, location: &str) -> Vec<Value> {
        let all = operation.spec.get("parameters").and_then(Value::as_array).into_iter().flatten();
        all.map(|one| self.resolved(one))
            .filter(|one| one.get("in").is_some_and(|given| given == location))
            .cloned()
            .collect()
    }

    /// The schema of the JSON body, if the operation has one.
    pub(crate) fn body_schema(&self, operation: &Operation) -> Option<&Value> {
        let path = operation.path.replace('~', "~0").replace('/', "~1");
        let method = operation.method.as_str().to_lowercase();
        let pointer =
            format!("/paths/{path}/{method}/requestBody/content/application~1json/schema");
        Some(self.resolved(self.document.pointer(&pointer)?))
    }

    /// The first example of the JSON body, if the operation has one.
    pub(crate) fn example_body(&self, operation: &Operation) -> Option<Value> {
        let content = operation.spec.pointer("/requestBody/content/application~1json")?;
        if let Some(example) = content.get("example") {
            return Some(example.clone());
        }
        let first = content.get("examples")?.as_object()?.values().next()?;
        Some(self.resolved(first)["value"].clone())
    }

    /// Validation errors of a value against the schema at a pointer.
    pub(crate) fn schema_errors(&self, pointer: &str, value: &Value) -> Vec<String> {
        let encoded = url::form_urlencoded::byte_serialize(pointer.as_bytes()).collect::<String>();
        let encoded = encoded.replace("%2F", "/").replace("%7E", "~").replace('+', "%20");
        let validator: Validator = jsonschema::draft202012::options()
            .with_registry(&self.registry)
            .should_validate_formats(true)
            .build(&json!({ "$ref": format!("{DOCUMENT_URI}#{encoded}") }))
            .expect(pointer);
        validator
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// Checks that a response's status, headers and body match the document.
    #[track_caller]
    pub(crate) fn assert_described(&self, operation: &Operation, response: &Response) {
        let pointer = self.assert_head_described(operation, response.status, &response.headers);
        let media_type = response.header("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default();
        let content =
            self.document.pointer(&format!("{pointer}/content")).and_then(Value::as_object);
        let Some(content) = content else {
            assert_eq!(response.body, "", "{operation}: {} has no body", response.status);
            return;
        };
        let is_described = content.contains_key(essence);
        assert!(is_described, "{operation}: {} {media_type:?}: {}", response.status, response.body);
        if essence.ends_with("json") {
            let body: Value = serde_json::from_str(&response.body).expect("JSON");
            let schema = format!("{pointer}/content/{}/schema", essence.replace('/', "~1"));
            let errors = self.schema_errors(&schema, &body);
            assert!(errors.is_empty(), "{operation}: {}: {errors:?}\n{body}", response.status);
        }
    }

    /// Checks status and headers; returns the pointer of the response's description.
    #[track_caller]
    pub(crate) fn assert_head_described(
        &self,
        operation: &Operation,
        status: u16,
        headers: &HeaderMap,
    ) -> String {
        let path = operation.path.replace('~', "~0").replace('/', "~1");
        let method = operation.method.as_str().to_lowercase();
        let pointer = format!("/paths/{path}/{method}/responses/{status}");
        let spec = self.document.pointer(&pointer);
        let spec = spec.expect(&pointer);
        let pointer = match spec.get("$ref") {
            Some(_) => string_at(spec, "/$ref").trim_start_matches('#').to_owned(),
            None => pointer,
        };
        let spec = self
            .resolved(spec)
            .get("headers")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let names: BTreeSet<String> = spec.keys().map(|name| name.to_lowercase()).collect();
        for name in headers.keys() {
            let is_known =
                names.contains(name.as_str()) || PROTOCOL_HEADERS.contains(&name.as_str());
            assert!(is_known, "{operation}: {status}: the header {name} is not in the document");
        }
        for (name, header) in &spec {
            let required = self.resolved(header)["required"] == true;
            assert!(!required || headers.contains_key(name), "{operation}: {status}: no {name}");
        }
        pointer
    }
}
