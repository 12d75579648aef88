//! Access tokens for receivers (OAuth 2.0 client credentials; RFC 6749, section 4.4): fetched once for all deliveries
//! that need the same token, cached, and renewed before they expire.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use lru::LruCache;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::client::EgressClient;
use super::failure::Failure;
use super::message::{Request, secret_header};
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::receiver_auth::{ClientCredentials, bearer};

/// Time for a token endpoint to complete its response.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A token is renewed this long before it expires, or at half its lifetime if that is later.
const RENEWAL_MARGIN: Duration = Duration::from_secs(60);
/// Lifetime of a token whose response states none that the hub can read.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// A longer lifetime than this counts as this.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// More than most servers accept in a header.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Cached tokens of a node. The least recently used one is dropped first.
const MAX_CACHED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);

/// The tokens of a node, by the fingerprint of their credentials.
#[derive(Debug)]
pub(crate) struct TokenCache(Mutex<LruCache<[u8; 32], Arc<Slot>>>);

/// The token of some credentials. The lock is held during a fetch: other deliveries wait for it and share the result.
type Slot = tokio::sync::Mutex<SlotState>;

#[derive(Debug, Default)]
struct SlotState {
    token: Option<CachedToken>,
    last_failure: Option<(Instant, Failure)>,
}

#[derive(Debug, Clone)]
struct CachedToken {
    header: HeaderValue,
    renew_at: Instant,
    expires_at: Instant,
}

/// A token to send.
#[derive(Debug)]
pub(crate) struct AccessToken {
    /// The value of `authorization`.
    pub(crate) header: HeaderValue,
    /// A cached token may have been revoked since it was fetched.
    pub(crate) is_cached: bool,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_CACHED)))
    }
}

impl TokenCache {
    /// Returns a cached token, or fetches one if none is cached or the cached one is due for renewal. If the fetch
    /// fails, a cached token that has not expired is returned.
    ///
    /// `rejected`: a token that the receiver refused and that must not be returned. Fetches for the same credentials
    /// run one at a time, and the calls that wait for a fetch share its failure too.
    pub(crate) async fn get(
        &self,
        client: &EgressClient,
        credentials: &ClientCredentials,
        rejected: Option<&HeaderValue>,
    ) -> Result<AccessToken, Failure> {
        let called_at = Instant::now();
        let slot = self.slot(credentials.fingerprint());
        let mut state = slot.lock().await;
        let now = Instant::now();
        let cached = state
            .token
            .as_ref()
            .filter(|token| now < token.expires_at && Some(&token.header) != rejected);
        let is_due = cached.is_none_or(|token| now >= token.renew_at);
        let fallback =
            cached.map(|token| AccessToken { header: token.header.clone(), is_cached: true });
        let fallback = match fallback {
            Some(token) if !is_due => return Ok(token),
            fallback => fallback,
        };
        if let Some((_, failure)) = state.last_failure.as_ref().filter(|(at, _)| *at > called_at) {
            return fallback.ok_or_else(|| failure.clone());
        }
        match fetch(client, credentials).await {
            Ok(token) => {
                let header = token.header.clone();
                *state = SlotState { token: Some(token), last_failure: None };
                Ok(AccessToken { header, is_cached: false })
            }
            Err(failure) => {
                state.last_failure = Some((Instant::now(), failure.clone()));
                fallback.ok_or(failure)
            }
        }
    }

    fn slot(&self, fingerprint: [u8; 32]) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.get_or_insert(fingerprint, Arc::default))
    }
}

/// Requests a token. Fails if no valid one arrives within [`FETCH_TIMEOUT`].
async fn fetch(
    client: &EgressClient,
    credentials: &ClientCredentials,
) -> Result<CachedToken, Failure> {
    let url = &credentials.token_url;
    let mut request = Request::new(Method::POST, url.url().clone());
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers.insert(AUTHORIZATION, secret_header(&credentials.header())?);
    request.headers.insert(CONTENT_TYPE, form);
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.body = Some(credentials.form().into());
    let exchange = async {
        let mut response = client.send(url, None, request).await?;
        let body = response.read_body().await?;
        parse_response(response.status(), &body, Instant::now())
    };
    let late = format!("no complete answer within {} s", FETCH_TIMEOUT.as_secs());
    timeout(FETCH_TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_elapsed| Err(Failure::new(ErrorClass::Timeout, late)))
        .map_err(|failure| failure.of_server("token endpoint"))
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// Fails with [`ErrorClass::Protocol`] for a status other than 2xx or without a usable bearer token. `now`: the time of
/// the response, from which the lifetime counts.
fn parse_response(status: StatusCode, body: &[u8], now: Instant) -> Result<CachedToken, Failure> {
    let invalid = |why: String| Err(Failure::new(ErrorClass::Protocol, why));
    if !status.is_success() {
        return invalid(format!("answered {}{}", status.as_u16(), error_code_suffix(body)));
    }
    // The detail must not quote the response: it may contain a token.
    let Ok(response) = serde_json::from_slice::<TokenResponse>(body) else {
        return invalid("answered without an access_token in a JSON object".to_owned());
    };
    if !response.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return invalid("answered with a token whose token_type is not bearer".to_owned());
    }
    let fits = (1..=MAX_TOKEN_BYTES).contains(&response.access_token.len());
    if !fits || !response.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid("answered with a token that a header cannot carry".to_owned());
    }
    let lifetime = lifetime(response.expires_in.as_ref());
    let expires_at = now + lifetime;
    Ok(CachedToken {
        header: secret_header(&bearer(&response.access_token))?,
        renew_at: expires_at - RENEWAL_MARGIN.min(lifetime / 2),
        expires_at,
    })
}

/// At most [`MAX_LIFETIME`]. `expires_in`: seconds as a number or string, else [`DEFAULT_LIFETIME`].
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    let stated = seconds.map(|seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)));
    stated.map_or(DEFAULT_LIFETIME, |stated| stated.unwrap_or(MAX_LIFETIME)).min(MAX_LIFETIME)
}

/// The `error` code of an error response (RFC 6749, section 5.2) after a colon and a space, to append to a message.
/// Empty without a code of at most 64 letters, digits, `_`, `-` and `.`.
fn error_code_suffix(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ErrorResponse {
        error: String,
    }
    let is_code = |code: &str| {
        code.len() <= 64
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(ErrorResponse { error }) if is_code(&error) => format!(": {error}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds until renewal and until expiry.
    fn renewal_and_expiry(expires_in: &str) -> (u64, u64) {
        let now = Instant::now();
        let body = format!(r#"{{"access_token": "t", "token_type": "BEARER"{expires_in}}}"#);
        let token = parse_response(StatusCode::OK, body.as_bytes(), now).unwrap();
        ((token.renew_at - now).as_secs(), (token.expires_at - now).as_secs())
    }

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        assert_eq!(renewal_and_expiry(r#", "expires_in": 3600"#), (3_540, 3_600));
        assert_eq!(renewal_and_expiry(r#", "expires_in": "3600""#), (3_540, 3_600));
        assert_eq!(renewal_and_expiry(r#", "expires_in": 60"#), (30, 60));
        assert_eq!(renewal_and_expiry(""), (240, 300));
        assert_eq!(renewal_and_expiry(r#", "expires_in": null"#), (240, 300));
        assert_eq!(renewal_and_expiry(r#", "expires_in": "soon""#), (240, 300));
        assert_eq!(renewal_and_expiry(r#", "expires_in": 0"#), (0, 0));
        assert_eq!(renewal_and_expiry(r#", "expires_in": -5"#), (0, 0));
        for long in ["1e300", "99999999999"] {
            assert_eq!(
                renewal_and_expiry(&format!(r#", "expires_in": {long}"#)),
                (86_340, 86_400),
                "{long}"
            );
        }
    }

    #[test]
    fn an_invalid_token_response_is_explained_without_its_content() {
        for (status, body, expected) in [
            (
                401,
                r#"{"error": "invalid_client", "error_description": "planted"}"#,
                "answered 401: invalid_client",
            ),
            (400, r#"{"error": "planted secret"}"#, "answered 400"),
            (302, "", "answered 302"),
            (200, "planted", "without an access_token"),
            (200, r#"{"access_token": 1}"#, "without an access_token"),
            (200, r#"{"access_token": "planted", "token_type": "mac"}"#, "not bearer"),
            (200, r#"{"access_token": "planted\r\nx: y"}"#, "header cannot carry"),
            (200, r#"{"access_token": ""}"#, "header cannot carry"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = parse_response(status, body.as_bytes(), Instant::now()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::Protocol);
            assert!(failure.detail.contains(expected), "{failure:?}");
            assert!(!failure.detail.contains("planted"), "{failure:?}");
        }
    }
}
