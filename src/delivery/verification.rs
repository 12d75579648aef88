//! Verifies a receiver with one HTTP exchange: sends the request of the subscription's method, and judges the response.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use subtle::ConstantTimeEq;

use super::webhook::{Deliverer, VerificationResponse, insert_header};
use crate::domain::delivery::outcome::{Outcome, Verdict};
use crate::domain::egress::origin::HubIdentity;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::{Channel, Webhook};
use crate::domain::subscription::verification::{
    Verification, VerificationMethod, VerificationOutcome, Verified, allowed_rate,
};
use crate::domain::time::UnixMillis;
use crate::egress::Request;

/// The hub's identity and key in verification requests.
#[derive(Debug, Clone)]
pub(crate) struct VerifierSettings {
    /// The name and address of the hub that receivers see.
    pub sender: HubIdentity,
    /// Signs the tokens with which a receiver can confirm later.
    pub token_key: Arc<[u8]>,
}

/// Verifies receivers through the client that also delivers.
#[derive(Debug, Clone)]
pub(crate) struct Verifier {
    deliverer: Deliverer,
    settings: VerifierSettings,
}

impl Verifier {
    pub(crate) fn new(deliverer: Deliverer, settings: VerifierSettings) -> Self {
        Self { deliverer, settings }
    }

    /// The egress rules and the timeout of deliveries apply.
    pub(crate) async fn verify(&self, subscription: &Subscription) -> VerificationOutcome {
        let id = subscription.id;
        let (webhook, verification) = match &subscription.definition.channel {
            Channel::Webhook(webhook @ Webhook { verification: Some(verification), .. }) => {
                (webhook, verification)
            }
            Channel::Webhook(_) | Channel::Pull { .. } => {
                return unverified("the subscription requires no verification any more");
            }
        };
        match verification.method {
            VerificationMethod::XHookSecret => self.x_hook_secret(id, webhook, verification).await,
            VerificationMethod::Challenge => self.challenge(id, webhook).await,
            VerificationMethod::CloudEvents => self.cloudevents(id, webhook, verification).await,
        }
    }

    /// Verifies a receiver by REST Hooks, "Intent verification": the hub sends a POST with a secret in `X-Hook-Secret`,
    /// and a 2xx response must return the same header.
    ///
    /// The receiver keeps the secret, and uses it to check the `X-Hook-Signature` of deliveries.
    async fn x_hook_secret(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        verification: &Verification,
    ) -> VerificationOutcome {
        let secret = verification.secret.reveal();
        let mut request = Request::new(Method::POST, webhook.url.url().clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        insert_header(&mut request.headers, "x-hook-secret", secret.clone());
        request.body = Some(Bytes::from_static(b"{}"));
        match self.deliverer.send_verification(id, webhook, request).await {
            Ok(response) => outcome(&response, || check_secret(&response, &secret)),
            Err(reason) => unverified(reason),
        }
    }

    /// Verifies a receiver by a challenge: sends a GET with a random text in the query, which the response body must
    /// repeat.
    ///
    /// The text is in `hub.challenge` with `hub.mode` (WebSub, section 5.3), and in `challenge`, after the query of the
    /// callback URL.
    async fn challenge(&self, id: SubscriptionId, webhook: &Webhook) -> VerificationOutcome {
        let challenge = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let added = format!("hub.mode=subscribe&hub.challenge={challenge}&challenge={challenge}");
        let mut target = webhook.url.url().clone();
        let query = match target.query() {
            None | Some("") => added,
            Some(own) => format!("{own}&{added}"),
        };
        target.set_query(Some(&query));
        let request = Request::new(Method::GET, target);
        match self.deliverer.send_verification(id, webhook, request).await {
            Ok(response) => outcome(&response, || check_challenge(&response, &challenge)),
            Err(reason) => unverified(reason),
        }
    }

    /// Verifies a receiver by CloudEvents HTTP 1.1 Web Hooks, section 4: sends an OPTIONS request, and the response
    /// headers must allow the hub's origin.
    async fn cloudevents(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        verification: &Verification,
    ) -> VerificationOutcome {
        let HubIdentity { origin, public_url } = &self.settings.sender;
        let Some(origin) = origin else {
            return unverified("this hub has no origin to name (set HOOKHUB_WEBHOOK_ORIGIN)");
        };
        let rate = webhook.settings.delivery.rate_limit_per_minute();
        let mut request = Request::new(Method::OPTIONS, webhook.url.url().clone());
        let headers = &mut request.headers;
        insert_header(headers, "webhook-request-origin", origin.as_str().to_owned());
        if let Some(rate) = rate {
            insert_header(headers, "webhook-request-rate", rate.to_string());
        }
        if let Some(public_url) = public_url {
            let token = verification.token(&self.settings.token_key, id, &webhook.url);
            let path = format!("/v1/subscriptions/{id}/verification?token={token}");
            insert_header(headers, "webhook-request-callback", public_url.at(&path));
        }
        match self.deliverer.send_verification(id, webhook, request).await {
            Ok(response) if response.status == 410 => VerificationOutcome::Gone,
            Ok(response) => match check_allowed(&response, origin.as_str(), rate) {
                Ok(verified) => VerificationOutcome::Verified(verified),
                Err(reason) => {
                    VerificationOutcome::Unverified { reason, at_least: at_least(&response) }
                }
            },
            Err(reason) => unverified(reason),
        }
    }
}

/// `reason` is a text for the subscription's owner.
fn unverified(reason: impl Into<String>) -> VerificationOutcome {
    VerificationOutcome::Unverified { reason: reason.into(), at_least: None }
}

/// A 2xx is verified if `check` returns `Ok`, a 410 is final, any other status is a failure.
fn outcome(
    response: &VerificationResponse,
    check: impl FnOnce() -> Result<(), String>,
) -> VerificationOutcome {
    match response.verdict() {
        Verdict::Delivered => match check() {
            Ok(()) => VerificationOutcome::Verified(Verified::unlimited(UnixMillis::now())),
            Err(reason) => unverified(reason),
        },
        Verdict::Gone => VerificationOutcome::Gone,
        Verdict::Retry { at_least } => {
            let reason = format!("the receiver answered {}", response.status);
            VerificationOutcome::Unverified { reason, at_least }
        }
    }
}

/// The delay that `Retry-After` requests. `None`: no delay, or a status other than 429 and 503.
fn at_least(response: &VerificationResponse) -> Option<Duration> {
    match response.verdict() {
        Verdict::Retry { at_least } => at_least,
        Verdict::Delivered | Verdict::Gone => None,
    }
}

impl VerificationResponse {
    /// By the same rules as for deliveries.
    fn verdict(&self) -> Verdict {
        Outcome::Answered { status: self.status, retry_after: self.retry_after }.verdict()
    }

    /// Trimmed. `None`: the header is missing or not ASCII.
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// The error is a text for the subscription's owner.
fn check_secret(response: &VerificationResponse, secret: &str) -> Result<(), String> {
    let Some(repeated) = response.header("x-hook-secret") else {
        return Err(format!(
            "the receiver answered {} without X-Hook-Secret; it may still confirm",
            response.status
        ));
    };
    if repeated.as_bytes().ct_eq(secret.as_bytes()).into() {
        Ok(())
    } else {
        Err("the X-Hook-Secret of the answer is not the one that was sent".into())
    }
}

/// White space around the challenge is ignored. The error is a text for the subscription's owner.
fn check_challenge(response: &VerificationResponse, challenge: &str) -> Result<(), String> {
    if response.body.trim_ascii().ct_eq(challenge.as_bytes()).into() {
        Ok(())
    } else {
        Err(format!("the receiver answered {}, but its body is not the challenge", response.status))
    }
}

/// The error is a text for the subscription's owner. `requested_rate`: in requests a minute; it applies if the response
/// states none. The status is not checked.
fn check_allowed(
    response: &VerificationResponse,
    origin: &str,
    requested_rate: Option<u32>,
) -> Result<Verified, String> {
    match response.header("webhook-allowed-origin") {
        None => {
            return Err(format!(
                "the receiver answered {} without WebHook-Allowed-Origin; it may still confirm",
                response.status
            ));
        }
        Some(allowed) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => {}
        Some(_) => return Err(format!("WebHook-Allowed-Origin is neither {origin} nor *")),
    }
    let stated_rate = response.header("webhook-allowed-rate");
    let rate_per_minute =
        allowed_rate(stated_rate, requested_rate).map_err(|error| error.to_string())?;
    Ok(Verified { at: UnixMillis::now(), origin: Some(origin.to_owned()), rate_per_minute })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn response(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> VerificationResponse {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        VerificationResponse {
            status,
            retry_after: Some(Duration::from_secs(7)),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn only_the_exact_x_hook_secret_verifies_the_receiver() {
        let judge = |headers: &[(&'static str, &'static str)]| {
            let response = response(200, headers, "whsec_abc");
            outcome(&response, || check_secret(&response, "whsec_abc"))
        };
        assert!(matches!(
            judge(&[("x-hook-secret", "whsec_abc")]),
            VerificationOutcome::Verified(_)
        ));
        for wrong in ["", "whsec_ab", "whsec_abcd", "WHSEC_ABC", "whsec_abd"] {
            assert!(
                matches!(
                    judge(&[("x-hook-secret", wrong)]),
                    VerificationOutcome::Unverified { .. }
                ),
                "{wrong}"
            );
        }
        let VerificationOutcome::Unverified { reason, .. } = judge(&[]) else {
            panic!("no secret was repeated")
        };
        assert!(reason.contains("may still confirm") && !reason.contains("whsec_"), "{reason}");
    }

    #[test]
    fn only_a_body_that_equals_the_challenge_verifies_the_receiver() {
        let judge = |status, body: &str| {
            let response = response(status, &[], body);
            outcome(&response, || check_challenge(&response, "abc"))
        };
        assert!(matches!(judge(200, "abc"), VerificationOutcome::Verified(_)));
        assert!(matches!(judge(204, " abc\r\n"), VerificationOutcome::Verified(_)));
        for body in ["", "ok", "abcd", "ab c", "{\"challenge\":\"abc\"}", "hub.challenge=abc"] {
            assert!(matches!(judge(200, body), VerificationOutcome::Unverified { .. }), "{body}");
        }
        for status in [302, 404, 500] {
            assert!(
                matches!(
                    judge(status, "abc"),
                    VerificationOutcome::Unverified { at_least: None, .. }
                ),
                "{status}"
            );
        }
        assert_eq!(judge(410, "abc"), VerificationOutcome::Gone);
        let requested = Some(Duration::from_secs(7));
        assert!(
            matches!(judge(429, ""), VerificationOutcome::Unverified { at_least, .. } if at_least == requested)
        );
    }

    #[test]
    fn the_allowed_origin_header_verifies_the_receiver_whatever_the_status() {
        let rate = |status, headers: &[(&'static str, &'static str)], requested| {
            check_allowed(&response(status, headers, ""), "hub.example", requested)
                .map(|verified| verified.rate_per_minute)
        };
        let named = ("webhook-allowed-origin", "Hub.Example");
        for status in [200, 204, 405, 500] {
            assert_eq!(rate(status, &[named], None), Ok(None));
            assert!(rate(status, &[], None).is_err());
        }
        assert_eq!(rate(200, &[("webhook-allowed-origin", "*")], Some(120)), Ok(Some(120)));
        assert_eq!(rate(200, &[named, ("webhook-allowed-rate", "*")], Some(120)), Ok(None));
        assert_eq!(rate(200, &[named, ("webhook-allowed-rate", "30")], Some(120)), Ok(Some(30)));
        for bad in ["0", "some", ""] {
            assert!(rate(200, &[named, ("webhook-allowed-rate", bad)], None).is_err(), "{bad}");
        }
        for other in ["example", "hub.example.com", "hub.example, x.example", ""] {
            assert!(rate(200, &[("webhook-allowed-origin", other)], None).is_err(), "{other}");
        }
    }
}
