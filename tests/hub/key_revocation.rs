//! The end of a key by revocation or expiry: on every node, for everything that the key opened.

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::task::JoinSet;

use crate::support::client::{Client, array_at, send_request, string_at, try_send_request};
use crate::support::follower::End;
use crate::support::hub::{ADMIN_KEY, TestHub};
use crate::support::postgres_proxy::PostgresProxy;
use crate::support::raw_client::RawClient;
use crate::support::sse::EventSource;
use crate::support::waits::wait_for_connections;
use crate::support::websocket::Socket;
use crate::support::{eventually, in_time};

/// Creates a key; returns its id and its text.
async fn key(hub: &Client, more: Value) -> (String, String) {
    let wanted = crate::support::client::merged(json!({"name": "ci"}), more);
    let created = hub.post("/v1/keys", &wanted).await.expect(201);
    (string_at(&created, "/id"), string_at(&created, "/key"))
}

async fn revoke(hub: &Client, id: &str) {
    let response = hub.delete(&format!("/v1/keys/{id}")).await;
    assert_eq!(response.status, 204, "{}", response.body);
}

async fn sse(request: RequestBuilder) -> EventSource {
    let mut source = EventSource::open(request).await.expect("a stream");
    source.read().await.expect("its beginning");
    source
}

async fn ends(source: &mut EventSource) {
    assert_eq!(in_time("its end", source.next()).await.err(), Some(End::Clean));
}

fn get(client: &Client, path: &str) -> RequestBuilder {
    client.request(Method::GET, path)
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_node_once_the_revocation_is_answered() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    for (n, (here, there)) in
        [(&one, &other), (&other, &one)].into_iter().cycle().take(20).enumerate()
    {
        let (id, key) = key(here, json!({})).await;
        let clients = [here.with_key(Some(&key)), there.with_key(Some(&key))];
        // In one round of three the key was never used at the node; in the others it is in use right now.
        if n % 3 > 0 {
            for client in &clients {
                client.get("/v1/events").await.expect(200);
            }
        }
        let users = clients.iter().map(|client| async {
            let mut statuses = Vec::new();
            while n % 3 == 2 && statuses.last() != Some(&401) {
                statuses.push(client.get("/v1/events").await.status);
            }
            statuses
        });
        let (statuses, ()) =
            in_time("they end", async { tokio::join!(join_all(users), revoke(here, &id)) }).await;
        assert!(statuses.into_iter().flatten().all(|status| status == 200 || status == 401));
        for client in &clients {
            client.get("/v1/events").await.expect_problem(401, "unauthorized");
        }
    }
}

#[tokio::test]
async fn connections_of_a_revoked_key_end_on_every_node() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let (id, key) = key(&one, json!({})).await;
    let pulled = one.subscribe(&json!({"event_types": ["quiet"]})).await;
    let (mut streams, mut sockets, mut polls) = (Vec::new(), Vec::new(), JoinSet::new());
    for hub in [&one, &other] {
        let (client, page) = (hub.with_key(Some(&key)), hub.with_key(None));
        let created = client.post("/v1/stream-tokens", &json!({"types": ["a"]})).await.expect(201);
        let token = format!("access_token={}", string_at(&created, "/token"));
        // No event matches these readers, so only the end of the key wakes them.
        for (who, query) in [(&client, "types=quiet"), (&page, token.as_str())] {
            streams.push(sse(get(who, &format!("/v1/stream?{query}"))).await);
            let socket = Socket::open(get(who, &format!("/v1/ws?{query}"))).await;
            sockets.push(socket.expect("a WebSocket"));
            let poll = try_send_request(get(who, &format!("/v1/events?wait=25&after=now&{query}")));
            polls.spawn(poll);
        }
        let pulling = format!("/v1/subscriptions/{pulled}");
        streams.push(sse(get(&client, &format!("{pulling}/stream"))).await);
        polls.spawn(try_send_request(get(&client, &format!("{pulling}/events?wait=25"))));
        // Two streams, two sockets and two polls at each node, and the pull subscription.
        wait_for_connections(hub, 8).await;
    }
    let mut bystander = sse(get(&other, "/v1/stream?types=a")).await;

    revoke(&one, &id).await;
    let event = one.publish("a", json!("after the revocation")).await;
    for stream in &mut streams {
        ends(stream).await;
    }
    for socket in &mut sockets {
        assert_eq!(socket.wait_for_end().await, 1008);
    }
    while let Some(response) = in_time("each is answered", polls.join_next()).await {
        let response = response.unwrap().unwrap();
        response.expect_problem(401, "unauthorized");
    }
    assert_eq!(in_time("an event", bystander.next()).await.unwrap().id, event);
}

#[tokio::test]
async fn stream_tokens_of_a_revoked_key_are_refused_by_every_node() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let (id, key) = key(&one, json!({})).await;
    let client = one.with_key(Some(&key));
    let created = client.post("/v1/stream-tokens", &json!({"types": ["a"]})).await.expect(201);
    let query = format!("access_token={}", string_at(&created, "/token"));
    for hub in [&one, &other] {
        hub.with_key(None).get(&format!("/v1/events?{query}")).await.expect(200);
    }
    revoke(&other, &id).await;
    for hub in [&one, &other] {
        for path in ["events", "stream", "ws"] {
            let refused = hub.with_key(None).get(&format!("/v1/{path}?{query}")).await;
            let problem = refused.expect_problem(401, "unauthorized");
            assert!(string_at(&problem, "/detail").contains("revoked"), "{problem}");
        }
    }
}

#[tokio::test]
async fn an_expired_key_is_refused_and_its_connections_end() {
    let hub = TestHub::start().await;
    let (_, key) = key(&hub, json!({"expires_in_s": 2})).await;
    let client = hub.with_key(Some(&key));
    let created = client.post("/v1/stream-tokens", &json!({"types": ["a"], "ttl_s": 600})).await;
    let query = format!("access_token={}", string_at(&created.expect(201), "/token"));
    let mut streams = [
        sse(get(&client, "/v1/stream")).await,
        sse(get(&hub.with_key(None), &format!("/v1/stream?{query}"))).await,
    ];
    let mut socket = Socket::open(get(&client, "/v1/ws")).await.unwrap();
    let poll = client.get("/v1/events?wait=25&after=now");
    let (poll, code) =
        in_time("they end", async { tokio::join!(poll, socket.wait_for_end()) }).await;
    assert_eq!((poll.status, code), (200, 1008), "what there was, which is nothing");
    for stream in &mut streams {
        ends(stream).await;
    }
    let problem = client.get("/v1/events").await.expect_problem(401, "unauthorized");
    assert!(string_at(&problem, "/detail").contains("expired"), "{problem}");
    let page = hub.with_key(None).get(&format!("/v1/events?{query}")).await;
    page.expect_problem(401, "unauthorized");
}

#[tokio::test]
async fn a_websocket_executes_no_commands_after_its_key_is_revoked() {
    let hub = TestHub::start().await;
    let (id, key) = key(&hub, json!({})).await;
    let mut socket = Socket::open(get(&hub.with_key(Some(&key)), "/v1/ws")).await.unwrap();
    socket.send(&json!({"publish": {"type": "a", "data": 1}})).await;
    let mut reply = socket.receive().await;
    if reply.get("published").is_none() {
        reply = socket.receive().await;
    }
    let first = string_at(&reply, "/published/id");
    let publishing = async {
        for n in 0..200 {
            let said = json!({"publish": {"type": "a", "data": n}}).to_string();
            if socket.try_send_text(&said).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(publishing, revoke(&hub, &id));
    let at_the_end = hub.list_all("/v1/events").await;
    assert_eq!(socket.wait_for_end().await, 1008);
    let later = hub.list_all("/v1/events").await;
    assert_eq!(later.len(), at_the_end.len(), "nothing is published after the answer");
    assert_eq!(string_at(&later[0], "/id"), first);
}

#[tokio::test]
async fn a_revocation_waits_for_a_request_in_progress_even_if_its_client_has_disconnected() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    for (tenant, disconnects) in [("stays", false), ("leaves", true)] {
        let (id, key) = key(&one, json!({"scopes": ["admin"]})).await;
        let mut blocker = one.database.connect().await;
        for statement in ["BEGIN", "LOCK TABLE tenants IN SHARE MODE"] {
            blocker.execute(statement).await.unwrap();
        }
        let head = format!(
            "PUT /v1/tenants/{tenant} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        let client = RawClient::connect_and_send(other.address(), &head).await;
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let is_waiting = async || (one.database.query_number(waiting).await > 0).then_some(());
        eventually("the request waits for the lock", is_waiting).await;
        let client = (!disconnects).then_some(client);

        let admin = one.with_key(Some(ADMIN_KEY));
        let path = format!("/v1/keys/{id}");
        let mut revocation = JoinSet::new();
        revocation.spawn(async move { admin.delete(&path).await });
        let revoked = one.with_key(Some(&key));
        let is_rejected = async || (revoked.get("/v1/events").await.status == 401).then_some(());
        eventually("the key is rejected", is_rejected).await;
        for _ in 0..50 {
            one.get("/v1/nodes").await.expect(200);
        }
        assert!(revocation.try_join_next().is_none(), "{tenant}: the request is in progress");
        blocker.execute("COMMIT").await.unwrap();
        let response = in_time("a response", revocation.join_next()).await.unwrap().unwrap();
        // 503 on a machine so busy that all this took 5 s.
        assert!([204, 503].contains(&response.status), "{}", response.body);
        revoke(&one, &id).await;
        one.get(&format!("/v1/tenants/{tenant}")).await.expect(200);
        if let Some(mut client) = client {
            assert!(client.receive().await.status < 300, "{tenant}");
        }
    }
}

/// Begins a request to every operation of the API that has a body, and sends all but the last byte of it.
async fn requests_without_their_last_byte(hub: &TestHub, key: &str) -> Vec<(String, RawClient)> {
    let document = hub.get("/openapi.json").await.expect(200);
    let mut requests = Vec::new();
    for (path, operations) in document.get("paths").and_then(Value::as_object).expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            if operation.get("requestBody").is_none() {
                continue;
            }
            let line = format!("{} {}", method.to_uppercase(), path.replace(['{', '}'], ""));
            let head = format!(
                "{line} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
                 expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
            );
            let mut client = RawClient::connect_and_send(hub.address(), &head).await;
            assert_eq!(client.receive().await.status, 100, "{line}");
            client.try_send(b"{").await;
            requests.push((line, client));
        }
    }
    assert!(requests.len() > 10, "{requests:?}");
    requests
}

/// Sends the last byte of each body; each request must be refused because of `reason`.
async fn expect_refused(requests: Vec<(String, RawClient)>, reason: &str) {
    for (line, mut client) in requests {
        client.try_send(b"}").await;
        let response = client.receive().await;
        assert_eq!(response.status, 401, "{line}: {}", response.body);
        assert!(response.body.contains(reason), "{line}: {}", response.body);
    }
}

#[tokio::test]
async fn a_request_whose_body_arrives_after_the_revocation_or_expiry_of_its_key_is_refused() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let (id, revoked) = key(&one, json!({"scopes": ["admin"]})).await;
    let mut requests = requests_without_their_last_byte(&one, &revoked).await;
    requests.extend(requests_without_their_last_byte(&other, &revoked).await);
    revoke(&one, &id).await;
    expect_refused(requests, "this key is revoked").await;

    let (_, expiring) = key(&one, json!({"scopes": ["admin"], "expires_in_s": 5})).await;
    let late = requests_without_their_last_byte(&one, &expiring).await;
    let client = one.with_key(Some(&expiring));
    let expired = async || (client.get("/v1/events").await.status == 401).then_some(());
    eventually("the key expires", expired).await;
    expect_refused(late, "this key expired").await;
    let keys = one.get("/v1/keys").await.expect(200);
    assert_eq!(array_at(&keys, "/data").len(), 1, "none was created: {keys}");
}

#[tokio::test]
async fn admin_keys_that_revoke_themselves_or_each_other_get_a_response() {
    let one = TestHub::start().await;
    let other = TestHub::start_on(&one.database, |_| ()).await;
    let ((first, first_key), (second, second_key)) = tokio::join!(
        key(&one, json!({"scopes": ["admin"]})),
        key(&one, json!({"scopes": ["admin"]}))
    );
    let (of_first, of_second) = (one.with_key(Some(&first_key)), other.with_key(Some(&second_key)));
    let (path_of_first, path_of_second) =
        (format!("/v1/keys/{first}"), format!("/v1/keys/{second}"));
    let (one_response, other_response) =
        tokio::join!(of_first.delete(&path_of_second), of_second.delete(&path_of_first));
    let statuses = [one_response.status, other_response.status];
    assert!(statuses.contains(&204), "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 401].contains(status)), "{statuses:?}");
    let (own, own_key) = key(&one, json!({"scopes": ["admin"]})).await;
    revoke(&one.with_key(Some(&own_key)), &own).await;
}

#[tokio::test]
async fn a_node_cut_off_from_postgres_accepts_no_key_that_was_revoked_meanwhile() {
    let one = TestHub::start().await;
    let proxy = PostgresProxy::to(&one.database).await;
    let url = one.database.url_via_port(proxy.port());
    let lost = TestHub::start_on(&one.database, |settings| {
        settings.database = hookhub::config::Database::Url(url);
    })
    .await;
    let (id, key) = key(&one, json!({})).await;
    let client = lost.with_key(Some(&key));
    client.get("/v1/events").await.expect(200);
    let mut stream = sse(get(&client, "/v1/stream")).await;

    proxy.disconnect();
    revoke(&one, &id).await;
    let refused = client.get("/v1/events").await;
    assert!([401, 503].contains(&refused.status), "{}", refused.body);
    one.publish("a", json!("after the revocation")).await;
    proxy.reconnect();
    let response = eventually("the node is back", async || {
        let response = client.get("/v1/events").await;
        (response.status != 503).then_some(response)
    });
    response.await.expect_problem(401, "unauthorized");
    ends(&mut stream).await;
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_a_dead_node() {
    let one = TestHub::start().await;
    let proxy = PostgresProxy::to(&one.database).await;
    let url = one.database.url_via_port(proxy.port());
    let dead = TestHub::start_on(&one.database, |settings| {
        settings.database = hookhub::config::Database::Url(url);
    })
    .await;
    let (id, _) = key(&one, json!({})).await;
    proxy.disconnect();
    // A response waits up to 5 s. A busy machine may reach that while the lease of the dead node runs, but not twice.
    if one.delete(&format!("/v1/keys/{id}")).await.status == 503 {
        revoke(&one, &id).await;
    }
    proxy.reconnect();
    dead.stop().await;
}

#[tokio::test]
async fn a_revocation_is_logged_and_audited_once() {
    let hub = TestHub::start().await;
    let (id, key) = key(&hub, json!({})).await;
    revoke(&hub, &id).await;
    revoke(&hub, &id).await;
    let entries = hub.list_all("/v1/events?types=hookhub.key.*").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["type"], "hookhub.key.revoked");
    assert_eq!(entries[0]["data"], json!({"id": id, "name": "ci"}));
    assert!(hub.list_all("/v1/events").await.is_empty(), "others do not see it");
    let audit = hub.get(&format!("/v1/audit?target={id}")).await;
    assert!(!audit.body.contains(&key));
    let audit = audit.expect(200);
    let actions: Vec<_> =
        array_at(&audit, "/data").iter().map(|one| string_at(one, "/action")).collect();
    assert_eq!(actions, ["key.revoked", "key.created"]);
    hub.get(&format!("/v1/keys/{id}")).await.expect_problem(404, "not_found");
    let unknown = send_request(hub.request(Method::DELETE, "/v1/keys/key_0000000000000")).await;
    unknown.expect_problem(404, "not_found");
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_after_a_restart() {
    let hub = TestHub::start().await;
    let (id, key) = key(&hub, json!({})).await;
    revoke(&hub, &id).await;
    let hub = TestHub::start_on(&hub.stop().await, |_| ()).await;
    hub.with_key(Some(&key)).get("/v1/events").await.expect_problem(401, "unauthorized");
    assert!(hub.list_all("/v1/keys").await.is_empty());
}
