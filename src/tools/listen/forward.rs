//! Forwards an event to a local URL by a signed POST, like a delivery of the hub.

use std::fmt;
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use url::Url;

use super::read_body;
use super::source::Event;
use crate::domain::root_cause::root_cause;
use crate::domain::signing::secret::Secret;
use crate::domain::single_line::SingleLine;
use crate::domain::time::UnixMillis;

/// The time for a complete response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// At most about this much of a response's body is read.
const MAX_BODY_BYTES: usize = 4 << 10;

/// Signs events and POSTs them to one URL.
#[derive(Debug)]
pub(super) struct Forwarder {
    client: Client,
    url: Url,
    secret: Secret,
}

/// The outcome of a POST. `Display` shows the status, and the body unless the status is a success.
#[derive(Debug)]
pub(super) struct PostResult {
    outcome: Result<(StatusCode, String), String>,
    took: Duration,
}

impl Forwarder {
    pub(super) fn new(url: Url, secret: Secret) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(super::USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A new connection for each POST: a kept one may turn out to be closed, and there is no retry.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .timeout(RESPONSE_TIMEOUT)
            .build()?;
        Ok(Self { client, url, secret })
    }

    /// Signs an event and POSTs it once, without retries. A failure is part of the result.
    pub(super) async fn post(&self, event: &Event) -> PostResult {
        let started = Instant::now();
        let outcome = self.exchange(event).await.map_err(|error| {
            if error.is_timeout() {
                format!("no complete response within {} s", RESPONSE_TIMEOUT.as_secs())
            } else {
                root_cause(&error).to_string()
            }
        });
        PostResult { outcome, took: started.elapsed() }
    }

    /// Returns the status and the beginning of the body. Fails if no complete response arrives.
    async fn exchange(&self, event: &Event) -> Result<(StatusCode, String), reqwest::Error> {
        let timestamp = UnixMillis::now().seconds();
        let signature = self.secret.sign(&event.id, timestamp, event.text.as_bytes());
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header("webhook-attempt", 1)
            .body(event.text.clone());
        let mut response = request.send().await?;
        let body = read_body(&mut response, MAX_BODY_BYTES).await?;
        Ok((response.status(), String::from_utf8_lossy(&body).into_owned()))
    }
}

impl fmt::Display for PostResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_millis();
        match &self.outcome {
            Ok((status, _)) if status.is_success() => write!(f, "{status} ({took} ms)"),
            Ok((status, body)) => write!(f, "{status} ({took} ms)  {}", SingleLine(body)),
            Err(why) => write!(f, "FAILED ({took} ms)  {}", SingleLine(why)),
        }
    }
}
