//! Encryption at rest: the master key can be changed while the hub runs, and must not be lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hookhub::config::Settings;
use hookhub::domain::encryption::{AssociatedData, Encryptor, MasterKey};
use hookhub::store::Store;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::client::{Client, merged, string_at};
use crate::support::database::Database;
use crate::support::eventually;
use crate::support::hub::{MASTER_KEY, TestHub};
use crate::support::process::{Environment, HubProcess, Program};
use crate::support::receiver::{SECRET, TestReceiver, sorted};

const PATH: &str = "/v1/subscriptions";
const OTHER_KEY: &str = "8Oy6yWOXxQ0WHHqP3jTvHZ7jaZi6QfcRj5nAUMDL5AM=";
/// Planted text that no table may contain in readable form.
const HEADER: &str = "Bearer planted-in-header";

fn id_of(key: &str) -> String {
    key.parse::<MasterKey>().expect("a key").id().to_string()
}

fn encryptor(keys: &str) -> Encryptor {
    Encryptor::new(keys.parse().expect("keys"))
}

/// The texts that a query returns.
async fn texts(database: &Database, query: &str) -> Vec<String> {
    let asked = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
    asked.fetch_all(&mut database.connect().await).await.expect(query)
}

async fn execute(database: &Database, statement: &str) {
    let asked = sqlx::query(AssertSqlSafe(statement.to_owned()));
    asked.execute(&mut database.connect().await).await.expect(statement);
}

/// The only definition in the database, decrypted with the tests' master key.
async fn opened(database: &Database) -> Value {
    let row: (i64, String) = sqlx::query_as("SELECT id, definition FROM subscriptions")
        .fetch_one(&mut database.connect().await)
        .await
        .expect("a subscription");
    let place = AssociatedData::Definition { tenant: "default", id: row.0 };
    let plain = encryptor(MASTER_KEY).decrypt(row.1.as_bytes(), place).expect("it decrypts");
    serde_json::from_slice(&plain).expect("JSON")
}

fn encrypted_with_another_key_than(other: &str) -> String {
    format!("SELECT count(*) FROM sealed WHERE sealed_with <> '{}'", id_of(other))
}

/// Waits until everything is encrypted with one key.
async fn wait_until_encrypted_with(database: &Database, key: &str) {
    let all = async || {
        (database.query_number(&encrypted_with_another_key_than(key)).await == 0).then_some(())
    };
    eventually("all secrets are re-encrypted", all).await;
}

/// Starts a hub that lacks a master key, and checks that its last line names the setting.
async fn does_not_start(environment: &Environment, lacks: &str) {
    let (status, output) = Program::start(&["serve"], environment).wait_for_end().await;
    let line = output.lines().last().unwrap_or_default();
    assert!(!status.success(), "{output}");
    assert!(line.contains("HOOKHUB_MASTER_KEY") && line.contains(&id_of(lacks)), "{output}");
    assert!(!output.contains(MASTER_KEY) && !output.contains(OTHER_KEY), "{output}");
}

async fn metric(hub: &Client) -> Option<String> {
    let page = hub.get("/metrics").await.body;
    let value =
        |line: &str| line.strip_prefix("hookhub_sealed_with_other_keys ").map(str::to_owned);
    page.lines().find_map(value)
}

#[tokio::test]
async fn a_definition_is_encrypted_at_rest_and_decrypts_only_in_its_own_row() {
    let hub = TestHub::start().await;
    let definition = json!({
        "event_types": ["a"], "callback_url": "https://example.com/", "secret": SECRET,
        "headers": {"authorization": HEADER},
    });
    let (one, other) = (hub.subscribe(&definition).await, hub.subscribe(&definition).await);
    let stored = texts(&hub.database, "SELECT definition FROM subscriptions").await;
    for text in &stored {
        assert!(text.starts_with(&format!("sealed1.{}.", id_of(MASTER_KEY))), "{text}");
    }
    assert_ne!(stored[0], stored[1], "equal plaintexts have different ciphertexts");

    let swap = "UPDATE subscriptions s SET definition = o.definition FROM subscriptions o WHERE o.id <> s.id";
    execute(&hub.database, swap).await;
    for id in [one, other] {
        let refused = hub.get(&format!("{PATH}/{id}")).await;
        refused.expect_problem(500, "internal");
    }
}

#[tokio::test]
async fn a_deleted_subscription_leaves_no_secrets() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    hub.delete(&format!("{PATH}/{id}")).await;
    assert_eq!(texts(&hub.database, "SELECT definition FROM subscriptions").await, [""]);
}

#[tokio::test]
async fn an_expired_secret_is_removed_from_storage() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    let rotation = json!({"overlap_s": 1});
    hub.post(&format!("{PATH}/{id}/rotate-secret"), &rotation).await.expect(200);
    assert!(
        opened(&hub.database).await.to_string().contains(SECRET),
        "the old secret signs for a second"
    );
    let before = hub.subscription(&id).await;
    let ended =
        async || (hub.subscription(&id).await["previous_secrets"] == json!([])).then_some(());
    eventually("the old secret ends", ended).await;
    let _other = TestHub::start_on(&hub.database, |_| ()).await;
    let gone = async || (!opened(&hub.database).await.to_string().contains(SECRET)).then_some(());
    eventually("the old secret is dropped", gone).await;
    let after = merged(hub.subscription(&id).await, json!({"previous_secrets": null}));
    assert_eq!(after, merged(before, json!({"previous_secrets": null})), "no other secret is left");
}

#[tokio::test]
async fn a_node_with_another_master_key_refuses_to_start_and_names_the_key_it_needs() {
    let hub = TestHub::start().await;
    let data_dir = tempfile::tempdir().unwrap();
    let good = Environment::for_hub(data_dir.path()).with("DATABASE_URL", hub.database.url());
    does_not_start(&good.clone().with("HOOKHUB_MASTER_KEY", OTHER_KEY), MASTER_KEY).await;
    // The hub generates a key of its own.
    does_not_start(&good.clone().without("HOOKHUB_MASTER_KEY"), MASTER_KEY).await;
    let both = format!("{OTHER_KEY},{MASTER_KEY}");
    let started = HubProcess::start(&good.with("HOOKHUB_MASTER_KEY", &both)).await;
    started.program.kill().await;
}

#[tokio::test]
async fn a_generated_master_key_is_readable_only_by_its_owner() {
    let (data_dir, database) = (tempfile::tempdir().unwrap(), Database::create().await);
    let environment = Environment::for_hub(data_dir.path())
        .with("DATABASE_URL", database.url())
        .without("HOOKHUB_MASTER_KEY");
    let mut receiver = TestReceiver::start().await;
    let hub = HubProcess::start(&environment).await;
    let file = data_dir.path().join("master-key");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap().trim().to_owned();
    let line = hub.program.wait_for_line("generated a master key").await;
    assert!(line.contains("HOOKHUB_MASTER_KEY") && line.contains(&*file.to_string_lossy()));
    hub.client.subscribe(&receiver.subscription_to("a")).await;
    assert!(!hub.program.output().contains(&key));
    hub.program.kill().await;

    let again = HubProcess::start(&environment).await;
    let event = again.client.publish("a", json!(1)).await;
    assert_eq!(receiver.next().await.id, event);
    assert_eq!(database.query_number(&encrypted_with_another_key_than(&key)).await, 0);
    again.program.kill().await;
}

#[tokio::test]
async fn unencrypted_definitions_are_read_and_encrypted() {
    let hub = TestHub::start().await;
    let mut receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    let before = hub.subscription(&id).await;
    let plain = opened(&hub.database).await;
    let database = hub.stop().await;
    let in_sql = plain.to_string().replace('\'', "''");
    execute(&database, &format!("UPDATE subscriptions SET definition = '{in_sql}'")).await;
    execute(&database, "UPDATE shared_secrets SET value = sha256('x')").await;
    execute(&database, "DELETE FROM master_keys").await;
    assert!(texts(&database, "SELECT definition FROM subscriptions").await[0].contains(SECRET));

    let hub = TestHub::start_on(&database, |_| ()).await;
    let event = hub.publish("a", json!(1)).await;
    assert_eq!(receiver.next().await.id, event);
    wait_until_encrypted_with(&database, MASTER_KEY).await;
    assert_eq!(opened(&database).await, plain);
    assert_eq!(hub.subscription(&id).await, before);
}

#[tokio::test]
async fn a_concurrent_change_is_not_lost_during_re_encryption() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    let id = hub.subscribe(&receiver.subscription_to("a")).await;
    let store =
        Store::new(hub.database.url(), encryptor(&format!("{OTHER_KEY},{MASTER_KEY}"))).unwrap();
    let read = store.select_encrypted_with_old_key(0, 100).await.unwrap();
    assert_eq!(read.len(), 3, "the definition, and the keys of stream tokens and verifications");
    let change = json!({"description": "changed"});
    hub.send(Method::PATCH, &format!("{PATH}/{id}"), &change).await.expect(200);
    let done = store.reencrypt(&read).await.unwrap();
    assert_eq!((done.reencrypted, done.unreadable), (2, 0));
    assert_eq!(hub.subscription(&id).await["description"], "changed");
    assert_eq!(store.select_encrypted_with_old_key(0, 100).await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn only_nodes_with_the_newest_key_first_re_encrypt() {
    let hub = TestHub::start().await;
    let keys = [format!("{MASTER_KEY},{OTHER_KEY}"), format!("{OTHER_KEY},{MASTER_KEY}")];
    let [old, new] = keys.map(|keys| Store::new(hub.database.url(), encryptor(&keys)).unwrap());
    assert!(
        new.try_lock_reencryption().await.unwrap().is_none(),
        "the hub has not started with this key"
    );
    assert!(new.insert_master_key().await.unwrap().is_empty());
    let lock = new.try_lock_reencryption().await.unwrap();
    assert!(lock.is_some());
    assert!(new.try_lock_reencryption().await.unwrap().is_none(), "one re-encryption at a time");
    drop(lock);
    assert!(
        old.try_lock_reencryption().await.unwrap().is_none(),
        "the other hub would undo the re-encryption"
    );
    old.close().await;
    new.close().await;
}

#[tokio::test]
async fn after_the_loss_of_the_master_key_the_log_and_the_api_keys_can_be_kept() {
    let hub = TestHub::start().await;
    let receiver = TestReceiver::start().await;
    hub.subscribe(&receiver.subscription_to("a")).await;
    let created =
        hub.post_idempotent("/v1/keys", "make-key", &json!({"name": "ci"})).await.expect(201);
    let event = hub.publish("a", json!(1)).await;
    let database = hub.stop().await;
    // docs/operations.md lists these statements.
    for statement in [
        "UPDATE subscriptions SET deleted = true, definition = ''",
        "DELETE FROM shared_secrets",
        "DELETE FROM idempotency_keys WHERE answer IS NOT NULL",
        "DELETE FROM master_keys",
    ] {
        execute(&database, statement).await;
    }
    let other = |settings: &mut Settings| {
        settings.master_key = Some(OTHER_KEY.parse().expect("a key"));
    };
    let hub = TestHub::start_on(&database, other).await;
    let client = hub.with_key(Some(&string_at(&created, "/key")));
    assert_eq!(string_at(&client.list_all("/v1/events").await[0], "/id"), event);
    assert!(hub.list_all(PATH).await.is_empty(), "subscriptions must be created again");
    let mut again = TestReceiver::start().await;
    hub.subscribe(&again.subscription_to("a")).await;
    let event = hub.publish("a", json!(2)).await;
    assert_eq!(again.next().await.id, event);
}

/// Publishes a few more events.
async fn publish_some(hub: &Client, ids: &mut Vec<String>) {
    ids.extend(hub.publish_many("n", 20).await);
}

#[tokio::test]
async fn the_master_key_can_be_changed_while_deliveries_continue() {
    let (old, new) = (MASTER_KEY, OTHER_KEY);
    let database = Database::create().await;
    let start = async |keys: &str| {
        let keys = keys.parse().expect("keys");
        TestHub::start_on(&database, |settings| settings.master_key = Some(keys)).await
    };
    let mut receivers = Vec::new();
    let (mut one, mut two) = (start(old).await, start(old).await);
    for n in 0..5 {
        let receiver = TestReceiver::start().await;
        let description = json!({"description": n.to_string()});
        let definition = merged(receiver.subscription_to("n"), description);
        receivers.push((one.subscribe(&definition).await, receiver));
    }
    let new_key = json!({"name": "ci"});
    let created = one.post_idempotent("/v1/keys", "make-key", &new_key).await.expect(201);
    let token = one.post("/v1/stream-tokens", &json!({"types": ["n"]})).await.expect(201);
    let entries = one.list_all("/v1/events?types=hookhub.subscription.*").await.len();
    let before = one.subscription(&receivers[0].0).await;
    let mut ids = Vec::new();

    // First all nodes get the new key, then they put it first.
    for keys in [format!("{old},{new}"), format!("{new},{old}")] {
        publish_some(&two, &mut ids).await;
        one.stop().await;
        publish_some(&two, &mut ids).await;
        one = start(&keys).await;
        publish_some(&one, &mut ids).await;
        two.stop().await;
        publish_some(&one, &mut ids).await;
        two = start(&keys).await;
        publish_some(&two, &mut ids).await;
    }
    wait_until_encrypted_with(&database, new).await;
    let reports_none_left = async || (metric(&two).await? == "0").then_some(());
    eventually("the metric reports the re-encryption", reports_none_left).await;
    let has_only_new_key = async || {
        let ids = texts(&database, "SELECT id FROM master_keys").await;
        (ids == [id_of(new)]).then_some(())
    };
    eventually("the old key is no longer needed", has_only_new_key).await;
    let change = json!({"description": "changed"});
    one.send(Method::PATCH, &format!("{PATH}/{}", receivers[1].0), &change).await.expect(200);

    one.stop().await;
    two.stop().await;
    let hub = start(new).await;
    publish_some(&hub, &mut ids).await;
    for (_, receiver) in &mut receivers {
        assert_eq!(sorted(receiver.next_ids(ids.len()).await), sorted(ids.clone()));
    }
    assert_eq!(hub.subscription(&receivers[0].0).await, before, "re-encryption does not change it");
    assert_eq!(hub.subscription(&receivers[1].0).await["description"], "changed");
    let changes = hub.list_all("/v1/events?types=hookhub.subscription.*").await.len();
    assert_eq!(changes, entries + 1, "re-encryption does not change subscriptions");
    let again = hub.post_idempotent("/v1/keys", "make-key", &new_key).await.expect(201);
    assert_eq!(again, created, "stored responses are re-encrypted too");
    let read = format!("/v1/events?access_token={}", string_at(&token, "/token"));
    hub.with_key(None).get(&read).await.expect(200);
    hub.stop().await;

    let data_dir = tempfile::tempdir().unwrap();
    let environment = Environment::for_hub(data_dir.path()).with("DATABASE_URL", database.url());
    does_not_start(&environment.with("HOOKHUB_MASTER_KEY", old), new).await;
}
