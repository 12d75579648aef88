//! Sends one request to a receiver, with a deadline: a signed POST, whose response becomes an outcome, or a
//! verification request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::domain::delivery::outcome::{ErrorClass, Outcome};
use crate::domain::delivery::retry_after::retry_after;
use crate::domain::egress::policy::EgressPolicy;
use crate::domain::egress::receiver_auth::{ClientCredentials, ReceiverAuth};
use crate::domain::event::Event;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::{Channel, Webhook, WebhookSettings};
use crate::domain::time::UnixMillis;
use crate::egress::{
    BuildError, EgressClient, Failure, Request, Response, TokenCache, secret_header,
};

/// Of the response to a failed attempt, at most this much of the body is recorded.
const MAX_EXCERPT_BYTES: usize = 4 << 10;

/// The result of one POST.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) outcome: Outcome,
    /// For failures, JSON: an excerpt of the response, or the error.
    pub(crate) response: Option<String>,
}

/// A receiver's response to a verification request.
#[derive(Debug)]
pub(crate) struct VerificationResponse {
    pub(crate) status: u16,
    /// The wait that `Retry-After` asks for, from the time of the response.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) headers: HeaderMap,
    /// The body, up to the limit of [`Response::read_body`].
    pub(crate) body: Vec<u8>,
}

/// Sends a node's requests to receivers. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub(crate) struct Deliverer {
    client: Arc<EgressClient>,
    tokens: Arc<TokenCache>,
}

impl Deliverer {
    /// Fails if a client cannot be built.
    pub(crate) fn new(egress: EgressPolicy) -> Result<Self, BuildError> {
        Ok(Self { client: Arc::new(EgressClient::new(egress)?), tokens: Arc::default() })
    }

    /// `number` counts from 1; `now` is the time in the signature. Every failure is returned as an outcome. The
    /// subscription's timeout covers the whole exchange.
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
        let request = Request {
            method: Method::POST,
            url: webhook.url.url().clone(),
            headers: webhook_headers(subscription, webhook, event, number, now),
            body: Some(event.body.clone()),
        };
        let timeout = webhook.settings.delivery.timeout();
        match tokio::time::timeout(timeout, self.exchange(webhook, request)).await {
            Ok(Ok(exchange)) => exchange,
            Ok(Err(Failure { class, detail })) => Exchange::failed(class, &detail),
            Err(_elapsed) => Exchange::failed(ErrorClass::Timeout, &no_response_within(timeout)),
        }
    }

    /// Sends the owner's headers too, under the egress rules and timeout of deliveries. The error is a text for the
    /// subscription's owner.
    pub(crate) async fn send_verification(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        mut request: Request,
    ) -> Result<VerificationResponse, String> {
        let mut headers = owner_headers(&webhook.settings);
        headers.extend(std::mem::take(&mut request.headers));
        insert_header(&mut headers, "webhook-subscription", id.to_string());
        request.headers = headers;
        let timeout = webhook.settings.delivery.timeout();
        match tokio::time::timeout(timeout, self.send(webhook, request)).await {
            Ok(Ok((mut response, body))) => Ok(VerificationResponse {
                status: response.status().as_u16(),
                retry_after: retry_after_of(&response),
                headers: response.take_headers(),
                body,
            }),
            Ok(Err(Failure { class, detail })) => Err(format!("{}: {detail}", class.name())),
            Err(_elapsed) => {
                let class = ErrorClass::Timeout.name();
                Err(format!("{class}: {}", no_response_within(timeout)))
            }
        }
    }

    /// For a status other than 2xx, keeps an excerpt of the response. Fails if the response breaks off.
    async fn exchange(&self, webhook: &Webhook, request: Request) -> Result<Exchange, Failure> {
        let (response, body) = self.send(webhook, request).await?;
        let (status, retry_after) = (response.status(), retry_after_of(&response));
        let excerpt = (!status.is_success()).then(|| ResponseExcerpt::new(&response, &body));
        Ok(Exchange {
            outcome: Outcome::Answered { status: status.as_u16(), retry_after },
            response: excerpt.and_then(|excerpt| serde_json::to_string(&excerpt).ok()),
        })
    }

    /// Returns the response with its body. Adds an OAuth access token if configured.
    async fn send(
        &self,
        webhook: &Webhook,
        request: Request,
    ) -> Result<(Response, Vec<u8>), Failure> {
        let mut response = match &webhook.settings.auth {
            // Boxed, because this future is large and rare.
            Some(ReceiverAuth::ClientCredentials(credentials)) => {
                Box::pin(self.send_with_token(webhook, credentials, request)).await?
            }
            _ => self.client.send(&webhook.url, webhook.settings.tls.as_ref(), request).await?,
        };
        let body = response.read_body().await?;
        Ok((response, body))
    }

    /// If the receiver answers 401 to a cached token, which may be revoked, repeats the request once with a new one.
    async fn send_with_token(
        &self,
        webhook: &Webhook,
        credentials: &ClientCredentials,
        mut request: Request,
    ) -> Result<Response, Failure> {
        // No token is fetched for a receiver that the operator's rules forbid.
        self.client.check(&webhook.url).await?;
        let mut repeat = request.clone();
        let token = self.tokens.get(&self.client, credentials, None).await?;
        request.headers.insert(AUTHORIZATION, token.header.clone());
        let response =
            self.client.send(&webhook.url, webhook.settings.tls.as_ref(), request).await?;
        if !token.is_cached || response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let other = self.tokens.get(&self.client, credentials, Some(&token.header)).await?;
        repeat.headers.insert(AUTHORIZATION, other.header);
        self.client.send(&webhook.url, webhook.settings.tls.as_ref(), repeat).await
    }
}

fn no_response_within(timeout: Duration) -> String {
    format!("no complete answer within {} s", timeout.as_secs())
}

/// Includes `Authorization` from the owner's credentials, except an OAuth access token.
fn owner_headers(settings: &WebhookSettings) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(9 + settings.headers.len());
    for (name, value) in &settings.headers {
        // Invalid ones were refused when the owner set them.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let authorization = settings.auth.as_ref().and_then(ReceiverAuth::header);
    if let Some(Ok(value)) = authorization.map(|value| secret_header(&value)) {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

/// Marks the value as sensitive, so that logs omit it. Ignores an invalid `text`.
pub(crate) fn insert_header(headers: &mut HeaderMap, name: &'static str, text: String) {
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// `number` counts from 1; `now` is the time in the signature. The hub's headers replace the owner's.
fn webhook_headers(
    subscription: &Subscription,
    webhook: &Webhook,
    event: &Event,
    number: u16,
    now: UnixMillis,
) -> HeaderMap {
    let signing = &webhook.settings.signing;
    let mut headers = owner_headers(&webhook.settings);
    let id = event.position.to_string();
    let signature = signing.sign(&id, &event.body, now);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now.seconds()));
    headers.insert(HeaderName::from_static("webhook-attempt"), HeaderValue::from(number));
    insert_header(&mut headers, "webhook-id", id);
    insert_header(&mut headers, "webhook-signature", signature);
    insert_header(&mut headers, "webhook-subscription", subscription.id.to_string());
    if let Some(signature) = signing.sign_x_hook(webhook.x_hook_secret(), &event.body) {
        insert_header(&mut headers, "x-hook-signature", signature);
    }
    if let Some(origin) =
        subscription.definition.verified().and_then(|verified| verified.origin.clone())
    {
        insert_header(&mut headers, "webhook-request-origin", origin);
    }
    headers
}

/// The recorded part of a failure's response.
#[derive(Serialize)]
struct ResponseExcerpt<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<&'a str>,
}

impl<'a> ResponseExcerpt<'a> {
    /// Up to [`MAX_EXCERPT_BYTES`] of the body, and two headers.
    fn new(response: &'a Response, body: &[u8]) -> Self {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let excerpt = body.get(..MAX_EXCERPT_BYTES).unwrap_or(body);
        Self {
            body: (!excerpt.is_empty()).then(|| String::from_utf8_lossy(excerpt).into_owned()),
            content_type: header(CONTENT_TYPE),
            retry_after: header(RETRY_AFTER),
        }
    }
}

impl Exchange {
    /// `why` is an error text for the subscription's owner.
    pub(crate) fn failed(class: ErrorClass, why: &impl ToString) -> Self {
        let response = serde_json::json!({ "error": why.to_string() }).to_string();
        Self { outcome: Outcome::Failed(class), response: Some(response) }
    }
}

/// The wait from now on. `None`: the header is missing or invalid.
fn retry_after_of(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?;
    retry_after(value.to_str().ok()?, UnixMillis::now())
}
