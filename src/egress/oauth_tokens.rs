//! Tokens for receivers (OAuth 2.0 client credentials; RFC 6749, 4.4): fetched once for all who wait, kept, and
//! fetched anew before they end.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::client::{Outward, read};
use super::failure::Failure;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::receiver_auth::{ClientCredentials, bearer};

/// How long a token endpoint may take over its whole answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long before its end a token is fetched anew; of a short-lived one no more than half its life.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token is kept whose end is not told, and how long at most.
const LIFE: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(24 * 3_600));
/// The longest token, in bytes: more than most servers take in a header.
const LONGEST: usize = 8 << 10;
/// How many are kept; the one unused longest goes first.
const MOST_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1_023);

/// The tokens of a node.
#[derive(Debug)]
pub(crate) struct Tokens(Mutex<LruCache<[u8; 32], Arc<Slot>>>);

/// Whoever fetches holds it, and the others wait for what comes of that.
type Slot = tokio::sync::Mutex<Kept>;

#[derive(Debug, Default)]
struct Kept {
    token: Option<Token>,
    failed: Option<(Instant, Failure)>,
}

#[derive(Debug, Clone)]
struct Token {
    header: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

/// A token to be sent.
#[derive(Debug)]
pub(crate) struct Given {
    /// The value of `authorization`.
    pub(crate) header: HeaderValue,
    /// Whether it has been there for a while, and may have been revoked since.
    pub(crate) was_kept: bool,
}

impl Default for Tokens {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST_KEPT)))
    }
}

impl Tokens {
    /// A token for these credentials, not the one that was `refused`. There is one fetch at a time for the same
    /// credentials; whoever waited for it shares what came of it.
    pub(crate) async fn get(
        &self,
        outward: &Outward,
        credentials: &ClientCredentials,
        refused: Option<&HeaderValue>,
    ) -> Result<Given, Failure> {
        let asked = Instant::now();
        let slot = self.slot(credentials.fingerprint());
        let mut kept = slot.lock().await;
        let now = Instant::now();
        let usable = kept.token.clone().filter(|token| Some(&token.header) != refused);
        let is_good = usable.as_ref().is_some_and(|token| now < token.renew_at);
        let fallback = usable
            .filter(|token| now < token.ends_at)
            .map(|token| Given { header: token.header, was_kept: true });
        if let (true, Some(given)) = (is_good, fallback.as_ref()) {
            return Ok(Given { header: given.header.clone(), was_kept: true });
        }
        if let Some((_, failure)) = kept.failed.as_ref().filter(|(when, _)| *when > asked) {
            return fallback.ok_or_else(|| failure.clone());
        }
        match fetch(outward, credentials).await {
            Ok(token) => {
                let header = token.header.clone();
                *kept = Kept { token: Some(token), failed: None };
                Ok(Given { header, was_kept: false })
            }
            Err(failure) => {
                kept.failed = Some((Instant::now(), failure.clone()));
                fallback.ok_or(failure)
            }
        }
    }

    fn slot(&self, fingerprint: [u8; 32]) -> Arc<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.get_or_insert(fingerprint, Arc::default))
    }
}

async fn fetch(outward: &Outward, credentials: &ClientCredentials) -> Result<Token, Failure> {
    let url = &credentials.token_url;
    let mut request = Request::new(Method::POST, url.url().clone());
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, secret(&credentials.header())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(credentials.form().into());
    let exchange = async {
        let mut response = outward.send(url, None, request).await?;
        let body = read(&mut response).await?;
        token_of(response.status(), &body, Instant::now())
    };
    let within = format!("no complete answer within {} s", DEADLINE.as_secs());
    let fetched = timeout(DEADLINE, exchange).await;
    fetched
        .unwrap_or_else(|_elapsed| Err(Failure::new(ErrorClass::Timeout, within)))
        .map_err(|failure| failure.at("token endpoint"))
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

fn token_of(status: StatusCode, body: &[u8], now: Instant) -> Result<Token, Failure> {
    let no_token = |why: String| Err(Failure::new(ErrorClass::Protocol, why));
    if !status.is_success() {
        return no_token(format!("answered {}{}", status.as_u16(), error_code(body)));
    }
    // What the answer says is not repeated: there may be a token in it.
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return no_token("answered without an access_token in a JSON object".to_owned());
    };
    if !answer.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return no_token("answered with a token that is no bearer token".to_owned());
    }
    let fits = (1..=LONGEST).contains(&answer.access_token.len());
    if !fits || !answer.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return no_token("answered with a token that fits in no header".to_owned());
    }
    let life = life_of(answer.expires_in.as_ref());
    let ends_at = now + life;
    Ok(Token {
        header: secret(&bearer(&answer.access_token))?,
        renew_at: ends_at - MARGIN.min(life / 2),
        ends_at,
    })
}

/// Seconds; some write them as a string.
fn life_of(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    let told = seconds.map(|seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)));
    told.map_or(LIFE.0, |told| told.unwrap_or(LIFE.1)).min(LIFE.1)
}

/// The code of a refusal (RFC 6749, 5.2), which is for people to read.
fn error_code(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let is_code = |code: &str| {
        code.len() <= 64
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error }) if is_code(&error) => format!(": {error}"),
        _ => String::new(),
    }
}

/// A header that no log shows.
pub(crate) fn secret(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_bad| Failure::new(ErrorClass::Protocol, "these credentials fit in no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(expires_in: &str) -> (u64, u64) {
        let now = Instant::now();
        let body = format!(r#"{{"access_token": "t", "token_type": "BEARER"{expires_in}}}"#);
        let token = token_of(StatusCode::OK, body.as_bytes(), now).unwrap();
        ((token.renew_at - now).as_secs(), (token.ends_at - now).as_secs())
    }

    #[test]
    fn a_token_is_fetched_anew_a_while_before_its_end() {
        assert_eq!(life(r#", "expires_in": 3600"#), (3_540, 3_600));
        assert_eq!(life(r#", "expires_in": "3600""#), (3_540, 3_600));
        assert_eq!(life(r#", "expires_in": 60"#), (30, 60));
        assert_eq!(life(""), (240, 300));
        assert_eq!(life(r#", "expires_in": null"#), (240, 300));
        assert_eq!(life(r#", "expires_in": "soon""#), (240, 300));
        assert_eq!(life(r#", "expires_in": 0"#), (0, 0));
        assert_eq!(life(r#", "expires_in": -5"#), (0, 0));
        for long in ["1e300", "99999999999"] {
            assert_eq!(life(&format!(r#", "expires_in": {long}"#)), (86_340, 86_400), "{long}");
        }
    }

    #[test]
    fn what_is_no_token_says_why_without_saying_what() {
        for (status, body, told) in [
            (
                401,
                r#"{"error": "invalid_client", "error_description": "planted"}"#,
                "answered 401: invalid_client",
            ),
            (400, r#"{"error": "planted secret"}"#, "answered 400"),
            (302, "", "answered 302"),
            (200, "planted", "without an access_token"),
            (200, r#"{"access_token": 1}"#, "without an access_token"),
            (200, r#"{"access_token": "planted", "token_type": "mac"}"#, "no bearer token"),
            (200, r#"{"access_token": "planted\r\nx: y"}"#, "fits in no header"),
            (200, r#"{"access_token": ""}"#, "fits in no header"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let failure = token_of(status, body.as_bytes(), Instant::now()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::Protocol);
            assert!(failure.detail.contains(told), "{failure:?}");
            assert!(!failure.detail.contains("planted"), "{failure:?}");
        }
    }
}
