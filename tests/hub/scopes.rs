//! Scopes and event types of keys: everything else is refused, or answered as if it did not exist.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::{Client, Response, array_at, merged, send_request, string_at};
use crate::support::hub::TestHub;
use crate::support::in_time;
use crate::support::receiver::TestReceiver;
use crate::support::sse::EventSource;
use crate::support::waits::{wait_for_connections, wait_for_deliveries};
use crate::support::websocket::Socket;

const SUB: &str = "sub_0000000000000";
const EVT: &str = "evt_0000000000000";

/// A client with a key of the default tenant.
async fn with_key(hub: &TestHub, more: Value) -> Client {
    let created = hub.post("/v1/keys", &merged(json!({"name": "ci"}), more)).await.expect(201);
    hub.with_key(Some(&string_at(&created, "/key")))
}

/// Each route with the scope it needs.
fn routes() -> Vec<(Method, String, &'static str)> {
    let under = |rest: &str| format!("/v1/subscriptions/{SUB}{rest}");
    let mut routes = vec![
        (Method::POST, "/v1/events".into(), "publish"),
        (Method::GET, "/v1/events".into(), "read"),
        (Method::GET, "/v1/events?wait=1&after=now".into(), "read"),
        (Method::GET, format!("/v1/events/{EVT}"), "read"),
        (Method::GET, format!("/v1/events/{EVT}/explain"), "read"),
        (Method::GET, format!("/v1/events/{EVT}/deliveries"), "read"),
        (Method::GET, "/v1/attempts".into(), "read"),
        (Method::GET, under("/events"), "read"),
        (Method::GET, under("/stream"), "stream"),
        (Method::GET, under("/ws"), "stream"),
        (Method::GET, "/v1/ws".into(), "stream"),
        (Method::GET, "/v1/connections".into(), "stream"),
        (Method::POST, "/v1/stream-tokens".into(), "stream"),
        (Method::POST, format!("/v1/deliveries/{SUB}/{EVT}/retry"), "subscribe"),
        (Method::GET, "/v1/subscriptions".into(), "subscribe"),
        (Method::POST, "/v1/subscriptions".into(), "subscribe"),
        (Method::DELETE, "/v1/subscriptions".into(), "subscribe"),
        (Method::GET, "/v1/nodes".into(), "admin"),
        (Method::GET, "/v1/audit".into(), "admin"),
        (Method::GET, "/v1/keys".into(), "admin"),
        (Method::POST, "/v1/keys".into(), "admin"),
        (Method::GET, "/v1/keys/key_0000000000000".into(), "admin"),
        (Method::DELETE, "/v1/keys/key_0000000000000".into(), "admin"),
    ];
    for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
        routes.push((method, under(""), "subscribe"));
    }
    for action in ["/pause", "/resume", "/test", "/replay", "/ack", "/seek"] {
        routes.push((Method::POST, under(action), "subscribe"));
    }
    for list in ["/deliveries", "/replays", "/replays/rpl_0000000000000"] {
        routes.push((Method::GET, under(list), "subscribe"));
    }
    routes.push((Method::POST, under("/replays/rpl_0000000000000/cancel"), "subscribe"));
    routes
}

async fn ask(client: &Client, method: &Method, path: &str) -> Response {
    client.send(method.clone(), path, &json!({"nothing": "of use"})).await
}

#[tokio::test]
async fn a_key_does_only_what_its_scopes_allow() {
    let hub = TestHub::start().await;
    for scope in ["publish", "subscribe", "read", "stream", "admin"] {
        let client = with_key(&hub, json!({"scopes": [scope]})).await;
        for (method, path, wanted) in routes() {
            let response = ask(&client, &method, &path).await;
            if scope == wanted || scope == "admin" {
                assert!(
                    ![401, 403].contains(&response.status),
                    "{method} {path} {scope}: {}",
                    response.body
                );
            } else {
                let detail = string_at(&response.expect_problem(403, "forbidden"), "/detail");
                let named = detail.contains(&format!("the scope {wanted};"));
                assert!(named && detail.ends_with(scope), "{method} {path}: {detail}");
            }
        }
        let stream = client.request(Method::GET, "/v1/stream");
        let opened = EventSource::open(stream).await.is_ok();
        assert_eq!(opened, ["stream", "admin"].contains(&scope), "{scope}");
    }
    assert!(hub.list_all("/v1/subscriptions").await.is_empty());
}

#[tokio::test]
async fn a_websocket_command_needs_its_scope() {
    let hub = TestHub::start().await;
    let pulled = hub.subscribe(&json!({"event_types": ["a"]})).await;
    let event = hub.publish("a", json!(1)).await;
    for (scopes, refused) in [
        (vec!["stream"], vec!["publish", "ack"]),
        (vec!["stream", "publish"], vec!["ack"]),
        (vec!["stream", "subscribe"], vec!["publish"]),
    ] {
        let client = with_key(&hub, json!({"scopes": scopes})).await;
        let path = format!("/v1/subscriptions/{pulled}/ws?last_event_id={event}");
        let mut socket = Socket::open(client.request(Method::GET, &path)).await.unwrap();
        for (name, command) in [
            ("ack", json!({"ack": event})),
            ("publish", json!({"publish": {"type": "b", "data": 1}})),
        ] {
            socket.send(&command).await;
            let reply = socket.receive().await;
            let code = reply.pointer("/error/code").and_then(Value::as_str);
            assert_eq!(code == Some("forbidden"), refused.contains(&name), "{scopes:?} {reply}");
        }
    }
}

#[tokio::test]
async fn a_stream_token_allows_no_more_than_its_key() {
    let hub = TestHub::start().await;
    let client = with_key(&hub, json!({"scopes": ["stream"], "event_types": ["order.*"]})).await;
    let path = "/v1/stream-tokens";
    for types in [json!(["invoice.paid"]), json!(["order.*", "*"]), json!(["*"])] {
        client.post(path, &json!({"types": types})).await.expect_problem(403, "forbidden");
    }
    let created = client.post(path, &json!({"types": ["order.paid"]})).await.expect(201);
    let (page, query) =
        (hub.with_key(None), format!("access_token={}", string_at(&created, "/token")));
    let problem = page.get(&format!("/v1/events?{query}")).await.expect_problem(403, "forbidden");
    assert!(string_at(&problem, "/detail").contains("the scope read;"), "{problem}");
    let stream = page.request(Method::GET, &format!("/v1/stream?{query}"));
    EventSource::open(stream).await.expect("a stream");

    let brief = with_key(&hub, json!({"expires_in_s": 60})).await;
    let created = brief.post(path, &json!({"types": ["a"], "ttl_s": 600})).await.expect(201);
    let of_key = hub.list_all("/v1/keys").await;
    assert_eq!(created["expires_at"], of_key[1]["expires_at"], "the token ends with its key");
}

#[tokio::test]
async fn a_key_with_event_types_publishes_only_those_types() {
    let hub = TestHub::start().await;
    let client = with_key(&hub, json!({"event_types": ["order.*", "a"]})).await;
    client.publish("order.paid", json!(1)).await;
    let event = |event_type: &str| json!({"type": event_type, "data": 1});
    let problem =
        client.post("/v1/events", &event("invoice.paid")).await.expect_problem(403, "forbidden");
    let detail = string_at(&problem, "/detail");
    assert!(detail.contains("order.*, a") && detail.contains("invoice.paid"), "{detail}");
    let batch = json!([event("a"), event("invoice.paid"), event("order.paid.eu")]);
    let response = client.post("/v1/events", &batch).await.expect(202);
    assert_eq!(response["data"][1]["error"]["code"], "forbidden");
    let mut socket = Socket::open(client.request(Method::GET, "/v1/ws")).await.unwrap();
    socket.send(&json!({"publish": event("b")})).await;
    assert_eq!(socket.receive().await["error"]["code"], "forbidden");
    let stored = hub.list_all("/v1/events").await;
    let types: Vec<_> = stored.iter().map(|event| string_at(event, "/type")).collect();
    assert_eq!(types, ["order.paid", "a", "order.paid.eu"]);
    assert_eq!(response["data"][2]["id"], stored[2]["id"]);
}

#[tokio::test]
async fn a_key_with_event_types_reads_only_those_types() {
    let hub = TestHub::start().await;
    let client = with_key(&hub, json!({"event_types": ["order.*"]})).await;
    let (hidden, seen) =
        (hub.publish("invoice.paid", json!(1)).await, hub.publish("order.paid", json!(2)).await);
    for query in ["", "?order=desc", "?types=order.paid"] {
        let page = client.get(&format!("/v1/events{query}")).await.expect(200);
        let ids: Vec<_> =
            array_at(&page, "/data").iter().map(|event| string_at(event, "/id")).collect();
        assert_eq!(ids, [seen.as_str()], "{query}");
    }
    for types in ["*", "invoice.paid", "order.paid,invoice.paid", "hookhub.*"] {
        for path in ["events", "stream", "ws"] {
            client.get(&format!("/v1/{path}?types={types}")).await.expect_problem(403, "forbidden");
        }
    }
    for rest in ["", "/explain", "/deliveries"] {
        client.get(&format!("/v1/events/{hidden}{rest}")).await.expect_problem(404, "not_found");
        client.get(&format!("/v1/events/{seen}{rest}")).await.expect(200);
    }
    let stream = client.request(Method::GET, "/v1/stream?after=earliest");
    let mut stream = EventSource::open(stream).await.unwrap();
    assert_eq!(in_time("an event", stream.next()).await.unwrap().id, seen);
    let mut socket =
        Socket::open(client.request(Method::GET, "/v1/ws?after=earliest")).await.unwrap();
    assert_eq!(string_at(&socket.receive().await, "/id"), seen);
    socket.send(&json!({"subscribe": {"types": ["invoice.paid"]}})).await;
    assert_eq!(socket.receive().await["error"]["code"], "forbidden");
    socket.send(&json!({"subscribe": {"after": "earliest"}})).await;
    assert_eq!(socket.receive().await["subscribed"]["types"], json!(["order.*"]));
    assert_eq!(string_at(&socket.receive().await, "/id"), seen);
    hub.publish("invoice.paid", json!(3)).await;
    let next = hub.publish("order.sent", json!(4)).await;
    assert_eq!(in_time("an event", stream.next()).await.unwrap().id, next);
    assert_eq!(string_at(&socket.receive().await, "/id"), next);
    // Other keys see this key's connections; this key does not see theirs.
    let other = hub.request(Method::GET, "/v1/stream?types=invoice.paid");
    let _other = EventSource::open(other).await.unwrap();
    wait_for_connections(&hub, 3).await;
    wait_for_connections(&client, 2).await;
}

#[tokio::test]
async fn the_hubs_own_events_are_visible_only_to_keys_that_name_them() {
    let hub = TestHub::start().await;
    hub.subscribe(&json!({"event_types": ["a"]})).await;
    let status_for = |client: Client| async move {
        let path = "/v1/events?types=hookhub.subscription.created";
        client.get(path).await.status
    };
    assert_eq!(status_for(with_key(&hub, json!({})).await).await, 200);
    assert_eq!(status_for(with_key(&hub, json!({"event_types": ["*"]})).await).await, 403);
    assert_eq!(status_for(with_key(&hub, json!({"event_types": ["hookhub.*"]})).await).await, 200);
}

#[tokio::test]
async fn a_key_with_event_types_sees_only_subscriptions_to_those_types() {
    let hub = TestHub::start().await;
    let client = with_key(&hub, json!({"event_types": ["order.*"]})).await;
    let mut receiver = TestReceiver::start().await;
    for patterns in [json!(["invoice.paid"]), json!(["order.paid", "*"]), json!(["*"])] {
        let wanted = merged(receiver.subscription_to("order.*"), json!({"event_types": patterns}));
        client.post("/v1/subscriptions", &wanted).await.expect_problem(403, "forbidden");
    }
    let own = client.subscribe(&receiver.subscription_to("order.*")).await;
    let others = hub.subscribe(&receiver.subscription_to("*")).await;
    let event = hub.publish("order.paid", json!(1)).await;
    receiver.take(2).await;
    wait_for_deliveries(&hub, &others, "delivered", 1).await;
    wait_for_deliveries(&hub, &own, "delivered", 1).await;

    let list = client.list_all("/v1/subscriptions").await;
    assert_eq!(list.iter().map(|one| string_at(one, "/id")).collect::<Vec<_>>(), [own.as_str()]);
    let deliveries = client.list_all(&format!("/v1/events/{event}/deliveries")).await;
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0]["subscription"], json!(own));
    assert_eq!(client.list_all(&format!("/v1/events/{event}/explain")).await.len(), 1);
    let attempts = client.list_all("/v1/attempts").await;
    assert!(!attempts.is_empty() && attempts.iter().all(|one| one["subscription"] == json!(own)));

    let path = format!("/v1/subscriptions/{others}");
    for rest in ["", "/deliveries", "/replays", "/events", "/stream", "/ws"] {
        client.get(&format!("{path}{rest}")).await.expect_problem(404, "not_found");
    }
    let stolen = json!({"callback_url": receiver.url()});
    for method in [Method::PATCH, Method::PUT, Method::DELETE] {
        client.send(method, &path, &stolen).await.expect_problem(404, "not_found");
    }
    for action in ["pause", "resume", "test"] {
        client.post(&format!("{path}/{action}"), &json!({})).await.expect_problem(404, "not_found");
    }
    let since = json!({"since": "earliest"});
    client.post(&format!("{path}/replay"), &since).await.expect_problem(404, "not_found");
    let retry = format!("/v1/deliveries/{others}/{event}/retry");
    client.post(&retry, &json!({})).await.expect_problem(404, "not_found");
    client.send(Method::DELETE, "/v1/subscriptions", &stolen).await.expect(204);
    hub.subscription(&others).await;
    hub.get(&format!("/v1/subscriptions/{own}")).await.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_subscription_that_ever_matched_more_types_is_invisible_to_a_key_with_event_types() {
    let hub = TestHub::start().await;
    let client = with_key(&hub, json!({"event_types": ["order.*"]})).await;
    let id = client.subscribe(&json!({"event_types": ["order.*"]})).await;
    let path = format!("/v1/subscriptions/{id}");
    let wider = json!({"event_types": ["order.*", "invoice.*"]});
    client.send(Method::PATCH, &path, &wider).await.expect_problem(403, "forbidden");
    let stream = client.request(Method::GET, &format!("{path}/stream"));
    let mut stream = EventSource::open(stream).await.unwrap();

    hub.send(Method::PATCH, &path, &wider).await.expect(200);
    hub.publish("invoice.paid", json!(1)).await;
    let seen = hub.publish("order.paid", json!(2)).await;
    assert_eq!(in_time("an event", stream.next()).await.unwrap().id, seen, "no invoice event");
    client.get(&format!("{path}/events")).await.expect_problem(404, "not_found");
    hub.send(Method::PATCH, &path, &json!({"event_types": ["order.*"]})).await.expect(200);
    client.get(&format!("{path}/events")).await.expect_problem(404, "not_found");
    assert_eq!(array_at(&hub.get(&format!("{path}/events")).await.expect(200), "/data").len(), 2);
}

#[tokio::test]
async fn a_misplaced_or_duplicate_credential_is_refused_with_the_right_form() {
    let hub = TestHub::start().await;
    let created = hub.post("/v1/stream-tokens", &json!({"types": ["a"]})).await.expect(201);
    let (page, query) =
        (hub.with_key(None), format!("access_token={}", string_at(&created, "/token")));
    for (method, path) in [
        (Method::POST, "/v1/events".to_owned()),
        (Method::GET, "/v1/subscriptions".to_owned()),
        (Method::GET, format!("/v1/subscriptions/{SUB}/stream")),
    ] {
        let response = ask(&page, &method, &format!("{path}?{query}")).await;
        let detail = string_at(&response.expect_problem(401, "unauthorized"), "/detail");
        assert!(
            detail
                .contains("access_token is accepted only by GET /v1/events, /v1/stream and /v1/ws"),
            "{detail}"
        );
    }
    for path in ["events", "stream", "ws"] {
        let response = page.get(&format!("/v1/{path}?{query}&{query}")).await;
        let detail = string_at(&response.expect_problem(400, "invalid_parameter"), "/detail");
        assert!(detail.contains("access_token: appears more than once"), "{detail}");
    }
}

#[tokio::test]
async fn head_gets_the_response_of_get_without_the_body() {
    let hub = TestHub::start().await;
    let event = hub.publish("a", json!(1)).await;
    let id = hub.subscribe(&json!({"event_types": ["a"]})).await;
    let mut paths: Vec<String> = routes()
        .into_iter()
        .filter(|(method, ..)| *method == Method::GET)
        .map(|(_, path, _)| path.replace(SUB, &id).replace(EVT, &event))
        .collect();
    paths.retain(|path| !path.ends_with("/stream"));
    paths.extend(["/healthz", "/readyz", "/v1/nothing"].map(str::to_owned));
    for path in paths {
        for client in [&*hub, &hub.with_key(None)] {
            let (get, head) =
                (client.get(&path).await, send_request(client.request(Method::HEAD, &path)).await);
            assert_eq!(head.status, get.status, "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            assert!(head.body.is_empty(), "{path}: {}", head.body);
        }
    }
    for path in ["/v1/stream".to_owned(), format!("/v1/subscriptions/{id}/stream")] {
        let head = send_request(hub.request(Method::HEAD, &path)).await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    }
}

#[tokio::test]
async fn subscribing_to_the_hubs_own_events_needs_the_scope_subscribe() {
    let hub = TestHub::start().await;
    let id = hub.subscribe(&json!({"event_types": ["a"]})).await;
    let entries = hub.get("/v1/events?types=hookhub.*").await.expect(200);
    let entry = string_at(array_at(&entries, "/data").first().expect("an entry"), "/id");
    let reader = with_key(&hub, json!({"scopes": ["read", "stream"]})).await;
    let subscriber = with_key(&hub, json!({"scopes": ["read", "subscribe"]})).await;
    let token = json!({"types": ["hookhub.subscription.*"]});
    reader.post("/v1/stream-tokens", &token).await.expect_problem(403, "forbidden");
    for path in ["/v1/events?types=hookhub.subscription.created", "/v1/stream?types=a,hookhub.*"] {
        reader.get(path).await.expect_problem(403, "forbidden");
    }
    reader.get(&format!("/v1/events/{entry}")).await.expect_problem(404, "not_found");
    assert!(reader.list_all("/v1/events").await.is_empty());
    let seen = subscriber.get(&format!("/v1/events/{entry}")).await.expect(200);
    assert_eq!(seen.pointer("/data/subscription/id"), Some(&json!(id)));
}
