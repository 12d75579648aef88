//! Log output: client input cannot forge lines, escape sequences or cursor movements.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::send_request;
use crate::support::database::Database;
use crate::support::process::{Environment, HubProcess};
use crate::support::raw_client::{RawClient, request_head};

/// A forged log line with a line break before it and an escape sequence for colour.
const FORGED: &str = "\r\n2026-11-25T17:00:00.000000Z  WARN forged=true\u{1b}[31m\u{85}\u{2028}\t";

#[tokio::test]
async fn client_input_cannot_forge_log_lines() {
    for format in ["text", "json"] {
        let (data_dir, database) = (tempfile::tempdir().unwrap(), Database::create().await);
        let environment = Environment::for_hub(data_dir.path())
            .with("DATABASE_URL", database.url())
            .with("HOOKHUB_LOG", "debug,sqlx=warn")
            .with("HOOKHUB_LOG_FORMAT", format);
        let hub = HubProcess::start(&environment).await;
        say_what_nobody_should(&hub).await;
        let last = hub.client.get("/readyz").await;
        hub.program.wait_for_line(last.header("x-request-id").unwrap()).await;
        let output = hub.program.output();
        let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("listening")).collect();
        assert!(lines.len() > 10, "{output}");
        for line in lines {
            assert!(line.chars().all(|c| !c.is_control() || c == '\t'), "{line:?}");
            let is_own = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()),
                _ => {
                    line.starts_with("20") && line.contains("Z ") && !line.contains("  WARN forged")
                }
            };
            assert!(is_own, "{line:?}");
        }
    }
}

async fn say_what_nobody_should(hub: &HubProcess) {
    let client = &hub.client;
    let escaped = percent_encode(FORGED.as_bytes(), NON_ALPHANUMERIC).to_string();
    for path in
        [format!("/v1/events/{escaped}"), format!("/{escaped}"), format!("/v1/events?{escaped}")]
    {
        client.get(&path).await;
    }
    for text in [FORGED.to_owned(), format!("{FORGED}{FORGED}")] {
        let body = json!({"type": text, "data": text, text.clone(): 1});
        client.post("/v1/events", &body).await;
        let body = json!({"event_types": [text], "description": text, "callback_url": text});
        client.post("/v1/subscriptions", &body).await;
        client.post("/v1/keys", &json!({"name": text})).await;
    }
    let request = client.request(Method::GET, "/v1/events/x").header("user-agent", "a\u{85}b");
    send_request(request.header("x-request-id", "mine\tforged=true")).await;
    // The parts of a request that a raw client can fill with it.
    for line in [
        &*format!("x-request-id: {FORGED}"),
        "x-forwarded-for: \u{1b}[31m",
        "forwarded: for=\u{85}",
    ] {
        for target in ["/v1/events/x", "/\u{85}\u{1b}[31m", "/\u{e9}"] {
            let request =
                request_head(&format!("GET {target} HTTP/1.1"), &[line, "connection: close"]);
            RawClient::connect_and_send(hub.address, &(request + "\r\n"))
                .await
                .wait_for_end()
                .await;
        }
    }
    let method = request_head("FORGED\u{7f} / HTTP/1.1", &["connection: close"]);
    RawClient::connect_and_send(hub.address, &(method + "\r\n")).await.wait_for_end().await;
}
