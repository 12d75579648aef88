//! A thin HTTP client for the hub's API.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A client with an API key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    tenant: Option<String>,
}

/// An HTTP client with a timeout of 30 s.
pub(crate) fn http() -> reqwest::Client {
    // Only the first call installs a provider; all of them are equal.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    client.build().expect("an HTTP client")
}

/// A response of the hub.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        let (base, key) = (format!("http://{address}"), Some(key.to_owned()));
        Self { http: http(), base, key, tenant: None }
    }

    /// The same client with another key, or without one.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(ToOwned::to_owned), ..self.clone() }
    }

    /// The same client, acting for a tenant.
    pub(crate) fn acting_for(&self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("hookhub-tenant", tenant);
        }
        request
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        send_request(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        send_request(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        self.send_text(method, path, "application/json", &body.to_string()).await
    }

    /// Sends a body with this content type.
    pub(crate) async fn send_text(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Response {
        send_request(
            self.request(method, path).header(CONTENT_TYPE, content_type).body(body.to_owned()),
        )
        .await
    }

    /// Sends a POST with an `Idempotency-Key`.
    pub(crate) async fn post_idempotent(&self, path: &str, key: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).header("idempotency-key", key);
        send_request(request.header(CONTENT_TYPE, "application/json").body(body.to_string())).await
    }

    /// Creates a subscription and returns its id.
    pub(crate) async fn subscribe(&self, definition: &Value) -> String {
        string_at(&self.post("/v1/subscriptions", definition).await.expect(201), "/id")
    }

    pub(crate) async fn subscription(&self, id: &str) -> Value {
        self.get(&format!("/v1/subscriptions/{id}")).await.expect(200)
    }

    /// Publishes one event and returns its id.
    pub(crate) async fn publish(&self, event_type: &str, data: Value) -> String {
        let event = json!({"type": event_type, "data": data});
        string_at(&self.post("/v1/events", &event).await.expect(202), "/id")
    }

    /// Publishes `count` events of one type, with data 0, 1, …, and returns their ids.
    pub(crate) async fn publish_many(&self, event_type: &str, count: usize) -> Vec<String> {
        let numbers: Vec<_> = (0..count).collect();
        let mut ids = Vec::new();
        for batch in numbers.chunks(1_000) {
            let events: Vec<_> =
                batch.iter().map(|n| json!({"type": event_type, "data": n})).collect();
            let response = self.post("/v1/events", &Value::from(events)).await.expect(202);
            ids.extend(array_at(&response, "/data").iter().map(|item| string_at(item, "/id")));
        }
        ids
    }

    /// The items of all pages of a list.
    pub(crate) async fn list_all(&self, path: &str) -> Vec<Value> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut page = self.get(&format!("{path}{separator}limit=250")).await.expect(200);
        loop {
            items.extend_from_slice(array_at(&page, "/data"));
            if page.pointer("/has_more") != Some(&Value::Bool(true)) {
                return items;
            }
            let cursor = string_at(&page, "/next_cursor");
            page =
                self.get(&format!("{path}{separator}limit=250&after={cursor}")).await.expect(200);
        }
    }
}

/// Sends a request and reads the whole response; panics when the hub does not respond.
pub(crate) async fn send_request(request: RequestBuilder) -> Response {
    try_send_request(request).await.expect("the hub responds")
}

/// Sends a request to a hub that may be down.
pub(crate) async fn try_send_request(request: RequestBuilder) -> Result<Response, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Response { status, headers, body: response.text().await? })
}

impl Response {
    /// The body, if the response has this status; panics otherwise.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        if self.body.is_empty() {
            return Value::Null;
        }
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The problem document (RFC 9457), if the response has this status and code; panics otherwise.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.body);
        let problem: Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(problem.pointer("/code"), Some(&Value::from(code)), "{problem}");
        assert_eq!(problem.pointer("/status"), Some(&Value::from(status)), "{problem}");
        for member in ["/type", "/title", "/detail", "/request_id"] {
            let value = problem.pointer(member).and_then(Value::as_str);
            assert!(value.is_some_and(|value| !value.is_empty()), "{member} is missing: {problem}");
        }
        problem
    }

    /// Checks for 422 `validation_failed` with an error at this JSON pointer.
    #[track_caller]
    pub(crate) fn expect_invalid(&self, pointer: &str) {
        let problem = self.expect_problem(422, "validation_failed");
        let errors = array_at(&problem, "/errors");
        let is_named =
            errors.iter().any(|error| error.pointer("/pointer") == Some(&Value::from(pointer)));
        assert!(is_named, "{pointer} is not named: {problem}");
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable header"))
    }
}

/// The string at a JSON pointer.
#[track_caller]
pub(crate) fn string_at(value: &Value, pointer: &str) -> String {
    let string = value.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
    assert!(string.is_some(), "no string at {pointer}: {value}");
    string.unwrap_or_default()
}

/// The array at a JSON pointer.
#[track_caller]
pub(crate) fn array_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let array = value.pointer(pointer).and_then(Value::as_array);
    assert!(array.is_some(), "no array at {pointer}: {value}");
    array.map(Vec::as_slice).unwrap_or_default()
}

/// The JSON object with the members of `more` added or replaced.
pub(crate) fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut object, more) {
        members.extend(more);
    }
    object
}
