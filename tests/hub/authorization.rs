//! Every operation of the OpenAPI document with every kind of credential, so that no route lacks its access check.

use reqwest::header::{CONNECTION, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::client::{Client, merged, string_at};
use crate::support::contract::{Contract, Operation};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;

const SCOPES: [&str; 5] = ["publish", "subscribe", "read", "stream", "admin"];

/// The objects of one tenant that the requests name.
struct Things {
    delivered: String,
    pulled: String,
    event: String,
    replay: String,
    key: String,
}

impl Things {
    /// Creates new objects, for operations that delete them.
    async fn make(operator: &Client, receiver: &TestReceiver) -> Self {
        let wanted = merged(receiver.subscription_to("matrix"), json!({"signatures": ["v1a"]}));
        let delivered = operator.subscribe(&wanted).await;
        let path = format!("/v1/subscriptions/{delivered}/replay");
        let replay = operator.post(&path, &json!({"since": "earliest"})).await.expect(202);
        let key = operator.post("/v1/keys", &json!({"name": "one more"})).await.expect(201);
        Self {
            pulled: operator.subscribe(&json!({"event_types": ["matrix"]})).await,
            event: operator.publish("matrix", json!(1)).await,
            replay: string_at(&replay, "/id"),
            key: string_at(&key, "/id"),
            delivered,
        }
    }

    fn path(&self, operation: &Operation) -> String {
        let is_pulled = ["/events", "/stream", "/ws", "/ack", "/seek"]
            .iter()
            .any(|end| operation.path.ends_with(end));
        let subscription = if is_pulled { &self.pulled } else { &self.delivered };
        let id = match operation.path.split('/').nth(2) {
            Some("events") => &self.event,
            Some("keys") => &self.key,
            _ => subscription,
        };
        operation.path_with(&[
            ("id", id),
            ("subscription", subscription),
            ("event", &self.event),
            ("replay", &self.replay),
            ("name", "some-tenant"),
            ("file", "swagger-ui.css"),
        ])
    }

    /// The example body of the operation, with the ids of these objects.
    fn body(&self, contract: &Contract, operation: &Operation) -> Option<Value> {
        let example = contract.example_body(operation)?.to_string();
        let about = example
            .replace("sub_1M847VV40B8RW", &self.delivered)
            .replace("evt_1M84B9PR00001", &self.event);
        serde_json::from_str(&about).ok()
    }

    /// Whether a request with this path or body names one of these objects.
    fn are_named(&self, path: &str, body: &str) -> bool {
        let ids = [&self.delivered, &self.pulled, &self.event, &self.key];
        ids.iter().any(|id| path.contains(id.as_str()) || body.contains(id.as_str()))
    }
}

/// The hub, its document, and clients for all tests of this file.
struct Matrix {
    hub: TestHub,
    contract: Contract,
    receiver: TestReceiver,
    /// A client that acts for the tenant of the objects.
    operator: Client,
}

impl Matrix {
    async fn set() -> Self {
        let hub = TestHub::start().await;
        let (contract, receiver) = (Contract::of(&hub).await, TestReceiver::start().await);
        let operator = hub.acting_for("acme");
        Self { hub, contract, receiver, operator }
    }

    /// A client of `tenant` with a new key, and the response to the key's creation.
    async fn key(&self, tenant: &str, more: Value) -> (Client, Value) {
        let wanted = merged(json!({"name": "matrix"}), more);
        let created = self.hub.acting_for(tenant).post("/v1/keys", &wanted).await.expect(201);
        (self.hub.with_key(Some(&string_at(&created, "/key"))), created)
    }

    async fn with_scopes(&self, tenant: &str, scopes: &[&str]) -> Client {
        self.key(tenant, json!({"scopes": scopes})).await.0
    }

    fn request(&self, client: &Client, operation: &Operation, things: &Things) -> RequestBuilder {
        self.request_with(client, operation, things, "")
    }

    /// Builds the operation's request with a query.
    fn request_with(
        &self,
        client: &Client,
        operation: &Operation,
        things: &Things,
        query: &str,
    ) -> RequestBuilder {
        let path = format!("{}{query}", things.path(operation));
        let mut request = client.request(operation.method.clone(), &path);
        let headers = self.contract.parameters(operation, "header");
        let required: Vec<_> =
            headers.iter().filter(|one| one.get("required") == Some(&Value::Bool(true))).collect();
        if required.is_empty() {
            // The hub may leave the body of a refused request unread; the connection is then unusable.
            request = request.header(CONNECTION, "close");
        }
        for header in required {
            let value = header
                .get("example")
                .or_else(|| header.pointer("/schema/const"))
                .expect("an example");
            request = request.header(string_at(header, "/name"), value.as_str().expect("a text"));
        }
        match things.body(&self.contract, operation) {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        }
    }

    /// Sends a request; returns the status, and the problem document if the response is one.
    async fn ask(&self, request: RequestBuilder, operation: &Operation) -> (u16, Value) {
        // The hub may close the connection of a refused request before the response arrives.
        let again = request.try_clone().expect("a body that can be sent again");
        let response = match request.send().await {
            Ok(response) => response,
            Err(_cut_off) => again.send().await.expect("the hub responds"),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let is = |kind: &str| headers.get(CONTENT_TYPE).is_some_and(|value| value == kind);
        let refused = [401, 403].contains(&status);
        if !refused {
            return (status, Value::Null);
        }
        assert!(is("application/problem+json"), "{operation}: {status}");
        let challenged = headers.contains_key("www-authenticate");
        assert_eq!(challenged, status == 401, "{operation}: {status}");
        let problem = response.text().await.expect("a body");
        (status, serde_json::from_str(&problem).expect("JSON"))
    }

    /// Checks that the hub refuses a client with this status and code.
    async fn refuses(
        &self,
        (client, whose): (&Client, &str),
        operation: &Operation,
        things: &Things,
        (status, code): (u16, &str),
    ) {
        let (actual, problem) = self.ask(self.request(client, operation, things), operation).await;
        let actual = (actual, problem.pointer("/code"));
        assert_eq!(actual, (status, Some(&json!(code))), "{operation} with {whose}");
    }
}

#[tokio::test]
async fn only_public_operations_work_without_a_valid_key() {
    let matrix = Matrix::set().await;
    let things = Things::make(&matrix.operator, &matrix.receiver).await;
    let (revoked, created) = matrix.key("acme", json!({"scopes": SCOPES})).await;
    assert_eq!(
        matrix.operator.delete(&format!("/v1/keys/{}", string_at(&created, "/id"))).await.status,
        204
    );
    let (expired, _) = matrix.key("acme", json!({"scopes": SCOPES, "expires_in_s": 1})).await;
    eventually("the key expires", async || {
        (expired.get("/v1/events").await.status == 401).then_some(())
    })
    .await;
    let strangers = [
        (matrix.hub.with_key(None), "no key"),
        (matrix.hub.with_key(Some("hh_n0tAk3y")), "a wrong key"),
        (revoked, "a revoked key"),
        (expired, "an expired key"),
    ];
    let operations = matrix.contract.operations();
    assert!(operations.len() > 40, "{}", operations.len());
    for operation in operations {
        let is_public = operation.spec["security"].as_array().is_some_and(Vec::is_empty);
        for (stranger, whose) in &strangers {
            if is_public {
                let result = matrix.ask(matrix.request(stranger, &operation, &things), &operation);
                let (status, _) = result.await;
                assert!(status != 401 && status != 403, "{operation} with {whose}: {status}");
                continue;
            }
            let client = (stranger, *whose);
            matrix.refuses(client, &operation, &things, (401, "unauthorized")).await;
            if operation.method == Method::GET {
                let path = things.path(&operation);
                let head = stranger.request(Method::HEAD, &path).send().await.expect("a response");
                assert_eq!(head.status(), 401, "HEAD {path} with {whose}");
            }
        }
    }
}

#[tokio::test]
async fn each_operation_accepts_a_key_with_its_scope_and_no_other_key() {
    let matrix = Matrix::set().await;
    let mut checked = 0;
    for operation in matrix.contract.operations() {
        let Some(scope) = operation.scope() else { continue };
        assert!(SCOPES.contains(&&*scope), "{operation}: {scope}");
        let things = Things::make(&matrix.operator, &matrix.receiver).await;
        let others: Vec<&str> =
            SCOPES.into_iter().filter(|other| *other != scope && *other != "admin").collect();
        let without = matrix.with_scopes("acme", &others).await;
        let client = (&without, "all other scopes");
        matrix.refuses(client, &operation, &things, (403, "forbidden")).await;
        let exactly = matrix.with_scopes("acme", &[&scope]).await;
        let result = matrix.ask(matrix.request(&exactly, &operation, &things), &operation).await;
        // The named tenant may not exist yet.
        let is_absent = operation.path.contains("{name}") && result.0 == 404;
        assert!(![401, 403, 404].contains(&result.0) || is_absent, "{operation}: {result:?}");
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}

#[tokio::test]
async fn a_key_of_one_tenant_gets_404_for_objects_of_another_tenant() {
    let matrix = Matrix::set().await;
    let things = Things::make(&matrix.operator, &matrix.receiver).await;
    let other = matrix.with_scopes("other", &SCOPES[..4]).await;
    let operator_of_other = matrix.with_scopes("other", &SCOPES).await;
    let mut checked = 0;
    for operation in matrix.contract.operations() {
        let Some(scope) = operation.scope() else { continue };
        let body = things.body(&matrix.contract, &operation).unwrap_or_default().to_string();
        if !things.are_named(&things.path(&operation), &body) {
            continue;
        }
        let client = if scope == "admin" { &operator_of_other } else { &other };
        let result = matrix.ask(matrix.request(client, &operation, &things), &operation).await;
        assert_eq!(result.0, 404, "{operation}: {result:?}");
        checked += 1;
    }
    assert!(checked > 25, "{checked}");
}

#[tokio::test]
async fn a_stream_token_opens_only_the_operations_that_document_it() {
    let matrix = Matrix::set().await;
    let things = Things::make(&matrix.operator, &matrix.receiver).await;
    let token = matrix.operator.post("/v1/stream-tokens", &json!({"types": ["*"]})).await;
    let token = string_at(&token.expect(201), "/token");
    let (nobody, mut opened) = (matrix.hub.with_key(None), Vec::new());
    for operation in matrix.contract.operations() {
        if operation.scope().is_none() {
            continue;
        }
        let query = format!("?access_token={token}");
        let request = matrix.request_with(&nobody, &operation, &things, &query);
        let (status, _) = matrix.ask(request, &operation).await;
        if operation.required_roles("access_token").is_none() {
            assert_eq!(status, 401, "{operation}");
            continue;
        }
        assert!([101, 200].contains(&status), "{operation}: {status}");
        let query = "?access_token=hhst_no.ne";
        let request = matrix.request_with(&nobody, &operation, &things, query);
        let (status, _) = matrix.ask(request, &operation).await;
        assert_eq!(status, 401, "{operation} with a token of nobody's");
        opened.push(operation.to_string());
    }
    assert_eq!(opened, ["GET /v1/events", "GET /v1/stream", "GET /v1/ws"]);
}
