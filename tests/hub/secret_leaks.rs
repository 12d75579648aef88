//! Secrets are planted wherever a client can put one; then all output of the hub and all tables are searched for them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hookhub::domain::encryption::{AssociatedData, Encryptor};
use hookhub::tools::receive::ReceiverSettings;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use url::Url;

use crate::support::client::{Client, Response, merged, send_request, string_at};
use crate::support::database::Database;
use crate::support::hex;
use crate::support::hub::{ADMIN_KEY, MASTER_KEY};
use crate::support::misbehaving_receiver::{Behaviour, ClosedPort, MisbehavingReceiver};
use crate::support::process::{Environment, HubProcess, Program};
use crate::support::receiver::TestReceiver;
use crate::support::verifying_receiver::{self, VerifyingReceiver};
use crate::support::waits::wait_for_attempts;

const SUBSCRIPTIONS: &str = "/v1/subscriptions";
const HEADER: &str = "planted-in-header";
const PASSWORD: &str = "planted-as-password";
const WRONG_KEY: &str = "hh_planted-as-wrong-key";
/// Credentials for receivers, and the token that the hub gets for them.
const CREDENTIALS: [&str; 4] = [
    "planted-basic-password",
    "planted-bearer-token",
    "planted-client-secret",
    "planted-access-token",
];
/// Parts of callback URLs, which their owner and the database may contain.
const URL_PARTS: [&str; 2] = ["planted-in-path", "planted-in-query"];
/// Event data and metadata, which their owner and the database may contain.
const DATA: [&str; 2] = ["planted-in-data", "planted-in-metadata"];

/// A signing secret that can be recognised as text and as bytes.
fn signing_secret(number: u8) -> String {
    format!("whsec_{}", STANDARD.encode(format!("planted-signing-secret-{number:03}")))
}

/// The secrets to search for, in all their encodings.
#[derive(Default)]
struct Needles(BTreeSet<String>);

impl Needles {
    fn of(texts: &[&str]) -> Self {
        let mut needles = Self::default();
        for text in texts {
            needles.add(text);
        }
        needles
    }

    /// Adds a secret's text without its prefix, and the bytes that it encodes.
    fn add(&mut self, text: &str) {
        let bare = ["whsec_", "whsk_"].iter().find_map(|prefix| text.strip_prefix(prefix));
        let bare = bare.unwrap_or(text);
        let mut forms = vec![bare.as_bytes().to_vec()];
        forms.extend(STANDARD.decode(bare).ok().filter(|bytes| bytes.len() >= 24));
        forms.extend(from_hex(bare).filter(|bytes| bytes.len() >= 24));
        for form in forms {
            let base64 = STANDARD.encode(&form).trim_end_matches('=').to_owned();
            self.0.extend([hex(&form), base64, as_text(&form)]);
        }
    }

    /// Fails when an output contains one of the secrets, plain or encoded.
    #[track_caller]
    fn are_not_in(&self, location: &str, text: &str) {
        for line in text.lines() {
            let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"+/-_".contains(c));
            let mut all = as_text(line.as_bytes());
            for bytes in words.flat_map(decoded) {
                all.push('\n');
                all.push_str(&as_text(&bytes));
            }
            let found = self.0.iter().find(|needle| all.contains(needle.as_str()));
            assert_eq!(found, None, "in {location}: {line}");
        }
    }
}

/// Bytes as searchable text: one character per byte.
fn as_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes that a word encodes as hex or base64.
fn decoded(word: &str) -> Vec<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let base64 = [alphabet::STANDARD, alphabet::URL_SAFE]
        .map(|alphabet| GeneralPurpose::new(&alphabet, config).decode(word).ok());
    let hex = from_hex(word.strip_prefix('x').unwrap_or(word));
    base64.into_iter().chain([hex]).flatten().collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    (text.len().is_multiple_of(2)).then(|| text.as_bytes().chunks(2).map(byte).collect())?
}

/// A subscription with a secret in every field.
fn planted(url: &str, number: u8) -> Value {
    let [path, query] = URL_PARTS;
    json!({
        "event_types": ["n"],
        "callback_url": format!("{}/{path}?q={query}", url.trim_end_matches('/')),
        "secret": signing_secret(number),
        "headers": {"authorization": format!("Bearer {HEADER}"), "x-more": HEADER},
        "metadata": {"k": DATA[1]},
        "signatures": ["v1", "v1a"],
        "x_hook_signature": true,
        "timeout_s": 1,
        "retry_schedule_s": [1],
    })
}

/// A client certificate and its key (PEM, RFC 7468).
fn identity() -> (String, String) {
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines = text.as_bytes().chunks(64).map(as_text).collect::<Vec<_>>().join("\n");
        format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    };
    let certificate = pem("CERTIFICATE", include_bytes!("../fixtures/self-signed.crt.der"));
    (certificate, pem("PRIVATE KEY", include_bytes!("../fixtures/self-signed.key.der")))
}

/// Subscriptions with every kind of credentials for a receiver.
async fn credentials(hub: &Client, url: &str, https_url: &str) -> Vec<String> {
    let issuer = VerifyingReceiver::responding(|_| {
        let token = json!({"access_token": CREDENTIALS[3], "token_type": "Bearer"}).to_string();
        verifying_receiver::http_response("200 OK", &[("content-type", "application/json")], &token)
    })
    .await;
    let (client_certificate, client_key) = identity();
    let [password, token, client_secret, _] = CREDENTIALS;
    let mut ids = Vec::new();
    for (number, (url, more)) in (20..).zip([
        (url, json!({"auth": {"type": "basic", "username": "u", "password": password}})),
        (url, json!({"auth": {"type": "bearer", "token": token}})),
        (
            url,
            json!({"auth": {
                "type": "oauth2_client_credentials", "token_url": issuer.url(), "client_id": "c",
                "client_secret": client_secret,
            }}),
        ),
        (
            https_url,
            json!({"tls": {"client_certificate": client_certificate, "client_key": client_key}}),
        ),
    ]) {
        let definition = merged(planted(url, number), json!({"headers": {"x-more": HEADER}}));
        ids.push(hub.subscribe(&merged(definition, more)).await);
    }
    let event = hub.publish("n", json!(DATA[0])).await;
    for id in &ids {
        wait_for_attempts(hub, id, &event, 1).await;
    }
    ids
}

/// Invalid members of a subscription that contain secrets.
fn faults(secret: &str) -> Vec<Value> {
    vec![
        json!({"secret": secret.trim_end_matches('=').trim_end_matches('1')}),
        json!({"secret": format!("{secret}!")}),
        json!({"secret": [secret]}),
        json!({"callback_url": format!("https://user:{PASSWORD}@example.com/")}),
        json!({"callback_url": format!("https://10.0.0.1/{}", URL_PARTS[0])}),
        json!({"callback_url": format!("gopher://example.com/{}", URL_PARTS[0])}),
        json!({"callback_url": 1, "hookUrl": format!("https://example.com/{}", URL_PARTS[0])}),
        json!({"headers": {"x": format!("{HEADER}\r\nx: y")}}),
        json!({"headers": {"x": [HEADER]}}),
        json!({"headers": HEADER}),
        json!({"event_types": [secret]}),
        json!({"event_types": secret}),
        json!({"order_by": secret}),
        json!({"signatures": [secret]}),
        json!({"x_hook_signature": secret}),
        json!({"description": {"secret": secret}}),
        json!({"max_in_flight": secret}),
        json!({"from": secret}),
        json!({"typo": secret}),
        json!({"handshake": secret}),
        json!({"auth": {"type": CREDENTIALS[0]}}),
        json!({"auth": {"type": "basic", "username": "a:b", "password": CREDENTIALS[0]}}),
        json!({"auth": {"type": "bearer", "token": format!("{}\n", CREDENTIALS[1])}}),
        json!({"auth": {"type": "bearer", "token": {"token": CREDENTIALS[1]}}}),
        json!({"auth": CREDENTIALS[1]}),
        json!({"tls": {"client_key": identity().1}}),
        json!({"tls": {"client_certificate": identity().0, "client_key": CREDENTIALS[0]}}),
        json!({"tls": {"ca": identity().1}}),
    ]
}

/// Sends invalid requests that contain secrets in wrong places; returns the responses.
async fn refused(hub: &Client, id: &str) -> Vec<String> {
    let (secret, good) = (signing_secret(9), planted("https://example.com", 9));
    let mut answers = Vec::new();
    for fault in faults(&secret) {
        answers.push(hub.post(SUBSCRIPTIONS, &merged(good.clone(), fault)).await);
    }
    let path = format!("{SUBSCRIPTIONS}/{id}");
    answers.push(hub.post(&format!("{path}/rotate-secret"), &json!({"overlap_s": secret})).await);
    answers.push(hub.send(Method::PATCH, &path, &json!({"secrets": [secret]})).await);
    let broken = format!("{{\"secret\": \"{secret}\", \"headers\": {{\"x\": \"{HEADER}\"");
    answers.push(hub.send_text(Method::POST, SUBSCRIPTIONS, "application/json", &broken).await);
    answers.push(hub.send_text(Method::POST, "/v1/events", &secret, &broken).await);
    answers.push(hub.post("/v1/events", &json!({"type": secret, "data": 1})).await);
    answers.push(hub.post("/v1/stream-tokens", &json!({"types": [secret]})).await);
    answers.push(hub.post("/v1/keys", &json!({"name": {"key": WRONG_KEY}})).await);
    for path in [
        format!("/v1/events?types={WRONG_KEY}.."),
        format!("/v1/events?after={WRONG_KEY}"),
        format!("/v1/events?limit={WRONG_KEY}"),
        format!("/v1/events?access_token={WRONG_KEY}"),
        format!("/v1/events/{WRONG_KEY}"),
        format!("/v1/attempts?status_class={WRONG_KEY}"),
        format!("{SUBSCRIPTIONS}?status={WRONG_KEY}"),
        format!("{SUBSCRIPTIONS}/{WRONG_KEY}"),
        format!("/{WRONG_KEY}"),
    ] {
        answers.push(hub.get(&path).await);
    }
    answers.push(hub.with_key(Some(WRONG_KEY)).get("/v1/events").await);
    answers.push(hub.acting_for(&format!("{PASSWORD}!")).get("/v1/events").await);
    let long = format!("\"{WRONG_KEY}");
    answers.push(hub.post_idempotent("/v1/keys", &long, &json!({"name": "x"})).await);
    let mut responses = Vec::new();
    for response in answers {
        assert!((400..500).contains(&response.status), "{}: {}", response.status, response.body);
        responses.push(format!("{:?}\n{}", response.headers, response.body));
    }
    responses
}

/// Everything that can be listed or read, except subscriptions, whose owner sees their URLs.
async fn shown(hub: &Client, ids: &[String]) -> String {
    let mut paths: Vec<String> = [
        "/v1/events?limit=250",
        "/v1/events?limit=250&types=hookhub.*",
        "/v1/attempts?limit=250",
        "/v1/keys",
        "/v1/connections",
        "/v1/nodes",
        "/v1/audit?limit=250",
        "/v1/tenants",
        "/v1/subscriptions?limit=250",
        "/healthz",
        "/readyz",
    ]
    .map(ToOwned::to_owned)
    .into();
    for id in ids {
        for part in ["", "/deliveries", "/replays", "/public-key", "/jwks.json"] {
            paths.push(format!("{SUBSCRIPTIONS}/{id}{part}"));
        }
    }
    let mut all = Vec::new();
    for path in paths {
        let response = hub.get(&path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        let Response { headers, body, .. } = response;
        all.push(format!("{path} {headers:?}\n{body}\n"));
    }
    all.concat()
}

/// Every row of every table.
async fn dumped(database: &Database) -> String {
    let mut connection = database.connect().await;
    let names = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'";
    let tables: Vec<String> =
        sqlx::query_scalar(names).fetch_all(&mut connection).await.expect("tables");
    assert!(tables.len() > 10);
    let mut all = String::new();
    for table in tables {
        let rows = format!("SELECT row_to_json(t)::text FROM {table} t");
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut connection).await.expect("rows");
        all.extend(rows.into_iter().map(|row| format!("{table} {row}\n")));
    }
    all
}

/// The private keys that the hub generated, decrypted from the definitions.
async fn private_keys(database: &Database) -> Vec<String> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, definition FROM subscriptions")
        .fetch_all(&mut database.connect().await)
        .await
        .expect("definitions");
    let encryptor = Encryptor::new(MASTER_KEY.parse().expect("a key"));
    let key = |(id, definition): (i64, String)| {
        let location = AssociatedData::Definition { tenant: "default", id };
        let plain = encryptor.decrypt(definition.as_bytes(), location).expect("it decrypts");
        string_at(&serde_json::from_slice(&plain).expect("JSON"), "/signing_key")
    };
    rows.into_iter().map(key).collect()
}

/// A receiver that does not check signatures.
async fn taking_all() -> TestReceiver {
    let settings = ReceiverSettings { secrets: Vec::new(), ..TestReceiver::settings() };
    TestReceiver::with(settings).await
}

/// Subscriptions whose deliveries have every kind of result, with two attempts each.
async fn deliver(hub: &Client) -> Vec<String> {
    let mut good = taking_all().await;
    let refusing = TestReceiver::responding(&[500]).await;
    let (hanging, resetting) = (
        MisbehavingReceiver::start(Behaviour::NeverRespond).await,
        MisbehavingReceiver::start(Behaviour::ResetConnection).await,
    );
    let (gibberish, self_signed) = (
        MisbehavingReceiver::start(Behaviour::OtherProtocol).await,
        MisbehavingReceiver::start(Behaviour::SelfSignedCertificate).await,
    );
    let (closed, redirecting) = (
        ClosedPort::bind(),
        MisbehavingReceiver::start(Behaviour::Redirect("http://127.0.0.1:9009/".into())).await,
    );
    let urls = [
        good.url(),
        refusing.url(),
        hanging.url(),
        resetting.url(),
        gibberish.url(),
        self_signed.https_url(),
        closed.url(),
        redirecting.url(),
        "http://does-not-exist.invalid".to_owned(),
    ];
    let mut ids = Vec::new();
    for (number, url) in (10..).zip(&urls) {
        ids.push(hub.subscribe(&planted(url, number)).await);
    }
    let event = hub.publish("n", json!(DATA[0])).await;
    good.next_unverified().await;
    for id in ids.iter().skip(1) {
        wait_for_attempts(hub, id, &event, 2).await;
    }
    ids
}

#[tokio::test]
async fn planted_secrets_appear_in_no_output_and_no_table() {
    let (data_dir, database) = (tempfile::tempdir().unwrap(), Database::create().await);
    let mut url = Url::parse(database.url()).unwrap();
    url.query_pairs_mut().append_pair("password", PASSWORD);
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", url.as_str())
        .with("HOOKHUB_LOG", "debug,hookhub=trace");
    let hub = HubProcess::start(&environment).await;
    let client = &hub.client;

    let mut secret = Needles::of(&[ADMIN_KEY, MASTER_KEY, HEADER, PASSWORD, WRONG_KEY]);
    (1..30).for_each(|number| secret.add(&signing_secret(number)));
    CREDENTIALS
        .iter()
        .chain(identity().1.lines().nth(2).as_ref())
        .for_each(|text| secret.add(text));
    let mut ids = deliver(client).await;
    let (receiver, tls) =
        (taking_all().await, MisbehavingReceiver::start(Behaviour::SelfSignedCertificate).await);
    ids.extend(credentials(client, &receiver.url(), &tls.https_url()).await);
    let unwilling = VerifyingReceiver::responding(|_| {
        verifying_receiver::http_response("403 Forbidden", &[], "")
    })
    .await;
    let definition = merged(planted(&unwilling.url(), 2), json!({"handshake": "x_hook_secret"}));
    ids.push(client.subscribe(&definition).await);
    let rotation = json!({"secret": signing_secret(1)});
    client.post(&format!("{SUBSCRIPTIONS}/{}/rotate-secret", ids[0]), &rotation).await.expect(200);
    let created =
        client.post_idempotent("/v1/keys", "make-key", &json!({"name": "ci"})).await.expect(201);
    secret.add(&string_at(&created, "/key"));
    let token = client.post("/v1/stream-tokens", &json!({"types": ["n"]})).await.expect(201);
    let token = string_at(&token, "/token");
    client.with_key(None).get(&format!("/v1/events?access_token={token}")).await.expect(200);
    secret.add(&token);
    private_keys(&database).await.iter().for_each(|key| secret.add(key));

    let urls = Needles::of(&URL_PARTS);
    let data = Needles::of(&DATA);
    for response in refused(client, &ids[0]).await {
        secret.are_not_in("an error", &response);
        urls.are_not_in("an error", &response);
    }
    secret.are_not_in("what is shown", &shown(client, &ids).await);
    secret.are_not_in("the database", &dumped(&database).await);
    let metrics = send_request(client.request(Method::GET, "/metrics")).await.body;
    hub.program.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, log) = hub.program.wait_for_end().await;
    for (location, text) in [("the metrics", metrics), ("the log", log)] {
        assert!(text.len() > 1_000, "{location}: {text}");
        for needles in [&secret, &urls, &data] {
            needles.are_not_in(location, &text);
        }
    }
}

#[tokio::test]
async fn an_unreachable_database_is_reported_without_its_password() {
    let data_dir = tempfile::tempdir().unwrap();
    let closed = ClosedPort::bind();
    let url = closed.url().replace("http://", &format!("postgres://hookhub:{PASSWORD}@"));
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", &url)
        .with("HOOKHUB_LOG", "debug,hookhub=trace");
    let program = Program::start(&["serve"], &environment);
    program.wait_for_line("waiting for the database").await;
    let log = program.output();
    Needles::of(&[PASSWORD, ADMIN_KEY, MASTER_KEY]).are_not_in("the log", &log);
    program.kill().await;
}

#[test]
fn the_secret_search_finds_every_encoding_of_a_secret() {
    let needles = Needles::of(&[&signing_secret(1), MASTER_KEY, HEADER]);
    let bytes = STANDARD.decode(signing_secret(1).trim_start_matches("whsec_")).unwrap();
    let inside = STANDARD.encode(format!("{{\"headers\": \"{HEADER}\"}}"));
    for text in [
        signing_secret(1),
        format!("\\x{}", hex(&bytes)),
        format!("key={}", String::from_utf8(bytes).unwrap()),
        format!("a {MASTER_KEY} b"),
        STANDARD.encode(from_hex(MASTER_KEY).unwrap()),
        format!("x: {HEADER}"),
        format!("\"{inside}\""),
    ] {
        let found = std::panic::catch_unwind(|| needles.are_not_in("here", &text));
        assert!(found.is_err(), "{text}");
    }
    needles.are_not_in("here", "the secret is not found");
}
