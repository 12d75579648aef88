//! One POST to a receiver: signed, bounded in time and size, and only to addresses that are allowed.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request, Response};
use serde::Serialize;

use super::connecting::{NoteConnecting, noting};
use crate::values::cause;
use crate::values::event::Event;
use crate::values::outcome::{ErrorClass, Outcome};
use crate::values::retry_after::retry_after;
use crate::values::subscription::Subscription;
use crate::values::target::{AllowedTargets, Blocked};
use crate::values::time::UnixMillis;

/// How long a connection may take to be made, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How much of an answer's body is read; a receiver that sends more is judged by its status and cut off.
const MOST_READ: usize = 64 << 10;
/// How much of it is kept, for failures.
const MOST_KEPT: usize = 4 << 10;
/// Idle connections kept for each host, and how long. As many as may run at once to the subscriptions of one host, or
/// they are made anew all the time; for less long than the usual receiver keeps its side.
const IDLE: (usize, Duration) = (512, Duration::from_secs(4));

/// What came of a POST, and what is worth keeping of the answer.
#[derive(Debug)]
pub(super) struct Exchange {
    /// What it came to.
    pub(super) outcome: Outcome,
    /// For failures: JSON of the answer's body and headers of use, or of what went wrong.
    pub(super) response: Option<String>,
}

/// Makes the POSTs of a node.
#[derive(Debug, Clone)]
pub(super) struct Deliverer {
    client: Client,
    /// For when a kept connection turned out to be closed.
    unpooled: Client,
    allowed: Arc<AllowedTargets>,
}

impl Deliverer {
    /// A client that connects only to addresses that `allowed` lets it.
    pub(super) fn new(allowed: AllowedTargets) -> Result<Self, reqwest::Error> {
        let allowed = Arc::new(allowed);
        let builder = || {
            Client::builder()
                .user_agent(concat!("hookhub/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(GuardedResolver { allowed: Arc::clone(&allowed) }))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_DEADLINE)
                .tcp_nodelay(true)
        };
        let pooled = builder().pool_max_idle_per_host(IDLE.0).pool_idle_timeout(IDLE.1);
        Ok(Self {
            client: pooled.connector_layer(NoteConnecting).build()?,
            unpooled: builder().pool_max_idle_per_host(0).build()?,
            allowed,
        })
    }

    /// POSTs `event` to its subscriber, as attempt `number`, signed at `now`.
    pub(super) async fn post(
        &self,
        subscription: &Subscription,
        event: &Event,
        number: u16,
        now: UnixMillis,
    ) -> Exchange {
        let definition = &subscription.definition;
        let Some(url) = &definition.callback_url else {
            return Exchange::failed(ErrorClass::Blocked, &"there is no callback URL any more");
        };
        // An address in the URL itself never gets to the resolver.
        if let Some(blocked) =
            url.literal_address().and_then(|address| self.allowed.check(address).err())
        {
            return Exchange::failed(ErrorClass::Blocked, &blocked);
        }
        let mut request = Request::new(Method::POST, url.url().clone());
        *request.headers_mut() = headers(subscription, event, number, now);
        *request.body_mut() = Some(event.body.clone().into());
        match tokio::time::timeout(definition.timeout(), self.exchange(request)).await {
            Ok(exchange) => exchange,
            Err(_elapsed) => Exchange::failed(
                ErrorClass::Timeout,
                &format!("no complete answer within {} s", definition.timeout_s),
            ),
        }
    }

    async fn exchange(&self, request: Request) -> Exchange {
        let mut response = match self.send(request).await {
            Ok(response) => response,
            Err(error) => return Exchange::failed(class_of(&error), &root_of(&error)),
        };
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?, UnixMillis::now()));
        let body = match read(&mut response).await {
            Ok(body) => body,
            Err(error) => return Exchange::failed(class_of(&error), &root_of(&error)),
        };
        let kept = (!status.is_success()).then(|| Kept::of(&response, &body));
        let outcome = Outcome::Answered { status: status.as_u16(), retry_after };
        Exchange { outcome, response: kept.and_then(|kept| serde_json::to_string(&kept).ok()) }
    }

    /// Sends a request, and once more on a new connection when it went out on a kept one that broke before any
    /// answer: receivers close idle connections whenever they like, and that is no failure of theirs (RFC 9112, 9.3.1).
    async fn send(&self, request: Request) -> Result<Response, reqwest::Error> {
        let again = request.try_clone();
        let (sent, connecting) = noting(self.client.execute(request)).await;
        match (sent, again) {
            (Err(error), Some(again))
                if !connecting && class_of(&error) == ErrorClass::Protocol =>
            {
                self.unpooled.execute(again).await
            }
            (sent, _) => sent,
        }
    }
}

fn headers(subscription: &Subscription, event: &Event, number: u16, now: UnixMillis) -> HeaderMap {
    let definition = &subscription.definition;
    let mut headers = HeaderMap::with_capacity(8 + definition.headers.len());
    for (name, value) in &definition.headers {
        // Checked when they were set.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let id = event.position.to_string();
    let timestamp = now.seconds();
    let signature = definition.secret.sign(&id, timestamp, &event.body);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(timestamp));
    headers.insert(HeaderName::from_static("webhook-attempt"), HeaderValue::from(number));
    let texts = [
        ("webhook-id", id),
        ("webhook-signature", signature),
        ("webhook-subscription", subscription.id.to_string()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// Reads the body as far as [`MOST_READ`]. What is left unread costs the connection, not the delivery.
async fn read(response: &mut Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < MOST_READ {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
    pub(super) fn failed(class: ErrorClass, why: &impl ToString) -> Self {
        let response = serde_json::json!({ "error": why.to_string() }).to_string();
        Self { outcome: Outcome::Failed(class), response: Some(response) }
    }
}

/// What went wrong, found along the chain of causes.
fn class_of(error: &reqwest::Error) -> ErrorClass {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if one.is::<Blocked>() {
            return ErrorClass::Blocked;
        }
        if one.is::<NoAddress>() {
            return ErrorClass::Dns;
        }
        if one.is::<rustls::Error>() || wraps::<rustls::Error>(one) {
            return ErrorClass::Tls;
        }
        cause = one.source();
    }
    match error {
        timeout if timeout.is_timeout() => ErrorClass::Timeout,
        connect if connect.is_connect() => ErrorClass::Connect,
        _ => ErrorClass::Protocol,
    }
}

/// Whether an I/O error carries a `T`, which its `source` does not show.
fn wraps<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => inner.is::<T>() || wraps::<T>(inner),
        None => false,
    }
}

/// The last cause of an error: what happened, without the URL, which may be a secret.
fn root_of(error: &reqwest::Error) -> String {
    let root = cause::root_of(error);
    match root.downcast_ref::<reqwest::Error>() {
        Some(_) => "the exchange failed".to_owned(),
        None => root.to_string(),
    }
}

/// A host name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address: {0}")]
struct NoAddress(String);

/// Looks names up anew for each connection, and lets only allowed addresses through: what was checked is what is
/// connected to.
struct GuardedResolver {
    allowed: Arc<AllowedTargets>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|error| NoAddress(error.to_string()))?.collect();
            let mut blocked = None;
            let mut open = Vec::new();
            for address in found {
                match allowed.check(address.ip()) {
                    Ok(()) => open.push(address),
                    Err(refusal) => blocked = Some(refusal),
                }
            }
            match (open.is_empty(), blocked) {
                (false, _) => {
                    let open: Addrs = Box::new(open.into_iter());
                    Ok(open)
                }
                (true, Some(refusal)) => Err(refusal.into()),
                (true, None) => Err(NoAddress("the look-up found none".into()).into()),
            }
        })
    }
}
