//! The OpenAPI document and its page: the hub serves them, and accepts and returns what the document describes.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::client::{Client, Response, array_at, merged, send_request, string_at};
use crate::support::contract::{Contract, Operation};
use crate::support::eventually;
use crate::support::hub::TestHub;
use crate::support::receiver::TestReceiver;
use crate::support::sse::EventSource;
use crate::support::verifying_receiver::{VerifyingReceiver, http_response};
use crate::support::websocket::Socket;

/// A sequence of requests; each response is checked against the document.
struct Tour {
    hub: TestHub,
    contract: Contract,
    /// Operations that have responded with success.
    seen: BTreeSet<String>,
}

impl Tour {
    async fn begin() -> Self {
        let named = |settings: &mut hookhub::config::Settings| {
            settings.public_url = Some("https://hub.example".parse().expect("a URL"));
        };
        let hub = TestHub::start_with(named).await;
        let contract = Contract::of(&hub).await;
        Self { hub, contract, seen: BTreeSet::new() }
    }

    /// Sends an operation's request. `path` is the path in the document, filled with `values`; the rest is appended.
    async fn ask(
        &mut self,
        (method, path, query): (Method, &str, &str),
        values: &[(&str, &str)],
        body: Option<Value>,
    ) -> Response {
        let operation = self.contract.operation(&method, path);
        let mut request =
            self.hub.request(method, &format!("{}{query}", operation.path_with(values)));
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        self.check(&operation, send_request(request).await)
    }

    fn check(&mut self, operation: &Operation, response: Response) -> Response {
        self.contract.assert_described(operation, &response);
        if (200..300).contains(&response.status) {
            self.seen.insert(operation.to_string());
        }
        response
    }

    async fn get(&mut self, path: &str, values: &[(&str, &str)]) -> Value {
        let response = self.ask((Method::GET, path, ""), values, None).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).unwrap_or_default()
    }

    async fn post(&mut self, path: &str, values: &[(&str, &str)], body: Value) -> Value {
        let response = self.ask((Method::POST, path, ""), values, Some(body)).await;
        assert!(response.status < 300, "{path}: {}", response.body);
        serde_json::from_str(&response.body).unwrap_or_default()
    }

    async fn events(&mut self) -> String {
        let one = self.post("/v1/events", &[], json!({"type": "a.b", "data": {"x": 1}})).await;
        let batch = json!([{"type": "a.c", "data": 1, "timestamp": "2026-11-23T14:00:00Z"}, {"data": 1}, 7]);
        self.post("/v1/events", &[], batch).await;
        let publish = self.contract.operation(&Method::POST, "/v1/events");
        let lines = "{\"type\":\"a.d\",\"data\":null}\n\nnonsense\n";
        let answered =
            self.hub.send_text(Method::POST, "/v1/events", "application/x-ndjson", lines).await;
        self.check(&publish, answered);
        let id = string_at(&one, "/id");
        for query in ["", "?order=desc&limit=1", "?after=now", "?limit=1"] {
            let response = self.ask((Method::GET, "/v1/events", query), &[], None).await;
            assert_eq!(response.status, 200, "{query}: {}", response.body);
        }
        self.get("/v1/events/{id}", &[("id", &id)]).await;
        id
    }

    async fn subscriptions(&mut self, receiver: &TestReceiver) -> String {
        let all = "/v1/subscriptions";
        let wanted = json!({
            "metadata": {"k": "v"}, "headers": {"x-y": "z"}, "description": "…", "order_by": "/x", "max_in_flight": 2,
            "rate_limit_per_s": 9, "timeout_s": 3, "retry_schedule_s": [1], "give_up_after_s": 1_000, "signatures": ["v1", "v1a"],
            "x_hook_signature": true, "auth": {"type": "basic", "username": "u", "password": "p"}, "from": "now",
        });
        let created = self.post(all, &[], merged(receiver.subscription_to("a.*"), wanted)).await;
        let id = string_at(&created, "/id");
        let (one, at) = ("/v1/subscriptions/{id}", [("id", &*id)]);
        self.get(all, &[]).await;
        self.get(one, &at).await;
        let token = json!({"auth": {
            "type": "oauth2_client_credentials", "token_url": "http://127.0.0.1:1234/token", "client_id": "c",
            "client_secret": "s", "scope": "a b", "audience": "d",
        }});
        for change in
            [token, json!({"auth": {"type": "bearer", "token": "t"}}), json!({"auth": null})]
        {
            self.ask((Method::PATCH, one, ""), &at, Some(change)).await.expect(200);
        }
        self.ask((Method::PUT, one, ""), &at, Some(receiver.subscription_to("a.*")))
            .await
            .expect(200);
        for action in ["pause", "resume"] {
            self.post(&format!("{one}/{action}"), &at, json!({})).await;
        }
        let both = json!({"signatures": ["v1a"]});
        self.ask((Method::PATCH, one, ""), &at, Some(both)).await.expect(200);
        self.post(&format!("{one}/rotate-secret"), &at, json!({})).await;
        self.get(&format!("{one}/public-key"), &at).await;
        self.get(&format!("{one}/jwks.json"), &at).await;
        self.ask((Method::PUT, one, ""), &at, Some(receiver.subscription_to("a.*")))
            .await
            .expect(200);
        self.get(one, &at).await;
        for body in
            [json!({"event": "x"}), json!({"event": "y", "hookUrl": "https://example.com/y"})]
        {
            self.post(all, &[], body).await;
        }
        let other = string_at(&self.post(all, &[], json!({"event": "z"})).await, "/id");
        self.ask((Method::DELETE, one, ""), &[("id", &other)], None).await;
        let by_url = json!({"target_url": "https://example.com/y"});
        self.ask((Method::DELETE, all, ""), &[], Some(by_url)).await;
        id
    }

    async fn handshakes(&mut self) {
        let (one, mut receiver) = (
            "/v1/subscriptions/{id}",
            VerifyingReceiver::responding(|_| http_response("500 Oh", &[], "")).await,
        );
        let verified_by =
            |way: &str, url: &str| json!({"event": "h", "callback_url": url, "handshake": way});
        for way in ["x_hook_secret", "cloudevents"] {
            let created =
                self.post("/v1/subscriptions", &[], verified_by(way, &receiver.url())).await;
            let (id, mut request) =
                (string_at(&created, "/id"), receiver.next_verification().await);
            while request.header("webhook-subscription") != Some(&id) {
                request = receiver.next_verification().await;
            }
            let at = [("id", &*id)];
            eventually("the handshake is recorded", async || {
                let subscription = self.hub.subscription(&id).await;
                subscription.pointer("/verification/last_error")?.as_str().map(|_| ())
            })
            .await;
            self.get(one, &at).await;
            self.post(&format!("{one}/verify"), &at, json!({})).await;
            let path = format!("{one}/verification");
            let wrong = self.ask((Method::GET, &path, "?token=x"), &at, None).await;
            assert_eq!(wrong.status, 403, "{}", wrong.body);
            if way == "x_hook_secret" {
                let confirm = self.contract.operation(&Method::POST, &path);
                let secret = request.header("x-hook-secret").expect("a secret").to_owned();
                let anyone = self.hub.with_key(None);
                let confirming = anyone.request(Method::POST, &confirm.path_with(&at));
                let confirmed = send_request(confirming.header("x-hook-secret", secret)).await;
                assert_eq!(self.check(&confirm, confirmed).status, 204);
            } else {
                let callback = request.header("webhook-request-callback").expect("a URL");
                let query = callback.split_once('?').expect("a token").1;
                self.ask((Method::GET, &path, &format!("?{query}")), &at, None).await.expect(200);
            }
            self.get(one, &at).await;
        }
    }

    async fn pulling(&mut self) {
        let created =
            self.post("/v1/subscriptions", &[], json!({"event": "a.*", "from": "earliest"})).await;
        let id = string_at(&created, "/id");
        let (one, at) = ("/v1/subscriptions/{id}", [("id", &*id)]);
        let page = self.get(&format!("{one}/events"), &at).await;
        let last = string_at(&page, "/next_cursor");
        self.post(&format!("{one}/ack"), &at, json!({ "cursor": last })).await;
        self.post(&format!("{one}/seek"), &at, json!({"cursor": "earliest"})).await;
        self.get(one, &at).await;
        for path in ["/v1/stream".to_owned(), format!("{one}/stream")] {
            self.stream(&path, &at).await;
        }
        for path in ["/v1/ws".to_owned(), format!("{one}/ws")] {
            self.web_socket(&path, &at).await;
        }
    }

    async fn stream(&mut self, path: &str, at: &[(&str, &str)]) {
        let operation = self.contract.operation(&Method::GET, path);
        let query = if path == "/v1/stream" { "?after=earliest" } else { "" };
        let request = self.hub.request(Method::GET, &format!("{}{query}", operation.path_with(at)));
        let mut stream = EventSource::open(request).await.expect("a stream");
        self.contract.assert_head_described(&operation, 200, stream.headers());
        let event: Value =
            serde_json::from_str(&stream.next().await.expect("an event").data).expect("JSON");
        let faults = self.contract.schema_errors("/components/schemas/Event", &event);
        assert!(faults.is_empty(), "{operation}: {faults:?}\n{event}");
        self.seen.insert(operation.to_string());
    }

    async fn web_socket(&mut self, path: &str, at: &[(&str, &str)]) {
        let operation = self.contract.operation(&Method::GET, path);
        let here = operation.path_with(at);
        let mut opening = self.hub.request(Method::GET, &here);
        for header in self.contract.parameters(&operation, "header") {
            if header.get("required") == Some(&Value::Bool(true)) {
                let value = header
                    .get("example")
                    .or_else(|| header.pointer("/schema/const"))
                    .expect("an example");
                opening =
                    opening.header(string_at(&header, "/name"), value.as_str().expect("a text"));
            }
        }
        let opened = opening.send().await.expect("a response");
        assert_eq!(opened.status(), 101);
        self.contract.assert_head_described(&operation, 101, opened.headers());
        let mut socket = Socket::open(self.hub.request(Method::GET, &here)).await.expect("open");
        for command in [
            json!({"subscribe": {"types": ["a.*"], "after": "now"}}),
            json!({"publish": {"type": "a.ws", "data": 1}}),
            json!({"ack": "evt_0000000000001"}),
        ] {
            let faults =
                self.contract.schema_errors("/components/schemas/WebSocketCommand", &command);
            assert!(faults.is_empty(), "{operation}: {faults:?}\n{command}");
            socket.send(&command).await;
        }
        socket.send(&json!({"no": "command"})).await;
        let (mut described, mut last) = (0, false);
        while !last {
            let heard = socket.receive().await;
            last = heard
                .pointer("/error/detail")
                .and_then(Value::as_str)
                .is_some_and(|why| why.starts_with("expected"));
            let faults = self.contract.schema_errors("/components/schemas/WebSocketAnswer", &heard);
            assert!(faults.is_empty(), "{operation}: {faults:?}\n{heard}");
            described += 1;
        }
        assert!(described >= 4, "{described}");
        self.seen.insert(operation.to_string());
    }

    async fn deliveries(&mut self, receiver: &mut TestReceiver, subscription: &str) {
        let event = self.hub.publish("a.b", json!({"x": 2})).await;
        while receiver.next_unverified().await.id != event {}
        let at = [("id", &*event)];
        let delivered = |response: &Value| {
            let is_done = |one: &Value| one["status"] == "delivered";
            array_at(response, "/data").iter().any(is_done).then_some(())
        };
        eventually("the delivery is recorded", async || {
            let path = format!("/v1/events/{event}/deliveries");
            delivered(&self.hub.get(&path).await.expect(200))
        })
        .await;
        self.get("/v1/events/{id}/deliveries", &at).await;
        self.get("/v1/events/{id}/explain", &at).await;
        self.get("/v1/attempts", &[]).await;
        let one = "/v1/subscriptions/{id}";
        let at = [("id", subscription)];
        self.get(&format!("{one}/deliveries"), &at).await;
        let pair = [("subscription", subscription), ("event", &*event)];
        self.post("/v1/deliveries/{subscription}/{event}/retry", &pair, json!({})).await;
        self.post(&format!("{one}/test"), &at, json!({})).await;
        let again = format!("{one}/replay");
        self.post(&again, &at, json!({"since": "earliest", "dry_run": true})).await;
        let replay = self.post(&again, &at, json!({"since": "earliest", "only": "all"})).await;
        let replay = string_at(&replay, "/id");
        let at = [("id", subscription), ("replay", &*replay)];
        self.get(&format!("{one}/replays"), &at).await;
        self.get(&format!("{one}/replays/{{replay}}"), &at).await;
        self.post(&format!("{one}/replays/{{replay}}/cancel"), &at, json!({})).await;
    }

    async fn running(&mut self) {
        let wanted =
            json!({"name": "k", "scopes": ["read"], "event_types": ["a.*"], "expires_in_s": 60});
        let key = self.post("/v1/keys", &[], wanted).await;
        let (id, own) = (string_at(&key, "/id"), self.hub.with_key(Some(&string_at(&key, "/key"))));
        own.get("/v1/events").await.expect(200);
        self.get("/v1/keys", &[]).await;
        self.get("/v1/keys/{id}", &[("id", &id)]).await;
        self.ask((Method::DELETE, "/v1/keys/{id}", ""), &[("id", &id)], None).await;
        let (one, at) = ("/v1/tenants/{name}", [("name", "shop")]);
        let quotas = json!({"description": "…", "quotas": {"events_per_s": 9, "streams": 2}});
        self.ask((Method::PUT, one, ""), &at, Some(quotas)).await.expect(201);
        self.ask((Method::PATCH, one, ""), &at, Some(json!({"quotas": null}))).await.expect(200);
        self.get(one, &at).await;
        self.get("/v1/tenants", &[]).await;
        self.ask((Method::DELETE, one, ""), &at, None).await;
        self.post("/v1/stream-tokens", &[], json!({"types": ["a.*"], "ttl_s": 9})).await;
        for path in ["/v1/audit", "/v1/nodes", "/v1/connections", "/healthz", "/readyz"] {
            self.get(path, &[]).await;
        }
        for path in ["/metrics", "/openapi.json", "/docs"] {
            self.get(path, &[]).await;
        }
        self.get("/docs/{file}", &[("file", "swagger-initializer.js")]).await;
    }
}

#[tokio::test]
async fn every_operation_responds_as_the_openapi_document_says() {
    let mut tour = Tour::begin().await;
    let mut receiver = TestReceiver::start().await;
    let listened = tour.hub.request(Method::GET, "/v1/stream");
    let _listening = EventSource::open(listened).await.expect("a stream");
    let subscription = tour.subscriptions(&receiver).await;
    tour.events().await;
    tour.handshakes().await;
    tour.pulling().await;
    tour.deliveries(&mut receiver, &subscription).await;
    tour.running().await;
    let all: BTreeSet<_> = tour.contract.operations().iter().map(ToString::to_string).collect();
    let left: Vec<_> = all.difference(&tour.seen).collect();
    assert!(left.is_empty(), "no successful request to: {left:?}");
}

#[tokio::test]
async fn problems_match_the_openapi_document() {
    let mut tour = Tour::begin().await;
    let pulled =
        string_at(&tour.post("/v1/subscriptions", &[], json!({"event": "a"})).await, "/id");
    let (none, at) = ([("id", "sub_0000000000000")], [("id", &*pulled)]);
    let one = "/v1/subscriptions/{id}";
    let no_user =
        json!({"event": "a", "auth": {"type": "basic", "username": null, "password": "p"}});
    for (method, path, values, body, status) in [
        (Method::GET, one.to_owned(), &none, None, 404),
        (Method::PATCH, one.to_owned(), &at, Some(json!({"timeout_s": 0, "typo": 1})), 422),
        (Method::POST, format!("{one}/replay"), &at, Some(json!({"since": "earliest"})), 409),
        (Method::POST, format!("{one}/verify"), &at, None, 409),
        (
            Method::POST,
            format!("{one}/seek"),
            &at,
            Some(json!({"cursor": "now", "time": "x"})),
            422,
        ),
        (Method::POST, "/v1/events".to_owned(), &at, Some(json!({"type": "a b"})), 422),
        (Method::DELETE, "/v1/subscriptions".to_owned(), &at, Some(json!({"hookUrl": "\0"})), 422),
        (Method::POST, "/v1/subscriptions".to_owned(), &at, Some(json!({"event": null})), 422),
        (Method::POST, "/v1/subscriptions".to_owned(), &at, Some(no_user), 422),
    ] {
        let response = tour.ask((method, &path, ""), values, body).await;
        assert_eq!(response.status, status, "{path}: {}", response.body);
    }
    let publish = tour.contract.operation(&Method::POST, "/v1/events");
    for (content_type, body, status) in [
        ("text/plain", "x".to_owned(), 415),
        ("application/json", "{".to_owned(), 400),
        ("application/json", format!("[{}1]", "1,".repeat(3 << 20)), 413),
    ] {
        let response = tour.hub.send_text(Method::POST, "/v1/events", content_type, &body).await;
        assert_eq!(tour.check(&publish, response).status, status);
    }
    let event = json!({"type": "a", "data": 1});
    for (n, status) in [(1, 202), (1, 202), (2, 422)] {
        let body = merged(event.clone(), json!({ "data": n }));
        let response = tour.hub.post_idempotent("/v1/events", "k", &body).await;
        assert_eq!(tour.check(&publish, response).status, status);
    }
    let quota = json!({"quotas": {"events_per_s": 1, "subscriptions": 0}});
    tour.ask((Method::PUT, "/v1/tenants/{name}", ""), &[("name", "small")], Some(quota))
        .await
        .expect(201);
    let small = tour.hub.acting_for("small");
    // The quota stays used up for longer than any test takes.
    let batch = Value::from(vec![event; 1_000]);
    small.post("/v1/events", &batch).await.expect(202);
    for (path, body) in [("/v1/events", batch), ("/v1/subscriptions", json!({"event": "a"}))] {
        let operation = tour.contract.operation(&Method::POST, path);
        let response = small.post(path, &body).await;
        assert_eq!(tour.check(&operation, response).status, 429, "{path}");
    }
}

/// The names after the colon in the detail about an unknown name.
fn known(detail: &str) -> BTreeSet<String> {
    let names: Option<Vec<String>> =
        ["the fields here are ", "known: "].iter().find_map(|before| {
            Some(detail.split_once(before)?.1.split(", ").map(ToOwned::to_owned).collect())
        });
    names.unwrap_or_default().into_iter().filter(|name| name != "there are none here").collect()
}

async fn filled(hub: &Client, operation: &Operation) -> String {
    let subscription = hub.subscribe(&json!({"event_types": ["a"]})).await;
    hub.send(Method::PUT, "/v1/tenants/small", &json!({})).await;
    let id = if operation.path.starts_with("/v1/events/") {
        hub.publish("a", json!(1)).await
    } else {
        subscription.clone()
    };
    operation.path_with(&[
        ("id", &id),
        ("subscription", &subscription),
        ("event", "evt_0000000000000"),
        ("replay", "rpl_0000000000000"),
        ("name", "small"),
        ("file", "swagger-ui.css"),
    ])
}

#[tokio::test]
async fn accepted_fields_match_the_openapi_document() {
    let hub = TestHub::start().await;
    let (contract, mut checked) = (Contract::of(&hub).await, 0);
    for operation in contract.operations() {
        let Some(mut schema) = contract.body_schema(&operation) else { continue };
        if let Some(first) = schema.pointer("/oneOf/0").filter(|first| first.get("$ref").is_some())
        {
            schema = contract.resolved(first);
        }
        let documented: BTreeSet<String> =
            schema["properties"].as_object().expect("fields").keys().cloned().collect();
        let path = filled(&hub, &operation).await;
        let response =
            hub.send(operation.method.clone(), &path, &json!({"no_such_field": 1})).await;
        let problem = response.expect_problem(422, "validation_failed");
        let unknown = array_at(&problem, "/errors").iter();
        let unknown: Vec<_> =
            unknown.filter(|error| error["pointer"] == "/no_such_field").collect();
        assert_eq!(unknown.len(), 1, "{operation}: {problem}");
        assert_eq!(known(&string_at(unknown[0], "/detail")), documented, "{operation}");
        checked += 1;
    }
    assert!(checked >= 13, "{checked}");
}

#[tokio::test]
async fn accepted_parameters_match_the_openapi_document() {
    let hub = TestHub::start().await;
    let (contract, mut checked) = (Contract::of(&hub).await, 0);
    for operation in contract.operations() {
        if !operation.path.starts_with("/v1/") {
            continue;
        }
        let mut documented: BTreeSet<String> = contract
            .parameters(&operation, "query")
            .iter()
            .map(|one| string_at(one, "/name"))
            .collect();
        let of_schemes = [("access_token", "access_token"), ("consent_token", "token")];
        let of_schemes =
            of_schemes.iter().filter(|(scheme, _)| operation.required_roles(scheme).is_some());
        documented.extend(of_schemes.map(|(_, name)| (*name).to_owned()));
        let path = format!("{}?no_such_parameter=1", filled(&hub, &operation).await);
        let response = hub.send(operation.method.clone(), &path, &json!({})).await;
        assert_eq!(response.status, 400, "{operation}: {}", response.body);
        let problem = response.expect_problem(400, "invalid_parameter");
        assert_eq!(known(&string_at(&problem, "/detail")), documented, "{operation}: {problem}");
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}

#[tokio::test]
async fn the_openapi_document_supports_conditional_requests() {
    let hub = TestHub::start().await;
    let first = hub.with_key(None).get("/openapi.json").await;
    assert_eq!(first.expect(200)["info"]["version"], env!("CARGO_PKG_VERSION"));
    let tag = first.header("etag").expect("a tag").to_owned();
    for (tags, status) in [
        (tag.clone(), 304),
        (format!("\"other\", W/{tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        ("nonsense".to_owned(), 200),
    ] {
        let request = hub.request(Method::GET, "/openapi.json").header("if-none-match", &tags);
        let again = send_request(request).await;
        assert_eq!((again.status, again.header("etag")), (status, Some(&*tag)), "{tags}");
        assert_eq!(again.body.is_empty(), status == 304);
    }
    let head = send_request(hub.request(Method::HEAD, "/openapi.json")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn the_api_page_loads_everything_from_the_hub() {
    let hub = TestHub::start().await;
    let anyone = hub.with_key(None);
    let page = anyone.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert!(!page.body.contains("://") && !page.body.contains("<script>"), "{}", page.body);
    let named: Vec<&str> = page
        .body
        .split([' ', '>', '\n'])
        .filter_map(|part| part.strip_prefix("src=\"").or_else(|| part.strip_prefix("href=\"")))
        .filter_map(|rest| rest.strip_suffix('"'))
        .collect();
    assert_eq!(named.len(), 6, "{named:?}");
    for name in named {
        let file = anyone.request(Method::GET, &format!("/{name}")).send().await.expect("it");
        assert_eq!(file.status(), 200, "{name}");
        if name != "openapi.json" {
            assert_eq!(file.headers()["x-content-type-options"], "nosniff", "{name}");
        }
        assert!(!file.bytes().await.expect("a body").is_empty(), "{name}");
    }
    let script = anyone.get("/docs/swagger-initializer.js").await;
    assert!(
        script.body.contains("\"openapi.json\"") && !script.body.contains("://"),
        "{}",
        script.body
    );
    for other in ["/docs/index.html", "/docs/oauth2-redirect.html", "/docs/x", "/docs/..%2Fdocs"] {
        anyone.get(other).await.expect_problem(404, "not_found");
    }
}
