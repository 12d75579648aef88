//! One POST to a receiver: signed, bounded in time and size, and only to addresses that are allowed.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::domain::delivery::outcome::{ErrorClass, Outcome};
use crate::domain::delivery::retry_after::retry_after;
use crate::domain::egress::proxy::Egress;
use crate::domain::egress::receiver_auth::{ClientCredentials, ReceiverAuth};
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::{Channel, Webhook, WebhookSettings};
use crate::domain::time::UnixMillis;
use crate::egress::client::{Outward, read};
use crate::egress::failure::Failure;
use crate::egress::oauth_tokens::{Tokens, secret};
use crate::egress::resolver::Lookup;

/// How much of an answer's body is kept, for failures.
const MOST_KEPT: usize = 4 << 10;

/// What came of a POST, and what is worth keeping of the answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// What it came to.
    pub(crate) outcome: Outcome,
    /// For failures: JSON of the answer's body and headers of use, or of what went wrong.
    pub(crate) response: Option<String>,
}

/// What a receiver answered to a request that is no delivery.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status code.
    pub(crate) status: u16,
    /// What `Retry-After` asked for, counted from the answer.
    pub(crate) retry_after: Option<Duration>,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// As much of the body as is read.
    pub(crate) body: Vec<u8>,
}

/// Makes the POSTs of a node.
#[derive(Debug, Clone)]
pub(crate) struct Deliverer {
    outward: Arc<Outward>,
    tokens: Arc<Tokens>,
}

impl Deliverer {
    /// One that keeps to the operator's rules for the way out.
    pub(crate) fn new(egress: Egress) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let outward = Arc::new(Outward::new(egress, Lookup::System)?);
        Ok(Self { outward, tokens: Arc::default() })
    }

    /// POSTs `event` to its subscriber, as attempt `number`, signed at `now`.
    pub(crate) async fn post(
        &self,
        subscription: &Subscription,
        event: &Event,
        number: u16,
        now: UnixMillis,
    ) -> Exchange {
        let webhook = match &subscription.definition.channel {
            Channel::Webhook(webhook) => webhook,
            Channel::Pull { .. } => {
                return Exchange::failed(
                    ErrorClass::Blocked,
                    &"the subscription has no callback URL any more",
                );
            }
        };
        let mut request = Request::new(Method::POST, webhook.url.url().clone());
        *request.headers_mut() = headers(subscription, webhook, event, number, now);
        *request.body_mut() = Some(event.body.clone().into());
        let timeout = webhook.settings.delivery.timeout();
        match tokio::time::timeout(timeout, self.exchange(webhook, request)).await {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(Failure { class, detail })) => Exchange::failed(class, &detail),
            Err(_elapsed) => Exchange::failed(ErrorClass::Timeout, &no_response_within(timeout)),
        }
    }

    /// Sends a subscription's receiver a request that is no delivery, with the owner's headers besides its own, under the
    /// same rules; or says why there was no answer.
    pub(crate) async fn ask(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        mut request: Request,
    ) -> Result<Answer, String> {
        let mut headers = owners_headers(&webhook.settings);
        headers.extend(std::mem::take(request.headers_mut()));
        insert(&mut headers, "webhook-subscription", id.to_string());
        *request.headers_mut() = headers;
        let timeout = webhook.settings.delivery.timeout();
        match tokio::time::timeout(timeout, self.answer(webhook, request)).await {
            Ok(Ok((response, body))) => Ok(Answer {
                status: response.status().as_u16(),
                retry_after: asked_wait(&response),
                headers: response.headers().clone(),
                body,
            }),
            Ok(Err(Failure { class, detail })) => Err(format!("{}: {detail}", class.name())),
            Err(_elapsed) => {
                let class = ErrorClass::Timeout.name();
                Err(format!("{class}: {}", no_response_within(timeout)))
            }
        }
    }

    async fn exchange(&self, webhook: &Webhook, request: Request) -> Result<Exchange, Failure> {
        let (response, body) = self.answer(webhook, request).await?;
        let (status, retry_after) = (response.status(), asked_wait(&response));
        let kept = (!status.is_success()).then(|| Kept::of(&response, &body));
        let outcome = Outcome::Answered { status: status.as_u16(), retry_after };
        Ok(Exchange { outcome, response: kept.and_then(|kept| serde_json::to_string(&kept).ok()) })
    }

    async fn answer(
        &self,
        webhook: &Webhook,
        request: Request,
    ) -> Result<(Response, Vec<u8>), Failure> {
        let mut response = match &webhook.settings.auth {
            // Rare, and large: the others need not make room for it.
            Some(ReceiverAuth::ClientCredentials(credentials)) => {
                Box::pin(self.send_with_token(webhook, credentials, request)).await?
            }
            _ => self.outward.send(&webhook.url, webhook.settings.tls.as_ref(), request).await?,
        };
        let body = read(&mut response).await?;
        Ok((response, body))
    }

    /// Sends a request with a token, and once more with another when it was one that had been kept and the answer is
    /// 401: it may have been revoked.
    async fn send_with_token(
        &self,
        webhook: &Webhook,
        credentials: &ClientCredentials,
        mut request: Request,
    ) -> Result<Response, Failure> {
        // For a receiver that may not be called no token is fetched.
        self.outward.check(&webhook.url).await?;
        let again = request.try_clone();
        let token = self.tokens.get(&self.outward, credentials, None).await?;
        request.headers_mut().insert(AUTHORIZATION, token.header.clone());
        let response =
            self.outward.send(&webhook.url, webhook.settings.tls.as_ref(), request).await?;
        match again {
            Some(mut again) if token.was_kept && response.status() == StatusCode::UNAUTHORIZED => {
                let other = self.tokens.get(&self.outward, credentials, Some(&token.header));
                again.headers_mut().insert(AUTHORIZATION, other.await?.header);
                self.outward.send(&webhook.url, webhook.settings.tls.as_ref(), again).await
            }
            _ => Ok(response),
        }
    }
}

/// The headers that its owner sets, and the owner's credentials.
fn owners_headers(settings: &WebhookSettings) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(9 + settings.headers.len());
    for (name, value) in &settings.headers {
        // Checked when they were set.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let authorization = settings.auth.as_ref().and_then(ReceiverAuth::header);
    // Checked when it was set, too.
    if let Some(Ok(value)) = authorization.map(|value| secret(&value)) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// Puts a header in its place; what it says may be a secret.
pub(crate) fn insert(headers: &mut HeaderMap, name: &'static str, text: String) {
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn headers(
    subscription: &Subscription,
    webhook: &Webhook,
    event: &Event,
    number: u16,
    now: UnixMillis,
) -> HeaderMap {
    let signing = &webhook.settings.signing;
    let mut headers = owners_headers(&webhook.settings);
    let id = event.position.to_string();
    let signature = signing.sign(&id, &event.body, now);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.seconds()));
    headers.insert(HeaderName::from_static("webhook-attempt"), HeaderValue::from(number));
    insert(&mut headers, "webhook-id", id);
    insert(&mut headers, "webhook-signature", signature);
    insert(&mut headers, "webhook-subscription", subscription.id.to_string());
    if let Some(signature) = signing.sign_x_hook(webhook.x_hook_secret(), &event.body) {
        insert(&mut headers, "x-hook-signature", signature);
    }
    if let Some(origin) =
        subscription.definition.verified().and_then(|verified| verified.origin.clone())
    {
        insert(&mut headers, "webhook-request-origin", origin);
    }
    headers
}

/// What is kept of a refusal.
#[derive(Serialize)]
struct Kept<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<&'a str>,
}

impl<'a> Kept<'a> {
    fn of(response: &'a Response, body: &[u8]) -> Self {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let excerpt = body.get(..MOST_KEPT).unwrap_or(body);
        Self {
            body: (!excerpt.is_empty()).then(|| String::from_utf8_lossy(excerpt).into_owned()),
            content_type: header(CONTENT_TYPE),
            retry_after: header(RETRY_AFTER),
        }
    }
}

impl Exchange {
    /// One that brought no answer, and why.
    pub(crate) fn failed(class: ErrorClass, why: &impl ToString) -> Self {
        let response = serde_json::json!({ "error": why.to_string() }).to_string();
        Self { outcome: Outcome::Failed(class), response: Some(response) }
    }
}

fn no_response_within(timeout: Duration) -> String {
    format!("no complete answer within {} s", timeout.as_secs())
}

/// The wait that an answer asks for.
fn asked_wait(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?;
    retry_after(value.to_str().ok()?, UnixMillis::now())
}
